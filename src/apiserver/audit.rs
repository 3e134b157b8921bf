//! Who did what: one line of JSON per request that comes from outside this process, in the shape of `audit.k8s.io/v1`
//! at level Metadata. Bodies are never in it, nor are upload tokens.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::time::Duration;

use axum::http::{HeaderMap, Uri, header};
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::audit_log::{Log, Losses};
use super::caller::Caller;
use super::identity::{Attributes, Identity, Target};
use super::request;

/// The stage of requests that are through.
const COMPLETE: &str = "ResponseComplete";
/// Lines that may wait to be written; more are counted as lost.
const QUEUE: usize = 4096;
/// How long the end may wait for the last lines.
const LAST_LINES: Duration = Duration::from_secs(2);

/// Writes the lines on a thread of its own, so that no request waits for them. With the last handle it writes what
/// is left and ends.
pub struct Audit {
    /// Gone only while it is dropped.
    queue: Option<SyncSender<Value>>,
    losses: Arc<Losses>,
    /// Hangs up when the thread has ended.
    ended: Mutex<Receiver<()>>,
}

/// One request.
#[derive(Debug)]
pub struct Record<'a> {
    /// Also in the answer's `Audit-Id`.
    pub id: &'a str,
    /// When it came.
    pub received: jiff::Timestamp,
    /// Method.
    pub method: &'a str,
    /// Path and query.
    pub uri: &'a Uri,
    /// Headers.
    pub headers: &'a HeaderMap,
    /// Who.
    pub caller: &'a Caller,
    /// Where from: an address, or `uid:` and a number.
    pub source: &'a str,
    /// What; `None` for a path that cannot be read.
    pub attributes: Option<Attributes>,
    /// The answer's code.
    pub code: u16,
    /// The answer has begun and goes on (watches, streams).
    pub goes_on: bool,
}

impl Audit {
    /// Appends to `path` (0600).
    ///
    /// # Errors
    /// When the file cannot be opened or the thread not started.
    pub fn open(path: &Path) -> io::Result<Self> {
        let (queue, lines) = sync_channel(QUEUE);
        let losses = Arc::<Losses>::default();
        let mut log = Log::open(path, Arc::clone(&losses))?;
        let (running, ended) = channel();
        std::thread::Builder::new().name("audit".to_owned()).spawn(move || {
            log.run(&lines);
            drop(running);
        })?;
        Ok(Self { queue: Some(queue), losses, ended: Mutex::new(ended) })
    }

    /// Records a request; one that goes on gives what tells its end. Never waits: lines that find no place are counted,
    /// and a later one tells how many.
    pub fn record(self: &Arc<Self>, record: &Record<'_>) -> Option<Ending> {
        let event = event(record);
        self.send(event.clone());
        record.goes_on.then(|| Ending { audit: Arc::clone(self), event })
    }

    /// Lines that were lost since the start.
    pub fn lost(&self) -> u64 {
        self.losses.total()
    }

    fn send(&self, event: Value) {
        if self.queue.as_ref().is_none_or(|queue| queue.try_send(event).is_err()) {
            self.losses.count();
        }
    }
}

/// Records the end of a request that went on, when it is dropped.
pub struct Ending {
    audit: Arc<Audit>,
    event: Value,
}

impl Drop for Ending {
    fn drop(&mut self) {
        let mut event = self.event.take();
        event["stage"] = COMPLETE.into();
        event["stageTimestamp"] = stamp(jiff::Timestamp::now()).into();
        self.audit.send(event);
    }
}

/// In the extensions of an answer: the name of the object that it is about. A create has none in its path.
#[derive(Debug, Clone)]
pub struct Named(pub String);

impl Drop for Audit {
    fn drop(&mut self) {
        self.queue = None;
        // A dead disk must not keep the process from ending.
        self.ended.get_mut().recv_timeout(LAST_LINES).ok();
    }
}

/// Path and query as they may be told: the token of an upload is as good as a password.
fn told(uri: &Uri) -> String {
    let first = uri.path().split('/').find(|segment| !segment.is_empty()).unwrap_or("");
    match request::decode_segment(first) {
        Ok(word) if word == "upload" => "/upload/-".to_owned(),
        _ => uri.path_and_query().map_or_else(|| uri.path().to_owned(), ToString::to_string),
    }
}

fn event(record: &Record<'_>) -> Value {
    let agent = record.headers.get(header::USER_AGENT).and_then(|v| v.to_str().ok()).unwrap_or("");
    let told_user = |who: &Identity| json!({"username": who.user, "groups": who.groups});
    let nobody = || json!({"username": "system:anonymous", "groups": ["system:unauthenticated"]});
    let user = record.caller.user.as_ref().map_or_else(nobody, told_user);
    let action = record.attributes.as_ref().map(|a| &a.action);
    let verb = action.map_or_else(|| record.method.to_ascii_lowercase(), |a| a.verb.clone());
    let mut event = json!({
        "kind": "Event",
        "apiVersion": "audit.k8s.io/v1",
        "level": "Metadata",
        "auditID": record.id,
        "stage": if record.goes_on { "ResponseStarted" } else { COMPLETE },
        "requestURI": told(record.uri),
        "verb": verb,
        "user": user,
        "userAgent": agent,
        "responseStatus": {"code": record.code},
        "requestReceivedTimestamp": stamp(record.received),
        "stageTimestamp": stamp(jiff::Timestamp::now()),
    });
    match record.source.parse::<std::net::IpAddr>() {
        Ok(address) => event["sourceIPs"] = json!([address.to_string()]),
        Err(_) => event["annotations"] = json!({"vmdeck/source": record.source}),
    }
    if let Some(who) = &record.caller.acting {
        event["impersonatedUser"] = told_user(who);
    }
    if let Some(id) = &record.caller.token {
        event["user"]["extra"]["authentication.kubernetes.io/credential-id"] = json!([format!("token:{id}")]);
    }
    if let Some(Attributes { action, namespace, name }) = &record.attributes
        && let Target::Resource { group, resource, subresource } = &action.target
    {
        let fields = [
            ("apiGroup", group.as_str()),
            ("apiVersion", version(record.uri.path())),
            ("resource", resource),
            ("subresource", subresource),
            ("namespace", namespace.as_deref().unwrap_or("")),
            ("name", name.as_deref().unwrap_or("")),
        ];
        event["objectRef"] =
            fields.into_iter().filter(|(_, v)| !v.is_empty()).map(|(k, v)| (k.to_owned(), Value::from(v))).collect();
    }
    event
}

/// The version in the path of a resource.
fn version(path: &str) -> &str {
    let mut segments = path.split('/').filter(|segment| !segment.is_empty());
    match (segments.next(), segments.next(), segments.next()) {
        (Some("api"), Some(version), _) | (Some("apis"), _, Some(version)) => version,
        _ => "",
    }
}

fn stamp(time: jiff::Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
}

#[cfg(test)]
mod tests {
    use axum::http::Method;

    use super::*;

    fn told(uri: &str, caller: &Caller) -> Value {
        let (uri, headers): (Uri, _) = (uri.parse().unwrap(), HeaderMap::new());
        event(&Record {
            id: "id",
            received: "2026-01-01T00:00:00Z".parse().unwrap(),
            method: "POST",
            uri: &uri,
            headers: &headers,
            caller,
            source: "uid:1000",
            attributes: request::segments(uri.path()).ok().map(|s| Attributes::of(&s, &Method::POST, false)),
            code: 201,
            goes_on: false,
        })
    }

    #[test]
    fn events_say_who_and_what_but_no_tokens() {
        let mut caller = Caller { user: Some(Identity::owner()), ..Caller::default() };
        let secrets = "/api/v1/namespaces/default/secrets?x=y";
        let plain = told(secrets, &caller);
        assert_eq!(plain["objectRef"], json!({"apiVersion": "v1", "resource": "secrets", "namespace": "default"}));
        assert_eq!((&plain["annotations"]["vmdeck/source"], plain.get("sourceIPs")), (&json!("uid:1000"), None));
        assert_eq!((&plain["verb"], &plain["user"]["username"]), (&json!("create"), &json!("system:admin")));
        assert_eq!(plain["requestReceivedTimestamp"], "2026-01-01T00:00:00.000000Z");
        for uri in ["/upload/hush", "//upload//hush", "/%75pload/hush/x", "/upload/hush?a=hush", "http://x/upload/hush"]
        {
            let upload = told(uri, &caller);
            assert!(!upload.to_string().contains("hush"), "{upload}");
        }
        caller.acting = Some(Identity::new("bob", vec!["vmdeck:view".to_owned()]));
        let both = told(secrets, &caller);
        let names = [&both["user"]["username"], &both["impersonatedUser"]["username"]];
        assert_eq!(names, [&json!("system:admin"), &json!("bob")]);
    }
}
