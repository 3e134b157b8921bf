//! Manifests to host steps and status: the real server in memory, the real controllers, a fake host.

mod addresses;
mod cloning;
mod conditions;
mod fake_host;
mod full_disk;
mod mac;
mod placement;
mod reasons;
mod restoring_machines;
mod snapshots;
mod sources;
mod storage;
mod world;

use std::time::Duration;

use serde_json::{Value, json};
use vmdeck::host::{EndReason, Host, MachineId, MachineState, Seed};

use world::{World, condition, uid};

#[tokio::test]
async fn a_machine_starts_is_complete_and_leaves_nothing_behind() {
    let w = World::new().await;
    w.machine("vm", json!({})).await;
    let vm = w.until("vm", "vm", "waiting for its disk", |o| condition(o, "BlockDevicesReady").0 == "False").await;
    assert_eq!(vm["status"]["phase"], "Pending");
    let (_, reason, message) = condition(&vm, "BlockDevicesReady");
    assert_eq!(reason, "BlockDevicesNotReady");
    assert!(message.contains("0/1") && message.contains("VirtualDisk vm-root does not exist"), "{message}");

    w.disk("vm-root").await;
    let vm = w.phase("vm", "vm", "Running").await;
    let status = &vm["status"];
    assert_eq!(status["nodeName"], "node");
    assert_eq!(status["ipAddress"], "10.66.10.1");
    assert_eq!(status["resources"]["cpu"]["requestedCores"], "100m");
    assert_eq!(status["versions"]["qemu"], "9.9.9");
    assert_eq!(status["blockDeviceRefs"][0]["attached"], true);
    assert_eq!(status["blockDeviceRefs"][0]["size"], "1Gi");
    assert_eq!(status["observedGeneration"], vm["metadata"]["generation"]);
    assert!(status["stats"]["lastStartTime"].is_string(), "{status:#}");
    assert_eq!(condition(&vm, "Running").0, "True");
    let spec = w.host.spec(uid(&vm));
    assert_eq!(spec.uuid.to_string(), uid(&vm));
    assert_eq!(spec.devices[0].serial.len(), 32);
    assert!(matches!(&spec.seed, Some(Seed::CloudInit { hostname, .. }) if hostname == "vm"));
    assert_eq!(spec.nic.unwrap().address.to_string(), "10.66.10.1");

    let vmips = w.list("vmip").await;
    let name = vmips[0]["metadata"]["name"].as_str().unwrap();
    assert!(name.starts_with("vm-") && name.len() == 8, "{name}");
    w.phase("vmip", name, "Attached").await;
    w.phase("vmipl", "ip-10-66-10-1", "Bound").await;

    w.delete("vm", "vm").await;
    w.gone("vm", "vm").await;
    assert!(w.list("vmip").await.is_empty(), "the address outlived its machine");
    w.phase("vmipl", "ip-10-66-10-1", "Released").await;
    assert!(w.host.machines().is_empty());
    w.delete("vd", "vm-root").await;
    w.gone("vd", "vm-root").await;
    assert!(w.host.volumes().is_empty());
}

#[tokio::test]
async fn changed_cores_wait_for_a_restart() {
    let w = World::new().await;
    let vm = w.running("vm", json!({})).await;
    w.patch("vm", "vm", json!({"spec": {"cpu": {"cores": 2}}})).await;
    let vm2 = w.until("vm", "vm", "pending", |o| o["status"]["restartAwaitingChanges"].is_array()).await;
    assert_eq!(
        vm2["status"]["restartAwaitingChanges"],
        json!([{"currentValue": 1, "desiredValue": 2, "operation": "replace", "path": "cpu.cores"}])
    );
    assert_eq!(condition(&vm2, "AwaitingRestartToApplyConfiguration").0, "True");
    assert_eq!(condition(&vm2, "ConfigurationApplied").1, "ConfigurationNotApplied");
    assert_eq!(vm2["status"]["resources"]["cpu"]["cores"], 1);

    w.operation("restart", "Restart", "vm", None).await;
    w.phase("vmop", "restart", "Completed").await;
    let vm3 = w.until("vm", "vm", "applied", |o| o["status"]["restartAwaitingChanges"].is_null()).await;
    assert_eq!(condition(&vm3, "AwaitingRestartToApplyConfiguration").0, "");
    assert_eq!(vm3["status"]["resources"]["cpu"]["cores"], 2);
    assert_eq!(w.host.spec(uid(&vm)).cpu.cores_per_socket, 2);
    assert_eq!(w.host.steps(), ["start", "button", "start"]);
    w.settle().await;
    let events = w.events("vm").await;
    for reason in ["Started", "RestartAwaitingChanges", "Restarted", "ChangesApplied"] {
        assert!(events.iter().any(|e| e == reason), "{reason} is missing in {events:?}");
    }
}

#[tokio::test]
async fn a_reboot_inside_the_guest_applies_changes_and_automatic_approval_needs_nobody() {
    let w = World::new().await;
    let vm = w.running("vm", json!({})).await;
    w.patch("vm", "vm", json!({"spec": {"cpu": {"cores": 2}}})).await;
    w.until("vm", "vm", "pending", |o| o["status"]["restartAwaitingChanges"].is_array()).await;
    w.host.end(uid(&vm), EndReason::GuestReset);
    w.until("vm", "vm", "applied", |o| {
        o["status"]["restartAwaitingChanges"].is_null() && o["status"]["phase"] == "Running"
    })
    .await;
    assert_eq!(w.host.spec(uid(&vm)).cpu.cores_per_socket, 2);

    w.patch("vm", "vm", json!({"spec": {"memory": {"size": "2Gi"}}})).await;
    w.until("vm", "vm", "pending", |o| o["status"]["restartAwaitingChanges"].is_array()).await;
    w.patch("vm", "vm", json!({"spec": {"disruptions": {"restartApprovalMode": "Automatic"}}})).await;
    w.until("vm", "vm", "applied", |o| o["status"]["restartAwaitingChanges"].is_null()).await;
    assert_eq!(w.host.spec(uid(&vm)).memory_bytes, 2 << 30);
    assert_eq!(w.host.steps(), ["start", "start", "button", "start"]);
}

#[tokio::test]
async fn guest_poweroff_and_crash_by_policy() {
    let w = World::new().await;
    for (policy, after_poweroff) in
        [("AlwaysOn", "Running"), ("AlwaysOnUnlessStoppedManually", "Stopped"), ("Manual", "Stopped")]
    {
        let name = policy.to_lowercase();
        let name = &name[..name.len().min(20)];
        w.disk(&format!("{name}-root")).await;
        let vm = w.machine(name, json!({"runPolicy": policy})).await;
        if policy == "Manual" {
            w.phase("vm", name, "Stopped").await;
            w.operation("start", "Start", name, None).await;
            w.phase("vmop", "start", "Completed").await;
        }
        w.phase("vm", name, "Running").await;
        let id = MachineId(uid(&vm).into());
        let launch = w.host.observe(&id).launch;
        w.host.end(uid(&vm), EndReason::GuestShutdown);
        if after_poweroff == "Running" {
            let start = std::time::Instant::now();
            while w.host.observe(&id).launch == launch {
                assert!(start.elapsed() < Duration::from_secs(10), "{policy}: not started again");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        w.phase("vm", name, after_poweroff).await;
        w.settle().await;
        w.phase("vm", name, after_poweroff).await;
    }
}

#[tokio::test]
async fn stopped_stays_stopped_over_a_restart_of_the_daemon() {
    let mut w = World::new().await;
    w.running("vm", json!({})).await;
    w.operation("stop", "Stop", "vm", None).await;
    w.phase("vmop", "stop", "Completed").await;
    w.phase("vm", "vm", "Stopped").await;
    w.stop().await;
    w.start();
    w.settle().await;
    let vm = w.phase("vm", "vm", "Stopped").await;
    assert_eq!(w.host.steps(), ["start", "button"]);
    assert_eq!(vm["status"]["nodeName"], Value::Null);
    w.operation("start", "Start", "vm", None).await;
    w.phase("vmop", "start", "Completed").await;
    w.phase("vm", "vm", "Running").await;
}

#[tokio::test]
async fn operations_are_refused_with_reasons_and_superseded() {
    let w = World::new().await;
    w.running("vm", json!({})).await;
    w.operation("start", "Start", "vm", None).await;
    let op = w.phase("vmop", "start", "Failed").await;
    assert_eq!(condition(&op, "Completed").1, "NotApplicableForVirtualMachinePhase");
    w.operation("nobody", "Stop", "ghost", None).await;
    let op = w.phase("vmop", "nobody", "Failed").await;
    assert_eq!(condition(&op, "Completed").1, "VirtualMachineNotFound");
    w.operation("evict", "Evict", "vm", None).await;
    w.until("vmop", "evict", "under way", |o| condition(o, "Completed").1 == "Syncing").await;

    w.host.deaf_guests();
    w.operation("stop-1", "Stop", "vm", None).await;
    w.phase("vm", "vm", "Stopping").await;
    w.operation("stop-2", "Stop", "vm", Some(true)).await;
    w.phase("vmop", "stop-2", "Completed").await;
    w.phase("vmop", "stop-1", "Superseded").await;
    w.phase("vmop", "evict", "Superseded").await;
    w.phase("vm", "vm", "Stopped").await;
    // A stop ends the migration in the host itself.
    assert_eq!(w.host.steps(), ["start", "migrate", "button", "kill"]);
}

#[tokio::test]
async fn a_machine_that_cannot_start_says_why_and_does_not_spin() {
    let w = World::new().await;
    w.host.fail_starts(Some("no such CPU model"));
    w.disk("vm-root").await;
    w.machine("vm", json!({})).await;
    let vm = w.until("vm", "vm", "failed", |o| condition(o, "Running").1 == "InternalVirtualMachineError").await;
    assert!(condition(&vm, "Running").2.contains("no such CPU model"), "{vm:#}");
    assert_eq!(vm["status"]["phase"], "Pending");
    w.settle().await;
    assert!(w.host.steps().len() <= 2, "{:?}", w.host.steps());
    // An edit is a fresh chance.
    w.host.fail_starts(None);
    w.patch("vm", "vm", json!({"spec": {"cpu": {"cores": 2}}})).await;
    w.phase("vm", "vm", "Running").await;
}

#[tokio::test]
async fn policy_always_off_stops_and_its_end_starts_again() {
    let w = World::new().await;
    let vm = w.running("vm", json!({})).await;
    w.patch("vm", "vm", json!({"spec": {"runPolicy": "AlwaysOff"}})).await;
    w.phase("vm", "vm", "Stopped").await;
    w.patch("vm", "vm", json!({"spec": {"runPolicy": "AlwaysOnUnlessStoppedManually"}})).await;
    w.phase("vm", "vm", "Running").await;
    assert!(matches!(w.host.observe(&MachineId(uid(&vm).into())).state, MachineState::Running { .. }));
    assert_eq!(w.host.steps(), ["start", "button", "start"]);
}

#[tokio::test]
async fn a_disk_belongs_to_one_machine_at_a_time() {
    let w = World::new().await;
    w.running("a", json!({})).await;
    w.machine("b", json!({"blockDeviceRefs": [{"kind": "VirtualDisk", "name": "a-root"}]})).await;
    let b = w.until("vm", "b", "waiting", |o| condition(o, "BlockDevicesReady").2.contains("in use")).await;
    assert_eq!(b["status"]["phase"], "Pending");
    assert!(condition(&b, "BlockDevicesReady").2.contains("VirtualMachine a"), "{b:#}");
    w.operation("stop", "Stop", "a", Some(true)).await;
    w.phase("vm", "b", "Running").await;
}

#[tokio::test]
async fn the_first_start_makes_node_and_classes_once() {
    let mut w = World::new().await;
    w.phase("vmclass", "generic", "Ready").await;
    w.phase("vmclass", "host", "Ready").await;
    let node = w.get("node", "node").await.unwrap();
    assert_eq!(node["metadata"]["labels"]["kubernetes.io/hostname"], "node");
    assert_eq!(condition(&node, "Ready").0, "True");
    w.delete("vmclass", "generic").await;
    w.gone("vmclass", "generic").await;
    w.stop().await;
    w.start();
    w.settle().await;
    assert!(w.get("vmclass", "generic").await.is_none(), "a deleted class came back");
}

#[tokio::test]
async fn classes_bind_their_machines() {
    let w = World::new().await;
    let policy = json!({"cores": {"min": 1, "max": 4}});
    let class = |policies: Value| json!({"spec": {"cpu": {"type": "Host"}, "sizingPolicies": policies}});
    w.create("vmclass", "small", class(json!([policy]))).await;
    w.phase("vmclass", "small", "Ready").await;
    w.running("vm", json!({"virtualMachineClassName": "small", "cpu": {"cores": 4, "coreFraction": "100%"}})).await;
    let used = w.until("vmclass", "small", "in use", |o| condition(o, "InUse").0 == "True").await;
    assert!(condition(&used, "InUse").2.contains("default/vm"), "{used:#}");
    // A class that changes under a running machine closes the gate for its next start.
    w.patch("vmclass", "small", json!({"spec": {"sizingPolicies": [{"cores": {"min": 1, "max": 2}}]}})).await;
    w.until("vm", "vm", "too large", |o| condition(o, "SizingPolicyMatched").1 == "SizingPolicyNotMatched").await;
    w.phase("vm", "vm", "Running").await;
    w.delete("vmclass", "small").await;
    w.phase("vmclass", "small", "Terminating").await;
    w.delete("vm", "vm").await;
    w.gone("vmclass", "small").await;
}

#[tokio::test]
async fn secrets_open_the_gate() {
    let w = World::new().await;
    w.disk("vm-root").await;
    let provisioning = json!({"type": "UserDataRef", "userDataRef": {"kind": "Secret", "name": "s"}, "userData": null});
    w.machine("vm", json!({ "provisioning": provisioning })).await;
    let vm = w.until("vm", "vm", "waiting", |o| condition(o, "ProvisioningReady").0 == "False").await;
    assert!(condition(&vm, "ProvisioningReady").2.contains("Secret s does not exist"), "{vm:#}");
    let secret = json!({
        "type": "provisioning.virtualization.deckhouse.io/cloud-init",
        "stringData": {"userData": "#cloud-config\n"},
    });
    w.create("secret", "s", secret).await;
    w.phase("vm", "vm", "Running").await;
}

#[tokio::test]
async fn idle_controllers_write_nothing() {
    let w = World::new().await;
    w.running("vm", json!({})).await;
    w.settle().await;
    let before = w.list("vm").await[0]["metadata"]["resourceVersion"].clone();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(w.list("vm").await[0]["metadata"]["resourceVersion"], before);
}
