use serde_json::json;

use super::*;

/// A body as clients make it.
fn body(api_version: &str, kind: &str, fill: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut object = Writer::new();
    fill(&mut object);
    let mut envelope = Writer::new();
    envelope.message(1, |w| {
        w.text(1, api_version);
        w.text(2, kind);
    });
    envelope.bytes(2, &object.finish());
    envelope.text(3, "");
    envelope.text(4, "");
    [MAGIC, &envelope.finish()].concat()
}

fn entry_of(w: &mut Writer, number: u32, key: &str, value: &[u8]) {
    w.message(number, |w| {
        w.text(1, key);
        w.bytes(2, value);
    });
}

/// Metadata as Go writes it: empty texts and times included.
fn metadata(w: &mut Writer, name: &str) {
    w.message(1, |w| {
        w.text(1, name);
        for number in [2, 3, 4, 5, 6] {
            w.text(number, "");
        }
        w.integer(7, 0);
        w.bytes(8, b"");
        entry_of(w, 11, "app", b"web");
        w.text(14, "a/b");
    });
}

fn decoded(bytes: &[u8]) -> Value {
    Value::Object(decode(bytes).expect("decodes"))
}

#[test]
fn a_secret_as_kubectl_creates_it() {
    let bytes = body("v1", "Secret", |w| {
        metadata(w, "s1");
        entry_of(w, 2, "a", b"\x00\xff");
        entry_of(w, 2, "b", b"");
        w.text(3, "Opaque");
        entry_of(w, 4, "c", "é".as_bytes());
        w.integer(5, 0);
    });
    assert_eq!(
        decoded(&bytes),
        json!({"apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": "s1", "labels": {"app": "web"}, "finalizers": ["a/b"]},
            "data": {"a": "AP8=", "b": ""}, "type": "Opaque", "stringData": {"c": "é"}, "immutable": false})
    );
}

#[test]
fn other_kinds() {
    let namespace = body("v1", "Namespace", |w| {
        metadata(w, "n");
        w.bytes(2, b"");
        w.message(3, |w| w.text(1, ""));
    });
    let got = decoded(&namespace);
    assert_eq!((&got["spec"], &got["status"]), (&json!({}), &json!({})));

    let lease = body("coordination.k8s.io/v1", "Lease", |w| {
        metadata(w, "l");
        w.message(2, |w| {
            w.text(1, "");
            w.integer(2, 15);
            w.message(4, |w| {
                w.integer(1, 1_767_323_045);
                w.integer(2, 123_456_000);
            });
            w.integer(5, 0);
        });
    });
    assert_eq!(
        decoded(&lease)["spec"],
        json!({"holderIdentity": "", "leaseDurationSeconds": 15, "renewTime": "2026-01-02T03:04:05.123456Z",
            "leaseTransitions": 0})
    );

    let review = body("authorization.k8s.io/v1", "SelfSubjectAccessReview", |w| {
        w.bytes(1, b"");
        w.message(2, |w| {
            w.message(1, |w| {
                w.text(1, "default");
                w.text(2, "get");
                w.text(3, "virtualization.deckhouse.io");
                w.text(5, "virtualmachines");
                w.text(7, "");
            });
        });
    });
    assert_eq!(
        decoded(&review)["spec"]["resourceAttributes"],
        json!({"namespace": "default", "verb": "get", "group": "virtualization.deckhouse.io",
            "resource": "virtualmachines"})
    );

    let options = body("apps/v1", "DeleteOptions", |w| {
        w.integer(1, 0);
        w.message(2, |w| w.text(1, "some-uid"));
        w.text(4, "Background");
        w.text(5, "All");
    });
    assert_eq!(
        decoded(&options),
        json!({"apiVersion": "apps/v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0,
            "preconditions": {"uid": "some-uid"}, "propagationPolicy": "Background", "dryRun": ["All"]})
    );

    let event = body("v1", "Event", |w| {
        metadata(w, "e");
        w.message(2, |w| {
            w.text(1, "VirtualMachine");
            w.text(3, "vm");
        });
        w.text(3, "Started");
        w.message(7, |w| {
            w.integer(1, 1_767_323_045);
            w.integer(2, 0);
        });
        w.integer(8, 3);
        w.bytes(10, b"");
    });
    let got = decoded(&event);
    assert_eq!(got["lastTimestamp"], "2026-01-02T03:04:05Z");
    assert_eq!((&got["count"], &got["involvedObject"]["name"]), (&json!(3), &json!("vm")));
    assert_eq!(got.get("eventTime"), None);
}

#[test]
fn managed_fields_carry_json() {
    let bytes = body("v1", "ConfigMap", |w| {
        w.message(1, |w| {
            w.message(17, |w| {
                w.text(1, "m");
                w.message(7, |w| w.text(1, r#"{"f:data":{}}"#));
            });
        });
    });
    assert_eq!(decoded(&bytes)["metadata"]["managedFields"], json!([{"manager": "m", "fieldsV1": {"f:data": {}}}]));
}

#[test]
fn a_message_in_two_parts_is_merged() {
    let bytes = body("v1", "ConfigMap", |w| {
        w.message(1, |w| w.text(1, "n"));
        w.message(1, |w| w.text(3, "ns"));
    });
    assert_eq!(decoded(&bytes)["metadata"], json!({"name": "n", "namespace": "ns"}));
}

#[test]
fn damage_is_reported() {
    let good = body("v1", "ConfigMap", |w| metadata(w, "n"));
    for cut in 0..good.len() {
        // Any cut is an error or, between two fields of the envelope, an object without its tail.
        let _ = decode(&good[..cut]);
    }
    for (bytes, part) in [
        (b"{}".to_vec(), "does not begin"),
        (b"k8s\0\x0a\xff\xff\xff\xff\x0f".to_vec(), "ends in the middle"),
        (b"k8s\0\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff".to_vec(), "too large"),
        (b"k8s\0\x0b".to_vec(), "tag"),
        (b"k8s\0\x00\x00".to_vec(), "tag"),
        (b"k8s\0\x08\x01".to_vec(), "wire type"),
        (body("v1", "ConfigMap", |w| w.text(1, "\u{1}")), "tag is invalid"),
        (body("v1", "ConfigMap", |w| w.message(1, |w| w.bytes(1, b"\xff"))), "UTF-8"),
        (
            body("v1", "Event", |w| {
                w.message(7, |w| {
                    w.integer(1, u64::MAX / 2);
                });
            }),
            "out of range",
        ),
        (body("v1", "Pod", |_| {}), "v1 Pod is not accepted"),
    ] {
        let error = decode(&bytes).expect_err(part).to_string();
        assert!(error.contains(part), "{part}: {error}");
    }
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_an_object_or_an_error(bytes in proptest::collection::vec(0u8.., 0..200)) {
        let _ = decode(&[MAGIC, &bytes].concat());
        let _ = decode(&body("v1", "Secret", |w| w.bytes(1, &bytes)));
        let _ = decode(&body("v1", "Event", |w| w.bytes(11, &bytes)));
    }
}
