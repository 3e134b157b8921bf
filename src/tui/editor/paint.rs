//! Draws the editor: a rule with what is edited, numbered lines, remarks, keys.

use std::sync::atomic::Ordering;

use ratatui::buffer::Buffer;
use ratatui::layout::{Position, Rect};
use ratatui::style::Style;
use ratatui_textarea::DataCursor;
use unicode_segmentation::UnicodeSegmentation;
use unicode_width::UnicodeWidthStr;

use super::highlight::Highlighter;
use super::{Editor, Mode, Remark, list_paths, patch};
use crate::tui::text::fit;
use crate::tui::theme::{Glyph, Meaning, Theme};
use crate::types::text::is_printable;

/// Lines under the text for remarks, at most.
const REMARK_LINES: usize = 3;

struct Layout {
    gutter: u16,
    text: Rect,
    remarks: Rect,
    state: Rect,
}

impl Editor {
    fn layout(&self, area: Rect) -> Layout {
        let digits = self.area.lines().len().max(1).ilog10() as u16 + 1;
        // One cell for the remark sign, one space after the number.
        let gutter = digits.max(2) + 2;
        let wanted = self.remarks().count().min(REMARK_LINES) as u16;
        let remarks = wanted.min(area.height.saturating_sub(4));
        let height = area.height.saturating_sub(2 + remarks);
        let text = Rect {
            x: area.x + gutter.min(area.width),
            y: area.y + 1.min(area.height),
            width: area.width.saturating_sub(gutter),
            height,
        };
        Layout {
            gutter,
            text,
            remarks: Rect { y: area.y + 1 + height, height: remarks, ..area },
            state: Rect { y: area.bottom().saturating_sub(1), height: 1, ..area },
        }
    }

    /// Draws the editor.
    pub fn view(&self, area: Rect, buffer: &mut Buffer, theme: &Theme) {
        let area = area.intersection(buffer.area);
        if area.height < 4 || area.width < 20 {
            return;
        }
        let layout = self.layout(area);
        self.follow_cursor(&layout);
        buffer.set_style(area, theme.style(Meaning::Text));
        self.draw_title(area, buffer, theme);
        self.draw_text(&layout, buffer, theme);
        self.draw_remarks(layout.remarks, buffer, theme);
        self.draw_state(layout.state, buffer, theme);
    }

    /// Where the terminal's cursor belongs, for the same `area` as drawn.
    pub fn cursor(&self, area: Rect) -> Option<Position> {
        let layout = self.layout(area);
        match &self.mode {
            Mode::Text => {
                let DataCursor(row, column) = self.area.cursor();
                let row = row.checked_sub(self.top.load(Ordering::Relaxed))?;
                let column = self.cell_column(column).checked_sub(self.left.load(Ordering::Relaxed))?;
                let place = Position::new(
                    layout.text.x + u16::try_from(column).ok()?,
                    layout.text.y + u16::try_from(row).ok()?,
                );
                layout.text.contains(place).then_some(place)
            }
            Mode::Search(input) => {
                let mut scratch = Buffer::empty(layout.state);
                Some(input.view(search_area(layout.state), &mut scratch, Style::new()))
            }
            Mode::Leaving => None,
        }
    }

    /// The cell in which a character of the cursor's line begins.
    fn cell_column(&self, column: usize) -> usize {
        let DataCursor(row, _) = self.area.cursor();
        self.area.lines().get(row).map_or(0, |line| line.chars().take(column).collect::<String>().width())
    }

    /// Scrolls so that the cursor is in view.
    fn follow_cursor(&self, layout: &Layout) {
        let (height, width) = (usize::from(layout.text.height).max(1), usize::from(layout.text.width).max(1));
        let DataCursor(row, column) = self.area.cursor();
        let column = self.cell_column(column);
        let top = self.top.load(Ordering::Relaxed);
        let left = self.left.load(Ordering::Relaxed);
        self.top.store(top.clamp((row + 1).saturating_sub(height), row), Ordering::Relaxed);
        let left = if column < left { column } else { left.max((column + 1).saturating_sub(width)) };
        // Short lines show from their beginning.
        self.left.store(if column + 1 < width { 0 } else { left }, Ordering::Relaxed);
        self.page.store(height, Ordering::Relaxed);
    }

    fn draw_title(&self, area: Rect, buffer: &mut Buffer, theme: &Theme) {
        let line = Rect { height: 1, ..area };
        rule(line, buffer, theme);
        let object = self.draft.base();
        let name = |pointer: &str| object.pointer(pointer).and_then(serde_json::Value::as_str).unwrap_or_default();
        let mut title = format!(" {} ", name("/kind"));
        let namespace = name("/metadata/namespace");
        if !namespace.is_empty() {
            title.push_str(&format!("{namespace}/"));
        }
        title.push_str(&format!("{} ", name("/metadata/name")));
        let title =
            fit(&crate::types::text::printable(&title), usize::from(line.width) / 2, theme.glyph(Glyph::Ellipsis));
        buffer.set_string(line.x + 1, line.y, title, theme.style(Meaning::Title));
        let foreign = self.draft.foreign_changes().len();
        let (text, meaning) = match self.patch() {
            _ if foreign > 0 => (
                format!(" changed by somebody else meanwhile: {foreign} field(s), kept as they are there "),
                Meaning::Warn,
            ),
            None => (" cannot be read yet ".into(), Meaning::Bad),
            Some(patch) => match patch::touched(&patch).len() {
                0 if self.is_dirty() => (" no field changed ".into(), Meaning::Muted),
                0 => (" unchanged ".into(), Meaning::Muted),
                1 => (" 1 change ".into(), Meaning::Changed),
                n => (format!(" {n} changes "), Meaning::Changed),
            },
        };
        let text = fit(&text, usize::from(line.width) / 2, theme.glyph(Glyph::Ellipsis));
        let x = line.right().saturating_sub(u16::try_from(text.width()).unwrap_or(0) + 1);
        buffer.set_string(x, line.y, text, theme.style(meaning));
    }

    fn draw_text(&self, layout: &Layout, buffer: &mut Buffer, theme: &Theme) {
        let (top, left) = (self.top.load(Ordering::Relaxed), self.left.load(Ordering::Relaxed));
        let mut highlighter = Highlighter::default();
        for line in self.area.lines().iter().take(top) {
            highlighter.line(line);
        }
        let area = layout.text;
        let search = self.pattern.as_ref().and_then(|_| self.area.search_pattern());
        let selection = self.area.selection_range();
        let DataCursor(cursor_row, _) = self.area.cursor();
        for (row, line) in self.area.lines().iter().enumerate().skip(top).take(usize::from(area.height)) {
            let y = area.y + u16::try_from(row - top).unwrap_or(0);
            self.draw_number(row, y, layout, buffer, theme, row == cursor_row);
            let mut styles: Vec<(std::ops::Range<usize>, Style)> =
                highlighter.line(line).into_iter().map(|(range, meaning)| (range, theme.style(meaning))).collect();
            if let Some(regex) = search {
                styles.extend(regex.find_iter(line).map(|m| (m.range(), theme.style(Meaning::Match))));
            }
            if let Some(range) = selection.and_then(|s| selected_bytes(line, row, s)) {
                styles.push((range, theme.style(Meaning::Selection)));
            }
            draw_line(line, &styles, left, Rect { y, height: 1, ..area }, buffer, theme);
        }
    }

    fn draw_number(&self, row: usize, y: u16, layout: &Layout, buffer: &mut Buffer, theme: &Theme, current: bool) {
        let x = layout.text.x - layout.gutter;
        let width = usize::from(layout.gutter) - 2;
        let remark = self.remarks().find(|r| r.line == Some(row + 1));
        if let Some(remark) = remark {
            let (glyph, style) = sign(remark, theme);
            buffer.set_string(x, y, glyph, style);
        }
        let style = if current { theme.emphasised(Meaning::LineNumber) } else { theme.style(Meaning::LineNumber) };
        buffer.set_string(x + 1, y, format!("{:>width$}", row + 1), style);
    }

    fn draw_remarks(&self, area: Rect, buffer: &mut Buffer, theme: &Theme) {
        let total = self.remarks().count();
        for (i, remark) in self.remarks().take(usize::from(area.height)).enumerate() {
            let y = area.y + u16::try_from(i).unwrap_or(0);
            let (glyph, style) = sign(remark, theme);
            let place = remark.line.map(|line| format!("line {line}: ")).unwrap_or_default();
            let more = if i + 1 == usize::from(area.height) && total > i + 1 {
                format!(" (+{} more)", total - i - 1)
            } else {
                String::new()
            };
            let room = usize::from(area.width).saturating_sub(3 + more.width());
            let text = fit(&format!("{place}{}", remark.message), room, theme.glyph(Glyph::Ellipsis));
            buffer.set_string(area.x, y, glyph, style);
            buffer.set_string(area.x + 2, y, format!("{text}{more}"), style);
        }
    }

    fn draw_state(&self, line: Rect, buffer: &mut Buffer, theme: &Theme) {
        rule(line, buffer, theme);
        let room = usize::from(line.width.saturating_sub(2));
        match &self.mode {
            Mode::Search(input) => {
                for x in line.left()..line.right() {
                    buffer[(x, line.y)].set_symbol(" ");
                }
                buffer.set_string(line.x, line.y, " search: ", theme.style(Meaning::Accent));
                input.view(search_area(line), buffer, theme.style(Meaning::Input));
            }
            Mode::Leaving => {
                let text = " discard your changes?  y discard   ctrl-s review them   any other key: go on editing ";
                buffer.set_stringn(line.x + 1, line.y, text, room, theme.emphasised(Meaning::Warn));
            }
            Mode::Text => {
                let DataCursor(row, column) = self.area.cursor();
                let place = format!(" {}:{} ", row + 1, column + 1);
                let place_width = u16::try_from(place.width()).unwrap_or(0);
                buffer.set_string(
                    line.right().saturating_sub(place_width + 1),
                    line.y,
                    &place,
                    theme.style(Meaning::Muted),
                );
                let mut x = line.x + 1;
                let end = line.right().saturating_sub(place_width + 2);
                let conflicts = self.conflicts();
                if !conflicts.is_empty() {
                    let room = usize::from(end.saturating_sub(x)).saturating_sub(30).max(20);
                    let text = format!(" changed by both: {} ", list_paths(&conflicts));
                    let text = fit(&text, room, theme.glyph(Glyph::Ellipsis));
                    buffer.set_string(x, line.y, &text, theme.emphasised(Meaning::Warn));
                    x += u16::try_from(text.width()).unwrap_or(0);
                }
                let hints = [
                    ("ctrl-s", "review and save"),
                    ("Esc", "close"),
                    ("ctrl-f", "find"),
                    ("ctrl-z", "undo"),
                    ("ctrl-r", "redo"),
                    ("ctrl-o", "own editor"),
                    ("ctrl-l", "next remark"),
                ];
                for (key, does) in hints {
                    let width = u16::try_from(key.width() + does.width() + 3).unwrap_or(u16::MAX);
                    if x.saturating_add(width) > end {
                        break;
                    }
                    buffer.set_string(x, line.y, format!(" {key}"), theme.style(Meaning::Key));
                    let after = x + u16::try_from(key.width() + 1).unwrap_or(0);
                    buffer.set_string(after, line.y, format!(" {does} "), theme.style(Meaning::Hint));
                    x += width;
                }
            }
        }
    }
}

fn sign<'a>(remark: &Remark, theme: &'a Theme) -> (&'a str, Style) {
    if remark.blocks {
        (theme.glyph(Glyph::Failed), theme.style(Meaning::Bad))
    } else {
        (theme.glyph(Glyph::Warning), theme.style(Meaning::Warn))
    }
}

fn search_area(line: Rect) -> Rect {
    Rect { x: line.x + 9, width: line.width.saturating_sub(10), ..line }
}

fn rule(line: Rect, buffer: &mut Buffer, theme: &Theme) {
    let symbol = theme.border_set().horizontal_top;
    for x in line.left()..line.right() {
        if let Some(cell) = buffer.cell_mut((x, line.y)) {
            cell.set_symbol(symbol).set_style(theme.style(Meaning::BorderFocus));
        }
    }
}

/// The bytes of `line` inside a selection given by (row, character) ends.
fn selected_bytes(
    line: &str,
    row: usize,
    (start, end): ((usize, usize), (usize, usize)),
) -> Option<std::ops::Range<usize>> {
    if row < start.0 || row > end.0 {
        return None;
    }
    let byte = |column: usize| line.char_indices().nth(column).map_or(line.len(), |(i, _)| i);
    let from = if row == start.0 { byte(start.1) } else { 0 };
    let to = if row == end.0 { byte(end.1) } else { line.len() };
    (from < to).then_some(from..to)
}

/// Draws one line from cell `left`; of overlapping styles the last wins. What could steer the terminal shows as a
/// sign instead.
fn draw_line(
    line: &str,
    styles: &[(std::ops::Range<usize>, Style)],
    left: usize,
    area: Rect,
    buffer: &mut Buffer,
    theme: &Theme,
) {
    let base = theme.style(Meaning::Text);
    let mut column = 0;
    for (at, grapheme) in line.grapheme_indices(true) {
        let plain = grapheme.chars().all(is_printable);
        let width = if plain { grapheme.width() } else { 1 };
        let x = column;
        column += width;
        if x < left || width == 0 {
            continue;
        }
        let Some(x) = u16::try_from(x - left).ok().map(|x| area.x + x) else {
            return;
        };
        if usize::from(x) + width > usize::from(area.right()) {
            // The last cell tells that the line goes on.
            if area.width > 0 {
                buffer.set_string(area.right() - 1, area.y, theme.glyph(Glyph::More), theme.style(Meaning::Faint));
            }
            return;
        }
        let style = styles.iter().filter(|(range, _)| range.contains(&at)).fold(base, |s, (_, style)| s.patch(*style));
        if plain {
            buffer.set_string(x, area.y, grapheme, style);
        } else {
            buffer.set_string(x, area.y, theme.glyph(Glyph::Unknown), theme.style(Meaning::Warn));
        }
    }
}
