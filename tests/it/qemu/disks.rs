//! Disks: from an image, blank, grown, plugged into a running machine.

use crate::support::{BOOT, SOON, World};

const BLANK: &str = "apiVersion: virtualization.deckhouse.io/v1alpha2
kind: VirtualDisk
metadata:
  name: blank-disk
spec:
  persistentVolumeClaim:
    size: 96Mi
";

const ATTACH: &str = "apiVersion: virtualization.deckhouse.io/v1alpha2
kind: VirtualMachineBlockDeviceAttachment
metadata:
  name: attach-blank-disk
spec:
  blockDeviceRef:
    kind: VirtualDisk
    name: blank-disk
  virtualMachineName: linux-vm
";

#[test]
fn a_disk_is_plugged_written_grown_unplugged_and_keeps_its_data() {
    let world = World::with_image();
    let image = world.until_phase("vi/guest", "Ready", SOON);
    assert_eq!(image["status"]["format"], "qcow2");
    let mut console = world.booted("linux-vm", "AlwaysOnUnlessStoppedManually");
    assert_eq!(console.run("lsblk | grep -c disk"), "2", "the root and the read-only seed");

    // Plug.
    world.apply(BLANK);
    world.until_phase("vd/blank-disk", "Ready", SOON);
    world.apply(ATTACH);
    world.until_phase("vmbda/attach-blank-disk", "Attached", SOON);
    let listed = until_listed(&mut console, "96M");
    let device = listed.split_whitespace().next().unwrap().to_owned();
    console.run(&format!("echo precious | sudo dd of=/dev/{device} conv=fsync 2> /dev/null"));

    // Grow, online.
    let patch = r#"{"spec":{"persistentVolumeClaim":{"size":"200Mi"}}}"#;
    world.ok(&["patch", "vd", "blank-disk", "--type", "merge", "-p", patch]);
    world.until("vd/blank-disk", "grown", SOON, |o| {
        o["status"]["capacity"] == "200Mi" && o["status"]["phase"] == "Ready"
    });
    until_listed(&mut console, "200M");
    let output = world.run(&[
        "patch",
        "vd",
        "blank-disk",
        "--type",
        "merge",
        "-p",
        r#"{"spec":{"persistentVolumeClaim":{"size":"10Mi"}}}"#,
    ]);
    assert!(!output.status.success(), "a disk must not shrink");

    // Unplug, plug again: what was written is there.
    world.ok(&["delete", "vmbda", "attach-blank-disk"]);
    world.until_gone("vmbda/attach-blank-disk", SOON);
    console.run(&format!("until ! grep -q {device} /proc/partitions; do usleep 20000; done"));
    world.apply(ATTACH);
    world.until_phase("vmbda/attach-blank-disk", "Attached", SOON);
    let listed = until_listed(&mut console, "200M");
    let device = listed.split_whitespace().next().unwrap();
    assert_eq!(console.run(&format!("sudo head -c 8 /dev/{device}")), "precious");

    world.leaves_nothing();
    let disk = world.get("vd/blank-disk");
    assert_eq!(disk["status"]["phase"], "Ready", "disks outlive machines");
    world.ok(&["delete", "vd", "blank-disk", "linux-vm-root"]);
    world.ok(&["delete", "vi", "guest"]);
    for gone in ["vd/blank-disk", "vd/linux-vm-root", "vi/guest"] {
        world.until_gone(gone, SOON);
    }
    let left: Vec<_> = crate::support::files(&world.paths.volumes());
    assert!(left.is_empty(), "files outlived their objects: {left:?}");
}

/// The line of the guest's device list with this size. The guest is asked in a loop of its own: a plugged disk shows
/// there a moment after QEMU has it.
fn until_listed(console: &mut crate::support::Console, size: &str) -> String {
    console.run(&format!("until lsblk | grep ' {size} '; do usleep 50000; done"))
}

#[test]
fn a_root_disk_is_larger_than_its_image_and_grows_under_the_running_guest() {
    let world = World::with_image();
    let mut console = world.booted("m", "AlwaysOn");
    let root = console.run("lsblk | awk '$7 == \"/\" { print $4 }'");
    assert!(
        root.ends_with('M') && root.trim_end_matches('M').parse::<f32>().unwrap() > 250.0,
        "the root fills 300 MiB: {root}"
    );
    let patch = r#"{"spec":{"persistentVolumeClaim":{"size":"500Mi"}}}"#;
    world.ok(&["patch", "vd", "m-root", "--type", "merge", "-p", patch]);
    world.until("vd/m-root", "grown", SOON, |o| o["status"]["capacity"] == "500Mi");
    console.run("until lsblk | grep ' 500M '; do usleep 50000; done");
    world.ok(&["restart", "m", "--wait"]);
    console.until(" login: ", BOOT);
    world.leaves_nothing();
}
