use serde_json::json;

use super::*;
use crate::types::kinds::find;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_767_225_600 + second).expect("in range")
}

fn writer(manager: &str, second: i64) -> Writer<'_> {
    Writer { manager, subresource: None, api_version: "v1", status_apart: true, now: at(second) }
}

fn schema() -> Schema {
    let text = json!({"type": "string"});
    Schema::custom(&json!({"type": "object", "properties": {
        "spec": {"type": "object", "properties": {
            "a": text, "b": text, "c": text,
            "cpu": {"type": "object", "properties": {"cores": {"type": "integer"}, "fraction": text}},
            "map": {"type": "object", "additionalProperties": text},
            "whole": {"type": "object", "x-kubernetes-map-type": "atomic", "additionalProperties": text},
            "atomic": {"type": "array", "items": {"type": "object", "properties": {"n": text}}},
            "set": {"type": "array", "x-kubernetes-list-type": "set", "items": text},
            "keyed": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"],
                "items": {"type": "object", "properties": {"type": text, "x": text, "y": text}}},
            "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}
        }},
        "status": {"type": "object", "properties": {"phase": text, "n": text}}
    }}))
}

fn object(spec: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "X", "metadata": {"name": "x"}, "spec": spec})
}

/// Applies and unwraps.
fn applied(live: Option<&Value>, manager: &str, second: i64, spec: Value) -> Value {
    apply(live, &object(spec), &schema(), &writer(manager, second), false).expect("no conflict")
}

/// `{manager: fieldsV1}` of one operation.
fn owners(object: &Value, operation: &str) -> Value {
    let list = object.pointer("/metadata/managedFields").and_then(Value::as_array);
    let pairs = list
        .into_iter()
        .flatten()
        .filter(|e| e["operation"] == operation)
        .map(|e| (e["manager"].as_str().expect("name").to_owned(), e["fieldsV1"].clone()));
    Value::Object(pairs.collect())
}

#[test]
fn creating_by_apply_owns_exactly_the_leaves() {
    let got = applied(
        None,
        "m",
        0,
        json!({"a": "1", "cpu": {"cores": 1}, "atomic": [{"n": "x"}], "set": ["p"],
        "keyed": [{"type": "t", "x": "1"}], "map": {"k": "v"}, "whole": {"k": "v"}, "free": {"deep": {"n": 1}}}),
    );
    assert_eq!(
        got["metadata"]["managedFields"],
        json!([{"manager": "m", "operation": "Apply", "apiVersion": "v1", "time": "2026-01-01T00:00:00Z",
            "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {
                "f:a": {}, "f:atomic": {}, "f:cpu": {"f:cores": {}}, "f:free": {"f:deep": {".": {}, "f:n": {}}},
                "f:keyed": {"k:{\"type\":\"t\"}": {".": {}, "f:type": {}, "f:x": {}}},
                "f:map": {"f:k": {}}, "f:set": {"v:\"p\"": {}}, "f:whole": {}}}}])
    );
}

#[test]
fn the_same_apply_again_changes_nothing() {
    let first = applied(None, "m", 0, json!({"a": "1", "set": ["p"]}));
    assert_eq!(applied(Some(&first), "m", 100, json!({"a": "1", "set": ["p"]})), first);
    // Also beside fields that others own, whatever the order of shared lists.
    let both = applied(Some(&first), "n", 1, json!({"set": ["q"], "b": "2"}));
    assert_eq!(both["spec"]["set"], json!(["p", "q"]));
    assert_eq!(applied(Some(&both), "m", 100, json!({"a": "1", "set": ["p"]})), both);
    assert_eq!(applied(Some(&both), "n", 100, json!({"set": ["q"], "b": "2"})), both);
}

#[test]
fn fields_left_out_go_when_nobody_else_owns_them() {
    let live = applied(
        None,
        "m",
        0,
        json!({"a": "1", "b": "2", "cpu": {"cores": 1, "fraction": "5%"}, "set": ["p", "q"],
        "keyed": [{"type": "t", "x": "1"}, {"type": "u"}], "map": {"k": "v", "l": "w"}}),
    );
    let got = applied(
        Some(&live),
        "m",
        1,
        json!({"a": "1", "cpu": {"cores": 1}, "set": ["q"], "keyed": [{"type": "u"}],
        "map": {"l": "w"}}),
    );
    assert_eq!(
        got["spec"],
        json!({"a": "1", "cpu": {"cores": 1}, "set": ["q"], "keyed": [{"type": "u"}], "map": {"l": "w"}})
    );
    // Whole containers go with their last owned field.
    let got = applied(Some(&got), "m", 2, json!({"a": "1"}));
    assert_eq!(got["spec"], json!({"a": "1"}));
    assert_eq!(owners(&got, "Apply"), json!({"m": {"f:spec": {"f:a": {}}}}));
    // And everything with the last owner.
    let got = applied(Some(&got), "m", 3, json!({}));
    assert_eq!(got["spec"], json!({}));
}

#[test]
fn equal_values_are_shared() {
    let live = applied(None, "m", 0, json!({"a": "1", "b": "2"}));
    let live = applied(Some(&live), "n", 1, json!({"a": "1"}));
    assert_eq!(owners(&live, "Apply"), json!({"m": {"f:spec": {"f:a": {}, "f:b": {}}}, "n": {"f:spec": {"f:a": {}}}}));
    let live = applied(Some(&live), "m", 2, json!({"b": "2"}));
    assert_eq!(live["spec"], json!({"a": "1", "b": "2"}));
    let live = applied(Some(&live), "n", 3, json!({"c": "3"}));
    assert_eq!(live["spec"], json!({"b": "2", "c": "3"}));
}

#[test]
fn conflicts_name_owner_and_path() {
    let live = applied(None, "m1", 0, json!({"a": "1", "cpu": {"cores": 1}}));
    let change = object(json!({"cpu": {"cores": 2}}));
    let error = apply(Some(&live), &change, &schema(), &writer("m2", 1), false).expect_err("conflict");
    assert_eq!(error.to_string(), r#"Apply failed with 1 conflict: conflict with "m1": .spec.cpu.cores"#);
    assert_eq!(
        error.causes(),
        [json!({"reason": "FieldManagerConflict", "message": "conflict with \"m1\"", "field": ".spec.cpu.cores"})]
    );
    let forced = apply(Some(&live), &change, &schema(), &writer("m2", 1), true).expect("forced");
    assert_eq!(forced["spec"]["cpu"]["cores"], 2);
    assert_eq!(
        owners(&forced, "Apply"),
        json!({"m1": {"f:spec": {"f:a": {}}}, "m2": {"f:spec": {"f:cpu": {"f:cores": {}}}}})
    );
    // Several conflicts, one of them with a plain writer.
    let mut edited = live.clone();
    edited["spec"]["a"] = json!("9");
    track(Some(&live), &mut edited, &schema(), &writer("kubectl-edit", 2));
    let change = object(json!({"a": "2", "cpu": {"cores": 2}}));
    let error = apply(Some(&edited), &change, &schema(), &writer("m2", 3), false).expect_err("conflict");
    assert_eq!(
        error.to_string(),
        "Apply failed with 2 conflicts: conflicts with \"kubectl-edit\" using v1:\n- .spec.a\nconflicts with \"m1\":\n- .spec.cpu.cores"
    );
}

#[test]
fn items_of_atomic_lists_are_owned_together() {
    let live = applied(None, "m", 0, json!({"atomic": [{"n": "1"}, {"n": "2"}]}));
    let error = apply(Some(&live), &object(json!({"atomic": [{"n": "1"}]})), &schema(), &writer("n", 1), false);
    assert_eq!(
        error.expect_err("conflict").to_string(),
        r#"Apply failed with 1 conflict: conflict with "m": .spec.atomic"#
    );
    let got = applied(Some(&live), "m", 1, json!({"atomic": [{"n": "2"}]}));
    assert_eq!(got["spec"]["atomic"], json!([{"n": "2"}]));
}

#[test]
fn keyed_items_are_shared_field_by_field() {
    let live = applied(None, "m", 0, json!({"keyed": [{"type": "t", "x": "1"}]}));
    let live = applied(Some(&live), "n", 1, json!({"keyed": [{"type": "t", "y": "2"}, {"type": "u", "x": "3"}]}));
    assert_eq!(live["spec"]["keyed"], json!([{"type": "t", "x": "1", "y": "2"}, {"type": "u", "x": "3"}]));
    let live = applied(Some(&live), "m", 2, json!({"a": "1"}));
    assert_eq!(live["spec"]["keyed"], json!([{"type": "t", "y": "2"}, {"type": "u", "x": "3"}]));
    let conflict =
        apply(Some(&live), &object(json!({"keyed": [{"type": "t", "y": "9"}]})), &schema(), &writer("m", 3), false);
    assert!(conflict.expect_err("conflict").to_string().ends_with(r#".spec.keyed[type="t"].y"#));
}

#[test]
fn shared_lists_keep_foreign_items_in_place() {
    let items = |names: &[&str]| json!({"keyed": names.iter().map(|n| json!({"type": n})).collect::<Vec<_>>()});
    let live = applied(None, "m", 0, items(&["a", "b"]));
    let live = applied(Some(&live), "n", 1, items(&["x", "b", "a", "y"]));
    assert_eq!(live["spec"], items(&["x", "b", "a", "y"]));
    let live = applied(Some(&live), "m", 2, items(&["a", "b"]));
    assert_eq!(live["spec"], items(&["x", "a", "b", "y"]));
}

#[test]
fn broken_keyed_lists_are_refused() {
    for (list, expected) in [
        (json!([{"x": "1"}]), "spec.keyed[0]: Required value"),
        (json!([{"type": "t"}, {"type": "t"}]), r#"spec.keyed[1]: Duplicate value: {"type":"t"}"#),
    ] {
        let error = apply(None, &object(json!({"keyed": list})), &schema(), &writer("m", 0), false);
        let error = error.expect_err("invalid").to_string();
        assert!(error.starts_with(expected), "{error}");
    }
}

#[test]
fn a_plain_create_owns_containers_too() {
    let mut new = object(json!({"a": "1", "cpu": {"cores": 1}, "keyed": [{"type": "t"}]}));
    new["metadata"]["labels"] = json!({"l": "v"});
    new["metadata"]["uid"] = json!("u");
    track(None, &mut new, &schema(), &writer("k8scheck", 0));
    assert_eq!(
        new["metadata"]["managedFields"][0]["fieldsV1"],
        json!({"f:metadata": {"f:labels": {".": {}, "f:l": {}}},
            "f:spec": {".": {}, "f:a": {}, "f:cpu": {".": {}, "f:cores": {}},
                "f:keyed": {".": {}, "k:{\"type\":\"t\"}": {".": {}, "f:type": {}}}}})
    );
}

#[test]
fn structs_of_core_kinds_are_not_owned_themselves() {
    let schema = Schema::of(find("lease").expect("kind"));
    let mut lease = json!({"metadata": {"name": "l"}, "spec": {"holderIdentity": "h"}});
    track(None, &mut lease, &schema, &Writer { status_apart: false, ..writer("w", 0) });
    assert_eq!(lease["metadata"]["managedFields"][0]["fieldsV1"], json!({"f:spec": {"f:holderIdentity": {}}}));
}

#[test]
fn plain_writes_take_over_silently() {
    let live = applied(None, "m", 0, json!({"a": "1", "b": "2", "c": "3"}));
    let mut new = live.clone();
    new["spec"]["a"] = json!("9");
    new["spec"].as_object_mut().expect("object").shift_remove("b");
    track(Some(&live), &mut new, &schema(), &writer("edit", 5));
    assert_eq!(owners(&new, "Apply"), json!({"m": {"f:spec": {"f:c": {}}}}));
    assert_eq!(owners(&new, "Update"), json!({"edit": {"f:spec": {"f:a": {}}}}));
    // A write without change keeps times and owners.
    let mut same = new.clone();
    track(Some(&new), &mut same, &schema(), &writer("edit", 50));
    assert_eq!(same, new);
    // A field that only a plain writer set stays when an applier never had it.
    let got = applied(Some(&new), "m", 6, json!({}));
    assert_eq!(got["spec"], json!({"a": "9"}));
}

#[test]
fn the_status_endpoint_has_owners_of_its_own() {
    let live = applied(None, "m", 0, json!({"a": "1"}));
    let status = Writer { subresource: Some("status"), ..writer("m", 1) };
    let mut body = object(json!({"a": "ignored"}));
    body["status"] = json!({"phase": "Running"});
    body["metadata"]["labels"] = json!({"ignored": "x"});
    let got = apply(Some(&live), &body, &schema(), &status, false).expect("no conflict");
    assert_eq!(got["spec"], json!({"a": "1"}));
    assert_eq!(got["status"], json!({"phase": "Running"}));
    assert_eq!(got["metadata"].get("labels"), None);
    let entry = &got["metadata"]["managedFields"][1];
    assert_eq!((&entry["subresource"], &entry["fieldsV1"]), (&json!("status"), &json!({"f:status": {"f:phase": {}}})));
    // The object's own endpoint drops a status from the body.
    let mut body = object(json!({"a": "1"}));
    body["status"] = json!({"phase": "Stopped"});
    let again = apply(Some(&got), &body, &schema(), &writer("m", 9), false).expect("no conflict");
    assert_eq!(again, got);
    // Plain status writes are the writer's, under the subresource.
    let mut new = got.clone();
    new["status"]["n"] = json!("1");
    track(Some(&got), &mut new, &schema(), &Writer { manager: "ctl", ..status });
    assert_eq!(owners(&new, "Update"), json!({"ctl": {"f:status": {"f:n": {}}}}));
}

#[test]
fn sent_managed_fields_clear_replace_or_are_ignored() {
    let live = applied(None, "m", 0, json!({"a": "1"}));
    let with = |managed: Value| {
        let mut new = live.clone();
        new["metadata"]["managedFields"] = managed;
        track(Some(&live), &mut new, &schema(), &writer("w", 1));
        new
    };
    let cleared = with(json!([{}]));
    assert_eq!(cleared["metadata"].get("managedFields"), None);
    assert_eq!(with(json!([])), live);
    assert_eq!(with(json!([{"manager": "x", "operation": "Bad"}])), live);
    let replaced = with(json!([{"manager": "x", "operation": "Apply", "apiVersion": "v1", "fieldsType": "FieldsV1",
        "fieldsV1": {"f:spec": {"f:a": {}}}}]));
    assert_eq!(owners(&replaced, "Apply"), json!({"x": {"f:spec": {"f:a": {}}}}));
    // Nobody owns a cleared object until somebody applies; then what was there has an owner.
    let mut edited = cleared.clone();
    edited["spec"]["b"] = json!("2");
    track(Some(&cleared), &mut edited, &schema(), &writer("w", 2));
    assert_eq!(edited["metadata"].get("managedFields"), None);
    let got = applied(Some(&edited), "m", 3, json!({"a": "1"}));
    assert_eq!(owners(&got, "Apply"), json!({"m": {"f:spec": {"f:a": {}}}}));
    assert_eq!(owners(&got, "Update"), json!({"before-first-apply": {"f:spec": {".": {}, "f:a": {}, "f:b": {}}}}));
}

#[test]
fn old_plain_writers_are_folded() {
    let mut live = object(json!({"map": {}}));
    track(None, &mut live, &schema(), &writer("w0", 0));
    for n in 1..=12 {
        let mut new = live.clone();
        new["spec"]["map"][format!("k{n}")] = json!("v");
        let name = format!("w{n}");
        track(Some(&live), &mut new, &schema(), &writer(&name, n));
        live = new;
    }
    let list = live["metadata"]["managedFields"].as_array().expect("list").clone();
    assert_eq!(list.len(), 10);
    assert_eq!(list[0]["manager"], "ancient-changes");
    let ancient = FieldSet::from_fields_v1(&list[0]["fieldsV1"]).expect("valid");
    assert!(ancient.paths().contains(&".spec.map.k3".to_owned()), "{:?}", ancient.paths());
    assert_eq!(list[9]["manager"], "w12");
}

#[test]
fn finalizers_and_owners_of_two_appliers_are_merged() {
    let secret = Schema::of(find("secret").expect("kind"));
    let body = |finalizer: &str, uid: &str| {
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "creationTimestamp": null,
            "finalizers": [finalizer], "ownerReferences": [{"uid": uid, "name": "n", "kind": "K", "apiVersion": "v1"}]}})
    };
    let one = apply(None, &body("a/a", "1"), &secret, &writer("m", 0), false).expect("created");
    let two = apply(Some(&one), &body("b/b", "2"), &secret, &writer("n", 1), false).expect("merged");
    assert_eq!(two["metadata"]["finalizers"], json!(["a/a", "b/b"]));
    assert_eq!(two["metadata"]["ownerReferences"].as_array().map(Vec::len), Some(2));
    assert_eq!(two["metadata"].get("creationTimestamp"), None);
    assert_eq!(
        owners(&two, "Apply")["n"],
        json!({"f:metadata": {"f:finalizers": {"v:\"b/b\"": {}}, "f:ownerReferences": {"k:{\"uid\":\"2\"}": {}}}})
    );
    let mut gone = body("b/b", "2");
    gone["metadata"] = json!({"name": "s"});
    let three = apply(Some(&two), &gone, &secret, &writer("n", 2), false).expect("merged");
    assert_eq!(three["metadata"]["finalizers"], json!(["a/a"]));
    assert_eq!(three["metadata"]["ownerReferences"].as_array().map(Vec::len), Some(1));
}

#[test]
fn secrets_change_key_by_key() {
    let secret = Schema::of(find("secret").expect("kind"));
    let body = |data: Value| json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": data});
    let live = apply(None, &body(json!({"a": "eA==", "b": "eQ=="})), &secret, &writer("m", 0), false).expect("created");
    let next = apply(Some(&live), &body(json!({"b": "eg=="})), &secret, &writer("m", 1), false).expect("changed");
    assert_eq!(next["data"], json!({"b": "eg=="}));
}

#[test]
fn manager_names() {
    assert_eq!(manager_error("kubectl"), None);
    assert!(manager_error(&"x".repeat(129)).is_some());
    assert!(manager_error("a\nb").is_some());
}
