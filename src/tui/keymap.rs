//! Keys to actions. One key means one action in every view; where the action makes no sense it does nothing.
//!
//! The shipped `assets/keymap.toml` is the base; the user's `keymap.toml` is laid over it action by action.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use toml::de::{DeTable, DeValue};

use super::action::Action;

const SHIPPED: &str = include_str!("../../assets/keymap.toml");

/// A key with its modifiers, in one normal form: shift is never set for characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Chord {
    code: KeyCode,
    modifiers: KeyModifiers,
}

impl Chord {
    /// The chord of a key press.
    pub fn of(key: KeyEvent) -> Self {
        let mut modifiers = key.modifiers & (KeyModifiers::CONTROL | KeyModifiers::ALT | KeyModifiers::SHIFT);
        let mut code = key.code;
        match code {
            KeyCode::Char(c) => {
                modifiers -= KeyModifiers::SHIFT;
                if modifiers.contains(KeyModifiers::CONTROL) {
                    code = KeyCode::Char(c.to_ascii_lowercase());
                }
            }
            KeyCode::BackTab => {
                code = KeyCode::Tab;
                modifiers |= KeyModifiers::SHIFT;
            }
            _ => {}
        }
        Self { code, modifiers }
    }

    /// Parses `ctrl-x`, `shift-tab`, `G`, `-`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut modifiers = KeyModifiers::NONE;
        let mut rest = text;
        loop {
            let (modifier, tail) = if let Some(tail) = rest.strip_prefix("ctrl-") {
                (KeyModifiers::CONTROL, tail)
            } else if let Some(tail) = rest.strip_prefix("alt-") {
                (KeyModifiers::ALT, tail)
            } else if let Some(tail) = rest.strip_prefix("shift-") {
                (KeyModifiers::SHIFT, tail)
            } else {
                break;
            };
            modifiers |= modifier;
            rest = tail;
        }
        let mut chars = rest.chars();
        let code = match (chars.next(), chars.next()) {
            (Some(c), None) => KeyCode::Char(c),
            (Some('f'), Some(_)) if rest[1..].parse::<u8>().is_ok() => KeyCode::F(rest[1..].parse().ok()?),
            _ => NAMES.iter().find(|(name, _)| *name == rest).map(|(_, code)| *code)?,
        };
        Some(Self::of(KeyEvent::new(code, modifiers)))
    }
}

const NAMES: &[(&str, KeyCode)] = &[
    ("enter", KeyCode::Enter),
    ("esc", KeyCode::Esc),
    ("tab", KeyCode::Tab),
    ("space", KeyCode::Char(' ')),
    ("backspace", KeyCode::Backspace),
    ("delete", KeyCode::Delete),
    ("insert", KeyCode::Insert),
    ("up", KeyCode::Up),
    ("down", KeyCode::Down),
    ("left", KeyCode::Left),
    ("right", KeyCode::Right),
    ("home", KeyCode::Home),
    ("end", KeyCode::End),
    ("pgup", KeyCode::PageUp),
    ("pgdn", KeyCode::PageDown),
];

impl fmt::Display for Chord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (modifier, name) in
            [(KeyModifiers::CONTROL, "ctrl-"), (KeyModifiers::ALT, "alt-"), (KeyModifiers::SHIFT, "shift-")]
        {
            if self.modifiers.contains(modifier) {
                f.write_str(name)?;
            }
        }
        if let Some((name, _)) = NAMES.iter().find(|(_, code)| *code == self.code) {
            return f.write_str(name);
        }
        match self.code {
            KeyCode::Char(c) => write!(f, "{c}"),
            KeyCode::F(n) => write!(f, "f{n}"),
            _ => f.write_str("?"),
        }
    }
}

/// Something in a keymap file that was not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("keymap {origin}:{line}: {problem}")]
pub struct KeymapWarning {
    /// The file.
    pub origin: String,
    /// Counted from 1.
    pub line: usize,
    /// What is wrong.
    pub problem: String,
}

/// The keys in force.
#[derive(Debug, Clone, Default)]
pub struct Keymap {
    by_key: HashMap<Chord, Action>,
    by_action: HashMap<Action, Vec<Chord>>,
}

impl Keymap {
    /// The shipped keys with the user's file over them, if there is one.
    pub fn load(user: Option<&Path>) -> (Self, Vec<KeymapWarning>) {
        let mut warnings = Vec::new();
        let mut keymap = Self::default();
        keymap.lay_over("assets/keymap.toml", SHIPPED, &mut warnings);
        if let Some(path) = user {
            let origin = path.display().to_string();
            match std::fs::read_to_string(path) {
                Ok(text) => keymap.lay_over(&origin, &text, &mut warnings),
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                Err(e) => warnings.push(KeymapWarning { origin, line: 1, problem: format!("cannot be read: {e}") }),
            }
        }
        (keymap, warnings)
    }

    /// The action of a key.
    pub fn action(&self, key: KeyEvent) -> Option<Action> {
        self.by_key.get(&Chord::of(key)).copied()
    }

    /// The keys of an action, in the order of the file.
    pub fn keys(&self, action: Action) -> &[Chord] {
        self.by_action.get(&action).map_or(&[], Vec::as_slice)
    }

    /// The first key of an action as text; empty if it has none.
    pub fn label(&self, action: Action) -> String {
        self.keys(action).first().map(ToString::to_string).unwrap_or_default()
    }

    fn lay_over(&mut self, origin: &str, text: &str, warnings: &mut Vec<KeymapWarning>) {
        let mut warn = |offset: usize, problem: String| {
            let line = text.as_bytes().iter().take(offset).filter(|b| **b == b'\n').count() + 1;
            warnings.push(KeymapWarning { origin: origin.to_owned(), line, problem });
        };
        let document = match DeTable::parse(text) {
            Ok(document) => document.into_inner(),
            Err(e) => return warn(e.span().map_or(0, |s| s.start), e.message().to_owned()),
        };
        // First the lists, then the clashes: a user may swap two keys.
        let mut bound: Vec<(Action, Vec<(Chord, usize)>)> = Vec::new();
        for (section, value) in document {
            let at = section.span().start;
            let (true, DeValue::Table(table)) = (section.get_ref() == "keys", value.into_inner()) else {
                warn(at, format!("unknown section {:?}; only [keys] is known", section.get_ref()));
                continue;
            };
            for (name, value) in table {
                let at = name.span().start;
                let Some(action) = Action::find(name.get_ref()) else {
                    warn(at, format!("unknown action {:?}", name.get_ref()));
                    continue;
                };
                let DeValue::Array(list) = value.into_inner() else {
                    warn(at, format!("{}: a list of keys is needed", action.name()));
                    continue;
                };
                let mut chords = Vec::new();
                for item in list.iter() {
                    match item.get_ref().as_str().and_then(Chord::parse) {
                        Some(chord) => chords.push((chord, item.span().start)),
                        None => warn(item.span().start, format!("{}: not a key", action.name())),
                    }
                }
                bound.push((action, chords));
            }
        }
        for (action, _) in &bound {
            for chord in self.by_action.remove(action).unwrap_or_default() {
                self.by_key.remove(&chord);
            }
        }
        for (action, chords) in bound {
            let mut kept = Vec::new();
            for (chord, at) in chords {
                if let Some(other) = self.by_key.insert(chord, action).filter(|other| *other != action) {
                    warn(at, format!("{chord} was {}; now it is {}", other.name(), action.name()));
                    if let Some(keys) = self.by_action.get_mut(&other) {
                        keys.retain(|c| *c != chord);
                    }
                }
                kept.push(chord);
            }
            self.by_action.insert(action, kept);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::action::ACTIONS;
    use super::*;

    #[test]
    fn the_shipped_keymap_has_no_clash_and_names_every_action() {
        let (keymap, warnings) = Keymap::load(None);
        assert_eq!(warnings, []);
        for row in ACTIONS {
            assert!(keymap.by_action.contains_key(&row.action), "{} is missing in keymap.toml", row.name);
        }
    }

    #[test]
    fn muscle_memory_destroys_nothing() {
        use super::super::action::Action::*;
        let (keymap, _) = Keymap::load(None);
        for key in ["ctrl-d", "ctrl-k", "ctrl-w", "ctrl-h"] {
            let chord = Chord::parse(key).unwrap();
            let action = keymap.by_key.get(&chord);
            assert!(
                !matches!(action, Some(Delete | Stop | ForceStop | Restart | ForceRestart | Detach | Close | Quit)),
                "{key} is {action:?}"
            );
        }
        let is = |key: &str, action| assert_eq!(keymap.by_key.get(&Chord::parse(key).unwrap()), Some(&action));
        is("enter", Open);
        is("esc", Back);
        is("/", Filter);
        is(":", Command);
        is("?", Help);
    }

    #[test]
    fn chords_read_and_print_the_same() {
        for text in ["G", "-", "ctrl-p", "alt-x", "shift-tab", "f12", "space", "pgdn", "ctrl-]"] {
            assert_eq!(Chord::parse(text).unwrap().to_string(), text);
        }
        let shifted = KeyEvent::new(KeyCode::Char('G'), KeyModifiers::SHIFT);
        assert_eq!(Chord::of(shifted), Chord::parse("G").unwrap());
        let backtab = KeyEvent::new(KeyCode::BackTab, KeyModifiers::SHIFT);
        assert_eq!(Chord::of(backtab), Chord::parse("shift-tab").unwrap());
        assert_eq!(Chord::parse("hyper-x"), None);
    }

    #[test]
    fn a_users_file_is_laid_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keymap.toml");
        std::fs::write(&path, "[keys]\nstart = [\"S\"]\nstop = [\"s\"]\njump = [\"J\"]\nyaml = [\"d\"]\n").unwrap();
        let (keymap, warnings) = Keymap::load(Some(&path));
        assert_eq!(keymap.label(Action::Start), "S");
        assert_eq!(keymap.label(Action::Stop), "s");
        assert_eq!(keymap.label(Action::Describe), "");
        let texts: Vec<_> = warnings.iter().map(ToString::to_string).collect();
        assert_eq!(texts.len(), 2, "{texts:?}");
        assert!(texts[0].ends_with("keymap.toml:4: unknown action \"jump\""), "{texts:?}");
        assert!(texts[1].ends_with("keymap.toml:5: d was describe; now it is yaml"), "{texts:?}");
    }
}
