//! Kinds that nothing is done for yet say so.

use serde_json::{Value, json};

use super::world::{World, condition};

#[tokio::test]
async fn what_is_not_done_is_told() {
    let w = World::new().await;
    for (kind, spec, phase, type_, reason, part) in [
        (
            "vds",
            json!({"virtualDiskName": "d"}),
            "Failed",
            "VirtualDiskSnapshotReady",
            "VirtualDiskSnapshotFailed",
            "nothing was saved",
        ),
        (
            "vms",
            json!({"virtualMachineName": "m"}),
            "Failed",
            "VirtualMachineSnapshotReady",
            "VirtualMachineSnapshotFailed",
            "nothing was saved",
        ),
    ] {
        w.create(kind, "x", json!({ "spec": spec })).await;
        let object = w.phase(kind, "x", phase).await;
        let (status, told, message) = condition(&object, type_);
        assert_eq!((status, told), ("False", reason), "{object:#}");
        assert!(message.contains(part), "{object:#}");
        assert_eq!(object["status"]["observedGeneration"], 1, "{kind}");
        // Nothing holds what nothing works on.
        assert_eq!(object["metadata"]["finalizers"], Value::Null, "{kind}");
        w.delete(kind, "x").await;
        w.gone(kind, "x").await;
    }
}
