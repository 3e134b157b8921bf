//! Adding and removing block devices of a running machine.

use serde_json::{Value, json};

use super::command_line::{Layer, device_id, hotplug_device, node_names, nodes};
use super::context::Context;
use super::launch::{self, Running};
use super::qmp::{Qmp, QmpError};
use super::record::InstanceDevice;
use super::spec::BlockDevice;

/// What became of a removal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Detached {
    /// It is not there (any more).
    Gone,
    /// The guest has been asked; an event will follow.
    Asked,
}

/// Adds a device. On failure nothing of it stays.
pub(super) async fn attach(context: &Context, running: &mut Running, device: &BlockDevice) -> Result<(), String> {
    if running.instance.devices.iter().any(|known| known.device.id == device.id) {
        return Ok(());
    }
    if !running.instance.can_hotplug {
        return Err("this machine cannot take block devices while it is on: \
                    that needs osType Generic or Windows with enableParavirtualization"
            .into());
    }
    let layers = launch::device_layers(context, device)?;
    plug(&running.qmp, device, &layers).await?;
    running.instance.devices.push(InstanceDevice { device: device.clone(), hotplugged: true, layers: layers.len() });
    Ok(())
}

/// Adds a device to any QEMU. On failure nothing of it stays.
pub(super) async fn plug(qmp: &Qmp, device: &BlockDevice, layers: &[Layer]) -> Result<(), String> {
    let mut failed = None;
    for node in nodes(device, layers) {
        if let Err(error) = qmp.execute("blockdev-add", node).await {
            failed = Some(error);
            break;
        }
    }
    if failed.is_none() {
        failed = qmp.execute("device_add", hotplug_device(device)).await.err();
    }
    if let Some(error) = failed {
        remove_nodes(qmp, &device.id, layers.len()).await;
        return Err(words(&error));
    }
    Ok(())
}

/// Asks for the removal of a device.
pub(super) async fn detach(running: &mut Running, id: &str) -> Result<Detached, String> {
    if !running.instance.devices.iter().any(|known| known.device.id == id) {
        return Ok(Detached::Gone);
    }
    match running.qmp.execute("device_del", json!({ "id": device_id(id) })).await {
        Ok(_) => Ok(Detached::Asked),
        Err(QmpError::Refused { class, .. }) if class == "DeviceNotFound" => {
            deleted(running, &device_id(id)).await;
            Ok(Detached::Gone)
        }
        // Asked before; the event is still to come.
        Err(QmpError::Refused { description, .. }) if description.contains("in the process of unplug") => {
            Ok(Detached::Asked)
        }
        Err(error) => Err(words(&error)),
    }
}

/// The block device that a QEMU device belongs to.
pub(super) fn owner(running: &Running, device: &str) -> Option<String> {
    let known = running.instance.devices.iter().find(|known| device_id(&known.device.id) == device)?;
    Some(known.device.id.clone())
}

/// Tidies up after QEMU has removed a device; false if it was none of ours.
pub(super) async fn deleted(running: &mut Running, device: &str) -> bool {
    let devices = &mut running.instance.devices;
    let Some(position) = devices.iter().position(|known| device_id(&known.device.id) == device) else { return false };
    let gone = devices.remove(position);
    remove_nodes(&running.qmp, &gone.device.id, gone.layers).await;
    true
}

async fn remove_nodes(qmp: &Qmp, id: &str, layers: usize) {
    for node in node_names(id, layers) {
        // After a failed attach some of them do not exist.
        if let Err(error) = qmp.execute("blockdev-del", json!({ "node-name": node })).await {
            tracing::debug!(%node, %error, "block node not removed");
        }
    }
}

/// Tells QEMU that the file behind a node has a new size; it grows the file and tells the guest.
pub(super) async fn resize(qmp: &Qmp, id: &str, bytes: u64) -> Result<(), String> {
    let node = super::command_line::qemu_id(id);
    let arguments: Value = json!({ "node-name": node, "size": bytes });
    qmp.execute("block_resize", arguments).await.map(drop).map_err(|error| words(&error))
}

/// QEMU's refusal in words for a user.
fn words(error: &QmpError) -> String {
    let text = error.to_string();
    if text.contains("Failed to get \"write\" lock") || text.contains("lock") && text.contains("Is another process") {
        format!("the disk is used by another machine or process ({text})")
    } else if text.contains("No space left") {
        format!("no space left on this computer's disk ({text})")
    } else {
        text
    }
}
