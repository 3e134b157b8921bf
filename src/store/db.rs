//! Opening the database: lock, permissions, checks, the present state. Nothing here runs on an async thread.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, OptionalExtension};

use super::error::StoreError;
use super::log::{self, unsigned};
use super::model::Revision;
use super::reserve::Reserve;
use super::view::View;
use super::{backup, copy, schema, wal};

/// The database's name in the state directory.
pub(super) const FILE: &str = "store.db";

/// An opened database.
pub(super) struct Opened {
    pub(super) path: PathBuf,
    pub(super) writer: Connection,
    pub(super) reader: Connection,
    pub(super) view: View,
    pub(super) identity: i64,
    /// How far compaction has got.
    pub(super) compacted: Revision,
    /// The time of the newest change, milliseconds since the epoch.
    pub(super) newest_at: i64,
    pub(super) reserve: Reserve,
    /// Held while the store is open.
    pub(super) lock: File,
}

/// Opens or creates `dir/store.db`, checks it and reads the current objects.
pub(super) fn open(dir: &Path, window: usize) -> Result<Opened, StoreError> {
    let lock = take_lock(dir)?;
    copy::sweep(dir);
    let path = dir.join(FILE);
    let (mut opening, mut reserve) = (Reserve::for_opening(dir), Reserve::for_deletions(dir));
    let (writer, reader) = match connect(&path) {
        Err(StoreError::Full { .. } | StoreError::Open { .. }) if opening.release() || reserve.release() => {
            connect(&path)?
        }
        other => other?,
    };
    let view = load(&writer, &path, window)?;
    let number = |name| schema::meta(&writer, name)?.ok_or_else(|| corrupt(&path, format!("its {name} is missing")));
    let (identity, compacted) = (number("identity")?, unsigned(number("compacted")?));
    let newest_at: Option<i64> =
        writer.query_row("SELECT at FROM log ORDER BY revision DESC LIMIT 1", [], |r| r.get(0)).optional()?;
    if let Err(error) = opening.fill().and_then(|()| reserve.fill()) {
        tracing::warn!(%error, "no space can be kept in reserve for deletions on a full disk");
    }
    Ok(Opened { path, writer, reader, view, identity, compacted, newest_at: newest_at.unwrap_or(0), reserve, lock })
}

/// The writing and the reading connection to a checked database of the newest schema.
fn connect(path: &Path) -> Result<(Connection, Connection), StoreError> {
    // SQLite gives its WAL and index the mode of the database file, so that has to be right first.
    private_file(path).map_err(|e| cannot_open(path, e))?;
    // Opening takes over what it can read of the log and forgets the rest, so this has to come first.
    let replayed = wal::check(path)?;
    let mut writer = Connection::open(path).map_err(|e| cannot_open(path, e))?;
    // Looked at first: what is not ours is not changed.
    let found = schema::find(&writer, path)?;
    configure(&writer).map_err(|e| refused(path, &e))?;
    schema::prepare(&mut writer, path, found)?;
    check(&writer, path)?;
    if replayed {
        // What a crash left starts no new log.
        settle(&writer).map_err(|e| refused(path, &e))?;
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let reader = Connection::open_with_flags(path, flags).map_err(|e| cannot_open(path, e))?;
    reader.busy_timeout(Duration::from_secs(5))?;
    // Opens the files: from now on reading needs nothing new.
    reader.query_row("SELECT count(*) FROM meta", [], |_| Ok(())).map_err(|e| refused(path, &e))?;
    Ok((writer, reader))
}

/// How long a process that is ending may hold the lock of the store.
const ENDING: std::time::Duration = std::time::Duration::from_secs(3);

/// Makes the directory and takes its lock.
pub(super) fn take_lock(dir: &Path) -> Result<File, StoreError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .and_then(|()| std::fs::set_permissions(dir, Permissions::from_mode(0o700)))
        .map_err(|e| cannot_open(dir, e))?;
    let path = dir.join("store.lock");
    let lock = private_file(&path).map_err(|e| cannot_open(&path, e))?;
    let deadline = std::time::Instant::now() + ENDING;
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(lock),
            // A process that is ending holds it to its last moment, and there is no event for that.
            Err(std::fs::TryLockError::WouldBlock) if std::time::Instant::now() < deadline => {
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
            Err(std::fs::TryLockError::WouldBlock) => return Err(StoreError::Locked { path: dir.to_owned() }),
            Err(std::fs::TryLockError::Error(e)) => return Err(cannot_open(&path, e)),
        }
    }
}

/// Opens a file, made 0600 if it is new, tightened if it is old.
pub(super) fn private_file(path: &Path) -> std::io::Result<File> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(std::io::Error::new(ErrorKind::InvalidInput, "not a regular file"));
    }
    if metadata.permissions().mode() & 0o077 != 0 {
        file.set_permissions(Permissions::from_mode(0o600))?;
    }
    Ok(file)
}

fn configure(db: &Connection) -> rusqlite::Result<()> {
    db.busy_timeout(Duration::from_secs(5))?;
    db.pragma_update(None, "journal_mode", "WAL")?;
    db.pragma_update(None, "synchronous", "FULL")?;
    db.pragma_update(None, "wal_autocheckpoint", 1000)?;
    db.pragma_update(None, "journal_size_limit", 8 << 20)?;
    db.pragma_update(None, "cache_size", -2048)
}

/// Takes the write-ahead log into the database file.
pub(super) fn settle(db: &Connection) -> rusqlite::Result<()> {
    db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
}

/// SQLite's own check, and that every current object has its bytes.
pub(super) fn check(db: &Connection, path: &Path) -> Result<(), StoreError> {
    let fail = |e: rusqlite::Error| refused(path, &e);
    let verdict: String = db.query_row("PRAGMA quick_check(1)", [], |r| r.get(0)).map_err(fail)?;
    if verdict != "ok" {
        return Err(corrupt(path, verdict));
    }
    let lost: Option<String> = db
        .query_row(
            "SELECT c.bucket || ' ' || c.namespace || ' ' || c.name FROM current c \
             LEFT JOIN log l ON l.revision = c.revision WHERE l.revision IS NULL OR l.kind = 2 \
             OR (l.bucket, l.namespace, l.name) <> (c.bucket, c.namespace, c.name) LIMIT 1",
            [],
            |r| r.get(0),
        )
        .optional()
        .map_err(fail)?;
    lost.map_or(Ok(()), |key| Err(corrupt(path, format!("the value of {key} is missing"))))
}

/// The newest revision, and the objects that are there now.
pub(super) fn state(db: &Connection) -> rusqlite::Result<(Revision, Vec<super::Entry>)> {
    let mut select = db.prepare(
        "SELECT l.revision, l.bucket, l.namespace, l.name, l.value, l.sum \
         FROM current c JOIN log l ON l.revision = c.revision",
    )?;
    let entries = select.query_map([], log::entry)?.collect::<Result<_, _>>()?;
    Ok((newest(db)?, entries))
}

/// The newest revision.
pub(super) fn newest(db: &Connection) -> rusqlite::Result<Revision> {
    let logged: Option<i64> = db.query_row("SELECT max(revision) FROM log", [], |r| r.get(0))?;
    let recorded = schema::meta(db, "revision")?;
    Ok(unsigned(logged.max(recorded).unwrap_or(0)))
}

fn load(db: &Connection, path: &Path, window: usize) -> Result<View, StoreError> {
    let (revision, entries) = state(db).map_err(|e| refused(path, &e))?;
    let mut objects = BTreeMap::new();
    let mut buckets: BTreeMap<String, Arc<str>> = BTreeMap::new();
    for mut entry in entries {
        // All keys of a bucket share its name.
        let bucket = buckets.entry(entry.key.bucket.to_string()).or_insert_with(|| Arc::clone(&entry.key.bucket));
        entry.key.bucket = Arc::clone(bucket);
        objects.insert(entry.key.clone(), Arc::new(entry));
    }
    let floor = schema::meta(db, "floor")?.ok_or_else(|| corrupt(path, "its floor is missing"))?;
    Ok(View::new(revision, unsigned(floor), objects, window))
}

/// What an error of SQLite means for the database `path`.
pub(super) fn refused(path: &Path, error: &rusqlite::Error) -> StoreError {
    use rusqlite::ErrorCode::{CannotOpen, DatabaseCorrupt, DiskFull, NotADatabase, ReadOnly, SystemIoFailure};
    match error {
        rusqlite::Error::FromSqlConversionFailure(_, _, cause) => return corrupt(path, cause.to_string()),
        // What we ask is right for tables as we made them.
        rusqlite::Error::InvalidColumnType(..)
        | rusqlite::Error::Utf8Error(..)
        | rusqlite::Error::SqlInputError { .. } => {
            return corrupt(path, error.to_string());
        }
        _ => {}
    }
    let code = error.sqlite_error().map_or(0, |e| e.extended_code);
    match error.sqlite_error_code() {
        Some(DatabaseCorrupt | NotADatabase) => corrupt(path, error.to_string()),
        Some(DiskFull) => StoreError::Full { path: path.to_owned() },
        // The index of the write-ahead log could not be made larger.
        Some(SystemIoFailure) if code == rusqlite::ffi::SQLITE_IOERR_SHMSIZE => {
            StoreError::Full { path: path.to_owned() }
        }
        Some(ReadOnly) => cannot_write(path, "the file or its file system is read-only"),
        Some(SystemIoFailure) => cannot_write(path, &format!("{error} (SQLite's code {code}); see the system's log")),
        Some(CannotOpen) => cannot_open(path, error),
        _ => StoreError::Io(format!("{}: {error}", path.display())),
    }
}

fn cannot_write(path: &Path, why: &str) -> StoreError {
    StoreError::Io(format!("the disk of {} does not work: {why}", path.display()))
}

/// The file could not be opened.
pub(super) fn cannot_open(path: &Path, cause: impl std::fmt::Display) -> StoreError {
    StoreError::Open { path: path.to_owned(), cause: cause.to_string() }
}

/// The file is damaged.
pub(super) fn corrupt(path: &Path, detail: impl Into<String>) -> StoreError {
    let backups = path.parent().map(backup::known).unwrap_or_default();
    StoreError::Corrupt { path: path.to_owned(), detail: detail.into(), backups }
}
