//! gz, xz and zst files, written out with holes where there are only zeroes.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;

use super::VolumeFailure;
use super::disk_image::Compression;
use super::volume_job::Failure;

/// A block of zeroes of this size becomes a hole.
const BLOCK: usize = 64 << 10;

/// Memory that an xz stream may ask for, in KiB. The largest preset needs 64 MiB.
const XZ_MEMORY: u32 = 512 << 10;

/// Window that a zstd frame may ask for; `zstd --ultra --long=27` needs 128 MiB.
const ZSTD_WINDOW: usize = 512 << 20;

/// Unpacks `from` into `to`. Not for an async thread.
pub(super) fn unpack(compression: Compression, from: &Path, to: &Path) -> Result<(), Failure> {
    let cannot = |error: &io::Error| Failure::io("cannot read the content", error);
    let source = BufReader::with_capacity(BLOCK, File::open(from).map_err(|error| cannot(&error))?);
    let mut target = File::create(to).map_err(|error| Failure::io("cannot store the unpacked content", &error))?;
    match compression {
        Compression::Gzip => sparse(&mut flate2::bufread::MultiGzDecoder::new(source), &mut target),
        Compression::Xz => sparse(&mut lzma_rust2::XzReader::new_mem_limit(source, true, XZ_MEMORY), &mut target),
        Compression::Zstd => sparse(&mut Zstd { source, frame: None }, &mut target),
    }
}

/// Copies, leaving holes. A reading error is the content's fault, a writing error the disk's.
fn sparse(source: &mut dyn Read, target: &mut File) -> Result<(), Failure> {
    let mut block = vec![0_u8; BLOCK];
    let mut length = 0_u64;
    loop {
        let filled = fill(source, &mut block).map_err(|error| Failure {
            kind: VolumeFailure::Format,
            detail: format!("the compressed content is damaged: {error}"),
        })?;
        if filled == 0 {
            break;
        }
        let bytes = &block[..filled];
        let written = if bytes.iter().all(|byte| *byte == 0) {
            target.seek(SeekFrom::Current(i64::try_from(filled).unwrap_or_default())).map(drop)
        } else {
            target.write_all(bytes)
        };
        written.map_err(|error| Failure::io("cannot store the unpacked content", &error))?;
        length += filled as u64;
    }
    target.set_len(length).map_err(|error| Failure::io("cannot store the unpacked content", &error))
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
            unpack(kind, &from, &to).unwrap();
            assert_eq!(std::fs::read(&to).unwrap(), [content(), content()].concat(), "{program}");

            std::fs::write(&from, &packed[..packed.len() - 9]).unwrap();
            let failure = unpack(kind, &from, &to).unwrap_err();
            assert_eq!(failure.kind, VolumeFailure::Format, "{program}: {failure}");
        }
    }
}
