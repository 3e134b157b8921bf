//! What comes back from effects.

use super::super::message::{Effect, Failure, FeedId, SessionInfo, TaskId, TaskNews};
use super::super::state::{FeedLink, Link, State, TaskState, machine_kind};
use super::super::theme::Theme;
use crate::client::{Engine, TableEvent};

/// An attempt to connect ended.
pub fn connected(state: &mut State, generation: u64, result: Result<SessionInfo, Failure>) -> Vec<Effect> {
    if generation != state.generation {
        return Vec::new();
    }
    match result {
        Ok(info) => {
            if state.config.choice.namespace.is_none() {
                state.last_namespace.clone_from(&info.default_namespace);
                if state.namespace.is_some() {
                    state.namespace = Some(info.default_namespace.clone());
                }
            }
            // The next attempt goes to where we are, not to whatever the environment says by then.
            match &info.engine {
                Engine::Cluster { context } => {
                    state.config.choice.context = Some(context.clone());
                    state.config.choice.host = None;
                }
                Engine::Local { .. } if state.config.choice.host.is_none() => {
                    state.config.choice.context = None;
                    state.config.choice.host = Some("local".into());
                }
                Engine::Local { .. } => {}
            }
            state.link = Link::Connected(info);
        }
        Err(failure) => state.link = Link::Failed(failure),
    }
    Vec::new()
}

/// News of a watch.
pub fn table(state: &mut State, id: FeedId, event: TableEvent) -> Vec<Effect> {
    let now = state.now;
    let Some(feed) = state.feeds.values_mut().find(|f| f.id == id) else { return Vec::new() };
    if !state.consoles.is_empty() && feed.kind == machine_kind() {
        match &event {
            TableEvent::Reset { rows, .. } => super::consoles::machines(&mut state.consoles, rows),
            TableEvent::Upsert(row) => super::consoles::machines(&mut state.consoles, [row]),
            _ => {}
        }
    }
    match event {
        TableEvent::Reset { columns, rows } => {
            feed.table.reset(columns, rows);
            feed.link = FeedLink::Live;
        }
        TableEvent::Upsert(row) => {
            feed.table.upsert(row, now);
            feed.link = FeedLink::Live;
        }
        TableEvent::Remove { namespace, name, uid } => {
            feed.table.remove(&namespace, &name, &uid);
            feed.link = FeedLink::Live;
        }
        TableEvent::Stale { since, error } => {
            feed.link = FeedLink::Stale { since: since.as_millisecond(), error };
        }
        TableEvent::Live => feed.link = FeedLink::Live,
    }
    Vec::new()
}

/// News of a task.
pub fn task(state: &mut State, id: TaskId, news: TaskNews) -> Vec<Effect> {
    let now = state.now;
    let Some(task) = state.tasks.iter_mut().find(|t| t.id == id) else { return Vec::new() };
    if !matches!(task.state, TaskState::Running { .. }) {
        return Vec::new();
    }
    match news {
        TaskNews::Progress { note, fraction } => task.state = TaskState::Running { note, fraction },
        TaskNews::Done(text) => {
            task.state = TaskState::Done { at: now, text: text.clone() };
            state.say(text);
        }
        TaskNews::Failed(failure) => {
            let (title, object) = (task.title.clone(), task.object.clone());
            task.state = TaskState::Failed { at: now, failure: failure.clone() };
            state.error(title, failure, object);
        }
    }
    Vec::new()
}

/// A theme was loaded.
pub fn theme(state: &mut State, theme: Theme, warnings: Vec<String>) -> Vec<Effect> {
    state.theme = theme;
    for warning in warnings {
        state.error("Theme".into(), Failure::new(&warning), None);
    }
    Vec::new()
}
