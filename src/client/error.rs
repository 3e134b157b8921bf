//! What went wrong with a request: one sentence, its cause and what the user can do. Texts from servers are
//! made printable here, so that no consumer can forget it.

use std::fmt;

use serde_json::Value;

/// One detail of a refused object (`Status.details.causes[]`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// Field path such as `spec.cpu.cores`; empty if the server names none.
    pub field: String,
    /// Machine word such as `FieldValueInvalid`.
    pub reason: String,
    /// Words for the user.
    pub message: String,
}

/// What a consumer may want to tell apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ErrorKind {
    /// No such object, or no such path.
    NotFound,
    /// An object of this name exists.
    AlreadyExists,
    /// The object changed since it was read, or another manager owns a field.
    Conflict {
        /// Fields in conflict, if the server names them.
        causes: Vec<Cause>,
    },
    /// The object was refused.
    Invalid {
        /// One entry for each field.
        causes: Vec<Cause>,
    },
    /// Not allowed.
    Forbidden,
    /// Not logged in.
    Unauthorized,
    /// The request makes no sense to the server (a 4xx without its own kind here).
    BadRequest,
    /// The version asked for is no longer kept: list again.
    Expired,
    /// The server is there but could not do it (5xx, 429).
    Server,
    /// No answer: no connection, or it broke.
    Unreachable,
    /// The answer makes no sense to us.
    Protocol,
}

/// A failed request.
#[derive(Debug, Clone, thiserror::Error)]
pub struct ClientError {
    kind: ErrorKind,
    code: u16,
    text: String,
    hint: Option<String>,
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        if let Some(hint) = &self.hint {
            write!(f, "\n{hint}")?;
        }
        Ok(())
    }
}

impl ClientError {
    /// An error of our own making.
    pub fn new(kind: ErrorKind, text: impl Into<String>) -> Self {
        Self { kind, code: 0, text: text.into(), hint: None }
    }

    /// Adds what the user can do.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Which kind of failure.
    pub fn kind(&self) -> &ErrorKind {
        &self.kind
    }

    /// HTTP status; 0 when there was no answer.
    pub fn code(&self) -> u16 {
        self.code
    }

    /// What happened, in one or a few sentences; printable.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What the user can do, if it is known.
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// [`ErrorKind::NotFound`].
    pub fn is_not_found(&self) -> bool {
        self.kind == ErrorKind::NotFound
    }

    /// [`ErrorKind::Conflict`].
    pub fn is_conflict(&self) -> bool {
        matches!(self.kind, ErrorKind::Conflict { .. })
    }

    /// Trying the same again later may help.
    pub fn is_transient(&self) -> bool {
        matches!(self.kind, ErrorKind::Unreachable | ErrorKind::Server | ErrorKind::Protocol)
    }

    /// From a body of an error answer: a `Status` object, or whatever a proxy says.
    pub fn from_answer(code: u16, body: &[u8]) -> Self {
        let status: Option<Value> = serde_json::from_slice(body).ok().filter(|v: &Value| v["kind"] == "Status");
        match status {
            Some(status) => Self::from_status(code, &status),
            None => {
                let text = String::from_utf8_lossy(body);
                let text = printable(text.trim());
                let shown: String = text.chars().take(300).collect();
                let text = if shown.is_empty() {
                    format!("the server answered HTTP {code}")
                } else {
                    format!("the server answered HTTP {code}: {shown}")
                };
                Self { kind: kind_of(code, "", Vec::new()), code, text, hint: hint_of(code, "") }
            }
        }
    }

    /// From a `Status` object; `code` counts when the object has none.
    pub fn from_status(code: u16, status: &Value) -> Self {
        let code = status["code"].as_u64().and_then(|c| u16::try_from(c).ok()).filter(|c| *c != 0).unwrap_or(code);
        let reason = status["reason"].as_str().unwrap_or_default();
        let causes: Vec<Cause> = status["details"]["causes"]
            .as_array()
            .map(|list| {
                list.iter()
                    .map(|c| Cause {
                        field: printable(c["field"].as_str().unwrap_or_default()),
                        reason: printable(c["reason"].as_str().unwrap_or_default()),
                        message: printable(c["message"].as_str().unwrap_or_default()),
                    })
                    .collect()
            })
            .unwrap_or_default();
        let message = status["message"].as_str().unwrap_or_default();
        let text = if message.is_empty() {
            format!("the server answered {code} {}", printable(reason))
        } else {
            printable_lines(message)
        };
        Self { kind: kind_of(code, reason, causes), code, text, hint: hint_of(code, reason) }
    }
}

impl From<kube::Error> for ClientError {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => {
                let value = serde_json::to_value(&*status).unwrap_or_default();
                Self::from_status(status.code, &value)
            }
            kube::Error::SerdeError(e) => Self::new(ErrorKind::Protocol, format!("the answer is not valid JSON: {e}")),
            other => Self::new(ErrorKind::Unreachable, printable(&chain(&other))),
        }
    }
}

/// The innermost cause says most (`connection refused`); the outer layers only name crates.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut texts: Vec<String> = Vec::new();
    let mut current = Some(error);
    while let Some(e) = current {
        let text = e.to_string();
        if texts.last().is_none_or(|last| *last != text) {
            texts.push(text);
        }
        current = e.source();
    }
    let mut useful: Vec<String> = Vec::new();
    for text in texts.iter().rev() {
        let noise = ["ServiceError: ", "HyperError: ", "client error (Connect)", "client error (SendRequest)"];
        let text = noise.iter().fold(text.clone(), |t, n| t.replace(n, ""));
        if !text.is_empty() && !useful.iter().any(|u| text.contains(u.as_str()) || u.contains(&text)) {
            useful.push(text);
        }
    }
    useful.reverse();
    if useful.is_empty() { error.to_string() } else { useful.join(": ") }
}

fn kind_of(code: u16, reason: &str, causes: Vec<Cause>) -> ErrorKind {
    match (code, reason) {
        (_, "AlreadyExists") => ErrorKind::AlreadyExists,
        (409, _) => ErrorKind::Conflict { causes },
        (404, _) => ErrorKind::NotFound,
        (422, _) => ErrorKind::Invalid { causes },
        (403, _) => ErrorKind::Forbidden,
        (401, _) => ErrorKind::Unauthorized,
        (410, _) => ErrorKind::Expired,
        (429, _) | (500.., _) => ErrorKind::Server,
        _ => ErrorKind::BadRequest,
    }
}

fn hint_of(code: u16, reason: &str) -> Option<String> {
    let hint = match (code, reason) {
        (401, _) => "Log in again: the credentials in the kubeconfig are missing, wrong or expired.",
        (409, "Conflict") => "Read it again and repeat the change.",
        (429, _) => "The server is busy; try again in a moment.",
        _ => return None,
    };
    Some(hint.to_owned())
}

/// One line, without control characters.
pub(crate) fn printable(text: &str) -> String {
    crate::types::text::printable(text).into_owned()
}

/// Newlines stay, so that messages of several lines stay readable.
pub(crate) fn printable_lines(text: &str) -> String {
    crate::types::text::printable_block(text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn status_keeps_causes() {
        let body = json!({"kind": "Status", "code": 422, "reason": "Invalid", "message": "vm \"a\" is invalid",
            "details": {"causes": [{"field": "spec.cpu.cores", "reason": "FieldValueInvalid", "message": "must be > 0"}]}});
        let e = ClientError::from_answer(422, body.to_string().as_bytes());
        let ErrorKind::Invalid { causes } = e.kind() else { panic!("{e:?}") };
        assert_eq!(causes[0].field, "spec.cpu.cores");
        assert_eq!(e.code(), 422);
    }

    #[test]
    fn kinds_by_code_and_reason() {
        for (code, reason, want) in [
            (404, "NotFound", ErrorKind::NotFound),
            (409, "AlreadyExists", ErrorKind::AlreadyExists),
            (409, "Conflict", ErrorKind::Conflict { causes: vec![] }),
            (410, "Expired", ErrorKind::Expired),
            (503, "ServiceUnavailable", ErrorKind::Server),
            (415, "UnsupportedMediaType", ErrorKind::BadRequest),
        ] {
            let body = json!({"kind": "Status", "code": code, "reason": reason, "message": "m"}).to_string();
            assert_eq!(*ClientError::from_answer(code, body.as_bytes()).kind(), want, "{code} {reason}");
        }
    }

    #[test]
    fn server_text_cannot_carry_control_characters() {
        let body = json!({"kind": "Status", "code": 400, "message": "evil\u{1b}]0;x\u{7}"}).to_string();
        assert!(!ClientError::from_answer(400, body.as_bytes()).to_string().contains('\u{1b}'));
        assert!(!ClientError::from_answer(502, b"<html>\x1b[2J").to_string().contains('\u{1b}'));
    }
}
