//! From every version that was ever released. The databases in `tests/fixtures/store` were made by the programs that
//! wrote them; a new schema adds the last one of the schema before.

use super::*;

/// What the fixtures hold: a namespace, a Secret, ConfigMaps c0 to c3 with some history, c1 deleted, one of 6 KiB.
const REVISION: Revision = 17;
const FLOOR: Revision = 11;

fn fixture(version: i64) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/store/v{version}.db"))
}

/// A directory with a store of a version.
fn old_store(version: i64) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::copy(fixture(version), dir.path().join("store.db")).unwrap();
    dir
}

/// Revision, kind, name, previous, value.
type LogRow = (i64, i64, String, Option<i64>, Vec<u8>);

fn rows(path: &Path) -> Vec<LogRow> {
    let db = rusqlite::Connection::open(path).unwrap();
    let mut rows = db.prepare("SELECT revision, kind, name, previous, value FROM log ORDER BY revision").unwrap();
    let all = rows.query_map([], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?, r.get(4)?))).unwrap();
    all.map(Result::unwrap).collect()
}

#[tokio::test]
async fn every_released_version_is_migrated_with_its_history() {
    for version in 1..schema::SCHEMA {
        let dir = old_store(version);
        let before = rows(&dir.path().join("store.db"));
        let store = Store::open(dir.path(), Options::default()).unwrap();
        assert_eq!((store.revision(), store.floor()), (REVISION, FLOOR), "version {version}");
        let maps = store.list("configmaps", Some("default"));
        let names: Vec<(&str, Revision)> = maps.entries.iter().map(|e| (&*e.key.name, e.revision)).collect();
        assert_eq!(names, [("big", 15), ("c0", 17), ("c2", 13), ("c3", 14)], "version {version}");
        assert_eq!(store.list("secrets", None).entries.len(), 1);
        // The past is still there: the deleted one as it was, and the changes since the floor.
        let past = store.list_at("configmaps", None, 15).await.unwrap();
        assert!(past.entries.iter().any(|e| &*e.key.name == "c1" && e.revision == 12));
        let mut watch = store.watch_all(FLOOR).unwrap();
        for revision in FLOOR + 1..=REVISION {
            assert_eq!(watch.next().await.unwrap().unwrap().revision(), revision);
        }
        assert!(matches!(store.watch_all(FLOOR - 1), Err(StoreError::Compacted { .. })));
        assert_eq!(store.write(put("new", Expect::Absent, "1")).await.unwrap().entry.revision, REVISION + 1);

        // The database of before is kept as it was.
        let kept = dir.path().join(format!("store.db.v{version}"));
        assert_eq!(rows(&kept), before);
        let old = rusqlite::Connection::open(&kept).unwrap();
        assert_eq!(schema::meta(&old, "schema").unwrap(), Some(version));
        let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&kept).unwrap());
        assert_eq!(mode & 0o777, 0o600);

        // Once is enough: the next opening finds the newest schema and keeps nothing.
        let identity = store.identity();
        drop((store, watch));
        std::fs::remove_file(&kept).unwrap();
        let store = reopen(dir.path(), Options::default());
        assert_eq!((store.revision(), store.identity()), (REVISION + 1, identity));
        assert!(!kept.exists());
    }
}

#[test]
fn a_migration_that_is_interrupted_begins_again() {
    // At each statement that changes something: stopped there as a crash would.
    for stop_after in 1.. {
        let dir = old_store(1);
        let path = dir.path().join("store.db");
        let before = rows(&path);
        let steps = Arc::new(std::sync::atomic::AtomicU64::new(0));
        {
            let mut db = rusqlite::Connection::open(&path).unwrap();
            let seen = Arc::clone(&steps);
            db.update_hook(Some(move |_, _: &str, _: &str, _| {
                seen.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            }))
            .unwrap();
            let seen = Arc::clone(&steps);
            db.progress_handler(1, Some(move || seen.load(std::sync::atomic::Ordering::Relaxed) >= stop_after))
                .unwrap();
            let found = schema::find(&db, &path);
            let done = found.and_then(|found| schema::bring_up(&mut db, &path, found));
            if done.is_ok() {
                assert!(stop_after > 10, "the migration was never interrupted");
                break;
            }
        }
        assert_eq!(rows(&path), before);
        let store = Store::open(dir.path(), Options::default()).unwrap();
        assert_eq!(store.revision(), REVISION);
    }
}

#[test]
fn times_are_put_in_order_and_every_row_gets_its_sum() {
    let dir = old_store(1);
    let path = dir.path().join("store.db");
    {
        let db = rusqlite::Connection::open(&path).unwrap();
        // The clock was set back an hour between two runs.
        db.execute("UPDATE log SET at = at - 3600000 WHERE revision > 13", []).unwrap();
    }
    drop(Store::open(dir.path(), Options::default()).unwrap());
    let db = rusqlite::Connection::open(&path).unwrap();
    let times: Vec<i64> = db
        .prepare("SELECT at FROM log ORDER BY revision")
        .unwrap()
        .query_map([], |r| r.get(0))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert!(times.is_sorted(), "{times:?}");
    let unsummed: i64 = db.query_row("SELECT count(*) FROM log WHERE sum = 0", [], |r| r.get(0)).unwrap();
    assert_eq!((unsummed, schema::meta(&db, "compacted").unwrap()), (0, Some(11)));
}

#[test]
fn a_migration_needs_its_copy_first() {
    let dir = old_store(1);
    std::fs::create_dir_all(dir.path().join("store.db.v1/in-the-way")).unwrap();
    let error = attempt(dir.path(), Options::default()).err().unwrap().to_string();
    assert!(error.contains("a copy cannot be kept"), "{error}");
    let db = rusqlite::Connection::open(dir.path().join("store.db")).unwrap();
    assert_eq!(schema::meta(&db, "schema").unwrap(), Some(1));
}
