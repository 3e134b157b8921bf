//! The guest agent: what the guest's system is, and its file systems frozen and thawed. The agent is a program in the
//! guest, so what it says is hostile.
//!
//! The protocol is QEMU's guest agent's: JSON lines, after a `guest-sync-delimited` that drops what an earlier
//! connection left in the port (<https://www.qemu.org/docs/master/interop/qemu-ga-ref.html>).

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};

use super::context::connect_in;
use super::launch::AGENT_SOCKET;

/// How long the agent may take; it says it is there before it is.
const PATIENCE: Duration = Duration::from_secs(20);

/// Longest line that is read.
const LONGEST: u64 = 64 << 10;

/// Characters kept of a value.
const LONGEST_VALUE: usize = 256;

/// What marks the answer to a delimited sync.
const MARK: u8 = 0xff;

/// Names in `guest-get-osinfo` and in `status.guestOSInfo`.
const NAMES: [(&str, &str); 8] = [
    ("id", "id"),
    ("name", "name"),
    ("pretty-name", "prettyName"),
    ("version", "version"),
    ("version-id", "versionId"),
    ("kernel-release", "kernelRelease"),
    ("kernel-version", "kernelVersion"),
    ("machine", "machine"),
];

/// Asks the agent of the machine in a launch directory for its system.
pub(super) async fn os_info(run_dir: &Path) -> io::Result<BTreeMap<String, String>> {
    Ok(facts(&command(run_dir, "guest-get-osinfo").await?))
}

/// Has the file systems of the guest frozen: all that was written is on the disks, and nothing more is written.
pub(super) async fn freeze(run_dir: &Path) -> io::Result<()> {
    match command(run_dir, "guest-fsfreeze-freeze").await?.as_u64() {
        Some(0) | None => Err(io::Error::other("it found no file system that can be frozen")),
        Some(_) => Ok(()),
    }
}

/// Has the file systems of the guest thawed. Fine if none are frozen.
pub(super) async fn thaw(run_dir: &Path) -> io::Result<()> {
    command(run_dir, "guest-fsfreeze-thaw").await.map(drop)
}

/// Asks the agent of the machine in a launch directory.
async fn command(run_dir: &Path, command: &str) -> io::Result<Value> {
    let asking = async {
        let stream = connect_in(run_dir, AGENT_SOCKET).await?;
        ask(stream, command).await
    };
    let late = |_| Err(io::Error::new(io::ErrorKind::TimedOut, "it did not answer in time"));
    tokio::time::timeout(PATIENCE, asking).await.unwrap_or_else(late)
}

async fn ask(stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite, command: &str) -> io::Result<Value> {
    let (read, mut write) = tokio::io::split(stream);
    let mut read = BufReader::new(read);
    let sync = json!({ "execute": "guest-sync-delimited", "arguments": { "id": std::process::id() } });
    write.write_all(&[MARK]).await?;
    write.write_all(format!("{sync}\n").as_bytes()).await?;
    // All before the mark was meant for somebody else.
    let mut skipped = Vec::new();
    (&mut read).take(16 * LONGEST).read_until(MARK, &mut skipped).await?;
    let answer = line(&mut read).await?;
    if answer["return"] != std::process::id() {
        return Err(io::Error::other("the guest agent does not answer in order"));
    }
    write.write_all(format!("{}\n", json!({ "execute": command })).as_bytes()).await?;
    let mut answer = line(&mut read).await?;
    if let Some(error) = answer.get("error") {
        return Err(io::Error::other(value(error["desc"].as_str().unwrap_or("it refuses"))));
    }
    Ok(answer["return"].take())
}

async fn line(read: &mut (impl tokio::io::AsyncBufRead + Unpin)) -> io::Result<Value> {
    let mut line = Vec::new();
    let length = read.take(LONGEST).read_until(b'\n', &mut line).await?;
    if length == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    serde_json::from_slice(&line).map_err(io::Error::other)
}

/// The known fields, without control characters and not longer than anybody needs.
fn facts(answer: &Value) -> BTreeMap<String, String> {
    let known = NAMES.iter().filter_map(|(theirs, ours)| {
        let text = value(answer.get(theirs)?.as_str()?);
        (!text.is_empty()).then(|| ((*ours).to_owned(), text))
    });
    known.collect()
}

/// A text of the guest's, harmless to print.
fn value(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(LONGEST_VALUE).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_system_is_told_after_what_an_earlier_client_left() {
        let (ours, theirs) = tokio::net::UnixStream::pair().unwrap();
        let agent = tokio::spawn(async move {
            let (read, mut write) = theirs.into_split();
            let mut lines = BufReader::new(read);
            let mut sync = Vec::new();
            lines.read_until(b'\n', &mut sync).await.unwrap();
            assert_eq!(sync[0], MARK);
            write.write_all(b"{\"return\": {\"left\": 1}}\n\xff").await.unwrap();
            write.write_all(format!("{{\"return\": {}}}\n", std::process::id()).as_bytes()).await.unwrap();
            let mut question = String::new();
            lines.read_line(&mut question).await.unwrap();
            assert!(question.contains("guest-get-osinfo"));
            let answer = json!({ "return": {
                "pretty-name": "Evil\u{1b}[2J OS", "kernel-release": "6.1", "id": "x".repeat(10_000), "name": "",
                "variant": "unknown to us", "machine": 7,
            }});
            write.write_all(format!("{answer}\n").as_bytes()).await.unwrap();
        });
        let told = facts(&ask(ours, "guest-get-osinfo").await.unwrap());
        assert_eq!(told["prettyName"], "Evil[2J OS");
        assert_eq!(told["kernelRelease"], "6.1");
        assert_eq!(told["id"].len(), LONGEST_VALUE);
        assert_eq!(told.len(), 3);
        agent.await.unwrap();
    }

    #[tokio::test]
    async fn an_agent_that_talks_nonsense_is_an_error() {
        for said in [&b"\xff{\"return\": 0}\n"[..], b"\xffnonsense\n", b""] {
            let (ours, mut theirs) = tokio::net::UnixStream::pair().unwrap();
            theirs.write_all(said).await.unwrap();
            theirs.shutdown().await.unwrap();
            assert!(ask(ours, "guest-ping").await.is_err(), "{said:?}");
        }
    }

    #[tokio::test]
    async fn a_refusal_is_told_in_the_agents_words_without_its_control_characters() {
        let (ours, mut theirs) = tokio::net::UnixStream::pair().unwrap();
        let said =
            format!("{{\"return\": {}}}\n{{\"error\": {{\"desc\": \"is\\u001b[2J frozen\"}}}}\n", std::process::id());
        theirs.write_all(&[MARK]).await.unwrap();
        theirs.write_all(said.as_bytes()).await.unwrap();
        let error = ask(ours, "guest-fsfreeze-freeze").await.unwrap_err();
        assert_eq!(error.to_string(), "is[2J frozen");
    }
}
