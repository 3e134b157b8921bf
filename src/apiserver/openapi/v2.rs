//! The v2 (swagger) document, for clients that cannot do without: JSON, and gnostic's `openapi.v2` protobuf messages.

use serde_json::{Map, Value, json};

use super::build::{Entry, Operation, schemas};
use crate::apiserver::protobuf::Writer;

/// Words of a schema that v2 has.
const KEPT: [&str; 20] = [
    "$ref",
    "type",
    "format",
    "description",
    "default",
    "required",
    "enum",
    "properties",
    "items",
    "additionalProperties",
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "pattern",
    "title",
    "uniqueItems",
    "multipleOf",
];

/// The document of all kinds.
pub fn document(entries: &[Entry]) -> Value {
    let definitions: Map<String, Value> =
        schemas(entries.iter()).into_iter().map(|(name, schema)| (name, simplified(&schema))).collect();
    let mut paths = Map::new();
    for entry in entries {
        for path in entry.paths() {
            let mut item = Map::new();
            let in_path = |name: &&str| json!({"name": name, "in": "path", "required": true, "type": "string"});
            item.insert("parameters".into(), path.parameters.iter().map(in_path).collect());
            for operation in &path.operations {
                item.insert(operation.method.to_owned(), swagger(entry, &path.path, operation));
            }
            paths.insert(path.path, Value::Object(item));
        }
    }
    json!({
        "swagger": "2.0",
        "info": {"title": "vmdeck", "version": env!("CARGO_PKG_VERSION")},
        "paths": paths,
        "definitions": definitions,
    })
}

fn swagger(entry: &Entry, path: &str, operation: &Operation) -> Value {
    let reference = |name: &str| json!({"$ref": format!("#/definitions/{name}")});
    let query = |(name, type_): &(&str, &str)| json!({"name": name, "in": "query", "type": type_});
    let mut parameters: Vec<Value> = operation.query.iter().map(query).collect();
    if let Some(body) = &operation.body {
        let required = operation.method != "delete";
        parameters.push(json!({"name": "body", "in": "body", "required": required, "schema": reference(body)}));
    }
    let answer = json!({"description": "OK", "schema": reference(&operation.answer)});
    let mut out = json!({
        "operationId": entry.operation_id(path, operation),
        "consumes": operation.consumes,
        "produces": ["application/json"],
        "parameters": parameters,
        "responses": {"200": answer},
        "x-kubernetes-action": operation.action,
        "x-kubernetes-group-version-kind": entry.gvk(),
    });
    if operation.created {
        out["responses"]["201"] = answer;
    }
    out
}

/// A schema with what v2 can say. Where v2 would say too much (free-form objects, numbers or texts, nullable fields) it
/// says less, so that clients that check for themselves refuse nothing the server takes.
fn simplified(schema: &Value) -> Value {
    let Some(schema) = schema.as_object() else { return schema.clone() };
    let flag = |name: &str| schema.get(name) == Some(&Value::Bool(true));
    let mut out = Map::new();
    let free = flag("x-kubernetes-preserve-unknown-fields");
    let loose = flag("x-kubernetes-int-or-string") || flag("nullable");
    for (word, value) in schema {
        let kept = KEPT.contains(&word.as_str()) || word.starts_with("x-kubernetes-");
        let told = match word.as_str() {
            "properties" | "additionalProperties" | "items" | "required" => !free,
            "type" | "format" | "pattern" => !loose,
            _ => true,
        };
        if !kept || !told {
            continue;
        }
        let value = match (word.as_str(), value) {
            ("properties", Value::Object(map)) => {
                Value::Object(map.iter().map(|(name, child)| (name.clone(), simplified(child))).collect())
            }
            ("items" | "additionalProperties", child @ Value::Object(_)) => simplified(child),
            ("$ref", Value::String(target)) => Value::from(target.replace("#/components/schemas/", "#/definitions/")),
            (_, value) => value.clone(),
        };
        out.insert(word.clone(), value);
    }
    // v3 wraps a reference so that it can have a description; v2 has both side by side.
    if let Some(target) = schema.get("allOf").and_then(|all| all.get(0)).filter(|first| first.get("$ref").is_some())
        && let Value::Object(target) = simplified(target)
    {
        out.extend(target);
    }
    Value::Object(out)
}

/// The document as `openapi.v2.Document`. Field numbers are those of gnostic's `OpenAPIv2.proto`.
pub fn protobuf(document: &Value) -> Vec<u8> {
    let mut w = Writer::new();
    w.text(1, "2.0");
    w.message(2, |w| {
        w.text(1, text(document, "/info/title"));
        w.text(2, text(document, "/info/version"));
    });
    w.message(8, |w| {
        for (path, item) in fields(document, "paths") {
            named(w, 2, path, |w| path_item(w, item));
        }
    });
    w.message(9, |w| {
        for (name, child) in fields(document, "definitions") {
            named(w, 1, name, |w| schema(w, child));
        }
    });
    w.finish()
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn fields<'a>(value: &'a Value, name: &str) -> impl Iterator<Item = (&'a String, &'a Value)> + use<'a> {
    value.get(name).and_then(Value::as_object).into_iter().flatten()
}

fn items<'a>(value: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    value.get(name).and_then(Value::as_array).into_iter().flatten()
}

/// An entry of a map: name and value.
fn named(w: &mut Writer, number: u32, name: &str, fill: impl FnOnce(&mut Writer)) {
    w.message(number, |w| {
        w.text(1, name);
        w.message(2, fill);
    });
}

/// `Any` with YAML text; JSON is YAML.
fn any(w: &mut Writer, value: &Value) {
    w.text(2, &value.to_string());
}

fn extensions(w: &mut Writer, number: u32, value: &Value) {
    let own = value.as_object().into_iter().flatten().filter(|(name, _)| name.starts_with("x-"));
    for (name, value) in own {
        named(w, number, name, |w| any(w, value));
    }
}

fn path_item(w: &mut Writer, item: &Value) {
    for (method, number) in [("get", 2), ("put", 3), ("post", 4), ("delete", 5), ("patch", 8)] {
        if let Some(value) = item.get(method) {
            w.message(number, |w| operation(w, value));
        }
    }
    for value in items(item, "parameters") {
        w.message(9, |w| parameter(w, value));
    }
}

fn operation(w: &mut Writer, value: &Value) {
    w.text(5, text(value, "/operationId"));
    for (word, number) in [("produces", 6), ("consumes", 7)] {
        for media in items(value, word).filter_map(Value::as_str) {
            w.text(number, media);
        }
    }
    for value in items(value, "parameters") {
        w.message(8, |w| parameter(w, value));
    }
    w.message(9, |w| {
        for (code, answer) in fields(value, "responses") {
            named(w, 1, code, |w| {
                w.message(1, |w| {
                    w.text(1, text(answer, "/description"));
                    if let Some(child) = answer.get("schema") {
                        w.message(2, |w| w.message(1, |w| schema(w, child)));
                    }
                });
            });
        }
    });
    extensions(w, 13, value);
}

fn parameter(w: &mut Writer, value: &Value) {
    let required = u64::from(value.get("required") == Some(&Value::Bool(true)));
    let (name, place, type_) = (text(value, "/name"), text(value, "/in"), text(value, "/type"));
    w.message(1, |w| match place {
        "body" => w.message(1, |w| {
            w.text(2, name);
            w.text(3, place);
            w.integer(4, required);
            if let Some(child) = value.get("schema") {
                w.message(5, |w| schema(w, child));
            }
        }),
        "query" => w.message(2, |w| {
            w.message(3, |w| {
                w.integer(1, required);
                w.text(2, place);
                w.text(4, name);
                w.text(6, type_);
            });
        }),
        _ => w.message(2, |w| {
            w.message(4, |w| {
                w.integer(1, required);
                w.text(2, place);
                w.text(4, name);
                w.text(5, type_);
            });
        }),
    });
}

fn schema(w: &mut Writer, value: &Value) {
    for (word, number) in [("$ref", 1), ("format", 2), ("title", 3), ("description", 4), ("pattern", 13)] {
        if let Some(text) = value.get(word).and_then(Value::as_str) {
            w.text(number, text);
        }
    }
    if let Some(default) = value.get("default") {
        w.message(5, |w| any(w, default));
    }
    for name in items(value, "required").filter_map(Value::as_str) {
        w.text(19, name);
    }
    for allowed in items(value, "enum") {
        w.message(20, |w| any(w, allowed));
    }
    match value.get("additionalProperties") {
        Some(Value::Bool(allowed)) => w.message(21, |w| w.integer(2, u64::from(*allowed))),
        Some(child) => w.message(21, |w| w.message(1, |w| schema(w, child))),
        None => {}
    }
    if let Some(type_) = value.get("type").and_then(Value::as_str) {
        w.message(22, |w| w.text(1, type_));
    }
    if let Some(child) = value.get("items") {
        w.message(23, |w| w.message(1, |w| schema(w, child)));
    }
    if value.get("properties").is_some() {
        w.message(25, |w| {
            for (name, child) in fields(value, "properties") {
                named(w, 1, name, |w| schema(w, child));
            }
        });
    }
    extensions(w, 31, value);
}
