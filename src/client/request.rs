//! Paths and raw requests. Everything goes through [`Requester`], so that every answer's errors and warnings are
//! treated the same.

use bytes::Bytes;
use futures::{Stream, StreamExt};
use http::{Method, Request, Response};
use http_body_util::BodyExt;
use kube::client::Body;
use serde_json::Value;
use tokio_util::codec::{FramedRead, LinesCodec};
use tokio_util::io::StreamReader;

use super::error::{ClientError, ErrorKind, printable};
use crate::types::kinds::KindInfo;

/// Accept header for Tables with whole objects.
pub(crate) const ACCEPT_TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
const ACCEPT_JSON: &str = "application/json";

/// Longest line of a watch that is accepted (an object is at most 3 MiB).
const MAX_LINE: usize = 16 << 20;

/// Narrows a list or watch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListOptions {
    /// `labelSelector`.
    pub labels: Option<String>,
    /// `fieldSelector`.
    pub fields: Option<String>,
}

/// Path of a collection. A namespaced kind without a namespace means all namespaces.
pub fn collection_path(kind: &KindInfo, namespace: Option<&str>) -> String {
    let root = if kind.group.is_empty() {
        format!("/api/{}", kind.version)
    } else {
        format!("/apis/{}/{}", kind.group, kind.version)
    };
    match namespace {
        Some(ns) if kind.namespaced() => format!("{root}/namespaces/{}/{}", escape(ns), kind.plural),
        _ => format!("{root}/{}", kind.plural),
    }
}

/// Path of one object.
pub fn object_path(kind: &KindInfo, namespace: Option<&str>, name: &str) -> String {
    format!("{}/{}", collection_path(kind, namespace), escape(name))
}

/// A path segment or query value with everything but unreserved characters percent-encoded.
pub(crate) fn escape(text: &str) -> String {
    use std::fmt::Write as _;
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    // A segment of dots would be a path operation for some proxies.
    if !out.is_empty() && out.bytes().all(|b| b == b'.') { out.replace('.', "%2E") } else { out }
}

/// `path?key=value&...` without the empty ones.
pub(crate) fn with_query(path: &str, pairs: &[(&str, Option<&str>)]) -> String {
    let query: Vec<String> = pairs.iter().filter_map(|(k, v)| v.map(|v| format!("{k}={}", escape(v)))).collect();
    if query.is_empty() { path.to_owned() } else { format!("{path}?{}", query.join("&")) }
}

/// A successful answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The object.
    pub object: Value,
    /// HTTP 201.
    pub created: bool,
    /// Texts of `Warning` headers, printable.
    pub warnings: Vec<String>,
}

/// Sends requests.
#[derive(Clone)]
pub struct Requester {
    client: kube::Client,
}

impl Requester {
    /// Over any client.
    pub fn new(client: kube::Client) -> Self {
        Self { client }
    }

    /// Over a unix socket.
    pub fn over_socket(socket: &std::path::Path) -> Self {
        Self::new(super::unix::client(socket, "default"))
    }

    /// One request with a JSON answer.
    pub async fn json(
        &self,
        method: Method,
        path: &str,
        accept: Option<&str>,
        body: Option<(&str, Vec<u8>)>,
    ) -> Result<Answer, ClientError> {
        let mut request =
            Request::builder().method(method).uri(path).header(http::header::ACCEPT, accept.unwrap_or(ACCEPT_JSON));
        let body = match body {
            Some((content_type, bytes)) => {
                request = request.header(http::header::CONTENT_TYPE, content_type);
                Body::from(bytes)
            }
            None => Body::empty(),
        };
        let request = request.body(body).map_err(bad_request)?;
        let response = self.client.send(request).await?;
        let created = response.status() == http::StatusCode::CREATED;
        let warnings = warnings(&response);
        let bytes = checked(response).await?.into_body().collect_bytes().await?;
        let object = if bytes.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(&bytes)
                .map_err(|e| ClientError::new(ErrorKind::Protocol, format!("the answer is not valid JSON: {e}")))?
        };
        Ok(Answer { object, created, warnings })
    }

    /// Opens a watch; each item is one event line, parsed.
    pub async fn watch(
        &self,
        path: &str,
        accept: Option<&str>,
    ) -> Result<impl Stream<Item = Result<Value, ClientError>> + Send + Unpin + use<>, ClientError> {
        let request = Request::get(path)
            .header(http::header::ACCEPT, accept.unwrap_or(ACCEPT_JSON))
            .header(http::header::ACCEPT_ENCODING, "identity")
            .body(Body::empty())
            .map_err(bad_request)?;
        let response = checked(self.client.send(request).await?).await?;
        let data = response.into_body().into_data_stream().map(|r| r.map_err(std::io::Error::other));
        let lines = FramedRead::new(StreamReader::new(data), LinesCodec::new_with_max_length(MAX_LINE));
        Ok(Box::pin(lines.map(|line| {
            match line {
                Ok(line) => serde_json::from_str(&line).map_err(|e| {
                    ClientError::new(ErrorKind::Protocol, format!("a watch event is not valid JSON: {e}"))
                }),
                Err(e) => Err(ClientError::new(
                    ErrorKind::Unreachable,
                    format!("the watch broke: {}", printable(&e.to_string())),
                )),
            }
        })))
    }

    /// A raw request whose answer's body the caller reads (plain GET of text, upgrades).
    pub async fn raw(&self, request: Request<Body>) -> Result<Response<Body>, ClientError> {
        Ok(self.client.send(request).await?)
    }
}

/// Turns an error answer into an error.
pub(crate) async fn checked(response: Response<Body>) -> Result<Response<Body>, ClientError> {
    let status = response.status();
    if !status.is_client_error() && !status.is_server_error() {
        return Ok(response);
    }
    let bytes = response.into_body().collect().await.map(|b| b.to_bytes()).unwrap_or_else(|_| Bytes::new());
    Err(ClientError::from_answer(status.as_u16(), &bytes))
}

fn bad_request(error: http::Error) -> ClientError {
    ClientError::new(ErrorKind::BadRequest, format!("no request can be made of this: {error}"))
}

fn warnings(response: &Response<Body>) -> Vec<String> {
    response
        .headers()
        .get_all(http::header::WARNING)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .filter_map(parse_warning)
        .collect()
}

/// `299 - "text"` (RFC 7234 section 5.5) to its text.
fn parse_warning(header: &str) -> Option<String> {
    let quoted = header.split_once('"')?.1;
    let mut text = String::new();
    let mut chars = quoted.chars();
    loop {
        match chars.next()? {
            '"' => break,
            '\\' => text.push(chars.next()?),
            c => text.push(c),
        }
    }
    Some(printable(&text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_escaped() {
        for (raw, want) in
            [("a-b.c", "a-b.c"), ("a/b", "a%2Fb"), ("..", "%2E%2E"), ("a=b,c", "a%3Db%2Cc"), ("ä", "%C3%A4")]
        {
            assert_eq!(escape(raw), want);
        }
    }

    #[test]
    fn query_leaves_out_absent_values() {
        assert_eq!(with_query("/x", &[("a", None), ("b", Some("1 2"))]), "/x?b=1%202");
        assert_eq!(with_query("/x", &[("a", None)]), "/x");
    }

    #[test]
    fn warning_header() {
        assert_eq!(
            parse_warning(r#"299 - "unknown field \"spec.zz\"""#).as_deref(),
            Some(r#"unknown field "spec.zz""#)
        );
        assert_eq!(parse_warning("299 - none"), None);
    }
}
