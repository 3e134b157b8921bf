//! A little space kept for the day when the disk is full: without it not even a deletion could be recorded, and
//! deleting is what the user then wants to do.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate};

use super::db::private_file;

/// A file whose only use is to be removed.
#[derive(Debug)]
pub(super) struct Reserve {
    path: PathBuf,
    size: u64,
}

impl Reserve {
    /// For a few hundred deletions. Nothing is done yet.
    pub(super) fn for_deletions(dir: &Path) -> Self {
        Self { path: dir.join("store.reserve"), size: 4 << 20 }
    }

    /// For opening the store on a disk that is still full: SQLite makes an index of its log first.
    pub(super) fn for_opening(dir: &Path) -> Self {
        Self { path: dir.join("store.reserve-open"), size: 256 << 10 }
    }

    /// Makes sure that the space is kept.
    ///
    /// # Errors
    /// When it is not there. No part of it is held then.
    pub(super) fn fill(&mut self) -> std::io::Result<()> {
        use std::os::unix::fs::MetadataExt as _;
        if std::fs::metadata(&self.path).is_ok_and(|m| m.len() == self.size && m.blocks() * 512 >= self.size) {
            return Ok(());
        }
        let filled = private_file(&self.path).and_then(|mut file| {
            match fallocate(&file, FallocateFlags::empty(), 0, self.size) {
                // This file system cannot promise space: occupied is as good.
                Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {
                    let zeros = [0; 64 << 10];
                    (0..self.size / zeros.len() as u64).try_for_each(|_| file.write_all(&zeros))?;
                    file.sync_all()
                }
                other => Ok(other?),
            }
        });
        if filled.is_err() {
            self.release();
        }
        filled
    }

    /// Gives the space back; false when there was none.
    pub(super) fn release(&mut self) -> bool {
        std::fs::remove_file(&self.path).is_ok()
    }
}
