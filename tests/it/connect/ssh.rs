//! `vmdeck ssh` with our own client and with the system's, and `vmdeck scp`.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use super::{Running, booted, key, read, surround};
use crate::support::{SOON, Screen, World};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs a verb with something on standard input.
fn fed(command: &mut Command, input: &[u8]) -> Output {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn our_own_client_by_password_key_and_agent_and_a_changed_key() {
    let world = World::with_image();
    let _console = booted(&world);
    let (private, _) = key(&world, "key");

    // In a terminal, with a password; a wrong one is asked again. The machine's key is new and remembered.
    let mut screen = Screen::open(&world, &["ssh", "cloud@linux-vm"], 100, 30);
    screen.until("cloud's password: ", SOON);
    screen.keys("wrong\r");
    screen.until_like("a second question", SOON, |t| t.matches("cloud's password: ").count() == 2);
    screen.keys("cloud\r");
    screen.until("$ ", SOON);
    screen.keys("stty size; whoami\r");
    screen.until("30 100\ncloud\n", SOON);
    screen.resize(90, 25);
    screen.keys("clear; stty size\r");
    screen.until("25 90", SOON);
    screen.keys("exit 3\r");
    assert_eq!(screen.wait(SOON), 3);
    screen.assert_clean();
    let known = world.home().join(".ssh/known_hosts");
    let remembered = text(&read(&known));
    assert!(remembered.contains("linux-vm.default.") && remembered.contains(" ssh-ed25519 "), "{remembered}");

    // With a key: input, output, errors and the exit code of a command.
    let output = fed(
        &mut world.command(&["ssh", "cloud@linux-vm", "-i", &private, "--", "cat; echo wrong >&2; exit 7"]),
        b"some input",
    );
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(7), "some input".into()), "{output:?}");
    assert!(text(&output.stderr).contains("wrong"), "{output:?}");

    // Without a terminal, a key or an agent there is no way in.
    let alone = |arguments: &[&str]| {
        let model = world.command(arguments);
        let mut command = Command::new("setsid");
        surround(&mut command, &model).arg("--wait").arg(model.get_program()).args(model.get_args());
        command.env_remove("SSH_AUTH_SOCK").stdin(Stdio::null());
        command
    };
    let output = alone(&["ssh", "cloud@linux-vm", "--command", "true"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(text(&output.stderr).contains("does not let \"cloud\" in"), "{output:?}");

    // With an agent.
    let socket = world.home().join("agent");
    let _agent = Running::start(Command::new("ssh-agent").arg("-D").arg("-a").arg(&socket));
    let added = || Command::new("ssh-add").arg("-q").arg(&private).env("SSH_AUTH_SOCK", &socket).output().unwrap();
    let deadline = std::time::Instant::now() + SOON;
    // The agent tells nobody when it listens.
    while !added().status.success() {
        assert!(std::time::Instant::now() < deadline, "{:?}", added());
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let output =
        alone(&["ssh", "linux-vm", "-l", "cloud", "-c", "id -un"]).env("SSH_AUTH_SOCK", &socket).output().unwrap();
    assert_eq!(text(&output.stdout), "cloud\n", "{output:?}");

    // Another key under the machine's name: neither client logs in, and both say where the old one is.
    let (_, other) = key(&world, "other");
    let alias = remembered.split_whitespace().next().unwrap();
    let other = other.split(' ').take(2).collect::<Vec<_>>().join(" ");
    std::fs::write(&known, format!("{alias} {other}\n")).unwrap();
    let output = world.run(&["ssh", "cloud@linux-vm", "-i", &private, "--command", "id"]);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(1), String::new()), "{output:?}");
    assert!(text(&output.stderr).contains("known_hosts, line 1"), "{output:?}");
    let file = known.display().to_string();
    let system =
        ["ssh", "cloud@linux-vm", "--local-ssh", "-i", &private, "--known-hosts", &file, "--ssh-args=-o BatchMode=yes"];
    let output = world.run(&[&system[..], &["--command", "id"]].concat());
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(255), String::new()), "{output:?}");
    assert!(text(&output.stderr).contains("IDENTIFICATION HAS CHANGED"), "{output:?}");
    assert!(text(&output.stderr).contains("known_hosts:1"), "{output:?}");

    // What is not there is told before anything is asked.
    let output = world.run(&["ssh", "cloud@nobody", "--command", "id"]);
    assert_eq!(output.status.code(), Some(4), "{output:?}");
    let output = world.run(&["ssh", "cloud@linux-vm", "-p", "2222", "--command", "id"]);
    assert!(text(&output.stderr).contains("nothing listens on port 2222"), "{output:?}");
    world.leaves_nothing();
}

#[test]
fn files_both_ways() {
    let world = World::with_image();
    let mut console = booted(&world);
    let (private, _) = key(&world, "key");
    let known = world.home().join("known").display().to_string();
    let copy = |arguments: &[&str]| {
        let options = ["scp", "-i", &private, "--known-hosts", &known, "--ssh-args=-o BatchMode=yes"];
        let output = world.run(&[&options[..], arguments].concat());
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    };
    // Names that look like something else, and a folder.
    let content: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
    std::fs::write(world.home().join("a file: one"), &content).unwrap();
    std::fs::create_dir_all(world.home().join("tree/inner")).unwrap();
    std::fs::write(world.home().join("tree/inner/leaf"), "leaf").unwrap();
    std::fs::write(world.home().join("tree/top"), "top").unwrap();
    copy(&["./a file: one", "cloud@linux-vm:copied file"]);
    assert_eq!(console.run("sha256sum < 'copied file'").split(' ').next().unwrap(), super::sha256(&content));
    copy(&["cloud@linux-vm.default:copied file", "back"]);
    assert_eq!(read(&world.home().join("back")), content);
    copy(&["-r", "--preserve", "tree", "-l", "cloud", "linux-vm:"]);
    assert_eq!(console.run("cat tree/inner/leaf tree/top"), "leaftop");
    copy(&["-r", "cloud@linux-vm:tree", "tree-again"]);
    assert_eq!(read(&world.home().join("tree-again/inner/leaf")), b"leaf");

    for wrong in [["a", "b"], ["cloud@linux-vm:a", "cloud@linux-vm:b"]] {
        let output = world.run(&["scp", wrong[0], wrong[1]]);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(text(&output.stderr).contains("exactly one side"), "{output:?}");
    }
    world.leaves_nothing();
}
