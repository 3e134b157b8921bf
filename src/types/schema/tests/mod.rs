mod upstream;

use serde_json::json;

use super::*;
use crate::types::kinds::{KINDS, find};

fn small() -> Schema {
    Schema::custom(&json!({
        "type": "object",
        "required": ["spec"],
        "properties": {
            "spec": {
                "type": "object",
                "required": ["name"],
                "properties": {
                    "name": {"type": "string", "minLength": 1, "maxLength": 5, "pattern": "^[a-z]+$"},
                    "mode": {"type": "string", "enum": ["A", "B"], "default": "A"},
                    "count": {"type": "integer", "format": "int32", "minimum": 1, "maximum": 9},
                    "port": {"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]},
                    "when": {"type": "string", "format": "date-time"},
                    "list": {"type": "array", "minItems": 1, "maxItems": 2, "items": {
                        "type": "object", "properties": {"k": {"type": "string"}, "v": {"type": "integer", "default": 7}}}},
                    "tags": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
                    "keyed": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"],
                        "items": {"type": "object", "properties": {"type": {"type": "string"}, "n": {"type": "integer"}}}},
                    "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true,
                        "properties": {"known": {"type": "object", "properties": {"x": {"type": "integer"}}}}},
                    "map": {"type": "object", "additionalProperties": {"type": "object", "properties": {"x": {"type": "integer"}}}},
                    "nested": {"type": "object", "default": {}, "properties": {"deep": {"type": "boolean", "default": true}}},
                    "maybe": {"type": "string", "nullable": true, "default": "d"},
                    "source": {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
                        "oneOf": [{"required": ["a"]}, {"required": ["b"]}]},
                    "odd": {"type": "integer", "not": {"multipleOf": 2}},
                }
            },
            "status": {"type": "object", "properties": {"phase": {"type": "string"}}}
        }
    }))
}

#[test]
fn unknown_fields_are_pruned_and_named() {
    let mut object = json!({
        "apiVersion": "v1", "kind": "X", "extra": 1,
        "metadata": {"name": "a", "labels": {"any": "thing"}, "zz": 1, "ownerReferences": [{"uid": "u", "bad": 1}]},
        "spec": {"name": "a", "zz": {"deep": 1}, "list": [{"k": "a"}, {"k": "b", "zz": 1}],
                 "free": {"any": {"thing": 1}, "known": {"x": 1, "zz": 2}},
                 "map": {"one": {"x": 1, "zz": 1}}},
    });
    let removed = small().prune(&mut object);
    assert_eq!(
        removed,
        [
            "extra",
            "metadata.zz",
            "metadata.ownerReferences[0].bad",
            "spec.zz",
            "spec.list[1].zz",
            "spec.free.known.zz",
            "spec.map.one.zz"
        ]
    );
    assert_eq!(object["spec"]["free"], json!({"any": {"thing": 1}, "known": {"x": 1}}));
    assert_eq!(object["kind"], "X");
    assert!(small().prune(&mut object).is_empty());
}

#[test]
fn defaults_fill_in_and_nulls_go() {
    let mut object = json!({"metadata": {"creationTimestamp": null}, "spec": {
        "name": "a", "mode": null, "count": null, "maybe": null, "list": [{"k": "x"}, {"v": 1}]}});
    small().defaults(&mut object);
    assert_eq!(
        object,
        json!({"metadata": {}, "spec": {"name": "a", "mode": "A", "maybe": null, "nested": {"deep": true},
               "list": [{"k": "x", "v": 7}, {"v": 1}]}})
    );
    let mut absent = json!({});
    small().defaults(&mut absent);
    assert_eq!(absent, json!({}));
}

#[test]
fn violations_are_worded_as_in_kubernetes() {
    let base = |patch: Value| {
        let mut object = json!({"metadata": {"name": "x"}, "spec": {"name": "abc"}});
        json_patch::merge(&mut object, &json!({"spec": patch}));
        object
    };
    for (patch, expected) in [
        (json!({}), vec![]),
        (json!({"name": null}), vec!["spec.name: Required value"]),
        (
            json!({"name": 3}),
            vec![r#"spec.name: Invalid value: "integer": spec.name in body must be of type string: "integer""#],
        ),
        (
            json!({"name": "ABCDEF"}),
            vec![
                "spec.name: Too long: may not be more than 5 bytes",
                r#"spec.name: Invalid value: "ABCDEF": spec.name in body should match '^[a-z]+$'"#,
            ],
        ),
        (
            json!({"name": ""}),
            vec![
                r#"spec.name: Invalid value: "": spec.name in body should be at least 1 chars long"#,
                r#"spec.name: Invalid value: "": spec.name in body should match '^[a-z]+$'"#,
            ],
        ),
        (json!({"mode": "C"}), vec![r#"spec.mode: Unsupported value: "C": supported values: "A", "B""#]),
        (
            json!({"count": 0}),
            vec!["spec.count: Invalid value: 0: spec.count in body should be greater than or equal to 1"],
        ),
        (
            json!({"count": 10}),
            vec!["spec.count: Invalid value: 10: spec.count in body should be less than or equal to 9"],
        ),
        (json!({"count": 3.0}), vec![]),
        (
            json!({"count": 3.5}),
            vec![r#"spec.count: Invalid value: "number": spec.count in body must be of type integer: "number""#],
        ),
        (json!({"port": 80}), vec![]),
        (json!({"port": "http"}), vec![]),
        (
            json!({"port": true}),
            vec![
                r#"spec.port: Invalid value: "boolean": spec.port in body must be of type integer or string: "boolean""#,
            ],
        ),
        (json!({"when": "2026-01-02T03:04:05.123456Z"}), vec![]),
        (json!({"when": "2026-01-02T03:04:05+02:00"}), vec![]),
        (
            json!({"when": "noon"}),
            vec![r#"spec.when: Invalid value: "noon": spec.when in body must be of type date-time: "noon""#],
        ),
        (json!({"list": []}), vec!["spec.list: Invalid value: 0: spec.list in body should have at least 1 items"]),
        (json!({"list": [{}, {}, {}]}), vec!["spec.list: Too many: 3: must have at most 2 items"]),
        (
            json!({"list": [{"v": "x"}]}),
            vec![
                r#"spec.list[0].v: Invalid value: "string": spec.list[0].v in body must be of type integer: "string""#,
            ],
        ),
        (json!({"tags": ["a", "b", "a"]}), vec![r#"spec.tags[2]: Duplicate value: "a""#]),
        (
            json!({"keyed": [{"type": "a", "n": 1}, {"type": "a", "n": 2}]}),
            vec![r#"spec.keyed[1]: Duplicate value: {"type":"a"}"#],
        ),
        (json!({"source": {"a": "x"}}), vec![]),
        (
            json!({"source": {}}),
            vec![
                "spec.source: Invalid value: {}: spec.source in body must validate one and only one schema (oneOf). Found none valid",
                "spec.source.a: Required value",
            ],
        ),
        (
            json!({"source": {"a": "x", "b": "y"}}),
            vec![
                r#"spec.source: Invalid value: {"a":"x","b":"y"}: spec.source in body must validate one and only one schema (oneOf). Found 2 valid alternatives"#,
            ],
        ),
        (json!({"odd": 3}), vec![]),
        (json!({"odd": 4}), vec!["spec.odd: Invalid value: 4: spec.odd in body must not validate the schema (not)"]),
    ] {
        let errors: Vec<String> = small().validate(&base(patch.clone())).iter().map(ToString::to_string).collect();
        assert_eq!(errors, expected, "{patch}");
    }
    assert_eq!(small().validate(&json!({}))[0].to_string(), "spec: Required value");
    let wrong = small().validate(&json!({"metadata": {"labels": {"a": 1}, "finalizers": "x"}, "spec": {"name": "a"}}));
    assert_eq!(wrong.len(), 2, "{wrong:?}");
}

#[test]
fn formats() {
    let check = |format: &str, text: &str| {
        let schema =
            Schema::custom(&json!({"type": "object", "properties": {"f": {"type": "string", "format": format}}}));
        schema.validate(&json!({"f": text})).is_empty()
    };
    for (format, good, bad) in [
        ("byte", "aGk=", "a*"),
        ("ipv4", "10.0.0.1", "10.0.0"),
        ("ipv6", "::1", "10.0.0.1"),
        ("cidr", "10.0.0.0/24", "10.0.0.0/33"),
        ("uuid", "6f7f2c9e-0a5b-4a3e-8f63-111111111111", "x"),
        ("date", "2026-01-02", "2026-13-02"),
        ("date-time", "2026-01-02T03:04:05Z", "2026-01-02"),
    ] {
        assert!(check(format, good), "{format} {good}");
        assert!(!check(format, bad), "{format} {bad}");
    }
    assert!(check("made-up", "anything"));
}

#[test]
fn errors_are_bounded() {
    let schema =
        Schema::custom(&json!({"type": "object", "properties": {"l": {"type": "array", "items": {"type": "string"}}}}));
    let errors = schema.validate(&json!({"l": vec![1; 10_000]}));
    assert_eq!(errors.len(), 100);
}

#[test]
fn every_kind_compiles_and_accepts_its_own_shape() {
    for kind in KINDS {
        let schema = Schema::of(kind);
        let mut object = json!({"apiVersion": kind.api_version(), "kind": kind.kind, "metadata": {
            "name": "x", "labels": {"a": "b"}, "creationTimestamp": "2026-01-02T03:04:05Z", "finalizers": ["a/b"],
            "managedFields": [{"manager": "m", "fieldsV1": {"f:spec": {"f:x": {}}}}]}});
        assert_eq!(schema.prune(&mut object), Vec::<String>::new(), "{}", kind.kind);
        let metadata = schema.field("metadata").expect("metadata");
        assert_eq!(metadata.field("finalizers").expect("finalizers").list_type(), &ListType::Set);
        assert_eq!(
            metadata.field("ownerReferences").expect("owners").list_type(),
            &ListType::Map(vec!["uid".to_owned()])
        );
        assert!(Arc::ptr_eq(&schema, &Schema::of(kind)), "compiled once");
    }
}

#[test]
fn core_kinds_check_types_and_unknown_fields() {
    let secret = Schema::of(find("secret").expect("kind"));
    let mut object = json!({"metadata": {"name": "s"}, "data": {"a": "aGk="}, "stringData": {"b": "c"}, "dataa": {}});
    assert_eq!(secret.prune(&mut object), ["dataa"]);
    assert!(secret.validate(&object).is_empty());
    let errors = secret.validate(&json!({"data": {"a": "!"}}));
    assert_eq!(errors[0].path, "data.a");
    let lease = Schema::of(find("lease").expect("kind"));
    let object =
        json!({"metadata": {}, "spec": {"renewTime": "2026-01-02T03:04:05.123456Z", "leaseDurationSeconds": 5}});
    assert!(lease.validate(&object).is_empty());
    let node = Schema::of(find("node").expect("kind"));
    let mut object =
        json!({"metadata": {}, "status": {"capacity": {"cpu": 4, "memory": "1Gi"}, "nodeInfo": {"osImage": "x"}}});
    assert!(node.prune(&mut object).is_empty());
    assert!(node.validate(&object).is_empty(), "{:?}", node.validate(&object));
}

#[test]
fn a_machine_gets_its_defaults() {
    let schema = Schema::of(find("vm").expect("kind"));
    let mut vm = json!({"metadata": {"name": "a"}, "spec": {"virtualMachineClassName": "host", "cpu": {"cores": 1},
        "memory": {"size": "1Gi"}, "blockDeviceRefs": [{"kind": "VirtualDisk", "name": "root"}]}});
    schema.defaults(&mut vm);
    for (path, value) in [
        ("/spec/runPolicy", json!("AlwaysOnUnlessStoppedManually")),
        ("/spec/osType", json!("Generic")),
        ("/spec/bootloader", json!("BIOS")),
        ("/spec/enableParavirtualization", json!(true)),
        ("/spec/terminationGracePeriodSeconds", json!(60)),
        ("/spec/disruptions/restartApprovalMode", json!("Manual")),
    ] {
        assert_eq!(vm.pointer(path), Some(&value), "{path}");
    }
    assert_eq!(schema.validate(&vm), []);
}

proptest::proptest! {
    #[test]
    fn pruning_and_defaulting_are_stable(seed in proptest::collection::vec(0u8..10, 0..40)) {
        let schema = small();
        let mut object = json!({"spec": arbitrary(&mut seed.iter().copied(), 0)});
        schema.prune(&mut object);
        schema.defaults(&mut object);
        let once = object.clone();
        schema.prune(&mut object);
        schema.defaults(&mut object);
        proptest::prop_assert_eq!(once, object);
    }
}

/// Some object over the small schema's names, driven by the bytes.
fn arbitrary(bytes: &mut impl Iterator<Item = u8>, depth: usize) -> Value {
    const NAMES: [&str; 10] = ["name", "mode", "list", "free", "map", "nested", "zz", "deep", "k", "maybe"];
    match bytes.next() {
        None | Some(0) => Value::Null,
        Some(1) => json!(1),
        Some(2) => json!("text"),
        Some(3) if depth < 4 => Value::Array((0..2).map(|_| arbitrary(bytes, depth + 1)).collect()),
        Some(_) if depth < 4 => {
            let keys: Vec<u8> = bytes.take(2).collect();
            keys.into_iter().map(|k| (NAMES[k as usize].to_owned(), arbitrary(bytes, depth + 1))).collect()
        }
        Some(_) => json!(true),
    }
}
