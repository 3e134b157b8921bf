//! Rules of VirtualMachineOperation.

use serde_json::Value;

use super::{immutable, list, text};
use crate::types::field_error::FieldError;
use crate::types::selector;

/// Longest part of a name that a clone gives.
const MAX_PART: usize = 59;

pub(super) fn validate(old: Option<&Value>, new: &Value) -> Vec<FieldError> {
    let mut errors = immutable(old, new, "delete the operation and make a new one");
    if old.is_some() {
        return errors;
    }
    let type_ = text(new, "/spec/type");
    let has = |field: &str| new.pointer(&format!("/spec/{field}")).is_some();
    if type_ == "Start" && new.pointer("/spec/force") == Some(&Value::Bool(true)) {
        errors.push(FieldError::forbidden("spec.force", "the Start operation cannot be performed forcibly"));
    }
    for (wanted, field) in [("Restore", "restore"), ("Clone", "clone")] {
        if type_ == wanted && !has(field) {
            errors.push(FieldError::required(format!("spec.{field}"), format!("the type is {wanted}")));
        }
    }
    if has("migrate") {
        migrate(type_, new, &mut errors);
    }
    if type_ == "Clone" && has("clone") {
        clone(new, &mut errors);
    }
    errors
}

fn migrate(type_: &str, new: &Value, errors: &mut Vec<FieldError>) {
    if type_ != "Migrate" {
        errors.push(FieldError::forbidden("spec.migrate", "can only be set when spec.type is Migrate"));
    }
    for (key, value) in new.pointer("/spec/migrate/nodeSelector").and_then(Value::as_object).into_iter().flatten() {
        let path = "spec.migrate.nodeSelector";
        if !selector::is_label_key(key) {
            errors.push(FieldError::invalid(path, &Value::from(key.as_str()), "not a valid label key"));
        }
        if !value.as_str().is_some_and(selector::is_label_value) {
            errors.push(FieldError::invalid(format!("{path}.{key}"), value, "not a valid label value"));
        }
    }
}

fn clone(new: &Value, errors: &mut Vec<FieldError>) {
    let mut given = false;
    for field in ["namePrefix", "nameSuffix"] {
        let Some(value) = new.pointer(&format!("/spec/clone/customization/{field}")) else { continue };
        given = true;
        check_part(&format!("spec.clone.customization.{field}"), value, errors);
    }
    for (n, replacement) in list(new, "/spec/clone/nameReplacement").iter().enumerate() {
        given = true;
        let to = replacement.get("to").unwrap_or(&Value::Null);
        check_part(&format!("spec.clone.nameReplacement[{n}].to"), to, errors);
    }
    if !given {
        let detail =
            "at least one of customization.namePrefix, customization.nameSuffix and nameReplacement must be set";
        errors.push(FieldError::required("spec.clone", detail));
    }
}

fn check_part(path: &str, value: &Value, errors: &mut Vec<FieldError>) {
    let length = value.as_str().map_or(0, |t| t.chars().count());
    if !(1..=MAX_PART).contains(&length) {
        errors.push(FieldError::invalid(path, value, format!("must have 1 to {MAX_PART} characters")));
    }
}
