//! What a VirtualMachineSnapshot holds besides the content of disks: the machine's objects as they were, as one JSON
//! document in a Secret. Pure. Whoever takes a snapshot writes it, whoever restores or clones reads it.
//!
//! Objects are kept as JSON and not as our types, so that fields only others know survive. What is read back may have
//! been edited by anybody who may write Secrets: it is checked before it is used.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::Resource;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::types::text::printable;
use crate::types::{
    BlockDeviceKind, SnapshotResource, VirtualDiskSpec, VirtualMachineBlockDeviceAttachmentSpec,
    VirtualMachineIPAddressSpec, VirtualMachineSnapshot, VirtualMachineSpec,
};

/// Type of the Secret.
pub const SECRET_TYPE: &str = "vmdeck.io/virtual-machine-snapshot";
/// The one key of the Secret.
pub const KEY: &str = "contents.json";
/// Version of the document.
const VERSION: u32 = 1;
/// Longest name of a machine.
pub const MAX_MACHINE_NAME: usize = 63;
/// Longest name of anything else.
pub const MAX_NAME: usize = 253;
/// `apiVersion` of the objects, Secrets aside.
pub const API_VERSION: &str = "virtualization.deckhouse.io/v1alpha2";
/// Annotations under this prefix are ours and of the present: they are not kept.
const OWN_PREFIX: &str = "vmdeck.io/";

/// A machine's objects at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Contents {
    /// Version of the document.
    pub version: u32,
    /// The machine had an instance.
    pub running: bool,
    /// The VirtualMachine.
    pub machine: Saved,
    /// Its VirtualDisks, static and attached.
    pub disks: Vec<SavedDisk>,
    /// Its VirtualMachineBlockDeviceAttachments.
    pub attachments: Vec<Saved>,
    /// Its VirtualMachineIPAddress.
    pub address: Option<SavedAddress>,
    /// The Secret with its first-boot configuration.
    pub provisioning: Option<SavedSecret>,
}

/// One object.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Saved {
    /// Name.
    pub name: String,
    /// Labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Annotations, other than our own.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    /// The whole spec, fields we do not know included.
    pub spec: Value,
}

/// One disk.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedDisk {
    /// The VirtualDisk.
    pub object: Saved,
    /// Name of the VirtualDiskSnapshot with its content.
    pub snapshot: String,
}

/// The address.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedAddress {
    /// The VirtualMachineIPAddress; its spec has the type.
    pub object: Saved,
    /// What it was, if it had been allocated.
    pub address: Option<String>,
    /// It was made for this machine and goes with it.
    pub automatic: bool,
}

/// A Secret.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedSecret {
    /// Name.
    pub name: String,
    /// Labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Annotations, other than our own.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    /// Its type.
    #[serde(rename = "type")]
    pub type_: String,
    /// Its content; base64 in the document.
    #[serde(default)]
    pub data: BTreeMap<String, ByteString>,
}

/// Why contents cannot be made or read. The text is for the user.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Damage(String);

fn damage<T>(text: impl Into<String>) -> Result<T, Damage> {
    Err(Damage(text.into()))
}

/// Puts contents together from objects as the API has them: the machine, its disks each with the name of its
/// VirtualDiskSnapshot, its attachments, its address, its provisioning Secret. Take the objects from the API and not
/// from a cache of our types, or fields that only others know are lost.
///
/// # Errors
/// An object is not what it is said to be, or a disk that the machine names is not among them.
pub fn contents(
    vm: &Value,
    disks: &[(Value, String)],
    attachments: &[Value],
    address: Option<&Value>,
    provisioning: Option<&Secret>,
) -> Result<Contents, Damage> {
    let phase = vm.pointer("/status/phase").and_then(Value::as_str).unwrap_or("");
    let made = Contents {
        version: VERSION,
        running: matches!(phase, "Starting" | "Running" | "Migrating" | "Pause" | "Degraded" | "Stopping"),
        machine: saved(vm, "VirtualMachine")?,
        disks: disks
            .iter()
            .map(|(disk, snapshot)| Ok(SavedDisk { object: saved(disk, "VirtualDisk")?, snapshot: snapshot.clone() }))
            .collect::<Result<_, Damage>>()?,
        attachments: attachments
            .iter()
            .map(|a| saved(a, "VirtualMachineBlockDeviceAttachment"))
            .collect::<Result<_, Damage>>()?,
        address: address.map(saved_address).transpose()?,
        provisioning: provisioning.map(|secret| SavedSecret {
            name: secret.metadata.name.clone().unwrap_or_default(),
            labels: secret.metadata.labels.clone().unwrap_or_default(),
            annotations: without_ours(secret.metadata.annotations.clone().unwrap_or_default()),
            type_: secret.type_.clone().unwrap_or_default(),
            data: secret.data.clone().unwrap_or_default(),
        }),
    };
    check(&made)?;
    Ok(made)
}

fn saved(object: &Value, kind: &str) -> Result<Saved, Damage> {
    let Some(name) = object.pointer("/metadata/name").and_then(Value::as_str) else {
        return damage(format!("a {kind} has no name"));
    };
    let Some(spec) = object.get("spec") else { return damage(format!("{kind} {name} has no spec")) };
    Ok(Saved {
        name: name.to_owned(),
        labels: texts(object, "/metadata/labels"),
        annotations: without_ours(texts(object, "/metadata/annotations")),
        spec: spec.clone(),
    })
}

fn saved_address(vmip: &Value) -> Result<SavedAddress, Damage> {
    let owners = vmip.pointer("/metadata/ownerReferences").and_then(Value::as_array);
    Ok(SavedAddress {
        object: saved(vmip, "VirtualMachineIPAddress")?,
        address: vmip.pointer("/status/address").and_then(Value::as_str).map(str::to_owned),
        automatic: owners.into_iter().flatten().any(|owner| owner["kind"] == "VirtualMachine"),
    })
}

fn texts(object: &Value, pointer: &str) -> BTreeMap<String, String> {
    let map = object.pointer(pointer).and_then(Value::as_object);
    map.into_iter().flatten().filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_owned()))).collect()
}

fn without_ours(mut annotations: BTreeMap<String, String>) -> BTreeMap<String, String> {
    annotations.retain(|key, _| !key.starts_with(OWN_PREFIX));
    annotations
}

/// Name of the Secret of a snapshot: the same at every call, so that a repeated creation finds the first.
pub fn secret_name(snapshot: &VirtualMachineSnapshot) -> String {
    format!("vmsnapshot-{}", snapshot.meta().uid.as_deref().unwrap_or_default())
}

/// The Secret with `contents`, owned by the snapshot: it goes with it.
///
/// # Errors
/// They cannot be written as JSON.
pub fn to_secret(contents: &Contents, snapshot: &VirtualMachineSnapshot) -> Result<Secret, Damage> {
    let encoded = |e: serde_json::Error| Damage(format!("the objects cannot be written down: {e}"));
    let document = serde_json::to_vec(contents).map_err(encoded)?;
    serde_json::from_value(json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": secret_name(snapshot),
            "namespace": snapshot.meta().namespace,
            "ownerReferences": [snapshot.controller_owner_ref(&())],
        },
        "type": SECRET_TYPE,
        "data": { KEY: ByteString(document) },
    }))
    .map_err(encoded)
}

/// Reads the Secret of a snapshot.
///
/// # Errors
/// It is no such Secret, of a newer release, damaged, or says what cannot be: the text tells which.
pub fn from_secret(secret: &Secret) -> Result<Contents, Damage> {
    #[derive(Deserialize)]
    struct Head {
        version: u32,
    }
    let type_ = secret.type_.as_deref().unwrap_or("");
    if type_ != SECRET_TYPE {
        return damage(format!("it is of type {}, not {SECRET_TYPE}", printable(type_)));
    }
    let Some(ByteString(document)) = secret.data.as_ref().and_then(|data| data.get(KEY)) else {
        return damage(format!("it has no key {KEY}"));
    };
    let garbled = |e: serde_json::Error| Damage(format!("{KEY} is damaged: {}", printable(&e.to_string())));
    let head: Head = serde_json::from_slice(document).map_err(garbled)?;
    if head.version != VERSION {
        return damage(format!("{KEY} has version {}, this release of vmdeck reads version {VERSION}", head.version));
    }
    let contents: Contents = serde_json::from_slice(document).map_err(garbled)?;
    check(&contents)?;
    Ok(contents)
}

/// The objects that can be restored, the machine first.
pub fn resources(contents: &Contents) -> Vec<SnapshotResource> {
    let resource = |api_version: &str, kind: &str, name: &str| SnapshotResource {
        api_version: Some(api_version.to_owned()),
        kind: Some(kind.to_owned()),
        name: Some(name.to_owned()),
    };
    let mut all = vec![resource(API_VERSION, "VirtualMachine", &contents.machine.name)];
    all.extend(contents.provisioning.iter().map(|s| resource("v1", "Secret", &s.name)));
    all.extend(contents.address.iter().map(|a| resource(API_VERSION, "VirtualMachineIPAddress", &a.object.name)));
    all.extend(contents.disks.iter().map(|d| resource(API_VERSION, "VirtualDisk", &d.object.name)));
    let attachment = |a: &Saved| resource(API_VERSION, "VirtualMachineBlockDeviceAttachment", &a.name);
    all.extend(contents.attachments.iter().map(attachment));
    all
}

/// Whether an object may be called so: lower case letters, digits, `-` and `.`, parts with letters or digits at their
/// ends, at most `max` characters.
pub fn is_name(name: &str, max: usize) -> bool {
    let part = |part: &str| {
        let bytes = part.as_bytes();
        let alphanumeric = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        bytes.iter().all(|b| alphanumeric(b) || *b == b'-')
            && bytes.first().is_some_and(alphanumeric)
            && bytes.last().is_some_and(alphanumeric)
    };
    name.len() <= max && name.split('.').all(part)
}

fn check(contents: &Contents) -> Result<(), Damage> {
    let vm = &contents.machine;
    named("VirtualMachine", &vm.name, MAX_MACHINE_NAME)?;
    let spec: VirtualMachineSpec = typed("VirtualMachine", vm)?;
    let mut disks = BTreeSet::new();
    for SavedDisk { object, snapshot } in &contents.disks {
        named("VirtualDisk", &object.name, MAX_NAME)?;
        named("VirtualDiskSnapshot", snapshot, MAX_NAME)?;
        typed::<VirtualDiskSpec>("VirtualDisk", object)?;
        if !disks.insert(object.name.as_str()) {
            return damage(format!("VirtualDisk {} is there twice", object.name));
        }
    }
    let mut wanted: Vec<String> =
        spec.block_device_refs.into_iter().filter(|r| r.kind == BlockDeviceKind::VirtualDisk).map(|r| r.name).collect();
    let mut attachments = BTreeSet::new();
    for object in &contents.attachments {
        const KIND: &str = "VirtualMachineBlockDeviceAttachment";
        named(KIND, &object.name, MAX_NAME)?;
        let spec: VirtualMachineBlockDeviceAttachmentSpec = typed(KIND, object)?;
        if spec.virtual_machine_name != vm.name {
            return damage(format!("{KIND} {} is of another machine", object.name));
        }
        if !attachments.insert(object.name.as_str()) {
            return damage(format!("{KIND} {} is there twice", object.name));
        }
        wanted.extend(Some(spec.block_device_ref).filter(|r| r.kind == BlockDeviceKind::VirtualDisk).map(|r| r.name));
    }
    if let Some(missing) = wanted.iter().find(|name| !disks.contains(name.as_str())) {
        return damage(format!("the machine has VirtualDisk {}, whose content was not saved", printable(missing)));
    }
    if let Some(SavedAddress { object, address, .. }) = &contents.address {
        named("VirtualMachineIPAddress", &object.name, MAX_NAME)?;
        typed::<VirtualMachineIPAddressSpec>("VirtualMachineIPAddress", object)?;
        if let Some(bad) = address.as_deref().filter(|text| text.parse::<Ipv4Addr>().is_err()) {
            return damage(format!("{} is no address", printable(bad)));
        }
    }
    if let Some(secret) = &contents.provisioning {
        named("Secret", &secret.name, MAX_NAME)?;
    }
    Ok(())
}

fn named(kind: &str, name: &str, max: usize) -> Result<(), Damage> {
    if is_name(name, max) { Ok(()) } else { damage(format!("{:?} is no name of a {kind}", printable(name))) }
}

fn typed<T: DeserializeOwned>(kind: &str, object: &Saved) -> Result<T, Damage> {
    T::deserialize(&object.spec).map_err(|e| {
        Damage(format!("the spec of {kind} {} is not as it must be: {}", object.name, printable(&e.to_string())))
    })
}

#[cfg(test)]
mod tests;
