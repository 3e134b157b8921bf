//! Connections to serial consoles.

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;

use super::super::console::{History, Line, Target};
use super::super::message::{ConsoleNews, Event};
use super::super::text::count;
use super::{News, Runner, Sender, child};
use crate::client::{ConsoleError, Engine, Holder, Session, StreamEnd};
use crate::types::text::printable;

/// Chunks of input that may wait for a guest that does not read.
const QUEUE: usize = 256;

/// A pause this long after attaching means that history is over.
const SETTLED: Duration = Duration::from_millis(80);

/// Longest wait between two attempts.
const LONGEST: Duration = Duration::from_secs(5);

/// How often "who else is there" is asked while a console is open.
const WHO_ELSE: Duration = Duration::from_secs(30);

/// One try to open a console.
#[derive(Debug, Clone, Copy)]
pub struct Attempt {
    /// Bytes of history that are wanted.
    pub history: usize,
    /// 0 for the first.
    pub number: u32,
    /// Also if that ends somebody else's session.
    pub force: bool,
}

/// A console's connection, or the attempt to make one.
pub struct Handle {
    /// The engine its tab was opened on: a later switch of context does not move it.
    session: Session,
    input: mpsc::Sender<Bytes>,
    size: watch::Sender<(u16, u16)>,
    task: AbortHandle,
}

impl Handle {
    /// Ends the connection.
    pub fn close(self) {
        self.task.abort();
    }

    /// Columns and rows; a serial line does not care.
    pub fn resize(&self, size: (u16, u16)) {
        self.size.send_replace(size);
    }
}

impl Runner {
    pub(super) fn console(&mut self, target: Target, attempt: Attempt, size: (u16, u16)) {
        let session = match self.consoles.remove(&target) {
            Some(before) => {
                before.task.abort();
                Some(before.session)
            }
            None => self.session.clone(),
        };
        let Some(session) = session else {
            let news = ConsoleNews::Ended("there is no connection".into());
            return self.send(Event::Console { target, news });
        };
        let (input, from_user) = mpsc::channel(QUEUE);
        let (size, sizes) = watch::channel(size);
        let (news, own, place) = (self.news.clone(), session.clone(), target.clone());
        let kubeconfig = self.kubeconfig.clone();
        let task = tokio::spawn(async move {
            if attempt.number > 0 {
                tokio::time::sleep(delay(attempt.number)).await;
            }
            let end = match &place.line {
                Line::Serial => talk(&own, &place, attempt, from_user, &news).await,
                Line::Ssh { login } => {
                    let command = child::ssh(&own.engine, kubeconfig.as_deref(), &place, login);
                    child::in_terminal(command, &place, from_user, sizes, &news).await
                }
            };
            tell(&news, &place, end).await;
        });
        self.consoles.insert(target, Handle { session, input, size, task: task.abort_handle() });
    }

    pub(super) fn console_send(&mut self, target: Target, bytes: Bytes) {
        let n = bytes.len();
        let taken = self.consoles.get(&target).is_some_and(|handle| handle.input.try_send(bytes).is_ok());
        if !taken {
            self.send(Event::Console { target, news: ConsoleNews::Refused(n) });
        }
    }
}

/// 0.2 s, doubled with each attempt, up to [`LONGEST`].
fn delay(attempt: u32) -> Duration {
    Duration::from_millis(100).saturating_mul(2u32.saturating_pow(attempt.min(10))).min(LONGEST)
}

pub(super) async fn tell(news: &Sender, target: &Target, console: ConsoleNews) {
    let _ = news.send(News::Event(Event::Console { target: target.clone(), news: console })).await;
}

/// One connection from beginning to end.
async fn talk(
    session: &Session,
    target: &Target,
    attempt: Attempt,
    mut from_user: mpsc::Receiver<Bytes>,
    news: &Sender,
) -> ConsoleNews {
    let history = attempt.history;
    let holder = session.holder(&target.namespace, &target.name, "console").await;
    let shares = match &holder {
        Some(holder) if holder.shared.is_none() && !attempt.force => {
            return ConsoleNews::Ended(format!("in use by {}", holder.words(jiff::Timestamp::now())));
        }
        Some(holder) => holder.shared.is_some(),
        None => matches!(session.engine, Engine::Local { .. }),
    };
    let mut stream = match session.console(&target.namespace, &target.name, history).await {
        Ok(stream) => stream,
        Err(ConsoleError::NotFound(error)) => return ConsoleNews::Ended(one_line(error.text())),
        Err(ConsoleError::NotReady(error) | ConsoleError::Failed(error)) => {
            return ConsoleNews::Lost(one_line(error.text()));
        }
    };
    // Only a vmdeck host replays what was before; it does not say how much, so a pause tells where live begins.
    let replays = history > 0 && matches!(session.engine, Engine::Local { .. });
    tell(news, target, ConsoleNews::Attached(if replays { History::Unknown } else { History::None })).await;
    tell(news, target, ConsoleNews::Viewers(holder.as_ref().map(others))).await;
    let asking = shares.then(|| tokio::spawn(who_else(session.clone(), target.clone(), news.clone())));
    let _asking = asking.map(|task| AbortOnDrop(task.abort_handle()));
    let guest = stream.input.clone();
    let forward = tokio::spawn(async move {
        while let Some(bytes) = from_user.recv().await {
            if guest.send(bytes).await.is_err() {
                break;
            }
        }
    });
    let _forward = AbortOnDrop(forward.abort_handle());
    let mut settling = replays;
    loop {
        let next = if settling {
            match tokio::time::timeout(SETTLED, stream.output.recv()).await {
                Ok(next) => next,
                Err(_) => {
                    settling = false;
                    tell(news, target, ConsoleNews::Settled).await;
                    continue;
                }
            }
        } else {
            stream.output.recv().await
        };
        match next {
            Some(bytes) => tell(news, target, ConsoleNews::Bytes(bytes)).await,
            None => break,
        }
    }
    drop(stream.input);
    match stream.closed.await {
        Ok(StreamEnd::Lost(why)) => ConsoleNews::Lost(why),
        Ok(StreamEnd::TakenOver) => ConsoleNews::Ended("somebody else took the console".into()),
        // The machine stopped or restarts: another try finds out which.
        Ok(StreamEnd::Ended) => ConsoleNews::Lost("the machine's console ended".into()),
        Err(_) => ConsoleNews::Lost("the connection ended".into()),
    }
}

/// Keeps the line about other viewers true, where a console is shared.
async fn who_else(session: Session, target: Target, news: Sender) {
    loop {
        tokio::time::sleep(WHO_ELSE).await;
        let holder = session.holder(&target.namespace, &target.name, "console").await;
        let more = holder.and_then(|h| h.shared).map_or(0, |n| n.saturating_sub(1));
        let text =
            (more > 0).then(|| count(usize::try_from(more).unwrap_or(usize::MAX), "other viewer", "other viewers"));
        tell(&news, &target, ConsoleNews::Viewers(text)).await;
    }
}

/// Who was there before us.
fn others(holder: &Holder) -> String {
    let name = holder.words(jiff::Timestamp::now());
    match holder.shared {
        Some(n) if n > 1 => format!("also here: {name} and {} more", n - 1),
        _ => format!("also here: {name}"),
    }
}

/// The helper task ends with the connection it serves.
pub(super) struct AbortOnDrop(pub(super) AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn one_line(text: &str) -> String {
    printable(text.lines().next().unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_slow_down() {
        assert_eq!(delay(1), Duration::from_millis(200));
        assert_eq!(delay(3), Duration::from_millis(800));
        assert_eq!(delay(40), LONGEST);
    }
}
