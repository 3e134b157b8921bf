//! Rules of VirtualMachine.

use std::collections::{HashMap, HashSet};

use serde_json::{Value, json};

use super::provisioning::{self, MAX_USER_DATA};
use super::{list, placement, quantity, text, topology};
use crate::types::field_error::FieldError;

/// Longest name: it is the guest's host name.
const MAX_NAME: usize = 63;
/// Label and annotation group that belongs to upstream's engine.
const RESERVED: &str = "kubevirt.io";
/// Most devices of a Legacy machine without paravirtualization: the IDE bus has no more.
const MAX_IDE: usize = 4;

pub(super) fn validate(new: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    name(new, &mut errors);
    reserved_keys(new, &mut errors);
    cpu_and_memory(new, &mut errors);
    devices(new, &mut errors);
    provisioned(new, &mut errors);
    legacy(new, &mut errors);
    networks(new, &mut errors);
    usb(new, &mut errors);
    placement::check(new, &mut errors);
    errors
}

fn name(new: &Value, errors: &mut Vec<FieldError>) {
    let name = text(new, "/metadata/name");
    if name.len() > MAX_NAME {
        let detail = format!("the name is too long: it has {} characters, at most {MAX_NAME} are allowed", name.len());
        errors.push(FieldError::invalid("metadata.name", &Value::from(name), detail));
    }
}

fn reserved_keys(new: &Value, errors: &mut Vec<FieldError>) {
    for field in ["labels", "annotations"] {
        let map = new.pointer(&format!("/metadata/{field}")).and_then(Value::as_object);
        for key in map.into_iter().flatten().map(|(key, _)| key) {
            let group = key.split_once('/').map_or("", |(group, _)| group);
            if group == RESERVED || group.ends_with(&format!(".{RESERVED}")) {
                let detail = format!("{key:?}: using the group's name {RESERVED} is prohibited");
                errors.push(FieldError::forbidden(format!("metadata.{field}"), detail));
            }
        }
    }
}

fn cpu_and_memory(new: &Value, errors: &mut Vec<FieldError>) {
    if let Some(cores) = new.pointer("/spec/cpu/cores").and_then(Value::as_i64)
        && let Some(problem) = topology::problem(cores)
    {
        errors.push(FieldError::invalid("spec.cpu.cores", &Value::from(cores), problem));
    }
    if text(new, "/spec/cpu/coreFraction") == "Auto" {
        let detail = "needs the vertical autoscaler of a cluster; give 1% to 100%";
        errors.push(FieldError::invalid("spec.cpu.coreFraction", &Value::from("Auto"), detail));
    }
    if let Some(size) = new.pointer("/spec/memory/size")
        && quantity(new, "/spec/memory/size").is_none_or(|bytes| bytes == 0)
    {
        errors.push(FieldError::invalid("spec.memory.size", size, "must be a positive quantity such as 1Gi"));
    }
}

fn devices(new: &Value, errors: &mut Vec<FieldError>) {
    let mut seen = HashSet::new();
    let mut orders: HashMap<i64, String> = HashMap::new();
    for (n, device) in list(new, "/spec/blockDeviceRefs").iter().enumerate() {
        let (kind, name) = (text(device, "/kind"), text(device, "/name"));
        if !seen.insert((kind, name)) {
            let reference = json!({"kind": kind, "name": name});
            errors.push(FieldError::duplicate(format!("spec.blockDeviceRefs[{n}]"), &reference));
        }
        let Some(order) = device.get("bootOrder").and_then(Value::as_i64) else { continue };
        let shown = format!("{kind} {name}");
        if let Some(other) = orders.get(&order) {
            let detail = format!("both {other} and {shown} have this bootOrder");
            let path = format!("spec.blockDeviceRefs[{n}].bootOrder");
            errors.push(FieldError::invalid(path, &Value::from(order), detail));
        } else {
            orders.insert(order, shown);
        }
    }
}

fn provisioned(new: &Value, errors: &mut Vec<FieldError>) {
    let Some(given) = new.pointer("/spec/provisioning").filter(|p| p.is_object()) else { return };
    let wanted = match text(given, "/type") {
        "UserData" => "userData",
        "UserDataRef" => "userDataRef",
        "SysprepRef" => "sysprepRef",
        _ => return,
    };
    if given.get(wanted).is_none() {
        let path = format!("spec.provisioning.{wanted}");
        errors.push(FieldError::required(path, format!("the type is {}", text(given, "/type"))));
    }
    for other in ["userData", "userDataRef", "sysprepRef"].into_iter().filter(|f| *f != wanted) {
        if given.get(other).is_some() {
            let detail = format!("the type is {}: only {wanted} may be set", text(given, "/type"));
            errors.push(FieldError::forbidden(format!("spec.provisioning.{other}"), detail));
        }
    }
    let data = text(given, "/userData");
    let length = data.chars().count();
    if length > MAX_USER_DATA {
        let detail = format!(
            "`userData` exceeds {MAX_USER_DATA} byte limit; should use `userDataRef` for larger data. It has {length} \
             characters: move it into a Secret of type provisioning.virtualization.deckhouse.io/cloud-init, key \
             userData, and name that in userDataRef with type UserDataRef"
        );
        errors.push(FieldError::invalid("spec.provisioning.userData", &Value::from("string"), detail));
    }
}

fn legacy(new: &Value, errors: &mut Vec<FieldError>) {
    if text(new, "/spec/osType") != "Legacy" {
        return;
    }
    let bootloader = text(new, "/spec/bootloader");
    if !matches!(bootloader, "" | "BIOS") {
        errors.push(FieldError::rule("spec", "The Legacy osType requires the BIOS bootloader."));
    }
    if new.pointer("/spec/provisioning").is_some() {
        let message = "The Legacy osType does not support provisioning: such operating systems have no cloud-init or \
                       Sysprep support.";
        errors.push(FieldError::rule("spec", message));
    }
    let devices = list(new, "/spec/blockDeviceRefs").len();
    if !paravirtualized(new) && devices > MAX_IDE {
        let message =
            format!("The Legacy osType with enableParavirtualization=false supports at most {MAX_IDE} block devices.");
        errors.push(FieldError::rule("spec", message));
    }
}

fn usb(new: &Value, errors: &mut Vec<FieldError>) {
    let mut seen = HashSet::new();
    for (n, device) in list(new, "/spec/usbDevices").iter().enumerate() {
        let name = text(device, "/name");
        if !seen.insert(name) {
            errors.push(FieldError::duplicate(format!("spec.usbDevices[{n}].name"), &Value::from(name)));
        }
    }
}

fn paravirtualized(machine: &Value) -> bool {
    machine.pointer("/spec/enableParavirtualization") != Some(&Value::Bool(false))
}

fn networks(new: &Value, errors: &mut Vec<FieldError>) {
    let Some(networks) = new.pointer("/spec/networks").and_then(Value::as_array) else { return };
    let (mut names, mut ids) = (HashSet::new(), HashSet::new());
    for (n, network) in networks.iter().enumerate() {
        let path = |field: &str| format!("spec.networks[{n}].{field}");
        let (type_, name) = (text(network, "/type"), text(network, "/name"));
        let id = network.get("id").and_then(Value::as_i64);
        if let Some(id) = id {
            let fits = if type_ == "Main" { id == 1 } else { (2..=16383).contains(&id) };
            if !fits {
                let detail = "the Main network has 1, others have 2 to 16383";
                errors.push(FieldError::invalid(path("id"), &Value::from(id), detail));
            }
            if !ids.insert(id) {
                errors.push(FieldError::duplicate(path("id"), &Value::from(id)));
            }
        }
        if type_ == "Main" {
            if n > 0 {
                let detail = "the Main network comes first and only once";
                errors.push(FieldError::invalid(path("type"), &Value::from(type_), detail));
            }
            if !name.is_empty() {
                errors.push(FieldError::forbidden(path("name"), "the Main network has no name"));
            }
            continue;
        }
        if name.is_empty() {
            errors.push(FieldError::required(path("name"), format!("which {type_} is meant")));
        } else if !names.insert((type_, name)) {
            let network = json!({"type": type_, "name": name});
            errors.push(FieldError::duplicate(format!("spec.networks[{n}]"), &network));
        }
        let detail = "additional networks need the SDN module of a cluster; this host has the Main network only";
        errors.push(FieldError::invalid(path("type"), &Value::from(type_), detail));
    }
    let address = text(new, "/spec/virtualMachineIPAddressName");
    if !address.is_empty() && !networks.iter().any(|n| text(n, "/type") == "Main") {
        let detail = "the address belongs to the Main network, which spec.networks leaves out";
        errors.push(FieldError::invalid("spec.virtualMachineIPAddressName", &Value::from(address), detail));
    }
}

pub(super) fn warnings(old: Option<&Value>, new: &Value) -> Vec<String> {
    let mut out = Vec::new();
    if text(new, "/spec/osType") == "Legacy" && old.is_none_or(|old| text(old, "/spec/osType") != "Legacy") {
        out.push(
            "the Legacy osType is for systems without virtio and ACPI support: it is slow and has no hot-plug"
                .to_owned(),
        );
    }
    if let Some(old) = old
        && !paravirtualized(new)
        && old.pointer("/spec/blockDeviceRefs") != new.pointer("/spec/blockDeviceRefs")
    {
        out.push(
            "spec.blockDeviceRefs: without paravirtualization devices cannot be hot-plugged; restart the machine to \
             apply the change"
                .to_owned(),
        );
    }
    let data =
        |machine: &Value| machine.pointer("/spec/provisioning/userData").and_then(Value::as_str).map(str::to_owned);
    if let Some(given) = data(new)
        && old.and_then(data).as_ref() != Some(&given)
    {
        let found = provisioning::warnings(given.as_bytes());
        out.extend(found.into_iter().map(|warning| format!("spec.provisioning.userData: {warning}")));
    }
    for (field, what) in [("usbDevices", "USB devices"), ("gpus", "GPUs")] {
        let given = |machine: &Value| list(machine, &format!("/spec/{field}")).to_vec();
        if !given(new).is_empty() && old.is_none_or(|old| given(old) != given(new)) {
            out.push(format!("spec.{field}: stored, but this host does not pass {what} to machines"));
        }
    }
    out
}
