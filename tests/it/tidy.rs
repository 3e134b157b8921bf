//! The project's rules as a test: who may import whom, which crate belongs to which module, file sizes, words that
//! may not appear, and documents that must agree with the code. The tables here *are* the rules; changing one is a
//! decision that a reviewer sees.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::source::{self, Source};

/// What the code of each module may use of this crate (tests inside a module may use anything).
const IMPORTS: &[(&str, &[&str])] = &[
    ("types", &[]),
    ("term", &[]),
    ("config", &[]),
    ("cli", &[]),
    ("host", &["config"]),
    ("store", &["types"]),
    ("apiserver", &["types", "store"]),
    ("controller", &["types", "host"]),
    ("client", &["types", "config"]),
    ("tui", &["types", "client", "term", "config"]),
    ("run", &["types", "term", "config", "cli", "host", "store", "apiserver", "controller", "client", "tui"]),
    ("main", &["run"]),
    ("lib", &[]),
];

/// Crates that only some modules may name. `kube::runtime::controller` stands for kube's `Controller`.
const FENCES: &[(&str, &[&str])] = &[
    ("rusqlite", &["store"]),
    ("axum", &["apiserver", "run"]),
    ("ratatui", &["tui"]),
    ("ratatui_textarea", &["tui"]),
    ("alacritty_terminal", &["term"]),
    ("vte", &["term"]),
    ("kube::runtime::controller", &["controller"]),
    ("kube::runtime::Controller", &["controller"]),
    ("clap", &["cli", "run"]),
    ("clap_complete", &["cli", "run"]),
    ("clap_mangen", &["cli", "run"]),
    ("toml", &["config", "tui"]),
];

/// A file beyond this many lines needs a reason in [`LONG_FILES`].
const THINK_AT: usize = 500;
/// A file beyond this many lines fails.
const STOP_AT: usize = 700;

/// Files that may be longer than [`THINK_AT`], each with its reason.
const LONG_FILES: &[(&str, &str)] = &[
    ("src/tui/state.rs", "all state of the viewer as types; update and view read it side by side"),
    ("tests/it/guide/steps.rs", "the user guide from top to bottom as one table; it is read beside the guide"),
    ("src/tui/table.rs", "a fifth is its tests, which read best beside the sorting and filtering they pin down"),
];

/// The one file with `unsafe` code.
const UNSAFE_HOME: &str = "src/host/sys.rs";

#[test]
fn modules_import_only_what_the_table_allows() {
    let mut faults = Vec::new();
    for file in source::rust_files("src") {
        let module = file.module();
        let Some((_, allowed)) = IMPORTS.iter().find(|(name, _)| *name == module) else {
            faults.push(format!("{}: module {module} has no row in the import table", file.path));
            continue;
        };
        for (line, name) in file.crate_names() {
            if name != module && !allowed.contains(&name.as_str()) && IMPORTS.iter().any(|(m, _)| *m == name) {
                faults.push(format!("{}:{line}: {module} must not use crate::{name}", file.path));
            }
        }
    }
    none(&faults);
}

#[test]
fn third_party_crates_stay_behind_their_fences() {
    let mut faults = Vec::new();
    for file in source::rust_files("src") {
        let module = file.module();
        for (fenced, homes) in FENCES {
            if homes.contains(&module.as_str()) {
                continue;
            }
            for line in file.lines_naming_crate(fenced) {
                faults.push(format!("{}:{line}: {fenced} belongs to {}", file.path, homes.join(", ")));
            }
        }
    }
    none(&faults);
}

#[test]
fn files_are_short() {
    let mut faults = Vec::new();
    for file in source::rust_files("src").into_iter().chain(source::rust_files("tests")) {
        let lines = file.text.lines().count();
        let listed = LONG_FILES.iter().any(|(path, _)| *path == file.path);
        if lines > STOP_AT {
            faults.push(format!("{}: {lines} lines, more than {STOP_AT}: split it", file.path));
        } else if lines > THINK_AT && !listed {
            faults
                .push(format!("{}: {lines} lines, more than {THINK_AT}: split it or list it with a reason", file.path));
        } else if lines <= THINK_AT && listed {
            faults.push(format!("{}: is short now, take it off the list", file.path));
        }
    }
    none(&faults);
}

#[test]
fn unsafe_code_has_one_home_and_every_block_a_reason() {
    let mut faults = Vec::new();
    for file in source::rust_files("src") {
        for line in file.lines_with_word("unsafe") {
            if file.path != UNSAFE_HOME {
                faults.push(format!("{}:{line}: unsafe code belongs to {UNSAFE_HOME}", file.path));
            } else if !file.comment_above(line).contains("SAFETY:") {
                faults.push(format!("{}:{line}: a SAFETY: comment must stand above", file.path));
            }
        }
    }
    none(&faults);
}

#[test]
fn nothing_panics_outside_tests_without_a_reason() {
    let mut faults = Vec::new();
    for file in source::rust_files("src") {
        let code = file.code_without_tests();
        for (number, line) in code.lines().enumerate() {
            for bad in [".unwrap()", "todo!(", "unimplemented!(", "panic!(", "dbg!("] {
                if line.contains(bad) {
                    faults.push(format!("{}:{}: {bad}", file.path, number + 1));
                }
            }
            // With a text, or with a text on the next line: a parser's own `expect(token)` is something else.
            let text = file.text.lines().nth(number).unwrap_or_default();
            let panics =
                line.contains(".expect(") && (text.contains(".expect(\"") || text.trim_end().ends_with(".expect("));
            if panics && !file.reason_near(number + 1, "clippy::expect_used") {
                faults.push(format!(
                    "{}:{}: expect() without #[expect(clippy::expect_used, reason)]",
                    file.path,
                    number + 1
                ));
            }
        }
    }
    none(&faults);
}

#[test]
fn the_map_names_every_module() {
    let map = source::read("src/lib.rs");
    let declared: BTreeSet<&str> =
        map.lines().filter_map(|l| l.strip_prefix("pub mod ")).map(|l| l.trim_end_matches([';', ' ', '{'])).collect();
    let missing: Vec<_> = declared.iter().filter(|m| !map.contains(&format!("[`{m}`]"))).collect();
    assert!(missing.is_empty(), "src/lib.rs describes no {missing:?}");
    for (module, _) in IMPORTS.iter().filter(|(m, _)| *m != "main" && *m != "lib") {
        assert!(declared.contains(module), "the import table names {module}, which src/lib.rs does not declare");
    }
}

/// Hosts that packages come from, and directories of the machines this was written on: neither belongs in a file
/// that others use. Written in halves, so that this file does not trip over itself.
#[test]
fn no_file_names_a_registry_or_a_machine() {
    let words: Vec<String> = [
        ("crates", ".io/api"),
        ("static.crates", ".io"),
        ("index.crates", ".io"),
        ("deb.debian", ".org"),
        ("security.debian", ".org"),
        ("registry.npmjs", ".org"),
        ("pypi", ".org"),
        ("proxy.golang", ".org"),
        ("registry-1.docker", ".io"),
        ("/tmp/", "wt/"),
        ("/work/", "main"),
        ("/work/", "shared"),
        ("../", "shared/"),
        ("/root/", ".cargo"),
    ]
    .iter()
    .map(|(a, b)| format!("{a}{b}"))
    .collect();
    let mut faults = Vec::new();
    for path in source::all_files() {
        let Ok(text) = std::fs::read_to_string(source::root().join(&path)) else { continue };
        for (number, line) in text.lines().enumerate() {
            if let Some(word) = words.iter().find(|w| line.contains(w.as_str())) {
                faults.push(format!("{}:{}: {word}", path.display(), number + 1));
            }
        }
    }
    none(&faults);
}

#[test]
fn the_changelog_has_this_version() {
    let heading = format!("## {}", env!("CARGO_PKG_VERSION"));
    let text = source::read("CHANGELOG.md");
    assert!(text.lines().any(|l| l.starts_with(&heading)), "CHANGELOG.md has no section \"{heading}\"");
}

#[test]
fn shell_scripts_are_executable_and_parse() {
    for path in source::all_files().iter().filter(|p| p.extension().is_some_and(|e| e == "sh")) {
        let full = source::root().join(path);
        let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&full).unwrap());
        assert!(mode & 0o100 != 0, "{} is not executable", path.display());
        let status = std::process::Command::new("bash").arg("-n").arg(&full).status().unwrap();
        assert!(status.success(), "{} does not parse", path.display());
    }
}

#[test]
fn the_rules_find_what_they_forbid() {
    let text = "use crate::{store::Store, types};\n// crate::tui\nfn f() { let s = \"crate::cli\"; super::super::host::x(); }\n\
                use crate::{\n    client::{Session, engine},\n    term,\n};\n#[cfg(test)]\nmod tests { use crate::run; }\n";
    let file = Source { path: "src/types/a.rs".into(), text: text.into() };
    let names: Vec<String> = file.crate_names().into_iter().map(|(_, n)| n).collect();
    assert_eq!(names, ["store", "types", "host", "client", "term"]);
    let file = Source {
        path: "src/types/a.rs".into(),
        text: "use ratatui::x;\nlet a = b::ratatui::c;\nlet r = my_ratatui::z; // ratatui::q\nfn f<'a>(c: char) { '\"'; \"ratatui::\"; }\n"
            .into(),
    };
    assert_eq!(file.lines_naming_crate("ratatui"), [1]);
}

fn none(faults: &[String]) {
    assert!(faults.is_empty(), "{} faults:\n  {}", faults.len(), faults.join("\n  "));
}

/// Kept here so that a wrong path in a table is noticed.
#[test]
fn the_tables_name_existing_files() {
    let exists = |p: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join(p).exists();
    let missing: Vec<PathBuf> = LONG_FILES.iter().map(|(p, _)| p).filter(|p| !exists(p)).map(PathBuf::from).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
