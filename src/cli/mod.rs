//! The command line as data: what clap parses, and the small languages inside arguments ([`format`], [`target`]).
//! Nothing here does anything.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

mod connect;
pub mod format;
mod host;
mod objects;
mod power;
pub mod target;

pub use connect::{ConsoleArgs, CopyArgs, PortForwardArgs, SshArgs, SshOptions, UploadArgs, VncArgs};
pub use host::{HostArgs, HostCommand, InstallArgs, KubeconfigArgs, RoleWord, StartArgs, TokenCommand};
pub use objects::{
    ApplyArgs, CreateArgs, DeleteArgs, DescribeArgs, EditArgs, GetArgs, MetaArgs, PatchArgs, PatchKind, Validate,
    WaitArgs,
};
pub use power::{MigrateArgs, PowerArgs};

const AFTER: &str = "\
Without a command the terminal UI opens.

Which engine: --context NAME or --host local|unix:///PATH|ssh://USER@HOST; otherwise the current kubeconfig context
if it answers within 2 s and serves virtualization.deckhouse.io; otherwise this computer, whose daemon is started
when none runs.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 no connection, 4 not found, 5 conflict or exists already,
6 refused as invalid, 130 interrupted.";

/// A terminal UI for virtual machines: one API for a Deckhouse cluster and for this computer's QEMU.
#[derive(Debug, Parser)]
#[command(name = "vmdeck", version, after_help = AFTER, max_term_width = 110)]
pub struct Cli {
    /// Flags of every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do; nothing means the UI.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Flags of every command.
#[derive(Debug, Clone, Default, Args)]
pub struct Global {
    /// Kubeconfig context to use
    #[arg(long, global = true, value_name = "NAME", conflicts_with = "host", help_heading = "Engine")]
    pub context: Option<String>,
    /// Host to use: local, unix:///PATH or ssh://USER@HOST
    #[arg(long, global = true, value_name = "HOST", help_heading = "Engine")]
    pub host: Option<String>,
    /// Kubeconfig file instead of $KUBECONFIG and ~/.kube/config
    #[arg(long, global = true, value_name = "FILE", help_heading = "Engine")]
    pub kubeconfig: Option<PathBuf>,
    /// Namespace instead of the context's
    #[arg(short, long, global = true, value_name = "NAME", help_heading = "Engine")]
    pub namespace: Option<String>,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List objects, or print one
    #[command(visible_alias = "ls")]
    Get(GetArgs),
    /// Show an object with its conditions, waiting changes and events
    Describe(DescribeArgs),
    /// Create or change objects from manifests
    Apply(ApplyArgs),
    /// Create objects from manifests
    Create(CreateArgs),
    /// Delete objects
    #[command(visible_alias = "rm")]
    Delete(DeleteArgs),
    /// Edit an object in $EDITOR
    Edit(EditArgs),
    /// Change fields of an object
    Patch(PatchArgs),
    /// Set or remove labels
    Label(MetaArgs),
    /// Set or remove annotations
    Annotate(MetaArgs),
    /// Wait for a condition, a field's value or a deletion
    Wait(WaitArgs),
    /// Start virtual machines
    Start(PowerArgs),
    /// Shut virtual machines down
    Stop(PowerArgs),
    /// Restart virtual machines
    Restart(PowerArgs),
    /// Move running virtual machines to another node, or into a fresh QEMU
    Evict(PowerArgs),
    /// As evict, to a node that may be named
    Migrate(MigrateArgs),
    /// Connect to a virtual machine's serial console
    Console(ConsoleArgs),
    /// Connect to a virtual machine's screen
    Vnc(VncArgs),
    /// Connect to a virtual machine by SSH
    Ssh(SshArgs),
    /// Copy files from and to a virtual machine by SSH
    Scp(CopyArgs),
    /// Forward local ports to a virtual machine
    PortForward(PortForwardArgs),
    /// Send a file's content to an image or disk that waits for it
    Upload(UploadArgs),
    /// Run and look after this computer's daemon
    Host(HostArgs),
    /// List the kinds of objects
    ApiResources,
    /// Print the kinds as CustomResourceDefinition manifests
    Crds,
    /// Print the kubeconfig of this computer's TLS port, for kubectl and others
    ///
    /// Without options it is the owner's, who may do everything. With --user, --role, --token or --duration new
    /// credentials are made: a client certificate of this host's authority, or a token.
    Kubeconfig(KubeconfigArgs),
    /// Print a shell's completion script
    Completion {
        /// Which shell
        shell: Shell,
    },
    /// Print the manual page
    Man,
    /// Print versions
    Version {
        /// Only this program's
        #[arg(long)]
        client: bool,
    },
}

/// Shells that completion scripts are made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Shell {
    /// GNU Bash.
    Bash,
    /// Z shell.
    Zsh,
    /// fish.
    Fish,
    /// Elvish.
    Elvish,
}

/// The completion script of a shell.
pub fn completion(shell: Shell) -> Vec<u8> {
    let mut command = <Cli as clap::CommandFactory>::command();
    let shell = match shell {
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Zsh => clap_complete::Shell::Zsh,
        Shell::Fish => clap_complete::Shell::Fish,
        Shell::Elvish => clap_complete::Shell::Elvish,
    };
    let mut out = Vec::new();
    clap_complete::generate(shell, &mut command, "vmdeck", &mut out);
    out
}

/// The manual page, in roff.
///
/// # Errors
/// Never for a writer to memory; passed on.
pub fn man() -> std::io::Result<Vec<u8>> {
    let mut out = Vec::new();
    let command = <Cli as clap::CommandFactory>::command();
    clap_mangen::Man::new(command.clone()).render(&mut out)?;
    for sub in command.get_subcommands().filter(|c| !c.is_hide_set()) {
        let name = sub.get_name().to_uppercase();
        out.extend_from_slice(format!(".SH \"VMDECK {name}\"\n").as_bytes());
        clap_mangen::Man::new(sub.clone()).render_description_section(&mut out)?;
        clap_mangen::Man::new(sub.clone()).render_options_section(&mut out)?;
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn definition_is_sound() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn the_user_guides_commands_parse() {
        for line in [
            "vmdeck",
            "vmdeck apply -f -",
            "vmdeck get vm linux-vm",
            "vmdeck get vm linux-vm -o jsonpath={.status.restartAwaitingChanges}",
            "vmdeck get vm linux-vm -o wide",
            "vmdeck get vm -w",
            "vmdeck get virtualmachineoperation",
            "vmdeck patch vm linux-vm --type merge -p {}",
            "vmdeck patch vmip x --type=merge --patch {}",
            "vmdeck edit vm linux-vm",
            "vmdeck delete vmbda attach-blank-disk",
            "vmdeck console linux-vm",
            "vmdeck vnc linux-vm",
            "vmdeck ssh cloud@linux-vm --local-ssh",
            "vmdeck ssh cloud@linux-vm --local-ssh --command nproc",
            "vmdeck restart linux-vm",
            "vmdeck stop a b -y --force --wait -t 30s",
            "vmdeck evict --all -n x",
            "vmdeck -n x get vm",
            "vmdeck port-forward --stdio=true vm.ns 22",
        ] {
            parse(line).unwrap_or_else(|e| panic!("{line}: {e}"));
        }
    }

    #[test]
    fn contradictions_are_usage_errors() {
        for line in ["vmdeck --context a --host local get vm", "vmdeck apply", "vmdeck stop", "vmdeck get vm -o bogus"]
        {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn scripts_and_manual_are_made() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish, Shell::Elvish] {
            assert!(String::from_utf8(completion(shell)).unwrap().contains("vmdeck"));
        }
        assert!(String::from_utf8(man().unwrap()).unwrap().contains(".TH"));
    }
}
