//! Starting and stopping the daemon. `vmdeck host start` spawns the daemon (`host start --daemon`), which leaves
//! our session, and waits until it says `ready` or why not on its standard output. As the starter exits, the daemon
//! has no parent that could take it down.

use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::inotify;

use crate::config::Paths;

use super::super::failure::Failure;
use super::super::out;
use super::{lock, private_dir};

/// First line of the daemon's answer when it serves.
pub const READY: &str = "ready";
/// First word of the answer when another daemon has the state directory.
pub const HELD: &str = "held";

/// How long a daemon that another process starts may take until it answers.
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs `host start`.
pub fn command(paths: &Paths) -> Result<(), Failure> {
    let fresh = ensure(paths).map_err(Failure::new)?;
    let pid = lock::holder(&paths.lock_file()).map_or_else(|| "unknown".into(), |p| p.to_string());
    let word = if fresh { "started" } else { "already running" };
    out::line(&format!("Host daemon {word}, pid {pid}, socket {}", paths.api_socket().display()))
}

/// Makes sure that a daemon answers; for the viewer and the one-shot verbs. Whether it was started now.
///
/// # Errors
/// A text for the user.
pub async fn start_in_background(paths: &Paths) -> Result<bool, String> {
    let exe = std::env::current_exe().map_err(|e| format!("cannot find this program: {e}"))?;
    let output = tokio::process::Command::new(exe)
        .args(["host", "start"])
        .stdin(Stdio::null())
        .env_remove("VMDECK_HOST")
        .env_remove("VMDECK_CONTEXT")
        .output()
        .await
        .map_err(|e| format!("cannot start the host daemon: {e}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).contains("started"));
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let text = text.trim().trim_start_matches("vmdeck: ");
    let log = paths.host_log();
    Err(if text.is_empty() { format!("the host daemon did not start; see {}", log.display()) } else { text.to_owned() })
}

/// Starts a daemon unless one answers. Whether it was started now.
fn ensure(paths: &Paths) -> Result<bool, String> {
    let socket = paths.api_socket();
    if UnixStream::connect(&socket).is_ok() {
        return Ok(false);
    }
    private_dir(&paths.state).map_err(|f| f.text)?;
    private_dir(&paths.runtime).map_err(|f| f.text)?;
    let answer = spawn(paths)?;
    match answer.split_once('\n').map_or(answer.as_str(), |(first, _)| first) {
        READY => Ok(true),
        first if first.starts_with(HELD) => {
            // Another starter was faster, or a daemon is on its way down: whichever, wait for an answer.
            wait_for_socket(&socket, PATIENCE).map(|()| false).map_err(|e| {
                let pid = lock::holder(&paths.lock_file()).map_or_else(|| "unknown".into(), |p| p.to_string());
                format!("a host daemon (pid {pid}) has {} but does not answer: {e}", paths.state.display())
            })
        }
        _ if answer.trim().is_empty() => {
            Err(format!("the host daemon ended without a word; see {}", paths.host_log().display()))
        }
        _ => Err(answer.trim().to_owned()),
    }
}

/// Spawns the daemon and returns all that it says before it closes its standard output.
fn spawn(paths: &Paths) -> Result<String, String> {
    let failed = |e: std::io::Error| format!("cannot start the host daemon: {e}");
    let exe = std::env::current_exe().map_err(failed)?;
    // Panics and the like; everything else goes to the log by itself.
    let stderr =
        std::fs::File::options().append(true).create(true).mode(0o600).open(paths.host_log()).map_err(failed)?;
    let mut command = Command::new(exe);
    command
        .args(["host", "start", "--daemon"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(stderr)
        .current_dir("/");
    if let Some(home) = std::env::var_os("VMDECK_HOME").filter(|h| !h.is_empty()) {
        // It was relative to our directory, not to the daemon's.
        command.env("VMDECK_HOME", std::path::absolute(home).map_err(failed)?);
    }
    let mut child = command.spawn().map_err(failed)?;
    let mut answer = String::new();
    if let Some(stdout) = child.stdout.as_mut() {
        stdout.take(64 << 10).read_to_string(&mut answer).map_err(failed)?;
    }
    Ok(answer)
}

/// Waits until somebody accepts connections at `socket`, woken by changes of its directory.
fn wait_for_socket(socket: &Path, patience: Duration) -> Result<(), String> {
    let text = |e: rustix::io::Errno| std::io::Error::from(e).to_string();
    let watch = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK).map_err(text)?;
    let dir = socket.parent().unwrap_or(Path::new("/"));
    inotify::add_watch(&watch, dir, inotify::WatchFlags::CREATE | inotify::WatchFlags::MOVED_TO).map_err(text)?;
    let deadline = Instant::now() + patience;
    loop {
        let error = match UnixStream::connect(socket) {
            Ok(_) => return Ok(()),
            Err(e) => e.to_string(),
        };
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(format!("{error} (waited {} s)", patience.as_secs()));
        }
        let mut fds = [rustix::event::PollFd::new(&watch, rustix::event::PollFlags::IN)];
        let limit = rustix::event::Timespec::try_from(left).ok();
        // An interrupted or timed-out wait only means another attempt.
        let _ = rustix::event::poll(&mut fds, limit.as_ref());
        let mut buffer = [std::mem::MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(&watch, &mut buffer);
        while reader.next().is_ok() {}
    }
}

/// Runs `host stop`: asks the daemon to end and waits until it has let go of its lock. Machines go on.
pub fn stop(paths: &Paths) -> Result<(), Failure> {
    let lock_file = paths.lock_file();
    let Some(pid) = lock::holder(&lock_file) else {
        return out::line("No host daemon is running.");
    };
    let target = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    let target = target.ok_or_else(|| Failure::new(format!("{} holds no pid", lock_file.display())))?;
    rustix::process::kill_process(target, rustix::process::Signal::TERM)
        .map_err(|e| Failure::new(format!("cannot stop the host daemon (pid {pid}): {}", std::io::Error::from(e))))?;
    let (tx, rx) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        // The receiver may have lost patience.
        let _ = tx.send(lock::wait_free(&lock_file));
    });
    match rx.recv_timeout(PATIENCE) {
        Ok(result) => result?,
        Err(_) => {
            return Err(Failure::new(format!(
                "the host daemon (pid {pid}) does not end; see {}",
                paths.host_log().display()
            )));
        }
    }
    out::line(&format!("Host daemon stopped (pid {pid}). Machines go on running; the next daemon takes them over."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_for_a_socket_ends_when_it_appears() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("s");
        assert!(wait_for_socket(&socket, Duration::from_millis(20)).is_err());
        let path = socket.clone();
        let waiter = std::thread::spawn(move || wait_for_socket(&path, Duration::from_secs(10)));
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        waiter.join().unwrap().unwrap();
    }
}
