//! One-line text input with the keys of a shell.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::buffer::Buffer;
use ratatui::layout::{Position, Rect};
use ratatui::style::Style;
use unicode_segmentation::UnicodeSegmentation;
use unicode_width::UnicodeWidthStr;

/// Text and cursor. Control characters never get in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Input {
    text: String,
    /// Byte offset, always at a grapheme boundary.
    cursor: usize,
}

impl Input {
    /// An input that starts with `text`, cursor behind it.
    pub fn new(text: impl Into<String>) -> Self {
        let text = text.into();
        Self { cursor: text.len(), text }
    }

    /// What was typed.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether nothing was typed.
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// Whether the cursor stands behind the last character.
    pub fn at_end(&self) -> bool {
        self.cursor == self.text.len()
    }

    /// Replaces the text; the cursor goes behind it.
    pub fn set(&mut self, text: impl Into<String>) {
        *self = Self::new(text);
    }

    /// Inserts at the cursor; line breaks become spaces, other control characters are dropped.
    pub fn insert(&mut self, text: &str) {
        let clean: String =
            text.chars().map(|c| if c == '\n' || c == '\t' { ' ' } else { c }).filter(|c| !c.is_control()).collect();
        self.text.insert_str(self.cursor, &clean);
        self.cursor += clean.len();
    }

    /// Handles an editing key; `false` means it is not one (Enter, Esc, Tab, arrows up and down, function keys).
    pub fn key(&mut self, key: KeyEvent) -> bool {
        let ctrl = key.modifiers.contains(KeyModifiers::CONTROL);
        let alt = key.modifiers.contains(KeyModifiers::ALT);
        match key.code {
            KeyCode::Char('a') if ctrl => self.cursor = 0,
            KeyCode::Char('e') if ctrl => self.cursor = self.text.len(),
            KeyCode::Char('b') if ctrl => self.cursor = self.before(),
            KeyCode::Char('f') if ctrl => self.cursor = self.after(),
            KeyCode::Char('h') if ctrl => self.remove_to(self.before()),
            KeyCode::Char('d') if ctrl => self.remove_to(self.after()),
            KeyCode::Char('u') if ctrl => self.remove_to(0),
            KeyCode::Char('k') if ctrl => self.remove_to(self.text.len()),
            KeyCode::Char('w') if ctrl => self.remove_to(self.word_before()),
            KeyCode::Char('b') if alt => self.cursor = self.word_before(),
            KeyCode::Char('f') if alt => self.cursor = self.word_after(),
            KeyCode::Char('d') if alt => self.remove_to(self.word_after()),
            KeyCode::Char(c) if !ctrl && !alt => self.insert(c.encode_utf8(&mut [0; 4])),
            KeyCode::Backspace if alt || ctrl => self.remove_to(self.word_before()),
            KeyCode::Backspace => self.remove_to(self.before()),
            KeyCode::Delete => self.remove_to(self.after()),
            KeyCode::Left if ctrl || alt => self.cursor = self.word_before(),
            KeyCode::Right if ctrl || alt => self.cursor = self.word_after(),
            KeyCode::Left => self.cursor = self.before(),
            KeyCode::Right => self.cursor = self.after(),
            KeyCode::Home => self.cursor = 0,
            KeyCode::End => self.cursor = self.text.len(),
            _ => return false,
        }
        true
    }

    fn before(&self) -> usize {
        self.text[..self.cursor].grapheme_indices(true).next_back().map_or(0, |(i, _)| i)
    }

    fn after(&self) -> usize {
        self.text[self.cursor..].graphemes(true).next().map_or(self.cursor, |g| self.cursor + g.len())
    }

    fn word_before(&self) -> usize {
        let head = &self.text[..self.cursor];
        let trimmed = head.trim_end_matches(|c: char| !c.is_alphanumeric());
        trimmed.char_indices().rev().find(|(_, c)| !c.is_alphanumeric()).map_or(0, |(i, c)| i + c.len_utf8())
    }

    fn word_after(&self) -> usize {
        let tail = &self.text[self.cursor..];
        let start = tail.find(char::is_alphanumeric).unwrap_or(tail.len());
        let end = tail[start..].find(|c: char| !c.is_alphanumeric()).map_or(tail.len(), |i| start + i);
        self.cursor + end
    }

    fn remove_to(&mut self, other: usize) {
        let (from, to) = (self.cursor.min(other), self.cursor.max(other));
        self.text.replace_range(from..to, "");
        self.cursor = from;
    }

    /// Draws the text in one line, scrolled so that the cursor is inside, and tells where the cursor is.
    pub fn view(&self, area: Rect, buffer: &mut Buffer, style: Style) -> Position {
        let room = usize::from(area.width).saturating_sub(1);
        let mut start = 0;
        while self.text[start..self.cursor].width() > room {
            start += self.text[start..].graphemes(true).next().map_or(1, str::len);
        }
        let column = self.text[start..self.cursor].width();
        buffer.set_stringn(area.x, area.y, &self.text[start..], usize::from(area.width), style);
        Position::new(area.x + u16::try_from(column).unwrap_or(0), area.y)
    }
}

/// What was entered before, newest last, without repetitions.
#[derive(Debug, Clone, Default)]
pub struct History {
    entries: Vec<String>,
    /// Position while going back; `None` = at the fresh line.
    at: Option<usize>,
    /// The fresh line, kept while going back.
    fresh: String,
}

impl History {
    const KEEP: usize = 100;

    /// From saved lines, oldest first.
    pub fn new(entries: Vec<String>) -> Self {
        Self { entries, ..Self::default() }
    }

    /// Adds a line and goes back to the fresh line.
    pub fn push(&mut self, line: &str) {
        self.at = None;
        if line.trim().is_empty() {
            return;
        }
        self.entries.retain(|e| e != line);
        self.entries.push(line.to_owned());
        let surplus = self.entries.len().saturating_sub(Self::KEEP);
        self.entries.drain(..surplus);
    }

    /// The line before; `current` is kept as the fresh line.
    pub fn back(&mut self, current: &str) -> Option<&str> {
        let at = match self.at {
            None => {
                self.fresh = current.to_owned();
                self.entries.len().checked_sub(1)?
            }
            Some(at) => at.saturating_sub(1),
        };
        self.at = Some(at);
        self.entries.get(at).map(String::as_str)
    }

    /// The line after, at last the fresh one.
    pub fn forward(&mut self) -> Option<&str> {
        let at = self.at? + 1;
        if at >= self.entries.len() {
            self.at = None;
            return Some(&self.fresh);
        }
        self.at = Some(at);
        self.entries.get(at).map(String::as_str)
    }

    /// All lines, oldest first.
    pub fn entries(&self) -> &[String] {
        &self.entries
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn press(input: &mut Input, code: KeyCode, modifiers: KeyModifiers) -> bool {
        input.key(KeyEvent::new(code, modifiers))
    }

    #[test]
    fn editing_keys() {
        let mut input = Input::new("one two");
        press(&mut input, KeyCode::Char('w'), KeyModifiers::CONTROL);
        assert_eq!(input.text(), "one ");
        press(&mut input, KeyCode::Home, KeyModifiers::NONE);
        press(&mut input, KeyCode::Char('é'), KeyModifiers::NONE);
        assert_eq!(input.text(), "éone ");
        press(&mut input, KeyCode::Backspace, KeyModifiers::NONE);
        assert_eq!(input.text(), "one ");
        assert!(!press(&mut input, KeyCode::Enter, KeyModifiers::NONE));
        input.insert("a\nb\u{1b}[31m");
        assert_eq!(input.text(), "a b[31mone ");
    }

    #[test]
    fn history_goes_back_and_returns_to_the_fresh_line() {
        let mut history = History::default();
        history.push("vm");
        history.push("vmop");
        history.push("vm");
        assert_eq!(history.entries(), ["vmop", "vm"]);
        assert_eq!(history.back("fre"), Some("vm"));
        assert_eq!(history.back(""), Some("vmop"));
        assert_eq!(history.forward(), Some("vm"));
        assert_eq!(history.forward(), Some("fre"));
    }
}
