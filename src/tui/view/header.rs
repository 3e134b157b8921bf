//! The top line: which engine and why, how it runs guests, how old the data is.

use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::super::message::Kind;
use super::super::paint::Paint;
use super::super::state::{FeedLink, Front, Link, State};
use super::super::text::{fit, width};
use super::super::theme::{Glyph, Meaning};
use crate::client::Engine;
use crate::types::kinds;
use crate::types::text::printable;

/// Draws the line.
pub fn draw(paint: &mut Paint<'_>, area: Rect) {
    let (bar, key, danger) =
        (paint.style(Meaning::Header), paint.style(Meaning::HeaderKey), paint.style(Meaning::HeaderDanger));
    paint.fill(area, bar);
    let state = paint.state;
    let right = right_side(paint);
    let right_cells = right.iter().map(|(t, _)| width(t)).sum::<usize>();
    let mut left: Vec<Span<'_>> = vec![Span::styled(" vmdeck ", key), Span::styled(" ", bar)];
    let mut reason = String::new();
    match &state.link {
        Link::Connected(info) => {
            match &info.engine {
                Engine::Local { .. } => left.push(Span::styled("local host", key)),
                Engine::Cluster { context } => {
                    let name = printable(context).into_owned();
                    if production(&name) {
                        left.push(Span::styled(format!(" PRODUCTION {name} "), danger));
                    } else {
                        left.push(Span::styled(name, key));
                    }
                }
            }
            reason = printable(&info.reason).into_owned();
        }
        Link::Connecting { what, since } => {
            let text = super::super::screens::list::connecting(paint, what, *since);
            left.push(Span::styled(text, bar));
        }
        Link::Failed(_) => {
            let style = bar.patch(Style { bg: None, ..paint.style(Meaning::Bad) });
            left.push(Span::styled("no connection", style));
        }
    }
    let used = left.iter().map(Span::width).sum::<usize>();
    let room = usize::from(area.width).saturating_sub(used + right_cells + 4);
    if !reason.is_empty() && room >= 12 {
        left.push(Span::styled(format!(" {} ", paint.glyph(Glyph::Dot)), bar));
        left.push(Span::styled(fit(&reason, room, paint.glyph(Glyph::Ellipsis)), bar));
    }
    let line = Line::from(left);
    let left_cells = area.width.saturating_sub(u16::try_from(right_cells + 2).unwrap_or(0)).max(20);
    paint.line(area.x, area.y, left_cells, &line);
    let mut x = area.right().saturating_sub(u16::try_from(right_cells + 1).unwrap_or(0));
    for (text, style) in right {
        x += paint.text(x, area.y, area.right().saturating_sub(x), &text, bar.patch(style));
    }
}

/// Names that mean "mind what you do".
fn production(name: &str) -> bool {
    name.split(|c: char| !c.is_ascii_alphanumeric()).any(|part| {
        let part = part.to_ascii_lowercase();
        part == "prod" || part == "production" || part == "live"
    })
}

/// Accelerator, and how fresh the data is.
fn right_side(paint: &mut Paint<'_>) -> Vec<(String, Style)> {
    let state = paint.state;
    let bare = |style: Style| Style { bg: None, ..style };
    let mut parts = Vec::new();
    if state.front == Front::Consoles {
        // The console has no line of its own for this.
        if let Some(notice) = &state.notice {
            paint.wake_at(notice.until);
            return vec![(notice.text.clone(), bare(paint.style(Meaning::Warn)))];
        }
        if let Some(error) = state.errors.last() {
            return vec![(format!("{} {}", paint.glyph(Glyph::Failed), error.title), bare(paint.style(Meaning::Bad)))];
        }
    }
    if let Some((word, slow)) = accelerator(state) {
        let meaning = if slow { Meaning::Warn } else { Meaning::Header };
        parts.push((word, bare(paint.style(meaning))));
    }
    let stale = shown_feeds(state).find_map(|link| match link {
        FeedLink::Stale { since, .. } => Some(*since),
        _ => None,
    });
    if let Some(since) = stale {
        let seconds = (state.now - since).max(0) / 1000;
        paint.wake_at(since + (seconds + 1) * 1000);
        if !parts.is_empty() {
            parts.push(("  ".into(), Style::default()));
        }
        let text = format!("{} stale {seconds} s, retrying", paint.glyph(Glyph::Warning));
        parts.push((text, bare(paint.style(Meaning::Warn))));
    }
    parts
}

/// The connections behind what is on the screen.
fn shown_feeds(state: &State) -> impl Iterator<Item = &FeedLink> {
    let needs = state.view().needs(state.namespace.as_deref());
    needs
        .into_iter()
        .filter_map(move |(kind, namespace)| match namespace {
            Some(namespace) => state.covering(kind, &namespace),
            None => state.feed(kind, None),
        })
        .map(|feed| &feed.link)
}

/// What runs the guests of a standalone host, as its Node says; `true` when that is slow.
fn accelerator(state: &State) -> Option<(String, bool)> {
    if !state.standalone() {
        return None;
    }
    let kind = Kind(kinds::by_resource("", "nodes")?);
    let row = state.feed(kind, None)?.table.rows().first()?;
    let annotations = &row.object["metadata"]["annotations"];
    let word = annotations["vmdeck.io/accelerator"].as_str()?;
    match word {
        "kvm" => Some(("KVM".into(), false)),
        "tcg" if state.size.0 >= 110 => Some(("TCG: no hardware virtualization, guests are slow".into(), true)),
        "tcg" if state.size.0 >= 70 => Some(("TCG: guests are slow".into(), true)),
        "tcg" => Some(("TCG".into(), true)),
        other => Some((printable(other).into_owned(), false)),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn production_contexts_are_recognised_by_whole_words() {
        assert!(super::production("eu-prod-1") && super::production("Production"));
        assert!(!super::production("product-dev") && !super::production("olive"));
    }
}
