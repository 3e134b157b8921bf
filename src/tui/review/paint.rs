//! Draws the review: a table of changed fields, the selected one in full below, keys at the bottom.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use serde_json::Value;
use similar::{ChangeTag, TextDiff};
use unicode_width::UnicodeWidthStr;

use super::table::{Row, one_line};
use super::{Purpose, Review};
use crate::tui::text::{fit, pad, wrap};
use crate::tui::theme::{Cost, Glyph, Meaning, Theme};
use crate::types::text::{printable, printable_block};

/// Cells of the column that tells the effect: sign, space, "at restart".
const EFFECT: usize = 12;

/// Widths of the columns after the effect: field, then values.
struct Columns {
    field: usize,
    values: Vec<(&'static str, usize)>,
}

impl Review {
    /// Draws the review.
    pub fn view(&self, area: Rect, buffer: &mut Buffer, theme: &Theme) {
        let area = area.intersection(buffer.area);
        if area.height < 6 || area.width < 40 {
            return;
        }
        buffer.set_style(area, theme.style(Meaning::Text));
        rule(Rect { height: 1, ..area }, buffer, theme);
        let title = fit(&format!(" {} ", self.title), usize::from(area.width) - 2, theme.glyph(Glyph::Ellipsis));
        buffer.set_string(area.x + 1, area.y, title, theme.style(Meaning::Title));

        let detail = self.detail(usize::from(area.width) - 2, theme);
        let inside = usize::from(area.height) - 3;
        // The table has what it needs, the detail what is left, but both have something.
        let detail_height = detail.len().min((inside / 2).max(inside.saturating_sub(self.rows.len() + 1)));
        let table_height = inside - detail_height;
        let table = Rect { y: area.y + 1, height: u16::try_from(table_height + 1).unwrap_or(1), ..area };
        self.draw_table(table, buffer, theme);
        let below = Rect { y: table.bottom(), height: u16::try_from(detail_height).unwrap_or(0), ..area };
        for (line, y) in detail.iter().zip(below.top()..below.bottom()) {
            buffer.set_stringn(below.x + 1, y, &line.0, usize::from(below.width) - 2, line.1);
        }
        self.draw_state(Rect { y: area.bottom() - 1, height: 1, ..area }, buffer, theme);
    }

    fn columns(&self, width: usize) -> Columns {
        let names: &[&str] = match self.purpose {
            Purpose::Save { .. } => &["RUNNING", "DECLARED", "YOURS"],
            Purpose::Waiting => &["RUNNING", "DECLARED"],
        };
        let longest = self.rows.iter().map(|r| r.path.width()).max().unwrap_or(5).max(5);
        let room = width.saturating_sub(EFFECT + 2);
        let field = longest.min(room * 2 / 5);
        let each = (room - field).saturating_sub(names.len()) / names.len();
        Columns { field, values: names.iter().map(|name| (*name, each)).collect() }
    }

    fn draw_table(&self, area: Rect, buffer: &mut Buffer, theme: &Theme) {
        let columns = self.columns(usize::from(area.width) - 1);
        let ellipsis = theme.glyph(Glyph::Ellipsis);
        let mut header = format!("{} {}", pad("EFFECT", EFFECT, ellipsis), pad("FIELD", columns.field, ellipsis));
        for (name, width) in &columns.values {
            header.push(' ');
            header.push_str(&pad(name, *width, ellipsis));
        }
        buffer.set_stringn(area.x + 1, area.y, header, usize::from(area.width) - 1, theme.style(Meaning::Column));
        if self.rows.is_empty() {
            let text = "nothing waits for a restart";
            buffer.set_stringn(area.x + 1, area.y + 1, text, usize::from(area.width) - 1, theme.style(Meaning::Muted));
        }
        let visible = usize::from(area.height.saturating_sub(1)).max(1);
        let top = (self.cursor + 1).saturating_sub(visible);
        for (i, row) in self.rows.iter().enumerate().skip(top).take(visible) {
            let y = area.y + 1 + u16::try_from(i - top).unwrap_or(0);
            self.draw_row(i, row, Rect { y, height: 1, ..area }, &columns, buffer, theme);
        }
    }

    fn draw_row(&self, i: usize, row: &Row, line: Rect, columns: &Columns, buffer: &mut Buffer, theme: &Theme) {
        let ellipsis = theme.glyph(Glyph::Ellipsis);
        let look = theme.change(row.cost);
        let faded = if row.edited { Style::new() } else { theme.style(Meaning::Muted) };
        let mut x = line.x + 1;
        let mut put = |text: &str, width: usize, style: Style| {
            let room = usize::from(line.right().saturating_sub(x));
            let (after, _) = buffer.set_stringn(x, line.y, pad(text, width, ellipsis), room, style);
            x = after + 1;
        };
        put(&format!("{} {}", look.sign, if row.edited { look.word } else { "waiting" }), EFFECT, look.style);
        let field = if row.conflict {
            format!("{} {}", theme.glyph(Glyph::Warning), printable(&row.path))
        } else {
            printable(&row.path).into_owned()
        };
        put(&field, columns.field, if row.conflict { theme.style(Meaning::Warn) } else { faded });
        for (value, (name, width)) in [&row.running, &row.declared, &row.yours].into_iter().zip(&columns.values) {
            let style = match (*name, row.edited) {
                ("YOURS", true) => theme.emphasised(match (&row.declared, &row.yours) {
                    (None, _) => Meaning::Added,
                    (_, None) => Meaning::Removed,
                    _ => Meaning::Changed,
                }),
                _ => faded,
            };
            put(&printable(&one_line(value.as_ref())), *width, style);
        }
        if i == self.cursor {
            let style = theme.style(Meaning::Selection);
            for x in line.left()..line.right() {
                if let Some(cell) = buffer.cell_mut((x, line.y)) {
                    if let Some(background) = style.bg {
                        cell.set_bg(background);
                    }
                    cell.modifier.insert(style.add_modifier);
                }
            }
            buffer.set_string(line.x, line.y, theme.glyph(Glyph::Cursor), theme.style(Meaning::Accent));
        }
    }

    /// What the lines under the table say: general errors, then the selected row in full.
    fn detail(&self, width: usize, theme: &Theme) -> Vec<(String, Style)> {
        let mut out: Vec<(String, Style)> = Vec::new();
        let mut say = |text: &str, style: Style| out.extend(wrap(text, width).into_iter().map(|line| (line, style)));
        for text in &self.general {
            say(&format!("{} {text}", theme.glyph(Glyph::Failed)), theme.style(Meaning::Bad));
        }
        if let Purpose::Save { restarts: true, .. } = self.purpose {
            let text = "restart approval is Automatic: saving restarts the machine at once";
            say(&format!("{} {text}", theme.glyph(Glyph::Warning)), theme.emphasised(Meaning::Warn));
        }
        for text in &self.warnings {
            say(&format!("{} {}", theme.glyph(Glyph::Warning), printable(text)), theme.style(Meaning::Warn));
        }
        let Some(row) = self.rows.get(self.cursor) else {
            return out;
        };
        say(&printable(&row.path), theme.style(Meaning::Title));
        if let Some(Some(error)) = self.errors.get(self.cursor) {
            say(&format!("{} {error}", theme.glyph(Glyph::Failed)), theme.style(Meaning::Bad));
        }
        if row.conflict {
            let text = "somebody else changed this field too: DECLARED is theirs, saving puts yours in its place";
            say(&format!("{} {text}", theme.glyph(Glyph::Warning)), theme.style(Meaning::Warn));
        }
        if let Some(note) = &row.note {
            say(note, theme.style(Meaning::Muted));
        }
        match (&row.declared, &row.yours) {
            (declared, yours) if is_block(declared) || is_block(yours) => {
                let (old, new) = match self.purpose {
                    Purpose::Save { .. } => (declared, yours),
                    Purpose::Waiting => (&row.running, declared),
                };
                out.extend(line_diff(&block(old), &block(new), theme));
            }
            _ => {
                let values: &[(&str, &Option<Value>)] = match self.purpose {
                    Purpose::Save { .. } => {
                        &[("running ", &row.running), ("declared", &row.declared), ("yours   ", &row.yours)]
                    }
                    Purpose::Waiting => &[("running ", &row.running), ("declared", &row.declared)],
                };
                for (name, value) in values {
                    say(&format!("{name}  {}", printable(&one_line(value.as_ref()))), theme.style(Meaning::Text));
                }
            }
        }
        out
    }

    fn draw_state(&self, line: Rect, buffer: &mut Buffer, theme: &Theme) {
        rule(line, buffer, theme);
        let count = |cost: Cost| self.rows.iter().filter(|r| r.edited && r.cost == cost).count();
        let summary = match self.purpose {
            Purpose::Save { .. } if self.saving => " saving... ".to_owned(),
            Purpose::Save { .. } => {
                let parts: Vec<String> =
                    [(Cost::Restart, "at restart"), (Cost::Now, "now"), (Cost::Refused, "refused")]
                        .into_iter()
                        .filter(|(cost, _)| count(*cost) > 0)
                        .map(|(cost, word)| format!("{} {word}", count(cost)))
                        .collect();
                format!(" {} ", parts.join(", "))
            }
            Purpose::Waiting => format!(" {} waiting ", self.rows.len()),
        };
        let width = u16::try_from(summary.width()).unwrap_or(0);
        let x = line.right().saturating_sub(width + 1);
        buffer.set_string(x, line.y, &summary, theme.style(Meaning::Muted));
        let hints: &[(&str, &str)] = match self.purpose {
            Purpose::Save { .. } => &[("y", "save"), ("e", "edit on"), ("c", "copy the patch")],
            Purpose::Waiting => &[("r", "restart now"), ("Esc", "back")],
        };
        let mut at = line.x + 1;
        for (key, does) in hints {
            let width = u16::try_from(key.width() + does.width() + 3).unwrap_or(u16::MAX);
            if at.saturating_add(width) > x {
                break;
            }
            buffer.set_string(at, line.y, format!(" {key}"), theme.style(Meaning::Key));
            let after = at + u16::try_from(key.width() + 1).unwrap_or(0);
            buffer.set_string(after, line.y, format!(" {does} "), theme.style(Meaning::Hint));
            at += width;
        }
    }
}

fn is_block(value: &Option<Value>) -> bool {
    value.as_ref().is_some_and(|v| match v {
        Value::String(text) => text.trim_end().contains('\n'),
        Value::Object(map) => map.len() > 1,
        Value::Array(list) => !list.is_empty(),
        _ => false,
    })
}

/// A value as lines: text as it is, the rest as YAML.
fn block(value: &Option<Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => crate::tui::editor::yaml::render(other),
    }
}

fn line_diff(old: &str, new: &str, theme: &Theme) -> Vec<(String, Style)> {
    let diff = TextDiff::from_lines(old, new);
    diff.iter_all_changes()
        .map(|change| {
            let (sign, meaning) = match change.tag() {
                ChangeTag::Delete => ('-', Meaning::Removed),
                ChangeTag::Insert => ('+', Meaning::Added),
                ChangeTag::Equal => (' ', Meaning::Muted),
            };
            let text = change.value().trim_end_matches(['\n', '\r']);
            (format!("{sign} {}", printable_block(text).replace('\t', "  ")), theme.style(meaning))
        })
        .collect()
}

fn rule(line: Rect, buffer: &mut Buffer, theme: &Theme) {
    let symbol = theme.border_set().horizontal_top;
    for x in line.left()..line.right() {
        if let Some(cell) = buffer.cell_mut((x, line.y)) {
            cell.set_symbol(symbol).set_style(theme.style(Meaning::BorderFocus));
        }
    }
}
