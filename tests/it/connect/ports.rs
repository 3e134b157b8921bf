//! `vmdeck port-forward` and `vmdeck vnc`: many connections, megabytes both ways, ends of one direction, datagrams.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream, UdpSocket};
use std::process::Stdio;

use super::{BLOB, BULK, Running, booted, sha256};
use crate::support::{SOON, World};

/// The local address of a line of `port-forward`.
fn address(line: &str, remote: &str) -> String {
    let rest = line.strip_prefix("Forwarding from ").unwrap_or_else(|| panic!("{line}"));
    let (local, to) = rest.split_once(" -> ").unwrap();
    assert_eq!(to, remote);
    local.trim_end_matches("/udp").to_owned()
}

fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(BULK)).unwrap();
    stream.set_write_timeout(Some(BULK)).unwrap();
    stream
}

/// Sends all, ends our direction, and reads all that comes.
fn exchange(address: &str, data: &[u8]) -> Vec<u8> {
    let stream = connect(address);
    let mut writer = stream.try_clone().unwrap();
    let mut answer = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            writer.write_all(data).unwrap();
            writer.shutdown(Shutdown::Write).unwrap();
        });
        let mut reader = &stream;
        reader.read_to_end(&mut answer).unwrap();
    });
    answer
}

/// Bytes that no block repeats.
fn bytes(count: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(&mut next).flatten().take(count).collect()
}

#[test]
fn connections_and_datagrams_through_forwarded_ports() {
    let world = World::with_image();
    let mut console = booted(&world);
    console.send("exit\n");
    // The blob is written before the guest's services listen; the prompt came later than both.
    let arguments = ["port-forward", "linux-vm", ":9000", "tcp/:9001", ":9002", "udp/:5353", ":9"];
    let errors = world.home().join("errors");
    let mut command = world.command(&arguments);
    let mut forward = Running::start(command.stderr(std::fs::File::create(&errors).unwrap()));
    let [sums, blob, echo] = ["9000", "9001", "9002"].map(|remote| address(&forward.line(), remote));
    let datagrams = address(&forward.line(), "5353");
    let nothing = address(&forward.line(), "9");

    // The end of our direction reaches the guest, and its answer still comes: up, down, and both at once.
    let data = bytes(BLOB);
    let answer = String::from_utf8(exchange(&sums, &data)).unwrap();
    assert_eq!(answer.split(' ').next().unwrap(), sha256(&data));
    let received = exchange(&blob, b"");
    assert_eq!(received.len(), BLOB);
    assert_eq!(sha256(&exchange(&echo, &data)), sha256(&data));
    let again = String::from_utf8(exchange(&sums, &received)).unwrap();
    assert_eq!(again.split(' ').next().unwrap(), sha256(&received), "what came is what the guest has");

    // Several at a time, while one is open and idle.
    let idle = connect(&echo);
    let answers: Vec<(String, String)> = std::thread::scope(|scope| {
        let tasks: Vec<_> = (1..=6_usize)
            .map(|n| (bytes(n * 50_000), &echo))
            .map(|(data, echo)| scope.spawn(move || (sha256(&data), sha256(&exchange(echo, &data)))))
            .collect();
        tasks.into_iter().map(|t| t.join().unwrap()).collect()
    });
    assert!(answers.iter().all(|(sent, got)| sent == got), "{answers:?}");
    let mut idle = &idle;
    idle.write_all(b"still open").unwrap();
    let mut heard = [0; 10];
    idle.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"still open");

    // Where nothing listens the connection ends and the reason is told.
    assert_eq!(connect(&nothing).read(&mut [0]).unwrap(), 0);
    let said = || std::fs::read_to_string(&errors).unwrap();
    assert!(said().contains("nothing listens on port 9 of the guest"), "{}", said());

    // Datagrams of two peers, small and larger than a frame, each answered to its own.
    let peers = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
    for (number, peer) in peers.iter().enumerate() {
        peer.connect(&datagrams).unwrap();
        for size in [1, 1200, 4000, 20_000] {
            let mut sent = bytes(size);
            sent[0] = u8::try_from(number).unwrap();
            assert_eq!(sha256(&asked(peer, &sent)), sha256(&sent), "{size} bytes of peer {number}");
        }
    }
    drop(forward);

    // Standard input and output, whose end is passed on too.
    let mut command = world.command(&["port-forward", "--stdio", "linux-vm", "9000"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"by standard input").unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).starts_with(&sha256(b"by standard input")), "{output:?}");
    for (wrong, why) in [(&["1", "2"][..], "takes one port"), (&["udp/1"], "TCP only"), (&["x"], "is no port")] {
        let output = world.run(&[&["port-forward", "--stdio", "linux-vm"], wrong].concat());
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(why), "{output:?}");
    }
    world.leaves_nothing();
}

/// A datagram's answer. One that is lost is sent again, as every user of UDP does.
fn asked(peer: &UdpSocket, data: &[u8]) -> Vec<u8> {
    peer.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
    let mut buffer = vec![0; 65_536];
    for _ in 0..6 {
        peer.send(data).unwrap();
        if let Ok(size) = peer.recv(&mut buffer) {
            return buffer[..size].to_vec();
        }
    }
    panic!("no answer to a datagram of {} bytes", data.len());
}

#[test]
fn the_screen_through_a_port_and_in_a_viewer() {
    let world = World::start();
    world.apply(&crate::support::blank_machine("linux-vm", "AlwaysOnUnlessStoppedManually"));
    world.until_phase("vm/linux-vm", "Running", SOON);

    // Two at once: screens are shared.
    let mut proxy = Running::start(&mut world.command(&["vnc", "linux-vm", "--proxy-only"]));
    let line = proxy.line();
    let port = serde_json::from_str::<serde_json::Value>(&line).unwrap()["port"].as_u64().unwrap();
    assert_eq!(line, format!("{{\"port\":{port}}}"));
    let greetings = [(); 2].map(|()| {
        let mut stream = connect(&format!("127.0.0.1:{port}"));
        let mut greeting = [0; 12];
        stream.read_exact(&mut greeting).unwrap();
        (stream, greeting)
    });
    assert!(greetings.iter().all(|(_, g)| g == b"RFB 003.008\n"), "{greetings:?}");
    drop((greetings, proxy));

    // Without a viewer the message holds the command that installs one.
    let empty = world.home().join("empty");
    std::fs::create_dir(&empty).unwrap();
    let output = world.command(&["vnc", "linux-vm"]).env("PATH", &empty).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("install virt-viewer\"") && said.contains("--proxy-only"), "{said}");

    // A viewer that cannot open says so at once, not after a minute.
    let viewer = empty.join("remote-viewer");
    std::fs::write(&viewer, "#!/bin/sh\nexit 3\n").unwrap();
    std::fs::set_permissions(&viewer, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let output = world.command(&["vnc", "linux-vm"]).env("PATH", &empty).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("ended before it connected (exit status: 3)"), "{said}");

    // A machine that is off has no screen.
    world.ok(&["stop", "linux-vm", "--force", "--wait"]);
    let output = world.run(&["vnc", "linux-vm", "--proxy-only"]);
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("not running"), "{output:?}");
    world.leaves_nothing();
}
