//! Keys, entries, changes, writes.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;

/// Counts changes of the whole store; below 2^63.
pub type Revision = u64;

/// Names one object. Ordered by bucket, then namespace, then name, in byte order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Which table of objects.
    pub bucket: Arc<str>,
    /// Empty for objects without one.
    pub namespace: Arc<str>,
    /// Name.
    pub name: Arc<str>,
}

impl Key {
    /// A key; `namespace` is empty for objects without one.
    pub fn new(bucket: &str, namespace: &str, name: &str) -> Self {
        Self { bucket: bucket.into(), namespace: namespace.into(), name: name.into() }
    }
}

/// One object at one revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its key.
    pub key: Key,
    /// The revision of the write that made it so.
    pub revision: Revision,
    /// Its encoded value, the revision inside.
    pub bytes: Bytes,
}

/// A value with a hole for its revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Body {
    /// Bytes before the revision's decimal digits.
    pub head: Vec<u8>,
    /// Bytes after them.
    pub tail: Vec<u8>,
}

impl Body {
    /// The value as of `revision`.
    pub fn render(&self, revision: Revision) -> Bytes {
        let digits = revision.to_string();
        let mut out = Vec::with_capacity(self.head.len() + digits.len() + self.tail.len());
        out.extend_from_slice(&self.head);
        out.extend_from_slice(digits.as_bytes());
        out.extend_from_slice(&self.tail);
        out.into()
    }

    /// Whether `entry` has this value, its own revision in the hole.
    pub fn is(&self, entry: &Entry) -> bool {
        let digits = entry.revision.to_string();
        entry.bytes.len() == self.head.len() + digits.len() + self.tail.len()
            && entry.bytes.starts_with(&self.head)
            && entry.bytes[self.head.len()..].starts_with(digits.as_bytes())
            && entry.bytes.ends_with(&self.tail)
    }
}

/// What must hold of an object for a write to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// It does not exist.
    Absent,
    /// It exists at this revision.
    At(Revision),
    /// Nothing.
    Any,
}

/// What a write does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Creates or replaces. A value equal to the present one changes nothing and takes no revision.
    Put(Body),
    /// Replaces the value of an object that is about to go (it is being deleted, or a holder lets go of it): done
    /// even when the disk is full, as deletions are.
    Retire(Body),
    /// Deletes; the body is the last state as watchers shall see it, with the revision of the deletion.
    Delete(Body),
}

/// One write of one object, done wholly or not at all.
#[derive(Debug, Clone)]
pub struct Write {
    /// The object.
    pub key: Key,
    /// Expected state of the object.
    pub expect: Expect,
    /// Expected state of other objects, checked in the same step.
    pub requires: Vec<(Key, Expect)>,
    /// What to do.
    pub action: Action,
}

/// The outcome of a write.
#[derive(Debug, Clone)]
pub struct Written {
    /// The object after it; for a deletion its last state with the deletion's revision.
    pub entry: Arc<Entry>,
    /// False when the write changed nothing.
    pub changed: bool,
}

/// Kind of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// It did not exist before.
    Added,
    /// It did.
    Modified,
    /// It is gone.
    Deleted,
}

/// One change.
#[derive(Debug)]
pub struct Change {
    /// What happened.
    pub kind: ChangeKind,
    /// The state after it; for a deletion the last state with the deletion's revision.
    pub entry: Arc<Entry>,
    /// The state before it.
    pub previous: Option<Arc<Entry>>,
    /// A place for one encoding of this change that many watchers share; the store does not look at it.
    pub encoded: OnceLock<Bytes>,
}

impl Change {
    pub(super) fn new(kind: ChangeKind, entry: Arc<Entry>, previous: Option<Arc<Entry>>) -> Self {
        Self { kind, entry, previous, encoded: OnceLock::new() }
    }

    /// Its revision.
    pub fn revision(&self) -> Revision {
        self.entry.revision
    }

    /// Whether it is of `bucket` and `namespace`, if given.
    pub(super) fn concerns(&self, bucket: Option<&str>, namespace: Option<&str>) -> bool {
        bucket.is_none_or(|b| &*self.entry.key.bucket == b) && namespace.is_none_or(|n| &*self.entry.key.namespace == n)
    }
}
