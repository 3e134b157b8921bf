//! Connecting a command to its engine: hooks that start the local daemon and reach remote ones.

use std::sync::Arc;

use crate::cli::Global;
use crate::client::{Choice, Hooks, Session, connect};
use crate::config::Paths;

use super::failure::Failure;
use super::{host, out};

/// What the flags ask for; without any, what the environment does.
pub fn choice(global: &Global) -> Choice {
    choose(global, |name| std::env::var(name).ok())
}

fn choose(global: &Global, variable: impl Fn(&str) -> Option<String>) -> Choice {
    let text = |v: &Option<String>| v.clone().filter(|s| !s.is_empty());
    let (mut context, mut host) = (text(&global.context), text(&global.host));
    if context.is_none() && host.is_none() {
        context = text(&variable("VMDECK_CONTEXT"));
    }
    if context.is_none() && host.is_none() {
        host = text(&variable("VMDECK_HOST"));
    }
    Choice { context, host, kubeconfig: global.kubeconfig.clone(), namespace: text(&global.namespace) }
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
    if session.passed_over.is_some() {
        out::note(&format!("vmdeck: using this computer's host: {}", session.reason));
    }
    Ok(session)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_beats_the_environment() {
        let global = |context: Option<&str>, host: Option<&str>| Global {
            context: context.map(Into::into),
            host: host.map(Into::into),
            ..Global::default()
        };
        let both = |name: &str| Some(name.to_lowercase());
        let only_host = |name: &str| (name == "VMDECK_HOST").then(|| "local".to_owned());
        let seen = |c: Choice| (c.context, c.host);
        assert_eq!(seen(choose(&global(Some("c"), None), both)), (Some("c".into()), None));
        assert_eq!(seen(choose(&global(None, Some("local")), both)), (None, Some("local".into())));
        assert_eq!(seen(choose(&global(None, None), both)), (Some("vmdeck_context".into()), None));
        assert_eq!(seen(choose(&global(None, None), only_host)), (None, Some("local".into())));
        assert_eq!(seen(choose(&global(None, None), |_| None)), (None, None));
    }
}
