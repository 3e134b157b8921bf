//! Connections into a machine of user mode networking: a forwarding rule on a loopback port, made for one
//! connection and taken back as soon as QEMU has it.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::{TcpListener, TcpStream, UdpSocket};

use super::local::LocalHost;
use super::qmp::Qmp;
use super::spec::MachineId;

/// Attempts when somebody else takes the port between its choice and its use.
const ATTEMPTS: u32 = 5;

/// Why there is no connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ForwardError {
    /// There is no instance.
    #[error("the machine is not running")]
    NotRunning,
    /// QEMU or the system refused; the text is for a user.
    #[error("{0}")]
    Failed(String),
}

impl LocalHost {
    /// Opens a TCP connection to a port of the guest. A port on which nobody listens shows as an early end.
    pub async fn connect_tcp(&self, id: &MachineId, port: u16) -> Result<TcpStream, ForwardError> {
        let qmp = self.monitor(id).ok_or(ForwardError::NotRunning)?;
        let mut last = String::new();
        for _ in 0..ATTEMPTS {
            let local = free_tcp_port().await.map_err(|e| ForwardError::Failed(e.to_string()))?;
            last = human(&qmp, &rule("add", "tcp", local, Some(port))).await?;
            if !last.is_empty() {
                continue;
            }
            let connected = TcpStream::connect(local).await;
            // Two rounds through QEMU's loop: in the first it may be busy with the command, in the second it has
            // seen the connection.
            human(&qmp, "info version").await?;
            human(&qmp, "info version").await?;
            human(&qmp, &rule("remove", "tcp", local, None)).await?;
            return connected.map_err(|e| ForwardError::Failed(format!("QEMU does not take the connection: {e}")));
        }
        Err(ForwardError::Failed(format!("QEMU does not forward port {port}: {last}")))
    }

    /// Opens a UDP association with a port of the guest; the rule goes when the returned guard is dropped.
    pub async fn connect_udp(&self, id: &MachineId, port: u16) -> Result<(UdpSocket, UdpRule), ForwardError> {
        let qmp = self.monitor(id).ok_or(ForwardError::NotRunning)?;
        let failed = |e: std::io::Error| ForwardError::Failed(e.to_string());
        let mut last = String::new();
        for _ in 0..ATTEMPTS {
            let probe = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(failed)?;
            let local = probe.local_addr().map_err(failed)?;
            drop(probe);
            last = human(&qmp, &rule("add", "udp", local, Some(port))).await?;
            if !last.is_empty() {
                continue;
            }
            let guard = UdpRule { qmp: qmp.clone(), local, runtime: tokio::runtime::Handle::current() };
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(failed)?;
            socket.connect(local).await.map_err(failed)?;
            return Ok((socket, guard));
        }
        Err(ForwardError::Failed(format!("QEMU does not forward port {port}: {last}")))
    }
}

/// A UDP forwarding rule, taken back on drop.
pub struct UdpRule {
    qmp: Qmp,
    local: SocketAddr,
    runtime: tokio::runtime::Handle,
}

impl Drop for UdpRule {
    fn drop(&mut self) {
        let (qmp, local) = (self.qmp.clone(), self.local);
        self.runtime.spawn(async move {
            // A monitor that is gone has taken its rules along.
            let _ = qmp.human(&rule("remove", "udp", local, None)).await;
        });
    }
}

/// The monitor's command. Without a guest address the rule means the guest's own.
fn rule(verb: &str, protocol: &str, local: SocketAddr, guest_port: Option<u16>) -> String {
    let guest = guest_port.map(|p| format!("-:{p}")).unwrap_or_default();
    format!("hostfwd_{verb} net0 {protocol}:{}:{}{guest}", local.ip(), local.port())
}

async fn human(qmp: &Qmp, command: &str) -> Result<String, ForwardError> {
    qmp.human(command).await.map_err(|e| ForwardError::Failed(format!("QEMU does not answer: {e}")))
}

async fn free_tcp_port() -> std::io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?.local_addr()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules() {
        let local: SocketAddr = "127.0.0.1:4000".parse().unwrap();
        assert_eq!(rule("add", "tcp", local, Some(22)), "hostfwd_add net0 tcp:127.0.0.1:4000-:22");
        assert_eq!(rule("remove", "udp", local, None), "hostfwd_remove net0 udp:127.0.0.1:4000");
    }
}
