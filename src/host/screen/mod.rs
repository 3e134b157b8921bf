//! A viewer's session with a machine's screen (RFB), which outlives a live migration: the viewer talks to us, we talk to
//! the QEMU that has the guest, and at the switch we go on with the other one. The viewer notices nothing but a full
//! picture.

mod client;
mod handshake;
mod server;
#[cfg(test)]
mod tests;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, watch};

use super::command_line::VNC_SOCKET;
use super::context::connect_in;
use client::{ClientStream, Effect};
use handshake::Greeting;
use server::ServerStream;

/// How long QEMU may take to open a session.
const ANSWER: Duration = Duration::from_secs(10);

/// How long a viewer may take for its beginning.
const VIEWER_PATIENCE: Duration = Duration::from_secs(60);

/// Bytes read at once.
const PIECE: usize = 64 << 10;

/// Pieces that wait for a viewer that reads slowly; then its server waits.
const PIECES: usize = 4;

/// Where a machine's screen is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Screen {
    /// Launch directory of the QEMU that has the guest; `None` while there is none.
    pub(super) run_dir: Option<PathBuf>,
    /// The guest is between two QEMUs: what is typed waits.
    pub(super) held: bool,
}

/// Opens a viewer's session. `None` if there is no screen.
pub(super) async fn open(screen: &watch::Sender<Screen>) -> Option<io::Result<DuplexStream>> {
    let mut screen = screen.subscribe();
    let run_dir = screen.borrow_and_update().run_dir.clone()?;
    let stream = match connect_in(&run_dir, VNC_SOCKET).await {
        Ok(stream) => stream,
        Err(error) => return Some(Err(error)),
    };
    let (near, far) = tokio::io::duplex(PIECE);
    tokio::spawn(async move {
        if let Err(error) = session(far, stream, run_dir, screen).await {
            tracing::debug!(%error, "a viewer's session ended");
        }
    });
    Some(Ok(near))
}

/// What a session is in the middle of.
struct Session {
    server: ServerStream,
    client: ClientStream,
    stream: UnixStream,
    run_dir: PathBuf,
}

async fn session(
    mut viewer: DuplexStream,
    mut stream: UnixStream,
    run_dir: PathBuf,
    mut screen: watch::Receiver<Screen>,
) -> io::Result<()> {
    let greeting = greet(&mut stream).await?;
    let patience = tokio::time::timeout(VIEWER_PATIENCE, handshake::with_viewer(&mut viewer));
    patience.await.map_err(|_| io::ErrorKind::TimedOut)??;
    viewer.write_all(&greeting.bytes).await?;
    let mut session = Session {
        server: ServerStream::new(greeting.format, greeting.size),
        client: ClientStream::new(greeting.format),
        stream,
        run_dir,
    };
    let (mut from_viewer, mut to_viewer) = tokio::io::split(viewer);
    let (pieces, mut queue) = mpsc::channel::<Vec<u8>>(PIECES);
    let writing = async move {
        while let Some(piece) = queue.recv().await {
            to_viewer.write_all(&piece).await?;
            to_viewer.flush().await?;
        }
        to_viewer.shutdown().await
    };
    let reading = async move {
        let (mut outward, mut inward) = (vec![0; PIECE], vec![0; 4096]);
        loop {
            let held = screen.borrow().held;
            tokio::select! {
                changed = screen.changed() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                    let Screen { run_dir, .. } = screen.borrow_and_update().clone();
                    if let Some(run_dir) = run_dir.filter(|dir| *dir != session.run_dir) {
                        session.switch(run_dir, &pieces).await?;
                    }
                }
                got = piece(&pieces, &mut session.stream, &mut outward) => {
                    let (permit, count) = got?;
                    if count == 0 {
                        drop(permit);
                        // Of a migration's source, or of the machine.
                        let next = screen.borrow_and_update().run_dir.clone().filter(|dir| *dir != session.run_dir);
                        let Some(next) = next else { return Ok(()) };
                        session.switch(next, &pieces).await?;
                        continue;
                    }
                    let mut out = Vec::with_capacity(count + 64);
                    session.server.push(&outward[..count], &mut out).map_err(io::Error::other)?;
                    if session.server.take_pictured() {
                        session.client.pictured();
                    }
                    permit.send(out);
                }
                count = from_viewer.read(&mut inward), if !held => {
                    let count = count?;
                    if count == 0 {
                        return Ok(());
                    }
                    session.typed(&inward[..count]).await?;
                }
            }
        }
    };
    // The viewer gets what is on its way to it also when the reading has ended.
    let (_, written): (io::Result<()>, io::Result<()>) = tokio::join!(reading, writing);
    written
}

/// The next piece from the server, once there is room for it. Cancel safe.
async fn piece<'a>(
    pieces: &'a mpsc::Sender<Vec<u8>>,
    stream: &mut UnixStream,
    buffer: &mut [u8],
) -> io::Result<(mpsc::Permit<'a, Vec<u8>>, usize)> {
    let permit = pieces.reserve().await.map_err(io::Error::other)?;
    // A reset connection is an end like any other.
    let count = stream.read(buffer).await.unwrap_or(0);
    Ok((permit, count))
}

async fn greet(stream: &mut UnixStream) -> io::Result<Greeting> {
    tokio::time::timeout(ANSWER, handshake::with_server(stream)).await.map_err(|_| io::ErrorKind::TimedOut)?
}

impl Session {
    /// Passes on what the viewer sent.
    async fn typed(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut out = Vec::with_capacity(bytes.len());
        let effect = self.client.push(bytes, self.server.size(), &mut out).map_err(io::Error::other)?;
        if let Effect::Format(format) = effect {
            self.server.set_format(format);
        }
        // A server that is gone is noticed when it is read from.
        let _ = self.stream.write_all(&out).await;
        Ok(())
    }

    /// Goes on with another QEMU.
    async fn switch(&mut self, run_dir: PathBuf, pieces: &mpsc::Sender<Vec<u8>>) -> io::Result<()> {
        let mut stream = connect_in(&run_dir, VNC_SOCKET).await?;
        let greeting = greet(&mut stream).await?;
        let mut out = Vec::new();
        self.server.cut(&mut out);
        if greeting.size != self.server.size() {
            let resize = self.client.resize(greeting.size);
            out.append(&mut resize.ok_or_else(|| io::Error::other("the viewer cannot follow another size"))?);
            self.server.set_size(greeting.size);
        }
        stream.write_all(&self.client.replay(greeting.size)).await?;
        (self.stream, self.run_dir) = (stream, run_dir);
        if !out.is_empty() {
            pieces.send(out).await.map_err(io::Error::other)?;
        }
        Ok(())
    }
}
