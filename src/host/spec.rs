//! A machine as the host sees it: complete, nothing optional that is needed. Made by the controllers from API
//! objects, turned into QEMU arguments by `command_line`.

use std::net::Ipv4Addr;

/// Identity of a machine: the VirtualMachine object's UID.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct MachineId(pub String);

/// Disk, image or snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VolumeKind {
    /// Writable, belongs to one object.
    Disk,
    /// Read-only base, shared.
    Image,
    /// A disk as it was at one moment: read-only, shared.
    Snapshot,
}

/// Identity of a volume: kind and the UID of its object.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct VolumeId {
    /// Disk, image or snapshot.
    pub kind: VolumeKind,
    /// UID of the VirtualDisk, VirtualImage, ClusterVirtualImage or VirtualDiskSnapshot.
    pub uid: String,
}

/// How to make a volume.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VolumeRequest {
    /// Where the content comes from.
    pub source: VolumeSource,
    /// Size the guest shall see, in bytes; `None` = the source's own size. Needed for `Blank`.
    pub size: Option<u64>,
    /// Expected checksums of the downloaded or uploaded bytes, as (`sha256`, hex). All must match.
    pub checksums: Vec<(String, String)>,
}

/// Where a volume's content comes from.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum VolumeSource {
    /// Empty.
    Blank,
    /// Download (qcow2, raw, vmdk, vdi, iso; plain or gz/xz/zst).
    Http {
        /// `http://` or `https://`.
        url: String,
        /// Additional CA certificates, PEM.
        ca_bundle: Option<Vec<u8>>,
    },
    /// Pull from a container registry: the file under `/disk`, or a layer that is the image itself.
    Registry {
        /// `[registry/]path[:tag][@digest]`.
        image: String,
        /// Additional CA certificates, PEM.
        ca_bundle: Option<Vec<u8>>,
        /// Who asks. Never written down: a volume whose making was interrupted is asked for again.
        #[serde(skip)]
        credentials: Option<PullSecret>,
    },
    /// Content comes by `LocalHost::receive_upload` under the token of [`super::VolumeState::WaitingForUpload`].
    Upload,
    /// From another volume: a disk made from an image or a snapshot is a copy-on-write overlay, a snapshot of a disk
    /// shares the disk's base, an image made from anything is a full copy. A disk must be at rest meanwhile.
    Volume(VolumeId),
    /// From a disk that a running machine has, as of the moment of [`super::Host::snapshot`], which alone makes such
    /// volumes.
    Running {
        /// The disk.
        disk: VolumeId,
        /// The machine whose QEMU copies it.
        machine: MachineId,
    },
}

/// A snapshot to be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotOf {
    /// The disk.
    pub disk: VolumeId,
    /// What is made.
    pub snapshot: VolumeId,
}

/// A `.dockerconfigjson`. Its `Debug` form tells nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct PullSecret(pub Vec<u8>);

impl std::fmt::Debug for PullSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PullSecret(…)")
    }
}

/// A complete machine.
#[derive(Debug, Clone, PartialEq)]
pub struct MachineSpec {
    /// Name shown by QEMU and in process lists (`namespace/name` is fine; made safe by the host).
    pub name: String,
    /// SMBIOS UUID and cloud-init's instance-id: stable for the VM's life.
    pub uuid: uuid::Uuid,
    /// Virtual CPUs.
    pub cpu: Cpu,
    /// Guest memory in bytes.
    pub memory_bytes: u64,
    /// Firmware.
    pub firmware: Firmware,
    /// Machine type family.
    pub os_type: OsType,
    /// virtio devices; otherwise SATA/IDE and emulated NIC.
    pub paravirtualization: bool,
    /// Block devices in device order.
    pub devices: Vec<BlockDevice>,
    /// First-boot configuration medium.
    pub seed: Option<Seed>,
    /// Network interface; absent means none.
    pub nic: Option<Nic>,
}

/// Virtual CPUs.
#[derive(Debug, Clone, PartialEq)]
pub struct Cpu {
    /// Sockets.
    pub sockets: u32,
    /// Cores of each socket.
    pub cores_per_socket: u32,
    /// CPU model.
    pub model: CpuModel,
    /// Guaranteed share of each core, 1-100.
    pub core_fraction: u8,
}

/// Which CPU the guest sees.
#[derive(Debug, Clone, PartialEq)]
pub enum CpuModel {
    /// As near to the host's as possible (`host` under KVM, `max` under TCG).
    Host,
    /// A named QEMU model.
    Named(String),
    /// `qemu64` plus these features.
    Features(Vec<String>),
}

/// Firmware.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Firmware {
    /// SeaBIOS.
    Bios,
    /// OVMF without Secure Boot.
    Efi,
    /// OVMF with Secure Boot and persistent variables.
    EfiSecureBoot,
}

/// Which hardware suits the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OsType {
    /// q35.
    Generic,
    /// q35 with Hyper-V enlightenments.
    Windows,
    /// i440fx.
    Legacy,
}

/// One block device.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct BlockDevice {
    /// Unique in the machine, e.g. `vd-root`; QEMU ids are made from it.
    pub id: String,
    /// The volume behind it.
    pub volume: VolumeId,
    /// SCSI serial, at most 32 characters; shown in `/dev/disk/by-id`.
    pub serial: String,
    /// No writes.
    pub read_only: bool,
    /// A CD-ROM drive.
    pub cdrom: bool,
    /// Firmware boot order, from 1; absent = not bootable.
    pub boot_index: Option<u32>,
}

/// First-boot configuration medium.
#[derive(Debug, Clone, PartialEq)]
pub enum Seed {
    /// NoCloud: label `cidata`, read-only disk after all static devices.
    CloudInit {
        /// `user-data`, verbatim.
        user_data: Vec<u8>,
        /// `local-hostname`.
        hostname: String,
    },
    /// Label `unattendCD`, attached as CD-ROM; (file name, content).
    Sysprep(Vec<(String, Vec<u8>)>),
}

/// The network interface.
#[derive(Debug, Clone, PartialEq)]
pub struct Nic {
    /// MAC address, stable for the VM's life.
    pub mac: [u8; 6],
    /// The address the guest gets by DHCP.
    pub address: Ipv4Addr,
    /// Its subnet.
    pub network: ipnet::Ipv4Net,
}
