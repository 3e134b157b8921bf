//! Who may run on the one node: labels, company, taints, room, and who looks again when they change.

use std::time::Duration;

use serde_json::{Value, json};
use vmdeck::host::{EndReason, Host};

use super::world::{World, condition, uid};

/// Waits until a machine says that it cannot be placed, with these words.
async fn unplaced(w: &World, name: &str, words: &str) -> Value {
    let vm = w.until("vm", name, words, |o| condition(o, "Running").2.contains(words)).await;
    let (status, reason, message) = condition(&vm, "Running");
    assert_eq!((status, reason), ("False", "PodNotStarted"), "{vm:#}");
    assert_eq!(vm["status"]["phase"], "Pending");
    assert!(message.starts_with("0/1 nodes are available: 1 "), "{message}");
    vm
}

#[tokio::test]
async fn labels_of_the_node_are_waited_for() {
    let w = World::new().await;
    w.disk("vm-root").await;
    w.machine("vm", json!({"nodeSelector": {"disktype": "ssd"}})).await;
    unplaced(&w, "vm", "Label the node with disktype=ssd").await;
    w.patch("node", "node", json!({"metadata": {"labels": {"disktype": "ssd"}}})).await;
    w.phase("vm", "vm", "Running").await;
    // Ignored during execution.
    w.patch("node", "node", json!({"metadata": {"labels": {"disktype": null}}})).await;
    w.settle().await;
    w.phase("vm", "vm", "Running").await;
}

#[tokio::test]
async fn memory_is_hard_and_freed_by_who_stops() {
    let w = World::new().await;
    w.running("vm", json!({})).await;
    w.disk("big-root").await;
    w.machine("big", json!({"memory": {"size": "7Gi"}})).await;
    let big = unplaced(&w, "big", "Insufficient memory").await;
    let message = condition(&big, "Running").2;
    assert!(message.contains("stop default/vm (1.2Gi), or ask for less in spec.memory.size"), "{message}");
    w.operation("stop", "Stop", "vm", Some(true)).await;
    let big = w.phase("vm", "big", "Running").await;
    assert_eq!(big["status"]["resources"]["memory"]["size"], "7Gi");
    // 80 MiB, 8 for a processor, 128 for emulation, 1/512 of the guest's memory.
    assert_eq!(big["status"]["resources"]["memory"]["runtimeOverhead"], "230Mi");
    assert_eq!(big["status"]["resources"]["cpu"]["runtimeOverhead"], "0");
}

#[tokio::test]
async fn promised_processors_are_counted_and_a_smaller_promise_fits() {
    let w = World::new().await;
    w.running("a", json!({"cpu": {"cores": 3, "coreFraction": "100%"}})).await;
    w.disk("b-root").await;
    w.machine("b", json!({"cpu": {"cores": 2, "coreFraction": "100%"}})).await;
    let b = unplaced(&w, "b", "Insufficient cpu").await;
    assert!(condition(&b, "Running").2.contains("1 CPUs of 4 CPUs are free: stop default/a (3 CPUs)"), "{b:#}");
    w.patch("vm", "b", json!({"spec": {"cpu": {"coreFraction": "50%"}}})).await;
    let b = w.phase("vm", "b", "Running").await;
    assert_eq!(b["status"]["resources"]["cpu"]["requestedCores"], "1");
}

/// For a while a migration needs the machine's memory twice.
#[tokio::test]
async fn a_migration_needs_room_for_a_second_qemu() {
    let w = World::new().await;
    w.running("vm", json!({"memory": {"size": "5Gi"}})).await;
    w.operation("move", "Migrate", "vm", None).await;
    let op = w.phase("vmop", "move", "Failed").await;
    assert_eq!(condition(&op, "Completed").1, "OperationFailed");
    assert!(condition(&op, "Completed").2.contains("needs the machine's memory twice"), "{op:#}");
    assert_eq!(w.host.steps(), ["start"]);
}

/// Machines that want the last room at the same moment: exactly as many start as fit.
#[tokio::test]
async fn no_room_is_given_twice() {
    let w = World::new().await;
    for n in 0..6 {
        w.disk(&format!("m{n}-root")).await;
    }
    for n in 0..6 {
        w.machine(&format!("m{n}"), json!({"memory": {"size": "2Gi"}, "runPolicy": "Manual"})).await;
    }
    for n in 0..6 {
        w.operation(&format!("start{n}"), "Start", &format!("m{n}"), None).await;
    }
    // 8Gi hold three of them with QEMU's own part.
    let count = |list: &[Value], phase: &str| list.iter().filter(|o| o["status"]["phase"] == phase).count();
    let start = std::time::Instant::now();
    loop {
        let machines = w.list("vm").await;
        assert!(count(&machines, "Running") <= 3, "{machines:#?}");
        if count(&machines, "Running") == 3 && count(&machines, "Pending") == 3 {
            break;
        }
        assert!(start.elapsed() < Duration::from_secs(20), "{machines:#?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    w.settle().await;
    assert_eq!(count(&w.list("vm").await, "Running"), 3);
    assert_eq!(w.host.steps(), ["start"; 3]);
    // One that ends makes room for one.
    let first = w.list("vm").await.into_iter().find(|o| o["status"]["phase"] == "Running").unwrap();
    w.host.end(uid(&first), EndReason::GuestShutdown);
    let name = first["metadata"]["name"].as_str().unwrap();
    w.phase("vm", name, "Stopped").await;
    w.settle().await;
    assert_eq!(count(&w.list("vm").await, "Running"), 3);
}

#[tokio::test]
async fn labels_of_machines_and_namespaces_are_waited_for() {
    let w = World::new().await;
    let term =
        json!({"labelSelector": {"matchLabels": {"server": "database"}}, "topologyKey": "kubernetes.io/hostname"});
    let required = |kind: &str, term: &Value| json!({"affinity": {kind: {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}});
    w.running("db", json!({})).await;
    w.disk("near-root").await;
    w.machine("near", required("virtualMachineAndPodAffinity", &term)).await;
    unplaced(&w, "near", "didn't match the machine's affinity rules").await;
    w.patch("vm", "db", json!({"metadata": {"labels": {"server": "database"}}})).await;
    w.phase("vm", "near", "Running").await;

    w.disk("away-root").await;
    w.machine("away", required("virtualMachineAndPodAntiAffinity", &term)).await;
    let away = unplaced(&w, "away", "anti-affinity rules").await;
    assert!(condition(&away, "Running").2.contains("keeps it from default/db"), "{away:#}");
    w.patch("vm", "db", json!({"metadata": {"labels": {"server": "web"}}})).await;
    w.phase("vm", "away", "Running").await;

    let mut anywhere = term.clone();
    anywhere["labelSelector"] = json!({"matchLabels": {"server": "web"}});
    anywhere["namespaceSelector"] = json!({"matchLabels": {"team": "a"}});
    w.disk("picky-root").await;
    w.machine("picky", required("virtualMachineAndPodAffinity", &anywhere)).await;
    unplaced(&w, "picky", "affinity rules").await;
    w.patch("namespace", "default", json!({"metadata": {"labels": {"team": "a"}}})).await;
    w.phase("vm", "picky", "Running").await;
}

#[tokio::test]
async fn a_machine_that_runs_keeps_others_away() {
    let w = World::new().await;
    let term = json!({"labelSelector": {}, "topologyKey": "kubernetes.io/hostname"});
    let alone = json!({"affinity": {"virtualMachineAndPodAntiAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": [term]}}});
    w.running("hermit", alone).await;
    w.disk("vm-root").await;
    w.machine("vm", json!({})).await;
    unplaced(&w, "vm", "didn't satisfy existing machines' anti-affinity rules").await;
    w.operation("stop", "Stop", "hermit", Some(true)).await;
    w.phase("vm", "vm", "Running").await;
}

#[tokio::test]
async fn spreading_over_domains_that_the_node_is_not_in_waits() {
    let w = World::new().await;
    let spread = |when: &str| {
        json!({"topologySpreadConstraints": [{
            "maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": when,
            "labelSelector": {"matchLabels": {"app": "web"}},
        }]})
    };
    w.running("anyway", spread("ScheduleAnyway")).await;
    w.disk("vm-root").await;
    w.machine("vm", spread("DoNotSchedule")).await;
    unplaced(&w, "vm", "didn't match pod topology spread constraints (missing required label)").await;
    w.patch("node", "node", json!({"metadata": {"labels": {"zone": "a"}}})).await;
    w.phase("vm", "vm", "Running").await;
}

#[tokio::test]
async fn a_taint_that_nobody_tolerates_empties_the_node() {
    let w = World::new().await;
    w.running("plain", json!({})).await;
    w.running("manual", json!({})).await;
    w.patch("vm", "manual", json!({"spec": {"runPolicy": "Manual"}})).await;
    let hardy = |seconds: Value| {
        let mut toleration = json!({"key": "maintenance", "operator": "Exists", "effect": "NoExecute"});
        toleration["tolerationSeconds"] = seconds;
        json!({"tolerations": [toleration]})
    };
    w.running("hardy", hardy(Value::Null)).await;
    let patient = w.running("patient", hardy(json!(60))).await;
    w.settle().await;
    w.patch("node", "node", json!({"spec": {"taints": [{"key": "maintenance", "effect": "NoExecute"}]}})).await;

    unplaced(&w, "plain", "untolerated taint maintenance:NoExecute").await;
    w.phase("vm", "manual", "Stopped").await;
    let vm = w.until("vm", "patient", "warned", |o| condition(o, "EvictionRequired").0 == "True").await;
    assert_eq!(condition(&vm, "EvictionRequired").1, "EvictionRequired");
    assert!(condition(&vm, "EvictionRequired").2.contains("maintenance:NoExecute"), "{vm:#}");
    w.phase("vm", "patient", "Running").await;
    w.phase("vm", "hardy", "Running").await;
    w.settle().await;
    assert!(w.events("plain").await.iter().any(|e| e == "Evicted"), "{:?}", w.events("plain").await);

    // Its time is over. (The clock is the test's, so something has to make the controller look at it.) It is tolerated
    // for as long again by the next instance, as by a pod's successor in Kubernetes.
    let id = vmdeck::host::MachineId(uid(&patient).into());
    w.pass(Duration::from_secs(61));
    w.patch("vm", "patient", json!({"metadata": {"labels": {"look": "now"}}})).await;
    w.until("vm", "patient", "replaced", |_| w.host.observe(&id).launch == 2).await;
    w.settle().await;
    w.phase("vm", "patient", "Running").await;
    assert_eq!(w.host.observe(&id).launch, 2, "driven away again at once");

    w.patch("node", "node", json!({"spec": {"taints": null}})).await;
    w.phase("vm", "plain", "Running").await;
    w.phase("vm", "manual", "Stopped").await;
    w.phase("vm", "hardy", "Running").await;
}

#[tokio::test]
async fn preferences_are_told_and_not_waited_for() {
    let w = World::new().await;
    let preference = json!({"matchExpressions": [{"key": "disktype", "operator": "In", "values": ["hdd"]}]});
    w.running(
        "vm",
        json!({"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
            {"weight": 1, "preference": preference}
        ]}}}),
    )
    .await;
    w.settle().await;
    assert!(w.events("vm").await.iter().any(|e| e == "PreferencesNotMet"), "{:?}", w.events("vm").await);
}

#[tokio::test]
async fn the_node_says_what_there_is_and_what_machines_may_have() {
    let w = World::new().await;
    let node = w.until("node", "node", "written", |o| o["status"]["capacity"].is_object()).await;
    assert_eq!(node["status"]["capacity"], json!({"cpu": "4", "memory": "8Gi"}));
    assert_eq!(node["status"]["allocatable"], json!({"cpu": "4", "memory": "8Gi"}));
    let class = w.phase("vmclass", "host", "Ready").await;
    assert_eq!(class["status"]["maxAllocatableResources"], json!({"cpu": "4", "memory": "8Gi"}));
    assert_eq!(class["status"]["availableNodes"], json!(["node"]));
}
