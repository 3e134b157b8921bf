//! Arguments of the verbs that operate machines; flags as `d8 v` names them.

use std::time::Duration;

use clap::Args;

use super::format::duration;

/// `start`, `stop`, `restart`, `evict`.
#[derive(Debug, Args)]
pub struct PowerArgs {
    /// Machines: NAME or NAME.NAMESPACE
    #[arg(value_name = "VM", required_unless_present_any = ["all", "label_selector"])]
    pub machines: Vec<String>,
    /// All machines of the namespace
    #[arg(long, conflicts_with = "machines")]
    pub all: bool,
    /// Machines with these labels
    #[arg(short = 'l', long, value_name = "SELECTOR", conflicts_with = "machines")]
    pub label_selector: Option<String>,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
    /// Without asking the guest: cut the power
    #[arg(short, long)]
    pub force: bool,
    /// Return when it is done, not when it has begun
    #[arg(short, long)]
    pub wait: bool,
    /// Return when the operation is created
    #[arg(short, long, conflicts_with = "wait")]
    pub create_only: bool,
    /// How long to wait for it
    #[arg(short, long, value_parser = duration, value_name = "TIME", default_value = "5m")]
    pub timeout: Duration,
}

/// `migrate`.
#[derive(Debug, Args)]
pub struct MigrateArgs {
    /// As for the others.
    #[command(flatten)]
    pub power: PowerArgs,
    /// Node to go to
    #[arg(long, value_name = "NODE")]
    pub target_node_name: Option<String>,
}
