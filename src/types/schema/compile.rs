//! From an OpenAPI schema document to the compiled tree.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, OnceLock, Weak};

use parking_lot::Mutex;
use serde_json::Value;

use super::{Checks, ListType, Pattern, Schema, Type};

/// Which reading of the document applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rules {
    /// A custom kind: everything counts; an object without properties has none.
    Custom,
    /// A built-in kind: types count, `required` does not (Kubernetes checks these kinds by code), and an object without
    /// properties is free-form.
    Core,
}

/// Compiles one node and all below.
pub(super) fn compile(document: &Value, rules: Rules) -> Schema {
    let get = |name: &str| document.get(name);
    let flag = |name: &str| get(name) == Some(&Value::Bool(true));
    let text = |name: &str| get(name).and_then(Value::as_str);
    let mut properties: Vec<(String, Schema)> = get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .map(|(name, child)| (name.clone(), compile(child, rules)))
        .collect();
    properties.sort_by(|a, b| a.0.cmp(&b.0));
    let additional = match get("additionalProperties") {
        Some(child @ Value::Object(_)) => Some(Box::new(compile(child, rules))),
        _ => None,
    };
    let type_ = match text("type") {
        _ if flag("x-kubernetes-int-or-string") => Type::IntOrString,
        Some("object") => Type::Object,
        Some("array") => Type::Array,
        Some("string") => Type::Text,
        Some("integer") => Type::Integer,
        Some("number") => Type::Number,
        Some("boolean") => Type::Boolean,
        _ if text("format") == Some("int-or-string") => Type::IntOrString,
        _ => Type::Any,
    };
    let free = rules == Rules::Core && type_ == Type::Object && properties.is_empty() && additional.is_none();
    let open = matches!(get("additionalProperties"), Some(Value::Bool(true)));
    let items = get("items").filter(|i| i.is_object()).map(|child| Box::new(compile(child, rules)));
    let list = match text("x-kubernetes-list-type") {
        Some("set") => ListType::Set,
        Some("map") => ListType::Map(strings(get("x-kubernetes-list-map-keys"))),
        _ => ListType::Atomic,
    };
    Schema {
        type_,
        nullable: flag("nullable"),
        preserve: flag("x-kubernetes-preserve-unknown-fields") || open || free,
        atomic_map: text("x-kubernetes-map-type") == Some("atomic"),
        implicit: rules == Rules::Core && type_ == Type::Object && !properties.is_empty(),
        list,
        properties,
        additional,
        items,
        default: get("default").cloned(),
        checks: checks(document, rules),
    }
}

fn checks(document: &Value, rules: Rules) -> Option<Box<Checks>> {
    const WORDS: [&str; 20] = [
        "required",
        "enum",
        "minimum",
        "maximum",
        "exclusiveMinimum",
        "exclusiveMaximum",
        "multipleOf",
        "minLength",
        "maxLength",
        "minItems",
        "maxItems",
        "minProperties",
        "maxProperties",
        "uniqueItems",
        "pattern",
        "format",
        "allOf",
        "anyOf",
        "oneOf",
        "not",
    ];
    if !WORDS.iter().any(|word| document.get(word).is_some()) {
        return None;
    }
    let get = |name: &str| document.get(name);
    let number = |name: &str| get(name).and_then(Value::as_f64);
    let count = |name: &str| get(name).and_then(Value::as_u64);
    let flag = |name: &str| get(name) == Some(&Value::Bool(true));
    let several = |name: &str| -> Vec<Schema> {
        let list = get(name).and_then(Value::as_array);
        list.into_iter().flatten().map(|child| compile(child, rules)).collect()
    };
    // JSON Schema 2019 gives the exclusive bounds as numbers, OpenAPI 3.0 as flags.
    let (low, high) = (number("exclusiveMinimum"), number("exclusiveMaximum"));
    Some(Box::new(Checks {
        required: if rules == Rules::Core { Vec::new() } else { strings(get("required")) },
        allowed: get("enum").and_then(Value::as_array).cloned().unwrap_or_default(),
        minimum: low.or_else(|| number("minimum")),
        maximum: high.or_else(|| number("maximum")),
        exclusive_minimum: low.is_some() || flag("exclusiveMinimum"),
        exclusive_maximum: high.is_some() || flag("exclusiveMaximum"),
        multiple_of: number("multipleOf"),
        min_length: count("minLength"),
        max_length: count("maxLength"),
        min_items: count("minItems"),
        max_items: count("maxItems"),
        min_properties: count("minProperties"),
        max_properties: count("maxProperties"),
        unique_items: flag("uniqueItems"),
        pattern: get("pattern").and_then(Value::as_str).map(intern),
        format: get("format").and_then(Value::as_str).map(str::to_owned),
        all_of: several("allOf"),
        any_of: several("anyOf"),
        one_of: several("oneOf"),
        not: get("not").filter(|n| n.is_object()).map(|child| Box::new(compile(child, rules))),
    }))
}

fn strings(list: Option<&Value>) -> Vec<String> {
    let list = list.and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// One shared pattern per text: the same few patterns occur all over the definitions, and a compiled one is large.
fn intern(text: &str) -> Arc<Pattern> {
    static PATTERNS: LazyLock<Mutex<HashMap<String, Weak<Pattern>>>> = LazyLock::new(Mutex::default);
    let mut known = PATTERNS.lock();
    if let Some(pattern) = known.get(text).and_then(Weak::upgrade) {
        return pattern;
    }
    let pattern = Arc::new(Pattern { text: text.to_owned(), regex: OnceLock::new() });
    known.insert(text.to_owned(), Arc::downgrade(&pattern));
    pattern
}
