//! Taking up what an earlier daemon left running.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::net::UnixStream;

use super::EndReason;
use super::context::{Context, blocking, connect_in};
use super::launch::{self, QMP_SOCKET, Running, SERIAL_SOCKET};
use super::machine::{Beginning, Machine};
use super::network_process::{self, Network};
use super::process::{self, Process};
use super::qmp::Qmp;
use super::qmp_message::end_while_away;
use super::record::{self, Instance, Record, Stage};
use super::state::end_reason;
use super::task;

/// How long a monitor may take to answer at adoption.
const ANSWER: Duration = Duration::from_secs(2);

/// State of a QEMU that was found.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Found {
    /// It goes on.
    Alive,
    /// The guest has ended; QEMU waits for its own end.
    Over(EndReason),
    /// It is another machine's.
    Other,
}

/// Makes the machine of a record and starts its task. Returns when its state is known.
pub(super) async fn take_up(context: &Arc<Context>, record: Record) -> std::io::Result<Arc<Machine>> {
    let stage = record.stage.clone();
    let (machine, mut owner) = Machine::new(context, record);
    let mut serial = None;
    let beginning = match stage {
        Stage::Ended { .. } => Beginning::Off,
        Stage::Starting => {
            // It never ran: whatever was started is removed, the caller starts again.
            let run_dir = context.layout.run(&owner.record.id, owner.record.launch);
            kill_all_in(&run_dir).await;
            launch::clean_up(run_dir, Vec::new()).await;
            network_process::remove(context.layout.network(&owner.record.id, owner.record.launch)).await;
            owner
                .ended(EndReason::StartFailed { detail: "vmdeck ended while the machine was being started".into() })
                .await;
            Beginning::Off
        }
        Stage::Running(instance) => {
            let instance = owner.settle(*instance).await;
            match adopt(&instance).await {
                Ok(running) => {
                    serial = connect_serial(&running).await;
                    Beginning::Adopted(Box::new(running))
                }
                Err(reason) => {
                    if let Some(network) = &instance.network {
                        network_process::remove(network.dir.clone()).await;
                    }
                    launch::clean_up(instance.run_dir.clone(), instance.cgroups.clone()).await;
                    owner.ended(end_reason(reason, instance.stop.is_some())).await;
                    Beginning::Off
                }
            }
        }
    };
    {
        // After the serial port is connected: what the guest writes from then on is not only in the log.
        let (machine, context, runtime) = (machine.clone(), context.clone(), tokio::runtime::Handle::current());
        blocking(move || machine.open_console(&context, &runtime)).await?;
    }
    if let Some(stream) = serial {
        machine.console().connect(stream, true);
    }
    if let Beginning::Adopted(running) = &beginning {
        owner.show(running);
    }
    tokio::spawn(owner.run(beginning));
    Ok(machine)
}

/// Connects to a recorded QEMU. `Err`: why the instance is over (then its process is gone, or not ours).
async fn adopt(instance: &Instance) -> Result<Running, EndReason> {
    let crashed = |detail: &str| EndReason::Crashed { detail: detail.into() };
    if instance.boot_id != record::boot_id() {
        return Err(crashed("this computer was restarted"));
    }
    let process = match Process::adopt(instance.pid, instance.start_time) {
        Ok(Some(process)) => process,
        Ok(None) => {
            return Err(crashed(&launch::failure_text(&instance.run_dir, "QEMU ended while vmdeck was away").await));
        }
        Err(error) => return Err(crashed(&format!("the QEMU process cannot be watched: {error}"))),
    };
    let (qmp, events) = Qmp::disconnected();
    let mut running = Running {
        process,
        qmp,
        events,
        instance: instance.clone(),
        network: None,
        continued: true,
        paused: None,
        agent_connected: false,
        migration: None,
    };
    match reconnect(&mut running).await {
        Ok(Found::Alive) => {}
        Ok(Found::Over(reason)) => {
            task::power_cut(&mut running).await;
            return Err(reason);
        }
        Ok(Found::Other) => return Err(crashed("another QEMU answers in its place")),
        Err(error) => {
            // The guest may well be fine. The machine's task goes on trying.
            tracing::error!(pid = instance.pid, %error, "the monitor does not answer");
            running.paused = Some("unreachable".into());
        }
    }
    if let Some(network) = instance.network.clone() {
        running.network = Some(Network::adopt(network).await);
    }
    Ok(running)
}

/// Connects to the monitor anew and looks at what is there.
pub(super) async fn reconnect(running: &mut Running) -> Result<Found, String> {
    let run_dir = running.instance.run_dir.clone();
    let connect = async {
        let stream = connect_in(&run_dir, QMP_SOCKET).await.map_err(|error| error.to_string())?;
        Qmp::connect(stream).await.map_err(|error| error.to_string())
    };
    let answer = tokio::time::timeout(ANSWER, connect).await;
    (running.qmp, running.events) = answer.map_err(|_| "no greeting in time".to_owned())??;
    let ask = async |command: &str| running.qmp.execute(command, Value::Null).await.map_err(|error| error.to_string());
    let uuid = ask("query-uuid").await?;
    if uuid["UUID"].as_str() != Some(running.instance.uuid.to_string().as_str()) {
        return Ok(Found::Other);
    }
    let status = ask("query-status").await?;
    let word = status["status"].as_str().unwrap_or("unknown").to_owned();
    if word == "shutdown" || word == "guest-panicked" {
        let log = launch::read_log(&run_dir).await;
        return Ok(end_while_away(&word, &log).map_or(Found::Alive, Found::Over));
    }
    let ports = ask("query-chardev").await?;
    running.agent_connected = port(&ports, "agent").is_some_and(|port| port["frontend-open"] == true);
    running.paused = None;
    if word == "prelaunch" {
        // The record was written, the guest not yet let go.
        ask("cont").await?;
    } else if word != "running" {
        running.paused = Some(word);
    }
    Ok(Found::Alive)
}

pub(super) fn port<'a>(ports: &'a Value, label: &str) -> Option<&'a Value> {
    ports.as_array()?.iter().find(|port| port["label"] == label)
}

/// Connects to the serial port; returns when QEMU has taken the connection, so that nothing falls between what
/// its log holds and what comes here.
async fn connect_serial(running: &Running) -> Option<UnixStream> {
    let stream = match connect_in(&running.instance.run_dir, SERIAL_SOCKET).await {
        Ok(stream) => stream,
        Err(error) => {
            tracing::error!(pid = running.instance.pid, %error, "the serial port cannot be connected");
            return None;
        }
    };
    let taken = async {
        // QEMU has no event for this; it takes one turn of its main loop.
        while let Ok(ports) = running.qmp.execute("query-chardev", Value::Null).await {
            let filename = port(&ports, "serial0").and_then(|port| port["filename"].as_str()).unwrap_or_default();
            if !filename.starts_with("disconnected") {
                break;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    // A second client gets no service while the first is there; it is connected all the same.
    let _ = tokio::time::timeout(ANSWER, taken).await;
    Some(stream)
}

/// Kills QEMUs that work in a launch directory and that nobody wrote down.
pub(super) async fn kill_all_in(run_dir: &Path) {
    let dir = run_dir.to_owned();
    let pids = blocking(move || Ok(process::qemus_in(&dir))).await.unwrap_or_default();
    for pid in pids {
        let Some(start_time) = process::start_time(pid) else { continue };
        if let Ok(Some(mut process)) = Process::adopt(pid, start_time) {
            tracing::warn!(pid, dir = %run_dir.display(), "kills a QEMU that no record knows");
            process.kill();
            process.ended().await;
        }
    }
}
