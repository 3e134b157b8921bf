//! Built-in kinds as clients see them.

use serde_json::{Value, json};

use crate::apiserver::admission::tests::over_http::{Answer, Server};

const JSON: &str = "application/json";
const MERGE: &str = "application/merge-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";

async fn create(server: &Server, path: &str, object: Value) -> Answer {
    server.send("POST", path, JSON, &object).await
}

fn refusal<'a>(answer: &'a Answer, field: &str) -> &'a str {
    assert_eq!((answer.code, &answer.body["details"]["causes"][0]["field"]), (422, &json!(field)), "{}", answer.body);
    answer.body["message"].as_str().unwrap()
}

#[tokio::test]
async fn what_is_not_served_is_not_found() {
    let server = Server::new(&[]);
    for path in [
        "/api/v1/endpoints",
        "/api/v1/namespaces/default/resourcequotas",
        "/api/v1/namespaces/default/limitranges",
        "/api/v1/namespaces/default/serviceaccounts",
        "/api/v1/namespaces/default/persistentvolumeclaims",
        "/apis/apps/v1/deployments",
        "/apis/virtualization.deckhouse.io/v1alpha2/usbdevices",
        "/apis/virtualization.deckhouse.io/v1alpha2/nodeusbdevices",
        "/apis/virtualization.deckhouse.io/v1alpha2/virtualmachinepools",
        "/apis/virtualization.deckhouse.io/v1alpha2/virtualmachinerestores",
    ] {
        let answer = server.send("GET", path, JSON, &Value::Null).await;
        assert_eq!((answer.code, &answer.body["reason"]), (404, &json!("NotFound")), "{path}: {}", answer.body);
    }
}

#[tokio::test]
async fn an_immutable_config_map_keeps_its_data() {
    let server = Server::new(&[]);
    let all = "/api/v1/namespaces/default/configmaps";
    let map = json!({"metadata": {"name": "a"}, "data": {"k": "v"}, "immutable": true});
    assert_eq!(create(&server, all, map).await.code, 201);
    let one = format!("{all}/a");
    let patch = |patch: Value| {
        let (server, one) = (&server, &one);
        async move { server.send("PATCH", one, MERGE, &patch).await }
    };
    let told = patch(json!({"data": {"k": "w"}})).await;
    assert!(refusal(&told, "data").contains("field is immutable when `immutable` is set"), "{}", told.body);
    refusal(&patch(json!({"binaryData": {"x": "YQ=="}})).await, "binaryData");
    refusal(&patch(json!({"immutable": false})).await, "immutable");
    assert_eq!(patch(json!({"metadata": {"labels": {"a": "b"}}})).await.code, 200);
}

#[tokio::test]
async fn a_secret_of_a_known_type_has_its_keys() {
    let server = Server::new(&[]);
    let all = "/api/v1/namespaces/default/secrets";
    let tls = |keys: Value| json!({"metadata": {"name": "t"}, "type": "kubernetes.io/tls", "stringData": keys});
    let told = create(&server, all, tls(json!({"tls.crt": "c"}))).await;
    assert!(refusal(&told, "data[tls.key]").contains("data[tls.key]: Required value"), "{}", told.body);
    assert_eq!(create(&server, all, tls(json!({"tls.crt": "c", "tls.key": "k"}))).await.code, 201);
    let emptied = server.send("PATCH", &format!("{all}/t"), MERGE, &json!({"data": {"tls.crt": null}})).await;
    refusal(&emptied, "data[tls.crt]");
    let retyped = server.send("PATCH", &format!("{all}/t"), MERGE, &json!({"type": "Opaque"})).await;
    assert!(refusal(&retyped, "type").contains("field is immutable"), "{}", retyped.body);
}

#[tokio::test]
async fn leases_are_written_with_six_digits() {
    let server = Server::new(&[]);
    let all = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
    let spec = json!({"holderIdentity": "a", "leaseDurationSeconds": 15, "renewTime": "2026-01-01T00:00:00Z"});
    let made = create(&server, all, json!({"metadata": {"name": "l"}, "spec": spec})).await;
    assert_eq!((made.code, &made.body["spec"]["renewTime"]), (201, &json!("2026-01-01T00:00:00.000000Z")));
    let one = format!("{all}/l");
    let patch = json!({"spec": {"renewTime": "2026-01-01T00:00:01.5+00:00"}});
    let renewed = server.send("PATCH", &one, STRATEGIC, &patch).await;
    assert_eq!(renewed.body["spec"]["renewTime"], "2026-01-01T00:00:01.500000Z", "{}", renewed.body);
    refusal(
        &server.send("PATCH", &one, MERGE, &json!({"spec": {"leaseDurationSeconds": 0}})).await,
        "spec.leaseDurationSeconds",
    );
    let garbled = server.send("PATCH", &one, MERGE, &json!({"spec": {"renewTime": "now"}})).await;
    assert_eq!(garbled.code, 400, "{}", garbled.body);
}

#[tokio::test]
async fn an_event_has_two_faces() {
    let server = Server::new(&[]);
    let old = "/api/v1/namespaces/default/events";
    let new = "/apis/events.k8s.io/v1/namespaces/default/events";
    let about = |namespace: &str| json!({"kind": "VirtualMachine", "name": "m", "namespace": namespace});
    let event = json!({"metadata": {"name": "e"}, "regarding": about("default"), "eventTime": "2026-01-01T00:00:00Z",
        "reportingController": "a.example/c", "reportingInstance": "i", "action": "Do", "reason": "Done", "note": "n",
        "type": "Normal"});
    let made = create(&server, new, event).await;
    assert_eq!((made.code, &made.body["eventTime"]), (201, &json!("2026-01-01T00:00:00.000000Z")), "{}", made.body);
    let seen = server.send("GET", &format!("{old}/e"), JSON, &Value::Null).await;
    assert_eq!((&seen.body["message"], &seen.body["involvedObject"]["name"]), (&json!("n"), &json!("m")));

    let short = json!({"metadata": {"name": "f"}, "regarding": about("default"), "eventTime": "2026-01-01T00:00:00Z"});
    refusal(&create(&server, new, short).await, "reportingController");
    let astray = json!({"metadata": {"name": "g"}, "involvedObject": about("elsewhere"), "reason": "Done"});
    refusal(&create(&server, old, astray).await, "involvedObject.namespace");
    let plain = json!({"metadata": {"name": "h"}, "involvedObject": about("default"), "reason": "Done"});
    assert_eq!(create(&server, old, plain).await.code, 201);
}

#[tokio::test]
async fn nodes_are_patched_as_kubectl_does() {
    let server = Server::new(&[]);
    let node = json!({"metadata": {"name": "n"}, "status": {"conditions": [
        {"type": "Ready", "status": "True"}, {"type": "DiskPressure", "status": "False"}]}});
    let made = create(&server, "/api/v1/nodes", node).await;
    assert_eq!(made.code, 201, "{}", made.body);
    let patch = |path: &'static str, patch: Value| {
        let server = &server;
        async move { server.send("PATCH", path, STRATEGIC, &patch).await }
    };
    let cordoned = patch("/api/v1/nodes/n", json!({"spec": {"unschedulable": true}})).await;
    assert_eq!((cordoned.code, &cordoned.body["spec"]["unschedulable"]), (200, &json!(true)));
    let taint = |key: &str| json!({"key": key, "effect": "NoSchedule"});
    patch("/api/v1/nodes/n", json!({"spec": {"taints": [taint("a")]}})).await;
    let tainted = patch("/api/v1/nodes/n", json!({"spec": {"taints": [taint("b")]}})).await;
    assert_eq!(tainted.body["spec"]["taints"], json!([taint("b")]), "taints are one value");
    let wrong = patch("/api/v1/nodes/n", json!({"spec": {"taints": [{"key": "a", "effect": "Never"}]}})).await;
    assert!(refusal(&wrong, "spec.taints[0].effect").contains("Unsupported value: \"Never\""), "{}", wrong.body);
    let conditions = json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}});
    let ignored = patch("/api/v1/nodes/n", conditions.clone()).await;
    assert_eq!(ignored.body["status"]["conditions"][0]["status"], "True", "the status has a path of its own");
    let told = patch("/api/v1/nodes/n/status", conditions).await;
    let status: Vec<&Value> = told.body["status"]["conditions"].as_array().unwrap().iter().collect();
    assert_eq!(status.len(), 2, "conditions merge by type: {}", told.body);
    assert_eq!((&status[0]["type"], &status[0]["status"]), (&json!("Ready"), &json!("False")));
}
