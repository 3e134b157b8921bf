//! Whether a machine may run on the one node. Pure. What a scheduler would say of a cluster with this node only:
//!
//! * [`node`]: node selectors, node affinity, taints; and taints that drive running machines away.
//! * [`company`]: affinity and anti-affinity to other machines, in both directions.
//! * [`spread`]: topology spread constraints.
//! * [`room`]: memory and processors.
//!
//! Preferences never keep a machine from the only node there is; they are told when it starts.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector as Selector;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::types::selector::LabelSelector;
use crate::types::{AffinityTerm, VirtualMachineClassSpec, VirtualMachineSpec};

pub mod company;
pub mod node;
pub mod room;
pub mod spread;

pub use node::Eviction;
pub use room::Amount;

/// Labels of anything.
pub type Labels = BTreeMap<String, String>;

/// A machine that has an instance on the node.
#[derive(Debug, Clone)]
pub struct Resident {
    /// `namespace/name`, for messages.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Labels of its namespace.
    pub namespace_labels: Labels,
    /// Its labels.
    pub labels: Labels,
    /// What its instance has, with what it costs around the guest.
    pub has: Amount,
    /// Required anti-affinity of the instance: nobody it names may join it.
    pub repels: Vec<AffinityTerm>,
    /// It is being stopped: it still takes room, but spreading does not count it.
    pub leaving: bool,
}

/// The machine that wants to start.
#[derive(Debug, Clone)]
pub struct Candidate<'a> {
    /// Its namespace.
    pub namespace: &'a str,
    /// Labels of its namespace.
    pub namespace_labels: &'a Labels,
    /// Its labels.
    pub labels: &'a Labels,
    /// Its spec.
    pub spec: &'a VirtualMachineSpec,
    /// Its class.
    pub class: Option<&'a VirtualMachineClassSpec>,
    /// What it wants, with what it costs around the guest.
    pub wants: Amount,
}

/// Where it wants to run.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The node.
    pub node: &'a Node,
    /// What all machines together may have.
    pub allocatable: Amount,
    /// Who is there.
    pub residents: &'a [Resident],
}

/// One thing in the way: the scheduler's words, and what would help.
pub type Obstacle = (String, String);

/// Everything that is in the way, in the words of a scheduler and with what would help; `None` if the machine fits.
pub fn obstacle(c: &Candidate<'_>, place: &Place<'_>) -> Option<String> {
    let mut all: Vec<Obstacle> = Vec::new();
    all.extend(node::selector(c, place.node));
    all.extend(node::affinity(c, place.node));
    all.extend(node::taint(c, place.node));
    all.extend(company::obstacle(c, place));
    all.extend(spread::obstacle(c, place));
    all.extend(room::obstacles(c.wants, place));
    if all.is_empty() {
        return None;
    }
    let what: Vec<String> = all.iter().map(|(what, _)| format!("1 {what}")).collect();
    let hints: Vec<&str> = all.iter().map(|(_, hint)| hint.as_str()).collect();
    Some(format!("0/1 nodes are available: {}. {}", what.join(", "), hints.join(" ")))
}

/// Preferences that the node does not meet, in words; the machine starts all the same.
pub fn unmet_preferences(c: &Candidate<'_>, place: &Place<'_>) -> Vec<String> {
    let mut all = node::unmet_preferences(c, place.node);
    all.extend(company::unmet_preferences(c, place));
    all.extend(spread::unmet_preferences(c, place));
    all
}

/// Whether labels satisfy a selector of the API; an unreadable one selects nothing.
fn selects(selector: &Selector, labels: &Labels) -> bool {
    LabelSelector::from_object(&json(selector)).is_ok_and(|s| s.matches(Some(&strings(labels))))
}

fn node_labels(node: &Node) -> Labels {
    node.metadata.labels.clone().unwrap_or_default()
}

fn json<T: Serialize>(value: &T) -> Value {
    // Objects that came from the API encode.
    serde_json::to_value(value).unwrap_or(Value::Null)
}

fn strings(labels: &Labels) -> Map<String, Value> {
    labels.iter().map(|(k, v)| (k.clone(), Value::String(v.clone()))).collect()
}

#[cfg(test)]
mod tests;
