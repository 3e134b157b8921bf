//! Wires everything; the only module that may import all others. One file for each verb or family of verbs.

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command, Global};
use crate::client::Session;
use crate::config::{Paths, PathsEnv};

mod apply;
mod console;
mod delete;
mod describe;
mod edit;
mod engine;
mod failure;
mod forward;
mod get;
mod holder;
mod host;
mod input;
mod meta;
mod misc;
mod out;
mod patch;
mod power;
mod print;
mod resolve;
mod signals;
mod ssh;
mod terminal;
mod upload;
mod viewer;
mod vnc;
mod wait;

use failure::{Failure, code};

/// What a verb works with.
struct Context {
    session: Session,
    global: Global,
}

impl Context {
    /// The namespace that the user named.
    fn namespace(&self) -> Option<&str> {
        self.global.namespace.as_deref()
    }

    /// The namespace in effect.
    fn default_namespace(&self) -> &str {
        &self.session.default_namespace
    }
}

/// The program.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => {
            // Help and version are no errors; clap knows where each goes. A closed pipe is no reason to complain.
            let _ = e.print();
            return ExitCode::from(if e.use_stderr() { code::USAGE } else { 0 });
        }
    };
    // Fails only if a provider is installed already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let done = dispatch(cli);
    host::close_tunnels();
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !failure.text.is_empty() {
                out::note(&format!("vmdeck: {}", failure.text));
            }
            ExitCode::from(failure.code)
        }
    }
}

fn dispatch(cli: Cli) -> Result<(), Failure> {
    let paths = Paths::resolve(&PathsEnv::from_process()).map_err(|e| Failure::new(e.to_string()))?;
    match cli.command {
        Some(Command::Completion { shell }) => out::bytes(&crate::cli::completion(shell)),
        Some(Command::Man) => out::bytes(&crate::cli::man()?),
        Some(Command::Crds) => misc::crds(),
        Some(Command::Kubeconfig(args)) => host::kubeconfig(&paths, &args),
        Some(Command::ApiResources) => misc::api_resources(),
        Some(Command::Host(args)) => host::run(args, &paths),
        Some(command) => one_shot(cli.global, command, &paths),
        None => viewer::run(&cli.global, &paths),
    }
}

/// One-shot verbs need no second thread.
fn one_shot(global: Global, command: Command, paths: &Paths) -> Result<(), Failure> {
    trace();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(async {
        if let Command::Version { client } = command {
            return misc::version(client, &global, paths).await;
        }
        let session = engine::session(&global, paths).await?;
        let context = Context { session, global };
        match command {
            Command::Get(args) => get::run(&context, args).await,
            Command::Describe(args) => describe::run(&context, args).await,
            Command::Apply(args) => apply::apply(&context, args).await,
            Command::Create(args) => apply::create(&context, args).await,
            Command::Delete(args) => delete::run(&context, args).await,
            Command::Edit(args) => edit::run(&context, args).await,
            Command::Patch(args) => patch::run(&context, args).await,
            Command::Label(args) => meta::run(&context, args, meta::Field::Labels).await,
            Command::Annotate(args) => meta::run(&context, args, meta::Field::Annotations).await,
            Command::Wait(args) => wait::run(&context, args).await,
            Command::Start(args) => power::run(&context, args, power::Verb::Start, None).await,
            Command::Stop(args) => power::run(&context, args, power::Verb::Stop, None).await,
            Command::Restart(args) => power::run(&context, args, power::Verb::Restart, None).await,
            Command::Evict(args) => power::run(&context, args, power::Verb::Evict, None).await,
            Command::Migrate(args) => {
                power::run(&context, args.power, power::Verb::Migrate, args.target_node_name.as_deref()).await
            }
            Command::Console(args) => console::run(&context, args).await,
            Command::Upload(args) => upload::run(&context, args).await,
            Command::PortForward(args) => forward::run(&context, args).await,
            Command::Vnc(args) => vnc::run(&context, args).await,
            Command::Ssh(args) => ssh::ssh(&context, args).await,
            Command::Scp(args) => ssh::scp(&context, args).await,
            Command::Host(_)
            | Command::ApiResources
            | Command::Crds
            | Command::Kubeconfig(_)
            | Command::Completion { .. }
            | Command::Man
            | Command::Version { .. } => Ok(()),
        }
    });
    // A blocked read of standard input must not keep the process.
    runtime.shutdown_background();
    result
}

/// `VMDECK_LOG=debug` shows on standard error what the program does.
fn trace() {
    if let Ok(filter) = tracing_subscriber::EnvFilter::try_from_env("VMDECK_LOG") {
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    }
}
