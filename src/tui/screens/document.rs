//! Text made from an object: its description or its YAML. Searchable, wrapped or not, renewed as the object
//! changes.

use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use regex::{Regex, RegexBuilder};
use serde_json::Value;

use super::super::message::ObjectRef;
use super::super::paint::Paint;
use super::super::state::{FeedLink, Scroll, State};
use super::super::text::{thousands, width};
use super::super::theme::{Meaning, Theme};
use crate::types::text::printable;

/// What the text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// For people.
    Describe,
    /// For machines.
    Yaml,
}

/// A text view on the stack.
#[derive(Debug)]
pub struct Document {
    /// The object.
    pub object: ObjectRef,
    /// What of it.
    pub mode: Mode,
    /// Scrolling.
    pub scroll: Scroll,
    /// Long lines are broken.
    pub wrap: bool,
    /// The search, as typed and as compiled.
    pub search: Option<(String, Regex)>,
    /// Lines with a match, and which one is current.
    pub matches: Vec<usize>,
    /// Position in `matches`.
    pub current: usize,
    plain: Vec<String>,
    version: Option<String>,
}

impl Document {
    /// A view of an object; its text comes with the next [`Document::renew`].
    pub fn new(object: ObjectRef, mode: Mode) -> Self {
        Self {
            object,
            mode,
            scroll: Scroll::default(),
            wrap: mode == Mode::Describe,
            search: None,
            matches: Vec::new(),
            current: 0,
            plain: Vec::new(),
            version: None,
        }
    }

    /// The whole text, for copying.
    pub fn text(&self) -> String {
        let mut text = self.plain.join("\n");
        text.push('\n');
        text
    }

    /// Whether the text is older than the object.
    pub fn outdated(&self, state: &State) -> bool {
        let now = state.object(&self.object).map(|row| version(&row.object));
        now.is_some() && now != self.version
    }

    /// Makes the text again.
    pub fn renew(&mut self, object: &Value) {
        self.version = Some(version(object));
        self.plain = match self.mode {
            Mode::Yaml => yaml(object).lines().map(|l| printable(l).into_owned()).collect(),
            // Descriptions hold ages and events: they are made while drawing, and searched as drawn.
            Mode::Describe => super::describe::plain(object),
        };
        self.find();
    }

    /// Starts a search; the cursor goes to the first match at or below the top line.
    pub fn set_search(&mut self, text: &str) -> Result<(), String> {
        if text.is_empty() {
            self.search = None;
            self.matches.clear();
            return Ok(());
        }
        let build = |pattern: &str| RegexBuilder::new(pattern).case_insensitive(true).size_limit(1 << 20).build();
        let regex = build(text).or_else(|_| build(&regex::escape(text))).map_err(|e| e.to_string())?;
        self.search = Some((text.to_owned(), regex));
        self.find();
        if let Some(line) = self.matches.get(self.current) {
            self.scroll.reveal(*line);
        }
        Ok(())
    }

    fn find(&mut self) {
        let Some((_, regex)) = &self.search else { return };
        self.matches = self.plain.iter().enumerate().filter(|(_, l)| regex.is_match(l)).map(|(i, _)| i).collect();
        self.current = self.current.min(self.matches.len().saturating_sub(1));
    }

    /// To the next or the former match.
    pub fn step(&mut self, forward: bool) {
        let n = self.matches.len();
        if n > 0 {
            self.current = if forward { (self.current + 1) % n } else { (self.current + n - 1) % n };
            self.scroll.reveal(self.matches[self.current]);
        }
    }
}

fn version(object: &Value) -> String {
    object["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned()
}

/// The object as YAML, without the bookkeeping of field owners.
pub fn yaml(object: &Value) -> String {
    let mut object = object.clone();
    if let Some(meta) = object["metadata"].as_object_mut() {
        meta.remove("managedFields");
    }
    serde_saphyr::to_string(&object).unwrap_or_else(|e| format!("# this object cannot be shown as YAML: {e}\n"))
}

/// Draws the view.
pub fn draw(document: &Document, paint: &mut Paint<'_>, area: Rect) {
    title(document, paint, area);
    let body = Rect { y: area.y + 1, height: area.height.saturating_sub(1), ..area };
    let Some(row) = paint.state.object(&document.object) else {
        missing(&document.object, paint, body);
        return;
    };
    let inner = Rect { x: body.x + 1, width: body.width.saturating_sub(3), ..body };
    let lines: Vec<Line<'static>> = match document.mode {
        Mode::Yaml => {
            let digits = document.plain.len().to_string().len();
            let theme = paint.theme;
            let visible = usize::from(body.height);
            let top = document.scroll.measure(document.plain.len(), visible);
            if !document.wrap {
                for (i, line) in document.plain.iter().enumerate().skip(top).take(visible) {
                    let y = inner.y + u16::try_from(i - top).unwrap_or(0);
                    let number = format!("{:>digits$}  ", i + 1);
                    let used = paint.text(inner.x, y, inner.width, &number, theme.style(Meaning::LineNumber));
                    let line = highlight(line, theme);
                    let line = document.mark(line, theme);
                    let line = shifted(line, document.scroll.left());
                    paint.line(inner.x + used, y, inner.width.saturating_sub(used), &line);
                }
                paint.scrollbar(body, top, document.plain.len());
                return;
            }
            document.plain.iter().map(|line| highlight(line, theme)).collect()
        }
        Mode::Describe => {
            let object = row.object.clone();
            super::describe::lines(&document.object, &object, paint, inner.width)
        }
    };
    let lines = if document.wrap { wrap_lines(lines, usize::from(inner.width)) } else { lines };
    let top = document.scroll.measure(lines.len(), usize::from(body.height));
    for (i, line) in lines.iter().skip(top).take(usize::from(body.height)).enumerate() {
        let line = document.mark(line.clone(), paint.theme);
        let line = shifted(line, document.scroll.left());
        paint.line(inner.x, inner.y + u16::try_from(i).unwrap_or(0), inner.width, &line);
    }
    paint.scrollbar(body, top, lines.len());
}

fn title(document: &Document, paint: &mut Paint<'_>, area: Rect) {
    let object = &document.object;
    let right = area.right();
    let mut x = area.x + 1;
    let what = match document.mode {
        Mode::Describe => format!("{} ", object.kind.0.kind),
        Mode::Yaml => format!("{} as YAML ", object.kind.0.kind),
    };
    let (muted, title, accent) =
        (paint.style(Meaning::Muted), paint.style(Meaning::Title), paint.style(Meaning::Match));
    x += paint.text(x, area.y, right.saturating_sub(x), &what, muted);
    x += paint.text(x, area.y, right.saturating_sub(x), &object.path(), title) + 2;
    if let Some((text, _)) = &document.search {
        let position = match document.matches.len() {
            0 => "no match".to_owned(),
            n => format!("{} of {}", thousands(document.current + 1), thousands(n)),
        };
        let shown = format!("/{}  {position}", printable(text));
        paint.text(x, area.y, right.saturating_sub(x), &shown, accent);
    }
}

/// The object is not (yet, or any more) among the live rows.
pub fn missing(object: &ObjectRef, paint: &mut Paint<'_>, area: Rect) {
    let feed = paint.state.covering(object.kind, &object.namespace);
    let text = match feed.map(|f| &f.link) {
        Some(FeedLink::Live | FeedLink::Stale { .. }) => {
            format!("{} {} does not exist any more.", object.kind.0.kind, object.path())
        }
        _ => format!("loading{}", paint.glyph(super::super::theme::Glyph::Ellipsis)),
    };
    let style = paint.style(Meaning::Muted);
    paint.text(area.x + 1, area.y + 1, area.width.saturating_sub(2), &text, style);
}

impl Document {
    /// Matches of the search stand out.
    fn mark(&self, line: Line<'static>, theme: &Theme) -> Line<'static> {
        let Some((_, regex)) = &self.search else { return line };
        let plain: String = line.spans.iter().map(|s| s.content.as_ref()).collect();
        let found: Vec<std::ops::Range<usize>> = regex.find_iter(&plain).map(|m| m.range()).collect();
        if found.is_empty() {
            return line;
        }
        let mut spans: Vec<Span<'static>> = Vec::new();
        let mut offset = 0;
        for span in line.spans {
            for (i, c) in span.content.char_indices() {
                let inside = found.iter().any(|r| r.contains(&(offset + i)));
                let style = if inside { span.style.patch(theme.style(Meaning::Match)) } else { span.style };
                match spans.last_mut() {
                    Some(last) if last.style == style => last.content.to_mut().push(c),
                    _ => spans.push(Span::styled(c.to_string(), style)),
                }
            }
            offset += span.content.len();
        }
        Line::from(spans)
    }
}

/// Styles of one line of YAML. Works line by line, so a block scalar's lines are plain text.
pub fn highlight(line: &str, theme: &Theme) -> Line<'static> {
    let body = line.trim_start();
    let indent = &line[..line.len() - body.len()];
    let mut spans = vec![Span::raw(indent.to_owned())];
    if body.starts_with('#') {
        spans.push(Span::styled(body.to_owned(), theme.style(Meaning::YamlComment)));
        return Line::from(spans);
    }
    let mut rest = body;
    while let Some(tail) = rest.strip_prefix("- ") {
        spans.push(Span::styled("- ", theme.style(Meaning::Muted)));
        rest = tail;
    }
    let key_end = rest.find(": ").or_else(|| rest.ends_with(':').then(|| rest.len() - 1));
    if let Some(end) = key_end.filter(|end| plausible_key(&rest[..*end])) {
        spans.push(Span::styled(rest[..end].to_owned(), theme.style(Meaning::YamlKey)));
        spans.push(Span::styled(":", theme.style(Meaning::Muted)));
        rest = &rest[end + 1..];
    }
    if !rest.is_empty() {
        spans.push(Span::styled(rest.to_owned(), value_style(rest.trim(), theme)));
    }
    Line::from(spans)
}

fn plausible_key(text: &str) -> bool {
    let quoted = text.starts_with(['"', '\'']);
    quoted || (!text.is_empty() && !text.contains(' '))
}

fn value_style(value: &str, theme: &Theme) -> Style {
    let number = value.parse::<f64>().is_ok() || matches!(value, "true" | "false" | "null" | "~");
    theme.style(if number { Meaning::YamlNumber } else { Meaning::YamlString })
}

/// The line without its first cells.
fn shifted(line: Line<'static>, cells: usize) -> Line<'static> {
    use unicode_segmentation::UnicodeSegmentation;
    if cells == 0 {
        return line;
    }
    let mut skip = cells;
    let mut spans = Vec::new();
    for span in line.spans {
        let mut kept = String::new();
        for grapheme in span.content.graphemes(true) {
            let w = width(grapheme);
            if skip >= w.max(1) {
                skip -= w;
            } else {
                skip = 0;
                kept.push_str(grapheme);
            }
        }
        if !kept.is_empty() {
            spans.push(Span::styled(kept, span.style));
        }
    }
    Line::from(spans)
}

/// Breaks styled lines at `cells`; continuation lines keep the indent of their line.
fn wrap_lines(lines: Vec<Line<'static>>, cells: usize) -> Vec<Line<'static>> {
    use unicode_segmentation::UnicodeSegmentation;
    let mut out = Vec::new();
    for line in lines {
        if line.width() <= cells {
            out.push(line);
            continue;
        }
        let plain: String = line.spans.iter().map(|s| s.content.as_ref()).collect();
        let indent = (plain.len() - plain.trim_start().len() + 2).min(cells / 2);
        let mut row: Vec<Span<'static>> = Vec::new();
        let mut used = 0;
        for span in line.spans {
            for word in span.content.split_word_bounds() {
                let w = width(word);
                if used + w > cells && used > indent {
                    out.push(Line::from(std::mem::take(&mut row)));
                    row.push(Span::raw(" ".repeat(indent)));
                    used = indent;
                    if word.trim().is_empty() {
                        continue;
                    }
                }
                let mut piece = String::new();
                for grapheme in word.graphemes(true) {
                    let w = width(grapheme);
                    if used + w > cells {
                        row.push(Span::styled(std::mem::take(&mut piece), span.style));
                        out.push(Line::from(std::mem::take(&mut row)));
                        row.push(Span::raw(" ".repeat(indent)));
                        used = indent;
                    }
                    piece.push_str(grapheme);
                    used += w;
                }
                row.push(Span::styled(piece, span.style));
            }
        }
        out.push(Line::from(row));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(line: &Line<'_>) -> String {
        line.spans.iter().map(|s| s.content.as_ref()).collect()
    }

    #[test]
    fn yaml_lines_keep_their_text() {
        let theme = Theme::builtin("dark");
        for text in ["a: 1", "  - name: x", "# note", "  key:", "- - a", "free text: with colon", "\"a b\": c"] {
            assert_eq!(plain(&highlight(text, &theme)), text);
        }
        let line = highlight("cores: 2", &theme);
        assert_eq!(line.spans[1].style, theme.style(Meaning::YamlKey));
        assert_eq!(line.spans[3].style, theme.style(Meaning::YamlNumber));
    }

    #[test]
    fn long_lines_wrap_or_shift() {
        let lines = wrap_lines(vec![Line::raw("  alpha beta gamma delta")], 14);
        let texts: Vec<String> = lines.iter().map(plain).collect();
        assert_eq!(texts, ["  alpha beta ", "    gamma ", "    delta"]);
        assert_eq!(plain(&shifted(Line::raw("abcdef"), 2)), "cdef");
    }
}
