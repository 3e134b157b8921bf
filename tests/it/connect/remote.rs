//! `--host ssh://`: another computer's host through its SSH server. The other computer is this one, with a real sshd of
//! the test's own on loopback; everything after the login is as it would be elsewhere.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use super::{Running, booted, key, read, surround};
use crate::api::programs;
use crate::support::{SOON, Screen, World, binary};

/// An sshd that lets the world's key in as whoever runs the test, and the `ssh` that knows it.
struct Server {
    _running: Running,
    /// A folder for `PATH` in which `ssh` uses the test's files.
    programs: std::path::PathBuf,
    /// `ssh://USER@127.0.0.1:PORT`.
    url: String,
}

/// Starts it; `None`, with the reason printed, where there is none.
fn server(world: &World) -> Option<Server> {
    let unpacked = programs::installed("openssh")?;
    let home = world.home().join("sshd");
    let bin = home.join("bin");
    std::fs::create_dir_all(&bin).unwrap();
    std::os::unix::fs::symlink(binary(), bin.join("vmdeck")).unwrap();
    let (host_key, _) = key(world, "sshd/host");
    let (private, public) = key(world, "key");
    std::fs::write(home.join("authorized"), format!("{public}\n")).unwrap();
    // Free a moment ago; nobody else on this computer is given it so soon.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let path = std::env::var("PATH").unwrap_or_default();
    let config = format!(
        "ListenAddress 127.0.0.1\nPort {port}\nHostKey {host_key}\nAuthorizedKeysFile {}\nPidFile none\n\
         StrictModes no\nUsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin yes\n\
         MaxStartups 100\nSetEnv VMDECK_HOME={} PATH={}:{path}\n",
        home.join("authorized").display(),
        world.home().display(),
        bin.display(),
    );
    std::fs::write(home.join("sshd_config"), config).unwrap();
    let user = String::from_utf8(Command::new("id").arg("-un").output().unwrap().stdout).unwrap().trim().to_owned();
    let ssh_config = format!(
        "IdentityFile {private}\nIdentitiesOnly yes\nUserKnownHostsFile {}\nStrictHostKeyChecking accept-new\nLogLevel ERROR\n",
        home.join("known").display()
    );
    std::fs::write(home.join("ssh_config"), ssh_config).unwrap();
    let real = std::env::split_paths(&path).map(|d| d.join("ssh")).find(|p| p.is_file()).expect("`make setup` has ssh");
    let wrapper = format!("#!/bin/sh\nexec {} -F {}/ssh_config \"$@\"\n", real.display(), home.display());
    std::fs::write(bin.join("ssh"), wrapper).unwrap();
    std::fs::set_permissions(bin.join("ssh"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();

    let libraries =
        ["usr/lib", "lib"].map(|d| unpacked.join(d).join("x86_64-linux-gnu").display().to_string()).join(":");
    let sshd = format!("{}/usr/sbin/sshd -D -e -f {}/sshd_config", unpacked.display(), home.display());
    let mut command = if rustix::process::geteuid().is_root() {
        // Started by root it insists on a user and a folder of its own: it gets them in a mount namespace.
        let passwd = std::fs::read_to_string("/etc/passwd").unwrap();
        std::fs::write(home.join("passwd"), format!("{passwd}sshd:x:65533:65534::/run/sshd:/bin/false\n")).unwrap();
        let script = format!(
            "mount --bind {}/passwd /etc/passwd && mount -t tmpfs -o mode=755 tmpfs /run && mkdir /run/sshd && exec {sshd}",
            home.display()
        );
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", &script]);
        command
    } else {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("exec {sshd}")]);
        command
    };
    command.env("LD_LIBRARY_PATH", libraries).stderr(Stdio::piped());
    let mut running = Running::start(&mut command);
    let mut log = BufReader::new(running.child.stderr.take().unwrap());
    let mut said = String::new();
    while !said.contains("Server listening") {
        let before = said.len();
        log.read_line(&mut said).unwrap();
        if said.len() == before && said.contains("mount: ") {
            println!("skip ssh://: this root may not mount: {said}");
            return None;
        }
        assert_ne!(said.len(), before, "sshd ended: {said}");
    }
    // Its log must go on being read.
    std::thread::spawn(move || log.lines().for_each(drop));
    Some(Server { _running: running, programs: bin, url: format!("ssh://{user}@127.0.0.1:{port}") })
}

#[test]
fn verbs_console_and_ssh_through_another_computers_sshd() {
    let world = World::with_image();
    let Some(server) = server(&world) else { return };
    drop(booted(&world));
    let elsewhere = world.home().join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    let command = |arguments: &[&str]| {
        let model = world.command(arguments);
        let mut command = Command::new(model.get_program());
        let path = std::env::var("PATH").unwrap_or_default();
        // Nothing of the world but the way through ssh.
        command
            .args(["--host", &server.url])
            .args(arguments)
            .env("PATH", format!("{}:{path}", server.programs.display()))
            .env("VMDECK_HOME", &elsewhere)
            .env("HOME", &elsewhere)
            .env("TMPDIR", &elsewhere)
            .env_remove("VMDECK_HOST")
            .env_remove("VMDECK_CONTEXT")
            .env_remove("KUBECONFIG")
            .current_dir(&elsewhere);
        command
    };
    let ok = |arguments: &[&str]| {
        let output = command(arguments).stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };

    assert!(ok(&["get", "vm"]).contains("linux-vm"));
    assert!(
        ok(&["patch", "vm", "linux-vm", "--type", "merge", "-p", r#"{"metadata":{"labels":{"a":"b"}}}"#])
            .contains("patched")
    );
    assert_eq!(world.get("vm/linux-vm")["metadata"]["labels"]["a"], "b");

    let mut screen = Screen::of(&command(&["console", "linux-vm"]), 100, 30);
    screen.until("Successfully connected to linux-vm console", SOON);
    screen.keys("\r");
    screen.until(":~$ ", SOON);
    screen.keys("echo $((6*7))\r");
    screen.until("42", SOON);
    screen.keys("\x1d");
    assert_eq!(screen.wait(SOON), 0);

    let key = world.home().join("key").display().to_string();
    let known = elsewhere.join("known").display().to_string();
    let options = ["-i", &key, "--known-hosts", &known];
    assert_eq!(ok(&[&["ssh", "cloud@linux-vm", "--command", "id -un"][..], &options].concat()), "cloud\n");
    let system = ["ssh", "cloud@linux-vm", "--local-ssh", "--ssh-args=-o BatchMode=yes", "--command", "id -un"];
    assert_eq!(ok(&[&system[..], &options].concat()), "cloud\n");
    std::fs::write(elsewhere.join("file"), "over two hops").unwrap();
    ok(&[&["scp", "--ssh-args=-o BatchMode=yes", "file", "cloud@linux-vm:there"][..], &options].concat());
    ok(&[&["scp", "--ssh-args=-o BatchMode=yes", "cloud@linux-vm:there", "back"][..], &options].concat());
    assert_eq!(read(&elsewhere.join("back")), b"over two hops");

    // A power verb with its watch, and what is left of all these tunnels.
    assert!(ok(&["restart", "linux-vm", "--wait"]).contains("restarted"));
    let left: Vec<_> = std::fs::read_dir(&elsewhere).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(!left.iter().any(|n| n.to_string_lossy().starts_with("vmdeck-ssh-")), "{left:?}");

    // Who is not let in is told what ssh says.
    let nobody = server.url.replace("ssh://", "ssh://nobody-");
    let output =
        surround(&mut Command::new(binary()), &command(&[])).args(["--host", &nobody, "get", "vm"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("cannot be used") && said.contains("Permission denied"), "{said}");
    world.leaves_nothing();
}
