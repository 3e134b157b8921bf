//! Disk images in container images: pulled from a registry, or in an archive that came another way.
//!
//! ```text
//! reference   what the name means           auth       credentials and tokens
//! session     requests to one registry      manifest   what an image consists of
//! content     the disk image in the layers  layout     all of it in one tar file
//! ```
//!
//! Everything that is read here is a stranger's: digests are checked before content is looked at, names in archives
//! are only compared, never used as paths, and lengths have bounds.

use std::io::BufReader;
use std::path::{Path, PathBuf};

use crate::host::VolumeFailure;
use crate::host::fetch::{self, Checks, Transfer};
use crate::host::unpack::Stopper;
use crate::host::volume_job::Failure;

mod auth;
mod content;
mod layout;
mod manifest;
mod reference;
mod session;

use content::{Outcome, Search};
use manifest::Document;
use reference::Reference;
use session::Session;

/// This computer's architecture as Go, and so images, call it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// What is pulled, and by whom.
pub(super) struct Pull<'a> {
    /// Name of the image.
    pub(super) image: &'a str,
    /// A `.dockerconfigjson`.
    pub(super) credentials: Option<&'a [u8]>,
    /// Further certificate authorities, PEM.
    pub(super) ca_bundle: Option<&'a [u8]>,
}

impl Pull<'_> {
    /// Downloads the layers, from the top, until the disk image is found, which becomes the file that is returned.
    /// `dir` is the job's own. `progress`: bytes of layers so far, and of all layers.
    pub(super) async fn run(&self, dir: &Path, progress: fetch::Progress<'_>) -> Result<PathBuf, Failure> {
        let told = |failure: Failure| Failure { detail: format!("cannot pull {}: {failure}", self.image), ..failure };
        self.try_run(dir, progress).await.map_err(told)
    }

    async fn try_run(&self, dir: &Path, progress: fetch::Progress<'_>) -> Result<PathBuf, Failure> {
        let refused = |detail: String| Failure { kind: VolumeFailure::Source, detail };
        let image = Reference::parse(self.image).map_err(refused)?;
        let login = self.credentials.map(|config| auth::login(config, &image)).transpose().map_err(refused)?.flatten();
        let mut session = Session::open(fetch::client(self.ca_bundle)?, &image, login).await;
        let layers = layers(&mut session, &image).await?;
        let total = layers.iter().map(|layer| layer.size).fold(0_u64, u64::saturating_add);
        let (incoming, found) = (dir.join("incoming"), dir.join("found"));
        let stopper = Stopper::default();
        let mut search = Search::default();
        let mut before = 0;
        for layer in layers.iter().rev() {
            layer.parts().map_err(refused)?;
            let mut transfer = Transfer::into_file(&incoming, Checks::of_digest(&layer.digest)?).await?;
            transfer.immutable = true;
            transfer.length = Some(layer.size);
            session.blob(&layer.digest, transfer, &mut |done, _| progress(before + done, Some(total))).await?;
            before = before.saturating_add(layer.size);
            let (from, to, stopped) = (incoming.clone(), found.clone(), stopper.flag());
            let looked = tokio::task::spawn_blocking(move || {
                let file = std::fs::File::open(from).map_err(|error| Failure::io("cannot read the layer", &error))?;
                let outcome = search.look(BufReader::with_capacity(64 << 10, file), &to, &stopped);
                outcome.map(|outcome| (outcome, search))
            });
            let outcome;
            (outcome, search) = looked.await.map_err(|error| refused(error.to_string()))??;
            match outcome {
                Outcome::Found => {
                    tokio::fs::remove_file(&incoming).await.map_err(|e| Failure::io("cannot tidy up", &e))?;
                    return Ok(found);
                }
                Outcome::Whole => return Ok(incoming),
                Outcome::Nothing if search.covered => break,
                Outcome::Nothing => {}
            }
        }
        Err(content::nothing_found())
    }
}

/// The layers of the image for this computer.
async fn layers(session: &mut Session<'_>, image: &Reference) -> Result<Vec<manifest::Descriptor>, Failure> {
    let refused = |detail: String| Failure { kind: VolumeFailure::Source, detail };
    let mut version = image.version.clone();
    let mut checks = match &image.digest {
        Some(digest) => Checks::of_digest(digest)?,
        None => Checks::new(&[])?,
    };
    for _ in 0..manifest::MAX_DEPTH {
        let text = session.manifest(&version, checks).await?;
        match manifest::parse(&text).map_err(refused)? {
            Document::Image(layers) => return Ok(layers),
            Document::Index(index) => {
                let chosen = manifest::choose(&index, architecture()).map_err(refused)?;
                chosen.parts().map_err(refused)?;
                version.clone_from(&chosen.digest);
                checks = Checks::of_digest(&chosen.digest)?;
            }
        }
    }
    Err(refused("the image's indexes point to indexes without end".into()))
}

/// Takes the disk image out of a tar archive with a container image.
pub(super) async fn from_archive(from: &Path, to: &Path) -> Result<(), Failure> {
    let stopper = Stopper::default();
    let (from, to, stopped) = (from.to_owned(), to.to_owned(), stopper.flag());
    let failed = |error: tokio::task::JoinError| Failure { kind: VolumeFailure::Other, detail: error.to_string() };
    tokio::task::spawn_blocking(move || layout::extract(&from, architecture(), &to, &stopped)).await.map_err(failed)?
}
