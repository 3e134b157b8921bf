//! `wait`.

use futures::StreamExt;
use serde_json::Value;

use crate::cli::WaitArgs;
use crate::client::ObjectEvent;
use crate::types::jsonpath;
use crate::types::kinds::KindInfo;

use super::failure::Failure;
use super::resolve::{Selection, singular_group};
use super::{Context, out};

/// What is waited for.
enum Goal {
    Condition { name: String, status: String },
    Value { path: jsonpath::Path, want: Option<String> },
    Exists,
    Gone,
}

impl Goal {
    fn parse(text: &str) -> Result<Self, Failure> {
        match text.split_once('=') {
            None if text == "delete" => Ok(Self::Gone),
            None if text == "create" => Ok(Self::Exists),
            Some(("condition", rest)) if !rest.is_empty() => {
                let (name, status) = rest.split_once('=').unwrap_or((rest, "True"));
                Ok(Self::Condition { name: name.into(), status: status.into() })
            }
            Some(("jsonpath", rest)) if rest.starts_with('{') => {
                let end = rest.rfind('}').ok_or_else(|| Failure::usage("--for=jsonpath needs {.path}"))?;
                let path = jsonpath::Path::parse(&rest[..=end]).map_err(|e| Failure::usage(e.to_string()))?;
                Ok(Self::Value { path, want: rest[end + 1..].strip_prefix('=').map(ToOwned::to_owned) })
            }
            _ => Err(Failure::usage("--for: use condition=TYPE[=STATUS], jsonpath={.path}=VALUE, create or delete")),
        }
    }

    /// Whether this state is the goal; `None` = the object does not exist.
    fn met(&self, object: Option<&Value>) -> bool {
        match (self, object) {
            (Self::Gone, None) | (Self::Exists, Some(_)) => true,
            (Self::Condition { name, status }, Some(object)) => {
                object["status"]["conditions"].as_array().into_iter().flatten().any(|c| {
                    let word = |v: &Value, want: &str| v.as_str().is_some_and(|s| s.eq_ignore_ascii_case(want));
                    word(&c["type"], name) && word(&c["status"], status)
                })
            }
            (Self::Value { path, want }, Some(object)) => match (path.first(object), want) {
                (Some(found), Some(want)) => jsonpath::text_of(found) == *want,
                (Some(_), None) => true,
                (None, _) => false,
            },
            _ => false,
        }
    }

    fn done(&self) -> &'static str {
        if matches!(self, Self::Gone) { "deleted" } else { "condition met" }
    }
}

/// Runs the verb.
pub async fn run(context: &Context, args: WaitArgs) -> Result<(), Failure> {
    let goal = Goal::parse(&args.condition)?;
    let deadline = tokio::time::Instant::now() + args.timeout;
    for (kind, name) in Selection::named(&args.what)? {
        match tokio::time::timeout_at(deadline, one(context, kind, &name, &goal)).await {
            Ok(result) => result?,
            Err(_) => {
                return Err(Failure::new(format!(
                    "timed out waiting for {} on {}/{name}",
                    args.condition,
                    singular_group(kind)
                )));
            }
        }
        out::line(&format!("{}/{name} {}", singular_group(kind), goal.done()))?;
    }
    Ok(())
}

async fn one(context: &Context, kind: &KindInfo, name: &str, goal: &Goal) -> Result<(), Failure> {
    let namespace = kind.namespaced().then(|| context.default_namespace());
    if !matches!(goal, Goal::Gone | Goal::Exists) {
        // A name that does not exist is told at once.
        context.session.get(kind, namespace, name).await?;
    }
    let mut events = Box::pin(context.session.watch_object(kind, namespace, name));
    while let Some(event) = events.next().await {
        let met = match event {
            ObjectEvent::Now(object) => goal.met(Some(&object)),
            ObjectEvent::Gone => goal.met(None),
            ObjectEvent::Stale(_) => false,
        };
        if met {
            return Ok(());
        }
    }
    Err(Failure::new("the watch ended"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn goals() {
        let object = json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
        for (text, with, without) in [
            ("condition=Ready", true, false),
            ("condition=ready=true", true, false),
            ("condition=Ready=False", false, false),
            ("jsonpath={.status.phase}=Running", true, false),
            ("jsonpath={.status.phase}=Stopped", false, false),
            ("jsonpath={.status.phase}", true, false),
            ("delete", false, true),
            ("create", true, false),
        ] {
            let goal = Goal::parse(text).unwrap_or_else(|e| panic!("{text}: {}", e.text));
            assert_eq!((goal.met(Some(&object)), goal.met(None)), (with, without), "{text}");
        }
        for bad in ["", "condition=", "jsonpath=.x", "ready"] {
            assert!(Goal::parse(bad).is_err(), "{bad}");
        }
    }
}
