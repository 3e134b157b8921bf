//! The service on a unix socket.

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use super::identity::{Identity, Peer};

/// How long open requests may take after shutdown began. Watches and streams end by themselves.
pub(super) const GRACE: Duration = Duration::from_secs(5);
/// Connections beyond this wait.
pub(super) const CONNECTIONS: usize = 4096;

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
    builder.http1().timer(TokioTimer::new()).header_read_timeout(Duration::from_secs(30)).max_buf_size(128 << 10);
    builder.http2().timer(TokioTimer::new()).max_concurrent_streams(1000).keep_alive_interval(Duration::from_secs(30));
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).into_owned();
    graceful.watch(connection)
}
