//! VirtualImage and ClusterVirtualImage: made once, read-only, protected while anything is built on them.

use std::collections::BTreeSet;
use std::sync::Arc;

use kube::ResourceExt;
use kube::runtime::controller::Action;

use super::cache::{Cache, Watched, namespace, secret_namespace};
use super::devices::{holds, machine_id, machines_naming};
use super::graph::{Key, Kind};
use super::making::{Wanted, make};
use super::source::{Availability, Before, SECRET_NOT_FOUND, Source, Stage, availability, waiting_reason};
use super::wording::{past_speed, speed, upload};
use super::{Context, Error, reasons};
use crate::host::{VolumeId, VolumeKind, VolumeState};
use crate::types::condition::{self, Status};
use crate::types::quantity::human_bytes;
use crate::types::{
    BlockDeviceKind, ClusterVirtualImage, Condition, DataSourceType, ImageDataSource, ImagePhase, ImageSize,
    ImageStorage, ImageTarget, VirtualImage, VirtualImageStatus,
};

/// What `status.storageClassName` says when the user asked for none: there is one place for images.
const LOCAL: &str = "local";

/// Where an image is kept that is not in the registry's place.
struct Claim {
    storage_class: String,
}

/// What the two kinds have in common.
trait Image: Watched {
    const CLEANUP: &'static str;
    const PROTECTION: &'static str;
    const DEVICE: BlockDeviceKind;
    const RECOVERED: &'static str;
    fn source(&self) -> &ImageDataSource;
    /// The storage it asks for, unless that is the registry.
    fn claim(&self) -> Option<Claim>;
    fn status(&self) -> Option<&VirtualImageStatus>;
    fn cache(ctx: &Context) -> &Cache<Self>;
}

impl Image for VirtualImage {
    const CLEANUP: &'static str = "virtualization.deckhouse.io/vi-cleanup";
    const PROTECTION: &'static str = "virtualization.deckhouse.io/vi-protection";
    const DEVICE: BlockDeviceKind = BlockDeviceKind::VirtualImage;
    const RECOVERED: &'static str = "VirtualImageLostRecovered";
    fn source(&self) -> &ImageDataSource {
        &self.spec.data_source
    }
    fn claim(&self) -> Option<Claim> {
        let class = || self.spec.persistent_volume_claim.as_ref()?.storage_class_name.clone();
        match self.spec.storage {
            ImageStorage::ContainerRegistry => None,
            ImageStorage::PersistentVolumeClaim | ImageStorage::Kubernetes => {
                Some(Claim { storage_class: class().unwrap_or_else(|| LOCAL.into()) })
            }
        }
    }
    fn status(&self) -> Option<&VirtualImageStatus> {
        self.status.as_ref()
    }
    fn cache(ctx: &Context) -> &Cache<Self> {
        &ctx.images
    }
}

impl Image for ClusterVirtualImage {
    const CLEANUP: &'static str = "virtualization.deckhouse.io/cvi-cleanup";
    const PROTECTION: &'static str = "virtualization.deckhouse.io/cvi-protection";
    const DEVICE: BlockDeviceKind = BlockDeviceKind::ClusterVirtualImage;
    const RECOVERED: &'static str = "ClusterVirtualImageLostRecovered";
    fn source(&self) -> &ImageDataSource {
        &self.spec.data_source
    }
    fn claim(&self) -> Option<Claim> {
        None
    }
    fn status(&self) -> Option<&VirtualImageStatus> {
        self.status.as_ref()
    }
    fn cache(ctx: &Context) -> &Cache<Self> {
        &ctx.cluster_images
    }
}

/// One look at one VirtualImage.
pub async fn reconcile(image: Arc<VirtualImage>, ctx: Arc<Context>) -> Result<Action, Error> {
    look(image, ctx).await
}

/// One look at one ClusterVirtualImage.
pub async fn reconcile_cluster(image: Arc<ClusterVirtualImage>, ctx: Arc<Context>) -> Result<Action, Error> {
    look(image, ctx).await
}

async fn look<K: Image>(image: Arc<K>, ctx: Arc<Context>) -> Result<Action, Error> {
    let id = VolumeId { kind: VolumeKind::Image, uid: image.uid().unwrap_or_default() };
    let users = users(image.as_ref(), &id, &ctx);
    let cache = K::cache(&ctx);
    if image.meta().deletion_timestamp.is_some() {
        return delete(&image, &id, &users, &ctx).await;
    }
    let (add, remove): (&[&str], &[&str]) = match users.is_empty() {
        false => (&[K::CLEANUP, K::PROTECTION], &[]),
        true => (&[K::CLEANUP], &[K::PROTECTION]),
    };
    ctx.set_finalizers(cache, image.as_ref(), add, remove).await?;

    let old = image.status().cloned().unwrap_or_default();
    let own = namespace(image.as_ref());
    let s = image.source();
    let source = Source {
        type_: s.type_,
        http: s.http.as_ref(),
        container_image: s.container_image.as_ref(),
        secrets_of: s.container_image.as_ref().map_or("", |c| secret_namespace(&own, c)),
        object: s.object_ref.as_ref().map(|r| {
            let other = r.namespace.as_deref().filter(|_| own.is_empty());
            (r.kind, other.unwrap_or(&own), r.name.as_str())
        }),
        upload: s.upload.as_ref(),
    };
    let available = availability(&ctx, Some(source));
    let edited = old.observed_generation.is_some_and(|g| Some(g) != image.meta().generation);
    let before = match old.phase {
        Some(ImagePhase::Ready | ImagePhase::ImageLost | ImagePhase::PvcLost) => Before::Made,
        Some(ImagePhase::Failed) => Before::Failed,
        _ => Before::Open,
    };
    let made = make(
        Wanted {
            object: image.as_ref(),
            id: &id,
            before,
            edited,
            available: &available,
            pull: s.type_ == DataSourceType::ContainerImage,
            size: None,
            changed: "VirtualImageSpecHasBeenChanged",
        },
        &ctx,
    )
    .await?;
    let stage = &made.stage;
    announce(image.as_ref(), &old, stage, &ctx);
    let new = status(image.as_ref(), &old, stage, &available, &users, &ctx);
    ctx.report(cache, image.as_ref(), image.status(), &new).await?;
    Ok(made.next_look(&ctx))
}

/// What is built on the image: running machines, disks, images in the making. Words, with their namespaces.
fn users<K: Image>(image: &K, id: &VolumeId, ctx: &Context) -> Vec<(String, String)> {
    let key = image.key();
    let name = image.name_any();
    let mut found = Vec::new();
    for vm in machines_naming(ctx, &key) {
        if holds(&ctx.host.observe(&machine_id(&vm)), K::DEVICE, &name, id) {
            found.push((format!("VirtualMachine {}", vm.name_any()), namespace(vm.as_ref())));
        }
    }
    let graph = ctx.wakeup.graph.lock();
    let disks = graph.naming(&key, Kind::Disk);
    let images: Vec<Key> =
        [Kind::Image, Kind::ClusterImage].iter().flat_map(|kind| graph.naming(&key, *kind)).collect();
    drop(graph);
    for disk in disks {
        found.push((format!("VirtualDisk {}", disk.name), disk.namespace));
    }
    for other in images {
        let uid = match other.kind {
            Kind::Image => ctx.images.at(&other).and_then(|i| i.uid()),
            _ => ctx.cluster_images.at(&other).and_then(|i| i.uid()),
        };
        let state = uid.and_then(|uid| ctx.host.volume(&VolumeId { kind: VolumeKind::Image, uid }));
        if matches!(state, Some(VolumeState::Working { .. })) {
            found.push((format!("image {}", other.name), other.namespace));
        }
    }
    found
}

fn in_use(conditions: &mut Vec<Condition>, users: &[(String, String)], generation: Option<i64>, ctx: &Context) {
    let (status, reason) = if users.is_empty() { (Status::False, "NotInUse") } else { (Status::True, "InUse") };
    reasons::check(reasons::IMAGE, "InUse", reason);
    condition::set(conditions, "InUse", status, reason, words(users), generation, ctx.now());
}

fn words(users: &[(String, String)]) -> String {
    let names: Vec<&str> = users.iter().map(|(word, _)| word.as_str()).collect();
    if names.is_empty() { String::new() } else { format!("Used by {}.", names.join(", ")) }
}

async fn delete<K: Image>(
    image: &Arc<K>,
    id: &VolumeId,
    users: &[(String, String)],
    ctx: &Context,
) -> Result<Action, Error> {
    let cache = K::cache(ctx);
    if users.is_empty() {
        ctx.host.delete_volume(id).await.map_err(|detail| Error::cleanup(image.as_ref(), detail))?;
        ctx.uploads.lock().remove(id);
        ctx.set_finalizers(cache, image.as_ref(), &[], &[K::CLEANUP, K::PROTECTION]).await?;
        ctx.events.normal(image.as_ref(), "Deleted", "The image and its data are gone.");
        return Ok(Action::await_change());
    }
    let mut new = image.status().cloned().unwrap_or_default();
    let mut conditions = new.conditions.take().unwrap_or_default();
    let generation = image.meta().generation;
    in_use(&mut conditions, users, generation, ctx);
    let message = format!("The image is kept while it is used. {}", words(users));
    reasons::check(reasons::IMAGE, "Terminating", "CleanupPending");
    condition::set(&mut conditions, "Terminating", Status::True, "CleanupPending", message, generation, ctx.now());
    new.phase = Some(ImagePhase::Terminating);
    new.conditions = Some(conditions);
    ctx.report(cache, image.as_ref(), image.status(), &new).await?;
    Ok(Action::await_change())
}

fn status<K: Image>(
    image: &K,
    old: &VirtualImageStatus,
    stage: &Stage,
    available: &Availability,
    users: &[(String, String)],
    ctx: &Context,
) -> VirtualImageStatus {
    let (now, generation) = (ctx.now(), image.meta().generation);
    let mut new = VirtualImageStatus {
        observed_generation: generation,
        source_uid: old.source_uid.clone(),
        ..VirtualImageStatus::default()
    };
    if let Availability::Ready { uid: Some(uid), .. } = available {
        new.source_uid.get_or_insert_with(|| uid.clone());
    }
    if K::KIND == Kind::ClusterImage {
        let namespaces: BTreeSet<&str> = users.iter().map(|(_, ns)| ns.as_str()).filter(|n| !n.is_empty()).collect();
        new.used_in_namespaces = (!namespaces.is_empty()).then(|| namespaces.into_iter().map(str::to_owned).collect());
    }
    let mut conditions = old.conditions.clone().unwrap_or_default();
    let mut set = |type_: &str, status: Status, reason: &str, message: String| {
        reasons::check(reasons::IMAGE, type_, reason);
        condition::set(&mut conditions, type_, status, reason, message, generation, now);
    };
    match available {
        _ if matches!(stage, Stage::Ready(_)) => set("DatasourceReady", Status::True, "DatasourceReady", String::new()),
        Availability::Ready { .. } => set("DatasourceReady", Status::True, "DatasourceReady", String::new()),
        Availability::Waiting { reason, message } => set("DatasourceReady", Status::False, reason, message.clone()),
        Availability::Impossible { message } => set("DatasourceReady", Status::Unknown, "Unknown", message.clone()),
    }
    let claim = image.claim();
    if K::KIND == Kind::Image {
        let reason = if claim.is_some() { "StorageClassReady" } else { "DVCRTypeUsed" };
        set("StorageClassReady", Status::True, reason, String::new());
    }
    if let Some(claim) = &claim {
        new.storage_class_name = Some(claim.storage_class.clone());
        let name = image.meta().uid.as_ref().map(|uid| format!("vi-{uid}"));
        new.target = Some(ImageTarget { persistent_volume_claim_name: name, ..ImageTarget::default() });
    }
    new.phase = Some(match stage {
        Stage::Waiting(reason, message) => {
            set("Ready", Status::False, waiting_reason(reason), message.clone());
            ImagePhase::Pending
        }
        Stage::Working(progress, bytes) => {
            set("Ready", Status::False, "Provisioning", "The image is being made.".into());
            new.progress = Some(format!("{}%", progress.unwrap_or(0)));
            new.download_speed = bytes.map(speed);
            ImagePhase::Provisioning
        }
        Stage::Upload(token) => {
            let (urls, command) = upload(&ctx.options.upload, token);
            set("Ready", Status::False, "WaitForUserUpload", format!("Waits for the content: {command}"));
            new.progress = Some("0%".into());
            new.image_upload_urls = Some(urls);
            new.upload_command = Some(command);
            ImagePhase::WaitForUserUpload
        }
        Stage::Ready(info) => {
            set("Ready", Status::True, "Ready", String::new());
            new.progress = Some("100%".into());
            new.download_speed = past_speed(old.download_speed.as_ref());
            new.cdrom = Some(info.cdrom);
            new.format = Some(info.format.clone());
            new.size = Some(ImageSize {
                stored: Some(human_bytes(info.stored_size)),
                stored_bytes: Some(info.stored_size.to_string()),
                unpacked: Some(human_bytes(info.virtual_size)),
                unpacked_bytes: Some(info.virtual_size.to_string()),
            });
            ImagePhase::Ready
        }
        Stage::Failed(reason, message) => {
            set("Ready", Status::False, reason, message.clone());
            ImagePhase::Failed
        }
        Stage::StillFailed => ImagePhase::Failed,
        Stage::Lost => {
            let (reason, phase) = match claim {
                Some(_) => ("PVCLost", ImagePhase::PvcLost),
                None => ("ImageLost", ImagePhase::ImageLost),
            };
            set("Ready", Status::False, reason, "The image's data is gone from this computer.".into());
            new.cdrom = old.cdrom;
            new.format.clone_from(&old.format);
            new.size.clone_from(&old.size);
            phase
        }
    });
    in_use(&mut conditions, users, generation, ctx);
    new.conditions = Some(conditions);
    new
}

fn announce<K: Image>(image: &K, old: &VirtualImageStatus, stage: &Stage, ctx: &Context) {
    match (old.phase, stage) {
        (_, Stage::Waiting(SECRET_NOT_FOUND, message)) => {
            let known = condition::find(old.conditions.as_deref().unwrap_or_default(), "DatasourceReady")
                .is_some_and(|c| c.reason == SECRET_NOT_FOUND);
            if !known {
                ctx.events.warning(image, "VirtualDiskContainerRegistrySecretNotFound", message.clone());
            }
        }
        (Some(ImagePhase::Provisioning), Stage::Working(Some(1..), _))
            if matches!(old.progress.as_deref(), None | Some("0%")) =>
        {
            ctx.events.normal(image, "DataSourceImportInProgress", "The content is on its way.");
        }
        (Some(ImagePhase::Provisioning), Stage::Working(..))
        | (Some(ImagePhase::Failed), Stage::Failed(..))
        | (Some(ImagePhase::Ready), Stage::Ready(_)) => {}
        (_, Stage::Working(..)) => {
            ctx.events.normal(image, "DataSourceImportStarted", "The making of the image has begun.");
        }
        (Some(ImagePhase::ImageLost | ImagePhase::PvcLost), Stage::Ready(_)) => {
            ctx.events.normal(image, K::RECOVERED, "The image's data is back.");
        }
        (_, Stage::Ready(_)) => ctx.events.normal(image, "DataSourceImportCompleted", "The image is ready."),
        (_, Stage::Failed("QuotaExceeded", message)) => {
            ctx.events.warning(image, "DataSourceQuotaExceed", message.clone());
        }
        (_, Stage::Failed(_, message)) => ctx.events.warning(image, "DataSourceImportFailed", message.clone()),
        _ => {}
    }
}
