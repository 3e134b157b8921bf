//! Rules of the built-in kinds: what Kubernetes fills in and refuses.

pub mod config;
pub mod event;
pub mod namespace;

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
        _ => Ok(()),
    }
}
