//! Who has a console or screen of a machine open. Any number may; the newest is the one that a probe names.

use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::{Value, json};

use super::request::StreamName;

/// All open consoles and screens.
#[derive(Debug, Default, Clone)]
pub struct Viewers(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// In the order in which they came.
    open: Vec<Viewer>,
    next: u64,
}

#[derive(Debug)]
struct Viewer {
    number: u64,
    machine: String,
    stream: StreamName,
    holder: String,
    since: String,
    client: String,
}

/// One that is open; gone when it is dropped.
#[derive(Debug)]
pub struct Viewing {
    viewers: Viewers,
    number: u64,
}

impl Viewers {
    /// Notes that `holder` has opened `stream` of the machine with this UID, with the program `client`.
    pub fn enter(&self, machine: &str, stream: StreamName, holder: &str, client: &str) -> Viewing {
        let mut state = self.0.lock();
        state.next += 1;
        let number = state.next;
        let (machine, holder, client) = (machine.to_owned(), holder.to_owned(), client.to_owned());
        state.open.push(Viewer { number, machine, stream, holder, since: super::object::now(), client });
        Viewing { viewers: self.clone(), number }
    }

    /// Answer of a probe (upstream.md section 17): `{holder, startTime, client}` of the newest, all empty when there
    /// is nobody, and how many there are.
    pub fn probe(&self, machine: &str, stream: StreamName) -> Value {
        let state = self.0.lock();
        let mut here = state.open.iter().filter(|v| v.machine == machine && v.stream == stream);
        let count = here.clone().count();
        let (holder, since, client) =
            here.next_back().map_or(("", "", ""), |v| (v.holder.as_str(), v.since.as_str(), v.client.as_str()));
        json!({"holder": holder, "startTime": since, "client": client, "sessions": count})
    }
}

impl Drop for Viewing {
    fn drop(&mut self) {
        self.viewers.0.lock().open.retain(|v| v.number != self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_is_named_and_goes() {
        let viewers = Viewers::default();
        assert_eq!(viewers.probe("m", StreamName::Console)["holder"], "");
        let anna = viewers.enter("m", StreamName::Console, "anna", "vmdeck/1");
        let bob = viewers.enter("m", StreamName::Console, "bob", "d8");
        let _screen = viewers.enter("m", StreamName::Vnc, "carl", "");
        let _other = viewers.enter("n", StreamName::Console, "dora", "");
        let told = viewers.probe("m", StreamName::Console);
        assert_eq!((&told["holder"], &told["client"], &told["sessions"]), (&json!("bob"), &json!("d8"), &json!(2)));
        drop(bob);
        assert_eq!(viewers.probe("m", StreamName::Console)["holder"], "anna");
        drop(anna);
        assert_eq!(
            viewers.probe("m", StreamName::Console),
            json!({"holder": "", "startTime": "", "client": "", "sessions": 0})
        );
    }
}
