//! Fitting text into cells: widths are measured per grapheme, never per byte or `char`.

use unicode_segmentation::UnicodeSegmentation;
use unicode_width::UnicodeWidthStr;

/// Width of `text` in terminal cells.
pub fn width(text: &str) -> usize {
    text.width()
}

/// `text` if it fits in `cells`, otherwise its beginning and `ellipsis` (one cell).
pub fn fit(text: &str, cells: usize, ellipsis: &str) -> String {
    if text.width() <= cells {
        return text.to_owned();
    }
    if cells == 0 {
        return String::new();
    }
    let mut out = String::new();
    let mut used = 0;
    for grapheme in text.graphemes(true) {
        let w = grapheme.width();
        if used + w + 1 > cells {
            break;
        }
        used += w;
        out.push_str(grapheme);
    }
    out.push_str(ellipsis);
    out
}

/// [`fit`], then spaces up to exactly `cells`.
pub fn pad(text: &str, cells: usize, ellipsis: &str) -> String {
    let mut out = fit(text, cells, ellipsis);
    let used = out.width();
    out.extend(std::iter::repeat_n(' ', cells.saturating_sub(used)));
    out
}

/// [`fit`] with the spaces in front: numbers and ages end at the same column.
pub fn pad_left(text: &str, cells: usize, ellipsis: &str) -> String {
    let fitted = fit(text, cells, ellipsis);
    let mut out: String = std::iter::repeat_n(' ', cells.saturating_sub(fitted.width())).collect();
    out.push_str(&fitted);
    out
}

/// `text` broken at spaces into lines of at most `cells`; a longer word is cut. Line breaks in the text stay;
/// leading spaces of a line stay, so that indented server text keeps its shape.
pub fn wrap(text: &str, cells: usize) -> Vec<String> {
    let cells = cells.max(1);
    let mut lines = Vec::new();
    for paragraph in text.split('\n') {
        let mut line = String::new();
        let mut used = 0;
        for word in words(paragraph) {
            let w = word.width();
            if used + w <= cells {
                line.push_str(word);
                used += w;
                continue;
            }
            if !line.trim_end().is_empty() {
                lines.push(line.trim_end().to_owned());
                line.clear();
                used = 0;
            }
            if word.trim().is_empty() {
                continue;
            }
            for grapheme in word.graphemes(true) {
                let w = grapheme.width();
                if used + w > cells {
                    lines.push(std::mem::take(&mut line));
                    used = 0;
                }
                line.push_str(grapheme);
                used += w;
            }
        }
        lines.push(line.trim_end().to_owned());
    }
    lines
}

/// Runs of spaces and runs of everything else, in turn: names with dashes and paths stay whole.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let first = rest.chars().next()?;
        let end = rest.find(|c: char| (c == ' ') != (first == ' ')).unwrap_or(rest.len());
        let (word, tail) = rest.split_at(end);
        rest = tail;
        Some(word)
    })
}

/// `1204` as `1,204`.
pub fn thousands(n: usize) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// Ordering key where digit runs compare as numbers: `vm-2` before `vm-10`. Case is folded.
pub fn natural_key(text: &str) -> String {
    let mut key = String::with_capacity(text.len() + 8);
    let mut digits = String::new();
    let flush = |key: &mut String, digits: &mut String| {
        if !digits.is_empty() {
            let trimmed = digits.trim_start_matches('0');
            // The length in front makes longer numbers sort later; '0'+len stays within ASCII for sane lengths.
            key.push(char::from_u32(u32::try_from(trimmed.len()).unwrap_or(78).min(78) + 0x30).unwrap_or('~'));
            key.push_str(trimmed);
            digits.clear();
        }
    };
    for c in text.chars() {
        if c.is_ascii_digit() {
            digits.push(c);
        } else {
            flush(&mut key, &mut digits);
            key.extend(c.to_lowercase());
        }
    }
    flush(&mut key, &mut digits);
    key
}

/// Count and noun: `1 row`, `2 rows`.
pub fn count(n: usize, one: &str, many: &str) -> String {
    format!("{} {}", thousands(n), if n == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_at_graphemes_from_the_right() {
        assert_eq!(fit("virtual", 7, "…"), "virtual");
        assert_eq!(fit("virtual", 4, "…"), "vir…");
        assert_eq!(fit("日本語", 4, "…"), "日…");
        assert_eq!(fit("abc", 0, "…"), "");
        assert_eq!(pad("ab", 4, "…"), "ab  ");
        assert_eq!(pad_left("7", 3, "…"), "  7");
    }

    #[test]
    fn wrapping_keeps_words_and_breaks_long_ones() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("abcdefgh", 3), ["abc", "def", "gh"]);
        assert_eq!(wrap("a\n\nb", 5), ["a", "", "b"]);
        assert_eq!(wrap("on db-root now", 8), ["on", "db-root", "now"]);
        assert_eq!(wrap("  - item one two", 10), ["  - item", "one two"]);
    }

    #[test]
    fn numbers_sort_as_numbers() {
        let mut names = ["vm-10", "vm-2", "VM-1", "vm-02b"];
        names.sort_by_key(|n| natural_key(n));
        assert_eq!(names, ["VM-1", "vm-2", "vm-02b", "vm-10"]);
        assert_eq!(thousands(1_204), "1,204");
        assert_eq!(thousands(1_234_567), "1,234,567");
    }
}
