//! Block devices: their nodes, their places on the machine's disk bus.

use serde_json::{Value, json};

use super::{Arguments, CommandLineError, Launch, Layer, SEED_FILE, path_text, safe_word, slot};
use crate::host::spec::{BlockDevice, MachineSpec, OsType, Seed, VolumeId, VolumeKind};

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
pub(in crate::host) fn can_hotplug(spec: &MachineSpec) -> bool {
    disk_bus(spec) == DiskBus::VirtioScsi
}

/// Adds the machine's block devices and its seed.
pub(super) fn add(
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
    let volume = VolumeId { kind: VolumeKind::Image, uid: String::new() };
    BlockDevice { id: "seed".into(), volume, serial: String::new(), read_only, cdrom, boot_index: None }
}

/// QEMU's block nodes of a device, in the order in which they must be added (the base first). The chain is
/// spelled out here; what a file says about its own backing file is not followed.
pub(in crate::host) fn nodes(device: &BlockDevice, layers: &[Layer]) -> Vec<Value> {
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

/// Name of the node of the file `depth` files below the top of a device.
pub(in crate::host) fn node_name(id: &str, depth: usize) -> String {
    if depth == 0 { id.to_owned() } else { format!("{id}.b{depth}") }
}

/// Names of a device's nodes in the order in which they can be removed (the top first).
/// Name of the node of the file `depth` files below the top of a device.
pub(in crate::host) fn node_names(device_id: &str, layers: usize) -> Vec<String> {
    let id = qemu_id(device_id);
    (0..layers)
        .flat_map(|depth| {
            let name = node_name(&id, depth);
            [name.clone(), format!("{name}.f")]
        })
        .collect()
}

/// Argument of `device_add` for a device that comes while the machine runs.
pub(in crate::host) fn hotplug_device(device: &BlockDevice) -> Value {
    let mut value = scsi_device(device);
    if device.cdrom
        && let Some(object) = value.as_object_mut()
    {
        object.remove("serial");
    }
    value
}

/// Id of the device of a [`BlockDevice`].
pub(in crate::host) fn device_id(id: &str) -> String {
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
pub(in crate::host) fn qemu_id(id: &str) -> String {
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
