//! `status.blockDeviceRefs`: the devices of the spec in its order, then those that were added while it runs. Pure.

use std::collections::BTreeSet;

use super::gate::MAX_DEVICES;
use super::power::exists;
use super::status::Facts;
use super::translate::device_id;
use crate::types::quantity::format_bytes;
use crate::types::{BlockDeviceKind, BlockDeviceStatus, GuestOsType, ProvisioningType, VirtualMachineSpec};

/// The list. `spec` is what the instance was started from, or would be.
pub fn list(f: &Facts<'_>, spec: &VirtualMachineSpec, old: &[BlockDeviceStatus]) -> Vec<BlockDeviceStatus> {
    let observation = &f.g.observation;
    let up = exists(&observation.state);
    let fact = |kind: BlockDeviceKind, name: &str| {
        f.g.devices.iter().find(|d| d.reference.kind == kind && d.name() == name).and_then(|d| d.info.as_ref())
    };
    let mut names = Names::of(spec);
    let mut all: Vec<BlockDeviceStatus> = Vec::new();
    for r in &spec.block_device_refs {
        let info = fact(r.kind, &r.name);
        let attached = up && observation.devices.iter().any(|d| d.id == device_id(r.kind, &r.name));
        let name = names.next(info.is_some_and(|i| i.cdrom));
        all.push(BlockDeviceStatus {
            kind: r.kind,
            name: r.name.clone(),
            size: info.map(|i| format_bytes(i.virtual_size)).unwrap_or_default(),
            attached,
            hotplugged: None,
            target: attached.then_some(name),
            virtual_machine_block_device_attachment_name: None,
            boot_order: r.boot_order,
        });
    }
    match spec.provisioning.as_ref().map(|p| p.type_) {
        // The medium with the first configuration comes after them. It is not in the list.
        Some(ProvisioningType::SysprepRef) => drop(names.next(true)),
        Some(ProvisioningType::UserData | ProvisioningType::UserDataRef) => drop(names.next(false)),
        None => {}
    }
    let known = |kind: BlockDeviceKind, name: &str| {
        let shown = old.iter().find(|d| d.hotplugged == Some(true) && d.kind == kind && d.name == name);
        shown.and_then(|d| d.target.clone())
    };
    // A name stays as long as its device; others take what is free.
    let kept: Vec<Option<String>> = f.plugged.iter().map(|p| known(p.kind, &p.name)).collect();
    names.taken.extend(kept.iter().flatten().cloned());
    for (p, kept) in f.plugged.iter().zip(kept) {
        let name = kept.unwrap_or_else(|| names.next(p.info.as_ref().is_some_and(|i| i.cdrom)));
        all.push(BlockDeviceStatus {
            kind: p.kind,
            name: p.name.clone(),
            size: p.info.as_ref().map(|i| format_bytes(i.virtual_size)).unwrap_or_default(),
            attached: true,
            hotplugged: Some(true),
            target: Some(name),
            virtual_machine_block_device_attachment_name: p.attachment.clone(),
            boot_order: None,
        });
    }
    all.truncate(2 * MAX_DEVICES);
    all
}

/// Names as a Linux guest gives them when it finds its devices in their order. A guest may do otherwise.
struct Names {
    /// `sd`, `vd` or `hd`.
    disks: &'static str,
    /// CD-ROM drives count on their own (`sr0`), unless they are on an IDE bus.
    own_drives: bool,
    taken: BTreeSet<String>,
}

impl Names {
    fn of(spec: &VirtualMachineSpec) -> Self {
        let disks = match (spec.os_type, spec.enable_paravirtualization) {
            (GuestOsType::Legacy, true) => "vd",
            (GuestOsType::Legacy, false) => "hd",
            (GuestOsType::Generic | GuestOsType::Windows, _) => "sd",
        };
        Self { disks, own_drives: disks != "hd", taken: BTreeSet::new() }
    }

    fn next(&mut self, cdrom: bool) -> String {
        let own = cdrom && self.own_drives;
        let name = |n: usize| if own { format!("sr{n}") } else { format!("{}{}", self.disks, letters(n)) };
        let found = (0..).map(name).find(|name| !self.taken.contains(name)).unwrap_or_default();
        self.taken.insert(found.clone());
        found
    }
}

/// 0 is `a`, 25 is `z`, 26 is `aa`.
fn letters(n: usize) -> String {
    let last = char::from(b'a' + u8::try_from(n % 26).unwrap_or(0));
    match n / 26 {
        0 => last.to_string(),
        rest => format!("{}{last}", letters(rest - 1)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn spec(extra: Value) -> VirtualMachineSpec {
        let mut base = json!({
            "virtualMachineClassName": "c", "cpu": {"cores": 1}, "memory": {"size": "1Gi"}, "blockDeviceRefs": [],
        });
        json_patch::merge(&mut base, &extra);
        serde_json::from_value(base).unwrap()
    }

    #[test]
    fn names_follow_the_bus_and_fill_gaps() {
        for (extra, cdroms, expected) in [
            (json!({}), [false, false, true], ["sda", "sdb", "sr0"]),
            (json!({"enableParavirtualization": false}), [false, true, false], ["sda", "sr0", "sdb"]),
            (json!({"osType": "Legacy"}), [false, false, true], ["vda", "vdb", "sr0"]),
            (
                json!({"osType": "Legacy", "enableParavirtualization": false}),
                [false, true, false],
                ["hda", "hdb", "hdc"],
            ),
        ] {
            let mut names = Names::of(&spec(extra));
            assert_eq!(cdroms.map(|cdrom| names.next(cdrom)), expected);
        }
        let mut names = Names::of(&spec(json!({})));
        names.taken.extend(["sda".to_owned(), "sdc".to_owned()]);
        assert_eq!([false; 2].map(|cdrom| names.next(cdrom)), ["sdb", "sdd"]);
        assert_eq!([0, 25, 26, 51, 52, 701, 702].map(letters), ["a", "z", "aa", "az", "ba", "zz", "aaa"]);
    }
}
