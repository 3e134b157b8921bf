//! The list of a kind: the server's columns, live.

use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};

use super::super::message::Kind;
use super::super::paint::Paint;
use super::super::state::{Feed, FeedLink, Link};
use super::super::table::{FLASH_MS, Row};
use super::super::text::{fit, pad, pad_left, thousands, width};
use super::super::theme::{Glyph, Meaning};
use super::columns::{GAP, Look, Planned, Source, plan};
use super::{kind_title, machine};

/// Narrowest terminal that shows details beside the list.
const PREVIEW_FROM: u16 = 120;

/// Narrowest useful details.
const PREVIEW_MIN: u16 = 42;

/// A list on the stack. Its rows, cursor and filter belong to the feed.
#[derive(Debug, Clone)]
pub struct ListView {
    /// What it lists.
    pub kind: Kind,
}

/// Draws the list.
pub fn draw(list: &ListView, paint: &mut Paint<'_>, area: Rect) {
    let namespace = paint.state.namespace.clone();
    let Some(feed) = paint.state.feed(list.kind, namespace.as_deref()) else {
        title_line(list, None, paint, area);
        waiting(paint, below(area, 1));
        return;
    };
    title_line(list, Some(feed), paint, area);
    let area = below(area, 1);
    let all = namespace.is_none() && list.kind.0.namespaced();
    let mut rows = area;
    let mut details = None;
    if paint.state.preview && area.width >= PREVIEW_FROM && feed.table.current().is_some() && previewable(list) {
        let wanted: u16 =
            plan(&feed.table, feed.wide, all, restart_shown(feed, usize::from(area.height)), area.width - 2)
                .iter()
                .map(|p| p.width + GAP)
                .sum::<u16>()
                .max(50);
        let room = area.width.saturating_sub(wanted + 4);
        if room >= PREVIEW_MIN {
            rows.width = area.width - room.min(area.width * 3 / 5) - 1;
            details = Some(Rect { x: rows.right() + 1, width: area.right() - rows.right() - 1, ..area });
        }
    }
    match &feed.link {
        FeedLink::Loading { .. } if feed.table.total() == 0 => loading(paint, rows),
        FeedLink::Stale { error, .. } if feed.table.total() == 0 => {
            message(paint, rows, Meaning::Bad, "No data", error);
        }
        _ if feed.table.shown() == 0 => empty(list, feed, paint, rows),
        _ => table(feed, all, paint, rows),
    }
    if let (Some(details), Some(row)) = (details, feed.table.current()) {
        for y in details.y..details.bottom() {
            let (glyph, style) = (paint.glyph(Glyph::Vertical), paint.style(Meaning::Border));
            paint.text(details.x - 1, y, 1, glyph, style);
        }
        let inner = Rect { x: details.x + 1, width: details.width.saturating_sub(2), ..details };
        let object = row.object.clone();
        let lines = machine::preview(&object, paint, inner.width);
        for (i, line) in lines.iter().take(usize::from(inner.height)).enumerate() {
            paint.line(inner.x, inner.y + u16::try_from(i).unwrap_or(0), inner.width, line);
        }
    }
}

fn previewable(list: &ListView) -> bool {
    list.kind.0.kind == "VirtualMachine"
}

fn below(area: Rect, lines: u16) -> Rect {
    let lines = lines.min(area.height);
    Rect { y: area.y + lines, height: area.height - lines, ..area }
}

/// `Virtual machines  default   37 of 1,204   /web   sorted by Age ↑   2 marked`
fn title_line(list: &ListView, feed: Option<&Feed>, paint: &mut Paint<'_>, area: Rect) {
    // In line with the first column, which leaves room for cursor and mark.
    let mut x = area.x + 2;
    let right = area.right();
    let mut put = |paint: &mut Paint<'_>, text: &str, style: Style| {
        let used = paint.text(x, area.y, right.saturating_sub(x), text, style);
        x += used + 2;
    };
    let (title, muted, accent) =
        (paint.style(Meaning::Title), paint.style(Meaning::Muted), paint.style(Meaning::Accent));
    put(paint, &kind_title(list.kind.0), title);
    if list.kind.0.namespaced() {
        let text = paint.state.namespace.clone().map_or_else(|| "all namespaces".into(), |n| printable(&n));
        put(paint, &text, accent);
    }
    let Some(feed) = feed else { return };
    let table = &feed.table;
    if !feed.filter_text.is_empty() {
        let counts = format!("{} of {}", thousands(table.shown()), thousands(table.total()));
        put(paint, &counts, muted);
        let filter = format!("/{}", printable(&feed.filter_text));
        let style = paint.style(Meaning::Match);
        put(paint, &filter, style);
    } else if !matches!(feed.link, FeedLink::Loading { .. }) {
        put(paint, &thousands(table.total()), muted);
    }
    if table.marked() > 0 {
        let hidden = table.marked_rows().iter().filter(|(_, hidden)| *hidden).count();
        let note = if hidden > 0 { format!(" ({hidden} hidden)") } else { String::new() };
        let text = format!("{} {} marked{note}", paint.glyph(Glyph::Mark), table.marked());
        let style = paint.style(Meaning::Marked);
        put(paint, &text, style);
    }
    if table.sort().column != 0 || table.sort().descending {
        let name = table.columns().get(table.sort().column).map(|c| c.name.clone()).unwrap_or_default();
        let arrow = if table.sort().descending { Glyph::SortDown } else { Glyph::SortUp };
        let text = format!("by {name} {}", paint.glyph(arrow));
        put(paint, &text, muted);
    }
    if feed.wide {
        put(paint, "wide", muted);
    }
}

fn printable(text: &str) -> String {
    crate::types::text::printable(text).into_owned()
}

/// There is no session yet, or none could be had.
fn waiting(paint: &mut Paint<'_>, area: Rect) {
    match paint.state.link.clone() {
        Link::Connecting { what, since } => {
            let text = connecting(paint, &what, since);
            let style = paint.style(Meaning::Muted);
            paint.text(area.x + 1, area.y + 1, area.width.saturating_sub(2), &text, style);
        }
        Link::Failed(failure) => {
            let hint = failure.hint.clone().unwrap_or_default();
            let keys = &paint.state.keymap;
            let text = format!(
                "{}\n{hint}\n\n{} tries again, {} chooses another cluster or host",
                failure.text,
                keys.label(super::super::action::Action::Reconnect),
                keys.label(super::super::action::Action::Contexts)
            );
            message(paint, area, Meaning::Bad, "No connection", &text);
        }
        Link::Connected(_) => loading(paint, area),
    }
}

/// "Connecting to …", with the time it takes once that is noticeable.
pub fn connecting(paint: &mut Paint<'_>, what: &str, since: i64) -> String {
    let elapsed = (paint.state.now - since) / 1000;
    paint.wake_at(since + (elapsed + 1) * 1000);
    let time = if elapsed >= 2 { format!(" {elapsed} s") } else { String::new() };
    format!("connecting to {what}{}{time}", paint.glyph(Glyph::Ellipsis))
}

fn loading(paint: &mut Paint<'_>, area: Rect) {
    let text = format!("loading{}", paint.glyph(Glyph::Ellipsis));
    let style = paint.style(Meaning::Muted);
    paint.text(area.x + 1, area.y + 1, area.width.saturating_sub(2), &text, style);
}

fn message(paint: &mut Paint<'_>, area: Rect, meaning: Meaning, title: &str, text: &str) {
    let style = paint.style(meaning);
    let cells = area.width.saturating_sub(2);
    let title = format!("{} {title}", paint.glyph(Glyph::Failed));
    paint.text(area.x + 1, area.y + 1, cells, &title, style);
    let body = paint.style(Meaning::Text);
    let lines = super::super::text::wrap(text, usize::from(cells));
    for (i, line) in lines.iter().take(usize::from(area.height.saturating_sub(3))).enumerate() {
        paint.text(area.x + 1, area.y + 3 + u16::try_from(i).unwrap_or(0), cells, line, body);
    }
}

/// Nothing to show: say why and what one can do.
fn empty(list: &ListView, feed: &Feed, paint: &mut Paint<'_>, area: Rect) {
    use super::super::action::Action;
    let title = kind_title(list.kind.0);
    let keymap = &paint.state.keymap;
    let mut lines = Vec::new();
    if feed.table.total() > 0 {
        lines.push(format!("None of {} matches the filter.", thousands(feed.table.total())));
        lines.push(format!("{} clears it, {} changes it.", keymap.label(Action::Back), keymap.label(Action::Filter)));
    } else {
        let place = match (&paint.state.namespace, list.kind.0.namespaced()) {
            (Some(namespace), true) => format!(" in namespace {}", printable(namespace)),
            _ => String::new(),
        };
        lines.push(format!("No {}{place}.", lower_first(&title)));
        let mut hints = Vec::new();
        if super::creatable(list.kind) {
            hints.push(format!("{} creates one", keymap.label(Action::Create)));
            hints.push(format!("{} applies a manifest file", keymap.label(Action::Apply)));
        }
        if list.kind.0.namespaced() && paint.state.namespace.is_some() {
            hints.push(format!("{} shows all namespaces", keymap.label(Action::AllNamespaces)));
        }
        if !hints.is_empty() {
            lines.push(format!("{}.", hints.join(", ")));
        }
    }
    for (i, line) in lines.iter().enumerate() {
        let style = paint.style(if i == 0 { Meaning::Text } else { Meaning::Muted });
        let y = area.y + 1 + u16::try_from(i).unwrap_or(0);
        paint.text(area.x + 1, y, area.width.saturating_sub(2), line, style);
    }
}

fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|c| c.to_lowercase().collect::<String>() + chars.as_str()).unwrap_or_default()
}

fn table(feed: &Feed, all: bool, paint: &mut Paint<'_>, area: Rect) {
    let table = &feed.table;
    // One cell on the left for the mark, one on the right for the scroll thumb.
    let restart = restart_shown(feed, usize::from(area.height));
    let columns = plan(table, feed.wide, all, restart, area.width.saturating_sub(3));
    let mut x = area.x + 2;
    let sorted = table.sort();
    for column in &columns {
        let mut title = column.title.to_uppercase();
        if column.source == Source::Cell(sorted.column) && (sorted.column != 0 || sorted.descending) {
            let arrow = paint.glyph(if sorted.descending { Glyph::SortDown } else { Glyph::SortUp });
            title = format!("{}{arrow}", fit(&title, usize::from(column.width).saturating_sub(1), ""));
        }
        let ellipsis = paint.glyph(Glyph::Ellipsis);
        let text = match column.look {
            Look::Number => pad_left(&title, usize::from(column.width), ellipsis),
            _ => title,
        };
        let style = paint.style(Meaning::Column);
        paint.text(x, area.y, column.width, &text, style);
        x += column.width + GAP;
    }
    let body = below(area, 1);
    let height = usize::from(body.height);
    let top = table.scroll(height);
    let restart_column = columns.iter().any(|c| c.look == Look::Alarm);
    for line in 0..height {
        let Some(row) = table.at(top + line) else { break };
        let y = body.y + u16::try_from(line).unwrap_or(0);
        let selected = top + line == table.cursor();
        draw_row(feed, row, &columns, restart_column, selected, paint, Rect { y, height: 1, ..body });
    }
    paint.scrollbar(body, top, table.shown());
}

fn draw_row(
    feed: &Feed,
    row: &Row,
    columns: &[Planned],
    restart_column: bool,
    selected: bool,
    paint: &mut Paint<'_>,
    area: Rect,
) {
    let mut base = Style::default();
    if let Some(changed) = row.changed
        && paint.state.now < changed + FLASH_MS
    {
        paint.wake_at(changed + FLASH_MS);
        base = base.patch(paint.style(Meaning::Flash));
    }
    if selected {
        base = base.patch(paint.style(Meaning::Selection));
    }
    if base != Style::default() {
        paint.fill(Rect { width: area.width.saturating_sub(1), ..area }, base);
    }
    let marked = feed.table.is_marked(&row.key);
    if marked {
        let (glyph, style) = (paint.glyph(Glyph::Mark), base.patch(paint.style(Meaning::Marked)));
        paint.text(area.x, area.y, 1, glyph, style);
    } else if selected {
        let (glyph, style) = (paint.glyph(Glyph::Cursor), base.patch(paint.style(Meaning::Accent)));
        paint.text(area.x, area.y, 1, glyph, style);
    }
    let mut x = area.x + 2;
    for column in columns {
        cell(feed, row, column, restart_column, (base, selected, marked), paint, x, area.y);
        x += column.width + GAP;
    }
}

#[expect(clippy::too_many_arguments, reason = "one cell of one row of one table")]
fn cell(
    feed: &Feed,
    row: &Row,
    column: &Planned,
    restart_column: bool,
    (base, selected, marked): (Style, bool, bool),
    paint: &mut Paint<'_>,
    x: u16,
    y: u16,
) {
    let ellipsis = paint.glyph(Glyph::Ellipsis);
    let Source::Cell(index) = column.source else {
        let style = base.patch(if selected { Style::default() } else { paint.style(Meaning::Muted) });
        paint.text(x, y, column.width, &row.namespace, style);
        return;
    };
    let text = row.cells.get(index).map(String::as_str).unwrap_or_default();
    let over = |style: Style| {
        // On the selected row colours would fight with the bar; sign and word still tell.
        if selected { base.add_modifier(style.add_modifier & Modifier::UNDERLINED) } else { base.patch(style) }
    };
    match column.look {
        Look::Name => {
            let style = over(paint.style(if marked { Meaning::Marked } else { Meaning::Text }));
            let style = if selected || marked { style } else { Style { bg: base.bg, ..style } };
            paint.text(x, y, column.width, text, style);
        }
        Look::Phase => {
            let look = paint.theme.phase(text);
            let shown = if text.is_empty() { String::new() } else { format!("{} {text}", look.sign) };
            let style = over(look.style);
            let used = paint.text(x, y, column.width, &shown, style);
            if !restart_column && needs_restart(&row.object) && used + 2 <= column.width {
                let style = over(paint.style(Meaning::Restart));
                let sign = paint.glyph(Glyph::Restart);
                let note = if used + 10 <= column.width { format!("{sign} restart") } else { sign.to_owned() };
                paint.text(x + used + 1, y, column.width - used - 1, &note, style);
            }
        }
        Look::Alarm => {
            let (shown, style) = match text {
                "True" => (format!("{} True", paint.glyph(Glyph::Restart)), over(paint.style(Meaning::Restart))),
                other => (other.to_owned(), over(paint.style(Meaning::Muted))),
            };
            paint.text(x, y, column.width, &shown, style);
        }
        Look::Flag => {
            let meaning = if text.eq_ignore_ascii_case("true") { Meaning::Text } else { Meaning::Muted };
            let style = over(Style { bg: base.bg, ..paint.style(meaning) });
            paint.text(x, y, column.width, text, style);
        }
        Look::Age => {
            let shown = match row.dates.get(index).copied().flatten() {
                Some(second) => paint.age(second),
                None => text.to_owned(),
            };
            let style = over(paint.style(Meaning::Muted));
            paint.text(x, y, column.width, &shown, style);
        }
        Look::Number => {
            let shown = pad_left(text, usize::from(column.width), ellipsis);
            let style = over(Style { bg: base.bg, ..paint.style(Meaning::Text) });
            paint.text(x, y, column.width, &shown, style);
        }
        Look::Progress => {
            let style = over(paint.style(if text == "100%" { Meaning::Muted } else { Meaning::Busy }));
            paint.text(x, y, column.width, text, style);
        }
        Look::Plain => {
            let style = over(Style { bg: base.bg, ..paint.style(Meaning::Text) });
            let shown = pad(text, usize::from(column.width).min(width(text).max(1)), ellipsis);
            let used = paint.text(x, y, column.width, &shown, style);
            if let Some(found) = feed.table.filter().highlight(text)
                && !selected
                && width(&text[..found.end]) <= usize::from(used)
            {
                let at = x + u16::try_from(width(&text[..found.start])).unwrap_or(0);
                let style = over(paint.style(Meaning::Match));
                let cells = u16::try_from(width(&text[found.clone()])).unwrap_or(0);
                paint.text(at, y, cells, &text[found], style);
            }
        }
    }
    if column.look == Look::Name
        && !selected
        && let Some(found) = feed.table.filter().highlight(text)
        && width(&text[..found.end]) <= usize::from(column.width)
    {
        let at = x + u16::try_from(width(&text[..found.start])).unwrap_or(0);
        let style = base.patch(paint.style(Meaning::Match));
        let cells = u16::try_from(width(&text[found.clone()])).unwrap_or(0);
        paint.text(at, y, cells, &text[found], style);
    }
}

/// Whether a row near the cursor waits for a restart: then the phase column makes room for the word.
fn restart_shown(feed: &Feed, height: usize) -> bool {
    if feed.kind.0.kind != "VirtualMachine" {
        return false;
    }
    let from = feed.table.cursor().saturating_sub(height);
    (from..from + 2 * height).map_while(|i| feed.table.at(i)).any(|row| needs_restart(&row.object))
}

/// Whether saved changes of a machine wait for a restart.
pub fn needs_restart(object: &serde_json::Value) -> bool {
    object["status"]["conditions"]
        .as_array()
        .into_iter()
        .flatten()
        .any(|c| c["type"] == "AwaitingRestartToApplyConfiguration" && c["status"] == "True")
}
