//! Disks are made from their snapshots on trial before the ones in their place are taken away: what cannot be made is
//! known while nothing is lost yet.

use crate::controller::source::{Availability, Source, availability};
use crate::controller::{Context, Error};
use crate::host::{VolumeId, VolumeKind, VolumeRequest, VolumeState};
use crate::types::{DataSourceType, SourceKind};

/// How far a trial is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trial {
    /// It works.
    Works,
    /// Not known yet.
    Going,
    /// It does not: for the user.
    Fails(String),
}

/// Volumes of trials are named after their operation, whose UID stands before the dot: their events wake it.
fn id(operation: &str, number: usize) -> VolumeId {
    VolumeId { kind: VolumeKind::Disk, uid: format!("{operation}.{number}") }
}

/// The UID in a volume's id to whose object its events belong.
pub fn owner(uid: &str) -> &str {
    uid.split('.').next().unwrap_or(uid)
}

/// Tries to make all of these VirtualDiskSnapshots into disks, each of at least so many bytes, side by side.
pub fn run(operation: &str, namespace: &str, snapshots: &[(String, Option<u64>)], ctx: &Context) -> Trial {
    let mut going = false;
    for (number, (name, size)) in snapshots.iter().enumerate() {
        let id = id(operation, number);
        match ctx.host.volume(&id) {
            Some(VolumeState::Ready(_)) => {}
            Some(VolumeState::Failed { detail, .. }) => {
                return Trial::Fails(format!("A disk cannot be made from VirtualDiskSnapshot {name}: {detail}"));
            }
            Some(VolumeState::Working { .. } | VolumeState::WaitingForUpload { .. }) => going = true,
            None => {
                let source = Source {
                    type_: DataSourceType::ObjectRef,
                    http: None,
                    container_image: None,
                    secrets_of: namespace,
                    object: Some((SourceKind::VirtualDiskSnapshot, namespace, name)),
                    upload: None,
                };
                match availability(ctx, Some(source)) {
                    Availability::Ready { source, checksums, .. } => {
                        ctx.host.create_volume(&id, VolumeRequest { source, size: *size, checksums });
                        going |= !matches!(ctx.host.volume(&id), Some(VolumeState::Ready(_)));
                    }
                    // Our cache may be behind what the API has just said.
                    Availability::Waiting { .. } => going = true,
                    Availability::Impossible { message } => return Trial::Fails(message),
                }
            }
        }
    }
    if going { Trial::Going } else { Trial::Works }
}

/// Takes the volumes of trials away.
pub async fn clear(operation: &str, ctx: &Context) -> Result<(), Error> {
    let of_operation =
        ctx.host.volumes().into_iter().filter(|v| v.uid.split_once('.').is_some_and(|(o, _)| o == operation));
    for id in of_operation {
        let object = format!("VirtualMachineOperation with UID {operation}");
        ctx.host.delete_volume(&id).await.map_err(|detail| Error::Cleanup { object, detail })?;
    }
    Ok(())
}
