//! One field of a form: a line of text, a secret, or a choice.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use crate::tui::input::Input;

/// One of several values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// The value.
    pub value: String,
    /// How it is shown; printable.
    pub label: String,
}

impl Choice {
    /// A choice that is shown as it is.
    pub fn plain(value: impl Into<String>) -> Self {
        let value = value.into();
        Self { label: crate::types::text::printable(&value).into_owned(), value }
    }

    /// A choice with a label of its own.
    pub fn labelled(value: impl Into<String>, label: impl AsRef<str>) -> Self {
        Self { value: value.into(), label: crate::types::text::printable(label.as_ref()).into_owned() }
    }
}

/// How a field is filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Control {
    /// Typed.
    Text(Input),
    /// Typed, shown as dots.
    Secret(Input),
    /// One of a list; left and right or letters choose.
    Choice {
        /// The list.
        choices: Vec<Choice>,
        /// Which one.
        at: usize,
        /// Letters typed so far to find one.
        typed: String,
    },
}

/// One field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// Name inside the program.
    pub name: &'static str,
    /// Name for people.
    pub label: &'static str,
    /// A sentence on what belongs here.
    pub help: &'static str,
    /// Its contents.
    pub control: Control,
}

impl Field {
    /// A line of text.
    pub fn text(name: &'static str, label: &'static str, help: &'static str, value: impl Into<String>) -> Self {
        Self { name, label, help, control: Control::Text(Input::new(value)) }
    }

    /// A line that is not shown.
    pub fn secret(name: &'static str, label: &'static str, help: &'static str) -> Self {
        Self { name, label, help, control: Control::Secret(Input::default()) }
    }

    /// A choice; `value` is chosen if it is there, else the first.
    pub fn choice(
        name: &'static str,
        label: &'static str,
        help: &'static str,
        choices: Vec<Choice>,
        value: &str,
    ) -> Self {
        let at = choices.iter().position(|c| c.value == value).unwrap_or(0);
        Self { name, label, help, control: Control::Choice { choices, at, typed: String::new() } }
    }

    /// The contents; empty for a choice without any.
    pub fn value(&self) -> &str {
        match &self.control {
            Control::Text(input) | Control::Secret(input) => input.text(),
            Control::Choice { choices, at, .. } => choices.get(*at).map_or("", |c| c.value.as_str()),
        }
    }

    /// Handles an editing key; tells whether the contents may have changed.
    pub fn key(&mut self, key: KeyEvent) -> bool {
        match &mut self.control {
            Control::Text(input) | Control::Secret(input) => input.key(key),
            Control::Choice { choices, at, typed } => choose(choices, at, typed, key),
        }
    }

    /// Pasted text.
    pub fn paste(&mut self, text: &str) -> bool {
        match &mut self.control {
            Control::Text(input) | Control::Secret(input) => {
                input.insert(text.trim_end_matches(['\n', '\r']));
                true
            }
            Control::Choice { .. } => false,
        }
    }
}

fn choose(choices: &[Choice], at: &mut usize, typed: &mut String, key: KeyEvent) -> bool {
    let count = choices.len();
    if count == 0 {
        return false;
    }
    match key.code {
        KeyCode::Left => *at = at.checked_sub(1).unwrap_or(count - 1),
        KeyCode::Right | KeyCode::Char(' ') => *at = (*at + 1) % count,
        KeyCode::Home => *at = 0,
        KeyCode::End => *at = count - 1,
        KeyCode::Backspace => {
            typed.clear();
            return false;
        }
        KeyCode::Char(c) if !key.modifiers.intersects(KeyModifiers::CONTROL | KeyModifiers::ALT) => {
            let find = |text: &str| {
                let matches = |c: &Choice, begins: bool| {
                    let label = c.label.to_lowercase();
                    if begins { label.starts_with(text) } else { label.contains(text) }
                };
                choices.iter().position(|c| matches(c, true)).or_else(|| choices.iter().position(|c| matches(c, false)))
            };
            typed.extend(c.to_lowercase());
            if find(typed).is_none() {
                // No such label: the letter begins a new search.
                *typed = c.to_lowercase().collect();
            }
            if let Some(found) = find(typed) {
                *at = found;
            }
            return true;
        }
        _ => return false,
    }
    typed.clear();
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_are_stepped_through_and_found_by_letters() {
        let choices = ["alpine", "debian-11", "debian-12"].map(Choice::plain).to_vec();
        let mut field = Field::choice("image", "Image", "", choices, "debian-11");
        let mut press = |code| {
            field.key(KeyEvent::new(code, KeyModifiers::NONE));
            field.value().to_owned()
        };
        assert_eq!(press(KeyCode::Right), "debian-12");
        assert_eq!(press(KeyCode::Right), "alpine");
        assert_eq!(press(KeyCode::Left), "debian-12");
        assert_eq!(press(KeyCode::Char('D')), "debian-11");
        assert_eq!(press(KeyCode::Char('a')), "alpine", "no `da`: a new search");
        press(KeyCode::Backspace);
        assert_eq!(press(KeyCode::Char('1')), "debian-11", "also in the middle");
        assert_eq!(press(KeyCode::Char('2')), "debian-12");
    }
}
