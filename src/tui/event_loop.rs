//! The loop: wait, update, coalesce, draw. Nothing happens without an event or a time the last drawing asked for.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use crossterm::event::{Event as Input, EventStream, KeyEventKind};
use futures::StreamExt;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::effect::{Local, News, Runner};
use super::message::{EditId, Effect, Event, Failure, Signal};
use super::state::State;
use super::table::Millis;
use super::terminal::Screen;
use super::update::{prepare, update};
use crate::types::text::printable;

/// Shortest time between two frames.
const FRAME: Duration = Duration::from_micros(16_667);

/// Longest time that queued events are taken in before a frame is drawn.
const COALESCE: Duration = Duration::from_millis(8);

/// Events that may wait for the loop.
pub const QUEUE: usize = 512;

/// The wall clock.
pub fn now() -> Millis {
    jiff::Timestamp::now().as_millisecond()
}

/// The signals that end the viewer. Caught before the terminal is taken: there is no moment in which one of them
/// would leave it in our modes.
pub struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    hangup: tokio::signal::unix::Signal,
}

impl Signals {
    /// Catches them from now on.
    pub fn catch() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }
}

/// Runs until the state says that it leaves.
pub async fn run(
    screen: &mut Screen,
    state: &mut State,
    runner: &mut Runner,
    first: Vec<Effect>,
    news: &mut mpsc::Receiver<News>,
    mut signals: Signals,
) -> io::Result<()> {
    // The first frame comes before anything is asked of anybody.
    let mut due = screen.draw(state)?.due;
    let mut drawn_at = Instant::now();
    let mut input = Some(EventStream::new());
    let mut dirty = perform(first, screen, state, runner, &mut input).await?;
    while !state.leaving {
        let timer = if dirty {
            Some(FRAME.saturating_sub(drawn_at.elapsed()))
        } else {
            due.map(|at| Duration::from_millis(u64::try_from(at - now()).unwrap_or(0)))
        };
        let event = tokio::select! {
            biased;
            key = next_input(&mut input) => match key {
                Some(Ok(key)) => translate(key),
                // The terminal is gone.
                Some(Err(_)) | None => Some(Event::Signal(Signal::Hangup)),
            },
            _ = signals.terminate.recv() => Some(Event::Signal(Signal::Terminate)),
            _ = signals.interrupt.recv() => Some(Event::Signal(Signal::Terminate)),
            _ = signals.hangup.recv() => Some(Event::Signal(Signal::Hangup)),
            () = sleep(timer) => (!dirty).then_some(Event::Wake),
            Some(one) = news.recv() => Some(enter(one, runner)),
        };
        if let Some(event) = event {
            dirty = true;
            let effects = update(state, event, now());
            perform(effects, screen, state, runner, &mut input).await?;
            let began = Instant::now();
            while began.elapsed() < COALESCE && !state.leaving {
                let Ok(one) = news.try_recv() else { break };
                let event = enter(one, runner);
                let effects = update(state, event, now());
                perform(effects, screen, state, runner, &mut input).await?;
            }
        }
        if dirty && !state.leaving && drawn_at.elapsed() >= FRAME {
            state.now = now();
            let effects = prepare(state);
            perform(effects, screen, state, runner, &mut input).await?;
            due = screen.draw(state)?.due;
            drawn_at = Instant::now();
            dirty = false;
        }
    }
    Ok(())
}

fn enter(news: News, runner: &mut Runner) -> Event {
    match news {
        News::Event(event) => event,
        News::Session { generation, result } => runner.connected(generation, result),
    }
}

async fn next_input(input: &mut Option<EventStream>) -> Option<io::Result<Input>> {
    match input {
        Some(stream) => stream.next().await,
        None => std::future::pending().await,
    }
}

async fn sleep(timer: Option<Duration>) {
    match timer {
        Some(time) => tokio::time::sleep(time).await,
        None => std::future::pending().await,
    }
}

fn translate(input: Input) -> Option<Event> {
    match input {
        Input::Key(key) if key.kind != KeyEventKind::Release => Some(Event::Key(key)),
        Input::Paste(text) => Some(Event::Paste(text)),
        Input::Resize(columns, rows) => Some(Event::Resize(columns, rows)),
        Input::Mouse(event) => Some(Event::Mouse(event)),
        Input::FocusGained => Some(Event::Focus(true)),
        Input::FocusLost => Some(Event::Focus(false)),
        Input::Key(_) => None,
    }
}

/// Starts effects; answers whether something is to be drawn.
async fn perform(
    effects: Vec<Effect>,
    screen: &mut Screen,
    state: &mut State,
    runner: &mut Runner,
    input: &mut Option<EventStream>,
) -> io::Result<bool> {
    let mut queue: std::collections::VecDeque<Effect> = effects.into();
    while let Some(effect) = queue.pop_front() {
        let event = match runner.run(effect) {
            None => continue,
            Some(Local::Quit) => {
                state.leaving = true;
                continue;
            }
            Some(Local::Copy(text)) => {
                screen.copy(&text)?;
                continue;
            }
            Some(Local::Redraw) => {
                screen.forget()?;
                continue;
            }
            Some(Local::Suspend) => {
                *input = None;
                screen.release();
                stop_until_continued();
                screen.retake()?;
                *input = Some(EventStream::new());
                Event::Resumed
            }
            Some(Local::Editor { edit, text, name }) => {
                *input = None;
                screen.release();
                let result = edit_outside(edit, &text, &name).await;
                screen.retake()?;
                *input = Some(EventStream::new());
                Event::EditorClosed { edit, result }
            }
        };
        let (columns, rows) = screen.size()?;
        queue.extend(update(state, Event::Resize(columns, rows), now()));
        queue.extend(update(state, event, now()));
    }
    Ok(true)
}

/// Stops the whole process group, as ctrl-z does for programs without raw mode; returns when it is continued.
fn stop_until_continued() {
    use rustix::process::{Signal, kill_current_process_group};
    // If it fails we simply go on.
    let _ = kill_current_process_group(Signal::TSTP);
}

/// Runs the user's editor on a private file and reads what is left in it.
async fn edit_outside(edit: EditId, text: &str, name: &str) -> Result<String, Failure> {
    let editor = ["VISUAL", "EDITOR"]
        .iter()
        .find_map(|var| std::env::var(var).ok().filter(|v| !v.trim().is_empty()))
        .unwrap_or_else(|| "vi".into());
    let plain: String = name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect();
    let fail = |what: &str, error: &dyn std::fmt::Display| Failure::new(&format!("{what}: {error}"));
    let dir = std::env::temp_dir().join(format!("vmdeck-edit-{}-{}", std::process::id(), edit.0));
    create_private(&dir).map_err(|e| fail("cannot make a folder for the editor", &e))?;
    let file = dir.join(format!("{plain}.yaml"));
    let result = async {
        tokio::fs::write(&file, text).await.map_err(|e| fail("cannot write the file for the editor", &e))?;
        // The editor may be a command with arguments; a shell splits it, the file comes as an argument of its own.
        let status = tokio::process::Command::new("/bin/sh")
            .arg("-c")
            .arg(format!("exec {editor} \"$1\""))
            .arg("sh")
            .arg(&file)
            .status()
            .await
            .map_err(|e| fail("cannot start the editor", &e))?;
        if !status.success() {
            return Err(Failure {
                hint: Some("Set VISUAL or EDITOR to another one, or use the built-in editor.".into()),
                ..Failure::new(&format!("{}: {status}; nothing was changed", printable(&editor)))
            });
        }
        tokio::fs::read_to_string(&file).await.map_err(|e| fail("cannot read the edited file", &e))
    }
    .await;
    let _ = tokio::fs::remove_dir_all(&dir).await;
    result
}

fn create_private(dir: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().mode(0o700).create(dir)
}
