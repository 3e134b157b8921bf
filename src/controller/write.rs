//! Writing to the API: only what changed, only the fields we own.

use kube::ResourceExt;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::Context;
use super::cache::{Cache, Watched, namespace};
use super::error::Error;

/// The smallest merge patch that turns `old` into `new`; `None` if they are equal. Arrays are replaced whole.
pub fn merge_patch(old: &Value, new: &Value) -> Option<Value> {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            let mut patch = Map::new();
            for key in old.keys().filter(|k| !new.contains_key(*k)) {
                patch.insert(key.clone(), Value::Null);
            }
            for (key, value) in new {
                match old.get(key) {
                    Some(before) => {
                        if let Some(change) = merge_patch(before, value) {
                            patch.insert(key.clone(), change);
                        }
                    }
                    None => {
                        patch.insert(key.clone(), value.clone());
                    }
                }
            }
            (!patch.is_empty()).then_some(Value::Object(patch))
        }
        _ if old == new => None,
        _ => Some(new.clone()),
    }
}

/// The finalizers after adding and removing some; `None` if nothing changes.
pub fn finalizers(current: &[String], add: &[&str], remove: &[&str]) -> Option<Vec<String>> {
    let mut next: Vec<String> = current.iter().filter(|f| !remove.contains(&f.as_str())).cloned().collect();
    for wanted in add {
        if !next.iter().any(|f| f == wanted) {
            next.push((*wanted).to_owned());
        }
    }
    (next != current).then_some(next)
}

impl Context {
    /// Writes a status, if it differs from the object's.
    pub async fn report<K, S>(&self, cache: &Cache<K>, object: &K, old: Option<&S>, new: &S) -> Result<(), Error>
    where
        K: Watched,
        S: Serialize,
    {
        let encode = |s: &S| serde_json::to_value(s).map_err(|e| Error::encode::<K>(object, e));
        let old = match old {
            Some(status) => encode(status)?,
            None => json!({}),
        };
        let Some(patch) = merge_patch(&old, &encode(new)?) else { return Ok(()) };
        let api = K::api(&self.client, &namespace(object));
        let patch = Patch::Merge(json!({ "status": patch }));
        match api.patch_status(&object.name_any(), &PatchParams::default(), &patch).await {
            Ok(written) => {
                cache.wrote(written);
                Ok(())
            }
            Err(e) if not_found(&e) => Ok(()),
            Err(e) => Err(Error::write("status", object, e)),
        }
    }

    /// Merges a patch into the object's metadata, on condition that the object is as we know it.
    pub async fn patch_metadata<K: Watched>(&self, cache: &Cache<K>, object: &K, metadata: Value) -> Result<(), Error> {
        let mut metadata = metadata;
        if let (Some(map), Some(version)) = (metadata.as_object_mut(), &object.meta().resource_version) {
            map.insert("resourceVersion".into(), Value::String(version.clone()));
        }
        let api = K::api(&self.client, &namespace(object));
        let patch = Patch::Merge(json!({ "metadata": metadata }));
        match api.patch(&object.name_any(), &PatchParams::default(), &patch).await {
            Ok(written) => {
                cache.wrote(written);
                Ok(())
            }
            Err(e) if not_found(&e) => Ok(()),
            Err(e) => Err(Error::write("metadata", object, e)),
        }
    }

    /// Adds and removes finalizers, if needed.
    pub async fn set_finalizers<K: Watched>(
        &self,
        cache: &Cache<K>,
        object: &K,
        add: &[&str],
        remove: &[&str],
    ) -> Result<(), Error> {
        match finalizers(object.finalizers(), add, remove) {
            Some(next) => self.patch_metadata(cache, object, json!({ "finalizers": next })).await,
            None => Ok(()),
        }
    }

    /// Creates an object; one of this name that exists already is fine.
    pub async fn create_once<K: Watched>(&self, object: &K) -> Result<Created, Error> {
        let api = K::api(&self.client, &namespace(object));
        match api.create(&PostParams::default(), object).await {
            Ok(_) => Ok(Created::New),
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(Created::Existed),
            Err(e) => Err(Error::write("object", object, e)),
        }
    }

    /// Deletes this very object (by UID); fine if it is gone.
    pub async fn delete_exactly<K: Watched>(&self, object: &K) -> Result<(), Error> {
        let api = K::api(&self.client, &namespace(object));
        let params = DeleteParams {
            preconditions: Some(Preconditions { uid: object.uid(), resource_version: None }),
            ..DeleteParams::default()
        };
        match api.delete(&object.name_any(), &params).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => Ok(()),
            Err(e) => Err(Error::write("object", object, e)),
        }
    }
}

/// What [`Context::create_once`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Created {
    /// It was made.
    New,
    /// There was one already.
    Existed,
}

fn not_found(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_has_only_what_changed_and_clears_what_is_gone() {
        let old = json!({"phase": "Pending", "stats": {"a": 1, "b": 2}, "list": [1], "same": true});
        let new = json!({"phase": "Running", "stats": {"a": 1, "c": 3}, "list": [1, 2], "same": true});
        let patch = json!({"phase": "Running", "stats": {"b": null, "c": 3}, "list": [1, 2]});
        assert_eq!(merge_patch(&old, &new), Some(patch));
        assert_eq!(merge_patch(&new, &new), None);
        assert_eq!(merge_patch(&json!({}), &json!({})), None);
    }

    #[test]
    fn finalizers_of_others_stay() {
        let current = vec!["other".to_owned(), "mine".to_owned()];
        assert_eq!(finalizers(&current, &["mine"], &[]), None);
        assert_eq!(finalizers(&current, &[], &["mine"]), Some(vec!["other".to_owned()]));
        assert_eq!(finalizers(&[], &["mine"], &[]), Some(vec!["mine".to_owned()]));
    }
}
