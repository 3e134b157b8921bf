use super::*;
use serde_json::json;

#[test]
fn label_selectors_match_as_in_kubernetes() {
    let object = json!({"metadata": {"labels": {"tier": "db", "zone": "a", "empty": "", "n": "7"}}});
    for (text, expected) in [
        ("", true),
        ("tier=db", true),
        ("tier==db", true),
        (" tier = db , zone=a ", true),
        ("tier=web", false),
        ("tier!=web", true),
        ("absent!=web", true),
        ("absent=web", false),
        ("tier in (db,web)", true),
        ("tier in (web)", false),
        ("tier notin (web)", true),
        ("tier notin (db, web)", false),
        ("absent notin (x)", true),
        ("absent in (x)", false),
        ("tier", true),
        ("absent", false),
        ("!absent", true),
        ("!tier", false),
        ("tier,zone in (a),!absent", true),
        ("empty=", true),
        ("empty in ()", true),
        ("n>6", true),
        ("n<7", false),
        ("tier>1", false),
    ] {
        let selector = LabelSelector::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"));
        assert_eq!(selector.matches_object(&object), expected, "{text}");
    }
}

#[test]
fn malformed_label_selectors_say_where() {
    for (text, part) in [
        ("tier in db", "expected '('"),
        ("tier in (db", "expected ','"),
        ("tier is db", "\"is\""),
        ("=x", "label key"),
        ("a=b,", "label key"),
        ("a=b c", "expected ','"),
        ("a/b/c=d", "not a valid label key"),
        ("a=b/c", "not a valid label value"),
        ("n>x", "integer"),
        ("(", "label key"),
    ] {
        let error = LabelSelector::parse(text).expect_err(text).to_string();
        assert!(error.contains(part), "{text}: {error}");
    }
}

#[test]
fn object_form_matches() {
    let object = json!({"metadata": {"labels": {"a": "1", "b": "2"}}});
    let selector = |v: Value| LabelSelector::from_object(&v);
    let fits = |v: Value| selector(v).expect("valid").matches_object(&object);
    assert!(fits(json!({})));
    assert!(fits(json!({"matchLabels": {"a": "1"}})));
    assert!(!fits(json!({"matchLabels": {"a": "2"}})));
    assert!(fits(json!({"matchExpressions": [{"key": "b", "operator": "In", "values": ["2"]}]})));
    assert!(!fits(json!({"matchExpressions": [{"key": "b", "operator": "DoesNotExist"}]})));
    assert!(selector(json!({"matchExpressions": [{"key": "b", "operator": "Gt", "values": ["2"]}]})).is_err());
    assert!(selector(json!({"matchExpressions": [{"key": "b", "operator": "In"}]})).is_err());
    assert!(selector(json!({"matchLabels": {"a": 1}})).is_err());
}

#[test]
fn node_selectors_use_any_term_and_all_expressions() {
    let node = json!({"metadata": {"name": "n1", "labels": {"cpu": "8", "disk": "ssd"}}});
    let term = |v: Value| node_selector_matches(&json!({"nodeSelectorTerms": v}), &node).expect("valid");
    assert!(term(json!([{"matchExpressions": [{"key": "cpu", "operator": "Gt", "values": ["4"]}]}])));
    assert!(!term(json!([{"matchExpressions": [{"key": "cpu", "operator": "Lt", "values": ["8"]}]}])));
    assert!(!term(json!([{}])));
    assert!(!term(json!([])));
    assert!(term(json!([{}, {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]}])));
    let bad = json!({"nodeSelectorTerms": [{"matchFields": [{"key": "spec.x", "operator": "Exists"}]}]});
    assert!(node_selector_matches(&bad, &node).is_err());
}

#[test]
fn field_selectors() {
    let event = json!({"metadata": {"name": "e", "namespace": "d"}, "involvedObject": {"name": "a,b", "uid": "u"},
                       "reason": "Started", "source": {"component": "host"}});
    let fields = selectable_fields("", "Event");
    let fits = |text: &str| FieldSelector::parse(text, fields).map(|s| s.matches_object(&event));
    assert_eq!(fits(""), Ok(true));
    assert_eq!(fits("metadata.name=e,metadata.namespace==d"), Ok(true));
    assert_eq!(fits("metadata.name!=e"), Ok(false));
    assert_eq!(fits(r"involvedObject.name=a\,b"), Ok(true));
    assert_eq!(fits("source=host,reason!=Stopped"), Ok(true));
    assert_eq!(fits("type="), Ok(true));
    assert_eq!(fits("spec.foo=bar"), Err(FieldSelectorError::Unsupported("spec.foo".into())));
    assert!(matches!(fits("metadata.name"), Err(FieldSelectorError::Syntax(..))));
    assert!(matches!(fits(r"metadata.name=a\x"), Err(FieldSelectorError::Syntax(..))));
    let node = FieldSelector::parse("spec.unschedulable=false", selectable_fields("", "Node")).expect("valid");
    assert!(node.matches_object(&json!({"spec": {}})));
    assert_eq!(FieldSelector::parse("metadata.name=x", &[]).expect("valid").name(), Some("x"));
}

#[test]
fn label_syntax() {
    for key in ["a", "a.b/c", "example.com/some_Name.x", "A-b"] {
        assert!(is_label_key(key), "{key}");
    }
    for key in ["", "/a", "a/", "a/b/c", "-a", "a-", "Example.com/a", "a b", "é"] {
        assert!(!is_label_key(key), "{key}");
    }
    assert!(is_label_value(""));
    assert!(is_label_value(&"a".repeat(63)));
    assert!(!is_label_value(&"a".repeat(64)));
}
