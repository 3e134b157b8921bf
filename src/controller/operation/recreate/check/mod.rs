//! What stands in the way of the wanted objects, and what comes next for each. Pure.

use serde_json::Value;

use super::{MADE_BY, Purpose, Seen, Wanted, What, resource, text};
use crate::types::text::printable;
use crate::types::{OperationMode, OperationResource};

/// Notes in each wanted object what stands in its way (`problem`), and what is left out or left alone (`note`,
/// `skip`). Only `BestEffort` leaves anything out. What the operation made itself is never in its own way.
pub fn check(all: &mut [Wanted], seen: &Seen, mode: OperationMode, purpose: Purpose, operation: &str) {
    let lenient = mode == OperationMode::BestEffort;
    let machine = all.iter().find(|w| w.what == What::Machine).map(|w| w.name.clone()).unwrap_or_default();
    let kept: Vec<String> = all.iter().filter(|w| w.what == What::Attachment).map(|w| w.name.clone()).collect();
    for wanted in all.iter_mut().filter(|w| w.problem.is_none() && !w.skip) {
        let live = seen.live.get(&(wanted.what, wanted.name.clone()));
        let mine = live.is_some_and(|live| made_by(live, operation));
        match wanted.what {
            // Once it is made, only what was left out is told again.
            What::Machine if lenient || !mine => images(wanted, seen, lenient),
            What::Attachment if !mine => attachment_image(wanted, seen, lenient),
            What::Disk if !mine => {
                let bad = wanted.snapshot.as_ref().and_then(|name| seen.bad_snapshots.get(name));
                wanted.problem = bad.cloned();
            }
            What::Machine | What::Attachment | What::Disk | What::Secret | What::Address => {}
        }
        if mine {
            wanted.problem = None;
            continue;
        }
        if wanted.what == What::Machine && wanted.problem.is_none() {
            wanted.problem = rival(wanted, seen, &kept);
        }
        if wanted.problem.is_some() || wanted.skip {
            continue;
        }
        match (purpose, live) {
            (Purpose::Restore, live) => in_place(wanted, live, seen, lenient, &machine),
            (Purpose::Copy, Some(live)) if wanted.what == What::Secret && same_secret(wanted, live) => {
                wanted.note = Some("The one that is there is the same and is used by both machines.".into());
            }
            (Purpose::Copy, Some(_)) => {
                let text = format!("{} {} exists already: choose another new name.", wanted.what.kind(), wanted.name);
                wanted.problem = Some(text);
            }
            (Purpose::Copy, None) => {}
        }
    }
}

/// Whether an operation made or restored an object.
pub fn made_by(live: &Value, operation: &str) -> bool {
    live["metadata"]["annotations"][MADE_BY] == operation
}

/// Takes away images that are not there, or tells of them.
fn images(wanted: &mut Wanted, seen: &Seen, lenient: bool) {
    let Some(list) = wanted.body.pointer_mut("/spec/blockDeviceRefs").and_then(Value::as_array_mut) else { return };
    let missing: Vec<String> = list.iter().filter_map(|r| missing_image(r, seen)).collect();
    if missing.is_empty() {
        return;
    }
    let names = missing.join(", ");
    let (verb, them) = if missing.len() == 1 { ("does", "it") } else { ("do", "them") };
    if lenient {
        list.retain(|r| missing_image(r, seen).is_none());
        if list.is_empty() {
            wanted.problem = Some(format!("{names} {verb} not exist, and without {them} it has no block device."));
        } else {
            wanted.note = Some(format!("Left out: {names}, which {verb} not exist."));
        }
    } else {
        wanted.problem =
            Some(format!("{names} {verb} not exist. Create {them}, or use mode BestEffort to do without."));
    }
}

fn attachment_image(wanted: &mut Wanted, seen: &Seen, lenient: bool) {
    let Some(missing) = wanted.body.pointer("/spec/blockDeviceRef").and_then(|r| missing_image(r, seen)) else {
        return;
    };
    if lenient {
        wanted.note = Some(format!("Left out: {missing} does not exist."));
        wanted.skip = true;
    } else {
        wanted.problem = Some(format!("{missing} does not exist. Create it, or use mode BestEffort to do without."));
    }
}

fn missing_image(reference: &Value, seen: &Seen) -> Option<String> {
    let (kind, name) = (text(reference, "/kind"), text(reference, "/name"));
    let missing = kind != "VirtualDisk" && !seen.images.contains(&(kind.to_owned(), name.to_owned()));
    missing.then(|| format!("{kind} {}", printable(name)))
}

/// An attachment that was not saved and has a device of the saved spec: a machine cannot have it twice.
fn rival(wanted: &Wanted, seen: &Seen, kept: &[String]) -> Option<String> {
    let devices = wanted.body.pointer("/spec/blockDeviceRefs").and_then(Value::as_array);
    devices.into_iter().flatten().find_map(|device| {
        let (kind, name) = (text(device, "/kind"), text(device, "/name"));
        let holds = |a: &&Value| {
            text(a, "/spec/blockDeviceRef/kind") == kind
                && text(a, "/spec/blockDeviceRef/name") == name
                && text(a, "/status/phase") != "Failed"
                && (kind == "VirtualDisk" || text(a, "/spec/virtualMachineName") == wanted.name)
                && !kept.iter().any(|k| k == text(a, "/metadata/name"))
        };
        let rival = seen.attachments.iter().find(holds)?;
        Some(format!(
            "{kind} {} is attached by VirtualMachineBlockDeviceAttachment {}: delete that first.",
            printable(name),
            printable(text(rival, "/metadata/name"))
        ))
    })
}

/// A restored object whose place may be taken.
fn in_place(wanted: &mut Wanted, live: Option<&Value>, seen: &Seen, lenient: bool, machine: &str) {
    match wanted.what {
        What::Disk => {
            let holder = seen.holders.get(&wanted.name);
            let owner = live.and_then(controller).filter(|owner| owner != &format!("VirtualMachine {machine}"));
            if let Some(holder) = holder {
                wanted.problem = Some(format!("The disk that is there is attached to VirtualMachine {holder}."));
            } else if let Some(owner) = owner {
                wanted.problem = Some(format!("The disk that is there belongs to {}.", printable(&owner)));
            } else if live.is_some_and(|live| in_use(live) == Some("UsedForImageCreation")) {
                wanted.problem = Some("An image is being made from the disk that is there.".into());
            }
        }
        What::Attachment => {
            if live.is_some_and(|live| live["spec"] != wanted.body["spec"]) {
                wanted.problem = Some("One of this name is there and attaches something else: delete it first.".into());
            }
        }
        What::Address => {
            let user = live.map(|live| text(live, "/status/virtualMachineName")).filter(|by| !by.is_empty());
            if let Some(other) = user.filter(|by| *by != machine) {
                wanted.problem = Some(format!("It is attached to VirtualMachine {}.", printable(other)));
            } else if let (None, Some(holder)) = (live, &seen.address_holder) {
                wanted.problem = Some(format!("The machine's address is taken by {}.", printable(holder)));
            }
        }
        What::Secret => {
            if live.is_some_and(|live| !same_secret(wanted, live)) {
                if lenient {
                    wanted.note = Some("Left as it is: it differs from the snapshot.".into());
                } else {
                    wanted.problem =
                        Some("The one that is there differs. Delete it, or use mode BestEffort to keep it.".into());
                }
            }
        }
        What::Machine => {}
    }
}

fn controller(live: &Value) -> Option<String> {
    let owners = live.pointer("/metadata/ownerReferences").and_then(Value::as_array);
    let owner = owners.into_iter().flatten().find(|o| o["controller"] == true)?;
    Some(format!("{} {}", text(owner, "/kind"), text(owner, "/name")))
}

fn in_use(live: &Value) -> Option<&str> {
    let conditions = live.pointer("/status/conditions").and_then(Value::as_array);
    let condition = conditions.into_iter().flatten().find(|c| c["type"] == "InUse" && c["status"] == "True")?;
    condition["reason"].as_str()
}

fn same_secret(wanted: &Wanted, live: &Value) -> bool {
    let data = |object: &Value| object.get("data").filter(|d| d.as_object().is_some_and(|d| !d.is_empty())).cloned();
    live["type"] == wanted.body["type"] && data(live) == data(&wanted.body)
}

/// What comes next for an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Nothing: it is as it shall be.
    Done,
    /// It becomes what it shall be by itself.
    Wait,
    /// Make it.
    Create,
    /// Write the saved state over it.
    Update,
    /// Take away the disk in its place; the next look makes it.
    Remove,
    /// It cannot be.
    Failed(String),
}

/// Decides what comes next for an object that [`check`] has let through.
pub fn next(wanted: &Wanted, live: Option<&Value>, purpose: Purpose, operation: &str) -> Next {
    if wanted.skip {
        return Next::Done;
    }
    let Some(live) = live else { return Next::Create };
    let mine = made_by(live, operation);
    if !live["metadata"]["deletionTimestamp"].is_null() {
        let what = wanted.what.kind();
        return match (mine, purpose) {
            (false, Purpose::Restore) => Next::Wait,
            _ => Next::Failed(format!("{what} {} is being deleted.", wanted.name)),
        };
    }
    match (wanted.what, mine) {
        (What::Disk, true) => match text(live, "/status/phase") {
            "Ready" | "Resizing" => Next::Done,
            phase @ ("Failed" | "PVCLost") => Next::Failed(unready(live, phase)),
            _ => Next::Wait,
        },
        (_, true) => Next::Done,
        (What::Disk, false) if purpose == Purpose::Restore => Next::Remove,
        (What::Machine, false) if purpose == Purpose::Restore => Next::Update,
        (What::Secret, false) => Next::Done,
        (What::Address | What::Attachment, false) if purpose == Purpose::Restore => Next::Done,
        (what, false) => Next::Failed(format!("{} {} exists already.", what.kind(), wanted.name)),
    }
}

fn unready(live: &Value, phase: &str) -> String {
    let conditions = live.pointer("/status/conditions").and_then(Value::as_array);
    let why = conditions.into_iter().flatten().find(|c| c["type"] == "Ready").map(|c| text(c, "/message"));
    format!("The disk is {phase}: {}", printable(why.unwrap_or("")))
}

/// `status.resources` after nothing but checks.
pub fn checked(all: &[Wanted]) -> Vec<OperationResource> {
    all.iter()
        .map(|wanted| match (&wanted.problem, &wanted.note) {
            (Some(problem), _) => resource(wanted, "Failed", problem),
            (None, Some(note)) => resource(wanted, "Completed", format!("Checked only. {note}")),
            (None, None) => resource(wanted, "Completed", "Checked only: nothing stands in its way."),
        })
        .collect()
}

/// All problems in one sentence each; `None` if there are none.
pub fn problems(all: &[Wanted]) -> Option<String> {
    let told: Vec<String> = all
        .iter()
        .filter_map(|w| Some(format!("{} {}: {}", w.what.kind(), printable(&w.name), w.problem.as_ref()?)))
        .collect();
    (!told.is_empty()).then(|| told.join(" "))
}

/// What was left out or left alone, for the end.
pub fn notes(all: &[Wanted]) -> String {
    let told = |w: &Wanted| Some(format!("{} {}: {}", w.what.kind(), printable(&w.name), w.note.as_ref()?));
    all.iter().filter_map(told).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
pub mod tests;
