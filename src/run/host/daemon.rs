//! The daemon itself.

use crate::config::Paths;

use super::super::failure::Failure;

/// Runs until SIGTERM or SIGINT.
pub fn run(_paths: &Paths, _foreground: bool) -> Result<(), Failure> {
    Err(Failure::new("the daemon is not wired yet"))
}
