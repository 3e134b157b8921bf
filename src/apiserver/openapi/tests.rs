use std::collections::HashSet;

use super::*;
use crate::types::kinds::KINDS;

fn found(path: &[&str], accept: &str) -> Packed {
    match answer(path, None, accept) {
        Some(Answer::Found { document, .. }) => document,
        other => panic!("{path:?}: {other:?}"),
    }
}

fn value(path: &[&str]) -> Value {
    serde_json::from_slice(&found(path, "").plain()).expect("JSON")
}

#[test]
fn the_index_leads_to_every_document() {
    let index = value(&["v3"]);
    let paths = index["paths"].as_object().expect("paths");
    for wanted in ["api/v1", "apis/virtualization.deckhouse.io/v1alpha2", "apis/events.k8s.io/v1"] {
        assert!(paths.contains_key(wanted), "{wanted}");
    }
    for (path, entry) in paths {
        let url = entry["serverRelativeURL"].as_str().expect("url");
        let (address, hash) = url.split_once("?hash=").expect("hash");
        let segments: Vec<&str> = address.trim_start_matches("/openapi/").split('/').collect();
        let by_hash = answer(&segments, Some(hash), "application/json").expect("document");
        assert!(matches!(&by_hash, Answer::Found { document, immutable: true } if document.hash == hash), "{path}");
        assert_eq!(answer(&segments, Some("old"), ""), Some(Answer::Moved(url.to_owned())));
        assert_eq!(answer(&segments, None, "application/xml"), Some(Answer::NotAcceptable));
        assert_eq!(value(&segments)["openapi"], "3.0.0");
    }
    assert_eq!(answer(&["v3", "apis", "nope", "v1"], None, ""), None);
    assert_eq!(answer(&["v9"], None, ""), None);
}

#[test]
fn every_kind_has_a_schema_and_a_patch_with_field_validation() {
    for kind in KINDS {
        let document = match kind.group {
            "" => value(&["v3", "api", kind.version]),
            group => value(&["v3", "apis", group, kind.version]),
        };
        let gvk = json!({"group": kind.group, "kind": kind.kind, "version": kind.version});
        let schemas = document["components"]["schemas"].as_object().expect("schemas");
        let schema = schemas
            .values()
            .find(|s| s["x-kubernetes-group-version-kind"] == json!([gvk]))
            .unwrap_or_else(|| panic!("{}", kind.kind));
        assert!(schema["properties"]["metadata"].is_object());
        let patch = document["paths"]
            .as_object()
            .expect("paths")
            .values()
            .filter_map(|item| item.get("patch"))
            .find(|op| op["x-kubernetes-group-version-kind"] == gvk)
            .unwrap_or_else(|| panic!("{}: no patch", kind.kind));
        let names: Vec<&str> =
            patch["parameters"].as_array().expect("list").iter().filter_map(|p| p["name"].as_str()).collect();
        assert!(names.contains(&"fieldValidation") && names.contains(&"dryRun"), "{}", kind.kind);
    }
}

#[test]
fn references_resolve_and_operations_have_names_of_their_own() {
    for (path, document) in GROUPS.iter() {
        let document: Value = serde_json::from_slice(&document.plain()).expect("JSON");
        let mut ids = HashSet::new();
        walk(&document, &mut |node| {
            if let Some(target) = node.get("$ref").and_then(Value::as_str) {
                let name = target.strip_prefix("#/components/schemas/").expect("local");
                assert!(document["components"]["schemas"].get(name).is_some(), "{path}: {target}");
            }
            if let Some(id) = node.get("operationId").and_then(Value::as_str) {
                assert!(ids.insert(id.to_owned()), "{path}: {id} twice");
            }
        });
    }
}

fn walk(value: &Value, see: &mut impl FnMut(&Value)) {
    see(value);
    match value {
        Value::Object(map) => map.values().for_each(|v| walk(v, see)),
        Value::Array(list) => list.iter().for_each(|v| walk(v, see)),
        _ => {}
    }
}

#[test]
fn v2_is_swagger_with_definitions() {
    let document = value(&["v2"]);
    assert_eq!(document["swagger"], "2.0");
    let vm = &document["definitions"]["io.deckhouse.virtualization.v1alpha2.VirtualMachine"];
    assert_eq!(vm["x-kubernetes-group-version-kind"][0]["kind"], "VirtualMachine");
    let spec = &vm["properties"]["spec"]["properties"];
    assert_eq!(spec["cpu"]["properties"]["cores"]["type"], "integer");
    assert_eq!(spec["memory"]["properties"]["size"].get("type"), None, "a quantity may be a number");
    walk(&document, &mut |node| {
        if let Some(map) = node.as_object().filter(|m| m.contains_key("properties")) {
            for word in ["oneOf", "anyOf", "nullable"] {
                assert!(!map.contains_key(word) || map.get("type") != Some(&json!("object")), "{word}");
            }
        }
        if let Some(target) = node.get("$ref").and_then(Value::as_str) {
            let name = target.strip_prefix("#/definitions/").expect("local");
            assert!(document["definitions"].get(name).is_some(), "{target}");
        }
    });
}

#[test]
fn v2_protobuf_begins_as_kubectl_wants_and_is_well_formed() {
    let accept = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
    let document = found(&["v2"], accept);
    assert_eq!(document.content_type, "application/com.github.proto-openapi.spec.v2.v1.0+protobuf");
    let bytes = document.plain();
    assert_eq!(&bytes[..5], b"\x0a\x032.0");
    // Every kind is defined.
    for kind in KINDS.iter().filter(|k| k.crd.is_some()) {
        let name = format!("io.deckhouse.virtualization.v1alpha2.{}", kind.kind);
        assert!(bytes.windows(name.len()).any(|w| w == name.as_bytes()), "{name}");
    }
}

#[test]
fn what_is_kept_is_small() {
    let total: usize = GROUPS.iter().map(|(_, d)| d.gzip.len()).sum();
    assert!(total < 400_000, "{total} bytes");
    let index = found(&["v3"], "");
    assert_eq!(index.etag(), format!("\"{}\"", index.hash));
}
