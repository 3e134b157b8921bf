//! Schemas of the built-in kinds, from the types of `k8s-openapi` plus what these leave out: how lists merge.

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Event, Namespace, Node, Secret};
use k8s_openapi::api::events::v1::Event as NewEvent;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Value, json};

/// What is added to a node of the generated document.
enum Extra {
    Set,
    Keyed(&'static [&'static str]),
    AtomicMap,
    IntOrString,
}

/// The OpenAPI document of a built-in kind, with descriptions, list types and merge keys. `None` if not known here.
pub fn document(group: &str, kind: &str) -> Option<Value> {
    let (mut document, extras): (Value, &[(&str, Extra)]) = match (group, kind) {
        ("", "Namespace") => {
            (inlined::<Namespace>(), &[("/properties/status/properties/conditions", Extra::Keyed(&["type"]))])
        }
        ("", "Secret") => (inlined::<Secret>(), &[]),
        ("", "ConfigMap") => (inlined::<ConfigMap>(), &[]),
        ("", "Event") => (
            inlined::<Event>(),
            &[("/properties/involvedObject", Extra::AtomicMap), ("/properties/related", Extra::AtomicMap)],
        ),
        ("events.k8s.io", "Event") => (
            inlined::<NewEvent>(),
            &[("/properties/regarding", Extra::AtomicMap), ("/properties/related", Extra::AtomicMap)],
        ),
        ("coordination.k8s.io", "Lease") => (inlined::<Lease>(), &[]),
        ("", "Node") => (
            inlined::<Node>(),
            &[
                ("/properties/spec/properties/podCIDRs", Extra::Set),
                ("/properties/status/properties/conditions", Extra::Keyed(&["type"])),
                ("/properties/status/properties/addresses", Extra::Keyed(&["type"])),
                ("/properties/status/properties/capacity/additionalProperties", Extra::IntOrString),
                ("/properties/status/properties/allocatable/additionalProperties", Extra::IntOrString),
            ],
        ),
        _ => return None,
    };
    add(&mut document, extras);
    if let Some(slot) = document.pointer_mut("/properties/metadata") {
        *slot = metadata();
    }
    Some(document)
}

/// The OpenAPI document of `metadata`: finalizers merge as a set, owners by uid.
pub fn metadata() -> Value {
    let mut document = inlined::<ObjectMeta>();
    add(
        &mut document,
        &[
            ("/properties/finalizers", Extra::Set),
            ("/properties/ownerReferences", Extra::Keyed(&["uid"])),
            ("/properties/ownerReferences/items", Extra::AtomicMap),
        ],
    );
    document
}

/// The OpenAPI document of a type, with nothing referred to.
pub fn inlined<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::openapi3().with(|s| {
        s.inline_subschemas = true;
        s.meta_schema = None;
    });
    let mut document = settings.into_generator().into_root_schema_for::<T>().to_value();
    if let Some(map) = document.as_object_mut() {
        map.shift_remove("title");
    }
    document
}

fn add(document: &mut Value, extras: &[(&str, Extra)]) {
    for (pointer, extra) in extras {
        let Some(node) = document.pointer_mut(pointer).and_then(Value::as_object_mut) else { continue };
        match extra {
            Extra::Set => {
                node.insert("x-kubernetes-list-type".into(), json!("set"));
                node.insert("x-kubernetes-patch-strategy".into(), json!("merge"));
            }
            Extra::Keyed(keys) => {
                node.insert("x-kubernetes-list-type".into(), json!("map"));
                node.insert("x-kubernetes-list-map-keys".into(), json!(keys));
                node.insert("x-kubernetes-patch-strategy".into(), json!("merge"));
                node.insert("x-kubernetes-patch-merge-key".into(), json!(keys.first()));
            }
            Extra::AtomicMap => {
                node.insert("x-kubernetes-map-type".into(), json!("atomic"));
            }
            Extra::IntOrString => {
                node.shift_remove("type");
                node.insert("x-kubernetes-int-or-string".into(), json!(true));
            }
        }
    }
}
