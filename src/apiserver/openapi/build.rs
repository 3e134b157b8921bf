//! What is described: kinds with their schemas and operations, in OpenAPI 3.0.

use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use k8s_openapi::api::authorization::v1::{SelfSubjectAccessReview, SelfSubjectRulesReview};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{DeleteOptions, ListMeta, Status};
use serde_json::{Map, Value, json};

use crate::types::class_version;
use crate::types::kinds::KINDS;
use crate::types::schema;

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

/// What clients may do with a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offer {
    /// Everything.
    Stored,
    /// Get, list, watch.
    ReadOnly,
    /// Create, and read the answer.
    CreateOnly,
}

/// One kind.
#[derive(Debug, Clone)]
pub struct Entry {
    pub group: String,
    pub version: String,
    pub kind: String,
    pub plural: String,
    pub namespaced: bool,
    pub status: bool,
    pub offer: Offer,
    /// Its schema, with a reference for `metadata`.
    pub schema: Value,
}

impl Entry {
    /// `api/v1`, `apis/GROUP/VERSION`.
    pub fn root(&self) -> String {
        match self.group.as_str() {
            "" => format!("api/{}", self.version),
            group => format!("apis/{group}/{}", self.version),
        }
    }

    /// Name of the schema: the group's name backwards, version, kind.
    pub fn schema_name(&self) -> String {
        let group = match self.group.as_str() {
            "" => "io.k8s.api.core".to_owned(),
            "events.k8s.io" | "coordination.k8s.io" | "authorization.k8s.io" | "authentication.k8s.io" => {
                format!("io.k8s.api.{}", self.group.split('.').next().unwrap_or_default())
            }
            group => group.split('.').rev().collect::<Vec<_>>().join("."),
        };
        format!("{group}.{}.{}", self.version, self.kind)
    }

    /// `{"group", "kind", "version"}`.
    pub fn gvk(&self) -> Value {
        json!({"group": self.group, "kind": self.kind, "version": self.version})
    }
}

/// All kinds that are served.
pub fn entries() -> Vec<Entry> {
    let mut out: Vec<Entry> = KINDS
        .iter()
        .map(|kind| {
            let document = match kind.crd {
                Some(crd) => crd()
                    .spec
                    .versions
                    .into_iter()
                    .find(|v| v.name == kind.version)
                    .and_then(|v| v.schema)
                    .and_then(|s| s.open_api_v3_schema)
                    .and_then(|s| serde_json::to_value(s).ok())
                    .unwrap_or_default(),
                None => schema::core_document(kind.group, kind.kind).unwrap_or_default(),
            };
            Entry {
                group: kind.group.to_owned(),
                version: kind.version.to_owned(),
                kind: kind.kind.to_owned(),
                plural: kind.plural.to_owned(),
                namespaced: kind.namespaced(),
                status: kind.status,
                offer: Offer::Stored,
                schema: whole(document),
            }
        })
        .collect();
    if let Some(class) = out.iter().find(|e| e.plural == class_version::PLURAL).cloned() {
        let schema = class_version::newer_schema(class.schema.clone());
        out.push(Entry { version: class_version::NEWER.to_owned(), schema, ..class });
    }
    let mut add = |group: &str, kind: &str, plural: &str, namespaced, offer, document| {
        out.push(Entry {
            group: group.to_owned(),
            version: "v1".to_owned(),
            kind: kind.to_owned(),
            plural: plural.to_owned(),
            namespaced,
            status: false,
            offer,
            schema: whole(document),
        });
    };
    let event = schema::core_document("events.k8s.io", "Event").unwrap_or_default();
    add("events.k8s.io", "Event", "events", true, Offer::Stored, event);
    add(
        "apiextensions.k8s.io",
        "CustomResourceDefinition",
        "customresourcedefinitions",
        false,
        Offer::ReadOnly,
        json!({"type": "object", "description": "Definition of a kind.", "properties": {
            "spec": {"type": "object", "description": "What is defined.", "x-kubernetes-preserve-unknown-fields": true},
            "status": {"type": "object", "description": "Whether it is served.",
                "x-kubernetes-preserve-unknown-fields": true}}}),
    );
    for (kind, plural, what) in [
        ("Service", "services", "Named port of a cluster. A standalone host has none."),
        ("Pod", "pods", "Containers that run together. A standalone host has none."),
    ] {
        let document = json!({"type": "object", "description": what, "properties": {
            "spec": {"type": "object", "description": "What it is.", "x-kubernetes-preserve-unknown-fields": true}}});
        add("", kind, plural, true, Offer::ReadOnly, document);
    }
    let review = Offer::CreateOnly;
    let group = "authorization.k8s.io";
    let document = schema::inlined::<SelfSubjectAccessReview>();
    add(group, "SelfSubjectAccessReview", "selfsubjectaccessreviews", false, review, document);
    let document = schema::inlined::<SelfSubjectRulesReview>();
    add(group, "SelfSubjectRulesReview", "selfsubjectrulesreviews", false, review, document);
    let document = schema::inlined::<SelfSubjectReview>();
    add("authentication.k8s.io", "SelfSubjectReview", "selfsubjectreviews", false, review, document);
    out
}

/// A kind's document with apiVersion, kind and a reference for metadata in their usual order.
fn whole(document: Value) -> Value {
    let Value::Object(mut document) = document else { return json!({"type": "object"}) };
    let declared = document.shift_remove("properties");
    let mut properties = Map::new();
    let text = |what: &str| json!({"type": "string", "description": what});
    properties.insert("apiVersion".into(), text("Group and version of this representation of the object."));
    properties.insert("kind".into(), text("What the object is."));
    properties.insert(
        "metadata".into(),
        json!({"description": "Name, labels and what else every object has.", "allOf": [reference("ObjectMeta")]}),
    );
    if let Some(Value::Object(declared)) = declared {
        let rest = declared.into_iter().filter(|(n, _)| !matches!(n.as_str(), "apiVersion" | "kind" | "metadata"));
        properties.extend(rest);
    }
    document.insert("properties".into(), Value::Object(properties));
    if let Some(Value::Array(required)) = document.get_mut("required") {
        required.retain(|name| name != "metadata");
        if required.is_empty() {
            document.shift_remove("required");
        }
    }
    Value::Object(document)
}

fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{META}.{name}")})
}

/// The schemas of some kinds, with lists and what they share.
pub fn schemas<'a>(entries: impl Iterator<Item = &'a Entry>) -> Map<String, Value> {
    let mut out = Map::new();
    for entry in entries {
        let name = entry.schema_name();
        let mut schema = entry.schema.clone();
        schema["x-kubernetes-group-version-kind"] = json!([entry.gvk()]);
        if entry.offer != Offer::CreateOnly {
            let list = Entry { kind: format!("{}List", entry.kind), ..entry.clone() };
            let mut document = json!({
                "type": "object",
                "description": format!("A list of {}.", entry.kind),
                "required": ["items"],
                "properties": {
                    "apiVersion": {"type": "string"},
                    "items": {"type": "array", "items": {"$ref": format!("#/components/schemas/{name}")}},
                    "kind": {"type": "string"},
                    "metadata": {"allOf": [reference("ListMeta")]},
                },
            });
            document["x-kubernetes-group-version-kind"] = json!([list.gvk()]);
            out.insert(list.schema_name(), document);
        }
        out.insert(name, schema);
    }
    for (name, schema) in [
        ("ObjectMeta", schema::metadata_document()),
        ("ListMeta", schema::inlined::<ListMeta>()),
        ("Status", schema::inlined::<Status>()),
        ("DeleteOptions", schema::inlined::<DeleteOptions>()),
        ("Patch", json!({"type": "object", "description": "A patch of the form that the content type names."})),
    ] {
        out.insert(format!("{META}.{name}"), schema);
    }
    out
}

/// One operation.
#[derive(Debug, Clone)]
pub struct Operation {
    /// HTTP method in lower case.
    pub method: &'static str,
    /// `x-kubernetes-action`.
    pub action: &'static str,
    /// Query parameters with their types.
    pub query: &'static [(&'static str, &'static str)],
    /// Schema of the body, if there is one.
    pub body: Option<String>,
    /// Content types of the body.
    pub consumes: &'static [&'static str],
    /// Schema of the answer.
    pub answer: String,
    /// Answer codes besides 200.
    pub created: bool,
}

/// A path with its operations.
#[derive(Debug, Clone)]
pub struct Path {
    pub path: String,
    /// Names of the parameters in the path.
    pub parameters: Vec<&'static str>,
    pub operations: Vec<Operation>,
}

const LIST_QUERY: &[(&str, &str)] = &[
    ("allowWatchBookmarks", "boolean"),
    ("continue", "string"),
    ("fieldSelector", "string"),
    ("labelSelector", "string"),
    ("limit", "integer"),
    ("resourceVersion", "string"),
    ("resourceVersionMatch", "string"),
    ("sendInitialEvents", "boolean"),
    ("timeoutSeconds", "integer"),
    ("watch", "boolean"),
];
const WRITE_QUERY: &[(&str, &str)] = &[("dryRun", "string"), ("fieldManager", "string"), ("fieldValidation", "string")];
const PATCH_QUERY: &[(&str, &str)] =
    &[("dryRun", "string"), ("fieldManager", "string"), ("fieldValidation", "string"), ("force", "boolean")];
const DELETE_QUERY: &[(&str, &str)] = &[
    ("dryRun", "string"),
    ("gracePeriodSeconds", "integer"),
    ("orphanDependents", "boolean"),
    ("propagationPolicy", "string"),
];
const BODIES: &[&str] = &["application/json", "application/yaml"];
const CUSTOM_PATCHES: &[&str] =
    &["application/json-patch+json", "application/merge-patch+json", "application/apply-patch+yaml"];
const CORE_PATCHES: &[&str] = &[
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
];

impl Entry {
    /// The paths at which the kind is served.
    pub fn paths(&self) -> Vec<Path> {
        let name = self.schema_name();
        let list = format!("{name}List");
        let meta = |what: &str| format!("{META}.{what}");
        let operation = |method, action, query, answer: &str| Operation {
            method,
            action,
            query,
            body: None,
            consumes: BODIES,
            answer: answer.to_owned(),
            created: false,
        };
        let get = || operation("get", "get", &[], &name);
        let get_list = || operation("get", "list", LIST_QUERY, &list);
        let post =
            || Operation { body: Some(name.clone()), created: true, ..operation("post", "post", WRITE_QUERY, &name) };
        let put = || Operation { body: Some(name.clone()), ..operation("put", "put", WRITE_QUERY, &name) };
        let patch = || Operation {
            body: Some(meta("Patch")),
            consumes: if self.group.contains("deckhouse") { CUSTOM_PATCHES } else { CORE_PATCHES },
            ..operation("patch", "patch", PATCH_QUERY, &name)
        };
        let delete = || Operation {
            body: Some(meta("DeleteOptions")),
            ..operation("delete", "delete", DELETE_QUERY, &meta("Status"))
        };
        let root = self.root();
        let (base, parameters) = match self.namespaced {
            true => (format!("/{root}/namespaces/{{namespace}}/{}", self.plural), vec!["namespace"]),
            false => (format!("/{root}/{}", self.plural), Vec::new()),
        };
        let item = format!("{base}/{{name}}");
        let named = [vec!["name"], parameters.clone()].concat();
        let path = |path: &str, parameters: &[&'static str], operations| Path {
            path: path.to_owned(),
            parameters: parameters.to_vec(),
            operations,
        };
        let mut out = match self.offer {
            Offer::CreateOnly => vec![path(&base, &parameters, vec![post()])],
            Offer::ReadOnly => {
                vec![path(&base, &parameters, vec![get_list()]), path(&item, &named, vec![get()])]
            }
            Offer::Stored => vec![
                path(&base, &parameters, vec![get_list(), post()]),
                path(&item, &named, vec![get(), put(), patch(), delete()]),
            ],
        };
        if self.namespaced && self.offer != Offer::CreateOnly {
            out.push(path(&format!("/{root}/{}", self.plural), &[], vec![get_list()]));
        }
        if self.status {
            out.push(path(&format!("{item}/status"), &named, vec![get(), put(), patch()]));
        }
        out
    }

    /// A name for an operation that no other has.
    pub fn operation_id(&self, path: &str, operation: &Operation) -> String {
        let mut parts = vec![operation.action];
        parts.extend(path.split(['/', '.', '-']).filter(|p| !p.is_empty() && !p.starts_with('{')));
        if path.contains("{name}") {
            parts.push("named");
        }
        if path.contains("{namespace}") {
            parts.push("namespaced");
        }
        parts.join("_")
    }
}

/// The OpenAPI 3.0 document of one group version.
pub fn v3<'a>(entries: impl Iterator<Item = &'a Entry> + Clone) -> Value {
    let mut paths = Map::new();
    for entry in entries.clone() {
        for path in entry.paths() {
            let mut item = Map::new();
            let in_path = |name: &&str| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string", "uniqueItems": true}});
            item.insert("parameters".into(), path.parameters.iter().map(in_path).collect());
            for operation in &path.operations {
                item.insert(operation.method.to_owned(), v3_operation(entry, &path.path, operation));
            }
            paths.insert(path.path, Value::Object(item));
        }
    }
    json!({
        "openapi": "3.0.0",
        "info": {"title": "vmdeck", "version": env!("CARGO_PKG_VERSION")},
        "paths": paths,
        "components": {"schemas": schemas(entries)},
    })
}

fn v3_operation(entry: &Entry, path: &str, operation: &Operation) -> Value {
    let content = |types: &[&str], schema: &str| -> Value {
        let schema = json!({"schema": {"$ref": format!("#/components/schemas/{schema}")}});
        Value::Object(types.iter().map(|t| ((*t).to_owned(), schema.clone())).collect())
    };
    let query = |(name, type_): &(&str, &str)| json!({"name": name, "in": "query", "schema": {"type": type_}});
    let answer = json!({"description": "OK", "content": content(&["application/json"], &operation.answer)});
    let mut out = json!({
        "operationId": entry.operation_id(path, operation),
        "parameters": operation.query.iter().map(query).collect::<Vec<_>>(),
        "responses": {"200": answer},
        "x-kubernetes-action": operation.action,
        "x-kubernetes-group-version-kind": entry.gvk(),
    });
    if operation.created {
        out["responses"]["201"] = answer;
    }
    if let Some(body) = &operation.body {
        let required = operation.method != "delete";
        out["requestBody"] = json!({"required": required, "content": content(operation.consumes, body)});
    }
    out
}
