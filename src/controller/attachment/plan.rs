//! What an attachment comes to. Pure.

use crate::types::condition::Status;
use crate::types::{AttachmentPhase, MachinePhase};

/// The block device's object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeviceState {
    /// No such object.
    Missing,
    /// Not usable; its phase or what keeps it.
    NotReady(String),
    /// Usable.
    Ready,
}

/// The facts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// `Kind name` of the device.
    pub device: String,
    /// Its object.
    pub state: DeviceState,
    /// Name of the machine.
    pub machine: String,
    /// Phase of the machine, `None` if there is no such machine.
    pub phase: Option<MachinePhase>,
    /// Another attachment, or the machine's spec, has the device; or the hardware cannot.
    pub conflict: Option<String>,
    /// The machine has no place for another device.
    pub full: bool,
    /// The instance has the device.
    pub plugged: bool,
    /// The last attempt failed.
    pub error: Option<String>,
}

/// One condition: type, status, reason, message.
pub type Line = (&'static str, Status, &'static str, String);

/// The result.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Phase.
    pub phase: AttachmentPhase,
    /// Ask the host to plug the device in.
    pub plug: bool,
    /// Conditions.
    pub conditions: Vec<Line>,
}

/// Decides for an attachment that is not being deleted.
pub fn plan(f: &Facts) -> Plan {
    let mut conditions: Vec<Line> = Vec::new();
    conditions.push(match &f.state {
        DeviceState::Ready => ("BlockDeviceReady", Status::True, "BlockDeviceReady", String::new()),
        DeviceState::Missing => (
            "BlockDeviceReady",
            Status::False,
            "BlockDeviceNotReady",
            format!("{} does not exist: create it, or delete this attachment.", f.device),
        ),
        DeviceState::NotReady(why) => {
            ("BlockDeviceReady", Status::False, "BlockDeviceNotReady", format!("{} is not ready: {why}.", f.device))
        }
    });
    let up = matches!(f.phase, Some(MachinePhase::Running | MachinePhase::Migrating));
    conditions.push(match f.phase {
        _ if up => ("VirtualMachineReady", Status::True, "VirtualMachineReady", String::new()),
        None => (
            "VirtualMachineReady",
            Status::False,
            "VirtualMachineNotReady",
            format!("VirtualMachine {} does not exist.", f.machine),
        ),
        Some(phase) => {
            let idle = matches!(phase, MachinePhase::Stopped | MachinePhase::Starting | MachinePhase::Stopping);
            let reason = if idle { "NotAttached" } else { "VirtualMachineNotReady" };
            let message = format!("VirtualMachine {} is in phase {}.", f.machine, phase.as_str());
            ("VirtualMachineReady", Status::False, reason, message)
        }
    });
    conditions.push(match (f.full, f.phase) {
        (_, None) => ("DiskAttachmentCapacityAvailableType", Status::Unknown, "CapacityUnknown", String::new()),
        (true, _) => (
            "DiskAttachmentCapacityAvailableType",
            Status::False,
            "CapacityReached",
            format!("VirtualMachine {} has 16 block devices, which is the maximum.", f.machine),
        ),
        (false, _) => ("DiskAttachmentCapacityAvailableType", Status::True, "CapacityAvailable", String::new()),
    });
    let no = |reason: &'static str, message: String| ("Attached", Status::False, reason, message);
    let (phase, plug, attached) = if let Some(conflict) = &f.conflict {
        (AttachmentPhase::Failed, false, no("Conflict", conflict.clone()))
    } else if f.plugged && (up || f.phase == Some(MachinePhase::Pause)) {
        (AttachmentPhase::Attached, false, ("Attached", Status::True, "Attached", String::new()))
    } else if f.state != DeviceState::Ready {
        (AttachmentPhase::Pending, false, no("NotAttached", format!("Waits for {}.", f.device)))
    } else if !up {
        (AttachmentPhase::Pending, false, no("NotAttached", format!("Waits for VirtualMachine {} to run.", f.machine)))
    } else if f.full {
        let message = format!("VirtualMachine {} has no place for another block device.", f.machine);
        (AttachmentPhase::Pending, false, no("NotAttached", message))
    } else if let Some(error) = &f.error {
        let message = format!("The last attempt failed: {error} It is tried again.");
        (AttachmentPhase::InProgress, true, no("AttachmentRequestSent", message))
    } else {
        (AttachmentPhase::InProgress, true, no("AttachmentRequestSent", String::new()))
    };
    conditions.push(attached);
    Plan { phase, plug, conditions }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        Facts {
            device: "VirtualDisk d".into(),
            state: DeviceState::Ready,
            machine: "vm".into(),
            phase: Some(MachinePhase::Running),
            conflict: None,
            full: false,
            plugged: false,
            error: None,
        }
    }

    #[test]
    fn phases_and_reasons() {
        use AttachmentPhase::{Attached, Failed, InProgress, Pending};
        let missing = Facts { state: DeviceState::Missing, ..facts() };
        let making = Facts { state: DeviceState::NotReady("Provisioning".into()), ..facts() };
        let no_machine = Facts { phase: None, ..facts() };
        let stopped = Facts { phase: Some(MachinePhase::Stopped), ..facts() };
        let full = Facts { full: true, ..facts() };
        let plugged = Facts { plugged: true, full: true, ..facts() };
        let conflict = Facts { conflict: Some("taken".into()), ..facts() };
        let held = Facts { phase: Some(MachinePhase::Pause), plugged: true, ..facts() };
        let error = Facts { error: Some("no slot.".into()), ..facts() };
        for (f, phase, plug, reason) in [
            (facts(), InProgress, true, "AttachmentRequestSent"),
            (missing, Pending, false, "NotAttached"),
            (making, Pending, false, "NotAttached"),
            (no_machine, Pending, false, "NotAttached"),
            (stopped, Pending, false, "NotAttached"),
            (full, Pending, false, "NotAttached"),
            (plugged, Attached, false, "Attached"),
            (held, Attached, false, "Attached"),
            (conflict, Failed, false, "Conflict"),
            (error, InProgress, true, "AttachmentRequestSent"),
        ] {
            let p = plan(&f);
            let attached = p.conditions.iter().find(|c| c.0 == "Attached").unwrap();
            assert_eq!((p.phase, p.plug, attached.2), (phase, plug, reason), "{f:?}");
            assert_eq!(p.conditions.len(), 4);
        }
    }

    /// upstream.md 11: the other three conditions, whatever the phase.
    #[test]
    fn conditions_name_who_is_waited_for() {
        let at = |phase| Facts { phase: Some(phase), ..facts() };
        let device = |state| Facts { state, ..facts() };
        for (f, type_, status, reason) in [
            (facts(), "BlockDeviceReady", Status::True, "BlockDeviceReady"),
            (device(DeviceState::Missing), "BlockDeviceReady", Status::False, "BlockDeviceNotReady"),
            (device(DeviceState::NotReady("x".into())), "BlockDeviceReady", Status::False, "BlockDeviceNotReady"),
            (facts(), "VirtualMachineReady", Status::True, "VirtualMachineReady"),
            (at(MachinePhase::Migrating), "VirtualMachineReady", Status::True, "VirtualMachineReady"),
            (at(MachinePhase::Stopped), "VirtualMachineReady", Status::False, "NotAttached"),
            (at(MachinePhase::Starting), "VirtualMachineReady", Status::False, "NotAttached"),
            (at(MachinePhase::Stopping), "VirtualMachineReady", Status::False, "NotAttached"),
            (at(MachinePhase::Pending), "VirtualMachineReady", Status::False, "VirtualMachineNotReady"),
            (at(MachinePhase::Terminating), "VirtualMachineReady", Status::False, "VirtualMachineNotReady"),
            (Facts { phase: None, ..facts() }, "VirtualMachineReady", Status::False, "VirtualMachineNotReady"),
            (facts(), "DiskAttachmentCapacityAvailableType", Status::True, "CapacityAvailable"),
            (Facts { full: true, ..facts() }, "DiskAttachmentCapacityAvailableType", Status::False, "CapacityReached"),
            (
                Facts { phase: None, ..facts() },
                "DiskAttachmentCapacityAvailableType",
                Status::Unknown,
                "CapacityUnknown",
            ),
        ] {
            let p = plan(&f);
            let found = p.conditions.iter().find(|c| c.0 == type_).unwrap();
            assert_eq!((found.1, found.2), (status, reason), "{f:?}");
        }
        // What is plugged in stays so although the machine is full of others.
        let p = plan(&Facts { plugged: true, full: true, ..facts() });
        assert_eq!(p.phase, AttachmentPhase::Attached);
    }
}
