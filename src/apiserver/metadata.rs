//! Rules of `metadata` that all kinds share.

use serde_json::Value;

use super::object::{self, Object};
use super::status::Cause;
use crate::types::selector::{is_label_key, is_label_value};

/// Largest sum of keys and values of annotations.
const MAX_ANNOTATIONS: usize = 256 << 10;

/// Letters of generated names: no vowels, so no words.
const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// A name made from `generateName`.
pub fn generate_name(prefix: &str) -> String {
    let mut end = prefix.len().min(248);
    while !prefix.is_char_boundary(end) {
        end -= 1;
    }
    let mut name = prefix[..end].to_owned();
    for _ in 0..5 {
        name.push(char::from(LETTERS[rand::random_range(0..LETTERS.len())]));
    }
    name
}

/// What is wrong with a name, if anything. `label` asks for a single label of at most 63 characters.
pub fn name_problem(name: &str, label: bool) -> Option<&'static str> {
    let part = |part: &str| {
        let bytes = part.as_bytes();
        let fine = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        bytes.first().is_some_and(fine) && bytes.last().is_some_and(fine) && bytes.iter().all(|b| fine(b) || *b == b'-')
    };
    if label {
        let ok = name.len() <= 63 && part(name);
        (!ok).then_some("must be at most 63 lower case letters, digits or '-', with a letter or digit at both ends")
    } else {
        let ok = name.len() <= 253 && name.split('.').all(part);
        (!ok).then_some(
            "must be at most 253 lower case letters, digits, '-' or '.', with a letter or digit at both ends of \
             each part between dots",
        )
    }
}

/// Drops what means nothing: nulls, empty lists and maps, fields that only the server sets and no longer uses.
pub fn tidy(object: &mut Object) {
    let metadata = object::metadata_mut(object);
    metadata.remove("selfLink");
    metadata.retain(|_, value| match value {
        Value::Null => false,
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
        Value::String(text) => !text.is_empty(),
        _ => true,
    });
}

/// What is wrong with the metadata of an object whose name is already checked or generated.
pub fn problems(object: &Object, label_name: bool) -> Vec<Cause> {
    let mut causes = Vec::new();
    let name = object::name(object);
    if name.is_empty() {
        causes.push(Cause::required("metadata.name", "name or generateName is required"));
    } else if let Some(problem) = name_problem(name, label_name) {
        causes.push(Cause::invalid("metadata.name", &name.into(), problem));
    }
    let metadata = object::metadata(object);
    let field = |name: &str| metadata.and_then(|m| m.get(name));
    for (map, is_label) in [("labels", true), ("annotations", false)] {
        let path = format!("metadata.{map}");
        match field(map) {
            None => {}
            Some(Value::Object(entries)) => {
                pairs(entries, &path, is_label, &mut causes);
            }
            Some(other) => causes.push(wrong_type(&path, other, "map of strings")),
        }
    }
    match field("finalizers") {
        None => {}
        Some(Value::Array(list)) => {
            for (i, item) in list.iter().enumerate() {
                let path = format!("metadata.finalizers[{i}]");
                match item.as_str() {
                    Some(text) if is_label_key(text) => {}
                    _ => causes.push(Cause::invalid(path, item, "must be a qualified name such as example.com/name")),
                }
            }
        }
        Some(other) => causes.push(wrong_type("metadata.finalizers", other, "list")),
    }
    match field("ownerReferences") {
        None => {}
        Some(Value::Array(list)) => owners(list, &mut causes),
        Some(other) => causes.push(wrong_type("metadata.ownerReferences", other, "list")),
    }
    causes
}

fn wrong_type(path: &str, value: &Value, wanted: &str) -> Cause {
    Cause { reason: "FieldValueTypeInvalid", ..Cause::invalid(path, value, &format!("must be a {wanted}")) }
}

fn pairs(entries: &Object, path: &str, labels: bool, causes: &mut Vec<Cause>) {
    let mut size = 0;
    for (key, value) in entries {
        if !is_label_key(key) {
            let detail = "a key is an optional prefix and '/', then at most 63 letters, digits, '-', '_' or '.'";
            causes.push(Cause::invalid(path, &key.as_str().into(), detail));
        }
        match value.as_str() {
            None => causes.push(wrong_type(&format!("{path}.{key}"), value, "string")),
            Some(text) => {
                size += key.len() + text.len();
                if labels && !is_label_value(text) {
                    let detail =
                        "must be at most 63 letters, digits, '-', '_' or '.', with a letter or digit at both ends";
                    causes.push(Cause::invalid(path, value, detail));
                }
            }
        }
    }
    if !labels && size > MAX_ANNOTATIONS {
        let message = format!("Too long: may not be more than {MAX_ANNOTATIONS} bytes");
        causes.push(Cause { reason: "FieldValueTooLong", field: path.to_owned(), message });
    }
}

fn owners(list: &[Value], causes: &mut Vec<Cause>) {
    let mut controllers = 0;
    for (i, owner) in list.iter().enumerate() {
        for field in ["apiVersion", "kind", "name", "uid"] {
            if owner.get(field).and_then(Value::as_str).is_none_or(str::is_empty) {
                let detail = format!("{field} must not be empty");
                let value = owner.get(field).cloned().unwrap_or_else(|| "".into());
                causes.push(Cause::invalid(format!("metadata.ownerReferences[{i}].{field}"), &value, &detail));
            }
        }
        controllers += usize::from(owner.get("controller") == Some(&Value::Bool(true)));
    }
    if controllers > 1 {
        let detail = "only one reference can have controller set to true";
        causes.push(Cause::invalid("metadata.ownerReferences", &Value::Array(list.to_vec()), detail));
    }
}

/// Finalizers that an update adds while the object is being deleted; refused.
pub fn late_finalizers(old: &Object, new: &Object) -> Option<Cause> {
    let before = object::finalizers(old);
    let late: Vec<&str> = object::finalizers(new).into_iter().filter(|f| !before.contains(f)).collect();
    (object::is_terminating(old) && !late.is_empty()).then(|| {
        let detail = format!(
            "no new finalizers can be added if the object is being deleted, found new finalizers {}",
            late.join(", ")
        );
        Cause::forbidden("metadata.finalizers", &detail)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names() {
        for (name, label, fine) in [
            ("a", true, true),
            ("a-b.c", false, true),
            ("a.b", true, false),
            ("Bad_Name", false, false),
            ("-a", false, false),
            ("a-", false, false),
            ("a..b", false, false),
            (&"x".repeat(63), true, true),
            (&"x".repeat(64), true, false),
            (&"x".repeat(253), false, true),
            (&"x".repeat(254), false, false),
        ] {
            assert_eq!(name_problem(name, label).is_none(), fine, "{name}");
        }
    }

    #[test]
    fn generated_names_are_valid() {
        for prefix in ["gen-", &"y".repeat(300)] {
            let name = generate_name(prefix);
            assert!(name_problem(&name, false).is_none(), "{name}");
            assert!(name.starts_with(&prefix[..prefix.len().min(248)]));
        }
    }

    #[test]
    fn fields_that_are_wrong_are_named() {
        let told = |metadata: Value| -> Vec<String> {
            let object = json!({"metadata": metadata}).as_object().cloned().unwrap();
            problems(&object, false).into_iter().map(|c| c.field).collect()
        };
        assert!(told(json!({"name": "a", "labels": {"x": "y"}, "finalizers": ["a.example/b"]})).is_empty());
        assert_eq!(told(json!({})), ["metadata.name"]);
        assert_eq!(told(json!({"name": "a", "labels": {"x": "-", "bad key": ""}})), ["metadata.labels"; 2]);
        assert_eq!(told(json!({"name": "a", "labels": 1})), ["metadata.labels"]);
        assert_eq!(
            told(json!({"name": "a", "annotations": {"k": "x".repeat(MAX_ANNOTATIONS)}})),
            ["metadata.annotations"]
        );
        let owner = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "x"});
        assert_eq!(told(json!({"name": "a", "ownerReferences": [owner]})), ["metadata.ownerReferences[0].uid"]);
    }
}
