//! What the real daemon promises of its state: over SIGKILL, backup and restore, damage, an older release, a full disk.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

use futures::StreamExt as _;
use http::Method;
use serde_json::{Value, json};
use vmdeck::client::Requester;

use crate::support::{SOON, World};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const MERGE: &str = "application/merge-patch+json";

/// A client with connections of its own.
fn requester(world: &World) -> Requester {
    world.block_on(async { Requester::over_socket(&world.paths.api_socket()) })
}

fn map(name: &str, count: u64) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"count": count.to_string()}})
}

fn version(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"].as_str().and_then(|v| v.parse().ok()).unwrap_or_else(|| panic!("{object}"))
}

fn count(object: &Value) -> u64 {
    object["data"]["count"].as_str().and_then(|v| v.parse().ok()).unwrap_or_else(|| panic!("{object}"))
}

/// Answer of a request that succeeds.
fn ask(world: &World, method: Method, path: &str, body: Option<(&str, Value)>) -> Value {
    let body = body.map(|(kind, value)| (kind, value.to_string().into_bytes()));
    world.block_on(requester(world).json(method, path, None, body)).unwrap_or_else(|e| panic!("{path}: {e}")).object
}

fn list(world: &World) -> Value {
    ask(world, Method::GET, MAPS, None)
}

/// Names, counters.
fn contents(list: &Value) -> BTreeMap<String, u64> {
    let items = list["items"].as_array().unwrap().iter();
    items
        .filter(|o| o["data"]["count"].is_string())
        .map(|o| (o["metadata"]["name"].as_str().unwrap().into(), count(o)))
        .collect()
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The first event of a watch.
fn first_event(world: &World, version: u64) -> Value {
    let requester = requester(world);
    world.block_on(async {
        let path = format!("{MAPS}?watch=true&resourceVersion={version}");
        requester.watch(&path, None).await.unwrap().next().await.unwrap().unwrap()
    })
}

/// The events after a version, until the first error or `end`.
async fn follow(requester: Requester, mut last: u64, end: u64, seen: Arc<Mutex<Vec<Value>>>) -> u64 {
    let Ok(mut events) = requester.watch(&format!("{MAPS}?watch=true&resourceVersion={last}"), None).await else {
        return last;
    };
    while last < end
        && let Some(Ok(event)) = events.next().await
    {
        assert_ne!(event["type"], "ERROR", "{event}");
        last = version(&event["object"]);
        seen.lock().unwrap().push(event);
    }
    last
}

/// Writers, a watcher that resumes, and a daemon that is killed again and again.
#[test]
fn kills_lose_no_answered_write_and_watches_go_on_without_a_gap() {
    const ROUNDS: u64 = 6;
    let mut world = World::start();
    // (version, name, counter) of each answered write.
    let answered: Arc<Mutex<Vec<(u64, String, u64)>>> = Arc::default();
    let seen: Arc<Mutex<Vec<Value>>> = Arc::default();
    let start = version(&list(&world));
    let mut last = start;
    for round in 0..ROUNDS {
        let writers: Vec<_> = (0..4u64)
            .map(|writer| {
                let (requester, answered) = (requester(&world), Arc::clone(&answered));
                world.spawn(async move {
                    for step in 0u64.. {
                        let (name, count) = (format!("w{writer}-{}", step % 3), round * 100_000 + step);
                        let path = format!("{MAPS}/{name}?fieldManager=t&force=true");
                        let body = map(&name, count).to_string().into_bytes();
                        let written = match step % 7 {
                            6 => requester.json(Method::DELETE, &format!("{MAPS}/{name}"), None, None).await,
                            _ => {
                                requester
                                    .json(Method::PATCH, &path, None, Some(("application/apply-patch+yaml", body)))
                                    .await
                            }
                        };
                        match written {
                            Ok(answer) if step % 7 != 6 => {
                                answered.lock().unwrap().push((version(&answer.object), name, count));
                            }
                            Ok(_) => {}
                            Err(error) if error.is_not_found() => {}
                            Err(_) => return,
                        }
                    }
                })
            })
            .collect();
        let watcher = world.spawn(follow(requester(&world), last, u64::MAX, Arc::clone(&seen)));
        let enough = answered.lock().unwrap().len() + 20 + 13 * round as usize;
        let deadline = std::time::Instant::now() + SOON;
        while answered.lock().unwrap().len() < enough {
            assert!(std::time::Instant::now() < deadline, "the writers do not get on\n{}", world.log_tail());
            std::thread::yield_now();
        }
        world.kill_daemon();
        for writer in writers {
            world.block_on(writer).unwrap();
        }
        last = world.block_on(watcher).unwrap();
        world.start_daemon();
    }
    let end = version(&ask(&world, Method::POST, MAPS, Some(("application/json", map("end", 1)))));
    world.block_on(follow(requester(&world), last, end, Arc::clone(&seen)));

    let (answered, seen) = (answered.lock().unwrap(), seen.lock().unwrap());
    let mut told = BTreeMap::new();
    let mut state = BTreeMap::new();
    let mut before = start;
    for event in seen.iter() {
        let object = &event["object"];
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        assert!(version(object) > before, "{} came after {before}", version(object));
        before = version(object);
        match event["type"].as_str().unwrap() {
            "DELETED" => assert!(state.remove(&name).is_some(), "{event}"),
            word => {
                assert_eq!(word == "ADDED", !state.contains_key(&name), "{event}");
                state.insert(name.clone(), count(object));
            }
        }
        told.insert(version(object), (name, count(object)));
    }
    for (version, name, count) in answered.iter() {
        assert_eq!(told.get(version), Some(&(name.clone(), *count)), "answered at {version}, not told to the watcher");
    }
    assert_eq!(state, contents(&list(&world)));
    println!("{ROUNDS} kills, {} answered writes, {} events, no gap", answered.len(), seen.len());
}

#[test]
fn a_backup_comes_back_and_versions_do_not() {
    let world = World::start();
    let out = tempfile::tempdir().unwrap();
    let file = out.path().join("monday.vmdeck");
    let name = file.to_str().unwrap();
    world.apply(
        "apiVersion: v1\nkind: Secret\nmetadata: {name: login}\nstringData: {password: hidden-word}\n---\n\
         apiVersion: v1\nkind: ConfigMap\nmetadata: {name: kept, labels: {a: b}}\ndata: {count: \"1\"}\n",
    );
    let daemon = world.daemon_pid();
    let told = world.ok(&["host", "backup", name]);
    assert!(told.contains("Backed up ") && told.contains("Secrets are in it") && told.contains(name), "{told}");
    assert_eq!(world.daemon_pid(), daemon, "a backup needs no restart");
    let refused = world.run(&["host", "backup", name]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(said(&refused).contains("exists already"), "{}", said(&refused));

    let kept = world.get("cm/kept");
    world.ok(&["delete", "secret", "login"]);
    ask(&world, Method::PATCH, &format!("{MAPS}/kept"), Some((MERGE, json!({"data": {"count": "2"}}))));
    let late = ask(&world, Method::POST, MAPS, Some(("application/json", map("late", 3))));

    let told = world.ok(&["host", "restore", name]);
    for part in
        ["Restored ", "monday.vmdeck", "The store before is kept as", "Host daemon stopped", "Host daemon started"]
    {
        assert!(told.contains(part), "{part}: {told}");
    }
    let back = ask(&world, Method::GET, &format!("{MAPS}/kept"), None);
    assert!(version(&back) > version(&late), "{} is not above {}", version(&back), version(&late));
    let without_version = |mut object: Value| {
        object["metadata"].as_object_mut().unwrap().remove("resourceVersion");
        object
    };
    assert_eq!(without_version(back.clone()), without_version(kept));
    assert_eq!(contents(&list(&world)), [("kept".to_owned(), 1)].into());
    let secret = world.ok(&["get", "secret", "login", "-o", "jsonpath={.data.password}"]);
    assert_eq!(secret, "aGlkZGVuLXdvcmQ=");

    // A client of before is told that its version is gone, and can then go on.
    let event = first_event(&world, version(&late));
    assert_eq!((&event["type"], &event["object"]["code"]), (&json!("ERROR"), &json!(410)), "{event}");
    // An optimistic write with a version of before does not hit an object of now.
    let stale = world.block_on(requester(&world).json(
        Method::PUT,
        &format!("{MAPS}/kept"),
        None,
        Some(("application/json", {
            let mut old = map("kept", 9);
            old["metadata"]["resourceVersion"] = version(&late).to_string().into();
            old.to_string().into_bytes()
        })),
    ));
    assert!(stale.is_err_and(|e| e.to_string().contains("has been modified")));
    ask(&world, Method::PATCH, &format!("{MAPS}/kept"), Some((MERGE, json!({"data": {"count": "4"}}))));

    // Without a daemon both work as well, and start none.
    world.ok(&["host", "stop"]);
    let second = out.path().join("second.vmdeck");
    world.ok(&["host", "backup", second.to_str().unwrap()]);
    let told = world.ok(&["host", "restore", second.to_str().unwrap()]);
    assert!(!told.contains("started"), "{told}");
    assert_eq!(world.run(&["host", "status"]).status.code(), Some(1));
    assert!(world.ok(&["get", "cm", "kept", "-o", "jsonpath={.data.count}"]).contains('4'));
}

#[test]
fn what_is_no_good_backup_is_refused_before_anything_stops() {
    let world = World::start();
    let out = tempfile::tempdir().unwrap();
    let good = out.path().join("good");
    world.apply(&map("needle-in-the-store", 1).to_string());
    world.ok(&["host", "backup", good.to_str().unwrap()]);
    let bytes = std::fs::read(&good).unwrap();
    let daemon = world.daemon_pid();
    let mut altered = bytes.clone();
    // Everywhere: an older row, or what is left of one in unused space, may hold it as well.
    let needle = b"needle-in-the-store";
    let places: Vec<usize> = (0..altered.len()).filter(|at| altered[*at..].starts_with(needle)).collect();
    assert!(!places.is_empty());
    places.into_iter().for_each(|at| altered[at] = b'N');
    let mut foreign = bytes.clone();
    foreign[68..72].copy_from_slice(b"\0\0\0\x07");
    for (name, content, want) in [
        ("altered", altered, "is damaged and cannot be restored"),
        ("foreign", foreign, "is not a state database of vmdeck: another program made this"),
        (
            "text",
            b"not a database at all, but long enough to be looked at".repeat(50),
            "is not a state database of vmdeck: it does not begin",
        ),
        ("half", bytes[..bytes.len() / 2].to_vec(), "damaged and cannot be restored"),
        ("empty", Vec::new(), "is not a state database of vmdeck: it does not begin"),
    ] {
        let path = out.path().join(name);
        std::fs::write(&path, content).unwrap();
        let refused = world.run(&["host", "restore", path.to_str().unwrap()]);
        let text = said(&refused);
        assert_eq!(refused.status.code(), Some(1), "{name}: {text}");
        assert!(text.contains(want) && text.contains(path.to_str().unwrap()), "{name}: {text}");
        assert_eq!(world.daemon_pid(), daemon, "{name}");
    }
    assert_eq!(list(&world)["kind"], "ConfigMapList");
}

#[test]
fn a_damaged_store_is_told_with_its_remedy_which_works() {
    let world = World::start();
    let out = tempfile::tempdir().unwrap();
    let file = out.path().join("monday.vmdeck");
    world.apply(&map("kept", 1).to_string());
    world.ok(&["host", "backup", file.to_str().unwrap()]);
    let before = version(&list(&world));
    world.ok(&["host", "stop"]);
    let store = world.paths.store_file();
    let mut bytes = std::fs::read(&store).unwrap();
    bytes[4096..8192].fill(0x5a);
    std::fs::write(&store, &bytes).unwrap();

    let refused = world.run(&["host", "start"]);
    let text = said(&refused);
    assert_eq!(refused.status.code(), Some(1), "{text}");
    for part in
        [store.to_str().unwrap(), "is damaged", "vmdeck host restore FILE", file.to_str().unwrap(), "as they are"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert_eq!(std::fs::read(&store).unwrap(), bytes, "the damaged file was changed");
    let told = world.ok(&["host", "restore", file.to_str().unwrap()]);
    assert!(told.contains("is kept as"), "{told}");
    world.ok(&["host", "start"]);
    let now = list(&world);
    assert_eq!(contents(&now), [("kept".to_owned(), 1)].into());
    assert!(version(&now) > before + 1_000_000);
}

#[test]
fn a_store_of_the_first_release_is_taken_over() {
    let mut world = World::without_daemon();
    std::fs::create_dir_all(&world.paths.state).unwrap();
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/store/v1.db");
    std::fs::copy(fixture, world.paths.store_file()).unwrap();
    world.start_daemon();
    let object = ask(&world, Method::GET, &format!("{MAPS}/c0"), None);
    assert_eq!((version(&object), &object["data"]["n"]), (17, &json!("last")));
    assert!(world.paths.state.join("store.db.v1").exists());
    // A watch that a client began with the release before.
    let event = first_event(&world, 15);
    assert_eq!((&event["type"], &event["object"]["metadata"]["name"]), (&json!("DELETED"), &json!("c1")));
    assert!(std::fs::read_to_string(world.paths.host_log()).unwrap().contains("migrating the state database"));
}

/// A file system of its own for the state; unmounted when dropped.
struct Small<'a>(&'a Path);

impl Drop for Small<'_> {
    fn drop(&mut self) {
        Command::new("umount").arg("-l").arg(self.0).status().ok();
    }
}

#[test]
fn a_full_disk_refuses_writes_tells_so_and_recovers() {
    let mut world = World::without_daemon();
    let state = world.paths.state.clone();
    std::fs::create_dir_all(&state).unwrap();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=24m,mode=0700", "none"]).arg(&state).output();
    if !mounted.as_ref().is_ok_and(|m| m.status.success()) {
        println!("skipped: a small file system cannot be mounted here: {mounted:?}");
        return;
    }
    let small = Small(&state);
    world.start_daemon();
    for n in 0..5 {
        ask(&world, Method::POST, MAPS, Some(("application/json", map(&format!("n{n}"), n))));
    }
    let start = version(&list(&world));
    {
        use std::io::Write as _;
        let mut ballast = std::fs::File::create(state.join("ballast")).unwrap();
        while ballast.write_all(&[1; 4096]).is_ok() {}
        // A little for the log to grow into, so that the disk runs full under it.
        ballast.set_len(ballast.metadata().unwrap().len() - (256 << 10)).unwrap();
    }
    // What the log has space for is still written.
    let mut answered = 0;
    let refused = loop {
        let text = format!("{answered}{}", "x".repeat(100 * answered));
        let body = json!({"data": {"count": "1", "large": text}}).to_string().into_bytes();
        let written =
            world.block_on(requester(&world).json(Method::PATCH, &format!("{MAPS}/n0"), None, Some((MERGE, body))));
        match written {
            Ok(_) => answered += 1,
            Err(error) => break error,
        }
    };
    println!("after {answered} more writes: {refused}");
    assert!(answered > 0);
    let path = world.paths.store_file();
    for part in ["no space is left", path.to_str().unwrap(), "Free some space"] {
        assert!(refused.to_string().contains(part), "{part}: {refused}");
    }
    let raw = http::Request::post(MAPS).header("content-type", "application/json");
    let raw = raw.body(kube::client::Body::from(map("no", 1).to_string().into_bytes())).unwrap();
    assert_eq!(world.block_on(requester(&world).raw(raw)).unwrap().status(), 507);

    // Told; reading, watching and deleting go on.
    let status = world.ok(&["host", "status"]);
    assert!(status.contains("Problem:") && status.contains("no space is left"), "{status}");
    assert_eq!(contents(&list(&world)).len(), 5);
    world.ok(&["delete", "cm", "n4"]);
    let seen: Arc<Mutex<Vec<Value>>> = Arc::default();
    let end = version(&list(&world));
    let told = world.block_on(follow(requester(&world), start, end, Arc::clone(&seen)));
    assert_eq!((told, contents(&list(&world)).len()), (end, 4), "watched from {start}");
    let last = seen.lock().unwrap().last().cloned().unwrap();
    assert_eq!((&last["type"], &last["object"]["metadata"]["name"]), (&json!("DELETED"), &json!("n4")));
    assert_eq!(seen.lock().unwrap().len(), answered + 1);

    // A killed daemon comes back on the full disk with all that was answered.
    world.kill_daemon();
    world.start_daemon();
    assert_eq!(contents(&list(&world)).len(), 4);
    let kept = ask(&world, Method::GET, &format!("{MAPS}/n0"), None);
    assert!(kept["data"]["large"].as_str().unwrap().starts_with(&(answered - 1).to_string()));

    std::fs::remove_file(state.join("ballast")).unwrap();
    let deadline = std::time::Instant::now() + SOON;
    loop {
        let body = Some(("application/json", map("again", 1).to_string().into_bytes()));
        match world.block_on(requester(&world).json(Method::POST, MAPS, None, body)) {
            Ok(_) => break,
            Err(error) => assert!(std::time::Instant::now() < deadline, "{error}"),
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert!(!world.ok(&["host", "status"]).contains("no space"));
    world.ok(&["host", "stop"]);
    drop(small);
}
