//! A store that comes back from a backup, with machines running.

use crate::support::{BOOT, SOON, World, files};

#[test]
fn a_restore_keeps_guests_running_and_removes_nothing() {
    let mut world = World::with_image();
    let mut console = world.booted("m", "AlwaysOnUnlessStoppedManually");
    let boot_id = console.run("cat /proc/sys/kernel/random/boot_id");
    let pids = world.qemu_pids();
    let backup = world.home().join("backup");
    world.ok(&["host", "backup", backup.to_str().unwrap()]);

    // Made since: the backup knows nothing of it.
    world.apply(
        "apiVersion: virtualization.deckhouse.io/v1alpha2\nkind: VirtualDisk\nmetadata: {name: later}\n\
         spec: {persistentVolumeClaim: {size: 64Mi}}\n",
    );
    world.until_phase("vd/later", "Ready", BOOT);
    let volumes = files(&world.paths.volumes());

    world.ok(&["host", "restore", backup.to_str().unwrap()]);
    world.start_daemon();
    world.until_phase("vm/m", "Running", SOON);
    assert!(world.find("vd/later").is_none());
    assert_eq!(world.qemu_pids(), pids, "the guest did not outlive the restore");
    let mut console = world.console("m");
    console.send("\n");
    console.until(":~$ ", SOON);
    assert_eq!(console.run("cat /proc/sys/kernel/random/boot_id"), boot_id);

    // Neither this daemon nor the next one takes the disk without an object for rubbish.
    for _ in 0..2 {
        // The controllers take stock a moment after the daemon answers.
        let deadline = std::time::Instant::now() + SOON;
        loop {
            let status = world.ok(&["host", "status"]);
            if status.contains("left alone: 1 machines or volumes without an object") {
                break;
            }
            assert!(std::time::Instant::now() < deadline, "{status}\n{}", world.log_tail());
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        let left = files(&world.paths.volumes());
        assert!(volumes.iter().all(|v| left.contains(v)), "{volumes:?} became {left:?}");
        world.ok(&["host", "stop"]);
        world.start_daemon();
        world.until_phase("vm/m", "Running", SOON);
    }
    world.leaves_nothing();
}
