use serde_json::json;

use super::*;
use crate::types::kinds::{KINDS, find};

fn errors(word: &str, old: Option<&Value>, new: &Value) -> Vec<String> {
    let kind = find(word).expect("kind");
    validate(kind, old, new).iter().map(ToString::to_string).collect()
}

/// Merges a patch into an object.
fn with(mut object: Value, patch: Value) -> Value {
    json_patch::merge(&mut object, &patch);
    object
}

fn vm() -> Value {
    json!({"metadata": {"name": "vm"}, "spec": {"virtualMachineClassName": "host", "cpu": {"cores": 1},
        "memory": {"size": "1Gi"}, "blockDeviceRefs": [{"kind": "VirtualDisk", "name": "root"}]}})
}

/// Checks that each patch leads to exactly the errors that begin like the given texts.
fn table(word: &str, base: &Value, rows: &[(Value, &[&str])]) {
    for (patch, expected) in rows {
        let new = with(base.clone(), patch.clone());
        let found = errors(word, None, &new);
        assert_eq!(found.len(), expected.len(), "{patch}: {found:#?}");
        for (found, expected) in found.iter().zip(*expected) {
            assert!(found.contains(expected), "{patch}: {found}");
        }
    }
}

#[test]
fn machines() {
    let device = |kind: &str, name: &str| json!({"kind": kind, "name": name});
    let five: Vec<Value> = (0..5).map(|n| device("VirtualDisk", &n.to_string())).collect();
    table(
        "vm",
        &vm(),
        &[
            (json!({}), &[]),
            (json!({"metadata": {"name": "x".repeat(63)}}), &[]),
            (json!({"metadata": {"name": "x".repeat(64)}}), &["metadata.name: Invalid value"]),
            (json!({"metadata": {"labels": {"kubevirt.io/x": "", "a": ""}}}), &["metadata.labels: Forbidden"]),
            (json!({"metadata": {"annotations": {"vm.kubevirt.io/x": ""}}}), &["metadata.annotations: Forbidden"]),
            (json!({"metadata": {"labels": {"notkubevirt.io/x": ""}}}), &[]),
            (json!({"spec": {"cpu": {"cores": 17}}}), &["spec.cpu.cores: Invalid value: 17: so many cores"]),
            (json!({"spec": {"cpu": {"cores": 249}}}), &["should not exceed 248"]),
            (json!({"spec": {"cpu": {"coreFraction": "Auto"}}}), &["spec.cpu.coreFraction: Invalid value: \"Auto\""]),
            (json!({"spec": {"memory": {"size": "0"}}}), &["spec.memory.size: Invalid value: \"0\""]),
            (json!({"spec": {"blockDeviceRefs": [device("VirtualDisk", "a"), device("VirtualImage", "a")]}}), &[]),
            (
                json!({"spec": {"blockDeviceRefs": [device("VirtualDisk", "a"), device("VirtualDisk", "a")]}}),
                &[r#"spec.blockDeviceRefs[1]: Duplicate value: {"kind":"VirtualDisk","name":"a"}"#],
            ),
            (
                json!({"spec": {"blockDeviceRefs": [{"kind": "VirtualDisk", "name": "a", "bootOrder": 1},
                    {"kind": "VirtualImage", "name": "b", "bootOrder": 1}]}}),
                &["spec.blockDeviceRefs[1].bootOrder: Invalid value: 1: both VirtualDisk a and VirtualImage b"],
            ),
            (json!({"spec": {"provisioning": {"type": "UserData", "userData": "#cloud-config"}}}), &[]),
            (
                json!({"spec": {"provisioning": {"type": "UserData"}}}),
                &["spec.provisioning.userData: Required value: the type is UserData"],
            ),
            (
                json!({"spec": {"provisioning": {"type": "UserDataRef", "userDataRef": {"name": "s"}, "userData": "x"}}}),
                &["spec.provisioning.userData: Forbidden: the type is UserDataRef"],
            ),
            (json!({"spec": {"provisioning": {"type": "UserData", "userData": "é".repeat(2048)}}}), &[]),
            (
                json!({"spec": {"provisioning": {"type": "UserData", "userData": "x".repeat(2049)}}}),
                &[
                    "spec.provisioning.userData: Invalid value: \"string\": `userData` exceeds 2048 byte limit; should use",
                ],
            ),
            (json!({"spec": {"osType": "Legacy"}}), &[]),
            (
                json!({"spec": {"osType": "Legacy", "bootloader": "EFI"}}),
                &["The Legacy osType requires the BIOS bootloader."],
            ),
            (
                json!({"spec": {"osType": "Legacy", "provisioning": {"type": "UserData", "userData": "x"}}}),
                &["The Legacy osType does not support provisioning"],
            ),
            (
                json!({"spec": {"osType": "Legacy", "enableParavirtualization": false, "blockDeviceRefs": five}}),
                &[
                    "spec: Invalid value: \"object\": The Legacy osType with enableParavirtualization=false supports at most 4",
                ],
            ),
            (json!({"spec": {"networks": [{"type": "Main", "id": 1}]}}), &[]),
            (
                json!({"spec": {"networks": [{"type": "Main", "name": "x", "id": 2}]}}),
                &["networks[0].id: Invalid value: 2", "networks[0].name: Forbidden"],
            ),
            (
                json!({"spec": {"networks": [{"type": "Network"}], "virtualMachineIPAddressName": "ip"}}),
                &["networks[0].name: Required", "networks[0].type: Invalid value", "spec.virtualMachineIPAddressName"],
            ),
            (json!({"spec": {"nodeSelector": {"a/b/c": "x"}}}), &["spec.nodeSelector: Invalid value"]),
            (
                json!({"spec": {"affinity": {"virtualMachineAndPodAffinity": {
                    "requiredDuringSchedulingIgnoredDuringExecution": [{"labelSelector": {"matchExpressions":
                        [{"key": "a", "operator": "Near"}]}}]}}}}),
                &["[0].topologyKey: Required value", "[0].labelSelector: Invalid value"],
            ),
            (
                json!({"spec": {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
                    {"nodeSelectorTerms": [{"matchExpressions": [{"key": "a", "operator": "Near"}]}]}}}}}),
                &["spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution: Invalid value"],
            ),
        ],
    );
}

#[test]
fn placement_of_machines() {
    let tolerate = |toleration: Value| json!({"spec": {"tolerations": [toleration]}});
    let spread = |patch: Value| {
        let base = json!({"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"});
        json!({"spec": {"topologySpreadConstraints": [with(base, patch)]}})
    };
    let prefer = |weight: i64, operator: &str| {
        json!({"spec": {"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
            {"weight": weight, "preference": {"matchExpressions": [{"key": "a", "operator": operator}]}}]}}}})
    };
    table(
        "vm",
        &vm(),
        &[
            (tolerate(json!({"key": "a", "operator": "Equal", "value": "b", "effect": "NoSchedule"})), &[]),
            (tolerate(json!({"operator": "Exists"})), &[]),
            (tolerate(json!({"key": "a", "effect": "NoExecute", "tolerationSeconds": 5})), &[]),
            (
                tolerate(json!({"value": "b"})),
                &["spec.tolerations[0].operator: Invalid value: \"\": operator must be Exists"],
            ),
            (tolerate(json!({"key": "a b"})), &["spec.tolerations[0].key: Invalid value"]),
            (tolerate(json!({"key": "a", "operator": "Exists", "value": "b"})), &["value must be empty when"]),
            (tolerate(json!({"key": "a", "operator": "Near"})), &["[0].operator: Unsupported value: \"Near\""]),
            (tolerate(json!({"key": "a", "effect": "Never"})), &["[0].effect: Unsupported value: \"Never\""]),
            (tolerate(json!({"key": "a", "tolerationSeconds": 5})), &["effect must be 'NoExecute'"]),
            (spread(json!({})), &[]),
            (spread(json!({"maxSkew": 0})), &["[0].maxSkew: Invalid value: 0: must be greater than zero"]),
            (spread(json!({"topologyKey": null})), &["[0].topologyKey: Required value"]),
            (spread(json!({"whenUnsatisfiable": "Cry"})), &["[0].whenUnsatisfiable: Unsupported value: \"Cry\""]),
            (prefer(1, "Exists"), &[]),
            (prefer(101, "Exists"), &["[0].weight: Invalid value: 101: must be in the range 1-100"]),
            (prefer(100, "Near"), &["[0].preference: Invalid value"]),
            (
                json!({"spec": {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {}}}}}),
                &["nodeSelectorTerms: Required value"],
            ),
            (json!({"spec": {"usbDevices": [{"name": "a"}, {"name": "b"}]}}), &[]),
            (json!({"spec": {"usbDevices": [{"name": "a"}, {"name": "a"}]}}), &["spec.usbDevices[1].name: Duplicate"]),
        ],
    );
    let twice = json!([{"maxSkew": 1, "topologyKey": "z", "whenUnsatisfiable": "DoNotSchedule"},
        {"maxSkew": 2, "topologyKey": "z", "whenUnsatisfiable": "DoNotSchedule"}]);
    let found = errors("vm", None, &with(vm(), json!({"spec": {"topologySpreadConstraints": twice}})));
    assert!(found.len() == 1 && found[0].contains("Duplicate value: \"{z, DoNotSchedule}\""), "{found:?}");
}

#[test]
fn machine_warnings() {
    let kind = find("vm").expect("kind");
    let new = with(
        vm(),
        json!({"spec": {"osType": "Legacy", "usbDevices": [{"name": "u"}], "provisioning":
        {"type": "UserData", "userData": "hello"}}}),
    );
    let found = warnings(kind, None, &new);
    assert_eq!(found.len(), 3, "{found:#?}");
    assert_eq!(warnings(kind, Some(&new), &new), Vec::<String>::new());
    let off = with(vm(), json!({"spec": {"enableParavirtualization": false}}));
    let changed = with(off.clone(), json!({"spec": {"blockDeviceRefs": [{"kind": "VirtualDisk", "name": "b"}]}}));
    assert!(warnings(kind, Some(&off), &changed)[0].contains("restart the machine"));
}

#[test]
fn operations() {
    let base = json!({"metadata": {"name": "o"}, "spec": {"type": "Stop", "virtualMachineName": "vm"}});
    table(
        "vmop",
        &base,
        &[
            (json!({"spec": {"force": true}}), &[]),
            (
                json!({"spec": {"type": "Start", "force": true}}),
                &["spec: Invalid value: \"object\": The `Start` operation cannot be performed forcibly."],
            ),
            (json!({"spec": {"type": "Start", "force": false}}), &[]),
            (
                json!({"spec": {"type": "Restore"}}),
                &["spec: Invalid value: \"object\": Restore requires restore field."],
            ),
            (json!({"spec": {"type": "Clone"}}), &["Clone requires clone field."]),
            (
                json!({"spec": {"type": "Clone", "clone": {"mode": "Strict"}}}),
                &["spec.clone: Invalid value: \"object\": At least one of"],
            ),
            (
                json!({"spec": {"type": "Clone", "clone": {"mode": "Strict", "customization": {"namePrefix": ""}}}}),
                &[
                    "spec.clone: Invalid value",
                    "spec.clone.customization: Invalid value: \"object\": namePrefix length",
                ],
            ),
            (
                json!({"spec": {"type": "Clone", "clone": {"mode": "Strict", "nameReplacement": [{"to": "x".repeat(60)}]}}}),
                &["spec.clone.nameReplacement: Invalid value: \"object\": Each nameReplacement.to"],
            ),
            (json!({"spec": {"migrate": {}}}), &["spec.migrate can only be set when"]),
            (json!({"spec": {"type": "Migrate", "migrate": {"nodeSelector": {}}}}), &[]),
            (
                json!({"spec": {"type": "Migrate", "migrate": {"nodeSelector": {"a": "b"}}}}),
                &["spec.migrate.nodeSelector: Forbidden: choosing the target node is not available"],
            ),
            (
                json!({"spec": {"type": "Migrate", "migrate": {"nodeSelector": {"a b": "c d"}}}}),
                &["spec.migrate.nodeSelector: Invalid value", "spec.migrate.nodeSelector.a b: Invalid value"],
            ),
        ],
    );
    let changed = with(base.clone(), json!({"spec": {"type": "Restart"}}));
    assert!(
        errors("vmop", Some(&base), &changed)[0].starts_with("spec: Invalid value: \"object\": .spec is immutable")
    );
    assert!(errors("vmop", Some(&base), &with(base.clone(), json!({"status": {"phase": "Failed"}}))).is_empty());
}

#[test]
fn snapshots_and_their_operations() {
    for (word, spec) in [("vds", json!({"virtualDiskName": "d"})), ("vms", json!({"virtualMachineName": "m"}))] {
        let base = json!({"metadata": {"name": "s"}, "spec": spec});
        let changed = with(base.clone(), json!({"spec": {"requiredConsistency": false}}));
        assert!(errors(word, None, &base).is_empty());
        assert!(errors(word, Some(&base), &changed)[0].starts_with("spec: Forbidden: cannot be changed"));
        let labelled = with(base.clone(), json!({"metadata": {"labels": {"a": "b"}}, "status": {"phase": "Ready"}}));
        assert!(errors(word, Some(&base), &labelled).is_empty());
    }
    let base = json!({"metadata": {"name": "o"}, "spec": {"type": "CreateVirtualMachine",
        "virtualMachineSnapshotName": "s", "createVirtualMachine": {"mode": "Strict"}}});
    let create = |patch: Value| json!({"spec": {"createVirtualMachine": patch}});
    table(
        "vmsop",
        &base,
        &[
            (json!({}), &["spec.createVirtualMachine: Invalid value: \"object\": At least one of"]),
            (create(json!({"customization": {"namePrefix": "a-"}})), &[]),
            (create(json!({"customization": {"nameSuffix": "x".repeat(60)}})), &["nameSuffix length must be between"]),
            (create(json!({"nameReplacement": [{"from": {"name": "a"}, "to": "b"}]})), &[]),
            (create(json!({"nameReplacement": [{"to": "b"}, {"to": ""}]})), &["59 characters: see entry 1"]),
            (create(json!(null)), &[]),
        ],
    );
    let kind = find("vmsop").expect("kind");
    assert_eq!(warnings(kind, None, &with(base.clone(), create(json!(null)))).len(), 1);
    let changed = with(base.clone(), json!({"spec": {"virtualMachineSnapshotName": "t"}}));
    assert!(errors("vmsop", Some(&base), &changed)[0].contains(".spec is immutable"));
}

#[test]
fn mac_addresses() {
    let mac = |address: Value, phase: &str| {
        json!({"metadata": {"name": "a"}, "spec": {"address": address},
        "status": {"phase": phase, "address": "02:00:00:00:00:01"}})
    };
    let (one, two) = (json!("02:00:00:00:00:01"), json!("02:00:00:00:00:02"));
    for (phase, fine) in [("", true), ("Pending", true), ("Bound", false), ("Attached", false)] {
        let found = errors("vmmac", Some(&mac(one.clone(), phase)), &mac(two.clone(), phase));
        assert_eq!(found.is_empty(), fine, "{phase}: {found:?}");
    }
    for (name, valid) in [("mac-02-00-00-00-00-01", true), ("mac-02-00-00-00-00", false), ("02-00-00-00-00-01", false)]
    {
        assert_eq!(errors("vmmacl", None, &json!({"metadata": {"name": name}})).is_empty(), valid, "{name}");
    }
}

#[test]
fn attachments_cannot_change() {
    let base = json!({"metadata": {"name": "a"}, "spec": {"virtualMachineName": "vm"}});
    let changed = with(base.clone(), json!({"spec": {"virtualMachineName": "other"}}));
    assert!(errors("vmbda", Some(&base), &changed)[0].starts_with("spec: Forbidden"));
    assert!(errors("vmbda", None, &base).is_empty());
}

#[test]
fn disks_and_images() {
    let sized = |size: &str| json!({"metadata": {"name": "d"}, "spec": {"persistentVolumeClaim": {"size": size}}});
    let from = |source: Value| json!({"metadata": {"name": "d"}, "spec": {"dataSource": source}});
    for (new, expected) in [
        (sized("1Gi"), None),
        (sized("0"), Some("size: Invalid value: \"0\"")),
        (json!({"metadata": {"name": "d"}, "spec": {}}), Some("size: Required value: a blank disk needs a size")),
        (with(sized("1Gi"), json!({"metadata": {"name": "a.b"}})), Some("metadata.name: Invalid value")),
        (from(json!({"type": "HTTP", "http": {"url": "http://x"}})), None),
        (from(json!({"type": "Upload"})), None),
        (from(json!({"type": "HTTP"})), Some("spec.dataSource: Invalid value: \"object\": HTTP requires http")),
        (
            from(json!({"type": "Upload", "http": {"url": "http://x"}})),
            Some("spec.dataSource: Invalid value: \"object\": Upload cannot have HTTP"),
        ),
    ] {
        let found = errors("vd", None, &new);
        assert_eq!(found.len(), usize::from(expected.is_some()), "{new}: {found:#?}");
        assert!(expected.is_none_or(|e| found[0].contains(e)), "{found:#?}");
    }

    let ready = with(sized("2Gi"), json!({"spec": {"dataSource": {"type": "Upload"}}, "status": {"phase": "Ready"}}));
    for (patch, expected) in [
        (json!({"spec": {"persistentVolumeClaim": {"size": "3Gi"}}}), None),
        (json!({"spec": {"persistentVolumeClaim": {"size": "2048Mi"}}}), None),
        (json!({"spec": {"persistentVolumeClaim": {"size": "1Gi"}}}), Some("cannot shrink")),
        (json!({"spec": {"persistentVolumeClaim": {"size": null}}}), Some("cannot be removed")),
        (json!({"spec": {"persistentVolumeClaim": {"storageClassName": "x"}}}), Some("storage class")),
        (
            json!({"spec": {"dataSource": {"type": "HTTP", "http": {"url": "http://x"}}}}),
            Some("spec.dataSource: Forbidden: cannot be changed"),
        ),
    ] {
        let found = errors("vd", Some(&ready), &with(ready.clone(), patch.clone()));
        assert_eq!(found.len(), usize::from(expected.is_some()), "{patch}: {found:#?}");
        assert!(expected.is_none_or(|e| found[0].contains(e)), "{found:#?}");
    }
    let pending = with(ready.clone(), json!({"status": {"phase": "Provisioning"}}));
    let other = json!({"spec": {"dataSource": {"type": "HTTP", "http": {"url": "http://x"}}}});
    assert!(errors("vd", Some(&pending), &with(pending.clone(), other.clone())).is_empty());
    let going = with(ready.clone(), json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}));
    assert!(errors("vd", Some(&going), &with(going.clone(), other.clone()))[0].contains("being deleted"));
    assert!(errors("vd", Some(&going), &with(going.clone(), json!({"metadata": {"labels": {"a": "b"}}}))).is_empty());

    let image = json!({"metadata": {"name": "i"}, "spec": {"storage": "ContainerRegistry",
        "dataSource": {"type": "Upload"}}, "status": {"phase": "Ready"}});
    assert!(errors("vi", Some(&image), &with(image.clone(), other.clone()))[0].contains("spec.dataSource"));
    assert!(errors("cvi", Some(&image), &with(image.clone(), other))[0].contains("spec: Forbidden"));
    let reference = |namespace: Value| {
        json!({"metadata": {"name": "i"}, "spec": {"dataSource": {"type": "ObjectRef",
            "objectRef": {"kind": "VirtualDisk", "name": "d", "namespace": namespace}}}})
    };
    assert!(errors("cvi", None, &reference(json!("ns"))).is_empty());
    assert!(errors("cvi", None, &reference(json!("")))[0].contains("The namespace is required for"));
    assert!(errors("cvi", None, &reference(json!("n".repeat(64))))[0].contains("must be no longer than 63"));
}

#[test]
fn addresses() {
    let ip = |type_: &str, address: &str| {
        let mut spec = json!({"type": type_});
        if !address.is_empty() {
            spec["staticIP"] = json!(address);
        }
        json!({"metadata": {"name": "ip"}, "spec": spec})
    };
    for (new, expected) in [
        (ip("Auto", ""), None),
        (ip("Static", "10.0.0.5"), None),
        (ip("Static", ""), Some("the 'Static IP' field should be set")),
        (ip("Static", "10.0.0"), Some("not a valid textual representation")),
        (ip("Auto", "10.0.0.5"), Some("spec.staticIP: Forbidden")),
    ] {
        let found = errors("vmip", None, &new);
        assert_eq!(found.len(), usize::from(expected.is_some()), "{new}: {found:#?}");
        assert!(expected.is_none_or(|e| found[0].contains(e)), "{found:#?}");
    }
    let bound = |object: Value| with(object, json!({"status": {"phase": "Bound", "address": "10.0.0.5"}}));
    let auto = bound(ip("Auto", ""));
    let fixed = bound(ip("Static", "10.0.0.5"));
    assert!(errors("vmip", Some(&auto), &fixed).is_empty());
    assert!(errors("vmip", Some(&auto), &bound(ip("Static", "10.0.0.6")))[0].contains("10.0.0.5"));
    assert!(errors("vmip", Some(&fixed), &auto)[0].starts_with("spec.type: Forbidden"));
    assert!(errors("vmip", Some(&fixed), &bound(ip("Static", "10.0.0.6")))[0].starts_with("spec.staticIP: Forbidden"));
    for (name, valid) in [("ip-10-66-10-14", true), ("ip-10-66-10", false), ("10-66-10-14", false)] {
        assert_eq!(errors("vmipl", None, &json!({"metadata": {"name": name}})).is_empty(), valid, "{name}");
    }
}

#[test]
fn classes() {
    let base = json!({"metadata": {"name": "c"}, "spec": {"cpu": {"type": "Host"}}});
    let policy = |policies: Value| json!({"spec": {"sizingPolicies": policies}});
    table(
        "vmclass",
        &base,
        &[
            (json!({}), &[]),
            (json!({"spec": {"cpu": {"model": "x"}}}), &["HostPassthrough and Host cannot have model"]),
            (
                json!({"spec": {"cpu": {"type": "Model"}}}),
                &["spec.cpu: Invalid value: \"object\": Model requires model"],
            ),
            (json!({"spec": {"cpu": {"type": "Model", "model": "Nehalem"}}}), &[]),
            (json!({"spec": {"cpu": {"type": "Features", "features": ["avx"]}}}), &[]),
            (
                json!({"spec": {"cpu": {"type": "Discovery", "features": ["avx"]}}}),
                &["Discovery cannot have model or features"],
            ),
            (policy(json!([{"cores": {"min": 1, "max": 4}}, {"cores": {"min": 5, "max": 8}}])), &[]),
            (
                policy(json!([{"cores": {"min": 4, "max": 4}}])),
                &["[0].cores: Invalid value: \"object\": The maximum must be greater than the minimum"],
            ),
            (
                policy(json!([{"cores": {"min": 1, "max": 4, "step": 4}}])),
                &["[0].cores: Invalid value: \"object\": The maximum must be greater than the step"],
            ),
            (
                policy(json!([{"cores": {"min": 1, "max": 4}}, {"cores": {"min": 4, "max": 8}}])),
                &[
                    "[1].cores: Invalid value: {\"min\":4,\"max\":8}: the range overlaps with that of spec.sizingPolicies[0]",
                ],
            ),
            (policy(json!([{}])), &["[0].cores: Required value"]),
            (
                policy(json!([{"cores": {"min": 1, "max": 4}, "coreFractions": [5, 10], "defaultCoreFraction": 20}])),
                &["[0].defaultCoreFraction: Invalid value: 20: must be among coreFractions: 5%, 10%"],
            ),
            (
                policy(json!([{"cores": {"min": 1, "max": 4}, "coreFractions": [5], "defaultCoreFraction": "Auto"}])),
                &[],
            ),
            (policy(json!([{"cores": {"min": 1, "max": 4}, "defaultCoreFraction": 101}])), &["from 1 to 100"]),
        ],
    );
    let changed = with(base.clone(), json!({"spec": {"cpu": {"type": "HostPassthrough"}}}));
    assert!(errors("vmclass", Some(&base), &changed)[0].contains(".spec.cpu is immutable"));
}

#[test]
fn nonsense_is_no_panic_and_status_writes_pass() {
    for kind in KINDS {
        for object in [json!({}), json!(null), json!({"spec": [], "metadata": 1}), json!({"spec": {"cpu": "x"}})] {
            validate(kind, None, &object);
            warnings(kind, Some(&json!({})), &object);
        }
    }
    let bad = with(vm(), json!({"spec": {"cpu": {"cores": 17}}}));
    assert!(errors("vm", Some(&bad), &with(bad.clone(), json!({"metadata": {"finalizers": ["a/b"]}}))).is_empty());
}
