//! `host backup` and `host restore`: all objects to a file and back.

use std::path::Path;

use crate::apiserver::object;
use crate::config::Paths;
use crate::store;
use crate::types::quantity::human_bytes;

use super::super::failure::Failure;
use super::super::out;
use super::{lock, private_dir, start};

/// How often a daemon that comes back is stopped again.
const ATTEMPTS: usize = 5;

/// Runs `host backup`. Reads the database beside the daemon, which is not needed and not disturbed.
pub fn backup(paths: &Paths, file: &Path) -> Result<(), Failure> {
    let contents = store::backup(&paths.store_file(), file).map_err(|e| Failure::new(e.to_string()))?;
    let size = std::fs::metadata(file).map_or(0, |m| m.len());
    out::block(&format!(
        "Backed up {} objects to {} ({}, revision {}).\n\
         Secrets are in it: keep it private. Contents of disks and images are not in it.",
        contents.objects,
        file.display(),
        human_bytes(size),
        contents.revision
    ))
}

/// Runs `host restore`. Nothing is stopped or changed before the file has been found good.
pub fn restore(paths: &Paths, file: &Path) -> Result<(), Failure> {
    private_dir(&paths.state)?;
    let backup = store::Backup::read(file, &paths.state).map_err(|e| Failure::new(e.to_string()))?;
    let was_running = lock::holder(&paths.lock_file()).is_some();
    let result = stopped(paths).and_then(|_lock| exchange(paths, file, &backup));
    if was_running {
        // Also after a failure: machines should not be without a daemon for that.
        let started = start::command(paths);
        result.and(started)
    } else {
        result
    }
}

/// Stops the daemon if there is one, and keeps others from starting.
fn stopped(paths: &Paths) -> Result<lock::Lock, Failure> {
    for _ in 0..ATTEMPTS {
        if lock::holder(&paths.lock_file()).is_some() {
            start::stop(paths)?;
        }
        match lock::Lock::take(&paths.lock_file()) {
            Ok(lock) => return Ok(lock),
            // Somebody who needed a daemon was faster.
            Err(lock::LockError::Held { .. }) => {}
            Err(error) => return Err(Failure::new(error.to_string())),
        }
    }
    Err(Failure::new(
        "the host daemon is started again and again\nEnd what uses it (a service, viewers) and try again; nothing was \
         changed.",
    ))
}

fn exchange(paths: &Paths, file: &Path, backup: &store::Backup) -> Result<(), Failure> {
    let body = |entry: &store::Entry| object::encode(&object::parse(entry));
    let restored = backup.replace(&paths.state, &body).map_err(|e| Failure::new(e.to_string()))?;
    let contents = backup.contents();
    let made = contents.made.and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    let made = made.map_or_else(String::new, |at| format!(" of {}", at.strftime("%Y-%m-%dT%H:%M:%SZ")));
    let mut text = format!("Restored {} objects from {}{made}.", contents.objects, file.display());
    if let Some(replaced) = restored.replaced {
        text.push_str(&format!("\nThe store before is kept as {}.", replaced.display()));
    }
    text.push_str("\nMachines and disks made since the backup are left alone; \"vmdeck host status\" counts them.");
    out::block(&text)
}
