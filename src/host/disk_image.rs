//! `qemu-img` as a process, and what an image's own bytes say about its format.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use tokio::io::AsyncReadExt;

use super::layout::Isolation;
use super::sys;
use super::volume_job::Failure;
use super::{VolumeFailure, layout};

/// Formats that are read from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Qcow2,
    Raw,
    Vmdk,
    Vdi,
    Iso,
}

impl Format {
    /// Name shown to users.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Qcow2 => "qcow2",
            Self::Raw => "raw",
            Self::Vmdk => "vmdk",
            Self::Vdi => "vdi",
            Self::Iso => "iso",
        }
    }

    /// QEMU's name.
    fn driver(self) -> &'static str {
        match self {
            Self::Iso => "raw",
            other => other.name(),
        }
    }
}

/// Bytes of an image's beginning that [`detect`] wants to see.
pub(super) const DETECT_LENGTH: usize = 36_864;

/// The format of an image from its first bytes. Formats outside of the list, and images that point to other
/// files of this computer (backing files, external data or extents), are refused: the content comes from a
/// stranger.
pub(super) fn detect(start: &[u8], length: u64) -> Result<Format, Failure> {
    let refused = |detail: &str| Err(Failure { kind: VolumeFailure::Format, detail: detail.into() });
    let be32 = |at: usize| start.get(at..at + 4).map_or(0, |b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]));
    let le64 = |at: usize| {
        start.get(at..at + 8).map_or(0, |b| u64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]))
    };
    let be64 = |at: usize| le64(at).swap_bytes();
    if length == 0 {
        return refused("the content is empty");
    }
    if start.starts_with(b"QFI\xfb") {
        return match be32(4) {
            2 | 3 if be64(8) != 0 => {
                refused("the qcow2 image is based on another file; flatten it with qemu-img convert")
            }
            2 | 3 if be32(32) != 0 => refused("the qcow2 image is encrypted"),
            3 if be64(72) & 4 != 0 => refused("the qcow2 image keeps its data in another file; use qemu-img convert"),
            2 | 3 => Ok(Format::Qcow2),
            version => refused(&format!("qcow version {version} is not supported; convert it to qcow2")),
        };
    }
    if start.starts_with(b"KDMV") {
        // A capacity of zero stands for a descriptor that names extents elsewhere.
        return if le64(12) == 0 {
            refused("the vmdk image keeps its data in other files; convert it to one file")
        } else {
            Ok(Format::Vmdk)
        };
    }
    if start.get(64..68) == Some(&[0x7f, 0x10, 0xda, 0xbe]) {
        // Blocks behind the end would be read as zeroes.
        let le32 = |at: usize| le64(at) & 0xffff_ffff;
        let whole = le32(344) + le32(388) * le32(376);
        return if length < whole {
            refused(&format!("the vdi image is cut off: it has {length} of {whole} bytes"))
        } else {
            Ok(Format::Vdi)
        };
    }
    if start.get(32_769..32_774) == Some(b"CD001") {
        return Ok(Format::Iso);
    }
    let known = [
        (&b"# Disk DescriptorFile"[..], "a vmdk descriptor without its data"),
        (b"vhdxfile", "a vhdx image"),
        (b"conectix", "a vhd image"),
        (b"QED\0", "a qed image"),
        (b"LUKS\xba\xbe", "an encrypted volume"),
        (b"BZh", "compressed with bzip2"),
        (b"PK\x03\x04", "a zip archive"),
        (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    ];
    for (magic, what) in known {
        if start.starts_with(magic) {
            return refused(&format!(
                "the content is {what}; qcow2, raw, vmdk, vdi or iso is needed (plain, gz, xz or zst)"
            ));
        }
    }
    if super::archive::is_archive(start) {
        return refused("the content is a tar archive in another; qcow2, raw, vmdk, vdi or iso is needed");
    }
    let text = String::from_utf8_lossy(&start[..start.len().min(512)]).trim_start().to_ascii_lowercase();
    if text.starts_with("<!doctype html") || text.starts_with("<html") || text.starts_with("<?xml") {
        return refused("the content is a web page, not an image; check the address");
    }
    if length < 512 {
        return refused("the content is too short for a disk image");
    }
    Ok(Format::Raw)
}

/// Compression of a file, from its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    Gzip,
    Xz,
    Zstd,
}

/// The compression that the bytes begin with, if any.
pub(super) fn compression(start: &[u8]) -> Option<Compression> {
    if start.starts_with(&[0x1f, 0x8b]) {
        Some(Compression::Gzip)
    } else if start.starts_with(b"\xfd7zXZ\0") {
        Some(Compression::Xz)
    } else if start.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        Some(Compression::Zstd)
    } else {
        None
    }
}

/// What a copy-on-write file is based on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Backing {
    /// From the file's directory.
    pub(super) relative: PathBuf,
    /// It is `raw`, not `qcow2`.
    pub(super) raw: bool,
}

impl Backing {
    fn format(&self) -> &'static str {
        if self.raw { "raw" } else { "qcow2" }
    }
}

/// `qemu-img`.
#[derive(Debug, Clone)]
pub(super) struct Tool {
    /// The program.
    pub(super) program: Option<PathBuf>,
    /// Under whose name it runs.
    pub(super) isolation: Isolation,
}

impl Tool {
    /// An empty qcow2 file.
    pub(super) async fn create(&self, file: &Path, bytes: u64) -> Result<(), Failure> {
        self.own(file).await?;
        let arguments = ["create", "-q", "-f", "qcow2"].map(OsString::from).into_iter();
        let arguments = arguments.chain([file.into(), bytes.to_string().into()]);
        self.run(arguments.collect(), &|_| {}).await.map(drop)
    }

    /// A qcow2 file on top of `base`.
    pub(super) async fn overlay(&self, file: &Path, base: &Backing, bytes: u64) -> Result<(), Failure> {
        self.own(file).await?;
        let mut arguments: Vec<OsString> =
            ["create", "-q", "-f", "qcow2", "-F", base.format(), "-b"].map(OsString::from).into();
        arguments.extend([OsString::from(&base.relative), file.into(), bytes.to_string().into()]);
        self.run(arguments, &|_| {}).await.map(drop)
    }

    /// A full copy as a clean qcow2 file. `progress` gets percents.
    pub(super) async fn convert(
        &self,
        from: &Path,
        format: Format,
        to: &Path,
        progress: &(dyn Fn(u8) + Send + Sync),
    ) -> Result<(), Failure> {
        self.convert_onto(from, format, to, None, progress).await
    }

    /// As [`Tool::convert`]; with a `backing` that `from` has too only what differs from it is copied.
    pub(super) async fn convert_onto(
        &self,
        from: &Path,
        format: Format,
        to: &Path,
        backing: Option<&Backing>,
        progress: &(dyn Fn(u8) + Send + Sync),
    ) -> Result<(), Failure> {
        self.own(to).await?;
        let mut arguments: Vec<OsString> =
            ["convert", "-p", "-f", format.driver(), "-O", "qcow2"].map(OsString::from).into();
        if let Some(backing) = backing {
            arguments.extend(["-F".into(), backing.format().into(), "-B".into(), OsString::from(&backing.relative)]);
        }
        arguments.extend([from.into(), to.into()]);
        self.run(arguments, progress).await?;
        let to = to.to_owned();
        // qemu-img leaves the data in memory.
        super::context::blocking(move || std::fs::File::open(to)?.sync_all())
            .await
            .map_err(|error| Failure::io("cannot write the image to the disk", &error))
    }

    /// Grows a qcow2 file.
    pub(super) async fn resize(&self, file: &Path, bytes: u64) -> Result<(), Failure> {
        let mut arguments: Vec<OsString> = ["resize", "-q", "-f", "qcow2"].map(OsString::from).into();
        arguments.extend([file.into(), bytes.to_string().into()]);
        self.run(arguments, &|_| {}).await.map(drop)
    }

    /// The virtual size, after a look at what the image points to.
    pub(super) async fn virtual_size(&self, file: &Path, format: Format) -> Result<u64, Failure> {
        let mut arguments: Vec<OsString> =
            ["info", "--output=json", "-U", "-f", format.driver()].map(OsString::from).into();
        arguments.push(file.into());
        let text = self.run(arguments, &|_| {}).await?;
        let info: Value = serde_json::from_str(&text).map_err(|error| Failure {
            kind: VolumeFailure::Other,
            detail: format!("cannot read qemu-img's answer: {error}"),
        })?;
        let refused = |detail: &str| Failure { kind: VolumeFailure::Format, detail: detail.into() };
        if points_elsewhere(&info, file) {
            return Err(refused("the image points to other files; flatten it with qemu-img convert"));
        }
        info["virtual-size"].as_u64().ok_or_else(|| refused("the image does not tell its size"))
    }

    /// Refuses an image that is not whole: what lies behind the end of the file would be read as zeroes.
    pub(super) async fn check(&self, file: &Path, format: Format) -> Result<(), Failure> {
        if matches!(format, Format::Raw | Format::Iso) {
            return Ok(());
        }
        let arguments = ["check", "-q", "-f", format.driver()].map(OsString::from).into_iter();
        let (status, _, words) = self.try_run(arguments.chain([file.into()]).collect(), &|_| {}).await?;
        match status.code() {
            // 3: clusters that nobody uses. 63: the format knows no check.
            Some(0 | 3 | 63) => Ok(()),
            _ => {
                let detail = format!("the image is damaged; was it transferred whole? ({})", first_line(&words));
                Err(Failure { kind: VolumeFailure::Format, detail })
            }
        }
    }

    /// Makes the file under the name of the user that will write it: the directory is not writable for it.
    async fn own(&self, file: &Path) -> Result<(), Failure> {
        let (file, isolation) = (file.to_owned(), self.isolation.clone());
        super::context::blocking(move || {
            std::fs::File::create(&file)?;
            layout::set_mode(&file, 0o600)?;
            isolation.give(&file)
        })
        .await
        .map_err(|error| Failure::io("cannot make the disk's file", &error))
    }

    async fn run(&self, arguments: Vec<OsString>, progress: &(dyn Fn(u8) + Send + Sync)) -> Result<String, Failure> {
        let (status, output, words) = self.try_run(arguments, progress).await?;
        if status.success() {
            return Ok(output);
        }
        let words = words.replace('\n', "; ");
        Err(Failure::from_words(if words.is_empty() { format!("qemu-img failed ({status})") } else { words }))
    }

    /// How it ended, what it printed, and what it complained of.
    async fn try_run(
        &self,
        arguments: Vec<OsString>,
        progress: &(dyn Fn(u8) + Send + Sync),
    ) -> Result<(std::process::ExitStatus, String, String), Failure> {
        let Some(program) = &self.program else {
            let detail = "qemu-img was not found; install the package qemu-utils".into();
            return Err(Failure { kind: VolumeFailure::Other, detail });
        };
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        sys::harden(&mut command, &self.isolation, Vec::new());
        let mut command = tokio::process::Command::from(command);
        let failed = |error: &std::io::Error| Failure::io("cannot run qemu-img", error);
        // A job that is given up takes its process with it.
        let mut child = command.kill_on_drop(true).spawn().map_err(|error| failed(&error))?;
        let (mut stdout, mut stderr) = (child.stdout.take(), child.stderr.take());
        let read_output = async {
            let mut text = Vec::new();
            let mut chunk = [0_u8; 4096];
            while let Some(stdout) = &mut stdout {
                let length = stdout.read(&mut chunk).await?;
                if length == 0 {
                    break;
                }
                text.extend_from_slice(&chunk[..length]);
                if let Some(percent) = last_percent(&chunk[..length]) {
                    progress(percent);
                }
            }
            std::io::Result::Ok(text)
        };
        let read_errors = async {
            let mut text = Vec::new();
            if let Some(stderr) = &mut stderr {
                stderr.read_to_end(&mut text).await?;
            }
            std::io::Result::Ok(text)
        };
        let (output, errors) = tokio::try_join!(read_output, read_errors).map_err(|error| failed(&error))?;
        let status = child.wait().await.map_err(|error| failed(&error))?;
        let words = String::from_utf8_lossy(&errors).replace("qemu-img: ", "").trim().to_owned();
        Ok((status, String::from_utf8_lossy(&output).into_owned(), words))
    }
}

/// Whether an image wants other files than itself, by what `qemu-img info` (which opens none of them) says of it.
fn points_elsewhere(info: &Value, file: &Path) -> bool {
    let named = ["backing-filename", "full-backing-filename"].iter().any(|key| !info[*key].is_null());
    let data = &info["format-specific"]["data"];
    let own = |extent: &Value| extent["filename"].as_str().is_some_and(|name| Path::new(name) == file);
    let extents = data["extents"].as_array().is_none_or(|extents| extents.iter().all(own));
    named || !data["data-file"].is_null() || !extents
}

fn first_line(words: &str) -> &str {
    words.lines().next().unwrap_or("no details").trim()
}

/// A qcow2 file that was not closed: its counts may be old, which is no damage.
pub(super) fn is_dirty(start: &[u8]) -> bool {
    start.starts_with(b"QFI\xfb\0\0\0\x03") && start.get(79).is_some_and(|flags| flags & 1 != 0)
}

/// The last percentage in qemu-img's progress output: `    (12.34/100%)\r`.
fn last_percent(output: &[u8]) -> Option<u8> {
    let text = std::str::from_utf8(output).ok()?;
    let (before, _) = text.rsplit_once("/100%)")?;
    let (_, number) = before.rsplit_once('(')?;
    let whole = number.split('.').next()?;
    whole.trim().parse().ok().filter(|percent| *percent <= 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn qcow2(version: u32, change: impl Fn(&mut [u8])) -> Vec<u8> {
        let mut image = vec![0_u8; 1024];
        image[..4].copy_from_slice(b"QFI\xfb");
        image[4..8].copy_from_slice(&version.to_be_bytes());
        change(&mut image);
        image
    }

    #[test]
    fn formats_are_known_by_their_bytes() {
        let mut vdi = vec![0_u8; 600];
        vdi[64..68].copy_from_slice(&[0x7f, 0x10, 0xda, 0xbe]);
        let mut iso = vec![0_u8; DETECT_LENGTH];
        iso[32_769..32_774].copy_from_slice(b"CD001");
        let mut vmdk = b"KDMV".to_vec();
        vmdk.resize(600, 1);
        let cases = [
            (qcow2(3, |_| {}), Format::Qcow2),
            (qcow2(2, |_| {}), Format::Qcow2),
            (vdi, Format::Vdi),
            (iso, Format::Iso),
            (vmdk, Format::Vmdk),
            (vec![0_u8; 600], Format::Raw),
        ];
        for (bytes, format) in cases {
            assert_eq!(detect(&bytes, bytes.len() as u64).unwrap(), format);
        }
    }

    #[test]
    fn images_that_point_elsewhere_or_are_none_are_refused() {
        let mut vmdk = b"KDMV".to_vec();
        vmdk.resize(600, 0);
        let mut vdi = vec![0_u8; 600];
        vdi[64..68].copy_from_slice(&[0x7f, 0x10, 0xda, 0xbe]);
        (vdi[346], vdi[378], vdi[388]) = (1, 0x10, 2);
        assert!(detect(&vdi, (1 << 16) + (2 << 20)).is_ok());
        assert!(is_dirty(&qcow2(3, |image| image[79] = 1)) && !is_dirty(&qcow2(2, |image| image[79] = 1)));
        let cases = [
            (vdi, "cut off: it has 600 of 2162688 bytes"),
            (qcow2(3, |image| image[15] = 1), "based on another file"),
            (qcow2(3, |image| image[79] = 4), "data in another file"),
            (qcow2(3, |image| image[35] = 1), "encrypted"),
            (qcow2(1, |_| {}), "version 1"),
            (vmdk, "other files"),
            (b"# Disk DescriptorFile\nversion=1\n".to_vec(), "descriptor"),
            (b"\n<!DOCTYPE html><html>404".to_vec(), "web page"),
            (b"short".to_vec(), "too short"),
            (Vec::new(), "empty"),
        ];
        for (bytes, words) in cases {
            let failure = detect(&bytes, bytes.len() as u64).unwrap_err();
            assert_eq!(failure.kind, VolumeFailure::Format);
            assert!(failure.detail.contains(words), "{}", failure.detail);
        }
    }

    #[test]
    fn images_that_point_elsewhere_are_known_by_what_qemu_says() {
        let file = Path::new("/v/incoming");
        let no = [
            serde_json::json!({"virtual-size": 1, "format-specific": {"data": {"compat": "1.1"}}}),
            serde_json::json!({"format-specific": {"data": {"extents": [{"filename": "/v/incoming"}]}}}),
        ];
        assert!(no.iter().all(|info| !points_elsewhere(info, file)));
        let yes = [
            serde_json::json!({"backing-filename": "/etc/passwd"}),
            serde_json::json!({"full-backing-filename": "/etc/passwd"}),
            serde_json::json!({"format-specific": {"data": {"data-file": "x"}}}),
            serde_json::json!({"format-specific": {"data": {"extents": [{"filename": "/v/incoming"}, {"filename": "/etc/x"}]}}}),
        ];
        assert!(yes.iter().all(|info| points_elsewhere(info, file)));
    }

    #[test]
    fn progress_is_read_from_the_last_report() {
        assert_eq!(last_percent(b"    (0.00/100%)\r    (43.75/100%)\r"), Some(43));
        assert_eq!(last_percent(b"nothing"), None);
    }
}
