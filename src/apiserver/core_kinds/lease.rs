//! Leases.

use serde_json::Value;

use super::micro_times;
use crate::apiserver::object::Object;
use crate::apiserver::status::Cause;

/// Writes times with six digits and checks the numbers.
pub fn admit(new: &mut Object) -> Vec<Cause> {
    let Some(spec) = new.get_mut("spec").and_then(Value::as_object_mut) else { return Vec::new() };
    micro_times(spec, &["acquireTime", "renewTime"]);
    let mut causes = Vec::new();
    for (field, least, detail) in [
        ("leaseDurationSeconds", 1, "must be greater than 0"),
        ("leaseTransitions", 0, "must be greater than or equal to 0"),
    ] {
        if let Some(value) = spec.get(field)
            && value.as_i64().is_some_and(|n| n < least)
        {
            causes.push(Cause::invalid(format!("spec.{field}"), value, detail));
        }
    }
    if spec.get("holderIdentity").is_some_and(|holder| *holder == "") {
        causes.push(Cause::required("spec.holderIdentity", "must not be empty"));
    }
    causes
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn times_and_numbers() {
        let mut lease = json!({"spec": {"acquireTime": "2026-01-01T00:00:00Z", "renewTime": "2026-01-01T02:00:00.1234567+01:00",
            "leaseDurationSeconds": 0, "leaseTransitions": -1}});
        let causes = admit(lease.as_object_mut().unwrap());
        assert_eq!(lease["spec"]["acquireTime"], "2026-01-01T00:00:00.000000Z");
        assert_eq!(lease["spec"]["renewTime"], "2026-01-01T01:00:00.123456Z");
        let fields: Vec<&str> = causes.iter().map(|c| c.field.as_str()).collect();
        assert_eq!(fields, ["spec.leaseDurationSeconds", "spec.leaseTransitions"]);
        for fine in
            [json!({}), json!({"spec": {"leaseDurationSeconds": 15, "leaseTransitions": 0, "holderIdentity": "a"}})]
        {
            assert!(admit(&mut fine.as_object().cloned().unwrap()).is_empty(), "{fine}");
        }
    }
}
