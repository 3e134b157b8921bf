//! README.md agrees with the program. `VMDECK_BLESS=1` rewrites the parts that are generated.

use vmdeck::config::Settings;
use vmdeck::tui::action::{ACTIONS, Scope};
use vmdeck::tui::keymap::Keymap;

use crate::source;

const BEGIN: &str = "<!-- keys -->\n";
const END: &str = "<!-- /keys -->";

#[test]
fn the_keys_are_the_programs() {
    let text = source::read("README.md");
    let start = text.find(BEGIN).expect("a place for the keys") + BEGIN.len();
    let end = start + text[start..].find(END).expect("an end of the keys");
    let keys = keys();
    if std::env::var_os("VMDECK_BLESS").is_some() {
        std::fs::write(source::root().join("README.md"), format!("{}{keys}{}", &text[..start], &text[end..])).unwrap();
        return;
    }
    assert!(text[start..end] == keys, "the keys in README.md are old: run with VMDECK_BLESS=1\n{keys}");
}

/// The table as Markdown: a row per action, grouped as in the help.
fn keys() -> String {
    let (keymap, warnings) = Keymap::load(None);
    assert!(warnings.is_empty(), "{warnings:?}");
    let mut scopes: Vec<Scope> = ACTIONS.iter().map(|row| row.scope).collect();
    scopes.sort_unstable();
    scopes.dedup();
    let mut out = String::from("| where | keys | action | |\n| --- | --- | --- | --- |\n");
    for scope in scopes {
        let mut title = scope.title();
        for row in ACTIONS.iter().filter(|row| row.scope == scope) {
            let chords: Vec<String> =
                keymap.keys(row.action).iter().map(|c| format!("`{}`", c.to_string().replace('|', "\\|"))).collect();
            out.push_str(&format!("| {title} | {} | {} | {} |\n", chords.join(" "), row.name, row.doc));
            title = "";
        }
    }
    out
}

#[test]
fn every_file_it_links_exists() {
    let text = source::read("README.md");
    for (at, _) in text.match_indices("](") {
        let target = &text[at + 2..at + text[at..].find(')').expect("a closing bracket")];
        if !target.contains("://") {
            assert!(source::root().join(target).exists(), "README.md links {target}, which does not exist");
        }
    }
}

#[test]
fn the_settings_are_the_defaults() {
    let text = source::read("README.md");
    let start = text.find("```toml\n[host]").expect("the settings") + "```toml\n".len();
    let block = &text[start..start + text[start..].find("```").expect("their end")];
    assert_eq!(toml::from_str::<Settings>(block).unwrap(), Settings::default());
}
