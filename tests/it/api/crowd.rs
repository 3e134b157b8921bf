//! Many writers and watchers at once, with a store that forgets all the time and connections that end: what each
//! watcher was told is checked against what the writers were answered. The seed is printed; `VMDECK_TEST_SEED` repeats
//! it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use axum::body::Body;
use futures::StreamExt as _;
use http::Request;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;
use vmdeck::apiserver;
use vmdeck::store::{Options, Store};

const NAMESPACES: [&str; 2] = ["default", "kube-system"];
const WRITERS: u64 = 4;
const WRITES: u64 = 300;
/// Namespace, selector, and whether that selects an object with this namespace and label.
type Selects = fn(&str, Option<&str>) -> bool;
const WATCHERS: [(&str, &str, Selects); 6] = [
    ("", "", |_, _| true),
    ("default", "", |n, _| n == "default"),
    ("", "&labelSelector=app%3Dx", |_, l| l == Some("x")),
    ("", "&labelSelector=!app", |_, l| l.is_none()),
    ("kube-system", "&labelSelector=app%20notin%20(x)", |n, l| n == "kube-system" && l != Some("x")),
    ("", "", |_, _| true),
];

/// Numbers that a seed decides.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }
}

/// An object as it was after a write: its name with namespace, its label, its counter.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Shape {
    name: String,
    label: Option<String>,
    count: String,
}

impl Shape {
    fn of(object: &Value) -> Self {
        let metadata = &object["metadata"];
        Self {
            name: format!("{}/{}", metadata["namespace"].as_str().unwrap(), metadata["name"].as_str().unwrap()),
            label: metadata["labels"]["app"].as_str().map(str::to_owned),
            count: object["data"]["count"].to_string(),
        }
    }

    fn selected(&self, selects: Selects) -> bool {
        selects(self.name.split('/').next().unwrap(), self.label.as_deref())
    }
}

fn version(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"].as_str().and_then(|v| v.parse().ok()).unwrap_or_else(|| panic!("{object}"))
}

async fn call(router: &axum::Router, method: &str, path: &str, kind: &str, body: Value) -> (u16, Value) {
    let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
    let request = Request::builder().method(method).uri(path).header("content-type", kind).body(body).unwrap();
    let response = router.clone().oneshot(request).await.unwrap();
    let code = response.status().as_u16();
    (code, serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap())
}

/// Writes at random; gives what it was answered, by version.
async fn writer(router: axum::Router, mut dice: Dice, number: u64) -> BTreeMap<u64, Shape> {
    let mut answered = BTreeMap::new();
    for step in 0..WRITES {
        let collection = format!("/api/v1/namespaces/{}/configmaps", NAMESPACES[dice.roll(2) as usize]);
        let path = format!("{collection}/n{}", dice.roll(4));
        let name = path.rsplit('/').next().unwrap();
        let label = [Value::Null, "x".into(), "y".into()][dice.roll(3) as usize].clone();
        let count = format!("{number}-{step}");
        let whole = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"count": count},
            "metadata": {"name": name, "labels": if label.is_null() { json!({}) } else { json!({"app": label}) }}});
        let (code, answer) = match dice.roll(10) {
            0..3 => call(&router, "POST", &collection, "application/json", whole).await,
            3..5 => call(&router, "PUT", &path, "application/json", whole).await,
            5..8 => {
                let patch = json!({"metadata": {"labels": {"app": label}}, "data": {"count": count}});
                call(&router, "PATCH", &path, "application/merge-patch+json", patch).await
            }
            8 => {
                let query = format!("{path}?fieldManager=w{number}&force=true");
                call(&router, "PATCH", &query, "application/apply-patch+yaml", whole).await
            }
            _ => call(&router, "DELETE", &path, "application/json", Value::Null).await,
        };
        assert!(matches!(code, 200 | 201 | 404 | 409), "{code}: {answer}");
        if answer["kind"] == "ConfigMap" {
            let before = answered.insert(version(&answer), Shape::of(&answer));
            assert!(before.is_none(), "one version was answered twice: {answer}");
        }
    }
    answered
}

/// What a watcher was told.
#[derive(Default)]
struct Record {
    /// Stretches of versions that it saw without a gap, from and to; a new one begins with each list.
    stretches: Vec<(u64, u64)>,
    /// (word, object) by version.
    told: BTreeMap<u64, (String, Shape)>,
    state: BTreeMap<String, (Shape, u64)>,
    connections: usize,
    bookmarks: usize,
}

/// Lists and watches until the end is told, at random also by a streaming list, losing its connection at random.
async fn watcher(router: axum::Router, mut dice: Dice, which: usize, end: Arc<AtomicU64>) -> Record {
    let (namespace, selector, selects) = WATCHERS[which];
    let base = match namespace {
        "" => "/api/v1/configmaps".to_owned(),
        n => format!("/api/v1/namespaces/{n}/configmaps"),
    };
    let mut record = Record::default();
    let mut last = None;
    loop {
        if record.connections > 0 && dice.roll(2) == 0 {
            // Long enough for history to be dropped meanwhile.
            tokio::time::sleep(Duration::from_millis(dice.roll(400))).await;
        }
        let (resumed, query) = match last {
            Some(version) => (true, format!("resourceVersion={version}")),
            None if dice.roll(2) == 0 => {
                let (code, list) =
                    call(&router, "GET", &format!("{base}?{}", selector.trim_start_matches('&')), "", Value::Null)
                        .await;
                assert_eq!(code, 200, "{list}");
                let items = list["items"].as_array().unwrap().iter();
                record.state = items.map(|o| (Shape::of(o).name, (Shape::of(o), version(o)))).collect();
                record.stretches.push((version(&list), version(&list)));
                last = Some(version(&list));
                continue;
            }
            None => (false, "sendInitialEvents=true&resourceVersionMatch=NotOlderThan".to_owned()),
        };
        let timeout = 1 + dice.roll(2);
        let path = format!("{base}?watch=1&allowWatchBookmarks=true&timeoutSeconds={timeout}&{query}{selector}");
        let response = router.clone().oneshot(Request::get(path).body(Body::empty()).unwrap()).await.unwrap();
        let mut stream = response.into_body().into_data_stream();
        record.connections += 1;
        let (mut text, mut initial) = (Vec::new(), (!resumed).then(BTreeMap::new));
        // Some are lost after a few events, some end by themselves.
        let mut lives = if dice.roll(3) == 0 { u64::MAX } else { dice.roll(40) };
        'connection: while let Some(piece) = stream.next().await {
            text.extend_from_slice(&piece.unwrap());
            while let Some(at) = text.iter().position(|b| *b == b'\n') {
                let event: Value = serde_json::from_slice(&text.drain(..=at).collect::<Vec<u8>>()).unwrap();
                let (word, object) = (event["type"].as_str().unwrap(), &event["object"]);
                match (word, &mut initial) {
                    ("ERROR", _) => {
                        assert_eq!(object["code"], 410, "{event}");
                        last = None;
                        break 'connection;
                    }
                    ("BOOKMARK", Some(state)) => {
                        assert_eq!(object["metadata"]["annotations"]["k8s.io/initial-events-end"], "true", "{event}");
                        record.state = std::mem::take(state);
                        record.stretches.push((version(object), version(object)));
                        (initial, last) = (None, Some(version(object)));
                    }
                    ("BOOKMARK", None) => {
                        let stretch = record.stretches.last_mut().unwrap();
                        assert!(version(object) >= stretch.1, "{event} after {stretch:?}");
                        stretch.1 = version(object);
                        last = Some(version(object));
                        record.bookmarks += 1;
                    }
                    (_, Some(state)) => {
                        assert_eq!(word, "ADDED", "{event}");
                        let shape = Shape::of(object);
                        assert!(shape.selected(selects), "{event}");
                        assert!(state.insert(shape.name.clone(), (shape, version(object))).is_none(), "twice: {event}");
                    }
                    (_, None) => {
                        let stretch = record.stretches.last_mut().unwrap();
                        assert!(version(object) > stretch.1, "{event} after {stretch:?}");
                        stretch.1 = version(object);
                        last = Some(version(object));
                        let shape = Shape::of(object);
                        assert!(shape.selected(selects), "{event}");
                        let known = match word {
                            "DELETED" => record.state.remove(&shape.name),
                            _ => record.state.insert(shape.name.clone(), (shape.clone(), version(object))),
                        };
                        assert_eq!(known.is_none(), word == "ADDED", "{event} of {known:?}");
                        let twice = record.told.insert(version(object), (word.to_owned(), shape));
                        assert!(twice.is_none(), "told twice: {event}");
                    }
                }
                if last.is_some_and(|l| l >= end.load(Ordering::SeqCst)) {
                    return record;
                }
                lives = lives.saturating_sub(1);
                if lives == 0 {
                    break 'connection;
                }
            }
        }
    }
}

/// One run; gives how often the watchers had to list.
async fn round(seed: u64) -> usize {
    println!("seed {seed} (VMDECK_TEST_SEED repeats it)");
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        keep: Duration::ZERO,
        keep_changes: 12,
        compact_every: Duration::from_millis(2),
        watch_queue: 8,
        window: 5,
    };
    let store = Store::open(dir.path(), options).unwrap();
    let router = apiserver::router(store.clone(), apiserver::Options::default());
    assert_eq!(call(&router, "GET", "/api/v1/namespaces", "", Value::Null).await.0, 200);
    let start = store.revision();
    let end = Arc::new(AtomicU64::new(u64::MAX));
    let dice = |n: u64| Dice(seed.wrapping_mul(1000).wrapping_add(n));
    let watchers: Vec<_> = (0..WATCHERS.len())
        .map(|which| tokio::spawn(watcher(router.clone(), dice(100 + which as u64), which, Arc::clone(&end))))
        .collect();
    let writers: Vec<_> = (0..WRITERS).map(|n| tokio::spawn(writer(router.clone(), dice(n), n))).collect();
    let mut answered = BTreeMap::new();
    for writer in writers {
        for (version, shape) in writer.await.unwrap() {
            assert!(answered.insert(version, shape).is_none(), "two writers were answered {version}");
        }
    }
    assert!(answered.first_key_value().is_some_and(|(first, _)| *first > start));
    // A last change for each selection; whoever has it has all before.
    end.store(store.revision(), Ordering::SeqCst);
    let ended = Arc::new(AtomicBool::new(false));
    let ticking = {
        let (router, ended) = (router.clone(), Arc::clone(&ended));
        tokio::spawn(async move {
            // Quiet watchers get there by a bookmark, or by these.
            for n in 0.. {
                if ended.load(Ordering::SeqCst) {
                    return;
                }
                for namespace in NAMESPACES {
                    for label in [json!({"app": "x"}), json!({})] {
                        let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"count": n.to_string()},
                            "metadata": {"generateName": "end-", "labels": label}});
                        let collection = format!("/api/v1/namespaces/{namespace}/configmaps");
                        call(&router, "POST", &collection, "application/json", object).await;
                    }
                }
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
        })
    };
    let (mut connections, mut bookmarks, mut lists, mut events) = (0, 0, 0, 0);
    for (which, watcher) in watchers.into_iter().enumerate() {
        let record =
            tokio::time::timeout(Duration::from_secs(60), watcher).await.expect("a watcher never ends").unwrap();
        let selects = WATCHERS[which].2;
        let seen = |version: u64| record.stretches.iter().any(|(from, to)| *from < version && version <= *to);
        for (version, shape) in answered.iter().filter(|(version, _)| seen(**version)) {
            match record.told.get(version) {
                Some((word, told)) if word != "DELETED" => assert_eq!(told, shape, "watcher {which} at {version}"),
                // Not, or no longer selected.
                other => assert!(!shape.selected(selects), "watcher {which}: {other:?} for {shape:?} at {version}"),
            }
        }
        // What it holds is what a list at its last version shows, as far as that can still be asked.
        let at = record.stretches.last().unwrap().1;
        if let Ok(snapshot) = store.list_at("configmaps", None, at).await {
            let objects = snapshot.entries.iter().map(|e| serde_json::from_slice::<Value>(&e.bytes).unwrap());
            let want: BTreeMap<String, (Shape, u64)> = objects
                .map(|o| (Shape::of(&o), version(&o)))
                .filter(|(shape, _)| shape.selected(selects))
                .map(|(shape, version)| (shape.name.clone(), (shape, version)))
                .collect();
            assert_eq!(record.state, want, "what watcher {which} holds at {at}");
        }
        connections += record.connections;
        bookmarks += record.bookmarks;
        lists += record.stretches.len();
        events += record.told.len();
    }
    ended.store(true, Ordering::SeqCst);
    ticking.await.unwrap();
    println!(
        "{} answered writes; {} watchers: {events} events, {connections} connections, {lists} lists, {bookmarks} bookmarks",
        answered.len(),
        WATCHERS.len()
    );
    assert!(events > 100 && connections > WATCHERS.len(), "nothing was interrupted");
    lists
}

#[test]
fn a_crowd_of_watchers_misses_nothing() {
    let fixed = std::env::var("VMDECK_TEST_SEED").ok().map(|s| s.parse().unwrap());
    let seeds = fixed.map_or_else(|| (0..2).map(|_| rand::random::<u64>() >> 40).collect(), |seed| vec![seed]);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let rounds = seeds.len();
    let lists: usize = seeds.into_iter().map(|seed| runtime.block_on(round(seed))).sum();
    assert!(lists > rounds * WATCHERS.len(), "history was never gone");
}
