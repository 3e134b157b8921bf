//! Every message passes as it came however it is split, and can be cut off and continued anywhere.

use super::client::{ClientFault, ClientStream, Effect};
use super::server::{PixelFormat, ServerFault, ServerStream, encoding};

const TRUE_COLOUR: PixelFormat = PixelFormat([32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0, 0, 0, 0]);
const SIXTEEN_BITS: PixelFormat = PixelFormat([16, 16, 0, 1, 0, 31, 0, 63, 0, 31, 11, 5, 0, 0, 0, 0]);

/// A picture of rectangles.
fn picture(rectangles: &[Vec<u8>]) -> Vec<u8> {
    let count = u16::try_from(rectangles.len()).unwrap().to_be_bytes();
    [&[0, 0], &count[..], &rectangles.concat()].concat()
}

fn rectangle(width: u16, height: u16, encoding: i32, content: &[u8]) -> Vec<u8> {
    let head = [[0; 4], [0; 4]].concat();
    let mut all = head;
    (all[4..6]).copy_from_slice(&width.to_be_bytes());
    (all[6..8]).copy_from_slice(&height.to_be_bytes());
    [&all, &encoding.to_be_bytes()[..], content].concat()
}

/// Of 32-bit pixels, one of each kind that QEMU sends.
fn rectangles() -> Vec<Vec<u8>> {
    use encoding::*;
    vec![
        rectangle(3, 2, RAW, &[7; 24]),
        rectangle(0, 9, RAW, &[]),
        rectangle(5, 5, COPY, &[0, 1, 0, 2]),
        // Four tiles: with background, foreground and two subrectangles; raw; coloured subrectangles; as before.
        rectangle(
            20,
            20,
            HEXTILE,
            &[
                &[0x0e, 1, 1, 1, 1, 2, 2, 2, 2, 2, 0, 0, 1, 1][..],
                &[0x01],
                &[3; 4 * 16 * 4],
                &[0x1a, 1, 1, 1, 1, 1, 9, 9, 9, 9, 0, 0],
                &[0x00],
            ]
            .concat(),
        ),
        rectangle(9, 9, TIGHT, &[0x80, 1, 2, 3]),
        rectangle(9, 9, TIGHT, &[&[0x90, 0x82, 0x01][..], &[5; 130]].concat()),
        // Too little to be compressed; compressed; palette of two; palette; gradient; three bytes of length.
        rectangle(1, 3, TIGHT, &[&[0x00][..], &[4; 9]].concat()),
        rectangle(9, 9, TIGHT, &[&[0x10, 20][..], &[6; 20]].concat()),
        rectangle(16, 4, TIGHT, &[&[0x50, 1, 1][..], &[1; 6], &[8; 8]].concat()),
        rectangle(9, 9, TIGHT, &[&[0x60, 1, 2][..], &[1; 9], &[30], &[8; 30]].concat()),
        rectangle(9, 9, TIGHT, &[&[0x70, 2, 3][..], &[1, 2, 3]].concat()),
        rectangle(200, 200, TIGHT, &[&[0x00, 0x80, 0x80, 0x01][..], &[1; 16_384]].concat()),
        rectangle(2, 2, CURSOR, &[&[1; 16][..], &[0xc0, 0xc0]].concat()),
        rectangle(2, 2, ALPHA_CURSOR, &[&[0; 4][..], &[1; 16]].concat()),
        rectangle(1, 1, POINTER_TYPE, &[]),
        rectangle(0, 0, EXTENDED_KEYS, &[]),
        rectangle(0, 0, AUDIO, &[]),
        rectangle(0, 0, LED_STATE, &[3]),
        rectangle(640, 480, DESKTOP_SIZE, &[]),
        rectangle(800, 600, EXTENDED_DESKTOP_SIZE, &[&[1, 0, 0, 0][..], &[0; 16]].concat()),
    ]
}

/// A session of all messages.
fn everything() -> Vec<u8> {
    let mut all = vec![
        vec![2],
        [&[3, 0, 0, 0, 0, 0, 0, 5][..], b"words"].concat(),
        [&[1, 0, 0, 0, 0, 2][..], &[0; 12]].concat(),
        vec![255, 1, 0, 1],
        [&[255, 1, 0, 2, 0, 0, 0, 4][..], &[9; 4]].concat(),
        vec![255, 1, 0, 0],
        vec![3, 0, 0, 0, 0, 0, 0, 0],
        picture(&[]),
    ];
    all.extend(rectangles().into_iter().map(|one| picture(&[one])));
    all.push(picture(&rectangles()));
    all.concat()
}

fn stream() -> ServerStream {
    ServerStream::new(TRUE_COLOUR, (1024, 768))
}

/// Numbers that look random and are the same each time.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit as u64).unwrap()
    }
}

#[test]
fn everything_passes_however_it_is_split() {
    let all = everything();
    let mut numbers = Numbers(42);
    for round in 0..200 {
        let longest = [1, 3, 20, 700, 40_000][round % 5];
        let (mut server, mut out, mut rest) = (stream(), Vec::new(), &all[..]);
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(1 + numbers.below(longest)));
            server.push(now, &mut out).unwrap();
            rest = later;
        }
        assert!(out == all, "round {round}: pieces of at most {longest} bytes change the stream");
        assert_eq!(server.size(), (800, 600));
        assert!(server.take_pictured());
    }
}

#[test]
fn a_session_can_be_cut_anywhere_and_continued() {
    let all = everything();
    let after = [picture(&[rectangle(9, 9, encoding::TIGHT, &[0x80, 1, 2, 3])]), vec![2]].concat();
    let mut numbers = Numbers(7);
    // Every place of the short messages, some of the long ones.
    let places = (0..2000).chain((0..500).map(|_| numbers.below(all.len())));
    for place in places {
        let (mut server, mut out) = (stream(), Vec::new());
        server.push(&all[..place], &mut out).unwrap();
        server.cut(&mut out);
        server.push(&after, &mut out).unwrap();
        // A viewer that follows from the beginning finds whole messages and then the new server's.
        let (mut viewer, mut seen) = (stream(), Vec::new());
        viewer.push(&out, &mut seen).unwrap_or_else(|e| panic!("cut at {place}: {e}"));
        assert!(seen == out, "cut at {place}: the viewer waits for more");
        let control = out[out.len() - 5];
        assert_eq!(control, 0x8f, "cut at {place}: compression begins anew");
        let mut end = Vec::new();
        viewer.cut(&mut end);
        assert!(end.is_empty(), "cut at {place}: not at a border");
    }
}

#[test]
fn only_the_first_compressed_part_begins_anew() {
    let one = picture(&[rectangle(9, 9, encoding::TIGHT, &[0x10, 1, 2])]);
    let (mut server, mut out) = (stream(), Vec::new());
    server.push(&one, &mut out).unwrap();
    assert_eq!(out, one, "a first session needs nothing");
    server.cut(&mut out);
    out.clear();
    server.push(&one, &mut out).unwrap();
    server.push(&one, &mut out).unwrap();
    assert_eq!((out[16], out[16 + one.len()]), (0x1f, 0x10));
}

#[test]
fn another_format_counts_from_the_next_message_on() {
    let (mut server, mut out) = (stream(), Vec::new());
    let wide = picture(&[rectangle(2, 1, encoding::RAW, &[1; 8])]);
    let narrow = picture(&[rectangle(2, 1, encoding::RAW, &[1; 4]), rectangle(8, 8, encoding::TIGHT, &[0x80, 1, 2])]);
    server.push(&wide[..20], &mut out).unwrap();
    server.set_format(SIXTEEN_BITS);
    server.push(&wide[20..], &mut out).unwrap();
    server.push(&narrow, &mut out).unwrap();
    assert_eq!(out, [wide, narrow].concat());
    let mut end = Vec::new();
    server.cut(&mut end);
    assert!(end.is_empty());
}

#[test]
fn hostile_servers_are_left() {
    use ServerFault::*;
    let cases: [(Vec<u8>, ServerFault); 9] = [
        (vec![4], Message(4)),
        (vec![255, 0], Message(255)),
        (vec![255, 1, 0, 3], Message(255)),
        (vec![3, 0, 0, 0, 0x7f, 0, 0, 0], TooLarge),
        (picture(&[rectangle(1, 1, 16, &[])]), Encoding(16)),
        (picture(&[rectangle(1, 1, encoding::TIGHT, &[0xa0])]), Encoding(encoding::TIGHT)),
        (picture(&[rectangle(65_535, 65_535, encoding::RAW, &[])]), TooLarge),
        (picture(&[rectangle(65_535, 65_535, encoding::TIGHT, &[0])]), TooLarge),
        (picture(&[rectangle(65_535, 65_535, encoding::CURSOR, &[])]), TooLarge),
    ];
    for (bytes, fault) in cases {
        assert_eq!(stream().push(&bytes, &mut Vec::new()), Err(fault), "{bytes:?}");
    }
    // Noise: no panic, nothing kept without bound.
    let mut numbers = Numbers(99);
    for _ in 0..20_000 {
        let length = 1 + numbers.below(40);
        let mut noise: Vec<u8> = (0..length).map(|_| u8::try_from(numbers.below(256)).unwrap()).collect();
        noise[0] = [0, 0, 0, 1, 3, 255][numbers.below(6)];
        let (mut server, mut out) = (stream(), Vec::new());
        if server.push(&noise, &mut out).is_ok() {
            server.cut(&mut out);
        }
        let mut viewer = ClientStream::new(TRUE_COLOUR);
        let _ = viewer.push(&noise, (10, 10), &mut out);
    }
}

fn encodings(all: &[i32]) -> Vec<u8> {
    let count = u16::try_from(all.len()).unwrap().to_be_bytes();
    [&[2, 0], &count[..], &all.iter().flat_map(|one| one.to_be_bytes()).collect::<Vec<_>>()].concat()
}

#[test]
fn a_viewer_is_told_what_can_be_continued_and_its_state_is_replayed() {
    let size = (640, 480);
    let mut viewer = ClientStream::new(TRUE_COLOUR);
    let mut out = Vec::new();
    let mut format = vec![0, 0, 0, 0];
    format.extend_from_slice(&SIXTEEN_BITS.0);
    let wanted = encodings(&[7, 16, 6, 5, 0, -223, -260, -250, -30, 0x574d_5669]);
    let kept = encodings(&[7, 5, 0, -223, -250, -30]);
    let ask = vec![3, 1, 0, 0, 0, 0, 0, 9, 0, 9];
    let shift = vec![4, 1, 0, 0, 0, 0, 0xff, 0xe1];
    let (a_down, a_up) = (vec![4, 1, 0, 0, 0, 0, 0, 0x61], vec![4, 0, 0, 0, 0, 0, 0, 0x61]);
    let extended = vec![255, 0, 0, 1, 0, 0, 0, 0x41, 0, 0, 0, 0x1e];
    let button = vec![5, 1, 0, 10, 0, 20];
    let text = [&[6, 0, 0, 0, 0, 0, 0, 2][..], b"hi"].concat();
    let resize = [&[251, 0, 0, 9, 0, 9, 1, 0][..], &[0; 16]].concat();
    let sent = [&format, &wanted, &ask, &shift, &a_down, &a_up, &extended, &button, &text, &resize]
        .map(|v| v.clone())
        .concat();
    // In pieces: nothing is passed on before it is whole.
    let mut effects = Vec::new();
    for byte in &sent {
        effects.push(viewer.push(&[*byte], size, &mut out).unwrap());
    }
    assert_eq!(effects.iter().filter(|e| **e != Effect::None).collect::<Vec<_>>(), [&Effect::Format(SIXTEEN_BITS)]);
    let passed = [&format, &kept, &ask, &shift, &a_down, &a_up, &extended, &button, &text, &resize];
    assert_eq!(out, passed.map(|v| v.clone()).concat());

    // It waits for a picture: the next server is asked for all of it at once.
    let full = vec![3, 0, 0, 0, 0, 0, 2, 0x80, 1, 0xe0];
    assert_eq!(viewer.replay(size), [&format, &kept, &shift, &extended, &button, &full].map(|v| v.clone()).concat());
    // It does not: its next request is made one for all of it.
    viewer.pictured();
    assert_eq!(viewer.replay(size), [&format, &kept, &shift, &extended, &button].map(|v| v.clone()).concat());
    out.clear();
    let release = vec![5, 0, 0, 10, 0, 20];
    viewer.push(&[ask.clone(), ask.clone(), release].concat(), size, &mut out).unwrap();
    assert_eq!(out, [full.clone(), ask, vec![5, 0, 0, 10, 0, 20]].concat());
    assert_eq!(viewer.replay(size), [&format, &kept, &shift, &extended, &full].map(|v| v.clone()).concat());

    let told = viewer.resize((800, 600)).unwrap();
    let mut server = ServerStream::new(SIXTEEN_BITS, size);
    server.push(&told, &mut Vec::new()).unwrap();
    assert_eq!(server.size(), (800, 600));
}

#[test]
fn sizes_are_followed_by_viewers_that_can() {
    for (wanted, can) in [(vec![], false), (vec![0, 7], false), (vec![-223], true), (vec![-223, -308], true)] {
        let mut viewer = ClientStream::new(TRUE_COLOUR);
        viewer.push(&encodings(&wanted), (1, 1), &mut Vec::new()).unwrap();
        let told = viewer.resize((3, 4));
        assert_eq!(told.is_some(), can, "{wanted:?}");
        if let Some(told) = told {
            let (mut server, mut out) = (stream(), Vec::new());
            server.push(&told, &mut out).unwrap();
            assert_eq!((server.size(), out), ((3, 4), told), "{wanted:?}");
        }
    }
}

#[test]
fn hostile_viewers_are_left() {
    for (bytes, fault) in [
        (vec![9], ClientFault::Message(9)),
        (vec![255, 9], ClientFault::Message(255)),
        (vec![6, 0, 0, 0, 0x7f, 0, 0, 0], ClientFault::TooLarge),
    ] {
        let mut viewer = ClientStream::new(TRUE_COLOUR);
        assert_eq!(viewer.push(&bytes, (1, 1), &mut Vec::new()), Err(fault), "{bytes:?}");
    }
}
