//! What the controllers know of the API's objects: one watch per kind, one cache per kind, and the keys that
//! each change wakes.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt::Debug;
use std::sync::Arc;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{Namespace, Node, Secret};
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch};
use kube::{Api, Client, Resource, ResourceExt};
use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc::UnboundedSender;

use super::graph::{Graph, Key, Kind};
use super::operation::clone::snapshot_name;
use crate::types::{
    AddressType, BlockDeviceKind, BlockDeviceRef, ClusterVirtualImage, ContainerImageSource, DiskSourceKind,
    ImageDataSource, OperationResource, SourceKind, VirtualDisk, VirtualDiskSnapshot, VirtualImage, VirtualMachine,
    VirtualMachineBlockDeviceAttachment, VirtualMachineClass, VirtualMachineIPAddress, VirtualMachineIPAddressLease,
    VirtualMachineMACAddress, VirtualMachineMACAddressLease, VirtualMachineOperation, VirtualMachineSnapshot,
    VirtualMachineSnapshotOperation, lease_address, lease_name, mac_lease_name,
};

/// A kind that the controllers watch.
pub trait Watched:
    Resource<DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned + Send + Sync + 'static
{
    /// Which.
    const KIND: Kind;

    /// The API for one namespace; cluster-wide kinds ignore it.
    fn api(client: &Client, namespace: &str) -> Api<Self>;

    /// The API for watching all objects.
    fn api_all(client: &Client) -> Api<Self>;

    /// The objects this one names.
    fn links(&self) -> Vec<Key>;

    /// This object's key.
    fn key(&self) -> Key {
        Key::new(Self::KIND, self.meta().namespace.as_deref().unwrap_or(""), self.meta().name.as_deref().unwrap_or(""))
    }
}

macro_rules! watched {
    (namespaced $ty:ty, $kind:ident, $this:ident => $links:expr) => {
        impl Watched for $ty {
            const KIND: Kind = Kind::$kind;
            fn api(client: &Client, namespace: &str) -> Api<Self> {
                Api::namespaced(client.clone(), namespace)
            }
            fn api_all(client: &Client) -> Api<Self> {
                Api::all(client.clone())
            }
            fn links(&self) -> Vec<Key> {
                let $this = self;
                $links
            }
        }
    };
    (cluster $ty:ty, $kind:ident, $this:ident => $links:expr) => {
        impl Watched for $ty {
            const KIND: Kind = Kind::$kind;
            fn api(client: &Client, _: &str) -> Api<Self> {
                Api::all(client.clone())
            }
            fn api_all(client: &Client) -> Api<Self> {
                Api::all(client.clone())
            }
            fn links(&self) -> Vec<Key> {
                let $this = self;
                $links
            }
        }
    };
}

watched!(namespaced VirtualMachine, Machine, this => machine_links(this));
watched!(namespaced VirtualMachineOperation, Operation, this => {
    operation_links(this)
});
watched!(namespaced VirtualMachineBlockDeviceAttachment, Attachment, this => {
    let ns = namespace(this);
    let device = &this.spec.block_device_ref;
    vec![Key::new(Kind::Machine, &ns, &this.spec.virtual_machine_name), device_key(&ns, device.kind, &device.name)]
});
watched!(namespaced VirtualMachineIPAddress, Address, this => address_links(this));
watched!(cluster VirtualMachineIPAddressLease, Lease, this => {
    let holder = this.spec.virtual_machine_ip_address_ref.as_ref();
    holder.filter(|h| !h.name.is_empty()).map(|h| Key::new(Kind::Address, &h.namespace, &h.name)).into_iter().collect()
});
watched!(namespaced VirtualDisk, Disk, this => {
    let ns = namespace(this);
    let source = this.spec.data_source.as_ref();
    let secret = source.and_then(|s| s.container_image.as_ref()).and_then(|c| pull_secret(&ns, c));
    source
        .and_then(|s| s.object_ref.as_ref())
        .map(|r| match r.kind {
            DiskSourceKind::VirtualImage => Key::new(Kind::Image, &ns, &r.name),
            DiskSourceKind::ClusterVirtualImage => Key::new(Kind::ClusterImage, "", &r.name),
            DiskSourceKind::VirtualDiskSnapshot => Key::new(Kind::DiskSnapshot, &ns, &r.name),
        })
        .into_iter()
        .chain(secret)
        .collect()
});
watched!(namespaced VirtualImage, Image, this => image_links(&namespace(this), &this.spec.data_source));
watched!(cluster ClusterVirtualImage, ClusterImage, this => image_links("", &this.spec.data_source));
watched!(cluster VirtualMachineClass, Class, _this => vec![]);
watched!(namespaced VirtualDiskSnapshot, DiskSnapshot, this => {
    let ns = namespace(this);
    let of_machine = this.owner_references().iter().filter(|o| o.kind == "VirtualMachineSnapshot");
    let mut links: Vec<Key> = of_machine.map(|o| Key::new(Kind::MachineSnapshot, &ns, &o.name)).collect();
    links.push(Key::new(Kind::Disk, &ns, &this.spec.virtual_disk_name));
    links
});
watched!(namespaced VirtualMachineSnapshot, MachineSnapshot, this => {
    vec![Key::new(Kind::Machine, &namespace(this), &this.spec.virtual_machine_name)]
});
watched!(namespaced VirtualMachineSnapshotOperation, SnapshotOperation, this => {
    let ns = namespace(this);
    let mut links = vec![Key::new(Kind::MachineSnapshot, &ns, &this.spec.virtual_machine_snapshot_name)];
    links.extend(made_links(&ns, this.status.as_ref().and_then(|s| s.resources.as_deref())));
    links
});
watched!(namespaced VirtualMachineMACAddress, MacAddress, this => {
    let addresses = [this.spec.address.as_ref(), this.status.as_ref().and_then(|s| s.address.as_ref())];
    let leases: BTreeSet<String> = addresses.into_iter().flatten().map(|a| mac_lease_name(a)).collect();
    leases.iter().map(|name| Key::new(Kind::MacLease, "", name)).collect()
});
watched!(cluster VirtualMachineMACAddressLease, MacLease, this => {
    let holder = this.spec.virtual_machine_mac_address_ref.as_ref();
    holder.filter(|h| !h.name.is_empty()).map(|h| Key::new(Kind::MacAddress, &h.namespace, &h.name)).into_iter().collect()
});
watched!(namespaced Secret, Secret, _this => vec![]);
watched!(cluster Node, Node, _this => vec![]);
watched!(cluster Namespace, Namespace, _this => vec![]);

/// Namespace of an object; empty for cluster-wide ones.
pub fn namespace<K: Resource<DynamicType = ()>>(object: &K) -> String {
    object.meta().namespace.clone().unwrap_or_default()
}

/// Key of a block device's object as seen from `namespace`.
pub fn device_key(namespace: &str, kind: BlockDeviceKind, name: &str) -> Key {
    match kind {
        BlockDeviceKind::VirtualDisk => Key::new(Kind::Disk, namespace, name),
        BlockDeviceKind::VirtualImage => Key::new(Kind::Image, namespace, name),
        BlockDeviceKind::ClusterVirtualImage => Key::new(Kind::ClusterImage, "", name),
    }
}

fn operation_links(op: &VirtualMachineOperation) -> Vec<Key> {
    let ns = namespace(op);
    let mut links = BTreeSet::from([Key::new(Kind::Machine, &ns, &op.spec.virtual_machine_name)]);
    links.extend(made_links(&ns, op.status.as_ref().and_then(|s| s.resources.as_deref())));
    let snapshot = match (&op.spec.restore, &op.spec.clone) {
        (Some(restore), _) => Some(restore.virtual_machine_snapshot_name.clone()),
        (None, Some(_)) => Some(snapshot_name(op)),
        (None, None) => None,
    };
    links.extend(snapshot.map(|name| Key::new(Kind::MachineSnapshot, &ns, &name)));
    links.into_iter().collect()
}

/// Objects that an operation makes.
fn made_links(namespace: &str, resources: Option<&[OperationResource]>) -> Vec<Key> {
    let key = |r: &OperationResource| {
        let kind = match r.kind.as_str() {
            "VirtualMachine" => Kind::Machine,
            "VirtualDisk" => Kind::Disk,
            "VirtualMachineBlockDeviceAttachment" => Kind::Attachment,
            "VirtualMachineIPAddress" => Kind::Address,
            "Secret" => Kind::Secret,
            _ => return None,
        };
        Some(Key::new(kind, namespace, &r.name))
    };
    resources.into_iter().flatten().filter_map(key).collect()
}

fn machine_links(vm: &VirtualMachine) -> Vec<Key> {
    let ns = namespace(vm);
    let device = |r: &BlockDeviceRef| device_key(&ns, r.kind, &r.name);
    let mut links: BTreeSet<Key> = vm.spec.block_device_refs.iter().map(device).collect();
    links.insert(Key::new(Kind::Class, "", &vm.spec.virtual_machine_class_name));
    let status = vm.status.as_ref();
    // What the running instance has may differ from what the spec now says.
    for held in status.and_then(|s| s.block_device_refs.as_ref()).into_iter().flatten() {
        links.insert(device_key(&ns, held.kind, &held.name));
    }
    let addresses = [
        vm.spec.virtual_machine_ip_address_name.as_ref(),
        status.and_then(|s| s.virtual_machine_ip_address_name.as_ref()),
    ];
    links.extend(addresses.into_iter().flatten().map(|name| Key::new(Kind::Address, &ns, name)));
    if let Some(p) = &vm.spec.provisioning {
        let secrets = [&p.user_data_ref, &p.sysprep_ref];
        links.extend(secrets.into_iter().flatten().map(|s| Key::new(Kind::Secret, &ns, &s.name)));
    }
    links.into_iter().collect()
}

fn address_links(vmip: &VirtualMachineIPAddress) -> Vec<Key> {
    let ns = namespace(vmip);
    let mut links = BTreeSet::new();
    for owner in vmip.owner_references().iter().filter(|o| o.kind == "VirtualMachine") {
        links.insert(Key::new(Kind::Machine, &ns, &owner.name));
    }
    let status = vmip.status.as_ref();
    if let Some(vm) = status.and_then(|s| s.virtual_machine_name.as_ref()).filter(|n| !n.is_empty()) {
        links.insert(Key::new(Kind::Machine, &ns, vm));
    }
    let wished = vmip.spec.static_ip.as_ref().filter(|_| vmip.spec.type_ == AddressType::Static);
    for text in [wished, status.and_then(|s| s.address.as_ref())].into_iter().flatten() {
        if let Ok(address) = text.parse() {
            links.insert(Key::new(Kind::Lease, "", &lease_name(address)));
        }
    }
    links.into_iter().collect()
}

fn pull_secret(own_namespace: &str, source: &ContainerImageSource) -> Option<Key> {
    let name = source.image_pull_secret.as_ref()?.name.as_ref()?;
    Some(Key::new(Kind::Secret, secret_namespace(own_namespace, source), name))
}

/// Where an object of a namespace, or without one, has its pull secret.
pub fn secret_namespace<'a>(own_namespace: &'a str, source: &'a ContainerImageSource) -> &'a str {
    let other = source.image_pull_secret.as_ref().and_then(|secret| secret.namespace.as_deref());
    if own_namespace.is_empty() { other.unwrap_or("") } else { own_namespace }
}

fn image_links(own_namespace: &str, source: &ImageDataSource) -> Vec<Key> {
    if let Some(container) = &source.container_image {
        return pull_secret(own_namespace, container).into_iter().collect();
    }
    let Some(r) = &source.object_ref else { return vec![] };
    let ns = r.namespace.as_deref().filter(|_| own_namespace.is_empty()).unwrap_or(own_namespace);
    match r.kind {
        SourceKind::ClusterVirtualImage => vec![Key::new(Kind::ClusterImage, "", &r.name)],
        SourceKind::VirtualImage => vec![Key::new(Kind::Image, ns, &r.name)],
        SourceKind::VirtualDisk => vec![Key::new(Kind::Disk, ns, &r.name)],
        SourceKind::VirtualDiskSnapshot => vec![Key::new(Kind::DiskSnapshot, ns, &r.name)],
    }
}

/// The address a lease's object stands for.
pub fn address_of(lease: &VirtualMachineIPAddressLease) -> Option<std::net::Ipv4Addr> {
    lease_address(&lease.name_any())
}

/// Where keys go to be reconciled, and who wakes whom.
#[derive(Default)]
pub struct Wakeup {
    /// See [`Graph`].
    pub graph: Mutex<Graph>,
    queues: HashMap<Kind, UnboundedSender<Key>>,
}

impl Wakeup {
    /// With one queue for each kind that is reconciled.
    pub fn new(queues: HashMap<Kind, UnboundedSender<Key>>) -> Self {
        Self { graph: Mutex::default(), queues }
    }

    /// Queues keys; those of kinds that nobody reconciles are dropped.
    pub fn wake(&self, keys: impl IntoIterator<Item = Key>) {
        for key in keys {
            if let Some(queue) = self.queues.get(&key.kind) {
                // A closed queue means that the controllers are shutting down.
                let _ = queue.send(key);
            }
        }
    }

    /// Queues everything there is of a kind.
    pub fn wake_all(&self, kind: Kind) {
        let keys = self.graph.lock().keys(kind);
        self.wake(keys);
    }
}

/// Objects of one kind as last seen or last written by ourselves, whichever is newer.
pub struct Cache<K: Watched> {
    store: Store<K>,
    written: Mutex<HashMap<String, Arc<K>>>,
}

impl<K: Watched> Cache<K> {
    /// A cache over a watch's store.
    pub fn new(store: Store<K>) -> Self {
        Self { store, written: Mutex::default() }
    }

    /// The watch's store.
    pub fn store(&self) -> Store<K> {
        self.store.clone()
    }

    /// One object.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        let reference = ObjectRef::new(name);
        let reference = if namespace.is_empty() { reference } else { reference.within(namespace) };
        self.store.get(&reference).map(|seen| self.newest(seen))
    }

    /// One object by key.
    pub fn at(&self, key: &Key) -> Option<Arc<K>> {
        self.get(&key.namespace, &key.name)
    }

    /// All objects.
    pub fn all(&self) -> Vec<Arc<K>> {
        self.store.state().into_iter().map(|seen| self.newest(seen)).collect()
    }

    /// `seen`, or what we wrote since.
    pub fn newest(&self, seen: Arc<K>) -> Arc<K> {
        let Some(uid) = seen.meta().uid.as_ref() else { return seen };
        match self.written.lock().get(uid) {
            Some(written) if revision(written.as_ref()) > revision(seen.as_ref()) => written.clone(),
            _ => seen,
        }
    }

    /// Remembers the answer to one of our own writes until the watch has caught up.
    pub fn wrote(&self, object: K) {
        if let Some(uid) = object.meta().uid.clone() {
            self.written.lock().insert(uid, Arc::new(object));
        }
    }

    fn caught_up(&self, seen: &K) {
        if let Some(uid) = seen.meta().uid.as_ref() {
            let mut written = self.written.lock();
            if written.get(uid).is_some_and(|w| revision(w.as_ref()) <= revision(seen)) {
                written.remove(uid);
            }
        }
    }

    fn gone(&self, object: &K) {
        if let Some(uid) = object.meta().uid.as_ref() {
            self.written.lock().remove(uid);
        }
    }
}

/// Resource versions of one server are comparable as numbers (Kubernetes 1.35 and our own server).
fn revision<K: Resource>(object: &K) -> u64 {
    object.meta().resource_version.as_deref().and_then(|v| v.parse().ok()).unwrap_or(0)
}

/// Follows all objects of a kind until dropped.
pub async fn follow<K: Watched>(client: Client, mut writer: Writer<K>, cache: Arc<Cache<K>>, wakeup: Arc<Wakeup>) {
    let mut events = std::pin::pin!(watch(K::api_all(&client), watcher::Config::default()).default_backoff());
    let mut listed: HashSet<Key> = HashSet::new();
    while let Some(event) = events.next().await {
        let event = match event {
            Ok(event) => event,
            Err(error) => {
                tracing::warn!(kind = ?K::KIND, %error, "watch interrupted, trying again");
                continue;
            }
        };
        writer.apply_watcher_event(&event);
        let woken = match &event {
            Event::Init => {
                listed.clear();
                BTreeSet::new()
            }
            Event::InitApply(object) => {
                listed.insert(object.key());
                put(&wakeup, object)
            }
            Event::InitDone => {
                let mut graph = wakeup.graph.lock();
                let vanished: Vec<Key> = graph.keys(K::KIND).into_iter().filter(|k| !listed.contains(k)).collect();
                let mut woken: BTreeSet<Key> = vanished.iter().flat_map(|k| graph.remove(k)).collect();
                woken.extend(listed.drain());
                woken
            }
            Event::Apply(object) => {
                cache.caught_up(object);
                put(&wakeup, object)
            }
            Event::Delete(object) => {
                cache.gone(object);
                let mut woken = wakeup.graph.lock().remove(&object.key());
                if K::KIND == Kind::Lease {
                    // An address is free again: whoever found none looks once more.
                    woken.extend(wakeup.graph.lock().keys(Kind::Address));
                }
                if K::KIND == Kind::MacLease {
                    woken.extend(wakeup.graph.lock().keys(Kind::MacAddress));
                }
                woken
            }
        };
        wakeup.wake(woken);
    }
}

fn put<K: Watched>(wakeup: &Wakeup, object: &K) -> BTreeSet<Key> {
    let uid = object.meta().uid.as_deref().unwrap_or("");
    wakeup.graph.lock().put(&object.key(), uid, object.links())
}
