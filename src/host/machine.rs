//! One machine: a handle that anyone may look at, and one task that owns the QEMU process.
//!
//! ```text
//!                 Start                QEMU greets, record written, cont
//!   Absent ----------------> Starting ------------------------------------> Running <----> Paused
//!     ^                        |  |                                          |   |           |
//!     | forget                 |  | PowerButton, Kill                        |   |           |
//!     |                        |  +-----------------> Stopping <-------------+---|-----------+
//!     |                        | fails                   |    PowerButton, Kill |
//!     |                        v                         | process gone         | guest ends itself, crash
//!     +---------------------- Ended <--------------------+----------------------+
//!                               |  ^
//!                         Start |  | (Starting again, with the next launch number)
//! ```
//!
//! The handle's phase changes at once when a step is accepted (`state::admit`), the rest follows from the task.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::context::{Context, blocking};
use super::hotplug;
use super::launch::{self, Running};
use super::process::{Process, describe_exit};
use super::qmp::Qmp;
use super::qmp_message::{Event, guest_end};
use super::record::{self, Record, Stage, Stop};
use super::serial::Console;
use super::spec::{MachineId, MachineSpec};
use super::state::{Phase, StepKind, admit, end_reason};
use super::{Denied, EndReason, MachineState, Observation, Step, command_line};

/// The guest may have missed a press of the power button while it booted: it is pressed again.
const PRESS_AGAIN: Duration = Duration::from_secs(10);

/// How long QEMU may take to close its disks before it is killed.
const QUIT_TIMEOUT: Duration = Duration::from_secs(2);

/// A machine, seen from outside of its task.
pub(super) struct Machine {
    id: MachineId,
    shared: Mutex<Shared>,
    commands: mpsc::UnboundedSender<Command>,
    console: OnceLock<Arc<Console>>,
}

/// What the task tells everyone.
pub(super) struct Shared {
    pub(super) phase: Phase,
    pub(super) observation: Observation,
    /// The monitor while there is one.
    pub(super) qmp: Option<Qmp>,
    /// The guest's address while there is a guest with one.
    pub(super) address: Option<std::net::Ipv4Addr>,
    /// The launch directory while there is one.
    pub(super) run_dir: Option<PathBuf>,
    /// Being removed: nothing is accepted any more.
    pub(super) forgotten: bool,
}

/// What the task can be told.
pub(super) enum Command {
    Step(Step),
    Forget(oneshot::Sender<io::Result<()>>),
}

/// How a machine's task begins.
pub(super) enum Beginning {
    /// Nothing runs.
    Off,
    /// This QEMU of an earlier daemon.
    Adopted(Box<Running>),
}

impl Machine {
    /// A machine as its record says; its task must be spawned by the caller.
    pub(super) fn new(context: &Arc<Context>, record: Record) -> (Arc<Self>, Task) {
        let (commands, queue) = mpsc::unbounded_channel();
        let state = match &record.stage {
            Stage::Ended { reason, at } => MachineState::Ended { reason: reason.clone(), at: *at },
            Stage::Starting | Stage::Running(_) => MachineState::Absent,
        };
        let phase = if matches!(state, MachineState::Ended { .. }) { Phase::Ended } else { Phase::Absent };
        let observation = Observation { state, note: record.note.clone(), launch: record.launch, ..absent(&record.id) };
        let shared = Shared { phase, observation, qmp: None, address: None, run_dir: None, forgotten: false };
        let machine =
            Arc::new(Self { id: record.id.clone(), shared: Mutex::new(shared), commands, console: OnceLock::new() });
        let task = Task { context: context.clone(), machine: machine.clone(), queue, record };
        (machine, task)
    }

    /// What it looks like now.
    pub(super) fn observe(&self) -> Observation {
        self.shared.lock().observation.clone()
    }

    /// Looks at more than the observation.
    pub(super) fn with<T>(&self, look: impl FnOnce(&Shared) -> T) -> T {
        look(&self.shared.lock())
    }

    /// A stop has been asked for.
    pub(super) fn is_stopping(&self) -> bool {
        self.shared.lock().phase == Phase::Stopping
    }

    /// The console. Opened by [`Machine::open_console`] before anything runs.
    pub(super) fn console(&self) -> &Console {
        #[expect(clippy::expect_used, reason = "every path that makes a machine opens its console first")]
        self.console.get().expect("the console is open")
    }

    /// The console, if it is open.
    pub(super) fn console_if_open(&self) -> Option<&Arc<Console>> {
        self.console.get()
    }

    /// Reads the console's history and starts its broker. Reads files.
    pub(super) fn open_console(&self, context: &Context, runtime: &tokio::runtime::Handle) -> io::Result<()> {
        if self.console.get().is_none() {
            let console = Console::open(&context.layout.machine(&self.id), runtime)?;
            // Somebody else may have been faster; both have read the same.
            let _ = self.console.set(console);
        }
        Ok(())
    }

    /// Accepts a step or says why not. See [`super::Host::submit`].
    pub(super) fn submit(&self, context: &Context, step: Step) -> Result<(), Denied> {
        let mut shared = self.shared.lock();
        if shared.forgotten {
            return Err(Denied { reason: "the machine is being removed".into() });
        }
        let phase = admit(shared.phase, StepKind::of(&step))?;
        let changed = phase != shared.phase;
        shared.phase = phase;
        match &step {
            Step::Start { note, .. } => {
                let launch = shared.observation.launch + 1;
                let state = MachineState::Starting;
                shared.observation = Observation { state, note: Some(note.clone()), launch, ..absent(&self.id) };
            }
            Step::Note(note) => shared.observation.note = Some(note.clone()),
            Step::PowerButton { .. } | Step::Kill => shared.observation.state = MachineState::Stopping,
            Step::Attach(_) | Step::Detach { .. } => {}
        }
        // The task ends only after `forgotten` is set.
        let _ = self.commands.send(Command::Step(step));
        drop(shared);
        if changed {
            context.announce(&self.id);
        }
        Ok(())
    }

    /// Removes every trace. See [`super::Host::forget`].
    pub(super) async fn forget(&self) -> io::Result<()> {
        let (done, finished) = oneshot::channel();
        {
            let mut shared = self.shared.lock();
            if !matches!(shared.phase, Phase::Absent | Phase::Ended) {
                return Err(io::Error::new(io::ErrorKind::ResourceBusy, "the machine is still on"));
            }
            shared.forgotten = true;
            let _ = self.commands.send(Command::Forget(done));
        }
        finished.await.unwrap_or(Ok(()))
    }
}

/// An observation of nothing.
pub(super) fn absent(id: &MachineId) -> Observation {
    Observation {
        id: id.clone(),
        state: MachineState::Absent,
        note: None,
        launch: 0,
        pid: None,
        devices: Vec::new(),
        agent_connected: false,
        device_errors: Vec::new(),
    }
}

/// The owner of a machine's process and record.
pub(super) struct Task {
    pub(super) context: Arc<Context>,
    pub(super) machine: Arc<Machine>,
    queue: mpsc::UnboundedReceiver<Command>,
    pub(super) record: Record,
}

impl Task {
    /// Runs until the machine is forgotten.
    pub(super) async fn run(mut self, beginning: Beginning) {
        if let Beginning::Adopted(running) = beginning {
            self.live(*running).await;
        }
        while let Some(command) = self.queue.recv().await {
            match command {
                Command::Step(Step::Start { spec, note }) => self.start(&spec, note).await,
                // Accepted while the machine was on, and overtaken by its end.
                Command::Step(_) => {}
                Command::Forget(done) => {
                    if let Some(console) = self.machine.console_if_open() {
                        console.close();
                    }
                    let dir = self.context.layout.machine(&self.record.id);
                    let removed = blocking(move || match std::fs::remove_dir_all(dir) {
                        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                        _ => Ok(()),
                    })
                    .await;
                    let _ = done.send(removed);
                    return;
                }
            }
        }
    }

    async fn start(&mut self, spec: &MachineSpec, note: String) {
        self.record.launch += 1;
        self.record.note = Some(note);
        self.record.stage = Stage::Starting;
        let run_dir = self.context.layout.run(&self.record.id, self.record.launch);
        let (context, machine) = (self.context.clone(), self.machine.clone());
        match launch::launch(&context, &machine, &mut self.record, spec).await {
            Ok(running) => self.live(running).await,
            Err(detail) => {
                launch::clean_up(run_dir, Vec::new()).await;
                self.ended(EndReason::StartFailed { detail }).await;
            }
        }
    }

    /// Watches a QEMU until it is gone, then tidies up.
    async fn live(&mut self, mut running: Running) {
        self.show(&running);
        let reason = self.supervise(&mut running).await;
        self.machine.shared.lock().qmp = None;
        launch::clean_up(running.instance.run_dir, running.instance.cgroups).await;
        self.ended(end_reason(reason, running.instance.stop.is_some() || self.machine.is_stopping())).await;
    }

    /// Shows a running instance to everyone.
    pub(super) fn show(&self, running: &Running) {
        let mut shared = self.machine.shared.lock();
        shared.qmp = Some(running.qmp.clone());
        shared.address = running.instance.address;
        shared.run_dir = Some(running.instance.run_dir.clone());
        let observation = &mut shared.observation;
        observation.pid = Some(running.instance.pid);
        observation.devices = running.instance.devices.iter().map(record::InstanceDevice::attached).collect();
        observation.agent_connected = running.agent_connected;
        let (phase, state) = if shared.phase == Phase::Stopping || running.instance.stop.is_some() {
            (Phase::Stopping, MachineState::Stopping)
        } else if let Some(status) = &running.paused {
            (Phase::Paused, MachineState::Paused { status: status.clone() })
        } else {
            (Phase::Running, MachineState::Running { since: running.instance.since })
        };
        shared.phase = phase;
        shared.observation.state = state;
        drop(shared);
        self.context.announce(&self.record.id);
    }

    /// Writes down and shows that the run is over.
    pub(super) async fn ended(&mut self, reason: EndReason) {
        let at = jiff::Timestamp::now();
        self.record.stage = Stage::Ended { reason: reason.clone(), at };
        self.save().await;
        {
            let mut shared = self.machine.shared.lock();
            shared.phase = Phase::Ended;
            shared.run_dir = None;
            shared.observation = Observation {
                state: MachineState::Ended { reason, at },
                note: shared.observation.note.take(),
                launch: shared.observation.launch,
                ..absent(&self.record.id)
            };
        }
        self.context.announce(&self.record.id);
    }

    /// Writes the record.
    async fn save(&self) {
        let (dir, record) = (self.context.layout.machine(&self.record.id), self.record.clone());
        let written = blocking(move || {
            super::layout::make_dir(&dir)?;
            record::write(&dir, &record)
        });
        if let Err(error) = written.await {
            tracing::error!(machine = %self.record.id.0, %error, "cannot write the machine's record");
        }
    }

    /// Writes what has changed about the running instance.
    async fn save_instance(&mut self, running: &Running) {
        self.record.stage = Stage::Running(running.instance.clone());
        self.save().await;
    }

    /// Returns when the process is gone, with why.
    async fn supervise(&mut self, running: &mut Running) -> EndReason {
        if !running.continued {
            power_cut(running).await;
            return EndReason::Requested;
        }
        let now = jiff::Timestamp::now();
        let mut cut_at = running
            .instance
            .stop
            .as_ref()
            .map(|stop| Instant::now() + Duration::try_from(stop.deadline.duration_since(now)).unwrap_or_default());
        let mut press_at = cut_at.map(|_| Instant::now());
        loop {
            tokio::select! {
                status = running.process.ended() => {
                    let detail = describe_exit(status);
                    return EndReason::Crashed { detail: launch::failure_text(&running.instance.run_dir, &detail).await };
                }
                event = running.events.recv() => match event {
                    Some(event) => if let Some(reason) = self.heard(running, event).await {
                        return reason;
                    },
                    None => if let Some(reason) = self.monitor_lost(running).await {
                        return reason;
                    },
                },
                command = self.queue.recv() => match command {
                    Some(Command::Step(Step::Kill)) => {
                        self.machine.shared.lock().phase = Phase::Stopping;
                        power_cut(running).await;
                        return EndReason::Requested;
                    }
                    Some(Command::Step(Step::PowerButton { grace })) => {
                        let deadline = Instant::now() + grace;
                        cut_at = Some(cut_at.map_or(deadline, |earlier| earlier.min(deadline)));
                        press_at = Some(Instant::now());
                        let deadline = jiff::Timestamp::now().checked_add(grace).unwrap_or(jiff::Timestamp::MAX);
                        running.instance.stop = Some(Stop { deadline });
                        self.save_instance(running).await;
                    }
                    Some(Command::Step(step)) => self.change(running, step).await,
                    Some(Command::Forget(done)) => {
                        let busy = io::Error::new(io::ErrorKind::ResourceBusy, "the machine is still on");
                        let _ = done.send(Err(busy));
                    }
                    // The handle is gone with the whole host; the guest goes on.
                    None => std::future::pending::<()>().await,
                },
                () = at(press_at) => {
                    press_at = Some(Instant::now() + PRESS_AGAIN);
                    if let Err(error) = running.qmp.execute("system_powerdown", Value::Null).await {
                        tracing::warn!(machine = %self.record.id.0, %error, "cannot press the power button");
                    }
                }
                () = at(cut_at) => {
                    power_cut(running).await;
                    return EndReason::Requested;
                }
            }
        }
    }

    /// Acts on an event; gives the reason when the run is over (then the process is gone).
    async fn heard(&mut self, running: &mut Running, event: Event) -> Option<EndReason> {
        match event {
            Event::Shutdown { reason } => {
                if let Some(reason) = guest_end(&reason) {
                    power_cut(running).await;
                    return Some(reason);
                }
                // `host-signal`, `host-qmp-quit`: somebody else ends it; the process will be gone in a moment.
                let detail = format!("QEMU was told to quit from outside ({reason})");
                if tokio::time::timeout(QUIT_TIMEOUT, running.process.ended()).await.is_err() {
                    power_cut(running).await;
                }
                return Some(EndReason::Crashed { detail });
            }
            Event::GuestPanicked => {
                power_cut(running).await;
                return Some(EndReason::GuestPanic);
            }
            Event::Stop => {
                let status = running.qmp.execute("query-status", Value::Null).await.unwrap_or_default();
                let word = status.get("status").and_then(Value::as_str).unwrap_or("paused");
                // An end announces itself by its own event.
                if !matches!(word, "running" | "shutdown" | "guest-panicked") {
                    running.paused = Some(word.to_owned());
                    self.show(running);
                }
            }
            Event::Resume if running.paused.take().is_some() => self.show(running),
            Event::PortChanged { id, open } if id == command_line::AGENT_PORT => {
                running.agent_connected = open;
                self.show(running);
            }
            Event::DeviceDeleted { device } => {
                if hotplug::deleted(running, &device).await {
                    self.save_instance(running).await;
                    self.clear_device_error(running, &device);
                }
            }
            Event::DeviceUnplugRefused { device } => {
                if let Some(id) = hotplug::owner(running, &device) {
                    self.device_error(&id, "the guest refused to let the device go");
                }
            }
            Event::Resume | Event::PortChanged { .. } | Event::Other(_) => {}
        }
        None
    }

    /// Does what needs no end of the run.
    async fn change(&mut self, running: &mut Running, step: Step) {
        match step {
            Step::Attach(device) => match hotplug::attach(&self.context, running, &device).await {
                Ok(()) => {
                    self.save_instance(running).await;
                    self.clear_device_error(running, &command_line::device_id(&device.id));
                }
                Err(error) => self.device_error(&device.id, &error),
            },
            Step::Detach { id } => match hotplug::detach(running, &id).await {
                Ok(hotplug::Detached::Gone) => {
                    self.save_instance(running).await;
                    self.clear_device_error(running, &command_line::device_id(&id));
                }
                Ok(hotplug::Detached::Asked) => {}
                Err(error) => self.device_error(&id, &error),
            },
            Step::Note(note) => {
                self.record.note = Some(note);
                self.save_instance(running).await;
                self.context.announce(&self.record.id);
            }
            // Denied while it is on, or handled by the caller.
            Step::Start { .. } | Step::PowerButton { .. } | Step::Kill => {}
        }
    }

    fn device_error(&self, id: &str, error: &str) {
        {
            let mut shared = self.machine.shared.lock();
            let errors = &mut shared.observation.device_errors;
            errors.retain(|(device, _)| device != id);
            errors.push((id.to_owned(), error.to_owned()));
        }
        self.context.announce(&self.record.id);
    }

    /// After a success: the device's error goes and the new list of devices is shown.
    fn clear_device_error(&self, running: &Running, device: &str) {
        self.machine.shared.lock().observation.device_errors.retain(|(id, _)| command_line::device_id(id) != device);
        self.show(running);
    }

    /// The monitor's connection ended: mostly because the process does, too.
    async fn monitor_lost(&mut self, running: &mut Running) -> Option<EndReason> {
        if let Ok(status) = tokio::time::timeout(QUIT_TIMEOUT, running.process.ended()).await {
            let detail = launch::failure_text(&running.instance.run_dir, &describe_exit(status)).await;
            return Some(EndReason::Crashed { detail });
        }
        match super::adopt::reconnect(running).await {
            Ok(super::adopt::Found::Alive) => {
                self.show(running);
                None
            }
            Ok(super::adopt::Found::Over(reason)) => {
                power_cut(running).await;
                Some(reason)
            }
            Ok(super::adopt::Found::Other) => {
                Some(EndReason::Crashed { detail: "another QEMU answers in its place".into() })
            }
            Err(error) => {
                tracing::error!(machine = %self.record.id.0, %error, "the monitor is lost");
                running.paused = Some("unreachable".into());
                self.show(running);
                // Without a monitor only the process itself can be watched; try again after a while.
                let ended = tokio::time::timeout(PRESS_AGAIN, running.process.ended()).await;
                ended.ok().map(|status| EndReason::Crashed { detail: describe_exit(status) })
            }
        }
    }
}

/// Ends the process: QEMU closes its disks and quits; if it does not, it is killed.
pub(super) async fn power_cut(running: &mut Running) {
    let quit = running.qmp.execute("quit", Value::Null);
    let ended = async {
        // The answer may be lost with the process.
        let _ = quit.await;
        running.process.ended().await;
    };
    if tokio::time::timeout(QUIT_TIMEOUT, ended).await.is_err() {
        kill(&mut running.process).await;
    }
}

async fn kill(process: &mut Process) {
    process.kill();
    process.ended().await;
}

async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
