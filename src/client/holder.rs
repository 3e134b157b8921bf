//! Who has a machine's console or screen open. Upstream's sessions are exclusive: whoever opens one throws the holder
//! out, so it is worth asking before. A vmdeck host shares them and says how many there are.

use std::time::Duration;

use http::Method;
use serde_json::Value;

use super::Session;
use super::error::printable;
use super::request::escape;
use crate::types::kinds::{SUBRESOURCES_GROUP, VERSION};

/// How long a server may take to say who it is. It is a courtesy, not a condition.
const PATIENCE: Duration = Duration::from_secs(2);

/// The newest session of a console or screen; texts are printable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Name of the user.
    pub name: String,
    /// RFC 3339; empty if not told.
    pub since: String,
    /// Program, as it calls itself; may be empty.
    pub client: String,
    /// How many sessions there are, where they are shared; `None` where opening one ends the other.
    pub shared: Option<u64>,
}

impl Holder {
    /// `anna (d8, for 5m)`.
    pub fn words(&self, now: jiff::Timestamp) -> String {
        let age = self.age(now).map(|age| format!("for {age}"));
        let client = Some(self.client.clone()).filter(|c| !c.is_empty());
        let more: Vec<String> = client.into_iter().chain(age).collect();
        match more.is_empty() {
            true => self.name.clone(),
            false => format!("{} ({})", self.name, more.join(", ")),
        }
    }

    /// As `kubectl` writes ages.
    pub fn age(&self, now: jiff::Timestamp) -> Option<String> {
        let since: jiff::Timestamp = self.since.parse().ok()?;
        Some(crate::types::text::age(now.duration_since(since).as_secs().max(0)))
    }
}

/// A probe's answer (upstream.md section 17); `None` if nobody is there.
fn read(answer: &Value) -> Option<Holder> {
    let text = |name: &str| printable(answer[name].as_str().unwrap_or_default());
    let shared = answer["sessions"].as_u64();
    let name = text("holder");
    if name.is_empty() && shared.is_none_or(|n| n == 0) {
        return None;
    }
    let name = if name.is_empty() { "somebody".to_owned() } else { name };
    Some(Holder { name, since: text("startTime"), client: text("client"), shared })
}

impl Session {
    /// Who has `console` or `vnc` of a machine open. `None` also if the server cannot tell: older ones do not know
    /// the question, and an attempt to connect finds out the rest.
    pub async fn holder(&self, namespace: &str, name: &str, stream: &str) -> Option<Holder> {
        let path = format!(
            "/apis/{SUBRESOURCES_GROUP}/{VERSION}/namespaces/{}/virtualmachines/{}/{stream}?probe=true",
            escape(namespace),
            escape(name)
        );
        let requester = self.requester();
        let asked = requester.json(Method::GET, &path, None, None);
        read(&tokio::time::timeout(PATIENCE, asked).await.ok()?.ok()?.object)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn answers_of_upstream_and_of_our_host() {
        let now: jiff::Timestamp = "2026-01-01T10:05:00Z".parse().unwrap();
        let words = |answer: Value| read(&answer).map(|h| (h.words(now), h.shared));
        assert_eq!(words(json!({"holder": "", "startTime": "", "client": ""})), None);
        assert_eq!(words(json!({"holder": "", "startTime": "", "client": "", "sessions": 0})), None);
        assert_eq!(words(json!("Upgrade request required")), None);
        let held = json!({"holder": "anna\u{1b}[2J", "startTime": "2026-01-01T10:00:00Z", "client": "d8"});
        assert_eq!(words(held), Some(("anna\\x1b[2J (d8, for 5m)".into(), None)));
        assert_eq!(words(json!({"holder": "anna", "startTime": "?"})), Some(("anna".into(), None)));
        let shared = json!({"holder": "bob", "startTime": "", "client": "", "sessions": 2});
        assert_eq!(words(shared), Some(("bob".into(), Some(2))));
    }
}
