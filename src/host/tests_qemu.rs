//! The real host on real QEMU, without booting a guest system: an empty disk is enough to start, observe,
//! stop, plug and adopt. Where QEMU is not installed these tests say so and pass.

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::*;
use crate::config::{Accel, HostSettings, Paths};

pub(super) const MIB: u64 = 1 << 20;

pub(super) async fn host(home: &Path) -> Option<Arc<LocalHost>> {
    host_with(home, HostSettings::default()).await
}

pub(super) async fn host_with(home: &Path, settings: HostSettings) -> Option<Arc<LocalHost>> {
    let settings = HostSettings { accel: Accel::Tcg, ..settings };
    let host = LocalHost::open(HostOptions { paths: Paths::under(home), settings }).await.unwrap();
    if host.node().problems.is_empty() {
        return Some(host);
    }
    eprintln!("skipped: {:?}", host.node().problems);
    None
}

/// A home that QEMU's own user may enter.
pub(super) fn home() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    layout::set_mode(dir.path(), 0o711).unwrap();
    dir
}

pub(super) fn disk(uid: &str) -> VolumeId {
    VolumeId { kind: VolumeKind::Disk, uid: uid.into() }
}

pub(super) fn device(name: &str) -> BlockDevice {
    BlockDevice {
        id: format!("vd-{name}"),
        volume: disk(name),
        serial: format!("serial-of-{name}"),
        read_only: false,
        cdrom: false,
        boot_index: Some(1),
    }
}

pub(super) fn spec(devices: Vec<BlockDevice>) -> Box<MachineSpec> {
    Box::new(MachineSpec {
        name: "default/test".into(),
        uuid: uuid::Uuid::from_u128(7),
        cpu: Cpu { sockets: 1, cores_per_socket: 1, model: CpuModel::Host, core_fraction: 50 },
        memory_bytes: 64 * MIB,
        firmware: Firmware::Bios,
        os_type: OsType::Generic,
        paravirtualization: true,
        devices,
        seed: Some(Seed::CloudInit { user_data: b"#cloud-config\n".to_vec(), hostname: "test".into() }),
        nic: Some(Nic {
            mac: [0x52, 0x54, 0, 0, 0, 1],
            address: Ipv4Addr::new(10, 66, 10, 12),
            network: ipnet::Ipv4Net::new_assert(Ipv4Addr::new(10, 66, 10, 0), 24),
        }),
    })
}

pub(super) fn request(source: VolumeSource, size: Option<u64>) -> VolumeRequest {
    VolumeRequest { source, size, checksums: Vec::new() }
}

/// Waits until `look` gives something; woken by the host's events.
pub(super) async fn until<T>(host: &LocalHost, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let mut events = host.subscribe();
    let wait = async {
        loop {
            if let Some(found) = look() {
                return found;
            }
            // A closed or lagging channel is as good as an event: look again.
            let _ = events.recv().await;
        }
    };
    match tokio::time::timeout(Duration::from_secs(60), wait).await {
        Ok(found) => found,
        Err(_) => panic!("{what}: did not happen; {:?} {:?}", host.machines(), host.volumes()),
    }
}

pub(super) async fn ready(host: &LocalHost, id: &VolumeId) -> VolumeInfo {
    until(host, "volume", || match host.volume(id)? {
        VolumeState::Ready(info) => Some(info),
        VolumeState::Failed { detail, .. } => panic!("{id:?}: {detail}"),
        VolumeState::Working { .. } | VolumeState::WaitingForUpload { .. } => None,
    })
    .await
}

pub(super) async fn upload_token(host: &LocalHost, id: &VolumeId) -> String {
    until(host, "token", || match host.volume(id)? {
        VolumeState::WaitingForUpload { token } => Some(token),
        _ => None,
    })
    .await
}

pub(super) async fn failed(host: &LocalHost, id: &VolumeId) -> (VolumeFailure, String) {
    until(host, "failure", || match host.volume(id)? {
        VolumeState::Failed { kind, detail } => Some((kind, detail)),
        _ => None,
    })
    .await
}

pub(super) async fn running(host: &LocalHost, id: &MachineId) -> Observation {
    until(host, "running", || {
        let seen = host.observe(id);
        match seen.state {
            MachineState::Running { .. } => Some(seen),
            MachineState::Ended { reason, .. } => panic!("ended: {reason:?}"),
            _ => None,
        }
    })
    .await
}

pub(super) async fn ended(host: &LocalHost, id: &MachineId) -> EndReason {
    until(host, "ended", || match host.observe(id).state {
        MachineState::Ended { reason, .. } => Some(reason),
        _ => None,
    })
    .await
}

pub(super) fn start(host: &LocalHost, id: &MachineId, spec: Box<MachineSpec>) {
    host.submit(id, Step::Start { spec, note: "the spec".into() }).unwrap();
}

fn alive(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}/status")).exists()
}

pub(super) fn entries(dir: &Path) -> usize {
    std::fs::read_dir(dir).map_or(0, Iterator::count)
}

#[tokio::test(flavor = "multi_thread")]
async fn start_observe_kill_forget() {
    let home = home();
    let Some(host) = host(home.path()).await else { return };
    let id = MachineId("m-1".into());
    assert_eq!(host.observe(&id).state, MachineState::Absent);
    assert!(host.submit(&id, Step::Kill).is_err());
    host.create_volume(&disk("root"), request(VolumeSource::Blank, Some(64 * MIB)));
    assert_eq!(ready(&host, &disk("root")).await.virtual_size, 64 * MIB);

    let begin = Instant::now();
    start(&host, &id, spec(vec![device("root")]));
    assert_eq!(host.observe(&id).state, MachineState::Starting);
    let seen = running(&host, &id).await;
    let up = begin.elapsed();
    assert_eq!((seen.launch, seen.note.as_deref()), (1, Some("the spec")));
    assert_eq!(seen.devices.len(), 1);
    let pid = seen.pid.unwrap();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    assert!(status.contains("CapEff:\t0000000000000000") && status.contains("Seccomp:\t2"), "{status}");
    let again = host.submit(&id, Step::Start { spec: spec(Vec::new()), note: String::new() }).unwrap_err();
    assert_eq!(again.reason, "the machine is already on");
    assert!(host.vnc_socket(&id).unwrap().exists());
    let mut screen = host.vnc(&id).await.unwrap().unwrap();
    let mut greeting = [0; 12];
    tokio::io::AsyncReadExt::read_exact(&mut screen, &mut greeting).await.unwrap();
    assert_eq!(&greeting, b"RFB 003.008\n");
    assert!(host.forget(&id).await.is_err());

    let begin = Instant::now();
    host.submit(&id, Step::Kill).unwrap();
    assert_eq!(ended(&host, &id).await, EndReason::Requested);
    eprintln!("to running {up:?}, kill {:?}", begin.elapsed());
    assert!(!alive(pid));
    assert_eq!(entries(&home.path().join("run/m")), 0);

    start(&host, &id, spec(vec![device("root")]));
    assert_eq!(running(&host, &id).await.launch, 2);
    host.submit(&id, Step::PowerButton { grace: Duration::from_millis(100) }).unwrap();
    assert_eq!(host.observe(&id).state, MachineState::Stopping);
    assert_eq!(ended(&host, &id).await, EndReason::Requested);
    host.forget(&id).await.unwrap();
    assert_eq!(host.observe(&id).state, MachineState::Absent);
    assert_eq!(entries(&home.path().join("state/machines")), 0);
    host.delete_volume(&disk("root")).await.unwrap();
    assert_eq!(entries(&home.path().join("state/volumes/disk")), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_fails_says_why_and_leaves_nothing() {
    let home = home();
    let Some(host) = host(home.path()).await else { return };
    let id = MachineId("m".into());
    start(&host, &id, spec(vec![device("nowhere")]));
    let EndReason::StartFailed { detail } = ended(&host, &id).await else { panic!("must fail") };
    assert_eq!(detail, "vd-nowhere: the disk or image is not ready");

    let mut wrong = spec(Vec::new());
    wrong.cpu.model = CpuModel::Named("no-such-cpu".into());
    start(&host, &id, wrong);
    let EndReason::StartFailed { detail } = ended(&host, &id).await else { panic!("must fail") };
    assert!(detail.contains("no-such-cpu"), "{detail}");
    assert_eq!(entries(&home.path().join("run/m")), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_machine_is_accepted_by_qemu() {
    let home = home();
    let Some(host) = host(home.path()).await else { return };
    host.create_volume(&disk("root"), request(VolumeSource::Blank, Some(64 * MIB)));
    ready(&host, &disk("root")).await;
    let id = MachineId("m".into());
    let kinds = [
        (OsType::Generic, false, Firmware::Efi),
        (OsType::Windows, true, Firmware::EfiSecureBoot),
        (OsType::Legacy, true, Firmware::Bios),
        (OsType::Legacy, false, Firmware::Bios),
    ];
    for (os_type, paravirtualization, firmware) in kinds {
        let facts = host.node();
        if firmware == Firmware::Efi && !facts.efi || firmware == Firmware::EfiSecureBoot && !facts.secure_boot {
            continue;
        }
        let spec = MachineSpec { os_type, paravirtualization, firmware, ..*spec(vec![device("root")]) };
        start(&host, &id, Box::new(spec));
        running(&host, &id).await;
        host.submit(&id, Step::Kill).unwrap();
        assert_eq!(ended(&host, &id).await, EndReason::Requested);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn disks_come_and_go_and_grow_while_it_runs() {
    let home = home();
    let Some(host) = host(home.path()).await else { return };
    for name in ["root", "more"] {
        host.create_volume(&disk(name), request(VolumeSource::Blank, Some(16 * MIB)));
        ready(&host, &disk(name)).await;
    }
    let id = MachineId("m".into());
    start(&host, &id, spec(vec![device("root")]));
    running(&host, &id).await;
    host.submit(&id, Step::Attach(device("more"))).unwrap();
    let seen = until(&host, "attached", || Some(host.observe(&id)).filter(|seen| seen.devices.len() == 2)).await;
    assert!(seen.devices[1].hotplugged && !seen.devices[0].hotplugged);
    host.resize_volume(&disk("more"), 32 * MIB).await.unwrap();
    assert_eq!(ready(&host, &disk("more")).await.virtual_size, 32 * MIB);
    assert!(host.resize_volume(&disk("more"), 16 * MIB).await.is_err());
    host.submit(&id, Step::Attach(device("missing"))).unwrap();
    let errors = until(&host, "error", || Some(host.observe(&id).device_errors).filter(|e| !e.is_empty())).await;
    assert_eq!(errors, [("vd-missing".to_owned(), "the disk or image is not ready".to_owned())]);
    host.submit(&id, Step::Detach { id: "vd-more".into() }).unwrap();
    until(&host, "detached", || Some(()).filter(|()| host.observe(&id).devices.len() == 1)).await;
    host.submit(&id, Step::Kill).unwrap();
    ended(&host, &id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_closed_to_qemus_user_still_works_and_is_noted() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let home = home();
    layout::set_mode(home.path(), 0o700).unwrap();
    let Some(host) = host(home.path()).await else { return };
    assert!(host.node().notes.iter().any(|note| note.contains("may not enter")), "{:?}", host.node().notes);
    host.create_volume(&disk("root"), request(VolumeSource::Blank, Some(16 * MIB)));
    ready(&host, &disk("root")).await;
    let id = MachineId("m".into());
    start(&host, &id, spec(vec![device("root")]));
    let pid = running(&host, &id).await.pid.unwrap();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    assert!(status.contains("CapEff:\t0000000000000000"), "{status}");
    host.submit(&id, Step::Kill).unwrap();
    ended(&host, &id).await;
}

/// A small file system of its own, unmounted on drop.
pub(super) struct SmallDisk(pub(super) tempfile::TempDir);

impl SmallDisk {
    /// `None` where mounting is not allowed.
    pub(super) fn mount() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mount = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=6m,mode=0711", "tmpfs"])
            .arg(dir.path())
            .status();
        mount.is_ok_and(|status| status.success()).then_some(Self(dir))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").args(["-l"]).arg(self.0.path()).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_told_and_nothing_is_left() {
    let Some(small) = SmallDisk::mount() else { return };
    let Some(host) = host(small.0.path()).await else { return };
    let image = VolumeId { kind: VolumeKind::Image, uid: "big".into() };
    host.create_volume(&image, request(VolumeSource::Upload, None));
    let token = upload_token(&host, &image).await;
    let body = std::io::Cursor::new(vec![1_u8; 8 << 20]);
    let outcome = host.receive_upload(&token, None, Box::new(body)).await;
    assert!(matches!(outcome, Err(UploadFailure::Failed(_))), "{outcome:?}");
    assert_eq!(failed(&host, &image).await.0, VolumeFailure::NoSpace);
    let dir = small.0.path().join("state/volumes/image/big");
    assert_eq!(entries(&dir), 1, "only the record");
    // Fits, but its copy does not.
    host.create_volume(&image, request(VolumeSource::Upload, None));
    let token = upload_token(&host, &image).await;
    let body = std::io::Cursor::new(vec![1_u8; 4 << 20]);
    let outcome = host.receive_upload(&token, None, Box::new(body)).await;
    assert!(matches!(outcome, Err(UploadFailure::Failed(_))), "{outcome:?}");
    assert_eq!(failed(&host, &image).await.0, VolumeFailure::NoSpace);
    assert_eq!(entries(&dir), 1);
    host.delete_volume(&image).await.unwrap();
    assert!(!dir.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_qemu_is_a_crash() {
    let home = home();
    let Some(host) = host(home.path()).await else { return };
    let id = MachineId("m".into());
    start(&host, &id, spec(Vec::new()));
    let pid = running(&host, &id).await.pid.unwrap();
    let pid = rustix::process::Pid::from_raw(pid.try_into().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    let reason = ended(&host, &id).await;
    assert_eq!(reason, EndReason::Crashed { detail: "QEMU was killed by signal 9".into() });
}

#[test]
fn a_new_daemon_takes_up_what_the_old_one_left() {
    let home = home();
    let id = MachineId("m".into());
    // A runtime that goes down takes the old daemon's tasks with it, as `kill -9` would.
    let runtime = || tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let first = runtime();
    let before = first.block_on(async {
        let host = host(home.path()).await?;
        host.create_volume(&disk("root"), request(VolumeSource::Blank, Some(16 * MIB)));
        ready(&host, &disk("root")).await;
        host.create_volume(&disk("upload"), request(VolumeSource::Upload, None));
        let token = upload_token(&host, &disk("upload")).await;
        start(&host, &id, spec(vec![device("root")]));
        Some((running(&host, &id).await, token))
    });
    first.shutdown_timeout(Duration::from_secs(5));
    let Some((before, token)) = before else { return };
    let pid = before.pid.unwrap();
    assert!(alive(pid));

    let second = runtime();
    second.block_on(async {
        let host = host(home.path()).await.unwrap();
        let after = host.observe(&id);
        assert_eq!(after, before);
        assert!(matches!(host.volume(&disk("root")), Some(VolumeState::Ready(_))));
        assert_eq!(upload_token(&host, &disk("upload")).await, token, "the address that was given out stays good");
        host.submit(&id, Step::Note("changed".into())).unwrap();
        until(&host, "note", || Some(()).filter(|()| host.observe(&id).note.as_deref() == Some("changed"))).await;
        // The note is on record once a later step has been done.
        host.submit(&id, Step::Detach { id: "none".into() }).unwrap();
    });
    second.shutdown_timeout(Duration::from_secs(5));

    let pid = rustix::process::Pid::from_raw(pid.try_into().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    let third = runtime();
    third.block_on(async {
        let host = host(home.path()).await.unwrap();
        let reason = ended(&host, &id).await;
        assert!(matches!(reason, EndReason::Crashed { .. }), "{reason:?}");
        assert_eq!(entries(&home.path().join("run/m")), 0);
        host.forget(&id).await.unwrap();
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn volumes_from_uploads_images_and_disks() {
    let home = home();
    let Some(host) = host(home.path()).await else { return };
    let image = |uid: &str| VolumeId { kind: VolumeKind::Image, uid: uid.into() };
    let content = {
        let mut content = vec![7_u8; 3 << 20];
        content.resize(8 << 20, 0);
        content
    };
    host.create_volume(&image("base"), request(VolumeSource::Upload, None));
    let token = upload_token(&host, &image("base")).await;
    let short = host.receive_upload(&token, Some(9), Box::new(&b"short"[..])).await;
    assert!(matches!(short, Err(UploadFailure::Failed(_))), "{short:?}");
    until(&host, "waits again", || {
        matches!(host.volume(&image("base")), Some(VolumeState::WaitingForUpload { .. })).then_some(())
    })
    .await;
    let body = std::io::Cursor::new(content.clone());
    host.receive_upload(&token, Some(content.len() as u64), Box::new(body)).await.unwrap();
    let info = ready(&host, &image("base")).await;
    assert_eq!((info.virtual_size, info.format.as_str(), info.cdrom), (8 * MIB, "raw", false));

    // A disk on top of it, larger; too small is refused.
    let source = VolumeSource::Volume(image("base"));
    host.create_volume(&disk("small"), request(source.clone(), Some(MIB)));
    assert_eq!(
        failed(&host, &disk("small")).await,
        (VolumeFailure::TooSmall, "specified size is insufficient: 1Mi < 8Mi".into())
    );
    host.create_volume(&disk("root"), request(source, Some(16 * MIB)));
    let info = ready(&host, &disk("root")).await;
    assert_eq!(info.virtual_size, 16 * MIB);
    assert!(info.stored_size < MIB, "copy on write");

    // A full copy of the disk is an image of its own.
    host.create_volume(&image("copy"), request(VolumeSource::Volume(disk("root")), None));
    let info = ready(&host, &image("copy")).await;
    assert_eq!(info.virtual_size, 16 * MIB);
    assert!(info.stored_size >= 3 * MIB);

    // The base is hidden when it is deleted, and goes with the last disk on it.
    host.delete_volume(&image("base")).await.unwrap();
    assert_eq!(host.volume(&image("base")), None);
    let id = MachineId("m".into());
    start(&host, &id, spec(vec![device("root")]));
    running(&host, &id).await;
    host.submit(&id, Step::Kill).unwrap();
    ended(&host, &id).await;
    assert_eq!(entries(&home.path().join("state/volumes/image")), 2);
    host.delete_volume(&disk("root")).await.unwrap();
    assert_eq!(entries(&home.path().join("state/volumes/image")), 1);
}
