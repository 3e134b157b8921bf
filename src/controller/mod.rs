//! Reconcilers: gather, plan (pure), act, report. They see a `kube::Client` and the [`Host`], never the store.
//!
//! * [`cache`]: one watch and one cache for each kind; [`graph`]: which change wakes whom.
//! * [`machine`]: VirtualMachine, the center of it all; its run policy is in [`machine::power`].
//! * [`operation`], [`attachment`], [`disk`], [`image`], [`address`], [`mac`], [`class`], [`node`]: the other kinds;
//!   [`snapshot`], [`snapshot_operation`]: snapshots, and machines from them.
//! * [`write`]: patches of what changed; [`events`]: events on objects; [`orphans`]: what has no object any more.
//!
//! Nothing polls: a reconcile runs when an object, a neighbour of it, or the host's view of it changed, and at
//! deadlines that a rule names.

use std::collections::{BTreeSet, HashMap};
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use ipnet::Ipv4Net;
use k8s_openapi::api::core::v1::{Namespace, Node, Secret};
use kube::Client;
use kube::runtime::controller::{Action, Config, ReconcileReason, ReconcileRequest, applier};
use kube::runtime::reflector::{self, ObjectRef};
use parking_lot::Mutex;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinSet;

pub mod address;
pub mod attachment;
mod bootstrap;
mod cache;
pub mod class;
mod devices;
pub mod disk;
mod error;
mod events;
mod graph;
pub mod image;
pub mod mac;
pub mod machine;
mod making;
pub mod node;
pub mod operation;
mod orphans;
pub mod reasons;
pub mod snapshot;
pub mod snapshot_contents;
pub mod snapshot_operation;
mod source;
mod wording;
mod write;

pub use error::Error;
pub use orphans::spared;

use crate::host::{Host, HostEvent, MachineState, VolumeId};
use crate::types::{
    ClusterVirtualImage, SizingPolicy, VirtualDisk, VirtualDiskSnapshot, VirtualImage, VirtualMachine,
    VirtualMachineBlockDeviceAttachment, VirtualMachineClass, VirtualMachineIPAddress, VirtualMachineIPAddressLease,
    VirtualMachineMACAddress, VirtualMachineMACAddressLease, VirtualMachineOperation, VirtualMachineSnapshot,
    VirtualMachineSnapshotOperation,
};
use cache::{Cache, Wakeup, Watched, follow};
use events::Recorder;
use graph::{Key, Kind};

/// The time. A parameter, so that retention and the like can be tested.
pub type Clock = Arc<dyn Fn() -> jiff::Timestamp + Send + Sync>;

/// Reconciles of one kind that run at the same time.
const CONCURRENCY: u16 = 16;

/// Settings of the controllers.
#[derive(Clone)]
pub struct Options {
    /// Subnets for machine addresses.
    pub cidrs: Vec<Ipv4Net>,
    /// Name of the one Node.
    pub node_name: String,
    /// How much of this computer machines may have.
    pub capacity: node::Capacity,
    /// How long a released address stays with its namespace.
    pub lease_retention: Duration,
    /// How upload addresses are written.
    pub upload: UploadBase,
    /// How long an upload may take to begin before it has failed.
    pub upload_timeout: Duration,
    /// Names the API's store. What is on this computer when a store is first seen (a new one in the place of one that
    /// was lost, or a restored one) may belong to the store before, and is left alone for good.
    pub store: String,
    /// The file in which that is noted.
    pub spared: PathBuf,
    /// The time.
    pub clock: Clock,
}

/// Where uploads go.
#[derive(Debug, Clone)]
pub struct UploadBase {
    /// The API's unix socket.
    pub socket: PathBuf,
    /// Base address of the TLS listener, e.g. `https://127.0.0.1:6443`, if there is one.
    pub external: Option<String>,
}

/// What every reconcile has at hand.
pub struct Context {
    client: Client,
    host: Arc<dyn Host>,
    options: Options,
    events: Recorder,
    wakeup: Arc<Wakeup>,
    machines: Arc<Cache<VirtualMachine>>,
    operations: Arc<Cache<VirtualMachineOperation>>,
    attachments: Arc<Cache<VirtualMachineBlockDeviceAttachment>>,
    addresses: Arc<Cache<VirtualMachineIPAddress>>,
    leases: Arc<Cache<VirtualMachineIPAddressLease>>,
    disks: Arc<Cache<VirtualDisk>>,
    images: Arc<Cache<VirtualImage>>,
    cluster_images: Arc<Cache<ClusterVirtualImage>>,
    classes: Arc<Cache<VirtualMachineClass>>,
    disk_snapshots: Arc<Cache<VirtualDiskSnapshot>>,
    machine_snapshots: Arc<Cache<VirtualMachineSnapshot>>,
    snapshot_operations: Arc<Cache<VirtualMachineSnapshotOperation>>,
    mac_addresses: Arc<Cache<VirtualMachineMACAddress>>,
    mac_leases: Arc<Cache<VirtualMachineMACAddressLease>>,
    secrets: Arc<Cache<Secret>>,
    nodes: Arc<Cache<Node>>,
    namespaces: Arc<Cache<Namespace>>,
    machine_memory: machine::Shared,
    retries: Mutex<HashMap<Key, u32>>,
    /// Held by the snapshot whose moment it is: what one freezes is not frozen for another.
    taking: tokio::sync::Mutex<()>,
    /// When the waits for uploads began.
    uploads: Mutex<HashMap<VolumeId, jiff::Timestamp>>,
    /// Sources that could not be read, and are tried again.
    attempts: Mutex<HashMap<VolumeId, making::Attempts>>,
    /// When and for which launch of its machine an attachment was last asked for.
    plugging: Mutex<HashMap<String, (u64, jiff::Timestamp)>>,
    /// Sizing policies of classes, by UID, as last seen.
    class_sizes: Mutex<HashMap<String, Option<Vec<SizingPolicy>>>>,
    /// Machines that wait for room or for others to leave; woken when an instance ends.
    waiting: Mutex<BTreeSet<Key>>,
}

impl Context {
    fn now(&self) -> jiff::Timestamp {
        (self.options.clock)()
    }
}

/// The caches under construction: watches to run, queues to serve.
struct Builder {
    client: Client,
    watches: Vec<BoxFuture<'static, ()>>,
    ready: Vec<BoxFuture<'static, bool>>,
}

impl Builder {
    fn cache<K: Watched>(&mut self, wakeup: &Arc<Wakeup>) -> Arc<Cache<K>> {
        let (store, writer) = reflector::store::<K>();
        let cache = Arc::new(Cache::new(store.clone()));
        self.watches.push(follow(self.client.clone(), writer, cache.clone(), wakeup.clone()).boxed());
        self.ready.push(async move { store.wait_until_ready().await.is_ok() }.boxed());
        cache
    }
}

/// Runs all controllers until `shutdown` completes. Returns an error only if the first writes (the Node, the
/// classes) fail.
pub async fn run(
    client: Client,
    host: Arc<dyn Host>,
    options: Options,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), Error> {
    // Subscribed before anything is looked at, so that no change is missed in between.
    let host_events = host.subscribe();
    let mut queues = HashMap::new();
    let mut inputs = HashMap::new();
    for &kind in RECONCILED {
        let (sender, receiver) = unbounded_channel();
        queues.insert(kind, sender);
        inputs.insert(kind, receiver);
    }
    let wakeup = Arc::new(Wakeup::new(queues));
    let (events, write_events) = Recorder::new(client.clone(), options.clock.clone());
    let mut b = Builder { client: client.clone(), watches: Vec::new(), ready: Vec::new() };
    let ctx = Arc::new(Context {
        machines: b.cache(&wakeup),
        operations: b.cache(&wakeup),
        attachments: b.cache(&wakeup),
        addresses: b.cache(&wakeup),
        leases: b.cache(&wakeup),
        disks: b.cache(&wakeup),
        images: b.cache(&wakeup),
        cluster_images: b.cache(&wakeup),
        classes: b.cache(&wakeup),
        disk_snapshots: b.cache(&wakeup),
        machine_snapshots: b.cache(&wakeup),
        snapshot_operations: b.cache(&wakeup),
        mac_addresses: b.cache(&wakeup),
        mac_leases: b.cache(&wakeup),
        secrets: b.cache(&wakeup),
        nodes: b.cache(&wakeup),
        namespaces: b.cache(&wakeup),
        client,
        host,
        options,
        events,
        wakeup: wakeup.clone(),
        machine_memory: machine::Shared::default(),
        retries: Mutex::default(),
        taking: tokio::sync::Mutex::default(),
        uploads: Mutex::default(),
        attempts: Mutex::default(),
        plugging: Mutex::default(),
        class_sizes: Mutex::default(),
        waiting: Mutex::default(),
    });

    let mut tasks = JoinSet::new();
    tasks.spawn(write_events);
    for watch in b.watches {
        tasks.spawn(watch);
    }
    let work = async {
        bootstrap::run(&ctx).await?;
        futures::future::join_all(b.ready).await;
        orphans::clean(&ctx).await;
        tasks.spawn(host_triggers(ctx.clone(), host_events));
        let mut drive = Drive { ctx: &ctx, inputs, tasks: &mut tasks };
        drive.kind(ctx.machines.clone(), |o, c| machine::reconcile(o, c).boxed());
        drive.kind(ctx.operations.clone(), |o, c| operation::reconcile(o, c).boxed());
        drive.kind(ctx.attachments.clone(), |o, c| attachment::reconcile(o, c).boxed());
        drive.kind(ctx.addresses.clone(), |o, c| address::reconcile(o, c).boxed());
        drive.kind(ctx.leases.clone(), |o, c| address::lease::reconcile(o, c).boxed());
        drive.kind(ctx.disks.clone(), |o, c| disk::reconcile(o, c).boxed());
        drive.kind(ctx.images.clone(), |o, c| image::reconcile(o, c).boxed());
        drive.kind(ctx.cluster_images.clone(), |o, c| image::reconcile_cluster(o, c).boxed());
        drive.kind(ctx.classes.clone(), |o, c| class::reconcile(o, c).boxed());
        drive.kind(ctx.disk_snapshots.clone(), |o, c| snapshot::disk::reconcile(o, c).boxed());
        drive.kind(ctx.machine_snapshots.clone(), |o, c| snapshot::machine::reconcile(o, c).boxed());
        drive.kind(ctx.snapshot_operations.clone(), |o, c| snapshot_operation::reconcile(o, c).boxed());
        drive.kind(ctx.mac_addresses.clone(), |o, c| mac::reconcile(o, c).boxed());
        drive.kind(ctx.mac_leases.clone(), |o, c| mac::reconcile_lease(o, c).boxed());
        drive.kind(ctx.nodes.clone(), |o, c| node::reconcile(o, c).boxed());
        drive.kind(ctx.namespaces.clone(), |o, c| node::namespace(o, c).boxed());
        while tasks.join_next().await.is_some() {}
        Ok(())
    };
    tokio::select! {
        result = work => result,
        () = shutdown => Ok(()),
    }
}

/// Kinds with a reconciler. Secrets only wake others.
const RECONCILED: &[Kind] = &[
    Kind::Machine,
    Kind::Operation,
    Kind::Attachment,
    Kind::Address,
    Kind::Lease,
    Kind::Disk,
    Kind::Image,
    Kind::ClusterImage,
    Kind::Class,
    Kind::DiskSnapshot,
    Kind::MachineSnapshot,
    Kind::SnapshotOperation,
    Kind::MacAddress,
    Kind::MacLease,
    Kind::Node,
    Kind::Namespace,
];

/// One look at one object.
type Reconcile<K> = fn(Arc<K>, Arc<Context>) -> BoxFuture<'static, Result<Action, Error>>;

struct Drive<'a> {
    ctx: &'a Arc<Context>,
    inputs: HashMap<Kind, UnboundedReceiver<Key>>,
    tasks: &'a mut JoinSet<()>,
}

impl Drive<'_> {
    /// Serves one kind's queue: one run per object at a time, repeated wake-ups merged.
    fn kind<K: Watched>(&mut self, cache: Arc<Cache<K>>, reconcile: Reconcile<K>) {
        let Some(input) = self.inputs.remove(&K::KIND) else { return };
        let queue = tokio_stream::wrappers::UnboundedReceiverStream::new(input).map(|key| {
            let reference = ObjectRef::new(&key.name);
            let obj_ref = if key.namespace.is_empty() { reference } else { reference.within(&key.namespace) };
            Ok::<_, Infallible>(ReconcileRequest::<K> { obj_ref, reason: ReconcileReason::Unknown })
        });
        let store = cache.store();
        let once = move |seen: Arc<K>, ctx: Arc<Context>| {
            let key = seen.key();
            let run = reconcile(cache.newest(seen), ctx.clone());
            async move {
                let result = run.await;
                if result.is_ok() {
                    ctx.retries.lock().remove(&key);
                }
                result
            }
            .boxed()
        };
        let results =
            applier(once, retry::<K>, self.ctx.clone(), store, queue, Config::default().concurrency(CONCURRENCY));
        self.tasks.spawn(results.for_each(|_| std::future::ready(())));
    }
}

/// Conflicts are settled by the next look; anything else is tried again after 0.2 s, doubling up to a minute.
fn retry<K: Watched>(object: Arc<K>, error: &Error, ctx: Arc<Context>) -> Action {
    if error.is_conflict() {
        tracing::debug!(%error, "changed in between, looking again");
        return Action::requeue(Duration::from_millis(20));
    }
    let mut retries = ctx.retries.lock();
    let count = retries.entry(object.key()).or_default();
    let pause = Duration::from_millis(200u64 << (*count).min(9)).min(Duration::from_secs(60));
    *count += 1;
    tracing::warn!(error = error as &dyn std::error::Error, ?pause, "reconcile failed, trying again");
    Action::requeue(pause)
}

async fn host_triggers(ctx: Arc<Context>, mut events: tokio::sync::broadcast::Receiver<HostEvent>) {
    loop {
        match events.recv().await {
            Ok(HostEvent::Machine(id)) => {
                let mut keys = BTreeSet::new();
                if let Some(key) = ctx.wakeup.graph.lock().of_uid(&id.0).cloned() {
                    keys.insert(key);
                }
                for key in &keys.clone() {
                    // Operations and attachments look at the instance themselves.
                    let graph = ctx.wakeup.graph.lock();
                    keys.extend(graph.naming(key, Kind::Operation));
                    keys.extend(graph.naming(key, Kind::Attachment));
                    // Snapshots wait for the end of what else is done to it.
                    keys.extend(graph.naming(key, Kind::MachineSnapshot));
                    let disks = graph.around(key).into_iter().filter(|k| k.kind == Kind::Disk);
                    keys.extend(disks.flat_map(|disk| graph.naming(&disk, Kind::DiskSnapshot)));
                }
                let state = ctx.host.observe(&id).state;
                // Others may have waited for its room, for its absence or for its company.
                if !machine::power::exists(&state) || matches!(state, MachineState::Running { .. }) {
                    keys.extend(std::mem::take(&mut *ctx.waiting.lock()));
                }
                ctx.wakeup.wake(keys);
            }
            Ok(HostEvent::Volume(id)) => {
                let key = ctx.wakeup.graph.lock().of_uid(operation::recreate::trial::owner(&id.uid)).cloned();
                ctx.wakeup.wake(key);
            }
            Err(RecvError::Lagged(missed)) => {
                tracing::debug!(missed, "host events missed, looking at everything");
                for &kind in RECONCILED {
                    ctx.wakeup.wake_all(kind);
                }
            }
            Err(RecvError::Closed) => return,
        }
    }
}
