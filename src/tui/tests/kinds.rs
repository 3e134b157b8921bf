//! Every kind can be gone to and listed.

use serde_json::{Value, json};

use super::*;
use crate::client::TableEvent;
use crate::tui::screens::kind_title;
use crate::types::kinds::{KINDS, find};

#[test]
fn every_name_of_every_kind_leads_to_its_list() {
    for kind in KINDS {
        for word in kind.short_names.iter().copied().chain([kind.singular, kind.plural]) {
            let mut desk = Desk::demo(120, 24);
            desk.keys(&format!(":{word}<enter>"));
            let screen = desk.screen();
            assert!(screen.contains(&kind_title(kind)), "{word}:\n{screen}");
        }
    }
}

#[test]
fn objects_of_the_newer_kinds_are_rows() {
    let lists: [(&str, Value, &[&str]); 5] = [
        ("vds", json!({"status": {"phase": "Failed", "consistent": true}}), &["Consistent", "Failed", "true"]),
        ("vms", json!({"status": {"phase": "Ready", "consistent": false}}), &["Consistent", "Ready", "false"]),
        (
            "vmsop",
            json!({"spec": {"type": "CreateVirtualMachine", "virtualMachineSnapshotName": "snap"},
                "status": {"phase": "InProgress"}}),
            &["InProgress", "CreateVirtualMachine", "snap"],
        ),
        (
            "vmmac",
            json!({"status": {"address": "02:00:00:00:00:01", "phase": "Bound"}}),
            &["02:00:00:00:00:01", "Bound"],
        ),
        (
            "vmmacl",
            json!({"spec": {"virtualMachineMACAddressRef": {"name": "a", "namespace": "n"}}, "status": {"phase": "Bound"}}),
            &[r#"{"name":"a","namespace":"n"}"#, "Bound"],
        ),
    ];
    for (word, body, shown) in lists {
        let kind = find(word).unwrap();
        let mut object = json!({"apiVersion": kind.api_version(), "kind": kind.kind, "metadata": {"name": "first",
            "namespace": "default", "uid": "u", "resourceVersion": "5", "creationTimestamp": "2026-11-25T11:00:00Z"}});
        json_patch::merge(&mut object, &body);
        let mut desk = Desk::demo(140, 24);
        desk.keys(&format!(":{word}<enter>"));
        let feed = desk.state.feeds.values().find(|f| f.kind.0.kind == kind.kind).unwrap().id;
        let event = TableEvent::Reset { columns: cluster::columns(kind), rows: vec![cluster::row(kind, object)] };
        desk.event(Event::Table { feed, event });
        let screen = desk.screen();
        for part in shown.iter().chain(&["first", "60m"]) {
            assert!(screen.to_lowercase().contains(&part.to_lowercase()), "{word}: {part}\n{screen}");
        }
    }
}
