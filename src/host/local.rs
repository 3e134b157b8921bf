//! The real [`Host`]: QEMU on this computer.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use parking_lot::RwLock;
use tokio::io::{AsyncRead, DuplexStream};
use tokio::sync::broadcast;

use super::adopt;
use super::cgroup;
use super::command_line::{Accelerator, VNC_SOCKET};
use super::context::{Context, blocking};
use super::disk_image::Tool;
use super::forward::{self, ForwardError, PortStream};
use super::hotplug;
use super::layout::{self, Isolation, Layout};
use super::machine::{Beginning, Command, Machine, OFF};
use super::probe;
use super::record::{self, Record, Stage};
use super::spec::{MachineId, SnapshotOf, VolumeId, VolumeKind, VolumeRequest};
use super::upload::{Upload, UploadFailure};
use super::volumes::Volumes;
use super::{Denied, Host, HostEvent, MachineState, NodeFacts, Observation, SerialAttachment, Step, VolumeState};
use crate::config::{HostSettings, Paths};

/// User and group that QEMU gets on the system host. It belongs to nobody else: outside of what distributions
/// give to people and packages, small enough for containers that know only 65536 ids.
const QEMU_ID: u32 = 64_742;

/// Changes that a slow listener may be behind before it must look at everything again.
const EVENT_QUEUE: usize = 1024;

/// What a host is made from.
#[derive(Debug, Clone)]
pub struct HostOptions {
    /// Directories.
    pub paths: Paths,
    /// The `[host]` part of the settings.
    pub settings: HostSettings,
}

/// The host could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// QEMU takes paths as text.
    #[error("the directory {} cannot be used: its name is not valid UTF-8", path.display())]
    Name {
        /// The directory.
        path: PathBuf,
    },
    /// A directory could not be made or read.
    #[error("cannot prepare the host's directories under {}", path.display())]
    Directories {
        /// The state directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// This computer. Cheap to share; all work happens in tasks of the runtime in which it was opened.
pub struct LocalHost {
    pub(super) context: Arc<Context>,
    pub(super) machines: RwLock<HashMap<MachineId, Arc<Machine>>>,
    facts: NodeFacts,
    runtime: tokio::runtime::Handle,
}

impl LocalHost {
    /// Looks at the computer, takes up running machines and unfinished volumes of an earlier daemon. The caller
    /// holds the state directory's lock: two hosts on one directory would take each other's machines.
    pub async fn open(options: HostOptions) -> Result<Arc<Self>, HostError> {
        let HostOptions { paths, settings } = options;
        for path in [&paths.state, &paths.runtime] {
            if path.to_str().is_none() {
                return Err(HostError::Name { path: path.clone() });
            }
        }
        // Fails if there is one already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let unusable = |source| HostError::Directories { path: paths.state.clone(), source };
        let runtime = tokio::runtime::Handle::current();
        let events = broadcast::channel(EVENT_QUEUE).0;
        let (context, facts) = {
            let (paths, runtime) = (paths.clone(), runtime.clone());
            blocking(move || prepare(&paths, &settings, events, runtime)).await.map_err(&unusable)?
        };
        let host = Self { context: Arc::new(context), machines: RwLock::default(), facts, runtime };
        host.adopt().await.map_err(&unusable)?;
        host.context.volumes.resume();
        host.take_up_copies();
        Ok(Arc::new(host))
    }

    /// Takes up recorded machines, side by side, and removes what no record knows.
    async fn adopt(&self) -> io::Result<()> {
        let context = self.context.clone();
        let records = blocking(move || {
            let mut records = Vec::new();
            for dir in context.layout.machine_dirs()? {
                match record::read(&dir) {
                    Ok(Some(record)) if context.layout.machine(&record.id) == dir => records.push(record),
                    Ok(Some(_)) => tracing::error!(dir = %dir.display(), "another machine's record lies here"),
                    Ok(None) => std::fs::remove_dir_all(&dir)?,
                    Err(error) => {
                        tracing::error!(dir = %dir.display(), %error, "unreadable machine record; left alone")
                    }
                }
            }
            Ok(records)
        })
        .await?;
        let taken = futures::future::join_all(records.into_iter().map(|record| {
            let context = self.context.clone();
            async move { adopt::take_up(&context, record.clone()).await.map(|machine| (record.id, machine)) }
        }));
        let mut living: Vec<PathBuf> = Vec::new();
        for machine in taken.await {
            let (id, machine) = machine?;
            living.extend(machine.with(|shared| shared.run_dir.clone()));
            living.extend(machine.with(|shared| shared.network_dir.clone()));
            self.machines.write().insert(id, machine);
        }
        let context = self.context.clone();
        let runs = blocking(move || {
            if let Some(hierarchy) = &context.hierarchy {
                cgroup::sweep(hierarchy);
            }
            context.layout.run_dirs()
        })
        .await?;
        for run_dir in runs.into_iter().filter(|dir| !living.contains(dir)) {
            adopt::kill_all_in(&run_dir).await;
            super::launch::clean_up(run_dir, Vec::new()).await;
        }
        Ok(())
    }

    pub(super) fn machine(&self, id: &MachineId) -> Option<Arc<Machine>> {
        self.machines.read().get(id).cloned()
    }

    /// The machine, made if it is unknown.
    fn machine_or_new(&self, id: &MachineId) -> Result<Arc<Machine>, Denied> {
        let mut machines = self.machines.write();
        if let Some(machine) = machines.get(id) {
            return Ok(machine.clone());
        }
        let record =
            Record { id: id.clone(), launch: 0, note: None, machine_types: Vec::new(), stage: Stage::Starting };
        let (machine, task) = Machine::new(&self.context, record);
        // Nothing is there yet to be read.
        machine
            .open_console(&self.context, &self.runtime)
            .map_err(|error| Denied { reason: format!("the console's history cannot be read: {error}") })?;
        self.runtime.spawn(task.run(Beginning::Off));
        machines.insert(id.clone(), machine.clone());
        Ok(machine)
    }

    /// Stores the body of an upload; returns when the volume that waits under `token` is made, or with why it is
    /// not. `length`: the body's length, if known.
    pub async fn receive_upload(
        &self,
        token: &str,
        length: Option<u64>,
        body: Box<dyn AsyncRead + Send + Unpin>,
    ) -> Result<(), UploadFailure> {
        self.resume_upload(token, 0, length, body).await
    }

    /// As [`LocalHost::receive_upload`] for content whose first `offset` bytes came before. `total`: length of all of
    /// it, if known.
    pub async fn resume_upload(
        &self,
        token: &str,
        offset: u64,
        total: Option<u64>,
        body: Box<dyn AsyncRead + Send + Unpin>,
    ) -> Result<(), UploadFailure> {
        self.context.volumes.uploads.receive(token, Upload { offset, total, body }).await
    }

    /// Bytes of an upload that broke off; 0 before there was one.
    pub fn upload_received(&self, token: &str) -> Result<u64, UploadFailure> {
        self.context.volumes.uploads.received(token)
    }

    /// Connects to a port of a running machine's guest. For UDP each write to the stream is a datagram.
    pub async fn port_forward(&self, id: &MachineId, port: u16, udp: bool) -> Result<PortStream, ForwardError> {
        let reach = self.machine(id).and_then(|machine| {
            machine.with(|shared| shared.qmp.is_some().then(|| (shared.forwarder.clone(), shared.address)))
        });
        let (qmp, address) = reach.ok_or(ForwardError::NotRunning)?;
        let qmp = qmp.ok_or_else(|| ForwardError::Failed("the machine's network is being restarted".into()))?;
        let address = address.ok_or_else(|| ForwardError::Failed("the machine has no network interface".into()))?;
        forward::connect(&qmp, address, port, udp).await.map_err(ForwardError::Failed)
    }

    /// Connects to a running machine's screen (RFB, without authentication). Works however long the socket's
    /// path is. The stream goes on when the machine is migrated.
    pub async fn vnc(&self, id: &MachineId) -> Option<io::Result<DuplexStream>> {
        let machine = self.machine(id)?;
        super::screen::open(&machine.screen).await
    }

    async fn resize(&self, id: &VolumeId, bytes: u64) -> Result<(), String> {
        let volumes = &self.context.volumes;
        let Some(content) = volumes.content(id) else { return Err("the disk is not ready".into()) };
        if id.kind != VolumeKind::Disk {
            return Err("an image cannot be resized".into());
        }
        let bytes = bytes.next_multiple_of(512);
        if bytes < content.info.virtual_size {
            return Err("a disk cannot be made smaller".into());
        }
        if self.is_copied(id) {
            return Err("the disk is being copied".into());
        }
        if bytes > content.info.virtual_size {
            let online = self.machines.read().values().find_map(|machine| {
                machine.with(|shared| {
                    let device = shared.observation.devices.iter().find(|device| device.volume == *id)?;
                    Some((shared.qmp.clone()?, device.id.clone()))
                })
            });
            match online {
                Some((qmp, device)) => hotplug::resize(&qmp, &device, bytes).await?,
                None => volumes.tool.resize(&volumes.data(id), bytes).await.map_err(|failure| failure.detail)?,
            }
        }
        volumes.resized(id, bytes).await.map_err(|error| format!("cannot write the volume's record: {error}"))
    }
}

/// Everything that needs the file system or other programs.
fn prepare(
    paths: &Paths,
    settings: &HostSettings,
    events: broadcast::Sender<HostEvent>,
    runtime: tokio::runtime::Handle,
) -> io::Result<(Context, NodeFacts)> {
    let facts = probe::probe(settings.accel);
    let computer = probe::computer();
    let is_root = rustix::process::geteuid().is_root();
    let shared: [&Path; 2] = [&paths.state, &paths.runtime];
    let isolation = layout::choose_isolation(is_root, QEMU_ID, &shared, facts.kvm_group, facts.kvm_closed);
    let layout = Layout::create(paths, isolation.clone())?;
    let mut notes = Vec::new();
    if let Isolation::RootWithoutCapabilities { reason, .. } = &isolation {
        notes.push(reason.clone());
    }
    let hierarchy = match cgroup::discover(&group_name(&paths.state)) {
        Ok(hierarchy) => Some(hierarchy),
        Err(reason) => {
            notes.push(format!("coreFraction is not enforced: {reason}"));
            None
        }
    };
    let mut problems = Vec::new();
    if facts.qemu.is_none() {
        problems.push("QEMU was not found: install the package qemu-system-x86 and start vmdeck's host again".into());
    } else if facts.machine_types.is_empty() {
        problems.push("QEMU does not run here: `qemu-system-x86_64 -machine help` gives nothing".into());
    }
    if facts.qemu_img.is_none() {
        problems.push("qemu-img was not found: install the package qemu-utils and start vmdeck's host again".into());
    }
    let node = NodeFacts {
        name: settings.node_name.clone().unwrap_or(computer.name),
        cpus: computer.cpus,
        memory_bytes: computer.memory,
        accelerator: match facts.accelerator {
            Accelerator::Kvm => "kvm".into(),
            Accelerator::Tcg => "tcg".into(),
        },
        accelerator_reason: facts.accelerator_reason.clone(),
        cpu: facts.cpu.clone(),
        qemu_version: facts.version.clone(),
        efi: facts.efi.is_some(),
        secure_boot: facts.efi_secure.is_some(),
        kernel_version: computer.kernel,
        os_image: computer.os,
        architecture: computer.architecture,
        problems,
        notes,
    };
    let tool = Tool { program: facts.qemu_img.clone(), isolation };
    let volumes = Volumes::open(layout.clone(), tool, events.clone(), runtime)?;
    let context = Context {
        layout,
        facts,
        hierarchy,
        cpu_cap: settings.cpu_cap,
        migration_bandwidth: settings.migration_bandwidth,
        snapshot_bandwidth: settings.snapshot_bandwidth,
        volumes,
        events,
    };
    Ok((context, node))
}

/// Control groups of several state directories do not meet.
fn group_name(state: &Path) -> String {
    let id = uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_URL, state.as_os_str().as_encoded_bytes());
    format!("vmdeck-{}", &id.simple().to_string()[..12])
}

impl Host for LocalHost {
    fn node(&self) -> NodeFacts {
        self.facts.clone()
    }

    fn machines(&self) -> Vec<Observation> {
        let machines = self.machines.read();
        let mut all: Vec<_> = machines.values().map(|machine| machine.observe()).collect();
        all.retain(|observation| observation.state != MachineState::Absent);
        all.sort_by(|a, b| a.id.cmp(&b.id));
        all
    }

    fn observe(&self, id: &MachineId) -> Observation {
        self.machine(id).map_or_else(|| Observation::absent(id), |machine| machine.observe())
    }

    fn submit(&self, id: &MachineId, step: Step) -> Result<(), Denied> {
        if matches!(step, Step::Migrate { .. } | Step::Detach { .. }) && self.copies_of(id) {
            return Err(Denied {
                reason: "a snapshot of the machine is being taken: try again when it is done".into(),
            });
        }
        match self.machine(id) {
            Some(machine) => machine.submit(&self.context, step),
            None if matches!(step, Step::Start { .. }) => self.machine_or_new(id)?.submit(&self.context, step),
            None => Err(Denied { reason: "the machine is off".into() }),
        }
    }

    fn forget(&self, id: &MachineId) -> BoxFuture<'_, io::Result<()>> {
        let id = id.clone();
        Box::pin(async move {
            let Some(machine) = self.machine(&id) else { return Ok(()) };
            machine.forget().await?;
            self.machines.write().remove(&id);
            self.context.announce(&id);
            Ok(())
        })
    }

    fn subscribe(&self) -> broadcast::Receiver<HostEvent> {
        self.context.events.subscribe()
    }

    fn volume(&self, id: &VolumeId) -> Option<VolumeState> {
        self.context.volumes.state(id)
    }

    fn create_volume(&self, id: &VolumeId, request: VolumeRequest) {
        self.context.volumes.create(id, request);
    }

    fn resize_volume(&self, id: &VolumeId, bytes: u64) -> BoxFuture<'_, Result<(), String>> {
        let id = id.clone();
        Box::pin(async move { self.resize(&id, bytes).await })
    }

    fn delete_volume(&self, id: &VolumeId) -> BoxFuture<'_, Result<(), String>> {
        let id = id.clone();
        Box::pin(async move {
            self.end_copy(&id).await;
            self.context.volumes.delete(&id).await
        })
    }

    fn snapshot(&self, wanted: Vec<SnapshotOf>) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async move { self.take_snapshots(&wanted).await })
    }

    fn freeze(&self, id: &MachineId, timeout: Duration) -> BoxFuture<'_, Result<(), String>> {
        let machine = self.machine(id);
        Box::pin(async move { machine.ok_or(OFF)?.ask(|done| Command::Freeze { timeout, done }).await })
    }

    fn thaw(&self, id: &MachineId) -> BoxFuture<'_, Result<(), String>> {
        let machine = self.machine(id);
        Box::pin(async move { machine.ok_or(OFF)?.ask(|done| Command::Thaw { done: Some(done) }).await })
    }

    fn volumes(&self) -> Vec<VolumeId> {
        self.context.volumes.list()
    }

    fn serial(&self, id: &MachineId, history: usize) -> Option<SerialAttachment> {
        let machine = self.machine(id)?;
        let forgotten = machine.with(|shared| shared.forgotten);
        machine.console_if_open().filter(|_| !forgotten).map(|console| console.attach(history))
    }

    fn vnc_socket(&self, id: &MachineId) -> Option<PathBuf> {
        self.machine(id)?.with(|shared| Some(shared.run_dir.as_ref()?.join(VNC_SOCKET)))
    }
}
