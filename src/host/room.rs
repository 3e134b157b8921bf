//! Room on the disk that content from outside may not take: the store lives on the same one.

use std::path::Path;

use super::VolumeFailure;
use super::volume_job::Failure;

/// Most that is kept free.
const RESERVE: u64 = 256 << 20;

/// Content is written so far before the room is looked at again.
const EVERY: u64 = 1 << 20;

/// Bytes that have to stay free on a file system of this size.
fn reserve(total: u64) -> u64 {
    RESERVE.min(total / 20)
}

/// Refuses to go on when the file system of `path` is nearly full.
///
/// # Errors
/// [`VolumeFailure::NoSpace`]. A file system that cannot be asked is taken to have room: the write will tell.
pub(super) fn check(path: &Path) -> Result<(), Failure> {
    let Ok(facts) = rustix::fs::statvfs(path) else { return Ok(()) };
    let free = facts.f_bavail.saturating_mul(facts.f_frsize);
    let kept = reserve(facts.f_blocks.saturating_mul(facts.f_frsize));
    if free >= kept {
        return Ok(());
    }
    let detail = format!(
        "no space left for the content: {} MiB are free and {} MiB are kept for the host itself",
        free >> 20,
        kept >> 20
    );
    Err(Failure { kind: VolumeFailure::NoSpace, detail })
}

/// Looks at the room from time to time while content is written.
#[derive(Debug, Default)]
pub(super) struct Room {
    written: u64,
}

impl Room {
    /// With so many bytes written already.
    pub(super) fn after(written: u64) -> Self {
        Self { written }
    }

    /// `bytes` more are about to be written to the file system of `path`.
    ///
    /// # Errors
    /// See [`check`].
    pub(super) fn take(&mut self, path: &Path, bytes: usize) -> Result<(), Failure> {
        let before = self.written;
        self.written += bytes as u64;
        if before > 0 && self.written / EVERY == before / EVERY { Ok(()) } else { check(path) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_twentieth_is_kept_but_not_more_than_needed() {
        assert_eq!(reserve(20 << 20), 1 << 20);
        assert_eq!(reserve(1 << 40), RESERVE);
    }

    #[test]
    fn where_there_is_room_writing_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        if check(dir.path()).is_err() {
            eprintln!("skipped: the disk of the temporary directory is nearly full");
            return;
        }
        let mut room = Room::default();
        for _ in 0..3 {
            room.take(dir.path(), 3 << 20).unwrap();
        }
        assert!(check(Path::new("/nonexistent")).is_ok());
    }
}
