//! The daemon itself: lock, store, host, controllers, API, socket; in that order up, in reverse down. Ending it
//! stops no machine.

use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::routing::get;
use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::apiserver;
use crate::config::{Paths, Settings};
use crate::controller;
use crate::host::{Host, HostOptions, LocalHost};
use crate::store::Store;

use super::super::failure::Failure;
use super::lock::{Lock, LockError};
use super::log::{LogFile, filter};
use super::streams::{Dialer, Uploads};
use super::{private_dir, start, status, tls, token};

/// Longest path of a unix socket, without the end mark.
const SOCKET_PATH_MAX: usize = 107;

/// How long an image may wait for the beginning of its upload.
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(10 * 60);

/// Runs until SIGTERM or SIGINT. In the foreground errors are returned; as a daemon they are told to the starter.
pub fn run(paths: &Paths, foreground: bool) -> Result<(), Failure> {
    let result = prepare(paths, foreground).and_then(|lock| {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("vmdeck").build()?;
        let result = runtime.block_on(serve(paths, foreground));
        // Blocking work that hangs (a dead disk) must not keep us: everything acknowledged is on disk.
        runtime.shutdown_timeout(Duration::from_secs(2));
        drop(lock);
        result
    });
    match result {
        Err(failure) if !foreground => {
            tracing::error!("{}", failure.text);
            // The starter may be gone.
            let _ = writeln!(std::io::stdout(), "{}", failure.text);
            Err(Failure::quiet(failure.code))
        }
        other => other,
    }
}

/// What has to be done before there are threads.
fn prepare(paths: &Paths, foreground: bool) -> Result<Lock, Failure> {
    for dir in [&paths.state, &paths.runtime] {
        private_dir(dir)?;
    }
    let socket = paths.api_socket();
    if socket.as_os_str().len() > SOCKET_PATH_MAX {
        return Err(Failure::new(format!(
            "the socket's path {} is longer than {SOCKET_PATH_MAX} bytes\nSet VMDECK_HOME to a shorter folder.",
            socket.display()
        )));
    }
    let lock = Lock::take(&paths.lock_file()).map_err(|e| match e {
        // The starter knows this word.
        LockError::Held { pid } if !foreground => {
            Failure::new(format!("{} {}", start::HELD, pid.map_or_else(String::new, |p| p.to_string())))
        }
        other => {
            Failure::new(format!("{other}\nStop it with \"vmdeck host stop\", or set VMDECK_HOME to another folder."))
        }
    })?;
    if foreground {
        tracing_subscriber::fmt().with_env_filter(filter()).with_writer(std::io::stderr).init();
    } else {
        rustix::process::setsid().map_err(|e| Failure::new(format!("cannot leave the session: {e}")))?;
        let file = LogFile::open(&paths.host_log())
            .map_err(|e| Failure::new(format!("cannot write {}: {e}", paths.host_log().display())))?;
        let lines = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(file);
        tracing_subscriber::registry().with(filter()).with(lines).init();
    }
    std::panic::set_hook(Box::new(|panic| tracing::error!("panic: {panic}")));
    Ok(lock)
}

async fn serve(paths: &Paths, foreground: bool) -> Result<(), Failure> {
    let mut signals = Signals::new()?;
    let settings = Settings::load(&paths.settings_file()).map_err(|e| Failure::new(chain(&e)))?;
    tracing::info!(pid = std::process::id(), version = env!("CARGO_PKG_VERSION"), state = %paths.state.display(), "starting");
    let started = jiff::Timestamp::now();
    let state = paths.state.clone();
    let history = history(settings.host.history_seconds);
    let store = tokio::task::spawn_blocking(move || Store::open(&state, history))
        .await
        .map_err(|e| Failure::new(e.to_string()))?
        .map_err(|e| Failure::new(format!("cannot open the store in {}: {}", paths.state.display(), chain(&e))))?;
    let options = HostOptions { paths: paths.clone(), settings: settings.host.clone() };
    let host = LocalHost::open(options).await.map_err(|e| Failure::new(chain(&e)))?;
    let facts = host.node();
    for problem in facts.problems.iter().chain(&facts.notes) {
        tracing::warn!("{problem}");
    }
    tracing::info!(accelerator = facts.accelerator, reason = facts.accelerator_reason, "accelerator");
    let shutdown = CancellationToken::new();
    let audit_file = paths.state.join("audit.log");
    let audit = apiserver::Audit::open(&audit_file)
        .map(Arc::new)
        .map_err(|e| Failure::new(format!("cannot write the audit log {}: {e}", audit_file.display())))?;
    let options = apiserver::Options {
        dialer: Some(Arc::new(Dialer::new(Arc::clone(&host)))),
        uploads: Some(Arc::new(Uploads::new(Arc::clone(&host)))),
        networks: Some(settings.host.virtual_machine_cidrs.clone()),
        audit: Some(Arc::clone(&audit)),
        tokens: Some(Arc::new(apiserver::Tokens::at(&token::file(paths)))),
        shutdown: shutdown.clone(),
        ..apiserver::Options::default()
    };
    let store_name = store.identity();
    let api = apiserver::router(store.clone(), options);
    // Ends before the API does, which the controllers use to the last.
    let settle = CancellationToken::new();
    let secure = match settings.host.listen {
        Some(address) => Some(tls::open(paths, address, &node_name(&settings, &host)).await?),
        None => None,
    };
    let bound = secure.as_ref().map(|(listener, _)| listener.local_addr()).transpose()?;
    let upload = controller::UploadBase { socket: paths.api_socket(), external: bound.map(tls::url) };
    let mut reconcilers =
        tokio::spawn(reconcile(api.clone(), Arc::clone(&host), paths, &settings, store_name, upload, settle.clone()));
    let secure = secure.map(|(listener, tls)| {
        tracing::info!(address = ?bound, kubeconfig = %paths.state.join("kubeconfig").display(), "serving TLS");
        // Only the API: what the daemon tells of itself is for its owner.
        tokio::spawn(apiserver::serve_tls(listener, api.clone(), tls, shutdown.clone()))
    });
    let settling = store.clone();
    let account = Arc::new(Account { started, store, audit, spared: spared_file(paths), host: host.clone() });
    let router = axum::Router::new()
        .route(status::PATH, get(move || async move { axum::Json(account.report()) }))
        .fallback_service(api);
    let socket = paths.api_socket();
    let listener = listen(&socket)?;
    let own = identity(&socket);
    let server = tokio::spawn(apiserver::serve_unix(listener, router, shutdown.clone()));
    ready(foreground)?;
    tracing::info!(socket = %socket.display(), "serving");
    let early = tokio::select! {
        () = signals.recv() => None,
        ended = &mut reconcilers => Some(ended),
    };
    tracing::info!("stopping; machines go on");
    notify(&[sd_notify::NotifyState::Stopping]);
    // First the name, so that nobody connects to what is ending.
    if identity(&socket) == own
        && let Err(error) = std::fs::remove_file(&socket)
    {
        tracing::warn!(%error, "the socket could not be removed");
    }
    settle.cancel();
    let reconciled = match early {
        Some(ended) => ended,
        None => reconcilers.await,
    };
    shutdown.cancel();
    for server in std::iter::once(server).chain(secure) {
        match server.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "the server ended badly"),
            Err(error) => tracing::error!(%error, "the server ended badly"),
        }
    }
    thaw(&host).await;
    match tokio::time::timeout(Duration::from_secs(5), settling.settle()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "the store's log stays beside it"),
        Err(_) => tracing::warn!("the store's log stays beside it: the disk is slow"),
    }
    tracing::info!("stopped");
    // Without them nothing is reconciled: better to end and be started again.
    reconciled.map_err(|e| e.to_string()).flatten().map_err(|e| Failure::new(format!("the controllers failed: {e}")))
}

/// Where it is noted what belongs to a store before this one.
fn spared_file(paths: &Paths) -> PathBuf {
    paths.state.join("spared.json")
}

/// How much history the store keeps. It is looked through often enough that a short time is kept, too.
fn history(seconds: u64) -> crate::store::Options {
    let usual = crate::store::Options::default();
    let keep = Duration::from_secs(seconds);
    crate::store::Options { keep, compact_every: usual.compact_every.min(keep).max(Duration::from_secs(1)), ..usual }
}

/// Thaws what is frozen: a frozen guest hangs, and the next daemon may be long in coming.
async fn thaw(host: &LocalHost) {
    let frozen = host.machines().into_iter().filter(|machine| machine.frozen.is_some());
    let thawing = frozen.map(|machine| async move {
        if let Err(error) = host.thaw(&machine.id).await {
            tracing::warn!(machine = %machine.id.0, %error, "the next daemon has to thaw it");
        }
    });
    if tokio::time::timeout(Duration::from_secs(5), futures::future::join_all(thawing)).await.is_err() {
        tracing::warn!("some guests are left frozen: the next daemon has to thaw them");
    }
}

fn node_name(settings: &Settings, host: &LocalHost) -> String {
    settings.host.node_name.clone().unwrap_or_else(|| host.node().name)
}

/// Runs the controllers until `shutdown`; they see the API as any client does, only without a socket.
fn reconcile(
    api: axum::Router,
    host: Arc<LocalHost>,
    paths: &Paths,
    settings: &Settings,
    store: String,
    upload: controller::UploadBase,
    shutdown: CancellationToken,
) -> impl Future<Output = Result<(), String>> + Send + use<> {
    let options = controller::Options {
        cidrs: settings.host.virtual_machine_cidrs.clone(),
        node_name: node_name(settings, &host),
        capacity: controller::node::Capacity {
            cpu_percent: settings.host.cpu_overcommit_percent,
            memory_percent: settings.host.memory_overcommit_percent,
            reserved_memory: settings.host.reserved_memory_mebibytes.saturating_mul(1 << 20),
        },
        lease_retention: Duration::from_secs(settings.host.lease_retention_seconds),
        upload,
        upload_timeout: UPLOAD_TIMEOUT,
        store,
        spared: spared_file(paths),
        clock: Arc::new(jiff::Timestamp::now),
    };
    // Without a name in the request their fields would belong to the manager "unknown".
    let named = tower::util::MapRequest::new(api, |mut request: http::Request<kube::client::Body>| {
        request.headers_mut().insert(http::header::USER_AGENT, http::HeaderValue::from_static("vmdeck-controller"));
        request
    });
    let client = kube::Client::new(named, "default");
    async move { controller::run(client, host, options, shutdown.cancelled_owned()).await.map_err(|e| chain(&e)) }
}

/// Binds the socket under another name and moves it into place: a socket that a killed daemon left is replaced, and
/// whoever connects finds a server with the right permissions.
fn listen(socket: &Path) -> Result<UnixListener, Failure> {
    let fresh: PathBuf = socket.with_extension("new");
    let failed = |e: std::io::Error| Failure::new(format!("cannot serve at {}: {e}", socket.display()));
    match std::fs::remove_file(&fresh) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(failed(e)),
        _ => {}
    }
    let listener = UnixListener::bind(&fresh).map_err(failed)?;
    std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
    std::fs::rename(&fresh, socket).map_err(failed)?;
    Ok(listener)
}

/// Device and inode: tells our socket from one that another daemon has put there (somebody may have moved our whole
/// directory away).
fn identity(socket: &Path) -> Option<(u64, u64)> {
    let meta = std::fs::symlink_metadata(socket).ok()?;
    Some((meta.dev(), meta.ino()))
}

/// Tells the starter and systemd that requests are answered.
fn ready(foreground: bool) -> Result<(), Failure> {
    notify(&[sd_notify::NotifyState::Ready]);
    if foreground {
        return Ok(());
    }
    let mut stdout = std::io::stdout().lock();
    // The starter may be gone; we serve all the same.
    let _ = writeln!(stdout, "{}", start::READY).and_then(|()| stdout.flush());
    // Its pipe ends here: nothing of it stays open in us.
    let null = std::fs::File::options().write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdout(&null).map_err(std::io::Error::from)?;
    Ok(())
}

fn notify(states: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "systemd was not told");
    }
}

/// An error with its causes on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(e) = source {
        let more = e.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = e.source();
    }
    text
}

/// What `host status` shows.
struct Account {
    started: jiff::Timestamp,
    store: Store,
    audit: Arc<apiserver::Audit>,
    spared: PathBuf,
    host: Arc<LocalHost>,
}

impl Account {
    fn report(&self) -> status::Report {
        let facts = self.host.node();
        let machines = self.host.machines();
        let mut problems = facts.problems;
        problems.extend(self.store.trouble().map(|e| format!("nothing can be changed: {e}")));
        let lost = self.audit.lost();
        if lost > 0 {
            problems
                .push(format!("{lost} lines of the audit log could not be written since the start; the log says why"));
        }
        let mut notes = facts.notes;
        let spared = controller::spared(&self.spared, &*self.host);
        if spared > 0 {
            notes.push(format!(
                "left alone: {spared} machines or volumes without an object, from before the store was restored or lost \
                 (listed in {})",
                self.spared.display()
            ));
        }
        status::Report {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started: self.started,
            store_bytes: size_of(self.store.path()),
            accelerator: facts.accelerator,
            accelerator_reason: facts.accelerator_reason,
            qemu: facts.qemu_version,
            problems,
            notes,
            running: machines.iter().filter(|m| m.pid.is_some()).count(),
            machines: machines.len(),
        }
    }
}

/// Bytes of the database with its write-ahead log.
fn size_of(store: &Path) -> u64 {
    let wal = store.with_extension("db-wal");
    [store, &wal].iter().filter_map(|p| std::fs::metadata(p).ok()).map(|m| m.len()).sum()
}

struct Signals {
    term: tokio::signal::unix::Signal,
    int: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { term: signal(SignalKind::terminate())?, int: signal(SignalKind::interrupt())? })
    }

    async fn recv(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.int.recv() => {}
        }
    }
}
