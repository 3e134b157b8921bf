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

/// What a tab is connected to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Target {
    /// Namespace.
    pub namespace: String,
    /// Name of the VirtualMachine.
    pub name: String,
    /// Through what.
    pub line: Line,
}

/// The way into a guest.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Line {
    /// The serial console: there as long as the machine runs, so a broken connection is made again.
    Serial,
    /// A login by SSH: whoever ends it means it.
    Ssh {
        /// As whom.
        login: String,
    },
}

impl Target {
    /// A machine's serial console.
    pub fn serial(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.to_owned(), name: name.to_owned(), line: Line::Serial }
    }

    /// Label of its tab; not yet printable.
    pub fn label(&self) -> String {
        match &self.line {
            Line::Serial => format!("{}/{}", self.namespace, self.name),
            Line::Ssh { login } => format!("{login}@{}", self.name),
        }
    }
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
        /// Also if that ends somebody else's session.
        force: bool,
    },
    /// Send bytes to a guest.
    Send {
        /// Which.
        target: Target,
        /// What.
        bytes: Vec<u8>,
    },
    /// Tell an SSH session the size of its screen.
    Resize {
        /// Which.
        target: Target,
        /// Columns and rows.
        size: (u16, u16),
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
        vec![Request::Connect { target, history: HISTORY_BYTES, attempt: 0, force: false }]
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

    /// Tells the pane where it is drawn; call on every layout change, before drawing. A serial line carries no
    /// size, SSH does.
    pub fn resize(&mut self, area: Rect) -> Vec<Request> {
        let before = self.size();
        self.area = area;
        self.screen = paint::screen_area(area);
        let size = self.screen_size();
        for session in &mut self.sessions {
            session.emulator.resize(size);
        }
        let size = self.size();
        let by_ssh = |s: &&Session| size != before && s.is_live() && s.target.line != Line::Serial;
        self.sessions.iter().filter(by_ssh).map(|s| Request::Resize { target: s.target.clone(), size }).collect()
    }

    /// Columns and rows of a guest's screen.
    pub fn size(&self) -> (u16, u16) {
        let size = self.screen_size();
        (size.columns, size.rows)
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
        // A server may still take us for the holder of what just broke.
        let force = session.was_connected();
        vec![Request::Connect { target: target.clone(), history: HISTORY_BYTES, attempt, force }]
    }

    /// The connection ended for good (machine deleted, session taken over by somebody else): no new try by itself.
    pub fn ended(&mut self, target: &Target, why: &str) {
        if let Some(session) = self.session(target) {
            session.ended(why);
        }
    }

    /// The user ended it inside: the tab goes, and whoever looked at it is back where it was opened.
    pub fn closed(&mut self, target: &Target) -> Vec<Request> {
        let Some(at) = self.sessions.iter().position(|s| s.target == *target) else {
            return Vec::new();
        };
        let in_view = at == self.active;
        let mut requests = self.remove(at);
        if in_view {
            self.keyboard = Keyboard::Guest;
            requests.push(Request::Leave);
        }
        requests
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
