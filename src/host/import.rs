//! Content from outside becomes a volume: store, check, unpack, look at, convert.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::archive::is_archive;
use super::context::blocking;
use super::disk_image::{DETECT_LENGTH, Format, compression, detect, is_dirty};
use super::fetch::{self, Checks};
use super::registry::{self, Pull};
use super::spec::VolumeKind;
use super::unpack::{Stopper, unpack};
use super::volume_job::{Failure, Job, wanted_size};
use super::volumes::Content;
use super::{Speed, VolumeFailure};

/// Share of the progress that the transfer takes; unpacking and converting take the rest.
const TRANSFER: u8 = 50;

/// Speed and percentage of a transfer, shown at most twice a second.
pub(super) struct Meter<'a> {
    job: &'a Job<'a>,
    begun: Instant,
    since: Instant,
    /// Bytes at `since`.
    then: u64,
}

impl<'a> Meter<'a> {
    pub(super) fn new(job: &'a Job<'a>) -> Self {
        job.report.working(Some(0), None);
        let now = Instant::now();
        Self { job, begun: now, since: now, then: 0 }
    }

    /// `done` of `total` bytes are there.
    pub(super) fn at(&mut self, done: u64, total: Option<u64>) {
        let elapsed = self.since.elapsed();
        if elapsed.as_millis() < 500 {
            return;
        }
        let current = per_second(done.saturating_sub(self.then), elapsed.as_millis());
        let average = per_second(done, self.begun.elapsed().as_millis());
        self.since = Instant::now();
        self.then = done;
        self.job.report.working(total.and_then(|total| percent(done, total)), Some(Speed { current, average }));
    }
}

fn per_second(bytes: u64, millis: u128) -> u64 {
    u64::try_from(u128::from(bytes) * 1000 / millis.max(1)).unwrap_or(u64::MAX)
}

/// How far the whole import is when so much of the transfer is done.
fn percent(done: u64, total: u64) -> Option<u8> {
    let share = (u128::from(done) * u128::from(TRANSFER)).checked_div(u128::from(total))?;
    Some(u8::try_from(share).unwrap_or(TRANSFER).min(TRANSFER))
}

impl Job<'_> {
    /// Downloads.
    pub(super) async fn download(&self, url: &str, ca_bundle: Option<&[u8]>) -> Result<Content, Failure> {
        let checks = Checks::new(&self.record.request.checksums)?;
        let incoming = self.dir.join("incoming");
        let mut meter = Meter::new(self);
        fetch::download(url, ca_bundle, &incoming, checks, &mut |done, total| meter.at(done, total)).await?;
        self.import(incoming).await
    }

    /// Pulls from a registry.
    pub(super) async fn pull(&self, pull: &Pull<'_>) -> Result<Content, Failure> {
        let mut meter = Meter::new(self);
        let content = pull.run(self.dir, &mut |done, total| meter.at(done, total)).await?;
        let (content, start, length) = self.unpacked(content, "content").await?;
        self.image(content, &start, length).await
    }

    /// Makes the volume from a complete file: an image, perhaps packed, perhaps in a container image.
    pub(super) async fn import(&self, incoming: PathBuf) -> Result<Content, Failure> {
        self.report.begins(TRANSFER);
        let (mut content, mut start, mut length) = self.unpacked(incoming, "content").await?;
        if is_archive(&start) {
            let found = self.dir.join("found");
            registry::from_archive(&content, &found).await?;
            remove(content).await?;
            (content, start, length) = self.unpacked(found, "inner").await?;
        }
        self.image(content, &start, length).await
    }

    /// The file itself, or what is packed in it, in a file of this name; with its beginning and its length.
    async fn unpacked(&self, content: PathBuf, name: &str) -> Result<(PathBuf, Vec<u8>, u64), Failure> {
        let (start, length) = beginning(content.clone()).await?;
        let Some(compression) = compression(&start) else { return Ok((content, start, length)) };
        let unpacked = self.dir.join(name);
        let stopper = Stopper::default();
        let (from, to, stopped) = (content.clone(), unpacked.clone(), stopper.flag());
        tokio::task::spawn_blocking(move || unpack(compression, &from, &to, &stopped))
            .await
            .map_err(|error| Failure::io("cannot read the content", &io::Error::other(error)))??;
        remove(content).await?;
        let (start, length) = beginning(unpacked.clone()).await?;
        Ok((unpacked, start, length))
    }

    /// Makes the volume from an image file that begins with `start`.
    async fn image(&self, content: PathBuf, start: &[u8], length: u64) -> Result<Content, Failure> {
        let format = detect(start, length)?;
        if format == Format::Iso {
            if self.record.id.kind == VolumeKind::Disk {
                let detail = "an ISO image cannot be the source of a disk; use it as an image".into();
                return Err(Failure { kind: VolumeFailure::Format, detail });
            }
            let new = self.new.to_owned();
            blocking(move || {
                std::fs::rename(&content, &new)?;
                std::fs::File::open(&new)?.sync_all()
            })
            .await
            .map_err(|error| Failure::io("cannot put the image in place", &error))?;
            return self.done(format, true, length, None).await;
        }
        {
            // Looked at and converted by the unprivileged user.
            let (layout, content) = (self.volumes.layout.clone(), content.clone());
            blocking(move || layout.isolation.share(&content))
                .await
                .map_err(|error| Failure::io("cannot read the content", &error))?;
        }
        let tool = &self.volumes.tool;
        let own_size = tool.virtual_size(&content, format).await?;
        let size = wanted_size(self.record.request.size, own_size)?;
        if !is_dirty(start) {
            tool.check(&content, format).await?;
        }
        let report = |percent: u8| {
            let part = u16::from(percent) * u16::from(99 - TRANSFER) / 100;
            self.report.working(Some(TRANSFER + u8::try_from(part).unwrap_or_default()), None);
        };
        // Always a copy: nothing of the stranger's metadata (backing files, snapshots, bitmaps) comes along.
        tool.convert(&content, format, self.new, &report).await?;
        remove(content).await?;
        if size > own_size {
            tool.resize(self.new, size).await?;
        }
        self.done(format, false, size, None).await
    }
}

async fn remove(file: PathBuf) -> Result<(), Failure> {
    blocking(move || std::fs::remove_file(file)).await.map_err(|error| Failure::io("cannot tidy up", &error))
}

/// First bytes and length of a file.
async fn beginning(file: PathBuf) -> Result<(Vec<u8>, u64), Failure> {
    blocking(move || read_beginning(&file)).await.map_err(|error| Failure::io("cannot read the content", &error))
}

fn read_beginning(file: &Path) -> io::Result<(Vec<u8>, u64)> {
    use std::io::Read;
    let file = std::fs::File::open(file)?;
    let length = file.metadata()?.len();
    let mut start = Vec::new();
    file.take(DETECT_LENGTH as u64).read_to_end(&mut start)?;
    Ok((start, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_transfer_is_the_first_half() {
        for (done, total, shown) in [(0, 10, Some(0)), (5, 10, Some(25)), (10, 10, Some(50)), (20, 10, Some(50))] {
            assert_eq!(percent(done, total), shown, "{done} of {total}");
        }
        assert_eq!(percent(1, 0), None);
        assert_eq!(per_second(3 << 20, 1500), 2 << 20);
        assert_eq!(per_second(5, 0), 5000);
    }
}
