//! What a machine costs: times through the product beside bare QEMU with the same arguments, in the same run on the
//! same computer; the daemon's memory; the binary's size. Run by `make bench`, which names a release build.

#![expect(clippy::expect_used, reason = "a measurement that cannot be made ends the run")]

#[path = "../tests/it/support/mod.rs"]
#[allow(
    dead_code,
    unused_imports,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "shared with the integration tests, which use all of it and may panic"
)]
mod support;

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use futures::StreamExt;
use serde_json::{Value, json};
use vmdeck::client::{ObjectEvent, OperationType, WriteOptions};
use vmdeck::types::kinds::{self, KindInfo};

use support::{BOOT, SOON, World, machine_manifest};

const ROUNDS: usize = 9;

fn main() {
    // `cargo test` runs benches too, to see that they build.
    if !std::env::args().any(|a| a == "--bench") {
        return;
    }
    let world = World::with_image();
    world.apply(&machine_manifest("bench", "Manual"));
    world.until_phase("vd/bench-root", "Ready", BOOT);
    world.ok(&["delete", "vm", "bench"]);
    world.until_gone("vm/bench", SOON);
    let machine = machine("bench", "bench-root");

    let mut running = Vec::new();
    let mut stopping = Vec::new();
    let mut gone = Vec::new();
    let mut launch = None;
    for _ in 0..ROUNDS {
        running.push(apply_to_running(&world, &machine));
        let pid = world.qemu_pids()[0];
        launch = Some(Launch::of(pid));
        let (stopped, dead) = force_stop(&world, pid);
        stopping.push(stopped);
        gone.push(dead);
        world.ok(&["delete", "vm", "bench"]);
        world.until_gone("vm/bench", SOON);
    }
    let launch = launch.expect("at least one round");
    let bare: Vec<Duration> = (0..ROUNDS).map(|_| bare_qemu(&world, &launch)).collect();

    let started = Instant::now();
    apply_to_running(&world, &machine);
    let mut console = world.console("bench");
    console.login();
    let login = started.elapsed();
    let answers: Vec<Duration> = (0..ROUNDS).map(|_| first_answer(&world)).collect();
    let with_one = resident_kib(world.daemon_pid());
    for n in 1..10 {
        let name = format!("more-{n}");
        world.apply(&machine_manifest(&name, "AlwaysOnUnlessStoppedManually"));
        world.until_phase(&format!("vm/{name}"), "Running", BOOT);
    }
    let with_ten = resident_kib(world.daemon_pid());

    println!("\n{:<44} {:>9} {:>9} {:>9}", "", "median", "min", "max");
    let bare = line("bare QEMU, same arguments: spawn to running", bare);
    let ours = line("apply to Running", running);
    println!("{:<44} {:>8.2}x", "  of bare QEMU (promise: at most 2)", ours / bare);
    line("forced stop: request to Stopped", stopping);
    line("forced stop: request to process gone", gone);
    line("console: open to first answer of the guest", answers);
    println!("{:<44} {:>7.2} s", "apply to login on the console", login.as_secs_f64());
    println!("{:<44} {:>5.1} MiB", "daemon, resident, 1 machine", with_one as f64 / 1024.0);
    println!("{:<44} {:>5.1} MiB", "daemon, resident, 10 machines", with_ten as f64 / 1024.0);
    let size = std::fs::metadata(support::binary()).map_or(0, |m| m.len());
    println!("{:<44} {:>5.1} MiB", "binary", size as f64 / 1_048_576.0);

    // Guests that still boot do not hear the power button: cut the power of all.
    for machine in std::iter::once("bench".to_owned()).chain((1..10).map(|n| format!("more-{n}"))) {
        world.ok(&["stop", &machine, "--force", "--wait"]);
    }
    world.leaves_nothing();
}

/// Prints a row in milliseconds; the median.
fn line(what: &str, mut times: Vec<Duration>) -> f64 {
    times.sort();
    let ms = |d: &Duration| d.as_secs_f64() * 1000.0;
    let median = ms(&times[times.len() / 2]);
    println!("{what:<44} {median:>6.1} ms {:>6.1} ms {:>6.1} ms", ms(&times[0]), ms(&times[times.len() - 1]));
    median
}

fn vm() -> &'static KindInfo {
    kinds::find("vm").expect("a kind")
}

/// A machine that starts at once from a disk that is ready.
fn machine(name: &str, disk: &str) -> Value {
    json!({
        "apiVersion": "virtualization.deckhouse.io/v1alpha2",
        "kind": "VirtualMachine",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "virtualMachineClassName": "host",
            "runPolicy": "AlwaysOnUnlessStoppedManually",
            "cpu": {"cores": 1, "coreFraction": "10%"},
            "memory": {"size": "256Mi"},
            "provisioning": {"type": "UserData", "userData": support::USER_DATA},
            "blockDeviceRefs": [{"kind": "VirtualDisk", "name": disk}],
        }
    })
}

/// From sending the manifest to the watch saying Running.
fn apply_to_running(world: &World, machine: &Value) -> Duration {
    let session = world.session().clone();
    world.block_on(async {
        let events = session.watch_object(vm(), Some("default"), "bench");
        tokio::pin!(events);
        events.next().await; // the watch stands: it is not there yet
        let started = Instant::now();
        session.apply(vm(), Some("default"), "bench", machine, true, WriteOptions::default()).await.expect("applies");
        until_phase(&mut events, "Running").await;
        started.elapsed()
    })
}

async fn until_phase(events: &mut (impl futures::Stream<Item = ObjectEvent> + Unpin), phase: &str) {
    while let Some(event) = events.next().await {
        if matches!(&event, ObjectEvent::Now(o) if o["status"]["phase"] == phase) {
            return;
        }
    }
}

/// From asking for a forced stop to the watch saying Stopped, and to the process being gone.
fn force_stop(world: &World, pid: i32) -> (Duration, Duration) {
    let session = world.session().clone();
    let pid = rustix::process::Pid::from_raw(pid).expect("a pid");
    let fd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).expect("it runs");
    let begun = Instant::now();
    let watcher = std::thread::spawn(move || {
        let mut polled = [rustix::event::PollFd::new(&fd, rustix::event::PollFlags::IN)];
        rustix::event::poll(&mut polled, None).expect("poll");
        begun.elapsed()
    });
    let stopped = world.block_on(async {
        let events = session.watch_object(vm(), Some("default"), "bench");
        tokio::pin!(events);
        events.next().await;
        session.operation("default", "bench", OperationType::Stop, true).await.expect("is accepted");
        until_phase(&mut events, "Stopped").await;
        begun.elapsed()
    });
    (stopped, watcher.join().expect("no panic"))
}

/// From opening the console of a guest at its prompt to the first byte it answers with.
fn first_answer(world: &World) -> Duration {
    let session = world.session().clone();
    world.block_on(async {
        let started = Instant::now();
        let mut stream = session.console("default", "bench", 0).await.expect("opens");
        stream.input.send(bytes::Bytes::from_static(b"\n")).await.expect("is open");
        stream.output.recv().await.expect("answers");
        started.elapsed()
    })
}

/// What the product started: QEMU's arguments and the directory it was started in.
struct Launch {
    arguments: Vec<String>,
    seed: Vec<u8>,
}

impl Launch {
    fn of(pid: i32) -> Self {
        let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).expect("it runs");
        let words = bytes.split(|b| *b == 0).skip(1).filter(|w| !w.is_empty());
        Self {
            arguments: words.map(|w| String::from_utf8_lossy(w).into_owned()).collect(),
            // The run directory is QEMU's current one, and gone with it.
            seed: std::fs::read(format!("/proc/{pid}/cwd/seed.iso")).expect("a seed"),
        }
    }
}

/// The same QEMU without us: the product's arguments, with sockets by name instead of inherited ones and with copies of
/// its disks; from spawn to `query-status` saying running.
fn bare_qemu(world: &World, launch: &Launch) -> Duration {
    let scratch = tempfile::Builder::new().prefix("vmdeck-bare-").tempdir().expect("a directory");
    let home = world.home().to_str().expect("a plain name");
    let mut moved: Vec<(String, PathBuf)> = Vec::new();
    let arguments: Vec<String> =
        launch.arguments.iter().map(|a| named_socket(&relocate(a, home, scratch.path(), &mut moved))).collect();
    for (from, to) in &moved {
        if Path::new(from).is_file() && !to.exists() {
            std::fs::copy(from, to).expect("copies");
        }
    }
    std::fs::write(scratch.path().join("seed.iso"), &launch.seed).expect("writes");
    let qmp = scratch.path().join("qmp");
    let started = Instant::now();
    let mut child = spawn(&arguments, scratch.path());
    let stream = loop {
        match UnixStream::connect(&qmp) {
            Ok(stream) => break stream,
            Err(_) if child.try_wait().expect("wait").is_none() => std::thread::sleep(Duration::from_micros(200)),
            Err(e) => panic!("bare QEMU ended ({e}): {arguments:?}"),
        }
    };
    let mut reader = BufReader::new(stream.try_clone().expect("clones"));
    let mut writer = stream;
    let mut ask = |command: &str| {
        writeln!(writer, "{{\"execute\":\"{command}\"}}").expect("is open");
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).expect("answers");
            let answer: Value = serde_json::from_str(&line).expect("JSON");
            if answer.get("return").is_some() || answer.get("error").is_some() {
                return answer;
            }
        }
    };
    ask("qmp_capabilities");
    ask("cont");
    assert_eq!(ask("query-status")["return"]["status"], "running");
    let elapsed = started.elapsed();
    child.kill().expect("runs");
    child.wait().expect("ends");
    elapsed
}

/// `socket,id=qmp,fd=20,…` becomes `socket,id=qmp,path=qmp,…`.
fn named_socket(argument: &str) -> String {
    let Some((before, rest)) = argument.strip_prefix("socket,id=").and_then(|a| a.split_once(",fd=")) else {
        return argument.to_owned();
    };
    let rest = rest.trim_start_matches(|c: char| c.is_ascii_digit());
    format!("socket,id={before},path={before}{rest}")
}

fn spawn(arguments: &[String], directory: &Path) -> Child {
    Command::new("qemu-system-x86_64")
        .args(arguments)
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .spawn()
        .expect("QEMU is installed")
}

/// Replaces every path below the world's directory by one in `scratch`; names in the order of appearance.
fn relocate(argument: &str, home: &str, scratch: &Path, moved: &mut Vec<(String, PathBuf)>) -> String {
    let mut out = String::new();
    let mut rest = argument;
    while let Some(at) = rest.find(home) {
        let end = rest[at..].find([',', '"']).map_or(rest.len(), |n| at + n);
        let from = rest[at..end].to_owned();
        let to = match moved.iter().find(|(known, _)| *known == from) {
            Some((_, to)) => to.clone(),
            None => {
                let name =
                    Path::new(&from).file_name().map_or_else(|| "f".into(), |n| n.to_string_lossy().into_owned());
                let to = scratch.join(format!("{}-{name}", moved.len()));
                moved.push((from, to.clone()));
                to
            }
        };
        out.push_str(&rest[..at]);
        out.push_str(&to.to_string_lossy());
        rest = &rest[end..];
    }
    out.push_str(rest);
    out
}

/// Resident memory of a process.
fn resident_kib(pid: i32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = text.lines().find_map(|l| l.strip_prefix("VmRSS:")).expect("VmRSS");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}
