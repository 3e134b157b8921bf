//! The daemon comes and goes; machines do not notice.

use crate::support::{BOOT, SOON, World, files, files_text};

#[test]
fn a_killed_daemon_leaves_guests_running_and_the_next_one_adopts_them() {
    let mut world = World::with_image();
    let mut console = world.booted("m", "AlwaysOnUnlessStoppedManually");
    assert_eq!(console.run("echo before-the-crash"), "before-the-crash");
    let boot_id = console.run("cat /proc/sys/kernel/random/boot_id");
    let pids = world.qemu_pids();
    assert_eq!(pids.len(), 1);
    let uid = world.get("vm/m")["metadata"]["uid"].clone();

    let old = world.daemon_pid();
    world.kill_daemon();
    assert_eq!(world.qemu_pids(), pids, "the guest died with the daemon");
    world.start_daemon();
    assert_ne!(world.daemon_pid(), old);
    let machine = world.until_phase("vm/m", "Running", SOON);
    assert_eq!(machine["metadata"]["uid"], uid);

    let mut console = world.console("m");
    console.until("before-the-crash", SOON);
    console.send("\n");
    console.until(":~$ ", SOON);
    assert_eq!(console.run("cat /proc/sys/kernel/random/boot_id"), boot_id, "the same boot of the same guest");
    assert_eq!(world.qemu_pids(), pids);

    // It is really in charge again: the power button works, and nothing is left.
    world.ok(&["stop", "m", "--wait"]);
    assert!(world.qemu_pids().is_empty());
    world.leaves_nothing();
}

#[test]
fn what_happened_while_no_daemon_was_there_is_noticed() {
    let mut world = World::with_image();
    let mut console = world.booted("m", "Manual");
    console.run("(sleep 2; sudo poweroff) > /dev/null 2>&1 & true");
    world.kill_daemon();
    // QEMU holds a guest that is off until a manager has read how it ended; that it is off shows in its log.
    let logs = || files_text(&world.paths.state) + &files_text(&world.paths.runtime);
    let deadline = std::time::Instant::now() + BOOT;
    while !logs().contains("reboot: Power down") {
        assert!(std::time::Instant::now() < deadline, "the guest does not power off");
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    world.start_daemon();
    world.until_phase("vm/m", "Stopped", BOOT);
    world.leaves_nothing();
}

#[test]
fn one_state_directory_one_daemon_and_a_stop_stops_no_machine() {
    let mut world = World::with_image();
    world.booted("m", "AlwaysOnUnlessStoppedManually");
    let pids = world.qemu_pids();
    let said = world.ok(&["host", "start"]);
    assert!(said.contains("already running"), "{said}");
    world.ok(&["host", "stop"]);
    assert_eq!(world.qemu_pids(), pids);
    // A one-shot command starts the daemon that it needs.
    let table = world.ok(&["get", "vm"]);
    assert!(table.contains("Running"), "{table}");
    world.start_daemon();
    assert_eq!(world.qemu_pids(), pids);
    world.leaves_nothing();
}

#[test]
fn a_lost_store_costs_no_disk() {
    let mut world = World::with_image();
    world.ok(&["host", "stop"]);
    let volumes = files(&world.paths.volumes());
    assert!(!volumes.is_empty());
    for entry in std::fs::read_dir(&world.paths.state).unwrap().flatten() {
        if entry.file_name().to_string_lossy().starts_with("store.db") {
            std::fs::remove_file(entry.path()).unwrap();
        }
    }
    // The first object arrives with the daemon's start: it must not pass for knowledge of everything.
    world.start_daemon();
    world.apply(&std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/assets/samples/1-image.yaml")).unwrap());
    world.until_phase("vi/guest", "WaitForUserUpload", SOON);
    let left = files(&world.paths.volumes());
    assert!(volumes.iter().all(|v| left.contains(v)), "{volumes:?} became {left:?}");
}
