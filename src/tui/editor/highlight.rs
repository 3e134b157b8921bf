//! What the parts of YAML lines mean, for colouring. A guess by line, not a parser: it must be fast and never fail.

use std::ops::Range;

use crate::tui::theme::Meaning;

/// Parts of one line, in bytes, in order; what is in none is ordinary text.
pub type Parts = Vec<(Range<usize>, Meaning)>;

/// Follows block scalars from line to line.
#[derive(Debug, Default)]
pub struct Highlighter {
    /// Inside a block scalar that belongs to a line with this indentation.
    block: Option<usize>,
}

impl Highlighter {
    /// The parts of the next line.
    pub fn line(&mut self, line: &str) -> Parts {
        let indent = line.len() - line.trim_start_matches(' ').len();
        let text = &line[indent..];
        if let Some(owner) = self.block {
            if text.is_empty() || indent > owner {
                return vec![(indent..line.len(), Meaning::YamlString)];
            }
            self.block = None;
        }
        if text.starts_with('#') || text.starts_with("---") {
            return vec![(indent..line.len(), Meaning::YamlComment)];
        }
        let mut parts = Parts::new();
        let mut start = indent;
        while line[start..].starts_with("- ") {
            start += 2;
            start += line[start..].len() - line[start..].trim_start_matches(' ').len();
        }
        let end = comment_start(line, start);
        let body = line[..end].trim_end().len().max(start);
        let key_end = key_end(&line[start..body]).map(|n| start + n);
        let mut value = start;
        if let Some(key_end) = key_end {
            parts.push((start..key_end, Meaning::YamlKey));
            value = (key_end + 1).min(body);
            value += line[value..body].len() - line[value..body].trim_start_matches(' ').len();
        }
        let content = &line[value..body];
        if content.starts_with(['|', '>']) {
            // The scalar's owner is the key's column, or the dash's for a list item without key.
            self.block = Some(if key_end.is_some() { start } else { indent });
        }
        if !content.is_empty() {
            parts.push((value..body, scalar(content)));
        }
        if end < line.len() {
            parts.push((end..line.len(), Meaning::YamlComment));
        }
        parts
    }
}

fn scalar(text: &str) -> Meaning {
    let number = text.parse::<f64>().is_ok() && !text.starts_with(['i', 'n', 'I', 'N']);
    if number || matches!(text, "true" | "false" | "null" | "~" | "yes" | "no" | "on" | "off") {
        Meaning::YamlNumber
    } else if text.starts_with(['[', '{', '&', '*', '!']) {
        Meaning::Text
    } else {
        Meaning::YamlString
    }
}

/// Where the key of `key: value` ends.
fn key_end(text: &str) -> Option<usize> {
    let from = match text.chars().next()? {
        quote @ ('"' | '\'') => text[1..].find(quote)? + 2,
        _ => 0,
    };
    let at = text[from..].find(": ").map(|n| from + n).or_else(|| text.ends_with(':').then(|| text.len() - 1))?;
    (at >= from && (from == 0 || at == from)).then_some(at)
}

/// Where a comment begins: `#` after a space, outside quotes.
fn comment_start(line: &str, from: usize) -> usize {
    let mut quote = None;
    let mut before = ' ';
    for (i, c) in line[from..].char_indices() {
        match (quote, c) {
            (None, '"' | '\'') if matches!(before, ' ' | '[' | '{' | ',' | ':') => quote = Some(c),
            (Some(q), c) if q == c => quote = None,
            (None, '#') if before == ' ' => return from + i,
            _ => {}
        }
        before = c;
    }
    line.len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(text: &str) -> Vec<String> {
        let mut highlighter = Highlighter::default();
        text.lines()
            .map(|line| {
                let parts = highlighter.line(line);
                parts
                    .into_iter()
                    .map(|(range, meaning)| format!("{}={}", meaning.key().trim_start_matches("yaml-"), &line[range]))
                    .collect::<Vec<_>>()
                    .join(" ")
            })
            .collect()
    }

    #[test]
    fn lines_fall_into_parts() {
        let text = "\
# note
kind: VirtualMachine # what
cores: 2
\"a: b\": 'x # y'
- kind: VirtualDisk
  name: \"root\"
userData: |
  #cloud-config
  cores: 5

on: true
flow: {a: 1}
url: http://x/#y
- |
  x: 1
last:";
        assert_eq!(
            shown(text),
            [
                "comment=# note",
                "key=kind string=VirtualMachine comment=# what",
                "key=cores number=2",
                "key=\"a: b\" string='x # y'",
                "key=kind string=VirtualDisk",
                "key=name string=\"root\"",
                "key=userData string=|",
                "string=#cloud-config",
                "string=cores: 5",
                "string=",
                "key=on number=true",
                "key=flow text={a: 1}",
                "key=url string=http://x/#y",
                "string=|",
                "string=x: 1",
                "key=last",
            ]
        );
    }

    proptest! {
        #[test]
        fn parts_lie_in_the_line_in_order(lines in prop::collection::vec("[ -~é]{0,30}", 0..8)) {
            let mut highlighter = Highlighter::default();
            for line in lines {
                let mut at = 0;
                for (range, _) in highlighter.line(&line) {
                    prop_assert!(range.start >= at && line.get(range.clone()).is_some(), "{line:?} {range:?}");
                    at = range.end;
                }
            }
        }
    }
}
