//! Restore, Clone and CreateVirtualMachine with real guests: old content is back, copies are machines of their own.

use serde_json::{Value, json};

use crate::support::{BOOT, Console, SOON, World};

fn object(kind: &str, name: &str, spec: &Value) -> String {
    let api = "virtualization.deckhouse.io/v1alpha2";
    format!("{}\n", json!({"apiVersion": api, "kind": kind, "metadata": {"name": name}, "spec": spec}))
}

fn operation(world: &World, name: &str, vm: &str, spec: Value) {
    let mut whole = json!({"virtualMachineName": vm});
    json_patch::merge(&mut whole, &spec);
    world.apply(&object("VirtualMachineOperation", name, &whole));
}

fn message(op: &Value) -> String {
    let conditions = op["status"]["conditions"].as_array().into_iter().flatten();
    let completed = conditions.into_iter().find(|c| c["type"] == "Completed");
    completed.and_then(|c| c["message"].as_str()).unwrap_or_default().to_owned()
}

fn with_agent(world: &World, vm: &str) {
    world.until(&format!("vm/{vm}"), "with an agent", BOOT, |o| {
        let conditions = o["status"]["conditions"].as_array().into_iter().flatten();
        conditions.into_iter().any(|c| c["type"] == "AgentReady" && c["status"] == "True")
    });
}

fn instance(console: &mut Console) -> String {
    console.run("cat /var/lib/guest/instance")
}

#[test]
fn a_restored_machine_has_its_old_content_its_address_and_its_power() {
    let world = World::with_image();
    let mut console = world.booted("m", "AlwaysOnUnlessStoppedManually");
    with_agent(&world, "m");
    let address = world.get("vm/m")["status"]["ipAddress"].clone();
    let id = instance(&mut console);
    console.run("echo before > word; sync");
    world.apply(&object("VirtualMachineSnapshot", "monday", &json!({"virtualMachineName": "m"})));
    world.until_phase("vms/monday", "Ready", BOOT);
    console.run("echo after > word; touch new; sync");

    let restore = |mode: &str| json!({"mode": mode, "virtualMachineSnapshotName": "monday"});
    let disk = world.get("vd/m-root")["metadata"]["uid"].clone();
    operation(&world, "look", "m", json!({"type": "Restore", "restore": restore("DryRun")}));
    world.until_phase("vmop/look", "Completed", SOON);
    assert_eq!(world.get("vd/m-root")["metadata"]["uid"], disk, "a dry run changes nothing");
    assert_eq!(console.run("cat word"), "after");

    operation(&world, "back", "m", json!({"type": "Restore", "restore": restore("Strict")}));
    let op = world
        .until("vmop/back", "over", BOOT, |o| matches!(o["status"]["phase"].as_str(), Some("Completed" | "Failed")));
    assert_eq!(op["status"]["phase"], "Completed", "{op:#}");
    world.until_phase("vm/m", "Running", BOOT);
    console.login();
    assert_eq!(console.run("cat word"), "before");
    assert_eq!(console.run("ls new 2> /dev/null | wc -l"), "0");
    assert_eq!(instance(&mut console), id, "it is the same machine");
    let vm = world.get("vm/m");
    assert_eq!(vm["status"]["ipAddress"], address);
    assert_ne!(world.get("vd/m-root")["metadata"]["uid"], disk);

    // Gone with its disk, it is made again from the same snapshot, under its own names.
    world.ok(&["delete", "vm", "m"]);
    world.until_gone("vm/m", BOOT);
    world.ok(&["delete", "vd", "m-root"]);
    world.until_gone("vd/m-root", SOON);
    let same = json!({"mode": "Strict", "nameReplacement": [{"from": {"name": "m"}, "to": "m"}]});
    let spec = json!({
        "type": "CreateVirtualMachine", "virtualMachineSnapshotName": "monday", "createVirtualMachine": same,
    });
    world.apply(&object("VirtualMachineSnapshotOperation", "again", &spec));
    let op = world
        .until("vmsop/again", "over", BOOT, |o| matches!(o["status"]["phase"].as_str(), Some("Completed" | "Failed")));
    assert_eq!(op["status"]["phase"], "Completed", "{op:#}");
    world.until_phase("vm/m", "Running", BOOT);
    let mut console = world.console("m");
    console.login();
    assert_eq!(console.run("cat word"), "before");
    assert_ne!(instance(&mut console), id, "it is a new machine");
    world.ok(&["delete", "vms", "monday"]);
    world.until_gone("vms/monday", SOON);
    assert_eq!(console.run("md5sum < word"), console.run("echo before | md5sum"), "its disk needs no snapshot");
    world.leaves_nothing();
}

#[test]
fn a_running_machine_and_its_copies_run_side_by_side() {
    let world = World::with_image();
    let mut console = world.booted("m", "AlwaysOnUnlessStoppedManually");
    with_agent(&world, "m");
    // Not synced: the snapshot freezes the guest.
    console.run("dd if=/dev/urandom of=big bs=1M count=2 2> /dev/null; md5sum big > sum");
    let clone = |mode: &str, prefix: &str| json!({"mode": mode, "customization": {"namePrefix": prefix}});
    operation(&world, "copy", "m", json!({"type": "Clone", "clone": clone("Strict", "new-")}));
    let op = world
        .until("vmop/copy", "over", BOOT, |o| matches!(o["status"]["phase"].as_str(), Some("Completed" | "Failed")));
    assert_eq!(op["status"]["phase"], "Completed", "{op:#}");
    let temporary = format!("vms/vmop-clone-{}", op["metadata"]["uid"].as_str().unwrap());
    assert!(world.find(&temporary).is_none(), "the snapshot is gone");
    world.until_phase("vm/new-m", "Running", BOOT);
    let mut copy = world.console("new-m");
    copy.login();
    assert_eq!(copy.run("md5sum -c sum"), "big: OK");
    assert_eq!(copy.run("hostname"), "new-m");
    assert_ne!(instance(&mut copy), instance(&mut console));
    let (original, second) = (world.get("vm/m"), world.get("vm/new-m"));
    assert_eq!(original["status"]["phase"], "Running");
    assert_ne!(original["status"]["ipAddress"], second["status"]["ipAddress"]);
    // Independent: what one writes the other does not have.
    copy.run("echo copy > mine; sync");
    assert_eq!(console.run("ls mine 2> /dev/null | wc -l"), "0");

    // Stopped, it needs no agent, and a name that is taken is told.
    world.ok(&["stop", "m", "--wait"]);
    operation(&world, "taken", "m", json!({"type": "Clone", "clone": clone("Strict", "new-")}));
    let op = world.until_phase("vmop/taken", "Failed", SOON);
    assert!(message(&op).contains("VirtualMachine new-m: VirtualMachine new-m exists already"), "{op:#}");
    operation(&world, "third", "m", json!({"type": "Clone", "clone": clone("Strict", "third-")}));
    let op = world
        .until("vmop/third", "over", BOOT, |o| matches!(o["status"]["phase"].as_str(), Some("Completed" | "Failed")));
    assert_eq!(op["status"]["phase"], "Completed", "{op:#}");
    world.until_phase("vm/third-m", "Running", BOOT);
    world.until_phase("vm/new-m", "Running", SOON);
    let mut third = world.console("third-m");
    third.login();
    assert_eq!(third.run("md5sum -c sum"), "big: OK");
    world.leaves_nothing();
}

#[test]
fn strict_tells_of_a_missing_image_and_best_effort_does_without() {
    let world = World::start();
    world.apply(&object("VirtualDisk", "root", &json!({"persistentVolumeClaim": {"size": "8Mi"}})));
    world.until_phase("vd/root", "Ready", SOON);
    let source = json!({"type": "ObjectRef", "objectRef": {"kind": "VirtualDisk", "name": "root"}});
    world.apply(&object("VirtualImage", "tools", &json!({"storage": "ContainerRegistry", "dataSource": source})));
    world.until_phase("vi/tools", "Ready", SOON);
    let refs = json!([{"kind": "VirtualDisk", "name": "root"}, {"kind": "VirtualImage", "name": "tools"}]);
    let spec = json!({
        "virtualMachineClassName": "generic", "runPolicy": "Manual", "cpu": {"cores": 1}, "memory": {"size": "64Mi"},
        "blockDeviceRefs": refs,
    });
    world.apply(&object("VirtualMachine", "m", &spec));
    world.until_phase("vm/m", "Stopped", SOON);
    world.apply(&object("VirtualMachineSnapshot", "monday", &json!({"virtualMachineName": "m"})));
    world.until_phase("vms/monday", "Ready", SOON);
    let patch = json!({"spec": {"blockDeviceRefs": [refs[0]]}}).to_string();
    world.ok(&["patch", "vm", "m", "--type", "merge", "-p", &patch]);
    world.ok(&["delete", "vi", "tools"]);
    world.until_gone("vi/tools", SOON);
    let disk = world.get("vd/root")["metadata"]["uid"].clone();

    let restore =
        |mode: &str| json!({"type": "Restore", "restore": {"mode": mode, "virtualMachineSnapshotName": "monday"}});
    operation(&world, "strict", "m", restore("Strict"));
    let op = world.until_phase("vmop/strict", "Failed", SOON);
    assert!(message(&op).contains("VirtualImage tools does not exist"), "{op:#}");
    assert_eq!(world.get("vd/root")["metadata"]["uid"], disk);
    operation(&world, "best", "m", restore("BestEffort"));
    let op = world.until_phase("vmop/best", "Completed", SOON);
    assert!(message(&op).contains("Left out: VirtualImage tools"), "{op:#}");
    assert_ne!(world.get("vd/root")["metadata"]["uid"], disk);
    assert_eq!(world.get("vm/m")["spec"]["blockDeviceRefs"].as_array().unwrap().len(), 1);
    world.ok(&["delete", "vms", "monday"]);
    world.until_gone("vms/monday", SOON);
    world.leaves_nothing();
}
