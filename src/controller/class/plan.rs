//! Whether a class can be used on the node, and which processor its machines get. Pure.

use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector as Selector;
use kube::ResourceExt;
use serde_json::Value;

use crate::host::CpuFacts;
use crate::types::condition::Status;
use crate::types::selector::LabelSelector;
use crate::types::{ClassCpu, CpuFeatures, CpuType, VirtualMachineClassSpec};

/// Features that a class may name although no node has them (upstream.md 8.1).
const OPTIONAL: [&str; 2] = ["invtsc", "svm"];

/// One condition: type, status, reason, message.
pub type Line = (&'static str, Status, &'static str, String);

/// The result.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Machines of the class can run on the node.
    pub suits: bool,
    /// Features of its machines' processors, for the types that are made from features.
    pub features: Option<CpuFeatures>,
    /// Conditions `Ready` and `Discovered`.
    pub conditions: [Line; 2],
}

/// Decides. `cpu` is what the node's QEMU can give.
pub fn plan(spec: &VirtualMachineClassSpec, node: Option<&Node>, cpu: &CpuFacts) -> Plan {
    const READY: &str = "Ready";
    let features = features(&spec.cpu, node, cpu);
    let discovered = discovered(&spec.cpu, features.as_ref());
    let enabled = features.as_ref().and_then(|f| f.enabled.as_deref());
    let ready = match unsuitable(spec, node, cpu) {
        Some(message) => (READY, Status::False, "NoSuitableNodesFound", message),
        None if enabled.is_some_and(<[String]>::is_empty) => {
            let message = match spec.cpu.type_ {
                CpuType::Discovery => "No features were found: spec.cpu.discovery selects no node.",
                _ => "The node's processor has none of spec.cpu.features.",
            };
            (READY, Status::False, "NoCpuFeaturesEnabled", message.to_owned())
        }
        None => (READY, Status::True, "SuitableNodesFound", left_out(&spec.cpu, cpu)),
    };
    Plan { suits: ready.1 == Status::True, features, conditions: [ready, discovered] }
}

/// Why machines of the class cannot run on the node.
fn unsuitable(spec: &VirtualMachineClassSpec, node: Option<&Node>, cpu: &CpuFacts) -> Option<String> {
    let Some(node) = node else { return Some("There is no node yet.".to_owned()) };
    if !selects(spec.node_selector.as_ref(), node) {
        return Some("No node matches the class: label the node as spec.nodeSelector asks.".to_owned());
    }
    match spec.cpu.type_ {
        CpuType::Model => {
            let model = spec.cpu.model.as_deref().unwrap_or_default();
            // Without an answer of QEMU nothing is known to be wrong.
            let known = cpu.models.is_empty() || cpu.models.contains_key(model);
            (!known).then(|| {
                format!(
                    "No node's QEMU has the CPU model {model:?}: `qemu-system-x86_64 -cpu help` lists those it has."
                )
            })
        }
        CpuType::Features => {
            let wanted = spec.cpu.features.iter().flatten();
            let missing: Vec<&str> = wanted.map(String::as_str).filter(|f| !optional(f) && !has(cpu, f)).collect();
            (!missing.is_empty()).then(|| format!("No node's guests can have the CPU features {}.", missing.join(", ")))
        }
        CpuType::Host | CpuType::HostPassthrough | CpuType::Discovery => None,
    }
}

fn optional(feature: &str) -> bool {
    OPTIONAL.contains(&feature)
}

fn has(cpu: &CpuFacts, feature: &str) -> bool {
    cpu.features.is_empty() || cpu.has(feature)
}

/// Features on and off. With one node, what it has is what all have in common.
fn features(class: &ClassCpu, node: Option<&Node>, cpu: &CpuFacts) -> Option<CpuFeatures> {
    let enabled: Vec<String> = match class.type_ {
        CpuType::Features => class.features.iter().flatten().filter(|f| has(cpu, f)).cloned().collect(),
        CpuType::Discovery => {
            let selector = class.discovery.as_ref().and_then(|d| d.node_selector.as_ref());
            let found = node.is_some_and(|node| selects(selector, node));
            if found { cpu.features.clone() } else { vec![] }
        }
        CpuType::Host | CpuType::HostPassthrough | CpuType::Model => return None,
    };
    let on = CpuFacts { features: enabled.clone(), ..CpuFacts::default() };
    let off = cpu.features.iter().filter(|f| !on.has(f)).cloned().collect();
    Some(CpuFeatures { enabled: Some(enabled), not_enabled_common: Some(off) })
}

fn discovered(class: &ClassCpu, features: Option<&CpuFeatures>) -> Line {
    const TYPE: &str = "Discovered";
    if class.type_ != CpuType::Discovery {
        return (TYPE, Status::False, "DiscoverySkip", String::new());
    }
    match features.and_then(|f| f.enabled.as_ref()).map_or(0, Vec::len) {
        0 => (TYPE, Status::False, "DiscoveryFailed", "No node to look at.".to_owned()),
        count => (TYPE, Status::True, "DiscoverySucceeded", format!("{count} features were found.")),
    }
}

/// What a named model has on paper and not on this node.
fn left_out(class: &ClassCpu, cpu: &CpuFacts) -> String {
    let model = class.model.as_ref().filter(|_| class.type_ == CpuType::Model);
    let lacks = model.and_then(|model| cpu.models.get(model)).filter(|lacks| !lacks.is_empty());
    lacks.map_or_else(String::new, |lacks| format!("This node's guests go without {}.", lacks.join(", ")))
}

fn selects(selector: Option<&Selector>, node: &Node) -> bool {
    let labels = node.labels().iter().map(|(k, v)| (k.clone(), Value::String(v.clone()))).collect();
    selector.is_none_or(|selector| {
        let json = serde_json::to_value(selector).unwrap_or(Value::Null);
        LabelSelector::from_object(&json).is_ok_and(|s| s.matches(Some(&labels)))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn facts() -> CpuFacts {
        let models = [("Nehalem".to_owned(), vec!["x2apic".to_owned()]), ("qemu64".to_owned(), vec![])];
        CpuFacts { models: models.into(), features: ["aes", "avx", "sse4.1"].map(str::to_owned).to_vec() }
    }

    /// upstream.md 8.1: each CPU type, suitable and not.
    #[test]
    fn types_of_processors() {
        let node: Node =
            serde_json::from_value(json!({"metadata": {"name": "n", "labels": {"disktype": "ssd"}}})).unwrap();
        let by_label = |value: &str| json!({"nodeSelector": {"matchLabels": {"disktype": value}}});
        for (name, spec, ready, discovered, enabled) in [
            ("host", json!({"cpu": {"type": "Host"}}), "SuitableNodesFound", "DiscoverySkip", None),
            ("passthrough", json!({"cpu": {"type": "HostPassthrough"}}), "SuitableNodesFound", "DiscoverySkip", None),
            (
                "model",
                json!({"cpu": {"type": "Model", "model": "qemu64"}}),
                "SuitableNodesFound",
                "DiscoverySkip",
                None,
            ),
            (
                "no model",
                json!({"cpu": {"type": "Model", "model": "Zx81"}}),
                "NoSuitableNodesFound",
                "DiscoverySkip",
                None,
            ),
            (
                "features",
                json!({"cpu": {"type": "Features", "features": ["avx", "sse4_1"]}}),
                "SuitableNodesFound",
                "DiscoverySkip",
                Some(vec!["avx", "sse4_1"]),
            ),
            (
                "a feature that nobody has",
                json!({"cpu": {"type": "Features", "features": ["avx", "avx512f"]}}),
                "NoSuitableNodesFound",
                "DiscoverySkip",
                Some(vec!["avx"]),
            ),
            (
                "an optional one",
                json!({"cpu": {"type": "Features", "features": ["avx", "invtsc"]}}),
                "SuitableNodesFound",
                "DiscoverySkip",
                Some(vec!["avx"]),
            ),
            (
                "only an optional one",
                json!({"cpu": {"type": "Features", "features": ["svm"]}}),
                "NoCpuFeaturesEnabled",
                "DiscoverySkip",
                Some(vec![]),
            ),
            (
                "discovery",
                json!({"cpu": {"type": "Discovery"}}),
                "SuitableNodesFound",
                "DiscoverySucceeded",
                Some(vec!["aes", "avx", "sse4.1"]),
            ),
            (
                "discovery of nodes by label",
                json!({"cpu": {"type": "Discovery", "discovery": by_label("ssd")}}),
                "SuitableNodesFound",
                "DiscoverySucceeded",
                Some(vec!["aes", "avx", "sse4.1"]),
            ),
            (
                "discovery of nobody",
                json!({"cpu": {"type": "Discovery", "discovery": by_label("hdd")}}),
                "NoCpuFeaturesEnabled",
                "DiscoveryFailed",
                Some(vec![]),
            ),
        ] {
            let mut spec: VirtualMachineClassSpec = serde_json::from_value(spec).unwrap();
            let p = plan(&spec, Some(&node), &facts());
            assert_eq!((p.conditions[0].2, p.conditions[1].2), (ready, discovered), "{name}");
            assert_eq!(p.suits, ready == "SuitableNodesFound", "{name}");
            let on = p.features.and_then(|f| f.enabled);
            assert_eq!(on, enabled.map(|e| e.into_iter().map(str::to_owned).collect()), "{name}");
            // Whatever the type: without a node, or with one of another kind, there is none.
            spec.node_selector = serde_json::from_value(by_label("hdd")["nodeSelector"].clone()).unwrap();
            assert_eq!(plan(&spec, Some(&node), &facts()).conditions[0].2, "NoSuitableNodesFound", "{name}");
            assert_eq!(plan(&spec, None, &facts()).conditions[0].2, "NoSuitableNodesFound", "{name}");
        }
    }

    #[test]
    fn what_is_not_enabled_and_what_is_left_out() {
        let node = Node::default();
        let spec = |cpu: Value| serde_json::from_value::<VirtualMachineClassSpec>(json!({ "cpu": cpu })).unwrap();
        let p = plan(&spec(json!({"type": "Features", "features": ["sse4_1"]})), Some(&node), &facts());
        assert_eq!(p.features.unwrap().not_enabled_common.unwrap(), ["aes", "avx"]);
        let p = plan(&spec(json!({"type": "Model", "model": "Nehalem"})), Some(&node), &facts());
        assert_eq!(p.conditions[0].3, "This node's guests go without x2apic.");
        // Where QEMU could not be asked, nothing is ruled out.
        let p = plan(&spec(json!({"type": "Model", "model": "Zx81"})), Some(&node), &CpuFacts::default());
        assert!(p.suits);
    }
}
