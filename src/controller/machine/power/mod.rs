//! Run policy and requests to the next power step. Pure: no clock, no I/O.
//!
//! What has to survive a restart of the daemon is the [`Memory`]: whether the machine is wanted on, and up to
//! which launch ends have been judged. It is an annotation of the object. Everything else is looked at afresh.

use crate::host::{EndReason, MachineState};
use crate::types::RunPolicy;

/// Annotation of a VirtualMachine that holds [`Memory`].
pub const MEMORY_ANNOTATION: &str = "vmdeck.io/power";

/// Whether a machine is wanted on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// An instance should exist.
    On,
    /// Stopped by an operation, by its guest, or not started yet under the policy Manual.
    Off,
    /// Off only because of the policy AlwaysOff: another policy may turn it on again.
    OffByPolicy,
}

/// What is remembered of a machine's power between reconciles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// See [`Wanted`].
    pub wanted: Wanted,
    /// The end of this launch, and of all before, has been judged.
    pub judged: u64,
}

impl Memory {
    /// The annotation's text, e.g. `On/3`.
    pub fn render(self) -> String {
        let word = match self.wanted {
            Wanted::On => "On",
            Wanted::Off => "Off",
            Wanted::OffByPolicy => "OffByPolicy",
        };
        format!("{word}/{}", self.judged)
    }

    /// Reads [`Memory::render`]'s text; anything else is no memory.
    pub fn parse(text: &str) -> Option<Self> {
        let (word, judged) = text.split_once('/')?;
        let wanted = match word {
            "On" => Wanted::On,
            "Off" => Wanted::Off,
            "OffByPolicy" => Wanted::OffByPolicy,
            _ => return None,
        };
        Some(Self { wanted, judged: judged.parse().ok()? })
    }
}

/// What an operation asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// Start.
    Start,
    /// Stop; at once if true.
    Stop(bool),
    /// Stop and start; the stop at once if true.
    Restart(bool),
}

/// An operation in progress.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Name of the VirtualMachineOperation.
    pub operation: String,
    /// What it asks for.
    pub ask: Ask,
    /// Number of the machine's launch when it was asked; a later launch means the request has been served.
    pub launch: u64,
}

/// Everything that the decision depends on.
#[derive(Debug, Clone)]
pub struct Situation<'a> {
    /// `spec.runPolicy`.
    pub policy: RunPolicy,
    /// The annotation, if the machine has it.
    pub memory: Option<Memory>,
    /// What the host has.
    pub state: &'a MachineState,
    /// Number of the latest launch.
    pub launch: u64,
    /// The operation in progress.
    pub request: Option<&'a Request>,
    /// A start is possible now.
    pub gate_open: bool,
    /// Name of the operation that keeps the machine off, whatever else is asked.
    pub maintenance: Option<&'a str>,
    /// Changes wait for a restart and the machine's approval mode is Automatic.
    pub restart_due: bool,
    /// The taint that drives the instance away from the node now.
    pub evicted_by: Option<&'a str>,
}

/// What to do next. At most one step; the next reconcile sees its effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    /// Nothing now.
    None,
    /// Start a new instance.
    Start,
    /// Power button, then power cut after the grace period.
    PowerButton,
    /// Power cut.
    Kill,
}

/// Who or what caused a change of power. The text of events is made from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// The run policy.
    Policy(RunPolicy),
    /// The named operation.
    Operation(String),
    /// The guest itself.
    Guest,
    /// The instance failed.
    Failure,
    /// Changes that wait for a restart, with automatic approval.
    Changes,
    /// The machine's object is being deleted.
    Deletion,
    /// A taint of the node that the machine does not tolerate.
    Taint(String),
}

/// A change worth an event on the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// A new instance is started.
    Started(Cause),
    /// The instance was or is being stopped.
    Stopped(Cause),
    /// The instance is replaced by a new one.
    Restarted(Cause),
    /// The instance has to leave the node.
    Evicted(Cause),
}

/// The decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// To be remembered before the deed is done.
    pub memory: Memory,
    /// The next step.
    pub deed: Deed,
    /// What to tell.
    pub notice: Option<Notice>,
}

impl Decision {
    /// An instance is owed: it is, or will be as soon as the gate opens, started.
    pub fn wanted_on(&self) -> bool {
        self.memory.wanted == Wanted::On
    }
}

/// Decides. The rows of the run policy table are the tests below.
pub fn decide(s: &Situation<'_>) -> Decision {
    let mut memory = s.memory.unwrap_or(Memory { wanted: first_wish(s.policy, s.state), judged: s.launch });
    if let Some(operation) = s.maintenance {
        return kept_off(s, memory, operation);
    }
    let mut notice = None;
    let request = s.request.filter(|r| r.launch >= s.launch);

    match s.policy {
        RunPolicy::AlwaysOff => {
            if memory.wanted == Wanted::On {
                notice = exists(s.state).then_some(Notice::Stopped(Cause::Policy(s.policy)));
            }
            memory.wanted = Wanted::OffByPolicy;
        }
        RunPolicy::AlwaysOn => memory.wanted = Wanted::On,
        RunPolicy::AlwaysOnUnlessStoppedManually if memory.wanted == Wanted::OffByPolicy => memory.wanted = Wanted::On,
        RunPolicy::Manual if memory.wanted == Wanted::OffByPolicy => memory.wanted = Wanted::Off,
        RunPolicy::Manual | RunPolicy::AlwaysOnUnlessStoppedManually => {}
    }

    let mut end_cause = None;
    if let MachineState::Ended { reason, .. } = s.state {
        end_cause = cause_of_end(reason);
        if s.launch > memory.judged && s.policy != RunPolicy::AlwaysOff {
            let before = memory.wanted;
            memory.wanted = after_end(s.policy, reason, before);
            if memory.wanted != before {
                memory.judged = s.launch;
                notice = Some(Notice::Stopped(end_cause.clone().unwrap_or(Cause::Policy(s.policy))));
            }
        }
    }

    if s.policy != RunPolicy::AlwaysOff
        && let Some(request) = request
    {
        let wanted = match request.ask {
            Ask::Start | Ask::Restart(_) => Wanted::On,
            Ask::Stop(_) if s.policy == RunPolicy::AlwaysOn => Wanted::On,
            Ask::Stop(_) => Wanted::Off,
        };
        if wanted == Wanted::Off && memory.wanted == Wanted::On {
            notice = Some(Notice::Stopped(Cause::Operation(request.operation.clone())));
        }
        if wanted != memory.wanted {
            // Ends up to here are history: a start that waits for its gate must not be undone by them.
            memory = Memory { wanted, judged: s.launch_that_ended() };
        }
    }

    let evicted = s.evicted_by.filter(|_| exists(s.state)).map(|taint| Notice::Evicted(Cause::Taint(taint.to_owned())));
    if evicted.is_some() && s.policy == RunPolicy::Manual && memory.wanted == Wanted::On {
        // Nobody would start it again: it is as stopped as by its guest.
        memory.wanted = Wanted::Off;
        notice = evicted.clone();
    }
    let deed = step(s, request, memory.wanted);
    match deed {
        Deed::Start => notice = Some(start_notice(s, request, end_cause)),
        Deed::PowerButton | Deed::Kill if memory.wanted == Wanted::On => {
            let because = match (request, evicted) {
                (Some(r), _) => Notice::Restarted(Cause::Operation(r.operation.clone())),
                (None, Some(evicted)) => evicted,
                (None, None) => Notice::Restarted(Cause::Changes),
            };
            // A forced request that overtakes a stop in progress has been told already.
            notice = (!matches!(s.state, MachineState::Stopping)).then_some(because);
        }
        _ => {}
    }
    Decision { memory, deed, notice }
}

/// Stopped for as long as the operation wants it. What is remembered stays, and ends up to here are no reason to
/// change it: afterwards the machine is as much on as before.
fn kept_off(s: &Situation<'_>, memory: Memory, operation: &str) -> Decision {
    let deed = match s.state {
        MachineState::Absent | MachineState::Ended { .. } | MachineState::Stopping => Deed::None,
        MachineState::Starting => Deed::Kill,
        MachineState::Running { .. } | MachineState::Paused { .. } => Deed::PowerButton,
    };
    let judged = memory.judged.max(s.launch_that_ended());
    let notice = (deed != Deed::None).then(|| Notice::Stopped(Cause::Operation(operation.to_owned())));
    Decision { memory: Memory { judged, ..memory }, deed, notice }
}

impl Situation<'_> {
    fn launch_that_ended(&self) -> u64 {
        if exists(self.state) { self.launch.saturating_sub(1) } else { self.launch }
    }
}

/// A machine without memory: new, or its annotation was removed. A running one is left running.
fn first_wish(policy: RunPolicy, state: &MachineState) -> Wanted {
    match policy {
        _ if exists(state) => Wanted::On,
        RunPolicy::AlwaysOn | RunPolicy::AlwaysOnUnlessStoppedManually => Wanted::On,
        RunPolicy::Manual => Wanted::Off,
        RunPolicy::AlwaysOff => Wanted::OffByPolicy,
    }
}

fn after_end(policy: RunPolicy, reason: &EndReason, before: Wanted) -> Wanted {
    match (reason, policy) {
        (EndReason::Requested, _) | (_, RunPolicy::AlwaysOff) => before,
        (EndReason::GuestReset, _) | (_, RunPolicy::AlwaysOn) => Wanted::On,
        (EndReason::GuestShutdown, _) | (_, RunPolicy::Manual) => Wanted::Off,
        (
            EndReason::GuestPanic | EndReason::Crashed { .. } | EndReason::StartFailed { .. },
            RunPolicy::AlwaysOnUnlessStoppedManually,
        ) => Wanted::On,
    }
}

fn cause_of_end(reason: &EndReason) -> Option<Cause> {
    match reason {
        EndReason::GuestShutdown | EndReason::GuestReset => Some(Cause::Guest),
        EndReason::GuestPanic | EndReason::Crashed { .. } | EndReason::StartFailed { .. } => Some(Cause::Failure),
        EndReason::Requested => None,
    }
}

fn step(s: &Situation<'_>, request: Option<&Request>, wanted: Wanted) -> Deed {
    let (must_go, force) = match request.map(|r| r.ask) {
        Some(Ask::Restart(force)) => (true, force),
        Some(Ask::Stop(force)) if wanted != Wanted::On => (true, force),
        _ => (wanted != Wanted::On || (s.restart_due && s.gate_open) || s.evicted_by.is_some(), false),
    };
    match s.state {
        MachineState::Absent | MachineState::Ended { .. } if wanted == Wanted::On && s.gate_open => Deed::Start,
        MachineState::Absent | MachineState::Ended { .. } => Deed::None,
        MachineState::Stopping if must_go && force => Deed::Kill,
        MachineState::Stopping => Deed::None,
        // Nothing of the guest has run yet: there is nobody to press the button for.
        MachineState::Starting if must_go => Deed::Kill,
        MachineState::Running { .. } | MachineState::Paused { .. } if must_go && force => Deed::Kill,
        MachineState::Running { .. } | MachineState::Paused { .. } if must_go => Deed::PowerButton,
        MachineState::Starting | MachineState::Running { .. } | MachineState::Paused { .. } => Deed::None,
    }
}

fn start_notice(s: &Situation<'_>, request: Option<&Request>, end: Option<Cause>) -> Notice {
    match (request, end) {
        (Some(r), _) if matches!(r.ask, Ask::Restart(_)) => Notice::Restarted(Cause::Operation(r.operation.clone())),
        (Some(r), _) => Notice::Started(Cause::Operation(r.operation.clone())),
        (None, Some(cause)) => Notice::Restarted(cause),
        (None, None) => Notice::Started(Cause::Policy(s.policy)),
    }
}

/// An instance exists, stopping or not.
pub fn exists(state: &MachineState) -> bool {
    match state {
        MachineState::Absent | MachineState::Ended { .. } => false,
        MachineState::Starting
        | MachineState::Running { .. }
        | MachineState::Paused { .. }
        | MachineState::Stopping => true,
    }
}

#[cfg(test)]
mod tests;
