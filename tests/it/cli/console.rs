//! Streams into a real guest: console in a terminal and in a pipe, ssh, forwarded ports, screen.

use std::io::{Read, Write};
use std::process::{Command, Stdio};

use crate::support::{BOOT, SOON, Screen, World, machine_manifest};

/// A key pair for the guest; the private key's path and the public line.
fn key(world: &World) -> (String, String) {
    let path = world.home().join("key");
    let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&path).status().unwrap();
    assert!(made.success());
    let public = std::fs::read_to_string(path.with_extension("pub")).unwrap();
    (path.display().to_string(), public.trim().to_owned())
}

#[test]
fn console_ssh_and_ports_of_one_guest() {
    let world = World::with_image();
    let (private, public) = key(&world);
    let manifest = machine_manifest("linux-vm", "AlwaysOnUnlessStoppedManually").replace(
        "          lock_passwd: False\n",
        &format!("          lock_passwd: False\n          ssh_authorized_keys:\n            - {public}\n"),
    );
    assert!(manifest.contains(&public));
    world.apply(&manifest);
    world.until_phase("vm/linux-vm", "Running", BOOT);

    // In a terminal: message, login, the escape in the middle of typed text, a clean terminal.
    let mut screen = Screen::open(&world, &["console", "linux-vm"], 80, 24);
    screen.until("Successfully connected to linux-vm console. The escape sequence is ^]", SOON);
    screen.until("login: ", BOOT);
    screen.keys("cloud\r");
    screen.until("Password: ", SOON);
    screen.keys("cloud\r");
    screen.until("~$ ", SOON);
    screen.keys("echo $((6*7)); nproc\r");
    screen.until("42", SOON);
    screen.keys("exit\r");
    screen.until("login: ", SOON);
    screen.keys("abc\x1dxyz");
    assert_eq!(screen.wait(SOON), 0);

    // In a pipe: history first, what is typed arrives, the end of input ends it.
    let mut command = world.command(&["console", "linux-vm"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"\r").unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("login: "), "{output:?}");

    // The user guide's command, with a key.
    let nproc = |world: &World| {
        let options = format!("-i {private} -o UserKnownHostsFile={}/known -o BatchMode=yes", world.home().display());
        let arguments = ["ssh", "cloud@linux-vm", "--local-ssh", "--ssh-args", options.as_str(), "--command", "nproc"];
        let output = world.run(&arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(nproc(&world), "1\n");

    // The same with our own client.
    let known = world.home().join("own-known").display().to_string();
    let own = ["ssh", "cloud@linux-vm", "--local-ssh=false", "-i", &private, "--known-hosts", &known, "--command"];
    let own = |command: &str| world.run(&[&own[..], &[command]].concat());
    let output = own("nproc; echo wrong >&2; exit 7");
    assert_eq!(output.status.code(), Some(7), "{output:?}");
    assert_eq!(output.stdout, b"1\n");
    assert!(String::from_utf8_lossy(&output.stderr).contains("wrong"), "{output:?}");

    // Two connections through one forwarded port at the same time.
    let mut forward = world.command(&["port-forward", "linux-vm", ":22"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    let mut stdout = forward.stdout.take().unwrap();
    let mut byte = [0];
    while !said.ends_with('\n') {
        assert_eq!(stdout.read(&mut byte).unwrap(), 1, "{said}");
        said.push(char::from(byte[0]));
    }
    let address = said.strip_prefix("Forwarding from ").unwrap().split(' ').next().unwrap();
    let mut streams: Vec<_> = (0..2).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
    for stream in &mut streams {
        stream.set_read_timeout(Some(SOON)).unwrap();
        let mut banner = [0; 4];
        stream.read_exact(&mut banner).unwrap();
        assert_eq!(&banner, b"SSH-");
    }
    forward.kill().unwrap();
    forward.wait().unwrap();

    // The screen speaks RFB.
    let mut proxy = world.command(&["vnc", "linux-vm", "--proxy-only"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(proxy.stdout.take().unwrap()), &mut line).unwrap();
    let port = serde_json::from_str::<serde_json::Value>(&line).unwrap()["port"].as_u64().unwrap();
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", u16::try_from(port).unwrap())).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    let mut version = [0; 4];
    stream.read_exact(&mut version).unwrap();
    assert_eq!(&version, b"RFB ");
    proxy.kill().unwrap();
    proxy.wait().unwrap();
    world.ok(&["delete", "vm", "linux-vm"]);
    assert!(world.qemu_pids().is_empty());
}
