//! Making a machine's objects from what a snapshot holds: in their old place (Restore) or under new names (Clone, and
//! CreateVirtualMachine of a snapshot).
//!
//! [`names`] says how copies are called, [`wanted`] which objects there shall be, [`check`] what stands in the way and
//! what comes next for each; all of it pure. [`act`] looks at the API and does it; [`trial`] finds out what can be made.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::controller::snapshot_contents::API_VERSION;
use crate::types::OperationResource;

pub mod act;
pub mod check;
pub mod names;
pub mod report;
pub mod trial;
pub mod wanted;

/// Annotation of an object that an operation made or restored: UID of the operation.
pub const MADE_BY: &str = "vmdeck.io/made-by";

/// Kinds of objects that are made, in the order in which they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// The Secret with the first-boot configuration.
    Secret,
    /// VirtualMachineIPAddress.
    Address,
    /// VirtualDisk.
    Disk,
    /// VirtualMachine.
    Machine,
    /// VirtualMachineBlockDeviceAttachment.
    Attachment,
}

impl What {
    /// As in the API.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Secret => "Secret",
            Self::Address => "VirtualMachineIPAddress",
            Self::Disk => "VirtualDisk",
            Self::Machine => "VirtualMachine",
            Self::Attachment => "VirtualMachineBlockDeviceAttachment",
        }
    }

    /// As in the API.
    pub fn api_version(self) -> &'static str {
        if self == Self::Secret { "v1" } else { API_VERSION }
    }
}

/// Whether objects take their old place or are new ones beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Restore.
    Restore,
    /// Clone.
    Copy,
}

/// An object that there shall be.
#[derive(Debug, Clone, PartialEq)]
pub struct Wanted {
    /// Its kind.
    pub what: What,
    /// Its name.
    pub name: String,
    /// The whole object, as it is sent to the API.
    pub body: Value,
    /// Of a disk: name of the VirtualDiskSnapshot with its content.
    pub snapshot: Option<String>,
    /// Why it cannot be: for the user.
    pub problem: Option<String>,
    /// What is different from what was saved: for the user.
    pub note: Option<String>,
    /// It is left out, as `note` says.
    pub skip: bool,
}

/// What is looked at before anything is done.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Objects that have a wanted kind and name, as the API has them.
    pub live: BTreeMap<(What, String), Value>,
    /// Images that are there, by kind and name.
    pub images: BTreeSet<(String, String)>,
    /// Why a VirtualDiskSnapshot cannot be used, by name; one that can is not listed.
    pub bad_snapshots: BTreeMap<String, String>,
    /// All attachments of the namespace.
    pub attachments: Vec<Value>,
    /// Who has a disk, other than the machine that is restored: by name of the disk.
    pub holders: BTreeMap<String, String>,
    /// Who has the saved address, other than the address object itself.
    pub address_holder: Option<String>,
}

/// A line of `status.resources`.
pub fn resource(wanted: &Wanted, status: &str, message: impl Into<String>) -> OperationResource {
    OperationResource {
        api_version: wanted.what.api_version().to_owned(),
        kind: wanted.what.kind().to_owned(),
        name: wanted.name.clone(),
        status: status.to_owned(),
        message: message.into(),
    }
}

/// An object's text at a pointer; empty if there is none.
fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or("")
}
