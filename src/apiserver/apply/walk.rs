//! Walks over objects with their schema: which fields an object holds, how two objects differ, how an applied object is
//! merged into a live one, and how fields are taken out.

use std::collections::{BTreeSet, HashMap, HashSet};

use serde_json::{Map, Value};

use super::fields::{self, FieldSet};
use crate::types::field_error::FieldError;
use crate::types::schema::{ListType, Schema};

/// The element that identifies an item of a list, or `None` for lists owned whole and for items that lack a key.
fn element(schema: &Schema, item: &Value) -> Option<String> {
    match schema.list_type() {
        ListType::Atomic => None,
        ListType::Set => Some(fields::value(item)),
        ListType::Map(keys) => {
            let item = item.as_object()?;
            let default = |key: &str| schema.items()?.field(key)?.default_value();
            let pairs: Option<Vec<(&str, &Value)>> =
                keys.iter().map(|key| Some((key.as_str(), item.get(key).or_else(|| default(key))?))).collect();
            Some(fields::key(pairs?))
        }
    }
}

/// Whether a list at this place is owned whole. Without a schema (below free-form fields) it is.
fn atomic_list(schema: Option<&Schema>) -> bool {
    schema.is_none_or(|s| *s.list_type() == ListType::Atomic)
}

fn atomic_map(schema: Option<&Schema>) -> bool {
    schema.is_some_and(Schema::is_atomic_map)
}

/// The fields that `value` holds: its leaves, keys of maps, items of keyed lists, and empty objects.
pub fn field_set(schema: Option<&Schema>, value: &Value) -> FieldSet {
    let mut set = FieldSet::default();
    match value {
        Value::Object(map) if !atomic_map(schema) => {
            for (name, child) in map {
                let mut below = field_set(schema.and_then(|s| s.field(name)), child);
                let empty = child.is_null() || child.as_object().is_some_and(Map::is_empty);
                below.member |= empty || !schema.is_some_and(|s| s.declares(name));
                set.attach(fields::field(name), below);
            }
        }
        Value::Array(list) if !atomic_list(schema) => {
            let Some(schema) = schema else { return set };
            for item in list {
                if let Some(element) = element(schema, item) {
                    let mut below = match schema.list_type() {
                        ListType::Map(_) => field_set(schema.items(), item),
                        _ => FieldSet::default(),
                    };
                    below.member = true;
                    set.attach(element, below);
                }
            }
        }
        _ => set.member = true,
    }
    set
}

/// Every field and list item that is written in `value`, containers and empty ones included.
pub fn outline(schema: Option<&Schema>, value: &Value) -> FieldSet {
    let mut set = FieldSet { member: true, ..FieldSet::default() };
    match value {
        Value::Object(map) if !atomic_map(schema) => {
            for (name, child) in map {
                set.attach(fields::field(name), outline(schema.and_then(|s| s.field(name)), child));
            }
        }
        Value::Array(list) if !atomic_list(schema) => {
            for item in list {
                if let Some(element) = schema.and_then(|s| element(s, item)) {
                    set.attach(element, outline(schema.and_then(Schema::items), item));
                }
            }
        }
        _ => {}
    }
    set
}

/// How two objects differ.
#[derive(Debug, Default, PartialEq)]
pub struct Difference {
    /// Fields only in the second.
    pub added: FieldSet,
    /// Fields only in the first.
    pub removed: FieldSet,
    /// Leaves in both with different values.
    pub changed: FieldSet,
}

impl Difference {
    /// Added and changed fields: those that the second object's writer set.
    pub fn set(&self) -> FieldSet {
        let mut all = self.added.clone();
        all.add(&self.changed);
        all
    }

    fn attach(&mut self, element: String, below: Difference) {
        self.added.attach(element.clone(), below.added);
        self.removed.attach(element.clone(), below.removed);
        self.changed.attach(element, below.changed);
    }

    /// A leaf, or a container that is on one side only.
    fn mark(&mut self, before: Option<&Value>, after: Option<&Value>) {
        match (before, after) {
            (None, None) => {}
            (None, Some(_)) => self.added.member = true,
            (Some(_), None) => self.removed.member = true,
            (Some(_), Some(_)) => self.changed.member = true,
        }
    }
}

/// Compares two values at one place.
pub fn difference(schema: Option<&Schema>, before: Option<&Value>, after: Option<&Value>) -> Difference {
    let mut out = Difference::default();
    if before == after {
        return out;
    }
    let empty = |v: Option<&Value>| match v {
        None => true,
        Some(Value::Object(map)) => map.is_empty(),
        Some(Value::Array(list)) => list.is_empty(),
        Some(_) => false,
    };
    let (maps, lists) = (both(before, after, Value::is_object), both(before, after, Value::is_array));
    let granular = (maps && !atomic_map(schema)) || (lists && !atomic_list(schema));
    if !granular || (empty(before) && empty(after)) {
        out.mark(before, after);
        return out;
    }
    if maps {
        let names: BTreeSet<&String> = fields_of(before).chain(fields_of(after)).map(|(name, _)| name).collect();
        for name in names {
            let (a, b) = (before.and_then(|v| v.get(name)), after.and_then(|v| v.get(name)));
            out.attach(fields::field(name), difference(schema.and_then(|s| s.field(name)), a, b));
        }
    } else if let Some(schema) = schema {
        let (a, b) = (items_of(schema, before), items_of(schema, after));
        for element in a.keys().chain(b.keys()).collect::<BTreeSet<_>>() {
            let below = difference(schema.items(), a.get(element).copied(), b.get(element).copied());
            out.attach(element.clone(), below);
        }
    }
    let implicit = schema.is_some_and(Schema::is_implicit);
    if !implicit && (before.is_none() || after.is_none()) {
        out.mark(before, after);
    }
    out
}

fn fields_of(value: Option<&Value>) -> impl Iterator<Item = (&String, &Value)> {
    value.and_then(Value::as_object).into_iter().flatten()
}

fn items_of<'a>(schema: &Schema, value: Option<&'a Value>) -> HashMap<String, &'a Value> {
    let list = value.and_then(Value::as_array).into_iter().flatten();
    list.filter_map(|item| Some((element(schema, item)?, item))).collect()
}

/// Whether at least one side is there and all that are there satisfy `shape`.
fn both(a: Option<&Value>, b: Option<&Value>, shape: impl Fn(&Value) -> bool) -> bool {
    (a.is_some() || b.is_some()) && a.is_none_or(&shape) && b.is_none_or(&shape)
}

/// Merges an applied object into a live one: maps by key, keyed lists by key, sets by value, everything else replaced.
/// Shared items take the applied order, items that only the live list has keep their place.
///
/// Errors: items of a keyed list without their key, and items applied twice.
pub fn merge(schema: Option<&Schema>, live: Option<&Value>, applied: &Value) -> Result<Value, Vec<FieldError>> {
    let mut errors = Vec::new();
    let merged = merge_at(schema, live, applied, &mut String::new(), &mut errors);
    if errors.is_empty() { Ok(merged) } else { Err(errors) }
}

fn merge_at(
    schema: Option<&Schema>,
    live: Option<&Value>,
    applied: &Value,
    path: &mut String,
    errors: &mut Vec<FieldError>,
) -> Value {
    match applied {
        Value::Object(applied) if !atomic_map(schema) => {
            let mut out = live.and_then(Value::as_object).cloned().unwrap_or_default();
            for (name, child) in applied {
                let length = path.len();
                if !path.is_empty() {
                    path.push('.');
                }
                path.push_str(name);
                let merged = merge_at(schema.and_then(|s| s.field(name)), out.get(name), child, path, errors);
                path.truncate(length);
                out.insert(name.clone(), merged);
            }
            Value::Object(out)
        }
        Value::Array(applied) if !atomic_list(schema) => match schema {
            Some(schema) => merge_list(schema, live, applied, path, errors),
            None => Value::Array(applied.clone()),
        },
        other => other.clone(),
    }
}

fn merge_list(
    schema: &Schema,
    live: Option<&Value>,
    applied: &[Value],
    path: &mut String,
    errors: &mut Vec<FieldError>,
) -> Value {
    let mut wanted = Vec::with_capacity(applied.len());
    let mut keys = HashSet::new();
    for (n, item) in applied.iter().enumerate() {
        match element(schema, item) {
            None => errors.push(FieldError::required(
                format!("{path}[{n}]"),
                "the item lacks the field that items of this list are told apart by",
            )),
            Some(element) if !keys.insert(element.clone()) => {
                errors.push(FieldError::duplicate(format!("{path}[{n}]"), item));
            }
            Some(element) => wanted.push((element, n, item)),
        }
    }
    let live = live.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let existing: Vec<(Option<String>, &Value)> = live.iter().map(|item| (element(schema, item), item)).collect();
    let by_key: HashMap<&str, &Value> =
        existing.iter().filter_map(|(key, item)| Some((key.as_deref()?, *item))).collect();
    let mut out = Vec::with_capacity(wanted.len() + existing.len());
    let mut wanted = wanted.into_iter();
    let mut next = |out: &mut Vec<Value>| {
        if let Some((key, n, item)) = wanted.next() {
            let length = path.len();
            path.push_str(&format!("[{n}]"));
            out.push(merge_at(schema.items(), by_key.get(key.as_str()).copied(), item, path, errors));
            path.truncate(length);
            return true;
        }
        false
    };
    for (key, item) in &existing {
        if key.as_ref().is_some_and(|key| keys.contains(key)) {
            next(&mut out);
        } else {
            out.push((*item).clone());
        }
    }
    while next(&mut out) {}
    Value::Array(out)
}

/// Takes the fields of `set` out of `value`; containers that become empty by it go too, unless they are in `keep`.
pub fn remove(schema: Option<&Schema>, value: &mut Value, set: &FieldSet, keep: &FieldSet) {
    let nothing = FieldSet::default();
    let kept = |element: &str| keep.children.get(element).unwrap_or(&nothing);
    match value {
        Value::Object(map) => {
            for (element, below) in &set.children {
                let Some(name) = element.strip_prefix("f:") else { continue };
                if below.member {
                    map.shift_remove(name);
                } else if let Some(child) = map.get_mut(name) {
                    remove(schema.and_then(|s| s.field(name)), child, below, kept(element));
                    if empty_container(child) && !kept(element).member {
                        map.shift_remove(name);
                    }
                }
            }
        }
        Value::Array(list) => {
            let Some(schema) = schema else { return };
            list.retain_mut(|item| {
                let Some(element) = element(schema, item) else { return true };
                let Some(below) = set.children.get(&element) else { return true };
                if !below.member {
                    remove(schema.items(), item, below, kept(&element));
                }
                !below.member
            });
        }
        _ => {}
    }
}

fn empty_container(value: &Value) -> bool {
    match value {
        Value::Object(map) => map.is_empty(),
        Value::Array(list) => list.is_empty(),
        _ => false,
    }
}

/// Adds the declared fields on the way to each path: owning `spec.cpu.cores` is owning that `spec.cpu` is there.
pub fn with_declared_parents(schema: Option<&Schema>, set: &FieldSet) -> FieldSet {
    let mut out = FieldSet { member: set.member, ..FieldSet::default() };
    for (element, below) in &set.children {
        let name = element.strip_prefix("f:");
        let child_schema = match name {
            Some(name) => schema.and_then(|s| s.field(name)),
            None => schema.and_then(Schema::items),
        };
        let mut below = with_declared_parents(child_schema, below);
        below.member |= name.is_some_and(|name| schema.is_some_and(|s| s.declares(name)));
        out.children.insert(element.clone(), below);
    }
    out
}
