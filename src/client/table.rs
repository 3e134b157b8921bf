//! Tables as the server prints them, and a watch of a table that heals itself.

use std::time::Duration;

use futures::{Stream, StreamExt};
use http::Method;
use serde_json::Value;

use super::error::{ClientError, ErrorKind, printable};
use super::request::{ACCEPT_TABLE, ListOptions, Requester, collection_path, object_path, with_query};
use crate::types::kinds::KindInfo;

/// A column of a server-side table.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
pub struct TableColumn {
    /// Heading as the server writes it, for example `Need restart`.
    pub name: String,
    /// `string`, `integer`, `number`, `boolean`, `date`.
    #[serde(rename = "type", default)]
    pub kind: String,
    /// `name` marks the object's name.
    #[serde(default)]
    pub format: String,
    /// For humans.
    #[serde(default)]
    pub description: String,
    /// 0 = always shown, greater = only in wide output.
    #[serde(default)]
    pub priority: i64,
}

/// A row: what to show and the whole object.
#[derive(Debug, Clone, PartialEq, Default, serde::Deserialize)]
pub struct TableRow {
    /// One value for each column.
    #[serde(default)]
    pub cells: Vec<Value>,
    /// The whole object (`includeObject=Object`).
    #[serde(default)]
    pub object: Value,
}

impl TableRow {
    /// `metadata.namespace`, empty for cluster-wide objects.
    pub fn namespace(&self) -> &str {
        self.object["metadata"]["namespace"].as_str().unwrap_or_default()
    }

    /// `metadata.name`.
    pub fn name(&self) -> &str {
        self.object["metadata"]["name"].as_str().unwrap_or_default()
    }

    /// `metadata.uid`.
    pub fn uid(&self) -> &str {
        self.object["metadata"]["uid"].as_str().unwrap_or_default()
    }
}

/// A whole table.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Table {
    /// Its columns.
    pub columns: Vec<TableColumn>,
    /// Its rows, in the server's order.
    pub rows: Vec<TableRow>,
    /// Where a watch goes on.
    pub resource_version: String,
}

/// What a [`table_watch`] tells. The first event is `Reset` or `Stale`.
#[derive(Debug, Clone, PartialEq)]
pub enum TableEvent {
    /// Forget everything; this is the state.
    Reset {
        /// Columns from now on.
        columns: Vec<TableColumn>,
        /// All rows.
        rows: Vec<TableRow>,
    },
    /// A row is new or changed; same `uid` = same row.
    Upsert(TableRow),
    /// A row is gone.
    Remove {
        /// Empty for cluster-wide objects.
        namespace: String,
        /// Name.
        name: String,
        /// UID.
        uid: String,
    },
    /// No connection: what is shown is as of `since`. Told once for each loss, and again when the error changes.
    Stale {
        /// When the connection was lost.
        since: jiff::Timestamp,
        /// Why, printable.
        error: String,
    },
    /// Connected again after `Stale` and nothing was missed.
    Live,
}

/// One page of a list that is asked for.
const PAGE: &str = "500";

/// Lists a collection, or one object, as a table. Pages are joined.
pub(crate) async fn fetch(
    requester: &Requester,
    kind: &KindInfo,
    namespace: Option<&str>,
    name: Option<&str>,
    options: &ListOptions,
) -> Result<Table, ClientError> {
    let path = match name {
        Some(name) => object_path(kind, namespace, name),
        None => collection_path(kind, namespace),
    };
    let mut table = Table::default();
    let mut token: Option<String> = None;
    loop {
        let limit = if name.is_none() { Some(PAGE) } else { None };
        let query = with_query(
            &path,
            &[
                ("includeObject", Some("Object")),
                ("labelSelector", options.labels.as_deref()),
                ("fieldSelector", options.fields.as_deref()),
                ("limit", limit),
                ("continue", token.as_deref()),
            ],
        );
        let answer = requester.json(Method::GET, &query, Some(ACCEPT_TABLE), None).await?;
        let (page, next) = parse(answer.object)?;
        if table.columns.is_empty() {
            table.columns = page.columns;
        }
        table.rows.extend(page.rows);
        table.resource_version = page.resource_version;
        match next {
            Some(next) => token = Some(next),
            None => return Ok(table),
        }
    }
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    kind: String,
    #[serde(default)]
    metadata: WireMeta,
    #[serde(default)]
    column_definitions: Option<Vec<TableColumn>>,
    #[serde(default)]
    rows: Option<Vec<TableRow>>,
}

#[derive(Default, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireMeta {
    #[serde(default)]
    resource_version: String,
    #[serde(default, rename = "continue")]
    token: String,
}

fn parse(value: Value) -> Result<(Table, Option<String>), ClientError> {
    let kind = value["kind"].as_str().unwrap_or_default().to_owned();
    let wire: Wire = serde_json::from_value(value).ok().filter(|w: &Wire| w.kind == "Table").ok_or_else(|| {
        ClientError::new(
            ErrorKind::Protocol,
            format!("a Table was asked for, the server sent \"{}\"", printable(&kind)),
        )
    })?;
    let table = Table {
        columns: wire.column_definitions.unwrap_or_default(),
        rows: wire.rows.unwrap_or_default(),
        resource_version: wire.metadata.resource_version,
    };
    Ok((table, Some(wire.metadata.token).filter(|t| !t.is_empty())))
}

/// What one watch event means.
#[derive(Debug, PartialEq)]
pub(crate) enum Step {
    /// Rows to tell, and the version to resume from.
    Rows { events: Vec<TableEvent>, version: Option<String> },
    /// Only the version moved.
    Version(String),
    /// The history is gone: list again.
    Relist,
    /// The server says no.
    Failed(ClientErrorText),
}

/// Text of an error inside a watch.
pub(crate) type ClientErrorText = String;

/// Reads one watch event whose object is a one-row Table.
pub(crate) fn read_event(event: Value) -> Step {
    let Value::Object(mut event) = event else { return Step::Failed("a watch event is no object".into()) };
    let kind = event.remove("type").and_then(|v| v.as_str().map(ToOwned::to_owned)).unwrap_or_default();
    let object = event.remove("object").unwrap_or_default();
    match kind.as_str() {
        "ERROR" => {
            let error = ClientError::from_status(0, &object);
            if *error.kind() == ErrorKind::Expired { Step::Relist } else { Step::Failed(error.text().to_owned()) }
        }
        "BOOKMARK" => match version_of(&object).or_else(|| version_of(&object["rows"][0]["object"])) {
            Some(version) => Step::Version(version),
            None => Step::Rows { events: Vec::new(), version: None },
        },
        "ADDED" | "MODIFIED" | "DELETED" => match parse(object) {
            Err(e) => Step::Failed(e.text().to_owned()),
            Ok((table, _)) => {
                let version = table
                    .rows
                    .last()
                    .and_then(|r| version_of(&r.object))
                    .or(Some(table.resource_version))
                    .filter(|v| !v.is_empty());
                let events = table
                    .rows
                    .into_iter()
                    .map(|row| {
                        if kind == "DELETED" {
                            TableEvent::Remove {
                                namespace: row.namespace().to_owned(),
                                name: row.name().to_owned(),
                                uid: row.uid().to_owned(),
                            }
                        } else {
                            TableEvent::Upsert(row)
                        }
                    })
                    .collect();
                Step::Rows { events, version }
            }
        },
        _ => Step::Rows { events: Vec::new(), version: None },
    }
}

fn version_of(object: &Value) -> Option<String> {
    object["metadata"]["resourceVersion"].as_str().filter(|v| !v.is_empty()).map(ToOwned::to_owned)
}

/// Time until the next try: doubles from 250 ms to 10 s.
fn backoff(failures: u32) -> Duration {
    Duration::from_millis((250_u64 << failures.min(6)).min(10_000))
}

/// Lists, then watches from the list's version; heals itself. Ends only when dropped.
pub(crate) fn table_watch(
    requester: Requester,
    kind: KindInfo,
    namespace: Option<String>,
    options: ListOptions,
) -> impl Stream<Item = TableEvent> + Send + 'static {
    let (tx, rx) = tokio::sync::mpsc::channel(256);
    tokio::spawn(async move {
        let watcher = Watcher { requester, kind, namespace, options, tx, lost: None };
        // Ends when the receiver is gone.
        let _ = watcher.run().await;
    });
    tokio_stream::wrappers::ReceiverStream::new(rx)
}

/// The receiver is gone.
struct Dropped;

struct Watcher {
    requester: Requester,
    kind: KindInfo,
    namespace: Option<String>,
    options: ListOptions,
    tx: tokio::sync::mpsc::Sender<TableEvent>,
    lost: Option<(jiff::Timestamp, String)>,
}

impl Watcher {
    async fn run(mut self) -> Result<(), Dropped> {
        let mut failures = 0;
        let mut version: Option<String> = None;
        loop {
            let from = match version.take() {
                Some(from) => from,
                None => {
                    let namespace = self.namespace.clone();
                    match fetch(&self.requester, &self.kind, namespace.as_deref(), None, &self.options).await {
                        Ok(table) => {
                            self.lost = None;
                            self.tell(TableEvent::Reset { columns: table.columns, rows: table.rows }).await?;
                            failures = 0;
                            table.resource_version
                        }
                        Err(e) => {
                            self.stale(e.text()).await?;
                            self.pause(failures).await?;
                            failures += 1;
                            continue;
                        }
                    }
                }
            };
            match self.follow(from).await? {
                // The pause keeps a server that always says "expired" from being asked in a tight loop.
                Followed::Relist => self.pause(0).await?,
                Followed::Resume { version: at, error, progressed } => {
                    version = Some(at);
                    if progressed {
                        failures = 0;
                    }
                    if let Some(error) = error {
                        self.stale(&error).await?;
                        self.pause(failures).await?;
                        failures += 1;
                    }
                }
            }
        }
    }

    async fn follow(&mut self, from: String) -> Result<Followed, Dropped> {
        let path = with_query(
            &collection_path(&self.kind, self.namespace.as_deref()),
            &[
                ("watch", Some("true")),
                ("includeObject", Some("Object")),
                ("allowWatchBookmarks", Some("true")),
                ("resourceVersion", Some(&from)),
                ("labelSelector", self.options.labels.as_deref()),
                ("fieldSelector", self.options.fields.as_deref()),
            ],
        );
        let mut events = match self.requester.watch(&path, Some(ACCEPT_TABLE)).await {
            Ok(events) => events,
            Err(e) if *e.kind() == ErrorKind::Expired => return Ok(Followed::Relist),
            Err(e) => {
                return Ok(Followed::Resume { version: from, error: Some(e.text().to_owned()), progressed: false });
            }
        };
        if self.lost.take().is_some() {
            self.tell(TableEvent::Live).await?;
        }
        let begun = std::time::Instant::now();
        let mut version = from;
        let mut progressed = false;
        loop {
            let event = tokio::select! {
                event = events.next() => event,
                () = self.tx.closed() => return Err(Dropped),
            };
            let error = match event {
                // A server ends a watch after its timeout; one that ends at once is trouble.
                None if progressed || begun.elapsed() > Duration::from_secs(1) => None,
                None => Some("the server ended the watch at once".to_owned()),
                Some(Err(e)) => Some(e.text().to_owned()),
                Some(Ok(event)) => match read_event(event) {
                    Step::Relist => return Ok(Followed::Relist),
                    Step::Failed(text) => Some(text),
                    Step::Version(v) => {
                        version = v;
                        progressed = true;
                        continue;
                    }
                    Step::Rows { events, version: v } => {
                        for event in events {
                            self.tell(event).await?;
                        }
                        version = v.unwrap_or(version);
                        progressed = true;
                        continue;
                    }
                },
            };
            return Ok(Followed::Resume { version, error, progressed });
        }
    }

    async fn tell(&self, event: TableEvent) -> Result<(), Dropped> {
        self.tx.send(event).await.map_err(|_| Dropped)
    }

    async fn stale(&mut self, error: &str) -> Result<(), Dropped> {
        let since = match &self.lost {
            Some((_, last)) if last == error => return Ok(()),
            Some((since, _)) => *since,
            None => jiff::Timestamp::now(),
        };
        self.lost = Some((since, error.to_owned()));
        self.tell(TableEvent::Stale { since, error: error.to_owned() }).await
    }

    async fn pause(&self, failures: u32) -> Result<(), Dropped> {
        tokio::select! {
            () = tokio::time::sleep(backoff(failures)) => Ok(()),
            () = self.tx.closed() => Err(Dropped),
        }
    }
}

enum Followed {
    Relist,
    Resume { version: String, error: Option<String>, progressed: bool },
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn row(name: &str, version: &str) -> Value {
        json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": {"resourceVersion": version}, "columnDefinitions": null,
            "rows": [{"cells": [name], "object": {"metadata": {"name": name, "namespace": "d", "uid": "u", "resourceVersion": version}}}]})
    }

    #[test]
    fn events_become_steps() {
        let Step::Rows { events, version } = read_event(json!({"type": "MODIFIED", "object": row("a", "7")})) else {
            panic!()
        };
        assert_eq!(version.as_deref(), Some("7"));
        assert!(matches!(&events[..], [TableEvent::Upsert(r)] if r.name() == "a" && r.cells == [json!("a")]));
        let Step::Rows { events, .. } = read_event(json!({"type": "DELETED", "object": row("a", "8")})) else {
            panic!()
        };
        assert_eq!(events, [TableEvent::Remove { namespace: "d".into(), name: "a".into(), uid: "u".into() }]);
        let bookmark =
            json!({"type": "BOOKMARK", "object": {"kind": "Table", "metadata": {"resourceVersion": "9"}, "rows": []}});
        assert_eq!(read_event(bookmark), Step::Version("9".into()));
        let plain =
            json!({"type": "BOOKMARK", "object": {"kind": "VirtualMachine", "metadata": {"resourceVersion": "9"}}});
        assert_eq!(read_event(plain), Step::Version("9".into()));
        let gone =
            json!({"type": "ERROR", "object": {"kind": "Status", "code": 410, "reason": "Expired", "message": "old"}});
        assert_eq!(read_event(gone), Step::Relist);
        let other = json!({"type": "ERROR", "object": {"kind": "Status", "code": 500, "message": "boom"}});
        assert_eq!(read_event(other), Step::Failed("boom".into()));
    }

    #[test]
    fn backoff_grows_to_its_limit() {
        assert_eq!(backoff(0), Duration::from_millis(250));
        assert_eq!(backoff(2), Duration::from_secs(1));
        assert_eq!(backoff(60), Duration::from_secs(10));
    }
}
