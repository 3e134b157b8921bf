//! Strategic merge patch, for the built-in kinds.
//!
//! Maps merge by key. Lists that the schema calls keyed merge by key, sets merge by value, others are replaced. The
//! patch may steer with `$patch`, `$retainKeys`, `$deleteFromPrimitiveList/FIELD` and `$setElementOrder/FIELD`.

use std::collections::VecDeque;

use serde_json::{Map, Value};

use crate::types::schema::{ListType, Schema};

const PATCH: &str = "$patch";
const RETAIN: &str = "$retainKeys";
const DELETE_FROM: &str = "$deleteFromPrimitiveList/";
const ORDER: &str = "$setElementOrder/";

/// A patch that cannot be applied; HTTP 400.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid strategic merge patch: {path}: {text}")]
pub struct StrategicError {
    /// Dotted path inside the patch.
    path: String,
    /// What is wrong.
    text: String,
}

/// The document after the patch.
///
/// # Errors
/// A directive that does not exist or has the wrong type, or a list item without its merge key.
pub fn merge(
    schema: &Schema,
    document: &Map<String, Value>,
    patch: &Map<String, Value>,
) -> Result<Value, StrategicError> {
    let mut walk = Walk { path: Vec::new() };
    Ok(walk.map(Some(schema), document, patch)?.unwrap_or_default().into())
}

struct Walk {
    path: Vec<String>,
}

impl Walk {
    fn fail<T>(&self, text: impl Into<String>) -> Result<T, StrategicError> {
        Err(StrategicError { path: self.path.join("."), text: text.into() })
    }

    /// The merged map; `None` if the patch deletes it.
    fn map(
        &mut self,
        schema: Option<&Schema>,
        document: &Map<String, Value>,
        patch: &Map<String, Value>,
    ) -> Result<Option<Map<String, Value>>, StrategicError> {
        let mut out = document.clone();
        match patch.get(PATCH).map(Value::as_str) {
            None | Some(Some("merge")) => {}
            Some(Some("replace")) => out.clear(),
            Some(Some("delete")) => return Ok(None),
            Some(other) => return self.fail(format!("unknown directive $patch: {}", other.unwrap_or("(not a text)"))),
        }
        if let Some(keys) = patch.get(RETAIN) {
            let Some(keys) = keys.as_array() else { return self.fail("$retainKeys must be a list of names") };
            out.retain(|name, _| keys.iter().any(|key| key == name));
        }
        for (name, change) in patch {
            if name.starts_with('$') {
                if let Some(field) = name.strip_prefix(DELETE_FROM) {
                    self.delete_from(&mut out, field, change)?;
                } else if !(name == PATCH || name == RETAIN || name.starts_with(ORDER)) {
                    return self.fail(format!("unknown directive {name}"));
                }
                continue;
            }
            self.path.push(name.clone());
            let order = patch.get(&format!("{ORDER}{name}"));
            let merged = self.value(schema.and_then(|s| s.field(name)), out.get(name), change, order)?;
            self.path.pop();
            match merged {
                Some(value) => {
                    out.insert(name.clone(), value);
                }
                None => {
                    out.shift_remove(name);
                }
            }
        }
        // An order may also be given for a list that the patch does not change otherwise.
        for (name, order) in patch.iter().filter_map(|(name, order)| Some((name.strip_prefix(ORDER)?, order))) {
            if !patch.contains_key(name)
                && let Some(Value::Array(list)) = out.get(name)
            {
                let list = list.clone();
                let ordered = self.ordered(schema.and_then(|s| s.field(name)), list, order)?;
                out.insert(name.to_owned(), Value::Array(ordered));
            }
        }
        Ok(Some(out))
    }

    /// The merged value; `None` if the patch deletes it.
    fn value(
        &mut self,
        schema: Option<&Schema>,
        document: Option<&Value>,
        patch: &Value,
        order: Option<&Value>,
    ) -> Result<Option<Value>, StrategicError> {
        match patch {
            Value::Null => Ok(None),
            Value::Object(patch) => {
                let nothing = Map::new();
                let document = document.and_then(Value::as_object).unwrap_or(&nothing);
                Ok(self.map(schema, document, patch)?.map(Value::Object))
            }
            Value::Array(patch) => {
                let document = document.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
                let mut list = self.list(schema, document, patch)?;
                if let Some(order) = order {
                    list = self.ordered(schema, list, order)?;
                }
                Ok(Some(Value::Array(list)))
            }
            other => Ok(Some(other.clone())),
        }
    }

    fn list(
        &mut self,
        schema: Option<&Schema>,
        document: &[Value],
        patch: &[Value],
    ) -> Result<Vec<Value>, StrategicError> {
        match schema.map(Schema::list_type) {
            Some(ListType::Set) => {
                let mut out = document.to_vec();
                for item in patch {
                    if item.is_object() || item.is_array() {
                        return self.fail("the items of this list are single values");
                    }
                    if !out.contains(item) {
                        out.push(item.clone());
                    }
                }
                Ok(out)
            }
            Some(ListType::Map(keys)) if !keys.is_empty() => {
                self.keyed(schema.and_then(Schema::items), &keys[0], document, patch)
            }
            _ => Ok(patch.iter().filter(|item| !is_marker(item)).cloned().collect()),
        }
    }

    fn keyed(
        &mut self,
        items: Option<&Schema>,
        key: &str,
        document: &[Value],
        patch: &[Value],
    ) -> Result<Vec<Value>, StrategicError> {
        // A bare `{"$patch": "replace"}` replaces the list by the other items.
        let mut out = match patch.iter().any(|item| is_marker(item) && item[PATCH] == "replace") {
            true => Vec::new(),
            false => document.to_vec(),
        };
        for (n, item) in patch.iter().enumerate().filter(|(_, item)| !is_marker(item)) {
            self.path.push(n.to_string());
            let Some(change) = item.as_object() else { return self.fail("the items of this list are objects") };
            let Some(id) = change.get(key) else {
                return self.fail(format!("the item lacks its merge key {key}"));
            };
            let at = out.iter().position(|existing| existing.get(key) == Some(id));
            let nothing = Map::new();
            let existing = at.and_then(|at| out[at].as_object()).unwrap_or(&nothing);
            match (self.map(items, existing, change)?, at) {
                (Some(merged), Some(at)) => out[at] = Value::Object(merged),
                (Some(merged), None) => out.push(Value::Object(merged)),
                // Every item with the key goes, should there be several.
                (None, _) => out.retain(|existing| existing.get(key) != Some(id)),
            }
            self.path.pop();
        }
        Ok(out)
    }

    fn delete_from(&self, out: &mut Map<String, Value>, field: &str, values: &Value) -> Result<(), StrategicError> {
        let Some(values) = values.as_array() else {
            return self.fail(format!("{DELETE_FROM}{field} must be a list"));
        };
        if let Some(Value::Array(list)) = out.get_mut(field) {
            list.retain(|item| !values.contains(item));
            if list.is_empty() {
                out.shift_remove(field);
            }
        }
        Ok(())
    }

    /// The list with the ordered items in the given order; items the order does not name keep their place.
    fn ordered(&self, schema: Option<&Schema>, list: Vec<Value>, order: &Value) -> Result<Vec<Value>, StrategicError> {
        let Some(order) = order.as_array() else { return self.fail(format!("{ORDER} must be a list")) };
        let identity = |item: &Value| match schema.map(Schema::list_type) {
            Some(ListType::Map(keys)) => keys.first().and_then(|key| item.get(key)).cloned().unwrap_or(Value::Null),
            _ => item.clone(),
        };
        let rank = |item: &Value| order.iter().position(|o| identity(o) == identity(item));
        let mut ranked: Vec<(usize, Value)> =
            list.iter().filter_map(|item| Some((rank(item)?, item.clone()))).collect();
        ranked.sort_by_key(|(rank, _)| *rank);
        let mut ranked: VecDeque<Value> = ranked.into_iter().map(|(_, item)| item).collect();
        let placed = list.into_iter().map(|item| match rank(&item) {
            Some(_) => ranked.pop_front().unwrap_or(item),
            None => item,
        });
        Ok(placed.collect())
    }
}

/// Whether a list item is only a directive.
fn is_marker(item: &Value) -> bool {
    item.as_object().is_some_and(|map| map.len() == 1 && map.contains_key(PATCH))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::types::kinds::find;

    fn patched(word: &str, document: Value, patch: Value) -> Result<Value, StrategicError> {
        let schema = Schema::of(find(word).expect("kind"));
        merge(&schema, document.as_object().expect("object"), patch.as_object().expect("object"))
    }

    #[test]
    fn documents_after_patches() {
        let owner = |uid: &str, name: &str| json!({"uid": uid, "name": name});
        for (what, word, document, patch, expected) in [
            (
                "maps merge, null removes",
                "cm",
                json!({"data": {"a": "1", "b": "2"}}),
                json!({"data": {"b": null, "c": "3"}}),
                json!({"data": {"a": "1", "c": "3"}}),
            ),
            (
                "$patch: replace",
                "cm",
                json!({"data": {"a": "1"}}),
                json!({"data": {"$patch": "replace", "b": "2"}}),
                json!({"data": {"b": "2"}}),
            ),
            (
                "$patch: delete",
                "cm",
                json!({"data": {"a": "1"}, "immutable": true}),
                json!({"data": {"$patch": "delete"}}),
                json!({"immutable": true}),
            ),
            (
                "$retainKeys",
                "cm",
                json!({"data": {"a": "1", "b": "2"}}),
                json!({"data": {"$retainKeys": ["b", "c"], "c": "3"}}),
                json!({"data": {"b": "2", "c": "3"}}),
            ),
            (
                "nulls in new maps vanish",
                "cm",
                json!({}),
                json!({"data": {"a": "1", "b": null}}),
                json!({"data": {"a": "1"}}),
            ),
            (
                "finalizers are a set",
                "cm",
                json!({"metadata": {"finalizers": ["a/a", "b/b"]}}),
                json!({"metadata": {"finalizers": ["b/b", "c/c"]}}),
                json!({"metadata": {"finalizers": ["a/a", "b/b", "c/c"]}}),
            ),
            (
                "$deleteFromPrimitiveList and $setElementOrder",
                "cm",
                json!({"metadata": {"finalizers": ["a/a", "b/b", "s/s"]}}),
                json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a/a"],
                    "$setElementOrder/finalizers": ["c/c", "b/b"], "finalizers": ["c/c"]}}),
                json!({"metadata": {"finalizers": ["c/c", "s/s", "b/b"]}}),
            ),
            (
                "the last value takes the list along",
                "cm",
                json!({"metadata": {"name": "x", "finalizers": ["a/a"]}}),
                json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a/a"]}}),
                json!({"metadata": {"name": "x"}}),
            ),
            (
                "order alone",
                "cm",
                json!({"metadata": {"finalizers": ["a/a", "b/b"]}}),
                json!({"metadata": {"$setElementOrder/finalizers": ["b/b", "a/a"]}}),
                json!({"metadata": {"finalizers": ["b/b", "a/a"]}}),
            ),
            (
                "owners merge by uid",
                "secret",
                json!({"metadata": {"ownerReferences": [owner("1", "a"), owner("2", "b")]}}),
                json!({"metadata": {"ownerReferences": [{"uid": "2", "name": "B"}, owner("3", "c")]}}),
                json!({"metadata": {"ownerReferences": [owner("1", "a"), owner("2", "B"), owner("3", "c")]}}),
            ),
            (
                "an item goes by $patch: delete",
                "secret",
                json!({"metadata": {"ownerReferences": [owner("1", "a"), owner("2", "b")]}}),
                json!({"metadata": {"ownerReferences": [{"$patch": "delete", "uid": "1"}]}}),
                json!({"metadata": {"ownerReferences": [owner("2", "b")]}}),
            ),
            (
                "a keyed list is replaced by a bare directive",
                "secret",
                json!({"metadata": {"ownerReferences": [owner("1", "a")]}}),
                json!({"metadata": {"ownerReferences": [{"$patch": "replace"}, owner("9", "z")]}}),
                json!({"metadata": {"ownerReferences": [owner("9", "z")]}}),
            ),
            (
                "conditions merge by type and are ordered",
                "node",
                json!({"status": {"conditions": [{"type": "A", "status": "True"}, {"type": "B", "status": "True"}]}}),
                json!({"status": {"$setElementOrder/conditions": [{"type": "B"}, {"type": "A"}],
                    "conditions": [{"type": "B", "status": "False"}]}}),
                json!({"status": {"conditions": [{"type": "B", "status": "False"}, {"type": "A", "status": "True"}]}}),
            ),
            (
                "other lists are replaced",
                "node",
                json!({"spec": {"taints": [{"key": "a", "effect": "NoSchedule"}]}}),
                json!({"spec": {"taints": [{"key": "b", "effect": "NoExecute"}]}}),
                json!({"spec": {"taints": [{"key": "b", "effect": "NoExecute"}]}}),
            ),
        ] {
            assert_eq!(patched(word, document, patch), Ok(expected), "{what}");
        }
    }

    #[test]
    fn broken_patches_are_refused() {
        for (patch, part) in [
            (json!({"data": {"$patch": "explode"}}), "data: unknown directive $patch: explode"),
            (json!({"data": {"$patch": 1}}), "unknown directive"),
            (json!({"data": {"$what": 1}}), "unknown directive $what"),
            (json!({"data": {"$retainKeys": "a"}}), "$retainKeys"),
            (json!({"metadata": {"$deleteFromPrimitiveList/finalizers": "a"}}), "must be a list"),
            (json!({"metadata": {"ownerReferences": [{"name": "x"}]}}), "metadata.ownerReferences.0: the item lacks"),
            (json!({"metadata": {"ownerReferences": ["x"]}}), "objects"),
            (json!({"metadata": {"finalizers": [{}]}}), "single values"),
        ] {
            let error = patched("cm", json!({"data": {}}), patch.clone()).expect_err("refused").to_string();
            assert!(error.contains(part), "{patch}: {error}");
        }
    }
}
