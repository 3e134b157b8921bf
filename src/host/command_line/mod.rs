//! A machine as QEMU arguments. Pure: everything that had to be found out or prepared comes in a [`Launch`].

use std::ffi::OsString;
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::host::network;
use crate::host::spec::{CpuModel, Firmware, MachineSpec, OsType};

mod disks;

pub(super) use disks::{can_hotplug, device_id, hotplug_device, node_name, node_names, nodes, qemu_id};

/// Written to QEMU's log when the guest powers itself off, not when it reboots.
pub(super) const SHUTDOWN_TRACE: &str = "qemu_system_shutdown_request reason=6";

/// Device id of the guest agent's port.
pub(super) const AGENT_PORT: &str = "agent0";

/// Name of the VNC socket in the launch directory.
pub(super) const VNC_SOCKET: &str = "vnc";

/// Name of the seed's file in the launch directory.
pub(super) const SEED_FILE: &str = "seed.iso";

/// System calls that no QEMU needs.
const SANDBOX: &str = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny";

/// What executes the guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Accelerator {
    /// The processor.
    Kvm,
    /// QEMU.
    Tcg,
}

/// One file of a disk; a copy-on-write disk has several, the topmost first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layer {
    /// The file.
    pub(super) path: PathBuf,
    /// QEMU's name of its format.
    pub(super) format: &'static str,
}

/// Listening sockets that QEMU inherits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SocketFds {
    /// The daemon's monitor.
    pub(super) qmp: RawFd,
    /// A second monitor, for people.
    pub(super) rescue: RawFd,
    /// The serial port.
    pub(super) serial: RawFd,
    /// The guest agent.
    pub(super) agent: RawFd,
}

/// UEFI firmware.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FirmwareFiles {
    /// Code, shared, read-only.
    pub(super) code: PathBuf,
    /// This machine's variables.
    pub(super) variables: PathBuf,
}

/// Everything that arguments are made from.
#[derive(Debug, Clone)]
pub(super) struct Launch<'a> {
    /// The machine.
    pub(super) spec: &'a MachineSpec,
    /// Versioned machine type, e.g. `pc-q35-10.0`.
    pub(super) machine_type: &'a str,
    /// What executes it.
    pub(super) accelerator: Accelerator,
    /// This QEMU can write [`SHUTDOWN_TRACE`].
    pub(super) shutdown_trace: bool,
    /// Inherited sockets.
    pub(super) sockets: SocketFds,
    /// Gets all output of the serial port, appended.
    pub(super) serial_log: &'a Path,
    /// Files of the firmware, unless it is SeaBIOS.
    pub(super) firmware: Option<FirmwareFiles>,
    /// `-netdev` that leads to the network's own process; without it the network lives in the machine's QEMU.
    pub(super) frames: Option<&'a Value>,
    /// The files behind each of the machine's devices, in the same order.
    pub(super) disks: &'a [Vec<Layer>],
}

/// A machine that QEMU cannot have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum CommandLineError {
    /// More devices than there are places.
    #[error("{count} block devices do not fit: without virtio this machine type has {places} places")]
    TooManyDevices {
        /// Asked for, with the seed.
        count: usize,
        /// Possible.
        places: usize,
    },
    /// IDE and SATA disks cannot be write-protected.
    #[error("{id} is read-only and not a CD-ROM: that needs enableParavirtualization")]
    ReadOnlyIde {
        /// The device.
        id: String,
    },
}

/// Machine type family: the prefix of versioned machine types.
pub(super) fn machine_family(os_type: OsType) -> &'static str {
    match os_type {
        OsType::Generic | OsType::Windows => "pc-q35-",
        OsType::Legacy => "pc-i440fx-",
    }
}

/// Slots on the root bus. Fixed, so that a guest finds its devices where they were, whatever else changes.
mod slot {
    pub(super) const VGA: u8 = 0x2;
    pub(super) const USB: u8 = 0x3;
    pub(super) const SCSI: u8 = 0x4;
    pub(super) const SERIAL: u8 = 0x5;
    pub(super) const BALLOON: u8 = 0x6;
    pub(super) const RNG: u8 = 0x7;
    pub(super) const PANIC: u8 = 0x8;
    pub(super) const NIC: u8 = 0x9;
    /// Further SATA controllers, or virtio-blk disks.
    pub(super) const DISKS: u8 = 0xa;
    /// From here on q35 has devices of its own.
    pub(super) const END: u8 = 0x1d;
}

/// Collects arguments.
struct Arguments(Vec<OsString>);

impl Arguments {
    fn flag(&mut self, name: &str) {
        self.0.push(name.into());
    }

    fn pair(&mut self, name: &str, value: impl Into<OsString>) {
        self.0.push(name.into());
        self.0.push(value.into());
    }

    fn json(&mut self, name: &str, value: &Value) {
        self.pair(name, value.to_string());
    }
}

/// QEMU's arguments (without the program). The working directory is the launch directory, which holds the seed
/// ([`SEED_FILE`]) and gets the VNC socket ([`VNC_SOCKET`]). The guest does not run until `cont`.
pub(super) fn arguments(launch: &Launch<'_>) -> Result<Vec<OsString>, CommandLineError> {
    let spec = launch.spec;
    let bus = if spec.os_type == OsType::Legacy { "pci.0" } else { "pcie.0" };
    let pci = |driver: &str, id: &str, slot: u8| json!({"driver": driver, "id": id, "bus": bus, "addr": format!("{slot:#x}")});
    let mut args = Arguments(Vec::new());
    general(&mut args, launch);
    compute(&mut args, launch);
    control(&mut args, launch);

    let mut graphics = pci("VGA", "video0", slot::VGA);
    graphics["vgamem_mb"] = 16.into();
    args.json("-device", &graphics);
    args.pair("-vnc", format!("unix:{VNC_SOCKET},share=ignore"));
    args.json("-device", &pci("qemu-xhci", "usb0", slot::USB));
    args.json("-device", &json!({"driver": "usb-tablet", "id": "tablet0", "bus": "usb0.0"}));
    args.json("-device", &pci("virtio-serial-pci", "vser0", slot::SERIAL));
    args.pair("-chardev", format!("socket,id=agent,fd={},server=on,wait=off", launch.sockets.agent));
    let port = json!({"driver": "virtserialport", "id": AGENT_PORT, "bus": "vser0.0", "chardev": "agent",
        "name": "org.qemu.guest_agent.0"});
    args.json("-device", &port);
    let mut balloon = pci("virtio-balloon-pci", "balloon0", slot::BALLOON);
    balloon["free-page-reporting"] = true.into();
    args.json("-device", &balloon);
    args.json("-device", &pci("virtio-rng-pci", "rng0", slot::RNG));
    args.json("-device", &pci("pvpanic-pci", "panic0", slot::PANIC));
    disks::add(&mut args, launch, &pci)?;
    if let Some(nic) = &spec.nic {
        match launch.frames {
            Some(frames) => args.json("-netdev", frames),
            None => args.json("-netdev", &network::netdev(nic, &network::hostname(&spec.name))),
        }
        let driver = match (spec.paravirtualization, spec.os_type) {
            (true, _) => "virtio-net-pci",
            (false, OsType::Legacy) => "rtl8139",
            (false, OsType::Generic | OsType::Windows) => "e1000",
        };
        let mut device = pci(driver, "nic0", slot::NIC);
        device["netdev"] = "net0".into();
        device["mac"] = network::mac_text(nic.mac).into();
        // Nothing boots from the network.
        device["romfile"] = "".into();
        args.json("-device", &device);
    }
    Ok(args.0)
}

/// QEMU's arguments for a network without a machine: the user network and a socket for the frames of one QEMU meet at
/// a hub. `frames` is a listening socket. It must not be started with `-S`: a held QEMU passes no frames on.
pub(super) fn network_arguments(name: &str, netdev: &str, monitor: RawFd, frames: RawFd) -> Vec<OsString> {
    let mut args = Arguments(Vec::new());
    args.flag("-nodefaults");
    args.flag("-no-user-config");
    args.pair("-name", format!("process={name},debug-threads=on"));
    args.pair("-machine", "none");
    args.pair("-display", "none");
    args.pair("-sandbox", SANDBOX);
    args.pair("-chardev", format!("socket,id=qmp,fd={monitor},server=on,wait=off"));
    args.pair("-mon", "chardev=qmp,mode=control");
    args.pair("-netdev", netdev);
    args.pair("-netdev", format!("stream,id=frames,server=on,addr.type=fd,addr.str={frames}"));
    args.pair("-netdev", "hubport,id=hub-net0,hubid=0,netdev=net0");
    args.pair("-netdev", "hubport,id=hub-frames,hubid=0,netdev=frames");
    args.0
}

fn general(args: &mut Arguments, launch: &Launch<'_>) {
    let spec = launch.spec;
    args.flag("-nodefaults");
    args.flag("-no-user-config");
    let name = safe_name(&spec.name);
    args.pair("-name", format!("guest={name},process=vm-{},debug-threads=on", network::hostname(&spec.name)));
    args.pair("-uuid", spec.uuid.to_string());
    let mut machine = format!("{},usb=off,dump-guest-core=off,memory-backend=ram0", launch.machine_type);
    if let Some(files) = &launch.firmware {
        let code = json!({"driver": "file", "node-name": "efi-code-file", "filename": path_text(&files.code), "read-only": true});
        args.json("-blockdev", &code);
        args.json(
            "-blockdev",
            &json!({"driver": "raw", "node-name": "efi-code", "file": "efi-code-file", "read-only": true}),
        );
        let variables =
            json!({"driver": "file", "node-name": "efi-vars-file", "filename": path_text(&files.variables)});
        args.json("-blockdev", &variables);
        args.json("-blockdev", &json!({"driver": "raw", "node-name": "efi-vars", "file": "efi-vars-file"}));
        machine.push_str(",pflash0=efi-code,pflash1=efi-vars");
    }
    if spec.firmware == Firmware::EfiSecureBoot {
        machine.push_str(",smm=on");
        args.pair("-global", "driver=cfi.pflash01,property=secure,value=on");
        args.pair("-global", "ICH9-LPC.disable_s3=1");
    }
    args.pair("-machine", machine);
    args.pair("-boot", "menu=off,strict=on");
    args.flag("-S");
    // A guest's end holds QEMU, so that a daemon that was away can still read how it ended.
    args.pair("-action", "shutdown=pause,panic=pause,reboot=shutdown");
    args.pair("-display", "none");
    args.pair("-rtc", "base=utc,driftfix=slew");
    args.pair("-sandbox", SANDBOX);
    if launch.shutdown_trace {
        args.pair("-trace", "enable=qemu_system_shutdown_request");
    }
}

fn compute(args: &mut Arguments, launch: &Launch<'_>) {
    let spec = launch.spec;
    match launch.accelerator {
        Accelerator::Kvm => args.pair("-accel", "kvm"),
        Accelerator::Tcg => args.pair("-accel", "tcg,thread=multi,tb-size=128"),
    }
    let mut model = match &spec.cpu.model {
        CpuModel::Host if launch.accelerator == Accelerator::Kvm => "host".to_owned(),
        CpuModel::Host => "max".to_owned(),
        CpuModel::Named(name) => safe_word(name),
        CpuModel::Features(features) => {
            features.iter().fold("qemu64".to_owned(), |model, feature| format!("{model},+{}", safe_word(feature)))
        }
    };
    if spec.os_type == OsType::Windows && launch.accelerator == Accelerator::Kvm {
        model.push_str(
            ",hv-relaxed=on,hv-vapic=on,hv-spinlocks=8191,hv-vpindex=on,hv-runtime=on,hv-synic=on,hv-stimer=on,\
             hv-stimer-direct=on,hv-reset=on,hv-frequencies=on,hv-reenlightenment=on,hv-tlbflush=on,hv-ipi=on",
        );
    }
    args.pair("-cpu", model);
    let (sockets, cores) = (spec.cpu.sockets.max(1), spec.cpu.cores_per_socket.max(1));
    args.pair("-smp", format!("{},sockets={sockets},cores={cores},threads=1", sockets.saturating_mul(cores)));
    let mebibytes = spec.memory_bytes.div_ceil(1 << 20).max(1);
    args.pair("-m", format!("{mebibytes}M"));
    // Shared anonymous memory: what a later handover of the guest to another QEMU process needs.
    args.json(
        "-object",
        &json!({"qom-type": "memory-backend-memfd", "id": "ram0", "size": mebibytes << 20, "share": true}),
    );
}

fn control(args: &mut Arguments, launch: &Launch<'_>) {
    let sockets = launch.sockets;
    for (id, fd) in [("qmp", sockets.qmp), ("rescue", sockets.rescue)] {
        args.pair("-chardev", format!("socket,id={id},fd={fd},server=on,wait=off"));
        args.pair("-mon", format!("chardev={id},mode=control"));
    }
    let log = path_text(launch.serial_log).replace(',', ",,");
    args.pair(
        "-chardev",
        format!("socket,id=serial0,fd={},server=on,wait=off,logfile={log},logappend=on", sockets.serial),
    );
    args.pair("-serial", "chardev:serial0");
}

fn safe_name(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_graphic() && c != ',' { c } else { '_' }).take(255).collect()
}

/// Characters that mean nothing in QEMU's option syntax.
fn safe_word(word: &str) -> String {
    word.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')).collect()
}

/// QEMU takes paths as text; the state directory's name is checked to be UTF-8 when the host is opened.
pub(super) fn path_text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests;
