//! What the node itself must be like, and taints.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Taint, Toleration};

use super::{Candidate, Obstacle, json, node_labels, selects};
use crate::types::selector::{node_selector_matches, node_term_matches};
use crate::types::{VirtualMachineClassSpec, VirtualMachineSpec};

/// `spec.nodeSelector` of the machine and of its class.
pub fn selector(c: &Candidate<'_>, node: &Node) -> Option<Obstacle> {
    let labels = node_labels(node);
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
    (!selects(selector, &labels)).then(|| {
        let hint = "Label the node as the VirtualMachineClass's spec.nodeSelector asks, or choose another class.";
        ("node(s) didn't match the class's node selector".into(), hint.into())
    })
}

/// Required node affinity.
pub fn affinity(c: &Candidate<'_>, node: &Node) -> Option<Obstacle> {
    let affinity = c.spec.affinity.as_ref()?.node_affinity.as_ref()?;
    let required = affinity.required_during_scheduling_ignored_during_execution.as_ref()?;
    let hint = match node_selector_matches(&json(required), &json(node)) {
        Ok(true) => return None,
        Ok(false) => {
            let terms: Vec<String> = required.node_selector_terms.iter().map(|t| words(&json(t))).collect();
            format!("spec.affinity.nodeAffinity asks for {}: label the node so, or change it.", terms.join(" or "))
        }
        Err(error) => error.to_string(),
    };
    Some(("node(s) didn't match the machine's node affinity".into(), hint))
}

/// Preferred node affinity that the node does not meet.
pub fn unmet_preferences(c: &Candidate<'_>, node: &Node) -> Vec<String> {
    let affinity = c.spec.affinity.as_ref().and_then(|a| a.node_affinity.as_ref());
    let preferred = affinity.and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_ref());
    let node = json(node);
    let unmet = preferred.into_iter().flatten().filter(|p| node_term_matches(&json(&p.preference), &node) != Ok(true));
    unmet.map(|p| format!("a node with {} (weight {})", words(&json(&p.preference)), p.weight)).collect()
}

/// A node selector term in words: `disktype In (ssd) and zone Exists`.
fn words(term: &serde_json::Value) -> String {
    let expressions = ["matchExpressions", "matchFields"].into_iter().filter_map(|f| term.get(f)?.as_array()).flatten();
    let each = expressions.map(|e| {
        let text = |f: &str| e.get(f).and_then(serde_json::Value::as_str).unwrap_or_default();
        let values: Vec<&str> = e["values"].as_array().into_iter().flatten().filter_map(|v| v.as_str()).collect();
        match values.is_empty() {
            true => format!("{} {}", text("key"), text("operator")),
            false => format!("{} {} ({})", text("key"), text("operator"), values.join(",")),
        }
    });
    let each: Vec<String> = each.collect();
    if each.is_empty() { "nothing that could match (an empty term)".into() } else { each.join(" and ") }
}

/// The first taint that keeps the machine from starting here. A cordoned node counts as tainted.
pub fn taint(c: &Candidate<'_>, node: &Node) -> Option<Obstacle> {
    let spec = node.spec.as_ref()?;
    let mut taints: Vec<Taint> = spec.taints.clone().unwrap_or_default();
    if spec.unschedulable == Some(true) {
        taints.push(Taint {
            key: "node.kubernetes.io/unschedulable".into(),
            effect: "NoSchedule".into(),
            ..Taint::default()
        });
    }
    let tolerations = tolerations(c.spec, c.class);
    let taint = taints
        .iter()
        .filter(|t| t.effect != "PreferNoSchedule")
        .find(|t| !tolerations.iter().any(|toleration| tolerates(toleration, t)))?;
    Some((
        format!("node(s) had untolerated taint {}", shown(taint)),
        format!("Add a toleration for {} to spec.tolerations or remove the taint.", taint.key),
    ))
}

/// A taint that drives a running machine away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Eviction {
    /// The taint, e.g. `key=value:NoExecute`.
    pub taint: String,
    /// When the taint was set, if the node tells.
    pub added: Option<Timestamp>,
    /// Seconds for which the machine tolerates it; 0 if it does not.
    pub seconds: i64,
}

/// The taint with the effect NoExecute for which the machine has to leave first. Tolerations without a time tolerate
/// for ever; of several with a time the shortest counts, as in Kubernetes.
pub fn eviction(spec: &VirtualMachineSpec, class: Option<&VirtualMachineClassSpec>, node: &Node) -> Option<Eviction> {
    let tolerations = tolerations(spec, class);
    let taints = node.spec.iter().flat_map(|s| s.taints.iter().flatten()).filter(|t| t.effect == "NoExecute");
    let driving = taints.filter_map(|t| {
        let matching: Vec<&&Toleration> = tolerations.iter().filter(|toleration| tolerates(toleration, t)).collect();
        let seconds = match matching.iter().filter_map(|toleration| toleration.toleration_seconds).min() {
            None if matching.is_empty() => 0,
            None => return None,
            Some(seconds) => seconds.max(0),
        };
        Some(Eviction { taint: shown(t), added: t.time_added.as_ref().map(|time| time.0), seconds })
    });
    driving.min_by_key(|e| e.seconds)
}

fn tolerations<'a>(spec: &'a VirtualMachineSpec, class: Option<&'a VirtualMachineClassSpec>) -> Vec<&'a Toleration> {
    let class = class.and_then(|class| class.tolerations.as_ref());
    spec.tolerations.iter().chain(class).flatten().collect()
}

fn shown(taint: &Taint) -> String {
    match taint.value.as_deref().filter(|v| !v.is_empty()) {
        Some(value) => format!("{}={value}:{}", taint.key, taint.effect),
        None => format!("{}:{}", taint.key, taint.effect),
    }
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
