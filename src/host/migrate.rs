//! Live migration: the running guest moves into a fresh QEMU process on this computer.
//!
//! ```text
//!   begin: launch directory, QEMU with the same arguments and `-incoming defer`, hot-plugged devices,
//!          record names it as target, migrate-incoming there, migrate here
//!   look:  query-migrate here until it has completed *and* the guest executes there; then the task swaps the two
//! ```
//!
//! Until the swap nothing is lost whatever fails: the guest goes on here, the target is killed. The record holds the
//! target from before the first byte is sent, so that a later daemon finds the guest wherever it is ([`settle`]).

use std::ffi::OsString;
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::context::{Context, blocking, connect_in};
use super::hotplug;
use super::launch::{self, GREETING_TIMEOUT, QMP_SOCKET, Running, SERIAL_SOCKET};
use super::network_process;
use super::process::{Process, Spawn, describe_exit};
use super::qmp::Qmp;
use super::qmp_message::Event;
use super::record::{Instance, Record};
use super::{Migration, MigrationEnd, MigrationOutcome, MigrationStage, command_line};

/// Pause between looks: QEMU has no event for progress.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Pause between showing numbers: every one of them wakes those who watch the machine.
const SHOW_AGAIN: Duration = Duration::from_millis(500);

/// Downtime aimed at, in milliseconds.
const DOWNTIME_LIMIT: u64 = 100;

/// How long a migration may take for each GiB of memory (upstream.md 7.5).
const SECONDS_PER_GIB: u64 = 800;

/// How long the guest may take to execute in the target once all has been sent.
const RESUME_TIMEOUT: Duration = Duration::from_secs(30);

/// Name of the socket between the two, in the target's launch directory.
const SOCKET: &str = "migration";

/// The QEMU that is to take over.
struct Target {
    process: Process,
    qmp: Qmp,
    events: mpsc::UnboundedReceiver<Event>,
    serial: UnixStream,
    instance: Instance,
}

/// A migration under way, seen from the QEMU that has the guest.
pub(super) struct Outgoing {
    target: Target,
    /// When to look next.
    pub(super) next_look: Instant,
    deadline: Instant,
    /// All has been sent; since then.
    sent: Option<Instant>,
    cancelled: bool,
    /// Bytes per second; 0 for as fast as it goes.
    bandwidth: u64,
    /// What to show.
    pub(super) view: Migration,
    shown: Instant,
}

/// What a look came to.
pub(super) enum Look {
    /// It goes on.
    Going,
    /// The guest executes in the target.
    Moved {
        /// Milliseconds for which it was held.
        downtime_ms: u64,
    },
    /// It is over and the guest is still here.
    Over(MigrationOutcome),
}

/// Starts the target; nothing is sent before [`Outgoing::send`].
pub(super) async fn begin(
    context: &Context,
    record: &Record,
    running: &Running,
    view: Migration,
) -> Result<Outgoing, String> {
    let qemu = context.facts.qemu.clone().ok_or("QEMU was not found; install the package qemu-system-x86")?;
    let source = running.instance.clone();
    let run_dir = context.layout.target(&record.id, record.launch, view.number);
    let machine_dir = context.layout.machine(&record.id);
    let (sockets, log) = {
        let (layout, machine_dir, run_dir, source) =
            (context.layout.clone(), machine_dir, run_dir.clone(), source.run_dir.clone());
        let prepare = move || {
            launch::make_directories(&layout, &machine_dir, &run_dir)?;
            let seed = source.join(command_line::SEED_FILE);
            if seed.exists() {
                // The same file, not a copy: what the guest has of it must not change.
                std::fs::hard_link(seed, run_dir.join(command_line::SEED_FILE))?;
            }
            Ok((launch::listen(&run_dir)?, launch::append(&run_dir.join(launch::LOG))?))
        };
        blocking(prepare).await.map_err(|error| format!("cannot prepare the target: {error}"))?
    };
    let [qmp, rescue, serial, agent] = sockets.each_ref().map(AsRawFd::as_raw_fd);
    let frames = source.network.as_ref().and_then(|network| network_process::frames(&network.dir, context));
    let arguments = target_arguments(
        &source.arguments,
        &[("qmp", qmp), ("rescue", rescue), ("serial0", serial), ("agent", agent)],
        frames.as_ref(),
    );
    let spawn = Spawn { program: qemu.clone(), arguments, directory: run_dir.clone(), log, fds: sockets.into() };
    let mut process = Process::spawn(spawn, context.layout.isolation.clone())
        .await
        .map_err(|error| format!("cannot run {}: {error}", qemu.display()))?;
    let instance = Instance {
        pid: process.pid(),
        start_time: process.start_time(),
        run_dir: run_dir.clone(),
        qemu_version: context.facts.version.clone(),
        // What there will be to tell if the guest is found there.
        last_migration: Some(view.ended(MigrationOutcome::Succeeded { downtime_ms: 0 })),
        target: None,
        ..source
    };
    match connect(context, &mut process, &instance).await {
        Ok((qmp, events, serial)) => {
            let memory = Duration::from_secs(SECONDS_PER_GIB * view.total.div_ceil(1 << 30).max(1));
            let now = Instant::now();
            let target = Target { process, qmp, events, serial, instance };
            let bandwidth = context.migration_bandwidth.unwrap_or(0);
            Ok(Outgoing {
                target,
                next_look: now,
                deadline: now + memory,
                sent: None,
                cancelled: false,
                bandwidth,
                view,
                shown: now,
            })
        }
        Err(error) => {
            process.kill();
            process.ended().await;
            launch::clean_up(run_dir, Vec::new()).await;
            Err(error)
        }
    }
}

type Connected = (Qmp, mpsc::UnboundedReceiver<Event>, UnixStream);

/// Connects to the fresh QEMU and gives it what was hot-plugged since the start.
async fn connect(context: &Context, process: &mut Process, instance: &Instance) -> Result<Connected, String> {
    let run_dir = &instance.run_dir;
    for group in instance.cgroups.clone() {
        let pid = instance.pid;
        let joined = blocking(move || std::fs::write(group.join("cgroup.procs"), pid.to_string())).await;
        if let Err(error) = joined {
            tracing::warn!(pid, %error, "the CPU share of the migration's target is not enforced");
        }
    }
    let connecting = async {
        let text = |error: std::io::Error| error.to_string();
        let stream = connect_in(run_dir, QMP_SOCKET).await.map_err(text)?;
        let serial = connect_in(run_dir, SERIAL_SOCKET).await.map_err(text)?;
        let (qmp, events) = Qmp::connect(stream).await.map_err(|error| error.to_string())?;
        for device in instance.devices.iter().filter(|device| device.hotplugged) {
            hotplug::plug(&qmp, &device.device, &launch::device_layers(context, &device.device)?).await?;
        }
        Ok((qmp, events, serial))
    };
    let connected = tokio::select! {
        status = process.ended() => Err(describe_exit(status)),
        connected = tokio::time::timeout(GREETING_TIMEOUT, connecting) => {
            connected.unwrap_or_else(|_| Err(format!("QEMU did not answer within {} s", GREETING_TIMEOUT.as_secs())))
        }
    };
    match connected {
        Ok(connected) => Ok(connected),
        Err(error) => Err(launch::failure_text(run_dir, &error).await),
    }
}

impl Outgoing {
    /// The target, for the record.
    pub(super) fn target(&self) -> &Instance {
        &self.target.instance
    }

    /// Begins to send. The record must name the target already.
    pub(super) async fn send(&mut self, source: &Qmp, throttle: bool) -> Result<(), String> {
        let capability = |name: &str, state: bool| json!({ "capability": name, "state": state });
        let there = json!({ "capabilities": [capability("return-path", true)] });
        let here = json!({ "capabilities": [capability("return-path", true), capability("auto-converge", throttle)] });
        let limits = json!({ "downtime-limit": DOWNTIME_LIMIT, "max-bandwidth": self.bandwidth });
        // Launch directories lie side by side, and QEMU works in its own: a short way however deep they are.
        let directory = self.target.instance.run_dir.file_name().unwrap_or_default().to_string_lossy();
        for (qmp, command, arguments) in [
            (&self.target.qmp, "migrate-set-capabilities", there),
            (source, "migrate-set-capabilities", here),
            (source, "migrate-set-parameters", limits),
            (&self.target.qmp, "migrate-incoming", json!({ "uri": format!("unix:{SOCKET}") })),
            (source, "migrate", json!({ "uri": format!("unix:../{directory}/{SOCKET}") })),
        ] {
            qmp.execute(command, arguments).await.map_err(|error| format!("{command}: {error}"))?;
        }
        self.view.stage = MigrationStage::Copying;
        Ok(())
    }

    /// Asks QEMU to stop; a later look finds it so.
    pub(super) async fn cancel(&mut self, source: &Qmp) {
        self.cancelled = true;
        if let Err(error) = source.execute("migrate_cancel", Value::Null).await {
            tracing::warn!(%error, "the migration cannot be cancelled");
        }
    }

    /// Looks how it goes.
    pub(super) async fn look(&mut self, source: &Qmp) -> Look {
        self.next_look = Instant::now() + LOOK_AGAIN;
        let report = match source.execute("query-migrate", Value::Null).await {
            Ok(answer) => Report::read(&answer),
            Err(error) => return Look::Over(MigrationOutcome::Failed { detail: error.to_string() }),
        };
        report.show(&mut self.view);
        match report.status.as_str() {
            "completed" => self.await_guest(report.downtime_ms).await,
            "cancelled" => Look::Over(MigrationOutcome::Cancelled),
            "failed" => {
                let detail = report.error.unwrap_or_else(|| "QEMU gave up".to_owned());
                let detail = self.targets_reason().await.unwrap_or(detail);
                Look::Over(if self.cancelled {
                    MigrationOutcome::Cancelled
                } else {
                    MigrationOutcome::Failed { detail }
                })
            }
            _ if self.deadline <= Instant::now() && !self.cancelled => {
                let detail = "the guest changes its memory faster than it can be copied: try again when it is less \
                              busy, or with force, which slows it down meanwhile";
                self.cancel(source).await;
                Look::Over(MigrationOutcome::Failed { detail: detail.to_owned() })
            }
            _ => Look::Going,
        }
    }

    /// All has been sent: the guest must execute there before this side may go.
    async fn await_guest(&mut self, downtime_ms: u64) -> Look {
        let since = *self.sent.get_or_insert_with(Instant::now);
        let status = self.target.qmp.execute("query-status", Value::Null).await.unwrap_or_default();
        match status["status"].as_str() {
            Some("running") => Look::Moved { downtime_ms },
            Some(_) if since.elapsed() < RESUME_TIMEOUT => Look::Going,
            word => {
                let detail = format!("the guest did not go on in the target (it is {})", word.unwrap_or("gone"));
                Look::Over(MigrationOutcome::Failed { detail })
            }
        }
    }

    /// What the target said before it ended, if it has: a better reason than a broken connection.
    async fn targets_reason(&mut self) -> Option<String> {
        tokio::time::timeout(Duration::from_secs(1), self.target.process.ended()).await.ok()?;
        let words = launch::failure_text(&self.target.instance.run_dir, "").await;
        (!words.is_empty()).then_some(words)
    }

    /// Whether there is something new to show: a stage at once, numbers now and then.
    pub(super) fn is_news(&mut self, before: &Migration) -> bool {
        let news = self.view.stage != before.stage || self.view != *before && self.shown.elapsed() > SHOW_AGAIN;
        if news {
            self.shown = Instant::now();
        }
        news
    }

    /// Ends the target.
    pub(super) async fn abandon(mut self) {
        self.target.process.kill();
        self.target.process.ended().await;
        launch::clean_up(self.target.instance.run_dir, Vec::new()).await;
    }

    /// The target as the machine's QEMU, still without the network, and its serial port.
    pub(super) async fn into_running(self) -> (Running, UnixStream) {
        let Target { process, qmp, events, serial, instance } = self.target;
        let ports = qmp.execute("query-chardev", Value::Null).await.unwrap_or_default();
        let agent_connected = super::adopt::port(&ports, "agent").is_some_and(|port| port["frontend-open"] == true);
        let running = Running {
            process,
            qmp,
            events,
            instance,
            network: None,
            continued: true,
            paused: None,
            agent_connected,
            migration: None,
        };
        (running, serial)
    }
}

/// Lets the guest execute where it was held for a switch that did not come about.
pub(super) async fn resume(source: &Qmp) {
    let status = source.execute("query-status", Value::Null).await.unwrap_or_default();
    if matches!(status["status"].as_str(), Some("postmigrate" | "finish-migrate" | "paused"))
        && let Err(error) = source.execute("cont", Value::Null).await
    {
        tracing::error!(%error, "the guest does not go on after a failed migration");
    }
}

/// Finds the guest of a record that was written while a migration was under way: here or in the target. The other
/// QEMU's end is the caller's business: it is in no record any more.
pub(super) async fn settle(mut source: Instance) -> Instance {
    let Some(mut target) = source.target.take() else { return source };
    let there = monitor(&target).await;
    let here = monitor(&source).await;
    let deadline = Instant::now() + RESUME_TIMEOUT;
    while let Some(there) = &there {
        let Ok(status) = there.execute("query-status", Value::Null).await else { break };
        if status["status"] == "running" {
            if let Some(end) = &mut target.last_migration {
                end.at = jiff::Timestamp::now();
            }
            // It may have been started anew meanwhile.
            target.network = source.network;
            return *target;
        }
        let Some(here) = &here else { break };
        let report = here.execute("query-migrate", Value::Null).await.map(|answer| Report::read(&answer));
        match report.as_ref().map(|report| report.status.as_str()) {
            // It is on its way; what is half done is better finished than undone.
            Ok("completed" | "device" | "pre-switchover") if Instant::now() < deadline => {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            _ => break,
        }
    }
    if let Some(here) = here {
        // Fails if there is none any more.
        let _ = here.execute("migrate_cancel", Value::Null).await;
        resume(&here).await;
    }
    source.last_migration = target.last_migration.map(|end| MigrationEnd {
        at: jiff::Timestamp::now(),
        outcome: MigrationOutcome::Failed { detail: "vmdeck ended while the machine was being migrated".to_owned() },
        ..end
    });
    source
}

/// A monitor of a recorded QEMU, if it is the recorded one.
async fn monitor(instance: &Instance) -> Option<Qmp> {
    Process::adopt(instance.pid, instance.start_time).ok()??;
    let stream = connect_in(&instance.run_dir, QMP_SOCKET).await.ok()?;
    let connected = tokio::time::timeout(Duration::from_secs(2), Qmp::connect(stream)).await;
    Some(connected.ok()?.ok()?.0)
}

/// The arguments of the QEMU that has the guest, for the one that takes it over: its own sockets, and it waits for
/// the guest instead of for `cont`. `frames` is how this QEMU, perhaps a newer one, connects to the network.
fn target_arguments(source: &[String], sockets: &[(&str, RawFd)], frames: Option<&Value>) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = Vec::with_capacity(source.len() + 2);
    for argument in source.iter().filter(|argument| *argument != "-S") {
        if let Some(frames) = frames.filter(|_| arguments.last().is_some_and(|last| last == "-netdev")) {
            arguments.push(frames.to_string().into());
            continue;
        }
        let moved = sockets.iter().find_map(|(id, fd)| {
            let rest = argument.strip_prefix(&format!("socket,id={id},fd="))?;
            Some(format!("socket,id={id},fd={fd}{}", rest.trim_start_matches(|c: char| c.is_ascii_digit())))
        });
        arguments.push(moved.unwrap_or_else(|| argument.clone()).into());
    }
    arguments.push("-incoming".into());
    arguments.push("defer".into());
    arguments
}

/// `query-migrate`, as far as it is used (QEMU's `MigrationInfo`).
#[derive(Debug, Clone, Default, PartialEq)]
struct Report {
    status: String,
    transferred: u64,
    remaining: u64,
    total: u64,
    rate: u64,
    throttle: u8,
    downtime_ms: u64,
    error: Option<String>,
}

impl Report {
    fn read(answer: &Value) -> Self {
        let number = |pointer: &str| answer.pointer(pointer).and_then(Value::as_u64).unwrap_or(0);
        let megabits = answer.pointer("/ram/mbps").and_then(Value::as_f64).unwrap_or(0.0);
        Self {
            status: answer["status"].as_str().unwrap_or("none").to_owned(),
            transferred: number("/ram/transferred"),
            remaining: number("/ram/remaining"),
            total: number("/ram/total"),
            // Saturates, which is what an absurd number deserves.
            rate: (megabits * 125_000.0) as u64,
            throttle: u8::try_from(number("/cpu-throttle-percentage")).unwrap_or(100),
            downtime_ms: number("/downtime"),
            error: answer["error-desc"].as_str().map(str::to_owned),
        }
    }

    fn show(&self, view: &mut Migration) {
        view.stage = match self.status.as_str() {
            "device" | "pre-switchover" | "completed" => MigrationStage::SwitchingOver,
            "active" => MigrationStage::Copying,
            _ => view.stage,
        };
        if self.total > 0 {
            view.total = self.total;
            (view.processed, view.remaining) = (self.transferred, self.remaining);
            (view.rate, view.throttle) = (self.rate, self.throttle);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_target_has_the_same_arguments_but_its_own_sockets() {
        let source = [
            "-S",
            "-chardev",
            "socket,id=qmp,fd=17,server=on,wait=off",
            "-chardev",
            "socket,id=serial0,fd=19,server=on,wait=off,logfile=/m/serial.log,logappend=on",
            "-device",
            "{\"id\":\"scsi0\"}",
            "-netdev",
            "{\"reconnect\":1}",
        ]
        .map(str::to_owned);
        let target = target_arguments(&source, &[("qmp", 5), ("serial0", 123)], Some(&json!({"type": "stream"})));
        assert_eq!(
            target,
            [
                "-chardev",
                "socket,id=qmp,fd=5,server=on,wait=off",
                "-chardev",
                "socket,id=serial0,fd=123,server=on,wait=off,logfile=/m/serial.log,logappend=on",
                "-device",
                "{\"id\":\"scsi0\"}",
                "-netdev",
                "{\"type\":\"stream\"}",
                "-incoming",
                "defer",
            ]
        );
    }

    #[test]
    fn what_qemu_tells_of_a_migration() {
        let active = json!({
            "status": "active", "total-time": 100, "expected-downtime": 300, "cpu-throttle-percentage": 20,
            "ram": {"total": 1000, "remaining": 400, "transferred": 650, "mbps": 8.0},
        });
        let report = Report::read(&active);
        assert_eq!((report.rate, report.throttle, report.remaining), (1_000_000, 20, 400));
        let since = jiff::Timestamp::UNIX_EPOCH;
        let stage = MigrationStage::Preparing;
        let mut view =
            Migration { number: 1, since, stage, processed: 0, remaining: 0, total: 9, rate: 0, throttle: 0 };
        report.show(&mut view);
        assert_eq!((view.stage, view.processed, view.total), (MigrationStage::Copying, 650, 1000));
        let failed = Report::read(&json!({"status": "failed", "error-desc": "Broken pipe"}));
        assert_eq!(failed.error.as_deref(), Some("Broken pipe"));
        failed.show(&mut view);
        assert_eq!(view.total, 1000, "what was known stays");
        assert_eq!(Report::read(&json!({})).status, "none");
    }
}
