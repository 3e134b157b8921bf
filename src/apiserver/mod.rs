//! Kubernetes' HTTP semantics over the store. Knows no QEMU: byte streams into machines and uploads are traits
//! that [`crate::run`] implements with the host.
//!
//! ```text
//! request -> request::route + Query (what is meant) -> read | watch | write | delete | review | stream | upload
//!                                                        write: decode -> prepare (pure) -> admission -> store
//! ```
//!
//! [`router`] is one service for the controllers in this process and for [`serve_unix`].

pub mod admission;
mod admit;
pub mod apply;
mod apply_call;
pub mod audit;
mod audit_log;
pub mod body;
pub mod caller;
pub mod core_kinds;
pub mod decode;
pub mod definitions;
pub mod delete;
pub mod discovery;
mod documents;
pub mod fixed;
mod freeze;
pub mod gc;
pub mod identity;
mod lasting;
pub mod media;
pub mod metadata;
pub mod object;
pub mod openapi;
pub mod patch;
pub mod prepare;
pub mod present;
pub mod protobuf;
pub mod read;
pub mod request;
pub mod review;
pub mod rights;
pub mod select;
pub mod serve;
mod skim;
pub mod status;
pub mod strategic;
pub mod stream;
mod tail;
pub mod tls;
pub mod tokens;
pub mod upload;
mod verbs;
mod viewers;
pub mod watch;
pub mod write;

#[cfg(test)]
mod rights_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_limits;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderValue, Method, Request, Response, StatusCode, header, request::Parts};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde_json::json;
use tokio::sync::{OnceCell, Semaphore, SemaphorePermit};
use tokio_util::sync::CancellationToken;

use crate::store::{Expect, Key, Store, Write, WriteError};
use admit::{Admitted, admit, drain};
use caller::Caller;
use documents::{accept, document_response, openapi_document};
use identity::{Attributes, Identity, Peer};
use request::{Part, Query, Route};
use status::Failure;
use tail::Tail;

pub use audit::Audit;
pub use serve::serve_unix;
pub use tls::{Authority, Tls, serve_tls};
pub use tokens::Tokens;
pub use upload::{UploadError, UploadPart, UploadSink};

/// Largest request body.
const MAX_BODY: usize = 3 << 20;
/// Longest time for a body to come; it holds a place among the requests under way.
const BODY_TIME: Duration = Duration::from_secs(60);

/// The Kubernetes version whose API is spoken.
const KUBERNETES: (u32, u32) = (1, 32);

/// What the server is told when it is made.
#[derive(Clone)]
pub struct Options {
    /// Release, as `/version` tells it beside the Kubernetes version.
    pub release: String,
    /// Opens streams into machines.
    pub dialer: Option<Arc<dyn StreamDialer>>,
    /// Takes uploads.
    pub uploads: Option<Arc<dyn UploadSink>>,
    /// Subnets for machine addresses; `None` when unknown, so that addresses are not checked against them.
    pub networks: Option<Vec<ipnet::Ipv4Net>>,
    /// Takes a line for each request from outside this process.
    pub audit: Option<Arc<Audit>>,
    /// Bearer tokens; without them none is good.
    pub tokens: Option<Arc<Tokens>>,
    /// Ends watches, streams and background work.
    pub shutdown: CancellationToken,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            release: env!("CARGO_PKG_VERSION").to_owned(),
            dialer: None,
            uploads: None,
            networks: None,
            audit: None,
            tokens: None,
            shutdown: CancellationToken::new(),
        }
    }
}

/// The server.
pub struct Api {
    store: Store,
    options: Options,
    started: OnceCell<()>,
    /// Held while a write that depends on other objects is checked and done.
    alone: tokio::sync::Mutex<()>,
    /// Requests that may be under way at once, watches and streams not counted.
    reads: Semaphore,
    writes: Semaphore,
    /// Watches and streams.
    places: tail::Places,
    viewers: viewers::Viewers,
}

/// Makes the service. It answers in this process (`kube::Client::new(router, "default")`) as well as on a socket
/// ([`serve_unix`]). Background work starts with the first request, so a Tokio runtime is needed only then.
pub fn router(store: Store, options: Options) -> Router {
    let api = Arc::new(Api {
        store,
        options,
        started: OnceCell::new(),
        alone: tokio::sync::Mutex::new(()),
        reads: Semaphore::new(400),
        writes: Semaphore::new(200),
        places: tail::Places::default(),
        viewers: viewers::Viewers::default(),
    });
    Router::new().fallback(entrance).with_state(api)
}

async fn entrance(State(api): State<Arc<Api>>, request: Request<Body>) -> Response<Body> {
    let received = jiff::Timestamp::now();
    let (mut parts, body) = request.into_parts();
    let tail = parts.extensions.get::<Peer>().map(|_| Tail::default());
    if let Some(tail) = tail.clone() {
        parts.extensions.insert(tail);
    }
    let watch = is_watch(&parts.method, &Query::of(&parts.uri).unwrap_or_default());
    let id = uuid::Uuid::new_v4().to_string();
    let caller = Caller::of(&parts, api.options.tokens.as_deref(), received);
    let audited = api.options.audit.clone().zip(parts.extensions.get::<Peer>().cloned());
    let audited =
        audited.map(|(audit, peer)| (audit, peer, parts.method.clone(), parts.uri.clone(), parts.headers.clone()));

    let handled = AssertUnwindSafe(api.handle(&caller, parts, body)).catch_unwind().await;
    let mut response = match handled {
        Ok(Ok(response)) => response,
        Ok(Err(failure)) => failure.response(),
        Err(_) => Failure::internal("the server failed to handle this request; see its log").response(),
    };
    let headers = response.headers_mut();
    if let Ok(id) = HeaderValue::try_from(&id) {
        headers.insert("audit-id", id);
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-cache, private"));

    let named = response.extensions_mut().remove::<audit::Named>();
    let mut ending = None;
    if let Some((audit, peer, method, uri, headers)) = audited {
        let attributes = request::segments(uri.path()).ok().map(|s| Attributes::of(&s, &method, watch)).map(|mut a| {
            a.name = a.name.or(named.map(|n| n.0));
            a
        });
        ending = audit.record(&audit::Record {
            id: &id,
            received,
            method: method.as_str(),
            uri: &uri,
            headers: &headers,
            caller: &caller,
            source: &peer.source,
            attributes,
            code: response.status().as_u16(),
            goes_on: goes_on(watch, response.status()),
        });
    }
    match tail {
        Some(tail) if goes_on(watch, response.status()) => {
            ending.into_iter().for_each(|ending| tail.tell(ending));
            // A stream keeps its tail itself.
            if watch { tail.along(response) } else { response }
        }
        _ => response,
    }
}

/// Whether an answer has only begun.
fn goes_on(watch: bool, code: StatusCode) -> bool {
    (watch && code.is_success()) || code == StatusCode::SWITCHING_PROTOCOLS
}

/// Whether a list is to go on as a watch. A word that is neither yes nor no is refused elsewhere.
fn is_watch(method: &Method, query: &Query) -> bool {
    read_only(method).is_ok() && query.flag("watch").ok().flatten().unwrap_or(false)
}

impl Api {
    async fn handle(
        self: &Arc<Self>,
        caller: &Caller,
        mut parts: Parts,
        body: Body,
    ) -> Result<Response<Body>, Failure> {
        self.started.get_or_try_init(|| self.start()).await?;
        let admitted = match admit(caller, &parts) {
            Ok(admitted) => admitted,
            Err(failure) => {
                drain(body).await;
                return Err(failure);
            }
        };
        let (route, query, who) = match admitted {
            Admitted::Open(Route::Upload(token)) => return self.upload(&token, &parts, body).await,
            Admitted::Open(route) => return self.public(&route, &parts),
            Admitted::Known { route, query, who } => (route, query, who),
        };
        let watch = is_watch(&parts.method, &query);
        let stream = matches!(route, Route::Stream(..));
        if (watch || stream)
            && let Some(tail) = parts.extensions.get::<Tail>()
        {
            tail.hold(self.places.take(&who.user)?);
        }
        let _slot = match route {
            Route::Upload(_) => None,
            _ if watch || stream => None,
            _ => Some(self.slot(&parts.method)?),
        };
        if !watch && !stream {
            let life = self.options.shutdown.clone();
            return self.answer(route, who, &mut parts, &query, body, life).await;
        }
        let token = self.options.tokens.clone().zip(caller.token.clone());
        let held = lasting::hold(token, &self.options.shutdown);
        if let Route::Stream(namespace, name, stream) = route {
            let streams = stream::Streams {
                store: &self.store,
                dialer: self.options.dialer.as_deref(),
                viewers: &self.viewers,
                who: &who.user,
            };
            return streams.open(&namespace, &name, stream, &mut parts, &query, held).await;
        }
        let response = self.answer(route, who, &mut parts, &query, body, held.life()).await?;
        Ok(held.with(response))
    }

    /// `life` ends what lasts.
    async fn answer(
        self: &Arc<Self>,
        route: Route,
        who: &Identity,
        parts: &mut Parts,
        query: &Query,
        body: Body,
        life: CancellationToken,
    ) -> Result<Response<Body>, Failure> {
        // A word that is neither yes nor no is refused here.
        let watch = read_only(&parts.method).is_ok() && query.flag("watch")?.unwrap_or(false);
        match route {
            Route::Health | Route::Version => self.public(&route, parts),
            // Opened before, since it takes the connection.
            Route::Stream(..) => Err(Failure::no_such_path()),
            Route::Freeze(namespace, name, which) => {
                let (dialer, which) = (self.options.dialer.as_deref(), (namespace.as_str(), name.as_str(), which));
                freeze::answer(&self.store, dialer, which, &parts.method, &take(body).await?).await
            }
            Route::Discovery(path) => {
                read_only(&parts.method)?;
                let path: Vec<&str> = path.iter().map(String::as_str).collect();
                let document = discovery::document(&path, &accept(&parts.headers)).ok_or_else(Failure::no_such_path)?;
                Ok(document_response(document, &parts.headers))
            }
            Route::OpenApi(path) => {
                read_only(&parts.method)?;
                openapi_document(path, query, &parts.headers).await
            }
            Route::Fixed(fixed) => {
                read_only(&parts.method)?;
                fixed::answer(&fixed, query, media::wanted(&parts.headers)?, watch, life)
            }
            Route::Review(plural) => {
                if parts.method != Method::POST {
                    return Err(Failure::method_not_allowed());
                }
                let body = take(body).await?;
                let review = media::object(&parts.headers, &body)?.object;
                review::answer(plural, review, who, media::wanted(&parts.headers)?)
            }
            Route::Collection(collection) if watch => {
                watch::watch(&self.store, &collection, None, query, media::wanted(&parts.headers)?, life).await
            }
            Route::Object(collection, name, Part::Main) if watch => {
                let wanted = media::wanted(&parts.headers)?;
                watch::watch(&self.store, &collection, Some(&name), query, wanted, life).await
            }
            Route::Collection(collection) => self.collection(&collection, parts, query, body).await,
            Route::Object(collection, name, part) => self.object(&collection, &name, part, parts, query, body).await,
            Route::Upload(token) => self.upload(&token, parts, body).await,
        }
    }

    /// A place among the requests that are under way.
    fn slot(&self, method: &Method) -> Result<SemaphorePermit<'_>, Failure> {
        let reads = matches!(*method, Method::GET | Method::HEAD);
        let slots = if reads { &self.reads } else { &self.writes };
        slots.try_acquire().map_err(|_| Failure::too_many_requests())
    }

    async fn upload(&self, token: &str, parts: &Parts, body: Body) -> Result<Response<Body>, Failure> {
        upload::receive(self.options.uploads.as_deref(), token, &parts.method, &parts.headers, body).await
    }

    /// What anybody may ask.
    fn public(&self, route: &Route, parts: &Parts) -> Result<Response<Body>, Failure> {
        if matches!(route, Route::Version) { self.version(parts) } else { health(&parts.method) }
    }

    fn version(&self, parts: &Parts) -> Result<Response<Body>, Failure> {
        read_only(&parts.method)?;
        let (major, minor) = KUBERNETES;
        let version = json!({
            "major": major.to_string(),
            "minor": minor.to_string(),
            "gitVersion": format!("v{major}.{minor}.0-vmdeck.{}", self.options.release),
            "gitCommit": "",
            "gitTreeState": "clean",
            "buildDate": "1970-01-01T00:00:00Z",
            "goVersion": "",
            "compiler": "rustc",
            "platform": format!("{}/{}", std::env::consts::OS, architecture()),
        });
        Ok(media::object_response(StatusCode::OK, &version, media::wanted(&parts.headers)?))
    }

    /// Makes what is always there and starts background work.
    async fn start(self: &Arc<Self>) -> Result<(), Failure> {
        for name in core_kinds::namespace::PERMANENT {
            let key = Key::new("namespaces", "", name);
            let mut object = core_kinds::namespace::fresh(name);
            let Some(kind) = crate::types::kinds::by_resource("", "namespaces") else { continue };
            prepare::fresh(kind, &mut object, &uuid::Uuid::new_v4().to_string(), &object::now());
            prepare::check(kind, None, &mut object)?;
            let action = crate::store::Action::Put(object::encode(&object));
            match self.store.write(Write { key, expect: Expect::Absent, requires: Vec::new(), action }).await {
                Ok(_) | Err(WriteError::Exists(_)) => {}
                Err(error) => return Err(Failure::from_write(error, kind, name)),
            }
        }
        tokio::spawn(gc::run(self.store.clone(), self.options.shutdown.clone()));
        Ok(())
    }
}

/// Reads a body, up to what a request may have.
async fn take(body: Body) -> Result<Bytes, Failure> {
    let Ok(collected) = tokio::time::timeout(BODY_TIME, Limited::new(body, MAX_BODY).collect()).await else {
        let message = format!("the body of the request did not come within {} seconds", BODY_TIME.as_secs());
        return Err(Failure::new(StatusCode::GATEWAY_TIMEOUT, "Timeout", message));
    };
    match collected {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.downcast_ref::<LengthLimitError>().is_some() => Err(Failure::too_large(MAX_BODY)),
        Err(error) => Err(Failure::bad_request(format!("the body could not be read: {error}"))),
    }
}

fn read_only(method: &Method) -> Result<(), Failure> {
    if matches!(*method, Method::GET | Method::HEAD) { Ok(()) } else { Err(Failure::method_not_allowed()) }
}

/// The architecture as Go, and so Kubernetes, calls it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn health(method: &Method) -> Result<Response<Body>, Failure> {
    read_only(method)?;
    Ok(media::finish(StatusCode::OK, "text/plain; charset=utf-8", Bytes::from_static(b"ok"), false))
}

/// A byte stream into a machine (console, VNC, one forwarded connection).
pub trait DuplexStream: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin {}
impl<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin> DuplexStream for T {}

/// Which stream of a machine is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamKind {
    /// Serial console, preceded by at most `history` bytes from before.
    Console {
        /// Bytes of history.
        history: usize,
    },
    /// RFB.
    Vnc,
    /// One connection to a port of the guest.
    PortForward {
        /// Port.
        port: u16,
        /// UDP instead of TCP.
        udp: bool,
    },
}

/// Why a stream could not be opened; the text is shown to the user.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StreamError {
    /// The machine is not in a state in which this works yet: the client may try again.
    #[error("{0}")]
    NotReady(String),
    /// It will not work.
    #[error("{0}")]
    Failed(String),
}

/// Opens byte streams into machines; `uid` is the VirtualMachine's UID.
pub trait StreamDialer: Send + Sync + 'static {
    /// Opens one stream.
    fn dial(&self, uid: &str, kind: StreamKind) -> BoxFuture<'_, Result<Box<dyn DuplexStream>, StreamError>>;

    /// Freezes the file systems of the machine's guest, for at most so long.
    fn freeze(&self, uid: &str, timeout: Duration) -> BoxFuture<'_, Result<(), StreamError>>;

    /// Thaws them.
    fn unfreeze(&self, uid: &str) -> BoxFuture<'_, Result<(), StreamError>>;
}
