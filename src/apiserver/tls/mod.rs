//! The service on a TCP port with TLS, for clients that speak to no unix socket (kubectl, k9s, ...). Clients show a
//! certificate of the node's own authority ([`Authority`]); its subject says who they are and which role they have.

mod authority;
mod subject;

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use hyper_util::server::graceful::GracefulShutdown;
use parking_lot::Mutex;
use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::identity::{Identity, Peer};
use super::serve::{self, CONNECTIONS, GRACE};

pub use authority::{Authority, Credential, Identified, TlsError, write_private};

/// Longest time for a handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// What the listener needs of TLS.
#[derive(Clone)]
pub struct Tls {
    config: Arc<ServerConfig>,
}

impl Tls {
    /// From the node's authority; `names` are further names under which the server is reached.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn new(authority: Authority, names: Vec<String>) -> Result<Self, TlsError> {
        let tls = |e: &dyn std::fmt::Display| TlsError::Tls(e.to_string());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        let root = CertificateDer::from_pem_slice(authority.certificate().as_bytes()).map_err(|e| tls(&e))?;
        roots.add(root).map_err(|e| tls(&e))?;
        // Without a certificate one may still ask how the server is; the rest is refused with words, not with a
        // broken handshake.
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .allow_unauthenticated()
            .build()
            .map_err(|e| tls(&e))?;
        let certificates =
            Certificates { authority, names, provider: Arc::clone(&provider), present: Mutex::new(None) };
        certificates.current()?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| tls(&e))?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::new(certificates));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self { config: Arc::new(config) })
    }
}

/// The server's certificate: made in memory, made anew well before it ends.
struct Certificates {
    authority: Authority,
    names: Vec<String>,
    provider: Arc<rustls::crypto::CryptoProvider>,
    present: Mutex<Option<(Instant, Arc<CertifiedKey>)>>,
}

impl Certificates {
    fn current(&self) -> Result<Arc<CertifiedKey>, TlsError> {
        let mut present = self.present.lock();
        match &*present {
            Some((made, key)) if made.elapsed() < authority::SERVER_LIFE / 2 => Ok(Arc::clone(key)),
            _ => {
                let made = self.authority.server(&self.names)?;
                let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.key_der));
                let key = self.provider.key_provider.load_private_key(key).map_err(|e| TlsError::Tls(e.to_string()))?;
                let certified = Arc::new(CertifiedKey::new(vec![CertificateDer::from(made.certificate_der)], key));
                *present = Some((Instant::now(), Arc::clone(&certified)));
                Ok(certified)
            }
        }
    }
}

impl std::fmt::Debug for Certificates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificates").field("names", &self.names).finish_non_exhaustive()
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.current().inspect_err(|error| tracing::error!(%error, "no certificate for the server")).ok()
    }
}

/// Serves `router` on `listener` with TLS until `shutdown` is cancelled, then lets open requests end.
///
/// # Errors
/// Only when the listener is broken for good.
pub async fn serve_tls(listener: TcpListener, router: Router, tls: Tls, shutdown: CancellationToken) -> io::Result<()> {
    let graceful = Arc::new(GracefulShutdown::new());
    let acceptor = TlsAcceptor::from(tls.config);
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = async {
                let slot = Arc::clone(&slots).acquire_owned().await.ok();
                (listener.accept().await, slot)
            } => accepted,
        };
        let ((stream, source), slot) = match accepted {
            (Ok((stream, source)), slot) => ((stream, source.ip().to_string()), slot),
            (Err(error), _) => {
                serve::survive(error).await?;
                continue;
            }
        };
        let (acceptor, router, graceful) = (acceptor.clone(), router.clone(), Arc::clone(&graceful));
        tokio::spawn(async move {
            stream.set_nodelay(true).ok();
            let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await else { return };
            let certificate = stream.get_ref().1.peer_certificates().and_then(|c| c.first());
            let peer = Peer { identity: certificate.and_then(|c| identity(c)), source };
            let connection = serve::connection(stream, router, peer, &graceful);
            if let Err(error) = connection.await {
                tracing::debug!(%error, "connection");
            }
            drop(slot);
        });
    }
    drop(listener);
    let Some(graceful) = Arc::into_inner(graceful) else {
        // A handshake is under way; its connection ends with the process.
        return Ok(());
    };
    if tokio::time::timeout(GRACE, graceful.shutdown()).await.is_err() {
        tracing::warn!("some requests did not end in time");
    }
    Ok(())
}

/// Who a verified certificate is for.
fn identity(certificate: &[u8]) -> Option<Identity> {
    let subject = subject::of(certificate)?;
    Some(Identity::new(&subject.common_name, subject.organizations)).filter(|who| !who.user.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apiserver::identity::Role;

    #[test]
    fn an_authority_is_kept_and_its_clients_are_known() {
        let dir = tempfile::tempdir().unwrap();
        let first = Authority::open(&dir.path().join("tls")).unwrap();
        let again = Authority::open(&dir.path().join("tls")).unwrap();
        assert_eq!(first.certificate(), again.certificate());
        for (role, group) in [(Role::Admin, "system:masters"), (Role::View, "vmdeck:view")] {
            let client = again.client("anna", role, Duration::from_secs(3600)).unwrap();
            let identity = identity(&client.certificate_der).unwrap();
            assert_eq!(
                (identity.user.as_str(), identity.role, identity.groups[0].as_str()),
                ("anna", Some(role), group)
            );
        }
        let client = again.client("admin", Role::Admin, Duration::from_secs(3600)).unwrap();
        let config = again.kubeconfig("https://127.0.0.1:6443", "admin", &Credential::Certificate(client)).unwrap();
        assert!(config.contains("https://127.0.0.1:6443") && config.contains("client-key-data"), "{config}");
        Tls::new(again, vec!["node".to_owned()]).unwrap();
    }

    #[test]
    fn private_files_are_replaced() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kubeconfig");
        for content in ["one", "two"] {
            write_private(&path, content).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), content);
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }
}
