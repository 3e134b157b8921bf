//! The review by keys and whole screens.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use serde_json::json;

use super::*;
use crate::tui::editor::patch::merge_patch;
use crate::tui::theme::Theme;
use crate::types::diff::Profile;

fn declared() -> Value {
    json!({
        "apiVersion": "virtualization.deckhouse.io/v1alpha2", "kind": "VirtualMachine",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"cpu": {"cores": 1}, "memory": {"size": "1Gi"}, "runPolicy": "AlwaysOn",
            "provisioning": {"type": "UserData", "userData": "#cloud-config\nusers:\n- name: a\n"},
            "blockDeviceRefs": [{"kind": "VirtualDisk", "name": "root"}]},
        "status": {"phase": "Running", "restartAwaitingChanges": [
            {"operation": "replace", "path": "memory.size", "currentValue": "512Mi", "desiredValue": "1Gi"}]},
    })
}

fn review(change: Value) -> Review {
    let declared = declared();
    let mut desired = declared.clone();
    json_patch::merge(&mut desired, &change);
    let patch = merge_patch(&declared, &desired);
    let conflicts = [vec!["spec".to_owned(), "runPolicy".into()]];
    Review::of_edit(Edit {
        declared: &declared,
        desired: &desired,
        patch: &patch,
        conflicts: &conflicts,
        profile: Profile::Guide,
    })
}

fn full() -> Review {
    review(json!({"metadata": {"labels": {"tier": "front"}}, "spec": {"cpu": {"cores": 2}, "runPolicy": "Manual",
        "provisioning": {"userData": "#cloud-config\nusers:\n- name: b\n"},
        "disruptions": {"restartApprovalMode": "Automatic"}}}))
}

fn press(review: &mut Review, code: KeyCode) -> Vec<Request> {
    review.key(KeyEvent::new(code, KeyModifiers::NONE))
}

fn screen(review: &Review, width: u16, height: u16) -> String {
    let area = Rect::new(0, 0, width, height);
    let mut buffer = Buffer::empty(area);
    review.view(area, &mut buffer, &Theme::builtin("mono"));
    let mut out = String::new();
    for y in 0..height {
        let line: String = (0..width).map(|x| buffer[(x, y)].symbol()).collect();
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

#[test]
fn saving_happens_once_and_only_on_request() {
    let mut review = full();
    assert_eq!(press(&mut review, KeyCode::Char('e')), [Request::Edit]);
    assert_eq!(press(&mut review, KeyCode::Esc), [Request::Edit]);
    assert_eq!(press(&mut review, KeyCode::Char('y')), [Request::Save]);
    review.saving();
    assert_eq!(press(&mut review, KeyCode::Enter), []);
    assert!(screen(&review, 80, 24).contains("saving..."));
    let Some(Request::Copy(patch)) = full().key(KeyEvent::from(KeyCode::Char('c'))).pop() else { panic!() };
    assert!(patch.contains("cores: 2"));
}

#[test]
fn refusals_show_on_their_rows() {
    let mut review = full();
    review.saving();
    review.refused([
        ("spec.cpu.cores".to_owned(), "Invalid value: 2: the class allows 1".to_owned()),
        ("spec.unknown".to_owned(), "no such field".to_owned()),
        (String::new(), "the webhook says no\x1b[2J".to_owned()),
    ]);
    assert_eq!(review.rows()[review.cursor].path, "cpu.cores");
    let shown = screen(&review, 100, 24);
    for text in ["refused", "the class allows 1", "spec.unknown: no such field", "webhook says no\\x1b[2J"] {
        assert!(shown.contains(text), "{text}: {shown}");
    }
    assert_eq!(press(&mut review, KeyCode::Char('y')), [Request::Save], "one may try again");
}

#[test]
fn what_the_rules_refuse_is_foretold() {
    let disk = json!({
        "apiVersion": "virtualization.deckhouse.io/v1alpha2", "kind": "VirtualDisk",
        "metadata": {"name": "d", "namespace": "default"},
        "spec": {"persistentVolumeClaim": {"size": "2Gi"}},
    });
    let mut desired = disk.clone();
    desired["spec"]["persistentVolumeClaim"]["size"] = json!("1Gi");
    let patch = merge_patch(&disk, &desired);
    let edit = Edit { declared: &disk, desired: &desired, patch: &patch, conflicts: &[], profile: Profile::Guide };
    let mut review = Review::of_edit(edit);
    assert_eq!(review.rows()[0].cost, Cost::Refused, "a disk does not shrink");
    assert!(screen(&review, 100, 20).contains("refused"));
    assert_eq!(press(&mut review, KeyCode::Char('y')), [Request::Save], "the server has the last word");
    review.saving();
    assert_eq!(review.rows()[0].cost, Cost::Now);
}

#[test]
fn waiting_changes_offer_the_restart() {
    let mut waiting = Review::of_waiting(&declared());
    assert_eq!(press(&mut waiting, KeyCode::Char('y')), []);
    assert_eq!(press(&mut waiting, KeyCode::Char('r')), [Request::RestartNow]);
    assert_eq!(press(&mut waiting, KeyCode::Esc), [Request::Close]);
    let nothing = Review::of_waiting(&json!({"kind": "VirtualMachine", "metadata": {"name": "x"}}));
    assert!(screen(&nothing, 80, 10).contains("nothing waits"));
}

#[test]
fn screens() {
    for (width, height) in [(80, 24), (120, 36)] {
        let mut review = full();
        insta::assert_snapshot!(format!("edit-{width}x{height}"), screen(&review, width, height));
        press(&mut review, KeyCode::Down);
        insta::assert_snapshot!(format!("text-{width}x{height}"), screen(&review, width, height));
        let waiting = Review::of_waiting(&declared());
        insta::assert_snapshot!(format!("waiting-{width}x{height}"), screen(&waiting, width, height));
    }
}
