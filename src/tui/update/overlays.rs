//! Keys of the boxes over the view.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::super::action::{Action, Possible};
use super::super::command::{self, completions};
use super::super::input::Input;
use super::super::message::{Effect, Job, ObjectRef};
use super::super::overlay::{self, Ask, Chosen, Confirm, Overlay, Purpose, Surety, Then};
use super::super::palette::Goal;
use super::super::screens::View;
use super::super::state::State;
use super::{actions, edits, go};

/// What a box wants after a key.
enum After {
    /// It stays.
    Stay,
    /// It goes away.
    Close,
    /// It goes away, and this is done.
    Do(Deed),
}

enum Deed {
    Command(String),
    Chosen(Chosen),
    Goal(Goal),
    Then(Then),
    Answer(Purpose, String),
    KeepFilter(String),
    DropFilter(String),
    Filter(String),
}

/// A key for the topmost box.
pub fn key(state: &mut State, key: KeyEvent) -> Vec<Effect> {
    let Some(mut top) = state.overlays.pop() else { return Vec::new() };
    let cancel = key.code == KeyCode::Esc
        || (key.modifiers.contains(KeyModifiers::CONTROL) && matches!(key.code, KeyCode::Char('c' | 'g')));
    let after = match &mut top {
        Overlay::Filter(line) if cancel => After::Do(Deed::DropFilter(line.before.clone())),
        Overlay::Help(help) if cancel && help.searching => {
            help.searching = false;
            help.search = Input::default();
            After::Stay
        }
        _ if cancel => After::Close,
        Overlay::Command(line) => command_key(state, line, key),
        Overlay::Filter(line) => filter_key(state, line, key),
        Overlay::Palette(palette) => match key.code {
            KeyCode::Enter => match palette.current() {
                Some(item) => After::Do(Deed::Goal(item.goal.clone())),
                None => After::Stay,
            },
            KeyCode::Down | KeyCode::Tab => moved(|| palette.move_by(1)),
            KeyCode::Up | KeyCode::BackTab => moved(|| palette.move_by(-1)),
            KeyCode::PageDown => moved(|| palette.move_by(10)),
            KeyCode::PageUp => moved(|| palette.move_by(-10)),
            KeyCode::Char('n') if ctrl(key) => moved(|| palette.move_by(1)),
            KeyCode::Char('p') if ctrl(key) => moved(|| palette.move_by(-1)),
            _ => {
                if palette.input.key(key) {
                    palette.find();
                }
                After::Stay
            }
        },
        Overlay::Menu(menu) => {
            let last = menu.items.len().saturating_sub(1);
            let by_key = menu.items.iter().position(|i| !i.key.is_empty() && i.key == pressed(key));
            match (by_key, key.code) {
                (Some(at), _) => {
                    menu.cursor = at;
                    choose(state, menu)
                }
                (None, KeyCode::Enter | KeyCode::Char(' ')) => choose(state, menu),
                (None, KeyCode::Down | KeyCode::Char('j') | KeyCode::Tab) => {
                    moved(|| menu.cursor = (menu.cursor + 1).min(last))
                }
                (None, KeyCode::Up | KeyCode::Char('k') | KeyCode::BackTab) => {
                    moved(|| menu.cursor = menu.cursor.saturating_sub(1))
                }
                (None, KeyCode::Home | KeyCode::Char('g')) => moved(|| menu.cursor = 0),
                (None, KeyCode::End | KeyCode::Char('G')) => moved(|| menu.cursor = last),
                (None, KeyCode::Char('q')) => After::Close,
                _ => After::Stay,
            }
        }
        Overlay::Confirm(confirm) => confirm_key(confirm, key),
        Overlay::Ask(ask) => match key.code {
            KeyCode::Enter if !ask.input.text().trim().is_empty() => {
                After::Do(Deed::Answer(ask.purpose.clone(), ask.input.text().trim().to_owned()))
            }
            _ => {
                ask.input.key(key);
                After::Stay
            }
        },
        Overlay::Help(help) => {
            if help.searching {
                match key.code {
                    KeyCode::Enter => help.searching = false,
                    _ => {
                        help.search.key(key);
                        help.scroll.to(0);
                    }
                }
                After::Stay
            } else {
                let page = isize::try_from(help.scroll.height()).unwrap_or(1);
                match state.keymap.action(key) {
                    Some(Action::Help | Action::Close | Action::Back) => After::Close,
                    Some(Action::Filter) => moved(|| help.searching = true),
                    Some(Action::Down) => moved(|| help.scroll.by(1)),
                    Some(Action::Up) => moved(|| help.scroll.by(-1)),
                    Some(Action::PageDown) => moved(|| help.scroll.by(page)),
                    Some(Action::PageUp) => moved(|| help.scroll.by(-page)),
                    Some(Action::HalfDown) => moved(|| help.scroll.by(page / 2)),
                    Some(Action::HalfUp) => moved(|| help.scroll.by(-page / 2)),
                    Some(Action::Top) => moved(|| help.scroll.to(0)),
                    Some(Action::Bottom) => moved(|| help.scroll.by(isize::MAX / 2)),
                    _ => After::Stay,
                }
            }
        }
    };
    match after {
        After::Stay => {
            state.overlays.push(top);
            Vec::new()
        }
        After::Close => Vec::new(),
        After::Do(Deed::Filter(text)) => {
            let error = apply_filter(state, &text);
            if let Overlay::Filter(line) = &mut top {
                line.error = error;
            }
            state.overlays.push(top);
            Vec::new()
        }
        After::Do(deed) => act(state, deed),
    }
}

fn moved(step: impl FnOnce()) -> After {
    step();
    After::Stay
}

fn ctrl(key: KeyEvent) -> bool {
    key.modifiers.contains(KeyModifiers::CONTROL)
}

fn pressed(key: KeyEvent) -> String {
    super::super::keymap::Chord::of(key).to_string()
}

fn act(state: &mut State, deed: Deed) -> Vec<Effect> {
    match deed {
        Deed::Command(line) => {
            state.commands.push(&line);
            let remember = Effect::Remember { file: "commands", lines: state.commands.entries().to_vec() };
            let mut effects = match command::parse(&line) {
                Ok(command) => go::command(state, command),
                Err(_) => Vec::new(),
            };
            effects.push(remember);
            effects
        }
        Deed::Chosen(Chosen::Action(action)) => actions::act(state, action),
        Deed::Chosen(Chosen::Sort(column)) => {
            if let Some(feed) = state.list_mut() {
                feed.table.sort_by(column);
            }
            Vec::new()
        }
        Deed::Chosen(Chosen::Create(kind)) => actions::create(state, Some(kind)),
        Deed::Goal(Goal::Action(action)) => actions::act(state, action),
        Deed::Goal(Goal::Command(line)) => match command::parse(&line) {
            Ok(command) => go::command(state, command),
            Err(error) => {
                state.hint(error);
                Vec::new()
            }
        },
        Deed::Goal(Goal::Object(object)) => {
            go::open(state, object);
            Vec::new()
        }
        Deed::Then(Then::Run(jobs)) => {
            if let Some(feed) = state.list_mut() {
                feed.table.clear_marks();
            }
            jobs.into_iter().map(|(title, object, job)| overlay::run(state, title, object, job)).collect()
        }
        Deed::Answer(Purpose::ApplyFile, path) => vec![go::apply(state, path)],
        Deed::Answer(Purpose::Name { kind, namespace }, name) => edits::named(state, kind, &namespace, name),
        Deed::Answer(Purpose::Upload { object, url }, path) => {
            vec![upload(state, object, url, path)]
        }
        Deed::Answer(Purpose::Login { machine }, login) => super::consoles::log_in(state, &machine, login),
        Deed::Answer(Purpose::Ports { machine }, ports) => super::ask::forward(state, machine, &ports),
        Deed::KeepFilter(text) => {
            apply_filter(state, &text);
            state.filters.push(&text);
            vec![Effect::Remember { file: "filters", lines: state.filters.entries().to_vec() }]
        }
        Deed::DropFilter(before) => {
            apply_filter(state, &before);
            Vec::new()
        }
        Deed::Filter(_) => Vec::new(),
    }
}

fn upload(state: &mut State, object: ObjectRef, url: String, path: String) -> Effect {
    let title = format!("Upload {} to {}", crate::types::text::printable(&path), object.path());
    overlay::run(state, title, Some(object.clone()), Job::Upload { object, url, path })
}

/// Filters the list or searches in the text; the error says why the line is not in force.
fn apply_filter(state: &mut State, text: &str) -> Option<String> {
    match state.view_mut() {
        View::Text(document) => document.set_search(text.trim()).err(),
        _ => go::set_filter(state, text),
    }
}

fn command_key(state: &mut State, line: &mut overlay::CommandLine, key: KeyEvent) -> After {
    line.error = None;
    let offers = completions(line.input.text(), state);
    match key.code {
        KeyCode::Enter => {
            // A chosen completion is what Enter runs; otherwise the line as typed.
            let text = match line.chosen.and_then(|i| offers.get(i)) {
                Some(chosen) => chosen.line.clone(),
                None => line.input.text().trim().to_owned(),
            };
            if text.is_empty() {
                return After::Close;
            }
            match command::parse(&text) {
                Ok(_) => After::Do(Deed::Command(text)),
                // The only way to finish the line is meant: `:virtuald` is `:virtualdisk`.
                Err(_) if offers.len() == 1 => After::Do(Deed::Command(offers[0].line.clone())),
                Err(error) => {
                    line.error = Some(error);
                    After::Stay
                }
            }
        }
        KeyCode::Tab | KeyCode::Down if !offers.is_empty() && (key.code == KeyCode::Tab || line.chosen.is_some()) => {
            if let (KeyCode::Tab, [only]) = (key.code, offers.as_slice()) {
                let space = if command_takes_more(&only.line) { " " } else { "" };
                line.input.set(format!("{}{space}", only.line));
                line.chosen = None;
            } else {
                line.chosen = Some(line.chosen.map_or(0, |i| (i + 1) % offers.len()));
            }
            After::Stay
        }
        KeyCode::BackTab if !offers.is_empty() => {
            line.chosen = Some(line.chosen.map_or(offers.len() - 1, |i| (i + offers.len() - 1) % offers.len()));
            After::Stay
        }
        KeyCode::Right if line.input.at_end() && !offers.is_empty() => {
            line.input.set(offers[line.chosen.unwrap_or(0)].line.clone());
            line.chosen = None;
            After::Stay
        }
        KeyCode::Up => {
            if let Some(before) = state.commands.back(line.input.text()) {
                line.input.set(before.to_owned());
            }
            line.chosen = None;
            After::Stay
        }
        KeyCode::Down => {
            if let Some(after) = state.commands.forward() {
                line.input.set(after.to_owned());
            }
            After::Stay
        }
        KeyCode::Backspace if line.input.is_empty() => After::Close,
        KeyCode::Char(' ') if line.chosen.is_some() => {
            if let Some(chosen) = line.chosen.take().and_then(|i| offers.get(i)) {
                line.input.set(format!("{} ", chosen.line));
            }
            After::Stay
        }
        _ => {
            if line.input.key(key) {
                line.chosen = None;
            }
            After::Stay
        }
    }
}

fn command_takes_more(line: &str) -> bool {
    !line.contains(' ') && matches!(line, "ns" | "ctx" | "theme" | "apply" | "create" | "console")
}

fn filter_key(state: &mut State, line: &mut overlay::FilterLine, key: KeyEvent) -> After {
    match key.code {
        KeyCode::Enter => After::Do(Deed::KeepFilter(line.input.text().to_owned())),
        KeyCode::Up => {
            if let Some(before) = state.filters.back(line.input.text()) {
                line.input.set(before.to_owned());
            }
            After::Do(Deed::Filter(line.input.text().to_owned()))
        }
        KeyCode::Down => {
            if let Some(after) = state.filters.forward() {
                line.input.set(after.to_owned());
            }
            After::Do(Deed::Filter(line.input.text().to_owned()))
        }
        KeyCode::Backspace if line.input.is_empty() => After::Do(Deed::DropFilter(String::new())),
        _ if line.input.key(key) => After::Do(Deed::Filter(line.input.text().to_owned())),
        _ => After::Stay,
    }
}

fn choose(state: &mut State, menu: &overlay::Menu) -> After {
    let Some(item) = menu.items.get(menu.cursor) else { return After::Stay };
    match &item.possible {
        Possible::Yes => After::Do(Deed::Chosen(item.chosen.clone())),
        Possible::No(reason) => {
            state.hint(format!("{} is not possible: {reason}", item.label));
            After::Stay
        }
        Possible::Absent => After::Stay,
    }
}

fn confirm_key(confirm: &mut Confirm, key: KeyEvent) -> After {
    match (&mut confirm.surety, key.code) {
        (Surety::Yes, KeyCode::Char('y' | 'Y')) => After::Do(Deed::Then(confirm.then.clone())),
        // Everything else is the default: no. A stray key must not close the question unseen, so only these do.
        (Surety::Yes, KeyCode::Char('n' | 'N' | 'q') | KeyCode::Enter) => After::Close,
        (Surety::Yes, _) => After::Stay,
        (Surety::Name { name, input }, KeyCode::Enter) => {
            if input.text().trim() == name {
                After::Do(Deed::Then(confirm.then.clone()))
            } else {
                After::Stay
            }
        }
        (Surety::Name { input, .. }, _) => {
            input.key(key);
            After::Stay
        }
    }
}

/// Pasted text for the topmost box.
pub fn paste(state: &mut State, text: &str) {
    let Some(mut top) = state.overlays.pop() else { return };
    match &mut top {
        Overlay::Command(line) => line.input.insert(text),
        Overlay::Filter(line) => {
            line.input.insert(text);
            let text = line.input.text().to_owned();
            line.error = apply_filter(state, &text);
        }
        Overlay::Palette(palette) => {
            palette.input.insert(text);
            palette.find();
        }
        Overlay::Ask(Ask { input, .. }) => input.insert(text.trim_end_matches('\n')),
        Overlay::Help(help) if help.searching => help.search.insert(text),
        // A name that is to be typed is to be typed: pasting would make the question worthless.
        Overlay::Confirm(_) | Overlay::Menu(_) | Overlay::Help(_) => {}
    }
    state.overlays.push(top);
}
