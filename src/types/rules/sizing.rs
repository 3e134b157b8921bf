//! Sizing policies: which sizes a class allows its machines, and the core fraction it gives those that name none.

use serde_json::Value;

use super::{list, quantity, text};
use crate::types::quantity::format_bytes;

/// The core fraction of a machine that names none: of the policy for its number of cores, else `100%`.
///
/// # Errors
/// A text that says what to choose from: no policy for so many cores, or one whose fractions leave 100% out and that has
/// no default.
pub fn default_core_fraction(class: &Value, cores: i64) -> Result<String, String> {
    let policies = list(class, "/spec/sizingPolicies");
    if policies.is_empty() {
        return Ok("100%".to_owned());
    }
    let policy = policy_of(policies, cores).ok_or_else(|| outside(policies, cores))?;
    if let Some(default) = policy.get("defaultCoreFraction").and_then(fraction) {
        return Ok(default);
    }
    let allowed = fractions(policy);
    if allowed.is_empty() || allowed.iter().any(|f| f == "100%") {
        return Ok("100%".to_owned());
    }
    Err(format!("spec.cpu.coreFraction must be given; allowed are {}", allowed.join(", ")))
}

/// Why a machine does not fit its class, in one sentence that names every failed check; `None` if it fits. A machine
/// without a core fraction is checked as if it had the default one.
pub fn problem(class: &Value, machine: &Value) -> Option<String> {
    let policies = list(class, "/spec/sizingPolicies");
    if policies.is_empty() {
        return None;
    }
    let cores = machine.pointer("/spec/cpu/cores").and_then(Value::as_i64)?;
    let clauses = match policy_of(policies, cores) {
        None => vec![outside(policies, cores)],
        Some(policy) => [
            core_step(policy, cores),
            core_fraction(policy, text(machine, "/spec/cpu/coreFraction")),
            memory_range(policy, machine),
            memory_step(policy, machine),
            memory_per_core(policy, machine, cores),
        ]
        .into_iter()
        .flatten()
        .collect(),
    };
    if clauses.is_empty() {
        return None;
    }
    let name = text(class, "/metadata/name");
    Some(format!(
        "VirtualMachine does not match the sizing policy of VirtualMachineClass \"{name}\": {}",
        clauses.join("; ")
    ))
}

/// Least and most cores of a policy.
pub(super) fn range(policy: &Value) -> Option<(i64, i64)> {
    let bound = |name: &str| policy.get("cores")?.get(name)?.as_i64();
    Some((bound("min")?, bound("max")?))
}

fn policy_of(policies: &[Value], cores: i64) -> Option<&Value> {
    policies.iter().find(|p| range(p).is_some_and(|(min, max)| (min..=max).contains(&cores)))
}

fn outside(policies: &[Value], cores: i64) -> String {
    let ranges: Vec<String> = policies.iter().filter_map(range).map(|(min, max)| format!("{min} to {max}")).collect();
    format!("spec.cpu.cores is {cores}, allowed are {}", ranges.join(", "))
}

/// A fraction as `N%` or `Auto`, from `10`, `"10%"` or `"Auto"`.
pub(super) fn fraction(value: &Value) -> Option<String> {
    match value {
        Value::Number(n) => Some(format!("{n}%")),
        Value::String(text) => Some(text.clone()),
        _ => None,
    }
}

pub(super) fn fractions(policy: &Value) -> Vec<String> {
    list(policy, "/coreFractions").iter().filter_map(fraction).collect()
}

fn core_step(policy: &Value, cores: i64) -> Option<String> {
    let (min, max) = range(policy)?;
    let step = policy.pointer("/cores/step").and_then(Value::as_i64).filter(|s| *s > 0)?;
    let over = (cores - min) % step;
    if over == 0 || cores == max {
        return None;
    }
    let (lower, upper) = (cores - over, (cores - over + step).min(max));
    Some(format!("spec.cpu.cores is {cores}, the nearest allowed are {lower} and {upper}"))
}

fn core_fraction(policy: &Value, given: &str) -> Option<String> {
    let allowed = fractions(policy);
    if given.is_empty() || allowed.is_empty() || allowed.iter().any(|f| f == given) {
        return None;
    }
    if given == "Auto" && policy.get("defaultCoreFraction").and_then(fraction).as_deref() == Some("Auto") {
        return None;
    }
    Some(format!("spec.cpu.coreFraction is {given}, allowed are {}", allowed.join(", ")))
}

fn memory_range(policy: &Value, machine: &Value) -> Option<String> {
    let size = quantity(machine, "/spec/memory/size")?;
    let (min, max) = (quantity(policy, "/memory/min"), quantity(policy, "/memory/max"));
    if min.is_none_or(|min| size >= min) && max.is_none_or(|max| size <= max) {
        return None;
    }
    Some(format!("spec.memory.size is {}, allowed is {}", format_bytes(size), bounds(min, max)))
}

fn bounds(min: Option<u64>, max: Option<u64>) -> String {
    match (min, max) {
        (Some(min), Some(max)) => format!("{} to {}", format_bytes(min), format_bytes(max)),
        (Some(min), None) => format!("at least {}", format_bytes(min)),
        (None, Some(max)) => format!("at most {}", format_bytes(max)),
        (None, None) => "anything".to_owned(),
    }
}

fn memory_step(policy: &Value, machine: &Value) -> Option<String> {
    let size = quantity(machine, "/spec/memory/size")?;
    let max = quantity(policy, "/memory/max")?;
    let step = quantity(policy, "/memory/step").filter(|s| *s > 0)?;
    let min = quantity(policy, "/memory/min").unwrap_or(0);
    if size < min || size > max {
        return None;
    }
    let (lower, upper) = off_grid(size, min, max, step)?;
    Some(format!(
        "spec.memory.size is {}, the nearest allowed are {} and {}",
        format_bytes(size),
        format_bytes(lower),
        format_bytes(upper)
    ))
}

/// The grid points around a value that is on none.
fn off_grid(value: u64, min: u64, max: u64, step: u64) -> Option<(u64, u64)> {
    let over = value.checked_sub(min)? % step;
    (over != 0).then(|| (value - over, (value - over).saturating_add(step).min(max)))
}

fn memory_per_core(policy: &Value, machine: &Value, cores: i64) -> Option<String> {
    let size = quantity(machine, "/spec/memory/size")?;
    let cores = u64::try_from(cores).ok().filter(|n| *n > 0)?;
    let (min, max) = (quantity(policy, "/memory/perCore/min"), quantity(policy, "/memory/perCore/max"));
    if min.is_none() && max.is_none() {
        return None;
    }
    let each = size / cores;
    // Whole sizes are compared, so that no division is rounded.
    let enough = min.is_none_or(|min| size >= min.saturating_mul(cores));
    let allowed = max.is_none_or(|max| size <= max.saturating_mul(cores));
    if !enough || !allowed {
        return Some(format!(
            "spec.memory.size is {} for each of {cores} cores, allowed is {} for each",
            format_bytes(each),
            bounds(min, max)
        ));
    }
    let (step, max) = (quantity(policy, "/memory/step").filter(|s| *s > 0)?, max?);
    let (lower, upper) = off_grid(each, min.unwrap_or(0), max, step)?;
    Some(format!(
        "spec.memory.size is {} for each of {cores} cores, the nearest allowed are {} and {}",
        format_bytes(each),
        format_bytes(lower),
        format_bytes(upper)
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn class() -> Value {
        json!({"metadata": {"name": "c"}, "spec": {"sizingPolicies": [
            {"cores": {"min": 1, "max": 4}, "coreFractions": [5, 10, 100],
             "memory": {"min": "512Mi", "max": "8Gi", "step": "512Mi"}},
            {"cores": {"min": 5, "max": 16, "step": 2}, "coreFractions": [20, 50], "defaultCoreFraction": 50,
             "memory": {"perCore": {"min": "1Gi", "max": "2Gi"}, "step": "512Mi"}},
            {"cores": {"min": 17, "max": 32}, "coreFractions": [30]},
        ]}})
    }

    fn machine(cores: i64, fraction: &str, memory: &str) -> Value {
        json!({"spec": {"cpu": {"cores": cores, "coreFraction": fraction}, "memory": {"size": memory}}})
    }

    #[test]
    fn each_failed_check_is_a_clause() {
        for (machine, clauses) in [
            (machine(1, "5%", "512Mi"), vec![]),
            (machine(4, "100%", "8Gi"), vec![]),
            (machine(40, "5%", "1Gi"), vec!["spec.cpu.cores is 40, allowed are 1 to 4, 5 to 16, 17 to 32"]),
            (machine(2, "20%", "1Gi"), vec!["spec.cpu.coreFraction is 20%, allowed are 5%, 10%, 100%"]),
            (machine(2, "5%", "256Mi"), vec!["spec.memory.size is 256Mi, allowed is 512Mi to 8Gi"]),
            (machine(2, "5%", "700Mi"), vec!["spec.memory.size is 700Mi, the nearest allowed are 512Mi and 1Gi"]),
            (machine(1, "7%", "9Gi"), vec!["coreFraction is 7%", "spec.memory.size is 9Gi, allowed is 512Mi to 8Gi"]),
            (machine(7, "50%", "7Gi"), vec![]),
            (machine(16, "50%", "16Gi"), vec![]),
            (machine(6, "50%", "9Gi"), vec!["spec.cpu.cores is 6, the nearest allowed are 5 and 7"]),
            (machine(7, "50%", "6Gi"), vec!["for each of 7 cores, allowed is 1Gi to 2Gi for each"]),
            (machine(5, "50%", "5632Mi"), vec!["for each of 5 cores, the nearest allowed are 1Gi and 1536Mi"]),
            (machine(20, "30%", "1Gi"), vec![]),
            (json!({"spec": {"cpu": {"cores": 20}, "memory": {"size": "1Gi"}}}), vec![]),
        ] {
            let found = problem(&class(), &machine);
            match (clauses.as_slice(), found) {
                ([], found) => assert_eq!(found, None, "{machine}"),
                (clauses, Some(found)) => {
                    let frame = "VirtualMachine does not match the sizing policy of VirtualMachineClass \"c\": ";
                    assert!(found.starts_with(frame), "{found}");
                    assert_eq!(found.split("; ").count(), clauses.len(), "{found}");
                    for clause in clauses {
                        assert!(found.contains(clause), "{found}");
                    }
                }
                (_, None) => panic!("{machine} passes"),
            }
        }
        assert_eq!(problem(&json!({"spec": {}}), &machine(99, "1%", "1")), None);
    }

    #[test]
    fn defaults() {
        assert_eq!(default_core_fraction(&json!({"spec": {}}), 3), Ok("100%".into()));
        assert_eq!(default_core_fraction(&class(), 3), Ok("100%".into()));
        assert_eq!(default_core_fraction(&class(), 8), Ok("50%".into()));
        assert!(default_core_fraction(&class(), 20).is_err_and(|e| e.contains("30%")));
        assert!(default_core_fraction(&class(), 64).is_err_and(|e| e.contains("allowed are 1 to 4")));
        let auto =
            json!({"spec": {"sizingPolicies": [{"cores": {"min": 1, "max": 4}, "defaultCoreFraction": "Auto"}]}});
        assert_eq!(default_core_fraction(&auto, 1), Ok("Auto".into()));
    }
}
