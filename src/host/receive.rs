//! An upload is stored, over as many requests as it takes.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};

use super::fetch::Checks;
use super::import::Meter;
use super::room::Room;
use super::upload::Upload;
use super::volume_job::{Failure, Job};
use super::volumes::Content;
use super::{VolumeFailure, VolumeState};

/// A sender that sends nothing for so long is gone.
const IDLE: Duration = Duration::from_secs(60);

/// What has arrived so far.
struct Stored {
    path: PathBuf,
    file: tokio::fs::File,
    done: u64,
    checks: Checks,
}

impl Stored {
    async fn new(path: &Path, checksums: &[(String, String)]) -> Result<Self, Failure> {
        let file = tokio::fs::File::create(path).await.map_err(|error| cannot(&error))?;
        Ok(Self { path: path.to_owned(), file, done: 0, checks: Checks::new(checksums)? })
    }

    async fn begin_anew(&mut self) -> Result<(), Failure> {
        self.done = 0;
        self.file.set_len(0).await.map_err(|error| cannot(&error))?;
        self.file.seek(io::SeekFrom::Start(0)).await.map_err(|error| cannot(&error))?;
        self.checks.restart()
    }

    /// Takes one request's body. [`VolumeFailure::Source`] means that it broke off.
    async fn take(&mut self, mut upload: Upload, meter: &mut Meter<'_>) -> Result<(), Failure> {
        let broken = |detail: String| Failure { kind: VolumeFailure::Source, detail };
        if upload.offset != self.done {
            self.begin_anew().await?;
        }
        let mut buffer = vec![0_u8; 256 << 10];
        loop {
            let read = tokio::time::timeout(IDLE, upload.body.read(&mut buffer)).await;
            let length = match read {
                Ok(Ok(length)) => length,
                Ok(Err(error)) => {
                    return Err(broken(format!("the upload broke off after {} bytes: {error}", self.done)));
                }
                Err(_) => return Err(broken(format!("the upload stood still after {} bytes", self.done))),
            };
            if length == 0 {
                break;
            }
            self.room_for(length)?;
            self.checks.update(&buffer[..length]);
            self.file.write_all(&buffer[..length]).await.map_err(|error| cannot(&error))?;
            self.done += length as u64;
            meter.at(self.done, upload.total);
        }
        self.file.flush().await.map_err(|error| cannot(&error))?;
        match upload.total {
            Some(total) if self.done != total => {
                Err(broken(format!("the upload broke off after {} of {total} bytes", self.done)))
            }
            _ => Ok(()),
        }
    }

    fn room_for(&mut self, bytes: usize) -> Result<(), Failure> {
        // What is written is counted from the beginning of this upload.
        Room::after(self.done).take(&self.path, bytes)
    }
}

fn cannot(error: &io::Error) -> Failure {
    Failure::io("cannot store the upload", error)
}

impl Job<'_> {
    /// Waits for an upload, as often as one breaks off; the next one may go on where it stopped.
    pub(super) async fn receive(&self) -> Result<Content, Failure> {
        let token = self.record.token.as_deref().unwrap_or_default();
        let incoming = self.dir.join("incoming");
        // A checksum that cannot be checked is said before somebody uploads gigabytes.
        let mut stored = Stored::new(&incoming, &self.record.request.checksums).await?;
        let mut failure: Option<Failure> = None;
        loop {
            let mut waiting = self.volumes.uploads.wait(token, stored.done);
            // Not earlier: whoever hears of it may try again at once.
            if let Some(failure) = failure.take() {
                self.volumes.uploads.finished(token, Err(&failure));
            }
            self.report.show(VolumeState::WaitingForUpload { token: token.to_owned() });
            let upload = waiting.next().await;
            match stored.take(upload, &mut Meter::new(self)).await {
                Ok(()) => break,
                Err(broken) if broken.kind == VolumeFailure::Source => failure = Some(broken),
                Err(other) => return Err(other),
            }
        }
        stored.checks.finish()?;
        self.import(incoming).await
    }
}
