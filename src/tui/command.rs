//! The `:` line: what it means, and what could come next.

use super::action::{ACTIONS, Action, Scope};
use super::message::Kind;
use super::screens::{kind_noun, kind_title};
use super::state::State;
use crate::types::kinds::{self, KINDS};

/// A line that was understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// A kind's list, perhaps in another namespace, perhaps filtered.
    Goto {
        /// The kind.
        kind: Kind,
        /// `None` = as it is.
        namespace: Option<Option<String>>,
        /// A filter line.
        filter: Option<String>,
    },
    /// Another namespace; `None` = all.
    Namespace(Option<String>),
    /// The list of contexts, or one of them.
    Context(Option<String>),
    /// The next theme, or a named one.
    Theme(Option<String>),
    /// Applies a file; asks which if none is named.
    Apply(Option<String>),
    /// A new object; asks of which kind if none is named.
    Create(Option<Kind>),
    /// A machine's console.
    Console(String),
    /// An action by its name.
    Action(Action),
}

/// Words that are not kinds, with what follows them and what they do.
const WORDS: &[(&str, &str, &str)] = &[
    ("ns", "[NAME|all]", "switch the namespace, or list them"),
    ("ctx", "[NAME|local]", "switch between clusters and this computer"),
    ("theme", "[NAME]", "change the colours"),
    ("apply", "[FILE]", "apply a manifest file"),
    ("create", "[KIND]", "create an object with a form"),
    ("console", "[MACHINE]", "open a serial console"),
    ("errors", "", "errors that were not dismissed"),
    ("tasks", "", "running and finished tasks"),
    ("help", "", "keys of this view"),
    ("q", "", "leave vmdeck"),
];

/// Parses a line; the error says what is wrong and what was perhaps meant.
pub fn parse(line: &str) -> Result<Command, String> {
    let mut words = line.split_whitespace();
    let Some(first) = words.next() else { return Err("type a kind such as vm, or a command".into()) };
    let rest: Vec<&str> = words.collect();
    let one = || rest.first().map(|w| (*w).to_owned());
    Ok(match first {
        "q" | "q!" | "quit" | "exit" => Command::Action(Action::Quit),
        "ns" | "namespace" if !rest.is_empty() => {
            let name = rest[0];
            Command::Namespace((!matches!(name, "all" | "*" | "-")).then(|| name.to_owned()))
        }
        "ctx" | "context" | "contexts" => Command::Context(one()),
        "theme" | "themes" | "skin" => Command::Theme(one()),
        "apply" => {
            let path = line.trim_start().strip_prefix("apply").unwrap_or_default().trim();
            let path = path.strip_prefix("-f ").unwrap_or(path).trim();
            Command::Apply((!path.is_empty()).then(|| path.to_owned()))
        }
        "create" | "new" => match one() {
            None => Command::Create(None),
            Some(word) => Command::Create(Some(kind(&word)?)),
        },
        "console" if !rest.is_empty() => Command::Console(rest[0].to_owned()),
        word => match kinds::find(word) {
            Some(kind) => goto(Kind(kind), &rest),
            None => match Action::find(word) {
                Some(action) if rest.is_empty() => Command::Action(action),
                _ => return Err(unknown(word)),
            },
        },
    })
}

fn kind(word: &str) -> Result<Kind, String> {
    kinds::find(word).map(Kind).ok_or_else(|| unknown(word))
}

fn goto(kind: Kind, rest: &[&str]) -> Command {
    let mut namespace = None;
    let mut filter = None;
    for (i, word) in rest.iter().enumerate() {
        if word.starts_with('/') {
            let text = rest[i..].join(" ");
            filter = Some(text[1..].to_owned());
            break;
        }
        if word.contains('=') {
            filter = Some(format!("-l {word}"));
        } else {
            namespace = Some((!matches!(*word, "all" | "*" | "-")).then(|| (*word).to_owned()));
        }
    }
    Command::Goto { kind, namespace, filter }
}

/// "There is no `vmz`; did you mean vm, vmc?"
fn unknown(word: &str) -> String {
    let word = crate::types::text::printable(word);
    let near: Vec<&str> = names().filter(|n| near(n, &word)).take(3).collect();
    if near.is_empty() {
        format!("there is no kind or command {word:?}")
    } else {
        format!("there is no kind or command {word:?}; did you mean {}?", near.join(", "))
    }
}

fn near(a: &str, b: &str) -> bool {
    if a == b {
        return true;
    }
    let shared = a.chars().zip(b.chars()).take_while(|(x, y)| x == y).count();
    shared >= 2 && shared + 2 >= a.len().max(b.len())
}

fn names() -> impl Iterator<Item = &'static str> {
    KINDS
        .iter()
        .flat_map(|k| k.short_names.iter().copied().chain([k.singular]))
        .chain(WORDS.iter().map(|(w, _, _)| *w))
        .chain(ACTIONS.iter().filter(|row| row.scope != Scope::Motion).map(|row| row.name))
}

/// A way to finish the line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Completion {
    /// The whole line.
    pub line: String,
    /// What it does.
    pub doc: String,
}

/// Ways to finish a line, best first.
pub fn completions(line: &str, state: &State) -> Vec<Completion> {
    const KEEP: usize = 8;
    let line = line.trim_start();
    let mut found: Vec<Completion> = match line.split_once(' ') {
        None => first_words(line),
        Some((first, rest)) => arguments(first, rest.trim_start(), state),
    };
    found.truncate(KEEP);
    found
}

fn first_words(prefix: &str) -> Vec<Completion> {
    let mut out: Vec<Completion> = Vec::new();
    for kind in KINDS {
        let short = kind.short_names.first().copied().unwrap_or(kind.singular);
        let hit = [short, kind.singular, kind.plural].into_iter().any(|n| n.starts_with(prefix));
        if hit {
            let line = if short.starts_with(prefix) { short } else { kind.singular };
            out.push(Completion { line: line.to_owned(), doc: kind_title(kind) });
        }
    }
    for (word, arguments, doc) in WORDS {
        if word.starts_with(prefix) && !out.iter().any(|c| c.line == *word) {
            let space = if arguments.is_empty() { "" } else { " " };
            out.push(Completion { line: (*word).to_owned(), doc: format!("{arguments}{space}{doc}") });
        }
    }
    if !prefix.is_empty() {
        for row in ACTIONS {
            if row.scope != Scope::Motion && row.name.starts_with(prefix) && !out.iter().any(|c| c.line == row.name) {
                out.push(Completion { line: row.name.to_owned(), doc: row.doc.to_owned() });
            }
        }
    }
    out.sort_by_key(|c| (c.line != prefix, c.line.len() > 12));
    out
}

fn arguments(first: &str, prefix: &str, state: &State) -> Vec<Completion> {
    let mut out = Vec::new();
    let mut offer = |value: &str, doc: &str| {
        if value.starts_with(prefix) && value != prefix {
            out.push(Completion { line: format!("{first} {value}"), doc: doc.to_owned() });
        }
    };
    match first {
        "theme" | "themes" | "skin" => {
            for name in &state.theme_names {
                offer(name, if *name == state.theme.name() { "in use" } else { "" });
            }
        }
        "ctx" | "context" | "contexts" => {
            for row in super::screens::logs::context_rows(state) {
                offer(&row.name, &row.detail);
            }
        }
        "create" | "new" => {
            for kind in KINDS.iter().filter(|k| super::screens::creatable(Kind(k))) {
                offer(kind.short_names.first().copied().unwrap_or(kind.singular), &kind_noun(kind));
            }
        }
        "console" => {
            for feed in state.feeds.values().filter(|f| f.kind.0.kind == "VirtualMachine") {
                for row in feed.table.rows() {
                    offer(&row.name, row.object["status"]["phase"].as_str().unwrap_or_default());
                }
            }
        }
        word if word == "ns" || word == "namespace" || kinds::find(word).is_some_and(kinds::KindInfo::namespaced) => {
            offer("all", "all namespaces");
            for name in namespaces(state) {
                offer(&name, "namespace");
            }
        }
        _ => {}
    }
    out
}

/// Namespaces seen so far.
fn namespaces(state: &State) -> std::collections::BTreeSet<String> {
    let mut names: std::collections::BTreeSet<String> = state
        .feeds
        .values()
        .flat_map(|feed| {
            let listing = feed.kind.0.kind == "Namespace";
            feed.table.rows().iter().map(move |row| if listing { row.name.clone() } else { row.namespace.clone() })
        })
        .filter(|n| !n.is_empty())
        .collect();
    names.insert(state.last_namespace.clone());
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind_of(word: &str) -> Kind {
        Kind(kinds::find(word).unwrap())
    }

    #[test]
    fn lines_are_understood() {
        let goto = |word: &str, namespace: Option<Option<&str>>, filter: Option<&str>| Command::Goto {
            kind: kind_of(word),
            namespace: namespace.map(|n| n.map(ToOwned::to_owned)),
            filter: filter.map(ToOwned::to_owned),
        };
        for (line, command) in [
            ("vm", goto("vm", None, None)),
            ("  vmop demo ", goto("vmop", Some(Some("demo")), None)),
            ("vd all", goto("vd", Some(None), None)),
            ("vm /web 0", goto("vm", None, Some("web 0"))),
            ("vm app=web", goto("vm", None, Some("-l app=web"))),
            ("virtualmachines", goto("vm", None, None)),
            ("ns", goto("ns", None, None)),
            ("ns demo", Command::Namespace(Some("demo".into()))),
            ("ns all", Command::Namespace(None)),
            ("ctx", Command::Context(None)),
            ("ctx prod", Command::Context(Some("prod".into()))),
            ("theme light", Command::Theme(Some("light".into()))),
            ("apply -f my file.yaml", Command::Apply(Some("my file.yaml".into()))),
            ("apply", Command::Apply(None)),
            ("create vd", Command::Create(Some(kind_of("vd")))),
            ("console web", Command::Console("web".into())),
            ("console", Command::Action(Action::Console)),
            ("errors", Command::Action(Action::Errors)),
            ("force-stop", Command::Action(Action::ForceStop)),
            ("q", Command::Action(Action::Quit)),
            ("secret", goto("secret", None, None)),
            ("event", goto("event", None, None)),
            ("node", goto("node", None, None)),
        ] {
            assert_eq!(parse(line), Ok(command), "{line}");
        }
    }

    #[test]
    fn mistakes_get_a_suggestion() {
        assert_eq!(parse("vmopp").unwrap_err(), "there is no kind or command \"vmopp\"; did you mean vmop?");
        assert!(parse("zzz").unwrap_err().ends_with("\"zzz\""));
        assert!(parse("").is_err());
    }

    #[test]
    fn short_names_complete_first() {
        let lines: Vec<String> = first_words("vm").into_iter().map(|c| c.line).collect();
        assert_eq!(&lines[..3], ["vm", "vmop", "vmbda"]);
        assert!(first_words("err").iter().any(|c| c.line == "errors"));
    }
}
