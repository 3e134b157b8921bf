//! `upload`: a local file's content into an image or disk that waits for it.

use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use parking_lot::Mutex;
use serde_json::Value;

use crate::cli::UploadArgs;
use crate::client::{Engine, ObjectEvent, UploadProgress};
use crate::types::kinds::KindInfo;
use crate::types::quantity::human_bytes;

use super::failure::Failure;
use super::resolve::{Selection, singular_group};
use super::{Context, out};

/// Runs the verb.
pub async fn run(context: &Context, args: UploadArgs) -> Result<(), Failure> {
    if !args.file.is_file() {
        return Err(Failure::new(format!("{} is no file that can be read", args.file.display())));
    }
    let (kind, name) = Selection::one(std::slice::from_ref(&args.target))?;
    if !["VirtualImage", "ClusterVirtualImage", "VirtualDisk"].contains(&kind.kind) {
        return Err(Failure::usage(format!("{} takes no content; use vi/NAME, cvi/NAME or vd/NAME", kind.kind)));
    }
    let namespace = kind.namespaced().then(|| context.default_namespace());
    // A name that does not exist is told at once.
    let object = context.session.get(kind, namespace, &name).await?;
    if object["spec"]["dataSource"]["type"] != "Upload" {
        return Err(Failure::new(format!(
            "{}/{name} does not wait for an upload: its spec.dataSource.type is not Upload",
            singular_group(kind)
        )));
    }
    let local = matches!(context.session.engine, Engine::Local { .. });
    let found =
        tokio::time::timeout(args.timeout, until(context, kind, namespace, &name, |o| upload_url(o, local))).await;
    let url = match found {
        Ok(url) => url?,
        Err(_) => {
            let text =
                format!("{}/{name} still takes no content after {} s", singular_group(kind), args.timeout.as_secs());
            return Err(Failure::new(text));
        }
    };
    let meter = Arc::new(Meter::new());
    let hook = Arc::clone(&meter);
    let sent = context.session.upload(&url, &args.file, Arc::new(move |p| hook.show(p))).await;
    meter.end();
    sent.map_err(|e| Failure::from(e).context(&format!("{}/{name}", singular_group(kind))))?;
    if args.no_wait {
        return out::line(&format!("{}/{name} uploaded", singular_group(kind)));
    }
    until(context, kind, namespace, &name, outcome).await?;
    out::line(&format!("{}/{name} uploaded", singular_group(kind)))
}

/// Follows the object until `decide` has an answer.
async fn until<T>(
    context: &Context,
    kind: &KindInfo,
    namespace: Option<&str>,
    name: &str,
    decide: impl Fn(&Value) -> Option<Result<T, Failure>>,
) -> Result<T, Failure> {
    let mut events = Box::pin(context.session.watch_object(kind, namespace, name));
    while let Some(event) = events.next().await {
        match event {
            ObjectEvent::Now(object) => {
                if let Some(result) = decide(&object) {
                    return result;
                }
            }
            ObjectEvent::Gone => return Err(Failure::new(format!("{}/{name} was deleted", singular_group(kind)))),
            ObjectEvent::Stale(_) => {}
        }
    }
    Err(Failure::new("the watch ended"))
}

/// Where the content goes, once the object says so.
fn upload_url(object: &Value, local: bool) -> Option<Result<String, Failure>> {
    let status = &object["status"];
    match status["phase"].as_str() {
        Some("Ready") => return Some(Err(Failure::new("it has its content already"))),
        Some("Failed") => return Some(Err(Failure::new(format!("it has failed: {}", reason(object))))),
        _ => {}
    }
    let urls = &status["imageUploadURLs"];
    let order = if local { ["inCluster", "external"] } else { ["external", "inCluster"] };
    order.iter().find_map(|key| urls[*key].as_str().filter(|u| !u.is_empty())).map(|u| Ok(u.to_owned()))
}

fn outcome(object: &Value) -> Option<Result<(), Failure>> {
    match object["status"]["phase"].as_str() {
        Some("Ready") => Some(Ok(())),
        Some("Failed" | "Lost") => Some(Err(Failure::new(format!("the content was not taken: {}", reason(object))))),
        _ => None,
    }
}

fn reason(object: &Value) -> String {
    let conditions = object["status"]["conditions"].as_array();
    let said = conditions
        .into_iter()
        .flatten()
        .filter(|c| c["status"] == "False")
        .find_map(|c| c["message"].as_str().filter(|m| !m.is_empty()));
    said.unwrap_or("no reason is given").to_owned()
}

/// A progress line on a terminal, at most ten times a second.
struct Meter {
    last: Mutex<Option<std::time::Instant>>,
    shown: bool,
}

impl Meter {
    fn new() -> Self {
        Self { last: Mutex::new(None), shown: std::io::stderr().is_terminal() }
    }

    fn show(&self, progress: UploadProgress) {
        let mut last = self.last.lock();
        let due = last.is_none_or(|t| t.elapsed() > Duration::from_millis(100)) || progress.sent == progress.total;
        if self.shown && due {
            *last = Some(std::time::Instant::now());
            let mut err = std::io::stderr().lock();
            // Only decoration.
            let _ = write!(err, "\r\x1b[K{}", progress_text(progress));
            let _ = err.flush();
        }
    }

    fn end(&self) {
        if self.shown && self.last.lock().is_some() {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

fn progress_text(progress: UploadProgress) -> String {
    let percent = progress.sent.saturating_mul(100).checked_div(progress.total).unwrap_or(100);
    format!("{percent:3}%  {} of {}", human_bytes(progress.sent), human_bytes(progress.total))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_url_is_the_engines() {
        let object = json!({"status": {"phase": "WaitForUserUpload", "imageUploadURLs": {"external": "https://x/u", "inCluster": "http://localhost/u"}}});
        assert_eq!(upload_url(&object, true).unwrap().unwrap(), "http://localhost/u");
        assert_eq!(upload_url(&object, false).unwrap().unwrap(), "https://x/u");
        assert!(upload_url(&json!({"status": {"phase": "Pending"}}), true).is_none());
        assert!(upload_url(&json!({"status": {"phase": "Ready"}}), true).unwrap().is_err());
    }

    #[test]
    fn failures_say_why() {
        let object =
            json!({"status": {"phase": "Failed", "conditions": [{"status": "False", "message": "checksum differs"}]}});
        assert!(outcome(&object).unwrap().unwrap_err().text.contains("checksum differs"));
        assert!(outcome(&json!({"status": {"phase": "Ready"}})).unwrap().is_ok());
        assert!(outcome(&json!({"status": {"phase": "Provisioning"}})).is_none());
    }
}
