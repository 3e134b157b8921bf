//! Stands between the parser and the emulator: what a hostile guest must not do is stopped here.
//!
//! * Titles become plain, short text; clipboard, palette, hyperlink and pointer requests are dropped.
//! * A string sequence (OSC, DCS, ...) that never ends is cut, so it cannot eat memory ([`Stream`]).
//! * A cell holds a bounded number of combining characters.
//! * "Repeat the last character 65,535 times" costs a guest five bytes and us many screenfuls: repetitions are
//!   rationed by the bytes that come.

use alacritty_terminal::Term;
use alacritty_terminal::event::EventListener;
use alacritty_terminal::index::Column;
use alacritty_terminal::term::cell::Flags;
use alacritty_terminal::vte::ansi::{
    Attr, CharsetIndex, ClearMode, CursorShape, CursorStyle, Handler, LineClearMode, Mode, PrivateMode,
    StandardCharset, TabulationClearMode, Timeout,
};

/// Longest title kept, in characters.
const TITLE_CHARACTERS: usize = 120;

/// Most combining characters that one cell keeps.
const MARKS_PER_CELL: usize = 6;

/// Longest string sequence accepted, in bytes.
const STRING_BYTES: usize = 8 * 1024;

/// Repetitions that may be asked for at once; enough for any full-screen program.
const REPEATS: usize = 1 << 20;

/// Repetitions that each byte of input earns.
const REPEATS_PER_BYTE: usize = 16;

/// Synchronised updates (mode 2026) are applied as they come: the screen is drawn after a whole chunk of input
/// anyway, and a guest that never ends an update cannot freeze the pane.
#[derive(Default)]
pub(super) struct Immediate;

impl Timeout for Immediate {
    fn set_timeout(&mut self, _: std::time::Duration) {}

    fn clear_timeout(&mut self) {}

    fn pending_timeout(&self) -> bool {
        false
    }
}

/// The handler that the parser drives: passes on what is harmless.
pub(super) struct Guard<'a, T> {
    pub(super) term: &'a mut Term<T>,
    /// The last title set in this chunk; empty text means "no title".
    pub(super) title: Option<String>,
}

macro_rules! pass_on {
    ($($name:ident($($argument:ident: $kind:ty),*);)*) => {
        $(#[inline]
        fn $name(&mut self, $($argument: $kind),*) {
            Handler::$name(self.term, $($argument),*);
        })*
    };
}

impl<T: EventListener> Handler for Guard<'_, T> {
    #[inline]
    fn input(&mut self, c: char) {
        // Everything below the first combining block is one cell wide: the common case pays one comparison.
        if c >= '\u{300}' && unicode_width::UnicodeWidthChar::width(c) == Some(0) && !self.takes_mark(c) {
            return;
        }
        self.term.input(c);
    }

    fn set_title(&mut self, title: Option<String>) {
        let plain = title.unwrap_or_default().chars().filter(|c| !is_hazardous(*c)).take(TITLE_CHARACTERS).collect();
        self.title = Some(plain);
    }

    pass_on! {
        set_cursor_style(style: Option<CursorStyle>);
        set_cursor_shape(shape: CursorShape);
        goto(line: i32, column: usize);
        goto_line(line: i32);
        goto_col(column: usize);
        insert_blank(count: usize);
        move_up(rows: usize);
        move_down(rows: usize);
        identify_terminal(intermediate: Option<char>);
        device_status(argument: usize);
        move_forward(columns: usize);
        move_backward(columns: usize);
        move_down_and_cr(rows: usize);
        move_up_and_cr(rows: usize);
        put_tab(count: u16);
        backspace();
        carriage_return();
        linefeed();
        bell();
        substitute();
        newline();
        set_horizontal_tabstop();
        scroll_up(rows: usize);
        scroll_down(rows: usize);
        insert_blank_lines(count: usize);
        delete_lines(count: usize);
        erase_chars(count: usize);
        delete_chars(count: usize);
        move_backward_tabs(count: u16);
        move_forward_tabs(count: u16);
        save_cursor_position();
        restore_cursor_position();
        clear_line(mode: LineClearMode);
        clear_screen(mode: ClearMode);
        clear_tabs(mode: TabulationClearMode);
        set_tabs(interval: u16);
        reset_state();
        reverse_index();
        terminal_attribute(attribute: Attr);
        set_mode(mode: Mode);
        unset_mode(mode: Mode);
        report_mode(mode: Mode);
        set_private_mode(mode: PrivateMode);
        unset_private_mode(mode: PrivateMode);
        report_private_mode(mode: PrivateMode);
        set_scrolling_region(top: usize, bottom: Option<usize>);
        set_keypad_application_mode();
        unset_keypad_application_mode();
        set_active_charset(index: CharsetIndex);
        configure_charset(index: CharsetIndex, charset: StandardCharset);
        decaln();
        text_area_size_chars();
    }
}

impl<T: EventListener> Guard<'_, T> {
    /// Whether the cell that a combining character would join has room for it.
    fn takes_mark(&self, c: char) -> bool {
        if is_hazardous(c) {
            return false;
        }
        let grid = self.term.grid();
        let cursor = &grid.cursor;
        let line = &grid[cursor.point.line];
        let mut column = cursor.point.column.0;
        if !cursor.input_needs_wrap {
            column = column.saturating_sub(1);
        }
        if line[Column(column)].flags.contains(Flags::WIDE_CHAR_SPACER) {
            column = column.saturating_sub(1);
        }
        line[Column(column)].zerowidth().is_none_or(|marks| marks.len() < MARKS_PER_CELL)
    }
}

/// Characters that would act on the terminal the pane is drawn on: controls, and those that reorder or hide text
/// beyond their own cell.
pub(super) fn is_hazardous(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{61c}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Follows the byte stream far enough to know when a string sequence (OSC, DCS, SOS, PM, APC) has grown too long,
/// and keeps a character that is not complete yet for the next chunk: vte 0.15 loses text after a character that
/// arrives in two parts.
#[derive(Debug)]
pub(super) struct Stream {
    state: Scan,
    incomplete: Vec<u8>,
    /// Repetitions that may still be asked for.
    repeats: usize,
}

impl Default for Stream {
    fn default() -> Self {
        Self { state: Scan::Ground, incomplete: Vec::new(), repeats: REPEATS }
    }
}

#[derive(Debug, Default, Clone, Copy)]
enum Scan {
    #[default]
    Ground,
    Escape,
    /// Inside a control sequence: its first number, whether that number goes on, and whether it is one of the plain
    /// sequences without private marks.
    Control {
        first: usize,
        counting: bool,
        plain: bool,
    },
    /// Inside a string, with the number of bytes seen.
    String(usize),
}

impl Stream {
    /// Calls `emit` with `bytes` in order, with CAN (which ends any sequence) put in where a string exceeds the
    /// limit (the rest of it then shows as text, as after a lost terminator), and in place of the end of a repeat
    /// sequence that exceeds the ration.
    pub(super) fn split(&mut self, bytes: &[u8], emit: impl FnMut(&[u8])) {
        if self.incomplete.is_empty() {
            let whole = bytes.len() - incomplete_tail(bytes);
            self.incomplete.extend_from_slice(&bytes[whole..]);
            self.limit_strings(&bytes[..whole], emit);
        } else {
            let mut joined = std::mem::take(&mut self.incomplete);
            joined.extend_from_slice(bytes);
            self.incomplete = joined.split_off(joined.len() - incomplete_tail(&joined));
            self.limit_strings(&joined, emit);
        }
    }

    fn limit_strings(&mut self, bytes: &[u8], mut emit: impl FnMut(&[u8])) {
        self.repeats = self.repeats.saturating_add(bytes.len().saturating_mul(REPEATS_PER_BYTE)).min(REPEATS);
        let mut start = 0;
        let mut at = 0;
        while at < bytes.len() {
            let byte = bytes[at];
            match self.state {
                Scan::Ground => match bytes[at..].iter().position(|b| *b == 0x1b) {
                    Some(offset) => {
                        at += offset;
                        self.state = Scan::Escape;
                    }
                    None => break,
                },
                Scan::Escape => match byte {
                    b']' | b'P' | b'X' | b'^' | b'_' => self.state = Scan::String(0),
                    b'[' => self.state = Scan::Control { first: 0, counting: true, plain: true },
                    0x1b => {}
                    0x18 | 0x1a | 0x20..=0x7e | 0x80.. => self.state = Scan::Ground,
                    // Other controls act at once and leave an escape sequence open.
                    _ => {}
                },
                Scan::Control { first, counting, plain } => match byte {
                    b'0'..=b'9' if counting => {
                        let first = first.saturating_mul(10).saturating_add(usize::from(byte - b'0'));
                        self.state = Scan::Control { first, counting, plain };
                    }
                    b'0'..=b'9' => {}
                    b':' | b';' => self.state = Scan::Control { first, counting: false, plain },
                    0x20..=0x3f => self.state = Scan::Control { first, counting, plain: false },
                    0x1b => self.state = Scan::Escape,
                    b'b' if plain => {
                        self.state = Scan::Ground;
                        let count = first.clamp(1, usize::from(u16::MAX));
                        match self.repeats.checked_sub(count) {
                            Some(left) => self.repeats = left,
                            None => {
                                emit(&bytes[start..at]);
                                emit(&[0x18]);
                                start = at + 1;
                            }
                        }
                    }
                    0x18 | 0x1a | 0x40..=0x7e | 0x80.. => self.state = Scan::Ground,
                    // Other controls act at once and leave the sequence open.
                    _ => {}
                },
                Scan::String(seen) => match byte {
                    0x07 | 0x18 | 0x1a => self.state = Scan::Ground,
                    0x1b => self.state = Scan::Escape,
                    _ if seen + 1 >= STRING_BYTES => {
                        emit(&bytes[start..at]);
                        emit(&[0x18]);
                        start = at;
                        self.state = Scan::Ground;
                    }
                    _ => self.state = Scan::String(seen + 1),
                },
            }
            at += 1;
        }
        if start < bytes.len() {
            emit(&bytes[start..]);
        }
    }
}

/// Length of the beginning of a UTF-8 character at the end of `bytes`.
fn incomplete_tail(bytes: &[u8]) -> usize {
    (1..=bytes.len().min(3))
        .find(|length| {
            let tail = &bytes[bytes.len() - length..];
            tail[0] >= 0xc0 && std::str::from_utf8(tail).is_err_and(|e| e.valid_up_to() == 0 && e.error_len().is_none())
        })
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(chunks: &[&[u8]]) -> Vec<u8> {
        let mut limit = Stream::default();
        let mut out = Vec::new();
        for chunk in chunks {
            limit.split(chunk, |b| out.extend_from_slice(b));
        }
        out
    }

    #[test]
    fn ordinary_bytes_pass_unchanged() {
        for text in ["plain", "\x1b[31mred\x1b[0m", "\x1b]0;title\x07after", "\x1bP1;2q...\x1b\\x", "\x1b\n]0;t\x07"] {
            assert_eq!(run(&[text.as_bytes()]), text.as_bytes());
            let bytes: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
            assert_eq!(run(&bytes), text.as_bytes());
        }
    }

    #[test]
    fn a_character_in_two_parts_waits_for_its_end() {
        assert_eq!(incomplete_tail("aé".as_bytes()), 0);
        assert_eq!(incomplete_tail(b"a\xc3"), 1);
        assert_eq!(incomplete_tail(b"a\xe6\x97"), 2);
        assert_eq!(incomplete_tail(b"\xf0\x9f\x91"), 3);
        assert_eq!(incomplete_tail(b"a\xff"), 0);
        assert_eq!(incomplete_tail(b"\xc3\xc3"), 1);
        let mut stream = Stream::default();
        let mut parts: Vec<Vec<u8>> = Vec::new();
        for chunk in ["a\u{e9}".as_bytes()[..2].to_vec(), b"\xa9b\xc3".to_vec(), b"\xa9".to_vec()] {
            stream.split(&chunk, |part| parts.push(part.to_vec()));
        }
        assert_eq!(parts, [b"a".to_vec(), "éb".as_bytes().to_vec(), "é".as_bytes().to_vec()]);
    }

    #[test]
    fn repetitions_are_rationed() {
        let flood = b"x\x1b[65535b".repeat(1000);
        let passed = run(&[&flood]);
        let cut = passed.iter().filter(|b| **b == 0x18).count();
        assert!((970..1000).contains(&cut), "{cut}");
        for plain in ["x\x1b[3b", "\x1b[?65535b", "\x1b[1;2b", "\x1b[b", "\x1b[31mb"] {
            assert_eq!(run(&[plain.as_bytes()]), plain.as_bytes());
        }
        // The ration comes back with honest bytes.
        let mut stream = Stream::default();
        stream.split(&flood, |_| {});
        stream.split(&[b'a'; 8192], |_| {});
        let mut out = Vec::new();
        stream.split(b"x\x1b[80b", |b| out.extend_from_slice(b));
        assert_eq!(out, b"x\x1b[80b");
    }

    #[test]
    fn an_endless_string_is_cut_at_the_same_place_however_it_arrives() {
        let mut endless = b"\x1b]52;c;".to_vec();
        endless.resize(3 * STRING_BYTES, b'A');
        let whole = run(&[&endless]);
        assert_eq!(whole.iter().filter(|b| **b == 0x18).count(), 1);
        let pieces: Vec<&[u8]> = endless.chunks(7).collect();
        assert_eq!(run(&pieces), whole);
    }
}
