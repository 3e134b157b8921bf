//! Kinds that are served but never change while the daemon runs, and that nobody may write: the definitions of the
//! custom kinds, services and pods. A standalone host has none of the latter; clients look there all the same
//! (`kubectl cluster-info` fails without services, `kubectl describe node` without pods).

use std::convert::Infallible;

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, Response, StatusCode, header};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::definitions;
use super::media::{self, Form, Wanted};
use super::request::Query;
use super::status::Failure;
use super::watch;
use crate::types::selector::{FieldSelector, LabelSelector};

/// `metadata.resourceVersion` of every object and list here.
pub const VERSION: &str = "1";

/// The kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FixedKind {
    /// CustomResourceDefinition.
    Definition,
    /// Service.
    Service,
    /// Pod.
    Pod,
}

/// What a path means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fixed {
    /// Kind.
    pub kind: FixedKind,
    /// One object; all without.
    pub name: Option<String>,
}

impl FixedKind {
    fn api_version(self) -> &'static str {
        match self {
            Self::Definition => "apiextensions.k8s.io/v1",
            Self::Service | Self::Pod => "v1",
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Definition => "CustomResourceDefinition",
            Self::Service => "Service",
            Self::Pod => "Pod",
        }
    }

    /// How errors name it.
    fn qualified(self) -> &'static str {
        match self {
            Self::Definition => "customresourcedefinitions.apiextensions.k8s.io",
            Self::Service => "services",
            Self::Pod => "pods",
        }
    }

    fn columns(self) -> Value {
        let named: &[(&str, &str, &str)] = match self {
            Self::Definition => &[("Name", "string", "name"), ("Created At", "date", "")],
            Self::Service => &[
                ("Name", "string", "name"),
                ("Type", "string", ""),
                ("Cluster-IP", "string", ""),
                ("External-IP", "string", ""),
                ("Port(s)", "string", ""),
                ("Age", "string", ""),
            ],
            Self::Pod => &[
                ("Name", "string", "name"),
                ("Ready", "string", ""),
                ("Status", "string", ""),
                ("Restarts", "string", ""),
                ("Age", "string", ""),
            ],
        };
        let column = |(name, kind, format): &(&str, &str, &str)| json!({"name": name, "type": kind, "format": format, "description": "", "priority": 0});
        named.iter().map(column).collect()
    }

    fn objects(self) -> Vec<Value> {
        match self {
            Self::Definition => definitions::all(),
            Self::Service | Self::Pod => Vec::new(),
        }
    }

    /// Fields of field selectors beside name and namespace.
    fn selectable(self) -> &'static [&'static str] {
        match self {
            Self::Definition | Self::Service => &[],
            Self::Pod => &["spec.nodeName", "status.phase"],
        }
    }
}

/// Answers a get, list or watch.
///
/// # Errors
/// 400 for selectors and options that cannot be read, 404, 406, 422.
pub fn answer(
    fixed: &Fixed,
    query: &Query,
    wanted: Wanted,
    watched: bool,
    shutdown: CancellationToken,
) -> Result<Response<Body>, Failure> {
    let kind = fixed.kind;
    let mut objects = selected(kind, query)?;
    if let Some(name) = &fixed.name {
        objects.retain(|o| o["metadata"]["name"] == name.as_str());
    }
    if watched {
        return stream(kind, objects, query, wanted, shutdown);
    }
    let shown = match &fixed.name {
        None => list(kind, &objects, wanted),
        Some(name) => {
            let message = || format!("{} {name:?} not found", kind.qualified());
            let found = objects.first().ok_or_else(|| Failure::new(StatusCode::NOT_FOUND, "NotFound", message()))?;
            one(kind, found, wanted, true)
        }
    };
    Ok(media::object_response(StatusCode::OK, &shown, wanted))
}

fn selected(kind: FixedKind, query: &Query) -> Result<Vec<Value>, Failure> {
    let labels = LabelSelector::parse(query.get("labelSelector").unwrap_or(""))
        .map_err(|e| Failure::bad_request(format!("unable to parse labelSelector: {e}")))?;
    let fields = FieldSelector::parse(query.get("fieldSelector").unwrap_or(""), kind.selectable())
        .map_err(|e| Failure::bad_request(e.to_string()))?;
    Ok(kind.objects().into_iter().filter(|o| labels.matches_object(o) && fields.matches_object(o)).collect())
}

fn list(kind: FixedKind, objects: &[Value], wanted: Wanted) -> Value {
    let metadata = json!({"resourceVersion": VERSION});
    match wanted.form {
        Form::Whole => json!({
            "kind": format!("{}List", kind.word()), "apiVersion": kind.api_version(), "metadata": metadata,
            "items": objects,
        }),
        Form::Metadata => json!({
            "kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": metadata,
            "items": objects.iter().map(partial).collect::<Vec<_>>(),
        }),
        Form::Table => table(objects, Some(kind.columns())),
    }
}

fn one(kind: FixedKind, object: &Value, wanted: Wanted, columns: bool) -> Value {
    match wanted.form {
        Form::Whole => object.clone(),
        Form::Metadata => partial(object),
        Form::Table => table(std::slice::from_ref(object), columns.then(|| kind.columns())),
    }
}

/// Rows have the cells of a definition: there is no object of the other kind.
fn table(objects: &[Value], columns: Option<Value>) -> Value {
    let rows: Vec<Value> = objects
        .iter()
        .map(|o| json!({"cells": [o["metadata"]["name"], o["metadata"]["creationTimestamp"]], "object": partial(o)}))
        .collect();
    json!({
        "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": {"resourceVersion": VERSION},
        "columnDefinitions": columns, "rows": rows,
    })
}

fn partial(object: &Value) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"]})
}

/// A watch: the present state if it is asked for, then nothing until its time is over.
fn stream(
    kind: FixedKind,
    objects: Vec<Value>,
    query: &Query,
    wanted: Wanted,
    shutdown: CancellationToken,
) -> Result<Response<Body>, Failure> {
    let (state, mark_end) = watch::wants_state(query)?;
    let timeout = watch::timeout(query)?;
    let mut first = Vec::new();
    if state {
        for (index, object) in objects.iter().enumerate() {
            let shown = one(kind, object, wanted, index == 0);
            watch::line(&mut first, "ADDED", &shown.to_string().into());
        }
    }
    if mark_end {
        let (word, api_version) = match wanted.form {
            Form::Whole => (kind.word(), kind.api_version()),
            Form::Metadata => ("PartialObjectMetadata", "meta.k8s.io/v1"),
            Form::Table => ("Table", "meta.k8s.io/v1"),
        };
        let bookmark = json!({"kind": word, "apiVersion": api_version, "metadata": {"resourceVersion": VERSION,
            "creationTimestamp": null, "annotations": {"k8s.io/initial-events-end": "true"}}});
        watch::line(&mut first, "BOOKMARK", &bookmark.to_string().into());
    }
    let first = (!first.is_empty()).then(|| Bytes::from(first));
    let pieces = futures::stream::unfold(first, move |first| {
        let shutdown = shutdown.clone();
        async move {
            match first {
                Some(piece) => Some((Ok::<_, Infallible>(piece), None)),
                None => {
                    let _ = tokio::time::timeout(timeout, shutdown.cancelled()).await;
                    None
                }
            }
        }
    });
    let mut response = Response::new(Body::from_stream(pieces));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    async fn told(kind: FixedKind, name: Option<&str>, query: &str, watched: bool) -> Result<String, u16> {
        let fixed = Fixed { kind, name: name.map(str::to_owned) };
        let query = Query::of(&format!("/x?{query}").parse().unwrap()).unwrap();
        let wanted = media::wanted(&axum::http::HeaderMap::new()).unwrap();
        let answer = answer(&fixed, &query, wanted, watched, CancellationToken::new());
        let body = answer.map_err(|f| f.code().as_u16())?.into_body().collect().await.unwrap();
        Ok(String::from_utf8(body.to_bytes().to_vec()).unwrap())
    }

    #[tokio::test]
    async fn definitions_are_read_by_name_and_selector_and_watched() {
        const VM: &str = "virtualmachines.virtualization.deckhouse.io";
        let kind = FixedKind::Definition;
        let count = |text: &str| text.matches("\"kind\":\"CustomResourceDefinition\"").count();
        assert_eq!(count(&told(kind, Some(VM), "", false).await.unwrap()), 1);
        assert_eq!(told(kind, Some("x"), "", false).await, Err(404));
        assert_eq!(told(kind, None, "fieldSelector=spec.x=y", false).await, Err(400));
        assert_eq!(told(kind, None, "sendInitialEvents=true", true).await, Err(422));
        assert!(count(&told(kind, None, "", false).await.unwrap()) > 8);
        assert_eq!(count(&told(kind, None, &format!("fieldSelector=metadata.name%3D{VM}"), false).await.unwrap()), 1);
        let watched =
            told(kind, Some(VM), "timeoutSeconds=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan", true);
        let watched = watched.await.unwrap();
        assert!(watched.starts_with("{\"type\":\"ADDED\"") && watched.contains("initial-events-end"), "{watched}");
        assert_eq!(told(kind, None, "timeoutSeconds=1&resourceVersion=1", true).await.unwrap(), "");
    }

    #[tokio::test]
    async fn there_are_no_services_and_no_pods() {
        let list = told(FixedKind::Service, None, "labelSelector=a%3Db", false).await.unwrap();
        assert!(list.contains("\"ServiceList\"") && list.contains("\"items\":[]"), "{list}");
        assert_eq!(told(FixedKind::Service, Some("a"), "", false).await, Err(404));
        let list = told(FixedKind::Pod, None, "fieldSelector=spec.nodeName%3Da,status.phase!%3DFailed", false).await;
        assert!(list.unwrap().contains("\"PodList\""));
    }
}
