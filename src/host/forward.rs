//! Reaching a guest's ports without privileges: QEMU's user mode network lets a loopback port of this computer
//! lead into the guest. It is opened for one connection and closed as soon as that connection has passed.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UdpSocket};

use super::qmp::Qmp;

/// Ports tried before giving up: between choosing a free one and QEMU taking it, another program may be faster.
const TRIES: usize = 5;

/// How long the guest may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Pause between looks at QEMU's table of connections; there is no event for an answered one.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Why there is no connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ForwardError {
    /// There is no instance.
    #[error("the machine is not running")]
    NotRunning,
    /// QEMU or the guest refused; the text is for a user.
    #[error("{0}")]
    Failed(String),
}

/// A connection to a port of a guest. For UDP each write is a datagram, and each read is (the rest of) one.
pub struct PortStream(Socket);

enum Socket {
    Tcp(TcpStream),
    Udp {
        /// Not connected: QEMU's answers come from another of its ports than the one that leads into the guest.
        socket: UdpSocket,
        /// Closed when the stream is dropped.
        open: OpenPort,
    },
}

/// A loopback port that leads into the guest until this is dropped.
struct OpenPort {
    qmp: Qmp,
    protocol: &'static str,
    port: u16,
    runtime: tokio::runtime::Handle,
}

impl OpenPort {
    async fn open(qmp: &Qmp, protocol: &'static str, guest: Ipv4Addr, guest_port: u16) -> Result<Self, String> {
        let mut last = String::new();
        for _ in 0..TRIES {
            let port = free_port(protocol).await.map_err(|error| format!("no free port on this computer: {error}"))?;
            let rule = format!("hostfwd_add net0 {protocol}:127.0.0.1:{port}-{guest}:{guest_port}");
            last = qmp.human(&rule).await.map_err(|error| error.to_string())?;
            if last.is_empty() {
                let runtime = tokio::runtime::Handle::current();
                return Ok(Self { qmp: qmp.clone(), protocol, port, runtime });
            }
        }
        Err(format!("QEMU cannot forward a port: {last}"))
    }

    fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }
}

impl Drop for OpenPort {
    fn drop(&mut self) {
        let (qmp, rule) = (self.qmp.clone(), format!("hostfwd_remove net0 {}:127.0.0.1:{}", self.protocol, self.port));
        // If QEMU is gone, so is the port.
        self.runtime.spawn(async move { qmp.human(&rule).await });
    }
}

async fn free_port(protocol: &str) -> io::Result<u16> {
    let any = (Ipv4Addr::LOCALHOST, 0);
    let address = if protocol == "udp" {
        UdpSocket::bind(any).await?.local_addr()?
    } else {
        tokio::net::TcpListener::bind(any).await?.local_addr()?
    };
    Ok(address.port())
}

/// Connects to a port of the guest at `guest`. Whether something listens on a UDP port cannot be known.
pub(super) async fn connect(qmp: &Qmp, guest: Ipv4Addr, port: u16, udp: bool) -> Result<PortStream, String> {
    if udp {
        let open = OpenPort::open(qmp, "udp", guest, port).await?;
        // On loopback, so that only this computer's programs can answer in the guest's place.
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let socket = socket.map_err(|error| format!("no free port on this computer: {error}"))?;
        return Ok(PortStream(Socket::Udp { socket, open }));
    }
    let open = OpenPort::open(qmp, "tcp", guest, port).await?;
    let stream = TcpStream::connect(open.address())
        .await
        .map_err(|error| format!("cannot reach the forwarded port: {error}"))?;
    let refused = || format!("nothing listens on port {port} of the guest");
    let passed = async {
        let mut seen = false;
        loop {
            let table = qmp.human("info usernet").await.map_err(|error| error.to_string())?;
            match state(&table, open.port) {
                // QEMU has taken the connection and asks the guest, or has not come to it yet.
                Some("SYN_SENT") => seen = true,
                None if !seen => {}
                Some(_) => return Ok(()),
                None => return Err(refused()),
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    };
    let spoken = async {
        // The end before the first byte: QEMU passes on the guest's refusal, which may be too quick for the table.
        match stream.peek(&mut [0]).await {
            Ok(1..) => Ok(()),
            Ok(0) | Err(_) => Err(refused()),
        }
    };
    // The port may be closed only when the connection has passed through it.
    tokio::select! {
        passed = passed => passed?,
        spoken = spoken => spoken?,
        () = tokio::time::sleep(ANSWER_TIMEOUT) => {
            return Err(format!("the guest did not answer on port {port} within {} s", ANSWER_TIMEOUT.as_secs()));
        }
    }
    stream.set_nodelay(true).map_err(|error| error.to_string())?;
    Ok(PortStream(Socket::Tcp(stream)))
}

/// State of the connection that came through a loopback port, in QEMU's table.
fn state(table: &str, port: u16) -> Option<&str> {
    let port = port.to_string();
    table.lines().find_map(|line| {
        let (state, rest) = line.trim_start().strip_prefix("TCP[")?.split_once(']')?;
        let mut fields = rest.split_ascii_whitespace();
        (state != "HOST_FORWARD" && fields.nth(1) == Some("127.0.0.1") && fields.next() == Some(&port)).then_some(state)
    })
}

impl AsyncRead for PortStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().0 {
            Socket::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            // An empty datagram would read as the end.
            Socket::Udp { socket, .. } => loop {
                let before = buf.filled().len();
                match socket.poll_recv_from(cx, buf) {
                    Poll::Ready(Ok(_)) if buf.filled().len() == before => {}
                    other => return other.map_ok(|_| ()),
                }
            },
        }
    }
}

impl AsyncWrite for PortStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().0 {
            Socket::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Socket::Udp { socket, open } => socket.poll_send_to(cx, buf, open.address()),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().0 {
            Socket::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Socket::Udp { .. } => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().0 {
            Socket::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Socket::Udp { .. } => Poll::Ready(Ok(())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_found_in_qemus_table() {
        let table = "Hub -1 (net0):\r\n  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\r\n\
                     \x20 TCP[SYN_SENT]      12       127.0.0.1 40022     10.66.10.12    22     0     0\r\n\
                     \x20 TCP[HOST_FORWARD]  11       127.0.0.1 40022     10.66.10.12    22     0     0\r\n\
                     \x20 TCP[HOST_FORWARD]  13       127.0.0.1 40023     10.66.10.12    22     0     0\r\n\
                     \x20 TCP[ESTABLISHED]   14     10.66.10.12 40024        10.0.0.1   999     0     0\r\n";
        assert_eq!(state(table, 40_022), Some("SYN_SENT"));
        assert_eq!(state(table, 40_023), None);
        assert_eq!(state(table, 40_024), None);
    }
}
