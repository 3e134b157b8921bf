//! Draft, review, save; conflict and refusal.

use serde_json::{Value, json};

use super::*;
use crate::client::{Cause, ClientError, ErrorKind};
use crate::tui::form::CreateContext;
use crate::tui::message::{EditId, FormData};
use crate::tui::screens::View;

/// Opens `web` in the editor and makes two cores three.
fn edited(columns: u16, rows: u16) -> Desk {
    let mut desk = Desk::demo(columns, rows);
    desk.keys("je");
    let View::Edit(view) = desk.state.view_mut() else { panic!("no editor") };
    let text = view.editor.text().replace("cores: 2", "cores: 3");
    view.editor.replace_text(&text);
    desk
}

fn save(desk: &Desk) -> Option<(EditId, Value, String)> {
    desk.effects.iter().find_map(|e| match e {
        Effect::Save { edit, patch, resource_version, .. } => Some((*edit, patch.clone(), resource_version.clone())),
        _ => None,
    })
}

#[test]
fn editor_and_review() {
    for (columns, rows) in [(80, 24), (120, 36)] {
        let mut desk = edited(columns, rows);
        desk.shows("editor");
        desk.keys("<ctrl-s>");
        desk.shows("review");
    }
}

#[test]
fn an_edit_is_saved_as_a_conditional_patch_of_what_changed() {
    let mut desk = edited(120, 36);
    desk.keys("<ctrl-s>");
    assert!(save(&desk).is_none(), "nothing is saved before the review says so");
    desk.keys("y");
    let (edit, patch, version) = save(&desk).unwrap();
    assert_eq!((patch, version.as_str()), (json!({"spec": {"cpu": {"cores": 3}}}), "120"));
    let mut saved = cluster::web();
    saved["spec"]["cpu"]["cores"] = json!(3);
    desk.event(Event::Saved { edit, result: Ok(Box::new(saved)), server: None });
    assert!(matches!(desk.state.view(), View::Machine(_)), "what waits is shown on the machine's screen");
    let notice = desk.state.notice.clone().unwrap().text;
    assert_eq!(notice, "machine default/web saved: 1 change waits for a restart, r restarts now");
    desk.feed();
    desk.keys("ry");
    assert!(desk.effects.iter().any(|e| matches!(e, Effect::Run { .. })));
}

#[test]
fn a_conflict_keeps_the_text_and_reviews_it_again() {
    let mut desk = edited(120, 36);
    desk.keys("<ctrl-s>y");
    let (edit, ..) = save(&desk).unwrap();
    desk.effects.clear();
    let mut theirs = cluster::web();
    theirs["metadata"]["resourceVersion"] = json!("130");
    theirs["spec"]["memory"]["size"] = json!("2Gi");
    let error = ClientError::new(ErrorKind::Conflict { causes: Vec::new() }, "the object has been modified");
    desk.event(Event::Saved { edit, result: Err(error), server: Some(Box::new(theirs)) });
    let View::Edit(view) = desk.state.view() else { panic!("the edit is gone") };
    assert!(view.editor.text().contains("cores: 3") && view.review.is_some());
    desk.keys("y");
    let (_, patch, version) = save(&desk).unwrap();
    assert_eq!(version, "130");
    assert_eq!(patch, json!({"spec": {"cpu": {"cores": 3}}}), "their memory is not undone");
}

#[test]
fn a_refusal_shows_at_its_row_and_line() {
    let mut desk = edited(120, 36);
    desk.keys("<ctrl-s>y");
    let (edit, ..) = save(&desk).unwrap();
    let causes = vec![Cause {
        field: "spec.cpu.cores".into(),
        reason: "FieldValueInvalid".into(),
        message: "3 cores do not fit any topology; use 2 or 4".into(),
    }];
    let error = ClientError::new(ErrorKind::Invalid { causes }, "invalid");
    desk.event(Event::Saved { edit, result: Err(error), server: None });
    assert!(desk.screen().contains("use 2 or 4"), "{}", desk.screen());
    desk.keys("e");
    let screen = desk.screen();
    assert!(screen.contains("cores: 3") && screen.contains("use 2 or 4"), "{screen}");
}

#[test]
fn an_outside_editor_gets_the_text_and_its_changes_are_reviewed() {
    let mut desk = Desk::demo(120, 36);
    desk.keys("jE");
    let (edit, text) = desk
        .effects
        .iter()
        .find_map(|e| match e {
            Effect::OpenEditor { edit, text, .. } => Some((*edit, text.clone())),
            _ => None,
        })
        .unwrap();
    assert!(!text.contains("status:"));
    desk.event(Event::EditorClosed { edit, result: Ok(text.replace("cores: 2", "cores: 4")) });
    assert!(matches!(desk.state.view(), View::Edit(view) if view.review.is_some()));
    let mut desk = Desk::demo(120, 36);
    desk.keys("jE");
    desk.event(Event::EditorClosed { edit, result: Ok(text) });
    assert!(matches!(desk.state.view(), View::List(_)), "unchanged text closes the edit");
}

#[test]
fn machines_are_created_from_a_form() {
    for (columns, rows) in [(80, 24), (120, 36)] {
        let mut desk = Desk::demo(columns, rows);
        desk.keys("+");
        assert!(desk.effects.iter().any(|e| matches!(e, Effect::Prepare(_))));
        let context = CreateContext {
            namespace: "default".into(),
            namespaces: vec!["ci".into(), "default".into()],
            classes: vec!["host".into(), "generic".into()],
            taken: vec!["web".into()],
            ..CreateContext::default()
        };
        desk.event(Event::Prepared(Ok(FormData::Machine(context))));
        desk.shows("form");
    }
}

#[test]
fn other_kinds_are_created_from_a_template() {
    let mut desk = Desk::demo(80, 24);
    desk.keys(":vd<enter>+data<enter>");
    let View::Edit(view) = desk.state.view() else { panic!("no editor") };
    assert!(view.editor.text().contains("name: data"));
    desk.shows("template");
    desk.keys("<ctrl-s>");
    assert!(desk.effects.iter().any(|e| matches!(e, Effect::Create { objects, .. }
        if objects[0]["spec"]["persistentVolumeClaim"]["size"] == "1Gi")));
}
