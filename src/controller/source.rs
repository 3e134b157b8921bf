//! Making the content of a disk or an image: what is wanted, what there is, what comes next. The decisions are
//! pure; disks and images share them.

use base64::Engine;
use jiff::Timestamp;
use kube::ResourceExt;

use super::{Context, UploadBase};
use crate::host::{VolumeFailure, VolumeId, VolumeInfo, VolumeKind, VolumeRequest, VolumeSource, VolumeState};
use crate::types::quantity::human_bytes;
use crate::types::{
    Checksum, ContainerImageSource, DataSourceType, DownloadSpeed, HttpSource, ImagePhase, ImageUploadUrls, SourceKind,
    UploadSource, VirtualImageStatus,
};

/// A data source of either kind of object, in one shape.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// Which of the others counts.
    pub type_: DataSourceType,
    /// Download.
    pub http: Option<&'a HttpSource>,
    /// Registry.
    pub container_image: Option<&'a ContainerImageSource>,
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
            Some(http) => match http.ca_bundle.as_deref().map(decode).transpose() {
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
        DataSourceType::ContainerImage => Availability::Impossible {
            message: format!(
                "The standalone host cannot pull container images yet ({}). Use a source of type HTTP or Upload.",
                source.container_image.map_or("no image named", |c| c.image.as_str())
            ),
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

fn decode(text: &str) -> Result<Vec<u8>, String> {
    base64::engine::general_purpose::STANDARD
        .decode(text.trim())
        .map_err(|e| format!("spec.dataSource.http.caBundle is not base64: {e}."))
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
    /// The wait for an upload has lasted too long.
    pub upload_expired: bool,
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
    /// In the making.
    Working(Option<u8>, Option<u64>),
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
        Some(VolumeState::Failed { kind, detail }) => (Move::None, Stage::Failed(failure(*kind), detail.clone())),
        None if m.before == Before::Made => (Move::None, Stage::Lost),
        None if m.before == Before::Failed && !m.edited => (Move::None, Stage::StillFailed),
        None => match m.available {
            Availability::Waiting { reason, message } => (Move::None, Stage::Waiting(reason, message.clone())),
            Availability::Impossible { message } => (Move::None, Stage::Failed("ProvisioningFailed", message.clone())),
            Availability::Ready { source: VolumeSource::Blank, .. } if m.size.is_none() => (
                Move::None,
                Stage::Failed("ProvisioningFailed", "A blank disk needs spec.persistentVolumeClaim.size.".into()),
            ),
            Availability::Ready { source, checksums, .. } => {
                let request = VolumeRequest { source: source.clone(), size: m.size, checksums: checksums.clone() };
                (Move::Create(request), Stage::Working(None, None))
            }
        },
    }
}

fn failure(kind: VolumeFailure) -> &'static str {
    match kind {
        VolumeFailure::NoSpace => "QuotaExceeded",
        VolumeFailure::Source
        | VolumeFailure::Checksum
        | VolumeFailure::Format
        | VolumeFailure::TooSmall
        | VolumeFailure::Other => "ProvisioningFailed",
    }
}

/// Where to upload to, and the command that does it.
pub fn upload(base: &UploadBase, token: &str) -> (ImageUploadUrls, String) {
    let local = format!("http://localhost/upload/{token}");
    let socket = quote(&base.socket.display().to_string());
    let command = format!("curl --unix-socket {socket} -T FILE {local}");
    let external = base.external.as_ref().map(|b| format!("{}/upload/{token}", b.trim_end_matches('/')));
    (ImageUploadUrls { external, in_cluster: Some(local) }, command)
}

/// A word for a POSIX shell.
fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Transfer speed for status.
pub fn speed(bytes_per_second: u64) -> DownloadSpeed {
    DownloadSpeed {
        avg: None,
        avg_bytes: None,
        current: Some(format!("{}/s", human_bytes(bytes_per_second))),
        current_bytes: Some(bytes_per_second.to_string()),
    }
}

/// Time between two moments as the API writes durations: `1.5s`, `2m3s`.
pub fn duration(from: Timestamp, to: Timestamp) -> String {
    let span = to.duration_since(from);
    let seconds = span.as_secs().max(0);
    let millis = span.subsec_millis().max(0);
    match (seconds / 3600, (seconds / 60) % 60, seconds % 60) {
        (0, 0, s) if millis > 0 => format!("{s}.{millis:03}").trim_end_matches('0').to_owned() + "s",
        (0, 0, s) => format!("{s}s"),
        (0, m, s) => format!("{m}m{s}s"),
        (h, m, s) => format!("{h}h{m}m{s}s"),
    }
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
        Making { volume, before: Before::Open, edited: false, available, upload_expired: false, size: None }
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

    #[test]
    fn upload_commands_are_safe_to_paste() {
        let base = UploadBase { socket: "/a b/it's".into(), external: Some("https://h:1/".into()) };
        let (urls, command) = upload(&base, "T");
        assert_eq!(command, r"curl --unix-socket '/a b/it'\''s' -T FILE http://localhost/upload/T");
        assert_eq!(urls.external.as_deref(), Some("https://h:1/upload/T"));
    }

    #[test]
    fn durations() {
        let at = |ms: i64| Timestamp::from_millisecond(ms).unwrap();
        for (ms, text) in [(0, "0s"), (1500, "1.5s"), (60_000, "1m0s"), (3_723_000, "1h2m3s"), (20, "0.02s")] {
            assert_eq!(duration(at(0), at(ms)), text);
        }
    }
}
