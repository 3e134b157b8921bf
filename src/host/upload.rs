//! Uploads: a volume's job waits under a token, a request brings the content.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::AsyncRead;
use tokio::sync::{mpsc, oneshot};

use super::VolumeFailure;
use super::volume_job::Failure;

/// Why an upload did not become a volume. The text is for a user.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UploadFailure {
    /// No volume waits for this token.
    #[error("no image or disk waits for this upload")]
    UnknownToken,
    /// Another one is under way.
    #[error("another upload for it is under way")]
    Busy,
    /// It goes on at another place than where the one before stopped.
    #[error("{received} bytes are here: send what follows them, or all of it")]
    Elsewhere {
        /// Bytes that are here.
        received: u64,
    },
    /// The content is not acceptable (checksum, format, size).
    #[error("{0}")]
    Refused(String),
    /// It did not arrive whole, or could not be stored.
    #[error("{0}")]
    Failed(String),
}

/// The content of an upload.
pub(super) type Body = Box<dyn AsyncRead + Send + Unpin>;

/// An upload on its way to the job.
pub(super) struct Upload {
    /// Bytes before it that have come already; 0 for all of the content.
    pub(super) offset: u64,
    /// Length of the whole content, if the sender told it.
    pub(super) total: Option<u64>,
    /// The bytes.
    pub(super) body: Body,
}

type Answer = oneshot::Sender<Result<(), UploadFailure>>;

/// Who waits for an upload, and whose sender waits for the outcome.
#[derive(Clone, Default)]
pub(super) struct Uploads(Arc<Mutex<Tables>>);

#[derive(Default)]
struct Tables {
    waiting: HashMap<String, Place>,
    senders: HashMap<String, Answer>,
}

struct Place {
    queue: mpsc::Sender<Upload>,
    /// Bytes that have come already.
    received: u64,
}

/// 24 random bytes, url-safe.
pub(super) fn new_token() -> String {
    use base64::Engine;
    let bytes: [u8; 24] = rand::random();
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
}

/// A job's place in the queue; the token is unknown once this is gone.
pub(super) struct Waiting {
    uploads: Uploads,
    token: String,
    queue: mpsc::Receiver<Upload>,
}

impl Uploads {
    /// Accepts uploads under `token` until the result is dropped or has received one. `received`: bytes that are here.
    pub(super) fn wait(&self, token: &str, received: u64) -> Waiting {
        let (sender, queue) = mpsc::channel(1);
        self.0.lock().waiting.insert(token.to_owned(), Place { queue: sender, received });
        Waiting { uploads: self.clone(), token: token.to_owned(), queue }
    }

    /// Bytes that have come under `token`, if it waits for more.
    pub(super) fn received(&self, token: &str) -> Result<u64, UploadFailure> {
        let tables = self.0.lock();
        match tables.waiting.get(token) {
            Some(place) => Ok(place.received),
            None if tables.senders.contains_key(token) => Err(UploadFailure::Busy),
            None => Err(UploadFailure::UnknownToken),
        }
    }

    /// Brings content to a waiting job; returns when the volume is made, or with why it is not.
    pub(super) async fn receive(&self, token: &str, upload: Upload) -> Result<(), UploadFailure> {
        let (answer, answered) = oneshot::channel();
        let received = self.received(token)?;
        if upload.offset != 0 && upload.offset != received {
            return Err(UploadFailure::Elsewhere { received });
        }
        {
            let mut tables = self.0.lock();
            // One upload at a time: the token takes no other until this one has failed.
            let place = tables.waiting.remove(token).ok_or(UploadFailure::Busy)?;
            place.queue.try_send(upload).map_err(|_| UploadFailure::UnknownToken)?;
            tables.senders.insert(token.to_owned(), answer);
        }
        answered.await.unwrap_or_else(|_| Err(UploadFailure::Failed("the image or disk was deleted".into())))
    }

    /// Tells the sender how it went.
    pub(super) fn finished(&self, token: &str, outcome: Result<(), &Failure>) {
        let Some(answer) = self.0.lock().senders.remove(token) else { return };
        let outcome = outcome.map_err(|failure| match failure.kind {
            VolumeFailure::Checksum | VolumeFailure::Format | VolumeFailure::TooSmall => {
                UploadFailure::Refused(failure.detail.clone())
            }
            VolumeFailure::Source | VolumeFailure::NoSpace | VolumeFailure::Other => {
                UploadFailure::Failed(failure.detail.clone())
            }
        });
        // The sender may have hung up.
        let _ = answer.send(outcome);
    }

    /// Drops a sender whose volume is gone.
    pub(super) fn forget(&self, token: &str) {
        let mut tables = self.0.lock();
        tables.waiting.remove(token);
        tables.senders.remove(token);
    }
}

impl Waiting {
    /// The next upload.
    pub(super) async fn next(&mut self) -> Upload {
        match self.queue.recv().await {
            Some(upload) => upload,
            // The place was taken by a later job for the same token; this one is about to be aborted.
            None => std::future::pending().await,
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.uploads.0.lock().waiting.remove(&self.token);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upload(offset: u64, total: u64) -> Upload {
        Upload { offset, total: Some(total), body: Box::new(&b"abc"[..]) }
    }

    #[tokio::test]
    async fn an_upload_finds_its_job_and_hears_the_outcome() {
        let uploads = Uploads::default();
        let token = new_token();
        assert!(token.len() >= 32 && token.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_'));
        let nobody = uploads.receive(&token, upload(0, 3)).await;
        assert_eq!(nobody, Err(UploadFailure::UnknownToken));
        assert_eq!(uploads.received(&token), Err(UploadFailure::UnknownToken));

        let mut waiting = uploads.wait(&token, 0);
        assert_eq!(uploads.received(&token), Ok(0));
        let sender = {
            let (uploads, token) = (uploads.clone(), token.clone());
            tokio::spawn(async move { uploads.receive(&token, upload(0, 3)).await })
        };
        assert_eq!(waiting.next().await.total, Some(3));
        let second = uploads.receive(&token, upload(0, 3)).await;
        assert_eq!(second, Err(UploadFailure::Busy), "one at a time");
        let failure = Failure { kind: VolumeFailure::Checksum, detail: "differs".into() };
        uploads.finished(&token, Err(&failure));
        assert_eq!(sender.await.unwrap(), Err(UploadFailure::Refused("differs".into())));
    }

    #[tokio::test]
    async fn an_upload_goes_on_where_the_one_before_stopped() {
        let uploads = Uploads::default();
        let mut waiting = uploads.wait("t", 7);
        assert_eq!(uploads.received("t"), Ok(7));
        let elsewhere = uploads.receive("t", upload(5, 10)).await;
        assert_eq!(elsewhere, Err(UploadFailure::Elsewhere { received: 7 }));
        let sender = tokio::spawn({
            let uploads = uploads.clone();
            async move { uploads.receive("t", upload(7, 10)).await }
        });
        assert_eq!(waiting.next().await.offset, 7);
        uploads.finished("t", Ok(()));
        assert_eq!(sender.await.unwrap(), Ok(()));
    }
}
