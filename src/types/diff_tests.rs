//! The change tables of upstream.md 5.2 to 5.4.

use super::*;

fn spec() -> Value {
    json!({
        "virtualMachineClassName": "host",
        "cpu": {"cores": 1, "coreFraction": "10%"},
        "memory": {"size": "1Gi"},
        "blockDeviceRefs": [{"kind": "VirtualDisk", "name": "root"}, {"kind": "VirtualDisk", "name": "data"}],
    })
}

/// Entries of (merge patch on the base spec).
fn entries(patch: Value) -> Vec<Value> {
    let mut desired = spec();
    json_patch::merge(&mut desired, &patch);
    restart_entries(&changes(&spec(), &desired, Profile::Guide))
}

#[test]
fn the_guides_own_example() {
    assert_eq!(
        entries(json!({"cpu": {"cores": 2}})),
        [json!({"currentValue": 1, "desiredValue": 2, "operation": "replace", "path": "cpu.cores"})]
    );
}

#[test]
fn table_of_fields() {
    for (patch, expected) in [
        (json!({}), json!([])),
        (json!({"runPolicy": "Manual"}), json!([])),
        (json!({"disruptions": {"restartApprovalMode": "Automatic"}}), json!([])),
        (json!({"liveMigrationPolicy": "AlwaysSafe"}), json!([])),
        // Empty to default is no change.
        (json!({"terminationGracePeriodSeconds": 60, "osType": "Generic", "bootloader": "BIOS"}), json!([])),
        (json!({"memory": {"size": "1024Mi"}}), json!([])),
        (
            json!({"memory": {"size": "2Gi"}}),
            json!([{"currentValue": "1Gi", "desiredValue": "2Gi", "operation": "replace", "path": "memory.size"}]),
        ),
        (
            json!({"enableParavirtualization": false}),
            json!([{"desiredValue": false, "operation": "add", "path": "enableParavirtualization"}]),
        ),
        (
            json!({"virtualMachineIPAddressName": "ip"}),
            json!([{"desiredValue": "ip", "operation": "add", "path": "virtualMachineIPAddress"}]),
        ),
        (
            json!({"cpu": {"cores": 2, "coreFraction": "20%"}}),
            json!([{"currentValue": {"cores": 1, "coreFraction": "10%"},
                "desiredValue": {"cores": 2, "coreFraction": "20%"}, "operation": "replace", "path": "cpu"}]),
        ),
        (
            json!({"cpu": {"coreFraction": null}}),
            json!([{"currentValue": "10%", "operation": "remove", "path": "cpu.coreFraction"}]),
        ),
        (
            json!({"nodeSelector": {"disktype": "ssd"}}),
            json!([{"desiredValue": {"disktype": "ssd"}, "operation": "add", "path": "nodeSelector"}]),
        ),
        (
            json!({"provisioning": {"type": "UserData", "userData": "x"}}),
            json!([{"desiredValue": {"type": "UserData", "userData": "x"}, "operation": "add", "path": "provisioning"}]),
        ),
        (json!({"somethingNew": 1}), json!([{"desiredValue": 1, "operation": "add", "path": "somethingNew"}])),
    ] {
        assert_eq!(Value::Array(entries(patch.clone())), expected, "{patch}");
    }
}

#[test]
fn block_devices_by_identity() {
    let device = |kind: &str, name: &str| json!({"kind": kind, "name": name});
    let (root, data, iso) =
        (device("VirtualDisk", "root"), device("VirtualDisk", "data"), device("ClusterVirtualImage", "iso"));
    for (desired, expected) in [
        (
            json!([root, iso]),
            json!([{"currentValue": data, "desiredValue": iso, "operation": "replace", "path": "blockDeviceRefs.1"}]),
        ),
        (json!([root]), json!([{"currentValue": data, "operation": "remove", "path": "blockDeviceRefs.1"}])),
        (json!([root, data, iso]), json!([{"desiredValue": iso, "operation": "add", "path": "blockDeviceRefs.2"}])),
        (
            json!([data, root]),
            json!([
                {"currentValue": root, "desiredValue": data, "operation": "replace", "path": "blockDeviceRefs.0"},
                {"currentValue": data, "desiredValue": root, "operation": "replace", "path": "blockDeviceRefs.1"},
            ]),
        ),
        // A boot order alone takes effect at the next start and is not listed.
        (json!([{"kind": "VirtualDisk", "name": "root", "bootOrder": 1}, data]), json!([])),
    ] {
        assert_eq!(Value::Array(entries(json!({"blockDeviceRefs": desired}))), expected, "{desired}");
    }
}

#[test]
fn paths_sort_as_strings() {
    let device = |i: usize| json!({"kind": "VirtualDisk", "name": format!("d{i}")});
    let many: Vec<Value> = (0..12).map(device).collect();
    let current = json!({"blockDeviceRefs": [device(0)]});
    let desired = json!({"blockDeviceRefs": many});
    let paths: Vec<_> = changes(&current, &desired, Profile::Guide).into_iter().map(|c| c.path).collect();
    assert_eq!(paths[..4], ["blockDeviceRefs.1", "blockDeviceRefs.10", "blockDeviceRefs.11", "blockDeviceRefs.2"]);
}

#[test]
fn provisioning_content_and_type() {
    let with = |p: Value| {
        let mut s = spec();
        s["provisioning"] = p;
        s
    };
    let a = with(json!({"type": "UserData", "userData": "a"}));
    let b = with(json!({"type": "UserData", "userData": "b"}));
    let c = with(json!({"type": "UserDataRef", "userDataRef": {"kind": "Secret", "name": "s"}}));
    assert_eq!(changes(&a, &b, Profile::Guide)[0].path, "provisioning.userData");
    let typed = &changes(&a, &c, Profile::Guide)[0];
    assert_eq!((typed.path.as_str(), &typed.current_value), ("provisioning", &Some(json!("UserData"))));
    assert_eq!(changes(&a, &spec(), Profile::Current)[0].effect, Effect::Immediate);
    assert_eq!(changes(&a, &spec(), Profile::Guide)[0].effect, Effect::Restart);
}

#[test]
fn networks_ignore_ids_and_the_implicit_main() {
    let with = |n: Value| json!({"networks": n});
    let implicit = json!({});
    assert!(changes(&implicit, &with(json!([{"type": "Main", "id": 1}])), Profile::Guide).is_empty());
    let more = with(json!([{"type": "Main"}, {"type": "Network", "name": "n"}]));
    assert_eq!(changes(&implicit, &more, Profile::Current)[0].effect, Effect::Immediate);
}

/// upstream.md 5.3, row by row: the field, its path, and when it takes effect by the guide and by newer releases.
/// `None`: the change is none.
#[test]
fn every_field_of_the_change_table() {
    use Effect::{Immediate, Restart};
    let term = json!({"nodeAffinity": {}});
    let spread = json!([{"topologyKey": "zone"}]);
    for (before, after, expected) in [
        (json!({}), json!({"virtualMachineClassName": "generic"}), Some(("virtualMachineClassName", Restart, Restart))),
        (json!({}), json!({"runPolicy": "Manual"}), Some(("runPolicy", Immediate, Immediate))),
        (
            json!({"runPolicy": "AlwaysOff"}),
            json!({"runPolicy": "AlwaysOn"}),
            Some(("runPolicy", Immediate, Immediate)),
        ),
        (json!({}), json!({"virtualMachineIPAddressName": "ip"}), Some(("virtualMachineIPAddress", Restart, Restart))),
        (
            json!({}),
            json!({"topologySpreadConstraints": spread}),
            Some(("topologySpreadConstraints", Restart, Restart)),
        ),
        (json!({}), json!({"affinity": term}), Some(("affinity", Restart, Restart))),
        (
            json!({"nodeSelector": {"a": "1"}}),
            json!({"nodeSelector": {"a": "2"}}),
            Some(("nodeSelector", Restart, Restart)),
        ),
        (json!({}), json!({"priorityClassName": "high"}), Some(("priorityClassName", Restart, Restart))),
        (json!({}), json!({"tolerations": [{"operator": "Exists"}]}), Some(("tolerations", Restart, Restart))),
        (
            json!({}),
            json!({"disruptions": {"restartApprovalMode": "Automatic"}}),
            Some(("disruptions.restartApprovalMode", Effect::None, Effect::None)),
        ),
        (json!({}), json!({"disruptions": {"restartApprovalMode": "Manual"}}), None),
        (
            json!({}),
            json!({"terminationGracePeriodSeconds": 5}),
            Some(("terminationGracePeriodSeconds", Restart, Restart)),
        ),
        (json!({}), json!({"terminationGracePeriodSeconds": 60}), None),
        (json!({}), json!({"enableParavirtualization": false}), Some(("enableParavirtualization", Restart, Restart))),
        (json!({}), json!({"enableParavirtualization": true}), None),
        (json!({}), json!({"osType": "Windows"}), Some(("osType", Restart, Restart))),
        (json!({}), json!({"osType": "Generic"}), None),
        (json!({}), json!({"bootloader": "EFI"}), Some(("bootloader", Restart, Restart))),
        (json!({}), json!({"bootloader": "BIOS"}), None),
        (json!({}), json!({"cpu": {"cores": 2}}), Some(("cpu.cores", Restart, Restart))),
        (json!({}), json!({"cpu": {"coreFraction": "20%"}}), Some(("cpu.coreFraction", Restart, Restart))),
        (json!({"cpu": {"coreFraction": null}}), json!({"cpu": {"coreFraction": "100%"}}), None),
        (json!({}), json!({"cpu": {"cores": 2, "coreFraction": "20%"}}), Some(("cpu", Restart, Restart))),
        (json!({}), json!({"memory": {"size": "2Gi"}}), Some(("memory.size", Restart, Restart))),
        (
            json!({}),
            json!({"blockDeviceRefs": [{"kind": "VirtualDisk", "name": "root"}]}),
            Some(("blockDeviceRefs.1", Restart, Immediate)),
        ),
        (
            json!({"blockDeviceRefs": []}),
            json!({"blockDeviceRefs": [{"kind": "VirtualDisk", "name": "root"}]}),
            Some(("blockDeviceRefs", Restart, Immediate)),
        ),
        (
            json!({}),
            json!({"provisioning": {"type": "UserData", "userData": "x"}}),
            Some(("provisioning", Restart, Restart)),
        ),
        (
            json!({"provisioning": {"type": "UserData", "userData": "x"}}),
            json!({"provisioning": null}),
            Some(("provisioning", Restart, Immediate)),
        ),
        (
            json!({"provisioning": {"type": "SysprepRef", "sysprepRef": {"name": "s"}}}),
            json!({"provisioning": null}),
            Some(("provisioning", Restart, Restart)),
        ),
        (
            json!({"provisioning": {"type": "UserDataRef", "userDataRef": {"name": "s"}}}),
            json!({"provisioning": {"userDataRef": {"name": "t"}}}),
            Some(("provisioning.userDataRef.name", Restart, Restart)),
        ),
        (
            json!({"provisioning": {"type": "UserDataRef", "userDataRef": {"name": "s"}}}),
            json!({"provisioning": {"userDataRef": {"kind": "Secret"}}}),
            None,
        ),
        (
            json!({"provisioning": {"type": "SysprepRef", "sysprepRef": {"name": "s"}}}),
            json!({"provisioning": {"sysprepRef": {"name": "t"}}}),
            Some(("provisioning.sysprepRef.name", Restart, Restart)),
        ),
        (json!({}), json!({"networks": [{"type": "Main"}]}), None),
        (
            json!({}),
            json!({"networks": [{"type": "Main"}, {"type": "Network", "name": "n"}]}),
            Some(("networks", Restart, Immediate)),
        ),
        (json!({}), json!({"networks": [{"type": "Network", "name": "n"}]}), Some(("networks", Restart, Restart))),
        (json!({}), json!({"usbDevices": [{"name": "stick"}]}), Some(("usbDevices", Restart, Immediate))),
        (json!({}), json!({"gpus": [{"gpuClassName": "g"}]}), Some(("gpus", Restart, Restart))),
        (json!({}), json!({"liveMigrationPolicy": "AlwaysSafe"}), Some(("liveMigrationPolicy", Immediate, Immediate))),
    ] {
        let mut current = spec();
        json_patch::merge(&mut current, &before);
        let mut desired = current.clone();
        json_patch::merge(&mut desired, &after);
        for profile in [Profile::Guide, Profile::Current] {
            let found = changes(&current, &desired, profile);
            let found: Vec<_> = found.iter().map(|c| (c.path.as_str(), c.effect)).collect();
            let expected: Vec<_> = expected
                .map(|(path, guide, now)| (path, if profile == Profile::Guide { guide } else { now }))
                .into_iter()
                .collect();
            assert_eq!(found, expected, "{before} to {after}");
        }
    }
}

/// upstream.md 5.1: a set with one change that needs a restart waits as a whole, and only that one is listed.
#[test]
fn the_strongest_change_decides_for_all() {
    let mut desired = spec();
    json_patch::merge(&mut desired, &json!({"runPolicy": "Manual", "memory": {"size": "2Gi"}}));
    let found = changes(&spec(), &desired, Profile::Guide);
    assert_eq!((found.len(), strongest(&found)), (2, Effect::Restart));
    assert_eq!(restart_entries(&found).len(), 1);
    let now = changes(&spec(), &json_patch_of(&spec(), json!({"runPolicy": "Manual"})), Profile::Guide);
    assert_eq!((strongest(&now), restart_entries(&now).len()), (Effect::Immediate, 0));
}

fn json_patch_of(base: &Value, patch: Value) -> Value {
    let mut patched = base.clone();
    json_patch::merge(&mut patched, &patch);
    patched
}
