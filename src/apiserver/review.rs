//! Reviews: what the asking identity may do, and who it is (k8s-api.md 1.8).

use axum::body::Body;
use axum::http::{Response, StatusCode};
use serde_json::{Value, json};

use super::identity::{Action, Identity, Target};
use super::media::{self, Wanted};
use super::object::{self, Object};
use super::status::Failure;

/// Answers a review; `plural` names it.
///
/// # Errors
/// 400 for a review without the attributes it is about.
pub fn answer(plural: &str, mut review: Object, who: &Identity, wanted: Wanted) -> Result<Response<Body>, Failure> {
    let (kind, group) = match plural {
        "selfsubjectaccessreviews" => ("SelfSubjectAccessReview", "authorization.k8s.io/v1"),
        "selfsubjectrulesreviews" => ("SelfSubjectRulesReview", "authorization.k8s.io/v1"),
        _ => ("SelfSubjectReview", "authentication.k8s.io/v1"),
    };
    for (field, want) in [("kind", kind), ("apiVersion", group)] {
        match review.get(field).and_then(Value::as_str).unwrap_or("") {
            "" => {}
            given if given == want => {}
            given => return Err(Failure::bad_request(format!("{field} is {given:?}, must be {want:?}"))),
        }
        review.insert(field.to_owned(), want.into());
    }
    let status = match kind {
        "SelfSubjectAccessReview" => access(&review, who)?,
        "SelfSubjectRulesReview" => who.rights().told(),
        _ => json!({"userInfo": {"username": who.user, "groups": who.groups}}),
    };
    object::metadata_mut(&mut review).entry("creationTimestamp").or_insert(Value::Null);
    review.insert("status".to_owned(), status);
    Ok(media::object_response(StatusCode::CREATED, &Value::Object(review), wanted))
}

fn access(review: &Object, who: &Identity) -> Result<Value, Failure> {
    let spec = review.get("spec");
    let text = |value: &Value, field: &str| value.get(field).and_then(Value::as_str).unwrap_or("").to_owned();
    let resource = spec.and_then(|s| s.get("resourceAttributes")).filter(|a| a.is_object());
    let path = spec.and_then(|s| s.get("nonResourceAttributes")).filter(|a| a.is_object());
    let action = match (resource, path) {
        (Some(a), None) => Action {
            verb: text(a, "verb"),
            target: Target::Resource {
                group: text(a, "group"),
                resource: text(a, "resource"),
                subresource: text(a, "subresource"),
            },
        },
        (None, Some(a)) => Action { verb: text(a, "verb"), target: Target::Path(text(a, "path")) },
        _ => {
            return Err(Failure::bad_request(
                "spec: exactly one of resourceAttributes or nonResourceAttributes is needed",
            ));
        }
    };
    let role = who.role.map_or_else(|| "no role".to_owned(), |role| format!("the role {role}"));
    Ok(if who.may(&action) {
        json!({"allowed": true, "reason": format!("{} has {role}", who.user)})
    } else {
        json!({"allowed": false, "reason": format!("{} has {role}, which does not allow it", who.user)})
    })
}
