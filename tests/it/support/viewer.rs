//! A viewer of a machine's screen: speaks RFB, keeps the picture, types.

use std::io::{BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use flate2::{Decompress, FlushDecompress};

use super::{SOON, World};

/// Encodings of rectangles.
pub const HEXTILE: i32 = 5;
/// With streams of compressed data that last as long as the session.
pub const TIGHT: i32 = 7;
const DESKTOP_SIZE: i32 = -223;

/// A picture, three bytes a pixel.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Picture {
    pub width: usize,
    pub height: usize,
    pub pixels: Vec<u8>,
}

impl Picture {
    fn resize(&mut self, width: usize, height: usize) {
        *self = Self { width, height, pixels: vec![0; width * height * 3] };
    }

    fn set(&mut self, x: usize, y: usize, colour: [u8; 3]) {
        let at = (y * self.width + x) * 3;
        self.pixels[at..at + 3].copy_from_slice(&colour);
    }

    fn fill(&mut self, (x, y, width, height): Area, colour: [u8; 3]) {
        for row in y..y + height {
            for column in x..x + width {
                self.set(column, row, colour);
            }
        }
    }
}

type Area = (usize, usize, usize, usize);

/// A session with a screen through `vmdeck vnc --proxy-only`.
pub struct Viewer {
    proxy: Child,
    stream: TcpStream,
    picture: Arc<Mutex<Picture>>,
    thread: Option<std::thread::JoinHandle<String>>,
}

impl Viewer {
    /// Opens a session that prefers an encoding.
    pub fn open(world: &World, machine: &str, encoding: i32) -> Self {
        let mut proxy = world
            .command(&["vnc", machine, "--proxy-only"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        std::io::BufRead::read_line(&mut BufReader::new(proxy.stdout.take().unwrap()), &mut line).unwrap();
        let told: serde_json::Value = serde_json::from_str(&line).unwrap();
        let port = u16::try_from(told["port"].as_u64().unwrap()).unwrap();
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        let (width, height) = greet(&mut stream);
        stream.set_read_timeout(None).unwrap();
        // 32 bits: blue, green, red, nothing.
        stream.write_all(&[0, 0, 0, 0, 32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0, 0, 0, 0]).unwrap();
        let mut wanted = vec![2, 0, 0, 2];
        wanted.extend([encoding, DESKTOP_SIZE].iter().flat_map(|e| e.to_be_bytes()));
        stream.write_all(&wanted).unwrap();
        let picture = Arc::new(Mutex::new(Picture::default()));
        picture.lock().unwrap().resize(width, height);
        let follow = Follow {
            from: BufReader::new(stream.try_clone().unwrap()),
            to: stream.try_clone().unwrap(),
            picture: picture.clone(),
            streams: std::array::from_fn(|_| Decompress::new(true)),
        };
        let thread = std::thread::spawn(move || follow.run().unwrap_err().to_string());
        Self { proxy, stream, picture, thread: Some(thread) }
    }

    /// A key goes down or up; by its symbol.
    pub fn key(&mut self, symbol: u32, down: bool) {
        let symbol = symbol.to_be_bytes();
        let message = [&[4, u8::from(down), 0, 0], &symbol[..]].concat();
        self.stream.write_all(&message).unwrap();
    }

    /// Waits until it shows what QEMU itself says is on the screen.
    pub fn shows_the_screen(&mut self, world: &World, what: &str) {
        let deadline = Instant::now() + SOON;
        loop {
            if self.thread.as_ref().is_some_and(std::thread::JoinHandle::is_finished) {
                let why = self.thread.take().unwrap().join().unwrap_or_else(|_| "a broken stream".to_owned());
                panic!("{what}: the session ended: {why}\n{}", world.log_tail());
            }
            let truth = world.screen_shot();
            let mine = self.picture.lock().unwrap().clone();
            let lit = truth.pixels.iter().any(|byte| *byte > 0);
            if lit && truth == mine {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "{what}: the viewer shows another picture ({}x{} for {}x{}, lit: {lit})",
                mine.width,
                mine.height,
                truth.width,
                truth.height
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Viewer {
    fn drop(&mut self) {
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
        let _ = self.proxy.kill();
        let _ = self.proxy.wait();
    }
}

fn greet(stream: &mut TcpStream) -> (usize, usize) {
    let mut bytes = |count: usize, answer: &[u8]| {
        let mut got = vec![0; count];
        stream.read_exact(&mut got).unwrap();
        stream.write_all(answer).unwrap();
        got
    };
    assert_eq!(bytes(12, b"RFB 003.008\n"), b"RFB 003.008\n");
    assert_eq!(bytes(2, &[1]), [1, 1]);
    assert_eq!(bytes(4, &[1]), [0; 4]);
    let head = bytes(24, &[]);
    let number = |at: usize| usize::from(head[at]) << 8 | usize::from(head[at + 1]);
    bytes(number(22), &[]);
    (number(0), number(2))
}

/// The reading half: asks for changes and draws them.
struct Follow {
    from: BufReader<TcpStream>,
    to: TcpStream,
    picture: Arc<Mutex<Picture>>,
    streams: [Decompress; 4],
}

impl Follow {
    fn bytes<const N: usize>(&mut self) -> std::io::Result<[u8; N]> {
        let mut got = [0; N];
        self.from.read_exact(&mut got)?;
        Ok(got)
    }

    fn many(&mut self, count: usize) -> std::io::Result<Vec<u8>> {
        let mut got = vec![0; count];
        self.from.read_exact(&mut got)?;
        Ok(got)
    }

    fn run(mut self) -> std::io::Result<std::convert::Infallible> {
        let mut incremental = 0;
        loop {
            let size = {
                let picture = self.picture.lock().unwrap();
                [picture.width, picture.height].map(|n| u16::try_from(n).unwrap().to_be_bytes())
            };
            self.to.write_all(&[&[3, incremental, 0, 0, 0, 0], &size[0][..], &size[1][..]].concat())?;
            incremental = 1;
            let [kind, _] = self.bytes()?;
            assert_eq!(kind, 0, "only pictures are expected");
            for _ in 0..u16::from_be_bytes(self.bytes()?) {
                let head: [u8; 12] = self.bytes()?;
                let number = |at: usize| usize::from(head[at]) << 8 | usize::from(head[at + 1]);
                let area = (number(0), number(2), number(4), number(6));
                match i32::from_be_bytes([head[8], head[9], head[10], head[11]]) {
                    0 => {
                        let pixels = self.many(area.2 * area.3 * 4)?;
                        self.draw(area, &pixels, 4);
                    }
                    HEXTILE => self.hextile(area)?,
                    TIGHT => self.tight(area)?,
                    DESKTOP_SIZE => {
                        self.picture.lock().unwrap().resize(area.2, area.3);
                        incremental = 0;
                    }
                    other => panic!("the encoding {other} was not asked for"),
                }
            }
        }
    }

    /// Draws pixels of four bytes (blue first) or three (red first).
    fn draw(&self, (x, y, width, _): Area, pixels: &[u8], bytes: usize) {
        let mut picture = self.picture.lock().unwrap();
        for (index, pixel) in pixels.chunks_exact(bytes).enumerate() {
            let colour = if bytes == 4 { bgr(pixel) } else { [pixel[0], pixel[1], pixel[2]] };
            picture.set(x + index % width, y + index / width, colour);
        }
    }

    fn hextile(&mut self, (x, y, width, height): Area) -> std::io::Result<()> {
        let (mut background, mut foreground) = ([0; 3], [0; 3]);
        for top in (y..y + height).step_by(16) {
            for left in (x..x + width).step_by(16) {
                let tile = (left, top, (x + width - left).min(16), (y + height - top).min(16));
                let [flags] = self.bytes()?;
                if flags & 1 != 0 {
                    let pixels = self.many(tile.2 * tile.3 * 4)?;
                    self.draw(tile, &pixels, 4);
                    continue;
                }
                if flags & 2 != 0 {
                    background = bgr(&self.bytes::<4>()?);
                }
                if flags & 4 != 0 {
                    foreground = bgr(&self.bytes::<4>()?);
                }
                self.picture.lock().unwrap().fill(tile, background);
                let count = if flags & 8 != 0 { self.bytes::<1>()?[0] } else { 0 };
                for _ in 0..count {
                    let colour = if flags & 16 != 0 { bgr(&self.bytes::<4>()?) } else { foreground };
                    let [place, extent] = self.bytes()?.map(usize::from);
                    let part = (left + (place >> 4), top + (place & 15), (extent >> 4) + 1, (extent & 15) + 1);
                    self.picture.lock().unwrap().fill(part, colour);
                }
            }
        }
        Ok(())
    }

    fn tight(&mut self, area: Area) -> std::io::Result<()> {
        let (_, _, width, height) = area;
        let [control] = self.bytes()?;
        for (index, stream) in self.streams.iter_mut().enumerate() {
            if control & (1 << index) != 0 {
                *stream = Decompress::new(true);
            }
        }
        if control >> 4 == 8 {
            let colour = self.bytes()?;
            self.picture.lock().unwrap().fill(area, colour);
            return Ok(());
        }
        assert!(control < 0x80, "no JPEG was asked for");
        let stream = usize::from(control >> 4 & 3);
        let filter = if control & 0x40 != 0 { self.bytes::<1>()?[0] } else { 0 };
        match filter {
            0 => {
                let pixels = self.unpacked(stream, width * height * 3)?;
                self.draw(area, &pixels, 3);
            }
            1 => {
                let count = usize::from(self.bytes::<1>()?[0]) + 1;
                let palette = self.many(count * 3)?;
                let line = if count == 2 { width.div_ceil(8) } else { width };
                let data = self.unpacked(stream, line * height)?;
                let index = |column: usize, row: usize| {
                    let at = row * line;
                    let index =
                        if count == 2 { data[at + column / 8] >> (7 - column % 8) & 1 } else { data[at + column] };
                    usize::from(index) * 3
                };
                let pixels: Vec<u8> = (0..height)
                    .flat_map(|row| (0..width).map(move |column| (column, row)))
                    .flat_map(|(column, row)| palette[index(column, row)..][..3].to_vec())
                    .collect();
                self.draw(area, &pixels, 3);
            }
            other => panic!("the filter {other} was not expected"),
        }
        Ok(())
    }

    fn unpacked(&mut self, stream: usize, size: usize) -> std::io::Result<Vec<u8>> {
        if size < 12 {
            return self.many(size);
        }
        let mut length = 0;
        for shift in [0, 7, 14] {
            let [byte] = self.bytes()?;
            length |= usize::from(if shift == 14 { byte } else { byte & 0x7f }) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        let packed = self.many(length)?;
        let mut out = Vec::with_capacity(size);
        self.streams[stream]
            .decompress_vec(&packed, &mut out, FlushDecompress::Sync)
            .map_err(|e| std::io::Error::other(format!("stream {stream}: {e}")))?;
        assert_eq!(out.len(), size, "a part of the picture is missing");
        Ok(out)
    }
}

fn bgr(pixel: &[u8]) -> [u8; 3] {
    [pixel[2], pixel[1], pixel[0]]
}
