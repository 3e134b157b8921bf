//! `(state, event) -> effects`. Pure: no clock but the given one, no I/O.

mod actions;
mod ask;
mod consoles;
mod edits;
mod go;
mod keys;
mod news;
mod overlays;

use super::message::{Effect, Event, Signal};
use super::state::{Front, State};
use super::table::Millis;

/// Takes one event in.
pub fn update(state: &mut State, event: Event, now: Millis) -> Vec<Effect> {
    state.now = now;
    if state.notice.as_ref().is_some_and(|notice| notice.until <= now) {
        state.notice = None;
    }
    let mut effects = match event {
        Event::Key(key) => keys::key(state, key),
        Event::Paste(text) => keys::paste(state, &text),
        Event::Mouse(event) => consoles::mouse(state, event),
        Event::Focus(gained) => consoles::focus(state, gained),
        Event::Resize(columns, rows) => {
            state.size = (columns, rows);
            Vec::new()
        }
        Event::Wake | Event::Resumed => Vec::new(),
        Event::Signal(Signal::Terminate | Signal::Hangup) => {
            state.leaving = true;
            state.signalled = true;
            vec![Effect::Quit]
        }
        Event::Connected { generation, result } => news::connected(state, generation, result),
        Event::Contexts(result) => {
            state.contexts = Some(result);
            Vec::new()
        }
        Event::Table { feed, event } => news::table(state, feed, event),
        Event::Task { id, news } => news::task(state, id, news),
        Event::Theme { theme, warnings } => news::theme(state, *theme, warnings),
        Event::Console { target, news } => consoles::news(state, &target, news),
        Event::EditorClosed { edit, result } => edits::editor_closed(state, edit, result),
        Event::Prepared(result) => edits::prepared(state, result),
        Event::Saved { edit, result, server } => edits::saved(state, edit, result, server),
    };
    effects.extend(state.reconcile_feeds());
    effects
}

/// Brings up to date what a frame shows: order and filter of the list, text made from objects, the consoles' size.
/// Once for each frame, not for each event: a thousand changes cost one sort.
pub fn prepare(state: &mut State) -> Vec<Effect> {
    let resized = state.consoles.resize(super::view::console_area(state));
    let effects = consoles::answer(state, resized);
    if let Some(feed) = state.list_mut() {
        feed.table.settle();
    }
    if state.front == Front::Consoles && state.consoles.is_empty() {
        state.front = Front::Views;
    }
    let outdated = match state.view() {
        super::screens::View::Text(document) if document.outdated(state) => {
            state.object(&document.object).map(|row| row.object.clone())
        }
        _ => None,
    };
    if let (Some(object), super::screens::View::Text(document)) = (outdated, state.view_mut()) {
        document.renew(&object);
    }
    effects
}
