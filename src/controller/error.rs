//! What can go wrong in a reconcile. All of it is retried with growing pauses; what a user has to act on is a
//! condition of the object, not an error.

use kube::{Resource, ResourceExt};

/// A reconcile that did not get through.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API refused or lost a write.
    #[error("cannot write the {what} of {object}")]
    Write {
        /// Which part.
        what: &'static str,
        /// Kind, namespace and name.
        object: String,
        /// Why.
        #[source]
        source: Box<kube::Error>,
    },
    /// The API could not be read.
    #[error("cannot read {what}")]
    Read {
        /// Which objects.
        what: &'static str,
        /// Why.
        #[source]
        source: Box<kube::Error>,
    },
    /// A status could not be turned into JSON.
    #[error("cannot encode the status of {object}")]
    Encode {
        /// Kind, namespace and name.
        object: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// The host could not tidy up after an object.
    #[error("cannot remove what {object} has on this computer: {detail}")]
    Cleanup {
        /// Kind, namespace and name.
        object: String,
        /// What the host said.
        detail: String,
    },
}

impl Error {
    pub(super) fn write<K: Resource<DynamicType = ()>>(what: &'static str, object: &K, source: kube::Error) -> Self {
        Self::Write { what, object: name::<K>(object), source: Box::new(source) }
    }

    pub(super) fn read(what: &'static str, source: kube::Error) -> Self {
        Self::Read { what, source: Box::new(source) }
    }

    pub(super) fn encode<K: Resource<DynamicType = ()>>(object: &K, source: serde_json::Error) -> Self {
        Self::Encode { object: name::<K>(object), source }
    }

    pub(super) fn cleanup<K: Resource<DynamicType = ()>>(object: &K, detail: impl ToString) -> Self {
        Self::Cleanup { object: name::<K>(object), detail: detail.to_string() }
    }

    /// Somebody else changed the object in between: the next look at it settles the matter.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Write { source, .. } if matches!(source.as_ref(), kube::Error::Api(s) if s.code == 409))
    }
}

fn name<K: Resource<DynamicType = ()>>(object: &K) -> String {
    match object.namespace() {
        Some(namespace) => format!("{} {namespace}/{}", K::kind(&()), object.name_any()),
        None => format!("{} {}", K::kind(&()), object.name_any()),
    }
}
