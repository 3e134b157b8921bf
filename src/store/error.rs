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
    #[error(
        "the state database {} is damaged: {detail}. Nothing was changed. Restore a backup, or move the file away \
         to start empty (running machines are adopted by their records under machines/)", path.display()
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What the check found.
        detail: String,
    },
    /// A newer program wrote it.
    #[error("the state database {} has schema {found}, this program knows {known}: use the newer vmdeck", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema version.
        found: i64,
        /// The newest one known here.
        known: i64,
    },
    /// The disk is full.
    #[error("no space left for the state database: free some space and try again")]
    Full,
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
        match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DiskFull) => Self::Full,
            _ => Self::Io(error.to_string()),
        }
    }
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
