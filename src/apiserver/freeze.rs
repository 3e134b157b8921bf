//! `PUT virtualmachines/NAME/freeze` and `/unfreeze` (upstream.md section 17): the file systems of a running guest,
//! through its agent.

use std::time::Duration;

use axum::body::Body;
use axum::http::{Method, Response, StatusCode};
use bytes::Bytes;
use serde::Deserialize;

use super::object;
use super::status::Failure;
use super::{StreamDialer, StreamError, media};
use crate::store::{Key, Store};
use crate::types::kinds;

/// How long file systems stay frozen when the request does not say, or says 0: a guest that cannot write hangs.
const DEFAULT: Duration = Duration::from_secs(300);
/// The longest that can be asked for.
const LONGEST: Duration = Duration::from_secs(3600);

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FreezeName {
    /// Freeze.
    Freeze,
    /// Thaw.
    Unfreeze,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Wanted {
    unfreeze_timeout: Option<String>,
}

/// Answers when it is done.
///
/// # Errors
/// 404 for a machine that does not exist, 400 for a body that cannot be read, 500 when the guest does not do it.
pub async fn answer(
    store: &Store,
    dialer: Option<&dyn StreamDialer>,
    (namespace, name, which): (&str, &str, FreezeName),
    method: &Method,
    body: &Bytes,
) -> Result<Response<Body>, Failure> {
    if method != Method::PUT {
        return Err(Failure::method_not_allowed());
    }
    let kind = kinds::find("virtualmachines").ok_or_else(Failure::no_such_path)?;
    let key = Key::new(&kind.qualified(), namespace, name);
    let machine = store.get(&key).ok_or_else(|| Failure::not_found(kind, name))?;
    let uid = object::head(&machine.bytes).uid;
    let dialer = dialer.ok_or_else(|| Failure::internal("this server reaches no machines"))?;
    let done = match which {
        FreezeName::Freeze => dialer.freeze(&uid, timeout(body)?).await,
        FreezeName::Unfreeze => dialer.unfreeze(&uid).await,
    };
    done.map_err(|error| match error {
        StreamError::NotReady(text) => Failure::bad_request(text),
        StreamError::Failed(text) => Failure::internal(text),
    })?;
    Ok(media::finish(StatusCode::OK, "text/plain; charset=utf-8", Bytes::new(), false))
}

fn timeout(body: &Bytes) -> Result<Duration, Failure> {
    let wanted: Wanted = if body.is_empty() {
        Wanted::default()
    } else {
        serde_json::from_slice(body).map_err(|e| Failure::bad_request(format!("the body cannot be read: {e}")))?
    };
    let Some(text) = wanted.unfreeze_timeout else { return Ok(DEFAULT) };
    let asked = duration(&text).filter(|asked| *asked <= LONGEST).ok_or_else(|| {
        Failure::bad_request(format!("unfreezeTimeout {text:?} is no duration such as 30s or 5m, of at most one hour"))
    })?;
    Ok(if asked.is_zero() { DEFAULT } else { asked })
}

/// Reads a duration as Go writes them: `0s`, `1m30s`, `1.5h`, `250ms`.
fn duration(text: &str) -> Option<Duration> {
    const UNITS: [(&str, f64); 4] = [("ms", 0.001), ("h", 3600.0), ("m", 60.0), ("s", 1.0)];
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let (mut rest, mut seconds) = (text, 0.0);
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(end);
        let number: f64 = number.parse().ok()?;
        let (unit, factor) = UNITS.iter().find(|(unit, _)| tail.starts_with(unit))?;
        seconds += number * factor;
        rest = &tail[unit.len()..];
    }
    (!text.is_empty()).then(|| Duration::try_from_secs_f64(seconds).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_long() {
        let read = |body: &str| timeout(&Bytes::from(body.to_owned())).map(|d| d.as_millis()).ok();
        for (body, millis) in [
            ("", Some(300_000)),
            ("{}", Some(300_000)),
            (r#"{"unfreezeTimeout":"0s"}"#, Some(300_000)),
            (r#"{"unfreezeTimeout":"30s"}"#, Some(30_000)),
            (r#"{"unfreezeTimeout":"1m30s"}"#, Some(90_000)),
            (r#"{"unfreezeTimeout":"250ms"}"#, Some(250)),
            (r#"{"unfreezeTimeout":"1h"}"#, Some(3_600_000)),
            (r#"{"unfreezeTimeout":"1h1s"}"#, None),
            (r#"{"unfreezeTimeout":"5"}"#, None),
            (r#"{"unfreezeTimeout":"-5s"}"#, None),
            (r#"{"unfreezeTimeout":""}"#, None),
            (r#"{"unfreezeTimeout":5}"#, None),
            ("nonsense", None),
        ] {
            assert_eq!(read(body), millis, "{body}");
        }
    }
}
