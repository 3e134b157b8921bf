//! Questions before something happens. They name the object, where it is, and what follows.

use serde_json::Value;

use super::super::action::{Action, Possible, possible};
use super::super::input::Input;
use super::super::message::{Effect, Job, ObjectRef};
use super::super::overlay::{self, Ask, Confirm, Overlay, Purpose, Surety, Then};
use super::super::screens::why::why;
use super::super::screens::{View, kind_noun, kind_title};
use super::super::state::{Link, State};
use super::super::text::count;
use crate::client::OperationType;
use crate::types::text::printable;

/// The marked rows (those the filter hides first), or what is at hand.
pub fn targets(state: &State) -> Vec<(ObjectRef, std::sync::Arc<Value>)> {
    if let (View::List(list), Some(feed)) = (state.view(), state.list())
        && feed.table.marked() > 0
    {
        return feed
            .table
            .marked_rows()
            .into_iter()
            .map(|(row, _)| {
                let object = ObjectRef { kind: list.kind, namespace: row.namespace.clone(), name: row.name.clone() };
                (object, row.object.clone())
            })
            .collect();
    }
    state.at_hand().into_iter().collect()
}

fn place(state: &State) -> String {
    match &state.link {
        Link::Connected(info) => match &info.engine {
            crate::client::Engine::Local { .. } => "this host".into(),
            crate::client::Engine::Cluster { context } => format!("cluster {}", printable(context)),
        },
        _ => "nowhere".into(),
    }
}

/// Starts, stops, restarts or migrates; what disturbs a guest is asked first.
pub fn power(state: &mut State, operation: OperationType, force: bool) -> Vec<Effect> {
    let action = match (operation, force) {
        (OperationType::Start, _) => Action::Start,
        (OperationType::Stop, false) => Action::Stop,
        (OperationType::Stop, true) => Action::ForceStop,
        (OperationType::Restart, false) => Action::Restart,
        (OperationType::Restart, true) => Action::ForceRestart,
        (OperationType::Evict | OperationType::Migrate, _) => Action::Evict,
    };
    let mut skipped = Vec::new();
    let mut chosen = Vec::new();
    for (object, content) in targets(state) {
        match possible(action, object.kind.0.kind, &content) {
            Possible::Yes => chosen.push((object, content)),
            Possible::No(reason) => skipped.push(format!("{}: {reason}", object.path())),
            Possible::Absent => {}
        }
    }
    if chosen.is_empty() {
        let reason = skipped.into_iter().next().unwrap_or_else(|| "no machine is at hand".into());
        state.hint(format!("{} is not possible: {reason}", action.row().label));
        return Vec::new();
    }
    let verb = match (operation, force) {
        (OperationType::Start, _) => "Start",
        (OperationType::Stop, false) => "Stop",
        (OperationType::Stop, true) => "Force stop",
        (OperationType::Restart, false) => "Restart",
        (OperationType::Restart, true) => "Force restart",
        (OperationType::Evict | OperationType::Migrate, _) => "Migrate",
    };
    let jobs: Vec<(String, Option<ObjectRef>, Job)> = chosen
        .iter()
        .map(|(object, _)| {
            let job = Job::Operation { machine: object.clone(), operation, force };
            (format!("{verb} {}", object.path()), Some(object.clone()), job)
        })
        .collect();
    if matches!(operation, OperationType::Start | OperationType::Evict | OperationType::Migrate) {
        if let Some(feed) = state.list_mut() {
            feed.table.clear_marks();
        }
        return jobs.into_iter().map(|(title, object, job)| overlay::run(state, title, object, job)).collect();
    }
    let what = match chosen.as_slice() {
        [(object, _)] => object.path(),
        many => count(many.len(), "machine", "machines"),
    };
    let mut body = Vec::new();
    for (object, content) in chosen.iter().take(6) {
        body.push(consequence(object, content, operation, force, chosen.len() > 1));
    }
    if chosen.len() > 6 {
        body.push(format!("and {} more", chosen.len() - 6));
    }
    if !skipped.is_empty() {
        body.push(format!("Left out: {}", skipped.join("; ")));
    }
    state.overlays.push(Overlay::Confirm(Confirm {
        title: format!("{verb} {what} on {}?", place(state)),
        body,
        surety: Surety::Yes,
        then: Then::Run(jobs),
    }));
    Vec::new()
}

/// Makes a snapshot of the machine at hand, after it was told what would be in it.
pub fn snapshot(state: &mut State) {
    let Some((machine, content)) = state.at_hand() else { return };
    let told = |type_: &str| {
        let conditions = content["status"]["conditions"].as_array().into_iter().flatten();
        conditions.into_iter().any(|c| c["type"] == type_ && c["status"] == "True")
    };
    let (consistent, body) = if content["status"]["phase"] == "Stopped" {
        (true, "It is off: its disks are saved as they are.")
    } else if told("AgentReady") || told("FilesystemFrozen") {
        (true, "The guest agent freezes the file systems for a moment; the machine goes on running.")
    } else {
        (
            false,
            "Its guest agent does not answer, so its file systems cannot be frozen: what the guest has not written to \
             its disks yet will be missing, and a database may have to repair itself. Stop it first to be sure.",
        )
    };
    let job = Job::Snapshot { machine: machine.clone(), consistent };
    state.overlays.push(Overlay::Confirm(Confirm {
        title: format!("Snapshot of {} on {}?", machine.path(), place(state)),
        body: vec![body.to_owned()],
        surety: Surety::Yes,
        then: Then::Run(vec![(format!("Snapshot of {}", machine.path()), Some(machine), job)]),
    }));
}

/// Asks whom to log in as; the last login is offered.
pub fn login(state: &mut State) {
    let Some((machine, _)) = state.at_hand() else { return };
    let last = state.logins.entries().last().cloned().unwrap_or_default();
    state.overlays.push(Overlay::Ask(Ask {
        title: format!("SSH to {}", machine.path()),
        note: "Log in as this user. Keys and known hosts are those of `vmdeck ssh`; a password is asked for there."
            .into(),
        input: Input::new(&last),
        purpose: Purpose::Login { machine },
    }));
}

/// Opens the screens of the chosen machines, each as a task that ends with its viewer.
pub fn screen(state: &mut State) -> Vec<Effect> {
    let (mut effects, mut skipped) = (Vec::new(), Vec::new());
    for (machine, content) in targets(state) {
        match possible(Action::Vnc, machine.kind.0.kind, &content) {
            Possible::Yes => {
                let title = format!("Screen of {}", machine.path());
                effects.push(overlay::run(state, title, Some(machine.clone()), Job::Vnc(machine)));
            }
            Possible::No(reason) => skipped.push(format!("{}: {reason}", machine.path())),
            Possible::Absent => {}
        }
    }
    if effects.is_empty() && !skipped.is_empty() {
        state.hint(format!("no screen: {}", skipped.join("; ")));
    }
    effects
}

/// Asks which ports to forward.
pub fn ports(state: &mut State) {
    let Some((machine, _)) = state.at_hand() else { return };
    state.overlays.push(Overlay::Ask(Ask {
        title: format!("Forward ports to {}", machine.path()),
        note: "LOCAL:REMOTE, several with blanks between: 8080:80 2222:22 udp/5353. They stay until the task is cancelled."
            .into(),
        input: Input::default(),
        purpose: Purpose::Ports { machine },
    }));
}

/// Starts to forward ports, if the answer makes sense.
pub fn forward(state: &mut State, machine: ObjectRef, answer: &str) -> Vec<Effect> {
    let ports: Vec<String> = answer.split_whitespace().map(str::to_owned).collect();
    if let Some(wrong) = ports.iter().find(|p| !is_ports(p)) {
        state.hint(format!("`{}` is no port: write LOCAL:REMOTE, for example 8080:80", printable(wrong)));
        return Vec::new();
    }
    let title = format!("Forward {} of {}", ports.join(" "), machine.path());
    vec![overlay::run(state, title, Some(machine.clone()), Job::Forward { machine, ports })]
}

/// `[tcp/|udp/]LOCAL[:REMOTE]`; the details are for the command that does it.
fn is_ports(text: &str) -> bool {
    let numbers = text.strip_prefix("tcp/").or(text.strip_prefix("udp/")).unwrap_or(text);
    let mut parts = numbers.split(':');
    let number = |part: &str| part.parse::<u16>().is_ok();
    parts.next().is_some_and(number) && parts.next().is_none_or(number) && parts.next().is_none()
}

/// What a stop or restart means for this machine, in words.
fn consequence(object: &ObjectRef, content: &Value, operation: OperationType, force: bool, named: bool) -> String {
    let mut parts = Vec::new();
    let grace = content["spec"]["terminationGracePeriodSeconds"].as_u64().unwrap_or(60);
    if force {
        parts.push("power cut: the guest cannot save anything".to_owned());
    } else {
        parts.push(format!("the guest has {grace} s to shut down, then its power is cut"));
    }
    let disks = content["spec"]["blockDeviceRefs"].as_array().map_or(0, Vec::len);
    if operation == OperationType::Stop {
        parts.push(format!("{} kept", count(disks, "device is", "devices are")));
    }
    let waiting = content["status"]["restartAwaitingChanges"].as_array().map_or(0, Vec::len);
    if waiting > 0 {
        parts.push(format!("{} effect", count(waiting, "waiting change takes", "waiting changes take")));
    }
    if operation == OperationType::Restart
        && let Some(why) = why(content)
    {
        parts.push(format!("it would NOT come up again: {} ({})", why.message, why.what));
    }
    let text = parts.join("; ") + ".";
    if named { format!("{}: {text}", object.path()) } else { first_upper(&text) }
}

/// The text with a capital letter in front.
pub fn first_upper(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|c| c.to_uppercase().collect::<String>() + chars.as_str()).unwrap_or_default()
}

/// Deletes after the name was typed.
pub fn delete(state: &mut State) {
    let mut chosen: Vec<(ObjectRef, std::sync::Arc<Value>)> = Vec::new();
    for (object, content) in targets(state) {
        if possible(Action::Delete, object.kind.0.kind, &content) == Possible::Yes {
            chosen.push((object, content));
        }
    }
    let Some((first, content)) = chosen.first() else { return };
    let noun = kind_noun(first.kind.0);
    let (title, name) = match chosen.as_slice() {
        [_] => (format!("Delete {noun} {} on {}?", first.path(), place(state)), printable(&first.name).into_owned()),
        many => {
            let what = kind_title(first.kind.0).to_lowercase();
            (format!("Delete {} {what} on {}?", many.len(), place(state)), format!("delete {}", many.len()))
        }
    };
    let mut body = vec![loss(first, content)];
    if chosen.len() > 1 {
        let names: Vec<String> = chosen.iter().map(|(o, _)| o.path()).collect();
        body.insert(0, names.join(", "));
        let hidden = state.list().map_or(0, |f| f.table.marked_rows().iter().filter(|(_, h)| *h).count());
        if hidden > 0 {
            body.insert(1, format!("{} not shown by the filter.", count(hidden, "of them is", "of them are")));
        }
    }
    let jobs = chosen
        .iter()
        .map(|(object, _)| {
            let title = format!("Delete {} {}", kind_noun(object.kind.0), object.path());
            (title, Some(object.clone()), Job::Delete(object.clone()))
        })
        .collect();
    state.overlays.push(Overlay::Confirm(Confirm {
        title,
        body,
        surety: Surety::Name { name, input: Input::default() },
        then: Then::Run(jobs),
    }));
}

/// What goes away with an object, in words.
fn loss(object: &ObjectRef, content: &Value) -> String {
    let users = || {
        let list = content["status"]["attachedToVirtualMachines"].as_array();
        list.into_iter()
            .flatten()
            .filter_map(|u| u["name"].as_str())
            .map(|n| printable(n).into_owned())
            .collect::<Vec<_>>()
    };
    match object.kind.0.kind {
        "VirtualMachine" => {
            let phase = content["status"]["phase"].as_str().unwrap_or_default();
            let disks: Vec<String> = content["spec"]["blockDeviceRefs"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|d| d["name"].as_str())
                .map(|n| printable(n).into_owned())
                .collect();
            let running = if phase == "Running" { "It is running and is stopped first. " } else { "" };
            format!("{running}Its disks and images are kept: {}.", disks.join(", "))
        }
        "VirtualDisk" => match users().as_slice() {
            [] => "All data on it is lost.".into(),
            names => {
                format!("All data on it is lost. It is in use by {}: it goes away once it is free.", names.join(", "))
            }
        },
        "VirtualImage" | "ClusterVirtualImage" => "Disks made from it are kept.".into(),
        "Namespace" => "Everything in it is deleted too: machines, disks, images, secrets.".into(),
        "VirtualMachineBlockDeviceAttachment" => "The device is unplugged from the machine; the disk is kept.".into(),
        "VirtualMachineIPAddress" => "The address becomes free for other machines after a while.".into(),
        "VirtualMachineOperation" => "Deleting a migration that is under way cancels it.".into(),
        _ => "This cannot be undone.".into(),
    }
}

/// Takes a hot-plugged device away.
pub fn detach(state: &mut State) {
    let Some((object, content)) = state.at_hand() else { return };
    let device = content["spec"]["blockDeviceRef"]["name"].as_str().unwrap_or_default();
    let machine = content["spec"]["virtualMachineName"].as_str().unwrap_or_default();
    let title = format!("Detach {} from {} on {}?", printable(device), printable(machine), place(state));
    let job = Job::Delete(object.clone());
    state.overlays.push(Overlay::Confirm(Confirm {
        title,
        body: vec!["The device is unplugged from the guest: unmount it there first. The disk is kept.".into()],
        surety: Surety::Yes,
        then: Then::Run(vec![(format!("Detach {}", object.path()), Some(object), job)]),
    }));
}
