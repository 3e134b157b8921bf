//! Properties of apply that hold for any objects.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::fields::FieldSet;
use super::*;
use crate::types::schema::Schema;

fn schema() -> Schema {
    let text = json!({"type": "string"});
    Schema::custom(&json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
        "a": text,
        "b": {"type": "object", "properties": {"x": text, "y": text}},
        "map": {"type": "object", "additionalProperties": text},
        "set": {"type": "array", "x-kubernetes-list-type": "set", "items": text},
        "keyed": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
            "items": {"type": "object", "properties": {"k": text, "v": text}}},
        "atomic": {"type": "array", "items": text},
    }}}}))
}

fn short() -> impl Strategy<Value = Value> {
    prop_oneof![Just(json!("p")), Just(json!("q")), Just(json!("r"))]
}

fn distinct() -> impl Strategy<Value = Vec<Value>> {
    proptest::sample::subsequence(vec![json!("p"), json!("q"), json!("r")], 0..=3).prop_shuffle()
}

fn spec() -> impl Strategy<Value = Value> {
    let keyed = distinct().prop_flat_map(|keys| {
        keys.into_iter().map(|k| short().prop_map(move |v| json!({"k": k.clone(), "v": v}))).collect::<Vec<_>>()
    });
    let maybe = |s: BoxedStrategy<Value>| proptest::option::of(s).boxed();
    (
        maybe(short().boxed()),
        maybe(
            (short(), proptest::option::of(short()))
                .prop_map(|(x, y)| match y {
                    Some(y) => json!({"x": x, "y": y}),
                    None => json!({"x": x}),
                })
                .boxed(),
        ),
        maybe(proptest::collection::hash_map("[kl]", short(), 0..3).prop_map(|m| json!(m)).boxed()),
        maybe(distinct().prop_map(Value::Array).boxed()),
        maybe(keyed.prop_map(Value::Array).boxed()),
        maybe(distinct().prop_map(Value::Array).boxed()),
    )
        .prop_map(|(a, b, map, set, keyed, atomic)| {
            let fields = [("a", a), ("b", b), ("map", map), ("set", set), ("keyed", keyed), ("atomic", atomic)];
            Value::Object(fields.into_iter().filter_map(|(n, v)| Some((n.to_owned(), v?))).collect())
        })
}

fn object(spec: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "X", "metadata": {"name": "x"}, "spec": spec})
}

fn writer(manager: &str, second: i64) -> Writer<'_> {
    let now = Timestamp::from_second(1_767_225_600 + second).expect("in range");
    Writer { manager, subresource: None, api_version: "v1", status_apart: false, now }
}

fn owned(object: &Value, manager: &str) -> FieldSet {
    let entries = managed::owners(object);
    entries.into_iter().find(|e| e.manager == manager).map(|e| e.fields).unwrap_or_default()
}

proptest! {
    /// Whatever happened before: a forced apply makes its values true, is owned, leaves others' fields that it does not
    /// touch, and repeating it changes nothing.
    #[test]
    fn a_forced_apply_holds_and_repeats(first in spec(), second in spec(), third in spec(), edit in spec()) {
        let schema = schema();
        let one = apply(None, &object(first), &schema, &writer("m", 0), true).expect("created");
        let two = apply(Some(&one), &object(second.clone()), &schema, &writer("n", 1), true).expect("applied");
        let mut edited = two.clone();
        json_patch::merge(&mut edited, &json!({"spec": edit}));
        track(Some(&two), &mut edited, &schema, &writer("edit", 2));
        let three = apply(Some(&edited), &object(third.clone()), &schema, &writer("m", 3), true).expect("applied");

        let wanted = walk::field_set(Some(&schema), &object(third.clone()));
        // A container that is applied empty may have got fields from others.
        let mut is = walk::field_set(Some(&schema), &without_empty_lists(&three));
        mark(&mut is);
        prop_assert_eq!(wanted.common(&is), wanted.clone(), "every applied field is there");
        let merged = walk::merge(Some(&schema), Some(&three), &object(third.clone())).expect("merges");
        let difference = walk::difference(Some(&schema), Some(&without_owners(&three)), Some(&without_owners(&merged)));
        prop_assert!(difference.set().is_empty(), "applied values hold");
        prop_assert_eq!(owned(&three, "m"), writer("m", 0).owned(wanted));

        let untouched = owned(&edited, "n");
        let kept = prefixes(&is);
        for path in owned(&three, "n").paths() {
            prop_assert!(untouched.paths().contains(&path) && kept.contains(&path), "{}", path);
        }

        let again = apply(Some(&three), &object(third), &schema, &writer("m", 99), false).expect("no conflict with itself");
        prop_assert_eq!(again, three);
    }

    /// Nobody owns a field that is not there.
    #[test]
    fn owners_own_what_exists(first in spec(), second in spec(), third in spec()) {
        let schema = schema();
        let mut live = object(first);
        track(None, &mut live, &schema, &writer("a", 0));
        let live = apply(Some(&live), &object(second), &schema, &writer("b", 1), true).expect("applied");
        let live = apply(Some(&live), &object(third), &schema, &writer("b", 2), true).expect("applied");
        // Containers may be owned themselves, so every prefix counts as existing.
        let existing = prefixes(&walk::field_set(Some(&schema), &live));
        for entry in managed::owners(&live) {
            for path in entry.fields.paths() {
                prop_assert!(existing.contains(&path) || !live.to_string().is_empty() && exists(&live, &path), "{}", path);
            }
        }
    }

    /// No conflict without another owner, and none about fields that already have the wanted value.
    #[test]
    fn conflicts_are_about_foreign_fields(first in spec(), second in spec()) {
        let schema = schema();
        let live = apply(None, &object(first), &schema, &writer("m", 0), false).expect("created");
        match apply(Some(&live), &object(second), &schema, &writer("n", 1), false) {
            Ok(_) => {}
            Err(ApplyError::Conflicts(conflicts)) => {
                let foreign = owned(&live, "m").paths();
                for conflict in conflicts {
                    prop_assert!(foreign.contains(&conflict.path), "{}", conflict.path);
                }
            }
            Err(other) => prop_assert!(false, "{}", other),
        }
    }
}

/// An empty list that merges item by item is no field, so what holds nothing else is an empty container.
fn without_empty_lists(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) {
        spec.retain(|name, value| !(matches!(name.as_str(), "keyed" | "set") && *value == json!([])));
    }
    object
}

fn prefixes(set: &FieldSet) -> Vec<String> {
    let mut all = set.clone();
    mark(&mut all);
    all.paths()
}

/// Makes every prefix of a path a path.
fn mark(set: &mut FieldSet) {
    set.member = true;
    set.children.values_mut().for_each(mark);
}

/// Whether a plain dotted path (no list items) leads to something, be it an empty list.
fn exists(object: &Value, path: &str) -> bool {
    path.split('.').filter(|p| !p.is_empty()).try_fold(object, |v, name| v.get(name)).is_some()
}
