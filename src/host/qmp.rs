//! QEMU's monitor: greeting, commands with ids, events. One task owns the socket.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};

use super::qmp_message::{Event, Message, parse};

/// How long a command may take; all that are used here answer within milliseconds.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

/// A command that failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum QmpError {
    /// QEMU refused it.
    #[error("{description}")]
    Refused {
        /// QEMU's error class, mostly `GenericError`.
        class: String,
        /// QEMU's words.
        description: String,
    },
    /// The monitor's connection ended.
    #[error("QEMU closed its monitor")]
    Closed,
    /// No answer in time.
    #[error("QEMU did not answer {command} within {} s", ANSWER_TIMEOUT.as_secs())]
    Timeout {
        /// The command.
        command: String,
    },
}

/// Who waits for an answer.
type Answer = oneshot::Sender<Result<Value, QmpError>>;

/// A command for the monitor.
struct Request {
    command: String,
    arguments: Value,
    answer: Answer,
}

/// A monitor, ready for commands. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Qmp {
    requests: mpsc::UnboundedSender<Request>,
}

impl Qmp {
    /// Waits for the greeting, leaves negotiation mode. The receiver gets every event and ends with the
    /// connection.
    pub(super) async fn connect(stream: UnixStream) -> Result<(Self, mpsc::UnboundedReceiver<Event>), QmpError> {
        let (read, mut write) = stream.into_split();
        let mut lines = BufReader::new(read);
        let mut line = String::new();
        loop {
            line.clear();
            if lines.read_line(&mut line).await.map_err(|_| QmpError::Closed)? == 0 {
                return Err(QmpError::Closed);
            }
            match parse(&line) {
                Some(Message::Greeting) => {
                    let hello = "{\"execute\":\"qmp_capabilities\"}\n";
                    write.write_all(hello.as_bytes()).await.map_err(|_| QmpError::Closed)?;
                }
                Some(Message::Return { .. }) => break,
                Some(Message::Error { class, description, .. }) => {
                    return Err(QmpError::Refused { class, description });
                }
                Some(Message::Event(_)) | None => {}
            }
        }
        let (requests, queue) = mpsc::unbounded_channel();
        let (event_sender, events) = mpsc::unbounded_channel();
        tokio::spawn(serve(lines, write, queue, event_sender));
        Ok((Self { requests }, events))
    }

    /// A monitor whose connection has ended.
    pub(super) fn disconnected() -> (Self, mpsc::UnboundedReceiver<Event>) {
        (Self { requests: mpsc::unbounded_channel().0 }, mpsc::unbounded_channel().1)
    }

    /// Runs a command and gives its `return`.
    pub(super) async fn execute(&self, command: &str, arguments: Value) -> Result<Value, QmpError> {
        let (answer, answered) = oneshot::channel();
        let request = Request { command: command.to_owned(), arguments, answer };
        self.requests.send(request).map_err(|_| QmpError::Closed)?;
        match tokio::time::timeout(ANSWER_TIMEOUT, answered).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(QmpError::Closed),
            Err(_) => Err(QmpError::Timeout { command: command.to_owned() }),
        }
    }

    /// Runs a command of the human monitor; its text is the answer, also in case of an error.
    pub(super) async fn human(&self, command: &str) -> Result<String, QmpError> {
        let answer = self.execute("human-monitor-command", json!({ "command-line": command })).await?;
        Ok(answer.as_str().unwrap_or_default().trim().to_owned())
    }
}

async fn serve(
    mut lines: BufReader<tokio::net::unix::OwnedReadHalf>,
    mut write: tokio::net::unix::OwnedWriteHalf,
    mut queue: mpsc::UnboundedReceiver<Request>,
    events: mpsc::UnboundedSender<Event>,
) {
    let mut waiting: HashMap<u64, Answer> = HashMap::new();
    let mut next_id = 0_u64;
    // `read_until` keeps what it has read so far in the buffer when it is cancelled.
    let mut line = Vec::new();
    loop {
        tokio::select! {
            read = lines.read_until(b'\n', &mut line) => {
                if !matches!(read, Ok(n) if n > 0) {
                    break;
                }
                if let Ok(text) = std::str::from_utf8(&line) {
                    dispatch(text, &mut waiting, &events);
                }
                line.clear();
            }
            request = queue.recv() => {
                // Every handle is gone: nobody will ask again, but the machine's task still wants the events.
                let Some(request) = request else { break };
                next_id += 1;
                let line = request.line(next_id);
                waiting.insert(next_id, request.answer);
                if write.write_all(line.as_bytes()).await.is_err() {
                    break;
                }
            }
        }
    }
    // Dropping `waiting` fails whoever still waits.
}

impl Request {
    fn line(&self, id: u64) -> String {
        let mut message = json!({ "execute": self.command, "id": id });
        if !self.arguments.is_null() {
            message["arguments"] = self.arguments.clone();
        }
        format!("{message}\n")
    }
}

fn dispatch(line: &str, waiting: &mut HashMap<u64, Answer>, events: &mpsc::UnboundedSender<Event>) {
    let (id, result) = match parse(line) {
        Some(Message::Event(event)) => {
            // The machine's task may be past caring.
            let _ = events.send(event);
            return;
        }
        Some(Message::Return { id, value }) => (id, Ok(value)),
        Some(Message::Error { id, class, description }) => (id, Err(QmpError::Refused { class, description })),
        Some(Message::Greeting) | None => return,
    };
    if let Some(answer) = id.and_then(|id| waiting.remove(&id)) {
        // The asker may have given up.
        let _ = answer.send(result);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays QEMU: greets, then answers each command through `reply`.
    async fn fake(stream: UnixStream, reply: impl Fn(&Value) -> Vec<String>) {
        let (read, mut write) = stream.into_split();
        write.write_all(b"{\"QMP\": {\"version\": {}, \"capabilities\": []}}\r\n").await.unwrap();
        let mut lines = BufReader::new(read).lines();
        while let Some(line) = lines.next_line().await.unwrap() {
            for text in reply(&serde_json::from_str(&line).unwrap()) {
                write.write_all(text.as_bytes()).await.unwrap();
            }
        }
    }

    #[tokio::test]
    async fn answers_find_their_commands_and_events_pass() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        tokio::spawn(fake(theirs, |command| match command["execute"].as_str() {
            Some("qmp_capabilities") => vec!["{\"return\": {}}\r\n".into()],
            Some("query-status") => vec![
                "{\"event\":\"RESUME\",\"timestamp\":{}}\r\n".into(),
                format!("{{\"return\":{{\"status\":\"running\"}},\"id\":{}}}\r\n", command["id"]),
            ],
            _ => vec![format!(
                "{{\"error\":{{\"class\":\"GenericError\",\"desc\":\"no\"}},\"id\":{}}}\r\n",
                command["id"]
            )],
        }));
        let (qmp, mut events) = Qmp::connect(ours).await.unwrap();
        let status = qmp.execute("query-status", Value::Null).await.unwrap();
        assert_eq!(status["status"], "running");
        assert_eq!(events.recv().await, Some(Event::Resume));
        let refused = qmp.execute("frob", json!({})).await.unwrap_err();
        assert_eq!(refused.to_string(), "no");
    }

    #[tokio::test]
    async fn a_closed_monitor_fails_waiting_commands() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        tokio::spawn(async move {
            let (read, mut write) = theirs.into_split();
            write.write_all(b"{\"QMP\": {}}\n{\"return\": {}}\n").await.unwrap();
            let mut lines = BufReader::new(read).lines();
            lines.next_line().await.unwrap();
            lines.next_line().await.unwrap();
        });
        let (qmp, mut events) = Qmp::connect(ours).await.unwrap();
        assert!(matches!(qmp.execute("quit", Value::Null).await, Err(QmpError::Closed)));
        assert_eq!(events.recv().await, None);
    }
}
