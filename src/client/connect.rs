//! Choosing the engine: a kubeconfig context that serves the API group, or the local host. The decision is a pure
//! function; this file's I/O asks the candidates.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};

use super::error::{ClientError, chain, printable};
use super::request::Requester;
use super::{Engine, Session, unix};
use crate::config::Paths;
use crate::types::kinds::GROUP;

/// How long a kubeconfig context may take to answer.
pub const BUDGET: Duration = Duration::from_secs(2);

/// What the user asked for, from flags and settings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Choice {
    /// `--context`: a kubeconfig context, and nothing else.
    pub context: Option<String>,
    /// `--host`: `local`, `unix:///path/to/api.sock` or `ssh://user@host`.
    pub host: Option<String>,
    /// `--kubeconfig`: instead of `$KUBECONFIG` and `~/.kube/config`.
    pub kubeconfig: Option<PathBuf>,
    /// `--namespace`: instead of the context's.
    pub namespace: Option<String>,
}

/// Starts the local daemon and returns when it answers; the error is a text for the user.
pub type StartHook = Arc<dyn Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// Opens a way to a remote host's API socket and returns the local socket; the error is a text for the user.
pub type TunnelHook = Arc<dyn Fn(String) -> BoxFuture<'static, Result<PathBuf, String>> + Send + Sync>;

/// What [`connect`] needs from outside because only `run` knows how.
#[derive(Clone)]
pub struct Hooks {
    /// For the local engine when no daemon answers.
    pub start: StartHook,
    /// For `ssh://`.
    pub tunnel: TunnelHook,
}

/// No engine.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The kubeconfig cannot be used.
    #[error("the kubeconfig cannot be used: {cause}\nCheck the file, or use --host local for this computer.")]
    Kubeconfig {
        /// Why.
        cause: String,
    },
    /// No such context.
    #[error("there is no context \"{context}\" in the kubeconfig\n{known}")]
    NoContext {
        /// As given.
        context: String,
        /// Sentence naming those that exist.
        known: String,
    },
    /// The context does not answer, or not as wanted.
    #[error(
        "context \"{context}\" cannot be used: {cause}\n\
         Check network and credentials, choose another with --context, or use --host local for this computer."
    )]
    Context {
        /// Its name.
        context: String,
        /// Why.
        cause: String,
    },
    /// The local daemon could not be reached or started.
    #[error("the local host does not answer: {cause}")]
    Local {
        /// Why.
        cause: String,
    },
    /// The remote host could not be reached.
    #[error("host \"{host}\" cannot be used: {cause}")]
    Remote {
        /// As given.
        host: String,
        /// Why.
        cause: String,
    },
    /// `--host` has another form.
    #[error("\"{given}\" is no host\nUse local, unix:///path/to/api.sock or ssh://user@host.")]
    BadHost {
        /// As given.
        given: String,
    },
}

/// A context of the kubeconfig, for `:ctx`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContextInfo {
    /// Its name.
    pub name: String,
    /// The cluster's URL, if it has one.
    pub server: Option<String>,
    /// Its namespace, `default` if it names none.
    pub namespace: String,
    /// The kubeconfig's current one.
    pub current: bool,
}

/// What to try, in words; made by [`plan`].
#[derive(Debug, PartialEq, Eq)]
enum Plan {
    Local { reason: String },
    Socket(PathBuf),
    Ssh(String),
    Context { name: String, reason: String, fall_back: bool },
}

/// The decision, before anything has been asked. `current` is the kubeconfig's current context.
fn plan(choice: &Choice, current: Option<&str>) -> Result<Plan, ConnectError> {
    if let Some(host) = choice.host.as_deref() {
        return match host {
            "local" => Ok(Plan::Local { reason: "--host local".into() }),
            _ => match (host.strip_prefix("unix://"), host.strip_prefix("ssh://")) {
                (Some(path), _) if path.starts_with('/') => Ok(Plan::Socket(path.into())),
                (_, Some(to)) if !to.is_empty() && !to.starts_with('-') => {
                    Ok(Plan::Ssh(to.trim_end_matches('/').into()))
                }
                _ => Err(ConnectError::BadHost { given: printable(host) }),
            },
        };
    }
    if let Some(context) = &choice.context {
        return Ok(Plan::Context { name: context.clone(), reason: "--context".into(), fall_back: false });
    }
    Ok(match current {
        Some(name) => Plan::Context { name: name.into(), reason: "current kubeconfig context".into(), fall_back: true },
        None => Plan::Local { reason: "no kubeconfig context".into() },
    })
}

/// Connects to the engine that `choice` and the environment name. At most [`BUDGET`] is spent on a context.
pub async fn connect(choice: &Choice, paths: &Paths, hooks: &Hooks) -> Result<Session, ConnectError> {
    let kubeconfig = if choice.host.is_some() { Kubeconfig::default() } else { read_kubeconfig(choice)? };
    match plan(choice, kubeconfig.current_context.as_deref().filter(|c| !c.is_empty()))? {
        Plan::Local { reason } => local(choice, paths, hooks, reason).await,
        Plan::Socket(socket) => {
            reach(&socket).await.map_err(|cause| ConnectError::Remote { host: socket.display().to_string(), cause })?;
            Ok(socket_session(choice, socket, "--host".into()))
        }
        Plan::Ssh(to) => {
            let socket = (hooks.tunnel)(to.clone())
                .await
                .map_err(|cause| ConnectError::Remote { host: format!("ssh://{to}"), cause: printable(&cause) })?;
            Ok(socket_session(choice, socket, format!("ssh://{}", printable(&to))))
        }
        Plan::Context { name, reason, fall_back } => match cluster(choice, kubeconfig, &name, reason).await {
            Err(ConnectError::Context { context, cause }) if fall_back => {
                let reason = format!("context \"{context}\" cannot be used: {cause}");
                let session = local(choice, paths, hooks, reason).await?;
                Ok(Session { passed_over: Some(context), ..session })
            }
            other => other,
        },
    }
}

/// The contexts of the kubeconfig, in its order. No kubeconfig, no contexts.
pub fn contexts(kubeconfig: Option<&std::path::Path>) -> Result<Vec<ContextInfo>, ConnectError> {
    let choice = Choice { kubeconfig: kubeconfig.map(Into::into), ..Choice::default() };
    let config = read_kubeconfig(&choice)?;
    let server = |cluster: &str| {
        let found = config.clusters.iter().find(|c| c.name == cluster)?;
        found.cluster.as_ref()?.server.as_deref().map(printable)
    };
    Ok(config
        .contexts
        .iter()
        .map(|c| ContextInfo {
            name: c.name.clone(),
            server: c.context.as_ref().and_then(|x| server(&x.cluster)),
            namespace: c.context.as_ref().and_then(|x| x.namespace.clone()).unwrap_or_else(|| "default".into()),
            current: config.current_context.as_deref() == Some(c.name.as_str()),
        })
        .collect())
}

fn read_kubeconfig(choice: &Choice) -> Result<Kubeconfig, ConnectError> {
    let read = match &choice.kubeconfig {
        Some(path) => Kubeconfig::read_from(path),
        None => Kubeconfig::read(),
    };
    match read {
        Ok(config) => Ok(config),
        Err(KubeconfigError::ReadConfig(e, _))
            if e.kind() == std::io::ErrorKind::NotFound && choice.kubeconfig.is_none() =>
        {
            Ok(Kubeconfig::default())
        }
        Err(KubeconfigError::FindPath) => Ok(Kubeconfig::default()),
        Err(e) => Err(ConnectError::Kubeconfig { cause: printable(&e.to_string()) }),
    }
}

async fn cluster(choice: &Choice, config: Kubeconfig, name: &str, reason: String) -> Result<Session, ConnectError> {
    if !config.contexts.iter().any(|c| c.name == name) {
        let names: Vec<String> = config.contexts.iter().map(|c| format!("\"{}\"", printable(&c.name))).collect();
        let known = if names.is_empty() {
            "It has no contexts at all.".to_owned()
        } else {
            format!("It has {}.", names.join(", "))
        };
        return Err(ConnectError::NoContext { context: printable(name), known });
    }
    let context = name.to_owned();
    let failed = |cause: String| ConnectError::Context { context: printable(name), cause };
    let attempt = async {
        let options = KubeConfigOptions { context: Some(name.to_owned()), ..KubeConfigOptions::default() };
        let config =
            kube::Config::from_custom_kubeconfig(config, &options).await.map_err(|e| printable(&e.to_string()))?;
        let server = config.cluster_url.to_string();
        let authorities = config.root_cert.clone().unwrap_or_default();
        // An exec credential plugin blocks.
        let client = tokio::task::spawn_blocking(move || kube::Client::try_from(config))
            .await
            .map_err(|e| e.to_string())?
            .map_err(|e| printable(&chain(&e)))?;
        serves_group(&client).await.map_err(|e| format!("{server}: {}", e.text()))?;
        Ok::<_, String>((client, authorities))
    };
    let (client, authorities) = match tokio::time::timeout(BUDGET, attempt).await {
        Ok(result) => result.map_err(failed)?,
        Err(_) => return Err(failed(format!("no answer within {} s", BUDGET.as_secs()))),
    };
    let default_namespace = choice.namespace.clone().unwrap_or_else(|| client.default_namespace().to_owned());
    let session = Session::new(client, Engine::Cluster { context }, reason, default_namespace);
    Ok(Session { authorities, ..session })
}

async fn serves_group(client: &kube::Client) -> Result<(), ClientError> {
    let path = format!("/apis/{GROUP}");
    match Requester::new(client.clone()).json(http::Method::GET, &path, None, None).await {
        Ok(_) => Ok(()),
        Err(e) if e.is_not_found() => {
            Err(ClientError::new(super::ErrorKind::NotFound, format!("it does not serve the API group {GROUP}")))
        }
        Err(e) => Err(e),
    }
}

async fn local(choice: &Choice, paths: &Paths, hooks: &Hooks, reason: String) -> Result<Session, ConnectError> {
    let socket = paths.api_socket();
    if reach(&socket).await.is_err() {
        (hooks.start)().await.map_err(|cause| ConnectError::Local { cause })?;
        reach(&socket).await.map_err(|cause| ConnectError::Local { cause })?;
    }
    Ok(socket_session(choice, socket, reason))
}

/// Somebody accepts connections there.
async fn reach(socket: &std::path::Path) -> Result<(), String> {
    match tokio::net::UnixStream::connect(socket).await {
        Ok(_) => Ok(()),
        Err(e) => Err(format!("{}: {e}", socket.display())),
    }
}

fn socket_session(choice: &Choice, socket: PathBuf, reason: String) -> Session {
    let default_namespace = choice.namespace.clone().unwrap_or_else(|| "default".into());
    let client = unix::client(&socket, &default_namespace);
    Session::new(client, Engine::Local { socket }, reason, default_namespace)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choice(context: Option<&str>, host: Option<&str>) -> Choice {
        Choice { context: context.map(Into::into), host: host.map(Into::into), ..Choice::default() }
    }

    #[test]
    fn what_is_tried() {
        let context =
            |name: &str, reason: &str, fall_back| Plan::Context { name: name.into(), reason: reason.into(), fall_back };
        let cases = [
            (choice(None, Some("local")), Some("c"), Plan::Local { reason: "--host local".into() }),
            (choice(None, Some("unix:///x/api.sock")), None, Plan::Socket("/x/api.sock".into())),
            (choice(None, Some("ssh://a@b")), None, Plan::Ssh("a@b".into())),
            (choice(Some("prod"), None), Some("c"), context("prod", "--context", false)),
            (choice(None, None), Some("c"), context("c", "current kubeconfig context", true)),
            (choice(None, None), None, Plan::Local { reason: "no kubeconfig context".into() }),
        ];
        for (choice, current, want) in cases {
            assert_eq!(plan(&choice, current).unwrap(), want, "{choice:?} {current:?}");
        }
    }

    #[test]
    fn a_host_that_is_an_option_or_a_word_is_refused() {
        for host in ["ssh://-oProxyCommand=x", "tcp://x", "unix://relative", "ssh://", ""] {
            assert!(matches!(plan(&choice(None, Some(host)), None), Err(ConnectError::BadHost { .. })), "{host}");
        }
    }

    #[tokio::test]
    async fn unreachable_context_is_an_error_with_its_cause_within_the_budget() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("kubeconfig");
        std::fs::write(&file, KUBECONFIG).unwrap();
        let choice = Choice { context: Some("dead".into()), kubeconfig: Some(file.clone()), ..Choice::default() };
        let hooks = Hooks {
            start: Arc::new(|| Box::pin(async { Err("no daemon here".to_owned()) })),
            tunnel: Arc::new(|_| Box::pin(async { Err("no tunnel".to_owned()) })),
        };
        let paths = Paths::under(dir.path());
        let begun = std::time::Instant::now();
        let text = connect(&choice, &paths, &hooks).await.err().unwrap().to_string();
        assert!(text.contains("refused"), "{text}");
        assert!(begun.elapsed() < BUDGET + Duration::from_secs(1));
        // Without --context it falls back, and the local failure is what is told.
        let choice = Choice { kubeconfig: Some(file), ..Choice::default() };
        let text = connect(&choice, &paths, &hooks).await.err().unwrap().to_string();
        assert!(text.contains("no daemon here"), "{text}");
    }

    #[test]
    fn contexts_of_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("kubeconfig");
        std::fs::write(&file, KUBECONFIG).unwrap();
        let list = contexts(Some(&file)).unwrap();
        assert_eq!(list.len(), 1);
        assert!(list[0].current);
        assert_eq!(list[0].namespace, "team");
    }

    const KUBECONFIG: &str = "apiVersion: v1\nkind: Config\ncurrent-context: dead\n\
        clusters: [{name: dead, cluster: {server: 'http://127.0.0.1:1'}}]\n\
        users: [{name: u, user: {}}]\n\
        contexts: [{name: dead, context: {cluster: dead, user: u, namespace: team}}]\n";
}
