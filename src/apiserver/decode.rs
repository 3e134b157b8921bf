//! Bodies into objects: JSON with duplicate keys noticed, YAML, and protobuf as kubectl sends it.

use std::fmt;

use axum::body::Bytes;
use axum::http::StatusCode;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::protobuf::{self, ProtobufError};
use super::status::Failure;

/// Deepest nesting of lists and maps in a body. No kind comes near it, and what is stored may be walked by recursion.
pub const MAX_DEPTH: usize = 100;

/// The same in YAML, whose parser needs a lot of stack for each level (20 KiB without optimization).
const MAX_YAML_DEPTH: usize = 50;

/// A decoded object.
#[derive(Debug, Clone, PartialEq)]
pub struct Decoded {
    /// The object; always a JSON object.
    pub object: Map<String, Value>,
    /// Paths of keys that were given more than once; the last one counted.
    pub duplicates: Vec<String>,
}

/// Decodes JSON.
///
/// # Errors
/// 400 when it is not a JSON object or is nested deeper than [`MAX_DEPTH`].
pub fn json(body: &Bytes) -> Result<Decoded, Failure> {
    let (value, duplicates) = json_value(body)?;
    whole(value, duplicates)
}

/// Decodes any JSON value, with the paths of duplicate keys.
///
/// # Errors
/// 400 when it is not JSON, or nested deeper than [`MAX_DEPTH`].
pub fn json_value(body: &Bytes) -> Result<(Value, Vec<String>), Failure> {
    let mut duplicates = Vec::new();
    let mut source = serde_json::Deserializer::from_slice(body);
    let value = Seed { path: "", depth: 0, duplicates: &mut duplicates }
        .deserialize(&mut source)
        .and_then(|value| source.end().map(|()| value))
        .map_err(|e| {
            Failure::bad_request(format!("the object provided is unrecognized (must be of type Object): {e}"))
        })?;
    Ok((value, duplicates))
}

/// Decodes YAML (so also JSON).
///
/// # Errors
/// 400 when it is not one document with a mapping, is nested too deep, or says much more than it has bytes (aliases of
/// aliases).
pub fn yaml(body: &Bytes) -> Result<Decoded, Failure> {
    // Through JSON text, so that numbers and keys end up as they do for a JSON client.
    let value: Value = serde_saphyr::from_slice_with_options(body, yaml_limits())
        .map_err(|e| Failure::bad_request(format!("error decoding YAML: {}", first_line(&e.to_string()))))?;
    whole(value, Vec::new())
}

/// What a body of YAML may cost. A body of the largest size without aliases stays below all of it.
fn yaml_limits() -> serde_saphyr::Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: MAX_YAML_DEPTH,
            flow_nesting_limit: MAX_YAML_DEPTH,
            max_documents: 1,
            max_inclusion_depth: 0,
            max_aliases: 1000,
            max_anchors: 1000,
            max_recorded_anchor_events: 100_000,
            max_recorded_anchor_bytes: 4 << 20,
            max_total_scalar_bytes: 8 << 20,
            max_merge_keys: 1000,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 20_000,
            max_replay_stack_depth: 16,
        },
    }
}

/// The parser's messages go on with a picture of the place, which may be long.
fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().chars().take(500).collect()
}

/// Decodes the protobuf form of built-in kinds.
///
/// # Errors
/// 400 when it is malformed, 415 when it is of a kind that is not known in this form.
pub fn protobuf(body: &Bytes) -> Result<Decoded, Failure> {
    match protobuf::decode(body) {
        Ok(object) => Ok(Decoded { object, duplicates: Vec::new() }),
        Err(error @ ProtobufError::Malformed(_)) => Err(Failure::bad_request(error.to_string())),
        Err(error @ ProtobufError::Unsupported(_)) => {
            Err(Failure::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UnsupportedMediaType", error.to_string()))
        }
    }
}

fn whole(value: Value, duplicates: Vec<String>) -> Result<Decoded, Failure> {
    match value {
        Value::Object(object) => Ok(Decoded { object, duplicates }),
        _ => Err(Failure::bad_request("the object provided is unrecognized (must be of type Object)")),
    }
}

/// Builds a [`Value`] and notes duplicate keys, which `serde_json` itself passes over.
struct Seed<'a> {
    path: &'a str,
    /// Lists and maps around it.
    depth: usize,
    duplicates: &'a mut Vec<String>,
}

impl Seed<'_> {
    /// The depth of what is in a list or map.
    fn below<E: serde::de::Error>(&self) -> Result<usize, E> {
        if self.depth < MAX_DEPTH {
            Ok(self.depth + 1)
        } else {
            Err(E::custom(format!("exceeded max depth of {MAX_DEPTH}")))
        }
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, v: bool) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_i64<E>(self, v: i64) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_u64<E>(self, v: u64) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_f64<E: serde::de::Error>(self, v: f64) -> Result<Value, E> {
        Number::from_f64(v).map(Value::Number).ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_str<E>(self, v: &str) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_string<E>(self, v: String) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let depth = self.below()?;
        let mut out = Vec::new();
        loop {
            let path = format!("{}[{}]", self.path, out.len());
            match seq.next_element_seed(Seed { path: &path, depth, duplicates: self.duplicates })? {
                Some(value) => out.push(value),
                None => return Ok(out.into()),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let depth = self.below()?;
        let mut out = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            let path = if self.path.is_empty() { key.clone() } else { format!("{}.{key}", self.path) };
            let value = map.next_value_seed(Seed { path: &path, depth, duplicates: self.duplicates })?;
            if out.insert(key, value).is_some() {
                self.duplicates.push(path);
                if self.duplicates.len() > 1000 {
                    return Err(A::Error::custom("too many duplicate fields"));
                }
            }
        }
        Ok(out.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duplicates_are_found() {
        let decoded = json(&Bytes::from_static(br#"{"a":{"b":1,"b":2},"l":[{"x":1,"x":1}],"a":{}}"#)).unwrap();
        assert_eq!(decoded.duplicates, ["a.b", "l[0].x", "a"]);
        assert_eq!(Value::Object(decoded.object).to_string(), r#"{"a":{},"l":[{"x":1}]}"#);
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for text in ["", "{", "[]", "1", "{} {}", &"[".repeat(10_000), "{\"a\":1e999}"] {
            let failure = json(&Bytes::from(text.to_owned())).unwrap_err();
            assert_eq!(failure.code(), 400, "{text}");
        }
        assert_eq!(yaml(&Bytes::from_static(b"- a")).unwrap_err().code(), 400);
    }

    #[test]
    fn yaml_has_comments_and_anchors() {
        let decoded = yaml(&Bytes::from_static(b"a: &x \"1\" # c\nb: *x\nn: 3\n")).unwrap();
        assert_eq!(Value::Object(decoded.object).to_string(), r#"{"a":"1","b":"1","n":3}"#);
    }

    /// Lists of strings around each other.
    fn nested(depth: usize) -> Bytes {
        Bytes::from(format!("{{\"a\":{}{}}}", "[".repeat(depth - 1), "]".repeat(depth - 1)))
    }

    #[test]
    fn nesting_has_an_end() {
        for (read, most) in [(json as fn(&Bytes) -> _, MAX_DEPTH), (yaml, MAX_YAML_DEPTH)] {
            assert!(read(&nested(most)).is_ok());
            for depth in [most + 1, 127, 10_000, 1_000_000] {
                let failure = read(&nested(depth)).unwrap_err();
                assert_eq!(failure.code(), 400, "{depth}: {}", failure.message());
                assert!(failure.message().len() < 1000);
            }
        }
        let block: String = (0..400).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect();
        assert_eq!(yaml(&Bytes::from(block)).unwrap_err().code(), 400);
    }

    #[test]
    fn yaml_that_grows_is_refused_at_once() {
        // Ten of the line before in each line: ten thousand million at the end.
        let mut laughs = "a0: &a0 [lol]\n".to_owned();
        for n in 1..=10 {
            let before = format!("*a{},", n - 1).repeat(10);
            laughs.push_str(&format!("a{n}: &a{n} [{}]\n", before.trim_end_matches(',')));
        }
        // One long string, again and again.
        let long = format!("a: &a {}\nb: [{}]\n", "x".repeat(1 << 20), "*a,".repeat(900).trim_end_matches(','));
        let merges: String = (1..=20).map(|n| format!("m{n}: &m{n}\n  <<: [*m{0}, *m{0}]\n", n - 1)).collect();
        let merges = format!("m0: &m0 {{a: 1, b: 2}}\n{merges}");
        let itself = "a: &a [*a, *a]\n".to_owned();
        let documents = "---\na: 1\n".repeat(100_000);
        for (name, text) in [("laughs", laughs), ("long", long), ("itself", itself), ("documents", documents)] {
            let started = std::time::Instant::now();
            let failure = yaml(&Bytes::from(text)).expect_err(name);
            assert_eq!(failure.code(), 400, "{name}");
            // Milliseconds, on a machine with time to spare and no debug build.
            assert!(started.elapsed().as_secs() < 10, "{name}");
        }
        // Merging the same map again adds nothing; it has to end soon all the same.
        let merged = yaml(&Bytes::from(merges));
        assert!(merged.is_err() || merged.is_ok_and(|d| Value::Object(d.object).to_string().len() < 100_000));
    }

    #[test]
    fn large_yaml_without_tricks_is_taken() {
        let items: String = (0..60_000).map(|n| format!("  key{n}: value of some length {n}\n")).collect();
        let text = format!("kind: ConfigMap\ndata:\n{items}");
        assert!(text.len() > 2 << 20);
        let decoded = yaml(&Bytes::from(text)).unwrap();
        assert_eq!(decoded.object["data"].as_object().unwrap().len(), 60_000);
        let used = format!("base: &base {{a: 1, b: [2, 3]}}\nuses: [{}]\n", ["*base"; 50].join(","));
        assert_eq!(yaml(&Bytes::from(used)).unwrap().object["uses"].as_array().unwrap().len(), 50);
    }
}
