//! `delete`.

use std::time::Duration;

use futures::StreamExt;
use serde_json::Value;

use crate::cli::DeleteArgs;
use crate::client::{ListOptions, ObjectEvent, Propagation};
use crate::types::kinds::KindInfo;

use super::failure::Failure;
use super::resolve::{Selection, singular_group};
use super::{Context, input, out};

struct Target {
    kind: &'static KindInfo,
    namespace: Option<String>,
    name: String,
}

/// Runs the verb.
pub async fn run(context: &Context, args: DeleteArgs) -> Result<(), Failure> {
    let targets = targets(context, &args).await?;
    let propagation = match args.cascade.as_str() {
        "foreground" => Propagation::Foreground,
        "orphan" => Propagation::Orphan,
        _ => Propagation::Background,
    };
    let mut worst = None;
    let mut waiting = Vec::new();
    for target in targets {
        let deleted = context.session.delete(target.kind, target.namespace.as_deref(), &target.name, propagation).await;
        match deleted {
            Ok(answer) => {
                let text = format!("{}/{}", singular_group(target.kind), target.name);
                if args.output.is_some() {
                    out::line(&text)?;
                } else {
                    out::line(&format!("{} \"{}\" deleted", singular_group(target.kind), target.name))?;
                }
                // A Status means gone; an object waits for its finalizers.
                if args.wait && answer["kind"] != "Status" {
                    let uid = answer["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
                    waiting.push((target, uid, answer));
                }
            }
            Err(e) if e.is_not_found() && args.ignore_not_found => {}
            Err(e) => {
                let failure = Failure::from(e);
                out::note(&format!("vmdeck: {}", failure.text));
                worst = Some(failure.code);
            }
        }
    }
    let patience = (!args.timeout.is_zero()).then_some(args.timeout);
    let waits = waiting.iter().map(|(target, uid, last)| gone(context, target, uid, last, patience));
    for result in futures::future::join_all(waits).await {
        result?;
    }
    worst.map_or(Ok(()), |code| Err(Failure::quiet(code)))
}

async fn targets(context: &Context, args: &DeleteArgs) -> Result<Vec<Target>, Failure> {
    let here = |kind: &KindInfo| kind.namespaced().then(|| context.default_namespace().to_owned());
    if !args.files.is_empty() {
        let docs = input::documents(&args.files, args.recursive, &context.session, context.namespace())?;
        let mut targets: Vec<Target> =
            docs.into_iter().map(|d| Target { kind: d.kind, namespace: d.namespace, name: d.name }).collect();
        // What was created first is needed longest.
        targets.reverse();
        return Ok(targets);
    }
    match Selection::parse(&args.what)? {
        Selection::Named(list) => {
            if args.all || args.selector.is_some() {
                return Err(Failure::usage("names together with --all or -l make no sense"));
            }
            Ok(list.into_iter().map(|(kind, name)| Target { kind, namespace: here(kind), name }).collect())
        }
        Selection::Kinds(kinds) => {
            if !args.all && args.selector.is_none() {
                return Err(Failure::usage("which ones? Give names, -l SELECTOR or --all"));
            }
            let options = ListOptions { labels: args.selector.clone(), ..ListOptions::default() };
            let mut targets = Vec::new();
            for kind in kinds {
                let namespace = here(kind);
                let list = context.session.list(kind, namespace.as_deref(), &options).await?;
                for item in list["items"].as_array().into_iter().flatten() {
                    let name = item["metadata"]["name"].as_str().unwrap_or_default().to_owned();
                    targets.push(Target { kind, namespace: namespace.clone(), name });
                }
            }
            if targets.is_empty() {
                out::note("No resources found");
            }
            Ok(targets)
        }
    }
}

/// Waits until the object of this UID is gone.
async fn gone(
    context: &Context,
    target: &Target,
    uid: &str,
    last: &Value,
    patience: Option<Duration>,
) -> Result<(), Failure> {
    let mut held = finalizers(last);
    let events = context.session.watch_object(target.kind, target.namespace.as_deref(), &target.name);
    let mut events = Box::pin(events);
    let waiting = async {
        while let Some(event) = events.next().await {
            match event {
                ObjectEvent::Gone => return,
                ObjectEvent::Now(object) if object["metadata"]["uid"].as_str() != Some(uid) => return,
                ObjectEvent::Now(object) => held = finalizers(&object),
                ObjectEvent::Stale(error) => out::note(&format!("vmdeck: connection lost, trying again: {error}")),
            }
        }
    };
    match patience {
        None => waiting.await,
        Some(limit) => {
            if tokio::time::timeout(limit, waiting).await.is_err() {
                return Err(Failure::new(format!(
                    "{}/{} still exists after {} s; it waits for {held}",
                    singular_group(target.kind),
                    target.name,
                    limit.as_secs()
                )));
            }
        }
    }
    Ok(())
}

fn finalizers(object: &Value) -> String {
    let list: Vec<&str> =
        object["metadata"]["finalizers"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if list.is_empty() { "its dependents".into() } else { format!("finalizers {}", list.join(", ")) }
}
