//! The node's own certificate authority: made at first start, kept under the state directory, signs the server's
//! certificate and those of clients. Blocking file work; call it on a blocking thread.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType, date_time_ymd,
};
use serde_json::json;

use crate::apiserver::identity::Role;

/// Name of the authority. Part of what ties certificates to it: never changes.
const NAME: &str = "vmdeck";
const DAY: Duration = Duration::from_secs(86_400);
/// How long the authority's own certificate is valid.
const AUTHORITY_LIFE: Duration = DAY.saturating_mul(3650);
/// How long the server's certificate is valid.
pub(super) const SERVER_LIFE: Duration = DAY.saturating_mul(365);
/// Clocks may differ by this.
const CLOCKS: Duration = DAY;

/// What goes wrong with keys and certificates.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file could not be read or written.
    #[error("{}: {cause}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: std::io::Error,
    },
    /// A key or certificate could not be made or read.
    #[error("certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// A user cannot be called so.
    #[error("{0:?} cannot be a user's name in a certificate: up to 64 bytes, not beginning with \"system:\"")]
    User(String),
    /// TLS does not take them.
    #[error("TLS: {0}")]
    Tls(String),
}

/// Key and certificate of the authority.
pub struct Authority {
    key: KeyPair,
    /// The certificate, PEM.
    certificate: String,
}

/// A certificate with its key.
pub struct Identified {
    /// PEM.
    pub certificate: String,
    /// DER.
    pub certificate_der: Vec<u8>,
    /// PEM (PKCS#8).
    pub key: String,
    /// DER (PKCS#8).
    pub key_der: Vec<u8>,
}

/// By what a client shows who it is.
pub enum Credential {
    /// A certificate of the authority.
    Certificate(Identified),
    /// A bearer token.
    Token(String),
}

impl Authority {
    /// Reads the authority in `dir`, or makes it (0700; files 0600).
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn open(dir: &Path) -> Result<Self, TlsError> {
        let fail = |path: &Path| {
            let path = path.to_owned();
            move |cause| TlsError::File { path, cause }
        };
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(fail(dir))?;
        let (key_file, certificate_file) = (dir.join("ca.key"), dir.join("ca.crt"));
        match std::fs::read_to_string(&key_file) {
            Ok(key) => {
                let key = KeyPair::from_pem(&key)?;
                let certificate = match std::fs::read_to_string(&certificate_file) {
                    Ok(certificate) => certificate,
                    // The first start was cut short between the two files.
                    Err(e) if e.kind() == ErrorKind::NotFound => write_certificate(&key, &certificate_file)?,
                    Err(e) => return Err(fail(&certificate_file)(e)),
                };
                Ok(Self { key, certificate })
            }
            Err(e) if e.kind() == ErrorKind::NotFound => {
                let key = KeyPair::generate()?;
                write_new(&key_file, key.serialize_pem().as_bytes())?;
                let certificate = write_certificate(&key, &certificate_file)?;
                Ok(Self { key, certificate })
            }
            Err(e) => Err(fail(&key_file)(e)),
        }
    }

    /// The authority's certificate, PEM.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// A certificate for the server: valid for this computer's loopback addresses, `localhost` and `extra`.
    ///
    /// # Errors
    /// [`TlsError::Certificate`].
    pub fn server(&self, extra: &[String]) -> Result<Identified, TlsError> {
        let mut names = vec!["localhost".to_owned()];
        names.extend(extra.iter().filter(|n| *n != "localhost").cloned());
        let mut params = CertificateParams::new(names)?;
        for address in ["127.0.0.1", "::1"] {
            params.subject_alt_names.extend(address.parse::<IpAddr>().ok().map(SanType::IpAddress));
        }
        params.distinguished_name.push(DnType::CommonName, "vmdeck host");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(params, SERVER_LIFE)
    }

    /// A certificate for a client.
    ///
    /// # Errors
    /// [`TlsError::Certificate`]; [`TlsError::User`] for a name that cannot be one.
    pub fn client(&self, user: &str, role: Role, life: Duration) -> Result<Identified, TlsError> {
        if user.is_empty() || user.len() > 64 || user.starts_with("system:") || user.chars().any(char::is_control) {
            return Err(TlsError::User(user.to_owned()));
        }
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, user);
        params.distinguished_name.push(DnType::OrganizationName, role.group());
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(params, life)
    }

    fn sign(&self, mut params: CertificateParams, life: Duration) -> Result<Identified, TlsError> {
        set_validity(&mut params, life);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let issuer_params = authority_params();
        let certificate = params.signed_by(&key, &Issuer::from_params(&issuer_params, &self.key))?;
        Ok(Identified {
            certificate: certificate.pem(),
            certificate_der: certificate.der().to_vec(),
            key: key.serialize_pem(),
            key_der: key.serialize_der(),
        })
    }

    /// A kubeconfig with which stock clients reach `server` (`https://127.0.0.1:PORT`).
    ///
    /// # Errors
    /// [`TlsError::Tls`].
    pub fn kubeconfig(&self, server: &str, user: &str, credential: &Credential) -> Result<String, TlsError> {
        let data = |pem: &str| STANDARD.encode(pem);
        let shown = match credential {
            Credential::Token(token) => json!({"token": token}),
            Credential::Certificate(client) => json!({
                "client-certificate-data": data(&client.certificate), "client-key-data": data(&client.key)}),
        };
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": NAME, "cluster": {
                "server": server, "certificate-authority-data": data(&self.certificate)}}],
            "users": [{"name": user, "user": shown}],
            "contexts": [{"name": NAME, "context": {"cluster": NAME, "user": user, "namespace": "default"}}],
            "current-context": NAME,
        });
        serde_saphyr::to_string(&config).map_err(|e| TlsError::Tls(e.to_string()))
    }
}

fn authority_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, NAME);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn write_certificate(key: &KeyPair, path: &Path) -> Result<String, TlsError> {
    let mut params = authority_params();
    set_validity(&mut params, AUTHORITY_LIFE);
    let pem = params.self_signed(key)?.pem();
    write_new(path, pem.as_bytes())?;
    Ok(pem)
}

/// Valid from a little before now, for so long.
fn set_validity(params: &mut CertificateParams, life: Duration) {
    let epoch = date_time_ymd(1970, 1, 1);
    let now = Duration::from_secs(jiff::Timestamp::now().as_second().unsigned_abs());
    // Certificates know no later year than 9999.
    let longest = DAY.saturating_mul(365 * 7000);
    params.not_before = epoch + now.saturating_sub(CLOCKS);
    params.not_after = epoch + now.saturating_add(life).min(longest);
}

/// Writes a file that must not exist yet, for the owner only.
fn write_new(path: &Path, content: &[u8]) -> Result<(), TlsError> {
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(content)?;
        file.sync_all()
    };
    write().map_err(|cause| TlsError::File { path: path.to_owned(), cause })
}

/// Replaces a file at once, for the owner only.
///
/// # Errors
/// [`TlsError::File`].
pub fn write_private(path: &Path, content: &str) -> Result<(), TlsError> {
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".new");
    let fresh = PathBuf::from(fresh);
    let fail = |cause| TlsError::File { path: path.to_owned(), cause };
    match std::fs::remove_file(&fresh) {
        Err(e) if e.kind() != ErrorKind::NotFound => return Err(fail(e)),
        _ => {}
    }
    write_new(&fresh, content.as_bytes())?;
    std::fs::rename(&fresh, path).map_err(fail)
}
