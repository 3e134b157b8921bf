//! Rules of VirtualMachineClass.

use serde_json::Value;

use super::sizing::{fraction, fractions, range};
use super::{list, text};
use crate::types::field_error::FieldError;

pub(super) fn validate(old: Option<&Value>, new: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if let Some(old) = old
        && old.pointer("/spec/cpu") != new.pointer("/spec/cpu")
    {
        errors.push(FieldError::rule("spec.cpu", ".spec.cpu is immutable; make a new class"));
    }
    cpu(new, &mut errors);
    policies(new, &mut errors);
    errors
}

fn cpu(new: &Value, errors: &mut Vec<FieldError>) {
    let (needed, allowed, message): (&[&str], &[&str], _) = match text(new, "/spec/cpu/type") {
        "Host" | "HostPassthrough" => (&[], &[], "HostPassthrough and Host cannot have model, features or discovery"),
        "Discovery" => (&[], &["discovery"], "Discovery cannot have model or features"),
        "Model" => (&["model"], &["model"], "Model requires model and cannot have features or discovery"),
        "Features" => (&["features"], &["features"], "Features requires features and cannot have model or discovery"),
        _ => return,
    };
    let has = |field: &str| new.pointer(&format!("/spec/cpu/{field}")).is_some();
    let excess = ["model", "features", "discovery"].into_iter().any(|f| has(f) && !allowed.contains(&f));
    if excess || !needed.iter().all(|f| has(f)) {
        errors.push(FieldError::rule("spec.cpu", message));
    }
}

fn policies(new: &Value, errors: &mut Vec<FieldError>) {
    let policies = list(new, "/spec/sizingPolicies");
    for (n, policy) in policies.iter().enumerate() {
        let path = |field: &str| format!("spec.sizingPolicies[{n}].{field}");
        let Some((min, max)) = range(policy) else {
            errors.push(FieldError::required(path("cores"), "a policy speaks of a range of cores: min and max"));
            continue;
        };
        if max <= min {
            errors.push(FieldError::rule(path("cores"), "The maximum must be greater than the minimum"));
        }
        if policy.pointer("/cores/step").and_then(Value::as_i64).is_some_and(|step| max <= step) {
            errors.push(FieldError::rule(path("cores"), "The maximum must be greater than the step"));
        }
        let overlapping = policies[..n]
            .iter()
            .enumerate()
            .find(|(_, other)| range(other).is_some_and(|(low, high)| min <= high && low <= max));
        if let Some((other, _)) = overlapping {
            let cores = policy.get("cores").unwrap_or(&Value::Null);
            let detail = format!("the range overlaps with that of spec.sizingPolicies[{other}]");
            errors.push(FieldError::invalid(path("cores"), cores, detail));
        }
        default_fraction(policy, &path("defaultCoreFraction"), errors);
    }
}

fn default_fraction(policy: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let Some(given) = policy.get("defaultCoreFraction") else { return };
    if given == "Auto" {
        return;
    }
    // Upstream's newer version has texts such as "10%", this one has numbers.
    let percent = given.as_i64().filter(|n| (1..=100).contains(n));
    let Some(default) = percent.and_then(|_| fraction(given)) else {
        let detail = "The default core fraction must be a number from 1 to 100, or 'Auto'.";
        errors.push(FieldError::invalid(path, given, detail));
        return;
    };
    let allowed = fractions(policy);
    if !allowed.is_empty() && !allowed.contains(&default) {
        let detail = format!("must be among coreFractions: {}", allowed.join(", "));
        errors.push(FieldError::invalid(path, given, detail));
    }
}
