//! The user guide's first example, from manifest to deletion.

use futures::StreamExt;
use serde_json::{Value, json};
use vmdeck::client::ListOptions;
use vmdeck::types::kinds;

use crate::support::{BOOT, SOON, World, machine_manifest};

#[test]
fn apply_login_change_restart_delete() {
    let world = World::with_image();

    // A watch from before the machine exists sees every phase in order.
    let vm = kinds::find("vm").unwrap();
    let session = world.session().clone();
    let phases = world.spawn(async move {
        let events = session.table_watch_with(vm, Some("default"), ListOptions::default());
        tokio::pin!(events);
        let mut phases: Vec<String> = Vec::new();
        while let Some(event) = events.next().await {
            let vmdeck::client::TableEvent::Upsert(row) = event else { continue };
            let phase = row.object["status"]["phase"].as_str().unwrap_or_default().to_owned();
            if !phase.is_empty() && phases.last() != Some(&phase) {
                phases.push(phase);
            }
            if phases.last().is_some_and(|p| p == "Running") {
                return phases;
            }
        }
        phases
    });

    let said = world.apply(&machine_manifest("linux-vm", "AlwaysOnUnlessStoppedManually"));
    assert!(said.contains("virtualmachine.virtualization.deckhouse.io/linux-vm created"), "{said}");
    let running = world.until_phase("vm/linux-vm", "Running", BOOT);
    assert_eq!(world.block_on(phases).unwrap(), ["Pending", "Starting", "Running"]);
    let address = running["status"]["ipAddress"].as_str().unwrap_or_default().to_owned();
    assert!(address.parse::<std::net::Ipv4Addr>().is_ok(), "no address: {}", running["status"]);

    let mut console = world.console("linux-vm");
    console.login();
    assert_eq!(console.run("nproc"), "1");
    assert_eq!(console.run("hostname"), "linux-vm");
    let shown = console.run("ip -4 addr show eth0");
    assert!(shown.contains(&format!("inet {address}/")), "the guest's address is the API's: {shown}");

    // A change that needs a restart waits for one.
    let said = world.ok(&["patch", "vm", "linux-vm", "--type", "merge", "-p", r#"{"spec":{"cpu":{"cores":2}}}"#]);
    assert!(said.contains("linux-vm patched"), "{said}");
    let waiting = world.until("vm/linux-vm", "waiting for a restart", SOON, has_waiting_changes);
    assert_eq!(
        waiting["status"]["restartAwaitingChanges"],
        json!([{"currentValue": 1, "desiredValue": 2, "operation": "replace", "path": "cpu.cores"}])
    );
    assert_eq!(console.run("nproc"), "1");
    let printed = world.ok(&["get", "vm", "linux-vm", "-o", "jsonpath={.status.restartAwaitingChanges}"]);
    assert_eq!(serde_json::from_str::<Value>(&printed).unwrap(), waiting["status"]["restartAwaitingChanges"]);
    assert_eq!(cell(&world.ok(&["get", "vm", "linux-vm", "-o", "wide"]), "NEED RESTART"), "True");

    // The restart applies it.
    let before = world.qemu_pids();
    world.ok(&["restart", "linux-vm", "--wait"]);
    let operations =
        world.block_on(world.session().list(kinds::find("vmop").unwrap(), Some("default"), &ListOptions::default()));
    let operations = operations.unwrap();
    assert_eq!(operations["items"][0]["spec"]["type"], "Restart");
    assert_eq!(operations["items"][0]["status"]["phase"], "Completed");
    console.login();
    assert_eq!(console.run("nproc"), "2");
    assert_ne!(world.qemu_pids(), before, "a restart is a new instance");
    let now = world.until("vm/linux-vm", "without waiting changes", SOON, |o| !has_waiting_changes(o));
    assert_eq!(now["status"]["ipAddress"], address.as_str(), "the address stays");
    let wide = world.ok(&["get", "vm", "linux-vm", "-o", "wide"]);
    assert_ne!(cell(&wide, "NEED RESTART"), "True");
    assert_eq!(cell(&wide, "CORES"), "2");

    world.leaves_nothing();
}

fn has_waiting_changes(machine: &Value) -> bool {
    machine["status"]["restartAwaitingChanges"].as_array().is_some_and(|c| !c.is_empty())
}

/// A cell of the only row of a printed table: what stands below its heading, up to the next column.
fn cell(table: &str, heading: &str) -> String {
    let mut lines = table.lines();
    let head = lines.next().unwrap_or_default();
    let row = lines.next().unwrap_or_default();
    let start = head.find(heading).unwrap_or_else(|| panic!("no column {heading} in:\n{table}"));
    let behind = start + heading.len();
    let end = head[behind..].find(|c| c != ' ').map_or(row.len(), |n| behind + n);
    row.get(start..end.min(row.len())).unwrap_or_default().trim().to_owned()
}

#[test]
fn the_table_of_the_guide() {
    let world = World::start();
    world.apply(&machine_manifest("linux-vm", "Manual"));
    let heading = |table: String| table.lines().next().unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(heading(world.ok(&["get", "vm"])), "NAME PHASE NODE IPADDRESS AGE");
    assert_eq!(
        heading(world.ok(&["get", "vm", "-o", "wide"])),
        "NAME PHASE CORES COREFRACTION MEMORY NEED RESTART AGENT MIGRATABLE NODE IPADDRESS AGE"
    );
}
