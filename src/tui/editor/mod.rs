//! The YAML editor: an object's text, checked on every key, saved only through the review.
//!
//! The text is the user's: comments, order and layout stay as typed, and nothing that happens outside (a refused
//! save, a conflict, a lost connection) replaces it. What is sent is the difference between what the text means and
//! what it was made from ([`Draft::patch`]).
//!
//! No I/O: [`Request`]s say what the editor wants from its surroundings.

mod draft;
pub(super) mod highlight;
mod paint;
pub mod patch;
#[cfg(test)]
mod tests;
pub mod yaml;

use std::sync::atomic::{AtomicUsize, Ordering};

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui_textarea::{CursorMove, TextArea};
use serde_json::Value;

use crate::tui::input::Input;
use crate::types::schema::Schema;
use crate::types::{kinds, rules};

pub use draft::{Draft, DraftError, list_paths};

/// What the editor asks of its surroundings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Close it; there is nothing to lose, or the user said so.
    Close,
    /// Show what the edit changes; saving is possible only from there.
    Review,
    /// Edit the text in the user's own editor, then give it back with [`Editor::replace_text`].
    External(String),
    /// Put text on the user's clipboard.
    Copy(String),
    /// Tell the user something of passing interest.
    Notice(String),
}

/// Something wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remark {
    /// Line from 1, if it can be told.
    pub line: Option<usize>,
    /// What is wrong, one line.
    pub message: String,
    /// It stands in the way of saving; otherwise it is a warning.
    pub blocks: bool,
}

/// What has the keyboard.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Mode {
    Text,
    Search(Input),
    /// "Discard your changes?"
    Leaving,
}

/// The editor of one object.
pub struct Editor {
    area: TextArea<'static>,
    draft: Draft,
    original: String,
    /// What the text means, if it can be read.
    edited: Option<Value>,
    remarks: Vec<Remark>,
    /// Remarks of the server on the last try to save; gone with the next change of the text.
    refused: Vec<Remark>,
    mode: Mode,
    pattern: Option<String>,
    /// First line and column shown. Drawing adjusts them to the cursor.
    top: AtomicUsize,
    left: AtomicUsize,
    /// Lines shown at the last drawing: what PgUp and PgDn move by.
    page: AtomicUsize,
}

impl Editor {
    /// Opens an object as it was read from the server.
    pub fn open(object: Value) -> Self {
        let draft = Draft::new(object);
        let original = draft.text();
        let mut editor = Self {
            area: text_area(&original),
            draft,
            original,
            edited: None,
            remarks: Vec::new(),
            refused: Vec::new(),
            mode: Mode::Text,
            pattern: None,
            top: AtomicUsize::new(0),
            left: AtomicUsize::new(0),
            page: AtomicUsize::new(20),
        };
        // What one comes for is seldom in the metadata.
        if let Some(line) = yaml::line_of(&editor.original, "spec") {
            editor.go_to(line - 1, 0);
        }
        editor.check();
        editor
    }

    /// The text as it stands.
    pub fn text(&self) -> String {
        let mut text = self.area.lines().join("\n");
        if !text.ends_with('\n') {
            text.push('\n');
        }
        text
    }

    /// Puts in another text as one step that can be undone: the result of the user's own editor.
    pub fn replace_text(&mut self, text: &str) {
        let clean = clean(text);
        if clean.trim_end_matches('\n') == self.area.lines().join("\n").trim_end_matches('\n') {
            return;
        }
        let ratatui_textarea::DataCursor(row, _) = self.area.cursor();
        self.area.select_all();
        self.area.insert_str(clean.trim_end_matches('\n'));
        self.go_to(row, 0);
        self.changed();
    }

    /// What is being edited.
    pub fn draft(&self) -> &Draft {
        &self.draft
    }

    /// Whether the text differs from what was opened.
    pub fn is_dirty(&self) -> bool {
        self.text() != self.original
    }

    /// What the text means; `None` while it cannot be read or stands for another object.
    pub fn edited(&self) -> Option<&Value> {
        self.edited.as_ref().filter(|_| !self.remarks.iter().any(|r| r.blocks))
    }

    /// The patch to send; `None` as for [`Editor::edited`].
    pub fn patch(&self) -> Option<Value> {
        self.edited().map(|edited| self.draft.patch(edited))
    }

    /// All that is wrong, with what the server said last.
    pub fn remarks(&self) -> impl Iterator<Item = &Remark> {
        self.refused.iter().chain(&self.remarks)
    }

    /// The server refused the edit: field paths (may be empty) with messages. They show at their lines.
    pub fn refused(&mut self, errors: impl IntoIterator<Item = (String, String)>) {
        let text = self.text();
        self.refused = errors
            .into_iter()
            .map(|(path, message)| {
                let message = if path.is_empty() { message } else { format!("{path}: {message}") };
                Remark { line: yaml::line_of(&text, &path), message: printable(&message), blocks: false }
            })
            .collect();
        self.mode = Mode::Text;
        if let Some(line) = self.refused.iter().find_map(|r| r.line) {
            self.go_to(line - 1, 0);
        }
    }

    /// Somebody else changed the object (a conflict at saving, or news from a watch): the text stays, its changes
    /// are laid over the newer object. Gives the places that both sides changed.
    pub fn rebase(&mut self, newer: Value) -> Vec<patch::Path> {
        self.draft.rebase(newer);
        self.conflicts()
    }

    /// Places that both the user and somebody else changed.
    pub fn conflicts(&self) -> Vec<patch::Path> {
        self.edited.as_ref().map(|edited| self.draft.conflicts(edited)).unwrap_or_default()
    }

    /// Pasted text: line ends as ours, no control characters.
    pub fn paste(&mut self, text: &str) -> Vec<Request> {
        match &mut self.mode {
            Mode::Text => {
                self.area.insert_str(clean(text));
                self.changed();
            }
            Mode::Search(input) => input.insert(text),
            Mode::Leaving => {}
        }
        Vec::new()
    }

    /// A key.
    pub fn key(&mut self, key: KeyEvent) -> Vec<Request> {
        if key.kind == KeyEventKind::Release {
            return Vec::new();
        }
        match self.mode {
            Mode::Text => self.text_key(key),
            Mode::Search(_) => self.search_key(key),
            Mode::Leaving => self.leaving_key(key),
        }
    }

    fn text_key(&mut self, key: KeyEvent) -> Vec<Request> {
        let ctrl = key.modifiers.contains(KeyModifiers::CONTROL);
        let alt = key.modifiers.contains(KeyModifiers::ALT);
        match key.code {
            KeyCode::Esc if self.area.is_selecting() => self.area.cancel_selection(),
            KeyCode::Esc if self.pattern.is_some() => self.end_search(),
            KeyCode::Esc => return self.close(),
            KeyCode::Char('s') if ctrl => return self.review(),
            KeyCode::Char('o') if ctrl => return vec![Request::External(self.text())],
            KeyCode::Char('f') if ctrl => self.mode = Mode::Search(Input::default()),
            KeyCode::F(3) if key.modifiers.contains(KeyModifiers::SHIFT) => return self.search_again(false),
            KeyCode::Char('g') if ctrl => return self.search_again(true),
            KeyCode::F(3) => return self.search_again(true),
            KeyCode::Char('l') if ctrl => self.go_to_remark(),
            KeyCode::Char('z') if ctrl => {
                self.area.undo();
                self.changed();
            }
            KeyCode::Char('r') if ctrl => {
                self.area.redo();
                self.changed();
            }
            KeyCode::Char('z') if alt => {
                self.area.redo();
                self.changed();
            }
            KeyCode::Char('c') if ctrl && self.area.is_selecting() => {
                self.area.copy();
                return vec![Request::Copy(self.area.yank_text())];
            }
            KeyCode::Char('x') if ctrl && self.area.is_selecting() => {
                self.area.cut();
                self.changed();
                return vec![Request::Copy(self.area.yank_text())];
            }
            KeyCode::Char('c' | 'x') if ctrl => {}
            KeyCode::PageUp | KeyCode::PageDown => {
                let page = self.page.load(Ordering::Relaxed).saturating_sub(1).max(1);
                let ratatui_textarea::DataCursor(row, column) = self.area.cursor();
                let row = if key.code == KeyCode::PageUp { row.saturating_sub(page) } else { row + page };
                self.go_to(row, column);
            }
            KeyCode::Home if ctrl => self.area.move_cursor(CursorMove::Top),
            KeyCode::End if ctrl => self.area.move_cursor(CursorMove::Bottom),
            KeyCode::Home => self.home(),
            KeyCode::Enter => self.new_line(),
            KeyCode::Tab => {
                self.area.insert_tab();
                self.changed();
            }
            KeyCode::BackTab => self.outdent(),
            _ => {
                if self.area.input(key) {
                    self.changed();
                }
            }
        }
        Vec::new()
    }

    fn close(&mut self) -> Vec<Request> {
        if !self.is_dirty() {
            return vec![Request::Close];
        }
        self.mode = Mode::Leaving;
        Vec::new()
    }

    fn leaving_key(&mut self, key: KeyEvent) -> Vec<Request> {
        match key.code {
            KeyCode::Char('y') => vec![Request::Close],
            KeyCode::Char('s') if key.modifiers.contains(KeyModifiers::CONTROL) => {
                self.mode = Mode::Text;
                self.review()
            }
            // Anything else is not a yes.
            _ => {
                self.mode = Mode::Text;
                Vec::new()
            }
        }
    }

    fn review(&mut self) -> Vec<Request> {
        if let Some(remark) = self.remarks.iter().find(|r| r.blocks) {
            let message = remark.message.clone();
            self.go_to_remark();
            return vec![Request::Notice(format!("the text has a mistake: {message}"))];
        }
        match self.patch() {
            Some(patch) if patch::touched(&patch).is_empty() => {
                vec![Request::Notice("nothing is changed".into())]
            }
            _ => vec![Request::Review],
        }
    }

    /// Moves to the next line with a remark.
    fn go_to_remark(&mut self) {
        let ratatui_textarea::DataCursor(row, _) = self.area.cursor();
        let mut lines: Vec<usize> = self.remarks().filter_map(|r| r.line).collect();
        lines.sort_unstable();
        if let Some(line) = lines.iter().find(|line| **line > row + 1).or_else(|| lines.first()) {
            let line = *line;
            self.go_to(line - 1, 0);
        }
    }

    fn go_to(&mut self, row: usize, column: usize) {
        let row = row.min(self.area.lines().len().saturating_sub(1));
        let short = |n: usize| u16::try_from(n).unwrap_or(u16::MAX);
        self.area.move_cursor(CursorMove::Jump(short(row), short(column)));
    }

    /// To the first character that is no space, then to the very beginning.
    fn home(&mut self) {
        let ratatui_textarea::DataCursor(row, column) = self.area.cursor();
        let indent = self.area.lines().get(row).map_or(0, |line| indentation(line).len());
        self.go_to(row, if column == indent { 0 } else { indent });
    }

    /// A new line begins where this one's text begins; deeper after a key without value.
    fn new_line(&mut self) {
        let ratatui_textarea::DataCursor(row, column) = self.area.cursor();
        let line = self.area.lines().get(row).cloned().unwrap_or_default();
        let before: String = line.chars().take(column).collect();
        let mut indent = indentation(&before).to_owned();
        if before.trim_end().ends_with(':') {
            indent.push_str("  ");
        }
        self.area.insert_newline();
        self.area.insert_str(indent);
        self.changed();
    }

    fn outdent(&mut self) {
        let ratatui_textarea::DataCursor(row, column) = self.area.cursor();
        let spaces = self.area.lines().get(row).map_or(0, |line| indentation(line).len()).min(2);
        if spaces > 0 {
            self.area.move_cursor(CursorMove::Head);
            self.area.delete_str(spaces);
            self.go_to(row, column.saturating_sub(spaces));
            self.changed();
        }
    }

    fn search_key(&mut self, key: KeyEvent) -> Vec<Request> {
        let Mode::Search(input) = &mut self.mode else {
            return Vec::new();
        };
        match key.code {
            KeyCode::Esc => {
                self.mode = Mode::Text;
                self.end_search();
            }
            KeyCode::Enter => {
                let text = input.text().to_owned();
                self.mode = Mode::Text;
                if text.is_empty() {
                    return self.search_again(true);
                }
                let sensitive = text.chars().any(char::is_uppercase);
                let pattern = format!("{}{}", if sensitive { "" } else { "(?i)" }, regex::escape(&text));
                if self.area.set_search_pattern(&pattern).is_ok() {
                    self.pattern = Some(pattern);
                }
                return self.search_again(true);
            }
            _ => {
                input.key(key);
            }
        }
        Vec::new()
    }

    fn search_again(&mut self, forward: bool) -> Vec<Request> {
        if self.pattern.is_none() {
            self.mode = Mode::Search(Input::default());
            return Vec::new();
        }
        let found = if forward { self.area.search_forward(false) } else { self.area.search_back(false) };
        if found { Vec::new() } else { vec![Request::Notice("not found".into())] }
    }

    fn end_search(&mut self) {
        self.pattern = None;
        // An empty pattern takes the search away and is always valid.
        let _ = self.area.set_search_pattern("");
    }

    fn changed(&mut self) {
        self.refused.clear();
        self.check();
    }

    /// Reads the text and notes what is wrong with it.
    fn check(&mut self) {
        let text = self.text();
        self.remarks.clear();
        self.edited = match yaml::parse(&text) {
            Ok(value) => Some(value),
            Err(error) => {
                self.remarks.push(Remark { line: Some(error.line), message: error.message, blocks: true });
                None
            }
        };
        let Some(edited) = &self.edited else {
            return;
        };
        if let Err(error) = self.draft.check(edited) {
            let line = match error {
                DraftError::Identity(field) => yaml::line_of(&text, field),
                DraftError::NoObject => Some(1),
            };
            self.remarks.push(Remark { line, message: error.to_string(), blocks: true });
            return;
        }
        let edited = patch::without_nulls(edited.clone());
        let desired = self.draft.desired(&edited);
        self.remarks.extend(remarks_of_kind(&text, &edited, self.draft.base(), &desired));
    }
}

/// What the kind's schema and rules say. Warnings only: the server decides, and may be newer than we are.
fn remarks_of_kind(text: &str, edited: &Value, base: &Value, desired: &Value) -> Vec<Remark> {
    let name = |key: &str| edited.get(key).and_then(Value::as_str).unwrap_or_default();
    let Some(kind) = kinds::by_kind(name("apiVersion"), name("kind")) else {
        return Vec::new();
    };
    let schema = Schema::of(kind);
    let mut remarks: Vec<Remark> = schema
        .validate(edited)
        .into_iter()
        .chain(rules::validate(kind, Some(base), desired))
        .map(|error| (error.path.clone(), error.to_string()))
        .chain(
            schema
                .prune(&mut edited.clone())
                .into_iter()
                .map(|path| (path.clone(), format!("{path}: this field is not known here; the server may refuse it"))),
        )
        .map(|(path, message)| Remark { line: yaml::line_of(text, &path), message: printable(&message), blocks: false })
        .collect();
    remarks.sort_by(|a, b| a.line.cmp(&b.line).then_with(|| a.message.cmp(&b.message)));
    remarks.dedup();
    remarks
}

fn text_area(text: &str) -> TextArea<'static> {
    let mut area = TextArea::from(clean(text).trim_end_matches('\n').split('\n').map(str::to_owned));
    area.set_tab_length(2);
    area.set_max_histories(1000);
    area
}

/// Line ends as `\n`, tabs as two spaces (YAML forbids them for indentation), other controls away.
fn clean(text: &str) -> String {
    text.replace("\r\n", "\n")
        .replace('\r', "\n")
        .replace('\t', "  ")
        .chars()
        .filter(|c| *c == '\n' || !c.is_control())
        .collect()
}

fn indentation(line: &str) -> &str {
    &line[..line.len() - line.trim_start_matches(' ').len()]
}

fn printable(text: &str) -> String {
    crate::types::text::printable(text).into_owned()
}
