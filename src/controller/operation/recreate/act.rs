//! Looking at the API and writing to it, as JSON, so that fields only others know survive. Live reads: what is deleted
//! or replaced here must not be judged by a cache that is behind.

use std::collections::BTreeMap;

use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, ListParams, PostParams, Preconditions};
use kube::core::GroupVersionKind;
use kube::{Client, ResourceExt};
use serde_json::{Value, json};

use super::check::{Next, made_by, next};
use super::{MADE_BY, Purpose, Seen, Wanted, What, resource, text};
use crate::controller::devices::{holds, machine_id, machines_naming};
use crate::controller::graph::{Key, Kind};
use crate::controller::snapshot_contents::API_VERSION;
use crate::controller::{Context, Error};
use crate::host::{VolumeId, VolumeKind};
use crate::types::text::printable;
use crate::types::{BlockDeviceKind, OperationResource, VirtualMachine, kinds, lease_name};

/// Objects of one namespace.
#[derive(Clone, Copy)]
pub struct Objects<'a> {
    client: &'a Client,
    /// The namespace.
    pub namespace: &'a str,
}

/// What the API made of a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Written {
    /// It took it.
    Done,
    /// It refused it, in these words. The same write would be refused again.
    Refused(String),
}

impl<'a> Objects<'a> {
    /// Of a namespace.
    pub fn new(ctx: &'a Context, namespace: &'a str) -> Self {
        Self { client: &ctx.client, namespace }
    }

    fn api(&self, kind: &str) -> Api<DynamicObject> {
        let known = kinds::by_kind(API_VERSION, kind).or_else(|| kinds::by_kind("v1", kind));
        let (group, version, plural, namespaced) =
            known.map_or(("", "v1", "", true), |k| (k.group, k.version, k.plural, k.namespaced()));
        let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural);
        if namespaced {
            Api::namespaced_with(self.client.clone(), self.namespace, &resource)
        } else {
            Api::all_with(self.client.clone(), &resource)
        }
    }

    /// One object as it is now.
    pub async fn get(&self, kind: &str, name: &str) -> Result<Option<Value>, Error> {
        let found = self.api(kind).get_opt(name).await.map_err(read)?;
        found.map(|object| encode(&object)).transpose()
    }

    /// All objects of a kind.
    pub async fn list(&self, kind: &str) -> Result<Vec<Value>, Error> {
        let found = self.api(kind).list(&ListParams::default()).await.map_err(read)?;
        found.iter().map(encode).collect()
    }

    /// Makes an object. One of this name that is there is an error to be looked at again.
    pub async fn create(&self, body: &Value) -> Result<Written, Error> {
        let (object, kind) = decode(body)?;
        let answer = self.api(kind).create(&PostParams::default(), &object).await;
        written(answer, kind, &object)
    }

    /// Writes over an object, on condition that it is as it was read.
    pub async fn replace(&self, body: &Value) -> Result<Written, Error> {
        let (object, kind) = decode(body)?;
        let answer = self.api(kind).replace(&object.name_any(), &PostParams::default(), &object).await;
        written(answer, kind, &object)
    }

    /// Deletes this very object; fine if it is gone.
    pub async fn delete(&self, kind: &str, live: &Value) -> Result<(), Error> {
        let (name, uid) = (text(live, "/metadata/name"), text(live, "/metadata/uid"));
        let params = DeleteParams {
            preconditions: Some(Preconditions { uid: Some(uid.to_owned()), resource_version: None }),
            ..DeleteParams::default()
        };
        match self.api(kind).delete(name, &params).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => Ok(()),
            Err(e) => Err(write(kind, name, e)),
        }
    }
}

fn read(source: kube::Error) -> Error {
    Error::Read { what: "the objects of a machine", source: Box::new(source) }
}

fn write(kind: &str, name: &str, source: kube::Error) -> Error {
    Error::Write { what: "object", object: format!("{kind} {name}"), source: Box::new(source) }
}

fn encode(object: &DynamicObject) -> Result<Value, Error> {
    serde_json::to_value(object).map_err(|source| Error::Encode { object: object.name_any(), source })
}

fn decode(body: &Value) -> Result<(DynamicObject, &str), Error> {
    let name = || text(body, "/metadata/name").to_owned();
    let object = serde_json::from_value(body.clone()).map_err(|source| Error::Encode { object: name(), source })?;
    Ok((object, text(body, "/kind")))
}

fn written(answer: Result<DynamicObject, kube::Error>, kind: &str, object: &DynamicObject) -> Result<Written, Error> {
    match answer {
        Ok(_) => Ok(Written::Done),
        Err(kube::Error::Api(status)) if matches!(status.code, 400 | 403 | 422) => {
            Ok(Written::Refused(printable(&status.message).into_owned()))
        }
        Err(e) => Err(write(kind, &object.name_any(), e)),
    }
}

/// Looks at everything that [`super::check::check`] asks about. `saved_address` is that of the snapshot; `machine` is
/// the one that is restored; without `snapshots` those of disks are not looked at.
pub async fn look(
    all: &[Wanted],
    machine: Option<&VirtualMachine>,
    saved_address: Option<&str>,
    snapshots: bool,
    objects: Objects<'_>,
    ctx: &Context,
) -> Result<Seen, Error> {
    let mut seen = Seen { attachments: objects.list(What::Attachment.kind()).await?, ..Seen::default() };
    for wanted in all.iter().filter(|w| w.problem.is_none() && !w.skip) {
        if let Some(live) = objects.get(wanted.what.kind(), &wanted.name).await? {
            seen.live.insert((wanted.what, wanted.name.clone()), live);
        }
        let listed = wanted.body.pointer("/spec/blockDeviceRefs").and_then(Value::as_array);
        let one = wanted.body.pointer("/spec/blockDeviceRef");
        for reference in listed.into_iter().flatten().chain(one) {
            let (kind, name) = (text(reference, "/kind"), text(reference, "/name"));
            if matches!(kind, "VirtualImage" | "ClusterVirtualImage") && objects.get(kind, name).await?.is_some() {
                seen.images.insert((kind.to_owned(), name.to_owned()));
            }
        }
        if let (Some(name), true) = (&wanted.snapshot, snapshots)
            && let Some(why) = unusable(name, objects).await?
        {
            seen.bad_snapshots.insert(name.clone(), why);
        }
        if let (What::Disk, Some(machine)) = (wanted.what, machine)
            && let Some(holder) = holder(&wanted.name, machine, objects.namespace, ctx)
        {
            seen.holders.insert(wanted.name.clone(), holder);
        }
        if let (What::Address, Some(Ok(address))) = (wanted.what, saved_address.map(str::parse)) {
            let lease = objects.get("VirtualMachineIPAddressLease", &lease_name(address)).await?;
            let of = |field: &str| {
                lease.as_ref().map_or("", |l| text(l, &format!("/spec/virtualMachineIPAddressRef/{field}"))).to_owned()
            };
            let (name, home) = (of("name"), of("namespace"));
            let own = name == wanted.name && home == objects.namespace;
            seen.address_holder = (!name.is_empty() && !own).then(|| format!("{home}/{name}"));
        }
    }
    Ok(seen)
}

/// Why a snapshot of a disk cannot be used.
async fn unusable(name: &str, objects: Objects<'_>) -> Result<Option<String>, Error> {
    let Some(live) = objects.get("VirtualDiskSnapshot", name).await? else {
        return Ok(Some(format!("VirtualDiskSnapshot {name} with its content does not exist.")));
    };
    let phase = text(&live, "/status/phase");
    let usable = phase == "Ready" && live["metadata"]["deletionTimestamp"].is_null();
    let shown = if phase.is_empty() { "Pending" } else { phase };
    Ok((!usable).then(|| format!("VirtualDiskSnapshot {name} with its content is not ready (phase {shown}).")))
}

/// Another machine that has the disk.
fn holder(disk: &str, machine: &VirtualMachine, namespace: &str, ctx: &Context) -> Option<String> {
    let volume = VolumeId { kind: VolumeKind::Disk, uid: ctx.disks.get(namespace, disk)?.uid()? };
    let others = machines_naming(ctx, &Key::new(Kind::Disk, namespace, disk)).into_iter();
    let mut others = others.filter(|other| other.uid() != machine.uid());
    let holds = |other: &VirtualMachine| {
        holds(&ctx.host.observe(&machine_id(other)), BlockDeviceKind::VirtualDisk, disk, &volume)
    };
    others.find(|other| holds(other)).map(|other| other.name_any())
}

/// How far it is after a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advance {
    /// `status.resources`.
    pub resources: Vec<OperationResource>,
    /// Why it cannot be done.
    pub failed: Option<String>,
    /// All of it is there.
    pub done: bool,
}

/// Does what comes next for each object. Disks are there before the machine that has them, and the machine before
/// what is attached to it.
pub async fn advance(
    all: &[Wanted],
    seen: &Seen,
    purpose: Purpose,
    operation: &str,
    objects: Objects<'_>,
) -> Result<Advance, Error> {
    let mut resources = Vec::new();
    let mut failed = None;
    let mut behind: BTreeMap<What, usize> = BTreeMap::new();
    for wanted in all {
        let live = seen.live.get(&(wanted.what, wanted.name.clone()));
        let step = next(wanted, live, purpose, operation);
        let waits_for = match (wanted.what, purpose) {
            (What::Machine, Purpose::Copy) => behind.get(&What::Disk),
            (What::Attachment, _) => behind.get(&What::Machine),
            _ => None,
        };
        let note = wanted.note.clone().unwrap_or_default();
        let (status, message) = match step {
            Next::Done => ("Completed", note),
            Next::Failed(why) => ("Failed", why),
            _ if failed.is_some() => ("InProgress", String::new()),
            Next::Create | Next::Update if waits_for.is_some() => ("InProgress", "Waits for the others.".to_owned()),
            Next::Wait => ("InProgress", waiting(live, operation)),
            Next::Create => outcome(objects.create(&wanted.body).await?, "Is made."),
            Next::Update => match live {
                Some(live) => outcome(objects.replace(&written_over(live, &wanted.body)).await?, "Is written over."),
                None => ("InProgress", String::new()),
            },
            Next::Remove => {
                if let Some(live) = live {
                    objects.delete(wanted.what.kind(), live).await?;
                }
                ("InProgress", "The disk that was there makes room.".to_owned())
            }
        };
        if status == "Failed" {
            failed = failed.or_else(|| Some(format!("{} {}: {message}", wanted.what.kind(), wanted.name)));
        }
        if status != "Completed" {
            *behind.entry(wanted.what).or_default() += 1;
        }
        resources.push(resource(wanted, status, message));
    }
    Ok(Advance { resources, done: behind.is_empty(), failed })
}

fn outcome(written: Written, done: &str) -> (&'static str, String) {
    match written {
        Written::Done => ("InProgress", done.to_owned()),
        Written::Refused(why) => ("Failed", why),
    }
}

fn waiting(live: Option<&Value>, operation: &str) -> String {
    match live {
        Some(live) if made_by(live, operation) => {
            let phase = text(live, "/status/phase");
            format!("Is made (phase {}).", printable(if phase.is_empty() { "Pending" } else { phase }))
        }
        _ => "Waits until the one that was there is gone.".to_owned(),
    }
}

/// The live machine with the saved spec, labels and annotations. What this program notes on it stays.
fn written_over(live: &Value, saved: &Value) -> Value {
    let mut body = live.clone();
    body["spec"] = saved["spec"].clone();
    body["metadata"]["labels"] = saved["metadata"]["labels"].clone();
    let mut annotations = saved["metadata"]["annotations"].clone();
    let ours = live.pointer("/metadata/annotations").and_then(Value::as_object);
    for (key, value) in ours.into_iter().flatten().filter(|(k, _)| k.starts_with("vmdeck.io/") && *k != MADE_BY) {
        annotations[key] = value.clone();
    }
    body["metadata"]["annotations"] = annotations;
    body
}

/// Removes what an operation has made: what was listed, is there and carries its mark.
pub async fn undo(resources: &[OperationResource], operation: &str, objects: Objects<'_>) -> Result<(), Error> {
    // The machine before its disks, so that it does not start meanwhile.
    for listed in resources.iter().rev() {
        if let Some(live) = objects.get(&listed.kind, &listed.name).await?
            && made_by(&live, operation)
            && live["metadata"]["deletionTimestamp"].is_null()
        {
            objects.delete(&listed.kind, &live).await?;
        }
    }
    Ok(())
}

/// A VirtualMachineSnapshot that an operation makes for itself.
pub fn own_snapshot(name: &str, machine: &str, namespace: &str, owner: &Value) -> Value {
    json!({
        "apiVersion": API_VERSION,
        "kind": "VirtualMachineSnapshot",
        "metadata": { "name": name, "namespace": namespace, "ownerReferences": [owner] },
        "spec": { "virtualMachineName": machine, "requiredConsistency": true, "keepIPAddress": "Never" },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_noted_on_a_machine_outlives_its_restoring() {
        let live = json!({
            "metadata": {
                "name": "vm", "resourceVersion": "9", "uid": "u", "labels": { "new": "label" },
                "annotations": { "vmdeck.io/power": "On/3", "vmdeck.io/made-by": "older", "new": "note" },
            },
            "spec": { "cpu": { "cores": 4 } },
            "status": { "phase": "Stopped" },
        });
        let saved = json!({
            "metadata": { "labels": { "app": "shop" }, "annotations": { "old": "note", "vmdeck.io/made-by": "op" } },
            "spec": { "cpu": { "cores": 1 } },
        });
        let want = json!({
            "metadata": {
                "name": "vm", "resourceVersion": "9", "uid": "u", "labels": { "app": "shop" },
                "annotations": { "old": "note", "vmdeck.io/power": "On/3", "vmdeck.io/made-by": "op" },
            },
            "spec": { "cpu": { "cores": 1 } },
            "status": { "phase": "Stopped" },
        });
        assert_eq!(written_over(&live, &saved), want);
    }
}
