//! The SQL side. Nothing here runs on an async thread.
//!
//! `log` has one row per change and holds the bytes; `current` names the row that is an object's present value. A
//! row that was superseded stays until the change that superseded it has fallen below the floor, so that every
//! kept change still knows what was before it.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, Transaction, params};

use super::error::StoreError;
use super::model::{Change, ChangeKind, Entry, Key, Revision};
use super::view::View;

/// Version of the tables below.
const SCHEMA: i64 = 1;

const TABLES: &str = "
    CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE log (
        revision INTEGER PRIMARY KEY,
        at INTEGER NOT NULL,
        kind INTEGER NOT NULL CHECK (kind BETWEEN 0 AND 2),
        bucket TEXT NOT NULL,
        namespace TEXT NOT NULL,
        name TEXT NOT NULL,
        previous INTEGER,
        value BLOB NOT NULL
    );
    CREATE TABLE current (
        bucket TEXT NOT NULL,
        namespace TEXT NOT NULL,
        name TEXT NOT NULL,
        revision INTEGER NOT NULL,
        PRIMARY KEY (bucket, namespace, name)
    ) WITHOUT ROWID;
    INSERT INTO meta VALUES ('schema', 1), ('floor', 0), ('revision', 0);
";

/// An opened database.
pub(super) struct Opened {
    pub(super) path: PathBuf,
    pub(super) writer: Connection,
    pub(super) reader: Connection,
    pub(super) view: View,
    /// Held while the store is open.
    pub(super) lock: File,
}

/// Opens or creates `dir/store.db`, checks it and reads the current objects.
pub(super) fn open(dir: &Path, window: usize) -> Result<Opened, StoreError> {
    let fail = |path: &Path, cause: String| StoreError::Open { path: path.to_owned(), cause };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .and_then(|()| std::fs::set_permissions(dir, Permissions::from_mode(0o700)))
        .map_err(|e| fail(dir, e.to_string()))?;
    let lock = take_lock(dir)?;
    let path = dir.join("store.db");
    // SQLite gives its WAL and index the mode of the database file, so that has to be right first.
    private_file(&path).map_err(|e| fail(&path, e.to_string()))?;

    let mut writer = Connection::open(&path).map_err(|e| fail(&path, e.to_string()))?;
    configure(&writer).map_err(|e| damaged_or_failed(&path, &e))?;
    prepare_schema(&mut writer, &path)?;
    check(&writer, &path)?;
    let view = load(&writer, &path, window)?;

    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let reader = Connection::open_with_flags(&path, flags).map_err(|e| fail(&path, e.to_string()))?;
    reader.busy_timeout(Duration::from_secs(5))?;
    Ok(Opened { path, writer, reader, view, lock })
}

fn take_lock(dir: &Path) -> Result<File, StoreError> {
    let path = dir.join("store.lock");
    let fail = |e: std::io::Error| StoreError::Open { path: path.clone(), cause: e.to_string() };
    let lock = private_file(&path).map_err(fail)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(std::fs::TryLockError::WouldBlock) => Err(StoreError::Locked { path: dir.to_owned() }),
        Err(std::fs::TryLockError::Error(e)) => Err(fail(e)),
    }
}

/// Opens a file, made 0600 if it is new, tightened if it is old.
fn private_file(path: &Path) -> std::io::Result<File> {
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

fn damaged_or_failed(path: &Path, error: &rusqlite::Error) -> StoreError {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
    match error.sqlite_error_code() {
        Some(DatabaseCorrupt | NotADatabase) => {
            StoreError::Corrupt { path: path.to_owned(), detail: error.to_string() }
        }
        _ => StoreError::Open { path: path.to_owned(), cause: error.to_string() },
    }
}

fn prepare_schema(db: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let fail = |e: rusqlite::Error| damaged_or_failed(path, &e);
    let tables: i64 = db.query_row("SELECT count(*) FROM sqlite_schema", [], |r| r.get(0)).map_err(fail)?;
    if tables == 0 {
        let tx = db.transaction().map_err(fail)?;
        tx.execute_batch(TABLES).map_err(fail)?;
        return tx.commit().map_err(fail);
    }
    let found = meta(db, "schema").map_err(fail)?;
    match found {
        Some(SCHEMA) => Ok(()),
        Some(found) if found > SCHEMA => Err(StoreError::Newer { path: path.to_owned(), found, known: SCHEMA }),
        found => Err(StoreError::Corrupt {
            path: path.to_owned(),
            detail: format!("its schema version is {found:?}, which no release has written"),
        }),
    }
}

fn meta(db: &Connection, name: &str) -> rusqlite::Result<Option<i64>> {
    db.query_row("SELECT value FROM meta WHERE name = ?", [name], |r| r.get(0)).optional()
}

/// SQLite's own check, and that every current object has its bytes.
fn check(db: &Connection, path: &Path) -> Result<(), StoreError> {
    let corrupt = |detail: String| StoreError::Corrupt { path: path.to_owned(), detail };
    let verdict: String =
        db.query_row("PRAGMA quick_check(1)", [], |r| r.get(0)).map_err(|e| damaged_or_failed(path, &e))?;
    if verdict != "ok" {
        return Err(corrupt(verdict));
    }
    let lost: Option<String> = db
        .query_row(
            "SELECT c.bucket || ' ' || c.namespace || ' ' || c.name FROM current c \
             LEFT JOIN log l ON l.revision = c.revision WHERE l.revision IS NULL LIMIT 1",
            [],
            |r| r.get(0),
        )
        .optional()?;
    lost.map_or(Ok(()), |key| Err(corrupt(format!("the value of {key} is missing"))))
}

fn load(db: &Connection, path: &Path, window: usize) -> Result<View, StoreError> {
    let mut objects = BTreeMap::new();
    let mut buckets: BTreeMap<String, Arc<str>> = BTreeMap::new();
    let mut select = db.prepare(
        "SELECT l.revision, l.bucket, l.namespace, l.name, l.value FROM current c JOIN log l ON l.revision = c.revision",
    )?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        let mut entry = entry(row)?;
        // All keys of a bucket share its name.
        let bucket = buckets.entry(entry.key.bucket.to_string()).or_insert_with(|| Arc::clone(&entry.key.bucket));
        entry.key.bucket = Arc::clone(bucket);
        objects.insert(entry.key.clone(), Arc::new(entry));
    }
    let newest: Option<i64> = db.query_row("SELECT max(revision) FROM log", [], |r| r.get(0))?;
    let recorded = meta(db, "revision")?;
    let floor = meta(db, "floor")?;
    let (Some(recorded), Some(floor)) = (recorded, floor) else {
        return Err(StoreError::Corrupt { path: path.to_owned(), detail: "its revision is missing".to_owned() });
    };
    Ok(View::new(unsigned(newest.unwrap_or(0).max(recorded)), unsigned(floor), objects, window))
}

fn unsigned(value: i64) -> Revision {
    Revision::try_from(value).unwrap_or(0)
}

/// A revision as SQLite stores it.
pub(super) fn signed(revision: Revision) -> i64 {
    i64::try_from(revision).unwrap_or(i64::MAX)
}

/// Columns revision, bucket, namespace, name, value.
fn entry(row: &Row<'_>) -> rusqlite::Result<Entry> {
    let text = |column| row.get_ref(column).and_then(|v| Ok(v.as_str()?));
    Ok(Entry {
        revision: unsigned(row.get(0)?),
        key: Key::new(text(1)?, text(2)?, text(3)?),
        bytes: row.get::<_, Vec<u8>>(4)?.into(),
    })
}

/// The entry that the log row `revision` holds.
fn row_at(db: &Connection, revision: i64) -> rusqlite::Result<Option<Entry>> {
    db.prepare_cached("SELECT revision, bucket, namespace, name, value FROM log WHERE revision = ?")?
        .query_row([revision], entry)
        .optional()
}

/// Adds one change to a transaction; `at` is milliseconds since the epoch.
pub(super) fn append(tx: &Transaction<'_>, change: &Change, at: i64) -> rusqlite::Result<()> {
    let Entry { key, revision, bytes } = &*change.entry;
    let kind = match change.kind {
        ChangeKind::Added => 0,
        ChangeKind::Modified => 1,
        ChangeKind::Deleted => 2,
    };
    let previous = change.previous.as_ref().map(|p| signed(p.revision));
    tx.prepare_cached("INSERT INTO log VALUES (?, ?, ?, ?, ?, ?, ?, ?)")?.execute(params![
        signed(*revision),
        at,
        kind,
        &*key.bucket,
        &*key.namespace,
        &*key.name,
        previous,
        &bytes[..],
    ])?;
    let names = params![&*key.bucket, &*key.namespace, &*key.name, signed(*revision)];
    match change.kind {
        ChangeKind::Deleted => tx
            .prepare_cached("DELETE FROM current WHERE bucket = ?1 AND namespace = ?2 AND name = ?3 AND ?4 = ?4")?
            .execute(names)?,
        ChangeKind::Added | ChangeKind::Modified => {
            tx.prepare_cached("INSERT OR REPLACE INTO current VALUES (?, ?, ?, ?)")?.execute(names)?
        }
    };
    Ok(())
}

/// At most `limit` changes after `from`, of a bucket and perhaps namespace, and the revision up to which the log
/// has been read for them.
pub(super) fn changes_after(
    db: &Connection,
    bucket: Option<&str>,
    namespace: Option<&str>,
    from: Revision,
    limit: usize,
) -> Result<(Vec<Arc<Change>>, Revision), StoreError> {
    let mut select = db.prepare_cached(
        "SELECT revision, bucket, namespace, name, value, kind, previous FROM log \
         WHERE revision > ? ORDER BY revision LIMIT ?",
    )?;
    let mut rows = select.query(params![signed(from), i64::try_from(limit).unwrap_or(i64::MAX)])?;
    let (mut changes, mut seen) = (Vec::new(), from);
    while let Some(row) = rows.next()? {
        seen = unsigned(row.get(0)?);
        let same_bucket = bucket.is_none_or(|b| row.get_ref(1).is_ok_and(|v| v.as_str().is_ok_and(|v| v == b)));
        let same_namespace = namespace.is_none_or(|n| row.get_ref(2).is_ok_and(|v| v.as_str().is_ok_and(|v| v == n)));
        if !(same_bucket && same_namespace) {
            continue;
        }
        let kind = match row.get::<_, i64>(5)? {
            0 => ChangeKind::Added,
            1 => ChangeKind::Modified,
            _ => ChangeKind::Deleted,
        };
        let previous = match row.get::<_, Option<i64>>(6)? {
            Some(revision) => row_at(db, revision)?.map(Arc::new),
            None => None,
        };
        changes.push(Arc::new(Change::new(kind, Arc::new(entry(row)?), previous)));
    }
    Ok((changes, seen))
}

/// The objects of a bucket at `revision`: what is current, each later change undone.
pub(super) fn list_at(
    db: &Connection,
    bucket: &str,
    namespace: Option<&str>,
    revision: Revision,
) -> Result<Vec<Arc<Entry>>, StoreError> {
    // One read transaction: the two queries must see the same state.
    let tx = db.unchecked_transaction()?;
    let mut rows_of: BTreeMap<(String, String), i64> = BTreeMap::new();
    let mut current = tx.prepare_cached(
        "SELECT namespace, name, revision FROM current WHERE bucket = ?1 AND (?2 IS NULL OR namespace = ?2)",
    )?;
    let mut rows = current.query(params![bucket, namespace])?;
    while let Some(row) = rows.next()? {
        rows_of.insert((row.get(0)?, row.get(1)?), row.get(2)?);
    }
    let mut later = tx.prepare_cached(
        "SELECT namespace, name, previous FROM log WHERE revision > ?3 AND bucket = ?1 \
         AND (?2 IS NULL OR namespace = ?2) ORDER BY revision DESC",
    )?;
    let mut rows = later.query(params![bucket, namespace, signed(revision)])?;
    while let Some(row) = rows.next()? {
        let key = (row.get(0)?, row.get(1)?);
        match row.get::<_, Option<i64>>(2)? {
            Some(previous) => rows_of.insert(key, previous),
            None => rows_of.remove(&key),
        };
    }
    let mut entries = Vec::with_capacity(rows_of.len());
    for row in rows_of.into_values() {
        entries.extend(row_at(&tx, row)?.map(Arc::new));
    }
    Ok(entries)
}

/// The revision up to which history may go: changes older than `before` (milliseconds since the epoch), but never
/// one of the newest `keep`.
pub(super) fn compaction_floor(
    db: &Connection,
    newest: Revision,
    before: i64,
    keep: u64,
) -> rusqlite::Result<Revision> {
    let young: Option<i64> = db.query_row("SELECT min(revision) FROM log WHERE at >= ?", [before], |r| r.get(0))?;
    // The state just before the first young change must stay askable.
    let by_age = young.map_or(newest, |first| unsigned(first).saturating_sub(1));
    Ok(by_age.min(newest.saturating_sub(keep)))
}

/// Drops what only changes in `(from, to]` needed, at most `limit` rows of the log at a time; gives the revision
/// that is done. `to` is recorded as the floor first.
pub(super) fn compact(
    db: &mut Connection,
    from: Revision,
    to: Revision,
    limit: u64,
    newest: Revision,
) -> rusqlite::Result<Revision> {
    let until = to.min(from.saturating_add(limit));
    let tx = db.transaction()?;
    tx.execute("UPDATE meta SET value = ? WHERE name = 'floor'", [signed(to)])?;
    tx.execute("UPDATE meta SET value = ? WHERE name = 'revision'", [signed(newest)])?;
    let range = params![signed(from), signed(until)];
    tx.execute(
        "DELETE FROM log WHERE revision IN \
         (SELECT previous FROM log WHERE revision > ? AND revision <= ? AND previous IS NOT NULL)",
        range,
    )?;
    tx.execute("DELETE FROM log WHERE revision > ? AND revision <= ? AND kind = 2", range)?;
    tx.commit()?;
    Ok(until)
}

/// How far compaction has really got, so that one that was interrupted is taken up again.
pub(super) fn compacted_to(db: &Connection) -> rusqlite::Result<Revision> {
    let oldest: Option<i64> = db.query_row(
        "SELECT min(revision) FROM log WHERE kind = 2 OR previous IS NOT NULL AND EXISTS \
         (SELECT 1 FROM log p WHERE p.revision = log.previous)",
        [],
        |r| r.get(0),
    )?;
    Ok(unsigned(oldest.unwrap_or(1)).saturating_sub(1))
}

/// An online copy.
pub(super) fn backup(db: &Connection, path: &Path) -> Result<(), StoreError> {
    if path.exists() {
        return Err(StoreError::Io(format!("{} exists already", path.display())));
    }
    private_file(path).map_err(|e| StoreError::Io(format!("{}: {e}", path.display())))?;
    let mut target = Connection::open(path)?;
    let copy = rusqlite::backup::Backup::new(db, &mut target)?;
    Ok(copy.run_to_completion(256, Duration::ZERO, None)?)
}
