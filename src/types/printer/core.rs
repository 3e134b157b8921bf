//! Columns of the built-in kinds, those of `kubectl get`.

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::{Cell, age_column, age_of, name_column, path_column};
use crate::types::kinds::Column;

/// Node labels that carry roles.
const ROLE_PREFIX: &str = "node-role.kubernetes.io/";

/// The columns of a built-in kind; name and age for kinds without columns of their own.
pub(super) fn layout(group: &str, kind: &str) -> Vec<(Column, Cell)> {
    match (group, kind) {
        ("", "Namespace") => vec![
            name_column(),
            path_column("Status", "string", "Active or Terminating.", ".status.phase"),
            age_column(),
        ],
        ("", "Secret") => vec![
            name_column(),
            path_column("Type", "string", "What the Secret is for.", ".type"),
            computed("Data", "integer", "Number of keys.", 0, |o, _| Value::from(count(o, "data"))),
            age_column(),
        ],
        ("", "ConfigMap") => vec![
            name_column(),
            computed("Data", "integer", "Number of keys.", 0, |o, _| {
                Value::from(count(o, "data") + count(o, "binaryData"))
            }),
            age_column(),
        ],
        ("" | "events.k8s.io", "Event") => event(),
        ("", "Node") => node(),
        ("coordination.k8s.io", "Lease") => vec![
            name_column(),
            path_column("Holder", "string", "Who holds the lease.", ".spec.holderIdentity"),
            age_column(),
        ],
        ("apiextensions.k8s.io", "CustomResourceDefinition") => {
            vec![name_column(), path_column("Created At", "string", "Time of creation.", ".metadata.creationTimestamp")]
        }
        _ => vec![name_column(), age_column()],
    }
}

fn computed(
    name: &str,
    type_: &str,
    description: &str,
    priority: i32,
    cell: fn(&Value, Timestamp) -> Value,
) -> (Column, Cell) {
    let column = Column {
        name: name.to_owned(),
        type_: type_.to_owned(),
        description: description.to_owned(),
        priority,
        json_path: String::new(),
    };
    (column, Cell::Computed(cell))
}

fn wide((mut column, cell): (Column, Cell)) -> (Column, Cell) {
    column.priority = 1;
    (column, cell)
}

fn count(object: &Value, field: &str) -> usize {
    object.get(field).and_then(Value::as_object).map_or(0, Map::len)
}

fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn event() -> Vec<(Column, Cell)> {
    vec![
        computed("Last Seen", "string", "Time since it was last observed.", 0, |o, now| {
            first_time(
                o,
                &["/series/lastObservedTime", "/lastTimestamp", "/deprecatedLastTimestamp", "/eventTime"],
                now,
            )
        }),
        path_column("Type", "string", "Normal or Warning.", ".type"),
        path_column("Reason", "string", "Short, machine-readable reason.", ".reason"),
        computed("Object", "string", "Object the event is about.", 0, |o, _| {
            let about = o.get("involvedObject").or_else(|| o.get("regarding")).unwrap_or(&Value::Null);
            let kind = text(about, "/kind").to_ascii_lowercase();
            let name = text(about, "/name");
            Value::from(if name.is_empty() { kind } else { format!("{kind}/{name}") })
        }),
        computed("Subobject", "string", "Part of the object.", 1, |o, _| {
            let path = ["/involvedObject/fieldPath", "/regarding/fieldPath"].map(|p| text(o, p));
            Value::from(path.concat())
        }),
        computed("Source", "string", "Component that reported it.", 1, |o, _| {
            let component = [text(o, "/source/component"), text(o, "/deprecatedSource/component")]
                .into_iter()
                .find(|c| !c.is_empty())
                .unwrap_or_else(|| {
                    [text(o, "/reportingComponent"), text(o, "/reportingController")]
                        .into_iter()
                        .find(|c| !c.is_empty())
                        .unwrap_or_default()
                });
            let host = text(o, "/source/host");
            let parts: Vec<&str> = [component, host].into_iter().filter(|p| !p.is_empty()).collect();
            Value::from(parts.join(", "))
        }),
        computed("Message", "string", "What happened.", 0, |o, _| {
            let message = [text(o, "/message"), text(o, "/note")].concat();
            Value::from(message.trim())
        }),
        computed("First Seen", "string", "Time since it was first observed.", 1, |o, now| {
            first_time(o, &["/firstTimestamp", "/deprecatedFirstTimestamp", "/eventTime"], now)
        }),
        computed("Count", "integer", "How often it was observed.", 1, |o, _| {
            let number = |p: &str| o.pointer(p).and_then(Value::as_i64).filter(|n| *n > 0);
            let count = number("/series/count").or_else(|| number("/count")).or_else(|| number("/deprecatedCount"));
            Value::from(count.unwrap_or(1))
        }),
        wide(path_column("Name", "string", "Name of the event.", ".metadata.name")),
    ]
}

fn first_time(object: &Value, pointers: &[&str], now: Timestamp) -> Value {
    let found = pointers.iter().find_map(|p| age_of(text(object, p), now));
    Value::from(found.unwrap_or_else(|| "<unknown>".to_owned()))
}

fn node() -> Vec<(Column, Cell)> {
    vec![
        name_column(),
        computed("Status", "string", "Ready, NotReady or Unknown, and whether scheduling is disabled.", 0, |o, _| {
            let ready = o
                .pointer("/status/conditions")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .find(|c| text(c, "/type") == "Ready")
                .map(|c| text(c, "/status"));
            let mut status = match ready {
                Some("True") => "Ready",
                Some("False") => "NotReady",
                _ => "Unknown",
            }
            .to_owned();
            if o.pointer("/spec/unschedulable") == Some(&Value::Bool(true)) {
                status.push_str(",SchedulingDisabled");
            }
            Value::from(status)
        }),
        computed("Roles", "string", "Roles of the node.", 0, |o, _| {
            let labels = o.pointer("/metadata/labels").and_then(Value::as_object);
            let mut roles: Vec<&str> = labels
                .into_iter()
                .flatten()
                .filter_map(|(key, value)| match key.strip_prefix(ROLE_PREFIX) {
                    Some(role) => Some(role),
                    None if key == "kubernetes.io/role" => value.as_str(),
                    None => None,
                })
                .filter(|role| !role.is_empty())
                .collect();
            roles.sort_unstable();
            roles.dedup();
            Value::from(if roles.is_empty() { "<none>".to_owned() } else { roles.join(",") })
        }),
        age_column(),
        path_column("Version", "string", "Version of the node's agent.", ".status.nodeInfo.kubeletVersion"),
        computed("Internal-IP", "string", "Address inside.", 1, |o, _| address(o, "InternalIP")),
        computed("External-IP", "string", "Address outside.", 1, |o, _| address(o, "ExternalIP")),
        wide(path_column("OS-Image", "string", "Operating system.", ".status.nodeInfo.osImage")),
        wide(path_column("Kernel-Version", "string", "Kernel.", ".status.nodeInfo.kernelVersion")),
        wide(path_column("Container-Runtime", "string", "Runtime.", ".status.nodeInfo.containerRuntimeVersion")),
    ]
}

fn address(node: &Value, type_: &str) -> Value {
    let found = node
        .pointer("/status/addresses")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .find(|a| text(a, "/type") == type_)
        .map(|a| text(a, "/address"));
    Value::from(found.unwrap_or("<none>"))
}
