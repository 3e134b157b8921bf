//! Theme files: `[palette]` names colours, `[meanings]` says what is drawn how, `inherits` names a parent.
//!
//! A user's file of the same name is laid over the shipped one key by key. Anything unknown is a warning with
//! file and line; it never stops the program.

use std::collections::BTreeMap;
use std::path::PathBuf;

use ratatui::style::{Modifier, Style};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::color::{Depth, PaletteColor, parse};
use super::{Meaning, Theme, ThemeSource};

const BUILTIN: &[(&str, &str)] = &[
    ("dark", include_str!("../../../themes/dark.toml")),
    ("light", include_str!("../../../themes/light.toml")),
    ("high-contrast", include_str!("../../../themes/high-contrast.toml")),
    ("mono", include_str!("../../../themes/mono.toml")),
];

/// The parent of everything: it defines every meaning.
const ROOT: &str = "dark";

/// Deepest chain of `inherits`.
const MAX_DEPTH: usize = 8;

/// Names of the shipped themes.
pub fn builtin_names() -> impl Iterator<Item = &'static str> {
    BUILTIN.iter().map(|(name, _)| *name)
}

/// Something in a theme file that was not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("theme {origin}:{line}: {problem}")]
pub struct ThemeWarning {
    /// The file, or `NAME (shipped)`.
    pub origin: String,
    /// Counted from 1.
    pub line: usize,
    /// What is wrong, in one sentence.
    pub problem: String,
}

/// A file's content before it is resolved.
#[derive(Debug, Default)]
struct Layer {
    inherits: Option<(String, usize)>,
    palette: Vec<(String, PaletteColor)>,
    meanings: Vec<(Meaning, String, usize, String)>,
}

pub(super) fn names(source: &ThemeSource) -> Vec<String> {
    let mut names: Vec<String> = builtin_names().map(str::to_owned).collect();
    if let Some(dir) = &source.user_dir
        && let Ok(entries) = std::fs::read_dir(dir)
    {
        for entry in entries.flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|e| e == "toml")
                && let Some(stem) = path.file_stem().and_then(|s| s.to_str())
            {
                names.push(stem.to_owned());
            }
        }
    }
    names.sort();
    names.dedup();
    names
}

pub(super) fn load(source: &ThemeSource, name: &str) -> (Theme, Vec<ThemeWarning>) {
    let mut warnings = Vec::new();
    let wanted = if source.depth == Depth::Mono { "mono" } else { name };
    let mut layers = chain(source, wanted, &mut warnings);
    layers.reverse();
    let mut palette: BTreeMap<String, PaletteColor> = BTreeMap::new();
    for layer in &layers {
        palette.extend(layer.palette.iter().cloned());
    }
    let mut styles = vec![Style::default(); Meaning::ALL.len()];
    for layer in &layers {
        for (meaning, text, line, origin) in &layer.meanings {
            match style(text, &palette, source.depth) {
                Ok(style) => styles[*meaning as usize] = style,
                Err(problem) => {
                    let problem = format!("{}: {problem}", meaning.key());
                    warnings.push(ThemeWarning { origin: origin.clone(), line: *line, problem });
                }
            }
        }
    }
    (Theme { name: wanted.to_owned(), styles, ascii: source.ascii, depth: source.depth }, warnings)
}

/// The layers of a theme, child first.
fn chain(source: &ThemeSource, name: &str, warnings: &mut Vec<ThemeWarning>) -> Vec<Layer> {
    let mut layers = Vec::new();
    let mut next = Some(name.to_owned());
    let mut asked_by: Option<(String, usize)> = None;
    for _ in 0..MAX_DEPTH {
        let Some(name) = next.take() else { break };
        let texts = texts(source, &name, warnings);
        if texts.is_empty() {
            let (origin, line) = asked_by.take().unwrap_or_else(|| (name.clone(), 1));
            let problem = format!("there is no theme {name:?}; known: {}", names(source).join(", "));
            warnings.push(ThemeWarning { origin, line, problem });
            if name != ROOT {
                next = Some(ROOT.to_owned());
            }
            continue;
        }
        let mut parent = None;
        for (origin, text) in &texts {
            let layer = read(origin, text, warnings);
            if parent.is_none() {
                parent = layer.inherits.clone().map(|(p, line)| (p, origin.clone(), line));
            }
            layers.push(layer);
        }
        if let Some((parent, origin, line)) = parent {
            asked_by = Some((origin, line));
            next = Some(parent);
        } else if name != ROOT {
            next = Some(ROOT.to_owned());
        }
    }
    if next.is_some() {
        let problem = format!("`inherits` goes deeper than {MAX_DEPTH} files or in a circle");
        warnings.push(ThemeWarning { origin: name.to_owned(), line: 1, problem });
    }
    layers
}

/// The user's file and the shipped one of that name, in this order.
fn texts(source: &ThemeSource, name: &str, warnings: &mut Vec<ThemeWarning>) -> Vec<(String, String)> {
    let mut texts = Vec::new();
    // A name is a file name, never a path.
    let plain = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    if let Some(dir) = source.user_dir.as_ref().filter(|_| plain) {
        let path: PathBuf = dir.join(format!("{name}.toml"));
        match std::fs::read_to_string(&path) {
            Ok(text) => texts.push((path.display().to_string(), text)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => warnings.push(ThemeWarning {
                origin: path.display().to_string(),
                line: 1,
                problem: format!("cannot be read: {e}"),
            }),
        }
    }
    if let Some((_, text)) = BUILTIN.iter().find(|(n, _)| *n == name) {
        texts.push((format!("{name} (shipped)"), (*text).to_owned()));
    }
    texts
}

fn line_of(text: &str, offset: usize) -> usize {
    text.as_bytes().iter().take(offset).filter(|b| **b == b'\n').count() + 1
}

fn read(origin: &str, text: &str, warnings: &mut Vec<ThemeWarning>) -> Layer {
    let mut layer = Layer::default();
    let mut warn = |offset: usize, problem: String| {
        warnings.push(ThemeWarning { origin: origin.to_owned(), line: line_of(text, offset), problem });
    };
    let document = match DeTable::parse(text) {
        Ok(document) => document.into_inner(),
        Err(error) => {
            let offset = error.span().map_or(0, |s| s.start);
            warn(offset, error.message().to_owned());
            return layer;
        }
    };
    for (key, value) in document {
        let at = key.span().start;
        match (key.get_ref().as_ref(), value.into_inner()) {
            ("inherits", DeValue::String(parent)) => {
                layer.inherits = Some((parent.into_owned(), line_of(text, at)));
            }
            ("palette", DeValue::Table(table)) => {
                for (key, value) in table {
                    let at = value.span().start;
                    match palette_color(&value) {
                        Ok(color) => layer.palette.push((key.into_inner().into_owned(), color)),
                        Err(problem) => warn(at, format!("palette {}: {problem}", key.get_ref())),
                    }
                }
            }
            ("meanings", DeValue::Table(table)) => {
                for (key, value) in table {
                    let at = key.span().start;
                    let name = key.into_inner();
                    let meaning = Meaning::ALL.iter().find(|m| m.key() == name).copied();
                    match (meaning, value.get_ref().as_str()) {
                        (Some(meaning), Some(style)) => {
                            layer.meanings.push((meaning, style.to_owned(), line_of(text, at), origin.to_owned()));
                        }
                        (None, _) => warn(at, format!("unknown meaning {name:?}")),
                        (_, None) => warn(at, format!("{name}: a string like \"green bold\" is needed")),
                    }
                }
            }
            (other, _) => warn(at, format!("unknown key {other:?}; known: inherits, palette, meanings")),
        }
    }
    layer
}

/// A colour, or `[exact, stand-in among the 16]`.
fn palette_color(value: &Spanned<DeValue<'_>>) -> Result<PaletteColor, String> {
    let color = |v: &DeValue<'_>| -> Result<_, String> {
        let text = v.as_str().ok_or("a colour is a string")?;
        parse(text).ok_or_else(|| format!("{text:?} is neither #rrggbb nor a colour name"))
    };
    match value.get_ref() {
        DeValue::Array(pair) => match pair.iter().collect::<Vec<_>>().as_slice() {
            [exact, named] => Ok(PaletteColor { exact: color(exact.get_ref())?, named: color(named.get_ref())? }),
            _ => Err("two colours are needed: exact, and one of the 16".to_owned()),
        },
        single => {
            let exact = color(single)?;
            let named =
                if matches!(exact, ratatui::style::Color::Rgb(..)) { ratatui::style::Color::Reset } else { exact };
            Ok(PaletteColor { exact, named })
        }
    }
}

/// `"FG on BG attribute…"`: both colours and the attributes are optional.
fn style(text: &str, palette: &BTreeMap<String, PaletteColor>, depth: Depth) -> Result<Style, String> {
    let mut style = Style::default();
    let mut background = false;
    for word in text.split_whitespace() {
        let modifier = match word {
            "on" => {
                background = true;
                continue;
            }
            "bold" => Some(Modifier::BOLD),
            "dim" => Some(Modifier::DIM),
            "italic" => Some(Modifier::ITALIC),
            "underline" => Some(Modifier::UNDERLINED),
            "reversed" => Some(Modifier::REVERSED),
            "crossed" => Some(Modifier::CROSSED_OUT),
            _ => None,
        };
        if let Some(modifier) = modifier {
            style = style.add_modifier(modifier);
            continue;
        }
        let color = palette.get(word).ok_or_else(|| format!("{word:?} is neither in the palette nor an attribute"))?;
        if let Some(color) = color.at(depth) {
            style = if background { style.bg(color) } else { style.fg(color) };
        }
        background = false;
    }
    Ok(style)
}

#[cfg(test)]
mod tests {
    use ratatui::style::Color;

    use super::*;

    #[test]
    fn shipped_themes_load_without_a_warning_at_every_depth() {
        for name in builtin_names() {
            for depth in [Depth::Mono, Depth::Sixteen, Depth::Indexed, Depth::True] {
                let (theme, warnings) = ThemeSource { depth, ..ThemeSource::default() }.load(name);
                assert_eq!(warnings, [], "{name} at {depth:?}");
                for meaning in Meaning::ALL {
                    let bare = theme.style(*meaning) == Style::default();
                    let plain = matches!(
                        meaning,
                        Meaning::Text | Meaning::Input | Meaning::Popup | Meaning::Muted | Meaning::Info
                    );
                    assert!(!bare || plain || depth == Depth::Mono || name == "mono", "{name}: {}", meaning.key());
                }
            }
        }
    }

    #[test]
    fn no_color_takes_every_colour_away() {
        let (theme, _) = ThemeSource { depth: Depth::Mono, ..ThemeSource::default() }.load("dark");
        assert_eq!(theme.name(), "mono");
        assert!(theme.style(Meaning::Selection).add_modifier.contains(Modifier::REVERSED));
    }

    #[test]
    fn a_users_file_is_laid_over_and_mistakes_name_file_and_line() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("dark.toml");
        std::fs::write(
            &file,
            "[palette]\ngreen = \"#010203\"\n[meanings]\ngood = \"green bold\"\ngud = \"green\"\nbad = \"mauve\"\n",
        )
        .unwrap();
        let source = ThemeSource { user_dir: Some(dir.path().into()), depth: Depth::True, ascii: false };
        let (theme, warnings) = source.load("dark");
        assert_eq!(theme.style(Meaning::Good).fg, Some(Color::Rgb(1, 2, 3)));
        let texts: Vec<String> = warnings.iter().map(ToString::to_string).collect();
        assert_eq!(texts.len(), 2, "{texts:?}");
        assert!(texts[0].contains("dark.toml:5: unknown meaning \"gud\""), "{texts:?}");
        assert!(texts[1].contains("dark.toml:6: bad: \"mauve\""), "{texts:?}");
    }

    #[test]
    fn an_unknown_theme_falls_back_and_says_what_exists() {
        let (theme, warnings) = ThemeSource { depth: Depth::True, ..ThemeSource::default() }.load("solarised");
        assert_eq!(theme.style(Meaning::Good), Theme::builtin("dark").style(Meaning::Good));
        assert!(warnings[0].problem.contains("high-contrast"), "{warnings:?}");
    }

    #[test]
    fn a_circle_ends() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a.toml"), "inherits = \"b\"\n").unwrap();
        std::fs::write(dir.path().join("b.toml"), "inherits = \"a\"\n").unwrap();
        let source = ThemeSource { user_dir: Some(dir.path().into()), depth: Depth::True, ascii: false };
        assert!(source.load("a").1.iter().any(|w| w.problem.contains("circle")));
    }
}
