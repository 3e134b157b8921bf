//! Making the volume of a disk or an image, as far as it goes without waiting. [`source`] decides; this acts.
//!
//! [`source`]: super::source

use std::sync::Arc;

use jiff::Timestamp;
use kube::runtime::controller::Action;

use super::cache::Watched;
use super::source::{Availability, Before, Making, Move, Stage, plan};
use super::{Context, Error};
use crate::host::{VolumeId, VolumeState};

/// What a volume's making has come to, and until when an upload may begin.
pub struct Made {
    /// Where it stands.
    pub stage: Stage,
    /// End of the wait for an upload.
    pub deadline: Option<Timestamp>,
}

/// What is made: the object's side of [`make`].
pub struct Wanted<'a, K> {
    /// The disk or image.
    pub object: &'a K,
    /// Its volume.
    pub id: &'a VolumeId,
    /// What its status says of earlier.
    pub before: Before,
    /// Its spec was changed since the status was written.
    pub edited: bool,
    /// The source.
    pub available: &'a Availability,
    /// Size the spec asks for, in bytes.
    pub size: Option<u64>,
    /// Reason of the event that says the making starts over.
    pub changed: &'static str,
}

/// Makes the object's volume as far as it goes without waiting: plans, acts, and plans again until nothing is left to
/// do now.
///
/// # Errors
/// [`Error`] when a volume that has to go cannot be deleted.
pub async fn make<K: Watched>(wanted: Wanted<'_, K>, ctx: &Arc<Context>) -> Result<Made, Error> {
    let Wanted { object, id, before, edited, available, size, changed } = wanted;
    let mut deadline = None;
    // What is made from here on is of the spec that was just read.
    let mut fresh = edited;
    let stage = loop {
        let volume = ctx.host.volume(id);
        let waiting = matches!(volume, Some(VolumeState::WaitingForUpload { .. }));
        deadline = upload_deadline(ctx, id, waiting).or(deadline.filter(|_| waiting));
        let making = Making {
            volume: volume.as_ref(),
            before,
            edited: fresh && volume.is_some() || edited && volume.is_none(),
            available,
            upload_expired: deadline.is_some_and(|d| d <= ctx.now()),
            size,
        };
        match plan(&making) {
            (Move::None, stage) => break stage,
            (Move::Create(request), stage) => {
                ctx.host.create_volume(id, request);
                fresh = false;
                if ctx.host.volume(id).is_none() {
                    break stage;
                }
            }
            (Move::Discard, stage) => {
                ctx.host.delete_volume(id).await.map_err(|detail| Error::cleanup(object, detail))?;
                upload_deadline(ctx, id, false);
                if matches!(stage, Stage::Failed(..)) {
                    break stage;
                }
                fresh = false;
                ctx.events.normal(object, changed, "The spec was changed: started over.");
            }
        }
    };
    Ok(Made { stage, deadline })
}

impl Made {
    /// When to look again.
    pub fn next_look(&self, ctx: &Context) -> Action {
        match self.deadline {
            Some(until) if matches!(self.stage, Stage::Upload(_)) => {
                Action::requeue(until.duration_since(ctx.now()).unsigned_abs())
            }
            _ => Action::await_change(),
        }
    }
}

/// Notes when the wait for an upload began; answers whether it has lasted too long, and until when it may last.
fn upload_deadline(ctx: &Arc<Context>, id: &VolumeId, waiting: bool) -> Option<Timestamp> {
    let mut begun = ctx.uploads.lock();
    if !waiting {
        begun.remove(id);
        return None;
    }
    let since = *begun.entry(id.clone()).or_insert_with(|| ctx.now());
    since.checked_add(ctx.options.upload_timeout).ok()
}
