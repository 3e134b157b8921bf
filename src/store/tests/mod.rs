//! The store's own promises, one by one; what they are held against is in the modules.

use super::*;

mod crash;
mod damage;
mod full;
mod history;
mod migration;
mod restoring;

fn body(text: &str) -> Body {
    Body { head: b"{\"r\":\"".to_vec(), tail: format!("\",\"v\":\"{text}\"}}").into_bytes() }
}

fn put(name: &str, expect: Expect, text: &str) -> Write {
    Write { key: Key::new("things", "ns", name), expect, requires: Vec::new(), action: Action::Put(body(text)) }
}

fn delete(name: &str, expect: Expect) -> Write {
    Write { action: Action::Delete(body("gone")), ..put(name, expect, "") }
}

fn tiny() -> Options {
    Options { window: 3, ..Options::default() }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Opens a store that this process has closed: its thread lets go of the directory a moment after the last handle is
/// dropped, and so does a child that another test is just starting.
fn attempt(dir: &Path, options: Options) -> Result<Store, StoreError> {
    loop {
        match Store::open(dir, options.clone()) {
            Err(StoreError::Locked { .. }) => std::thread::yield_now(),
            other => return other,
        }
    }
}

fn reopen(dir: &Path, options: Options) -> Store {
    attempt(dir, options).unwrap()
}

/// Waits until nobody has it open.
fn settled(dir: &Path) {
    while db::take_lock(dir).is_err() {
        std::thread::yield_now();
    }
}

#[tokio::test]
async fn writes_meet_their_expectations() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), Options::default()).unwrap();
    let first = store.write(put("a", Expect::Absent, "1")).await.unwrap();
    assert_eq!((first.entry.revision, first.changed), (1, true));
    assert_eq!(first.entry.bytes, &b"{\"r\":\"1\",\"v\":\"1\"}"[..]);
    assert!(matches!(store.write(put("a", Expect::Absent, "2")).await, Err(WriteError::Exists(e)) if e.revision == 1));
    assert!(matches!(store.write(put("b", Expect::At(1), "2")).await, Err(WriteError::Missing)));
    assert!(matches!(store.write(delete("b", Expect::Any)).await, Err(WriteError::Missing)));

    let same = store.write(put("a", Expect::At(1), "1")).await.unwrap();
    assert_eq!((same.entry.revision, same.changed, store.revision()), (1, false, 1));
    assert_eq!(store.write(put("a", Expect::At(1), "2")).await.unwrap().entry.revision, 2);
    assert!(matches!(store.write(put("a", Expect::At(1), "3")).await, Err(WriteError::Moved(e)) if e.revision == 2));

    let mut dependent = put("c", Expect::Absent, "1");
    dependent.requires = vec![(Key::new("things", "ns", "a"), Expect::At(1))];
    assert!(matches!(store.write(dependent.clone()).await, Err(WriteError::Requirement(k)) if &*k.name == "a"));
    dependent.requires[0].1 = Expect::At(2);
    store.write(dependent).await.unwrap();

    let gone = store.write(delete("a", Expect::At(2))).await.unwrap();
    assert_eq!(gone.entry.revision, 4);
    assert!(store.get(&Key::new("things", "ns", "a")).is_none());
}

#[tokio::test]
async fn concurrent_writers_of_one_revision_have_one_winner() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), Options::default()).unwrap();
    store.write(put("a", Expect::Absent, "0")).await.unwrap();
    let texts: Vec<String> = (0..50).map(|i| format!("w{i}")).collect();
    let outcomes = futures::future::join_all(texts.iter().map(|text| store.write(put("a", Expect::At(1), text)))).await;
    assert_eq!(outcomes.iter().filter(|o| o.is_ok()).count(), 1);
    assert_eq!(store.revision(), 2);
}

#[tokio::test]
async fn reopening_shows_the_same_and_goes_on_counting() {
    let dir = tempfile::tempdir().unwrap();
    let before = {
        let store = Store::open(dir.path(), Options::default()).unwrap();
        for i in 0..20 {
            store.write(put(&format!("n{}", i % 7), Expect::Any, &format!("{i}"))).await.unwrap();
        }
        store.write(delete("n3", Expect::Any)).await.unwrap();
        store.list("things", None)
    };
    let store = reopen(dir.path(), Options::default());
    let after = store.list("things", None);
    assert_eq!(before.revision, 21);
    assert_eq!((before.revision, before.entries), (after.revision, after.entries));
    assert_eq!(store.write(put("x", Expect::Absent, "")).await.unwrap().entry.revision, 22);
}

#[tokio::test]
async fn a_slow_watcher_is_cut_off_and_resumes_without_a_gap() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), Options { watch_queue: 5, ..tiny() }).unwrap();
    let mut watch = store.watch("things", None, 0).unwrap();
    for i in 0..40 {
        store.write(put("a", Expect::Any, &format!("{i}"))).await.unwrap();
    }
    let mut seen = Vec::new();
    while let Some(change) = watch.next().await.unwrap() {
        seen.push(change.revision());
    }
    assert!(seen.len() < 40);
    let mut again = store.watch("things", None, *seen.last().unwrap()).unwrap();
    while seen.len() < 40 {
        seen.push(again.next().await.unwrap().unwrap().revision());
    }
    assert_eq!(seen, (1..=40).collect::<Vec<_>>());
}

#[tokio::test]
async fn settling_leaves_one_file() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), Options::default()).unwrap();
    for i in 0..50 {
        store.write(put(&format!("n{i}"), Expect::Absent, "1")).await.unwrap();
    }
    store.settle().await.unwrap();
    assert_eq!(std::fs::metadata(wal::path_of(store.path())).unwrap().len(), 0);
    let copy = tempfile::tempdir().unwrap();
    std::fs::copy(store.path(), copy.path().join("store.db")).unwrap();
    assert_eq!(Store::open(copy.path(), Options::default()).unwrap().list_all().entries, store.list_all().entries);
}

#[tokio::test]
async fn closing_ends_watches() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), Options::default()).unwrap();
    let mut watch = store.watch("things", None, 0).unwrap();
    drop(store);
    assert!(watch.next().await.unwrap().is_none());
}
