//! The Python client library, in the environment that `make clients` made.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use super::rows::Rows;
use super::{Served, programs};
use crate::support::binary;

/// As many cases as the script has.
const CASES: usize = 13;

#[test]
fn the_python_library() {
    let Some(environment) = programs::installed("venv") else { return };
    let served = Served::start();
    served.stay_on_this_port();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/api/client.py");
    let mut command = Command::new("timeout");
    command.args(["-k", "5", "240"]).arg(environment.join("bin/python")).arg("-u").arg(script);
    command.arg(&served.kubeconfig).arg(binary());
    command.env("VMDECK_HOME", served.world.home()).env("HOME", served.world.home()).env_remove("KUBECONFIG");
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut rows = Rows::new("Python client");
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        let mut fields = line.split('\t');
        match (fields.next(), fields.next(), fields.next()) {
            (Some("ok"), Some(what), None) => rows.add(what, Ok(())),
            (Some("FAIL"), Some(what), Some(why)) => rows.add(what, Err(why.to_owned())),
            _ => rows.add("no row", Err(line.to_owned())),
        }
    }
    let status = child.wait().unwrap();
    assert!(status.success(), "{status}\n{}", served.world.log_tail());
    rows.judge(CASES);
}
