//! The one Node: this computer. Written at start and when something about it changes; there is no heartbeat,
//! because whoever can read the Node is talking to the daemon that wrote it.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, PostParams};
use kube::runtime::controller::Action;
use serde_json::{Value, json};

use super::graph::Kind;
use super::write::merge_patch;
use super::{Context, Error, bootstrap};
use crate::host::NodeFacts;
use crate::types::quantity::format_bytes;

/// Annotation: `kvm` or `tcg`.
pub const ACCELERATOR: &str = "vmdeck.io/accelerator";
/// Annotation: why this accelerator.
pub const ACCELERATOR_REASON: &str = "vmdeck.io/accelerator-reason";
/// Annotation: what works differently from the best possible way, one sentence per line.
pub const NOTES: &str = "vmdeck.io/notes";

/// A changed Node lets machines be placed anew.
pub async fn reconcile(_node: Arc<Node>, ctx: Arc<Context>) -> Result<Action, Error> {
    ctx.wakeup.wake_all(Kind::Class);
    let waiting = std::mem::take(&mut *ctx.waiting.lock());
    ctx.wakeup.wake(waiting);
    Ok(Action::await_change())
}

/// Writes the Node. Labels and annotations of others stay.
pub async fn publish(ctx: &Context) -> Result<(), Error> {
    let facts = ctx.host.node();
    let name = &ctx.options.node_name;
    let api: Api<Node> = Api::all(ctx.client.clone());
    let read = |e| Error::Read { what: "the Node", source: Box::new(e) };
    let metadata = json!({"metadata": {"labels": labels(name, &facts), "annotations": annotations(&facts)}});
    let existing = match api.get_opt(name).await.map_err(read)? {
        Some(node) => node,
        None => {
            let node: Node = serde_json::from_value(json!({"metadata": {"name": name}}))
                .map_err(|source| Error::Encode { object: format!("Node {name}"), source })?;
            match api.create(&PostParams::default(), &node).await {
                Ok(node) => node,
                Err(kube::Error::Api(status)) if status.code == 409 => api.get(name).await.map_err(read)?,
                Err(e) => return Err(Error::write("object", &node, e)),
            }
        }
    };
    let encode = |source| Error::Encode { object: format!("Node {name}"), source };
    let now = serde_json::to_value(&existing).map_err(encode)?;
    let mut wanted = now.clone();
    json_patch::merge(&mut wanted, &metadata);
    if let Some(patch) = merge_patch(&now, &wanted) {
        let written = bootstrap::merge(&api, name, &patch, false).await;
        written.map_err(|e| Error::write("metadata", &existing, e))?;
    }
    let old = now.get("status").cloned().unwrap_or_else(|| json!({}));
    let new = status(name, &facts, &old, ctx.now());
    let mut merged = old.clone();
    json_patch::merge(&mut merged, &new);
    if let Some(patch) = merge_patch(&old, &merged) {
        let written = bootstrap::merge(&api, name, &json!({"status": patch}), true).await;
        written.map_err(|e| Error::write("status", &existing, e))?;
    }
    Ok(())
}

fn labels(name: &str, facts: &NodeFacts) -> BTreeMap<&'static str, String> {
    [
        ("kubernetes.io/hostname", name.to_owned()),
        ("kubernetes.io/os", "linux".to_owned()),
        ("kubernetes.io/arch", facts.architecture.clone()),
        ("node-role.kubernetes.io/virtualization", String::new()),
    ]
    .into()
}

fn annotations(facts: &NodeFacts) -> BTreeMap<&'static str, String> {
    [
        (ACCELERATOR, facts.accelerator.clone()),
        (ACCELERATOR_REASON, facts.accelerator_reason.clone()),
        (NOTES, facts.notes.join("\n")),
    ]
    .into()
}

fn status(name: &str, facts: &NodeFacts, old: &Value, now: Timestamp) -> Value {
    let resources = json!({
        "cpu": facts.cpus.to_string(),
        "memory": format_bytes(facts.memory_bytes),
    });
    let ready = facts.problems.is_empty();
    let accelerated = facts.accelerator == "kvm";
    json!({
        "capacity": resources,
        "allocatable": resources,
        "addresses": [{"type": "Hostname", "address": name}],
        "nodeInfo": {
            "architecture": facts.architecture,
            "bootID": "",
            "containerRuntimeVersion": facts.qemu_version.as_ref().map_or("none".into(), |v| format!("qemu://{v}")),
            "kernelVersion": facts.kernel_version,
            "kubeProxyVersion": "",
            "kubeletVersion": concat!("vmdeck-", env!("CARGO_PKG_VERSION")),
            "machineID": "",
            "operatingSystem": "linux",
            "osImage": facts.os_image,
            "systemUUID": "",
        },
        "conditions": [
            condition(old, now, "Ready", ready, if ready { "NodeReady" } else { "NodeNotReady" }, facts.problems.join(" ")),
            condition(
                old,
                now,
                "HardwareAcceleration",
                accelerated,
                if accelerated { "KVM" } else { "TCG" },
                facts.accelerator_reason.clone(),
            ),
        ],
    })
}

fn condition(old: &Value, now: Timestamp, type_: &str, yes: bool, reason: &str, message: String) -> Value {
    let status = if yes { "True" } else { "False" };
    let stamp = now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let before =
        old["conditions"].as_array().into_iter().flatten().find(|c| c["type"] == type_ && c["status"] == status);
    let since = before.and_then(|c| c["lastTransitionTime"].as_str()).unwrap_or(&stamp).to_owned();
    json!({
        "type": type_,
        "status": status,
        "reason": reason,
        "message": message,
        "lastTransitionTime": since,
        "lastHeartbeatTime": since,
    })
}
