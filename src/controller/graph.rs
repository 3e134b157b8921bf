//! Who must look again when an object changes: an object's change wakes the object itself, those it names and
//! those that name it. Pure bookkeeping; the watchers feed it.

use std::collections::{BTreeSet, HashMap};

/// The kinds the controllers watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// VirtualMachine.
    Machine,
    /// VirtualMachineOperation.
    Operation,
    /// VirtualMachineBlockDeviceAttachment.
    Attachment,
    /// VirtualMachineIPAddress.
    Address,
    /// VirtualMachineIPAddressLease.
    Lease,
    /// VirtualDisk.
    Disk,
    /// VirtualImage.
    Image,
    /// ClusterVirtualImage.
    ClusterImage,
    /// VirtualMachineClass.
    Class,
    /// VirtualDiskSnapshot.
    DiskSnapshot,
    /// VirtualMachineSnapshot.
    MachineSnapshot,
    /// VirtualMachineSnapshotOperation.
    SnapshotOperation,
    /// VirtualMachineMACAddress.
    MacAddress,
    /// VirtualMachineMACAddressLease.
    MacLease,
    /// Secret.
    Secret,
    /// Node.
    Node,
    /// Namespace.
    Namespace,
}

/// An object's address in the API. Cluster-wide objects have an empty namespace.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Kind.
    pub kind: Kind,
    /// Namespace or empty.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl Key {
    /// A key from its parts.
    pub fn new(kind: Kind, namespace: &str, name: &str) -> Self {
        Self { kind, namespace: namespace.to_owned(), name: name.to_owned() }
    }
}

/// Which object names which, and whose UID is whose.
#[derive(Debug, Default)]
pub struct Graph {
    names: HashMap<Key, Vec<Key>>,
    named_by: HashMap<Key, BTreeSet<Key>>,
    by_uid: HashMap<String, Key>,
    uid_of: HashMap<Key, String>,
}

impl Graph {
    /// Records an object as it is now. Returns all keys that must look again.
    pub fn put(&mut self, key: &Key, uid: &str, links: Vec<Key>) -> BTreeSet<Key> {
        let mut wake = self.around(key);
        // A class only wants to know who names it; that a machine's status changed is nothing to it.
        if self.names.get(key) == Some(&links) && self.uid_of.get(key).is_some_and(|known| known == uid) {
            wake.retain(|k| k.kind != Kind::Class || k == key);
            return wake;
        }
        self.unlink(key);
        if let Some(old) = self.uid_of.insert(key.clone(), uid.to_owned())
            && old != uid
        {
            self.by_uid.remove(&old);
        }
        self.by_uid.insert(uid.to_owned(), key.clone());
        for link in &links {
            self.named_by.entry(link.clone()).or_default().insert(key.clone());
        }
        wake.extend(links.iter().cloned());
        self.names.insert(key.clone(), links);
        wake
    }

    /// Records that an object is gone. Returns all keys that must look again.
    pub fn remove(&mut self, key: &Key) -> BTreeSet<Key> {
        let wake = self.around(key);
        self.unlink(key);
        if let Some(uid) = self.uid_of.remove(key) {
            self.by_uid.remove(&uid);
        }
        wake
    }

    /// The object, those it names and those that name it.
    pub fn around(&self, key: &Key) -> BTreeSet<Key> {
        let mut found = BTreeSet::from([key.clone()]);
        found.extend(self.names.get(key).into_iter().flatten().cloned());
        found.extend(self.named_by.get(key).into_iter().flatten().cloned());
        found
    }

    /// Objects of `kind` that name `key`, in order of namespace and name.
    pub fn naming(&self, key: &Key, kind: Kind) -> Vec<Key> {
        self.named_by.get(key).into_iter().flatten().filter(|k| k.kind == kind).cloned().collect()
    }

    /// The object with this UID.
    pub fn of_uid(&self, uid: &str) -> Option<&Key> {
        self.by_uid.get(uid)
    }

    /// All keys of a kind.
    pub fn keys(&self, kind: Kind) -> Vec<Key> {
        self.names.keys().filter(|k| k.kind == kind).cloned().collect()
    }

    fn unlink(&mut self, key: &Key) {
        for link in self.names.remove(key).unwrap_or_default() {
            if let Some(back) = self.named_by.get_mut(&link) {
                back.remove(key);
                if back.is_empty() {
                    self.named_by.remove(&link);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(name: &str) -> Key {
        Key::new(Kind::Machine, "ns", name)
    }

    fn disk(name: &str) -> Key {
        Key::new(Kind::Disk, "ns", name)
    }

    #[test]
    fn a_change_wakes_both_directions_and_what_was_named_before() {
        let mut g = Graph::default();
        assert_eq!(g.put(&machine("a"), "1", vec![disk("x")]), BTreeSet::from([machine("a"), disk("x")]));
        assert_eq!(g.put(&disk("x"), "2", vec![]), BTreeSet::from([machine("a"), disk("x")]));
        let wake = g.put(&machine("a"), "1", vec![disk("y")]);
        assert_eq!(wake, BTreeSet::from([machine("a"), disk("x"), disk("y")]));
        assert_eq!(g.put(&disk("x"), "2", vec![]), BTreeSet::from([disk("x")]));
        assert_eq!(g.naming(&disk("y"), Kind::Machine), [machine("a")]);
        assert_eq!(g.remove(&machine("a")), BTreeSet::from([machine("a"), disk("y")]));
        assert!(g.named_by.is_empty());
    }

    #[test]
    fn a_class_is_woken_by_who_names_it_and_not_by_what_they_do() {
        let class = Key::new(Kind::Class, "", "c");
        let mut g = Graph::default();
        assert!(g.put(&machine("a"), "1", vec![class.clone()]).contains(&class));
        assert!(!g.put(&machine("a"), "1", vec![class.clone()]).contains(&class));
        assert!(g.put(&machine("a"), "1", vec![]).contains(&class));
        assert!(g.put(&class, "2", vec![]).contains(&class));
        assert!(g.put(&class, "2", vec![]).contains(&class));
    }

    #[test]
    fn uids_follow_recreation() {
        let mut g = Graph::default();
        g.put(&disk("x"), "1", vec![]);
        g.put(&disk("x"), "2", vec![]);
        assert_eq!(g.of_uid("1"), None);
        assert_eq!(g.of_uid("2"), Some(&disk("x")));
        g.remove(&disk("x"));
        assert_eq!(g.of_uid("2"), None);
    }
}
