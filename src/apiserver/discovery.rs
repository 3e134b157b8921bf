//! Discovery: which groups, versions and resources are served, in the old form and in the two aggregated ones.
//!
//! Nothing is advertised that is not served: a group whose resources answer 404 makes every kubectl call complain.

use axum::body::Bytes;
use base64::Engine;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::types::class_version;
use crate::types::kinds::{GROUP, KINDS, KindInfo, SUBRESOURCES_GROUP, Scope, VERSION};

/// Everything one can do with stored objects.
const ALL: &[&str] = &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
/// Namespaces are deleted one by one only.
const NO_COLLECTION: &[&str] = &["create", "delete", "get", "list", "patch", "update", "watch"];
const STATUS: &[&str] = &["get", "patch", "update"];
const READ: &[&str] = &["get", "list", "watch"];
const CREATE: &[&str] = &["create"];
const STREAM: &[&str] = &["create", "get"];
/// Verbs of what is done to a guest.
const CONTROL: &[&str] = &["update"];

/// Names of the aggregated form's group.
const AGGREGATED: &str = "apidiscovery.k8s.io";

/// How a discovery document is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `APIGroupList`, `APIResourceList`, ...
    Plain,
    /// `APIGroupDiscoveryList` of version `v2`.
    V2,
    /// `APIGroupDiscoveryList` of version `v2beta1`.
    V2Beta1,
}

impl Form {
    /// The first form of an `Accept` header that is understood. Clauses with parameters that are not known here are
    /// skipped: they ask for something else.
    pub fn wanted(accept: &str) -> Form {
        accept.split(',').find_map(Self::of_clause).unwrap_or(Form::Plain)
    }

    fn of_clause(clause: &str) -> Option<Form> {
        let mut parts = clause.split(';').map(str::trim);
        let media = parts.next()?;
        let (mut group, mut version, mut shape) = ("", "", "");
        for parameter in parts.filter(|p| !p.is_empty()) {
            match parameter.split_once('=')? {
                ("g", value) => group = value,
                ("v", value) => version = value,
                ("as", value) => shape = value,
                ("q" | "charset", _) => {}
                _ => return None,
            }
        }
        match (media, group, version, shape) {
            ("application/json", AGGREGATED, "v2", "APIGroupDiscoveryList") => Some(Form::V2),
            ("application/json", AGGREGATED, "v2beta1", "APIGroupDiscoveryList") => Some(Form::V2Beta1),
            ("application/json" | "application/*" | "*/*", "", "", "") => Some(Form::Plain),
            _ => None,
        }
    }

    fn version(self) -> &'static str {
        match self {
            Form::Plain => "",
            Form::V2 => "v2",
            Form::V2Beta1 => "v2beta1",
        }
    }

    fn content_type(self) -> String {
        match self {
            Form::Plain => "application/json".to_owned(),
            form => format!("application/json;g={AGGREGATED};v={};as=APIGroupDiscoveryList", form.version()),
        }
    }
}

/// A document ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// `Content-Type`, echoing the parameters asked for.
    pub content_type: String,
    /// The body.
    pub body: Bytes,
    /// Strong entity tag of the body, in quotes. Send it with `Vary: Accept`; answer 304 to an equal `If-None-Match`.
    pub etag: String,
}

impl Document {
    fn new(content_type: String, value: &Value) -> Self {
        let body = Bytes::from(value.to_string());
        let etag = format!("\"{}\"", hex(&Sha256::digest(&body)[..16]));
        Self { content_type, body, etag }
    }

    /// Whether an `If-None-Match` header names this document.
    pub fn is(&self, if_none_match: &str) -> bool {
        if_none_match
            .split(',')
            .map(|tag| tag.trim().trim_start_matches("W/"))
            .any(|tag| tag == self.etag || tag == "*")
    }
}

/// Bytes in hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// The document at a path: `["api"]`, `["api", "v1"]`, `["apis"]`, `["apis", GROUP]` or `["apis", GROUP, VERSION]`.
/// `accept` is the request's `Accept` header, empty if there is none. `None`: no such group or version.
pub fn document(path: &[&str], accept: &str) -> Option<Document> {
    let form = match path {
        ["api"] | ["apis"] => Form::wanted(accept),
        _ => Form::Plain,
    };
    let groups = groups();
    let value = match (path, form) {
        (["api"], Form::Plain) => json!({
            "kind": "APIVersions",
            "versions": ["v1"],
            "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": "localhost"}],
        }),
        (["apis"], Form::Plain) => {
            let named: Vec<Value> =
                by_name(&groups).filter(|g| g.iter().any(|g| !g.name.is_empty())).map(Group::plain).collect();
            json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": named})
        }
        ([root @ ("api" | "apis")], form) => {
            let asked = |g: &&[Group]| g.iter().any(|g| g.name.is_empty() == (*root == "api"));
            let items: Vec<Value> = by_name(&groups).filter(asked).map(Group::aggregated).collect();
            json!({
                "kind": "APIGroupDiscoveryList",
                "apiVersion": format!("{AGGREGATED}/{}", form.version()),
                "metadata": {},
                "items": items,
            })
        }
        (["apis", name], _) => {
            let group = by_name(&groups).find(|g| g.iter().any(|g| !name.is_empty() && g.name == *name))?;
            let mut value = Group::plain(group);
            value["kind"] = json!("APIGroup");
            value["apiVersion"] = json!("v1");
            value
        }
        (["api", version], _) => groups.iter().find(|g| g.name.is_empty() && g.version == *version)?.resource_list(),
        (["apis", name, version], _) => {
            groups.iter().find(|g| !name.is_empty() && g.name == *name && g.version == *version)?.resource_list()
        }
        _ => return None,
    };
    Some(Document::new(form.content_type(), &value))
}

/// One version of a group. Those of one group follow each other, the preferred one first.
struct Group {
    name: &'static str,
    version: &'static str,
    resources: Vec<Resource>,
}

/// A resource, or (without a kind) only the place of subresources.
struct Resource {
    plural: &'static str,
    singular: &'static str,
    kind: Option<&'static str>,
    namespaced: bool,
    verbs: &'static [&'static str],
    short_names: &'static [&'static str],
    categories: &'static [&'static str],
    /// Stored objects have a storage version.
    stored: bool,
    subresources: Vec<Subresource>,
}

struct Subresource {
    name: &'static str,
    kind: &'static str,
    verbs: &'static [&'static str],
}

impl Resource {
    fn of(kind: &KindInfo) -> Self {
        let mut subresources = Vec::new();
        if kind.status {
            subresources.push(Subresource { name: "status", kind: kind.kind, verbs: STATUS });
        }
        let namespace = kind.group.is_empty() && kind.kind == "Namespace";
        if namespace {
            subresources.push(Subresource { name: "finalize", kind: kind.kind, verbs: &["update"] });
        }
        Self {
            plural: kind.plural,
            singular: kind.singular,
            kind: Some(kind.kind),
            namespaced: kind.scope == Scope::Namespaced,
            verbs: if namespace { NO_COLLECTION } else { ALL },
            short_names: kind.short_names,
            categories: kind.categories,
            stored: true,
            subresources,
        }
    }

    fn review(plural: &'static str, singular: &'static str, kind: &'static str) -> Self {
        Self {
            plural,
            singular,
            kind: Some(kind),
            namespaced: false,
            verbs: CREATE,
            short_names: &[],
            categories: &[],
            stored: false,
            subresources: Vec::new(),
        }
    }
}

/// Everything served, in the order that decides which kind a name means.
fn groups() -> Vec<Group> {
    let stored = |name: &'static str, version: &'static str| Group {
        name,
        version,
        resources: KINDS.iter().filter(|k| k.group == name && k.version == version).map(Resource::of).collect(),
    };
    let event = KINDS.iter().filter(|k| k.group.is_empty() && k.kind == "Event").map(Resource::of).collect();
    let mut core = stored("", "v1");
    for (plural, singular, kind, short_names) in
        [("services", "service", "Service", &["svc"] as &[&str]), ("pods", "pod", "Pod", &["po"])]
    {
        core.resources.push(Resource {
            plural,
            singular,
            kind: Some(kind),
            namespaced: true,
            verbs: READ,
            short_names,
            categories: &[],
            stored: true,
            subresources: Vec::new(),
        });
    }
    vec![
        core,
        stored(GROUP, VERSION),
        Group {
            name: GROUP,
            version: class_version::NEWER,
            resources: KINDS.iter().filter(|k| k.plural == class_version::PLURAL).map(Resource::of).collect(),
        },
        Group {
            name: SUBRESOURCES_GROUP,
            version: VERSION,
            resources: vec![Resource {
                plural: "virtualmachines",
                singular: "virtualmachine",
                kind: None,
                namespaced: true,
                verbs: &[],
                short_names: &[],
                categories: &[],
                stored: false,
                subresources: vec![
                    Subresource { name: "console", kind: "VirtualMachineConsole", verbs: STREAM },
                    Subresource { name: "freeze", kind: "VirtualMachineFreeze", verbs: CONTROL },
                    Subresource { name: "portforward", kind: "VirtualMachinePortForward", verbs: STREAM },
                    Subresource { name: "unfreeze", kind: "VirtualMachineUnfreeze", verbs: CONTROL },
                    Subresource { name: "vnc", kind: "VirtualMachineVNC", verbs: STREAM },
                ],
            }],
        },
        Group {
            name: "apiextensions.k8s.io",
            version: "v1",
            resources: vec![Resource {
                plural: "customresourcedefinitions",
                singular: "customresourcedefinition",
                kind: Some("CustomResourceDefinition"),
                namespaced: false,
                verbs: READ,
                short_names: &["crd", "crds"],
                categories: &["api-extensions"],
                stored: true,
                subresources: Vec::new(),
            }],
        },
        Group {
            name: "authorization.k8s.io",
            version: "v1",
            resources: vec![
                Resource::review("selfsubjectaccessreviews", "selfsubjectaccessreview", "SelfSubjectAccessReview"),
                Resource::review("selfsubjectrulesreviews", "selfsubjectrulesreview", "SelfSubjectRulesReview"),
            ],
        },
        Group {
            name: "authentication.k8s.io",
            version: "v1",
            resources: vec![Resource::review("selfsubjectreviews", "selfsubjectreview", "SelfSubjectReview")],
        },
        stored("coordination.k8s.io", "v1"),
        Group { name: "events.k8s.io", version: "v1", resources: event },
    ]
}

/// The versions of each group.
fn by_name(groups: &[Group]) -> impl Iterator<Item = &[Group]> {
    groups.chunk_by(|a, b| a.name == b.name)
}

impl Group {
    fn group_version(&self) -> String {
        if self.name.is_empty() { self.version.to_owned() } else { format!("{}/{}", self.name, self.version) }
    }

    /// A group with all its versions.
    fn plain(versions: &[Group]) -> Value {
        let list: Vec<Value> =
            versions.iter().map(|g| json!({"groupVersion": g.group_version(), "version": g.version})).collect();
        json!({"name": versions.first().map(|g| g.name), "versions": list, "preferredVersion": list.first()})
    }

    fn resource_list(&self) -> Value {
        let mut out = Vec::new();
        for resource in &self.resources {
            if let Some(kind) = resource.kind {
                let mut entry = json!({
                    "name": resource.plural,
                    "singularName": resource.singular,
                    "namespaced": resource.namespaced,
                    "kind": kind,
                    "verbs": resource.verbs,
                });
                if !resource.short_names.is_empty() {
                    entry["shortNames"] = json!(resource.short_names);
                }
                if !resource.categories.is_empty() {
                    entry["categories"] = json!(resource.categories);
                }
                if resource.stored {
                    entry["storageVersionHash"] = json!(self.storage_hash(kind));
                }
                out.push(entry);
            }
            out.extend(resource.subresources.iter().map(|sub| {
                json!({
                    "name": format!("{}/{}", resource.plural, sub.name),
                    "singularName": "",
                    "namespaced": resource.namespaced,
                    "kind": sub.kind,
                    "verbs": sub.verbs,
                })
            }));
        }
        json!({
            "kind": "APIResourceList",
            "apiVersion": "v1",
            "groupVersion": self.group_version(),
            "resources": out,
        })
    }

    fn storage_hash(&self, kind: &str) -> String {
        let digest = Sha256::digest(format!("{}/{}/{kind}", self.name, self.version));
        base64::engine::general_purpose::STANDARD.encode(&digest[..8])
    }

    /// A group with all its versions and their resources.
    fn aggregated(versions: &[Group]) -> Value {
        let name = versions.first().map(|g| g.name).filter(|name| !name.is_empty());
        let metadata = name.map_or_else(|| json!({}), |name| json!({ "name": name }));
        let list: Vec<Value> = versions.iter().map(Group::aggregated_version).collect();
        json!({"metadata": metadata, "versions": list})
    }

    fn aggregated_version(&self) -> Value {
        let response = |kind: &str| json!({"group": self.name, "version": self.version, "kind": kind});
        let resources: Vec<Value> = self
            .resources
            .iter()
            .map(|resource| {
                let mut entry = json!({
                    "resource": resource.plural,
                    "scope": if resource.namespaced { "Namespaced" } else { "Cluster" },
                    "singularResource": resource.singular,
                    "verbs": resource.verbs,
                });
                if let Some(kind) = resource.kind {
                    entry["responseKind"] = response(kind);
                }
                if !resource.short_names.is_empty() {
                    entry["shortNames"] = json!(resource.short_names);
                }
                if !resource.categories.is_empty() {
                    entry["categories"] = json!(resource.categories);
                }
                if !resource.subresources.is_empty() {
                    let subs = resource.subresources.iter().map(
                        |sub| json!({"subresource": sub.name, "responseKind": response(sub.kind), "verbs": sub.verbs}),
                    );
                    entry["subresources"] = subs.collect();
                }
                entry
            })
            .collect();
        json!({"version": self.version, "resources": resources, "freshness": "Current"})
    }
}

#[cfg(test)]
#[path = "discovery_tests.rs"]
mod tests;
