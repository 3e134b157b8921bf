//! Keys, mouse and pastes of the console pane.

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers, MouseButton, MouseEvent, MouseEventKind};

use super::{ConsolePane, Keyboard, Link, Request, Session};
use crate::term::{SearchDirection, SearchOutcome, SelectionKind, ViewPoint, keys};
use crate::tui::input::Input;

/// Lines that one notch of the wheel scrolls.
const WHEEL_LINES: i32 = 3;

impl ConsolePane {
    pub(super) fn handle_key(&mut self, key: KeyEvent) -> Vec<Request> {
        if key.kind == KeyEventKind::Release {
            return Vec::new();
        }
        if self.sessions.is_empty() {
            return vec![Request::Leave];
        }
        match &self.keyboard {
            Keyboard::Guest => self.guest_key(key),
            Keyboard::Pane => self.pane_key(key),
            Keyboard::Search(_) => self.search_key(key),
        }
    }

    fn guest_key(&mut self, key: KeyEvent) -> Vec<Request> {
        if self.leave.matches(&key) {
            self.keyboard = Keyboard::Pane;
            return Vec::new();
        }
        let shift = key.modifiers == KeyModifiers::SHIFT;
        if shift && matches!(key.code, KeyCode::PageUp | KeyCode::PageDown) {
            self.keyboard = Keyboard::Pane;
            return self.pane_key(key);
        }
        let Some(session) = self.sessions.get_mut(self.active) else {
            return Vec::new();
        };
        match keys::encode(&key, session.emulator.modes()) {
            Some(bytes) => {
                // Typing ends the replay of history of unknown length: the user sees the prompt.
                session.settled();
                session.follow();
                self.send(bytes)
            }
            None => Vec::new(),
        }
    }

    pub(super) fn paste_to_guest(&mut self, text: &str) -> Vec<Request> {
        let Some(session) = self.sessions.get_mut(self.active) else {
            return Vec::new();
        };
        session.settled();
        session.follow();
        let bytes = keys::paste(text, session.emulator.modes());
        self.send(bytes)
    }

    pub(super) fn send(&mut self, bytes: Vec<u8>) -> Vec<Request> {
        let Some(session) = self.sessions.get(self.active) else {
            return Vec::new();
        };
        if session.read_only {
            return vec![Request::Notice(format!("read-only: press {} and r to type again", self.leave))];
        }
        if !session.is_live() {
            return vec![Request::Notice(format!("{} is not connected: nothing was sent", session.target.name))];
        }
        vec![Request::Send { target: session.target.clone(), bytes }]
    }

    fn pane_key(&mut self, key: KeyEvent) -> Vec<Request> {
        if self.leave.matches(&key) {
            return self.leave_pane();
        }
        let ctrl = key.modifiers.contains(KeyModifiers::CONTROL);
        let rows = i32::from(self.screen_size().rows);
        let last = self.sessions.len() - 1;
        let Some(session) = self.sessions.get_mut(self.active) else {
            return Vec::new();
        };
        match key.code {
            KeyCode::Esc if session.selecting || session.view_cursor.is_some() => {
                session.selecting = false;
                session.view_cursor = None;
                session.emulator.clear_selection();
            }
            KeyCode::Esc | KeyCode::Char('q') => return self.leave_pane(),
            KeyCode::Enter if session.selecting => return self.copy(),
            KeyCode::Enter | KeyCode::Char('i') => {
                session.follow();
                self.keyboard = Keyboard::Guest;
            }
            KeyCode::Tab | KeyCode::Char(']') => self.show(if self.active == last { 0 } else { self.active + 1 }),
            KeyCode::BackTab | KeyCode::Char('[') => self.show(self.active.checked_sub(1).unwrap_or(last)),
            KeyCode::Char(c @ '1'..='9') => {
                let at = c as usize - '1' as usize;
                if at <= last {
                    self.show(at);
                }
            }
            KeyCode::PageUp => session.emulator.scroll(rows - 1),
            KeyCode::PageDown => session.emulator.scroll(1 - rows),
            KeyCode::Char('b') if ctrl => session.emulator.scroll(rows - 1),
            KeyCode::Char('f') if ctrl => session.emulator.scroll(1 - rows),
            KeyCode::Char('u') if ctrl => session.emulator.scroll(rows / 2),
            KeyCode::Char('d') if ctrl => session.emulator.scroll(-rows / 2),
            _ if ctrl => {}
            KeyCode::Home | KeyCode::Char('g') => session.emulator.scroll_to_top(),
            KeyCode::End | KeyCode::Char('G') => session.emulator.scroll_to_bottom(),
            KeyCode::Up | KeyCode::Char('k') => move_view(session, 1, 0),
            KeyCode::Down | KeyCode::Char('j') => move_view(session, -1, 0),
            KeyCode::Left | KeyCode::Char('h') => move_view(session, 0, -1),
            KeyCode::Right | KeyCode::Char('l') => move_view(session, 0, 1),
            KeyCode::Char('v') => start_selecting(session, SelectionKind::Characters),
            KeyCode::Char('V') => start_selecting(session, SelectionKind::Lines),
            KeyCode::Char('y') => return self.copy(),
            KeyCode::Char('Y') => {
                let text = session.emulator.whole_text();
                return copied(text, "everything held");
            }
            KeyCode::Char('/') => self.keyboard = Keyboard::Search(Input::default()),
            KeyCode::Char('n') => return search_outcome(session.emulator.search_again(SearchDirection::Older)),
            KeyCode::Char('N') => return search_outcome(session.emulator.search_again(SearchDirection::Newer)),
            KeyCode::Char('r') => session.read_only = !session.read_only,
            KeyCode::Char('s') => return self.send_size(),
            KeyCode::Char('p') => {
                session.follow();
                self.keyboard = Keyboard::Guest;
                let chord = self.leave.bytes().to_vec();
                return self.send(chord);
            }
            KeyCode::Char('c') => return self.connect_again(),
            KeyCode::Char('x') => return self.close(),
            KeyCode::Char('?') => return vec![Request::Help],
            _ => {}
        }
        Vec::new()
    }

    fn leave_pane(&mut self) -> Vec<Request> {
        if let Some(session) = self.sessions.get_mut(self.active) {
            session.follow();
        }
        self.keyboard = Keyboard::Guest;
        vec![Request::Leave]
    }

    fn search_key(&mut self, key: KeyEvent) -> Vec<Request> {
        let Keyboard::Search(input) = &mut self.keyboard else {
            return Vec::new();
        };
        match key.code {
            KeyCode::Esc => self.keyboard = Keyboard::Pane,
            KeyCode::Enter => {
                let text = input.text().to_owned();
                self.keyboard = Keyboard::Pane;
                let Some(session) = self.sessions.get_mut(self.active) else {
                    return Vec::new();
                };
                return match session.emulator.search(&text, SearchDirection::Older) {
                    Ok(_) if text.is_empty() => Vec::new(),
                    Ok(outcome) => search_outcome(outcome),
                    Err(error) => vec![Request::Notice(error.to_string())],
                };
            }
            _ => {
                input.key(key);
            }
        }
        Vec::new()
    }

    /// The selection, or the screen if nothing is selected.
    fn copy(&mut self) -> Vec<Request> {
        let Some(session) = self.sessions.get_mut(self.active) else {
            return Vec::new();
        };
        let request = match session.emulator.selected_text() {
            Some(text) => copied(text, "the selection"),
            None => copied(session.emulator.visible_text(), "the screen"),
        };
        session.emulator.clear_selection();
        session.selecting = false;
        session.view_cursor = None;
        request
    }

    /// Types `stty rows R cols C` into the guest's shell: a serial line carries no size.
    fn send_size(&mut self) -> Vec<Request> {
        let size = self.screen_size();
        if self.active().is_some_and(|s| s.target.line != super::Line::Serial) {
            return vec![Request::Notice("SSH tells the guest the size by itself".into())];
        }
        if let Some(session) = self.sessions.get_mut(self.active) {
            if session.emulator.modes().alternate_screen {
                let text = "a full-screen program runs in the guest: leave it first, then send the size to its shell";
                return vec![Request::Notice(text.into())];
            }
            session.follow();
        }
        self.keyboard = Keyboard::Guest;
        self.send(format!("stty rows {} cols {}\r", size.rows, size.columns).into_bytes())
    }

    fn connect_again(&mut self) -> Vec<Request> {
        let Some(session) = self.sessions.get_mut(self.active) else {
            return Vec::new();
        };
        if session.is_live() {
            return Vec::new();
        }
        session.link = Link::Connecting;
        vec![Request::Connect {
            target: session.target.clone(),
            history: super::HISTORY_BYTES,
            attempt: 0,
            force: true,
        }]
    }

    fn close(&mut self) -> Vec<Request> {
        self.remove(self.active)
    }

    /// Takes a tab away; the one in view stays in view where it can.
    pub(super) fn remove(&mut self, at: usize) -> Vec<Request> {
        let closed = self.sessions.remove(at);
        let mut requests = vec![Request::Disconnect(closed.target)];
        if self.sessions.is_empty() {
            self.keyboard = Keyboard::Guest;
            self.active = 0;
            requests.push(Request::Leave);
        } else {
            let active = if at < self.active { self.active - 1 } else { self.active };
            self.show(active.min(self.sessions.len() - 1));
        }
        requests
    }

    pub(super) fn handle_mouse(&mut self, event: MouseEvent) -> Vec<Request> {
        if let Some(at) = super::paint::tab_at(self, event.column, event.row) {
            if matches!(event.kind, MouseEventKind::Down(MouseButton::Left)) {
                self.show(at);
            }
            return Vec::new();
        }
        let screen = self.screen;
        let Some(session) = self.sessions.get_mut(self.active) else {
            return Vec::new();
        };
        let inside = screen.contains((event.column, event.row).into());
        // A drag may leave the pane: it ends at the border.
        let column = event.column.clamp(screen.x, screen.right().saturating_sub(1).max(screen.x)) - screen.x;
        let row = event.row.clamp(screen.y, screen.bottom().saturating_sub(1).max(screen.y)) - screen.y;
        let at = ViewPoint { row, column };
        let for_user = event.modifiers.contains(KeyModifiers::SHIFT) || self.keyboard != Keyboard::Guest;
        if inside && !for_user {
            let local = MouseEvent { column, row, ..event };
            if let Some(bytes) = keys::mouse(&local, session.emulator.modes()) {
                return self.send(bytes);
            }
        }
        match event.kind {
            MouseEventKind::ScrollUp if inside => session.emulator.scroll(WHEEL_LINES),
            MouseEventKind::ScrollDown if inside => session.emulator.scroll(-WHEEL_LINES),
            MouseEventKind::Down(MouseButton::Left) if inside => {
                session.emulator.clear_selection();
                session.selecting = false;
                session.view_cursor = Some((row, column)).filter(|_| self.keyboard != Keyboard::Guest);
                session.press = Some(at);
            }
            MouseEventKind::Drag(MouseButton::Left) => {
                if let Some(start) = session.press.take() {
                    session.emulator.select(start, SelectionKind::Characters);
                    session.selecting = true;
                }
                if session.selecting {
                    session.emulator.select_to(at);
                }
            }
            MouseEventKind::Up(MouseButton::Left) => {
                session.press = None;
                if session.selecting {
                    session.selecting = false;
                    if let Some(text) = session.emulator.selected_text() {
                        return copied(text, "the selection");
                    }
                }
            }
            _ => {}
        }
        Vec::new()
    }
}

fn copied(text: String, what: &str) -> Vec<Request> {
    if text.is_empty() {
        return vec![Request::Notice("there is nothing to copy".into())];
    }
    let notice = format!("copied {what}: {} characters", text.chars().count());
    vec![Request::Copy(text), Request::Notice(notice)]
}

fn search_outcome(outcome: SearchOutcome) -> Vec<Request> {
    match outcome {
        SearchOutcome::Found => Vec::new(),
        SearchOutcome::Wrapped => vec![Request::Notice("the search went on from the other end".into())],
        SearchOutcome::Nothing => vec![Request::Notice("not found".into())],
    }
}

fn start_selecting(session: &mut Session, kind: SelectionKind) {
    let (row, column) = cursor_place(session);
    session.view_cursor = Some((row, column));
    session.selecting = true;
    session.emulator.select(ViewPoint { row, column }, kind);
}

/// The pane's cursor; it starts where the guest's is, or in the last line of a view that is scrolled back.
fn cursor_place(session: &Session) -> (u16, u16) {
    session.view_cursor.unwrap_or_else(|| {
        let last = session.emulator.size().rows - 1;
        session.emulator.cursor().map_or((last, 0), |c| (c.row, c.column))
    })
}

/// Moves the pane's cursor; at the edge, or without a cursor, moves the view. `up` counts lines toward older ones.
fn move_view(session: &mut Session, up: i32, right: i32) {
    let size = session.emulator.size();
    let Some((row, column)) = session.view_cursor else {
        session.emulator.scroll(up);
        return;
    };
    let wanted = i32::from(row) - up;
    if wanted < 0 || wanted >= i32::from(size.rows) {
        session.emulator.scroll(up);
    }
    let row = wanted.clamp(0, i32::from(size.rows) - 1) as u16;
    let column = (i32::from(column) + right).clamp(0, i32::from(size.columns) - 1) as u16;
    session.view_cursor = Some((row, column));
    if session.selecting {
        session.emulator.select_to(ViewPoint { row, column });
    }
}
