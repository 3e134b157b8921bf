//! The console pane: several serial consoles as tabs, each a full terminal.
//!
//! The keyboard is in one of two places. *In the guest*: every key but the leave chord goes to the guest. *In the
//! pane*: keys scroll, search, select, switch tabs or leave. The leave chord moves the keyboard from the guest to
//! the pane and, pressed again, leaves the pane; the border always says which is which.
//!
//! No I/O: what must happen outside comes out as [`Request`]s, what happened outside comes in through methods.

mod keys;
mod paint;
mod session;
#[cfg(test)]
mod tests;

use crossterm::event::{KeyEvent, MouseEvent};
use parking_lot::Mutex;
use ratatui::layout::Rect;

use crate::term::{Chord, Frame, MouseReports, Output, ReplayFrom, Size};
use crate::tui::input::Input;

pub use paint::{PANE_KEYS, PaneKey};
pub use session::{Link, Session};

/// Which console: namespace and name of a machine.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Target {
    /// Namespace.
    pub namespace: String,
    /// Name of the VirtualMachine.
    pub name: String,
}

/// What the pane asks of its surroundings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Connect to a console. Answer with [`ConsolePane::attached`] or [`ConsolePane::lost`].
    Connect {
        /// Which.
        target: Target,
        /// How many bytes of history to ask for; 0 = none.
        history: usize,
        /// 0 for the first try; later ones should wait, longer each time.
        attempt: u32,
    },
    /// Send bytes to a guest.
    Send {
        /// Which.
        target: Target,
        /// What.
        bytes: Vec<u8>,
    },
    /// End a connection; its tab is gone.
    Disconnect(Target),
    /// Put text on the user's clipboard.
    Copy(String),
    /// Show another view; consoles stay connected.
    Leave,
    /// Show the help for this view ([`PANE_KEYS`]).
    Help,
    /// Tell the user something of passing interest.
    Notice(String),
}

/// How the bytes right after attaching are to be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum History {
    /// None comes: what follows is live.
    None,
    /// Exactly so many bytes of history come first.
    Bytes(u64),
    /// Some may come; live begins when [`ConsolePane::settled`] says so, or when the user types.
    Unknown,
}

/// Bytes of history asked for on attach: some thousand lines of a boot log.
pub const HISTORY_BYTES: usize = 256 * 1024;

/// Where the keyboard is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Keyboard {
    /// In the guest.
    Guest,
    /// In the pane.
    Pane,
    /// In the pane's search line.
    Search(Input),
}

/// The pane.
pub struct ConsolePane {
    sessions: Vec<Session>,
    active: usize,
    keyboard: Keyboard,
    leave: Chord,
    scrollback: usize,
    /// The whole pane as last laid out, and the part that shows the guest's screen.
    area: Rect,
    screen: Rect,
    /// Memory of the last drawn frame, used again for the next.
    frame: Mutex<Frame>,
}

impl ConsolePane {
    /// A pane without consoles. `scrollback` is in lines per console.
    pub fn new(leave: Chord, scrollback: usize) -> Self {
        Self {
            sessions: Vec::new(),
            active: 0,
            keyboard: Keyboard::Guest,
            leave,
            scrollback,
            area: Rect::ZERO,
            screen: Rect::ZERO,
            frame: Mutex::default(),
        }
    }

    /// Opens a console, or shows the tab that has it already. The keyboard goes to the guest.
    pub fn open(&mut self, target: Target) -> Vec<Request> {
        self.keyboard = Keyboard::Guest;
        if let Some(at) = self.sessions.iter().position(|s| s.target == target) {
            self.show(at);
            return Vec::new();
        }
        self.sessions.push(Session::new(target.clone(), self.screen_size(), self.scrollback));
        self.show(self.sessions.len() - 1);
        vec![Request::Connect { target, history: HISTORY_BYTES, attempt: 0 }]
    }

    /// Whether there is a console to show.
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// The consoles, in tab order.
    pub fn sessions(&self) -> &[Session] {
        &self.sessions
    }

    /// The console in view.
    pub fn active(&self) -> Option<&Session> {
        self.sessions.get(self.active)
    }

    /// Whether keys go to the guest: then the embedding view must not act on any key itself.
    pub fn in_guest(&self) -> bool {
        self.keyboard == Keyboard::Guest && !self.sessions.is_empty()
    }

    /// Tells the pane where it is drawn; call on every layout change, before drawing.
    pub fn resize(&mut self, area: Rect) {
        self.area = area;
        self.screen = paint::screen_area(area);
        let size = self.screen_size();
        for session in &mut self.sessions {
            session.emulator.resize(size);
        }
    }

    fn screen_size(&self) -> Size {
        if self.screen.is_empty() {
            return Size { columns: 80, rows: 24 };
        }
        Size::clamped(self.screen.width, self.screen.height)
    }

    /// The connection stands.
    pub fn attached(&mut self, target: &Target, history: History) {
        let (size, scrollback) = (self.screen_size(), self.scrollback);
        if let Some(session) = self.session(target) {
            session.attached(history, size, scrollback);
        }
    }

    /// History is over (see [`History::Unknown`]): from here on the guest's questions are answered.
    pub fn settled(&mut self, target: &Target) {
        if let Some(session) = self.session(target) {
            session.settled();
        }
    }

    /// Output of a guest.
    pub fn output(&mut self, target: &Target, bytes: &[u8]) -> Vec<Request> {
        let Some(at) = self.sessions.iter().position(|s| s.target == *target) else {
            return Vec::new();
        };
        let shown = at == self.active;
        let Output { replies, bell, .. } = self.sessions[at].output(bytes, shown);
        let mut requests = Vec::new();
        if !replies.is_empty() {
            requests.push(Request::Send { target: target.clone(), bytes: replies });
        }
        if bell && !shown {
            requests.push(Request::Notice(format!("{}: bell", target.name)));
        }
        requests
    }

    /// The connection broke or could not be made; the screen stays, and the pane asks to try again.
    pub fn lost(&mut self, target: &Target, why: &str) -> Vec<Request> {
        let Some(session) = self.session(target) else {
            return Vec::new();
        };
        let attempt = session.lost(why);
        vec![Request::Connect { target: target.clone(), history: HISTORY_BYTES, attempt }]
    }

    /// The connection ended for good (machine deleted, session taken over by somebody else): no new try by itself.
    pub fn ended(&mut self, target: &Target, why: &str) {
        if let Some(session) = self.session(target) {
            session.ended(why);
        }
    }

    /// The phase of a machine, whenever it is seen. Where a guest ended or started anew, modes of what ran before
    /// are dropped and a line marks the place.
    pub fn guest_phase(&mut self, target: &Target, phase: &str) {
        if let Some(session) = self.session(target) {
            session.guest_phase(phase);
        }
    }

    /// Whether the guest in view asked for mouse events.
    pub fn wants_mouse(&self) -> bool {
        self.keyboard == Keyboard::Guest
            && self.active().is_some_and(|s| s.is_live() && s.emulator.modes().mouse != MouseReports::Off)
    }

    /// Who else is attached, as a short text; `None` if nobody or not known.
    pub fn set_viewers(&mut self, target: &Target, viewers: Option<String>) {
        if let Some(session) = self.session(target) {
            session.viewers = viewers;
        }
    }

    /// Pasted text: to the guest, bracketed if it asked for that, or into the search line.
    pub fn paste(&mut self, text: &str) -> Vec<Request> {
        match &mut self.keyboard {
            Keyboard::Guest => self.paste_to_guest(text),
            Keyboard::Search(input) => {
                input.insert(text);
                Vec::new()
            }
            Keyboard::Pane => vec![Request::Notice("press Enter to type into the guest, then paste".into())],
        }
    }

    /// A key.
    pub fn key(&mut self, key: KeyEvent) -> Vec<Request> {
        self.handle_key(key)
    }

    /// A mouse event in screen coordinates.
    pub fn mouse(&mut self, event: MouseEvent) -> Vec<Request> {
        self.handle_mouse(event)
    }

    /// The terminal that shows us gained or lost the keyboard.
    pub fn focus(&mut self, gained: bool) -> Vec<Request> {
        let Some(session) = self.sessions.get(self.active) else {
            return Vec::new();
        };
        match crate::term::keys::focus(gained, session.emulator.modes()) {
            Some(bytes) => self.send(bytes.to_vec()),
            None => Vec::new(),
        }
    }

    fn session(&mut self, target: &Target) -> Option<&mut Session> {
        self.sessions.iter_mut().find(|s| s.target == *target)
    }

    fn show(&mut self, at: usize) {
        self.active = at;
        if let Some(session) = self.sessions.get_mut(at) {
            session.unseen = false;
        }
    }
}

/// Where a session's bytes belong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Intake {
    /// So many bytes of history are still to come, from the given place.
    Replay(u64, ReplayFrom),
    /// History of unknown length.
    Unsettled(ReplayFrom),
    /// Live.
    Live,
}
