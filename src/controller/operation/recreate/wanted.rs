//! Which objects there shall be. Pure.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::names::{self, Names};
use super::{MADE_BY, Wanted, What};
use crate::controller::snapshot_contents::{Contents, Saved, SavedAddress, SavedDisk, SavedSecret};
use crate::types::AddressType;

/// What `kubectl apply` remembers of its last manifest: of no use to an object of another name.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The machine that is restored, as far as its address goes.
#[derive(Debug, Clone)]
pub struct Owner<'a> {
    /// An owner reference to it.
    pub reference: &'a Value,
    /// How an address object that is made for it is called.
    pub automatic: &'a str,
    /// The snapshot keeps the machine's address.
    pub keeps_address: bool,
}

/// The objects of a restored machine: all under their own names.
pub fn restored(contents: &Contents, namespace: &str, operation: &str, owner: &Owner<'_>) -> Vec<Wanted> {
    let make = Make { namespace, operation };
    let mut all: Vec<Wanted> = contents.provisioning.iter().map(|secret| make.secret(secret, &secret.name)).collect();
    all.extend(contents.address.as_ref().map(|address| make.address(address, owner)));
    all.extend(contents.disks.iter().map(|disk| make.disk(disk, &disk.object.name)));
    let vm = &contents.machine;
    all.push(make.object(What::Machine, &vm.name, vm, vm.spec.clone()));
    all.extend(contents.attachments.iter().map(|a| make.object(What::Attachment, &a.name, a, a.spec.clone())));
    all
}

/// The objects of a copy: under new names, without what can be there only once.
pub fn copied(contents: &Contents, namespace: &str, operation: &str, wishes: &Names<'_>) -> Vec<Wanted> {
    let make = Make { namespace, operation };
    let secret = contents.provisioning.as_ref();
    let mut all: Vec<Wanted> =
        secret.iter().map(|secret| make.secret(secret, &wishes.of(What::Secret, &secret.name))).collect();
    all.extend(contents.disks.iter().map(|disk| make.disk(disk, &wishes.of(What::Disk, &disk.object.name))));

    let vm = &contents.machine;
    let name = wishes.of(What::Machine, &vm.name);
    let mut spec = vm.spec.clone();
    for reference in spec.pointer_mut("/blockDeviceRefs").and_then(Value::as_array_mut).into_iter().flatten() {
        rename_device(reference, wishes);
    }
    for field in ["userDataRef", "sysprepRef"] {
        // One that was not saved because it was missing stays what it is called.
        let reference = spec.pointer_mut(&format!("/provisioning/{field}/name"));
        if let (Some(reference), Some(secret)) = (reference, secret)
            && reference.as_str() == Some(&secret.name)
        {
            *reference = wishes.of(What::Secret, &secret.name).into();
        }
    }
    drop_addresses(&mut spec);
    all.push(make.object(What::Machine, &name, vm, spec));

    for attachment in &contents.attachments {
        let mut spec = attachment.spec.clone();
        spec["virtualMachineName"] = name.as_str().into();
        if let Some(reference) = spec.get_mut("blockDeviceRef") {
            rename_device(reference, wishes);
        }
        all.push(make.object(What::Attachment, &wishes.of(What::Attachment, &attachment.name), attachment, spec));
    }
    for wanted in &mut all {
        forget_manifest(&mut wanted.body);
        wanted.problem = names::problem(wanted.what, &wanted.name);
    }
    let mut seen: BTreeMap<(What, String), usize> = BTreeMap::new();
    for wanted in &all {
        *seen.entry((wanted.what, wanted.name.clone())).or_default() += 1;
    }
    for wanted in all.iter_mut().filter(|w| seen[&(w.what, w.name.clone())] > 1) {
        wanted.problem = Some(format!("Two objects of kind {} would get this name.", wanted.what.kind()));
    }
    all
}

fn rename_device(reference: &mut Value, wishes: &Names<'_>) {
    if reference["kind"] == "VirtualDisk"
        && let Some(name) = reference.get_mut("name")
    {
        *name = wishes.of(What::Disk, name.as_str().unwrap_or_default()).into();
    }
}

/// Addresses that one machine can have: a copy gets its own.
fn drop_addresses(spec: &mut Value) {
    if let Some(spec) = spec.as_object_mut() {
        spec.remove("virtualMachineIPAddressName");
    }
    for network in spec.pointer_mut("/networks").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(network) = network.as_object_mut() {
            network.remove("virtualMachineMACAddressName");
            network.remove("ipAddressName");
        }
    }
}

fn forget_manifest(body: &mut Value) {
    if let Some(annotations) = body.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
        annotations.remove(LAST_APPLIED);
    }
}

struct Make<'a> {
    namespace: &'a str,
    operation: &'a str,
}

impl Make<'_> {
    fn metadata(&self, name: &str, labels: &BTreeMap<String, String>, annotations: &BTreeMap<String, String>) -> Value {
        let mut annotations = annotations.clone();
        annotations.insert(MADE_BY.to_owned(), self.operation.to_owned());
        json!({ "name": name, "namespace": self.namespace, "labels": labels, "annotations": annotations })
    }

    fn object(&self, what: What, name: &str, saved: &Saved, spec: Value) -> Wanted {
        let body = json!({
            "apiVersion": what.api_version(),
            "kind": what.kind(),
            "metadata": self.metadata(name, &saved.labels, &saved.annotations),
            "spec": spec,
        });
        Wanted { what, name: name.to_owned(), body, snapshot: None, problem: None, note: None, skip: false }
    }

    fn disk(&self, disk: &SavedDisk, name: &str) -> Wanted {
        let mut spec = disk.object.spec.clone();
        spec["dataSource"] = json!({
            "type": "ObjectRef",
            "objectRef": { "kind": "VirtualDiskSnapshot", "name": disk.snapshot },
        });
        Wanted { snapshot: Some(disk.snapshot.clone()), ..self.object(What::Disk, name, &disk.object, spec) }
    }

    fn secret(&self, secret: &SavedSecret, name: &str) -> Wanted {
        let body = json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": self.metadata(name, &secret.labels, &secret.annotations),
            "type": secret.type_,
            "data": secret.data,
        });
        Wanted {
            what: What::Secret,
            name: name.to_owned(),
            body,
            snapshot: None,
            problem: None,
            note: None,
            skip: false,
        }
    }

    /// One that was fixed, or is kept, is asked for by its number. One that belonged to the machine does again.
    fn address(&self, saved: &SavedAddress, owner: &Owner<'_>) -> Wanted {
        let mut spec = saved.object.spec.clone();
        let fixed = serde_json::from_value::<AddressType>(spec["type"].clone()).ok() == Some(AddressType::Static);
        if let Some(address) = saved.address.as_ref().filter(|_| fixed || owner.keeps_address) {
            spec = json!({ "type": "Static", "staticIP": address });
        }
        let mut wanted = self.object(What::Address, &saved.object.name, &saved.object, spec);
        if saved.automatic {
            wanted.body["metadata"]["ownerReferences"] = json!([owner.reference]);
            wanted.skip = wanted.name != owner.automatic;
        }
        if wanted.skip {
            wanted.note = Some("It belonged to an earlier machine of this name; this one keeps its own.".into());
        }
        wanted
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::tests::contents;
    use super::*;
    use crate::types::{CloneCustomization, NameReplacement};

    fn find<'a>(all: &'a [Wanted], what: What, name: &str) -> &'a Wanted {
        all.iter().find(|w| w.what == what && w.name == name).unwrap_or_else(|| panic!("no {what:?} {name}: {all:#?}"))
    }

    fn copy(customization: Value, replacements: Value) -> Vec<Wanted> {
        let customization: CloneCustomization = serde_json::from_value(customization).unwrap();
        let replacements: Vec<NameReplacement> = serde_json::from_value(replacements).unwrap();
        copied(&contents(), "ns", "op", &Names::new(Some(&customization), Some(&replacements)))
    }

    #[test]
    fn a_copy_has_new_names_everywhere_and_nothing_that_is_unique() {
        let all = copy(
            json!({ "namePrefix": "new-" }),
            json!([{ "from": { "kind": "VirtualDisk", "name": "data" }, "to": "second" }]),
        );
        assert!(all.iter().all(|w| w.problem.is_none()), "{all:#?}");
        assert!(all.iter().all(|w| w.what != What::Address), "a copy gets an address of its own");
        let vm = &find(&all, What::Machine, "new-vm").body;
        assert_eq!(
            vm["spec"]["blockDeviceRefs"],
            json!([{ "kind": "VirtualDisk", "name": "new-root", "bootOrder": 1 }, { "kind": "VirtualImage", "name": "tools" }])
        );
        assert_eq!(vm["spec"]["provisioning"]["userDataRef"]["name"], "new-seed");
        assert_eq!(vm["spec"]["virtualMachineIPAddressName"], Value::Null);
        assert_eq!(vm["spec"]["networks"], json!([{ "type": "Main" }]));
        assert_eq!(vm["spec"]["cpu"]["later"], 1, "fields of others are kept");
        assert_eq!(vm["metadata"]["labels"], json!({ "app": "shop" }));
        assert_eq!(vm["metadata"]["annotations"], json!({ MADE_BY: "op", "note": "mine" }));
        let plug = &find(&all, What::Attachment, "new-plug").body["spec"];
        assert_eq!(
            plug,
            &json!({ "virtualMachineName": "new-vm", "blockDeviceRef": { "kind": "VirtualDisk", "name": "second" } })
        );
        let disk = find(&all, What::Disk, "second");
        assert_eq!(disk.snapshot.as_deref(), Some("data-snap"));
        assert_eq!(
            disk.body["spec"],
            json!({
                "persistentVolumeClaim": { "size": "1Gi" },
                "dataSource": {
                    "type": "ObjectRef", "objectRef": { "kind": "VirtualDiskSnapshot", "name": "data-snap" },
                },
            })
        );
        let secret = &find(&all, What::Secret, "new-seed").body;
        assert_eq!(secret["data"]["userData"], "I2Nsb3VkLWNvbmZpZwo=");
        assert_eq!(secret["type"], "provisioning.virtualization.deckhouse.io/cloud-init");
    }

    #[test]
    fn names_that_cannot_be_are_told_for_each_object() {
        let all =
            copy(json!({ "nameSuffix": "x".repeat(59) }), json!([{ "from": { "name": "vm" }, "to": "y".repeat(59) }]));
        assert!(all.iter().all(|w| w.problem.is_none()), "{all:#?}");
        let all = copy(json!({ "nameSuffix": "-".repeat(59) }), json!([]));
        assert!(all.iter().all(|w| w.problem.is_some()), "{all:#?}");
        let all = copy(json!({ "namePrefix": "x".repeat(62) }), json!([]));
        let problem = find(&all, What::Machine, &format!("{}vm", "x".repeat(62))).problem.as_deref().unwrap();
        assert!(problem.contains("63 is the limit"), "{problem}");
        assert_eq!(find(&all, What::Disk, &format!("{}root", "x".repeat(62))).problem, None);

        let all = copy(
            json!({}),
            json!([
                { "from": { "name": "root" }, "to": "same" },
                { "from": { "name": "data" }, "to": "same" },
                { "from": { "name": "vm" }, "to": "same" },
            ]),
        );
        let told: Vec<_> = all.iter().filter(|w| w.problem.is_some()).map(|w| (w.what, w.name.as_str())).collect();
        assert_eq!(told, [(What::Disk, "same"), (What::Disk, "same")], "a machine may be called like its disk");
    }

    #[test]
    fn a_restored_machine_has_its_old_names_and_its_address() {
        let reference = json!({ "kind": "VirtualMachine", "uid": "1" });
        let owner = Owner { reference: &reference, automatic: "vm-abcde", keeps_address: true };
        let mut saved = contents();
        saved.address.as_mut().unwrap().object.name = "vm-abcde".into();
        let all = restored(&saved, "ns", "op", &owner);
        let names: Vec<_> = all.iter().map(|w| (w.what, w.name.as_str())).collect();
        let want = [
            (What::Secret, "seed"),
            (What::Address, "vm-abcde"),
            (What::Disk, "root"),
            (What::Disk, "data"),
            (What::Machine, "vm"),
            (What::Attachment, "plug"),
        ];
        assert_eq!(names, want);
        assert_eq!(all[4].body["spec"], saved.machine.spec);
        let address = |owner: &Owner<'_>| restored(&saved, "ns", "op", owner).swap_remove(1);
        let kept = address(&owner);
        assert_eq!(kept.body["spec"], json!({ "type": "Static", "staticIP": "10.66.10.4" }));
        assert_eq!(kept.body["metadata"]["ownerReferences"], json!([reference]));
        let any = address(&Owner { keeps_address: false, ..owner.clone() });
        assert_eq!(any.body["spec"], json!({ "type": "Auto" }));
        let stranger = address(&Owner { automatic: "vm-other", ..owner });
        assert!(stranger.skip && stranger.note.is_some(), "{stranger:?}");
    }
}
