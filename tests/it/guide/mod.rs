//! The module's user guide walked from top to bottom with real guests: every command as it is typed there, every
//! "Example output" compared. `d8 v` is this program; `d8 k` is kubectl, Debian's and a current one, or this program.

mod page;
pub mod steps;
pub mod walk;

use std::path::Path;

use crate::api::{kubectl, programs};
use crate::support::{binary, guest_image};
use walk::{Step, Walk};

fn walk(title: &str, kubectl: &Path, all: bool) {
    let mut walk = Walk::begin(title, kubectl, guest_image(), 120);
    let (taken, left): (Vec<&Step>, Vec<&Step>) = steps::STEPS.iter().partition(|s| all || !s.boots);
    taken.iter().for_each(|step| walk.take(step));
    for step in left {
        walk.leave(step, "it boots guests, and the first walk has shown it: no other client's words are in it");
    }
    walk.end(taken.len());
}

#[test]
fn with_vmdeck() {
    walk("user guide, d8 k is vmdeck", &binary(), true);
}

#[test]
fn with_debians_kubectl() {
    kubectl::debians().iter().for_each(|k| walk("user guide, d8 k is Debian's kubectl", &k.path, false));
}

#[test]
fn with_a_current_kubectl() {
    kubectl::current().iter().for_each(|k| walk("user guide, d8 k is a current kubectl", &k.path, false));
}

#[test]
fn with_those_that_are_named() {
    programs::more_kubectls().iter().for_each(|k| walk(&format!("user guide, {}", k.path.display()), &k.path, false));
}

/// Every command of the guide is a step, with the placeholders it has there.
#[test]
fn no_command_is_left_out() {
    for command in steps::COMMANDS.lines() {
        let typed = steps::STEPS.iter().any(|s| s.act.text().lines().any(|l| l.contains(command)));
        assert!(typed, "no step types: {command}");
    }
    let mut ids: Vec<&str> = steps::STEPS.iter().map(|s| s.id).collect();
    ids.dedup();
    assert_eq!(ids.len(), steps::STEPS.len(), "an id is there twice");
}
