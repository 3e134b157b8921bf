//! Recorded objects: what a host with a few machines answers.

use serde_json::{Value, json};

use crate::client::{TableColumn, TableEvent, TableRow};
use crate::types::kinds::KindInfo;
use crate::types::printer;

/// A table as the server would send it.
pub fn table(kind: &KindInfo, namespace: Option<&str>) -> TableEvent {
    let columns = columns(kind);
    let rows = objects(kind.kind)
        .into_iter()
        .filter(|o| namespace.is_none_or(|n| o["metadata"]["namespace"] == n))
        .map(|object| row(kind, object))
        .collect();
    TableEvent::Reset { columns, rows }
}

pub fn columns(kind: &KindInfo) -> Vec<TableColumn> {
    printer::columns(kind)
        .into_iter()
        .map(|c| TableColumn {
            format: printer::format_of(&c).to_owned(),
            name: c.name,
            kind: c.type_,
            description: c.description,
            priority: i64::from(c.priority),
        })
        .collect()
}

pub fn row(kind: &KindInfo, object: Value) -> TableRow {
    let now: jiff::Timestamp = "2026-11-25T12:00:00Z".parse().unwrap();
    TableRow { cells: printer::cells(kind, &object, now), object }
}

fn condition(name: &str, status: &str, reason: &str, message: &str) -> Value {
    json!({"type": name, "status": status, "reason": reason, "message": message,
        "lastTransitionTime": "2026-11-25T11:50:00Z"})
}

/// A running machine with a change that waits for a restart.
pub fn web() -> Value {
    json!({
        "apiVersion": "virtualization.deckhouse.io/v1alpha2", "kind": "VirtualMachine",
        "metadata": {"name": "web", "namespace": "default", "uid": "0f5c6a7e-0000-4000-8000-000000000001",
            "resourceVersion": "120", "generation": 2, "creationTimestamp": "2026-11-25T11:40:00Z",
            "labels": {"app": "web", "tier": "front"}},
        "spec": {"virtualMachineClassName": "host", "runPolicy": "AlwaysOnUnlessStoppedManually",
            "cpu": {"cores": 2, "coreFraction": "10%"}, "memory": {"size": "1Gi"},
            "blockDeviceRefs": [{"kind": "VirtualDisk", "name": "web-root"}]},
        "status": {"phase": "Running", "nodeName": "deck", "ipAddress": "10.66.10.1",
            "virtualMachineIPAddressName": "web-x2v4q",
            "resources": {"cpu": {"cores": 1, "coreFraction": "10%"}, "memory": {"size": "1Gi"}},
            "guestOSInfo": {"prettyName": "Debian GNU/Linux 12"},
            "stats": {"lastStartTime": "2026-11-25T11:54:44Z"},
            "blockDeviceRefs": [
                {"kind": "VirtualDisk", "name": "web-root", "size": "4Gi", "attached": true, "target": "sda"},
                {"kind": "VirtualDisk", "name": "web-data", "size": "10Gi", "attached": true, "hotplugged": true,
                    "virtualMachineBlockDeviceAttachmentName": "web-data"}],
            "restartAwaitingChanges": [{"currentValue": 1, "desiredValue": 2, "operation": "replace", "path": "cpu.cores"}],
            "conditions": [
                condition("VirtualMachineClassReady", "True", "VirtualMachineClassReady", ""),
                condition("BlockDevicesReady", "True", "BlockDevicesReady", ""),
                condition("VirtualMachineIPAddressReady", "True", "VirtualMachineIPAddressReady", ""),
                condition("Running", "True", "Running", ""),
                condition("AgentReady", "False", "AgentNotReady", "The guest agent does not answer."),
                condition("AwaitingRestartToApplyConfiguration", "True", "ChangesPendingRestart",
                    "1 change waits for a restart: cpu.cores."),
                condition("Migratable", "True", "VirtualMachineMigratable", "")]}
    })
}

fn db() -> Value {
    json!({
        "apiVersion": "virtualization.deckhouse.io/v1alpha2", "kind": "VirtualMachine",
        "metadata": {"name": "db", "namespace": "default", "uid": "0f5c6a7e-0000-4000-8000-000000000002",
            "resourceVersion": "98", "creationTimestamp": "2026-11-25T11:58:20Z", "labels": {"app": "db"}},
        "spec": {"virtualMachineClassName": "host", "cpu": {"cores": 4, "coreFraction": "100%"},
            "memory": {"size": "4Gi"}, "blockDeviceRefs": [{"kind": "VirtualDisk", "name": "db-root"},
            {"kind": "ClusterVirtualImage", "name": "tools"}]},
        "status": {"phase": "Pending", "conditions": [
            condition("VirtualMachineClassReady", "True", "VirtualMachineClassReady", ""),
            condition("BlockDevicesReady", "False", "BlockDevicesNotReady",
                "1/2 block devices are ready; waiting for VirtualDisk db-root, which is being provisioned (42%)."),
            condition("Running", "False", "NotRunning", "")]}
    })
}

fn build() -> Value {
    json!({
        "apiVersion": "virtualization.deckhouse.io/v1alpha2", "kind": "VirtualMachine",
        "metadata": {"name": "build-agent-with-a-long-name-01", "namespace": "ci",
            "uid": "0f5c6a7e-0000-4000-8000-000000000003", "resourceVersion": "70",
            "creationTimestamp": "2026-11-20T12:00:00Z"},
        "spec": {"virtualMachineClassName": "generic", "cpu": {"cores": 1}, "memory": {"size": "512Mi"},
            "blockDeviceRefs": [{"kind": "VirtualDisk", "name": "agent"}]},
        "status": {"phase": "Stopped", "conditions": [condition("Running", "False", "NotRunning", "")]}
    })
}

/// The objects of a kind.
pub fn objects(kind: &str) -> Vec<Value> {
    let api = "virtualization.deckhouse.io/v1alpha2";
    match kind {
        "VirtualMachine" => vec![web(), db(), build()],
        "VirtualDisk" => vec![
            json!({"apiVersion": api, "kind": "VirtualDisk",
                "metadata": {"name": "web-root", "namespace": "default", "uid": "d-1", "resourceVersion": "50",
                    "creationTimestamp": "2026-11-25T11:39:00Z"},
                "spec": {"persistentVolumeClaim": {"size": "4Gi"},
                    "dataSource": {"type": "ObjectRef", "objectRef": {"kind": "VirtualImage", "name": "debian"}}},
                "status": {"phase": "Ready", "capacity": "4Gi", "progress": "100%",
                    "attachedToVirtualMachines": [{"name": "web", "mounted": true}]}}),
            json!({"apiVersion": api, "kind": "VirtualDisk",
                "metadata": {"name": "db-root", "namespace": "default", "uid": "d-2", "resourceVersion": "51",
                    "creationTimestamp": "2026-11-25T11:58:10Z"},
                "spec": {"persistentVolumeClaim": {"size": "20Gi"}},
                "status": {"phase": "Provisioning", "capacity": "20Gi", "progress": "42%"}}),
        ],
        "VirtualImage" => vec![json!({"apiVersion": api, "kind": "VirtualImage",
            "metadata": {"name": "debian", "namespace": "default", "uid": "i-1", "resourceVersion": "12",
                "creationTimestamp": "2026-11-25T11:30:00Z"},
            "spec": {"storage": "ContainerRegistry", "dataSource": {"type": "Upload"}},
            "status": {"phase": "WaitForUserUpload", "imageUploadURLs": {"inCluster": "http://localhost/upload/t0k3n"},
                "conditions": [condition("Ready", "False", "WaitForUserUpload",
                    "Waiting for the image: vmdeck upload FILE vi/debian")]}})],
        "Event" => vec![
            event(
                "Normal",
                "Started",
                "Started by the controller for run policy AlwaysOnUnlessStoppedManually.",
                "2026-11-25T11:54:44Z",
                1,
            ),
            event("Warning", "RestartAwaitingChanges", "1 change waits for a restart.", "2026-11-25T11:59:30Z", 3),
        ],
        "VirtualMachineOperation" => vec![json!({"apiVersion": api, "kind": "VirtualMachineOperation",
            "metadata": {"name": "web-7k2lp", "namespace": "default", "uid": "o-1", "resourceVersion": "110",
                "creationTimestamp": "2026-11-25T11:54:40Z"},
            "spec": {"type": "Start", "virtualMachineName": "web"},
            "status": {"phase": "Completed", "progress": "100%"}})],
        "Namespace" => ["ci", "default"]
            .iter()
            .map(|n| {
                json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": n, "uid": format!("n-{n}"),
                    "creationTimestamp": "2026-11-20T12:00:00Z"}, "status": {"phase": "Active"}})
            })
            .collect(),
        "Node" => vec![json!({"apiVersion": "v1", "kind": "Node",
            "metadata": {"name": "deck", "uid": "node-1", "creationTimestamp": "2026-11-20T12:00:00Z",
                "annotations": {"vmdeck.io/accelerator": "tcg", "vmdeck.io/accelerator-reason": "no /dev/kvm"}},
            "status": {"conditions": [condition("Ready", "True", "Ready", "")]}})],
        _ => Vec::new(),
    }
}

fn event(kind: &str, reason: &str, message: &str, at: &str, count: u64) -> Value {
    json!({"apiVersion": "v1", "kind": "Event",
        "metadata": {"name": format!("web.{reason}"), "namespace": "default", "uid": format!("e-{reason}"),
            "creationTimestamp": at},
        "involvedObject": {"apiVersion": "virtualization.deckhouse.io/v1alpha2", "kind": "VirtualMachine",
            "name": "web", "namespace": "default", "uid": "0f5c6a7e-0000-4000-8000-000000000001"},
        "type": kind, "reason": reason, "message": message, "count": count, "firstTimestamp": at,
        "lastTimestamp": at})
}
