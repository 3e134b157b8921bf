//! Restore: the machine is as it was, with its disks and its power, or it is told why not and nothing is lost.

use serde_json::{Value, json};
use vmdeck::host::{EndReason, Host, VolumeFailure, VolumeId, VolumeInfo, VolumeKind, VolumeState};

use super::world::{World, condition, uid};

/// A snapshot of a machine, ready.
pub async fn snapshot(w: &World, name: &str, vm: &str) -> Value {
    if let Some(live) = w.get("vm", vm).await {
        w.host.agent(uid(&live), true);
        if live["status"]["phase"] == "Running" {
            w.until("vm", vm, "with an agent", |o| condition(o, "AgentReady").0 == "True").await;
        }
    }
    w.create("vmsnapshot", name, json!({"spec": {"virtualMachineName": vm}})).await;
    w.phase("vmsnapshot", name, "Ready").await
}

async fn restore(w: &World, name: &str, vm: &str, snapshot: &str, mode: &str) {
    let restore = json!({"mode": mode, "virtualMachineSnapshotName": snapshot});
    let spec = json!({"type": "Restore", "virtualMachineName": vm, "restore": restore});
    w.create("vmop", name, json!({ "spec": spec })).await;
}

/// `status.resources` as `Kind name: status`.
pub fn resources(op: &Value) -> Vec<String> {
    let text = |r: &Value, key: &str| r[key].as_str().unwrap_or("").to_owned();
    let all = op["status"]["resources"].as_array().into_iter().flatten();
    all.map(|r| format!("{} {}: {}", text(r, "kind"), text(r, "name"), text(r, "status"))).collect()
}

async fn uid_of(w: &World, kind: &str, name: &str) -> String {
    uid(&w.get(kind, name).await.unwrap_or_else(|| panic!("no {kind} {name}"))).to_owned()
}

#[tokio::test]
async fn a_running_machine_is_stopped_restored_and_runs_again() {
    let w = World::new().await;
    let vm = w.running("vm", json!({})).await;
    w.patch("vm", "vm", json!({"metadata": {"labels": {"era": "old"}}})).await;
    let address = vm["status"]["ipAddress"].clone();
    snapshot(&w, "monday", "vm").await;
    let disk = uid_of(&w, "vd", "vm-root").await;

    w.patch("vm", "vm", json!({"metadata": {"labels": {"era": "new"}}, "spec": {"cpu": {"cores": 2}}})).await;
    restore(&w, "back", "vm", "monday", "Strict").await;
    let op = w.phase("vmop", "back", "Completed").await;
    assert_eq!(condition(&op, "Completed").1, "OperationCompleted", "{op:#}");
    assert_eq!(condition(&op, "SnapshotReady").1, "SnapshotReady", "{op:#}");
    assert_eq!(condition(&op, "MaintenanceMode").1, "MaintenanceModeDisabled", "{op:#}");
    assert_eq!(op["status"]["progress"], "100%");
    let told = resources(&op);
    assert_eq!(told.len(), 3, "{told:?}");
    for line in ["VirtualMachine vm: Completed", "VirtualDisk vm-root: Completed"] {
        assert!(told.iter().any(|l| l == line), "{told:?}");
    }

    let vm = w.phase("vm", "vm", "Running").await;
    assert_eq!(vm["spec"]["cpu"]["cores"], 1);
    assert_eq!(vm["metadata"]["labels"]["era"], "old");
    assert_eq!(vm["status"]["ipAddress"], address, "the address is kept");
    assert_eq!(condition(&vm, "Maintenance").0, "");
    let vd = w.get("vd", "vm-root").await.unwrap();
    assert_ne!(uid(&vd), disk, "the disk was made anew");
    assert_eq!(vd["spec"]["dataSource"]["objectRef"]["kind"], "VirtualDiskSnapshot");
    assert_eq!(w.host.spec(uid(&vm)).devices[0].volume.uid, uid(&vd));
    let steps = w.host.steps();
    let power: Vec<_> = steps.iter().filter(|s| ["start", "button", "kill"].contains(&s.as_str())).collect();
    assert_eq!(power, ["start", "button", "start"]);
    w.until("vmop", "back", "let go", |o| o["metadata"]["finalizers"].is_null()).await;
    let trials: Vec<_> = w.host.volumes().into_iter().filter(|v| v.uid.contains('.')).collect();
    assert_eq!(trials, [], "trials are cleared away");
    let events = w.events("back").await;
    for reason in ["Started", "InProgress", "Succeeded"] {
        assert!(events.contains(&format!("VirtualMachineOperation{reason}")), "{events:?}");
    }
}

#[tokio::test]
async fn a_machine_under_maintenance_says_nothing_else_and_goes_on_when_the_operation_is_deleted() {
    let w = World::new().await;
    let vm = w.running("vm", json!({})).await;
    snapshot(&w, "monday", "vm").await;
    let disk = uid_of(&w, "vd", "vm-root").await;
    w.host.deaf_guests();
    restore(&w, "back", "vm", "monday", "Strict").await;
    let seen = w.until("vm", "vm", "under maintenance", |o| condition(o, "Maintenance").0 == "True").await;
    assert_eq!(condition(&seen, "Maintenance").1, "RestoreInProgress");
    assert_eq!(seen["status"]["conditions"].as_array().unwrap().len(), 1, "{seen:#}");
    let op = w.phase("vmop", "back", "InProgress").await;
    assert_eq!(condition(&op, "MaintenanceMode").1, "MaintenanceModeEnabled");
    assert_eq!(condition(&op, "Completed").1, "RestoreInProgress");
    let refusal = w.refused("vmop", "start", json!({"spec": {"type": "Stop", "virtualMachineName": "vm"}})).await;
    assert!(refusal.contains("has to finish first"), "{refusal}");

    w.delete("vmop", "back").await;
    w.gone("vmop", "back").await;
    w.host.end(uid(&vm), EndReason::Requested);
    let vm = w.phase("vm", "vm", "Running").await;
    assert_eq!(condition(&vm, "Maintenance").0, "");
    assert_eq!(uid_of(&w, "vd", "vm-root").await, disk, "nothing was replaced yet");
}

#[tokio::test]
async fn a_daemon_that_comes_later_goes_on() {
    let mut w = World::new().await;
    let vm = w.running("vm", json!({})).await;
    snapshot(&w, "monday", "vm").await;
    w.patch("vm", "vm", json!({"spec": {"cpu": {"cores": 2}}})).await;
    w.host.deaf_guests();
    restore(&w, "back", "vm", "monday", "Strict").await;
    w.until("vm", "vm", "under maintenance", |o| condition(o, "Maintenance").0 == "True").await;
    w.stop().await;
    w.host.end(uid(&vm), EndReason::GuestShutdown);
    w.start();
    w.phase("vmop", "back", "Completed").await;
    let vm = w.phase("vm", "vm", "Running").await;
    assert_eq!(vm["spec"]["cpu"]["cores"], 1);
}

#[tokio::test]
async fn a_stopped_machine_stays_stopped_and_a_lost_disk_comes_back() {
    let w = World::new().await;
    w.disk("vm-root").await;
    w.machine("vm", json!({"runPolicy": "Manual"})).await;
    w.phase("vm", "vm", "Stopped").await;
    snapshot(&w, "monday", "vm").await;
    w.delete("vd", "vm-root").await;
    w.gone("vd", "vm-root").await;
    restore(&w, "back", "vm", "monday", "Strict").await;
    w.phase("vmop", "back", "Completed").await;
    w.phase("vd", "vm-root", "Ready").await;
    let vm = w.until("vm", "vm", "free", |o| condition(o, "BlockDevicesReady").0 == "True").await;
    assert_eq!(vm["status"]["phase"], "Stopped");
    let steps = w.host.steps();
    assert!(!steps.iter().any(|s| s == "start"), "{steps:?}");
}

#[tokio::test]
async fn a_dry_run_changes_nothing() {
    let w = World::new().await;
    w.running("vm", json!({})).await;
    snapshot(&w, "monday", "vm").await;
    w.patch("vm", "vm", json!({"spec": {"cpu": {"cores": 2}}})).await;
    w.settle().await;
    let (vm, disk) = (w.get("vm", "vm").await.unwrap(), uid_of(&w, "vd", "vm-root").await);
    restore(&w, "back", "vm", "monday", "DryRun").await;
    let op = w.phase("vmop", "back", "Completed").await;
    assert!(condition(&op, "Completed").2.starts_with("Checked only, nothing was changed."), "{op:#}");
    assert!(op["status"]["resources"][0]["message"].as_str().unwrap().starts_with("Checked only"), "{op:#}");
    let after = w.get("vm", "vm").await.unwrap();
    assert_eq!((&after["spec"], &after["status"]["phase"]), (&vm["spec"], &json!("Running")));
    assert_eq!(uid_of(&w, "vd", "vm-root").await, disk);
    assert_eq!(condition(&op, "MaintenanceMode").0, "", "the machine was not touched");
}

#[tokio::test]
async fn strict_tells_of_a_missing_image_and_best_effort_does_without() {
    let w = World::new().await;
    let source = json!({"type": "ObjectRef", "objectRef": {"kind": "VirtualDisk", "name": "seed"}});
    w.disk("seed").await;
    w.create("vi", "tools", json!({"spec": {"storage": "ContainerRegistry", "dataSource": source}})).await;
    w.phase("vi", "tools", "Ready").await;
    let refs = json!([{"kind": "VirtualDisk", "name": "vm-root"}, {"kind": "VirtualImage", "name": "tools"}]);
    w.running("vm", json!({ "blockDeviceRefs": refs })).await;
    snapshot(&w, "monday", "vm").await;
    w.patch("vm", "vm", json!({"spec": {"blockDeviceRefs": [refs[0]]}})).await;
    w.operation("restart", "Restart", "vm", None).await;
    w.phase("vmop", "restart", "Completed").await;
    w.delete("vi", "tools").await;
    w.gone("vi", "tools").await;
    let disk = uid_of(&w, "vd", "vm-root").await;

    restore(&w, "strict", "vm", "monday", "Strict").await;
    let op = w.phase("vmop", "strict", "Failed").await;
    let (_, reason, message) = condition(&op, "Completed");
    assert_eq!(reason, "OperationFailed");
    assert!(message.contains("Nothing was changed. VirtualMachine vm: VirtualImage tools does not exist"), "{message}");
    assert!(resources(&op).contains(&"VirtualMachine vm: Failed".to_owned()), "{op:#}");
    assert_eq!(uid_of(&w, "vd", "vm-root").await, disk);
    assert_eq!(w.get("vm", "vm").await.unwrap()["status"]["phase"], "Running");

    restore(&w, "best", "vm", "monday", "BestEffort").await;
    let op = w.phase("vmop", "best", "Completed").await;
    let message = condition(&op, "Completed").2;
    assert!(message.contains("Left out: VirtualImage tools, which does not exist."), "{message}");
    let vm = w.phase("vm", "vm", "Running").await;
    assert_eq!(vm["spec"]["blockDeviceRefs"], json!([refs[0]]));
}

#[tokio::test]
async fn a_disk_that_cannot_be_made_costs_nothing() {
    let w = World::new().await;
    let vm = w.running("vm", json!({})).await;
    snapshot(&w, "monday", "vm").await;
    let disk = uid_of(&w, "vd", "vm-root").await;
    w.host.deaf_guests();
    restore(&w, "back", "vm", "monday", "Strict").await;
    w.until("vm", "vm", "under maintenance", |o| condition(o, "Maintenance").0 == "True").await;
    // The trial of the one disk, by the name that the operation gives it.
    let trial = VolumeId { kind: VolumeKind::Disk, uid: format!("{}.0", uid_of(&w, "vmop", "back").await) };
    let failed = VolumeState::Failed { kind: VolumeFailure::NoSpace, detail: "no space left".into() };
    w.host.set_volume(trial.clone(), failed);
    w.host.end(uid(&vm), EndReason::Requested);
    let op = w.phase("vmop", "back", "Failed").await;
    let message = condition(&op, "Completed").2;
    assert!(message.contains("no space left Nothing was changed."), "{message}");
    assert_eq!(condition(&op, "MaintenanceMode").0, "False");
    w.phase("vm", "vm", "Running").await;
    assert_eq!(uid_of(&w, "vd", "vm-root").await, disk, "the disk that was there is still there");
    w.until("vmop", "back", "let go", |o| o["metadata"]["finalizers"].is_null()).await;
    assert_eq!(w.host.volume(&trial), None);
}

#[tokio::test]
async fn snapshots_that_cannot_be_used_are_told() {
    let w = World::new().await;
    w.running("vm", json!({})).await;
    w.running("other", json!({})).await;
    snapshot(&w, "monday", "vm").await;
    let broken = snapshot(&w, "broken", "vm").await;
    let secret = broken["status"]["virtualMachineSnapshotSecretName"].as_str().unwrap();
    w.patch("secret", secret, json!({"data": {"contents.json": "e30="}})).await;
    for (name, vm, of, words) in [
        ("none", "vm", "nothing", "VirtualMachineSnapshot nothing does not exist"),
        ("foreign", "other", "monday", "VirtualMachineSnapshot monday is of VirtualMachine vm, not of other."),
        ("damaged", "vm", "broken", "contents.json is damaged: missing field `version`"),
    ] {
        restore(&w, name, vm, of, "BestEffort").await;
        let op = w.phase("vmop", name, "Failed").await;
        let message = condition(&op, "Completed").2;
        assert!(message.contains(words), "{message}");
        assert_eq!(condition(&op, "SnapshotReady").1, "SnapshotFailed", "{op:#}");
        assert_eq!(w.get("vm", vm).await.unwrap()["status"]["phase"], "Running");
    }
}

/// Restores a machine with two disks up to where both old disks are gone and the new ones are being made; UIDs of
/// these.
async fn halfway(w: &World) -> [String; 2] {
    w.disk("data").await;
    let refs = json!([{"kind": "VirtualDisk", "name": "vm-root"}, {"kind": "VirtualDisk", "name": "data"}]);
    w.running("vm", json!({ "blockDeviceRefs": refs })).await;
    snapshot(w, "monday", "vm").await;
    let old = [uid_of(w, "vd", "vm-root").await, uid_of(w, "vd", "data").await];
    w.host.hold_copies(true);
    restore(w, "back", "vm", "monday", "Strict").await;
    let on_trial = |o: &Value| condition(o, "Completed").2.contains("on trial");
    let op = w.until("vmop", "back", "on trial", on_trial).await;
    assert_eq!([uid_of(w, "vd", "vm-root").await, uid_of(w, "vd", "data").await], old, "not before it is tried");
    for n in 0..2 {
        let trial = VolumeId { kind: VolumeKind::Disk, uid: format!("{}.{n}", uid(&op)) };
        w.host.set_volume(trial, made());
    }
    let mut new = Vec::new();
    for (name, old) in ["vm-root", "data"].into_iter().zip(&old) {
        let making = |o: &Value| o["status"]["phase"] == "Provisioning" && o["metadata"]["uid"] != **old;
        new.push(uid(&w.until("vd", name, "being made anew", making).await).to_owned());
    }
    new.try_into().unwrap()
}

fn made() -> VolumeState {
    let info = VolumeInfo { virtual_size: 1 << 30, stored_size: 4096, format: "qcow2".into(), cdrom: false };
    VolumeState::Ready(info)
}

fn disk(uid: &str) -> VolumeId {
    VolumeId { kind: VolumeKind::Disk, uid: uid.to_owned() }
}

#[tokio::test]
async fn a_disk_that_fails_after_all_is_told_with_what_to_do() {
    let w = World::new().await;
    let [root, data] = halfway(&w).await;
    w.host.set_volume(disk(&root), made());
    let failed = VolumeState::Failed { kind: VolumeFailure::Other, detail: "the disk broke".into() };
    w.host.set_volume(disk(&data), failed);
    let op = w.phase("vmop", "back", "Failed").await;
    let message = condition(&op, "Completed").2;
    assert!(message.contains("VirtualDisk data: The disk is Failed: the disk broke"), "{message}");
    assert!(message.contains("its content is in VirtualDiskSnapshot data-"), "{message}");
    assert_eq!(condition(&op, "MaintenanceMode").1, "MaintenanceModeDisabled");
    let vm = w.until("vm", "vm", "out of maintenance", |o| condition(o, "Maintenance").0.is_empty()).await;
    assert_eq!(vm["status"]["phase"], "Pending");
    // As the message says.
    w.host.hold_copies(false);
    w.delete("vd", "data").await;
    w.gone("vd", "data").await;
    restore(&w, "again", "vm", "monday", "Strict").await;
    w.phase("vmop", "again", "Completed").await;
    w.phase("vm", "vm", "Running").await;
}

#[tokio::test]
async fn an_operation_that_is_deleted_halfway_leaves_no_machine_without_disks() {
    let w = World::new().await;
    let [root, data] = halfway(&w).await;
    w.delete("vmop", "back").await;
    w.gone("vmop", "back").await;
    for uid in [&root, &data] {
        w.host.set_volume(disk(uid), made());
    }
    w.phase("vm", "vm", "Running").await;
    assert_eq!([uid_of(&w, "vd", "vm-root").await, uid_of(&w, "vd", "data").await], [root, data]);
}
