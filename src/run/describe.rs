//! `describe`: an object for reading, with what usually has to be looked up beside it.

use serde_json::Value;

use crate::cli::DescribeArgs;
use crate::client::{ListOptions, event_time};
use crate::types::kinds::KindInfo;
use crate::types::text::age;

use super::failure::Failure;
use super::print::Grid;
use super::resolve::Selection;
use super::{Context, out, print};

/// Runs the verb.
pub async fn run(context: &Context, args: DescribeArgs) -> Result<(), Failure> {
    let mut objects: Vec<(&'static KindInfo, Value)> = Vec::new();
    match Selection::parse(&args.what)? {
        Selection::Named(list) => {
            for (kind, name) in list {
                let namespace = kind.namespaced().then(|| context.default_namespace());
                objects.push((kind, context.session.get(kind, namespace, &name).await?));
            }
        }
        Selection::Kinds(kinds) => {
            let options = ListOptions { labels: args.selector.clone(), ..ListOptions::default() };
            for kind in kinds {
                let namespace = if args.all_namespaces { None } else { Some(context.default_namespace()) };
                let mut list = context.session.list(kind, namespace, &options).await?;
                if let Value::Array(items) = list["items"].take() {
                    objects.extend(items.into_iter().map(|o| (kind, o)));
                }
            }
        }
    }
    if objects.is_empty() {
        out::note("No resources found");
    }
    let now = jiff::Timestamp::now();
    for (i, (kind, object)) in objects.iter().enumerate() {
        let events = if args.no_events { None } else { Some(context.session.events_for(object).await?) };
        let gap = if i > 0 { "\n\n" } else { "" };
        out::block(&format!("{gap}{}", render(kind, object, events.as_deref(), now)))?;
    }
    Ok(())
}

/// The text.
fn render(kind: &KindInfo, object: &Value, events: Option<&[Value]>, now: jiff::Timestamp) -> String {
    let meta = &object["metadata"];
    let status = &object["status"];
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    let mut head = vec![vec!["Name:".to_owned(), text(&meta["name"])]];
    if kind.namespaced() {
        head.push(vec!["Namespace:".into(), text(&meta["namespace"])]);
    }
    head.push(vec!["Kind:".into(), format!("{} ({})", kind.kind, kind.api_version())]);
    head.push(vec!["Labels:".into(), print::labels(&meta["labels"])]);
    head.push(vec!["Annotations:".into(), print::labels(&meta["annotations"])]);
    head.push(vec!["Created:".into(), when(&text(&meta["creationTimestamp"]), now)]);
    if let Some(deleted) = meta["deletionTimestamp"].as_str() {
        let finalizers = meta["finalizers"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let held = finalizers.collect::<Vec<_>>().join(", ");
        head.push(vec!["Deleting:".into(), format!("since {}, waits for {held}", when(deleted, now))]);
    }
    for owner in meta["ownerReferences"].as_array().into_iter().flatten() {
        head.push(vec!["Owner:".into(), format!("{}/{}", text(&owner["kind"]), text(&owner["name"]))]);
    }
    if let Some(phase) = status["phase"].as_str() {
        head.push(vec!["Phase:".into(), phase.to_owned()]);
    }
    let mut body = Grid::default().lines(&head);
    for section in ["spec", "data", "stringData", "type", "status"] {
        let value = match section {
            "status" => rest_of_status(status),
            "data" | "stringData" if kind.kind == "Secret" => sizes(&object[section]),
            _ => object[section].clone(),
        };
        let empty = value.is_null() || value.as_object().is_some_and(serde_json::Map::is_empty);
        if !empty {
            body.push_str(&title(section));
            body.push_str(&indent(&print::yaml(&value)));
        }
    }
    body.push_str(&conditions(status, now));
    if kind.kind == "VirtualMachine" {
        body.push_str(&waiting(status));
    }
    if let Some(events) = events {
        body.push_str(&event_table(events, now));
    }
    body
}

/// What has no section of its own.
fn rest_of_status(status: &Value) -> Value {
    let mut status = status.clone();
    if let Some(map) = status.as_object_mut() {
        for shown in ["conditions", "restartAwaitingChanges", "phase"] {
            map.shift_remove(shown);
        }
    }
    status
}

/// Contents of a secret are not for screens.
fn sizes(data: &Value) -> Value {
    let Some(map) = data.as_object() else { return Value::Null };
    map.iter()
        .map(|(k, v)| (k.clone(), Value::from(format!("({} characters)", v.as_str().unwrap_or_default().len()))))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

fn title(section: &str) -> String {
    let mut chars = section.chars();
    let first: String = chars.next().map(|c| c.to_uppercase().collect()).unwrap_or_default();
    format!("{first}{}:\n", chars.as_str())
}

fn indent(text: &str) -> String {
    text.lines().map(|l| format!("  {l}\n")).collect()
}

fn conditions(status: &Value, now: jiff::Timestamp) -> String {
    let Some(list) = status["conditions"].as_array().filter(|l| !l.is_empty()) else { return String::new() };
    let mut rows = vec![["TYPE", "STATUS", "REASON", "SINCE", "MESSAGE"].map(ToOwned::to_owned).to_vec()];
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    rows.extend(list.iter().map(|c| {
        let since = since(&text(&c["lastTransitionTime"]), now);
        vec![text(&c["type"]), text(&c["status"]), text(&c["reason"]), since, text(&c["message"])]
    }));
    format!("Conditions:\n{}", indent(&Grid::default().lines(&rows)))
}

fn waiting(status: &Value) -> String {
    let list = status["restartAwaitingChanges"].as_array().filter(|l| !l.is_empty());
    let Some(list) = list else { return "Changes that wait for a restart:  <none>\n".into() };
    let mut rows = vec![["FIELD", "RUNNING", "DECLARED"].map(ToOwned::to_owned).to_vec()];
    let cell = |v: &Value| match v {
        Value::Null => "<none>".to_owned(),
        Value::String(s) => s.clone(),
        other => other.to_string(),
    };
    rows.extend(list.iter().map(|c| vec![cell(&c["path"]), cell(&c["currentValue"]), cell(&c["desiredValue"])]));
    format!("Changes that wait for a restart:\n{}", indent(&Grid::default().lines(&rows)))
}

fn event_table(events: &[Value], now: jiff::Timestamp) -> String {
    if events.is_empty() {
        return "Events:  <none>\n".into();
    }
    let mut rows = vec![["TYPE", "REASON", "AGE", "FROM", "MESSAGE"].map(ToOwned::to_owned).to_vec()];
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    rows.extend(events.iter().map(|e| {
        let count = e["series"]["count"].as_u64().or_else(|| e["count"].as_u64()).unwrap_or(1);
        let last = since(event_time(e), now);
        let age = if count > 1 {
            let first = since(e["firstTimestamp"].as_str().unwrap_or_default(), now);
            format!("{last} (x{count} over {first})")
        } else {
            last
        };
        let from = [&e["source"]["component"], &e["reportingComponent"]].into_iter().find_map(Value::as_str);
        vec![text(&e["type"]), text(&e["reason"]), age, from.unwrap_or_default().to_owned(), text(&e["message"])]
    }));
    format!("Events:\n{}", indent(&Grid::default().lines(&rows)))
}

fn since(timestamp: &str, now: jiff::Timestamp) -> String {
    match timestamp.parse::<jiff::Timestamp>() {
        Ok(then) => age(now.as_second() - then.as_second()),
        Err(_) => "<unknown>".into(),
    }
}

fn when(timestamp: &str, now: jiff::Timestamp) -> String {
    if timestamp.is_empty() { "<unknown>".into() } else { format!("{timestamp} ({} ago)", since(timestamp, now)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_machine_reads_well() {
        let now: jiff::Timestamp = "2026-01-01T00:05:16Z".parse().unwrap();
        let vm = json!({"metadata": {"name": "linux-vm", "namespace": "default", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"cpu": {"cores": 2}},
            "status": {"phase": "Running", "ipAddress": "10.66.10.13",
                "conditions": [{"type": "Running", "status": "True", "reason": "Running", "lastTransitionTime": "2026-01-01T00:01:00Z", "message": ""}],
                "restartAwaitingChanges": [{"path": "cpu.cores", "operation": "replace", "currentValue": 1, "desiredValue": 2}]}});
        let events = [
            json!({"type": "Normal", "reason": "Started", "lastTimestamp": "2026-01-01T00:01:00Z", "count": 1, "message": "started\u{1b}[31m",
            "source": {"component": "vmdeck"}}),
        ];
        let kind = crate::types::kinds::find("vm").unwrap();
        let text = render(kind, &vm, Some(&events), now);
        for want in ["Name:          linux-vm", "(5m16s ago)", "  cpu.cores   1         2", "  cores: 2", "Started"] {
            assert!(text.contains(want), "{want}\n{text}");
        }
        assert!(!text.contains('\u{1b}'));
    }

    #[test]
    fn secrets_show_sizes_only() {
        let kind = crate::types::kinds::find("secret").unwrap();
        let secret = json!({"metadata": {"name": "s"}, "type": "Opaque", "data": {"userData": "c2VjcmV0"}});
        let text = render(kind, &secret, None, jiff::Timestamp::UNIX_EPOCH);
        assert!(!text.contains("c2VjcmV0"), "{text}");
        assert!(text.contains("(8 characters)"), "{text}");
    }
}
