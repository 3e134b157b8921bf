//! What one client may cost the others, and what the audit log tells of them.

use std::time::Duration;

use axum::http::{Request, header};
use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::GracefulShutdown;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tower::ServiceExt as _;

use super::identity::Identity;
use super::*;

const CM: &str = "/api/v1/namespaces/default/configmaps";

/// A server over a fresh store that keeps an audit log.
struct Server {
    router: Router,
    /// Connections end with it.
    graceful: GracefulShutdown,
    dir: tempfile::TempDir,
}

impl Server {
    fn new(dialer: Option<Arc<dyn StreamDialer>>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), crate::store::Options::default()).unwrap();
        let audit = Some(Arc::new(Audit::open(&dir.path().join("audit.log")).unwrap()));
        Self {
            router: router(store, Options { dialer, audit, ..Options::default() }),
            graceful: GracefulShutdown::new(),
            dir,
        }
    }

    /// A request of a user from outside.
    async fn ask(&self, user: &str, method: &str, uri: &str, body: impl Into<Body>) -> Response<Body> {
        let peer = Peer { identity: Some(named(user)), source: "127.0.0.1".to_owned() };
        let request = Request::builder().method(method).uri(uri).extension(peer);
        let request = request.header(header::CONTENT_TYPE, "application/json").body(body.into()).unwrap();
        self.router.clone().oneshot(request).await.unwrap()
    }

    async fn code(&self, method: &str, uri: &str, body: impl Into<Body>) -> (u16, Value) {
        let response = self.ask("anna", method, uri, body).await;
        let code = response.status().as_u16();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (code, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    /// A connection of the owner.
    fn connect(&self) -> tokio::io::DuplexStream {
        let (near, far) = tokio::io::duplex(64 << 10);
        let peer = Peer { identity: Some(Identity::owner()), source: "uid:0".to_owned() };
        tokio::spawn(serve::connection(far, self.router.clone(), peer, &self.graceful));
        near
    }

    /// The audit log, when it has `count` lines.
    async fn audited(&self, count: usize) -> Vec<Value> {
        let path = self.dir.path().join("audit.log");
        let wait = async {
            loop {
                let text = std::fs::read_to_string(&path).unwrap();
                if text.lines().count() >= count && text.ends_with('\n') {
                    return text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), wait).await.unwrap()
    }
}

fn named(user: &str) -> Identity {
    Identity { user: user.to_owned(), ..Identity::owner() }
}

fn map(name: &str, data: &Value) -> String {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}).to_string()
}

#[tokio::test]
async fn sizes_have_ends_with_the_codes_of_kubernetes() {
    let server = Server::new(None);
    let large = "x".repeat(1 << 20);
    assert_eq!(server.code("POST", CM, map("most", &json!({"a": large}))).await.0, 201);
    let (code, refused) = server.code("POST", CM, map("more", &json!({"a": large, "b": "y"}))).await;
    assert_eq!((code, &refused["reason"]), (422, &json!("Invalid")), "{refused}");
    let (code, refused) = server.code("POST", CM, " ".repeat((3 << 20) + 1)).await;
    assert_eq!((code, &refused["reason"]), (413, &json!("RequestEntityTooLarge")));
    let owners: Vec<Value> = (0..20_000)
        .map(|n| json!({"apiVersion": "v1", "kind": "ConfigMap", "name": format!("owner-of-a-long-name-{n}"), "uid": format!("{n}")}))
        .collect();
    let heavy =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "heavy", "ownerReferences": owners}});
    let (code, refused) = server.code("POST", CM, heavy.to_string()).await;
    assert_eq!((code, &refused["message"]), (413, &json!("Request entity too large: limit is 1572864")));
    let (code, refused) = server.code("POST", &format!("{CM}?dryRun=All"), heavy.to_string()).await;
    assert_eq!((code, &refused["reason"]), (413, &json!("RequestEntityTooLarge")));
}

#[tokio::test]
async fn odd_paths_and_names_do_nothing() {
    let server = Server::new(None);
    let long = "n".repeat(8 << 10);
    let labels: serde_json::Map<String, Value> = (0..100_000).map(|n| (format!("l{n}"), json!("v"))).collect();
    let labelled = json!({"metadata": {"name": "labels", "labels": labels}}).to_string();
    for (method, uri, body, codes) in [
        ("GET", "/api/v1/namespaces/a%2Fb/configmaps".to_owned(), String::new(), &[400][..]),
        ("POST", "/api/v1/namespaces/a%2Fb/configmaps".to_owned(), map("a", &json!({})), &[400]),
        ("GET", "/api/v1/namespaces/../configmaps".to_owned(), String::new(), &[400]),
        ("GET", "/api/v1/namespaces/%2e%2e/configmaps/%2e".to_owned(), String::new(), &[400]),
        ("DELETE", format!("{CM}/.."), String::new(), &[400]),
        ("GET", format!("{CM}/a%00b"), String::new(), &[400]),
        ("GET", format!("{CM}/a%"), String::new(), &[400]),
        ("GET", format!("{CM}/%ff"), String::new(), &[400]),
        ("GET", format!("{CM}/{long}"), String::new(), &[404]),
        ("GET", format!("{CM}/' OR 1=1 --").replace(' ', "%20"), String::new(), &[404]),
        ("PATCH", format!("{CM}/{long}"), "{}".to_owned(), &[415]),
        ("PUT", format!("{CM}/{long}"), map(&long, &json!({})), &[404]),
        ("POST", CM.to_owned(), map(&long, &json!({})), &[422]),
        ("POST", CM.to_owned(), map("../../etc/passwd", &json!({})), &[422]),
        ("POST", CM.to_owned(), map("a\u{0}b", &json!({})), &[422]),
        ("POST", CM.to_owned(), map("a", &json!({"../x/..": "y"})), &[422]),
        ("POST", CM.to_owned(), labelled, &[413]),
        ("POST", format!("/api/v1/namespaces/{long}/configmaps"), map("a", &json!({})), &[404]),
        ("POST", "/api/v1/namespaces".to_owned(), json!({"metadata": {"name": ".."}}).to_string(), &[422]),
        ("GET", format!("{CM}?labelSelector={long}%3D%3D%3D"), String::new(), &[400]),
        ("GET", format!("{CM}?continue={long}"), String::new(), &[400, 410]),
    ] {
        let (code, told) = server.code(method, &uri, body).await;
        let shown: String = uri.chars().take(80).collect();
        assert!(codes.contains(&code), "{method} {shown}: {code} {}", told["message"]);
    }
    let (_, list) = server.code("GET", "/api/v1/configmaps", "").await;
    assert_eq!(list["items"], json!([]));
    let (_, list) = server.code("GET", "/api/v1/namespaces", "").await;
    assert_eq!(list["items"].as_array().unwrap().len(), core_kinds::namespace::PERMANENT.len());
}

#[tokio::test]
async fn heads_have_an_end() {
    let server = Server::new(None);
    for (head, code) in [
        (format!("GET {CM} HTTP/1.1\r\nHost: x\r\nX-Long: {}\r\n\r\n", "y".repeat(40 << 10)), "200"),
        (format!("GET {CM} HTTP/1.1\r\nHost: x\r\nX-Long: {}\r\n\r\n", "y".repeat(70 << 10)), "431"),
        (format!("GET {CM} HTTP/1.1\r\nHost: x\r\n{}\r\n", "X-More: y\r\n".repeat(1000)), "431"),
        (format!("GET {CM}?x={} HTTP/1.1\r\nHost: x\r\n\r\n", "y".repeat(70 << 10)), "4"),
    ] {
        let (mut reader, mut writer) = tokio::io::split(server.connect());
        // It may hang up before it has read all.
        tokio::spawn(async move { writer.write_all(head.as_bytes()).await });
        let mut status = vec![0; 12];
        tokio::time::timeout(Duration::from_secs(30), reader.read_exact(&mut status)).await.unwrap().unwrap();
        let status = String::from_utf8(status).unwrap();
        assert!(status.starts_with(&format!("HTTP/1.1 {code}")), "{status}");
    }
}

#[tokio::test]
async fn a_thousand_idle_connections_and_as_many_slow_ones_hinder_nobody() {
    let server = Server::new(None);
    let mut open = Vec::new();
    for n in 0..2000 {
        let mut connection = server.connect();
        if n % 2 == 0 {
            connection.write_all(b"GET /api/v1/pods HTTP/1.1\r\nHost:").await.unwrap();
        }
        open.push(connection);
    }
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(server.connect())).await.unwrap();
    tokio::spawn(connection);
    let request = Request::get(CM).header(header::HOST, "x").body(Body::empty()).unwrap();
    let response = tokio::time::timeout(Duration::from_secs(30), sender.send_request(request)).await.unwrap().unwrap();
    assert_eq!(response.status(), 200);
}

#[tokio::test]
async fn watches_of_one_user_have_an_end_and_leave_room_for_others() {
    let server = Server::new(None);
    let watch = format!("{CM}?watch=true");
    let mut open = Vec::new();
    loop {
        let response = server.ask("anna", "GET", &watch, "").await;
        if response.status() != 200 {
            assert_eq!(
                (response.status().as_u16(), &response.headers()[header::RETRY_AFTER]),
                (429, &HeaderValue::from(1))
            );
            break;
        }
        open.push(response);
    }
    assert_eq!(open.len(), 2000);
    assert_eq!(server.ask("bert", "GET", &watch, "").await.status(), 200);
    assert_eq!(server.ask("anna", "GET", CM, "").await.status(), 200);
    open.pop();
    assert_eq!(server.ask("anna", "GET", &watch, "").await.status(), 200);
}

#[tokio::test]
async fn requests_under_way_have_an_end() {
    let server = Server::new(None);
    assert_eq!(server.ask("anna", "GET", CM, "").await.status(), 200);
    // Their bodies do not come.
    let mut waiting = futures::stream::FuturesUnordered::new();
    for _ in 0..200 {
        waiting.push(server.ask(
            "anna",
            "POST",
            CM,
            Body::from_stream(futures::stream::pending::<Result<Bytes, std::io::Error>>()),
        ));
    }
    assert!(futures::poll!(futures::StreamExt::next(&mut waiting)).is_pending());
    let refused = server.ask("anna", "POST", &format!("{CM}?watch=true"), map("a", &json!({}))).await;
    assert_eq!((refused.status().as_u16(), &refused.headers()[header::RETRY_AFTER]), (429, &HeaderValue::from(1)));
    assert_eq!(server.ask("anna", "GET", CM, "").await.status(), 200);
    drop(waiting);
    assert_eq!(server.ask("anna", "POST", CM, map("a", &json!({}))).await.status(), 201);
}

/// Ends the line when it is told to.
struct Line(parking_lot::Mutex<Option<tokio::io::DuplexStream>>);

impl StreamDialer for Line {
    fn dial(&self, _: &str, _: StreamKind) -> BoxFuture<'_, Result<Box<dyn DuplexStream>, StreamError>> {
        let line = self.0.lock().take().ok_or_else(|| StreamError::NotReady("taken".to_owned()));
        Box::pin(async move { line.map(|line| Box::new(line) as Box<dyn DuplexStream>) })
    }

    fn freeze(&self, _: &str, _: Duration) -> BoxFuture<'_, Result<(), StreamError>> {
        Box::pin(async { Ok(()) })
    }

    fn unfreeze(&self, _: &str) -> BoxFuture<'_, Result<(), StreamError>> {
        Box::pin(async { Ok(()) })
    }
}

#[tokio::test]
async fn the_audit_log_tells_names_outcomes_and_the_end_of_what_goes_on() {
    let (near, far) = tokio::io::duplex(64);
    let server = Server::new(Some(Arc::new(Line(parking_lot::Mutex::new(Some(far))))));
    let secrets = "/api/v1/namespaces/default/secrets";
    let secret = json!({"metadata": {"generateName": "s-"}, "stringData": {"p": "hush-hush"}});
    let created = server.ask("anna", "POST", secrets, secret.to_string()).await;
    let id = created.headers()["audit-id"].to_str().unwrap().to_owned();
    let created: Value = serde_json::from_slice(&created.into_body().collect().await.unwrap().to_bytes()).unwrap();
    server.code("POST", CM, map("BAD", &json!({}))).await;
    server.code("GET", &format!("{CM}?watch=true&timeoutSeconds=never"), "").await;
    drop(server.ask("anna", "GET", &format!("{CM}?watch=true"), "").await);
    let machine = json!({"metadata": {"name": "m"}, "spec": {"virtualMachineClassName": "generic", "cpu": {"cores": 1},
        "memory": {"size": "1Gi"}, "blockDeviceRefs": [{"kind": "VirtualDisk", "name": "d"}]}});
    let machines = "/apis/virtualization.deckhouse.io/v1alpha2/namespaces/default/virtualmachines";
    let (code, told) = server.code("POST", machines, machine.to_string()).await;
    assert_eq!(code, 201, "{told}");

    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(server.connect())).await.unwrap();
    tokio::spawn(connection.with_upgrades());
    let console =
        "/apis/subresources.virtualization.deckhouse.io/v1alpha2/namespaces/default/virtualmachines/m/console";
    let request = Request::get(console)
        .header(header::HOST, "x")
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "websocket")
        .header(header::SEC_WEBSOCKET_VERSION, "13")
        .header(header::SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ==")
        .body(Body::empty())
        .unwrap();
    let granted = sender.send_request(request).await.unwrap();
    assert_eq!(granted.status(), 101);
    let upgraded = hyper::upgrade::on(granted).await.unwrap();
    let begun = server.audited(7).await;
    assert_eq!(begun.len(), 7, "{begun:?}");
    drop(near);
    let lines = server.audited(8).await;
    drop(upgraded);

    let rows: Vec<String> = lines
        .iter()
        .map(|l| {
            let word = |v: &Value| v.as_str().unwrap_or("-").to_owned();
            let what = &l["objectRef"];
            format!(
                "{} {} {} {} {} {}",
                word(&l["user"]["username"]),
                word(&l["verb"]),
                word(&what["resource"]),
                word(&what["name"]),
                l["responseStatus"]["code"],
                word(&l["stage"])
            )
        })
        .collect();
    let name = created["metadata"]["name"].as_str().unwrap();
    assert_eq!(
        rows,
        [
            format!("anna create secrets {name} 201 ResponseComplete"),
            "anna create configmaps BAD 422 ResponseComplete".to_owned(),
            "anna watch configmaps - 400 ResponseComplete".to_owned(),
            "anna watch configmaps - 200 ResponseStarted".to_owned(),
            "anna watch configmaps - 200 ResponseComplete".to_owned(),
            "anna create virtualmachines m 201 ResponseComplete".to_owned(),
            "system:admin get virtualmachines m 101 ResponseStarted".to_owned(),
            "system:admin get virtualmachines m 101 ResponseComplete".to_owned(),
        ]
    );
    assert_eq!(lines[0]["auditID"], id);
    assert_eq!(
        (&lines[6]["auditID"], &lines[6]["objectRef"]["subresource"]),
        (&lines[7]["auditID"], &json!("console"))
    );
    assert_eq!(
        (&lines[0]["sourceIPs"], &lines[6]["annotations"]["vmdeck/source"]),
        (&json!(["127.0.0.1"]), &json!("uid:0"))
    );
    let text = std::fs::read_to_string(server.dir.path().join("audit.log")).unwrap();
    assert!(!text.contains("hush") && !text.contains("aHVzaC1odXNo"), "{text}");
}
