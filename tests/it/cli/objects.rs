//! Verbs on objects. No guest is needed: the machine stays off.

use std::io::Write;
use std::process::{Output, Stdio};

use crate::support::World;

const MACHINE: &str = "apiVersion: virtualization.deckhouse.io/v1alpha2
kind: VirtualMachine
metadata:
  name: linux-vm
spec:
  virtualMachineClassName: host
  runPolicy: AlwaysOff
  cpu:
    cores: 1
    coreFraction: 10%
  memory:
    size: 1Gi
  blockDeviceRefs:
  - kind: VirtualDisk
    name: linux-vm-root
";

const FULL: &str = "virtualmachine.virtualization.deckhouse.io/linux-vm";

fn piped(world: &World, arguments: &[&str], input: &str) -> Output {
    let mut command = world.command(arguments);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn fails(world: &World, arguments: &[&str], code: i32, says: &str) {
    let output = world.run(arguments);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
    assert!(said.contains(says), "{arguments:?}: {said}");
    assert!(output.stdout.is_empty(), "{arguments:?}: {}", text(&output.stdout));
}

#[test]
fn apply_get_patch_label_edit_delete() {
    let world = World::start();
    assert_eq!(world.apply(MACHINE), format!("{FULL} created\n"));
    assert_eq!(world.apply(MACHINE), format!("{FULL} unchanged\n"));
    assert_eq!(world.apply(&MACHINE.replace("1Gi", "2Gi")), format!("{FULL} configured\n"));

    let headings = |arguments: &[&str]| {
        let table = world.ok(arguments);
        table
            .lines()
            .next()
            .unwrap()
            .split("   ")
            .map(str::trim)
            .filter(|h| !h.is_empty())
            .collect::<Vec<_>>()
            .join("|")
    };
    assert_eq!(headings(&["get", "vm"]), "NAME|PHASE|NODE|IPADDRESS|AGE");
    assert_eq!(
        headings(&["get", "vm", "linux-vm", "-o", "wide"]),
        "NAME|PHASE|CORES|COREFRACTION|MEMORY|NEED RESTART|AGENT|MIGRATABLE|NODE|IPADDRESS|AGE"
    );
    assert_eq!(headings(&["get", "vm", "-A"]), "NAMESPACE|NAME|PHASE|NODE|IPADDRESS|AGE");
    assert_eq!(world.ok(&["get", "vm", "-o", "name"]), format!("{FULL}\n"));
    assert_eq!(world.ok(&["get", "vm", "linux-vm", "-o", "jsonpath={.spec.cpu.cores}"]), "1");
    let columns = world.ok(&["get", "vm", "-o", "custom-columns=N:.metadata.name,X:.spec.none,M:.spec.memory.size"]);
    assert_eq!(columns, "N          X        M\nlinux-vm   <none>   2Gi\n");

    let patch = |json: &str| world.ok(&["patch", "vm", "linux-vm", "--type", "merge", "-p", json]);
    assert_eq!(patch(r#"{"spec":{"cpu":{"cores":2}}}"#), format!("{FULL} patched\n"));
    // The controller's own write of the status may come between: then the object has changed indeed.
    let unchanged = format!("{FULL} patched (no change)\n");
    assert!((0..20).any(|_| patch(r#"{"spec":{"cpu":{"cores":2}}}"#) == unchanged), "it never says so");
    assert_eq!(world.ok(&["label", "vm", "linux-vm", "tier=web"]), format!("{FULL} labeled\n"));
    fails(&world, &["label", "vm", "linux-vm", "tier=db"], 5, "--overwrite");
    assert!(world.ok(&["get", "vm", "-l", "tier=web"]).contains("linux-vm"));
    assert_eq!(world.ok(&["get", "vm", "-l", "tier=db"]), "");
    let described = world.ok(&["describe", "vm/linux-vm"]);
    assert!(described.contains("tier=web") && described.contains("Conditions:"), "{described}");

    let edit = |script: &str| {
        let output = world.command(&["edit", "vm", "linux-vm"]).env("EDITOR", script).stdin(Stdio::null()).output();
        let output = output.unwrap();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    assert_eq!(edit("sed -i s/2Gi/3Gi/"), (Some(0), format!("{FULL} edited\n"), String::new()));
    assert_eq!(edit("true"), (Some(0), "Edit cancelled, no changes made.\n".into(), String::new()));
    // Refused once; the second visit finds the text as it was left, the error above it, and changes nothing.
    let seen = world.home().join("seen");
    let (code, _, said) = edit(&format!("sh -c 'cp \"$0\" {}; sed -i s/3Gi/plenty/ \"$0\"'", seen.display()));
    assert_eq!(code, Some(6), "{said}");
    let seen = std::fs::read_to_string(seen).unwrap();
    assert!(seen.contains("#: ") && seen.contains("size: plenty") && seen.contains("refused"), "{seen}");
    let kept = said.split("your text is in ").nth(1).unwrap().trim();
    assert!(std::fs::read_to_string(kept).unwrap().contains("plenty"));
    std::fs::remove_file(kept).unwrap();

    let deleted = world.ok(&["delete", "vm", "linux-vm"]);
    assert_eq!(deleted, "virtualmachine.virtualization.deckhouse.io \"linux-vm\" deleted\n");
    fails(&world, &["get", "vm", "linux-vm"], 4, "not found");
    assert_eq!(world.ok(&["get", "vm", "linux-vm", "--ignore-not-found"]), "");
}

#[test]
fn errors_have_codes_and_say_what_to_do() {
    let world = World::start();
    fails(&world, &["get", "virtualmachin"], 2, "Did you mean");
    fails(&world, &["get", "vm", "nope"], 4, "not found");
    fails(&world, &["start", "nope"], 4, "nope");
    fails(&world, &["--host", "unix:///nonexistent/s", "get", "vm"], 3, "/nonexistent/s");
    fails(&world, &["--host", "tcp://x", "get", "vm"], 2, "ssh://");
    fails(&world, &["console", "nope"], 4, "not found");
    let output = piped(&world, &["apply", "-f", "-"], &MACHINE.replace("cores: 1", "cores: -1"));
    assert_eq!(output.status.code(), Some(6), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("spec.cpu.cores"), "{}", text(&output.stderr));
    let output = piped(&world, &["apply", "-f", "-"], &MACHINE.replace("memory:", "memroy:"));
    assert_eq!(output.status.code(), Some(6));
    assert!(text(&output.stderr).contains("memroy"), "{}", text(&output.stderr));
    // One bad object does not keep the good one out.
    let both = format!("{}---\n{MACHINE}", MACHINE.replace("cores: 1", "cores: 0").replace("linux-vm\n", "bad\n"));
    let output = piped(&world, &["apply", "-f", "-"], &both);
    assert_eq!(output.status.code(), Some(6));
    assert_eq!(text(&output.stdout), format!("{FULL} created\n"));
}

#[test]
fn a_watch_prints_news_and_ends_quietly_with_its_reader() {
    use std::io::{BufRead, BufReader};
    let world = World::start();
    world.apply(MACHINE);
    let mut child = world
        .command(&["get", "vm", "-w", "--show-labels"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().starts_with("NAME"));
    assert!(lines.next().unwrap().unwrap().starts_with("linux-vm"));
    world.ok(&["label", "vm", "linux-vm", "news=1"]);
    while !lines.next().unwrap().unwrap().contains("news=1") {}
    drop(lines);
    world.ok(&["label", "vm", "linux-vm", "more=1"]);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(text(&output.stderr), "");
}

#[test]
fn hostile_text_stays_text() {
    let world = World::start();
    let evil = MACHINE.replace(
        "  name: linux-vm\n",
        "  name: linux-vm\n  labels: {}\n  annotations: {x: \"\\e]0;owned\\a\\e[2J\"}\n",
    );
    world.apply(&evil);
    for arguments in [
        &["describe", "vm", "linux-vm"][..],
        &["get", "vm", "linux-vm", "-o", "custom-columns=A:.metadata.annotations.x"],
    ] {
        assert!(!world.ok(arguments).contains('\u{1b}'), "{arguments:?}");
    }
}
