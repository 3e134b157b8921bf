//! Short lists that are not of the API: errors, tasks, contexts.

use ratatui::layout::Rect;
use ratatui::style::Style;

use super::super::action::Action;
use super::super::paint::Paint;
use super::super::state::{ErrorEntry, Task, TaskState};
use super::super::text::{pad, wrap};
use super::super::theme::{Glyph, Meaning};
use super::Entries;
use crate::client::Engine;
use crate::types::text::printable;

/// Errors, newest first, each with the server's own words.
pub fn errors(entries: &Entries, paint: &mut Paint<'_>, area: Rect) {
    let state = paint.state;
    heading(paint, area, "Errors", state.errors.len());
    let body = body(area);
    if state.errors.is_empty() {
        nothing(paint, body, "No errors.");
        return;
    }
    let cells = usize::from(body.width.saturating_sub(6));
    // Every entry as its lines, so that the one under the cursor can be brought into sight as a whole.
    let mut lines: Vec<(bool, String, Style)> = Vec::new();
    let mut start = 0;
    for (i, entry) in state.errors.iter().rev().enumerate() {
        let selected = i == entries.cursor;
        if selected {
            start = lines.len();
        }
        lines.extend(error_lines(entry, cells, selected, paint));
        if selected {
            entries.scroll.measure(usize::MAX / 2, usize::from(body.height));
            entries.scroll.reveal(lines.len().saturating_sub(1));
            entries.scroll.reveal(start);
        }
    }
    let top = entries.scroll.measure(lines.len(), usize::from(body.height));
    for (i, (selected, text, style)) in lines.iter().skip(top).take(usize::from(body.height)).enumerate() {
        let y = body.y + u16::try_from(i).unwrap_or(0);
        if *selected {
            let (glyph, accent) = (paint.glyph(Glyph::Cursor), paint.style(Meaning::Accent));
            paint.text(body.x, y, 1, glyph, accent);
        }
        paint.text(body.x + 2, y, body.width.saturating_sub(3), text, *style);
    }
    paint.scrollbar(body, top, lines.len());
}

fn error_lines(entry: &ErrorEntry, cells: usize, selected: bool, paint: &mut Paint<'_>) -> Vec<(bool, String, Style)> {
    let (bad, text, muted) = (paint.style(Meaning::Bad), paint.style(Meaning::Text), paint.style(Meaning::Muted));
    let age = paint.age(entry.at.div_euclid(1000));
    let head = format!("{} {}  {age} ago", paint.glyph(Glyph::Failed), entry.title);
    let mut lines = vec![(selected, head, bad)];
    for line in wrap(&entry.failure.text, cells) {
        lines.push((selected, format!("  {line}"), text));
    }
    for line in entry.failure.hint.iter().flat_map(|hint| wrap(hint, cells)) {
        lines.push((selected, format!("  {line}"), muted));
    }
    lines.push((false, String::new(), text));
    lines
}

/// Tasks, newest first.
pub fn tasks(entries: &Entries, paint: &mut Paint<'_>, area: Rect) {
    let state = paint.state;
    heading(paint, area, "Tasks", state.tasks.len());
    let body = body(area);
    if state.tasks.is_empty() {
        nothing(paint, body, "Nothing was started yet.");
        return;
    }
    let top = entries.scroll.measure(state.tasks.len(), usize::from(body.height));
    entries.scroll.reveal(entries.cursor);
    let top = if top == 0 { entries.scroll.measure(state.tasks.len(), usize::from(body.height)) } else { top };
    for (i, task) in state.tasks.iter().rev().enumerate().skip(top).take(usize::from(body.height)) {
        let y = body.y + u16::try_from(i - top).unwrap_or(0);
        let selected = i == entries.cursor;
        let (sign, note, style) = task_line(task, paint);
        let row = Rect { y, height: 1, ..body };
        let base = select(paint, row, selected);
        let x = body.x + 2;
        let used = paint.text(x, y, 2, sign, base.patch(style)) + 1;
        let title = pad(&task.title, 34.min(usize::from(body.width) / 2), paint.glyph(Glyph::Ellipsis));
        let used = used + paint.text(x + used, y, body.width, &title, base) + 2;
        paint.text(
            x + used,
            y,
            body.width.saturating_sub(used + 3),
            &note,
            base.patch(if selected { Style::default() } else { style }),
        );
    }
    paint.scrollbar(body, top, state.tasks.len());
}

/// Sign, words and style of how a task is going.
pub fn task_line(task: &Task, paint: &mut Paint<'_>) -> (&'static str, String, Style) {
    match &task.state {
        TaskState::Running { note, fraction } => {
            let elapsed = paint.state.now - task.started;
            let seconds = elapsed / 1000;
            paint.wake_at(task.started + (seconds + 1) * 1000);
            let time = if elapsed >= 2_000 { format!("  {seconds} s") } else { String::new() };
            let percent = fraction.map(|f| format!("{} {:.0}%  ", bar(f, paint), f * 100.0)).unwrap_or_default();
            (paint.glyph(Glyph::Busy), format!("{percent}{note}{time}"), paint.style(Meaning::Busy))
        }
        TaskState::Done { at, text } => {
            let took = (at - task.started).max(0);
            let text = format!("{text}  ({}.{} s)", took / 1000, took % 1000 / 100);
            (paint.glyph(Glyph::Check), text, paint.style(Meaning::Good))
        }
        TaskState::Failed { failure, .. } => {
            let first = failure.text.lines().next().unwrap_or_default().to_owned();
            (paint.glyph(Glyph::Failed), first, paint.style(Meaning::Bad))
        }
    }
}

/// A progress bar of ten cells.
pub fn bar(fraction: f64, paint: &Paint<'_>) -> String {
    const CELLS: usize = 10;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to 0..=10")]
    let full = (fraction.clamp(0.0, 1.0) * 10.0).round() as usize;
    paint.glyph(Glyph::BarFull).repeat(full) + &paint.glyph(Glyph::BarEmpty).repeat(CELLS - full)
}

/// Contexts of the kubeconfig, and this computer.
pub fn contexts(entries: &Entries, paint: &mut Paint<'_>, area: Rect) {
    let state = paint.state;
    let rows = context_rows(state);
    heading(paint, area, "Contexts", rows.len());
    let body = body(area);
    for (i, row) in rows.iter().enumerate().take(usize::from(body.height)) {
        let y = body.y + u16::try_from(i).unwrap_or(0);
        let selected = i == entries.cursor;
        let base = select(paint, Rect { y, height: 1, ..body }, selected);
        let sign = if row.active { paint.glyph(Glyph::Running) } else { " " };
        let good = base.patch(paint.style(Meaning::Good));
        let x = body.x + 2;
        paint.text(x, y, 1, sign, good);
        let name = pad(&row.name, 30.min(usize::from(body.width) / 2), paint.glyph(Glyph::Ellipsis));
        let used = paint.text(x + 2, y, body.width.saturating_sub(4), &name, base);
        let style = if selected { base } else { paint.style(Meaning::Muted) };
        paint.text(x + 4 + used, y, body.width.saturating_sub(used + 7), &row.detail, style);
    }
    if let Some(Err(failure)) = &state.contexts {
        let style = paint.style(Meaning::Bad);
        let y = body.y + u16::try_from(rows.len() + 1).unwrap_or(1);
        for (i, line) in wrap(&failure.text, usize::from(body.width.saturating_sub(4))).iter().enumerate() {
            paint.text(body.x + 2, y + u16::try_from(i).unwrap_or(0), body.width.saturating_sub(4), line, style);
        }
    }
}

/// A place one can connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContextRow {
    /// Context, or `local`.
    pub name: String,
    /// Printable words beside it.
    pub detail: String,
    /// Whether it is the engine in use.
    pub active: bool,
    /// Whether it is this computer rather than a context.
    pub local: bool,
}

/// The rows of the contexts view.
pub fn context_rows(state: &super::super::state::State) -> Vec<ContextRow> {
    use super::super::state::Link;
    let engine = match &state.link {
        Link::Connected(info) => Some(&info.engine),
        _ => None,
    };
    let mut rows = vec![ContextRow {
        name: "local".into(),
        detail: "this computer: the standalone host".into(),
        active: matches!(engine, Some(Engine::Local { .. })),
        local: true,
    }];
    for context in state.contexts.iter().flatten().flatten() {
        let current = if context.current { "  (current in kubeconfig)" } else { "" };
        let server = context.server.clone().unwrap_or_else(|| "no server".into());
        rows.push(ContextRow {
            name: printable(&context.name).into_owned(),
            detail: format!("{}  namespace {}{current}", printable(&server), printable(&context.namespace)),
            active: matches!(engine, Some(Engine::Cluster { context: c }) if *c == context.name),
            local: false,
        });
    }
    rows
}

fn heading(paint: &mut Paint<'_>, area: Rect, title: &str, n: usize) {
    let (style, muted) = (paint.style(Meaning::Title), paint.style(Meaning::Muted));
    let used = paint.text(area.x + 1, area.y, area.width, title, style);
    paint.text(area.x + used + 3, area.y, area.width.saturating_sub(used + 3), &n.to_string(), muted);
}

fn body(area: Rect) -> Rect {
    Rect { y: area.y + 2.min(area.height), height: area.height.saturating_sub(2), ..area }
}

fn nothing(paint: &mut Paint<'_>, area: Rect, text: &str) {
    let key = paint.state.keymap.label(Action::Back);
    let style = paint.style(Meaning::Muted);
    let text = format!("{text} {key} goes back.");
    paint.text(area.x + 1, area.y, area.width.saturating_sub(2), &text, style);
}

/// The bar of the row under the cursor; answers the style to draw on.
fn select(paint: &mut Paint<'_>, row: Rect, selected: bool) -> Style {
    if !selected {
        return Style::default();
    }
    let style = paint.style(Meaning::Selection);
    paint.fill(Rect { width: row.width.saturating_sub(1), ..row }, style);
    let (glyph, accent) = (paint.glyph(Glyph::Cursor), style.patch(paint.style(Meaning::Accent)));
    paint.text(row.x, row.y, 1, glyph, accent);
    style
}
