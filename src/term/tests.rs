//! The emulator against recordings, split inputs and hostile bytes.

use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::*;

fn screen(columns: u16, rows: u16, bytes: &[u8]) -> Emulator {
    let mut emulator = Emulator::new(Size { columns, rows }, 100);
    emulator.feed(bytes);
    emulator
}

fn frame(emulator: &mut Emulator) -> Frame {
    let mut frame = Frame::default();
    emulator.copy_frame(&mut frame);
    frame
}

fn text(columns: u16, rows: u16, bytes: &str) -> String {
    frame(&mut screen(columns, rows, bytes.as_bytes())).text()
}

/// The grid as it is written in `expected.txt`: rows of text, then cursor, then attribute runs.
fn describe(frame: &Frame) -> String {
    let mut out = frame.text();
    match frame.cursor {
        Some(c) => out.push_str(&format!("cursor {},{} {:?}\n", c.row, c.column, c.shape)),
        None => out.push_str("cursor hidden\n"),
    }
    for row in 0..frame.rows() {
        let mut run: Option<(usize, &Cell)> = None;
        let cells = frame.row(row);
        for column in 0..=cells.len() {
            let cell = cells.get(column);
            let same = matches!((run, cell), (Some((_, a)), Some(b)) if same_look(a, b));
            if same {
                continue;
            }
            if let Some((start, look)) = run.filter(|(_, look)| !same_look(look, &Cell::default())) {
                let look = format!("{:?}/{:?} {}", look.foreground, look.background, attributes(look));
                out.push_str(&format!("{row}:{start}-{} {}\n", column - 1, look.trim_end()));
            }
            run = cell.map(|c| (column, c));
        }
    }
    out.push_str(&format!("history {}\n", frame.history));
    out
}

fn same_look(a: &Cell, b: &Cell) -> bool {
    (a.foreground, a.background, a.attributes) == (b.foreground, b.background, b.attributes)
}

fn attributes(cell: &Cell) -> String {
    let a = cell.attributes;
    [
        (a.bold, "bold"),
        (a.dim, "dim"),
        (a.italic, "italic"),
        (a.underline, "underline"),
        (a.inverse, "inverse"),
        (a.hidden, "hidden"),
        (a.strikeout, "strikeout"),
    ]
    .into_iter()
    .filter_map(|(on, word)| on.then_some(word))
    .collect::<Vec<_>>()
    .join(" ")
}

struct Recording {
    directory: PathBuf,
    bytes: Vec<u8>,
    size: Size,
}

/// `tests/fixtures/console/<name>/`: `bytes` (raw), `size` ("COLUMNS ROWS"), `expected.txt`.
fn recordings() -> Vec<Recording> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/console");
    let mut found: Vec<Recording> = std::fs::read_dir(&root)
        .unwrap()
        .map(|entry| {
            let directory = entry.unwrap().path();
            let size = std::fs::read_to_string(directory.join("size")).unwrap();
            let (columns, rows) = size.trim().split_once(' ').unwrap();
            Recording {
                bytes: std::fs::read(directory.join("bytes")).unwrap(),
                size: Size { columns: columns.parse().unwrap(), rows: rows.parse().unwrap() },
                directory,
            }
        })
        .collect();
    found.sort_by(|a, b| a.directory.cmp(&b.directory));
    found
}

#[test]
fn recordings_give_their_screens() {
    let update = std::env::var_os("UPDATE_EXPECT").is_some();
    let recordings = recordings();
    assert!(recordings.len() >= 6);
    for recording in recordings {
        let mut emulator = Emulator::new(recording.size, 1000);
        emulator.feed(&recording.bytes);
        let got = describe(&frame(&mut emulator));
        let path = recording.directory.join("expected.txt");
        if update {
            std::fs::write(&path, &got).unwrap();
        }
        let expected = std::fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(got, expected, "{}; UPDATE_EXPECT=1 writes it anew", recording.directory.display());
    }
}

#[test]
fn a_recording_split_anywhere_gives_the_same_screen() {
    for recording in recordings() {
        let mut whole = Emulator::new(recording.size, 1000);
        whole.feed(&recording.bytes);
        let expected = frame(&mut whole);
        let mut single = Emulator::new(recording.size, 1000);
        for byte in &recording.bytes {
            single.feed(std::slice::from_ref(byte));
        }
        assert_eq!(frame(&mut single), expected, "byte by byte: {}", recording.directory.display());
        // Every boundary, on the part where sequences are dense.
        let head = &recording.bytes[..recording.bytes.len().min(600)];
        let mut whole = Emulator::new(recording.size, 1000);
        whole.feed(head);
        let expected = frame(&mut whole);
        for at in 0..head.len() {
            let mut halves = Emulator::new(recording.size, 1000);
            halves.feed(&head[..at]);
            halves.feed(&head[at..]);
            assert_eq!(frame(&mut halves), expected, "at {at}: {}", recording.directory.display());
        }
    }
}

#[test]
fn wrapping_is_deferred_at_the_last_column() {
    assert_eq!(text(5, 3, "abcde\rX"), "Xbcde\n\n\n");
    assert_eq!(text(5, 3, "abcde\r\nX"), "abcde\nX\n\n");
    assert_eq!(text(5, 3, "abcdeX"), "abcde\nX\n\n");
    assert_eq!(text(5, 3, "\x1b[?7labcdeX"), "abcdX\n\n\n");
}

#[test]
fn wide_and_combining_characters_keep_their_cells() {
    let mut e = screen(6, 2, "日本e\u{301}x".as_bytes());
    let f = frame(&mut e);
    assert_eq!(f.text(), "日本e\u{301}x\n\n");
    assert!(f.row(0)[0].wide);
    assert_eq!(f.row(0)[1].text, frame::Text::Empty);
    assert_eq!(f.row(0)[4].text, frame::Text::Many("e\u{301}".into()));
    assert_eq!(f.cursor.map(|c| c.column), Some(5), "the last column, wrap pending");
    assert_eq!(text(3, 2, "a日b"), "a日\nb\n");
    assert_eq!(text(3, 2, "ab日"), "ab\n日\n");
}

#[test]
fn the_alternate_screen_gives_the_first_one_back() {
    let mut e = screen(20, 3, b"shell\x1b[?1049h\x1b[2Jeditor");
    assert!(frame(&mut e).text().contains("editor"));
    assert!(e.modes().alternate_screen);
    e.feed(b"\x1b[?1049l");
    assert_eq!(frame(&mut e).text(), "shell\n\n\n");
}

#[test]
fn scroll_regions_hold_the_rest_still() {
    assert_eq!(text(4, 4, "top\r\na\r\nb\r\nend\x1b[2;3r\x1b[3;1H\nnew"), "top\nb\nnew\nend\n");
    assert_eq!(text(4, 4, "top\r\na\r\nb\r\nend\x1b[2;3r\x1b[2;1H\x1bM"), "top\n\na\nend\n");
}

#[test]
fn a_resize_lays_wrapped_lines_out_anew() {
    let mut e = screen(5, 3, b"abcdefgh");
    assert_eq!(frame(&mut e).text(), "abcde\nfgh\n\n");
    e.resize(Size { columns: 10, rows: 3 });
    assert_eq!(frame(&mut e).text(), "abcdefgh\n\n\n");
    e.resize(Size { columns: 4, rows: 3 });
    assert_eq!(e.whole_text(), "abcdefgh");
    assert!(frame(&mut e).text().contains("efgh"), "the cursor's line stays in view");
    e.resize(Size { columns: 0, rows: 0 });
    assert_eq!(e.size(), Size { columns: 2, rows: 1 });
}

#[test]
fn questions_are_answered_live_and_only_live() {
    let questions = b"ab\x1b[6n\x1b[c\x1b[>c\x1b[5n\x07\x1b]0;title\x07";
    let mut e = screen(10, 3, b"");
    let out = e.feed(questions);
    let replies = String::from_utf8(out.replies).unwrap();
    assert!(replies.starts_with("\x1b[1;3R\x1b[?6c\x1b[>0;"), "{replies:?}");
    assert!(replies.ends_with("\x1b[0n"));
    assert!(out.bell);
    assert_eq!(out.title.as_deref(), Some("title"));

    let mut e = screen(10, 3, b"");
    assert_eq!(e.replay(questions, ReplayFrom::Boundary).as_deref(), Some("title"));
    assert_eq!(e.feed(b"x"), Output::default(), "nothing is left over from the replay");
}

#[test]
fn a_flood_of_questions_gets_a_bounded_answer() {
    let mut e = screen(10, 3, b"");
    assert!(e.feed(&b"\x1b[6n".repeat(10_000)).replies.len() <= 4096);
}

#[test]
fn guests_cannot_reach_the_clipboard_or_the_palette_and_titles_are_plain() {
    let mut e = screen(20, 3, b"");
    let hostile = b"\x1b]52;c;cm0gLXJmIC8=\x07\x1b]52;c;?\x07\x1b]4;1;rgb:00/00/00\x07\x1b]10;?\x07\x1b]8;;file:///x\x07y\x1b]8;;\x07";
    assert_eq!(e.feed(hostile), Output::default());
    let title = e.feed("\x1b]2;a\u{202e}b\u{9b}c\x07".as_bytes()).title;
    assert_eq!(title.as_deref(), Some("abc"));
    let long = format!("\x1b]2;{}\x07", "t".repeat(5000));
    assert_eq!(e.feed(long.as_bytes()).title.map(|t| t.len()), Some(120));
    // A guest that pushes titles for ever is not remembered.
    assert_eq!(e.feed(&b"\x1b[22t\x1b[23t".repeat(10_000)), Output::default());
}

#[test]
fn cells_never_hold_characters_that_act_on_the_users_terminal() {
    let mut e = screen(20, 2, "a\u{202e}b\tc\u{7f}\u{85}\u{9b}d\u{200b}\u{feff}".as_bytes());
    let f = frame(&mut e);
    assert_eq!(f.text(), "ab      cd\n\n");
    let marks = format!("e{}", "\u{301}".repeat(500));
    let mut e = screen(20, 2, marks.as_bytes());
    frame(&mut e).row(0)[0].text.with(|t| assert!(t.chars().count() <= 7));
}

#[test]
fn repeats_cost_a_bounded_amount() {
    let mut e = screen(80, 24, b"x");
    // Unrationed these would be half a billion characters.
    e.feed(&b"\x1b[65535b".repeat(8 * 1024));
    assert_eq!(text(10, 2, "ab\x1b[3b"), "abbbb\n\n");
}

#[test]
fn history_that_starts_in_the_middle_shows_no_debris() {
    let cases: &[(&[u8], &str)] = &[
        (b"1;31mhello\r\nworld", "world"),
        (b";5H\x1b[1;1Hworld", "world"),
        (b"\xa5\x9c\r\nworld", "world"),
        (b"tle\x07junk\x1b[Hworld", "world"),
        (b"\nworld", "world"),
    ];
    for (bytes, expected) in cases {
        let mut e = Emulator::new(Size { columns: 20, rows: 2 }, 100);
        e.replay(bytes, ReplayFrom::MidStream);
        assert_eq!(frame(&mut e).text().trim(), *expected, "{}", bytes.escape_ascii());
    }
    let mut e = Emulator::new(Size { columns: 20, rows: 2 }, 100);
    e.replay(b"31mhello", ReplayFrom::Boundary);
    assert_eq!(frame(&mut e).text().trim(), "31mhello");
}

#[test]
fn scrollback_moves_the_view_and_keeps_still_while_output_comes() {
    let mut e = screen(10, 2, b"1\r\n2\r\n3\r\n4\r\n5");
    assert_eq!(e.history(), 3);
    e.scroll(2);
    assert_eq!(frame(&mut e).text(), "2\n3\n");
    assert_eq!(frame(&mut e).cursor, None);
    e.feed(b"\r\n6");
    assert_eq!(frame(&mut e).text(), "2\n3\n");
    assert_eq!(e.scrolled_back(), 3);
    e.scroll_to_top();
    assert_eq!(frame(&mut e).text(), "1\n2\n");
    e.scroll_to_bottom();
    assert_eq!(frame(&mut e).text(), "5\n6\n");
}

#[test]
fn selections_become_text() {
    let mut e = screen(5, 4, b"abcdefg\r\nhi  \r\njk");
    e.select(ViewPoint { row: 0, column: 1 }, SelectionKind::Characters);
    e.select_to(ViewPoint { row: 1, column: 0 });
    assert_eq!(e.selected_text().as_deref(), Some("bcdef"), "a wrapped line is one line");
    assert!(frame(&mut e).row(0)[1].selected && !frame(&mut e).row(0)[0].selected);
    e.select(ViewPoint { row: 2, column: 0 }, SelectionKind::Lines);
    e.select_to(ViewPoint { row: 3, column: 0 });
    assert_eq!(e.selected_text().as_deref(), Some("hi\njk"));
    e.select(ViewPoint { row: 0, column: 2 }, SelectionKind::Words);
    assert_eq!(e.selected_text().as_deref(), Some("abcdefg"));
    e.select(ViewPoint { row: 0, column: 1 }, SelectionKind::Block);
    e.select_to(ViewPoint { row: 1, column: 1 });
    assert_eq!(e.selected_text().as_deref(), Some("b\ng"));
    e.clear_selection();
    assert_eq!(e.selected_text(), None);
    assert_eq!(e.visible_text(), "abcdefg\nhi\njk");
}

#[test]
fn search_finds_in_scrollback_and_marks_matches() {
    let mut e = Emulator::new(Size { columns: 10, rows: 3 }, 100);
    for i in 0..20 {
        e.feed(format!("line {i}\r\n").as_bytes());
    }
    assert_eq!(e.search("LINE 3", SearchDirection::Older), Ok(SearchOutcome::Nothing), "capitals are meant");
    assert_eq!(e.search("line 3", SearchDirection::Older), Ok(SearchOutcome::Found));
    let f = frame(&mut e);
    assert!(f.text().contains("line 3"), "{}", f.text());
    assert_eq!(f.cells.iter().filter(|c| c.matched).count(), 6);
    assert_eq!(e.search_again(SearchDirection::Older), SearchOutcome::Wrapped, "it is the only one");
    assert_eq!(e.search("line 1", SearchDirection::Older), Ok(SearchOutcome::Found));
    e.scroll_to_bottom();
    assert!(e.search("a[b", SearchDirection::Newer).is_ok(), "the text is literal");
    e.end_search();
    assert_eq!(frame(&mut e).cells.iter().filter(|c| c.matched).count(), 0);
}

#[test]
fn an_interrupted_guest_leaves_its_modes_behind() {
    let mut e = screen(30, 4, b"login: x\x1b[?1049h\x1b[?1000h\x1b[?2004h\x1b[?1h\x1b[2;3r\x1b[31m\x1b[?25lvim\x1b[12");
    e.interrupt("guest restarted");
    let f = frame(&mut e);
    assert_eq!(f.text(), "login: x\n guest restarted\n\n\n");
    assert_eq!(e.modes(), Modes { alternate_scroll: true, ..Modes::default() });
    assert!(f.cursor.is_some_and(|c| (c.row, c.column) == (2, 0)));
    e.feed(b"next");
    assert_eq!(frame(&mut e).row(2)[0].foreground, Color::Default);

    let mut full = screen(20, 2, b"a\r\nb\r\nc");
    full.interrupt("cut");
    assert_eq!(full.whole_text(), "a\nb\nc\n cut");
}

/// Bytes that look like terminal traffic more often than random ones do.
fn traffic() -> impl Strategy<Value = Vec<u8>> {
    let number = prop_oneof![0u32..90, Just(65_535), Just(99_999_999)];
    let csi = (prop::collection::vec(number, 0..4), "[?>!]{0,1}", "[@-~]").prop_map(|(numbers, mark, last)| {
        let numbers: Vec<String> = numbers.iter().map(u32::to_string).collect();
        format!("\x1b[{mark}{}{last}", numbers.join(";")).into_bytes()
    });
    let piece = prop_oneof![
        4 => csi,
        1 => prop::sample::select(vec![
            "\x1b[?1049h", "\x1b[?1049l", "\x1b[?6h", "\x1b[4h", "\x1b[?7l", "\x1b[?7h", "\x1bc", "\x1b#8", "\x1bM",
            "\x1b7", "\x1b8", "\x1bH", "\x1b(0", "\x0e", "\t", "\x08", "\r\n", "\n\n\n", "\x1b]0;t\x07", "\x1bP1q\x1b\\",
            "日本", "e\u{301}", "👩‍👩‍👧", "\u{fe0f}",
        ]).prop_map(|s| s.as_bytes().to_vec()),
        2 => "[ -~]{1,30}".prop_map(String::into_bytes),
        1 => prop::collection::vec(any::<u8>(), 1..20),
    ];
    prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_bytes_make_it_panic(
        bytes in traffic(),
        sizes in prop::collection::vec((0u16..120, 0u16..50), 1..4),
        scroll in -50i32..50,
    ) {
        let mut e = Emulator::new(Size::clamped(sizes[0].0, sizes[0].1), 50);
        let step = bytes.len() / sizes.len() + 1;
        for (chunk, (columns, rows)) in bytes.chunks(step).zip(&sizes) {
            e.feed(chunk);
            e.resize(Size { columns: *columns, rows: *rows });
            e.scroll(scroll);
            e.select(ViewPoint { row: *rows, column: *columns }, SelectionKind::Words);
            e.select_to(ViewPoint { row: rows / 2, column: columns / 3 });
            let _ = e.selected_text();
            let _ = e.search("a", SearchDirection::Older);
            let f = frame(&mut e);
            prop_assert_eq!(f.cells.len(), usize::from(f.columns()) * usize::from(f.rows()));
            for cell in &f.cells {
                cell.text.with(|t| assert!(t.chars().all(|c| !guard::is_hazardous(c))));
            }
            let _ = e.whole_text();
        }
        e.interrupt("note");
    }

    #[test]
    fn splitting_changes_nothing(bytes in traffic(), at in any::<prop::sample::Index>()) {
        let mut whole = screen(20, 6, &bytes);
        let at = at.index(bytes.len() + 1);
        let mut halves = screen(20, 6, &bytes[..at]);
        halves.feed(&bytes[at..]);
        prop_assert_eq!(frame(&mut whole), frame(&mut halves));
    }
}

/// Prints what 10,000 lines of history cost; run with `--ignored --nocapture`.
#[test]
#[ignore = "a measurement, not a check: make bench runs it"]
fn history_memory() {
    fn resident() -> usize {
        let text = std::fs::read_to_string("/proc/self/statm").unwrap();
        text.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 4096
    }
    let before = resident();
    let mut e = Emulator::new(Size { columns: 80, rows: 24 }, 10_000);
    for i in 0..10_100 {
        e.feed(format!("[{i:>12}] a line of a boot log that is about as long as they are\r\n").as_bytes());
    }
    println!("{} lines: {} KiB", e.history(), (resident() - before) / 1024);
}
