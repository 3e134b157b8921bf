//! Run policies, operations, and what the guest does to itself.

use serde_json::Value;

use crate::support::{BOOT, Console, SOON, World, machine_manifest};

/// The guest reboots and the machine comes up again in a new instance; with `cores` changed before, the new
/// instance has them.
fn reboot_in_the_guest(world: &World, name: &str, console: &mut Console) {
    let before = world.qemu_pids();
    let patch = r#"{"spec":{"cpu":{"cores":2}}}"#;
    world.ok(&["patch", "vm", name, "--type", "merge", "-p", patch]);
    world.until(&format!("vm/{name}"), "waiting for a restart", SOON, |o| waiting(o) == 1);
    console.send("sudo reboot\n");
    console.login();
    assert_eq!(console.run("nproc"), "2", "a reboot inside the guest applies what waits");
    world.until(&format!("vm/{name}"), "without waiting changes", SOON, |o| waiting(o) == 0);
    assert_ne!(world.qemu_pids(), before, "every reboot is a new instance");
    assert_eq!(world.get(&format!("vm/{name}"))["status"]["phase"], "Running");
}

fn waiting(machine: &Value) -> usize {
    machine["status"]["restartAwaitingChanges"].as_array().map_or(0, Vec::len)
}

#[test]
fn manual_guest_reboots_then_powers_off() {
    let world = World::with_image();
    world.apply(&machine_manifest("m", "Manual"));
    world.until_phase("vm/m", "Stopped", SOON);
    assert!(world.qemu_pids().is_empty());
    world.ok(&["start", "m", "--wait"]);
    let mut console = world.console("m");
    console.login();
    reboot_in_the_guest(&world, "m", &mut console);
    console.send("sudo poweroff\n");
    world.until_phase("vm/m", "Stopped", BOOT);
    assert!(world.qemu_pids().is_empty());
    world.leaves_nothing();
}

#[test]
fn always_on_unless_stopped_stays_off_after_poweroff() {
    let world = World::with_image();
    let mut console = world.booted("m", "AlwaysOnUnlessStoppedManually");
    reboot_in_the_guest(&world, "m", &mut console);
    console.send("sudo poweroff\n");
    world.until_phase("vm/m", "Stopped", BOOT);
    assert!(world.qemu_pids().is_empty());

    // Started by an operation, stopped by the power button.
    world.ok(&["start", "m", "--wait"]);
    console.login();
    world.ok(&["stop", "m", "--wait"]);
    world.until_phase("vm/m", "Stopped", BOOT);
    assert!(console.until("reboot: Power down", SOON).contains("power button"), "the guest was asked, not cut off");
    world.leaves_nothing();
}

#[test]
fn always_on_comes_back_after_poweroff_and_refuses_to_stop() {
    let world = World::with_image();
    let mut console = world.booted("m", "AlwaysOn");
    console.send("sudo poweroff\n");
    console.login();
    let output = world.run(&["stop", "m", "--wait"]);
    assert!(!output.status.success(), "a stop is not applicable under AlwaysOn");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("AlwaysOn"), "{text}");
    reboot_in_the_guest(&world, "m", &mut console);

    // AlwaysOff stops it at once, whatever it does.
    world.ok(&["patch", "vm", "m", "--type", "merge", "-p", r#"{"spec":{"runPolicy":"AlwaysOff"}}"#]);
    world.until_phase("vm/m", "Stopped", BOOT);
    let output = world.run(&["start", "m", "--wait"]);
    assert!(!output.status.success(), "a start is not applicable under AlwaysOff");
    assert!(world.qemu_pids().is_empty());
    world.leaves_nothing();
}

#[test]
fn always_off_stays_off() {
    let world = World::with_image();
    world.apply(&machine_manifest("m", "AlwaysOff"));
    world.until_phase("vm/m", "Stopped", SOON);
    let output = world.run(&["start", "m", "--wait"]);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && text.contains("AlwaysOff"), "{text}");
    assert!(world.qemu_pids().is_empty());
    world.leaves_nothing();
}

#[test]
fn a_crashed_machine_follows_its_policy_and_force_stop_is_immediate() {
    let world = World::with_image();
    world.apply(&machine_manifest("steady", "AlwaysOn"));
    world.until_phase("vm/steady", "Running", BOOT);
    let first = world.qemu_pids();
    kill(first[0]);
    let again = world.until("vm/steady", "running in a new instance", BOOT, |o| {
        o["status"]["phase"] == "Running" && !world.qemu_pids().is_empty() && world.qemu_pids() != first
    });
    assert_eq!(again["status"]["phase"], "Running");

    world.apply(&machine_manifest("hand", "Manual"));
    // A start of a machine that waits for its disk is refused.
    world.until_phase("vm/hand", "Stopped", SOON);
    world.ok(&["start", "hand", "--wait"]);
    let second: Vec<i32> = world.qemu_pids().into_iter().filter(|p| *p != world.qemu_pids()[0]).collect();
    assert!(!second.is_empty());
    world.ok(&["stop", "hand", "--force", "--wait"]);
    world.until_phase("vm/hand", "Stopped", SOON);
    world.leaves_nothing();
}

#[test]
fn automatic_approval_restarts_by_itself() {
    let world = World::with_image();
    let mut console = world.booted("m", "AlwaysOnUnlessStoppedManually");
    let patch = r#"{"spec":{"disruptions":{"restartApprovalMode":"Automatic"},"cpu":{"cores":2}}}"#;
    world.ok(&["patch", "vm", "m", "--type", "merge", "-p", patch]);
    console.login();
    assert_eq!(console.run("nproc"), "2");
    world.leaves_nothing();
}

fn kill(pid: i32) {
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}
