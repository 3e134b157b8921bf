//! The end of a machine: its guest is stopped, then everything it had on this computer goes, then its object.

use std::sync::Arc;
use std::time::Duration;

use kube::ResourceExt;
use kube::runtime::controller::Action;

use super::super::cache::{Watched, namespace};
use super::super::graph::Kind;
use super::super::{Context, Error, address, operation};
use super::changes::Pending;
use super::gather::gather;
use super::power::{Cause, Decision, Memory, Notice, Wanted, exists};
use super::{FINALIZER, Outcome, gate, make_report, tell};
use crate::host::{MachineState, Step};
use crate::types::{MachinePhase, VirtualMachine};

/// One look at a machine that is being deleted.
pub async fn run(vm: Arc<VirtualMachine>, ctx: &Context) -> Result<Action, Error> {
    let id = super::super::devices::machine_id(&vm);
    let state = ctx.host.observe(&id).state;
    if exists(&state) {
        let grace = u64::try_from(vm.spec.termination_grace_period_seconds).unwrap_or(0);
        let step = match state {
            MachineState::Stopping => None,
            MachineState::Running { .. } | MachineState::Paused { .. } if grace > 0 => {
                Some(Step::PowerButton { grace: Duration::from_secs(grace) })
            }
            _ => Some(Step::Kill),
        };
        if let Some(step) = step {
            match ctx.host.submit(&id, step) {
                Ok(()) => tell(&vm, Some(&Notice::Stopped(Cause::Deletion)), ctx),
                Err(denied) => tracing::debug!(machine = %vm.name_any(), reason = denied.reason, "stop denied"),
            }
        }
    }
    if exists(&ctx.host.observe(&id).state) {
        return report(vm, ctx).await;
    }
    // Shown only where there was something to stop; otherwise the object is about to vanish anyway.
    ctx.host.forget(&id).await.map_err(|e| Error::cleanup(vm.as_ref(), e))?;
    ctx.machine_memory.forget(&id.0);
    ctx.waiting.lock().remove(&vm.key());
    let operations = ctx.wakeup.graph.lock().naming(&vm.key(), Kind::Operation);
    for key in operations {
        if let Some(op) = ctx.operations.at(&key).filter(|op| operation::belongs_to(op, &vm)) {
            ctx.delete_exactly(op.as_ref()).await?;
        }
    }
    // The machine's object goes last: when it is gone, so is everything that was made for it.
    if !address::delete_automatic(&vm, ctx).await? {
        return report(vm, ctx).await;
    }
    let neighbours = ctx.wakeup.graph.lock().around(&vm.key());
    ctx.set_finalizers(&ctx.machines, vm.as_ref(), &[], &[FINALIZER]).await?;
    tracing::debug!(machine = %vm.name_any(), namespace = namespace(vm.as_ref()), "removed");
    ctx.wakeup.wake(neighbours);
    Ok(Action::await_change())
}

async fn report(vm: Arc<VirtualMachine>, ctx: &Context) -> Result<Action, Error> {
    let g = gather(vm, ctx);
    let memory = Memory { wanted: Wanted::Off, judged: g.observation.launch };
    let decision = Decision { memory, deed: super::Deed::None, notice: None };
    let outcome = Outcome { decision, waiting: None, until: None, leave: None, unmet: vec![] };
    let status = make_report(&g, &gate::checks(&g), &outcome, &Pending::default(), ctx);
    debug_assert_eq!(status.phase, Some(MachinePhase::Terminating));
    ctx.report(&ctx.machines, g.vm.as_ref(), g.vm.status.as_ref(), &status).await?;
    Ok(Action::await_change())
}
