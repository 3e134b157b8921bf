//! Who did what: one line of JSON per request that comes from outside this process, in the shape of `audit.k8s.io/v1`
//! at level Metadata. Bodies are never in it, nor are upload tokens.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use axum::http::{HeaderMap, Uri, header};
use serde_json::{Value, json};

use super::identity::{Action, Identity};

/// Lines that may wait to be written; more are counted as lost.
const QUEUE: usize = 4096;
/// The file is set aside at this size; one older one is kept.
const ROTATE_AT: u64 = 8 << 20;

/// Writes the lines on a thread of its own, so that no request waits for them. It ends with the last handle.
pub struct Audit {
    queue: SyncSender<Value>,
    lost: AtomicU64,
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
    /// Who; `None` when nobody known.
    pub who: Option<&'a Identity>,
    /// Where from.
    pub source: &'a str,
    /// What, if it is about objects: action, namespace, name.
    pub action: Option<(Action, Option<&'a str>, Option<&'a str>)>,
    /// The answer's code.
    pub code: u16,
    /// The answer goes on (watches, streams).
    pub goes_on: bool,
}

impl Audit {
    /// Appends to `path` (0600).
    ///
    /// # Errors
    /// When the file cannot be opened or the thread not started.
    pub fn open(path: &Path) -> io::Result<Self> {
        let (queue, lines) = sync_channel(QUEUE);
        let mut log = Log::open(path)?;
        std::thread::Builder::new().name("audit".to_owned()).spawn(move || log.run(&lines))?;
        Ok(Self { queue, lost: AtomicU64::new(0) })
    }

    /// Records a request. Never waits: lines that find no place are counted, and the next one tells how many.
    pub fn record(&self, record: &Record<'_>) {
        let mut event = event(record);
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            event["annotations"] = json!({"vmdeck/lost-before": lost.to_string()});
        }
        if self.queue.try_send(event).is_err() {
            self.lost.fetch_add(lost + 1, Ordering::Relaxed);
        }
    }
}

fn event(record: &Record<'_>) -> Value {
    let path = record.uri.path();
    let uri = if path.starts_with("/upload/") { "/upload/-".to_owned() } else { record.uri.to_string() };
    let agent = record.headers.get(header::USER_AGENT).and_then(|v| v.to_str().ok()).unwrap_or("");
    let user = match record.who {
        Some(who) => json!({"username": who.user, "groups": who.groups}),
        None => json!({"username": "system:anonymous", "groups": ["system:unauthenticated"]}),
    };
    let verb = record.action.as_ref().map_or_else(|| record.method.to_ascii_lowercase(), |(a, ..)| a.verb.clone());
    let mut event = json!({
        "kind": "Event",
        "apiVersion": "audit.k8s.io/v1",
        "level": "Metadata",
        "auditID": record.id,
        "stage": if record.goes_on { "ResponseStarted" } else { "ResponseComplete" },
        "requestURI": uri,
        "verb": verb,
        "user": user,
        "sourceIPs": [record.source],
        "userAgent": agent,
        "responseStatus": {"code": record.code},
        "requestReceivedTimestamp": stamp(record.received),
        "stageTimestamp": stamp(jiff::Timestamp::now()),
    });
    if let Some((action, namespace, name)) = &record.action {
        let fields = [
            ("apiGroup", action.group.as_str()),
            ("resource", action.resource.as_str()),
            ("subresource", action.subresource.as_str()),
            ("namespace", namespace.unwrap_or("")),
            ("name", name.unwrap_or("")),
        ];
        event["objectRef"] =
            fields.into_iter().filter(|(_, v)| !v.is_empty()).map(|(k, v)| (k.to_owned(), Value::from(v))).collect();
    }
    event
}

fn stamp(time: jiff::Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
}

/// The file.
struct Log {
    path: PathBuf,
    file: File,
    size: u64,
    /// The last line could not be written, which has been told.
    broken: bool,
}

impl Log {
    fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
        let size = file.metadata()?.len();
        Ok(Self { path: path.to_owned(), file, size, broken: false })
    }

    fn run(&mut self, lines: &Receiver<Value>) {
        while let Ok(event) = lines.recv() {
            let mut line = event.to_string();
            line.push('\n');
            match self.write(line.as_bytes()) {
                Ok(()) => self.broken = false,
                // Requests go on: a full disk must not keep anybody from deleting things.
                Err(error) if !self.broken => {
                    self.broken = true;
                    tracing::error!(%error, path = %self.path.display(), "the audit log cannot be written");
                }
                Err(_) => {}
            }
        }
    }

    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        if self.size >= ROTATE_AT {
            let mut old = self.path.as_os_str().to_owned();
            old.push(".1");
            std::fs::rename(&self.path, old)?;
            *self = Self::open(&self.path)?;
        }
        self.file.write_all(line)?;
        self.size += line.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record<'a>(uri: &'a Uri, headers: &'a HeaderMap, who: &'a Identity) -> Record<'a> {
        let action = Action { verb: "create".to_owned(), resource: "secrets".to_owned(), ..Action::default() };
        Record {
            id: "id",
            received: "2026-01-01T00:00:00Z".parse().unwrap(),
            method: "POST",
            uri,
            headers,
            who: Some(who),
            source: "uid:1000",
            action: Some((action, Some("default"), None)),
            code: 201,
            goes_on: false,
        }
    }

    #[test]
    fn events_say_who_and_what_but_no_tokens() {
        let (headers, who) = (HeaderMap::new(), Identity::owner());
        let told = event(&record(&"/api/v1/namespaces/default/secrets?x=y".parse().unwrap(), &headers, &who));
        assert_eq!(told["objectRef"], json!({"resource": "secrets", "namespace": "default"}));
        assert_eq!((&told["verb"], &told["user"]["username"]), (&json!("create"), &json!("system:admin")));
        assert_eq!(told["requestReceivedTimestamp"], "2026-01-01T00:00:00.000000Z");
        let upload = event(&record(&"/upload/hush".parse().unwrap(), &headers, &who));
        assert!(!upload.to_string().contains("hush"));
    }

    #[test]
    fn the_file_is_set_aside_when_it_is_large() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.log");
        let mut log = Log::open(&path).unwrap();
        log.write(b"first\n").unwrap();
        log.size = ROTATE_AT;
        log.write(b"second\n").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "second\n");
        assert_eq!(std::fs::read_to_string(dir.path().join("audit.log.1")).unwrap(), "first\n");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
