use serde_json::json;

use super::*;
use crate::types::kinds::find;

fn kind(word: &str) -> &'static KindInfo {
    find(word).expect("kind exists")
}

fn now() -> Timestamp {
    "2026-01-02T03:05:16Z".parse().expect("valid time")
}

/// Headings of the always-shown columns.
fn narrow(word: &str) -> Vec<String> {
    columns(kind(word)).into_iter().filter(|c| c.priority == 0).map(|c| c.name.to_uppercase()).collect()
}

#[test]
fn headings_are_those_of_kubectl_and_the_user_guide() {
    for (word, expected) in [
        ("vm", "NAME PHASE NODE IPADDRESS AGE"),
        ("vmip", "NAME ADDRESS STATUS VM AGE"),
        ("vmipl", "NAME VIRTUALMACHINEIPADDRESS STATUS AGE"),
        ("ns", "NAME STATUS AGE"),
        ("secret", "NAME TYPE DATA AGE"),
        ("cm", "NAME DATA AGE"),
        ("events", "LAST SEEN TYPE REASON OBJECT MESSAGE"),
        ("node", "NAME STATUS ROLES AGE VERSION"),
        ("lease", "NAME HOLDER AGE"),
    ] {
        assert_eq!(narrow(word).join(" "), expected, "{word}");
    }
}

#[test]
fn every_kind_has_as_many_cells_as_columns_even_for_nonsense() {
    for kind in crate::types::kinds::KINDS {
        for object in [json!({}), json!({"metadata": 3, "status": [], "spec": "x"}), json!(null)] {
            assert_eq!(cells(kind, &object, now()).len(), columns(kind).len(), "{}", kind.kind);
        }
        for column in columns(kind).iter().filter(|c| !c.json_path.is_empty()) {
            assert!(Path::parse(&column.json_path).is_ok(), "{}: {}", kind.kind, column.json_path);
        }
    }
}

#[test]
fn cells_of_a_machine() {
    let vm = json!({
        "metadata": {"name": "linux-vm", "creationTimestamp": "2026-01-02T03:00:00Z"},
        "spec": {"cpu": {"cores": 1, "coreFraction": "10%"}, "memory": {"size": "1Gi"}},
        "status": {"phase": "Running", "conditions": [
            {"type": "AwaitingRestartToApplyConfiguration", "status": "True"}, {"type": "AgentReady", "status": "False"}]}
    });
    let cells = cells(kind("vm"), &vm, now());
    let by_name = |name: &str| {
        let at = columns(kind("vm")).iter().position(|c| c.name == name).expect("column");
        cells[at].clone()
    };
    assert_eq!(by_name("Name"), "linux-vm");
    assert_eq!(by_name("Phase"), "Running");
    assert_eq!(by_name("Node"), Value::Null);
    assert_eq!(by_name("Need restart"), "True");
    assert_eq!(by_name("Agent"), "False");
    assert_eq!(by_name("Age"), "5m16s");
}

#[test]
fn an_object_cell_is_compact_json() {
    let lease = json!({
        "metadata": {"name": "ip-10-0-0-1"},
        "spec": {"virtualMachineIPAddressRef": {"name": "a", "namespace": "b"}}
    });
    assert_eq!(cells(kind("vmipl"), &lease, now())[1], r#"{"name":"a","namespace":"b"}"#);
}

#[test]
fn a_disk_shows_the_machine_that_mounts_it() {
    let disk = json!({"metadata": {"name": "root"}, "status": {"attachedToVirtualMachines": [
        {"name": "old", "mounted": false}, {"name": "new", "mounted": true}]}});
    let at = columns(kind("vd")).iter().position(|c| c.name == "VirtualMachine").expect("column");
    assert_eq!(cells(kind("vd"), &disk, now())[at], "new");
}

#[test]
fn cells_of_core_kinds() {
    let secret = json!({"metadata": {"name": "s"}, "type": "Opaque", "data": {"a": "", "b": ""}});
    assert_eq!(cells(kind("secret"), &secret, now()), [json!("s"), json!("Opaque"), json!(2), json!(null)]);
    let event = json!({"metadata": {"name": "e"}, "type": "Normal", "reason": "Started", "message": "up\n", "count": 3,
        "lastTimestamp": "2026-01-02T03:05:00Z", "involvedObject": {"kind": "VirtualMachine", "name": "vm"},
        "source": {"component": "c", "host": "h"}});
    let shown = cells(kind("events"), &event, now());
    assert_eq!(
        json!(shown),
        json!(["16s", "Normal", "Started", "virtualmachine/vm", "", "c, h", "up", "<unknown>", 3, "e"])
    );
    let node = json!({"metadata": {"name": "n", "labels": {"node-role.kubernetes.io/worker": "", "node-role.kubernetes.io/a": ""}},
        "spec": {"unschedulable": true}, "status": {"conditions": [{"type": "Ready", "status": "True"}],
        "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}]}});
    let shown = cells(kind("node"), &node, now());
    assert_eq!(json!(shown[..4]), json!(["n", "Ready,SchedulingDisabled", "a,worker", null]));
    assert_eq!(json!(shown[5..7]), json!(["10.0.0.1", "<none>"]));
}

#[test]
fn values_by_column_type() {
    for (type_, value, expected) in [
        ("integer", json!(3), json!(3)),
        ("integer", json!(3.9), json!(3)),
        ("integer", json!("3"), json!(null)),
        ("boolean", json!(true), json!(true)),
        ("boolean", json!("x"), json!(null)),
        ("date", json!("2026-01-02T03:00:00Z"), json!("5m16s")),
        ("date", json!("yesterday"), json!("<invalid>")),
        ("string", json!(true), json!("true")),
        ("string", json!(1), json!("1")),
        ("string", json!([1, {"a": 2}]), json!(r#"[1,{"a":2}]"#)),
        ("string", json!(null), json!(null)),
    ] {
        assert_eq!(shown(type_, &value, now()), expected, "{type_} {value}");
    }
}
