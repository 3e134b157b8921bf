//! Everything about an object, for people: metadata, spec, status, conditions, events.

use ratatui::text::{Line, Span};
use serde_json::{Map, Value};

use super::super::message::ObjectRef;
use super::super::paint::Paint;
use super::super::text::pad;
use super::super::theme::{Glyph, Meaning};
use super::machine::{conditions, events};
use super::why::why;
use crate::types::text::printable;

/// The description as styled lines.
pub fn lines(object: &ObjectRef, content: &Value, paint: &mut Paint<'_>, cells: u16) -> Vec<Line<'static>> {
    let mut out = Vec::new();
    let meta = &content["metadata"];
    let (label, value) = (paint.style(Meaning::Muted), paint.style(Meaning::Text));
    let fact =
        |name: &str, text: String| Line::from(vec![Span::styled(pad(name, 14, "…"), label), Span::styled(text, value)]);
    out.push(fact("Name", text(&meta["name"])));
    if !object.namespace.is_empty() {
        out.push(fact("Namespace", printable(&object.namespace).into_owned()));
    }
    out.push(fact("Kind", format!("{} ({})", object.kind.0.kind, object.kind.0.api_version())));
    if let Some(created) = meta["creationTimestamp"].as_str().and_then(|t| t.parse::<jiff::Timestamp>().ok()) {
        let age = paint.age(created.as_second());
        out.push(fact("Created", format!("{age} ago ({created})")));
    }
    let phase = text(&content["status"]["phase"]);
    if !phase.is_empty() {
        let look = paint.theme.phase(&phase);
        out.push(Line::from(vec![
            Span::styled(pad("Phase", 14, "…"), label),
            Span::styled(format!("{} {phase}", look.sign), look.style),
        ]));
    }
    for (name, field) in [("Labels", "labels"), ("Annotations", "annotations")] {
        let mut name = name;
        for (key, v) in meta[field].as_object().into_iter().flatten() {
            out.push(fact(name, format!("{}={}", printable(key), text(v))));
            name = "";
        }
    }
    for owner in meta["ownerReferences"].as_array().into_iter().flatten() {
        out.push(fact("Owned by", format!("{} {}", text(&owner["kind"]), text(&owner["name"]))));
    }
    if let Some(finalizers) = meta["finalizers"].as_array().filter(|f| !f.is_empty()) {
        out.push(fact("Finalizers", finalizers.iter().map(text).collect::<Vec<_>>().join(", ")));
    }
    if let Some(why) = why(content) {
        let style = paint.style(Meaning::Warn);
        let line = format!("{} {}: {} ({})", paint.glyph(Glyph::Warning), why.what, why.message, why.reason);
        out.push(Line::styled(line, style));
    }
    for (title, section) in sections(content) {
        out.push(Line::default());
        out.push(paint.heading(&title, None, cells));
        tree(&section, 0, paint, &mut out);
    }
    out.extend(conditions(content, paint, cells));
    out.extend(events(object, content, paint, cells));
    out
}

/// The description's text as far as it depends on the object alone: for searching and copying.
pub fn plain(content: &Value) -> Vec<String> {
    let mut out = Vec::new();
    let meta = &content["metadata"];
    out.push(format!("Name          {}", text(&meta["name"])));
    out.push(format!("Namespace     {}", text(&meta["namespace"])));
    for (title, section) in sections(content) {
        out.push(String::new());
        out.push(title);
        let yaml = serde_saphyr::to_string(&section).unwrap_or_default();
        out.extend(yaml.lines().map(|l| printable(l).into_owned()));
    }
    for condition in content["status"]["conditions"].as_array().into_iter().flatten() {
        let field = |name: &str| text(&condition[name]);
        out.push(format!("{} {} {} {}", field("type"), field("status"), field("reason"), field("message")));
    }
    out
}

/// Top-level fields besides identity; values of secrets are only measured.
fn sections(content: &Value) -> Vec<(String, Value)> {
    let mut sections = Vec::new();
    for (key, value) in content.as_object().into_iter().flatten() {
        if matches!(key.as_str(), "apiVersion" | "kind" | "metadata") {
            continue;
        }
        let mut value = value.clone();
        if key == "status"
            && let Some(status) = value.as_object_mut()
        {
            status.remove("conditions");
        }
        if content["kind"] == "Secret" && (key == "data" || key == "stringData") {
            value = Value::Object(
                value
                    .as_object()
                    .into_iter()
                    .flatten()
                    .map(|(k, v)| (k.clone(), Value::from(format!("{} bytes", secret_size(v)))))
                    .collect::<Map<_, _>>(),
            );
        }
        let empty = value.as_object().is_some_and(Map::is_empty) || value.is_null();
        if !empty {
            let mut chars = key.chars();
            let title = chars.next().map(|c| c.to_uppercase().collect::<String>() + chars.as_str()).unwrap_or_default();
            sections.push((printable(&title).into_owned(), value));
        }
    }
    sections
}

fn secret_size(value: &Value) -> usize {
    use base64::Engine;
    let text = value.as_str().unwrap_or_default();
    base64::engine::general_purpose::STANDARD.decode(text).map_or(text.len(), |bytes| bytes.len())
}

/// Nested values, one field a line, two cells deeper at each level.
fn tree(value: &Value, depth: usize, paint: &Paint<'_>, out: &mut Vec<Line<'static>>) {
    let indent = "  ".repeat(depth);
    let (key_style, text_style) = (paint.style(Meaning::YamlKey), paint.style(Meaning::Text));
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                let key = format!("{indent}{}: ", printable(key));
                match value {
                    Value::Object(inner) if !inner.is_empty() => {
                        out.push(Line::styled(key, key_style));
                        tree(value, depth + 1, paint, out);
                    }
                    Value::Array(items) if !items.is_empty() => {
                        out.push(Line::styled(key, key_style));
                        tree(value, depth + 1, paint, out);
                    }
                    Value::String(text) if text.trim_end().contains('\n') => {
                        out.push(Line::styled(key, key_style));
                        for line in text.trim_end().lines() {
                            out.push(Line::styled(format!("{indent}  {}", printable(line)), text_style));
                        }
                    }
                    _ => {
                        out.push(Line::from(vec![Span::styled(key, key_style), Span::styled(text(value), text_style)]))
                    }
                }
            }
        }
        Value::Array(items) => {
            for item in items {
                let mut inner = Vec::new();
                tree(item, 0, paint, &mut inner);
                for (i, line) in inner.into_iter().enumerate() {
                    let lead = if i == 0 { format!("{indent}- ") } else { format!("{indent}  ") };
                    let mut spans = vec![Span::styled(lead, paint.style(Meaning::Muted))];
                    spans.extend(line.spans.into_iter().map(|s| Span { style: line.style.patch(s.style), ..s }));
                    out.push(Line::from(spans));
                }
            }
        }
        other => out.push(Line::styled(format!("{indent}{}", text(other)), text_style)),
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => printable(text).into_owned(),
        other => printable(&other.to_string()).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn secrets_are_measured_not_shown() {
        let secret = json!({"kind": "Secret", "metadata": {"name": "s"}, "data": {"password": "c2VjcmV0"}});
        let text = plain(&secret).join("\n");
        assert!(text.contains("6 bytes") && !text.contains("c2VjcmV0"), "{text}");
    }
}
