//! Which screen for what. A kind without a row here still has the generic list, describe and YAML.

pub mod columns;
pub mod describe;
pub mod document;
pub mod edit;
pub mod list;
pub mod logs;
pub mod machine;
pub mod why;

use super::message::{Kind, ObjectRef};
use super::state::{Scroll, machine_kind};
use crate::types::kinds::{self, KindInfo};

pub use document::{Document, Mode};
pub use list::ListView;
pub use machine::MachineView;

/// One view of the stack.
pub enum View {
    /// A kind's objects.
    List(ListView),
    /// One machine.
    Machine(MachineView),
    /// Text made from an object: description or YAML.
    Text(Document),
    /// Errors that were not dismissed.
    Errors(Entries),
    /// Tasks.
    Tasks(Entries),
    /// Where one can connect to.
    Contexts(Entries),
    /// An object under edit.
    Edit(Box<edit::EditView>),
    /// A form.
    Form(Box<edit::FormView>),
}

/// Cursor of a short list that is not a table.
#[derive(Debug, Clone, Default)]
pub struct Entries {
    /// Position, counted from the newest or first.
    pub cursor: usize,
    /// Scrolling.
    pub scroll: Scroll,
}

impl Entries {
    /// Moves the cursor by rows or to a row, within `len` rows.
    pub fn step(&mut self, rows: isize, absolute: Option<usize>, len: usize) {
        let to = absolute.unwrap_or_else(|| self.cursor.saturating_add_signed(rows));
        self.cursor = to.min(len.saturating_sub(1));
    }
}

impl View {
    /// The list of a kind.
    pub fn list(kind: Kind) -> Self {
        Self::List(ListView { kind })
    }

    /// The object that the whole view is about.
    pub fn object(&self) -> Option<&ObjectRef> {
        match self {
            Self::Machine(view) => Some(&view.object),
            Self::Text(document) => Some(&document.object),
            _ => None,
        }
    }

    /// The live tables the view reads, given the namespace in force.
    pub fn needs(&self, namespace: Option<&str>) -> Vec<(Kind, Option<String>)> {
        let named = |word: &str, namespace: &str| {
            kinds::find(word).map(|kind| (Kind(kind), Some(namespace.to_owned()).filter(|_| kind.namespaced())))
        };
        match self {
            Self::List(list) => vec![(list.kind, namespace.map(ToOwned::to_owned))],
            Self::Machine(view) => ["vm", "event", "vd", "vmbda", "vmip"]
                .iter()
                .filter_map(|word| named(word, &view.object.namespace))
                .collect(),
            Self::Text(document) => {
                let object = &document.object;
                let mut needs = vec![(object.kind, object.scope().map(ToOwned::to_owned))];
                if document.mode == Mode::Describe {
                    let place = if object.namespace.is_empty() { "default" } else { &object.namespace };
                    needs.extend(named("event", place));
                }
                needs
            }
            Self::Errors(_) | Self::Tasks(_) | Self::Contexts(_) | Self::Edit(_) | Self::Form(_) => Vec::new(),
        }
    }
}

/// Heading of a kind's list.
pub fn kind_title(kind: &KindInfo) -> String {
    match kind.kind {
        "VirtualMachine" => "Virtual machines".into(),
        "VirtualMachineOperation" => "Operations".into(),
        "VirtualMachineBlockDeviceAttachment" => "Block device attachments".into(),
        "VirtualDisk" => "Disks".into(),
        "VirtualImage" => "Images".into(),
        "ClusterVirtualImage" => "Cluster images".into(),
        "VirtualMachineIPAddress" => "IP addresses".into(),
        "VirtualMachineIPAddressLease" => "IP address leases".into(),
        "VirtualMachineClass" => "Machine classes".into(),
        "VirtualDiskSnapshot" => "Disk snapshots".into(),
        "VirtualMachineSnapshot" => "Machine snapshots".into(),
        "VirtualMachineSnapshotOperation" => "Snapshot operations".into(),
        "VirtualMachineMACAddress" => "MAC addresses".into(),
        "VirtualMachineMACAddressLease" => "MAC address leases".into(),
        "ConfigMap" => "Config maps".into(),
        other => {
            let mut title = String::new();
            for (i, c) in other.chars().enumerate() {
                if i > 0 && c.is_uppercase() {
                    title.push(' ');
                    title.extend(c.to_lowercase());
                } else {
                    title.push(c);
                }
            }
            if title.ends_with('s') { title + "es" } else { title + "s" }
        }
    }
}

/// One object of a kind in words: `machine`, `disk`.
pub fn kind_noun(kind: &KindInfo) -> String {
    match kind.kind {
        "VirtualMachine" => "machine".into(),
        "VirtualMachineOperation" => "operation".into(),
        "VirtualMachineBlockDeviceAttachment" => "attachment".into(),
        "VirtualDisk" => "disk".into(),
        "VirtualImage" => "image".into(),
        "ClusterVirtualImage" => "cluster image".into(),
        "VirtualMachineIPAddress" => "IP address".into(),
        "VirtualMachineIPAddressLease" => "IP address lease".into(),
        "VirtualMachineClass" => "machine class".into(),
        "VirtualDiskSnapshot" => "disk snapshot".into(),
        "VirtualMachineSnapshot" => "machine snapshot".into(),
        "VirtualMachineSnapshotOperation" => "snapshot operation".into(),
        "VirtualMachineMACAddress" => "MAC address".into(),
        "VirtualMachineMACAddressLease" => "MAC address lease".into(),
        other => other.to_lowercase(),
    }
}

/// Whether people create objects of this kind.
pub fn creatable(kind: Kind) -> bool {
    kind == machine_kind()
        || matches!(
            kind.0.kind,
            "VirtualDisk"
                | "VirtualImage"
                | "ClusterVirtualImage"
                | "VirtualMachineBlockDeviceAttachment"
                | "VirtualMachineIPAddress"
                | "VirtualMachineClass"
                | "Namespace"
                | "Secret"
                | "ConfigMap"
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_title() {
        for kind in kinds::KINDS {
            assert!(kind_title(kind).ends_with('s'), "{}", kind_title(kind));
            assert!(!kind_noun(kind).is_empty());
        }
    }
}
