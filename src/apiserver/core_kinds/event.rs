//! Events: stored as core `v1`, also spoken as `events.k8s.io/v1`. The two differ in names only, so no field is
//! lost on the way there and back.

use serde_json::Value;

use crate::apiserver::object::Object;

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

/// When the event last happened, as far as it says so.
pub fn last_seen(object: &Object) -> Option<jiff::Timestamp> {
    let time = |value: Option<&Value>| value.and_then(Value::as_str)?.parse().ok();
    time(object.get("series").and_then(|s| s.get("lastObservedTime")))
        .or_else(|| time(object.get("lastTimestamp")))
        .or_else(|| time(object.get("eventTime")))
        .or_else(|| time(object.get("metadata").and_then(|m| m.get("creationTimestamp"))))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn there_and_back() {
        let new = json!({
            "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "a"}, "regarding": {"name": "x"},
            "note": "n", "reportingController": "c", "eventTime": "2026-01-01T00:00:00.000000Z", "extra": 1
        });
        let stored = from_events_v1(new.as_object().cloned().unwrap());
        assert_eq!(stored["involvedObject"], json!({"name": "x"}));
        assert_eq!((&stored["message"], &stored["apiVersion"]), (&json!("n"), &json!("v1")));
        assert_eq!(last_seen(&stored), Some("2026-01-01T00:00:00Z".parse().unwrap()));
        assert_eq!(Value::Object(to_events_v1(stored)), new);
    }
}
