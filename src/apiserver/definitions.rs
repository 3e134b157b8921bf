//! The CustomResourceDefinitions of the custom kinds, to be read only: clients look there to learn what is custom.

use std::sync::OnceLock;

use axum::body::Body;
use axum::http::{Response, StatusCode};
use serde_json::{Value, json};

use super::media::{self, Form, Wanted};
use super::status::Failure;
use crate::types::kinds::{KINDS, KindInfo};

/// How the kind itself is named in errors.
const NOT_FOUND: &str = "customresourcedefinitions.apiextensions.k8s.io";

/// The definition of a kind, established.
fn definition(kind: &KindInfo, started: &str) -> Option<Value> {
    let definition = kind.crd?();
    let names = serde_json::to_value(&definition.spec.names).ok()?;
    let mut value = serde_json::to_value(definition).ok()?;
    value["apiVersion"] = "apiextensions.k8s.io/v1".into();
    value["kind"] = "CustomResourceDefinition".into();
    let metadata = value.get_mut("metadata")?.as_object_mut()?;
    metadata.insert("resourceVersion".to_owned(), "1".into());
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
    Some(value)
}

/// Answers a get or list.
///
/// # Errors
/// 404, 406.
pub fn answer(name: Option<&str>, started: &str, wanted: Wanted) -> Result<Response<Body>, Failure> {
    // Large and seldom asked for: made anew each time rather than kept.
    let all = || KINDS.iter().filter_map(|k| definition(k, started));
    if let Some(name) = name {
        let kind = KINDS.iter().find(|k| k.crd.is_some() && k.qualified() == name);
        let found = kind.and_then(|k| definition(k, started)).ok_or_else(|| {
            Failure::new(StatusCode::NOT_FOUND, "NotFound", format!("{NOT_FOUND} {name:?} not found"))
        })?;
        return Ok(media::object_response(StatusCode::OK, &shown(vec![found], wanted, false), wanted));
    }
    Ok(media::object_response(StatusCode::OK, &shown(all().collect(), wanted, true), wanted))
}

fn shown(items: Vec<Value>, wanted: Wanted, list: bool) -> Value {
    let metadata = json!({"resourceVersion": "1"});
    match wanted.form {
        Form::Whole if list => json!({
            "kind": "CustomResourceDefinitionList", "apiVersion": "apiextensions.k8s.io/v1", "metadata": metadata,
            "items": items,
        }),
        Form::Whole => items.into_iter().next().unwrap_or(Value::Null),
        Form::Metadata if list => json!({
            "kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": metadata,
            "items": items.iter().map(partial).collect::<Vec<_>>(),
        }),
        Form::Metadata => items.first().map_or(Value::Null, partial),
        Form::Table => {
            let column = |name: &str, kind: &str, format: &str| json!({"name": name, "type": kind, "format": format, "description": "", "priority": 0});
            let rows: Vec<Value> = items
                .iter()
                .map(|o| json!({"cells": [o["metadata"]["name"], o["metadata"]["creationTimestamp"]], "object": partial(o)}))
                .collect();
            json!({
                "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata,
                "columnDefinitions": [column("Name", "string", "name"), column("Created At", "date", "")],
                "rows": rows,
            })
        }
    }
}

fn partial(object: &Value) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"]})
}

/// When this process began to serve, as the definitions tell it.
pub fn started() -> &'static str {
    static STARTED: OnceLock<String> = OnceLock::new();
    STARTED.get_or_init(super::object::now)
}
