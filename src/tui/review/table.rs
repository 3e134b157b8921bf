//! What an edit changes, as rows: field, running / declared / yours, and when it takes effect. Pure.

use serde_json::Value;

use crate::tui::editor::patch::{Path, at, dotted, touched};
use crate::tui::theme::Cost;
use crate::types::diff::{self, Effect, Profile};

/// One changed field.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// The field: below `spec` without that word (`cpu.cores`, as in `status.restartAwaitingChanges`), elsewhere in
    /// full (`metadata.labels.a`).
    pub path: String,
    /// What the running instance has; `None` = empty, or no instance.
    pub running: Option<Value>,
    /// What the object says now.
    pub declared: Option<Value>,
    /// What it will say; the same as `declared` in rows that only show what waits already.
    pub yours: Option<Value>,
    /// When it takes effect.
    pub cost: Cost,
    /// A sentence about it.
    pub note: Option<String>,
    /// The user changes this row, it does not only wait from before.
    pub edited: bool,
    /// Somebody else changed the same place meanwhile.
    pub conflict: bool,
}

/// Everything a review needs to know about an edit.
#[derive(Debug, Clone, Copy)]
pub struct Edit<'a> {
    /// The object as the server has it, status included.
    pub declared: &'a Value,
    /// The object as it will be.
    pub desired: &'a Value,
    /// The patch between them.
    pub patch: &'a Value,
    /// Places that somebody else changed too.
    pub conflicts: &'a [Path],
    /// Which rules apply.
    pub profile: Profile,
}

/// Fields that never wait: controllers read them straight from the spec.
const NEVER_WAITS: [&str; 3] = ["runPolicy", "liveMigrationPolicy", "disruptions.restartApprovalMode"];

/// The rows of an edit, by cost and then path, followed by what waits for a restart already and is not touched.
pub fn edit_rows(edit: Edit<'_>) -> Vec<Row> {
    let machine = is_machine(edit.declared);
    let instance = machine && has_instance(edit.declared);
    let waiting = if machine { waiting_rows(edit.declared) } else { Vec::new() };
    let mut rows = Vec::new();
    let mut covered: Vec<String> = Vec::new();
    if machine {
        let spec = |object: &Value| object.get("spec").cloned().unwrap_or(Value::Null);
        let changes = diff::changes(&spec(edit.declared), &spec(edit.desired), edit.profile);
        let restart = instance && diff::strongest(&changes) == Effect::Restart;
        for change in changes {
            let mut cost = if change.effect == Effect::Restart && instance { Cost::Restart } else { Cost::Now };
            let mut note = None;
            if !instance && !NEVER_WAITS.contains(&change.path.as_str()) {
                note = Some("the machine is off: it has this from its next start".to_owned());
            } else if restart && cost == Cost::Now && !NEVER_WAITS.contains(&change.path.as_str()) {
                cost = Cost::Restart;
                note =
                    Some("could take effect at once, but waits together with the changes that need a restart".into());
            }
            covered.push(change.path.clone());
            rows.push(Row {
                running: change.current_value.clone(),
                declared: change.current_value,
                yours: change.desired_value,
                path: change.path,
                cost,
                note,
                edited: true,
                conflict: false,
            });
        }
    }
    for path in touched(edit.patch) {
        let name = short(&path);
        if covered.iter().any(|c| same_place(c, &name)) {
            continue;
        }
        let below_spec = machine && path.first().is_some_and(|p| p == "spec");
        let (cost, note) = match (below_spec, name.as_str()) {
            (true, "blockDeviceRefs") => (Cost::None, Some("boot order: takes effect at the next start".to_owned())),
            (true, _) => {
                (Cost::None, Some("means the same as before: the default, or only written differently".into()))
            }
            (false, _) => (Cost::Now, None),
        };
        let declared = at(edit.declared, &path).cloned();
        rows.push(Row {
            path: name,
            running: declared.clone(),
            declared,
            yours: at(edit.desired, &path).cloned(),
            cost,
            note,
            edited: true,
            conflict: false,
        });
    }
    let conflicts: Vec<String> = edit.conflicts.iter().map(|p| short(p)).collect();
    for row in &mut rows {
        row.conflict = conflicts.iter().any(|c| same_place(&row.path, c));
        if let Some(entry) = waiting.iter().find(|w| same_place(&w.path, &row.path)) {
            // The waiting entry may be about the whole (`cpu`) and the row about a part, or the reverse.
            row.running = running_value(entry, &row.path);
            if row.running == row.yours {
                row.cost = Cost::Now;
                row.note = Some("takes the waiting change back: the machine runs with this value".into());
            }
        }
    }
    rows.sort_by(|a, b| b.cost.cmp(&a.cost).then_with(|| a.path.cmp(&b.path)));
    let untouched: Vec<Row> =
        waiting.into_iter().filter(|w| !rows.iter().any(|r| same_place(&r.path, &w.path))).collect();
    rows.extend(untouched);
    rows
}

/// What waits for a restart, from the machine's status.
pub fn waiting_rows(machine: &Value) -> Vec<Row> {
    let entries = machine.pointer("/status/restartAwaitingChanges").and_then(Value::as_array);
    entries
        .into_iter()
        .flatten()
        .map(|entry| {
            let value = |key: &str| entry.get(key).cloned();
            Row {
                path: entry.get("path").and_then(Value::as_str).unwrap_or_default().to_owned(),
                running: value("currentValue"),
                declared: value("desiredValue"),
                yours: value("desiredValue"),
                cost: Cost::Restart,
                note: None,
                edited: false,
                conflict: false,
            }
        })
        .collect()
}

/// Whether saving restarts the guest by itself.
pub fn restarts_by_itself(desired: &Value, rows: &[Row]) -> bool {
    let automatic =
        desired.pointer("/spec/disruptions/restartApprovalMode").and_then(Value::as_str) == Some("Automatic");
    automatic && rows.iter().any(|r| r.cost == Cost::Restart)
}

/// Whether the object is a VirtualMachine.
fn is_machine(object: &Value) -> bool {
    object.get("kind").and_then(Value::as_str) == Some("VirtualMachine")
}

/// Whether an instance runs that changes could wait for.
fn has_instance(machine: &Value) -> bool {
    let phase = machine.pointer("/status/phase").and_then(Value::as_str).unwrap_or_default();
    matches!(phase, "Running" | "Starting" | "Migrating" | "Pause" | "Degraded" | "Stopping")
}

/// The path as rows have it.
fn short(path: &[String]) -> String {
    match path {
        [first, rest @ ..] if first == "spec" && !rest.is_empty() => dotted(rest),
        path => dotted(path),
    }
}

/// Whether one path is the other or lies in it. `virtualMachineIPAddress` is the field `virtualMachineIPAddressName`
/// under the name it has in entries.
fn same_place(a: &str, b: &str) -> bool {
    let plain =
        |path: &str| if path == "virtualMachineIPAddressName" { "virtualMachineIPAddress" } else { path }.to_owned();
    let (a, b) = (plain(a), plain(b));
    let within = |outer: &str, inner: &str| {
        inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    };
    within(&a, &b) || within(&b, &a)
}

/// The running value of the field at `path`, seen from a waiting entry at the same place.
fn running_value(entry: &Row, path: &str) -> Option<Value> {
    match path.strip_prefix(&entry.path) {
        Some("") => entry.running.clone(),
        Some(rest) => {
            let keys: Vec<String> = rest.trim_start_matches('.').split('.').map(str::to_owned).collect();
            entry.running.as_ref().and_then(|value| at(value, &keys)).cloned()
        }
        None => entry.running.clone(),
    }
}

/// A value on one line, for a cell of the table.
pub fn one_line(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "(none)".into(),
        Some(Value::String(text)) if text.trim_end().contains('\n') => {
            format!("{} lines, {} B", text.lines().count(), text.len())
        }
        Some(Value::String(text)) => text.trim_end_matches('\n').to_owned(),
        Some(other) => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::tui::editor::patch::merge_patch;

    fn machine() -> Value {
        json!({
            "apiVersion": "virtualization.deckhouse.io/v1alpha2", "kind": "VirtualMachine",
            "metadata": {"name": "web", "namespace": "default"},
            "spec": {"virtualMachineClassName": "host", "cpu": {"cores": 1, "coreFraction": "10%"},
                "memory": {"size": "1Gi"}, "blockDeviceRefs": [{"kind": "VirtualDisk", "name": "root"}]},
            "status": {"phase": "Running"},
        })
    }

    fn rows_of(declared: &Value, change: Value, profile: Profile) -> Vec<Row> {
        let mut desired = declared.clone();
        json_patch::merge(&mut desired, &change);
        let patch = merge_patch(declared, &desired);
        edit_rows(Edit { declared, desired: &desired, patch: &patch, conflicts: &[], profile })
    }

    fn shown(rows: &[Row]) -> Vec<String> {
        rows.iter()
            .map(|r| {
                let cells: Vec<String> =
                    [&r.running, &r.declared, &r.yours].iter().map(|v| one_line(v.as_ref())).collect();
                format!("{:?} {} {}", r.cost, r.path, cells.join(" / "))
            })
            .collect()
    }

    #[test]
    fn every_change_has_its_row_and_cost() {
        let rows = rows_of(
            &machine(),
            json!({"metadata": {"labels": {"a": "b"}}, "spec": {"cpu": {"cores": 2}, "runPolicy": "Manual",
                "bootloader": "BIOS", "disruptions": {"restartApprovalMode": "Automatic"}}}),
            Profile::Guide,
        );
        assert_eq!(
            shown(&rows),
            [
                "Restart cpu.cores 1 / 1 / 2",
                "Now disruptions.restartApprovalMode (none) / (none) / Automatic",
                "Now metadata.labels.a (none) / (none) / b",
                "Now runPolicy (none) / (none) / Manual",
                "None bootloader (none) / (none) / BIOS",
            ]
        );
        assert!(restarts_by_itself(&json!({"spec": {"disruptions": {"restartApprovalMode": "Automatic"}}}), &rows));
    }

    #[test]
    fn a_machine_that_is_off_waits_for_nothing() {
        let mut off = machine();
        off["status"]["phase"] = json!("Stopped");
        let rows = rows_of(&off, json!({"spec": {"cpu": {"cores": 2}}}), Profile::Guide);
        assert_eq!(shown(&rows), ["Now cpu.cores 1 / 1 / 2"]);
        assert!(rows[0].note.as_deref().is_some_and(|n| n.contains("next start")));
    }

    #[test]
    fn what_waits_already_shows_as_running() {
        let mut waiting = machine();
        waiting["status"]["restartAwaitingChanges"] = json!([
            {"operation": "replace", "path": "cpu.cores", "currentValue": 4, "desiredValue": 1},
            {"operation": "add", "path": "bootloader", "desiredValue": "EFI"},
        ]);
        let rows = rows_of(&waiting, json!({"spec": {"cpu": {"cores": 2}}}), Profile::Guide);
        assert_eq!(shown(&rows), ["Restart cpu.cores 4 / 1 / 2", "Restart bootloader (none) / EFI / EFI"]);
        assert!(rows[0].edited && !rows[1].edited);
        let rows = rows_of(&waiting, json!({"spec": {"cpu": {"cores": 4}}}), Profile::Guide);
        assert_eq!(shown(&rows)[0], "Now cpu.cores 4 / 1 / 4");
        assert!(rows[0].note.as_deref().is_some_and(|n| n.contains("back")));
        // An entry about the whole of what the row is a part of.
        waiting["status"]["restartAwaitingChanges"] = json!([
            {"operation": "replace", "path": "cpu", "currentValue": {"cores": 8}, "desiredValue": {"cores": 1}},
        ]);
        let rows = rows_of(&waiting, json!({"spec": {"cpu": {"cores": 2}}}), Profile::Guide);
        assert_eq!(shown(&rows), ["Restart cpu.cores 8 / 1 / 2"]);
    }

    #[test]
    fn one_restart_makes_the_others_wait() {
        let disks = json!({"spec": {"blockDeviceRefs": [{"kind": "VirtualDisk", "name": "root"},
            {"kind": "VirtualDisk", "name": "data"}], "runPolicy": "Manual"}});
        let alone = rows_of(&machine(), disks.clone(), Profile::Current);
        assert_eq!(alone[0].cost, Cost::Now);
        let mut both = disks;
        both["spec"]["memory"] = json!({"size": "2Gi"});
        let rows = rows_of(&machine(), both, Profile::Current);
        let cost = |path: &str| rows.iter().find(|r| r.path == path).map(|r| r.cost);
        assert_eq!(cost("blockDeviceRefs.1"), Some(Cost::Restart));
        assert_eq!(cost("runPolicy"), Some(Cost::Now));
    }

    #[test]
    fn other_kinds_change_at_once_and_conflicts_are_marked() {
        let disk = json!({"kind": "VirtualDisk", "spec": {"persistentVolumeClaim": {"size": "1Gi"}}});
        let desired = json!({"kind": "VirtualDisk", "spec": {"persistentVolumeClaim": {"size": "2Gi"}}});
        let patch = merge_patch(&disk, &desired);
        let conflicts = [vec!["spec".to_owned(), "persistentVolumeClaim".into(), "size".into()]];
        let rows = edit_rows(Edit {
            declared: &disk,
            desired: &desired,
            patch: &patch,
            conflicts: &conflicts,
            profile: Profile::Guide,
        });
        assert_eq!(shown(&rows), ["Now persistentVolumeClaim.size 1Gi / 1Gi / 2Gi"]);
        assert!(rows[0].conflict);
    }

    #[test]
    fn values_fit_on_a_line() {
        assert_eq!(one_line(Some(&json!("a\nb\n"))), "2 lines, 4 B");
        assert_eq!(one_line(Some(&json!({"a": [1]}))), r#"{"a":[1]}"#);
        assert_eq!(one_line(None), "(none)");
    }
}
