//! Files that are not what they should be.

use std::os::unix::fs::PermissionsExt as _;

use super::*;

/// A closed store with some objects, its log taken in.
fn closed(objects: usize) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), Options::default()).unwrap();
    runtime().block_on(async {
        for i in 0..objects {
            store.write(put(&format!("n{i}"), Expect::Absent, &"x".repeat(200))).await.unwrap();
        }
    });
    drop(store);
    drop(reopen(dir.path(), Options::default()));
    settled(dir.path());
    dir
}

fn error(dir: &Path) -> StoreError {
    attempt(dir, Options::default()).err().expect("it cannot be opened")
}

#[test]
fn files_are_private_and_locked() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), Options::default()).unwrap();
    assert!(matches!(Store::open(dir.path(), Options::default()), Err(StoreError::Locked { .. })));
    let mode = |p: &Path| std::fs::metadata(p).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(dir.path()), 0o700);
    for file in ["store.db", "store.db-wal", "store.db-shm", "store.lock", "store.reserve"] {
        assert_eq!(mode(&dir.path().join(file)), 0o600, "{file}");
    }
    drop(store);
}

#[test]
fn what_is_not_ours_is_left_alone() {
    let newer = closed(1);
    let path = newer.path().join("store.db");
    rusqlite::Connection::open(&path).unwrap().execute("UPDATE meta SET value = 7 WHERE name = 'schema'", []).unwrap();
    let e = error(newer.path());
    assert!(matches!(e, StoreError::Newer { found: 7, .. }), "{e}");
    assert!(e.to_string().contains("use the newer vmdeck"), "{e}");

    let foreign = tempfile::tempdir().unwrap();
    let path = foreign.path().join("store.db");
    rusqlite::Connection::open(&path).unwrap().execute_batch("CREATE TABLE bookmarks (a)").unwrap();
    let before = std::fs::read(&path).unwrap();
    let e = error(foreign.path());
    assert!(matches!(e, StoreError::Foreign { .. }), "{e}");
    assert_eq!(std::fs::read(&path).unwrap(), before);
    rusqlite::Connection::open(&path).unwrap().pragma_update(None, "application_id", 77).unwrap();
    let e = error(foreign.path());
    assert!(matches!(e, StoreError::Foreign { .. }), "{e}");

    let garbage = tempfile::tempdir().unwrap();
    std::fs::write(garbage.path().join("store.db"), "x".repeat(8192)).unwrap();
    assert!(matches!(error(garbage.path()), StoreError::Corrupt { .. }));
}

#[test]
fn the_message_names_file_backups_and_remedy() {
    let dir = closed(3);
    let elsewhere = tempfile::tempdir().unwrap();
    let (path, copy) = (dir.path().join("store.db"), elsewhere.path().join("monday.db"));
    backup(&path, &copy).unwrap();
    std::fs::write(dir.path().join("store.db.v1"), "").unwrap();
    std::fs::write(&path, "x".repeat(9000)).unwrap();
    let e = error(dir.path()).to_string();
    for part in [
        path.to_str().unwrap(),
        "is damaged",
        "Nothing was changed",
        "vmdeck host restore FILE",
        copy.to_str().unwrap(),
        "store.db.v1",
    ] {
        assert!(e.contains(part), "{part}: {e}");
    }
    std::fs::remove_file(&copy).unwrap();
    assert!(!error(dir.path()).to_string().contains("monday.db"));
}

/// Wherever one byte of the file is another one, either nothing of it is lost, or opening says so; it never shows
/// other objects.
#[test]
fn flipped_bytes_are_noticed_or_harmless() {
    let dir = closed(60);
    let path = dir.path().join("store.db");
    let good = std::fs::read(&path).unwrap();
    let want = {
        let store = reopen(dir.path(), Options::default());
        store.list("things", None).entries
    };
    settled(dir.path());
    let (mut noticed, mut harmless) = (0, 0);
    for round in 0..400usize {
        let at = round * 7919 % good.len();
        let mut bad = good.clone();
        bad[at] ^= 1 << (round % 8);
        std::fs::write(&path, &bad).unwrap();
        match attempt(dir.path(), Options::default()) {
            Ok(store) => {
                assert_eq!(store.list("things", None).entries, want, "byte {at}");
                harmless += 1;
            }
            Err(StoreError::Corrupt { .. } | StoreError::Foreign { .. } | StoreError::Newer { .. }) => noticed += 1,
            Err(other) => panic!("byte {at}: {other}"),
        }
        settled(dir.path());
        std::fs::remove_file(wal::path_of(&path)).ok();
    }
    println!("400 flipped bytes: {noticed} refused, {harmless} in unused space");
    assert!(noticed > 150, "{noticed}");
}

#[test]
fn a_file_that_was_cut_off_is_refused() {
    let dir = closed(60);
    let path = dir.path().join("store.db");
    let good = std::fs::read(&path).unwrap();
    for length in [100, 4096, 5000, good.len() / 2, good.len() - 4096, good.len() - 1] {
        std::fs::write(&path, &good[..length]).unwrap();
        let e = error(dir.path());
        assert!(matches!(e, StoreError::Corrupt { .. }), "{length}: {e}");
    }
}

/// A store as a crash leaves it: its last writes are in the log only.
fn crashed(writes: usize) -> tempfile::TempDir {
    let (dir, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = Store::open(dir.path(), Options::default()).unwrap();
    runtime().block_on(async {
        for i in 0..writes {
            store.write(put(&format!("n{i}"), Expect::Absent, "v")).await.unwrap();
        }
    });
    for file in ["store.db", "store.db-wal"] {
        std::fs::copy(dir.path().join(file), copy.path().join(file)).unwrap();
    }
    copy
}

#[test]
fn a_damaged_log_does_not_lose_writes_in_silence() {
    let dir = crashed(20);
    let (path, log) = (dir.path().join("store.db"), dir.path().join("store.db-wal"));
    let (database, good) = (std::fs::read(&path).unwrap(), std::fs::read(&log).unwrap());
    let open_with = |content: &[u8]| {
        std::fs::write(&path, &database).unwrap();
        std::fs::write(&log, content).unwrap();
        let opened = attempt(dir.path(), Options::default()).map(|s| s.revision());
        settled(dir.path());
        opened
    };
    assert_eq!(open_with(&good).unwrap(), 20);
    let (frame, frames) = (24 + 4096, (good.len() - 32) / (24 + 4096));
    assert!(frames > 20);
    for number in 0..frames - 8 {
        let mut bad = good.clone();
        bad[32 + number * frame + 24 + number * 97 % 4096] ^= 4;
        let e = open_with(&bad).unwrap_err();
        assert!(matches!(&e, StoreError::Corrupt { detail, .. } if detail.contains("log")), "frame {number}: {e}");
    }
    for at in [0, 10, 17, 30] {
        let mut bad = good.clone();
        bad[at] ^= 1;
        assert!(open_with(&bad).is_err(), "header byte {at}");
    }
    let garbage: Vec<u8> = (0..good.len()).map(|i| (i * 31 % 251) as u8).collect();
    assert!(open_with(&garbage).is_err());

    // A crash in the middle of a transaction: what came before it is there.
    let torn = good.len() - 3000;
    assert_eq!(open_with(&good[..torn]).unwrap(), 19);
    let mut half = good.clone();
    half[torn..].fill(0);
    assert_eq!(open_with(&half).unwrap(), 19);
    // A log that a file system made longer before it had anything for it.
    std::fs::write(&path, &database).unwrap();
    assert!(open_with(&[0; 9000]).is_ok());

    // A database that lost everything but its log.
    std::fs::write(&log, &good).unwrap();
    std::fs::write(&path, "").unwrap();
    assert!(matches!(error(dir.path()), StoreError::Corrupt { .. }));
}
