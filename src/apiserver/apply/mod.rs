//! Server-side apply and field ownership, as pure functions over objects.
//!
//! [`apply`] merges what a manager applies into the live object; [`track`] records ownership for every other write.
//! Both leave the new `metadata.managedFields` in the object they return. Which lists and maps are owned whole comes
//! from the kind's [`Schema`].

mod fields;
mod managed;
mod walk;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use self::fields::FieldSet;
use self::managed::{Entry, Operation, Sent};
use crate::types::field_error::FieldError;
use crate::types::schema::Schema;

/// Owner of everything that was there before anybody's ownership was known.
const BEFORE: &str = "before-first-apply";

/// Fields of `metadata` that are the server's and never owned.
const SERVER_FIELDS: [&str; 7] =
    ["creationTimestamp", "selfLink", "uid", "generation", "managedFields", "resourceVersion", "clusterName"];

/// Who writes, where and when.
#[derive(Debug, Clone, Copy)]
pub struct Writer<'a> {
    /// `fieldManager`, or the User-Agent up to its first `/`.
    pub manager: &'a str,
    /// `status` for the status subresource; `None` for the object itself.
    pub subresource: Option<&'a str>,
    /// apiVersion of the request.
    pub api_version: &'a str,
    /// Whether the kind has a status subresource, so that `.status` is not part of the object's own endpoint.
    pub status_apart: bool,
    /// Now.
    pub now: Timestamp,
}

impl Writer<'_> {
    fn time(&self) -> String {
        self.now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    }

    /// Leaves of `set` what this endpoint may own: the status only, or all but the status, and never server fields.
    fn owned(&self, mut set: FieldSet) -> FieldSet {
        set.member = false;
        let status = fields::field("status");
        match self.subresource {
            Some(_) => set.children.retain(|element, _| *element == status),
            None => {
                if self.status_apart {
                    set.children.remove(&status);
                }
                for name in ["apiVersion", "kind"] {
                    set.children.remove(&fields::field(name));
                }
                if let Some(metadata) = set.children.get_mut(&fields::field("metadata")) {
                    metadata.member = false;
                    for name in SERVER_FIELDS.iter().chain(&["name", "namespace"]) {
                        metadata.children.remove(&fields::field(name));
                    }
                }
                set.children.retain(|_, below| !below.is_empty());
            }
        }
        set
    }
}

/// One field that somebody else owns and the applied object would change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// The other owner: `"m1"`, or `"kubectl-edit" using v1` for a plain writer.
    pub manager: String,
    /// `.spec.cpu.cores`.
    pub path: String,
}

/// Why an object was not applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// Others own fields that would change; HTTP 409, reason `Conflict`.
    #[error("{}", conflict_message(.0))]
    Conflicts(Vec<Conflict>),
    /// The applied lists cannot be merged; HTTP 422.
    #[error("{}", crate::types::field_error::summary(.0))]
    Invalid(Vec<FieldError>),
}

impl ApplyError {
    /// As a Status' `details.causes`.
    pub fn causes(&self) -> Vec<Value> {
        match self {
            Self::Conflicts(conflicts) => conflicts
                .iter()
                .map(|c| {
                    let message = format!("conflict with {}", c.manager);
                    json!({"reason": "FieldManagerConflict", "message": message, "field": c.path})
                })
                .collect(),
            Self::Invalid(errors) => errors.iter().map(FieldError::cause).collect(),
        }
    }
}

fn conflict_message(conflicts: &[Conflict]) -> String {
    if let [only] = conflicts {
        return format!("Apply failed with 1 conflict: conflict with {}: {}", only.manager, only.path);
    }
    let mut text = format!("Apply failed with {} conflicts:", conflicts.len());
    let mut manager = None;
    for (n, conflict) in conflicts.iter().enumerate() {
        if manager != Some(&conflict.manager) {
            let separator = if n == 0 { " " } else { "\n" };
            text.push_str(&format!("{separator}conflicts with {}:", conflict.manager));
            manager = Some(&conflict.manager);
        }
        text.push_str(&format!("\n- {}", conflict.path));
    }
    text
}

/// What is wrong with a `fieldManager` parameter, if anything.
pub fn manager_error(manager: &str) -> Option<FieldError> {
    if manager.len() > 128 {
        return Some(FieldError::too_long("fieldManager", 128, ""));
    }
    if manager.chars().any(char::is_control) {
        let value = Value::from(manager);
        return Some(FieldError::invalid("fieldManager", &value, "should only contain printable characters"));
    }
    None
}

/// Applies `applied` to the live object (`None`: it does not exist yet) and returns the object to store, before
/// defaults and validation. When nothing changes the result equals the live object, `managedFields` included.
///
/// Through a status subresource only `.status` is applied; through the object's own endpoint `.status` is ignored when
/// the kind keeps it apart. Server fields in the body (uid, resourceVersion, ...) are ignored here: preconditions are
/// the caller's.
///
/// Errors: [`ApplyError::Conflicts`] unless `force`, which takes the fields from their owners.
pub fn apply(
    live: Option<&Value>,
    applied: &Value,
    schema: &Schema,
    writer: &Writer<'_>,
    force: bool,
) -> Result<Value, ApplyError> {
    let body = applicable(applied, writer);
    let before = live.map_or_else(|| json!({}), without_owners);
    let mut entries = live.map(managed::owners).unwrap_or_default();
    let mut mine = Entry::new(writer, Operation::Apply);
    if live.is_some() && entries.is_empty() {
        let everything = walk::difference(Some(schema), Some(&json!({})), Some(&before)).added;
        let whole = Writer { manager: BEFORE, subresource: None, status_apart: false, ..*writer };
        entries.push(Entry {
            time: Some(writer.time()),
            fields: whole.owned(everything),
            ..Entry::new(&whole, Operation::Update)
        });
    }
    let last = entries.iter().position(|e| e.same_owner(&mine)).map(|at| entries.swap_remove(at));

    let mut set = walk::field_set(Some(schema), &body);
    let mut merged = walk::merge(Some(schema), Some(&before), &body).map_err(ApplyError::Invalid)?;
    if let Some(last) = &last {
        let parents = |set: &FieldSet| walk::with_declared_parents(Some(schema), set);
        // What is written stays, even an empty list, which holds nothing that could be owned.
        let mut claimed = walk::outline(Some(schema), &body);
        entries.iter().for_each(|e| claimed.add(&parents(&e.fields)));
        let present = parents(&walk::field_set(Some(schema), &merged));
        let mut dropped = parents(&last.fields).common(&present);
        dropped.subtract(&claimed);
        walk::remove(Some(schema), &mut merged, &dropped, &claimed);
    }

    let difference = walk::difference(Some(schema), Some(&before), Some(&merged));
    let touched = difference.set();
    let mut conflicts = Vec::new();
    for entry in &mut entries {
        let contested = entry.fields.common(&touched);
        let manager = entry.shown();
        conflicts.extend(contested.paths().into_iter().map(|path| Conflict { manager: manager.clone(), path }));
        entry.fields.subtract(&contested);
        entry.fields.subtract(&difference.removed);
    }
    if !conflicts.is_empty() && !force {
        conflicts.sort_by(|a, b| (&a.manager, &a.path).cmp(&(&b.manager, &b.path)));
        return Err(ApplyError::Conflicts(conflicts));
    }

    set = writer.owned(set);
    mine.time = match last {
        Some(last) if last.fields == set && merged == before => last.time,
        _ => Some(writer.time()),
    };
    mine.fields = set;
    entries.push(mine);
    managed::write(&mut merged, entries);
    Ok(merged)
}

/// Records who owns what after a write that is no apply: `new` (what will be stored) against the live object (`None`:
/// it is being created). Changed fields become the writer's and leave other owners, removed fields leave all. Honours
/// what the client sent in `managedFields`: `[{}]` clears, a list replaces, nothing keeps. An object whose owners were
/// cleared stays without until somebody applies.
pub fn track(live: Option<&Value>, new: &mut Value, schema: &Schema, writer: &Writer<'_>) {
    let sent = if writer.subresource.is_some() { Sent::Keep } else { managed::sent(new) };
    let mut entries = match sent {
        Sent::Clear => Vec::new(),
        Sent::Replace(entries) => entries,
        Sent::Keep => live.map(managed::owners).unwrap_or_default(),
    };
    if live.is_some() && entries.is_empty() {
        managed::write(new, entries);
        return;
    }
    let before = live.map_or_else(|| json!({}), without_owners);
    let after = without_owners(new);
    let difference = walk::difference(Some(schema), Some(&before), Some(&after));
    let touched = writer.owned(difference.set());
    for entry in &mut entries {
        entry.fields.subtract(&touched);
        entry.fields.subtract(&difference.removed);
    }
    if !touched.is_empty() {
        let mut mine = Entry::new(writer, Operation::Update);
        if let Some(at) = entries.iter().position(|e| e.same_owner(&mine)) {
            mine = entries.swap_remove(at);
        }
        mine.fields.add(&touched);
        mine.time = Some(writer.time());
        entries.push(mine);
        entries.retain(|e| !e.fields.is_empty());
        managed::fold_ancient(&mut entries);
    }
    managed::write(new, entries);
}

/// The part of an applied body that this endpoint takes.
fn applicable(applied: &Value, writer: &Writer<'_>) -> Value {
    let mut body = applied.as_object().cloned().unwrap_or_default();
    if writer.subresource.is_some() {
        body.retain(|name, _| matches!(name.as_str(), "apiVersion" | "kind" | "metadata" | "status"));
        if let Some(metadata) = body.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.retain(|name, _| matches!(name.as_str(), "name" | "namespace"));
        }
    } else if writer.status_apart {
        body.shift_remove("status");
    }
    let metadata = body.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
    if let Some(metadata) = metadata.as_object_mut() {
        metadata.retain(|name, _| {
            !SERVER_FIELDS.contains(&name.as_str())
                && !matches!(name.as_str(), "deletionTimestamp" | "deletionGracePeriodSeconds")
        });
    }
    Value::Object(body)
}

fn without_owners(object: &Value) -> Value {
    let mut copy = object.clone();
    if let Some(metadata) = copy.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.shift_remove("managedFields");
    }
    copy
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
