//! The TLS port for stock clients, when the settings ask for one.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use tokio::net::TcpListener;

use crate::apiserver::identity::Role;
use crate::apiserver::tls::{Credential, TlsError, write_private};
use crate::apiserver::{Authority, Tls};
use crate::config::Paths;

use super::super::failure::Failure;

/// How long the written kubeconfig is good; it is written anew at each start.
const KUBECONFIG_LIFE: Duration = Duration::from_secs(365 * 86_400);

/// Binds `address`, which must be of this computer only, and writes `kubeconfig` into the state directory: with it
/// kubectl and the like are the owner.
pub async fn open(paths: &Paths, address: SocketAddr, node: &str) -> Result<(TcpListener, Tls), Failure> {
    if !address.ip().is_loopback() {
        return Err(Failure::new(format!("host.listen is {address}: only loopback addresses are allowed")));
    }
    let failed = |cause: String| Failure::new(format!("cannot serve TLS on {address}: {cause}"));
    let listener = TcpListener::bind(address).await.map_err(|e| failed(e.to_string()))?;
    let bound = listener.local_addr().map_err(|e| failed(e.to_string()))?;
    let (state, node) = (paths.state.clone(), node.to_owned());
    let tls = tokio::task::spawn_blocking(move || prepare(&state, bound, node))
        .await
        .map_err(|e| failed(e.to_string()))?
        .map_err(|e| failed(e.to_string()))?;
    Ok((listener, tls))
}

/// Under which the port is reached.
pub fn url(bound: SocketAddr) -> String {
    format!("https://{bound}")
}

fn prepare(state: &Path, bound: SocketAddr, node: String) -> Result<Tls, TlsError> {
    let authority = Authority::open(&state.join("tls"))?;
    let credential = Credential::Certificate(authority.client("admin", Role::Admin, KUBECONFIG_LIFE)?);
    let config = authority.kubeconfig(&url(bound), "admin", &credential)?;
    write_private(&state.join("kubeconfig"), &config)?;
    Tls::new(authority, vec![node])
}
