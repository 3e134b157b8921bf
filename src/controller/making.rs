//! Making the volume of a disk or an image, as far as it goes without waiting. [`source`] decides; this acts.
//!
//! [`source`]: super::source

use std::sync::Arc;

use jiff::Timestamp;
use kube::runtime::controller::Action;

use super::cache::Watched;
use super::source::{Availability, Before, Making, Move, Stage, pause_before_retry, plan};
use super::wording::duration;
use super::{Context, Error};
use crate::host::{VolumeFailure, VolumeId, VolumeState};

/// What a volume's making has come to, and when to look again.
pub struct Made {
    /// Where it stands.
    pub stage: Stage,
    /// End of the wait for an upload, or for the next attempt to read the source.
    pub deadline: Option<Timestamp>,
}

/// A source that could not be read.
#[derive(Debug, Clone, Copy)]
pub struct Attempts {
    /// How often.
    failures: u32,
    /// When it is tried again.
    next: Timestamp,
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
    /// The source is a registry.
    pub pull: bool,
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
    let Wanted { object, id, before, edited, available, pull, size, changed } = wanted;
    let mut deadline = None;
    // What is made from here on is of the spec that was just read.
    let mut fresh = edited;
    let mut stage = loop {
        let volume = ctx.host.volume(id);
        let waiting = matches!(volume, Some(VolumeState::WaitingForUpload { .. }));
        deadline = upload_deadline(ctx, id, waiting).or(deadline.filter(|_| waiting));
        let again = retry_at(ctx, id, volume.as_ref()).is_some_and(|next| next <= ctx.now());
        let making = Making {
            volume: volume.as_ref(),
            before,
            edited: fresh && volume.is_some() || edited && volume.is_none(),
            available,
            pull,
            upload_expired: deadline.is_some_and(|d| d <= ctx.now()),
            again,
            size,
        };
        match plan(&making) {
            (Move::None, stage) => break stage,
            (Move::Create(request), stage) => {
                ctx.host.create_volume(id, request);
                fresh = false;
                if again {
                    tried_again(ctx, id);
                    break stage;
                }
                if ctx.host.volume(id).is_none() {
                    break stage;
                }
            }
            (Move::Discard, stage) => {
                ctx.host.delete_volume(id).await.map_err(|detail| Error::cleanup(object, detail))?;
                upload_deadline(ctx, id, false);
                ctx.attempts.lock().remove(id);
                if matches!(stage, Stage::Failed(..)) {
                    break stage;
                }
                fresh = false;
                ctx.events.normal(object, changed, "The spec was changed: started over.");
            }
        }
    };
    let retry = ctx.attempts.lock().get(id).copied();
    if let (Stage::Failed(_, words), Some(Attempts { failures, next })) = (&mut stage, retry) {
        let pause = pause_before_retry(failures);
        let from = next.checked_sub(pause).unwrap_or(next);
        words.push_str(&format!(" (tried again in {})", duration(from, next)));
        deadline = Some(next);
    }
    Ok(Made { stage, deadline })
}

impl Made {
    /// When to look again.
    pub fn next_look(&self, ctx: &Context) -> Action {
        match self.deadline {
            Some(until) if matches!(self.stage, Stage::Upload(_) | Stage::Failed(..)) => {
                Action::requeue(until.duration_since(ctx.now()).unsigned_abs())
            }
            _ => Action::await_change(),
        }
    }
}

/// Notes that a source could not be read; answers when it is tried again. Forgets it once the volume is made or has
/// failed otherwise.
fn retry_at(ctx: &Context, id: &VolumeId, volume: Option<&VolumeState>) -> Option<Timestamp> {
    let mut attempts = ctx.attempts.lock();
    match volume {
        Some(VolumeState::Failed { kind: VolumeFailure::Source, .. }) => {
            let failed = attempts.entry(id.clone()).or_insert(Attempts { failures: 0, next: Timestamp::MAX });
            if failed.next == Timestamp::MAX {
                failed.failures += 1;
                failed.next = ctx.now().checked_add(pause_before_retry(failed.failures)).unwrap_or(Timestamp::MAX);
            }
            Some(failed.next)
        }
        Some(VolumeState::Working { .. }) => None,
        _ => {
            attempts.remove(id);
            None
        }
    }
}

/// Another attempt has begun: how it ends decides about the next one.
fn tried_again(ctx: &Context, id: &VolumeId) {
    if let Some(attempts) = ctx.attempts.lock().get_mut(id) {
        attempts.next = Timestamp::MAX;
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
