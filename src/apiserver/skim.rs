//! Reading part of a stored object: lists go through thousands of them, and most of each is not asked for.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value};

use super::object::{self, Object};
use crate::store::Entry;

/// The object without `metadata.managedFields`, which no column shows and which is the larger part of many objects.
pub fn without_managed_fields(entry: &Entry) -> Object {
    let mut reader = serde_json::Deserializer::from_slice(&entry.bytes);
    let lean = Lean { inside: false }.deserialize(&mut reader);
    lean.unwrap_or_else(|_| object::parse(entry))
}

/// The labels of an object. Nothing behind them is read.
pub fn labels(bytes: &[u8]) -> Option<Map<String, Value>> {
    let mut found = None;
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    // An error is how reading ends early.
    Labels { inside: false, found: &mut found }.deserialize(&mut reader).ok();
    found
}

/// Takes everything but the managed fields; `inside` the metadata.
struct Lean {
    inside: bool,
}

impl<'de> DeserializeSeed<'de> for Lean {
    type Value = Object;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Object, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Lean {
    type Value = Object;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
        let mut object = Object::new();
        while let Some(name) = map.next_key::<String>()? {
            match (self.inside, name.as_str()) {
                (false, "metadata") => {
                    let metadata = map.next_value_seed(Self { inside: true })?;
                    object.insert(name, Value::Object(metadata));
                }
                (true, "managedFields") => {
                    map.next_value::<IgnoredAny>()?;
                }
                _ => {
                    object.insert(name, map.next_value()?);
                }
            }
        }
        Ok(object)
    }
}

/// Looks for the labels; `inside` the metadata.
struct Labels<'a> {
    inside: bool,
    found: &'a mut Option<Map<String, Value>>,
}

impl<'de> DeserializeSeed<'de> for Labels<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Labels<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            match (self.inside, &*name) {
                (false, "metadata") => {
                    map.next_value_seed(Labels { inside: true, found: &mut *self.found })?;
                    return Err(A::Error::custom("there is one metadata, and it has been read"));
                }
                (true, "labels") => {
                    *self.found = map.next_value()?;
                    return Err(A::Error::custom("found"));
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::store::Key;

    #[test]
    fn part_of_an_object_is_that_part() {
        let cases = [
            json!({"metadata": {"name": "a", "labels": {"x": "1", "y\"": "\u{2028}"}, "managedFields": [{"f:a": {}}]}, "data": {"labels": {"no": "1"}}}),
            json!({"kind": "K", "metadata": {"managedFields": [], "annotations": {"labels": "no"}}, "managedFields": 1}),
            json!({"data": {"metadata": {"labels": {"no": "1"}}}, "metadata": {"labels": null}}),
            json!({"metadata": null}),
            json!({}),
        ];
        for case in cases {
            let bytes = case.to_string().into_bytes();
            assert_eq!(
                labels(&bytes).map(Value::Object),
                case.pointer("/metadata/labels").filter(|l| !l.is_null()).cloned()
            );
            let entry = Entry { key: Key::new("c", "", "a"), revision: 1, bytes: bytes.into() };
            let mut want = case.clone();
            if let Some(metadata) = want.pointer_mut("/metadata").and_then(Value::as_object_mut) {
                metadata.remove("managedFields");
            }
            assert_eq!(Value::Object(without_managed_fields(&entry)), want);
        }
    }
}
