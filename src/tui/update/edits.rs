//! Editing and creating: draft, review, save; conflicts and refusals keep what was typed.

use crossterm::event::KeyEvent;
use serde_json::Value;

use super::super::action::Action;
use super::super::editor::{Editor, Request as EditorRequest};
use super::super::form::{Request as FormRequest, attach_disk, clone_machine, create_machine, restore_machine};
use super::super::input::Input;
use super::super::message::{EditId, Effect, Failure, FormData, FormWish, Kind, ObjectRef};
use super::super::overlay::{Ask, Overlay, Purpose};
use super::super::review::{Edit, Request as ReviewRequest, Review};
use super::super::screens::edit::{EditView, FormView, Intent, template};
use super::super::screens::{MachineView, View, kind_noun};
use super::super::state::{Scroll, State, machine_kind};
use super::super::text::count;
use super::{actions, go};
use crate::client::{ClientError, ErrorKind};
use crate::types::diff::Profile;

/// Opens an object in the editor, or in an outside one.
pub fn open(state: &mut State, outside: bool) -> Vec<Effect> {
    let Some((object, content)) = state.at_hand() else { return Vec::new() };
    let editor = Editor::open((*content).clone());
    start(state, object, editor, Intent::Patch, outside)
}

fn start(state: &mut State, object: ObjectRef, editor: Editor, intent: Intent, outside: bool) -> Vec<Effect> {
    let id = EditId(state.fresh_id());
    let effects = match outside {
        true => vec![Effect::OpenEditor { edit: id, text: editor.text(), name: object.name.clone() }],
        false => Vec::new(),
    };
    go::push(state, View::Edit(Box::new(EditView { id, object, intent, editor, review: None, outside })));
    effects
}

/// Starts to create an object: a form for machines, text for everything else.
pub fn create(state: &mut State, kind: Kind) -> Vec<Effect> {
    let namespace = state.namespace.clone().unwrap_or_else(|| state.last_namespace.clone());
    if kind == machine_kind() {
        state.hint("gathering images, disks and classes");
        return vec![Effect::Prepare(FormWish::Machine { namespace })];
    }
    state.overlays.push(Overlay::Ask(Ask {
        title: format!("New {}", kind_noun(kind.0)),
        note: match kind.0.namespaced() {
            true => format!("Its name; it is created in namespace {}.", crate::types::text::printable(&namespace)),
            false => "Its name.".into(),
        },
        input: Input::default(),
        purpose: Purpose::Name { kind, namespace },
    }));
    Vec::new()
}

/// The name of a new object was given: its manifest opens in the editor.
pub fn named(state: &mut State, kind: Kind, namespace: &str, name: String) -> Vec<Effect> {
    let object = template(kind, namespace, &name);
    let place = if kind.0.namespaced() { namespace.to_owned() } else { String::new() };
    let editor = Editor::open(object);
    start(state, ObjectRef { kind, namespace: place, name }, editor, Intent::Create, false)
}

/// Starts to attach a disk to the machine at hand.
pub fn attach(state: &mut State) -> Vec<Effect> {
    let Some((machine, _)) = state.at_hand() else { return Vec::new() };
    state.hint("gathering disks");
    vec![Effect::Prepare(FormWish::Attach { namespace: machine.namespace, machine: machine.name })]
}

/// Starts to clone the machine at hand.
pub fn clone(state: &mut State) -> Vec<Effect> {
    let Some((machine, _)) = state.at_hand() else { return Vec::new() };
    state.hint("gathering names");
    vec![Effect::Prepare(FormWish::Clone { namespace: machine.namespace, machine: machine.name })]
}

/// Starts to restore the machine at hand.
pub fn restore(state: &mut State) -> Vec<Effect> {
    let Some((machine, _)) = state.at_hand() else { return Vec::new() };
    state.hint("gathering snapshots");
    vec![Effect::Prepare(FormWish::Restore { namespace: machine.namespace, machine: machine.name })]
}

/// What a form offers has come.
pub fn prepared(state: &mut State, result: Result<FormData, Failure>) -> Vec<Effect> {
    state.notice = None;
    let form = match result {
        Ok(FormData::Machine(context)) => create_machine(context),
        Ok(FormData::Attach(context)) => attach_disk(context),
        Ok(FormData::Clone(context)) => clone_machine(context),
        Ok(FormData::Restore(context)) => restore_machine(context),
        Err(failure) => {
            state.error("Open the form".into(), failure, None);
            return Vec::new();
        }
    };
    let id = EditId(state.fresh_id());
    go::push(state, View::Form(Box::new(FormView { id, form })));
    Vec::new()
}

/// A key, if an editor or form is on top.
pub fn key(state: &mut State, key: KeyEvent) -> Option<Vec<Effect>> {
    match state.view_mut() {
        // A new object is as it shall be as soon as it can be read, whether it was changed or not.
        View::Edit(view) if view.intent == Intent::Create && creates(key) && view.editor.edited().is_some() => {
            Some(review(state))
        }
        View::Edit(view) => Some(match &mut view.review {
            Some(review) => {
                let requests = review.key(key);
                review_requests(state, requests)
            }
            None => {
                let requests = view.editor.key(key);
                editor_requests(state, requests)
            }
        }),
        View::Form(view) => {
            let requests = view.form.key(key);
            Some(form_requests(state, requests))
        }
        _ => None,
    }
}

fn creates(key: KeyEvent) -> bool {
    use crossterm::event::{KeyCode, KeyModifiers};
    key.code == KeyCode::Char('s') && key.modifiers.contains(KeyModifiers::CONTROL)
}

/// Pasted text, if an editor or form is on top.
pub fn paste(state: &mut State, text: &str) -> Option<Vec<Effect>> {
    match state.view_mut() {
        View::Edit(view) if view.review.is_none() => {
            let requests = view.editor.paste(text);
            Some(editor_requests(state, requests))
        }
        View::Edit(_) => Some(Vec::new()),
        View::Form(view) => {
            let requests = view.form.paste(text);
            Some(form_requests(state, requests))
        }
        _ => None,
    }
}

fn editor_requests(state: &mut State, requests: Vec<EditorRequest>) -> Vec<Effect> {
    let mut effects = Vec::new();
    for request in requests {
        match request {
            EditorRequest::Close => {
                go::close(state);
            }
            EditorRequest::Review => effects.extend(review(state)),
            EditorRequest::External(text) => {
                if let View::Edit(view) = state.view_mut() {
                    view.outside = true;
                    effects.push(Effect::OpenEditor { edit: view.id, text, name: view.object.name.clone() });
                }
            }
            EditorRequest::Copy(text) => effects.push(actions::copy(state, text, "text")),
            EditorRequest::Notice(text) => state.hint(text),
        }
    }
    effects
}

/// Opens the review of the edit on top; a new object has nothing to compare with and is created at once.
fn review(state: &mut State) -> Vec<Effect> {
    let profile = if state.standalone() { Profile::Guide } else { Profile::Current };
    let View::Edit(view) = state.view_mut() else { return Vec::new() };
    let Some(edited) = view.editor.edited() else {
        state.hint("the text cannot be used yet: see the remarks");
        return Vec::new();
    };
    if view.intent == Intent::Create {
        let (edit, objects) = (view.id, vec![edited.clone()]);
        state.hint("creating");
        return vec![Effect::Create { edit, objects }];
    }
    let draft = view.editor.draft();
    let patch = draft.patch(edited);
    if patch.as_object().is_none_or(serde_json::Map::is_empty) {
        state.hint("nothing was changed");
        return Vec::new();
    }
    let (desired, conflicts) = (draft.desired(edited), view.editor.conflicts());
    let edit = Edit { declared: draft.base(), desired: &desired, patch: &patch, conflicts: &conflicts, profile };
    view.review = Some(Review::of_edit(edit));
    Vec::new()
}

fn review_requests(state: &mut State, requests: Vec<ReviewRequest>) -> Vec<Effect> {
    let mut effects = Vec::new();
    for request in requests {
        let View::Edit(view) = state.view_mut() else { break };
        match request {
            ReviewRequest::Save => {
                let (Some(patch), Some(version)) = (view.editor.patch(), view.editor.draft().resource_version()) else {
                    continue;
                };
                let save = Effect::Save {
                    edit: view.id,
                    object: view.object.clone(),
                    patch,
                    resource_version: version.to_owned(),
                };
                if let Some(review) = &mut view.review {
                    review.saving();
                }
                effects.push(save);
            }
            ReviewRequest::Edit | ReviewRequest::Close => view.review = None,
            ReviewRequest::RestartNow => effects.extend(actions::act(state, Action::Restart)),
            ReviewRequest::Copy(text) => effects.push(actions::copy(state, text, "patch")),
        }
    }
    effects
}

fn form_requests(state: &mut State, requests: Vec<FormRequest>) -> Vec<Effect> {
    let mut effects = Vec::new();
    for request in requests {
        match request {
            FormRequest::Apply(objects) => {
                if let View::Form(view) = state.view() {
                    effects.push(Effect::Create { edit: view.id, objects });
                }
            }
            FormRequest::Close => {
                go::close(state);
            }
            FormRequest::Copy(text) => effects.push(actions::copy(state, text, "text")),
            FormRequest::Notice(text) => state.hint(text),
        }
    }
    effects
}

/// The outside editor ended: unchanged text closes the edit, changed text is reviewed.
pub fn editor_closed(state: &mut State, edit: EditId, result: Result<String, Failure>) -> Vec<Effect> {
    let Some(view) = edit_view(state, edit) else { return Vec::new() };
    let opened_for_it = std::mem::take(&mut view.outside);
    match result {
        Ok(text) => {
            view.editor.replace_text(&text);
            if !view.editor.is_dirty() {
                if opened_for_it && view.intent == Intent::Patch {
                    go::close(state);
                }
                state.hint("nothing was changed");
                return Vec::new();
            }
            if view.editor.edited().is_some() { review(state) } else { Vec::new() }
        }
        Err(failure) => {
            if !view.editor.is_dirty() {
                go::close(state);
            }
            state.error("Edit outside".into(), failure, None);
            Vec::new()
        }
    }
}

fn edit_view(state: &mut State, edit: EditId) -> Option<&mut EditView> {
    state.views.iter_mut().find_map(|view| match view {
        View::Edit(view) if view.id == edit => Some(view.as_mut()),
        _ => None,
    })
}

/// The server answered a save or a creation.
pub fn saved(
    state: &mut State,
    edit: EditId,
    result: Result<Box<Value>, ClientError>,
    server: Option<Box<Value>>,
) -> Vec<Effect> {
    match result {
        Ok(object) => accepted(state, edit, &object),
        Err(error) => refused(state, edit, &error, server),
    }
    Vec::new()
}

fn accepted(state: &mut State, edit: EditId, saved: &Value) {
    let at = state.views.iter().position(|view| match view {
        View::Edit(view) => view.id == edit,
        View::Form(view) => view.id == edit,
        _ => false,
    });
    let Some(at) = at else { return };
    let object = match &state.views[at] {
        View::Edit(view) => Some(view.object.clone()),
        _ => address(saved),
    };
    let patched = matches!(&state.views[at], View::Edit(view) if view.intent == Intent::Patch);
    let waits = match &state.views[at] {
        View::Edit(view) => view.review.as_ref().map_or(0, Review::restart_count),
        _ => 0,
    };
    let on_top = at + 1 == state.views.len();
    if state.views.len() > 1 {
        state.views.remove(at);
    }
    let Some(object) = object else { return };
    let what = format!("{} {}", kind_noun(object.kind.0), object.path());
    if !patched {
        state.say(format!("{what} created"));
    } else if waits > 0 {
        let key = state.keymap.label(Action::Restart);
        let changes = count(waits, "change waits", "changes wait");
        state.say(format!("{what} saved: {changes} for a restart, {key} restarts now"));
    } else {
        state.say(format!("{what} saved"));
    }
    // What waits is shown on the machine's own screen; a new machine is watched there while it comes up.
    let already = matches!(state.view(), View::Machine(view) if view.object == object);
    if on_top && object.kind == machine_kind() && (waits > 0 || !patched) && !already {
        go::push(state, View::Machine(MachineView { object, scroll: Scroll::default() }));
    } else if let Some(feed) = state.list_mut() {
        feed.table.select(&object.namespace, &object.name);
    }
}

/// The address of an object by what it says about itself.
fn address(object: &Value) -> Option<ObjectRef> {
    let text = |value: &Value| value.as_str().map(ToOwned::to_owned);
    let kind = crate::types::kinds::by_kind(object["apiVersion"].as_str()?, object["kind"].as_str()?)?;
    Some(ObjectRef {
        kind: Kind(kind),
        namespace: text(&object["metadata"]["namespace"]).unwrap_or_default(),
        name: text(&object["metadata"]["name"])?,
    })
}

fn refused(state: &mut State, edit: EditId, error: &ClientError, server: Option<Box<Value>>) {
    let mut errors: Vec<(String, String)> = match error.kind() {
        ErrorKind::Invalid { causes } | ErrorKind::Conflict { causes } => {
            causes.iter().map(|c| (c.field.clone(), c.message.clone())).collect()
        }
        _ => Vec::new(),
    };
    if errors.is_empty() {
        errors.push((String::new(), error.to_string()));
    }
    let on_screen = state.views.iter_mut().find_map(|view| match view {
        View::Edit(view) if view.id == edit => match (&server, view.intent) {
            (Some(newer), Intent::Patch) => {
                let both = view.editor.rebase((**newer).clone());
                view.review = None;
                Some(Some(both.len()))
            }
            (None, Intent::Patch) if view.review.is_some() => {
                view.editor.refused(errors.clone());
                if let Some(review) = &mut view.review {
                    review.refused(errors.clone());
                }
                Some(None)
            }
            _ => {
                view.editor.refused(errors.clone());
                Some(None)
            }
        },
        View::Form(view) if view.id == edit => {
            view.form.refused(errors.clone());
            Some(None)
        }
        _ => None,
    });
    match on_screen {
        // A conflict: the review opens again over the newer object, the text is as it was.
        Some(Some(both)) => {
            review(state);
            state.hint(match both {
                0 => "somebody else changed the object meanwhile; your changes are laid over theirs".to_owned(),
                n => format!(
                    "somebody else changed {} too: look at the marked rows",
                    count(n, "of your fields", "of your fields")
                ),
            });
        }
        Some(None) => state.notice = None,
        None => state.error("Save".into(), Failure::from(error), None),
    }
}
