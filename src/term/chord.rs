//! A key combination written as text, such as `ctrl-]`, `alt-x` or `f12`.

use std::fmt;
use std::str::FromStr;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::keys::{self, Modes};

/// One key with modifiers.
///
/// Two spellings of the same byte are the same chord: a terminal cannot tell ctrl-] from ctrl-5, so a chord matches
/// a key when both would send the same bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chord {
    text: String,
    bytes: Vec<u8>,
}

/// A chord that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChordError {
    /// The text names no key.
    #[error("`{0}` is not a key; write for example `ctrl-]`, `alt-q` or `f12`")]
    Unknown(String),
    /// The key is ordinary text: it could never be typed into the guest again.
    #[error("`{0}` is a key that guests need; add ctrl or alt, or take a function key")]
    Plain(String),
}

impl Default for Chord {
    /// `ctrl-]`, as telnet, virsh and virtctl have it.
    fn default() -> Self {
        Self { text: "ctrl-]".into(), bytes: vec![0x1d] }
    }
}

impl Chord {
    /// Whether `key` is this chord.
    pub fn matches(&self, key: &KeyEvent) -> bool {
        keys::encode(key, Modes::default()).is_some_and(|bytes| bytes == self.bytes)
    }

    /// What the chord itself sends to a guest, for passing it on once.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl fmt::Display for Chord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Chord {
    type Err = ChordError;

    fn from_str(text: &str) -> Result<Self, ChordError> {
        let unknown = || ChordError::Unknown(text.to_string());
        let mut modifiers = KeyModifiers::NONE;
        let mut rest = text.trim();
        while let Some((head, tail)) = split_modifier(rest) {
            modifiers |= match head.to_ascii_lowercase().as_str() {
                "ctrl" | "c" | "control" => KeyModifiers::CONTROL,
                "alt" | "a" | "m" | "meta" => KeyModifiers::ALT,
                "shift" | "s" => KeyModifiers::SHIFT,
                _ => return Err(unknown()),
            };
            rest = tail;
        }
        let lower = rest.to_ascii_lowercase();
        let mut chars = rest.chars();
        let code = match (chars.next(), chars.next()) {
            (Some(c), None) => KeyCode::Char(c),
            _ => match lower.as_str() {
                "esc" | "escape" => KeyCode::Esc,
                "enter" | "return" => KeyCode::Enter,
                "tab" => KeyCode::Tab,
                "space" => KeyCode::Char(' '),
                "backspace" => KeyCode::Backspace,
                "home" => KeyCode::Home,
                "end" => KeyCode::End,
                "insert" => KeyCode::Insert,
                "delete" => KeyCode::Delete,
                "pageup" => KeyCode::PageUp,
                "pagedown" => KeyCode::PageDown,
                "up" => KeyCode::Up,
                "down" => KeyCode::Down,
                "left" => KeyCode::Left,
                "right" => KeyCode::Right,
                f if f.starts_with('f') => match f[1..].parse::<u8>() {
                    Ok(n @ 1..=20) => KeyCode::F(n),
                    _ => return Err(unknown()),
                },
                _ => return Err(unknown()),
            },
        };
        let key = KeyEvent::new(code, modifiers);
        let bytes = keys::encode(&key, Modes::default()).ok_or_else(unknown)?;
        let needed = matches!(code, KeyCode::Char(_)) && !bytes.first().is_some_and(|b| *b < 0x20 || *b == 0x7f);
        let plain = modifiers.is_empty() && !matches!(code, KeyCode::F(_));
        if needed || plain {
            return Err(ChordError::Plain(text.to_string()));
        }
        Ok(Self { text: text.trim().to_ascii_lowercase(), bytes })
    }
}

/// `ctrl-x` as `ctrl` and `x`; a dash or plus that is the key itself stays.
fn split_modifier(text: &str) -> Option<(&str, &str)> {
    text.split_once(['-', '+']).filter(|(head, tail)| !head.is_empty() && !tail.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chord(text: &str) -> Chord {
        text.parse().unwrap()
    }

    #[test]
    fn chords_match_by_what_they_send() {
        let key = |c, m| KeyEvent::new(KeyCode::Char(c), m);
        let leave = chord("ctrl-]");
        assert!(leave.matches(&key(']', KeyModifiers::CONTROL)));
        assert!(leave.matches(&key('5', KeyModifiers::CONTROL)), "how crossterm reports byte 0x1d");
        assert!(!leave.matches(&key(']', KeyModifiers::NONE)));
        assert_eq!(leave.bytes(), [0x1d]);
        assert_eq!(leave.to_string(), "ctrl-]");
        assert!(chord("Alt-x").matches(&key('x', KeyModifiers::ALT)));
        assert!(chord("ctrl+alt+q").matches(&key('q', KeyModifiers::CONTROL | KeyModifiers::ALT)));
        assert!(chord("f12").matches(&KeyEvent::new(KeyCode::F(12), KeyModifiers::NONE)));
        assert!(chord("shift-f1").matches(&KeyEvent::new(KeyCode::F(1), KeyModifiers::SHIFT)));
    }

    #[test]
    fn unusable_chords_are_refused_with_a_remedy() {
        for text in ["", "foo", "hyper-x", "f99", "ctrl-"] {
            assert!(text.parse::<Chord>().is_err(), "{text}");
        }
        for text in ["a", "esc", "enter", "shift-a", "up", "]", "ctrl--"] {
            assert_eq!(text.parse::<Chord>(), Err(ChordError::Plain(text.into())));
        }
    }
}
