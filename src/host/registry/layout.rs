//! Container images in a file: a tar of an OCI image layout (`skopeo copy … oci-archive:FILE`, `tar -C LAYOUT -c .`) or
//! what `docker save` and `podman save` write. The archive is read in place; nothing of it is unpacked by its names.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::content::{Outcome, Search, nothing_found};
use super::manifest::{self, Descriptor, Document};
use crate::host::VolumeFailure;
use crate::host::archive::{Archive, EntryKind};
use crate::host::fetch::Checks;
use crate::host::unpack::{Stopped, store};
use crate::host::volume_job::Failure;

/// Most files that are noted.
const MAX_FILES: usize = 10_000;

/// What Docker's own format tells of an image.
#[derive(Deserialize)]
struct Saved {
    #[serde(rename = "Layers")]
    layers: Vec<String>,
}

/// Part of the archive.
#[derive(Debug, Clone, Copy)]
struct Range {
    offset: u64,
    size: u64,
}

struct Layout {
    path: PathBuf,
    files: HashMap<String, Range>,
}

/// Takes the disk image for this architecture out of the archive `from` into `to`. Not for an async thread.
pub(super) fn extract(from: &Path, architecture: &str, to: &Path, stopped: &Stopped) -> Result<(), Failure> {
    let layout = Layout::open(from)?;
    let layers =
        if layout.files.contains_key("index.json") { layout.layers(architecture)? } else { layout.saved_layers()? };
    let mut search = Search::default();
    for layer in layers.into_iter().rev() {
        match search.look(layout.reader(layer)?, to, stopped)? {
            Outcome::Found => return Ok(()),
            Outcome::Whole => return store(&mut layout.reader(layer)?, to, stopped),
            Outcome::Nothing if search.covered => break,
            Outcome::Nothing => {}
        }
    }
    Err(nothing_found())
}

fn wrong(detail: impl Into<String>) -> Failure {
    Failure { kind: VolumeFailure::Format, detail: detail.into() }
}

fn unreadable(error: &io::Error) -> Failure {
    wrong(format!("the archive is damaged: {error}"))
}

impl Layout {
    fn open(path: &Path) -> Result<Self, Failure> {
        let file = File::open(path).map_err(|error| Failure::io("cannot read the content", &error))?;
        let mut archive = Archive::new(BufReader::new(file));
        let mut files = HashMap::new();
        while let Some(entry) = archive.next().map_err(|error| unreadable(&error))? {
            if entry.kind != EntryKind::File {
                continue;
            }
            if files.len() >= MAX_FILES {
                return Err(wrong(format!("the archive has more than {MAX_FILES} files: it is no container image")));
            }
            files.insert(entry.path, Range { offset: entry.offset, size: entry.size });
        }
        if files.contains_key("index.json") || files.contains_key("manifest.json") {
            return Ok(Self { path: path.to_owned(), files });
        }
        Err(wrong(
            "the content is a tar archive, but no container image (index.json or manifest.json is missing); \
             qcow2, raw, vmdk, vdi or iso is needed, or an OCI image layout",
        ))
    }

    fn range(&self, name: &str) -> Result<Range, Failure> {
        self.files.get(name).copied().ok_or_else(|| wrong(format!("the archive lacks {name:?}")))
    }

    fn reader(&self, range: Range) -> Result<BufReader<io::Take<File>>, Failure> {
        let open = || {
            let mut file = File::open(&self.path)?;
            file.seek(SeekFrom::Start(range.offset))?;
            io::Result::Ok(BufReader::with_capacity(64 << 10, file.take(range.size)))
        };
        open().map_err(|error| Failure::io("cannot read the content", &error))
    }

    fn document(&self, name: &str) -> Result<Vec<u8>, Failure> {
        let range = self.range(name)?;
        if range.size > manifest::MAX_LENGTH {
            return Err(wrong(format!("{name:?} in the archive is too long")));
        }
        let mut text = Vec::new();
        self.reader(range)?.read_to_end(&mut text).map_err(|error| unreadable(&error))?;
        Ok(text)
    }

    /// The place of content that has been checked.
    fn blob(&self, descriptor: &Descriptor) -> Result<(String, Range), Failure> {
        let (algorithm, hex) = descriptor.parts().map_err(wrong)?;
        let name = format!("blobs/{algorithm}/{hex}");
        let range = self.range(&name)?;
        let mut checks = Checks::of_digest(&descriptor.digest)?;
        let mut reader = self.reader(range)?;
        let mut buffer = vec![0; 64 << 10];
        loop {
            let length = reader.read(&mut buffer).map_err(|error| unreadable(&error))?;
            if length == 0 {
                break;
            }
            checks.update(&buffer[..length]);
        }
        let told = |failure: Failure| Failure { detail: format!("{name:?} in the archive: {failure}"), ..failure };
        checks.finish().map_err(told)?;
        Ok((name, range))
    }

    fn layers(&self, architecture: &str) -> Result<Vec<Range>, Failure> {
        let mut text = self.document("index.json")?;
        for _ in 0..manifest::MAX_DEPTH {
            match manifest::parse(&text).map_err(wrong)? {
                Document::Image(layers) => {
                    return layers.iter().map(|layer| self.blob(layer).map(|(_, range)| range)).collect();
                }
                Document::Index(index) => {
                    let chosen = manifest::choose(&index, architecture).map_err(wrong)?;
                    text = self.document(&self.blob(chosen)?.0)?;
                }
            }
        }
        Err(wrong("the container image's indexes point to indexes without end"))
    }

    fn saved_layers(&self) -> Result<Vec<Range>, Failure> {
        let text = self.document("manifest.json")?;
        let saved: Vec<Saved> = serde_json::from_slice(&text)
            .map_err(|error| wrong(format!("manifest.json in the archive cannot be read: {error}")))?;
        let [image] = saved.as_slice() else {
            return Err(wrong(format!("the archive has {} container images; one is needed", saved.len())));
        };
        image.layers.iter().map(|name| self.range(name)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::archive::pack;
    use crate::host::fetch::checks::hex;
    use crate::host::unpack::Stopper;

    fn blob_of(content: &[u8]) -> (String, String) {
        let hex = hex("sha256", content).unwrap();
        let descriptor = format!(r#"{{"digest":"sha256:{hex}","size":{}}}"#, content.len());
        (format!("blobs/sha256/{hex}"), descriptor)
    }

    fn taken(archive: &[u8]) -> Result<Vec<u8>, Failure> {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        std::fs::write(&from, archive).unwrap();
        let stopper = Stopper::default();
        extract(&from, "amd64", &to, &stopper.flag())?;
        Ok(std::fs::read(to).unwrap())
    }

    /// A layout of one image with these layers; `damage` changes the last one after its checksum was taken.
    fn layout(layers: &[Vec<u8>], damage: bool) -> Vec<u8> {
        let blobs: Vec<(String, String)> = layers.iter().map(|layer| blob_of(layer)).collect();
        let list: Vec<&str> = blobs.iter().map(|(_, descriptor)| descriptor.as_str()).collect();
        let image = format!(r#"{{"schemaVersion":2,"layers":[{}]}}"#, list.join(","));
        let (image_name, image_descriptor) = blob_of(image.as_bytes());
        let index = format!(r#"{{"schemaVersion":2,"manifests":[{image_descriptor}]}}"#);
        let mut layers = layers.to_vec();
        if damage && let Some(last) = layers.last_mut() {
            last[0] ^= 1;
        }
        let mut files: Vec<(&str, &[u8])> =
            vec![("./oci-layout", b"{}"), ("./index.json", index.as_bytes()), (&image_name, image.as_bytes())];
        files.extend(blobs.iter().zip(&layers).map(|((name, _), layer)| (name.as_str(), layer.as_slice())));
        pack(&files)
    }

    #[test]
    fn the_image_is_taken_out_of_a_layout() {
        let disk = pack(&[("disk/image.raw", b"content")]);
        let other = pack(&[("etc/x", b"x")]);
        assert_eq!(taken(&layout(&[disk.clone(), other], false)).unwrap(), b"content");
        assert_eq!(taken(&layout(&[b"QFI\xfb blob".to_vec()], false)).unwrap(), b"QFI\xfb blob");
        let failure = taken(&layout(&[disk], true)).unwrap_err();
        assert_eq!(failure.kind, VolumeFailure::Checksum, "{failure}");
        assert!(taken(&layout(&[], false)).unwrap_err().detail.contains("no disk image"));
    }

    #[test]
    fn the_image_is_taken_out_of_what_docker_saves() {
        let disk = pack(&[("disk/image.raw", b"content")]);
        let manifest = br#"[{"Config":"c.json","RepoTags":["x:1"],"Layers":["a/layer.tar"]}]"#;
        let files: &[(&str, &[u8])] = &[("manifest.json", manifest), ("a/layer.tar", &disk)];
        assert_eq!(taken(&pack(files)).unwrap(), b"content");
        assert!(taken(&pack(&files[..1])).unwrap_err().detail.contains("lacks \"a/layer.tar\""));
        let two = br#"[{"Layers":[]},{"Layers":[]}]"#;
        assert!(taken(&pack(&[("manifest.json", two)])).unwrap_err().detail.contains("2 container images"));
    }

    #[test]
    fn other_archives_are_refused() {
        let failure = taken(&pack(&[("readme", b"hello")])).unwrap_err();
        assert!(failure.detail.contains("no container image"), "{failure}");
        let evil = br#"{"manifests":[{"digest":"sha256:../../../etc/passwd","size":1}]}"#;
        let failure = taken(&pack(&[("index.json", evil)])).unwrap_err();
        assert!(failure.detail.contains("digest"), "{failure}");
    }
}
