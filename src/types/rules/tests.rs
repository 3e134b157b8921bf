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
                    "spec.provisioning.userData: Too long: may not be more than 2048 bytes: it has 2049 characters; move it",
                ],
            ),
            (json!({"spec": {"osType": "Legacy"}}), &[]),
            (json!({"spec": {"osType": "Legacy", "bootloader": "EFI"}}), &["spec.bootloader: Invalid value: \"EFI\""]),
            (
                json!({"spec": {"osType": "Legacy", "provisioning": {"type": "UserData", "userData": "x"}}}),
                &["spec.provisioning: Forbidden"],
            ),
            (
                json!({"spec": {"osType": "Legacy", "enableParavirtualization": false, "blockDeviceRefs": five}}),
                &["spec.blockDeviceRefs: Too many: 5: must have at most 4 items"],
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
            (json!({"spec": {"type": "Start", "force": true}}), &["spec.force: Forbidden"]),
            (json!({"spec": {"type": "Start", "force": false}}), &[]),
            (json!({"spec": {"type": "Restore"}}), &["spec.restore: Required value: the type is Restore"]),
            (json!({"spec": {"type": "Clone"}}), &["spec.clone: Required value"]),
            (
                json!({"spec": {"type": "Clone", "clone": {"mode": "Strict"}}}),
                &["spec.clone: Required value: at least"],
            ),
            (
                json!({"spec": {"type": "Clone", "clone": {"mode": "Strict", "customization": {"namePrefix": ""}}}}),
                &["namePrefix: Invalid value"],
            ),
            (
                json!({"spec": {"type": "Clone", "clone": {"mode": "Strict", "nameReplacement": [{"to": "x".repeat(60)}]}}}),
                &["nameReplacement[0].to: Invalid value"],
            ),
            (json!({"spec": {"migrate": {}}}), &["spec.migrate: Forbidden"]),
            (
                json!({"spec": {"type": "Migrate", "migrate": {"nodeSelector": {"a b": "c d"}}}}),
                &["spec.migrate.nodeSelector: Invalid value", "spec.migrate.nodeSelector.a b: Invalid value"],
            ),
        ],
    );
    let changed = with(base.clone(), json!({"spec": {"type": "Restart"}}));
    assert!(errors("vmop", Some(&base), &changed)[0].starts_with("spec: Forbidden: cannot be changed"));
    assert!(errors("vmop", Some(&base), &with(base.clone(), json!({"status": {"phase": "Failed"}}))).is_empty());
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
        (from(json!({"type": "HTTP"})), Some("spec.dataSource.http: Required value")),
        (
            from(json!({"type": "Upload", "http": {"url": "http://x"}})),
            Some("spec.dataSource.http: Forbidden: the type is Upload"),
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
    assert!(errors("cvi", None, &reference(json!("")))[0].contains("namespace: Required"));
    assert!(errors("cvi", None, &reference(json!("n".repeat(64))))[0].contains("namespace: Too long"));
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
            (json!({"spec": {"cpu": {"model": "x"}}}), &["spec.cpu.model: Forbidden"]),
            (json!({"spec": {"cpu": {"type": "Model"}}}), &["spec.cpu.model: Required value"]),
            (json!({"spec": {"cpu": {"type": "Model", "model": "Nehalem"}}}), &[]),
            (json!({"spec": {"cpu": {"type": "Features", "features": ["avx"]}}}), &[]),
            (json!({"spec": {"cpu": {"type": "Discovery", "features": ["avx"]}}}), &["spec.cpu.features: Forbidden"]),
            (policy(json!([{"cores": {"min": 1, "max": 4}}, {"cores": {"min": 5, "max": 8}}])), &[]),
            (policy(json!([{"cores": {"min": 4, "max": 4}}])), &["[0].cores.max: Invalid value: 4"]),
            (policy(json!([{"cores": {"min": 1, "max": 4, "step": 4}}])), &["[0].cores.step: Invalid value: 4"]),
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
