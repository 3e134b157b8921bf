//! Every reason that the conditions of disks and images can have is reached: the rows of
//! `vmdeck::controller::reasons`, seen by a watch while one world goes through them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use kube::api::{WatchEvent, WatchParams};
use parking_lot::Mutex;
use serde_json::{Value, json};
use vmdeck::controller::reasons::{DISK, IMAGE, OF_SNAPSHOTS, Row};
use vmdeck::host::{Host, VolumeFailure, VolumeId, VolumeInfo, VolumeKind, VolumeState};

use super::world::{World, condition, uid};

/// Kind, condition and reason.
type Seen = Arc<Mutex<BTreeSet<(String, String, String)>>>;

/// Notes the reasons of all conditions of a kind, from now on.
async fn note(w: &World, kind: &'static str, seen: &Seen) {
    let (api, seen) = (w.api(kind), seen.clone());
    let mut events = api.watch(&WatchParams::default(), "0").await.unwrap().boxed();
    tokio::spawn(async move {
        while let Ok(Some(event)) = events.try_next().await {
            let (WatchEvent::Added(object) | WatchEvent::Modified(object)) = event else { continue };
            for condition in object.data["status"]["conditions"].as_array().into_iter().flatten() {
                let text = |key: &str| condition[key].as_str().unwrap().to_owned();
                seen.lock().insert((kind.to_owned(), text("type"), text("reason")));
            }
        }
    });
}

fn volume(object: &Value, kind: VolumeKind) -> VolumeId {
    VolumeId { kind, uid: uid(object).into() }
}

fn ready() -> VolumeState {
    VolumeState::Ready(VolumeInfo { virtual_size: 1 << 30, stored_size: 4096, format: "qcow2".into(), cdrom: false })
}

fn working() -> VolumeState {
    VolumeState::Working { progress: Some(1), bytes_per_second: None }
}

fn failed(kind: VolumeFailure) -> VolumeState {
    VolumeState::Failed { kind, detail: "in words".into() }
}

/// A data source that names another object.
fn from(kind: &str, name: &str) -> Value {
    let mut reference = json!({"kind": kind, "name": name});
    if !kind.starts_with("Cluster") {
        reference["namespace"] = "default".into();
    }
    json!({"spec": {"dataSource": {"type": "ObjectRef", "objectRef": reference}}})
}

/// The same for a namespaced object.
fn here(kind: &str, name: &str) -> Value {
    json!({"spec": {"dataSource": {"type": "ObjectRef", "objectRef": {"kind": kind, "name": name}}}})
}

fn http() -> Value {
    json!({"spec": {"dataSource": {"type": "HTTP", "http": {"url": "http://a.example/x"}}}})
}

fn upload() -> Value {
    json!({"spec": {"dataSource": {"type": "Upload"}}})
}

fn pull(secret: Value) -> Value {
    let mut source = json!({"type": "ContainerImage", "containerImage": {"image": "r.example/d:1"}});
    if !secret.is_null() {
        source["containerImage"]["imagePullSecret"] = secret;
    }
    json!({"spec": {"dataSource": source}})
}

/// Makes the object and waits until a condition has a reason.
async fn reach(w: &World, kind: &str, name: &str, body: Value, type_: &str, reason: &str) -> Value {
    w.create(kind, name, body).await;
    w.until(kind, name, reason, |o| condition(o, type_).1 == reason).await
}

/// What disks and images have in common. `secret`: the reference to the pull secret "pull".
async fn common(w: &World, kind: &'static str, id: VolumeKind, secret: Value) {
    for (name, missing, reason, ready) in [
        ("no-image", "VirtualImage", "ImageNotFound", "DatasourceIsNotFound"),
        ("no-cluster-image", "ClusterVirtualImage", "ClusterImageNotFound", "DatasourceIsNotFound"),
    ] {
        let body = if kind == "cvi" { from(missing, "nowhere") } else { here(missing, "nowhere") };
        let object = reach(w, kind, name, body, "DatasourceReady", reason).await;
        assert_eq!(condition(&object, "Ready").1, ready, "{object:#}");
        assert_eq!(object["status"]["phase"], "Pending");
        assert_eq!(object["status"]["progress"], Value::Null, "nothing in Pending");
        assert!(condition(&object, "Ready").2.contains("nowhere does not exist"), "{object:#}");
    }
    for (name, source, reason) in
        [("late", "VirtualImage", "ImageNotReady"), ("cluster-late", "ClusterVirtualImage", "ClusterImageNotReady")]
    {
        let body = if kind == "cvi" { from(source, "slow") } else { here(source, "slow") };
        let object = reach(w, kind, name, body, "DatasourceReady", reason).await;
        assert_eq!(condition(&object, "Ready").1, "DatasourceIsNotReady", "{object:#}");
    }
    let mut bad = http();
    bad["spec"]["dataSource"]["http"]["caBundle"] = "%%%".into();
    // So `Unknown` is only for an object that is older than the rule.
    assert!(w.try_create(kind, "bad", bad).await.is_err(), "admission refuses it");
    let object = reach(w, kind, "secretive", pull(secret), "DatasourceReady", "ContainerRegistrySecretNotFound").await;
    assert_eq!(condition(&object, "Ready").1, "DatasourceIsNotFound");

    let object = reach(w, kind, "up", upload(), "Ready", "WaitForUserUpload").await;
    assert_eq!(object["status"]["progress"], "0%");
    let late = reach(w, kind, "too-late", upload(), "Ready", "WaitForUserUpload").await;
    assert!(late["status"]["imageUploadURLs"]["inCluster"].is_string(), "{late:#}");
    w.pass(Duration::from_secs(601));
    w.patch(kind, "too-late", json!({"metadata": {"labels": {"look": "again"}}})).await;
    let late = w.phase(kind, "too-late", "Failed").await;
    assert_eq!(condition(&late, "Ready").1, "WaitForUserUploadTimeout");
    assert!(late["status"]["imageUploadURLs"].is_null() && late["status"]["uploadCommand"].is_null(), "{late:#}");

    for (name, source, failure, reason) in [
        ("sum", http(), VolumeFailure::Checksum, "ProvisioningFailed"),
        ("full", http(), VolumeFailure::NoSpace, "QuotaExceeded"),
        ("pulled", pull(Value::Null), VolumeFailure::Source, "ImagePullFailed"),
    ] {
        let object = reach(w, kind, name, source, "Ready", "Provisioning").await;
        w.host.set_volume(volume(&object, id), failed(failure));
        let object = w.phase(kind, name, "Failed").await;
        let (status, told, message) = condition(&object, "Ready");
        assert_eq!((status, told), ("False", reason), "{object:#}");
        assert!(message.starts_with("in words"), "{message}");
    }
    let object = reach(w, kind, "good", http(), "Ready", "Provisioning").await;
    w.host.set_volume(volume(&object, id), ready());
    let object = w.phase(kind, "good", "Ready").await;
    assert_eq!(object["status"]["progress"], "100%");
    assert_eq!(condition(&object, "InUse"), ("False", "NotInUse", ""));
}

/// Images only.
async fn images(w: &World, kind: &'static str) {
    let disk = |name: &str| if kind == "cvi" { from("VirtualDisk", name) } else { here("VirtualDisk", name) };
    let name = |part: &str| format!("{kind}-{part}");
    reach(w, kind, "no-disk", disk("nowhere"), "DatasourceReady", "VirtualDiskNotReady").await;
    let object =
        reach(w, kind, "mounted", disk("vm-root"), "DatasourceReady", "VirtualDiskAttachedToVirtualMachine").await;
    assert!(condition(&object, "Ready").2.contains("running machine vm"), "{object:#}");
    reach(w, kind, "going", disk("doomed"), "DatasourceReady", "VirtualDiskNotReadyForUse").await;

    // In use: a disk is made from it. Lost, and back.
    let object = w.get(kind, "good").await.unwrap();
    let image = if kind == "cvi" { "ClusterVirtualImage" } else { "VirtualImage" };
    w.create("vd", &name("child"), here(image, "good")).await;
    w.until(kind, "good", "in use", |o| condition(o, "InUse").0 == "True").await;
    let id = volume(&object, VolumeKind::Image);
    w.host.delete_volume(&id).await.unwrap();
    let lost = w.phase(kind, "good", "ImageLost").await;
    assert_eq!(condition(&lost, "Ready").1, "ImageLost");
    w.host.set_volume(id, ready());
    w.phase(kind, "good", "Ready").await;
    w.delete(kind, "good").await;
    let object = w.phase(kind, "good", "Terminating").await;
    assert!(condition(&object, "Terminating").2.contains(&format!("VirtualDisk {}", name("child"))), "{object:#}");
}

#[tokio::test]
async fn every_reason_of_disks_and_images_is_reached() {
    let w = World::new().await;
    let seen = Seen::default();
    for kind in ["vd", "vi", "cvi"] {
        note(&w, kind, &seen).await;
    }
    w.create("vi", "slow", upload()).await;
    w.create("cvi", "slow", upload()).await;
    w.running("vm", json!({})).await;

    common(&w, "vd", VolumeKind::Disk, json!({"name": "pull"})).await;
    common(&w, "vi", VolumeKind::Image, json!({"name": "pull"})).await;
    common(&w, "cvi", VolumeKind::Image, json!({"name": "pull", "namespace": "default"})).await;

    // A disk that grows, is copied, is lost, is wanted and held.
    w.disk("data").await;
    let size = |size: &str| json!({"spec": {"persistentVolumeClaim": {"size": size}}});
    w.patch("vd", "data", size("2Gi")).await;
    w.until("vd", "data", "grown", |o| o["status"]["capacity"] == "2Gi").await;
    let copy = w.create("vi", "copy", here("VirtualDisk", "data")).await;
    w.phase("vi", "copy", "Ready").await;
    w.host.set_volume(volume(&copy, VolumeKind::Image), working());
    w.until("vd", "data", "copied", |o| condition(o, "InUse").1 == "UsedForImageCreation").await;
    w.patch("vd", "data", size("3Gi")).await;
    let held = w.until("vd", "data", "held", |o| condition(o, "Resizing").1 == "NotAvailable").await;
    assert_eq!((&held["status"]["phase"], &held["status"]["capacity"]), (&json!("Ready"), &json!("2Gi")));
    assert!(condition(&held, "Resizing").2.contains("VirtualImage copy is being made from it"), "{held:#}");
    w.host.set_volume(volume(&copy, VolumeKind::Image), ready());
    w.until("vd", "data", "grown after all", |o| o["status"]["capacity"] == "3Gi").await;

    let lost = w.get("vd", "good").await.unwrap();
    let id = volume(&lost, VolumeKind::Disk);
    w.host.delete_volume(&id).await.unwrap();
    let lost = w.phase("vd", "good", "PVCLost").await;
    assert_eq!(condition(&lost, "Ready"), ("False", "PVCLost", "The disk's data is gone from this computer."));
    w.host.set_volume(id, ready());
    w.phase("vd", "good", "Ready").await;

    w.create("vd", "doomed", size("1Gi")).await;
    w.phase("vd", "doomed", "Ready").await;
    w.machine("holder", json!({"blockDeviceRefs": [{"kind": "VirtualDisk", "name": "doomed"}]})).await;
    w.phase("vm", "holder", "Running").await;
    w.delete("vd", "doomed").await;
    let doomed = w.phase("vd", "doomed", "Terminating").await;
    assert!(condition(&doomed, "Terminating").2.contains("VirtualMachine holder has it"), "{doomed:#}");

    images(&w, "vi").await;
    images(&w, "cvi").await;
    let mut kept = http();
    kept["spec"]["storage"] = "PersistentVolumeClaim".into();
    kept["spec"]["persistentVolumeClaim"] = json!({"storageClassName": "fast"});
    let object = reach(&w, "vi", "kept", kept, "Ready", "Provisioning").await;
    let id = volume(&object, VolumeKind::Image);
    w.host.set_volume(id.clone(), ready());
    let object = w.phase("vi", "kept", "Ready").await;
    assert_eq!(condition(&object, "StorageClassReady").1, "StorageClassReady");
    assert_eq!(object["status"]["storageClassName"], "fast");
    assert_eq!(object["status"]["target"]["persistentVolumeClaimName"], format!("vi-{}", uid(&object)));
    w.host.delete_volume(&id).await.unwrap();
    w.phase("vi", "kept", "PVCLost").await;
    w.settle().await;

    let seen = seen.lock();
    let of_cluster_image = |row: &&Row| row.0 != "StorageClassReady" && row.1 != "PVCLost";
    let tables: [(&str, Vec<&Row>); 3] = [
        ("vd", DISK.iter().collect()),
        ("vi", IMAGE.iter().collect()),
        ("cvi", IMAGE.iter().filter(of_cluster_image).collect()),
    ];
    for (kind, table) in &tables {
        let missing: Vec<_> = table
            .iter()
            .filter(|row| !OF_SNAPSHOTS.contains(row))
            // Admission refuses what leads there, see `common`.
            .filter(|row| ***row != ("DatasourceReady", "Unknown"))
            .filter(|(type_, reason)| !seen.contains(&((*kind).into(), (*type_).into(), (*reason).into())))
            .collect();
        assert!(missing.is_empty(), "{kind}: nobody saw {missing:?}");
    }
    for (kind, type_, reason) in seen.iter() {
        let table = tables.iter().find(|(k, _)| k == kind).unwrap();
        let known = table.1.iter().any(|row| row.0 == type_ && row.1 == reason);
        assert!(known, "{kind} has {type_} {reason}, which is not in the table");
    }
}
