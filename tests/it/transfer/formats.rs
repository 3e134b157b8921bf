//! Every format in every compression, downloaded.

use vmdeck::host::{VolumeFailure, VolumeKind};

use super::server::{Server, file, status};
use super::{World, http_source, image_of, iso_content, packed, raw_content};

const FORMATS: [&str; 5] = ["qcow2", "raw", "vmdk", "vdi", "iso"];
const PROGRAMS: [&str; 4] = ["", "gzip", "xz", "zstd"];

#[tokio::test(flavor = "multi_thread")]
async fn every_format_in_every_compression_becomes_an_image_and_all_but_cds_a_disk() {
    let Some(world) = World::new().await else { return };
    let mut files = Vec::new();
    for format in FORMATS {
        let content = if format == "iso" { iso_content() } else { image_of(format, &raw_content()) };
        for program in PROGRAMS {
            files.push((format!("/{format}.{program}"), packed(program, &content)));
        }
    }
    let server = Server::http(move |request, _| match files.iter().find(|(path, _)| path == request.uri().path()) {
        Some((_, content)) => file(request, content),
        None => status(404),
    })
    .await;
    for format in FORMATS {
        for program in PROGRAMS {
            let what = format!("{format} {program}");
            let url = format!("{}/{format}.{program}", server.url);
            let id = world.fresh(VolumeKind::Image);
            let info = world.make(&id, http_source(&url)).await.unwrap_or_else(|e| panic!("{what}: {e:?}"));
            let expected = if format == "iso" { iso_content() } else { raw_content() };
            assert_eq!((info.format.as_str(), info.cdrom), (format, format == "iso"), "{what}");
            assert_eq!(info.virtual_size, expected.len() as u64, "{what}");
            assert!(world.content(&id, &info) == expected, "{what}: another content");

            let id = world.fresh(VolumeKind::Disk);
            let request = vmdeck::host::VolumeRequest { size: Some(8 << 20), ..http_source(&url) };
            match world.make(&id, request).await {
                Err((kind, detail)) => {
                    assert_eq!((format, kind), ("iso", VolumeFailure::Format), "{what}: {detail}");
                    assert!(detail.contains("ISO image cannot be the source of a disk"), "{detail}");
                    world.nothing_is_left(&id);
                }
                Ok(info) => {
                    assert_ne!(format, "iso");
                    assert_eq!(info.virtual_size, 8 << 20, "{what}");
                    assert!(world.content(&id, &info).starts_with(&raw_content()), "{what}");
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_size_below_the_images_is_refused_in_words() {
    let Some(world) = World::new().await else { return };
    let content = image_of("qcow2", &raw_content());
    let server = Server::http(move |request, _| file(request, &content)).await;
    let id = world.fresh(VolumeKind::Disk);
    let request = vmdeck::host::VolumeRequest { size: Some(1 << 20), ..http_source(&server.url) };
    let failure = world.make(&id, request).await.unwrap_err();
    assert_eq!(failure, (VolumeFailure::TooSmall, "specified size is insufficient: 1Mi < 3Mi".into()));
    world.nothing_is_left(&id);
}
