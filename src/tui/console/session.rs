//! One console: emulator, connection state, what comes in.

use super::{History, Intake, Target};
use crate::term::{Emulator, Output, ReplayFrom, Size, ViewPoint};

/// State of a console's connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Link {
    /// First connection under way.
    Connecting,
    /// Connected.
    Live,
    /// Broken; a new try is under way.
    Lost {
        /// Why, one line.
        why: String,
        /// Tries since it broke.
        attempt: u32,
    },
    /// Over; no new try by itself.
    Ended {
        /// Why, one line.
        why: String,
    },
}

/// One console.
pub struct Session {
    /// Which machine.
    pub target: Target,
    /// Its connection.
    pub link: Link,
    /// Keys and pastes are not sent.
    pub read_only: bool,
    /// Who else is attached.
    pub viewers: Option<String>,
    /// Output arrived while another tab was in view.
    pub unseen: bool,
    pub(super) emulator: Emulator,
    pub(super) title: Option<String>,
    /// Phase of the machine as last seen; empty before that.
    phase: String,
    /// The pane's own cursor while the keyboard is in the pane: row and column of the view.
    pub(super) view_cursor: Option<(u16, u16)>,
    pub(super) selecting: bool,
    /// Where the mouse button went down, until it is clear that this is a drag.
    pub(super) press: Option<ViewPoint>,
    intake: Intake,
    /// A connection stood before: what is on the screen is older than what comes.
    had_connection: bool,
    /// Start with an empty screen as soon as history arrives, not before.
    fresh: Option<(Size, usize)>,
}

impl Session {
    pub(super) fn new(target: Target, size: Size, scrollback: usize) -> Self {
        Self {
            target,
            link: Link::Connecting,
            read_only: false,
            viewers: None,
            unseen: false,
            emulator: Emulator::new(size, scrollback),
            title: None,
            phase: String::new(),
            view_cursor: None,
            selecting: false,
            press: None,
            intake: Intake::Live,
            had_connection: false,
            fresh: None,
        }
    }

    /// Whether input can be sent.
    pub(super) fn is_live(&self) -> bool {
        self.link == Link::Live
    }

    /// Whether there has been a connection since the tab was opened.
    pub(super) fn was_connected(&self) -> bool {
        self.had_connection
    }

    pub(super) fn attached(&mut self, history: History, size: Size, scrollback: usize) {
        self.link = Link::Live;
        self.intake = match history {
            History::None | History::Bytes(0) => Intake::Live,
            // History shorter than what was asked for may still be cut: the guest's log rotates.
            History::Bytes(n) => Intake::Replay(n, ReplayFrom::MidStream),
            History::Unknown => Intake::Unsettled(ReplayFrom::MidStream),
        };
        self.fresh = None;
        if self.had_connection {
            match self.intake {
                // Nothing is known of the time in between: keep what is there and say so.
                Intake::Live => self.emulator.interrupt("connected again; output in between may be missing"),
                // History covers what is on the screen: it will be drawn anew.
                _ => self.fresh = Some((size, scrollback)),
            }
        }
        self.had_connection = true;
    }

    pub(super) fn settled(&mut self) {
        if let Intake::Unsettled(_) = self.intake {
            self.intake = Intake::Live;
            if self.fresh.take().is_some() {
                self.emulator.interrupt("connected again; output in between may be missing");
            }
        }
    }

    pub(super) fn lost(&mut self, why: &str) -> u32 {
        let attempt = match &self.link {
            Link::Lost { attempt, .. } => attempt + 1,
            // A first connection that fails has been tried once already.
            Link::Connecting => 1,
            Link::Live | Link::Ended { .. } => 0,
        };
        self.link = Link::Lost { why: one_line(why), attempt };
        attempt
    }

    pub(super) fn ended(&mut self, why: &str) {
        self.link = Link::Ended { why: one_line(why) };
    }

    pub(super) fn output(&mut self, mut bytes: &[u8], shown: bool) -> Output {
        self.unseen |= !shown;
        if bytes.is_empty() {
            return Output::default();
        }
        if let Some((size, scrollback)) = self.fresh.take() {
            self.emulator = Emulator::new(size, scrollback);
        }
        if let Intake::Replay(left, from) = self.intake {
            let take = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
            let (old, new) = bytes.split_at(take);
            let title = self.emulator.replay(old, from);
            self.set_title(title);
            let left = left - take as u64;
            self.intake = if left == 0 { Intake::Live } else { Intake::Replay(left, ReplayFrom::Boundary) };
            bytes = new;
        }
        match self.intake {
            Intake::Unsettled(from) => {
                let title = self.emulator.replay(bytes, from);
                self.set_title(title);
                self.intake = Intake::Unsettled(ReplayFrom::Boundary);
                Output::default()
            }
            _ if bytes.is_empty() => Output::default(),
            _ => {
                let output = self.emulator.feed(bytes);
                self.set_title(output.title.clone());
                output
            }
        }
    }

    pub(super) fn guest_phase(&mut self, phase: &str) {
        let before = std::mem::replace(&mut self.phase, phase.to_owned());
        let mark = match (before.as_str(), phase) {
            ("Running" | "Migrating" | "Stopping" | "Starting", "Stopped" | "Pending") => "guest stopped",
            ("Running" | "Migrating" | "Stopping", "Starting") => "guest restarted",
            _ => return,
        };
        if self.emulator.has_text() {
            self.emulator.interrupt(mark);
        }
    }

    fn set_title(&mut self, title: Option<String>) {
        if let Some(title) = title {
            self.title = Some(title).filter(|t| !t.is_empty());
        }
    }

    /// Ends scrolling, selecting and searching: the view follows the output again.
    pub(super) fn follow(&mut self) {
        self.emulator.scroll_to_bottom();
        self.emulator.clear_selection();
        self.emulator.end_search();
        self.view_cursor = None;
        self.selecting = false;
    }
}

fn one_line(text: &str) -> String {
    crate::types::text::printable(text.trim()).into_owned()
}
