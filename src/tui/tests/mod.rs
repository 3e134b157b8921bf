//! Whole screens from key scripts and recorded table events, through `update` and `view` only.
//!
//! Expected screens are `tests/fixtures/screens/NAME-COLUMNSxROWS.txt`; `VMDECK_BLESS=1` writes them anew.

mod cluster;
mod edits;
mod flows;
mod hostile;
mod kinds;
mod screens;
mod ways_in;

use std::path::PathBuf;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::keymap::Keymap;
use super::message::{Effect, Event, SessionInfo};
use super::state::{Config, Start, State};
use super::theme::{Depth, ThemeSource};
use super::update::{prepare, update};
use super::view::{Drawn, draw};
use crate::client::{Choice, Engine};
use crate::term::Chord;

/// 2026-11-25T12:00:00Z.
pub const NOON: i64 = 1_795_608_000_000;

/// A viewer without terminal and without engine.
pub struct Desk {
    pub state: State,
    /// Effects not looked at yet.
    pub effects: Vec<Effect>,
    pub now: i64,
}

impl Desk {
    /// Just started: connecting.
    pub fn start(columns: u16, rows: u16) -> Self {
        Self::with(columns, rows, ThemeSource { depth: Depth::True, ..ThemeSource::default() }, "dark")
    }

    pub fn with(columns: u16, rows: u16, themes: ThemeSource, theme: &str) -> Self {
        let (state, effects) = State::new(Start {
            theme: themes.load(theme).0,
            theme_names: themes.names(),
            keymap: Keymap::load(None).0,
            config: Config {
                console_leave: Chord::default(),
                scrollback: 1_000,
                config_dir: "~/.config/vmdeck".into(),
                choice: Choice::default(),
            },
            size: (columns, rows),
            now: NOON,
            commands: Vec::new(),
            filters: Vec::new(),
            logins: vec!["cloud".into()],
            warnings: Vec::new(),
        });
        Self { state, effects, now: NOON }
    }

    /// Connected to a standalone host, with the machines of [`cluster`].
    pub fn demo(columns: u16, rows: u16) -> Self {
        let mut desk = Self::start(columns, rows);
        desk.connect_local();
        desk.feed();
        desk.effects.clear();
        desk
    }

    pub fn connect_local(&mut self) {
        let info = SessionInfo {
            engine: Engine::Local { socket: "/run/vmdeck/api.sock".into() },
            reason: "no kubeconfig context".into(),
            default_namespace: "default".into(),
        };
        self.event(Event::Connected { generation: 1, result: Ok(info) });
    }

    pub fn event(&mut self, event: Event) {
        self.effects.extend(update(&mut self.state, event, self.now));
        let prepared = prepare(&mut self.state);
        self.effects.extend(prepared);
    }

    /// Answers every watch that was asked for with the objects of [`cluster`].
    pub fn feed(&mut self) {
        let watches: Vec<_> = self
            .effects
            .iter()
            .filter_map(|effect| match effect {
                Effect::Watch { feed, kind, namespace } => Some((*feed, *kind, namespace.clone())),
                _ => None,
            })
            .collect();
        self.effects.retain(|e| !matches!(e, Effect::Watch { .. }));
        for (feed, kind, namespace) in watches {
            let event = cluster::table(kind.0, namespace.as_deref());
            self.event(Event::Table { feed, event });
        }
    }

    /// Presses keys: words in `<>` are key names, everything else is typed. Watches are answered as they come.
    pub fn keys(&mut self, script: &str) -> &mut Self {
        let mut rest = script;
        while let Some(c) = rest.chars().next() {
            let key = match rest.strip_prefix('<').and_then(|r| r.split_once('>')) {
                Some((name, tail)) => {
                    rest = tail;
                    named(name)
                }
                None => {
                    rest = &rest[c.len_utf8()..];
                    KeyEvent::new(KeyCode::Char(c), KeyModifiers::NONE)
                }
            };
            self.event(Event::Key(key));
            self.feed();
        }
        self
    }

    pub fn draw(&self) -> (Buffer, Drawn) {
        let mut buffer = Buffer::empty(Rect::new(0, 0, self.state.size.0, self.state.size.1));
        let drawn = draw(&self.state, &mut buffer);
        (buffer, drawn)
    }

    pub fn screen(&self) -> String {
        text(&self.draw().0)
    }

    /// Compares the screen with the recorded one.
    pub fn shows(&self, name: &str) {
        let (columns, rows) = self.state.size;
        let screen = self.screen();
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .join(format!("tests/fixtures/screens/{name}-{columns}x{rows}.txt"));
        if std::env::var_os("VMDECK_BLESS").is_some() {
            std::fs::write(&path, &screen).unwrap();
            return;
        }
        let expected = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            expected == screen,
            "{name} at {columns}x{rows} differs from {}\n--- is\n{screen}\n--- should be\n{expected}",
            path.display()
        );
    }
}

/// The buffer's text, lines without spaces at their ends.
pub fn text(buffer: &Buffer) -> String {
    let mut out = String::new();
    for y in 0..buffer.area.height {
        let mut line = String::new();
        let mut skip = 0;
        for x in 0..buffer.area.width {
            if skip > 0 {
                skip -= 1;
                continue;
            }
            let symbol = buffer[(x, y)].symbol();
            skip = super::text::width(symbol).saturating_sub(1);
            line.push_str(symbol);
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

fn named(name: &str) -> KeyEvent {
    let (modifiers, rest) = match name.strip_prefix("ctrl-") {
        Some(rest) => (KeyModifiers::CONTROL, rest),
        None => (KeyModifiers::NONE, name),
    };
    let code = match rest {
        "enter" => KeyCode::Enter,
        "esc" => KeyCode::Esc,
        "tab" => KeyCode::Tab,
        "space" => KeyCode::Char(' '),
        "up" => KeyCode::Up,
        "down" => KeyCode::Down,
        "left" => KeyCode::Left,
        "right" => KeyCode::Right,
        "home" => KeyCode::Home,
        "end" => KeyCode::End,
        "pgdn" => KeyCode::PageDown,
        "backspace" => KeyCode::Backspace,
        "lt" => KeyCode::Char('<'),
        one => KeyCode::Char(one.chars().next().unwrap()),
    };
    KeyEvent::new(code, modifiers)
}
