//! What a key, a paste or a mouse event sends to the guest. Pure functions of the event and the emulator's modes.
//!
//! The sequences are those of xterm's PC-style function keys, which `TERM=linux`, `vt220`, `xterm` and friends on
//! the guest side all accept. The kitty protocol is not offered to guests.

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers, MouseButton, MouseEvent, MouseEventKind};

/// Modes of the emulator that change what input sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Modes {
    /// Cursor keys send `ESC O x` (DECCKM).
    pub application_cursor: bool,
    /// The guest asked for `ESC [200~` around pastes (2004).
    pub bracketed_paste: bool,
    /// Enter sends CR LF (LNM).
    pub newline: bool,
    /// Which mouse events the guest asked for.
    pub mouse: MouseReports,
    /// How mouse events are written.
    pub mouse_encoding: MouseEncoding,
    /// The guest asked for focus reports (1004).
    pub focus: bool,
    /// The alternate screen is shown.
    pub alternate_screen: bool,
    /// On the alternate screen the wheel sends cursor keys (1007).
    pub alternate_scroll: bool,
}

/// Which mouse events a guest wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MouseReports {
    /// None: the mouse belongs to the pane.
    #[default]
    Off,
    /// Press, release and wheel (1000).
    Click,
    /// Also motion while a button is down (1002).
    Drag,
    /// All motion (1003).
    Motion,
}

/// How a mouse event is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MouseEncoding {
    /// Three bytes, columns and rows up to 223.
    #[default]
    Legacy,
    /// As `Legacy`, positions as UTF-8 (1005).
    Utf8,
    /// `ESC [ < b ; x ; y M` (1006).
    Sgr,
}

/// Bytes for `key`, or nothing for keys that have no meaning on a terminal (lone modifiers, releases, media keys).
pub fn encode(key: &KeyEvent, modes: Modes) -> Option<Vec<u8>> {
    if key.kind == KeyEventKind::Release {
        return None;
    }
    let mods = Mods::from(key.modifiers);
    match key.code {
        KeyCode::Char(c) => Some(character(c, mods)),
        KeyCode::Enter if modes.newline => Some(escaped(mods.alt, b"\r\n")),
        KeyCode::Enter => Some(escaped(mods.alt, b"\r")),
        KeyCode::Tab if mods.shift => Some(escaped(mods.alt, b"\x1b[Z")),
        KeyCode::Tab => Some(escaped(mods.alt, b"\t")),
        KeyCode::BackTab => Some(escaped(mods.alt, b"\x1b[Z")),
        KeyCode::Backspace if mods.ctrl => Some(escaped(mods.alt, b"\x08")),
        KeyCode::Backspace => Some(escaped(mods.alt, b"\x7f")),
        KeyCode::Esc => Some(escaped(mods.alt, b"\x1b")),
        KeyCode::Null => Some(escaped(mods.alt, b"\0")),
        KeyCode::Up => Some(cursor(b'A', mods, modes)),
        KeyCode::Down => Some(cursor(b'B', mods, modes)),
        KeyCode::Right => Some(cursor(b'C', mods, modes)),
        KeyCode::Left => Some(cursor(b'D', mods, modes)),
        KeyCode::KeypadBegin => Some(cursor(b'E', mods, modes)),
        KeyCode::End => Some(cursor(b'F', mods, modes)),
        KeyCode::Home => Some(cursor(b'H', mods, modes)),
        KeyCode::Insert => Some(tilde(2, mods)),
        KeyCode::Delete => Some(tilde(3, mods)),
        KeyCode::PageUp => Some(tilde(5, mods)),
        KeyCode::PageDown => Some(tilde(6, mods)),
        KeyCode::Menu => Some(tilde(29, mods)),
        KeyCode::F(n) => function(n, mods),
        _ => None,
    }
}

/// Bytes for pasted text.
///
/// Line ends become CR, as if typed. Control characters other than tab and line end are removed, so that neither
/// an escape sequence nor an end-of-paste mark hidden in a clipboard acts on the guest.
pub fn paste(text: &str, modes: Modes) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + 12);
    if modes.bracketed_paste {
        out.extend_from_slice(b"\x1b[200~");
    }
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\r' => {
                chars.next_if_eq(&'\n');
                out.push(b'\r');
            }
            '\n' => out.push(b'\r'),
            '\t' => out.push(b'\t'),
            c if c.is_control() => {}
            c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    if modes.bracketed_paste {
        out.extend_from_slice(b"\x1b[201~");
    }
    out
}

/// Bytes for gaining or losing the keyboard focus, if the guest asked for them.
pub fn focus(gained: bool, modes: Modes) -> Option<&'static [u8]> {
    match (modes.focus, gained) {
        (false, _) => None,
        (true, true) => Some(b"\x1b[I"),
        (true, false) => Some(b"\x1b[O"),
    }
}

/// Bytes for a mouse event whose column and row count from 0 inside the pane; nothing if the guest did not ask.
///
/// Without mouse reports the wheel still moves the cursor on the alternate screen, where there is no scrollback.
pub fn mouse(event: &MouseEvent, modes: Modes) -> Option<Vec<u8>> {
    if modes.mouse == MouseReports::Off {
        return wheel_as_cursor(event, modes);
    }
    let (button, released) = match event.kind {
        MouseEventKind::Down(b) => (button_code(b), false),
        MouseEventKind::Up(b) => (button_code(b), true),
        MouseEventKind::Drag(b) if modes.mouse >= MouseReports::Drag => (button_code(b) + 32, false),
        MouseEventKind::Moved if modes.mouse == MouseReports::Motion => (35, false),
        MouseEventKind::ScrollUp => (64, false),
        MouseEventKind::ScrollDown => (65, false),
        MouseEventKind::ScrollLeft => (66, false),
        MouseEventKind::ScrollRight => (67, false),
        MouseEventKind::Drag(_) | MouseEventKind::Moved => return None,
    };
    let mods = Mods::from(event.modifiers);
    let extra = u16::from(mods.shift) * 4 + u16::from(mods.alt) * 8 + u16::from(mods.ctrl) * 16;
    let (x, y) = (event.column + 1, event.row + 1);
    match modes.mouse_encoding {
        MouseEncoding::Sgr => {
            let end = if released { 'm' } else { 'M' };
            Some(format!("\x1b[<{};{x};{y}{end}", button + extra).into_bytes())
        }
        encoding => {
            // Without SGR a release does not say which button it was.
            let code = if released { 3 } else { button } + extra;
            let mut out = b"\x1b[M".to_vec();
            for value in [code, x, y] {
                legacy_value(&mut out, value, encoding)?;
            }
            Some(out)
        }
    }
}

impl PartialOrd for MouseReports {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        (*self as u8).partial_cmp(&(*other as u8))
    }
}

fn wheel_as_cursor(event: &MouseEvent, modes: Modes) -> Option<Vec<u8>> {
    const LINES_PER_NOTCH: usize = 3;
    if !(modes.alternate_screen && modes.alternate_scroll) {
        return None;
    }
    let key = match event.kind {
        MouseEventKind::ScrollUp => b'A',
        MouseEventKind::ScrollDown => b'B',
        _ => return None,
    };
    Some(cursor(key, Mods::default(), modes).repeat(LINES_PER_NOTCH))
}

fn button_code(button: MouseButton) -> u16 {
    match button {
        MouseButton::Left => 0,
        MouseButton::Middle => 1,
        MouseButton::Right => 2,
    }
}

fn legacy_value(out: &mut Vec<u8>, value: u16, encoding: MouseEncoding) -> Option<()> {
    let value = u32::from(value) + 32;
    if let Some(byte) = u8::try_from(value).ok().filter(|b| encoding == MouseEncoding::Legacy || b.is_ascii()) {
        out.push(byte);
        return Some(());
    }
    if encoding != MouseEncoding::Utf8 || value > 0x7ff {
        return None;
    }
    let c = char::from_u32(value)?;
    out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    Some(())
}

#[derive(Clone, Copy, Default)]
struct Mods {
    shift: bool,
    alt: bool,
    ctrl: bool,
}

impl From<KeyModifiers> for Mods {
    fn from(m: KeyModifiers) -> Self {
        Self {
            shift: m.contains(KeyModifiers::SHIFT),
            alt: m.intersects(KeyModifiers::ALT | KeyModifiers::META),
            ctrl: m.contains(KeyModifiers::CONTROL),
        }
    }
}

impl Mods {
    /// xterm's modifier parameter: 1 plus 1 for shift, 2 for alt, 4 for ctrl; 1 means none.
    fn parameter(self) -> u8 {
        1 + u8::from(self.shift) + 2 * u8::from(self.alt) + 4 * u8::from(self.ctrl)
    }
}

fn escaped(alt: bool, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len() + 1);
    if alt {
        out.push(0x1b);
    }
    out.extend_from_slice(bytes);
    out
}

fn character(c: char, mods: Mods) -> Vec<u8> {
    match control_byte(c).filter(|_| mods.ctrl) {
        Some(byte) => escaped(mods.alt, &[byte]),
        // A shifted letter may come as a lower-case character with the modifier.
        None if mods.shift && c.is_ascii_lowercase() => escaped(mods.alt, &[c.to_ascii_uppercase() as u8]),
        None => escaped(mods.alt, c.encode_utf8(&mut [0; 4]).as_bytes()),
    }
}

/// The control character that ctrl with `c` makes on a PC keyboard under xterm; digits stand for the symbols that
/// share their byte, which is also how crossterm reports those (ctrl-] arrives as ctrl-5).
fn control_byte(c: char) -> Option<u8> {
    Some(match c.to_ascii_lowercase() {
        c @ 'a'..='z' => c as u8 - b'a' + 1,
        ' ' | '@' | '`' | '2' => 0x00,
        '[' | '{' | '3' => 0x1b,
        '\\' | '|' | '4' => 0x1c,
        ']' | '}' | '5' => 0x1d,
        '^' | '~' | '6' => 0x1e,
        '_' | '/' | '7' => 0x1f,
        '?' | '8' => 0x7f,
        _ => return None,
    })
}

fn cursor(last: u8, mods: Mods, modes: Modes) -> Vec<u8> {
    match mods.parameter() {
        1 if modes.application_cursor => vec![0x1b, b'O', last],
        1 => vec![0x1b, b'[', last],
        m => vec![0x1b, b'[', b'1', b';', b'0' + m, last],
    }
}

fn tilde(number: u8, mods: Mods) -> Vec<u8> {
    match mods.parameter() {
        1 => format!("\x1b[{number}~").into_bytes(),
        m => format!("\x1b[{number};{m}~").into_bytes(),
    }
}

fn function(n: u8, mods: Mods) -> Option<Vec<u8>> {
    Some(match n {
        1..=4 => {
            let last = b'P' + n - 1;
            match mods.parameter() {
                1 => vec![0x1b, b'O', last],
                m => vec![0x1b, b'[', b'1', b';', b'0' + m, last],
            }
        }
        5 => tilde(15, mods),
        6..=10 => tilde(n + 11, mods),
        11..=14 => tilde(n + 12, mods),
        15 | 16 => tilde(n + 13, mods),
        17..=20 => tilde(n + 14, mods),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(code: KeyCode, mods: KeyModifiers) -> KeyEvent {
        KeyEvent::new(code, mods)
    }

    const N: KeyModifiers = KeyModifiers::NONE;
    const S: KeyModifiers = KeyModifiers::SHIFT;
    const A: KeyModifiers = KeyModifiers::ALT;
    const C: KeyModifiers = KeyModifiers::CONTROL;

    #[test]
    fn keys_send_what_xterm_sends() {
        let app = Modes { application_cursor: true, ..Modes::default() };
        let nl = Modes { newline: true, ..Modes::default() };
        let def = Modes::default();
        let table: &[(KeyCode, KeyModifiers, Modes, &[u8])] = &[
            (KeyCode::Char('a'), N, def, b"a"),
            (KeyCode::Char('A'), S, def, b"A"),
            (KeyCode::Char('a'), S, def, b"A"),
            (KeyCode::Char('é'), N, def, "é".as_bytes()),
            (KeyCode::Char('本'), N, def, "本".as_bytes()),
            (KeyCode::Char('a'), A, def, b"\x1ba"),
            (KeyCode::Char('é'), A, def, "\x1bé".as_bytes()),
            (KeyCode::Char('c'), C, def, b"\x03"),
            (KeyCode::Char('C'), C, def, b"\x03"),
            (KeyCode::Char('c'), C | A, def, b"\x1b\x03"),
            (KeyCode::Char('c'), C | S, def, b"\x03"),
            (KeyCode::Char('1'), C, def, b"1"),
            (KeyCode::Char('é'), C, def, "é".as_bytes()),
            (KeyCode::Enter, N, def, b"\r"),
            (KeyCode::Enter, N, nl, b"\r\n"),
            (KeyCode::Enter, A, def, b"\x1b\r"),
            (KeyCode::Tab, N, def, b"\t"),
            (KeyCode::Tab, S, def, b"\x1b[Z"),
            (KeyCode::BackTab, S, def, b"\x1b[Z"),
            (KeyCode::BackTab, S | A, def, b"\x1b\x1b[Z"),
            (KeyCode::Backspace, N, def, b"\x7f"),
            (KeyCode::Backspace, C, def, b"\x08"),
            (KeyCode::Backspace, A, def, b"\x1b\x7f"),
            (KeyCode::Esc, N, def, b"\x1b"),
            (KeyCode::Esc, A, def, b"\x1b\x1b"),
            (KeyCode::Null, N, def, b"\0"),
            (KeyCode::Up, N, def, b"\x1b[A"),
            (KeyCode::Up, N, app, b"\x1bOA"),
            (KeyCode::Down, N, def, b"\x1b[B"),
            (KeyCode::Right, N, app, b"\x1bOC"),
            (KeyCode::Left, N, def, b"\x1b[D"),
            (KeyCode::Up, S, app, b"\x1b[1;2A"),
            (KeyCode::Up, A, def, b"\x1b[1;3A"),
            (KeyCode::Right, C, def, b"\x1b[1;5C"),
            (KeyCode::Left, C | S, def, b"\x1b[1;6D"),
            (KeyCode::Down, C | A | S, def, b"\x1b[1;8B"),
            (KeyCode::Home, N, def, b"\x1b[H"),
            (KeyCode::Home, N, app, b"\x1bOH"),
            (KeyCode::End, N, def, b"\x1b[F"),
            (KeyCode::End, C, app, b"\x1b[1;5F"),
            (KeyCode::Insert, N, def, b"\x1b[2~"),
            (KeyCode::Delete, N, def, b"\x1b[3~"),
            (KeyCode::Delete, C, def, b"\x1b[3;5~"),
            (KeyCode::PageUp, N, def, b"\x1b[5~"),
            (KeyCode::PageDown, S, def, b"\x1b[6;2~"),
            (KeyCode::Menu, N, def, b"\x1b[29~"),
            (KeyCode::F(1), N, def, b"\x1bOP"),
            (KeyCode::F(4), N, app, b"\x1bOS"),
            (KeyCode::F(1), S, def, b"\x1b[1;2P"),
            (KeyCode::F(5), N, def, b"\x1b[15~"),
            (KeyCode::F(6), N, def, b"\x1b[17~"),
            (KeyCode::F(10), N, def, b"\x1b[21~"),
            (KeyCode::F(11), N, def, b"\x1b[23~"),
            (KeyCode::F(12), N, def, b"\x1b[24~"),
            (KeyCode::F(12), C, def, b"\x1b[24;5~"),
            (KeyCode::F(13), N, def, b"\x1b[25~"),
            (KeyCode::F(14), N, def, b"\x1b[26~"),
            (KeyCode::F(15), N, def, b"\x1b[28~"),
            (KeyCode::F(16), N, def, b"\x1b[29~"),
            (KeyCode::F(17), N, def, b"\x1b[31~"),
            (KeyCode::F(20), N, def, b"\x1b[34~"),
        ];
        for (code, mods, modes, expected) in table {
            let got = encode(&key(*code, *mods), *modes).unwrap_or_default();
            assert_eq!(got, *expected, "{code:?} {mods:?} {modes:?}");
        }
        for code in [KeyCode::CapsLock, KeyCode::F(21), KeyCode::PrintScreen] {
            assert_eq!(encode(&key(code, N), def), None);
        }
        let released = KeyEvent { kind: KeyEventKind::Release, ..key(KeyCode::Char('a'), N) };
        assert_eq!(encode(&released, def), None);
    }

    #[test]
    fn every_control_character_can_be_typed() {
        let mut reachable: Vec<u8> = (b' '..=b'~')
            .filter_map(|c| encode(&key(KeyCode::Char(c as char), C), Modes::default()))
            .filter(|bytes| bytes.len() == 1 && (bytes[0] < 0x20 || bytes[0] == 0x7f))
            .map(|bytes| bytes[0])
            .collect();
        reachable.sort_unstable();
        reachable.dedup();
        let all: Vec<u8> = (0..0x20).chain([0x7f]).collect();
        assert_eq!(reachable, all);
        // crossterm reads the raw bytes 0x1c..0x1f as ctrl-4..ctrl-7: they must come out as they went in.
        for (digit, byte) in [('4', 0x1c), ('5', 0x1d), ('6', 0x1e), ('7', 0x1f), (' ', 0)] {
            assert_eq!(encode(&key(KeyCode::Char(digit), C), Modes::default()), Some(vec![byte]));
        }
    }

    #[test]
    fn pastes_are_bracketed_on_request_and_never_contain_escapes() {
        let plain = Modes::default();
        let bracketed = Modes { bracketed_paste: true, ..plain };
        assert_eq!(paste("a\nb\r\nc\td", plain), b"a\rb\rc\td");
        assert_eq!(paste("é", bracketed), "\x1b[200~é\x1b[201~".as_bytes());
        assert_eq!(paste("x\x1b[201~rm\u{9b}31m\x03", bracketed), b"\x1b[200~x[201~rm31m\x1b[201~");
    }

    fn mouse_event(kind: MouseEventKind, column: u16, row: u16, modifiers: KeyModifiers) -> MouseEvent {
        MouseEvent { kind, column, row, modifiers }
    }

    #[test]
    fn the_mouse_is_reported_only_as_asked() {
        let down = MouseEventKind::Down(MouseButton::Left);
        let up = MouseEventKind::Up(MouseButton::Right);
        let drag = MouseEventKind::Drag(MouseButton::Left);
        let with = |mouse, mouse_encoding| Modes { mouse, mouse_encoding, ..Modes::default() };
        let sgr = with(MouseReports::Click, MouseEncoding::Sgr);
        let legacy = with(MouseReports::Click, MouseEncoding::Legacy);
        let utf8 = with(MouseReports::Click, MouseEncoding::Utf8);
        let at = |kind, x, y, m, modes| mouse(&mouse_event(kind, x, y, m), modes);

        assert_eq!(at(down, 0, 0, N, Modes::default()), None);
        assert_eq!(at(down, 4, 9, N, sgr), Some(b"\x1b[<0;5;10M".to_vec()));
        assert_eq!(at(up, 4, 9, C, sgr), Some(b"\x1b[<18;5;10m".to_vec()));
        assert_eq!(at(MouseEventKind::ScrollDown, 0, 0, S, sgr), Some(b"\x1b[<69;1;1M".to_vec()));
        assert_eq!(at(drag, 0, 0, N, sgr), None);
        assert_eq!(at(drag, 0, 0, N, with(MouseReports::Drag, MouseEncoding::Sgr)), Some(b"\x1b[<32;1;1M".to_vec()));
        assert_eq!(at(MouseEventKind::Moved, 0, 0, N, with(MouseReports::Drag, MouseEncoding::Sgr)), None);
        assert_eq!(
            at(MouseEventKind::Moved, 1, 1, N, with(MouseReports::Motion, MouseEncoding::Sgr)),
            Some(b"\x1b[<35;2;2M".to_vec())
        );
        assert_eq!(at(down, 0, 0, N, legacy), Some(b"\x1b[M !!".to_vec()));
        assert_eq!(at(up, 0, 0, N, legacy), Some(b"\x1b[M#!!".to_vec()));
        assert_eq!(at(down, 222, 0, N, legacy), Some(vec![0x1b, b'[', b'M', b' ', 255, b'!']));
        assert_eq!(at(down, 223, 0, N, legacy), None);
        assert_eq!(at(down, 223, 0, N, utf8), Some("\x1b[M \u{100}!".as_bytes().to_vec()));
    }

    #[test]
    fn the_wheel_moves_the_cursor_on_the_alternate_screen() {
        let up = mouse_event(MouseEventKind::ScrollUp, 0, 0, N);
        let alternate = Modes { alternate_screen: true, alternate_scroll: true, ..Modes::default() };
        assert_eq!(mouse(&up, alternate), Some(b"\x1b[A\x1b[A\x1b[A".to_vec()));
        assert_eq!(mouse(&up, Modes::default()), None);
    }

    #[test]
    fn focus_is_reported_on_request() {
        assert_eq!(focus(true, Modes::default()), None);
        let asked = Modes { focus: true, ..Modes::default() };
        assert_eq!(focus(true, asked), Some(b"\x1b[I".as_slice()));
        assert_eq!(focus(false, asked), Some(b"\x1b[O".as_slice()));
    }
}
