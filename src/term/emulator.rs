//! The emulator: a guest's bytes in; screen, replies and notices out.

use std::sync::Arc;

use alacritty_terminal::event::{Event, EventListener};
use alacritty_terminal::grid::{Dimensions, Scroll};
use alacritty_terminal::index::{Column, Line, Point, Side};
use alacritty_terminal::selection::{Selection, SelectionType};
use alacritty_terminal::term::cell::{Cell as GridCell, Flags};
use alacritty_terminal::term::{Config, Osc52, Term, TermMode};
use alacritty_terminal::vte::ansi::{self, Processor};
use parking_lot::Mutex;

use super::frame::{Attributes, Cell, Color, Cursor, CursorShape, Frame, Text};
use super::guard::{self, Guard, Immediate, Stream};
use super::keys::{Modes, MouseEncoding, MouseReports};
use super::search::{Search, SearchDirection, SearchError, SearchOutcome};

/// Widest screen accepted.
pub const MAX_COLUMNS: u16 = 1000;
/// Tallest screen accepted.
pub const MAX_ROWS: u16 = 500;

/// Most bytes of answers to one chunk of input; a guest that asks more is asking in bad faith.
const REPLY_BYTES: usize = 4096;

/// Size of a screen in cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Width, at least 2.
    pub columns: u16,
    /// Height, at least 1.
    pub rows: u16,
}

impl Size {
    /// A size brought into the range that the emulator can hold.
    pub fn clamped(columns: u16, rows: u16) -> Self {
        Self { columns: columns.clamp(2, MAX_COLUMNS), rows: rows.clamp(1, MAX_ROWS) }
    }
}

impl Dimensions for Size {
    fn total_lines(&self) -> usize {
        self.rows.into()
    }

    fn screen_lines(&self) -> usize {
        self.rows.into()
    }

    fn columns(&self) -> usize {
        self.columns.into()
    }
}

/// What a chunk of live output asked for, besides changing the screen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Output {
    /// Bytes to send back to the guest: answers to its questions (cursor position, device attributes, modes).
    pub replies: Vec<u8>,
    /// The guest rang the bell.
    pub bell: bool,
    /// The guest set a title: plain text for a label, empty to remove it.
    pub title: Option<String>,
}

/// Where replayed bytes begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplayFrom {
    /// At power-on, or where the bytes fed before ended.
    Boundary,
    /// Anywhere: the first bytes may be the middle of a sequence or a character.
    MidStream,
}

/// How a selection grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SelectionKind {
    /// By character.
    Characters,
    /// By word.
    Words,
    /// By line, wrapped parts included.
    Lines,
    /// A rectangle.
    Block,
}

/// A cell of the view: row and column from the top left, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ViewPoint {
    /// Row.
    pub row: u16,
    /// Column.
    pub column: u16,
}

/// Collects what the emulator wants to tell; shared with it because its callback takes `&self`.
#[derive(Clone, Default)]
struct Outbox(Arc<Mutex<Letters>>);

#[derive(Default)]
struct Letters {
    replies: Vec<u8>,
    bell: bool,
}

impl EventListener for Outbox {
    fn send_event(&self, event: Event) {
        match event {
            Event::PtyWrite(text) => {
                let mut letters = self.0.lock();
                if letters.replies.len() + text.len() <= REPLY_BYTES {
                    letters.replies.extend_from_slice(text.as_bytes());
                }
            }
            Event::Bell => self.0.lock().bell = true,
            // Titles come through the guard; clipboard, colours and window size are not the guest's business.
            _ => {}
        }
    }
}

/// One terminal screen with scrollback.
pub struct Emulator {
    term: Term<Outbox>,
    parser: Processor<Immediate>,
    stream: Stream,
    outbox: Outbox,
    size: Size,
    search: Option<Mutex<Search>>,
}

impl Emulator {
    /// An empty screen that keeps up to `scrollback` lines above it.
    pub fn new(size: Size, scrollback: usize) -> Self {
        let size = Size::clamped(size.columns, size.rows);
        let outbox = Outbox::default();
        let config = Config { scrolling_history: scrollback, osc52: Osc52::Disabled, ..Config::default() };
        Self {
            term: Term::new(config, &size, outbox.clone()),
            parser: Processor::new(),
            stream: Stream::default(),
            outbox,
            size,
            search: None,
        }
    }

    /// Feeds live output.
    pub fn feed(&mut self, bytes: &[u8]) -> Output {
        let title = self.advance(bytes);
        let letters = std::mem::take(&mut *self.outbox.0.lock());
        Output { replies: letters.replies, bell: letters.bell, title }
    }

    /// Feeds recorded output: the screen changes, but nothing is answered or rung, because the guest asked its
    /// questions long ago. Gives the last title set, as [`Output::title`].
    pub fn replay(&mut self, bytes: &[u8], from: ReplayFrom) -> Option<String> {
        let bytes = match from {
            ReplayFrom::Boundary => bytes,
            ReplayFrom::MidStream => from_first_boundary(bytes),
        };
        let title = self.advance(bytes);
        *self.outbox.0.lock() = Letters::default();
        title
    }

    fn advance(&mut self, bytes: &[u8]) -> Option<String> {
        let mut guard = Guard { term: &mut self.term, title: None };
        let parser = &mut self.parser;
        self.stream.split(bytes, |part| parser.advance(&mut guard, part));
        let title = guard.title;
        self.forget_match();
        title
    }

    /// Brings modes back to those of a fresh terminal but keeps text and scrollback, and puts `note` on a line of
    /// its own. For a guest that restarted or a line that was cut: whatever ran before will not tidy up.
    pub fn interrupt(&mut self, note: &str) {
        self.parser = Processor::new();
        self.stream = Stream::default();
        // Leave the alternate screen; margins, origin, insert, wrap, keypad, mouse, paste, focus; charset; colours.
        let reset = concat!(
            "\x1b[?1049l\x1b[r\x1b[?6l\x1b[4l\x1b[20l\x1b[?7h\x1b[?1l\x1b>",
            "\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1004l\x1b[?1005l\x1b[?1006l\x1b[?2004l",
            "\x1b(B\x1b)B\x0f\x1b[0m\x1b[0 q\x1b[?25h"
        );
        // DECSTBM moved the cursor home: go to the last line that holds text.
        let rows = self.size.rows;
        let mut last = 0;
        self.advance(reset.as_bytes());
        for row in (0..rows).rev() {
            if !self.term.grid()[Line(i32::from(row))].is_clear() {
                last = row + 1;
                break;
            }
        }
        let newline = if last >= rows { format!("\x1b[{rows};1H\r\n") } else { format!("\x1b[{};1H", last + 1) };
        let plain: String = note.chars().filter(|c| !guard::is_hazardous(*c)).collect();
        self.advance(format!("{newline}\x1b[7m {plain} \x1b[0m\r\n").as_bytes());
        *self.outbox.0.lock() = Letters::default();
    }

    /// Size of the screen.
    pub fn size(&self) -> Size {
        self.size
    }

    /// Changes the size; wrapped lines are laid out anew. The guest learns nothing of it: a serial line has no size.
    pub fn resize(&mut self, size: Size) {
        let size = Size::clamped(size.columns, size.rows);
        if size != self.size {
            self.size = size;
            self.term.resize(size);
            self.forget_match();
        }
    }

    fn forget_match(&mut self) {
        if let Some(search) = &mut self.search {
            search.get_mut().forget_place();
        }
    }

    /// Modes that change what input sends.
    pub fn modes(&self) -> Modes {
        let mode = self.term.mode();
        let mouse = if mode.contains(TermMode::MOUSE_MOTION) {
            MouseReports::Motion
        } else if mode.contains(TermMode::MOUSE_DRAG) {
            MouseReports::Drag
        } else if mode.contains(TermMode::MOUSE_REPORT_CLICK) {
            MouseReports::Click
        } else {
            MouseReports::Off
        };
        let mouse_encoding = if mode.contains(TermMode::SGR_MOUSE) {
            MouseEncoding::Sgr
        } else if mode.contains(TermMode::UTF8_MOUSE) {
            MouseEncoding::Utf8
        } else {
            MouseEncoding::Legacy
        };
        Modes {
            application_cursor: mode.contains(TermMode::APP_CURSOR),
            bracketed_paste: mode.contains(TermMode::BRACKETED_PASTE),
            newline: mode.contains(TermMode::LINE_FEED_NEW_LINE),
            mouse,
            mouse_encoding,
            focus: mode.contains(TermMode::FOCUS_IN_OUT),
            alternate_screen: mode.contains(TermMode::ALT_SCREEN),
            alternate_scroll: mode.contains(TermMode::ALTERNATE_SCROLL),
        }
    }

    /// Moves the view by `lines`; positive goes to older output.
    pub fn scroll(&mut self, lines: i32) {
        self.term.scroll_display(Scroll::Delta(lines));
    }

    /// Moves the view to the oldest line held.
    pub fn scroll_to_top(&mut self) {
        self.term.scroll_display(Scroll::Top);
    }

    /// Moves the view back to the newest output.
    pub fn scroll_to_bottom(&mut self) {
        self.term.scroll_display(Scroll::Bottom);
    }

    /// Lines between the bottom of the view and the newest line.
    pub fn scrolled_back(&self) -> usize {
        self.term.grid().display_offset()
    }

    /// Lines of scrollback held.
    pub fn history(&self) -> usize {
        self.term.history_size()
    }

    /// Begins a selection at a cell of the view.
    pub fn select(&mut self, at: ViewPoint, kind: SelectionKind) {
        let kind = match kind {
            SelectionKind::Characters => SelectionType::Simple,
            SelectionKind::Words => SelectionType::Semantic,
            SelectionKind::Lines => SelectionType::Lines,
            SelectionKind::Block => SelectionType::Block,
        };
        let point = self.grid_point(at);
        let mut selection = Selection::new(kind, point, Side::Left);
        // The cell under the pointer belongs to the selection from the start.
        selection.update(point, Side::Right);
        self.term.selection = Some(selection);
    }

    /// Grows the selection to a cell of the view.
    pub fn select_to(&mut self, at: ViewPoint) {
        let point = self.grid_point(at);
        if let Some(selection) = self.term.selection.as_mut() {
            selection.update(point, Side::Right);
            selection.include_all();
        }
    }

    /// Drops the selection.
    pub fn clear_selection(&mut self) {
        self.term.selection = None;
    }

    /// The selected text: wrapped lines joined, no trailing spaces, no control characters.
    pub fn selected_text(&self) -> Option<String> {
        self.term.selection_to_string().map(|text| plain_lines(&text)).filter(|text| !text.is_empty())
    }

    /// The text in view.
    pub fn visible_text(&self) -> String {
        let start = self.grid_point(ViewPoint { row: 0, column: 0 });
        let end = self.grid_point(ViewPoint { row: self.size.rows - 1, column: self.size.columns - 1 });
        plain_lines(&self.term.bounds_to_string(start, end))
    }

    /// All text held, scrollback first.
    pub fn whole_text(&self) -> String {
        let start = Point::new(self.term.topmost_line(), Column(0));
        let end = Point::new(self.term.bottommost_line(), self.term.last_column());
        plain_lines(&self.term.bounds_to_string(start, end))
    }

    /// Whether anything is on the screen or above it.
    pub fn has_text(&self) -> bool {
        self.history() > 0 || (0..self.size.rows).any(|row| !self.term.grid()[Line(i32::from(row))].is_clear())
    }

    /// Looks for `text` (capitals make it case-sensitive) and moves the view to the first match in `direction`.
    pub fn search(&mut self, text: &str, direction: SearchDirection) -> Result<SearchOutcome, SearchError> {
        if text.is_empty() {
            self.search = None;
            return Ok(SearchOutcome::Nothing);
        }
        let search = self.search.insert(Mutex::new(Search::new(text)?));
        Ok(search.get_mut().step(&mut self.term, direction))
    }

    /// Moves to the next match of the present search.
    pub fn search_again(&mut self, direction: SearchDirection) -> SearchOutcome {
        match &mut self.search {
            Some(search) => search.get_mut().step(&mut self.term, direction),
            None => SearchOutcome::Nothing,
        }
    }

    /// Ends the search; matches are no longer marked.
    pub fn end_search(&mut self) {
        self.search = None;
    }

    /// Copies what is visible into `frame`, reusing its memory.
    pub fn copy_frame(&self, frame: &mut Frame) {
        let Size { columns, rows } = self.size;
        frame.columns = columns;
        frame.rows = rows;
        frame.cells.resize(usize::from(columns) * usize::from(rows), Cell::default());
        let offset = self.term.grid().display_offset();
        let selection = self.term.selection.as_ref().and_then(|s| s.to_range(&self.term));
        for row in 0..rows {
            let line = Line(i32::from(row) - offset as i32);
            let cells = &self.term.grid()[line];
            let start = usize::from(row) * usize::from(columns);
            for (column, out) in frame.cells[start..start + usize::from(columns)].iter_mut().enumerate() {
                copy_cell(&cells[Column(column)], out);
                out.selected = selection.is_some_and(|s| s.contains(Point::new(line, Column(column))));
            }
        }
        if let Some(search) = &self.search {
            // The matcher keeps a cache, hence the lock; nobody else can hold it while `self` is borrowed here.
            let mut search = search.lock();
            for found in search.visible(&self.term) {
                mark(frame, offset, &found);
            }
            if let Some(found) = search.present() {
                mark(frame, offset, found);
            }
        }
        frame.scrolled_back = offset;
        frame.history = self.term.history_size();
        frame.cursor = self.cursor();
    }

    /// The cursor, unless the guest hid it or the view is scrolled back.
    pub fn cursor(&self) -> Option<Cursor> {
        if !self.term.mode().contains(TermMode::SHOW_CURSOR) || self.scrolled_back() > 0 {
            return None;
        }
        let shape = match self.term.cursor_style().shape {
            ansi::CursorShape::Hidden => return None,
            ansi::CursorShape::Underline => CursorShape::Underline,
            ansi::CursorShape::Beam => CursorShape::Beam,
            ansi::CursorShape::Block | ansi::CursorShape::HollowBlock => CursorShape::Block,
        };
        let point = self.term.grid().cursor.point;
        Some(Cursor { row: u16::try_from(point.line.0).ok()?, column: u16::try_from(point.column.0).ok()?, shape })
    }

    fn grid_point(&self, at: ViewPoint) -> Point {
        let row = i32::from(at.row.min(self.size.rows - 1));
        let column = usize::from(at.column.min(self.size.columns - 1));
        Point::new(Line(row - self.term.grid().display_offset() as i32), Column(column))
    }
}

/// Skips the part of a cut stream that may be the tail of a sequence or a character: up to the first line end or
/// the start of a sequence. Without either nothing can be trusted to be text, unless it is long: then it is.
fn from_first_boundary(bytes: &[u8]) -> &[u8] {
    const LONGEST_SEQUENCE: usize = 4096;
    let window = &bytes[..bytes.len().min(LONGEST_SEQUENCE)];
    match window.iter().position(|b| matches!(b, b'\n' | 0x1b)) {
        Some(at) if window[at] == b'\n' => &bytes[at + 1..],
        Some(at) => &bytes[at..],
        None => &bytes[window.len()..],
    }
}

/// Tabs to spaces is the emulator's business already; what is left of controls is removed, and spaces at line ends.
fn plain_lines(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for (i, line) in text.split('\n').enumerate() {
        if i > 0 {
            out.push('\n');
        }
        let clean: String = line.chars().filter(|c| *c == '\t' || !guard::is_hazardous(*c)).collect();
        out.push_str(clean.trim_end());
    }
    out.truncate(out.trim_end_matches('\n').len());
    out
}

fn copy_cell(cell: &GridCell, out: &mut Cell) {
    let flags = cell.flags;
    out.text = if flags.contains(Flags::WIDE_CHAR_SPACER) {
        Text::Empty
    } else {
        let base = if guard::is_hazardous(cell.c) { ' ' } else { cell.c };
        match cell.zerowidth().filter(|marks| !marks.is_empty()) {
            None => Text::One(base),
            Some(marks) => Text::Many(std::iter::once(base).chain(marks.iter().copied()).collect::<String>().into()),
        }
    };
    out.wide = flags.contains(Flags::WIDE_CHAR);
    out.foreground = color(cell.fg);
    out.background = color(cell.bg);
    out.attributes = Attributes {
        bold: flags.contains(Flags::BOLD),
        dim: flags.contains(Flags::DIM),
        italic: flags.contains(Flags::ITALIC),
        underline: flags.intersects(Flags::ALL_UNDERLINES),
        inverse: flags.contains(Flags::INVERSE),
        hidden: flags.contains(Flags::HIDDEN),
        strikeout: flags.contains(Flags::STRIKEOUT),
    };
    out.matched = false;
}

fn color(color: ansi::Color) -> Color {
    match color {
        ansi::Color::Spec(rgb) => Color::Rgb(rgb.r, rgb.g, rgb.b),
        ansi::Color::Indexed(index) => Color::Indexed(index),
        ansi::Color::Named(named) if (named as usize) < 16 => Color::Indexed(named as u8),
        ansi::Color::Named(_) => Color::Default,
    }
}

fn mark(frame: &mut Frame, offset: usize, found: &std::ops::RangeInclusive<Point>) {
    let columns = usize::from(frame.columns);
    let index = |point: &Point| {
        let row = point.line.0 + offset as i32;
        i64::from(row) * columns as i64 + point.column.0 as i64
    };
    let start = index(found.start()).max(0) as usize;
    let end = index(found.end());
    if end < 0 {
        return;
    }
    let end = (end as usize + 1).min(frame.cells.len());
    for cell in frame.cells.get_mut(start..end).unwrap_or(&mut []) {
        cell.matched = true;
    }
}
