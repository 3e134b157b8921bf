//! Search through screen and scrollback.

use alacritty_terminal::event::EventListener;
use alacritty_terminal::grid::Dimensions;
use alacritty_terminal::index::{Column, Direction, Line, Point, Side};
use alacritty_terminal::term::Term;
use alacritty_terminal::term::search::{Match, RegexIter, RegexSearch};

/// Which way to look from the present match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SearchDirection {
    /// Toward older output.
    Older,
    /// Toward newer output.
    Newer,
}

/// What a search step found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SearchOutcome {
    /// A match is now in view.
    Found,
    /// A match is in view; the search went round past the end.
    Wrapped,
    /// No match anywhere.
    Nothing,
}

/// A pattern that cannot be searched for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{pattern}` cannot be searched for: it is too long or too complex")]
pub struct SearchError {
    /// What was asked.
    pub pattern: String,
}

/// A search in progress: the compiled pattern and the present match.
pub(super) struct Search {
    regex: RegexSearch,
    present: Option<Match>,
}

impl Search {
    /// Looks for `text` literally; capitals make it case-sensitive.
    pub(super) fn new(text: &str) -> Result<Self, SearchError> {
        let regex = RegexSearch::new(&regex::escape(text))
            .map_err(|_| SearchError { pattern: text.chars().take(40).collect() })?;
        Ok(Self { regex, present: None })
    }

    /// Moves to the next match and scrolls it into view.
    pub(super) fn step<T: EventListener>(&mut self, term: &mut Term<T>, direction: SearchDirection) -> SearchOutcome {
        let (towards, origin) = match (direction, &self.present) {
            (SearchDirection::Older, Some(m)) => (Direction::Left, m.start().sub(term, NONE, 1)),
            (SearchDirection::Newer, Some(m)) => (Direction::Right, m.end().add(term, NONE, 1)),
            (SearchDirection::Older, None) => (Direction::Left, view_end(term)),
            (SearchDirection::Newer, None) => (Direction::Right, view_start(term)),
        };
        let side = if towards == Direction::Left { Side::Right } else { Side::Left };
        let Some(found) = term.search_next(&mut self.regex, origin, towards, side, None) else {
            self.present = None;
            return SearchOutcome::Nothing;
        };
        let wrapped = match towards {
            Direction::Left => *found.start() > origin,
            Direction::Right => *found.start() < origin,
        };
        term.scroll_to_point(*found.start());
        self.present = Some(found);
        if wrapped { SearchOutcome::Wrapped } else { SearchOutcome::Found }
    }

    /// Output moved the lines: the present match is no longer where it was.
    pub(super) fn forget_place(&mut self) {
        self.present = None;
    }

    /// The present match, unless output moved it.
    pub(super) fn present(&self) -> Option<&Match> {
        self.present.as_ref()
    }

    /// Matches that begin in view, present one included.
    pub(super) fn visible<T: EventListener>(&mut self, term: &Term<T>) -> Vec<Match> {
        // A match may begin on the line that wraps into view.
        let start = term.line_search_left(view_start(term));
        let end = view_end(term);
        let limit = usize::from(u16::MAX);
        RegexIter::new(start, end, Direction::Right, term, &mut self.regex).take(limit).collect()
    }
}

const NONE: alacritty_terminal::index::Boundary = alacritty_terminal::index::Boundary::None;

fn view_start<T>(term: &Term<T>) -> Point {
    Point::new(Line(-(term.grid().display_offset() as i32)), Column(0))
}

fn view_end<T>(term: &Term<T>) -> Point {
    let bottom = term.screen_lines() as i32 - 1 - term.grid().display_offset() as i32;
    Point::new(Line(bottom), term.last_column())
}
