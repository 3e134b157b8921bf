//! Patches: what kinds of them there are, and what they do to an object (k8s-api.md 1.4).

use axum::body::Bytes;
use axum::http::HeaderMap;
use serde_json::Value;

use super::decode::{self, Decoded};
use super::media;
use super::object::Object;
use super::status::Failure;
use super::strategic;
use crate::types::kinds::KindInfo;
use crate::types::schema::Schema;

/// Most operations of a JSON patch.
const MAX_OPERATIONS: usize = 10_000;

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
    /// 422 when a JSON patch does not fit the object, 400 when the result is no object.
    pub fn apply(&self, kind: &KindInfo, old: &Object) -> Result<Object, Failure> {
        let mut document = Value::Object(old.clone());
        match self {
            Self::Merge(patch) => json_patch::merge(&mut document, &Value::Object(patch.clone())),
            Self::Json(patch) => operate(&mut document, patch).map_err(|e| {
                Failure::unprocessable(format!("the server rejected our request due to an error in our request: {e}"))
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

/// Does the operations one after another; after an error the document is half done.
fn operate(document: &mut Value, patch: &json_patch::Patch) -> Result<(), json_patch::PatchError> {
    for (index, operation) in patch.0.iter().enumerate() {
        // Kubernetes lets a test for null pass where the field is absent; controllers that add the first finalizer
        // begin with it.
        if let json_patch::PatchOperation::Test(test) = operation
            && test.value.is_null()
            && lacks(document, test.path.as_str())
        {
            continue;
        }
        json_patch::patch(document, std::slice::from_ref(operation)).map_err(|mut error| {
            error.operation = index;
            error
        })?;
    }
    Ok(())
}

/// Whether the parent of `path` is a map without the field that `path` ends with.
fn lacks(document: &Value, path: &str) -> bool {
    let parent = path.rsplit_once('/').and_then(|(parent, _)| document.pointer(parent));
    parent.is_some_and(Value::is_object) && document.pointer(path).is_none()
}

fn json(body: &Bytes) -> Result<json_patch::Patch, Failure> {
    let patch: json_patch::Patch =
        serde_json::from_slice(body).map_err(|e| Failure::bad_request(format!("error decoding patch: {e}")))?;
    if patch.0.len() > MAX_OPERATIONS {
        return Err(Failure::too_large(MAX_OPERATIONS));
    }
    Ok(patch)
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
            let done = operate(&mut document, &patch).map(|()| document).map_err(|e| e.operation);
            assert_eq!(done, want, "{operations}");
        }
    }
}
