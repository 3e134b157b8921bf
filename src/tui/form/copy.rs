//! Forms for operations on a whole machine: cloning it, and restoring it from a snapshot.

use serde_json::{Value, json};

use super::field::{Choice, Field};
use super::machine::name_problem;
use super::{Form, Problem, Sheet, Values};
use crate::types::text::printable;

const API: &str = "virtualization.deckhouse.io/v1alpha2";
/// Longest prefix or suffix.
const MAX_PART: usize = 59;
/// Longest name of a machine.
const MAX_NAME: usize = 63;

/// What the clone form must know.
#[derive(Debug, Clone, Default)]
pub struct CloneContext {
    /// Namespace of the machine.
    pub namespace: String,
    /// The machine.
    pub machine: String,
    /// All machines of the namespace.
    pub taken: Vec<String>,
}

/// What the restore form offers.
#[derive(Debug, Clone, Default)]
pub struct RestoreContext {
    /// Namespace of the machine.
    pub namespace: String,
    /// The machine.
    pub machine: String,
    /// Its snapshots that can be restored, the newest first: name, and when it was taken.
    pub snapshots: Vec<(String, String)>,
}

fn modes() -> Field {
    let choices = vec![
        Choice::labelled("Strict", "everything must fit"),
        Choice::labelled("BestEffort", "do without images that are missing"),
        Choice::labelled("DryRun", "only check, change nothing"),
    ];
    Field::choice("mode", "Mode", "left and right choose", choices, "Strict")
}

fn operation(namespace: &str, machine: &str, type_: &str, field: &str, how: Value) -> Value {
    json!({
        "apiVersion": API, "kind": "VirtualMachineOperation",
        "metadata": {"generateName": format!("{machine}-"), "namespace": namespace},
        "spec": {"type": type_, "virtualMachineName": machine, field: how},
    })
}

/// Opens the clone form.
pub fn clone_machine(context: CloneContext) -> Form {
    let fields = vec![
        Field::text("prefix", "Prefix", "stands before the names of the copy, its disks and its Secret", ""),
        Field::text("suffix", "Suffix", "stands after them", "-copy"),
        modes(),
    ];
    let title = format!("Clone {}", printable(&context.machine));
    Form::new(title, "clone", fields, Box::new(CloneSheet { context }))
}

struct CloneSheet {
    context: CloneContext,
}

impl CloneSheet {
    fn name(&self, values: Values<'_>) -> String {
        format!("{}{}{}", values.get("prefix"), self.context.machine, values.get("suffix"))
    }
}

impl Sheet for CloneSheet {
    fn shows(&self, _field: &str, _values: Values<'_>) -> bool {
        true
    }

    fn problems(&self, values: Values<'_>) -> Vec<Problem> {
        let block = |field, message: String| Problem { field, message, blocks: true };
        let (prefix, suffix) = (values.get("prefix"), values.get("suffix"));
        let at = if prefix.is_empty() { "suffix" } else { "prefix" };
        if prefix.is_empty() && suffix.is_empty() {
            return vec![block("suffix", "the copy needs names of its own: a prefix, a suffix or both".into())];
        }
        let long = [("prefix", prefix), ("suffix", suffix)].into_iter().find(|(_, part)| part.len() > MAX_PART);
        if let Some((field, part)) = long {
            return vec![block(field, format!("{} characters; {MAX_PART} are allowed", part.len()))];
        }
        let name = self.name(values);
        let taken = self.context.taken.contains(&name).then(|| block(at, format!("there is a machine {name} already")));
        name_problem(at, &name, MAX_NAME).into_iter().chain(taken).collect()
    }

    fn manifests(&self, values: Values<'_>, _preview: bool) -> Vec<Value> {
        let mut customization = json!({});
        for (field, part) in [("namePrefix", "prefix"), ("nameSuffix", "suffix")] {
            if !values.get(part).is_empty() {
                customization[field] = values.get(part).into();
            }
        }
        let how = json!({"mode": values.get("mode"), "customization": customization});
        vec![operation(&self.context.namespace, &self.context.machine, "Clone", "clone", how)]
    }

    fn field_of(&self, path: &str) -> Option<&'static str> {
        [("spec.clone.customization", "prefix"), ("spec.clone.mode", "mode")]
            .into_iter()
            .find_map(|(prefix, field)| path.starts_with(prefix).then_some(field))
    }

    fn summary(&self, values: Values<'_>) -> String {
        let name = self.name(values);
        format!(
            "{} gets copies of the disks and an address of its own; a guest that runs needs its agent",
            printable(&name)
        )
    }
}

/// Opens the restore form.
pub fn restore_machine(context: RestoreContext) -> Form {
    let choices =
        context.snapshots.iter().map(|(name, when)| Choice::labelled(name, format!("{name} ({when})"))).collect();
    let newest = context.snapshots.first().map(|(name, _)| name.clone()).unwrap_or_default();
    let snapshot = if context.snapshots.is_empty() {
        Field::text("snapshot", "Snapshot", "name of a VirtualMachineSnapshot", "")
    } else {
        Field::choice("snapshot", "Snapshot", "left and right choose, letters find", choices, &newest)
    };
    let title = format!("Restore {}", printable(&context.machine));
    Form::new(title, "restore", vec![snapshot, modes()], Box::new(RestoreSheet { context }))
}

struct RestoreSheet {
    context: RestoreContext,
}

impl Sheet for RestoreSheet {
    fn shows(&self, _field: &str, _values: Values<'_>) -> bool {
        true
    }

    fn problems(&self, values: Values<'_>) -> Vec<Problem> {
        let missing = values.get("snapshot").is_empty();
        let message = "the machine has no snapshot that is ready: take one first".to_owned();
        missing.then_some(Problem { field: "snapshot", message, blocks: true }).into_iter().collect()
    }

    fn manifests(&self, values: Values<'_>, _preview: bool) -> Vec<Value> {
        let how = json!({"mode": values.get("mode"), "virtualMachineSnapshotName": values.get("snapshot")});
        vec![operation(&self.context.namespace, &self.context.machine, "Restore", "restore", how)]
    }

    fn field_of(&self, path: &str) -> Option<&'static str> {
        [("spec.restore.virtualMachineSnapshotName", "snapshot"), ("spec.restore.mode", "mode")]
            .into_iter()
            .find_map(|(prefix, field)| path.starts_with(prefix).then_some(field))
    }

    fn summary(&self, values: Values<'_>) -> String {
        match values.get("mode") {
            "DryRun" => "nothing is changed; the operation says what would be in the way".into(),
            _ => "the machine is stopped; what its disks have now is lost, they become what they were".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{check_schema, fill, manifests};
    use super::*;

    #[test]
    fn a_clone_needs_names_of_its_own() {
        let context =
            CloneContext { namespace: "default".into(), machine: "web".into(), taken: vec!["web-copy".into()] };
        let problem = |form: &Form| form.problems().iter().map(|p| p.message.clone()).collect::<Vec<_>>().join("; ");
        let mut form = clone_machine(context);
        assert_eq!(problem(&form), "there is a machine web-copy already");
        fill(&mut form, "suffix", "");
        assert!(problem(&form).contains("a prefix, a suffix or both"));
        fill(&mut form, "prefix", "Big");
        assert!(problem(&form).contains("`B` cannot be in a name"), "{}", problem(&form));
        fill(&mut form, "prefix", &"x".repeat(60));
        assert!(problem(&form).contains("60 characters; 59 are allowed"));
        fill(&mut form, "prefix", "second-");
        let made = manifests(&mut form);
        check_schema(&made);
        assert_eq!(made[0]["metadata"], json!({"generateName": "web-", "namespace": "default"}));
        assert_eq!(
            made[0]["spec"],
            json!({
                "type": "Clone", "virtualMachineName": "web",
                "clone": {"mode": "Strict", "customization": {"namePrefix": "second-"}},
            })
        );
    }

    #[test]
    fn a_restore_offers_what_can_be_restored() {
        let context = RestoreContext {
            namespace: "default".into(),
            machine: "web".into(),
            snapshots: vec![("tuesday".into(), "today".into()), ("monday".into(), "yesterday".into())],
        };
        let mut form = restore_machine(context);
        let made = manifests(&mut form);
        check_schema(&made);
        assert_eq!(made[0]["spec"]["restore"], json!({"mode": "Strict", "virtualMachineSnapshotName": "tuesday"}));
        let form = restore_machine(RestoreContext::default());
        assert!(form.problems().iter().any(|p| p.blocks && p.message.contains("take one first")));
    }
}
