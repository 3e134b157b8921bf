//! Everything the viewer knows. Changed by `update` only; read by `view`.

use std::cell::Cell;
use std::collections::BTreeMap;

use serde_json::Value;

use super::action::{Action, Possible, possible};
use super::console::ConsolePane;
use super::input::History;
use super::keymap::Keymap;
use super::message::{Effect, Failure, FeedId, Kind, ObjectRef, SessionInfo, TaskId};
use super::overlay::Overlay;
use super::screens::View;
use super::table::{Millis, Row, Table};
use super::theme::Theme;
use crate::client::{Choice, ContextInfo, Engine};
use crate::term::Chord;
use crate::types::kinds;

/// The connection as the header shows it.
#[derive(Debug, Clone)]
pub enum Link {
    /// Trying; `what` names the target.
    Connecting {
        /// Target in words.
        what: String,
        /// Since when.
        since: Millis,
    },
    /// There is a session.
    Connected(SessionInfo),
    /// No session: cause and hint.
    Failed(Failure),
}

/// What a live table's connection is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FeedLink {
    /// Nothing has come yet.
    Loading {
        /// Since when.
        since: Millis,
    },
    /// What is shown is the present state.
    Live,
    /// What is shown is from `since`.
    Stale {
        /// When the connection was lost.
        since: Millis,
        /// Why.
        error: String,
    },
}

/// Which objects a live table holds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct FeedKey {
    /// API group.
    pub group: &'static str,
    /// Plural name.
    pub plural: &'static str,
    /// `None` = everywhere.
    pub namespace: Option<String>,
}

impl FeedKey {
    /// The key of a kind in a namespace; cluster-wide kinds have none.
    pub fn new(kind: Kind, namespace: Option<&str>) -> Self {
        let namespace = namespace.filter(|_| kind.0.namespaced()).map(ToOwned::to_owned);
        Self { group: kind.0.group, plural: kind.0.plural, namespace }
    }
}

/// A live table.
#[derive(Debug)]
pub struct Feed {
    /// Names its watch.
    pub id: FeedId,
    /// Its kind.
    pub kind: Kind,
    /// The rows.
    pub table: Table,
    /// How fresh they are.
    pub link: FeedLink,
    /// The filter line as typed.
    pub filter_text: String,
    /// Show the columns of lower rank.
    pub wide: bool,
}

/// How a list looked when it was left.
#[derive(Debug, Clone)]
pub struct Memory {
    look: super::table::Look,
    filter_text: String,
    wide: bool,
}

/// What became of a task.
#[derive(Debug, Clone, PartialEq)]
pub enum TaskState {
    /// It goes on.
    Running {
        /// In a few words.
        note: String,
        /// 0.0 to 1.0 where it is known.
        fraction: Option<f64>,
    },
    /// Done.
    Done {
        /// When.
        at: Millis,
        /// One sentence.
        text: String,
    },
    /// Failed or cancelled.
    Failed {
        /// When.
        at: Millis,
        /// Why.
        failure: Failure,
    },
}

/// Work in the background.
#[derive(Debug, Clone)]
pub struct Task {
    /// Names it.
    pub id: TaskId,
    /// What it does, for example `Restart default/web`.
    pub title: String,
    /// The object it is about, to jump to.
    pub object: Option<ObjectRef>,
    /// When it began.
    pub started: Millis,
    /// How it is going.
    pub state: TaskState,
    /// Whether cancelling ends it.
    pub cancellable: bool,
}

/// An error that was not dismissed.
#[derive(Debug, Clone)]
pub struct ErrorEntry {
    /// When.
    pub at: Millis,
    /// What failed, on which object.
    pub title: String,
    /// Why, and what to try.
    pub failure: Failure,
    /// The object to jump to.
    pub object: Option<ObjectRef>,
}

/// A short message that goes away by itself.
#[derive(Debug, Clone)]
pub struct Notice {
    /// One line.
    pub text: String,
    /// Good news or a hint.
    pub good: bool,
    /// When it goes away.
    pub until: Millis,
}

/// How far a scrolling view is scrolled. Drawing fills in what it measured.
#[derive(Debug, Clone, Default)]
pub struct Scroll {
    top: Cell<usize>,
    left: Cell<usize>,
    height: Cell<usize>,
    total: Cell<usize>,
}

impl Scroll {
    /// Tells how much there is and how much of it fits; answers the first line to show.
    pub fn measure(&self, total: usize, height: usize) -> usize {
        self.total.set(total);
        self.height.set(height);
        self.top.set(self.top.get().min(total.saturating_sub(height)));
        self.top.get()
    }

    /// Columns hidden on the left.
    pub fn left(&self) -> usize {
        self.left.get()
    }

    /// Lines that fit, as last drawn.
    pub fn height(&self) -> usize {
        self.height.get().max(1)
    }

    /// Moves by lines.
    pub fn by(&self, lines: isize) {
        let last = self.total.get().saturating_sub(self.height.get());
        self.top.set(self.top.get().saturating_add_signed(lines).min(last));
    }

    /// Moves by columns.
    pub fn sideways(&self, columns: isize) {
        self.left.set(self.left.get().saturating_add_signed(columns));
    }

    /// Back to the first column.
    pub fn leftmost(&self) {
        self.left.set(0);
    }

    /// Moves to a line.
    pub fn to(&self, line: usize) {
        self.top.set(line);
    }

    /// Brings a line into sight, moving as little as possible.
    pub fn reveal(&self, line: usize) {
        let (top, height) = (self.top.get(), self.height());
        if line < top {
            self.top.set(line);
        } else if line >= top + height {
            self.top.set(line + 1 - height);
        }
    }
}

/// Settings that the viewer reads while it runs.
#[derive(Debug, Clone)]
pub struct Config {
    /// Chord that leaves a console.
    pub console_leave: Chord,
    /// Lines of console history.
    pub scrollback: usize,
    /// Where the user's keymap and themes are looked for.
    pub config_dir: String,
    /// What to connect to; `:ctx` starts from it.
    pub choice: Choice,
}

/// What is in front.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Front {
    /// The stack of views.
    Views,
    /// The consoles.
    Consoles,
}

/// All of it.
pub struct State {
    /// The time of the event in hand.
    pub now: Millis,
    /// Terminal size.
    pub size: (u16, u16),
    /// The theme.
    pub theme: Theme,
    /// Names for `:theme`.
    pub theme_names: Vec<String>,
    /// The keys.
    pub keymap: Keymap,
    /// Settings.
    pub config: Config,
    /// The connection.
    pub link: Link,
    /// Counts attempts to connect.
    pub generation: u64,
    /// Live tables.
    pub feeds: BTreeMap<FeedKey, Feed>,
    /// How lists looked that are not live now: filter, sort, columns, cursor.
    pub memories: BTreeMap<FeedKey, Memory>,
    /// The namespace in force; `None` = all.
    pub namespace: Option<String>,
    /// The namespace to return to from "all".
    pub last_namespace: String,
    /// The views, last on top; never empty.
    pub views: Vec<View>,
    /// The stack before, for "last view".
    pub previous: Option<Vec<View>>,
    /// Boxes over the view, last on top.
    pub overlays: Vec<Overlay>,
    /// Open consoles.
    pub consoles: ConsolePane,
    /// What is in front.
    pub front: Front,
    /// Tasks, oldest first.
    pub tasks: Vec<Task>,
    /// Errors, oldest first.
    pub errors: Vec<ErrorEntry>,
    /// A short message.
    pub notice: Option<Notice>,
    /// Contexts as last listed.
    pub contexts: Option<Result<Vec<ContextInfo>, Failure>>,
    /// Lines of `:`.
    pub commands: History,
    /// Lines of `/`.
    pub filters: History,
    /// Users that were logged in as by SSH, the last one last.
    pub logins: History,
    /// Details beside the list on wide terminals.
    pub preview: bool,
    /// A number typed before a motion.
    pub count: Option<usize>,
    /// When "quit" was pressed once.
    pub quit_armed: Option<Millis>,
    /// Set when the program is to end.
    pub leaving: bool,
    /// A signal said so.
    pub signalled: bool,
    next_id: u64,
}

/// What a new state starts from.
#[derive(Debug)]
pub struct Start {
    /// The theme.
    pub theme: Theme,
    /// Names for `:theme`.
    pub theme_names: Vec<String>,
    /// The keys.
    pub keymap: Keymap,
    /// Settings.
    pub config: Config,
    /// Terminal size.
    pub size: (u16, u16),
    /// The time.
    pub now: Millis,
    /// Lines of `:`.
    pub commands: Vec<String>,
    /// Lines of `/`.
    pub filters: Vec<String>,
    /// Users of earlier SSH logins.
    pub logins: Vec<String>,
    /// Things to tell at once: mistakes in settings, keymap, theme.
    pub warnings: Vec<String>,
}

/// How long a notice stays.
const NOTICE_MS: Millis = 5_000;

impl State {
    /// The first state: a list of machines, connecting. The effects start the connection.
    pub fn new(start: Start) -> (Self, Vec<Effect>) {
        let namespace = start.config.choice.namespace.clone();
        let what = target(&start.config.choice);
        let consoles = ConsolePane::new(start.config.console_leave.clone(), start.config.scrollback);
        let mut state = Self {
            now: start.now,
            size: start.size,
            theme: start.theme,
            theme_names: start.theme_names,
            keymap: start.keymap,
            config: start.config,
            link: Link::Connecting { what, since: start.now },
            generation: 1,
            feeds: BTreeMap::new(),
            memories: BTreeMap::new(),
            last_namespace: namespace.clone().unwrap_or_else(|| "default".into()),
            namespace: Some(namespace.unwrap_or_else(|| "default".into())),
            views: vec![View::list(machine_kind())],
            previous: None,
            overlays: Vec::new(),
            consoles,
            front: Front::Views,
            tasks: Vec::new(),
            errors: Vec::new(),
            notice: None,
            contexts: None,
            commands: History::new(start.commands),
            filters: History::new(start.filters),
            logins: History::new(start.logins),
            preview: true,
            count: None,
            quit_armed: None,
            leaving: false,
            signalled: false,
            next_id: 0,
        };
        for warning in start.warnings {
            state.error("Configuration".into(), Failure::new(&warning), None);
        }
        let connect = Effect::Connect { generation: state.generation, choice: state.config.choice.clone() };
        (state, vec![connect])
    }

    /// A number that was not given out before.
    pub fn fresh_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// The view on top.
    pub fn view(&self) -> &View {
        // The stack is never empty: it starts with one view, and `close_view` keeps the last.
        &self.views[self.views.len() - 1]
    }

    /// The view on top.
    pub fn view_mut(&mut self) -> &mut View {
        let last = self.views.len() - 1;
        &mut self.views[last]
    }

    /// Whether there is a session.
    pub fn connected(&self) -> bool {
        matches!(self.link, Link::Connected(_))
    }

    /// Whether the engine is a standalone host.
    pub fn standalone(&self) -> bool {
        matches!(&self.link, Link::Connected(info) if matches!(info.engine, Engine::Local { .. }))
    }

    /// The live table behind a list of this kind.
    pub fn feed(&self, kind: Kind, namespace: Option<&str>) -> Option<&Feed> {
        self.feeds.get(&FeedKey::new(kind, namespace))
    }

    /// The live table that holds objects of this kind and namespace: the exact one, or the one of all namespaces.
    pub fn covering(&self, kind: Kind, namespace: &str) -> Option<&Feed> {
        self.feeds.get(&FeedKey::new(kind, Some(namespace))).or_else(|| self.feeds.get(&FeedKey::new(kind, None)))
    }

    /// An object as last seen in any live table.
    pub fn object(&self, object: &ObjectRef) -> Option<&Row> {
        self.covering(object.kind, &object.namespace)?.table.find(&object.namespace, &object.name)
    }

    /// The list on top, if a list is on top.
    pub fn list(&self) -> Option<&Feed> {
        match self.view() {
            View::List(list) => self.feed(list.kind, self.namespace.as_deref()),
            _ => None,
        }
    }

    /// The list on top, if a list is on top.
    pub fn list_mut(&mut self) -> Option<&mut Feed> {
        let key = match self.view() {
            View::List(list) => FeedKey::new(list.kind, self.namespace.as_deref()),
            _ => return None,
        };
        self.feeds.get_mut(&key)
    }

    /// The object that actions are about, with its content.
    pub fn at_hand(&self) -> Option<(ObjectRef, std::sync::Arc<Value>)> {
        match self.view() {
            View::List(list) => {
                let row = self.list()?.table.current()?;
                let object = ObjectRef { kind: list.kind, namespace: row.namespace.clone(), name: row.name.clone() };
                Some((object, row.object.clone()))
            }
            view => {
                let object = view.object()?.clone();
                let row = self.object(&object)?;
                Some((object, row.object.clone()))
            }
        }
    }

    /// Whether an action can be used on what is at hand.
    pub fn possible(&self, action: Action) -> Possible {
        use super::action::Scope;
        match action.row().scope {
            Scope::Global | Scope::Motion => Possible::Yes,
            Scope::Text => match self.view() {
                View::Text(_) => Possible::Yes,
                _ => Possible::Absent,
            },
            Scope::List => match (self.view(), action) {
                (View::Errors(_) | View::Tasks(_), Action::Dismiss | Action::DismissAll) => Possible::Yes,
                (_, Action::Dismiss | Action::DismissAll) => Possible::Absent,
                (View::Text(_), Action::Wide) => Possible::Yes,
                (View::List(_), _) | (_, Action::Create | Action::Apply) => match action {
                    Action::Create | Action::Apply if !self.connected() => {
                        Possible::No("there is no connection".into())
                    }
                    _ => Possible::Yes,
                },
                _ => Possible::Absent,
            },
            Scope::Object | Scope::Machine => match self.at_hand() {
                Some((object, content)) => possible(action, object.kind.0.kind, &content),
                None => Possible::Absent,
            },
        }
    }

    /// Says something good for a few seconds.
    pub fn say(&mut self, text: String) {
        self.notice = Some(Notice { text, good: true, until: self.now + NOTICE_MS });
    }

    /// Gives a hint for a few seconds.
    pub fn hint(&mut self, text: impl Into<String>) {
        self.notice = Some(Notice { text: text.into(), good: false, until: self.now + NOTICE_MS });
    }

    /// Keeps an error until it is dismissed.
    pub fn error(&mut self, title: String, failure: Failure, object: Option<ObjectRef>) {
        const KEEP: usize = 200;
        self.errors.push(ErrorEntry { at: self.now, title, failure, object });
        let surplus = self.errors.len().saturating_sub(KEEP);
        self.errors.drain(..surplus);
    }

    /// Starts and ends watches so that exactly those run that the open views need.
    pub fn reconcile_feeds(&mut self) -> Vec<Effect> {
        let mut needed: BTreeMap<FeedKey, Kind> = BTreeMap::new();
        if self.connected() {
            let stacks = self.views.iter().chain(self.previous.iter().flatten());
            for view in stacks {
                for (kind, namespace) in view.needs(self.namespace.as_deref()) {
                    needed.insert(FeedKey::new(kind, namespace.as_deref()), kind);
                }
            }
            if self.standalone()
                && let Some(node) = kinds::by_resource("", "nodes")
            {
                // The header tells which accelerator the host uses.
                needed.insert(FeedKey::new(Kind(node), None), Kind(node));
            }
            let everywhere: Vec<FeedKey> = needed.keys().filter(|k| k.namespace.is_none()).cloned().collect();
            needed.retain(|key, _| {
                key.namespace.is_none() || !everywhere.iter().any(|e| e.plural == key.plural && e.group == key.group)
            });
        }
        let mut effects = Vec::new();
        let memories = &mut self.memories;
        self.feeds.retain(|key, feed| {
            let keep = needed.contains_key(key);
            if !keep {
                effects.push(Effect::Unwatch(feed.id));
                let (filter_text, wide) = (feed.filter_text.clone(), feed.wide);
                memories.insert(key.clone(), Memory { look: feed.table.look(), filter_text, wide });
            }
            keep
        });
        for (key, kind) in needed {
            if self.feeds.contains_key(&key) {
                continue;
            }
            let id = FeedId(self.fresh_id());
            effects.push(Effect::Watch { feed: id, kind, namespace: key.namespace.clone() });
            let (table, filter_text, wide) = match self.memories.remove(&key) {
                Some(memory) => (Table::with_look(memory.look), memory.filter_text, memory.wide),
                None => (Table::default(), String::new(), false),
            };
            let link = FeedLink::Loading { since: self.now };
            self.feeds.insert(key, Feed { id, kind, table, link, filter_text, wide });
        }
        effects
    }
}

/// The kind that the program is about.
pub fn machine_kind() -> Kind {
    // The first row of the table of kinds is VirtualMachine; a test holds it there.
    Kind(&kinds::KINDS[0])
}

/// A choice in words, for the header while connecting.
pub fn target(choice: &Choice) -> String {
    use crate::types::text::printable;
    match (&choice.host, &choice.context) {
        (Some(host), _) if host == "local" => "the local host".into(),
        (Some(host), _) => printable(host).into_owned(),
        (None, Some(context)) => format!("context {}", printable(context)),
        (None, None) => "the current context or the local host".into(),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_first_kind_is_the_machine() {
        assert_eq!(super::machine_kind().0.kind, "VirtualMachine");
    }
}
