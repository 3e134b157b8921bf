//! Sending an image's content to the URL that its object names.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use http::{Request, header};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, StreamBody};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio_util::io::ReaderStream;

use super::error::{ClientError, ErrorKind, printable};
use super::{Engine, Session};

/// How far an upload is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UploadProgress {
    /// Bytes sent.
    pub sent: u64,
    /// Bytes of the file.
    pub total: u64,
}

/// Told after every block that was handed to the connection.
pub type ProgressHook = Arc<dyn Fn(UploadProgress) + Send + Sync>;

/// Attempts in a row that bring nothing.
const ATTEMPTS: u32 = 5;

/// Pause before the second attempt; doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// Header that says how much is there.
const OFFSET: &str = "upload-offset";

/// A request's body.
type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// How an address is reached.
enum Way {
    /// Through the host's socket.
    Socket(PathBuf),
    /// Over the network.
    Network(reqwest::Client),
}

impl Session {
    /// Sends `file` by PUT to `url` (`status.imageUploadURLs`). `http://localhost/...` goes through the local host's
    /// socket, anything else over the network. A connection that breaks is made again, and the upload goes on where it
    /// stopped if the server can tell where that is. Returns when the server has taken and checked it.
    pub async fn upload(&self, url: &str, file: &Path, progress: ProgressHook) -> Result<(), ClientError> {
        let total = tokio::fs::metadata(file).await.map_err(|e| cannot_read(file, &e))?.len();
        let uri: http::Uri = url
            .parse()
            .map_err(|_| ClientError::new(ErrorKind::Protocol, format!("\"{}\" is no upload URL", printable(url))))?;
        let way = match &self.engine {
            Engine::Local { socket } if uri.host() == Some("localhost") => Way::Socket(socket.clone()),
            _ => Way::Network(self.network()?),
        };
        let (mut offset, mut fruitless) = (0, 0);
        loop {
            let body = content(file, offset, total, progress.clone()).await.map_err(|e| cannot_read(file, &e))?;
            let error = match way.ask(put(&uri, offset, total, body)?).await {
                Ok((status, _, body)) => return refused(status, &body),
                Err(error) => error,
            };
            // The server may not have noticed yet that the connection is gone.
            loop {
                fruitless += 1;
                if fruitless >= ATTEMPTS {
                    return Err(error);
                }
                tokio::time::sleep(FIRST_PAUSE * 2_u32.pow(fruitless - 1)).await;
                if let Some(there) = way.received(&uri).await {
                    if there > offset {
                        fruitless = 0;
                    }
                    offset = there.min(total);
                    break;
                }
            }
        }
    }

    fn network(&self) -> Result<reqwest::Client, ClientError> {
        let wrong = |e: reqwest::Error| ClientError::new(ErrorKind::Protocol, printable(&super::error::chain(&e)));
        let mut certificates = Vec::new();
        for der in &self.authorities {
            certificates.push(reqwest::Certificate::from_der(der).map_err(wrong)?);
        }
        reqwest::Client::builder().tls_certs_merge(certificates).build().map_err(wrong)
    }
}

/// The file from `offset` on.
async fn content(file: &Path, offset: u64, total: u64, progress: ProgressHook) -> std::io::Result<Body> {
    let mut file = tokio::fs::File::open(file).await?;
    file.seek(std::io::SeekFrom::Start(offset)).await?;
    let mut sent = offset;
    // What is sent was announced, also when the file grows meanwhile.
    let blocks = ReaderStream::with_capacity(file.take(total - offset), 256 * 1024).map(move |block| {
        let block = block?;
        sent += block.len() as u64;
        progress(UploadProgress { sent, total });
        Ok(Frame::data(block))
    });
    Ok(BodyExt::boxed_unsync(StreamBody::new(blocks)))
}

fn put(uri: &http::Uri, offset: u64, total: u64, body: Body) -> Result<Request<Body>, ClientError> {
    let mut request = Request::put(uri.clone())
        .header(header::CONTENT_LENGTH, total - offset)
        .header(header::CONTENT_TYPE, "application/octet-stream");
    if offset > 0 && offset < total {
        request = request.header(header::CONTENT_RANGE, format!("bytes {offset}-{}/{total}", total - 1));
    }
    request.body(body).map_err(|e| ClientError::new(ErrorKind::BadRequest, e.to_string()))
}

impl Way {
    /// One request: status, headers and body of the answer.
    async fn ask(&self, request: Request<Body>) -> Result<(http::StatusCode, http::HeaderMap, Bytes), ClientError> {
        let (mut parts, body) = request.into_parts();
        match self {
            Self::Socket(socket) => {
                let path = parts.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
                parts.uri = path.parse().map_err(|_| ClientError::new(ErrorKind::Protocol, "no path".to_owned()))?;
                parts.headers.insert(header::HOST, header::HeaderValue::from_static("localhost"));
                let stream = tokio::net::UnixStream::connect(socket).await.map_err(|e| broken(&e))?;
                let (mut sender, connection) =
                    hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| broken(&e))?;
                // Its error shows in the answer, which fails then.
                let driver = tokio::spawn(connection);
                let response = sender.send_request(Request::from_parts(parts, body)).await.map_err(|e| broken(&e))?;
                let (head, body) = response.into_parts();
                let body = body.collect().await.map_err(|e| broken(&e))?.to_bytes();
                driver.abort();
                Ok((head.status, head.headers, body))
            }
            Self::Network(client) => {
                // Sync is asked for, and a body that is sent once needs it only by name.
                let blocks = futures::stream::unfold(body, |mut body| async move {
                    let frame = body.frame().await?;
                    Some((frame.map(|frame| frame.into_data().unwrap_or_default()), body))
                });
                let response = client
                    .request(parts.method, parts.uri.to_string())
                    .headers(parts.headers)
                    .body(reqwest::Body::wrap_stream(blocks))
                    .send()
                    .await
                    .map_err(|e| broken(&e))?;
                let (status, headers) = (response.status(), response.headers().clone());
                Ok((status, headers, response.bytes().await.map_err(|e| broken(&e))?))
            }
        }
    }

    /// How much of the upload is there; `None` if that cannot be known now.
    async fn received(&self, uri: &http::Uri) -> Option<u64> {
        let request = Request::head(uri.clone()).body(BodyExt::boxed_unsync(
            http_body_util::Empty::new().map_err(|never: std::convert::Infallible| match never {}),
        ));
        let (status, headers, _) = self.ask(request.ok()?).await.ok()?;
        match status.as_u16() {
            200..300 => Some(headers.get(OFFSET)?.to_str().ok()?.parse().ok()?),
            // Servers that know no such question begin anew.
            405 | 501 => Some(0),
            _ => None,
        }
    }
}

fn refused(status: http::StatusCode, body: &[u8]) -> Result<(), ClientError> {
    if status.is_success() { Ok(()) } else { Err(ClientError::from_answer(status.as_u16(), body)) }
}

fn cannot_read(file: &Path, error: &std::io::Error) -> ClientError {
    ClientError::new(ErrorKind::BadRequest, format!("cannot read {}: {error}", file.display()))
}

fn broken(error: &(dyn std::error::Error + 'static)) -> ClientError {
    let text = printable(&super::error::chain(error));
    ClientError::new(ErrorKind::Unreachable, format!("the upload broke: {text}"))
}
