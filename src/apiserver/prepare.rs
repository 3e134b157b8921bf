//! What becomes of an object on its way into the store: system fields, isolation of the status, generation. Pure.

use serde_json::Value;

use super::core_kinds::{self, namespace};
use super::metadata;
use super::object::{self, Object};
use super::request::Part;
use super::status::{Cause, Failure};
use crate::types::kinds::KindInfo;

/// Fields of `metadata` that only the server sets.
const SYSTEM: [&str; 7] =
    ["uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation", "namespace", "name"];

/// Checks that a body is of the kind that its path says, and fills in what it leaves out.
///
/// # Errors
/// 400, for custom kinds 422.
pub fn check_kind(kind: &KindInfo, api_version: &str, object: &mut Object) -> Result<(), Failure> {
    for (field, want) in [("kind", kind.kind), ("apiVersion", api_version)] {
        match object.get(field).and_then(Value::as_str).unwrap_or("") {
            "" => {
                object.insert(field.to_owned(), want.into());
            }
            given if given == want => {}
            given if kind.crd.is_some() => {
                let cause = Cause::invalid(field, &given.into(), &format!("must be {want}"));
                return Err(Failure::invalid_object(kind, object::name(object), &[cause]));
            }
            given => {
                return Err(Failure::bad_request(format!(
                    "the {field} in the data ({given}) does not match the expected {field} ({want})"
                )));
            }
        }
    }
    Ok(())
}

/// Checks that a body does not name another place than its path, and fills in the namespace.
///
/// # Errors
/// 400.
pub fn check_place(kind: &KindInfo, namespace: Option<&str>, object: &mut Object) -> Result<(), Failure> {
    let given = object::text(object, "namespace").to_owned();
    match namespace {
        Some(namespace) if given.is_empty() || given == namespace => {
            object::metadata_mut(object).insert("namespace".to_owned(), namespace.into());
            Ok(())
        }
        Some(namespace) => Err(Failure::bad_request(format!(
            "the namespace of the provided object does not match the namespace sent on the request \
             ({given:?} is not {namespace:?})"
        ))),
        None if kind.namespaced() => Err(Failure::bad_request("an empty namespace may not be set during creation")),
        None => {
            object::metadata_mut(object).remove("namespace");
            Ok(())
        }
    }
}

/// An object to be created, from its body: system fields set, foreign ones gone.
pub fn fresh(kind: &KindInfo, object: &mut Object, uid: &str, now: &str) {
    if kind.status && kind.plural != "nodes" {
        object.remove("status");
    }
    drop_nulls(kind, object);
    metadata::tidy(object);
    let metadata = object::metadata_mut(object);
    for field in ["deletionTimestamp", "deletionGracePeriodSeconds", "resourceVersion", "generation"] {
        metadata.remove(field);
    }
    metadata.insert("uid".to_owned(), uid.into());
    metadata.insert("creationTimestamp".to_owned(), now.into());
    if kind.crd.is_some() {
        metadata.insert("generation".to_owned(), 1.into());
    }
}

/// In built-in kinds a null is an absent field.
fn drop_nulls(kind: &KindInfo, object: &mut Object) {
    if kind.crd.is_none() {
        object.retain(|_, value| !value.is_null());
    }
}

/// The object that an update makes of `old` when a client wants `wanted`: only what the part of the object may
/// change is taken over.
///
/// # Errors
/// 409 for another uid, 400 for another name or namespace.
pub fn updated(kind: &KindInfo, part: Part, old: &Object, mut wanted: Object) -> Result<Object, Failure> {
    let name = object::name(old);
    let differs = |field: &str| {
        let given = object::text(&wanted, field);
        (!given.is_empty() && given != object::text(old, field)).then(|| given.to_owned())
    };
    if let Some(given) = differs("uid") {
        let uid = object::text(old, "uid");
        let why = format!("Precondition failed: UID in precondition: {given}, UID in object meta: {uid}");
        return Err(Failure::conflict(kind, name, &why));
    }
    if let Some(given) = differs("name") {
        return Err(Failure::bad_request(format!(
            "the name of the object ({given}) does not match the name on the URL ({name})"
        )));
    }
    if let Some(given) = differs("namespace") {
        return Err(Failure::bad_request(format!(
            "the namespace of the object ({given}) does not match the namespace on the URL ({})",
            object::text(old, "namespace")
        )));
    }

    let mut new = match part {
        Part::Main => {
            if kind.status {
                wanted.remove("status");
                if let Some(status) = old.get("status") {
                    wanted.insert("status".to_owned(), status.clone());
                }
            }
            wanted
        }
        Part::Status => {
            let mut new = old.clone();
            match wanted.remove("status").filter(|s| !s.is_null()) {
                Some(status) => new.insert("status".to_owned(), status),
                None => new.remove("status"),
            };
            // Who owns which field of the status changes with it.
            let managed = object::metadata(&wanted).and_then(|m| m.get("managedFields")).cloned();
            if let Some(managed) = managed {
                object::metadata_mut(&mut new).insert("managedFields".to_owned(), managed);
            }
            new
        }
        Part::Finalize => namespace::finalize(old, &wanted),
    };
    drop_nulls(kind, &mut new);
    metadata::tidy(&mut new);
    for field in ["apiVersion", "kind"] {
        if let Some(value) = old.get(field) {
            new.insert(field.to_owned(), value.clone());
        }
    }
    let before = object::metadata(old);
    let after = object::metadata_mut(&mut new);
    for field in SYSTEM {
        match before.and_then(|m| m.get(field)) {
            Some(value) => after.insert(field.to_owned(), value.clone()),
            None => after.remove(field),
        };
    }
    Ok(new)
}

/// Raises the generation when anything but metadata and status differs. Custom kinds only.
pub fn count_generation(kind: &KindInfo, old: &Object, new: &mut Object) {
    let spec = |object: &Object| -> Vec<(String, Value)> {
        let mut fields: Vec<_> = object
            .iter()
            .filter(|(name, _)| !matches!(name.as_str(), "metadata" | "status"))
            .map(|(n, v)| (n.clone(), v.clone()))
            .collect();
        fields.sort_by(|a, b| a.0.cmp(&b.0));
        fields
    };
    if kind.crd.is_some() && spec(old) != spec(new) {
        raise_generation(new);
    }
}

/// Raises the generation, if the object has one.
pub fn raise_generation(object: &mut Object) {
    if let Some(generation) = object::metadata_mut(object).get_mut("generation")
        && let Some(number) = generation.as_i64()
    {
        *generation = (number + 1).into();
    }
}

/// Whether two objects are the same but for the version and for when fields were written.
pub fn same(old: &Object, new: &Object) -> bool {
    let bare = |object: &Object| {
        let mut object = object.clone();
        let metadata = object::metadata_mut(&mut object);
        metadata.remove("resourceVersion");
        for entry in metadata.get_mut("managedFields").and_then(Value::as_array_mut).into_iter().flatten() {
            if let Some(entry) = entry.as_object_mut() {
                entry.remove("time");
            }
        }
        object
    };
    bare(old) == bare(new)
}

/// Checks what all kinds share and what a built-in kind asks for. `old` is what it replaces.
///
/// # Errors
/// 400 or 422.
pub fn check(kind: &KindInfo, old: Option<&Object>, new: &mut Object) -> Result<(), Failure> {
    let name = object::name(new).to_owned();
    core_kinds::admit(kind, old, new).map_err(|refusal| refusal.failure(kind, &name))?;
    let mut causes = metadata::problems(new, kind.plural == "namespaces");
    causes.extend(old.and_then(|old| metadata::late_finalizers(old, new)));
    if causes.is_empty() { Ok(()) } else { Err(Failure::invalid_object(kind, &name, &causes)) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::types::kinds;

    fn object(value: Value) -> Object {
        value.as_object().cloned().unwrap()
    }

    fn vm(metadata: Value, spec: Value, status: Value) -> Object {
        object(json!({
            "apiVersion": "virtualization.deckhouse.io/v1alpha2", "kind": "VirtualMachine",
            "metadata": metadata, "spec": spec, "status": status
        }))
    }

    #[test]
    fn each_part_changes_only_its_own() {
        let kind = kinds::find("vm").unwrap();
        let metadata = json!({"name": "a", "namespace": "n", "uid": "u", "generation": 3, "labels": {"l": "1"}});
        let old = vm(metadata, json!({"x": 1}), json!({"phase": "Stopped"}));
        let changed = json!({"name": "a", "labels": {"l": "2"}, "deletionTimestamp": "2020-01-01T00:00:00Z"});
        let wanted = vm(changed, json!({"x": 2}), json!({"phase": "Running"}));

        let mut main = updated(kind, Part::Main, &old, wanted.clone()).unwrap();
        count_generation(kind, &old, &mut main);
        let metadata = json!({"name": "a", "labels": {"l": "2"}, "uid": "u", "generation": 4, "namespace": "n"});
        assert_eq!(main, vm(metadata, json!({"x": 2}), json!({"phase": "Stopped"})));

        let mut status = updated(kind, Part::Status, &old, wanted).unwrap();
        count_generation(kind, &old, &mut status);
        let mut want = old.clone();
        want["status"] = json!({"phase": "Running"});
        assert_eq!(status, want);
    }

    #[test]
    fn another_object_is_refused() {
        let kind = kinds::find("vm").unwrap();
        let old = vm(json!({"name": "a", "uid": "u"}), json!({}), json!({}));
        for (metadata, code) in [(json!({"name": "b"}), 400), (json!({"name": "a", "uid": "w"}), 409)] {
            let wanted = vm(metadata, json!({}), json!({}));
            assert_eq!(updated(kind, Part::Main, &old, wanted).unwrap_err().code(), code);
        }
    }

    #[test]
    fn a_body_of_another_kind_is_refused() {
        let check = |word: &str, body: Value| {
            let kind = kinds::find(word).unwrap();
            check_kind(kind, &kind.api_version(), &mut object(body)).map_err(|f| f.code().as_u16())
        };
        assert_eq!(check("cm", json!({})), Ok(()));
        assert_eq!(check("cm", json!({"kind": "Secret", "apiVersion": "v1"})), Err(400));
        assert_eq!(check("vm", json!({"kind": "VirtualDisk"})), Err(422));
    }
}
