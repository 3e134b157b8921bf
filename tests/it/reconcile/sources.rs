//! Sources of disks and images: what is asked of the host, what is said, and when it is tried again.

use std::time::Duration;

use base64::Engine;
use serde_json::{Value, json};
use vmdeck::host::{Speed, VolumeFailure, VolumeId, VolumeInfo, VolumeKind, VolumeSource, VolumeState};

use super::world::{World, condition, uid};

fn image(object: &Value) -> VolumeId {
    VolumeId { kind: VolumeKind::Image, uid: uid(object).into() }
}

fn disk(object: &Value) -> VolumeId {
    VolumeId { kind: VolumeKind::Disk, uid: uid(object).into() }
}

fn ready() -> VolumeState {
    VolumeState::Ready(VolumeInfo { virtual_size: 1 << 30, stored_size: 4096, format: "qcow2".into(), cdrom: false })
}

fn working(progress: u8) -> VolumeState {
    let speed = Speed { current: 1 << 20, average: 2 << 20 };
    VolumeState::Working { progress: Some(progress), bytes_per_second: Some(speed) }
}

fn failed(kind: VolumeFailure) -> VolumeState {
    VolumeState::Failed { kind, detail: "in words".into() }
}

fn http(url: &str) -> Value {
    json!({"spec": {"dataSource": {"type": "HTTP", "http": {"url": url}}}})
}

async fn until_event(w: &World, name: &str, reason: &str) {
    let begun = std::time::Instant::now();
    loop {
        let events = w.events(name).await;
        if events.iter().any(|event| event == reason) {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{name} has no event {reason}: {events:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_pull_secret_is_waited_for_and_given_to_the_host_alone() {
    let w = World::new().await;
    let source = json!({"type": "ContainerImage", "containerImage": {
        "image": "r.example/team/disk:1", "imagePullSecret": {"name": "pull"}, "caBundle": "Y2VydA=="}});
    w.create("vi", "img", json!({"spec": {"dataSource": source}})).await;
    let object = w.phase("vi", "img", "Pending").await;
    let (_, reason, message) = condition(&object, "DatasourceReady");
    assert_eq!(reason, "ContainerRegistrySecretNotFound");
    assert_eq!(message, "Secret pull with the registry's credentials does not exist in the namespace default.");
    until_event(&w, "img", "VirtualDiskContainerRegistrySecretNotFound").await;

    // One that is no pull secret does not do.
    w.create("secrets", "pull", json!({"type": "Opaque", "stringData": {"password": "hunter2"}})).await;
    let object = w.until("vi", "img", "told", |o| condition(o, "Ready").2.contains("is not of type")).await;
    assert_eq!(condition(&object, "DatasourceReady").1, "ContainerRegistrySecretNotFound");
    w.delete("secrets", "pull").await;
    let config = r#"{"auths":{"r.example":{"username":"anna","password":"hunter2"}}}"#;
    let data = base64::engine::general_purpose::STANDARD.encode(config);
    let secret = json!({"type": "kubernetes.io/dockerconfigjson", "data": {".dockerconfigjson": data}});
    w.create("secrets", "pull", secret).await;
    let object = w.phase("vi", "img", "Provisioning").await;
    let request = w.host.request(&image(&object));
    let VolumeSource::Registry { image: name, ca_bundle, credentials } = &request.source else {
        panic!("{request:?}");
    };
    assert_eq!((name.as_str(), ca_bundle.as_deref()), ("r.example/team/disk:1", Some(&b"cert"[..])));
    assert_eq!(credentials.as_ref().unwrap().0, config.as_bytes());
    assert!(!object.to_string().contains("hunter2"), "{object:#}");

    // A cluster-wide image says where its secret is.
    for (reference, said) in [
        (json!({"name": "pull", "namespace": "default"}), None),
        (json!({"name": "pull"}), Some("imagePullSecret.namespace")),
        (json!({"name": "pull", "namespace": "kube-system"}), Some("in the namespace kube-system")),
    ] {
        let source =
            json!({"type": "ContainerImage", "containerImage": {"image": "r.example/d", "imagePullSecret": reference}});
        w.create("cvi", "c", json!({"spec": {"dataSource": source}})).await;
        match said {
            None => drop(w.phase("cvi", "c", "Provisioning").await),
            Some(words) => {
                let object = w.phase("cvi", "c", "Pending").await;
                assert!(condition(&object, "Ready").2.contains(words), "{object:#}");
            }
        }
        w.delete("cvi", "c").await;
        w.gone("cvi", "c").await;
    }
}

#[tokio::test]
async fn sources_that_cannot_be_read_are_tried_again_and_other_failures_are_final() {
    let w = World::new().await;
    for (name, kind, again) in [
        ("source", VolumeFailure::Source, true),
        ("sum", VolumeFailure::Checksum, false),
        ("format", VolumeFailure::Format, false),
        ("small", VolumeFailure::TooSmall, false),
        ("full", VolumeFailure::NoSpace, false),
    ] {
        let object = w.create("vi", name, http("http://a.example/x")).await;
        w.phase("vi", name, "Provisioning").await;
        w.host.set_volume(image(&object), failed(kind));
        let shown = w.phase("vi", name, "Failed").await;
        let message = condition(&shown, "Ready").2;
        assert_eq!(message, if again { "in words (tried again in 30s)" } else { "in words" }, "{name}");
    }
    for (pause, next) in [(30, "1m0s"), (60, "2m0s"), (120, "4m0s")] {
        w.settle().await;
        let look = |n: i32| json!({"metadata": {"labels": {"look": format!("{pause}-{n}")}}});
        w.pass(Duration::from_secs(pause - 1));
        w.patch("vi", "source", look(1)).await;
        w.settle().await;
        w.phase("vi", "source", "Failed").await;
        w.pass(Duration::from_secs(2));
        // In real life a timer wakes it.
        w.patch("vi", "source", look(2)).await;
        let object = w.phase("vi", "source", "Provisioning").await;
        w.host.set_volume(image(&object), failed(VolumeFailure::Source));
        let told = format!("in words (tried again in {next})");
        w.until("vi", "source", "failed again", |o| condition(o, "Ready").2 == told).await;
    }
    w.pass(Duration::from_secs(3600));
    w.patch("vi", "source", json!({"metadata": {"labels": {"look": "last"}}})).await;
    let object = w.phase("vi", "source", "Provisioning").await;
    w.host.set_volume(image(&object), ready());
    w.phase("vi", "source", "Ready").await;
    for name in ["sum", "format", "small", "full"] {
        w.patch("vi", name, json!({"metadata": {"labels": {"look": "again"}}})).await;
        w.settle().await;
        w.phase("vi", name, "Failed").await;
    }
}

#[tokio::test]
async fn an_import_tells_how_it_goes_and_what_became_of_it() {
    let w = World::new().await;
    let http = http("http://a.example/x");
    for (kind, id) in [("vd", disk as fn(&Value) -> VolumeId), ("vi", image), ("cvi", image)] {
        let name = format!("{kind}-1");
        let object = w.create(kind, &name, http.clone()).await;
        w.phase(kind, &name, "Provisioning").await;
        until_event(&w, &name, "DataSourceImportStarted").await;
        w.host.set_volume(id(&object), working(25));
        let shown = w.until(kind, &name, "at 25%", |o| o["status"]["progress"] == "25%").await;
        assert_eq!(
            shown["status"]["downloadSpeed"],
            json!({"avg": "2Mi/s", "avgBytes": "2097152", "current": "1Mi/s", "currentBytes": "1048576"})
        );
        until_event(&w, &name, "DataSourceImportInProgress").await;
        w.host.set_volume(id(&object), ready());
        let shown = w.phase(kind, &name, "Ready").await;
        assert_eq!(shown["status"]["progress"], "100%");
        assert_eq!(shown["status"]["downloadSpeed"], json!({"avg": "2Mi/s", "avgBytes": "2097152"}));
        until_event(&w, &name, "DataSourceImportCompleted").await;
        w.delete(kind, &name).await;
        w.gone(kind, &name).await;
        until_event(&w, &name, "Deleted").await;
        for (failure, progress, event) in [
            (VolumeFailure::Source, 10, "DataSourceImportFailed"),
            (VolumeFailure::NoSpace, 10, "DataSourceQuotaExceed"),
            (
                VolumeFailure::Other,
                80,
                if kind == "vd" { "DataSourceDiskProvisioningFailed" } else { "DataSourceImportFailed" },
            ),
        ] {
            let name = format!("{kind}-{}", event.to_lowercase());
            let object = w.create(kind, &name, http.clone()).await;
            w.phase(kind, &name, "Provisioning").await;
            w.host.set_volume(id(&object), working(progress));
            w.until(kind, &name, "working", |o| o["status"]["progress"] == format!("{progress}%")).await;
            w.host.set_volume(id(&object), failed(failure));
            w.phase(kind, &name, "Failed").await;
            until_event(&w, &name, event).await;
            w.delete(kind, &name).await;
            w.gone(kind, &name).await;
        }
    }
}

#[tokio::test]
async fn a_changed_source_starts_over_until_it_is_made() {
    let w = World::new().await;
    for (kind, event) in [("vd", "VirtualDiskSpecHasBeenChanged"), ("vi", "VirtualImageSpecHasBeenChanged")] {
        let object = w.create(kind, "x", http("http://a.example/1")).await;
        let id = if kind == "vd" { disk(&object) } else { image(&object) };
        w.phase(kind, "x", "Provisioning").await;
        w.host.set_volume(id.clone(), working(40));
        w.until(kind, "x", "working", |o| o["status"]["progress"] == "40%").await;
        w.patch(kind, "x", http("http://a.example/2")).await;
        w.until(kind, "x", "begun anew", |o| o["status"]["progress"] == "0%").await;
        until_event(&w, "x", event).await;
        let VolumeSource::Http { url, .. } = w.host.request(&id).source else { panic!("another source") };
        assert_eq!(url, "http://a.example/2");
        w.host.set_volume(id, ready());
        w.phase(kind, "x", "Ready").await;
        let body = http("http://a.example/3");
        let refused = w.try_patch(kind, "x", body).await.unwrap_err().to_string();
        assert!(refused.contains("spec.dataSource") && refused.contains("cannot be changed"), "{refused}");
    }
}

#[tokio::test]
async fn images_and_disks_are_made_from_each_other_in_all_directions() {
    let w = World::new().await;
    w.disk("d").await;
    let object_ref = |kind: &str, name: &str, namespace: Option<&str>| {
        let mut reference = json!({"kind": kind, "name": name});
        if let Some(namespace) = namespace {
            reference["namespace"] = namespace.into();
        }
        json!({"spec": {"dataSource": {"type": "ObjectRef", "objectRef": reference}}})
    };
    for (kind, name, source, of, namespace) in [
        ("vi", "vi-vd", "VirtualDisk", "d", None),
        ("cvi", "cvi-vd", "VirtualDisk", "d", Some("default")),
        ("vi", "vi-vi", "VirtualImage", "vi-vd", None),
        ("vi", "vi-cvi", "ClusterVirtualImage", "cvi-vd", None),
        ("cvi", "cvi-vi", "VirtualImage", "vi-vd", Some("default")),
        ("cvi", "cvi-cvi", "ClusterVirtualImage", "cvi-vd", None),
        ("vd", "vd-vi", "VirtualImage", "vi-vi", None),
        ("vd", "vd-cvi", "ClusterVirtualImage", "cvi-cvi", None),
    ] {
        w.create(kind, name, object_ref(source, of, namespace)).await;
        let object = w.phase(kind, name, "Ready").await;
        let short = ["VirtualDisk", "VirtualImage", "ClusterVirtualImage"].iter().position(|k| *k == source).unwrap();
        let parent = w.get(["vd", "vi", "cvi"][short], of).await.unwrap();
        assert_eq!(object["status"]["sourceUID"], parent["metadata"]["uid"], "{name}");
        let id = if kind == "vd" { disk(&object) } else { image(&object) };
        assert!(matches!(w.host.request(&id).source, VolumeSource::Volume(from) if from.uid == uid(&parent)), "{name}");
    }
    let used = w.until("cvi", "cvi-cvi", "used", |o| o["status"]["usedInNamespaces"] == json!(["default"])).await;
    assert_eq!(condition(&used, "InUse"), ("True", "InUse", "Used by VirtualDisk vd-cvi."));

    // Of another namespace: only as a whole cluster may see it, or with its namespace.
    for (kind, name, body) in [
        ("cvi", "nowhere", object_ref("VirtualDisk", "d", None)),
        ("vd", "disk-of-disk", object_ref("VirtualDisk", "d", None)),
    ] {
        w.refused(kind, name, body).await;
    }
    w.create("cvi", "elsewhere", object_ref("VirtualDisk", "d", Some("kube-system"))).await;
    let object = w.phase("cvi", "elsewhere", "Pending").await;
    assert_eq!(condition(&object, "DatasourceReady").1, "VirtualDiskNotReady");
    // A namespace in a namespaced image means nothing: it would reach into others'.
    let refused = w.try_create("vi", "reaches", object_ref("VirtualDisk", "d", Some("kube-system"))).await;
    if refused.is_ok() {
        let object = w.phase("vi", "reaches", "Ready").await;
        assert_eq!(object["status"]["sourceUID"], w.get("vd", "d").await.unwrap()["metadata"]["uid"]);
    }
}

#[tokio::test]
async fn a_disk_tells_how_long_its_making_took() {
    let w = World::new().await;
    w.create("vi", "img", http("http://a.example/x")).await;
    let vi = w.phase("vi", "img", "Provisioning").await;
    let source = json!({"type": "ObjectRef", "objectRef": {"kind": "VirtualImage", "name": "img"}});
    w.create("vd", "d", json!({"spec": {"dataSource": source}})).await;
    w.phase("vd", "d", "Pending").await;
    w.settle().await;
    w.pass(Duration::from_secs(90));
    w.host.set_volume(image(&vi), ready());
    let vd = w.phase("vd", "d", "Ready").await;
    let took = &vd["status"]["stats"]["creationDuration"];
    for key in ["waitingForDependencies", "totalProvisioning"] {
        assert!(took[key].as_str().unwrap().starts_with("1m3"), "{key}: {took}");
    }
    assert!(took["dvcrProvisioning"].is_null(), "nothing was downloaded: {took}");
    w.create("vd", "h", http("http://a.example/x")).await;
    let h = w.phase("vd", "h", "Provisioning").await;
    w.settle().await;
    w.pass(Duration::from_secs(120));
    w.host.set_volume(disk(&h), ready());
    let h = w.phase("vd", "h", "Ready").await;
    let took = &h["status"]["stats"]["creationDuration"];
    assert!(took["dvcrProvisioning"].as_str().unwrap().starts_with("2m"), "{took}");
    assert_eq!(h["status"]["target"]["persistentVolumeClaimName"], format!("vd-{}", uid(&h)));
}
