//! The daemon's log file: grows to a limit, then the file before it is replaced.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

/// Bytes of one file; there are two.
const LIMIT: u64 = 8 << 20;

/// A writer for `tracing-subscriber`. Clones share the file.
#[derive(Clone)]
pub struct LogFile {
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    path: PathBuf,
    file: File,
    size: u64,
    limit: u64,
}

impl LogFile {
    /// Opens the file for appending.
    pub fn open(path: &Path) -> std::io::Result<Self> {
        Self::with_limit(path, LIMIT)
    }

    fn with_limit(path: &Path, limit: u64) -> std::io::Result<Self> {
        let file = append(path)?;
        let size = file.metadata()?.len();
        Ok(Self { inner: Arc::new(Mutex::new(Inner { path: path.to_path_buf(), file, size, limit })) })
    }
}

fn append(path: &Path) -> std::io::Result<File> {
    File::options().append(true).create(true).mode(0o600).open(path)
}

impl Write for LogFile {
    fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
        let mut inner = self.inner.lock();
        if inner.size > 0 && inner.size + data.len() as u64 > inner.limit {
            let old = inner.path.with_extension("log.1");
            std::fs::rename(&inner.path, old)?;
            inner.file = append(&inner.path)?;
            inner.size = 0;
        }
        inner.file.write_all(data)?;
        inner.size += data.len() as u64;
        Ok(data.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.lock().file.flush()
    }
}

impl tracing_subscriber::fmt::MakeWriter<'_> for LogFile {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

/// Log level of the daemon: `VMDECK_LOG`, else our own `info` and others' warnings.
pub fn filter() -> tracing_subscriber::EnvFilter {
    tracing_subscriber::EnvFilter::try_from_env("VMDECK_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn,vmdeck=info"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_file_becomes_the_one_before() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("host.log");
        let mut log = LogFile::with_limit(&path, 10).unwrap();
        for text in ["12345678\n", "abc\n", "d\n"] {
            log.write_all(text.as_bytes()).unwrap();
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "abc\nd\n");
        assert_eq!(std::fs::read_to_string(dir.path().join("host.log.1")).unwrap(), "12345678\n");
    }
}
