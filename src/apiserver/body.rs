//! Answers that are made while they are sent.

use std::io::Write;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::store::Entry;

/// Size of the pieces of a long answer.
const PIECE: usize = 64 << 10;

/// Compresses what is known whole.
pub fn gzip_whole(body: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 4), Compression::fast());
    // Writing to memory does not fail.
    encoder.write_all(body).ok();
    encoder.finish().unwrap_or_default().into()
}

/// Appends what stands for an entry in a list.
pub type Render = Box<dyn Fn(&Entry, &mut Vec<u8>) + Send>;

/// A list: `head`, the entries with commas between, `tail`. Short ones are made at once (with a length), long ones
/// piece by piece, so that memory does not grow with the list.
pub fn list(head: Vec<u8>, entries: Vec<Arc<Entry>>, tail: &'static [u8], render: Render) -> ListBody {
    let size = head.len() + tail.len() + entries.iter().map(|e| e.bytes.len() + 1).sum::<usize>();
    let pieces = Pieces { head: Some(head), entries: entries.into_iter(), first: true, tail: Some(tail), render };
    ListBody { size, pieces }
}

/// See [`list`].
pub struct ListBody {
    size: usize,
    pieces: Pieces,
}

struct Pieces {
    head: Option<Vec<u8>>,
    entries: std::vec::IntoIter<Arc<Entry>>,
    first: bool,
    tail: Option<&'static [u8]>,
    render: Render,
}

impl Iterator for Pieces {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        let mut out = self.head.take().unwrap_or_else(|| Vec::with_capacity(PIECE + PIECE / 4));
        while out.len() < PIECE {
            match self.entries.next() {
                Some(entry) => {
                    if !std::mem::take(&mut self.first) {
                        out.push(b',');
                    }
                    (self.render)(&entry, &mut out);
                }
                None => {
                    out.extend_from_slice(self.tail.take().unwrap_or_default());
                    break;
                }
            }
        }
        (!out.is_empty()).then_some(out)
    }
}

impl ListBody {
    /// Bytes before compression, about: those of the stored objects.
    pub fn size(&self) -> usize {
        self.size
    }

    /// All of it.
    pub fn whole(self) -> Bytes {
        let mut out = Vec::with_capacity(self.size);
        for piece in self.pieces {
            out.extend_from_slice(&piece);
        }
        out.into()
    }

    /// Piece by piece.
    pub fn streamed(self) -> Body {
        stream(self.pieces.map(Bytes::from))
    }

    /// Piece by piece, compressed.
    pub fn gzipped(self) -> Body {
        let mut encoder = Some(GzEncoder::new(Vec::new(), Compression::fast()));
        let mut pieces = self.pieces;
        stream(std::iter::from_fn(move || {
            while let Some(running) = encoder.as_mut() {
                match pieces.next() {
                    Some(piece) => {
                        running.write_all(&piece).ok()?;
                        if running.get_ref().len() >= PIECE / 2 {
                            return Some(std::mem::take(running.get_mut()).into());
                        }
                    }
                    None => return encoder.take().and_then(|e| e.finish().ok()).map(Bytes::from),
                }
            }
            None
        }))
    }
}

fn stream(pieces: impl Iterator<Item = Bytes> + Send + 'static) -> Body {
    Body::from_stream(futures::stream::iter(pieces.map(Ok::<_, std::convert::Infallible>)))
}
