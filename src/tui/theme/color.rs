//! Colour depth: what the terminal can show, and how a colour is brought down to it.

use ratatui::style::Color;

/// How many colours the terminal shows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Depth {
    /// None: attributes only (`NO_COLOR`, `TERM=dumb`, `vt100`).
    Mono,
    /// The 16 named colours, as the user's terminal defines them.
    Sixteen,
    /// The xterm cube.
    #[default]
    Indexed,
    /// 24 bits.
    True,
}

impl Depth {
    /// From the values of `NO_COLOR`, `COLORTERM` and `TERM`. A set but empty `NO_COLOR` does not count
    /// (no-color.org).
    pub fn detect(no_color: Option<&str>, colorterm: Option<&str>, term: Option<&str>) -> Self {
        if no_color.is_some_and(|v| !v.is_empty()) {
            return Self::Mono;
        }
        let term = term.unwrap_or("");
        if matches!(term, "dumb" | "vt100" | "vt102" | "vt220" | "xterm-mono") {
            return Self::Mono;
        }
        if colorterm.is_some_and(|v| v == "truecolor" || v == "24bit") || term.ends_with("-direct") {
            return Self::True;
        }
        if term.contains("256color") || matches!(term, "alacritty" | "foot" | "xterm-kitty" | "xterm-ghostty") {
            return Self::Indexed;
        }
        Self::Sixteen
    }

    /// [`Depth::detect`] on this process's environment.
    pub fn from_environment() -> Self {
        let var = |name| std::env::var(name).ok();
        Self::detect(var("NO_COLOR").as_deref(), var("COLORTERM").as_deref(), var("TERM").as_deref())
    }

    /// A colour that somebody else chose (a guest's console), brought down to what the terminal shows; `None`
    /// means "leave the terminal's own".
    pub fn fit(self, color: Color) -> Option<Color> {
        match (self, color) {
            (Self::Mono, _) => None,
            (Self::Sixteen, Color::Indexed(i)) if i >= 16 => {
                let (r, g, b) = indexed_rgb(i);
                Some(nearest_named(r, g, b))
            }
            (Self::Sixteen, Color::Rgb(r, g, b)) => Some(nearest_named(r, g, b)),
            (Self::Indexed, Color::Rgb(r, g, b)) => Some(Color::Indexed(nearest_indexed(r, g, b))),
            (_, color) => Some(color),
        }
    }
}

/// One palette entry: the exact colour and its stand-in where only 16 exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PaletteColor {
    /// The colour itself; `Reset` for "whatever the terminal has".
    pub exact: Color,
    /// One of the 16 names, or `Reset`.
    pub named: Color,
}

impl PaletteColor {
    /// The colour to use at a depth; `None` means "leave the terminal's own".
    pub fn at(self, depth: Depth) -> Option<Color> {
        match (depth, self.exact) {
            (Depth::Mono, _) => None,
            (_, Color::Reset) => Some(Color::Reset),
            (Depth::Sixteen, _) => Some(self.named),
            (Depth::Indexed, Color::Rgb(r, g, b)) => Some(Color::Indexed(nearest_indexed(r, g, b))),
            (_, exact) => Some(exact),
        }
    }
}

/// The nearest colour of the xterm cube or grey ramp.
fn nearest_indexed(r: u8, g: u8, b: u8) -> u8 {
    const LEVELS: [u8; 6] = [0, 95, 135, 175, 215, 255];
    let nearest = |v: u8| (0u8..6).min_by_key(|i| LEVELS[usize::from(*i)].abs_diff(v)).unwrap_or(0);
    let distance = |a: (u8, u8, u8)| {
        let square = |x: u8, y: u8| u32::from(x.abs_diff(y)).pow(2);
        square(a.0, r) + square(a.1, g) + square(a.2, b)
    };
    let (ri, gi, bi) = (nearest(r), nearest(g), nearest(b));
    let cube = (LEVELS[usize::from(ri)], LEVELS[usize::from(gi)], LEVELS[usize::from(bi)]);
    let grey_index = (0u8..24)
        .min_by_key(|i| {
            let v = 8 + 10 * i;
            distance((v, v, v))
        })
        .unwrap_or(0);
    let grey = 8 + 10 * grey_index;
    if distance((grey, grey, grey)) < distance(cube) { 232 + grey_index } else { 16 + 36 * ri + 6 * gi + bi }
}

/// The xterm cube and grey ramp, from index 16.
fn indexed_rgb(index: u8) -> (u8, u8, u8) {
    const LEVELS: [u8; 6] = [0, 95, 135, 175, 215, 255];
    if index >= 232 {
        let v = 8 + 10 * (index - 232);
        return (v, v, v);
    }
    let i = usize::from(index.saturating_sub(16));
    (LEVELS[i / 36 % 6], LEVELS[i / 6 % 6], LEVELS[i % 6])
}

/// One of the 16 by hue and brightness: their exact shades are the user's own.
fn nearest_named(r: u8, g: u8, b: u8) -> Color {
    let (most, least) = (r.max(g).max(b), r.min(g).min(b));
    if most - least < 40 {
        return Color::Indexed(match most {
            0..=50 => 0,
            51..=150 => 8,
            151..=225 => 7,
            _ => 15,
        });
    }
    let middle = most / 2 + least / 2;
    let bits = u8::from(r > middle) + 2 * u8::from(g > middle) + 4 * u8::from(b > middle);
    Color::Indexed(if most > 200 { bits + 8 } else { bits })
}

/// Parses `#rrggbb`, a colour name of the 16, or `default`.
pub fn parse(text: &str) -> Option<Color> {
    if let Some(hex) = text.strip_prefix('#') {
        let value = u32::from_str_radix(hex, 16).ok().filter(|_| hex.len() == 6)?;
        let [_, r, g, b] = value.to_be_bytes();
        return Some(Color::Rgb(r, g, b));
    }
    Some(match text {
        "default" => Color::Reset,
        "black" => Color::Black,
        "red" => Color::Red,
        "green" => Color::Green,
        "yellow" => Color::Yellow,
        "blue" => Color::Blue,
        "magenta" => Color::Magenta,
        "cyan" => Color::Cyan,
        "white" => Color::Gray,
        "bright-black" => Color::DarkGray,
        "bright-red" => Color::LightRed,
        "bright-green" => Color::LightGreen,
        "bright-yellow" => Color::LightYellow,
        "bright-blue" => Color::LightBlue,
        "bright-magenta" => Color::LightMagenta,
        "bright-cyan" => Color::LightCyan,
        "bright-white" => Color::White,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_follows_the_environment() {
        assert_eq!(Depth::detect(Some("1"), Some("truecolor"), Some("xterm-256color")), Depth::Mono);
        assert_eq!(Depth::detect(Some(""), Some("truecolor"), Some("xterm")), Depth::True);
        assert_eq!(Depth::detect(None, None, Some("tmux-256color")), Depth::Indexed);
        assert_eq!(Depth::detect(None, None, Some("linux")), Depth::Sixteen);
        assert_eq!(Depth::detect(None, None, Some("dumb")), Depth::Mono);
    }

    #[test]
    fn colours_come_down_to_the_nearest() {
        assert_eq!(nearest_indexed(255, 255, 255), 231);
        assert_eq!(nearest_indexed(8, 8, 8), 232);
        assert_eq!(nearest_indexed(255, 0, 0), 196);
        assert_eq!(Depth::Sixteen.fit(Color::Rgb(250, 20, 20)), Some(Color::Indexed(9)));
        assert_eq!(Depth::Sixteen.fit(Color::Indexed(22)), Some(Color::Indexed(2)), "dark green");
        assert_eq!(Depth::Sixteen.fit(Color::Indexed(3)), Some(Color::Indexed(3)));
        assert_eq!(Depth::Mono.fit(Color::Indexed(3)), None);
        assert_eq!(parse("#102030"), Some(Color::Rgb(16, 32, 48)));
        assert_eq!(parse("#12"), None);
    }
}
