//! VirtualMachineClass: ready when the node suits it, protected while machines use it.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Node;
use kube::runtime::controller::Action;
use kube::{Resource, ResourceExt};
use serde_json::Value;

use super::cache::Watched;
use super::graph::Kind;
use super::{Context, Error};
use crate::types::condition::{self, Status};
use crate::types::quantity::format_bytes;
use crate::types::selector::LabelSelector;
use crate::types::{ClassPhase, CpuType, Quantity, VirtualMachineClass, VirtualMachineClassStatus};

/// Held while machines use the class.
pub const FINALIZER: &str = "virtualization.deckhouse.io/vmclass-cleanup";
/// So many machines are named in messages.
const NAMED: usize = 5;

/// One look at one class.
pub async fn reconcile(class: Arc<VirtualMachineClass>, ctx: Arc<Context>) -> Result<Action, Error> {
    let machines = ctx.wakeup.graph.lock().naming(&class.key(), Kind::Machine);
    let users: Vec<String> = machines.iter().map(|k| format!("{}/{}", k.namespace, k.name)).collect();
    let deleting = class.meta().deletion_timestamp.is_some();
    if deleting && users.is_empty() {
        ctx.set_finalizers(&ctx.classes, class.as_ref(), &[], &[FINALIZER]).await?;
        return Ok(Action::await_change());
    }
    if !deleting {
        ctx.set_finalizers(&ctx.classes, class.as_ref(), &[FINALIZER], &[]).await?;
    }
    let node = ctx.nodes.get("", &ctx.options.node_name);
    let suits = node.as_ref().is_some_and(|n| suits(&class, n));
    let old = class.status.clone().unwrap_or_default();
    let (generation, now) = (class.meta().generation, ctx.now());
    let mut conditions = old.conditions.clone().unwrap_or_default();
    let mut set = |type_: &str, status: Status, reason: &str, message: String| {
        condition::set(&mut conditions, type_, status, reason, message, generation, now);
    };
    if suits {
        set("Ready", Status::True, "SuitableNodesFound", String::new());
    } else {
        let message = "No node matches the class: label the node as spec.nodeSelector asks.".to_owned();
        set("Ready", Status::False, "NoSuitableNodesFound", message);
    }
    match class.spec.cpu.type_ {
        CpuType::Discovery if suits => set("Discovered", Status::True, "DiscoverySucceeded", String::new()),
        CpuType::Discovery => set("Discovered", Status::False, "DiscoveryFailed", "No node to look at.".into()),
        _ => set("Discovered", Status::False, "DiscoverySkip", String::new()),
    }
    if users.is_empty() {
        set("InUse", Status::False, "VirtualMachineClassInUse", String::new());
    } else {
        set("InUse", Status::True, "VirtualMachineClassInUse", used_by(&users, deleting));
    }
    let new = VirtualMachineClassStatus {
        phase: Some(match (deleting, suits) {
            (true, _) => ClassPhase::Terminating,
            (false, true) => ClassPhase::Ready,
            (false, false) => ClassPhase::Pending,
        }),
        available_nodes: suits.then(|| vec![ctx.options.node_name.clone()]),
        cpu_features: old.cpu_features.clone(),
        max_allocatable_resources: suits.then(|| room(&ctx)),
        observed_generation: generation,
        conditions: Some(conditions),
    };
    let latest = ctx.classes.newest(class);
    ctx.report(&ctx.classes, latest.as_ref(), latest.status.as_ref(), &new).await?;
    Ok(Action::await_change())
}

fn used_by(users: &[String], deleting: bool) -> String {
    let mut text = format!("Used by {}", users.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", "));
    if users.len() > NAMED {
        text.push_str(&format!(" and {} more", users.len() - NAMED));
    }
    text.push('.');
    if deleting {
        text.push_str(" The class goes when they have another class or are deleted.");
    }
    text
}

fn room(ctx: &Context) -> BTreeMap<String, Quantity> {
    let facts = ctx.host.node();
    [
        ("cpu".to_owned(), Quantity(facts.cpus.to_string())),
        ("memory".to_owned(), Quantity(format_bytes(facts.memory_bytes))),
    ]
    .into()
}

fn suits(class: &VirtualMachineClass, node: &Node) -> bool {
    let discovery = class.spec.cpu.discovery.as_ref().and_then(|d| d.node_selector.as_ref());
    let labels = node.labels().iter().map(|(k, v)| (k.clone(), Value::String(v.clone()))).collect();
    [class.spec.node_selector.as_ref(), discovery].into_iter().flatten().all(|selector| {
        let json = serde_json::to_value(selector).unwrap_or(Value::Null);
        LabelSelector::from_object(&json).is_ok_and(|s| s.matches(Some(&labels)))
    })
}
