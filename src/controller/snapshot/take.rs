//! The moment: file systems frozen, copies begun, file systems thawed. Every step is on record before it is done.

use std::time::Duration;

use super::super::{Context, Error};
use super::disk::DiskSubject;
use super::machine::MachineSubject;
use super::plan::Way;
use crate::host::{MachineId, SnapshotOf, VolumeId};

/// How long file systems stay frozen at most: what takes longer has failed.
const FREEZE_LIMIT: Duration = Duration::from_secs(30);

/// A step of the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// The agent is about to be asked.
    Freezing,
    /// The copies are about to be begun.
    Snapshotting {
        /// Nobody writes.
        consistent: bool,
    },
    /// The copies are begun.
    Unfreezing,
}

/// Whose moment it is.
pub enum Subject<'a> {
    /// A VirtualDiskSnapshot.
    Disk(DiskSubject<'a>),
    /// A VirtualMachineSnapshot.
    Machine(MachineSubject<'a>),
}

impl Subject<'_> {
    async fn say(&self, moment: Moment, ctx: &Context) -> Result<(), Error> {
        match self {
            Self::Disk(subject) => subject.say(moment, ctx).await,
            Self::Machine(subject) => subject.say(moment, ctx).await,
        }
    }

    /// Nobody has begun to write since it was looked at.
    fn still_at_rest(&self, ctx: &Context) -> bool {
        match self {
            Self::Disk(subject) => subject.is_at_rest(ctx),
            Self::Machine(subject) => subject.is_at_rest(ctx),
        }
    }
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taken {
    /// The copies are begun, or done.
    Begun {
        /// Nobody wrote.
        consistent: bool,
    },
    /// It would not be consistent: why.
    Inconsistent(String),
    /// It could not be taken: why.
    Failed(String),
    /// The machine was started in between: look again.
    Again,
}

/// What is taken.
pub struct Wanted<'a> {
    /// Whose.
    pub subject: Subject<'a>,
    /// The machine whose guest writes, if there is one.
    pub machine: Option<MachineId>,
    /// How.
    pub way: Way,
    /// `spec.requiredConsistency`.
    pub required: bool,
    /// The disks.
    pub disks: Vec<SnapshotOf>,
}

/// Takes it.
///
/// # Errors
/// [`Error`] when a step cannot be put on record. The file systems are thawed all the same.
pub async fn take(wanted: Wanted<'_>, ctx: &Context) -> Result<Taken, Error> {
    let Wanted { subject, machine, way, required, disks } = wanted;
    let snapshots: Vec<_> = disks.iter().map(|disk| disk.snapshot.clone()).collect();
    let (taken, lasted) = match (way, machine) {
        (Way::Freeze, Some(id)) => {
            subject.say(Moment::Freezing, ctx).await?;
            if let Err(words) = ctx.host.freeze(&id, FREEZE_LIMIT).await {
                if required {
                    return Ok(Taken::Inconsistent(words));
                }
                tracing::info!(machine = %id.0, words, "the snapshot is taken without freezing the file systems");
                return moment(&subject, way, disks, false, ctx).await;
            }
            let taken = moment(&subject, way, disks, true, ctx).await;
            let lasted = ctx.host.observe(&id).frozen.is_some();
            // The guest waits: it is thawed whether or not that can be put on record.
            let (said, thawed) = tokio::join!(subject.say(Moment::Unfreezing, ctx), ctx.host.thaw(&id));
            if let Err(words) = thawed {
                tracing::warn!(machine = %id.0, words, "the host goes on trying to thaw the file systems");
            }
            let taken = taken?;
            said?;
            (taken, lasted)
        }
        (Way::Frozen, Some(id)) => {
            let taken = moment(&subject, way, disks, true, ctx).await?;
            (taken, ctx.host.observe(&id).frozen.is_some())
        }
        _ => return moment(&subject, way, disks, way == Way::AtRest, ctx).await,
    };
    if lasted || !matches!(taken, Taken::Begun { .. }) {
        return Ok(taken);
    }
    if !required {
        return Ok(Taken::Begun { consistent: false });
    }
    discard(&snapshots, ctx).await;
    Ok(Taken::Inconsistent("the file systems did not stay frozen until the snapshot was taken".into()))
}

/// Removes what was begun.
pub async fn discard(snapshots: &[VolumeId], ctx: &Context) {
    for snapshot in snapshots {
        if let Err(detail) = ctx.host.delete_volume(snapshot).await {
            tracing::warn!(snapshot = %snapshot.uid, detail, "cannot remove it");
        }
    }
}

async fn moment(
    subject: &Subject<'_>,
    way: Way,
    disks: Vec<SnapshotOf>,
    consistent: bool,
    ctx: &Context,
) -> Result<Taken, Error> {
    subject.say(Moment::Snapshotting { consistent }, ctx).await?;
    // From here on the gate is closed; whoever went through it before is seen now.
    if way == Way::AtRest && !subject.still_at_rest(ctx) {
        return Ok(Taken::Again);
    }
    Ok(match ctx.host.snapshot(disks).await {
        Ok(()) => Taken::Begun { consistent },
        Err(words) => Taken::Failed(words),
    })
}
