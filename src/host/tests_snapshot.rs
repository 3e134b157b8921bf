//! Snapshots on real QEMU without a guest system: QEMU itself writes to the disks, as a guest would. Where QEMU is not
//! installed these tests say so and pass.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::tests_qemu::*;
use super::*;
use crate::config::HostSettings;

fn snapshot(uid: &str) -> VolumeId {
    VolumeId { kind: VolumeKind::Snapshot, uid: uid.into() }
}

fn of(disk_uid: &str, uid: &str) -> SnapshotOf {
    SnapshotOf { disk: disk(disk_uid), snapshot: snapshot(uid) }
}

/// Runs qemu-io on a file that nobody has open.
fn io(file: &Path, commands: &[&str]) -> String {
    let mut command = std::process::Command::new("qemu-io");
    for text in commands {
        command.args(["-c", text]);
    }
    let output = command.args(["-f", "qcow2"]).arg(file).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{commands:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

fn data(home: &Path, kind: &str, uid: &str) -> std::path::PathBuf {
    home.join("state/volumes").join(kind).join(uid).join("data")
}

/// The pattern at the beginning of a volume.
fn begins_with(home: &Path, kind: &str, uid: &str, pattern: u8) {
    let read = io(&data(home, kind, uid), &[&format!("read -P {pattern} 0 64k")]);
    assert!(!read.contains("verification failed"), "{kind} {uid} does not begin with {pattern}: {read}");
}

/// A running machine's QEMU writes to a disk.
async fn write(host: &LocalHost, id: &MachineId, node: &str, pattern: u8) {
    let qmp = host.machine(id).unwrap().with(|shared| shared.qmp.clone()).unwrap();
    // What it says goes to QEMU's log.
    qmp.human(&format!("qemu-io -d dev-{node} \"write -P {pattern} 0 64k\"")).await.unwrap();
}

/// What QEMU has of jobs and of nodes that are ours.
async fn left_in_qemu(host: &LocalHost, id: &MachineId) -> (Value, usize) {
    let qmp = host.machine(id).unwrap().with(|shared| shared.qmp.clone()).unwrap();
    let jobs = qmp.execute("query-jobs", Value::Null).await.unwrap();
    let nodes = qmp.execute("query-named-block-nodes", serde_json::json!({"flat": true})).await.unwrap();
    let ours = |node: &&Value| node["node-name"].as_str().is_some_and(|name| name.starts_with("snap-"));
    (jobs, nodes.as_array().unwrap().iter().filter(ours).count())
}

/// A disk on a base image of its own.
async fn based(host: &LocalHost, uid: &str) {
    let image = VolumeId { kind: VolumeKind::Image, uid: "base".into() };
    if host.volume(&image).is_none() {
        host.create_volume(&image, request(VolumeSource::Upload, None));
        let token = upload_token(host, &image).await;
        let body = std::io::Cursor::new(vec![9_u8; MIB as usize]);
        host.receive_upload(&token, None, Box::new(body)).await.unwrap();
    }
    host.create_volume(&disk(uid), request(VolumeSource::Volume(image), Some(16 * MIB)));
    ready(host, &disk(uid)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_at_rest_is_kept_whatever_becomes_of_it() {
    let home = home();
    let Some(host) = host(home.path()).await else { return };
    based(&host, "root").await;
    io(&data(home.path(), "disk", "root"), &["write -P 1 0 64k"]);
    host.snapshot(vec![of("root", "s")]).await.unwrap();
    let info = ready(&host, &snapshot("s")).await;
    assert_eq!(info.virtual_size, 16 * MIB);
    assert!(info.stored_size < MIB, "what the base has is not copied: {info:?}");
    io(&data(home.path(), "disk", "root"), &["write -P 2 0 64k"]);
    host.resize_volume(&disk("root"), 32 * MIB).await.unwrap();
    begins_with(home.path(), "snapshot", "s", 1);

    // A disk from it is its own, and may be larger, not smaller.
    let source = VolumeSource::Volume(snapshot("s"));
    host.create_volume(&disk("copy"), request(source.clone(), Some(24 * MIB)));
    assert_eq!(ready(&host, &disk("copy")).await.virtual_size, 24 * MIB);
    host.create_volume(&disk("small"), request(source.clone(), Some(MIB)));
    assert_eq!(failed(&host, &disk("small")).await.0, VolumeFailure::TooSmall);
    let image = VolumeId { kind: VolumeKind::Image, uid: "flat".into() };
    host.create_volume(&image, request(source, None));
    ready(&host, &image).await;
    begins_with(home.path(), "image", "flat", 1);

    // The disk goes; the snapshot goes; what was made of it stays, on files that are hidden until it goes, too.
    host.delete_volume(&disk("root")).await.unwrap();
    host.delete_volume(&snapshot("s")).await.unwrap();
    assert_eq!(host.volume(&snapshot("s")), None);
    begins_with(home.path(), "disk", "copy", 1);
    let id = MachineId("m".into());
    start(&host, &id, spec(vec![device("copy")]));
    running(&host, &id).await;
    write(&host, &id, "vd-copy", 3).await;
    host.submit(&id, Step::Kill).unwrap();
    ended(&host, &id).await;
    for gone in [disk("copy"), disk("small"), image, VolumeId { kind: VolumeKind::Image, uid: "base".into() }] {
        host.delete_volume(&gone).await.unwrap();
    }
    for kind in ["disk", "image", "snapshot"] {
        assert_eq!(entries(&home.path().join("state/volumes").join(kind)), 0, "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_disks_of_a_running_machine_are_taken_at_one_moment_while_it_goes_on() {
    let home = home();
    let Some(host) = host(home.path()).await else { return };
    let id = MachineId("m".into());
    based(&host, "root").await;
    host.create_volume(&disk("data"), request(VolumeSource::Blank, Some(64 * MIB)));
    host.create_volume(&disk("rest"), request(VolumeSource::Blank, Some(MIB)));
    ready(&host, &disk("data")).await;
    ready(&host, &disk("rest")).await;
    start(&host, &id, spec(vec![device("root"), BlockDevice { boot_index: None, ..device("data") }]));
    running(&host, &id).await;
    for node in ["vd-root", "vd-data"] {
        write(&host, &id, node, 1).await;
    }
    // A disk at rest may be part of it, one that is not there may not.
    assert!(host.snapshot(vec![of("root", "x"), of("none", "y")]).await.is_err());
    assert_eq!(host.volume(&snapshot("x")), None);
    host.snapshot(vec![of("root", "s-root"), of("data", "s-data"), of("rest", "s-rest")]).await.unwrap();
    // From here on nothing that is written is in it.
    for node in ["vd-root", "vd-data"] {
        write(&host, &id, node, 2).await;
    }
    for uid in ["s-root", "s-data", "s-rest"] {
        ready(&host, &snapshot(uid)).await;
    }
    begins_with(home.path(), "snapshot", "s-root", 1);
    begins_with(home.path(), "snapshot", "s-data", 1);
    assert_eq!(left_in_qemu(&host, &id).await, (serde_json::json!([]), 0));
    let stored = std::fs::metadata(data(home.path(), "snapshot", "s-root")).unwrap();
    assert!(std::os::unix::fs::MetadataExt::blocks(&stored) * 512 < 4 * MIB, "what was reserved is given back");
    // Once more is no second copy.
    host.snapshot(vec![of("root", "s-root")]).await.unwrap();
    assert!(matches!(host.volume(&snapshot("s-root")), Some(VolumeState::Ready(_))));
    host.submit(&id, Step::Kill).unwrap();
    ended(&host, &id).await;
    begins_with(home.path(), "disk", "root", 2);
    begins_with(home.path(), "disk", "data", 2);
}

/// A host whose copies take long enough to be interfered with.
async fn slow_host(home: &Path) -> Option<std::sync::Arc<LocalHost>> {
    host_with(home, HostSettings { snapshot_bandwidth: Some(65_536), ..HostSettings::default() }).await
}

/// A machine whose disk is being copied.
async fn slow_copy(host: &LocalHost, id: &MachineId) {
    host.create_volume(&disk("data"), request(VolumeSource::Blank, Some(64 * MIB)));
    ready(host, &disk("data")).await;
    start(host, id, spec(vec![device("data")]));
    running(host, id).await;
    let qmp = host.machine(id).unwrap().with(|shared| shared.qmp.clone()).unwrap();
    qmp.human("qemu-io -d dev-vd-data \"write -P 1 0 32M\"").await.unwrap();
    host.snapshot(vec![of("data", "s")]).await.unwrap();
    assert!(matches!(host.volume(&snapshot("s")), Some(VolumeState::Working { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_would_disturb_a_copy_is_refused_and_a_copy_can_be_given_up() {
    let home = home();
    let Some(host) = slow_host(home.path()).await else { return };
    let id = MachineId("m".into());
    slow_copy(&host, &id).await;
    for step in [Step::Migrate { throttle: false }, Step::Detach { id: "vd-data".into() }] {
        let denied = host.submit(&id, step).unwrap_err();
        assert!(denied.reason.contains("a snapshot of the machine is being taken"), "{denied}");
    }
    assert!(host.resize_volume(&disk("data"), 128 * MIB).await.unwrap_err().contains("being copied"));
    host.delete_volume(&snapshot("s")).await.unwrap();
    assert_eq!(host.volume(&snapshot("s")), None);
    assert_eq!(left_in_qemu(&host, &id).await, (serde_json::json!([]), 0));
    assert_eq!(entries(&home.path().join("state/volumes/snapshot")), 0);
    host.resize_volume(&disk("data"), 128 * MIB).await.unwrap();

    // A machine that is being migrated is not copied.
    host.submit(&id, Step::Migrate { throttle: false }).unwrap();
    let refused = host.snapshot(vec![of("data", "t")]).await.unwrap_err();
    assert!(refused.contains("is being migrated"), "{refused}");
    assert_eq!(entries(&home.path().join("state/volumes/snapshot/t")), 1, "only the record of the failure");
    until(&host, "migrated", || host.observe(&id).last_migration).await;
    host.submit(&id, Step::Kill).unwrap();
    ended(&host, &id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_ends_takes_the_copy_with_it_and_nothing_is_left() {
    let home = home();
    let Some(host) = slow_host(home.path()).await else { return };
    let id = MachineId("m".into());
    slow_copy(&host, &id).await;
    host.submit(&id, Step::Kill).unwrap();
    ended(&host, &id).await;
    let (_, detail) = failed(&host, &snapshot("s")).await;
    assert!(
        detail.contains("stopped before its disk was copied") || detail.contains("could not be copied"),
        "{detail}"
    );
    assert_eq!(entries(&home.path().join("state/volumes/snapshot/s")), 1, "only the record");
    // The next try is of a disk at rest.
    host.snapshot(vec![of("data", "s")]).await.unwrap();
    ready(&host, &snapshot("s")).await;
}

#[test]
fn a_new_daemon_goes_on_with_the_copy_and_tells_of_one_that_is_lost() {
    let home = home();
    let id = MachineId("m".into());
    // A runtime that goes down takes the old daemon's tasks with it, as `kill -9` would.
    let runtime = || tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let first = runtime();
    let begun = first.block_on(async {
        let host = slow_host(home.path()).await?;
        slow_copy(&host, &id).await;
        Some(())
    });
    first.shutdown_timeout(Duration::from_secs(5));
    if begun.is_none() {
        return;
    }
    let second = runtime();
    second.block_on(async {
        let host = slow_host(home.path()).await.unwrap();
        assert!(matches!(host.volume(&snapshot("s")), Some(VolumeState::Working { .. })), "{:?}", host.volumes());
        assert!(host.submit(&id, Step::Migrate { throttle: false }).is_err());
        let qmp = host.machine(&id).unwrap().with(|shared| shared.qmp.clone()).unwrap();
        let jobs = qmp.execute("query-jobs", Value::Null).await.unwrap();
        let limit = serde_json::json!({"device": jobs[0]["id"], "speed": 0});
        qmp.execute("block-job-set-speed", limit).await.unwrap();
        ready(&host, &snapshot("s")).await;
        begins_with(home.path(), "snapshot", "s", 1);
        assert_eq!(left_in_qemu(&host, &id).await, (serde_json::json!([]), 0));
        // One more, whose machine is gone when the next daemon comes.
        host.snapshot(vec![of("data", "t")]).await.unwrap();
    });
    second.shutdown_timeout(Duration::from_secs(5));

    let third = runtime();
    third.block_on(async {
        // As after a crash of the computer: the process is gone, the record is there.
        let record = std::fs::read_to_string(home.path().join("state/machines/m/record.json")).unwrap();
        let record: Value = serde_json::from_str(&record).unwrap();
        let pid = record["stage"]["pid"].as_i64().unwrap();
        let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        let host = slow_host(home.path()).await.unwrap();
        let (_, detail) = failed(&host, &snapshot("t")).await;
        assert!(detail.contains("stopped before"), "{detail}");
        assert_eq!(entries(&home.path().join("state/volumes/snapshot/t")), 1, "only the record");
        ended(&host, &id).await;
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn without_room_nothing_is_begun() {
    let Some(small) = SmallDisk::mount() else {
        println!("skipped: a small file system cannot be mounted here");
        return;
    };
    let home = small.0.path();
    let Some(host) = host(home).await else { return };
    let id = MachineId("m".into());
    host.create_volume(&disk("data"), request(VolumeSource::Blank, Some(64 * MIB)));
    ready(&host, &disk("data")).await;
    start(&host, &id, spec(vec![device("data")]));
    running(&host, &id).await;
    let qmp = host.machine(&id).unwrap().with(|shared| shared.qmp.clone()).unwrap();
    qmp.human("qemu-io -d dev-vd-data \"write -P 1 0 3M\"").await.unwrap();
    let refused = host.snapshot(vec![of("data", "s")]).await.unwrap_err();
    assert!(refused.contains("no room"), "{refused}");
    assert_eq!(failed(&host, &snapshot("s")).await.0, VolumeFailure::NoSpace);
    assert_eq!(entries(&home.join("state/volumes/snapshot/s")), 1, "only the record");
    assert_eq!(left_in_qemu(&host, &id).await, (serde_json::json!([]), 0));
    // The guest has not noticed.
    write(&host, &id, "vd-data", 2).await;
    host.submit(&id, Step::Kill).unwrap();
    ended(&host, &id).await;
    // At rest it is the copying itself that finds no room.
    host.snapshot(vec![of("data", "t")]).await.unwrap();
    assert_eq!(failed(&host, &snapshot("t")).await.0, VolumeFailure::NoSpace);
    assert_eq!(entries(&home.join("state/volumes/snapshot/t")), 1, "only the record");
}

#[tokio::test(flavor = "multi_thread")]
async fn disks_of_snapshots_of_disks_do_not_pile_up_files_without_end() {
    let home = home();
    let Some(host) = host(home.path()).await else { return };
    based(&host, "d0").await;
    io(&data(home.path(), "disk", "d0"), &["write -P 1 0 64k"]);
    let mut most = 0;
    for n in 0..10 {
        let (from, to, uid) = (format!("d{n}"), format!("d{}", n + 1), format!("s{n}"));
        host.snapshot(vec![of(&from, &uid)]).await.unwrap();
        ready(&host, &snapshot(&uid)).await;
        host.create_volume(&disk(&to), request(VolumeSource::Volume(snapshot(&uid)), None));
        ready(&host, &disk(&to)).await;
        most = most.max(host.context.volumes.layers(&disk(&to)).unwrap().len());
    }
    assert!((3..=8).contains(&most), "{most} files behind one disk");
    begins_with(home.path(), "disk", "d10", 1);
}
