//! What is checked of an object before it is stored: its schema, then the rules of its kind.

use serde_json::Value;

use super::object::{self, Object};
use super::request::WriteOptions;
use super::status::{Cause, Failure};
use super::write::note_fields;
use crate::types::field_error::FieldError;
use crate::types::kinds::KindInfo;
use crate::types::schema::Schema;

impl From<FieldError> for Cause {
    fn from(error: FieldError) -> Self {
        Self { reason: error.reason.as_str(), field: error.path, message: error.message }
    }
}

/// Takes away fields that the schema does not have, fills in its defaults and checks the rest against it.
///
/// # Errors
/// 400 for unknown fields with `Strict`, and for built-in kinds whose fields have wrong types; else 422.
pub fn conform(
    kind: &KindInfo,
    object: &mut Object,
    options: &WriteOptions,
    warnings: &mut Vec<String>,
) -> Result<(), Failure> {
    let schema = Schema::of(kind);
    let mut value = Value::Object(std::mem::take(object));
    let unknown = schema.prune(&mut value);
    schema.defaults(&mut value);
    let errors = schema.validate(&value);
    if let Value::Object(conforming) = value {
        *object = conforming;
    }
    let told = unknown.iter().map(|path| format!("unknown field {path:?}")).collect();
    note_fields(kind, options.validation, told, warnings)?;
    if errors.is_empty() {
        return Ok(());
    }
    if kind.crd.is_none() {
        let list: Vec<String> = errors.iter().map(ToString::to_string).collect();
        return Err(Failure::bad_request(format!(
            "{} in version {:?} cannot be handled as a {}: {}",
            kind.kind,
            kind.version,
            kind.kind,
            list.join(", ")
        )));
    }
    let causes: Vec<Cause> = errors.into_iter().map(Cause::from).collect();
    Err(Failure::invalid_object(kind, object::name(object), &causes))
}
