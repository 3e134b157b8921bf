//! Events: stored as core `v1`, also spoken as `events.k8s.io/v1`. The two differ in names only, so no field is
//! lost on the way there and back.

use serde_json::Value;

use super::micro_times;
use crate::apiserver::object::{self, Object};
use crate::apiserver::status::Cause;
use crate::types::selector::is_label_key;

/// Names in `v1`, names in `events.k8s.io/v1`.
const NAMES: [(&str, &str); 7] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

/// From the stored form.
pub fn to_events_v1(object: Object) -> Object {
    renamed(object, "events.k8s.io/v1", |name| NAMES.iter().find(|(v1, _)| *v1 == name).map(|(_, new)| *new))
}

/// To the stored form.
pub fn from_events_v1(object: Object) -> Object {
    renamed(object, "v1", |name| NAMES.iter().find(|(_, new)| *new == name).map(|(v1, _)| *v1))
}

fn renamed(object: Object, version: &str, other: impl Fn(&str) -> Option<&'static str>) -> Object {
    object
        .into_iter()
        .map(|(name, value)| match name.as_str() {
            "apiVersion" => (name, version.into()),
            _ => (other(&name).map_or(name, str::to_owned), value),
        })
        .collect()
}

/// Longest `reason`, `action` and `reportingInstance`.
const MAX_WORD: usize = 128;
/// Longest `message`.
const MAX_MESSAGE: usize = 1024;

/// Writes times with six digits and checks an event. Events of the newer form, with an `eventTime`, have to say more.
pub fn admit(old: Option<&Object>, new: &mut Object) -> Vec<Cause> {
    micro_times(new, &["eventTime"]);
    if let Some(series) = new.get_mut("series").and_then(Value::as_object_mut) {
        micro_times(series, &["lastObservedTime"]);
    }
    let mut causes = Vec::new();
    let text = |field: &str| new.get(field).and_then(Value::as_str).unwrap_or_default();
    let about = new.get("involvedObject").and_then(|o| o.get("namespace")).and_then(Value::as_str).unwrap_or_default();
    let own = object::text(new, "namespace");
    // Events about what has no namespace are in the default one.
    let fits = if about.is_empty() { matches!(own, "default" | "kube-system") } else { about == own };
    if !fits {
        let detail = "does not match event.namespace";
        causes.push(Cause::invalid("involvedObject.namespace", &about.into(), detail));
    }
    let newer = new.get("eventTime").is_some_and(|t| !t.is_null());
    if old.is_some() || !newer {
        return causes;
    }
    if !is_label_key(text("reportingComponent")) {
        let given = text("reportingComponent").into();
        causes.push(Cause::invalid("reportingController", &given, "must be a qualified name such as example.com/name"));
    }
    for field in ["reportingInstance", "action", "reason"] {
        if text(field).is_empty() {
            causes.push(Cause::required(field, ""));
        } else if text(field).len() > MAX_WORD {
            causes.push(too_long(field, MAX_WORD));
        }
    }
    if text("message").len() > MAX_MESSAGE {
        causes.push(too_long("message", MAX_MESSAGE));
    }
    causes
}

fn too_long(field: &str, most: usize) -> Cause {
    let message = format!("Too long: may not be more than {most} bytes");
    Cause { reason: "FieldValueTooLong", field: field.to_owned(), message }
}

/// When the event was last written or happened, as far as it says so. Times to come say nothing: they would keep the
/// event for ever. Those long gone do not make a new event old.
pub fn last_seen(object: &Object, now: jiff::Timestamp) -> Option<jiff::Timestamp> {
    let metadata = object::metadata(object);
    let managed = metadata.and_then(|m| m.get("managedFields")).and_then(Value::as_array);
    let written = managed.into_iter().flatten().map(|entry| entry.get("time"));
    [
        object.get("series").and_then(|s| s.get("lastObservedTime")),
        object.get("lastTimestamp"),
        object.get("eventTime"),
        metadata.and_then(|m| m.get("creationTimestamp")),
    ]
    .into_iter()
    .chain(written)
    .filter_map(|value| value.and_then(Value::as_str)?.parse::<jiff::Timestamp>().ok())
    .filter(|time| *time <= now)
    .max()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn at(time: &str) -> jiff::Timestamp {
        time.parse().unwrap()
    }

    #[test]
    fn an_event_is_as_old_as_its_last_write() {
        let event = |metadata: Value, last: &str| {
            json!({"metadata": metadata, "lastTimestamp": last}).as_object().cloned().unwrap()
        };
        let made = json!({"creationTimestamp": "2026-01-01T10:00:00Z"});
        let written = json!({"creationTimestamp": "2026-01-01T10:00:00Z", "managedFields": [
            {"time": "2026-01-01T10:30:00Z"}, {"time": "2026-01-01T10:20:00Z"}, {}]});
        let now = at("2026-01-01T11:00:00Z");
        for (metadata, last, want) in [
            (&made, "2026-01-01T10:40:00Z", "2026-01-01T10:40:00Z"),
            (&made, "2000-01-01T00:00:00Z", "2026-01-01T10:00:00Z"),
            (&made, "2999-01-01T00:00:00Z", "2026-01-01T10:00:00Z"),
            (&made, "nonsense", "2026-01-01T10:00:00Z"),
            (&written, "2000-01-01T00:00:00Z", "2026-01-01T10:30:00Z"),
        ] {
            assert_eq!(last_seen(&event(metadata.clone(), last), now), Some(at(want)), "{metadata} {last}");
        }
        assert_eq!(last_seen(&event(json!({}), ""), now), None);
    }

    #[test]
    fn what_an_event_has_to_say() {
        let told = |patch: Value| -> Vec<String> {
            let mut event = json!({"metadata": {"name": "e", "namespace": "n"}, "involvedObject": {"namespace": "n"}});
            json_patch::merge(&mut event, &patch);
            admit(None, event.as_object_mut().unwrap()).into_iter().map(|c| c.field).collect()
        };
        assert!(told(json!({})).is_empty());
        assert_eq!(told(json!({"involvedObject": {"namespace": "other"}})), ["involvedObject.namespace"]);
        assert_eq!(told(json!({"involvedObject": {"namespace": null}})), ["involvedObject.namespace"]);
        let home = json!({"involvedObject": {"namespace": null}, "metadata": {"namespace": "default"}});
        assert!(told(home).is_empty());
        let newer = json!({"eventTime": "2026-01-01T00:00:00Z", "reportingComponent": "a.example/c",
            "reportingInstance": "i", "action": "Do", "reason": "Done"});
        assert!(told(newer.clone()).is_empty());
        let mut less = newer;
        json_patch::merge(&mut less, &json!({"action": null, "reason": "x".repeat(129), "reportingComponent": "a b"}));
        assert_eq!(told(less), ["reportingController", "action", "reason"]);
    }

    #[test]
    fn there_and_back() {
        let new = json!({
            "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "a"}, "regarding": {"name": "x"},
            "note": "n", "reportingController": "c", "eventTime": "2026-01-01T00:00:00.000000Z", "extra": 1
        });
        let stored = from_events_v1(new.as_object().cloned().unwrap());
        assert_eq!(stored["involvedObject"], json!({"name": "x"}));
        assert_eq!((&stored["message"], &stored["apiVersion"]), (&json!("n"), &json!("v1")));
        assert_eq!(last_seen(&stored, at("2026-01-02T00:00:00Z")), Some(at("2026-01-01T00:00:00Z")));
        assert_eq!(Value::Object(to_events_v1(stored)), new);
    }
}
