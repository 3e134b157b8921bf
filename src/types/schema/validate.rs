//! Validation of values against a compiled schema, in the wording of Kubernetes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use base64::Engine;
use serde_json::{Number, Value};

use super::super::field_error::FieldError;
use super::{Checks, ListType, Schema, Type, push_field, push_index};

/// Most errors reported for one object.
const MOST: usize = 100;

/// All errors of `value`, the object's root.
pub(super) fn validate(schema: &Schema, value: &Value) -> Vec<FieldError> {
    let mut walk = Walk { path: String::new(), errors: Vec::new() };
    walk.value(schema, value);
    walk.errors
}

struct Walk {
    path: String,
    errors: Vec<FieldError>,
}

impl Walk {
    fn full(&self) -> bool {
        self.errors.len() >= MOST
    }

    /// Reports `value` as not allowed: `spec.x in body <what>`.
    fn invalid(&mut self, value: &Value, what: &str) {
        let detail = format!("{} in body {what}", self.path);
        self.errors.push(FieldError::invalid(self.path.clone(), value, detail));
    }

    fn field(&mut self, name: &str, f: impl FnOnce(&mut Self)) {
        let length = self.path.len();
        push_field(&mut self.path, name);
        f(self);
        self.path.truncate(length);
    }

    fn index(&mut self, n: usize, f: impl FnOnce(&mut Self)) {
        let length = self.path.len();
        push_index(&mut self.path, n);
        f(self);
        self.path.truncate(length);
    }

    fn value(&mut self, schema: &Schema, value: &Value) {
        if self.full() || (value.is_null() && (schema.nullable || schema.type_ == Type::Any)) {
            return;
        }
        if !has_type(schema.type_, value) {
            let given = type_name(value);
            let wanted = match schema.type_ {
                Type::Any => "any",
                Type::Object => "object",
                Type::Array => "array",
                Type::Text => "string",
                Type::Integer => "integer",
                Type::Number => "number",
                Type::Boolean => "boolean",
                Type::IntOrString => "integer or string",
            };
            let detail = format!("{} in body must be of type {wanted}: \"{given}\"", self.path);
            self.errors.push(FieldError::type_invalid(self.path.clone(), &Value::from(given), detail));
            return;
        }
        if let Some(checks) = &schema.checks {
            self.checks(checks, value);
        }
        match value {
            Value::Object(map) => {
                for (key, child) in map {
                    if let Some(schema) = schema.field(key) {
                        self.field(key, |w| w.value(schema, child));
                    }
                }
            }
            Value::Array(list) => {
                if let Some(items) = schema.items() {
                    for (n, child) in list.iter().enumerate() {
                        self.index(n, |w| w.value(items, child));
                    }
                }
                self.unique(schema, list);
            }
            _ => {}
        }
    }

    fn checks(&mut self, checks: &Checks, value: &Value) {
        if !checks.allowed.is_empty() && !checks.allowed.contains(value) {
            self.errors.push(FieldError::not_supported(self.path.clone(), value, &checks.allowed));
        }
        match value {
            Value::String(text) => self.text(checks, value, text),
            Value::Number(number) => self.number(checks, value, number),
            Value::Array(list) => {
                if let Some(max) = checks.max_items.filter(|max| list.len() as u64 > *max) {
                    self.errors.push(FieldError::too_many(self.path.clone(), list.len(), max));
                }
                if let Some(min) = checks.min_items.filter(|min| (list.len() as u64) < *min) {
                    self.invalid(&Value::from(list.len()), &format!("should have at least {min} items"));
                }
                if checks.unique_items && list.iter().enumerate().any(|(n, item)| list[..n].contains(item)) {
                    self.invalid(value, "shouldn't contain duplicates");
                }
            }
            Value::Object(map) => {
                for name in checks.required.iter().filter(|name| !map.contains_key(*name)) {
                    self.field(name, |w| w.errors.push(FieldError::required(w.path.clone(), "")));
                }
                if let Some(max) = checks.max_properties.filter(|max| map.len() as u64 > *max) {
                    self.errors.push(FieldError::too_many(self.path.clone(), map.len(), max));
                }
                if let Some(min) = checks.min_properties.filter(|min| (map.len() as u64) < *min) {
                    self.invalid(value, &format!("should have at least {min} properties"));
                }
            }
            Value::Null | Value::Bool(_) => {}
        }
        self.combined(checks, value);
    }

    fn text(&mut self, checks: &Checks, value: &Value, text: &str) {
        if checks.max_length.is_some() || checks.min_length.is_some() {
            let length = text.chars().count() as u64;
            if let Some(max) = checks.max_length.filter(|max| length > *max) {
                self.errors.push(FieldError::too_long(self.path.clone(), max, ""));
            }
            if let Some(min) = checks.min_length.filter(|min| length < *min) {
                self.invalid(value, &format!("should be at least {min} chars long"));
            }
        }
        if let Some(pattern) = checks.pattern.as_ref().filter(|p| !p.matches(text)) {
            self.invalid(value, &format!("should match '{}'", pattern.text));
        }
        if let Some(format) = checks.format.as_ref().filter(|f| !has_format(f, text)) {
            self.invalid(value, &format!("must be of type {format}: {}", Value::from(text)));
        }
    }

    fn number(&mut self, checks: &Checks, value: &Value, number: &Number) {
        let Some(n) = number.as_f64() else { return };
        if let Some(min) = checks.minimum {
            if checks.exclusive_minimum && n <= min {
                self.invalid(value, &format!("should be greater than {min}"));
            } else if n < min {
                self.invalid(value, &format!("should be greater than or equal to {min}"));
            }
        }
        if let Some(max) = checks.maximum {
            if checks.exclusive_maximum && n >= max {
                self.invalid(value, &format!("should be less than {max}"));
            } else if n > max {
                self.invalid(value, &format!("should be less than or equal to {max}"));
            }
        }
        if let Some(factor) = checks.multiple_of.filter(|f| *f != 0.0 && (n / f).fract() != 0.0) {
            self.invalid(value, &format!("should be a multiple of {factor}"));
        }
        let fits = match checks.format.as_deref() {
            Some("int32") => {
                number.as_i64().is_some_and(|n| i32::try_from(n).is_ok()) || n.abs() <= f64::from(i32::MAX)
            }
            Some("int64") => number.is_i64() || (number.is_f64() && n.abs() < i64::MAX as f64),
            _ => true,
        };
        if !fits {
            let format = checks.format.as_deref().unwrap_or_default();
            self.invalid(value, &format!("must be of type integer with format {format}"));
        }
    }

    /// `allOf`, `anyOf`, `oneOf`, `not`. Where no branch holds, the errors of the nearest one are added.
    fn combined(&mut self, checks: &Checks, value: &Value) {
        for branch in &checks.all_of {
            self.value(branch, value);
        }
        if let Some(nearest) = self.unmet(&checks.any_of, value, |valid| valid >= 1) {
            self.invalid(value, "must validate at least one schema (anyOf)");
            self.errors.extend(nearest);
        }
        let mut valid = 0;
        let unmet = self.unmet(&checks.one_of, value, |n| {
            valid = n;
            n == 1
        });
        if let Some(nearest) = unmet {
            if valid == 0 {
                self.invalid(value, "must validate one and only one schema (oneOf). Found none valid");
                self.errors.extend(nearest);
            } else {
                self.invalid(
                    value,
                    &format!("must validate one and only one schema (oneOf). Found {valid} valid alternatives"),
                );
            }
        }
        if let Some(not) = &checks.not
            && self.branch(not, value).is_empty()
        {
            self.invalid(value, "must not validate the schema (not)");
        }
    }

    fn branch(&self, schema: &Schema, value: &Value) -> Vec<FieldError> {
        let mut walk = Walk { path: self.path.clone(), errors: Vec::new() };
        walk.value(schema, value);
        walk.errors
    }

    /// The shortest error list of the branches unless `enough` accepts the number of valid ones.
    fn unmet(&self, branches: &[Schema], value: &Value, enough: impl FnOnce(usize) -> bool) -> Option<Vec<FieldError>> {
        if branches.is_empty() {
            return None;
        }
        let mut results: Vec<_> = branches.iter().map(|b| self.branch(b, value)).collect();
        let valid = results.iter().filter(|errors| errors.is_empty()).count();
        if enough(valid) {
            return None;
        }
        results.sort_by_key(Vec::len);
        Some(results.into_iter().next().unwrap_or_default())
    }

    /// Lists that merge by key or as sets may not hold two equal members.
    fn unique(&mut self, schema: &Schema, list: &[Value]) {
        let identity = |item: &Value| -> Option<Value> {
            match schema.list_type() {
                ListType::Atomic => None,
                ListType::Set => Some(item.clone()),
                ListType::Map(keys) => {
                    let item = item.as_object()?;
                    let default = |key: &str| schema.items()?.field(key)?.default_value().cloned();
                    let pairs = keys
                        .iter()
                        .filter_map(|key| Some((key.clone(), item.get(key).cloned().or_else(|| default(key))?)));
                    Some(Value::Object(pairs.collect()))
                }
            }
        };
        if *schema.list_type() == ListType::Atomic {
            return;
        }
        let mut seen = std::collections::HashSet::with_capacity(list.len());
        for (n, item) in list.iter().enumerate() {
            let Some(identity) = identity(item) else { continue };
            if !seen.insert(identity.to_string()) {
                self.index(n, |w| w.errors.push(FieldError::duplicate(w.path.clone(), &identity)));
            }
            if self.full() {
                return;
            }
        }
    }
}

fn has_type(type_: Type, value: &Value) -> bool {
    let whole = |n: &Number| n.is_i64() || n.is_u64() || n.as_f64().is_some_and(|f| f.fract() == 0.0);
    match (type_, value) {
        (Type::Any, _)
        | (Type::Object, Value::Object(_))
        | (Type::Array, Value::Array(_))
        | (Type::Text | Type::IntOrString, Value::String(_))
        | (Type::Number, Value::Number(_))
        | (Type::Boolean, Value::Bool(_)) => true,
        (Type::Integer | Type::IntOrString, Value::Number(n)) => whole(n),
        _ => false,
    }
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if n.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// Whether a text has a format that Kubernetes checks; unknown formats accept everything.
fn has_format(format: &str, text: &str) -> bool {
    match format {
        "date-time" => text.parse::<jiff::Timestamp>().is_ok() && text.contains(['T', 't']),
        "date" => text.parse::<jiff::civil::Date>().is_ok() && text.len() == 10,
        "byte" => base64::engine::general_purpose::STANDARD.decode(text.as_bytes()).is_ok(),
        "ipv4" => text.parse::<Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<Ipv6Addr>().is_ok(),
        "cidr" => text.split_once('/').is_some_and(|(address, bits)| {
            let most = match address.parse() {
                Ok(IpAddr::V4(_)) => 32,
                Ok(IpAddr::V6(_)) => 128,
                Err(_) => return false,
            };
            bits.parse::<u8>().is_ok_and(|bits| bits <= most)
        }),
        "uuid" => uuid::Uuid::try_parse(text).is_ok(),
        _ => true,
    }
}
