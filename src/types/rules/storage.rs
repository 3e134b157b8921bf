//! Rules of VirtualDisk, VirtualImage and ClusterVirtualImage.

use serde_json::Value;

use super::{quantity, text};
use crate::types::field_error::FieldError;

/// Data source types with the field that belongs to each, and what is said when it is not that field alone.
const SOURCES: [(&str, &str, &str); 4] = [
    ("HTTP", "http", "HTTP requires http and cannot have ContainerImage, ObjectRef or Upload."),
    (
        "ContainerImage",
        "containerImage",
        "ContainerImage requires containerImage and cannot have HTTP, ObjectRef or Upload.",
    ),
    ("ObjectRef", "objectRef", "ObjectRef requires objectRef and cannot have HTTP, ContainerImage or Upload."),
    ("Upload", "upload", "Upload cannot have HTTP, ContainerImage or ObjectRef."),
];

const SIZE: &str = "spec.persistentVolumeClaim.size";

pub(super) fn disk(old: Option<&Value>, new: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if let Some(old) = old
        && old.pointer("/metadata/deletionTimestamp").is_some()
    {
        return vec![FieldError::forbidden("spec", "the disk is being deleted and cannot be changed")];
    }
    common(old, new, &mut errors);
    size(old, new, &mut errors);
    if let Some(old) = old.filter(|old| made(old)) {
        fixed(old, new, "dataSource", "the disk has been made from it", &mut errors);
        storage_class(old, new, &mut errors);
    }
    errors
}

pub(super) fn image(old: Option<&Value>, new: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    common(old, new, &mut errors);
    if let Some(old) = old.filter(|old| made(old)) {
        fixed(old, new, "dataSource", "the image has been made from it", &mut errors);
        fixed(old, new, "storage", "the image is stored there", &mut errors);
        storage_class(old, new, &mut errors);
    }
    errors
}

pub(super) fn cluster_image(old: Option<&Value>, new: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    common(old, new, &mut errors);
    let kind = text(new, "/spec/dataSource/objectRef/kind");
    if matches!(kind, "VirtualDisk" | "VirtualImage" | "VirtualDiskSnapshot") {
        let path = "spec.dataSource.objectRef";
        let namespace = text(new, "/spec/dataSource/objectRef/namespace");
        if namespace.is_empty() {
            let message = "The namespace is required for VirtualDisk, VirtualImage and VirtualDiskSnapshot";
            errors.push(FieldError::rule(path, message));
        } else if namespace.chars().count() > 63 {
            errors.push(FieldError::rule(path, "The namespace must be no longer than 63 characters."));
        }
    }
    if let Some(old) = old.filter(|old| made(old))
        && old.get("spec") != new.get("spec")
    {
        errors.push(FieldError::forbidden("spec", "cannot be changed once the image is ready; make a new image"));
    }
    errors
}

/// Whether content is there that later changes of the spec could contradict.
fn made(object: &Value) -> bool {
    matches!(text(object, "/status/phase"), "Ready" | "Resizing" | "Migrating" | "Exporting" | "PVCLost" | "ImageLost")
}

fn common(old: Option<&Value>, new: &Value, errors: &mut Vec<FieldError>) {
    let name = text(new, "/metadata/name");
    if old.is_none() && name.contains('.') {
        let detail = "a dot is forbidden; use lower-case letters, digits and -";
        errors.push(FieldError::invalid("metadata.name", &Value::from(name), detail));
    }
    let Some(source) = new.pointer("/spec/dataSource") else { return };
    let type_ = text(source, "/type");
    let Some((_, wanted, message)) = SOURCES.iter().find(|(name, ..)| *name == type_) else { return };
    // Upload has nothing to say but an optional checksum.
    let missing = source.get(*wanted).is_none() && type_ != "Upload";
    let excess = SOURCES.iter().any(|(_, other, _)| other != wanted && source.get(*other).is_some());
    if missing || excess {
        errors.push(FieldError::rule("spec.dataSource", message));
    }
}

fn size(old: Option<&Value>, new: &Value, errors: &mut Vec<FieldError>) {
    const POINTER: &str = "/spec/persistentVolumeClaim/size";
    let given = new.pointer(POINTER);
    let before = old.and_then(|old| quantity(old, POINTER));
    match (given, quantity(new, POINTER)) {
        (None, _) if before.is_some() => {
            errors.push(FieldError::required(SIZE, "the size cannot be removed once it is set"));
        }
        (None, _) if new.pointer("/spec/dataSource").is_none() => {
            errors.push(FieldError::required(SIZE, "a blank disk needs a size such as 10Gi; or give a dataSource"));
        }
        (Some(value), None | Some(0)) => {
            errors.push(FieldError::invalid(SIZE, value, "must be a positive quantity such as 10Gi"));
        }
        (Some(value), Some(now)) => {
            let Some(before) = before.filter(|before| *before != now) else { return };
            if old.is_some_and(|old| text(old, "/status/phase") == "Migrating") {
                errors.push(FieldError::forbidden(SIZE, "the disk is migrating; wait until that is finished"));
            } else if now < before {
                let old = old.and_then(|old| old.pointer(POINTER)).cloned().unwrap_or_default();
                let detail = format!("a disk cannot shrink: the new value should be at least {old}");
                errors.push(FieldError::invalid(SIZE, value, detail));
            }
        }
        (None, _) => {}
    }
}

fn fixed(old: &Value, new: &Value, field: &str, why: &str, errors: &mut Vec<FieldError>) {
    let pointer = format!("/spec/{field}");
    if old.pointer(&pointer) != new.pointer(&pointer) {
        errors.push(FieldError::forbidden(format!("spec.{field}"), format!("cannot be changed: {why}")));
    }
}

fn storage_class(old: &Value, new: &Value, errors: &mut Vec<FieldError>) {
    const POINTER: &str = "/spec/persistentVolumeClaim/storageClassName";
    if old.pointer(POINTER) != new.pointer(POINTER) {
        let detail = "moving to another storage class is not available";
        errors.push(FieldError::forbidden("spec.persistentVolumeClaim.storageClassName", detail));
    }
}
