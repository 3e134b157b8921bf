//! `/upload/{token}`: the content of an image or disk that waits for it. The token, 192 random bits, is the credential:
//! it is good for this content alone, and only until that has come.
//!
//! `PUT` (or `POST`) brings the content. One that broke off can go on: `HEAD` tells how much is here in the header
//! `upload-offset`, and `PUT` with `content-range: bytes FIRST-LAST/TOTAL` brings the rest (`curl -C FIRST -T FILE`).

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use futures::TryStreamExt as _;
use futures::future::BoxFuture;
use serde_json::json;
use tokio_util::io::StreamReader;

use super::admit::drain;
use super::media::{self, Form, Format, Wanted};
use super::status::Failure;

/// Why an upload was refused or failed; the text is shown to the user.
#[derive(Debug, Clone, thiserror::Error)]
pub enum UploadError {
    /// No image waits for this token.
    #[error("no image or disk waits for this upload")]
    UnknownToken,
    /// Another one is under way.
    #[error("another upload for it is under way")]
    Busy,
    /// It goes on at another place than where the one before stopped.
    #[error("{received} bytes are here: send what follows them, or all of it")]
    Elsewhere {
        /// Bytes that are here.
        received: u64,
    },
    /// The content was refused (checksum, format, size).
    #[error("{0}")]
    Refused(String),
    /// It could not be stored.
    #[error("{0}")]
    Failed(String),
}

/// The body of an upload, or of the rest of one.
pub struct UploadPart {
    /// Bytes of the content before it.
    pub offset: u64,
    /// Length of the whole content, if known.
    pub total: Option<u64>,
    /// The bytes.
    pub body: Box<dyn tokio::io::AsyncRead + Send + Unpin>,
}

/// Takes the body of `PUT /upload/{token}`.
pub trait UploadSink: Send + Sync + 'static {
    /// Stores the body; returns when it is complete and checked.
    fn receive(&self, token: &str, part: UploadPart) -> BoxFuture<'_, Result<(), UploadError>>;

    /// Bytes that have come under the token.
    fn received(&self, token: &str) -> Result<u64, UploadError>;
}

/// Bytes that are here.
const OFFSET: &str = "upload-offset";

/// Takes an upload; answers when the content is complete and checked.
///
/// # Errors
/// 404 for a token that nothing waits for, 409 while another upload of it is under way, 416 for one that does not go on
/// where the last one stopped, 400 for content that is refused, 500 when it cannot be stored.
pub async fn receive(
    sink: Option<&dyn UploadSink>,
    token: &str,
    method: &Method,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response<Body>, Failure> {
    let sink = match sink {
        Some(sink) if matches!(*method, Method::PUT | Method::POST | Method::HEAD) => sink,
        Some(_) => return Err(Failure::method_not_allowed()),
        None => return Err(refusal(UploadError::UnknownToken)),
    };
    let received = match sink.received(token) {
        Ok(received) => received,
        Err(error) => {
            drain(body).await;
            return Err(refusal(error));
        }
    };
    if *method == Method::HEAD {
        return Ok(told(Response::new(Body::empty()), received));
    }
    let (offset, total) = place(headers).ok_or_else(|| {
        Failure::bad_request("content-range must be bytes FIRST-LAST/TOTAL, to the end of the content".to_owned())
    })?;
    let reader = StreamReader::new(body.into_data_stream().map_err(std::io::Error::other));
    match sink.receive(token, UploadPart { offset, total, body: Box::new(reader) }).await {
        Ok(()) => {
            let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"});
            let wanted = Wanted { format: Format::Json, form: Form::Whole, gzip: false };
            Ok(media::object_response(StatusCode::OK, &status, wanted))
        }
        Err(error @ UploadError::Elsewhere { received }) => Ok(told(refusal(error).response(), received)),
        Err(error) => Err(refusal(error)),
    }
}

fn refusal(error: UploadError) -> Failure {
    let failure = |code, reason| Failure::new(code, reason, error.to_string());
    match &error {
        UploadError::UnknownToken => failure(StatusCode::NOT_FOUND, "NotFound"),
        UploadError::Busy => failure(StatusCode::CONFLICT, "Conflict"),
        UploadError::Elsewhere { .. } => failure(StatusCode::RANGE_NOT_SATISFIABLE, "BadRequest"),
        UploadError::Refused(text) => Failure::bad_request(text.clone()),
        UploadError::Failed(text) => Failure::internal(text.clone()),
    }
}

fn told(mut response: Response<Body>, received: u64) -> Response<Body> {
    response.headers_mut().insert(OFFSET, HeaderValue::from(received));
    response
}

/// Where the body begins in the content, and how long that is; `None` for a range that is not understood.
fn place(headers: &HeaderMap) -> Option<(u64, Option<u64>)> {
    let number = |name: header::HeaderName| headers.get(name)?.to_str().ok()?.parse().ok();
    let length: Option<u64> = number(header::CONTENT_LENGTH);
    let Some(range) = headers.get(header::CONTENT_RANGE) else { return Some((0, length)) };
    let (range, total) = range.to_str().ok()?.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last, total): (u64, u64, u64) = (first.parse().ok()?, last.parse().ok()?, total.parse().ok()?);
    let whole = last.checked_add(1) == Some(total) && first <= last;
    let fits = length.is_none_or(|length| first.checked_add(length) == Some(total));
    (whole && fits).then_some((first, Some(total)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_of_a_body() {
        let told = |length: Option<&str>, range: Option<&str>| {
            let mut headers = HeaderMap::new();
            for (name, value) in [(header::CONTENT_LENGTH, length), (header::CONTENT_RANGE, range)] {
                headers.extend(value.map(|v| (name, v.parse().unwrap())));
            }
            place(&headers)
        };
        assert_eq!(told(None, None), Some((0, None)));
        assert_eq!(told(Some("9"), None), Some((0, Some(9))));
        assert_eq!(told(Some("4"), Some("bytes 5-8/9")), Some((5, Some(9))));
        assert_eq!(told(None, Some("bytes 0-8/9")), Some((0, Some(9))));
        for wrong in
            ["bytes 5-7/9", "bytes 8-5/6", "bytes */9", "5-8/9", "bytes 5-18446744073709551615/9", "bytes a-b/c"]
        {
            assert_eq!(told(None, Some(wrong)), None, "{wrong}");
        }
        assert_eq!(told(Some("3"), Some("bytes 5-8/9")), None, "length and range differ");
    }
}
