//! Affinity and anti-affinity between machines. A machine that runs may keep others away, too.

use super::{Candidate, Labels, Obstacle, Place, Resident, node_labels, selects};
use crate::types::{AffinityTerm, MachineAndPodAffinity};

/// A machine as a term sees it.
#[derive(Clone, Copy)]
struct Seen<'a> {
    namespace: &'a str,
    namespace_labels: &'a Labels,
    labels: &'a Labels,
}

impl<'a> From<&'a Resident> for Seen<'a> {
    fn from(r: &'a Resident) -> Self {
        Self { namespace: &r.namespace, namespace_labels: &r.namespace_labels, labels: &r.labels }
    }
}

impl<'a> From<&Candidate<'a>> for Seen<'a> {
    fn from(c: &Candidate<'a>) -> Self {
        Self { namespace: c.namespace, namespace_labels: c.namespace_labels, labels: c.labels }
    }
}

/// What required terms, the candidate's and the residents', have against it.
pub fn obstacle(c: &Candidate<'_>, place: &Place<'_>) -> Option<Obstacle> {
    let labels = node_labels(place.node);
    let me = Seen::from(c);
    let affinity = c.spec.affinity.as_ref();
    let away = required(affinity.and_then(|a| a.virtual_machine_and_pod_anti_affinity.as_ref()));
    let repelled_by: Vec<&str> = place
        .residents
        .iter()
        .filter(|r| away.iter().any(|t| labels.contains_key(&t.topology_key) && names(t, me, Seen::from(*r))))
        .map(|r| r.name.as_str())
        .collect();
    if !repelled_by.is_empty() {
        return Some((
            "node(s) didn't match the machine's anti-affinity rules".into(),
            format!(
                "spec.affinity.virtualMachineAndPodAntiAffinity keeps it from {}: it starts when they have stopped or \
                 their labels change.",
                listed(&repelled_by)
            ),
        ));
    }
    let unwelcome: Vec<&str> = place
        .residents
        .iter()
        .filter(|r| r.repels.iter().any(|t| labels.contains_key(&t.topology_key) && names(t, Seen::from(*r), me)))
        .map(|r| r.name.as_str())
        .collect();
    if !unwelcome.is_empty() {
        return Some((
            "node(s) didn't satisfy existing machines' anti-affinity rules".into(),
            format!("The anti-affinity of {} keeps it away: it starts when they have stopped.", listed(&unwelcome)),
        ));
    }
    let near = required(affinity.and_then(|a| a.virtual_machine_and_pod_affinity.as_ref()));
    if near.is_empty() {
        return None;
    }
    let what = "node(s) didn't match the machine's affinity rules".to_owned();
    if let Some(term) = near.iter().find(|t| !labels.contains_key(&t.topology_key)) {
        let key = &term.topology_key;
        return Some((what, format!("The node has no label {key}, the topologyKey of an affinity term: set it.")));
    }
    // As in Kubernetes, only a machine that all terms name is company, and the first of a group that wants to be
    // together may start alone.
    let all_name = |other: Seen<'_>| near.iter().all(|t| names(t, me, other));
    let company = place.residents.iter().any(|r| all_name(Seen::from(r))) || all_name(me);
    (!company).then(|| {
        let hint = "It starts when a machine that spec.affinity.virtualMachineAndPodAffinity names is running.";
        (what, hint.to_owned())
    })
}

/// Preferred terms that the node does not meet.
pub fn unmet_preferences(c: &Candidate<'_>, place: &Place<'_>) -> Vec<String> {
    let labels = node_labels(place.node);
    let me = Seen::from(c);
    let affinity = c.spec.affinity.as_ref();
    let met = |t: &AffinityTerm| {
        labels.contains_key(&t.topology_key) && place.residents.iter().any(|r| names(t, me, Seen::from(r)))
    };
    let near = affinity.and_then(|a| a.virtual_machine_and_pod_affinity.as_ref());
    let away = affinity.and_then(|a| a.virtual_machine_and_pod_anti_affinity.as_ref());
    let mut all = Vec::new();
    for (terms, wanted, words) in [(near, true, "the company"), (away, false, "the absence")] {
        let preferred = terms.and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_ref());
        for term in preferred.into_iter().flatten() {
            if met(&term.virtual_machine_and_pod_affinity_term) != wanted {
                all.push(format!("{words} of certain machines (weight {})", term.weight));
            }
        }
    }
    all
}

fn required(terms: Option<&MachineAndPodAffinity>) -> &[AffinityTerm] {
    terms.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_deref()).unwrap_or_default()
}

/// Names of a few and the number of the rest.
pub fn listed(names: &[&str]) -> String {
    const SHOWN: usize = 3;
    let mut text = names.iter().take(SHOWN).copied().collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN {
        text.push_str(&format!(" and {} more", names.len() - SHOWN));
    }
    text
}

/// Whether a term of `own` names `other`.
fn names(term: &AffinityTerm, own: Seen<'_>, other: Seen<'_>) -> bool {
    let namespaces = term.namespaces.as_deref().unwrap_or_default();
    let in_scope = match &term.namespace_selector {
        None if namespaces.is_empty() => own.namespace == other.namespace,
        selector => {
            namespaces.iter().any(|n| n == other.namespace)
                || selector.as_ref().is_some_and(|s| selects(s, other.namespace_labels))
        }
    };
    let same = |keys: &Option<Vec<String>>, wanted: bool| {
        keys.iter()
            .flatten()
            .filter_map(|k| own.labels.get(k).map(|v| (k, v)))
            .all(|(k, v)| (other.labels.get(k) == Some(v)) == wanted)
    };
    // No selector selects nobody, an empty one everybody.
    let selected = term.label_selector.as_ref().is_some_and(|s| selects(s, other.labels));
    in_scope && selected && same(&term.match_label_keys, true) && same(&term.mismatch_label_keys, false)
}
