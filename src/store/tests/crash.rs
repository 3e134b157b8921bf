//! SIGKILL at points that nobody chose.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write as _};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::*;

/// Kills in one run.
const KILLS: u64 = 200;
/// Stores that are worked on side by side.
const LANES: u64 = 2;
/// Names that each writer of a child writes in turn.
const NAMES: u64 = 5;
/// Writers of a child.
const WRITERS: u64 = 4;

/// Whether a writer's step of this number is a delete.
fn deletes(step: u64) -> bool {
    step % 11 == 10
}

/// Not a test of its own: the process that [`acknowledged_writes_survive_200_kills`] kills. Writes for ever, says
/// each acknowledged write on its standard output: `ACK revision writer step`.
#[test]
fn crash_child() {
    let Some(dir) = std::env::var_os("VMDECK_TEST_CRASH_DIR") else { return };
    let options = Options {
        keep: Duration::ZERO,
        keep_changes: 50,
        compact_every: Duration::from_millis(2),
        ..Options::default()
    };
    // Values differ from round to round: a write that changes nothing would answer with an old revision.
    let round = std::env::var("VMDECK_TEST_CRASH_ROUND").unwrap();
    let store = Store::open(Path::new(&dir), options).unwrap();
    runtime().block_on(async {
        let writers = (0..WRITERS).map(|w| {
            let (store, round) = (store.clone(), round.as_str());
            async move {
                for step in 0u64.. {
                    let name = format!("w{w}-{}", step % NAMES);
                    let write = if deletes(step) {
                        delete(&name, Expect::Any)
                    } else {
                        put(&name, Expect::Any, &format!("{round}-{step}"))
                    };
                    if let Ok(done) = store.write(write).await {
                        let line = format!("ACK {} {w} {step}\n", done.entry.revision);
                        std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
                    }
                }
            }
        });
        futures::future::join_all(writers).await;
    });
}

#[test]
fn acknowledged_writes_survive_200_kills() {
    let lanes: Vec<_> = (0..LANES)
        .map(|lane| {
            std::thread::spawn(move || {
                let dir = tempfile::tempdir().unwrap();
                let (mut newest, mut told) = (0, 0);
                for round in 0..KILLS / LANES {
                    told += kill_once(dir.path(), lane, round, &mut newest);
                }
                told
            })
        })
        .collect();
    let told: usize = lanes.into_iter().map(|lane| lane.join().unwrap()).sum();
    println!("{KILLS} kills, {told} acknowledged writes, none lost");
    assert!(told > 1000, "only {told} writes were acknowledged: the kills tested little");
}

/// One child's life; gives the number of writes that it acknowledged.
fn kill_once(dir: &Path, lane: u64, round: u64, newest: &mut Revision) -> usize {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("{}::crash_child", module_path!().split_once("::").unwrap().1), "--nocapture"])
        .env("VMDECK_TEST_CRASH_DIR", dir)
        .env("VMDECK_TEST_CRASH_ROUND", round.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    // Killed after a varying number of answers and a varying moment: anywhere in a transaction, a checkpoint, a
    // compaction. Some die before they answer anything.
    let chosen = round * 37 + lane * 11;
    let mut told: Vec<String> = Vec::new();
    if round % 8 != 7 {
        told.extend(lines.by_ref().filter(|l| l.contains("ACK ")).take((chosen % 90) as usize + 1));
    }
    std::thread::sleep(Duration::from_micros(chosen * 131 % 3000));
    child.kill().unwrap();
    child.wait().unwrap();
    told.extend(lines.filter(|l| l.contains("ACK ") && l.split(' ').count() == 4));

    // Last acknowledged (revision, step) of each name, and last step of each writer.
    let mut want: BTreeMap<(u64, u64), (u64, u64)> = BTreeMap::new();
    let mut reached: BTreeMap<u64, u64> = BTreeMap::new();
    for line in &told {
        let words: Vec<u64> =
            line[line.find("ACK ").unwrap() + 4..].split(' ').map(|word| word.parse().unwrap()).collect();
        let [revision, writer, step] = words[..] else { panic!("{line:?}") };
        assert!(revision > *newest, "revision {revision} after {newest} was there before the crash");
        want.insert((writer, step % NAMES), (revision, step));
        reached.insert(writer, step);
    }
    let store = reopen(dir, Options::default());
    let last = want.values().map(|(revision, _)| *revision).max().unwrap_or(0);
    assert!(store.revision() >= last.max(*newest));
    for ((writer, name), (revision, step)) in want {
        let key = Key::new("things", "ns", &format!("w{writer}-{name}"));
        // At most one more write of each writer may be on disk without its answer having been told.
        let untold = reached[&writer] + 1;
        match store.get(&key) {
            Some(entry) if entry.revision == revision => {
                assert!(!deletes(step), "{key:?} was deleted at {revision}");
                assert_eq!(entry.bytes, body(&format!("{round}-{step}")).render(revision));
            }
            found => {
                let gone = found.is_none();
                assert!(found.is_none_or(|entry| entry.revision > revision), "{key:?} went back from {revision}");
                let explained = (gone && deletes(step)) || (untold % NAMES == name && gone == deletes(untold));
                assert!(explained, "{key:?} at {revision}, step {step}, is lost; the writer had told {untold} - 1");
            }
        }
    }
    *newest = store.revision();
    drop(store);
    settled(dir);
    told.len()
}
