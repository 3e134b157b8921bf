//! The frame: header, the view on top, news, hints, and boxes over it all.

mod boxes;
mod header;
mod help;

use ratatui::buffer::Buffer;
use ratatui::layout::{Position, Rect};
use ratatui::text::{Line, Span};

use super::action::{Action, Possible};
use super::overlay::Overlay;
use super::paint::Paint;
use super::screens::{View, document, edit, list, logs, machine};
use super::state::{Front, State, TaskState};
use super::table::Millis;
use super::text::width;
use super::theme::{Glyph, Meaning};

/// Smallest terminal that is drawn on.
pub const SMALLEST: (u16, u16) = (60, 15);

/// What a drawing leaves behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drawn {
    /// Where the text cursor goes.
    pub cursor: Option<Position>,
    /// When something shown changes by itself.
    pub due: Option<Millis>,
}

/// Areas of a frame.
struct Areas {
    header: Rect,
    body: Rect,
    news: Rect,
    hints: Rect,
}

fn areas(state: &State) -> Areas {
    let (columns, rows) = state.size;
    let news = u16::try_from(news_lines(state)).unwrap_or(0).min(3);
    let body = rows.saturating_sub(2 + news);
    Areas {
        header: Rect::new(0, 0, columns, 1.min(rows)),
        body: Rect::new(0, 1, columns, body),
        news: Rect::new(0, 1 + body, columns, news),
        hints: Rect::new(0, rows.saturating_sub(1), columns, 1.min(rows)),
    }
}

/// Views with hints of their own get the last line too, unless news are in between.
fn whole_body(areas: &Areas) -> Rect {
    match areas.news.height {
        0 => Rect { height: areas.body.height + areas.hints.height, ..areas.body },
        _ => areas.body,
    }
}

fn news_lines(state: &State) -> usize {
    let running = state.tasks.iter().any(|t| matches!(t.state, TaskState::Running { .. }));
    let errors = !state.errors.is_empty() && !matches!(state.view(), View::Errors(_));
    usize::from(running && !matches!(state.view(), View::Tasks(_)))
        + usize::from(state.notice.is_some())
        + usize::from(errors)
}

/// Rows that a list or text shows at once.
pub fn body_height(state: &State) -> u16 {
    let lines = match state.view() {
        View::List(_) => 2,
        View::Errors(_) | View::Tasks(_) | View::Contexts(_) => 2,
        View::Machine(_) | View::Text(_) => 1,
        View::Edit(_) | View::Form(_) => 0,
    };
    areas(state).body.height.saturating_sub(lines)
}

/// Where the consoles are drawn.
pub fn console_area(state: &State) -> Rect {
    let (columns, rows) = state.size;
    Rect::new(0, 1, columns, rows.saturating_sub(1))
}

/// Whether mouse events are of use: only to a guest that asked for them.
pub fn wants_mouse(state: &State) -> bool {
    state.front == Front::Consoles && state.overlays.is_empty() && state.consoles.wants_mouse()
}

/// Draws everything.
pub fn draw(state: &State, buffer: &mut Buffer) -> Drawn {
    let mut paint = Paint::new(state, buffer);
    let whole = Rect::new(0, 0, state.size.0, state.size.1).intersection(paint.buffer.area);
    let base = paint.style(Meaning::Text);
    paint.fill(whole, base);
    if whole.width < SMALLEST.0 || whole.height < SMALLEST.1 {
        too_small(&mut paint, whole);
        return Drawn { cursor: None, due: None };
    }
    let areas = areas(state);
    header::draw(&mut paint, areas.header);
    if state.front == Front::Consoles {
        state.consoles.view(paint.buffer, &state.theme);
        paint.cursor = state.consoles.cursor();
    } else {
        match state.view() {
            View::List(list) => list::draw(list, &mut paint, areas.body),
            View::Machine(view) => machine::draw(view, &mut paint, areas.body),
            View::Text(view) => document::draw(view, &mut paint, areas.body),
            View::Errors(entries) => logs::errors(entries, &mut paint, areas.body),
            View::Tasks(entries) => logs::tasks(entries, &mut paint, areas.body),
            View::Contexts(entries) => logs::contexts(entries, &mut paint, areas.body),
            View::Edit(view) => edit::draw_edit(view, &mut paint, whole_body(&areas)),
            View::Form(view) => edit::draw_form(view, &mut paint, whole_body(&areas)),
        }
        news(&mut paint, areas.news);
        if !matches!(state.view(), View::Edit(_) | View::Form(_)) {
            hints(&mut paint, areas.hints);
        }
    }
    let middle = Rect { y: 1, height: whole.height - 2, ..whole };
    for overlay in &state.overlays {
        paint.cursor = None;
        match overlay {
            Overlay::Command(line) => boxes::command(line, &mut paint, whole),
            Overlay::Filter(line) => boxes::filter(line, &mut paint, areas.hints),
            Overlay::Palette(palette) => boxes::palette(palette, &mut paint, middle),
            Overlay::Menu(menu) => boxes::menu(menu, &mut paint, middle),
            Overlay::Confirm(confirm) => boxes::confirm(confirm, &mut paint, middle),
            Overlay::Ask(ask) => boxes::ask(ask, &mut paint, middle),
            Overlay::Help(view) => help::draw(view, &mut paint, middle),
        }
    }
    paint.scrub();
    Drawn { cursor: paint.cursor, due: paint.due() }
}

fn too_small(paint: &mut Paint<'_>, area: Rect) {
    let style = paint.style(Meaning::Text);
    let lines = [
        format!("vmdeck needs {}x{}", SMALLEST.0, SMALLEST.1),
        format!("this terminal is {}x{}", area.width, area.height),
        "enlarge it, or use one-shot commands:".to_owned(),
        "vmdeck get vm".to_owned(),
    ];
    for (i, line) in lines.iter().enumerate().take(usize::from(area.height)) {
        paint.text(area.x, area.y + u16::try_from(i).unwrap_or(0), area.width, line, style);
    }
}

/// Running task, notice, newest error: each one line, only while there is one.
fn news(paint: &mut Paint<'_>, area: Rect) {
    let state = paint.state;
    let mut y = area.y;
    let cells = area.width.saturating_sub(2);
    let running: Vec<_> = state.tasks.iter().filter(|t| matches!(t.state, TaskState::Running { .. })).collect();
    if let Some(task) = running.last()
        && !matches!(state.view(), View::Tasks(_))
        && y < area.bottom()
    {
        let (sign, note, style) = logs::task_line(task, paint);
        let more = if running.len() > 1 { format!("  (+{} more)", running.len() - 1) } else { String::new() };
        let key = state.keymap.label(Action::Tasks);
        let text = format!("{sign} {}  {note}{more}  {key} tasks", task.title);
        paint.text(area.x + 1, y, cells, &text, style);
        y += 1;
    }
    if let Some(notice) = &state.notice
        && y < area.bottom()
    {
        paint.wake_at(notice.until);
        let (glyph, meaning) = if notice.good { (Glyph::Check, Meaning::Good) } else { (Glyph::Dot, Meaning::Warn) };
        let text = format!("{} {}", paint.glyph(glyph), notice.text);
        let style = paint.style(meaning);
        paint.text(area.x + 1, y, cells, &text, style);
        y += 1;
    }
    if let Some(error) = state.errors.last()
        && !matches!(state.view(), View::Errors(_))
        && y < area.bottom()
    {
        let first = error.failure.text.lines().next().unwrap_or_default();
        let key = state.keymap.label(Action::Errors);
        let tail = match state.errors.len() {
            1 => format!("  {key} reads"),
            n => format!("  {key} reads all {n}"),
        };
        let style = paint.style(Meaning::Bad);
        let room = cells.saturating_sub(u16::try_from(width(&tail)).unwrap_or(0));
        let text = format!("{} {}: {first}", paint.glyph(Glyph::Failed), error.title);
        let used = paint.text(area.x + 1, y, room, &text, style);
        let style = paint.style(Meaning::Hint);
        paint.text(area.x + 1 + used, y, cells.saturating_sub(used), &tail, style);
    }
}

/// Keys that are worth knowing here, with what they do; from the live keymap.
fn hints(paint: &mut Paint<'_>, area: Rect) {
    let state = paint.state;
    if let Some(count) = state.count {
        let style = paint.style(Meaning::Key);
        paint.text(area.x + 1, area.y, area.width, &format!("{count}"), style);
        return;
    }
    let wanted: &[Action] = match state.view() {
        View::List(list) if list.kind.0.kind == "VirtualMachine" => &[
            Action::Open,
            Action::Console,
            Action::Edit,
            Action::Start,
            Action::Stop,
            Action::Restart,
            Action::Create,
            Action::Menu,
            Action::Filter,
            Action::Sort,
            Action::Wide,
        ],
        View::List(_) => &[
            Action::Open,
            Action::Upload,
            Action::Edit,
            Action::Create,
            Action::Delete,
            Action::Yaml,
            Action::Menu,
            Action::Filter,
            Action::Sort,
            Action::Wide,
        ],
        View::Machine(_) => &[
            Action::Console,
            Action::Edit,
            Action::Start,
            Action::Stop,
            Action::Restart,
            Action::Attach,
            Action::Yaml,
            Action::Menu,
            Action::Back,
        ],
        View::Text(_) => &[
            Action::Filter,
            Action::NextMatch,
            Action::Wide,
            Action::Copy,
            Action::Describe,
            Action::Yaml,
            Action::Edit,
            Action::Back,
        ],
        View::Errors(_) => &[Action::Open, Action::Dismiss, Action::DismissAll, Action::Back],
        View::Tasks(_) => &[Action::Open, Action::Dismiss, Action::DismissAll, Action::Back],
        View::Contexts(_) => &[Action::Open, Action::Back],
        View::Edit(_) | View::Form(_) => &[],
    };
    let (key_style, hint_style, off) =
        (paint.style(Meaning::Key), paint.style(Meaning::Hint), paint.style(Meaning::Disabled));
    // The way to everything else stands at the right end whatever happens to the rest.
    let mut tail: Vec<Span<'_>> = Vec::new();
    if !state.consoles.is_empty() {
        let n = super::text::count(state.consoles.sessions().len(), "console", "consoles");
        tail.push(Span::styled(state.keymap.label(Action::Consoles), key_style));
        tail.push(Span::styled(format!(" {n}  "), hint_style));
    }
    for action in [Action::Command, Action::Help] {
        tail.push(Span::styled(state.keymap.label(action), key_style));
        tail.push(Span::styled(format!(" {}  ", action.row().label), hint_style));
    }
    let tail_cells = u16::try_from(tail.iter().map(Span::width).sum::<usize>()).unwrap_or(0);
    let mut line: Vec<Span<'_>> = vec![Span::raw(" ")];
    let mut used = 1;
    for action in wanted {
        let key = state.keymap.label(*action);
        let label = match (action, state.view()) {
            (Action::Filter, View::Text(_)) => "search",
            (Action::Wide, View::Text(_)) => "wrap",
            (Action::Open, View::Contexts(_)) => "connect",
            (Action::Open, View::Errors(_) | View::Tasks(_)) => "go to object",
            _ => action.row().label,
        };
        let possible = match (action, state.view()) {
            // The rows of these views are not objects of the API.
            (Action::Open, View::Contexts(_) | View::Errors(_) | View::Tasks(_)) => Possible::Yes,
            _ => state.possible(*action),
        };
        if key.is_empty() || possible == Possible::Absent {
            continue;
        }
        let cells = width(&key) + 1 + width(label) + 2;
        if used + cells > usize::from(area.width.saturating_sub(tail_cells)) {
            break;
        }
        used += cells;
        let usable = possible == Possible::Yes;
        line.push(Span::styled(key, if usable { key_style } else { off }));
        line.push(Span::styled(format!(" {label}  "), if usable { hint_style } else { off }));
    }
    let line = Line::from(line);
    paint.line(area.x, area.y, area.width, &line);
    let line = Line::from(tail);
    paint.line(area.right().saturating_sub(tail_cells), area.y, tail_cells, &line);
}
