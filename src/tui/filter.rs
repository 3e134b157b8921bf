//! What the `/` line means.
//!
//! | form | keeps rows |
//! |---|---|
//! | `text` | that match the regular expression, case ignored (plain text if it is not a valid one) |
//! | `!text` | that do not |
//! | `-f text` | whose letters contain these in order (fuzzy) |
//! | `-l app=web,tier!=db` | whose labels match the selector |

use nucleo_matcher::pattern::{CaseMatching, Normalization, Pattern};
use nucleo_matcher::{Config, Matcher, Utf32Str};
use regex::{Regex, RegexBuilder};

use crate::types::selector::LabelSelector;

/// A parsed filter line.
#[derive(Debug, Clone, Default)]
pub enum Filter {
    /// Everything passes.
    #[default]
    All,
    /// A regular expression over the visible cells.
    Regex {
        /// What to look for.
        regex: Regex,
        /// Keep what does *not* match.
        inverse: bool,
    },
    /// Letters in order.
    Fuzzy(Pattern),
    /// A label selector.
    Labels(LabelSelector),
}

/// What a filter looks at.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// The cells of the row.
    pub cells: &'a [String],
    /// Also searched, although it is not always shown.
    pub namespace: &'a str,
    /// The whole object, for its labels.
    pub object: &'a serde_json::Value,
}

impl Filter {
    /// Parses a line. A selector that is not finished yet is an error with the reason; the caller keeps the
    /// former filter and shows the reason.
    pub fn parse(line: &str) -> Result<Self, String> {
        let line = line.trim();
        if line.is_empty() || line == "!" {
            return Ok(Self::All);
        }
        if let Some(rest) = option(line, "-l") {
            if rest.is_empty() {
                return Ok(Self::All);
            }
            return LabelSelector::parse(rest).map(Self::Labels).map_err(|e| e.to_string());
        }
        if let Some(rest) = option(line, "-f") {
            return Ok(match rest.is_empty() {
                true => Self::All,
                false => Self::Fuzzy(Pattern::parse(rest, CaseMatching::Ignore, Normalization::Smart)),
            });
        }
        let (inverse, text) = match line.strip_prefix('!') {
            Some(rest) => (true, rest.trim_start()),
            None => (false, line),
        };
        let build = |pattern: &str| RegexBuilder::new(pattern).case_insensitive(true).size_limit(1 << 20).build();
        let regex = build(text).or_else(|_| build(&regex::escape(text))).map_err(|e| e.to_string())?;
        Ok(Self::Regex { regex, inverse })
    }

    /// Whether a row passes. `matcher` holds scratch memory of the fuzzy form.
    pub fn keeps(&self, subject: Subject<'_>, matcher: &mut Matcher) -> bool {
        match self {
            Self::All => true,
            Self::Regex { regex, inverse } => {
                let found = subject.cells.iter().any(|cell| regex.is_match(cell)) || regex.is_match(subject.namespace);
                found != *inverse
            }
            Self::Fuzzy(pattern) => subject.cells.iter().any(|cell| {
                let mut scratch = Vec::new();
                pattern.score(Utf32Str::new(cell, &mut scratch), matcher).is_some()
            }),
            Self::Labels(selector) => selector.matches_object(subject.object),
        }
    }

    /// The part of `text` that made it match, for highlighting: byte range.
    pub fn highlight(&self, text: &str) -> Option<std::ops::Range<usize>> {
        match self {
            Self::Regex { regex, inverse: false } => regex.find(text).filter(|m| !m.is_empty()).map(|m| m.range()),
            _ => None,
        }
    }
}

/// `rest` of `-x rest`, or `None` if the line is not of this form.
fn option<'a>(line: &'a str, flag: &str) -> Option<&'a str> {
    let rest = line.strip_prefix(flag)?;
    (rest.is_empty() || rest.starts_with(' ')).then(|| rest.trim())
}

/// Scratch memory for the fuzzy form.
pub fn matcher() -> Matcher {
    Matcher::new(Config::DEFAULT)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn forms() {
        let cells = ["web-01".to_owned(), "Running".to_owned()];
        let object = json!({"metadata": {"labels": {"app": "web"}}});
        let subject = Subject { cells: &cells, namespace: "demo", object: &object };
        let mut matcher = matcher();
        for (line, kept) in [
            ("", true),
            ("WEB", true),
            ("web-0[12]", true),
            ("web-0[", false),
            ("^running$", true),
            ("demo", true),
            ("!running", false),
            ("!stopped", true),
            ("!", true),
            ("-f w01", true),
            ("-f 10w", false),
            ("-f", true),
            ("-l app=web", true),
            ("-l app!=web", false),
            ("-l", true),
            ("-lx", false),
        ] {
            let filter = Filter::parse(line).unwrap_or_else(|e| panic!("{line}: {e}"));
            assert_eq!(filter.keeps(subject, &mut matcher), kept, "{line:?}");
        }
        assert!(Filter::parse("-l a in (").is_err());
    }

    #[test]
    fn matches_are_highlighted() {
        assert_eq!(Filter::parse("b+").unwrap().highlight("abbc"), Some(1..3));
        assert_eq!(Filter::parse("!b").unwrap().highlight("abbc"), None);
    }
}
