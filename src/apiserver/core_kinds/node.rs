//! Nodes.

use std::collections::HashSet;

use serde_json::{Value, json};

use crate::apiserver::object::Object;
use crate::apiserver::status::Cause;
use crate::types::selector::{is_label_key, is_label_value};

const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];

/// Checks taints and what does not change once it is set.
pub fn check(old: Option<&Object>, new: &Object) -> Vec<Cause> {
    let spec = |object: &Object, field: &str| object.get("spec").and_then(|s| s.get(field)).cloned();
    let mut causes = Vec::new();
    let taints = spec(new, "taints").unwrap_or_default();
    let mut seen = HashSet::new();
    for (n, taint) in taints.as_array().into_iter().flatten().enumerate() {
        let text = |field: &str| taint.get(field).and_then(Value::as_str).unwrap_or_default();
        let (key, value, effect) = (text("key"), text("value"), text("effect"));
        let at = |field: &str| format!("spec.taints[{n}].{field}");
        if !is_label_key(key) {
            causes.push(Cause::invalid(at("key"), &key.into(), "not a valid label key"));
        }
        if !is_label_value(value) {
            causes.push(Cause::invalid(at("value"), &value.into(), "not a valid label value"));
        }
        if effect.is_empty() {
            causes.push(Cause::required(at("effect"), ""));
        } else if !EFFECTS.contains(&effect) {
            causes.push(Cause::not_supported(at("effect"), effect, &EFFECTS));
        }
        if !seen.insert((key, effect)) {
            let message = format!("Duplicate value: {}: taints must be unique by key and effect pair", json!(taint));
            causes.push(Cause { reason: "FieldValueDuplicate", field: format!("spec.taints[{n}]"), message });
        }
    }
    if let Some(before) = old.and_then(|old| spec(old, "providerID")).filter(|id| *id != "") {
        let after = spec(new, "providerID").unwrap_or_default();
        if after != before {
            causes
                .push(Cause::forbidden("spec.providerID", "node updates may not change providerID except from empty"));
        }
    }
    causes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taints() {
        let fields = |taints: Value| -> Vec<String> {
            let node = json!({"spec": {"taints": taints}});
            check(None, node.as_object().unwrap()).into_iter().map(|c| c.field).collect()
        };
        assert!(fields(json!(null)).is_empty());
        assert!(
            fields(json!([{"key": "a/b", "effect": "NoSchedule"}, {"key": "a/b", "effect": "NoExecute"}])).is_empty()
        );
        assert_eq!(fields(json!([{"key": "a b", "effect": "Never"}])), ["spec.taints[0].key", "spec.taints[0].effect"]);
        let one = json!({"key": "a", "effect": "NoSchedule"});
        assert_eq!(fields(json!([one, one])), ["spec.taints[1]"]);
        let node = |id: &str| json!({"spec": {"providerID": id}}).as_object().cloned().unwrap();
        assert_eq!(check(Some(&node("a")), &node("b")).len(), 1);
        assert!(check(Some(&node("")), &node("b")).is_empty());
    }
}
