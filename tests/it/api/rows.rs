//! Cases as rows: each has an outcome, all of them are printed, and the failures are told together at the end.

use std::time::{Duration, Instant};

/// How a case ended.
enum Outcome {
    Good,
    Bad(String),
    Skipped(String),
}

/// The outcomes of one table.
pub struct Rows {
    title: String,
    rows: Vec<(String, Outcome, Duration)>,
    since: Instant,
}

impl Rows {
    /// An empty table.
    pub fn new(title: &str) -> Self {
        Self { title: title.to_owned(), rows: Vec::new(), since: Instant::now() }
    }

    /// Adds a row. `what` begins with its id.
    pub fn add(&mut self, what: &str, outcome: Result<(), String>) {
        self.push(what, outcome.map_or_else(Outcome::Bad, |()| Outcome::Good));
    }

    /// Adds a row that cannot be run here, with the reason.
    pub fn skip(&mut self, what: &str, reason: &str) {
        self.push(what, Outcome::Skipped(reason.to_owned()));
    }

    fn push(&mut self, what: &str, outcome: Outcome) {
        self.rows.push((what.to_owned(), outcome, self.since.elapsed()));
        self.since = Instant::now();
    }

    /// Prints all rows; fails if one did, or if there are fewer than `at_least` that were run.
    pub fn judge(self, at_least: usize) {
        let mut report = format!("--- {}\n", self.title);
        let mut bad = Vec::new();
        let (mut good, mut skipped) = (0, 0);
        for (what, outcome, took) in &self.rows {
            let took = took.as_millis();
            match outcome {
                Outcome::Good => {
                    good += 1;
                    report.push_str(&format!("ok   {what} ({took} ms)\n"));
                }
                Outcome::Skipped(reason) => {
                    skipped += 1;
                    report.push_str(&format!("skip {what}: {reason}\n"));
                }
                Outcome::Bad(why) => {
                    report.push_str(&format!("FAIL {what} ({took} ms)\n"));
                    bad.push(format!("{what}\n     {}", why.trim_end().replace('\n', "\n     ")));
                }
            }
        }
        report.push_str(&format!("--- {}: {good} ok, {} failed, {skipped} skipped\n", self.title, bad.len()));
        println!("{report}");
        assert!(bad.is_empty(), "{}: {} of {} failed:\n{}", self.title, bad.len(), self.rows.len(), bad.join("\n"));
        assert!(good >= at_least, "{}: only {good} rows were run, {at_least} are the least", self.title);
    }
}

/// Checks a text against patterns; `(?m)` is on, a `!` in front forbids the pattern.
pub fn matches(text: &str, wants: &[&str]) -> Result<(), String> {
    for want in wants {
        let (forbidden, pattern) = want.strip_prefix('!').map_or((false, *want), |p| (true, p));
        let found = regex::Regex::new(&format!("(?m){pattern}")).map_err(|e| e.to_string())?.is_match(text);
        if found == forbidden {
            return Err(format!("{} /{pattern}/ in:\n{text}", if forbidden { "unwanted" } else { "no" }));
        }
    }
    Ok(())
}

#[test]
fn patterns_are_found_or_forbidden() {
    assert!(matches("one\ntwo three\n", &["^two", "!^three", "!four"]).is_ok());
    assert!(matches("one\n", &["two"]).is_err());
    assert!(matches("one\n", &["!one"]).is_err());
}
