//! Runs effects as tasks. Results come back only as events; nothing here touches the state.

mod child;
mod consoles;
mod forms;
mod jobs;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use futures::StreamExt;
use futures::future::BoxFuture;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use self::consoles::Attempt;
use super::console::Target;
use super::message::{Effect, Event, Failure, FeedId, Kind, ObjectRef, SessionInfo, TaskId, TaskNews};
use super::theme::ThemeSource;
use crate::client::{Choice, ConnectError, ContextInfo, Session};
use crate::types::text::printable_block;

/// Connects to what a choice names. Only `run` knows how to start a daemon, so it hands this in.
pub type Connector = Arc<dyn Fn(Choice) -> BoxFuture<'static, Result<Session, ConnectError>> + Send + Sync>;

/// Lists the kubeconfig's contexts.
pub type ContextLister = Arc<dyn Fn() -> Result<Vec<ContextInfo>, ConnectError> + Send + Sync>;

/// What arrives at the loop: events, and sessions, which never enter the state.
#[derive(Debug)]
pub enum News {
    /// For `update`.
    Event(Event),
    /// An attempt to connect ended.
    Session {
        /// Which attempt.
        generation: u64,
        /// The session itself.
        result: Result<Session, Failure>,
    },
}

/// What only the loop can do, because it owns the terminal.
#[derive(Debug)]
pub enum Local {
    /// Clipboard.
    Copy(String),
    /// An outside editor.
    Editor {
        /// Which edit.
        edit: super::message::EditId,
        /// What to edit.
        text: String,
        /// For the file name.
        name: String,
    },
    /// Paint everything.
    Redraw,
    /// Stop until continued.
    Suspend,
    /// Leave.
    Quit,
}

/// Where tasks send their results. Bounded: who floods waits, the loop does not.
pub type Sender = mpsc::Sender<News>;

/// Runs effects.
pub struct Runner {
    news: Sender,
    connector: Connector,
    contexts: ContextLister,
    themes: ThemeSource,
    cache: PathBuf,
    session: Option<Session>,
    generation: u64,
    connecting: Option<AbortHandle>,
    feeds: HashMap<FeedId, AbortHandle>,
    tasks: HashMap<TaskId, AbortHandle>,
    consoles: HashMap<Target, consoles::Handle>,
    kubeconfig: Option<PathBuf>,
}

impl Runner {
    /// A runner without a session.
    pub fn new(
        news: Sender,
        connector: Connector,
        contexts: ContextLister,
        themes: ThemeSource,
        cache: PathBuf,
        kubeconfig: Option<PathBuf>,
    ) -> Self {
        Self {
            news,
            connector,
            contexts,
            themes,
            cache,
            session: None,
            generation: 0,
            connecting: None,
            feeds: HashMap::new(),
            tasks: HashMap::new(),
            consoles: HashMap::new(),
            kubeconfig,
        }
    }

    /// Keeps the session of the newest attempt and makes the event of it.
    pub fn connected(&mut self, generation: u64, result: Result<Session, Failure>) -> Event {
        let info = result.map(|session| {
            let info = SessionInfo {
                engine: session.engine.clone(),
                reason: session.reason.clone(),
                default_namespace: session.default_namespace.clone(),
            };
            if generation == self.generation {
                self.session = Some(session);
            }
            info
        });
        Event::Connected { generation, result: info }
    }

    /// Starts an effect; what only the loop can do is handed back.
    pub fn run(&mut self, effect: Effect) -> Option<Local> {
        match effect {
            Effect::Connect { generation, choice } => self.connect(generation, choice),
            Effect::ListContexts => {
                let contexts = self.contexts.clone();
                self.blocking(move || Event::Contexts(contexts().map_err(|e| Failure::new(&e.to_string()))));
            }
            Effect::Watch { feed, kind, namespace } => self.watch(feed, kind, namespace),
            Effect::Unwatch(feed) => {
                if let Some(task) = self.feeds.remove(&feed) {
                    task.abort();
                }
            }
            Effect::Run { id, job } => {
                let (news, kubeconfig) = (self.news.clone(), self.kubeconfig.clone());
                match self.session.clone() {
                    Some(session) => {
                        let task = tokio::spawn(async move {
                            let progress = jobs::Progress { id, news: news.clone(), kubeconfig };
                            let result = jobs::run(&session, job, &progress).await;
                            let report = match result {
                                Ok(text) => TaskNews::Done(text),
                                Err(failure) => TaskNews::Failed(failure),
                            };
                            let _ = news.send(News::Event(Event::Task { id, news: report })).await;
                        });
                        self.tasks.insert(id, task.abort_handle());
                        self.tasks.retain(|_, task| !task.is_finished());
                    }
                    None => self.send(Event::Task { id, news: TaskNews::Failed(no_session()) }),
                }
            }
            Effect::Cancel(id) => {
                if let Some(task) = self.tasks.remove(&id) {
                    task.abort();
                    self.send(Event::Task { id, news: TaskNews::Failed(Failure::new("cancelled")) });
                }
            }
            Effect::LoadTheme(name) => {
                let themes = self.themes.clone();
                self.blocking(move || {
                    let (theme, warnings) = themes.load(&name);
                    Event::Theme {
                        theme: Box::new(theme),
                        warnings: warnings.iter().map(ToString::to_string).collect(),
                    }
                });
            }
            Effect::ConsoleConnect { target, history, attempt, size, force } => {
                self.console(target, Attempt { history, number: attempt, force }, size);
            }
            Effect::ConsoleResize { target, size } => {
                if let Some(handle) = self.consoles.get(&target) {
                    handle.resize(size);
                }
            }
            Effect::ConsoleSend { target, bytes } => self.console_send(target, bytes),
            Effect::ConsoleDisconnect(target) => {
                if let Some(handle) = self.consoles.remove(&target) {
                    handle.close();
                }
            }
            Effect::Save { edit, object, patch, resource_version } => {
                let (news, session) = (self.news.clone(), self.session.clone());
                tokio::spawn(async move {
                    let event = save(session, edit, object, patch, resource_version).await;
                    let _ = news.send(News::Event(event)).await;
                });
            }
            Effect::Prepare(wish) => {
                let (news, session) = (self.news.clone(), self.session.clone());
                tokio::spawn(async move {
                    let result = match session {
                        Some(session) => forms::prepare(&session, wish).await,
                        None => Err(no_session()),
                    };
                    let _ = news.send(News::Event(Event::Prepared(result))).await;
                });
            }
            Effect::Create { edit, objects } => {
                let (news, session) = (self.news.clone(), self.session.clone());
                tokio::spawn(async move {
                    let result = forms::create(session, objects).await.map(Box::new);
                    let _ = news.send(News::Event(Event::Saved { edit, result, server: None })).await;
                });
            }
            Effect::Remember { file, lines } => {
                let path = self.cache.join(file);
                // History that cannot be kept is no reason to disturb anybody.
                tokio::task::spawn_blocking(move || {
                    if let Some(dir) = path.parent() {
                        let _ = std::fs::create_dir_all(dir);
                    }
                    let _ = std::fs::write(path, lines.join("\n"));
                });
            }
            Effect::Copy(text) => return Some(Local::Copy(text)),
            Effect::OpenEditor { edit, text, name } => return Some(Local::Editor { edit, text, name }),
            Effect::Redraw => return Some(Local::Redraw),
            Effect::Suspend => return Some(Local::Suspend),
            Effect::Quit => return Some(Local::Quit),
        }
        None
    }

    /// Sends an event without waiting: used where the loop itself is the caller.
    fn send(&self, event: Event) {
        let news = self.news.clone();
        tokio::spawn(async move {
            let _ = news.send(News::Event(event)).await;
        });
    }

    fn blocking(&self, work: impl FnOnce() -> Event + Send + 'static) {
        let news = self.news.clone();
        tokio::spawn(async move {
            if let Ok(event) = tokio::task::spawn_blocking(work).await {
                let _ = news.send(News::Event(event)).await;
            }
        });
    }

    fn connect(&mut self, generation: u64, choice: Choice) {
        if let Some(before) = self.connecting.take() {
            before.abort();
        }
        for (_, task) in self.feeds.drain() {
            task.abort();
        }
        self.session = None;
        self.generation = generation;
        let (news, connecting) = (self.news.clone(), (self.connector)(choice));
        let task = tokio::spawn(async move {
            let result = connecting.await.map_err(|error| {
                let text = printable_block(&error.to_string()).into_owned();
                match text.split_once('\n') {
                    Some((cause, hint)) => Failure { text: cause.to_owned(), hint: Some(hint.to_owned()) },
                    None => Failure { text, hint: None },
                }
            });
            let _ = news.send(News::Session { generation, result }).await;
        });
        self.connecting = Some(task.abort_handle());
    }

    fn watch(&mut self, feed: FeedId, kind: Kind, namespace: Option<String>) {
        let Some(session) = &self.session else { return };
        let mut stream = Box::pin(session.table_watch(kind.0, namespace.as_deref()));
        let news = self.news.clone();
        let task = tokio::spawn(async move {
            while let Some(event) = stream.next().await {
                if news.send(News::Event(Event::Table { feed, event })).await.is_err() {
                    break;
                }
            }
        });
        self.feeds.insert(feed, task.abort_handle());
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        let handles = self.feeds.values().chain(self.tasks.values()).chain(self.connecting.iter());
        handles.for_each(AbortHandle::abort);
    }
}

fn no_session() -> Failure {
    Failure { text: "there is no connection".into(), hint: Some("connect first, for example with :ctx".into()) }
}

/// A conditional merge patch. On a conflict the server's present object comes along, so that nothing typed is lost.
async fn save(
    session: Option<Session>,
    edit: super::message::EditId,
    object: ObjectRef,
    patch: serde_json::Value,
    resource_version: String,
) -> Event {
    use crate::client::{ClientError, ErrorKind};
    let Some(session) = session else {
        let error = ClientError::new(ErrorKind::Unreachable, "there is no connection");
        return Event::Saved { edit, result: Err(error), server: None };
    };
    let (kind, scope) = (object.kind.0, object.scope());
    match session.merge_patch(kind, scope, &object.name, &patch, Some(&resource_version)).await {
        Ok(saved) => Event::Saved { edit, result: Ok(Box::new(saved)), server: None },
        Err(error) => {
            let server = match error.is_conflict() {
                true => session.get(kind, scope, &object.name).await.ok().map(Box::new),
                false => None,
            };
            Event::Saved { edit, result: Err(error), server }
        }
    }
}
