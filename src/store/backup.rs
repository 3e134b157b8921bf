//! Backups: a copy in one file, made while the store is used by another process, and taking one back.
//!
//! What clients know must never come again with another meaning: a store that was restored goes on counting above
//! everything that the replaced one may have given out, every object gets a new revision, and history begins anew
//! (old watches are told so and list again).

use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rusqlite::{Connection, OpenFlags};

use super::error::StoreError;
use super::log::signed;
use super::model::{Body, Change, ChangeKind, Entry, Revision};
use super::schema::{self, Found};
use super::{clock, copy, copy::Draft, db, log, wal};

/// Distance from the newest revision that the replaced store can be asked for.
const STEP: Revision = 1_000_000;
/// Distance where it cannot be asked, because it is damaged or gone: more than a year of uninterrupted writing.
const LEAP: Revision = 1 << 40;

/// Where backups were put, one path a line.
const LIST: &str = "store.backups";
/// How many are remembered.
const REMEMBERED: usize = 10;
/// How many an error message names.
const NAMED: usize = 3;

/// What is in a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contents {
    /// Number of objects.
    pub objects: usize,
    /// The newest revision.
    pub revision: Revision,
    /// When it was made, milliseconds since the epoch; unknown for a copy that [`backup`] did not make.
    pub made: Option<i64>,
}

/// Copies the database `source`, which may be in use, to the new file `target` (0600) and checks the copy.
///
/// # Errors
/// [`StoreError`]; there is no `target` then.
pub fn backup(source: &Path, target: &Path) -> Result<Contents, StoreError> {
    let write = |e: std::io::Error| StoreError::Backup(format!("cannot write the backup {}: {e}", target.display()));
    if target.symlink_metadata().is_ok() {
        return Err(StoreError::Backup(format!(
            "{} exists already and is not overwritten: choose another name",
            target.display()
        )));
    }
    if !source.exists() {
        return Err(StoreError::Backup(format!("there is no state database {} to be backed up", source.display())));
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let from = Connection::open_with_flags(source, flags).map_err(|e| db::cannot_open(source, e))?;
    from.busy_timeout(std::time::Duration::from_secs(5))?;
    if schema::find(&from, source)? == Found::Empty {
        return Err(StoreError::Backup(format!("the state database {} is empty", source.display())));
    }
    let draft = Draft::beside(target).map_err(write)?;
    let failed = |e: rusqlite::Error| match db::refused(target, &e) {
        StoreError::Full { .. } => {
            StoreError::Backup(format!("cannot write the backup {}: no space is left on its disk", target.display()))
        }
        _ => db::refused(source, &e),
    };
    let mut copied = copy::copy(&from, draft.path()).map_err(failed)?;
    let found = schema::find(&copied, source)?;
    schema::bring_up(&mut copied, source, found)?;
    let made = clock::wall();
    schema::set_meta(&copied, "made", made).map_err(failed)?;
    db::check(&copied, source)?;
    let (revision, entries) = db::state(&copied).map_err(|e| db::refused(source, &e))?;
    copied.close().map_err(|(_, e)| failed(e))?;
    draft.publish(target).map_err(write)?;
    if let Some(dir) = source.parent() {
        remember(dir, target);
    }
    Ok(Contents { objects: entries.len(), revision, made: Some(made) })
}

/// Notes where a backup is; a message about a damaged store names it. Not worth failing for.
fn remember(dir: &Path, made: &Path) {
    let Ok(made) = std::path::absolute(made) else { return };
    let Some(line) = made.to_str().filter(|l| !l.contains('\n')) else { return };
    let list = dir.join(LIST);
    let before = std::fs::read_to_string(&list).unwrap_or_default();
    let mut lines: Vec<&str> = before.lines().filter(|l| *l != line).collect();
    lines.push(line);
    let kept = lines[lines.len().saturating_sub(REMEMBERED)..].join("\n") + "\n";
    let written = Draft::beside(&list).and_then(|draft| {
        std::fs::write(draft.path(), kept)?;
        draft.replace(&list)
    });
    if let Err(error) = written {
        tracing::warn!(%error, "the backup was made, but not noted in {}", list.display());
    }
}

/// The newest files that the store in `dir` could be restored from.
pub(super) fn known(dir: &Path) -> Vec<PathBuf> {
    let listed = std::fs::read_to_string(dir.join(LIST)).unwrap_or_default();
    let beside = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path()).filter(|path| {
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or("");
        (name.starts_with("store.db.v") || name.starts_with("store.db.replaced-")) && !name.ends_with("-wal")
    });
    let mut found: Vec<(SystemTime, PathBuf)> = listed
        .lines()
        .map(PathBuf::from)
        .chain(beside)
        .filter_map(|path| Some((std::fs::metadata(&path).ok()?.modified().ok()?, path)))
        .collect();
    found.sort_by(|a, b| b.cmp(a));
    found.dedup();
    found.into_iter().take(NAMED).map(|(_, path)| path).collect()
}

/// A backup that was read and found good.
#[derive(Debug)]
pub struct Backup {
    contents: Contents,
    entries: Vec<Entry>,
}

/// What a restore did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// The newest revision now.
    pub revision: Revision,
    /// Where the store that was there before is kept, if there was one.
    pub replaced: Option<PathBuf>,
}

impl Backup {
    /// Reads and checks a backup, of this schema or an older one. Works on a copy in `dir`; `file` stays as it is.
    ///
    /// # Errors
    /// [`StoreError::Foreign`], [`StoreError::Newer`], [`StoreError::Corrupt`], or it cannot be read.
    pub fn read(file: &Path, dir: &Path) -> Result<Self, StoreError> {
        let metadata = std::fs::metadata(file).map_err(|e| db::cannot_open(file, e))?;
        let present = std::fs::metadata(dir.join(db::FILE));
        if present.is_ok_and(|p| (p.dev(), p.ino()) == (metadata.dev(), metadata.ino())) {
            return Err(StoreError::Backup(format!(
                "{} is the state database itself, not a backup of it",
                file.display()
            )));
        }
        if !metadata.is_file() {
            return Err(db::cannot_open(file, "it is not a regular file"));
        }
        let mut magic = [0; 16];
        let begins = std::fs::File::open(file).and_then(|mut f| f.read_exact(&mut magic));
        if begins.is_err() || magic != *b"SQLite format 3\0" {
            let detail = "it does not begin as a database does".to_owned();
            return Err(StoreError::Foreign { path: file.to_owned(), detail });
        }
        let place =
            |e: std::io::Error| StoreError::Backup(format!("cannot copy {} to {}: {e}", file.display(), dir.display()));
        let draft = Draft::beside(&dir.join("store.db.restoring")).map_err(place)?;
        let log = wal::path_of(file);
        // A plain copy of a store may have a log beside it.
        if log.exists() {
            wal::check(file).map_err(|e| bad_backup(file, e))?;
            std::fs::copy(&log, wal::path_of(draft.path())).map_err(place)?;
        }
        std::io::copy(
            &mut std::fs::File::open(file).map_err(|e| db::cannot_open(file, e))?,
            &mut db::private_file(draft.path()).map_err(place)?,
        )
        .map_err(place)?;
        let mut copied = Connection::open(draft.path()).map_err(|e| db::cannot_open(file, e))?;
        let read = |copied: &mut Connection| {
            let found = schema::find(copied, file)?;
            if found == Found::Empty {
                let detail = "there is nothing in this database".to_owned();
                return Err(StoreError::Foreign { path: file.to_owned(), detail });
            }
            db::check(copied, file)?;
            schema::bring_up(copied, file, found)?;
            let (revision, entries) = db::state(copied).map_err(|e| db::refused(file, &e))?;
            let made = schema::meta(copied, "made")?;
            Ok(Self { contents: Contents { objects: entries.len(), revision, made }, entries })
        };
        read(&mut copied).map_err(|e| bad_backup(file, e))
    }

    /// What is in it.
    pub fn contents(&self) -> &Contents {
        &self.contents
    }

    #[cfg(test)]
    pub(super) fn revisions(&self) -> Vec<Revision> {
        self.entries.iter().map(|e| e.revision).collect()
    }

    /// Puts its objects into the place of the store in `dir`, which nobody may have open. `body` takes an object
    /// apart, so that it can be given a new revision. The store before is kept beside the new one.
    ///
    /// # Errors
    /// [`StoreError`]; the store is as it was then.
    pub fn replace(&self, dir: &Path, body: &dyn Fn(&Entry) -> Body) -> Result<Restored, StoreError> {
        let _lock = db::take_lock(dir)?;
        let path = dir.join(db::FILE);
        let before = settle(&path);
        let base = match before {
            Before::Readable(revision) => revision.max(self.contents.revision) + STEP,
            Before::Absent | Before::Unreadable => self.contents.revision + LEAP,
        };
        let failed = |e: std::io::Error| {
            StoreError::Backup(format!("cannot replace the state database {}: {e}", path.display()))
        };
        let draft = Draft::beside(&path).map_err(failed)?;
        let revision = self.write(draft.path(), &path, base, body)?;
        let replaced = match before {
            Before::Absent => None,
            Before::Readable(_) | Before::Unreadable => Some(set_aside(&path).map_err(failed)?),
        };
        draft.replace(&path).map_err(failed)?;
        Ok(Restored { revision, replaced })
    }

    /// Writes a fresh database whose objects have the revisions from `base + 1` on.
    fn write(
        &self,
        draft: &Path,
        path: &Path,
        base: Revision,
        body: &dyn Fn(&Entry) -> Body,
    ) -> Result<Revision, StoreError> {
        let fail = |e: rusqlite::Error| db::refused(path, &e);
        let mut fresh = Connection::open(draft).map_err(fail)?;
        schema::bring_up(&mut fresh, path, Found::Empty)?;
        let at = clock::wall();
        let tx = fresh.transaction().map_err(fail)?;
        let mut revision = base;
        for old in &self.entries {
            revision += 1;
            let entry = Entry { key: old.key.clone(), revision, bytes: body(old).render(revision) };
            log::append(&tx, &Change::new(ChangeKind::Added, entry.into(), None), at).map_err(fail)?;
        }
        for name in ["revision", "floor", "compacted"] {
            schema::set_meta(&tx, name, signed(revision)).map_err(fail)?;
        }
        tx.commit().map_err(fail)?;
        db::check(&fresh, path)?;
        fresh.close().map_err(|(_, e)| fail(e))?;
        Ok(revision)
    }
}

/// An error of reading a backup is about the backup, not about the store.
fn bad_backup(file: &Path, error: StoreError) -> StoreError {
    match error {
        StoreError::Corrupt { detail, .. } => StoreError::BadBackup { path: file.to_owned(), detail },
        other => other,
    }
}

/// The store that is to be replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Before {
    Absent,
    /// Its newest revision; it has no write-ahead log any more.
    Readable(Revision),
    Unreadable,
}

/// Brings the present store into one file and asks it how far it has got.
fn settle(path: &Path) -> Before {
    if std::fs::metadata(path).is_err_and(|e| e.kind() == ErrorKind::NotFound) && !wal::path_of(path).exists() {
        return Before::Absent;
    }
    let ask = || -> Result<Revision, StoreError> {
        wal::check(path)?;
        let db = Connection::open(path)?;
        db.pragma_update(None, "journal_mode", "DELETE")?;
        db::check(&db, path)?;
        Ok(db::newest(&db)?)
    };
    match ask() {
        Ok(revision) if !wal::path_of(path).exists() => Before::Readable(revision),
        Ok(_) => Before::Unreadable,
        Err(error) => {
            tracing::warn!(%error, "the store that is replaced cannot be read");
            Before::Unreadable
        }
    }
}

/// Keeps the present file, and its log where that could not be taken in, under a name with the time. The name of
/// the database itself stays until the new one takes it: there is a whole store at every moment.
fn set_aside(path: &Path) -> std::io::Result<PathBuf> {
    let stamp = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ");
    let kept = (0..100)
        .map(|n| {
            path.with_extension(if n == 0 {
                format!("db.replaced-{stamp}")
            } else {
                format!("db.replaced-{stamp}.{n}")
            })
        })
        .find(|kept| !kept.exists() && !wal::path_of(kept).exists())
        .ok_or_else(|| std::io::Error::other("too many replaced stores of this second"))?;
    match std::fs::rename(wal::path_of(path), wal::path_of(&kept)) {
        Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    match std::fs::hard_link(path, &kept) {
        Ok(()) => {}
        Err(e) if e.kind() == ErrorKind::NotFound => {}
        // A file system without links.
        Err(_) => drop(std::fs::copy(path, &kept)?),
    }
    let mut index = path.as_os_str().to_owned();
    index.push("-shm");
    std::fs::remove_file(index).ok();
    copy::sync_directory(path)?;
    Ok(kept)
}
