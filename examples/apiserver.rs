//! Serves a store directory on a unix socket, for conformance checks and benchmarks without a host:
//! `cargo run --example apiserver DIR SOCKET`.

use std::path::PathBuf;

use color_eyre::eyre::{Result, eyre};
use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;
use vmdeck::apiserver::{self, Options};
use vmdeck::store::Store;

#[tokio::main]
async fn main() -> Result<()> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let (Some(dir), Some(socket)) = (arguments.next(), arguments.next()) else {
        return Err(eyre!("usage: apiserver DIR SOCKET"));
    };
    let store = tokio::task::spawn_blocking(move || Store::open(&dir, Default::default())).await??;
    let shutdown = CancellationToken::new();
    let options = Options { shutdown: shutdown.clone(), ..Options::default() };
    let router = apiserver::router(store, options);
    let listener = UnixListener::bind(&socket)?;
    let serving = tokio::spawn(apiserver::serve_unix(listener, router, shutdown.clone()));
    tokio::signal::ctrl_c().await?;
    shutdown.cancel();
    serving.await??;
    Ok(std::fs::remove_file(&socket)?)
}
