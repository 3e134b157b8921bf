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
        errors.push(FieldError::forbidden("spec.cpu", ".spec.cpu is immutable; make a new class"));
    }
    cpu(new, &mut errors);
    policies(new, &mut errors);
    errors
}

fn cpu(new: &Value, errors: &mut Vec<FieldError>) {
    let type_ = text(new, "/spec/cpu/type");
    let (needed, allowed): (Option<&str>, &[&str]) = match type_ {
        "Model" => (Some("model"), &["model"]),
        "Features" => (Some("features"), &["features"]),
        "Discovery" => (None, &["discovery"]),
        _ => (None, &[]),
    };
    let has = |field: &str| new.pointer(&format!("/spec/cpu/{field}")).is_some();
    if let Some(field) = needed.filter(|f| !has(f)) {
        errors.push(FieldError::required(format!("spec.cpu.{field}"), format!("the type is {type_}")));
    }
    for field in ["model", "features", "discovery"] {
        if has(field) && !allowed.contains(&field) {
            let detail = format!("a class of type {type_} has no {field}");
            errors.push(FieldError::forbidden(format!("spec.cpu.{field}"), detail));
        }
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
            let detail = "the maximum must be greater than the minimum";
            errors.push(FieldError::invalid(path("cores.max"), &Value::from(max), detail));
        }
        if let Some(step) = policy.pointer("/cores/step").and_then(Value::as_i64).filter(|step| max <= *step) {
            let detail = "the maximum must be greater than the step";
            errors.push(FieldError::invalid(path("cores.step"), &Value::from(step), detail));
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
    let Some(default) = fraction(given).filter(|f| f != "Auto") else { return };
    let percent = default.strip_suffix('%').and_then(|n| n.parse::<i64>().ok());
    if !percent.is_some_and(|n| (1..=100).contains(&n)) {
        errors.push(FieldError::invalid(path, given, "must be a number from 1 to 100, or Auto"));
        return;
    }
    let allowed = fractions(policy);
    if !allowed.is_empty() && !allowed.contains(&default) {
        let detail = format!("must be among coreFractions: {}", allowed.join(", "));
        errors.push(FieldError::invalid(path, given, detail));
    }
}
