//! Clone, and CreateVirtualMachine of a snapshot: a second machine with disks of its own, or nothing at all.

use serde_json::{Value, json};
use vmdeck::host::{Host, VolumeFailure, VolumeId, VolumeInfo, VolumeKind, VolumeState};

use super::restoring_machines::{resources, snapshot};
use super::world::{World, condition, uid};

async fn agent(w: &World, vm: &Value) {
    w.host.agent(uid(vm), true);
    w.until("vm", vm["metadata"]["name"].as_str().unwrap(), "with an agent", |o| {
        condition(o, "AgentReady").0 == "True"
    })
    .await;
}

async fn clone(w: &World, name: &str, vm: &str, clone: Value) {
    w.create("vmop", name, json!({"spec": {"type": "Clone", "virtualMachineName": vm, "clone": clone}})).await;
}

fn prefixed(mode: &str) -> Value {
    json!({"mode": mode, "customization": {"namePrefix": "new-"}})
}

async fn names(w: &World, kind: &str) -> Vec<String> {
    let mut all: Vec<_> =
        w.list(kind).await.iter().map(|o| o["metadata"]["name"].as_str().unwrap().to_owned()).collect();
    all.sort();
    all
}

/// A machine with all that is copied: a Secret, an attached disk, an address of its own, labels.
async fn complete(w: &World) -> Value {
    let type_ = "provisioning.virtualization.deckhouse.io/cloud-init";
    w.create("secret", "seed", json!({"type": type_, "stringData": {"userData": "#cloud-config\n"}})).await;
    w.create("vmip", "fixed", json!({"spec": {"type": "Static", "staticIP": "10.66.10.77"}})).await;
    w.phase("vmip", "fixed", "Bound").await;
    w.disk("data").await;
    let provisioning =
        json!({"type": "UserDataRef", "userData": null, "userDataRef": {"kind": "Secret", "name": "seed"}});
    let vm = w.running("vm", json!({"provisioning": provisioning, "virtualMachineIPAddressName": "fixed"})).await;
    let device = json!({"kind": "VirtualDisk", "name": "data"});
    w.create("vmbda", "plug", json!({"spec": {"virtualMachineName": "vm", "blockDeviceRef": device}})).await;
    w.phase("vmbda", "plug", "Attached").await;
    vm
}

#[tokio::test]
async fn a_running_machine_and_its_copy() {
    let w = World::new().await;
    let vm = complete(&w).await;
    agent(&w, &vm).await;
    clone(&w, "copy", "vm", prefixed("Strict")).await;
    let op = w.phase("vmop", "copy", "Completed").await;
    let done = |line: &str| format!("{line}: Completed");
    assert_eq!(
        resources(&op),
        [
            done("Secret new-seed"),
            done("VirtualDisk new-vm-root"),
            done("VirtualDisk new-data"),
            done("VirtualMachine new-vm"),
            done("VirtualMachineBlockDeviceAttachment new-plug"),
        ]
    );
    assert_eq!(condition(&op, "SnapshotReady"), ("False", "SnapshotCleanedUp", ""), "{op:#}");
    assert_eq!(op["status"]["progress"], "100%");
    assert_eq!(names(&w, "vmsnapshot").await, [""; 0], "its snapshot is gone");

    let copy = w.phase("vm", "new-vm", "Running").await;
    w.phase("vmbda", "new-plug", "Attached").await;
    let original = w.get("vm", "vm").await.unwrap();
    assert_eq!(original["status"]["phase"], "Running");
    assert_eq!(original["status"]["ipAddress"], "10.66.10.77");
    assert_ne!(copy["status"]["ipAddress"], "10.66.10.77");
    assert_eq!(copy["spec"]["virtualMachineIPAddressName"], Value::Null);
    assert_eq!(copy["spec"]["provisioning"]["userDataRef"]["name"], "new-seed");
    let (a, b) = (w.host.spec(uid(&original)), w.host.spec(uid(&copy)));
    assert_ne!(a.uuid, b.uuid, "cloud-init takes it for a machine of its own");
    assert_ne!(a.nic.unwrap().mac, b.nic.unwrap().mac);
    assert_ne!(a.devices[0].volume, b.devices[0].volume);

    // The operation that made the copy is not in the way of one on it, nor does it go with it.
    w.operation("restart", "Restart", "new-vm", None).await;
    w.phase("vmop", "restart", "Completed").await;
    w.delete("vm", "new-vm").await;
    w.gone("vm", "new-vm").await;
    assert!(w.get("vmop", "copy").await.is_some());
}

#[tokio::test]
async fn a_stopped_machine_needs_no_agent_and_its_copy_is_stopped() {
    let w = World::new().await;
    w.disk("vm-root").await;
    w.machine("vm", json!({"runPolicy": "Manual"})).await;
    w.phase("vm", "vm", "Stopped").await;
    let replacement = json!([
        {"from": {"name": "vm"}, "to": "second"},
        {"from": {"kind": "VirtualDisk", "name": "vm-root"}, "to": "second-disk"},
    ]);
    clone(&w, "copy", "vm", json!({"mode": "Strict", "nameReplacement": replacement})).await;
    w.phase("vmop", "copy", "Completed").await;
    let copy = w.phase("vm", "second", "Stopped").await;
    assert_eq!(copy["spec"]["blockDeviceRefs"][0]["name"], "second-disk");
    w.phase("vd", "second-disk", "Ready").await;
    w.operation("start", "Start", "second", None).await;
    w.phase("vmop", "start", "Completed").await;
}

#[tokio::test]
async fn what_cannot_be_cloned_leaves_nothing() {
    let w = World::new().await;
    let vm = w.running("vm", json!({})).await;
    let before = names(&w, "vd").await;
    let failed = async |name: &str, how: Value| {
        clone(&w, name, "vm", how).await;
        let op = w.phase("vmop", name, "Failed").await;
        w.until("vmop", name, "let go", |o| o["metadata"]["finalizers"].is_null()).await;
        assert_eq!(names(&w, "vmsnapshot").await, [""; 0], "{name}");
        assert_eq!(names(&w, "vd").await, before, "{name}");
        assert_eq!(names(&w, "vm").await, ["vm"], "{name}");
        condition(&op, "Completed").2.to_owned()
    };
    let words = failed("no-agent", prefixed("Strict")).await;
    assert!(words.contains("guest agent does not answer"), "{words}");
    agent(&w, &vm).await;
    let same = json!({"mode": "Strict", "nameReplacement": [{"from": {"name": "vm"}, "to": "x"}]});
    let words = failed("taken", same).await;
    assert!(words.contains("VirtualDisk vm-root exists already: choose another new name."), "{words}");
    let long = json!({"mode": "BestEffort", "nameReplacement": [{"from": {"name": "vm-root"}, "to": "Root"}]});
    let words = failed("misnamed", long).await;
    assert!(words.contains("\"Root\" is not a possible name"), "{words}");
}

#[tokio::test]
async fn a_dry_run_takes_no_snapshot() {
    let w = World::new().await;
    w.running("vm", json!({})).await;
    clone(&w, "copy", "vm", prefixed("DryRun")).await;
    let op = w.phase("vmop", "copy", "Completed").await;
    assert!(condition(&op, "Completed").2.starts_with("Checked only, nothing was made."), "{op:#}");
    assert_eq!(resources(&op), ["VirtualDisk new-vm-root: Completed", "VirtualMachine new-vm: Completed"]);
    assert_eq!((names(&w, "vm").await, names(&w, "vmsnapshot").await), (vec!["vm".to_owned()], vec![]));
}

#[tokio::test]
async fn a_clone_that_is_deleted_in_the_middle_leaves_nothing() {
    let w = World::new().await;
    let vm = w.running("vm", json!({})).await;
    agent(&w, &vm).await;
    w.host.hold_snapshots();
    clone(&w, "copy", "vm", prefixed("Strict")).await;
    let op = w.until("vmop", "copy", "waiting", |o| condition(o, "SnapshotReady").1 == "SnapshotInProgress").await;
    assert_eq!(condition(&op, "Completed").1, "CloneInProgress");
    w.delete("vmop", "copy").await;
    w.gone("vmop", "copy").await;
    w.until("vm", "vm", "running on", |o| o["status"]["phase"] == "Running").await;
    let snapshot = format!("vmop-clone-{}", uid(&op));
    w.gone("vmsnapshot", &snapshot).await;
    assert_eq!((names(&w, "vm").await, names(&w, "vd").await), (vec!["vm".to_owned()], vec!["vm-root".to_owned()]));
}

#[tokio::test]
async fn a_daemon_that_comes_later_finishes_the_copy() {
    let mut w = World::new().await;
    let vm = w.running("vm", json!({})).await;
    agent(&w, &vm).await;
    w.host.hold_snapshots();
    clone(&w, "copy", "vm", prefixed("Strict")).await;
    let op = w.until("vmop", "copy", "waiting", |o| condition(o, "SnapshotReady").1 == "SnapshotInProgress").await;
    w.phase("vmsnapshot", &format!("vmop-clone-{}", uid(&op)), "InProgress").await;
    w.until("vd", "vm-root", "being copied", |_| w.host.volumes().iter().any(|v| v.kind == VolumeKind::Snapshot)).await;
    w.stop().await;
    let copied = w.host.volumes().into_iter().find(|v| v.kind == VolumeKind::Snapshot).unwrap();
    let info = VolumeInfo { virtual_size: 1 << 30, stored_size: 4096, format: "qcow2".into(), cdrom: false };
    w.host.set_volume(copied, VolumeState::Ready(info));
    w.start();
    w.phase("vmop", "copy", "Completed").await;
    w.phase("vm", "new-vm", "Running").await;
    assert_eq!(names(&w, "vmsnapshot").await, [""; 0]);
}

#[tokio::test]
async fn a_machine_that_is_gone_is_made_from_its_snapshot_under_its_own_names() {
    let w = World::new().await;
    complete(&w).await;
    snapshot(&w, "monday", "vm").await;
    for (kind, name) in [("vmbda", "plug"), ("vm", "vm"), ("vd", "vm-root"), ("vd", "data"), ("secret", "seed")] {
        w.delete(kind, name).await;
        w.gone(kind, name).await;
    }
    let same = json!({"mode": "Strict", "nameReplacement": [{"from": {"name": "vm"}, "to": "vm"}]});
    let create = |how: Value| {
        json!({"spec": {
            "type": "CreateVirtualMachine", "virtualMachineSnapshotName": "monday", "createVirtualMachine": how,
        }})
    };
    w.create("vmsop", "again", create(same)).await;
    let op = w.phase("vmsop", "again", "Completed").await;
    assert_eq!(resources(&op).len(), 5, "{op:#}");
    assert!(resources(&op).iter().all(|line| line.ends_with(": Completed")), "{op:#}");
    w.phase("vm", "vm", "Running").await;
    w.phase("vmbda", "plug", "Attached").await;
    assert_eq!(w.get("vmsnapshot", "monday").await.unwrap()["status"]["phase"], "Ready", "it is not used up");
    let events = w.events("again").await;
    for reason in [
        "VirtualMachineSnaphotOperationStarted",
        "VirtualMachineSnapshotOperationInProgress",
        "VirtualMachineSnapshotOperationSucceeded",
    ] {
        assert!(events.iter().any(|e| e == reason), "{reason}: {events:?}");
    }

    w.create(
        "vmsop",
        "twice",
        create(json!({"mode": "BestEffort", "nameReplacement": [{"from": {"name": "vm"}, "to": "vm"}]})),
    )
    .await;
    let op = w.phase("vmsop", "twice", "Failed").await;
    let message = condition(&op, "Completed").2;
    assert!(message.contains("VirtualMachine vm exists already"), "{message}");
    w.create("vmsop", "look", create(json!({"mode": "DryRun", "customization": {"nameSuffix": "-2"}}))).await;
    let op = w.phase("vmsop", "look", "Completed").await;
    assert!(resources(&op).contains(&"VirtualMachine vm-2: Completed".to_owned()), "{op:#}");
    assert!(w.get("vm", "vm-2").await.is_none());
    w.create(
        "vmsop",
        "none",
        json!({"spec": {
            "type": "CreateVirtualMachine", "virtualMachineSnapshotName": "tuesday",
            "createVirtualMachine": {"mode": "Strict", "customization": {"nameSuffix": "-2"}},
        }}),
    )
    .await;
    let op = w.phase("vmsop", "none", "Failed").await;
    assert!(condition(&op, "Completed").2.contains("VirtualMachineSnapshot tuesday does not exist"), "{op:#}");
}

#[tokio::test]
async fn a_copy_whose_disk_fails_or_that_is_given_up_takes_away_what_it_made() {
    let w = World::new().await;
    let vm = w.running("vm", json!({})).await;
    agent(&w, &vm).await;
    w.host.hold_copies(true);
    for (name, fails) in [("fails", true), ("given-up", false)] {
        clone(&w, name, "vm", prefixed("Strict")).await;
        let making = w.phase("vd", "new-vm-root", "Provisioning").await;
        assert!(w.get("vm", "new-vm").await.is_none(), "the machine comes after its disks");
        if fails {
            let id = VolumeId { kind: VolumeKind::Disk, uid: uid(&making).to_owned() };
            w.host.set_volume(id, VolumeState::Failed { kind: VolumeFailure::NoSpace, detail: "no space left".into() });
            let op = w.phase("vmop", name, "Failed").await;
            let message = condition(&op, "Completed").2;
            assert!(message.contains("VirtualDisk new-vm-root: The disk is Failed: no space left"), "{message}");
            assert_eq!(condition(&op, "SnapshotReady").1, "SnapshotCleanedUp");
        } else {
            w.delete("vmop", name).await;
            w.gone("vmop", name).await;
        }
        w.gone("vd", "new-vm-root").await;
        assert_eq!((names(&w, "vm").await, names(&w, "vmsnapshot").await), (vec!["vm".to_owned()], vec![]), "{name}");
    }
}
