//! Consoles: the pane asks, effects do; what comes back goes into the pane.

use bytes::Bytes;
use crossterm::event::MouseEvent;

use super::super::console::{ConsolePane, Line, Request, Target};
use super::super::message::{ConsoleNews, Effect, ObjectRef};
use super::super::overlay::{Help, Overlay};
use super::super::state::{Front, State};
use crate::client::TableRow;
use crate::types::text::printable;

/// Opens a machine's console, or goes to its tab.
pub fn open(state: &mut State, machine: &ObjectRef) -> Vec<Effect> {
    show(state, Target::serial(&machine.namespace, &machine.name))
}

/// Logs in by SSH, in a tab of its own.
pub fn log_in(state: &mut State, machine: &ObjectRef, login: String) -> Vec<Effect> {
    state.logins.push(&login);
    let mut effects = vec![Effect::Remember { file: "logins", lines: state.logins.entries().to_vec() }];
    let line = Line::Ssh { login };
    effects.extend(show(state, Target { namespace: machine.namespace.clone(), name: machine.name.clone(), line }));
    effects
}

fn show(state: &mut State, target: Target) -> Vec<Effect> {
    state.front = Front::Consoles;
    let mut requests = state.consoles.resize(super::super::view::console_area(state));
    requests.extend(state.consoles.open(target));
    answer(state, requests)
}

/// News of a console's connection.
pub fn news(state: &mut State, target: &Target, news: ConsoleNews) -> Vec<Effect> {
    let requests = match news {
        ConsoleNews::Attached(history) => {
            state.consoles.attached(target, history);
            Vec::new()
        }
        ConsoleNews::Bytes(bytes) => state.consoles.output(target, &bytes),
        ConsoleNews::Settled => {
            state.consoles.settled(target);
            Vec::new()
        }
        ConsoleNews::Viewers(viewers) => {
            state.consoles.set_viewers(target, viewers);
            Vec::new()
        }
        ConsoleNews::Lost(why) => state.consoles.lost(target, &why),
        ConsoleNews::Ended(why) => {
            state.consoles.ended(target, &why);
            Vec::new()
        }
        ConsoleNews::Closed => {
            state.hint(format!("{}: logged out", printable(&target.label())));
            state.consoles.closed(target)
        }
        ConsoleNews::Refused(n) => {
            state.hint(format!("{}/{} does not take input: {n} bytes were not sent", target.namespace, target.name));
            Vec::new()
        }
    };
    answer(state, requests)
}

/// The mouse: to the console in front, nobody else listens.
pub fn mouse(state: &mut State, event: MouseEvent) -> Vec<Effect> {
    if state.front != Front::Consoles || !state.overlays.is_empty() {
        return Vec::new();
    }
    let requests = state.consoles.mouse(event);
    answer(state, requests)
}

/// The keyboard came to our terminal or went elsewhere: guests may want to know.
pub fn focus(state: &mut State, gained: bool) -> Vec<Effect> {
    if state.front != Front::Consoles {
        return Vec::new();
    }
    let requests = state.consoles.focus(gained);
    answer(state, requests)
}

/// Machines as the watch shows them: the pane marks where a guest stopped or started anew.
pub fn machines<'a>(consoles: &mut ConsolePane, rows: impl IntoIterator<Item = &'a TableRow>) {
    for row in rows {
        let text = |pointer: &str| row.object.pointer(pointer).and_then(|v| v.as_str()).unwrap_or_default().to_owned();
        let target = Target::serial(&text("/metadata/namespace"), &text("/metadata/name"));
        consoles.guest_phase(&target, &text("/status/phase"));
    }
}

/// Turns what the pane asks for into effects.
pub fn answer(state: &mut State, requests: Vec<Request>) -> Vec<Effect> {
    let mut effects = Vec::new();
    for request in requests {
        match request {
            Request::Connect { target, history, attempt, force } => {
                let size = state.consoles.size();
                effects.push(Effect::ConsoleConnect { target, history, attempt, size, force });
            }
            Request::Resize { target, size } => effects.push(Effect::ConsoleResize { target, size }),
            Request::Send { target, bytes } => {
                effects.push(Effect::ConsoleSend { target, bytes: Bytes::from(bytes) });
            }
            Request::Disconnect(target) => effects.push(Effect::ConsoleDisconnect(target)),
            Request::Copy(text) => effects.push(super::actions::copy(state, text, "text")),
            Request::Leave => state.front = Front::Views,
            Request::Help => state.overlays.push(Overlay::Help(Help::default())),
            Request::Notice(text) => state.hint(text),
        }
    }
    effects
}
