//! Everything that can wake the viewer, and everything it can ask for. Both lists are closed: a new source of
//! events or a new kind of work is a new variant, and the compiler names the places to change.

use std::path::PathBuf;

use bytes::Bytes;
use crossterm::event::{KeyEvent, MouseEvent};
use serde_json::Value;

use super::console::{History, Target};
use super::form::{AttachContext, CloneContext, CreateContext, RestoreContext};
use super::theme::Theme;
use crate::client::{Choice, ClientError, ContextInfo, Engine, OperationType, TableEvent};
use crate::types::kinds::KindInfo;

/// Names one running watch. Never used twice, so that news of an old one cannot be mistaken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FeedId(pub u64);

/// Names one background task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskId(pub u64);

/// Names one open edit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EditId(pub u64);

/// An object by kind, namespace and name.
#[derive(Debug, Clone, Copy)]
pub struct Kind(pub &'static KindInfo);

impl PartialEq for Kind {
    fn eq(&self, other: &Self) -> bool {
        self.0.plural == other.0.plural && self.0.group == other.0.group
    }
}

impl Eq for Kind {}

/// An object's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectRef {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace; empty for cluster-wide kinds.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl ObjectRef {
    /// The namespace as requests want it.
    pub fn scope(&self) -> Option<&str> {
        self.kind.0.namespaced().then_some(self.namespace.as_str())
    }

    /// `namespace/name`, or the name alone, printable.
    pub fn path(&self) -> String {
        let text =
            if self.namespace.is_empty() { self.name.clone() } else { format!("{}/{}", self.namespace, self.name) };
        crate::types::text::printable(&text).into_owned()
    }
}

/// What the header and later requests need to know of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionInfo {
    /// Who answers.
    pub engine: Engine,
    /// Why this one.
    pub reason: String,
    /// Where one starts.
    pub default_namespace: String,
}

/// Why the program was told to end from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM or SIGINT.
    Terminate,
    /// SIGHUP: the terminal is gone.
    Hangup,
}

/// What a background task has to say.
#[derive(Debug, Clone)]
pub enum TaskNews {
    /// It goes on.
    Progress {
        /// In a few words.
        note: String,
        /// 0.0 to 1.0 where it is known.
        fraction: Option<f64>,
    },
    /// It is done; one sentence that names the object.
    Done(String),
    /// It failed.
    Failed(Failure),
}

/// A failure as it is shown: the server's own words, and what to try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Printable; may have several lines.
    pub text: String,
    /// What to try.
    pub hint: Option<String>,
}

impl Failure {
    /// From a text of unknown origin.
    pub fn new(text: &str) -> Self {
        Self { text: crate::types::text::printable_block(text).into_owned(), hint: None }
    }
}

impl From<&ClientError> for Failure {
    fn from(error: &ClientError) -> Self {
        use crate::types::text::printable_block;
        Self {
            text: printable_block(error.text()).into_owned(),
            hint: error.hint().map(|h| printable_block(h).into_owned()),
        }
    }
}

/// A form that is to be opened, once what it offers is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FormWish {
    /// A new machine.
    Machine {
        /// Where.
        namespace: String,
    },
    /// A disk for a machine.
    Attach {
        /// The machine's namespace.
        namespace: String,
        /// The machine.
        machine: String,
    },
    /// A copy of a machine.
    Clone {
        /// The machine's namespace.
        namespace: String,
        /// The machine.
        machine: String,
    },
    /// A machine as it was.
    Restore {
        /// The machine's namespace.
        namespace: String,
        /// The machine.
        machine: String,
    },
}

/// What a form offers.
#[derive(Debug)]
pub enum FormData {
    /// For a new machine.
    Machine(CreateContext),
    /// For a disk of a machine.
    Attach(AttachContext),
    /// For a copy of a machine.
    Clone(CloneContext),
    /// For restoring a machine.
    Restore(RestoreContext),
}

/// News of a console's connection.
#[derive(Debug, Clone)]
pub enum ConsoleNews {
    /// Connected; how the next bytes are to be taken.
    Attached(History),
    /// From the guest.
    Bytes(Bytes),
    /// History is over.
    Settled,
    /// Who else has it open, printable; `None` if nobody.
    Viewers(Option<String>),
    /// The connection broke or could not be made, printable; another try makes sense.
    Lost(String),
    /// The connection ended for good, printable.
    Ended(String),
    /// The user ended it: its tab may go.
    Closed,
    /// The queue towards the guest is full or gone; so many bytes were not sent.
    Refused(usize),
}

/// Everything in.
#[derive(Debug)]
pub enum Event {
    /// A key was pressed.
    Key(KeyEvent),
    /// Text was pasted.
    Paste(String),
    /// The mouse did something while we had taken it.
    Mouse(MouseEvent),
    /// The terminal that shows us gained or lost the keyboard.
    Focus(bool),
    /// The terminal has another size now.
    Resize(u16, u16),
    /// The time came that the last drawing asked for.
    Wake,
    /// The terminal was taken back after a suspension or an outside editor.
    Resumed,
    /// A signal.
    Signal(Signal),
    /// An attempt to connect ended.
    Connected {
        /// Which attempt.
        generation: u64,
        /// The session, or cause and hint.
        result: Result<SessionInfo, Failure>,
    },
    /// The contexts of the kubeconfig.
    Contexts(Result<Vec<ContextInfo>, Failure>),
    /// News of a watch.
    Table {
        /// Which.
        feed: FeedId,
        /// What.
        event: TableEvent,
    },
    /// News of a task.
    Task {
        /// Which.
        id: TaskId,
        /// What.
        news: TaskNews,
    },
    /// A theme was loaded.
    Theme {
        /// Ready to use.
        theme: Box<Theme>,
        /// Texts naming file and line.
        warnings: Vec<String>,
    },
    /// News of a console.
    Console {
        /// Which.
        target: Target,
        /// What.
        news: ConsoleNews,
    },
    /// The outside editor ended.
    EditorClosed {
        /// Which edit.
        edit: EditId,
        /// The text as left, or why there is none.
        result: Result<String, Failure>,
    },
    /// What a form offers.
    Prepared(Result<FormData, Failure>),
    /// The server answered a save or a creation.
    Saved {
        /// Which edit.
        edit: EditId,
        /// The object as saved, or the refusal.
        result: Result<Box<Value>, ClientError>,
        /// On a conflict: the object as the server has it now.
        server: Option<Box<Value>>,
    },
}

/// Work that shows up in the task list.
#[derive(Debug, Clone)]
pub enum Job {
    /// Creates an operation and follows it to its end.
    Operation {
        /// The machine.
        machine: ObjectRef,
        /// What.
        operation: OperationType,
        /// Without asking the guest.
        force: bool,
    },
    /// Makes a snapshot of a machine and follows it to its end.
    Snapshot {
        /// The machine.
        machine: ObjectRef,
        /// It has to be consistent.
        consistent: bool,
    },
    /// Deletes an object and follows it until it is gone.
    Delete(ObjectRef),
    /// Applies every document of a file.
    ApplyFile {
        /// The file; `~/` is the home directory.
        path: String,
        /// For documents that name no namespace.
        namespace: String,
    },
    /// Sends a file to the object's upload address.
    Upload {
        /// The object, which waits for the file.
        object: ObjectRef,
        /// Where it says the file shall go.
        url: String,
        /// The file.
        path: String,
    },
    /// Opens a machine's screen in a viewer, or at a local port where there is none; ends with the viewer.
    Vnc(ObjectRef),
    /// Forwards local ports for as long as it runs.
    Forward {
        /// The machine.
        machine: ObjectRef,
        /// Each `[tcp/|udp/]LOCAL[:REMOTE]`.
        ports: Vec<String>,
    },
}

/// Everything out.
#[derive(Debug)]
pub enum Effect {
    /// Connects to an engine; an attempt that is still running is dropped.
    Connect {
        /// Names the attempt.
        generation: u64,
        /// To what.
        choice: Choice,
    },
    /// Reads the kubeconfig's contexts.
    ListContexts,
    /// Starts a live table.
    Watch {
        /// Names it.
        feed: FeedId,
        /// Of which kind.
        kind: Kind,
        /// Where; `None` = everywhere.
        namespace: Option<String>,
    },
    /// Ends a live table.
    Unwatch(FeedId),
    /// Starts a task.
    Run {
        /// Names it.
        id: TaskId,
        /// What to do.
        job: Job,
    },
    /// Ends a task that can be ended.
    Cancel(TaskId),
    /// Loads a theme by name.
    LoadTheme(String),
    /// Puts text into the clipboard (OSC 52).
    Copy(String),
    /// Opens a console's connection.
    ConsoleConnect {
        /// The machine.
        target: Target,
        /// Bytes from before that are wanted.
        history: usize,
        /// 0 for the first try; later ones wait, longer each time.
        attempt: u32,
        /// Columns and rows of the pane's screen.
        size: (u16, u16),
        /// Also if that ends somebody else's session.
        force: bool,
    },
    /// The screen of an SSH session has another size: columns and rows.
    ConsoleResize {
        /// Which.
        target: Target,
        /// Columns and rows.
        size: (u16, u16),
    },
    /// Bytes for the guest.
    ConsoleSend {
        /// Which console.
        target: Target,
        /// What was typed.
        bytes: Bytes,
    },
    /// Ends a console's connection.
    ConsoleDisconnect(Target),
    /// Gives the terminal to `$VISUAL`, `$EDITOR` or `vi` with this text.
    OpenEditor {
        /// Which edit.
        edit: EditId,
        /// What to edit.
        text: String,
        /// For the file name.
        name: String,
    },
    /// Saves changed paths under the condition that the object has not changed.
    Save {
        /// Which edit.
        edit: EditId,
        /// The object.
        object: ObjectRef,
        /// Merge patch.
        patch: Value,
        /// The version the patch was made from.
        resource_version: String,
    },
    /// Gathers what a form offers.
    Prepare(FormWish),
    /// Creates objects in order, after the server has checked all of them; answered like a save.
    Create {
        /// Which edit.
        edit: EditId,
        /// Manifests.
        objects: Vec<Value>,
    },
    /// Writes lines of history to a file in the cache directory.
    Remember {
        /// Name of the file.
        file: &'static str,
        /// Its whole content.
        lines: Vec<String>,
    },
    /// Paints everything again.
    Redraw,
    /// Gives the terminal back and stops the process until it is continued.
    Suspend,
    /// Leaves.
    Quit,
}

/// Where a path typed by the user leads: `~/` is the home directory.
pub fn expand(path: &str, home: Option<PathBuf>) -> PathBuf {
    match (path.strip_prefix("~/"), home) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => PathBuf::from(path),
    }
}
