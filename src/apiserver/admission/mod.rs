//! What is checked of an object before it is stored: its schema, then the rules of its kind.

pub mod across;
mod address;
mod machine;
mod storage;

#[cfg(test)]
pub(super) mod tests;

use serde_json::Value;

use super::object::{self, Object};
use super::request::{FieldValidation, WriteOptions};
use super::status::{Cause, Failure};
use super::write::note_fields;
use crate::store::Store;
use crate::types::field_error::FieldError;
use crate::types::kinds::{self, KindInfo};
use crate::types::rules;
use crate::types::schema::Schema;

impl From<FieldError> for Cause {
    fn from(error: FieldError) -> Self {
        Self { reason: error.reason.as_str(), field: error.path, message: error.message }
    }
}

/// A spelling that the user guide has in one place. It is told even to those who want to be refused: the guide's
/// manifest has to apply as it is printed.
const OF_THE_GUIDE: &str = "spec.virtualMachineIPAdressName";

/// Refuses unknown fields, warns of them, or is silent.
///
/// # Errors
/// 400 with `Strict`, but for [`OF_THE_GUIDE`].
pub fn note_unknown(
    kind: &KindInfo,
    validation: FieldValidation,
    paths: &[String],
    warnings: &mut Vec<String>,
) -> Result<(), Failure> {
    let (guides, others): (Vec<&String>, Vec<&String>) = paths.iter().partition(|path| *path == OF_THE_GUIDE);
    if validation != FieldValidation::Ignore {
        warnings.extend(guides.iter().map(|path| {
            format!("unknown field {path:?} is left out (the field is called virtualMachineIPAddressName, with two d)")
        }));
    }
    let told = others.iter().map(|path| format!("unknown field {path:?}")).collect();
    note_fields(kind, validation, told, warnings)
}

/// The rest of the world, from the store.
pub struct Stored<'a> {
    /// The store.
    pub store: &'a Store,
    /// Subnets for machine addresses, if known.
    pub networks: Option<&'a [ipnet::Ipv4Net]>,
}

impl across::World for Stored<'_> {
    fn list(&self, plural: &str, namespace: Option<&str>) -> Vec<Object> {
        let Some(kind) = kinds::find(plural) else { return Vec::new() };
        self.store.list(&kind.qualified(), namespace).entries.iter().map(|e| object::parse(e)).collect()
    }

    fn networks(&self) -> Option<&[ipnet::Ipv4Net]> {
        self.networks
    }
}

/// Fills in and checks what the rules of the kind say, alone and against other objects.
///
/// # Errors
/// 422.
pub fn rule(
    world: &Stored<'_>,
    kind: &KindInfo,
    old: Option<&Object>,
    new: &mut Object,
    warnings: &mut Vec<String>,
) -> Result<(), Failure> {
    let filled = across::fill(world, kind, new);
    let before = old.map(|o| Value::Object(o.clone()));
    let after = Value::Object(new.clone());
    let mut errors = rules::validate(kind, before.as_ref(), &after);
    warnings.extend(rules::warnings(kind, before.as_ref(), &after));
    let found = across::check(world, kind, old, new);
    for findings in [filled, found] {
        errors.extend(findings.errors);
        warnings.extend(findings.warnings);
    }
    if errors.is_empty() {
        return Ok(());
    }
    let causes: Vec<Cause> = errors.into_iter().map(Cause::from).collect();
    Err(Failure::invalid_object(kind, object::name(new), &causes))
}

/// Takes away fields that the schema does not have, fills in its defaults and what other objects say, and checks the
/// rest against it.
///
/// # Errors
/// 400 for unknown fields with `Strict`, and for built-in kinds whose fields have wrong types; else 422.
pub fn conform(
    world: &Stored<'_>,
    kind: &KindInfo,
    object: &mut Object,
    options: &WriteOptions,
    warnings: &mut Vec<String>,
) -> Result<(), Failure> {
    let schema = Schema::of(kind);
    let mut value = Value::Object(std::mem::take(object));
    let unknown = schema.prune(&mut value);
    schema.defaults(&mut value);
    let refused = value.as_object_mut().and_then(|object| across::complete(world, kind, object));
    let mut errors = schema.validate(&value);
    if let Some(refused) = refused {
        errors.retain(|e| e.path != refused.path);
        errors.push(refused);
    }
    if let Value::Object(conforming) = value {
        *object = conforming;
    }
    note_unknown(kind, options.validation, &unknown, warnings)?;
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
