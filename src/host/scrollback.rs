//! Console history: the first and the last bytes of one endless stream. Pure.

use std::collections::VecDeque;

/// How many of the first bytes are kept (the boot that nobody watched).
pub(super) const HEAD_LIMIT: usize = 1 << 20;

/// How many of the last bytes are kept.
pub(super) const TAIL_LIMIT: usize = 4 << 20;

/// Bytes before a cut that are looked at to find out whether it falls into an escape sequence.
const LOOK_BACK: usize = 4096;

/// How far a cut may move to reach a line's start.
const LOOK_AHEAD: usize = 1024;

/// First and last bytes of a stream, with its length. Memory grows with what was written, up to the limits.
#[derive(Debug, Clone)]
pub(super) struct Scrollback {
    head: Vec<u8>,
    /// What follows the head, without its beginning if it got too long.
    tail: VecDeque<u8>,
    /// Length of the stream so far.
    total: u64,
    head_limit: usize,
    tail_limit: usize,
}

impl Scrollback {
    /// An empty stream.
    pub(super) fn new(head_limit: usize, tail_limit: usize) -> Self {
        Self { head: Vec::new(), tail: VecDeque::new(), total: 0, head_limit, tail_limit }
    }

    /// Appends.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.total += bytes.len() as u64;
        let to_head = bytes.len().min(self.head_limit - self.head.len());
        let (first, rest) = bytes.split_at(to_head);
        self.head.extend_from_slice(first);
        let rest = &rest[rest.len().saturating_sub(self.tail_limit)..];
        let excess = (self.tail.len() + rest.len()).saturating_sub(self.tail_limit);
        self.tail.drain(..excess);
        self.tail.extend(rest);
    }

    /// Continues a stream of which only a later part is known: `skipped` bytes are missing between the head and
    /// what is pushed next.
    pub(super) fn skip(&mut self, skipped: u64) {
        if skipped > 0 {
            self.total += skipped;
            self.tail.clear();
            // What follows does not belong behind these first bytes.
            self.head_limit = self.head.len();
        }
    }

    /// Length of the stream so far.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// The kept first bytes.
    pub(super) fn head(&self) -> &[u8] {
        &self.head
    }

    /// Bytes that were written but are not kept.
    fn missing(&self) -> u64 {
        self.total - self.head.len() as u64 - self.tail.len() as u64
    }

    /// At most the last `max` bytes, beginning where a terminal can begin. When all that is kept is asked for
    /// and something is missing in the middle, a line says so.
    pub(super) fn history(&self, max: usize) -> Vec<u8> {
        let missing = self.missing();
        if missing > 0 {
            let gap = format!("\r\n[{missing} bytes of output are not kept]\r\n");
            let tail = self.tail_from(self.tail.len());
            if max < self.head.len() + gap.len() + tail.len() {
                return last_of(tail, max);
            }
            let start = safe_start(&tail, 0);
            return [&self.head, gap.as_bytes(), &tail[start..]].concat();
        }
        let kept = self.head.len() + self.tail.len();
        if max >= kept {
            return [self.head.as_slice(), &self.tail_from(self.tail.len())].concat();
        }
        let wanted = (max + LOOK_BACK).min(kept);
        let from_tail = self.tail_from(wanted.min(self.tail.len()));
        let from_head = &self.head[self.head.len() - (wanted - from_tail.len())..];
        last_of([from_head, &from_tail].concat(), max)
    }

    /// How many of the first bytes of `next` are already the last ones of this stream (the longest such match).
    pub(super) fn overlap(&self, next: &[u8]) -> usize {
        let pattern = &next[..next.len().min(LOOK_BACK * 16)];
        let text = {
            let from_tail = self.tail_from(pattern.len().min(self.tail.len()));
            let more = if self.missing() > 0 { 0 } else { pattern.len() - from_tail.len() };
            let from_head = &self.head[self.head.len().saturating_sub(more)..];
            if more == 0 { from_tail } else { [from_head, &from_tail].concat() }
        };
        // Knuth-Morris-Pratt: how much of the pattern has been seen when the text ends.
        let mut fallback = vec![0_usize; pattern.len()];
        let mut seen = 0;
        for i in 1..pattern.len() {
            while seen > 0 && pattern[i] != pattern[seen] {
                seen = fallback[seen - 1];
            }
            seen += usize::from(pattern[i] == pattern[seen]);
            fallback[i] = seen;
        }
        let mut seen = 0;
        for byte in &text {
            while seen > 0 && (seen == pattern.len() || *byte != pattern[seen]) {
                seen = fallback[seen - 1];
            }
            if seen < pattern.len() && *byte == pattern[seen] {
                seen += 1;
            }
        }
        seen
    }

    fn tail_from(&self, length: usize) -> Vec<u8> {
        self.tail.range(self.tail.len() - length..).copied().collect()
    }
}

/// At most the last `max` of `bytes`, beginning where a terminal can begin.
fn last_of(bytes: Vec<u8>, max: usize) -> Vec<u8> {
    let cut = bytes.len().saturating_sub(max);
    let start = safe_start(&bytes, cut);
    bytes[start..].to_vec()
}

/// Where a terminal's parser stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Parser {
    Ground,
    Escape,
    Control,
    Text,
    TextEscape,
}

impl Parser {
    fn next(self, byte: u8) -> Self {
        match (self, byte) {
            // Cancel, substitute: end any sequence.
            (_, 0x18 | 0x1a) => Self::Ground,
            (Self::Text, 0x1b) => Self::TextEscape,
            (Self::Text, 0x07) => Self::Ground,
            (Self::Text, _) => Self::Text,
            (Self::TextEscape, b'\\') => Self::Ground,
            (_, 0x1b) => Self::Escape,
            (Self::Escape | Self::TextEscape, b'[') => Self::Control,
            (Self::Escape | Self::TextEscape, b']' | b'P' | b'X' | b'^' | b'_') => Self::Text,
            // Intermediate bytes: one more to come.
            (Self::Escape, 0x20..=0x2f) => Self::Escape,
            (Self::Control, 0x40..=0x7e) | (Self::Escape | Self::TextEscape | Self::Ground, _) => Self::Ground,
            (Self::Control, _) => Self::Control,
        }
    }
}

/// The first place at or after `cut` that is outside of escape sequences and characters, if possible at a line's
/// start.
fn safe_start(bytes: &[u8], cut: usize) -> usize {
    if cut == 0 {
        return 0;
    }
    let mut parser = Parser::Ground;
    let mut first = None;
    for (position, byte) in bytes.iter().enumerate().skip(cut.saturating_sub(LOOK_BACK)) {
        let clean = parser == Parser::Ground && !(0x80..0xc0).contains(byte);
        if position >= cut && clean {
            first.get_or_insert(position);
            if position > 0 && bytes[position - 1] == b'\n' {
                return position;
            }
        }
        if position > cut + LOOK_AHEAD {
            break;
        }
        parser = parser.next(*byte);
    }
    first.unwrap_or(cut)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(head: usize, tail: usize, text: &[u8]) -> Scrollback {
        let mut scrollback = Scrollback::new(head, tail);
        for chunk in text.chunks(7) {
            scrollback.push(chunk);
        }
        scrollback
    }

    #[test]
    fn short_streams_are_kept_whole() {
        let s = filled(8, 100, b"first line\nsecond line\n");
        assert_eq!(s.history(1000), b"first line\nsecond line\n");
        assert_eq!(s.history(14), b"second line\n", "a line's start is preferred");
        assert_eq!(s.history(0), b"");
        assert_eq!(s.total(), 23);
    }

    #[test]
    fn long_streams_keep_both_ends_and_say_what_is_missing() {
        let text: String = (0..100).map(|n| format!("line {n}\n")).collect();
        let s = filled(14, 16, text.as_bytes());
        let all = String::from_utf8(s.history(10_000)).unwrap();
        assert!(all.starts_with("line 0\nline 1\n\r\n["), "{all}");
        assert!(all.ends_with("line 98\nline 99\n"), "{all}");
        assert_eq!(s.history(16), b"line 98\nline 99\n");
    }

    #[test]
    fn a_cut_never_falls_into_a_sequence_or_a_character() {
        let text = "aaaa\x1b[1;31mred\x1b]0;title\x07\u{20ac}xyz".as_bytes();
        let s = filled(1000, 1000, text);
        for max in 0..text.len() {
            let got = s.history(max);
            let rest = std::str::from_utf8(&got).unwrap();
            assert!(got.len() <= max);
            for inside in ["[1", "1;31m", "31m", ";title", "itle", "0;t"] {
                assert!(!rest.starts_with(inside), "{max}: {rest:?}");
            }
        }
    }

    #[test]
    fn overlap_is_the_longest_repeated_part() {
        let s = filled(4, 100, b"login: root\r\n# ");
        assert_eq!(s.overlap(b""), 0);
        assert_eq!(s.overlap(b"# ls\r\n"), 2);
        assert_eq!(s.overlap(b"root\r\n# more"), 8);
        assert_eq!(s.overlap(b"other"), 0);
        assert_eq!(s.overlap(b"login: root\r\n# "), 15);
        assert_eq!(filled(4, 100, b"aaab").overlap(b"aab"), 3);
    }

    #[test]
    fn skipped_bytes_count() {
        let mut s = filled(4, 100, b"abcd");
        s.skip(10);
        s.push(b"end");
        assert_eq!(s.total(), 17);
        assert!(String::from_utf8(s.history(100)).unwrap().contains("[10 bytes"));
    }
}
