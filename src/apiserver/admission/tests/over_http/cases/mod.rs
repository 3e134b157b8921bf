//! The table of rules, in the order of upstream.md.

mod machines;
mod rest;
mod storage;

use serde_json::{Value, json};

use super::When::{Always, Create, Update};
use super::{Case, Remark, When, object, with};

fn vm(patch: Value) -> Value {
    let spec = json!({"virtualMachineClassName": "generic", "cpu": {"cores": 2}, "memory": {"size": "1Gi"},
        "blockDeviceRefs": [{"kind": "VirtualDisk", "name": "root"}]});
    with(object("vm", "m", spec), json!({ "spec": patch }))
}

fn disks(names: &[&str]) -> Value {
    let refs: Vec<Value> = names.iter().map(|n| json!({"kind": "VirtualDisk", "name": n})).collect();
    json!({ "blockDeviceRefs": refs })
}

fn many(count: usize) -> Value {
    let names: Vec<String> = (0..count).map(|n| format!("d{n}")).collect();
    disks(&names.iter().map(String::as_str).collect::<Vec<_>>())
}

fn vmop(name: &str, spec: Value) -> Value {
    object("vmop", name, with(json!({"type": "Stop", "virtualMachineName": "m"}), spec))
}

fn vmbda(name: &str, machine: &str, disk: &str) -> Value {
    let spec = json!({"virtualMachineName": machine, "blockDeviceRef": {"kind": "VirtualDisk", "name": disk}});
    object("vmbda", name, spec)
}

fn class(policies: Value) -> Value {
    object("vmclass", "generic", json!({"cpu": {"type": "Host"}, "sizingPolicies": policies}))
}

fn default_class(name: &str, is: &str) -> Value {
    let annotation = json!({"virtualmachineclass.virtualization.deckhouse.io/is-default-class": is});
    with(object("vmclass", name, json!({"cpu": {"type": "Host"}})), json!({"metadata": {"annotations": annotation}}))
}

fn vd(spec: Value) -> Value {
    object("vd", "d", spec)
}

fn sized(size: Value) -> Value {
    vd(json!({"persistentVolumeClaim": {"size": size}, "dataSource": http()}))
}

fn http() -> Value {
    json!({"type": "HTTP", "http": {"url": "http://x/y"}})
}

fn in_phase(object: Value, phase: &str) -> Value {
    with(object, json!({"status": {"phase": phase}}))
}

fn image(cdrom: bool) -> Value {
    let name = if cdrom { "iso" } else { "disk" };
    let status = json!({"phase": "Ready", "cdrom": cdrom, "size": {"unpackedBytes": "2147483648"}});
    with(object("vi", name, json!({"storage": "ContainerRegistry", "dataSource": http()})), json!({ "status": status }))
}

fn vmip(type_: &str, address: &str) -> Value {
    let address = if address.is_empty() { Value::Null } else { address.into() };
    object("vmip", "a", with(json!({"type": type_}), json!({ "staticIP": address })))
}

fn bound(vmip: Value, address: &str) -> Value {
    with(vmip, json!({"status": {"phase": "Bound", "address": address}}))
}

fn lease(address: &str, holder: &str) -> Value {
    let spec = json!({"virtualMachineIPAddressRef": {"name": holder, "namespace": "default"}});
    object("vmipl", &format!("ip-{}", address.replace('.', "-")), spec)
}

fn vmmac(name: &str, address: &str) -> Value {
    object("vmmac", name, json!({ "address": address }))
}

fn near(operator: &str) -> Value {
    json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
        {"matchExpressions": [{"key": "a", "operator": operator}]}]}}}})
}

fn spread(skew: i64) -> Value {
    json!({"topologySpreadConstraints":
        [{"maxSkew": skew, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}]})
}

fn from_image(name: &str) -> Value {
    json!({"blockDeviceRefs": [{"kind": "VirtualImage", "name": name}]})
}

fn policy(patch: Value) -> Value {
    json!([with(json!({"cores": {"min": 1, "max": 4}}), patch)])
}

fn case(section: &'static str, when: When, refused: Value, says: &'static str, accepted: Value) -> Case {
    Case { section, when, world: Vec::new(), refused, says, accepted }
}

fn among(world: &[Value], case: Case) -> Case {
    Case { world: world.to_vec(), ..case }
}

pub(super) fn cases() -> Vec<Case> {
    let tables = [
        machines::machines(),
        machines::sizing(),
        rest::operations(),
        rest::classes(),
        storage::storage(),
        storage::snapshots(),
        rest::addresses(),
    ];
    tables.into_iter().flatten().collect()
}

pub(super) fn remarks() -> Vec<Remark> {
    let remark = |section, world: &[Value], old, new, says| Remark { section, world: world.to_vec(), old, new, says };
    let secret = |type_: &str, key: &str| json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "type": type_, "stringData": {key: "hello"}});
    let by_secret = |field: &str, type_: &str| vm(json!({"provisioning": {"type": type_, field: {"name": "s"}}}));
    let user_data = |text: &str| vm(json!({"provisioning": {"type": "UserData", "userData": text}}));
    let bare = |patch: Value| vm(with(json!({"enableParavirtualization": false}), patch));
    let small = vd(json!({"persistentVolumeClaim": {"size": "1Gi"},
        "dataSource": {"type": "ObjectRef", "objectRef": {"kind": "VirtualImage", "name": "disk"}}}));
    let snapshot = json!({"type": "CreateVirtualMachine", "virtualMachineSnapshotName": "s"});
    const CLOUD: &str = "provisioning.virtualization.deckhouse.io/cloud-init";
    const SYSPREP: &str = "provisioning.virtualization.deckhouse.io/sysprep";
    vec![
        remark("8.2 class to come", &[], None, vm(json!({})), "VirtualMachineClass \"generic\" does not exist (yet)"),
        remark("8.4 Legacy", &[], None, vm(json!({"osType": "Legacy"})), "the Legacy osType is for systems without"),
        remark(
            "19 hot-plug",
            &[],
            Some(bare(json!({}))),
            bare(disks(&["other"])),
            "restart the machine to apply the change",
        ),
        remark("9 header", &[], None, user_data("hello"), "which cloud-init does not know"),
        remark("9 YAML", &[], None, user_data("#cloud-config\na: ["), "is not valid YAML"),
        remark("9 run_cmd", &[], None, user_data("#cloud-config\nrun_cmd: []\n"), "it is called runcmd"),
        remark(
            "9 type of the Secret",
            &[secret("Opaque", "userData")],
            None,
            by_secret("userDataRef", "UserDataRef"),
            "must be \"provisioning.virtualization.deckhouse.io/cloud-init\"",
        ),
        remark(
            "9 key of the Secret",
            &[secret(CLOUD, "x")],
            None,
            by_secret("userDataRef", "UserDataRef"),
            "has no key userData or userdata",
        ),
        remark(
            "9 content of the Secret",
            &[secret(CLOUD, "userData")],
            None,
            by_secret("userDataRef", "UserDataRef"),
            "which cloud-init does not know",
        ),
        remark(
            "9 answer files",
            &[secret(SYSPREP, "x")],
            None,
            by_secret("sysprepRef", "SysprepRef"),
            "has no key unattend.xml or autounattend.xml",
        ),
        remark(
            "12.3 small disk",
            &[image(false)],
            None,
            small,
            "1Gi is less than the 2Gi that VirtualImage \"disk\" takes",
        ),
        remark(
            "15.4 range",
            &[],
            Some(vmip("Static", "10.66.10.9")),
            vmip("Static", "10.99.0.1"),
            "out of the valid range",
        ),
        remark("14.4 no names", &[], None, object("vmsop", "o", snapshot), "spec.createVirtualMachine is missing"),
        remark(
            "15.5 USB",
            &[],
            None,
            vm(json!({"usbDevices": [{"name": "a"}]})),
            "does not pass USB devices to machines",
        ),
        remark(
            "0.1 the guide's typo",
            &[],
            None,
            vm(json!({"virtualMachineIPAdressName": "a"})),
            "the field is called virtualMachineIPAddressName",
        ),
    ]
}

/// An accepted object of each custom kind.
pub(super) fn samples() -> Vec<Value> {
    vec![
        vm(json!({})),
        vmop("o", json!({})),
        vmbda("a", "m", "d"),
        sized(json!("1Gi")),
        object("vi", "i", json!({"storage": "ContainerRegistry", "dataSource": http()})),
        object("cvi", "i", json!({"dataSource": http()})),
        vmip("Auto", ""),
        object("vmipl", "ip-10-66-10-9", json!({})),
        object("vmclass", "c", json!({"cpu": {"type": "Host"}})),
        object("vds", "s", json!({"virtualDiskName": "d"})),
        object("vms", "s", json!({"virtualMachineName": "m"})),
        object(
            "vmsop",
            "o",
            json!({"type": "CreateVirtualMachine", "virtualMachineSnapshotName": "s",
            "createVirtualMachine": {"mode": "Strict", "customization": {"namePrefix": "a"}}}),
        ),
        vmmac("a", "02:00:00:00:00:01"),
        object("vmmacl", "mac-02-00-00-00-00-01", json!({})),
    ]
}
