//! The editor by keys and whole screens.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use serde_json::json;

use super::*;
use crate::tui::theme::Theme;

fn machine() -> Value {
    json!({
        "apiVersion": "virtualization.deckhouse.io/v1alpha2", "kind": "VirtualMachine",
        "metadata": {"name": "web", "namespace": "default", "uid": "u", "resourceVersion": "7",
            "labels": {"app.kubernetes.io/name": "web"}},
        "spec": {"virtualMachineClassName": "host", "runPolicy": "AlwaysOn",
            "cpu": {"cores": 1, "coreFraction": "10%"}, "memory": {"size": "1Gi"},
            "provisioning": {"type": "UserData", "userData": "#cloud-config\nusers:\n- name: cloud\n"},
            "blockDeviceRefs": [{"kind": "VirtualDisk", "name": "root"}]},
        "status": {"phase": "Running"},
    })
}

fn editor() -> Editor {
    Editor::open(machine())
}

fn key(editor: &mut Editor, code: KeyCode) -> Vec<Request> {
    editor.key(KeyEvent::new(code, KeyModifiers::NONE))
}

fn ctrl(editor: &mut Editor, c: char) -> Vec<Request> {
    editor.key(KeyEvent::new(KeyCode::Char(c), KeyModifiers::CONTROL))
}

fn types(editor: &mut Editor, text: &str) {
    for c in text.chars() {
        key(editor, if c == '\n' { KeyCode::Enter } else { KeyCode::Char(c) });
    }
}

fn find(editor: &mut Editor, text: &str) {
    ctrl(editor, 'f');
    types(editor, text);
    key(editor, KeyCode::Enter);
    key(editor, KeyCode::Esc);
}

/// Changes `cores: 1` to `cores: 12` at its line's end.
fn edit_cores(editor: &mut Editor) {
    find(editor, "cores: 1");
    key(editor, KeyCode::End);
    types(editor, "2");
}

fn screen(editor: &Editor, width: u16, height: u16) -> String {
    let area = Rect::new(0, 0, width, height);
    let mut buffer = Buffer::empty(area);
    editor.view(area, &mut buffer, &Theme::builtin("dark"));
    let mut out = String::new();
    for y in 0..height {
        let line: String = (0..width).map(|x| buffer[(x, y)].symbol()).collect();
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

#[test]
fn only_what_was_edited_becomes_the_patch() {
    let mut editor = editor();
    assert!(!editor.is_dirty());
    assert_eq!(ctrl(&mut editor, 's'), [Request::Notice("nothing is changed".into())]);
    edit_cores(&mut editor);
    assert_eq!(editor.patch(), Some(json!({"spec": {"cpu": {"cores": 12}}})));
    assert_eq!(ctrl(&mut editor, 's'), [Request::Review]);
    assert!(editor.text().contains("    cores: 12\n"));
}

#[test]
fn comments_stay_and_change_nothing() {
    let mut editor = editor();
    find(&mut editor, "runPolicy");
    key(&mut editor, KeyCode::End);
    types(&mut editor, " # ask Anna first\n# second");
    assert!(editor.is_dirty());
    assert_eq!(editor.patch(), Some(json!({})));
    assert!(editor.text().contains("  runPolicy: AlwaysOn # ask Anna first\n  # second\n"));
}

#[test]
fn leaving_with_changes_asks_and_only_y_discards() {
    let mut editor = editor();
    assert_eq!(key(&mut editor, KeyCode::Esc), [Request::Close]);
    edit_cores(&mut editor);
    assert_eq!(key(&mut editor, KeyCode::Esc), []);
    assert!(screen(&editor, 100, 24).contains("discard your changes?"));
    assert_eq!(key(&mut editor, KeyCode::Char('n')), []);
    assert!(editor.text().contains("cores: 12"), "the answer is not typed into the text");
    key(&mut editor, KeyCode::Esc);
    assert_eq!(key(&mut editor, KeyCode::Esc), [], "a second Esc does not discard");
    key(&mut editor, KeyCode::Esc);
    assert_eq!(key(&mut editor, KeyCode::Char('y')), [Request::Close]);
}

#[test]
fn mistakes_show_at_their_line_and_bar_the_review() {
    let mut editor = editor();
    edit_cores(&mut editor);
    find(&mut editor, "memory:");
    key(&mut editor, KeyCode::End);
    types(&mut editor, " [");
    assert_eq!(editor.patch(), None);
    let line = editor.remarks().next().and_then(|r| r.line);
    assert!(line.is_some_and(|line| line >= 14), "{line:?}");
    assert!(matches!(&ctrl(&mut editor, 's')[..], [Request::Notice(text)] if text.contains("mistake")));
    ctrl(&mut editor, 'z');
    ctrl(&mut editor, 'z');
    assert_eq!(editor.patch(), Some(json!({"spec": {"cpu": {"cores": 12}}})));
}

#[test]
fn the_schema_warns_and_does_not_bar() {
    let mut editor = editor();
    find(&mut editor, "cores: 1");
    key(&mut editor, KeyCode::End);
    key(&mut editor, KeyCode::Backspace);
    types(&mut editor, "0\ncoress: 2");
    let remarks: Vec<&Remark> = editor.remarks().collect();
    assert!(remarks.iter().any(|r| r.message.contains("spec.cpu.cores") && r.line == Some(12)), "{remarks:?}");
    assert!(remarks.iter().any(|r| r.message.contains("spec.cpu.coress") && r.line == Some(13)), "{remarks:?}");
    assert_eq!(ctrl(&mut editor, 's'), [Request::Review], "the server decides");
    assert_eq!(editor.patch(), Some(json!({"spec": {"cpu": {"cores": 0, "coress": 2}}})), "unknown fields are sent");
}

#[test]
fn another_name_is_another_object() {
    let mut editor = editor();
    find(&mut editor, "name: web");
    key(&mut editor, KeyCode::End);
    types(&mut editor, "2");
    assert_eq!(editor.patch(), None);
    assert!(editor.remarks().any(|r| r.blocks && r.message.contains("metadata.name") && r.line == Some(4)));
}

#[test]
fn what_the_server_refuses_shows_at_its_line_until_the_next_change() {
    let mut editor = editor();
    edit_cores(&mut editor);
    let text = editor.text();
    editor
        .refused([("spec.blockDeviceRefs[0].name".into(), "no such disk\x1b[2J".into()), (String::new(), "no".into())]);
    assert_eq!(editor.text(), text);
    let shown = screen(&editor, 80, 30);
    assert!(shown.contains("spec.blockDeviceRefs[0].name: no such disk\\x1b[2J"), "{shown}");
    key(&mut editor, KeyCode::End);
    types(&mut editor, " # well");
    assert_eq!(editor.remarks().count(), 0);
}

#[test]
fn a_conflict_keeps_the_text_and_names_the_places() {
    let mut editor = editor();
    edit_cores(&mut editor);
    let text = editor.text();
    let mut newer = machine();
    newer["metadata"]["resourceVersion"] = json!("8");
    newer["spec"]["cpu"]["cores"] = json!(4);
    newer["spec"]["memory"]["size"] = json!("2Gi");
    assert_eq!(list_paths(&editor.rebase(newer)), "spec.cpu.cores");
    assert_eq!(editor.text(), text);
    assert_eq!(editor.patch(), Some(json!({"spec": {"cpu": {"cores": 12}}})), "their memory stays");
    assert_eq!(editor.draft().resource_version(), Some("8"));
    let shown = screen(&editor, 100, 24);
    assert!(shown.contains("changed by somebody else meanwhile"), "{shown}");
    assert!(shown.contains("changed by both: spec.cpu.cores"), "{shown}");
}

#[test]
fn the_own_editors_text_can_be_undone() {
    let mut editor = editor();
    let requests = ctrl(&mut editor, 'o');
    let [Request::External(text)] = &requests[..] else { panic!("{requests:?}") };
    editor.replace_text(&text.replace("cores: 1", "cores: 3").replace('\n', "\r\n"));
    assert_eq!(editor.patch(), Some(json!({"spec": {"cpu": {"cores": 3}}})));
    for _ in 0..2 {
        ctrl(&mut editor, 'z');
    }
    assert_eq!(editor.patch(), Some(json!({})));
    assert!(editor.text().contains("cores: 1\n"), "{}", editor.text());
}

#[test]
fn pasted_text_is_clean() {
    let mut editor = editor();
    editor.key(KeyEvent::new(KeyCode::Home, KeyModifiers::CONTROL));
    editor.paste("# a\tb\r\n# c\x1b[31m\u{9b}\n");
    assert!(editor.text().starts_with("# a  b\n# c[31m\napiVersion"), "{}", editor.text());
}

#[test]
fn selections_are_copied() {
    let mut editor = editor();
    editor.key(KeyEvent::new(KeyCode::Home, KeyModifiers::CONTROL));
    editor.key(KeyEvent::new(KeyCode::End, KeyModifiers::SHIFT));
    assert_eq!(ctrl(&mut editor, 'c'), [Request::Copy("apiVersion: virtualization.deckhouse.io/v1alpha2".into())]);
}

#[test]
fn indentation_helps() {
    let mut editor = editor();
    find(&mut editor, "labels:");
    key(&mut editor, KeyCode::End);
    types(&mut editor, "\nx: y");
    assert!(editor.text().contains("  labels:\n    x: y\n"), "{}", editor.text());
    key(&mut editor, KeyCode::BackTab);
    assert!(editor.text().contains("  labels:\n  x: y\n"));
    key(&mut editor, KeyCode::Home);
    key(&mut editor, KeyCode::Tab);
    assert!(editor.text().contains("  labels:\n    x: y\n"));
}

#[test]
fn hostile_text_is_drawn_harmlessly() {
    let mut object = machine();
    object["metadata"]["labels"]["x"] = json!("a\u{202e}b\u{7}c日本語");
    let editor = Editor::open(object);
    let shown = screen(&editor, 80, 24);
    assert!(shown.chars().all(|c| c == '\n' || is_printable(c)), "{shown:?}");
}

fn is_printable(c: char) -> bool {
    crate::types::text::is_printable(c)
}

#[test]
fn screens() {
    for (width, height) in [(80, 24), (120, 36)] {
        let mut editor = editor();
        edit_cores(&mut editor);
        insta::assert_snapshot!(format!("edit-{width}x{height}"), screen(&editor, width, height));
        types(&mut editor, "x: [");
        insta::assert_snapshot!(format!("mistake-{width}x{height}"), screen(&editor, width, height));
    }
}
