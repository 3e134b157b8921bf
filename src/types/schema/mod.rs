//! Structural schemas: what the API server does to an object before it stores it.
//!
//! [`Schema::of`] compiles the definition of a kind once; the walk then works on JSON values: [`Schema::prune`] takes
//! away what the kind does not have, [`Schema::defaults`] fills in what is missing, [`Schema::validate`] reports what
//! is not allowed. Server-side apply reads the same tree to know which lists and maps are owned whole.

mod compile;
mod core;
mod validate;

use std::sync::{Arc, OnceLock};

use regex::Regex;
use serde_json::{Map, Value};

pub use self::core::{document as core_document, inlined, metadata as metadata_document};

use super::field_error::FieldError;
use super::kinds::KindInfo;
use super::per_kind::PerKind;

static SCHEMAS: PerKind<Schema> = PerKind::new();

/// How the items of a list are merged and owned.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ListType {
    /// As one value.
    #[default]
    Atomic,
    /// Each scalar by itself.
    Set,
    /// Each object by the values of these fields.
    Map(Vec<String>),
}

/// The JSON type a node demands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Type {
    /// Any.
    #[default]
    Any,
    Object,
    Array,
    Text,
    Integer,
    Number,
    Boolean,
    /// An integer or a string.
    IntOrString,
}

/// One node of a compiled schema.
#[derive(Debug, Default)]
pub struct Schema {
    type_: Type,
    nullable: bool,
    /// Unknown fields of this object stay.
    preserve: bool,
    /// The map is owned as one value.
    atomic_map: bool,
    /// A struct of a built-in kind: always there, if only empty, so never owned by itself.
    implicit: bool,
    list: ListType,
    /// Sorted by name.
    properties: Vec<(String, Schema)>,
    /// Schema of keys that are not in `properties`.
    additional: Option<Box<Schema>>,
    items: Option<Box<Schema>>,
    default: Option<Value>,
    checks: Option<Box<Checks>>,
}

/// Constraints on values; few nodes have any.
#[derive(Debug, Default)]
struct Checks {
    required: Vec<String>,
    allowed: Vec<Value>,
    minimum: Option<f64>,
    maximum: Option<f64>,
    exclusive_minimum: bool,
    exclusive_maximum: bool,
    multiple_of: Option<f64>,
    min_length: Option<u64>,
    max_length: Option<u64>,
    min_items: Option<u64>,
    max_items: Option<u64>,
    min_properties: Option<u64>,
    max_properties: Option<u64>,
    unique_items: bool,
    pattern: Option<Arc<Pattern>>,
    format: Option<String>,
    all_of: Vec<Schema>,
    any_of: Vec<Schema>,
    one_of: Vec<Schema>,
    not: Option<Box<Schema>>,
}

/// A pattern, compiled when first needed. Equal patterns share one.
#[derive(Debug)]
struct Pattern {
    text: String,
    regex: OnceLock<Option<Regex>>,
}

impl Pattern {
    /// Whether the text matches; a pattern that cannot be compiled lets everything pass.
    fn matches(&self, text: &str) -> bool {
        let regex = self.regex.get_or_init(|| Regex::new(&self.text).ok());
        regex.as_ref().is_none_or(|r| r.is_match(text))
    }
}

impl Schema {
    /// The schema of a kind: of the definition's version for custom kinds, of the type for core kinds.
    ///
    /// Core kinds check types only (their rules are not in their schema); callers answer a wrong type there with 400.
    pub fn of(kind: &KindInfo) -> Arc<Schema> {
        SCHEMAS.get(kind, || match kind.crd {
            Some(crd) => {
                let definition = crd();
                let version = definition.spec.versions.into_iter().find(|v| v.name == kind.version);
                let document = version
                    .and_then(|v| v.schema)
                    .and_then(|s| s.open_api_v3_schema)
                    .and_then(|s| serde_json::to_value(s).ok())
                    .unwrap_or(Value::Null);
                Schema::custom(&document)
            }
            None => Schema::built_in(kind.group, kind.kind),
        })
    }

    /// Compiles a custom kind's `openAPIV3Schema`. Its `metadata` is always the standard one.
    pub fn custom(document: &Value) -> Schema {
        let mut schema = compile::compile(document, compile::Rules::Custom);
        schema.set("metadata", Schema::metadata());
        schema
    }

    /// The schema of a built-in kind; of a kind not known here, one that keeps everything.
    pub fn built_in(group: &str, kind: &str) -> Schema {
        match core::document(group, kind) {
            Some(document) => compile::compile(&document, compile::Rules::Core),
            None => Schema { type_: Type::Object, preserve: true, ..Schema::default() },
        }
    }

    /// The schema of `metadata`.
    pub fn metadata() -> Schema {
        compile::compile(&core::metadata(), compile::Rules::Core)
    }

    fn set(&mut self, name: &str, schema: Schema) {
        match self.properties.binary_search_by(|(n, _)| n.as_str().cmp(name)) {
            Ok(at) => self.properties[at].1 = schema,
            Err(at) => self.properties.insert(at, (name.to_owned(), schema)),
        }
    }

    /// The schema of a declared field.
    fn property(&self, name: &str) -> Option<&Schema> {
        let at = self.properties.binary_search_by(|(n, _)| n.as_str().cmp(name)).ok()?;
        self.properties.get(at).map(|(_, schema)| schema)
    }

    /// The schema of a field or map key.
    pub fn field(&self, name: &str) -> Option<&Schema> {
        self.property(name).or(self.additional.as_deref())
    }

    /// Whether `name` is a declared field (and not a key of a map).
    pub fn declares(&self, name: &str) -> bool {
        self.property(name).is_some()
    }

    /// Whether this is a struct of a built-in kind, which exists in every object even when it is not written.
    pub fn is_implicit(&self) -> bool {
        self.implicit
    }

    /// The schema of list items.
    pub fn items(&self) -> Option<&Schema> {
        self.items.as_deref()
    }

    /// How a list here is merged.
    pub fn list_type(&self) -> &ListType {
        &self.list
    }

    /// Whether an object here is owned and replaced whole.
    pub fn is_atomic_map(&self) -> bool {
        self.atomic_map
    }

    /// The default of a field of list items that are keyed by it, for keys left out by the client.
    pub fn default_value(&self) -> Option<&Value> {
        self.default.as_ref()
    }

    /// Removes fields the schema does not have, except below `x-kubernetes-preserve-unknown-fields`. Returns their
    /// paths (`spec.cpuu`, `spec.list[0].x`), in document order.
    pub fn prune(&self, object: &mut Value) -> Vec<String> {
        let mut removed = Vec::new();
        self.prune_at(object, &mut String::new(), true, &mut removed);
        removed
    }

    fn prune_at(&self, value: &mut Value, path: &mut String, root: bool, removed: &mut Vec<String>) {
        match value {
            Value::Object(map) => {
                if self.type_ != Type::Object && self.type_ != Type::Any {
                    return;
                }
                map.retain(|key, child| {
                    let known = self.field(key);
                    let length = path.len();
                    push_field(path, key);
                    let keep = match known {
                        Some(schema) => {
                            schema.prune_at(child, path, false, removed);
                            true
                        }
                        None => self.preserve || (root && matches!(key.as_str(), "apiVersion" | "kind" | "metadata")),
                    };
                    if !keep {
                        removed.push(path.clone());
                    }
                    path.truncate(length);
                    keep
                });
            }
            Value::Array(list) => {
                let Some(items) = &self.items else { return };
                for (n, child) in list.iter_mut().enumerate() {
                    let length = path.len();
                    push_index(path, n);
                    items.prune_at(child, path, false, removed);
                    path.truncate(length);
                }
            }
            _ => {}
        }
    }

    /// Fills in defaults, also inside defaulted and given objects and list items, after taking away nulls of fields
    /// that may not be null (so that such a field gets its default, or is absent).
    pub fn defaults(&self, object: &mut Value) {
        match object {
            Value::Object(map) => {
                map.retain(|key, child| !child.is_null() || self.field(key).is_none_or(|s| s.nullable));
                for (name, schema) in &self.properties {
                    if let (Some(default), false) = (&schema.default, map.contains_key(name)) {
                        map.insert(name.clone(), default.clone());
                    }
                }
                self.defaults_below(map);
            }
            Value::Array(list) => {
                if let Some(items) = &self.items {
                    list.iter_mut().for_each(|item| items.defaults(item));
                }
            }
            _ => {}
        }
    }

    fn defaults_below(&self, map: &mut Map<String, Value>) {
        for (key, child) in map.iter_mut().filter(|(_, c)| c.is_object() || c.is_array()) {
            if let Some(schema) = self.field(key) {
                schema.defaults(child);
            }
        }
    }

    /// Everything in the object that the schema does not allow, in document order (at most 100 errors).
    pub fn validate(&self, object: &Value) -> Vec<FieldError> {
        validate::validate(self, object)
    }
}

/// Appends `.name` (no dot at the start) to a path.
fn push_field(path: &mut String, name: &str) {
    if !path.is_empty() {
        path.push('.');
    }
    path.push_str(name);
}

/// Appends `[n]` to a path.
fn push_index(path: &mut String, n: usize) {
    path.push('[');
    path.push_str(&n.to_string());
    path.push(']');
}

#[cfg(test)]
mod tests;
