//! Objects in the form a client asked for: whole, as a Table, or metadata only.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::core_kinds::event;
use super::media::{Form, Wanted};
use super::object;
use super::request::{Face, Query, Resource};
use super::status::Failure;
use crate::store::Entry;
use crate::types::printer;

/// What rows of a Table carry of the object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Include {
    /// Nothing.
    None,
    /// Its metadata.
    Metadata,
    /// All.
    Object,
}

/// How objects are shown.
#[derive(Debug, Clone, Copy)]
pub struct Presentation {
    /// Of which kind.
    pub resource: Resource,
    /// Encoding and form.
    pub wanted: Wanted,
    /// For Tables.
    pub include: Include,
}

impl Presentation {
    /// For a request's Accept header and query.
    ///
    /// # Errors
    /// 400 for an unknown `includeObject`.
    pub fn of(resource: Resource, wanted: Wanted, query: &Query) -> Result<Self, Failure> {
        let include = match query.get("includeObject") {
            None | Some("Metadata") => Include::Metadata,
            Some("None") => Include::None,
            Some("Object") => Include::Object,
            Some(other) => {
                return Err(Failure::bad_request(format!(
                    "includeObject={other:?}: must be one of None, Metadata, Object"
                )));
            }
        };
        Ok(Self { resource, wanted, include })
    }

    /// Whether stored bytes are the answer as they are.
    pub fn is_stored_form(&self) -> bool {
        self.wanted.form == Form::Whole && self.resource.face == Face::Native
    }

    /// One object, encoded as JSON.
    pub fn object(&self, entry: &Entry) -> Bytes {
        match self.wanted.form {
            Form::Whole if self.is_stored_form() => entry.bytes.clone(),
            Form::Whole => self.faced(entry).to_string().into(),
            Form::Metadata => metadata_only(&self.faced(entry)).to_string().into(),
            Form::Table => {
                let version = json!({"resourceVersion": entry.revision.to_string()});
                let rows = vec![self.row(entry, jiff::Timestamp::now())];
                self.table(version, Some(self.columns()), rows).to_string().into()
            }
        }
    }

    /// One object for a watch event; a Table has its columns only in the first one.
    pub fn event_object(&self, entry: &Entry, first: bool) -> Bytes {
        match self.wanted.form {
            Form::Table => {
                let version = json!({"resourceVersion": entry.revision.to_string()});
                let rows = vec![self.row(entry, jiff::Timestamp::now())];
                self.table(version, first.then(|| self.columns()), rows).to_string().into()
            }
            _ => self.object(entry),
        }
    }

    /// The object in the form's own version.
    fn faced(&self, entry: &Entry) -> Value {
        let object = object::parse(entry);
        Value::Object(match self.resource.face {
            Face::Native => object,
            Face::EventsV1 => event::to_events_v1(object),
        })
    }

    /// `kind` of a list in this form.
    pub fn list_kind(&self) -> String {
        match self.wanted.form {
            Form::Metadata => "PartialObjectMetadataList".to_owned(),
            Form::Table => "Table".to_owned(),
            Form::Whole => format!("{}List", self.resource.kind.kind),
        }
    }

    /// `apiVersion` of a list in this form.
    pub fn list_api_version(&self) -> String {
        match self.wanted.form {
            Form::Whole => self.resource.api_version(),
            _ => "meta.k8s.io/v1".to_owned(),
        }
    }

    /// A list that is not sent as stored.
    pub fn list(&self, metadata: Value, entries: &[Arc<Entry>]) -> Value {
        if self.wanted.form == Form::Table {
            let now = jiff::Timestamp::now();
            return self.table(metadata, Some(self.columns()), entries.iter().map(|e| self.row(e, now)).collect());
        }
        let items: Vec<Value> = entries
            .iter()
            .map(|e| self.faced(e))
            .map(|o| if self.wanted.form == Form::Metadata { metadata_only(&o) } else { o })
            .collect();
        json!({
            "kind": self.list_kind(), "apiVersion": self.list_api_version(), "metadata": metadata, "items": items,
        })
    }

    fn table(&self, metadata: Value, columns: Option<Value>, rows: Vec<Value>) -> Value {
        json!({
            "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata,
            "columnDefinitions": columns, "rows": rows,
        })
    }

    fn columns(&self) -> Value {
        printer::columns(self.resource.kind)
            .iter()
            .map(|c| {
                json!({
                    "name": c.name, "type": c.type_, "format": printer::format_of(c),
                    "description": c.description, "priority": c.priority,
                })
            })
            .collect()
    }

    fn row(&self, entry: &Entry, now: jiff::Timestamp) -> Value {
        let object = Value::Object(object::parse(entry));
        let cells = printer::cells(self.resource.kind, &object, now);
        match self.include {
            Include::None => json!({"cells": cells}),
            Include::Metadata => json!({"cells": cells, "object": metadata_only(&object)}),
            Include::Object => json!({"cells": cells, "object": self.faced(entry)}),
        }
    }
}

fn metadata_only(object: &Value) -> Value {
    let mut metadata = object.get("metadata").cloned().unwrap_or_else(|| Value::Object(Map::new()));
    // Rows and caches of metadata never need it, and it is the largest part.
    if let Some(map) = metadata.as_object_mut() {
        map.remove("managedFields");
    }
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata})
}
