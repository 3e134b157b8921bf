//! Whether a machine may run on the one node: node selectors, node affinity, taints, affinity and anti-affinity to
//! other machines, room. Pure. Preferences never keep a machine from the only node there is.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, Taint, Toleration};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::types::quantity::human_bytes;
use crate::types::selector::{LabelSelector, node_selector_matches};
use crate::types::{AffinityTerm, VirtualMachineClassSpec, VirtualMachineSpec};

/// A machine that has an instance on the node.
#[derive(Debug, Clone)]
pub struct Resident {
    /// Its namespace.
    pub namespace: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Memory of the instance in bytes.
    pub memory: u64,
    /// Required anti-affinity of the instance: nobody it names may join it.
    pub repels: Vec<AffinityTerm>,
}

/// The machine that wants to start.
#[derive(Debug, Clone)]
pub struct Candidate<'a> {
    /// Its namespace.
    pub namespace: &'a str,
    /// Its labels.
    pub labels: &'a BTreeMap<String, String>,
    /// Its spec.
    pub spec: &'a VirtualMachineSpec,
    /// Its class.
    pub class: Option<&'a VirtualMachineClassSpec>,
}

/// Says what is in the way, in the words of a scheduler and with what would help; `None` if the machine fits.
pub fn obstacle(c: &Candidate<'_>, node: &Node, memory: u64, residents: &[Resident]) -> Option<String> {
    let labels = node.metadata.labels.clone().unwrap_or_default();
    selector_obstacle(c, &labels)
        .or_else(|| affinity_obstacle(c, node))
        .or_else(|| taint_obstacle(c, node))
        .or_else(|| anti_affinity_obstacle(c, &labels, residents))
        .or_else(|| room_obstacle(c, memory, residents))
        .map(|(short, hint)| format!("0/1 nodes are available: 1 {short}. {hint}"))
}

type Obstacle = Option<(String, String)>;

fn selector_obstacle(c: &Candidate<'_>, labels: &BTreeMap<String, String>) -> Obstacle {
    let missing: Vec<String> = c
        .spec
        .node_selector
        .iter()
        .flatten()
        .filter(|(k, v)| labels.get(*k) != Some(*v))
        .map(|(k, v)| format!("{k}={v}"))
        .collect();
    if !missing.is_empty() {
        let hint = format!("Label the node with {} or change spec.nodeSelector.", missing.join(","));
        return Some(("node(s) didn't match the machine's node selector".into(), hint));
    }
    let selector = c.class.and_then(|class| class.node_selector.as_ref())?;
    let fits = LabelSelector::from_object(&json(selector)).is_ok_and(|s| s.matches(Some(&strings(labels))));
    (!fits).then(|| {
        let hint = "Label the node as the VirtualMachineClass's spec.nodeSelector asks, or choose another class.";
        ("node(s) didn't match the class's node selector".into(), hint.into())
    })
}

fn affinity_obstacle(c: &Candidate<'_>, node: &Node) -> Obstacle {
    let affinity = c.spec.affinity.as_ref()?.node_affinity.as_ref()?;
    let required = affinity.required_during_scheduling_ignored_during_execution.as_ref()?;
    match node_selector_matches(&json(required), &json(node)) {
        Ok(true) => None,
        Ok(false) => {
            let hint = "Label the node as spec.affinity.nodeAffinity asks, or change it.";
            Some(("node(s) didn't match the machine's node affinity".into(), hint.into()))
        }
        Err(error) => Some(("node(s) didn't match the machine's node affinity".into(), error.to_string())),
    }
}

fn taint_obstacle(c: &Candidate<'_>, node: &Node) -> Obstacle {
    let spec = node.spec.as_ref()?;
    let class = c.class.and_then(|class| class.tolerations.as_ref());
    let tolerations: Vec<&Toleration> = c.spec.tolerations.iter().chain(class).flatten().collect();
    let mut taints: Vec<Taint> = spec.taints.clone().unwrap_or_default();
    if spec.unschedulable == Some(true) {
        taints.push(Taint {
            key: "node.kubernetes.io/unschedulable".into(),
            effect: "NoSchedule".into(),
            ..Taint::default()
        });
    }
    let taint = taints
        .iter()
        .filter(|t| t.effect != "PreferNoSchedule")
        .find(|t| !tolerations.iter().any(|toleration| tolerates(toleration, t)))?;
    let text = match &taint.value {
        Some(value) => format!("{}={value}:{}", taint.key, taint.effect),
        None => format!("{}:{}", taint.key, taint.effect),
    };
    Some((
        format!("node(s) had untolerated taint {text}"),
        format!("Add a toleration for {} to spec.tolerations or remove the taint.", taint.key),
    ))
}

fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let effect = toleration.effect.as_deref().filter(|e| !e.is_empty());
    if effect.is_some_and(|e| e != taint.effect) {
        return false;
    }
    let key = toleration.key.as_deref().filter(|k| !k.is_empty());
    match toleration.operator.as_deref().unwrap_or("Equal") {
        "Exists" => key.is_none_or(|k| k == taint.key),
        _ => {
            key == Some(taint.key.as_str())
                && toleration.value.as_deref().unwrap_or("") == taint.value.as_deref().unwrap_or("")
        }
    }
}

fn anti_affinity_obstacle(
    c: &Candidate<'_>,
    node_labels: &BTreeMap<String, String>,
    residents: &[Resident],
) -> Obstacle {
    let affinity = c.spec.affinity.as_ref();
    let own = affinity.and_then(|a| a.virtual_machine_and_pod_anti_affinity.as_ref());
    let own = own.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
    let repelled = own
        .into_iter()
        .flatten()
        .filter(|t| node_labels.contains_key(&t.topology_key))
        .any(|t| residents.iter().any(|r| names(t, c.namespace, c.labels, &r.namespace, &r.labels)));
    if repelled {
        return Some((
            "node(s) didn't match the machine's anti-affinity rules".into(),
            "It starts when the machines that spec.affinity.virtualMachineAndPodAntiAffinity names have stopped."
                .into(),
        ));
    }
    let unwelcome = residents.iter().any(|r| {
        let terms = r.repels.iter().filter(|t| node_labels.contains_key(&t.topology_key));
        terms.into_iter().any(|t| names(t, &r.namespace, &r.labels, c.namespace, c.labels))
    });
    if unwelcome {
        return Some((
            "node(s) didn't satisfy existing machines' anti-affinity rules".into(),
            "It starts when the machines that keep it away have stopped.".into(),
        ));
    }
    let near = affinity.and_then(|a| a.virtual_machine_and_pod_affinity.as_ref());
    let near = near.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
    let alone = near.into_iter().flatten().any(|t| {
        let met = residents.iter().any(|r| names(t, c.namespace, c.labels, &r.namespace, &r.labels));
        // As in Kubernetes, the first of a group that wants to be together may start alone.
        let itself = names(t, c.namespace, c.labels, c.namespace, c.labels);
        !node_labels.contains_key(&t.topology_key) || !(met || itself)
    });
    alone.then(|| {
        (
            "node(s) didn't match the machine's affinity rules".into(),
            "It starts when a machine that spec.affinity.virtualMachineAndPodAffinity names is running.".into(),
        )
    })
}

/// Whether a term of a machine (`own` namespace and labels) names another.
fn names(
    term: &AffinityTerm,
    own_namespace: &str,
    own_labels: &BTreeMap<String, String>,
    other_namespace: &str,
    other_labels: &BTreeMap<String, String>,
) -> bool {
    let namespaces = term.namespaces.as_deref().unwrap_or_default();
    // Namespaces carry no labels here that a selector could tell apart, so a selector means all of them.
    let in_scope = match (namespaces.is_empty(), term.namespace_selector.is_some()) {
        (true, false) => own_namespace == other_namespace,
        (_, true) => true,
        (false, false) => namespaces.iter().any(|n| n == other_namespace),
    };
    let same = |keys: &Option<Vec<String>>, wanted: bool| {
        keys.iter()
            .flatten()
            .filter_map(|k| own_labels.get(k).map(|v| (k, v)))
            .all(|(k, v)| (other_labels.get(k) == Some(v)) == wanted)
    };
    let selected = term
        .label_selector
        .as_ref()
        .is_some_and(|s| LabelSelector::from_object(&json(s)).is_ok_and(|s| s.matches(Some(&strings(other_labels)))));
    in_scope && selected && same(&term.match_label_keys, true) && same(&term.mismatch_label_keys, false)
}

fn room_obstacle(c: &Candidate<'_>, total: u64, residents: &[Resident]) -> Obstacle {
    let used: u64 = residents.iter().map(|r| r.memory).sum();
    let wanted = c.spec.memory.size.bytes().unwrap_or(0);
    (used.saturating_add(wanted) > total).then(|| {
        let free = human_bytes(total.saturating_sub(used));
        (
            "Insufficient memory".into(),
            format!(
                "It needs {}, of {} only {free} are free. Stop other machines or ask for less.",
                human_bytes(wanted),
                human_bytes(total)
            ),
        )
    })
}

fn json<T: Serialize>(value: &T) -> Value {
    serde_json::to_value(value).unwrap_or(Value::Null)
}

fn strings(labels: &BTreeMap<String, String>) -> Map<String, Value> {
    labels.iter().map(|(k, v)| (k.clone(), Value::String(v.clone()))).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn spec(extra: Value) -> VirtualMachineSpec {
        let mut base = json!({
            "virtualMachineClassName": "c", "cpu": {"cores": 1}, "memory": {"size": "1Gi"}, "blockDeviceRefs": [],
        });
        json_patch::merge(&mut base, &extra);
        serde_json::from_value(base).unwrap()
    }

    fn node(extra: Value) -> Node {
        let mut base = json!({"metadata": {"name": "n", "labels": {"kubernetes.io/hostname": "n", "disktype": "ssd"}}});
        json_patch::merge(&mut base, &extra);
        serde_json::from_value(base).unwrap()
    }

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    fn resident(pairs: &[(&str, &str)], memory: u64) -> Resident {
        Resident { namespace: "ns".into(), labels: labels(pairs), memory, repels: vec![] }
    }

    fn check(spec: &VirtualMachineSpec, node: &Node, residents: &[Resident]) -> Option<String> {
        let own = labels(&[("app", "me")]);
        let c = Candidate { namespace: "ns", labels: &own, spec, class: None };
        obstacle(&c, node, 4 << 30, residents)
    }

    fn term(value: &str) -> Value {
        json!({"labelSelector": {"matchLabels": {"server": value}}, "topologyKey": "kubernetes.io/hostname"})
    }

    #[test]
    fn selectors_and_node_affinity() {
        let n = node(json!({}));
        let affinity = |operator: &str, values: Value| {
            spec(json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{"matchExpressions": [{"key": "disktype", "operator": operator, "values": values}]}]
            }}}}))
        };
        for (spec, blocked_by) in [
            (spec(json!({})), None),
            (spec(json!({"nodeSelector": {"disktype": "ssd"}})), None),
            (spec(json!({"nodeSelector": {"disktype": "hdd"}})), Some("disktype=hdd")),
            (affinity("In", json!(["ssd"])), None),
            (affinity("NotIn", json!(["ssd"])), Some("node affinity")),
            (affinity("DoesNotExist", json!([])), Some("node affinity")),
        ] {
            let got = check(&spec, &n, &[]);
            assert_eq!(got.is_some(), blocked_by.is_some(), "{got:?}");
            if let (Some(got), Some(word)) = (got, blocked_by) {
                assert!(got.starts_with("0/1 nodes are available: 1 ") && got.contains(word), "{got}");
            }
        }
    }

    #[test]
    fn taints() {
        let n = node(json!({"spec": {"taints": [{"key": "k", "value": "v", "effect": "NoSchedule"}]}}));
        assert!(check(&spec(json!({})), &n, &[]).unwrap().contains("untolerated taint k=v:NoSchedule"));
        for toleration in [
            json!({"key": "k", "operator": "Exists"}),
            json!({"key": "k", "value": "v", "effect": "NoSchedule"}),
            json!({"operator": "Exists"}),
        ] {
            assert_eq!(check(&spec(json!({"tolerations": [toleration]})), &n, &[]), None);
        }
        assert!(check(&spec(json!({"tolerations": [{"key": "k", "value": "w"}]})), &n, &[]).is_some());
        let cordoned = node(json!({"spec": {"unschedulable": true}}));
        assert!(check(&spec(json!({})), &cordoned, &[]).unwrap().contains("unschedulable"));
    }

    #[test]
    fn anti_affinity_works_both_ways() {
        let n = node(json!({}));
        let away = spec(json!({"affinity": {"virtualMachineAndPodAntiAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": [term("database")]}}}));
        assert_eq!(check(&away, &n, &[resident(&[("server", "web")], 0)]), None);
        assert!(check(&away, &n, &[resident(&[("server", "database")], 0)]).unwrap().contains("anti-affinity"));
        let repels = serde_json::from_value(
            json!({"labelSelector": {"matchLabels": {"app": "me"}}, "topologyKey": "kubernetes.io/hostname"}),
        )
        .unwrap();
        let hermit = Resident { repels: vec![repels], ..resident(&[], 0) };
        assert!(check(&spec(json!({})), &n, &[hermit]).unwrap().contains("existing machines'"));
    }

    #[test]
    fn required_affinity_waits_for_company() {
        let n = node(json!({}));
        let near = spec(json!({"affinity": {"virtualMachineAndPodAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": [term("database")]}}}));
        assert!(check(&near, &n, &[]).is_some());
        assert_eq!(check(&near, &n, &[resident(&[("server", "database")], 0)]), None);
    }

    #[test]
    fn room() {
        let n = node(json!({}));
        assert_eq!(check(&spec(json!({})), &n, &[resident(&[], 3 << 30)]), None);
        let got = check(&spec(json!({})), &n, &[resident(&[], (3 << 30) + 1)]).unwrap();
        assert!(got.contains("Insufficient memory") && got.contains("1Gi"), "{got}");
    }
}
