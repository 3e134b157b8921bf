//! The task that owns a machine's QEMU process: starts it, watches it, changes it, ends it, tidies up.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::context::{Context, blocking};
use super::hotplug;
use super::launch::{self, Running};
use super::machine::{Beginning, Command, Machine};
use super::network_process::Network;
use super::process::{Process, describe_exit};
use super::qmp_message::{Event, guest_end};
use super::record::{self, Record, Stage, Stop};
use super::spec::MachineSpec;
use super::state::{Phase, end_reason};
use super::{EndReason, MachineState, Observation, Step, command_line};

/// The guest may have missed a press of the power button while it booted: it is pressed again.
const PRESS_AGAIN: Duration = Duration::from_secs(10);

/// How long QEMU may take to close its disks before it is killed.
const QUIT_TIMEOUT: Duration = Duration::from_secs(2);

/// The owner of a machine's process and record.
pub(super) struct Task {
    pub(super) context: Arc<Context>,
    pub(super) machine: Arc<Machine>,
    pub(super) queue: mpsc::UnboundedReceiver<Command>,
    pub(super) record: Record,
    /// When the guest's file systems are to be thawed.
    pub(super) thaw_at: Option<Instant>,
    /// The guest has ended so, and its disks are still being copied; when to look whether they are.
    pub(super) lingering: Option<(EndReason, Instant)>,
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
                // Accepted while the machine was on, and overtaken by its end. Whoever waits is told by the drop.
                Command::Step(_)
                | Command::Copy { .. }
                | Command::Freeze { .. }
                | Command::Frozen { .. }
                | Command::Thaw { .. }
                | Command::Thawed { .. } => {}
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
                    let gone = removed.is_ok();
                    if !gone {
                        // It can be tried again.
                        self.machine.shared.lock().forgotten = false;
                    }
                    let _ = done.send(removed);
                    if gone {
                        return;
                    }
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
        self.thaw_at = running.instance.frozen.map(|frozen| Instant::now() + left(frozen.until));
        self.show(&running);
        self.ask_agent(&running);
        let reason = self.supervise(&mut running).await;
        {
            let mut shared = self.machine.shared.lock();
            (shared.qmp, shared.forwarder) = (None, None);
        }
        if let Some(migration) = running.migration.take() {
            self.machine.hold_input(false);
            migration.abandon().await;
        }
        if let Some(network) = running.network.take() {
            network.stop().await;
        }
        launch::clean_up(running.instance.run_dir, running.instance.cgroups).await;
        let lingered = self.lingering.take().is_some();
        let stop = running.instance.stop.is_some() || self.machine.is_stopping() && !lingered;
        self.ended(end_reason(reason, stop)).await;
    }

    /// Tells where the guest is reached: monitor, ports, screen.
    pub(super) fn show_ways(&self, running: &Running) {
        self.machine.show_screen(Some(running.instance.run_dir.clone()));
        let mut shared = self.machine.shared.lock();
        shared.qmp = Some(running.qmp.clone());
        shared.forwarder = match &running.network {
            Some(network) => network.qmp().cloned(),
            // It lives in the machine's own QEMU.
            None => Some(running.qmp.clone()),
        };
        shared.network_dir = running.network.as_ref().map(|network| network.recorded.dir.clone());
        shared.address = running.instance.address;
        shared.run_dir = Some(running.instance.run_dir.clone());
    }

    /// Shows a running instance to everyone.
    pub(super) fn show(&self, running: &Running) {
        self.show_ways(running);
        let mut shared = self.machine.shared.lock();
        let observation = &mut shared.observation;
        observation.pid = Some(running.instance.pid);
        observation.devices = running.instance.devices.iter().map(record::InstanceDevice::attached).collect();
        observation.agent_connected = running.agent_connected;
        observation.frozen = running.instance.frozen.and_then(|frozen| frozen.since);
        observation.last_migration = running.instance.last_migration.clone();
        observation.qemu_version = running.instance.qemu_version.clone();
        observation.network_problem = running.network.as_ref().and_then(Network::problem);
        observation.not_migratable = running.instance.arguments.is_empty().then(|| {
            "it was started by an older vmdeck, which did not note what a migration needs: restart it once".to_owned()
        });
        let migrating = observation.migration.is_some();
        let (phase, state) = if shared.phase == Phase::Stopping || running.instance.stop.is_some() {
            (Phase::Stopping, MachineState::Stopping)
        } else if let Some(status) = &running.paused {
            (Phase::Paused, MachineState::Paused { status: status.clone() })
        } else {
            let phase = if migrating { Phase::Migrating } else { Phase::Running };
            (phase, MachineState::Running { since: running.instance.since })
        };
        shared.phase = phase;
        shared.observation.state = state;
        drop(shared);
        self.context.announce(&self.record.id);
    }

    /// Asks the guest agent what system the guest is, beside everything else.
    fn ask_agent(&self, running: &Running) {
        if !running.agent_connected {
            return;
        }
        let (context, machine, id) = (self.context.clone(), self.machine.clone(), self.record.id.clone());
        let (launch, run_dir) = (self.record.launch, running.instance.run_dir.clone());
        tokio::spawn(async move {
            match super::agent::os_info(&run_dir).await {
                Ok(told) => {
                    let mut shared = machine.shared.lock();
                    let news = shared.observation.launch == launch
                        && shared.phase != Phase::Ended
                        && shared.observation.guest_os != told;
                    if news {
                        shared.observation.guest_os = told;
                        drop(shared);
                        context.announce(&id);
                    }
                }
                Err(error) => tracing::debug!(machine = %id.0, %error, "the guest agent does not tell its system"),
            }
        });
    }

    /// Writes down and shows that the run is over.
    pub(super) async fn ended(&mut self, reason: EndReason) {
        let at = jiff::Timestamp::now();
        self.record.stage = Stage::Ended { reason: reason.clone(), at };
        self.save().await;
        self.machine.show_screen(None);
        {
            let mut shared = self.machine.shared.lock();
            shared.phase = Phase::Ended;
            (shared.run_dir, shared.network_dir) = (None, None);
            shared.observation = Observation {
                state: MachineState::Ended { reason, at },
                note: shared.observation.note.take(),
                launch: shared.observation.launch,
                ..Observation::absent(&self.record.id)
            };
        }
        self.context.announce(&self.record.id);
    }

    /// Writes the record.
    pub(super) async fn save(&self) {
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
    pub(super) async fn save_instance(&mut self, running: &Running) {
        self.record.stage = Stage::Running(Box::new(running.instance.clone()));
        self.save().await;
    }

    /// Returns when the process is gone, with why.
    async fn supervise(&mut self, running: &mut Running) -> EndReason {
        if !running.continued {
            power_cut(running).await;
            return EndReason::Requested;
        }
        let mut cut_at = running.instance.stop.as_ref().map(|stop| Instant::now() + left(stop.deadline));
        let mut press_at = cut_at.map(|_| Instant::now());
        loop {
            if self.lingering.is_some() {
                // The guest is off already; a cut would hit the copies only.
                (cut_at, press_at) = (None, None);
            }
            tokio::select! {
                status = running.process.ended() => {
                    if let Some((reason, _)) = &self.lingering {
                        return reason.clone();
                    }
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
                        if let Some(migration) = &mut running.migration {
                            migration.cancel(&running.qmp).await;
                        }
                        if running.instance.frozen.is_some() {
                            // A guest that cannot write cannot shut down.
                            self.thaw(running, None);
                        }
                        let deadline = Instant::now() + grace;
                        cut_at = Some(cut_at.map_or(deadline, |earlier| earlier.min(deadline)));
                        press_at = Some(Instant::now());
                        let deadline = jiff::Timestamp::now().checked_add(grace).unwrap_or(jiff::Timestamp::MAX);
                        running.instance.stop = Some(Stop { deadline });
                        self.save_instance(running).await;
                    }
                    Some(Command::Step(step)) => self.change(running, step).await,
                    Some(Command::Copy { copies, done }) => {
                        // Nobody may wait any more.
                        let _ = done.send(self.copy(running, &copies).await);
                    }
                    Some(Command::Freeze { timeout, done }) => self.freeze(running, timeout, done).await,
                    Some(Command::Frozen { outcome, done }) => self.frozen(running, outcome, done).await,
                    Some(Command::Thaw { done }) => self.thaw(running, done),
                    Some(Command::Thawed { outcome, done }) => self.thawed(running, outcome, done).await,
                    Some(Command::Forget(done)) => {
                        let busy = io::Error::new(io::ErrorKind::ResourceBusy, "the machine is still on");
                        let _ = done.send(Err(busy));
                    }
                    // The handle is gone with the whole host; the guest goes on.
                    None => std::future::pending::<()>().await,
                },
                () = Network::trouble(&mut running.network) => self.mend_network(running).await,
                () = at(running.migration.as_ref().map(|migration| migration.next_look)) => {
                    self.look_at_migration(running).await;
                }
                () = at(self.lingering.as_ref().map(|(_, next_look)| *next_look)) => {
                    if let Some(reason) = self.look_at_copies(running).await {
                        return reason;
                    }
                }
                () = at(self.thaw_at) => self.thaw(running, None),
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
                    self.lingering = Some((reason, Instant::now()));
                    let over = self.look_at_copies(running).await;
                    if over.is_some() {
                        self.lingering = None;
                    }
                    return over;
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
                if matches!(word, "finish-migrate" | "postmigrate") {
                    self.machine.hold_input(true);
                }
                // An end announces itself by its own event.
                if !matches!(word, "running" | "shutdown" | "guest-panicked" | "finish-migrate" | "postmigrate") {
                    running.paused = Some(word.to_owned());
                    self.show(running);
                }
            }
            Event::Resume if running.paused.take().is_some() => self.show(running),
            Event::PortChanged { id, open } if id == command_line::AGENT_PORT => {
                running.agent_connected = open;
                self.show(running);
                self.ask_agent(running);
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
            Step::Migrate { throttle } => self.migrate(running, throttle).await,
            Step::CancelMigration => {
                if let Some(migration) = &mut running.migration {
                    migration.cancel(&running.qmp).await;
                }
            }
            // Denied while it is on, or handled by the caller.
            Step::Start { .. } | Step::PowerButton { .. } | Step::Kill => {}
        }
    }

    /// The network's process has ended, or it is time for the next attempt to start it.
    async fn mend_network(&mut self, running: &mut Running) {
        let Some(network) = running.network.take() else { return };
        let network = network.mend(&self.context, &running.instance.cgroups).await;
        running.instance.network = Some(network.recorded.clone());
        running.network = Some(network);
        self.save_instance(running).await;
        self.show(running);
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

/// Time until a moment of the wall clock.
fn left(until: jiff::Timestamp) -> Duration {
    Duration::try_from(until.duration_since(jiff::Timestamp::now())).unwrap_or_default()
}

async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
