//! Content from outside becomes volumes: the real host, real `qemu-img` files of each format, and servers of the test's
//! own on loopback. No guest is started.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use vmdeck::config::{Accel, HostSettings, Paths};
use vmdeck::host::{
    Host, HostOptions, LocalHost, VolumeFailure, VolumeId, VolumeInfo, VolumeKind, VolumeRequest, VolumeSource,
    VolumeState,
};

mod formats;
mod hostile;
mod http;
mod images;
mod registry;
mod registry_server;
mod server;

/// How long a state may take to come about; the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(120);

/// A host with a directory of its own.
pub struct World {
    pub host: Arc<LocalHost>,
    home: tempfile::TempDir,
    number: std::sync::atomic::AtomicUsize,
}

impl World {
    /// `None` where QEMU is not installed.
    pub async fn new() -> Option<Self> {
        Self::under(tempfile::tempdir().unwrap()).await
    }

    pub async fn under(home: tempfile::TempDir) -> Option<Self> {
        use std::os::unix::fs::PermissionsExt;
        // QEMU's own user has to pass.
        std::fs::set_permissions(home.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
        let settings = HostSettings { accel: Accel::Tcg, ..HostSettings::default() };
        let host = LocalHost::open(HostOptions { paths: Paths::under(home.path()), settings }).await.unwrap();
        if host.node().problems.is_empty() {
            return Some(Self { host, home, number: Default::default() });
        }
        println!("skipped: {:?}", host.node().problems);
        None
    }

    pub fn home(&self) -> &Path {
        self.home.path()
    }

    pub fn fresh(&self, kind: VolumeKind) -> VolumeId {
        let number = self.number.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        VolumeId { kind, uid: format!("v{number}") }
    }

    /// Waits until `look` finds something in the volume's state.
    pub async fn until<T>(&self, id: &VolumeId, look: impl Fn(VolumeState) -> Option<T>) -> T {
        let mut events = self.host.subscribe();
        let wait = async {
            loop {
                if let Some(found) = self.host.volume(id).and_then(&look) {
                    return found;
                }
                // A lagging channel is as good as an event.
                let _ = events.recv().await;
            }
        };
        let found = tokio::time::timeout(PATIENCE, wait).await;
        found.unwrap_or_else(|_| panic!("{id:?} did not get there: {:?}", self.host.volume(id)))
    }

    /// Makes a volume: its facts, or why not.
    pub async fn make(&self, id: &VolumeId, request: VolumeRequest) -> Result<VolumeInfo, (VolumeFailure, String)> {
        self.host.create_volume(id, request);
        self.until(id, |state| match state {
            VolumeState::Ready(info) => Some(Ok(info)),
            VolumeState::Failed { kind, detail } => Some(Err((kind, detail))),
            _ => None,
        })
        .await
    }

    /// Makes an image from an address.
    pub async fn image(&self, url: &str) -> Result<VolumeInfo, (VolumeFailure, String)> {
        self.make(&self.fresh(VolumeKind::Image), http_source(url)).await
    }

    /// A failed volume keeps its record and nothing else.
    pub fn nothing_is_left(&self, id: &VolumeId) {
        let kind = if id.kind == VolumeKind::Disk { "disk" } else { "image" };
        let dir = Paths::under(self.home()).volumes().join(kind).join(&id.uid);
        assert_eq!(crate::support::files(&dir), [PathBuf::from("volume.json")], "{id:?}");
    }

    /// The volume's content as a machine would see it.
    pub fn content(&self, id: &VolumeId, info: &VolumeInfo) -> Vec<u8> {
        let kind = if id.kind == VolumeKind::Disk { "disk" } else { "image" };
        let data = Paths::under(self.home()).volumes().join(kind).join(&id.uid).join("data");
        if info.cdrom {
            return std::fs::read(data).unwrap();
        }
        let raw = tempfile::NamedTempFile::new().unwrap();
        let (from, to) = (data.to_str().unwrap(), raw.path().to_str().unwrap());
        run("qemu-img", &["convert", "-f", "qcow2", "-O", "raw", from, to]);
        std::fs::read(raw.path()).unwrap()
    }
}

pub fn http_source(url: &str) -> VolumeRequest {
    VolumeRequest { source: VolumeSource::Http { url: url.into(), ca_bundle: None }, size: None, checksums: vec![] }
}

/// Runs a program that has to succeed.
pub fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap_or_else(|e| panic!("{program}: {e}"));
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A disk's content: 3 MiB that are not all alike, with zeroes between.
pub fn raw_content() -> Vec<u8> {
    let mut content = vec![0_u8; 3 << 20];
    for (index, byte) in content[1 << 20..(1 << 20) + 200_000].iter_mut().enumerate() {
        *byte = u8::try_from((index * 7 + index / 256) % 251).unwrap();
    }
    content[0] = 0xeb;
    content
}

/// The same content in a format of `qemu-img`.
pub fn image_of(format: &str, content: &[u8]) -> Vec<u8> {
    if format == "raw" {
        return content.to_vec();
    }
    let dir = tempfile::tempdir().unwrap();
    let (raw, image) = (dir.path().join("raw"), dir.path().join("image"));
    std::fs::write(&raw, content).unwrap();
    run("qemu-img", &["convert", "-f", "raw", "-O", format, raw.to_str().unwrap(), image.to_str().unwrap()]);
    std::fs::read(image).unwrap()
}

/// A CD's content.
pub fn iso_content() -> Vec<u8> {
    let mut content = vec![0_u8; 64 << 10];
    content[32_769..32_774].copy_from_slice(b"CD001");
    content[40_000..40_005].copy_from_slice(b"hello");
    content
}

/// Packs with a program (`gzip`, `xz`, `zstd`); an empty name leaves the content as it is.
pub fn packed(program: &str, content: &[u8]) -> Vec<u8> {
    if program.is_empty() {
        return content.to_vec();
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), content).unwrap();
    // The same content gives the same bytes.
    let flags = if program == "gzip" { "-nc" } else { "-c" };
    let output = Command::new(program).arg(flags).arg(file.path()).output().unwrap();
    assert!(output.status.success(), "{program}");
    output.stdout
}

/// A tar archive of these files, packed by the system's tar.
pub fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    for (path, content) in files {
        let path = dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    let output =
        Command::new("tar").arg("-C").arg(dir.path()).args(["--sort=name", "--mtime=@0", "-c", "."]).output().unwrap();
    assert!(output.status.success());
    output.stdout
}
