//! Python clients, in the environment that `make clients` made.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use super::rows::Rows;
use super::{Served, programs};
use crate::support::{SOON, binary};

/// A program of the environment in the surroundings of a world. Its errors go into a file.
fn program(environment: &Path, name: &str, served: &Served, seconds: u32) -> (Command, PathBuf) {
    let errors = served.world.home().join("errors");
    let mut command = Command::new("timeout");
    command.args(["-k", "5", &seconds.to_string()]).arg(environment.join("bin").join(name));
    command.env("VMDECK_HOME", served.world.home()).env("HOME", served.world.home());
    command
        .env("KUBECONFIG", &served.kubeconfig)
        .env("PYTHONUNBUFFERED", "1")
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(std::fs::File::create(&errors).unwrap());
    (command, errors)
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/api").join(name)
}

/// Runs a script that prints its cases.
fn cases(title: &str, name: &str, number: usize) {
    let Some(environment) = programs::installed("venv") else { return };
    let served = Served::start();
    served.stay_on_this_port();
    let (mut command, errors) = program(&environment, "python", &served, 240);
    let mut child = command.arg(script(name)).arg(&served.kubeconfig).arg(binary()).spawn().unwrap();
    let mut rows = Rows::new(title);
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        let mut fields = line.split('\t');
        match (fields.next(), fields.next(), fields.next()) {
            (Some("ok"), Some(what), None) => rows.add(what, Ok(())),
            (Some("FAIL"), Some(what), Some(why)) => rows.add(what, Err(why.to_owned())),
            _ => rows.add("no row", Err(line.clone())),
        }
    }
    let status = child.wait().unwrap();
    let errors = std::fs::read_to_string(errors).unwrap();
    assert!(status.success(), "{status}: {errors}\n{}", served.world.log_tail());
    rows.judge(number);
}

#[test]
fn the_kubernetes_library() {
    cases("Python: kubernetes", "client.py", 15);
}

#[test]
fn other_libraries() {
    cases("Python: others", "others.py", 5);
}

/// An operator that runs beside the test.
struct Operator {
    child: Child,
    lines: Receiver<String>,
    errors: PathBuf,
}

impl Operator {
    fn until(&self, wanted: &str) -> Result<(), String> {
        let mut told = String::new();
        while let Ok(line) = self.lines.recv_timeout(SOON) {
            if line == wanted {
                return Ok(());
            }
            told.push_str(&line);
            told.push('\n');
        }
        let errors = std::fs::read_to_string(&self.errors).unwrap_or_default();
        Err(format!("no {wanted:?}; it told:\n{told}{errors}"))
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        if let Some(pid) = rustix::process::Pid::from_raw(self.child.id().cast_signed()) {
            // `timeout` passes it on.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let _ = self.child.wait();
    }
}

#[test]
fn a_kopf_operator() {
    let Some(environment) = programs::installed("venv") else { return };
    let served = Served::start();
    let world = &served.world;
    let (mut command, errors) = program(&environment, "kopf", &served, 240);
    let command = command.args(["run", "--standalone", "-n", "default"]).arg(script("kopf_operator.py"));
    let mut child = command.spawn().unwrap();
    let (sender, lines) = channel();
    let output = BufReader::new(child.stdout.take().unwrap());
    std::thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
    let operator = Operator { child, lines, errors };

    let mut rows = Rows::new("kopf");
    let machine = serde_json::to_string(&super::runtime::machine("kopf")).unwrap();
    world.apply(&machine);
    rows.add("KOPF-01 a new machine is handled, its label is set", operator.until("created kopf"));
    world.until("vm/kopf", "labelled", SOON, |o| o["metadata"]["labels"]["seen-by"] == "kopf");
    world.ok(&["patch", "vm", "kopf", "--type", "merge", "-p", r#"{"spec":{"cpu":{"cores":3}}}"#]);
    rows.add("KOPF-02 a change of one field is handled with what it was", operator.until("updated kopf 1 3"));
    let finalizers = world.get("vm/kopf")["metadata"]["finalizers"].to_string();
    let held = if finalizers.contains("kopf") { Ok(()) } else { Err(finalizers) };
    rows.add("KOPF-03 its finalizer holds the machine", held);
    world.ok(&["delete", "vm", "kopf"]);
    rows.add("KOPF-04 the deletion is handled", operator.until("deleted kopf"));
    world.until_gone("vm/kopf", SOON);
    drop(operator);
    rows.judge(4);
}
