//! The attach-disk form: a disk that no machine uses, or a new blank one.

use serde_json::{Value, json};

use super::field::{Choice, Field};
use super::machine::{DiskChoice, free_name, name_problem, size_problem};
use super::{Form, Problem, Sheet, Values};

const API: &str = "virtualization.deckhouse.io/v1alpha2";

/// What the form offers and must know.
#[derive(Debug, Clone, Default)]
pub struct AttachContext {
    /// Namespace of the machine.
    pub namespace: String,
    /// The machine.
    pub machine: String,
    /// Disks of the namespace that no machine uses.
    pub disks: Vec<DiskChoice>,
    /// All disks of the namespace.
    pub taken_disks: Vec<String>,
    /// All attachments of the namespace.
    pub taken_attachments: Vec<String>,
}

/// Opens the form.
pub fn attach_disk(context: AttachContext) -> Form {
    let mut choices: Vec<Choice> =
        context.disks.iter().map(|d| Choice::labelled(&d.name, format!("{} ({})", d.name, d.size))).collect();
    choices.push(Choice::labelled("", "a new blank disk"));
    let name = free_name(&format!("{}-data", context.machine), &context.taken_disks);
    let fields = vec![
        Field::choice("disk", "Disk", "left and right choose, letters find", choices, ""),
        Field::text("name", "New disk", "its name", name),
        Field::text("size", "Size", "a size such as 10Gi", "1Gi"),
    ];
    let title = format!("Attach a disk to {}", crate::types::text::printable(&context.machine));
    let mut form = Form::new(title, "attach", fields, Box::new(AttachSheet { context }));
    // A disk that is there is more likely meant than a new one.
    if let Some(super::Control::Choice { at, .. }) = form.fields.first_mut().map(|f| &mut f.control) {
        *at = 0;
    }
    form.check();
    form
}

struct AttachSheet {
    context: AttachContext,
}

impl AttachSheet {
    fn disk(&self, values: Values<'_>) -> String {
        let chosen = values.get("disk");
        if chosen.is_empty() { values.get("name").to_owned() } else { chosen.to_owned() }
    }
}

impl Sheet for AttachSheet {
    fn shows(&self, field: &str, values: Values<'_>) -> bool {
        field == "disk" || values.get("disk").is_empty()
    }

    fn problems(&self, values: Values<'_>) -> Vec<Problem> {
        let mut out = Vec::new();
        if !values.get("disk").is_empty() {
            return out;
        }
        let name = values.get("name");
        out.extend(name_problem("name", name, 60));
        if self.context.taken_disks.iter().any(|t| t == name) {
            let message = format!("there is a disk {name} already");
            out.push(Problem { field: "name", message, blocks: true });
        }
        out.extend(size_problem("size", values.get("size"), true));
        out
    }

    fn manifests(&self, values: Values<'_>, _preview: bool) -> Vec<Value> {
        let (namespace, machine) = (&self.context.namespace, &self.context.machine);
        let disk = self.disk(values);
        let mut out = Vec::new();
        if values.get("disk").is_empty() {
            out.push(json!({"apiVersion": API, "kind": "VirtualDisk",
                "metadata": {"name": disk, "namespace": namespace},
                "spec": {"persistentVolumeClaim": {"size": values.get("size")}}}));
        }
        let plain = format!("{machine}-{disk}");
        let taken = &self.context.taken_attachments;
        let name = if taken.contains(&plain) { free_name(&plain, taken) } else { plain };
        out.push(json!({"apiVersion": API, "kind": "VirtualMachineBlockDeviceAttachment",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"virtualMachineName": machine, "blockDeviceRef": {"kind": "VirtualDisk", "name": disk}}}));
        out
    }

    fn field_of(&self, path: &str) -> Option<&'static str> {
        [("spec.persistentVolumeClaim", "size"), ("metadata.name", "name"), ("spec.blockDeviceRef", "disk")]
            .into_iter()
            .find_map(|(prefix, field)| path.starts_with(prefix).then_some(field))
    }

    fn summary(&self, _values: Values<'_>) -> String {
        "the guest sees the disk at once, while it runs; at every later start it is there again".into()
    }
}
