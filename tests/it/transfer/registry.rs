//! Images from a container registry.

use serde_json::json;
use vmdeck::host::{Host, PullSecret, VolumeFailure, VolumeInfo, VolumeKind, VolumeRequest, VolumeSource, VolumeState};

use super::registry_server::{Access, Registry, descriptor, digest, manifest};
use super::{World, image_of, packed, raw_content, tar};

type Outcome = Result<VolumeInfo, (VolumeFailure, String)>;

struct Asks<'a> {
    image: &'a str,
    secret: Option<&'a str>,
    ca: Option<&'a str>,
}

impl<'a> Asks<'a> {
    fn of(image: &'a str) -> Self {
        Self { image, secret: None, ca: None }
    }

    fn request(&self) -> VolumeRequest {
        let source = VolumeSource::Registry {
            image: self.image.into(),
            ca_bundle: self.ca.map(|ca| ca.as_bytes().to_vec()),
            credentials: self.secret.map(|secret| PullSecret(secret.as_bytes().to_vec())),
        };
        VolumeRequest { source, size: None, checksums: vec![] }
    }

    async fn pull(&self, world: &World) -> Outcome {
        let id = world.fresh(VolumeKind::Image);
        let outcome = world.make(&id, self.request()).await;
        match &outcome {
            Ok(info) => assert!(world.content(&id, info) == raw_content(), "another content"),
            Err(_) => world.nothing_is_left(&id),
        }
        outcome
    }
}

fn words(outcome: Outcome, kind: VolumeFailure) -> String {
    let (found, detail) = outcome.unwrap_err();
    assert_eq!(found, kind, "{detail}");
    detail
}

fn disk_layer(format: &str) -> Vec<u8> {
    packed("gzip", &tar(&[(&format!("disk/image.{format}"), &image_of(format, &raw_content()))]))
}

fn secret_for(address: &str, user: &str, password: &str) -> String {
    json!({"auths": {address: {"username": user, "password": password}}}).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn container_disks_of_every_kind_are_pulled() {
    let Some(world) = World::new().await else { return };
    let registry = Registry::start(Access::Anybody).await;
    let other = packed("gzip", &tar(&[("etc/motd", b"hello")]));
    let qcow2 = image_of("qcow2", &raw_content());
    let digest_of_tagged = registry.push("team/plain", "v1", &[disk_layer("qcow2")]);
    registry.push("raw", "latest", &[tar(&[("disk/image.raw", &raw_content())])]);
    registry.push("zstd", "latest", &[packed("zstd", &tar(&[("disk/d.vmdk", &image_of("vmdk", &raw_content()))]))]);
    // Made once: each vdi has an identity of its own.
    let below = disk_layer("vdi");
    registry.push("below", "latest", &[below.clone(), other.clone()]);
    registry.push("xz-inside", "latest", &[tar(&[("disk/image.qcow2.xz", &packed("xz", &qcow2))])]);
    registry.push("blob", "latest", std::slice::from_ref(&qcow2));
    registry.push("packed-blob", "latest", &[packed("gzip", &qcow2)]);
    for name in ["team/plain:v1", "raw", "zstd", "below", "xz-inside", "blob", "packed-blob:latest"] {
        let outcome = Asks::of(&registry.name(name)).pull(&world).await;
        outcome.unwrap_or_else(|e| panic!("{name}: {e:?}"));
    }
    Asks::of(&registry.name(&format!("team/plain@{digest_of_tagged}"))).pull(&world).await.unwrap();
    let lowest = digest(&below);
    assert_eq!(registry.server.count(&lowest), 1);

    registry.push("nothing", "latest", &[other]);
    registry.push("two", "latest", &[tar(&[("disk/a", b"a"), ("disk/b", b"b")])]);
    for (name, said) in [("nothing", "no disk image"), ("two", "several files")] {
        let told = words(Asks::of(&registry.name(name)).pull(&world).await, VolumeFailure::Format);
        assert!(told.contains(said), "{told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_leads_to_the_image_of_this_computer() {
    let Some(world) = World::new().await else { return };
    let registry = Registry::start(Access::Anybody).await;
    let architecture = world.host.node().architecture;
    let ours = manifest(&[disk_layer("qcow2")]);
    registry.push("multi", "ours", &[disk_layer("qcow2")]);
    let entry = |text: &[u8], architecture: &str| {
        let mut entry = descriptor(text);
        entry["platform"] = json!({"os": "linux", "architecture": architecture});
        entry
    };
    let index =
        json!({"schemaVersion": 2, "manifests": [entry(b"nobody has this", "s390x"), entry(&ours, &architecture)]});
    registry.put_manifest("multi", "latest", index.to_string().as_bytes());
    Asks::of(&registry.name("multi")).pull(&world).await.unwrap();

    let foreign = json!({"schemaVersion": 2, "manifests": [entry(&ours, "s390x")]});
    registry.put_manifest("foreign", "latest", foreign.to_string().as_bytes());
    let told = words(Asks::of(&registry.name("foreign")).pull(&world).await, VolumeFailure::Source);
    assert!(told.contains(&format!("linux/{architecture}")) && told.contains("linux/s390x"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn registries_that_want_to_know_who_asks() {
    let Some(world) = World::new().await else { return };
    for access in [Access::Token, Access::TokenForAnna, Access::Basic] {
        let registry = Registry::start(access).await;
        registry.push("d", "latest", &[disk_layer("qcow2")]);
        let (name, address) = (registry.name("d"), registry.server.address.clone());
        let anonymous = Asks::of(&name).pull(&world).await;
        if access == Access::Token {
            anonymous.unwrap();
            continue;
        }
        let told = words(anonymous, VolumeFailure::Source);
        assert!(told.contains("imagePullSecret"), "{told}");
        let right = secret_for(&address, "anna", "secret");
        Asks { secret: Some(&right), ..Asks::of(&name) }.pull(&world).await.unwrap();
        let wrong = secret_for(&address, "anna", "hunter2");
        let told = words(Asks { secret: Some(&wrong), ..Asks::of(&name) }.pull(&world).await, VolumeFailure::Source);
        assert!(told.contains("refuses the credentials") && !told.contains("hunter2"), "{told}");
        let elsewhere = secret_for("r.example", "anna", "secret");
        let told =
            words(Asks { secret: Some(&elsewhere), ..Asks::of(&name) }.pull(&world).await, VolumeFailure::Source);
        assert!(told.contains("imagePullSecret"), "{told}");
        let told = words(Asks { secret: Some("hunter2"), ..Asks::of(&name) }.pull(&world).await, VolumeFailure::Source);
        assert!(told.contains(".dockerconfigjson") && !told.contains("hunter2"), "{told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_or_not_what_it_says_is_refused() {
    let Some(world) = World::new().await else { return };
    let registry = Registry::start(Access::Anybody).await;
    let layer = disk_layer("qcow2");
    registry.push("d", "latest", std::slice::from_ref(&layer));
    let told = words(Asks::of(&registry.name("d:v9")).pull(&world).await, VolumeFailure::Source);
    assert!(told.contains("no such image") && told.contains("d:v9"), "{told}");

    let other = format!("d@sha256:{}", "ab".repeat(32));
    registry.put_manifest("d", &other[2..], &manifest(std::slice::from_ref(&layer)));
    let told = words(Asks::of(&registry.name(&other)).pull(&world).await, VolumeFailure::Checksum);
    assert!(told.contains("sha256 checksum"), "{told}");

    registry.damage(&digest(&layer));
    let told = words(Asks::of(&registry.name("d")).pull(&world).await, VolumeFailure::Checksum);
    assert!(told.contains("sha256 checksum"), "{told}");

    // Longer than announced.
    let long = disk_layer("vdi");
    let mut text: serde_json::Value = serde_json::from_slice(&manifest(std::slice::from_ref(&long))).unwrap();
    text["layers"][0]["size"] = json!(100);
    registry.put_blob(&long);
    registry.put_manifest("long", "latest", text.to_string().as_bytes());
    let told = words(Asks::of(&registry.name("long")).pull(&world).await, VolumeFailure::Source);
    assert!(told.contains("100 were announced"), "{told}");

    for (name, text, said) in [
        ("html", "<html>", "cannot be read"),
        ("old", r#"{"schemaVersion":1,"fsLayers":[]}"#, "schema version 1"),
        ("evil", r#"{"layers":[{"digest":"sha256:../../token","size":1}]}"#, "no digest"),
    ] {
        registry.put_manifest(name, "latest", text.as_bytes());
        let told = words(Asks::of(&registry.name(name)).pull(&world).await, VolumeFailure::Source);
        assert!(told.contains(said), "{told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_goes_on_where_it_broke_off_and_when_its_token_ends() {
    let Some(world) = World::new().await else { return };
    let registry = Registry::start(Access::Token).await;
    let layer = tar(&[("disk/image.qcow2", &image_of("qcow2", &raw_content()))]);
    registry.push("d", "latest", std::slice::from_ref(&layer));
    let step = layer.len() / 4 + 1;
    registry.break_after(step);
    registry.token_uses(2);
    Asks::of(&registry.name("d")).pull(&world).await.unwrap();
    let ranges: Vec<String> = registry
        .server
        .asked()
        .iter()
        .filter(|asked| asked.line.contains("/blobs/") && asked.header("authorization") == "Bearer good")
        .map(|asked| asked.header("range").to_owned())
        .collect();
    for n in 1..4 {
        assert!(ranges.contains(&format!("bytes={}-", n * step)), "{ranges:?}");
    }
    assert!(registry.server.count("/token") >= 2, "a new token when the old one had ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_with_its_own_authority_needs_the_bundle() {
    let Some(world) = World::new().await else { return };
    let registry = Registry::start_with_tls(Access::Basic).await;
    registry.push("d", "latest", &[disk_layer("qcow2")]);
    let (name, secret) = (registry.name("d"), secret_for(&registry.server.address, "anna", "secret"));
    let ca = registry.server.ca.clone().unwrap();
    Asks { image: &name, secret: Some(&secret), ca: Some(&ca) }.pull(&world).await.unwrap();
    let told = words(Asks { image: &name, secret: Some(&secret), ca: None }.pull(&world).await, VolumeFailure::Source);
    assert!(told.contains("certificate") && told.contains("caBundle"), "{told}");
    let other = Registry::start_with_tls(Access::Anybody).await;
    let wrong = other.server.ca.clone().unwrap();
    let told =
        words(Asks { image: &name, secret: Some(&secret), ca: Some(&wrong) }.pull(&world).await, VolumeFailure::Source);
    assert!(told.contains("certificate"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_are_not_written_down() {
    let Some(world) = World::new().await else { return };
    let registry = Registry::start(Access::TokenForAnna).await;
    registry.push("d", "latest", &[disk_layer("qcow2")]);
    let name = registry.name("d");
    let secret = secret_for(&registry.server.address, "anna", "secret");
    let asks = Asks { secret: Some(&secret), ..Asks::of(&name) };
    let id = world.fresh(VolumeKind::Image);
    world.make(&id, asks.request()).await.unwrap();
    assert!(matches!(world.host.volume(&id), Some(VolumeState::Ready(_))));
    let written = crate::support::files_text(world.home());
    assert!(written.contains(&name), "the record is there");
    assert!(!written.contains("anna") && !written.contains("dockerconfig"), "credentials are on the disk");
    assert!(!format!("{:?}", asks.request()).contains("secret\""), "{:?}", asks.request());
}
