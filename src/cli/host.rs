//! Arguments of `vmdeck host`.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

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
    /// Let others in: make, list and revoke bearer tokens of the TLS port
    Token(TokenArgs),
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

/// Rights of a token or certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RoleWord {
    /// Everything.
    Admin,
    /// Reading, but no Secrets, consoles or forwarded ports.
    View,
}

/// `host token`.
#[derive(Debug, Args)]
pub struct TokenArgs {
    /// What.
    #[command(subcommand)]
    pub command: TokenCommand,
}

/// What to do with tokens.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a token and print it; it is shown only now
    Create {
        /// User name that the token stands for
        name: String,
        /// What the token allows
        #[arg(long, value_enum, default_value = "view")]
        role: RoleWord,
        /// How long it is good
        #[arg(long, value_name = "TIME", default_value = "24h", value_parser = super::format::duration)]
        duration: Duration,
    },
    /// List the tokens, without what is secret
    #[command(visible_alias = "ls")]
    List,
    /// End a token at once, or all tokens of a user
    Revoke {
        /// The token's id or the user's name
        which: String,
    },
}

/// `kubeconfig`.
#[derive(Debug, Args)]
pub struct KubeconfigArgs {
    /// Make new credentials with this role instead of printing the owner's
    #[arg(long, value_enum)]
    pub role: Option<RoleWord>,
    /// User name in the new credentials
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,
    /// Make a bearer token, which can be revoked, instead of a client certificate
    #[arg(long)]
    pub token: bool,
    /// How long the new credentials are good (a certificate a year, a token 24h)
    #[arg(long, value_name = "TIME", value_parser = super::format::duration)]
    pub duration: Option<Duration>,
}
