//! Whether a request may be done, before anything of it is done, and what becomes of the body of one that may not.

use std::time::Duration;

use axum::body::Body;
use axum::http::request::Parts;
use http_body_util::{BodyExt as _, Limited};

use super::caller::Caller;
use super::identity::{Attributes, Identity};
use super::is_watch;
use super::request::{self, Query, Route};
use super::status::Failure;

/// Most of a refused request's body that is read to be thrown away.
const MAX_DRAINED: usize = 256 << 10;
/// How long that may take.
const DRAIN_TIME: Duration = Duration::from_secs(2);

/// A request that may be done.
pub enum Admitted<'a> {
    /// By anybody: health, version, and an upload, whose token is what shows that one may.
    Open(Route),
    /// By somebody who has the right to.
    Known {
        /// What.
        route: Route,
        /// With these options.
        query: Query,
        /// In whose name.
        who: &'a Identity,
    },
}

/// Whether a request may be done. Its body is not read.
///
/// # Errors
/// 401, 403, 404 for a path that is not served, 400 for one that cannot be read.
pub fn admit<'a>(caller: &'a Caller, parts: &Parts) -> Result<Admitted<'a>, Failure> {
    if let Some(failure) = &caller.refused {
        return Err(failure.clone());
    }
    let segments = request::segments(parts.uri.path());
    let route = segments.as_ref().map_err(Failure::clone).and_then(|segments| request::route(segments));
    let (who, route) = match (caller.who(), route) {
        (None, Ok(route @ (Route::Health | Route::Version))) => return Ok(Admitted::Open(route)),
        // Not a right of somebody: whoever has the address may bring the content, once, and nothing else.
        (_, Ok(route @ Route::Upload(_))) => return Ok(Admitted::Open(route)),
        (who, route) => (who.ok_or_else(Failure::unauthorized)?, route),
    };
    let (segments, query) = (segments?, Query::of(&parts.uri)?);
    let watch = is_watch(&parts.method, &query);
    let Attributes { action, namespace, .. } = Attributes::of(&segments, &parts.method, watch);
    who.require(&action, namespace.as_deref())?;
    Ok(Admitted::Known { route: route?, query, who })
}

/// Reads what is left of a short body that nobody wants: with HTTP/1.1 the connection would otherwise be closed under a
/// client that still sends, which then sees a broken pipe instead of the refusal. Long ones are not waited for.
pub async fn drain(body: Body) {
    tokio::time::timeout(DRAIN_TIME, Limited::new(body, MAX_DRAINED).collect()).await.ok();
}
