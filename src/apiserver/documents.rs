//! Answers that are documents with a tag: discovery and OpenAPI.

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode, header};

use super::request::Query;
use super::status::Failure;
use super::{discovery, media, openapi};

/// The whole `Accept` header.
pub fn accept(headers: &HeaderMap) -> String {
    let values: Vec<&str> = headers.get_all(header::ACCEPT).into_iter().filter_map(|v| v.to_str().ok()).collect();
    values.join(",")
}

/// Sets a header, unless its value cannot be one.
pub fn set(response: &mut Response<Body>, name: header::HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

/// Whether the client has the document with this tag already.
fn has(headers: &HeaderMap, etag: &str) -> bool {
    let known = headers.get(header::IF_NONE_MATCH).and_then(|v| v.to_str().ok()).unwrap_or("");
    known.split(',').map(|tag| tag.trim().trim_start_matches("W/")).any(|tag| tag == etag || tag == "*")
}

/// A document with its tag, or 304 for those who have it.
pub fn document_response(document: discovery::Document, headers: &HeaderMap) -> Response<Body> {
    let known = has(headers, &document.etag);
    let mut response = Response::new(if known { Body::empty() } else { Body::from(document.body) });
    if known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    set(&mut response, header::CONTENT_TYPE, &document.content_type);
    set(&mut response, header::ETAG, &document.etag);
    set(&mut response, header::VARY, "Accept");
    response
}

/// An OpenAPI document, plain or compressed, with its tag.
///
/// # Errors
/// 404 for a document that is not served, 406 for a form that is not.
pub async fn openapi_document(
    path: Vec<String>,
    query: &Query,
    headers: &HeaderMap,
) -> Result<Response<Body>, Failure> {
    let (hash, accept) = (query.get("hash").map(str::to_owned), accept(headers));
    // The first time, documents are built.
    let answer = tokio::task::spawn_blocking(move || {
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        openapi::answer(&path, hash.as_deref(), &accept)
    });
    let (document, immutable) = match answer.await.map_err(Failure::internal)? {
        None => return Err(Failure::no_such_path()),
        Some(openapi::Answer::NotAcceptable) => return Err(Failure::not_acceptable()),
        Some(openapi::Answer::Moved(address)) => {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
            set(&mut response, header::LOCATION, &address);
            return Ok(response);
        }
        Some(openapi::Answer::Found { document, immutable }) => (document, immutable),
    };
    let etag = document.etag();
    let mut response = Response::new(Body::empty());
    if has(headers, &etag) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    } else if media::takes_gzip(headers) {
        set(&mut response, header::CONTENT_ENCODING, "gzip");
        *response.body_mut() = Body::from(document.gzip.clone());
    } else {
        *response.body_mut() = Body::from(document.plain());
    }
    set(&mut response, header::CONTENT_TYPE, document.content_type);
    set(&mut response, header::ETAG, &etag);
    set(&mut response, header::VARY, "Accept, Accept-Encoding");
    if immutable {
        set(&mut response, header::CACHE_CONTROL, "public, immutable, max-age=31536000");
        let far = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24 * 365);
        set(&mut response, header::EXPIRES, &far.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string());
    }
    Ok(response)
}
