use std::net::Ipv4Addr;
use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::host::{MachineId, Observation, Seed, VolumeId, VolumeInfo, VolumeKind};
use crate::types::{BlockDeviceRef, VirtualMachineClass};

/// A disk that is ready.
pub fn device(name: &str) -> DeviceFact {
    let reference: BlockDeviceRef = serde_json::from_value(json!({"kind": "VirtualDisk", "name": name})).unwrap();
    DeviceFact {
        reference,
        exists: true,
        deleting: false,
        phase: "Ready".into(),
        uid: name.into(),
        volume: Some(VolumeId { kind: VolumeKind::Disk, uid: name.into() }),
        info: Some(VolumeInfo { virtual_size: 1, stored_size: 1, format: "raw".into(), cdrom: false }),
        busy: None,
        attached_by: None,
    }
}

fn class_object(phase: &str) -> Option<Arc<VirtualMachineClass>> {
    let class = json!({
        "apiVersion": "virtualization.deckhouse.io/v1alpha2", "kind": "VirtualMachineClass",
        "metadata": {"name": "host"}, "spec": {"cpu": {"type": "Host"}}, "status": {"phase": phase},
    });
    Some(Arc::new(serde_json::from_value(class).unwrap()))
}

/// A machine with one disk that lacks nothing and has no instance.
pub fn gathered() -> Gathered {
    let vm = json!({
        "apiVersion": "virtualization.deckhouse.io/v1alpha2", "kind": "VirtualMachine",
        "metadata": {"name": "vm", "namespace": "ns", "uid": "u"},
        "spec": {
            "virtualMachineClassName": "host", "cpu": {"cores": 1}, "memory": {"size": "1Gi"},
            "blockDeviceRefs": [{"kind": "VirtualDisk", "name": "root"}],
        },
    });
    Gathered {
        vm: Arc::new(serde_json::from_value(vm).unwrap()),
        id: MachineId("u".into()),
        observation: Observation::absent(&MachineId("u".into())),
        applied: None,
        class: class_object("Ready"),
        devices: vec![device("root")],
        attachments: vec![],
        address: AddressFact::Ready { name: "ip".into(), address: Ipv4Addr::new(10, 0, 0, 1) },
        provisioning: ProvisionFact::None,
        request: None,
        sizing_problem: None,
        maintenance: None,
        snapshotting: None,
    }
}

/// Each thing that may be missing closes the gate with its condition, its reason and words that name it.
#[test]
fn what_closes_the_gate() {
    let named = |name: &str| name.to_owned();
    let cases: Vec<(Gathered, &str, &str, &str)> = vec![
        (
            Gathered { address: AddressFact::Missing { name: named("ip"), automatic: false }, ..gathered() },
            "VirtualMachineIPAddressReady",
            "VirtualMachineIPAddressNotReady",
            "ip does not exist",
        ),
        (
            Gathered { address: AddressFact::NotBound { name: named("ip"), message: named("Taken.") }, ..gathered() },
            "VirtualMachineIPAddressReady",
            "VirtualMachineIPAddressNotReady",
            "Taken.",
        ),
        (
            Gathered { address: AddressFact::Taken { name: named("ip"), by: named("other") }, ..gathered() },
            "VirtualMachineIPAddressReady",
            "VirtualMachineIPAddressNotReady",
            "other",
        ),
        (
            Gathered { class: None, ..gathered() },
            "VirtualMachineClassReady",
            "VirtualMachineClassNotReady",
            "host does not exist",
        ),
        (
            Gathered { class: class_object("Pending"), ..gathered() },
            "VirtualMachineClassReady",
            "VirtualMachineClassNotReady",
            "not ready",
        ),
        (
            Gathered { devices: vec![DeviceFact { exists: false, ..device("root") }], ..gathered() },
            "BlockDevicesReady",
            "BlockDevicesNotReady",
            "0/1 block devices are ready. VirtualDisk root does not exist",
        ),
        (
            Gathered {
                devices: vec![
                    device("root"),
                    DeviceFact { info: None, phase: named("Provisioning"), ..device("data") },
                ],
                ..gathered()
            },
            "BlockDevicesReady",
            "BlockDevicesNotReady",
            "1/2 block devices are ready. VirtualDisk data is not ready (phase Provisioning)",
        ),
        (
            Gathered { devices: vec![DeviceFact { deleting: true, ..device("root") }], ..gathered() },
            "BlockDevicesReady",
            "BlockDevicesNotReady",
            "being deleted",
        ),
        (
            Gathered {
                devices: vec![DeviceFact { busy: Some(named("VirtualMachine other")), ..device("root") }],
                ..gathered()
            },
            "BlockDevicesReady",
            "BlockDevicesNotReady",
            "in use by VirtualMachine other",
        ),
        (
            Gathered { devices: vec![DeviceFact { attached_by: Some(named("a")), ..device("root") }], ..gathered() },
            "BlockDevicesReady",
            "BlockDevicesNotReady",
            "both in spec.blockDeviceRefs",
        ),
        (
            Gathered { devices: (0..17).map(|n| device(&n.to_string())).collect(), ..gathered() },
            "BlockDevicesReady",
            "BlockDeviceLimitExceeded",
            "16 is maximum",
        ),
        (
            Gathered { provisioning: ProvisionFact::NotReady { message: named("no Secret") }, ..gathered() },
            "ProvisioningReady",
            "ProvisioningNotReady",
            "no Secret",
        ),
        (
            Gathered { class: None, sizing_problem: None, ..gathered() },
            "VirtualMachineClassReady",
            "VirtualMachineClassNotReady",
            "Name an existing class",
        ),
        (
            Gathered { sizing_problem: Some(named("too many cores")), ..gathered() },
            "SizingPolicyMatched",
            "SizingPolicyNotMatched",
            "too many cores",
        ),
    ];
    for (g, type_, reason, words) in cases {
        let checks = checks(&g);
        assert!(!is_open(&checks), "{type_} {reason} {words}");
        let blocker = blocker(&checks).unwrap();
        assert_eq!((blocker.type_, blocker.reason, blocker.status), (type_, reason, Status::False));
        assert!(blocker.message.contains(words), "{}", blocker.message);
    }
}

/// upstream.md 4.2: SizingPolicyMatched, shown only when it fails, beside VirtualMachineClassReady.
#[test]
fn sizing_policies_that_cannot_be_looked_at() {
    let mut going = class_object("Ready").unwrap().as_ref().clone();
    going.metadata.deletion_timestamp =
        Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(jiff::Timestamp::UNIX_EPOCH));
    for (class, reason) in [
        (None, Some("VirtualMachineClassNotFound")),
        (Some(Arc::new(going)), Some("VirtualMachineClassTerminating")),
        (class_object("Ready"), None),
    ] {
        let checks = checks(&Gathered { class, ..gathered() });
        let sizing = checks.iter().find(|c| c.type_ == "SizingPolicyMatched");
        assert_eq!(sizing.map(|c| c.reason), reason);
        assert_eq!(is_open(&checks), reason.is_none());
    }
}

/// Each check that passes, with its reason.
#[test]
fn what_a_machine_shows_that_lacks_nothing() {
    let seed = Seed::Sysprep(vec![]);
    let g = Gathered { provisioning: ProvisionFact::Ready { seed: seed.clone(), warning: None }, ..gathered() };
    let shown: Vec<(&str, &str)> = checks(&g).iter().map(|c| (c.type_, c.reason)).collect();
    assert_eq!(
        shown,
        [
            ("VirtualMachineIPAddressReady", "VirtualMachineIPAddressReady"),
            ("VirtualMachineClassReady", "VirtualMachineClassReady"),
            ("BlockDevicesReady", "BlockDevicesReady"),
            ("ProvisioningReady", "ProvisioningReady"),
        ]
    );
    let g = Gathered { provisioning: ProvisionFact::Ready { seed, warning: Some("odd".into()) }, ..gathered() };
    let last = checks(&g).pop().unwrap();
    assert_eq!(
        (last.reason, last.status, last.message.as_str()),
        ("ProvisioningReadyWithWarnings", Status::True, "odd")
    );
}

#[test]
fn a_snapshot_keeps_it_closed_while_it_is_taken_and_not_before() {
    let with = |snapshotting| Gathered { snapshotting: Some(snapshotting), ..gathered() };
    let going = checks(&with(Snapshotting::InProgress("VirtualMachineSnapshot s".into())));
    let check = blocker(&going).unwrap();
    assert_eq!((check.type_, check.reason, check.status), ("Snapshotting", "SnapshottingInProgress", Status::True));
    let waiting = checks(&with(Snapshotting::Waiting("VirtualMachineSnapshot s".into())));
    assert!(is_open(&waiting));
    assert_eq!(waiting.last().unwrap().reason, "WaitingForTheSnapshotToStart");
}

#[test]
fn what_leaves_it_open() {
    let seed = Seed::Sysprep(vec![]);
    let warned = ProvisionFact::Ready { seed, warning: Some("odd".into()) };
    for g in [
        gathered(),
        Gathered { address: AddressFact::None, ..gathered() },
        Gathered { provisioning: warned, ..gathered() },
    ] {
        assert!(is_open(&checks(&g)));
    }
}
