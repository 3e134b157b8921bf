//! The tables, and how older ones become them: numbered steps, each from one version to the next. A fresh database
//! goes through the same steps as one of the first release, so that there is one way to make the newest tables.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension, Transaction};

use super::error::StoreError;
use super::{copy, db, log};

/// Says in the file's header (`PRAGMA application_id`, what `file` shows) that it is ours: "VMDS".
const APPLICATION_ID: i64 = 0x564d_4453;

/// Version of the tables that this program works with.
pub(super) const SCHEMA: i64 = 1 + STEPS.len() as i64;

/// The tables of version 1.
const FIRST: &str = "
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

/// One step of the way.
type Step = fn(&Transaction<'_>) -> rusqlite::Result<()>;

/// `STEPS[n]` makes version `n + 2` of version `n + 1`. Never changed once released; new ones go to the end, with a
/// database of the version before in `tests/fixtures/store`.
const STEPS: &[Step] = &[identity_sums_and_order];

/// To version 2: whose file it is and which store (`identity`), a checksum of each row, how far compaction has got
/// (it had to be searched for before), and times that never go back, which is what finding old rows relies on.
fn identity_sums_and_order(tx: &Transaction<'_>) -> rusqlite::Result<()> {
    tx.pragma_update(None, "application_id", APPLICATION_ID)?;
    tx.execute_batch(
        "ALTER TABLE log ADD COLUMN sum INTEGER NOT NULL DEFAULT 0;
         UPDATE log SET at = ordered.at
             FROM (SELECT revision AS r, max(at) OVER (ORDER BY revision) AS at FROM log) AS ordered
             WHERE ordered.r = log.revision AND ordered.at > log.at;
         INSERT INTO meta VALUES ('compacted', (SELECT coalesce(min(revision), 1) - 1 FROM log
             WHERE kind = 2 OR previous IS NOT NULL AND EXISTS (SELECT 1 FROM log p WHERE p.revision = log.previous)));",
    )?;
    tx.execute("INSERT INTO meta VALUES ('identity', ?)", [new_identity()])?;
    let sums: Vec<(i64, i64)> = tx
        .prepare("SELECT revision, bucket, namespace, name, value FROM log")?
        .query_map([], |row| log::unchecked_entry(row).map(|e| (log::sum(&e), log::signed(e.revision))))?
        .collect::<Result<_, _>>()?;
    let mut update = tx.prepare("UPDATE log SET sum = ? WHERE revision = ?")?;
    sums.into_iter().try_for_each(|pair| update.execute(pair).map(drop))
}

/// Names one store among all: another one for each that was made or restored.
pub(super) fn new_identity() -> i64 {
    i64::try_from(rand::random::<u64>() >> 1).unwrap_or(1)
}

/// Whose a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// There is nothing in it yet.
    Empty,
    /// Tables of this version, which is not beyond [`SCHEMA`].
    Version(i64),
}

/// Looks at a database without changing it.
pub(super) fn find(db: &Connection, path: &Path) -> Result<Found, StoreError> {
    let fail = |e: rusqlite::Error| db::refused(path, &e);
    let foreign = |detail: &str| StoreError::Foreign { path: path.to_owned(), detail: detail.to_owned() };
    let tables: i64 = db.query_row("SELECT count(*) FROM sqlite_schema", [], |r| r.get(0)).map_err(fail)?;
    let id: i64 = db.query_row("PRAGMA application_id", [], |r| r.get(0)).map_err(fail)?;
    if tables == 0 && id == 0 {
        return Ok(Found::Empty);
    }
    if id != 0 && id != APPLICATION_ID {
        return Err(foreign("another program made this SQLite database"));
    }
    let ours: i64 = db
        .query_row("SELECT count(*) FROM sqlite_schema WHERE name IN ('meta', 'log', 'current')", [], |r| r.get(0))
        .map_err(fail)?;
    if ours != 3 {
        return Err(foreign("this SQLite database has other tables"));
    }
    match meta(db, "schema").map_err(fail)? {
        Some(found) if found > SCHEMA => Err(StoreError::Newer { path: path.to_owned(), found, known: SCHEMA }),
        Some(1) => Ok(Found::Version(1)),
        Some(found) if found > 1 && id == APPLICATION_ID => Ok(Found::Version(found)),
        found => Err(db::corrupt(path, format!("its schema version is {found:?}, which no release has written"))),
    }
}

/// Makes the newest tables, of nothing or of older ones, in one transaction.
pub(super) fn bring_up(db: &mut Connection, path: &Path, found: Found) -> Result<(), StoreError> {
    let fail = |e: rusqlite::Error| db::refused(path, &e);
    if found == Found::Version(SCHEMA) {
        return Ok(());
    }
    let tx = db.transaction().map_err(fail)?;
    let version = match found {
        Found::Empty => {
            tx.execute_batch(FIRST).map_err(fail)?;
            1
        }
        Found::Version(version) => version,
    };
    let done = usize::try_from(version - 1).unwrap_or(0);
    for step in STEPS.iter().skip(done) {
        step(&tx).map_err(fail)?;
    }
    set_meta(&tx, "schema", SCHEMA).map_err(fail)?;
    tx.commit().map_err(fail)
}

/// As [`bring_up`], for the store itself: before tables change, the database is kept as `store.db.vN`.
pub(super) fn prepare(db: &mut Connection, path: &Path, found: Found) -> Result<(), StoreError> {
    if let Found::Version(version) = found
        && version < SCHEMA
    {
        let kept = path.with_extension(format!("db.v{version}"));
        copy::replace_by_copy(db, &kept)
            .map_err(|e| db::cannot_open(path, format!("it has to be migrated, and a copy cannot be kept: {e}")))?;
        tracing::info!(from = version, to = SCHEMA, kept = %kept.display(), "migrating the state database");
    }
    bring_up(db, path, found)
}

/// A number that the database keeps about itself.
pub(super) fn meta(db: &Connection, name: &str) -> rusqlite::Result<Option<i64>> {
    db.prepare_cached("SELECT value FROM meta WHERE name = ?")?.query_row([name], |r| r.get(0)).optional()
}

/// Sets one.
pub(super) fn set_meta(db: &Connection, name: &str, value: i64) -> rusqlite::Result<()> {
    db.prepare_cached("INSERT OR REPLACE INTO meta VALUES (?1, ?2)")?.execute((name, value)).map(drop)
}
