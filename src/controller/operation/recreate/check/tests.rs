use k8s_openapi::ByteString;
use serde_json::json;

use super::super::wanted::{Owner, copied, restored};
use super::*;
use crate::controller::operation::recreate::names::Names;
use crate::controller::snapshot_contents::{self, Contents};
use crate::types::CloneCustomization;
use OperationMode::{BestEffort, DryRun, Strict};

/// A machine with all that a machine can have.
pub fn contents() -> Contents {
    let vm = json!({
        "metadata": {
            "name": "vm", "labels": { "app": "shop" },
            "annotations": { "note": "mine", "kubectl.kubernetes.io/last-applied-configuration": "{}" },
        },
        "spec": {
            "virtualMachineClassName": "generic",
            "cpu": { "cores": 1, "later": 1 },
            "memory": { "size": "64Mi" },
            "virtualMachineIPAddressName": "ip",
            "networks": [{ "type": "Main", "virtualMachineMACAddressName": "mac", "ipAddressName": "ip" }],
            "blockDeviceRefs": [
                { "kind": "VirtualDisk", "name": "root", "bootOrder": 1 },
                { "kind": "VirtualImage", "name": "tools" },
            ],
            "provisioning": { "type": "UserDataRef", "userDataRef": { "kind": "Secret", "name": "seed" } },
        },
    });
    let disk = |name: &str| {
        let disk = json!({ "metadata": { "name": name }, "spec": { "persistentVolumeClaim": { "size": "1Gi" } } });
        (disk, format!("{name}-snap"))
    };
    let plug = json!({
        "metadata": { "name": "plug" },
        "spec": { "virtualMachineName": "vm", "blockDeviceRef": { "kind": "VirtualDisk", "name": "data" } },
    });
    let address = json!({
        "metadata": { "name": "vm-abcde", "ownerReferences": [{ "kind": "VirtualMachine" }] },
        "spec": { "type": "Auto" },
        "status": { "address": "10.66.10.4" },
    });
    let secret = serde_json::from_value(json!({
        "metadata": { "name": "seed" },
        "type": "provisioning.virtualization.deckhouse.io/cloud-init",
        "data": { "userData": ByteString(b"#cloud-config\n".to_vec()) },
    }))
    .unwrap();
    snapshot_contents::contents(&vm, &[disk("root"), disk("data")], &[plug], Some(&address), Some(&secret)).unwrap()
}

fn wanted(purpose: Purpose) -> Vec<Wanted> {
    match purpose {
        Purpose::Restore => {
            let reference = json!({ "kind": "VirtualMachine" });
            let owner = Owner { reference: &reference, automatic: "vm-abcde", keeps_address: true };
            restored(&contents(), "ns", "op", &owner)
        }
        Purpose::Copy => {
            let customization: CloneCustomization = serde_json::from_value(json!({ "namePrefix": "new-" })).unwrap();
            copied(&contents(), "ns", "op", &Names::new(Some(&customization), None))
        }
    }
}

fn seen() -> Seen {
    Seen { images: [("VirtualImage".to_owned(), "tools".to_owned())].into(), ..Seen::default() }
}

fn with(what: What, name: &str, live: Value) -> Seen {
    Seen { live: [((what, name.to_owned()), live)].into(), ..seen() }
}

/// Problems, or else notes, after a check.
fn told(purpose: Purpose, mode: OperationMode, seen: &Seen) -> String {
    let mut all = wanted(purpose);
    check(&mut all, seen, mode, purpose, "op");
    problems(&all).unwrap_or_else(|| notes(&all))
}

#[test]
fn nothing_in_the_way() {
    for purpose in [Purpose::Restore, Purpose::Copy] {
        for mode in [DryRun, Strict, BestEffort] {
            assert_eq!(told(purpose, mode, &seen()), "", "{purpose:?} {mode:?}");
        }
    }
}

#[test]
fn missing_images_by_mode() {
    let none = Seen::default();
    for purpose in [Purpose::Restore, Purpose::Copy] {
        for mode in [DryRun, Strict] {
            let words = told(purpose, mode, &none);
            let want = "VirtualImage tools does not exist. Create it, or use mode BestEffort to do without.";
            assert!(words.ends_with(want), "{purpose:?} {mode:?}: {words}");
        }
        let mut all = wanted(purpose);
        check(&mut all, &none, BestEffort, purpose, "op");
        assert_eq!(problems(&all), None);
        assert!(notes(&all).ends_with("Left out: VirtualImage tools, which does not exist."), "{}", notes(&all));
        let vm = all.iter().find(|w| w.what == What::Machine).unwrap();
        assert_eq!(vm.body["spec"]["blockDeviceRefs"].as_array().unwrap().len(), 1);
    }
    let mut all = wanted(Purpose::Restore);
    let vm = all.iter_mut().find(|w| w.what == What::Machine).unwrap();
    vm.body["spec"]["blockDeviceRefs"] = json!([{ "kind": "ClusterVirtualImage", "name": "iso" }]);
    check(&mut all, &none, BestEffort, Purpose::Restore, "op");
    let words = problems(&all).unwrap();
    assert!(words.contains("ClusterVirtualImage iso does not exist, and without it"), "{words}");
}

#[test]
fn an_attached_image_that_is_missing() {
    for (mode, skip) in [(Strict, false), (DryRun, false), (BestEffort, true)] {
        let mut all = wanted(Purpose::Restore);
        let plug = all.iter_mut().find(|w| w.what == What::Attachment).unwrap();
        plug.body["spec"]["blockDeviceRef"] = json!({ "kind": "VirtualImage", "name": "gone" });
        check(&mut all, &seen(), mode, Purpose::Restore, "op");
        let plug = all.iter().find(|w| w.what == What::Attachment).unwrap();
        assert_eq!((plug.skip, plug.problem.is_some()), (skip, !skip), "{mode:?}");
        assert!(plug.note.as_ref().or(plug.problem.as_ref()).unwrap().contains("VirtualImage gone does not exist"));
    }
}

#[test]
fn secrets_by_mode() {
    let type_ = "provisioning.virtualization.deckhouse.io/cloud-init";
    let same = json!({ "type": type_, "data": { "userData": ByteString(b"#cloud-config\n".to_vec()) } });
    let other = json!({ "type": type_, "data": { "userData": ByteString(b"#!/bin/sh\n".to_vec()) } });
    let restore = |mode, live: &Value| told(Purpose::Restore, mode, &with(What::Secret, "seed", live.clone()));
    assert_eq!(restore(Strict, &same), "");
    assert!(restore(Strict, &other).contains("Secret seed: The one that is there differs"));
    assert!(restore(DryRun, &other).contains("differs"));
    assert_eq!(restore(BestEffort, &other), "Secret seed: Left as it is: it differs from the snapshot.");
    let copy = |live: &Value| told(Purpose::Copy, Strict, &with(What::Secret, "new-seed", live.clone()));
    assert!(copy(&same).contains("is used by both machines"));
    assert!(copy(&other).contains("Secret new-seed exists already"));
}

#[test]
fn what_else_stands_in_the_way_of_a_restore() {
    let disk = |metadata: Value, reason: &str| {
        let in_use = json!([{ "type": "InUse", "status": "True", "reason": reason }]);
        with(What::Disk, "root", json!({ "metadata": metadata, "status": { "conditions": in_use } }))
    };
    let owned = |kind: &str| json!({ "ownerReferences": [{ "kind": kind, "name": "vm", "controller": true }] });
    let plug = |name: &str, vm: &str, disk: &str| {
        let device = json!({ "kind": "VirtualDisk", "name": disk });
        json!({ "metadata": { "name": name }, "spec": { "virtualMachineName": vm, "blockDeviceRef": device } })
    };
    let user = |vm: &str| with(What::Address, "vm-abcde", json!({ "status": { "virtualMachineName": vm } }));
    for (seen, words) in [
        (disk(json!({}), "AttachedToVirtualMachine"), ""),
        (disk(json!({}), "UsedForImageCreation"), "VirtualDisk root: An image is being made"),
        (disk(owned("VirtualMachinePool"), ""), "belongs to VirtualMachinePool vm"),
        (disk(owned("VirtualMachine"), ""), ""),
        (Seen { holders: [("root".into(), "other".into())].into(), ..seen() }, "attached to VirtualMachine other"),
        (
            Seen {
                bad_snapshots: [("root-snap".into(), "VirtualDiskSnapshot root-snap is gone.".into())].into(),
                ..seen()
            },
            "VirtualDisk root: VirtualDiskSnapshot root-snap is gone.",
        ),
        (with(What::Attachment, "plug", plug("plug", "vm", "data")), ""),
        (with(What::Attachment, "plug", plug("plug", "vm", "new")), "attaches something else"),
        (with(What::Attachment, "plug", plug("plug", "other", "data")), "attaches something else"),
        (Seen { attachments: vec![plug("late", "vm", "root")], ..seen() }, "VirtualMachineBlockDeviceAttachment late"),
        (Seen { attachments: vec![plug("plug", "vm", "root")], ..seen() }, ""),
        (user("vm"), ""),
        (user("other"), "VirtualMachineIPAddress vm-abcde: It is attached to VirtualMachine other."),
        (Seen { address_holder: Some("shop/ip".into()), ..seen() }, "The machine's address is taken by shop/ip."),
    ] {
        for mode in [DryRun, Strict, BestEffort] {
            let got = told(Purpose::Restore, mode, &seen);
            assert!(if words.is_empty() { got.is_empty() } else { got.contains(words) }, "{words:?}: {got:?}");
        }
    }
}

#[test]
fn a_copy_takes_no_place_that_is_taken() {
    for (what, name) in [(What::Machine, "new-vm"), (What::Disk, "new-root"), (What::Attachment, "new-plug")] {
        for mode in [DryRun, Strict, BestEffort] {
            let got = told(Purpose::Copy, mode, &with(what, name, json!({ "metadata": { "name": name } })));
            let want = format!("{} {name} exists already: choose another new name.", what.kind());
            assert!(got.contains(&want), "{got}");
            let mine = json!({ "metadata": { "annotations": { MADE_BY: "op" } } });
            assert_eq!(told(Purpose::Copy, mode, &with(what, name, mine)), "", "its own is not in the way");
        }
    }
}

#[test]
fn what_comes_next() {
    use Purpose::{Copy, Restore};
    let live = |mine: bool, phase: &str| {
        json!({
            "metadata": { "annotations": { MADE_BY: if mine { "op" } else { "older" } } },
            "status": { "phase": phase, "conditions": [{ "type": "Ready", "message": "no room" }] },
        })
    };
    let exists = |text: &str| Next::Failed(format!("{text} exists already."));
    for (what, name, purpose, seen, want) in [
        (What::Disk, "root", Restore, None, Next::Create),
        (What::Disk, "root", Restore, Some(live(false, "Ready")), Next::Remove),
        (What::Disk, "root", Restore, Some(live(true, "Provisioning")), Next::Wait),
        (What::Disk, "root", Restore, Some(live(true, "")), Next::Wait),
        (What::Disk, "root", Restore, Some(live(true, "Ready")), Next::Done),
        (What::Disk, "root", Restore, Some(live(true, "Failed")), Next::Failed("The disk is Failed: no room".into())),
        (What::Machine, "vm", Restore, Some(live(false, "")), Next::Update),
        (What::Machine, "vm", Restore, Some(live(true, "")), Next::Done),
        (What::Secret, "seed", Restore, Some(live(false, "")), Next::Done),
        (What::Address, "vm-abcde", Restore, Some(live(false, "")), Next::Done),
        (What::Attachment, "plug", Restore, None, Next::Create),
        (What::Attachment, "plug", Restore, Some(live(false, "")), Next::Done),
        (What::Machine, "new-vm", Copy, None, Next::Create),
        (What::Machine, "new-vm", Copy, Some(live(true, "")), Next::Done),
        (What::Machine, "new-vm", Copy, Some(live(false, "")), exists("VirtualMachine new-vm")),
        (What::Disk, "new-root", Copy, Some(live(false, "Ready")), exists("VirtualDisk new-root")),
        (What::Secret, "new-seed", Copy, Some(live(false, "")), Next::Done),
    ] {
        let all = wanted(purpose);
        let one = all.iter().find(|w| w.what == what && w.name == name).unwrap();
        assert_eq!(next(one, seen.as_ref(), purpose, "op"), want, "{what:?} {purpose:?} {seen:?}");
    }
    let all = wanted(Restore);
    let root = all.iter().find(|w| w.name == "root").unwrap();
    let mut going = live(false, "Ready");
    going["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    assert_eq!(next(root, Some(&going), Restore, "op"), Next::Wait, "the old disk is on its way out");
    going["metadata"]["annotations"][MADE_BY] = json!("op");
    assert!(matches!(next(root, Some(&going), Restore, "op"), Next::Failed(_)), "somebody deletes the new one");
    let skipped = Wanted { skip: true, ..root.clone() };
    assert_eq!(next(&skipped, None, Restore, "op"), Next::Done);
}
