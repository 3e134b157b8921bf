//! The table of actions. A row is a name, where it applies and one line of documentation; keymap, hint line,
//! action menu, palette, help and command line all read this table.

use crate::types::text::printable;
use crate::types::{MachinePhase, OperationType, RunPolicy};

/// Where an action makes sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// Everywhere outside text fields.
    Global,
    /// Moving about in anything that scrolls or has a cursor.
    Motion,
    /// In lists.
    List,
    /// On the object at hand: the row under the cursor, or the one whose screen is open.
    Object,
    /// On a machine at hand.
    Machine,
    /// In views of text.
    Text,
}

impl Scope {
    /// Heading in the help.
    pub fn title(self) -> &'static str {
        match self {
            Self::Global => "Everywhere",
            Self::Motion => "Moving",
            Self::List => "Lists",
            Self::Object => "Any object",
            Self::Machine => "Machines",
            Self::Text => "Text views",
        }
    }
}

/// A row of the table.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// The action.
    pub action: Action,
    /// Its name in `keymap.toml` and on the command line.
    pub name: &'static str,
    /// Where it applies.
    pub scope: Scope,
    /// One or two words for the hint line and menus.
    pub label: &'static str,
    /// One sentence.
    pub doc: &'static str,
}

macro_rules! actions {
    ($($variant:ident, $name:literal, $scope:ident, $label:literal, $doc:literal;)*) => {
        /// Everything a key can mean.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Action {
            $(#[doc = $doc] $variant,)*
        }

        /// The table, in the order of help and palette.
        pub static ACTIONS: &[Row] = &[$(Row {
            action: Action::$variant,
            name: $name,
            scope: Scope::$scope,
            label: $label,
            doc: $doc,
        },)*];
    };
}

actions! {
    Open, "open", Object, "open", "Open what is under the cursor";
    Back, "back", Global, "back", "Go up: close what is open, clear the filter, go to the view before";
    Command, "command", Global, "command", "Go to a kind, or run any command by name";
    Filter, "filter", Global, "filter", "Filter the list, or search in the text";
    Help, "help", Global, "help", "Keys of this view, from the live keymap";
    Palette, "palette", Global, "palette", "Find any action, view or object by a few letters";
    Close, "close", Global, "close", "Close this view";
    Quit, "quit", Global, "quit", "Leave vmdeck (asked twice)";
    Menu, "actions", Object, "actions", "All actions for the object at hand, with reasons where one is not possible";
    Errors, "errors", Global, "errors", "Errors that were not dismissed yet";
    Tasks, "tasks", Global, "tasks", "Running and finished tasks";
    Contexts, "contexts", Global, "contexts", "Switch between clusters and the local host";
    Reconnect, "reconnect", Global, "reconnect", "Connect again to the same cluster or host";
    AllNamespaces, "all-namespaces", Global, "all namespaces", "Show all namespaces, or go back to one";
    LastView, "last-view", Global, "last view", "Back to the view before, and again to return";
    Consoles, "consoles", Global, "consoles", "To the open consoles";
    Redraw, "redraw", Global, "redraw", "Paint the whole screen again";
    Suspend, "suspend", Global, "suspend", "Stop vmdeck and return to the shell (fg brings it back)";

    Down, "down", Motion, "down", "Down; a number before it repeats";
    Up, "up", Motion, "up", "Up";
    Top, "top", Motion, "top", "To the beginning, or to line N after a number";
    Bottom, "bottom", Motion, "bottom", "To the end";
    PageDown, "page-down", Motion, "page down", "One page down";
    PageUp, "page-up", Motion, "page up", "One page up";
    HalfDown, "half-page-down", Motion, "half page down", "Half a page down";
    HalfUp, "half-page-up", Motion, "half page up", "Half a page up";
    Left, "left", Motion, "left", "To the left in long lines";
    Right, "right", Motion, "right", "To the right in long lines";

    Mark, "mark", List, "mark", "Mark the row, or take the mark away";
    MarkAll, "mark-all", List, "mark all", "Mark all shown rows, or clear all marks";
    Sort, "sort", List, "sort", "Choose the column to sort by";
    Wide, "wide", List, "wide", "More columns; in text: long lines unwrapped";
    Preview, "preview", List, "preview", "Show or hide the details beside the list on wide terminals";
    Create, "create", List, "new", "Create an object with a form";
    Apply, "apply", List, "apply file", "Apply a manifest file";

    Describe, "describe", Object, "describe", "Everything about the object, with its events";
    Yaml, "yaml", Object, "yaml", "The object as YAML";
    Edit, "edit", Object, "edit", "Edit, review what each change does, then save";
    EditExternal, "edit-external", Object, "edit in $EDITOR", "Edit in your own editor, then review and save";
    Delete, "delete", Object, "delete", "Delete the object; its name must be typed";
    Copy, "copy", Object, "copy", "Copy the name, or the whole text, to the clipboard";
    CopyCommand, "copy-command", Object, "copy command", "Copy a shell command that shows this object";
    Upload, "upload", Object, "upload", "Upload a file into a disk or image that waits for it";

    Start, "start", Machine, "start", "Start the machine";
    Stop, "stop", Machine, "stop", "Shut the machine down through its power button";
    Restart, "restart", Machine, "restart", "Restart the machine; waiting changes take effect";
    ForceStop, "force-stop", Machine, "force stop", "Cut the power: the guest gets no chance to save";
    ForceRestart, "force-restart", Machine, "force restart", "Cut the power and start again";
    Evict, "migrate", Machine, "migrate", "Move the guest to another node or into a fresh QEMU";
    Console, "console", Machine, "console", "Open the serial console";
    Ssh, "ssh", Machine, "ssh", "Log in by SSH, in a tab beside the consoles";
    Vnc, "vnc", Machine, "screen", "Open the machine's screen in a VNC viewer, or at a local port for one";
    PortForward, "port-forward", Machine, "forward ports", "Make ports of the machine reachable on this computer";
    Snapshot, "snapshot", Machine, "snapshot", "Save the machine with its disks as they are now";
    Attach, "attach", Machine, "attach disk", "Attach a disk to the machine";
    Clone, "clone", Machine, "clone", "Make a second machine of it, with copies of its disks";
    Restore, "restore", Machine, "restore", "Make the machine and its disks what they were at a snapshot";
    Detach, "detach", Object, "detach", "Detach the device of this attachment";

    NextMatch, "next-match", Text, "next match", "To the next match of the search";
    PreviousMatch, "previous-match", Text, "previous match", "To the match before";
    Dismiss, "dismiss", List, "dismiss", "Dismiss this error, or cancel or forget this task";
    DismissAll, "dismiss-all", List, "dismiss all", "Dismiss all errors, or forget all finished tasks";
}

impl Action {
    /// The action's row.
    pub fn row(self) -> &'static Row {
        // The table is generated together with the enum: same order, same length.
        &ACTIONS[self as usize]
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// The action of a name.
    pub fn find(name: &str) -> Option<Self> {
        ACTIONS.iter().find(|row| row.name == name).map(|row| row.action)
    }
}

/// Whether and why not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Possible {
    /// It can be done.
    Yes,
    /// It is shown, dimmed, with this reason.
    No(String),
    /// It makes no sense for this kind and is not shown.
    Absent,
}

/// Whether an action makes sense for an object, by its kind, phase and policy. Only the server decides in the
/// end; this saves the user a refusal.
pub fn possible(action: Action, kind: &str, object: &serde_json::Value) -> Possible {
    let phase = object["status"]["phase"].as_str().unwrap_or("");
    let no = |reason: &str| Possible::No(reason.to_owned());
    let deleting = object["metadata"]["deletionTimestamp"].is_string();
    if action.row().scope == Scope::Machine && kind != "VirtualMachine" {
        return Possible::Absent;
    }
    match action {
        Action::Start
        | Action::Stop
        | Action::Restart
        | Action::ForceStop
        | Action::ForceRestart
        | Action::Evict
        | Action::Clone
        | Action::Restore => {
            if deleting {
                return no("it is being deleted");
            }
            let policy = object["spec"]["runPolicy"].as_str().unwrap_or("AlwaysOnUnlessStoppedManually");
            match power(action, phase, policy) {
                Possible::Yes if action == Action::Evict => migratable(object),
                answer => answer,
            }
        }
        Action::Console => match phase {
            "" => no("its state is not known yet"),
            _ => Possible::Yes,
        },
        Action::Ssh | Action::Vnc | Action::PortForward => match phase {
            "Running" | "Migrating" => Possible::Yes,
            _ => Possible::No(format!("it is {}", or_unknown(phase))),
        },
        Action::Attach | Action::Snapshot if deleting => no("it is being deleted"),
        Action::Snapshot => match phase {
            "Running" | "Stopped" | "Pause" => Possible::Yes,
            _ => Possible::No(format!("it is {}", or_unknown(phase))),
        },
        Action::Upload => match kind {
            "VirtualDisk" | "VirtualImage" | "ClusterVirtualImage" => {
                if object["spec"]["dataSource"]["type"] != "Upload" {
                    no("its data source is not Upload")
                } else if phase == "WaitForUserUpload" {
                    Possible::Yes
                } else {
                    Possible::No(format!("it is not waiting for a file ({})", or_unknown(phase)))
                }
            }
            _ => Possible::Absent,
        },
        Action::Detach => match kind {
            "VirtualMachineBlockDeviceAttachment" if deleting => no("it is being detached"),
            "VirtualMachineBlockDeviceAttachment" => Possible::Yes,
            _ => Possible::Absent,
        },
        Action::Edit | Action::EditExternal => match kind {
            "Event" | "VirtualMachineIPAddressLease" => Possible::Absent,
            "VirtualMachineOperation" => no("an operation cannot be changed once it exists"),
            _ if deleting => no("it is being deleted"),
            _ => Possible::Yes,
        },
        Action::Delete if deleting => no("it is being deleted already"),
        Action::Delete if kind == "Node" => Possible::Absent,
        _ => Possible::Yes,
    }
}

fn or_unknown(phase: &str) -> &str {
    if phase.is_empty() { "no phase yet" } else { phase }
}

/// What the server says of migrating the machine; with no word from it, the attempt decides.
fn migratable(object: &serde_json::Value) -> Possible {
    let conditions = object["status"]["conditions"].as_array().into_iter().flatten();
    match conditions.into_iter().find(|c| c["type"] == "Migratable" && c["status"] == "False") {
        Some(refusal) => {
            let message = refusal["message"].as_str().filter(|m| !m.is_empty());
            let why = message.or(refusal["reason"].as_str()).unwrap_or("it is not migratable");
            Possible::No(printable(why.trim_end_matches('.')).into_owned())
        }
        None => Possible::Yes,
    }
}

/// The rules for power operations: the run policy first, then the phase.
fn power(action: Action, phase: &str, policy: &str) -> Possible {
    let (operation, force) = match action {
        Action::Start => (OperationType::Start, false),
        Action::Stop => (OperationType::Stop, false),
        Action::ForceStop => (OperationType::Stop, true),
        Action::Restart => (OperationType::Restart, false),
        Action::ForceRestart => (OperationType::Restart, true),
        Action::Clone => (OperationType::Clone, false),
        Action::Restore => (OperationType::Restore, false),
        _ => (OperationType::Evict, false),
    };
    // A policy or phase that a newer server has made up is for the server to judge.
    let known = |word: &str| serde_json::Value::from(word);
    if let Ok(policy) = serde_json::from_value::<RunPolicy>(known(policy))
        && !operation.run_policies().contains(&policy)
    {
        return Possible::No(format!("run policy {} does not allow it", policy.as_str()));
    }
    match serde_json::from_value::<MachinePhase>(known(phase)) {
        Ok(known) if operation.applies_in(known, force) => Possible::Yes,
        Err(_) if !phase.is_empty() => Possible::Yes,
        Ok(_) | Err(_) => Possible::No(format!("it is {}", or_unknown(phase))),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use serde_json::json;

    use super::*;

    #[test]
    fn the_table_is_in_order_and_complete() {
        let mut names = HashSet::new();
        for (i, row) in ACTIONS.iter().enumerate() {
            assert_eq!(row.action as usize, i, "{}", row.name);
            assert!(names.insert(row.name), "{} twice", row.name);
            assert!(!row.doc.is_empty() && !row.label.is_empty());
            assert_eq!(Action::find(row.name), Some(row.action));
        }
    }

    #[test]
    fn power_follows_policy_then_phase() {
        let vm = |phase: &str, policy: &str| json!({"status": {"phase": phase}, "spec": {"runPolicy": policy}});
        let manual = "AlwaysOnUnlessStoppedManually";
        for (action, phase, policy, expected) in [
            (Action::Start, "Stopped", manual, Possible::Yes),
            (Action::Start, "Running", manual, Possible::No("it is Running".into())),
            (Action::Start, "Stopped", "AlwaysOff", Possible::No("run policy AlwaysOff does not allow it".into())),
            (Action::Stop, "Running", "AlwaysOn", Possible::No("run policy AlwaysOn does not allow it".into())),
            (Action::Restart, "Running", "AlwaysOn", Possible::Yes),
            (Action::ForceStop, "Stopping", manual, Possible::Yes),
            (Action::Stop, "Stopping", manual, Possible::No("it is Stopping".into())),
            (Action::Stop, "Migrating", manual, Possible::Yes),
            (Action::Restart, "Migrating", manual, Possible::Yes),
            (Action::Evict, "Migrating", manual, Possible::No("it is Migrating".into())),
            (Action::Stop, "", manual, Possible::No("it is no phase yet".into())),
            (Action::Evict, "Stopped", manual, Possible::No("it is Stopped".into())),
            (Action::Clone, "Stopped", "AlwaysOff", Possible::Yes),
            (Action::Clone, "Pending", manual, Possible::No("it is Pending".into())),
            (Action::Restore, "Pending", manual, Possible::Yes),
            (Action::Restore, "Migrating", manual, Possible::No("it is Migrating".into())),
        ] {
            assert_eq!(possible(action, "VirtualMachine", &vm(phase, policy)), expected, "{action:?} {phase} {policy}");
        }
        assert_eq!(possible(Action::Start, "VirtualDisk", &vm("Ready", manual)), Possible::Absent);
    }

    #[test]
    fn a_migration_is_offered_only_where_the_server_allows_it() {
        let vm = |conditions: serde_json::Value| json!({"status": {"phase": "Running", "conditions": conditions}});
        let ask = |conditions| possible(Action::Evict, "VirtualMachine", &vm(conditions));
        assert_eq!(ask(json!([{"type": "Migratable", "status": "True"}])), Possible::Yes);
        assert_eq!(ask(json!([])), Possible::Yes);
        let alone =
            json!([{"type": "Migratable", "status": "False", "reason": "R", "message": "Only one\u{1b} node."}]);
        assert_eq!(ask(alone), Possible::No("Only one\\x1b node".into()));
    }

    #[test]
    fn upload_needs_an_object_that_waits() {
        let waiting = json!({"spec": {"dataSource": {"type": "Upload"}}, "status": {"phase": "WaitForUserUpload"}});
        assert_eq!(possible(Action::Upload, "VirtualImage", &waiting), Possible::Yes);
        let ready = json!({"spec": {"dataSource": {"type": "Upload"}}, "status": {"phase": "Ready"}});
        assert!(matches!(possible(Action::Upload, "VirtualImage", &ready), Possible::No(_)));
        assert_eq!(possible(Action::Upload, "Secret", &ready), Possible::Absent);
    }
}
