//! IP addresses: the life of a lease with the clock moved, binding to machines, and every reason (upstream.md 15).

use std::time::Duration;

use serde_json::{Value, json};
use vmdeck::host::EndReason;

use super::world::{World, condition, uid};

fn fixed(ip: &str) -> Value {
    json!({"spec": {"type": "Static", "staticIP": ip}})
}

/// In another namespace.
async fn create_in(w: &World, namespace: &str, name: &str, spec: &Value) -> Result<(), kube::Error> {
    let (mut api, mut object) = (w.api("vmip"), spec.clone());
    api = kube::Api::namespaced_with(api.into_client(), namespace, &resource());
    object["apiVersion"] = "virtualization.deckhouse.io/v1alpha2".into();
    object["kind"] = "VirtualMachineIPAddress".into();
    object["metadata"] = json!({ "name": name });
    api.create(&Default::default(), &serde_json::from_value(object).unwrap()).await.map(drop)
}

fn resource() -> kube::api::ApiResource {
    let info = vmdeck::types::kinds::find("vmip").unwrap();
    let gvk = kube::core::GroupVersionKind::gvk(info.group, info.version, info.kind);
    kube::api::ApiResource::from_gvk_with_plural(&gvk, info.plural)
}

async fn status_in(w: &World, namespace: &str, name: &str, reason: &str) -> Value {
    let api: kube::Api<kube::api::DynamicObject> = kube::Api::namespaced_with(w.client.clone(), namespace, &resource());
    let start = std::time::Instant::now();
    loop {
        let object = serde_json::to_value(api.get(name).await.unwrap()).unwrap();
        if condition(&object, "Bound").1 == reason {
            return object;
        }
        assert!(start.elapsed() < Duration::from_secs(20), "{object:#}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// upstream.md 15.2: bound while its holder exists, kept ten minutes for the holder's namespace, then free for all.
#[tokio::test]
async fn the_life_of_a_lease() {
    let w = World::new().await;
    w.create("namespace", "other", json!({})).await;
    w.create("vmip", "a", fixed("10.66.10.50")).await;
    let a = w.phase("vmip", "a", "Bound").await;
    assert_eq!(condition(&a, "Bound"), ("True", "Bound", ""));
    assert_eq!(condition(&a, "Attached").1, "VirtualMachineNotFound");
    let lease = w.phase("vmipl", "ip-10-66-10-50", "Bound").await;
    assert_eq!(condition(&lease, "Bound").1, "Bound");
    let refused = w.refused("vmip", "b", fixed("10.66.10.50")).await;
    assert!(refused.contains("has not been released (by default/a)"), "{refused}");

    w.delete("vmip", "a").await;
    let lease = w.phase("vmipl", "ip-10-66-10-50", "Released").await;
    assert_eq!(condition(&lease, "Bound"), ("False", "Released", "Kept for its namespace for a while, then free."));
    assert_eq!(lease["spec"]["virtualMachineIPAddressRef"], json!({"name": "", "namespace": "default"}));

    // While it is kept: nobody automatic, nobody of another namespace, but somebody Static of its own.
    create_in(&w, "other", "wants", &fixed("10.66.10.50")).await.unwrap();
    let wants = status_in(&w, "other", "wants", "VirtualMachineIPAddressLeaseNotReady").await;
    assert!(condition(&wants, "Bound").2.contains("belongs to a different namespace"), "{wants:#}");
    w.create("vmip", "auto", json!({"spec": {"type": "Auto"}})).await;
    let auto = w.phase("vmip", "auto", "Bound").await;
    assert_ne!(auto["status"]["address"], "10.66.10.50");
    w.pass(Duration::from_secs(590));
    w.create("vmip", "again", fixed("10.66.10.50")).await;
    w.phase("vmip", "again", "Bound").await;
    let lease = w.phase("vmipl", "ip-10-66-10-50", "Bound").await;
    assert_eq!(lease["spec"]["virtualMachineIPAddressRef"]["name"], "again");

    // The ten minutes begin anew.
    w.delete("vmip", "again").await;
    w.phase("vmipl", "ip-10-66-10-50", "Released").await;
    let look = |n: u32| json!({"metadata": {"labels": {"look": n.to_string()}}});
    w.pass(Duration::from_secs(599));
    w.patch("vmipl", "ip-10-66-10-50", look(1)).await;
    w.settle().await;
    w.phase("vmipl", "ip-10-66-10-50", "Released").await;
    w.pass(Duration::from_secs(2));
    w.patch("vmipl", "ip-10-66-10-50", look(2)).await;
    // Free: whoever waited for it gets it.
    status_in(&w, "other", "wants", "Bound").await;
    let lease = w.phase("vmipl", "ip-10-66-10-50", "Bound").await;
    assert_eq!(lease["spec"]["virtualMachineIPAddressRef"], json!({"name": "wants", "namespace": "other"}));
    w.settle().await;
    let events = w.events("again").await;
    for reason in ["IPAddressHasBeenAllocated", "Bound", "Released"] {
        assert!(events.iter().any(|e| e == reason), "{reason} is missing in {events:?}");
    }
}

#[tokio::test]
async fn a_lost_lease_is_told_and_not_replaced() {
    let w = World::new().await;
    w.create("vmip", "a", json!({"spec": {"type": "Auto"}})).await;
    let a = w.phase("vmip", "a", "Bound").await;
    let lease = format!("ip-{}", a["status"]["address"].as_str().unwrap().replace('.', "-"));
    w.delete("vmipl", &lease).await;
    w.settle().await;
    assert!(w.get("vmipl", &lease).await.is_some(), "a lease in use was given up");
    w.patch("vmipl", &lease, json!({"metadata": {"finalizers": Value::Null}})).await;
    w.gone("vmipl", &lease).await;
    let lost = w.phase("vmip", "a", "Pending").await;
    assert_eq!(condition(&lost, "Bound").1, "VirtualMachineIPAddressLeaseLost");
    assert_eq!(lost["status"]["address"], a["status"]["address"], "it stays to be seen");
    assert_eq!(w.list("vmipl").await.len(), 0);
    w.settle().await;
    assert!(w.events("a").await.iter().any(|e| e == "Failed"));
}

/// upstream.md 15.3, row by row.
#[tokio::test]
async fn binding_to_machines() {
    let w = World::new().await;
    w.running("auto", json!({})).await;
    let own = w.list("vmip").await[0]["metadata"]["name"].as_str().unwrap().to_owned();
    let vmip = w.phase("vmip", &own, "Attached").await;
    assert_eq!(vmip["metadata"]["ownerReferences"][0]["name"], "auto");
    assert_eq!(condition(&vmip, "Attached").0, "True");

    // Named and missing: it waits, and goes on when the address appears.
    w.disk("late-root").await;
    w.machine("late", json!({"virtualMachineIPAddressName": "pin"})).await;
    let late = w.until("vm", "late", "waiting", |o| condition(o, "VirtualMachineIPAddressReady").0 == "False").await;
    assert_eq!(late["status"]["phase"], "Pending");
    assert_eq!(condition(&late, "VirtualMachineIPAddressReady").1, "VirtualMachineIPAddressNotReady");
    assert!(condition(&late, "VirtualMachineIPAddressReady").2.contains("pin does not exist"), "{late:#}");
    w.create("vmip", "pin", fixed("10.66.10.60")).await;
    let late = w.phase("vm", "late", "Running").await;
    assert_eq!(late["status"]["ipAddress"], "10.66.10.60");
    w.until("vmip", "pin", "attached", |o| o["status"]["virtualMachineName"] == "late").await;

    // Attached to another: it waits for the release.
    w.disk("third-root").await;
    w.machine("third", json!({"virtualMachineIPAddressName": "pin"})).await;
    let third =
        w.until("vm", "third", "waiting", |o| condition(o, "VirtualMachineIPAddressReady").2.contains("late")).await;
    assert_eq!(condition(&third, "VirtualMachineIPAddressReady").1, "VirtualMachineIPAddressNotReady");
    w.delete("vm", "late").await;
    let third = w.phase("vm", "third", "Running").await;
    assert_eq!(third["status"]["ipAddress"], "10.66.10.60");

    // A vmip with the machine's own name must be named.
    w.create("vmip", "fourth", json!({"spec": {"type": "Auto"}})).await;
    w.phase("vmip", "fourth", "Bound").await;
    let body = json!({"spec": {"virtualMachineClassName": "host", "cpu": {"cores": 1}, "memory": {"size": "1Gi"},
        "blockDeviceRefs": [{"kind": "VirtualDisk", "name": "x"}]}});
    let refused = w.refused("vm", "fourth", body).await;
    assert!(refused.contains("virtualMachineIPAddressName"), "{refused}");

    // Another name while it runs waits for the restart; the old automatic one stays.
    w.create("vmip", "new", fixed("10.66.10.61")).await;
    w.phase("vmip", "new", "Bound").await;
    w.patch("vm", "auto", json!({"spec": {"virtualMachineIPAddressName": "new"}})).await;
    let vm = w.until("vm", "auto", "pending", |o| o["status"]["restartAwaitingChanges"].is_array()).await;
    assert_eq!(
        vm["status"]["restartAwaitingChanges"],
        json!([{"desiredValue": "new", "operation": "add", "path": "virtualMachineIPAddress"}])
    );
    let before = vm["status"]["ipAddress"].clone();
    assert_eq!(before, vmip["status"]["address"], "the shown address is not replaced while it runs");
    w.host.end(uid(&vm), EndReason::GuestReset);
    let vm = w.until("vm", "auto", "with its new address", |o| o["status"]["ipAddress"] == "10.66.10.61").await;
    assert_eq!(vm["status"]["virtualMachineIPAddressName"], "new");
    assert_eq!(w.host.spec(uid(&vm)).nic.unwrap().address.to_string(), "10.66.10.61");
    let old = w.phase("vmip", &own, "Bound").await;
    assert_eq!(condition(&old, "Attached").1, "VirtualMachineNotFound");
    w.settle().await;
    let events = w.events(&own).await;
    assert!(["Attached", "NotAttached"].iter().all(|r| events.iter().any(|e| e == r)), "{events:?}");
}

/// The guide: an automatic address outlives its machine when its owner references are removed, and can be named then.
#[tokio::test]
async fn an_automatic_address_is_kept_by_removing_its_owner() {
    let w = World::new().await;
    let vm = w.running("vm", json!({})).await;
    let address = vm["status"]["ipAddress"].clone();
    let own = w.list("vmip").await[0]["metadata"]["name"].as_str().unwrap().to_owned();
    w.patch("vmip", &own, json!({"metadata": {"ownerReferences": Value::Null}})).await;
    w.settle().await;
    w.delete("vm", "vm").await;
    w.gone("vm", "vm").await;
    w.phase("vmip", &own, "Bound").await;
    w.machine("vm", json!({"virtualMachineIPAddressName": own})).await;
    let vm = w.phase("vm", "vm", "Running").await;
    assert_eq!(vm["status"]["ipAddress"], address);
}
