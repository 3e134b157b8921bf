//! A disk without space: a small file system of its own.

use std::process::Command;
use std::time::Duration;

use super::*;

/// A file system in memory, unmounted when dropped.
struct Small(tempfile::TempDir);

impl Small {
    /// `None`, with the reason printed, where this process may not mount.
    fn mount(size: &str) -> Option<Self> {
        let small = Self(tempfile::tempdir().unwrap());
        let options = format!("size={size},mode=0700");
        let done = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "none"]).arg(small.0.path()).output();
        match done {
            Ok(output) if output.status.success() => Some(small),
            other => {
                println!("skipped: a small file system cannot be mounted here: {other:?}");
                None
            }
        }
    }

    fn dir(&self) -> PathBuf {
        self.0.path().join("state")
    }

    /// Takes all space there is.
    fn fill(&self) {
        use std::io::Write as _;
        let mut file = std::fs::File::options().append(true).create(true).open(self.0.path().join("ballast")).unwrap();
        while file.write_all(&[1; 4096]).is_ok() {}
    }

    fn free(&self) {
        std::fs::remove_file(self.0.path().join("ballast")).unwrap();
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        Command::new("umount").arg("-l").arg(self.0.path()).status().ok();
    }
}

fn large(name: &str, n: u64) -> Write {
    put(name, Expect::Any, &format!("{n}{}", "x".repeat(60_000)))
}

#[tokio::test]
async fn a_full_disk_refuses_writes_and_nothing_else() {
    let Some(small) = Small::mount("24m") else { return };
    let options = Options { window: 8, ..Options::default() };
    let store = Store::open(&small.dir(), options.clone()).unwrap();
    for n in 0..40 {
        store.write(put(&format!("n{n}"), Expect::Absent, "v")).await.unwrap();
    }
    small.fill();
    // What the log has space for is still written; then it ends with a clear word.
    let mut acknowledged = Vec::new();
    let error = loop {
        match store.write(large("big", acknowledged.len() as u64)).await {
            Ok(written) => acknowledged.push(written.entry.revision),
            Err(error) => break error,
        }
    };
    let text = error.to_string();
    assert!(matches!(error, WriteError::Store(StoreError::Full { .. })), "{text}");
    for part in ["no space is left", small.dir().to_str().unwrap(), "Free some space"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(matches!(store.trouble(), Some(StoreError::Full { .. })));
    small.fill_up_reserve_excepted();

    // Reading, old lists and watches, from memory and from disk, go on.
    let newest = store.revision();
    assert_eq!(newest, 40 + acknowledged.len() as u64);
    assert_eq!(store.list_at("things", None, 20).await.unwrap().entries.len(), 20);
    let mut watch = store.watch("things", None, 5).unwrap();
    for revision in 6..=newest {
        assert_eq!(watch.next().await.unwrap().unwrap().revision(), revision);
    }
    // So does what leads to less; watchers see it.
    for n in 0..20 {
        store.write(delete(&format!("n{n}"), Expect::Any)).await.unwrap();
    }
    let retire = Write { action: Action::Retire(body("going")), ..put("n30", Expect::Any, "") };
    let retired = store.write(retire).await.unwrap().entry.revision;
    for revision in newest + 1..=retired {
        assert_eq!(watch.next().await.unwrap().unwrap().revision(), revision);
    }
    assert!(matches!(store.write(put("n31", Expect::Any, "w")).await, Err(WriteError::Store(StoreError::Full { .. }))));

    // A process that is killed now finds everything again, on the same full disk.
    let other = tempfile::tempdir().unwrap();
    for file in ["store.db", "store.db-wal"] {
        std::fs::copy(small.dir().join(file), other.path().join(file)).unwrap();
    }
    let copy = Store::open(other.path(), Options::default()).unwrap();
    assert_eq!((copy.revision(), copy.list_all().entries), (retired, store.list_all().entries));

    // It recovers by itself.
    small.free();
    let patience = std::time::Instant::now() + Duration::from_secs(20);
    while store.trouble().is_some() {
        assert!(std::time::Instant::now() < patience, "{:?}", store.trouble());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let after = store.write(put("n31", Expect::Any, "w")).await.unwrap();
    assert_eq!(after.entry.revision, retired + 1);
    let all = store.list_all();
    drop((store, watch));
    assert_eq!(reopen(&small.dir(), options).list_all().entries, all.entries);
}

impl Small {
    /// Again, as the reserve was given back meanwhile to nobody but the store: what others would take of it.
    fn fill_up_reserve_excepted(&self) {
        let free = rustix::fs::statvfs(self.0.path()).unwrap();
        assert!(free.f_bavail * free.f_bsize >= 2 << 20, "the reserve was not given back");
    }
}

#[tokio::test]
async fn deletions_that_use_up_the_reserve_are_refused_too() {
    let Some(small) = Small::mount("12m") else { return };
    let store = Store::open(&small.dir(), Options::default()).unwrap();
    store.write(put("a", Expect::Absent, "v")).await.unwrap();
    small.fill();
    while store.write(large("big", rand::random())).await.is_ok() {}
    // Somebody else takes what was given back.
    small.fill();
    let mut outcome = store.write(delete("a", Expect::Any)).await;
    for n in 0..1000 {
        if outcome.is_err() {
            break;
        }
        outcome =
            store.write(Write { action: Action::Retire(body(&n.to_string())), ..put("big", Expect::Any, "") }).await;
    }
    assert!(matches!(outcome, Err(WriteError::Store(StoreError::Full { .. }))), "{outcome:?}");
    let all = store.list_all().entries;
    drop(store);
    // A daemon that starts on the full disk shows what there is, and takes writes again later.
    let store = reopen(&small.dir(), Options::default());
    assert_eq!(store.list_all().entries, all);
    small.free();
    let patience = std::time::Instant::now() + Duration::from_secs(20);
    while let Err(error) = store.write(put("b", Expect::Any, "v")).await {
        assert!(std::time::Instant::now() < patience, "{error}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[test]
fn a_read_only_disk_is_named() {
    let Some(small) = Small::mount("16m") else { return };
    drop(Store::open(&small.dir(), Options::default()).unwrap());
    drop(reopen(&small.dir(), Options::default()));
    settled(&small.dir());
    let remounted = Command::new("mount").args(["-o", "remount,ro"]).arg(small.0.path()).status().unwrap();
    assert!(remounted.success());
    let error = attempt(&small.dir(), Options::default()).err().unwrap().to_string();
    assert!(error.contains("Read-only file system") && error.contains(small.dir().to_str().unwrap()), "{error}");
}
