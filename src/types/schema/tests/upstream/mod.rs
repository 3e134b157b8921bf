//! Differential test against upstream's definitions, which are not part of this repository.
//!
//! `VMDECK_UPSTREAM_CRDS=DIR cargo test upstream` compares names, columns, every node of the schemas and the rules in
//! CEL, both ways. What differs has to be in a list with its reason, and what is in a list has to differ.

mod rules;

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::Schema;
use crate::types::class_version;
use crate::types::kinds::{KINDS, KindInfo};

/// Deliberate differences of schemas: how reported lines begin, and the reason.
const ACCEPTED: &[(&str, &str)] = &[
    ("VirtualMachine.spec.blockDeviceRefs[]: required", "a reference without kind or name can never be resolved"),
    ("VirtualMachineBlockDeviceAttachment.spec.blockDeviceRef: required", "as above"),
    ("VirtualMachine.spec.disruptions.restartApprovalMode: default", "the field has its default in a given object too"),
    ("VirtualMachine.spec.memory.size: type", "a number is taken as well, as for all other quantities"),
    ("VirtualMachine.spec.memory.size: x-kubernetes-int-or-string", "as above"),
    ("VirtualMachine.spec.provisioning: oneOf", "said by a rule, whose message names the field"),
    ("VirtualMachine.spec.provisioning.sysprepRef: required", "kind has a default"),
    ("VirtualMachine.spec.provisioning.userDataRef: required", "kind has a default"),
    (
        "VirtualMachine.spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[].weight: m",
        "said by a rule, in Kubernetes' words",
    ),
    ("VirtualImage.spec: required", "storage has a default"),
    ("VirtualMachineSnapshot.spec: required", "keepIPAddress and requiredConsistency have defaults"),
    ("VirtualDisk.spec.dataSource: required", "upstream's rules leave no valid source without a type"),
    ("VirtualImage.spec.dataSource: required", "as above"),
    ("VirtualDisk.spec.dataSource.containerImage.image: ", "the same language in other signs; never empty"),
    ("VirtualImage.spec.dataSource.containerImage.image: ", "as above"),
    ("ClusterVirtualImage.spec.dataSource.containerImage.image: ", "as above"),
    ("VirtualMachineIPAddress: required", "upstream's webhook refuses an address without a type"),
    ("VirtualMachineIPAddressLease.spec: default", "an absent spec is stored as an empty one"),
    ("VirtualMachineMACAddress.spec: default", "as above"),
    ("VirtualMachineMACAddressLease.spec: default", "as above"),
    // Statuses are written by controllers, which write the phase first.
    ("VirtualMachineOperation.status: required", "a status may be written in parts"),
    ("VirtualMachineClass.status: required", "as above"),
    ("VirtualMachineSnapshot.status: required", "as above"),
    ("VirtualMachineSnapshotOperation.status: required", "as above"),
    ("VirtualMachine.status.resources: required", "written whole"),
    ("VirtualMachine.status.stats.phasesTransitions[]: required", "written whole"),
    ("VirtualDisk.status.attachedToVirtualMachines[]: required", "written whole"),
    ("VirtualDisk.status.attachedToVirtualMachines[].mounted: default", "written whole"),
    ("VirtualMachine.status.blockDeviceRefs[].bootOrder: minimum", "a position is not negative"),
];

/// Deliberate differences of columns: kind, name here, name upstream, reason.
const COLUMNS: &[(&str, &str, &str, &str)] = &[
    ("VirtualMachine", "", "Uptime", "the user guide's lists have none; the machine's screen tells it"),
    ("VirtualMachine", "Cores", "Cores", "the user guide shows what is wanted, not what runs"),
    ("VirtualMachine", "CoreFraction", "CoreFraction", "as above"),
    ("VirtualMachine", "Memory", "Memory", "as above"),
    ("VirtualMachineBlockDeviceAttachment", "Phase", "PHASE", "headings are written alike; clients print capitals"),
    ("VirtualMachineBlockDeviceAttachment", "BlockDevice Kind", "BLOCKDEVICE KIND", "as above"),
    ("VirtualMachineBlockDeviceAttachment", "BlockDevice Name", "BLOCKDEVICE NAME", "as above"),
    ("VirtualMachineBlockDeviceAttachment", "Virtual machine name", "VIRTUALMACHINE", "the user guide's heading"),
    ("VirtualMachineBlockDeviceAttachment", "Age", "AGE", "as above"),
];

/// Words of a schema node that are compared. `nullable` is not: nulls are taken away before anything looks at them.
const WORDS: [&str; 19] = [
    "type",
    "enum",
    "required",
    "default",
    "pattern",
    "format",
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "oneOf",
    "uniqueItems",
    "x-kubernetes-int-or-string",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-map-type",
    "x-kubernetes-preserve-unknown-fields",
];

/// Upstream's definition of a kind: the whole, and our version of it.
fn upstream(kind: &KindInfo) -> Option<(Value, Value)> {
    let Some(folder) = std::env::var_os("VMDECK_UPSTREAM_CRDS") else {
        eprintln!("skipped: VMDECK_UPSTREAM_CRDS does not name a folder with upstream's definitions");
        return None;
    };
    let file = PathBuf::from(folder).join(format!("{}.yaml", kind.plural));
    let text = std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    let definition: Value = serde_saphyr::from_str(&text).expect("upstream YAML");
    let versions = definition.pointer("/spec/versions").and_then(Value::as_array).expect("versions").clone();
    let version = versions.into_iter().find(|v| v["name"] == kind.version).expect("our version");
    Some((definition, version))
}

fn ours(kind: &KindInfo) -> (Value, Value) {
    let definition = serde_json::to_value((kind.crd.expect("custom kind"))()).expect("definition");
    let version = definition["spec"]["versions"][0].clone();
    (definition, version)
}

fn custom() -> impl Iterator<Item = &'static KindInfo> {
    KINDS.iter().filter(|k| k.crd.is_some())
}

#[test]
fn schemas_differ_only_where_a_reason_is_given() {
    let mut differences = Vec::new();
    for kind in custom() {
        let Some((_, theirs)) = upstream(kind) else { return };
        let schema = |v: &Value| v["schema"]["openAPIV3Schema"].clone();
        compare(&schema(&ours(kind).1), &schema(&theirs), kind.kind, &mut differences);
    }
    let unused: Vec<&str> =
        ACCEPTED.iter().map(|(p, _)| *p).filter(|p| !differences.iter().any(|d| d.starts_with(p))).collect();
    differences.retain(|d| !ACCEPTED.iter().any(|(prefix, _)| d.starts_with(prefix)));
    assert!(differences.is_empty(), "without a reason:\n{}", differences.join("\n"));
    assert!(unused.is_empty(), "no longer different: {unused:#?}");
}

#[test]
fn the_newer_version_of_classes_is_upstreams() {
    let Some(kind) = custom().find(|k| k.plural == class_version::PLURAL) else { panic!("no classes") };
    let Some((definition, _)) = upstream(kind) else { return };
    let versions = definition["spec"]["versions"].as_array().expect("versions");
    let theirs = versions.iter().find(|v| v["name"] == class_version::NEWER).expect("the newer version");
    let mine = class_version::newer_schema(ours(kind).1["schema"]["openAPIV3Schema"].clone());
    let mut differences = Vec::new();
    compare(&mine, &theirs["schema"]["openAPIV3Schema"], kind.kind, &mut differences);
    differences.retain(|d| !ACCEPTED.iter().any(|(prefix, _)| d.starts_with(prefix)));
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// Reports each word and field in which two nodes, or those below, differ.
fn compare(ours: &Value, theirs: &Value, path: &str, out: &mut Vec<String>) {
    for word in WORDS {
        let (a, b) = (word_of(ours, word), word_of(theirs, word));
        // Upstream leaves out the width of many integers.
        let width = word == "format" && b.is_null() && (a == "int32" || a == "int64");
        if a != b && !width {
            out.push(format!("{path}: {word} {a} is {b} upstream"));
        }
    }
    let fields = |s: &Value| -> BTreeSet<String> {
        let standard = |name: &str| !path.contains('.') && matches!(name, "apiVersion" | "kind" | "metadata");
        let names = s["properties"].as_object().into_iter().flatten().map(|(name, _)| name.clone());
        names.filter(|name| !standard(name)).collect()
    };
    let (a, b) = (fields(ours), fields(theirs));
    out.extend(b.difference(&a).map(|name| format!("{path}.{name}: upstream only")));
    out.extend(a.difference(&b).map(|name| format!("{path}.{name}: here only")));
    for name in a.intersection(&b) {
        compare(&ours["properties"][name], &theirs["properties"][name], &format!("{path}.{name}"), out);
    }
    for (inner, mark) in [("items", "[]"), ("additionalProperties", "{}")] {
        if ours[inner].is_object() || theirs[inner].is_object() {
            compare(&ours[inner], &theirs[inner], &format!("{path}{mark}"), out);
        }
    }
}

/// A word in a form that can be compared: sets sorted, numbers as one type, what means nothing as null.
fn word_of(schema: &Value, word: &str) -> Value {
    match (word, &schema[word]) {
        ("enum" | "required", Value::Array(list)) => {
            let mut texts: Vec<String> = list.iter().map(ToString::to_string).collect();
            texts.sort();
            texts.into()
        }
        ("x-kubernetes-list-type", value) if value == "atomic" => Value::Null,
        (_, Value::Number(n)) => n.as_f64().into(),
        (_, value) => value.clone(),
    }
}

#[test]
fn names_and_columns_are_upstreams() {
    let mut differences = Vec::new();
    let mut used = BTreeSet::new();
    for kind in custom() {
        let Some((definition, theirs)) = upstream(kind) else { return };
        let (our_definition, ours) = ours(kind);
        for field in ["kind", "plural", "singular", "shortNames", "categories"] {
            let names = |d: &Value| d["spec"]["names"][field].clone();
            if names(&our_definition) != names(&definition) {
                differences.push(format!("{} {field}: {}", kind.kind, names(&definition)));
            }
        }
        assert_eq!(serde_json::json!(kind.short_names), our_definition["spec"]["names"]["shortNames"], "{}", kind.kind);
        assert_eq!(serde_json::json!(kind.categories), our_definition["spec"]["names"]["categories"], "{}", kind.kind);
        for field in ["scope", "group"] {
            assert_eq!(our_definition["spec"][field], definition["spec"][field], "{} {field}", kind.kind);
        }
        for field in ["selectableFields", "subresources"] {
            assert_eq!(ours[field], theirs[field], "{} {field}", kind.kind);
        }
        let columns = |v: &Value| -> Vec<(String, Value)> {
            let list = v["additionalPrinterColumns"].as_array().cloned().unwrap_or_default();
            let column = |mut c: Value| {
                c.as_object_mut().map(|c| c.shift_remove("description"));
                (c["name"].as_str().unwrap_or_default().to_owned(), c)
            };
            list.into_iter().map(column).collect()
        };
        let (mine, yours) = (columns(&ours), columns(&theirs));
        for (name, column) in mine.iter().filter(|c| !yours.contains(c)) {
            match COLUMNS.iter().position(|(k, here, ..)| *k == kind.kind && here == name) {
                Some(n) => _ = used.insert(n),
                None => differences.push(format!("{} has a column {column}", kind.kind)),
            }
        }
        for (name, column) in yours.iter().filter(|c| !mine.contains(c)) {
            match COLUMNS.iter().position(|(k, _, there, _)| *k == kind.kind && there == name) {
                Some(n) => _ = used.insert(n),
                None => differences.push(format!("{} lacks a column {column}", kind.kind)),
            }
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    assert_eq!(used.len(), COLUMNS.len(), "a listed column no longer differs");
}

#[test]
fn every_rule_of_upstream_has_its_counterpart() {
    let mut found = BTreeSet::new();
    let mut missing = Vec::new();
    for kind in custom() {
        let Some((_, theirs)) = upstream(kind) else { return };
        rules_of(&theirs["schema"]["openAPIV3Schema"], "", &mut |path, rule, message| {
            let text = rule.split_whitespace().collect::<Vec<_>>().join(" ");
            let sum: String = Sha256::digest(text.as_bytes()).iter().take(4).map(|b| format!("{b:02x}")).collect();
            let counterpart = rules::RULES.iter().position(|r| {
                r.kind == kind.kind && r.path == path && r.sum == sum && {
                    r.message.is_empty() || r.message.starts_with("should match") || r.message == message
                }
            });
            match counterpart {
                Some(n) => _ = found.insert(n),
                None => missing.push(format!("{} {path} {sum}: {message} ({rule})", kind.kind)),
            }
        });
    }
    assert!(missing.is_empty(), "upstream's rules without a counterpart:\n{}", missing.join("\n"));
    assert_eq!(found.len(), rules::RULES.len(), "a counterpart of a rule that upstream no longer has");
}

fn rules_of(schema: &Value, path: &str, visit: &mut impl FnMut(&str, &str, &str)) {
    for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
        visit(path, rule["rule"].as_str().unwrap_or_default(), rule["message"].as_str().unwrap_or_default());
    }
    for (name, child) in schema["properties"].as_object().into_iter().flatten() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        rules_of(child, &path, visit);
    }
    for (inner, mark) in [("items", "[]"), ("additionalProperties", "{}")] {
        if schema[inner].is_object() {
            rules_of(&schema[inner], &format!("{path}{mark}"), visit);
        }
    }
}

#[test]
fn upstream_schemas_compile_and_their_defaults_are_valid() {
    for kind in custom() {
        let Some((_, theirs)) = upstream(kind) else { return };
        let schema = Schema::custom(&theirs["schema"]["openAPIV3Schema"]);
        let mut object = serde_json::json!({"metadata": {"name": "x"}, "spec": {}});
        assert!(schema.prune(&mut object).is_empty());
        schema.defaults(&mut object);
        Schema::of(kind).defaults(&mut object);
        for error in schema.validate(&object) {
            assert_eq!(error.reason.as_str(), "FieldValueRequired", "{}: {error}", kind.kind);
        }
    }
}
