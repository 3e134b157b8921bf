//! Boxes over the view. They form a stack: keys go to the topmost, drawing goes from the bottom up.

use serde_json::Value;

use super::action::{Action, Possible};
use super::input::Input;
use super::message::{Effect, Job, Kind, ObjectRef};
use super::palette::Palette;
use super::state::Scroll;

/// One box.
#[derive(Debug)]
pub enum Overlay {
    /// The `:` line.
    Command(CommandLine),
    /// The `/` line.
    Filter(FilterLine),
    /// Search over everything.
    Palette(Palette),
    /// A list of things to do.
    Menu(Menu),
    /// A question before something happens.
    Confirm(Confirm),
    /// A question for one line of text.
    Ask(Ask),
    /// Keys of this view.
    Help(Help),
}

/// The `:` line with its completions.
#[derive(Debug, Default)]
pub struct CommandLine {
    /// What was typed.
    pub input: Input,
    /// Which completion is chosen; none while typing.
    pub chosen: Option<usize>,
    /// Why the line was not understood.
    pub error: Option<String>,
}

/// The `/` line.
#[derive(Debug)]
pub struct FilterLine {
    /// What was typed.
    pub input: Input,
    /// What was in force before, for Esc.
    pub before: String,
    /// Why the line is not in force (yet).
    pub error: Option<String>,
}

/// A list of things to do with the object at hand, or of columns to sort by.
#[derive(Debug)]
pub struct Menu {
    /// Heading.
    pub title: String,
    /// Entries.
    pub items: Vec<MenuItem>,
    /// Where the cursor is.
    pub cursor: usize,
    /// Scrolling.
    pub scroll: Scroll,
}

/// What a menu entry does.
#[derive(Debug, Clone)]
pub enum Chosen {
    /// An action.
    Action(Action),
    /// Sorts by a column.
    Sort(usize),
    /// Opens the form for a new object of a kind.
    Create(Kind),
}

/// One entry.
#[derive(Debug, Clone)]
pub struct MenuItem {
    /// Its key, shown in front; may be empty.
    pub key: String,
    /// What it is.
    pub label: String,
    /// One sentence.
    pub doc: String,
    /// Whether it can be chosen.
    pub possible: Possible,
    /// What happens.
    pub chosen: Chosen,
}

/// How sure one has to be.
#[derive(Debug)]
pub enum Surety {
    /// `y`; everything else is no.
    Yes,
    /// The name must be typed.
    Name {
        /// The name.
        name: String,
        /// What was typed.
        input: Input,
    },
}

/// A question before something happens. It names the object, where it is, and what follows.
#[derive(Debug)]
pub struct Confirm {
    /// What would happen.
    pub title: String,
    /// Consequences, one paragraph each.
    pub body: Vec<String>,
    /// How sure one has to be.
    pub surety: Surety,
    /// What happens then.
    pub then: Then,
}

/// What follows a "yes".
#[derive(Debug, Clone)]
pub enum Then {
    /// Tasks, each with its title and object.
    Run(Vec<(String, Option<ObjectRef>, Job)>),
}

/// A question for one line of text.
#[derive(Debug)]
pub struct Ask {
    /// The question.
    pub title: String,
    /// More about it.
    pub note: String,
    /// The answer so far.
    pub input: Input,
    /// What it is for.
    pub purpose: Purpose,
}

/// What an answer is for.
#[derive(Debug, Clone)]
pub enum Purpose {
    /// A manifest file to apply.
    ApplyFile,
    /// The name of a new object.
    Name {
        /// Its kind.
        kind: Kind,
        /// Where it goes.
        namespace: String,
    },
    /// A file to upload.
    Upload {
        /// The object that waits for it.
        object: ObjectRef,
        /// Where it goes.
        url: String,
    },
    /// The user to log in as.
    Login {
        /// The machine.
        machine: ObjectRef,
    },
    /// Ports to forward.
    Ports {
        /// The machine.
        machine: ObjectRef,
    },
}

/// The help.
#[derive(Debug, Default)]
pub struct Help {
    /// Scrolling.
    pub scroll: Scroll,
    /// What to look for.
    pub search: Input,
    /// Whether keys go into the search.
    pub searching: bool,
}

/// The command in a shell that does the same as showing this object.
pub fn shell_command(object: &ObjectRef) -> String {
    let short = object.kind.0.short_names.first().copied().unwrap_or(object.kind.0.plural);
    let namespace = object.scope().map(|n| format!(" -n {n}")).unwrap_or_default();
    format!("vmdeck get {short} {}{namespace} -o yaml", object.name)
}

/// An object's own words about where a file for it shall go.
pub fn upload_url(object: &Value, standalone: bool) -> Option<String> {
    let urls = &object["status"]["imageUploadURLs"];
    let (first, second) = if standalone { ("inCluster", "external") } else { ("external", "inCluster") };
    urls[first].as_str().or_else(|| urls[second].as_str()).map(ToOwned::to_owned)
}

/// Effects that start tasks, with their entries in the task list.
pub fn run(state: &mut super::state::State, title: String, object: Option<ObjectRef>, job: Job) -> Effect {
    use super::message::TaskId;
    use super::state::{Task, TaskState};
    const KEEP: usize = 200;
    let id = TaskId(state.fresh_id());
    let cancellable = matches!(job, Job::Upload { .. } | Job::ApplyFile { .. } | Job::Vnc(_) | Job::Forward { .. });
    state.tasks.push(Task {
        id,
        title,
        object,
        started: state.now,
        state: TaskState::Running { note: "requested".into(), fraction: None },
        cancellable,
    });
    let surplus = state.tasks.len().saturating_sub(KEEP);
    state.tasks.drain(..surplus);
    Effect::Run { id, job }
}
