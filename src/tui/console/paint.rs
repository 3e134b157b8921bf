//! Draws the pane: a rule with tabs, the guest's screen, a rule with state and keys.

use ratatui::buffer::Buffer;
use ratatui::layout::{Position, Rect};
use ratatui::style::{Color, Modifier, Style};
use unicode_width::UnicodeWidthStr;

use super::{ConsolePane, Keyboard, Link, Session};
use crate::term::{self, Cell, Frame};
use crate::tui::text;
use crate::tui::theme::{Depth, Glyph, Meaning, Theme};

/// Longest label of a tab, in cells.
const TAB_WIDTH: usize = 24;

/// The part of `area` that shows the guest's screen: all but the first and last line, full width.
pub(super) fn screen_area(area: Rect) -> Rect {
    Rect { y: area.y.saturating_add(1), height: area.height.saturating_sub(2), ..area }
}

/// Which tab is drawn at a place.
pub(super) fn tab_at(pane: &ConsolePane, column: u16, row: u16) -> Option<usize> {
    if row != pane.area.y || pane.area.is_empty() {
        return None;
    }
    tabs(pane).into_iter().position(|(x, label)| {
        let width = u16::try_from(label.width()).unwrap_or(u16::MAX);
        column >= x && column < x.saturating_add(width)
    })
}

/// Place and label of each tab that fits.
fn tabs(pane: &ConsolePane) -> Vec<(u16, String)> {
    let mut x = pane.area.x.saturating_add(1);
    let mut out = Vec::new();
    for (i, session) in pane.sessions.iter().enumerate() {
        let name = session.target.label();
        let label = format!(" {} {} ", i + 1, text::fit(&crate::types::text::printable(&name), TAB_WIDTH, "~"));
        let width = u16::try_from(label.width()).unwrap_or(u16::MAX);
        if x.saturating_add(width).saturating_add(2) > pane.area.right() {
            break;
        }
        out.push((x, label));
        // One cell for the tab's sign.
        x = x.saturating_add(width).saturating_add(2);
    }
    out
}

impl ConsolePane {
    /// Draws into the area given to [`ConsolePane::resize`].
    pub fn view(&self, buffer: &mut Buffer, theme: &Theme) {
        let area = self.area.intersection(buffer.area);
        if area.height < 3 || area.width < 10 {
            return;
        }
        buffer.set_style(area, theme.style(Meaning::Text));
        self.draw_tabs(buffer, theme);
        let Some(session) = self.active() else {
            buffer.set_stringn(
                area.x + 1,
                area.y + 1,
                "no console is open",
                usize::from(area.width - 1),
                theme.style(Meaning::Muted),
            );
            return;
        };
        let mut frame = self.frame.lock();
        session.emulator.copy_frame(&mut frame);
        draw_screen(&frame, self.screen, buffer, theme, !matches!(session.link, Link::Live | Link::Connecting));
        if self.keyboard != Keyboard::Guest
            && let Some((row, column)) = session.view_cursor
            && let Some(cell) = buffer.cell_mut((self.screen.x + column, self.screen.y + row))
        {
            cell.modifier.toggle(Modifier::REVERSED);
            cell.modifier.insert(Modifier::UNDERLINED);
        }
        self.draw_state(session, &frame, buffer, theme);
    }

    /// Where the terminal's own cursor belongs: the guest's, or the search line's.
    pub fn cursor(&self) -> Option<Position> {
        match &self.keyboard {
            Keyboard::Guest => {
                let session = self.active().filter(|s| s.is_live())?;
                let cursor = session.emulator.cursor()?;
                let place = Position::new(self.screen.x + cursor.column, self.screen.y + cursor.row);
                self.screen.contains(place).then_some(place)
            }
            Keyboard::Pane => None,
            Keyboard::Search(input) => {
                let mut scratch = Buffer::empty(Rect::new(0, 0, self.area.width, 1));
                let place = input.view(search_area(scratch.area), &mut scratch, Style::new());
                Some(Position::new(self.area.x + place.x, self.area.bottom().saturating_sub(1)))
            }
        }
    }

    fn draw_tabs(&self, buffer: &mut Buffer, theme: &Theme) {
        let area = self.area;
        rule(buffer, Rect { height: 1, ..area }, self.rule_style(theme), theme);
        let mut end = area.x;
        for (i, (x, label)) in tabs(self).into_iter().enumerate() {
            let session = &self.sessions[i];
            let style = theme.style(if i == self.active { Meaning::TabActive } else { Meaning::Tab });
            let (after, _) = buffer.set_stringn(x, area.y, &label, usize::from(area.right() - x), style);
            let (sign, meaning) = match &session.link {
                Link::Connecting => (Glyph::Busy, Meaning::Busy),
                Link::Live if session.unseen => (Glyph::Now, Meaning::Info),
                Link::Live => (Glyph::Running, Meaning::Good),
                Link::Lost { .. } => (Glyph::Warning, Meaning::Warn),
                Link::Ended { .. } => (Glyph::Stopped, Meaning::Idle),
            };
            buffer.set_string(after, area.y, theme.glyph(sign), style.patch(theme.style(meaning)));
            end = after + 1;
        }
        let hidden = self.sessions.len() - tabs(self).len();
        if hidden > 0 {
            let room = usize::from(area.right().saturating_sub(end));
            buffer.set_stringn(end, area.y, format!(" +{hidden}"), room, theme.style(Meaning::Muted));
            end = (end + 4).min(area.right());
        }
        // The guest's title, at the right end.
        if let Some(title) = self.active().and_then(|s| s.title.as_deref()) {
            let room = usize::from(area.right().saturating_sub(end)).saturating_sub(4);
            let title = text::fit(title, room, theme.glyph(Glyph::Ellipsis));
            if room > 4 {
                let x = area.right() - 2 - u16::try_from(title.width()).unwrap_or(0);
                buffer.set_string(x, area.y, format!(" {title} "), theme.style(Meaning::Muted));
            }
        }
    }

    fn rule_style(&self, theme: &Theme) -> Style {
        theme.style(if self.keyboard == Keyboard::Guest { Meaning::BorderFocus } else { Meaning::Border })
    }

    fn draw_state(&self, session: &Session, frame: &Frame, buffer: &mut Buffer, theme: &Theme) {
        let line = Rect { y: self.area.bottom() - 1, height: 1, ..self.area };
        rule(buffer, line, self.rule_style(theme), theme);
        if let Keyboard::Search(input) = &self.keyboard {
            buffer.set_style(line, theme.style(Meaning::Input));
            buffer.set_string(line.x, line.y, " search: ", theme.style(Meaning::Accent));
            let area = Rect { y: line.y, ..search_area(line) };
            for x in area.left()..area.right() {
                buffer[(x, line.y)].set_symbol(" ");
            }
            input.view(area, buffer, theme.style(Meaning::Input));
            return;
        }
        let guest = self.keyboard == Keyboard::Guest;
        let right = right_text(session, frame, guest);
        let right_width = u16::try_from(right.width()).unwrap_or(0);
        let right_x = line.right().saturating_sub(right_width + 1);
        buffer.set_stringn(right_x, line.y, &right, usize::from(right_width), theme.style(Meaning::Muted));
        let mut pen = Pen { x: line.x + 1, y: line.y, end: right_x.saturating_sub(1), buffer, theme };
        let leave = self.leave.to_string();
        if guest {
            // The way out comes first: it must be readable in every state.
            pen.hint(&leave, "frees the keyboard");
        }
        if let Some((text, meaning)) = link_text(session, &leave) {
            pen.text(&text, meaning);
        }
        if guest {
            pen.hint("shift-PgUp", "scrolls");
        } else if session.selecting {
            for (key, does) in [("arrows", "grow"), ("y", "copy"), ("v", "begin here"), ("Esc", "drop the selection")] {
                pen.hint(key, does);
            }
        } else {
            for key in PANE_KEYS.iter().filter(|k| !k.hint.is_empty()) {
                pen.hint(key.keys, if key.keys == "r" && session.read_only { "writable" } else { key.hint });
            }
        }
    }
}

/// One line of the help for the pane's keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PaneKey {
    /// The keys, as they are written.
    pub keys: &'static str,
    /// What they do, in one or two words; empty for keys that are only in the help.
    pub hint: &'static str,
    /// What they do, for the help.
    pub help: &'static str,
}

const fn pane_key(keys: &'static str, hint: &'static str, help: &'static str) -> PaneKey {
    PaneKey { keys, hint, help }
}

/// Keys while the keyboard is in the pane, most needed first.
pub static PANE_KEYS: &[PaneKey] = &[
    pane_key("Enter", "type", "the keyboard goes back to the guest"),
    pane_key("q", "leave", "leave the consoles; they stay connected (also Esc, or the leave chord again)"),
    pane_key("y", "copy", "copy the selection, or the screen if nothing is selected"),
    pane_key("v", "select", "begin a selection and grow it with the arrow keys; V selects lines"),
    pane_key("/", "search", "search in screen and scrollback; n older, N newer match"),
    pane_key("s", "stty", "type `stty rows R cols C` into the guest's shell: a serial line carries no size"),
    pane_key("p", "send chord", "send the leave chord itself to the guest, once"),
    pane_key("r", "read-only", "read-only: keys and pastes are not sent; again to undo"),
    pane_key("Tab", "next", "next console; shift-Tab the one before, 1 to 9 by number"),
    pane_key("x", "close", "disconnect this console and close its tab"),
    pane_key("?", "help", "all keys of this view"),
    pane_key("PgUp PgDn", "", "scroll by a screen; arrows by a line, g and G to the ends"),
    pane_key("Y", "", "copy everything held, scrollback included"),
    pane_key("c", "", "connect again now"),
];

fn search_area(line: Rect) -> Rect {
    Rect { x: line.x + 9, width: line.width.saturating_sub(10), ..line }
}

fn link_text(session: &Session, leave: &str) -> Option<(String, Meaning)> {
    match &session.link {
        Link::Connecting => Some(("connecting".into(), Meaning::Busy)),
        Link::Live if session.read_only => Some(("read-only".into(), Meaning::Warn)),
        Link::Live => None,
        Link::Lost { why, attempt: 0 } => Some((format!("disconnected, reconnecting: {why}"), Meaning::Warn)),
        Link::Lost { why, attempt } => Some((format!("disconnected, try {attempt}: {why}"), Meaning::Warn)),
        Link::Ended { why } => Some((format!("ended: {why}; {leave} then c connects again"), Meaning::Bad)),
    }
}

fn right_text(session: &Session, frame: &Frame, viewers: bool) -> String {
    let mut parts = Vec::new();
    if let Some(viewers) = session.viewers.as_ref().filter(|_| viewers) {
        parts.push(crate::types::text::printable(viewers).into_owned());
    }
    if frame.scrolled_back > 0 {
        parts.push(format!("{} of {} lines back", frame.scrolled_back, frame.history));
    }
    parts.push(format!("{}x{}", frame.columns(), frame.rows()));
    format!(" {} ", parts.join(", "))
}

/// Writes along a line and stops before its end.
struct Pen<'a> {
    x: u16,
    y: u16,
    end: u16,
    buffer: &'a mut Buffer,
    theme: &'a Theme,
}

impl Pen<'_> {
    fn room(&self) -> usize {
        usize::from(self.end.saturating_sub(self.x))
    }

    fn text(&mut self, text: &str, meaning: Meaning) {
        let text = format!(" {} ", text::fit(text, self.room().saturating_sub(2), self.theme.glyph(Glyph::Ellipsis)));
        let (x, _) = self.buffer.set_stringn(self.x, self.y, text, self.room(), self.theme.style(meaning));
        self.x = x;
    }

    /// A hint is drawn whole or not at all.
    fn hint(&mut self, key: &str, does: &str) {
        if key.width() + does.width() + 3 > self.room() {
            return;
        }
        let (x, _) =
            self.buffer.set_stringn(self.x, self.y, format!(" {key}"), self.room(), self.theme.style(Meaning::Key));
        let (x, _) =
            self.buffer.set_stringn(x, self.y, format!(" {does} "), self.room(), self.theme.style(Meaning::Hint));
        self.x = x;
    }
}

fn rule(buffer: &mut Buffer, line: Rect, style: Style, theme: &Theme) {
    let symbol = theme.border_set().horizontal_top;
    for x in line.left()..line.right() {
        if let Some(cell) = buffer.cell_mut((x, line.y)) {
            cell.set_symbol(symbol).set_style(style);
        }
    }
}

/// Paints a guest's screen. Whatever the guest sent stays inside `area`, and no cell holds more than its width.
fn draw_screen(frame: &Frame, area: Rect, buffer: &mut Buffer, theme: &Theme, faded: bool) {
    let base = theme.style(Meaning::Text);
    let selected = theme.style(Meaning::Selection);
    let matched = theme.style(Meaning::Match);
    let depth = theme.depth();
    for row in 0..frame.rows().min(area.height) {
        for (cell, x) in frame.row(row).iter().zip(area.left()..area.right()) {
            let Some(out) = buffer.cell_mut((x, area.y + row)) else {
                continue;
            };
            // A wide character in the last column of a narrower area has no room for its second half.
            let fits = !cell.wide || x + 1 < area.right();
            set_symbol(out, cell, fits);
            let mut style = base.patch(cell_style(cell, depth));
            if faded {
                style = style.add_modifier(Modifier::DIM);
            }
            if cell.matched {
                style = style.patch(matched);
            }
            if cell.selected {
                style = style.patch(selected);
            }
            out.set_style(style);
        }
    }
}

fn set_symbol(out: &mut ratatui::buffer::Cell, cell: &Cell, fits: bool) {
    let width = 1 + usize::from(cell.wide);
    cell.text.with(|text| {
        if text.is_empty() {
            // The second half of a wide character: ratatui skips it when it draws the first.
            out.set_symbol(" ");
        } else if !fits || cell.attributes.hidden {
            out.set_symbol(" ");
        } else if text.width() == width {
            out.set_symbol(text);
        } else {
            // Marks that change the width (an emoji selector, say) would shift the rest of the line.
            match text.chars().next() {
                Some(c) if unicode_width::UnicodeWidthChar::width(c) == Some(width) => out.set_char(c),
                _ => out.set_symbol(" "),
            };
        }
    });
}

fn cell_style(cell: &Cell, depth: Depth) -> Style {
    let mut style = Style::new();
    if let Some(color) = guest_color(cell.foreground, depth) {
        style = style.fg(color);
    }
    if let Some(color) = guest_color(cell.background, depth) {
        style = style.bg(color);
    }
    let a = cell.attributes;
    for (on, modifier) in [
        (a.bold, Modifier::BOLD),
        (a.dim, Modifier::DIM),
        (a.italic, Modifier::ITALIC),
        (a.underline, Modifier::UNDERLINED),
        (a.inverse, Modifier::REVERSED),
        (a.strikeout, Modifier::CROSSED_OUT),
    ] {
        if on {
            style = style.add_modifier(modifier);
        }
    }
    style
}

/// The guest's colours are the user's palette; `None` leaves the theme's text colour.
fn guest_color(color: term::Color, depth: Depth) -> Option<Color> {
    match color {
        term::Color::Default => None,
        term::Color::Indexed(index) => depth.fit(Color::Indexed(index)),
        term::Color::Rgb(r, g, b) => depth.fit(Color::Rgb(r, g, b)),
    }
}
