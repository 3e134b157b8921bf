//! delete and deletecollection (k8s-api.md 1.7).

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Response, StatusCode};
use futures::stream::{StreamExt, TryStreamExt};
use serde::Deserialize;
use serde_json::{Value, json};

use super::core_kinds::namespace;
use super::media::{self, Wanted};
use super::object::{self, Object};
use super::prepare;
use super::present::Presentation;
use super::read;
use super::request::{self, Collection, Query};
use super::status::{self, Cause, Failure};
use crate::store::{Action, Entry, Expect, Key, Store, Write, WriteError};
use crate::types::kinds::KindInfo;

/// Finalizer that waits for blocking dependents.
pub const FOREGROUND: &str = "foregroundDeletion";
/// Finalizer that lets dependents go.
pub const ORPHAN: &str = "orphan";

/// What becomes of dependents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Propagation {
    /// They are deleted after the owner.
    #[default]
    Background,
    /// The blocking ones are deleted before it.
    Foreground,
    /// They stay.
    Orphan,
}

/// Options of a delete.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeleteOptions {
    /// See [`Propagation`].
    pub propagation: Propagation,
    /// Only if it has this uid.
    pub uid: Option<String>,
    /// Only if it has this version.
    pub version: Option<String>,
    /// Answer as if done.
    pub dry_run: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Wire {
    propagation_policy: Option<String>,
    orphan_dependents: Option<bool>,
    preconditions: Option<Preconditions>,
    dry_run: Option<Vec<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Preconditions {
    uid: Option<String>,
    resource_version: Option<String>,
}

impl DeleteOptions {
    /// Reads them from the body, else from the query.
    ///
    /// # Errors
    /// 400 or 415 for a body that cannot be read, 422 for values that are not known or do not go together.
    pub fn of(query: &Query, headers: &HeaderMap, body: &Bytes) -> Result<Self, Failure> {
        let wire: Wire = if body.is_empty() {
            Wire {
                propagation_policy: query.get("propagationPolicy").map(str::to_owned),
                orphan_dependents: query.flag("orphanDependents")?,
                preconditions: None,
                dry_run: Some(query.all("dryRun").map(str::to_owned).collect()),
            }
        } else {
            let object = media::object(headers, body)?.object;
            serde_json::from_value(Value::Object(object))
                .map_err(|e| Failure::bad_request(format!("DeleteOptions cannot be read: {e}")))?
        };
        let refuse = |cause: Cause| Err(Failure::invalid("meta.k8s.io", "DeleteOptions", "", &[cause]));
        let propagation = match (wire.propagation_policy.as_deref(), wire.orphan_dependents) {
            (Some(policy), Some(_)) => {
                let detail = "orphanDependents and deletionPropagation cannot be both set";
                return refuse(Cause::invalid("propagationPolicy", &policy.into(), detail));
            }
            (None, Some(true)) | (Some("Orphan"), None) => Propagation::Orphan,
            (None, None | Some(false)) | (Some("Background"), None) => Propagation::Background,
            (Some("Foreground"), None) => Propagation::Foreground,
            (Some(other), None) => {
                let known = ["Foreground", "Background", "Orphan"];
                return refuse(Cause::not_supported("propagationPolicy", other, &known));
            }
        };
        // kubectl's --dry-run=server puts it in both places.
        let dry = wire.dry_run.unwrap_or_default();
        let dry_run = request::dry_run(dry.iter().map(String::as_str).chain(query.all("dryRun")), "DeleteOptions")?;
        let preconditions = wire.preconditions.unwrap_or_default();
        Ok(Self { propagation, uid: preconditions.uid, version: preconditions.resource_version, dry_run })
    }
}

/// What a delete came to.
#[derive(Debug)]
pub enum Deleted {
    /// The object is gone; this was its last state.
    Gone(Entry),
    /// It is there still, waiting for its finalizers.
    Waiting(Entry),
}

/// Deletes one object.
///
/// # Errors
/// 404, 403, 409.
pub async fn object(store: &Store, kind: &KindInfo, key: &Key, options: &DeleteOptions) -> Result<Deleted, Failure> {
    let name = &*key.name;
    if kind.plural == "namespaces" && namespace::PERMANENT.contains(&name) {
        return Err(Failure::forbidden(kind, name, "this namespace may not be deleted"));
    }
    loop {
        let entry = store.get(key).ok_or_else(|| Failure::not_found(kind, name))?;
        let old = object::parse(&entry);
        preconditions(kind, &entry, &old, options)?;
        let new = condemned(kind, &old, options.propagation, &object::now());
        let vanishes = object::may_vanish(&new);
        if options.dry_run {
            let shown = Entry { bytes: object::encode(&new).render(entry.revision), ..(*entry).clone() };
            return Ok(if vanishes { Deleted::Gone(shown) } else { Deleted::Waiting(shown) });
        }
        // What vanishes at once is last seen as it was.
        let action = match vanishes {
            true if object::is_terminating(&old) => Action::Delete(object::encode(&new)),
            true => Action::Delete(object::encode(&old)),
            false => Action::Retire(object::encode(&new)),
        };
        let expect = Expect::At(entry.revision);
        match store.write(Write { key: key.clone(), expect, requires: Vec::new(), action }).await {
            Ok(written) if vanishes => return Ok(Deleted::Gone((*written.entry).clone())),
            Ok(written) => return Ok(Deleted::Waiting((*written.entry).clone())),
            Err(WriteError::Moved(_)) => {}
            Err(error) => return Err(Failure::from_write(error, kind, name)),
        }
    }
}

fn preconditions(kind: &KindInfo, entry: &Entry, old: &Object, options: &DeleteOptions) -> Result<(), Failure> {
    let name = &*entry.key.name;
    let uid = object::text(old, "uid");
    if let Some(wanted) = options.uid.as_deref().filter(|w| *w != uid) {
        let why = format!("Precondition failed: UID in precondition: {wanted}, UID in object meta: {uid}");
        return Err(Failure::conflict(kind, name, &why));
    }
    let version = entry.revision.to_string();
    if let Some(wanted) = options.version.as_deref().filter(|w| *w != version) {
        let why = format!(
            "Precondition failed: ResourceVersion in precondition: {wanted}, ResourceVersion in object meta: {version}"
        );
        return Err(Failure::conflict(kind, name, &why));
    }
    Ok(())
}

/// The object with its deletion begun; unchanged when it had been before.
fn condemned(kind: &KindInfo, old: &Object, propagation: Propagation, now: &str) -> Object {
    let mut new = old.clone();
    let mut finalizers: Vec<Value> =
        object::finalizers(old).into_iter().filter(|f| *f != FOREGROUND && *f != ORPHAN).map(Value::from).collect();
    if object::is_terminating(old) {
        return new;
    }
    match propagation {
        Propagation::Background => {}
        Propagation::Foreground => finalizers.push(FOREGROUND.into()),
        Propagation::Orphan => finalizers.push(ORPHAN.into()),
    }
    let metadata = object::metadata_mut(&mut new);
    if finalizers.is_empty() {
        metadata.remove("finalizers");
    } else {
        metadata.insert("finalizers".to_owned(), finalizers.into());
    }
    metadata.insert("deletionTimestamp".to_owned(), now.into());
    metadata.insert("deletionGracePeriodSeconds".to_owned(), 0.into());
    prepare::raise_generation(&mut new);
    if kind.plural == "namespaces" {
        namespace::terminate(&mut new);
    }
    new
}

/// Answers a delete of one object.
///
/// # Errors
/// As [`object`].
pub async fn one(
    store: &Store,
    collection: &Collection,
    name: &str,
    options: &DeleteOptions,
    query: &Query,
    wanted: Wanted,
) -> Result<Response<Body>, Failure> {
    let kind = collection.resource.kind;
    match object(store, kind, &collection.key(name), options).await? {
        Deleted::Gone(entry) => {
            let uid = object::head(&entry.bytes).uid;
            Ok(media::object_response(StatusCode::OK, &status::success(kind, name, &uid), wanted))
        }
        Deleted::Waiting(entry) => {
            let presentation = Presentation::of(collection.resource, wanted, query)?;
            Ok(media::json_bytes(StatusCode::OK, presentation.object(&entry), wanted))
        }
    }
}

/// Deletes what a list request means and answers with it.
///
/// # Errors
/// As a list, and the first failure of a delete (what has been deleted by then stays so).
pub async fn many(
    store: &Store,
    collection: &Collection,
    options: &DeleteOptions,
    query: &Query,
    wanted: Wanted,
) -> Result<Response<Body>, Failure> {
    let kind = collection.resource.kind;
    let page = read::page(store, collection, query).await?;
    // Many at a time, so that they share commits.
    futures::stream::iter(page.entries.iter().map(Ok::<_, Failure>))
        .try_for_each_concurrent(64, |entry| async move {
            match object(store, kind, &entry.key, options).await {
                Err(failure) if failure.code() != StatusCode::NOT_FOUND => Err(failure),
                _ => Ok(()),
            }
        })
        .await?;
    let presentation = Presentation::of(collection.resource, wanted, query)?;
    let metadata = json!({"resourceVersion": store.revision().to_string()});
    Ok(media::json_bytes(StatusCode::OK, presentation.list(&metadata, &page.entries), wanted))
}

/// Everything of a collection, whatever becomes of it; for namespaces that go.
pub async fn sweep(store: &Store, kind: &KindInfo, entries: Vec<Key>) {
    let options = DeleteOptions::default();
    futures::stream::iter(entries)
        .for_each_concurrent(64, |key| {
            let options = &options;
            async move {
                if let Err(failure) = object(store, kind, &key, options).await
                    && failure.code() != StatusCode::NOT_FOUND
                {
                    tracing::warn!(name = &*key.name, kind = kind.kind, error = failure.message(), "not deleted");
                }
            }
        })
        .await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::kinds;

    #[test]
    fn options() {
        let read = |query: &str, body: &str| {
            let uri = format!("/x?{query}").parse().unwrap();
            DeleteOptions::of(&Query::of(&uri).unwrap(), &HeaderMap::new(), &Bytes::from(body.to_owned()))
                .map_err(|f| f.code().as_u16())
        };
        assert_eq!(read("", ""), Ok(DeleteOptions::default()));
        assert_eq!(read("propagationPolicy=Foreground", "").unwrap().propagation, Propagation::Foreground);
        assert_eq!(read("", r#"{"propagationPolicy":"Orphan"}"#).unwrap().propagation, Propagation::Orphan);
        assert_eq!(read("", r#"{"orphanDependents":true}"#).unwrap().propagation, Propagation::Orphan);
        assert_eq!(read("", r#"{"preconditions":{"uid":"x"}}"#).unwrap().uid.as_deref(), Some("x"));
        assert!(read("dryRun=All", r#"{"kind":"DeleteOptions"}"#).unwrap().dry_run);
        assert_eq!(read("", r#"{"orphanDependents":true,"propagationPolicy":"Background"}"#), Err(422));
        assert_eq!(read("propagationPolicy=Nope", ""), Err(422));
        assert_eq!(read("", "nonsense"), Err(400));
    }

    #[test]
    fn a_deletion_begins_once() {
        let kind = kinds::find("vm").unwrap();
        let fresh =
            json!({"kind": "VirtualMachine", "metadata": {"name": "a", "finalizers": ["x/y"], "generation": 1}});
        let once = condemned(kind, fresh.as_object().unwrap(), Propagation::Foreground, "T1");
        assert_eq!(
            Value::Object(once.clone())["metadata"],
            json!({"name": "a", "finalizers": ["x/y", FOREGROUND], "generation": 2, "deletionTimestamp": "T1",
                "deletionGracePeriodSeconds": 0})
        );
        assert_eq!(condemned(kind, &once, Propagation::Background, "T2"), once);
    }
}
