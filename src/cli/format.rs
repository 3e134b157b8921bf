//! Output formats (`-o`), durations and the like: words of arguments with a meaning of their own.

use std::str::FromStr;
use std::time::Duration;

/// How `get` prints.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Output {
    /// The server's columns.
    #[default]
    Table,
    /// All of the server's columns.
    Wide,
    /// YAML.
    Yaml,
    /// JSON.
    Json,
    /// `kind.group/name` lines.
    Name,
    /// A Kubernetes JSONPath template.
    JsonPath(String),
    /// A JSONPath template from a file.
    JsonPathFile(String),
    /// `HEADING:.path` pairs.
    CustomColumns(Vec<(String, String)>),
}

impl FromStr for Output {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (word, rest) = match text.split_once('=') {
            Some((word, rest)) => (word, Some(rest)),
            None => (text, None),
        };
        match (word, rest) {
            ("wide", None) => Ok(Self::Wide),
            ("yaml", None) => Ok(Self::Yaml),
            ("json", None) => Ok(Self::Json),
            ("name", None) => Ok(Self::Name),
            ("jsonpath" | "jsonpath-as-json", Some(template)) if !template.is_empty() => {
                Ok(Self::JsonPath(template.into()))
            }
            ("jsonpath-file", Some(file)) if !file.is_empty() => Ok(Self::JsonPathFile(file.into())),
            ("custom-columns", Some(columns)) => columns
                .split(',')
                .map(|pair| match pair.split_once(':') {
                    Some((heading, path)) if !heading.is_empty() && !path.is_empty() => {
                        Ok((heading.into(), path.into()))
                    }
                    _ => Err(format!("\"{pair}\" is no column: write HEADING:.path")),
                })
                .collect::<Result<_, _>>()
                .map(Self::CustomColumns),
            _ => Err(
                "use wide, yaml, json, name, jsonpath=TEMPLATE, jsonpath-file=FILE or custom-columns=HEADING:.path,..."
                    .into(),
            ),
        }
    }
}

/// A duration as in Go and kubectl: `30s`, `5m`, `1h30m`, `500ms`; `0` or a bare number are seconds.
pub fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("\"{text}\" is no duration: write for example 30s, 5m or 1h30m");
    if let Ok(seconds) = text.parse::<u64>() {
        return Ok(Duration::from_secs(seconds));
    }
    let mut rest = text;
    let mut total = 0_f64;
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let number: f64 = rest[..digits].parse().map_err(|_| wrong())?;
        rest = &rest[digits..];
        let unit = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let factor = match &rest[..unit] {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return Err(wrong()),
        };
        total += number * factor;
        rest = &rest[unit..];
    }
    Duration::try_from_secs_f64(total).map_err(|_| wrong())
}

/// A change of labels or annotations: `key=value` sets, `key-` removes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MetaChange {
    /// Set this key to this value.
    Set(String, String),
    /// Remove this key.
    Remove(String),
}

impl FromStr for MetaChange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((key, value)) if !key.is_empty() => Ok(Self::Set(key.into(), value.into())),
            None if text.len() > 1 && text.ends_with('-') => Ok(Self::Remove(text[..text.len() - 1].into())),
            _ => Err(format!("\"{text}\" is no change: write KEY=VALUE, or KEY- to remove it")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs() {
        for (text, want) in [
            ("wide", Output::Wide),
            ("jsonpath={.a=b}", Output::JsonPath("{.a=b}".into())),
            (
                "custom-columns=A:.x,B:.y",
                Output::CustomColumns(vec![("A".into(), ".x".into()), ("B".into(), ".y".into())]),
            ),
        ] {
            assert_eq!(text.parse::<Output>(), Ok(want), "{text}");
        }
        for bad in ["", "xml", "jsonpath", "jsonpath=", "custom-columns=A", "wide=1"] {
            assert!(bad.parse::<Output>().is_err(), "{bad}");
        }
    }

    #[test]
    fn durations() {
        for (text, want) in [
            ("30s", 30_000),
            ("5m", 300_000),
            ("1h30m", 5_400_000),
            ("500ms", 500),
            ("0", 0),
            ("7", 7000),
            ("1.5s", 1500),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(want)), "{text}");
        }
        for bad in ["", "s", "5x", "-1s", "5m3", "1..s"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn meta_changes() {
        assert_eq!("a=b=c".parse(), Ok(MetaChange::Set("a".into(), "b=c".into())));
        assert_eq!("a=".parse(), Ok(MetaChange::Set("a".into(), String::new())));
        assert_eq!("a-".parse(), Ok(MetaChange::Remove("a".into())));
        for bad in ["", "-", "=x", "a"] {
            assert!(bad.parse::<MetaChange>().is_err(), "{bad}");
        }
    }
}
