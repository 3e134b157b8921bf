//! Uploads: in one piece, in several, of container images in a file; and what becomes of lost data.

use std::io::Cursor;

use serde_json::json;
use vmdeck::config::Paths;
use vmdeck::host::{
    Host, UploadFailure, VolumeFailure, VolumeId, VolumeKind, VolumeRequest, VolumeSource, VolumeState,
};

use super::registry_server::{descriptor, digest, manifest};
use super::{World, image_of, packed, raw_content, tar};

async fn waiting(world: &World, checksums: Vec<(String, String)>) -> (VolumeId, String) {
    let id = world.fresh(VolumeKind::Image);
    world.host.create_volume(&id, VolumeRequest { source: VolumeSource::Upload, size: None, checksums });
    let token = token(world, &id).await;
    (id, token)
}

async fn token(world: &World, id: &VolumeId) -> String {
    world
        .until(id, |state| match state {
            VolumeState::WaitingForUpload { token } => Some(token),
            _ => None,
        })
        .await
}

fn body(content: &[u8]) -> Box<Cursor<Vec<u8>>> {
    Box::new(Cursor::new(content.to_vec()))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_broke_off_goes_on_or_begins_anew() {
    let Some(world) = World::new().await else { return };
    let content = image_of("qcow2", &raw_content());
    let sum = digest(&content).strip_prefix("sha256:").unwrap().to_owned();
    let (id, token_of_it) = waiting(&world, vec![("sha256".into(), sum)]).await;
    let total = content.len() as u64;
    let (one, rest) = content.split_at(content.len() / 3);
    let broken = world.host.receive_upload(&token_of_it, Some(total), body(one)).await;
    assert!(matches!(&broken, Err(UploadFailure::Failed(words)) if words.contains("broke off")), "{broken:?}");
    assert_eq!(token(&world, &id).await, token_of_it, "the address stays good");
    let received = one.len() as u64;
    assert_eq!(world.host.upload_received(&token_of_it), Ok(received));
    let elsewhere = world.host.resume_upload(&token_of_it, 5, Some(total), body(&content[5..])).await;
    assert_eq!(elsewhere, Err(UploadFailure::Elsewhere { received }));
    // All of it again, but it breaks off earlier.
    let broken = world.host.receive_upload(&token_of_it, Some(total), body(&one[..100])).await;
    assert!(broken.is_err());
    assert_eq!(world.host.upload_received(&token_of_it), Ok(100));
    let broken = world.host.resume_upload(&token_of_it, 100, Some(total), body(&one[100..])).await;
    assert!(broken.is_err());
    world.host.resume_upload(&token_of_it, received, Some(total), body(rest)).await.unwrap();
    let info = world
        .until(&id, |state| match state {
            VolumeState::Ready(info) => Some(info),
            _ => None,
        })
        .await;
    assert!(world.content(&id, &info) == raw_content());
    assert_eq!(world.host.upload_received(&token_of_it), Err(UploadFailure::UnknownToken), "good for one upload");
    let again = world.host.receive_upload(&token_of_it, Some(total), body(&content)).await;
    assert_eq!(again, Err(UploadFailure::UnknownToken));
}

#[tokio::test(flavor = "multi_thread")]
async fn container_images_in_a_file_are_taken() {
    let Some(world) = World::new().await else { return };
    let layer = packed("gzip", &tar(&[("disk/image.qcow2", &image_of("qcow2", &raw_content()))]));
    let image = manifest(std::slice::from_ref(&layer));
    let index = json!({"schemaVersion": 2, "manifests": [descriptor(&image)]}).to_string();
    let blob = |content: &[u8]| format!("blobs/{}", digest(content).replace(':', "/"));
    let (image_at, layer_at) = (blob(&image), blob(&layer));
    let layout = |layer: &[u8]| {
        tar(&[
            ("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#),
            ("index.json", index.as_bytes()),
            (&image_at, &image),
            (&layer_at, layer),
        ])
    };
    let saved = tar(&[
        ("manifest.json", br#"[{"Config":"c.json","RepoTags":["d:1"],"Layers":["layer.tar"]}]"#),
        ("layer.tar", &tar(&[("disk/image.raw", &raw_content())])),
    ]);
    for (what, content) in
        [("layout", layout(&layer)), ("packed layout", packed("xz", &layout(&layer))), ("docker save", saved)]
    {
        let (id, token) = waiting(&world, vec![]).await;
        let outcome = world.host.receive_upload(&token, Some(content.len() as u64), body(&content)).await;
        assert_eq!(outcome, Ok(()), "{what}");
        let info = world
            .until(&id, |state| match state {
                VolumeState::Ready(info) => Some(info),
                _ => None,
            })
            .await;
        assert!(world.content(&id, &info) == raw_content(), "{what}");
        let dir = Paths::under(world.home()).volumes().join("image").join(&id.uid);
        let files: Vec<String> = crate::support::files(&dir).iter().map(|f| f.display().to_string()).collect();
        assert_eq!(files, ["data", "volume.json"], "{what}");
    }
    let mut damaged = layer.clone();
    let last = damaged.len() - 1;
    damaged[last] ^= 1;
    let (id, token) = waiting(&world, vec![]).await;
    let outcome = world.host.receive_upload(&token, None, body(&layout(&damaged))).await;
    assert!(matches!(&outcome, Err(UploadFailure::Refused(words)) if words.contains("sha256")), "{outcome:?}");
    assert!(matches!(world.host.volume(&id), Some(VolumeState::Failed { kind: VolumeFailure::Checksum, .. })));
    world.nothing_is_left(&id);
}
