//! Every screen at the two sizes that count.

use super::*;
use crate::tui::message::{Failure, TaskNews};
use crate::tui::state::TaskState;

/// Runs a key script on the demo at both sizes.
fn at_both(name: &str, script: &str) {
    for (columns, rows) in [(80, 24), (120, 36)] {
        let mut desk = Desk::demo(columns, rows);
        desk.keys(script);
        desk.shows(name);
    }
}

#[test]
fn connecting() {
    Desk::start(80, 24).shows("connecting");
}

#[test]
fn no_connection() {
    let mut desk = Desk::start(80, 24);
    let failure = Failure {
        text: "context \"prod\" cannot be used: no answer from https://10.0.0.1:6443 within 2 s".into(),
        hint: Some("Check network and credentials, or choose another with --context.".into()),
    };
    desk.event(Event::Connected { generation: 1, result: Err(failure) });
    desk.shows("no-connection");
}

#[test]
fn machines() {
    at_both("machines", "");
}

#[test]
fn machines_of_all_namespaces_wide() {
    at_both("machines-all-wide", "0w");
}

#[test]
fn filtered_and_marked() {
    at_both("machines-filtered", "0<space><space>/web<enter>");
}

#[test]
fn filter_line() {
    at_both("filter-line", "/");
}

#[test]
fn command_line() {
    at_both("command-line", ":vm");
}

#[test]
fn command_mistake() {
    at_both("command-mistake", ":vmopp<enter>");
}

#[test]
fn palette() {
    at_both("palette", "<ctrl-p>rest");
}

#[test]
fn action_menu() {
    at_both("action-menu", "a");
}

#[test]
fn sort_menu() {
    at_both("sort-menu", "o");
}

#[test]
fn machine_detail() {
    at_both("machine", "j<enter>");
}

#[test]
fn machine_held_up() {
    at_both("machine-held-up", "<enter>");
}

#[test]
fn yaml() {
    at_both("yaml", "jy/cores<enter>");
}

#[test]
fn describe() {
    at_both("describe", "jd");
}

#[test]
fn disks() {
    at_both("disks", ":vd<enter>");
}

#[test]
fn images() {
    at_both("images", ":vi<enter>");
}

#[test]
fn upload_question() {
    at_both("upload", ":vi<enter>u");
}

#[test]
fn events() {
    at_both("events", ":event<enter>");
}

#[test]
fn empty_list() {
    at_both("empty", ":vmbda<enter>");
}

#[test]
fn namespaces() {
    at_both("namespaces", ":ns<enter>");
}

#[test]
fn contexts() {
    at_both("contexts", ":ctx<enter>");
}

#[test]
fn help() {
    at_both("help", "?");
}

#[test]
fn confirm_restart() {
    at_both("confirm-restart", "jr");
}

#[test]
fn confirm_delete() {
    at_both("confirm-delete", "jDwe");
}

#[test]
fn tasks_and_errors() {
    for (columns, rows) in [(80, 24), (120, 36)] {
        let mut desk = Desk::demo(columns, rows);
        desk.keys("jrykDdb<enter>");
        desk.now += 2_500;
        let ids: Vec<_> = desk.state.tasks.iter().map(|t| t.id).collect();
        assert_eq!(ids.len(), 2);
        desk.event(Event::Task {
            id: ids[0],
            news: TaskNews::Progress { note: "in progress".into(), fraction: Some(0.4) },
        });
        let failure = Failure {
            text: "admission refused the request: machine db is used by backup job 17, which must end first".into(),
            hint: Some("Wait for the job, or cancel it.".into()),
        };
        desk.event(Event::Task { id: ids[1], news: TaskNews::Failed(failure) });
        desk.shows("news");
        desk.keys("t");
        desk.shows("tasks");
        desk.keys("<esc>!");
        desk.shows("errors");
        desk.keys("x");
        assert!(desk.state.errors.is_empty());
        assert!(matches!(desk.state.tasks[1].state, TaskState::Failed { .. }));
    }
}

#[test]
fn too_small() {
    Desk::demo(50, 10).shows("too-small");
}

#[test]
fn smallest() {
    Desk::demo(60, 15).shows("machines");
}

#[test]
fn ascii_only() {
    let themes = ThemeSource { depth: Depth::Mono, ascii: true, ..ThemeSource::default() };
    let mut desk = Desk::with(80, 24, themes, "dark");
    desk.connect_local();
    desk.feed();
    desk.keys("j<enter>");
    assert!(desk.screen().is_ascii(), "{}", desk.screen());
    desk.shows("machine-ascii");
}
