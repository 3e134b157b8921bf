//! What kubectl does with an API server, command by command: discovery, apply in both ways, edit, diff, patches,
//! selectors, watches, waits, reviews, core kinds, deletion. Run in this order in one world whose machine stays off.

use super::desk::{Case, case};

/// Files beside the commands. The machine's disk is blank and real, so that it reaches the phase `Stopped`.
pub const FILES: &[(&str, &str)] = &[
    ("vm1.yaml", VM1),
    ("vm2.yaml", VM2),
    ("disks.yaml", DISKS),
    (
        "vmop.yaml",
        "apiVersion: virtualization.deckhouse.io/v1alpha2
kind: VirtualMachineOperation
metadata: {name: restart-linux-vm-1}
spec: {virtualMachineName: linux-vm, type: Restart}
",
    ),
    (
        "vmip.yaml",
        "apiVersion: virtualization.deckhouse.io/v1alpha2
kind: VirtualMachineIPAddress
metadata: {name: linux-vm-custom-ip}
spec: {staticIP: 10.66.20.77, type: Static}
",
    ),
    (
        "vmbda.yaml",
        "apiVersion: virtualization.deckhouse.io/v1alpha2
kind: VirtualMachineBlockDeviceAttachment
metadata: {name: attach-blank-disk}
spec: {virtualMachineName: linux-vm, blockDeviceRef: {kind: VirtualDisk, name: blank-disk}}
",
    ),
    (
        "secret.yaml",
        "apiVersion: v1
kind: Secret
metadata: {name: cloud-init-example}
data: {userData: I2Nsb3VkLWNvbmZpZwo=}
type: provisioning.virtualization.deckhouse.io/cloud-init
",
    ),
];

macro_rules! machine {
    ($cores:literal) => {
        concat!(
            "apiVersion: virtualization.deckhouse.io/v1alpha2
kind: VirtualMachine
metadata:
  name: linux-vm
spec:
  virtualMachineClassName: host
  runPolicy: AlwaysOff
  cpu:
    cores: ",
            $cores,
            "
    coreFraction: 10%
  memory:
    size: 1Gi
  blockDeviceRefs:
  - kind: VirtualDisk
    name: linux-vm-root
"
        )
    };
}

const VM1: &str = machine!("1");
const VM2: &str = machine!("2");

const DISKS: &str = "apiVersion: virtualization.deckhouse.io/v1alpha2
kind: VirtualDisk
metadata: {name: linux-vm-root}
spec: {persistentVolumeClaim: {size: 10Mi}}
---
apiVersion: virtualization.deckhouse.io/v1alpha2
kind: VirtualDisk
metadata: {name: blank-disk}
spec: {persistentVolumeClaim: {size: 10Mi}}
";

/// The rows.
pub const CASES: &[Case] = &[
    case("K-01", "kubectl version", &[r#"Server Version.*(v?1\.|GitVersion:"v)"#]).exits_anyhow(),
    case("K-02", "kubectl cluster-info", &["is running at"]),
    case(
        "K-03",
        "kubectl api-resources",
        &[r"virtualmachines\s+vm\s", r"virtualmachineblockdeviceattachments\s+vmbda", r"configmaps\s+cm"],
    ),
    case("K-04", "kubectl api-versions", &["^virtualization.deckhouse.io/v1alpha2$", "^v1$"]),
    case("K-05", "kubectl apply -f - < vm1.yaml", &["^virtualmachine.virtualization.deckhouse.io/linux-vm created$"]),
    case("K-06", "kubectl apply -f vm1.yaml", &["linux-vm unchanged$"]),
    case("K-07", "kubectl get vm", &[r"^NAME\s+PHASE\s.*NODE\s+IPADDRESS\s+AGE$", r"^linux-vm\s"]),
    case("K-08", "kubectl get vm linux-vm", &[r"^linux-vm\s"]),
    case(
        "K-09",
        "kubectl get vm linux-vm -o wide",
        &[r"CORES\s+COREFRACTION\s+MEMORY\s+NEED RESTART\s+AGENT\s+MIGRATABLE\s+NODE"],
    ),
    case("K-10", "kubectl get vm linux-vm -o jsonpath='{.spec.cpu.cores}'", &["^1$"]),
    case("K-11", "kubectl get vm linux-vm -o yaml", &["resourceVersion: ", "uid: ", "!managedFields:"]).since(21),
    case(
        "K-12",
        "kubectl get virtualmachines.v1alpha2.virtualization.deckhouse.io linux-vm -o name",
        &["^virtualmachine.virtualization.deckhouse.io/linux-vm$"],
    ),
    case(
        "K-13",
        r#"kubectl patch vm linux-vm --type merge -p '{"spec":{"cpu":{"cores":2}}}'"#,
        &["^virtualmachine.virtualization.deckhouse.io/linux-vm patched$"],
    ),
    case(
        "K-14",
        r#"kubectl patch vm linux-vm --type merge -p '{"spec":{"cpu":{"cores":2}}}'"#,
        &[r"patched \(no change\)"],
    ),
    case(
        "K-15",
        r#"kubectl patch vm linux-vm --type json -p '[{"op":"replace","path":"/spec/cpu/cores","value":3}]'"#,
        &["patched$"],
    ),
    case(
        "K-16",
        r#"kubectl patch vm linux-vm -p '{"spec":{}}'"#,
        &[r"strategic-merge-patch\+json is not supported|unknown format|UnsupportedMediaType"],
    )
    .exits(1),
    case("K-17", r#"EDITOR="sed -i s/cores:.3/cores:\ 4/" kubectl edit vm linux-vm"#, &["linux-vm edited"]),
    case("K-18", "EDITOR=true kubectl edit vm linux-vm", &["Edit cancelled, no changes made"]),
    case("K-19", "kubectl diff -f vm1.yaml", &[r"^-\s+cores: 4", r"^\+\s+cores: 1"]).exits(1),
    case("K-20", "kubectl apply -f vm2.yaml", &["configured$"]),
    case("K-21", "kubectl apply -f vm1.yaml --dry-run=server", &[r"configured \(server dry run\)"]),
    case("K-22", "kubectl get vm linux-vm -o jsonpath='{.spec.cpu.cores}'", &["^2$"]),
    case("K-23", "kubectl apply --server-side --field-manager=flux -f vm1.yaml", &["conflict"]).exits(1),
    case(
        "K-24",
        "kubectl apply --server-side --field-manager=flux --force-conflicts -f vm1.yaml",
        &["serverside-applied"],
    ),
    case(
        "K-25",
        "kubectl apply --server-side --field-manager=flux --force-conflicts -f vm1.yaml",
        &["serverside-applied"],
    ),
    case("K-26", "kubectl label vm linux-vm tier=db", &["labeled"]),
    case("K-27", "kubectl label vm linux-vm tier=web", &["already has a value|--overwrite is false"]).exits(1),
    case("K-28", "kubectl annotate vm linux-vm note=x", &["annotated"]),
    case("K-29", "kubectl get vm -l 'tier in (db,web)' -o name", &["linux-vm"]),
    case("K-30", "kubectl get vm -l tier=none", &["No resources found"]),
    case("K-31", "kubectl get vm --field-selector metadata.name=linux-vm -o name", &["linux-vm"]),
    case("K-32", "kubectl get vm --field-selector spec.foo=bar", &["field label not supported"]).exits(1),
    case("K-33", "kubectl get vm -A", &[r"^NAMESPACE\s+NAME", "linux-vm"]),
    case("K-34", "kubectl get vm --sort-by=.metadata.name -L tier --show-labels", &["TIER", "tier=db"]),
    case("K-35", "kubectl get vm -o custom-columns=N:.metadata.name,C:.spec.cpu.cores", &[r"linux-vm\s+1"]),
    case("K-36", "kubectl describe vm linux-vm", &[r"^Name:\s+linux-vm", r"^Events:"]),
    case("K-37", "kubectl explain vm.spec.cpu", &["cores"]),
    case("K-38", "kubectl explain vm --recursive", &["blockDeviceRefs"]),
    case("K-39", "kubectl explain secret.data", &["data"]),
    case(
        "K-40",
        "exec 3< <(kubectl get vm -w); watch=$!; read -r head <&3; read -r first <&3; kubectl label vm linux-vm w=1
         read -r news <&3; kill $watch; echo \"$head\"; echo \"$first\"; echo \"$news\"",
        &[r"^NAME\s+PHASE", r"(?s)linux-vm\s+\S+\s+.*\nlinux-vm\s+\S+\s+"],
    ),
    case(
        "K-41",
        "exec 3< <(kubectl get vm linux-vm -w -o name); watch=$!; read -r first <&3; kubectl label vm linux-vm w2=1
         read -r news <&3; kill $watch; echo \"$first\"; echo \"$news\"",
        &["virtualmachine.virtualization.deckhouse.io/linux-vm\nvirtualmachine.virtualization.deckhouse.io/linux-vm\n"],
    ),
    case("K-42", "kubectl wait vm/linux-vm --for=jsonpath='{.spec.cpu.cores}'=1 --timeout=10s", &["condition met"])
        .since(23),
    case("K-43", "kubectl wait vm/linux-vm --for=condition=Nope --timeout=2s", &["timed out waiting"]).exits(1),
    case("K-44", "kubectl auth can-i get vm", &["^yes$"]),
    case("K-45", "kubectl auth can-i --list", &["Resources", r"\*\.\*\s"]),
    case("K-46", "kubectl auth whoami", &["Username", "system:masters"]).since(28),
    case(
        "K-47",
        "kubectl apply -f vmop.yaml && kubectl get vmop && kubectl get virtualmachineoperation",
        &["restart-linux-vm-1 created", r"(?s)NAME.*restart-linux-vm-1\s.*NAME.*restart-linux-vm-1\s"],
    ),
    case("K-48", "kubectl apply -f vmip.yaml && kubectl get vmip", &[r"linux-vm-custom-ip\s+10.66.20.77"]),
    case(
        "K-49",
        r#"kubectl patch vmip linux-vm-custom-ip --type=merge --patch '{"metadata":{"ownerReferences":null}}'"#,
        &["patched"],
    ),
    case("K-50", "kubectl get vmipl", &["NAME", "ip-10-66-20-77"]),
    case(
        "K-51",
        "kubectl apply -f disks.yaml -f vmbda.yaml && kubectl get vmbda attach-blank-disk",
        &[r"^NAME\s+PHASE\s+VIRTUAL ?MACHINE( NAME)?\s+AGE", "attach-blank-disk"],
    ),
    case("K-52", "kubectl delete vmbda attach-blank-disk", &["deleted"]),
    case(
        "K-53",
        "kubectl apply -f secret.yaml && kubectl get secret cloud-init-example",
        &[r"provisioning.virtualization.deckhouse.io/cloud-init\s+1"],
    ),
    case("K-54", "kubectl create secret generic s1 --from-literal=a=b", &["secret/s1 created"]),
    case("K-55", "kubectl create configmap c1 --from-literal=a=b", &["configmap/c1 created"]),
    case("K-56", "kubectl create configmap c1 --from-literal=a=b", &["already exists"]).exits(1),
    case(
        "K-57",
        r#"kubectl patch cm c1 -p '{"data":{"b":"c"}}' && kubectl get cm c1 -o jsonpath='{.data}'"#,
        &[r#""a":"b".*"b":"c"|map\[a:b b:c\]"#],
    ),
    case(
        "K-58",
        "kubectl create cm c2 --from-literal=a=b --dry-run=client -o yaml | kubectl apply -f - &&
         kubectl create cm c2 --from-literal=a=c --dry-run=client -o yaml | kubectl apply -f -",
        &["configmap/c2 created", "configmap/c2 configured"],
    ),
    case(
        "K-59",
        "kubectl create cm c2 --from-literal=a=d --dry-run=client -o yaml |
         kubectl apply --server-side --force-conflicts -f -",
        &["serverside-applied"],
    ),
    case("K-60", "kubectl get cm,secret", &["configmap/c1", "secret/s1"]),
    case("K-61", "kubectl describe cm c1", &["^a:"]),
    case("K-62", "kubectl describe secret s1", &[r"^a:\s+1 byte"]),
    case("K-63", "kubectl get ns", &[r"default\s+Active"]),
    case("K-64", "kubectl get events", &["^LAST SEEN|No resources found"]),
    case("K-65", "kubectl get nodes", &[r"^NAME\s+STATUS", r"\sReady\s"]),
    case("K-66", "kubectl get all", &[]),
    case("K-67", "kubectl replace -f vm2.yaml", &["replaced"]),
    case(
        "K-68",
        r#"kubectl patch vm linux-vm --subresource=status --type merge -p '{"status":{"phase":"Stopped"}}' &&
         kubectl wait vm/linux-vm --for=jsonpath='{.status.phase}'=Stopped --timeout=20s &&
         kubectl get vm linux-vm -o jsonpath='{.status.phase}'"#,
        &["patched", "Stopped$"],
    )
    .since(24),
    case("K-69", "kubectl get --raw /healthz", &["^ok$"]),
    case("K-70", "kubectl get nosuch", &["doesn't have a resource type"]).exits(1),
    case(
        "K-71",
        "kubectl get vm nope",
        &[r#"Error from server \(NotFound\): virtualmachines.virtualization.deckhouse.io "nope" not found"#],
    )
    .exits(1),
    case("K-72", "kubectl scale vm linux-vm --replicas=2", &["not found|NotFound|could not find"]).exits(1),
    case(
        "K-73",
        r#"kubectl patch cm c1 --type merge -p '{"metadata":{"finalizers":["kc.example.com/x"]}}' &&
         kubectl delete cm c1 --wait=false && kubectl get cm c1 -o jsonpath='{.metadata.deletionTimestamp}'"#,
        &[r"20\d\d-"],
    ),
    case(
        "K-74",
        "exec 3< <(kubectl delete cm c1 --timeout=30s 2>&1; echo \"exit $?\"); read -r said <&3
         kubectl get cm c1 -o name && kubectl patch cm c1 --type merge -p '{\"metadata\":{\"finalizers\":null}}'
         read -r end <&3; echo \"$said\"; echo \"$end\"",
        &["^configmap/c1$", r#"configmap "c1" deleted"#, "^exit 0$"],
    ),
    case("K-75", "kubectl delete secret --all", &[r#"secret "s1" deleted"#]),
    case("K-76", "kubectl delete cm -l none=such", &["No resources found"]),
    case("K-77", "kubectl delete vm linux-vm --cascade=foreground --timeout=20s", &[r#""linux-vm" deleted"#]),
    case("K-78", "kubectl delete vm linux-vm", &["NotFound"]).exits(1),
    case("K-79", "kubectl delete vm linux-vm --ignore-not-found", &["!NotFound"]),
    case(
        "K-80",
        "for i in 1 2 3 4 5; do kubectl create cm p$i --from-literal=a=b; done >/dev/null
         kubectl get cm --chunk-size=2 -o name",
        &["(?s)p1.*p2.*p3.*p4.*p5"],
    ),
    case(
        "K-81",
        r"printf 'apiVersion: v1\nkind: ConfigMap\nmetadata:\n  generateName: gen-\n' | kubectl create -f -",
        &["configmap/gen-[a-z0-9]{5} created"],
    ),
    case(
        "K-82",
        r#"printf 'apiVersion: virtualization.deckhouse.io/v1alpha2\nkind: VirtualMachine
metadata: {name: bad}\nspec: {cpuu: 1}\n' | kubectl apply -f -"#,
        &["cpuu|invalid|Invalid|[Vv]alidation"],
    )
    .exits(1),
    case(
        "K-83",
        "kubectl delete -f vmop.yaml -f vmip.yaml",
        &["vmop|restart-linux-vm-1", "linux-vm-custom-ip", "deleted"],
    ),
    case("K-84", "kubectl events", &["^LAST SEEN|No events found|No resources found"]).since(26),
];
