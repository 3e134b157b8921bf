//! Kubernetes' protobuf encoding, as far as clients send it: kubectl creates built-in kinds in this form and takes no
//! 415 for an answer. Objects are decoded to JSON; answers are JSON, which these clients accept too.
//!
//! A body is `k8s\0`, then a message with apiVersion and kind (1), the object's own message (2) and the encoding of the
//! latter (3). Field numbers come from Kubernetes' `generated.proto` files; see [`messages`].

mod messages;
mod wire;

use base64::Engine;
use jiff::Timestamp;
use serde_json::{Map, Value};

use messages::{Field, MICRO_TIME, Shape};
use wire::{Payload, Reader, WireError};

pub use wire::Writer;

/// What every body begins with.
const MAGIC: &[u8] = b"k8s\0";

/// A body that cannot be decoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProtobufError {
    /// Not this encoding, or damaged; HTTP 400.
    #[error("the protobuf body cannot be decoded: {0}")]
    Malformed(String),
    /// A kind without a decoder here; HTTP 415, JSON works.
    #[error("{0} is not accepted in protobuf form; send JSON")]
    Unsupported(String),
}

impl From<WireError> for ProtobufError {
    fn from(error: WireError) -> Self {
        Self::Malformed(error.to_string())
    }
}

fn malformed<T>(text: impl Into<String>) -> Result<T, ProtobufError> {
    Err(ProtobufError::Malformed(text.into()))
}

/// Decodes a body to the JSON object it stands for, apiVersion and kind first.
///
/// # Errors
/// [`ProtobufError::Malformed`] for damaged bytes, [`ProtobufError::Unsupported`] for a kind that is not known here.
pub fn decode(body: &[u8]) -> Result<Map<String, Value>, ProtobufError> {
    let Some(envelope) = body.strip_prefix(MAGIC) else { return malformed("it does not begin with \"k8s\\0\"") };
    let (mut api_version, mut kind, mut raw) = (String::new(), String::new(), &b""[..]);
    let mut reader = Reader::new(envelope);
    while let Some((number, payload)) = reader.next()? {
        match number {
            1 => {
                let mut type_meta = Reader::new(payload.bytes()?);
                while let Some((number, payload)) = type_meta.next()? {
                    match number {
                        1 => api_version = text(payload)?,
                        2 => kind = text(payload)?,
                        _ => {}
                    }
                }
            }
            2 => raw = payload.bytes()?,
            3 if !payload.bytes()?.is_empty() => return malformed("compressed bodies are not understood"),
            _ => {}
        }
    }
    let Some(fields) = messages::of(&api_version, &kind) else {
        return Err(ProtobufError::Unsupported(format!("{api_version} {kind}")));
    };
    let mut object = Map::new();
    object.insert("apiVersion".to_owned(), Value::from(api_version));
    object.insert("kind".to_owned(), Value::from(kind));
    message(fields, raw, &mut object)?;
    Ok(object)
}

fn text(payload: Payload<'_>) -> Result<String, ProtobufError> {
    match std::str::from_utf8(payload.bytes()?) {
        Ok(text) => Ok(text.to_owned()),
        Err(_) => malformed("a text is not UTF-8"),
    }
}

/// Decodes one message into `out`. Nesting is bounded by the field tables, which are trees.
fn message(fields: &[Field], bytes: &[u8], out: &mut Map<String, Value>) -> Result<(), ProtobufError> {
    let mut reader = Reader::new(bytes);
    while let Some((number, payload)) = reader.next()? {
        let Some(field) = fields.iter().find(|f| f.number == number) else { continue };
        match field.shape {
            Shape::Texts => push(out, field.name, Value::from(text(payload)?)),
            Shape::Messages(fields) => {
                let mut item = Map::new();
                message(fields, payload.bytes()?, &mut item)?;
                push(out, field.name, Value::Object(item));
            }
            Shape::TextMap => {
                let (key, value) = entry(payload.bytes()?)?;
                match std::str::from_utf8(value) {
                    Ok(value) => insert(out, field.name, key, Value::from(value)),
                    Err(_) => return malformed(format!("{}: a text is not UTF-8", field.name)),
                }
            }
            Shape::BytesMap => {
                let (key, value) = entry(payload.bytes()?)?;
                insert(out, field.name, key, Value::from(base64(value)));
            }
            shape => {
                if let Some(value) = single(shape, payload, out.get(field.name))? {
                    out.insert(field.name.to_owned(), value);
                }
            }
        }
    }
    Ok(())
}

/// A field that is there once. Go writes fields that are not pointers even when they are empty; those stay away, as in
/// JSON. A message given twice is merged, as the encoding demands.
fn single(shape: Shape, payload: Payload<'_>, before: Option<&Value>) -> Result<Option<Value>, ProtobufError> {
    Ok(match shape {
        Shape::Text => Some(text(payload)?).filter(|t| !t.is_empty()).map(Value::from),
        Shape::TextPointer => Some(Value::from(text(payload)?)),
        Shape::Integer => Some(payload.integer()?).filter(|n| *n != 0).map(Value::from),
        Shape::IntegerPointer => Some(Value::from(payload.integer()?)),
        Shape::BoolPointer => Some(Value::from(payload.integer()? != 0)),
        Shape::Time(digits) => time(payload.bytes()?, digits)?.map(Value::from),
        Shape::Json => match json_of(payload.bytes()?)? {
            None => None,
            Some(raw) => match serde_json::from_slice(raw) {
                Ok(value) => Some(value),
                Err(error) => return malformed(format!("embedded JSON: {error}")),
            },
        },
        Shape::Message(fields) => {
            let mut inner = before.and_then(Value::as_object).cloned().unwrap_or_default();
            message(fields, payload.bytes()?, &mut inner)?;
            Some(Value::Object(inner))
        }
        Shape::Texts | Shape::Messages(_) | Shape::TextMap | Shape::BytesMap => None,
    })
}

fn push(out: &mut Map<String, Value>, name: &str, item: Value) {
    if let Value::Array(list) = out.entry(name).or_insert_with(|| Value::Array(Vec::new())) {
        list.push(item);
    }
}

fn insert(out: &mut Map<String, Value>, name: &str, key: String, value: Value) {
    if let Value::Object(map) = out.entry(name).or_insert_with(|| Value::Object(Map::new())) {
        map.insert(key, value);
    }
}

fn entry(bytes: &[u8]) -> Result<(String, &[u8]), ProtobufError> {
    let (mut key, mut value) = (String::new(), &b""[..]);
    let mut reader = Reader::new(bytes);
    while let Some((number, payload)) = reader.next()? {
        match number {
            1 => key = text(payload)?,
            2 => value = payload.bytes()?,
            _ => {}
        }
    }
    Ok((key, value))
}

/// `fieldsV1`: a message whose first field is JSON text.
fn json_of(bytes: &[u8]) -> Result<Option<&[u8]>, ProtobufError> {
    let mut raw = None;
    let mut reader = Reader::new(bytes);
    while let Some((number, payload)) = reader.next()? {
        if number == 1 {
            raw = Some(payload.bytes()?);
        }
    }
    Ok(raw.filter(|r| !r.is_empty()))
}

/// A time; an empty message is Go's zero time, which JSON leaves out.
fn time(bytes: &[u8], digits: u8) -> Result<Option<String>, ProtobufError> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let (mut seconds, mut nanos) = (0, 0);
    let mut reader = Reader::new(bytes);
    while let Some((number, payload)) = reader.next()? {
        match number {
            1 => seconds = payload.integer()?,
            2 => nanos = payload.integer()?,
            _ => {}
        }
    }
    let nanos = i32::try_from(nanos).ok().filter(|n| (0..1_000_000_000).contains(n));
    let Some(moment) = nanos.and_then(|nanos| Timestamp::new(seconds, nanos).ok()) else {
        return malformed("a time is out of range");
    };
    let format = if digits == MICRO_TIME { "%Y-%m-%dT%H:%M:%S.%6fZ" } else { "%Y-%m-%dT%H:%M:%SZ" };
    Ok(Some(moment.strftime(format).to_string()))
}

fn base64(bytes: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

#[cfg(test)]
mod tests;
