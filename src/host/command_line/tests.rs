use std::net::Ipv4Addr;

use super::*;
use crate::host::spec::{BlockDevice, Cpu, Nic, Seed, VolumeId, VolumeKind};

fn device(id: &str, serial: &str, boot_index: Option<u32>) -> BlockDevice {
    BlockDevice {
        id: id.into(),
        volume: VolumeId { kind: VolumeKind::Disk, uid: id.into() },
        serial: serial.into(),
        read_only: false,
        cdrom: false,
        boot_index,
    }
}

fn machine() -> MachineSpec {
    MachineSpec {
        name: "default/web-1".into(),
        uuid: uuid::Uuid::from_u128(0x1234),
        cpu: Cpu { sockets: 1, cores_per_socket: 2, model: CpuModel::Host, core_fraction: 10 },
        memory_bytes: 1 << 30,
        firmware: Firmware::Bios,
        os_type: OsType::Generic,
        paravirtualization: true,
        devices: vec![
            device("vd-root", "5d41402abc4b2a76b9719d911017c592", Some(1)),
            BlockDevice { read_only: true, ..device("vi-tools", "7d793037a0760186574b0282f2f435e7", Some(2)) },
        ],
        seed: Some(Seed::CloudInit { user_data: Vec::new(), hostname: "web-1".into() }),
        nic: Some(Nic {
            mac: [0x52, 0x54, 0, 0x12, 0x34, 0x56],
            address: Ipv4Addr::new(10, 66, 10, 12),
            network: ipnet::Ipv4Net::new_assert(Ipv4Addr::new(10, 66, 10, 0), 24),
        }),
    }
}

fn qcow2(path: &str) -> Layer {
    Layer { path: path.into(), format: "qcow2" }
}

fn render(spec: &MachineSpec, accelerator: Accelerator) -> Result<String, CommandLineError> {
    let disks: Vec<Vec<Layer>> = spec
        .devices
        .iter()
        .map(|device| match device.id.as_str() {
            "vd-root" => vec![qcow2("/s/volumes/disk/root/data"), qcow2("/s/volumes/image/base/data")],
            id => vec![qcow2(&format!("/s/volumes/image/{id}/data"))],
        })
        .collect();
    let firmware = (spec.firmware != Firmware::Bios)
        .then(|| FirmwareFiles { code: "/fw/code.fd".into(), variables: "/s/machines/u/efi-vars.fd".into() });
    let launch = Launch {
        spec,
        machine_type: if spec.os_type == OsType::Legacy { "pc-i440fx-10.0" } else { "pc-q35-10.0" },
        accelerator,
        shutdown_trace: true,
        sockets: SocketFds { qmp: 10, rescue: 11, serial: 12, agent: 13 },
        serial_log: Path::new("/s/machines/u,1/serial.log"),
        firmware,
        frames: None,
        disks: &disks,
    };
    let mut text = String::new();
    for argument in arguments(&launch)? {
        let argument = argument.into_string().unwrap();
        // One option a line, its value behind it.
        text.push_str(if argument.starts_with('-') { "\n" } else { " " });
        text.push_str(&argument);
    }
    Ok(text.trim_start().to_owned() + "\n")
}

fn golden(name: &str, spec: &MachineSpec, accelerator: Accelerator) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/argv").join(name);
    let got = render(spec, accelerator).unwrap();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, &got).unwrap();
    }
    let expected = std::fs::read_to_string(&file).unwrap_or_default();
    assert_eq!(got, expected, "differs from {}; UPDATE_GOLDEN=1 rewrites it", file.display());
}

#[test]
fn generic_machine_under_tcg() {
    golden("generic-tcg.txt", &machine(), Accelerator::Tcg);
}

#[test]
fn a_network_without_a_machine() {
    let arguments = network_arguments("net-web-1", "{\"type\":\"user\",\"id\":\"net0\"}", 10, 11);
    let text = arguments.iter().map(|argument| argument.to_str().unwrap()).collect::<Vec<_>>().join(" ");
    assert_eq!(
        text,
        "-nodefaults -no-user-config -name process=net-web-1,debug-threads=on -machine none -display none -sandbox \
         on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny -chardev \
         socket,id=qmp,fd=10,server=on,wait=off -mon chardev=qmp,mode=control -netdev \
         {\"type\":\"user\",\"id\":\"net0\"} -netdev stream,id=frames,server=on,addr.type=fd,addr.str=11 -netdev \
         hubport,id=hub-net0,hubid=0,netdev=net0 -netdev hubport,id=hub-frames,hubid=0,netdev=frames"
    );
}

#[test]
fn windows_machine_with_secure_boot_under_kvm() {
    let spec = MachineSpec {
        os_type: OsType::Windows,
        firmware: Firmware::EfiSecureBoot,
        seed: Some(Seed::Sysprep(Vec::new())),
        ..machine()
    };
    golden("windows-secure-kvm.txt", &spec, Accelerator::Kvm);
}

#[test]
fn legacy_machine_with_virtio_disks() {
    let mut spec = MachineSpec { os_type: OsType::Legacy, seed: None, ..machine() };
    spec.devices[1].cdrom = true;
    golden("legacy-virtio.txt", &spec, Accelerator::Tcg);
}

#[test]
fn sata_machine_with_many_disks() {
    let mut spec = MachineSpec { paravirtualization: false, firmware: Firmware::Efi, nic: None, ..machine() };
    spec.cpu.model = CpuModel::Features(vec!["avx".into(), "evil,foo=bar".into()]);
    spec.devices = (0..8).map(|n| device(&format!("vd-{n}"), "", None)).collect();
    golden("sata-efi.txt", &spec, Accelerator::Tcg);
}

#[test]
fn ide_has_four_places() {
    let mut spec = MachineSpec { os_type: OsType::Legacy, paravirtualization: false, seed: None, ..machine() };
    spec.devices = (0..5).map(|n| device(&format!("vd-{n}"), "", None)).collect();
    let error = render(&spec, Accelerator::Tcg).unwrap_err();
    assert_eq!(error, CommandLineError::TooManyDevices { count: 5, places: 4 });
}

#[test]
fn ids_stay_distinct_and_short() {
    assert_eq!(qemu_id("vd-root"), "vd-root");
    let long = "vd-a-very-long-disk-name-of-somebody";
    assert!(qemu_id(long).len() <= 24, "{}", qemu_id(long));
    assert_ne!(qemu_id(long), qemu_id(&format!("{long}2")));
    assert_ne!(qemu_id("vd,a"), qemu_id("vd=a"));
    assert!(node_names(long, 3).iter().all(|name| name.len() <= 31));
}

/// upstream.md 8.4, row by row: what a setting puts on the command line and what it keeps off.
#[test]
fn guest_hardware_by_setting() {
    let with = |os_type, paravirtualization, firmware| {
        let mut spec = MachineSpec { os_type, paravirtualization, firmware, seed: None, ..machine() };
        spec.devices[1] = BlockDevice { cdrom: true, ..spec.devices[1].clone() };
        spec
    };
    let (generic, windows, legacy) = (OsType::Generic, OsType::Windows, OsType::Legacy);
    let scsi = ["\"scsi-hd\"", "\"scsi-cd\"", "virtio-scsi-pci", "virtio-net-pci"];
    for (name, spec, accelerator, has, lacks) in [
        (
            "Generic",
            with(generic, true, Firmware::Bios),
            Accelerator::Tcg,
            vec!["pc-q35-"],
            vec!["hv-", "pflash", "smm=on"],
        ),
        (
            "Windows",
            with(windows, true, Firmware::Bios),
            Accelerator::Kvm,
            vec!["pc-q35-", "hv-relaxed", "hv-ipi"],
            vec![],
        ),
        ("Windows, emulated", with(windows, true, Firmware::Bios), Accelerator::Tcg, vec!["pc-q35-"], vec!["hv-"]),
        ("Legacy", with(legacy, true, Firmware::Bios), Accelerator::Tcg, vec!["pc-i440fx-"], vec!["pcie.0"]),
        (
            "paravirtualization",
            with(generic, true, Firmware::Bios),
            Accelerator::Tcg,
            scsi.to_vec(),
            vec!["e1000", "ide-hd"],
        ),
        (
            "none",
            with(generic, false, Firmware::Bios),
            Accelerator::Tcg,
            vec!["\"ide-hd\"", "\"ide-cd\"", "e1000"],
            vec!["virtio-scsi", "virtio-net"],
        ),
        (
            "Legacy with it",
            with(legacy, true, Firmware::Bios),
            Accelerator::Tcg,
            vec!["virtio-blk-pci", "\"ide-cd\"", "virtio-net-pci"],
            vec!["virtio-scsi"],
        ),
        (
            "Legacy without",
            with(legacy, false, Firmware::Bios),
            Accelerator::Tcg,
            vec!["\"ide-hd\"", "rtl8139"],
            vec!["virtio-blk", "virtio-net"],
        ),
        ("EFI", with(generic, true, Firmware::Efi), Accelerator::Tcg, vec!["pflash0=", "pflash1="], vec!["smm=on"]),
        (
            "EFIWithSecureBoot",
            with(generic, true, Firmware::EfiSecureBoot),
            Accelerator::Tcg,
            vec!["pflash0=", "efi-vars.fd", "smm=on", "property=secure,value=on"],
            vec![],
        ),
    ] {
        let argv = render(&spec, accelerator).unwrap();
        let always = ["usb-tablet", "-vnc ", "-serial chardev:serial0", "org.qemu.guest_agent.0", "reboot=shutdown"];
        for part in always.iter().chain(&has) {
            assert!(argv.contains(part), "{name} has no {part}:\n{argv}");
        }
        for part in lacks {
            assert!(!argv.contains(part), "{name} has {part}:\n{argv}");
        }
        // Errors of a disk are told to the guest; it is not paused.
        assert!(argv.contains("\"werror\":\"report\""), "{name}:\n{argv}");
    }
}
