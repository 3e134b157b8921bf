//! A key goes to whatever is in front: a box, a console, a text being edited; only then to the keymap.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::super::message::Effect;
use super::super::state::{Front, State};
use super::{actions, consoles, edits, overlays};

/// Largest number that can be typed before a motion.
const MAX_COUNT: usize = 1_000_000;

/// A key was pressed.
pub fn key(state: &mut State, key: KeyEvent) -> Vec<Effect> {
    if !state.overlays.is_empty() {
        return overlays::key(state, key);
    }
    if state.front == Front::Consoles {
        let requests = state.consoles.key(key);
        return consoles::answer(state, requests);
    }
    if let Some(effects) = edits::key(state, key) {
        return effects;
    }
    if let KeyCode::Char(c @ '0'..='9') = key.code
        && key.modifiers == KeyModifiers::NONE
        && (c != '0' || state.count.is_some())
    {
        let digit = usize::from(c as u8 - b'0');
        state.count = Some((state.count.unwrap_or(0) * 10 + digit).min(MAX_COUNT));
        return Vec::new();
    }
    let Some(action) = state.keymap.action(key) else {
        state.count = None;
        return Vec::new();
    };
    if action == super::super::action::Action::Quit {
        return actions::quit_twice(state);
    }
    let effects = actions::act(state, action);
    state.count = None;
    effects
}

/// Text was pasted: into a box or a console; the views take no text.
pub fn paste(state: &mut State, text: &str) -> Vec<Effect> {
    if !state.overlays.is_empty() {
        overlays::paste(state, text);
        return Vec::new();
    }
    if state.front == Front::Consoles {
        let requests = state.consoles.paste(text);
        return consoles::answer(state, requests);
    }
    if let Some(effects) = edits::paste(state, text) {
        return effects;
    }
    state.hint("pasted text was ignored: no field has the keyboard");
    Vec::new()
}
