//! Meanings to styles. View code asks for what a thing *is*; only this module knows colours.
//!
//! No meaning rests on colour alone: every phase and every change also has a sign and a word, and the `mono`
//! theme (also used under `NO_COLOR`) tells states apart by sign, word and attribute.

mod color;
mod load;

use std::path::PathBuf;

use ratatui::style::{Modifier, Style};

pub use color::Depth;
pub use load::{ThemeWarning, builtin_names};

macro_rules! meanings {
    ($($(#[$doc:meta])* $variant:ident = $key:literal,)*) => {
        /// What a piece of the screen means. The name in a theme file is in the comment's place: see [`Meaning::key`].
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Meaning {
            $($(#[$doc])* $variant,)*
        }

        impl Meaning {
            /// Every meaning, in declaration order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The key of this meaning in a theme file's `[meanings]`.
            pub const fn key(self) -> &'static str {
                match self { $(Self::$variant => $key),* }
            }
        }
    };
}

meanings! {
    /// Ordinary text, and the background of the whole screen.
    Text = "text",
    /// Second-rank text: labels, units, ages.
    Muted = "muted",
    /// Barely there: separators, empty gauges.
    Faint = "faint",
    /// Headings of panes and sections.
    Title = "title",
    /// What draws the eye without alarm: the prompt sign, links.
    Accent = "accent",
    /// Frame of a pane.
    Border = "border",
    /// Frame of the pane that has the keyboard.
    BorderFocus = "border-focus",
    /// The bar above everything.
    Header = "header",
    /// A name in that bar.
    HeaderKey = "header-key",
    /// A context that must not be mistaken (production).
    HeaderDanger = "header-danger",
    /// Column titles.
    Column = "column",
    /// The row under the cursor.
    Selection = "selection",
    /// A marked row.
    Marked = "marked",
    /// A row that changed a moment ago.
    Flash = "flash",
    /// A key in a hint.
    Key = "key",
    /// What the key does.
    Hint = "hint",
    /// Letters that matched a search.
    Match = "match",
    /// An action that cannot be used now.
    Disabled = "disabled",
    /// Text in an input field.
    Input = "input",
    /// The completion shown behind the input.
    Ghost = "ghost",
    /// Background and text of boxes over the screen.
    Popup = "popup",
    /// A healthy state.
    Good = "good",
    /// A state that is on its way to another.
    Busy = "busy",
    /// Needs attention.
    Warn = "warn",
    /// Failed.
    Bad = "bad",
    /// Deliberately at rest.
    Idle = "idle",
    /// Neutral news.
    Info = "info",
    /// A value that comes in.
    Added = "added",
    /// A value that goes away.
    Removed = "removed",
    /// A value that is replaced.
    Changed = "changed",
    /// A change that acts at once.
    Now = "now",
    /// A change that waits for a restart.
    Restart = "restart",
    /// A change the server will refuse.
    Refused = "refused",
    /// The filled part of a progress bar.
    Gauge = "gauge",
    /// An inactive tab.
    Tab = "tab",
    /// The active tab.
    TabActive = "tab-active",
    /// Line numbers.
    LineNumber = "line-number",
    /// A key in YAML.
    YamlKey = "yaml-key",
    /// A string in YAML.
    YamlString = "yaml-string",
    /// A number, boolean or null in YAML.
    YamlNumber = "yaml-number",
    /// A comment in YAML.
    YamlComment = "yaml-comment",
}

/// When a changed field takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Cost {
    /// Nothing visible happens.
    None,
    /// At once, without disturbing the guest.
    Now,
    /// At the next restart.
    Restart,
    /// The server will not take it.
    Refused,
}

/// A state or change as it is shown: sign, word and style always go together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// One cell wide.
    pub sign: &'static str,
    /// The word; empty where the caller already has one (a phase is its own word).
    pub word: &'static str,
    /// How both are drawn.
    pub style: Style,
}

/// Signs and drawing characters, each exactly one cell wide, with an ASCII twin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Glyph {
    /// Healthy.
    Running,
    /// On its way up.
    Busy,
    /// On its way down.
    Stopping,
    /// At rest.
    Stopped,
    /// Failed.
    Failed,
    /// Paused.
    Paused,
    /// Degraded, or any warning.
    Warning,
    /// Moving between nodes.
    Migrating,
    /// Not known.
    Unknown,
    /// Yes, done.
    Check,
    /// The cursor's row.
    Cursor,
    /// A marked row.
    Mark,
    /// Sorted upwards.
    SortUp,
    /// Sorted downwards.
    SortDown,
    /// Text goes on.
    Ellipsis,
    /// Separator between parts of a line.
    Dot,
    /// From - to.
    Arrow,
    /// Full part of a bar.
    BarFull,
    /// Empty part of a bar.
    BarEmpty,
    /// Vertical rule.
    Vertical,
    /// Horizontal rule.
    Horizontal,
    /// Scroll position.
    Thumb,
    /// Takes effect at a restart.
    Restart,
    /// Takes effect now.
    Now,
    /// Refused.
    Refused,
    /// A submenu, or "goes on to the right".
    More,
}

/// A loaded theme, resolved for one colour depth. Cheap to look things up in; cloned only when switched.
#[derive(Debug, Clone, PartialEq)]
pub struct Theme {
    name: String,
    styles: Vec<Style>,
    ascii: bool,
    depth: Depth,
}

/// Where themes come from and what the terminal can show.
#[derive(Debug, Clone, Default)]
pub struct ThemeSource {
    /// Directory with the user's `*.toml`, laid over the shipped ones of the same name.
    pub user_dir: Option<PathBuf>,
    /// What the terminal can show.
    pub depth: Depth,
    /// ASCII instead of glyphs.
    pub ascii: bool,
}

impl ThemeSource {
    /// Loads a theme. An unknown name or broken file gives the nearest that works (at last the built-in `dark`)
    /// and says so in the warnings.
    pub fn load(&self, name: &str) -> (Theme, Vec<ThemeWarning>) {
        load::load(self, name)
    }

    /// Names of all themes one can switch to, sorted.
    pub fn names(&self) -> Vec<String> {
        load::names(self)
    }
}

impl Theme {
    /// A shipped theme in true colour with glyphs: for tests and as the last resort.
    pub fn builtin(name: &str) -> Self {
        ThemeSource { depth: Depth::True, ..ThemeSource::default() }.load(name).0
    }

    /// The name it was asked for by.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether glyphs are ASCII.
    pub fn ascii(&self) -> bool {
        self.ascii
    }

    /// How many colours may be used.
    pub fn depth(&self) -> Depth {
        self.depth
    }

    /// The style of a meaning.
    pub fn style(&self, meaning: Meaning) -> Style {
        self.styles.get(meaning as usize).copied().unwrap_or_default()
    }

    /// Sign and style of a phase by its word; every kind's phases are known here, an unknown one is neutral.
    pub fn phase(&self, phase: &str) -> Look {
        let (glyph, meaning) = phase_meaning(phase);
        Look { sign: self.glyph(glyph), word: "", style: self.style(meaning) }
    }

    /// Sign, word and style of a condition's status.
    pub fn condition(&self, status: &str) -> Look {
        let (glyph, word, meaning) = match status {
            "True" => (Glyph::Check, "True", Meaning::Good),
            "False" => (Glyph::Failed, "False", Meaning::Bad),
            _ => (Glyph::Unknown, "Unknown", Meaning::Muted),
        };
        Look { sign: self.glyph(glyph), word, style: self.style(meaning) }
    }

    /// Sign, word and style of when a change takes effect.
    pub fn change(&self, cost: Cost) -> Look {
        let (glyph, word, meaning) = match cost {
            Cost::None => (Glyph::Dot, "no effect", Meaning::Muted),
            Cost::Now => (Glyph::Now, "now", Meaning::Now),
            Cost::Restart => (Glyph::Restart, "at restart", Meaning::Restart),
            Cost::Refused => (Glyph::Refused, "refused", Meaning::Refused),
        };
        Look { sign: self.glyph(glyph), word, style: self.style(meaning) }
    }

    /// A sign or drawing character.
    pub fn glyph(&self, glyph: Glyph) -> &'static str {
        let (unicode, ascii) = match glyph {
            Glyph::Running => ("●", "*"),
            Glyph::Busy => ("◐", "~"),
            Glyph::Stopping => ("◌", "-"),
            Glyph::Stopped => ("○", "o"),
            Glyph::Failed => ("✗", "x"),
            Glyph::Paused => ("‖", "\""),
            Glyph::Warning => ("▲", "!"),
            Glyph::Migrating => ("⇄", "="),
            Glyph::Unknown => ("·", "?"),
            Glyph::Check => ("✓", "+"),
            Glyph::Cursor => ("▌", ">"),
            Glyph::Mark => ("◆", "#"),
            Glyph::SortUp => ("↑", "^"),
            Glyph::SortDown => ("↓", "v"),
            Glyph::Ellipsis => ("…", "~"),
            Glyph::Dot => ("·", "|"),
            Glyph::Arrow => ("→", ">"),
            Glyph::BarFull => ("━", "="),
            Glyph::BarEmpty => ("─", "-"),
            Glyph::Vertical => ("│", "|"),
            Glyph::Horizontal => ("─", "-"),
            Glyph::Thumb => ("┃", "#"),
            Glyph::Restart => ("↻", "@"),
            Glyph::Now => ("»", ">"),
            Glyph::Refused => ("⊘", "x"),
            Glyph::More => ("›", ">"),
        };
        if self.ascii { ascii } else { unicode }
    }

    /// The characters of a frame for this theme.
    pub fn border_set(&self) -> ratatui::symbols::border::Set<'static> {
        if self.ascii {
            ratatui::symbols::border::Set {
                top_left: "+",
                top_right: "+",
                bottom_left: "+",
                bottom_right: "+",
                vertical_left: "|",
                vertical_right: "|",
                horizontal_top: "-",
                horizontal_bottom: "-",
            }
        } else {
            ratatui::symbols::border::ROUNDED
        }
    }

    /// The same theme with a modifier added to one look, for rows that must stand out without colour.
    pub fn emphasised(&self, meaning: Meaning) -> Style {
        self.style(meaning).add_modifier(Modifier::BOLD)
    }
}

/// What a phase word means. Covers machines, disks, images, attachments, operations, addresses and leases.
fn phase_meaning(phase: &str) -> (Glyph, Meaning) {
    match phase {
        "Running" | "Ready" | "Attached" | "Bound" | "Completed" | "Succeeded" | "Active" => {
            (Glyph::Running, Meaning::Good)
        }
        "Pending"
        | "Starting"
        | "InProgress"
        | "Provisioning"
        | "Resizing"
        | "WaitForUserUpload"
        | "WaitForFirstConsumer"
        | "ImageLost"
        | "Exporting"
        | "Reset" => match phase {
            "ImageLost" => (Glyph::Failed, Meaning::Bad),
            "WaitForUserUpload" | "WaitForFirstConsumer" => (Glyph::Busy, Meaning::Warn),
            _ => (Glyph::Busy, Meaning::Busy),
        },
        "Stopping" | "Terminating" | "Released" => (Glyph::Stopping, Meaning::Busy),
        "Stopped" | "Superseded" => (Glyph::Stopped, Meaning::Idle),
        "Failed" | "Lost" | "NotReady" | "PVCLost" | "Error" => (Glyph::Failed, Meaning::Bad),
        "Pause" | "Paused" => (Glyph::Paused, Meaning::Warn),
        "Degraded" | "Warning" => (Glyph::Warning, Meaning::Warn),
        "Migrating" => (Glyph::Migrating, Meaning::Busy),
        "Normal" => (Glyph::Unknown, Meaning::Info),
        _ => (Glyph::Unknown, Meaning::Muted),
    }
}

#[cfg(test)]
mod tests {
    use unicode_width::UnicodeWidthStr;

    use super::*;

    #[test]
    fn every_phase_is_told_apart_without_colour() {
        let theme = Theme::builtin("mono");
        for (a, b) in [("Running", "Stopped"), ("Running", "Failed"), ("Pending", "Stopping"), ("Pause", "Running")] {
            assert_ne!(theme.phase(a).sign, theme.phase(b).sign, "{a} and {b}");
        }
        for meaning in Meaning::ALL {
            let style = theme.style(*meaning);
            assert!(style.fg.is_none() && style.bg.is_none(), "{} has a colour in mono", meaning.key());
        }
    }

    #[test]
    fn glyphs_are_one_cell() {
        for theme in [Theme::builtin("dark"), Theme { ascii: true, ..Theme::builtin("dark") }] {
            for glyph in [
                Glyph::Running,
                Glyph::Busy,
                Glyph::Stopping,
                Glyph::Stopped,
                Glyph::Failed,
                Glyph::Paused,
                Glyph::Warning,
                Glyph::Migrating,
                Glyph::Unknown,
                Glyph::Check,
                Glyph::Cursor,
                Glyph::Mark,
                Glyph::SortUp,
                Glyph::SortDown,
                Glyph::Ellipsis,
                Glyph::Dot,
                Glyph::Arrow,
                Glyph::BarFull,
                Glyph::BarEmpty,
                Glyph::Vertical,
                Glyph::Horizontal,
                Glyph::Thumb,
                Glyph::Restart,
                Glyph::Now,
                Glyph::Refused,
                Glyph::More,
            ] {
                let sign = theme.glyph(glyph);
                assert_eq!(sign.width(), 1, "{sign:?}");
                assert!(!theme.ascii || sign.is_ascii(), "{sign:?}");
            }
        }
    }
}
