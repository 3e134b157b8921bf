//! Reaching another computer's daemon by SSH: here a unix socket, each connection of which runs
//! `ssh HOST vmdeck host dial`; there the connection's bytes go to the daemon's socket.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

use crate::config::Paths;

use super::super::failure::Failure;
use super::super::forward;
use super::{small_runtime, start};

/// Runs `host dial`: standard input and output to the API's socket.
pub fn run(paths: &Paths) -> Result<(), Failure> {
    let runtime = small_runtime()?;
    let result = runtime.block_on(async {
        let socket = paths.api_socket();
        let stream = match UnixStream::connect(&socket).await {
            Ok(stream) => stream,
            Err(_) => {
                start::start_in_background(paths).await.map_err(Failure::new)?;
                UnixStream::connect(&socket).await?
            }
        };
        forward::stdio(stream, forward::Until::ItEnds).await
    });
    // A blocked read of standard input must not keep the process.
    runtime.shutdown_background();
    result
}

/// How the folder of a tunnel's socket begins; the process's id follows.
const PREFIX: &str = "vmdeck-ssh-";

/// Folders of this process's tunnels.
static TUNNELS: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// Removes what this process's tunnels have on disk; for its end.
pub fn close_tunnels() {
    for dir in TUNNELS.lock().drain(..) {
        // What cannot be removed is swept up by the next.
        let _ = std::fs::remove_dir_all(dir);
    }
}

/// Removes what killed processes have left: ssh ends its proxy commands with a signal.
fn sweep(parent: &Path) {
    for entry in std::fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|n| n.strip_prefix(PREFIX)).and_then(|n| n.split('-').next());
        let gone = pid.and_then(|p| p.parse::<u32>().ok()).is_some_and(|p| !Path::new(&format!("/proc/{p}")).exists());
        if gone {
            // Another user's stays.
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// Opens the local end of a tunnel to `user@host`; lives as long as this process.
///
/// # Errors
/// A text for the user.
pub async fn tunnel(to: String) -> Result<PathBuf, String> {
    probe(&to).await?;
    sweep(&std::env::temp_dir());
    let dir = std::env::temp_dir().join(format!("{PREFIX}{}-{}", std::process::id(), uuid::Uuid::new_v4().simple()));
    super::private_dir(&dir).map_err(|f| f.text)?;
    TUNNELS.lock().push(dir.clone());
    let socket = dir.join("api.sock");
    let listener = UnixListener::bind(&socket).map_err(|e| format!("{}: {e}", socket.display()))?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(carry(to.clone(), stream));
        }
    });
    Ok(socket)
}

/// Whether ssh gets through and finds a daemon: asks for the version once.
async fn probe(to: &str) -> Result<(), String> {
    let mut child = ssh(to).stderr(Stdio::piped()).spawn().map_err(|e| format!("cannot run ssh: {e}"))?;
    // Kept open until the answer is there: the end of a request's connection is its end.
    let mut stdin = child.stdin.take();
    if let Some(stdin) = &mut stdin {
        // What went wrong shows in the answer.
        let _ = stdin.write_all(b"GET /version HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await;
    }
    let mut answer = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        let _ = stdout.take(64).read_to_end(&mut answer).await;
    }
    if answer.starts_with(b"HTTP/1.1 200") {
        let _ = child.start_kill();
        return Ok(());
    }
    drop(stdin);
    let output = child.wait_with_output().await.map_err(|e| e.to_string())?;
    let text = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(if text.is_empty() { "no vmdeck daemon answers there (is vmdeck installed?)".into() } else { text })
}

fn ssh(to: &str) -> tokio::process::Command {
    let mut command = tokio::process::Command::new("ssh");
    // As a URL: it may hold a port.
    command
        .args(["-o", "BatchMode=yes", "-T", "--", &format!("ssh://{to}"), "vmdeck", "host", "dial"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    command
}

async fn carry(to: String, mut stream: UnixStream) {
    let Ok(mut child) = ssh(&to).spawn() else { return };
    if let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) {
        let mut both = tokio::io::join(stdout, stdin);
        // Either side's end ends the connection; the client sees that.
        let _ = tokio::io::copy_bidirectional(&mut both, &mut stream).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_killed_processes_left_is_swept_up() {
        let dir = tempfile::tempdir().unwrap();
        let make = |name: String| {
            std::fs::create_dir(dir.path().join(&name)).unwrap();
            dir.path().join(name)
        };
        // No process has a number beyond the kernel's limit.
        let dead = make(format!("{PREFIX}99999999-a"));
        let kept =
            [make(format!("{PREFIX}{}-b", std::process::id())), make(format!("{PREFIX}x")), make("other".into())];
        sweep(dir.path());
        assert!(!dead.exists());
        assert!(kept.iter().all(|k| k.exists()));
    }
}
