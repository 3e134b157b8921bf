//! Reading the project's own files for the tidy test: Rust code with comments and strings blanked out.

use std::path::{Path, PathBuf};

/// One Rust file.
pub struct Source {
    /// Path below the project, with `/`.
    pub path: String,
    /// Its text.
    pub text: String,
}

/// The project's folder.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// A text file of the project.
pub fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// All Rust files below a folder, sorted.
pub fn rust_files(folder: &str) -> Vec<Source> {
    let mut found = Vec::new();
    walk(&root().join(folder), &mut found);
    let mut files: Vec<Source> = found
        .into_iter()
        .filter(|p| p.extension().is_some_and(|e| e == "rs"))
        .map(|p| {
            let path = p.strip_prefix(root()).unwrap().to_str().unwrap().replace('\\', "/");
            Source { text: std::fs::read_to_string(&p).unwrap(), path }
        })
        .collect();
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files
}

/// All files that belong to the project, as paths below it; not what is built, not the lock file (it names where
/// every dependency came from).
pub fn all_files() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(root()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if ["target", ".git", "Cargo.lock"].contains(&name.as_str()) {
            continue;
        }
        if path.is_dir() { walk(&path, &mut found) } else { found.push(path) }
    }
    let mut paths: Vec<PathBuf> = found.iter().map(|p| p.strip_prefix(root()).unwrap().to_path_buf()).collect();
    paths.sort();
    paths
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.is_symlink() { walk(&path, found) } else { found.push(path) }
    }
}

impl Source {
    /// The top-level module that the file belongs to: `types` for `src/types/schema/walk.rs`, `cli` for `src/cli.rs`.
    pub fn module(&self) -> String {
        let below = self.path.trim_start_matches("src/");
        below.split('/').next().unwrap_or(below).trim_end_matches(".rs").to_owned()
    }

    /// The code with comments, strings and test modules blanked, lines in place. A file named `tests.rs` or
    /// `…_tests.rs` and a folder `tests/` hold nothing but tests.
    pub fn code_without_tests(&self) -> String {
        let below = self.path.trim_start_matches("src/");
        if below.split('/').any(|part| part == "tests" || part == "tests.rs" || part.ends_with("_tests.rs")) {
            return String::new();
        }
        if self.declared_for_tests() {
            return String::new();
        }
        let code = blank(&self.text);
        // A test module with a body is the last thing in a file.
        let body = code.match_indices("#[cfg(test)]\nmod ").find(|(at, _)| {
            let rest = &code[*at..];
            rest.find('{') < rest.find(';') && rest.contains('{')
        });
        match body {
            Some((at, _)) => code[..at].to_owned(),
            None => code,
        }
    }

    /// Whether the file that declares this module says `#[cfg(test)] mod NAME;`.
    fn declared_for_tests(&self) -> bool {
        let path = Path::new(&self.path);
        let (Some(folder), Some(name)) = (path.parent(), path.file_stem()) else { return false };
        let declaration = format!("#[cfg(test)]\nmod {};", name.to_string_lossy());
        ["mod.rs", "lib.rs"]
            .iter()
            .filter_map(|head| std::fs::read_to_string(root().join(folder).join(head)).ok())
            .any(|text| text.contains(&declaration))
    }

    /// Names behind `crate::` (also in braces) and behind enough `super::` to reach the root, with their lines.
    pub fn crate_names(&self) -> Vec<(usize, String)> {
        let code = self.code_without_tests();
        let mut names = Vec::new();
        let mut supers = 0;
        let mut rest = 0;
        while let Some((start, word)) = next_word(&code, rest) {
            rest = start + word.len();
            let path_follows = code[rest..].starts_with("::");
            match word {
                "super" if path_follows => {
                    supers += 1;
                    if supers >= self.depth() && !code[rest + 2..].starts_with("super::") {
                        names.extend(heads(&code, rest + 2));
                    }
                    continue;
                }
                "crate" if path_follows => names.extend(heads(&code, rest + 2)),
                _ => {}
            }
            supers = 0;
        }
        names.into_iter().map(|(at, name)| (line_of(&code, at), name)).collect()
    }

    /// How many `super::` lead from the file's module to the crate's root.
    fn depth(&self) -> usize {
        let below = self.path.trim_start_matches("src/").trim_end_matches(".rs");
        below.split('/').filter(|part| !["mod", "lib", "main"].contains(part)).count()
    }

    /// Lines that name `path` from a crate's root: `path::…`, `use path…`, not as a later segment of another path.
    pub fn lines_naming_crate(&self, path: &str) -> Vec<usize> {
        let code = self.code_without_tests();
        code.match_indices(path)
            .filter(|(at, _)| {
                let before = code[..*at].chars().next_back();
                let after = &code[at + path.len()..];
                let starts = before.is_none_or(|c| !is_word(c) && c != ':') || code[..*at].ends_with(" ::");
                let used = after.starts_with("::") || code[..*at].ends_with("use ") || path.contains("::");
                starts && used && !after.chars().next().is_some_and(is_word)
            })
            .map(|(at, _)| line_of(&code, at))
            .collect()
    }

    /// Lines with this word in code, tests included.
    pub fn lines_with_word(&self, word: &str) -> Vec<usize> {
        let code = blank(&self.text);
        let mut lines = Vec::new();
        let mut rest = 0;
        while let Some((start, found)) = next_word(&code, rest) {
            rest = start + found.len();
            if found == word {
                lines.push(line_of(&code, start));
            }
        }
        lines
    }

    /// The comment lines directly above a line.
    pub fn comment_above(&self, line: usize) -> String {
        let lines: Vec<&str> = self.text.lines().take(line - 1).collect();
        let above =
            lines.iter().rev().take_while(|l| l.trim_start().starts_with("//") || l.trim_start().starts_with('#'));
        above.copied().collect::<Vec<_>>().join("\n")
    }

    /// Whether an attribute naming `lint` and a reason stands within the 40 lines up to this one.
    pub fn reason_near(&self, line: usize, lint: &str) -> bool {
        let lines: Vec<&str> = self.text.lines().collect();
        let near = lines[line.saturating_sub(40)..line].join("\n");
        near.find(lint).is_some_and(|at| near[at..].contains("reason"))
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn line_of(code: &str, at: usize) -> usize {
    code[..at].matches('\n').count() + 1
}

/// The next identifier at or behind a byte position.
fn next_word(code: &str, from: usize) -> Option<(usize, &str)> {
    let start = from + code[from..].find(is_word)?;
    let end = code[start..].find(|c| !is_word(c)).map_or(code.len(), |n| start + n);
    Some((start, &code[start..end]))
}

/// The first segments of the path or of the braced list of paths at a position.
fn heads(code: &str, at: usize) -> Vec<(usize, String)> {
    if !code[at..].starts_with('{') {
        return next_word(code, at).map(|(start, word)| (start, word.to_owned())).into_iter().collect();
    }
    let mut names = Vec::new();
    let (mut depth, mut head) = (0, false);
    for (offset, c) in code[at..].char_indices() {
        match c {
            '{' => {
                depth += 1;
                head = depth == 1;
            }
            '}' => depth -= 1,
            ',' => head = depth == 1,
            c if is_word(c) && head && depth == 1 => {
                names.extend(next_word(code, at + offset).map(|(start, word)| (start, word.to_owned())));
                head = false;
            }
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    names
}

/// The text with comments, strings and character literals replaced by spaces; line breaks stay.
fn blank(text: &str) -> String {
    let bytes: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut i = 0;
    let keep = |out: &mut String, c: char| out.push(if c == '\n' { '\n' } else { ' ' });
    while i < bytes.len() {
        let rest = &bytes[i..];
        let end = if rest.starts_with(&['/', '/']) {
            i + rest.iter().position(|c| *c == '\n').unwrap_or(rest.len())
        } else if rest.starts_with(&['/', '*']) {
            i + block_comment(rest)
        } else if let Some(length) = raw_string(rest, out.chars().next_back()) {
            i + length
        } else if rest[0] == '"' {
            i + quoted(rest, '"')
        } else if rest[0] == '\'' && char_literal(rest) {
            i + quoted(rest, '\'')
        } else {
            out.push(rest[0]);
            i += 1;
            continue;
        };
        for c in &bytes[i..end.min(bytes.len())] {
            keep(&mut out, *c);
        }
        i = end;
    }
    out
}

fn block_comment(rest: &[char]) -> usize {
    let (mut depth, mut i) = (0, 0);
    while i + 1 < rest.len() {
        match (rest[i], rest[i + 1]) {
            ('/', '*') => (depth, i) = (depth + 1, i + 2),
            ('*', '/') => {
                (depth, i) = (depth - 1, i + 2);
                if depth == 0 {
                    return i;
                }
            }
            _ => i += 1,
        }
    }
    rest.len()
}

/// Length of a raw string here, if one begins.
fn raw_string(rest: &[char], before: Option<char>) -> Option<usize> {
    if before.is_some_and(|c| is_word(c) && c != 'b') || rest[0] != 'r' {
        return None;
    }
    let hashes = rest[1..].iter().take_while(|c| **c == '#').count();
    if rest.get(1 + hashes) != Some(&'"') {
        return None;
    }
    let mut close = vec!['"'];
    close.extend(std::iter::repeat_n('#', hashes));
    let start = 2 + hashes;
    let at = rest[start..].windows(close.len()).position(|w| w == close)?;
    Some(start + at + close.len())
}

fn quoted(rest: &[char], quote: char) -> usize {
    let mut i = 1;
    while i < rest.len() {
        match rest[i] {
            '\\' => i += 2,
            c if c == quote => return i + 1,
            _ => i += 1,
        }
    }
    rest.len()
}

/// `'a'` or `'\n'`, not a lifetime.
fn char_literal(rest: &[char]) -> bool {
    rest.get(1) == Some(&'\\') || rest.get(2) == Some(&'\'')
}
