//! Text from objects and servers must not reach the terminal's control plane.

use serde_json::json;

use super::*;
use crate::client::TableEvent;
use crate::tui::message::{Failure, TaskNews};
use crate::tui::state::machine_kind;
use crate::types::text::is_printable;

const EVIL: &str = "x\u{1b}]52;c;AAAA\u{7}\u{9b}2J\u{202e}\r\n\u{1b}[31m";

fn clean(desk: &Desk, where_: &str) {
    let (buffer, _) = desk.draw();
    for cell in &buffer.content {
        assert!(cell.symbol().chars().all(is_printable), "{where_}: {:?}", cell.symbol());
    }
}

#[test]
fn escape_sequences_in_objects_are_shown_not_obeyed() {
    let mut machine = cluster::web();
    machine["metadata"]["name"] = json!(format!("web{EVIL}"));
    machine["metadata"]["labels"] = json!({ format!("k{EVIL}"): EVIL });
    machine["spec"]["virtualMachineClassName"] = json!(EVIL);
    machine["spec"]["provisioning"] = json!({"userData": EVIL});
    machine["status"]["phase"] = json!(EVIL);
    machine["status"]["ipAddress"] = json!(EVIL);
    machine["status"]["nodeName"] = json!(EVIL);
    machine["status"]["guestOSInfo"]["prettyName"] = json!(EVIL);
    machine["status"]["blockDeviceRefs"][0]["name"] = json!(EVIL);
    machine["status"]["restartAwaitingChanges"][0]["path"] = json!(EVIL);
    machine["status"]["restartAwaitingChanges"][0]["desiredValue"] = json!(EVIL);
    for i in 0..7 {
        machine["status"]["conditions"][i]["message"] = json!(EVIL);
        machine["status"]["conditions"][i]["reason"] = json!(EVIL);
    }
    machine["status"]["conditions"][0]["status"] = json!("False");
    for script in ["", "w", "<enter>", "y", "yw", "d", "a", "o", "<ctrl-p>", "r", "D", "/x", "?"] {
        let mut desk = Desk::demo(120, 36);
        let feed = desk.state.feed(machine_kind(), Some("default")).unwrap().id;
        let kind = machine_kind().0;
        let event =
            TableEvent::Reset { columns: cluster::columns(kind), rows: vec![cluster::row(kind, machine.clone())] };
        desk.event(Event::Table { feed, event });
        clean(&desk, "before keys");
        desk.keys(script);
        clean(&desk, script);
    }
}

#[test]
fn server_messages_are_shown_not_obeyed() {
    let mut desk = Desk::demo(80, 24);
    desk.keys("js");
    desk.keys("jry");
    let id = desk.state.tasks[0].id;
    desk.event(Event::Task { id, news: TaskNews::Failed(Failure::new(EVIL)) });
    clean(&desk, "news line");
    desk.keys("!");
    clean(&desk, "errors");
    assert!(desk.screen().contains("\\x1b"), "{}", desk.screen());
}
