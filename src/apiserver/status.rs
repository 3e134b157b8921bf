//! Errors as Kubernetes tells them: a `Status` object (k8s-api.md 1.10).

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use serde_json::{Map, Value, json};

use super::audit::Named;
use crate::store::{StoreError, WriteError};
use crate::types::kinds::KindInfo;

/// One reason among several why a request was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// CauseType, for example `FieldValueInvalid`.
    pub reason: &'static str,
    /// Path of the field, for example `spec.cpu.cores`.
    pub field: String,
    /// What is wrong, without the path, for example `Required value`.
    pub message: String,
}

impl Cause {
    /// A field that must be there.
    pub fn required(field: impl Into<String>, detail: &str) -> Self {
        let message = if detail.is_empty() { "Required value".to_owned() } else { format!("Required value: {detail}") };
        Self { reason: "FieldValueRequired", field: field.into(), message }
    }

    /// A value that cannot be.
    pub fn invalid(field: impl Into<String>, value: &Value, detail: &str) -> Self {
        Self { reason: "FieldValueInvalid", field: field.into(), message: format!("Invalid value: {value}: {detail}") }
    }

    /// A value that may not be set or changed.
    pub fn forbidden(field: impl Into<String>, detail: &str) -> Self {
        Self { reason: "FieldValueForbidden", field: field.into(), message: format!("Forbidden: {detail}") }
    }

    /// A value that is not one of the known ones.
    pub fn not_supported(field: impl Into<String>, value: &str, supported: &[&str]) -> Self {
        let list: Vec<String> = supported.iter().map(|s| format!("{s:?}")).collect();
        Self {
            reason: "FieldValueNotSupported",
            field: field.into(),
            message: format!("Unsupported value: {value:?}: supported values: {}", list.join(", ")),
        }
    }

    fn sentence(&self) -> String {
        format!("{}: {}", self.field, self.message)
    }
}

/// A refused or failed request.
#[derive(Debug, Clone)]
pub struct Failure(Box<Parts>);

#[derive(Debug, Clone)]
struct Parts {
    code: StatusCode,
    reason: &'static str,
    message: String,
    details: Map<String, Value>,
    /// `metadata.continue`, for a list that can go on inconsistently.
    next: Option<String>,
    retry_after: Option<u32>,
}

impl Failure {
    /// A failure without details.
    pub fn new(code: StatusCode, reason: &'static str, message: impl Into<String>) -> Self {
        let message = message.into();
        Self(Box::new(Parts { code, reason, message, details: Map::new(), next: None, retry_after: None }))
    }

    fn about(mut self, kind: &KindInfo, name: &str) -> Self {
        let details = &mut self.0.details;
        if !name.is_empty() {
            details.insert("name".to_owned(), name.into());
        }
        if !kind.group.is_empty() {
            details.insert("group".to_owned(), kind.group.into());
        }
        details.insert("kind".to_owned(), kind.plural.into());
        self
    }

    fn causes(mut self, causes: impl Iterator<Item = Value>) -> Self {
        self.0.details.insert("causes".to_owned(), causes.collect());
        self
    }

    fn retry(mut self, seconds: u32) -> Self {
        self.0.details.insert("retryAfterSeconds".to_owned(), seconds.into());
        self.0.retry_after = Some(seconds);
        self
    }

    /// 400: the request cannot be understood.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BadRequest", message)
    }

    /// 401.
    pub fn unauthorized() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "Unauthorized", "Unauthorized")
    }

    /// 403 about one object; `why` ends the sentence.
    pub fn forbidden(kind: &KindInfo, name: &str, why: &str) -> Self {
        let message = format!("{} {name:?} is forbidden: {why}", kind.qualified());
        Self::new(StatusCode::FORBIDDEN, "Forbidden", message).about(kind, name)
    }

    /// 404: no such object.
    pub fn not_found(kind: &KindInfo, name: &str) -> Self {
        let message = format!("{} {name:?} not found", kind.qualified());
        Self::new(StatusCode::NOT_FOUND, "NotFound", message).about(kind, name)
    }

    /// 404: no such path.
    pub fn no_such_path() -> Self {
        Self::new(StatusCode::NOT_FOUND, "NotFound", "the server could not find the requested resource")
    }

    /// 405.
    pub fn method_not_allowed() -> Self {
        let message = "the server does not allow this method on the requested resource";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", message)
    }

    /// 406.
    pub fn not_acceptable() -> Self {
        let message = "only the following media types are accepted: application/json, application/yaml";
        Self::new(StatusCode::NOT_ACCEPTABLE, "NotAcceptable", message)
    }

    /// 409: the name is taken.
    pub fn already_exists(kind: &KindInfo, name: &str) -> Self {
        let message = format!("{} {name:?} already exists", kind.qualified());
        Self::new(StatusCode::CONFLICT, "AlreadyExists", message).about(kind, name)
    }

    /// 409: the object is not the one that the client meant.
    pub fn conflict(kind: &KindInfo, name: &str, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {} {name:?}: {why}", kind.qualified());
        Self::new(StatusCode::CONFLICT, "Conflict", message).about(kind, name)
    }

    /// 409: somebody else wrote first.
    pub fn modified(kind: &KindInfo, name: &str) -> Self {
        let why = "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict(kind, name, why)
    }

    /// 409: an apply touches fields of others; (manager text, field) each.
    pub fn apply_conflict(conflicts: &[(String, String)]) -> Self {
        let list: Vec<String> = conflicts.iter().map(|(who, field)| format!("{who}: {field}")).collect();
        let count = conflicts.len();
        let message = match list.as_slice() {
            [one] => format!("Apply failed with 1 conflict: {one}"),
            _ => format!("Apply failed with {count} conflicts: {}", list.join("\n")),
        };
        Self::new(StatusCode::CONFLICT, "Conflict", message).causes(
            conflicts
                .iter()
                .map(|(who, field)| json!({"reason": "FieldManagerConflict", "message": who, "field": field})),
        )
    }

    /// 410: history does not go back that far; `next` lets a client go on with an inconsistent list.
    pub fn expired(message: impl Into<String>, next: Option<String>) -> Self {
        let mut failure = Self::new(StatusCode::GONE, "Expired", message);
        failure.0.next = next;
        failure
    }

    /// 413.
    pub fn too_large(limit: usize) -> Self {
        let message = format!("Request entity too large: limit is {limit}");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge", message)
    }

    /// 415.
    pub fn unsupported_media_type(given: &str, accepted: &[&str]) -> Self {
        let message = format!(
            "the body of the request was in an unknown format ({given:?}) - accepted media types include: {}",
            accepted.join(", ")
        );
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UnsupportedMediaType", message)
    }

    /// 422: the object or the request's options are wrong, cause by cause. `group` is empty for core kinds.
    pub fn invalid(group: &str, kind: &str, name: &str, causes: &[Cause]) -> Self {
        let sentences: Vec<String> = causes.iter().map(Cause::sentence).collect();
        let what = match sentences.as_slice() {
            [one] => one.clone(),
            _ => format!("[{}]", sentences.join(", ")),
        };
        let of = if group.is_empty() { String::new() } else { format!(".{group}") };
        let message = format!("{kind}{of} {name:?} is invalid: {what}");
        let mut failure = Self::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message);
        let details = &mut failure.0.details;
        if !name.is_empty() {
            details.insert("name".to_owned(), name.into());
        }
        if !group.is_empty() {
            details.insert("group".to_owned(), group.into());
        }
        details.insert("kind".to_owned(), kind.into());
        failure.causes(causes.iter().map(|c| json!({"reason": c.reason, "message": c.message, "field": c.field})))
    }

    /// 422 for an object of a kind.
    pub fn invalid_object(kind: &KindInfo, name: &str, causes: &[Cause]) -> Self {
        Self::invalid(kind.group, kind.kind, name, causes)
    }

    /// 422: a JSON patch that does not fit.
    pub fn unprocessable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message)
    }

    /// 429.
    pub fn too_many_requests() -> Self {
        let message = "too many requests are under way, please try again later";
        Self::new(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests", message).retry(1)
    }

    /// 500.
    pub fn internal(message: impl std::fmt::Display) -> Self {
        let message = format!("Internal error occurred: {message}");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", message)
    }

    /// 503.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", message)
    }

    /// 504: that version is in the future.
    pub fn too_large_version(message: impl Into<String>) -> Self {
        let cause = json!({"reason": "ResourceVersionTooLarge", "message": "Too large resource version"});
        Self::new(StatusCode::GATEWAY_TIMEOUT, "Timeout", message).causes(std::iter::once(cause)).retry(1)
    }

    /// The HTTP code.
    pub fn code(&self) -> StatusCode {
        self.0.code
    }

    /// The sentence for people.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The `Status` object.
    pub fn object(&self) -> Value {
        let Parts { code, reason, message, details, next, .. } = &*self.0;
        let mut status = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": message,
            "reason": reason,
            "details": details,
            "code": code.as_u16(),
        });
        if details.is_empty()
            && let Some(status) = status.as_object_mut()
        {
            status.remove("details");
        }
        if let Some(next) = next {
            status["metadata"]["continue"] = next.as_str().into();
        }
        status
    }

    /// The answer.
    pub fn response(&self) -> Response<Body> {
        let mut response = Response::new(Body::from(self.object().to_string()));
        *response.status_mut() = self.0.code;
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(seconds) = self.0.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        if let Some(name) = self.0.details.get("name").and_then(Value::as_str) {
            response.extensions_mut().insert(Named(name.to_owned()));
        }
        response
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let message = error.to_string();
        match error {
            StoreError::Compacted { .. } => Self::expired(message, None),
            StoreError::Future { .. } => Self::too_large_version(message),
            StoreError::Busy => Self::new(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests", message).retry(1),
            StoreError::Closed => Self::unavailable(message),
            StoreError::Full { .. } => Self::new(StatusCode::INSUFFICIENT_STORAGE, "InsufficientStorage", message),
            _ => Self::internal(message),
        }
    }
}

impl Failure {
    /// What a store's refusal of a write means for an object.
    pub fn from_write(error: WriteError, kind: &KindInfo, name: &str) -> Self {
        match error {
            WriteError::Exists(_) => Self::already_exists(kind, name),
            WriteError::Missing => Self::not_found(kind, name),
            WriteError::Moved(_) | WriteError::Requirement(_) => Self::modified(kind, name),
            WriteError::Store(error) => error.into(),
        }
    }
}

/// `Status` of a success.
pub fn success(kind: &KindInfo, name: &str, uid: &str) -> Value {
    let mut details = json!({"name": name, "group": kind.group, "kind": kind.plural, "uid": uid});
    if kind.group.is_empty()
        && let Some(details) = details.as_object_mut()
    {
        details.remove("group");
    }
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})
}
