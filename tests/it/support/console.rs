//! A machine's console as a script reads it: wait for text, type a line, run a command.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::runtime::Handle;
use vmdeck::client::{ConsoleStream, Session};

use super::{BOOT, PASSWORD, SOON, USER};

/// An open console. Output is kept until it has been waited for.
pub struct Console {
    stream: ConsoleStream,
    runtime: Handle,
    seen: String,
    machine: String,
    /// Where the machine's sockets are.
    sockets: PathBuf,
}

impl Console {
    /// Opens the console of a machine, with what it printed before.
    pub fn open(session: &Session, runtime: &Handle, sockets: &Path, machine: &str) -> Self {
        let stream = runtime.block_on(session.console("default", machine, 1 << 20));
        let stream = stream.unwrap_or_else(|e| panic!("console of {machine}: {e}"));
        Self {
            stream,
            runtime: runtime.clone(),
            seen: String::new(),
            machine: machine.to_owned(),
            sockets: sockets.to_owned(),
        }
    }

    /// Waits for a text and gives all that came before it; later waits begin behind it.
    pub fn until(&mut self, text: &str, patience: Duration) -> String {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(at) = self.seen.find(text) {
                let before = self.seen[..at].to_owned();
                self.seen.drain(..at + text.len());
                return before;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let next = self.runtime.block_on(async { tokio::time::timeout(left, self.stream.output.recv()).await });
            match next {
                Ok(Some(bytes)) => self.seen.push_str(&String::from_utf8_lossy(&bytes)),
                Ok(None) => {
                    let end = self.runtime.block_on(async { (&mut self.stream.closed).await });
                    panic!("{}: console ended ({end:?}) before {text:?}; it shows:\n{}", self.machine, self.seen)
                }
                Err(_) => {
                    let state = guest_state(&self.sockets);
                    panic!("{}: no {text:?} in {patience:?}; console:\n{}\n{state}", self.machine, self.seen)
                }
            }
        }
    }

    /// Types something.
    pub fn send(&mut self, text: &str) {
        let bytes = Bytes::copy_from_slice(text.as_bytes());
        self.runtime
            .block_on(self.stream.input.send(bytes))
            .unwrap_or_else(|_| panic!("{}: console closed", self.machine));
    }

    /// Waits for the login prompt and logs in as the user of the manifest.
    pub fn login(&mut self) {
        self.until(" login: ", BOOT);
        self.send(&format!("{USER}\n"));
        self.until("Password: ", SOON);
        self.send(&format!("{PASSWORD}\n"));
        self.until(":~$ ", SOON);
    }

    /// Runs a command in the shell and gives what it printed, without line ends around it.
    pub fn run(&mut self, command: &str) -> String {
        // The marks are computed by the guest, so that the echo of what is typed does not hold them.
        self.send(&format!("echo \"<$((6*7))\"; {command}; echo \"$((6*7))>\"\n"));
        self.until("<42\r\n", SOON);
        let output = self.until("42>", SOON);
        output.replace("\r\n", "\n").trim().to_owned()
    }
}

/// What the guests' processors do, for messages: a silent console alone does not tell a dead guest from a lost stream.
fn guest_state(sockets: &Path) -> String {
    let monitors = super::files(sockets).into_iter().filter(|file| file.ends_with("rescue"));
    monitors
        .map(|file| format!("--- {}\n{}", file.display(), ask(&sockets.join(&file)).unwrap_or_else(|e| e.to_string())))
        .collect()
}

fn ask(monitor: &Path) -> std::io::Result<String> {
    // Paths of sockets are short; this one is opened through its directory.
    let directory = std::fs::File::open(monitor.parent().unwrap_or(monitor))?;
    let short = format!("/proc/self/fd/{}/rescue", std::os::fd::AsRawFd::as_raw_fd(&directory));
    let mut stream = UnixStream::connect(short)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let mut answers = String::new();
    lines.next().transpose()?;
    for command in [
        r#"{"execute":"qmp_capabilities"}"#,
        r#"{"execute":"query-status"}"#,
        r#"{"execute":"human-monitor-command","arguments":{"command-line":"info registers -a"}}"#,
        r#"{"execute":"query-blockstats"}"#,
    ] {
        stream.write_all(format!("{command}\n").as_bytes())?;
        answers += &lines.next().transpose()?.unwrap_or_default().replace("\\r\\n", "\n");
        answers.push('\n');
    }
    Ok(answers)
}
