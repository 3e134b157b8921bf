//! The least JSON merge patch (RFC 7386) that makes one object of another. Pure.

use serde_json::{Map, Value};

/// A place in an object: keys from the root.
pub type Path = Vec<String>;

/// The patch that turns `base` into `edited`: changed paths only, arrays whole, removed keys as null; an empty
/// object if nothing changed. Neither side may hold nulls in objects ([`without_nulls`]): they cannot be patched in.
pub fn merge_patch(base: &Value, edited: &Value) -> Value {
    difference(base, edited).unwrap_or_else(|| Value::Object(Map::new()))
}

fn difference(base: &Value, edited: &Value) -> Option<Value> {
    let (Value::Object(old), Value::Object(new)) = (base, edited) else {
        return (base != edited).then(|| edited.clone());
    };
    let mut patch = Map::new();
    for key in old.keys().filter(|key| !new.contains_key(*key)) {
        patch.insert(key.clone(), Value::Null);
    }
    for (key, value) in new {
        let changed = match old.get(key) {
            // A merge patch puts objects into objects: what replaces a list or a scalar starts from nothing, and
            // there only the new content counts.
            Some(before) => difference(before, value),
            None => Some(value.clone()),
        };
        if let Some(change) = changed {
            patch.insert(key.clone(), change);
        }
    }
    (!patch.is_empty()).then_some(Value::Object(patch))
}

/// `value` without keys whose value is null: in this API absent and null are the same.
pub fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            Value::Object(map.into_iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k, without_nulls(v))).collect())
        }
        Value::Array(list) => Value::Array(list.into_iter().map(without_nulls).collect()),
        other => other,
    }
}

/// The places a patch sets or removes, deepest ones only. An object that is new as a whole counts leaf by leaf.
pub fn touched(patch: &Value) -> Vec<Path> {
    fn walk(value: &Value, path: &mut Path, out: &mut Vec<Path>) {
        match value.as_object().filter(|map| !map.is_empty()) {
            Some(map) => {
                for (key, value) in map {
                    path.push(key.clone());
                    walk(value, path, out);
                    path.pop();
                }
            }
            None => out.push(path.clone()),
        }
    }
    let mut out = Vec::new();
    if patch.as_object().is_some_and(|map| !map.is_empty()) {
        walk(patch, &mut Path::new(), &mut out);
    }
    out
}

/// The value at a place.
pub fn at<'a>(value: &'a Value, path: &[String]) -> Option<&'a Value> {
    path.iter().try_fold(value, |value, key| value.as_object()?.get(key))
}

/// A place as people write it: `spec.cpu.cores`, `metadata.labels[app.kubernetes.io/name]`.
pub fn dotted(path: &[String]) -> String {
    let mut out = String::new();
    for key in path {
        if key.contains(['.', '[', ']']) {
            out.push_str(&format!("[{key}]"));
        } else {
            if !out.is_empty() {
                out.push('.');
            }
            out.push_str(key);
        }
    }
    out
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// Any JSON without nulls in objects, with keys that often coincide.
    pub fn json_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<bool>().prop_map(Value::from),
            (-3i64..4).prop_map(Value::from),
            "[a-c ]{0,3}".prop_map(Value::from),
            Just(json!([])),
            Just(json!({})),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Value::Array),
                prop::collection::vec(("[a-d]", inner), 0..4).prop_map(|pairs| pairs.into_iter().collect()),
            ]
        })
    }

    pub fn json_object() -> impl Strategy<Value = Value> {
        prop::collection::vec(("[a-e]", json_value()), 0..5).prop_map(|pairs| pairs.into_iter().collect())
    }

    proptest! {
        #[test]
        fn merging_the_patch_gives_the_edit(base in json_object(), edited in json_object()) {
            let mut merged = base.clone();
            json_patch::merge(&mut merged, &merge_patch(&base, &edited));
            prop_assert_eq!(merged, edited);
        }

        #[test]
        fn no_change_is_an_empty_patch(base in json_object()) {
            prop_assert_eq!(merge_patch(&base, &base), json!({}));
        }

        #[test]
        fn every_touched_place_differs(base in json_object(), edited in json_object()) {
            for path in touched(&merge_patch(&base, &edited)) {
                prop_assert_ne!(at(&base, &path), at(&edited, &path), "{}", dotted(&path));
            }
        }
    }

    #[test]
    fn only_what_changed_is_sent() {
        let base = json!({"spec": {"cpu": {"cores": 1, "coreFraction": "10%"}, "refs": [1, 2]}, "x": 1});
        let edited = json!({"spec": {"cpu": {"cores": 2, "coreFraction": "10%"}, "refs": [1]}});
        let patch = merge_patch(&base, &edited);
        assert_eq!(patch, json!({"spec": {"cpu": {"cores": 2}, "refs": [1]}, "x": null}));
        let paths: Vec<String> = touched(&patch).iter().map(|p| dotted(p)).collect();
        assert_eq!(paths, ["x", "spec.cpu.cores", "spec.refs"]);
        assert_eq!(dotted(&["metadata".into(), "labels".into(), "a.b/c".into()]), "metadata.labels[a.b/c]");
    }

    #[test]
    fn null_is_absent() {
        assert_eq!(without_nulls(json!({"a": null, "b": [{"c": null}, null]})), json!({"b": [{}, null]}));
    }
}
