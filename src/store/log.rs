//! The log's rows: adding, reading, dropping.
//!
//! `log` has one row per change and holds the bytes; `current` names the row that is an object's present value. A
//! row that was superseded stays until the change that superseded it has fallen below the floor, so that every
//! kept change still knows what was before it.

use std::collections::BTreeMap;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

use super::error::StoreError;
use super::model::{Change, ChangeKind, Entry, Key, Revision};
use super::schema;

pub(super) fn unsigned(value: i64) -> Revision {
    Revision::try_from(value).unwrap_or(0)
}

/// A revision as SQLite stores it.
pub(super) fn signed(revision: Revision) -> i64 {
    i64::try_from(revision).unwrap_or(i64::MAX)
}

/// A stored value is not what was written.
#[derive(Debug, thiserror::Error)]
#[error("the value of {bucket} {namespace} {name} at revision {revision} has changed since it was written")]
struct Altered {
    bucket: Arc<str>,
    namespace: Arc<str>,
    name: Arc<str>,
    revision: Revision,
}

/// The checksum of a row: of its key, its revision and its value.
pub(super) fn sum(entry: &Entry) -> i64 {
    let mut sum = flate2::Crc::new();
    for part in [&entry.key.bucket, &entry.key.namespace, &entry.key.name] {
        sum.update(part.as_bytes());
        sum.update(b"\0");
    }
    sum.update(&entry.revision.to_le_bytes());
    sum.update(&entry.bytes);
    i64::from(sum.sum())
}

/// Columns revision, bucket, namespace, name, value, sum.
pub(super) fn entry(row: &Row<'_>) -> rusqlite::Result<Entry> {
    let entry = unchecked_entry(row)?;
    if row.get::<_, i64>(5)? == sum(&entry) {
        return Ok(entry);
    }
    let Entry { key: Key { bucket, namespace, name }, revision, .. } = entry;
    let altered = Altered { bucket, namespace, name, revision };
    Err(rusqlite::Error::FromSqlConversionFailure(4, rusqlite::types::Type::Blob, Box::new(altered)))
}

/// Columns revision, bucket, namespace, name, value.
pub(super) fn unchecked_entry(row: &Row<'_>) -> rusqlite::Result<Entry> {
    let text = |column| row.get_ref(column).and_then(|v| Ok(v.as_str()?));
    Ok(Entry {
        revision: unsigned(row.get(0)?),
        key: Key::new(text(1)?, text(2)?, text(3)?),
        bytes: row.get::<_, Vec<u8>>(4)?.into(),
    })
}

/// The entry that the log row `revision` holds.
fn row_at(db: &Connection, revision: i64) -> rusqlite::Result<Option<Entry>> {
    db.prepare_cached("SELECT revision, bucket, namespace, name, value, sum FROM log WHERE revision = ?")?
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
    tx.prepare_cached("INSERT INTO log VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)")?.execute(params![
        signed(*revision),
        at,
        kind,
        &*key.bucket,
        &*key.namespace,
        &*key.name,
        previous,
        &bytes[..],
        sum(&change.entry),
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
        "SELECT revision, bucket, namespace, name, value, sum, kind, previous FROM log \
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
        let kind = match row.get::<_, i64>(6)? {
            0 => ChangeKind::Added,
            1 => ChangeKind::Modified,
            _ => ChangeKind::Deleted,
        };
        let previous = match row.get::<_, Option<i64>>(7)? {
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

/// The revision up to which history may go: changes older than `before` (as `at`, which never goes back from one row
/// to the next), but never one of the newest `keep`. Looks at a few rows only, however many there are.
pub(super) fn compaction_floor(
    db: &Connection,
    compacted: Revision,
    newest: Revision,
    before: i64,
    keep: u64,
) -> rusqlite::Result<Revision> {
    let limit = newest.saturating_sub(keep);
    let mut first = db.prepare_cached("SELECT at FROM log WHERE revision >= ? ORDER BY revision LIMIT 1")?;
    let mut is_old = |revision: Revision| -> rusqlite::Result<bool> {
        let at: Option<i64> = first.query_row([signed(revision)], |r| r.get(0)).optional()?;
        Ok(at.is_some_and(|at| at < before))
    };
    // All up to `old` is old; nothing from `young` on is, or it must be kept anyway.
    let (mut old, mut young) = (compacted, limit.max(compacted) + 1);
    while young - old > 1 {
        let middle = old + (young - old) / 2;
        if is_old(middle)? { old = middle } else { young = middle }
    }
    Ok(old)
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
    for (name, value) in [("floor", to), ("revision", newest), ("compacted", until)] {
        schema::set_meta(&tx, name, signed(value))?;
    }
    let range = params![signed(from), signed(until)];
    tx.prepare_cached(
        "DELETE FROM log WHERE revision IN \
         (SELECT previous FROM log WHERE revision > ? AND revision <= ? AND previous IS NOT NULL)",
    )?
    .execute(range)?;
    tx.prepare_cached("DELETE FROM log WHERE revision > ? AND revision <= ? AND kind = 2")?.execute(range)?;
    tx.commit()?;
    Ok(until)
}
