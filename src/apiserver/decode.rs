//! Bodies into objects: JSON with duplicate keys noticed, YAML, and protobuf as kubectl sends it.

use std::fmt;

use axum::body::Bytes;
use axum::http::StatusCode;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::protobuf::{self, ProtobufError};
use super::status::Failure;

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
/// 400 when it is not a JSON object (also when it is nested over 128 deep).
pub fn json(body: &Bytes) -> Result<Decoded, Failure> {
    let (value, duplicates) = json_value(body)?;
    whole(value, duplicates)
}

/// Decodes any JSON value, with the paths of duplicate keys.
///
/// # Errors
/// 400 when it is not JSON.
pub fn json_value(body: &Bytes) -> Result<(Value, Vec<String>), Failure> {
    let mut duplicates = Vec::new();
    let mut source = serde_json::Deserializer::from_slice(body);
    let value = Seed { path: "", duplicates: &mut duplicates }
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
/// 400 when it is not one document with a mapping.
pub fn yaml(body: &Bytes) -> Result<Decoded, Failure> {
    // Through JSON text, so that numbers and keys end up as they do for a JSON client.
    let value: Value =
        serde_saphyr::from_slice(body).map_err(|e| Failure::bad_request(format!("error decoding YAML: {e}")))?;
    whole(value, Vec::new())
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
    duplicates: &'a mut Vec<String>,
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
        let mut out = Vec::new();
        loop {
            let path = format!("{}[{}]", self.path, out.len());
            match seq.next_element_seed(Seed { path: &path, duplicates: self.duplicates })? {
                Some(value) => out.push(value),
                None => return Ok(out.into()),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut out = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            let path = if self.path.is_empty() { key.clone() } else { format!("{}.{key}", self.path) };
            let value = map.next_value_seed(Seed { path: &path, duplicates: self.duplicates })?;
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
}
