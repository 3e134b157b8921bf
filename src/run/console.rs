//! `console`: the user's terminal, or a pipe, on a machine's serial line.

use std::io::{IsTerminal, Read, Write};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::cli::{ConsoleArgs, target};
use crate::client::{ConsoleError, ConsoleStream, Engine, StreamEnd};

use super::failure::{Failure, code};
use super::signals::Signals;
use super::terminal::{AltScreen, RawMode, reset_sequence, without_queries};
use super::{Context, out};

/// Ctrl+].
const LEAVE: u8 = 0x1d;

/// With a pipe as input: how long the guest must be silent after its end until we leave.
const QUIET: Duration = Duration::from_secs(1);

/// How long replayed history may take to arrive.
const REPLAY: Duration = Duration::from_millis(500);

/// Runs the verb.
pub async fn run(context: &Context, args: ConsoleArgs) -> Result<(), Failure> {
    let machine = target::machine(&args.machine).map_err(Failure::usage)?;
    let namespace = machine.namespace.as_deref().unwrap_or_else(|| context.default_namespace());
    super::holder::consider(context, namespace, &machine.name, "console", args.force).await?;
    let mut line = Line { context, namespace, name: &machine.name, timeout: args.timeout };
    let stream = line.open(args.history, false, None).await?;
    let raw = RawMode::enter()?;
    say(&format!("Successfully connected to {} console. The escape sequence is ^]", machine.name));
    let mut screen = AltScreen::default();
    let result = line.serve(stream, args.history, &mut screen).await;
    if std::io::stdout().is_terminal() {
        out::bytes(&reset_sequence(screen.is_on()))?;
    }
    drop(raw);
    match result {
        Ok(()) => {
            out::note("");
            Ok(())
        }
        Err(failure) => Err(failure),
    }
}

/// A line beside the guest's output; the terminal is raw.
fn say(text: &str) {
    let mut err = std::io::stderr().lock();
    // Nobody is left to tell it to.
    let _ = write!(err, "{}\r\n", crate::types::text::printable(text));
}

struct Line<'a> {
    context: &'a Context,
    namespace: &'a str,
    name: &'a str,
    timeout: Duration,
}

/// What came from the user.
enum Typed {
    Bytes(Bytes),
    Leave,
    End,
}

impl Line<'_> {
    /// Opens the stream; while the machine is not there yet, tries every second until the timeout. `again` also
    /// waits through what ends a first attempt: a machine that restarts is not running for a moment.
    async fn open(
        &self,
        history: usize,
        again: bool,
        typed: Option<&mut mpsc::Receiver<Typed>>,
    ) -> Result<ConsoleStream, Failure> {
        let deadline = Instant::now() + self.timeout;
        let mut told = false;
        let mut typed = typed;
        loop {
            let error = match self.context.session.console(self.namespace, self.name, history).await {
                Ok(stream) => return Ok(stream),
                Err(e) => e,
            };
            let retry = match &error {
                ConsoleError::NotReady(_) => true,
                ConsoleError::Failed(_) => again,
                ConsoleError::NotFound(_) => false,
            };
            if !retry || Instant::now() >= deadline {
                return Err(error.into());
            }
            if !std::mem::replace(&mut told, true) {
                say(&format!("vmdeck: {} is not there yet, waiting: {error}", self.name));
            }
            // There is no event to wait for: the server only answers attempts.
            let pause = tokio::time::sleep(Duration::from_secs(1));
            match &mut typed {
                None => pause.await,
                Some(typed) => {
                    tokio::pin!(pause);
                    loop {
                        tokio::select! {
                            () = &mut pause => break,
                            key = typed.recv() => if matches!(key, Some(Typed::Leave) | None) {
                                return Err(Failure::quiet(0));
                            },
                        }
                    }
                }
            }
        }
    }

    async fn serve(&mut self, stream: ConsoleStream, history: usize, screen: &mut AltScreen) -> Result<(), Failure> {
        let mut typed = read_input();
        let mut stop = Signals::new()?;
        let mut stream = stream;
        let mut replay = history;
        loop {
            if !matches!(self.context.session.engine, Engine::Local { .. }) {
                // A cluster replays nothing; a bare return makes the guest show its prompt.
                let _ = stream.input.send(Bytes::from_static(b"\r")).await;
            }
            match pump(&mut stream, &mut typed, &mut stop, replay, screen).await? {
                Left::Bye => return Ok(()),
                Left::Signal => return Err(Failure::quiet(code::INTERRUPTED)),
                Left::Stream(StreamEnd::TakenOver) => return Err(Failure::new("somebody else took the console over")),
                Left::Stream(end) => {
                    if let StreamEnd::Lost(text) = &end {
                        say(&format!("\r\nvmdeck: the connection broke, connecting again: {text}"));
                    } else {
                        say("\r\nvmdeck: the line was closed, connecting again");
                    }
                    // The screen shows what was; replaying it would double it.
                    stream = match self.open(0, true, Some(&mut typed)).await {
                        Ok(stream) => stream,
                        Err(failure) if failure.text.is_empty() => return Ok(()),
                        Err(failure) => return Err(failure),
                    };
                    replay = 0;
                    say("vmdeck: connected again");
                }
            }
        }
    }
}

/// Why the pump stopped.
enum Left {
    Bye,
    Signal,
    Stream(StreamEnd),
}

async fn pump(
    stream: &mut ConsoleStream,
    typed: &mut mpsc::Receiver<Typed>,
    stop: &mut Signals,
    replay: usize,
    screen: &mut AltScreen,
) -> Result<Left, Failure> {
    let begun = Instant::now();
    let mut replayed = 0;
    let mut ended: Option<Instant> = None;
    loop {
        tokio::select! {
            data = stream.output.recv() => {
                let Some(data) = data else {
                    let end = (&mut stream.closed).await.unwrap_or(StreamEnd::Ended);
                    // A script that has said everything does not come back.
                    return Ok(if ended.is_some() { Left::Bye } else { Left::Stream(end) });
                };
                screen.feed(&data);
                if replayed < replay && begun.elapsed() < REPLAY {
                    replayed += data.len();
                    out::bytes(&without_queries(&data))?;
                } else {
                    out::bytes(&data)?;
                }
                if ended.is_some() {
                    ended = Some(Instant::now());
                }
            }
            key = typed.recv(), if ended.is_none() => match key {
                Some(Typed::Bytes(bytes)) => {
                    if stream.input.send(bytes).await.is_err() {
                        let end = (&mut stream.closed).await.unwrap_or(StreamEnd::Ended);
                        return Ok(Left::Stream(end));
                    }
                }
                Some(Typed::Leave) => return Ok(Left::Bye),
                Some(Typed::End) | None => ended = Some(Instant::now()),
            },
            () = quiet(ended) => return Ok(Left::Bye),
            () = stop.recv() => return Ok(Left::Signal),
        }
    }
}

async fn quiet(ended: Option<Instant>) {
    match ended {
        Some(since) => tokio::time::sleep_until(since + QUIET).await,
        None => std::future::pending().await,
    }
}

/// Standard input in blocks. A thread of its own: reading a terminal cannot be cancelled, the process just ends.
fn read_input() -> mpsc::Receiver<Typed> {
    let (tx, rx) = mpsc::channel(16);
    std::thread::spawn(move || {
        let mut stdin = std::io::stdin();
        let mut buffer = [0_u8; 4096];
        loop {
            let typed = match stdin.read(&mut buffer) {
                Ok(0) => Typed::End,
                Ok(n) => {
                    let (bytes, leave) = split_at_leave(&buffer[..n]);
                    if !bytes.is_empty() && tx.blocking_send(Typed::Bytes(Bytes::copy_from_slice(bytes))).is_err() {
                        return;
                    }
                    if !leave {
                        continue;
                    }
                    Typed::Leave
                }
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(_) => Typed::End,
            };
            // Nobody listens any more.
            let _ = tx.blocking_send(typed);
            return;
        }
    });
    rx
}

/// What goes to the guest, and whether the user leaves then.
fn split_at_leave(input: &[u8]) -> (&[u8], bool) {
    match input.iter().position(|b| *b == LEAVE) {
        Some(at) => (&input[..at], true),
        None => (input, false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_escape_is_found_anywhere() {
        assert_eq!(split_at_leave(b"abc\x1dxyz"), (&b"abc"[..], true));
        assert_eq!(split_at_leave(b"\x1d"), (&b""[..], true));
        assert_eq!(split_at_leave(b"abc"), (&b"abc"[..], false));
    }
}
