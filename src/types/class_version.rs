//! VirtualMachineClass in its newer version, `v1alpha3`: core fractions are texts (`10%`) where the stored version has
//! numbers. All else is the same.

use serde_json::{Map, Value, json};

use super::kinds::GROUP;

/// The newer version.
pub const NEWER: &str = "v1alpha3";

/// Resource name of the kind.
pub const PLURAL: &str = "virtualmachineclasses";

const POLICIES: &str = "/spec/sizingPolicies";

/// A class that is written in the newer version, as it is stored; anything else as it is.
pub fn adopted(object: Value) -> Value {
    let newer = format!("{GROUP}/{NEWER}");
    match object {
        Value::Object(class)
            if class.get("kind").is_some_and(|k| k == "VirtualMachineClass")
                && class.get("apiVersion").is_some_and(|v| *v == newer) =>
        {
            Value::Object(to_stored(class))
        }
        other => other,
    }
}

/// An object as the newer version has it.
pub fn to_newer(object: Map<String, Value>) -> Map<String, Value> {
    changed(object, NEWER, |fraction| match fraction {
        Value::Number(n) => Some(format!("{n}%").into()),
        _ => None,
    })
}

/// An object as it is stored. What is no fraction in the newer version is none after it either, so that the schema
/// refuses it.
pub fn to_stored(object: Map<String, Value>) -> Map<String, Value> {
    changed(object, super::kinds::VERSION, |fraction| match fraction {
        Value::String(text) => percent(text).map(Value::from),
        Value::Number(n) => Some(n.to_string().into()),
        _ => None,
    })
}

/// The number of a fraction from `1%` to `100%`.
fn percent(text: &str) -> Option<i64> {
    let digits = text.strip_suffix('%').filter(|d| !d.starts_with(['0', '+']))?;
    digits.parse().ok().filter(|n| (1..=100).contains(n))
}

fn changed(object: Map<String, Value>, version: &str, change: impl Fn(&Value) -> Option<Value>) -> Map<String, Value> {
    let mut object = Value::Object(object);
    if let Some(slot) = object.get_mut("apiVersion") {
        *slot = format!("{GROUP}/{version}").into();
    }
    for policy in object.pointer_mut(POLICIES).and_then(Value::as_array_mut).into_iter().flatten() {
        let listed = policy.get_mut("coreFractions").and_then(Value::as_array_mut);
        for fraction in listed.into_iter().flatten() {
            if let Some(new) = change(fraction) {
                *fraction = new;
            }
        }
        if let Some(fraction) = policy.get_mut("defaultCoreFraction")
            && let Some(new) = change(fraction)
        {
            *fraction = new;
        }
    }
    match object {
        Value::Object(object) => object,
        _ => Map::new(),
    }
}

/// The newer version's schema, from the stored one's.
pub fn newer_schema(mut document: Value) -> Value {
    let base = "/properties/spec/properties/sizingPolicies/items/properties";
    for (field, pattern) in
        [("coreFractions/items", "^(100|[1-9][0-9]?)%$"), ("defaultCoreFraction", "^(Auto|(100|[1-9][0-9]?)%)$")]
    {
        if let Some(node) = document.pointer_mut(&format!("{base}/{field}")) {
            let description = node.get("description").cloned();
            *node = json!({"type": "string", "pattern": pattern});
            if let Some(description) = description {
                node["description"] = description;
            }
        }
    }
    document
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(version: &str, policies: Value) -> Map<String, Value> {
        let object = json!({"apiVersion": format!("{GROUP}/{version}"), "kind": "VirtualMachineClass",
            "spec": {"cpu": {"type": "Host"}, "sizingPolicies": policies}});
        object.as_object().cloned().unwrap()
    }

    #[test]
    fn there_and_back() {
        let newer = class(
            "v1alpha3",
            json!([{"coreFractions": ["5%", "100%"], "defaultCoreFraction": "5%"},
            {"defaultCoreFraction": "Auto"}, {}]),
        );
        let stored = class(
            "v1alpha2",
            json!([{"coreFractions": [5, 100], "defaultCoreFraction": 5},
            {"defaultCoreFraction": "Auto"}, {}]),
        );
        assert_eq!(to_stored(newer.clone()), stored);
        assert_eq!(to_newer(stored), newer);
        for strange in [json!({"spec": []}), json!({}), json!({"spec": {"sizingPolicies": [1, {"coreFractions": 1}]}})]
        {
            let object = strange.as_object().cloned().unwrap();
            assert_eq!(Value::Object(to_stored(to_newer(object))), strange);
        }
    }

    #[test]
    fn what_is_no_fraction_stays_none() {
        for wrong in [json!("5"), json!("0%"), json!("05%"), json!("101%"), json!("+5%"), json!("x"), json!(5)] {
            let stored = to_stored(class("v1alpha3", json!([{"coreFractions": [wrong]}])));
            assert!(stored["spec"]["sizingPolicies"][0]["coreFractions"][0].is_string(), "{wrong}");
        }
    }
}
