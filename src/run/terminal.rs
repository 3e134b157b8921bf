//! The user's terminal in raw mode, restored on every way out.

use std::io::IsTerminal;

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};

/// Raw mode of standard input, until dropped. Does nothing when standard input is no terminal.
pub struct RawMode {
    saved: Option<Termios>,
}

impl RawMode {
    /// Enters raw mode.
    pub fn enter() -> std::io::Result<Self> {
        let stdin = std::io::stdin();
        if !stdin.is_terminal() {
            return Ok(Self { saved: None });
        }
        let saved = tcgetattr(&stdin)?;
        let mut raw = saved.clone();
        raw.make_raw();
        tcsetattr(&stdin, OptionalActions::Now, &raw)?;
        Ok(Self { saved: Some(saved) })
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        if let Some(saved) = &self.saved {
            // Nothing can be done if the terminal is gone.
            let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, saved);
        }
    }
}

/// Asks on the controlling terminal, without showing what is typed; `None` without a terminal or at its end.
pub fn ask_secret(prompt: &str) -> std::io::Result<Option<String>> {
    use rustix::termios::LocalModes;
    use std::io::{BufRead, Write};
    let Ok(mut tty) = std::fs::File::options().read(true).write(true).open("/dev/tty") else { return Ok(None) };
    let saved = tcgetattr(&tty)?;
    let mut silent = saved.clone();
    silent.local_modes -= LocalModes::ECHO;
    // Before the question: who answers at once must not be shown, nor have the answer flushed.
    tcsetattr(&tty, OptionalActions::Flush, &silent)?;
    let mut line = String::new();
    let asked = write!(tty, "{}", crate::types::text::printable(prompt));
    let read = asked.and_then(|()| std::io::BufReader::new(&tty).read_line(&mut line));
    tcsetattr(&tty, OptionalActions::Now, &saved)?;
    writeln!(tty)?;
    if read? == 0 { Ok(None) } else { Ok(Some(line.trim_end_matches(['\r', '\n']).to_owned())) }
}

/// What a guest may have switched on in the user's terminal and what must not stay: mouse reports, bracketed paste,
/// application keys, hidden cursor, colours, a scroll region, another character set; the alternate screen if `alt`.
pub fn reset_sequence(alt: bool) -> Vec<u8> {
    let mut out = Vec::new();
    if alt {
        out.extend_from_slice(b"\x1b[?1049l");
    }
    for mode in [1000, 1002, 1003, 1004, 1005, 1006, 1015, 2004] {
        out.extend_from_slice(format!("\x1b[?{mode}l").as_bytes());
    }
    out.extend_from_slice(b"\x1b[?1l\x1b>\x1b[?7h\x1b[?25h\x1b[0m\x1b(B\x0f");
    out
}

/// Follows whether the output has switched to the alternate screen, over block borders.
#[derive(Debug, Default)]
pub struct AltScreen {
    tail: Vec<u8>,
    on: bool,
}

impl AltScreen {
    /// Looks at more output.
    pub fn feed(&mut self, data: &[u8]) {
        let mut window = std::mem::take(&mut self.tail);
        window.extend_from_slice(data);
        for i in 0..window.len() {
            for (sequence, on) in
                [(&b"\x1b[?1049h"[..], true), (b"\x1b[?1049l", false), (b"\x1b[?47h", true), (b"\x1b[?47l", false)]
            {
                if window[i..].starts_with(sequence) {
                    self.on = on;
                }
            }
        }
        let keep = window.len().saturating_sub(7);
        self.tail = window.split_off(keep);
    }

    /// Whether it is on.
    pub fn is_on(&self) -> bool {
        self.on
    }
}

/// Removes what makes a terminal answer (cursor position, device attributes, status): replayed history must not
/// type answers into the guest.
pub fn without_queries(data: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(data.len());
    let mut i = 0;
    while i < data.len() {
        if data[i] == 0x1b && data.get(i + 1) == Some(&b'Z') {
            i += 2;
            continue;
        }
        if data[i] == 0x1b && data.get(i + 1) == Some(&b'[') {
            let body = data[i + 2..].iter().take_while(|b| (0x20..0x40).contains(*b)).count();
            match data.get(i + 2 + body) {
                Some(b'n' | b'c' | b'x') => {
                    i += body + 3;
                    continue;
                }
                // Window reports: `CSI 1x t`, `CSI 2x t`.
                Some(b't') => {
                    i += body + 3;
                    continue;
                }
                _ => {}
            }
        }
        out.push(data[i]);
        i += 1;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_removed_and_nothing_else() {
        for (input, want) in [
            (&b"a\x1b[6nb"[..], &b"ab"[..]),
            (b"\x1b[c\x1b[>0c\x1bZ\x1b[5n\x1b[?6n", b""),
            (b"\x1b[31mred\x1b[0m\x1b[2J", b"\x1b[31mred\x1b[0m\x1b[2J"),
            (b"\x1b[", b"\x1b["),
            (b"\x1b", b"\x1b"),
            (b"no\xffthing", b"no\xffthing"),
        ] {
            assert_eq!(without_queries(input), want);
        }
    }

    #[test]
    fn alternate_screen_is_seen_over_block_borders() {
        let mut screen = AltScreen::default();
        screen.feed(b"x\x1b[?10");
        assert!(!screen.is_on());
        screen.feed(b"49h");
        assert!(screen.is_on());
        screen.feed(b"text\x1b[?1049l");
        assert!(!screen.is_on());
    }
}
