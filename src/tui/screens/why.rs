//! "Why is it stuck?": the shortest true answer that the object itself gives.

use serde_json::Value;

use crate::types::text::printable;

/// Conditions that must hold before a machine may start, in the order in which they are worth reading.
const GATE: &[&str] = &[
    "VirtualMachineClassReady",
    "SizingPolicyMatched",
    "BlockDevicesReady",
    "VirtualMachineIPAddressReady",
    "VirtualMachineMACAddressReady",
    "ProvisioningReady",
    "NetworkReady",
];

/// Reasons with status False that nevertheless let a machine start.
const HARMLESS: &[&str] =
    &["WaitingForWaitForFirstConsumerBlockDevicesToBeReady", "VirtualMachineIPAddressNotAssigned", "SDNModuleDisabled"];

/// What holds an object up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Why {
    /// The condition, or `Deletion`.
    pub what: String,
    /// Machine word.
    pub reason: String,
    /// The server's sentence.
    pub message: String,
}

fn text(value: &Value) -> String {
    printable(value.as_str().unwrap_or_default()).into_owned()
}

fn conditions(object: &Value) -> impl Iterator<Item = &Value> {
    object["status"]["conditions"].as_array().into_iter().flatten()
}

fn answer(condition: &Value) -> Why {
    Why { what: text(&condition["type"]), reason: text(&condition["reason"]), message: text(&condition["message"]) }
}

/// The reason why an object is not where it should be; nothing if it is not held up.
pub fn why(object: &Value) -> Option<Why> {
    if object["metadata"]["deletionTimestamp"].is_string() {
        let holders: Vec<String> =
            object["metadata"]["finalizers"].as_array().into_iter().flatten().map(text).collect();
        let message = if holders.is_empty() {
            "it goes away as soon as the server gets to it".to_owned()
        } else {
            format!("it waits for {}", holders.join(", "))
        };
        return Some(Why { what: "Deletion".into(), reason: "in progress".into(), message });
    }
    let phase = object["status"]["phase"].as_str().unwrap_or_default();
    if object["kind"] == "VirtualMachine" {
        let closed = |name: &&str| {
            conditions(object).find(|c| {
                c["type"] == **name
                    && c["status"] == "False"
                    && !HARMLESS.contains(&c["reason"].as_str().unwrap_or_default())
            })
        };
        if let Some(condition) = GATE.iter().find_map(closed) {
            return Some(answer(condition));
        }
        if matches!(phase, "Running" | "Stopped" | "Migrating") {
            return None;
        }
        return conditions(object)
            .find(|c| c["type"] == "Running" && c["status"] == "False" && !text(&c["message"]).is_empty())
            .map(answer);
    }
    let settled = matches!(
        phase,
        "Ready" | "Bound" | "Attached" | "Completed" | "Succeeded" | "Superseded" | "Active" | "Released" | ""
    );
    if settled {
        return None;
    }
    conditions(object).find(|c| c["status"] == "False" && !text(&c["message"]).is_empty()).map(answer)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn machine(phase: &str, conditions: Value) -> Value {
        json!({"kind": "VirtualMachine", "metadata": {}, "status": {"phase": phase, "conditions": conditions}})
    }

    #[test]
    fn the_first_closed_gate_is_the_reason() {
        let object = machine(
            "Pending",
            json!([
                {"type": "Running", "status": "False", "reason": "NotRunning", "message": "not yet"},
                {"type": "BlockDevicesReady", "status": "False", "reason": "BlockDevicesNotReady", "message": "1/2 ready, waiting for root"},
                {"type": "VirtualMachineClassReady", "status": "True", "reason": "x"},
            ]),
        );
        let why = why(&object).unwrap();
        assert_eq!((why.what.as_str(), why.message.as_str()), ("BlockDevicesReady", "1/2 ready, waiting for root"));
    }

    #[test]
    fn a_healthy_machine_is_not_held_up() {
        let ready = json!([{"type": "Running", "status": "True"}, {"type": "AgentReady", "status": "False", "message": "no agent"}]);
        assert_eq!(why(&machine("Running", ready)), None);
        let waits = json!([{"type": "BlockDevicesReady", "status": "False",
            "reason": "WaitingForWaitForFirstConsumerBlockDevicesToBeReady", "message": "m"}]);
        assert_eq!(why(&machine("Running", waits)), None);
    }

    #[test]
    fn deletion_names_its_holders() {
        let object = json!({"kind": "VirtualDisk", "metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["a/b"]}});
        assert_eq!(why(&object).unwrap().message, "it waits for a/b");
    }
}
