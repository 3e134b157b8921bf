//! Serial broker: the one client of a machine's serial port, and any number of viewers.
//!
//! A client of QEMU's serial socket that does not read stops the guest. So this task alone holds the socket and
//! always reads; a viewer that cannot keep up is dropped, the guest never waits. The stream is one for the
//! machine's life: it goes on over restarts of the guest and, through the log that QEMU itself writes, over
//! restarts of this program.

use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::{Notify, mpsc, watch};

use super::SerialAttachment;
use super::layout;
use super::scrollback::{HEAD_LIMIT, Scrollback, TAIL_LIMIT};

/// Bytes that may wait for a viewer before it is dropped.
const VIEWER_LIMIT: usize = 4 << 20;

/// Chunks on their way to a viewer, besides the bytes that wait.
const VIEWER_QUEUE: usize = 4;

/// Chunks of input that may wait for the guest.
const INPUT_QUEUE: usize = 64;

/// How long output from a port taken over is gathered before it is compared with the history.
const FIRST_OUTPUT: Duration = Duration::from_millis(50);

/// Characters that QEMU may repeat when a client comes.
const MAX_REPEATED: usize = 16;

/// Bytes read at once.
const CHUNK: usize = 8192;

/// QEMU's log in the machine's directory.
pub(super) const LOG: &str = "serial.log";

const HEAD: &str = "console.head";
const TAIL: &str = "console.tail";
const META: &str = "console.json";

/// A machine's console.
pub(super) struct Console {
    state: Mutex<State>,
    input: mpsc::Sender<Bytes>,
    ports: mpsc::UnboundedSender<Port>,
    /// Input waits: the guest is between two QEMUs.
    held: watch::Sender<bool>,
    runtime: tokio::runtime::Handle,
}

struct State {
    scrollback: Scrollback,
    viewers: Vec<Arc<Viewer>>,
}

/// What waits for one viewer. A guest writes a few bytes at a time; they are collected here, so that a viewer
/// gets few large chunks instead of many small ones and its limit counts bytes.
struct Viewer {
    waiting: Mutex<BytesMut>,
    more: Notify,
    /// Too slow, gone, or the machine is: nothing will follow.
    closed: AtomicBool,
}

impl Viewer {
    /// Adds output; false if this viewer is to be dropped.
    fn push(&self, bytes: &[u8]) -> bool {
        if self.closed.load(Ordering::Acquire) {
            return false;
        }
        let mut waiting = self.waiting.lock();
        if waiting.len() + bytes.len() > VIEWER_LIMIT {
            drop(waiting);
            self.close();
            return false;
        }
        waiting.extend_from_slice(bytes);
        drop(waiting);
        self.more.notify_one();
        true
    }

    fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.more.notify_one();
    }

    /// Hands over what waits until the viewer or its machine is gone.
    async fn forward(self: Arc<Self>, output: mpsc::Sender<Bytes>) {
        loop {
            let bytes = std::mem::take(&mut *self.waiting.lock()).freeze();
            if !bytes.is_empty() {
                if output.send(bytes).await.is_err() {
                    break;
                }
                continue;
            }
            if self.closed.load(Ordering::Acquire) {
                break;
            }
            tokio::select! {
                () = self.more.notified() => {}
                () = output.closed() => break,
            }
        }
        self.closed.store(true, Ordering::Release);
    }
}

/// A connection to a QEMU's serial socket.
struct Port {
    stream: UnixStream,
    /// What comes first may be in the history already, through QEMU's log.
    overlapping: bool,
}

/// `console.json`: how the files of a rotated log lie in the stream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Meta {
    /// Offset of the first byte of `serial.log`.
    log_start: u64,
}

impl Console {
    /// Reads the history from `dir` and starts the broker. Reads files: not for an async thread.
    pub(super) fn open(dir: &Path, runtime: &tokio::runtime::Handle) -> io::Result<Arc<Self>> {
        let scrollback = load(dir)?;
        let (input, input_queue) = mpsc::channel(INPUT_QUEUE);
        let (ports, port_queue) = mpsc::unbounded_channel();
        let (held, hold) = watch::channel(false);
        let console = Arc::new(Self {
            state: Mutex::new(State { scrollback, viewers: Vec::new() }),
            input,
            ports,
            held,
            runtime: runtime.clone(),
        });
        let broker = Broker {
            console: Arc::downgrade(&console),
            input: input_queue,
            ports: port_queue,
            hold,
            dir: dir.to_owned(),
        };
        runtime.spawn(broker.run());
        Ok(console)
    }

    /// Puts a QEMU's serial socket behind this console. `overlapping`: see [`Scrollback::overlap`].
    pub(super) fn connect(&self, stream: UnixStream, overlapping: bool) {
        // Fails only when the broker is gone, with the runtime.
        let _ = self.ports.send(Port { stream, overlapping });
    }

    /// Keeps what is typed until the guest can take it: until this is called with `false`.
    pub(super) fn hold_input(&self, hold: bool) {
        self.held.send_replace(hold);
    }

    /// A new viewer with at most `history` bytes from before.
    pub(super) fn attach(&self, history: usize) -> SerialAttachment {
        let (sender, output) = mpsc::channel(VIEWER_QUEUE);
        let viewer =
            Arc::new(Viewer { waiting: Mutex::default(), more: Notify::new(), closed: AtomicBool::new(false) });
        let mut state = self.state.lock();
        let history = if history == 0 { Bytes::new() } else { state.scrollback.history(history).into() };
        state.viewers.push(viewer.clone());
        drop(state);
        self.runtime.spawn(viewer.forward(sender));
        SerialAttachment { history, output, input: self.input.clone() }
    }

    /// Ends all viewers.
    pub(super) fn close(&self) {
        for viewer in self.state.lock().viewers.drain(..) {
            viewer.close();
        }
    }

    fn publish(&self, bytes: &[u8]) {
        let mut state = self.state.lock();
        state.scrollback.push(bytes);
        state.viewers.retain(|viewer| viewer.push(bytes));
    }

    /// How many of the first bytes from a new port are known. QEMU may repeat a character when a client comes or
    /// goes, so the known part may begin a little later.
    fn overlap(&self, bytes: &[u8]) -> usize {
        let scrollback = &self.state.lock().scrollback;
        let mut best = (0, scrollback.overlap(bytes));
        for skipped in 1..=MAX_REPEATED.min(bytes.len()) {
            let known = scrollback.overlap(&bytes[skipped..]);
            if known > best.1 + MAX_REPEATED {
                best = (skipped, known);
            }
        }
        best.0 + best.1
    }

    fn head(&self) -> Vec<u8> {
        self.state.lock().scrollback.head().to_vec()
    }
}

struct Broker {
    console: std::sync::Weak<Console>,
    input: mpsc::Receiver<Bytes>,
    ports: mpsc::UnboundedReceiver<Port>,
    hold: watch::Receiver<bool>,
    dir: PathBuf,
}

impl Broker {
    async fn run(mut self) {
        // Bytes since the log was looked at.
        let mut unrotated = 0_usize;
        loop {
            let port = tokio::select! {
                port = self.ports.recv() => port,
                // Nobody is there: what is typed to a machine that is off goes nowhere.
                Some(_) = self.input.recv() => continue,
            };
            let Some(port) = port else { return };
            let mut next = Some(port);
            while let Some(port) = next.take() {
                next = self.pump(port, &mut unrotated).await;
            }
        }
    }

    /// Moves bytes until the port closes, or another one takes its place.
    async fn pump(&mut self, port: Port, unrotated: &mut usize) -> Option<Port> {
        let (mut read, mut write) = port.stream.into_split();
        if port.overlapping {
            self.first_output(&mut read).await?;
        }
        let mut pending = Bytes::new();
        let mut buffer = vec![0_u8; CHUNK];
        loop {
            let takes_input = pending.is_empty() && !*self.hold.borrow_and_update();
            tokio::select! {
                read = read.read(&mut buffer) => {
                    let length = match read {
                        Ok(0) | Err(_) => return None,
                        Ok(length) => length,
                    };
                    let console = self.console.upgrade()?;
                    console.publish(&buffer[..length]);
                    *unrotated += length;
                    if *unrotated > TAIL_LIMIT / 4 {
                        *unrotated = 0;
                        let head = console.head();
                        let dir = self.dir.clone();
                        tokio::task::spawn_blocking(move || {
                            if let Err(error) = rotate(&dir, &head, TAIL_LIMIT as u64) {
                                tracing::warn!(dir = %dir.display(), %error, "cannot rotate the console log");
                            }
                        });
                    }
                }
                written = write.write(&pending), if !pending.is_empty() => match written {
                    Ok(length) => pending = pending.slice(length..),
                    // The reading side will notice the end, after the last output.
                    Err(_) => pending = Bytes::new(),
                },
                // More input only when the guest has taken what was there; reading goes on meanwhile.
                Some(bytes) = self.input.recv(), if takes_input => pending = bytes,
                Ok(()) = self.hold.changed() => {}
                port = self.ports.recv() => {
                    // What the old one still holds came before anything of the new one.
                    while let Ok(length @ 1..) = read.try_read(&mut buffer) {
                        self.console.upgrade()?.publish(&buffer[..length]);
                    }
                    return port;
                }
            }
        }
    }
}

impl Broker {
    /// Publishes what comes in the first moment, without what the history already has from QEMU's log. `None`
    /// when the console is gone.
    async fn first_output(&self, read: &mut tokio::net::unix::OwnedReadHalf) -> Option<()> {
        let mut gathered = Vec::new();
        let until = tokio::time::Instant::now() + FIRST_OUTPUT;
        while let Ok(Ok(length)) = tokio::time::timeout_at(until, read.read_buf(&mut gathered)).await {
            if length == 0 {
                break;
            }
        }
        let console = self.console.upgrade()?;
        let fresh = console.overlap(&gathered);
        console.publish(&gathered[fresh..]);
        Some(())
    }
}

/// Reads the stream that the files in `dir` hold.
fn load(dir: &Path) -> io::Result<Scrollback> {
    let read = |name: &str| match std::fs::read(dir.join(name)) {
        Ok(content) => Ok(content),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    };
    let meta = serde_json::from_slice::<Meta>(&read(META)?).unwrap_or_default();
    let mut scrollback = Scrollback::new(HEAD_LIMIT, TAIL_LIMIT);
    let (head, tail) = (read(HEAD)?, read(TAIL)?);
    if meta.log_start > 0 {
        scrollback.push(&head[..head.len().min(HEAD_LIMIT)]);
        // Head and tail may cover the same bytes.
        let tail_start = meta.log_start.saturating_sub(tail.len() as u64);
        match tail_start.checked_sub(scrollback.total()) {
            Some(gap) => {
                scrollback.skip(gap);
                scrollback.push(&tail);
            }
            None => {
                let known = usize::try_from(scrollback.total() - tail_start).unwrap_or(usize::MAX);
                scrollback.push(tail.get(known..).unwrap_or_default());
            }
        }
    }
    let Some(mut log) = open_log(dir)? else { return Ok(scrollback) };
    let length = log.metadata()?.len();
    // A guest may have written for days while nobody rotated its log.
    let skipped = length.saturating_sub(TAIL_LIMIT as u64);
    let mut bytes = Vec::new();
    if skipped > 0 {
        if scrollback.total() == 0 {
            log.by_ref().take(skipped.min(HEAD_LIMIT as u64)).read_to_end(&mut bytes)?;
            scrollback.push(&bytes);
            bytes.clear();
        }
        let known = if meta.log_start == 0 { scrollback.total() } else { 0 };
        scrollback.skip(skipped - known);
        log.seek(SeekFrom::Start(skipped))?;
    }
    log.read_to_end(&mut bytes)?;
    scrollback.push(&bytes);
    Ok(scrollback)
}

fn open_log(dir: &Path) -> io::Result<Option<std::fs::File>> {
    match std::fs::File::open(dir.join(LOG)) {
        Ok(log) => Ok(Some(log)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Moves the log's content to `console.tail` when it is longer than `limit`, so that it does not grow for ever.
/// QEMU appends, so it goes on at the beginning of the emptied file.
fn rotate(dir: &Path, head: &[u8], limit: u64) -> io::Result<()> {
    let log = dir.join(LOG);
    if std::fs::metadata(&log)?.len() < limit {
        return Ok(());
    }
    let meta_file = dir.join(META);
    let mut meta: Meta =
        std::fs::read(&meta_file).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
    if meta.log_start == 0 {
        layout::replace_file(&dir.join(HEAD), head)?;
    }
    let mut file = std::fs::OpenOptions::new().read(true).write(true).open(&log)?;
    let start = file.metadata()?.len().saturating_sub(TAIL_LIMIT as u64);
    file.seek(SeekFrom::Start(start))?;
    let mut kept = Vec::new();
    file.read_to_end(&mut kept)?;
    layout::replace_file(&dir.join(TAIL), &kept)?;
    file.set_len(0)?;
    meta.log_start += start + kept.len() as u64;
    layout::replace_file(&meta_file, &serde_json::to_vec(&meta).map_err(io::Error::other)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn console(dir: &Path) -> (Arc<Console>, UnixStream) {
        let console = Console::open(dir, &tokio::runtime::Handle::current()).unwrap();
        let (ours, theirs) = UnixStream::pair().unwrap();
        console.connect(ours, false);
        (console, theirs)
    }

    #[tokio::test]
    async fn viewers_see_history_then_output_and_can_type() {
        let dir = tempfile::tempdir().unwrap();
        let (console, mut guest) = console(dir.path()).await;
        let mut first = console.attach(0);
        guest.write_all(b"hello\r\n").await.unwrap();
        assert_eq!(first.output.recv().await.unwrap(), "hello\r\n");
        let mut second = console.attach(100);
        assert_eq!(second.history, "hello\r\n");
        second.input.send(Bytes::from_static(b"ls\n")).await.unwrap();
        let mut typed = [0; 3];
        guest.read_exact(&mut typed).await.unwrap();
        assert_eq!(&typed, b"ls\n");
        guest.write_all(b"x").await.unwrap();
        assert_eq!(first.output.recv().await.unwrap(), "x");
        assert_eq!(second.output.recv().await.unwrap(), "x");
        console.close();
        assert_eq!(first.output.recv().await, None);
    }

    #[tokio::test]
    async fn a_viewer_that_does_not_read_is_dropped_and_the_guest_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let (console, mut guest) = console(dir.path()).await;
        let mut slow = console.attach(0);
        let line = [b'y'; 4096];
        for _ in 0..3 * VIEWER_LIMIT / line.len() {
            guest.write_all(&line).await.unwrap();
        }
        let mut got = 0;
        while let Some(bytes) = slow.output.recv().await {
            got += bytes.len();
        }
        assert!(got >= line.len(), "what waited is still delivered");
    }

    #[tokio::test]
    async fn a_second_port_continues_the_stream_without_repetition() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(LOG), "boot\r\nlogin: ").unwrap();
        let console = Console::open(dir.path(), &tokio::runtime::Handle::current()).unwrap();
        let mut viewer = console.attach(100);
        assert_eq!(viewer.history, "boot\r\nlogin: ");
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(b"login: root").await.unwrap();
        console.connect(ours, true);
        assert_eq!(viewer.output.recv().await.unwrap(), "root");
    }

    #[test]
    fn a_log_that_grew_long_keeps_both_ends() {
        let dir = tempfile::tempdir().unwrap();
        let mut text = b"first boot\n".to_vec();
        text.resize(TAIL_LIMIT + HEAD_LIMIT + 1000, b'.');
        text.extend_from_slice(b"last words\n");
        std::fs::write(dir.path().join(LOG), &text).unwrap();
        let scrollback = load(dir.path()).unwrap();
        assert_eq!(scrollback.total(), text.len() as u64);
        assert!(scrollback.head().starts_with(b"first boot\n"));
        assert!(scrollback.history(100).ends_with(b"last words\n"));
        assert!(scrollback.history(usize::MAX).starts_with(b"first boot\n"));
    }

    #[tokio::test]
    async fn a_rotated_log_is_read_as_one_stream() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join(LOG);
        std::fs::write(&log, "0123456789").unwrap();
        rotate(dir.path(), b"0123", 5).unwrap();
        assert_eq!(std::fs::metadata(&log).unwrap().len(), 0);
        std::fs::write(&log, "ab").unwrap();
        let scrollback = load(dir.path()).unwrap();
        assert_eq!(scrollback.history(100), b"0123456789ab");
        assert_eq!(scrollback.total(), 12);
        rotate(dir.path(), b"0123", 1).unwrap();
        let scrollback = load(dir.path()).unwrap();
        assert_eq!(scrollback.total(), 12);
        assert!(scrollback.history(100).ends_with(b"ab"));
    }
}
