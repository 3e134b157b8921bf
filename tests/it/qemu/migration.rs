//! A running guest moves into a fresh QEMU: nothing of it is lost, and when a move fails it stays where it is.

use serde_json::Value;

use crate::support::{BOOT, SOON, World};

/// A world whose migrations take long enough to be interfered with.
fn slow_world() -> World {
    let mut world = World::without_daemon();
    std::fs::create_dir_all(&world.paths.config).unwrap();
    std::fs::write(world.paths.settings_file(), "[host]\nmigrationBandwidth = 1000000\n").unwrap();
    world.start_daemon();
    world.load_image();
    world
}

/// The one operation there is.
fn operation(world: &World) -> Value {
    let list = world.ok(&["get", "vmop", "-o", "json"]);
    let list: Value = serde_json::from_str(&list).unwrap();
    assert_eq!(list["items"].as_array().unwrap().len(), 1, "{list}");
    list["items"][0].clone()
}

/// Starts an eviction and waits until the machine migrates; the operation's name and the target's pid.
fn migrating(world: &World, source: i32) -> (String, i32) {
    world.ok(&["evict", "m"]);
    world.until("vm/m", "migrating", SOON, |vm| vm["status"]["phase"] == "Migrating");
    let name = operation(world)["metadata"]["name"].as_str().unwrap().to_owned();
    world.until(&format!("vmop/{name}"), "copying", SOON, |op| completed(op)["reason"] == "Syncing");
    let target = world.qemu_pids().into_iter().find(|pid| *pid != source).expect("a target");
    (name, target)
}

fn completed(op: &Value) -> Value {
    let conditions = op["status"]["conditions"].as_array().cloned().unwrap_or_default();
    conditions.into_iter().find(|c| c["type"] == "Completed").unwrap_or_default()
}

#[test]
fn an_evicted_machine_goes_on_in_another_process() {
    let world = World::with_image();
    let mut console = world.booted("m", "AlwaysOnUnlessStoppedManually");
    world.apply(
        "apiVersion: virtualization.deckhouse.io/v1alpha2\nkind: VirtualDisk\nmetadata: {name: extra}\n\
         spec: {persistentVolumeClaim: {size: 96Mi}}\n---\n\
         apiVersion: virtualization.deckhouse.io/v1alpha2\nkind: VirtualMachineBlockDeviceAttachment\n\
         metadata: {name: extra}\n\
         spec: {virtualMachineName: m, blockDeviceRef: {kind: VirtualDisk, name: extra}}\n",
    );
    world.until_phase("vmbda/extra", "Attached", SOON);
    let boot_id = console.run("cat /proc/sys/kernel/random/boot_id");
    console.run("echo written-before > before; sync");
    world.until("vm/m", "known by its agent", SOON, |vm| vm["status"]["guestOSInfo"]["kernelRelease"].is_string());
    // A counter that runs through it all, on the console that stays open.
    console.send("(n=0; while [ $n -lt 600 ]; do echo \"<t$n>\"; n=$((n+1)); sleep 0.1; done) & echo\n");
    console.until("<t5>", SOON);

    let before = world.qemu_pids();
    let said = world.ok(&["evict", "m", "--wait"]);
    assert!(said.contains('m'), "{said}");
    let after = world.qemu_pids();
    assert_eq!(after.len(), 1, "the old QEMU is gone");
    assert_ne!(after, before, "it is another process");
    let machine = world.until_phase("vm/m", "Running", SOON);
    let state = &machine["status"]["migrationState"];
    assert_eq!(state["result"], "Succeeded", "{machine}");
    assert!(state["endTimestamp"].is_string());
    let transitions = machine["status"]["stats"]["phasesTransitions"].to_string();
    assert!(transitions.contains("Migrating"), "{transitions}");
    let done = operation(&world);
    assert_eq!((&done["status"]["phase"], &done["status"]["progress"]), (&"Completed".into(), &"100%".into()));
    let held = completed(&done)["message"].as_str().unwrap().to_owned();
    println!("{held}");

    // No tick is missing or torn. The line in flight may be repeated in part by nobody: one port ends, one begins.
    let reached = console.until("<t40>", BOOT);
    let ticks: Vec<u32> =
        reached.split("<t").filter_map(|rest| rest.split_once('>').and_then(|(n, _)| n.parse().ok())).collect();
    assert_eq!(ticks, (6..40).collect::<Vec<_>>(), "{reached}");
    console.send("kill %1\n");
    console.run("true");
    assert_eq!(console.run("cat /proc/sys/kernel/random/boot_id"), boot_id);
    assert_eq!(console.run("cat before"), "written-before");
    assert_eq!(console.run("lsblk | grep -c ' 96M '"), "1", "the hot-plugged disk came along");
    console.run("echo written-after > after; sync");

    // From a QEMU that was a target itself, now as Migrate; then the disk's content after a real restart.
    world.ok(&["delete", "vmop", "--all"]);
    world.ok(&["migrate", "m", "--wait"]);
    assert_ne!(world.qemu_pids(), after);
    assert_eq!(console.run("cat after"), "written-after");
    world.ok(&["delete", "vmbda", "extra"]);
    world.until_gone("vmbda/extra", SOON);
    world.ok(&["restart", "m", "--wait"]);
    console.login();
    assert_eq!(console.run("cat before after"), "written-before\nwritten-after");
    world.ok(&["delete", "vmop", "--all"]);
    world.leaves_nothing();
}

#[test]
fn a_migration_that_ends_early_leaves_the_machine_where_it_is() {
    let mut world = slow_world();
    let mut console = world.booted("m", "AlwaysOnUnlessStoppedManually");
    let source = world.qemu_pids()[0];

    // Deleting the operation cancels it.
    let (name, _) = migrating(&world, source);
    let refused = world.run(&["evict", "m"]);
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && words.contains(&name), "a second one names the first: {words}");
    world.ok(&["delete", "vmop", &name]);
    let machine = world.until_phase("vm/m", "Running", SOON);
    assert_eq!(machine["status"]["migrationState"]["result"], "Failed", "{machine}");
    world.until_gone(&format!("vmop/{name}"), SOON);
    assert_eq!(world.qemu_pids(), [source]);
    assert_eq!(console.run("echo still here"), "still here");

    // The target dies.
    let (name, target) = migrating(&world, source);
    let target = rustix::process::Pid::from_raw(target).unwrap();
    rustix::process::kill_process(target, rustix::process::Signal::KILL).unwrap();
    let failed = world.until_phase(&format!("vmop/{name}"), "Failed", SOON);
    assert_eq!(completed(&failed)["reason"], "OperationFailed", "{failed}");
    world.until_phase("vm/m", "Running", SOON);
    assert_eq!(console.run("echo still here"), "still here");
    world.ok(&["delete", "vmop", &name]);

    // The daemon dies.
    migrating(&world, source);
    world.kill_daemon();
    world.start_daemon();
    world.until_phase("vm/m", "Running", SOON);
    assert_eq!(world.qemu_pids(), [source]);
    let mut console = world.console("m");
    console.send("\n");
    console.until(":~$ ", SOON);
    assert_eq!(console.run("echo still here"), "still here");
    world.ok(&["delete", "vmop", "--all"]);

    // A stop is more important.
    let (name, _) = migrating(&world, source);
    world.ok(&["stop", "m", "--force", "--wait"]);
    assert_eq!(world.qemu_pids(), [0; 0]);
    let superseded = world.get(&format!("vmop/{name}"));
    assert_eq!(superseded["status"]["phase"], "Superseded", "{superseded}");
    world.ok(&["delete", "vmop", "--all"]);
    world.leaves_nothing();
}

/// Puts a QEMU that calls itself version 10.9.9 into a folder, for a daemon's `PATH`.
fn newer_qemu(world: &World) -> std::ffi::OsString {
    use std::os::unix::fs::PermissionsExt;
    let path = std::env::var_os("PATH").unwrap();
    let real = std::env::split_paths(&path).map(|dir| dir.join("qemu-system-x86_64")).find(|file| file.is_file());
    let folder = world.home().join("newer");
    std::fs::create_dir(&folder).unwrap();
    let wrapper = folder.join("qemu-system-x86_64");
    let script = format!(
        "#!/bin/sh\n[ \"$1\" = --version ] && exec echo 'QEMU emulator version 10.9.9'\nexec {} \"$@\"\n",
        real.unwrap().display()
    );
    std::fs::write(&wrapper, script).unwrap();
    // The machines' own user executes it.
    for each in [world.home(), &folder, &wrapper] {
        std::fs::set_permissions(each, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    std::env::join_paths(std::iter::once(folder).chain(std::env::split_paths(&path))).unwrap()
}

#[test]
fn a_newer_qemu_is_a_reason_to_migrate() {
    let mut world = World::with_image();
    let mut console = world.booted("m", "AlwaysOnUnlessStoppedManually");
    console.run("echo kept > /tmp/kept");
    let outdated = |vm: &Value| {
        let conditions = vm["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions.into_iter().find(|c| c["type"] == "FirmwareUpToDate" && c["status"] == "False")
    };
    assert_eq!(outdated(&world.get("vm/m")), None);
    world.ok(&["host", "stop"]);
    let path = newer_qemu(&world);
    let started = world.command(&["host", "start"]).env("PATH", path).output().unwrap();
    assert!(started.status.success(), "{started:?}");
    // It runs already; this opens the session.
    world.start_daemon();
    let machine = world.until("vm/m", "out of date", SOON, |vm| outdated(vm).is_some());
    let said = outdated(&machine).unwrap();
    assert_eq!(said["reason"], "FirmwareOutOfDate");
    assert!(said["message"].as_str().unwrap().contains("10.9.9"), "{said}");
    world.ok(&["evict", "m", "--wait"]);
    world.until("vm/m", "up to date", SOON, |vm| outdated(vm).is_none());
    let mut console = world.console("m");
    // Its history holds the command of before.
    console.until("42>", SOON);
    assert_eq!(console.run("cat /tmp/kept"), "kept");
    world.ok(&["delete", "vmop", "--all"]);
    world.leaves_nothing();
}
