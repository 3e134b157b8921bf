//! Drawing of the boxes over the view.

use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};

use super::super::action::Possible;
use super::super::command::completions;
use super::super::overlay::{Ask, CommandLine, Confirm, FilterLine, Menu, Surety};
use super::super::paint::{Paint, centered};
use super::super::palette::Palette;
use super::super::text::{fit, pad, width, wrap};
use super::super::theme::{Glyph, Meaning};

/// The `:` line at the bottom, its completions above it.
pub fn command(line: &CommandLine, paint: &mut Paint<'_>, whole: Rect) {
    let y = whole.bottom() - 1;
    let offers = completions(line.input.text(), paint.state);
    let bottom = Rect { y, height: 1, ..whole };
    clear(paint, bottom);
    let style = paint.style(Meaning::Key);
    paint.text(1, y, 1, ":", style);
    let field = Rect { x: 2, y, width: whole.width.saturating_sub(3), height: 1 };
    // What Enter or the right arrow would make of it stands behind the cursor, barely visible.
    if let Some(rest) = offers.first().and_then(|o| o.line.strip_prefix(line.input.text()))
        && line.input.at_end()
        && line.chosen.is_none()
        && !line.input.is_empty()
    {
        let x = field.x + u16::try_from(width(line.input.text())).unwrap_or(0);
        let style = paint.style(Meaning::Ghost);
        paint.text(x, y, field.right().saturating_sub(x), rest, style);
    }
    let style = paint.style(Meaning::Input);
    paint.cursor = Some(line.input.view(field, paint.buffer, style));
    let rows = offers.len() + usize::from(line.error.is_some());
    if rows == 0 {
        return;
    }
    let names = offers.iter().map(|o| width(&o.line)).max().unwrap_or(0);
    let docs = offers.iter().map(|o| width(&o.doc)).max().unwrap_or(0);
    let error = line.error.as_ref().map_or(0, |e| width(e) + 2);
    let cells = u16::try_from((names + docs + 4).max(error + 2)).unwrap_or(40).min(whole.width - 2).max(24);
    let height = u16::try_from(rows).unwrap_or(1).min(whole.height - 3);
    let area = Rect { x: 1, y: y - height, width: cells, height };
    clear(paint, area);
    let popup = paint.style(Meaning::Popup);
    paint.fill(area, popup);
    for (i, offer) in offers.iter().enumerate().take(usize::from(height)) {
        let y = area.y + u16::try_from(i).unwrap_or(0);
        let chosen = line.chosen == Some(i);
        let base = if chosen { paint.style(Meaning::Selection) } else { Style::default() };
        if chosen {
            paint.fill(Rect { y, height: 1, ..area }, base);
        }
        let name = base.patch(if chosen { Style::default() } else { paint.style(Meaning::Key) });
        paint.text(area.x + 1, y, area.width - 1, &offer.line, name);
        let doc = base.patch(if chosen { Style::default() } else { paint.style(Meaning::Hint) });
        let x = area.x + 3 + u16::try_from(names).unwrap_or(0);
        paint.text(x, y, area.right().saturating_sub(x), &offer.doc, doc);
    }
    if let Some(error) = &line.error {
        let style = paint.style(Meaning::Bad);
        let text = format!("{} {error}", paint.glyph(Glyph::Failed));
        paint.text(area.x + 1, area.bottom() - 1, area.width.saturating_sub(2), &text, style);
    }
}

fn clear(paint: &mut Paint<'_>, area: Rect) {
    use ratatui::widgets::{Clear, Widget};
    Clear.render(area.intersection(paint.buffer.area), paint.buffer);
    let style = paint.style(Meaning::Text);
    paint.fill(area, style);
}

/// The `/` line at the bottom.
pub fn filter(line: &FilterLine, paint: &mut Paint<'_>, area: Rect) {
    clear(paint, area);
    let style = paint.style(Meaning::Key);
    paint.text(1, area.y, 1, "/", style);
    let note = match (&line.error, line.input.is_empty()) {
        (Some(error), _) => (error.clone(), Meaning::Bad),
        (None, true) => ("regex  !not  -f fuzzy  -l label=value".into(), Meaning::Ghost),
        (None, false) => (String::new(), Meaning::Hint),
    };
    let cells = u16::try_from(width(&note.0)).unwrap_or(0).min(area.width / 2);
    let field = Rect { x: 2, width: area.width.saturating_sub(cells + 4), ..area };
    let style = paint.style(note.1);
    paint.text(area.right() - cells - 1, area.y, cells, &note.0, style);
    let style = paint.style(Meaning::Input);
    paint.cursor = Some(line.input.view(field, paint.buffer, style));
}

/// The palette.
pub fn palette(palette: &Palette, paint: &mut Paint<'_>, whole: Rect) {
    let area = centered(whole, (whole.width - 4).min(84), (whole.height - 2).min(20));
    let inner = paint.popup(area, "Palette");
    let style = paint.style(Meaning::Key);
    paint.text(inner.x, inner.y, 1, paint.glyph(Glyph::More), style);
    let field = Rect { x: inner.x + 2, width: inner.width.saturating_sub(2), height: 1, ..inner };
    let style = paint.style(Meaning::Input);
    paint.cursor = Some(palette.input.view(field, paint.buffer, style));
    let rows = Rect { y: inner.y + 2, height: inner.height.saturating_sub(2), ..inner };
    if palette.len() == 0 {
        let style = paint.style(Meaning::Muted);
        paint.text(rows.x, rows.y, rows.width, "nothing found", style);
        return;
    }
    let height = usize::from(rows.height);
    let top = (palette.cursor + 1).saturating_sub(height);
    let keys = 10;
    let labels = usize::from(rows.width / 2).max(24);
    for (i, (item, letters)) in palette.hits().enumerate().skip(top).take(height) {
        let y = rows.y + u16::try_from(i - top).unwrap_or(0);
        let selected = i == palette.cursor;
        let base = if selected { paint.style(Meaning::Selection) } else { Style::default() };
        if selected {
            paint.fill(Rect { y, height: 1, ..rows }, base);
        }
        let marked = match selected {
            // Colours of the bar and of a match may be the same one.
            true => base.add_modifier(Modifier::UNDERLINED),
            false => paint.style(Meaning::Match),
        };
        let mut spans: Vec<Span<'_>> = Vec::new();
        let shown = fit(&item.label, labels - 1, paint.glyph(Glyph::Ellipsis));
        for (at, c) in shown.chars().enumerate() {
            let hit = u32::try_from(at).is_ok_and(|at| letters.contains(&at));
            spans.push(Span::styled(c.to_string(), if hit { marked } else { base }));
        }
        let line = Line::from(spans);
        paint.line(rows.x + 1, y, rows.width - 1, &line);
        let muted = base.patch(if selected { Style::default() } else { paint.style(Meaning::Hint) });
        let x = rows.x + 1 + u16::try_from(labels).unwrap_or(0);
        let room = rows.right().saturating_sub(x + keys + 1);
        paint.text(x, y, room, &item.detail, muted);
        let key = base.patch(if selected { Style::default() } else { paint.style(Meaning::Key) });
        let cells = u16::try_from(width(&item.key)).unwrap_or(0).min(keys);
        paint.text(rows.right().saturating_sub(cells + 1), y, cells, &item.key, key);
    }
}

/// A menu.
pub fn menu(menu: &Menu, paint: &mut Paint<'_>, whole: Rect) {
    let labels = menu.items.iter().map(|i| width(&i.label)).max().unwrap_or(0);
    let keys = menu.items.iter().map(|i| width(&i.key)).max().unwrap_or(0);
    let docs = menu.items.iter().map(|i| doc(i).0.len()).max().unwrap_or(0);
    let wanted = u16::try_from((keys + labels + docs + 10).max(width(&menu.title) + 6)).unwrap_or(60);
    let height = u16::try_from(menu.items.len()).unwrap_or(1) + 2;
    let area = centered(whole, wanted.min(whole.width - 4), height.min(whole.height));
    let inner = paint.popup(area, &menu.title);
    let top = menu.scroll.measure(menu.items.len(), usize::from(inner.height));
    menu.scroll.reveal(menu.cursor);
    let top = if top == menu.scroll.measure(menu.items.len(), usize::from(inner.height)) {
        top
    } else {
        menu.scroll.measure(menu.items.len(), usize::from(inner.height))
    };
    for (i, item) in menu.items.iter().enumerate().skip(top).take(usize::from(inner.height)) {
        let y = inner.y + u16::try_from(i - top).unwrap_or(0);
        let selected = i == menu.cursor;
        let usable = item.possible == Possible::Yes;
        let base = if selected { paint.style(Meaning::Selection) } else { Style::default() };
        if selected {
            paint.fill(Rect { y, height: 1, ..inner }, base);
        }
        let off = paint.style(Meaning::Disabled);
        let tint = |style: Style| {
            if !usable {
                base.patch(off)
            } else if selected {
                base
            } else {
                style
            }
        };
        let ellipsis = paint.glyph(Glyph::Ellipsis);
        let (key_style, hint_style, text_style) =
            (paint.style(Meaning::Key), paint.style(Meaning::Hint), paint.style(Meaning::Input));
        let x = inner.x + 1;
        let used = paint.text(x, y, inner.width, &pad(&item.key, keys, ellipsis), tint(key_style)) + 2;
        let used =
            used + paint.text(x + used, y, inner.width, &pad(&item.label, labels, ellipsis), tint(text_style)) + 2;
        let (text, _) = doc(item);
        paint.text(x + used, y, inner.width.saturating_sub(used + 1), &text, tint(hint_style));
    }
    paint.scrollbar(Rect { width: area.width - 1, y: inner.y, height: inner.height, ..area }, top, menu.items.len());
}

fn doc(item: &super::super::overlay::MenuItem) -> (String, bool) {
    match &item.possible {
        Possible::No(reason) => (format!("not possible: {reason}"), false),
        _ => (item.doc.clone(), true),
    }
}

/// A question before something happens.
pub fn confirm(confirm: &Confirm, paint: &mut Paint<'_>, whole: Rect) {
    let cells = (whole.width - 6).min(72);
    let room = usize::from(cells) - 4;
    let mut lines: Vec<(String, Meaning)> = Vec::new();
    for line in wrap(&confirm.title, room) {
        lines.push((line, Meaning::Title));
    }
    lines.push((String::new(), Meaning::Text));
    for paragraph in &confirm.body {
        for line in wrap(paragraph, room) {
            lines.push((line, Meaning::Input));
        }
    }
    lines.push((String::new(), Meaning::Text));
    let most = usize::from(whole.height).saturating_sub(6);
    if lines.len() > most {
        lines.truncate(most);
    }
    let height = u16::try_from(lines.len()).unwrap_or(4) + 3;
    let area = centered(whole, cells, height);
    let inner = paint.popup(area, "Confirm");
    for (i, (line, meaning)) in lines.iter().enumerate() {
        let style = paint.style(*meaning);
        paint.text(inner.x, inner.y + u16::try_from(i).unwrap_or(0), inner.width, line, style);
    }
    let y = inner.bottom().saturating_sub(1);
    match &confirm.surety {
        Surety::Yes => {
            let (key, hint) = (paint.style(Meaning::Key), paint.style(Meaning::Hint));
            let line = Line::from(vec![
                Span::styled("y", key),
                Span::styled(" yes   ", hint),
                Span::styled("n", key),
                Span::styled(" no (default)", hint),
            ]);
            paint.line(inner.x, y, inner.width, &line);
        }
        Surety::Name { name, input } => {
            let hint = paint.style(Meaning::Hint);
            let lead = format!("Type {name} to confirm: ");
            let used = paint.text(inner.x, y, inner.width, &lead, hint);
            let field = Rect { x: inner.x + used, y, width: inner.width.saturating_sub(used), height: 1 };
            let right = input.text().trim() == name;
            let style = paint.style(if right { Meaning::Bad } else { Meaning::Input });
            paint.cursor = Some(input.view(field, paint.buffer, style));
        }
    }
}

/// A question for one line.
pub fn ask(ask: &Ask, paint: &mut Paint<'_>, whole: Rect) {
    let cells = (whole.width - 6).min(76);
    let notes = wrap(&ask.note, usize::from(cells) - 4);
    let area = centered(whole, cells, u16::try_from(notes.len()).unwrap_or(1) + 5);
    let inner = paint.popup(area, &ask.title);
    for (i, line) in notes.iter().enumerate() {
        let style = paint.style(Meaning::Hint);
        paint.text(inner.x, inner.y + u16::try_from(i).unwrap_or(0), inner.width, line, style);
    }
    let y = inner.bottom().saturating_sub(2);
    let key = paint.style(Meaning::Key);
    paint.text(inner.x, y, 2, paint.glyph(Glyph::More), key);
    let field = Rect { x: inner.x + 2, y, width: inner.width.saturating_sub(2), height: 1 };
    let style = paint.style(Meaning::Input);
    paint.cursor = Some(ask.input.view(field, paint.buffer, style));
    let hint = paint.style(Meaning::Hint);
    paint.text(inner.x, y + 1, inner.width, "enter goes ahead, esc does nothing", hint);
}
