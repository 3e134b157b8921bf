//! Rules that need other objects than the one that is written (upstream.md sections 15.4 and 19). Pure over a
//! [`World`]; the caller sees to it that the world does not move between check and write.

use serde_json::{Map, Value};

use super::{address, machine, storage};
use crate::apiserver::object::{self, Object};
use crate::types::field_error::FieldError;
use crate::types::kinds::KindInfo;

/// Most block devices of one machine.
pub(super) const MAX_DEVICES: usize = 16;
/// The annotation that makes a class the default one.
const DEFAULT_CLASS: &str = "virtualmachineclass.virtualization.deckhouse.io/is-default-class";

/// What the rules see of the rest.
pub trait World {
    /// Objects of a kind, named by its plural; of one namespace or all.
    fn list(&self, plural: &str, namespace: Option<&str>) -> Vec<Object>;
    /// Subnets for machine addresses; `None` when this server does not know.
    fn networks(&self) -> Option<&[ipnet::Ipv4Net]>;
}

/// What came of the rules.
#[derive(Debug, Default)]
pub struct Findings {
    /// Why the write is refused.
    pub errors: Vec<FieldError>,
    /// What the user should know.
    pub warnings: Vec<String>,
}

impl Findings {
    pub(super) fn refuse(&mut self, error: FieldError) {
        self.errors.push(error);
    }
}

/// Whether a kind has rules here, so that its writes have to be one at a time.
pub fn concerns(kind: &KindInfo) -> bool {
    matches!(
        kind.kind,
        "VirtualMachine"
            | "VirtualMachineBlockDeviceAttachment"
            | "VirtualMachineOperation"
            | "VirtualMachineIPAddress"
            | "VirtualMachineMACAddress"
            | "VirtualMachineClass"
    )
}

/// Fills in what a kind requires and another object says: the class of a machine that names none is the default one.
/// Done before the schema is looked at, which wants it.
pub fn complete(world: &dyn World, kind: &KindInfo, new: &mut Object) -> Option<FieldError> {
    const FIELD: &str = "virtualMachineClassName";
    if kind.kind != "VirtualMachine" || object::is_terminating(new) || !text(new, &["spec", FIELD]).is_empty() {
        return None;
    }
    let spec = new.get_mut("spec").and_then(Value::as_object_mut)?;
    match world.list("virtualmachineclasses", None).iter().find(|c| is_default(c)) {
        Some(class) => {
            spec.insert(FIELD.to_owned(), object::name(class).into());
            None
        }
        None => {
            let detail = "there is no default VirtualMachineClass: name the class that the machine shall have";
            Some(FieldError::required(format!("spec.{FIELD}"), detail))
        }
    }
}

/// Fills in what depends on other objects: the core fraction of a machine that names none comes from its class.
pub fn fill(world: &dyn World, kind: &KindInfo, new: &mut Object) -> Findings {
    let mut findings = Findings::default();
    if kind.kind == "VirtualMachine" && !object::is_terminating(new) {
        machine::fill(world, new, &mut findings);
    }
    findings
}

pub(super) fn class_of(world: &dyn World, machine: &Object) -> Option<Object> {
    let name = text(machine, &["spec", "virtualMachineClassName"]);
    world.list("virtualmachineclasses", None).into_iter().find(|c| object::name(c) == name)
}

/// Checks an object to be stored; `old` is what it replaces. What is being deleted is let through, so that it can be
/// let go.
pub fn check(world: &dyn World, kind: &KindInfo, old: Option<&Object>, new: &Object) -> Findings {
    let mut findings = Findings::default();
    let spec_changed = old.is_none_or(|old| old.get("spec") != new.get("spec"));
    if object::is_terminating(new) {
        return findings;
    }
    match kind.kind {
        "VirtualMachine" if spec_changed => machine::check(world, old, new, &mut findings),
        "VirtualDisk" if spec_changed => storage::disk(world, old, new, &mut findings),
        "VirtualMachineMACAddress" if spec_changed => address::mac(world, new, &mut findings),
        "VirtualMachineBlockDeviceAttachment" if old.is_none() => attachment(world, new, &mut findings),
        "VirtualMachineOperation" if old.is_none() => operation(world, new, &mut findings),
        "VirtualMachineIPAddress" if spec_changed => address::check(world, old, new, &mut findings),
        "VirtualMachineClass" => class(world, new, &mut findings),
        _ => {}
    }
    findings
}

/// A field by its path.
pub(super) fn at<'a>(object: &'a Object, path: &[&str]) -> Option<&'a Value> {
    let (first, rest) = path.split_first()?;
    rest.iter().try_fold(object.get(*first)?, |value, name| value.get(name))
}

/// A text by its path; empty when it is not there.
pub(super) fn text<'a>(object: &'a Object, path: &[&str]) -> &'a str {
    at(object, path).and_then(Value::as_str).unwrap_or("")
}

pub(super) fn namespace(object: &Object) -> Option<&str> {
    Some(object::text(object, "namespace"))
}

/// A block device as objects name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Device {
    pub(super) kind: String,
    pub(super) name: String,
}

impl Device {
    fn of(reference: &Value) -> Self {
        let text = |field: &str| reference.get(field).and_then(Value::as_str).unwrap_or("").to_owned();
        Self { kind: text("kind"), name: text("name") }
    }

    pub(super) fn of_attachment(attachment: &Object) -> Self {
        at(attachment, &["spec", "blockDeviceRef"]).map_or(Self { kind: String::new(), name: String::new() }, Self::of)
    }

    pub(super) fn shown(&self) -> String {
        format!("{} {:?}", self.kind, self.name)
    }
}

pub(super) fn devices(machine: &Object) -> Vec<Device> {
    let list = at(machine, &["spec", "blockDeviceRefs"]).and_then(Value::as_array);
    list.into_iter().flatten().map(Device::of).collect()
}

/// The attachments of a machine that count: not those that are going or have failed.
pub(super) fn attachments(world: &dyn World, namespace: Option<&str>) -> Vec<Object> {
    let mut list = world.list("virtualmachineblockdeviceattachments", namespace);
    list.retain(|a| !object::is_terminating(a) && text(a, &["status", "phase"]) != "Failed");
    list
}

pub(super) fn too_many(found: usize) -> String {
    format!("block device attachment limit reached: found {found} devices, {MAX_DEVICES} is maximum")
}

fn attachment(world: &dyn World, new: &Object, findings: &mut Findings) {
    const REF: &str = "spec.blockDeviceRef";
    let device = Device::of_attachment(new);
    let machine_name = text(new, &["spec", "virtualMachineName"]);
    let mut others = attachments(world, namespace(new));
    others.retain(|o| object::name(o) != object::name(new));
    let same_machine = |o: &Object| text(o, &["spec", "virtualMachineName"]) == machine_name;
    // Images may be given to any number of machines, but to each only once.
    let rival =
        others.iter().find(|o| Device::of_attachment(o) == device && (device.kind == "VirtualDisk" || same_machine(o)));
    if let Some(rival) = rival {
        let detail = format!(
            "{} is already attached by VirtualMachineBlockDeviceAttachment {:?}",
            device.shown(),
            object::name(rival)
        );
        findings.refuse(FieldError::forbidden(REF, detail));
    }
    let machines = world.list("virtualmachines", namespace(new));
    if let Some(machine) = machines.iter().find(|m| object::name(m) == machine_name) {
        let of_machine = devices(machine);
        if of_machine.contains(&device) {
            let detail =
                format!("{} is already in spec.blockDeviceRefs of VirtualMachine {machine_name:?}", device.shown());
            findings.refuse(FieldError::forbidden(REF, detail));
        }
        let found = 1 + of_machine.len() + others.iter().filter(|o| same_machine(o)).count();
        if found > MAX_DEVICES {
            findings.refuse(FieldError::forbidden("spec.virtualMachineName", too_many(found)));
        }
    }
}

/// What an operation does, as far as precedence goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Power {
    Start,
    Stop { force: bool },
    Restart { force: bool },
    Move,
    Other,
}

fn power(operation: &Object) -> Power {
    let force = at(operation, &["spec", "force"]) == Some(&Value::Bool(true));
    match text(operation, &["spec", "type"]) {
        "Start" => Power::Start,
        "Stop" => Power::Stop { force },
        "Restart" => Power::Restart { force },
        "Migrate" | "Evict" => Power::Move,
        _ => Power::Other,
    }
}

/// Whether a new operation may take the place of one that is under way (upstream.md 7.4).
fn supersedes(new: Power, active: Power) -> bool {
    match active {
        Power::Start => matches!(new, Power::Stop { .. }),
        Power::Stop { force: false } | Power::Restart { force: false } => {
            matches!(new, Power::Stop { force: true } | Power::Restart { force: true })
        }
        Power::Move => matches!(new, Power::Stop { .. } | Power::Restart { .. }),
        Power::Stop { force: true } | Power::Restart { force: true } | Power::Other => false,
    }
}

fn operation(world: &dyn World, new: &Object, findings: &mut Findings) {
    let machine = text(new, &["spec", "virtualMachineName"]);
    let active = world.list("virtualmachineoperations", namespace(new)).into_iter().find(|o| {
        object::name(o) != object::name(new)
            && text(o, &["spec", "virtualMachineName"]) == machine
            && !matches!(text(o, &["status", "phase"]), "Completed" | "Failed" | "Superseded" | "Terminating")
            && !object::is_terminating(o)
            && !supersedes(power(new), power(o))
    });
    if let Some(active) = active {
        let detail = format!(
            "VirtualMachineOperation cannot be executed now: {} {:?} of VirtualMachine {machine:?} has to finish first",
            text(&active, &["spec", "type"]),
            object::name(&active)
        );
        findings.refuse(FieldError::forbidden("spec.virtualMachineName", detail));
    }
}

fn is_default(class: &Object) -> bool {
    let annotations = object::metadata(class).and_then(|m| m.get("annotations")).and_then(Value::as_object);
    annotations.and_then(|a: &Map<String, Value>| a.get(DEFAULT_CLASS)).is_some_and(|v| v == "true")
}

fn class(world: &dyn World, new: &Object, findings: &mut Findings) {
    if !is_default(new) {
        return;
    }
    let others = world.list("virtualmachineclasses", None);
    let rival = others.iter().find(|c| object::name(c) != object::name(new) && is_default(c));
    if let Some(rival) = rival {
        let detail = format!("VirtualMachineClass {:?} is the default class already", object::name(rival));
        findings.refuse(FieldError::forbidden(format!("metadata.annotations[{DEFAULT_CLASS}]"), detail));
    }
}
