//! Text for people: hostile strings made harmless, ages.

use std::borrow::Cow;

/// Whether a character may reach a terminal: no C0/C1 controls, no bidirectional overrides, no line separators.
pub fn is_printable(c: char) -> bool {
    !(c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}'))
}

/// `text` on one line, with everything that could steer a terminal shown as an escape (`\x1b`, `\u{202e}`).
/// Object fields, server messages and guest output pass through here before they are printed.
pub fn printable(text: &str) -> Cow<'_, str> {
    escape(text, |_| false)
}

/// As [`printable`], but newlines and tabs stay: for text that is printed as a block.
pub fn printable_block(text: &str) -> Cow<'_, str> {
    escape(text, |c| c == '\n' || c == '\t')
}

fn escape(text: &str, keep: impl Fn(char) -> bool) -> Cow<'_, str> {
    if text.chars().all(|c| is_printable(c) || keep(c)) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if is_printable(c) || keep(c) {
            out.push(c);
        } else {
            match c {
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                c if (c as u32) < 0x80 => out.push_str(&format!("\\x{:02x}", c as u32)),
                c => out.push_str(&format!("\\u{{{:x}}}", c as u32)),
            }
        }
    }
    Cow::Owned(out)
}

/// A duration as kubectl prints ages: `45s`, `5m16s`, `79m`, `3h5m`, `12h`, `3d4h`, `12d`, `2y30d`.
/// Negative durations (clock skew) are `<invalid>` below two seconds into the future, as kubectl has it.
pub fn age(seconds: i64) -> String {
    if seconds < -1 {
        return "<invalid>".into();
    }
    if seconds < 0 {
        return "0s".into();
    }
    let (s, m, h, d) = (seconds, seconds / 60, seconds / 3600, seconds / 86400);
    match () {
        () if s < 120 => format!("{s}s"),
        () if m < 10 => two(m, "m", s % 60, "s"),
        () if m < 180 => format!("{m}m"),
        () if h < 8 => two(h, "h", m % 60, "m"),
        () if h < 48 => format!("{h}h"),
        () if d < 8 => two(d, "d", h % 24, "h"),
        () if d < 730 => format!("{d}d"),
        () if d < 2920 => two(d / 365, "y", d % 365, "d"),
        () => format!("{}y", d / 365),
    }
}

fn two(big: i64, big_unit: &str, small: i64, small_unit: &str) -> String {
    if small == 0 { format!("{big}{big_unit}") } else { format!("{big}{big_unit}{small}{small_unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_is_shown_not_obeyed() {
        assert_eq!(printable("plain é 漢"), "plain é 漢");
        assert_eq!(printable("a\x1b[31mb\n"), "a\\x1b[31mb\\n");
        assert_eq!(printable("\u{9b}2J\u{202e}"), "\\u{9b}2J\\u{202e}");
        assert_eq!(printable_block("a\n\tb\x07"), "a\n\tb\\x07");
    }

    #[test]
    fn ages_read_like_kubectl() {
        for (s, text) in [
            (-5, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (316, "5m16s"),
            (600, "10m"),
            (4740, "79m"),
            (10800, "3h"),
            (11100, "3h5m"),
            (43200, "12h"),
            (172800, "2d"),
            (200000, "2d7h"),
            (86400 * 30, "30d"),
            (86400 * 800, "2y70d"),
        ] {
            assert_eq!(age(s), text, "{s}");
        }
    }
}
