//! Objects in the form a client asked for: whole, as a Table, or metadata only.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};

use super::media::{Form, Wanted};
use super::object;
use super::request::{Face, Query, Resource};
use super::skim;
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
            Form::Whole | Form::Metadata => self.made(entry),
            Form::Table => self.one_row(entry, true),
        }
    }

    /// One object for a watch event; a Table has its columns only in the first one.
    pub fn event_object(&self, entry: &Entry, first: bool) -> Bytes {
        match self.wanted.form {
            Form::Table => self.one_row(entry, first),
            _ => self.object(entry),
        }
    }

    /// A list of one page, whole.
    pub fn list(&self, metadata: &Value, entries: &[Arc<Entry>]) -> Bytes {
        let mut out = self.list_head(metadata, true);
        let now = jiff::Timestamp::now();
        for (n, entry) in entries.iter().enumerate() {
            if n > 0 {
                out.push(b',');
            }
            self.item(entry, now, &mut out);
        }
        out.extend_from_slice(LIST_TAIL);
        out.into()
    }

    /// What a list begins with, up to its first item. `columns` only concerns Tables.
    pub fn list_head(&self, metadata: &Value, columns: bool) -> Vec<u8> {
        let kind = match self.wanted.form {
            Form::Metadata => "PartialObjectMetadataList".to_owned(),
            Form::Table => "Table".to_owned(),
            Form::Whole => format!("{}List", self.resource.kind.kind),
        };
        let api_version = match self.wanted.form {
            Form::Whole => self.resource.api_version(),
            _ => "meta.k8s.io/v1".to_owned(),
        };
        let items = match self.wanted.form {
            Form::Table if columns => format!("\"columnDefinitions\":{},\"rows\":[", self.columns()),
            Form::Table => "\"columnDefinitions\":null,\"rows\":[".to_owned(),
            _ => "\"items\":[".to_owned(),
        };
        let (kind, api_version) = (Value::from(kind), Value::from(api_version));
        format!("{{\"kind\":{kind},\"apiVersion\":{api_version},\"metadata\":{metadata},{items}").into_bytes()
    }

    /// Appends what stands for an object in a list: a row, its metadata, or all of it.
    pub fn item(&self, entry: &Entry, now: jiff::Timestamp, out: &mut Vec<u8>) {
        match self.wanted.form {
            Form::Whole if self.is_stored_form() => out.extend_from_slice(&entry.bytes),
            Form::Whole => write_json(out, &self.faced(entry)),
            Form::Metadata => {
                // Every face has the same metadata.
                let object = Value::Object(object::parse(entry));
                write_metadata(out, &object);
            }
            Form::Table => self.row(entry, now, out),
        }
    }

    fn made(&self, entry: &Entry) -> Bytes {
        let mut out = Vec::with_capacity(entry.bytes.len());
        self.item(entry, jiff::Timestamp::now(), &mut out);
        out.into()
    }

    /// A Table of one object.
    fn one_row(&self, entry: &Entry, columns: bool) -> Bytes {
        let mut out = self.list_head(&json!({"resourceVersion": entry.revision.to_string()}), columns);
        self.row(entry, jiff::Timestamp::now(), &mut out);
        out.extend_from_slice(LIST_TAIL);
        out.into()
    }

    /// The object in the form's own version.
    fn faced(&self, entry: &Entry) -> Value {
        Value::Object(self.resource.face.shown(object::parse(entry)))
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

    fn row(&self, entry: &Entry, now: jiff::Timestamp, out: &mut Vec<u8>) {
        let object = Value::Object(skim::without_managed_fields(entry));
        out.extend_from_slice(b"{\"cells\":");
        write_json(out, &printer::cells(self.resource.kind, &object, now));
        match self.include {
            Include::None => {}
            Include::Metadata => {
                out.extend_from_slice(b",\"object\":");
                write_metadata(out, &object);
            }
            Include::Object => {
                out.extend_from_slice(b",\"object\":");
                match self.resource.face {
                    Face::Native => out.extend_from_slice(&entry.bytes),
                    Face::EventsV1 | Face::NewerClass => write_json(out, &self.faced(entry)),
                }
            }
        }
        out.push(b'}');
    }
}

/// What a list ends with.
pub const LIST_TAIL: &[u8] = b"]}";

fn write_json(out: &mut Vec<u8>, value: &impl serde::Serialize) {
    // Writing to memory does not fail, and every key is a string.
    serde_json::to_writer(out, value).ok();
}

fn write_metadata(out: &mut Vec<u8>, object: &Value) {
    out.extend_from_slice(b"{\"kind\":\"PartialObjectMetadata\",\"apiVersion\":\"meta.k8s.io/v1\",\"metadata\":");
    match object.get("metadata") {
        Some(metadata) => write_json(out, metadata),
        None => out.extend_from_slice(b"{}"),
    }
    out.push(b'}');
}
