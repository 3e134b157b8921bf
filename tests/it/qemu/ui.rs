//! The UI on real machines, in a pseudo-terminal of 80x24.

use std::io::Read;
use std::net::{TcpListener, TcpStream};

use serde_json::json;

use crate::support::{BOOT, SOON, Screen, World};

/// Leaves typing to the console of the guest and goes back to where it was opened.
const LEAVE_CONSOLE: &str = "\x1d";

#[test]
fn create_log_in_edit_review_save_restart() {
    let world = World::with_image();
    let mut screen = Screen::open(&world, &[], 80, 24);
    screen.until("Virtual machines", SOON);
    screen.until("No virtual machines in namespace default", SOON);

    // Create, with the form: name, memory, password.
    screen.keys("+");
    screen.until("Create a virtual machine", SOON);
    screen.until("guest (vi", SOON);
    screen.keys("\t\t\t\t\t\x7f\x7f\x7f256Mi");
    screen.until("256Mi", SOON);
    screen.keys("\t\t\t\t\t\tcloud");
    screen.keys("\x13");
    screen.until("created", SOON);
    screen.until("● Running", BOOT);

    // Log in on the console.
    screen.keys("c");
    screen.until("frees the keyboard", SOON);
    log_in(&mut screen);
    screen.keys("echo cores: $(nproc)\r");
    screen.until("cores: 1", SOON);
    screen.keys(LEAVE_CONSOLE);
    screen.until("q leave", SOON);
    screen.keys("q");

    // Log in by SSH, in a tab that knows its size; a logout closes it.
    screen.until("Virtual machine default/vm-1", SOON);
    screen.keys("C");
    screen.until("SSH to default/vm-1", SOON);
    screen.keys("cloud\r");
    screen.until("cloud@vm-1", SOON);
    screen.until_like("a password prompt", BOOT, |text| last_console_line(text).ends_with("password:"));
    screen.keys("cloud\r");
    screen.until_like("a shell", SOON, |text| last_console_line(text).ends_with(":~$"));
    screen.keys("echo size: $(stty size)\r");
    screen.until("size: 21 80", SOON);
    screen.keys("exit\r");
    screen.until("logged out", SOON);

    // A forwarded port is there for as long as its task.
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    screen.until("Virtual machine default/vm-1", SOON);
    screen.keys("F");
    screen.until("Forward ports to default/vm-1", SOON);
    screen.keys(&format!("{}:22\r", free.port()));
    screen.until("Forwarding from", SOON);
    let mut greeting = [0; 4];
    let mut server = TcpStream::connect(free).unwrap();
    server.set_read_timeout(Some(SOON)).unwrap();
    server.read_exact(&mut greeting).unwrap();
    assert_eq!(&greeting, b"SSH-");
    screen.keys("t");
    screen.until("Tasks", SOON);
    screen.keys("x");
    screen.until("cancelled", SOON);
    let closed = server.read_to_end(&mut Vec::new());
    assert!(closed.is_ok() || closed.is_err_and(|e| e.kind() == std::io::ErrorKind::ConnectionReset));
    screen.keys("\x1b");

    // Edit: cores 1 -> 2, reviewed, saved.
    screen.until("Virtual machine default/vm-1", SOON);
    screen.keys("e");
    screen.until("unchanged", SOON);
    screen.keys("\x06");
    screen.until("search:", SOON);
    screen.keys("cores: 1\r");
    screen.until_without("search:", SOON);
    screen.keys("\x1b[F\x7f2");
    screen.until("cores: 2", SOON);
    screen.keys("\x13");
    let review = screen.until("Review VirtualMachine default/vm-1", SOON);
    assert!(review.contains("at restart") && review.contains("cpu.cores"), "{review}");
    screen.keys("y");
    screen.until("1 change waits for a restart", SOON);
    let machine = world.get("vm/vm-1");
    assert_eq!(machine["spec"]["cpu"]["cores"], 2);
    let machine = world.until("vm/vm-1", "waiting for a restart", SOON, |o| {
        o["status"]["restartAwaitingChanges"].as_array().is_some_and(|c| !c.is_empty())
    });
    assert_eq!(
        machine["status"]["restartAwaitingChanges"],
        json!([{"currentValue": 1, "desiredValue": 2, "operation": "replace", "path": "cpu.cores"}])
    );
    screen.until("↻ restart needed", SOON);

    // Restart now.
    screen.keys("r");
    screen.until("1 waiting", SOON);
    screen.keys("y");
    screen.until("was restarted", BOOT);
    screen.until_without("restart needed", SOON);
    screen.keys("c");
    screen.until("frees the keyboard", SOON);
    log_in(&mut screen);
    screen.keys("echo cores: $(nproc)\r");
    screen.until("cores: 2", SOON);
    screen.keys(LEAVE_CONSOLE);
    screen.until("q leave", SOON);
    screen.keys("q");
    screen.until("Virtual machine default/vm-1", SOON);

    // Leave: the terminal is as before, the machine goes on.
    screen.keys("\x03");
    screen.until("again to leave", SOON);
    screen.keys("\x03");
    assert_eq!(screen.wait(SOON), 0);
    screen.assert_clean();
    assert_eq!(world.qemu_pids().len(), 1);
    world.leaves_nothing();
}

/// Waits for a login prompt on the console's last line with text, and answers it.
fn log_in(screen: &mut Screen) {
    screen.until_like("a login prompt", BOOT, |text| last_console_line(text).ends_with("login:"));
    screen.keys("cloud\r");
    screen.until_like("a password prompt", SOON, |text| last_console_line(text).starts_with("Password"));
    screen.keys("cloud\r");
    screen.until_like("a shell", SOON, |text| last_console_line(text).ends_with(":~$"));
}

/// The last line with text above the pane's lower border.
fn last_console_line(screen: &str) -> String {
    let lines: Vec<&str> = screen.lines().collect();
    let pane = &lines[2.min(lines.len())..lines.len().saturating_sub(1)];
    pane.iter().rev().map(|l| l.trim()).find(|l| !l.is_empty()).unwrap_or_default().to_owned()
}

#[test]
fn the_terminal_is_clean_after_sigterm() {
    let world = World::start();
    let mut screen = Screen::open(&world, &[], 80, 24);
    screen.until("Virtual machines", SOON);
    let pid = rustix::process::Pid::from_raw(screen.pid()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    screen.wait(SOON);
    screen.assert_clean();
}

#[test]
fn a_resize_repaints_and_quitting_leaves_a_clean_terminal() {
    let world = World::start();
    let mut screen = Screen::open(&world, &[], 120, 36);
    screen.until("Virtual machines", SOON);
    screen.until("local host", SOON);
    screen.resize(80, 24);
    screen.until_like("a screen of 24 lines", SOON, |t| t.lines().count() == 24 && t.contains("Virtual machines"));
    screen.keys(":q\r");
    if screen.text().contains("again") {
        screen.keys("\x03");
    }
    assert_eq!(screen.wait(SOON), 0);
    screen.assert_clean();
}
