//! Rights on every kind, verb and part of an object, for every role, through the router: what a request is answered
//! and what the access review says beforehand must be the same.

use axum::Router;
use axum::body::Body;
use axum::http::{Request, header};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::identity::{Identity, Peer, Role};
use super::{Options, router};
use crate::store::Store;
use crate::types::kinds::SUBRESOURCES_GROUP;

const VERBS: [(&str, &str, bool); 8] = [
    ("get", "GET", true),
    ("list", "GET", false),
    ("watch", "GET", false),
    ("create", "POST", false),
    ("update", "PUT", true),
    ("patch", "PATCH", true),
    ("delete", "DELETE", true),
    ("deletecollection", "DELETE", false),
];

struct World {
    router: Router,
    _dir: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), crate::store::Options::default()).unwrap();
        Self { router: router(store, Options::default()), _dir: dir }
    }

    /// The answer's code, and its body unless it is a watch that began.
    async fn ask(&self, who: &Identity, method: &str, uri: &str, accept: &str, body: &Value) -> (u16, String) {
        let peer = Peer { identity: Some(who.clone()), source: "test".to_owned() };
        let kind = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
        let request = Request::builder()
            .method(method)
            .uri(uri)
            .header(header::CONTENT_TYPE, kind)
            .header(header::ACCEPT, accept)
            .extension(peer)
            .body(Body::from(body.to_string()))
            .unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let code = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (code, String::from_utf8_lossy(&body).into_owned())
    }

    async fn review(&self, who: &Identity, spec: &Value) -> bool {
        let uri = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
        let body = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": spec});
        let (code, text) = self.ask(who, "POST", uri, "application/json", &body).await;
        assert_eq!(code, 201, "reviews are open to everybody known: {text}");
        serde_json::from_str::<Value>(&text).unwrap()["status"]["allowed"].as_bool().unwrap()
    }

    async fn json(&self, uri: &str) -> Value {
        let (code, text) = self.ask(&Identity::owner(), "GET", uri, "application/json", &Value::Null).await;
        assert_eq!(code, 200, "{uri}");
        serde_json::from_str(&text).unwrap()
    }

    /// Group, version, resource with its subresource, and whether it is in namespaces; all that discovery tells, and
    /// a few that are not served.
    async fn resources(&self) -> Vec<(String, String, String, bool)> {
        let mut served = vec![(String::new(), "v1".to_owned())];
        for group in self.json("/apis").await["groups"].as_array().unwrap() {
            for version in group["versions"].as_array().unwrap() {
                served.push((text(&group["name"]), text(&version["version"])));
            }
        }
        let mut found = Vec::new();
        for (group, version) in served {
            let root = if group.is_empty() { "/api/v1".to_owned() } else { format!("/apis/{group}/{version}") };
            for resource in self.json(&root).await["resources"].as_array().unwrap() {
                let namespaced = resource["namespaced"].as_bool().unwrap();
                found.push((group.clone(), version.clone(), text(&resource["name"]), namespaced));
            }
        }
        let streams = ["console", "vnc", "portforward", "freeze", "unfreeze"]
            .map(|s| (SUBRESOURCES_GROUP, format!("virtualmachines/{s}")));
        let unserved =
            [("", "limitranges".to_owned()), ("", "unheardof".to_owned()), ("a.example", "things".to_owned())];
        for (group, name) in streams.into_iter().chain(unserved) {
            let version = if group == SUBRESOURCES_GROUP { "v1alpha2" } else { "v1" };
            found.push((group.to_owned(), version.to_owned(), name, true));
        }
        found
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

/// Refused for want of rights. Some things nobody may do, however: the namespace `default` stays.
fn forbidden(code: u16, answer: &str) -> bool {
    code == 403 && !answer.contains("this namespace may not be deleted")
}

fn roles() -> [Identity; 3] {
    let with =
        |user: &str, role: Option<Role>| Identity::new(user, role.map(|r| r.group().to_owned()).into_iter().collect());
    [with("boss", Some(Role::Admin)), with("anna", Some(Role::View)), with("nobody", None)]
}

#[tokio::test]
async fn reviews_tell_what_requests_are_answered() {
    let world = World::new();
    let mut asked = 0;
    let resources = world.resources().await;
    for who in &roles() {
        for (group, version, name, namespaced) in &resources {
            let (plural, subresource) = name.split_once('/').unwrap_or((name, ""));
            let mut root = if group.is_empty() { "/api/v1".to_owned() } else { format!("/apis/{group}/{version}") };
            if *namespaced {
                root.push_str("/namespaces/none");
            }
            for (verb, method, one) in VERBS {
                if !one && !subresource.is_empty() {
                    continue;
                }
                let mut uri = format!("{root}/{plural}");
                if one {
                    uri.push_str("/x");
                }
                if !subresource.is_empty() {
                    uri = format!("{uri}/{subresource}");
                }
                if verb == "watch" {
                    uri.push_str("?watch=1&timeoutSeconds=1&resourceVersion=1");
                }
                let spec = json!({"resourceAttributes": {"verb": verb, "group": group, "version": version,
                    "resource": plural, "subresource": subresource, "namespace": if *namespaced { "none" } else { "" }}});
                let allowed = world.review(who, &spec).await;
                let (code, answer) = if verb == "watch" && allowed {
                    // Not read to its end, which is a second away.
                    let peer = Peer { identity: Some(who.clone()), source: "test".to_owned() };
                    let request = Request::get(&uri).extension(peer).body(Body::empty()).unwrap();
                    let response = world.router.clone().oneshot(request).await.unwrap();
                    (response.status().as_u16(), String::new())
                } else {
                    world.ask(who, method, &uri, "application/json", &json!({})).await
                };
                assert_eq!(allowed, !forbidden(code, &answer), "{} {method} {uri}: {code} {answer}", who.user);
                assert_ne!(code, 401, "{method} {uri}");
                asked += 1;
            }
        }
        for path in
            ["/api", "/apis", "/openapi/v3", "/version", "/healthz", "/livez/ping", "/metrics", "/", "/upload/x"]
        {
            for method in ["GET", "HEAD", "POST", "PUT", "DELETE"] {
                let verb = method.to_ascii_lowercase();
                let spec = json!({"nonResourceAttributes": {"path": path, "verb": verb}});
                let allowed = world.review(who, &spec).await;
                let (code, answer) = world.ask(who, method, path, "application/json", &Value::Null).await;
                assert_eq!(allowed, !forbidden(code, &answer), "{} {method} {path}: {code} {answer}", who.user);
                asked += 1;
            }
        }
    }
    assert!(asked > 600, "{asked}");
}

/// By RBAC's own reading of the rules review.
#[tokio::test]
async fn rules_reviews_say_the_same_as_access_reviews() {
    let world = World::new();
    let uri = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews";
    for who in &roles() {
        let body = json!({"spec": {"namespace": "default"}});
        let (code, answer) = world.ask(who, "POST", uri, "application/json", &body).await;
        assert_eq!(code, 201, "{answer}");
        let status = serde_json::from_str::<Value>(&answer).unwrap()["status"].clone();
        assert_eq!(status["incomplete"], false);
        let has = |list: &Value, word: &str| list.as_array().unwrap().iter().any(|w| *w == "*" || *w == word);
        for (group, _, name, _) in world.resources().await {
            for (verb, ..) in VERBS {
                let rules = status["resourceRules"].as_array().unwrap();
                let told = rules
                    .iter()
                    .any(|r| has(&r["verbs"], verb) && has(&r["apiGroups"], &group) && has(&r["resources"], &name));
                let (plural, subresource) = name.split_once('/').unwrap_or((&name, ""));
                let spec = json!({"resourceAttributes":
                    {"verb": verb, "group": group, "resource": plural, "subresource": subresource}});
                assert_eq!(told, world.review(who, &spec).await, "{} {verb} {group} {name}", who.user);
            }
        }
    }
}

#[tokio::test]
async fn a_viewer_sees_no_secret_in_any_form() {
    let world = World::new();
    let secrets = "/api/v1/namespaces/default/secrets";
    let secret = json!({"metadata": {"name": "s"}, "stringData": {"a": "hush"}});
    assert_eq!(world.ask(&Identity::owner(), "POST", secrets, "application/json", &secret).await.0, 201);
    let [_, viewer, _] = roles();
    let forms = [
        "application/json",
        "application/json;as=Table;v=v1;g=meta.k8s.io",
        "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io",
        "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io",
        "application/vnd.kubernetes.protobuf,application/json",
    ];
    let paths = [
        secrets.to_owned(),
        format!("{secrets}/s"),
        format!("{secrets}?watch=1&timeoutSeconds=1"),
        format!("{secrets}/s?watch=1&timeoutSeconds=1"),
        format!("{secrets}?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&timeoutSeconds=1"),
        "/api/v1/secrets".to_owned(),
        "/api/v1//secrets".to_owned(),
        "/api/v1/%73ecrets".to_owned(),
        "//api/v1/namespaces/default/%73%65crets/s".to_owned(),
        "/api/v1/namespaces/default/secrets/s/status".to_owned(),
    ];
    for path in &paths {
        for accept in forms {
            for method in ["GET", "PUT", "PATCH", "DELETE", "POST"] {
                let dry = if method == "GET" {
                    path.clone()
                } else {
                    format!("{}?dryRun=All", path.split('?').next().unwrap())
                };
                let (code, text) = world.ask(&viewer, method, &dry, accept, &json!({})).await;
                assert_eq!(code, 403, "{method} {dry} {accept}: {text}");
                assert!(!text.contains("hush") && !text.contains("aHVzaA"), "{text}");
            }
        }
    }
}
