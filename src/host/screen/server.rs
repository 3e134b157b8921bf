//! What a screen's server sends, followed as far as it must be to be cut off and continued by another server: pure.
//!
//! Bytes are passed on in units after each of which the message can be completed with filler: the picture that the next
//! server sends covers it. What cannot be completed in the middle is held back until it is whole.

/// Bytes that are held back at most.
const LONGEST_UNIT: usize = 8 << 20;

/// Bytes of a rectangle that is passed on piecewise: a little more than any guest's picture has.
const LARGEST_PICTURE: u64 = 64 << 20;

/// Longest clipboard text or piece of sound.
const LONGEST_TEXT: u64 = 1 << 20;

/// Encodings of rectangles.
pub(super) mod encoding {
    pub(in crate::host::screen) const RAW: i32 = 0;
    pub(in crate::host::screen) const COPY: i32 = 1;
    pub(in crate::host::screen) const HEXTILE: i32 = 5;
    pub(in crate::host::screen) const TIGHT: i32 = 7;
    pub(in crate::host::screen) const DESKTOP_SIZE: i32 = -223;
    pub(in crate::host::screen) const CURSOR: i32 = -239;
    pub(in crate::host::screen) const POINTER_TYPE: i32 = -257;
    pub(in crate::host::screen) const EXTENDED_KEYS: i32 = -258;
    pub(in crate::host::screen) const AUDIO: i32 = -259;
    pub(in crate::host::screen) const LED_STATE: i32 = -261;
    pub(in crate::host::screen) const EXTENDED_DESKTOP_SIZE: i32 = -308;
    pub(in crate::host::screen) const ALPHA_CURSOR: i32 = -314;
}

/// What a server sends that no screen's server may send.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum ServerFault {
    /// An unknown message.
    #[error("the screen's server sent a message of the unknown type {0}")]
    Message(u8),
    /// A rectangle in an encoding that was not asked for.
    #[error("the screen's server used the unknown encoding {0}")]
    Encoding(i32),
    /// Too much at once.
    #[error("the screen's server sent more than a picture can hold")]
    TooLarge,
}

/// How pixels are sent (`PIXEL_FORMAT` of the protocol).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PixelFormat(pub(super) [u8; 16]);

impl PixelFormat {
    /// Bytes of a pixel.
    fn bytes(self) -> usize {
        usize::from(self.0[0].clamp(8, 32)) / 8
    }

    /// Bytes of a pixel in Tight: QEMU leaves out the unused one of four.
    fn tight_bytes(self) -> usize {
        let maxima = [self.0[4], self.0[5], self.0[6], self.0[7], self.0[8], self.0[9]];
        if self.bytes() == 4 && maxima == [0, 255, 0, 255, 0, 255] { 3 } else { self.bytes() }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Between messages.
    Message,
    /// Before the header of a rectangle, of which `left` are still to come.
    Rectangle { left: u16 },
    /// In bytes that may be anything; then `left` rectangles.
    Bytes { count: u64, left: u16 },
    /// In Hextile's tiles; then `left` rectangles.
    Tiles { width: u16, height: u16, x: u16, y: u16, left: u16 },
}

/// A server's stream.
#[derive(Debug)]
pub(super) struct ServerStream {
    state: State,
    format: PixelFormat,
    /// Counts from the next message on.
    next_format: Option<PixelFormat>,
    /// The beginning of a unit.
    held: Vec<u8>,
    /// The viewer still has the compression state of the server before.
    reset_tight: bool,
    size: (u16, u16),
    /// A part of the picture was passed on since this was last looked at.
    pictured: bool,
}

impl ServerStream {
    /// Begins after the server's greeting, which told format and size.
    pub(super) fn new(format: PixelFormat, size: (u16, u16)) -> Self {
        Self {
            state: State::Message,
            format,
            next_format: None,
            held: Vec::new(),
            reset_tight: false,
            size,
            pictured: false,
        }
    }

    /// The picture's size as the viewer knows it.
    pub(super) fn size(&self) -> (u16, u16) {
        self.size
    }

    /// Whether a part of the picture was passed on since this was last asked.
    pub(super) fn take_pictured(&mut self) -> bool {
        std::mem::take(&mut self.pictured)
    }

    /// The viewer has asked for another format. Viewers do so only when no picture is on its way, so that the next
    /// message has it.
    pub(super) fn set_format(&mut self, format: PixelFormat) {
        self.next_format = Some(format);
    }

    /// Takes what the server sent; what can be passed on is appended to `out`.
    pub(super) fn push(&mut self, mut input: &[u8], out: &mut Vec<u8>) -> Result<(), ServerFault> {
        loop {
            if self.state == State::Message
                && self.held.is_empty()
                && let Some(format) = self.next_format.take()
            {
                self.format = format;
            }
            if let State::Bytes { count, left } = self.state {
                let pass = usize::try_from(count).unwrap_or(usize::MAX).min(input.len());
                out.extend_from_slice(&input[..pass]);
                input = &input[pass..];
                let count = count - pass as u64;
                self.state = if count > 0 { State::Bytes { count, left } } else { next(left) };
                if count > 0 {
                    return Ok(());
                }
                continue;
            }
            // Without a copy where the whole unit lies there.
            let unit = if self.held.is_empty() { self.unit(input)? } else { None };
            if let Some(length) = unit {
                let at = out.len();
                out.extend_from_slice(&input[..length]);
                input = &input[length..];
                self.passed(&mut out[at..]);
                continue;
            }
            // The length is known after a few bytes; only then is more taken at once.
            let before = self.held.len();
            let take = input.len().min(if before < 64 { 16 } else { 64 << 10 });
            if take == 0 {
                return Ok(());
            }
            self.held.extend_from_slice(&input[..take]);
            let Some(length) = self.unit(&self.held)? else {
                input = &input[take..];
                continue;
            };
            // What is too much came with the last piece.
            input = &input[length - before..];
            self.held.truncate(length);
            let mut whole = std::mem::take(&mut self.held);
            self.passed(&mut whole);
            out.append(&mut whole);
        }
    }

    /// Completes the message that was cut off, and forgets the server. The next one's stream follows.
    pub(super) fn cut(&mut self, out: &mut Vec<u8>) {
        self.held.clear();
        let pixel = self.format.bytes();
        let mut left = match self.state {
            State::Message => 0,
            State::Rectangle { left } => left,
            State::Bytes { count, left } => {
                // Bounded when it was taken in.
                out.resize(out.len() + usize::try_from(count).unwrap_or_default(), 0);
                left
            }
            State::Tiles { width, height, x, y, left } => {
                let columns = width.div_ceil(16);
                let tiles = u32::from(columns) * u32::from(height.div_ceil(16));
                let done = u32::from(y / 16) * u32::from(columns) + u32::from(x / 16);
                for _ in done..tiles {
                    // A background of its own and nothing on it.
                    out.push(0x02);
                    out.resize(out.len() + pixel, 0);
                }
                left
            }
        };
        while left > 0 {
            // One black pixel, which every viewer can have.
            out.extend_from_slice(&[0, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0]);
            out.resize(out.len() + pixel, 0);
            left -= 1;
        }
        self.state = State::Message;
        self.reset_tight = true;
        if let Some(format) = self.next_format.take() {
            self.format = format;
        }
    }

    /// The viewer was told another size.
    pub(super) fn set_size(&mut self, size: (u16, u16)) {
        self.size = size;
    }

    /// Length of the unit at the beginning of `bytes`; `None` if it is not all there.
    fn unit(&self, bytes: &[u8]) -> Result<Option<usize>, ServerFault> {
        let length = match self.state {
            State::Message => message(bytes)?,
            State::Rectangle { .. } => self.rectangle(bytes)?,
            State::Tiles { width, height, x, y, .. } => {
                tile(bytes, self.format.bytes(), (width - x).min(16), (height - y).min(16))
            }
            State::Bytes { .. } => None,
        };
        match length {
            Some(length) if length > LONGEST_UNIT => Err(ServerFault::TooLarge),
            Some(length) if length <= bytes.len() => Ok(Some(length)),
            _ => Ok(None),
        }
    }

    /// Length of a rectangle, or of its header where the content is followed piecewise.
    fn rectangle(&self, bytes: &[u8]) -> Result<Option<usize>, ServerFault> {
        let Some(header) = Header::of(bytes) else { return Ok(None) };
        let rest = &bytes[Header::LENGTH..];
        let (width, height) = (usize::from(header.width), usize::from(header.height));
        let pixels = width * height;
        let content = match header.encoding {
            encoding::RAW | encoding::HEXTILE => {
                if pixels as u64 * self.format.bytes() as u64 > LARGEST_PICTURE {
                    return Err(ServerFault::TooLarge);
                }
                Some(0)
            }
            encoding::COPY => Some(4),
            encoding::TIGHT => {
                if pixels > LONGEST_UNIT {
                    return Err(ServerFault::TooLarge);
                }
                return Ok(tight(rest, self.format, width, height)?.map(|content| Header::LENGTH + content));
            }
            encoding::DESKTOP_SIZE | encoding::POINTER_TYPE | encoding::EXTENDED_KEYS | encoding::AUDIO => Some(0),
            encoding::LED_STATE => Some(1),
            encoding::EXTENDED_DESKTOP_SIZE => rest.first().map(|screens| 4 + 16 * usize::from(*screens)),
            encoding::CURSOR => Some(pixels * self.format.bytes() + width.div_ceil(8) * height),
            encoding::ALPHA_CURSOR => Some(4 + pixels * 4),
            other => return Err(ServerFault::Encoding(other)),
        };
        Ok(content.map(|content| Header::LENGTH + content))
    }

    /// A whole unit goes to the viewer.
    fn passed(&mut self, unit: &mut [u8]) {
        self.state = match self.state {
            State::Message => match *unit {
                [0, _, high, low, ..] => next(u16::from_be_bytes([high, low])),
                // What is in the length was checked by `message`.
                [3 | 255, .., a, b, c, d] if unit.len() == 8 => {
                    State::Bytes { count: u64::from(i32::from_be_bytes([a, b, c, d]).unsigned_abs()), left: 0 }
                }
                _ => State::Message,
            },
            State::Rectangle { left } => self.rectangle_passed(unit, left.saturating_sub(1)),
            State::Tiles { width, height, x, y, left } => {
                let (x, y) = if width - x > 16 { (x + 16, y) } else { (0, y.saturating_add(16)) };
                if y < height { State::Tiles { width, height, x, y, left } } else { next(left) }
            }
            bytes @ State::Bytes { .. } => bytes,
        };
        if let State::Bytes { count: 0, left } = self.state {
            self.state = next(left);
        }
    }

    fn rectangle_passed(&mut self, unit: &mut [u8], left: u16) -> State {
        let Some(header) = Header::of(unit) else { return next(left) };
        let Header { width, height, .. } = header;
        self.pictured |= header.encoding >= 0;
        match header.encoding {
            encoding::RAW => {
                let count = u64::from(width) * u64::from(height) * self.format.bytes() as u64;
                State::Bytes { count, left }
            }
            encoding::HEXTILE if width > 0 && height > 0 => State::Tiles { width, height, x: 0, y: 0, left },
            encoding::TIGHT => {
                if std::mem::take(&mut self.reset_tight)
                    && let Some(control) = unit.get_mut(Header::LENGTH)
                {
                    // All four streams of the viewer begin anew.
                    *control |= 0x0f;
                }
                next(left)
            }
            encoding::DESKTOP_SIZE => {
                self.size = (width, height);
                next(left)
            }
            // In `y` is why a viewer's own wish was refused.
            encoding::EXTENDED_DESKTOP_SIZE if header.y == 0 => {
                self.size = (width, height);
                next(left)
            }
            _ => next(left),
        }
    }
}

fn next(left: u16) -> State {
    if left == 0 { State::Message } else { State::Rectangle { left } }
}

/// Header of a rectangle.
struct Header {
    y: u16,
    width: u16,
    height: u16,
    encoding: i32,
}

impl Header {
    const LENGTH: usize = 12;

    fn of(bytes: &[u8]) -> Option<Self> {
        let [_, _, y0, y1, w0, w1, h0, h1, e0, e1, e2, e3, ..] = *bytes else { return None };
        let short = |high, low| u16::from_be_bytes([high, low]);
        Some(Self {
            y: short(y0, y1),
            width: short(w0, w1),
            height: short(h0, h1),
            encoding: i32::from_be_bytes([e0, e1, e2, e3]),
        })
    }
}

/// Length of a message, or of its header where the content is followed piecewise.
fn message(bytes: &[u8]) -> Result<Option<usize>, ServerFault> {
    let text = |a, b, c, d| {
        if u64::from(i32::from_be_bytes([a, b, c, d]).unsigned_abs()) > LONGEST_TEXT {
            return Err(ServerFault::TooLarge);
        }
        Ok(Some(8))
    };
    match *bytes {
        [] => Ok(None),
        // Picture.
        [0, ..] => Ok(Some(4)),
        // Colours.
        [1, _, _, _, high, low, ..] => Ok(Some(6 + 6 * usize::from(u16::from_be_bytes([high, low])))),
        // Bell.
        [2, ..] => Ok(Some(1)),
        // Clipboard.
        [3, _, _, _, a, b, c, d, ..] => text(a, b, c, d),
        // QEMU's sound: end, begin, data.
        [255, 1, 0, 0 | 1, ..] => Ok(Some(4)),
        [255, 1, 0, 2, a, b, c, d, ..] => text(a, b, c, d),
        [255, 1, 0] | [255, 1] | [255] | [255, 1, 0, 2, ..] | [1 | 3, ..] => Ok(None),
        [other, ..] => Err(ServerFault::Message(other)),
    }
}

/// Length of a Hextile tile.
fn tile(bytes: &[u8], pixel: usize, width: u16, height: u16) -> Option<usize> {
    let flags = *bytes.first()?;
    if flags & 0x01 != 0 {
        return Some(1 + usize::from(width) * usize::from(height) * pixel);
    }
    let mut length = 1;
    for colour in [0x02, 0x04] {
        if flags & colour != 0 {
            length += pixel;
        }
    }
    if flags & 0x08 != 0 {
        let count = usize::from(*bytes.get(length)?);
        let each = if flags & 0x10 != 0 { pixel + 2 } else { 2 };
        length += 1 + count * each;
    }
    Some(length)
}

/// Length of the content of a Tight rectangle.
fn tight(bytes: &[u8], format: PixelFormat, width: usize, height: usize) -> Result<Option<usize>, ServerFault> {
    let Some(control) = bytes.first() else { return Ok(None) };
    let pixel = format.tight_bytes();
    match control >> 4 {
        8 => return Ok(Some(1 + pixel)),
        9 => return Ok(compact(bytes, 1)),
        0..=7 => {}
        _ => return Err(ServerFault::Encoding(encoding::TIGHT)),
    }
    let explicit = control & 0x40 != 0;
    let filter = match (explicit, bytes.get(1)) {
        (false, _) => 0,
        (true, Some(filter)) => *filter,
        (true, None) => return Ok(None),
    };
    let mut at = if explicit { 2 } else { 1 };
    let size = match filter {
        0 | 2 => width * height * pixel,
        1 => {
            let Some(last) = bytes.get(at) else { return Ok(None) };
            let colours = usize::from(*last) + 1;
            at += 1 + colours * pixel;
            if colours <= 2 { width.div_ceil(8) * height } else { width * height }
        }
        _ => return Err(ServerFault::Encoding(encoding::TIGHT)),
    };
    if size < 12 {
        // Too little to be compressed.
        return Ok(Some(at + size));
    }
    Ok(compact(bytes, at))
}

/// Where something ends whose length stands at `at`, seven bits in a byte.
fn compact(bytes: &[u8], at: usize) -> Option<usize> {
    let mut length = 0;
    for (index, shift) in [0, 7, 14].into_iter().enumerate() {
        let byte = *bytes.get(at + index)?;
        // The third byte has eight.
        let value = if index == 2 { byte } else { byte & 0x7f };
        length |= usize::from(value) << shift;
        if byte & 0x80 == 0 || index == 2 {
            return Some(at + index + 1 + length);
        }
    }
    None
}
