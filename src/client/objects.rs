//! Verbs on single objects, all on untyped JSON so that no field is ever dropped.

use futures::{Stream, StreamExt};
use http::Method;
use serde_json::{Value, json};

use super::error::{ClientError, ErrorKind};
use super::request::{Answer, ListOptions, collection_path, object_path, with_query};
use super::table::{self, Table, TableEvent};
use super::{FIELD_MANAGER, Session};
use crate::types::kinds::{self, KindInfo};

/// What a VirtualMachineOperation does (`spec.type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OperationType {
    /// Power on.
    Start,
    /// Shut down; with force: cut the power.
    Stop,
    /// Stop and start; with force: without asking the guest.
    Restart,
    /// Live migration to some other node (or process).
    Evict,
    /// Live migration to a node that may be named.
    Migrate,
}

impl OperationType {
    /// The API's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Start => "Start",
            Self::Stop => "Stop",
            Self::Restart => "Restart",
            Self::Evict => "Evict",
            Self::Migrate => "Migrate",
        }
    }
}

/// How to delete.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Propagation {
    /// Dependents go afterwards.
    #[default]
    Background,
    /// Dependents go first.
    Foreground,
    /// Dependents stay.
    Orphan,
}

impl Propagation {
    fn as_str(self) -> &'static str {
        match self {
            Self::Background => "Background",
            Self::Foreground => "Foreground",
            Self::Orphan => "Orphan",
        }
    }
}

/// What a server-side apply did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The object is new.
    Created,
    /// It changed.
    Configured,
    /// It was so already.
    Unchanged,
}

/// An applied object.
#[derive(Debug, Clone)]
pub struct Applied {
    /// As it is now.
    pub object: Value,
    /// What happened.
    pub outcome: Outcome,
    /// The server's warnings.
    pub warnings: Vec<String>,
}

/// Patch formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PatchType {
    /// RFC 7386.
    Merge,
    /// RFC 6902.
    Json,
    /// Kubernetes' own; core kinds only.
    Strategic,
}

impl PatchType {
    fn content_type(self) -> &'static str {
        match self {
            Self::Merge => "application/merge-patch+json",
            Self::Json => "application/json-patch+json",
            Self::Strategic => "application/strategic-merge-patch+json",
        }
    }
}

/// Options of writes.
#[derive(Debug, Clone, Copy, Default)]
pub struct WriteOptions {
    /// Check only (`dryRun=All`).
    pub dry_run: bool,
    /// `fieldValidation`: `Strict`, `Warn` or `Ignore`; the server's default (Warn) if absent.
    pub validation: Option<&'static str>,
}

impl WriteOptions {
    fn query(self, path: &str, more: &[(&str, Option<&str>)]) -> String {
        let mut pairs = vec![
            ("fieldManager", Some(FIELD_MANAGER)),
            ("fieldValidation", self.validation),
            ("dryRun", self.dry_run.then_some("All")),
        ];
        pairs.extend_from_slice(more);
        with_query(path, &pairs)
    }
}

/// What a watch of one object tells.
#[derive(Debug, Clone, PartialEq)]
pub enum ObjectEvent {
    /// It is so now.
    Now(Value),
    /// It does not exist (any more).
    Gone,
    /// The connection is lost; told again when it is back by the next event.
    Stale(String),
}

impl Session {
    /// Reads one object.
    pub async fn get(&self, kind: &KindInfo, namespace: Option<&str>, name: &str) -> Result<Value, ClientError> {
        let path = object_path(kind, namespace, name);
        Ok(self.requester().json(Method::GET, &path, None, None).await?.object)
    }

    /// Reads a collection: the list object with `items`. All pages are joined.
    pub async fn list(
        &self,
        kind: &KindInfo,
        namespace: Option<&str>,
        options: &ListOptions,
    ) -> Result<Value, ClientError> {
        let path = collection_path(kind, namespace);
        let mut whole: Option<Value> = None;
        let mut token: Option<String> = None;
        loop {
            let query = with_query(
                &path,
                &[
                    ("labelSelector", options.labels.as_deref()),
                    ("fieldSelector", options.fields.as_deref()),
                    ("limit", Some("500")),
                    ("continue", token.as_deref()),
                ],
            );
            let mut page = self.requester().json(Method::GET, &query, None, None).await?.object;
            token = page["metadata"]["continue"].as_str().filter(|t| !t.is_empty()).map(ToOwned::to_owned);
            let list = match &mut whole {
                None => whole.insert(page),
                Some(list) => {
                    if let (Value::Array(to), Value::Array(from)) = (&mut list["items"], page["items"].take()) {
                        to.extend(from);
                    }
                    list
                }
            };
            if token.is_none() {
                if let Some(meta) = list.get_mut("metadata").and_then(Value::as_object_mut) {
                    meta.remove("continue");
                    meta.remove("remainingItemCount");
                }
                return Ok(whole.unwrap_or_default());
            }
        }
    }

    /// Reads a collection, or one object, as the server's table.
    pub async fn table(
        &self,
        kind: &KindInfo,
        namespace: Option<&str>,
        name: Option<&str>,
        options: &ListOptions,
    ) -> Result<Table, ClientError> {
        table::fetch(&self.requester(), kind, namespace, name, options).await
    }

    /// Live table of a collection; `None` = all namespaces. See [`TableEvent`]. Never ends by itself.
    pub fn table_watch(
        &self,
        kind: &KindInfo,
        namespace: Option<&str>,
    ) -> impl Stream<Item = TableEvent> + Send + 'static + use<> {
        self.table_watch_with(kind, namespace, ListOptions::default())
    }

    /// [`Session::table_watch`] with selectors.
    pub fn table_watch_with(
        &self,
        kind: &KindInfo,
        namespace: Option<&str>,
        options: ListOptions,
    ) -> impl Stream<Item = TableEvent> + Send + 'static + use<> {
        table::table_watch(self.requester(), *kind, namespace.map(ToOwned::to_owned), options)
    }

    /// Creates an object; its namespace is where it is created.
    pub async fn create(
        &self,
        kind: &KindInfo,
        namespace: Option<&str>,
        object: &Value,
        options: WriteOptions,
    ) -> Result<Answer, ClientError> {
        let path = options.query(&collection_path(kind, namespace), &[]);
        self.requester()
            .json(Method::POST, &path, None, Some(("application/json", object.to_string().into_bytes())))
            .await
    }

    /// Replaces an object (its `metadata.resourceVersion` is the precondition).
    pub async fn replace(
        &self,
        kind: &KindInfo,
        namespace: Option<&str>,
        name: &str,
        object: &Value,
        options: WriteOptions,
    ) -> Result<Answer, ClientError> {
        let path = options.query(&object_path(kind, namespace, name), &[]);
        self.requester()
            .json(Method::PUT, &path, None, Some(("application/json", object.to_string().into_bytes())))
            .await
    }

    /// Server-side apply. `force` takes fields from other managers instead of answering
    /// [`ErrorKind::Conflict`].
    pub async fn apply(
        &self,
        kind: &KindInfo,
        namespace: Option<&str>,
        name: &str,
        object: &Value,
        force: bool,
        options: WriteOptions,
    ) -> Result<Applied, ClientError> {
        // Only the version before tells "unchanged" from "configured".
        let before = match self.get(kind, namespace, name).await {
            Ok(object) => Some(object),
            Err(e) if e.is_not_found() => None,
            Err(e) => return Err(e),
        };
        let path = options.query(&object_path(kind, namespace, name), &[("force", force.then_some("true"))]);
        let body = ("application/apply-patch+yaml", object.to_string().into_bytes());
        let answer = self.requester().json(Method::PATCH, &path, None, Some(body)).await?;
        let outcome = match before {
            None => Outcome::Created,
            Some(_) if answer.created => Outcome::Created,
            Some(before) if same_state(&before, &answer.object, object) => Outcome::Unchanged,
            Some(_) => Outcome::Configured,
        };
        Ok(Applied { object: answer.object, outcome, warnings: answer.warnings })
    }

    /// Merge patch. With `resource_version` it succeeds only if the object still has that version.
    pub async fn merge_patch(
        &self,
        kind: &KindInfo,
        namespace: Option<&str>,
        name: &str,
        patch: &Value,
        resource_version: Option<&str>,
    ) -> Result<Value, ClientError> {
        let mut patch = patch.clone();
        if let (Some(version), Some(top)) = (resource_version, patch.as_object_mut()) {
            let meta = top.entry("metadata").or_insert_with(|| json!({}));
            if let Some(meta) = meta.as_object_mut() {
                meta.insert("resourceVersion".into(), json!(version));
            }
        }
        Ok(self.patch(kind, namespace, name, PatchType::Merge, &patch, WriteOptions::default()).await?.object)
    }

    /// Any patch.
    pub async fn patch(
        &self,
        kind: &KindInfo,
        namespace: Option<&str>,
        name: &str,
        patch_type: PatchType,
        patch: &Value,
        options: WriteOptions,
    ) -> Result<Answer, ClientError> {
        let path = options.query(&object_path(kind, namespace, name), &[]);
        let body = (patch_type.content_type(), patch.to_string().into_bytes());
        self.requester().json(Method::PATCH, &path, None, Some(body)).await
    }

    /// Deletes an object. The answer is the object if it waits for finalizers, a `Status` if it is gone.
    pub async fn delete(
        &self,
        kind: &KindInfo,
        namespace: Option<&str>,
        name: &str,
        propagation: Propagation,
    ) -> Result<Value, ClientError> {
        let body = json!({"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": propagation.as_str()});
        let path = object_path(kind, namespace, name);
        let body = ("application/json", body.to_string().into_bytes());
        Ok(self.requester().json(Method::DELETE, &path, None, Some(body)).await?.object)
    }

    /// Events about an object, oldest first.
    pub async fn events_for(&self, object: &Value) -> Result<Vec<Value>, ClientError> {
        let meta = &object["metadata"];
        let namespace = meta["namespace"].as_str().unwrap_or("default");
        let selector = match meta["uid"].as_str() {
            Some(uid) => format!("involvedObject.uid={uid}"),
            None => format!(
                "involvedObject.kind={},involvedObject.name={}",
                object["kind"].as_str().unwrap_or_default(),
                meta["name"].as_str().unwrap_or_default()
            ),
        };
        let path = format!("/api/v1/namespaces/{}/events", super::request::escape(namespace));
        let path = with_query(&path, &[("fieldSelector", Some(&selector))]);
        let mut list = self.requester().json(Method::GET, &path, None, None).await?.object;
        let Value::Array(mut events) = list["items"].take() else { return Ok(Vec::new()) };
        events.sort_by(|a, b| event_time(a).cmp(event_time(b)));
        Ok(events)
    }

    /// Creates a VirtualMachineOperation named `<vm>-xxxxx`.
    pub async fn operation(
        &self,
        namespace: &str,
        machine: &str,
        operation: OperationType,
        force: bool,
    ) -> Result<Value, ClientError> {
        self.operation_with(namespace, machine, operation, force, None).await
    }

    /// [`Session::operation`] with the node a [`OperationType::Migrate`] shall go to.
    pub async fn operation_with(
        &self,
        namespace: &str,
        machine: &str,
        operation: OperationType,
        force: bool,
        node: Option<&str>,
    ) -> Result<Value, ClientError> {
        let kind = kinds::find("virtualmachineoperations").ok_or_else(unknown_vmop)?;
        let object = operation_object(namespace, machine, operation, force, node);
        Ok(self.create(kind, Some(namespace), &object, WriteOptions::default()).await?.object)
    }

    /// Follows one object. The first event tells the present state. Never ends by itself.
    pub fn watch_object(
        &self,
        kind: &KindInfo,
        namespace: Option<&str>,
        name: &str,
    ) -> impl Stream<Item = ObjectEvent> + Send + 'static + use<> {
        let options = ListOptions { fields: Some(format!("metadata.name={name}")), ..ListOptions::default() };
        self.table_watch_with(kind, namespace, options).filter_map(|event| {
            std::future::ready(match event {
                TableEvent::Reset { rows, .. } => {
                    Some(rows.into_iter().next().map_or(ObjectEvent::Gone, |r| ObjectEvent::Now(r.object)))
                }
                TableEvent::Upsert(row) => Some(ObjectEvent::Now(row.object)),
                TableEvent::Remove { .. } => Some(ObjectEvent::Gone),
                TableEvent::Stale { error, .. } => Some(ObjectEvent::Stale(error)),
                TableEvent::Live => None,
            })
        })
    }
}

fn unknown_vmop() -> ClientError {
    ClientError::new(ErrorKind::Protocol, "VirtualMachineOperation is not in the table of kinds")
}

/// Whether applying `applied` changed nothing: what it says was so before, and nothing went away. What others add in
/// the meantime (a controller's finalizer, a status) is no change of ours.
fn same_state(before: &Value, after: &Value, applied: &Value) -> bool {
    before["metadata"]["resourceVersion"] == after["metadata"]["resourceVersion"]
        || (says_the_same(before, after, applied)
            && keeps_fields(before, after, "")
            // A Secret's `stringData` shows only here.
            && before["data"] == after["data"])
}

/// The fields that `applied` names are equal in both.
fn says_the_same(before: &Value, after: &Value, applied: &Value) -> bool {
    match applied {
        Value::Object(fields) => fields.iter().all(|(k, v)| says_the_same(&before[k], &after[k], v)),
        _ => before == after,
    }
}

/// No field of `before` is missing in `after`, without regard to `status` and `metadata.managedFields`.
fn keeps_fields(before: &Value, after: &Value, path: &str) -> bool {
    let Value::Object(fields) = before else { return true };
    fields.iter().all(|(k, v)| {
        let path = format!("{path}.{k}");
        matches!(path.as_str(), ".status" | ".metadata.managedFields")
            || after.get(k).is_some_and(|a| keeps_fields(v, a, &path))
    })
}

fn operation_object(
    namespace: &str,
    machine: &str,
    operation: OperationType,
    force: bool,
    node: Option<&str>,
) -> Value {
    let mut spec = json!({"type": operation.as_str(), "virtualMachineName": machine});
    // A force on Start is refused upstream; it would mean nothing.
    if force && operation != OperationType::Start {
        spec["force"] = json!(true);
    }
    if let Some(node) = node {
        spec["migrate"] = json!({"nodeSelector": {"kubernetes.io/hostname": node}});
    }
    json!({
        "apiVersion": format!("{}/{}", kinds::GROUP, kinds::VERSION),
        "kind": "VirtualMachineOperation",
        "metadata": {"generateName": format!("{machine}-"), "namespace": namespace},
        "spec": spec,
    })
}

/// When an event was last seen, in any of the three places where that is written.
pub fn event_time(event: &Value) -> &str {
    [
        &event["lastTimestamp"],
        &event["series"]["lastObservedTime"],
        &event["eventTime"],
        &event["metadata"]["creationTimestamp"],
    ]
    .into_iter()
    .find_map(Value::as_str)
    .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_forces_only_when_asked_and_never_a_start() {
        let force = |t, f| operation_object("d", "vm", t, f, None)["spec"]["force"].clone();
        assert_eq!(force(OperationType::Stop, true), json!(true));
        assert_eq!(force(OperationType::Stop, false), Value::Null);
        assert_eq!(force(OperationType::Start, true), Value::Null);
        assert_eq!(operation_object("d", "vm", OperationType::Stop, false, None)["metadata"]["generateName"], "vm-");
    }

    #[test]
    fn what_others_write_meanwhile_is_no_change_of_ours() {
        let object = |cores: i64, more: Value| {
            let mut object = json!({"metadata": {"name": "a", "resourceVersion": "1", "labels": {"x": "y"}},
                "spec": {"cpu": {"cores": cores}}});
            json_patch::merge(&mut object, &more);
            object
        };
        let before = object(1, json!({}));
        let applied = json!({"metadata": {"name": "a"}, "spec": {"cpu": {"cores": 1}}});
        for (more, same) in [
            (json!({}), true),
            (json!({"metadata": {"resourceVersion": "2", "finalizers": ["f"]}, "status": {"phase": "Pending"}}), true),
            (json!({"metadata": {"resourceVersion": "2"}, "spec": {"cpu": {"cores": 2}}}), false),
            // A field that was applied before and is not any more has gone.
            (json!({"metadata": {"resourceVersion": "2", "labels": {"x": null}}}), false),
            // `stringData` of a Secret is not shown; its effect is.
            (json!({"metadata": {"resourceVersion": "2"}, "data": {"k": "dg=="}}), false),
        ] {
            assert_eq!(same_state(&before, &object(1, more.clone()), &applied), same, "{more}");
        }
    }

    #[test]
    fn event_time_looks_everywhere() {
        assert_eq!(event_time(&json!({"lastTimestamp": null, "eventTime": "t"})), "t");
        assert_eq!(event_time(&json!({})), "");
    }
}
