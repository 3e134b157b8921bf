//! What is told of disks that need their source to be judged.

use serde_json::Value;

use super::across::{Findings, World, at, namespace, text};
use crate::apiserver::object::{self, Object};
use crate::types::quantity::{format_bytes, parse_bytes};

/// A disk smaller than its image is not refused, as the image may still change; but it will fail.
pub(super) fn disk(world: &dyn World, old: Option<&Object>, new: &Object, findings: &mut Findings) {
    const SIZE: [&str; 3] = ["spec", "persistentVolumeClaim", "size"];
    const SOURCE: [&str; 3] = ["spec", "dataSource", "objectRef"];
    if old.is_some_and(|old| at(old, &SIZE) == at(new, &SIZE) && at(old, &SOURCE) == at(new, &SOURCE)) {
        return;
    }
    let (kind, name) = (text(new, &["spec", "dataSource", "objectRef", "kind"]), at(new, &SOURCE));
    let name = name.and_then(|r| r.get("name")).and_then(Value::as_str).unwrap_or("");
    let images = match kind {
        "VirtualImage" => world.list("virtualimages", namespace(new)),
        "ClusterVirtualImage" => world.list("clustervirtualimages", None),
        _ => return,
    };
    let image = images.iter().find(|i| object::name(i) == name);
    let needed = image.and_then(|i| text(i, &["status", "size", "unpackedBytes"]).parse::<u64>().ok());
    let given = at(new, &SIZE).and_then(Value::as_str).and_then(parse_bytes);
    if let (Some(needed), Some(given)) = (needed, given)
        && given < needed
    {
        findings.warnings.push(format!(
            "spec.persistentVolumeClaim.size: {} is less than the {} that {kind} {name:?} takes: the disk will fail",
            format_bytes(given),
            format_bytes(needed)
        ));
    }
}
