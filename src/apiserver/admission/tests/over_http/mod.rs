//! The rules of upstream.md, each by an object that is refused and its neighbour that is not, through the router: first
//! as a create, then as an update of the neighbour.

mod cases;

use axum::body::Body;
use axum::http::{Request, header};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::apiserver::{Options, router};
use crate::store::Store;
use crate::types::kinds::{self, KindInfo};

/// When a rule looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    /// At each write.
    Always,
    /// At creation only: an update to the same is fine.
    Create,
    /// At an update of the accepted object, in the status that it has.
    Update,
}

/// One rule.
pub(super) struct Case {
    /// Where upstream.md says it.
    pub section: &'static str,
    pub when: When,
    /// What is there before, with status.
    pub world: Vec<Value>,
    pub refused: Value,
    /// What the refusal says.
    pub says: &'static str,
    pub accepted: Value,
}

/// One thing that is accepted and remarked on.
pub(super) struct Remark {
    pub section: &'static str,
    pub world: Vec<Value>,
    /// What is updated; absent for a create.
    pub old: Option<Value>,
    pub new: Value,
    /// What the `Warning` header says.
    pub says: &'static str,
}

/// A server over a fresh store.
pub(in crate::apiserver) struct Server {
    router: axum::Router,
    _dir: tempfile::TempDir,
}

/// What it said.
pub(in crate::apiserver) struct Answer {
    pub code: u16,
    pub body: Value,
    pub warnings: Vec<String>,
}

impl Server {
    pub fn new(networks: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), crate::store::Options::default()).unwrap();
        let networks = Some(networks.iter().map(|n| n.parse().unwrap()).collect());
        Self { router: router(store, Options { networks, ..Options::default() }), _dir: dir }
    }

    async fn call(&self, method: &str, path: &str, body: &Value) -> Answer {
        self.send(method, path, "application/json", body).await
    }

    /// A request with a body of some type.
    pub async fn send(&self, method: &str, path: &str, type_: &str, body: &Value) -> Answer {
        let request = Request::builder().method(method).uri(path).header(header::CONTENT_TYPE, type_);
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        let response = self.router.clone().oneshot(request.body(body).unwrap()).await.unwrap();
        let code = response.status().as_u16();
        let warnings = response.headers().get_all(header::WARNING).iter();
        let warnings = warnings.map(|w| w.to_str().unwrap().replace("\\\"", "\"")).collect();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        Answer { code, body: serde_json::from_slice(&bytes).unwrap(), warnings }
    }

    async fn create(&self, object: &Value) -> Answer {
        self.call("POST", &collection(object), object).await
    }

    /// Creates an object with the status it has.
    async fn put_there(&self, object: &Value) {
        let made = self.create(object).await;
        assert_eq!(made.code, 201, "{}", made.body);
        if object.get("status").is_none() || !kind_of(object).status {
            return;
        }
        let mut wanted = made.body;
        wanted["status"] = object["status"].clone();
        let path = format!("{}/status", path(object));
        let answer = self.call("PUT", &path, &wanted).await;
        assert_eq!(answer.code, 200, "{}", answer.body);
    }

    /// Replaces an object by one that says the same version.
    async fn update(&self, object: &Value) -> Answer {
        let live = self.call("GET", &path(object), &Value::Null).await.body;
        let mut wanted = object.clone();
        wanted["metadata"]["resourceVersion"] = live["metadata"]["resourceVersion"].clone();
        self.call("PUT", &path(object), &wanted).await
    }
}

fn kind_of(object: &Value) -> &'static KindInfo {
    kinds::KINDS.iter().find(|k| object["kind"] == k.kind).unwrap()
}

fn collection(object: &Value) -> String {
    let kind = kind_of(object);
    let root = if kind.group.is_empty() { "api" } else { "apis" };
    let place = match object["metadata"]["namespace"].as_str() {
        Some(namespace) => format!("namespaces/{namespace}/"),
        None if kind.namespaced() => "namespaces/default/".to_owned(),
        None => String::new(),
    };
    format!("/{root}/{}/{place}{}", kind.api_version(), kind.plural)
}

fn path(object: &Value) -> String {
    format!("{}/{}", collection(object), object["metadata"]["name"].as_str().unwrap())
}

/// An object by its kind's short name.
pub(super) fn object(word: &str, name: &str, spec: Value) -> Value {
    let kind = kinds::find(word).unwrap();
    json!({"apiVersion": kind.api_version(), "kind": kind.kind, "metadata": {"name": name}, "spec": spec})
}

/// Merges a patch.
pub(super) fn with(mut object: Value, patch: Value) -> Value {
    json_patch::merge(&mut object, &patch);
    object
}

#[tokio::test]
async fn every_rule_refuses_one_and_accepts_its_neighbour() {
    for case in cases::cases() {
        let networks: &[&str] = if case.section.ends_with("no subnets") { &[] } else { &["10.66.10.0/24"] };
        let what = format!("{}: {}", case.section, case.refused);
        let refusal = |answer: &Answer| {
            let message = answer.body["message"].as_str().unwrap_or_default();
            assert_eq!(answer.code, 422, "{what}\n{}", answer.body);
            assert!(message.contains(case.says), "{what}\n{message}");
            assert!(!answer.body["details"]["causes"][0]["field"].as_str().unwrap().is_empty(), "{}", answer.body);
        };
        let server = Server::new(networks);
        for object in &case.world {
            server.put_there(object).await;
        }
        if case.when != When::Update {
            refusal(&server.create(&case.refused).await);
        }
        server.put_there(&case.accepted).await;
        let same = |v: &Value| (v["kind"].clone(), v["metadata"]["name"].clone());
        if same(&case.refused) != same(&case.accepted) {
            continue;
        }
        match (case.when, server.update(&case.refused).await) {
            (When::Create, answer) => assert_eq!(answer.code, 200, "{what}\n{}", answer.body),
            (_, answer) => refusal(&answer),
        }
    }
}

#[tokio::test]
async fn what_is_remarked_on_is_stored_all_the_same() {
    for remark in cases::remarks() {
        let server = Server::new(&["10.66.10.0/24"]);
        for object in &remark.world {
            server.put_there(object).await;
        }
        let answer = match &remark.old {
            Some(old) => {
                server.put_there(old).await;
                server.update(&remark.new).await
            }
            None => server.create(&remark.new).await,
        };
        assert!(answer.code < 300, "{}: {}", remark.section, answer.body);
        let heard = answer.warnings.iter().any(|w| w.starts_with("299 - ") && w.contains(remark.says));
        assert!(heard, "{}: {:?}", remark.section, answer.warnings);
        // A write that touches nothing of it is silent.
        let labelled = with(remark.new.clone(), json!({"metadata": {"labels": {"a": "b"}}}));
        let again = server.update(&labelled).await;
        let heard = again.warnings.iter().any(|w| w.contains(remark.says));
        assert!(again.code == 200 && (!heard || remark.says.contains("field")), "{:?}", again.warnings);
    }
}

#[tokio::test]
async fn a_disk_that_is_going_is_let_go_but_not_changed() {
    let server = Server::new(&[]);
    let spec = json!({"persistentVolumeClaim": {"size": "1Gi"}});
    let held = with(object("vd", "d", spec), json!({"metadata": {"finalizers": ["a.example/b"]}}));
    server.put_there(&held).await;
    let going = server.call("DELETE", &path(&held), &Value::Null).await;
    assert!(going.body["metadata"]["deletionTimestamp"].is_string(), "{}", going.body);
    let grown = server.update(&with(held.clone(), json!({"spec": {"persistentVolumeClaim": {"size": "2Gi"}}}))).await;
    let message = grown.body["message"].as_str().unwrap();
    assert!(grown.code == 422 && message.contains("the disk is being deleted and cannot be changed"), "{message}");
    let freed = server.update(&with(held.clone(), json!({"metadata": {"finalizers": []}}))).await;
    assert_eq!(freed.code, 200, "{}", freed.body);
    assert_eq!(server.call("GET", &path(&held), &Value::Null).await.code, 404);
}

#[tokio::test]
async fn classes_have_two_versions() {
    let server = Server::new(&[]);
    let api = |version: &str| format!("/apis/virtualization.deckhouse.io/{version}/virtualmachineclasses");
    let (newer, older) = (api("v1alpha3"), api("v1alpha2"));
    let class = |fractions: Value| {
        json!({"apiVersion": "virtualization.deckhouse.io/v1alpha3", "kind": "VirtualMachineClass",
            "metadata": {"name": "c"}, "spec": {"cpu": {"type": "Host"}, "sizingPolicies": [
                {"cores": {"min": 1, "max": 4}, "coreFractions": fractions, "defaultCoreFraction": "10%"}]}})
    };
    let fractions = |body: &Value| body["spec"]["sizingPolicies"][0]["coreFractions"].clone();
    for wrong in [json!([10]), json!(["10"]), json!(["0%"]), json!(["5%"])] {
        assert_eq!(server.call("POST", &newer, &class(wrong.clone())).await.code, 422, "{wrong}");
    }
    let made = server.call("POST", &newer, &class(json!(["5%", "10%"]))).await;
    assert_eq!((made.code, fractions(&made.body)), (201, json!(["5%", "10%"])), "{}", made.body);
    assert_eq!(made.body["apiVersion"], "virtualization.deckhouse.io/v1alpha3");
    let seen = server.call("GET", &format!("{older}/c"), &Value::Null).await.body;
    assert_eq!(
        (fractions(&seen), &seen["apiVersion"]),
        (json!([5, 10]), &json!("virtualization.deckhouse.io/v1alpha2"))
    );
    assert_eq!(seen["spec"]["sizingPolicies"][0]["defaultCoreFraction"], 10);

    let one = format!("{newer}/c");
    let patch = json!([{"op": "add", "path": "/spec/sizingPolicies/0/coreFractions/-", "value": "50%"}]);
    let patched = server.send("PATCH", &one, "application/json-patch+json", &patch).await;
    assert_eq!((patched.code, fractions(&patched.body)), (200, json!(["5%", "10%", "50%"])), "{}", patched.body);
    let apply = format!("{one}?fieldManager=me&force=true");
    let applied = server.send("PATCH", &apply, "application/apply-patch+yaml", &class(json!(["10%"]))).await;
    assert_eq!((applied.code, fractions(&applied.body)), (200, json!(["10%"])), "{}", applied.body);
    let list = server.call("GET", &newer, &Value::Null).await.body;
    assert_eq!(
        (&list["apiVersion"], fractions(&list["items"][0])),
        (&made.body["apiVersion"], json!(["10%"])),
        "{list}"
    );
    let older_body = server.call("PUT", &one, &seen).await;
    assert_eq!(older_body.code, 422, "a body of another version than its path: {}", older_body.body);
    assert_eq!(
        server.call("GET", "/apis/virtualization.deckhouse.io/v1alpha3/virtualmachines", &Value::Null).await.code,
        404
    );
}

/// An object of each custom kind that is accepted.
fn samples() -> Vec<Value> {
    cases::samples()
}

#[tokio::test]
async fn each_part_of_each_kind_is_written_by_its_own_path() {
    for sample in samples() {
        let server = Server::new(&["10.66.10.0/24"]);
        let told = with(sample.clone(), json!({"status": {"observedGeneration": 7}}));
        let made = server.create(&told).await;
        assert_eq!(made.code, 201, "{}", made.body);
        assert_eq!(made.body["status"], Value::Null, "a create sets no status: {}", made.body);
        assert_eq!(made.body["metadata"]["generation"], 1);
        let own = path(&sample);

        let mut wanted = made.body.clone();
        wanted["status"] = json!({"observedGeneration": 7, "nonsense": 1});
        wanted["metadata"]["labels"] = json!({"by": "status"});
        let status = server.call("PUT", &format!("{own}/status"), &wanted).await;
        assert_eq!(status.code, 200, "{}", status.body);
        assert_eq!(status.body["status"], json!({"observedGeneration": 7}), "unknown fields go, the others stay");
        assert_eq!(status.body["metadata"]["generation"], 1, "{}", status.body);
        assert_eq!(status.body["metadata"]["labels"], Value::Null, "{}", status.body);
        assert!(status.warnings.iter().any(|w| w.contains("status.nonsense")), "{:?}", status.warnings);

        let mut wanted = status.body.clone();
        wanted["metadata"]["labels"] = json!({"by": "main"});
        wanted["status"] = json!({"observedGeneration": 8});
        let main = server.call("PUT", &own, &wanted).await;
        assert_eq!(main.code, 200, "{}", main.body);
        assert_eq!(main.body["metadata"]["labels"]["by"], "main");
        assert_eq!(main.body["status"], json!({"observedGeneration": 7}), "{}", main.body);
        assert_eq!(main.body["metadata"]["generation"], 1, "labels are no new generation");

        let strange =
            with(sample.clone(), json!({"metadata": {"name": "mac-02-00-00-00-00-09"}, "spec": {"strange": 1}}));
        let strict = server.call("POST", &format!("{}?fieldValidation=Strict", collection(&sample)), &strange).await;
        let message = strict.body["message"].as_str().unwrap_or_default();
        assert!(strict.code == 400 && message.contains(r#"unknown field "spec.strange""#), "{}", strict.body);
    }
}
