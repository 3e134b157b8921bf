//! `port-forward` and `vnc`: local ports, or standard input and output, on a machine's streams.

use std::net::{IpAddr, SocketAddr};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

use crate::cli::target::{self, Forward};
use crate::cli::{PortForwardArgs, VncArgs};
use crate::client::{ConsoleError, ConsoleStream, Session};

use super::failure::Failure;
use super::{Context, out};

/// How long a viewer may take to connect.
const VIEWER_PATIENCE: Duration = Duration::from_secs(60);

/// Runs `port-forward`.
pub async fn run(context: &Context, args: PortForwardArgs) -> Result<(), Failure> {
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
        let stream = session.port_forward(&namespace, &machine.name, port.remote, false).await?;
        return stdio(stream).await;
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

fn cannot_listen(address: SocketAddr, error: &std::io::Error) -> Failure {
    Failure::new(format!("cannot listen on {address}: {error}"))
}

/// Copies until the machine's side has ended. The end of our input is passed on, but the answer may still come.
pub async fn stdio<S: AsyncRead + AsyncWrite>(stream: S) -> Result<(), Failure> {
    let (mut from, mut to) = tokio::io::split(stream);
    let inward = async {
        let mut stdout = tokio::io::stdout();
        tokio::io::copy(&mut from, &mut stdout).await?;
        tokio::io::AsyncWriteExt::flush(&mut stdout).await
    };
    let outward = async {
        let mut stdin = tokio::io::stdin();
        // A broken way out shows as the end of the way in.
        let _ = tokio::io::copy(&mut stdin, &mut to).await;
        let _ = tokio::io::AsyncWriteExt::shutdown(&mut to).await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        done = inward => Ok(done?),
        () = outward => Ok(()),
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
                Ok((stream, peer)) => {
                    let way = std::sync::Arc::clone(&way);
                    tokio::spawn(async move {
                        if let Err(e) = way.connect(stream).await {
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

    async fn connect(&self, mut near: TcpStream) -> Result<(), ConsoleError> {
        let mut far = self.session.port_forward(&self.namespace, &self.name, self.port.remote, false).await?;
        // However it ends, both sides notice.
        let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
        Ok(())
    }

    /// One stream for each peer; a message is a datagram.
    async fn serve_udp(self, socket: UdpSocket) {
        let socket = std::sync::Arc::new(socket);
        let mut peers: std::collections::HashMap<SocketAddr, tokio::sync::mpsc::Sender<bytes::Bytes>> =
            std::collections::HashMap::new();
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
            let data = bytes::Bytes::copy_from_slice(&buffer[..size]);
            if let Some(input) = peers.get(&peer)
                && input.send(data.clone()).await.is_ok()
            {
                continue;
            }
            match self.session.datagrams(&self.namespace, &self.name, self.port.remote).await {
                Ok(ConsoleStream { input, mut output, .. }) => {
                    // The peer's next datagram opens another if this one ended.
                    let _ = input.send(data).await;
                    peers.insert(peer, input);
                    let socket = std::sync::Arc::clone(&socket);
                    tokio::spawn(async move {
                        while let Some(data) = output.recv().await {
                            if socket.send_to(&data, peer).await.is_err() {
                                return;
                            }
                        }
                    });
                }
                Err(e) => out::note(&format!("vmdeck: datagram from {peer}: {e}")),
            }
        }
    }
}

/// Runs `vnc`.
pub async fn vnc(context: &Context, args: VncArgs) -> Result<(), Failure> {
    let machine = target::machine(&args.machine).map_err(Failure::usage)?;
    let namespace = machine.namespace.unwrap_or_else(|| context.default_namespace().to_owned());
    // Only a proxy may listen elsewhere than here: a screen has no password.
    let ip: IpAddr = if args.proxy_only { args.address } else { std::net::Ipv4Addr::LOCALHOST.into() };
    let address = SocketAddr::new(ip, args.port);
    super::holder::consider(context, &namespace, &machine.name, "vnc", args.force).await?;
    // A machine that cannot be seen is told before a viewer opens.
    let first = context.session.vnc(&namespace, &machine.name).await?;
    let listener = TcpListener::bind(address).await.map_err(|e| cannot_listen(address, &e))?;
    let port = listener.local_addr()?.port();
    if args.proxy_only {
        out::line(&format!("{{\"port\":{port}}}"))?;
        drop(first);
        loop {
            let (mut near, _) = listener.accept().await?;
            let (session, namespace, name) = (context.session.clone(), namespace.clone(), machine.name.clone());
            tokio::spawn(async move {
                match session.vnc(&namespace, &name).await {
                    Ok(mut far) => {
                        let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                    }
                    Err(e) => out::note(&format!("vmdeck: {e}")),
                }
            });
        }
    }
    let mut viewer = start_viewer(port)?;
    let accepted = tokio::time::timeout(VIEWER_PATIENCE, listener.accept()).await;
    let (mut near, _) = match accepted {
        Ok(accepted) => accepted?,
        Err(_) => {
            return Err(Failure::new(format!("the viewer did not connect within {} s", VIEWER_PATIENCE.as_secs())));
        }
    };
    let mut far = first;
    tokio::select! {
        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
        _ = viewer.wait() => {}
    }
    Ok(())
}

fn start_viewer(port: u16) -> Result<tokio::process::Child, Failure> {
    let candidates =
        [("remote-viewer", format!("vnc://127.0.0.1:{port}")), ("vncviewer", format!("127.0.0.1::{port}"))];
    for (program, argument) in candidates {
        let spawned = tokio::process::Command::new(program)
            .arg(argument)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        match spawned {
            Ok(child) => return Ok(child),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(Failure::new(format!("cannot start {program}: {e}"))),
        }
    }
    Err(Failure::new(
        "no VNC viewer is installed\n\
         Install virt-viewer (remote-viewer) or tigervnc-viewer, or use --proxy-only and a viewer of your own.",
    ))
}
