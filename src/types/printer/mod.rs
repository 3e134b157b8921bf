//! Printer columns: which columns a kind has and the cells of one object, as the API server's Tables show them.
//!
//! Custom kinds show their name and the `additionalPrinterColumns` of their definition; core kinds show kubectl's usual
//! columns, computed in [`core`].

mod core;

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;

use super::jsonpath::{Path, text_of};
use super::kinds::{Column, KindInfo};
use super::per_kind::PerKind;
use super::text::age;

static LAYOUTS: PerKind<Vec<(Column, Cell)>> = PerKind::new();

/// How the cell of a column is made.
#[derive(Debug, Clone)]
enum Cell {
    /// First result of a path, shown by the column's type. `None`: the definition's path cannot be read; the cell stays
    /// empty, as in Kubernetes.
    Path(Option<Path>),
    /// Computed from the object.
    Computed(fn(&Value, Timestamp) -> Value),
}

/// The columns of a kind in display order, the name first.
pub fn columns(kind: &KindInfo) -> Vec<Column> {
    layout(kind).iter().map(|(column, _)| column.clone()).collect()
}

/// The cells of one object, one per column of [`columns`]: strings, integers, booleans, or `null` where the object says
/// nothing. Dates are ages at `now` (`5m16s`), objects and lists compact JSON.
pub fn cells(kind: &KindInfo, object: &Value, now: Timestamp) -> Vec<Value> {
    layout(kind)
        .iter()
        .map(|(column, cell)| match cell {
            Cell::Computed(compute) => compute(object, now),
            Cell::Path(path) => path
                .as_ref()
                .and_then(|p| p.first(object))
                .map_or(Value::Null, |value| shown(&column.type_, value, now)),
        })
        .collect()
}

/// OpenAPI format of a column as Tables declare it: `name` for the name, nothing otherwise.
pub fn format_of(column: &Column) -> &'static str {
    if column.json_path == NAME_PATH { "name" } else { "" }
}

const NAME_PATH: &str = ".metadata.name";

fn layout(kind: &KindInfo) -> Arc<Vec<(Column, Cell)>> {
    LAYOUTS.get(kind, || match kind.crd {
        Some(crd) => {
            let definition = crd();
            let declared = definition
                .spec
                .versions
                .into_iter()
                .find(|v| v.name == kind.version)
                .and_then(|v| v.additional_printer_columns)
                .unwrap_or_default();
            let declared = declared.into_iter().map(|c| {
                let cell = Cell::Path(Path::parse(&c.json_path).ok());
                let column = Column {
                    name: c.name,
                    type_: c.type_,
                    description: c.description.unwrap_or_default(),
                    priority: c.priority.unwrap_or(0),
                    json_path: c.json_path,
                };
                (column, cell)
            });
            std::iter::once(name_column()).chain(declared).collect()
        }
        None => core::layout(kind.group, kind.kind),
    })
}

fn name_column() -> (Column, Cell) {
    path_column("Name", "string", "Name of the object, unique among its kind and namespace.", NAME_PATH)
}

fn age_column() -> (Column, Cell) {
    path_column("Age", "date", "Time since creation.", ".metadata.creationTimestamp")
}

fn path_column(name: &str, type_: &str, description: &str, path: &str) -> (Column, Cell) {
    let column = Column {
        name: name.to_owned(),
        type_: type_.to_owned(),
        description: description.to_owned(),
        priority: 0,
        json_path: path.to_owned(),
    };
    (column, Cell::Path(Path::parse(path).ok()))
}

/// A value by its column's type.
fn shown(type_: &str, value: &Value, now: Timestamp) -> Value {
    match (type_, value) {
        (_, Value::Null) => Value::Null,
        ("integer", Value::Number(n)) => match (n.as_i64(), n.as_f64()) {
            // A cast saturates, which is what a column of integers should show for a huge float.
            (None, Some(f)) => Value::from(f as i64),
            _ => value.clone(),
        },
        ("number", Value::Number(_)) | ("boolean", Value::Bool(_)) => value.clone(),
        ("date", Value::String(text)) => Value::from(age_of(text, now).unwrap_or_else(|| "<invalid>".to_owned())),
        ("integer" | "number" | "boolean" | "date", _) => Value::Null,
        (_, value) => Value::from(text_of(value).into_owned()),
    }
}

/// The age of an RFC 3339 time.
fn age_of(text: &str, now: Timestamp) -> Option<String> {
    let then: Timestamp = text.parse().ok()?;
    Some(age(now.duration_since(then).as_secs()))
}

#[cfg(test)]
mod tests;
