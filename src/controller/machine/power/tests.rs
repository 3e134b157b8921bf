use RunPolicy::{AlwaysOff, AlwaysOn, AlwaysOnUnlessStoppedManually as Unless, Manual};

use super::*;

const POLICIES: [RunPolicy; 4] = [AlwaysOn, Unless, Manual, AlwaysOff];

fn ended(reason: EndReason) -> MachineState {
    MachineState::Ended { reason, at: jiff::Timestamp::UNIX_EPOCH }
}

fn running() -> MachineState {
    MachineState::Running { since: jiff::Timestamp::UNIX_EPOCH }
}

fn situation<'a>(policy: RunPolicy, state: &'a MachineState) -> Situation<'a> {
    Situation {
        policy,
        memory: Some(Memory { wanted: Wanted::On, judged: 0 }),
        state,
        launch: 1,
        request: None,
        gate_open: true,
        maintenance: None,
        restart_due: false,
        evicted_by: None,
    }
}

fn request(ask: Ask) -> Request {
    Request { operation: "op".into(), ask, launch: 1 }
}

/// Rows of the run policy table: event, then what happens under AlwaysOn, AlwaysOnUnlessStoppedManually, Manual
/// and AlwaysOff.
#[test]
fn ends_of_an_instance() {
    use Deed::{None, Start};
    let crash = || EndReason::Crashed { detail: "killed".into() };
    let failed = || EndReason::StartFailed { detail: "no memory".into() };
    for (reason, deeds) in [
        (EndReason::GuestReset, [Start, Start, Start, None]),
        (EndReason::GuestShutdown, [Start, None, None, None]),
        (EndReason::GuestPanic, [Start, Start, None, None]),
        (crash(), [Start, Start, None, None]),
        (failed(), [Start, Start, None, None]),
    ] {
        for (policy, expected) in POLICIES.into_iter().zip(deeds) {
            let state = ended(reason.clone());
            let d = decide(&situation(policy, &state));
            assert_eq!(d.deed, expected, "{policy:?} {reason:?}");
            assert_eq!(d.wanted_on(), expected == Start, "{policy:?} {reason:?}");
        }
    }
}

#[test]
fn a_new_machine_starts_when_its_policy_and_the_gate_say_so() {
    for (policy, starts) in POLICIES.into_iter().zip([true, true, false, false]) {
        for gate_open in [true, false] {
            let s = Situation { memory: None, launch: 0, gate_open, ..situation(policy, &MachineState::Absent) };
            let d = decide(&s);
            assert_eq!(d.deed == Deed::Start, starts && gate_open, "{policy:?} {gate_open}");
            assert_eq!(d.wanted_on(), starts);
        }
    }
}

#[test]
fn a_stopped_machine_stays_stopped_unless_always_on() {
    let state = ended(EndReason::Requested);
    for (policy, deed) in POLICIES.into_iter().zip([Deed::Start, Deed::None, Deed::None, Deed::None]) {
        let memory = Some(Memory { wanted: Wanted::Off, judged: 1 });
        assert_eq!(decide(&Situation { memory, ..situation(policy, &state) }).deed, deed, "{policy:?}");
    }
}

#[test]
fn operations_on_a_running_machine() {
    use Deed::{Kill, None, PowerButton};
    for (ask, deeds) in [
        (Ask::Stop(false), [None, PowerButton, PowerButton, PowerButton]),
        (Ask::Stop(true), [None, Kill, Kill, Kill]),
        (Ask::Restart(false), [PowerButton, PowerButton, PowerButton, PowerButton]),
        (Ask::Restart(true), [Kill, Kill, Kill, Kill]),
    ] {
        for (policy, expected) in POLICIES.into_iter().zip(deeds) {
            let (state, request) = (running(), request(ask));
            let d = decide(&Situation { request: Some(&request), ..situation(policy, &state) });
            assert_eq!(d.deed, expected, "{policy:?} {ask:?}");
        }
    }
}

#[test]
fn a_stop_is_remembered_and_a_start_undoes_it() {
    let state = running();
    let stop = request(Ask::Stop(false));
    let d = decide(&Situation { request: Some(&stop), ..situation(Unless, &state) });
    assert_eq!(d.memory.wanted, Wanted::Off);
    assert_eq!(d.notice, Some(Notice::Stopped(Cause::Operation("op".into()))));

    let state = ended(EndReason::GuestShutdown);
    let start = request(Ask::Start);
    let memory = Some(Memory { wanted: Wanted::Off, judged: 1 });
    let s = Situation { request: Some(&start), memory, gate_open: false, ..situation(Unless, &state) };
    let d = decide(&s);
    assert_eq!((d.deed, d.memory.wanted), (Deed::None, Wanted::On), "owed while the gate is closed");
    // The operation may be gone by then; the debt is not.
    let s = Situation { memory: Some(d.memory), ..situation(Unless, &state) };
    assert_eq!(decide(&s).deed, Deed::Start);
}

#[test]
fn a_guest_that_reboots_while_it_is_being_stopped_stays_down() {
    let state = ended(EndReason::GuestReset);
    let stop = request(Ask::Stop(false));
    let memory = Some(Memory { wanted: Wanted::Off, judged: 0 });
    let d = decide(&Situation { request: Some(&stop), memory, ..situation(Unless, &state) });
    assert_eq!((d.deed, d.memory.wanted), (Deed::None, Wanted::Off));
}

#[test]
fn a_served_request_does_nothing_more() {
    let state = running();
    let restart = request(Ask::Restart(true));
    let s = Situation { request: Some(&restart), launch: 2, ..situation(Unless, &state) };
    assert_eq!(decide(&s).deed, Deed::None);
}

#[test]
fn restart_is_a_stop_then_a_start_of_a_new_instance() {
    let restart = request(Ask::Restart(false));
    let state = running();
    let d = decide(&Situation { request: Some(&restart), ..situation(Manual, &state) });
    assert_eq!(d.notice, Some(Notice::Restarted(Cause::Operation("op".into()))));
    let state = ended(EndReason::Requested);
    let s = Situation { request: Some(&restart), memory: Some(d.memory), ..situation(Manual, &state) };
    assert_eq!(decide(&s).deed, Deed::Start);
    assert_eq!(decide(&Situation { gate_open: false, ..s.clone() }).deed, Deed::None);
    assert!(decide(&Situation { gate_open: false, ..s }).wanted_on());
}

#[test]
fn policy_changes() {
    let state = running();
    let d = decide(&situation(AlwaysOff, &state));
    assert_eq!(d.deed, Deed::PowerButton);
    assert_eq!(d.notice, Some(Notice::Stopped(Cause::Policy(AlwaysOff))));

    let state = ended(EndReason::Requested);
    for (policy, deed) in [(AlwaysOn, Deed::Start), (Unless, Deed::Start), (Manual, Deed::None)] {
        let memory = Some(Memory { wanted: Wanted::OffByPolicy, judged: 1 });
        assert_eq!(decide(&Situation { memory, ..situation(policy, &state) }).deed, deed, "{policy:?}");
    }
    // Manual to AlwaysOnUnlessStoppedManually is no reason to start.
    let memory = Some(Memory { wanted: Wanted::Off, judged: 0 });
    let s = Situation { memory, launch: 0, ..situation(Unless, &MachineState::Absent) };
    assert_eq!(decide(&s).deed, Deed::None);
}

#[test]
fn automatic_approval_restarts_gracefully_and_only_with_an_open_gate() {
    let state = running();
    let s = Situation { restart_due: true, ..situation(Unless, &state) };
    assert_eq!(decide(&s).deed, Deed::PowerButton);
    assert_eq!(decide(&s).notice, Some(Notice::Restarted(Cause::Changes)));
    assert_eq!(decide(&Situation { gate_open: false, ..s }).deed, Deed::None);
}

/// upstream.md 6, "instance removed by infrastructure": a taint with the effect NoExecute.
#[test]
fn a_taint_drives_the_instance_away() {
    let state = running();
    for (policy, wanted) in POLICIES.into_iter().zip([Wanted::On, Wanted::On, Wanted::Off, Wanted::OffByPolicy]) {
        let d = decide(&Situation { evicted_by: Some("k:NoExecute"), ..situation(policy, &state) });
        assert_eq!((d.deed, d.memory.wanted), (Deed::PowerButton, wanted), "{policy:?}");
        let expected = match policy {
            AlwaysOff => Notice::Stopped(Cause::Policy(AlwaysOff)),
            _ => Notice::Evicted(Cause::Taint("k:NoExecute".into())),
        };
        assert_eq!(d.notice, Some(expected), "{policy:?}");
        // Told once: while it goes down nothing more is said or done.
        let s = Situation {
            evicted_by: Some("k:NoExecute"),
            memory: Some(d.memory),
            ..situation(policy, &MachineState::Stopping)
        };
        assert_eq!((decide(&s).deed, decide(&s).notice), (Deed::None, None), "{policy:?}");
    }
    // What is not there cannot be driven away; it is owed as before, and placement says why it has to wait.
    let ended = ended(EndReason::Requested);
    let d = decide(&Situation { evicted_by: Some("k:NoExecute"), ..situation(Unless, &ended) });
    assert_eq!(d.deed, Deed::Start);
}

#[test]
fn a_forced_request_overtakes_a_stop_in_progress() {
    for (ask, deed) in [(Ask::Stop(true), Deed::Kill), (Ask::Restart(true), Deed::Kill), (Ask::Stop(false), Deed::None)]
    {
        let r = request(ask);
        let s = Situation { request: Some(&r), ..situation(Manual, &MachineState::Stopping) };
        assert_eq!(decide(&s).deed, deed, "{ask:?}");
    }
}

#[test]
fn memory_survives_its_annotation() {
    for wanted in [Wanted::On, Wanted::Off, Wanted::OffByPolicy] {
        let m = Memory { wanted, judged: 7 };
        assert_eq!(Memory::parse(&m.render()), Some(m));
    }
    for bad in ["", "On", "On/x", "Maybe/1"] {
        assert_eq!(Memory::parse(bad), None, "{bad}");
    }
}

#[test]
fn maintenance_keeps_every_machine_off_and_forgets_nothing() {
    let ended = ended(EndReason::GuestShutdown);
    let running = running();
    let start = request(Ask::Start);
    for policy in POLICIES {
        for wanted in [Wanted::On, Wanted::Off] {
            let memory = Some(Memory { wanted, judged: 0 });
            let base = |state| Situation { memory, maintenance: Some("op"), ..situation(policy, state) };
            let d = decide(&Situation { request: Some(&start), ..base(&running) });
            assert_eq!(d.deed, Deed::PowerButton, "{policy:?}");
            assert_eq!(d.notice, Some(Notice::Stopped(Cause::Operation("op".into()))));
            assert_eq!(d.memory, Memory { wanted, judged: 0 }, "it may still end by itself before it is told to");
            for state in [&ended, &MachineState::Absent] {
                let d = decide(&Situation { restart_due: true, request: Some(&start), ..base(state) });
                assert_eq!(
                    (d.deed, d.notice, d.memory),
                    (Deed::None, None, Memory { wanted, judged: 1 }),
                    "{policy:?}"
                );
            }
        }
    }
    let memory = Some(Memory { wanted: Wanted::On, judged: 1 });
    let after = decide(&Situation { memory, ..situation(Unless, &ended) });
    assert_eq!(after.deed, Deed::Start, "the shutdown was the operation's, not the guest's wish");
    let d = decide(&Situation { maintenance: Some("op"), ..situation(Unless, &MachineState::Starting) });
    assert_eq!(d.deed, Deed::Kill);
}
