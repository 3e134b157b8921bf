//! Our own program as a child: SSH in a tab, a machine's screen, forwarded ports. A child and not a call, because
//! these verbs ask questions (a new host key, a password) and start other programs; so they do here exactly what they
//! do in a shell.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use pty_process::Size;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::sync::{mpsc, watch};

use super::super::console::{History, Target};
use super::super::message::{ConsoleNews, Failure, ObjectRef};
use super::Sender;
use super::consoles::{AbortOnDrop, tell};
use super::jobs::Progress;
use crate::client::{Engine, Session};
use crate::types::text::printable;

/// What the tab's emulator understands.
const TERM: &str = "xterm-256color";

/// How long the end of the output may take after the child is gone: a program it left behind may hold the terminal.
const LAST_WORDS: Duration = Duration::from_millis(300);

/// Longest line of a child that is shown.
const LONGEST_LINE: u64 = 4096;

/// A program with its arguments.
#[derive(Debug, PartialEq, Eq)]
pub struct Command {
    program: PathBuf,
    arguments: Vec<OsString>,
}

/// A verb of ours on an engine. Values are joined to their flags: none can be taken for a flag of its own.
fn verb(engine: &Engine, kubeconfig: Option<&Path>, namespace: &str, verb: &str) -> Command {
    let mut arguments: Vec<OsString> = vec![verb.into()];
    match engine {
        Engine::Local { socket } => {
            let mut host = OsString::from("--host=unix://");
            host.push(socket);
            arguments.push(host);
        }
        Engine::Cluster { context } => {
            arguments.push(format!("--context={context}").into());
            if let Some(file) = kubeconfig {
                let mut flag = OsString::from("--kubeconfig=");
                flag.push(file);
                arguments.push(flag);
            }
        }
    }
    arguments.push(format!("--namespace={namespace}").into());
    let program = std::env::current_exe().unwrap_or_else(|_| "vmdeck".into());
    Command { program, arguments }
}

/// `vmdeck ssh`.
pub fn ssh(engine: &Engine, kubeconfig: Option<&Path>, target: &Target, login: &str) -> Command {
    let mut command = verb(engine, kubeconfig, &target.namespace, "ssh");
    command.arguments.push(format!("--username={login}").into());
    command.arguments.push(target.name.clone().into());
    command
}

/// Runs a command in a terminal of its own until it ends or the task is aborted.
pub async fn in_terminal(
    command: Command,
    target: &Target,
    mut from_user: mpsc::Receiver<Bytes>,
    mut sizes: watch::Receiver<(u16, u16)>,
    news: &Sender,
) -> ConsoleNews {
    let started = || -> pty_process::Result<_> {
        let (pty, pts) = pty_process::open()?;
        let (columns, rows) = *sizes.borrow();
        pty.resize(Size::new(rows, columns))?;
        let child = pty_process::Command::new(&command.program)
            .args(&command.arguments)
            .env("TERM", TERM)
            .kill_on_drop(true)
            .spawn(pts)?;
        Ok((pty, child))
    };
    let (pty, mut child) = match started() {
        Ok(both) => both,
        Err(error) => return ConsoleNews::Ended(format!("{} cannot be run: {error}", command.program.display())),
    };
    tell(news, target, ConsoleNews::Attached(History::None)).await;
    let (mut output, mut input) = pty.into_split();
    // A task of its own: a child that does not read must not keep us from reading.
    let writer = tokio::spawn(async move {
        loop {
            tokio::select! {
                bytes = from_user.recv() => match bytes {
                    Some(bytes) if input.write_all(&bytes).await.is_ok() => {}
                    _ => break,
                },
                changed = sizes.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    let (columns, rows) = *sizes.borrow_and_update();
                    // The worst is a picture of the wrong size.
                    let _ = input.resize(Size::new(rows, columns));
                }
            }
        }
    });
    let _writer = AbortOnDrop(writer.abort_handle());
    let status = tokio::select! {
        () = copy(&mut output, target, news) => child.wait().await,
        status = child.wait() => {
            let _ = tokio::time::timeout(LAST_WORDS, copy(&mut output, target, news)).await;
            status
        }
    };
    match status {
        Ok(status) if status.success() => ConsoleNews::Closed,
        Ok(status) => ConsoleNews::Ended(match status.code() {
            Some(code) => format!("ssh ended with exit code {code}"),
            None => format!("ssh: {status}"),
        }),
        Err(error) => ConsoleNews::Ended(format!("ssh: {error}")),
    }
}

/// Everything a terminal says, until its other end is closed.
async fn copy(output: &mut (impl AsyncRead + Unpin), target: &Target, news: &Sender) {
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(16 << 10);
        match output.read_buf(&mut buffer).await {
            // EIO: nobody has the terminal open any more.
            Ok(0) | Err(_) => return,
            Ok(_) => tell(news, target, ConsoleNews::Bytes(buffer.split().freeze())).await,
        }
    }
}

/// A machine's screen: in a viewer, or at a port where no viewer could show anything.
pub async fn screen(session: &Session, machine: &ObjectRef, progress: &Progress) -> Result<String, Failure> {
    let mut command = verb(&session.engine, progress.kubeconfig.as_deref(), &machine.namespace, "vnc");
    let graphical = ["DISPLAY", "WAYLAND_DISPLAY"].iter().any(|v| std::env::var_os(v).is_some_and(|v| !v.is_empty()));
    if !graphical {
        command.arguments.push("--proxy-only".into());
        progress.tell("no graphical session here: opening a port for a viewer", None).await;
    }
    command.arguments.push(machine.name.clone().into());
    follow(command, progress, |line| match port(line) {
        Some(port) => format!("connect a VNC viewer to 127.0.0.1:{port}; cancel the task to close it"),
        None => line.to_owned(),
    })
    .await?;
    Ok(format!("The screen of {} was closed", machine.path()))
}

/// The port of `vnc --proxy-only`'s one line, `{"port":N}`.
fn port(line: &str) -> Option<u64> {
    serde_json::from_str::<serde_json::Value>(line).ok()?["port"].as_u64()
}

/// Ports of a machine on this computer.
pub async fn forward(
    session: &Session,
    machine: &ObjectRef,
    ports: &[String],
    progress: &Progress,
) -> Result<String, Failure> {
    let mut command = verb(&session.engine, progress.kubeconfig.as_deref(), &machine.namespace, "port-forward");
    command.arguments.push(machine.name.clone().into());
    command.arguments.extend(ports.iter().map(OsString::from));
    follow(command, progress, str::to_owned).await?;
    Ok(format!("The ports of {} are closed", machine.path()))
}

/// Runs a command without a terminal; each line it says is the task's state, the last one its failure.
async fn follow(command: Command, progress: &Progress, say: impl Fn(&str) -> String) -> Result<(), Failure> {
    let cannot = |error: std::io::Error| Failure::new(&format!("{} cannot be run: {error}", command.program.display()));
    let mut child = tokio::process::Command::new(&command.program)
        .args(&command.arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // Signals of our terminal are not for it: ctrl-z here must not stop a forwarded port.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(cannot)?;
    let (lines, mut heard) = mpsc::channel::<String>(16);
    let readers = [
        child.stdout.take().map(|out| tokio::spawn(read_lines(out, lines.clone()))),
        child.stderr.take().map(|err| tokio::spawn(read_lines(err, lines.clone()))),
    ];
    let _readers: Vec<_> = readers.into_iter().flatten().map(|r| AbortOnDrop(r.abort_handle())).collect();
    drop(lines);
    let mut last = String::new();
    while let Some(line) = heard.recv().await {
        let line = printable(&line).into_owned();
        progress.tell(say(&line), None).await;
        last = line;
    }
    let status = child.wait().await.map_err(cannot)?;
    if status.success() {
        return Ok(());
    }
    Err(Failure::new(if last.is_empty() { "it ended without a word" } else { &last }))
}

async fn read_lines(from: impl AsyncRead + Unpin, to: mpsc::Sender<String>) {
    let mut from = BufReader::new(from);
    loop {
        let mut line = Vec::new();
        match (&mut from).take(LONGEST_LINE).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                if !text.is_empty() && to.send(text).await.is_err() {
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::message::{Event, TaskId, TaskNews};
    use super::super::News;
    use super::*;

    fn strings(command: &Command) -> Vec<&str> {
        command.arguments.iter().map(|a| a.to_str().unwrap()).collect()
    }

    #[test]
    fn no_value_can_be_a_flag() {
        let local = Engine::Local { socket: "/run/a b/api.sock".into() };
        let command = ssh(&local, Some(Path::new("/k")), &Target::serial("-n", "web"), "-oProxyCommand=x");
        let expected =
            ["ssh", "--host=unix:///run/a b/api.sock", "--namespace=-n", "--username=-oProxyCommand=x", "web"];
        assert_eq!(strings(&command), expected);
        let cluster = Engine::Cluster { context: "prod".into() };
        let command = verb(&cluster, Some(Path::new("/k")), "default", "vnc");
        assert_eq!(strings(&command), ["vnc", "--context=prod", "--kubeconfig=/k", "--namespace=default"]);
    }

    fn shell(script: &str) -> Command {
        Command { program: "/bin/sh".into(), arguments: vec!["-c".into(), script.into()] }
    }

    /// Runs a script in a terminal; its output and how it ended.
    async fn run(script: &str, typed: &[&'static str]) -> (String, ConsoleNews) {
        let (news, mut heard) = mpsc::channel(64);
        let (input, from_user) = mpsc::channel(8);
        let (size, sizes) = watch::channel((80, 24));
        for text in typed {
            input.send(Bytes::from_static(text.as_bytes())).await.unwrap();
        }
        size.send_replace((100, 30));
        let end = in_terminal(shell(script), &Target::serial("default", "web"), from_user, sizes, &news).await;
        drop(news);
        let mut said = String::new();
        while let Some(News::Event(Event::Console { news, .. })) = heard.recv().await {
            if let ConsoleNews::Bytes(bytes) = news {
                said.push_str(&String::from_utf8_lossy(&bytes));
            }
        }
        (said, end)
    }

    #[tokio::test]
    async fn a_command_has_a_terminal_with_our_size_and_what_was_typed() {
        let (said, end) = run("read word; stty size; echo got $word $TERM; test -t 0", &["hello\n"]).await;
        assert!(said.contains("30 100") && said.contains("got hello xterm-256color"), "{said}");
        assert!(matches!(end, ConsoleNews::Closed), "{end:?}");
    }

    #[tokio::test]
    async fn a_failure_keeps_its_words_on_the_screen() {
        let (said, end) = run("echo Permission denied >&2; exit 255", &[]).await;
        assert!(said.contains("Permission denied"), "{said}");
        assert!(matches!(&end, ConsoleNews::Ended(why) if why.contains("255")), "{end:?}");
    }

    #[tokio::test]
    async fn lines_of_a_task_are_its_state_and_the_last_its_failure() {
        let (news, mut heard) = mpsc::channel(64);
        let progress = Progress { id: TaskId(1), news, kubeconfig: None };
        let script = shell("echo '{\"port\":5901}'; printf 'no\\033such\\n' >&2; exit 3");
        let say = |line: &str| port(line).map_or(line.to_owned(), |p| format!("port {p}"));
        let failure = follow(script, &progress, say).await.unwrap_err();
        drop(progress);
        let mut notes = Vec::new();
        while let Some(News::Event(Event::Task { news: TaskNews::Progress { note, .. }, .. })) = heard.recv().await {
            notes.push(note);
        }
        notes.sort();
        assert_eq!(notes, ["no\\x1bsuch", "port 5901"]);
        assert!(["no\\x1bsuch", "{\"port\":5901}"].contains(&failure.text.as_str()), "{failure:?}");
        assert!(
            follow(shell("exit 0"), &Progress { id: TaskId(2), news: mpsc::channel(1).0, kubeconfig: None }, say)
                .await
                .is_ok()
        );
    }
}
