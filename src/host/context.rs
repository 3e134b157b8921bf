//! What all machines and volume jobs of one host share.

use std::io;
use std::path::Path;
use std::sync::Arc;

use tokio::net::UnixStream;
use tokio::sync::broadcast;

use super::cgroup::Hierarchy;
use super::layout::Layout;
use super::probe::Facts;
use super::volumes::Volumes;
use super::{HostEvent, MachineId};

/// See the module's documentation.
pub(super) struct Context {
    /// Directories and QEMU's identity.
    pub(super) layout: Layout,
    /// QEMU, acceleration, firmware.
    pub(super) facts: Facts,
    /// Where control groups go; `None` if CPU shares cannot be enforced.
    pub(super) hierarchy: Option<Hierarchy>,
    /// `coreFraction` is also an upper limit.
    pub(super) cpu_cap: bool,
    /// Bytes per second that a migration may take; as many as there are if absent.
    pub(super) migration_bandwidth: Option<u64>,
    /// Bytes per second that copying a running disk may take; as many as there are if absent.
    pub(super) snapshot_bandwidth: Option<u64>,
    /// Disks and images.
    pub(super) volumes: Arc<Volumes>,
    /// Announces changes.
    pub(super) events: broadcast::Sender<HostEvent>,
}

impl Context {
    /// Tells everyone that a machine's observation has changed.
    pub(super) fn announce(&self, id: &MachineId) {
        // Fails only when nobody listens.
        let _ = self.events.send(HostEvent::Machine(id.clone()));
    }
}

/// Runs file system work away from the async threads.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

/// Connects to a socket in a directory. The address of a unix socket is limited to 107 bytes; going through the
/// directory's descriptor keeps it short however deep the directory lies.
pub(super) async fn connect_in(directory: &Path, name: &str) -> io::Result<UnixStream> {
    let path = directory.to_owned();
    let directory = blocking(move || std::fs::File::open(path)).await?;
    UnixStream::connect(fd_path(&directory, name)).await
}

/// A short path to a file in an open directory.
pub(super) fn fd_path(directory: &std::fs::File, name: &str) -> String {
    use std::os::fd::AsRawFd;
    format!("/proc/self/fd/{}/{name}", directory.as_raw_fd())
}
