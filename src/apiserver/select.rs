//! Which objects of a collection a request means.

use serde_json::Value;

use super::object;
use super::request::{Query, Resource};
use super::skim;
use super::status::Failure;
use crate::store::Entry;
use crate::types::selector::{FieldSelector, FieldSelectorError, LabelSelector, selectable_fields};

/// Label and field selector of a request.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    labels: LabelSelector,
    fields: FieldSelector,
    /// The field selector looks at nothing but name and namespace.
    by_key: bool,
    /// The one object that the path names.
    name: Option<String>,
}

impl Selection {
    /// Reads both selectors.
    ///
    /// # Errors
    /// 400 for one that cannot be read, or a field that is not selectable.
    pub fn of(query: &Query, resource: Resource) -> Result<Self, Failure> {
        let labels = LabelSelector::parse(query.get("labelSelector").unwrap_or(""))
            .map_err(|e| Failure::bad_request(format!("unable to parse labelSelector: {e}")))?;
        let kind = resource.kind;
        let fields =
            FieldSelector::parse(query.get("fieldSelector").unwrap_or(""), selectable_fields(kind.group, kind.kind))
                .map_err(|e: FieldSelectorError| Failure::bad_request(e.to_string()))?;
        let by_key = fields.terms().iter().all(|t| matches!(t.field.as_str(), "metadata.name" | "metadata.namespace"));
        Ok(Self { labels, fields, by_key, name: None })
    }

    /// The same, of one object only.
    pub fn and_name(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }

    /// Whether everything is meant.
    pub fn is_all(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty() && self.name.is_none()
    }

    /// Whether `entry` is meant. Reads no more of it than the selectors ask for.
    pub fn matches(&self, entry: &Entry) -> bool {
        if self.is_all() {
            return true;
        }
        let key_fits = self.fields.terms().iter().all(|term| {
            let value = match term.field.as_str() {
                "metadata.name" => &entry.key.name,
                "metadata.namespace" => &entry.key.namespace,
                _ => return true,
            };
            (**value == *term.value) == term.equals
        });
        if !key_fits || self.name.as_deref().is_some_and(|name| name != &*entry.key.name) {
            return false;
        }
        if self.by_key {
            return self.labels.is_empty() || self.labels.matches(skim::labels(&entry.bytes).as_ref());
        }
        let object = Value::Object(object::parse(entry));
        self.labels.matches_object(&object) && self.fields.matches_object(&object)
    }
}
