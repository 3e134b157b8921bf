//! Kubernetes' HTTP semantics over the store. Knows no QEMU: byte streams into machines and uploads are traits
//! that [`crate::run`] implements with the host.

use futures::future::BoxFuture;

/// A byte stream into a machine (console, VNC, one forwarded connection).
pub trait DuplexStream: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin {}
impl<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin> DuplexStream for T {}

/// Which stream of a machine is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamKind {
    /// Serial console, preceded by at most `history` bytes from before.
    Console {
        /// Bytes of history.
        history: usize,
    },
    /// RFB.
    Vnc,
    /// One connection to a port of the guest.
    PortForward {
        /// Port.
        port: u16,
        /// UDP instead of TCP.
        udp: bool,
    },
}

/// Why a stream could not be opened; the text is shown to the user.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StreamError {
    /// The machine is not in a state in which this works yet: the client may try again.
    #[error("{0}")]
    NotReady(String),
    /// It will not work.
    #[error("{0}")]
    Failed(String),
}

/// Opens byte streams into machines; `uid` is the VirtualMachine's UID.
pub trait StreamDialer: Send + Sync + 'static {
    /// Opens one stream.
    fn dial(&self, uid: &str, kind: StreamKind) -> BoxFuture<'_, Result<Box<dyn DuplexStream>, StreamError>>;
}

/// Why an upload was refused or failed; the text is shown to the user.
#[derive(Debug, Clone, thiserror::Error)]
pub enum UploadError {
    /// No image waits for this token.
    #[error("no image or disk waits for this upload")]
    UnknownToken,
    /// The content was refused (checksum, format, size).
    #[error("{0}")]
    Refused(String),
    /// It could not be stored.
    #[error("{0}")]
    Failed(String),
}

/// Takes the body of `PUT /upload/{token}`.
pub trait UploadSink: Send + Sync + 'static {
    /// Stores the body; returns when it is complete and checked.
    fn receive(
        &self,
        token: &str,
        length: Option<u64>,
        body: Box<dyn tokio::io::AsyncRead + Send + Unpin>,
    ) -> BoxFuture<'_, Result<(), UploadError>>;
}
