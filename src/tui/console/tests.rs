//! The pane by keys and whole screens.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers, MouseButton, MouseEvent, MouseEventKind};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::*;
use crate::tui::theme::Theme;

fn target(name: &str) -> Target {
    Target::serial("default", name)
}

fn pane(width: u16, height: u16) -> ConsolePane {
    let mut pane = ConsolePane::new("ctrl-]".parse().unwrap(), 1000);
    pane.resize(Rect::new(0, 0, width, height));
    pane
}

/// A pane with one connected console.
fn connected(width: u16, height: u16) -> ConsolePane {
    let mut pane = pane(width, height);
    pane.open(target("web"));
    pane.attached(&target("web"), History::None);
    pane
}

fn press(pane: &mut ConsolePane, code: KeyCode) -> Vec<Request> {
    pane.key(KeyEvent::new(code, KeyModifiers::NONE))
}

fn leave(pane: &mut ConsolePane) -> Vec<Request> {
    // As crossterm reports the byte 0x1d.
    pane.key(KeyEvent::new(KeyCode::Char('5'), KeyModifiers::CONTROL))
}

fn send(name: &str, bytes: &[u8]) -> Request {
    Request::Send { target: target(name), bytes: bytes.to_vec() }
}

fn screen(pane: &ConsolePane) -> String {
    let mut buffer = Buffer::empty(pane.area);
    pane.view(&mut buffer, &Theme::builtin("dark"));
    text_of(&buffer)
}

fn text_of(buffer: &Buffer) -> String {
    let mut out = String::new();
    for y in buffer.area.top()..buffer.area.bottom() {
        let mut line = String::new();
        let mut skip = 0;
        for x in buffer.area.left()..buffer.area.right() {
            if skip > 0 {
                skip -= 1;
                continue;
            }
            let symbol = buffer[(x, y)].symbol();
            skip = unicode_width::UnicodeWidthStr::width(symbol).saturating_sub(1);
            line.push_str(symbol);
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

#[test]
fn every_key_but_the_leave_chord_goes_to_the_guest() {
    let mut pane = connected(80, 24);
    assert!(pane.in_guest());
    for (key, bytes) in [
        (KeyEvent::new(KeyCode::Char('q'), KeyModifiers::NONE), b"q".as_slice()),
        (KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL), b"\x03"),
        (KeyEvent::new(KeyCode::Esc, KeyModifiers::NONE), b"\x1b"),
        (KeyEvent::new(KeyCode::Char(':'), KeyModifiers::NONE), b":"),
        (KeyEvent::new(KeyCode::F(1), KeyModifiers::NONE), b"\x1bOP"),
        (KeyEvent::new(KeyCode::Tab, KeyModifiers::NONE), b"\t"),
        (KeyEvent::new(KeyCode::PageUp, KeyModifiers::NONE), b"\x1b[5~"),
    ] {
        assert_eq!(pane.key(key), [send("web", bytes)]);
    }
    assert_eq!(leave(&mut pane), []);
    assert!(!pane.in_guest());
    assert_eq!(leave(&mut pane), [Request::Leave], "twice leaves the view");
    assert!(pane.in_guest(), "coming back, one types at once");
}

#[test]
fn the_chord_itself_can_be_sent_once() {
    let mut pane = connected(80, 24);
    leave(&mut pane);
    assert_eq!(press(&mut pane, KeyCode::Char('p')), [send("web", b"\x1d")]);
    assert!(pane.in_guest());
}

#[test]
fn modes_of_the_guest_shape_input() {
    let mut pane = connected(80, 24);
    assert_eq!(pane.paste("a\nb"), [send("web", b"a\rb")]);
    pane.output(&target("web"), b"\x1b[?2004h\x1b[?1h\x1b[?1004h");
    assert_eq!(pane.paste("a\nb"), [send("web", b"\x1b[200~a\rb\x1b[201~")]);
    assert_eq!(press(&mut pane, KeyCode::Up), [send("web", b"\x1bOA")]);
    assert_eq!(pane.focus(true), [send("web", b"\x1b[I")]);
}

#[test]
fn questions_of_the_past_stay_unanswered() {
    let question = b"\x1b[6n";
    // Length known.
    let mut pane = pane(80, 24);
    assert_eq!(
        pane.open(target("web")),
        [Request::Connect { target: target("web"), history: HISTORY_BYTES, attempt: 0, force: false }]
    );
    pane.attached(&target("web"), History::Bytes(6));
    assert_eq!(pane.output(&target("web"), b"\nx\x1b["), []);
    assert_eq!(pane.output(&target("web"), b"6n\x1b[6n"), [send("web", b"\x1b[1;2R")], "one of two is live");
    // Length unknown.
    let mut pane = connected(80, 24);
    pane.attached(&target("web"), History::Unknown);
    assert_eq!(pane.output(&target("web"), question), []);
    pane.settled(&target("web"));
    assert_eq!(pane.output(&target("web"), question).len(), 1);
}

#[test]
fn the_screen_survives_a_lost_connection() {
    let mut pane = connected(80, 24);
    pane.output(&target("web"), b"login: ");
    let again = pane.lost(&target("web"), "connection reset\x1b[2J");
    assert_eq!(again, [Request::Connect { target: target("web"), history: HISTORY_BYTES, attempt: 0, force: true }]);
    assert_eq!(
        press(&mut pane, KeyCode::Char('x')),
        [Request::Notice("web is not connected: nothing was sent".into())]
    );
    let shown = screen(&pane);
    assert!(shown.contains("login:"));
    assert!(shown.contains("disconnected, reconnecting: connection"), "{shown}");
    assert!(matches!(&pane.sessions()[0].link, Link::Lost { why, .. } if why == "connection reset\\x1b[2J"));
    assert_eq!(pane.lost(&target("web"), "refused").len(), 1);
    assert!(screen(&pane).contains("disconnected, try 1: refused"));

    // Without history the old screen goes on, with a mark.
    pane.attached(&target("web"), History::None);
    pane.output(&target("web"), b"$ ");
    let shown = screen(&pane);
    assert!(shown.contains("login:") && shown.contains("connected again"), "{shown}");

    // With history it is drawn anew, but not before the history is there.
    pane.lost(&target("web"), "gone");
    pane.attached(&target("web"), History::Bytes(13));
    assert!(screen(&pane).contains("login:"));
    pane.output(&target("web"), b"\nwhole history");
    let shown = screen(&pane);
    assert!(shown.contains("whole history") && !shown.contains("login:"), "{shown}");
}

#[test]
fn a_restart_of_the_guest_leaves_a_mark_and_no_modes() {
    let mut pane = connected(80, 24);
    for phase in ["Stopped", "Pending", "Starting", "Running"] {
        pane.guest_phase(&target("web"), phase);
    }
    assert!(!pane.sessions()[0].emulator.has_text(), "nothing ran before");
    pane.output(&target("web"), b"bye\x1b[?2004h\x1b[?1000h");
    assert!(pane.wants_mouse());
    pane.guest_phase(&target("web"), "Stopping");
    pane.guest_phase(&target("web"), "Starting");
    assert!(!pane.wants_mouse());
    pane.output(&target("web"), b"SeaBIOS");
    pane.guest_phase(&target("web"), "Running");
    let shown = screen(&pane);
    assert!(shown.contains("bye\n guest restarted\nSeaBIOS"), "{shown}");
    pane.guest_phase(&target("web"), "Stopped");
    assert!(screen(&pane).contains("SeaBIOS\n guest stopped\n"));
    assert_eq!(pane.paste("x"), [send("web", b"x")]);
}

#[test]
fn several_consoles_are_tabs() {
    let mut pane = connected(80, 24);
    pane.open(target("db"));
    pane.attached(&target("db"), History::None);
    pane.output(&target("web"), b"news\x07");
    assert!(pane.sessions()[0].unseen);
    assert_eq!(press(&mut pane, KeyCode::Char('d')), [send("db", b"d")]);
    leave(&mut pane);
    press(&mut pane, KeyCode::Tab);
    assert!(!pane.sessions()[0].unseen);
    press(&mut pane, KeyCode::Enter);
    assert_eq!(press(&mut pane, KeyCode::Char('w')), [send("web", b"w")]);
    assert_eq!(pane.open(target("db")), [], "the tab is there already");
    leave(&mut pane);
    assert_eq!(press(&mut pane, KeyCode::Char('x')), [Request::Disconnect(target("db"))]);
    assert_eq!(press(&mut pane, KeyCode::Char('x')), [Request::Disconnect(target("web")), Request::Leave]);
    assert!(pane.is_empty());
}

#[test]
fn read_only_consoles_take_no_input() {
    let mut pane = connected(80, 24);
    leave(&mut pane);
    press(&mut pane, KeyCode::Char('r'));
    press(&mut pane, KeyCode::Enter);
    let notice = Request::Notice("read-only: press ctrl-] and r to type again".into());
    let expected = [notice];
    assert_eq!(press(&mut pane, KeyCode::Char('x')), expected);
    assert_eq!(pane.paste("x"), expected);
    assert!(screen(&pane).contains("read-only"));
}

#[test]
fn scrollback_search_and_copy() {
    let mut pane = connected(40, 6);
    for i in 0..50 {
        pane.output(&target("web"), format!("line {i}\r\n").as_bytes());
    }
    pane.key(KeyEvent::new(KeyCode::PageUp, KeyModifiers::SHIFT));
    assert!(!pane.in_guest());
    let shown = screen(&pane);
    assert!(shown.contains("3 of 47 lines back, 40x4"), "{shown}");
    assert!(shown.contains("line 44\n"), "{shown}");
    for c in "/line 12".chars() {
        press(&mut pane, KeyCode::Char(c));
    }
    press(&mut pane, KeyCode::Enter);
    assert!(screen(&pane).contains("line 12\n"));
    press(&mut pane, KeyCode::Char('g'));
    let copied = press(&mut pane, KeyCode::Char('y'));
    assert_eq!(copied[0], Request::Copy("line 0\nline 1\nline 2\nline 3".into()));
    // Select two words with the keyboard.
    press(&mut pane, KeyCode::Char('v'));
    press(&mut pane, KeyCode::Char('k'));
    for _ in 0..3 {
        press(&mut pane, KeyCode::Right);
    }
    let copied = press(&mut pane, KeyCode::Enter);
    assert_eq!(copied[0], Request::Copy("e 2\nl".into()), "grown upwards from the last line");
    // Typing goes back to the present.
    press(&mut pane, KeyCode::Enter);
    assert!(pane.in_guest());
    assert!(!screen(&pane).contains("lines back"));
}

#[test]
fn the_mouse_selects_unless_the_guest_wants_it() {
    let mut pane = connected(40, 6);
    pane.output(&target("web"), b"hello world");
    let event = |kind, column, row, modifiers| MouseEvent { kind, column, row, modifiers };
    let (down, drag, up) = (
        MouseEventKind::Down(MouseButton::Left),
        MouseEventKind::Drag(MouseButton::Left),
        MouseEventKind::Up(MouseButton::Left),
    );
    pane.mouse(event(down, 6, 1, KeyModifiers::NONE));
    pane.mouse(event(drag, 10, 1, KeyModifiers::NONE));
    assert_eq!(pane.mouse(event(up, 10, 1, KeyModifiers::NONE))[0], Request::Copy("world".into()));
    pane.output(&target("web"), b"\x1b[?1000h\x1b[?1006h");
    assert_eq!(pane.mouse(event(down, 6, 1, KeyModifiers::NONE)), [send("web", b"\x1b[<0;7;1M")]);
    assert_eq!(pane.mouse(event(down, 6, 1, KeyModifiers::SHIFT)), [], "shift is for the user");
    // A click on a tab shows it.
    pane.open(target("db"));
    pane.mouse(event(down, 3, 0, KeyModifiers::NONE));
    assert_eq!(pane.active().map(|s| s.target.name.as_str()), Some("web"));
}

#[test]
fn the_size_is_typed_into_the_guest_on_request() {
    let mut pane = connected(100, 30);
    leave(&mut pane);
    assert_eq!(press(&mut pane, KeyCode::Char('s')), [send("web", b"stty rows 28 cols 100\r")]);
    pane.output(&target("web"), b"\x1b[?1049h");
    leave(&mut pane);
    assert!(matches!(press(&mut pane, KeyCode::Char('s'))[..], [Request::Notice(_)]));
}

#[test]
fn a_guest_cannot_paint_outside_its_screen() {
    let mut pane = pane(40, 8);
    pane.resize(Rect::new(5, 2, 20, 6));
    pane.open(target("web"));
    pane.attached(&target("web"), History::None);
    let hostile = "\x1b[999;999HX\x1b[1;1H日本日本日本日本日本日本\x1b[?7l\x1b[3;19H日👩‍👩‍👧❤\u{fe0f}\x1b]0;\x1b[31mt\x07\u{9b}2J\u{202e}z";
    pane.output(&target("web"), hostile.as_bytes());
    let mut buffer = Buffer::empty(Rect::new(0, 0, 40, 10));
    pane.view(&mut buffer, &Theme::builtin("mono"));
    for y in 0..10 {
        for x in 0..40 {
            let symbol = buffer[(x, y)].symbol();
            if !Rect::new(5, 2, 20, 6).contains((x, y).into()) {
                assert_eq!(symbol, " ", "{x},{y}");
            }
            assert!(symbol.chars().all(|c| !c.is_control() && c != '\u{202e}'), "{symbol:?}");
            let width = unicode_width::UnicodeWidthStr::width(symbol);
            assert!(width == 1 || (width == 2 && x + 1 < 25), "{symbol:?} at {x}");
        }
    }
}

#[test]
fn screens() {
    for (width, height) in [(80, 24), (120, 36)] {
        let mut pane = connected(width, height);
        let boot = std::fs::read(
            std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/console/line-editing/bytes"),
        )
        .unwrap();
        pane.output(&target("web"), &boot);
        pane.output(&target("web"), b"\x1b]0;root@web: ~\x07");
        pane.open(target("db"));
        pane.lost(&target("db"), "HTTP 400: the machine is not running");
        pane.open(target("web"));
        pane.set_viewers(&target("web"), Some("1 more viewer".into()));
        insta::assert_snapshot!(format!("guest-{width}x{height}"), screen(&pane));
        leave(&mut pane);
        insta::assert_snapshot!(format!("pane-{width}x{height}"), screen(&pane));
        press(&mut pane, KeyCode::Tab);
        press(&mut pane, KeyCode::Enter);
        insta::assert_snapshot!(format!("lost-{width}x{height}"), screen(&pane));
    }
    insta::assert_snapshot!("empty", screen(&pane(80, 5)));
}
