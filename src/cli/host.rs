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

/// `host install`.
#[derive(Debug, Args)]
pub struct InstallArgs {
    /// Print the unit instead of writing it
    #[arg(long)]
    pub print: bool,
}
