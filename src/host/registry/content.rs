//! The disk image inside of a container image: the one file under `/disk` (as KubeVirt's container disks have it), or
//! a layer that is no archive but the image itself (as `oras push` makes it).

use std::collections::HashSet;
use std::io::{self, BufRead, Cursor, Read};
use std::path::Path;

use crate::host::VolumeFailure;
use crate::host::archive::{Archive, Entry, EntryKind, is_archive};
use crate::host::disk_image::compression;
use crate::host::unpack::{Guarded, Stopped, reader, store};
use crate::host::volume_job::Failure;

/// Where container disks keep their image.
const DIRECTORY: &str = "disk";
/// Marks a file of a lower layer as deleted.
const WHITEOUT: &str = ".wh.";
/// Marks all files of a directory in lower layers as deleted.
const OPAQUE: &str = ".wh..wh..opq";
/// An archive without files is not longer than this.
const EMPTY_ARCHIVE: u64 = 10_240;

/// What a layer has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The image, which has been stored.
    Found,
    /// The layer is the image.
    Whole,
    /// No image.
    Nothing,
}

/// Goes through the layers from the top.
#[derive(Debug, Default)]
pub(super) struct Search {
    deleted: HashSet<String>,
    /// Lower layers are not to be looked at.
    pub(super) covered: bool,
}

impl Search {
    /// Looks into a layer; an image inside is written to `to`. Not for an async thread.
    pub(super) fn look(
        &mut self,
        mut layer: impl BufRead + Send + 'static,
        to: &Path,
        stopped: &Stopped,
    ) -> Result<Outcome, Failure> {
        let packed = compression(layer.fill_buf().map_err(|error| damaged(&error))?);
        let mut inner = Guarded::new(reader(packed, layer), stopped.clone());
        let mut start = Vec::new();
        inner.by_ref().take(512).read_to_end(&mut start).map_err(|error| damaged(&error))?;
        if !is_archive(&start) {
            let zero = |bytes: &[u8]| bytes.iter().all(|byte| *byte == 0);
            let mut rest = Vec::new();
            if zero(&start) {
                inner.take(EMPTY_ARCHIVE).read_to_end(&mut rest).map_err(|error| damaged(&error))?;
            }
            let empty = zero(&start) && zero(&rest) && (rest.len() as u64) < EMPTY_ARCHIVE;
            return Ok(if empty { Outcome::Nothing } else { Outcome::Whole });
        }
        let source: Box<dyn Read + Send> = Box::new(Cursor::new(start).chain(inner));
        self.walk(Archive::new(source), to, stopped)
    }

    fn walk(
        &mut self,
        mut archive: Archive<Box<dyn Read + Send>>,
        to: &Path,
        stopped: &Stopped,
    ) -> Result<Outcome, Failure> {
        let mut found: Option<String> = None;
        let mut deleted = HashSet::new();
        while let Some(entry) = archive.next().map_err(|error| damaged(&error))? {
            if entry.path.strip_prefix(WHITEOUT) == Some(DIRECTORY) {
                self.covered = true;
            }
            let Some(name) = in_directory(&entry) else { continue };
            if name == OPAQUE {
                self.covered = true;
            } else if let Some(name) = name.strip_prefix(WHITEOUT) {
                deleted.insert(name.to_owned());
            } else if !self.deleted.contains(name) && entry.size > 0 {
                if let Some(first) = found {
                    let detail = format!(
                        "the container image has several files under /{DIRECTORY}: {first:?} and {name:?}; one is needed"
                    );
                    return Err(Failure { kind: VolumeFailure::Format, detail });
                }
                store(&mut archive, to, stopped)?;
                found = Some(name.to_owned());
            }
        }
        archive.finish().map_err(|error| damaged(&error))?;
        // They are about lower layers, wherever they stand in this one.
        self.deleted.extend(deleted);
        Ok(if found.is_some() { Outcome::Found } else { Outcome::Nothing })
    }
}

/// Name of a file that lies directly in the directory.
fn in_directory(entry: &Entry) -> Option<&str> {
    let (directory, name) = entry.path.split_once('/')?;
    (entry.kind == EntryKind::File && directory == DIRECTORY && !name.is_empty() && !name.contains('/')).then_some(name)
}

fn damaged(error: &io::Error) -> Failure {
    let detail = format!("a layer of the container image is damaged: {error}");
    Failure { kind: VolumeFailure::Format, detail }
}

/// No layer had an image.
pub(super) fn nothing_found() -> Failure {
    let detail = format!(
        "the container image has no disk image: one file is needed under /{DIRECTORY} (COPY image.qcow2 /{DIRECTORY}/), \
         or a layer that is the image itself"
    );
    Failure { kind: VolumeFailure::Format, detail }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::archive::pack;
    use crate::host::unpack::Stopper;

    /// Looks through layers from the top: what was found, and its content.
    fn search(layers: &[Vec<u8>]) -> (Result<Outcome, Failure>, Vec<u8>) {
        let dir = tempfile::tempdir().unwrap();
        let to = dir.path().join("content");
        let stopper = Stopper::default();
        let mut search = Search::default();
        for layer in layers {
            let outcome = search.look(Cursor::new(layer.clone()), &to, &stopper.flag());
            if !matches!(outcome, Ok(Outcome::Nothing)) || search.covered {
                return (outcome, std::fs::read(to).unwrap_or_default());
            }
        }
        (Ok(Outcome::Nothing), Vec::new())
    }

    fn gzip(content: &[u8]) -> Vec<u8> {
        use std::io::Write;
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn the_file_under_disk_is_found() {
        let layer = pack(&[("etc/passwd", b"x"), ("./disk/image.qcow2", b"QFI"), ("disk/sub/other", b"no")]);
        for packed in [layer.clone(), gzip(&layer)] {
            let (outcome, content) = search(&[packed]);
            assert_eq!((outcome, content.as_slice()), (Ok(Outcome::Found), &b"QFI"[..]));
        }
        let (outcome, content) = search(&[pack(&[("etc/x", b"x")]), layer]);
        assert_eq!((outcome, content.as_slice()), (Ok(Outcome::Found), &b"QFI"[..]));
    }

    #[test]
    fn a_layer_that_is_no_archive_is_the_image() {
        for blob in [b"QFI\xfb and so on".to_vec(), gzip(b"QFI\xfb and so on"), vec![0; 20_000]] {
            assert_eq!(search(&[blob]).0, Ok(Outcome::Whole));
        }
        for empty in [vec![0; 1024], gzip(&[0; 10_240]), Vec::new()] {
            assert_eq!(search(&[empty]).0, Ok(Outcome::Nothing));
        }
    }

    #[test]
    fn what_an_upper_layer_deleted_is_not_there() {
        let lower = pack(&[("disk/old.img", b"old"), ("disk/new.img", b"new")]);
        let (outcome, content) = search(&[pack(&[("disk/.wh.old.img", b"")]), lower.clone()]);
        assert_eq!((outcome, content.as_slice()), (Ok(Outcome::Found), &b"new"[..]));
        for mark in ["disk/.wh..wh..opq", ".wh.disk"] {
            assert_eq!(search(&[pack(&[(mark, b"")]), lower.clone()]).0, Ok(Outcome::Nothing), "{mark}");
        }
        let error = search(&[lower]).0.unwrap_err();
        assert!(error.detail.contains("several files") && error.kind == VolumeFailure::Format, "{error}");
    }

    #[test]
    fn damage_is_told() {
        let layer = pack(&[("disk/a", &[7; 4000])]);
        let packed = gzip(&layer);
        for damaged in [layer[..1500].to_vec(), packed[..packed.len() - 10].to_vec()] {
            let error = search(&[damaged]).0.unwrap_err();
            assert!(error.detail.contains("damaged"), "{error}");
        }
    }
}
