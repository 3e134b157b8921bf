//! Draws a form: fields with remarks, beside or instead of them the manifests, keys at the bottom.

use ratatui::buffer::Buffer;
use ratatui::layout::{Position, Rect};
use ratatui::style::Style;
use unicode_segmentation::UnicodeSegmentation;
use unicode_width::UnicodeWidthStr;

use super::{Control, Field, Form};
use crate::tui::editor::highlight::Highlighter;
use crate::tui::text::{fit, pad, wrap};
use crate::tui::theme::{Glyph, Meaning, Theme};

/// Cells of the labels.
const LABEL: u16 = 15;
/// From this width on the manifests stand beside the fields.
const BOTH: u16 = 110;

struct Layout {
    fields: Option<Rect>,
    manifest: Option<Rect>,
    summary: Rect,
    state: Rect,
}

impl Form {
    fn layout(&self, area: Rect) -> Layout {
        let inside = Rect { y: area.y + 1, height: area.height.saturating_sub(3), ..area };
        let summary = Rect { y: inside.bottom(), height: 1, ..area };
        let state = Rect { y: summary.bottom(), height: 1, ..area };
        let (fields, manifest) = if area.width >= BOTH {
            let left = area.width / 2;
            let right = Rect { x: area.x + left, width: area.width - left, ..inside };
            (Some(Rect { width: left, ..inside }), Some(right))
        } else if self.preview {
            (None, Some(inside))
        } else {
            (Some(inside), None)
        };
        Layout { fields, manifest, summary, state }
    }

    /// Draws the form.
    pub fn view(&self, area: Rect, buffer: &mut Buffer, theme: &Theme) {
        let area = area.intersection(buffer.area);
        if area.height < 6 || area.width < 40 {
            return;
        }
        let layout = self.layout(area);
        buffer.set_style(area, theme.style(Meaning::Text));
        rule(Rect { height: 1, ..area }, buffer, theme);
        buffer.set_string(area.x + 1, area.y, format!(" {} ", self.title), theme.style(Meaning::Title));
        if let Some(area) = layout.fields {
            self.draw_fields(area, buffer, theme);
        }
        if let Some(area) = layout.manifest {
            self.draw_manifest(area, buffer, theme);
        }
        self.draw_summary(layout.summary, buffer, theme);
        self.draw_state(layout.state, buffer, theme);
    }

    /// Where the terminal's cursor belongs, for the same `area` as drawn.
    pub fn cursor(&self, area: Rect) -> Option<Position> {
        if self.leaving || self.applying {
            return None;
        }
        let place = self.places(self.layout(area).fields?).into_iter().find(|p| p.index == self.focus)?;
        let mut scratch = Buffer::empty(place.input);
        match &self.fields[self.focus].control {
            Control::Text(input) => Some(input.view(place.input, &mut scratch, Style::new())),
            Control::Secret(input) => {
                let dots = input.text().graphemes(true).count();
                let column = u16::try_from(dots).unwrap_or(u16::MAX).min(place.input.width.saturating_sub(1));
                Some(Position::new(place.input.x + column, place.input.y))
            }
            Control::Choice { .. } => None,
        }
    }

    /// Where each shown field stands. If not all fit, the focused one is in view.
    fn places(&self, area: Rect) -> Vec<Place> {
        let width = usize::from(area.width.saturating_sub(LABEL + 3));
        let mut rows: Vec<Place> = Vec::new();
        let mut y = 0usize;
        for index in (0..self.fields.len()).filter(|i| self.shown(*i)) {
            let field = &self.fields[index];
            let remark = match self.remark(field) {
                Some((text, blocks)) => {
                    wrap(text, width).into_iter().take(2).map(|line| (line, Some(blocks))).collect()
                }
                None if index == self.focus => vec![(field.help.to_owned(), None)],
                None => Vec::new(),
            };
            let height = 1 + remark.len();
            rows.push(Place { index, y, remark, input: Rect::ZERO });
            y += height;
        }
        let focused = rows.iter().find(|p| p.index == self.focus).map_or(0, |p| p.y + p.remark.len());
        let top = (focused + 1).saturating_sub(usize::from(area.height));
        rows.into_iter()
            .filter(|p| p.y >= top && p.y - top < usize::from(area.height))
            .map(|p| {
                let y = area.y + u16::try_from(p.y - top).unwrap_or(0);
                let input = Rect { x: area.x + LABEL + 2, y, width: area.width.saturating_sub(LABEL + 3), height: 1 };
                Place { input, ..p }
            })
            .collect()
    }

    fn draw_fields(&self, area: Rect, buffer: &mut Buffer, theme: &Theme) {
        for place in self.places(area) {
            let field = &self.fields[place.index];
            let focused = place.index == self.focus;
            let y = place.input.y;
            let label_style = if focused { theme.style(Meaning::Title) } else { theme.style(Meaning::Muted) };
            if focused {
                buffer.set_string(area.x, y, theme.glyph(Glyph::Cursor), theme.style(Meaning::Accent));
            }
            buffer.set_stringn(area.x + 1, y, field.label, usize::from(LABEL), label_style);
            draw_control(field, place.input, focused, buffer, theme);
            for (i, (text, blocks)) in place.remark.iter().enumerate() {
                let y = y + 1 + u16::try_from(i).unwrap_or(0);
                if y >= area.bottom() {
                    break;
                }
                let (sign, style) = match blocks {
                    Some(true) => (theme.glyph(Glyph::Failed), theme.style(Meaning::Bad)),
                    Some(false) => (theme.glyph(Glyph::Warning), theme.style(Meaning::Warn)),
                    None => (" ", theme.style(Meaning::Hint)),
                };
                if i == 0 {
                    buffer.set_string(place.input.x - 2, y, sign, style);
                }
                let text = fit(text, usize::from(place.input.width), theme.glyph(Glyph::Ellipsis));
                buffer.set_string(place.input.x, y, text, style);
            }
        }
    }

    fn draw_manifest(&self, area: Rect, buffer: &mut Buffer, theme: &Theme) {
        let text = self.manifest_text();
        let mut highlighter = Highlighter::default();
        let lines: Vec<&str> = text.lines().collect();
        let room = usize::from(area.height);
        let width = usize::from(area.width.saturating_sub(3));
        for x in [area.x] {
            for y in area.top()..area.bottom() {
                buffer.set_string(x, y, theme.glyph(Glyph::Vertical), theme.style(Meaning::Border));
            }
        }
        for (i, line) in lines.iter().take(room).enumerate() {
            let y = area.y + u16::try_from(i).unwrap_or(0);
            let parts = highlighter.line(line);
            let left = lines.len() - i;
            if i + 1 == room && left > 1 {
                let more = format!("{} {} more lines; ctrl-y copies all", theme.glyph(Glyph::Ellipsis), left);
                buffer.set_stringn(area.x + 2, y, more, width, theme.style(Meaning::Faint));
                break;
            }
            let shown = fit(&crate::types::text::printable(line), width, theme.glyph(Glyph::Ellipsis));
            buffer.set_stringn(area.x + 2, y, &shown, width, theme.style(Meaning::Text));
            // Parts are byte ranges of the line; they still hold where nothing had to be escaped or cut.
            for (range, meaning) in parts {
                if let Some(part) = shown.get(range.clone()) {
                    let before = shown.get(..range.start).map_or(0, UnicodeWidthStr::width);
                    let x = area.x + 2 + u16::try_from(before).unwrap_or(0);
                    buffer.set_stringn(x, y, part, width.saturating_sub(before), theme.style(meaning));
                }
            }
        }
    }

    fn draw_summary(&self, line: Rect, buffer: &mut Buffer, theme: &Theme) {
        let width = usize::from(line.width.saturating_sub(2));
        let general = self.refused.iter().find(|(field, _)| field.is_none());
        let (text, style) = match general {
            Some((_, text)) => (format!("{} {text}", theme.glyph(Glyph::Failed)), theme.style(Meaning::Bad)),
            None => (self.sheet.summary(self.values()), theme.style(Meaning::Muted)),
        };
        buffer.set_stringn(line.x + 1, line.y, fit(&text, width, theme.glyph(Glyph::Ellipsis)), width, style);
    }

    fn draw_state(&self, line: Rect, buffer: &mut Buffer, theme: &Theme) {
        rule(line, buffer, theme);
        let room = usize::from(line.width.saturating_sub(2));
        if self.leaving {
            let text = " discard what you filled in?  y discard   any other key: go on ";
            buffer.set_stringn(line.x + 1, line.y, text, room, theme.emphasised(Meaning::Warn));
            return;
        }
        if self.applying {
            buffer.set_stringn(line.x + 1, line.y, " on its way... ", room, theme.style(Meaning::Busy));
            return;
        }
        let preview = if self.preview { "fields" } else { "manifest" };
        let mut hints = vec![("ctrl-s", self.verb), ("Tab", "next"), ("Esc", "close"), ("ctrl-y", "copy manifest")];
        if line.width < BOTH {
            hints.insert(2, ("ctrl-p", preview));
        }
        let mut x = line.x + 1;
        for (key, does) in hints {
            let width = u16::try_from(key.width() + does.width() + 3).unwrap_or(u16::MAX);
            if x.saturating_add(width) > line.right() {
                break;
            }
            buffer.set_string(x, line.y, format!(" {key}"), theme.style(Meaning::Key));
            let after = x + u16::try_from(key.width() + 1).unwrap_or(0);
            buffer.set_string(after, line.y, format!(" {does} "), theme.style(Meaning::Hint));
            x += width;
        }
    }
}

/// Where a field stands: its row, what is said under it.
struct Place {
    index: usize,
    y: usize,
    remark: Vec<(String, Option<bool>)>,
    input: Rect,
}

fn draw_control(field: &Field, area: Rect, focused: bool, buffer: &mut Buffer, theme: &Theme) {
    let style = if focused { theme.style(Meaning::Selection) } else { theme.style(Meaning::Input) };
    if focused {
        buffer.set_string(area.x, area.y, " ".repeat(usize::from(area.width)), style);
    }
    match &field.control {
        Control::Text(input) => {
            input.view(area, buffer, style);
        }
        Control::Secret(input) => {
            let dots = theme.glyph(Glyph::Running).repeat(input.text().graphemes(true).count());
            buffer.set_stringn(area.x, area.y, dots, usize::from(area.width), style);
        }
        Control::Choice { choices, at, .. } => {
            let width = usize::from(area.width);
            let (label, count) = match choices.get(*at) {
                Some(choice) if choices.len() > 1 => (choice.label.as_str(), format!("{}/{}", at + 1, choices.len())),
                Some(choice) => (choice.label.as_str(), String::new()),
                None => ("(none)", String::new()),
            };
            let text = if focused && choices.len() > 1 {
                let label = fit(label, width.saturating_sub(count.width() + 5), theme.glyph(Glyph::Ellipsis));
                pad(&format!("< {label} > {count}"), width, "")
            } else {
                fit(label, width, theme.glyph(Glyph::Ellipsis))
            };
            buffer.set_stringn(area.x, area.y, text, width, style);
        }
    }
}

fn rule(line: Rect, buffer: &mut Buffer, theme: &Theme) {
    let symbol = theme.border_set().horizontal_top;
    for x in line.left()..line.right() {
        if let Some(cell) = buffer.cell_mut((x, line.y)) {
            cell.set_symbol(symbol).set_style(theme.style(Meaning::BorderFocus));
        }
    }
}
