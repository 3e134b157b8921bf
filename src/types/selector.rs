//! Label, field and node selectors: parsing with errors that say where, and matching over JSON objects.
//!
//! The grammar is that of the Kubernetes API: `a=b,c!=d,e in (f,g),h notin (i),j,!k` for labels,
//! `metadata.name=x,status.phase!=y` for fields, and the object forms `LabelSelector` and `NodeSelectorTerm`.

use serde_json::{Map, Value};

/// A selector that cannot be read. The text names the offending part.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unable to parse requirement: {0}")]
pub struct SelectorError(String);

/// How a requirement compares the value of its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// The key is present with one of the values.
    In,
    /// The key is absent, or has none of the values.
    NotIn,
    /// The key is present.
    Exists,
    /// The key is absent.
    DoesNotExist,
    /// The value is an integer greater than the only given one.
    Gt,
    /// The value is an integer less than the only given one.
    Lt,
}

/// One condition on one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    /// Label or field name.
    pub key: String,
    /// Comparison.
    pub operator: Operator,
    /// Operands: none for `Exists`/`DoesNotExist`, one integer for `Gt`/`Lt`, at least one otherwise.
    pub values: Vec<String>,
}

impl Requirement {
    /// Whether a value (`None` = key absent) satisfies the condition.
    pub fn accepts(&self, value: Option<&str>) -> bool {
        let listed = |v: &str| self.values.iter().any(|w| w == v);
        let number = |v: &str| v.parse::<i64>().ok();
        let operand = || self.values.first().and_then(|v| number(v));
        match (self.operator, value) {
            (Operator::In, Some(v)) => listed(v),
            (Operator::NotIn, Some(v)) => !listed(v),
            (Operator::NotIn | Operator::DoesNotExist, None) => true,
            (Operator::Exists, Some(_)) => true,
            (Operator::Gt, Some(v)) => matches!((number(v), operand()), (Some(a), Some(b)) if a > b),
            (Operator::Lt, Some(v)) => matches!((number(v), operand()), (Some(a), Some(b)) if a < b),
            _ => false,
        }
    }
}

/// All requirements must hold; the empty selector matches everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LabelSelector {
    /// The conditions.
    pub requirements: Vec<Requirement>,
}

impl LabelSelector {
    /// Reads the text form.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let mut parser = Parser { rest: text.trim() };
        let mut requirements = Vec::new();
        if parser.rest.is_empty() {
            return Ok(Self { requirements });
        }
        loop {
            requirements.push(parser.requirement()?);
            parser.space();
            if parser.rest.is_empty() {
                return Ok(Self { requirements });
            }
            parser.expect(',')?;
        }
    }

    /// Reads the object form: `matchLabels` and `matchExpressions`. `null` matches nothing in Kubernetes; callers
    /// decide that before calling.
    pub fn from_object(selector: &Value) -> Result<Self, SelectorError> {
        let mut requirements = Vec::new();
        for (key, value) in selector.get("matchLabels").and_then(Value::as_object).into_iter().flatten() {
            let Some(value) = value.as_str() else {
                return Err(SelectorError(format!("matchLabels {key:?}: the value must be a string")));
            };
            requirements.push(checked(key.clone(), Operator::In, vec![value.to_owned()])?);
        }
        for expression in expressions(selector, "matchExpressions") {
            requirements.push(expression_requirement(expression, false)?);
        }
        Ok(Self { requirements })
    }

    /// Whether these labels satisfy every requirement.
    pub fn matches(&self, labels: Option<&Map<String, Value>>) -> bool {
        self.requirements.iter().all(|r| r.accepts(labels.and_then(|l| l.get(&r.key)).and_then(Value::as_str)))
    }

    /// Whether the object's `metadata.labels` satisfy every requirement.
    pub fn matches_object(&self, object: &Value) -> bool {
        self.matches(object.pointer("/metadata/labels").and_then(Value::as_object))
    }

    /// Whether the selector is empty and so matches everything.
    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty()
    }
}

/// Whether a node satisfies a `NodeSelector` object (`nodeSelectorTerms`, any of which must match; inside a term all
/// of `matchExpressions` on labels and `matchFields` on `metadata.name` must). An empty term matches nothing.
pub fn node_selector_matches(selector: &Value, node: &Value) -> Result<bool, SelectorError> {
    for term in expressions(selector, "nodeSelectorTerms") {
        if node_term_matches(term, node)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether a node satisfies one `NodeSelectorTerm`.
pub fn node_term_matches(term: &Value, node: &Value) -> Result<bool, SelectorError> {
    let labels = node.pointer("/metadata/labels");
    let mut conditions = 0;
    for expression in expressions(term, "matchExpressions") {
        conditions += 1;
        let requirement = expression_requirement(expression, true)?;
        let value = labels.and_then(|l| l.get(&requirement.key)).and_then(Value::as_str);
        if !requirement.accepts(value) {
            return Ok(false);
        }
    }
    for expression in expressions(term, "matchFields") {
        conditions += 1;
        let requirement = expression_requirement(expression, true)?;
        if requirement.key != "metadata.name" {
            return Err(SelectorError(format!("matchFields {:?}: only metadata.name is supported", requirement.key)));
        }
        if !requirement.accepts(node.pointer("/metadata/name").and_then(Value::as_str)) {
            return Ok(false);
        }
    }
    Ok(conditions > 0)
}

fn expressions<'a>(object: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    object.get(field).and_then(Value::as_array).into_iter().flatten()
}

fn expression_requirement(expression: &Value, node: bool) -> Result<Requirement, SelectorError> {
    let text = |name: &str| expression.get(name).and_then(Value::as_str).unwrap_or_default();
    let key = text("key").to_owned();
    let operator = match text("operator") {
        "In" => Operator::In,
        "NotIn" => Operator::NotIn,
        "Exists" => Operator::Exists,
        "DoesNotExist" => Operator::DoesNotExist,
        "Gt" if node => Operator::Gt,
        "Lt" if node => Operator::Lt,
        other => return Err(SelectorError(format!("key {key:?}: {other:?} is not a valid operator"))),
    };
    let values = expressions(expression, "values")
        .map(|v| v.as_str().map(str::to_owned))
        .collect::<Option<Vec<_>>>()
        .ok_or_else(|| SelectorError(format!("key {key:?}: values must be strings")))?;
    checked(key, operator, values)
}

fn checked(key: String, operator: Operator, values: Vec<String>) -> Result<Requirement, SelectorError> {
    let fail = |text: String| Err(SelectorError(text));
    if !is_label_key(&key) && key != "metadata.name" {
        return fail(format!("{key:?} is not a valid label key"));
    }
    match operator {
        Operator::In | Operator::NotIn if values.is_empty() => {
            return fail(format!("key {key:?}: for 'in', 'notin' operators, values set can't be empty"));
        }
        Operator::Exists | Operator::DoesNotExist if !values.is_empty() => {
            return fail(format!("key {key:?}: values set must be empty for exists and does not exist"));
        }
        Operator::Gt | Operator::Lt if values.len() != 1 || values.iter().any(|v| v.parse::<i64>().is_err()) => {
            return fail(format!("key {key:?}: for 'Gt', 'Lt' operators, exactly one integer value is required"));
        }
        _ => {}
    }
    if let Some(bad) = values.iter().find(|v| !is_label_value(v)) {
        return fail(format!("key {key:?}: {bad:?} is not a valid label value"));
    }
    Ok(Requirement { key, operator, values })
}

/// Whether `key` is a valid label key: `[prefix/]name`, the name at most 63 of `[A-Za-z0-9_.-]` with alphanumeric
/// ends, the prefix a DNS subdomain of at most 253 characters.
pub fn is_label_key(key: &str) -> bool {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    let subdomain = |p: &str| {
        !p.is_empty()
            && p.len() <= 253
            && p.split('.').all(|part| {
                !part.is_empty()
                    && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
                    && !part.starts_with('-')
                    && !part.ends_with('-')
            })
    };
    !name.is_empty() && is_label_value(name) && prefix.is_none_or(subdomain)
}

/// Whether `value` is a valid label value: empty, or at most 63 of `[A-Za-z0-9_.-]` with alphanumeric ends.
pub fn is_label_value(value: &str) -> bool {
    let bytes = value.as_bytes();
    bytes.len() <= 63
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        && bytes.first().is_none_or(u8::is_ascii_alphanumeric)
        && bytes.last().is_none_or(u8::is_ascii_alphanumeric)
}

struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn take(&mut self, token: &str) -> bool {
        self.space();
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, token: char) -> Result<(), SelectorError> {
        if self.take(token.encode_utf8(&mut [0; 4])) {
            return Ok(());
        }
        Err(SelectorError(format!("found {:?}, expected '{token}'", self.shown())))
    }

    /// What is left, cut for an error text.
    fn shown(&self) -> String {
        self.rest.chars().take(40).collect()
    }

    fn word(&mut self) -> &'a str {
        self.space();
        let end = self
            .rest
            .find(|c: char| c.is_whitespace() || matches!(c, '=' | '!' | '(' | ')' | ',' | '<' | '>'))
            .unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }

    fn requirement(&mut self) -> Result<Requirement, SelectorError> {
        if self.take("!") {
            let key = self.word().to_owned();
            return checked(key, Operator::DoesNotExist, Vec::new());
        }
        let key = self.word().to_owned();
        if key.is_empty() {
            return Err(SelectorError(format!("found {:?}, expected a label key", self.shown())));
        }
        let comparisons = [
            ("==", Operator::In),
            ("=", Operator::In),
            ("!=", Operator::NotIn),
            (">", Operator::Gt),
            ("<", Operator::Lt),
        ];
        for (token, operator) in comparisons {
            if self.take(token) {
                let value = self.word().to_owned();
                return checked(key, operator, vec![value]);
            }
        }
        self.space();
        if self.rest.is_empty() || self.rest.starts_with(',') {
            return checked(key, Operator::Exists, Vec::new());
        }
        let operator = match self.word() {
            "in" => Operator::In,
            "notin" => Operator::NotIn,
            other => {
                return Err(SelectorError(format!(
                    "found {:?} after {key:?}, expected one of =, ==, !=, in, notin, >, <",
                    if other.is_empty() { self.shown() } else { other.to_owned() }
                )));
            }
        };
        self.expect('(')?;
        let mut values = Vec::new();
        loop {
            values.push(self.word().to_owned());
            if self.take(")") {
                return checked(key, operator, values);
            }
            self.expect(',')?;
        }
    }
}

/// A field selector: every term must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FieldSelector {
    terms: Vec<FieldTerm>,
}

/// One `field=value` or `field!=value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldTerm {
    /// Dotted field name.
    pub field: String,
    /// Wanted (or unwanted) value.
    pub value: String,
    /// `true` for `=`, `false` for `!=`.
    pub equals: bool,
}

/// A field selector that cannot be used. Both variants are HTTP 400 for an API client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FieldSelectorError {
    /// The text is not `field=value[,...]`.
    #[error("invalid selector: {0:?}; can't understand {1:?}")]
    Syntax(String, String),
    /// The kind has no such selectable field.
    #[error("field label not supported: {0}")]
    Unsupported(String),
}

impl FieldSelector {
    /// Reads `a=b,c!=d`; `\,`, `\=` and `\\` stand for themselves in values. `extra` lists the fields selectable
    /// beside `metadata.name` and `metadata.namespace` (see [`selectable_fields`]).
    pub fn parse(text: &str, extra: &[&str]) -> Result<Self, FieldSelectorError> {
        let syntax = |part: &str| FieldSelectorError::Syntax(text.to_owned(), part.to_owned());
        let mut terms = Vec::new();
        for part in split_escaped(text).into_iter().filter(|p| !p.is_empty()) {
            let at = part.find(['=', '!']).ok_or_else(|| syntax(part))?;
            let (field, rest) = part.split_at(at);
            let (equals, raw) = if let Some(raw) = rest.strip_prefix("!=") {
                (false, raw)
            } else if let Some(raw) = rest.strip_prefix("==").or_else(|| rest.strip_prefix('=')) {
                (true, raw)
            } else {
                return Err(syntax(part));
            };
            let field = field.trim();
            if !matches!(field, "metadata.name" | "metadata.namespace") && !extra.contains(&field) {
                return Err(FieldSelectorError::Unsupported(field.to_owned()));
            }
            let value = unescape(raw).ok_or_else(|| syntax(part))?;
            terms.push(FieldTerm { field: field.to_owned(), value, equals });
        }
        Ok(Self { terms })
    }

    /// Whether the object satisfies every term. An absent field counts as the empty string.
    pub fn matches_object(&self, object: &Value) -> bool {
        self.terms.iter().all(|term| (field_value(object, &term.field) == term.value) == term.equals)
    }

    /// The terms, for callers that turn some of them into an index look-up.
    pub fn terms(&self) -> &[FieldTerm] {
        &self.terms
    }

    /// The value `metadata.name` must have, if the selector fixes one.
    pub fn name(&self) -> Option<&str> {
        self.terms.iter().find(|t| t.equals && t.field == "metadata.name").map(|t| t.value.as_str())
    }

    /// Whether the selector is empty and so matches everything.
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }
}

/// The fields of a kind that clients may select by, beside name and namespace.
pub fn selectable_fields(group: &str, kind: &str) -> &'static [&'static str] {
    match (group, kind) {
        ("", "Secret") => &["type"],
        ("", "Namespace") => &["status.phase"],
        ("", "Node") => &["spec.unschedulable"],
        ("" | "events.k8s.io", "Event") => &[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
        ],
        _ => &[],
    }
}

/// The text of a selectable field; absent fields are empty, `spec.unschedulable` defaults to `false`.
fn field_value(object: &Value, field: &str) -> String {
    let at = |path: &str| path.split('.').try_fold(object, |v, key| v.get(key));
    let found = match field {
        "source" => at("source.component").filter(|v| *v != "").or_else(|| at("reportingComponent")),
        _ => at(field),
    };
    match found {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None if field == "spec.unschedulable" => "false".to_owned(),
        Some(Value::Null) | None => String::new(),
        Some(other) => other.to_string(),
    }
}

fn split_escaped(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut start, mut escaped) = (0, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

fn unescape(raw: &str) -> Option<String> {
    let mut out = String::with_capacity(raw.len());
    let mut chars = raw.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next()? {
                c @ ('\\' | ',' | '=') => out.push(c),
                _ => return None,
            },
            ',' | '=' => return None,
            c => out.push(c),
        }
    }
    Some(out)
}

#[cfg(test)]
#[path = "selector_tests.rs"]
mod tests;
