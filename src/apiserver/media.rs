//! Media types: what a client wants back, and what it sends.

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use serde_json::Value;

use super::decode::{self, Decoded};
use super::status::Failure;

/// Bodies above this are compressed for those who ask.
const COMPRESS_FROM: usize = 128 << 10;

/// Outer encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `application/json`.
    Json,
    /// `application/yaml`.
    Yaml,
}

/// What is told of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// All of it.
    Whole,
    /// A `Table`.
    Table,
    /// `PartialObjectMetadata`.
    Metadata,
}

/// What the client takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// Encoding.
    pub format: Format,
    /// Extent.
    pub form: Form,
    /// Takes gzip.
    pub gzip: bool,
}

/// One clause of an Accept header: media type and parameters.
pub fn clauses(headers: &HeaderMap) -> Vec<(String, Vec<(String, String)>)> {
    let mut out = Vec::new();
    for value in headers.get_all(header::ACCEPT) {
        for clause in value.to_str().unwrap_or("").split(',') {
            let mut words = clause.split(';').map(str::trim);
            let Some(kind) = words.next().filter(|w| !w.is_empty()) else { continue };
            let parameters = words
                .filter_map(|w| w.split_once('='))
                .filter(|(k, _)| *k != "q")
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
                .collect();
            out.push((kind.to_ascii_lowercase(), parameters));
        }
    }
    out
}

/// Whether the client takes gzip.
pub fn takes_gzip(headers: &HeaderMap) -> bool {
    headers
        .get(header::ACCEPT_ENCODING)
        .and_then(|v| v.to_str().ok())
        .is_some_and(|v| v.split(',').any(|e| e.trim().split(';').next() == Some("gzip")))
}

/// The first clause of the Accept header that can be served. Without a header: JSON.
///
/// # Errors
/// 406 when none can.
pub fn wanted(headers: &HeaderMap) -> Result<Wanted, Failure> {
    let gzip = takes_gzip(headers);
    let clauses = clauses(headers);
    if clauses.is_empty() {
        return Ok(Wanted { format: Format::Json, form: Form::Whole, gzip });
    }
    clauses
        .iter()
        .find_map(|(kind, parameters)| {
            let format = match kind.as_str() {
                "application/json" | "*/*" | "application/*" => Format::Json,
                "application/yaml" => Format::Yaml,
                _ => return None,
            };
            Some(Wanted { format, form: form(parameters)?, gzip })
        })
        .ok_or_else(Failure::not_acceptable)
}

fn form(parameters: &[(String, String)]) -> Option<Form> {
    let get = |name: &str| parameters.iter().find(|(k, _)| k == name).map(|(_, v)| v.as_str());
    let meta = get("g").is_none_or(|g| g == "meta.k8s.io");
    let version = get("v").is_none_or(|v| matches!(v, "v1" | "v1beta1"));
    match get("as") {
        None => Some(Form::Whole),
        Some("Table") if meta && version => Some(Form::Table),
        Some("PartialObjectMetadata" | "PartialObjectMetadataList") if meta && version => Some(Form::Metadata),
        Some(_) => None,
    }
}

/// The Content-Type without parameters; empty when there is none.
pub fn content_type(headers: &HeaderMap) -> String {
    let value = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("");
    value.split(';').next().unwrap_or("").trim().to_ascii_lowercase()
}

/// Decodes a body that is an object.
///
/// # Errors
/// 415 for a media type that is not known, 400 for a body that is not of it.
pub fn object(headers: &HeaderMap, body: &Bytes) -> Result<Decoded, Failure> {
    match content_type(headers).as_str() {
        "" | "application/json" | "*/*" => decode::json(body),
        "application/yaml" | "application/x-yaml" | "text/yaml" => decode::yaml(body),
        "application/vnd.kubernetes.protobuf" => decode::protobuf(body),
        other => Err(Failure::unsupported_media_type(
            other,
            &["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"],
        )),
    }
}

/// An answer with a body that is encoded JSON already.
pub fn json_bytes(code: StatusCode, body: Bytes, wanted: Wanted) -> Response<Body> {
    match wanted.format {
        Format::Json => finish(code, "application/json", body, wanted.gzip),
        Format::Yaml => match serde_json::from_slice(&body) {
            Ok(value) => object_response(code, &value, wanted),
            Err(error) => Failure::internal(error).response(),
        },
    }
}

/// An answer with an object.
pub fn object_response(code: StatusCode, value: &Value, wanted: Wanted) -> Response<Body> {
    match wanted.format {
        Format::Json => finish(code, "application/json", value.to_string().into(), wanted.gzip),
        Format::Yaml => match serde_saphyr::to_string(value) {
            Ok(text) => finish(code, "application/yaml", text.into(), wanted.gzip),
            Err(error) => Failure::internal(error).response(),
        },
    }
}

/// An answer whose body is known whole; compressed when that is worth it.
pub fn finish(code: StatusCode, kind: &'static str, body: Bytes, gzip: bool) -> Response<Body> {
    let compressed = gzip && body.len() > COMPRESS_FROM;
    let body = if compressed { super::body::gzip_whole(&body) } else { body };
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = code;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    if compressed {
        mark_gzip(&mut response);
    }
    response
}

/// Sets the headers of a compressed answer.
pub fn mark_gzip(response: &mut Response<Body>) {
    response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accept(value: &str) -> Result<(Format, Form), u16> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, value.parse().unwrap());
        wanted(&headers).map(|w| (w.format, w.form)).map_err(|f| f.code().as_u16())
    }

    #[test]
    fn the_first_clause_that_fits_wins() {
        use Form::{Metadata, Table, Whole};
        use Format::{Json, Yaml};
        for (header, want) in [
            ("*/*", Ok((Json, Whole))),
            ("application/vnd.kubernetes.protobuf,application/json", Ok((Json, Whole))),
            ("application/json;as=Table;v=v1;g=meta.k8s.io,application/json", Ok((Json, Table))),
            ("application/json;as=Table;v=v9;g=meta.k8s.io", Err(406)),
            ("application/json;as=Table;v=v9;g=meta.k8s.io,application/json", Ok((Json, Whole))),
            ("application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io", Ok((Json, Metadata))),
            ("application/yaml", Ok((Yaml, Whole))),
            ("application/json; q=0.9", Ok((Json, Whole))),
            ("text/csv", Err(406)),
        ] {
            assert_eq!(accept(header), want, "{header}");
        }
    }
}
