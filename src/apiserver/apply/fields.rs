//! Sets of field paths, and their `FieldsV1` form.
//!
//! A path is a chain of elements in `FieldsV1` spelling: `f:name` for a field or map key, `k:{"type":"Ready"}` for an
//! item of a keyed list, `v:"x"` for a member of a set. Keeping that spelling makes decoding, ordering and comparison
//! those of plain text.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// A set of field paths, as a tree.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FieldSet {
    /// The path that leads here is in the set.
    pub member: bool,
    /// Longer paths by their next element.
    pub children: BTreeMap<String, FieldSet>,
}

impl FieldSet {
    /// Nothing is in the set.
    pub fn is_empty(&self) -> bool {
        !self.member && self.children.values().all(FieldSet::is_empty)
    }

    /// The subtree behind `element`, made if need be.
    pub fn child(&mut self, element: &str) -> &mut FieldSet {
        self.children.entry(element.to_owned()).or_default()
    }

    /// Puts `subtree` behind `element` unless it is empty.
    pub fn attach(&mut self, element: String, subtree: FieldSet) {
        if !subtree.is_empty() {
            self.children.insert(element, subtree);
        }
    }

    /// Adds all paths of `other`.
    pub fn add(&mut self, other: &FieldSet) {
        self.member |= other.member;
        for (element, subtree) in &other.children {
            self.child(element).add(subtree);
        }
    }

    /// Takes away all paths of `other` (each by itself: longer paths stay).
    pub fn subtract(&mut self, other: &FieldSet) {
        self.member &= !other.member;
        self.children.retain(|element, subtree| {
            if let Some(other) = other.children.get(element) {
                subtree.subtract(other);
            }
            !subtree.is_empty()
        });
    }

    /// The paths in both.
    pub fn common(&self, other: &FieldSet) -> FieldSet {
        let mut out = FieldSet { member: self.member && other.member, children: BTreeMap::new() };
        for (element, subtree) in &self.children {
            if let Some(other) = other.children.get(element) {
                out.attach(element.clone(), subtree.common(other));
            }
        }
        out
    }

    /// All paths as messages show them: `.spec.cpu.cores`, `.status.conditions[type="Ready"].status`, `.tags[="x"]`.
    pub fn paths(&self) -> Vec<String> {
        let mut out = Vec::new();
        self.paths_below(&mut String::new(), &mut out);
        out
    }

    fn paths_below(&self, path: &mut String, out: &mut Vec<String>) {
        if self.member {
            out.push(path.clone());
        }
        for (element, subtree) in &self.children {
            let length = path.len();
            path.push_str(&shown(element));
            subtree.paths_below(path, out);
            path.truncate(length);
        }
    }

    /// As `fieldsV1`.
    pub fn to_fields_v1(&self) -> Value {
        let mut out = Map::new();
        for (element, subtree) in &self.children {
            let mut below = subtree.to_fields_v1();
            if let (true, Value::Object(map)) = (subtree.member && !subtree.children.is_empty(), &mut below) {
                map.shift_insert(0, ".".to_owned(), json!({}));
            }
            out.insert(element.clone(), below);
        }
        Value::Object(out)
    }

    /// Reads `fieldsV1`; `None` if an element is not one.
    pub fn from_fields_v1(fields: &Value) -> Option<FieldSet> {
        let map = fields.as_object()?;
        let mut out = FieldSet::default();
        for (element, below) in map {
            if element == "." {
                out.member = true;
                continue;
            }
            let valid = match element.split_once(':')? {
                ("f", _) => true,
                ("k", keys) => serde_json::from_str::<Map<String, Value>>(keys).is_ok(),
                ("v", value) => serde_json::from_str::<Value>(value).is_ok(),
                ("i", index) => index.parse::<u64>().is_ok(),
                _ => false,
            };
            if !valid {
                return None;
            }
            let mut subtree = FieldSet::from_fields_v1(below)?;
            // `{}` is a leaf; a leaf is a member.
            subtree.member |= below.as_object().is_some_and(Map::is_empty);
            out.children.insert(element.clone(), subtree);
        }
        Some(out)
    }
}

/// The element of a field or map key.
pub fn field(name: &str) -> String {
    format!("f:{name}")
}

/// The element of a member of a set.
pub fn value(item: &Value) -> String {
    format!("v:{item}")
}

/// The element of an item of a list keyed by the given fields, `(name, value)` in any order.
pub fn key<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a Value)>) -> String {
    let sorted: BTreeMap<&str, &Value> = pairs.into_iter().collect();
    let pairs: Vec<String> = sorted.iter().map(|(name, value)| format!("{}:{value}", json!(name))).collect();
    format!("k:{{{}}}", pairs.join(","))
}

fn shown(element: &str) -> String {
    match element.split_once(':') {
        Some(("f", name)) => format!(".{name}"),
        Some(("v", value)) => format!("[={value}]"),
        Some(("k", keys)) => {
            let keys: Map<String, Value> = serde_json::from_str(keys).unwrap_or_default();
            let pairs: Vec<String> = keys.iter().map(|(name, value)| format!("{name}={value}")).collect();
            format!("[{}]", pairs.join(","))
        }
        _ => format!("[{element}]"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(fields: Value) -> FieldSet {
        FieldSet::from_fields_v1(&fields).expect("valid")
    }

    #[test]
    fn fields_v1_round_trips() {
        for fields in [
            json!({}),
            json!({"f:spec": {"f:cpu": {"f:cores": {}}}}),
            json!({"f:metadata": {"f:labels": {".": {}, "f:a": {}}, "f:finalizers": {".": {}, "v:\"x/y\"": {}}}}),
            json!({"f:status": {"f:conditions": {"k:{\"type\":\"Ready\"}": {".": {}, "f:status": {}}}}}),
        ] {
            assert_eq!(set(fields.clone()).to_fields_v1(), fields);
        }
        for bad in [json!({"spec": {}}), json!({"k:x": {}}), json!({"v:x": {}}), json!({"f:a": 1}), json!([])] {
            assert_eq!(FieldSet::from_fields_v1(&bad), None, "{bad}");
        }
    }

    #[test]
    fn algebra() {
        let a = set(json!({"f:a": {".": {}, "f:x": {}, "f:y": {}}, "f:b": {}}));
        let b = set(json!({"f:a": {"f:x": {}}, "f:c": {}}));
        assert_eq!(a.common(&b), set(json!({"f:a": {"f:x": {}}})));
        let mut sum = a.clone();
        sum.add(&b);
        assert_eq!(sum, set(json!({"f:a": {".": {}, "f:x": {}, "f:y": {}}, "f:b": {}, "f:c": {}})));
        let mut rest = a.clone();
        rest.subtract(&b);
        assert_eq!(rest, set(json!({"f:a": {".": {}, "f:y": {}}, "f:b": {}})));
        rest.subtract(&a);
        assert!(rest.is_empty());
    }

    #[test]
    fn paths_read_well() {
        let fields = set(
            json!({"f:s": {"k:{\"name\":\"a\",\"port\":80}": {".": {}, "f:v": {}}, "f:x": {}}, "f:t": {"v:\"q\"": {}}}),
        );
        assert_eq!(fields.paths(), [".s.x", r#".s[name="a",port=80]"#, r#".s[name="a",port=80].v"#, r#".t[="q"]"#]);
    }
}
