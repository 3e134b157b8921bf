//! The JSONPath dialect of Kubernetes, as used by printer columns and `-o jsonpath=...`.
//!
//! A [`Path`] is one expression (`.status.conditions[?(@.type=="Ready")].status`); a [`Template`] is text with
//! expressions in braces (`{range .items[*]}{.metadata.name}{"\n"}{end}`). Missing keys and indexes select nothing
//! instead of failing, as `kubectl get -o jsonpath` and the API server's columns treat them.

mod eval;
mod parse;

use std::borrow::Cow;

use serde_json::Value;

use eval::Budget;

/// An expression or template that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid JSONPath at character {at}: {text}")]
pub struct JsonPathError {
    /// Offset in bytes from the start of the given text.
    pub at: usize,
    /// What is wrong there.
    pub text: String,
}

/// A template that selects more than anybody reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the template selects more than {} values: select less, or take -o json", eval::BUDGET)]
pub struct TooMuch;

/// One step of a path.
#[derive(Debug, Clone, PartialEq)]
enum Step {
    /// `$`: back to the document.
    Root,
    /// `@`: the current item (the element under test inside a filter).
    Current,
    /// `.name`.
    Field(String),
    /// `['name']`; when there is no such key, dots separate names as in `['metadata.name']`.
    Key(String),
    /// `[n]`; negative counts from the end.
    Index(i64),
    /// `[start:end:step]`.
    Slice { start: Option<i64>, end: Option<i64>, step: i64 },
    /// `*`: every element or value.
    Wildcard,
    /// `..`: this container and all below.
    Recursive,
    /// `[a,b]`: several selections side by side.
    Union(Vec<Step>),
    /// `[?(...)]`: elements for which the condition holds.
    Filter(Condition),
}

/// A filter's condition.
#[derive(Debug, Clone, PartialEq)]
enum Condition {
    Compare(Operand, Comparison, Operand),
    Exists(Operand),
    And(Box<Condition>, Box<Condition>),
    Or(Box<Condition>, Box<Condition>),
    Not(Box<Condition>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Debug, Clone, PartialEq)]
enum Operand {
    Literal(Value),
    Path(Vec<Step>),
}

/// One expression.
#[derive(Debug, Clone, PartialEq)]
pub struct Path {
    steps: Vec<Step>,
}

impl Path {
    /// Reads `.a.b`, `a.b`, `$.a.b` or any of these in braces (the relaxed form that printer columns, `--sort-by` and
    /// custom columns use).
    pub fn parse(text: &str) -> Result<Self, JsonPathError> {
        let trimmed = text.trim();
        let inner = trimmed.strip_prefix('{').and_then(|t| t.strip_suffix('}')).unwrap_or(trimmed);
        Ok(Self { steps: parse::path(inner)? })
    }

    /// Everything the expression selects in `document`, in document order.
    pub fn find<'a>(&self, document: &'a Value) -> Vec<&'a Value> {
        eval::walk(&self.steps, document, document, &Budget::new())
    }

    /// The first selected value.
    pub fn first<'a>(&self, document: &'a Value) -> Option<&'a Value> {
        self.find(document).into_iter().next()
    }
}

/// One piece of a template.
#[derive(Debug, Clone, PartialEq)]
enum Piece {
    Text(String),
    Path(Vec<Step>),
    Range(Vec<Step>, Vec<Piece>),
}

/// Text with `{expressions}`.
#[derive(Debug, Clone, PartialEq)]
pub struct Template {
    pieces: Vec<Piece>,
}

impl Template {
    /// Reads a template. Text outside braces stands for itself.
    pub fn parse(text: &str) -> Result<Self, JsonPathError> {
        Ok(Self { pieces: parse::template(text)? })
    }

    /// The template filled from `document` as kubectl prints it: results of one expression separated by a blank,
    /// strings as they are, objects and lists as compact JSON.
    ///
    /// # Errors
    /// It selects more than a few million values, so that the text would not be whole.
    pub fn render(&self, document: &Value) -> Result<String, TooMuch> {
        let mut out = String::new();
        let budget = Budget::new();
        render(&self.pieces, document, document, &budget, &mut out);
        if budget.is_used_up() { Err(TooMuch) } else { Ok(out) }
    }
}

fn render(pieces: &[Piece], root: &Value, current: &Value, budget: &Budget, out: &mut String) {
    for piece in pieces {
        match piece {
            Piece::Text(text) => out.push_str(text),
            Piece::Path(steps) => {
                for (n, value) in eval::walk(steps, root, current, budget).into_iter().enumerate() {
                    if n > 0 {
                        out.push(' ');
                    }
                    out.push_str(&text_of(value));
                }
            }
            Piece::Range(steps, body) => {
                for item in eval::walk(steps, root, current, budget) {
                    render(body, root, item, budget, out);
                }
            }
        }
    }
}

/// A selected value as kubectl prints it.
pub fn text_of(value: &Value) -> Cow<'_, str> {
    match value {
        Value::String(text) => Cow::Borrowed(text),
        other => Cow::Owned(other.to_string()),
    }
}

#[cfg(test)]
mod tests;
