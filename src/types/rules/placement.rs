//! Where a machine may run: node selector, affinity, spreading, tolerations. Checked as Kubernetes checks those of pods.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::{list, text};
use crate::types::field_error::FieldError;
use crate::types::selector::{self, LabelSelector};

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";
const TERM: &str = "virtualMachineAndPodAffinityTerm";

pub(super) fn check(new: &Value, errors: &mut Vec<FieldError>) {
    node_selector(new, errors);
    node_affinity(new, errors);
    for kind in ["virtualMachineAndPodAffinity", "virtualMachineAndPodAntiAffinity"] {
        for when in [REQUIRED, PREFERRED] {
            for (n, term) in list(new, &format!("/spec/affinity/{kind}/{when}")).iter().enumerate() {
                let path = format!("spec.affinity.{kind}.{when}[{n}]");
                match term.get(TERM) {
                    Some(inner) => affinity_term(inner, &format!("{path}.{TERM}"), errors),
                    None => affinity_term(term, &path, errors),
                }
            }
        }
    }
    spread(new, errors);
    tolerations(new, errors);
}

fn node_selector(new: &Value, errors: &mut Vec<FieldError>) {
    for (key, value) in new.pointer("/spec/nodeSelector").and_then(Value::as_object).into_iter().flatten() {
        if !selector::is_label_key(key) {
            errors.push(FieldError::invalid("spec.nodeSelector", &Value::from(key.as_str()), "not a valid label key"));
        }
        if !value.as_str().is_some_and(selector::is_label_value) {
            errors.push(FieldError::invalid(format!("spec.nodeSelector.{key}"), value, "not a valid label value"));
        }
    }
}

fn node_affinity(new: &Value, errors: &mut Vec<FieldError>) {
    let base = "spec.affinity.nodeAffinity";
    let Some(affinity) = new.pointer("/spec/affinity/nodeAffinity") else { return };
    if let Some(terms) = affinity.get(REQUIRED) {
        if list(terms, "/nodeSelectorTerms").is_empty() {
            let detail = "must have at least one node selector term";
            errors.push(FieldError::required(format!("{base}.{REQUIRED}.nodeSelectorTerms"), detail));
        }
        if let Err(error) = selector::node_selector_matches(terms, &Value::Null) {
            errors.push(FieldError::invalid(format!("{base}.{REQUIRED}"), terms, error));
        }
    }
    for (n, term) in list(affinity, &format!("/{PREFERRED}")).iter().enumerate() {
        let path = format!("{base}.{PREFERRED}[{n}]");
        let weight = term.get("weight").and_then(Value::as_i64);
        if !weight.is_some_and(|w| (1..=100).contains(&w)) {
            let given = term.get("weight").unwrap_or(&Value::Null);
            errors.push(FieldError::invalid(format!("{path}.weight"), given, "must be in the range 1-100"));
        }
        if let Some(preference) = term.get("preference")
            && let Err(error) = selector::node_term_matches(preference, &Value::Null)
        {
            errors.push(FieldError::invalid(format!("{path}.preference"), preference, error));
        }
    }
}

/// A term with a label selector and a topology key.
fn affinity_term(term: &Value, path: &str, errors: &mut Vec<FieldError>) {
    topology_key(term, path, errors);
    for field in ["labelSelector", "namespaceSelector"] {
        if let Some(labels) = term.get(field)
            && let Err(error) = LabelSelector::from_object(labels)
        {
            errors.push(FieldError::invalid(format!("{path}.{field}"), labels, error));
        }
    }
}

fn topology_key(term: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let key = text(term, "/topologyKey");
    if key.is_empty() {
        errors.push(FieldError::required(format!("{path}.topologyKey"), "a node label that tells places apart"));
    } else if !selector::is_label_key(key) {
        errors.push(FieldError::invalid(format!("{path}.topologyKey"), &Value::from(key), "not a valid label key"));
    }
}

fn spread(new: &Value, errors: &mut Vec<FieldError>) {
    let mut seen = HashSet::new();
    for (n, constraint) in list(new, "/spec/topologySpreadConstraints").iter().enumerate() {
        let path = format!("spec.topologySpreadConstraints[{n}]");
        affinity_term(constraint, &path, errors);
        let skew = constraint.get("maxSkew").unwrap_or(&Value::Null);
        if skew.as_i64().is_none_or(|s| s <= 0) {
            errors.push(FieldError::invalid(format!("{path}.maxSkew"), skew, "must be greater than zero"));
        }
        let action = text(constraint, "/whenUnsatisfiable");
        one_of(&format!("{path}.whenUnsatisfiable"), action, &["DoNotSchedule", "ScheduleAnyway"], errors);
        let key = text(constraint, "/topologyKey");
        if !seen.insert((key, action)) {
            let pair = json!(format!("{{{key}, {action}}}"));
            errors.push(FieldError::duplicate(format!("{path}.{{topologyKey, whenUnsatisfiable}}"), &pair));
        }
    }
}

fn tolerations(new: &Value, errors: &mut Vec<FieldError>) {
    for (n, toleration) in list(new, "/spec/tolerations").iter().enumerate() {
        let path = |field: &str| format!("spec.tolerations[{n}].{field}");
        let (key, operator, value) =
            (text(toleration, "/key"), text(toleration, "/operator"), text(toleration, "/value"));
        if !key.is_empty() && !selector::is_label_key(key) {
            errors.push(FieldError::invalid(path("key"), &Value::from(key), "not a valid label key"));
        }
        if key.is_empty() && operator != "Exists" {
            let detail = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            errors.push(FieldError::invalid(path("operator"), &Value::from(operator), detail));
        }
        match operator {
            "" | "Equal" if !selector::is_label_value(value) => {
                errors.push(FieldError::invalid(path("value"), &Value::from(value), "not a valid label value"));
            }
            "" | "Equal" => {}
            "Exists" if !value.is_empty() => {
                let detail = "value must be empty when `operator` is 'Exists'";
                errors.push(FieldError::invalid(path("operator"), &Value::from(value), detail));
            }
            "Exists" => {}
            other => one_of(&path("operator"), other, &["Equal", "Exists"], errors),
        }
        let effect = text(toleration, "/effect");
        if !effect.is_empty() {
            one_of(&path("effect"), effect, &["NoSchedule", "PreferNoSchedule", "NoExecute"], errors);
        }
        let seconds = toleration.get("tolerationSeconds").filter(|s| !s.is_null());
        if seconds.is_some() && effect != "NoExecute" {
            let detail = "effect must be 'NoExecute' when `tolerationSeconds` is set";
            errors.push(FieldError::invalid(path("effect"), &Value::from(effect), detail));
        }
    }
}

fn one_of(path: &str, given: &str, allowed: &[&str], errors: &mut Vec<FieldError>) {
    if !allowed.contains(&given) {
        let allowed: Vec<Value> = allowed.iter().map(|a| Value::from(*a)).collect();
        errors.push(FieldError::not_supported(path, &Value::from(given), &allowed));
    }
}
