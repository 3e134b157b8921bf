//! The CustomResourceDefinitions of the custom kinds, to be read only: clients look there to learn what is custom.

use std::sync::OnceLock;

use serde_json::{Value, json};

use crate::types::class_version;
use crate::types::kinds::{KINDS, KindInfo};

/// The definition of a kind, established.
fn definition(kind: &KindInfo, started: &str) -> Option<Value> {
    let definition = kind.crd?();
    let names = serde_json::to_value(&definition.spec.names).ok()?;
    let mut value = serde_json::to_value(definition).ok()?;
    value["apiVersion"] = "apiextensions.k8s.io/v1".into();
    value["kind"] = "CustomResourceDefinition".into();
    let metadata = value.get_mut("metadata")?.as_object_mut()?;
    metadata.insert("resourceVersion".to_owned(), super::fixed::VERSION.into());
    metadata.insert("generation".to_owned(), 1.into());
    metadata.insert("creationTimestamp".to_owned(), started.into());
    // The same in every run and on every machine, as nothing else of it changes.
    let uid = uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_DNS, kind.qualified().as_bytes());
    metadata.insert("uid".to_owned(), uid.to_string().into());
    let condition = |kind: &str, reason: &str| json!({"type": kind, "status": "True", "reason": reason, "message": "", "lastTransitionTime": started});
    value["status"] = json!({
        "acceptedNames": names,
        "storedVersions": [kind.version],
        "conditions": [condition("NamesAccepted", "NoConflicts"), condition("Established", "InitialNamesAccepted")],
    });
    if kind.plural == class_version::PLURAL {
        let versions = value.pointer_mut("/spec/versions")?.as_array_mut()?;
        let mut newer = versions.first()?.clone();
        newer["name"] = class_version::NEWER.into();
        newer["storage"] = false.into();
        let schema = newer.pointer_mut("/schema/openAPIV3Schema")?;
        *schema = class_version::newer_schema(schema.take());
        versions.push(newer);
    }
    Some(value)
}

/// All of them. Large and seldom asked for: made anew each time rather than kept.
pub fn all() -> Vec<Value> {
    KINDS.iter().filter_map(|kind| definition(kind, started())).collect()
}

/// When this process began to serve, as the definitions tell it.
fn started() -> &'static str {
    static STARTED: OnceLock<String> = OnceLock::new();
    STARTED.get_or_init(super::object::now)
}
