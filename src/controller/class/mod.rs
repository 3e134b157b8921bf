//! VirtualMachineClass: ready when the node suits it, protected while machines use it.

use std::collections::BTreeMap;
use std::sync::Arc;

use kube::runtime::controller::Action;
use kube::{Resource, ResourceExt};

use super::cache::Watched;
use super::graph::Kind;
use super::machine::placement::room::format_milli;
use super::node::allocatable;
use super::{Context, Error};
use crate::types::condition::{self, Status};
use crate::types::quantity::format_bytes;
use crate::types::{ClassPhase, Quantity, VirtualMachineClass, VirtualMachineClassStatus};

pub mod plan;

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
        ctx.class_sizes.lock().remove(&class.uid().unwrap_or_default());
        ctx.set_finalizers(&ctx.classes, class.as_ref(), &[], &[FINALIZER]).await?;
        return Ok(Action::await_change());
    }
    if !deleting {
        ctx.set_finalizers(&ctx.classes, class.as_ref(), &[FINALIZER], &[]).await?;
    }
    let node = ctx.nodes.get("", &ctx.options.node_name);
    let planned = plan::plan(&class.spec, node.as_deref(), &ctx.host.node().cpu);
    let suits = planned.suits;
    let old = class.status.clone().unwrap_or_default();
    let (generation, now) = (class.meta().generation, ctx.now());
    let mut conditions = old.conditions.clone().unwrap_or_default();
    let mut set = |type_: &str, status: Status, reason: &str, message: String| {
        condition::set(&mut conditions, type_, status, reason, message, generation, now);
    };
    for (type_, status, reason, message) in planned.conditions {
        set(type_, status, reason, message);
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
        cpu_features: planned.features,
        max_allocatable_resources: suits.then(|| room(&ctx)),
        observed_generation: generation,
        conditions: Some(conditions),
    };
    announce(&class, &old, &new, &ctx);
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
    let all = allocatable(&ctx.host.node(), &ctx.options.capacity);
    [
        ("cpu".to_owned(), Quantity(format_milli(all.milli_cpus))),
        ("memory".to_owned(), Quantity(format_bytes(all.memory))),
    ]
    .into()
}

/// Events: nodes that came or went, sizes that changed.
fn announce(
    class: &VirtualMachineClass,
    old: &VirtualMachineClassStatus,
    new: &VirtualMachineClassStatus,
    ctx: &Context,
) {
    let nodes = |s: &VirtualMachineClassStatus| s.available_nodes.clone().unwrap_or_default();
    let (was, is) = (nodes(old), nodes(new));
    if was != is && (old.phase.is_some() || !is.is_empty()) {
        let text =
            format!("Nodes for machines of the class: {}.", if is.is_empty() { "none".into() } else { is.join(", ") });
        ctx.events.normal(class, "NodesWereUpdated", text);
    }
    if is.is_empty() && (old.phase.is_none() || !was.is_empty()) {
        ctx.events.warning(class, "AvailableNodesListEmpty", "No node suits the class: its machines cannot start.");
    }
    let policies = class.spec.sizing_policies.clone();
    let before = ctx.class_sizes.lock().insert(class.uid().unwrap_or_default(), policies.clone());
    if before.is_some_and(|before| before != policies) {
        let text = "The sizing policies were changed: machines that do not match them any more keep running, and do not \
                    start again.";
        ctx.events.normal(class, "SizingPoliciesWereChanged", text);
    }
}
