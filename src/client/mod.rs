//! The viewer's side of any API, local or remote: everything is a Kubernetes request. Nothing here knows which
//! engine answers.

use std::path::PathBuf;

pub mod connect;
mod error;
mod holder;
mod manifest;
mod objects;
mod request;
mod stream;
mod table;
mod unix;
mod upload;

pub use connect::{Choice, ConnectError, ContextInfo, Hooks, StartHook, TunnelHook, connect, contexts};
pub use error::{Cause, ClientError, ErrorKind};
pub use holder::Holder;
pub use manifest::{Document, ManifestError, read_documents};
pub use objects::{Applied, ObjectEvent, OperationType, Outcome, PatchType, Propagation, WriteOptions, event_time};
pub use request::{Answer, ListOptions, Requester, collection_path, object_path};
pub use stream::{ConsoleError, ConsoleStream, PortStream, StreamEnd};
pub use table::{Table, TableColumn, TableEvent, TableRow};
pub use upload::UploadProgress;

/// Our name in `managedFields`.
pub const FIELD_MANAGER: &str = "vmdeck";

/// Who reconciles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Engine {
    /// A cluster behind a kubeconfig context.
    Cluster {
        /// The context's name.
        context: String,
    },
    /// A vmdeck host behind a unix socket.
    Local {
        /// The socket.
        socket: PathBuf,
    },
}

impl Engine {
    /// Short name for headers and messages: `local` or the context's name, printable.
    pub fn label(&self) -> String {
        match self {
            Self::Cluster { context } => error::printable(context),
            Self::Local { .. } => "local".to_owned(),
        }
    }
}

/// A connection to an engine. Cheap to clone.
#[derive(Clone)]
pub struct Session {
    /// For what this module does not offer.
    pub client: kube::Client,
    /// Who answers.
    pub engine: Engine,
    /// Why this one, in a few words for the header.
    pub reason: String,
    /// The kubeconfig context that was to be used and could not be, if this computer's host stands in for it.
    pub passed_over: Option<String>,
    /// Namespace when none is named.
    pub default_namespace: String,
    /// The engine's own certificate authorities, DER: its upload addresses are served by the same.
    pub(crate) authorities: Vec<Vec<u8>>,
}

impl Session {
    pub(crate) fn new(client: kube::Client, engine: Engine, reason: String, default_namespace: String) -> Self {
        Self { client, engine, reason, passed_over: None, default_namespace, authorities: Vec::new() }
    }

    /// Raw requests with this module's error handling.
    pub fn requester(&self) -> Requester {
        Requester::new(self.client.clone())
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("engine", &self.engine).field("reason", &self.reason).finish_non_exhaustive()
    }
}
