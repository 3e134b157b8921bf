//! Changes of a running machine's spec: what takes effect at once and what waits for a restart. Pure.

use serde_json::Value;

use super::gather::Gathered;
use super::power::exists;
use crate::types::diff::{Effect, Profile, changes, restart_entries, strongest};

/// What the spec's changes come to.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Pending {
    /// Entries of `status.restartAwaitingChanges`.
    pub entries: Vec<Value>,
    /// New note for the host: all changes took effect without a restart.
    pub note: Option<String>,
}

impl Pending {
    /// Something waits for a restart.
    pub fn waits(&self) -> bool {
        !self.entries.is_empty()
    }
}

/// Compares the spec the instance was started from with the spec as it is. A set with one change that needs a
/// restart is applied as a whole by the restart.
pub fn pending(g: &Gathered) -> Pending {
    let note = g.observation.note.as_deref().filter(|_| exists(&g.observation.state));
    let Some(current) = note.and_then(|n| serde_json::from_str::<Value>(n).ok()) else { return Pending::default() };
    // A spec that does not encode cannot have come from the API.
    let Ok(desired) = serde_json::to_value(&g.vm.spec) else { return Pending::default() };
    compare(&current, &desired)
}

fn compare(current: &Value, desired: &Value) -> Pending {
    let found = changes(current, desired, Profile::Guide);
    match strongest(&found) {
        Effect::Restart => Pending { entries: restart_entries(&found), note: None },
        Effect::Immediate => Pending { entries: vec![], note: Some(desired.to_string()) },
        Effect::None => Pending::default(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn spec(cores: i64, policy: &str) -> Value {
        json!({"runPolicy": policy, "cpu": {"cores": cores}, "memory": {"size": "1Gi"}, "blockDeviceRefs": []})
    }

    #[test]
    fn cores_wait_and_run_policy_does_not() {
        let p = compare(&spec(1, "Manual"), &spec(2, "Manual"));
        let entry = json!({"currentValue": 1, "desiredValue": 2, "operation": "replace", "path": "cpu.cores"});
        assert_eq!((p.entries, p.note), (vec![entry], None));
        let p = compare(&spec(1, "Manual"), &spec(1, "AlwaysOn"));
        assert!(!p.waits());
        assert_eq!(p.note, Some(spec(1, "AlwaysOn").to_string()));
        // Together they wait; only what needs the restart is listed.
        let p = compare(&spec(1, "Manual"), &spec(2, "AlwaysOn"));
        assert_eq!((p.entries.len(), p.note), (1, None));
        assert_eq!(compare(&spec(1, "Manual"), &spec(1, "Manual")), Pending::default());
    }
}
