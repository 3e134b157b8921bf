//! What can go wrong in the store.

use std::path::PathBuf;
use std::sync::Arc;

use super::model::{Entry, Key, Revision};

/// The store could not do its work.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The database could not be opened.
    #[error("cannot open the state database {}: {cause}", path.display())]
    Open {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        cause: String,
    },
    /// Another process has it open.
    #[error("the state in {} is in use by another process (is a `vmdeck host` already running?)", path.display())]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// The file is damaged.
    #[error("the state database {} is damaged: {detail}. Nothing was changed. {}", path.display(), remedy(backups))]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What the check found.
        detail: String,
        /// The newest files it could be restored from.
        backups: Vec<PathBuf>,
    },
    /// A file that was to be restored is damaged.
    #[error("the backup {} is damaged and cannot be restored: {detail}. The store was not changed. Try an older backup", path.display())]
    BadBackup {
        /// The file.
        path: PathBuf,
        /// What the check found.
        detail: String,
    },
    /// It is a file of something else.
    #[error("{} is not a state database of vmdeck: {detail}. Nothing was changed", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Why it is not.
        detail: String,
    },
    /// A newer program wrote it.
    #[error(
        "{} was written by a newer vmdeck (its schema is {found}, this program knows up to {known}). Nothing was \
         changed: use the newer vmdeck", path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema version.
        found: i64,
        /// The newest one known here.
        known: i64,
    },
    /// The disk is full.
    #[error(
        "no space is left on the disk of the state database {}. Nothing was written; reading goes on, and so does \
         deleting as long as there is space in reserve. Free some space on that disk and try again", path.display()
    )]
    Full {
        /// The file.
        path: PathBuf,
    },
    /// A backup could not be made or taken back; the text is for the user.
    #[error("{0}")]
    Backup(String),
    /// SQLite or the operating system said no.
    #[error("state database: {0}")]
    Io(String),
    /// More writes wait than the store takes.
    #[error("too many writes are waiting")]
    Busy,
    /// The writer thread is gone.
    #[error("the state database is closed")]
    Closed,
    /// History does not go back that far.
    #[error("too old resource version: {requested} ({floor})")]
    Compacted {
        /// Asked for.
        requested: Revision,
        /// The oldest revision that can be asked for.
        floor: Revision,
    },
    /// That revision does not exist yet.
    #[error("too large resource version: {requested}, current: {current}")]
    Future {
        /// Asked for.
        requested: Revision,
        /// The newest.
        current: Revision,
    },
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Io(error.to_string())
    }
}

fn remedy(backups: &[PathBuf]) -> String {
    let names: Vec<String> = backups.iter().map(|p| p.display().to_string()).collect();
    let which = match names.as_slice() {
        [] => "no backup is known here".to_owned(),
        names => format!("the newest known: {}", names.join(", ")),
    };
    format!(
        "Restore a backup with \"vmdeck host restore FILE\" ({which}); or move store.db and store.db-wal away to start \
         without objects: machines and disks of this computer are then left as they are"
    )
}

/// Why a write was not done.
#[derive(Debug, Clone, thiserror::Error)]
pub enum WriteError {
    /// It should not have existed.
    #[error("it exists already")]
    Exists(Arc<Entry>),
    /// It should have existed.
    #[error("it does not exist")]
    Missing,
    /// It has another revision than expected.
    #[error("it has been changed meanwhile")]
    Moved(Arc<Entry>),
    /// Another object that the write depends on is not as expected.
    #[error("{} {} has been changed meanwhile", .0.bucket, .0.name)]
    Requirement(Key),
    /// The store itself failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}
