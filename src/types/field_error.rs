//! One thing wrong with one field, in the wording of the Kubernetes API.

use std::fmt;

use serde_json::{Value, json};

/// Longest text of a value repeated in a message; longer ones are cut.
const SHOWN: usize = 160;

/// What class of mistake it is; the `reason` of a Status cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The value is not allowed.
    Invalid,
    /// A value is missing.
    Required,
    /// The value is not one of the listed ones.
    NotSupported,
    /// The field may not be set, or not changed.
    Forbidden,
    /// The value has the wrong type.
    TypeInvalid,
    /// The text is too long.
    TooLong,
    /// The list is too long.
    TooMany,
    /// The value occurs twice.
    Duplicate,
}

impl Reason {
    /// As in `details.causes[].reason`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Invalid => "FieldValueInvalid",
            Self::Required => "FieldValueRequired",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Forbidden => "FieldValueForbidden",
            Self::TypeInvalid => "FieldValueTypeInvalid",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::Duplicate => "FieldValueDuplicate",
        }
    }
}

/// One thing wrong with one field. Displays as `spec.cpu.cores: Invalid value: 0: ...`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// Dotted path, list positions in brackets: `spec.blockDeviceRefs[1].name`.
    pub path: String,
    /// Class of mistake.
    pub reason: Reason,
    /// What is wrong and what to do, beginning with the class (`Invalid value: ...`), without the path.
    pub message: String,
}

impl FieldError {
    fn new(path: impl Into<String>, reason: Reason, message: String) -> Self {
        Self { path: path.into(), reason, message }
    }

    /// The value is not allowed; `detail` says why and what is.
    pub fn invalid(path: impl Into<String>, value: &Value, detail: impl fmt::Display) -> Self {
        Self::new(path, Reason::Invalid, format!("Invalid value: {}: {detail}", shown(value)))
    }

    /// A rule about an object as a whole does not hold (upstream: a CEL rule). `message` begins with upstream's, which
    /// scripts may look for.
    pub fn rule(path: impl Into<String>, message: impl fmt::Display) -> Self {
        Self::new(path, Reason::Invalid, format!("Invalid value: \"object\": {message}"))
    }

    /// The value has the wrong type.
    pub fn type_invalid(path: impl Into<String>, value: &Value, detail: impl fmt::Display) -> Self {
        Self::new(path, Reason::TypeInvalid, format!("Invalid value: {}: {detail}", shown(value)))
    }

    /// A value is missing; `detail` may be empty.
    pub fn required(path: impl Into<String>, detail: impl fmt::Display) -> Self {
        let detail = detail.to_string();
        let separator = if detail.is_empty() { "" } else { ": " };
        Self::new(path, Reason::Required, format!("Required value{separator}{detail}"))
    }

    /// The value is not one of `allowed`.
    pub fn not_supported<'a>(
        path: impl Into<String>,
        value: &Value,
        allowed: impl IntoIterator<Item = &'a Value>,
    ) -> Self {
        let allowed: Vec<String> = allowed.into_iter().map(shown).collect();
        let message = format!("Unsupported value: {}: supported values: {}", shown(value), allowed.join(", "));
        Self::new(path, Reason::NotSupported, message)
    }

    /// The field may not be set or changed; `detail` says why.
    pub fn forbidden(path: impl Into<String>, detail: impl fmt::Display) -> Self {
        Self::new(path, Reason::Forbidden, format!("Forbidden: {detail}"))
    }

    /// The text is longer than `max`; `detail` may be empty.
    pub fn too_long(path: impl Into<String>, max: u64, detail: impl fmt::Display) -> Self {
        let detail = detail.to_string();
        let separator = if detail.is_empty() { "" } else { ": " };
        Self::new(path, Reason::TooLong, format!("Too long: may not be more than {max} bytes{separator}{detail}"))
    }

    /// The list has `actual` items where `max` are allowed.
    pub fn too_many(path: impl Into<String>, actual: usize, max: u64) -> Self {
        Self::new(path, Reason::TooMany, format!("Too many: {actual}: must have at most {max} items"))
    }

    /// The value occurs twice.
    pub fn duplicate(path: impl Into<String>, value: &Value) -> Self {
        Self::new(path, Reason::Duplicate, format!("Duplicate value: {}", shown(value)))
    }

    /// As an entry of a Status' `details.causes`.
    pub fn cause(&self) -> Value {
        json!({"reason": self.reason.as_str(), "message": self.message, "field": self.path})
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}

/// Several errors in one sentence, as a Status message has them: `a: x`, or `[a: x, b: y]`.
pub fn summary(errors: &[FieldError]) -> String {
    let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
    match texts.as_slice() {
        [one] => one.clone(),
        many => format!("[{}]", many.join(", ")),
    }
}

/// A value as messages repeat it: JSON, cut when long.
fn shown(value: &Value) -> String {
    let text = value.to_string();
    if text.len() <= SHOWN {
        return text;
    }
    let cut: String = text.chars().take(SHOWN).collect();
    format!("{cut}...")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wording() {
        let allowed = [json!("a"), json!("b")];
        for (error, text) in [
            (FieldError::invalid("spec.x", &json!("v"), "must be y"), r#"spec.x: Invalid value: "v": must be y"#),
            (FieldError::required("spec.x", ""), "spec.x: Required value"),
            (FieldError::required("spec.x", "give one"), "spec.x: Required value: give one"),
            (
                FieldError::not_supported("spec.x", &json!("c"), &allowed),
                r#"spec.x: Unsupported value: "c": supported values: "a", "b""#,
            ),
            (FieldError::forbidden("spec", "may not be changed"), "spec: Forbidden: may not be changed"),
            (FieldError::too_long("spec.x", 5, ""), "spec.x: Too long: may not be more than 5 bytes"),
            (FieldError::too_many("spec.x", 17, 16), "spec.x: Too many: 17: must have at most 16 items"),
            (FieldError::duplicate("spec.x[1]", &json!({"a": 1})), r#"spec.x[1]: Duplicate value: {"a":1}"#),
        ] {
            assert_eq!(error.to_string(), text);
        }
        let errors = [FieldError::required("a", ""), FieldError::required("b", "")];
        assert_eq!(summary(&errors), "[a: Required value, b: Required value]");
        assert_eq!(summary(&errors[..1]), "a: Required value");
        assert_eq!(
            errors[0].cause(),
            json!({"reason": "FieldValueRequired", "message": "Required value", "field": "a"})
        );
        assert!(FieldError::invalid("x", &json!("é".repeat(500)), "").message.len() < 400);
    }
}
