//! Conditions and events of machines, operations, classes and attachments that need the API around them. The pure
//! tables are beside the rules.

use serde_json::{Value, json};
use vmdeck::host::{EndReason, Host, MachineId, MachineState};

use super::world::{World, condition, uid};

async fn has_event(w: &World, name: &str, reason: &str) {
    let start = std::time::Instant::now();
    while !w.events(name).await.iter().any(|e| e == reason) {
        assert!(
            start.elapsed() < std::time::Duration::from_secs(20),
            "{name} has no {reason}: {:?}",
            w.events(name).await
        );
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

/// upstream.md 7.3: the conditions of an operation from its creation to its end.
#[tokio::test]
async fn operations_tell_how_far_they_are() {
    let w = World::new().await;
    w.running("vm", json!({})).await;
    w.host.deaf_guests();
    w.operation("stop", "Stop", "vm", None).await;
    let op = w.phase("vmop", "stop", "InProgress").await;
    assert_eq!((condition(&op, "Completed").0, condition(&op, "Completed").1), ("False", "StopInProgress"));
    assert_eq!((condition(&op, "SignalSent").0, condition(&op, "SignalSent").1), ("True", "SignalSentSuccess"));
    // One that may not supersede it is refused by the server.
    let refused = w.refused("vmop", "later", json!({"spec": {"type": "Restart", "virtualMachineName": "vm"}})).await;
    assert!(refused.contains("has to finish first"), "{refused}");
    w.operation("force", "Stop", "vm", Some(true)).await;
    let op = w.phase("vmop", "force", "Completed").await;
    assert_eq!((condition(&op, "Completed").0, condition(&op, "Completed").1), ("True", "OperationCompleted"));
    let op = w.phase("vmop", "stop", "Superseded").await;
    assert_eq!((condition(&op, "Completed").0, condition(&op, "Completed").1), ("True", "Superseded"));
    for (name, reasons) in [
        ("stop", vec!["VirtualMachineOperationStarted", "VirtualMachineOperationInProgress"]),
        ("force", vec!["VirtualMachineOperationSucceeded"]),
    ] {
        for reason in reasons {
            has_event(&w, name, reason).await;
        }
    }

    // A start that has to wait for its gate, and one whose policy forbids it.
    w.patch("vm", "vm", json!({"spec": {"nodeSelector": {"zone": "a"}}})).await;
    w.operation("start", "Start", "vm", None).await;
    let op = w.until("vmop", "start", "waiting", |o| condition(o, "Completed").1 == "StartInProgress").await;
    assert_eq!(op["status"]["phase"], "InProgress");
    w.patch("node", "node", json!({"metadata": {"labels": {"zone": "a"}}})).await;
    w.phase("vmop", "start", "Completed").await;
    w.patch("vm", "vm", json!({"spec": {"runPolicy": "AlwaysOn"}})).await;
    w.until("vm", "vm", "always on", |o| o["spec"]["runPolicy"] == "AlwaysOn").await;
    w.settle().await;
    w.operation("no", "Stop", "vm", None).await;
    let op = w.phase("vmop", "no", "Failed").await;
    assert_eq!(condition(&op, "Completed").1, "NotApplicableForVirtualMachineRunPolicy");
    has_event(&w, "no", "VirtualMachineOperationFailed").await;

    w.host.deaf_guests();
    w.operation("restart", "Restart", "vm", None).await;
    w.until("vmop", "restart", "under way", |o| condition(o, "Completed").1 == "RestartInProgress").await;
}

/// Events of a class, and the machines that notice what is edited in it (upstream.md 8.1, 20).
#[tokio::test]
async fn classes_tell_about_nodes_and_sizes() {
    let w = World::new().await;
    let selector = json!({"matchLabels": {"zone": "a"}});
    let spec = json!({"cpu": {"type": "Host"}, "nodeSelector": selector,
        "sizingPolicies": [{"cores": {"min": 1, "max": 4}}]});
    w.create("vmclass", "picky", json!({ "spec": spec })).await;
    let class = w.phase("vmclass", "picky", "Pending").await;
    assert_eq!(condition(&class, "Ready").1, "NoSuitableNodesFound");
    assert_eq!(condition(&class, "Discovered").1, "DiscoverySkip");
    assert_eq!((condition(&class, "InUse").0, condition(&class, "InUse").1), ("False", "VirtualMachineClassInUse"));
    assert_eq!(class["status"]["availableNodes"], Value::Null);
    has_event(&w, "picky", "AvailableNodesListEmpty").await;

    // Its machines wait and say for what.
    w.disk("vm-root").await;
    w.machine("vm", json!({"virtualMachineClassName": "picky", "cpu": {"cores": 3}})).await;
    let vm = w.until("vm", "vm", "waiting", |o| condition(o, "VirtualMachineClassReady").0 == "False").await;
    assert_eq!(condition(&vm, "VirtualMachineClassReady").1, "VirtualMachineClassNotReady");
    assert!(
        condition(&vm, "VirtualMachineClassReady").2.contains("label the node as spec.nodeSelector asks"),
        "{vm:#}"
    );
    w.patch("node", "node", json!({"metadata": {"labels": {"zone": "a"}}})).await;
    w.phase("vmclass", "picky", "Ready").await;
    w.phase("vm", "vm", "Running").await;
    has_event(&w, "picky", "NodesWereUpdated").await;

    let sizes = json!({"spec": {"sizingPolicies": [{"cores": {"min": 1, "max": 2}}]}});
    w.patch("vmclass", "picky", sizes).await;
    has_event(&w, "picky", "SizingPoliciesWereChanged").await;
    let vm = w.until("vm", "vm", "too large", |o| condition(o, "SizingPolicyMatched").0 == "False").await;
    assert_eq!(condition(&vm, "SizingPolicyMatched").1, "SizingPolicyNotMatched");
    assert!(condition(&vm, "SizingPolicyMatched").2.contains("spec.cpu.cores is 3, allowed are 1 to 2"), "{vm:#}");
    // It runs on, does not start again, and does when it fits.
    w.host.end(uid(&vm), EndReason::GuestReset);
    w.phase("vm", "vm", "Pending").await;
    w.patch("vm", "vm", json!({"spec": {"cpu": {"cores": 2}}})).await;
    let vm = w.phase("vm", "vm", "Running").await;
    assert_eq!(condition(&vm, "SizingPolicyMatched").0, "");

    w.delete("vmclass", "picky").await;
    let vm = w.until("vm", "vm", "told", |o| condition(o, "SizingPolicyMatched").0 == "False").await;
    assert_eq!(condition(&vm, "SizingPolicyMatched").1, "VirtualMachineClassTerminating");
}

#[tokio::test]
async fn a_class_gives_the_processor_that_its_node_has() {
    let w = World::new().await;
    for (name, cpu, ready, seen) in [
        ("named", json!({"type": "Model", "model": "Nehalem"}), "SuitableNodesFound", Some("Named(\"Nehalem\")")),
        ("unknown", json!({"type": "Model", "model": "Zx81"}), "NoSuitableNodesFound", None),
        (
            "features",
            json!({"type": "Features", "features": ["avx", "invtsc"]}),
            "SuitableNodesFound",
            Some("Features([\"avx\"])"),
        ),
        ("lacking", json!({"type": "Features", "features": ["avx512f"]}), "NoSuitableNodesFound", None),
        ("only-optional", json!({"type": "Features", "features": ["invtsc"]}), "NoCpuFeaturesEnabled", None),
        ("discovery", json!({"type": "Discovery"}), "SuitableNodesFound", Some("Features([\"aes\", \"avx\"])")),
        ("passthrough", json!({"type": "HostPassthrough"}), "SuitableNodesFound", Some("Host")),
    ] {
        w.create("vmclass", name, json!({"spec": {"cpu": cpu}})).await;
        let class = w.until("vmclass", name, ready, |o| condition(o, "Ready").1 == ready).await;
        if cpu["type"] == "Discovery" {
            assert_eq!(condition(&class, "Discovered").1, "DiscoverySucceeded");
            assert_eq!(class["status"]["cpuFeatures"]["enabled"], json!(["aes", "avx"]));
        }
        let Some(seen) = seen else { continue };
        let vm = w.running(&format!("vm-{name}"), json!({"virtualMachineClassName": name})).await;
        assert_eq!(format!("{:?}", w.host.spec(uid(&vm)).cpu.model), seen, "{name}");
    }
}

/// upstream.md 4.3 and the guide's "Initial configuration scripts".
#[tokio::test]
async fn provisioning_says_what_is_wrong() {
    const CLOUD_INIT: &str = "provisioning.virtualization.deckhouse.io/cloud-init";
    const SYSPREP: &str = "provisioning.virtualization.deckhouse.io/sysprep";
    let w = World::new().await;
    let cloud = |name: &str| json!({"provisioning": {"type": "UserDataRef", "userDataRef": {"kind": "Secret", "name": name}, "userData": null}});
    let sysprep = |name: &str| json!({"provisioning": {"type": "SysprepRef", "sysprepRef": {"kind": "Secret", "name": name}, "userData": null}});
    for (n, (provisioning, type_, data, reason, words)) in [
        (cloud("s0"), "Opaque", json!({"userData": "#cloud-config\n"}), "ProvisioningNotReady", "type"),
        (cloud("s1"), CLOUD_INIT, json!({"other": "x"}), "ProvisioningNotReady", "userData"),
        (cloud("s2"), CLOUD_INIT, json!({"userData": "no header\n"}), "ProvisioningReadyWithWarnings", ""),
        (cloud("s3"), CLOUD_INIT, json!({"userData": "#cloud-config\na: b: c\n"}), "ProvisioningReadyWithWarnings", ""),
        (cloud("s4"), CLOUD_INIT, json!({"userData": "#cloud-config\nusers: []\n"}), "ProvisioningReady", ""),
        (cloud("s5"), CLOUD_INIT, json!({"userdata": "#cloud-config\nusers: []\n"}), "ProvisioningReady", ""),
        (sysprep("s6"), CLOUD_INIT, json!({"unattend.xml": "<x/>"}), "ProvisioningNotReady", "type"),
        (sysprep("s7"), SYSPREP, json!({"unattend.xml": "<x/>"}), "ProvisioningReady", ""),
        (sysprep("s8"), SYSPREP, json!({"other.xml": "<x/>"}), "ProvisioningReadyWithWarnings", ""),
    ]
    .into_iter()
    .enumerate()
    {
        let (vm, secret) = (format!("vm{n}"), format!("s{n}"));
        w.disk(&format!("{vm}-root")).await;
        w.machine(&vm, provisioning).await;
        let waiting = w.until("vm", &vm, "waiting", |o| condition(o, "ProvisioningReady").0 == "False").await;
        assert!(condition(&waiting, "ProvisioningReady").2.contains(&format!("Secret {secret} does not exist")));
        w.create("secret", &secret, json!({"type": type_, "stringData": data})).await;
        let seen = w
            .until("vm", &vm, reason, |o| {
                condition(o, "ProvisioningReady").1 == reason && !condition(o, "ProvisioningReady").2.contains("exist")
            })
            .await;
        let message = condition(&seen, "ProvisioningReady").2;
        assert!(message.contains(words), "{vm}: {message}");
        match reason {
            "ProvisioningNotReady" => {
                assert_eq!(seen["status"]["phase"], "Pending", "{vm}");
                has_event(&w, &vm, "ProvisioningInvalid").await;
            }
            "ProvisioningReadyWithWarnings" => {
                assert!(!message.is_empty());
                w.phase("vm", &vm, "Running").await;
            }
            _ => drop(w.phase("vm", &vm, "Running").await),
        }
        // Room for the next ones.
        w.delete("vm", &vm).await;
        w.gone("vm", &vm).await;
    }
    // The guide's limit names the remedy.
    let long = "x".repeat(2049);
    let body = json!({"spec": {"virtualMachineClassName": "host", "cpu": {"cores": 1}, "memory": {"size": "1Gi"},
        "blockDeviceRefs": [{"kind": "VirtualDisk", "name": "d"}], "provisioning": {"type": "UserData", "userData": long}}});
    let refused = w.refused("vm", "long", body).await;
    assert!(refused.contains("2048") && refused.contains("userDataRef"), "{refused}");
}

#[tokio::test]
async fn an_attachment_that_is_refused_by_its_guest_is_still_being_detached() {
    let w = World::new().await;
    w.running("vm", json!({})).await;
    w.disk("data").await;
    let attach =
        json!({"spec": {"virtualMachineName": "vm", "blockDeviceRef": {"kind": "VirtualDisk", "name": "data"}}});
    w.create("vmbda", "att", attach).await;
    w.phase("vmbda", "att", "Attached").await;
    w.host.stubborn(true);
    w.delete("vmbda", "att").await;
    let att = w.phase("vmbda", "att", "Terminating").await;
    assert_eq!((condition(&att, "Terminating").0, condition(&att, "Terminating").1), ("True", "DetachPending"));
    w.host.stubborn(false);
    w.operation("restart", "Restart", "vm", Some(true)).await;
    w.gone("vmbda", "att").await;
}

/// An older disk user is told of with an event, too.
#[tokio::test]
async fn a_busy_disk_is_an_event() {
    let w = World::new().await;
    w.running("a", json!({})).await;
    w.machine("b", json!({"blockDeviceRefs": [{"kind": "VirtualDisk", "name": "a-root"}]})).await;
    has_event(&w, "b", "VirtualDiskAlreadyInUse").await;
}

/// upstream.md 5: edits while it is stopped, while a restart waits, with a closed gate, and by whom they are applied.
#[tokio::test]
async fn edits_of_a_stopped_machine_take_effect_at_its_start() {
    let w = World::new().await;
    w.disk("vm-root").await;
    let vm = w.machine("vm", json!({"runPolicy": "Manual"})).await;
    w.phase("vm", "vm", "Stopped").await;
    w.patch("vm", "vm", json!({"spec": {"cpu": {"cores": 2}}})).await;
    w.settle().await;
    let stopped = w.phase("vm", "vm", "Stopped").await;
    assert!(stopped["status"]["restartAwaitingChanges"].is_null(), "nothing waits: {stopped:#}");
    assert_eq!(stopped["status"]["resources"]["cpu"]["cores"], 2);
    w.operation("start", "Start", "vm", None).await;
    w.phase("vm", "vm", "Running").await;
    assert_eq!(w.host.spec(uid(&vm)).cpu.cores_per_socket, 2);
}

#[tokio::test]
async fn edits_while_a_restart_waits_are_compared_with_what_runs() {
    let w = World::new().await;
    w.running("vm", json!({})).await;
    let waiting = |o: &Value| o["status"]["restartAwaitingChanges"].as_array().map_or(0, Vec::len);
    w.patch("vm", "vm", json!({"spec": {"cpu": {"cores": 2}}})).await;
    w.until("vm", "vm", "waiting", |o| waiting(o) == 1).await;
    // Another one joins it, sorted by path.
    w.patch("vm", "vm", json!({"spec": {"bootloader": "EFI"}})).await;
    let vm = w.until("vm", "vm", "waiting for both", |o| waiting(o) == 2).await;
    assert_eq!(vm["status"]["restartAwaitingChanges"][0]["path"], "bootloader");
    // A third value replaces the second, still compared with what runs.
    w.patch("vm", "vm", json!({"spec": {"cpu": {"cores": 3}}})).await;
    let path = |o: &Value| o["status"]["restartAwaitingChanges"][1].clone();
    let three = json!({"currentValue": 1, "desiredValue": 3, "operation": "replace", "path": "cpu.cores"});
    w.until("vm", "vm", "three", |o| path(o) == three).await;
    // Labels and the run policy take effect at once, whatever waits.
    w.patch("vm", "vm", json!({"metadata": {"labels": {"a": "b"}}, "spec": {"runPolicy": "AlwaysOn"}})).await;
    w.settle().await;
    assert_eq!(waiting(&w.get("vm", "vm").await.unwrap()), 2);
    w.operation("stop", "Stop", "vm", None).await;
    let op = w.phase("vmop", "stop", "Failed").await;
    assert_eq!(
        condition(&op, "Completed").1,
        "NotApplicableForVirtualMachineRunPolicy",
        "the new policy rules already"
    );
    // Taken back, nothing waits any more and nothing was restarted.
    w.patch("vm", "vm", json!({"spec": {"cpu": {"cores": 1}, "bootloader": "BIOS"}})).await;
    let vm = w.until("vm", "vm", "at rest", |o| o["status"]["restartAwaitingChanges"].is_null()).await;
    assert_eq!(condition(&vm, "AwaitingRestartToApplyConfiguration").0, "");
    assert_eq!(w.host.steps().iter().filter(|s| *s == "start").count(), 1);
}

/// upstream.md 4.2: with a closed gate a restart is announced as dangerous; automatic approval waits for the gate.
#[tokio::test]
async fn a_closed_gate_holds_back_what_would_leave_it_down() {
    let w = World::new().await;
    let vm = w.running("vm", json!({})).await;
    w.patch(
        "vm",
        "vm",
        json!({"spec": {
            "blockDeviceRefs": [{"kind": "VirtualDisk", "name": "vm-root"}, {"kind": "VirtualDisk", "name": "more"}],
            "disruptions": {"restartApprovalMode": "Automatic"},
        }}),
    )
    .await;
    let seen = w.until("vm", "vm", "warning", |o| condition(o, "ConfigurationApplied").0 == "False").await;
    let message = condition(&seen, "ConfigurationApplied").2;
    assert!(message.contains("would leave the machine down") && message.contains("VirtualDisk more"), "{message}");
    w.settle().await;
    assert_eq!(w.host.steps(), ["start"], "it was restarted into a closed gate");
    // The missing disk opens it: the change is applied by nobody but the controller.
    w.disk("more").await;
    w.until("vm", "vm", "applied", |o| o["status"]["restartAwaitingChanges"].is_null()).await;
    assert_eq!(w.host.spec(uid(&vm)).devices.len(), 2);
    // A restart asked for with a closed gate: it stops, is Pending, and starts when the gate opens.
    w.patch(
        "vm",
        "vm",
        json!({"spec": {"virtualMachineIPAddressName": "late", "disruptions": {"restartApprovalMode": "Manual"}}}),
    )
    .await;
    w.until("vm", "vm", "pending", |o| o["status"]["restartAwaitingChanges"].is_array()).await;
    w.operation("restart", "Restart", "vm", None).await;
    w.phase("vm", "vm", "Pending").await;
    w.settle().await;
    assert!(!matches!(w.host.observe(&MachineId(uid(&vm).into())).state, MachineState::Running { .. }));
    w.create("vmip", "late", json!({"spec": {"type": "Static", "staticIP": "10.66.10.99"}})).await;
    let seen = w.phase("vm", "vm", "Running").await;
    assert_eq!(seen["status"]["ipAddress"], "10.66.10.99");
    w.phase("vmop", "restart", "Completed").await;
}

/// The server refuses a second operation while one is under way. One that got in all the same (two servers, a restored
/// store) is failed by the controller.
#[tokio::test]
async fn an_operation_behind_an_older_one_fails() {
    let mut w = World::new().await;
    w.running("vm", json!({})).await;
    w.stop().await;
    let phase = |phase: &str| kube::api::Patch::Merge(json!({"status": {"phase": phase}}));
    w.operation("first", "Restart", "vm", Some(true)).await;
    w.api("vmop").patch_status("first", &Default::default(), &phase("Completed")).await.unwrap();
    w.operation("second", "Restart", "vm", None).await;
    w.api("vmop").patch_status("first", &Default::default(), &phase("Pending")).await.unwrap();
    w.start();
    let second = w.phase("vmop", "second", "Failed").await;
    assert_eq!(condition(&second, "Completed").1, "NotReadyToBeExecuted");
    assert!(condition(&second, "Completed").2.contains("VirtualMachineOperation first (Restart)"), "{second:#}");
    w.phase("vmop", "first", "Completed").await;
}

#[tokio::test]
async fn migrations_tell_how_they_go() {
    let w = World::new().await;
    let vm = w.running("vm", json!({"liveMigrationPolicy": "AlwaysSafe"})).await;
    assert_eq!(condition(&vm, "Migratable").1, "VirtualMachineMigratable");
    w.operation("forced", "Migrate", "vm", Some(true)).await;
    let op = w.phase("vmop", "forced", "Failed").await;
    assert_eq!(condition(&op, "Completed").1, "NotApplicableForLiveMigrationPolicy");
    w.host.stubborn(true);
    w.operation("idle", "Migrate", "vm", None).await;
    w.until("vmop", "idle", "asked for", |o| condition(o, "Completed").1 == "MigrationPending").await;
    w.delete("vmop", "idle").await;
    w.gone("vmop", "idle").await;
    w.host.stubborn(false);
    w.operation("move", "Migrate", "vm", None).await;
    let op = w.until("vmop", "move", "under way", |o| condition(o, "Completed").1 == "Syncing").await;
    assert_eq!(op["status"]["progress"], "47%");
    let vm = w.phase("vm", "vm", "Migrating").await;
    assert_eq!((condition(&vm, "Migrating").0, condition(&vm, "Migrating").1), ("True", "InProgress"));
    assert_eq!(vm["status"]["migrationState"]["result"], "");
    has_event(&w, "vm", "Migrated").await;
    // Deleting the operation cancels it.
    w.delete("vmop", "move").await;
    w.gone("vmop", "move").await;
    let vm = w.phase("vm", "vm", "Running").await;
    assert_eq!(vm["status"]["migrationState"]["result"], "Failed");

    w.host.pin(uid(&vm), "it has a device of this computer");
    let vm = w.until("vm", "vm", "pinned", |o| condition(o, "Migratable").0 == "False").await;
    assert_eq!(condition(&vm, "Migratable").1, "VirtualMachineNonMigratable");
    w.operation("evict", "Evict", "vm", None).await;
    let op = w.phase("vmop", "evict", "Failed").await;
    assert_eq!(condition(&op, "Completed").1, "OperationFailed");
    assert!(condition(&op, "Completed").2.contains("it has a device of this computer"), "{op:#}");
    assert_eq!((condition(&op, "SignalSent").0, condition(&op, "SignalSent").1), ("False", "SignalSentError"));
}
