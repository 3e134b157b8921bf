//! A black-box checker of Kubernetes APIs, where one is given: `make conformance K8SCHECK=PATH`. It is a Python
//! program that takes `--url` with certificates or `--unix`, and writes its cases as JSON.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use vmdeck::apiserver::Authority;
use vmdeck::apiserver::identity::Role;
use vmdeck::types::kinds;

use super::Served;
use super::rows::Rows;

/// Names the checker.
const CHECKER: &str = "K8SCHECK";

/// Cases that a transport cannot have, with the reason.
const NOT_OVER_UNIX: &[(&str, &str)] =
    &[("AUTH-06", "whoever can open the socket is known by its user id: nobody is without credentials")];

fn checker() -> Option<PathBuf> {
    let found = std::env::var_os(CHECKER).filter(|p| !p.is_empty()).map(PathBuf::from);
    if found.is_none() {
        println!("skip conformance: {CHECKER} names no checker");
    }
    found
}

#[test]
fn over_tls() {
    let Some(checker) = checker() else { return };
    let served = Served::start();
    let home = served.world.home();
    let kubeconfig = kube::config::Kubeconfig::read_from(&served.kubeconfig).unwrap();
    let server = kubeconfig.clusters[0].cluster.as_ref().and_then(|c| c.server.clone()).unwrap();
    let authority = Authority::open(&served.world.paths.state.join("tls")).unwrap();
    let mut arguments = vec!["--url".to_owned(), server];
    let mut file = |flag: &str, name: &str, text: &str| {
        let path = home.join(name);
        std::fs::write(&path, text).unwrap();
        arguments.extend([flag.to_owned(), path.display().to_string()]);
    };
    file("--ca", "ca.crt", authority.certificate());
    for (role, who) in [(Role::Admin, ""), (Role::View, "viewer-")] {
        let client = authority.client("conformance", role, Duration::from_secs(86_400)).unwrap();
        file(&format!("--{who}cert"), &format!("{who}client.crt"), &client.certificate);
        file(&format!("--{who}key"), &format!("{who}client.key"), &client.key);
    }
    check("TLS", &served, checker, &arguments, &[]);
}

#[test]
fn over_the_socket() {
    let Some(checker) = checker() else { return };
    let served = Served::start();
    let viewer = served.world.ok(&["host", "token", "create", "viewer", "--role", "view"]);
    let socket = served.world.paths.api_socket().display().to_string();
    let arguments = ["--unix", &socket, "--viewer-token", viewer.trim()].map(str::to_owned);
    check("the unix socket", &served, checker, &arguments, NOT_OVER_UNIX);
}

/// Runs all cases; those that are skipped have to be among `without`.
fn check(transport: &str, served: &Served, checker: PathBuf, arguments: &[String], without: &[(&str, &str)]) {
    forget_the_beginning(served);
    let outcome = served.world.home().join("conformance.json");
    let mut command = Command::new("timeout");
    command.args(["-k", "5", "900", "python3"]).arg(checker).args(arguments).arg("--json").arg(&outcome);
    let output = command.stdin(Stdio::null()).output().unwrap();
    let told = std::fs::read(&outcome).unwrap_or_else(|e| panic!("{e}: {output:?}\n{}", served.world.log_tail()));
    let told: Vec<Value> = serde_json::from_slice(&told).unwrap();
    let mut rows = Rows::new(&format!("conformance over {transport}"));
    for case in &told {
        let text = |field: &str| case[field].as_str().unwrap_or_default();
        let what = format!("{}  {}", text("id"), text("text"));
        match text("result") {
            "ok" => rows.add(&what, Ok(())),
            "skip" => match without.iter().find(|(id, _)| *id == text("id")) {
                Some((_, reason)) => rows.skip(&what, reason),
                None => rows.add(&what, Err(format!("skipped: {}", text("why")))),
            },
            _ => rows.add(&what, Err(text("why").to_owned())),
        }
    }
    rows.judge(told.len() - without.len());
}

/// Makes so many changes that the first ones are dropped from history: one case asks for them.
fn forget_the_beginning(served: &Served) {
    let maps = kinds::find("cm").unwrap();
    let session = served.world.session();
    served.world.apply("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: busy}\n");
    served.world.block_on(async {
        for n in 0..1100 {
            session
                .merge_patch(maps, Some("default"), "busy", &json!({"data": {"n": n.to_string()}}), None)
                .await
                .unwrap();
        }
    });
}
