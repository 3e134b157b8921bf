//! Connecting a command to its engine: hooks that start the local daemon and reach remote ones.

use std::sync::Arc;

use crate::cli::Global;
use crate::client::{Choice, Hooks, Session, connect};
use crate::config::Paths;

use super::failure::Failure;
use super::{host, out};

/// What the flags ask for.
pub fn choice(global: &Global) -> Choice {
    let text = |v: &Option<String>| v.clone().filter(|s| !s.is_empty());
    Choice {
        context: text(&global.context),
        host: text(&global.host),
        kubeconfig: global.kubeconfig.clone(),
        namespace: text(&global.namespace),
    }
}

/// How the local daemon is started and a remote one is reached.
pub fn hooks(paths: &Paths) -> Hooks {
    let paths = paths.clone();
    Hooks {
        start: Arc::new(move || {
            let paths = paths.clone();
            Box::pin(async move { host::start_in_background(&paths).await.map(|_| ()) })
        }),
        tunnel: Arc::new(|to| Box::pin(host::tunnel(to))),
    }
}

/// Connects a one-shot command. When the current context had to be passed over, that is said: the user may have
/// meant it.
pub async fn session(global: &Global, paths: &Paths) -> Result<Session, Failure> {
    let session = connect(&choice(global), paths, &hooks(paths)).await?;
    if session.reason.contains("cannot be used") {
        out::note(&format!("vmdeck: using this computer's host: {}", session.reason));
    }
    Ok(session)
}
