//! Content from outside becomes a volume: store, check, unpack, look at, convert.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::context::blocking;
use super::disk_image::{DETECT_LENGTH, Format, compression, detect};
use super::fetch::{self, Checks};
use super::spec::VolumeKind;
use super::unpack::unpack;
use super::upload::{Upload, Waiting};
use super::volume_job::{Failure, Job, wanted_size};
use super::volumes::Content;
use super::{VolumeFailure, VolumeState};

/// Share of the progress that the transfer takes; unpacking and converting take the rest.
const TRANSFER: u8 = 80;

/// Speed and percentage of a transfer, shown at most twice a second.
pub(super) struct Meter<'a> {
    job: &'a Job<'a>,
    since: Instant,
    /// Bytes at `since`.
    then: u64,
    speed: Option<u64>,
}

impl<'a> Meter<'a> {
    fn new(job: &'a Job<'a>) -> Self {
        job.report.working(Some(0), None);
        Self { job, since: Instant::now(), then: 0, speed: None }
    }

    /// `done` of `total` bytes are there.
    pub(super) fn at(&mut self, done: u64, total: Option<u64>) {
        let elapsed = self.since.elapsed();
        if elapsed.as_millis() < 500 {
            return;
        }
        let bytes = u128::from(done.saturating_sub(self.then));
        self.speed = u64::try_from(bytes * 1000 / elapsed.as_millis()).ok();
        self.since = Instant::now();
        self.then = done;
        let percent = total.filter(|total| *total > 0).map(|total| {
            u8::try_from((u128::from(done) * u128::from(TRANSFER) / u128::from(total)).min(u128::from(TRANSFER)))
                .unwrap_or(TRANSFER)
        });
        self.job.report.working(percent, self.speed);
    }
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

    /// Waits for an upload, as often as one breaks off.
    pub(super) async fn receive(&self) -> Result<Content, Failure> {
        let token = self.record.token.as_deref().unwrap_or_default();
        // A checksum that cannot be checked is said before somebody uploads gigabytes.
        Checks::new(&self.record.request.checksums)?;
        loop {
            let mut waiting: Waiting = self.volumes.uploads.wait(token);
            self.report.show(VolumeState::WaitingForUpload { token: token.to_owned() });
            let upload = waiting.next().await;
            let incoming = self.dir.join("incoming");
            match self.store(upload, &incoming).await {
                Ok(()) => return self.import(incoming).await,
                Err(failure) if failure.kind == VolumeFailure::Source => {
                    self.volumes.uploads.finished(token, Err(&failure));
                }
                Err(failure) => return Err(failure),
            }
        }
    }

    async fn store(&self, mut upload: Upload, incoming: &Path) -> Result<(), Failure> {
        let mut checks = Checks::new(&self.record.request.checksums)?;
        let cannot = |error: &io::Error| Failure::io("cannot store the upload", error);
        let broken = |words: String| Failure { kind: VolumeFailure::Source, detail: words };
        let mut file = tokio::fs::File::create(incoming).await.map_err(|error| cannot(&error))?;
        let mut meter = Meter::new(self);
        let mut done = 0_u64;
        let mut buffer = vec![0_u8; 256 << 10];
        loop {
            let length = upload
                .body
                .read(&mut buffer)
                .await
                .map_err(|error| broken(format!("the upload broke off after {done} bytes: {error}")))?;
            if length == 0 {
                break;
            }
            checks.update(&buffer[..length]);
            file.write_all(&buffer[..length]).await.map_err(|error| cannot(&error))?;
            done += length as u64;
            meter.at(done, upload.length);
        }
        file.flush().await.map_err(|error| cannot(&error))?;
        if let Some(expected) = upload.length
            && done != expected
        {
            return Err(broken(format!("the upload broke off after {done} of {expected} bytes")));
        }
        checks.finish()
    }

    /// Makes the volume from a complete file.
    async fn import(&self, incoming: PathBuf) -> Result<Content, Failure> {
        self.report.working(Some(TRANSFER), None);
        let cannot = |error: &io::Error| Failure::io("cannot read the content", error);
        let (mut start, mut length) = beginning(incoming.clone()).await.map_err(|error| cannot(&error))?;
        let mut content = incoming;
        if let Some(compression) = compression(&start) {
            let unpacked = self.dir.join("content");
            let (from, to) = (content.clone(), unpacked.clone());
            tokio::task::spawn_blocking(move || unpack(compression, &from, &to))
                .await
                .map_err(|error| cannot(&io::Error::other(error)))??;
            remove(content).await.map_err(|error| cannot(&error))?;
            content = unpacked;
            (start, length) = beginning(content.clone()).await.map_err(|error| cannot(&error))?;
        }
        let format = detect(&start, length)?;
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
            blocking(move || layout.isolation.share(&content)).await.map_err(|error| cannot(&error))?;
        }
        let tool = &self.volumes.tool;
        let own_size = tool.virtual_size(&content, format).await?;
        let size = wanted_size(self.record.request.size, own_size)?;
        let report = |percent: u8| {
            let part = u16::from(percent) * u16::from(99 - TRANSFER) / 100;
            self.report.working(Some(TRANSFER + u8::try_from(part).unwrap_or_default()), None);
        };
        // Always a copy: nothing of the stranger's metadata (backing files, snapshots, bitmaps) comes along.
        tool.convert(&content, format, self.new, &report).await?;
        remove(content).await.map_err(|error| cannot(&error))?;
        if size > own_size {
            tool.resize(self.new, size).await?;
        }
        self.done(format, false, size, None).await
    }
}

async fn remove(file: PathBuf) -> io::Result<()> {
    blocking(move || std::fs::remove_file(file)).await
}

/// First bytes and length of a file.
async fn beginning(file: PathBuf) -> io::Result<(Vec<u8>, u64)> {
    blocking(move || {
        use std::io::Read;
        let file = std::fs::File::open(file)?;
        let length = file.metadata()?.len();
        let mut start = Vec::new();
        file.take(DETECT_LENGTH as u64).read_to_end(&mut start)?;
        Ok((start, length))
    })
    .await
}
