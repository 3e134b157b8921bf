//! Editing and creating: the components of `editor`, `review` and `form` as views of the stack.

use ratatui::layout::Rect;
use serde_json::{Value, json};

use super::super::editor::Editor;
use super::super::form::Form;
use super::super::message::{EditId, Kind, ObjectRef};
use super::super::paint::Paint;
use super::super::review::Review;

/// What becomes of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Intent {
    /// An object that exists is patched.
    Patch,
    /// A new object is created.
    Create,
}

/// An object under edit.
pub struct EditView {
    /// Names the edit towards effects.
    pub id: EditId,
    /// The object.
    pub object: ObjectRef,
    /// What becomes of the text.
    pub intent: Intent,
    /// The text.
    pub editor: Editor,
    /// The review, while it is open.
    pub review: Option<Review>,
    /// The text is in an outside editor.
    pub outside: bool,
}

/// A form on the stack.
pub struct FormView {
    /// Names the edit towards effects.
    pub id: EditId,
    /// The fields.
    pub form: Form,
}

/// Draws the editor, or the review in its place.
pub fn draw_edit(view: &EditView, paint: &mut Paint<'_>, area: Rect) {
    match &view.review {
        Some(review) => review.view(area, paint.buffer, paint.theme),
        None => {
            view.editor.view(area, paint.buffer, paint.theme);
            paint.cursor = view.editor.cursor(area);
        }
    }
}

/// Draws the form.
pub fn draw_form(view: &FormView, paint: &mut Paint<'_>, area: Rect) {
    view.form.view(area, paint.buffer, paint.theme);
    paint.cursor = view.form.cursor(area);
}

/// A manifest to start from, for kinds without a form.
pub fn template(kind: Kind, namespace: &str, name: &str) -> Value {
    let mut object = json!({
        "apiVersion": kind.0.api_version(),
        "kind": kind.0.kind,
        "metadata": {"name": name},
    });
    if kind.0.namespaced() {
        object["metadata"]["namespace"] = json!(namespace);
    }
    let (field, body) = match kind.0.kind {
        "VirtualDisk" => ("spec", json!({"persistentVolumeClaim": {"size": "1Gi"}})),
        "VirtualImage" => (
            "spec",
            json!({"storage": "ContainerRegistry", "dataSource": {"type": "HTTP", "http": {"url": "https://"}}}),
        ),
        "ClusterVirtualImage" => ("spec", json!({"dataSource": {"type": "HTTP", "http": {"url": "https://"}}})),
        "VirtualMachineBlockDeviceAttachment" => {
            ("spec", json!({"virtualMachineName": "", "blockDeviceRef": {"kind": "VirtualDisk", "name": ""}}))
        }
        "VirtualMachineIPAddress" => ("spec", json!({"type": "Auto"})),
        "VirtualMachineClass" => ("spec", json!({"cpu": {"type": "Host"}})),
        "Secret" => {
            object["type"] = json!("Opaque");
            ("stringData", json!({"key": "value"}))
        }
        "ConfigMap" => ("data", json!({"key": "value"})),
        _ => return object,
    };
    object[field] = body;
    object
}
