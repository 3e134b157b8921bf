//! One input each, and what has to hold for any input: no panic, no 500, answers that are what they say they are,
//! and objects that stay themselves. Shared by the fuzz targets and the corpus tests.
//!
//! The first line of an input says what to do with the rest; see each case.

use std::sync::OnceLock;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use http::{Request, StatusCode, header};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;
use vmdeck::apiserver::{self, Options};
use vmdeck::store::Store;
use vmdeck::types::jsonpath::{Path, Template};
use vmdeck::types::selector::{FieldSelector, LabelSelector};
use vmdeck::types::{kinds, quantity};

const GROUP: &str = "/apis/virtualization.deckhouse.io/v1alpha2";

/// How long a request may wait before it counts as one that waits for a version of the future (the server gives up
/// after three seconds). Long, so that a busy computer is no finding.
const PATIENCE: Duration = Duration::from_secs(5);

/// A server with one object of each kind in question. Made once for a process: nothing that a case does is stored.
struct Server {
    router: Router,
    runtime: tokio::runtime::Runtime,
    _dir: tempfile::TempDir,
}

/// What a request got.
struct Answer {
    status: StatusCode,
    content_type: String,
    body: Bytes,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|e| panic!("{}: not JSON ({e}): {}", self.status, String::from_utf8_lossy(&self.body)))
    }
}

fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let dir = tempfile::tempdir().expect("a directory");
        let store = Store::open(dir.path(), vmdeck::store::Options::default()).expect("a store");
        let server = Server { router: apiserver::router(store, Options::default()), runtime, _dir: dir };
        let class = json!({
            "apiVersion": "virtualization.deckhouse.io/v1alpha2", "kind": "VirtualMachineClass",
            "metadata": {"name": "generic"}, "spec": {"cpu": {"type": "Host"}},
        });
        let path = format!("{GROUP}/virtualmachineclasses");
        let answer = server.send("POST", &path, "application/json", "*/*", class.to_string().into_bytes());
        assert_eq!(answer.expect("an answer in time").status, StatusCode::CREATED);
        for (path, object) in objects() {
            let body = object.to_string().into_bytes();
            let answer = server.send("POST", &collection(path), "application/json", "*/*", body);
            let answer = answer.expect("an answer in time");
            assert_eq!(answer.status, StatusCode::CREATED, "{path}: {}", String::from_utf8_lossy(&answer.body));
        }
        server
    })
}

/// The kinds that inputs name, each with an object `one`.
fn objects() -> [(&'static str, Value); 9] {
    let custom = |kind: &str, spec: Value| json!({"apiVersion": "virtualization.deckhouse.io/v1alpha2", "kind": kind, "metadata": {"name": "one"}, "spec": spec});
    let core = |kind: &str, more: Value| {
        let mut object = json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": "one", "labels": {"a": "b"}}});
        for (name, value) in more.as_object().into_iter().flatten() {
            object[name] = value.clone();
        }
        object
    };
    let disk = json!({"kind": "VirtualDisk", "name": "one"});
    [
        (
            "virtualmachines",
            custom(
                "VirtualMachine",
                json!({
                    "virtualMachineClassName": "generic", "cpu": {"cores": 1, "coreFraction": "10%"}, "memory": {"size": "256Mi"},
                    "blockDeviceRefs": [disk], "runPolicy": "Manual",
                    "provisioning": {"type": "UserData", "userData": "#cloud-config\n"},
                }),
            ),
        ),
        ("virtualdisks", custom("VirtualDisk", json!({"persistentVolumeClaim": {"size": "1Gi"}}))),
        (
            "virtualimages",
            custom(
                "VirtualImage",
                json!({"storage": "ContainerRegistry", "dataSource": {"type": "HTTP", "http": {"url": "http://127.0.0.1/x"}}}),
            ),
        ),
        (
            "virtualmachineblockdeviceattachments",
            custom(
                "VirtualMachineBlockDeviceAttachment",
                json!({"virtualMachineName": "one", "blockDeviceRef": {"kind": "VirtualDisk", "name": "two"}}),
            ),
        ),
        ("virtualmachineipaddresses", custom("VirtualMachineIPAddress", json!({"type": "Auto"}))),
        (
            "virtualmachineoperations",
            custom("VirtualMachineOperation", json!({"virtualMachineName": "one", "type": "Stop"})),
        ),
        ("secrets", core("Secret", json!({"data": {"k": "dg=="}}))),
        ("configmaps", core("ConfigMap", json!({"data": {"k": "v"}}))),
        (
            "events",
            core(
                "Event",
                json!({"involvedObject": {"kind": "VirtualMachine", "name": "one", "namespace": "default"}, "reason": "R", "message": "m"}),
            ),
        ),
    ]
}

fn collection(plural: &str) -> String {
    let group = if matches!(plural, "secrets" | "configmaps" | "events") { "/api/v1" } else { GROUP };
    format!("{group}/namespaces/default/{plural}")
}

impl Server {
    /// Sends a request; `None` for one that waits, as one for a version of the future does, or that is no HTTP.
    fn send(&self, method: &str, uri: &str, content_type: &str, accept: &str, body: Vec<u8>) -> Option<Answer> {
        let uri: http::Uri = uri.parse().ok()?;
        let request = Request::builder().method(method).uri(uri);
        let request = request.header(header::CONTENT_TYPE, content_type).header(header::ACCEPT, accept);
        let request = request.body(Body::from(body)).ok()?;
        self.runtime.block_on(async {
            let answering = async {
                let Ok(response) = self.router.clone().oneshot(request).await;
                let (parts, body) = response.into_parts();
                let kind = parts.headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("");
                let kind = kind.to_owned();
                let body = body.collect().await.map(|b| b.to_bytes()).unwrap_or_default();
                Answer { status: parts.status, content_type: kind, body }
            };
            let answer = tokio::time::timeout(PATIENCE, answering).await.ok()?;
            let text = || String::from_utf8_lossy(&answer.body).into_owned();
            assert!(answer.status != StatusCode::INTERNAL_SERVER_ERROR, "500: {}", text());
            if answer.status.as_u16() >= 400 {
                let status = answer.json();
                assert_eq!(status["kind"], "Status", "{}", text());
                assert_eq!(status["code"], answer.status.as_u16(), "{}", text());
                assert!(status["message"].as_str().is_some_and(|m| !m.is_empty()), "{}", text());
            }
            Some(answer)
        })
    }
}

/// `PATH?QUERY`, then a line for the Accept header.
pub fn request(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (uri, accept) = text.split_once('\n').unwrap_or((text, "*/*"));
    let Some(answer) = server().send("GET", uri, "", accept, Vec::new()) else { return };
    if answer.status == StatusCode::OK && answer.content_type == "application/json" {
        let watch = answer.body.ends_with(b"\n");
        if watch {
            for line in answer.body.split(|b| *b == b'\n').filter(|l| !l.is_empty()) {
                let event: Value = serde_json::from_slice(line).expect("a watch event is JSON");
                assert!(event["type"].is_string() && event["object"].is_object(), "{event}");
            }
        } else {
            answer.json();
        }
    }
}

/// `KIND PATCHTYPE[/status] QUERY`, then the patch: `virtualmachines merge fieldManager=x`.
pub fn patch(data: &[u8]) {
    let Some((line, body)) = first_line(data) else { return };
    let mut words = line.split(' ');
    let (plural, what, query) = (words.next().unwrap_or(""), words.next().unwrap_or(""), words.next().unwrap_or(""));
    if !objects().iter().any(|(p, _)| *p == plural) {
        return;
    }
    let (patch, part) = what.strip_suffix("/status").map_or((what, ""), |p| (p, "/status"));
    let kind = match patch {
        "merge" => "application/merge-patch+json",
        "json" => "application/json-patch+json",
        "strategic" => "application/strategic-merge-patch+json",
        "apply" => "application/apply-patch+yaml",
        _ => return,
    };
    let one = format!("{}/one", collection(plural));
    let server = server();
    let before = server.send("GET", &one, "", "*/*", Vec::new()).expect("an object").json();
    let uri = format!("{one}{part}?dryRun=All&{query}");
    let Some(answer) = server.send("PATCH", &uri, kind, "application/json", body.to_vec()) else { return };
    if !answer.status.is_success() {
        return;
    }
    let after = answer.json();
    for fixed in ["uid", "name", "namespace", "creationTimestamp", "deletionTimestamp"] {
        assert_eq!(after["metadata"][fixed], before["metadata"][fixed], "{fixed} after {}", after);
    }
    if part.is_empty() {
        // Kinds without a status of its own have no such field to lose.
        assert_eq!(after["status"], before["status"], "a patch of the object changed its status: {after}");
    } else {
        assert_eq!(after["spec"], before["spec"], "a patch of the status changed the spec: {after}");
    }
    // What has been accepted once is accepted again, and says the same.
    let again =
        server.send("PUT", &format!("{one}{part}?dryRun=All"), "application/json", "*/*", body_of(&after, &before));
    let again = again.expect("an answer in time");
    assert!(again.status.is_success(), "accepted by patch, refused by update: {}", again.json());
    assert_eq!(again.json()["spec"], after["spec"]);
}

/// The patched object as a client would send it back: with the version that is stored.
fn body_of(after: &Value, before: &Value) -> Vec<u8> {
    let mut object = after.clone();
    object["metadata"]["resourceVersion"] = before["metadata"]["resourceVersion"].clone();
    object.to_string().into_bytes()
}

/// `KIND FORMAT QUERY`, then the body: `secrets yaml fieldValidation=Strict`.
pub fn object(data: &[u8]) {
    let Some((line, body)) = first_line(data) else { return };
    let mut words = line.split(' ');
    let (plural, format, query) = (words.next().unwrap_or(""), words.next().unwrap_or(""), words.next().unwrap_or(""));
    if !objects().iter().any(|(p, _)| *p == plural) {
        return;
    }
    let kind = match format {
        "json" => "application/json",
        "yaml" => "application/yaml",
        "protobuf" => "application/vnd.kubernetes.protobuf",
        _ => return,
    };
    let server = server();
    let uri = format!("{}?dryRun=All&{query}", collection(plural));
    let Some(answer) = server.send("POST", &uri, kind, "application/json", body.to_vec()) else { return };
    if answer.status != StatusCode::CREATED {
        return;
    }
    let mut made = answer.json();
    let metadata = &made["metadata"];
    assert!(metadata["uid"].is_string() && metadata["name"].is_string(), "{made}");
    assert_eq!(metadata["namespace"], "default", "{made}");
    // An object that was taken can be made again from what was stored of it.
    for own in ["uid", "resourceVersion", "creationTimestamp", "generation", "managedFields", "selfLink"] {
        if let Some(metadata) = made["metadata"].as_object_mut() {
            metadata.remove(own);
        }
    }
    let uri = format!("{}?dryRun=All&fieldValidation=Strict", collection(plural));
    let again = server.send("POST", &uri, "application/json", "*/*", made.to_string().into_bytes());
    let again = again.expect("an answer in time");
    assert_eq!(again.status, StatusCode::CREATED, "accepted once, refused again: {} {made}", again.json());
    assert_eq!(again.json()["spec"], made["spec"]);
}

/// `labels`, `fields`, `path`, `template` or `quantity`, then the text.
pub fn selector(data: &[u8]) {
    let Some((what, text)) = first_line(data) else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let document = json!({
        "metadata": {"name": "one", "namespace": "default", "labels": {"a": "b", "x/y": ""}},
        "status": {"conditions": [{"type": "Ready", "status": "True", "n": 3}, {"type": "B", "status": "False"}]},
    });
    match what {
        "labels" => {
            let Ok(selector) = LabelSelector::parse(text) else { return };
            assert!(selector.is_empty() || !text.trim().is_empty());
            selector.matches_object(&document);
            selector.matches(None);
        }
        "fields" => {
            let Ok(selector) = FieldSelector::parse(text, &["type", "involvedObject.name"]) else { return };
            selector.matches_object(&document);
            if let Some(name) = selector.name() {
                assert!(text.contains(name) || text.contains('\\'), "{name:?} of {text:?}");
            }
        }
        "path" => {
            let Ok(path) = Path::parse(text) else { return };
            assert_eq!(path.first(&document), path.find(&document).first().copied());
        }
        "template" => {
            if let Ok(template) = Template::parse(text) {
                template.render(&document).ok();
            }
        }
        "quantity" => {
            quantity::parse_percent(text);
            kinds::find(text);
            if let Some(bytes) = quantity::parse_bytes(text) {
                let shown = quantity::format_bytes(bytes);
                assert_eq!(quantity::parse_bytes(&shown), Some(bytes), "{text:?} is shown as {shown:?}");
            }
        }
        _ => {}
    }
}

fn first_line(data: &[u8]) -> Option<(&str, &[u8])> {
    let end = data.iter().position(|b| *b == b'\n')?;
    Some((std::str::from_utf8(&data[..end]).ok()?, &data[end + 1..]))
}
