//! Search over everything that can be done or gone to: actions with their keys, kinds, themes, objects.

use nucleo_matcher::Matcher;
use nucleo_matcher::pattern::{CaseMatching, Normalization, Pattern};

use super::action::{ACTIONS, Action, Possible, Scope};
use super::input::Input;
use super::message::ObjectRef;
use super::screens::{creatable, kind_noun, kind_title};
use super::state::State;
use crate::types::kinds;

/// What choosing an entry does.
#[derive(Debug, Clone)]
pub enum Goal {
    /// An action on what is at hand.
    Action(Action),
    /// A line as typed after `:`.
    Command(String),
    /// An object's screen.
    Object(ObjectRef),
}

/// One entry.
#[derive(Debug, Clone)]
pub struct Item {
    /// What is searched and shown.
    pub label: String,
    /// Shown beside it.
    pub detail: String,
    /// Its key or command.
    pub key: String,
    /// What happens.
    pub goal: Goal,
}

/// The palette.
#[derive(Debug)]
pub struct Palette {
    /// What was typed.
    pub input: Input,
    /// Where the cursor is among the hits.
    pub cursor: usize,
    items: Vec<Item>,
    /// Positions in `items`, best first, with the letters that matched.
    hits: Vec<(usize, Vec<u32>)>,
}

/// Hits that are kept: nobody reads further.
const KEEP: usize = 50;

impl Palette {
    /// A palette of what can be done right now.
    pub fn new(state: &State) -> Self {
        let mut palette = Self { input: Input::default(), cursor: 0, items: items(state), hits: Vec::new() };
        palette.find();
        palette
    }

    /// Searches again after the input changed.
    pub fn find(&mut self) {
        self.cursor = 0;
        let text = self.input.text().trim();
        if text.is_empty() {
            self.hits = (0..self.items.len().min(KEEP)).map(|i| (i, Vec::new())).collect();
            return;
        }
        let mut matcher: Matcher = super::filter::matcher();
        let pattern = Pattern::parse(text, CaseMatching::Smart, Normalization::Smart);
        let mut scratch = Vec::new();
        let mut scored: Vec<(u32, usize)> = Vec::new();
        for (i, item) in self.items.iter().enumerate() {
            let haystack = nucleo_matcher::Utf32Str::new(&item.label, &mut scratch);
            if let Some(score) = pattern.score(haystack, &mut matcher) {
                // Things to do come before objects of the same score.
                let bonus = if matches!(item.goal, Goal::Object(_)) { 0 } else { 4 };
                scored.push((score + bonus, i));
            }
        }
        scored.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
        scored.truncate(KEEP);
        self.hits = scored
            .into_iter()
            .map(|(_, i)| {
                let mut letters = Vec::new();
                let haystack = nucleo_matcher::Utf32Str::new(&self.items[i].label, &mut scratch);
                pattern.indices(haystack, &mut matcher, &mut letters);
                letters.sort_unstable();
                letters.dedup();
                (i, letters)
            })
            .collect();
    }

    /// Moves the cursor.
    pub fn move_by(&mut self, rows: isize) {
        self.cursor = self.cursor.saturating_add_signed(rows).min(self.hits.len().saturating_sub(1));
    }

    /// The entry under the cursor.
    pub fn current(&self) -> Option<&Item> {
        self.hits.get(self.cursor).map(|(i, _)| &self.items[*i])
    }

    /// Hits from `top` on, with the letters that matched.
    pub fn hits(&self) -> impl Iterator<Item = (&Item, &[u32])> {
        self.hits.iter().map(|(i, letters)| (&self.items[*i], letters.as_slice()))
    }

    /// How many hits there are.
    pub fn len(&self) -> usize {
        self.hits.len()
    }
}

fn items(state: &State) -> Vec<Item> {
    let mut items = Vec::new();
    let at_hand = state.at_hand().map(|(object, _)| object.name);
    for row in ACTIONS {
        let useful = !matches!(row.scope, Scope::Motion) && state.possible(row.action) == Possible::Yes;
        if !useful || row.action == Action::Palette {
            continue;
        }
        let target = match (row.scope, &at_hand) {
            (Scope::Object | Scope::Machine, Some(name)) => {
                format!(" {}", crate::types::text::printable(name))
            }
            _ => String::new(),
        };
        let mut label = row.label.to_owned();
        if let Some(first) = label.get_mut(0..1) {
            first.make_ascii_uppercase();
        }
        items.push(Item {
            label: format!("{label}{target}"),
            detail: row.doc.into(),
            key: state.keymap.label(row.action),
            goal: Goal::Action(row.action),
        });
    }
    for kind in kinds::KINDS {
        let short = kind.short_names.first().copied().unwrap_or(kind.plural);
        items.push(Item {
            label: format!("Go to {}", kind_title(kind)),
            detail: format!("list of {}", kind.plural),
            key: format!(":{short}"),
            goal: Goal::Command(short.to_owned()),
        });
    }
    for kind in kinds::KINDS.iter().filter(|k| creatable(super::message::Kind(k))) {
        items.push(Item {
            label: format!("Create {}", kind_noun(kind)),
            detail: "with a form".into(),
            key: String::new(),
            goal: Goal::Command(format!("create {}", kind.short_names.first().copied().unwrap_or(kind.plural))),
        });
    }
    for name in &state.theme_names {
        items.push(Item {
            label: format!("Theme {name}"),
            detail: "change the colours".into(),
            key: String::new(),
            goal: Goal::Command(format!("theme {name}")),
        });
    }
    for feed in state.feeds.values().filter(|f| f.kind.0.kind != "Event") {
        for row in feed.table.rows() {
            let object = ObjectRef { kind: feed.kind, namespace: row.namespace.clone(), name: row.name.clone() };
            items.push(Item {
                label: object.path(),
                detail: kind_noun(feed.kind.0),
                key: String::new(),
                goal: Goal::Object(object),
            });
        }
    }
    items
}
