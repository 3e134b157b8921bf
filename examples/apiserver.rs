//! Serves a store directory on a unix socket, for conformance checks and benchmarks without a host:
//! `cargo run --example apiserver DIR SOCKET [PORT]`. With a port also on it with TLS; kubeconfigs for both roles are
//! then written beside the store.

use std::path::PathBuf;
use std::time::Duration;

use color_eyre::eyre::{Result, eyre};
use tokio::net::{TcpListener, UnixListener};
use tokio_util::sync::CancellationToken;
use vmdeck::apiserver::identity::Role;
use vmdeck::apiserver::tls::{Credential, write_private};
use vmdeck::apiserver::{self, Authority, Options, Tls};
use vmdeck::store::Store;

#[tokio::main]
async fn main() -> Result<()> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let (Some(dir), Some(socket)) = (arguments.next(), arguments.next()) else {
        return Err(eyre!("usage: apiserver DIR SOCKET"));
    };
    let state = dir.clone();
    let store = tokio::task::spawn_blocking(move || Store::open(&state, Default::default())).await??;
    let shutdown = CancellationToken::new();
    let options = Options { shutdown: shutdown.clone(), ..Options::default() };
    let router = apiserver::router(store, options);
    if let Some(port) = arguments.next() {
        let listener = TcpListener::bind(format!("127.0.0.1:{}", port.display())).await?;
        let url = format!("https://{}", listener.local_addr()?);
        let authority = Authority::open(&dir.join("tls"))?;
        for role in [Role::Admin, Role::View] {
            let path = dir.join(format!("{role}.kubeconfig"));
            let client = authority.client(&role.to_string(), role, Duration::from_secs(30 * 86_400))?;
            write_private(&path, &authority.kubeconfig(&url, &role.to_string(), &Credential::Certificate(client))?)?;
        }
        let tls = Tls::new(authority, Vec::new())?;
        tokio::spawn(apiserver::serve_tls(listener, router.clone(), tls, shutdown.clone()));
    }
    let listener = UnixListener::bind(&socket)?;
    let serving = tokio::spawn(apiserver::serve_unix(listener, router, shutdown.clone()));
    tokio::signal::ctrl_c().await?;
    shutdown.cancel();
    serving.await??;
    Ok(std::fs::remove_file(&socket)?)
}
