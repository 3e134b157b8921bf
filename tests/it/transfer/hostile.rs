//! Content that wants more than to be an image.

use vmdeck::host::{VolumeFailure, VolumeKind};

use super::server::{Server, file};
use super::{World, http_source, image_of, packed, raw_content, run};

/// What becomes of this content: the failure's words. Nothing may be left of it.
async fn refused(world: &World, what: &str, content: Vec<u8>) -> (VolumeFailure, String) {
    let server = Server::http(move |request, _| file(request, &content)).await;
    let id = world.fresh(VolumeKind::Image);
    let failure = world.make(&id, http_source(&server.url)).await;
    let failure = failure.expect_err(what);
    world.nothing_is_left(&id);
    failure
}

/// A file made by qemu-img with these arguments, in a directory with the file `secret`.
fn made(arguments: &[&str]) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let secret = dir.path().join("secret");
    std::fs::write(&secret, vec![b's'; 1 << 20]).unwrap();
    let output = std::process::Command::new("qemu-img").current_dir(dir.path()).args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    std::fs::read(dir.path().join("image")).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn images_that_point_to_files_of_this_computer_are_refused() {
    let Some(world) = World::new().await else { return };
    let vmdk_base = ["create", "-q", "-f", "vmdk", "secret.vmdk", "1M"];
    for (what, content) in [
        ("backing file", made(&["create", "-q", "-f", "qcow2", "-b", "secret", "-F", "raw", "image"])),
        ("data file", made(&["create", "-q", "-f", "qcow2", "-o", "data_file=secret2", "image", "1M"])),
        ("extents", made(&["create", "-q", "-f", "vmdk", "-o", "subformat=monolithicFlat", "image", "1M"])),
        ("parent of a vmdk", {
            let dir = tempfile::tempdir().unwrap();
            let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
            let mut base = vmdk_base.to_vec();
            let base_file = at("secret.vmdk");
            base[4] = &base_file;
            run("qemu-img", &base);
            run("qemu-img", &["create", "-q", "-f", "vmdk", "-b", &base_file, "-F", "vmdk", &at("image")]);
            std::fs::read(at("image")).unwrap()
        }),
    ] {
        let (kind, detail) = refused(&world, what, content).await;
        assert_eq!(kind, VolumeFailure::Format, "{what}: {detail}");
        assert!(detail.contains("file") || detail.contains("without its data"), "{what}: {detail}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_image_is_told_in_words() {
    let Some(world) = World::new().await else { return };
    let qcow2 = image_of("qcow2", &raw_content());
    let gz = packed("gzip", &qcow2);
    let mut tar = super::tar(&[("readme", b"hello")]);
    tar.truncate(20_480);
    for (what, content, words) in [
        ("nothing", Vec::new(), "empty"),
        ("a page", b"<!DOCTYPE html><title>Sign in</title>".to_vec(), "web page"),
        ("a zip", b"PK\x03\x04 and so on".to_vec(), "zip"),
        ("cut gz", gz[..gz.len() / 2].to_vec(), "damaged"),
        ("cut xz", packed("xz", &qcow2)[..500].to_vec(), "damaged"),
        ("packed twice", packed("gzip", &packed("xz", b"x")), "too short"),
        ("vhdx", b"vhdxfile and so on".to_vec(), "vhdx"),
        ("a tar", tar, "no container image"),
        ("cut qcow2", qcow2[..qcow2.len() / 2].to_vec(), "damaged"),
        (
            "cut vmdk",
            {
                let vmdk = image_of("vmdk", &raw_content());
                vmdk[..vmdk.len() * 2 / 3].to_vec()
            },
            "damaged",
        ),
        (
            "cut vdi",
            {
                let vdi = image_of("vdi", &raw_content());
                vdi[..vdi.len() / 2].to_vec()
            },
            "cut off",
        ),
        ("the head of a qcow2", qcow2[..200].to_vec(), ""),
    ] {
        let (kind, detail) = refused(&world, what, content).await;
        assert_eq!(kind, VolumeFailure::Format, "{what}: {detail}");
        assert!(detail.contains(words), "{what}: {detail}");
    }
}

/// Unmounts when dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=64m", "none"])
            .arg(dir.path())
            .output();
        if mounted.as_ref().is_ok_and(|m| m.status.success()) {
            return Some(Self(dir));
        }
        println!("skipped: a small file system cannot be mounted here: {mounted:?}");
        None
    }

    fn free(&self) -> u64 {
        let facts = rustix::fs::statvfs(self.0.path()).unwrap();
        facts.f_bavail * facts.f_frsize
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_unpacks_to_more_than_there_is_leaves_room_for_the_host() {
    let Some(small) = SmallDisk::mount() else { return };
    let home = tempfile::Builder::new().tempdir_in(small.0.path()).unwrap();
    let Some(world) = World::under(home).await else { return };
    let before = small.free();
    let bomb = vec![1_u8; 100 << 20];
    for program in ["gzip", "xz", "zstd"] {
        let packed = packed(program, &bomb);
        assert!(packed.len() < 2 << 20, "{program}");
        // The lowest that was seen while it was unpacked.
        let lowest = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(u64::MAX));
        let watch = {
            let (lowest, path) = (lowest.clone(), small.0.path().to_owned());
            tokio::spawn(async move {
                loop {
                    let facts = rustix::fs::statvfs(&path).unwrap();
                    lowest.fetch_min(facts.f_bavail * facts.f_frsize, std::sync::atomic::Ordering::Relaxed);
                    tokio::time::sleep(std::time::Duration::from_millis(1)).await;
                }
            })
        };
        let (kind, detail) = refused(&world, program, packed).await;
        watch.abort();
        assert_eq!(kind, VolumeFailure::NoSpace, "{program}: {detail}");
        // A little less than the twentieth that is kept: it is looked at every few MiB.
        let lowest = lowest.load(std::sync::atomic::Ordering::Relaxed);
        assert!(lowest > 0, "{program}: the disk was full");
        assert!(small.free() + (1 << 20) > before, "{program}: {} of {before} bytes came back", small.free());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_that_is_deleted_while_it_unpacks_is_gone_at_once() {
    let Some(world) = World::new().await else { return };
    // Sparse: takes no room, but minutes to unpack.
    let zeroes = {
        use std::io::{Read, Write};
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        std::io::copy(&mut std::io::repeat(0).take(64 << 20), &mut encoder).unwrap();
        encoder.flush().unwrap();
        encoder.finish().unwrap()
    };
    let many = zeroes.repeat(400);
    let server = Server::http(move |request, _| file(request, &many)).await;
    let id = world.fresh(VolumeKind::Image);
    world.host.create_volume(&id, http_source(&server.url));
    use vmdeck::host::{Host, VolumeState};
    world.until(&id, |state| matches!(state, VolumeState::Working { progress: Some(50..), .. }).then_some(())).await;
    world.host.delete_volume(&id).await.unwrap();
    assert_eq!(world.host.volume(&id), None);
    let dir = vmdeck::config::Paths::under(world.home()).volumes().join("image").join(&id.uid);
    assert!(!dir.exists());
    // The thread that unpacks has let go of its file.
    let open = || {
        std::fs::read_dir("/proc/self/fd").unwrap().flatten().any(|fd| {
            std::fs::read_link(fd.path()).is_ok_and(|path| path.to_string_lossy().contains(&*dir.to_string_lossy()))
        })
    };
    let begun = std::time::Instant::now();
    while open() {
        assert!(begun.elapsed() < super::PATIENCE, "still unpacking");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}
