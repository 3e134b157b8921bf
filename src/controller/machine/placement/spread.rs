//! Topology spread constraints with one node. There is one domain, the node's own value of the topology key, so the
//! least filled domain is the fullest as well, unless `minDomains` says that others should exist: those are empty.
//! (Upstream's definition of machines has no `minDomains` and no `matchLabelKeys`; a newer one may.)

use k8s_openapi::api::core::v1::TopologySpreadConstraint;

use super::{Candidate, Labels, Obstacle, Place, node_labels, selects};

/// A constraint that a start would break.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Broken {
    /// The node is in no domain at all.
    NoLabel,
    /// More machines here than in the emptiest domain, by so many.
    Skew(i64),
}

/// The first constraint with `DoNotSchedule` that is in the way.
pub fn obstacle(c: &Candidate<'_>, place: &Place<'_>) -> Option<Obstacle> {
    let hard = constraints(c).filter(|s| s.when_unsatisfiable != "ScheduleAnyway");
    let (constraint, broken) = hard.filter_map(|s| Some((s, broken(s, c, place)?))).next()?;
    let key = &constraint.topology_key;
    Some(match broken {
        Broken::NoLabel => (
            "node(s) didn't match pod topology spread constraints (missing required label)".into(),
            format!("Label the node with {key}, the topologyKey of spec.topologySpreadConstraints."),
        ),
        Broken::Skew(skew) => (
            "node(s) didn't match pod topology spread constraints".into(),
            format!(
                "spec.topologySpreadConstraints wants {} domains of {key} and at most {} machines more in one than in \
                 another; there is one, and it would have {skew} more. Stop machines that the constraint counts, or \
                 change maxSkew or minDomains.",
                constraint.min_domains.unwrap_or(1),
                constraint.max_skew
            ),
        ),
    })
}

/// Constraints with `ScheduleAnyway` that a start breaks.
pub fn unmet_preferences(c: &Candidate<'_>, place: &Place<'_>) -> Vec<String> {
    constraints(c)
        .filter(|s| s.when_unsatisfiable == "ScheduleAnyway" && broken(s, c, place).is_some())
        .map(|s| format!("to be spread over {}", s.topology_key))
        .collect()
}

fn constraints<'a>(c: &Candidate<'a>) -> impl Iterator<Item = &'a TopologySpreadConstraint> + use<'a> {
    c.spec.topology_spread_constraints.iter().flatten()
}

fn broken(constraint: &TopologySpreadConstraint, c: &Candidate<'_>, place: &Place<'_>) -> Option<Broken> {
    if !node_labels(place.node).contains_key(&constraint.topology_key) {
        return Some(Broken::NoLabel);
    }
    let counted = |namespace: &str, labels: &Labels| {
        let same = |key: &String| c.labels.get(key).is_none_or(|own| labels.get(key) == Some(own));
        namespace == c.namespace
            && constraint.label_selector.as_ref().is_some_and(|s| selects(s, labels))
            && constraint.match_label_keys.iter().flatten().all(same)
    };
    let here = place.residents.iter().filter(|r| !r.leaving && counted(&r.namespace, &r.labels)).count();
    let here = i64::try_from(here).unwrap_or(i64::MAX);
    let joining = i64::from(counted(c.namespace, c.labels));
    let least = if constraint.min_domains.unwrap_or(1) > 1 { 0 } else { here };
    let skew = here.saturating_add(joining).saturating_sub(least);
    (skew > i64::from(constraint.max_skew)).then_some(Broken::Skew(skew))
}
