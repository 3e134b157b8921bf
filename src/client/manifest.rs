//! Manifests: several YAML or JSON documents in one text, each resolved to its kind, namespace and name.

use serde_json::Value;

use super::error::printable;
use crate::types::class_version;
use crate::types::kinds::{self, KindInfo};

/// One object of a manifest.
#[derive(Debug, Clone)]
pub struct Document {
    /// Its kind.
    pub kind: &'static KindInfo,
    /// Where it goes; `None` for cluster-wide kinds.
    pub namespace: Option<String>,
    /// Its name; empty if the server shall make one from `generateName`.
    pub name: String,
    /// The object with `metadata.namespace` filled in.
    pub object: Value,
}

/// A manifest that cannot be used. The number counts documents from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Not YAML.
    #[error("not valid YAML: {text}")]
    Syntax {
        /// The parser's words, with line and column.
        text: String,
    },
    /// A document is no object.
    #[error("document {number} is no object: it needs apiVersion, kind and metadata")]
    NoObject {
        /// Which.
        number: usize,
    },
    /// A field that every object needs is missing.
    #[error("document {number} has no {field}")]
    Missing {
        /// Which.
        number: usize,
        /// `apiVersion`, `kind` or `metadata.name`.
        field: &'static str,
    },
    /// A kind that is not served.
    #[error("document {number}: kind {kind} of {api_version} is not known here{hint}")]
    UnknownKind {
        /// Which.
        number: usize,
        /// As written.
        api_version: String,
        /// As written.
        kind: String,
        /// What comes near, or nothing.
        hint: String,
    },
    /// `-n` and the object disagree.
    #[error("document {number}: its namespace \"{own}\" is not \"{asked}\" of --namespace")]
    Namespace {
        /// Which.
        number: usize,
        /// In the object.
        own: String,
        /// Asked for.
        asked: String,
    },
}

/// Reads all documents. `explicit` is the namespace the user asked for, `default` the one for objects that name
/// none. Empty documents are skipped, lists (`kind: List`) are opened.
pub fn read_documents(text: &str, explicit: Option<&str>, default: &str) -> Result<Vec<Document>, ManifestError> {
    let options = serde_saphyr::options! { with_snippet: false };
    let values: Vec<Value> = serde_saphyr::from_multiple_with_options(text, options)
        .map_err(|e| ManifestError::Syntax { text: printable(&e.to_string()) })?;
    let mut documents = Vec::new();
    for (index, value) in values.into_iter().enumerate() {
        let number = index + 1;
        let is_list = value["kind"].as_str().is_some_and(|k| k.ends_with("List")) && value["items"].is_array();
        match value {
            Value::Null => {}
            Value::Object(mut list) if is_list => {
                if let Some(Value::Array(items)) = list.remove("items") {
                    for item in items {
                        documents.push(read_one(item, number, explicit, default)?);
                    }
                }
            }
            other => documents.push(read_one(other, number, explicit, default)?),
        }
    }
    Ok(documents)
}

fn read_one(
    mut object: Value,
    number: usize,
    explicit: Option<&str>,
    default: &str,
) -> Result<Document, ManifestError> {
    if !object.is_object() {
        return Err(ManifestError::NoObject { number });
    }
    // Every server that has the newer version of classes has this one too.
    object = class_version::adopted(object);
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (api_version, kind_name) = (text("/apiVersion"), text("/kind"));
    for (value, field) in [(&api_version, "apiVersion"), (&kind_name, "kind")] {
        if value.is_empty() {
            return Err(ManifestError::Missing { number, field });
        }
    }
    let kind = resolve(&api_version, &kind_name).map_err(|hint| ManifestError::UnknownKind {
        number,
        api_version: printable(&api_version),
        kind: printable(&kind_name),
        hint,
    })?;
    let name = text("/metadata/name");
    if name.is_empty() && text("/metadata/generateName").is_empty() {
        return Err(ManifestError::Missing { number, field: "metadata.name" });
    }
    let namespace = if kind.namespaced() {
        let own = text("/metadata/namespace");
        let namespace = match (own.is_empty(), explicit) {
            (false, Some(asked)) if own != asked => {
                return Err(ManifestError::Namespace { number, own: printable(&own), asked: printable(asked) });
            }
            (false, _) => own,
            (true, asked) => asked.unwrap_or(default).to_owned(),
        };
        object["metadata"]["namespace"] = Value::String(namespace.clone());
        Some(namespace)
    } else {
        None
    };
    Ok(Document { kind, namespace, name, object })
}

/// The kind for `apiVersion` and `kind`, or a hint.
fn resolve(api_version: &str, kind: &str) -> Result<&'static KindInfo, String> {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let found = kinds::KINDS.iter().find(|k| k.kind == kind && k.group == group);
    match found {
        Some(info) if info.version == version => Ok(info),
        Some(info) => Err(format!("; use apiVersion: {}", info.api_version())),
        None => match kinds::KINDS.iter().find(|k| k.kind.eq_ignore_ascii_case(kind)) {
            Some(near) => Err(format!("; use apiVersion: {}, kind: {}", near.api_version(), near.kind)),
            None => Err(String::new()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VM: &str = "apiVersion: virtualization.deckhouse.io/v1alpha2\nkind: VirtualMachine\nmetadata:\n  name: a\n";

    #[test]
    fn a_class_of_the_newer_version_is_read() {
        let text = "apiVersion: virtualization.deckhouse.io/v1alpha3\nkind: VirtualMachineClass\nmetadata: {name: c}\n\
                    spec: {sizingPolicies: [{coreFractions: [5%]}]}\n";
        let documents = read_documents(text, None, "default").unwrap();
        assert_eq!(documents[0].object["apiVersion"], "virtualization.deckhouse.io/v1alpha2");
        assert_eq!(documents[0].object["spec"]["sizingPolicies"][0]["coreFractions"][0], 5);
    }

    #[test]
    fn several_documents_lists_and_comments() {
        let text = format!(
            "# head\n---\n{VM}---\n# only a comment\n---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: team}}\n"
        );
        let docs = read_documents(&text, None, "default").unwrap();
        assert_eq!(docs.len(), 2);
        assert_eq!(docs[0].namespace.as_deref(), Some("default"));
        assert_eq!(docs[0].object["metadata"]["namespace"], "default");
        assert_eq!(docs[1].namespace, None);
        assert!(docs[1].object["metadata"].get("namespace").is_none());
        let list = r#"{"apiVersion":"v1","kind":"List","items":[{"apiVersion":"v1","kind":"Secret","metadata":{"name":"s"}}]}"#;
        assert_eq!(read_documents(list, Some("x"), "default").unwrap()[0].namespace.as_deref(), Some("x"));
    }

    #[test]
    fn errors_name_the_document_and_the_remedy() {
        let error = |text: &str, ns| read_documents(text, ns, "default").unwrap_err().to_string();
        assert!(error(&format!("{VM}---\nkind: X\n"), None).contains("document 2 has no apiVersion"));
        assert!(
            error("apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}", None)
                .contains("kind Deployment of apps/v1")
        );
        assert!(
            error(&VM.replace("v1alpha2", "v9"), None).contains("use apiVersion: virtualization.deckhouse.io/v1alpha2")
        );
        assert!(
            error("apiVersion: v1\nkind: Secret\nmetadata: {name: a, namespace: b}", Some("c"))
                .contains("\"b\" is not \"c\"")
        );
        assert!(error("a: [1", None).contains("not valid YAML"));
        assert!(error("- 1", None).contains("no object"));
        assert!(error(&VM.replace("name: a", "labels: {}"), None).contains("metadata.name"));
    }
}
