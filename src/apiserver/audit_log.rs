//! The file of the audit log: whole lines only, set aside by size, and an account of what could not be written.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Receiver;

use serde_json::{Value, json};

/// The file is set aside at this size.
const ROTATE_AT: u64 = 8 << 20;
/// Files that are set aside and kept, `audit.log.1` being the youngest.
const KEPT: u32 = 4;

/// Lines that found no place: in the queue or on the disk.
#[derive(Debug, Default)]
pub struct Losses {
    /// Since the start.
    total: AtomicU64,
    /// Not told in the log yet.
    untold: AtomicU64,
}

impl Losses {
    /// One more.
    pub fn count(&self) {
        self.total.fetch_add(1, Ordering::Relaxed);
        self.untold.fetch_add(1, Ordering::Relaxed);
    }

    /// Since the start.
    pub fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }
}

/// The file.
pub struct Log {
    path: PathBuf,
    file: File,
    size: u64,
    losses: Arc<Losses>,
    /// The last line could not be written, which has been told.
    broken: bool,
}

impl Log {
    /// Opens or makes it, for nobody but us (0600).
    ///
    /// # Errors
    /// When that cannot be done.
    pub fn open(path: &Path, losses: Arc<Losses>) -> io::Result<Self> {
        let (file, size) = open(path)?;
        Ok(Self { path: path.to_owned(), file, size, losses, broken: false })
    }

    /// Writes what comes until nothing can come any more. Requests go on where it cannot: a full disk must not keep
    /// anybody from deleting things. What is lost is counted, and told by the next line that can be written.
    pub fn run(&mut self, lines: &Receiver<Value>) {
        while let Ok(mut event) = lines.recv() {
            let untold = self.losses.untold.load(Ordering::Relaxed);
            if untold > 0 {
                event["annotations"]["vmdeck/lost-before"] = json!(untold.to_string());
            }
            let mut line = event.to_string();
            line.push('\n');
            match self.write(line.as_bytes()) {
                Ok(()) => {
                    self.losses.untold.fetch_sub(untold, Ordering::Relaxed);
                    if std::mem::take(&mut self.broken) {
                        tracing::warn!(lost = untold, path = %self.path.display(), "the audit log is written again");
                    }
                }
                Err(error) => {
                    self.losses.count();
                    if !std::mem::replace(&mut self.broken, true) {
                        tracing::error!(%error, path = %self.path.display(), "the audit log cannot be written");
                    }
                }
            }
        }
    }

    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        if self.size >= ROTATE_AT {
            self.set_aside()?;
        }
        if !self.in_place() {
            (self.file, self.size) = open(&self.path)?;
        }
        if let Err(error) = self.file.write_all(line) {
            // Half a line would spoil the next one, too.
            self.file.set_len(self.size).ok();
            return Err(error);
        }
        self.size += line.len() as u64;
        Ok(())
    }

    /// Whether the file is still the one with our name: somebody may have moved it away.
    fn in_place(&self) -> bool {
        let (Ok(there), Ok(ours)) = (std::fs::symlink_metadata(&self.path), self.file.metadata()) else { return false };
        (there.dev(), there.ino()) == (ours.dev(), ours.ino())
    }

    fn set_aside(&mut self) -> io::Result<()> {
        let name = |number: u32| {
            let mut name = self.path.as_os_str().to_owned();
            if number > 0 {
                name.push(format!(".{number}"));
            }
            PathBuf::from(name)
        };
        for number in (0..KEPT).rev() {
            match std::fs::rename(name(number), name(number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        (self.file, self.size) = open(&self.path)?;
        Ok(())
    }
}

/// Opens the file and ends a line that a killed process has left half written.
fn open(path: &Path) -> io::Result<(File, u64)> {
    let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
    let meta = file.metadata()?;
    if meta.is_file() && meta.permissions().mode() & 0o077 != 0 {
        file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
    }
    let mut size = meta.len();
    if size > 0 {
        let mut last = [0];
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
        if last != *b"\n" {
            file.write_all(b"\n")?;
            size += 1;
        }
    }
    Ok((file, size))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn the_file_is_set_aside_when_it_is_large_and_few_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.log");
        let mut log = Log::open(&path, Arc::default()).unwrap();
        for round in 0..KEPT + 3 {
            log.write(format!("round {round}\n").as_bytes()).unwrap();
            log.size = ROTATE_AT;
        }
        let mut found: Vec<(String, String)> = std::fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap())
            .map(|e| (e.file_name().into_string().unwrap(), std::fs::read_to_string(e.path()).unwrap()))
            .collect();
        found.sort();
        let want = [("", 6), (".1", 5), (".2", 4), (".3", 3), (".4", 2)];
        assert_eq!(found, want.map(|(end, round)| (format!("audit.log{end}"), format!("round {round}\n"))));
        assert!(std::fs::read_dir(dir.path()).unwrap().all(|e| mode(&e.unwrap().path()) == 0o600));
    }

    #[test]
    fn a_file_that_is_found_is_closed_to_others_and_its_torn_line_ended() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.log");
        std::fs::write(&path, "whole\nto").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let mut log = Log::open(&path, Arc::default()).unwrap();
        log.write(b"next\n").unwrap();
        assert_eq!((std::fs::read_to_string(&path).unwrap().as_str(), mode(&path)), ("whole\nto\nnext\n", 0o600));
        // Moved away by somebody: the next line makes a new one.
        std::fs::rename(&path, dir.path().join("elsewhere")).unwrap();
        log.write(b"more\n").unwrap();
        assert_eq!((std::fs::read_to_string(&path).unwrap().as_str(), mode(&path)), ("more\n", 0o600));
    }

    #[test]
    fn what_a_full_disk_loses_is_counted_and_told() {
        // Every write there ends with ENOSPC.
        let full = Path::new("/dev/full");
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.log");
        std::os::unix::fs::symlink(full, &path).unwrap();
        let losses = Arc::<Losses>::default();
        let file = OpenOptions::new().append(true).open(full).unwrap();
        let mut log = Log { path: path.clone(), file, size: 0, losses: Arc::clone(&losses), broken: false };
        let feed = |log: &mut Log, count: usize| {
            let (send, lines) = channel();
            (0..count).for_each(|n| send.send(json!({"n": n})).unwrap());
            drop(send);
            log.run(&lines);
        };
        feed(&mut log, 3);
        assert_eq!((losses.total(), log.broken), (3, true));
        std::fs::remove_file(&path).unwrap();
        feed(&mut log, 2);
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, "{\"n\":0,\"annotations\":{\"vmdeck/lost-before\":\"3\"}}\n{\"n\":1}\n");
        assert_eq!((losses.total(), log.broken), (3, false));
    }
}
