//! What a viewer sends: pure. Messages are told apart so that they can be remembered for the next server, and so that
//! nothing is asked for that a next server could not continue.

use super::server::{PixelFormat, encoding};

/// Longest clipboard text of a viewer.
const LONGEST_TEXT: usize = 1 << 20;

/// Keys that are remembered as held down. Nobody has more fingers.
const MOST_KEYS: usize = 32;

/// Compression and quality levels, which are numbered as encodings.
const LEVELS: [std::ops::RangeInclusive<i32>; 2] = [-256..=-247, -32..=-23];

/// Encodings whose state can be given up in the middle of a session. Zlib and ZRLE are not among them: their one
/// stream of compressed data cannot begin anew. Raw is understood by every viewer.
const CONTINUED: [i32; 12] = [
    encoding::RAW,
    encoding::COPY,
    encoding::HEXTILE,
    encoding::TIGHT,
    encoding::DESKTOP_SIZE,
    encoding::CURSOR,
    encoding::POINTER_TYPE,
    encoding::EXTENDED_KEYS,
    encoding::AUDIO,
    encoding::LED_STATE,
    encoding::EXTENDED_DESKTOP_SIZE,
    encoding::ALPHA_CURSOR,
];

/// Something that no viewer sends.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum ClientFault {
    /// An unknown message.
    #[error("the viewer sent a message of the unknown type {0}")]
    Message(u8),
    /// A clipboard that is too long.
    #[error("the viewer sent more text than {LONGEST_TEXT} bytes")]
    TooLarge,
}

/// A viewer's side of a session, as the next server has to be told it.
#[derive(Debug)]
pub(super) struct ClientStream {
    held: Vec<u8>,
    format: PixelFormat,
    encodings: Option<Vec<i32>>,
    /// Messages of the keys that are down, by what tells a key from others.
    keys: Vec<(Vec<u8>, Vec<u8>)>,
    /// Message of the pointer while a button is down.
    pointer: Option<[u8; 6]>,
    /// Asked for a part of the picture and has not got any since.
    waits: bool,
    /// The next part asked for must be the whole picture: the server does not know what the viewer has.
    must_refresh: bool,
}

/// What a message means for the other direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// Nothing.
    None,
    /// Pixels come in this format from now on.
    Format(PixelFormat),
}

impl ClientStream {
    /// A viewer that has been told this format.
    pub(super) fn new(format: PixelFormat) -> Self {
        Self {
            held: Vec::new(),
            format,
            encodings: None,
            keys: Vec::new(),
            pointer: None,
            waits: false,
            must_refresh: false,
        }
    }

    /// Takes what the viewer sent; whole messages are appended to `out`, as they are to be passed on. `size` is the
    /// picture's size.
    pub(super) fn push(&mut self, input: &[u8], size: (u16, u16), out: &mut Vec<u8>) -> Result<Effect, ClientFault> {
        self.held.extend_from_slice(input);
        let mut effect = Effect::None;
        let mut at = 0;
        while let Some(length) = message(&self.held[at..])? {
            if self.held.len() - at < length {
                break;
            }
            let message = self.held[at..at + length].to_vec();
            at += length;
            if let Effect::Format(format) = self.take(message, size, out) {
                effect = Effect::Format(format);
            }
        }
        self.held.drain(..at);
        Ok(effect)
    }

    fn take(&mut self, mut message: Vec<u8>, size: (u16, u16), out: &mut Vec<u8>) -> Effect {
        match message[..] {
            [0, ..] => {
                let mut format = [0; 16];
                format.copy_from_slice(&message[4..20]);
                self.format = PixelFormat(format);
                out.append(&mut message);
                return Effect::Format(self.format);
            }
            [2, ..] => {
                let asked =
                    message[4..].chunks_exact(4).map(|four| i32::from_be_bytes([four[0], four[1], four[2], four[3]]));
                let kept: Vec<i32> = asked.filter(|encoding| can_continue(*encoding)).collect();
                out.append(&mut set_encodings(&kept));
                self.encodings = Some(kept);
            }
            [3, ..] => {
                self.waits = true;
                if std::mem::take(&mut self.must_refresh) {
                    message = refresh(size);
                }
                out.append(&mut message);
            }
            [4, down, _, _, ..] => {
                // A key is its symbol.
                self.key(message[4..8].to_vec(), down != 0, &message);
                out.append(&mut message);
            }
            [255, 0, high, low, ..] => {
                // A key is its place; the symbol may change with others held.
                self.key(message[8..12].to_vec(), (high | low) != 0, &message);
                out.append(&mut message);
            }
            [5, buttons, a, b, c, d] => {
                self.pointer = (buttons != 0).then_some([5, buttons, a, b, c, d]);
                out.append(&mut message);
            }
            _ => out.append(&mut message),
        }
        Effect::None
    }

    fn key(&mut self, key: Vec<u8>, down: bool, message: &[u8]) {
        let key = [&message[..1], &key].concat();
        self.keys.retain(|(held, _)| *held != key);
        if down && self.keys.len() < MOST_KEYS {
            self.keys.push((key, message.to_vec()));
        }
    }

    /// A part of the picture has come.
    pub(super) fn pictured(&mut self) {
        self.waits = false;
    }

    /// What the next server has to be told: how to send, which keys and buttons are down (it would ignore that they are
    /// let go of), and to send the whole picture if the viewer waits for one.
    pub(super) fn replay(&mut self, size: (u16, u16)) -> Vec<u8> {
        let mut out = vec![0, 0, 0, 0];
        out.extend_from_slice(&self.format.0);
        if let Some(encodings) = &self.encodings {
            out.append(&mut set_encodings(encodings));
        }
        for (_, message) in &self.keys {
            out.extend_from_slice(message);
        }
        out.extend(self.pointer.into_iter().flatten());
        self.must_refresh = !self.waits;
        if self.waits {
            out.append(&mut refresh(size));
        }
        out
    }

    /// A message that tells the viewer another size; `None` if it cannot follow.
    pub(super) fn resize(&self, (width, height): (u16, u16)) -> Option<Vec<u8>> {
        let has = |encoding: i32| self.encodings.as_ref().is_some_and(|all| all.contains(&encoding));
        let encoding = [encoding::EXTENDED_DESKTOP_SIZE, encoding::DESKTOP_SIZE].into_iter().find(|e| has(*e))?;
        let mut out = vec![0, 0, 0, 1, 0, 0, 0, 0];
        out.extend_from_slice(&width.to_be_bytes());
        out.extend_from_slice(&height.to_be_bytes());
        out.extend_from_slice(&encoding.to_be_bytes());
        if encoding == encoding::EXTENDED_DESKTOP_SIZE {
            // One screen, number 0, over all of it.
            out.extend_from_slice(&[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
            out.extend_from_slice(&width.to_be_bytes());
            out.extend_from_slice(&height.to_be_bytes());
            out.extend_from_slice(&[0, 0, 0, 0]);
        }
        Some(out)
    }
}

fn can_continue(encoding: i32) -> bool {
    CONTINUED.contains(&encoding) || LEVELS.iter().any(|levels| levels.contains(&encoding))
}

fn set_encodings(encodings: &[i32]) -> Vec<u8> {
    let count = u16::try_from(encodings.len()).unwrap_or(u16::MAX);
    let mut out = vec![2, 0];
    out.extend_from_slice(&count.to_be_bytes());
    out.extend(encodings.iter().take(usize::from(count)).flat_map(|encoding| encoding.to_be_bytes()));
    out
}

/// Asks for the whole picture.
fn refresh((width, height): (u16, u16)) -> Vec<u8> {
    let mut out = vec![3, 0, 0, 0, 0, 0];
    out.extend_from_slice(&width.to_be_bytes());
    out.extend_from_slice(&height.to_be_bytes());
    out
}

/// Length of the message at the beginning of `bytes`; `None` if that cannot be told yet.
fn message(bytes: &[u8]) -> Result<Option<usize>, ClientFault> {
    Ok(Some(match *bytes {
        // Format of pixels, encodings, part of the picture, key, pointer, clipboard.
        [0, ..] => 20,
        [2, _, high, low, ..] => 4 + 4 * usize::from(u16::from_be_bytes([high, low])),
        [3, ..] => 10,
        [4, ..] => 8,
        [5, ..] => 6,
        [6, _, _, _, a, b, c, d, ..] => {
            let length = i32::from_be_bytes([a, b, c, d]).unsigned_abs() as usize;
            if length > LONGEST_TEXT {
                return Err(ClientFault::TooLarge);
            }
            8 + length
        }
        // The wish for another size.
        [251, _, _, _, _, _, screens, ..] => 8 + 16 * usize::from(screens),
        // QEMU's: key with its place; sound on, off, format.
        [255, 0, ..] => 12,
        [255, 1, 0, 0 | 1, ..] => 4,
        [255, 1, 0, 2, ..] => 10,
        [] | [2 | 6 | 251, ..] | [255] | [255, 1] | [255, 1, 0] => return Ok(None),
        [other, ..] => return Err(ClientFault::Message(other)),
    }))
}
