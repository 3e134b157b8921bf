//! The one Node: this computer. Written at start and when something about it changes; there is no heartbeat,
//! because whoever can read the Node is talking to the daemon that wrote it.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, Node};
use kube::api::{Api, PostParams};
use kube::runtime::controller::Action;
use serde_json::{Value, json};

use super::graph::Kind;
use super::machine::placement::Amount;
use super::machine::placement::room::format_milli;
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

/// How much of this computer machines may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capacity {
    /// Percent of the processors that may be promised; above 100 more is promised than there is.
    pub cpu_percent: u32,
    /// Percent of the memory that may be given, likewise.
    pub memory_percent: u32,
    /// Bytes that are kept for everything else.
    pub reserved_memory: u64,
}

/// What all machines together may have: also the Node's `status.allocatable`.
pub fn allocatable(facts: &NodeFacts, capacity: &Capacity) -> Amount {
    let part = |of: u64, percent: u32| u64::try_from(u128::from(of) * u128::from(percent) / 100).unwrap_or(u64::MAX);
    Amount {
        memory: part(facts.memory_bytes, capacity.memory_percent).saturating_sub(capacity.reserved_memory),
        milli_cpus: part(u64::from(facts.cpus) * 1000, capacity.cpu_percent),
    }
}

/// Whether guests are emulated here.
pub fn is_emulated(facts: &NodeFacts) -> bool {
    facts.accelerator != "kvm"
}

/// A changed Node lets machines be placed anew, or drives them away.
pub async fn reconcile(_node: Arc<Node>, ctx: Arc<Context>) -> Result<Action, Error> {
    ctx.wakeup.wake_all(Kind::Class);
    ctx.wakeup.wake_all(Kind::Machine);
    Ok(Action::await_change())
}

/// Other labels of a namespace may let machines be placed.
pub async fn namespace(_namespace: Arc<Namespace>, ctx: Arc<Context>) -> Result<Action, Error> {
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
    let new = status(name, &facts, &ctx.options.capacity, &old, ctx.now());
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

fn status(name: &str, facts: &NodeFacts, capacity: &Capacity, old: &Value, now: Timestamp) -> Value {
    let allocatable = allocatable(facts, capacity);
    let ready = facts.problems.is_empty();
    let accelerated = facts.accelerator == "kvm";
    json!({
        "capacity": {"cpu": facts.cpus.to_string(), "memory": format_bytes(facts.memory_bytes)},
        "allocatable": {
            "cpu": format_milli(allocatable.milli_cpus),
            "memory": format_bytes(allocatable.memory),
        },
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

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(accelerator: &str, problems: &[&str]) -> NodeFacts {
        NodeFacts {
            name: "n".into(),
            cpus: 1,
            memory_bytes: 0,
            accelerator: accelerator.into(),
            accelerator_reason: "because".into(),
            cpu: Default::default(),
            qemu_version: None,
            efi: false,
            secure_boot: false,
            kernel_version: String::new(),
            os_image: String::new(),
            architecture: "amd64".into(),
            problems: problems.iter().map(|p| (*p).to_owned()).collect(),
            notes: vec![],
        }
    }

    #[test]
    fn what_machines_may_have() {
        let facts = |memory_bytes, cpus| NodeFacts { memory_bytes, cpus, ..facts("tcg", &[]) };
        let capacity =
            |cpu_percent, memory_percent, reserved_memory| Capacity { cpu_percent, memory_percent, reserved_memory };
        for (facts, capacity, memory, milli_cpus) in [
            (facts(8 << 30, 2), capacity(100, 100, 256 << 20), (8 << 30) - (256 << 20), 2000),
            (facts(8 << 30, 2), capacity(300, 150, 0), 12 << 30, 6000),
            (facts(8 << 30, 2), capacity(50, 50, 0), 4 << 30, 1000),
            (facts(1 << 20, 1), capacity(0, 100, 1 << 30), 0, 0),
        ] {
            let expected = Amount { memory, milli_cpus };
            assert_eq!(allocatable(&facts, &capacity), expected);
            let status = status("n", &facts, &capacity, &json!({}), Timestamp::UNIX_EPOCH);
            assert_eq!(status["capacity"]["cpu"], facts.cpus.to_string());
            assert_eq!(status["allocatable"]["cpu"], format_milli(milli_cpus));
            assert_eq!(status["allocatable"]["memory"], format_bytes(memory));
        }
    }

    #[test]
    fn conditions_of_the_node() {
        let capacity = Capacity { cpu_percent: 100, memory_percent: 100, reserved_memory: 0 };
        for (facts, type_, yes, reason) in [
            (facts("kvm", &[]), "Ready", "True", "NodeReady"),
            (facts("kvm", &["No QEMU."]), "Ready", "False", "NodeNotReady"),
            (facts("kvm", &[]), "HardwareAcceleration", "True", "KVM"),
            (facts("tcg", &[]), "HardwareAcceleration", "False", "TCG"),
        ] {
            let status_of = status("n", &facts, &capacity, &json!({}), Timestamp::UNIX_EPOCH);
            let all = status_of["conditions"].as_array().unwrap();
            let found = all.iter().find(|c| c["type"] == type_).unwrap();
            assert_eq!((found["status"].as_str(), found["reason"].as_str()), (Some(yes), Some(reason)));
        }
    }
}
