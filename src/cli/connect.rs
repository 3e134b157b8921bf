//! Arguments of the verbs that open streams into machines; flags as `d8 v` names them.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::format::duration;

/// `console`.
#[derive(Debug, Args)]
pub struct ConsoleArgs {
    /// Machine: NAME or NAME.NAMESPACE
    #[arg(value_name = "VM")]
    pub machine: String,
    /// How long to wait for the machine to run
    #[arg(long, value_parser = duration, value_name = "TIME", default_value = "5m")]
    pub timeout: Duration,
    /// Bytes of output from before that come first (a local host keeps them)
    #[arg(long, value_name = "BYTES", default_value_t = 64 * 1024)]
    pub history: usize,
    /// Take the console from whoever has it (a cluster's; a vmdeck host's are shared)
    #[arg(long)]
    pub force: bool,
}

/// `vnc`.
#[derive(Debug, Args)]
pub struct VncArgs {
    /// Machine: NAME or NAME.NAMESPACE
    #[arg(value_name = "VM")]
    pub machine: String,
    /// Only listen, and print {"port":N}
    #[arg(long)]
    pub proxy_only: bool,
    /// Address to listen on
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    pub address: std::net::IpAddr,
    /// Port to listen on; 0 = any
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    pub port: u16,
    /// Take the screen from whoever has it (a cluster's; a vmdeck host's are shared)
    #[arg(long)]
    pub force: bool,
}

/// Options of `ssh` and `scp`.
#[derive(Debug, Clone, Args)]
pub struct SshOptions {
    /// Login name, if not written before @
    #[arg(short = 'l', long, value_name = "USER")]
    pub username: Option<String>,
    /// Port of the machine's SSH server
    #[arg(short, long, value_name = "PORT", default_value_t = 22)]
    pub port: u16,
    /// Private key
    #[arg(short, long, value_name = "FILE")]
    pub identity_file: Option<PathBuf>,
    /// File of known host keys
    #[arg(long, value_name = "FILE")]
    pub known_hosts: Option<PathBuf>,
    /// More arguments for the ssh program, split at blanks; may be repeated; implies --local-ssh
    #[arg(long, value_name = "ARGS", alias = "local-ssh-opts", allow_hyphen_values = true)]
    pub ssh_args: Vec<String>,
    /// Use this computer's ssh program instead of our own client (scp always does)
    #[arg(long, value_name = "YES", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub local_ssh: Option<bool>,
}

/// `ssh`.
#[derive(Debug, Args)]
pub struct SshArgs {
    /// [USER@]NAME or [USER@]NAME.NAMESPACE
    #[arg(value_name = "[USER@]VM")]
    pub target: String,
    /// How.
    #[command(flatten)]
    pub options: SshOptions,
    /// Command to run there
    #[arg(short, long, value_name = "COMMAND")]
    pub command: Option<String>,
    /// Command to run there, after --
    #[arg(last = true, value_name = "COMMAND", conflicts_with = "command")]
    pub rest: Vec<String>,
}

/// `scp`.
#[derive(Debug, Args)]
pub struct CopyArgs {
    /// FILE or [USER@]VM:FILE
    #[arg(value_name = "SOURCE")]
    pub source: String,
    /// FILE or [USER@]VM:FILE
    #[arg(value_name = "TARGET")]
    pub target: String,
    /// How.
    #[command(flatten)]
    pub options: SshOptions,
    /// Directories with all they hold
    #[arg(short, long)]
    pub recursive: bool,
    /// Keep times and modes
    #[arg(long)]
    pub preserve: bool,
}

/// `port-forward`.
#[derive(Debug, Args)]
pub struct PortForwardArgs {
    /// Machine: NAME or NAME.NAMESPACE
    #[arg(value_name = "VM")]
    pub machine: String,
    /// Ports: [tcp/|udp/]LOCAL[:REMOTE]
    #[arg(value_name = "PORT", required = true)]
    pub ports: Vec<String>,
    /// Use standard input and output instead of a local port
    #[arg(long, num_args = 0..=1, default_value_t = false, default_missing_value = "true", require_equals = true, action = clap::ArgAction::Set)]
    pub stdio: bool,
    /// Address to listen on
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    pub address: std::net::IpAddr,
}

/// `upload`.
#[derive(Debug, Args)]
pub struct UploadArgs {
    /// Image file (qcow2, raw, vmdk, vdi, iso)
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// vi/NAME, cvi/NAME or vd/NAME
    #[arg(value_name = "KIND/NAME")]
    pub target: String,
    /// How long to wait until the object takes content
    #[arg(long, value_parser = duration, value_name = "TIME", default_value = "1m")]
    pub timeout: Duration,
    /// Return when the content is there, before the object is ready
    #[arg(long)]
    pub no_wait: bool,
}
