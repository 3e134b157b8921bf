//! History: what watches and old lists show, and what compaction takes away.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;

#[tokio::test]
async fn compaction_keeps_what_history_needs() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { keep: Duration::ZERO, keep_changes: 10, compact_every: Duration::from_millis(5), ..tiny() };
    let store = Store::open(dir.path(), options.clone()).unwrap();
    store.write(put("still", Expect::Absent, "old")).await.unwrap();
    for i in 0..50 {
        store.write(put(&format!("n{}", i % 3), Expect::Any, &format!("{i}"))).await.unwrap();
    }
    let floor = tokio::time::timeout(Duration::from_secs(10), async {
        while store.floor() < 41 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        store.floor()
    })
    .await
    .unwrap();
    assert_eq!(floor, 41);
    assert!(matches!(store.watch("things", None, 40), Err(StoreError::Compacted { requested: 40, floor: 41 })));
    assert!(matches!(store.list_at("things", None, 40).await, Err(StoreError::Compacted { .. })));
    assert!(matches!(store.list_at("things", None, 99).await, Err(StoreError::Future { .. })));
    let at = store.list_at("things", Some("ns"), 41).await.unwrap();
    assert_eq!(at.entries.iter().map(|e| e.revision).collect::<Vec<_>>(), [41, 39, 40, 1]);
    let mut watch = store.watch("things", None, 41).unwrap();
    for revision in 42..=51 {
        let change = watch.next().await.unwrap().unwrap();
        assert_eq!(change.revision(), revision);
        assert_eq!(change.previous.as_ref().unwrap().revision, revision - 3);
    }
    drop((store, watch));
    let store = reopen(dir.path(), options);
    assert_eq!((store.revision(), store.floor(), store.list("things", None).entries.len()), (51, 41, 4));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is written, a watch from any revision, replayed over the list at that revision, gives the present;
    /// each event is there once, in order. The window of 3 makes most of it come from disk.
    #[test]
    fn list_and_watch_agree(steps in prop::collection::vec((0u8..4, 0u8..3), 1..40), from in 0usize..40) {
        runtime().block_on(async {
            let dir = tempfile::tempdir().unwrap();
            let store = Store::open(dir.path(), tiny()).unwrap();
            for (i, (name, what)) in steps.iter().enumerate() {
                let name = format!("n{name}");
                let write = if *what == 0 { delete(&name, Expect::Any) } else { put(&name, Expect::Any, &format!("{i}")) };
                store.write(write).await.ok();
            }
            let newest = store.revision();
            let from = (from as u64).min(newest);
            let start = store.list_at("things", Some("ns"), from).await.unwrap();
            let mut state: BTreeMap<Key, Arc<Entry>> =
                start.entries.into_iter().map(|e| (e.key.clone(), e)).collect();
            let mut watch = store.watch("things", None, from).unwrap();
            for revision in from + 1..=newest {
                let change = watch.next().await.unwrap().unwrap();
                assert_eq!(change.revision(), revision);
                let before = match change.kind {
                    ChangeKind::Deleted => state.remove(&change.entry.key),
                    _ => state.insert(change.entry.key.clone(), Arc::clone(&change.entry)),
                };
                assert_eq!(before, change.previous);
                assert_eq!(change.previous.is_none(), change.kind == ChangeKind::Added);
            }
            assert!(watch.ready().is_none());
            assert_eq!(state.into_values().collect::<Vec<_>>(), store.list("things", None).entries);
        });
    }
}

/// The clock was wrong by ten years when these were written, or is now: versions grow, and history is neither dropped
/// at once nor kept for ever.
#[tokio::test]
async fn a_clock_set_back_stops_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        keep: Duration::from_millis(300),
        keep_changes: 5,
        compact_every: Duration::from_millis(10),
        ..tiny()
    };
    {
        let store = Store::open(dir.path(), Options::default()).unwrap();
        for i in 0..50 {
            store.write(put("a", Expect::Any, &i.to_string())).await.unwrap();
        }
    }
    drop(reopen(dir.path(), Options::default()));
    settled(dir.path());
    let ahead = 10 * 365 * 86_400_000i64;
    {
        let db = rusqlite::Connection::open(dir.path().join("store.db")).unwrap();
        db.execute("UPDATE log SET at = (SELECT max(at) FROM log) + ?", [ahead]).unwrap();
    }
    let started = Instant::now();
    let store = reopen(dir.path(), options);
    let first = store.write(put("a", Expect::Any, "now")).await.unwrap().entry.revision;
    assert_eq!(first, 51);
    while store.floor() < 46 {
        assert!(started.elapsed() < Duration::from_secs(20), "history is kept for ever: floor {}", store.floor());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(started.elapsed() >= Duration::from_millis(250), "dropped before its time");
    assert_eq!((store.floor(), store.write(put("a", Expect::Any, "x")).await.unwrap().entry.revision), (46, 52));
}

/// What one slice of compaction costs those who write meanwhile, with 10,000 changes to go. The bound is generous:
/// other tests run beside this one. `make bench` prints it alone.
#[test]
fn compaction_is_not_felt() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), Options::default()).unwrap();
    let text = "x".repeat(1000);
    let runtime = runtime();
    runtime.block_on(async {
        for group in 0..100 {
            let writes =
                (0..100).map(|i| store.write(put(&format!("n{i}"), Expect::Any, &format!("{group}-{i}{text}"))));
            let writes: Vec<_> = writes.collect();
            assert!(futures::future::join_all(writes).await.iter().all(Result::is_ok));
        }
    });
    drop(store);
    let measure = |options: Options, until: Option<Revision>| {
        let store = reopen(dir.path(), options);
        let mut waits = runtime.block_on(async {
            let mut waits = Vec::new();
            while until.is_none_or(|floor| store.floor() < floor || waits.len() < 200) && waits.len() < 400 {
                let started = Instant::now();
                store.write(put("probe", Expect::Any, &waits.len().to_string())).await.unwrap();
                waits.push(started.elapsed());
            }
            waits
        });
        waits.sort();
        (waits[waits.len() / 2], waits[waits.len() * 99 / 100], waits[waits.len() - 1])
    };
    let quiet = measure(Options::default(), None);
    let busy = Options {
        keep: Duration::ZERO,
        keep_changes: 10,
        compact_every: Duration::from_millis(1),
        ..Options::default()
    };
    let busy = measure(busy, Some(10_000));
    println!("a write, median / 99 % / longest: {quiet:?} alone, {busy:?} while 10,000 changes are compacted");
    assert!(busy.2 < Duration::from_secs(1), "{busy:?}");
}
