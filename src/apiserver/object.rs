//! Objects as JSON: their metadata, and their encoding for the store.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::store::{Body, Entry};

/// A whole object.
pub type Object = Map<String, Value>;

/// Now, as `metadata.creationTimestamp` has it.
pub fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// The object of a stored entry. Anything but an object was refused when it was written.
pub fn parse(entry: &Entry) -> Object {
    serde_json::from_slice(&entry.bytes).unwrap_or_default()
}

/// Encodes an object for the store: the resourceVersion is left out for the store to fill in.
pub fn encode(object: &Object) -> Body {
    let mut head = b"{".to_vec();
    for name in ["apiVersion", "kind"] {
        if let Some(value) = object.get(name) {
            member(&mut head, name, value);
            head.push(b',');
        }
    }
    head.extend_from_slice(b"\"metadata\":{\"resourceVersion\":\"");
    let mut tail = b"\"".to_vec();
    for (name, value) in metadata(object).into_iter().flatten().filter(|(name, _)| *name != "resourceVersion") {
        tail.push(b',');
        member(&mut tail, name, value);
    }
    tail.push(b'}');
    for (name, value) in object.iter().filter(|(n, _)| !matches!(n.as_str(), "apiVersion" | "kind" | "metadata")) {
        tail.push(b',');
        member(&mut tail, name, value);
    }
    tail.push(b'}');
    Body { head, tail }
}

fn member(out: &mut Vec<u8>, name: &str, value: &Value) {
    // Writing to memory does not fail, and every key is a string.
    serde_json::to_writer(&mut *out, name).ok();
    out.push(b':');
    serde_json::to_writer(out, value).ok();
}

/// The metadata.
pub fn metadata(object: &Object) -> Option<&Map<String, Value>> {
    object.get("metadata").and_then(Value::as_object)
}

/// The metadata, made if it is missing or not a map.
pub fn metadata_mut(object: &mut Object) -> &mut Map<String, Value> {
    if !object.get("metadata").is_some_and(Value::is_object) {
        object.insert("metadata".to_owned(), Value::Object(Map::new()));
    }
    #[expect(clippy::expect_used, reason = "inserted just above if it was not there")]
    object.get_mut("metadata").and_then(Value::as_object_mut).expect("metadata is a map")
}

/// A string of the metadata; empty when it is missing.
pub fn text<'a>(object: &'a Object, name: &str) -> &'a str {
    metadata(object).and_then(|m| m.get(name)).and_then(Value::as_str).unwrap_or("")
}

/// `metadata.name`.
pub fn name(object: &Object) -> &str {
    text(object, "name")
}

/// The finalizers.
pub fn finalizers(object: &Object) -> Vec<&str> {
    let list = metadata(object).and_then(|m| m.get("finalizers")).and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str).collect()
}

/// Whether it is being deleted.
pub fn is_terminating(object: &Object) -> bool {
    metadata(object).is_some_and(|m| m.get("deletionTimestamp").is_some_and(|t| !t.is_null()))
}

/// Whether nothing holds an object that is being deleted any longer.
pub fn may_vanish(object: &Object) -> bool {
    let namespace_held = object
        .get("spec")
        .filter(|_| object.get("kind").and_then(Value::as_str) == Some("Namespace"))
        .and_then(|s| s.get("finalizers"))
        .and_then(Value::as_array)
        .is_some_and(|f| !f.is_empty());
    finalizers(object).is_empty() && !namespace_held
}

/// The part of metadata that selectors, garbage collection and namespaces look at.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Head {
    /// Labels.
    pub labels: Option<Map<String, Value>>,
    /// UID.
    pub uid: String,
    /// Finalizers.
    pub finalizers: Option<Vec<String>>,
    /// Owners.
    pub owner_references: Option<Vec<Owner>>,
    /// Since when it is being deleted.
    pub deletion_timestamp: Option<String>,
}

/// One owner.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Owner {
    /// UID of the owner.
    pub uid: String,
    /// Its foreground deletion waits for this dependent.
    pub block_owner_deletion: Option<bool>,
}

/// Reads the head without building the rest.
pub fn head(bytes: &Bytes) -> Head {
    #[derive(Deserialize, Default)]
    struct Shell {
        #[serde(default)]
        metadata: Head,
    }
    serde_json::from_slice::<Shell>(bytes).unwrap_or_default().metadata
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::store::Key;

    #[test]
    fn an_encoded_object_is_the_object_with_its_version() {
        let value = json!({
            "metadata": {"name": "a", "resourceVersion": "7", "labels": {"resourceVersion": "x\"y"}},
            "kind": "ConfigMap", "apiVersion": "v1", "data": {"k": "\u{2028}", "n": 9007199254740993i64}
        });
        let object = value.as_object().cloned().unwrap();
        let body = encode(&object);
        let entry = Entry { key: Key::new("configmaps", "", "a"), revision: 12, bytes: body.render(12) };
        let mut want = value.clone();
        want["metadata"]["resourceVersion"] = "12".into();
        assert_eq!(Value::Object(parse(&entry)), want);
        assert!(body.is(&entry));
        assert_eq!(head(&entry.bytes).labels.unwrap()["resourceVersion"], "x\"y");
    }

    #[test]
    fn an_object_without_metadata_gets_some() {
        let entry = Entry { key: Key::new("c", "", "a"), revision: 1, bytes: encode(&Object::new()).render(1) };
        assert_eq!(Value::Object(parse(&entry)), json!({"metadata": {"resourceVersion": "1"}}));
    }
}
