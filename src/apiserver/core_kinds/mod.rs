//! Rules of the built-in kinds: what Kubernetes fills in and refuses.

pub mod config;
pub mod event;
mod lease;
pub mod namespace;
mod node;
#[cfg(test)]
mod over_http;

use serde_json::{Map, Value};

use super::object::Object;
use super::status::{Cause, Failure};
use crate::types::kinds::KindInfo;

/// Why an object of a built-in kind is refused.
#[derive(Debug)]
pub enum Refusal {
    /// It cannot be decoded as this kind: 400.
    Malformed(String),
    /// It is wrong, field by field: 422.
    Invalid(Vec<Cause>),
}

impl Refusal {
    /// The answer.
    pub fn failure(self, kind: &KindInfo, name: &str) -> Failure {
        match self {
            Self::Malformed(detail) => {
                Failure::bad_request(format!("{} in version {:?} cannot be handled: {detail}", kind.kind, kind.version))
            }
            Self::Invalid(causes) => Failure::invalid_object(kind, name, &causes),
        }
    }
}

/// Fills in and checks an object before it is stored. `old` is what it replaces.
///
/// # Errors
/// See [`Refusal`].
pub fn admit(kind: &KindInfo, old: Option<&Object>, new: &mut Object) -> Result<(), Refusal> {
    match (kind.group, kind.kind) {
        ("", "Secret") => config::secret(old, new),
        ("", "ConfigMap") => config::config_map(old, new),
        ("", "Namespace") => {
            namespace::admit(old, new);
            Ok(())
        }
        ("", "Event") => unless(event::admit(old, new)),
        ("", "Node") => unless(node::check(old, new)),
        ("coordination.k8s.io", "Lease") => unless(lease::admit(new)),
        _ => Ok(()),
    }
}

fn unless(causes: Vec<Cause>) -> Result<(), Refusal> {
    if causes.is_empty() { Ok(()) } else { Err(Refusal::Invalid(causes)) }
}

/// Writes times as Kubernetes' MicroTime has them: UTC, six digits. Clients in Go read nothing else. What is no time is
/// left for the schema to refuse.
fn micro_times(object: &mut Map<String, Value>, fields: &[&str]) {
    for field in fields {
        let Some(value) = object.get_mut(*field) else { continue };
        if let Some(time) = value.as_str().and_then(|t| t.parse::<jiff::Timestamp>().ok()) {
            *value = time.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string().into();
        }
    }
}
