//! Moving between views.

use super::super::command::Command;
use super::super::filter::Filter;
use super::super::input::Input;
use super::super::message::{Effect, Kind, ObjectRef};
use super::super::overlay::{self, Ask, Overlay, Purpose};
use super::super::screens::{Document, Entries, MachineView, Mode, View, logs};
use super::super::state::{Front, Link, Scroll, State, machine_kind, target};
use crate::client::Choice;

/// Runs a line of `:`.
pub fn command(state: &mut State, command: Command) -> Vec<Effect> {
    match command {
        Command::Goto { kind, namespace, filter } => {
            if let Some(namespace) = namespace {
                set_namespace(state, namespace);
            }
            list(state, kind);
            if let Some(filter) = filter {
                // The list's table exists once the feeds are reconciled.
                let effects = state.reconcile_feeds();
                set_filter(state, &filter);
                return effects;
            }
            Vec::new()
        }
        Command::Namespace(namespace) => {
            set_namespace(state, namespace);
            if !matches!(state.view(), View::List(list) if list.kind.0.namespaced()) {
                list(state, machine_kind());
            }
            Vec::new()
        }
        Command::Context(None) => {
            push(state, View::Contexts(Entries::default()));
            vec![Effect::ListContexts]
        }
        Command::Context(Some(name)) => {
            let local = name == "local";
            connect(state, if local { None } else { Some(name) })
        }
        Command::Theme(name) => {
            let name = name.unwrap_or_else(|| next_theme(state));
            vec![Effect::LoadTheme(name)]
        }
        Command::Apply(None) => {
            ask_apply(state);
            Vec::new()
        }
        Command::Apply(Some(path)) => vec![apply(state, path)],
        Command::Create(kind) => super::actions::create(state, kind),
        Command::Console(name) => {
            let place = state.namespace.clone().unwrap_or_else(|| state.last_namespace.clone());
            let found = state.feeds.values().filter(|f| f.kind == machine_kind()).find_map(|f| {
                let rows = f.table.rows();
                rows.iter()
                    .find(|r| r.name == name && r.namespace == place)
                    .or_else(|| rows.iter().find(|r| r.name == name))
            });
            let namespace = found.map_or(place, |row| row.namespace.clone());
            super::consoles::open(state, &ObjectRef { kind: machine_kind(), namespace, name })
        }
        Command::Action(action) => super::actions::act(state, action),
    }
}

fn next_theme(state: &State) -> String {
    let names = &state.theme_names;
    let at = names.iter().position(|n| n == state.theme.name()).map_or(0, |i| i + 1);
    names.get(at % names.len().max(1)).cloned().unwrap_or_else(|| "dark".into())
}

/// Replaces the stack by a kind's list; the stack before can be returned to.
pub fn list(state: &mut State, kind: Kind) {
    state.front = Front::Views;
    if matches!(state.view(), View::List(list) if list.kind == kind) && state.views.len() == 1 {
        return;
    }
    state.previous = Some(std::mem::replace(&mut state.views, vec![View::list(kind)]));
}

/// Puts a view on the stack.
pub fn push(state: &mut State, view: View) {
    state.front = Front::Views;
    state.views.push(view);
}

/// An object's own screen.
pub fn open(state: &mut State, object: ObjectRef) {
    let view = if object.kind == machine_kind() {
        View::Machine(MachineView { object, scroll: Scroll::default() })
    } else {
        View::Text(Document::new(object, Mode::Describe))
    };
    push(state, view);
}

/// Takes the topmost view away; the last one stays.
pub fn close(state: &mut State) -> bool {
    if state.views.len() > 1 {
        state.views.pop();
        return true;
    }
    if matches!(state.view(), View::List(_)) {
        return false;
    }
    state.views = vec![View::list(machine_kind())];
    true
}

/// Esc: one thing at a time is undone, the nearest first.
pub fn back(state: &mut State) {
    if let View::Text(document) = state.view_mut()
        && document.search.is_some()
    {
        document.search = None;
        document.matches.clear();
        return;
    }
    if state.list().is_some_and(|feed| !feed.filter_text.is_empty()) {
        set_filter(state, "");
        return;
    }
    if let Some(feed) = state.list_mut()
        && feed.table.marked() > 0
    {
        feed.table.clear_marks();
        return;
    }
    if !close(state) && state.notice.is_none() {
        let keys = &state.keymap;
        use super::super::action::Action;
        let text = format!(
            "this is the top; {} {} leave, {} goes elsewhere",
            keys.label(Action::Quit),
            keys.label(Action::Quit),
            keys.label(Action::Command)
        );
        state.hint(text);
    }
}

/// Uses a namespace from now on.
pub fn set_namespace(state: &mut State, namespace: Option<String>) {
    if let Some(name) = &namespace {
        state.last_namespace.clone_from(name);
    }
    state.namespace = namespace;
}

/// Uses a filter line on the list on top; the error says why it is not in force.
pub fn set_filter(state: &mut State, text: &str) -> Option<String> {
    let feed = state.list_mut()?;
    match Filter::parse(text) {
        Ok(filter) => {
            feed.table.set_filter(filter);
            feed.filter_text = text.trim().to_owned();
            None
        }
        Err(error) => Some(error),
    }
}

/// Connects to a context, or to this computer.
pub fn connect(state: &mut State, context: Option<String>) -> Vec<Effect> {
    let choice = Choice {
        host: context.is_none().then(|| "local".to_owned()),
        context,
        kubeconfig: state.config.choice.kubeconfig.clone(),
        namespace: None,
    };
    state.config.choice = choice;
    state.memories.clear();
    state.previous = None;
    state.views = vec![View::list(machine_kind())];
    state.namespace = Some("default".into());
    state.front = Front::Views;
    reconnect(state)
}

/// Connects again to what is chosen; views and namespace stay.
pub fn reconnect(state: &mut State) -> Vec<Effect> {
    state.generation += 1;
    let (choice, generation) = (state.config.choice.clone(), state.generation);
    state.link = Link::Connecting { what: target(&choice), since: state.now };
    // Tables of the old engine go before the new one answers: nobody shall act on them.
    let mut effects: Vec<Effect> = state.feeds.values().map(|f| Effect::Unwatch(f.id)).collect();
    state.feeds.clear();
    effects.push(Effect::Connect { generation, choice });
    effects
}

/// Enter on a row of a short list.
pub fn open_entry(state: &mut State) -> Vec<Effect> {
    match state.view() {
        View::Contexts(entries) => {
            let Some(row) = logs::context_rows(state).into_iter().nth(entries.cursor) else { return Vec::new() };
            connect(state, (!row.local).then_some(row.name))
        }
        View::Tasks(entries) => {
            let object = state.tasks.iter().rev().nth(entries.cursor).and_then(|t| t.object.clone());
            jump(state, object)
        }
        View::Errors(entries) => {
            let object = state.errors.iter().rev().nth(entries.cursor).and_then(|e| e.object.clone());
            jump(state, object)
        }
        _ => Vec::new(),
    }
}

fn jump(state: &mut State, object: Option<ObjectRef>) -> Vec<Effect> {
    match object {
        Some(object) => open(state, object),
        None => state.hint("there is no object to go to"),
    }
    Vec::new()
}

/// Asks which manifest file to apply.
pub fn ask_apply(state: &mut State) {
    let place = state.namespace.clone().unwrap_or_else(|| state.last_namespace.clone());
    state.overlays.push(Overlay::Ask(Ask {
        title: "Apply a manifest file".into(),
        note: format!("YAML or JSON, several documents are fine. Without a namespace of their own they go to {place}."),
        input: Input::default(),
        purpose: Purpose::ApplyFile,
    }));
}

/// Applies a file in the background.
pub fn apply(state: &mut State, path: String) -> Effect {
    use super::super::message::Job;
    let namespace = state.namespace.clone().unwrap_or_else(|| state.last_namespace.clone());
    let title = format!("Apply {}", crate::types::text::printable(&path));
    overlay::run(state, title, None, Job::ApplyFile { path, namespace })
}
