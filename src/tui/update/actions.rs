//! What each action does.

use serde_json::Value;

use super::super::action::{ACTIONS, Action, Possible, Scope};
use super::super::input::Input;
use super::super::message::{Effect, Kind, ObjectRef};
use super::super::overlay::{self, Ask, Chosen, CommandLine, FilterLine, Help, Menu, MenuItem, Overlay, Purpose};
use super::super::palette::Palette;
use super::super::screens::{Document, Entries, Mode, View, creatable, kind_noun};
use super::super::state::{Front, Scroll, State, machine_kind};
use super::super::text::count;
use super::{ask, consoles, edits, go};
use crate::client::OperationType;
use crate::types::kinds::{self, KINDS};
use crate::types::text::printable;

/// How long a first "quit" waits for the second.
const QUIT_MS: i64 = 3_000;

/// Does an action on what is at hand.
pub fn act(state: &mut State, action: Action) -> Vec<Effect> {
    if let Possible::No(reason) = state.possible(action) {
        state.hint(format!("{} is not possible: {reason}", action.row().label));
        return Vec::new();
    }
    match action {
        Action::Open => return open(state),
        Action::Back => go::back(state),
        Action::Command => state.overlays.push(Overlay::Command(CommandLine::default())),
        Action::Filter => filter(state),
        Action::Help => state.overlays.push(Overlay::Help(Help::default())),
        Action::Palette => {
            let palette = Palette::new(state);
            state.overlays.push(Overlay::Palette(palette));
        }
        Action::Close => {
            if !go::close(state) {
                let key = state.keymap.label(Action::Quit);
                state.hint(format!("this is the last view; :q leaves vmdeck, and so does {key} {key}"));
            }
        }
        Action::Quit => return quit(state),
        Action::Menu => menu(state),
        Action::Errors => toggle(state, |v| matches!(v, View::Errors(_)), || View::Errors(Entries::default())),
        Action::Tasks => toggle(state, |v| matches!(v, View::Tasks(_)), || View::Tasks(Entries::default())),
        Action::Contexts => {
            toggle(state, |v| matches!(v, View::Contexts(_)), || View::Contexts(Entries::default()));
            return vec![Effect::ListContexts];
        }
        Action::Reconnect => return go::reconnect(state),
        Action::AllNamespaces => {
            let namespace = match state.namespace {
                Some(_) => None,
                None => Some(state.last_namespace.clone()),
            };
            go::set_namespace(state, namespace);
        }
        Action::LastView => {
            if let Some(previous) = state.previous.take() {
                state.previous = Some(std::mem::replace(&mut state.views, previous));
            } else {
                state.hint("there is no view before this one");
            }
        }
        Action::Consoles => {
            if state.consoles.is_empty() {
                let key = state.keymap.label(Action::Console);
                state.hint(format!("no console is open; {key} on a machine opens one"));
            } else {
                state.front = Front::Consoles;
            }
        }
        Action::Redraw => return vec![Effect::Redraw],
        Action::Suspend => return vec![Effect::Suspend],
        Action::Down
        | Action::Up
        | Action::Top
        | Action::Bottom
        | Action::PageDown
        | Action::PageUp
        | Action::HalfDown
        | Action::HalfUp
        | Action::Left
        | Action::Right => motion(state, action),
        Action::Mark => {
            if let Some(feed) = state.list_mut() {
                feed.table.toggle_mark();
                feed.table.move_by(1);
            }
        }
        Action::MarkAll => {
            if let Some(feed) = state.list_mut() {
                feed.table.toggle_all_marks();
            }
        }
        Action::Sort => sort_menu(state),
        Action::Wide => match state.view_mut() {
            View::Text(document) => {
                document.wrap = !document.wrap;
                document.scroll.leftmost();
            }
            _ => {
                if let Some(feed) = state.list_mut() {
                    feed.wide = !feed.wide;
                }
            }
        },
        Action::Preview => state.preview = !state.preview,
        Action::Create => return create_here(state),
        Action::Apply => go::ask_apply(state),
        Action::Describe => document(state, Mode::Describe),
        Action::Yaml => document(state, Mode::Yaml),
        Action::Edit | Action::EditExternal => return edits::open(state, action == Action::EditExternal),
        Action::Delete => ask::delete(state),
        Action::Copy => {
            if let View::Text(document) = state.view() {
                let text = document.text();
                return vec![copy(state, text, "text")];
            }
            if let Some((object, _)) = state.at_hand() {
                return vec![copy(state, object.name, "name")];
            }
        }
        Action::CopyCommand => {
            if let Some((object, _)) = state.at_hand() {
                return vec![copy(state, overlay::shell_command(&object), "command")];
            }
        }
        Action::Upload => upload(state),
        Action::Start => return ask::power(state, OperationType::Start, false),
        Action::Stop => return ask::power(state, OperationType::Stop, false),
        Action::ForceStop => return ask::power(state, OperationType::Stop, true),
        Action::Restart => return ask::power(state, OperationType::Restart, false),
        Action::ForceRestart => return ask::power(state, OperationType::Restart, true),
        Action::Evict => return ask::power(state, OperationType::Evict, false),
        Action::Console => {
            let mut effects = Vec::new();
            for (object, _) in ask::targets(state) {
                effects.extend(consoles::open(state, &object));
            }
            return effects;
        }
        Action::Ssh => ask::login(state),
        Action::Vnc => return ask::screen(state),
        Action::PortForward => ask::ports(state),
        Action::Snapshot => ask::snapshot(state),
        Action::Attach => return edits::attach(state),
        Action::Clone => return edits::clone(state),
        Action::Restore => return edits::restore(state),
        Action::Detach => ask::detach(state),
        Action::NextMatch | Action::PreviousMatch => {
            if let View::Text(document) = state.view_mut() {
                document.step(action == Action::NextMatch);
            }
        }
        Action::Dismiss => return dismiss(state),
        Action::DismissAll => match state.view() {
            View::Errors(_) => state.errors.clear(),
            _ => state.tasks.retain(|t| matches!(t.state, super::super::state::TaskState::Running { .. })),
        },
    }
    Vec::new()
}

/// Quits, unless something would be lost.
pub fn quit(state: &mut State) -> Vec<Effect> {
    state.leaving = true;
    vec![Effect::Quit]
}

/// The first press says so, the second within a few seconds quits.
pub fn quit_twice(state: &mut State) -> Vec<Effect> {
    if state.quit_armed.is_some_and(|at| state.now - at < QUIT_MS) {
        return quit(state);
    }
    state.quit_armed = Some(state.now);
    let key = state.keymap.label(Action::Quit);
    state.hint(format!("press {key} again to leave vmdeck; machines go on running"));
    Vec::new()
}

fn toggle(state: &mut State, is: impl Fn(&View) -> bool, make: impl Fn() -> View) {
    if is(state.view()) {
        go::close(state);
    } else {
        go::push(state, make());
    }
}

fn open(state: &mut State) -> Vec<Effect> {
    if !matches!(state.view(), View::List(_)) {
        return go::open_entry(state);
    }
    let Some((object, content)) = state.at_hand() else { return Vec::new() };
    match object.kind.0.kind {
        "Namespace" => {
            go::set_namespace(state, Some(object.name));
            go::list(state, machine_kind());
        }
        "Event" => match involved(&content) {
            Some(object) => go::open(state, object),
            None => go::open(state, object),
        },
        _ => go::open(state, object),
    }
    Vec::new()
}

/// The object that an event is about, if its kind is known here.
fn involved(event: &Value) -> Option<ObjectRef> {
    let about = &event["involvedObject"];
    let kind = kinds::by_kind(about["apiVersion"].as_str()?, about["kind"].as_str()?)?;
    Some(ObjectRef {
        kind: Kind(kind),
        namespace: about["namespace"].as_str().unwrap_or_default().to_owned(),
        name: about["name"].as_str()?.to_owned(),
    })
}

fn filter(state: &mut State) {
    let before = match state.view() {
        View::Text(document) => document.search.as_ref().map(|(text, _)| text.clone()).unwrap_or_default(),
        View::List(_) => state.list().map(|feed| feed.filter_text.clone()).unwrap_or_default(),
        _ => {
            state.hint("there is nothing to filter here");
            return;
        }
    };
    state.overlays.push(Overlay::Filter(FilterLine { input: Input::new(before.clone()), before, error: None }));
}

fn motion(state: &mut State, action: Action) {
    let count = state.count;
    let n = isize::try_from(count.unwrap_or(1)).unwrap_or(1);
    let page = isize::try_from(super::super::view::body_height(state).max(1)).unwrap_or(1);
    let step = match action {
        Action::Down => n,
        Action::Up => -n,
        Action::PageDown => page.saturating_mul(n),
        Action::PageUp => -page.saturating_mul(n),
        Action::HalfDown => (page / 2).max(1).saturating_mul(n),
        Action::HalfUp => -(page / 2).max(1).saturating_mul(n),
        _ => 0,
    };
    let absolute = match action {
        Action::Top => Some(count.map_or(0, |n| n.saturating_sub(1))),
        Action::Bottom => Some(count.map_or(usize::MAX / 2, |n| n.saturating_sub(1))),
        _ => None,
    };
    let (errors, tasks) = (state.errors.len(), state.tasks.len());
    let contexts = super::super::screens::logs::context_rows(state).len();
    match state.view_mut() {
        View::List(_) => {
            if let Some(feed) = state.list_mut() {
                match absolute {
                    Some(line) => feed.table.move_to(line),
                    None => feed.table.move_by(step),
                }
            }
        }
        View::Errors(entries) => entries.step(step, absolute, errors),
        View::Tasks(entries) => entries.step(step, absolute, tasks),
        View::Contexts(entries) => entries.step(step, absolute, contexts),
        View::Machine(view) => scroll(&view.scroll, step, absolute),
        View::Text(document) => match action {
            Action::Left => document.scroll.sideways(-8 * n),
            Action::Right if !document.wrap => document.scroll.sideways(8 * n),
            _ => scroll(&document.scroll, step, absolute),
        },
        // These have the keyboard for themselves.
        View::Edit(_) | View::Form(_) => {}
    }
}

fn scroll(scroll: &Scroll, step: isize, absolute: Option<usize>) {
    match absolute {
        Some(line) => scroll.to(line),
        None => scroll.by(step),
    }
}

fn upload(state: &mut State) {
    let standalone = state.standalone();
    let Some((object, content)) = state.at_hand() else { return };
    let Some(url) = overlay::upload_url(&content, standalone) else {
        state.hint("the server has not said yet where the file shall go; try again in a moment");
        return;
    };
    state.overlays.push(Overlay::Ask(Ask {
        title: format!("Upload a file to {} {}", kind_noun(object.kind.0), object.path()),
        note: "Path of a qcow2, raw, vmdk, vdi or ISO file on this computer; ~/ is your home directory.".into(),
        input: Input::default(),
        purpose: Purpose::Upload { object, url },
    }));
}

fn document(state: &mut State, mode: Mode) {
    let Some((object, content)) = state.at_hand() else { return };
    // From one text of an object to the other is a change of view, not a deeper one.
    if matches!(state.view(), View::Text(document) if document.object == object) {
        if matches!(state.view(), View::Text(document) if document.mode == mode) {
            return;
        }
        state.views.pop();
    }
    let mut document = Document::new(object, mode);
    document.renew(&content);
    go::push(state, View::Text(document));
}

/// Everything that can be done here, with the reason where something cannot.
fn menu(state: &mut State) {
    let title = match state.at_hand() {
        Some((object, _)) => format!("{} {}", ask::first_upper(&kind_noun(object.kind.0)), object.path()),
        None => "Actions".into(),
    };
    let mut items = Vec::new();
    for row in ACTIONS {
        let here =
            matches!(row.scope, Scope::Object | Scope::Machine) || matches!(row.action, Action::Create | Action::Apply);
        let possible = state.possible(row.action);
        if !here || possible == Possible::Absent || matches!(row.action, Action::Menu | Action::Open) {
            continue;
        }
        items.push(MenuItem {
            key: state.keymap.label(row.action),
            label: row.label.into(),
            doc: row.doc.into(),
            possible,
            chosen: Chosen::Action(row.action),
        });
    }
    // Power first: that is what the menu is opened for most.
    items.sort_by_key(|i| !matches!(i.chosen, Chosen::Action(a) if a.row().scope == Scope::Machine));
    let cursor = items.iter().position(|i| i.possible == Possible::Yes).unwrap_or(0);
    state.overlays.push(Overlay::Menu(Menu { title, items, cursor, scroll: Scroll::default() }));
}

fn sort_menu(state: &mut State) {
    let Some(feed) = state.list() else { return };
    let sort = feed.table.sort();
    let items = feed
        .table
        .columns()
        .iter()
        .enumerate()
        .map(|(i, column)| MenuItem {
            key: if i < 9 { (i + 1).to_string() } else { String::new() },
            label: printable(&column.name).into_owned(),
            doc: match (sort.column == i, sort.descending) {
                (true, false) => "sorts now; again for the other direction".into(),
                (true, true) => "sorts now, largest first".into(),
                _ => String::new(),
            },
            possible: Possible::Yes,
            chosen: Chosen::Sort(i),
        })
        .collect();
    let menu = Menu { title: "Sort by".into(), items, cursor: sort.column, scroll: Scroll::default() };
    state.overlays.push(Overlay::Menu(menu));
}

/// "New" in a list means an object of that kind; elsewhere it asks which.
fn create_here(state: &mut State) -> Vec<Effect> {
    match state.view() {
        View::List(list) if creatable(list.kind) => {
            let kind = list.kind;
            create(state, Some(kind))
        }
        _ => create(state, None),
    }
}

/// Opens the form for a new object, or asks of which kind it shall be.
pub fn create(state: &mut State, kind: Option<Kind>) -> Vec<Effect> {
    let Some(kind) = kind else {
        let items = KINDS
            .iter()
            .map(Kind)
            .filter(|k| creatable(*k))
            .map(|kind| MenuItem {
                key: String::new(),
                label: kind_noun(kind.0),
                doc: kind.0.kind.to_owned(),
                possible: Possible::Yes,
                chosen: Chosen::Create(kind),
            })
            .collect();
        let menu = Menu { title: "Create".into(), items, cursor: 0, scroll: Scroll::default() };
        state.overlays.push(Overlay::Menu(menu));
        return Vec::new();
    };
    edits::create(state, kind)
}

fn dismiss(state: &mut State) -> Vec<Effect> {
    use super::super::state::TaskState;
    match state.view() {
        View::Errors(entries) => {
            let n = state.errors.len();
            if let Some(at) = n.checked_sub(entries.cursor + 1) {
                state.errors.remove(at);
            }
            let left = state.errors.len();
            if let View::Errors(entries) = state.view_mut() {
                entries.cursor = entries.cursor.min(left.saturating_sub(1));
            }
        }
        View::Tasks(entries) => {
            let Some(at) = state.tasks.len().checked_sub(entries.cursor + 1) else { return Vec::new() };
            let task = &state.tasks[at];
            match (&task.state, task.cancellable) {
                (TaskState::Running { .. }, true) => return vec![Effect::Cancel(task.id)],
                (TaskState::Running { .. }, false) => {
                    state.hint("this cannot be cancelled: the server is doing it");
                }
                _ => {
                    state.tasks.remove(at);
                    let left = state.tasks.len();
                    if let View::Tasks(entries) = state.view_mut() {
                        entries.cursor = entries.cursor.min(left.saturating_sub(1));
                    }
                }
            }
        }
        _ => {}
    }
    Vec::new()
}

/// Copies text and says so.
pub fn copy(state: &mut State, text: String, what: &str) -> Effect {
    // Terminals cut or refuse larger OSC 52 strings.
    const LIMIT: usize = 74_000;
    if text.len() > LIMIT {
        let mut cut = LIMIT;
        while !text.is_char_boundary(cut) {
            cut -= 1;
        }
        state.hint(format!("copied the first {LIMIT} bytes of {}: terminals take no more", text.len()));
        return Effect::Copy(text[..cut].to_owned());
    }
    state.say(format!("copied the {what} ({})", count(text.chars().count(), "character", "characters")));
    Effect::Copy(text)
}
