//! The viewer: state, update, view.
//!
//! [`run`] takes the terminal and runs the loop of `event_loop.rs`: an [`message::Event`] comes in, `update` changes
//! the [`state::State`] and answers with [`message::Effect`]s, `effect/` runs those as tasks whose results are events
//! again, `view/` draws. `update` does no I/O and reads no clock; `view` changes nothing but what it measured.
//!
//! In reading order: `message`, `state`, `update/`, `screens/`, `view/`, `effect/`, `event_loop`. What keys mean is
//! data: `action` (the table of actions), `keymap`, `theme`.

pub mod action;
mod command;
pub mod console;
pub mod editor;
mod effect;
mod event_loop;
mod filter;
pub mod form;
mod input;
pub mod keymap;
mod message;
mod overlay;
mod paint;
mod palette;
pub mod review;
mod screens;
mod state;
mod table;
mod terminal;
#[cfg(test)]
mod tests;
mod text;
pub mod theme;
mod update;
mod view;

use std::path::Path;

use tokio::sync::mpsc;

use crate::client::{Choice, Engine};
use crate::config::{Paths, UiSettings};
use crate::term::Chord;

pub use effect::{Connector, ContextLister};

/// What the viewer needs from outside.
pub struct RunOptions {
    /// Connects to an engine.
    pub connector: Connector,
    /// Lists the kubeconfig's contexts.
    pub contexts: ContextLister,
    /// What to connect to first.
    pub choice: Choice,
    /// Settings.
    pub ui: UiSettings,
    /// `config/keymap.toml`, `config/themes/`; history is kept in `cache/`.
    pub paths: Paths,
    /// Things to tell at once, for example mistakes in the settings.
    pub warnings: Vec<String>,
}

/// How the viewer was left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The engine in use at the end; `None` if there never was one.
    pub engine: Option<Engine>,
    /// A signal ended it, not the user.
    pub signalled: bool,
}

/// The viewer could not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// There is no terminal, or it broke.
    #[error(
        "the terminal cannot be used: {0}\nThe UI needs a terminal; for scripts use one-shot commands such as `vmdeck get vm`."
    )]
    Terminal(#[source] std::io::Error),
}

/// Runs the viewer until the user leaves. The first frame is drawn before anything is connected to.
pub async fn run(options: RunOptions) -> Result<Outcome, RunError> {
    let mut warnings = options.warnings;
    let themes = theme::ThemeSource {
        user_dir: Some(options.paths.config.join("themes")),
        depth: theme::Depth::from_environment(),
        ascii: options.ui.ascii || !utf8_locale(),
    };
    let (theme, theme_warnings) = themes.load(&options.ui.theme);
    warnings.extend(theme_warnings.iter().map(ToString::to_string));
    let (keymap, key_warnings) = keymap::Keymap::load(Some(&options.paths.config.join("keymap.toml")));
    warnings.extend(key_warnings.iter().map(ToString::to_string));
    let console_leave = leave_chord(&options.ui.console_leave, &mut warnings);
    let signals = event_loop::Signals::catch().map_err(RunError::Terminal)?;
    let mut screen = terminal::Screen::open().map_err(RunError::Terminal)?;
    let start = state::Start {
        theme,
        theme_names: themes.names(),
        keymap,
        config: state::Config {
            console_leave,
            scrollback: options.ui.scrollback,
            config_dir: options.paths.config.display().to_string(),
            choice: options.choice,
        },
        size: screen.size().map_err(RunError::Terminal)?,
        now: event_loop::now(),
        commands: lines(&options.paths.cache.join("commands")),
        filters: lines(&options.paths.cache.join("filters")),
        logins: lines(&options.paths.cache.join("logins")),
        warnings,
    };
    let kubeconfig = start.config.choice.kubeconfig.clone();
    let (mut state, first) = state::State::new(start);
    let (sender, mut news) = mpsc::channel(event_loop::QUEUE);
    let mut runner = effect::Runner::new(
        sender,
        options.connector,
        options.contexts,
        themes,
        options.paths.cache.clone(),
        kubeconfig,
    );
    let result = event_loop::run(&mut screen, &mut state, &mut runner, first, &mut news, signals).await;
    drop(screen);
    let engine = match &state.link {
        state::Link::Connected(info) => Some(info.engine.clone()),
        _ => None,
    };
    match result {
        Ok(()) => Ok(Outcome { engine, signalled: state.signalled }),
        // A terminal that went away is a hang-up, not a failure of ours.
        Err(e) if matches!(e.kind(), std::io::ErrorKind::BrokenPipe | std::io::ErrorKind::NotConnected) => {
            Ok(Outcome { engine, signalled: true })
        }
        Err(e) => Err(RunError::Terminal(e)),
    }
}

/// Whether the terminal is told to be UTF-8; without any locale it is assumed to be.
fn utf8_locale() -> bool {
    let set = ["LC_ALL", "LC_CTYPE", "LANG"].iter().find_map(|var| std::env::var(var).ok().filter(|v| !v.is_empty()));
    set.is_none_or(|locale| {
        let locale = locale.to_ascii_lowercase();
        locale.contains("utf") || matches!(locale.as_str(), "c" | "posix")
    })
}

fn leave_chord(text: &str, warnings: &mut Vec<String>) -> Chord {
    match text.parse::<Chord>() {
        Ok(chord) => chord,
        Err(error) => {
            warnings.push(format!("ui.consoleLeave: {error}; ctrl-] is used"));
            Chord::default()
        }
    }
}

fn lines(path: &Path) -> Vec<String> {
    std::fs::read_to_string(path).unwrap_or_default().lines().map(ToOwned::to_owned).collect()
}
