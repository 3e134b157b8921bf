//! Rules of each kind that its schema cannot say: what the API refuses, and what it accepts with a warning.
//!
//! Pure functions over the old and the new object. Rules that need other objects (a disk that another machine holds, a
//! second default class) are not here; [`sizing`] takes the class beside the machine.

mod address;
mod class;
mod machine;
mod operation;
mod placement;
pub mod provisioning;
pub mod sizing;
mod storage;
pub mod topology;

use serde_json::Value;

use super::field_error::FieldError;
use super::kinds::{GROUP, KindInfo};

/// Everything about `new` that is not allowed. `old` is the stored object on an update, `None` on a create.
///
/// An update that leaves `spec`, labels and annotations alone is never refused, so that objects from before a rule keep
/// working; neither is one of an object under deletion that changes no `spec`.
pub fn validate(kind: &KindInfo, old: Option<&Value>, new: &Value) -> Vec<FieldError> {
    if kind.group != GROUP || !concerns(old, new) {
        return Vec::new();
    }
    match kind.kind {
        "VirtualMachine" => machine::validate(new),
        "VirtualMachineOperation" => operation::validate(old, new),
        "VirtualMachineBlockDeviceAttachment" => immutable(old, new, "delete the attachment and make a new one"),
        "VirtualDisk" => storage::disk(old, new),
        "VirtualImage" => storage::image(old, new),
        "ClusterVirtualImage" => storage::cluster_image(old, new),
        "VirtualMachineIPAddress" => address::validate(old, new),
        "VirtualMachineIPAddressLease" => address::lease(new),
        "VirtualMachineClass" => class::validate(old, new),
        "VirtualDiskSnapshot" | "VirtualMachineSnapshot" => {
            immutable(old, new, "a snapshot is of one moment: make a new one")
        }
        "VirtualMachineSnapshotOperation" => operation::of_snapshot(old, new),
        "VirtualMachineMACAddress" => address::mac(old, new),
        "VirtualMachineMACAddressLease" => address::mac_lease(new),
        _ => Vec::new(),
    }
}

/// What is accepted but probably not meant; sent as `Warning` headers.
pub fn warnings(kind: &KindInfo, old: Option<&Value>, new: &Value) -> Vec<String> {
    if kind.group != GROUP || !concerns(old, new) {
        return Vec::new();
    }
    match kind.kind {
        "VirtualMachine" => machine::warnings(old, new),
        "VirtualMachineSnapshotOperation" => operation::snapshot_warnings(old, new),
        _ => Vec::new(),
    }
}

/// Whether the write touches what rules speak of.
fn concerns(old: Option<&Value>, new: &Value) -> bool {
    let Some(old) = old else { return true };
    let same = |pointer: &str| old.pointer(pointer) == new.pointer(pointer);
    if new.pointer("/metadata/deletionTimestamp").is_some() {
        return !same("/spec");
    }
    !(same("/spec") && same("/metadata/labels") && same("/metadata/annotations"))
}

/// Refuses any change of `spec`; `remedy` says what to do instead.
fn immutable(old: Option<&Value>, new: &Value, remedy: &str) -> Vec<FieldError> {
    match old {
        Some(old) if old.get("spec") != new.get("spec") => {
            vec![FieldError::forbidden("spec", format!("cannot be changed; {remedy}"))]
        }
        _ => Vec::new(),
    }
}

/// As [`immutable`], where upstream says it by a CEL rule.
fn frozen(old: Option<&Value>, new: &Value, remedy: &str) -> Vec<FieldError> {
    match old {
        Some(old) if old.get("spec") != new.get("spec") => {
            vec![FieldError::rule("spec", format!(".spec is immutable; {remedy}"))]
        }
        _ => Vec::new(),
    }
}

fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn list<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    object.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// A quantity in whole units; `None` if it is absent or none.
fn quantity(object: &Value, pointer: &str) -> Option<u64> {
    match object.pointer(pointer)? {
        Value::String(text) => super::quantity::parse_bytes(text),
        Value::Number(number) => number.as_u64(),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
