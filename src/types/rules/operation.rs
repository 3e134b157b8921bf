//! Rules of VirtualMachineOperation and VirtualMachineSnapshotOperation.

use serde_json::Value;

use super::{frozen, list, text};
use crate::types::field_error::FieldError;
use crate::types::selector;

/// Longest part of a name that a clone gives.
const MAX_PART: usize = 59;

pub(super) fn validate(old: Option<&Value>, new: &Value) -> Vec<FieldError> {
    if old.is_some() {
        return frozen(old, new, "delete the operation and make a new one");
    }
    let mut errors = Vec::new();
    let type_ = text(new, "/spec/type");
    let has = |field: &str| new.pointer(&format!("/spec/{field}")).is_some();
    if type_ == "Start" && new.pointer("/spec/force") == Some(&Value::Bool(true)) {
        errors.push(FieldError::rule("spec", "The `Start` operation cannot be performed forcibly."));
    }
    if type_ == "Restore" && !has("restore") {
        errors.push(FieldError::rule("spec", "Restore requires restore field."));
    }
    if type_ == "Clone" && !has("clone") {
        errors.push(FieldError::rule("spec", "Clone requires clone field."));
    }
    if has("migrate") {
        migrate(type_, new, &mut errors);
    }
    naming(new, "clone", &mut errors);
    errors
}

pub(super) fn of_snapshot(old: Option<&Value>, new: &Value) -> Vec<FieldError> {
    if old.is_some() {
        return frozen(old, new, "delete the operation and make a new one");
    }
    let mut errors = Vec::new();
    naming(new, "createVirtualMachine", &mut errors);
    errors
}

/// Upstream's schema lets this pass, and nothing can come of it.
pub(super) fn snapshot_warnings(old: Option<&Value>, new: &Value) -> Vec<String> {
    if old.is_none() && new.pointer("/spec/createVirtualMachine").is_none() {
        return vec!["spec.createVirtualMachine is missing: it says how the new machine is called".to_owned()];
    }
    Vec::new()
}

fn migrate(type_: &str, new: &Value, errors: &mut Vec<FieldError>) {
    const PATH: &str = "spec.migrate.nodeSelector";
    if type_ != "Migrate" {
        errors.push(FieldError::rule("spec", "spec.migrate can only be set when spec.type is 'Migrate'"));
        return;
    }
    let selector = new.pointer("/spec/migrate/nodeSelector").and_then(Value::as_object);
    let before = errors.len();
    for (key, value) in selector.into_iter().flatten() {
        if !selector::is_label_key(key) {
            errors.push(FieldError::invalid(PATH, &Value::from(key.as_str()), "not a valid label key"));
        }
        if !value.as_str().is_some_and(selector::is_label_value) {
            errors.push(FieldError::invalid(format!("{PATH}.{key}"), value, "not a valid label value"));
        }
    }
    if errors.len() == before && selector.is_some_and(|s| !s.is_empty()) {
        let detail = "choosing the target node is not available here: it needs a cluster with the commercial edition";
        errors.push(FieldError::forbidden(PATH, detail));
    }
}

/// New names for what is copied: `spec.<field>`.
fn naming(new: &Value, field: &str, errors: &mut Vec<FieldError>) {
    let Some(given) = new.pointer(&format!("/spec/{field}")) else { return };
    let path = format!("spec.{field}");
    let part = |name: &str| given.pointer(&format!("/customization/{name}"));
    let replacements = list(given, "/nameReplacement");
    let named = |name: &str| !text(given, &format!("/customization/{name}")).is_empty();
    if !named("namePrefix") && !named("nameSuffix") && replacements.is_empty() {
        let message =
            "At least one of customization.namePrefix, customization.nameSuffix, or nameReplacement must be set";
        errors.push(FieldError::rule(&path, message));
    }
    for name in ["namePrefix", "nameSuffix"] {
        if part(name).is_some_and(|value| !fits(value)) {
            let message = format!("{name} length must be between 1 and {MAX_PART} characters if set");
            errors.push(FieldError::rule(format!("{path}.customization"), message));
        }
    }
    let misfit = replacements.iter().position(|r| !r.get("to").is_some_and(fits));
    if let Some(n) = misfit {
        let message = format!("Each nameReplacement.to must be between 1 and {MAX_PART} characters: see entry {n}");
        errors.push(FieldError::rule(format!("{path}.nameReplacement"), message));
    }
}

fn fits(part: &Value) -> bool {
    part.as_str().is_some_and(|text| (1..=MAX_PART).contains(&text.chars().count()))
}
