//! Snapshots of real guests: what was written before is in them, what was written after is not, and no guest stays
//! frozen.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

use serde_json::{Value, json};

use crate::support::{BOOT, Console, SOON, World};

fn snapshot(kind: &str, name: &str, spec: &Value) -> String {
    let object = json!({
        "apiVersion": "virtualization.deckhouse.io/v1alpha2", "kind": kind, "metadata": {"name": name}, "spec": spec,
    });
    format!("{object}\n")
}

fn of_disk(world: &World, name: &str, disk: &str, required: bool) {
    let spec = json!({"virtualDiskName": disk, "requiredConsistency": required});
    world.apply(&snapshot("VirtualDiskSnapshot", name, &spec));
}

fn of_machine(world: &World, name: &str, vm: &str) {
    world.apply(&snapshot("VirtualMachineSnapshot", name, &json!({"virtualMachineName": vm})));
}

/// A disk made from a snapshot, plugged into a machine; its name in the guest.
fn plug_copy(world: &World, console: &mut Console, vm: &str, snapshot: &str, size: &str) -> String {
    let disk = format!("copy-of-{snapshot}");
    world.apply(&format!(
        "apiVersion: virtualization.deckhouse.io/v1alpha2\nkind: VirtualDisk\nmetadata: {{name: {disk}}}\nspec:\n  \
         persistentVolumeClaim: {{size: {size}}}\n  dataSource:\n    type: ObjectRef\n    objectRef: {{kind: \
         VirtualDiskSnapshot, name: {snapshot}}}\n---\n\
         apiVersion: virtualization.deckhouse.io/v1alpha2\nkind: VirtualMachineBlockDeviceAttachment\nmetadata: \
         {{name: {disk}}}\nspec: {{virtualMachineName: {vm}, blockDeviceRef: {{kind: VirtualDisk, name: {disk}}}}}\n"
    ));
    world.until_phase(&format!("vd/{disk}"), "Ready", SOON);
    world.until_phase(&format!("vmbda/{disk}"), "Attached", SOON);
    let shown = size.trim_end_matches('i');
    let listed = console.run(&format!("until lsblk | grep ' {shown} '; do usleep 50000; done"));
    listed.split_whitespace().next().unwrap().to_owned()
}

/// The console of `m` once more, past all that it showed before.
fn reopened(world: &World) -> Console {
    let mut console = world.console("m");
    console.send("echo back-$((20+3))\n");
    console.until("back-23", SOON);
    console.until(":~$ ", SOON);
    console
}

/// What a guest's command printed, as a number.
fn number(console: &mut Console, command: &str) -> i64 {
    let said = console.run(command);
    said.trim().parse().unwrap_or_else(|_| panic!("{command}: {said:?}"))
}

fn condition(object: &Value, type_: &str) -> String {
    let found = object["status"]["conditions"].as_array().into_iter().flatten().find(|c| c["type"] == type_);
    found.map(|c| format!("{} {}", c["status"], c["reason"]).replace('"', "")).unwrap_or_default()
}

fn with_agent(world: &World, vm: &str) {
    world.until(&format!("vm/{vm}"), "with an agent", BOOT, |o| condition(o, "AgentReady") == "True AgentReady");
}

/// `PUT` of a machine's subresource; the answer's code and body.
fn put(world: &World, vm: &str, subresource: &str, body: &str) -> (u16, String) {
    let path = format!(
        "/apis/subresources.virtualization.deckhouse.io/v1alpha2/namespaces/default/virtualmachines/{vm}/{subresource}"
    );
    let mut stream = UnixStream::connect(world.paths.api_socket()).unwrap();
    let length = body.len();
    write!(
        stream,
        "PUT {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let code = answer.split_whitespace().nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    (code, answer)
}

#[test]
fn a_running_guest_is_frozen_for_the_moment_and_its_snapshot_holds_what_was_written_before() {
    let world = World::with_image();
    let mut console = world.booted("m", "AlwaysOnUnlessStoppedManually");
    with_agent(&world, "m");
    let boot_id = console.run("cat /proc/sys/kernel/random/boot_id");
    // Not synced: that is what freezing is for.
    console.run("echo before > before");
    of_disk(&world, "s", "m-root", true);
    let ready = world.until_phase("vds/s", "Ready", SOON);
    assert_eq!(ready["status"]["consistent"], true, "{ready:#}");
    console.run("echo after > after; sync");
    assert_eq!(console.run("cat /proc/sys/kernel/random/boot_id"), boot_id, "the guest went on");
    world.until("vm/m", "thawed", SOON, |o| condition(o, "FilesystemFrozen").is_empty());

    let device = plug_copy(&world, &mut console, "m", "s", "330Mi");
    console.run(&format!("sudo mkdir -p /mnt/s && sudo mount -t ext4 /dev/{device}2 /mnt/s"));
    assert_eq!(console.run("cat /mnt/s/home/cloud/before"), "before");
    assert_eq!(console.run("ls /mnt/s/home/cloud/after 2> /dev/null | wc -l"), "0");
    // The copy is a disk of its own.
    console.run("sudo sh -c 'echo mine > /mnt/s/mine'; sync; sudo umount /mnt/s");

    // Without its agent the guest cannot be frozen.
    console.run("sudo killall qemu-ga");
    world.until("vm/m", "without an agent", SOON, |o| condition(o, "AgentReady").starts_with("False"));
    of_disk(&world, "strict", "m-root", true);
    let strict = world.until_phase("vds/strict", "Failed", SOON);
    assert_eq!(condition(&strict, "VirtualDiskSnapshotReady"), "False PotentiallyInconsistent");
    of_disk(&world, "lax", "m-root", false);
    let lax = world.until_phase("vds/lax", "Ready", SOON);
    assert_eq!(lax["status"]["consistent"], Value::Null);
    of_machine(&world, "strict", "m");
    let strict = world.until_phase("vms/strict", "Failed", SOON);
    assert_eq!(condition(&strict, "VirtualMachineSnapshotReady"), "False PotentiallyInconsistent");

    // Its life is its own: the machine and its disks go, then the snapshots, and no file is left.
    world.leaves_nothing();
    world.ok(&["delete", "vd", "m-root", "copy-of-s"]);
    world.until_gone("vd/m-root", SOON);
    world.until_phase("vds/s", "Ready", SOON);
    for gone in ["s", "strict", "lax"] {
        world.ok(&["delete", "vds", gone]);
        world.until_gone(&format!("vds/{gone}"), SOON);
    }
    world.ok(&["delete", "vms", "strict"]);
    world.ok(&["delete", "vi", "guest"]);
    world.until_gone("vi/guest", SOON);
    let left = crate::support::files(&world.paths.volumes());
    assert!(left.is_empty(), "files outlived their objects: {left:?}");
}

#[test]
fn all_disks_of_a_machine_are_of_one_moment_also_when_the_copying_takes_long() {
    let world = World::start_with("[host]\nsnapshotBandwidth = 4000000\n");
    world.load_image();
    let mut console = world.booted("m", "AlwaysOnUnlessStoppedManually");
    with_agent(&world, "m");
    world.apply(
        "apiVersion: virtualization.deckhouse.io/v1alpha2\nkind: VirtualDisk\nmetadata: {name: data}\n\
         spec: {persistentVolumeClaim: {size: 96Mi}}\n---\n\
         apiVersion: virtualization.deckhouse.io/v1alpha2\nkind: VirtualMachineBlockDeviceAttachment\n\
         metadata: {name: data}\n\
         spec: {virtualMachineName: m, blockDeviceRef: {kind: VirtualDisk, name: data}}\n",
    );
    world.until_phase("vmbda/data", "Attached", SOON);
    let listed = console.run("until lsblk | grep ' 96M '; do usleep 50000; done");
    let device = listed.split_whitespace().next().unwrap().to_owned();
    // Something to copy, then a writer: the same number on both, the data disk first.
    console.run(&format!("sudo dd if=/dev/urandom of=/dev/{device} bs=1M seek=1 count=16 conv=fsync 2> /dev/null"));
    console.run(&format!(
        "sudo chmod 666 /dev/{device}; (n=100000; while true; do n=$((n+1)); echo $n | dd of=/dev/{device} \
         conv=notrunc,fsync 2> /dev/null; echo $n > /home/cloud/count; sync; done) > /dev/null 2>&1 & sleep 1"
    ));
    of_machine(&world, "s", "m");
    let vm = world.until("vm/m", "snapshotting", SOON, |o| !condition(o, "Snapshotting").is_empty());
    assert!(condition(&vm, "Snapshotting").starts_with("True"), "{vm:#}");
    let ready = world.until_phase("vms/s", "Ready", BOOT);
    assert_eq!(ready["status"]["consistent"], true, "{ready:#}");
    let names = ready["status"]["virtualDiskSnapshotNames"].as_array().unwrap();
    assert_eq!(names.len(), 2, "{names:?}");
    console.run("kill %1; wait");

    let uid = ready["metadata"]["uid"].as_str().unwrap();
    let root = plug_copy(&world, &mut console, "m", &format!("m-root-{uid}"), "330Mi");
    let data = plug_copy(&world, &mut console, "m", &format!("data-{uid}"), "100Mi");
    console.run(&format!("sudo mkdir -p /mnt/s && sudo mount -t ext4 /dev/{root}2 /mnt/s"));
    let in_root = number(&mut console, "cat /mnt/s/home/cloud/count");
    let in_data = number(&mut console, &format!("sudo head -c 6 /dev/{data}"));
    assert!((0..=1).contains(&(in_data - in_root)), "of one moment: {in_data} and {in_root}");
    assert!(in_root > 100_000, "the writer had begun");
    let now = number(&mut console, "cat /home/cloud/count");
    assert!(now > in_data, "the guest wrote on while it was copied: {now}");
    console.run("sudo umount /mnt/s");

    // The snapshot keeps the machine's address for it.
    let address =
        ready["status"]["resources"].as_array().unwrap().iter().find(|r| r["kind"] == "VirtualMachineIPAddress");
    let vmip = world.get(&format!("vmip/{}", address.unwrap()["name"].as_str().unwrap()));
    assert_eq!(vmip["spec"]["type"], "Static");

    // Stopped, it needs no agent.
    world.ok(&["stop", "m", "--wait"]);
    of_machine(&world, "off", "m");
    let off = world.until_phase("vms/off", "Ready", BOOT);
    assert_eq!(off["status"]["consistent"], true);
    for name in ["s", "off"] {
        world.ok(&["delete", "vms", name]);
    }
    world.until_gone(&format!("vds/m-root-{uid}"), SOON);
    world.leaves_nothing();
}

#[test]
fn a_daemon_that_is_killed_while_it_copies_goes_on_when_it_comes_back() {
    let mut world = World::start_with("[host]\nsnapshotBandwidth = 1000000\n");
    world.load_image();
    let mut console = world.booted("m", "AlwaysOnUnlessStoppedManually");
    with_agent(&world, "m");
    console.run("dd if=/dev/urandom of=big bs=1M count=8 2> /dev/null; md5sum big > sum");
    of_disk(&world, "s", "m-root", true);
    world.until("vds/s", "being copied", SOON, |o| {
        o["status"]["phase"] == "InProgress"
            && condition(o, "VirtualDiskSnapshotReady").ends_with(" Snapshotting")
            && o["status"]["conditions"].to_string().contains("being copied")
    });
    let refused = world.run(&["evict", "m", "--wait"]);
    assert!(!refused.status.success(), "a machine that is being copied is not migrated");
    world.kill_daemon();
    world.start_daemon();
    let ready = world.until_phase("vds/s", "Ready", BOOT);
    assert_eq!(ready["status"]["consistent"], true, "{ready:#}");
    let mut console = reopened(&world);
    // Not frozen any more.
    console.run("echo alive > alive; sync");
    let device = plug_copy(&world, &mut console, "m", "s", "330Mi");
    console.run(&format!("sudo mkdir -p /mnt/s && sudo mount -t ext4 /dev/{device}2 /mnt/s"));
    assert_eq!(console.run("cd /mnt/s/home/cloud && md5sum -c sum; cd"), "big: OK");
    console.run("sudo umount /mnt/s");
    world.ok(&["delete", "vds", "s"]);
    world.leaves_nothing();
}

#[test]
fn frozen_file_systems_thaw_by_themselves_whatever_happens() {
    let mut world = World::with_image();
    let mut console = world.booted("m", "AlwaysOnUnlessStoppedManually");
    assert_eq!(put(&world, "none", "freeze", "").0, 404);
    with_agent(&world, "m");
    let frozen = |world: &World| {
        world.until("vm/m", "frozen", SOON, |o| condition(o, "FilesystemFrozen") == "True Frozen");
    };
    let thawed = |world: &World| {
        world.until("vm/m", "thawed", SOON, |o| condition(o, "FilesystemFrozen").is_empty());
    };
    // What is written while it is frozen gets through when it is not.
    console.run("(while true; do date > beat; sync; usleep 100000; done) > /dev/null 2>&1 & echo");
    let (code, answer) = put(&world, "m", "freeze", r#"{"unfreezeTimeout":"10m"}"#);
    assert_eq!(code, 200, "{answer}");
    frozen(&world);
    // A snapshot taken now is consistent, and leaves the guest as it found it.
    of_disk(&world, "s", "m-root", true);
    assert_eq!(world.until_phase("vds/s", "Ready", SOON)["status"]["consistent"], true);
    assert_eq!(condition(&world.get("vm/m"), "FilesystemFrozen"), "True Frozen");
    assert_eq!(put(&world, "m", "unfreeze", "").0, 200);
    thawed(&world);
    console.run("sync");

    // By the clock.
    assert_eq!(put(&world, "m", "freeze", r#"{"unfreezeTimeout":"1s"}"#).0, 200);
    thawed(&world);
    console.run("echo again > again; sync");

    // By the next daemon.
    assert_eq!(put(&world, "m", "freeze", r#"{"unfreezeTimeout":"3s"}"#).0, 200);
    world.kill_daemon();
    world.start_daemon();
    thawed(&world);
    let mut console = reopened(&world);
    console.run("echo once-more > once-more; sync");

    // By a daemon that stops.
    assert_eq!(put(&world, "m", "freeze", r#"{"unfreezeTimeout":"10m"}"#).0, 200);
    console.send("echo $((40+2))-thawed > thawed; cat thawed\n");
    world.ok(&["host", "stop"]);
    drop(console);
    world.start_daemon();
    thawed(&world);
    let mut console = world.console("m");
    console.until("42-thawed", SOON);
    let mut console = reopened(&world);

    // A guest without an agent says so, and one that is off.
    console.run("sudo killall qemu-ga");
    world.until("vm/m", "without an agent", SOON, |o| condition(o, "AgentReady").starts_with("False"));
    let (code, answer) = put(&world, "m", "freeze", "");
    assert!(code == 500 && answer.contains("agent"), "{answer}");
    assert_eq!(put(&world, "m", "unfreeze", "").0, 200, "nothing is frozen");
    world.ok(&["stop", "m", "--force", "--wait"]);
    let (code, answer) = put(&world, "m", "freeze", "");
    assert!(code == 500 && answer.contains("off"), "{answer}");
    world.ok(&["delete", "vds", "s"]);
    world.leaves_nothing();
}

#[test]
fn a_guest_that_powers_off_while_it_is_copied_is_copied_to_the_end() {
    let world = World::start_with("[host]\nsnapshotBandwidth = 2000000\n");
    world.load_image();
    let mut console = world.booted("m", "Manual");
    with_agent(&world, "m");
    console.run("dd if=/dev/urandom of=big bs=1M count=10 2> /dev/null; sync");
    of_disk(&world, "s", "m-root", true);
    world.until("vds/s", "being copied", SOON, |o| o["status"]["conditions"].to_string().contains("being copied"));
    console.send("sudo poweroff\n");
    let stopping = world.until_phase("vm/m", "Stopping", BOOT);
    assert_eq!(condition(&stopping, "Snapshotting"), "True SnapshottingInProgress");
    let ready = world.until_phase("vds/s", "Ready", BOOT);
    assert_eq!(ready["status"]["consistent"], true, "{ready:#}");
    world.until_phase("vm/m", "Stopped", BOOT);
    assert!(world.qemu_pids().is_empty());
    world.ok(&["delete", "vds", "s"]);
    world.leaves_nothing();
}
