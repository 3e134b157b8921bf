//! The API server's byte streams and uploads, done by the host.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::apiserver::{DuplexStream, StreamDialer, StreamError, StreamKind, UploadError, UploadPart, UploadSink};
use crate::host::{ForwardError, Host, LocalHost, MachineId, SerialAttachment, UploadFailure};

/// Opens streams into the machines of this computer.
pub struct Dialer {
    host: Arc<LocalHost>,
}

impl Dialer {
    /// For this host.
    pub fn new(host: Arc<LocalHost>) -> Self {
        Self { host }
    }

    async fn open(&self, uid: String, kind: StreamKind) -> Result<Box<dyn DuplexStream>, StreamError> {
        let id = MachineId(uid);
        match kind {
            StreamKind::Console { history } => match self.host.serial(&id, history) {
                Some(attachment) => Ok(Box::new(line(attachment))),
                None => Err(StreamError::NotReady("the machine has not been started yet: it has no console".into())),
            },
            StreamKind::Vnc => match self.host.vnc(&id).await.ok_or_else(not_running)? {
                Ok(stream) => Ok(Box::new(stream)),
                Err(e) => Err(StreamError::Failed(format!("the machine's screen does not answer: {e}"))),
            },
            StreamKind::PortForward { port, udp } => {
                Ok(Box::new(self.host.port_forward(&id, port, udp).await.map_err(refused)?))
            }
        }
    }
}

fn refused(error: ForwardError) -> StreamError {
    match error {
        ForwardError::NotRunning => not_running(),
        ForwardError::Failed(text) => StreamError::Failed(text),
    }
}

fn not_running() -> StreamError {
    StreamError::NotReady("the machine is not running".into())
}

impl StreamDialer for Dialer {
    fn dial(&self, uid: &str, kind: StreamKind) -> BoxFuture<'_, Result<Box<dyn DuplexStream>, StreamError>> {
        let uid = uid.to_owned();
        Box::pin(self.open(uid, kind))
    }

    fn freeze(&self, uid: &str, timeout: Duration) -> BoxFuture<'_, Result<(), StreamError>> {
        let id = MachineId(uid.to_owned());
        Box::pin(async move { self.host.freeze(&id, timeout).await.map_err(StreamError::Failed) })
    }

    fn unfreeze(&self, uid: &str) -> BoxFuture<'_, Result<(), StreamError>> {
        let id = MachineId(uid.to_owned());
        Box::pin(async move { self.host.thaw(&id).await.map_err(StreamError::Failed) })
    }
}

/// A serial attachment as a byte stream, its history first.
fn line(attachment: SerialAttachment) -> tokio::io::DuplexStream {
    let SerialAttachment { history, mut output, input } = attachment;
    let (near, far) = tokio::io::duplex(64 * 1024);
    let (mut from_near, mut to_near) = tokio::io::split(far);
    tokio::spawn(async move {
        let outward = async {
            if to_near.write_all(&history).await.is_err() {
                return;
            }
            while let Some(data) = output.recv().await {
                if to_near.write_all(&data).await.is_err() {
                    return;
                }
            }
        };
        let inward = async {
            let mut buffer = vec![0; 4096];
            loop {
                match from_near.read(&mut buffer).await {
                    Ok(0) | Err(_) => return,
                    Ok(n) => {
                        if input.send(Bytes::copy_from_slice(&buffer[..n])).await.is_err() {
                            return;
                        }
                    }
                }
            }
        };
        // The end of either side is the end of the stream.
        tokio::select! {
            () = outward => {}
            () = inward => {}
        }
    });
    near
}

/// Takes uploads into the volumes of this computer.
pub struct Uploads {
    host: Arc<LocalHost>,
}

impl Uploads {
    /// For this host.
    pub fn new(host: Arc<LocalHost>) -> Self {
        Self { host }
    }
}

impl UploadSink for Uploads {
    fn receive(&self, token: &str, part: UploadPart) -> BoxFuture<'_, Result<(), UploadError>> {
        let token = token.to_owned();
        Box::pin(async move {
            self.host.resume_upload(&token, part.offset, part.total, part.body).await.map_err(upload_error)
        })
    }

    fn received(&self, token: &str) -> Result<u64, UploadError> {
        self.host.upload_received(token).map_err(upload_error)
    }
}

fn upload_error(failure: UploadFailure) -> UploadError {
    match failure {
        UploadFailure::UnknownToken => UploadError::UnknownToken,
        UploadFailure::Busy => UploadError::Busy,
        UploadFailure::Elsewhere { received } => UploadError::Elsewhere { received },
        UploadFailure::Refused(text) => UploadError::Refused(text),
        UploadFailure::Failed(text) => UploadError::Failed(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_line_gives_history_first_and_takes_input() {
        let (to_viewer, output) = tokio::sync::mpsc::channel(4);
        let (input, mut from_viewer) = tokio::sync::mpsc::channel(4);
        let mut stream = line(SerialAttachment { history: Bytes::from_static(b"before "), output, input });
        to_viewer.send(Bytes::from_static(b"now")).await.unwrap();
        let mut buffer = [0; 10];
        stream.read_exact(&mut buffer).await.unwrap();
        assert_eq!(&buffer, b"before now");
        stream.write_all(b"typed").await.unwrap();
        assert_eq!(from_viewer.recv().await.unwrap(), "typed");
        drop(to_viewer);
        assert_eq!(stream.read(&mut buffer).await.unwrap(), 0);
    }
}
