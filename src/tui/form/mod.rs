//! Forms that make manifests: create a machine, attach a disk.
//!
//! A form knows fields, focus and drawing; what its fields mean is a [`Sheet`]: which are shown, what is wrong with
//! them, and which manifests come out. The manifests shown are the ones that will be applied.
//!
//! No I/O, no clock, no randomness: salts and the choices to offer are given to the constructors.

mod copy;
mod crypt;
mod disk;
mod field;
mod machine;
mod paint;
#[cfg(test)]
mod tests;

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use serde_json::Value;

use crate::types::text::printable;

pub use copy::{CloneContext, RestoreContext, clone_machine, restore_machine};
pub use disk::{AttachContext, attach_disk};
pub use field::{Choice, Control, Field};
pub use machine::{CreateContext, DiskChoice, ImageChoice, create_machine};

/// What a form asks of its surroundings.
#[derive(Debug, Clone, PartialEq)]
pub enum Request {
    /// Apply these manifests in this order. The form stays open until [`Form::refused`] or until it is dropped.
    Apply(Vec<Value>),
    /// Close it; there is nothing to lose, or the user said so.
    Close,
    /// Put text on the user's clipboard.
    Copy(String),
    /// Tell the user something of passing interest.
    Notice(String),
}

/// Something wrong with a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Which field.
    pub field: &'static str,
    /// What is wrong and what to do.
    pub message: String,
    /// It stands in the way of applying; otherwise it is advice.
    pub blocks: bool,
}

/// Contents of a form by field name.
#[derive(Clone, Copy)]
pub struct Values<'a>(&'a [Field]);

impl<'a> Values<'a> {
    /// What a field says; empty for a field that does not exist.
    pub fn get(&self, name: &str) -> &'a str {
        self.0.iter().find(|f| f.name == name).map_or("", Field::value)
    }
}

/// What the fields of a form mean.
pub trait Sheet: Send + Sync {
    /// Whether a field is shown (and counts) with these contents.
    fn shows(&self, field: &str, values: Values<'_>) -> bool;

    /// What is wrong.
    fn problems(&self, values: Values<'_>) -> Vec<Problem>;

    /// The manifests, in the order in which they must be applied. With `preview`, parts that are costly to make
    /// (password hashes) may stand as placeholders of the same length.
    fn manifests(&self, values: Values<'_>, preview: bool) -> Vec<Value>;

    /// The field that makes the API field at `path`.
    fn field_of(&self, path: &str) -> Option<&'static str>;

    /// A line of facts under the form (sizes against limits).
    fn summary(&self, values: Values<'_>) -> String;
}

/// An open form.
pub struct Form {
    title: String,
    /// What applying does, in one word.
    verb: &'static str,
    fields: Vec<Field>,
    focus: usize,
    sheet: Box<dyn Sheet>,
    /// Fields the user has been in: their problems are shown; those of others wait.
    visited: Vec<&'static str>,
    problems: Vec<Problem>,
    /// What the server said, by field or in general.
    refused: Vec<(Option<&'static str>, String)>,
    preview: bool,
    applying: bool,
    leaving: bool,
    touched: bool,
}

impl Form {
    fn new(title: impl Into<String>, verb: &'static str, fields: Vec<Field>, sheet: Box<dyn Sheet>) -> Self {
        let mut form = Self {
            title: title.into(),
            verb,
            fields,
            focus: 0,
            sheet,
            visited: Vec::new(),
            problems: Vec::new(),
            refused: Vec::new(),
            preview: false,
            applying: false,
            leaving: false,
            touched: false,
        };
        form.check();
        form
    }

    /// Contents by field name.
    pub fn values(&self) -> Values<'_> {
        Values(&self.fields)
    }

    /// The manifests as YAML documents, as they will be applied but for hashes of passwords not typed to the end.
    pub fn manifest_text(&self) -> String {
        let documents: Vec<String> =
            self.sheet.manifests(self.values(), true).iter().map(crate::tui::editor::yaml::render).collect();
        documents.join("---\n")
    }

    /// What stands in the way, field by field, shown or not.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// The server refused a manifest: field paths (may be empty) with messages.
    pub fn refused(&mut self, errors: impl IntoIterator<Item = (String, String)>) {
        self.applying = false;
        self.refused = errors
            .into_iter()
            .map(|(path, message)| {
                let field = Some(path.as_str()).filter(|p| !p.is_empty()).and_then(|p| self.sheet.field_of(p));
                let message = printable(&message).into_owned();
                let text = if field.is_some() || path.is_empty() {
                    message
                } else {
                    format!("{}: {message}", printable(&path))
                };
                (field, text)
            })
            .collect();
        if let Some(field) = self.refused.iter().find_map(|(field, _)| *field)
            && let Some(at) = self.fields.iter().position(|f| f.name == field)
        {
            self.focus = at;
        }
    }

    /// Pasted text goes into the field.
    pub fn paste(&mut self, text: &str) -> Vec<Request> {
        if !self.applying && !self.leaving && self.fields[self.focus].paste(text) {
            self.changed();
        }
        Vec::new()
    }

    /// A key.
    pub fn key(&mut self, key: KeyEvent) -> Vec<Request> {
        if key.kind == KeyEventKind::Release || self.applying {
            return Vec::new();
        }
        if self.leaving {
            self.leaving = false;
            return if key.code == KeyCode::Char('y') { vec![Request::Close] } else { Vec::new() };
        }
        let ctrl = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Esc if self.preview => self.preview = false,
            KeyCode::Esc if !self.touched => return vec![Request::Close],
            KeyCode::Esc => self.leaving = true,
            KeyCode::Char('s') if ctrl => return self.apply(),
            KeyCode::Char('p') if ctrl => self.preview = !self.preview,
            KeyCode::Char('y') if ctrl => return vec![Request::Copy(self.copyable())],
            KeyCode::Up | KeyCode::BackTab => self.step(false),
            KeyCode::Down | KeyCode::Tab => self.step(true),
            KeyCode::Enter if self.is_last() => return self.apply(),
            KeyCode::Enter => self.step(true),
            _ => {
                if self.fields[self.focus].key(key) {
                    self.changed();
                }
            }
        }
        Vec::new()
    }

    /// The manifests with everything in place: what one would keep in a file.
    fn copyable(&self) -> String {
        let documents: Vec<String> =
            self.sheet.manifests(self.values(), false).iter().map(crate::tui::editor::yaml::render).collect();
        documents.join("---\n")
    }

    fn apply(&mut self) -> Vec<Request> {
        self.visited = self.fields.iter().map(|f| f.name).collect();
        if let Some(problem) = self.problems.iter().find(|p| p.blocks) {
            let message = problem.message.clone();
            if let Some(at) = self.fields.iter().position(|f| f.name == problem.field) {
                self.focus = at;
            }
            self.preview = false;
            return vec![Request::Notice(message)];
        }
        self.applying = true;
        self.refused.clear();
        vec![Request::Apply(self.sheet.manifests(self.values(), false))]
    }

    fn shown(&self, at: usize) -> bool {
        self.sheet.shows(self.fields[at].name, self.values())
    }

    fn is_last(&self) -> bool {
        !(self.focus + 1..self.fields.len()).any(|at| self.shown(at))
    }

    fn step(&mut self, forward: bool) {
        let name = self.fields[self.focus].name;
        if !self.visited.contains(&name) {
            self.visited.push(name);
        }
        let next = if forward {
            (self.focus + 1..self.fields.len()).find(|at| self.shown(*at))
        } else {
            (0..self.focus).rev().find(|at| self.shown(*at))
        };
        if let Some(next) = next {
            self.focus = next;
        }
    }

    fn changed(&mut self) {
        self.touched = true;
        let name = self.fields[self.focus].name;
        self.refused.retain(|(field, _)| field.is_some_and(|f| f != name));
        self.check();
    }

    fn check(&mut self) {
        let values = Values(&self.fields);
        self.problems = self.sheet.problems(values).into_iter().filter(|p| self.sheet.shows(p.field, values)).collect();
    }

    /// What to say about a field now: the server's word first, then ours once the user has been there.
    fn remark(&self, field: &Field) -> Option<(&str, bool)> {
        if let Some((_, text)) = self.refused.iter().find(|(name, _)| *name == Some(field.name)) {
            return Some((text, true));
        }
        let focused = self.fields[self.focus].name == field.name;
        let problem = self.problems.iter().find(|p| p.field == field.name)?;
        // While a field is being typed into for the first time, a half-finished value is no mistake yet.
        let show = self.visited.contains(&field.name) || (focused && !field.value().is_empty());
        show.then_some((problem.message.as_str(), problem.blocks))
    }
}
