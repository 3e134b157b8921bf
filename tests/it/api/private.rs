//! What of a daemon others on the machine can reach: files, and sockets.

use std::collections::HashSet;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;

use crate::support::World;

/// Everything below a directory, not following links.
fn below(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut found = vec![dir.to_path_buf()];
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        match entry.file_type().unwrap().is_dir() {
            true => found.extend(below(&entry.path())),
            false => found.push(entry.path()),
        }
    }
    found
}

/// Listening TCP sockets of a process: local addresses as the kernel writes them.
fn listening(pid: i32) -> Vec<String> {
    let sockets: HashSet<String> = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .filter_map(|fd| std::fs::read_link(fd.unwrap().path()).ok())
        .filter_map(|link| Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    assert!(!sockets.is_empty(), "the daemon has its unix socket at least");
    let tables = ["tcp", "tcp6"].map(|table| std::fs::read_to_string(format!("/proc/{pid}/net/{table}")));
    let rows: Vec<String> =
        tables.into_iter().flatten().flat_map(|t| t.lines().map(str::to_owned).collect::<Vec<_>>()).collect();
    let rows = rows.iter().map(|row| row.split_whitespace().collect::<Vec<_>>());
    // Columns: number, local address, remote address, state (0A is LISTEN), ..., the tenth is the inode.
    rows.filter(|r| r.len() > 9 && r[3] == "0A" && sockets.contains(r[9])).map(|r| r[1].to_owned()).collect()
}

#[test]
fn files_are_for_the_owner_and_nothing_listens_unasked() {
    let mut world = World::start();
    assert_eq!(listening(world.daemon_pid()), [""; 0]);
    world.ok(&["host", "stop"]);
    world.configure("[host]\nlisten = \"127.0.0.1:0\"\n");
    world.start_daemon();
    let listens = listening(world.daemon_pid());
    // Little-endian 127.0.0.1.
    assert!(matches!(listens.as_slice(), [one] if one.starts_with("0100007F:")), "{listens:?}");
    world.ok(&["kubeconfig"]);

    let mode = |path: &Path| std::fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777;
    for dir in [&world.paths.state, &world.paths.runtime] {
        // QEMU has a user of its own under root and has to pass through; nobody else looks in or writes.
        assert!(matches!(mode(dir), 0o700 | 0o710 | 0o711), "{} {:o}", dir.display(), mode(dir));
    }
    assert!(std::fs::symlink_metadata(world.paths.api_socket()).unwrap().file_type().is_socket());
    assert_eq!(mode(&world.paths.api_socket()), 0o600);
    let private: Vec<_> = below(&world.paths.state)
        .into_iter()
        .filter(|p| {
            let name = p.file_name().and_then(|n| n.to_str()).unwrap_or_default();
            name.contains(".db") || name.contains("audit.log") || name.ends_with(".key") || name == "kubeconfig"
        })
        .collect();
    for word in [".db", "audit.log", "kubeconfig"] {
        assert!(private.iter().any(|p| p.to_string_lossy().contains(word)), "no {word} in {private:?}");
    }
    for path in private {
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
    for path in below(&world.paths.state).into_iter().chain(below(&world.paths.runtime)) {
        let link = std::fs::symlink_metadata(&path).unwrap().file_type().is_symlink();
        assert!(link || mode(&path) & 0o022 == 0, "{} is writable by others: {:o}", path.display(), mode(&path));
    }
}

#[test]
fn a_state_directory_that_others_can_write_is_refused() {
    let world = World::without_daemon();
    let state = &world.paths.state;
    std::fs::create_dir_all(state).unwrap();
    std::fs::set_permissions(state, std::fs::Permissions::from_mode(0o777)).unwrap();
    let output = world.run(&["host", "start"]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert!(!output.status.success() && told.contains("chmod go-w"), "{told}");
    assert!(!world.paths.api_socket().exists());
    std::fs::set_permissions(state, std::fs::Permissions::from_mode(0o700)).unwrap();
    world.ok(&["host", "start"]);
}
