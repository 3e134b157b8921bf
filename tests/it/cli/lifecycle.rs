//! The daemon's start and stop from the command line.

use crate::support::World;

#[test]
fn a_killed_daemons_socket_is_replaced() {
    let mut world = World::start();
    let socket = world.paths.api_socket();
    world.kill_daemon();
    assert!(socket.exists());
    let output = world.run(&["host", "status"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    // A verb starts the next one by itself.
    assert!(world.ok(&["get", "ns"]).contains("default"));
    let status = world.ok(&["host", "status"]);
    for want in ["running, pid", "Socket:", "Store:", "Accelerator:", "Machines:"] {
        assert!(status.contains(want), "{want}: {status}");
    }
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(socket.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    world.ok(&["host", "stop"]);
    assert!(!socket.exists());
    assert!(world.ok(&["host", "stop"]).contains("No host daemon"));
}

#[test]
fn many_starters_make_one_daemon() {
    let world = World::without_daemon();
    let starters: Vec<_> = (0..4)
        .map(|_| {
            let mut command = world.command(&["get", "ns", "default", "-o", "name"]);
            command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap()
        })
        .collect();
    for starter in starters {
        let output = starter.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}\n{}", world.log_tail());
        assert_eq!(String::from_utf8_lossy(&output.stdout), "namespace/default\n");
    }
    let log = std::fs::read_to_string(world.paths.host_log()).unwrap();
    assert_eq!(log.matches(" serving ").count(), 1, "{log}");
}

#[test]
fn a_second_daemon_is_refused_with_the_firsts_pid() {
    let world = World::start();
    let output = world.run(&["host", "start", "--foreground"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains(&format!("pid {}", world.daemon_pid())), "{said}");
}

#[test]
fn a_path_too_long_for_a_socket_is_told() {
    let world = World::without_daemon();
    let long = world.home().join("x".repeat(120));
    let output = world.command(&["host", "start"]).env("VMDECK_HOME", &long).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success());
    assert!(said.contains("VMDECK_HOME to a shorter folder"), "{said}");
}

#[test]
fn a_wrong_settings_file_is_told_to_whoever_starts() {
    let world = World::without_daemon();
    std::fs::create_dir_all(&world.paths.config).unwrap();
    std::fs::write(world.paths.settings_file(), "[host]\nacel = \"kvm\"\n").unwrap();
    let output = world.run(&["get", "vm"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("config.toml") && said.contains("acel"), "{said}");
}

#[test]
fn dial_carries_the_api_over_standard_input_and_output() {
    use std::io::Write;
    let world = World::start();
    let mut command = world.command(&["host", "dial"]);
    let mut child = command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"GET /version HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let output = {
        let waited = child.wait_with_output().unwrap();
        drop(stdin);
        waited
    };
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("HTTP/1.1 200"), "{output:?}");
}

#[test]
fn the_unit_is_printed_with_this_worlds_directory() {
    let world = World::without_daemon();
    let unit = world.ok(&["host", "install", "--print"]);
    assert!(unit.contains("host start --foreground") && unit.contains(&world.home().display().to_string()), "{unit}");
}
