//! Placement as tables: each row a machine, a node, who is there, and what is said.

use jiff::Timestamp;
use serde_json::json;

use super::room::{format_milli, overhead, requested_milli_cpus};
use super::*;

const GIB: u64 = 1 << 30;
const ROOM: Amount = Amount { memory: 64 * GIB, milli_cpus: 64_000 };

fn spec(extra: Value) -> VirtualMachineSpec {
    let mut base = json!({
        "virtualMachineClassName": "c", "cpu": {"cores": 1}, "memory": {"size": "1Gi"}, "blockDeviceRefs": [],
    });
    json_patch::merge(&mut base, &extra);
    serde_json::from_value(base).unwrap()
}

fn node(extra: Value) -> Node {
    let labels = json!({"kubernetes.io/hostname": "n", "disktype": "ssd", "rack": "12"});
    let mut base = json!({"metadata": {"name": "n", "labels": labels}});
    json_patch::merge(&mut base, &extra);
    serde_json::from_value(base).unwrap()
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

fn resident(pairs: &[(&str, &str)]) -> Resident {
    Resident {
        name: "ns/other".into(),
        namespace: "ns".into(),
        namespace_labels: labels(&[("kubernetes.io/metadata.name", "ns"), ("team", "a")]),
        labels: labels(pairs),
        has: Amount::default(),
        repels: vec![],
        leaving: false,
    }
}

fn with_candidate<T>(spec: &VirtualMachineSpec, see: impl FnOnce(&Candidate<'_>) -> T) -> T {
    let (own, namespace_labels) = (labels(&[("app", "me"), ("version", "2")]), labels(&[("team", "a")]));
    see(&Candidate {
        namespace: "ns",
        namespace_labels: &namespace_labels,
        labels: &own,
        spec,
        class: None,
        wants: Amount::of(spec, false),
    })
}

fn check(spec: &VirtualMachineSpec, node: &Node, residents: &[Resident]) -> Option<String> {
    with_candidate(spec, |c| obstacle(c, &Place { node, allocatable: ROOM, residents }))
}

fn unmet(spec: &VirtualMachineSpec, node: &Node, residents: &[Resident]) -> Vec<String> {
    with_candidate(spec, |c| unmet_preferences(c, &Place { node, allocatable: ROOM, residents }))
}

/// `None`: the machine starts. `Some(part)`: it does not, and the text has the part.
fn row(name: &str, got: Option<String>, expected: Option<&str>) {
    match (&got, expected) {
        (None, None) => {}
        (Some(text), Some(part)) => {
            assert!(text.starts_with("0/1 nodes are available: 1 ") && text.contains(part), "{name}: {text}");
        }
        _ => panic!("{name}: {got:?}, expected {expected:?}"),
    }
}

fn required(terms: Value) -> Value {
    json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}})
}

#[test]
fn node_selector_and_every_operator_of_node_affinity() {
    let one = |key: &str, operator: &str, values: Value| {
        required(json!([{"matchExpressions": [{"key": key, "operator": operator, "values": values}]}]))
    };
    let field = |operator: &str, name: &str| {
        required(json!([{"matchFields": [{"key": "metadata.name", "operator": operator, "values": [name]}]}]))
    };
    let no = Some("node(s) didn't match the machine's node affinity");
    let ssd = json!({"key": "disktype", "operator": "In", "values": ["ssd"]});
    let rack = json!({"key": "rack", "operator": "In", "values": ["13"]});
    for (name, extra, expected) in [
        ("nothing", json!({}), None),
        ("selector met", json!({"nodeSelector": {"disktype": "ssd"}}), None),
        ("selector value", json!({"nodeSelector": {"disktype": "hdd"}}), Some("Label the node with disktype=hdd")),
        ("selector key", json!({"nodeSelector": {"zone": "a"}}), Some("didn't match the machine's node selector")),
        ("In", one("disktype", "In", json!(["hdd", "ssd"])), None),
        ("In, other value", one("disktype", "In", json!(["hdd"])), Some("disktype In (hdd)")),
        ("In, no label", one("zone", "In", json!(["a"])), no),
        ("NotIn", one("disktype", "NotIn", json!(["hdd"])), None),
        ("NotIn, no label", one("zone", "NotIn", json!(["a"])), None),
        ("NotIn, that value", one("disktype", "NotIn", json!(["ssd"])), no),
        ("Exists", one("disktype", "Exists", json!([])), None),
        ("Exists, no label", one("zone", "Exists", json!([])), Some("zone Exists")),
        ("DoesNotExist", one("zone", "DoesNotExist", json!([])), None),
        ("DoesNotExist, label", one("disktype", "DoesNotExist", json!([])), no),
        ("Gt", one("rack", "Gt", json!(["11"])), None),
        ("Gt, equal", one("rack", "Gt", json!(["12"])), no),
        ("Gt, no number", one("disktype", "Gt", json!(["1"])), no),
        ("Lt", one("rack", "Lt", json!(["13"])), None),
        ("Lt, equal", one("rack", "Lt", json!(["12"])), no),
        ("Lt, no label", one("zone", "Lt", json!(["13"])), no),
        ("field In", field("In", "n"), None),
        ("field In, other", field("In", "m"), no),
        ("field NotIn", field("NotIn", "m"), None),
        (
            "all of a term",
            required(json!([{"matchExpressions": [ssd, rack]}])),
            Some("disktype In (ssd) and rack In (13)"),
        ),
        ("any of the terms", required(json!([{"matchExpressions": [rack]}, {"matchExpressions": [ssd]}])), None),
        ("an empty term", required(json!([{}])), Some("an empty term")),
    ] {
        row(name, check(&spec(extra), &node(json!({})), &[]), expected);
    }
}

#[test]
fn the_class_selects_and_tolerates_too() {
    let class = |extra: Value| -> VirtualMachineClassSpec {
        let mut base = json!({"cpu": {"type": "Host"}});
        json_patch::merge(&mut base, &extra);
        serde_json::from_value(base).unwrap()
    };
    let tainted = node(json!({"spec": {"taints": [{"key": "k", "effect": "NoSchedule"}]}}));
    for (name, class, node, expected) in [
        ("selector met", class(json!({"nodeSelector": {"matchLabels": {"disktype": "ssd"}}})), node(json!({})), None),
        (
            "selector not met",
            class(
                json!({"nodeSelector": {"matchExpressions": [{"key": "disktype", "operator": "NotIn", "values": ["ssd"]}]}}),
            ),
            node(json!({})),
            Some("didn't match the class's node selector"),
        ),
        ("no toleration", class(json!({})), tainted.clone(), Some("untolerated taint k:NoSchedule")),
        ("toleration", class(json!({"tolerations": [{"key": "k", "operator": "Exists"}]})), tainted, None),
    ] {
        let spec = spec(json!({}));
        let got = with_candidate(&spec, |c| {
            let c = Candidate { class: Some(&class), ..c.clone() };
            obstacle(&c, &Place { node: &node, allocatable: ROOM, residents: &[] })
        });
        row(name, got, expected);
    }
}

#[test]
fn taints_keep_out_what_does_not_tolerate_them() {
    let taint = |effect: &str| node(json!({"spec": {"taints": [{"key": "k", "value": "v", "effect": effect}]}}));
    let cordoned = node(json!({"spec": {"unschedulable": true}}));
    let tolerating = |t: Value| json!({ "tolerations": [t] });
    for (name, node, extra, expected) in [
        ("NoSchedule", taint("NoSchedule"), json!({}), Some("untolerated taint k=v:NoSchedule")),
        ("NoExecute", taint("NoExecute"), json!({}), Some("untolerated taint k=v:NoExecute")),
        ("PreferNoSchedule", taint("PreferNoSchedule"), json!({}), None),
        ("Exists with key", taint("NoSchedule"), tolerating(json!({"key": "k", "operator": "Exists"})), None),
        ("Exists for all", taint("NoExecute"), tolerating(json!({"operator": "Exists"})), None),
        ("Equal", taint("NoSchedule"), tolerating(json!({"key": "k", "value": "v"})), None),
        ("Equal, other value", taint("NoSchedule"), tolerating(json!({"key": "k", "value": "w"})), Some("k=v")),
        ("effect", taint("NoSchedule"), tolerating(json!({"key": "k", "value": "v", "effect": "NoSchedule"})), None),
        (
            "other effect",
            taint("NoExecute"),
            tolerating(json!({"key": "k", "operator": "Exists", "effect": "NoSchedule"})),
            Some("Add a toleration for k"),
        ),
        ("cordoned", cordoned.clone(), json!({}), Some("node.kubernetes.io/unschedulable")),
        (
            "cordon tolerated",
            cordoned,
            tolerating(json!({"key": "node.kubernetes.io/unschedulable", "operator": "Exists"})),
            None,
        ),
    ] {
        row(name, check(&spec(extra), &node, &[]), expected);
    }
}

#[test]
fn no_execute_drives_running_machines_away() {
    let added = "2026-01-01T00:00:00Z";
    let n = node(json!({"spec": {"taints": [
        {"key": "a", "effect": "NoExecute", "timeAdded": added}, {"key": "b", "effect": "NoSchedule"},
    ]}}));
    let time: Timestamp = added.parse().unwrap();
    for (name, tolerations, expected) in [
        ("none", json!([]), Some(0)),
        ("another", json!([{"key": "b", "operator": "Exists"}]), Some(0)),
        ("for ever", json!([{"key": "a", "operator": "Exists", "effect": "NoExecute"}]), None),
        (
            "for a minute",
            json!([{"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 60}]),
            Some(60),
        ),
        (
            "the shorter of two",
            json!([
                {"operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 90},
                {"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 60},
            ]),
            Some(60),
        ),
        ("negative", json!([{"operator": "Exists", "effect": "NoExecute", "tolerationSeconds": -1}]), Some(0)),
    ] {
        let got = node::eviction(&spec(json!({ "tolerations": tolerations })), None, &n);
        let expected = expected.map(|seconds| Eviction { taint: "a:NoExecute".into(), added: Some(time), seconds });
        assert_eq!(got, expected, "{name}");
    }
}

fn term(extra: Value) -> Value {
    let mut term =
        json!({"labelSelector": {"matchLabels": {"server": "database"}}, "topologyKey": "kubernetes.io/hostname"});
    json_patch::merge(&mut term, &extra);
    term
}

fn company(kind: &str, terms: Value) -> Value {
    json!({"affinity": {kind: {"requiredDuringSchedulingIgnoredDuringExecution": terms}}})
}

#[test]
fn anti_affinity_with_scopes_and_keys() {
    let away = |extra: Value| company("virtualMachineAndPodAntiAffinity", json!([term(extra)]));
    let database = resident(&[("server", "database"), ("version", "2")]);
    let elsewhere =
        Resident { namespace: "other".into(), namespace_labels: labels(&[("team", "b")]), ..database.clone() };
    let no = Some("keeps it from ns/other");
    for (name, extra, other, expected) in [
        ("names it", json!({}), &database, no),
        ("names another", json!({"labelSelector": {"matchLabels": {"server": "web"}}}), &database, None),
        ("another namespace", json!({}), &elsewhere, None),
        ("that namespace", json!({"namespaces": ["other"]}), &elsewhere, no),
        ("only that namespace", json!({"namespaces": ["other"]}), &database, None),
        ("all namespaces", json!({"namespaceSelector": {}}), &elsewhere, no),
        ("namespaces by label", json!({"namespaceSelector": {"matchLabels": {"team": "b"}}}), &elsewhere, no),
        ("not by that label", json!({"namespaceSelector": {"matchLabels": {"team": "a"}}}), &elsewhere, None),
        (
            "by name or by label",
            json!({"namespaces": ["other"], "namespaceSelector": {"matchLabels": {"team": "a"}}}),
            &elsewhere,
            no,
        ),
        ("a topology the node is not in", json!({"topologyKey": "zone"}), &database, None),
        ("no selector names nobody", json!({"labelSelector": null}), &database, None),
        ("an empty one everybody", json!({"labelSelector": {"matchLabels": null}}), &database, no),
        ("matchLabelKeys", json!({"matchLabelKeys": ["version"]}), &database, no),
        ("matchLabelKeys, other value", json!({"matchLabelKeys": ["app"]}), &database, None),
        ("mismatchLabelKeys", json!({"mismatchLabelKeys": ["version"]}), &database, None),
    ] {
        row(name, check(&spec(away(extra)), &node(json!({})), std::slice::from_ref(other)), expected);
    }
}

#[test]
fn who_is_there_may_keep_others_away() {
    let repels = |extra: Value| -> Vec<AffinityTerm> {
        let mut term =
            json!({"labelSelector": {"matchLabels": {"app": "me"}}, "topologyKey": "kubernetes.io/hostname"});
        json_patch::merge(&mut term, &extra);
        vec![serde_json::from_value(term).unwrap()]
    };
    for (name, extra, expected) in [
        ("me", json!({}), Some("existing machines' anti-affinity rules")),
        ("others", json!({"labelSelector": {"matchLabels": {"app": "you"}}}), None),
        ("me in another namespace", json!({"namespaces": ["other"]}), None),
        ("me by namespace label", json!({"namespaceSelector": {"matchLabels": {"team": "a"}}}), Some("ns/other")),
        ("elsewhere", json!({"topologyKey": "zone"}), None),
    ] {
        let hermit = Resident { repels: repels(extra), ..resident(&[]) };
        row(name, check(&spec(json!({})), &node(json!({})), &[hermit]), expected);
    }
}

#[test]
fn affinity_waits_for_company() {
    let near = |terms: Value| company("virtualMachineAndPodAffinity", terms);
    let database = resident(&[("server", "database")]);
    let fast = resident(&[("server", "database"), ("fast", "yes")]);
    let second = json!({"labelSelector": {"matchLabels": {"fast": "yes"}}, "topologyKey": "kubernetes.io/hostname"});
    let mine = json!({"labelSelector": {"matchLabels": {"app": "me"}}, "topologyKey": "kubernetes.io/hostname"});
    let no = Some("didn't match the machine's affinity rules");
    for (name, terms, others, expected) in [
        ("alone", json!([term(json!({}))]), vec![], no),
        ("with it", json!([term(json!({}))]), vec![database.clone()], None),
        ("one that has half", json!([term(json!({})), second]), vec![database.clone()], no),
        ("one that has both", json!([term(json!({})), second]), vec![fast], None),
        ("the first of a group", json!([mine]), vec![], None),
        ("not only of its group", json!([mine, term(json!({}))]), vec![], no),
        ("no such label", json!([term(json!({"topologyKey": "zone"}))]), vec![database], Some("no label zone")),
    ] {
        row(name, check(&spec(near(terms)), &node(json!({})), &others), expected);
    }
}

#[test]
fn topology_spread_on_one_node() {
    let constraint = |extra: Value| {
        let mut base = json!({
            "maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "DoNotSchedule",
            "labelSelector": {"matchLabels": {"app": "me"}},
        });
        json_patch::merge(&mut base, &extra);
        json!({ "topologySpreadConstraints": [base] })
    };
    let like_me = || resident(&[("app", "me"), ("version", "1")]);
    let leaving = Resident { leaving: true, ..like_me() };
    let elsewhere = Resident { namespace: "other".into(), ..like_me() };
    let no = Some("didn't match pod topology spread constraints");
    for (name, extra, others, expected) in [
        ("one domain is always even", json!({}), vec![like_me(), like_me(), like_me()], None),
        ("no such domain", json!({"topologyKey": "zone"}), vec![], Some("missing required label")),
        ("no such domain, anyway", json!({"topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}), vec![], None),
        ("two domains wanted, the first machine", json!({"minDomains": 2}), vec![], None),
        ("two domains wanted, the second machine", json!({"minDomains": 2}), vec![like_me()], no),
        ("a wider skew", json!({"minDomains": 2, "maxSkew": 2}), vec![like_me()], None),
        ("minDomains 1", json!({"minDomains": 1}), vec![like_me()], None),
        ("others do not count", json!({"minDomains": 2}), vec![resident(&[("app", "you")])], None),
        ("other namespaces do not count", json!({"minDomains": 2}), vec![elsewhere], None),
        ("who is leaving does not count", json!({"minDomains": 2}), vec![leaving], None),
        ("other versions do not count", json!({"minDomains": 2, "matchLabelKeys": ["version"]}), vec![like_me()], None),
        (
            "a machine that its own selector does not name adds nothing",
            json!({"minDomains": 2, "labelSelector": {"matchLabels": {"app": "you"}}}),
            vec![resident(&[("app", "you")])],
            None,
        ),
        ("anyway", json!({"minDomains": 2, "whenUnsatisfiable": "ScheduleAnyway"}), vec![like_me()], None),
        ("nobody selected", json!({"minDomains": 2, "labelSelector": null}), vec![like_me()], None),
    ] {
        row(name, check(&spec(constraint(extra)), &node(json!({})), &others), expected);
    }
}

#[test]
fn preferences_are_told_and_keep_nobody_out() {
    let weighted = |kind: &str| {
        json!({"affinity": {kind: {"preferredDuringSchedulingIgnoredDuringExecution": [
            {"weight": 7, "virtualMachineAndPodAffinityTerm": term(json!({}))}
        ]}}})
    };
    let prefers_hdd = json!({"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
        {"weight": 5, "preference": {"matchExpressions": [{"key": "disktype", "operator": "In", "values": ["hdd"]}]}},
        {"weight": 6, "preference": {"matchExpressions": [{"key": "disktype", "operator": "In", "values": ["ssd"]}]}},
    ]}}});
    let anyway = json!({"topologySpreadConstraints": [
        {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}
    ]});
    let database = || vec![resident(&[("server", "database")])];
    for (name, extra, others, expected) in [
        ("node", prefers_hdd, vec![], vec!["a node with disktype In (hdd) (weight 5)"]),
        (
            "company",
            weighted("virtualMachineAndPodAffinity"),
            vec![],
            vec!["the company of certain machines (weight 7)"],
        ),
        ("company met", weighted("virtualMachineAndPodAffinity"), database(), vec![]),
        (
            "solitude",
            weighted("virtualMachineAndPodAntiAffinity"),
            database(),
            vec!["the absence of certain machines (weight 7)"],
        ),
        ("solitude met", weighted("virtualMachineAndPodAntiAffinity"), vec![], vec![]),
        ("spread", anyway, vec![], vec!["to be spread over zone"]),
    ] {
        let spec = spec(extra);
        assert_eq!(unmet(&spec, &node(json!({})), &others), expected, "{name}");
        assert_eq!(check(&spec, &node(json!({})), &others), None, "{name}");
    }
}

#[test]
fn room_is_what_is_left() {
    let other = |name: &str, memory: u64, milli_cpus: u64| Resident {
        name: name.into(),
        has: Amount { memory, milli_cpus },
        ..resident(&[])
    };
    let total = Amount { memory: 8 * GIB, milli_cpus: 2000 };
    let wants = |memory: u64, milli_cpus: u64| Amount { memory, milli_cpus };
    for (name, wants, others, expected) in [
        ("empty node", wants(8 * GIB, 2000), vec![], vec![]),
        ("exactly the rest", wants(GIB, 500), vec![other("a", 7 * GIB, 1500)], vec![]),
        (
            "one byte more",
            wants(GIB + 1, 500),
            vec![other("a", 7 * GIB, 1500)],
            vec!["Insufficient memory", "1Gi of 8Gi are free: stop a (7Gi)"],
        ),
        (
            "the largest first, as few as are enough",
            wants(6 * GIB, 0),
            vec![other("a", GIB, 0), other("b", 4 * GIB, 0), other("c", 2 * GIB, 0)],
            vec!["stop b (4Gi) and c (2Gi), or"],
        ),
        (
            "never",
            wants(9 * GIB, 0),
            vec![other("a", GIB, 0)],
            vec!["more than the 8Gi that machines may have on this node"],
        ),
        (
            "processors",
            wants(GIB, 600),
            vec![other("a", GIB, 1500)],
            vec!["Insufficient cpu", "0.6 CPUs", "0.5 CPUs of 2 CPUs are free: stop a (1.5 CPUs)"],
        ),
        ("never enough processors", wants(GIB, 2001), vec![], vec!["Insufficient cpu", "lower spec.cpu.coreFraction"]),
        ("both", wants(9 * GIB, 3000), vec![], vec!["Insufficient memory", "Insufficient cpu"]),
    ] {
        let node = node(json!({}));
        let found = room::obstacles(wants, &Place { node: &node, allocatable: total, residents: &others });
        assert_eq!(found.is_empty(), expected.is_empty(), "{name}: {found:?}");
        let text = format!("{found:?}");
        for part in expected {
            assert!(text.contains(part), "{name}: {text}");
        }
    }
}

#[test]
fn what_a_machine_takes() {
    let machine = |cores: i32, fraction: &str, memory: &str| {
        spec(json!({"cpu": {"cores": cores, "coreFraction": fraction}, "memory": {"size": memory}}))
    };
    // upstream.md 3: requestedCores = ceil(cores x 1000 x fraction / 100).
    for (cores, fraction, milli, shown) in [
        (1, "10%", 100, "100m"),
        (2, "100%", 2000, "2"),
        (3, "33%", 990, "990m"),
        (1, "1%", 10, "10m"),
        (4, "25%", 1000, "1"),
    ] {
        let spec = machine(cores, fraction, "1Gi");
        assert_eq!(requested_milli_cpus(&spec.cpu), milli, "{cores} {fraction}");
        assert_eq!(format_milli(milli), shown);
    }
    let mib = |spec: &VirtualMachineSpec, emulated: bool| overhead(spec, emulated) >> 20;
    let small = machine(1, "10%", "1Gi");
    assert_eq!((mib(&small, false), mib(&small, true)), (90, 218));
    assert_eq!(mib(&machine(16, "10%", "64Gi"), false), 80 + 128 + 128);
    assert_eq!(Amount::of(&small, true), Amount { memory: GIB + (218 << 20), milli_cpus: 100 });
}

#[test]
fn everything_in_the_way_is_told_at_once() {
    let tainted = node(json!({"spec": {"taints": [{"key": "k", "effect": "NoSchedule"}]}}));
    let spec = spec(json!({"nodeSelector": {"zone": "a"}, "memory": {"size": "99Gi"}}));
    let got = check(&spec, &tainted, &[]).unwrap();
    assert!(
        got.starts_with(
            "0/1 nodes are available: 1 node(s) didn't match the machine's node selector, 1 node(s) had untolerated \
             taint k:NoSchedule, 1 Insufficient memory. Label the node with zone=a"
        ),
        "{got}"
    );
}
