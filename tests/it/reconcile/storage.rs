//! Disks, images, attachments and addresses.

use std::time::Duration;

use serde_json::json;
use vmdeck::host::{Host, Speed, VolumeId, VolumeInfo, VolumeKind, VolumeState};

use super::world::{World, condition, uid};

fn ready(size: u64, cdrom: bool) -> VolumeState {
    let format = if cdrom { "iso" } else { "qcow2" };
    VolumeState::Ready(VolumeInfo { virtual_size: size, stored_size: size / 2, format: format.into(), cdrom })
}

fn volume(object: &serde_json::Value, kind: VolumeKind) -> VolumeId {
    VolumeId { kind, uid: uid(object).into() }
}

#[tokio::test]
async fn an_uploaded_image_becomes_a_disk() {
    let w = World::new().await;
    let vi = w.create("vi", "img", json!({"spec": {"dataSource": {"type": "Upload"}}})).await;
    let waiting = w.phase("vi", "img", "WaitForUserUpload").await;
    let url = waiting["status"]["imageUploadURLs"]["inCluster"].as_str().unwrap();
    assert!(url.starts_with("http://localhost/upload/token-"), "{url}");
    assert_eq!(waiting["status"]["uploadCommand"], format!("curl --unix-socket /run/api.sock -T FILE {url}"));
    w.create(
        "vd",
        "d",
        json!({"spec": {"dataSource": {
        "type": "ObjectRef", "objectRef": {"kind": "VirtualImage", "name": "img"}}}}),
    )
    .await;
    let vd = w.phase("vd", "d", "Pending").await;
    assert_eq!(condition(&vd, "DatasourceReady").1, "ImageNotReady");

    w.host.set_volume(volume(&vi, VolumeKind::Image), ready(2 << 30, false));
    let vi = w.phase("vi", "img", "Ready").await;
    assert_eq!(
        (vi["status"]["format"].as_str(), vi["status"]["size"]["unpacked"].as_str()),
        (Some("qcow2"), Some("2Gi"))
    );
    assert_eq!(vi["status"]["cdrom"], false);
    assert!(vi["status"]["imageUploadURLs"].is_null());
    let vd = w.phase("vd", "d", "Ready").await;
    assert_eq!(vd["status"]["sourceUID"], vi["metadata"]["uid"]);

    w.delete("vi", "img").await;
    let vi = w.phase("vi", "img", "Terminating").await;
    assert!(condition(&vi, "Terminating").2.contains("VirtualDisk d"), "{vi:#}");
    w.delete("vd", "d").await;
    w.gone("vi", "img").await;
}

#[tokio::test]
async fn a_failed_import_is_tried_again_when_its_spec_changes() {
    let w = World::new().await;
    let http = |url: &str| json!({"spec": {"dataSource": {"type": "HTTP", "http": {"url": url}}}});
    let vi = w.create("vi", "img", http("http://a.example/x")).await;
    let id = volume(&vi, VolumeKind::Image);
    w.phase("vi", "img", "Provisioning").await;
    let speed = Speed { current: 1 << 20, average: 2 << 20 };
    w.host.set_volume(id.clone(), VolumeState::Working { progress: Some(42), bytes_per_second: Some(speed) });
    let vi = w.until("vi", "img", "at 42%", |o| o["status"]["progress"] == "42%").await;
    let told = json!({"avg": "2Mi/s", "avgBytes": "2097152", "current": "1Mi/s", "currentBytes": "1048576"});
    assert_eq!(vi["status"]["downloadSpeed"], told);
    let kind = vmdeck::host::VolumeFailure::Source;
    w.host.set_volume(id.clone(), VolumeState::Failed { kind, detail: "404 Not Found".into() });
    let vi = w.phase("vi", "img", "Failed").await;
    assert_eq!(condition(&vi, "Ready"), ("False", "ProvisioningFailed", "404 Not Found (tried again in 30s)"));
    w.patch("vi", "img", http("http://a.example/y")).await;
    w.phase("vi", "img", "Provisioning").await;
}

#[tokio::test]
async fn disks_grow_and_are_kept_while_mounted() {
    let w = World::new().await;
    w.running("vm", json!({})).await;
    w.patch("vd", "vm-root", json!({"spec": {"persistentVolumeClaim": {"size": "3Gi"}}})).await;
    let vd = w
        .until("vd", "vm-root", "grown", |o| o["status"]["capacity"] == "3Gi" && o["status"]["phase"] == "Ready")
        .await;
    assert_eq!(vd["status"]["attachedToVirtualMachines"], json!([{"name": "vm", "mounted": true}]));
    w.until("vm", "vm", "showing it", |o| o["status"]["blockDeviceRefs"][0]["size"] == "3Gi").await;
    assert_eq!(condition(&vd, "InUse").1, "AttachedToVirtualMachine");
    w.delete("vd", "vm-root").await;
    let vd = w.phase("vd", "vm-root", "Terminating").await;
    assert!(condition(&vd, "Terminating").2.contains("VirtualMachine vm"), "{vd:#}");
    w.operation("stop", "Stop", "vm", Some(true)).await;
    w.gone("vd", "vm-root").await;
    assert!(w.host.volumes().is_empty());
}

#[tokio::test]
async fn attachments_plug_survive_restarts_and_unplug() {
    let w = World::new().await;
    w.running("vm", json!({})).await;
    let attach = |disk: &str| json!({"spec": {"virtualMachineName": "vm", "blockDeviceRef": {"kind": "VirtualDisk", "name": disk}}});
    w.create("vmbda", "att", attach("data")).await;
    let att = w.phase("vmbda", "att", "Pending").await;
    assert_eq!(condition(&att, "BlockDeviceReady").1, "BlockDeviceNotReady");
    w.disk("data").await;
    w.phase("vmbda", "att", "Attached").await;
    let vm = w.until("vm", "vm", "showing it", |o| o["status"]["blockDeviceRefs"][1]["name"] == "data").await;
    let shown = &vm["status"]["blockDeviceRefs"][1];
    assert_eq!((&shown["hotplugged"], &shown["attached"]), (&json!(true), &json!(true)));
    assert_eq!(shown["virtualMachineBlockDeviceAttachmentName"], "att");

    let refusal = w.refused("vmbda", "again", attach("data")).await;
    assert!(refusal.contains("already attached by VirtualMachineBlockDeviceAttachment \"att\""), "{refusal}");
    let refusal = w.refused("vmbda", "root", attach("vm-root")).await;
    assert!(refusal.contains("spec.blockDeviceRefs of VirtualMachine \"vm\""), "{refusal}");

    w.operation("restart", "Restart", "vm", Some(true)).await;
    w.phase("vmop", "restart", "Completed").await;
    let attaches = || w.host.steps().iter().filter(|s| *s == "attach vd-data").count();
    w.until("vmbda", "att", "plugged again", |o| o["status"]["phase"] == "Attached" && attaches() >= 2).await;
    w.delete("vmbda", "att").await;
    w.gone("vmbda", "att").await;
    w.until("vm", "vm", "without it", |o| o["status"]["blockDeviceRefs"].as_array().unwrap().len() == 1).await;
    assert!(w.host.steps().contains(&"detach vd-data".to_owned()));
}

#[tokio::test]
async fn addresses_can_be_pinned_released_and_taken_again() {
    let w = World::new().await;
    let fixed = |ip: &str| json!({"spec": {"type": "Static", "staticIP": ip}});
    w.create("vmip", "pin", fixed("10.66.10.77")).await;
    w.phase("vmip", "pin", "Bound").await;
    w.disk("vm-root").await;
    w.machine("vm", json!({"virtualMachineIPAddressName": "pin"})).await;
    let vm = w.phase("vm", "vm", "Running").await;
    assert_eq!(vm["status"]["ipAddress"], "10.66.10.77");
    w.phase("vmip", "pin", "Attached").await;

    w.delete("vm", "vm").await;
    w.gone("vm", "vm").await;
    w.phase("vmip", "pin", "Bound").await;
    w.delete("vmip", "pin").await;
    w.gone("vmip", "pin").await;
    w.phase("vmipl", "ip-10-66-10-77", "Released").await;
    w.create("vmip", "again", fixed("10.66.10.77")).await;
    w.phase("vmip", "again", "Bound").await;
    let lease = w.phase("vmipl", "ip-10-66-10-77", "Bound").await;
    assert_eq!(lease["spec"]["virtualMachineIPAddressRef"], json!({"name": "again", "namespace": "default"}));

    w.delete("vmip", "again").await;
    w.phase("vmipl", "ip-10-66-10-77", "Released").await;
    w.pass(Duration::from_secs(601));
    // Anything that makes the controller look again will do; in real life it is the timer.
    w.patch("vmipl", "ip-10-66-10-77", json!({"metadata": {"labels": {"look": "again"}}})).await;
    w.gone("vmipl", "ip-10-66-10-77").await;
}

#[tokio::test]
async fn an_upload_that_does_not_come_fails() {
    let w = World::new().await;
    w.create("vi", "img", json!({"spec": {"dataSource": {"type": "Upload"}}})).await;
    w.phase("vi", "img", "WaitForUserUpload").await;
    w.pass(Duration::from_secs(601));
    w.patch("vi", "img", json!({"metadata": {"labels": {"look": "again"}}})).await;
    let vi = w.phase("vi", "img", "Failed").await;
    assert_eq!(condition(&vi, "Ready").1, "WaitForUserUploadTimeout");
    w.settle().await;
    w.phase("vi", "img", "Failed").await;
    assert!(w.host.volumes().is_empty());
}
