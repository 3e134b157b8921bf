use super::*;

fn vm() -> Value {
    json!({
        "apiVersion": API_VERSION,
        "kind": "VirtualMachine",
        "metadata": {
            "name": "vm", "namespace": "default", "uid": "1", "resourceVersion": "7",
            "labels": { "app": "shop" },
            "annotations": { "note": "mine", "vmdeck.io/power": "On/3" },
            "finalizers": ["x"],
        },
        "spec": {
            "virtualMachineClassName": "generic",
            "cpu": { "cores": 1, "fieldOfTheFuture": 3 },
            "memory": { "size": "64Mi" },
            "blockDeviceRefs": [
                { "kind": "VirtualDisk", "name": "root" },
                { "kind": "VirtualImage", "name": "tools" },
            ],
            "provisioning": { "type": "UserDataRef", "userDataRef": { "kind": "Secret", "name": "seed" } },
        },
        "status": { "phase": "Running" },
    })
}

fn disk(name: &str) -> (Value, String) {
    let object = json!({
        "metadata": { "name": name, "labels": { "a": "b" } },
        "spec": { "persistentVolumeClaim": { "size": "1Gi" }, "later": true },
    });
    (object, format!("{name}-snap"))
}

fn attachment(disk: &str) -> Value {
    json!({
        "metadata": { "name": format!("plug-{disk}") },
        "spec": { "virtualMachineName": "vm", "blockDeviceRef": { "kind": "VirtualDisk", "name": disk } },
    })
}

fn address() -> Value {
    json!({
        "metadata": { "name": "vm-abcde", "ownerReferences": [{ "kind": "VirtualMachine", "name": "vm" }] },
        "spec": { "type": "Auto" },
        "status": { "address": "10.66.10.4" },
    })
}

fn seed() -> Secret {
    serde_json::from_value(json!({
        "metadata": { "name": "seed" },
        "type": "provisioning.virtualization.deckhouse.io/cloud-init",
        "data": { "userData": ByteString(b"#cloud-config\n".to_vec()) },
    }))
    .unwrap()
}

fn full() -> Contents {
    let disks = [disk("root"), disk("data")];
    contents(&vm(), &disks, &[attachment("data")], Some(&address()), Some(&seed())).unwrap()
}

fn snapshot() -> VirtualMachineSnapshot {
    serde_json::from_value(json!({
        "metadata": { "name": "monday", "namespace": "default", "uid": "u-1" },
        "spec": { "virtualMachineName": "vm" },
    }))
    .unwrap()
}

/// The document with one place changed.
fn edited(pointer: &str, value: Value) -> Result<Contents, Damage> {
    let mut document = serde_json::to_value(full()).unwrap();
    *document.pointer_mut(pointer).unwrap_or_else(|| panic!("no {pointer}")) = value;
    read(&serde_json::to_vec(&document).unwrap())
}

fn read(document: &[u8]) -> Result<Contents, Damage> {
    let mut secret = to_secret(&full(), &snapshot()).unwrap();
    secret.data.as_mut().unwrap().insert(KEY.into(), ByteString(document.to_vec()));
    from_secret(&secret)
}

#[test]
fn what_goes_in_comes_out() {
    let contents = full();
    let secret = to_secret(&contents, &snapshot()).unwrap();
    assert_eq!(from_secret(&secret).unwrap(), contents);
    assert_eq!(secret.metadata.name.as_deref(), Some("vmsnapshot-u-1"));
    let owner = &secret.metadata.owner_references.unwrap()[0];
    assert_eq!(
        (owner.kind.as_str(), owner.uid.as_str(), owner.controller),
        ("VirtualMachineSnapshot", "u-1", Some(true))
    );

    assert!(contents.running);
    assert_eq!(contents.machine.spec["cpu"]["fieldOfTheFuture"], 3, "fields of others are kept");
    assert_eq!(contents.disks[1].object.spec["later"], true);
    let annotations: Vec<_> = contents.machine.annotations.keys().collect();
    assert_eq!(annotations, ["note"], "our own notes speak of the present");
    let kept = contents.address.unwrap();
    assert!(kept.automatic && kept.address.as_deref() == Some("10.66.10.4"), "{kept:?}");
}

#[test]
fn the_objects_are_listed() {
    let names: Vec<_> =
        resources(&full()).into_iter().map(|r| format!("{} {}", r.kind.unwrap(), r.name.unwrap())).collect();
    let want = [
        "VirtualMachine vm",
        "Secret seed",
        "VirtualMachineIPAddress vm-abcde",
        "VirtualDisk root",
        "VirtualDisk data",
        "VirtualMachineBlockDeviceAttachment plug-data",
    ];
    assert_eq!(names, want);
}

#[test]
fn a_disk_whose_content_is_not_saved_is_told() {
    let error = contents(&vm(), &[disk("root")], &[attachment("data")], None, None).unwrap_err();
    assert_eq!(error.to_string(), "the machine has VirtualDisk data, whose content was not saved");
    let error = contents(&vm(), &[], &[], None, None).unwrap_err();
    assert!(error.to_string().contains("VirtualDisk root"), "{error}");
}

#[test]
fn hostile_or_damaged_content_is_an_error_with_words() {
    for (pointer, value, words) in [
        ("/version", json!(2), "has version 2, this release of vmdeck reads version 1"),
        ("/version", json!("1"), "is damaged"),
        ("/machine/name", json!("../../etc"), "is no name of a VirtualMachine"),
        ("/machine/name", json!("a".repeat(64)), "is no name of a VirtualMachine"),
        ("/machine/name", json!("other"), "is of another machine"),
        ("/machine/spec", json!([]), "the spec of VirtualMachine vm is not as it must be"),
        ("/machine/spec/cpu/cores", json!("many"), "the spec of VirtualMachine vm is not as it must be"),
        ("/machine/spec/blockDeviceRefs/0/name", json!("\u{1b}[2J"), "VirtualDisk \\x1b[2J, whose"),
        ("/machine/labels", json!({ "a": 1 }), "is damaged"),
        ("/disks/1/object/name", json!("root"), "VirtualDisk root is there twice"),
        ("/disks/0/snapshot", json!("a/b"), "is no name of a VirtualDiskSnapshot"),
        ("/attachments/0/spec/virtualMachineName", json!("other"), "is of another machine"),
        ("/address/address", json!("10.66.10.4; reboot"), "10.66.10.4; reboot is no address"),
        ("/address/object/spec/type", json!("Sometimes"), "the spec of VirtualMachineIPAddress"),
        ("/provisioning/name", json!(""), "is no name of a Secret"),
        ("/provisioning/data/userData", json!("%%%"), "is damaged"),
        ("/disks", Value::Null, "is damaged"),
    ] {
        let error = edited(pointer, value).expect_err(pointer).to_string();
        assert!(error.contains(words), "{pointer}: {error}");
    }
    for garbage in [&b""[..], b"{", b"[]", b"\xff\xfe", "[".repeat(5000).as_bytes()] {
        let error = read(garbage).unwrap_err().to_string();
        assert!(error.starts_with("contents.json is damaged: "), "{error}");
    }
}

#[test]
fn other_secrets_are_not_read() {
    let error = from_secret(&seed()).unwrap_err().to_string();
    assert!(error.contains("is of type provisioning.virtualization.deckhouse.io/cloud-init, not"), "{error}");
    let mut secret = to_secret(&full(), &snapshot()).unwrap();
    secret.data = None;
    assert_eq!(from_secret(&secret).unwrap_err().to_string(), "it has no key contents.json");
}

#[test]
fn names() {
    for (name, max, good) in [
        ("a", 63, true),
        ("a-1.b", 63, true),
        ("", 63, false),
        ("-a", 63, false),
        ("a-", 63, false),
        ("a..b", 63, false),
        ("A", 63, false),
        ("a/b", 63, false),
        ("abc", 2, false),
    ] {
        assert_eq!(is_name(name, max), good, "{name}");
    }
}
