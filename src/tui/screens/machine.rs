//! One machine: what it is, what holds it up, what waits for a restart, its devices, conditions and events.

use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use serde_json::Value;

use super::super::action::Action;
use super::super::message::{Kind, ObjectRef};
use super::super::paint::Paint;
use super::super::state::{Scroll, State};
use super::super::text::{fit, pad, width, wrap};
use super::super::theme::{Cost, Glyph, Meaning};
use super::why::why;
use crate::types::kinds;
use crate::types::text::printable;

/// From this width on, conditions and events stand beside the rest.
const TWO_COLUMNS: u16 = 110;

/// A machine's screen on the stack.
#[derive(Debug)]
pub struct MachineView {
    /// Which.
    pub object: ObjectRef,
    /// Scrolling.
    pub scroll: Scroll,
}

/// Draws the screen.
pub fn draw(view: &MachineView, paint: &mut Paint<'_>, area: Rect) {
    let Some(row) = paint.state.object(&view.object) else {
        super::document::missing(&view.object, paint, area);
        return;
    };
    let object = row.object.clone();
    head(&view.object, &object, paint, area);
    let body = Rect { y: area.y + 1, height: area.height.saturating_sub(1), ..area };
    let inner = Rect { x: body.x + 1, width: body.width.saturating_sub(3), ..body };
    if area.width >= TWO_COLUMNS {
        let left = Rect { width: inner.width / 2 - 1, ..inner };
        let right = Rect { x: left.right() + 2, width: inner.width - left.width - 2, ..inner };
        let mut first = summary(&object, paint, left.width);
        first.extend(changes(&object, paint, left.width));
        first.extend(devices(&object, paint, left.width, true));
        let mut second = conditions(&object, paint, right.width);
        second.extend(events(&view.object, &object, paint, right.width));
        // Sections are set apart by an empty line; the first needs none.
        if second.first().is_some_and(|line| line.width() == 0) {
            second.remove(0);
        }
        let total = first.len().max(second.len());
        let top = view.scroll.measure(total, usize::from(body.height));
        for (lines, place) in [(first, left), (second, right)] {
            put(&lines, top, paint, place);
        }
        paint.scrollbar(body, top, total);
    } else {
        let mut lines = summary(&object, paint, inner.width);
        lines.extend(changes(&object, paint, inner.width));
        lines.extend(devices(&object, paint, inner.width, true));
        lines.extend(conditions(&object, paint, inner.width));
        lines.extend(events(&view.object, &object, paint, inner.width));
        let top = view.scroll.measure(lines.len(), usize::from(body.height));
        put(&lines, top, paint, inner);
        paint.scrollbar(body, top, lines.len());
    }
}

fn put(lines: &[Line<'static>], top: usize, paint: &mut Paint<'_>, area: Rect) {
    for (i, line) in lines.iter().skip(top).take(usize::from(area.height)).enumerate() {
        paint.line(area.x, area.y + u16::try_from(i).unwrap_or(0), area.width, line);
    }
}

/// ` default/web   ● Running   ↻ restart needed`
fn head(object: &ObjectRef, content: &Value, paint: &mut Paint<'_>, area: Rect) {
    let mut x = area.x + 1;
    let style = paint.style(Meaning::Muted);
    x += paint.text(x, area.y, area.right().saturating_sub(x), "Virtual machine", style) + 1;
    let style = paint.style(Meaning::Title);
    x += paint.text(x, area.y, area.right().saturating_sub(x), &object.path(), style) + 3;
    let phase = text(&content["status"]["phase"]);
    let look = paint.theme.phase(&phase);
    let phase = if phase.is_empty() { "no state yet".to_owned() } else { phase };
    x += paint.text(x, area.y, area.right().saturating_sub(x), &format!("{} {phase}", look.sign), look.style) + 3;
    if super::list::needs_restart(content) {
        let style = paint.style(Meaning::Restart);
        let note = format!("{} restart needed", paint.glyph(Glyph::Restart));
        paint.text(x, area.y, area.right().saturating_sub(x), &note, style);
    }
}

/// `text` in `cells` cells and a gap of two behind it.
fn gap(text: &str, cells: usize, ellipsis: &str) -> String {
    pad(text, cells, ellipsis) + "  "
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => printable(text).into_owned(),
        other => printable(&other.to_string()).into_owned(),
    }
}

/// The details beside the list.
pub fn preview(object: &Value, paint: &mut Paint<'_>, cells: u16) -> Vec<Line<'static>> {
    let name = text(&object["metadata"]["name"]);
    let phase = text(&object["status"]["phase"]);
    let look = paint.theme.phase(&phase);
    let mut lines = vec![Line::from(vec![
        Span::styled(name, paint.style(Meaning::Title)),
        Span::raw("  "),
        Span::styled(format!("{} {phase}", look.sign), look.style),
    ])];
    lines.extend(summary(object, paint, cells));
    lines.extend(changes(object, paint, cells));
    lines.extend(devices(object, paint, cells, false));
    lines
}

/// Label and value pairs, in one or two columns.
fn summary(object: &Value, paint: &mut Paint<'_>, cells: u16) -> Vec<Line<'static>> {
    let (spec, status) = (&object["spec"], &object["status"]);
    let mut facts: Vec<(&str, String)> = Vec::new();
    let or_dash = |text: String| if text.is_empty() { "-".to_owned() } else { text };
    let address = text(&status["ipAddress"]);
    let given = text(&spec["virtualMachineIPAddressName"]);
    let how = if given.is_empty() { String::new() } else { format!(" (from {given})") };
    facts.push(("Address", or_dash(address) + &how));
    facts.push(("Node", or_dash(text(&status["nodeName"]))));
    let fraction = text(&spec["cpu"]["coreFraction"]);
    let cores = text(&spec["cpu"]["cores"]);
    let cpu = match fraction.as_str() {
        "" | "100%" => format!("{cores} cores"),
        fraction => format!("{cores} cores at {fraction}"),
    };
    let cpu = if cores == "1" { cpu.replacen("cores", "core", 1) } else { cpu };
    let real = &status["resources"]["cpu"]["cores"];
    let differs = !real.is_null() && *real != spec["cpu"]["cores"];
    facts.push(("CPU", if differs { format!("{cpu} (now {})", text(real)) } else { cpu }));
    facts.push(("Class", or_dash(text(&spec["virtualMachineClassName"]))));
    let (wanted, real) = (text(&spec["memory"]["size"]), text(&status["resources"]["memory"]["size"]));
    let size = crate::types::quantity::parse_bytes;
    let differs = !real.is_empty() && size(&real) != size(&wanted);
    facts.push(("Memory", if differs { format!("{wanted} (now {real})") } else { or_dash(wanted) }));
    let policy = text(&spec["runPolicy"]);
    facts.push(("Run policy", if policy.is_empty() { "AlwaysOnUnlessStoppedManually".into() } else { policy }));
    let firmware = text(&spec["bootloader"]);
    facts.push(("Firmware", if firmware.is_empty() { "BIOS".into() } else { firmware }));
    let guest = text(&status["guestOSInfo"]["prettyName"]);
    facts.push(("Guest", if guest.is_empty() { "not reported".into() } else { guest }));
    let second = |value: &Value| value.as_str().and_then(|t| t.parse::<jiff::Timestamp>().ok()).map(|t| t.as_second());
    if let Some(started) = second(&status["stats"]["lastStartTime"]) {
        facts.push(("Up for", paint.age(started)));
    }
    if let Some(created) = second(&object["metadata"]["creationTimestamp"]) {
        facts.push(("Created", format!("{} ago", paint.age(created))));
    }
    let mut lines = vec![paint.heading("Summary", None, cells)];
    let label = paint.style(Meaning::Muted);
    let value = paint.style(Meaning::Text);
    let ellipsis = paint.glyph(Glyph::Ellipsis);
    let columns = if cells >= 74 { 2 } else { 1 };
    let half = usize::from(cells) / columns;
    for pair in facts.chunks(columns) {
        let mut spans = Vec::new();
        for (name, text) in pair {
            spans.push(Span::styled(pad(name, 12, ellipsis), label));
            spans.push(Span::styled(pad(text, half.saturating_sub(12), ellipsis), value));
        }
        lines.push(Line::from(spans));
    }
    if let Some(why) = why(object) {
        let running = status["phase"] == "Running";
        let lead = if running { "A restart would fail" } else { "Held up by" };
        let head = format!("{lead}: {} ({})", why.what, why.reason);
        let style = paint.style(Meaning::Warn);
        lines.push(Line::styled(format!("{} {head}", paint.glyph(Glyph::Warning)), style));
        for line in wrap(&why.message, usize::from(cells).saturating_sub(2)) {
            lines.push(Line::styled(format!("  {line}"), value));
        }
    }
    lines
}

/// `status.restartAwaitingChanges`, and how to apply them.
fn changes(object: &Value, paint: &mut Paint<'_>, cells: u16) -> Vec<Line<'static>> {
    let Some(waiting) = object["status"]["restartAwaitingChanges"].as_array().filter(|a| !a.is_empty()) else {
        return Vec::new();
    };
    let key = paint.state.keymap.label(Action::Restart);
    let note = Some((format!("{key} restarts now"), paint.style(Meaning::Key)));
    let title = format!("Waiting for a restart ({})", waiting.len());
    let mut lines = vec![Line::default(), paint.heading(&title, note, cells)];
    let look = paint.theme.change(Cost::Restart);
    let ellipsis = paint.glyph(Glyph::Ellipsis);
    let widest = waiting.iter().map(|c| width(&text(&c["path"]))).max().unwrap_or(0).min(usize::from(cells) / 3);
    let room = usize::from(cells).saturating_sub(widest + 9) / 2;
    for change in waiting {
        let value = |field: &str| change.get(field).map_or_else(|| "(none)".to_owned(), text);
        lines.push(Line::from(vec![
            Span::styled(format!("{} ", look.sign), look.style),
            Span::styled(gap(&text(&change["path"]), widest, ellipsis), paint.style(Meaning::Text)),
            Span::styled(fit(&value("currentValue"), room, ellipsis), paint.style(Meaning::Removed)),
            Span::styled(format!(" {} ", paint.glyph(Glyph::Arrow)), paint.style(Meaning::Muted)),
            Span::styled(fit(&value("desiredValue"), room, ellipsis), paint.style(Meaning::Added)),
        ]));
    }
    lines
}

/// Disks and images in boot order, hot-plugged ones after them; each disk with the name the guest can rely on.
fn devices(object: &Value, paint: &mut Paint<'_>, cells: u16, by_id: bool) -> Vec<Line<'static>> {
    let namespace = text(&object["metadata"]["namespace"]);
    let actual = object["status"]["blockDeviceRefs"].as_array();
    let list = actual.or_else(|| object["spec"]["blockDeviceRefs"].as_array()).cloned().unwrap_or_default();
    let mut lines = vec![Line::default(), paint.heading(&format!("Devices ({})", list.len()), None, cells)];
    let ellipsis = paint.glyph(Glyph::Ellipsis);
    let names = list.iter().map(|d| width(&text(&d["name"]))).max().unwrap_or(0);
    let names = names.clamp(4, usize::from(cells).saturating_sub(34).max(8));
    for device in &list {
        let (kind, name) = (text(&device["kind"]), text(&device["name"]));
        let short = kinds::by_kind("virtualization.deckhouse.io/v1alpha2", &kind)
            .and_then(|k| k.short_names.first())
            .map_or(kind.clone(), |s| (*s).to_owned());
        let mut spans = vec![
            Span::styled(pad(&short, 4, ellipsis), paint.style(Meaning::Muted)),
            Span::styled(gap(&name, names, ellipsis), paint.style(Meaning::Text)),
            Span::styled(pad(&text(&device["size"]), 8, ellipsis), paint.style(Meaning::Muted)),
        ];
        let stopped = matches!(object["status"]["phase"].as_str(), Some("Stopped" | "Pending") | None);
        let (glyph, word, meaning) = match (device["attached"].as_bool(), device["hotplugged"] == true) {
            (Some(false) | None, _) if stopped => (Glyph::Unknown, "at start", Meaning::Muted),
            (Some(true), false) => (Glyph::Check, "attached", Meaning::Good),
            (Some(true), true) => (Glyph::Check, "hot-plugged", Meaning::Good),
            (Some(false), _) => (Glyph::Busy, "not attached", Meaning::Busy),
            (None, _) => (Glyph::Unknown, "at start", Meaning::Muted),
        };
        spans.push(Span::styled(format!("{} {word}", paint.glyph(glyph)), paint.style(meaning)));
        let target = text(&device["target"]);
        if !target.is_empty() {
            spans.push(Span::styled(format!("  {target}"), paint.style(Meaning::Muted)));
        }
        lines.push(Line::from(spans));
        if by_id
            && kind == "VirtualDisk"
            && let Some(serial) = serial(paint.state, &namespace, &name)
        {
            let path = format!("    by-id/scsi-0QEMU_QEMU_HARDDISK_{serial}");
            lines.push(Line::styled(fit(&path, usize::from(cells), ellipsis), paint.style(Meaning::Faint)));
        }
    }
    lines
}

/// A disk's serial inside the guest: the md5 of the object's uid.
fn serial(state: &State, namespace: &str, name: &str) -> Option<String> {
    use md5::{Digest, Md5};
    let kind = Kind(kinds::find("vd")?);
    let row = state.covering(kind, namespace)?.table.find(namespace, name)?;
    let uid = row.object["metadata"]["uid"].as_str()?;
    Some(Md5::digest(uid.as_bytes()).iter().map(|b| format!("{b:02x}")).collect())
}

/// All conditions, failing ones first.
pub fn conditions(object: &Value, paint: &mut Paint<'_>, cells: u16) -> Vec<Line<'static>> {
    let mut list: Vec<&Value> = object["status"]["conditions"].as_array().into_iter().flatten().collect();
    if list.is_empty() {
        return Vec::new();
    }
    let bad_when_true = |c: &Value| {
        matches!(
            c["type"].as_str().unwrap_or_default(),
            "AwaitingRestartToApplyConfiguration" | "EvictionRequired" | "Maintenance" | "AgentVersionNotSupported"
        )
    };
    let only_news =
        |c: &Value| matches!(c["type"].as_str().unwrap_or_default(), "Migratable" | "AgentReady" | "FirmwareUpToDate");
    list.sort_by_key(|c| match (c["status"].as_str(), bad_when_true(c)) {
        (Some("False"), false) if only_news(c) => 1,
        (Some("False"), false) | (Some("True"), true) => 0,
        (Some("True" | "False"), _) => 2,
        _ => 1,
    });
    let mut lines = vec![Line::default(), paint.heading("Conditions", None, cells)];
    let ellipsis = paint.glyph(Glyph::Ellipsis);
    let names = list.iter().map(|c| width(&text(&c["type"]))).max().unwrap_or(0).min(usize::from(cells) / 2);
    for condition in list {
        let status = text(&condition["status"]);
        let mut look = paint.theme.condition(&status);
        if only_news(condition) && status == "False" {
            look.sign = paint.glyph(Glyph::Stopped);
            look.style = paint.style(Meaning::Muted);
        }
        if bad_when_true(condition) && status == "True" {
            look.sign = paint.glyph(Glyph::Warning);
            look.style = paint.style(Meaning::Warn);
        }
        let kind = text(&condition["type"]);
        // Most conditions that hold give their own name as the reason: nothing to read twice.
        let reason = text(&condition["reason"]);
        let reason = if status == "True" && reason == kind { String::new() } else { reason };
        let room = usize::from(cells).saturating_sub(names + 4);
        lines.push(Line::from(vec![
            Span::styled(format!("{} ", look.sign), look.style),
            Span::styled(gap(&kind, names, ellipsis), paint.style(Meaning::Text)),
            Span::styled(fit(&reason, room, ellipsis), paint.style(Meaning::Muted)),
        ]));
        let message = text(&condition["message"]);
        if !message.is_empty() && status != "True" || bad_when_true(condition) && !message.is_empty() {
            for line in wrap(&message, usize::from(cells).saturating_sub(4)) {
                lines.push(Line::styled(format!("    {line}"), paint.style(Meaning::Muted)));
            }
        }
    }
    lines
}

/// Events about the object, newest first.
pub fn events(object: &ObjectRef, content: &Value, paint: &mut Paint<'_>, cells: u16) -> Vec<Line<'static>> {
    const SHOWN: usize = 50;
    let mut lines = vec![Line::default(), paint.heading("Events", None, cells)];
    let place = if object.namespace.is_empty() { "default" } else { &object.namespace };
    let feed = kinds::find("event").and_then(|kind| paint.state.covering(Kind(kind), place));
    let uid = &content["metadata"]["uid"];
    let about = |event: &Value| {
        let involved = &event["involvedObject"];
        if uid.is_string() && involved["uid"].is_string() {
            involved["uid"] == *uid
        } else {
            involved["kind"] == object.kind.0.kind && involved["name"] == object.name.as_str()
        }
    };
    let mut events: Vec<std::sync::Arc<Value>> = feed
        .map(|f| f.table.rows().iter().filter(|r| about(&r.object)).map(|r| r.object.clone()).collect())
        .unwrap_or_default();
    events.sort_by(|a, b| crate::client::event_time(b).cmp(crate::client::event_time(a)));
    if events.is_empty() {
        lines.push(Line::styled("none", paint.style(Meaning::Muted)));
    }
    let ellipsis = paint.glyph(Glyph::Ellipsis);
    let reasons = events.iter().take(SHOWN).map(|e| width(&text(&e["reason"])) + 3).max().unwrap_or(0).min(34);
    for event in events.iter().take(SHOWN) {
        let when = crate::client::event_time(event).parse::<jiff::Timestamp>().ok().map(|t| t.as_second());
        let when = when.map(|second| paint.age(second)).unwrap_or_default();
        let warning = event["type"] == "Warning";
        let reason = text(&event["reason"]);
        let count = event["count"].as_u64().filter(|n| *n > 1).map(|n| format!(" x{n}")).unwrap_or_default();
        let (glyph, meaning) = if warning { (Glyph::Warning, Meaning::Warn) } else { (Glyph::Dot, Meaning::Muted) };
        let head = format!("{reason}{count}");
        let message = text(&event["message"]);
        let style = paint.style(if warning { Meaning::Warn } else { Meaning::Text });
        let mut spans = vec![
            Span::styled(format!("{} ", paint.glyph(glyph)), paint.style(meaning)),
            Span::styled(pad(&when, 8, ellipsis), paint.style(Meaning::Muted)),
            Span::styled(pad(&head, reasons, ellipsis), style),
        ];
        // Beside the reason where there is room for a sentence, below it otherwise.
        let indent = if usize::from(cells) >= reasons + 54 { reasons + 12 } else { 10 };
        let mut wrapped = wrap(&message, usize::from(cells).saturating_sub(indent)).into_iter();
        if indent > 10 {
            spans.push(Span::styled(format!("  {}", wrapped.next().unwrap_or_default()), paint.style(Meaning::Muted)));
        }
        lines.push(Line::from(spans));
        for line in wrapped.filter(|l| !l.is_empty()) {
            lines.push(Line::styled(format!("{}{line}", " ".repeat(indent)), paint.style(Meaning::Muted)));
        }
    }
    lines
}
