//! OpenAPI documents: the v3 index with one document per group version, and the v2 document in JSON and protobuf.
//!
//! Documents are built when first asked for, from the same schemas that validation uses, and kept compressed.

mod build;
mod v2;

use std::io::{Read as _, Write as _};
use std::sync::LazyLock;

use axum::body::Bytes;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::discovery::hex;

/// What kubectl asks for when it wants v2 in protobuf; `@` is not allowed in a content type, so the answer has a dot.
const V2_PROTOBUF: [&str; 2] = [
    "application/com.github.proto-openapi.spec.v2@v1.0+protobuf",
    "application/com.github.proto-openapi.spec.v2.v1.0+protobuf",
];
const JSON: &str = "application/json";

/// A document, kept compressed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packed {
    /// `Content-Type`.
    pub content_type: &'static str,
    /// Hash of the content in hexadecimal: the `hash` of its address, and in quotes its `ETag`.
    pub hash: String,
    /// The content, compressed with gzip.
    pub gzip: Bytes,
}

impl Packed {
    fn new(content_type: &'static str, content: &[u8]) -> Self {
        let hash = hex(&Sha256::digest(content)[..32]).to_ascii_uppercase();
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        // Writing into memory cannot fail; an empty document would show at once.
        let gzip = encoder.write_all(content).and_then(|()| encoder.finish()).unwrap_or_default();
        Self { content_type, hash, gzip: Bytes::from(gzip) }
    }

    /// `ETag` header.
    pub fn etag(&self) -> String {
        format!("\"{}\"", self.hash)
    }

    /// The content for clients that do not take gzip.
    pub fn plain(&self) -> Bytes {
        let mut out = Vec::new();
        match GzDecoder::new(&self.gzip[..]).read_to_end(&mut out) {
            Ok(_) => Bytes::from(out),
            Err(_) => Bytes::new(),
        }
    }
}

/// How a request is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// With a document; `immutable` when its address names its hash, so that clients may keep it
    /// (`Cache-Control: public, immutable` and a far `Expires`).
    Found {
        /// The document.
        document: Packed,
        /// The address never shows anything else.
        immutable: bool,
    },
    /// 301 to this address, which has the right hash.
    Moved(String),
    /// 406: none of the wanted forms is there.
    NotAcceptable,
}

/// Answers `/openapi/PATH`. `hash` is the query's hash, `accept` the `Accept` header (empty: anything). `None`: 404.
///
/// The first call builds documents and takes some tens of milliseconds: call it where blocking is allowed.
pub fn answer(path: &[&str], hash: Option<&str>, accept: &str) -> Option<Answer> {
    let json = accepts_json(accept);
    let found = |document: &Packed| Answer::Found { document: document.clone(), immutable: false };
    match path {
        ["v2"] => {
            if accept.split(',').map(media).any(|m| V2_PROTOBUF.contains(&m)) {
                return Some(found(&V2_PB));
            }
            Some(if json { found(&V2_JSON) } else { Answer::NotAcceptable })
        }
        ["v3"] if json => Some(found(&INDEX)),
        ["v3", rest @ ..] => {
            let name = rest.join("/");
            let (_, document) = GROUPS.iter().find(|(path, _)| *path == name)?;
            Some(match hash {
                _ if !json => Answer::NotAcceptable,
                None => found(document),
                Some(hash) if hash == document.hash => Answer::Found { document: document.clone(), immutable: true },
                Some(_) => Answer::Moved(address(&name, document)),
            })
        }
        _ => None,
    }
}

fn media(clause: &str) -> &str {
    clause.split(';').next().unwrap_or_default().trim()
}

fn accepts_json(accept: &str) -> bool {
    accept.trim().is_empty() || accept.split(',').map(media).any(|m| matches!(m, JSON | "application/*" | "*/*"))
}

fn address(path: &str, document: &Packed) -> String {
    format!("/openapi/v3/{path}?hash={}", document.hash)
}

/// `api/v1`, `apis/GROUP/VERSION` with their documents.
static GROUPS: LazyLock<Vec<(String, Packed)>> = LazyLock::new(|| {
    let entries = build::entries();
    let mut paths: Vec<String> = Vec::new();
    for path in entries.iter().map(build::Entry::root) {
        if !paths.contains(&path) {
            paths.push(path);
        }
    }
    paths
        .into_iter()
        .map(|path| {
            let document = build::v3(entries.iter().filter(|e| e.root() == path));
            let packed = Packed::new(JSON, document.to_string().as_bytes());
            (path, packed)
        })
        .collect()
});

static INDEX: LazyLock<Packed> = LazyLock::new(|| {
    let paths: Map<String, Value> = GROUPS
        .iter()
        .map(|(path, document)| (path.clone(), json!({"serverRelativeURL": address(path, document)})))
        .collect();
    Packed::new(JSON, json!({"paths": paths}).to_string().as_bytes())
});

static V2_JSON: LazyLock<Packed> =
    LazyLock::new(|| Packed::new(JSON, v2::document(&build::entries()).to_string().as_bytes()));

static V2_PB: LazyLock<Packed> =
    LazyLock::new(|| Packed::new(V2_PROTOBUF[1], &v2::protobuf(&v2::document(&build::entries()))));

#[cfg(test)]
mod tests;
