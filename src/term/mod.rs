//! Terminal emulation without I/O: bytes in, cells and replies out.
//!
//! * [`Emulator`]: feeds a guest's bytes to `alacritty_terminal`; scrollback, selection, search.
//! * [`Frame`]: a copy of what is visible, for drawing.
//! * [`keys`]: (key, modes) to the bytes a guest expects; also paste, mouse and focus reports.
//! * [`Chord`]: a key combination written as text (`ctrl-]`), matched by what it would send.
//!
//! Nothing here reads a clock, a file or a socket, and nothing a guest sends reaches the user's own terminal
//! except as cells: titles are plain text for a label, clipboard and palette requests are dropped.

mod chord;
mod emulator;
mod frame;
mod guard;
pub mod keys;
mod search;
#[cfg(test)]
mod tests;

pub use chord::{Chord, ChordError};
pub use emulator::{Emulator, MAX_COLUMNS, MAX_ROWS, Output, ReplayFrom, SelectionKind, Size, ViewPoint};
pub use frame::{Attributes, Cell, Color, Cursor, CursorShape, Frame};
pub use keys::{Modes, MouseEncoding, MouseReports};
pub use search::{SearchDirection, SearchError, SearchOutcome};
