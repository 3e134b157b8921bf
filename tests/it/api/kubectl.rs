//! Stock kubectl over TLS: the commands of the user guide and the checklist, one table per client and list.
//!
//! The clients are those of `make clients` (Debian's and a current one), and whatever `VMDECK_TEST_KUBECTLS` names.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::programs::{self, Kubectl};
use super::rows::{Rows, matches};
use super::{Served, kubectl_checklist, kubectl_guide};
use crate::support::binary;

/// How a command has to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    Is(i32),
    Any,
}

/// One row: a command of the shell, and what is expected of it.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    pub id: &'static str,
    /// The oldest client that knows the command.
    pub since: (u32, u32),
    pub run: &'static str,
    pub exit: Exit,
    /// Patterns over output and errors, see [`matches`].
    pub wants: &'static [&'static str],
}

/// A row for every client, which has to succeed.
pub const fn case(id: &'static str, run: &'static str, wants: &'static [&'static str]) -> Case {
    Case { id, since: (1, 0), run, exit: Exit::Is(0), wants }
}

impl Case {
    /// Only clients of this minor version and newer.
    pub const fn since(self, minor: u32) -> Self {
        Self { since: (1, minor), ..self }
    }

    /// It has to fail with this code.
    pub const fn exits(self, code: i32) -> Self {
        Self { exit: Exit::Is(code), ..self }
    }

    /// Its exit code tells nothing.
    pub const fn exits_anyhow(self) -> Self {
        Self { exit: Exit::Any, ..self }
    }
}

/// The scripts' surroundings: `kubectl` is the client under test, `vmdeck` is this build, both know the world.
struct Desk {
    served: Served,
    client: Kubectl,
    folder: PathBuf,
}

impl Desk {
    fn new(client: &Kubectl, files: &[(&str, &str)]) -> Self {
        let served = Served::start();
        let folder = served.world.home().join("desk");
        std::fs::create_dir_all(folder.join("bin")).unwrap();
        std::os::unix::fs::symlink(&client.path, folder.join("bin/kubectl")).unwrap();
        std::os::unix::fs::symlink(binary(), folder.join("bin/vmdeck")).unwrap();
        for (name, text) in files {
            std::fs::write(folder.join(name), text).unwrap();
        }
        Self { served, client: client.clone(), folder }
    }

    fn shell(&self) -> Command {
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new("timeout");
        command
            .env("PATH", format!("{}:{path}", self.folder.join("bin").display()))
            .env("HOME", &self.folder)
            .env("KUBECONFIG", &self.served.kubeconfig)
            .env("VMDECK_HOME", self.served.world.home())
            .env("VMDECK_HOST", "local")
            .env("TZ", "UTC")
            .env_remove("KUBE_EDITOR")
            .current_dir(&self.folder);
        command
    }

    fn run(&self, case: &Case) -> Result<(), String> {
        let output = programs::shell(&mut self.shell(), case.run);
        let text = [&output.stdout[..], &output.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        match (case.exit, output.status.code()) {
            (Exit::Any, Some(_)) => {}
            (Exit::Is(wanted), Some(code)) if wanted == code => {}
            (wanted, code) => return Err(format!("exit {code:?}, expected {wanted:?}:\n{text}")),
        }
        matches(&text, case.wants)
    }
}

/// Runs a list in a world of its own.
fn table(title: &str, client: &Kubectl, files: &[(&str, &str)], cases: &[Case]) {
    let desk = Desk::new(client, files);
    let (major, minor) = desk.client.version;
    let mut rows = Rows::new(&format!("{title}, kubectl {major}.{minor}"));
    let mut old = 0;
    for case in cases {
        let what = format!("{}  {}", case.id, case.run.lines().next().unwrap_or_default());
        if case.since > desk.client.version {
            rows.skip(&what, &format!("kubectl {}.{} has it first", case.since.0, case.since.1));
            old += 1;
        } else {
            rows.add(&what, desk.run(case));
        }
    }
    rows.judge(cases.len() - old);
}

fn guide(client: &Kubectl) {
    table("user guide", client, kubectl_guide::FILES, kubectl_guide::CASES);
}

fn checklist(client: &Kubectl) {
    table("checklist", client, kubectl_checklist::FILES, kubectl_checklist::CASES);
}

fn debians() -> Option<Kubectl> {
    programs::installed("kubectl-debian").map(|p| programs::kubectl(&p))
}

fn current() -> Option<Kubectl> {
    programs::installed("kubectl-current").map(|p| programs::kubectl(&p))
}

#[test]
fn the_guide_with_debians() {
    debians().iter().for_each(guide);
}

#[test]
fn the_guide_with_a_current_one() {
    current().iter().for_each(guide);
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
fn both_with_those_that_are_named() {
    for client in programs::more_kubectls() {
        println!("{}", client.path.display());
        guide(&client);
        checklist(&client);
    }
}

/// The lists are whole: no row was lost in an edit.
#[test]
fn the_lists_are_whole() {
    let ids: Vec<&str> = kubectl_checklist::CASES.iter().map(|c| c.id).collect();
    let wanted: Vec<String> = (1..=84).map(|n| format!("K-{n:02}")).collect();
    assert_eq!(ids, wanted);
    let ids: Vec<&str> = kubectl_guide::CASES.iter().map(|c| c.id).collect();
    let wanted: Vec<String> = (1..=ids.len()).map(|n| format!("G-{n:02}")).collect();
    assert_eq!(ids, wanted);
    let words: Vec<&str> = kubectl_guide::COMMANDS.lines().collect();
    for command in &words {
        let written = kubectl_guide::CASES.iter().any(|c| c.run.contains(command));
        assert!(written, "no row runs the guide's: {command}");
    }
    assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/api").exists());
}
