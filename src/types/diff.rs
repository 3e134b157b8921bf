//! What an edit changes and what each change costs: one table, field path to effect. The editor's review, the
//! reconciler's `status.restartAwaitingChanges` and the waiting-changes view all read this.
//!
//! Semantics follow the controllers' comparators: empty and default are equal, entries name a path relative to
//! `spec`, lists of block devices are compared by (kind, name).

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// What happened to a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Operation {
    /// It was empty and is set.
    Add,
    /// It was set and is empty.
    Remove,
    /// It has another value.
    Replace,
}

impl Operation {
    /// As in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::Remove => "remove",
            Self::Replace => "replace",
        }
    }
}

/// When a change takes effect on a running machine; the order is by cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Effect {
    /// At once, and nothing of the machine changes.
    None,
    /// At once.
    Immediate,
    /// At the next restart.
    Restart,
}

/// Which release's change rules apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// The user guide: every change of the spec but run policy and disruptions needs a restart. The standalone
    /// host's rules.
    Guide,
    /// Current clusters (community edition): block devices, networks and USB devices change at once. For previews
    /// against a cluster; what waits there is read from the object's status.
    Current,
}

/// One changed field.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// Path below `spec`, for example `cpu.cores` or `blockDeviceRefs.1`.
    pub path: String,
    /// What happened.
    pub operation: Operation,
    /// Before; absent for `add`.
    pub current_value: Option<Value>,
    /// After; absent for `remove`.
    pub desired_value: Option<Value>,
    /// When it takes effect.
    pub effect: Effect,
}

impl Change {
    /// The entry of `status.restartAwaitingChanges`.
    pub fn to_entry(&self) -> Value {
        let mut entry = Map::new();
        if let Some(v) = &self.current_value {
            entry.insert("currentValue".into(), v.clone());
        }
        if let Some(v) = &self.desired_value {
            entry.insert("desiredValue".into(), v.clone());
        }
        entry.insert("operation".into(), self.operation.as_str().into());
        entry.insert("path".into(), self.path.clone().into());
        Value::Object(entry)
    }
}

/// The strongest effect of the changes.
pub fn strongest(changes: &[Change]) -> Effect {
    changes.iter().map(|c| c.effect).max().unwrap_or(Effect::None)
}

/// Entries of `status.restartAwaitingChanges`: what needs a restart, sorted by path.
pub fn restart_entries(changes: &[Change]) -> Vec<Value> {
    changes.iter().filter(|c| c.effect == Effect::Restart).map(Change::to_entry).collect()
}

/// Rows of the table: spec field, path in entries, effect by profile, default.
struct Rule {
    field: &'static str,
    path: &'static str,
    guide: Effect,
    current: Effect,
    default: fn() -> Value,
}

const fn rule(field: &'static str, guide: Effect, current: Effect, default: fn() -> Value) -> Rule {
    Rule { field, path: field, guide, current, default }
}

fn null() -> Value {
    Value::Null
}

static RULES: &[Rule] = &[
    rule("virtualMachineClassName", Effect::Restart, Effect::Restart, null),
    rule("runPolicy", Effect::Immediate, Effect::Immediate, || json!("AlwaysOnUnlessStoppedManually")),
    Rule {
        field: "virtualMachineIPAddressName",
        path: "virtualMachineIPAddress",
        guide: Effect::Restart,
        current: Effect::Restart,
        default: null,
    },
    rule("topologySpreadConstraints", Effect::Restart, Effect::Restart, null),
    rule("affinity", Effect::Restart, Effect::Restart, null),
    rule("nodeSelector", Effect::Restart, Effect::Restart, null),
    rule("priorityClassName", Effect::Restart, Effect::Restart, null),
    rule("tolerations", Effect::Restart, Effect::Restart, null),
    rule("terminationGracePeriodSeconds", Effect::Restart, Effect::Restart, || json!(60)),
    rule("enableParavirtualization", Effect::Restart, Effect::Restart, || json!(true)),
    rule("osType", Effect::Restart, Effect::Restart, || json!("Generic")),
    rule("bootloader", Effect::Restart, Effect::Restart, || json!("BIOS")),
    rule("usbDevices", Effect::Restart, Effect::Immediate, null),
    rule("gpus", Effect::Restart, Effect::Restart, null),
    rule("liveMigrationPolicy", Effect::Immediate, Effect::Immediate, || json!("PreferSafe")),
];

/// Fields with a comparator of their own.
const SPECIAL: &[&str] = &["cpu", "memory", "blockDeviceRefs", "provisioning", "networks", "disruptions"];

/// Changes from one VirtualMachine spec to another, sorted by path as plain strings. Fields that the table does
/// not know count as `Restart` (a newer spec must never look as if it had taken effect).
pub fn changes(current: &Value, desired: &Value, profile: Profile) -> Vec<Change> {
    let pick = |guide, now| if profile == Profile::Guide { guide } else { now };
    let mut out = Vec::new();
    for rule in RULES {
        leaf(
            &mut out,
            rule.path,
            field(current, rule.field),
            field(desired, rule.field),
            &(rule.default)(),
            pick(rule.guide, rule.current),
        );
    }
    leaf(
        &mut out,
        "disruptions.restartApprovalMode",
        field(field(current, "disruptions"), "restartApprovalMode"),
        field(field(desired, "disruptions"), "restartApprovalMode"),
        &json!("Manual"),
        Effect::None,
    );
    cpu(&mut out, field(current, "cpu"), field(desired, "cpu"));
    leaf(
        &mut out,
        "memory.size",
        field(field(current, "memory"), "size"),
        field(field(desired, "memory"), "size"),
        &Value::Null,
        Effect::Restart,
    );
    block_devices(
        &mut out,
        field(current, "blockDeviceRefs"),
        field(desired, "blockDeviceRefs"),
        pick(Effect::Restart, Effect::Immediate),
    );
    provisioning(&mut out, field(current, "provisioning"), field(desired, "provisioning"), profile);
    networks(&mut out, field(current, "networks"), field(desired, "networks"), profile);
    for name in unknown_fields(current, desired) {
        leaf(&mut out, &name, field(current, &name), field(desired, &name), &Value::Null, Effect::Restart);
    }
    out.sort_by(|a, b| a.path.cmp(&b.path));
    out
}

fn unknown_fields(current: &Value, desired: &Value) -> Vec<String> {
    let known = |name: &str| SPECIAL.contains(&name) || RULES.iter().any(|r| r.field == name);
    let mut names: Vec<String> = [current, desired]
        .into_iter()
        .filter_map(Value::as_object)
        .flat_map(|o| o.keys())
        .filter(|name| !known(name))
        .cloned()
        .collect();
    names.sort();
    names.dedup();
    names
}

fn field<'a>(value: &'a Value, name: &str) -> &'a Value {
    value.get(name).unwrap_or(&Value::Null)
}

/// Empty in the comparators' sense: absent, `""`, 0, no elements. Booleans are never empty.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(_) => false,
        Value::Number(n) => n.as_f64() == Some(0.0),
        Value::String(s) => s.is_empty(),
        Value::Array(a) => a.is_empty(),
        Value::Object(o) => o.is_empty(),
    }
}

fn equal(a: &Value, b: &Value, path: &str) -> bool {
    if path == "memory.size"
        && let (Some(a), Some(b)) = (a.as_str(), b.as_str())
        && let (Some(a), Some(b)) = (super::quantity::parse_bytes(a), super::quantity::parse_bytes(b))
    {
        return a == b;
    }
    same(a, b)
}

/// Equal without regard to the order of keys or to fields that are absent on one side and null on the other.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Object(x), Value::Object(y)) => {
            x.iter().all(|(k, v)| same(v, y.get(k).unwrap_or(&Value::Null)))
                && y.iter().all(|(k, v)| x.contains_key(k) || v.is_null())
        }
        (Value::Array(x), Value::Array(y)) => x.len() == y.len() && x.iter().zip(y).all(|(a, b)| same(a, b)),
        _ => a == b,
    }
}

fn leaf(out: &mut Vec<Change>, path: &str, current: &Value, desired: &Value, default: &Value, effect: Effect) {
    let effective = |v: &Value| if is_empty(v) { default.clone() } else { v.clone() };
    if equal(&effective(current), &effective(desired), path) {
        return;
    }
    push(out, path, current, desired, effect);
}

fn push(out: &mut Vec<Change>, path: &str, current: &Value, desired: &Value, effect: Effect) {
    let operation = match (is_empty(current), is_empty(desired)) {
        (true, true) => return,
        (true, false) => Operation::Add,
        (false, true) => Operation::Remove,
        (false, false) => Operation::Replace,
    };
    out.push(Change {
        path: path.to_owned(),
        operation,
        current_value: (operation != Operation::Add).then(|| current.clone()),
        desired_value: (operation != Operation::Remove).then(|| desired.clone()),
        effect,
    });
}

/// Cores and fraction; both changed give one entry with the whole objects.
fn cpu(out: &mut Vec<Change>, current: &Value, desired: &Value) {
    let mut changed = Vec::new();
    leaf(&mut changed, "cpu.cores", field(current, "cores"), field(desired, "cores"), &Value::Null, Effect::Restart);
    leaf(
        &mut changed,
        "cpu.coreFraction",
        field(current, "coreFraction"),
        field(desired, "coreFraction"),
        &json!("100%"),
        Effect::Restart,
    );
    if changed.len() == 2 {
        push(out, "cpu", current, desired, Effect::Restart);
    } else {
        out.append(&mut changed);
    }
}

/// Identity of a block device, and its fields without `bootOrder` (which takes effect at the next start and is not
/// listed upstream).
fn device_key(device: &Value) -> (String, String) {
    let text = |name| field(device, name).as_str().unwrap_or_default().to_owned();
    (text("kind"), text("name"))
}

fn block_devices(out: &mut Vec<Change>, current: &Value, desired: &Value, effect: Effect) {
    let none = Vec::new();
    let (old, new) = (current.as_array().unwrap_or(&none), desired.as_array().unwrap_or(&none));
    if old.is_empty() || new.is_empty() {
        push(out, "blockDeviceRefs", current, desired, effect);
        return;
    }
    let old_keys: Vec<_> = old.iter().map(device_key).collect();
    let new_keys: Vec<_> = new.iter().map(device_key).collect();
    let removed: Vec<usize> = (0..old.len()).filter(|i| !new_keys.contains(&old_keys[*i])).collect();
    let added: Vec<usize> = (0..new.len()).filter(|i| !old_keys.contains(&new_keys[*i])).collect();
    if removed.is_empty() && added.is_empty() {
        // Swaps are looked for only when nothing was added or removed.
        for (i, key) in old_keys.iter().enumerate() {
            if new_keys.get(i) != Some(key) {
                let desired = new.get(i).unwrap_or(&Value::Null);
                push(out, &format!("blockDeviceRefs.{i}"), &old[i], desired, effect);
            }
        }
        return;
    }
    for i in &removed {
        let desired = if added.contains(i) { &new[*i] } else { &Value::Null };
        push(out, &format!("blockDeviceRefs.{i}"), &old[*i], desired, effect);
    }
    for i in added.iter().filter(|i| !removed.contains(i)) {
        push(out, &format!("blockDeviceRefs.{i}"), &Value::Null, &new[*i], effect);
    }
}

fn provisioning(out: &mut Vec<Change>, current: &Value, desired: &Value, profile: Profile) {
    let type_of = |v: &Value| field(v, "type").clone();
    match (is_empty(current), is_empty(desired)) {
        (true, true) => {}
        (true, false) => push(out, "provisioning", current, desired, Effect::Restart),
        (false, true) => {
            let hot = profile == Profile::Current && type_of(current) != json!("SysprepRef");
            push(out, "provisioning", current, desired, if hot { Effect::Immediate } else { Effect::Restart });
        }
        (false, false) if type_of(current) != type_of(desired) => {
            push(out, "provisioning", &type_of(current), &type_of(desired), Effect::Restart);
        }
        (false, false) => {
            for path in ["userData", "userDataRef.name", "userDataRef.kind", "sysprepRef.name", "sysprepRef.kind"] {
                let at = |v: &Value| path.split('.').fold(v.clone(), |v, name| field(&v, name).clone());
                let default = if path.ends_with("kind") { json!("Secret") } else { Value::Null };
                let (a, b) = (at(current), at(desired));
                leaf(out, &format!("provisioning.{path}"), &a, &b, &default, Effect::Restart);
            }
        }
    }
}

/// Networks: ids are filled in by the server and do not count; absent means one Main network.
fn networks(out: &mut Vec<Change>, current: &Value, desired: &Value, profile: Profile) {
    let plain = |v: &Value| -> Vec<Value> {
        let list = v.as_array().cloned().unwrap_or_default();
        let list = if list.is_empty() { vec![json!({"type": "Main"})] } else { list };
        list.into_iter()
            .map(|mut n| {
                if let Some(o) = n.as_object_mut() {
                    o.remove("id");
                }
                n
            })
            .collect()
    };
    let (old, new) = (plain(current), plain(desired));
    if old == new {
        return;
    }
    let main = |list: &[Value]| list.iter().find(|n| field(n, "type") == "Main").cloned();
    let hot = profile == Profile::Current && main(&old) == main(&new);
    push(out, "networks", current, desired, if hot { Effect::Immediate } else { Effect::Restart });
}

#[cfg(test)]
#[path = "diff_tests.rs"]
mod tests;
