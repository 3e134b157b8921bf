//! A machine as QEMU arguments. Pure: everything that had to be found out or prepared comes in a [`Launch`].

use std::ffi::OsString;
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::network;
use super::spec::{BlockDevice, CpuModel, Firmware, MachineSpec, OsType, Seed, VolumeKind};

/// Written to QEMU's log when the guest powers itself off, not when it reboots.
pub(super) const SHUTDOWN_TRACE: &str = "qemu_system_shutdown_request reason=6";

/// Device id of the guest agent's port.
pub(super) const AGENT_PORT: &str = "agent0";

/// Name of the VNC socket in the launch directory.
pub(super) const VNC_SOCKET: &str = "vnc";

/// Name of the seed's file in the launch directory.
pub(super) const SEED_FILE: &str = "seed.iso";

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

/// The bus that block devices are on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DiskBus {
    VirtioScsi,
    VirtioBlk,
    Sata,
    Ide,
}

fn disk_bus(spec: &MachineSpec) -> DiskBus {
    match (spec.os_type, spec.paravirtualization) {
        (OsType::Legacy, true) => DiskBus::VirtioBlk,
        (OsType::Legacy, false) => DiskBus::Ide,
        (OsType::Generic | OsType::Windows, true) => DiskBus::VirtioScsi,
        (OsType::Generic | OsType::Windows, false) => DiskBus::Sata,
    }
}

/// Block devices can be added while it runs.
pub(super) fn can_hotplug(spec: &MachineSpec) -> bool {
    disk_bus(spec) == DiskBus::VirtioScsi
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
    disks(&mut args, launch, &pci)?;
    if let Some(nic) = &spec.nic {
        args.json("-netdev", &network::netdev(nic, &network::hostname(&spec.name)));
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
    args.pair("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
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

fn disks(
    args: &mut Arguments,
    launch: &Launch<'_>,
    pci: &dyn Fn(&str, &str, u8) -> Value,
) -> Result<(), CommandLineError> {
    let spec = launch.spec;
    let bus = disk_bus(spec);
    let count = spec.devices.len() + usize::from(spec.seed.is_some());
    let places = match bus {
        DiskBus::VirtioScsi => 255,
        DiskBus::VirtioBlk => usize::from(slot::END - slot::DISKS),
        DiskBus::Sata => 6 + 6 * usize::from(slot::END - slot::DISKS),
        DiskBus::Ide => 4,
    };
    if count > places {
        return Err(CommandLineError::TooManyDevices { count, places });
    }
    match bus {
        DiskBus::VirtioScsi => args.json("-device", &pci("virtio-scsi-pci", "scsi0", slot::SCSI)),
        DiskBus::Sata => {
            for controller in 0..count.saturating_sub(6).div_ceil(6) {
                let slot = slot::DISKS + u8::try_from(controller).unwrap_or(u8::MAX);
                args.json("-device", &pci("ahci", &format!("ahci{controller}"), slot));
            }
        }
        DiskBus::VirtioBlk | DiskBus::Ide => {}
    }
    for (position, (device, layers)) in spec.devices.iter().zip(launch.disks).enumerate() {
        for node in nodes(device, layers) {
            args.json("-blockdev", &node);
        }
        args.json("-device", &static_device(device, bus, position, pci)?);
    }
    if let Some(seed) = &spec.seed {
        let cdrom = matches!(seed, Seed::Sysprep(_));
        // IDE disks cannot be write-protected; the seed's file is this launch's own, so a write hurts nobody.
        let read_only = cdrom || matches!(bus, DiskBus::VirtioScsi | DiskBus::VirtioBlk);
        let device = seed_device(cdrom, read_only);
        let layer = Layer { path: SEED_FILE.into(), format: "raw" };
        for node in nodes(&device, &[layer]) {
            args.json("-blockdev", &node);
        }
        args.json("-device", &static_device(&device, bus, spec.devices.len(), pci)?);
    }
    Ok(())
}

fn seed_device(cdrom: bool, read_only: bool) -> BlockDevice {
    let volume = super::VolumeId { kind: VolumeKind::Image, uid: String::new() };
    BlockDevice { id: "seed".into(), volume, serial: String::new(), read_only, cdrom, boot_index: None }
}

/// QEMU's block nodes of a device, in the order in which they must be added (the base first). The chain is
/// spelled out here; what a file says about its own backing file is not followed.
pub(super) fn nodes(device: &BlockDevice, layers: &[Layer]) -> Vec<Value> {
    let id = qemu_id(&device.id);
    let mut nodes = Vec::new();
    for (depth, layer) in layers.iter().enumerate().rev() {
        let read_only = device.read_only || device.cdrom || depth > 0;
        let name = node_name(&id, depth);
        let file = format!("{name}.f");
        let mut protocol = json!({"driver": "file", "node-name": file, "filename": path_text(&layer.path),
            "read-only": read_only, "aio": "threads"});
        let mut format = json!({"driver": layer.format, "node-name": name, "file": file, "read-only": read_only});
        if !read_only {
            protocol["discard"] = "unmap".into();
            format["discard"] = "unmap".into();
            format["detect-zeroes"] = "unmap".into();
        }
        if layer.format == "qcow2" {
            format["backing"] = if depth + 1 < layers.len() { node_name(&id, depth + 1).into() } else { Value::Null };
        }
        nodes.push(protocol);
        nodes.push(format);
    }
    nodes
}

fn node_name(id: &str, depth: usize) -> String {
    if depth == 0 { id.to_owned() } else { format!("{id}.b{depth}") }
}

/// Names of a device's nodes in the order in which they can be removed (the top first).
pub(super) fn node_names(device_id: &str, layers: usize) -> Vec<String> {
    let id = qemu_id(device_id);
    (0..layers)
        .flat_map(|depth| {
            let name = node_name(&id, depth);
            [name.clone(), format!("{name}.f")]
        })
        .collect()
}

/// Argument of `device_add` for a device that comes while the machine runs.
pub(super) fn hotplug_device(device: &BlockDevice) -> Value {
    let mut value = scsi_device(device);
    if device.cdrom {
        if let Some(object) = value.as_object_mut() {
            object.remove("serial");
        }
    }
    value
}

/// Id of the device of a [`BlockDevice`].
pub(super) fn device_id(id: &str) -> String {
    format!("dev-{}", qemu_id(id))
}

fn scsi_device(device: &BlockDevice) -> Value {
    let driver = if device.cdrom { "scsi-cd" } else { "scsi-hd" };
    let mut value = common_device(driver, device, 36);
    value["bus"] = "scsi0.0".into();
    if !device.cdrom && !device.serial.is_empty() {
        // What /dev/disk/by-id is made from.
        value["device_id"] = value["serial"].clone();
    }
    value
}

fn static_device(
    device: &BlockDevice,
    bus: DiskBus,
    position: usize,
    pci: &dyn Fn(&str, &str, u8) -> Value,
) -> Result<Value, CommandLineError> {
    let mut value = match bus {
        DiskBus::VirtioScsi => {
            let mut value = scsi_device(device);
            value["channel"] = 0.into();
            value["scsi-id"] = position.into();
            value["lun"] = 0.into();
            value
        }
        DiskBus::VirtioBlk if !device.cdrom => {
            let slot = slot::DISKS + u8::try_from(position).unwrap_or(u8::MAX - slot::DISKS);
            let mut value = common_device("virtio-blk-pci", device, 20);
            for (key, setting) in pci("", "", slot).as_object().into_iter().flatten() {
                if key == "bus" || key == "addr" {
                    value[key] = setting.clone();
                }
            }
            value
        }
        DiskBus::VirtioBlk | DiskBus::Ide | DiskBus::Sata => {
            if device.read_only && !device.cdrom {
                return Err(CommandLineError::ReadOnlyIde { id: device.id.clone() });
            }
            let mut value = common_device(if device.cdrom { "ide-cd" } else { "ide-hd" }, device, 20);
            if bus == DiskBus::Sata {
                value["bus"] = match position.checked_sub(6) {
                    None => format!("ide.{position}"),
                    Some(more) => format!("ahci{}.{}", more / 6, more % 6),
                }
                .into();
                value["unit"] = 0.into();
            } else {
                value["bus"] = format!("ide.{}", position / 2 % 2).into();
                value["unit"] = (position % 2).into();
            }
            value
        }
    };
    if let Some(index) = device.boot_index {
        value["bootindex"] = index.into();
    }
    Ok(value)
}

fn common_device(driver: &str, device: &BlockDevice, serial_limit: usize) -> Value {
    let mut value = json!({"driver": driver, "id": device_id(&device.id), "drive": qemu_id(&device.id)});
    if !device.serial.is_empty() {
        value["serial"] = safe_word(&device.serial).chars().take(serial_limit).collect::<String>().into();
    }
    if !device.cdrom {
        // The guest is told of a failing or full disk, as on the cluster; it is not held.
        value["werror"] = "report".into();
        value["rerror"] = "report".into();
    }
    value
}

/// An id that QEMU accepts (node names: at most 31 characters with what is appended) and that still tells the
/// reader what it is; distinct ids stay distinct.
pub(super) fn qemu_id(id: &str) -> String {
    let fits = id.len() <= 24
        && id.starts_with(|c: char| c.is_ascii_alphabetic())
        && id.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
    if fits {
        return id.to_owned();
    }
    let hash = id.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let readable: String =
        id.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).take(13).collect();
    format!("x-{readable}-{hash:08x}")
}

fn safe_name(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_graphic() && c != ',' { c } else { '_' }).take(255).collect()
}

/// Characters that mean nothing in QEMU's option syntax.
fn safe_word(word: &str) -> String {
    word.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')).collect()
}

/// QEMU takes paths as text; the state directory's name is checked to be UTF-8 when the host is opened.
fn path_text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests;
