//! Stock kubectl over TLS: the checklist, one table per client and list. The user guide has a walk of its own.
//!
//! The clients are those of `make clients` (Debian's and a current one), and whatever `VMDECK_TEST_KUBECTLS` names.

use super::desk::{Case, Desk};
use super::programs::{self, Kubectl};
use super::rows::Rows;
use super::{kubectl_checklist, kubectl_more};

/// Runs a list in a world of its own.
fn table(title: &str, client: &Kubectl, files: &[(&str, &str)], cases: &[Case]) {
    let desk = Desk::new(&[("kubectl", &client.path)], files);
    let (major, minor) = client.version;
    let mut rows = Rows::new(&format!("{title}, kubectl {major}.{minor}"));
    let mut old = 0;
    for case in cases {
        let what = case.title();
        if case.since > client.version {
            rows.skip(&what, &format!("kubectl {}.{} has it first", case.since.0, case.since.1));
            old += 1;
        } else {
            rows.add(&what, desk.run(case));
        }
    }
    rows.judge(cases.len() - old);
}

fn checklist(client: &Kubectl) {
    table("checklist", client, kubectl_checklist::FILES, kubectl_checklist::CASES);
}

fn more(client: &Kubectl) {
    table("more", client, kubectl_more::FILES, kubectl_more::CASES);
}

pub fn debians() -> Option<Kubectl> {
    programs::installed("kubectl-debian").map(|p| programs::kubectl(&p))
}

pub fn current() -> Option<Kubectl> {
    programs::installed("kubectl-current").map(|p| programs::kubectl(&p))
}

#[test]
fn the_checklist_with_debians() {
    debians().iter().for_each(checklist);
}

#[test]
fn the_checklist_with_a_current_one() {
    current().iter().for_each(checklist);
}

#[test]
fn more_with_debians() {
    debians().iter().for_each(more);
}

#[test]
fn more_with_a_current_one() {
    current().iter().for_each(more);
}

#[test]
fn all_with_those_that_are_named() {
    for client in programs::more_kubectls() {
        println!("{}", client.path.display());
        checklist(&client);
        more(&client);
    }
}

/// The lists are whole: no row was lost in an edit.
#[test]
fn the_lists_are_whole() {
    let ids: Vec<&str> = kubectl_checklist::CASES.iter().map(|c| c.id).collect();
    let wanted: Vec<String> = (1..=84).map(|n| format!("K-{n:02}")).collect();
    assert_eq!(ids, wanted);
}
