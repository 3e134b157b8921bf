//! Random interleavings of writes, watches and lists through the server, against a model: every watcher is told every
//! change of what it selects once and in order, across disconnections and compaction. The store keeps so little that
//! it forgets all the time. A failing case is shrunk and printed; it can be pasted into [`run`].

use std::collections::BTreeMap;
use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use futures::StreamExt as _;
use http::Request;
use http_body_util::BodyExt as _;
use proptest::prelude::*;
use serde_json::{Value, json};
use tower::ServiceExt as _;
use vmdeck::apiserver;
use vmdeck::store::{Options, Store};

const NAMESPACES: [&str; 2] = ["default", "kube-system"];
const NAMES: [&str; 3] = ["a", "b", "c"];
/// What watchers select: namespace, query, and what that means.
type Selects = fn(&State) -> bool;
const WATCHERS: [(Option<usize>, &str, Selects); 6] = [
    (None, "", |_| true),
    (Some(0), "", |_| true),
    (None, "&labelSelector=app%3Dx", |s| s.label == Some('x')),
    (Some(1), "&labelSelector=app!%3Dx", |s| s.label != Some('x')),
    (None, "&labelSelector=app%20in%20(x,y)", |s| s.label.is_some()),
    (None, "&fieldSelector=metadata.name%3Db", |s| s.name == "b"),
];

/// One step.
#[derive(Debug, Clone, Copy)]
enum Step {
    Write(Verb, Target, Option<char>),
    /// A watcher reads all that there is for it.
    Read(usize),
    /// Its connection is lost.
    Cut(usize),
    /// It begins anew, with the state as events.
    Stream(usize),
    /// A list in pages, with a write between them.
    Pages(Option<usize>, Target),
}

#[derive(Debug, Clone, Copy)]
enum Verb {
    Create,
    Update,
    Merge,
    Apply,
    Nothing,
    Hold,
    Release,
    Delete,
}

/// Namespace and name, as indexes.
type Target = (usize, usize);

/// An object as the model knows it.
#[derive(Debug, Clone, PartialEq)]
struct State {
    name: &'static str,
    namespace: &'static str,
    label: Option<char>,
    count: u64,
    held: bool,
    going: bool,
    revision: u64,
}

/// A change as the model knows it.
#[derive(Debug, Clone)]
struct Event {
    revision: u64,
    before: Option<State>,
    after: Option<State>,
}

/// What a watcher is told: word, object, its counter, its version.
type Told = (String, String, u64, u64);

#[derive(Default)]
struct Watcher {
    stream: Option<(BodyDataStream, Vec<u8>)>,
    /// The version it resumes from; `None` before its first list.
    last: Option<u64>,
    /// What it holds, by `namespace/name`: counter and version.
    state: BTreeMap<String, (u64, u64)>,
}

struct World {
    router: axum::Router,
    store: Store,
    objects: BTreeMap<Target, State>,
    history: Vec<Event>,
    watchers: Vec<Watcher>,
    count: u64,
    /// Relists because history was gone.
    expired: usize,
    _dir: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = Options {
            keep: Duration::ZERO,
            keep_changes: 6,
            compact_every: Duration::from_millis(1),
            watch_queue: 3,
            window: 4,
        };
        let store = Store::open(dir.path(), options).unwrap();
        let router = apiserver::router(store.clone(), apiserver::Options::default());
        let watchers = WATCHERS.iter().map(|_| Watcher::default()).collect();
        let world = Self {
            router,
            store,
            objects: BTreeMap::new(),
            history: Vec::new(),
            watchers,
            count: 0,
            expired: 0,
            _dir: dir,
        };
        // Makes the namespaces.
        assert_eq!(world.call("GET", "/api/v1/namespaces", "", Value::Null).await.0, 200);
        world
    }

    async fn send(&self, method: &str, path: &str, kind: &str, body: Value) -> http::Response<Body> {
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        let request = Request::builder().method(method).uri(path).header("content-type", kind).body(body).unwrap();
        self.router.clone().oneshot(request).await.unwrap()
    }

    async fn call(&self, method: &str, path: &str, kind: &str, body: Value) -> (u16, Value) {
        let response = self.send(method, path, kind, body).await;
        let code = response.status().as_u16();
        (code, serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap())
    }

    /// One write, its answer compared with what the model expects.
    async fn write(&mut self, verb: Verb, target: Target, label: Option<char>) {
        let (namespace, name) = (NAMESPACES[target.0], NAMES[target.1]);
        let collection = format!("/api/v1/namespaces/{namespace}/configmaps");
        let path = format!("{collection}/{name}");
        self.count += 1;
        let count = self.count;
        let before = self.objects.get(&target).cloned();
        let labels = label.map_or(json!({}), |l| json!({"app": l.to_string()}));
        let whole = |version: Option<u64>, held: bool| {
            let mut object = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"count": count.to_string()},
                "metadata": {"name": name, "labels": labels}});
            if let Some(version) = version {
                object["metadata"]["resourceVersion"] = version.to_string().into();
            }
            if held {
                object["metadata"]["finalizers"] = json!(["test.example/hold"]);
            }
            object
        };
        let merge = "application/merge-patch+json";
        let newest = self.store.revision();
        let (code, answer) = match verb {
            Verb::Create => self.call("POST", &collection, "application/json", whole(None, false)).await,
            Verb::Update => {
                let (version, held) = before.as_ref().map_or((1, false), |b| (b.revision, b.held));
                self.call("PUT", &path, "application/json", whole(Some(version), held)).await
            }
            Verb::Merge => {
                let label = label.map_or(Value::Null, |l| l.to_string().into());
                let patch = json!({"metadata": {"labels": {"app": label}}, "data": {"count": count.to_string()}});
                self.call("PATCH", &path, merge, patch).await
            }
            Verb::Apply => {
                // Forced, and always with a label: what another manager has set is not taken away by leaving it out.
                let mut object = whole(None, false);
                object["metadata"]["labels"]["app"] = label.unwrap_or('y').to_string().into();
                self.call("PATCH", &format!("{path}?fieldManager=t&force=true"), "application/apply-patch+yaml", object)
                    .await
            }
            Verb::Nothing => self.call("PATCH", &path, merge, json!({"metadata": {}})).await,
            Verb::Hold => {
                self.call("PATCH", &path, merge, json!({"metadata": {"finalizers": ["test.example/hold"]}})).await
            }
            Verb::Release => self.call("PATCH", &path, merge, json!({"metadata": {"finalizers": null}})).await,
            Verb::Delete => self.call("DELETE", &path, "application/json", Value::Null).await,
        };
        let revision = self.store.revision();
        let fresh = |label, held| State { name, namespace, label, count, held, going: false, revision };
        // The code, and what is there afterwards.
        let (want, after) = match (verb, before.clone()) {
            (Verb::Create, None) => (201, Some(fresh(label, false))),
            (Verb::Create, old) => (409, old),
            (Verb::Apply, None) => (201, Some(fresh(label.or(Some('y')), false))),
            (_, None) => (404, None),
            (Verb::Nothing, old) => (200, old),
            (Verb::Update | Verb::Merge, Some(old)) => (200, Some(State { label, count, revision, ..old })),
            (Verb::Apply, Some(old)) => (200, Some(State { label: label.or(Some('y')), count, revision, ..old })),
            // What is going is held, or it would be gone.
            (Verb::Hold, Some(old)) if old.held => (200, Some(old)),
            (Verb::Hold, Some(old)) => (200, Some(State { held: true, revision, ..old })),
            (Verb::Release, Some(old)) if !old.held => (200, Some(old)),
            (Verb::Release, Some(old)) if old.going => (200, None),
            (Verb::Release, Some(old)) => (200, Some(State { held: false, revision, ..old })),
            (Verb::Delete, Some(old)) if old.going => (200, Some(old)),
            (Verb::Delete, Some(old)) if old.held => (200, Some(State { going: true, revision, ..old })),
            (Verb::Delete, Some(_)) => (200, None),
        };
        assert_eq!(code, want, "{verb:?} {namespace}/{name}: {answer}");
        let changed = before != after;
        assert_eq!(revision, newest + u64::from(changed), "{verb:?} {namespace}/{name} took revisions: {answer}");
        if let Some(after) = after.as_ref().filter(|_| code < 300 && answer["kind"] == "ConfigMap") {
            assert_eq!(version_of(&answer), after.revision, "{verb:?}: {answer}");
        }
        if changed {
            self.history.push(Event { revision, before, after: after.clone() });
        }
        match after {
            Some(after) => drop(self.objects.insert(target, after)),
            None => drop(self.objects.remove(&target)),
        }
    }

    fn collection(namespace: Option<usize>) -> String {
        match namespace {
            Some(n) => format!("/api/v1/namespaces/{}/configmaps", NAMESPACES[n]),
            None => "/api/v1/configmaps".to_owned(),
        }
    }

    fn selected(&self, which: usize, state: &State) -> bool {
        let (namespace, _, selects) = WATCHERS[which];
        namespace.is_none_or(|n| NAMESPACES[n] == state.namespace) && selects(state)
    }

    /// The objects of a watcher that there are now.
    fn expected_state(&self, which: usize) -> BTreeMap<String, (u64, u64)> {
        let chosen = self.objects.values().filter(|s| self.selected(which, s));
        chosen.map(|s| (format!("{}/{}", s.namespace, s.name), (s.count, s.revision))).collect()
    }

    /// What a watcher must be told after a version.
    fn expected_events(&self, which: usize, after: u64) -> Vec<Told> {
        let later = self.history.iter().filter(|e| e.revision > after);
        later
            .filter_map(|e| {
                let before = e.before.as_ref().filter(|s| self.selected(which, s));
                let now = e.after.as_ref().filter(|s| self.selected(which, s));
                let (word, state) = match (before, now) {
                    (None, None) => return None,
                    (None, Some(now)) => ("ADDED", now),
                    (Some(_), Some(now)) => ("MODIFIED", now),
                    (Some(before), None) => ("DELETED", before),
                };
                Some((word.to_owned(), format!("{}/{}", state.namespace, state.name), state.count, e.revision))
            })
            .collect()
    }

    /// Lists for a watcher, which then goes on from there.
    async fn relist(&mut self, which: usize) {
        let (namespace, query, _) = WATCHERS[which];
        let (code, list) = self
            .call("GET", &format!("{}?{}", Self::collection(namespace), query.trim_start_matches('&')), "", Value::Null)
            .await;
        assert_eq!(code, 200, "{list}");
        let state =
            list["items"].as_array().unwrap().iter().map(|o| (name_of(o), (count_of(o), version_of(o)))).collect();
        assert_eq!(state, self.expected_state(which), "list of watcher {which}");
        assert_eq!(version_of(&list), self.store.revision());
        self.watchers[which].state = state;
        self.watchers[which].last = Some(version_of(&list));
    }

    async fn connect(&mut self, which: usize, query: &str) {
        let (namespace, own, _) = WATCHERS[which];
        let path = format!("{}?watch=true&allowWatchBookmarks=true{own}{query}", Self::collection(namespace));
        let response = self.send("GET", &path, "", Value::Null).await;
        assert_eq!(response.status(), 200, "{path}");
        self.watchers[which].stream = Some((response.into_body().into_data_stream(), Vec::new()));
    }

    /// The next line of a watcher's stream; `None` at its end.
    async fn line(&mut self, which: usize) -> Option<Value> {
        let (stream, text) = self.watchers[which].stream.as_mut().unwrap();
        loop {
            if let Some(end) = text.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = text.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).unwrap());
            }
            let piece = tokio::time::timeout(Duration::from_secs(30), stream.next()).await;
            text.extend_from_slice(&piece.expect("an event that never comes")?.unwrap());
        }
    }

    /// Reads until a watcher has been told everything, connecting and listing again as a client would.
    async fn read(&mut self, which: usize) {
        loop {
            let Some(last) = self.watchers[which].last else {
                self.relist(which).await;
                continue;
            };
            let want = self.expected_events(which, last);
            let Some(want) = want.first() else { return };
            if self.watchers[which].stream.is_none() {
                self.connect(which, &format!("&resourceVersion={last}")).await;
            }
            let Some(event) = self.line(which).await else {
                // Cut off for being slow, which costs nothing.
                self.watchers[which].stream = None;
                continue;
            };
            let object = &event["object"];
            match event["type"].as_str().unwrap() {
                "ERROR" => {
                    assert_eq!(object["code"], 410, "{event}");
                    assert!(last < self.store.floor(), "version {last} is said to be gone: {event}");
                    self.expired += 1;
                    self.watchers[which].stream = None;
                    self.relist(which).await;
                }
                "BOOKMARK" => {
                    assert!(version_of(object) >= last && version_of(object) < want.3, "{event}: {want:?} is not told");
                    self.watchers[which].last = Some(version_of(object));
                }
                word => {
                    let told = (word.to_owned(), name_of(object), count_of(object), version_of(object));
                    assert_eq!(&told, want, "watcher {which} after {last}");
                    let watcher = &mut self.watchers[which];
                    watcher.last = Some(told.3);
                    match word {
                        "DELETED" => drop(watcher.state.remove(&told.1)),
                        _ => drop(watcher.state.insert(told.1, (told.2, told.3))),
                    }
                }
            }
        }
    }

    /// A streaming list: the state as events, a mark, and from there on as any watch.
    async fn stream(&mut self, which: usize) {
        self.connect(which, "&sendInitialEvents=true&resourceVersionMatch=NotOlderThan").await;
        let mut state = BTreeMap::new();
        loop {
            let event = self.line(which).await.expect("the state, then a mark");
            let object = &event["object"];
            if event["type"] == "BOOKMARK" {
                assert_eq!(object["metadata"]["annotations"]["k8s.io/initial-events-end"], "true", "{event}");
                assert_eq!(version_of(object), self.store.revision());
                self.watchers[which].last = Some(version_of(object));
                break;
            }
            assert_eq!(event["type"], "ADDED", "{event}");
            assert!(state.insert(name_of(object), (count_of(object), version_of(object))).is_none(), "twice: {event}");
        }
        assert_eq!(state, self.expected_state(which), "streamed to watcher {which}");
        self.watchers[which].state = state;
    }

    /// Pages of two; between them something is written. They show one moment, or the server says that it is gone.
    async fn pages(&mut self, namespace: Option<usize>, target: Target) {
        let want: Vec<(String, u64)> = {
            let chosen = self.objects.values().filter(|s| namespace.is_none_or(|n| NAMESPACES[n] == s.namespace));
            let mut list: Vec<_> = chosen.map(|s| (format!("{}/{}", s.namespace, s.name), s.revision)).collect();
            list.sort();
            list
        };
        let (moment, mut got, mut next) = (self.store.revision(), Vec::new(), String::new());
        loop {
            let path = format!("{}?limit=2{next}", Self::collection(namespace));
            let (code, page) = self.call("GET", &path, "", Value::Null).await;
            if code == 410 {
                assert!(moment < self.store.floor(), "{page}");
                assert!(page["metadata"]["continue"].is_string(), "{page}");
                self.expired += 1;
                return;
            }
            assert_eq!((code, version_of(&page)), (200, moment), "{page}");
            got.extend(page["items"].as_array().unwrap().iter().map(|o| (name_of(o), version_of(o))));
            match page["metadata"]["continue"].as_str() {
                None => break,
                Some(token) => {
                    assert_eq!(page["metadata"]["remainingItemCount"], want.len() - got.len());
                    next = format!("&continue={token}");
                }
            }
            // Enough to be read from disk, not so much that it must be gone.
            self.write(Verb::Merge, target, Some('x')).await;
            self.write(Verb::Delete, target, None).await;
            let all = (0..NAMESPACES.len()).flat_map(|n| (0..NAMES.len()).map(move |i| (n, i)));
            if let Some(fresh) = all.filter(|t| *t != target).find(|t| !self.objects.contains_key(t)) {
                self.write(Verb::Create, fresh, None).await;
                self.write(Verb::Merge, fresh, Some('y')).await;
                self.write(Verb::Merge, fresh, None).await;
            }
        }
        assert_eq!(got, want);
    }
}

fn version_of(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"].as_str().and_then(|v| v.parse().ok()).unwrap_or_else(|| panic!("{object}"))
}

fn count_of(object: &Value) -> u64 {
    object["data"]["count"].as_str().and_then(|v| v.parse().ok()).unwrap_or_else(|| panic!("{object}"))
}

fn name_of(object: &Value) -> String {
    let part = |name: &str| object["metadata"][name].as_str().unwrap();
    format!("{}/{}", part("namespace"), part("name"))
}

/// Runs the steps; gives how often history was gone.
async fn run(steps: Vec<Step>) -> usize {
    let mut world = World::new().await;
    for step in steps {
        match step {
            Step::Write(verb, target, label) => world.write(verb, target, label).await,
            Step::Read(which) => world.read(which).await,
            Step::Cut(which) => world.watchers[which].stream = None,
            Step::Stream(which) => world.stream(which).await,
            Step::Pages(namespace, target) => world.pages(namespace, target).await,
        }
    }
    // Everything changes once more, so that whatever was told beyond the expected shows up before it.
    for namespace in 0..NAMESPACES.len() {
        for name in 0..NAMES.len() {
            for label in [Some('x'), None, Some('x')] {
                world.write(Verb::Apply, (namespace, name), label).await;
                world.write(Verb::Merge, (namespace, name), label).await;
            }
        }
        for which in 0..WATCHERS.len() {
            world.read(which).await;
        }
    }
    for which in 0..WATCHERS.len() {
        assert_eq!(world.watchers[which].state, world.expected_state(which), "what watcher {which} holds");
    }
    world.expired
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    use Verb::{Apply, Create, Delete, Hold, Merge, Nothing, Release, Update};
    let verb =
        prop::sample::select(vec![Create, Create, Update, Merge, Apply, Apply, Nothing, Hold, Release, Delete, Delete]);
    let target = || (0..NAMESPACES.len(), 0..NAMES.len());
    let label = prop::sample::select(vec![None, Some('x'), Some('y')]);
    let step = prop_oneof![
        12 => (verb, target(), label).prop_map(|(verb, target, label)| Step::Write(verb, target, label)),
        4 => (0..WATCHERS.len()).prop_map(Step::Read),
        2 => (0..WATCHERS.len()).prop_map(Step::Cut),
        1 => (0..WATCHERS.len()).prop_map(Step::Stream),
        2 => (prop::option::of(0..NAMESPACES.len()), target()).prop_map(|(n, t)| Step::Pages(n, t)),
    ];
    prop::collection::vec(step, 1..120)
}

#[test]
fn watchers_and_lists_agree_with_a_model() {
    let config =
        ProptestConfig { cases: 24, failure_persistence: None, max_shrink_iters: 300, ..ProptestConfig::default() };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let expired = std::cell::Cell::new(0);
    let outcome = runner.run(&steps(), |steps| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        expired.set(expired.get() + runtime.block_on(run(steps)));
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
    println!("24 interleavings; history was gone {} times", expired.get());
    assert!(expired.get() > 10, "compaction was not felt");
}
