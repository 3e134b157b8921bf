//! `port-forward`: local ports, or standard input and output, on ports of a machine.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::mpsc;

use crate::cli::PortForwardArgs;
use crate::cli::target::{self, Forward};
use crate::client::{ConsoleError, Session};

use super::failure::{Failure, code};
use super::signals::Signals;
use super::{Context, out};

/// How long the way back of a UDP peer is kept without a datagram in either direction, as routers do it.
const IDLE: Duration = Duration::from_secs(60);

/// Datagrams that wait for a peer's way; more are lost, as on any network.
const QUEUE: usize = 256;

/// Runs `port-forward`.
pub async fn run(context: &Context, args: PortForwardArgs) -> Result<(), Failure> {
    // ssh ends its proxy by a hang-up: a tunnel to another host must go with it.
    let mut stop = Signals::new()?;
    tokio::select! {
        done = forward(context, args) => done,
        () = stop.recv() => Err(Failure::quiet(code::INTERRUPTED)),
    }
}

async fn forward(context: &Context, args: PortForwardArgs) -> Result<(), Failure> {
    let machine = target::machine(&args.machine).map_err(Failure::usage)?;
    let namespace = machine.namespace.unwrap_or_else(|| context.default_namespace().to_owned());
    let ports: Vec<Forward> =
        args.ports.iter().map(|p| target::forward(p)).collect::<Result<_, _>>().map_err(Failure::usage)?;
    let session = &context.session;
    if args.stdio {
        let [port] = ports[..] else { return Err(Failure::usage("--stdio takes one port")) };
        if port.udp {
            return Err(Failure::usage("--stdio carries TCP only"));
        }
        let stream = session.port_forward(&namespace, &machine.name, port.remote).await?;
        // Whoever types at a terminal has seen the end.
        let until = if std::io::stdin().is_terminal() { Until::ItEnds } else { Until::BothEnd };
        return stdio(stream, until).await;
    }
    let mut tasks = tokio::task::JoinSet::new();
    for port in ports {
        let way = Way { session: session.clone(), namespace: namespace.clone(), name: machine.name.clone(), port };
        let address = SocketAddr::new(args.address, port.local);
        if port.udp {
            let socket = UdpSocket::bind(address).await.map_err(|e| cannot_listen(address, &e))?;
            out::line(&format!("Forwarding from {}/udp -> {}", socket.local_addr()?, port.remote))?;
            tasks.spawn(way.serve_udp(socket));
        } else {
            let listener = TcpListener::bind(address).await.map_err(|e| cannot_listen(address, &e))?;
            out::line(&format!("Forwarding from {} -> {}", listener.local_addr()?, port.remote))?;
            tasks.spawn(way.serve_tcp(listener));
        }
    }
    // Until the user interrupts it.
    while tasks.join_next().await.is_some() {}
    Ok(())
}

/// What keeps a port from being listened on.
pub fn cannot_listen(address: SocketAddr, error: &std::io::Error) -> Failure {
    Failure::new(format!("cannot listen on {address}: {error}"))
}

/// When a copy between standard input and output and a stream is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// The stream has no more for us.
    ItEnds,
    /// Nor have we for it.
    BothEnd,
}

/// Copies in both directions. The end of our input is passed on, and the answer may still come.
pub async fn stdio<S: AsyncRead + AsyncWrite>(stream: S, until: Until) -> Result<(), Failure> {
    let (mut from, mut to) = tokio::io::split(stream);
    let inward = async {
        let mut stdout = tokio::io::stdout();
        tokio::io::copy(&mut from, &mut stdout).await?;
        tokio::io::AsyncWriteExt::flush(&mut stdout).await?;
        // Who reads us sees the end while we go on reading: ssh ends only then.
        std::io::Result::Ok(rustix::stdio::dup2_stdout(std::fs::File::options().write(true).open("/dev/null")?)?)
    };
    let outward = async {
        let mut stdin = tokio::io::stdin();
        // A broken way out shows as the end of the way in.
        let _ = tokio::io::copy(&mut stdin, &mut to).await;
        let _ = tokio::io::AsyncWriteExt::shutdown(&mut to).await;
    };
    if until == Until::BothEnd {
        let (done, ()) = tokio::join!(inward, outward);
        return Ok(done?);
    }
    tokio::pin!(inward);
    tokio::select! {
        done = &mut inward => Ok(done?),
        () = outward => Ok(inward.await?),
    }
}

/// Where one forwarded port leads.
struct Way {
    session: Session,
    namespace: String,
    name: String,
    port: Forward,
}

impl Way {
    async fn serve_tcp(self, listener: TcpListener) {
        let way = std::sync::Arc::new(self);
        loop {
            match listener.accept().await {
                Ok((mut stream, peer)) => {
                    let way = std::sync::Arc::clone(&way);
                    tokio::spawn(async move {
                        // The reason is told before the connection ends.
                        if let Err(e) = way.connect(&mut stream).await {
                            out::note(&format!("vmdeck: connection from {peer}: {e}"));
                        }
                    });
                }
                Err(e) => {
                    out::note(&format!("vmdeck: no more connections: {e}"));
                    return;
                }
            }
        }
    }

    async fn connect(&self, near: &mut TcpStream) -> Result<(), ConsoleError> {
        let mut far = self.session.port_forward(&self.namespace, &self.name, self.port.remote).await?;
        // However it ends, both sides notice.
        let _ = tokio::io::copy_bidirectional(near, &mut far).await;
        Ok(())
    }

    /// A stream for each peer; a message is a datagram.
    async fn serve_udp(self, socket: UdpSocket) {
        let way = Arc::new(self);
        let socket = Arc::new(socket);
        let mut peers: HashMap<SocketAddr, mpsc::Sender<Bytes>> = HashMap::new();
        let mut buffer = vec![0; 65_536];
        loop {
            let (size, peer) = match socket.recv_from(&mut buffer).await {
                Ok(got) => got,
                // An ICMP error of an earlier answer; the next datagram is another matter.
                Err(e) if e.kind() == std::io::ErrorKind::ConnectionRefused => continue,
                Err(e) => {
                    out::note(&format!("vmdeck: no more datagrams: {e}"));
                    return;
                }
            };
            let data = Bytes::copy_from_slice(&buffer[..size]);
            peers.retain(|_, queue| !queue.is_closed());
            let queue = peers.entry(peer).or_insert_with(|| {
                let (queue, datagrams) = mpsc::channel(QUEUE);
                let (way, socket) = (Arc::clone(&way), Arc::clone(&socket));
                tokio::spawn(async move {
                    if let Err(e) = way.converse(&socket, peer, datagrams).await {
                        out::note(&format!("vmdeck: datagram from {peer}: {e}"));
                    }
                });
                queue
            });
            // One that does not fit is lost: a slow way must not hold up the other peers.
            let _ = queue.try_send(data);
        }
    }

    /// Carries one peer's datagrams until nothing has come for a while. The peer's next one begins anew.
    async fn converse(
        &self,
        socket: &UdpSocket,
        peer: SocketAddr,
        mut datagrams: mpsc::Receiver<Bytes>,
    ) -> Result<(), ConsoleError> {
        let mut far = self.session.datagrams(&self.namespace, &self.name, self.port.remote).await?;
        loop {
            tokio::select! {
                data = datagrams.recv() => match data {
                    None => return Ok(()),
                    Some(data) => if far.input.send(data).await.is_err() {
                        return Ok(());
                    },
                },
                data = far.output.recv() => match data {
                    // The peer may be gone; its port may not be.
                    Some(data) => drop(socket.send_to(&data, peer).await),
                    None => return Ok(()),
                },
                () = tokio::time::sleep(IDLE) => return Ok(()),
            }
        }
    }
}
