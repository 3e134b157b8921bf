//! Making one volume: from nothing, from another volume, from the network or from an upload.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::context::blocking;
use super::disk_image::Format;
use super::registry::Pull;
use super::spec::{VolumeId, VolumeKind, VolumeSource};
use super::volumes::{Content, DATA, Report, VolumeRecord, Volumes};
use super::{VolumeFailure, VolumeInfo};

/// Why a volume could not be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub(super) struct Failure {
    /// Class.
    pub(super) kind: VolumeFailure,
    /// Words for a user.
    pub(super) detail: String,
}

impl Failure {
    /// From a failed file operation.
    pub(super) fn io(what: &str, error: &io::Error) -> Self {
        let full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        let kind = if full { VolumeFailure::NoSpace } else { VolumeFailure::Other };
        Self { kind, detail: format!("{what}: {error}") }
    }

    /// From what a program said.
    pub(super) fn from_words(words: String) -> Self {
        let kind = if words.contains("No space left") || words.contains("Disk quota exceeded") {
            VolumeFailure::NoSpace
        } else if words.contains("Image is not in") || words.contains("Could not open") && words.contains("nvalid") {
            VolumeFailure::Format
        } else {
            VolumeFailure::Other
        };
        let detail = if words.contains("\" lock") {
            format!("the disk is used by a running machine or another process ({words})")
        } else {
            words
        };
        Self { kind, detail }
    }

    pub(super) fn new(kind: VolumeFailure, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into() }
    }
}

/// What is to become the data file, in the volume's directory.
pub(super) const NEW: &str = "data.new";

/// Files behind a disk from which on another layer is not put on top: a disk made from such a snapshot is a full copy.
const LAYERS: usize = 8;

/// Makes the volume's data file in `dir`.
pub(super) async fn make(
    volumes: &Arc<Volumes>,
    record: &VolumeRecord,
    dir: &Path,
    report: &Report,
) -> Result<Content, Failure> {
    let new = dir.join(NEW);
    let job = Job { volumes, record, dir, new: &new, report };
    let content = match &record.request.source {
        VolumeSource::Blank => job.blank().await?,
        VolumeSource::Volume(source) => job.copy(source).await?,
        VolumeSource::Http { url, ca_bundle } => job.download(url, ca_bundle.as_deref()).await?,
        VolumeSource::Registry { image, ca_bundle, credentials } => {
            let credentials = credentials.as_ref().map(|secret| secret.0.as_slice());
            job.pull(&Pull { image, credentials, ca_bundle: ca_bundle.as_deref() }).await?
        }
        VolumeSource::Upload => job.receive().await?,
        VolumeSource::Running { .. } => {
            // What is asked for is a moment that is over.
            return Err(Failure::new(VolumeFailure::Other, "the snapshot was not begun"));
        }
    };
    put_in_place(volumes, record.id.kind, dir).await?;
    Ok(content)
}

/// The finished new file becomes the volume's data.
pub(super) async fn put_in_place(volumes: &Volumes, kind: VolumeKind, dir: &Path) -> Result<(), Failure> {
    let (new, data, layout) = (dir.join(NEW), dir.join(DATA), volumes.layout.clone());
    blocking(move || {
        match kind {
            VolumeKind::Image | VolumeKind::Snapshot => layout.isolation.share(&new)?,
            VolumeKind::Disk => layout.isolation.give(&new)?,
        }
        std::fs::rename(&new, &data)
    })
    .await
    .map_err(|error| Failure::io("cannot put the volume in place", &error))
}

/// One volume in the making.
pub(super) struct Job<'a> {
    pub(super) volumes: &'a Arc<Volumes>,
    pub(super) record: &'a VolumeRecord,
    pub(super) dir: &'a Path,
    /// Becomes the data file.
    pub(super) new: &'a Path,
    pub(super) report: &'a Report,
}

impl Job<'_> {
    async fn blank(&self) -> Result<Content, Failure> {
        let size = self.record.request.size.unwrap_or_default();
        if size == 0 {
            return Err(Failure::new(VolumeFailure::Other, "a blank disk needs a size"));
        }
        self.volumes.tool.create(self.new, size).await?;
        self.done(Format::Qcow2, false, size, None).await
    }

    async fn copy(&self, source: &VolumeId) -> Result<Content, Failure> {
        let base = self
            .volumes
            .content(source)
            .ok_or_else(|| Failure::new(VolumeFailure::Source, "the source is not there or not ready"))?;
        let disk = self.record.id.kind == VolumeKind::Disk;
        if disk && base.info.cdrom {
            return Err(Failure::new(VolumeFailure::Format, "an ISO image cannot be the source of a disk"));
        }
        let size = wanted_size(self.record.request.size, base.info.virtual_size)?;
        let file = self.volumes.data(source);
        if self.record.id.kind == VolumeKind::Snapshot {
            return self.keep(&file, base).await;
        }
        let deep = self.volumes.layers(source).is_ok_and(|layers| layers.len() >= LAYERS);
        if disk && source.kind != VolumeKind::Disk && !deep {
            let backing = self.volumes.backing(&self.record.id, source)?;
            self.volumes.tool.overlay(self.new, &backing, size).await?;
            return self.done(Format::Qcow2, false, size, Some(source.clone())).await;
        }
        if base.raw {
            let (from, to) = (file, self.new.to_owned());
            blocking(move || std::fs::copy(from, &to).and_then(|_| std::fs::File::open(to)?.sync_all()))
                .await
                .map_err(|error| Failure::io("cannot copy the image", &error))?;
            return self.done(Format::Iso, true, base.info.virtual_size, None).await;
        }
        let report = |percent: u8| self.report.working(Some(percent.min(99)), None);
        self.volumes.tool.convert(&file, Format::Qcow2, self.new, &report).await?;
        if size > base.info.virtual_size {
            self.volumes.tool.resize(self.new, size).await?;
        }
        self.done(Format::Qcow2, false, size, None).await
    }

    /// A disk at rest as it is now: shares the disk's base, and where the file system can, its blocks.
    async fn keep(&self, file: &Path, base: Content) -> Result<Content, Failure> {
        let (from, to) = (file.to_owned(), self.new.to_owned());
        let shared = blocking(move || share_blocks(&from, &to))
            .await
            .map_err(|error| Failure::io("cannot copy the disk", &error))?;
        if !shared {
            let report = |percent: u8| self.report.working(Some(percent.min(99)), None);
            let backing = match &base.base {
                Some(id) => Some(self.volumes.backing(&self.record.id, id)?),
                None => None,
            };
            self.volumes.tool.convert_onto(file, Format::Qcow2, self.new, backing.as_ref(), &report).await?;
        }
        self.done(Format::Qcow2, false, base.info.virtual_size, base.base).await
    }

    /// Facts of the finished file.
    pub(super) async fn done(
        &self,
        format: Format,
        raw: bool,
        virtual_size: u64,
        base: Option<VolumeId>,
    ) -> Result<Content, Failure> {
        let stored_size =
            stored(self.new.to_owned()).await.map_err(|error| Failure::io("cannot look at the volume", &error))?;
        let info = VolumeInfo {
            virtual_size: virtual_size.next_multiple_of(512),
            stored_size,
            format: format.name().into(),
            cdrom: format == Format::Iso,
        };
        Ok(Content { info, raw, base })
    }
}

/// Makes `to` a copy of `from` that shares its blocks; false if the file system cannot do that.
fn share_blocks(from: &Path, to: &Path) -> io::Result<bool> {
    let (source, target) = (std::fs::File::open(from)?, super::layout::private_file(to)?);
    if rustix::fs::ioctl_ficlone(&target, &source).is_err() {
        return Ok(false);
    }
    target.sync_all()?;
    Ok(true)
}

/// Bytes that a file takes on the disk.
async fn stored(file: PathBuf) -> io::Result<u64> {
    use std::os::unix::fs::MetadataExt;
    blocking(move || Ok(std::fs::metadata(file)?.blocks() * 512)).await
}

/// The size to make, given what is asked for and what the source has.
pub(super) fn wanted_size(asked: Option<u64>, source: u64) -> Result<u64, Failure> {
    match asked {
        Some(asked) if asked < source => Err(Failure::new(
            VolumeFailure::TooSmall,
            format!("specified size is insufficient: {} < {}", quantity(asked), quantity(source)),
        )),
        Some(asked) => Ok(asked),
        None => Ok(source),
    }
}

/// Bytes as Kubernetes writes them: with the largest binary unit that leaves a whole number.
fn quantity(bytes: u64) -> String {
    let units = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    let mut unit = 0;
    let mut value = bytes;
    while value > 0 && value.is_multiple_of(1024) && unit + 1 < units.len() {
        value /= 1024;
        unit += 1;
    }
    format!("{value}{}", units[unit])
}

/// Path from one volume's data file to another's: both lie three levels below the same directory.
pub(super) fn relative_data(from: &Path, to: &Path) -> PathBuf {
    let tail = |path: &Path| -> Vec<std::ffi::OsString> {
        let parts: Vec<_> = path.iter().collect();
        parts[parts.len().saturating_sub(3)..].iter().map(|part| (*part).to_owned()).collect()
    };
    debug_assert_eq!(from.ancestors().nth(3), to.ancestors().nth(3));
    let mut relative = PathBuf::from("../..");
    relative.extend(tail(to));
    relative
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_below_the_sources_is_insufficient() {
        assert_eq!(wanted_size(None, 5).unwrap(), 5);
        assert_eq!(wanted_size(Some(9), 5).unwrap(), 9);
        let failure = wanted_size(Some(1 << 20), 112 << 20).unwrap_err();
        assert_eq!(failure.detail, "specified size is insufficient: 1Mi < 112Mi");
        assert_eq!(failure.kind, VolumeFailure::TooSmall);
        assert_eq!(quantity(1000), "1000");
    }

    #[test]
    fn the_way_to_the_base_survives_a_move_of_both() {
        let relative = relative_data(Path::new("/s/volumes/disk/a/data"), Path::new("/s/volumes/image/b/data"));
        assert_eq!(relative, Path::new("../../image/b/data"));
    }

    #[test]
    fn full_disks_are_recognised() {
        assert_eq!(
            Failure::from_words("error while writing: No space left on device".into()).kind,
            VolumeFailure::NoSpace
        );
        let full = io::Error::from(io::ErrorKind::StorageFull);
        assert_eq!(Failure::io("x", &full).kind, VolumeFailure::NoSpace);
    }
}
