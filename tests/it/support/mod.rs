//! What the stories stand on: a world of its own (state directory, daemon, machines) per test, driven through the
//! real binary and the real API, and taken down with nothing left behind. The benchmark uses it too.

mod console;
mod guest;
mod leftovers;
mod screen;
pub mod viewer;
mod world;

pub use console::Console;
pub use guest::{PASSWORD, USER, USER_DATA, blank_machine, guest_image, machine_manifest};
pub use leftovers::{files, files_text};
pub use screen::Screen;
pub use world::{World, binary};

use std::time::Duration;

/// How long anything that needs no guest may take. Tests wait for events; this only ends a wait that is lost.
pub const SOON: Duration = Duration::from_secs(30);

/// How long a guest may take to boot or to stop: seconds under emulation, more on a loaded machine.
pub const BOOT: Duration = Duration::from_secs(120);
