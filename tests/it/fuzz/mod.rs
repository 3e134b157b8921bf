//! The fuzz corpus as tests: what once was interesting, or a finding, stays right. The targets themselves are in
//! tests/fuzz and run with `make fuzz`.

mod cases;

use std::path::Path;

/// Runs a case over each file of its corpus.
fn replay(target: &str, case: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/fuzz").join(target);
    let mut count = 0;
    for file in std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
        let file = file.unwrap().path();
        // Shown with the failure of the case, which would not name its input.
        println!("{}", file.display());
        case(&std::fs::read(&file).unwrap());
        count += 1;
    }
    assert!(count >= 10, "the corpus of {target} has only {count} files");
}

#[test]
fn requests() {
    replay("request", cases::request);
}

#[test]
fn patches() {
    replay("patch", cases::patch);
}

#[test]
fn selectors() {
    replay("selector", cases::selector);
}

#[test]
fn objects() {
    replay("object", cases::object);
}
