//! Patches: what kinds of them there are, and what they do to an object (k8s-api.md 1.4).

use axum::body::Bytes;
use axum::http::HeaderMap;
use serde_json::Value;

use super::decode::{self, Decoded, MAX_DEPTH};
use super::media;
use super::object::Object;
use super::status::Failure;
use super::strategic;
use crate::types::kinds::KindInfo;
use crate::types::schema::Schema;

/// Most operations of a JSON patch.
const MAX_OPERATIONS: usize = 10_000;
/// Most bytes that the copies of a JSON patch may make, about: each could double the object.
const MAX_COPIED: usize = 3 << 20;

const MERGE: &str = "application/merge-patch+json";
const JSON: &str = "application/json-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";
const APPLY: &str = "application/apply-patch+yaml";

/// A patch.
#[derive(Debug, Clone, PartialEq)]
pub enum Patch {
    /// RFC 7386.
    Merge(Object),
    /// RFC 6902.
    Json(json_patch::Patch),
    /// Kubernetes' own, for built-in kinds.
    Strategic(Object),
    /// Server-side apply of these fields.
    Apply(Decoded),
}

impl Patch {
    /// Reads the patch of a request; also gives duplicate keys.
    ///
    /// # Errors
    /// 415 for a type that the kind does not take, 400 for a body that is not of the type.
    pub fn of(kind: &KindInfo, headers: &HeaderMap, body: &Bytes) -> Result<(Self, Vec<String>), Failure> {
        let given = media::content_type(headers);
        match given.as_str() {
            MERGE => decode::json(body).map(|d| (Self::Merge(d.object), d.duplicates)),
            JSON => json(body).map(|patch| (Self::Json(patch), Vec::new())),
            STRATEGIC if kind.crd.is_none() => decode::json(body).map(|d| (Self::Strategic(d.object), d.duplicates)),
            APPLY => decode::yaml(body).map(|d| (Self::Apply(d), Vec::new())),
            _ if kind.crd.is_none() => Err(Failure::unsupported_media_type(&given, &[JSON, MERGE, STRATEGIC, APPLY])),
            _ => Err(Failure::unsupported_media_type(&given, &[JSON, MERGE, APPLY])),
        }
    }

    /// The object after the patch. Not for [`Patch::Apply`], which needs to know who owns what.
    ///
    /// # Errors
    /// 422 when a JSON patch does not fit the object, 413 when it blows it up, 400 when the result is no object.
    pub fn apply(&self, kind: &KindInfo, old: &Object) -> Result<Object, Failure> {
        let mut document = Value::Object(old.clone());
        match self {
            Self::Merge(patch) => json_patch::merge(&mut document, &Value::Object(patch.clone())),
            Self::Json(patch) => operate(&mut document, patch).map_err(|e| match e {
                Unfit::Large(_) => Failure::too_large(MAX_COPIED),
                Unfit::Patch(_) | Unfit::Deep(_) => Failure::unprocessable(format!(
                    "the server rejected our request due to an error in our request: {e}"
                )),
            })?,
            Self::Strategic(patch) => {
                document =
                    strategic::merge(&Schema::of(kind), old, patch).map_err(|e| Failure::bad_request(e.to_string()))?;
            }
            Self::Apply(_) => return Err(Failure::internal("an apply is not a plain patch")),
        }
        match document {
            Value::Object(object) => Ok(object),
            _ => Err(Failure::bad_request("the patched document is not an object")),
        }
    }
}

/// Why the operations of a JSON patch are not done.
#[derive(Debug, thiserror::Error)]
enum Unfit {
    #[error("{0}")]
    Patch(#[from] json_patch::PatchError),
    #[error("operation {0} nests deeper than {MAX_DEPTH}")]
    Deep(usize),
    #[error("operation {0} copies more than {MAX_COPIED} bytes in all")]
    Large(usize),
}

/// Does the operations one after another; after an error the document is half done.
fn operate(document: &mut Value, patch: &json_patch::Patch) -> Result<(), Unfit> {
    use json_patch::PatchOperation::{Add, Copy, Move, Remove, Replace, Test};
    let mut copied = 0;
    for (index, operation) in patch.0.iter().enumerate() {
        // How deep it goes, so that no sum of small steps makes an object that cannot be walked.
        let deepest = match operation {
            Add(add) => add.path.count() + depth(&add.value),
            Replace(replace) => replace.path.count() + depth(&replace.value),
            Move(step) => step.path.count() + document.pointer(step.from.as_str()).map_or(0, depth),
            Copy(step) => {
                let source = document.pointer(step.from.as_str());
                copied += source.map_or(0, weight);
                step.path.count() + source.map_or(0, depth)
            }
            // Kubernetes lets a test for null pass where the field is absent; controllers that add the first finalizer
            // begin with it.
            Test(test) if test.value.is_null() && lacks(document, test.path.as_str()) => continue,
            Test(_) | Remove(_) => 0,
        };
        if deepest > MAX_DEPTH {
            return Err(Unfit::Deep(index));
        }
        if copied > MAX_COPIED {
            return Err(Unfit::Large(index));
        }
        json_patch::patch(document, std::slice::from_ref(operation)).map_err(|mut error| {
            error.operation = index;
            error
        })?;
    }
    Ok(())
}

/// Lists and maps in each other. What comes from a body is never deep.
fn depth(value: &Value) -> usize {
    match value {
        Value::Array(list) => 1 + list.iter().map(depth).max().unwrap_or(0),
        Value::Object(map) => 1 + map.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// Bytes as JSON, about.
fn weight(value: &Value) -> usize {
    match value {
        Value::Array(list) => 2 + list.iter().map(|v| 1 + weight(v)).sum::<usize>(),
        Value::Object(map) => 2 + map.iter().map(|(k, v)| 4 + k.len() + weight(v)).sum::<usize>(),
        Value::String(text) => 2 + text.len(),
        _ => 4,
    }
}

/// Whether the parent of `path` is a map without the field that `path` ends with.
fn lacks(document: &Value, path: &str) -> bool {
    let parent = path.rsplit_once('/').and_then(|(parent, _)| document.pointer(parent));
    parent.is_some_and(Value::is_object) && document.pointer(path).is_none()
}

fn json(body: &Bytes) -> Result<json_patch::Patch, Failure> {
    let bad = |e: serde_json::Error| Failure::bad_request(format!("error decoding patch: {e}"));
    // As any body first: that ends at what is nested too deep.
    let (value, _) = decode::json_value(body)?;
    if let Value::Array(operations) = &value
        && operations.len() > MAX_OPERATIONS
    {
        return Err(Failure::too_large(MAX_OPERATIONS));
    }
    serde_json::from_value(value).map_err(bad)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn operations_are_done_in_order_and_a_test_for_null_takes_absence() {
        for (operations, want) in [
            (
                json!([{"op": "test", "path": "/a/x", "value": null}, {"op": "add", "path": "/a/x", "value": 1}]),
                Ok(json!({"a": {"b": 1, "x": 1}, "l": []})),
            ),
            (json!([{"op": "add", "path": "/a/x", "value": 1}, {"op": "test", "path": "/a/x", "value": null}]), Err(1)),
            (json!([{"op": "test", "path": "/a/b", "value": null}]), Err(0)),
            (json!([{"op": "test", "path": "/z/x", "value": null}]), Err(0)),
            (json!([{"op": "test", "path": "/l/0", "value": null}]), Err(0)),
            (json!([{"op": "test", "path": "/a/x", "value": 1}]), Err(0)),
            (
                json!([{"op": "remove", "path": "/a"}, {"op": "test", "path": "/a", "value": null}]),
                Ok(json!({"l": []})),
            ),
        ] {
            let mut document = json!({"a": {"b": 1}, "l": []});
            let patch = serde_json::from_value(operations.clone()).unwrap();
            let done = operate(&mut document, &patch).map(|()| document).map_err(|e| match e {
                Unfit::Patch(error) => error.operation,
                Unfit::Deep(index) | Unfit::Large(index) => index,
            });
            assert_eq!(done, want, "{operations}");
        }
    }

    #[test]
    fn patches_do_not_blow_up() {
        let kind = crate::types::kinds::find("cm").unwrap();
        let apply = |operations: &Value| {
            let body = Bytes::from(operations.to_string());
            let old = json!({"data": {"a": "x".repeat(1000)}}).as_object().cloned().unwrap();
            let patched = json(&body).and_then(|patch| Patch::Json(patch).apply(kind, &old));
            patched.map_err(|failure| failure.code().as_u16())
        };
        // Each doubles it.
        let doubling: Value =
            (0..40).map(|n| json!({"op": "copy", "from": "/data", "path": format!("/data/c{n}")})).collect();
        assert_eq!(apply(&doubling), Err(413));
        // Each puts a little into the last one.
        let digging = |steps: usize| -> Value {
            (1..=steps).map(|n| json!({"op": "add", "path": "/d".repeat(n), "value": {}})).collect()
        };
        assert!(apply(&digging(MAX_DEPTH - 1)).is_ok());
        assert_eq!(apply(&digging(MAX_DEPTH)), Err(422));
        // Each puts all of it one deeper.
        let wrapping: Value = (0..200)
            .flat_map(|_| {
                [
                    json!({"op": "add", "path": "/w", "value": {}}),
                    json!({"op": "move", "from": "/data", "path": "/w/data"}),
                    json!({"op": "move", "from": "/w", "path": "/data"}),
                ]
            })
            .collect();
        assert_eq!(apply(&wrapping), Err(422));
        let many: Value = (0..=MAX_OPERATIONS).map(|_| json!({"op": "remove", "path": "/data"})).collect();
        assert_eq!(apply(&many), Err(413));
        let deep = format!("[{{\"op\":\"add\",\"path\":\"/x\",\"value\":{}{}}}]", "[".repeat(200), "]".repeat(200));
        assert_eq!(json(&Bytes::from(deep)).unwrap_err().code(), 400);
    }
}
