//! Snapshots of disks and machines: phases, conditions, what they make, what they keep.

use futures::StreamExt;
use kube::api::{WatchEvent, WatchParams};
use serde_json::{Value, json};
use vmdeck::host::{Host, VolumeFailure, VolumeId, VolumeInfo, VolumeKind, VolumeState};

use super::world::{World, condition, uid};

fn snapshot(object: &Value) -> VolumeId {
    VolumeId { kind: VolumeKind::Snapshot, uid: uid(object).into() }
}

fn made() -> VolumeState {
    let format = "qcow2".to_owned();
    VolumeState::Ready(VolumeInfo { virtual_size: 1 << 30, stored_size: 4096, format, cdrom: false })
}

async fn of_disk(w: &World, name: &str, disk: &str, required: bool) -> Value {
    let spec = json!({"virtualDiskName": disk, "requiredConsistency": required});
    w.create("vds", name, json!({ "spec": spec })).await
}

async fn of_machine(w: &World, name: &str, vm: &str, more: Value) -> Value {
    let mut spec = json!({"virtualMachineName": vm});
    json_patch::merge(&mut spec, &more);
    w.create("vms", name, json!({ "spec": spec })).await
}

/// Collects the reasons of a condition from now on, each once, until the object's phase is `phase`.
fn reasons(w: &World, kind: &str, type_: &'static str, phase: &'static str) -> tokio::task::JoinHandle<Vec<String>> {
    let api = w.api(kind);
    tokio::spawn(async move {
        let mut seen: Vec<String> = Vec::new();
        let mut events = std::pin::pin!(api.watch(&WatchParams::default(), "0").await.unwrap());
        while let Some(event) = events.next().await {
            let (WatchEvent::Added(object) | WatchEvent::Modified(object)) = event.unwrap() else { continue };
            let object = serde_json::to_value(object).unwrap();
            let reason = condition(&object, type_).1.to_owned();
            if !reason.is_empty() && !seen.contains(&reason) {
                seen.push(reason);
            }
            if object["status"]["phase"] == phase {
                break;
            }
        }
        seen
    })
}

/// The guest has an agent.
async fn agent(w: &World, vm: &Value) {
    w.host.agent(uid(vm), true);
    let name = vm["metadata"]["name"].as_str().unwrap();
    w.until("vm", name, "with an agent", |o| condition(o, "AgentReady").0 == "True").await;
}

#[tokio::test]
async fn a_disk_at_rest_waits_is_taken_serves_as_a_source_and_is_lost() {
    let w = World::new().await;
    of_disk(&w, "s", "d", true).await;
    let s = w.phase("vds", "s", "Pending").await;
    assert_eq!(condition(&s, "VirtualDiskReady").1, "VirtualDiskNotReadyForSnapshotting");
    assert_eq!(condition(&s, "VirtualDiskSnapshotReady").1, "WaitingForTheVirtualDisk");
    // What waits for it says so.
    let from =
        |kind: &str| json!({"spec": {"dataSource": {"type": "ObjectRef", "objectRef": {"kind": kind, "name": "s"}}}});
    w.create("vd", "copy", from("VirtualDiskSnapshot")).await;
    let copy = w.phase("vd", "copy", "Pending").await;
    assert_eq!(condition(&copy, "DatasourceReady").1, "VirtualDiskSnapshot");
    w.create("vi", "img", from("VirtualDiskSnapshot")).await;
    let img = w.phase("vi", "img", "Pending").await;
    assert_eq!(condition(&img, "DatasourceReady").1, "VirtualDiskSnapshotNotReady");

    w.disk("d").await;
    let s = w.phase("vds", "s", "Ready").await;
    assert_eq!(s["status"]["consistent"], true);
    assert_eq!(s["status"]["volumeSnapshotName"], format!("vdsnapshot-{}", uid(&s)));
    assert_eq!(condition(&s, "VirtualDiskReady"), ("True", "VirtualDiskReady", ""));
    assert_eq!(condition(&s, "VirtualDiskSnapshotReady"), ("True", "VirtualDiskSnapshotReady", ""));
    let copy = w.phase("vd", "copy", "Ready").await;
    assert_eq!(copy["status"]["sourceUID"], s["metadata"]["uid"]);
    w.phase("vi", "img", "Ready").await;

    // The disk's later life is none of its business, nor is its own end one of its copies'.
    w.delete("vd", "d").await;
    w.gone("vd", "d").await;
    w.settle().await;
    w.phase("vds", "s", "Ready").await;
    let id = snapshot(&s);
    w.host.delete_volume(&id).await.unwrap();
    let s = w.phase("vds", "s", "Failed").await;
    assert_eq!(condition(&s, "VirtualDiskSnapshotReady").1, "Lost");
    w.delete("vds", "s").await;
    w.gone("vds", "s").await;
    w.phase("vd", "copy", "Ready").await;
}

#[tokio::test]
async fn a_running_guest_is_frozen_for_the_moment() {
    let w = World::new().await;
    let vm = w.running("vm", json!({})).await;
    // Without an agent it would not be consistent.
    of_disk(&w, "strict", "vm-root", true).await;
    let strict = w.phase("vds", "strict", "Failed").await;
    assert_eq!(condition(&strict, "VirtualDiskSnapshotReady").1, "PotentiallyInconsistent");
    of_disk(&w, "lax", "vm-root", false).await;
    let lax = w.phase("vds", "lax", "Ready").await;
    assert_eq!(lax["status"]["consistent"], Value::Null);
    assert!(!w.host.steps().contains(&"freeze".to_owned()));

    agent(&w, &vm).await;
    of_disk(&w, "good", "vm-root", true).await;
    let good = w.phase("vds", "good", "Ready").await;
    assert_eq!(good["status"]["consistent"], true);
    let steps = w.host.steps();
    assert_eq!(steps[steps.len() - 3..], ["freeze", "snapshot of 1", "thaw"]);

    w.host.fail_freezes("the agent is drunk");
    of_disk(&w, "bad", "vm-root", true).await;
    let bad = w.phase("vds", "bad", "Failed").await;
    let (_, reason, message) = condition(&bad, "VirtualDiskSnapshotReady");
    assert_eq!(reason, "PotentiallyInconsistent");
    assert!(message.contains("the agent is drunk"), "{message}");
}

#[tokio::test]
async fn while_it_is_copied_the_disk_stays_as_it_is() {
    let w = World::new().await;
    w.running("vm", json!({"runPolicy": "AlwaysOnUnlessStoppedManually"})).await;
    w.host.hold_snapshots();
    let s = of_disk(&w, "s", "vm-root", false).await;
    let told = w.phase("vds", "s", "InProgress").await;
    assert_eq!(condition(&told, "VirtualDiskSnapshotReady").1, "Snapshotting");
    let vd = w.until("vd", "vm-root", "snapshotting", |o| condition(o, "Snapshotting").0 == "True").await;
    assert_eq!(condition(&vd, "Snapshotting").1, "Snapshotting");
    w.until("vm", "vm", "snapshotting", |o| condition(o, "Snapshotting").1 == "SnapshottingInProgress").await;

    w.patch("vd", "vm-root", json!({"spec": {"persistentVolumeClaim": {"size": "3Gi"}}})).await;
    let vd = w.until("vd", "vm-root", "not growing", |o| condition(o, "Resizing").1 == "NotAvailable").await;
    assert_eq!((&vd["status"]["phase"], &vd["status"]["capacity"]), (&json!("Ready"), &json!("1Gi")));
    // A start waits, too.
    w.operation("stop", "Stop", "vm", Some(true)).await;
    w.phase("vmop", "stop", "Completed").await;
    w.operation("start", "Start", "vm", None).await;
    w.settle().await;
    assert_ne!(w.get("vm", "vm").await.unwrap()["status"]["phase"], "Running");
    w.delete("vd", "vm-root").await;
    let vd = w.phase("vd", "vm-root", "Terminating").await;
    assert!(condition(&vd, "Terminating").2.contains("VirtualDiskSnapshot s is being taken"), "{vd:#}");

    w.host.set_volume(snapshot(&s), made());
    w.phase("vds", "s", "Ready").await;
    w.gone("vd", "vm-root").await;
    assert!(w.events("vm-root").await.contains(&"VirtualDiskResizingNotAvailable".to_owned()));
}

#[tokio::test]
async fn a_copy_that_fails_is_told_and_the_disk_grows_after_it() {
    let w = World::new().await;
    w.disk("d").await;
    w.host.hold_snapshots();
    let s = of_disk(&w, "s", "d", true).await;
    w.phase("vds", "s", "InProgress").await;
    w.patch("vd", "d", json!({"spec": {"persistentVolumeClaim": {"size": "2Gi"}}})).await;
    w.until("vd", "d", "not growing", |o| condition(o, "Resizing").1 == "NotAvailable").await;
    let detail = "No space left on device".to_owned();
    w.host.set_volume(snapshot(&s), VolumeState::Failed { kind: VolumeFailure::NoSpace, detail });
    let s = w.phase("vds", "s", "Failed").await;
    let (_, reason, message) = condition(&s, "VirtualDiskSnapshotReady");
    assert_eq!(reason, "VirtualDiskSnapshotFailed");
    assert!(message.contains("No space left"), "{message}");
    w.until("vd", "d", "grown", |o| o["status"]["capacity"] == "2Gi").await;
}

#[tokio::test]
async fn a_machine_is_taken_with_all_its_disks_at_one_moment() {
    let w = World::new().await;
    let vm = w.running("vm", json!({})).await;
    agent(&w, &vm).await;
    w.disk("data").await;
    let attach =
        json!({"spec": {"virtualMachineName": "vm", "blockDeviceRef": {"kind": "VirtualDisk", "name": "data"}}});
    w.create("vmbda", "att", attach).await;
    w.phase("vmbda", "att", "Attached").await;
    let s = of_machine(&w, "s", "vm", json!({})).await;
    let ready = w.phase("vms", "s", "Ready").await;
    let status = &ready["status"];
    assert_eq!(status["consistent"], true, "{status:#}");
    let names = [format!("vm-root-{}", uid(&s)), format!("data-{}", uid(&s))];
    assert_eq!(status["virtualDiskSnapshotNames"], json!(names));
    assert_eq!(condition(&ready, "VirtualMachineReady").1, "VirtualMachineReady");
    let kinds: Vec<_> = status["resources"].as_array().unwrap().iter().map(|r| r["kind"].as_str().unwrap()).collect();
    assert_eq!(
        kinds,
        [
            "VirtualMachine",
            "VirtualMachineIPAddress",
            "VirtualDisk",
            "VirtualDisk",
            "VirtualMachineBlockDeviceAttachment"
        ]
    );
    for name in &names {
        let part = w.phase("vds", name, "Ready").await;
        assert_eq!(part["status"]["consistent"], true);
        assert_eq!(part["metadata"]["ownerReferences"][0]["uid"], s["metadata"]["uid"]);
    }
    let steps = w.host.steps();
    assert_eq!(steps.iter().filter(|s| s.starts_with("snapshot of")).collect::<Vec<_>>(), ["snapshot of 2"]);
    assert!(steps.iter().any(|s| s == "thaw"));
    let secret = w.get("secret", status["virtualMachineSnapshotSecretName"].as_str().unwrap()).await.unwrap();
    assert_eq!(secret["type"], "vmdeck.io/virtual-machine-snapshot");
    // The address is kept for it.
    let vmip = &w.list("vmip").await[0];
    assert_eq!(vmip["spec"], json!({"type": "Static", "staticIP": "10.66.10.1"}));
    let events = w.events("vm").await;
    for reason in [
        "VirtualMachineSnapshottingStarted",
        "VirtualMachineSnapshottingFrozen",
        "VirtualMachineSnapshottingInProgress",
        "VirtualMachineSnapshottingThawed",
        "VirtualMachineSnapshottingCompleted",
    ] {
        assert!(events.contains(&reason.to_owned()), "{reason}: {events:?}");
    }

    // A lost part makes the whole useless; with the whole its parts go.
    w.delete("vds", &names[1]).await;
    let lost = w.phase("vms", "s", "Failed").await;
    assert_eq!(condition(&lost, "VirtualMachineSnapshotReady").1, "VirtualDiskSnapshotLost");
    w.delete("vms", "s").await;
    w.gone("vds", &names[0]).await;
    w.until("secret", secret["metadata"]["name"].as_str().unwrap(), "gone", Value::is_null).await;
    assert!(!w.host.volumes().iter().any(|id| id.kind == VolumeKind::Snapshot));
}

#[tokio::test]
async fn a_stopped_machine_needs_no_agent_and_a_running_one_without_says_what_to_do() {
    let w = World::new().await;
    of_machine(&w, "early", "vm", json!({})).await;
    let early = w.phase("vms", "early", "Pending").await;
    assert_eq!(condition(&early, "VirtualMachineReady").1, "VirtualMachineNotReadyForSnapshotting");
    assert_eq!(condition(&early, "VirtualMachineSnapshotReady").1, "WaitingForTheVirtualMachine");
    w.delete("vms", "early").await;

    w.running("vm", json!({"runPolicy": "AlwaysOnUnlessStoppedManually"})).await;
    of_machine(&w, "strict", "vm", json!({})).await;
    let strict = w.phase("vms", "strict", "Failed").await;
    let (_, reason, message) = condition(&strict, "VirtualMachineSnapshotReady");
    assert_eq!(reason, "PotentiallyInconsistent");
    assert!(message.contains("requiredConsistency"), "{message}");
    assert!(w.list("vds").await.is_empty(), "nothing is made of what is refused");
    of_machine(&w, "lax", "vm", json!({"requiredConsistency": false, "keepIPAddress": "Never"})).await;
    let lax = w.phase("vms", "lax", "Ready").await;
    assert_eq!(lax["status"]["consistent"], Value::Null);
    assert_eq!(w.list("vmip").await[0]["spec"]["type"], "Auto");

    w.operation("stop", "Stop", "vm", Some(true)).await;
    w.phase("vm", "vm", "Stopped").await;
    of_machine(&w, "off", "vm", json!({})).await;
    let off = w.phase("vms", "off", "Ready").await;
    assert_eq!(off["status"]["consistent"], true);
    assert!(!w.host.steps().contains(&"freeze".to_owned()));
}

#[tokio::test]
async fn what_the_host_cannot_take_fails_and_the_guest_is_thawed() {
    let w = World::new().await;
    let vm = w.running("vm", json!({})).await;
    agent(&w, &vm).await;
    w.host.fail_snapshots("there is no room for a copy of the disk");
    of_machine(&w, "s", "vm", json!({})).await;
    let s = w.phase("vms", "s", "Failed").await;
    let (_, reason, message) = condition(&s, "VirtualMachineSnapshotReady");
    assert_eq!(reason, "VirtualMachineSnapshotFailed");
    assert!(message.contains("no room"), "{message}");
    assert_eq!(w.host.steps().last().unwrap(), "thaw");
    let part = &s["status"]["virtualDiskSnapshotNames"][0];
    let part = w.phase("vds", part.as_str().unwrap(), "Failed").await;
    assert_eq!(condition(&part, "VirtualDiskSnapshotReady").1, "VirtualDiskSnapshotFailed");
    let vm = w.until("vm", "vm", "thawed", |o| condition(o, "FilesystemFrozen").0.is_empty()).await;
    assert_eq!(condition(&vm, "Snapshotting").0, "");
}

#[tokio::test]
async fn snapshots_of_one_machine_take_turns() {
    let w = World::new().await;
    let vm = w.running("vm", json!({})).await;
    agent(&w, &vm).await;
    w.host.hold_snapshots();
    of_disk(&w, "a", "vm-root", true).await;
    w.phase("vds", "a", "InProgress").await;
    of_disk(&w, "b", "vm-root", true).await;
    let told = w.phase("vds", "b", "Pending").await;
    let message = condition(&told, "VirtualDiskSnapshotReady").2;
    assert!(message.contains("VirtualDiskSnapshot a of VirtualDisk vm-root is being taken"), "{message}");
    of_machine(&w, "m", "vm", json!({})).await;
    let told = w.phase("vms", "m", "Pending").await;
    assert_eq!(condition(&told, "VirtualMachineSnapshotReady").1, "BlockDevicesNotReady");
    // Whoever is next, copies are made one after the other.
    let release = || {
        let held: Vec<VolumeId> = w.host.volumes().into_iter().filter(|id| is_working(w.host.volume(id))).collect();
        assert!(held.len() <= 1, "{held:?}");
        held.into_iter().for_each(|id| w.host.set_volume(id, made()));
    };
    for (kind, name) in [("vds", "a"), ("vds", "b"), ("vms", "m")] {
        let ready = w
            .until(kind, name, "ready", |o| {
                release();
                o["status"]["phase"] == "Ready"
            })
            .await;
        assert_eq!(ready["status"]["consistent"], true, "{name}");
    }
}

fn is_working(state: Option<VolumeState>) -> bool {
    matches!(state, Some(VolumeState::Working { .. }))
}

#[tokio::test]
async fn what_waits_for_a_machine_goes_on_when_the_machine_is_ready() {
    let w = World::new().await;
    let vm = w.running("vm", json!({"runPolicy": "AlwaysOnUnlessStoppedManually"})).await;
    agent(&w, &vm).await;
    w.operation("go", "Evict", "vm", None).await;
    w.phase("vm", "vm", "Migrating").await;
    of_disk(&w, "s", "vm-root", true).await;
    let told = w.phase("vds", "s", "Pending").await;
    let message = condition(&told, "VirtualDiskSnapshotReady").2;
    assert!(message.contains("being migrated"), "{message}");
    of_machine(&w, "m", "vm", json!({})).await;
    w.phase("vms", "m", "Pending").await;
    let waits = |o: &Value| condition(o, "Snapshotting").1 == "WaitingForTheSnapshotToStart";
    w.until("vm", "vm", "waiting for its snapshot", waits).await;
    w.delete("vmop", "go").await;
    w.phase("vds", "s", "Ready").await;
    w.phase("vms", "m", "Ready").await;
}

#[tokio::test]
async fn every_step_of_the_moment_is_on_record() {
    let w = World::new().await;
    let vm = w.running("vm", json!({})).await;
    agent(&w, &vm).await;
    let steps = |ready: &str| ["FileSystemFreezing", "Snapshotting", "FileSystemUnfreezing", ready].map(str::to_owned);
    let of_disks = reasons(&w, "vds", "VirtualDiskSnapshotReady", "Ready");
    of_disk(&w, "d", "vm-root", true).await;
    assert_eq!(of_disks.await.unwrap(), steps("VirtualDiskSnapshotReady"));
    let of_machines = reasons(&w, "vms", "VirtualMachineSnapshotReady", "Ready");
    of_machine(&w, "m", "vm", json!({})).await;
    assert_eq!(of_machines.await.unwrap(), steps("VirtualMachineSnapshotReady"));
}
