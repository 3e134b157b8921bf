//! Downloads: what servers do, and what is said of it.

use axum::body::Body;
use axum::http::{Response, header};
use bytes::Bytes;
use vmdeck::host::{VolumeFailure, VolumeInfo, VolumeKind, VolumeRequest, VolumeSource};

use super::server::{Server, file, part, status};
use super::{World, http_source, image_of, raw_content};

type Outcome = Result<VolumeInfo, (VolumeFailure, String)>;

async fn with_ca(world: &World, url: &str, ca_bundle: Option<&[u8]>) -> Outcome {
    let source = VolumeSource::Http { url: url.into(), ca_bundle: ca_bundle.map(<[u8]>::to_vec) };
    world.make(&world.fresh(VolumeKind::Image), VolumeRequest { source, size: None, checksums: vec![] }).await
}

fn words(outcome: Outcome) -> String {
    let (kind, detail) = outcome.unwrap_err();
    assert_eq!(kind, VolumeFailure::Source, "{detail}");
    detail
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_breaks_again_and_again_is_gone_on_with() {
    let Some(world) = World::new().await else { return };
    let content = image_of("qcow2", &raw_content());
    let whole = content.len();
    let step = whole / 5 + 1;
    let server = Server::http(move |request, _| part(request, &content, step)).await;
    let id = world.fresh(VolumeKind::Image);
    let info = world.make(&id, http_source(&server.url)).await.unwrap();
    assert!(world.content(&id, &info) == raw_content());
    let ranges: Vec<String> = server.asked().iter().map(|asked| asked.header("range").to_owned()).collect();
    let expected: Vec<String> =
        (0..5).map(|n| if n == 0 { String::new() } else { format!("bytes={}-", n * step) }).collect();
    assert_eq!(ranges, expected);
    assert!(server.asked()[1..].iter().all(|asked| asked.header("if-range") == "\"v1\""));
}

#[tokio::test(flavor = "multi_thread")]
async fn redirects_are_followed_and_lengths_are_not_needed() {
    let Some(world) = World::new().await else { return };
    let content = image_of("qcow2", &raw_content());
    let server = Server::http(move |request, _| match request.uri().path() {
        "/moved" => Response::builder().status(302).header(header::LOCATION, "/chunked").body(Body::empty()).unwrap(),
        "/loop" => Response::builder().status(302).header(header::LOCATION, "/loop").body(Body::empty()).unwrap(),
        _ => {
            let chunks: Vec<_> =
                content.chunks(50_000).map(|c| Ok::<_, std::io::Error>(Bytes::copy_from_slice(c))).collect();
            Response::new(Body::from_stream(futures::stream::iter(chunks)))
        }
    })
    .await;
    let info = world.image(&format!("{}/moved", server.url)).await.unwrap();
    assert_eq!(info.virtual_size, 3 << 20);
    let said = words(world.image(&format!("{}/loop", server.url)).await);
    assert!(said.contains("redirect"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_will_not_change_end_it_and_others_are_tried_again() {
    let Some(world) = World::new().await else { return };
    let content = image_of("qcow2", &raw_content());
    let server = Server::http(move |request, before| match request.uri().path() {
        "/missing" => status(404),
        "/secret" => status(401),
        "/forbidden" => status(403),
        "/busy" if before < 2 => status(503),
        "/broken" => status(500),
        _ => file(request, &content),
    })
    .await;
    for (path, said) in
        [("/missing", "404 Not Found"), ("/secret", "401 Unauthorized"), ("/forbidden", "403 Forbidden")]
    {
        let told = words(world.image(&format!("{}{path}", server.url)).await);
        assert!(told.contains(said), "{told}");
        assert_eq!(server.count(path), 1, "{path}");
    }
    world.image(&format!("{}/busy", server.url)).await.unwrap();
    assert_eq!(server.count("/busy"), 3);
    let broken = format!("{}/broken", server.url);
    let (broken, nobody) = tokio::join!(
        world.image(&broken),
        // Nobody listens at the port of something that has ended.
        async {
            let gone = Server::http(|_, _| status(404)).await.url.clone();
            world.image(&gone).await
        },
    );
    assert!(words(broken).contains("500"));
    assert_eq!(server.count("/broken"), 5);
    let told = words(nobody);
    assert!(told.to_lowercase().contains("connect"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn authorities_are_those_of_the_bundle_and_a_wrong_one_is_told() {
    let Some(world) = World::new().await else { return };
    let content = image_of("qcow2", &raw_content());
    let server = Server::https(move |request, _| file(request, &content)).await;
    let other = Server::https(|_, _| status(404)).await;
    let ca = server.ca.clone().unwrap();
    with_ca(&world, &server.url, Some(ca.as_bytes())).await.unwrap();
    let both = format!("{}{ca}", other.ca.as_ref().unwrap());
    with_ca(&world, &server.url, Some(both.as_bytes())).await.unwrap();
    for (bundle, said) in [
        (None, "caBundle"),
        (other.ca.as_ref().map(String::as_bytes), "certificate"),
        (Some(&b"not a certificate"[..]), "caBundle holds no"),
        (Some(&b""[..]), "caBundle holds no"),
    ] {
        let told = words(with_ca(&world, &server.url, bundle).await);
        assert!(told.contains(said), "{told}");
    }
    assert_eq!(server.asked().len(), 2, "nothing was asked without trust");
}

#[tokio::test(flavor = "multi_thread")]
async fn checksums_of_every_kind_are_checked_before_anything_is_unpacked() {
    let Some(world) = World::new().await else { return };
    let content = image_of("qcow2", &raw_content());
    let sum = |program: &str| {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &content).unwrap();
        let output = std::process::Command::new(program).arg(file.path()).output().unwrap();
        String::from_utf8(output.stdout).unwrap().split_whitespace().next().unwrap().to_owned()
    };
    let right: Vec<(String, String)> = ["md5", "sha1", "sha256", "sha512"]
        .into_iter()
        .map(|algorithm| (algorithm.to_owned(), sum(&format!("{algorithm}sum"))))
        .collect();
    let server = {
        let content = content.clone();
        Server::http(move |request, _| file(request, &content)).await
    };
    let make = async |checksums: Vec<(String, String)>| {
        let id = world.fresh(VolumeKind::Image);
        let outcome = world.make(&id, VolumeRequest { checksums, ..http_source(&server.url) }).await;
        if outcome.is_err() {
            world.nothing_is_left(&id);
        }
        outcome
    };
    make(right.clone()).await.unwrap();
    for algorithm in ["md5", "sha1", "sha256", "sha512", "streebog256", "streebog512"] {
        let mut checksums = right.clone();
        checksums.retain(|(name, _)| name != algorithm);
        checksums.push((algorithm.to_owned(), "00".repeat(32)));
        let (kind, detail) = make(checksums).await.unwrap_err();
        assert_eq!(kind, VolumeFailure::Checksum, "{detail}");
        assert!(detail.starts_with(&format!("the {algorithm} checksum is ")), "{detail}");
        // What it says is right is taken.
        let found = detail.split_whitespace().nth(4).unwrap().trim_end_matches(',').to_owned();
        make(vec![(algorithm.to_owned(), found)]).await.unwrap();
    }
}
