//! `vmdeck host`: the daemon of this computer, its start, stop, state and installation.

use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use crate::cli::{HostArgs, HostCommand};
use crate::config::Paths;

use super::failure::Failure;

mod backup;
mod daemon;
mod dial;
mod install;
mod kubeconfig;
mod lock;
mod log;
mod start;
mod status;
mod streams;
mod tls;
mod token;

pub use dial::{close_tunnels, tunnel};
pub use kubeconfig::kubeconfig;
pub use start::start_in_background;

/// Runs `vmdeck host ...`.
pub fn run(args: HostArgs, paths: &Paths) -> Result<(), Failure> {
    match args.command {
        HostCommand::Start(start) if start.daemon || start.foreground => daemon::run(paths, start.foreground),
        HostCommand::Start(_) => start::command(paths),
        HostCommand::Stop => start::stop(paths),
        HostCommand::Restart => {
            start::stop(paths)?;
            start::command(paths)
        }
        HostCommand::Status => small_runtime()?.block_on(status::run(paths)),
        HostCommand::Backup(args) => backup::backup(paths, &args.file),
        HostCommand::Restore(args) => backup::restore(paths, &args.file),
        HostCommand::Token(args) => token::run(paths, args.command),
        HostCommand::Install(args) => install::run(paths, args.print),
        HostCommand::Dial => dial::run(paths),
    }
}

/// For commands that wait for one thing at a time.
fn small_runtime() -> Result<tokio::runtime::Runtime, Failure> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

/// Makes a directory that only we may look into. Root's may be passed through by others: QEMU runs as a user of its
/// own there and must reach its files. An existing directory is left as it is, and refused when everybody can write
/// there: they could put files of theirs in place of ours.
fn private_dir(path: &Path) -> Result<(), Failure> {
    let mode = if rustix::process::geteuid().is_root() { 0o711 } else { 0o700 };
    let made = path.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| {
        match std::fs::DirBuilder::new().mode(mode).create(path) {
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
            other => other,
        }
    });
    made.map_err(|e| Failure::new(format!("cannot create the directory {}: {e}", path.display())))?;
    let meta = std::fs::metadata(path)
        .map_err(|e| Failure::new(format!("cannot look at the directory {}: {e}", path.display())))?;
    if meta.permissions().mode() & 0o002 != 0 {
        return Err(Failure::new(format!(
            "everybody on this computer can write to {dir}\nClose it with \"chmod go-w {dir}\", or set VMDECK_HOME to \
             another folder.",
            dir = path.display()
        )));
    }
    Ok(())
}
