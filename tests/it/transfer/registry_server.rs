//! A small container registry on loopback: manifests and blobs from memory, with the ways of asking who one is.

use std::collections::HashMap;
use std::process::{Command, Stdio};
use std::sync::Arc;

use axum::body::Body;
use axum::http::{Request, Response, header};
use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::server::{Server, file, part, status};

/// How a registry finds out who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    Anybody,
    /// A token that everybody gets.
    Token,
    /// A token for `anna` with the password `secret`.
    TokenForAnna,
    /// The same in each request.
    Basic,
}

/// `anna:secret`
const ANNA: &str = "Basic YW5uYTpzZWNyZXQ=";

#[derive(Default)]
struct Content {
    manifests: HashMap<String, Vec<u8>>,
    blobs: HashMap<String, Vec<u8>>,
    /// Each answer with a blob breaks off after so many bytes.
    break_after: Option<usize>,
    /// Tokens are good for so many requests.
    token_uses: Option<usize>,
    used: usize,
}

pub struct Registry {
    pub server: Server,
    content: Arc<Mutex<Content>>,
}

/// `sha256:HEX`, by the system's own program.
pub fn digest(content: &[u8]) -> String {
    use std::io::Write;
    let mut child = Command::new("sha256sum").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(content).unwrap();
    let output = child.wait_with_output().unwrap();
    format!("sha256:{}", &String::from_utf8(output.stdout).unwrap()[..64])
}

pub fn descriptor(content: &[u8]) -> Value {
    json!({"mediaType": "application/octet-stream", "digest": digest(content), "size": content.len()})
}

pub fn manifest(layers: &[Vec<u8>]) -> Vec<u8> {
    let layers: Vec<Value> = layers.iter().map(|layer| descriptor(layer)).collect();
    json!({"schemaVersion": 2, "config": descriptor(b"{}"), "layers": layers}).to_string().into_bytes()
}

impl Registry {
    pub async fn start(access: Access) -> Self {
        let content: Arc<Mutex<Content>> = Arc::default();
        let shared = content.clone();
        Self { server: Server::http(move |request, _| answer(&shared, access, request)).await, content }
    }

    pub async fn start_with_tls(access: Access) -> Self {
        let content: Arc<Mutex<Content>> = Arc::default();
        let shared = content.clone();
        Self { server: Server::https(move |request, _| answer(&shared, access, request)).await, content }
    }

    /// Name of an image here.
    pub fn name(&self, rest: &str) -> String {
        format!("{}/{rest}", self.server.address)
    }

    pub fn put_manifest(&self, repository: &str, tag: &str, text: &[u8]) {
        let mut content = self.content.lock();
        content.manifests.insert(format!("{repository}/{tag}"), text.to_vec());
        content.manifests.insert(format!("{repository}/{}", digest(text)), text.to_vec());
    }

    pub fn put_blob(&self, blob: &[u8]) {
        self.content.lock().blobs.insert(digest(blob), blob.to_vec());
    }

    /// An image of these layers, the lowest first.
    pub fn push(&self, repository: &str, tag: &str, layers: &[Vec<u8>]) -> String {
        let text = manifest(layers);
        layers.iter().for_each(|layer| self.put_blob(layer));
        self.put_manifest(repository, tag, &text);
        digest(&text)
    }

    /// The blob of this digest has another content.
    pub fn damage(&self, digest: &str) {
        let mut content = self.content.lock();
        let blob = content.blobs.get_mut(digest).unwrap();
        let last = blob.len() - 1;
        blob[last] ^= 1;
    }

    pub fn break_after(&self, bytes: usize) {
        self.content.lock().break_after = Some(bytes);
    }

    pub fn token_uses(&self, uses: usize) {
        self.content.lock().token_uses = Some(uses);
    }
}

fn answer(content: &Mutex<Content>, access: Access, request: &Request<Bytes>) -> Response<Body> {
    let mut content = content.lock();
    let header = |name: header::HeaderName| request.headers().get(name).and_then(|v| v.to_str().ok()).unwrap_or("");
    let authorization = header(header::AUTHORIZATION);
    let path = request.uri().path();
    if path == "/token" {
        let asks = request.uri().query().unwrap_or("");
        if access == Access::TokenForAnna && authorization != ANNA {
            return status(401);
        }
        if !asks.contains("service=registry") || !asks.contains("scope=repository%3A") {
            return status(400);
        }
        content.used = 0;
        return Response::new(Body::from(json!({"token": "good"}).to_string()));
    }
    let known = match access {
        Access::Anybody => true,
        Access::Token | Access::TokenForAnna => {
            content.used += 1;
            authorization == "Bearer good" && content.token_uses.is_none_or(|uses| content.used <= uses)
        }
        Access::Basic => authorization == ANNA,
    };
    if !known {
        let host = header(header::HOST);
        let wants = match access {
            Access::Basic => "Basic realm=\"registry\"".to_owned(),
            _ => format!("Bearer realm=\"http://{host}/token\",service=\"registry\",scope=\"repository:x:pull\""),
        };
        return Response::builder().status(401).header(header::WWW_AUTHENTICATE, wants).body(Body::empty()).unwrap();
    }
    let Some(rest) = path.strip_prefix("/v2/") else { return status(404) };
    if let Some((repository, version)) = rest.split_once("/manifests/") {
        let accepts = header(header::ACCEPT);
        assert!(
            accepts.contains("oci.image.index") && accepts.contains("docker.distribution.manifest.v2"),
            "{accepts}"
        );
        return match content.manifests.get(&format!("{repository}/{version}")) {
            Some(text) => file(request, text),
            None => status(404),
        };
    }
    let blob = rest.split_once("/blobs/").and_then(|(_, digest)| content.blobs.get(digest));
    match blob {
        Some(blob) => part(request, blob, content.break_after.unwrap_or(usize::MAX)),
        None => status(404),
    }
}
