//! gz, xz and zst files, written out with holes where there are only zeroes.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::VolumeFailure;
use super::disk_image::Compression;
use super::room::Room;
use super::volume_job::Failure;

/// A block of zeroes of this size becomes a hole.
const BLOCK: usize = 64 << 10;

/// Memory that an xz stream may ask for, in KiB. The largest preset needs 64 MiB.
const XZ_MEMORY: u32 = 512 << 10;

/// Window that a zstd frame may ask for; `zstd --ultra --long=27` needs 128 MiB.
const ZSTD_WINDOW: usize = 512 << 20;

/// Longest content: what the common file systems take. Zeroes cost no room, so a small file can claim any length.
const LONGEST: u64 = 16 << 40;

/// Tells work on a blocking thread that nobody waits for it any more.
#[derive(Debug, Default)]
pub(super) struct Stopper(Arc<AtomicBool>);

impl Stopper {
    /// What the work looks at.
    pub(super) fn flag(&self) -> Stopped {
        Stopped(self.0.clone())
    }
}

impl Drop for Stopper {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Whether to stop.
#[derive(Debug, Clone)]
pub(super) struct Stopped(Arc<AtomicBool>);

/// A reader that ends with an error when nobody waits for it any more, or when it gives more than anybody wants.
pub(super) struct Guarded<R> {
    inner: R,
    left: u64,
    stopped: Stopped,
}

impl<R> Guarded<R> {
    /// Around `inner`.
    pub(super) fn new(inner: R, stopped: Stopped) -> Self {
        Self { inner, left: LONGEST, stopped }
    }
}

impl<R: Read> Read for Guarded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.stopped.0.load(Ordering::Relaxed) {
            return Err(io::Error::other("given up"));
        }
        let length = self.inner.read(buffer)?;
        self.left = self.left.checked_sub(length as u64).ok_or_else(|| io::Error::other("it has no end"))?;
        Ok(length)
    }
}

/// A reader of what is in the compressed bytes, or of the bytes themselves.
pub(super) fn reader(compression: Option<Compression>, source: impl BufRead + Send + 'static) -> Box<dyn Read + Send> {
    match compression {
        None => Box::new(source),
        Some(Compression::Gzip) => Box::new(flate2::bufread::MultiGzDecoder::new(source)),
        Some(Compression::Xz) => Box::new(lzma_rust2::XzReader::new_mem_limit(source, true, XZ_MEMORY)),
        Some(Compression::Zstd) => Box::new(Zstd { source, frame: None }),
    }
}

/// Unpacks `from` into `to`. Not for an async thread.
pub(super) fn unpack(compression: Compression, from: &Path, to: &Path, stopped: &Stopped) -> Result<(), Failure> {
    let file = File::open(from).map_err(|error| Failure::io("cannot read the content", &error))?;
    store(&mut reader(Some(compression), BufReader::with_capacity(BLOCK, file)), to, stopped)
}

/// Writes all that `source` gives into the file `to`, which is made. Not for an async thread.
pub(super) fn store(source: &mut dyn Read, to: &Path, stopped: &Stopped) -> Result<(), Failure> {
    let file = File::create(to).map_err(|error| Failure::io(WRITING, &error))?;
    let mut target = Target { file, path: to.to_owned(), room: Room::default(), stopped: stopped.clone() };
    sparse(source, &mut target, LONGEST)
}

const WRITING: &str = "cannot store the unpacked content";

struct Target {
    file: File,
    path: PathBuf,
    room: Room,
    stopped: Stopped,
}

/// Copies, leaving holes. A reading error is the content's fault, a writing error the disk's.
fn sparse(source: &mut dyn Read, target: &mut Target, longest: u64) -> Result<(), Failure> {
    let mut block = vec![0_u8; BLOCK];
    let mut length = 0_u64;
    loop {
        if target.stopped.0.load(Ordering::Relaxed) {
            return Err(Failure { kind: VolumeFailure::Other, detail: "given up".into() });
        }
        let filled = fill(source, &mut block).map_err(|error| Failure {
            kind: VolumeFailure::Format,
            detail: format!("the packed content is damaged: {error}"),
        })?;
        if filled == 0 {
            break;
        }
        length += filled as u64;
        if length > longest {
            let detail = format!("the packed content is longer than {} GiB", longest >> 30);
            return Err(Failure { kind: VolumeFailure::Format, detail });
        }
        let bytes = &block[..filled];
        let written = if bytes.iter().all(|byte| *byte == 0) {
            target.file.seek(SeekFrom::Current(i64::try_from(filled).unwrap_or_default())).map(drop)
        } else {
            target.room.take(&target.path, filled)?;
            target.file.write_all(bytes)
        };
        written.map_err(|error| Failure::io(WRITING, &error))?;
    }
    target.file.set_len(length).map_err(|error| Failure::io(WRITING, &error))
}

/// Fills the block unless the content ends.
fn fill(source: &mut dyn Read, block: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < block.len() {
        match source.read(&mut block[filled..]) {
            Ok(0) => break,
            Ok(length) => filled += length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

type Frame = ruzstd::decoding::FrameDecoder;

/// All frames of a zstd file, one after the other (`pzstd` and seekable archives have many).
struct Zstd<R: BufRead> {
    source: R,
    frame: Option<Frame>,
}

impl<R: BufRead> Read for Zstd<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        use ruzstd::decoding::BlockDecodingStrategy;
        loop {
            let Some(frame) = &mut self.frame else {
                if self.source.fill_buf()?.is_empty() {
                    return Ok(0);
                }
                self.frame = self.next_frame()?;
                continue;
            };
            if frame.can_collect() == 0 && !frame.is_finished() {
                let strategy = BlockDecodingStrategy::UptoBytes(BLOCK);
                frame.decode_blocks(&mut self.source, strategy).map_err(io::Error::other)?;
                continue;
            }
            let length = frame.read(buffer)?;
            if length > 0 || buffer.is_empty() {
                return Ok(length);
            }
            self.frame = None;
        }
    }
}

impl<R: BufRead> Zstd<R> {
    /// Begins the next frame; `None` if it was one without data.
    fn next_frame(&mut self) -> io::Result<Option<Frame>> {
        use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
        let mut frame = Frame::new();
        frame.set_max_window_size(ZSTD_WINDOW as u64);
        match frame.init(&mut self.source) {
            Ok(()) => Ok(Some(frame)),
            Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame { length, .. })) => {
                io::copy(&mut self.source.by_ref().take(u64::from(length)), &mut io::sink())?;
                Ok(None)
            }
            Err(error) => Err(io::Error::other(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content() -> Vec<u8> {
        let mut content = vec![0_u8; 300_000];
        content[200_000..200_005].copy_from_slice(b"hello");
        content.extend_from_slice(b"end");
        content
    }

    /// Packs with a program; `None` where it is not installed.
    fn packed(program: &str) -> Option<Vec<u8>> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content()).unwrap();
        let output = std::process::Command::new(program).arg("-c").arg(file.path()).output().ok()?;
        output.status.success().then_some(output.stdout)
    }

    #[test]
    fn every_compression_gives_the_content_back() {
        use super::super::disk_image::compression;
        for (program, kind) in [("gzip", Compression::Gzip), ("xz", Compression::Xz), ("zstd", Compression::Zstd)] {
            let Some(packed) = packed(program) else { continue };
            assert_eq!(compression(&packed), Some(kind), "{program}");
            let dir = tempfile::tempdir().unwrap();
            let (from, to) = (dir.path().join("from"), dir.path().join("to"));
            // Two of them behind each other are one file.
            std::fs::write(&from, [packed.clone(), packed.clone()].concat()).unwrap();
            let stopper = Stopper::default();
            unpack(kind, &from, &to, &stopper.flag()).unwrap();
            assert_eq!(std::fs::read(&to).unwrap(), [content(), content()].concat(), "{program}");

            std::fs::write(&from, &packed[..packed.len() - 9]).unwrap();
            let failure = unpack(kind, &from, &to, &stopper.flag()).unwrap_err();
            assert_eq!(failure.kind, VolumeFailure::Format, "{program}: {failure}");
        }
    }

    #[test]
    fn work_that_nobody_waits_for_ends() {
        let dir = tempfile::tempdir().unwrap();
        let stopper = Stopper::default();
        let stopped = stopper.flag();
        store(&mut &b"content"[..], &dir.path().join("a"), &stopped).unwrap();
        drop(stopper);
        // Would never end otherwise.
        let failure = store(&mut io::repeat(0), &dir.path().join("b"), &stopped).unwrap_err();
        assert_eq!(failure.detail, "given up");
    }

    #[test]
    fn a_claim_of_endless_zeroes_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let stopper = Stopper::default();
        let file = File::create(dir.path().join("a")).unwrap();
        let path = dir.path().join("a");
        let mut target = Target { file, path, room: Room::default(), stopped: stopper.flag() };
        struct Long(u64);
        impl Read for Long {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                self.0 += buffer.len() as u64;
                Ok(buffer.len())
            }
        }
        let mut source = Long(0);
        let failure = sparse(&mut source, &mut target, 1 << 30).unwrap_err();
        assert_eq!(failure.kind, VolumeFailure::Format);
        assert!(source.0 < (1 << 30) + 2 * BLOCK as u64);
    }
}
