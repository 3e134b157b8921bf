//! Snapshots, operations on them and MAC addresses, and what is told of mistakes, by stock kubectl and by vmdeck.

use super::desk::{Case, Desk, case};
use super::programs::{self, Kubectl};
use super::rows::Rows;

const FILES: &[(&str, &str)] = &[
    (
        "kinds.yaml",
        "apiVersion: virtualization.deckhouse.io/v1alpha2
kind: VirtualDiskSnapshot
metadata: {name: s}
spec: {virtualDiskName: d}
---
apiVersion: virtualization.deckhouse.io/v1alpha2
kind: VirtualMachineSnapshot
metadata: {name: s}
spec: {virtualMachineName: m, keepIPAddress: Never}
---
apiVersion: virtualization.deckhouse.io/v1alpha2
kind: VirtualMachineSnapshotOperation
metadata: {name: o}
spec:
  type: CreateVirtualMachine
  virtualMachineSnapshotName: s
  createVirtualMachine: {mode: Strict, customization: {namePrefix: new-}}
---
apiVersion: virtualization.deckhouse.io/v1alpha2
kind: VirtualMachineMACAddress
metadata: {name: a}
---
apiVersion: virtualization.deckhouse.io/v1alpha2
kind: VirtualMachineMACAddressLease
metadata: {name: mac-02-00-00-00-00-01}
spec: {virtualMachineMACAddressRef: {name: a, namespace: default}}
",
    ),
    (
        "class.yaml",
        "apiVersion: virtualization.deckhouse.io/v1alpha3
kind: VirtualMachineClass
metadata: {name: c}
spec:
  cpu: {type: Host}
  sizingPolicies: [{cores: {min: 1, max: 4}, coreFractions: [5%, 50%]}]
",
    ),
    (
        "unknown.yaml",
        "apiVersion: virtualization.deckhouse.io/v1alpha2
kind: VirtualDiskSnapshot
metadata: {name: x}
spec: {virtualDiskName: d, strange: 1}
",
    ),
    (
        "typo.yaml",
        "apiVersion: virtualization.deckhouse.io/v1alpha2
kind: VirtualMachine
metadata: {name: typo}
spec:
  virtualMachineClassName: host
  runPolicy: AlwaysOff
  cpu: {cores: 1}
  memory: {size: 1Gi}
  blockDeviceRefs: [{kind: VirtualDisk, name: d}]
  virtualMachineIPAdressName: a
",
    ),
];

const CASES: &[Case] = &[
    case(
        "N-00",
        "kubectl apply -f class.yaml && kubectl get virtualmachineclasses.v1alpha3.virtualization.deckhouse.io c -o \
         jsonpath='{.spec.sizingPolicies[0].coreFractions}' && kubectl get vmclass c -o \
         jsonpath='{.spec.sizingPolicies[0].coreFractions}' && vmdeck apply -f class.yaml",
        &["5%.*50%", r"\[5,50\]"],
    ),
    case("N-01", "kubectl api-resources --api-group=virtualization.deckhouse.io --no-headers | wc -l", &["14"]),
    case(
        "N-02",
        "set -e; for kind in $(kubectl api-resources --api-group=virtualization.deckhouse.io -o name | cut -d. -f1); do \\
         kubectl explain $kind --recursive | grep -q spec; done; echo all",
        &["all"],
    ),
    case("N-03", "kubectl explain vms.spec.keepIPAddress", &["Whether the machine's address is kept"]),
    case(
        "N-04",
        "kubectl explain vm.spec --recursive",
        &["virtualMachineAndPodAffinityTerm", "terminationGracePeriodSeconds"],
    ),
    case("N-05", "kubectl apply --validate=true -f unknown.yaml", &["strange"]).exits(1),
    case(
        "N-06",
        "kubectl apply --validate=true -f kinds.yaml",
        &["virtualmachinemacaddress.*/a created", "/o created"],
    ),
    case("N-07", "kubectl wait --timeout=60s --for=condition=VirtualDiskSnapshotReady=False vds/s", &["condition met"]),
    case(
        "N-08",
        "kubectl wait --timeout=60s --for=condition=VirtualMachineSnapshotReady=False vms/s",
        &["condition met"],
    ),
    case("N-09", "kubectl wait --timeout=60s --for=condition=Completed=False vmsop/o", &["condition met"]),
    case("N-10", "kubectl wait --timeout=60s --for=condition=Bound=True vmmac/a", &["condition met"]),
    case(
        "N-11",
        "kubectl get vds,vms,vmsop,vmmac,vmmacl",
        &["CONSISTENT", "Pending", "CreateVirtualMachine", "Bound", "VIRTUALMACHINEMACADDRESS"],
    ),
    case("N-12", "kubectl describe vms s", &["Keep IP ?Address: *Never", "VirtualMachine m does not exist"]),
    case("N-13", r#"kubectl patch vds s --type merge -p '{"spec":{"virtualDiskName":"x"}}'"#, &["cannot be changed"])
        .exits(1),
    case(
        "N-14",
        r#"kubectl patch vmsop o --type merge -p '{"spec":{"virtualMachineSnapshotName":"x"}}'"#,
        &[".spec is immutable"],
    )
    .exits(1),
    case(
        "N-15",
        "vmdeck apply --validate=strict -f typo.yaml",
        &["the field is called virtualMachineIPAddressName, with two d", "typo created"],
    ),
    case(
        "N-16",
        "kubectl apply --validate=warn -f typo.yaml || kubectl apply --validate=false -f typo.yaml",
        &[
            "the field is called virtualMachineIPAddressName, with two d",
            "typo (created|configured|unchanged|serverside-applied)",
        ],
    ),
    case("N-17", "vmdeck get vds,vms,vmsop,vmmac,vmmacl", &["CONSISTENT", "Pending", "CreateVirtualMachine"]),
    case("N-18", "vmdeck describe vmsop o", &["Waits for VirtualMachineSnapshot s"]),
    case(
        "N-19",
        "vmdeck api-resources",
        &["virtualmachinesnapshots *vmsnapshot,vms", "virtualmachinemacaddressleases"],
    ),
    case("N-20", "kubectl get usbdevices", &["the server doesn't have a resource type"]).exits(1),
    case(
        "N-21",
        "kubectl delete --ignore-not-found -f kinds.yaml && kubectl get vds,vms,vmsop,vmmac",
        &["No resources found"],
    ),
];

fn run(client: &Kubectl) {
    let desk = Desk::new(&[("kubectl", &client.path)], FILES);
    let (major, minor) = client.version;
    let mut rows = Rows::new(&format!("newer kinds, kubectl {major}.{minor}"));
    for case in CASES {
        rows.add(&case.title(), desk.run(case));
    }
    rows.judge(CASES.len());
}

#[test]
fn debians() {
    programs::installed("kubectl-debian").map(|p| programs::kubectl(&p)).iter().for_each(run);
}

#[test]
fn a_current_one() {
    programs::installed("kubectl-current").map(|p| programs::kubectl(&p)).iter().for_each(run);
}
