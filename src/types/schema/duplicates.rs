//! Duplicate keys in a JSON text. The JSON reader keeps the last of two equal keys without a word; strict field
//! validation has to name them.

use std::collections::HashSet;
use std::fmt;

use serde::Deserializer;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::{push_field, push_index};

/// Most paths reported: enough for a person, and a bound on hostile input.
const MOST: usize = 100;

/// Paths of keys that occur twice in one object (`spec.cpu`), in document order, each once. Text that is not JSON has
/// none: reading it reports the error.
pub fn strict_duplicates(json: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    let mut reader = serde_json::Deserializer::from_slice(json);
    let walk = Walk { path: &mut String::new(), found: &mut found };
    // An error means malformed text, whose reader has its own message.
    let _ = walk.deserialize(&mut reader);
    found
}

struct Walk<'a> {
    path: &'a mut String,
    found: &'a mut Vec<String>,
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let length = self.path.len();
        for n in 0.. {
            push_index(self.path, n);
            let more = list.next_element_seed(Walk { path: self.path, found: self.found })?;
            self.path.truncate(length);
            if more.is_none() {
                break;
            }
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let length = self.path.len();
        let mut seen = HashSet::new();
        while let Some(key) = map.next_key::<String>()? {
            push_field(self.path, &key);
            if !seen.insert(key) {
                if self.found.len() < MOST && !self.found.contains(self.path) {
                    self.found.push(self.path.clone());
                }
                map.next_value::<IgnoredAny>()?;
            } else {
                map.next_value_seed(Walk { path: self.path, found: self.found })?;
            }
            self.path.truncate(length);
        }
        Ok(())
    }
}
