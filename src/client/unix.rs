//! HTTP over a unix socket.

use std::path::{Path, PathBuf};

use hyper_util::rt::{TokioExecutor, TokioIo};
use kube::client::Body;
use kube::client::middleware::BaseUriLayer;
use tokio::net::UnixStream;
use tower::Layer;

/// A kube client whose every connection goes to `socket`.
pub fn client(socket: &Path, default_namespace: &str) -> kube::Client {
    let socket: PathBuf = socket.to_path_buf();
    let connector = tower::service_fn(move |_uri: http::Uri| {
        let socket = socket.clone();
        Box::pin(async move { UnixStream::connect(socket).await.map(TokioIo::new) })
    });
    let service = hyper_util::client::legacy::Client::builder(TokioExecutor::new()).build::<_, Body>(connector);
    let base = BaseUriLayer::new(http::Uri::from_static("http://localhost"));
    kube::Client::new(base.layer(service), default_namespace)
}
