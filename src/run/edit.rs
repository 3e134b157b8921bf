//! `edit`: the object in `$EDITOR`; what was changed goes back as a conditional merge patch. After a refusal the
//! editor opens again on the user's text, with the error at its top.

use std::io::Write;
use std::path::Path;
use std::process::Command;

use serde_json::{Map, Value};

use crate::cli::EditArgs;
use crate::client::ErrorKind;

use super::apply::explain;
use super::failure::{Failure, code};
use super::resolve::{Selection, singular_group};
use super::{Context, out, print};

/// How often a change is sent again because something else of the object has changed.
const RETRIES: u32 = 10;

/// Marks lines that are ours, not the user's.
const MARK: &str = "#: ";

/// Runs the verb.
pub async fn run(context: &Context, args: EditArgs) -> Result<(), Failure> {
    let (kind, name) = Selection::one(&args.what)?;
    let namespace = kind.namespaced().then(|| context.default_namespace());
    let shown = |object: &Value| print::without_managed_fields(object.clone());
    let mut base = shown(&context.session.get(kind, namespace, &name).await?);
    let mut text = print::yaml(&base);
    let mut notes = vec![format!(
        "Editing {}/{name}. Save and leave to apply; an unchanged or empty file changes nothing.",
        singular_group(kind)
    )];
    let file = tempfile(&name)?;
    let mut before = text.clone();
    // A text to send without asking the user again.
    let mut again: Option<String> = None;
    let mut retries = 0;
    loop {
        let edited = match again.take() {
            Some(text) => text,
            None => {
                let edited = edit(file.path(), &notes, &text)?;
                if edited.trim().is_empty() || edited == before {
                    return give_up(&file, notes.len() > 1);
                }
                before.clone_from(&edited);
                edited
            }
        };
        text = edited;
        let wanted: Value =
            match serde_saphyr::from_str_with_options(&text, serde_saphyr::options! { with_snippet: false }) {
                Ok(value) => value,
                Err(e) => {
                    notes = vec!["This is not valid YAML:".into(), format!("  {e}"), String::new()];
                    continue;
                }
            };
        let Some(patch) = merge_diff(&base, &wanted) else {
            return out::line("Edit cancelled, no changes made.");
        };
        if let Some(field) = identity_change(&patch) {
            notes = vec![format!("{field} cannot be changed: delete the object and create another."), String::new()];
            continue;
        }
        let version = base["metadata"]["resourceVersion"].as_str();
        match context.session.merge_patch(kind, namespace, &name, &patch, version).await {
            Ok(_) => return out::line(&format!("{}/{name} edited", singular_group(kind))),
            Err(e) if e.is_conflict() => {
                // The user's changes, on top of what the object is now.
                let current = shown(&context.session.get(kind, namespace, &name).await?);
                let mut merged = current.clone();
                let mut ours = patch;
                if let Some(meta) = ours.get_mut("metadata").and_then(Value::as_object_mut) {
                    meta.shift_remove("resourceVersion");
                }
                json_patch::merge(&mut merged, &ours);
                if !touches(&ours, &base, &current) && retries < RETRIES {
                    // Somebody changed something else, most likely a controller the status: nothing to ask about.
                    retries += 1;
                    base = current;
                    again = Some(print::yaml(&merged));
                    continue;
                }
                notes = vec![
                    "Somebody else changed the same fields meanwhile. Below is the new object with your changes;"
                        .into(),
                    "save to apply them.".into(),
                    String::new(),
                ];
                text = print::yaml(&merged);
                before = print::yaml(&current);
                base = current;
            }
            Err(e) if matches!(e.kind(), ErrorKind::Invalid { .. } | ErrorKind::BadRequest | ErrorKind::Forbidden) => {
                notes = vec!["The server refused this:".into()];
                notes.extend(explain(&e).into_iter().map(|l| format!("  {l}")));
                notes.push(String::new());
            }
            Err(e) => {
                let kept = keep(file, &text)?;
                return Err(Failure::from(e).context(&format!("not saved (your text is in {kept})")));
            }
        }
    }
}

fn give_up(file: &TempFile, refused: bool) -> Result<(), Failure> {
    if !refused {
        return out::line("Edit cancelled, no changes made.");
    }
    let kept = std::env::temp_dir().join(format!("vmdeck-edit-{}-kept.yaml", std::process::id()));
    std::fs::copy(file.path(), &kept)?;
    Err(Failure { code: code::INVALID, text: format!("not saved; your text is in {}", kept.display()) })
}

fn keep(file: TempFile, text: &str) -> Result<String, Failure> {
    std::fs::write(file.path(), text)?;
    let path = file.path().display().to_string();
    file.leave();
    Ok(path)
}

/// Opens the editor on `notes` and `text`; gives back the text without our notes.
fn edit(path: &Path, notes: &[String], text: &str) -> Result<String, Failure> {
    let head: String =
        notes.iter().flat_map(|n| n.lines().map(|l| format!("{MARK}{}\n", crate::types::text::printable(l)))).collect();
    std::fs::write(path, format!("{head}{text}"))?;
    let editor =
        ["KUBE_EDITOR", "VISUAL", "EDITOR"].iter().find_map(|v| std::env::var(v).ok().filter(|s| !s.is_empty()));
    let editor = editor.unwrap_or_else(|| "vi".into());
    // The variable may hold arguments, as for git and kubectl; the file's name is never part of the script.
    let status = Command::new("/bin/sh").arg("-c").arg(format!("{editor} \"$1\"")).arg("sh").arg(path).status();
    match status {
        Ok(status) if status.success() => {}
        Ok(status) => {
            return Err(Failure::new(format!("the editor \"{editor}\" failed ({status}); nothing was changed")));
        }
        Err(e) => {
            return Err(Failure::new(format!("cannot run the editor \"{editor}\": {e}\nSet EDITOR to another one.")));
        }
    }
    let edited = std::fs::read_to_string(path)?;
    Ok(edited.lines().filter(|l| !l.starts_with(MARK.trim_end())).map(|l| format!("{l}\n")).collect())
}

/// The merge patch that turns `from` into `to`; `None` if they are equal.
fn merge_diff(from: &Value, to: &Value) -> Option<Value> {
    if from == to {
        return None;
    }
    let (Value::Object(a), Value::Object(b)) = (from, to) else { return Some(to.clone()) };
    let mut patch = Map::new();
    for (key, old) in a {
        match b.get(key) {
            None => {
                patch.insert(key.clone(), Value::Null);
            }
            Some(new) => {
                if let Some(diff) = merge_diff(old, new) {
                    patch.insert(key.clone(), diff);
                }
            }
        }
    }
    for (key, new) in b {
        if !a.contains_key(key) {
            patch.insert(key.clone(), new.clone());
        }
    }
    (!patch.is_empty()).then_some(Value::Object(patch))
}

/// Whether a field that the patch sets differs between the object the user saw and the present one.
fn touches(patch: &Value, seen: &Value, now: &Value) -> bool {
    match patch {
        Value::Object(map) if seen.is_object() && now.is_object() => {
            map.iter().any(|(key, part)| touches(part, &seen[key], &now[key]))
        }
        _ => seen != now,
    }
}

/// Names the field if the patch changes who the object is.
fn identity_change(patch: &Value) -> Option<&'static str> {
    [
        ("/apiVersion", "apiVersion"),
        ("/kind", "kind"),
        ("/metadata/name", "metadata.name"),
        ("/metadata/namespace", "metadata.namespace"),
    ]
    .into_iter()
    .find_map(|(pointer, name)| patch.pointer(pointer).map(|_| name))
}

/// A file of ours that goes away with us.
struct TempFile {
    path: std::path::PathBuf,
    leave: bool,
}

impl TempFile {
    fn path(&self) -> &Path {
        &self.path
    }

    fn leave(mut self) {
        self.leave = true;
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        if !self.leave {
            // It may be gone already.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn tempfile(name: &str) -> Result<TempFile, Failure> {
    use std::os::unix::fs::OpenOptionsExt;
    let safe: String = name.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').take(40).collect();
    let path = std::env::temp_dir().join(format!(
        "vmdeck-edit-{}-{safe}-{}.yaml",
        std::process::id(),
        uuid::Uuid::new_v4().simple()
    ));
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
    file.flush()?;
    Ok(TempFile { path, leave: false })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_patch_holds_changed_paths_only() {
        let from = json!({"a": 1, "b": {"c": [1], "d": 2}, "e": 3});
        let to = json!({"a": 1, "b": {"c": [1, 2], "d": 2}, "f": 4});
        let patch = merge_diff(&from, &to).unwrap();
        assert_eq!(patch, json!({"b": {"c": [1, 2]}, "e": null, "f": 4}));
        let mut applied = from.clone();
        json_patch::merge(&mut applied, &patch);
        assert_eq!(applied, to);
        assert_eq!(merge_diff(&to, &to), None);
    }

    #[test]
    fn only_the_same_fields_are_a_conflict() {
        let seen = json!({"spec": {"cpu": {"cores": 1}, "x": 1}, "status": {"a": 1}});
        let now = json!({"spec": {"cpu": {"cores": 3}, "x": 1}, "status": {"a": 2}});
        assert!(touches(&json!({"spec": {"cpu": {"cores": 2}}}), &seen, &now));
        assert!(!touches(&json!({"spec": {"x": 2}}), &seen, &now));
        assert!(!touches(&json!({"spec": {"new": 2}}), &seen, &now));
    }

    #[test]
    fn who_it_is_cannot_be_edited() {
        assert_eq!(identity_change(&json!({"metadata": {"name": "x"}})), Some("metadata.name"));
        assert_eq!(identity_change(&json!({"spec": {"name": "x"}})), None);
    }

    #[test]
    fn our_notes_are_not_the_users_text() {
        let dir = std::env::temp_dir();
        let file = tempfile("../evil name").unwrap();
        assert!(file.path().starts_with(&dir));
        // A pure stand-in for the editor would need an environment; the filter is what matters.
        let text = format!("{MARK}note\n#:\na: 1\n# own comment\n");
        let kept: String = text.lines().filter(|l| !l.starts_with(MARK.trim_end())).collect::<Vec<_>>().join("\n");
        assert_eq!(kept, "a: 1\n# own comment");
    }
}
