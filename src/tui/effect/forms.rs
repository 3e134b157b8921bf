//! What forms offer, and creating what they make.

use serde_json::Value;

use super::super::form::{AttachContext, CloneContext, CreateContext, DiskChoice, ImageChoice, RestoreContext};
use super::super::message::{Failure, FormData, FormWish};
use super::super::screens::kind_noun;
use crate::client::{ClientError, ErrorKind, ListOptions, Session, WriteOptions};
use crate::types::kinds;
use crate::types::quantity::parse_bytes;
use crate::types::text::printable;

/// Gathers what a form offers. Lists that this user may not read are left empty: the form then takes plain text.
pub async fn prepare(session: &Session, wish: FormWish) -> Result<FormData, Failure> {
    match wish {
        FormWish::Machine { namespace } => {
            let scope = Some(namespace.as_str());
            let (namespaces, classes, own, cluster, disks, machines) = tokio::join!(
                items(session, "ns", None),
                items(session, "vmclass", None),
                items(session, "vi", scope),
                items(session, "cvi", None),
                items(session, "vd", scope),
                items(session, "vm", scope),
            );
            // Without machines the name cannot be checked, and nothing else will work either.
            let machines = machines.map_err(|e| Failure::from(&e))?;
            let (disks, classes) = (disks.unwrap_or_default(), classes.unwrap_or_default());
            let images = [own.unwrap_or_default(), cluster.unwrap_or_default()].concat();
            Ok(FormData::Machine(CreateContext {
                namespaces: names(&namespaces.unwrap_or_default()),
                classes: class_names(&classes),
                images: images.iter().filter(|i| i["status"]["phase"] == "Ready").map(image).collect(),
                disks: free_disks(&disks),
                taken: names(&machines),
                taken_disks: names(&disks),
                random: rand::random(),
                namespace,
            }))
        }
        FormWish::Attach { namespace, machine } => {
            let scope = Some(namespace.as_str());
            let (disks, attachments) = tokio::join!(items(session, "vd", scope), items(session, "vmbda", scope));
            let disks = disks.map_err(|e| Failure::from(&e))?;
            Ok(FormData::Attach(AttachContext {
                disks: free_disks(&disks),
                taken_disks: names(&disks),
                taken_attachments: names(&attachments.unwrap_or_default()),
                namespace,
                machine,
            }))
        }
        FormWish::Clone { namespace, machine } => {
            let machines = items(session, "vm", Some(namespace.as_str())).await.unwrap_or_default();
            Ok(FormData::Clone(CloneContext { taken: names(&machines), namespace, machine }))
        }
        FormWish::Restore { namespace, machine } => {
            let snapshots = items(session, "vmsnapshot", Some(namespace.as_str())).await;
            let snapshots = snapshots.map_err(|e| Failure::from(&e))?;
            Ok(FormData::Restore(RestoreContext { snapshots: of_machine(&snapshots, &machine), namespace, machine }))
        }
    }
}

/// Snapshots of a machine that can be restored, the newest first, with their times.
fn of_machine(snapshots: &[Value], machine: &str) -> Vec<(String, String)> {
    let when = |s: &Value| s["metadata"]["creationTimestamp"].as_str().unwrap_or_default().to_owned();
    let usable = |s: &&Value| {
        s["spec"]["virtualMachineName"] == machine
            && s["status"]["phase"] == "Ready"
            && s["metadata"]["deletionTimestamp"].is_null()
    };
    let mut all: Vec<_> = snapshots.iter().filter(usable).map(|s| (name(s), when(s))).collect();
    all.sort_by(|(a, at), (b, bt)| (bt, b).cmp(&(at, a)));
    all
}

async fn items(session: &Session, kind: &str, namespace: Option<&str>) -> Result<Vec<Value>, ClientError> {
    let kind = kinds::find(kind).ok_or_else(|| ClientError::new(ErrorKind::Protocol, format!("no kind {kind}")))?;
    let mut list = session.list(kind, namespace, &ListOptions::default()).await?;
    match list["items"].take() {
        Value::Array(items) => Ok(items),
        _ => Ok(Vec::new()),
    }
}

fn name(object: &Value) -> String {
    object["metadata"]["name"].as_str().unwrap_or_default().to_owned()
}

fn names(objects: &[Value]) -> Vec<String> {
    objects.iter().map(name).collect()
}

/// The default class first, then `host`, then the rest.
fn class_names(classes: &[Value]) -> Vec<String> {
    const DEFAULT: &str = "virtualmachineclass.virtualization.deckhouse.io/is-default-class";
    let mut sorted: Vec<&Value> = classes.iter().collect();
    sorted.sort_by_key(|c| (c["metadata"]["annotations"][DEFAULT] != "true", name(c) != "host", name(c)));
    sorted.into_iter().map(name).collect()
}

fn image(object: &Value) -> ImageChoice {
    let size = &object["status"]["size"];
    let bytes = size["unpackedBytes"]
        .as_str()
        .and_then(|b| b.parse().ok())
        .or_else(|| size["unpacked"].as_str().and_then(parse_bytes));
    ImageChoice { kind: object["kind"].as_str().unwrap_or("VirtualImage").to_owned(), name: name(object), bytes }
}

fn free_disks(disks: &[Value]) -> Vec<DiskChoice> {
    let used = |d: &Value| d["status"]["attachedToVirtualMachines"].as_array().is_some_and(|users| !users.is_empty());
    disks
        .iter()
        .filter(|d| !used(d) && d["metadata"]["deletionTimestamp"].is_null())
        .map(|d| DiskChoice {
            name: name(d),
            size: d["status"]["capacity"].as_str().unwrap_or("size not known yet").to_owned(),
        })
        .collect()
}

/// Creates objects in order and answers the last one. All of them are checked by the server first, so that a
/// mistake in the last leaves nothing of the others behind.
pub async fn create(session: Option<Session>, objects: Vec<Value>) -> Result<Value, ClientError> {
    let session = session.ok_or_else(|| ClientError::new(ErrorKind::Unreachable, "there is no connection"))?;
    for object in &objects {
        let check = WriteOptions { dry_run: true, validation: Some("Strict") };
        one(&session, object, check).await?;
    }
    let mut done: Vec<String> = Vec::new();
    let mut last = Value::Null;
    for object in &objects {
        let real = WriteOptions { dry_run: false, validation: Some("Strict") };
        last = one(&session, object, real).await.map_err(|error| match done.is_empty() {
            true => error,
            false => error.with_hint(format!("Already created: {}.", done.join(", "))),
        })?;
        let noun =
            kinds::by_kind(last["apiVersion"].as_str().unwrap_or_default(), last["kind"].as_str().unwrap_or_default())
                .map_or("object".into(), kind_noun);
        done.push(format!("{noun} {}", printable(&name(&last))));
    }
    Ok(last)
}

async fn one(session: &Session, object: &Value, options: WriteOptions) -> Result<Value, ClientError> {
    let (version, word) =
        (object["apiVersion"].as_str().unwrap_or_default(), object["kind"].as_str().unwrap_or_default());
    let kind = kinds::by_kind(version, word).ok_or_else(|| {
        ClientError::new(
            ErrorKind::BadRequest,
            format!("kind {} of {} is not known", printable(word), printable(version)),
        )
    })?;
    let scope = object["metadata"]["namespace"].as_str().filter(|_| kind.namespaced());
    session.create(kind, scope, object, options).await.map(|answer| answer.object)
}
