//! The start gate: what has to be there before an instance may be started. Pure; works on what
//! [`super::gather`] found.

use kube::ResourceExt;

use super::super::snapshot::Snapshotting;
use super::gather::{AddressFact, DeviceFact, Gathered, ProvisionFact};
use crate::types::condition::Status;
use crate::types::{ClassPhase, MachinePhase};

/// Most block devices of a machine, static and hot-plugged.
pub const MAX_DEVICES: usize = 16;

/// One condition of the gate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// Condition type.
    pub type_: &'static str,
    /// Whether a start may pass. Nearly always the condition's status.
    pub passes: bool,
    /// Condition status.
    pub status: Status,
    /// Condition reason.
    pub reason: &'static str,
    /// What is in the way and what to do.
    pub message: String,
}

impl Check {
    fn pass(type_: &'static str, reason: &'static str) -> Self {
        Self { type_, passes: true, status: Status::True, reason, message: String::new() }
    }

    fn fail(type_: &'static str, reason: &'static str, message: impl Into<String>) -> Self {
        Self { type_, passes: false, status: Status::False, reason, message: message.into() }
    }
}

/// All conditions of the gate that apply to the machine.
pub fn checks(g: &Gathered) -> Vec<Check> {
    let mut all = vec![address(g), class(g), devices(g)];
    all.extend(provisioning(&g.provisioning));
    all.extend(sizing(g));
    all.extend(snapshotting(g));
    all
}

/// Whether all of them pass.
pub fn is_open(checks: &[Check]) -> bool {
    checks.iter().all(|c| c.passes)
}

/// The first thing in the way.
pub fn blocker(checks: &[Check]) -> Option<&Check> {
    checks.iter().find(|c| !c.passes)
}

fn address(g: &Gathered) -> Check {
    const TYPE: &str = "VirtualMachineIPAddressReady";
    const NOT_READY: &str = "VirtualMachineIPAddressNotReady";
    match &g.address {
        AddressFact::None | AddressFact::Ready { .. } => Check::pass(TYPE, TYPE),
        AddressFact::Missing { name, automatic: true } => {
            Check::fail(TYPE, NOT_READY, format!("VirtualMachineIPAddress {name} is being created."))
        }
        AddressFact::Missing { name, automatic: false } => Check::fail(
            TYPE,
            NOT_READY,
            format!(
                "VirtualMachineIPAddress {name} does not exist. Create it or change spec.virtualMachineIPAddressName."
            ),
        ),
        AddressFact::NotBound { name, message } => {
            Check::fail(TYPE, NOT_READY, format!("VirtualMachineIPAddress {name} has no address yet. {message}"))
        }
        AddressFact::Taken { name, by } => Check::fail(
            TYPE,
            NOT_READY,
            format!(
                "VirtualMachineIPAddress {name} is attached to VirtualMachine {by}; waiting until it is released. \
                 Choose another address or let {by} go."
            ),
        ),
    }
}

fn class(g: &Gathered) -> Check {
    const TYPE: &str = "VirtualMachineClassReady";
    const NOT_READY: &str = "VirtualMachineClassNotReady";
    let name = &g.vm.spec.virtual_machine_class_name;
    match &g.class {
        None => Check::fail(
            TYPE,
            NOT_READY,
            format!(
                "VirtualMachineClass {name} does not exist. Name an existing class in spec.virtualMachineClassName."
            ),
        ),
        Some(class) if class.status.as_ref().and_then(|s| s.phase) != Some(ClassPhase::Ready) => {
            let why = class.status.iter().flat_map(|s| s.conditions.iter().flatten());
            let why = why.filter(|c| c.type_ == "Ready" && c.status != "True").map(|c| c.message.as_str()).next();
            Check::fail(
                TYPE,
                NOT_READY,
                format!("VirtualMachineClass {name} is not ready. {}", why.unwrap_or("")).trim_end().to_owned(),
            )
        }
        Some(_) => Check::pass(TYPE, TYPE),
    }
}

fn devices(g: &Gathered) -> Check {
    const TYPE: &str = "BlockDevicesReady";
    const NOT_READY: &str = "BlockDevicesNotReady";
    let total = g.devices.len();
    let count = total + g.attachments.len();
    if count > MAX_DEVICES {
        return Check::fail(
            TYPE,
            "BlockDeviceLimitExceeded",
            format!(
                "{count} block devices, {MAX_DEVICES} is maximum. Remove some from spec.blockDeviceRefs or delete VirtualMachineBlockDeviceAttachments."
            ),
        );
    }
    let twice: Vec<&str> = g.devices.iter().filter(|d| d.attached_by.is_some()).map(DeviceFact::name).collect();
    if !twice.is_empty() {
        return Check::fail(
            TYPE,
            NOT_READY,
            format!(
                "{} both in spec.blockDeviceRefs and in a VirtualMachineBlockDeviceAttachment. Delete the attachment \
                 or drop the device from the spec.",
                twice.join(", ")
            ),
        );
    }
    let blockers: Vec<String> = g.devices.iter().filter_map(obstacle).collect();
    if blockers.is_empty() {
        return Check::pass(TYPE, TYPE);
    }
    let ready = total - blockers.len();
    Check::fail(TYPE, NOT_READY, format!("{ready}/{total} block devices are ready. {}", blockers.join(" ")))
}

fn obstacle(device: &DeviceFact) -> Option<String> {
    let what = format!("{} {}", device.reference.kind.as_str(), device.name());
    if !device.exists {
        return Some(format!("{what} does not exist: create it or change spec.blockDeviceRefs."));
    }
    if device.deleting {
        return Some(format!("{what} is being deleted."));
    }
    if let Some(user) = &device.busy {
        return Some(format!("{what} is in use by {user}: stop or detach it there."));
    }
    device.info.is_none().then(|| format!("{what} is not ready (phase {}).", device.phase))
}

fn provisioning(fact: &ProvisionFact) -> Option<Check> {
    const TYPE: &str = "ProvisioningReady";
    match fact {
        ProvisionFact::None => None,
        ProvisionFact::Ready { warning: None, .. } => Some(Check::pass(TYPE, TYPE)),
        ProvisionFact::Ready { warning: Some(warning), .. } => {
            Some(Check { message: warning.clone(), reason: "ProvisioningReadyWithWarnings", ..Check::pass(TYPE, TYPE) })
        }
        ProvisionFact::NotReady { message } => Some(Check::fail(TYPE, "ProvisioningNotReady", message.clone())),
    }
}

/// Shown only when it fails.
fn sizing(g: &Gathered) -> Option<Check> {
    const TYPE: &str = "SizingPolicyMatched";
    let Some(class) = g.class.as_ref() else {
        let name = &g.vm.spec.virtual_machine_class_name;
        let message = format!("VirtualMachineClass {name} does not exist, so its sizing policy is not known.");
        return Some(Check::fail(TYPE, "VirtualMachineClassNotFound", message));
    };
    if class.metadata.deletion_timestamp.is_some() {
        let message = format!("VirtualMachineClass {} is being deleted.", class.name_any());
        return Some(Check::fail(TYPE, "VirtualMachineClassTerminating", message));
    }
    let problem = g.sizing_problem.as_ref()?;
    Some(Check::fail(TYPE, "SizingPolicyNotMatched", problem.clone()))
}

/// Shown only while there is one.
fn snapshotting(g: &Gathered) -> Option<Check> {
    const TYPE: &str = "Snapshotting";
    Some(match g.snapshotting.as_ref()? {
        Snapshotting::Waiting(what) => {
            Check { message: format!("{what} waits to be taken."), ..Check::pass(TYPE, "WaitingForTheSnapshotToStart") }
        }
        Snapshotting::InProgress(what) => Check {
            passes: false,
            message: format!("{what} is being taken: the machine is not started meanwhile."),
            ..Check::pass(TYPE, "SnapshottingInProgress")
        },
    })
}

/// Phases in which upstream hides conditions that speak of a running guest.
pub fn quiet(phase: MachinePhase) -> bool {
    matches!(phase, MachinePhase::Pending | MachinePhase::Starting | MachinePhase::Stopped)
}

#[cfg(test)]
pub mod tests;
