//! The processor that a class promises is the one that the guest gets: asked of a real QEMU.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;

use serde_json::{Value, json};

use super::tests_qemu::{MIB, device, disk, home, host, ready, request, running, spec, start};
use super::*;

/// QEMU as people can ask it beside the daemon.
struct Monitor(BufReader<UnixStream>);

impl Monitor {
    fn open(home: &std::path::Path) -> Self {
        let sockets: Vec<_> = walk(&home.join("run")).into_iter().filter(|p| p.ends_with("rescue")).collect();
        assert_eq!(sockets.len(), 1, "{sockets:?}");
        let mut monitor = Self(BufReader::new(UnixStream::connect(&sockets[0]).unwrap()));
        monitor.line();
        monitor.ask(json!({"execute": "qmp_capabilities"}));
        monitor
    }

    fn line(&mut self) -> Value {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    fn ask(&mut self, question: Value) -> Value {
        self.0.get_mut().write_all(format!("{question}\n").as_bytes()).unwrap();
        loop {
            let answer = self.line();
            if answer.get("return").is_some() || answer.get("error").is_some() {
                return answer;
            }
        }
    }

    fn processor(&mut self) -> String {
        let answer = self.ask(json!({"execute": "query-cpus-fast"}));
        answer["return"][0]["qom-path"].as_str().unwrap().to_owned()
    }

    fn get(&mut self, path: &str, property: &str) -> Value {
        self.ask(json!({"execute": "qom-get", "arguments": {"path": path, "property": property}}))["return"].clone()
    }
}

fn walk(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .flat_map(|e| if e.file_type().is_ok_and(|t| t.is_dir()) { walk(&e.path()) } else { vec![e.path()] })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_guest_gets_the_processor_of_its_class() {
    let home = home();
    let Some(host) = host(home.path()).await else { return };
    let facts = host.node().cpu.clone();
    assert!(facts.models.contains_key("Nehalem"), "QEMU's models were not found: {:?}", facts.models.keys());
    assert!(facts.has("sse4.2") && facts.has("avx"), "{:?}", facts.features);
    host.create_volume(&disk("root"), request(VolumeSource::Blank, Some(64 * MIB)));
    ready(&host, &disk("root")).await;
    let features = |names: &[&str]| CpuModel::Features(names.iter().map(|n| (*n).to_owned()).collect());
    for (n, (model, typename, on, off)) in [
        (CpuModel::Host, "max-x86_64-cpu", vec!["avx2"], vec![]),
        (CpuModel::Named("Nehalem".into()), "Nehalem-x86_64-cpu", vec!["sse4.2"], vec!["avx"]),
        (features(&["avx", "sse4_2"]), "qemu64-x86_64-cpu", vec!["avx", "sse4.2"], vec!["avx2"]),
        // Discovery: all that there is.
        (CpuModel::Features(facts.features.clone()), "qemu64-x86_64-cpu", vec!["avx", "avx2", "rdrand"], vec![]),
    ]
    .into_iter()
    .enumerate()
    {
        let id = MachineId(format!("m-{n}"));
        let mut spec = spec(vec![device("root")]);
        spec.cpu.model = model.clone();
        spec.cpu.cores_per_socket = 2;
        start(&host, &id, spec);
        running(&host, &id).await;
        let (seen, values) = tokio::task::block_in_place(|| {
            let mut monitor = Monitor::open(home.path());
            let path = monitor.processor();
            let seen = monitor.get(&path, "type");
            let read = |m: &mut Monitor, names: &[&str]| names.iter().map(|f| m.get(&path, f)).collect::<Vec<_>>();
            (seen, (read(&mut monitor, &on), read(&mut monitor, &off)))
        });
        assert_eq!(seen, typename, "{model:?}");
        assert!(values.0.iter().all(|v| *v == true), "{model:?}: {on:?} are {:?}", values.0);
        assert!(values.1.iter().all(|v| *v == false), "{model:?}: {off:?} are {:?}", values.1);
        host.submit(&id, Step::Kill).unwrap();
        super::tests_qemu::ended(&host, &id).await;
        host.forget(&id).await.unwrap();
    }
}
