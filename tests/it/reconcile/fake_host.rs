//! A host without QEMU: keeps the contract of `Host`, does what the test says.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::broadcast;
use vmdeck::host::{
    AttachedDevice, CpuFacts, Denied, EndReason, Host, HostEvent, MachineId, MachineSpec, MachineState, Migration,
    MigrationOutcome, MigrationStage, NodeFacts, Observation, SerialAttachment, SnapshotOf, Step, VolumeId, VolumeInfo,
    VolumeRequest, VolumeSource, VolumeState,
};

#[derive(Default)]
struct Inner {
    machines: BTreeMap<MachineId, Observation>,
    specs: HashMap<MachineId, MachineSpec>,
    volumes: BTreeMap<VolumeId, VolumeState>,
    requests: HashMap<VolumeId, VolumeRequest>,
    steps: Vec<String>,
    fail_starts: Option<String>,
    fail_freezes: Option<String>,
    fail_snapshots: Option<String>,
    hold_snapshots: bool,
    hold_copies: bool,
    deaf_guests: bool,
    stubborn: bool,
}

/// See the module.
pub struct FakeHost {
    inner: Mutex<Inner>,
    events: broadcast::Sender<HostEvent>,
}

impl FakeHost {
    pub fn new() -> Arc<Self> {
        Arc::new(Self { inner: Mutex::default(), events: broadcast::channel(1024).0 })
    }

    /// Steps so far, as words: `start`, `button`, `kill`, `attach ID`, `detach ID`, `note`.
    pub fn steps(&self) -> Vec<String> {
        self.inner.lock().steps.clone()
    }

    /// The specification of the last start.
    pub fn spec(&self, uid: &str) -> MachineSpec {
        self.inner.lock().specs[&MachineId(uid.into())].clone()
    }

    /// The instance ends by itself.
    pub fn end(&self, uid: &str, reason: EndReason) {
        self.set(uid, MachineState::Ended { reason, at: jiff::Timestamp::now() });
    }

    /// Starts fail from now on, or no longer.
    pub fn fail_starts(&self, detail: Option<&str>) {
        self.inner.lock().fail_starts = detail.map(str::to_owned);
    }

    /// The agent's port opens or closes in the guest.
    pub fn agent(&self, uid: &str, connected: bool) {
        let id = MachineId(uid.into());
        if let Some(m) = self.inner.lock().machines.get_mut(&id) {
            m.agent_connected = connected;
        }
        self.announce(HostEvent::Machine(id));
    }

    /// Agents refuse to freeze from now on.
    pub fn fail_freezes(&self, detail: &str) {
        self.inner.lock().fail_freezes = Some(detail.to_owned());
    }

    /// Snapshots fail from now on.
    pub fn fail_snapshots(&self, detail: &str) {
        self.inner.lock().fail_snapshots = Some(detail.to_owned());
    }

    /// The copying of disks takes until [`FakeHost::set_volume`].
    pub fn hold_snapshots(&self) {
        self.inner.lock().hold_snapshots = true;
    }

    /// What is made from another volume takes until [`FakeHost::set_volume`], from now on or no longer.
    pub fn hold_copies(&self, hold: bool) {
        self.inner.lock().hold_copies = hold;
    }

    /// Guests ignore the power button from now on.
    pub fn deaf_guests(&self) {
        self.inner.lock().deaf_guests = true;
    }

    /// What was last asked for under this id.
    pub fn request(&self, id: &VolumeId) -> VolumeRequest {
        self.inner.lock().requests[id].clone()
    }

    /// The instance cannot be migrated from now on.
    pub fn pin(&self, uid: &str, why: &str) {
        let id = MachineId(uid.into());
        if let Some(m) = self.inner.lock().machines.get_mut(&id) {
            m.not_migratable = Some(why.into());
        }
        self.announce(HostEvent::Machine(id));
    }

    /// Devices are not let go and migrations do not begin, or do so again.
    pub fn stubborn(&self, yes: bool) {
        self.inner.lock().stubborn = yes;
    }

    /// A volume's state changes.
    pub fn set_volume(&self, id: VolumeId, state: VolumeState) {
        self.inner.lock().volumes.insert(id.clone(), state);
        self.announce(HostEvent::Volume(id));
    }

    fn set(&self, uid: &str, state: MachineState) {
        let id = MachineId(uid.into());
        if let Some(m) = self.inner.lock().machines.get_mut(&id) {
            if matches!(state, MachineState::Ended { .. }) {
                m.devices.clear();
                m.pid = None;
            }
            m.state = state;
        }
        self.announce(HostEvent::Machine(id));
    }

    fn announce(&self, event: HostEvent) {
        let _ = self.events.send(event);
    }
}

fn migration(m: &Observation, since: jiff::Timestamp) -> Migration {
    Migration {
        number: m.last_migration.as_ref().map_or(0, |end| end.number) + 1,
        since,
        stage: MigrationStage::Copying,
        processed: 256 << 20,
        remaining: 256 << 20,
        total: 512 << 20,
        rate: 64 << 20,
        throttle: 0,
    }
}

fn ready(size: u64) -> VolumeState {
    VolumeState::Ready(VolumeInfo { virtual_size: size, stored_size: 4096, format: "qcow2".into(), cdrom: false })
}

impl Host for FakeHost {
    fn node(&self) -> NodeFacts {
        NodeFacts {
            name: "node".into(),
            cpus: 4,
            memory_bytes: 8 << 30,
            accelerator: "tcg".into(),
            accelerator_reason: "a fake".into(),
            cpu: Arc::new(CpuFacts {
                models: [("Nehalem".to_owned(), vec![])].into(),
                features: vec!["aes".into(), "avx".into()],
            }),
            qemu_version: Some("9.9.9".into()),
            efi: true,
            secure_boot: true,
            kernel_version: "6".into(),
            os_image: "Test".into(),
            architecture: "amd64".into(),
            problems: vec![],
            notes: vec![],
        }
    }

    fn machines(&self) -> Vec<Observation> {
        self.inner.lock().machines.values().cloned().collect()
    }

    fn observe(&self, id: &MachineId) -> Observation {
        self.inner.lock().machines.get(id).cloned().unwrap_or_else(|| Observation::absent(id))
    }

    fn submit(&self, id: &MachineId, step: Step) -> Result<(), Denied> {
        let mut inner = self.inner.lock();
        let word = match &step {
            Step::Start { .. } => "start".to_owned(),
            Step::PowerButton { .. } => "button".to_owned(),
            Step::Kill => "kill".to_owned(),
            Step::Attach(d) => format!("attach {}", d.id),
            Step::Detach { id } => format!("detach {id}"),
            Step::Note(_) => "note".to_owned(),
            Step::Migrate { throttle } => format!("migrate{}", if *throttle { " with throttling" } else { "" }),
            Step::CancelMigration => "cancel migration".to_owned(),
        };
        inner.steps.push(word);
        let mut m = inner.machines.get(id).cloned().unwrap_or_else(|| Observation::absent(id));
        let up = !matches!(m.state, MachineState::Absent | MachineState::Ended { .. });
        let at = jiff::Timestamp::now();
        let ended = |reason| MachineState::Ended { reason, at };
        match step {
            Step::Start { .. } if up => return Err(Denied { reason: "it runs".into() }),
            Step::Start { spec, note } => {
                m.launch += 1;
                m.note = Some(note);
                m.device_errors.clear();
                match inner.fail_starts.clone() {
                    Some(detail) => m.state = ended(EndReason::StartFailed { detail }),
                    None => {
                        m.state = MachineState::Running { since: at };
                        m.pid = Some(4242);
                        m.devices = spec
                            .devices
                            .iter()
                            .map(|d| AttachedDevice { id: d.id.clone(), volume: d.volume.clone(), hotplugged: false })
                            .collect();
                    }
                }
                inner.specs.insert(id.clone(), *spec);
            }
            _ if !up => return Err(Denied { reason: "it does not run".into() }),
            Step::PowerButton { .. } if inner.deaf_guests => m.state = MachineState::Stopping,
            Step::PowerButton { .. } | Step::Kill => {
                m.state = ended(EndReason::Requested);
                m.devices.clear();
            }
            Step::Attach(d) => m.devices.push(AttachedDevice { id: d.id, volume: d.volume, hotplugged: true }),
            Step::Detach { .. } if inner.stubborn => {}
            Step::Detach { id } => m.devices.retain(|d| d.id != id),
            Step::Note(note) => m.note = Some(note),
            Step::Migrate { .. } if inner.stubborn => {}
            Step::Migrate { .. } => m.migration = Some(migration(&m, at)),
            Step::CancelMigration => {
                m.last_migration = m.migration.take().map(|going| going.ended(MigrationOutcome::Cancelled));
            }
        }
        inner.machines.insert(id.clone(), m);
        drop(inner);
        self.announce(HostEvent::Machine(id.clone()));
        Ok(())
    }

    fn forget(&self, id: &MachineId) -> BoxFuture<'_, std::io::Result<()>> {
        self.inner.lock().machines.remove(id);
        Box::pin(std::future::ready(Ok(())))
    }

    fn subscribe(&self) -> broadcast::Receiver<HostEvent> {
        self.events.subscribe()
    }

    fn volume(&self, id: &VolumeId) -> Option<VolumeState> {
        self.inner.lock().volumes.get(id).cloned()
    }

    fn create_volume(&self, id: &VolumeId, request: VolumeRequest) {
        let mut inner = self.inner.lock();
        if inner.volumes.get(id).is_some_and(|state| !matches!(state, VolumeState::Failed { .. })) {
            return;
        }
        inner.requests.insert(id.clone(), request.clone());
        let state = match &request.source {
            VolumeSource::Upload => VolumeState::WaitingForUpload { token: format!("token-{}", id.uid) },
            VolumeSource::Volume(_) if inner.hold_copies => {
                VolumeState::Working { progress: Some(1), bytes_per_second: None }
            }
            VolumeSource::Http { .. } | VolumeSource::Registry { .. } => {
                VolumeState::Working { progress: Some(0), bytes_per_second: None }
            }
            VolumeSource::Blank | VolumeSource::Volume(_) | VolumeSource::Running { .. } => {
                ready(request.size.unwrap_or(1 << 30))
            }
        };
        inner.volumes.insert(id.clone(), state);
        drop(inner);
        self.announce(HostEvent::Volume(id.clone()));
    }

    fn resize_volume(&self, id: &VolumeId, bytes: u64) -> BoxFuture<'_, Result<(), String>> {
        self.set_volume(id.clone(), ready(bytes));
        Box::pin(std::future::ready(Ok(())))
    }

    fn delete_volume(&self, id: &VolumeId) -> BoxFuture<'_, Result<(), String>> {
        self.inner.lock().volumes.remove(id);
        self.announce(HostEvent::Volume(id.clone()));
        Box::pin(std::future::ready(Ok(())))
    }

    fn snapshot(&self, wanted: Vec<SnapshotOf>) -> BoxFuture<'_, Result<(), String>> {
        let mut inner = self.inner.lock();
        inner.steps.push(format!("snapshot of {}", wanted.len()));
        if let Some(detail) = inner.fail_snapshots.clone() {
            return Box::pin(std::future::ready(Err(detail)));
        }
        for one in &wanted {
            let state = match (inner.hold_snapshots, inner.volumes.get(&one.disk)) {
                (true, _) => VolumeState::Working { progress: Some(7), bytes_per_second: None },
                (false, Some(disk)) => disk.clone(),
                (false, None) => return Box::pin(std::future::ready(Err("there is no such disk".into()))),
            };
            inner.volumes.insert(one.snapshot.clone(), state);
        }
        drop(inner);
        wanted.into_iter().for_each(|one| self.announce(HostEvent::Volume(one.snapshot)));
        Box::pin(std::future::ready(Ok(())))
    }

    fn freeze(&self, id: &MachineId, _: Duration) -> BoxFuture<'_, Result<(), String>> {
        let mut inner = self.inner.lock();
        inner.steps.push("freeze".into());
        let result = inner.fail_freezes.clone().map_or(Ok(()), Err);
        if let (Ok(()), Some(m)) = (&result, inner.machines.get_mut(id)) {
            m.frozen = Some(jiff::Timestamp::now());
        }
        drop(inner);
        self.announce(HostEvent::Machine(id.clone()));
        Box::pin(std::future::ready(result))
    }

    fn thaw(&self, id: &MachineId) -> BoxFuture<'_, Result<(), String>> {
        let mut inner = self.inner.lock();
        inner.steps.push("thaw".into());
        if let Some(m) = inner.machines.get_mut(id) {
            m.frozen = None;
        }
        drop(inner);
        self.announce(HostEvent::Machine(id.clone()));
        Box::pin(std::future::ready(Ok(())))
    }

    fn volumes(&self) -> Vec<VolumeId> {
        self.inner.lock().volumes.keys().cloned().collect()
    }

    fn serial(&self, _: &MachineId, _: usize) -> Option<SerialAttachment> {
        None
    }

    fn vnc_socket(&self, _: &MachineId) -> Option<std::path::PathBuf> {
        None
    }
}
