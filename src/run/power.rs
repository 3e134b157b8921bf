//! `start`, `stop`, `restart`, `evict`, `migrate`: each creates a VirtualMachineOperation and follows it.

use std::io::{BufRead, IsTerminal, Write};

use futures::StreamExt;
use serde_json::Value;

use crate::cli::{PowerArgs, target};
use crate::client::{ListOptions, ObjectEvent, OperationType};

use super::apply::kind;
use super::failure::Failure;
use super::{Context, out};

/// Which verb.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Power on.
    Start,
    /// Shut down.
    Stop,
    /// Stop and start.
    Restart,
    /// Live migration.
    Evict,
    /// Live migration to a node that may be named.
    Migrate,
}

impl Verb {
    fn operation(self) -> OperationType {
        match self {
            Self::Start => OperationType::Start,
            Self::Stop => OperationType::Stop,
            Self::Restart => OperationType::Restart,
            Self::Evict => OperationType::Evict,
            Self::Migrate => OperationType::Migrate,
        }
    }

    /// Word for the question, for what goes on, for what is done.
    fn words(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Start => ("start", "starting", "started"),
            Self::Stop => ("stop", "stopping", "stopped"),
            Self::Restart => ("restart", "restarting", "restarted"),
            Self::Evict => ("evict", "evicting", "evicted"),
            Self::Migrate => ("migrate", "migrating", "migrated"),
        }
    }
}

/// Runs a verb.
pub async fn run(context: &Context, args: PowerArgs, verb: Verb, node: Option<&str>) -> Result<(), Failure> {
    let machines = machines(context, &args).await?;
    if machines.is_empty() {
        out::note("No machines found.");
        return Ok(());
    }
    // Many machines by a selector are easily more than was meant; a named one is not.
    let bulk = args.all || args.label_selector.is_some();
    let confirmed = args.yes || std::env::var("D8_VIRTUALIZATION_LIFECYCLE_CONFIRM").is_ok_and(|v| v == "yes");
    let ask = bulk && !confirmed && std::io::stdin().is_terminal();
    let mut worst: Option<u8> = None;
    let create_only = args.create_only || (machines.len() > 1 && !args.wait);
    let mut following = Vec::new();
    for (namespace, name) in machines {
        if ask && !confirm(verb.words().0, &namespace, &name)? {
            out::line(&format!("VirtualMachine \"{namespace}/{name}\" is skipped."))?;
            continue;
        }
        // Told before an operation is made that can only fail.
        if let Err(e) = context.session.get(kind("virtualmachines")?, Some(&namespace), &name).await {
            let failure = Failure::from(e);
            out::note(&format!("vmdeck: {}", failure.text));
            worst = Some(failure.code);
            continue;
        }
        let created = context.session.operation_with(&namespace, &name, verb.operation(), args.force, node).await;
        let operation = match created {
            Ok(object) => object["metadata"]["name"].as_str().unwrap_or_default().to_owned(),
            Err(e) => {
                let failure = Failure::from(e);
                out::note(&format!("vmdeck: VirtualMachine \"{namespace}/{name}\": {}", failure.text));
                worst = Some(failure.code);
                continue;
            }
        };
        if create_only {
            out::line(&format!(
                "VirtualMachine \"{namespace}/{name}\" {}. VirtualMachineOperation \"{namespace}/{operation}\" created.",
                verb.words().1
            ))?;
        } else {
            following.push((namespace, name, operation));
        }
    }
    let follow = following.iter().map(|(namespace, name, operation)| {
        tokio::time::timeout(args.timeout, follow(context, verb, args.wait, namespace, name, operation))
    });
    for (result, (namespace, name, operation)) in futures::future::join_all(follow).await.into_iter().zip(&following) {
        match result {
            Ok(Ok(text)) => out::line(&text)?,
            Ok(Err(failure)) => {
                out::note(&failure.text);
                worst = Some(failure.code);
            }
            Err(_) => {
                let pending = format!("VirtualMachineOperation \"{namespace}/{operation}\" goes on");
                out::note(&format!(
                    "vmdeck: VirtualMachine \"{namespace}/{name}\": nothing more after {} s; {pending}",
                    args.timeout.as_secs()
                ));
                worst = Some(super::failure::code::FAILED);
            }
        }
    }
    worst.map_or(Ok(()), |code| Err(Failure::quiet(code)))
}

async fn machines(context: &Context, args: &PowerArgs) -> Result<Vec<(String, String)>, Failure> {
    let here = context.default_namespace();
    if !args.all && args.label_selector.is_none() {
        return args
            .machines
            .iter()
            .map(|m| {
                let machine = target::machine(m).map_err(Failure::usage)?;
                Ok((machine.namespace.unwrap_or_else(|| here.to_owned()), machine.name))
            })
            .collect();
    }
    let options = ListOptions { labels: args.label_selector.clone(), ..ListOptions::default() };
    let list = context.session.list(kind("virtualmachines")?, Some(here), &options).await?;
    let names = list["items"].as_array().into_iter().flatten();
    Ok(names.filter_map(|vm| Some((here.to_owned(), vm["metadata"]["name"].as_str()?.to_owned()))).collect())
}

fn confirm(verb: &str, namespace: &str, name: &str) -> Result<bool, Failure> {
    let name = crate::types::text::printable(name).into_owned();
    let mut err = std::io::stderr().lock();
    write!(
        err,
        "Are you sure you want to execute command \"{verb}\" for virtual machine \"{namespace}/{name}\"? [y/N] "
    )?;
    err.flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}

/// What an operation's state means for the command.
#[derive(Debug, PartialEq, Eq)]
enum Progress {
    Waiting,
    Begun,
    Done,
    Failed { reason: String, message: String },
}

fn progress(operation: &Value) -> Progress {
    match operation["status"]["phase"].as_str() {
        Some("InProgress") => Progress::Begun,
        Some("Completed") => Progress::Done,
        Some("Failed") => {
            let conditions = operation["status"]["conditions"].as_array();
            let completed = conditions.into_iter().flatten().find(|c| c["type"] == "Completed");
            let text = |key: &str| completed.and_then(|c| c[key].as_str()).unwrap_or_default().to_owned();
            Progress::Failed { reason: text("reason"), message: text("message") }
        }
        _ => Progress::Waiting,
    }
}

async fn follow(
    context: &Context,
    verb: Verb,
    wait: bool,
    namespace: &str,
    name: &str,
    operation: &str,
) -> Result<String, Failure> {
    let (_, doing, done) = verb.words();
    let vmop = kind("virtualmachineoperations")?;
    let mut events = Box::pin(context.session.watch_object(vmop, Some(namespace), operation));
    while let Some(event) = events.next().await {
        let state = match event {
            ObjectEvent::Now(object) => progress(&object),
            ObjectEvent::Gone => {
                return Err(Failure::new(format!(
                    "VirtualMachine \"{namespace}/{name}\": VirtualMachineOperation \"{namespace}/{operation}\" was deleted before it completed."
                )));
            }
            ObjectEvent::Stale(error) => {
                out::note(&format!("vmdeck: connection lost, trying again: {error}"));
                continue;
            }
        };
        match state {
            Progress::Begun if !wait => {
                return Ok(format!(
                    "VirtualMachine \"{namespace}/{name}\" {doing}. VirtualMachineOperation \"{namespace}/{operation}\" in progress."
                ));
            }
            Progress::Done => {
                return Ok(format!(
                    "VirtualMachine \"{namespace}/{name}\" {done}. VirtualMachineOperation \"{namespace}/{operation}\" completed."
                ));
            }
            Progress::Failed { reason, message } => {
                return Err(Failure::new(format!(
                    "VirtualMachine \"{namespace}/{name}\" was not {done}. VirtualMachineOperation \"{namespace}/{operation}\" failed. type=\"Completed\" reason=\"{reason}\", message=\"{message}\"."
                )));
            }
            Progress::Waiting | Progress::Begun => {}
        }
    }
    Err(Failure::new("the watch ended"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn phases_of_an_operation() {
        let phase = |p: &str| progress(&json!({"status": {"phase": p}}));
        assert_eq!(phase("Pending"), Progress::Waiting);
        assert_eq!(phase("InProgress"), Progress::Begun);
        assert_eq!(phase("Completed"), Progress::Done);
        assert_eq!(progress(&json!({})), Progress::Waiting);
        let failed = json!({"status": {"phase": "Failed", "conditions": [{"type": "Completed", "reason": "R", "message": "m"}]}});
        assert_eq!(progress(&failed), Progress::Failed { reason: "R".into(), message: "m".into() });
    }
}
