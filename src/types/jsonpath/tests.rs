use super::*;
use serde_json::json;

fn machine() -> Value {
    json!({
        "metadata": {"name": "vm", "labels": {"a.b/c": "dotted", "app": "web"}},
        "spec": {"cpu": {"cores": 2}, "list": [10, 20, 30, 40]},
        "status": {
            "conditions": [
                {"type": "Running", "status": "True", "n": 1},
                {"type": "Agent", "status": "False", "n": 2},
            ],
            "attached": [{"name": "x", "mounted": false}, {"name": "y", "mounted": true}],
        }
    })
}

#[test]
fn paths_select() {
    for (path, expected) in [
        (".metadata.name", json!(["vm"])),
        ("metadata.name", json!(["vm"])),
        ("{.metadata.name}", json!(["vm"])),
        ("$.metadata.name", json!(["vm"])),
        (".metadata['name']", json!(["vm"])),
        (r#".metadata.labels["a.b/c"]"#, json!(["dotted"])),
        (r".metadata.labels.a\.b/c", json!(["dotted"])),
        (".missing.deeper", json!([])),
        ("['metadata.name','spec.cpu.cores']", json!(["vm", 2])),
        (".spec.list[0]", json!([10])),
        (".spec.list[-1]", json!([40])),
        (".spec.list[9]", json!([])),
        (".spec.list[-9]", json!([])),
        (".spec.list[1:3]", json!([20, 30])),
        (".spec.list[:2]", json!([10, 20])),
        (".spec.list[-2:]", json!([30, 40])),
        (".spec.list[::2]", json!([10, 30])),
        (".spec.list[3:1]", json!([])),
        (".spec.list[0,2]", json!([10, 30])),
        (".spec.list[*]", json!([10, 20, 30, 40])),
        (".metadata['name','labels']", json!(["vm", {"a.b/c": "dotted", "app": "web"}])),
        (".status.conditions[*].type", json!(["Running", "Agent"])),
        (r#".status.conditions[?(@.type=="Agent")].status"#, json!(["False"])),
        (r#".status.conditions[?(@.type=='Agent')].status"#, json!(["False"])),
        (r#".status.conditions[?(@.type != "Agent")].status"#, json!(["True"])),
        (r#".status.conditions[?(@.n>1)].type"#, json!(["Agent"])),
        (r#".status.conditions[?(@.n<=1)].type"#, json!(["Running"])),
        (r#".status.conditions[?(@.n>=1 && @.status=="True")].type"#, json!(["Running"])),
        (r#".status.conditions[?(@.n==1 || @.n==2)].type"#, json!(["Running", "Agent"])),
        (r#".status.conditions[?(!(@.n==1))].type"#, json!(["Agent"])),
        (r#".status.conditions[?(@.nope)].type"#, json!([])),
        (".status.attached[?(@.mounted==true)].name", json!(["y"])),
        ("..mounted", json!([false, true])),
        ("..cores", json!([2])),
        (".spec.cpu.*", json!([2])),
    ] {
        let document = machine();
        let parsed = Path::parse(path).unwrap_or_else(|e| panic!("{path}: {e}"));
        assert_eq!(json!(parsed.find(&document)), expected, "{path}");
    }
}

#[test]
fn templates_render_as_kubectl() {
    let list = json!({"items": [machine(), {"metadata": {"name": "b"}, "spec": {"cpu": {"cores": 4}}}]});
    for (template, expected) in [
        ("plain", "plain"),
        ("{.items[0].metadata.name}", "vm"),
        ("n={.items[0].spec.cpu.cores}!", "n=2!"),
        ("{.items[*].metadata.name}", "vm b"),
        ("{.items[0].spec.cpu}", r#"{"cores":2}"#),
        ("{.items[0].spec.list}", "[10,20,30,40]"),
        ("{.items[0].nope}", ""),
        ("{range .items[*]}{.metadata.name}{\"\\t\"}{.spec.cpu.cores}{\"\\n\"}{end}", "vm\t2\nb\t4\n"),
        ("{range .items[*]}[{range .spec.list[*]}{@},{end}]{end}", "[10,20,30,40,][]"),
        ("{.items[0].metadata.name}{'-'}{.items[1].metadata.name}", "vm-b"),
        ("{.items[0].metadata.name \"x\" .items[1].metadata.name}", "vmxb"),
        ("{range .items[*]}{$.items[0].metadata.name}{end}", "vmvm"),
    ] {
        let parsed = Template::parse(template).unwrap_or_else(|e| panic!("{template}: {e}"));
        assert_eq!(parsed.render(&list).unwrap(), expected, "{template}");
    }
}

#[test]
fn errors_say_where() {
    for (text, part) in [
        ("{.a", "unclosed action"),
        ("{range .a}", "range without end"),
        ("{end}", "end without range"),
        ("{.a[}", "index"),
        ("{.a[0}", "expected ]"),
        ("{.a[?(@.b==)]}", "expected a path"),
        ("{.a['b}", "unterminated"),
        ("{a}", "expected a path"),
        ("{.a[99999999999999999999]}", "array index"),
    ] {
        let error = Template::parse(text).expect_err(text).to_string();
        assert!(error.contains(part), "{text}: {error}");
    }
    assert!(Path::parse(".a b").is_err());
    assert!(Path::parse("").is_err());
}

#[test]
fn deep_nesting_is_refused() {
    for unit in ["!", "("] {
        let text = format!(".a[?({}@.b)]", unit.repeat(5000));
        assert!(Path::parse(&text).is_err());
    }
}

proptest::proptest! {
    #[test]
    fn never_panics(text in r#"[\[\]{}().$@*?'"\\:,!=<>&| a-c0-9\-]{0,40}"#) {
        let document = machine();
        if let Ok(path) = Path::parse(&text) {
            path.find(&document);
        }
        if let Ok(template) = Template::parse(&text) {
            template.render(&document).ok();
        }
    }
}
