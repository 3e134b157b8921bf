//! Making the content of a disk or an image: what is wanted, what there is, what comes next. The decisions are
//! pure; disks and images share them.

use std::time::Duration;

use base64::Engine;
use kube::ResourceExt;

use super::Context;
use crate::host::{
    PullSecret, Speed, VolumeFailure, VolumeId, VolumeInfo, VolumeKind, VolumeRequest, VolumeSource, VolumeState,
};
use crate::types::{
    Checksum, ContainerImageSource, DataSourceType, DiskPhase, HttpSource, ImagePhase, SourceKind, UploadSource,
    VirtualImageStatus,
};

/// A pull secret has this type, and its content under this key.
const PULL_SECRET: (&str, &str) = ("kubernetes.io/dockerconfigjson", ".dockerconfigjson");

/// A data source of either kind of object, in one shape.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// Which of the others counts.
    pub type_: DataSourceType,
    /// Download.
    pub http: Option<&'a HttpSource>,
    /// Registry.
    pub container_image: Option<&'a ContainerImageSource>,
    /// Where the object's pull secret is.
    pub secrets_of: &'a str,
    /// Other object: kind, namespace, name.
    pub object: Option<(SourceKind, &'a str, &'a str)>,
    /// Upload.
    pub upload: Option<&'a UploadSource>,
}

/// Whether the content can be made.
#[derive(Debug, Clone, PartialEq)]
pub enum Availability {
    /// From this; UID of the source object if it is one.
    Ready {
        /// Where from.
        source: VolumeSource,
        /// Checksums to verify.
        checksums: Vec<(String, String)>,
        /// UID of the source object.
        uid: Option<String>,
    },
    /// Not yet.
    Waiting {
        /// Reason of the condition `DatasourceReady`.
        reason: &'static str,
        /// For the user.
        message: String,
    },
    /// Never, as the object is.
    Impossible {
        /// For the user.
        message: String,
    },
}

/// Looks a source up.
pub fn availability(ctx: &Context, source: Option<Source<'_>>) -> Availability {
    let Some(source) = source else {
        return Availability::Ready { source: VolumeSource::Blank, checksums: vec![], uid: None };
    };
    let checksums = |c: &Option<Checksum>| {
        c.iter().flat_map(|c| c.given()).map(|(a, h)| (a.to_owned(), h.to_owned())).collect::<Vec<_>>()
    };
    match source.type_ {
        DataSourceType::Http => match source.http {
            Some(http) => match http.ca_bundle.as_deref().map(|text| decode("http", text)).transpose() {
                Ok(ca_bundle) => Availability::Ready {
                    source: VolumeSource::Http { url: http.url.clone(), ca_bundle },
                    checksums: checksums(&http.checksum),
                    uid: None,
                },
                Err(message) => Availability::Impossible { message },
            },
            None => missing("http"),
        },
        DataSourceType::Upload => {
            let checksum = source.upload.and_then(|u| u.checksum.clone());
            Availability::Ready { source: VolumeSource::Upload, checksums: checksums(&checksum), uid: None }
        }
        DataSourceType::ContainerImage => match source.container_image {
            Some(container) => registry(ctx, container, source.secrets_of),
            None => missing("containerImage"),
        },
        DataSourceType::ObjectRef => match source.object {
            Some((kind, namespace, name)) => object(ctx, kind, namespace, name),
            None => missing("objectRef"),
        },
    }
}

fn missing(field: &str) -> Availability {
    Availability::Impossible { message: format!("spec.dataSource.{field} is missing.") }
}

fn decode(field: &str, text: &str) -> Result<Vec<u8>, String> {
    base64::engine::general_purpose::STANDARD
        .decode(text.trim())
        .map_err(|e| format!("spec.dataSource.{field}.caBundle is not base64: {e}."))
}

fn registry(ctx: &Context, container: &ContainerImageSource, namespace: &str) -> Availability {
    let ca_bundle = match container.ca_bundle.as_deref().map(|text| decode("containerImage", text)).transpose() {
        Ok(ca_bundle) => ca_bundle,
        Err(message) => return Availability::Impossible { message },
    };
    let named = container.image_pull_secret.as_ref().and_then(|secret| secret.name.as_deref());
    let credentials = match named.filter(|name| !name.is_empty()).map(|name| pull_secret(ctx, namespace, name)) {
        None => None,
        Some(Ok(secret)) => Some(secret),
        Some(Err(message)) => return Availability::Waiting { reason: SECRET_NOT_FOUND, message },
    };
    let source = VolumeSource::Registry { image: container.image.clone(), ca_bundle, credentials };
    Availability::Ready { source, checksums: vec![], uid: None }
}

/// Reason for a pull secret that is not there or not one.
pub const SECRET_NOT_FOUND: &str = "ContainerRegistrySecretNotFound";

fn pull_secret(ctx: &Context, namespace: &str, name: &str) -> Result<PullSecret, String> {
    let (type_, key) = PULL_SECRET;
    if namespace.is_empty() {
        return Err(format!("Secret {name}: imagePullSecret.namespace says where it is; it is missing."));
    }
    let place = format!(" in the namespace {namespace}");
    let Some(secret) = ctx.secrets.get(namespace, name) else {
        return Err(format!("Secret {name} with the registry's credentials does not exist{place}."));
    };
    let content = secret.data.as_ref().and_then(|data| data.get(key));
    match content {
        Some(content) if secret.type_.as_deref() == Some(type_) => Ok(PullSecret(content.0.clone())),
        _ => Err(format!(
            "Secret {name}{place} is not of type {type_}: make it with kubectl create secret docker-registry."
        )),
    }
}

fn object(ctx: &Context, kind: SourceKind, namespace: &str, name: &str) -> Availability {
    match kind {
        SourceKind::VirtualImage => {
            let found = ctx.images.get(namespace, name);
            let found = found.map(|i| (i.uid(), i.status.clone()));
            image(found, ("ImageNotFound", "ImageNotReady"), &format!("VirtualImage {name}"))
        }
        SourceKind::ClusterVirtualImage => {
            let found = ctx.cluster_images.get("", name);
            let found = found.map(|i| (i.uid(), i.status.clone()));
            image(found, ("ClusterImageNotFound", "ClusterImageNotReady"), &format!("ClusterVirtualImage {name}"))
        }
        SourceKind::VirtualDisk => disk(ctx, namespace, name),
        SourceKind::VirtualDiskSnapshot => super::snapshot::as_source(ctx, namespace, name),
    }
}

fn image(
    found: Option<(Option<String>, Option<VirtualImageStatus>)>,
    (not_found, not_ready): (&'static str, &'static str),
    what: &str,
) -> Availability {
    let Some((uid, status)) = found else {
        return Availability::Waiting { reason: not_found, message: format!("{what} does not exist.") };
    };
    let phase = status.and_then(|s| s.phase);
    match (phase, uid) {
        (Some(ImagePhase::Ready), Some(uid)) => Availability::Ready {
            source: VolumeSource::Volume(VolumeId { kind: VolumeKind::Image, uid: uid.clone() }),
            checksums: vec![],
            uid: Some(uid),
        },
        (phase, _) => {
            let phase = phase.map_or("Pending".into(), |p| format!("{p:?}"));
            Availability::Waiting { reason: not_ready, message: format!("{what} is not ready (phase {phase}).") }
        }
    }
}

fn disk(ctx: &Context, namespace: &str, name: &str) -> Availability {
    let Some(vd) = ctx.disks.get(namespace, name) else {
        let message = format!("VirtualDisk {name} does not exist.");
        return Availability::Waiting { reason: "VirtualDiskNotReady", message };
    };
    let Some(uid) = vd.uid() else {
        return Availability::Waiting { reason: "VirtualDiskNotReady", message: "VirtualDisk has no UID.".into() };
    };
    if vd.metadata.deletion_timestamp.is_some() {
        let message = format!("VirtualDisk {name} is being deleted.");
        return Availability::Waiting { reason: "VirtualDiskNotReadyForUse", message };
    }
    let phase = vd.status.as_ref().and_then(|status| status.phase);
    if let Some(DiskPhase::Resizing | DiskPhase::Migrating | DiskPhase::Exporting) = phase {
        let phase = phase.map(|phase| format!("{phase:?}")).unwrap_or_default();
        let message = format!("VirtualDisk {name} cannot be read now (phase {phase}).");
        return Availability::Waiting { reason: "VirtualDiskNotReadyForUse", message };
    }
    let id = VolumeId { kind: VolumeKind::Disk, uid: uid.clone() };
    if !matches!(ctx.host.volume(&id), Some(VolumeState::Ready(_))) {
        let message = format!("VirtualDisk {name} is not ready.");
        return Availability::Waiting { reason: "VirtualDiskNotReady", message };
    }
    if let Some(vm) = super::devices::mounted_by(ctx, &vd).first() {
        let message =
            format!("VirtualDisk {name} is attached to the running machine {vm}; stop it or detach the disk.");
        return Availability::Waiting { reason: "VirtualDiskAttachedToVirtualMachine", message };
    }
    Availability::Ready { source: VolumeSource::Volume(id), checksums: vec![], uid: Some(uid) }
}

/// How far an object had come when it was last reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Before {
    /// It was usable.
    Made,
    /// Its making had failed.
    Failed,
    /// Neither.
    Open,
}

/// What the next look at the making of a volume depends on.
#[derive(Debug, Clone)]
pub struct Making<'a> {
    /// What the host has.
    pub volume: Option<&'a VolumeState>,
    /// From the object's status.
    pub before: Before,
    /// The spec differs from the one that the status speaks of.
    pub edited: bool,
    /// See [`Availability`].
    pub available: &'a Availability,
    /// The source is a registry.
    pub pull: bool,
    /// The wait for an upload has lasted too long.
    pub upload_expired: bool,
    /// A source that could not be read is to be tried again now.
    pub again: bool,
    /// Size to ask for.
    pub size: Option<u64>,
}

/// What to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Move {
    /// Nothing.
    None,
    /// Have it made.
    Create(VolumeRequest),
    /// Throw away what there is and look again.
    Discard,
}

/// What to say.
#[derive(Debug, Clone, PartialEq)]
pub enum Stage {
    /// The source is not ready: reason and message.
    Waiting(&'static str, String),
    /// In the making: percent, speed of the transfer.
    Working(Option<u8>, Option<Speed>),
    /// Waits for its upload.
    Upload(String),
    /// Usable.
    Ready(VolumeInfo),
    /// Reason of the condition `Ready`, message.
    Failed(&'static str, String),
    /// It failed earlier; the status says why.
    StillFailed,
    /// It was usable and is gone.
    Lost,
}

/// Decides.
pub fn plan(m: &Making<'_>) -> (Move, Stage) {
    match m.volume {
        Some(VolumeState::Ready(info)) => (Move::None, Stage::Ready(info.clone())),
        Some(_) if m.edited => (Move::Discard, Stage::Working(None, None)),
        Some(VolumeState::WaitingForUpload { .. }) if m.upload_expired => (
            Move::Discard,
            Stage::Failed(
                "WaitForUserUploadTimeout",
                "The upload did not begin in time. Change the spec or create the object again to get a new address."
                    .into(),
            ),
        ),
        Some(VolumeState::WaitingForUpload { token }) => (Move::None, Stage::Upload(token.clone())),
        Some(VolumeState::Working { progress, bytes_per_second }) => {
            (Move::None, Stage::Working(*progress, *bytes_per_second))
        }
        Some(VolumeState::Failed { kind: VolumeFailure::Source, .. })
            if m.again && matches!(m.available, Availability::Ready { .. }) =>
        {
            create(m)
        }
        Some(VolumeState::Failed { kind, detail }) => {
            (Move::None, Stage::Failed(failure(*kind, m.pull), detail.clone()))
        }
        None if m.before == Before::Made => (Move::None, Stage::Lost),
        None if m.before == Before::Failed && !m.edited => (Move::None, Stage::StillFailed),
        None => match m.available {
            Availability::Waiting { reason, message } => (Move::None, Stage::Waiting(reason, message.clone())),
            Availability::Impossible { message } => (Move::None, Stage::Failed("ProvisioningFailed", message.clone())),
            Availability::Ready { source: VolumeSource::Blank, .. } if m.size.is_none() => (
                Move::None,
                Stage::Failed("ProvisioningFailed", "A blank disk needs spec.persistentVolumeClaim.size.".into()),
            ),
            Availability::Ready { .. } => create(m),
        },
    }
}

fn create(m: &Making<'_>) -> (Move, Stage) {
    let Availability::Ready { source, checksums, .. } = m.available else { return (Move::None, Stage::StillFailed) };
    let request = VolumeRequest { source: source.clone(), size: m.size, checksums: checksums.clone() };
    (Move::Create(request), Stage::Working(None, None))
}

fn failure(kind: VolumeFailure, pull: bool) -> &'static str {
    match kind {
        VolumeFailure::NoSpace => "QuotaExceeded",
        VolumeFailure::Source | VolumeFailure::Checksum if pull => "ImagePullFailed",
        VolumeFailure::Source
        | VolumeFailure::Checksum
        | VolumeFailure::Format
        | VolumeFailure::TooSmall
        | VolumeFailure::Other => "ProvisioningFailed",
    }
}

/// How long to wait before a source is tried again that could not be read so many times.
pub fn pause_before_retry(failures: u32) -> Duration {
    Duration::from_secs(30 << failures.saturating_sub(1).min(5)).min(Duration::from_secs(600))
}

/// What the object's status says of the source when it is not ready: reason of `Ready`.
pub fn waiting_reason(reason: &str) -> &'static str {
    if reason.ends_with("NotFound") { "DatasourceIsNotFound" } else { "DatasourceIsNotReady" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready() -> Availability {
        Availability::Ready { source: VolumeSource::Upload, checksums: vec![], uid: None }
    }

    fn made() -> VolumeState {
        VolumeState::Ready(VolumeInfo { virtual_size: 1, stored_size: 1, format: "raw".into(), cdrom: false })
    }

    fn making<'a>(volume: Option<&'a VolumeState>, available: &'a Availability) -> Making<'a> {
        Making {
            volume,
            before: Before::Open,
            edited: false,
            available,
            pull: false,
            upload_expired: false,
            again: false,
            size: None,
        }
    }

    #[test]
    fn life_of_a_volume() {
        let (ready, made) = (ready(), made());
        let working = VolumeState::Working { progress: Some(5), bytes_per_second: None };
        let waiting = VolumeState::WaitingForUpload { token: "t".into() };
        let failed = VolumeState::Failed { kind: VolumeFailure::Checksum, detail: "d".into() };

        assert!(matches!(plan(&making(None, &ready)), (Move::Create(_), Stage::Working(None, None))));
        assert_eq!(plan(&making(Some(&working), &ready)), (Move::None, Stage::Working(Some(5), None)));
        assert_eq!(plan(&making(Some(&waiting), &ready)), (Move::None, Stage::Upload("t".into())));
        assert!(matches!(plan(&making(Some(&made), &ready)), (Move::None, Stage::Ready(_))));
        let expired = Making { upload_expired: true, ..making(Some(&waiting), &ready) };
        assert!(matches!(plan(&expired), (Move::Discard, Stage::Failed("WaitForUserUploadTimeout", _))));
        assert!(matches!(plan(&making(Some(&failed), &ready)), (Move::None, Stage::Failed("ProvisioningFailed", _))));
    }

    #[test]
    fn failures_have_their_reasons_and_sources_are_tried_again() {
        let ready = ready();
        for (kind, download, pull, again) in [
            (VolumeFailure::Source, "ProvisioningFailed", "ImagePullFailed", true),
            (VolumeFailure::Checksum, "ProvisioningFailed", "ImagePullFailed", false),
            (VolumeFailure::Format, "ProvisioningFailed", "ProvisioningFailed", false),
            (VolumeFailure::TooSmall, "ProvisioningFailed", "ProvisioningFailed", false),
            (VolumeFailure::NoSpace, "QuotaExceeded", "QuotaExceeded", false),
            (VolumeFailure::Other, "ProvisioningFailed", "ProvisioningFailed", false),
        ] {
            let failed = VolumeState::Failed { kind, detail: "d".into() };
            let once = making(Some(&failed), &ready);
            assert_eq!(plan(&once), (Move::None, Stage::Failed(download, "d".into())), "{kind:?}");
            assert_eq!(plan(&Making { pull: true, ..once.clone() }).1, Stage::Failed(pull, "d".into()), "{kind:?}");
            let due = Making { again: true, ..once };
            assert_eq!(matches!(plan(&due).0, Move::Create(_)), again, "{kind:?}");
            let waiting = Availability::Waiting { reason: "x", message: String::new() };
            assert_eq!(plan(&Making { available: &waiting, ..due }).0, Move::None, "{kind:?}");
        }
        let pauses: Vec<u64> = (1..8).map(|n| pause_before_retry(n).as_secs()).collect();
        assert_eq!(pauses, [30, 60, 120, 240, 480, 600, 600]);
    }

    #[test]
    fn an_edit_starts_over_unless_it_is_made() {
        let (ready, made) = (ready(), made());
        let failed = VolumeState::Failed { kind: VolumeFailure::Source, detail: "d".into() };
        let edited = |volume| Making { edited: true, ..making(volume, &ready) };
        assert_eq!(plan(&edited(Some(&failed))).0, Move::Discard);
        assert!(matches!(plan(&edited(Some(&made))), (Move::None, Stage::Ready(_))));
        assert!(matches!(plan(&Making { before: Before::Failed, ..edited(None) }).0, Move::Create(_)));
    }

    #[test]
    fn what_was_made_and_is_gone_is_lost_and_a_failure_stays() {
        let ready = ready();
        assert_eq!(plan(&Making { before: Before::Made, ..making(None, &ready) }), (Move::None, Stage::Lost));
        let failed = Making { before: Before::Failed, ..making(None, &ready) };
        assert_eq!(plan(&failed), (Move::None, Stage::StillFailed));
    }

    #[test]
    fn a_blank_disk_needs_a_size() {
        let blank = Availability::Ready { source: VolumeSource::Blank, checksums: vec![], uid: None };
        assert!(matches!(plan(&making(None, &blank)).1, Stage::Failed("ProvisioningFailed", _)));
        assert!(matches!(plan(&Making { size: Some(1), ..making(None, &blank) }).0, Move::Create(_)));
    }
}
