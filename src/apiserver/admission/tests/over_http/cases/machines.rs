//! What machines may be.

use serde_json::{Value, json};

use super::*;

pub(super) fn machines() -> Vec<Case> {
    let named = |name: &str| with(vm(json!({})), json!({"metadata": {"name": name}}));
    let label = |key: &str| with(vm(json!({})), json!({"metadata": {"labels": {key: "x"}}}));
    let note = |key: &str| with(vm(json!({})), json!({"metadata": {"annotations": {key: "x"}}}));
    let ordered = |a: i64, b: i64| {
        vm(json!({"blockDeviceRefs": [{"kind": "VirtualDisk", "name": "a", "bootOrder": a},
            {"kind": "VirtualImage", "name": "b", "bootOrder": b}]}))
    };
    let data =
        |length: usize| vm(json!({"provisioning": {"type": "UserData", "userData": format!("{:<length$}", "#!")}}));
    let provisioned = |provisioning: Value| vm(json!({ "provisioning": provisioning }));
    let legacy = |patch: Value| vm(with(json!({"osType": "Legacy"}), patch));
    let networks = |networks: Value| vm(json!({ "networks": networks }));
    let tolerate = |operator: &str| vm(json!({"tolerations": [{"key": "a", "operator": operator, "value": "b"}]}));
    let usb = |names: &[&str]| vm(json!({"usbDevices": names.iter().map(|n| json!({"name": n})).collect::<Vec<_>>()}));
    let other = with(usb(&["stick"]), json!({"metadata": {"name": "other"}}));
    let plain = || vm(json!({}));
    vec![
        case(
            "2 name",
            Always,
            named(&"x".repeat(64)),
            "the name is too long: it has 64 characters, at most 63",
            named(&"x".repeat(63)),
        ),
        case(
            "19 labels",
            Always,
            label("vm.kubevirt.io/a"),
            "using the group's name kubevirt.io is prohibited",
            label("a.io/a"),
        ),
        case(
            "19 annotations",
            Always,
            note("kubevirt.io/a"),
            "using the group's name kubevirt.io is prohibited",
            note("a.io/a"),
        ),
        case(
            "2 class",
            Always,
            vm(json!({"virtualMachineClassName": null})),
            "there is no default VirtualMachineClass",
            plain(),
        ),
        case(
            "2 runPolicy",
            Always,
            vm(json!({"runPolicy": "Sometimes"})),
            "Unsupported value: \"Sometimes\"",
            vm(json!({"runPolicy": "Manual"})),
        ),
        case("2 cores", Always, vm(json!({"cpu": {"cores": 0}})), "spec.cpu.cores", plain()),
        case(
            "2 coreFraction",
            Always,
            vm(json!({"cpu": {"coreFraction": "101%"}})),
            "should match",
            vm(json!({"cpu": {"coreFraction": "100%"}})),
        ),
        case(
            "2 coreFraction of EE",
            Always,
            vm(json!({"cpu": {"coreFraction": "Auto"}})),
            "needs the vertical autoscaler",
            plain(),
        ),
        case("2 memory", Always, vm(json!({"memory": {"size": "0"}})), "must be a positive quantity", plain()),
        case("2 no devices", Always, vm(disks(&[])), "should have at least 1 items", plain()),
        case("2 seventeen devices", Always, vm(many(17)), "Too many: 17: must have at most 16 items", vm(many(16))),
        case(
            "2 kinds of devices",
            Always,
            vm(json!({"blockDeviceRefs": [{"kind": "Floppy", "name": "a"}]})),
            "Unsupported value: \"Floppy\"",
            plain(),
        ),
        case(
            "19 one device twice",
            Always,
            vm(disks(&["a", "a"])),
            r#"Duplicate value: {"kind":"VirtualDisk","name":"a"}"#,
            vm(disks(&["a", "b"])),
        ),
        case(
            "19 bootOrder twice",
            Always,
            ordered(1, 1),
            "both VirtualDisk a and VirtualImage b have this bootOrder",
            ordered(1, 2),
        ),
        case("19 bootOrder", Always, ordered(0, 1), "should be greater than or equal to 1", ordered(2, 1)),
        case(
            "2 provisioning",
            Always,
            provisioned(json!({"type": "UserData"})),
            "spec.provisioning.userData: Required value",
            data(10),
        ),
        case(
            "2 provisioning of two kinds",
            Always,
            provisioned(json!({"type": "UserDataRef", "userDataRef": {"name": "s"}, "userData": "x"})),
            "the type is UserDataRef: only userDataRef may be set",
            provisioned(json!({"type": "UserDataRef", "userDataRef": {"name": "s"}})),
        ),
        case(
            "9 length",
            Always,
            data(2049),
            "`userData` exceeds 2048 byte limit; should use `userDataRef`",
            data(2048),
        ),
        case(
            "2 address name",
            Always,
            vm(json!({"virtualMachineIPAddressName": ""})),
            "should be at least 1 chars long",
            plain(),
        ),
        case(
            "2 Legacy bootloader",
            Always,
            legacy(json!({"bootloader": "EFI"})),
            "The Legacy osType requires the BIOS bootloader.",
            legacy(json!({})),
        ),
        case(
            "2 Legacy provisioning",
            Always,
            legacy(json!({"provisioning": {"type": "UserData", "userData": "#!"}})),
            "The Legacy osType does not support provisioning",
            legacy(json!({})),
        ),
        case(
            "2 Legacy devices",
            Always,
            legacy(with(many(5), json!({"enableParavirtualization": false}))),
            "supports at most 4 block devices.",
            legacy(many(5)),
        ),
        case(
            "8.3 multiple",
            Always,
            vm(json!({"cpu": {"cores": 17}})),
            "must be a multiple of 2; the nearest are 16 and 18",
            vm(json!({"cpu": {"cores": 18}})),
        ),
        case(
            "8.3 most",
            Always,
            vm(json!({"cpu": {"cores": 256}})),
            "the number of cores should not exceed 248",
            vm(json!({"cpu": {"cores": 248}})),
        ),
        case(
            "8.5 second Main",
            Always,
            networks(json!([{"type": "Main"}, {"type": "Main"}])),
            "the Main network comes first and only once",
            networks(json!([{"type": "Main"}])),
        ),
        case(
            "8.5 Main's name",
            Always,
            networks(json!([{"type": "Main", "name": "n"}])),
            "the Main network has no name",
            networks(json!([{"type": "Main", "id": 1}])),
        ),
        case(
            "8.5 Main's id",
            Always,
            networks(json!([{"type": "Main", "id": 2}])),
            "the Main network has 1, others have 2 to 16383",
            networks(json!([{"type": "Main", "id": 1}])),
        ),
        case(
            "8.5 SDN",
            Always,
            networks(json!([{"type": "Main"}, {"type": "Network", "name": "n"}])),
            "additional networks need the SDN module",
            networks(json!([{"type": "Main"}])),
        ),
        case(
            "8.5 unnamed",
            Always,
            networks(json!([{"type": "Main"}, {"type": "Network"}])),
            "which Network is meant",
            networks(json!([{"type": "Main"}])),
        ),
        case(
            "19 address without Main",
            Always,
            vm(json!({"networks": [{"type": "Network", "name": "n"}], "virtualMachineIPAddressName": "a"})),
            "the address belongs to the Main network, which spec.networks leaves out",
            vm(json!({"networks": [{"type": "Main"}], "virtualMachineIPAddressName": "a"})),
        ),
        case(
            "19 address, no subnets",
            Always,
            vm(json!({"virtualMachineIPAddressName": "a"})),
            "virtualMachineCIDRs",
            plain(),
        ),
        among(
            &[bound(object("vmip", "m", json!({"type": "Auto"})), "10.66.10.3")],
            case(
                "15.3 address of the machine's name",
                Create,
                plain(),
                "a VirtualMachineIPAddress named \"m\" (10.66.10.3) exists: set this field",
                vm(json!({"virtualMachineIPAddressName": "m"})),
            ),
        ),
        case("19 affinity", Always, vm(near("Near")), "spec.affinity.nodeAffinity", vm(near("Exists"))),
        case(
            "19 spreading",
            Always,
            vm(spread(0)),
            "spec.topologySpreadConstraints[0].maxSkew: Invalid value: 0",
            vm(spread(1)),
        ),
        case(
            "2 tolerations",
            Always,
            tolerate("Near"),
            "spec.tolerations[0].operator: Unsupported value",
            tolerate("Equal"),
        ),
        case(
            "2 nodeSelector",
            Always,
            vm(json!({"nodeSelector": {"a": "b c"}})),
            "spec.nodeSelector.a",
            vm(json!({"nodeSelector": {"a": "b"}})),
        ),
        among(
            &[image(true), image(false)],
            case(
                "19 first device",
                Always,
                vm(from_image("disk")),
                "cannot be the first block device: it is not a CD-ROM image",
                vm(from_image("iso")),
            ),
        ),
        among(
            &[vmbda("hot", "other", "data")],
            case(
                "19 attached device",
                Always,
                vm(disks(&["root", "data"])),
                "VirtualDisk \"data\" is already attached by VirtualMachineBlockDeviceAttachment \"hot\"",
                vm(disks(&["root"])),
            ),
        ),
        among(
            &[vmbda("hot", "m", "data")],
            case(
                "10 sixteen with attachments",
                Always,
                vm(many(16)),
                "limit reached: found 17 devices, 16 is maximum",
                vm(many(15)),
            ),
        ),
        case(
            "19 USB device twice",
            Always,
            usb(&["a", "a"]),
            "spec.usbDevices[1].name: Duplicate value",
            usb(&["a", "b"]),
        ),
        among(
            &[other],
            case(
                "19 USB device of another",
                Always,
                usb(&["stick"]),
                "USBDevice \"stick\" is already used by VirtualMachine \"other\"",
                usb(&["mouse"]),
            ),
        ),
    ]
}

pub(super) fn sizing() -> Vec<Case> {
    let small = |patch: Value| vec![class(policy(patch))];
    let size = |cores: i64, memory: &str| vm(json!({"cpu": {"cores": cores}, "memory": {"size": memory}}));
    let share = |fraction: &str| vm(json!({"cpu": {"coreFraction": fraction}}));
    let frame = "VirtualMachine does not match the sizing policy of VirtualMachineClass \"generic\": ";
    let memory = |memory: Value| small(json!({ "memory": memory }));
    let rows: Vec<(&str, Vec<Value>, Value, &str, Value)> = vec![
        (
            "8.2 policy",
            small(json!({})),
            vm(json!({"cpu": {"cores": 8, "coreFraction": "100%"}})),
            "spec.cpu.cores is 8, allowed are 1 to 4",
            size(4, "1Gi"),
        ),
        (
            "8.2 core step",
            small(json!({"cores": {"min": 1, "max": 8, "step": 3}})),
            size(3, "1Gi"),
            "the nearest allowed are 1 and 4",
            size(4, "1Gi"),
        ),
        (
            "8.2 fraction",
            small(json!({"coreFractions": [5, 10]})),
            share("20%"),
            "spec.cpu.coreFraction is 20%, allowed are 5%, 10%",
            share("10%"),
        ),
        (
            "8.2 memory",
            memory(json!({"min": "1Gi", "max": "4Gi"})),
            size(2, "8Gi"),
            "spec.memory.size is 8Gi, allowed is 1Gi to 4Gi",
            size(2, "4Gi"),
        ),
        (
            "8.2 memory step",
            memory(json!({"min": "1Gi", "max": "4Gi", "step": "1Gi"})),
            size(2, "1536Mi"),
            "the nearest allowed are 1Gi and 2Gi",
            size(2, "2Gi"),
        ),
        (
            "8.2 memory per core",
            memory(json!({"perCore": {"min": "1Gi", "max": "2Gi"}})),
            size(2, "1Gi"),
            "for each of 2 cores, allowed is 1Gi to 2Gi for each",
            size(2, "2Gi"),
        ),
    ];
    let mut cases: Vec<Case> = rows
        .into_iter()
        .map(|(section, world, refused, says, accepted)| among(&world, case(section, Always, refused, says, accepted)))
        .collect();
    let framed = case("8.2 wording", Always, share("20%"), frame, share("10%"));
    cases.push(among(&small(json!({"coreFractions": [5, 10]})), framed));
    let open =
        case("8.2 no default fraction", Always, vm(json!({})), "must be given; allowed are 5%, 10%", share("10%"));
    cases.push(among(&small(json!({"coreFractions": [5, 10]})), open));
    cases
}
