//! Differential test against upstream's definitions, which are not part of this repository.
//!
//! `VMDECK_UPSTREAM_CRDS=DIR cargo test upstream` compares: what upstream's schema allows for a field that we have, ours
//! must allow as well, and our defaults and required fields must be upstream's.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde_json::Value;

use super::Schema;
use crate::types::kinds::{KINDS, KindInfo};

/// Deliberate differences: how the reported line begins, and the reason.
const ACCEPTED: &[(&str, &str)] = &[
    ("VirtualMachine.spec.blockDeviceRefs[].", "a reference without kind or name can never be resolved"),
    ("VirtualMachineBlockDeviceAttachment.spec.blockDeviceRef.", "as above"),
    ("VirtualMachine.spec.disruptions.restartApprovalMode: default", "the field has its default in a given object too"),
    ("VirtualMachine.spec.provisioning.sysprepRef.kind: required upstream", "it has a default"),
    ("VirtualMachine.spec.provisioning.userDataRef.kind: required upstream", "it has a default"),
    ("VirtualImage.spec.storage: required upstream", "it has a default"),
    ("VirtualDisk.spec.dataSource.type: required here", "upstream's rules leave no valid source without a type"),
    ("VirtualImage.spec.dataSource.type: required here", "as above"),
    ("VirtualDisk.spec.dataSource.containerImage.image: minLength", "an empty reference names nothing"),
    ("VirtualImage.spec.dataSource.containerImage.image: minLength", "as above"),
    ("ClusterVirtualImage.spec.dataSource.containerImage.image: minLength", "as above"),
    ("VirtualMachineIPAddress.spec: required here", "upstream's webhook refuses an address without a type"),
    ("VirtualMachineIPAddressLease.spec: required here", "written by the controller only"),
    ("VirtualMachine.status.", "written by the controller only"),
    ("VirtualDisk.status.", "written by the controller only"),
];

fn upstream(kind: &KindInfo) -> Option<Value> {
    let Some(folder) = std::env::var_os("VMDECK_UPSTREAM_CRDS") else {
        eprintln!("skipped: VMDECK_UPSTREAM_CRDS does not name a folder with upstream's definitions");
        return None;
    };
    let file = PathBuf::from(folder).join(format!("{}.yaml", kind.plural));
    let text = std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    let definition: Value = serde_saphyr::from_str(&text).expect("upstream YAML");
    let versions = definition.pointer("/spec/versions").and_then(Value::as_array).expect("versions").clone();
    let version = versions.into_iter().find(|v| v["name"] == kind.version).expect("our version");
    Some(version["schema"]["openAPIV3Schema"].clone())
}

fn ours(kind: &KindInfo) -> Value {
    let definition = serde_json::to_value((kind.crd.expect("custom kind"))()).expect("definition");
    definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone()
}

#[test]
fn our_schemas_accept_what_upstream_accepts() {
    let mut differences = Vec::new();
    for kind in KINDS.iter().filter(|k| k.crd.is_some()) {
        let Some(theirs) = upstream(kind) else { return };
        compare(&ours(kind), &theirs, kind.kind, &mut differences);
    }
    differences.retain(|d| !ACCEPTED.iter().any(|(prefix, _)| d.starts_with(prefix)));
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// Structural comparison of the fields both have.
fn compare(ours: &Value, theirs: &Value, path: &str, out: &mut Vec<String>) {
    let open = |s: &Value| s["x-kubernetes-preserve-unknown-fields"] == true;
    if open(ours) {
        return;
    }
    let mixed = |s: &Value| s["x-kubernetes-int-or-string"] == true;
    if !mixed(ours) && ours["type"] != theirs["type"] {
        out.push(format!("{path}: type {} is {} upstream", ours["type"], theirs["type"]));
        return;
    }
    let texts = |s: &Value, word: &str| -> BTreeSet<String> {
        s[word]
            .as_array()
            .into_iter()
            .flatten()
            .map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned))
            .collect()
    };
    for missing in texts(theirs, "enum").difference(&texts(ours, "enum")) {
        if ours["enum"].is_array() {
            out.push(format!("{path}: upstream allows {missing}"));
        }
    }
    if ours["enum"].is_array() && !theirs["enum"].is_array() {
        out.push(format!("{path}: limited to {} here only", ours["enum"]));
    }
    for extra in texts(ours, "required").difference(&texts(theirs, "required")) {
        out.push(format!("{path}.{extra}: required here only"));
    }
    for extra in texts(theirs, "required").difference(&texts(ours, "required")) {
        if path.contains(".spec") {
            out.push(format!("{path}.{extra}: required upstream only"));
        }
    }
    if path.contains(".spec") && ours["default"] != theirs["default"] {
        out.push(format!("{path}: default {} is {} upstream", ours["default"], theirs["default"]));
    }
    let bound = |s: &Value, word: &str| s[word].as_f64();
    for word in ["minimum", "minLength", "minItems", "maximum", "maxLength", "maxItems"] {
        let tighter = match (bound(ours, word), bound(theirs, word)) {
            (Some(a), Some(b)) if word.starts_with("min") => a > b,
            (Some(a), Some(b)) => a < b,
            (Some(a), None) => a > 0.0 || word.starts_with("max"),
            _ => false,
        };
        if tighter {
            out.push(format!("{path}: {word} {} is {} upstream", ours[word], theirs[word]));
        }
    }
    for word in ["pattern", "x-kubernetes-list-type", "x-kubernetes-list-map-keys", "x-kubernetes-map-type"] {
        let default_list = word == "x-kubernetes-list-type" && ours[word].is_null() && theirs[word] == "atomic";
        if ours[word] != theirs[word] && !default_list && !(word == "pattern" && ours[word].is_null()) {
            out.push(format!("{path}: {word} {} is {} upstream", ours[word], theirs[word]));
        }
    }
    for (name, child) in ours["properties"].as_object().into_iter().flatten() {
        // A field upstream does not have refuses nothing that upstream accepts.
        if let Some(other) = theirs["properties"].get(name) {
            compare(child, other, &format!("{path}.{name}"), out);
        }
    }
    for (name, _) in theirs["properties"].as_object().into_iter().flatten() {
        let standard = !path.contains('.') && matches!(name.as_str(), "apiVersion" | "kind" | "metadata");
        if ours["properties"].get(name).is_none() && !standard {
            out.push(format!("{path}.{name}: upstream only"));
        }
    }
    if ours["items"].is_object() {
        compare(&ours["items"], &theirs["items"], &format!("{path}[]"), out);
    }
    if ours["additionalProperties"].is_object() {
        compare(&ours["additionalProperties"], &theirs["additionalProperties"], &format!("{path}{{}}"), out);
    }
}

#[test]
fn upstream_schemas_compile_and_their_defaults_are_valid() {
    for kind in KINDS.iter().filter(|k| k.crd.is_some()) {
        let Some(theirs) = upstream(kind) else { return };
        let schema = Schema::custom(&theirs);
        let mut object = serde_json::json!({"metadata": {"name": "x"}, "spec": {}});
        assert!(schema.prune(&mut object).is_empty());
        schema.defaults(&mut object);
        Schema::of(kind).defaults(&mut object);
        for error in schema.validate(&object) {
            assert_eq!(error.reason.as_str(), "FieldValueRequired", "{}: {error}", kind.kind);
        }
    }
}
