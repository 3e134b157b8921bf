//! API objects to the host's machine specification. Pure.

use ipnet::Ipv4Net;
use kube::ResourceExt;
use md5::Digest;

use super::super::address::plan::subnet;
use super::super::cache::namespace;
use super::gather::{AddressFact, DeviceFact, Gathered, ProvisionFact};
use crate::host::{BlockDevice, Cpu, CpuModel, Firmware, MachineSpec, Nic, OsType, VolumeId};
use crate::types::quantity::parse_percent;
use crate::types::rules::topology::sockets;
use crate::types::{
    BlockDeviceKind, Bootloader, CpuTopology, CpuType, GuestOsType, VirtualMachineClass, VirtualMachineSpec,
};

/// Longest device id before it is shortened.
const LONGEST_ID: usize = 60;

/// The machine to start. `Err`: in words, what is missing although the gate is open.
pub fn machine(g: &Gathered, pool: &[Ipv4Net]) -> Result<MachineSpec, String> {
    let spec = &g.vm.spec;
    let uid = g.vm.uid().unwrap_or_default();
    let class = g.class.as_deref().ok_or("the class is missing")?;
    let nic = match &g.address {
        AddressFact::Ready { address, .. } => {
            let network = subnet(pool, *address)
                .ok_or_else(|| format!("{address} is in none of the configured virtualMachineCIDRs"))?;
            Some(Nic { mac: mac(&uid), address: *address, network })
        }
        AddressFact::None => None,
        AddressFact::Missing { .. } | AddressFact::NotBound { .. } | AddressFact::Taken { .. } => {
            return Err("the address is missing".into());
        }
    };
    let seed = match &g.provisioning {
        ProvisionFact::None => None,
        ProvisionFact::Ready { seed, .. } => Some(seed.clone()),
        ProvisionFact::NotReady { message } => return Err(message.clone()),
    };
    let topology = topology(spec.cpu.cores);
    Ok(MachineSpec {
        name: format!("{}/{}", namespace(g.vm.as_ref()), g.vm.name_any()),
        uuid: uuid(&uid),
        cpu: Cpu {
            sockets: topology.sockets.unsigned_abs(),
            cores_per_socket: topology.cores_per_socket.unsigned_abs(),
            model: cpu_model(class),
            core_fraction: core_fraction(spec),
        },
        memory_bytes: spec.memory.size.bytes().ok_or("spec.memory.size is not a size")?,
        firmware: match spec.bootloader {
            Bootloader::Bios => Firmware::Bios,
            Bootloader::Efi => Firmware::Efi,
            Bootloader::EfiWithSecureBoot => Firmware::EfiSecureBoot,
        },
        os_type: match spec.os_type {
            GuestOsType::Generic => OsType::Generic,
            GuestOsType::Windows => OsType::Windows,
            GuestOsType::Legacy => OsType::Legacy,
        },
        paravirtualization: spec.enable_paravirtualization,
        devices: devices(&g.devices)?,
        seed,
        nic,
    })
}

fn devices(facts: &[DeviceFact]) -> Result<Vec<BlockDevice>, String> {
    let chosen: Vec<Option<u32>> = facts.iter().map(|d| d.reference.boot_order).collect();
    let ranks = boot_ranks(&chosen);
    facts
        .iter()
        .zip(ranks)
        .map(|(d, boot_index)| {
            let volume = d.volume.clone().ok_or_else(|| format!("{} does not exist", d.name()))?;
            let cdrom = d.info.as_ref().is_some_and(|i| i.cdrom);
            Ok(block_device(d.reference.kind, d.name(), &d.uid, volume, cdrom, boot_index))
        })
        .collect()
}

/// A device as the host wants it.
pub fn block_device(
    kind: BlockDeviceKind,
    name: &str,
    uid: &str,
    volume: VolumeId,
    cdrom: bool,
    boot_index: Option<u32>,
) -> BlockDevice {
    BlockDevice {
        id: device_id(kind, name),
        volume,
        serial: serial(uid),
        read_only: kind != BlockDeviceKind::VirtualDisk,
        cdrom,
        boot_index,
    }
}

/// Boot positions from 1. List order, unless some devices say `bootOrder`: then those alone, in that order.
fn boot_ranks(chosen: &[Option<u32>]) -> Vec<Option<u32>> {
    let mut explicit: Vec<u32> = chosen.iter().flatten().copied().collect();
    explicit.sort_unstable();
    let rank = |position: usize| u32::try_from(position + 1).ok();
    chosen
        .iter()
        .enumerate()
        .map(|(index, order)| match order {
            _ if explicit.is_empty() => rank(index),
            Some(order) => explicit.iter().position(|e| e == order).and_then(rank),
            None => None,
        })
        .collect()
}

/// Id of a device within its machine: `vd-root`; long names keep a readable beginning and get a hash.
pub fn device_id(kind: BlockDeviceKind, name: &str) -> String {
    let id = format!("{}{name}", kind.prefix());
    if id.len() <= LONGEST_ID {
        return id;
    }
    let readable: String = id.chars().take(LONGEST_ID - 17).collect();
    format!("{readable}-{:016x}", fnv1a(&id))
}

fn fnv1a(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, b| (hash ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}

/// Serial number of a device: hexadecimal MD5 of its object's UID.
pub fn serial(uid: &str) -> String {
    md5::Md5::digest(uid.as_bytes()).iter().map(|b| format!("{b:02x}")).collect()
}

/// A locally administered unicast address made from the machine's UID.
pub fn mac(uid: &str) -> [u8; 6] {
    let digest = md5::Md5::digest(format!("mac/{uid}").as_bytes());
    let mut mac = [0u8; 6];
    mac.copy_from_slice(&digest[..6]);
    mac[0] = (mac[0] & 0b1111_1100) | 0b0000_0010;
    mac
}

/// The machine's UID as firmware UUID.
fn uuid(uid: &str) -> uuid::Uuid {
    uid.parse().unwrap_or_else(|_| uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, uid.as_bytes()))
}

/// Sockets and cores for a number of cores.
pub fn topology(cores: i32) -> CpuTopology {
    let sockets = i32::try_from(sockets(i64::from(cores))).unwrap_or(1);
    CpuTopology { sockets, cores_per_socket: (cores / sockets).max(1) }
}

/// Guaranteed share in percent.
pub fn core_fraction(spec: &VirtualMachineSpec) -> u8 {
    spec.cpu.core_fraction.as_deref().and_then(parse_percent).unwrap_or(100)
}

fn cpu_model(class: &VirtualMachineClass) -> CpuModel {
    let cpu = &class.spec.cpu;
    match cpu.type_ {
        CpuType::Host | CpuType::HostPassthrough => CpuModel::Host,
        CpuType::Model => CpuModel::Named(cpu.model.clone().unwrap_or_else(|| "qemu64".into())),
        // What the class's status says is what the node can give; without it, what was asked for.
        CpuType::Features => CpuModel::Features(enabled(class).or_else(|| cpu.features.clone()).unwrap_or_default()),
        CpuType::Discovery => CpuModel::Features(enabled(class).unwrap_or_default()),
    }
}

fn enabled(class: &VirtualMachineClass) -> Option<Vec<String>> {
    class.status.as_ref()?.cpu_features.as_ref()?.enabled.clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boot_order() {
        assert_eq!(boot_ranks(&[None, None]), [Some(1), Some(2)]);
        assert_eq!(boot_ranks(&[None, Some(7), Some(3)]), [None, Some(2), Some(1)]);
    }

    #[test]
    fn topologies() {
        for (cores, sockets, per) in [(1, 1, 1), (16, 1, 16), (18, 2, 9), (32, 2, 16), (64, 4, 16), (248, 8, 31)] {
            assert_eq!(topology(cores), CpuTopology { sockets, cores_per_socket: per }, "{cores}");
        }
    }

    #[test]
    fn identities_are_stable_and_well_formed() {
        let uid = "6f1f3c7e-0000-4000-8000-000000000001";
        assert_eq!(serial(uid).len(), 32);
        assert_eq!(mac(uid), mac(uid));
        assert_eq!(mac(uid)[0] & 0b11, 0b10);
        assert_eq!(uuid(uid).to_string(), uid);
        assert_eq!(uuid("odd"), uuid("odd"));
        assert_eq!(device_id(BlockDeviceKind::VirtualDisk, "root"), "vd-root");
        let long = device_id(BlockDeviceKind::ClusterVirtualImage, &"x".repeat(253));
        assert!(long.len() <= LONGEST_ID && long.starts_with("cvi-xxx"), "{long}");
    }
}
