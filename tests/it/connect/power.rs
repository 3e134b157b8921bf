//! `start`, `stop`, `restart`, `evict`, `migrate`: flags, messages, questions and exit codes. The machines are of
//! firmware only: nobody hears the power button, and its grace is a second.

use std::process::Command;

use serde_json::Value;

use crate::support::{SOON, Screen, World, blank_machine};

/// What a verb did: exit code, output, errors.
fn run(command: &mut Command) -> (i32, String, String) {
    let output = command.stdin(std::process::Stdio::null()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

/// The name of the operation in a message.
fn operation(said: &str) -> &str {
    let from = said.find("VirtualMachineOperation \"default/").expect("a message names the operation");
    said[from..].split(['/', '"']).nth(2).unwrap()
}

fn operations(world: &World) -> Vec<Value> {
    let list: Value = serde_json::from_str(&world.ok(&["get", "vmop", "-o", "json"])).unwrap();
    list["items"].as_array().unwrap().clone()
}

#[test]
fn verbs_of_one_machine() {
    let world = World::start();
    world.apply(&blank_machine("m", "Manual"));
    world.until_phase("vm/m", "Stopped", SOON);
    let said = |verb: &[&str]| run(&mut world.command(verb));

    // Done, begun, created: what --wait, nothing and --create-only say.
    for (arguments, doing, state) in [
        (&["start", "m", "--wait"][..], "started", "completed"),
        (&["restart", "m", "-w", "--force"], "restarted", "completed"),
        (&["evict", "m", "--wait", "-t", "60s"], "evicted", "completed"),
        (&["migrate", "m.default", "--wait"], "migrated", "completed"),
        (&["stop", "m", "-n", "default", "-y", "-f", "-w"], "stopped", "completed"),
        (&["start", "vm/m"], "starting", "in progress"),
    ] {
        let (code, out, err) = said(arguments);
        assert_eq!((code, err.as_str()), (0, ""), "{arguments:?}: {out}");
        let name = operation(&out);
        let wanted =
            format!("VirtualMachine \"default/m\" {doing}. VirtualMachineOperation \"default/{name}\" {state}.");
        assert_eq!(out, wanted, "{arguments:?}");
        assert!(name.starts_with("m-"), "{name}");
        let spec = world.get(&format!("vmop/{name}"))["spec"].clone();
        // Force is in the object only if it was typed, and never for a start.
        let forced = arguments.iter().any(|a| ["--force", "-f"].contains(a));
        assert_eq!(spec["force"].as_bool(), forced.then_some(true), "{arguments:?}: {spec}");
        if state == "in progress" {
            world.until_phase(&format!("vmop/{name}"), "Completed", SOON);
        }
    }
    world.until_phase("vm/m", "Running", SOON);
    let (code, out, _) = said(&["stop", "m", "--create-only"]);
    assert_eq!(code, 0);
    assert!(out.ends_with("created.") && out.starts_with("VirtualMachine \"default/m\" stopping."), "{out}");
    world.until_phase(&format!("vmop/{}", operation(&out)), "Completed", SOON);
    world.until_phase("vm/m", "Stopped", SOON);

    // A start ignores force.
    let (code, out, _) = said(&["start", "m", "--force", "--wait"]);
    assert_eq!(code, 0, "{out}");
    assert!(world.get(&format!("vmop/{}", operation(&out)))["spec"].get("force").is_none());

    // What cannot be done, and how it is told.
    let (code, _, err) = said(&["start", "m", "--wait"]);
    assert_eq!(code, 1, "{err}");
    let name = operation(&err);
    let head = format!(
        "VirtualMachine \"default/m\" was not started. VirtualMachineOperation \"default/{name}\" failed. \
         type=\"Completed\" reason=\""
    );
    assert!(err.starts_with(&head) && err.contains("\", message=\""), "{err}");
    let (code, _, err) = said(&["stop", "nobody"]);
    assert_eq!(code, 4, "{err}");
    assert!(err.contains("nobody"), "{err}");
    // Upstream's commercial edition has it; here the refusal says where it can be had, and nothing is left behind.
    let before = operations(&world).len();
    let (code, _, err) = said(&["migrate", "m", "--wait", "--target-node-name", "elsewhere"]);
    assert_eq!(code, 6, "{err}");
    assert!(err.contains("spec.migrate.nodeSelector") && err.contains("cluster"), "{err}");
    assert_eq!(operations(&world).len(), before);
    for wrong in [&["stop"][..], &["stop", "m", "--all"], &["stop", ".x"], &["stop", "m", "-w", "-c"]] {
        assert_eq!(said(wrong).0, 2, "{wrong:?}");
    }
    world.leaves_nothing();
}

#[test]
fn verbs_of_many_machines_ask_at_a_terminal() {
    let world = World::start();
    for (name, tier) in [("a", "web"), ("b", "web"), ("c", "data")] {
        let manifest = blank_machine(name, "Manual");
        world.apply(&manifest.replace(
            &format!("metadata: {{name: {name}}}"),
            &format!("metadata: {{name: {name}, labels: {{tier: {tier}}}}}"),
        ));
        world.until_phase(&format!("vm/{name}"), "Stopped", SOON);
    }
    let phases =
        || ["a", "b", "c"].map(|n| world.get(&format!("vm/{n}"))["status"]["phase"].as_str().unwrap().to_owned());

    // By labels, with waiting: a line each. No terminal, no question.
    let (code, out, err) = run(&mut world.command(&["start", "-l", "tier=web", "--wait"]));
    assert_eq!((code, out.lines().count()), (0, 2), "{out}{err}");
    assert!(out.lines().all(|l| l.contains("started.") && l.ends_with("completed.")), "{out}");
    assert_eq!(phases(), ["Running", "Running", "Stopped"]);

    // Several names mean create-only.
    let (code, out, _) = run(&mut world.command(&["restart", "a", "b", "--force"]));
    assert_eq!(code, 0);
    assert!(
        out.lines().count() == 2 && out.lines().all(|l| l.contains("restarting.") && l.ends_with("created.")),
        "{out}"
    );
    for line in out.lines() {
        world.until_phase(&format!("vmop/{}", operation(line)), "Completed", SOON);
    }

    // One of several fails: its error, the others' work, exit code 1.
    let (code, out, err) = run(&mut world.command(&["stop", "a", "c", "--force", "--wait"]));
    assert_eq!(code, 1, "{out}{err}");
    assert!(out.contains("\"default/a\" stopped.") && err.contains("\"default/c\" was not stopped."), "{out}{err}");

    // At a terminal everything is asked about, and a no is told.
    let mut screen = Screen::open(&world, &["stop", "--all", "--force", "--wait"], 120, 30);
    let question = |name: &str| {
        format!("Are you sure you want to execute command \"stop\" for virtual machine \"default/{name}\"? [y/N] ")
    };
    screen.until(&question("a"), SOON);
    screen.keys("\r");
    screen.until("\"default/a\" is skipped.", SOON);
    screen.until(&question("b"), SOON);
    screen.keys("y\r");
    screen.until(&question("c"), SOON);
    screen.keys("n\r");
    assert_eq!(screen.wait(SOON), 0, "{}", screen.text());
    assert!(screen.text().contains("\"default/b\" stopped."), "{}", screen.text());
    assert_eq!(phases(), ["Stopped", "Stopped", "Stopped"]);

    // Unless it was said before.
    for (arguments, variable) in [(&["start", "--all", "-y"][..], ""), (&["stop", "--all", "--force"], "yes")] {
        let mut command = world.command(arguments);
        command.env("D8_VIRTUALIZATION_LIFECYCLE_CONFIRM", variable);
        let mut screen = Screen::of(&command, 120, 30);
        assert_eq!(screen.wait(SOON), 0, "{}", screen.text());
        assert!(!screen.text().contains("Are you sure"), "{}", screen.text());
        for line in screen.text().lines().filter(|l| l.contains("created.")) {
            world.until_phase(&format!("vmop/{}", operation(line)), "Completed", SOON);
        }
    }
    assert_eq!(run(&mut world.command(&["stop", "-l", "tier=none"])), (0, String::new(), "No machines found.".into()));
    world.leaves_nothing();
}
