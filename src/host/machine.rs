//! One machine: a handle that anyone may look at. Its other half, the one task that owns the QEMU process, is in
//! `task`.
//!
//! ```text
//!                 Start                QEMU greets, record written, cont
//!   Absent ----------------> Starting ------------------------------------> Running <----> Paused
//!     ^                        |  |                                          |   |           |
//!     | forget                 |  | PowerButton, Kill                        |   |           |
//!     |                        |  +-----------------> Stopping <-------------+---|-----------+
//!     |                        | fails                   |    PowerButton, Kill |
//!     |                        v                         | process gone         | guest ends itself, crash
//!     +---------------------- Ended <--------------------+----------------------+
//!                               |  ^
//!                         Start |  | (Starting again, with the next launch number)
//! ```
//!
//! The handle's phase changes at once when a step is accepted (`state::admit`), the rest follows from the task.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot, watch};

use super::backup::DiskCopy;
use super::context::Context;
use super::launch::Running;
use super::qmp::Qmp;
use super::record::{Record, Stage};
use super::screen::Screen;
use super::serial::Console;
use super::spec::MachineId;
use super::state::{Phase, StepKind, admit};
use super::task::Task;
use super::{Denied, MachineState, Migration, Observation, Step};

/// A machine, seen from outside of its task.
pub(super) struct Machine {
    id: MachineId,
    pub(super) shared: Mutex<Shared>,
    commands: mpsc::UnboundedSender<Command>,
    console: OnceLock<Arc<Console>>,
    /// Where viewers find the screen.
    pub(super) screen: watch::Sender<Screen>,
}

/// What the task tells everyone.
pub(super) struct Shared {
    pub(super) phase: Phase,
    pub(super) observation: Observation,
    /// The monitor while there is one.
    pub(super) qmp: Option<Qmp>,
    /// The monitor that forwards ports into the guest, while there is one.
    pub(super) forwarder: Option<Qmp>,
    /// The guest's address while there is a guest with one.
    pub(super) address: Option<std::net::Ipv4Addr>,
    /// The launch directory while there is one.
    pub(super) run_dir: Option<PathBuf>,
    /// The directory of the network's process while there is one.
    pub(super) network_dir: Option<PathBuf>,
    /// Being removed: nothing is accepted any more.
    pub(super) forgotten: bool,
}

/// What the task can be told.
pub(super) enum Command {
    Step(Step),
    Forget(oneshot::Sender<io::Result<()>>),
    /// Begin to copy disks, all at one moment.
    Copy {
        copies: Vec<DiskCopy>,
        done: Done,
    },
    /// Freeze the guest's file systems for at most so long.
    Freeze {
        timeout: Duration,
        done: Done,
    },
    /// The agent has answered, or has not.
    Frozen {
        outcome: io::Result<()>,
        done: Done,
    },
    Thaw {
        done: Option<Done>,
    },
    /// The agent has answered, or has not.
    Thawed {
        outcome: io::Result<()>,
        done: Option<Done>,
    },
}

/// Who waits for something to be done; the error is in words for a user.
pub(super) type Done = oneshot::Sender<Result<(), String>>;

/// Said of what needs a running guest.
pub(super) const OFF: &str = "the machine is off";

/// How a machine's task begins.
pub(super) enum Beginning {
    /// Nothing runs.
    Off,
    /// This QEMU of an earlier daemon.
    Adopted(Box<Running>),
}

impl Machine {
    /// A machine as its record says; its task must be spawned by the caller.
    pub(super) fn new(context: &Arc<Context>, record: Record) -> (Arc<Self>, Task) {
        let (commands, queue) = mpsc::unbounded_channel();
        let state = match &record.stage {
            Stage::Ended { reason, at } => MachineState::Ended { reason: reason.clone(), at: *at },
            Stage::Starting | Stage::Running(_) => MachineState::Absent,
        };
        let phase = if matches!(state, MachineState::Ended { .. }) { Phase::Ended } else { Phase::Absent };
        let observation =
            Observation { state, note: record.note.clone(), launch: record.launch, ..Observation::absent(&record.id) };
        let shared = Shared {
            phase,
            observation,
            qmp: None,
            forwarder: None,
            address: None,
            run_dir: None,
            network_dir: None,
            forgotten: false,
        };
        let machine = Arc::new(Self {
            id: record.id.clone(),
            shared: Mutex::new(shared),
            commands,
            console: OnceLock::new(),
            screen: watch::Sender::default(),
        });
        let task =
            Task { context: context.clone(), machine: machine.clone(), queue, record, thaw_at: None, lingering: None };
        (machine, task)
    }

    /// What it looks like now.
    pub(super) fn observe(&self) -> Observation {
        self.shared.lock().observation.clone()
    }

    /// Looks at more than the observation.
    pub(super) fn with<T>(&self, look: impl FnOnce(&Shared) -> T) -> T {
        look(&self.shared.lock())
    }

    /// A stop has been asked for.
    pub(super) fn is_stopping(&self) -> bool {
        self.shared.lock().phase == Phase::Stopping
    }

    /// The console. Opened by [`Machine::open_console`] before anything runs.
    pub(super) fn console(&self) -> &Console {
        #[expect(clippy::expect_used, reason = "every path that makes a machine opens its console first")]
        self.console.get().expect("the console is open")
    }

    /// The console, if it is open.
    pub(super) fn console_if_open(&self) -> Option<&Arc<Console>> {
        self.console.get()
    }

    /// What is typed waits while the guest is between two QEMUs: the one that has ended with it would drop it.
    pub(super) fn hold_input(&self, held: bool) {
        self.console().hold_input(held);
        self.screen.send_if_modified(|screen| std::mem::replace(&mut screen.held, held) != held);
    }

    /// Tells viewers where the screen is.
    pub(super) fn show_screen(&self, run_dir: Option<PathBuf>) {
        self.screen.send_if_modified(|screen| {
            let news = screen.run_dir != run_dir;
            screen.run_dir = run_dir;
            news
        });
    }

    /// Reads the console's history and starts its broker. Reads files.
    pub(super) fn open_console(&self, context: &Context, runtime: &tokio::runtime::Handle) -> io::Result<()> {
        if self.console.get().is_none() {
            let console = Console::open(&context.layout.machine(&self.id), runtime)?;
            // Somebody else may have been faster; both have read the same.
            let _ = self.console.set(console);
        }
        Ok(())
    }

    /// Accepts a step or says why not. See [`super::Host::submit`].
    pub(super) fn submit(&self, context: &Context, step: Step) -> Result<(), Denied> {
        let mut shared = self.shared.lock();
        if shared.forgotten {
            return Err(Denied { reason: "the machine is being removed".into() });
        }
        let phase = admit(shared.phase, StepKind::of(&step))?;
        if matches!(step, Step::Migrate { .. }) && shared.observation.frozen.is_some() {
            return Err(Denied { reason: "the guest's file systems are frozen".into() });
        }
        let changed = phase != shared.phase;
        shared.phase = phase;
        match &step {
            Step::Start { note, .. } => {
                let launch = shared.observation.launch + 1;
                let state = MachineState::Starting;
                shared.observation =
                    Observation { state, note: Some(note.clone()), launch, ..Observation::absent(&self.id) };
            }
            Step::Note(note) => shared.observation.note = Some(note.clone()),
            Step::PowerButton { .. } | Step::Kill => shared.observation.state = MachineState::Stopping,
            // Shown at once: whoever looks again must not ask for a second one.
            Step::Migrate { .. } => shared.observation.migration = Some(Migration::next(&shared.observation)),
            Step::Attach(_) | Step::Detach { .. } | Step::CancelMigration => {}
        }
        // The task ends only after `forgotten` is set.
        let _ = self.commands.send(Command::Step(step));
        drop(shared);
        if changed {
            context.announce(&self.id);
        }
        Ok(())
    }

    /// Tells the task something, from a task beside it.
    pub(super) fn tell(&self, command: Command) {
        // The task ends only after `forgotten` is set; then nobody wants to know.
        let _ = self.commands.send(command);
    }

    /// Has the task do something and waits for it.
    pub(super) async fn ask(&self, command: impl FnOnce(Done) -> Command) -> Result<(), String> {
        let (done, finished) = oneshot::channel();
        self.tell(command(done));
        // Dropped unanswered where there is no guest.
        finished.await.unwrap_or_else(|_| Err(OFF.to_owned()))
    }

    /// Removes every trace. See [`super::Host::forget`].
    pub(super) async fn forget(&self) -> io::Result<()> {
        let (done, finished) = oneshot::channel();
        {
            let mut shared = self.shared.lock();
            if !matches!(shared.phase, Phase::Absent | Phase::Ended) {
                return Err(io::Error::new(io::ErrorKind::ResourceBusy, "the machine is still on"));
            }
            shared.forgotten = true;
            let _ = self.commands.send(Command::Forget(done));
        }
        finished.await.unwrap_or(Ok(()))
    }
}
