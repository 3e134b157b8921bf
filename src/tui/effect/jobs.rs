//! Work of the task list. Each job tells how it goes and ends with a sentence that names the object.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::StreamExt;
use serde_json::{Value, json};

use super::super::message::{Event, Failure, Job, ObjectRef, TaskId, TaskNews, expand};
use super::super::screens::kind_noun;
use super::{News, Sender, child};
use crate::client::{
    ClientError, ObjectEvent, OperationType, Outcome, Propagation, Session, UploadProgress, WriteOptions,
    read_documents,
};
use crate::types::kinds;
use crate::types::quantity::human_bytes;
use crate::types::text::printable;

/// Where a job tells how it goes.
pub struct Progress {
    /// The task.
    pub id: TaskId,
    /// To the loop.
    pub news: Sender,
    /// For children of our own program.
    pub kubeconfig: Option<PathBuf>,
}

impl Progress {
    pub(super) async fn tell(&self, note: impl Into<String>, fraction: Option<f64>) {
        let news = TaskNews::Progress { note: note.into(), fraction };
        let _ = self.news.send(News::Event(Event::Task { id: self.id, news })).await;
    }
}

fn failed(error: &ClientError) -> Failure {
    Failure::from(error)
}

/// Does a job.
pub async fn run(session: &Session, job: Job, progress: &Progress) -> Result<String, Failure> {
    match job {
        Job::Operation { machine, operation, force } => operate(session, &machine, operation, force, progress).await,
        Job::Snapshot { machine, consistent } => snapshot(session, &machine, consistent, progress).await,
        Job::Delete(object) => delete(session, &object, progress).await,
        Job::ApplyFile { path, namespace } => apply_file(session, &path, &namespace, progress).await,
        Job::Upload { object, url, path } => upload(session, &object, &url, &path, progress).await,
        Job::Vnc(machine) => child::screen(session, &machine, progress).await,
        Job::Forward { machine, ports } => child::forward(session, &machine, &ports, progress).await,
    }
}

async fn operate(
    session: &Session,
    machine: &ObjectRef,
    operation: OperationType,
    force: bool,
    progress: &Progress,
) -> Result<String, Failure> {
    let created =
        session.operation(&machine.namespace, &machine.name, operation, force).await.map_err(|e| failed(&e))?;
    let name = created["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let Some(kind) = kinds::find("vmop") else { return Err(Failure::new("operations are not known here")) };
    let mut events = Box::pin(session.watch_object(kind, Some(&machine.namespace), &name));
    let past = match operation {
        OperationType::Start => "is running",
        OperationType::Stop if force => "was switched off",
        OperationType::Stop => "is shut down",
        OperationType::Restart => "was restarted",
        OperationType::Evict | OperationType::Migrate => "was migrated",
    };
    while let Some(event) = events.next().await {
        let object = match event {
            ObjectEvent::Now(object) => object,
            ObjectEvent::Gone => return Err(Failure::new(&format!("operation {name} was deleted before it ended"))),
            ObjectEvent::Stale(why) => {
                progress.tell(format!("connection lost, retrying: {}", printable(&why)), None).await;
                continue;
            }
        };
        let status = &object["status"];
        let phase = status["phase"].as_str().unwrap_or("Pending");
        match phase {
            "Completed" => return Ok(format!("{} {past}", machine.path())),
            "Superseded" => return Ok(format!("{}: a newer operation took over", machine.path())),
            "Failed" => {
                let why = completed_message(status).unwrap_or_else(|| "the operation failed".into());
                return Err(Failure {
                    hint: Some(format!("see operation {}", printable(&name))),
                    ..Failure::new(&why)
                });
            }
            _ => {
                let percent = status["progress"].as_str().and_then(|p| p.trim_end_matches('%').parse::<f64>().ok());
                progress.tell(words(phase), percent.map(|p| p / 100.0)).await;
            }
        }
    }
    Err(Failure::new("the watch ended"))
}

async fn snapshot(
    session: &Session,
    machine: &ObjectRef,
    consistent: bool,
    progress: &Progress,
) -> Result<String, Failure> {
    let Some(kind) = kinds::find("vmsnapshot") else { return Err(Failure::new("snapshots are not known here")) };
    let object = json!({
        "apiVersion": kind.api_version(), "kind": kind.kind,
        "metadata": {"generateName": format!("{}-", machine.name), "namespace": machine.namespace},
        "spec": {"virtualMachineName": machine.name, "requiredConsistency": consistent},
    });
    let created = session.create(kind, Some(&machine.namespace), &object, WriteOptions::default()).await;
    let created = created.map_err(|e| failed(&e))?.object;
    let name = created["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let mut events = Box::pin(session.watch_object(kind, Some(&machine.namespace), &name));
    while let Some(event) = events.next().await {
        let object = match event {
            ObjectEvent::Now(object) => object,
            ObjectEvent::Gone => return Err(Failure::new(&format!("snapshot {name} was deleted before it ended"))),
            ObjectEvent::Stale(why) => {
                progress.tell(format!("connection lost, retrying: {}", printable(&why)), None).await;
                continue;
            }
        };
        let conditions = object["status"]["conditions"].as_array().into_iter().flatten();
        let ready = conditions.into_iter().find(|c| c["type"] == "VirtualMachineSnapshotReady");
        let told = ready.and_then(|c| c["message"].as_str()).unwrap_or_default();
        match object["status"]["phase"].as_str().unwrap_or("Pending") {
            "Ready" => return Ok(format!("snapshot {} of {} is ready", printable(&name), machine.path())),
            "Failed" => {
                let why = if told.is_empty() { "the snapshot failed" } else { told };
                return Err(Failure {
                    hint: Some(format!("see machine snapshot {}", printable(&name))),
                    ..Failure::new(why)
                });
            }
            phase if told.is_empty() => progress.tell(words(phase), None).await,
            _ => progress.tell(printable(told), None).await,
        }
    }
    Err(Failure::new("the watch ended"))
}

/// `InProgress` as `in progress`.
fn words(phase: &str) -> String {
    let mut out = String::new();
    for (i, c) in printable(phase).chars().enumerate() {
        if i > 0 && c.is_uppercase() {
            out.push(' ');
        }
        out.extend(c.to_lowercase());
    }
    out
}

fn completed_message(status: &Value) -> Option<String> {
    let conditions = status["conditions"].as_array()?;
    let completed = conditions.iter().find(|c| c["type"] == "Completed")?;
    let (reason, message) = (completed["reason"].as_str().unwrap_or_default(), completed["message"].as_str()?);
    Some(if message.is_empty() { reason.to_owned() } else { message.to_owned() })
}

async fn delete(session: &Session, object: &ObjectRef, progress: &Progress) -> Result<String, Failure> {
    let kind = object.kind.0;
    let deleted = session.delete(kind, object.scope(), &object.name, Propagation::Background).await;
    let answer = deleted.map_err(|e| failed(&e))?;
    let gone = format!("{} {} is deleted", kind_noun(kind), object.path());
    if answer["kind"] == "Status" {
        return Ok(gone);
    }
    let uid = answer["metadata"]["uid"].clone();
    let mut events = Box::pin(session.watch_object(kind, object.scope(), &object.name));
    while let Some(event) = events.next().await {
        match event {
            ObjectEvent::Gone => return Ok(gone),
            // Somebody made a new one of the same name.
            ObjectEvent::Now(now) if now["metadata"]["uid"] != uid => return Ok(gone),
            ObjectEvent::Now(now) => {
                let holders: Vec<String> = now["metadata"]["finalizers"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .filter_map(Value::as_str)
                    .map(|f| printable(f).into_owned())
                    .collect();
                progress.tell(format!("waiting for {}", holders.join(", ")), None).await;
            }
            ObjectEvent::Stale(why) => {
                progress.tell(format!("connection lost, retrying: {}", printable(&why)), None).await;
            }
        }
    }
    Err(Failure::new("the watch ended"))
}

async fn apply_file(session: &Session, path: &str, namespace: &str, progress: &Progress) -> Result<String, Failure> {
    let file = expand(path, std::env::var_os("HOME").map(Into::into));
    let text = tokio::fs::read_to_string(&file)
        .await
        .map_err(|e| Failure::new(&format!("cannot read {}: {e}", file.display())))?;
    let documents = read_documents(&text, None, namespace).map_err(|e| Failure::new(&e.to_string()))?;
    if documents.is_empty() {
        return Err(Failure::new(&format!("{} holds no objects", file.display())));
    }
    let total = documents.len();
    let mut counts = [0usize; 3];
    let mut problems: Vec<String> = Vec::new();
    for (i, document) in documents.iter().enumerate() {
        let what = format!("{} {}", kind_noun(document.kind), printable(&document.name));
        #[expect(clippy::cast_precision_loss, reason = "a manifest has few documents")]
        progress.tell(format!("applying {what}"), Some(i as f64 / total as f64)).await;
        let scope = document.namespace.as_deref();
        let options = WriteOptions { validation: Some("Strict"), ..WriteOptions::default() };
        match session.apply(document.kind, scope, &document.name, &document.object, false, options).await {
            Ok(applied) => {
                counts[match applied.outcome {
                    Outcome::Created => 0,
                    Outcome::Configured => 1,
                    Outcome::Unchanged => 2,
                }] += 1;
            }
            // The other documents are still worth applying.
            Err(error) => problems.push(format!("{what}: {error}")),
        }
    }
    let [created, configured, unchanged] = counts;
    let summary = format!("{created} created, {configured} changed, {unchanged} unchanged");
    if problems.is_empty() {
        Ok(format!("{}: {summary}", printable(path)))
    } else {
        Err(Failure { hint: Some(format!("The rest: {summary}.")), ..Failure::new(&problems.join("\n")) })
    }
}

async fn upload(
    session: &Session,
    object: &ObjectRef,
    url: &str,
    path: &str,
    progress: &Progress,
) -> Result<String, Failure> {
    let file = expand(path, std::env::var_os("HOME").map(Into::into));
    let (id, news) = (progress.id, progress.news.clone());
    let last = Arc::new(AtomicU64::new(u64::MAX));
    let hook = Arc::new(move |p: UploadProgress| {
        let percent = (p.sent * 100).checked_div(p.total).unwrap_or(100);
        if last.swap(percent, Ordering::Relaxed) == percent {
            return;
        }
        #[expect(clippy::cast_precision_loss, reason = "a percentage")]
        let fraction = Some(percent as f64 / 100.0);
        let note = format!("{} of {}", human_bytes(p.sent), human_bytes(p.total));
        // A full queue only costs one step of the bar.
        let _ = news.try_send(News::Event(Event::Task { id, news: TaskNews::Progress { note, fraction } }));
    });
    session.upload(url, Path::new(&file), hook).await.map_err(|e| failed(&e))?;
    Ok(format!("{} was uploaded to {} {}", printable(path), kind_noun(object.kind.0), object.path()))
}
