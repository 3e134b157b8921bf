//! Namespaces.

use serde_json::{Value, json};

use crate::apiserver::object::{self, Object};

/// The label that names the namespace.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// Namespaces that are always there and cannot be deleted.
pub const PERMANENT: [&str; 2] = ["default", "kube-system"];

/// A namespace as it is first stored.
pub fn fresh(name: &str) -> Object {
    let mut object = Object::new();
    object.insert("apiVersion".to_owned(), "v1".into());
    object.insert("kind".to_owned(), "Namespace".into());
    object.insert("metadata".to_owned(), json!({"name": name}));
    object
}

/// Fills in what every namespace has. Its own finalizer list changes through `/finalize` only.
pub fn admit(old: Option<&Object>, new: &mut Object) {
    let name = object::name(new).to_owned();
    if !name.is_empty() {
        let labels = object::metadata_mut(new).entry("labels").or_insert_with(|| json!({}));
        if let Some(labels) = labels.as_object_mut() {
            labels.insert(NAME_LABEL.to_owned(), name.into());
        }
    }
    match old {
        None => {
            new.insert("spec".to_owned(), json!({"finalizers": ["kubernetes"]}));
            new.insert("status".to_owned(), json!({"phase": "Active"}));
        }
        Some(old) => {
            let spec = old.get("spec").cloned().unwrap_or_else(|| json!({}));
            new.insert("spec".to_owned(), spec);
        }
    }
}

/// Takes the change that a request to `/finalize` makes.
pub fn finalize(old: &Object, requested: &Object) -> Object {
    let mut new = old.clone();
    let finalizers = requested.get("spec").and_then(|s| s.get("finalizers")).cloned().unwrap_or_else(|| json!([]));
    new.insert("spec".to_owned(), json!({"finalizers": finalizers}));
    new
}

/// Marks a namespace whose deletion begins.
pub fn terminate(namespace: &mut Object) {
    let status = namespace.entry("status").or_insert_with(|| json!({}));
    if let Some(status) = status.as_object_mut() {
        status.insert("phase".to_owned(), Value::from("Terminating"));
    }
}
