//! A web server of the test's own on loopback, with or without TLS: it notes what it is asked, and may hang up in the
//! middle of an answer.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderMap, Request, Response, StatusCode, header};
use bytes::Bytes;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;

/// What was asked: `GET /path`, and the headers.
#[derive(Debug, Clone)]
pub struct Asked {
    pub line: String,
    pub headers: HeaderMap,
}

impl Asked {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or("")
    }
}

type Answer = dyn Fn(&Request<Bytes>, usize) -> Response<Body> + Send + Sync;

pub struct Server {
    /// `http://127.0.0.1:PORT` or `https://localhost:PORT`.
    pub url: String,
    /// Host and port.
    pub address: String,
    /// The authority that signed its certificate, PEM.
    pub ca: Option<String>,
    asked: Arc<Mutex<Vec<Asked>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    /// Answers each request with `answer(request, how many of this line came before)`.
    pub async fn http(answer: impl Fn(&Request<Bytes>, usize) -> Response<Body> + Send + Sync + 'static) -> Self {
        Self::start(Arc::new(answer), None).await
    }

    /// The same with TLS, by an authority of its own.
    pub async fn https(answer: impl Fn(&Request<Bytes>, usize) -> Response<Body> + Send + Sync + 'static) -> Self {
        let (ca, config) = authority();
        Self::start(Arc::new(answer), Some((ca, config))).await
    }

    async fn start(answer: Arc<Answer>, tls: Option<(String, rustls::ServerConfig)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (ca, acceptor) = match tls {
            Some((ca, config)) => (Some(ca), Some(tokio_rustls::TlsAcceptor::from(Arc::new(config)))),
            None => (None, None),
        };
        let address = if ca.is_some() { format!("localhost:{port}") } else { format!("127.0.0.1:{port}") };
        let url = format!("{}://{address}", if ca.is_some() { "https" } else { "http" });
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let log = asked.clone();
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (answer, log, acceptor) = (answer.clone(), log.clone(), acceptor.clone());
                tokio::spawn(async move {
                    match acceptor {
                        None => connection(stream, answer, log).await,
                        Some(acceptor) => {
                            if let Ok(stream) = acceptor.accept(stream).await {
                                connection(stream, answer, log).await;
                            }
                        }
                    }
                });
            }
        });
        Self { url, address, ca, asked, task }
    }

    /// What was asked so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().clone()
    }

    /// How often something was asked whose line contains `part`.
    pub fn count(&self, part: &str) -> usize {
        self.asked().iter().filter(|asked| asked.line.contains(part)).count()
    }
}

async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    answer: Arc<Answer>,
    log: Arc<Mutex<Vec<Asked>>>,
) {
    let service = hyper::service::service_fn(move |request: Request<hyper::body::Incoming>| {
        let (answer, log) = (answer.clone(), log.clone());
        async move {
            let (parts, body) = request.into_parts();
            let body = http_body_util::BodyExt::collect(body).await.map(|b| b.to_bytes()).unwrap_or_default();
            let line = format!("{} {}", parts.method, parts.uri.path());
            let before = {
                let mut log = log.lock();
                let before = log.iter().filter(|asked| asked.line == line).count();
                log.push(Asked { line, headers: parts.headers.clone() });
                before
            };
            Ok::<_, std::convert::Infallible>(answer(&Request::from_parts(parts, body), before))
        }
    });
    // Answers that hang up are errors here.
    let _ = Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
}

fn authority() -> (String, rustls::ServerConfig) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, "the test's authority");
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let ca = params.self_signed(&ca_key).unwrap();
    let issuer = rcgen::Issuer::new(params, ca_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let own = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config =
        rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(vec![own.der().clone()], key).unwrap();
    (ca.pem(), config)
}

pub fn status(code: u16) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::from_u16(code).unwrap();
    response
}

/// All of `content`, or what the request's range asks for.
pub fn file(request: &Request<Bytes>, content: &[u8]) -> Response<Body> {
    part(request, content, usize::MAX)
}

/// As [`file`], but the connection breaks after `most` bytes.
pub fn part(request: &Request<Bytes>, content: &[u8], most: usize) -> Response<Body> {
    let range = request.headers().get(header::RANGE).and_then(|v| v.to_str().ok());
    let first: usize = range.and_then(|r| r.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()).unwrap_or(0);
    let rest = &content[first.min(content.len())..];
    let mut response = Response::builder()
        .header(header::ACCEPT_RANGES, "bytes")
        .header(header::ETAG, "\"v1\"")
        .header(header::CONTENT_LENGTH, rest.len());
    if first > 0 {
        let told = format!("bytes {first}-{}/{}", content.len() - 1, content.len());
        response = response.status(206).header(header::CONTENT_RANGE, told);
    }
    let body = if rest.len() <= most {
        Body::from(rest.to_vec())
    } else {
        let chunks = [Ok(Bytes::copy_from_slice(&rest[..most])), Err(std::io::Error::other("hangs up"))];
        // The bytes are on their way before the connection breaks.
        let stream = futures::stream::unfold(chunks.into_iter(), |mut chunks| async move {
            let next = chunks.next()?;
            if next.is_err() {
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
            Some((next, chunks))
        });
        Body::from_stream(stream)
    };
    response.body(body).unwrap()
}
