//! Ways into a running guest, each with the program that a user runs: console, ssh, scp, forwarded ports, the screen,
//! another computer's host by ssh; and the verbs that operate machines.

mod console;
mod ports;
mod power;
mod remote;
mod ssh;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::support::{BOOT, Console, World, machine_manifest};

/// What runs in the guest beside its ssh server: echoes by UDP and TCP, the checksum of what is sent until its end, and
/// [`BLOB`] bytes that are sent to whoever comes.
const SERVICES: &str = "runcmd:
  - udp-echo 5353 &
  - head -c 12582912 /dev/urandom > /root/blob
  - nc -ll -p 9000 -e sha256sum &
  - nc -ll -p 9001 -e cat /root/blob &
  - nc -ll -p 9002 -e cat &
";

/// Bytes of the guest's file.
const BLOB: usize = 12 << 20;

/// The machine `linux-vm`, booted, with a key of the world and [`SERVICES`]; its console, logged in.
fn booted(world: &World) -> Console {
    let (_, public) = key(world, "key");
    let manifest = machine_manifest("linux-vm", "AlwaysOnUnlessStoppedManually");
    let with_key = manifest.replace(
        "          lock_passwd: False\n",
        &format!("          lock_passwd: False\n          ssh_authorized_keys:\n            - {public}\n"),
    );
    assert_ne!(with_key, manifest);
    let services: String = SERVICES.lines().map(|l| format!("      {l}\n")).collect();
    let full = with_key.replace("      final_message:", &format!("{services}      final_message:"));
    assert_ne!(full, with_key);
    world.apply(&full);
    world.until_phase("vm/linux-vm", "Running", BOOT);
    let mut console = world.console("linux-vm");
    console.login();
    console
}

/// A key pair below the world; the private key's path and the public line.
fn key(world: &World, name: &str) -> (String, String) {
    let path = world.home().join(name);
    if !path.exists() {
        let mut make = Command::new("ssh-keygen");
        assert!(make.args(["-q", "-t", "ed25519", "-N", "", "-C", name, "-f"]).arg(&path).status().unwrap().success());
    }
    let public = std::fs::read_to_string(path.with_extension("pub")).unwrap();
    (path.display().to_string(), public.trim().to_owned())
}

/// A program that goes on; ended with the test.
struct Running {
    child: Child,
    lines: Option<BufReader<std::process::ChildStdout>>,
}

impl Running {
    fn start(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = child.stdout.take().map(BufReader::new);
        Self { child, lines }
    }

    /// Its next line of output.
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.as_mut().unwrap().read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Gives a command the environment and the directory of another.
fn surround<'a>(command: &'a mut Command, model: &Command) -> &'a mut Command {
    for (name, value) in model.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.current_dir(model.get_current_dir().unwrap())
}

/// A file's content, for comparisons.
fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The sha256 of some bytes, as `sha256sum` prints it.
fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

/// Patience for what a guest does with megabytes under emulation.
const BULK: std::time::Duration = BOOT;
