//! Secrets and ConfigMaps.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::Refusal;
use crate::apiserver::object::{self, Object};
use crate::apiserver::status::Cause;

/// Largest sum of all values.
const MAX_DATA: usize = 1 << 20;

/// Fills in and checks a Secret: `stringData` goes into `data`, `type` has a default and stays.
///
/// # Errors
/// Malformed for values that are not base64, invalid for changes of what is fixed.
pub fn secret(old: Option<&Object>, new: &mut Object) -> Result<(), Refusal> {
    if let Some(given) = take_map(new, "stringData")? {
        let mut data = take_map(new, "data")?.unwrap_or_default();
        for (key, value) in given {
            let text = value.as_str().ok_or_else(|| not_a_string("stringData", &key))?;
            data.insert(key, STANDARD.encode(text).into());
        }
        new.insert("data".to_owned(), data.into());
    }
    let mut causes = Vec::new();
    let size = check_map(new, "data", true, &mut causes)?;
    too_long("data", size, &mut causes);
    if new.get("type").is_none_or(|t| t.is_null() || *t == "") {
        let kept = old.and_then(|o| o.get("type")).cloned();
        new.insert("type".to_owned(), kept.unwrap_or_else(|| "Opaque".into()));
    }
    if let Some(old) = old {
        if let (Some(before), Some(after)) = (old.get("type"), new.get("type"))
            && before != after
        {
            causes.push(Cause::invalid("type", after, "field is immutable"));
        }
        immutable(old, new, &["data"], &mut causes);
    }
    keys_of_type(new, &mut causes);
    done(causes)
}

/// What a Secret of one of Kubernetes' own types has to hold. Other types are their users' business.
fn keys_of_type(secret: &Object, causes: &mut Vec<Cause>) {
    const SERVICE_ACCOUNT: &str = "kubernetes.io/service-account.name";
    let value = |key: &str| secret.get("data").and_then(|d| d.get(key)).and_then(Value::as_str);
    let mut need = |keys: &[&str], fine: bool| {
        if !fine {
            causes.extend(keys.iter().map(|key| Cause::required(format!("data[{key}]"), "")));
        }
    };
    match secret.get("type").and_then(Value::as_str).unwrap_or_default() {
        "kubernetes.io/basic-auth" => {
            need(&["username", "password"], value("username").is_some() || value("password").is_some());
        }
        "kubernetes.io/ssh-auth" => {
            need(&["ssh-privatekey"], value("ssh-privatekey").is_some_and(|key| !key.is_empty()));
        }
        "kubernetes.io/tls" => {
            for key in ["tls.crt", "tls.key"] {
                need(&[key], value(key).is_some());
            }
        }
        "kubernetes.io/dockercfg" => credentials(".dockercfg", value(".dockercfg"), causes),
        "kubernetes.io/dockerconfigjson" => credentials(".dockerconfigjson", value(".dockerconfigjson"), causes),
        "kubernetes.io/service-account-token" => {
            let annotations = object::metadata(secret).and_then(|m| m.get("annotations"));
            let account = annotations.and_then(|a| a.get(SERVICE_ACCOUNT)).and_then(Value::as_str);
            if account.is_none_or(str::is_empty) {
                causes.push(Cause::required(format!("metadata.annotations[{SERVICE_ACCOUNT}]"), ""));
            }
        }
        _ => {}
    }
}

/// Registry credentials are a JSON object. They are secret, so they are not repeated.
fn credentials(key: &str, value: Option<&str>, causes: &mut Vec<Cause>) {
    let field = format!("data[{key}]");
    let Some(text) = value else { return causes.push(Cause::required(field, "")) };
    let decoded = STANDARD.decode(text).unwrap_or_default();
    if serde_json::from_slice::<Map<String, Value>>(&decoded).is_err() {
        causes.push(Cause::invalid(field, &"<secret contents redacted>".into(), "must be a JSON object"));
    }
}

/// Checks a ConfigMap.
///
/// # Errors
/// Malformed for values of the wrong type, invalid for keys in both maps and changes of what is fixed.
pub fn config_map(old: Option<&Object>, new: &mut Object) -> Result<(), Refusal> {
    let mut causes = Vec::new();
    let size = check_map(new, "data", false, &mut causes)? + check_map(new, "binaryData", true, &mut causes)?;
    too_long("", size, &mut causes);
    if let (Some(Value::Object(text)), Some(Value::Object(binary))) = (new.get("data"), new.get("binaryData")) {
        for key in text.keys().filter(|k| binary.contains_key(*k)) {
            causes.push(Cause::invalid(
                format!("data[{key}]"),
                &key.as_str().into(),
                "duplicate of key present in binaryData",
            ));
        }
    }
    if let Some(old) = old {
        immutable(old, new, &["data", "binaryData"], &mut causes);
    }
    done(causes)
}

fn done(causes: Vec<Cause>) -> Result<(), Refusal> {
    if causes.is_empty() { Ok(()) } else { Err(Refusal::Invalid(causes)) }
}

fn not_a_string(field: &str, key: &str) -> Refusal {
    Refusal::Malformed(format!("{field}[{key:?}] is not a string"))
}

fn take_map(object: &mut Object, field: &str) -> Result<Option<Map<String, Value>>, Refusal> {
    match object.remove(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(map)) => Ok(Some(map)),
        Some(_) => Err(Refusal::Malformed(format!("{field} is not a map"))),
    }
}

/// Checks keys and values of a map; gives the bytes of its values, decoded.
fn check_map(object: &mut Object, field: &str, binary: bool, causes: &mut Vec<Cause>) -> Result<usize, Refusal> {
    let Some(map) = take_map(object, field)? else { return Ok(0) };
    let mut size = 0;
    for (key, value) in &map {
        let text = value.as_str().ok_or_else(|| not_a_string(field, key))?;
        size += if binary {
            let decoded = STANDARD.decode(text);
            decoded.map_err(|e| Refusal::Malformed(format!("{field}[{key:?}]: illegal base64 data: {e}")))?.len()
        } else {
            text.len()
        };
        let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if key.is_empty() || key.len() > 253 || !key.chars().all(fine) || key == "." || key == ".." {
            let detail = "a key has at most 253 letters, digits, '-', '_' or '.'";
            causes.push(Cause::invalid(format!("{field}[{key}]"), &key.as_str().into(), detail));
        }
    }
    object.insert(field.to_owned(), map.into());
    Ok(size)
}

fn too_long(field: &str, size: usize, causes: &mut Vec<Cause>) {
    if size > MAX_DATA {
        let message = format!("Too long: may not be more than {MAX_DATA} bytes");
        causes.push(Cause { reason: "FieldValueTooLong", field: field.to_owned(), message });
    }
}

fn immutable(old: &Object, new: &Object, fields: &[&str], causes: &mut Vec<Cause>) {
    if old.get("immutable") != Some(&Value::Bool(true)) {
        return;
    }
    let detail = "field is immutable when `immutable` is set";
    for field in fields.iter().chain(&["immutable"]) {
        if old.get(*field) != new.get(*field) {
            causes.push(Cause::forbidden(*field, detail));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(value: Value) -> Object {
        value.as_object().cloned().unwrap()
    }

    #[test]
    fn string_data_is_encoded() {
        let mut new = object(json!({"stringData": {"u": "p\u{e4}"}, "data": {"a": "YQ==", "u": "YQ=="}}));
        secret(None, &mut new).unwrap();
        assert_eq!(Value::Object(new), json!({"data": {"a": "YQ==", "u": "cMOk"}, "type": "Opaque"}));
    }

    #[test]
    fn types_have_their_keys() {
        let told =
            |type_: &str, data: Value| match secret(None, &mut object(json!({"type": type_, "stringData": data}))) {
                Ok(()) => String::new(),
                Err(Refusal::Malformed(_)) => "malformed".to_owned(),
                Err(Refusal::Invalid(causes)) => {
                    causes.into_iter().map(|c| format!("{} {} ", c.field, c.reason)).collect()
                }
            };
        for (type_, data, want) in [
            ("kubernetes.io/basic-auth", json!({"username": "u"}), ""),
            ("kubernetes.io/basic-auth", json!({"password": "p"}), ""),
            (
                "kubernetes.io/basic-auth",
                json!({"user": "u"}),
                "data[username] FieldValueRequired data[password] FieldValueRequired ",
            ),
            ("kubernetes.io/ssh-auth", json!({"ssh-privatekey": "k"}), ""),
            ("kubernetes.io/ssh-auth", json!({"ssh-privatekey": ""}), "data[ssh-privatekey] FieldValueRequired "),
            ("kubernetes.io/tls", json!({"tls.crt": "c", "tls.key": "k"}), ""),
            ("kubernetes.io/tls", json!({"tls.crt": "c"}), "data[tls.key] FieldValueRequired "),
            ("kubernetes.io/dockerconfigjson", json!({".dockerconfigjson": "{\"auths\": {}}"}), ""),
            (
                "kubernetes.io/dockerconfigjson",
                json!({".dockerconfigjson": "x"}),
                "data[.dockerconfigjson] FieldValueInvalid ",
            ),
            ("kubernetes.io/dockerconfigjson", json!({}), "data[.dockerconfigjson] FieldValueRequired "),
            ("kubernetes.io/dockercfg", json!({".dockercfg": "[]"}), "data[.dockercfg] FieldValueInvalid "),
            (
                "kubernetes.io/service-account-token",
                json!({}),
                "metadata.annotations[kubernetes.io/service-account.name] FieldValueRequired ",
            ),
            ("provisioning.virtualization.deckhouse.io/cloud-init", json!({}), ""),
        ] {
            assert_eq!(told(type_, data.clone()), want, "{type_} {data}");
        }
    }

    #[test]
    fn refusals() {
        let told = |old: Value, new: Value| match secret(old.as_object(), &mut object(new)) {
            Ok(()) => String::new(),
            Err(Refusal::Malformed(_)) => "malformed".to_owned(),
            Err(Refusal::Invalid(causes)) => causes.into_iter().map(|c| c.field + " ").collect(),
        };
        let base = json!({"type": "Opaque", "data": {"a": "YQ=="}});
        let fixed = json!({"type": "Opaque", "data": {"a": "YQ=="}, "immutable": true});
        for (old, new, want) in [
            (Value::Null, json!({"data": {"a": "***"}}), "malformed"),
            (Value::Null, json!({"data": {"a": 1}}), "malformed"),
            (Value::Null, json!({"data": "x"}), "malformed"),
            (Value::Null, json!({"data": {"a b": "YQ=="}}), "data[a b] "),
            (Value::Null, json!({"data": {"a": STANDARD.encode("x".repeat(MAX_DATA + 1))}}), "data "),
            (base.clone(), json!({"type": "other", "data": {"a": "YQ=="}}), "type "),
            (base.clone(), json!({"data": {"a": "Yg=="}}), ""),
            (fixed.clone(), json!({"type": "Opaque", "data": {"a": "Yg=="}, "immutable": true}), "data "),
            (fixed.clone(), json!({"type": "Opaque", "data": {"a": "YQ=="}}), "immutable "),
            (fixed.clone(), fixed.clone(), ""),
        ] {
            assert_eq!(told(old, new.clone()), want, "{new}");
        }
    }
}
