//! The service on a unix socket.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixListener;
use tokio::time::{Instant, Sleep};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use super::identity::{Identity, Peer};

/// How long open requests may take after shutdown began. Watches and streams end by themselves.
pub(super) const GRACE: Duration = Duration::from_secs(5);
/// Connections beyond this wait.
pub(super) const CONNECTIONS: usize = 4096;
/// Largest head of a request.
const MAX_HEAD: u32 = 64 << 10;
/// Longest time for a head to come.
const HEAD_TIME: Duration = Duration::from_secs(30);

/// Serves `router` on `listener` until `shutdown` is cancelled, then lets open requests end.
///
/// # Errors
/// Only when the listener is broken for good.
pub async fn serve_unix(listener: UnixListener, router: Router, shutdown: CancellationToken) -> io::Result<()> {
    let graceful = GracefulShutdown::new();
    let slots = std::sync::Arc::new(tokio::sync::Semaphore::new(CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = async {
                let slot = std::sync::Arc::clone(&slots).acquire_owned().await.ok();
                (listener.accept().await, slot)
            } => accepted,
        };
        let (stream, slot) = match accepted {
            (Ok((stream, _)), slot) => (stream, slot),
            (Err(error), _) => {
                survive(error).await?;
                continue;
            }
        };
        // Only its owner can open the socket; which user that was, is for the audit log.
        let uid = stream.peer_cred().map_or_else(|_| "uid:?".to_owned(), |c| format!("uid:{}", c.uid()));
        let peer = Peer { identity: Some(Identity::owner()), source: uid };
        let connection = connection(stream, router.clone(), peer, &graceful);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "connection");
            }
            drop(slot);
        });
    }
    drop(listener);
    if tokio::time::timeout(GRACE, graceful.shutdown()).await.is_err() {
        tracing::warn!("some requests did not end in time");
    }
    Ok(())
}

/// After a failed accept: waits a little if it may work again.
pub(super) async fn survive(error: io::Error) -> io::Result<()> {
    if !passes(&error) {
        return Err(error);
    }
    // Out of descriptors, most likely: they come back when connections end.
    tracing::warn!(%error, "a connection could not be accepted");
    tokio::time::sleep(Duration::from_millis(100)).await;
    Ok(())
}

/// Whether accepting may work again after this error.
fn passes(error: &io::Error) -> bool {
    const DESCRIPTORS: [i32; 2] = [23, 24]; // ENFILE, EMFILE
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    ) || error.raw_os_error().is_some_and(|code| DESCRIPTORS.contains(&code))
}

/// One connection, HTTP/1.1 or HTTP/2, upgrades included. `peer` is who the listener found to be at the other
/// end.
pub(super) fn connection<S>(
    stream: S,
    router: Router,
    peer: Peer,
    graceful: &GracefulShutdown,
) -> impl Future<Output = Result<(), Box<dyn std::error::Error + Send + Sync>>> + Send + 'static
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = router.map_request(move |mut request: Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(peer.clone());
        request.map(Body::new)
    });
    let service = TowerToHyperService::new(service.map_err(|never: Infallible| match never {}));
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIME).max_buf_size(MAX_HEAD as usize);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(1000)
        .keep_alive_interval(Duration::from_secs(30))
        .max_header_list_size(MAX_HEAD);
    let stream = TokioIo::new(Prompt::new(stream, HEAD_TIME));
    let connection = builder.serve_connection_with_upgrades(stream, service).into_owned();
    graceful.watch(connection)
}

/// What HTTP/2 begins with.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A stream that fails when it does not say soon which HTTP it speaks: until then nobody else looks at the clock.
struct Prompt<S> {
    stream: S,
    /// The clock, and how much of the preface has come; `None` when it is known.
    waiting: Option<(Pin<Box<Sleep>>, usize)>,
}

impl<S> Prompt<S> {
    fn new(stream: S, time: Duration) -> Self {
        Self { stream, waiting: Some((Box::pin(tokio::time::sleep_until(Instant::now() + time)), 0)) }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Prompt<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        let Some((clock, come)) = &mut self.waiting else { return polled };
        if polled.is_pending() {
            return clock.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()));
        }
        let fresh = &buf.filled()[before..];
        let rest = &PREFACE[*come..];
        let goes_on = fresh.len() < rest.len() && rest.starts_with(fresh);
        *come += fresh.len();
        if !goes_on {
            self.waiting = None;
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Prompt<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn who_says_nothing_is_left() {
        for (said, known) in [
            ("", false),
            ("P", false),
            ("PRI * HT", false),
            ("G", true),
            ("PUT", true),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", true),
        ] {
            let (mut near, far) = tokio::io::duplex(64);
            let mut stream = Prompt::new(far, Duration::from_millis(20));
            let mut seen = vec![0; said.len()];
            near.write_all(said.as_bytes()).await.unwrap();
            stream.read_exact(&mut seen).await.unwrap();
            let patience = Duration::from_millis(if known { 200 } else { 30_000 });
            let next = tokio::time::timeout(patience, stream.read_u8()).await;
            let left = matches!(&next, Ok(Err(error)) if error.kind() == io::ErrorKind::TimedOut);
            assert_eq!((left, next.is_err()), (!known, known), "{said:?}");
        }
    }
}
