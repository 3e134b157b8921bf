//! Copies of a database as one file, whole or not there at all.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::Connection;
use rusqlite::backup::Backup;
use rustix::fs::{CWD, RenameFlags};

use super::db::private_file;

/// A file under a passing name, removed unless it is given its own.
#[derive(Debug)]
pub(super) struct Draft {
    path: PathBuf,
}

impl Draft {
    /// Next to `target`, empty, 0600.
    pub(super) fn beside(target: &Path) -> io::Result<Self> {
        let name = target.file_name().ok_or_else(|| io::Error::other("this is not the name of a file"))?;
        let mut passing = std::ffi::OsString::from(".");
        passing.push(name);
        passing.push(format!(".{}.part", std::process::id()));
        let draft = Self { path: target.with_file_name(passing) };
        draft.remove();
        private_file(&draft.path)?;
        Ok(draft)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes it durable under its name, which may be taken already.
    pub(super) fn replace(self, target: &Path) -> io::Result<()> {
        File::open(&self.path)?.sync_all()?;
        std::fs::rename(&self.path, target)?;
        sync_directory(target)
    }

    /// Makes it durable under its name, which must be free.
    pub(super) fn publish(self, target: &Path) -> io::Result<()> {
        File::open(&self.path)?.sync_all()?;
        match rustix::fs::renameat_with(CWD, &self.path, CWD, target, RenameFlags::NOREPLACE) {
            Ok(()) => {}
            // A file system without it: the check before has to do.
            Err(rustix::io::Errno::INVAL) if !target.exists() => std::fs::rename(&self.path, target)?,
            Err(e) => return Err(e.into()),
        }
        sync_directory(target)
    }

    fn remove(&self) {
        for end in ["", "-wal", "-shm", "-journal"] {
            let mut path = self.path.clone().into_os_string();
            path.push(end);
            std::fs::remove_file(path).ok();
        }
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        self.remove();
    }
}

/// Removes the drafts of processes that were killed: they hold what the store holds.
pub(super) fn sweep(dir: &Path) {
    for path in std::fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path()) {
        let maker = path
            .file_name()
            .and_then(|name| {
                name.to_str()?.strip_prefix(".store.")?.split_once(".part")?.0.rsplit('.').next()?.parse().ok()
            })
            .and_then(rustix::process::Pid::from_raw);
        if maker.is_some_and(|pid| rustix::process::test_kill_process(pid) == Err(rustix::io::Errno::SRCH)) {
            std::fs::remove_file(path).ok();
        }
    }
}

/// Makes the names in a file's directory durable.
pub(super) fn sync_directory(of: &Path) -> io::Result<()> {
    let parent = of.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent)?.sync_all()
}

/// Copies a database, consistently, while others use it. The copy is one file without a write-ahead log.
pub(super) fn copy(from: &Connection, to: &Path) -> rusqlite::Result<Connection> {
    let mut target = Connection::open(to)?;
    // All in one step, so that no writer in another process makes it start again; none of them has to wait.
    Backup::new(from, &mut target)?.run_to_completion(i32::MAX, Duration::from_millis(20), None)?;
    target.pragma_update(None, "journal_mode", "DELETE")?;
    target.pragma_update(None, "synchronous", "FULL")?;
    Ok(target)
}

/// Keeps a copy under a name.
pub(super) fn replace_by_copy(from: &Connection, target: &Path) -> io::Result<()> {
    let draft = Draft::beside(target)?;
    drop(copy(from, draft.path()).map_err(io::Error::other)?);
    draft.replace(target)
}
