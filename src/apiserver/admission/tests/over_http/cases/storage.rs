//! What disks, images, attachments and snapshots may be.

use serde_json::{Value, json};

use super::*;

pub(super) fn storage() -> Vec<Case> {
    let source = |source: Value| vd(json!({ "dataSource": source }));
    let fetched = |patch: Value| source(with(http(), json!({ "http": patch })));
    let image_of = |source: Value| object("vi", "i", json!({"storage": "ContainerRegistry", "dataSource": source}));
    let cluster = |source: Value| object("cvi", "i", json!({ "dataSource": source }));
    let other = || json!({"type": "HTTP", "http": {"url": "http://x/z"}});
    let of_disk = |namespace: Value| json!({"type": "ObjectRef", "objectRef": {"kind": "VirtualDisk", "name": "d", "namespace": namespace}});
    let dotted = |object: Value| with(object, json!({"metadata": {"name": "a.b"}}));
    let registry = |image: &str| source(json!({"type": "ContainerImage", "containerImage": {"image": image}}));
    let moved = || with(sized(json!("2Gi")), json!({"spec": {"persistentVolumeClaim": {"storageClassName": "x"}}}));
    let attached = |name: &str, machine: &str, disk: &str| vmbda(name, machine, disk);
    let sixteen = || with(vm(many(16)), json!({"metadata": {"name": "full"}}));
    vec![
        case(
            "12.3 blank",
            Create,
            object("vd", "new", json!({})),
            "a blank disk needs a size",
            vd(json!({"persistentVolumeClaim": {"size": "1Gi"}})),
        ),
        case("12.3 nothing", Always, sized(json!("0")), "must be a positive quantity", sized(json!("1Gi"))),
        case("12.1 url", Always, fetched(json!({"url": "ftp://x"})), "should match", source(http())),
        case(
            "12.1 checksum",
            Always,
            fetched(json!({"checksum": {"md5": "abc"}})),
            "md5",
            fetched(json!({"checksum": {"md5": "0".repeat(32)}})),
        ),
        case(
            "12.1 bundle",
            Always,
            fetched(json!({"caBundle": "***"})),
            "must be of type byte",
            fetched(json!({"caBundle": "YQ=="})),
        ),
        case(
            "12.1 image reference",
            Always,
            registry("UPPER/x"),
            "should match",
            registry("registry.example:5000/a/b:1"),
        ),
        case(
            "12.1 source",
            Always,
            source(json!({"type": "HTTP"})),
            "HTTP requires http and cannot have",
            source(http()),
        ),
        case(
            "12.1 source twice",
            Always,
            source(with(http(), json!({"upload": {}}))),
            "HTTP requires http and cannot have",
            source(http()),
        ),
        case(
            "12.1 kind of source",
            Always,
            source(json!({"type": "ObjectRef", "objectRef": {"kind": "VirtualDisk", "name": "a"}})),
            "Unsupported value: \"VirtualDisk\"",
            source(json!({"type": "ObjectRef", "objectRef": {"kind": "VirtualDiskSnapshot", "name": "a"}})),
        ),
        case("19 dot", Always, dotted(source(http())), "a dot is forbidden", source(http())),
        case(
            "12.3 shrink",
            Update,
            sized(json!("1Gi")),
            "a disk cannot shrink",
            in_phase(sized(json!("2Gi")), "Ready"),
        ),
        case(
            "12.3 no size any more",
            Update,
            sized(Value::Null),
            "the size cannot be removed",
            in_phase(sized(json!("2Gi")), "Ready"),
        ),
        case(
            "12.3 grow while moving",
            Update,
            sized(json!("3Gi")),
            "the disk is migrating; wait",
            in_phase(sized(json!("2Gi")), "Migrating"),
        ),
        case(
            "12.3 other source",
            Update,
            with(sized(json!("2Gi")), json!({"spec": {"dataSource": other()}})),
            "spec.dataSource: Forbidden: cannot be changed",
            in_phase(sized(json!("2Gi")), "Ready"),
        ),
        case(
            "12.3 other storage",
            Update,
            moved(),
            "moving to another storage class is not available",
            in_phase(sized(json!("2Gi")), "Ready"),
        ),
        case("19 dot in an image", Always, dotted(image_of(http())), "a dot is forbidden", image_of(http())),
        case(
            "13 storage",
            Always,
            with(image_of(http()), json!({"spec": {"storage": "Tape"}})),
            "Unsupported value: \"Tape\"",
            image_of(http()),
        ),
        case(
            "13 other source",
            Update,
            image_of(other()),
            "spec.dataSource: Forbidden: cannot be changed",
            in_phase(image_of(http()), "Ready"),
        ),
        case(
            "13 other storage",
            Update,
            with(image_of(http()), json!({"spec": {"storage": "PersistentVolumeClaim"}})),
            "spec.storage: Forbidden",
            in_phase(image_of(http()), "Ready"),
        ),
        case("19 dot in a cluster image", Always, dotted(cluster(http())), "a dot is forbidden", cluster(http())),
        case(
            "13 namespace",
            Always,
            cluster(of_disk(Value::Null)),
            "The namespace is required for VirtualDisk",
            cluster(of_disk(json!("n"))),
        ),
        case(
            "13 long namespace",
            Always,
            cluster(of_disk(json!("n".repeat(64)))),
            "must be no longer than 63 characters",
            cluster(of_disk(json!("n".repeat(63)))),
        ),
        case(
            "13 any change",
            Update,
            cluster(other()),
            "cannot be changed once the image is ready",
            in_phase(cluster(http()), "Ready"),
        ),
        case(
            "11 frozen",
            Update,
            attached("a", "m", "other"),
            "spec: Forbidden: cannot be changed",
            attached("a", "m", "data"),
        ),
        case(
            "11 machine",
            Create,
            attached("new", "", "data"),
            "should be at least 1 chars long",
            attached("a", "m", "data"),
        ),
        among(
            &[attached("first", "x", "data")],
            case(
                "19 one attachment",
                Create,
                attached("new", "m", "data"),
                "is already attached by VirtualMachineBlockDeviceAttachment \"first\"",
                attached("a", "m", "free"),
            ),
        ),
        among(
            &[vm(json!({}))],
            case(
                "11 in the spec",
                Create,
                attached("new", "m", "root"),
                "VirtualDisk \"root\" is already in spec.blockDeviceRefs of VirtualMachine \"m\"",
                attached("a", "m", "free"),
            ),
        ),
        among(
            &[sixteen()],
            case(
                "19 seventeenth device",
                Create,
                attached("new", "full", "x"),
                "limit reached: found 17 devices",
                attached("a", "m", "x"),
            ),
        ),
    ]
}

pub(super) fn snapshots() -> Vec<Case> {
    let vds = |name: &str, disk: &str| object("vds", name, json!({ "virtualDiskName": disk }));
    let vms = |name: &str, patch: Value| object("vms", name, with(json!({"virtualMachineName": "m"}), patch));
    let vmsop = |name: &str, patch: Value| {
        let spec = json!({"type": "CreateVirtualMachine", "virtualMachineSnapshotName": "s",
            "createVirtualMachine": {"mode": "Strict", "customization": {"namePrefix": "a"}}});
        object("vmsop", name, with(spec, patch))
    };
    vec![
        case("14.1 disk", Create, vds("new", ""), "should be at least 1 chars long", vds("s", "d")),
        case("19 frozen", Update, vds("s", "other"), "spec: Forbidden: cannot be changed", vds("s", "d")),
        case(
            "14.2 machine",
            Create,
            vms("new", json!({"virtualMachineName": null})),
            "spec.virtualMachineName: Required value",
            vms("s", json!({})),
        ),
        case(
            "14.2 address",
            Create,
            vms("new", json!({"keepIPAddress": "Perhaps"})),
            "Unsupported value: \"Perhaps\"",
            vms("s", json!({"keepIPAddress": "Never"})),
        ),
        case(
            "19 frozen",
            Update,
            vms("s", json!({"requiredConsistency": false})),
            "spec: Forbidden: cannot be changed",
            vms("s", json!({})),
        ),
        case(
            "14.4 frozen",
            Update,
            vmsop("o", json!({"virtualMachineSnapshotName": "t"})),
            ".spec is immutable",
            vmsop("o", json!({})),
        ),
        case(
            "14.4 type",
            Create,
            vmsop("new", json!({"type": "Burn"})),
            "Unsupported value: \"Burn\"",
            vmsop("o", json!({})),
        ),
        case(
            "14.4 names",
            Create,
            vmsop("new", json!({"createVirtualMachine": {"customization": null}})),
            "At least one of customization.namePrefix",
            vmsop("o", json!({})),
        ),
        case(
            "14.4 suffix",
            Create,
            vmsop("new", json!({"createVirtualMachine": {"customization": {"nameSuffix": "x".repeat(60)}}})),
            "nameSuffix length must be between",
            vmsop("o", json!({})),
        ),
    ]
}
