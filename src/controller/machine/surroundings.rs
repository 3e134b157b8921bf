//! What placement has to look at: the node, its room, and the machines that are on it.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt;

use super::super::cache::namespace;
use super::super::devices::{machine_id, note_spec};
use super::super::{Context, node};
use super::gather::Gathered;
use super::placement::{self, Amount, Candidate, Labels, Place, Resident};
use super::power::exists;
use crate::host::MachineState;
use crate::types::quantity::human_bytes;
use crate::types::{VirtualMachine, VirtualMachineClass};

/// What a start would find. Looks at every machine on the node, so it is asked only for those that are about to start.
pub struct Verdict {
    /// Why the machine cannot be placed on the node now.
    pub obstacle: Option<String>,
    /// Preferences that are not met.
    pub unmet: Vec<String>,
}

/// Looks around for a machine that is about to start.
pub fn verdict(vm: &VirtualMachine, class: Option<&VirtualMachineClass>, ctx: &Context) -> Verdict {
    // Without a Node there is nothing to compare with; it is written before the first machine is looked at.
    let Some(node) = ctx.nodes.get("", &ctx.options.node_name) else {
        return Verdict { obstacle: None, unmet: vec![] };
    };
    let ns = namespace(vm);
    let namespace_labels = labels_of(&ns, ctx);
    let facts = ctx.host.node();
    let candidate = Candidate {
        namespace: &ns,
        namespace_labels: &namespace_labels,
        labels: vm.labels(),
        spec: &vm.spec,
        class: class.map(|c| &c.spec),
        wants: Amount::of(&vm.spec, node::is_emulated(&facts)),
    };
    let residents = residents(vm, ctx);
    let place =
        Place { node: &node, allocatable: node::allocatable(&facts, &ctx.options.capacity), residents: &residents };
    Verdict {
        obstacle: placement::obstacle(&candidate, &place),
        unmet: placement::unmet_preferences(&candidate, &place),
    }
}

/// Why a running machine cannot have a second QEMU beside the first, as a migration needs for a while.
pub fn no_room_to_move(vm: &VirtualMachine, ctx: &Context) -> Option<String> {
    let facts = ctx.host.node();
    let running = note_spec(&ctx.host.observe(&machine_id(vm))).unwrap_or_else(|| vm.spec.clone());
    let again = Amount::of(&running, node::is_emulated(&facts)).memory;
    let used = residents(vm, ctx).iter().fold(again, |sum, r| sum.saturating_add(r.has.memory));
    let free = node::allocatable(&facts, &ctx.options.capacity).memory.saturating_sub(used);
    (again > free).then(|| {
        format!(
            "Insufficient memory: for a while a migration needs the machine's memory twice, {} more with QEMU's own \
             part, and {} are free. Stop other machines, or restart this one instead.",
            human_bytes(again),
            human_bytes(free)
        )
    })
}

fn labels_of(namespace: &str, ctx: &Context) -> Labels {
    ctx.namespaces.get("", namespace).map(|ns| ns.labels().clone()).unwrap_or_default()
}

/// Machines with an instance, other than `vm`.
fn residents(vm: &VirtualMachine, ctx: &Context) -> Vec<Resident> {
    let emulated = node::is_emulated(&ctx.host.node());
    let others =
        ctx.host.machines().into_iter().filter(|o| exists(&o.state) && Some(o.id.0.as_str()) != vm.uid().as_deref());
    others
        .filter_map(|o| {
            let key = ctx.wakeup.graph.lock().of_uid(&o.id.0).cloned()?;
            let other = ctx.machines.at(&key)?;
            let spec = note_spec(&o).unwrap_or_else(|| other.spec.clone());
            let has = Amount::of(&spec, emulated);
            let repels = spec.affinity.and_then(|a| a.virtual_machine_and_pod_anti_affinity);
            let repels = repels.and_then(|a| a.required_during_scheduling_ignored_during_execution);
            Some(Resident {
                name: format!("{}/{}", key.namespace, key.name),
                namespace_labels: labels_of(&key.namespace, ctx),
                namespace: key.namespace,
                labels: other.labels().clone(),
                has,
                repels: repels.unwrap_or_default(),
                leaving: o.state == MachineState::Stopping,
            })
        })
        .collect()
}

/// A taint that a running machine does not tolerate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leave {
    /// The taint.
    pub taint: String,
    /// When it has to be gone.
    pub at: Timestamp,
}

/// Whether a machine that has an instance has to leave the node, and when.
pub fn leave(g: &Gathered, ctx: &Context) -> Option<Leave> {
    let node = ctx.nodes.get("", &ctx.options.node_name)?;
    let found = eviction_of(g, &node);
    let mut seen = ctx.machine_memory.taints.lock();
    let Some(eviction) = found else {
        seen.remove(&g.id.0);
        return None;
    };
    // Each instance has its own time, as each pod has: from when the taint was set, or from its own start if that was
    // later. A node that does not say when it was tainted was tainted when we saw it.
    let launch = g.observation.launch;
    let first = match seen.get(&g.id.0) {
        Some((taint, of, since)) if (taint, *of) == (&eviction.taint, launch) => *since,
        _ => ctx.now(),
    };
    seen.insert(g.id.0.clone(), (eviction.taint.clone(), launch, first));
    let since = match (eviction.added, &g.observation.state) {
        (Some(added), MachineState::Running { since }) => added.max(*since),
        _ => first,
    };
    let at = since.checked_add(jiff::SignedDuration::from_secs(eviction.seconds)).unwrap_or(Timestamp::MAX);
    Some(Leave { taint: eviction.taint, at })
}

fn eviction_of(g: &Gathered, node: &Node) -> Option<placement::Eviction> {
    if !exists(&g.observation.state) {
        return None;
    }
    placement::node::eviction(&g.vm.spec, g.class.as_deref().map(|c| &c.spec), node)
}
