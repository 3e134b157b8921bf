//! Backups and what comes back from them.

use super::*;

/// A value of [`body`] taken apart again.
fn again(entry: &Entry) -> Body {
    let text = std::str::from_utf8(&entry.bytes).unwrap();
    let value = text.split("\"v\":\"").nth(1).unwrap().trim_end_matches("\"}");
    body(value)
}

/// Names and values.
fn values(store: &Store) -> Vec<(String, String)> {
    let entries = store.list("things", None).entries;
    entries.iter().map(|e| (e.key.name.to_string(), format!("{:?}", again(e).tail))).collect()
}

/// With a few objects, of which `gone` is deleted.
async fn filled(dir: &Path) -> Store {
    let store = Store::open(dir, Options::default()).unwrap();
    for name in ["a", "b", "gone"] {
        store.write(put(name, Expect::Absent, "1")).await.unwrap();
    }
    store.write(put("a", Expect::Any, "2")).await.unwrap();
    store.write(delete("gone", Expect::Any)).await.unwrap();
    store
}

/// Another test's child may hold the lock for a moment more.
fn exchanged(backup: &Backup, dir: &Path) -> Restored {
    loop {
        match backup.replace(dir, &again) {
            Err(StoreError::Locked { .. }) => std::thread::yield_now(),
            other => return other.unwrap(),
        }
    }
}

fn closed(store: Store, dir: &Path) {
    drop(store);
    settled(dir);
}

#[tokio::test]
async fn a_backup_is_one_private_file_that_says_what_it_is() {
    let (dir, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = filled(dir.path()).await;
    let file = out.path().join("b.db");
    let contents = backup(store.path(), &file).unwrap();
    assert_eq!((contents.objects, contents.revision), (2, 5));
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&file).unwrap());
    assert_eq!(mode & 0o777, 0o600);
    let names: Vec<_> = std::fs::read_dir(out.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, ["b.db"]);
    // SQLite's header: no write-ahead log (18, 19), "VMDS" (68..72).
    let bytes = std::fs::read(&file).unwrap();
    assert_eq!((&bytes[18..20], &bytes[68..72]), (&[1, 1][..], &b"VMDS"[..]));
    let read = Backup::read(&file, dir.path()).unwrap();
    assert_eq!(read.contents(), &contents);

    let e = backup(store.path(), &file).unwrap_err().to_string();
    assert!(e.contains("exists already") && e.contains("choose another name"), "{e}");
    assert_eq!(std::fs::read(&file).unwrap(), bytes);
    let e = backup(store.path(), &out.path().join("no/such/b.db")).unwrap_err().to_string();
    assert!(e.contains("cannot write the backup"), "{e}");
    assert!(backup(&dir.path().join("nothing.db"), &out.path().join("c.db")).is_err());
    assert!(!out.path().join("c.db").exists());
}

#[test]
fn a_backup_while_others_write_is_one_moment() {
    let (dir, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = Store::open(dir.path(), Options::default()).unwrap();
    let ended = Arc::new(std::sync::atomic::AtomicBool::new(false));
    // Writes pairs: at each moment the two differ by one write at most.
    let writer = {
        let (store, ended) = (store.clone(), Arc::clone(&ended));
        std::thread::spawn(move || {
            runtime().block_on(async {
                for i in 0.. {
                    for name in ["left", "right"] {
                        store.write(put(name, Expect::Any, &i.to_string())).await.unwrap();
                    }
                    if ended.load(std::sync::atomic::Ordering::Relaxed) {
                        return;
                    }
                }
            });
        })
    };
    for n in 0..20 {
        let file = out.path().join(format!("{n}.db"));
        let before = store.revision();
        let contents = backup(store.path(), &file).unwrap();
        assert!(contents.revision >= before, "{} is older than {before}", contents.revision);
        let seen: Vec<u64> = Backup::read(&file, dir.path()).unwrap().revisions();
        if let [left, right] = seen[..] {
            assert_eq!(left.abs_diff(right), 1);
            assert_eq!(left.max(right), contents.revision);
        }
    }
    ended.store(true, std::sync::atomic::Ordering::Relaxed);
    writer.join().unwrap();
}

#[tokio::test]
async fn a_restored_store_counts_on_above_all_that_was_seen() {
    let (dir, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = filled(dir.path()).await;
    let (file, identity, before) = (out.path().join("b.db"), store.identity(), values(&store));
    backup(store.path(), &file).unwrap();
    // What the backup does not know.
    for i in 0..30 {
        store.write(put("later", Expect::Any, &i.to_string())).await.unwrap();
    }
    store.write(delete("b", Expect::Any)).await.unwrap();
    let seen = store.revision();

    let backup = Backup::read(&file, dir.path()).unwrap();
    assert!(matches!(backup.replace(dir.path(), &again), Err(StoreError::Locked { .. })));
    closed(store, dir.path());
    let restored = exchanged(&backup, dir.path());
    let store = reopen(dir.path(), Options::default());
    assert_eq!(values(&store), before);
    assert!(store.revision() == restored.revision && restored.revision > seen + 1000);
    assert_ne!(store.identity(), identity);
    for entry in store.list("things", None).entries {
        assert!(entry.revision > seen, "{} went back to {}", entry.key.name, entry.revision);
        assert_eq!(entry.bytes, again(&entry).render(entry.revision));
    }
    // Whoever watched or listed the old store is told to begin anew.
    for revision in [1, 5, seen, restored.revision - 1] {
        assert!(matches!(store.watch("things", None, revision), Err(StoreError::Compacted { .. })), "{revision}");
        assert!(store.list_at("things", None, revision).await.is_err());
    }
    let mut watch = store.watch("things", None, restored.revision).unwrap();
    let next = store.write(put("new", Expect::Absent, "1")).await.unwrap().entry.revision;
    assert_eq!((next, watch.next().await.unwrap().unwrap().revision()), (restored.revision + 1, next));

    // The replaced store is kept, and can be gone back to.
    let replaced = restored.replaced.unwrap();
    assert_eq!(mode_of(&replaced), 0o600);
    let back = Backup::read(&replaced, dir.path()).unwrap();
    assert_eq!((back.contents().revision, back.contents().made), (seen, None));
    closed(store, dir.path());
    let again_restored = exchanged(&back, dir.path());
    assert!(again_restored.revision > next);
    assert_ne!(again_restored.replaced.unwrap(), replaced);
    let store = reopen(dir.path(), Options::default());
    assert!(store.get(&Key::new("things", "ns", "later")).is_some());
    assert!(store.get(&Key::new("things", "ns", "new")).is_none());
}

fn mode_of(path: &Path) -> u32 {
    std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(path).unwrap()) & 0o777
}

#[tokio::test]
async fn where_the_old_store_is_lost_counting_leaps() {
    let out = tempfile::tempdir().unwrap();
    let source = tempfile::tempdir().unwrap();
    let file = out.path().join("b.db");
    backup(filled(source.path()).await.path(), &file).unwrap();

    for damage in ["absent", "garbage", "broken log"] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.db");
        let kept: &[&str] = match damage {
            "absent" => &[],
            "garbage" => {
                std::fs::write(&path, "x".repeat(5000)).unwrap();
                &[""]
            }
            _ => {
                closed(filled(dir.path()).await, dir.path());
                std::fs::write(wal::path_of(&path), "y".repeat(5000)).unwrap();
                &["", "-wal"]
            }
        };
        let contents: Vec<Vec<u8>> =
            kept.iter().map(|end| std::fs::read(format!("{}{end}", path.display())).unwrap()).collect();
        let restored = exchanged(&Backup::read(&file, dir.path()).unwrap(), dir.path());
        assert!(restored.revision > 1 << 40 && restored.revision < 1 << 41, "{damage}");
        assert_eq!(restored.replaced.is_some(), !kept.is_empty(), "{damage}");
        for (end, content) in kept.iter().zip(contents) {
            let name = format!("{}{end}", restored.replaced.as_ref().unwrap().display());
            assert_eq!(std::fs::read(name).unwrap(), content, "{damage}");
        }
        let store = reopen(dir.path(), Options::default());
        assert_eq!(store.list("things", None).entries.len(), 2, "{damage}");
    }
}

#[tokio::test]
async fn what_cannot_be_restored_is_refused_and_changes_nothing() {
    let (dir, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = filled(dir.path()).await;
    let good = out.path().join("good.db");
    backup(store.path(), &good).unwrap();
    let case = |name: &str| out.path().join(name);
    let edit = |name: &str, sql: &str| {
        std::fs::copy(&good, case(name)).unwrap();
        rusqlite::Connection::open(case(name)).unwrap().execute_batch(sql).unwrap();
    };
    edit("newer.db", "UPDATE meta SET value = 99 WHERE name = 'schema'");
    edit("other.db", "PRAGMA application_id = 5");
    edit("altered.db", "UPDATE log SET value = x'7b7d' WHERE revision = 4");
    edit("lost.db", "DELETE FROM log WHERE revision = 4");
    std::fs::write(case("text.db"), "apiVersion: v1\n".repeat(100)).unwrap();
    std::fs::write(case("empty.db"), "").unwrap();
    let mut cut = std::fs::read(&good).unwrap();
    cut.truncate(cut.len() - 4096);
    std::fs::write(case("cut.db"), cut).unwrap();
    std::fs::create_dir(case("folder.db")).unwrap();
    let e = Backup::read(store.path(), dir.path()).unwrap_err().to_string();
    assert!(e.contains("is the state database itself"), "{e}");
    let before = std::fs::read_dir(dir.path()).unwrap().count();
    for (name, want) in [
        ("newer.db", "use the newer vmdeck"),
        ("other.db", "not a state database of vmdeck"),
        ("altered.db", "damaged and cannot be restored"),
        ("lost.db", "damaged and cannot be restored"),
        ("text.db", "not a state database of vmdeck"),
        ("empty.db", "not a state database of vmdeck"),
        ("cut.db", "damaged and cannot be restored"),
        ("folder.db", "folder.db"),
        ("none.db", "No such file"),
    ] {
        let e = Backup::read(&case(name), dir.path()).unwrap_err().to_string();
        assert!(e.contains(want) && e.contains(name), "{name}: {e}");
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), before, "something was left");
    assert_eq!(values(&store).len(), 2);
}

#[test]
fn what_a_killed_restore_left_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = std::process::Command::new("true").spawn().unwrap();
    let dead = child.id();
    child.wait().unwrap();
    let living = std::process::id();
    let left = [format!(".store.db.{dead}.part"), format!(".store.db.restoring.{dead}.part-wal")];
    let kept = [format!(".store.db.v1.{living}.part"), ".store.part".to_owned(), "store.db.old".to_owned()];
    for name in left.iter().chain(&kept) {
        std::fs::write(dir.path().join(name), "secrets").unwrap();
    }
    let _store = Store::open(dir.path(), Options::default()).unwrap();
    assert!(left.iter().all(|name| !dir.path().join(name).exists()));
    assert!(kept.iter().all(|name| dir.path().join(name).exists()));
}

#[test]
fn a_backup_of_an_older_release_is_migrated_on_the_way() {
    for version in 1..schema::SCHEMA {
        let dir = tempfile::tempdir().unwrap();
        let old = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/store/v{version}.db"));
        let before = std::fs::read(&old).unwrap();
        let read = Backup::read(&old, dir.path()).unwrap();
        assert_eq!((read.contents().objects, read.contents().revision), (6, 17));
        let whole = |entry: &Entry| Body { head: entry.bytes.to_vec(), tail: Vec::new() };
        read.replace(dir.path(), &whole).unwrap();
        assert_eq!(reopen(dir.path(), Options::default()).list("secrets", None).entries.len(), 1);
        assert_eq!(std::fs::read(&old).unwrap(), before, "the backup was changed");
    }
}
