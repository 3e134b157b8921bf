//! What a guest has open on its network goes on while the guest moves to another QEMU.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::support::{BOOT, SOON, World};

/// A `vmdeck port-forward` that runs.
struct Forward {
    child: Child,
    address: String,
}

impl Forward {
    fn open(world: &World, port: u16) -> Self {
        let mut child = world
            .command(&["port-forward", "m", &format!(":{port}")])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.strip_prefix("Forwarding from ").and_then(|rest| rest.split_once(' ')).map(|(a, _)| a);
        let address = address.unwrap_or_else(|| panic!("{line:?}")).to_owned();
        Self { child, address }
    }

    fn connect(&self) -> TcpStream {
        TcpStream::connect(&self.address).unwrap()
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A connection at whose other end everything is sent back.
struct Echo(BufReader<TcpStream>);

impl Echo {
    fn new(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(SOON)).unwrap();
        Self(BufReader::new(stream))
    }

    fn check(&mut self, word: &str) {
        writeln!(self.0.get_mut(), "{word}").unwrap();
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap_or_else(|e| panic!("{word}: {e}"));
        assert_eq!(line, format!("{word}\n"));
    }
}

/// A transfer that runs: the guest counts, nothing may be missing.
struct Flow {
    reached: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<String>,
}

impl Flow {
    fn new(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(SOON)).unwrap();
        let (reached, over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, end) = (reached.clone(), over.clone());
        let thread = std::thread::spawn(move || {
            let mut lines = BufReader::new(stream).lines();
            for expected in 1_u64.. {
                if end.load(Ordering::Relaxed) {
                    break;
                }
                match lines.next() {
                    Some(Ok(line)) if line == expected.to_string() => count.store(expected, Ordering::Relaxed),
                    other => return format!("{other:?} instead of {expected}"),
                }
            }
            String::new()
        });
        Self { reached, over, thread }
    }

    /// Waits until it has gone on by 2 MB. The guest is the slowest part: nothing piles up on the way.
    fn goes_on(&self) {
        let (from, deadline) = (self.reached.load(Ordering::Relaxed), Instant::now() + BOOT);
        while self.reached.load(Ordering::Relaxed) < from + 300_000 {
            assert!(!self.thread.is_finished(), "the transfer ended at {}", self.reached.load(Ordering::Relaxed));
            assert!(Instant::now() < deadline, "the transfer does not go on");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn end(self) {
        self.over.store(true, Ordering::Relaxed);
        assert_eq!(self.thread.join().unwrap(), "");
    }
}

/// A command of the guest that waits until something listens on a port.
fn listening(port: u16) -> String {
    format!("until netstat -ltn | grep -q ':{port} '; do sleep 0.1; done")
}

/// Kills a process that must be there.
fn kill(pid: i32) {
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

#[test]
fn connections_outlive_migrations() {
    let mut world = World::with_image();
    let mut console = world.booted("m", "AlwaysOnUnlessStoppedManually");
    let outside = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = outside.local_addr().unwrap().port();
    console.run("(nc -ll -p 7000 -e cat &); (seq 1 900000000 | nc -l -p 7001 &)");
    console.run(&listening(7000));
    console.run(&listening(7001));
    console.run(&format!(
        "(nc $(ip route | sed -n 's/^default via \\([0-9.]*\\).*/\\1/p') {port} -e cat > /dev/null 2>&1 &)"
    ));
    let (idle, busy) = (Forward::open(&world, 7000), Forward::open(&world, 7001));
    let mut inward = Echo::new(idle.connect());
    let mut outward = Echo::new(outside.accept().unwrap().0);
    let flow = Flow::new(busy.connect());
    let network = world.network_pids();
    assert_eq!(network.len(), 1, "a network of its own");
    let mut all_go_on = |what: &str| {
        inward.check(what);
        outward.check(what);
        flow.goes_on();
    };
    all_go_on("before");

    for round in ["first", "second"] {
        let before = world.qemu_pids();
        world.ok(&["evict", "m", "--wait"]);
        let after = world.qemu_pids();
        assert!(after.len() == 1 && after != before, "{before:?} {after:?}");
        all_go_on(round);
        assert_eq!(world.network_pids(), network);
        world.ok(&["delete", "vmop", "--all"]);
    }
    // A new one through the QEMU that took over.
    Echo::new(idle.connect()).check("new");
    flow.end();

    // The daemon holds the forwarded ones, not the guest's own.
    world.kill_daemon();
    world.start_daemon();
    world.until_phase("vm/m", "Running", SOON);
    assert_eq!(world.network_pids(), network, "adopted");
    outward.check("after another daemon");
    Echo::new(idle.connect()).check("after another daemon");
    world.ok(&["evict", "m", "--wait"]);
    outward.check("and its eviction");
    world.leaves_nothing();
}

#[test]
fn a_failed_migration_and_a_lost_network() {
    let world = World::start_with("[host]\nmigrationBandwidth = 1000000\n");
    world.load_image();
    let mut console = world.booted("m", "AlwaysOnUnlessStoppedManually");
    console.run("(nc -ll -p 7000 -e cat &)");
    console.run(&listening(7000));
    let idle = Forward::open(&world, 7000);
    let mut inward = Echo::new(idle.connect());
    inward.check("before");
    let source = world.qemu_pids()[0];
    // More often than the socket's shortest queue is long.
    for _ in 0..3 {
        world.ok(&["evict", "m"]);
        world.until("vm/m", "migrating", SOON, |vm| vm["status"]["phase"] == "Migrating");
        let target = || world.qemu_pids().into_iter().find(|pid| *pid != source);
        let deadline = Instant::now() + SOON;
        let target = loop {
            match target() {
                Some(pid) => break pid,
                None => assert!(Instant::now() < deadline, "there is no target"),
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        kill(target);
        world.until_phase("vm/m", "Running", SOON);
        inward.check("after a failure");
        assert_eq!(world.qemu_pids(), [source]);
        world.ok(&["delete", "vmop", "--all"]);
    }

    // The network's process dies: another one takes its place, and the guest is reached again.
    let network = world.network_pids()[0];
    kill(network);
    let deadline = Instant::now() + BOOT;
    while world.network_pids().iter().all(|pid| *pid == network) {
        assert!(Instant::now() < deadline, "the network does not come back\n{}", world.log_tail());
        std::thread::sleep(Duration::from_millis(50));
    }
    console.run("true");
    loop {
        // Refused as long as the guest's side has not connected again.
        let mut stream = idle.connect();
        stream.set_read_timeout(Some(SOON)).unwrap();
        let mut line = String::new();
        if writeln!(stream, "again").is_ok() && matches!(BufReader::new(stream).read_line(&mut line), Ok(6)) {
            break;
        }
        assert!(Instant::now() < deadline, "the guest is not reached any more\n{}", world.log_tail());
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(world.qemu_pids(), [source]);
    world.leaves_nothing();
}
