//! Forms by keys, manifests and whole screens.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use serde_json::{Value, json};

use super::*;
use crate::tui::theme::Theme;
use crate::types::kinds;
use crate::types::schema::Schema;

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdZ1xw0sB1h4y4ZKX0lJgqY3gqzOZ1Uu1l0rWv8m2aT me@host";

fn context() -> CreateContext {
    CreateContext {
        namespace: "default".into(),
        namespaces: vec!["default".into(), "lab".into()],
        classes: vec!["host".into(), "generic".into()],
        images: vec![
            ImageChoice { kind: "VirtualImage".into(), name: "guest".into(), bytes: Some(1 << 30) },
            ImageChoice { kind: "ClusterVirtualImage".into(), name: "debian-12".into(), bytes: None },
        ],
        disks: vec![DiskChoice { name: "old-root".into(), size: "2Gi".into() }],
        taken: vec!["vm-1".into()],
        taken_disks: vec!["old-root".into(), "db-root".into()],
        random: [9; 12],
    }
}

fn press(form: &mut Form, code: KeyCode) -> Vec<Request> {
    form.key(KeyEvent::new(code, KeyModifiers::NONE))
}

fn ctrl(form: &mut Form, c: char) -> Vec<Request> {
    form.key(KeyEvent::new(KeyCode::Char(c), KeyModifiers::CONTROL))
}

/// Moves to a field by its name.
fn go(form: &mut Form, name: &str) {
    while form.fields[form.focus].name != name {
        let before = form.focus;
        let at = form.fields.iter().position(|f| f.name == name).unwrap();
        press(form, if at > before { KeyCode::Tab } else { KeyCode::BackTab });
        assert_ne!(form.focus, before, "{name} cannot be reached");
    }
}

/// Replaces a text field's contents.
pub(super) fn fill(form: &mut Form, name: &str, text: &str) {
    go(form, name);
    ctrl(form, 'u');
    for c in text.chars() {
        press(form, KeyCode::Char(c));
    }
}

fn choose(form: &mut Form, name: &str, value: &str) {
    go(form, name);
    for _ in 0..20 {
        if form.values().get(name) == value {
            return;
        }
        press(form, KeyCode::Right);
    }
    panic!("{name} has no choice {value}");
}

pub(super) fn manifests(form: &mut Form) -> Vec<Value> {
    match &ctrl(form, 's')[..] {
        [Request::Apply(manifests)] => manifests.clone(),
        other => panic!("{other:?}"),
    }
}

/// Every manifest is one the API takes as it is.
pub(super) fn check_schema(manifests: &[Value]) {
    for manifest in manifests {
        let (api, kind) = (manifest["apiVersion"].as_str().unwrap(), manifest["kind"].as_str().unwrap());
        let schema = Schema::of(kinds::by_kind(api, kind).unwrap());
        let mut pruned = manifest.clone();
        assert_eq!(schema.prune(&mut pruned), Vec::<String>::new(), "{kind}");
        assert_eq!(schema.validate(manifest), [], "{kind}");
    }
}

fn screen(form: &Form, width: u16, height: u16) -> String {
    let area = Rect::new(0, 0, width, height);
    let mut buffer = Buffer::empty(area);
    form.view(area, &mut buffer, &Theme::builtin("dark"));
    let mut out = String::new();
    for y in 0..height {
        let line: String = (0..width).map(|x| buffer[(x, y)].symbol()).collect();
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

#[test]
fn the_plain_way_through_makes_a_disk_and_a_machine() {
    let mut form = create_machine(context());
    fill(&mut form, "name", "web");
    fill(&mut form, "password", "geheim");
    let made = manifests(&mut form);
    check_schema(&made);
    assert_eq!(made.len(), 2);
    assert_eq!(
        made[0],
        json!({"apiVersion": "virtualization.deckhouse.io/v1alpha2", "kind": "VirtualDisk",
            "metadata": {"name": "web-root", "namespace": "default"},
            "spec": {"dataSource": {"type": "ObjectRef", "objectRef": {"kind": "VirtualImage", "name": "guest"}}}})
    );
    let spec = &made[1]["spec"];
    assert_eq!(spec["virtualMachineClassName"], "host");
    assert_eq!(spec["cpu"], json!({"cores": 1, "coreFraction": "100%"}));
    assert_eq!(spec["blockDeviceRefs"], json!([{"kind": "VirtualDisk", "name": "web-root"}]));
    let user_data = spec["provisioning"]["userData"].as_str().unwrap();
    assert!(user_data.starts_with("#cloud-config\n"), "{user_data}");
    let config = crate::tui::editor::yaml::parse(user_data).unwrap();
    assert_eq!(config["users"][0]["name"], "cloud");
    assert_eq!(config["users"][0]["passwd"], super::crypt::hash_password("geheim", [9; 12]));
    assert_eq!(config["ssh_pwauth"], true);
    assert!(!format!("{made:?}").contains("geheim"));
    assert_eq!(ctrl(&mut form, 's'), [], "once is enough");
}

#[test]
fn every_source_and_policy_makes_what_it_says() {
    let mut form = create_machine(context());
    fill(&mut form, "name", "a");
    choose(&mut form, "policy", "Manual");
    choose(&mut form, "source", "blank");
    fill(&mut form, "size", "10Gi");
    fill(&mut form, "user", "");
    let made = manifests(&mut form);
    check_schema(&made);
    assert_eq!(made[0]["spec"], json!({"persistentVolumeClaim": {"size": "10Gi"}}));
    assert_eq!(made[1]["spec"].get("provisioning"), None);
    assert_eq!(made[2]["kind"], "VirtualMachineOperation");
    assert_eq!(made[2]["spec"], json!({"type": "Start", "virtualMachineName": "a"}));

    let mut form = create_machine(context());
    choose(&mut form, "namespace", "lab");
    choose(&mut form, "policy", "Manual");
    choose(&mut form, "start", "no");
    choose(&mut form, "source", "existing");
    let made = manifests(&mut form);
    check_schema(&made);
    assert_eq!(made.len(), 1);
    assert_eq!(made[0]["metadata"], json!({"name": "vm-2", "namespace": "lab"}));
    assert_eq!(made[0]["spec"]["blockDeviceRefs"][0]["name"], "old-root");
}

#[test]
fn long_user_data_goes_into_a_secret() {
    let mut form = create_machine(context());
    fill(&mut form, "name", "web");
    go(&mut form, "key");
    form.paste(&format!("{KEY}\n").repeat(25));
    assert!(screen(&form, 80, 24).contains("it goes into the Secret web-cloud-init"));
    let made = manifests(&mut form);
    check_schema(&made);
    assert_eq!(made[1]["kind"], "Secret");
    assert_eq!(made[1]["type"], "provisioning.virtualization.deckhouse.io/cloud-init");
    let data = base64::Engine::decode(
        &base64::engine::general_purpose::STANDARD,
        made[1]["data"]["userData"].as_str().unwrap(),
    );
    let config = crate::tui::editor::yaml::parse(&String::from_utf8(data.unwrap()).unwrap()).unwrap();
    assert_eq!(config["users"][0]["ssh_authorized_keys"].as_array().map(Vec::len), Some(25));
    assert_eq!(
        made[2]["spec"]["provisioning"],
        json!({"type": "UserDataRef", "userDataRef": {"kind": "Secret", "name": "web-cloud-init"}})
    );
}

#[test]
fn mistakes_are_told_with_a_remedy_and_bar_the_way() {
    let blocking = |field: &'static str, value: &str| {
        let mut form = create_machine(context());
        if field == "key" {
            fill(&mut form, "password", "x");
        }
        fill(&mut form, field, value);
        let problem = form.problems().iter().find(|p| p.field == field && p.blocks).cloned();
        if let Some(problem) = &problem {
            assert_eq!(ctrl(&mut form, 's'), [Request::Notice(problem.message.clone())]);
            assert_eq!(form.fields[form.focus].name, field);
        }
        problem.map(|p| p.message).unwrap_or_default()
    };
    for (field, value, says) in [
        ("name", "Web", "lower-case"),
        ("name", "", "needed"),
        ("name", "-a", "begins"),
        ("name", &"a".repeat(64), "63"),
        ("name", "vm-1", "already"),
        ("name", "db", "disk db-root already"),
        ("cores", "0", "from 1 to 248"),
        ("cores", "two", "from 1 to 248"),
        ("fraction", "0%", "1% to 100%"),
        ("memory", "lots", "512Mi"),
        ("memory", "", "needed"),
        ("size", "1Mi", "at least"),
        ("user", "Root User", "user name"),
        ("key", "AAAA", "no public key"),
        ("key", "ssh-rsa AAAA", "no public key"),
        ("key", "-----BEGIN OPENSSH PRIVATE KEY-----", "private key"),
    ] {
        let message = blocking(field, value);
        assert!(message.contains(says), "{field}={value}: {message:?}");
    }
    for (field, value) in [("name", "web-2"), ("cores", "4"), ("fraction", "10%"), ("size", "2Gi"), ("key", KEY)] {
        assert_eq!(blocking(field, value), "", "{field}={value}");
    }
}

#[test]
fn nothing_to_choose_from_is_said() {
    let mut form = create_machine(CreateContext { namespace: "default".into(), ..CreateContext::default() });
    assert_eq!(form.values().get("source"), "blank");
    choose(&mut form, "source", "image");
    assert!(form.problems().iter().any(|p| p.field == "image" && p.message.contains("no image is ready")));
    choose(&mut form, "source", "existing");
    assert!(form.problems().iter().any(|p| p.field == "disk" && p.blocks));
}

#[test]
fn refusals_show_at_their_fields() {
    let mut form = create_machine(context());
    fill(&mut form, "password", "x");
    manifests(&mut form);
    form.refused([
        ("spec.cpu.cores".to_owned(), "the class allows 1, 2 or 4".to_owned()),
        (String::new(), "quota is used up\x1b[2J".to_owned()),
    ]);
    let shown = screen(&form, 100, 30);
    assert!(shown.contains("the class allows 1, 2 or 4"), "{shown}");
    assert!(shown.contains("quota is used up\\x1b[2J"), "{shown}");
    assert_eq!(form.fields[form.focus].name, "cores");
    press(&mut form, KeyCode::Char('1'));
    assert!(!screen(&form, 100, 30).contains("the class allows"));
}

#[test]
fn leaving_asks_only_if_something_was_filled_in() {
    let mut form = create_machine(context());
    assert_eq!(press(&mut form, KeyCode::Esc), [Request::Close]);
    press(&mut form, KeyCode::Char('x'));
    assert_eq!(press(&mut form, KeyCode::Esc), []);
    assert_eq!(press(&mut form, KeyCode::Char('n')), []);
    press(&mut form, KeyCode::Esc);
    assert_eq!(press(&mut form, KeyCode::Char('y')), [Request::Close]);
}

#[test]
fn q_in_a_text_field_is_a_letter() {
    let mut form = create_machine(context());
    fill(&mut form, "name", "q");
    assert_eq!(form.values().get("name"), "q");
}

#[test]
fn the_shown_manifest_is_the_applied_one() {
    let mut form = create_machine(context());
    fill(&mut form, "password", "geheim");
    let Some(Request::Copy(text)) = ctrl(&mut form, 'y').pop() else { panic!() };
    let copied: Vec<Value> =
        text.split("---\n").map(|document| crate::tui::editor::yaml::parse(document).unwrap()).collect();
    assert_eq!(copied, manifests(&mut form));
    assert_eq!(form.manifest_text(), text, "the hash is known now");
}

#[test]
fn attaching_takes_a_disk_or_makes_one() {
    let context = AttachContext {
        namespace: "default".into(),
        machine: "web".into(),
        disks: vec![DiskChoice { name: "old".into(), size: "2Gi".into() }],
        taken_disks: vec!["old".into(), "web-data-1".into()],
        taken_attachments: vec!["web-old".into()],
    };
    let mut form = attach_disk(context.clone());
    let made = manifests(&mut form);
    check_schema(&made);
    assert_eq!(made.len(), 1);
    assert_eq!(made[0]["metadata"]["name"], "web-old-1");
    assert_eq!(
        made[0]["spec"],
        json!({"virtualMachineName": "web", "blockDeviceRef": {"kind": "VirtualDisk", "name": "old"}})
    );

    let mut form = attach_disk(context);
    press(&mut form, KeyCode::Right);
    fill(&mut form, "size", "5Gi");
    let made = manifests(&mut form);
    check_schema(&made);
    assert_eq!(made[0]["metadata"]["name"], "web-data-2");
    assert_eq!(made[0]["spec"], json!({"persistentVolumeClaim": {"size": "5Gi"}}));
    assert_eq!(made[1]["spec"]["blockDeviceRef"]["name"], "web-data-2");

    let mut form = attach_disk(AttachContext { machine: "web".into(), ..AttachContext::default() });
    fill(&mut form, "size", "x");
    assert!(matches!(&ctrl(&mut form, 's')[..], [Request::Notice(_)]));
}

#[test]
fn screens() {
    for (width, height) in [(80, 24), (120, 36)] {
        let mut form = create_machine(context());
        fill(&mut form, "name", "web");
        fill(&mut form, "password", "geheim");
        insta::assert_snapshot!(format!("create-{width}x{height}"), screen(&form, width, height));
        choose(&mut form, "source", "blank");
        fill(&mut form, "size", "1O");
        insta::assert_snapshot!(format!("mistake-{width}x{height}"), screen(&form, width, height));
        ctrl(&mut form, 'p');
        insta::assert_snapshot!(format!("manifest-{width}x{height}"), screen(&form, width, height));
        let form = attach_disk(AttachContext {
            namespace: "default".into(),
            machine: "web".into(),
            disks: vec![DiskChoice { name: "old".into(), size: "2Gi".into() }],
            ..AttachContext::default()
        });
        insta::assert_snapshot!(format!("attach-{width}x{height}"), screen(&form, width, height));
    }
}
