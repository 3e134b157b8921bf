//! Every reason that a reconciler can give is named by a test. Reasons are words of one piece in `src/controller`
//! ("BlockDevicesNotReady"); so are names of kinds, phases and conditions, which are listed here as what they are.
//!
//! What this shows and what not: a reason that no test names fails here, also a new one, until somebody reaches it or
//! says why not. That a test names the word does not prove that it reaches the code; reviewers look at that.

use std::collections::{BTreeMap, BTreeSet};

use super::source::{self, Source};

/// Words of one piece that are no reasons, and that no test has a use for.
const NO_REASONS: &[(&str, &[&str])] = &[
    (
        "kinds",
        &[
            "ClusterVirtualImage",
            "VirtualDiskSnapshot",
            "VirtualMachineBlockDeviceAttachment",
            "VirtualMachineIPAddressLease",
        ],
    ),
    ("phases", &["Degraded", "Pause"]),
    ("fields of built-in objects", &["Hostname", "Main", "Normal", "Warning"]),
    ("words of messages", &["AlwaysForced"]),
    ("the annotation of a machine's power", &["Off", "OffByPolicy"]),
];

/// Reasons that no test reaches, and why.
const UNREACHED: &[(&str, &str)] = &[
    (
        "CleanupPending",
        "of a disk's snapshot that is being read from: no test deletes one then; disks have a test of theirs",
    ),
    ("CreateVirtualMachineInProgress", "passes too quickly with the fake host; the end of the operation is tested"),
    ("VirtualMachineSnapshotOperationFailed", "the event; the condition of a failed operation is tested"),
    ("VirtualMachineSnapshottingFailed", "the event comes after the status; the condition is tested"),
    ("VirtualMachineSnapshottingPending", "the event of a snapshot that waits; its conditions are tested"),
];

/// Files whose reasons have a table of their own, with a test that sees each of its rows set.
const ELSEWHERE: [&str; 5] = [
    "src/controller/disk.rs",
    "src/controller/image.rs",
    "src/controller/making.rs",
    "src/controller/reasons.rs",
    "src/controller/source.rs",
];

/// Where tests of the reconcilers are, beside those in the files themselves.
const TESTS: [&str; 3] = ["tests/it/reconcile", "tests/it/qemu", "tests/it/guide"];

#[test]
fn every_reason_is_named_by_a_test() {
    let mut said: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut tested: BTreeSet<String> = BTreeSet::new();
    for file in source::rust_files("src/controller") {
        let (code, tests) = halves(&file);
        let own = if ELSEWHERE.contains(&file.path.as_str()) { String::new() } else { code };
        for word in words(&own) {
            said.entry(word).or_default().insert(file.path.clone());
        }
        tested.extend(words(&tests));
    }
    for folder in TESTS {
        tested.extend(source::rust_files(folder).iter().flat_map(|file| words(&file.text)));
    }
    assert!(said.len() > 100, "the search finds hardly any words: {said:?}");
    let mut faults = Vec::new();
    let other: BTreeSet<&str> = NO_REASONS.iter().flat_map(|(_, words)| words.iter().copied()).collect();
    let unreached: BTreeSet<&str> = UNREACHED.iter().map(|(word, _)| *word).collect();
    for (word, files) in &said {
        let listed = other.contains(word.as_str()) || unreached.contains(word.as_str());
        match (tested.contains(word), listed) {
            (false, false) => faults.push(format!("{word}: no test names it ({files:?})")),
            (true, true) if unreached.contains(word.as_str()) => {
                faults.push(format!("{word}: a test names it now, take it off the list"));
            }
            _ => {}
        }
    }
    for word in other.iter().chain(&unreached).filter(|word| !said.contains_key(**word)) {
        faults.push(format!("{word}: nothing in src/controller says it any more, take it off the list"));
    }
    assert!(faults.is_empty(), "{} faults:\n  {}", faults.len(), faults.join("\n  "));
}

/// A file's code and its tests.
fn halves(file: &Source) -> (String, String) {
    let lines = file.code_without_tests().lines().count();
    let take = |lines: &mut dyn Iterator<Item = &str>| lines.collect::<Vec<_>>().join("\n");
    (take(&mut file.text.lines().take(lines)), take(&mut file.text.lines().skip(lines)))
}

/// Quoted words of one piece that begin with a capital letter, outside of comments.
fn words(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in text.lines() {
        let code = line.split("// ").next().unwrap_or(line);
        let code = code.split("//!").next().unwrap_or(code);
        // Every second piece is between quotes; a wrong guess finds the text around a word, which is none.
        found.extend(code.split('"').map(without_status).filter(|piece| is_word(piece)).map(str::to_owned));
    }
    found
}

/// Tables write `False/NotRunning`.
fn without_status(piece: &str) -> &str {
    ["True/", "False/", "Unknown/"].iter().find_map(|status| piece.strip_prefix(status)).unwrap_or(piece)
}

fn is_word(piece: &str) -> bool {
    piece.len() > 2
        && piece.starts_with(|c: char| c.is_ascii_uppercase())
        && piece.chars().all(|c| c.is_ascii_alphabetic())
}

#[test]
fn the_search_sees_words_and_not_comments() {
    let text = "set(\"Ready\", Status::True, \"SuitableNodesFound\", \"Some words.\"); // \"NotThis\"\n/// \"NorThis\"\n\
                \"False/NotRunning\"\n";
    assert_eq!(words(text), ["Ready", "SuitableNodesFound", "NotRunning"]);
    let file = Source {
        path: "src/controller/x.rs".into(),
        text: "const A: &str = \"Here\";\n#[cfg(test)]\nmod tests {\n    const B: &str = \"There\";\n}\n".into(),
    };
    let (code, tests) = halves(&file);
    assert_eq!((words(&code), words(&tests)), (vec!["Here".to_owned()], vec!["There".to_owned()]));
}
