//! Background work of the server: dependents of owners that are gone or going, content of namespaces that are
//! going, events that are old (k8s-api.md 1.7).
//!
//! One task follows every change of the store and keeps [`Graph`], which knows from metadata alone what is to be
//! looked at; what is then done to an object is decided from the object itself.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::core_kinds::event;
use super::delete::{self, DeleteOptions, FOREGROUND, ORPHAN, Propagation};
use super::object::{self, Head, Object};
use crate::store::{Action, Change, ChangeKind, Entry, Expect, Key, Revision, Store, StoreError, Write, WriteError};
use crate::types::kinds::{KINDS, KindInfo};

/// Age at which events are dropped.
const EVENT_AGE: jiff::SignedDuration = jiff::SignedDuration::from_hours(1);
/// Pause between two looks at events, and at whatever waits for something.
const TICK: Duration = Duration::from_secs(60);

/// Runs until `shutdown`.
pub async fn run(store: Store, shutdown: CancellationToken) {
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = follow(&store) => {}
    }
}

async fn follow(store: &Store) {
    loop {
        let now = store.list_all();
        let mut graph = Graph::default();
        for entry in &now.entries {
            graph.add(entry);
        }
        let all: Vec<Key> = graph.nodes.keys().cloned().collect();
        graph.look_at.extend(all);
        if let Err(error) = follow_from(store, graph, now.revision).await {
            match error {
                StoreError::Closed => return,
                error => tracing::warn!(%error, "garbage collection starts anew"),
            }
        }
    }
}

async fn follow_from(store: &Store, mut graph: Graph, from: Revision) -> Result<(), StoreError> {
    let mut watch = store.watch_all(from)?;
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        // Everything that is known already first: an owner and its dependent may both be in it.
        while let Some(change) = watch.ready() {
            graph.change(&change);
        }
        if let Some(key) = graph.look_at.pop_first() {
            Collector { store, graph: &graph }.look(&key).await;
            continue;
        }
        tokio::select! {
            change = watch.next() => match change? {
                Some(change) => graph.change(&change),
                // Cut off for being slow, or the store is closed; the latter shows at the next attempt.
                None if store.watch_all(store.revision()).is_ok() => return Ok(()),
                None => return Err(StoreError::Closed),
            },
            _ = tick.tick() => {
                drop_old_events(store).await;
                graph.look_again();
            }
        }
    }
}

/// What is known of one object.
#[derive(Debug)]
struct Node {
    head: Head,
}

/// Who owns whom.
#[derive(Debug, Default)]
struct Graph {
    nodes: HashMap<Key, Node>,
    by_uid: HashMap<String, Key>,
    /// Dependents by the uid of their owner.
    dependents: HashMap<String, BTreeSet<Key>>,
    /// What may have to be done something about.
    look_at: BTreeSet<Key>,
}

impl Graph {
    fn add(&mut self, entry: &Entry) {
        self.remove(&entry.key);
        let mut head = object::head(&entry.bytes);
        head.labels = None;
        for owner in head.owner_references.iter().flatten() {
            self.dependents.entry(owner.uid.clone()).or_default().insert(entry.key.clone());
        }
        self.by_uid.insert(head.uid.clone(), entry.key.clone());
        self.nodes.insert(entry.key.clone(), Node { head });
    }

    fn remove(&mut self, key: &Key) -> Option<Head> {
        let head = self.nodes.remove(key)?.head;
        for owner in head.owner_references.iter().flatten() {
            if let Some(keys) = self.dependents.get_mut(&owner.uid) {
                keys.remove(key);
                if keys.is_empty() {
                    self.dependents.remove(&owner.uid);
                }
            }
        }
        if self.by_uid.get(&head.uid) == Some(key) {
            self.by_uid.remove(&head.uid);
        }
        Some(head)
    }

    fn change(&mut self, change: &Change) {
        let key = &change.entry.key;
        let owners_before: Vec<String> = self.owners(key);
        if change.kind == ChangeKind::Deleted {
            if let Some(head) = self.remove(key) {
                self.look_at.extend(self.dependents.get(&head.uid).into_iter().flatten().cloned());
            }
        } else {
            self.add(&change.entry);
            let waits = |n: &Node| n.head.owner_references.is_some() || n.head.deletion_timestamp.is_some();
            if self.nodes.get(key).is_some_and(waits) {
                self.look_at.insert(key.clone());
            }
        }
        // An owner that waits for its dependents may be done, one that is going wants to know of new ones.
        for uid in owners_before.into_iter().chain(self.owners(key)) {
            if let Some(owner) = self.by_uid.get(&uid)
                && self.nodes.get(owner).is_some_and(|n| n.head.deletion_timestamp.is_some())
            {
                self.look_at.insert(owner.clone());
            }
        }
        // A namespace that is going may be empty now.
        let namespace = Key::new("namespaces", "", &key.namespace);
        if self.nodes.get(&namespace).is_some_and(|n| n.head.deletion_timestamp.is_some()) {
            self.look_at.insert(namespace);
        }
    }

    fn owners(&self, key: &Key) -> Vec<String> {
        let node = self.nodes.get(key);
        node.and_then(|n| n.head.owner_references.as_ref()).into_iter().flatten().map(|o| o.uid.clone()).collect()
    }

    /// Whatever may wait for something: in case an earlier attempt failed.
    fn look_again(&mut self) {
        let waits = |head: &Head| head.deletion_timestamp.is_some() || head.owner_references.is_some();
        self.look_at.extend(self.nodes.iter().filter(|(_, n)| waits(&n.head)).map(|(key, _)| key.clone()));
    }

    /// The owner with this uid as a dependent in `namespace` may have it: one in another namespace is none.
    fn owner(&self, uid: &str, namespace: &str) -> Option<&Node> {
        let key = self.by_uid.get(uid)?;
        let reachable = key.namespace.is_empty() || &*key.namespace == namespace;
        self.nodes.get(key).filter(|_| reachable)
    }

    fn has_finalizer(&self, node: &Node, finalizer: &str) -> bool {
        node.head.deletion_timestamp.is_some() && node.head.finalizers.iter().flatten().any(|f| f == finalizer)
    }

    /// What is to be done about an object because of its owners.
    fn verdict(&self, key: &Key) -> Verdict {
        let Some(node) = self.nodes.get(key) else { return Verdict::Keep };
        let Some(references) = node.head.owner_references.as_ref().filter(|r| !r.is_empty()) else {
            return Verdict::Keep;
        };
        let (mut solid, mut waiting, mut gone) = (false, false, HashSet::new());
        for reference in references {
            match self.owner(&reference.uid, &key.namespace) {
                None => {
                    gone.insert(reference.uid.clone());
                }
                Some(owner) if self.has_finalizer(owner, FOREGROUND) => waiting = true,
                Some(_) => solid = true,
            }
        }
        let being_deleted = node.head.deletion_timestamp.is_some();
        match (solid, waiting) {
            (true, _) if gone.is_empty() => Verdict::Keep,
            // Those that are gone are forgotten, so that the last one that is left counts.
            (true, _) => Verdict::Forget(gone),
            _ if being_deleted => Verdict::Keep,
            (false, true) if self.dependents.contains_key(&node.head.uid) => Verdict::Delete(Propagation::Foreground),
            (false, _) => Verdict::Delete(Propagation::Background),
        }
    }

    /// Dependents that an owner in foreground deletion has to wait for.
    fn is_blocked(&self, uid: &str) -> bool {
        let blocks = |key: &Key| {
            let references = self.nodes.get(key).and_then(|n| n.head.owner_references.as_ref());
            references.into_iter().flatten().any(|o| o.uid == uid && o.block_owner_deletion == Some(true))
        };
        self.dependents.get(uid).is_some_and(|keys| keys.iter().any(blocks))
    }
}

/// What is to be done about an object because of its owners.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Keep,
    /// Delete it.
    Delete(Propagation),
    /// Take references to these uids away.
    Forget(HashSet<String>),
}

/// Does what the graph asks for.
struct Collector<'a> {
    store: &'a Store,
    graph: &'a Graph,
}

impl Collector<'_> {
    async fn look(&self, key: &Key) {
        let (Some(node), Some(kind)) = (self.graph.nodes.get(key), kind_of(key)) else { return };
        let uid = node.head.uid.clone();
        match self.graph.verdict(key) {
            Verdict::Keep => {}
            Verdict::Delete(propagation) => {
                let options = DeleteOptions { propagation, uid: Some(uid.clone()), ..DeleteOptions::default() };
                if let Err(failure) = delete::object(self.store, kind, key, &options).await {
                    tracing::debug!(name = &*key.name, error = failure.message(), "dependent not deleted");
                }
                return;
            }
            Verdict::Forget(gone) => {
                self.rewrite(key, &uid, |object| forget_owners(object, &gone)).await;
                return;
            }
        }
        if self.graph.has_finalizer(node, ORPHAN) {
            let owner = HashSet::from([uid.clone()]);
            for dependent in self.graph.dependents.get(&uid).into_iter().flatten() {
                let Some(dependent_uid) = self.graph.nodes.get(dependent).map(|n| n.head.uid.clone()) else { continue };
                self.rewrite(dependent, &dependent_uid, |object| forget_owners(object, &owner)).await;
            }
            self.rewrite(key, &uid, |object| drop_finalizer(object, ORPHAN)).await;
        } else if self.graph.has_finalizer(node, FOREGROUND) {
            for dependent in self.graph.dependents.get(&uid).into_iter().flatten() {
                if let (Verdict::Delete(propagation), Some(kind)) = (self.graph.verdict(dependent), kind_of(dependent))
                {
                    let options = DeleteOptions { propagation, ..DeleteOptions::default() };
                    delete::object(self.store, kind, dependent, &options).await.ok();
                }
            }
            if !self.graph.is_blocked(&uid) {
                self.rewrite(key, &uid, |object| drop_finalizer(object, FOREGROUND)).await;
            }
        }
        if kind.plural == "namespaces" && node.head.deletion_timestamp.is_some() {
            self.empty_namespace(key, &uid).await;
        }
    }

    async fn empty_namespace(&self, key: &Key, uid: &str) {
        let mut content = false;
        for kind in KINDS.iter().filter(|k| k.namespaced()) {
            let entries = self.store.list(&kind.qualified(), Some(&key.name)).entries;
            content |= !entries.is_empty();
            let doomed = entries
                .iter()
                .filter(|e| object::head(&e.bytes).deletion_timestamp.is_none())
                .map(|e| e.key.clone())
                .collect();
            delete::sweep(self.store, kind, doomed).await;
        }
        // With content, the change that takes away the last of it brings us here again.
        if !content {
            self.rewrite(key, uid, |namespace| {
                namespace.insert("spec".to_owned(), serde_json::json!({}));
            })
            .await;
        }
    }

    /// Changes an object if it is still the one with `uid`; lets it vanish when that was all it waited for.
    async fn rewrite(&self, key: &Key, uid: &str, change: impl Fn(&mut Object)) {
        loop {
            let Some(entry) = self.store.get(key) else { return };
            let old = object::parse(&entry);
            if object::text(&old, "uid") != uid {
                return;
            }
            let mut new = old.clone();
            change(&mut new);
            if new == old {
                return;
            }
            let body = object::encode(&new);
            let vanishes = object::is_terminating(&new) && object::may_vanish(&new);
            let action = if vanishes { Action::Delete(body) } else { Action::Retire(body) };
            let expect = Expect::At(entry.revision);
            let write = Write { key: key.clone(), expect, requires: Vec::new(), action };
            match self.store.write(write).await {
                Err(WriteError::Moved(_)) => {}
                Err(error) => return tracing::debug!(name = &*key.name, %error, "not changed"),
                Ok(_) => return,
            }
        }
    }
}

fn kind_of(key: &Key) -> Option<&'static KindInfo> {
    KINDS.iter().find(|k| k.qualified() == *key.bucket)
}

fn forget_owners(object: &mut Object, gone: &HashSet<String>) {
    let metadata = object::metadata_mut(object);
    if let Some(list) = metadata.get_mut("ownerReferences").and_then(|l| l.as_array_mut()) {
        list.retain(|o| o.get("uid").and_then(|u| u.as_str()).is_none_or(|uid| !gone.contains(uid)));
        if list.is_empty() {
            metadata.remove("ownerReferences");
        }
    }
}

fn drop_finalizer(object: &mut Object, finalizer: &str) {
    let metadata = object::metadata_mut(object);
    if let Some(list) = metadata.get_mut("finalizers").and_then(|l| l.as_array_mut()) {
        list.retain(|f| f.as_str() != Some(finalizer));
        if list.is_empty() {
            metadata.remove("finalizers");
        }
    }
}

async fn drop_old_events(store: &Store) {
    let Some(kind) = crate::types::kinds::by_resource("", "events") else { return };
    let now = jiff::Timestamp::now();
    let limit = now - EVENT_AGE;
    let entries = store.list(&kind.qualified(), None).entries;
    let old = entries
        .iter()
        .filter(|e| event::last_seen(&object::parse(e), now).is_none_or(|seen| seen < limit))
        .map(|e| e.key.clone())
        .collect();
    delete::sweep(store, kind, old).await;
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn entry(name: &str, uid: &str, owners: &[(&str, bool)], finalizer: Option<&str>) -> Entry {
        let owners: Vec<_> = owners.iter().map(|(u, b)| json!({"uid": u, "blockOwnerDeletion": b})).collect();
        let mut metadata = json!({"name": name, "uid": uid, "ownerReferences": owners});
        if let Some(finalizer) = finalizer {
            metadata["finalizers"] = json!([finalizer]);
            metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        }
        let object = json!({"metadata": metadata}).as_object().cloned().unwrap();
        Entry { key: Key::new("configmaps", "n", name), revision: 1, bytes: object::encode(&object).render(1) }
    }

    #[test]
    fn owners_decide() {
        let mut graph = Graph::default();
        let dependent = |owners: &[(&str, bool)]| entry("d", "ud", owners, None);
        graph.add(&entry("a", "ua", &[], None));
        graph.add(&entry("w", "uw", &[], Some(FOREGROUND)));
        let mut foreign = entry("f", "uf", &[], None);
        foreign.key.namespace = "other".into();
        graph.add(&foreign);
        let gone = |uid: &str| Verdict::Forget(HashSet::from([uid.to_owned()]));
        let background = || Verdict::Delete(Propagation::Background);
        for (owners, want) in [
            (vec![], Verdict::Keep),
            (vec![("ua", false)], Verdict::Keep),
            (vec![("ghost", false)], background()),
            (vec![("uf", false)], background()),
            (vec![("ghost", false), ("ua", false)], gone("ghost")),
            (vec![("uw", true)], background()),
            (vec![("uw", true), ("ua", true)], Verdict::Keep),
            (vec![("uw", true), ("ghost", true)], background()),
        ] {
            graph.add(&dependent(&owners));
            assert_eq!(graph.verdict(&dependent(&[]).key), want, "{owners:?}");
        }
        assert!(graph.is_blocked("uw"));
        graph.add(&dependent(&[("uw", false)]));
        assert!(!graph.is_blocked("uw"));
        graph.add(&entry("dd", "udd", &[("ud", false)], None));
        assert_eq!(graph.verdict(&dependent(&[]).key), Verdict::Delete(Propagation::Foreground));
    }

    #[tokio::test]
    async fn events_go_an_hour_after_their_last_write() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), crate::store::Options::default()).unwrap();
        let ago = |minutes: i64| (jiff::Timestamp::now() - jiff::SignedDuration::from_mins(minutes)).to_string();
        let put = |name: String, made: String| {
            let metadata = json!({"name": name, "namespace": "n", "uid": name, "creationTimestamp": made});
            // What a client says of the past or the future changes nothing.
            let event = json!({"metadata": metadata, "lastTimestamp": "2999-01-01T00:00:00Z"});
            let action = Action::Put(object::encode(event.as_object().unwrap()));
            let write = Write { key: Key::new("events", "n", &name), expect: Expect::Absent, requires: vec![], action };
            store.write(write)
        };
        for n in 0..200 {
            put(format!("old-{n}"), ago(61)).await.unwrap();
        }
        put("new".to_owned(), ago(59)).await.unwrap();
        drop_old_events(&store).await;
        let left: Vec<String> = store.list("events", None).entries.iter().map(|e| e.key.name.to_string()).collect();
        assert_eq!(left, ["new"]);
    }

    #[test]
    fn a_removed_object_leaves_nothing_behind() {
        let mut graph = Graph::default();
        let dependent = entry("d", "ud", &[("ua", false)], None);
        graph.add(&dependent);
        graph.add(&dependent);
        graph.remove(&dependent.key);
        assert!(graph.nodes.is_empty() && graph.by_uid.is_empty() && graph.dependents.is_empty());
    }
}
