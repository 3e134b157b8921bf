//! The rules across objects as tables.

use serde_json::{Value, json};

use crate::apiserver::admission::across::{Findings, World, check, fill};
use crate::apiserver::object::{self, Object};
use crate::types::kinds;
use crate::types::rules;

struct Fixed(Vec<Value>);

impl World for Fixed {
    fn list(&self, plural: &str, namespace: Option<&str>) -> Vec<Object> {
        let kind = kinds::find(plural).unwrap().kind;
        let objects = self.0.iter().filter(|o| o["kind"] == kind).filter_map(|o| o.as_object().cloned());
        objects.filter(|o| namespace.is_none_or(|n| object::text(o, "namespace") == n)).collect()
    }

    fn networks(&self) -> Option<&[ipnet::Ipv4Net]> {
        const NETWORKS: &[ipnet::Ipv4Net] = &[ipnet::Ipv4Net::new_assert(std::net::Ipv4Addr::new(10, 66, 10, 0), 24)];
        Some(NETWORKS)
    }
}

fn thing(kind: &str, name: &str, spec: Value, status: Value) -> Value {
    let namespace = if kinds::KINDS.iter().any(|k| k.kind == kind && k.namespaced()) { "n" } else { "" };
    json!({"kind": kind, "metadata": {"name": name, "namespace": namespace}, "spec": spec, "status": status})
}

fn found(world: &[Value], old: Option<&Value>, new: &Value) -> Findings {
    let kind = kinds::KINDS.iter().find(|k| new["kind"] == k.kind).unwrap();
    let mut findings = check(&Fixed(world.to_vec()), kind, old.and_then(Value::as_object), new.as_object().unwrap());
    if kind.kind == "VirtualMachineIPAddress" {
        findings.errors.extend(rules::validate(kind, old, new));
    }
    findings
}

/// The paths of what is refused.
fn refused(world: &[Value], old: Option<&Value>, new: &Value) -> Vec<String> {
    found(world, old, new).errors.into_iter().map(|e| e.path).collect()
}

fn machine(name: &str, disks: &[&str]) -> Value {
    let refs: Vec<Value> = disks.iter().map(|d| json!({"kind": "VirtualDisk", "name": d})).collect();
    thing("VirtualMachine", name, json!({"blockDeviceRefs": refs}), json!({}))
}

fn attachment(name: &str, machine: &str, kind: &str, device: &str) -> Value {
    let spec = json!({"virtualMachineName": machine, "blockDeviceRef": {"kind": kind, "name": device}});
    thing("VirtualMachineBlockDeviceAttachment", name, spec, json!({}))
}

#[test]
fn devices_have_one_holder_and_a_limit() {
    let hot = attachment("hot", "m", "VirtualDisk", "data");
    let world = [machine("m", &["root"]), hot.clone()];
    assert_eq!(refused(&world, None, &machine("new", &["a", "data"])), ["spec.blockDeviceRefs[1]"]);
    assert!(refused(&world, Some(&machine("m", &["data"])), &machine("m", &["data", "b"])).is_empty());
    for (new, want) in [
        (attachment("x", "m", "VirtualDisk", "data"), vec!["spec.blockDeviceRef"]),
        (attachment("x", "other", "VirtualDisk", "data"), vec!["spec.blockDeviceRef"]),
        (attachment("x", "m", "VirtualDisk", "root"), vec!["spec.blockDeviceRef"]),
        (attachment("x", "m", "VirtualDisk", "free"), vec![]),
        (hot, vec![]),
    ] {
        assert_eq!(refused(&world, None, &new), want, "{new}");
    }

    let names: Vec<String> = (0..16).map(|i| format!("d{i}")).collect();
    let sixteen: Vec<&str> = names.iter().map(String::as_str).collect();
    assert!(refused(&[], None, &machine("m", &sixteen)).is_empty());
    let full = [machine("m", &sixteen)];
    assert_eq!(refused(&full, None, &attachment("x", "m", "VirtualDisk", "y")), ["spec.virtualMachineName"]);
    let world = [attachment("x", "m", "VirtualDisk", "y")];
    assert_eq!(refused(&world, None, &machine("m", &sixteen)), ["spec.blockDeviceRefs"]);
}

#[test]
fn images_are_shared_but_not_started_from() {
    let world = [
        attachment("x", "m", "VirtualImage", "tools"),
        thing("VirtualImage", "disk", json!({}), json!({"phase": "Ready", "cdrom": false})),
        thing("VirtualImage", "iso", json!({}), json!({"phase": "Ready", "cdrom": true})),
    ];
    assert!(refused(&world, None, &attachment("y", "other", "VirtualImage", "tools")).is_empty());
    assert_eq!(refused(&world, None, &attachment("y", "m", "VirtualImage", "tools")), ["spec.blockDeviceRef"]);
    let from = |image: &str| {
        thing("VirtualMachine", "m", json!({"blockDeviceRefs": [{"kind": "VirtualImage", "name": image}]}), json!({}))
    };
    assert_eq!(refused(&world, None, &from("disk")), ["spec.blockDeviceRefs[0]"]);
    assert!(refused(&world, None, &from("iso")).is_empty());
    assert!(refused(&world, None, &from("unknown")).is_empty());
}

#[test]
fn operations_wait_for_each_other_or_take_over() {
    let operation = |name: &str, kind: &str, force: bool, phase: &str| {
        let spec = json!({"type": kind, "virtualMachineName": "m", "force": force});
        thing("VirtualMachineOperation", name, spec, json!({"phase": phase}))
    };
    for (active, new, fine) in [
        (("Start", false, "InProgress"), ("Stop", false), true),
        (("Start", false, ""), ("Start", false), false),
        (("Start", false, ""), ("Restart", false), false),
        (("Stop", false, "Pending"), ("Stop", false), false),
        (("Stop", false, "Pending"), ("Stop", true), true),
        (("Restart", false, "InProgress"), ("Restart", true), true),
        (("Stop", true, "InProgress"), ("Restart", true), false),
        (("Evict", false, "InProgress"), ("Restart", false), true),
        (("Evict", false, "InProgress"), ("Start", false), false),
        (("Restore", false, "InProgress"), ("Stop", true), false),
        (("Stop", true, "Completed"), ("Start", false), true),
        (("Stop", true, "Failed"), ("Start", false), true),
    ] {
        let world = [operation("old", active.0, active.1, active.2)];
        let errors = refused(&world, None, &operation("new", new.0, new.1, ""));
        assert_eq!(errors.is_empty(), fine, "{active:?} {new:?}");
    }
}

#[test]
fn addresses() {
    let address = |name: &str, kind: &str, ip: &str, status: Value| {
        let spec = if ip.is_empty() { json!({"type": kind}) } else { json!({"type": kind, "staticIP": ip}) };
        thing("VirtualMachineIPAddress", name, spec, status)
    };
    let lease = |ip: &str, holder: &str| {
        let spec = json!({"virtualMachineIPAddressRef": {"name": holder, "namespace": "n"}});
        thing("VirtualMachineIPAddressLease", ip, spec, json!({}))
    };
    let world = [
        lease("ip-10-66-10-5", "taken"),
        lease("ip-10-66-10-6", ""),
        lease("ip-10-66-10-7", "new"),
        address("waiting", "Static", "10.66.10.8", json!({})),
    ];
    for (kind, ip, fine) in [
        ("Auto", "", true),
        ("Auto", "10.66.10.9", false),
        ("Static", "", false),
        ("Static", "10.66.10", false),
        ("Static", "10.66.10.9", true),
        ("Static", "10.66.11.9", false),
        ("Static", "10.66.10.0", false),
        ("Static", "10.66.10.255", false),
        ("Static", "10.66.10.5", false),
        ("Static", "10.66.10.6", true),
        ("Static", "10.66.10.7", true),
        ("Static", "10.66.10.8", false),
    ] {
        let errors = found(&world, None, &address("new", kind, ip, json!({}))).errors;
        assert_eq!(errors.is_empty(), fine, "{kind} {ip}: {errors:?}");
    }
    let bound = json!({"phase": "Bound", "address": "10.66.10.20"});
    for (before, after, fine) in [
        (("Auto", ""), ("Static", "10.66.10.20"), true),
        (("Auto", ""), ("Static", "10.66.10.21"), false),
        (("Static", "10.66.10.20"), ("Auto", ""), false),
        (("Static", "10.66.10.20"), ("Static", "10.66.10.21"), false),
    ] {
        let old = address("a", before.0, before.1, bound.clone());
        let errors = refused(&[], Some(&old), &address("a", after.0, after.1, bound.clone()));
        assert_eq!(errors.is_empty(), fine, "{before:?} {after:?}");
    }
    let old = address("a", "Static", "10.66.10.9", json!({}));
    let outside = found(&[], Some(&old), &address("a", "Static", "10.99.0.1", json!({})));
    assert_eq!((outside.errors.len(), outside.warnings.len()), (0, 1));
}

#[test]
fn a_machine_uses_the_address_of_its_name_knowingly() {
    let world = [thing("VirtualMachineIPAddress", "m", json!({"type": "Auto"}), json!({"address": "10.66.10.3"}))];
    let mut new = machine("m", &[]);
    let errors = found(&world, None, &new).errors;
    assert!(errors[0].message.contains("10.66.10.3"), "{errors:?}");
    new["spec"]["virtualMachineIPAddressName"] = "m".into();
    assert!(found(&world, None, &new).errors.is_empty());
}

#[test]
fn one_class_is_the_default() {
    let class = |name: &str, default: &str| {
        let mut class = thing("VirtualMachineClass", name, json!({}), json!({}));
        class["metadata"]["annotations"] =
            json!({"virtualmachineclass.virtualization.deckhouse.io/is-default-class": default});
        class
    };
    let world = [class("generic", "true")];
    assert_eq!(refused(&world, None, &class("other", "true")).len(), 1);
    assert!(refused(&world, None, &class("other", "false")).is_empty());
    assert!(refused(&world, Some(&class("generic", "true")), &class("generic", "true")).is_empty());
}

#[test]
fn a_class_sizes_its_machines() {
    let policies = json!([
        {"cores": {"min": 1, "max": 4}, "coreFractions": [5, 10, 50], "defaultCoreFraction": 10},
        {"cores": {"min": 5, "max": 8}, "coreFractions": [50]},
    ]);
    let world = [thing("VirtualMachineClass", "c", json!({"sizingPolicies": policies}), json!({}))];
    let sized = |cores: i64, fraction: &str| {
        let mut cpu = json!({"cores": cores});
        if !fraction.is_empty() {
            cpu["coreFraction"] = fraction.into();
        }
        thing("VirtualMachine", "m", json!({"virtualMachineClassName": "c", "cpu": cpu}), json!({}))
    };
    let filled = |cores: i64| {
        let mut new = sized(cores, "").as_object().cloned().unwrap();
        let findings = fill(&Fixed(world.to_vec()), kinds::find("vm").unwrap(), &mut new);
        (new["spec"]["cpu"].get("coreFraction").cloned(), findings.errors.len())
    };
    assert_eq!(filled(2), (Some("10%".into()), 0));
    assert_eq!(filled(6), (None, 1));
    assert_eq!(filled(9), (None, 1));
    for (cores, fraction, fine) in [(2, "50%", true), (2, "20%", false), (9, "100%", false)] {
        assert_eq!(refused(&world, None, &sized(cores, fraction)).is_empty(), fine, "{cores} {fraction}");
    }
    let unknown = thing("VirtualMachine", "m", json!({"virtualMachineClassName": "none"}), json!({}));
    assert_eq!(found(&world, None, &unknown).warnings.len(), 1);
}

#[test]
fn what_is_going_is_let_go() {
    let mut going = attachment("x", "m", "VirtualDisk", "data");
    going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    assert!(refused(&[machine("m", &["data"])], None, &going).is_empty());
}
