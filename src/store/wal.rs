//! Reading SQLite's write-ahead log before SQLite does.
//!
//! After a crash SQLite takes from the log what is whole and forgets the rest. That is right for a transaction that
//! was being written, which nobody was told about. But where bytes in the middle are damaged, it forgets answered
//! writes without a word. The two can be told apart: each transaction is on disk before the next one begins, so a
//! broken frame with a later transaction *behind a finished one* after it is damage.
//!
//! Format: <https://sqlite.org/fileformat2.html#walformat>, section 4.1 to 4.3.

use std::fs::File;
use std::io::{BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};

use super::db;
use super::error::StoreError;

const HEADER: usize = 32;
const FRAME_HEADER: usize = 24;

/// The log of a database.
pub(super) fn path_of(database: &Path) -> PathBuf {
    let mut path = database.as_os_str().to_owned();
    path.push("-wal");
    path.into()
}

/// Whether the database has a log to be taken over.
///
/// # Errors
/// [`StoreError::Corrupt`] when answered writes in it are lost, or when there is no database that it belongs to.
pub(super) fn check(database: &Path) -> Result<bool, StoreError> {
    let path = path_of(database);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(false),
        Err(e) => return Err(db::cannot_open(&path, e)),
    };
    let verdict = scan(BufReader::with_capacity(64 << 10, file)).map_err(|e| db::cannot_open(&path, e))?;
    match verdict {
        Verdict::Empty => Ok(false),
        Verdict::Whole | Verdict::Torn if std::fs::metadata(database).is_ok_and(|m| m.len() == 0) => {
            Err(db::corrupt(database, "it is empty, but its write-ahead log is not"))
        }
        Verdict::Whole | Verdict::Torn => Ok(true),
        Verdict::Damaged(detail) => Err(db::corrupt(database, format!("its write-ahead log {detail}"))),
    }
}

/// What a log looks like.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// No transaction was begun.
    Empty,
    /// All of it can be used.
    Whole,
    /// Its last transaction was not finished, or frames of an older use of the file follow.
    Torn,
    /// Answered writes cannot be read any more.
    Damaged(String),
}

fn scan(mut log: impl Read) -> std::io::Result<Verdict> {
    let mut header = [0; HEADER];
    if !fill(&mut log, &mut header)? {
        return Ok(Verdict::Empty);
    }
    // The index has been written with zeros by a file system that had not got further.
    if header == [0; HEADER] {
        return Ok(Verdict::Empty);
    }
    let magic = word(&header, 0);
    let page = word(&header, 8) as usize;
    let big = magic & 1 == 1;
    let mut sum = checksum(big, (0, 0), &header[..24]);
    if magic & !1 != 0x377f_0682 || !(512..=65536).contains(&page) || sum != (word(&header, 24), word(&header, 28)) {
        return Ok(Verdict::Damaged("has no valid header".to_owned()));
    }
    let salt = &header[16..24];
    let mut frame = vec![0; FRAME_HEADER + page];
    let (mut number, mut broken, mut finished) = (0u64, None, false);
    while fill(&mut log, &mut frame)? {
        number += 1;
        // Left by an older use of the file, or not a frame at all.
        let ours = &frame[8..16] == salt;
        if broken.is_none() {
            let next = checksum(big, checksum(big, sum, &frame[..8]), &frame[FRAME_HEADER..]);
            if ours && next == (word(&frame, 16), word(&frame, 20)) {
                sum = next;
                continue;
            }
            broken = Some(number);
        }
        if ours && finished {
            let at = broken.unwrap_or(number);
            return Ok(Verdict::Damaged(format!("is broken at frame {at}, with finished transactions after it")));
        }
        finished |= ours && word(&frame, 4) != 0;
    }
    Ok(if broken.is_some() { Verdict::Torn } else { Verdict::Whole })
}

/// Reads all of `buffer`; false at the end of the file.
fn fill(from: &mut impl Read, buffer: &mut [u8]) -> std::io::Result<bool> {
    match from.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == ErrorKind::UnexpectedEof => Ok(false),
        Err(e) => Err(e),
    }
}

/// The big-endian number at `at`.
fn word(bytes: &[u8], at: usize) -> u32 {
    bytes[at..at + 4].iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte))
}

/// SQLite's running checksum; `big` tells the byte order of the words that are summed.
fn checksum(big: bool, (mut a, mut b): (u32, u32), bytes: &[u8]) -> (u32, u32) {
    for pair in bytes.chunks_exact(8) {
        let value = |at| if big { word(pair, at) } else { word(pair, at).swap_bytes() };
        a = a.wrapping_add(value(0)).wrapping_add(b);
        b = b.wrapping_add(value(4)).wrapping_add(a);
    }
    (a, b)
}
