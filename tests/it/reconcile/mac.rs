//! MAC addresses and their leases (upstream.md 15.4, last paragraph).

use serde_json::{Value, json};

use super::world::{World, condition};

#[tokio::test]
async fn an_address_is_leased_for_as_long_as_its_object_exists() {
    let w = World::new().await;
    w.create("vmmac", "any", json!({"spec": {}})).await;
    let any = w.phase("vmmac", "any", "Bound").await;
    let address = any["status"]["address"].as_str().unwrap().to_owned();
    assert_eq!(u8::from_str_radix(&address[..2], 16).unwrap() & 0b11, 0b10, "{address} is not locally administered");
    assert_eq!(condition(&any, "Bound"), ("True", "Bound", ""));
    assert_eq!(condition(&any, "Attached").1, "VirtualMachineNotFound");
    let lease = format!("mac-{}", address.replace(':', "-"));
    let held = w.phase("vmmacl", &lease, "Bound").await;
    assert_eq!(held["spec"]["virtualMachineMACAddressRef"], json!({"name": "any", "namespace": "default"}));
    assert_eq!(condition(&held, "Bound").0, "True");

    // A second one is another.
    w.create("vmmac", "second", json!({"spec": {}})).await;
    let second = w.phase("vmmac", "second", "Bound").await;
    assert_ne!(second["status"]["address"], any["status"]["address"]);
    assert_eq!(second["status"]["address"].as_str().unwrap()[..8], address[..8], "one installation, one beginning");

    // No retention: the lease ends with its holder.
    w.delete("vmmac", "any").await;
    w.gone("vmmac", "any").await;
    w.gone("vmmacl", &lease).await;
    assert_eq!(w.list("vmmacl").await.len(), 1);
    w.settle().await;
    let events = w.events("any").await;
    assert!(["Bound", "Released"].iter().all(|r| events.iter().any(|e| e == r)), "{events:?}");
}

#[tokio::test]
async fn a_given_address_is_kept_as_it_is_and_given_once() {
    let w = World::new().await;
    let asked = |address: &str| json!({"spec": {"address": address}});
    w.create("vmmac", "mine", asked("02-AB-00-00-00-01")).await;
    let mine = w.phase("vmmac", "mine", "Bound").await;
    assert_eq!(mine["status"]["address"], "02:ab:00:00:00:01");
    w.phase("vmmacl", "mac-02-ab-00-00-00-01", "Bound").await;

    let refused = w.refused("vmmac", "yours", asked("02:ab:00:00:00:01")).await;
    assert!(refused.contains("already used by VirtualMachineMACAddress default/mine"), "{refused}");
    let refused = w.refused("vmmac", "bad", asked("02:ab:00")).await;
    assert!(refused.contains("spec.address"), "{refused}");
    let change = kube::api::Patch::Merge(json!({"spec": {"address": "02:ab:00:00:00:02"}}));
    let refused = w.api("vmmac").patch("mine", &Default::default(), &change).await.unwrap_err().to_string();
    assert!(refused.contains("cannot be changed while the address is allocated"), "{refused}");

    // Free again, it can be had by another.
    w.delete("vmmac", "mine").await;
    w.gone("vmmac", "mine").await;
    w.gone("vmmacl", "mac-02-ab-00-00-00-01").await;
    w.create("vmmac", "yours", asked("02:ab:00:00:00:01")).await;
    w.phase("vmmac", "yours", "Bound").await;
}

#[tokio::test]
async fn a_lease_that_was_taken_away_is_lost_and_one_of_another_is_respected() {
    let w = World::new().await;
    let holder = |name: &str| json!({"spec": {"virtualMachineMACAddressRef": {"name": name, "namespace": "default"}}});
    // A lease made by hand for an object that is still to come: the object finds its own, another does not get it.
    w.create("vmmac", "owner", json!({"spec": {}})).await;
    w.phase("vmmac", "owner", "Bound").await;
    w.create("vmmacl", "mac-02-ab-00-00-00-07", holder("owner")).await;
    w.phase("vmmacl", "mac-02-ab-00-00-00-07", "Bound").await;
    let refused = w.refused("vmmac", "late", json!({"spec": {"address": "02:ab:00:00:00:07"}})).await;
    assert!(refused.contains("default/owner"), "{refused}");

    let owner = w.get("vmmac", "owner").await.unwrap();
    let lease = format!("mac-{}", owner["status"]["address"].as_str().unwrap().replace(':', "-"));
    w.delete("vmmacl", &lease).await;
    w.settle().await;
    assert!(w.get("vmmacl", &lease).await.is_some(), "a lease in use was given up");
    w.patch("vmmacl", &lease, json!({"metadata": {"finalizers": Value::Null}})).await;
    w.gone("vmmacl", &lease).await;
    let owner = w.phase("vmmac", "owner", "Pending").await;
    assert_eq!(condition(&owner, "Bound").1, "VirtualMachineMACAddressLeaseLost", "{owner:#}");
}
