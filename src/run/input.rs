//! Reading manifests from files, directories and standard input.

use std::io::Read;
use std::path::{Path, PathBuf};

use crate::client::{Document, Session, read_documents};

use super::failure::Failure;

/// Largest manifest that is read.
const MAX: u64 = 64 << 20;

/// All documents of `-f` arguments, in order.
pub fn documents(
    files: &[String],
    recursive: bool,
    session: &Session,
    explicit: Option<&str>,
) -> Result<Vec<Document>, Failure> {
    let mut all = Vec::new();
    for file in files {
        for (name, text) in texts(file, recursive)? {
            let docs = read_documents(&text, explicit, &session.default_namespace)
                .map_err(|e| Failure::from(e).context(&name))?;
            all.extend(docs);
        }
    }
    if all.is_empty() {
        return Err(Failure::new(format!("no objects in {}", files.join(", "))));
    }
    Ok(all)
}

fn texts(file: &str, recursive: bool) -> Result<Vec<(String, String)>, Failure> {
    if file == "-" {
        let mut text = String::new();
        std::io::stdin().lock().take(MAX).read_to_string(&mut text).map_err(|e| read_error("standard input", &e))?;
        return Ok(vec![("standard input".into(), text)]);
    }
    let path = Path::new(file);
    if !path.is_dir() {
        return Ok(vec![(file.to_owned(), read(path)?)]);
    }
    let mut paths = Vec::new();
    collect(path, recursive, &mut paths)?;
    paths.sort();
    paths.into_iter().map(|p| Ok((p.display().to_string(), read(&p)?))).collect()
}

fn collect(dir: &Path, recursive: bool, paths: &mut Vec<PathBuf>) -> Result<(), Failure> {
    let failed = |e: &std::io::Error| read_error(&dir.display().to_string(), e);
    for entry in std::fs::read_dir(dir).map_err(|e| failed(&e))? {
        let path = entry.map_err(|e| failed(&e))?.path();
        if path.is_dir() {
            if recursive {
                collect(&path, recursive, paths)?;
            }
        } else if path.extension().is_some_and(|e| e == "yaml" || e == "yml" || e == "json") {
            paths.push(path);
        }
    }
    Ok(())
}

/// A whole text file.
pub fn read(path: &Path) -> Result<String, Failure> {
    let name = path.display().to_string();
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(|e| read_error(&name, &e))?;
    file.take(MAX).read_to_string(&mut text).map_err(|e| read_error(&name, &e))?;
    Ok(text)
}

fn read_error(name: &str, error: &std::io::Error) -> Failure {
    Failure::new(format!("cannot read {name}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_give_their_manifests_in_order() {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in [("b.yaml", "b"), ("a.json", "a"), ("c.txt", "c"), ("sub/d.yml", "d")] {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let read = |recursive| {
            let all = texts(dir.path().to_str().unwrap(), recursive).unwrap();
            all.into_iter().map(|(_, t)| t).collect::<String>()
        };
        assert_eq!(read(false), "ab");
        assert_eq!(read(true), "abd");
        assert!(texts("/nonexistent/x.yaml", false).unwrap_err().text.contains("/nonexistent/x.yaml"));
    }
}
