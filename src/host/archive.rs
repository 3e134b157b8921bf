//! Reads tar archives from strangers: one entry after the other, nothing is kept in memory but names, and nothing is
//! written by the names that are found.

use std::io::{self, BufReader, Read};

/// Block of the format.
const BLOCK: usize = 512;
/// Longest name that is taken from an extension header.
const MAX_NAME: u64 = 4096;
/// Longest extension header (names, times, extended attributes).
const MAX_EXTENSION: u64 = 1 << 20;

/// Something that can be read and, where that is cheaper, skipped.
pub(super) trait Source: Read {
    /// Leaves out so many bytes.
    fn skip(&mut self, bytes: u64) -> io::Result<()> {
        let mut left = bytes;
        let mut buffer = [0; 16 << 10];
        while left > 0 {
            let most = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            match self.read(&mut buffer[..most]) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(length) => left -= length as u64,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Source for Box<dyn Read + Send> {}
impl Source for &[u8] {}

impl Source for BufReader<std::fs::File> {
    fn skip(&mut self, bytes: u64) -> io::Result<()> {
        self.seek_relative(i64::try_from(bytes).map_err(|_| malformed("a size beyond all bounds"))?)
    }
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EntryKind {
    /// A file with content.
    File,
    /// Anything else: directory, link, device.
    Other,
}

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// Its path: without leading `./` and `/`.
    pub(super) path: String,
    /// What it is.
    pub(super) kind: EntryKind,
    /// Length of its content.
    pub(super) size: u64,
    /// Where its content begins in the archive.
    pub(super) offset: u64,
}

/// An archive that is read from the beginning.
pub(super) struct Archive<R> {
    source: R,
    position: u64,
    /// Content of the present entry that has not been read.
    rest: u64,
    padding: u64,
}

/// Whether a file that begins like this is a tar archive: its first header's checksum is right.
pub(super) fn is_archive(start: &[u8]) -> bool {
    start.first_chunk::<BLOCK>().is_some_and(|block| block.iter().any(|byte| *byte != 0) && sum_is_right(block))
}

impl<R: Source> Archive<R> {
    /// Over a source that is at the archive's beginning.
    pub(super) fn new(source: R) -> Self {
        Self { source, position: 0, rest: 0, padding: 0 }
    }

    /// Reads what stands behind the last entry: a source that is packed proves there that all of it came.
    pub(super) fn finish(mut self) -> io::Result<()> {
        io::copy(&mut self.source, &mut io::sink()).map(drop)
    }

    /// The next entry; its content can be read until the one after is asked for.
    pub(super) fn next(&mut self) -> io::Result<Option<Entry>> {
        let (mut long_path, mut long_size) = (None, None);
        loop {
            let rest = std::mem::take(&mut self.rest) + std::mem::take(&mut self.padding);
            self.source.skip(rest)?;
            self.position += rest;
            let mut block = [0_u8; BLOCK];
            if !self.fill(&mut block)? || block.iter().all(|byte| *byte == 0) {
                return Ok(None);
            }
            if !sum_is_right(&block) {
                return Err(malformed("a header with a wrong checksum"));
            }
            let size = number(&block[124..136]).ok_or_else(|| malformed("a header without a size"))?;
            let type_ = block[156];
            match type_ {
                b'L' | b'x' | b'K' | b'g' => {
                    self.began(size);
                    let content = self.content(if type_ == b'L' { MAX_NAME } else { MAX_EXTENSION })?;
                    match type_ {
                        b'L' => long_path = Some(text(&content)),
                        b'x' => {
                            let found = extensions(&content)?;
                            long_path = found.path.or(long_path);
                            long_size = found.size.or(long_size);
                        }
                        _ => {}
                    }
                }
                b'S' => return Err(malformed("a file with holes (GNU sparse format); pack it without --sparse")),
                _ => {
                    let size = long_size.unwrap_or(size);
                    let kind = if matches!(type_, b'0' | 0 | b'7') { EntryKind::File } else { EntryKind::Other };
                    // Links tell the size of what they point to, but have no content.
                    let size = if matches!(type_, b'1'..=b'6') { 0 } else { size };
                    self.began(size);
                    let path = long_path.unwrap_or_else(|| short_path(&block));
                    let path = path.trim_start_matches("./").trim_start_matches('/').to_owned();
                    return Ok(Some(Entry { path, kind, size, offset: self.position }));
                }
            }
        }
    }

    fn began(&mut self, size: u64) {
        self.rest = size;
        self.padding = size.next_multiple_of(BLOCK as u64) - size;
    }

    fn content(&mut self, most: u64) -> io::Result<Vec<u8>> {
        if self.rest > most {
            return Err(malformed("a header that is too long"));
        }
        let mut content = Vec::new();
        let wanted = self.rest;
        self.read_to_end(&mut content)?;
        if content.len() as u64 == wanted { Ok(content) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    /// Fills the block; false at the end.
    fn fill(&mut self, block: &mut [u8; BLOCK]) -> io::Result<bool> {
        let mut filled = 0;
        while filled < BLOCK {
            match self.source.read(&mut block[filled..]) {
                Ok(0) if filled == 0 => return Ok(false),
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(length) => filled += length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.position += BLOCK as u64;
        Ok(true)
    }
}

/// The content of the present entry. Ends early only with an error.
impl<R: Source> Read for Archive<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.rest).unwrap_or(usize::MAX).min(buffer.len());
        if most == 0 {
            return Ok(0);
        }
        let length = self.source.read(&mut buffer[..most])?;
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.rest -= length as u64;
        self.position += length as u64;
        Ok(length)
    }
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the tar archive has {what}"))
}

/// The header's own checksum: the sum of its bytes, with blanks in the place of the checksum.
fn sum_is_right(block: &[u8; BLOCK]) -> bool {
    let sum: u64 =
        block.iter().enumerate().map(|(i, b)| if (148..156).contains(&i) { 32 } else { u64::from(*b) }).sum();
    number(&block[148..156]) == Some(sum)
}

/// Octal digits, or big-endian bytes after 0x80.
fn number(field: &[u8]) -> Option<u64> {
    if field.first()? & 0x80 != 0 {
        let (head, tail) = field.split_at(field.len().checked_sub(8)?);
        let empty = head.iter().enumerate().all(|(i, b)| *b == if i == 0 { 0x80 } else { 0 });
        return tail.first_chunk().filter(|_| empty).map(|bytes| u64::from_be_bytes(*bytes)).filter(|n| *n < 1 << 62);
    }
    let digits = field.split(|byte| *byte == 0).next()?.trim_ascii();
    digits.iter().try_fold(0_u64, |sum, digit| {
        let digit = digit.checked_sub(b'0').filter(|d| *d < 8)?;
        sum.checked_mul(8)?.checked_add(u64::from(digit))
    })
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned()
}

/// Name, and the part before it in the ustar format.
fn short_path(block: &[u8; BLOCK]) -> String {
    let name = text(&block[..100]);
    let prefix = if block[257..263] == *b"ustar\0" { text(&block[345..500]) } else { String::new() };
    if prefix.is_empty() { name } else { format!("{prefix}/{name}") }
}

#[derive(Default)]
struct Extensions {
    path: Option<String>,
    size: Option<u64>,
}

/// Records `LENGTH KEY=VALUE\n`, each with its own length in front.
fn extensions(mut content: &[u8]) -> io::Result<Extensions> {
    let wrong = || malformed("an unreadable extension header");
    let mut found = Extensions::default();
    while !content.is_empty() && content[0] != 0 {
        let blank = content.iter().take(20).position(|byte| *byte == b' ').ok_or_else(wrong)?;
        let length = std::str::from_utf8(&content[..blank]).ok().and_then(|digits| digits.parse().ok());
        let record = length.and_then(|length: usize| content.get(blank + 1..length)).ok_or_else(wrong)?;
        content = &content[blank + 1 + record.len()..];
        let record = String::from_utf8_lossy(record);
        let (key, value) = record.trim_end_matches('\n').split_once('=').ok_or_else(wrong)?;
        match key {
            "path" if value.len() as u64 <= MAX_NAME => found.path = Some(value.to_owned()),
            "path" => return Err(malformed("a name that is too long")),
            "size" => found.size = Some(value.parse().ok().filter(|n| *n < 1 << 62).ok_or_else(wrong)?),
            _ if key.starts_with("GNU.sparse.") => {
                return Err(malformed("a file with holes (GNU sparse format); pack it without --sparse"));
            }
            _ => {}
        }
    }
    Ok(found)
}

/// Packs files, for tests: path and content.
#[cfg(test)]
pub(super) fn pack(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = Vec::new();
    for (path, content) in files {
        archive.extend_from_slice(&header(path, content.len(), b'0'));
        archive.extend_from_slice(content);
        archive.resize(archive.len().next_multiple_of(BLOCK), 0);
    }
    archive.resize(archive.len() + 2 * BLOCK, 0);
    archive
}

#[cfg(test)]
fn header(path: &str, size: usize, type_: u8) -> [u8; BLOCK] {
    let mut block = [0_u8; BLOCK];
    block[..path.len()].copy_from_slice(path.as_bytes());
    block[100..107].copy_from_slice(b"0000644");
    block[124..135].copy_from_slice(format!("{size:011o}").as_bytes());
    block[156] = type_;
    block[257..265].copy_from_slice(b"ustar\x0000");
    let sum: u32 = block.iter().map(|b| u32::from(*b)).sum::<u32>() + 8 * 32;
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(archive: &[u8]) -> io::Result<Vec<(String, String)>> {
        let mut archive = Archive::new(archive);
        let mut found = Vec::new();
        while let Some(entry) = archive.next()? {
            let mut content = String::new();
            archive.read_to_string(&mut content)?;
            found.push((entry.path, content));
        }
        Ok(found)
    }

    #[test]
    fn what_gnu_tar_packs_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let long = format!("{}/{}", "d".repeat(120), "n".repeat(130));
        for (path, content) in [("disk/a.img", "first"), (long.as_str(), "second"), ("empty", "")] {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        for format in ["gnu", "pax", "oldgnu"] {
            let output = std::process::Command::new("tar")
                .args(["-C", dir.path().to_str().unwrap(), "--format", format, "-c", "./disk", &long, "empty"])
                .output()
                .unwrap();
            assert!(output.status.success(), "{format}: {}", String::from_utf8_lossy(&output.stderr));
            assert!(is_archive(&output.stdout));
            let found = all(&output.stdout).unwrap();
            let names: Vec<&str> = found.iter().map(|(path, _)| path.as_str()).collect();
            assert_eq!(names, ["disk/", "disk/a.img", &long, "empty"], "{format}");
            assert_eq!((found[1].1.as_str(), found[2].1.as_str()), ("first", "second"), "{format}");
        }
    }

    #[test]
    fn content_can_be_passed_over_and_found_by_its_place() {
        let packed = pack(&[("a", &[1; 700]), ("b", b"hello")]);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &packed).unwrap();
        let mut archive = Archive::new(BufReader::new(std::fs::File::open(file.path()).unwrap()));
        assert_eq!(archive.next().unwrap().unwrap().path, "a");
        let entry = archive.next().unwrap().unwrap();
        let at = usize::try_from(entry.offset).unwrap();
        assert_eq!((&packed[at..at + 5], entry.size), (&b"hello"[..], 5));
        assert_eq!(archive.next().unwrap(), None);
    }

    #[test]
    fn damaged_and_hostile_archives_are_refused() {
        let packed = pack(&[("a", &[1; 700])]);
        assert!(all(&packed[..600]).is_err(), "cut in the content");
        assert!(all(&packed[..100]).is_err(), "cut in the header");
        let mut wrong = packed.clone();
        wrong[0] ^= 1;
        assert!(all(&wrong).is_err(), "checksum");
        assert!(!is_archive(&wrong) && !is_archive(&[0; 512]) && !is_archive(b"short"));
        let name = header("././@LongLink", 1 << 30, b'L');
        assert!(all(&name).unwrap_err().to_string().contains("too long"));
        let sparse = header("a", 512, b'S');
        assert!(all(&sparse).unwrap_err().to_string().contains("holes"));
        for record in ["x", "999 path=a\n", "0 path=a\n", "30 size=99999999999999999999\n"] {
            let mut hostile = header("x", record.len(), b'x').to_vec();
            hostile.extend_from_slice(record.as_bytes());
            hostile.resize(1024, 0);
            hostile.extend_from_slice(&packed);
            assert!(all(&hostile).is_err(), "{record:?}");
        }
    }
}
