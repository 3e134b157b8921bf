//! What is visible, copied out of the emulator so that drawing needs no access to it.

/// A colour as the guest named it; the pane maps it to the user's palette.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Color {
    /// The terminal's own foreground or background.
    #[default]
    Default,
    /// Palette entry 0 to 255.
    Indexed(u8),
    /// True colour.
    Rgb(u8, u8, u8),
}

/// Text attributes of a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Attributes {
    /// Heavier text.
    pub bold: bool,
    /// Fainter text.
    pub dim: bool,
    /// Slanted text.
    pub italic: bool,
    /// Any kind of underline.
    pub underline: bool,
    /// Foreground and background exchanged.
    pub inverse: bool,
    /// Not shown at all (passwords).
    pub hidden: bool,
    /// Struck through.
    pub strikeout: bool,
}

/// One visible cell.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cell {
    /// The character with its combining marks; empty for the second half of a wide character. Never a control.
    pub text: Text,
    /// Whether the character takes two columns.
    pub wide: bool,
    /// Foreground.
    pub foreground: Color,
    /// Background.
    pub background: Color,
    /// Attributes.
    pub attributes: Attributes,
    /// Part of the selection.
    pub selected: bool,
    /// Part of a search match.
    pub matched: bool,
}

/// The text of a cell: almost always one character, so that copying a screen allocates nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Text {
    /// Second half of a wide character.
    Empty,
    /// One character.
    One(char),
    /// A character with combining marks.
    Many(Box<str>),
}

impl Default for Text {
    fn default() -> Self {
        Self::One(' ')
    }
}

impl Text {
    /// Gives `read` the text as a string.
    pub fn with<R>(&self, read: impl FnOnce(&str) -> R) -> R {
        match self {
            Self::Empty => read(""),
            Self::One(c) => read(c.encode_utf8(&mut [0; 4])),
            Self::Many(text) => read(text),
        }
    }
}

/// How the cursor looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CursorShape {
    /// A filled cell.
    #[default]
    Block,
    /// A line under the cell.
    Underline,
    /// A line before the cell.
    Beam,
}

/// The cursor, in rows and columns of the frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    /// Row from the top, from 0.
    pub row: u16,
    /// Column from the left, from 0.
    pub column: u16,
    /// Its look.
    pub shape: CursorShape,
}

/// A copy of the visible screen. Reuse one frame: [`crate::term::Emulator::copy_frame`] overwrites it in place.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Frame {
    pub(super) columns: u16,
    pub(super) rows: u16,
    pub(super) cells: Vec<Cell>,
    /// The cursor, unless the guest hid it or the view is scrolled back.
    pub cursor: Option<Cursor>,
    /// Lines between the bottom of the view and the newest line; 0 follows the output.
    pub scrolled_back: usize,
    /// Lines of scrollback held.
    pub history: usize,
}

impl Frame {
    /// Columns of the screen.
    pub fn columns(&self) -> u16 {
        self.columns
    }

    /// Rows of the screen.
    pub fn rows(&self) -> u16 {
        self.rows
    }

    /// The cells of one row; empty outside the screen.
    pub fn row(&self, row: u16) -> &[Cell] {
        let start = usize::from(row) * usize::from(self.columns);
        self.cells.get(start..start + usize::from(self.columns)).unwrap_or(&[])
    }

    /// The visible text, one line per row, without trailing spaces.
    pub fn text(&self) -> String {
        let mut out = String::new();
        for row in 0..self.rows {
            let mut line = String::new();
            for cell in self.row(row) {
                cell.text.with(|t| line.push_str(t));
            }
            out.push_str(line.trim_end());
            out.push('\n');
        }
        out
    }
}
