//! The review before saving, and the view of what waits for a restart: the same rows.
//!
//! An edit is saved only from here. The review stays open while saving runs and shows a refusal on the rows it is
//! about.

mod paint;
mod table;
#[cfg(test)]
mod tests;

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use serde_json::Value;

use crate::tui::theme::Cost;
use crate::types::kinds::{self, KindInfo};
use crate::types::rules;
use crate::types::text::printable;

pub use table::{Edit, Row, edit_rows, waiting_rows};

/// What the review asks of its surroundings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Send the patch.
    Save,
    /// Back to the text.
    Edit,
    /// Restart the machine so that waiting changes take effect.
    RestartNow,
    /// Close the waiting-changes view.
    Close,
    /// Put text on the user's clipboard: the patch as YAML.
    Copy(String),
}

/// What is being looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Purpose {
    /// An edit that may be saved.
    Save {
        /// The patch, as YAML, for copying.
        patch: String,
        /// Saving restarts the guest.
        restarts: bool,
    },
    /// What waits for a restart.
    Waiting,
}

/// The review.
#[derive(Debug, Clone)]
pub struct Review {
    title: String,
    rows: Vec<Row>,
    /// What the rows cost if they are not refused.
    costs: Vec<Cost>,
    purpose: Purpose,
    cursor: usize,
    saving: bool,
    /// What the server said about fields that have no row, or about the whole.
    general: Vec<String>,
    /// What is allowed but probably not meant.
    warnings: Vec<String>,
    /// Errors by row.
    errors: Vec<Option<String>>,
}

impl Review {
    /// A review of an edit.
    pub fn of_edit(edit: Edit<'_>) -> Self {
        let rows = edit_rows(edit);
        let purpose = Purpose::Save {
            patch: crate::tui::editor::yaml::render(edit.patch),
            restarts: table::restarts_by_itself(edit.desired, &rows),
        };
        let mut review = Self::new(format!("Review {}", object_name(edit.declared)), rows, purpose);
        if let Some(kind) = kind_of(edit.declared) {
            // The rules the standalone host applies; a cluster's may differ, so this is a forecast and bars nothing.
            let errors = rules::validate(kind, Some(edit.declared), edit.desired);
            review.refused(errors.into_iter().map(|error| (error.path, error.message)));
            review.warnings = rules::warnings(kind, Some(edit.declared), edit.desired);
        }
        review
    }

    /// The waiting changes of a machine.
    pub fn of_waiting(machine: &Value) -> Self {
        Self::new(format!("Waiting for a restart: {}", object_name(machine)), waiting_rows(machine), Purpose::Waiting)
    }

    fn new(title: String, rows: Vec<Row>, purpose: Purpose) -> Self {
        let errors = vec![None; rows.len()];
        let costs = rows.iter().map(|r| r.cost).collect();
        Self {
            title,
            rows,
            costs,
            purpose,
            cursor: 0,
            saving: false,
            general: Vec::new(),
            warnings: Vec::new(),
            errors,
        }
    }

    /// The rows.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// How many of the edited rows wait for a restart.
    pub fn restart_count(&self) -> usize {
        self.rows.iter().filter(|r| r.edited && r.cost == Cost::Restart).count()
    }

    /// The patch is on its way.
    pub fn saving(&mut self) {
        self.saving = true;
        self.forget_errors();
    }

    fn forget_errors(&mut self) {
        self.general.clear();
        self.errors.fill(None);
        for (row, cost) in self.rows.iter_mut().zip(&self.costs) {
            row.cost = *cost;
        }
    }

    /// The server refused the save: field paths (may be empty) with messages.
    pub fn refused(&mut self, errors: impl IntoIterator<Item = (String, String)>) {
        self.saving = false;
        self.forget_errors();
        for (path, message) in errors {
            let message = printable(&message).into_owned();
            let field = path.strip_prefix("spec.").unwrap_or(&path).replace('[', ".").replace(']', "");
            let row = self.rows.iter().position(|r| {
                let name = r.path.replace('[', ".").replace(']', "");
                !field.is_empty() && (name == field || under(&name, &field) || under(&field, &name))
            });
            match row {
                Some(row) => {
                    self.rows[row].cost = Cost::Refused;
                    let slot = &mut self.errors[row];
                    *slot = Some(slot.take().map_or(message.clone(), |before| format!("{before}; {message}")));
                }
                None if path.is_empty() => self.general.push(message),
                None => self.general.push(format!("{}: {message}", printable(&path))),
            }
        }
        if let Some(row) = self.errors.iter().position(Option::is_some) {
            self.cursor = row;
        }
    }

    /// A key.
    pub fn key(&mut self, key: KeyEvent) -> Vec<Request> {
        if key.kind == KeyEventKind::Release {
            return Vec::new();
        }
        let ctrl = key.modifiers.intersects(KeyModifiers::CONTROL | KeyModifiers::ALT);
        let last = self.rows.len().saturating_sub(1);
        match (&self.purpose, key.code) {
            (_, KeyCode::Char(_)) if ctrl => {}
            (_, KeyCode::Up | KeyCode::Char('k')) => self.cursor = self.cursor.saturating_sub(1),
            (_, KeyCode::Down | KeyCode::Char('j')) => self.cursor = (self.cursor + 1).min(last),
            (_, KeyCode::Home | KeyCode::Char('g')) => self.cursor = 0,
            (_, KeyCode::End | KeyCode::Char('G')) => self.cursor = last,
            (_, KeyCode::PageUp) => self.cursor = self.cursor.saturating_sub(10),
            (_, KeyCode::PageDown) => self.cursor = (self.cursor + 10).min(last),
            // What is on its way cannot be edited under the server's hands; the answer comes soon.
            (Purpose::Save { .. }, _) if self.saving => {}
            (Purpose::Save { .. }, KeyCode::Char('y') | KeyCode::Enter) if self.rows.iter().any(|r| r.edited) => {
                return vec![Request::Save];
            }
            (Purpose::Save { .. }, KeyCode::Char('e' | 'q') | KeyCode::Esc) => return vec![Request::Edit],
            (Purpose::Save { patch, .. }, KeyCode::Char('c')) => return vec![Request::Copy(patch.clone())],
            (Purpose::Waiting, KeyCode::Char('r')) if !self.rows.is_empty() => return vec![Request::RestartNow],
            (Purpose::Waiting, KeyCode::Esc | KeyCode::Char('q')) => return vec![Request::Close],
            _ => {}
        }
        Vec::new()
    }
}

fn kind_of(object: &Value) -> Option<&'static KindInfo> {
    let text = |key: &str| object.get(key).and_then(Value::as_str).unwrap_or_default();
    kinds::by_kind(text("apiVersion"), text("kind"))
}

fn under(outer: &str, inner: &str) -> bool {
    inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with('.'))
}

fn object_name(object: &Value) -> String {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let namespace = text("/metadata/namespace");
    let slash = if namespace.is_empty() { "" } else { "/" };
    printable(&format!("{} {namespace}{slash}{}", text("/kind"), text("/metadata/name"))).into_owned()
}
