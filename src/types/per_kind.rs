//! Things derived once per kind from its definition (compiled schemas, column layouts) and kept.

use std::sync::Arc;

use parking_lot::RwLock;

use super::kinds::KindInfo;

type Entry<T> = (&'static str, &'static str, Arc<T>);

/// A cache keyed by group and plural. A definition is large and slow to build; what is derived from it is neither.
pub struct PerKind<T> {
    entries: RwLock<Vec<Entry<T>>>,
}

impl<T> PerKind<T> {
    /// An empty cache.
    pub const fn new() -> Self {
        Self { entries: RwLock::new(Vec::new()) }
    }

    /// The value of `kind`, built on first use. Two first users may both build; one result is kept.
    pub fn get(&self, kind: &KindInfo, build: impl FnOnce() -> T) -> Arc<T> {
        let same = |e: &&Entry<T>| e.0 == kind.group && e.1 == kind.plural;
        if let Some(entry) = self.entries.read().iter().find(same) {
            return Arc::clone(&entry.2);
        }
        let built = Arc::new(build());
        let mut entries = self.entries.write();
        if let Some(entry) = entries.iter().find(same) {
            return Arc::clone(&entry.2);
        }
        entries.push((kind.group, kind.plural, Arc::clone(&built)));
        built
    }
}

impl<T> Default for PerKind<T> {
    fn default() -> Self {
        Self::new()
    }
}
