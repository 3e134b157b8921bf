//! What is being edited: the object as it was read, the object as the server has it now, and what an edit of the
//! former means for the latter. Pure.

use serde_json::{Map, Value};

use super::patch::{self, Path, at, merge_patch, touched, without_nulls};
use super::yaml;

/// An object under edit.
///
/// The user's text is an edit of `ancestor`. When somebody else changes the object meanwhile, only `base` moves:
/// the text stays as it is, and its changes are laid over the new base, so neither side is lost.
#[derive(Debug, Clone, PartialEq)]
pub struct Draft {
    /// The object the text was made from.
    ancestor: Value,
    /// The newest object known.
    base: Value,
}

/// An edit that cannot be sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DraftError {
    /// The text is a list or a scalar.
    #[error("the text must be one object with `kind`, `metadata` and `spec`")]
    NoObject,
    /// A field that says which object this is was changed.
    #[error("`{0}` says which object this is and cannot be changed here; create another object instead")]
    Identity(&'static str),
}

/// Metadata that only the server writes: not shown, and never part of a patch unless the user types it.
const SERVER_METADATA: [&str; 6] =
    ["managedFields", "uid", "resourceVersion", "generation", "creationTimestamp", "selfLink"];

impl Draft {
    /// Begins an edit of `object`, which must have been read from the server.
    pub fn new(object: Value) -> Self {
        Self { ancestor: object.clone(), base: object }
    }

    /// The text to edit: everything but status and what only the server writes.
    pub fn text(&self) -> String {
        yaml::render(&visible(&self.ancestor))
    }

    /// The newest object known.
    pub fn base(&self) -> &Value {
        &self.base
    }

    /// The version that a patch must find; the server refuses it otherwise.
    pub fn resource_version(&self) -> Option<&str> {
        self.base.pointer("/metadata/resourceVersion").and_then(Value::as_str)
    }

    /// Checks that `edited` is still the same object.
    pub fn check(&self, edited: &Value) -> Result<(), DraftError> {
        if !edited.is_object() {
            return Err(DraftError::NoObject);
        }
        for (pointer, field) in [
            ("/apiVersion", "apiVersion"),
            ("/kind", "kind"),
            ("/metadata/name", "metadata.name"),
            ("/metadata/namespace", "metadata.namespace"),
        ] {
            if edited.pointer(pointer) != self.ancestor.pointer(pointer) {
                return Err(DraftError::Identity(field));
            }
        }
        Ok(())
    }

    /// The merge patch to send: what the user changed, as far as the server does not have it already.
    pub fn patch(&self, edited: &Value) -> Value {
        let base = visible(&self.base);
        merge_patch(&base, &self.desired_visible(edited))
    }

    /// The whole object as it will be after the patch, status and all.
    pub fn desired(&self, edited: &Value) -> Value {
        let mut desired = self.base.clone();
        json_patch::merge(&mut desired, &self.patch(edited));
        desired
    }

    fn desired_visible(&self, edited: &Value) -> Value {
        let own = merge_patch(&visible(&self.ancestor), &without_nulls(edited.clone()));
        let mut desired = visible(&self.base);
        json_patch::merge(&mut desired, &own);
        desired
    }

    /// The server has a newer object: the edit goes on over it.
    pub fn rebase(&mut self, newer: Value) {
        self.base = newer;
    }

    /// Places that somebody else changed since the text was made.
    pub fn foreign_changes(&self) -> Vec<Path> {
        touched(&merge_patch(&visible(&self.ancestor), &visible(&self.base)))
    }

    /// Places that both the user and somebody else changed, to different values.
    pub fn conflicts(&self, edited: &Value) -> Vec<Path> {
        let desired = self.desired_visible(edited);
        let (ancestor, base) = (visible(&self.ancestor), visible(&self.base));
        touched(&merge_patch(&base, &desired))
            .into_iter()
            .filter(|path| {
                // A change further up counts too: they removed or replaced what we edit a part of.
                (1..=path.len()).any(|n| {
                    let place = &path[..n];
                    let (was, now) = (at(&ancestor, place), at(&base, place));
                    was != now && (n == path.len() || now.is_none_or(|v| !v.is_object()))
                })
            })
            .collect()
    }
}

/// What the user sees of an object.
fn visible(object: &Value) -> Value {
    let mut shown = without_nulls(object.clone());
    if let Some(map) = shown.as_object_mut() {
        map.shift_remove("status");
        if let Some(metadata) = map.get_mut("metadata").and_then(Value::as_object_mut) {
            hide(metadata);
        }
    }
    shown
}

fn hide(metadata: &mut Map<String, Value>) {
    for key in SERVER_METADATA {
        metadata.shift_remove(key);
    }
}

/// Paths as people write them, joined for one line.
pub fn list_paths(paths: &[Path]) -> String {
    paths.iter().map(|p| patch::dotted(p)).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::super::patch::tests::json_object;
    use super::*;

    fn machine() -> Value {
        json!({
            "apiVersion": "virtualization.deckhouse.io/v1alpha2", "kind": "VirtualMachine",
            "metadata": {"name": "web", "namespace": "default", "uid": "u", "resourceVersion": "7", "generation": 2,
                "managedFields": [{"manager": "x"}], "labels": {"a": "1"}},
            "spec": {"cpu": {"cores": 1}, "newerField": {"kept": true},
                "blockDeviceRefs": [{"kind": "VirtualDisk", "name": "root"}]},
            "status": {"phase": "Running"},
        })
    }

    /// The draft's object as edited by a merge patch.
    fn edit(draft: &Draft, patch: Value) -> Value {
        let mut edited = visible(&draft.ancestor);
        json_patch::merge(&mut edited, &patch);
        edited
    }

    #[test]
    fn the_servers_own_fields_are_neither_shown_nor_sent() {
        let draft = Draft::new(machine());
        let text = draft.text();
        for hidden in ["status", "managedFields", "uid", "resourceVersion", "generation"] {
            assert!(!text.contains(hidden), "{text}");
        }
        assert!(text.contains("newerField"));
        assert_eq!(draft.patch(&yaml::parse(&text).unwrap()), json!({}));
        assert_eq!(draft.resource_version(), Some("7"));
        let edited = edit(&draft, json!({"spec": {"cpu": {"cores": 2}}}));
        assert_eq!(draft.patch(&edited), json!({"spec": {"cpu": {"cores": 2}}}));
        assert_eq!(draft.desired(&edited)["status"]["phase"], "Running");
    }

    #[test]
    fn the_identity_is_fixed() {
        let draft = Draft::new(machine());
        let renamed = edit(&draft, json!({"metadata": {"name": "other"}}));
        assert_eq!(draft.check(&renamed), Err(DraftError::Identity("metadata.name")));
        assert_eq!(draft.check(&json!(["x"])), Err(DraftError::NoObject));
        assert_eq!(draft.check(&edit(&draft, json!({"spec": {"x": 1}}))), Ok(()));
    }

    #[test]
    fn an_edit_is_laid_over_a_newer_object() {
        let mut draft = Draft::new(machine());
        let edited = edit(&draft, json!({"spec": {"cpu": {"cores": 2}}}));
        let mut newer = machine();
        newer["metadata"]["resourceVersion"] = json!("8");
        newer["metadata"]["labels"]["b"] = json!("2");
        newer["spec"]["blockDeviceRefs"] = json!([]);
        draft.rebase(newer);
        assert_eq!(draft.patch(&edited), json!({"spec": {"cpu": {"cores": 2}}}), "their changes are not undone");
        assert_eq!(draft.resource_version(), Some("8"));
        assert_eq!(draft.conflicts(&edited), Vec::<Path>::new());
        assert_eq!(list_paths(&draft.foreign_changes()), "metadata.labels.b, spec.blockDeviceRefs");
    }

    #[test]
    fn places_changed_by_both_are_named() {
        let mut draft = Draft::new(machine());
        let edited = edit(&draft, json!({"spec": {"cpu": {"cores": 2}, "newerField": {"kept": false}}}));
        let mut newer = machine();
        newer["spec"]["cpu"]["cores"] = json!(4);
        newer["spec"].as_object_mut().unwrap().remove("newerField");
        draft.rebase(newer.clone());
        assert_eq!(list_paths(&draft.conflicts(&edited)), "spec.cpu.cores, spec.newerField.kept");
        // The same change by both is no conflict and need not be sent.
        newer["spec"]["cpu"]["cores"] = json!(2);
        draft.rebase(newer);
        assert_eq!(draft.patch(&edited), json!({"spec": {"newerField": {"kept": false}}}));
    }

    #[test]
    fn removing_and_null_are_the_same() {
        let draft = Draft::new(machine());
        let edited = edit(&draft, json!({"metadata": {"labels": null}}));
        assert_eq!(draft.patch(&edited), json!({"metadata": {"labels": null}}));
        let mut with_null = visible(&machine());
        with_null["metadata"]["labels"]["a"] = Value::Null;
        assert_eq!(draft.patch(&with_null), json!({"metadata": {"labels": {"a": null}}}));
    }

    proptest! {
        /// Laying an edit over a newer object keeps the user's changes and every foreign one that does not touch
        /// the same place.
        #[test]
        fn neither_side_is_lost(ancestor in json_object(), edited in json_object(), newer in json_object()) {
            let wrap = |spec: &Value| json!({"kind": "K", "metadata": {"name": "n"}, "spec": spec});
            let mut draft = Draft::new(wrap(&ancestor));
            draft.rebase(wrap(&newer));
            let (ancestor, edited, newer) = (wrap(&ancestor), wrap(&edited), wrap(&newer));
            let desired = draft.desired(&edited);
            for path in touched(&merge_patch(&ancestor, &edited)) {
                let wanted = at(&edited, &path);
                // "There is an object here" holds whatever somebody else put into it.
                if wanted != Some(&json!({})) {
                    prop_assert_eq!(at(&desired, &path), wanted);
                }
            }
            let ours = touched(&merge_patch(&ancestor, &edited));
            for path in touched(&merge_patch(&ancestor, &newer)) {
                let overlaps = ours.iter().any(|o| o.starts_with(&path) || path.starts_with(o));
                if !overlaps {
                    prop_assert_eq!(at(&desired, &path), at(&newer, &path), "{}", patch::dotted(&path));
                }
            }
            // Sending the patch gives exactly the desired object.
            let mut sent = draft.base().clone();
            json_patch::merge(&mut sent, &draft.patch(&edited));
            prop_assert_eq!(sent, desired);
        }
    }
}
