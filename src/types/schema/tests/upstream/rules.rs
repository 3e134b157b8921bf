//! Upstream's rules in CEL, each with the check that stands for it here: shown by an object that is refused with
//! upstream's message at the rule's field, and a neighbour that is accepted.

use serde_json::{Value, json};

use crate::types::kinds::{KINDS, KindInfo};
use crate::types::rules;
use crate::types::schema::Schema;

/// One rule.
pub(super) struct Rule {
    pub kind: &'static str,
    /// Field of the rule; `[]` for list items.
    pub path: &'static str,
    /// What our message contains; empty for a rule that nothing can break.
    pub message: &'static str,
    /// Begin of the SHA-256 of the rule's text, blanks collapsed: a changed rule is noticed.
    pub sum: &'static str,
    /// Merge patches on the kind's sample.
    refused: &'static str,
    accepted: &'static str,
}

const fn rule(
    kind: &'static str,
    path: &'static str,
    sum: &'static str,
    message: &'static str,
    refused: &'static str,
    accepted: &'static str,
) -> Rule {
    Rule { kind, path, message, sum, refused, accepted }
}

const SOURCE: &str = "spec.dataSource";
const HTTP: &str = "HTTP requires http and cannot have ContainerImage, ObjectRef or Upload.";
const IMAGE: &str = "ContainerImage requires containerImage and cannot have HTTP, ObjectRef or Upload.";
const OBJECT: &str = "ObjectRef requires objectRef and cannot have HTTP, ContainerImage or Upload.";
const UPLOAD: &str = "Upload cannot have HTTP, ContainerImage or ObjectRef.";
const NO_HTTP: &str = r#"{"spec": {"dataSource": {"type": "HTTP", "http": null}}}"#;
const BOTH: &str = r#"{"spec": {"dataSource": {"containerImage": {"image": "a"}}}}"#;
const FROM_IMAGE: &str =
    r#"{"spec": {"dataSource": {"type": "ContainerImage", "http": null, "containerImage": {"image": "r.io/a:1"}}}}"#;
const FROM_OBJECT: &str = r#"{"spec": {"dataSource": {"type": "ObjectRef", "http": null,
    "objectRef": {"kind": "ClusterVirtualImage", "name": "a"}}}}"#;
const FROM_UPLOAD: &str = r#"{"spec": {"dataSource": {"type": "Upload", "http": null}}}"#;

const NAMES: &str =
    "At least one of customization.namePrefix, customization.nameSuffix, or nameReplacement must be set";
const PREFIX: &str = "namePrefix length must be between 1 and 59 characters if set";
const SUFFIX: &str = "nameSuffix length must be between 1 and 59 characters if set";
const TO: &str = "Each nameReplacement.to must be between 1 and 59 characters";

/// All of them.
pub(super) const RULES: &[Rule] = &[
    rule("VirtualDisk", SOURCE, "7c358fe1", HTTP, NO_HTTP, "{}"),
    rule(
        "VirtualDisk",
        SOURCE,
        "1519ed38",
        IMAGE,
        r#"{"spec": {"dataSource": {"type": "ContainerImage"}}}"#,
        FROM_IMAGE,
    ),
    rule("VirtualDisk", SOURCE, "1b403db7", OBJECT, r#"{"spec": {"dataSource": {"type": "ObjectRef"}}}"#, FROM_OBJECT),
    rule("VirtualDisk", SOURCE, "15b9a4db", UPLOAD, r#"{"spec": {"dataSource": {"type": "Upload"}}}"#, FROM_UPLOAD),
    rule("VirtualImage", SOURCE, "7c358fe1", HTTP, BOTH, "{}"),
    rule(
        "VirtualImage",
        SOURCE,
        "1519ed38",
        IMAGE,
        r#"{"spec": {"dataSource": {"type": "ContainerImage"}}}"#,
        FROM_IMAGE,
    ),
    rule("VirtualImage", SOURCE, "1b403db7", OBJECT, r#"{"spec": {"dataSource": {"type": "ObjectRef"}}}"#, FROM_OBJECT),
    rule("VirtualImage", SOURCE, "15b9a4db", UPLOAD, r#"{"spec": {"dataSource": {"type": "Upload"}}}"#, FROM_UPLOAD),
    rule("ClusterVirtualImage", SOURCE, "7c358fe1", HTTP, BOTH, "{}"),
    rule(
        "ClusterVirtualImage",
        SOURCE,
        "1519ed38",
        IMAGE,
        r#"{"spec": {"dataSource": {"type": "ContainerImage"}}}"#,
        FROM_IMAGE,
    ),
    rule(
        "ClusterVirtualImage",
        SOURCE,
        "1b403db7",
        OBJECT,
        r#"{"spec": {"dataSource": {"type": "ObjectRef"}}}"#,
        FROM_OBJECT,
    ),
    rule(
        "ClusterVirtualImage",
        SOURCE,
        "15b9a4db",
        UPLOAD,
        r#"{"spec": {"dataSource": {"type": "Upload"}}}"#,
        FROM_UPLOAD,
    ),
    rule(
        "ClusterVirtualImage",
        "spec.dataSource.objectRef",
        "c8194551",
        "The namespace is required for VirtualDisk, VirtualImage and VirtualDiskSnapshot",
        r#"{"spec": {"dataSource": {"type": "ObjectRef", "http": null, "objectRef": {"kind": "VirtualDisk", "name": "a"}}}}"#,
        r#"{"spec": {"dataSource": {"type": "ObjectRef", "http": null,
            "objectRef": {"kind": "VirtualDisk", "name": "a", "namespace": "n"}}}}"#,
    ),
    rule(
        "ClusterVirtualImage",
        "spec.dataSource.objectRef",
        "21db3784",
        "The namespace must be no longer than 63 characters.",
        r#"{"spec": {"dataSource": {"type": "ObjectRef", "http": null, "objectRef": {"kind": "VirtualImage", "name": "a",
            "namespace": "1234567890123456789012345678901234567890123456789012345678901234"}}}}"#,
        r#"{"spec": {"dataSource": {"type": "ObjectRef", "http": null, "objectRef": {"kind": "VirtualImage", "name": "a",
            "namespace": "123456789012345678901234567890123456789012345678901234567890123"}}}}"#,
    ),
    rule(
        "VirtualMachineClass",
        "spec.cpu",
        "f4f4adcf",
        ".spec.cpu is immutable",
        r#"{"spec": {"cpu": {"type": "HostPassthrough"}}}"#,
        r#"{"spec": {"nodeSelector": {"matchLabels": {"a": "b"}}}}"#,
    ),
    rule(
        "VirtualMachineClass",
        "spec.cpu",
        "32ecf40b",
        "HostPassthrough and Host cannot have model, features or discovery",
        r#"{"spec": {"cpu": {"discovery": {"nodeSelector": {}}}}}"#,
        "{}",
    ),
    rule(
        "VirtualMachineClass",
        "spec.cpu",
        "cba0354d",
        "Discovery cannot have model or features",
        r#"{"spec": {"cpu": {"type": "Discovery", "model": "x"}}}"#,
        r#"{"spec": {"cpu": {"type": "Discovery", "discovery": {"nodeSelector": {}}}}}"#,
    ),
    rule(
        "VirtualMachineClass",
        "spec.cpu",
        "ca4927c3",
        "Model requires model and cannot have features or discovery",
        r#"{"spec": {"cpu": {"type": "Model"}}}"#,
        r#"{"spec": {"cpu": {"type": "Model", "model": "Nehalem"}}}"#,
    ),
    rule(
        "VirtualMachineClass",
        "spec.cpu",
        "a5f3b521",
        "Features requires features and cannot have model or discovery",
        r#"{"spec": {"cpu": {"type": "Features", "features": ["avx"], "model": "x"}}}"#,
        r#"{"spec": {"cpu": {"type": "Features", "features": ["avx"]}}}"#,
    ),
    rule(
        "VirtualMachineClass",
        "spec.sizingPolicies[].cores",
        "86d6e54b",
        "The maximum must be greater than the minimum",
        r#"{"spec": {"sizingPolicies": [{"cores": {"min": 4, "max": 4}}]}}"#,
        r#"{"spec": {"sizingPolicies": [{"cores": {"min": 4, "max": 5}}]}}"#,
    ),
    rule(
        "VirtualMachineClass",
        "spec.sizingPolicies[].cores",
        "808a932a",
        "The maximum must be greater than the step",
        r#"{"spec": {"sizingPolicies": [{"cores": {"min": 1, "max": 4, "step": 4}}]}}"#,
        r#"{"spec": {"sizingPolicies": [{"cores": {"min": 1, "max": 4, "step": 3}}]}}"#,
    ),
    rule(
        "VirtualMachineClass",
        "spec.sizingPolicies[].defaultCoreFraction",
        "e73ffb06",
        "The default core fraction must be a number from 1 to 100, or 'Auto'.",
        r#"{"spec": {"sizingPolicies": [{"cores": {"min": 1, "max": 4}, "defaultCoreFraction": "10%"}]}}"#,
        r#"{"spec": {"sizingPolicies": [{"cores": {"min": 1, "max": 4}, "defaultCoreFraction": "Auto"}]}}"#,
    ),
    rule(
        "VirtualMachineOperation",
        "spec",
        "f4f4adcf",
        ".spec is immutable",
        r#"{"spec": {"type": "Restart"}}"#,
        r#"{"metadata": {"labels": {"a": "b"}}}"#,
    ),
    rule(
        "VirtualMachineOperation",
        "spec",
        "30bfc174",
        "The `Start` operation cannot be performed forcibly.",
        r#"{"spec": {"type": "Start", "force": true}}"#,
        r#"{"spec": {"type": "Start", "force": false}}"#,
    ),
    rule(
        "VirtualMachineOperation",
        "spec",
        "f0e8cdfc",
        "Restore requires restore field.",
        r#"{"spec": {"type": "Restore"}}"#,
        r#"{"spec": {"type": "Restore", "restore": {"mode": "Strict", "virtualMachineSnapshotName": "s"}}}"#,
    ),
    rule(
        "VirtualMachineOperation",
        "spec",
        "8ce52627",
        "Clone requires clone field.",
        r#"{"spec": {"type": "Clone"}}"#,
        r#"{"spec": {"type": "Clone", "clone": {"mode": "Strict", "customization": {"namePrefix": "a"}}}}"#,
    ),
    rule(
        "VirtualMachineOperation",
        "spec",
        "f0bbc61e",
        "spec.migrate can only be set when spec.type is 'Migrate'",
        r#"{"spec": {"migrate": {}}}"#,
        r#"{"spec": {"type": "Migrate", "migrate": {}}}"#,
    ),
    rule(
        "VirtualMachineOperation",
        "spec.clone",
        "ea3c81ee",
        NAMES,
        r#"{"spec": {"type": "Clone", "clone": {"mode": "Strict", "customization": {}}}}"#,
        r#"{"spec": {"type": "Clone", "clone": {"mode": "Strict", "nameReplacement": [{"from": {"name": "a"}, "to": "b"}]}}}"#,
    ),
    rule(
        "VirtualMachineOperation",
        "spec.clone.customization",
        "d1bb250e",
        PREFIX,
        r#"{"spec": {"type": "Clone", "clone": {"mode": "Strict", "customization": {"namePrefix": "", "nameSuffix": "a"}}}}"#,
        r#"{"spec": {"type": "Clone", "clone": {"mode": "Strict", "customization": {"namePrefix": "a"}}}}"#,
    ),
    rule(
        "VirtualMachineOperation",
        "spec.clone.customization",
        "e1fc4ce5",
        SUFFIX,
        r#"{"spec": {"type": "Clone", "clone": {"mode": "Strict", "customization": {"nameSuffix":
            "123456789012345678901234567890123456789012345678901234567890"}}}}"#,
        r#"{"spec": {"type": "Clone", "clone": {"mode": "Strict", "customization": {"nameSuffix":
            "12345678901234567890123456789012345678901234567890123456789"}}}}"#,
    ),
    rule(
        "VirtualMachineOperation",
        "spec.clone.nameReplacement",
        "eea73604",
        TO,
        r#"{"spec": {"type": "Clone", "clone": {"mode": "Strict", "nameReplacement": [{"from": {"name": "a"},
            "to": "123456789012345678901234567890123456789012345678901234567890"}]}}}"#,
        r#"{"spec": {"type": "Clone", "clone": {"mode": "Strict", "nameReplacement": [{"from": {"name": "a"}, "to": "b"}]}}}"#,
    ),
    rule(
        "VirtualMachine",
        "spec",
        "fb19fa38",
        "should match '^(Auto|(100|[1-9][0-9]?)%)$'",
        r#"{"spec": {"cpu": {"coreFraction": "101%"}}}"#,
        r#"{"spec": {"cpu": {"coreFraction": "100%"}}}"#,
    ),
    rule(
        "VirtualMachine",
        "spec",
        "148f7ab1",
        "The Legacy osType requires the BIOS bootloader.",
        r#"{"spec": {"osType": "Legacy", "bootloader": "EFI"}}"#,
        r#"{"spec": {"osType": "Legacy", "bootloader": "BIOS"}}"#,
    ),
    rule(
        "VirtualMachine",
        "spec",
        "f7981ae4",
        "The Legacy osType does not support provisioning: such operating systems have no cloud-init or Sysprep support.",
        r##"{"spec": {"osType": "Legacy", "provisioning": {"type": "UserData", "userData": "#!"}}}"##,
        r##"{"spec": {"osType": "Generic", "provisioning": {"type": "UserData", "userData": "#!"}}}"##,
    ),
    rule(
        "VirtualMachine",
        "spec",
        "df971180",
        "The Legacy osType with enableParavirtualization=false supports at most 4 block devices.",
        r#"{"spec": {"osType": "Legacy", "enableParavirtualization": false, "blockDeviceRefs": [
            {"kind": "VirtualDisk", "name": "a"}, {"kind": "VirtualDisk", "name": "b"}, {"kind": "VirtualDisk", "name": "c"},
            {"kind": "VirtualDisk", "name": "d"}, {"kind": "VirtualDisk", "name": "e"}]}}"#,
        r#"{"spec": {"osType": "Legacy", "enableParavirtualization": false, "blockDeviceRefs": [
            {"kind": "VirtualDisk", "name": "a"}, {"kind": "VirtualDisk", "name": "b"}, {"kind": "VirtualDisk", "name": "c"},
            {"kind": "VirtualDisk", "name": "d"}]}}"#,
    ),
    // Filled up to 2049 and 2048 characters below.
    rule(
        "VirtualMachine",
        "spec.provisioning.userData",
        "e8d1cfe0",
        "`userData` exceeds 2048 byte limit; should use `userDataRef` for larger data.",
        r#"{"spec": {"provisioning": {"type": "UserData", "userData": "FILL 2049"}}}"#,
        r#"{"spec": {"provisioning": {"type": "UserData", "userData": "FILL 2048"}}}"#,
    ),
    rule(
        "VirtualMachineSnapshotOperation",
        "spec",
        "f4f4adcf",
        ".spec is immutable",
        r#"{"spec": {"virtualMachineSnapshotName": "other"}}"#,
        r#"{"metadata": {"labels": {"a": "b"}}}"#,
    ),
    // Speaks of a type that the enum does not have.
    rule(
        "VirtualMachineSnapshotOperation",
        "spec",
        "92897507",
        "",
        "{}",
        r#"{"spec": {"createVirtualMachine": null}}"#,
    ),
    rule(
        "VirtualMachineSnapshotOperation",
        "spec.createVirtualMachine",
        "ea3c81ee",
        NAMES,
        r#"{"spec": {"createVirtualMachine": {"customization": null}}}"#,
        "{}",
    ),
    rule(
        "VirtualMachineSnapshotOperation",
        "spec.createVirtualMachine.customization",
        "d1bb250e",
        PREFIX,
        r#"{"spec": {"createVirtualMachine": {"customization": {"namePrefix": "", "nameSuffix": "a"}}}}"#,
        "{}",
    ),
    rule(
        "VirtualMachineSnapshotOperation",
        "spec.createVirtualMachine.customization",
        "e1fc4ce5",
        SUFFIX,
        r#"{"spec": {"createVirtualMachine": {"customization": {"nameSuffix": ""}}}}"#,
        r#"{"spec": {"createVirtualMachine": {"customization": {"nameSuffix": "a"}}}}"#,
    ),
    rule(
        "VirtualMachineSnapshotOperation",
        "spec.createVirtualMachine.nameReplacement",
        "eea73604",
        TO,
        r#"{"spec": {"createVirtualMachine": {"nameReplacement": [{"from": {"name": "a"},
            "to": "123456789012345678901234567890123456789012345678901234567890"}]}}}"#,
        r#"{"spec": {"createVirtualMachine": {"nameReplacement": [{"from": {"name": "a"}, "to": "b"}]}}}"#,
    ),
];

/// An object of a kind that is accepted.
fn sample(kind: &KindInfo) -> Value {
    let spec = match kind.kind {
        "VirtualDisk" | "VirtualImage" | "ClusterVirtualImage" => {
            json!({"dataSource": {"type": "HTTP", "http": {"url": "http://x/y"}}})
        }
        "VirtualMachineClass" => json!({"cpu": {"type": "Host"}}),
        "VirtualMachineOperation" => json!({"type": "Stop", "virtualMachineName": "m"}),
        "VirtualMachineSnapshotOperation" => json!({"type": "CreateVirtualMachine", "virtualMachineSnapshotName": "s",
            "createVirtualMachine": {"mode": "Strict", "customization": {"namePrefix": "a"}}}),
        "VirtualMachine" => json!({"virtualMachineClassName": "c", "cpu": {"cores": 1}, "memory": {"size": "1Gi"},
            "blockDeviceRefs": [{"kind": "VirtualDisk", "name": "d"}]}),
        other => panic!("no sample of {other}"),
    };
    json!({"apiVersion": kind.api_version(), "kind": kind.kind, "metadata": {"name": "x"}, "spec": spec})
}

fn patched(base: &Value, patch: &str) -> Value {
    let mut object = base.clone();
    json_patch::merge(&mut object, &serde_json::from_str(patch).expect(patch));
    if let Some(Value::String(text)) = object.pointer_mut("/spec/provisioning/userData")
        && let Some(length) = text.strip_prefix("FILL ")
    {
        *text = format!("{:<1$}", "#cloud-config", length.parse().expect("a length"));
    }
    object
}

/// What our schema and rules say, as `path: message`.
fn said(kind: &KindInfo, old: Option<&Value>, object: &Value) -> Vec<(String, String)> {
    let schema = Schema::of(kind);
    let mut object = object.clone();
    assert_eq!(schema.prune(&mut object), Vec::<String>::new(), "{object}");
    schema.defaults(&mut object);
    let mut errors = schema.validate(&object);
    errors.extend(rules::validate(kind, old, &object));
    errors.into_iter().map(|e| (without_indices(&e.path), e.message)).collect()
}

fn without_indices(path: &str) -> String {
    let mut out = String::new();
    let mut inside = false;
    for c in path.chars() {
        inside = (inside || c == '[') && c != ']';
        if !inside || c == '[' {
            out.push(c);
        }
    }
    out
}

#[test]
fn every_rule_refuses_and_accepts() {
    for rule in RULES {
        let kind = KINDS.iter().find(|k| k.kind == rule.kind).expect(rule.kind);
        let base = sample(kind);
        let mut before = base.clone();
        Schema::of(kind).defaults(&mut before);
        // Rules about changes are for updates.
        let old = rule.message.ends_with("is immutable").then_some(&before);
        let accepted = said(kind, old, &patched(&base, rule.accepted));
        assert!(accepted.is_empty(), "{} {}: {accepted:?}", rule.kind, rule.accepted);
        if rule.message.is_empty() {
            continue;
        }
        let refused = said(kind, old, &patched(&base, rule.refused));
        // The pattern of a field is told at the field, not at the object that upstream's rule is on.
        let field = |path: &str| path == rule.path || rule.message.starts_with("should match");
        assert!(
            refused.iter().any(|(path, message)| field(path) && message.contains(rule.message)),
            "{} {}: {refused:?}",
            rule.kind,
            rule.refused
        );
    }
}
