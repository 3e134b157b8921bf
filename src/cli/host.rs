//! Arguments of `vmdeck host`.

use clap::{Args, Subcommand};

/// `host`.
#[derive(Debug, Args)]
pub struct HostArgs {
    /// What.
    #[command(subcommand)]
    pub command: HostCommand,
}

/// What to do with the daemon.
#[derive(Debug, Subcommand)]
pub enum HostCommand {
    /// Start the daemon
    Start(StartArgs),
    /// Stop the daemon; machines go on running
    Stop,
    /// Stop and start the daemon; machines go on running
    Restart,
    /// Show what the daemon is and does
    Status,
    /// Copy all objects, Secrets included, to a file; the daemon may run
    ///
    /// The file holds every object that the API serves. Contents of disks and images, console histories and settings
    /// are not in it.
    Backup(BackupArgs),
    /// Take all objects back from a file made by backup; machines go on running
    ///
    /// The file is checked first. A running daemon is stopped for the moment of the exchange and started again. The
    /// store that is replaced is kept beside the new one. Machines and disks made since the backup keep running and
    /// stay on disk, but have no object any more.
    Restore(RestoreArgs),
    /// Make the daemon a systemd service
    Install(InstallArgs),
    /// Connect standard input and output to the API's socket (what --host ssh:// uses)
    #[command(hide = true)]
    Dial,
}

/// `host start`.
#[derive(Debug, Args)]
pub struct StartArgs {
    /// Stay in the foreground, log to standard error
    #[arg(long)]
    pub foreground: bool,
    /// Be the daemon: detach, log to its file, tell readiness on standard output
    #[arg(long, hide = true, conflicts_with = "foreground")]
    pub daemon: bool,
}

/// `host backup`.
#[derive(Debug, Args)]
pub struct BackupArgs {
    /// The new file
    pub file: std::path::PathBuf,
}

/// `host restore`.
#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// A file made by "host backup"
    pub file: std::path::PathBuf,
}

/// `host install`.
#[derive(Debug, Args)]
pub struct InstallArgs {
    /// Print the unit instead of writing it
    #[arg(long)]
    pub print: bool,
}
