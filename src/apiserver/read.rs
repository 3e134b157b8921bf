//! get and list (k8s-api.md 1.5).

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::body;
use super::media::{self, Format, Wanted};
use super::present::{self, Presentation};
use super::request::{Collection, Query};
use super::select::Selection;
use super::status::{Cause, Failure};
use crate::store::{Entry, Revision, Snapshot, Store, StoreError};

/// How long a reader waits for a version that is not there yet.
const PATIENCE: Duration = Duration::from_secs(3);

/// One object.
///
/// # Errors
/// 404; 504 for a version from the future.
pub async fn get(
    store: &Store,
    collection: &Collection,
    name: &str,
    query: &Query,
    wanted: Wanted,
) -> Result<Response<Body>, Failure> {
    if let Some(at_least) = version(query)? {
        not_older_than(store, at_least).await?;
    }
    let presentation = Presentation::of(collection.resource, wanted, query)?;
    let entry = store.get(&collection.key(name)).ok_or_else(|| Failure::not_found(collection.resource.kind, name))?;
    Ok(media::json_bytes(StatusCode::OK, presentation.object(&entry), wanted))
}

/// Which state a list shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Snap {
    Newest,
    AtLeast(Revision),
    Exact(Revision),
}

/// What a continue token says: base64 of JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Token {
    /// Revision of the first page; 0 for a list that goes on with whatever is there now.
    rv: Revision,
    /// Namespace and name of the last object of the page before.
    after: (String, String),
}

impl Token {
    fn encode(&self) -> String {
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).unwrap_or_default())
    }

    fn decode(text: &str) -> Option<Self> {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok()
    }
}

/// A collection.
///
/// # Errors
/// 400, 410, 422, 504 as k8s-api.md 1.5 says.
pub async fn list(
    store: &Store,
    collection: &Collection,
    query: &Query,
    wanted: Wanted,
) -> Result<Response<Body>, Failure> {
    let presentation = Presentation::of(collection.resource, wanted, query)?;
    let page = page(store, collection, query).await?;
    let mut metadata = json!({"resourceVersion": page.revision.to_string()});
    if let Some(token) = &page.next {
        metadata["continue"] = token.as_str().into();
    }
    if let Some(remaining) = page.remaining {
        metadata["remainingItemCount"] = remaining.into();
    }
    if wanted.format == Format::Yaml {
        let answer = move || media::json_bytes(StatusCode::OK, presentation.list(&metadata, &page.entries), wanted);
        // A long list takes a while to make: not on a thread that serves others.
        return tokio::task::spawn_blocking(answer).await.map_err(Failure::internal);
    }
    Ok(long_list(presentation, &metadata, page.entries, wanted.gzip))
}

/// A list, made while it is sent if it is long.
fn long_list(presentation: Presentation, metadata: &Value, entries: Vec<Arc<Entry>>, gzip: bool) -> Response<Body> {
    const WHOLE: usize = 256 << 10;
    let now = jiff::Timestamp::now();
    let render = Box::new(move |entry: &Entry, out: &mut Vec<u8>| presentation.item(entry, now, out));
    let list = body::list(presentation.list_head(metadata, true), entries, present::LIST_TAIL, render);
    if list.size() <= WHOLE {
        return media::finish(StatusCode::OK, "application/json", list.whole(), gzip);
    }
    let mut response = Response::new(if gzip { list.gzipped() } else { list.streamed() });
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if gzip {
        media::mark_gzip(&mut response);
    }
    response
}

/// One page of a list.
#[derive(Debug)]
pub struct Page {
    /// The state it shows.
    pub revision: Revision,
    /// Its objects.
    pub entries: Vec<Arc<Entry>>,
    next: Option<String>,
    remaining: Option<usize>,
}

/// The objects that a list request means.
///
/// # Errors
/// As [`list`].
pub async fn page(store: &Store, collection: &Collection, query: &Query) -> Result<Page, Failure> {
    let selection = Selection::of(query, collection.resource)?;
    let limit = query.number("limit")?.filter(|l| *l > 0).map(|l| usize::try_from(l).unwrap_or(usize::MAX));
    let token = query
        .get("continue")
        .map(|t| Token::decode(t).ok_or_else(|| Failure::bad_request("invalid continue token")))
        .transpose()?;
    let snap = snap(query, token.as_ref(), limit.is_some())?;
    let Snapshot { revision, entries } = take(store, collection, snap, token.as_ref()).await?;

    let start = token.map_or(0, |t| {
        let after = (t.after.0.as_str(), t.after.1.as_str());
        entries.partition_point(|e| (&*e.key.namespace, &*e.key.name) <= after)
    });
    let limit = limit.unwrap_or(usize::MAX);
    let mut chosen = Vec::new();
    let mut rest = entries[start..].iter();
    let mut more = false;
    for entry in rest.by_ref() {
        if selection.matches(entry) {
            if chosen.len() == limit {
                more = true;
                break;
            }
            chosen.push(Arc::clone(entry));
        }
    }
    let next = chosen.last().filter(|_| more).map(|last: &Arc<Entry>| {
        Token { rv: revision, after: (last.key.namespace.to_string(), last.key.name.to_string()) }.encode()
    });
    // The one that showed that there is more has been taken from `rest` already.
    let remaining = (more && selection.is_all()).then(|| rest.len() + 1);
    Ok(Page { revision, entries: chosen, next, remaining })
}

fn snap(query: &Query, token: Option<&Token>, paged: bool) -> Result<Snap, Failure> {
    let version = version(query)?;
    let matching = query.get("resourceVersionMatch");
    let refuse = |detail: &str| {
        Err(Failure::invalid("meta.k8s.io", "ListOptions", "", &[Cause::forbidden("resourceVersionMatch", detail)]))
    };
    if let Some(token) = token {
        if version.is_some_and(|v| v > 0) {
            return Err(Failure::bad_request("specifying resource version is not allowed when using continue"));
        }
        if matching.is_some() {
            return refuse("resourceVersionMatch is forbidden when continue is provided");
        }
        return Ok(if token.rv == 0 { Snap::Newest } else { Snap::Exact(token.rv) });
    }
    match (matching, version) {
        (None, None | Some(0)) => Ok(Snap::Newest),
        // As Kubernetes has done since before there was a word for it.
        (None, Some(version)) if paged => Ok(Snap::Exact(version)),
        (None | Some("NotOlderThan"), Some(version)) => Ok(Snap::AtLeast(version)),
        (Some("Exact"), Some(0)) => refuse("resourceVersionMatch \"Exact\" is forbidden for resourceVersion \"0\""),
        (Some("Exact"), Some(version)) => Ok(Snap::Exact(version)),
        (Some("Exact" | "NotOlderThan"), None) => {
            refuse("resourceVersionMatch is forbidden unless resourceVersion is provided")
        }
        (Some(other), _) => {
            let cause = Cause::not_supported("resourceVersionMatch", other, &["Exact", "NotOlderThan"]);
            Err(Failure::invalid("meta.k8s.io", "ListOptions", "", &[cause]))
        }
    }
}

/// The `resourceVersion` of a query.
///
/// # Errors
/// 400 when it is not a number.
pub fn version(query: &Query) -> Result<Option<Revision>, Failure> {
    query
        .get("resourceVersion")
        .map(|v| v.parse().map_err(|_| Failure::bad_request(format!("invalid resource version {v:?}: not a number"))))
        .transpose()
}

async fn not_older_than(store: &Store, version: Revision) -> Result<(), Failure> {
    if store.reached(version, PATIENCE).await {
        return Ok(());
    }
    Err(StoreError::Future { requested: version, current: store.revision() }.into())
}

async fn take(store: &Store, collection: &Collection, snap: Snap, token: Option<&Token>) -> Result<Snapshot, Failure> {
    let bucket = collection.resource.kind.qualified();
    let namespace = collection.namespace.as_deref();
    match snap {
        Snap::Newest => Ok(store.list(&bucket, namespace)),
        Snap::AtLeast(version) => {
            not_older_than(store, version).await?;
            Ok(store.list(&bucket, namespace))
        }
        Snap::Exact(version) => {
            not_older_than(store, version).await?;
            store.list_at(&bucket, namespace, version).await.map_err(|error| match (error, token) {
                (StoreError::Compacted { .. }, Some(token)) => {
                    let message = "The provided continue parameter is too old to display a consistent list result. \
                                   You can start a new list without the continue parameter, or use the continue \
                                   token in this response to retrieve the remainder of the results. Continuing with \
                                   the provided token results in an inconsistent list - objects that were created, \
                                   modified, or deleted between the time the first chunk was returned and now may \
                                   show up in the list.";
                    Failure::expired(message, Some(Token { rv: 0, ..token.clone() }.encode()))
                }
                (StoreError::Compacted { .. }, None) => {
                    Failure::expired("The resourceVersion for the provided list is too old.", None)
                }
                (other, _) => other.into(),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_state_a_list_shows() {
        let token = |rv| Token { rv, after: (String::new(), String::new()) };
        type Case<'a> = (&'a str, Option<Token>, bool, Result<Snap, u16>);
        let cases: [Case<'_>; 13] = [
            ("", None, false, Ok(Snap::Newest)),
            ("resourceVersion=0", None, true, Ok(Snap::Newest)),
            ("resourceVersion=5", None, false, Ok(Snap::AtLeast(5))),
            ("resourceVersion=5", None, true, Ok(Snap::Exact(5))),
            ("resourceVersion=5&resourceVersionMatch=NotOlderThan", None, true, Ok(Snap::AtLeast(5))),
            ("resourceVersion=5&resourceVersionMatch=Exact", None, false, Ok(Snap::Exact(5))),
            ("resourceVersion=0&resourceVersionMatch=Exact", None, false, Err(422)),
            ("resourceVersionMatch=Exact", None, false, Err(422)),
            ("resourceVersion=5&resourceVersionMatch=Any", None, false, Err(422)),
            ("resourceVersion=abc", None, false, Err(400)),
            ("", Some(token(7)), true, Ok(Snap::Exact(7))),
            ("", Some(token(0)), true, Ok(Snap::Newest)),
            ("resourceVersion=7", Some(token(7)), true, Err(400)),
        ];
        for (query, token, paged, want) in cases {
            let uri = format!("/x?{query}").parse().unwrap();
            let got = snap(&Query::of(&uri).unwrap(), token.as_ref(), paged).map_err(|f| f.code().as_u16());
            assert_eq!(got, want, "{query} {token:?}");
        }
    }

    #[test]
    fn tokens_survive_and_nonsense_does_not() {
        let token = Token { rv: 9, after: ("ns".to_owned(), "a".to_owned()) };
        assert_eq!(Token::decode(&token.encode()), Some(token));
        for text in ["%%%", "", "e30", "bm9uc2Vuc2U"] {
            assert_eq!(Token::decode(text), None, "{text}");
        }
    }
}
