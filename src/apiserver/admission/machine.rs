//! Rules of VirtualMachine that need its class, its devices and their other users (upstream.md section 19).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::across::{
    Device, Findings, MAX_DEVICES, World, at, attachments, class_of, devices, namespace, text, too_many,
};
use crate::apiserver::object::{self, Object};
use crate::types::field_error::FieldError;
use crate::types::rules::provisioning::{self, CLOUD_INIT_SECRET, SYSPREP_SECRET, UNATTEND_KEYS, USER_DATA_KEYS};
use crate::types::rules::sizing;

/// Fills in the core fraction, from the class, and the number of the Main network.
pub(super) fn fill(world: &dyn World, new: &mut Object, findings: &mut Findings) {
    let networks = new.get_mut("spec").and_then(|s| s.get_mut("networks")).and_then(Value::as_array_mut);
    for network in networks.into_iter().flatten().filter_map(Value::as_object_mut) {
        if network.get("type").is_some_and(|t| t == "Main") && !network.contains_key("id") {
            network.insert("id".to_owned(), 1.into());
        }
    }
    let cores = at(new, &["spec", "cpu", "cores"]).and_then(Value::as_i64);
    let missing = text(new, &["spec", "cpu", "coreFraction"]).is_empty();
    if let (Some(cores), true, Some(class)) = (cores, missing, class_of(world, new)) {
        match sizing::default_core_fraction(&Value::Object(class), cores) {
            Ok(fraction) => {
                if let Some(cpu) = new.get_mut("spec").and_then(|s| s.get_mut("cpu")).and_then(Value::as_object_mut) {
                    cpu.insert("coreFraction".to_owned(), fraction.into());
                }
            }
            Err(detail) => findings.refuse(FieldError::required("spec.cpu.coreFraction", detail)),
        }
    }
}

/// Checks a machine whose spec is new or has changed; `old` is what it replaces.
pub(super) fn check(world: &dyn World, old: Option<&Object>, new: &Object, findings: &mut Findings) {
    block_devices(world, old, new, findings);
    usb_devices(world, old, new, findings);
    address(world, old, new, findings);
    secret(world, new, findings);
    let class = text(new, &["spec", "virtualMachineClassName"]);
    match class_of(world, new) {
        Some(class) => {
            if let Some(problem) = sizing::problem(&Value::Object(class), &Value::Object(new.clone())) {
                findings.refuse(FieldError::forbidden("spec", problem));
            }
        }
        None if !class.is_empty() => findings
            .warnings
            .push(format!("VirtualMachineClass {class:?} does not exist (yet): the machine waits for it")),
        None => {}
    }
}

fn block_devices(world: &dyn World, old: Option<&Object>, new: &Object, findings: &mut Findings) {
    const REFS: &str = "spec.blockDeviceRefs";
    let name = object::name(new);
    let before = old.map(devices).unwrap_or_default();
    let after = devices(new);
    if before == after {
        return;
    }
    let mut attached = attachments(world, namespace(new));
    let own = |a: &Object| text(a, &["spec", "virtualMachineName"]) == name;
    for (i, device) in after.iter().enumerate().filter(|(_, d)| !before.contains(d)) {
        // Images may be given to any number of machines, but to each only once.
        let holder =
            attached.iter().find(|a| Device::of_attachment(a) == *device && (device.kind == "VirtualDisk" || own(a)));
        if let Some(holder) = holder {
            let detail = format!(
                "{} is already attached by VirtualMachineBlockDeviceAttachment {:?}: delete that first",
                device.shown(),
                object::name(holder)
            );
            findings.refuse(FieldError::forbidden(format!("{REFS}[{i}]"), detail));
        }
    }
    attached.retain(own);
    let found = after.len() + attached.len();
    if found > MAX_DEVICES {
        findings.refuse(FieldError::forbidden(REFS, too_many(found)));
    }
    if let Some(first) = after.first().filter(|first| before.first() != Some(*first)) {
        bootable(world, new, first, findings);
    }
}

/// A machine cannot start from an image that is no CD-ROM, as images cannot be written to.
fn bootable(world: &dyn World, machine: &Object, first: &Device, findings: &mut Findings) {
    let images = match first.kind.as_str() {
        "VirtualImage" => world.list("virtualimages", namespace(machine)),
        "ClusterVirtualImage" => world.list("clustervirtualimages", None),
        _ => return,
    };
    let image = images.iter().find(|i| object::name(i) == first.name);
    let is_disk = |i: &&Object| {
        text(i, &["status", "phase"]) == "Ready" && at(i, &["status", "cdrom"]) == Some(&Value::Bool(false))
    };
    if image.filter(is_disk).is_some() {
        let detail = format!(
            "{} cannot be the first block device: it is not a CD-ROM image. Make a VirtualDisk from it",
            first.shown()
        );
        findings.refuse(FieldError::forbidden("spec.blockDeviceRefs[0]", detail));
    }
}

fn usb_devices(world: &dyn World, old: Option<&Object>, new: &Object, findings: &mut Findings) {
    let names = |machine: &Object| -> Vec<String> {
        let list = at(machine, &["spec", "usbDevices"]).and_then(Value::as_array);
        list.into_iter().flatten().filter_map(|d| d.get("name")?.as_str()).map(str::to_owned).collect()
    };
    let before = old.map(names).unwrap_or_default();
    let added: Vec<String> = names(new).into_iter().filter(|d| !before.contains(d)).collect();
    if added.is_empty() {
        return;
    }
    let mut machines = world.list("virtualmachines", namespace(new));
    machines.retain(|m| object::name(m) != object::name(new));
    for device in added {
        if let Some(user) = machines.iter().find(|m| names(m).contains(&device)) {
            let detail = format!("USBDevice {device:?} is already used by VirtualMachine {:?}", object::name(user));
            findings.refuse(FieldError::forbidden("spec.usbDevices", detail));
        }
    }
}

fn address(world: &dyn World, old: Option<&Object>, new: &Object, findings: &mut Findings) {
    const FIELD: &str = "spec.virtualMachineIPAddressName";
    let name = object::name(new);
    let given = text(new, &["spec", "virtualMachineIPAddressName"]);
    if !given.is_empty() && world.networks().is_some_and(<[_]>::is_empty) {
        let detail = "no subnets for machine addresses are configured (virtualMachineCIDRs)";
        return findings.refuse(FieldError::invalid(FIELD, &given.into(), detail));
    }
    if old.is_some() || !given.is_empty() {
        return;
    }
    let addresses = world.list("virtualmachineipaddresses", namespace(new));
    if let Some(address) = addresses.iter().find(|a| object::name(a) == name) {
        let shown = match text(address, &["status", "address"]) {
            "" => String::new(),
            address => format!(" ({address})"),
        };
        let detail = format!(
            "a VirtualMachineIPAddress named {name:?}{shown} exists: set this field to {name:?} to use it, or rename \
             one of the two"
        );
        findings.refuse(FieldError::required(FIELD, detail));
    }
}

/// What about the Secret with the first-boot configuration will not do. A Secret that is still to come is no mistake.
fn secret(world: &dyn World, new: &Object, findings: &mut Findings) {
    let (field, wanted, keys): (_, _, &[&str]) = match text(new, &["spec", "provisioning", "type"]) {
        "UserDataRef" => ("userDataRef", CLOUD_INIT_SECRET, &USER_DATA_KEYS),
        "SysprepRef" => ("sysprepRef", SYSPREP_SECRET, &UNATTEND_KEYS),
        _ => return,
    };
    let name = text(new, &["spec", "provisioning", field, "name"]);
    let secrets = world.list("secrets", namespace(new));
    let Some(secret) = secrets.iter().find(|s| object::name(s) == name) else { return };
    let mut warn = |what: String| findings.warnings.push(format!("spec.provisioning.{field}: Secret {name:?} {what}"));
    let type_ = text(secret, &["type"]);
    if type_ != wanted {
        return warn(format!("is of type {type_:?}, must be {wanted:?}: the machine waits"));
    }
    let Some(encoded) = keys.iter().find_map(|key| at(secret, &["data", key])) else {
        return warn(format!("has no key {}", keys.join(" or ")));
    };
    if field == "userDataRef"
        && let Some(data) = encoded.as_str().and_then(|text| STANDARD.decode(text).ok())
    {
        provisioning::warnings(&data).into_iter().for_each(|what| warn(format!("says: {what}")));
    }
}
