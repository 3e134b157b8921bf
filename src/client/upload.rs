//! Sending an image's content to the URL that its object names.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use http::{Request, header};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper_util::rt::TokioIo;
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

impl Session {
    /// Sends `file` by PUT to `url` (`status.imageUploadURLs`). `http://localhost/...` goes through the local host's
    /// socket, anything else over the network. Returns when the server has taken and checked it.
    pub async fn upload(&self, url: &str, file: &Path, progress: ProgressHook) -> Result<(), ClientError> {
        let opened = tokio::fs::File::open(file).await;
        let file = opened.map_err(|e| cannot_read(file, &e))?;
        let total = file.metadata().await.map_err(|e| ClientError::new(ErrorKind::BadRequest, e.to_string()))?.len();
        let uri: http::Uri = url
            .parse()
            .map_err(|_| ClientError::new(ErrorKind::Protocol, format!("\"{}\" is no upload URL", printable(url))))?;
        let mut sent = 0;
        let blocks = ReaderStream::with_capacity(file, 256 * 1024).map(move |block| {
            let block = block?;
            sent += block.len() as u64;
            progress(UploadProgress { sent, total });
            Ok::<Bytes, std::io::Error>(block)
        });
        match &self.engine {
            Engine::Local { socket } if uri.host() == Some("localhost") => {
                let path = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
                let request = Request::put(path)
                    .header(header::HOST, "localhost")
                    .header(header::CONTENT_LENGTH, total)
                    .header(header::CONTENT_TYPE, "application/octet-stream")
                    .body(BodyExt::boxed_unsync(StreamBody::new(blocks.map(|b| b.map(Frame::data)))))
                    .map_err(|e| ClientError::new(ErrorKind::BadRequest, e.to_string()))?;
                let stream = tokio::net::UnixStream::connect(socket).await.map_err(|e| broken(&e))?;
                let (mut sender, connection) =
                    hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| broken(&e))?;
                // Its error shows in the answer, which fails then.
                let driver = tokio::spawn(connection);
                let response = sender.send_request(request).await.map_err(|e| broken(&e))?;
                let status = response.status();
                let body = response.into_body().collect().await.map_err(|e| broken(&e))?.to_bytes();
                driver.abort();
                refused(status, &body)
            }
            _ => {
                let response = reqwest::Client::new()
                    .put(url)
                    .header(header::CONTENT_LENGTH, total)
                    .body(reqwest::Body::wrap_stream(blocks))
                    .send()
                    .await
                    .map_err(|e| broken(&e))?;
                let status = response.status();
                let body = response.bytes().await.map_err(|e| broken(&e))?;
                refused(status, &body)
            }
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
