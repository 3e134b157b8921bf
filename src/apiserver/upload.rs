//! `PUT /upload/{token}`: the content of an image or disk that waits for it.

use axum::body::Body;
use axum::http::{HeaderMap, Method, Response, StatusCode, header};
use futures::TryStreamExt as _;
use serde_json::json;
use tokio_util::io::StreamReader;

use super::media::{self, Form, Format, Wanted};
use super::status::Failure;
use super::{UploadError, UploadSink};

/// Takes an upload; answers when the content is complete and checked.
///
/// # Errors
/// 404 for a token that nothing waits for, 400 for content that is refused, 500 when it cannot be stored.
pub async fn receive(
    sink: Option<&dyn UploadSink>,
    token: &str,
    method: &Method,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response<Body>, Failure> {
    if !matches!(*method, Method::PUT | Method::POST) {
        return Err(Failure::method_not_allowed());
    }
    let unknown = || Failure::new(StatusCode::NOT_FOUND, "NotFound", UploadError::UnknownToken.to_string());
    let sink = sink.ok_or_else(unknown)?;
    let length = headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()).and_then(|v| v.parse().ok());
    let reader = StreamReader::new(body.into_data_stream().map_err(std::io::Error::other));
    match sink.receive(token, length, Box::new(reader)).await {
        Ok(()) => {
            let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"});
            let wanted = Wanted { format: Format::Json, form: Form::Whole, gzip: false };
            Ok(media::object_response(StatusCode::OK, &status, wanted))
        }
        Err(UploadError::UnknownToken) => Err(unknown()),
        Err(UploadError::Refused(text)) => Err(Failure::bad_request(text)),
        Err(UploadError::Failed(text)) => Err(Failure::internal(text)),
    }
}
