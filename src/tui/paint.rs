//! What screens draw with: the buffer, the theme, and a note of when anything shown will next change by itself.

use ratatui::buffer::Buffer;
use ratatui::layout::{Position, Rect};
use ratatui::style::Style;
use ratatui::text::Line;
use ratatui::widgets::{Block, Clear, Widget};

use super::state::State;
use super::table::Millis;
use super::text::{fit, width};
use super::theme::{Glyph, Meaning, Theme};
use crate::types::text::{age, is_printable};

/// A frame being drawn.
pub struct Paint<'a> {
    /// What to show.
    pub state: &'a State,
    /// How.
    pub theme: &'a Theme,
    /// Where.
    pub buffer: &'a mut Buffer,
    /// Where the text cursor goes; hidden if nowhere.
    pub cursor: Option<Position>,
    due: Option<Millis>,
}

impl<'a> Paint<'a> {
    /// A frame over `buffer`.
    pub fn new(state: &'a State, buffer: &'a mut Buffer) -> Self {
        Self { state, theme: &state.theme, buffer, cursor: None, due: None }
    }

    /// When something shown will change without any event; nothing if it will not.
    pub fn due(&self) -> Option<Millis> {
        self.due
    }

    /// Notes that something shown changes at `at`.
    pub fn wake_at(&mut self, at: Millis) {
        let at = at.max(self.state.now + 1);
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    /// A meaning's style.
    pub fn style(&self, meaning: Meaning) -> Style {
        self.theme.style(meaning)
    }

    /// A sign.
    pub fn glyph(&self, glyph: Glyph) -> &'static str {
        self.theme.glyph(glyph)
    }

    /// The age of an instant in seconds, as kubectl prints it; the frame is renewed when the text changes.
    pub fn age(&mut self, second: i64) -> String {
        let elapsed = self.state.now.div_euclid(1000) - second;
        self.wake_at((second + next_age_change(elapsed)) * 1000);
        age(elapsed)
    }

    /// Writes one line of plain text, cut at the right edge; answers the cells used.
    pub fn text(&mut self, x: u16, y: u16, cells: u16, text: &str, style: Style) -> u16 {
        if cells == 0 || !self.buffer.area.contains(Position::new(x, y)) {
            return 0;
        }
        let fitted = fit(text, usize::from(cells), self.glyph(Glyph::Ellipsis));
        self.buffer.set_stringn(x, y, &fitted, usize::from(cells), style);
        u16::try_from(width(&fitted)).unwrap_or(cells)
    }

    /// Writes a styled line.
    pub fn line(&mut self, x: u16, y: u16, cells: u16, line: &Line<'_>) {
        if self.buffer.area.contains(Position::new(x, y)) {
            self.buffer.set_line(x, y, line, cells);
        }
    }

    /// Gives a whole area a style.
    pub fn fill(&mut self, area: Rect, style: Style) {
        let area = area.intersection(self.buffer.area);
        self.buffer.set_style(area, style);
    }

    /// An empty framed box over what is below; answers its inside.
    pub fn popup(&mut self, area: Rect, title: &str) -> Rect {
        let area = area.intersection(self.buffer.area);
        Clear.render(area, self.buffer);
        let title = Line::styled(format!(" {title} "), self.style(Meaning::Title));
        let block = Block::bordered()
            .border_set(self.theme.border_set())
            .border_style(self.style(Meaning::BorderFocus))
            .style(self.style(Meaning::Popup))
            .title(title);
        let inner = block.inner(area);
        block.render(area, self.buffer);
        Rect { x: inner.x + 1, width: inner.width.saturating_sub(2), ..inner }
    }

    /// `── Title ───────`: heads a section of a screen.
    pub fn heading(&self, title: &str, note: Option<(String, Style)>, cells: u16) -> Line<'static> {
        let rule = self.glyph(Glyph::Horizontal);
        let mut used = 4 + width(title);
        let mut spans = vec![
            ratatui::text::Span::styled(rule.repeat(2), self.style(Meaning::Border)),
            ratatui::text::Span::styled(format!(" {title} "), self.style(Meaning::Title)),
        ];
        if let Some((note, style)) = note {
            used += width(&note) + 1;
            spans.push(ratatui::text::Span::styled(format!("{note} "), style));
        }
        let rest = usize::from(cells).saturating_sub(used);
        spans.push(ratatui::text::Span::styled(rule.repeat(rest), self.style(Meaning::Border)));
        Line::from(spans)
    }

    /// A thumb at the right edge, if not everything fits.
    pub fn scrollbar(&mut self, area: Rect, top: usize, total: usize) {
        let height = usize::from(area.height);
        if total <= height || height == 0 || area.width == 0 {
            return;
        }
        let size = (height * height / total).clamp(1, height);
        let start = top * (height - size) / (total - height).max(1);
        let x = area.right() - 1;
        for row in start..(start + size).min(height) {
            let y = area.y + u16::try_from(row).unwrap_or(0);
            let (glyph, style) = (self.glyph(Glyph::Thumb), self.style(Meaning::Faint));
            self.buffer.set_stringn(x, y, glyph, 1, style);
        }
    }

    /// The last line of defence: whatever a screen forgot to make printable is replaced before it can reach the
    /// terminal.
    pub fn scrub(&mut self) {
        for cell in &mut self.buffer.content {
            if !cell.symbol().chars().all(is_printable) {
                cell.set_symbol("?");
            }
        }
    }
}

/// Seconds of age at which the text of [`age`] is next another one.
fn next_age_change(elapsed: i64) -> i64 {
    let step = match elapsed {
        ..600 => 1,
        600..28_800 => 60,
        28_800..691_200 => 3_600,
        _ => 86_400,
    };
    (elapsed.max(-1).div_euclid(step) + 1) * step
}

/// A box of the given size in the middle of an area, never larger than it.
pub fn centered(area: Rect, width: u16, height: u16) -> Rect {
    let (width, height) = (width.min(area.width), height.min(area.height));
    Rect { x: area.x + (area.width - width) / 2, y: area.y + (area.height - height) / 3, width, height }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_renewed_when_their_text_changes() {
        for elapsed in (0..2_000).chain(10_000..11_500).chain(28_000..30_000).chain(691_000..692_000) {
            let next = next_age_change(elapsed);
            assert!(next > elapsed);
            for second in elapsed..next {
                assert_eq!(age(second), age(elapsed), "{elapsed} -> {next}: changed earlier, at {second}");
            }
        }
    }
}
