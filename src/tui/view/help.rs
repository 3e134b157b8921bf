//! The help, drawn from the live keymap.

use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::super::action::{ACTIONS, Possible, Scope};
use super::super::console::PANE_KEYS;
use super::super::overlay::Help;
use super::super::paint::{Paint, centered};
use super::super::state::Front;
use super::super::text::{pad, width};
use super::super::theme::{Glyph, Meaning};

/// Draws the help box.
pub fn draw(help: &Help, paint: &mut Paint<'_>, whole: Rect) {
    let area = centered(whole, (whole.width - 4).min(96), whole.height);
    let inner = paint.popup(area, "Keys");
    let lines = lines(help, paint, inner.width);
    let body = Rect { height: inner.height.saturating_sub(1), ..inner };
    let top = help.scroll.measure(lines.len(), usize::from(body.height));
    for (i, line) in lines.iter().skip(top).take(usize::from(body.height)).enumerate() {
        paint.line(body.x, body.y + u16::try_from(i).unwrap_or(0), body.width, line);
    }
    paint.scrollbar(Rect { width: area.width - 1, y: body.y, height: body.height, ..area }, top, lines.len());
    let y = inner.bottom().saturating_sub(1);
    let (key, hint) = (paint.style(Meaning::Key), paint.style(Meaning::Hint));
    if help.searching || !help.search.is_empty() {
        paint.text(inner.x, y, 1, "/", key);
        let field = Rect { x: inner.x + 1, y, width: inner.width - 1, height: 1 };
        let style = paint.style(Meaning::Input);
        let cursor = help.search.view(field, paint.buffer, style);
        if help.searching {
            paint.cursor = Some(cursor);
        }
    } else {
        paint.text(inner.x, y, inner.width, "/ searches, esc closes", hint);
    }
}

fn lines(help: &Help, paint: &Paint<'_>, cells: u16) -> Vec<Line<'static>> {
    let state = paint.state;
    let wanted = help.search.text().to_lowercase();
    let hit = |texts: &[&str]| wanted.is_empty() || texts.iter().any(|t| t.to_lowercase().contains(&wanted));
    let mut out: Vec<Line<'static>> = Vec::new();
    let (key, text, off) = (paint.style(Meaning::Key), paint.style(Meaning::Input), paint.style(Meaning::Disabled));
    let ellipsis = paint.glyph(Glyph::Ellipsis);
    let mut section = |title: &str, rows: Vec<Line<'static>>| {
        if !rows.is_empty() {
            if !out.is_empty() {
                out.push(Line::default());
            }
            out.push(Line::styled(title.to_owned(), paint.style(Meaning::Title)));
            out.extend(rows);
        }
    };
    if state.front == Front::Consoles {
        let leave = state.config.console_leave.to_string();
        let mut rows = vec![Line::from(vec![
            Span::styled(pad(&leave, 14, ellipsis), key),
            Span::styled("from the guest to the pane; again to leave the consoles", text),
        ])];
        rows.extend(
            PANE_KEYS
                .iter()
                .filter(|k| hit(&[k.keys, k.help]))
                .map(|k| Line::from(vec![Span::styled(pad(k.keys, 14, ellipsis), key), Span::styled(k.help, text)])),
        );
        section("Console", rows);
    }
    for scope in [Scope::Machine, Scope::Object, Scope::List, Scope::Text, Scope::Global, Scope::Motion] {
        let rows: Vec<Line<'static>> = ACTIONS
            .iter()
            .filter(|row| row.scope == scope && hit(&[row.name, row.doc, row.label]))
            .filter_map(|row| {
                let possible = state.possible(row.action);
                // Without a search only what can happen here is listed.
                if wanted.is_empty() && possible == Possible::Absent {
                    return None;
                }
                let keys: Vec<String> = state.keymap.keys(row.action).iter().map(ToString::to_string).collect();
                let keys = if keys.is_empty() { format!(":{}", row.name) } else { keys.join(" ") };
                let (style, doc) = match possible {
                    Possible::No(reason) => (off, format!("{} ({reason})", row.doc)),
                    Possible::Absent => (off, format!("{} (not in this view)", row.doc)),
                    Possible::Yes => (text, row.doc.to_owned()),
                };
                let room = usize::from(cells).saturating_sub(17);
                let doc = if width(&doc) > room { super::super::text::fit(&doc, room, ellipsis) } else { doc };
                Some(Line::from(vec![Span::styled(pad(&keys, 16, ellipsis), key), Span::styled(doc, style)]))
            })
            .collect();
        section(scope.title(), rows);
    }
    if wanted.is_empty() {
        let facts = [
            (":vm :vd :vi …", "lists; a namespace, /filter or label=value may follow"),
            (":ns :ctx :theme", "namespace, cluster or host, colours"),
            ("5 j, 20 G", "a number before a motion repeats it, or is the line to go to"),
        ];
        let mut rows: Vec<Line<'static>> = facts
            .iter()
            .map(|(k, d)| Line::from(vec![Span::styled(pad(k, 16, ellipsis), key), Span::styled(*d, text)]))
            .collect();
        rows.push(Line::styled(format!("Own keys and themes: {}", state.config.config_dir), off));
        section("Also", rows);
    }
    if out.is_empty() {
        out.push(Line::styled("nothing found", paint.style(Meaning::Muted)));
    }
    out
}
