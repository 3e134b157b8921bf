//! The service as a whole: requests in, answers out, over the router and over a connection.

use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, header};
use futures::{SinkExt as _, StreamExt as _};
use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::GracefulShutdown;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Message, Role};
use tower::ServiceExt as _;

use super::*;

const CM: &str = "/api/v1/namespaces/default/configmaps";
const VM: &str = "/apis/virtualization.deckhouse.io/v1alpha2/namespaces/default/virtualmachines";
const SUB: &str = "/apis/subresources.virtualization.deckhouse.io/v1alpha2/namespaces/default/virtualmachines";
const MERGE: &str = "application/merge-patch+json";

/// A server over a fresh store.
struct Server {
    router: Router,
    shutdown: CancellationToken,
    _dir: tempfile::TempDir,
}

impl Server {
    fn new() -> Self {
        Self::with(Options::default())
    }

    fn with(options: Options) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), crate::store::Options::default()).unwrap();
        let shutdown = options.shutdown.clone();
        Self { router: router(store, options), shutdown, _dir: dir }
    }

    async fn raw(&self, request: Request<Body>) -> Response<Body> {
        self.router.clone().oneshot(request).await.unwrap()
    }

    async fn call(&self, method: &str, path: &str, kind: &str, body: Value) -> (u16, Value) {
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        let request =
            Request::builder().method(method).uri(path).header(header::CONTENT_TYPE, kind).body(body).unwrap();
        let response = self.raw(request).await;
        let code = response.status().as_u16();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (code, serde_json::from_slice(&bytes).unwrap())
    }

    async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        self.call("POST", path, "application/json", body).await
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        self.call("GET", path, "application/json", Value::Null).await
    }

    async fn merge(&self, path: &str, body: Value) -> (u16, Value) {
        self.call("PATCH", path, MERGE, body).await
    }

    async fn delete(&self, path: &str) -> (u16, Value) {
        self.call("DELETE", path, "application/json", Value::Null).await
    }

    /// The first `count` events of a watch.
    async fn events(&self, path: &str, count: usize) -> Vec<Value> {
        let mut body = self.raw(Request::get(path).body(Body::empty()).unwrap()).await.into_body().into_data_stream();
        let mut text = Vec::new();
        let lines = |text: &[u8]| text.iter().filter(|b| **b == b'\n').count();
        while lines(&text) < count {
            match tokio::time::timeout(Duration::from_secs(10), body.next()).await.unwrap() {
                Some(piece) => text.extend_from_slice(&piece.unwrap()),
                None => break,
            }
        }
        let lines = text.split(|b| *b == b'\n').filter(|l| !l.is_empty());
        lines.take(count).map(|line| serde_json::from_slice(line).unwrap()).collect()
    }
}

fn map(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"a": "b"}})
}

fn machine(name: &str) -> Value {
    json!({"apiVersion": "virtualization.deckhouse.io/v1alpha2", "kind": "VirtualMachine", "metadata": {"name": name},
        "spec": {"virtualMachineClassName": "generic", "cpu": {"cores": 1}, "memory": {"size": "1Gi"},
            "blockDeviceRefs": [{"kind": "VirtualDisk", "name": "d"}]}})
}

#[tokio::test]
async fn a_life() {
    let server = Server::new();
    let (code, list) = server.get(CM).await;
    assert_eq!((code, &list["items"]), (200, &json!([])));
    let start = list["metadata"]["resourceVersion"].as_str().unwrap().to_owned();

    let (code, made) = server.post(CM, map("a")).await;
    assert_eq!(code, 201, "{made}");
    assert_eq!(server.post(CM, map("a")).await.0, 409);
    let path = format!("{CM}/a");
    let finalizer = json!({"metadata": {"finalizers": ["a.example/b"]}});
    assert_eq!(server.merge(&path, finalizer).await.0, 200);
    let (code, going) = server.delete(&path).await;
    assert_eq!((code, going["metadata"]["deletionTimestamp"].is_string()), (200, true));
    assert_eq!(server.merge(&path, json!({"metadata": {"finalizers": null}})).await.0, 200);
    assert_eq!(server.get(&path).await.0, 404);

    let events = server.events(&format!("{CM}?watch=true&resourceVersion={start}"), 4).await;
    let words: Vec<&str> = events.iter().map(|e| e["type"].as_str().unwrap()).collect();
    assert_eq!(words, ["ADDED", "MODIFIED", "MODIFIED", "DELETED"]);
    let versions: Vec<u64> =
        events.iter().map(|e| e["object"]["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap()).collect();
    assert!(versions.is_sorted_by(|a, b| a < b), "{versions:?}");
}

#[tokio::test]
async fn machines_have_defaults_a_generation_and_a_status_apart() {
    let server = Server::new();
    let (code, made) = server.post(VM, machine("m")).await;
    assert_eq!(code, 201, "{made}");
    assert_eq!(made["spec"]["runPolicy"], "AlwaysOnUnlessStoppedManually");
    let path = format!("{VM}/m");
    let (_, after) = server.merge(&path, json!({"spec": {"cpu": {"cores": 2}}, "status": {"phase": "Running"}})).await;
    assert_eq!((&after["metadata"]["generation"], after.get("status")), (&json!(2), None));
    let (_, after) = server.merge(&format!("{path}/status"), json!({"status": {"phase": "Running"}})).await;
    assert_eq!((&after["metadata"]["generation"], &after["status"]["phase"]), (&json!(2), &json!("Running")));
    let (code, refused) = server.merge(&path, json!({"spec": {"cpu": {"cores": "many"}}})).await;
    assert_eq!(
        (code, &refused["reason"], &refused["details"]["kind"]),
        (422, &json!("Invalid"), &json!("VirtualMachine"))
    );
}

#[tokio::test]
async fn dependents_go_with_their_owner() {
    let server = Server::new();
    let (_, owner) = server.post(CM, map("owner")).await;
    let mut dependent = map("dependent");
    dependent["metadata"]["ownerReferences"] =
        json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner["metadata"]["uid"]}]);
    let (_, made) = server.post(CM, dependent).await;
    let version = made["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    assert_eq!(server.delete(&format!("{CM}/owner")).await.0, 200);
    let events = server.events(&format!("{CM}?watch=true&resourceVersion={version}"), 2).await;
    let gone: Vec<&Value> = events.iter().map(|e| &e["object"]["metadata"]["name"]).collect();
    assert_eq!(gone, [&json!("owner"), &json!("dependent")]);
}

#[tokio::test]
async fn shutdown_ends_watches() {
    let server = Server::new();
    let body = server.raw(Request::get(format!("{CM}?watch=true")).body(Body::empty()).unwrap()).await.into_body();
    server.shutdown.cancel();
    let rest = tokio::time::timeout(Duration::from_secs(5), body.collect()).await.unwrap().unwrap();
    assert!(rest.to_bytes().is_empty());
}

#[tokio::test]
async fn a_panic_or_a_wrong_token_is_an_answer() {
    let server = Server::new();
    let request = Request::get(CM).header(header::AUTHORIZATION, "Bearer x").body(Body::empty()).unwrap();
    assert_eq!(server.raw(request).await.status(), 401);
    let request = Request::get(CM).header(header::ACCEPT, "text/csv").body(Body::empty()).unwrap();
    let response = server.raw(request).await;
    assert_eq!(response.status(), 406);
    assert!(response.headers().contains_key("audit-id"));
}

/// Sends back what it is sent; the end of the line is the end of the stream.
struct Echo;

impl StreamDialer for Echo {
    fn dial(&self, _: &str, kind: StreamKind) -> BoxFuture<'_, Result<Box<dyn DuplexStream>, StreamError>> {
        Box::pin(async move {
            let StreamKind::Console { history } = kind else {
                return Err(StreamError::NotReady("the machine is not running".to_owned()));
            };
            let (near, mut far) = tokio::io::duplex(64);
            tokio::spawn(async move {
                far.write_all(&vec![b'h'; history]).await.unwrap();
                let mut buffer = [0; 64];
                loop {
                    let count = far.read(&mut buffer).await.unwrap();
                    if count == 0 || buffer[..count].contains(&b'q') {
                        return;
                    }
                    far.write_all(&buffer[..count]).await.unwrap();
                }
            });
            Ok(Box::new(near) as Box<dyn DuplexStream>)
        })
    }

    fn freeze(&self, _: &str, timeout: Duration) -> BoxFuture<'_, Result<(), StreamError>> {
        // As a guest that only ever takes a minute.
        let done =
            if timeout == Duration::from_secs(60) { Ok(()) } else { Err(StreamError::Failed("no agent".into())) };
        Box::pin(async { done })
    }

    fn unfreeze(&self, _: &str) -> BoxFuture<'_, Result<(), StreamError>> {
        Box::pin(async { Ok(()) })
    }
}

#[tokio::test]
async fn guests_are_frozen_and_thawed_by_put() {
    let server = Server::with(Options { dialer: Some(Arc::new(Echo)), ..Options::default() });
    assert_eq!(server.post(VM, machine("m")).await.0, 201);
    let put = |path: &str, body: &'static str| Request::put(format!("{SUB}/{path}")).body(Body::from(body)).unwrap();
    for (path, body, code) in [
        ("none/freeze", "", 404),
        ("m/freeze", r#"{"unfreezeTimeout":"1m"}"#, 200),
        ("m/freeze", r#"{"unfreezeTimeout":"soon"}"#, 400),
        ("m/freeze", r#"{"unfreezeTimeout":"0s"}"#, 500),
        ("m/unfreeze", "", 200),
        ("m/thaw", "", 404),
    ] {
        assert_eq!(server.raw(put(path, body)).await.status(), code, "{path} {body}");
    }
    let answer = server.raw(put("m/freeze", r#"{"unfreezeTimeout":"0s"}"#)).await;
    let text = answer.into_body().collect().await.unwrap().to_bytes();
    assert!(String::from_utf8_lossy(&text).contains("no agent"), "{text:?}");
    assert_eq!(server.get(&format!("{SUB}/m/freeze")).await.0, 405);
}

#[tokio::test]
async fn streams_are_websockets() {
    let server = Server::with(Options { dialer: Some(Arc::new(Echo)), ..Options::default() });
    assert_eq!(server.get(&format!("{SUB}/none/console")).await.0, 404);
    assert_eq!(server.post(VM, machine("m")).await.0, 201);
    let (code, refused) = server.get(&format!("{SUB}/m/console")).await;
    assert_eq!((code, &refused["message"]), (400, &json!("Upgrade request required")));
    assert_eq!(server.get(&format!("{SUB}/m/console?probe=true")).await.1["holder"], "");

    let (near, far) = tokio::io::duplex(4096);
    let graceful = GracefulShutdown::new();
    let peer = Peer { identity: Some(Identity::owner()), source: "test".to_owned() };
    tokio::spawn(serve::connection(far, server.router.clone(), peer, &graceful));
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(near)).await.unwrap();
    tokio::spawn(connection.with_upgrades());
    let upgrade = |path: String| {
        Request::get(path)
            .header(header::HOST, "localhost")
            .header(header::CONNECTION, "Upgrade")
            .header(header::UPGRADE, "websocket")
            .header(header::SEC_WEBSOCKET_VERSION, "13")
            .header(header::SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ==")
            .header(header::SEC_WEBSOCKET_PROTOCOL, "plain.virtualization.deckhouse.io")
            .body(Body::empty())
            .unwrap()
    };
    let refused = sender.send_request(upgrade(format!("{SUB}/m/vnc"))).await.unwrap();
    assert_eq!(refused.status(), 400);
    refused.into_body().collect().await.unwrap();

    sender.ready().await.unwrap();
    let granted = sender.send_request(upgrade(format!("{SUB}/m/console?history=3"))).await.unwrap();
    assert_eq!(granted.status(), 101);
    assert_eq!(granted.headers()[header::SEC_WEBSOCKET_PROTOCOL], "plain.virtualization.deckhouse.io");
    let upgraded = hyper::upgrade::on(granted).await.unwrap();
    let mut socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Client, None).await;
    let mut seen = Vec::new();
    socket.send(Message::Binary(Bytes::from_static(b"ping"))).await.unwrap();
    while seen.len() < 7 {
        seen.extend_from_slice(&socket.next().await.unwrap().unwrap().into_data());
    }
    assert_eq!(seen, b"hhhping");
    let told = server.get(&format!("{SUB}/m/console?probe=true")).await.1;
    assert_eq!((&told["holder"], &told["sessions"]), (&json!("system:admin"), &json!(1)));
    socket.send(Message::Binary(Bytes::from_static(b"q"))).await.unwrap();
    let end = socket.next().await.unwrap().unwrap();
    assert!(matches!(&end, Message::Close(Some(frame)) if u16::from(frame.code) == 1000), "{end:?}");
}

#[tokio::test]
async fn requests_from_outside_are_audited_and_need_rights() {
    let log = tempfile::tempdir().unwrap();
    let path = log.path().join("audit.log");
    let audit = Some(Arc::new(Audit::open(&path).unwrap()));
    let server = Server::with(Options { audit, ..Options::default() });
    let viewer = Identity::new("anna", vec!["vmdeck:view".to_owned()]);
    for (identity, method, uri, want) in [
        (None, "GET", "/version", 200),
        (None, "GET", CM, 401),
        (Some(viewer.clone()), "GET", CM, 200),
        (Some(viewer.clone()), "DELETE", CM, 403),
        (Some(viewer), "GET", "/api/v1/secrets", 403),
        (Some(Identity::owner()), "GET", "/api/v1/secrets", 200),
    ] {
        let peer = Peer { identity, source: "test".to_owned() };
        let request = Request::builder().method(method).uri(uri).extension(peer).body(Body::empty()).unwrap();
        assert_eq!(server.raw(request).await.status(), want, "{method} {uri}");
    }
    // From inside, so not audited.
    assert_eq!(server.get(CM).await.0, 200);
    let lines = loop {
        let text = std::fs::read_to_string(&path).unwrap();
        if text.lines().count() >= 6 {
            break text;
        }
        tokio::task::yield_now().await;
    };
    let told: Vec<Value> = lines.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let codes: Vec<&Value> = told.iter().map(|t| &t["responseStatus"]["code"]).collect();
    assert_eq!(codes, [200, 401, 200, 403, 403, 200]);
    assert_eq!((&told[3]["verb"], &told[3]["user"]["username"]), (&json!("deletecollection"), &json!("anna")));
}

/// Takes what is not empty, for one token.
struct Sink;

impl UploadSink for Sink {
    fn receive(&self, token: &str, mut part: UploadPart) -> BoxFuture<'_, Result<(), UploadError>> {
        assert_eq!(token, "t");
        Box::pin(async move {
            let mut content = String::new();
            part.body.read_to_string(&mut content).await.map_err(|e| UploadError::Failed(e.to_string()))?;
            match (content.as_str(), part.offset, part.total) {
                ("content", 0, Some(7)) | ("tent", 3, Some(7)) => Ok(()),
                (_, 1.., _) => Err(UploadError::Elsewhere { received: 3 }),
                _ => Err(UploadError::Refused("not the content that was announced".to_owned())),
            }
        })
    }

    fn received(&self, token: &str) -> Result<u64, UploadError> {
        match token {
            "t" => Ok(3),
            "busy" => Err(UploadError::Busy),
            _ => Err(UploadError::UnknownToken),
        }
    }
}

#[tokio::test]
async fn uploads_reach_the_sink() {
    let server = Server::with(Options { uploads: Some(Arc::new(Sink)), ..Options::default() });
    let viewer = identity::Identity::new("anna", vec!["vmdeck:view".to_owned()]);
    let callers = [None, Some(viewer), Some(Identity::owner())];
    for (method, token, content, range, want, offset) in [
        ("PUT", "t", "content", None, 200, None),
        ("POST", "t", "content", None, 200, None),
        ("PUT", "t", "tent", Some("bytes 3-6/7"), 200, None),
        ("PUT", "t", "ent", Some("bytes 4-6/7"), 416, Some("3")),
        ("PUT", "t", "ten", Some("bytes 3-5/7"), 400, None),
        ("PUT", "t", "other", None, 400, None),
        ("PUT", "x", "content", None, 404, None),
        ("PUT", "busy", "content", None, 409, None),
        ("HEAD", "t", "", None, 200, Some("3")),
        ("HEAD", "x", "", None, 404, None),
        ("GET", "t", "", None, 405, None),
        ("DELETE", "t", "", None, 405, None),
    ] {
        // The token is the credential, whoever else one is.
        for identity in callers.clone() {
            let peer = Peer { identity, source: "test".to_owned() };
            let mut request = Request::builder()
                .method(method)
                .uri(format!("/upload/{token}"))
                .extension(peer)
                .header(header::CONTENT_LENGTH, content.len());
            if let Some(range) = range {
                request = request.header(header::CONTENT_RANGE, range);
            }
            let response = server.raw(request.body(Body::from(content)).unwrap()).await;
            assert_eq!(response.status(), want, "{method} {token} {content}");
            let told = response.headers().get("upload-offset").map(|v| v.to_str().unwrap());
            assert_eq!(told, offset, "{method} {token} {content}");
        }
    }
    let wrong = Request::put("/upload/t").header(header::AUTHORIZATION, "Bearer made.up").body(Body::empty()).unwrap();
    assert_eq!(server.raw(wrong).await.status(), 401, "a wrong token for the API is not passed over");
    for path in ["/upload", "/upload/t/more", "/upload/"] {
        let peer = Peer { identity: None, source: "test".to_owned() };
        let request = Request::put(path).extension(peer).body(Body::empty()).unwrap();
        assert_eq!(server.raw(request).await.status(), 401, "{path}");
    }
}

#[tokio::test]
async fn a_refused_write_reaches_a_client_that_sends_late() {
    let server = Server::new();
    let (mut near, far) = tokio::io::duplex(1024);
    let graceful = GracefulShutdown::new();
    let viewer = identity::Identity::new("anna", vec!["vmdeck:view".to_owned()]);
    let peer = Peer { identity: Some(viewer), source: "test".to_owned() };
    tokio::spawn(serve::connection(far, server.router.clone(), peer, &graceful));
    let body = vec![b' '; 20_000];
    let head = format!(
        "POST {CM} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    // Twice: the connection is still good afterwards.
    for _ in 0..2 {
        near.write_all(head.as_bytes()).await.unwrap();
        // Time enough for an answer that does not wait for the body.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        near.write_all(&body).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\"code\":403}") {
            assert!(near.read_buf(&mut answer).await.unwrap() > 0, "{}", String::from_utf8_lossy(&answer));
        }
        assert!(answer.starts_with(b"HTTP/1.1 403"), "{}", String::from_utf8_lossy(&answer));
    }
}
