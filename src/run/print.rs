//! Objects and tables as text. Pure.

use serde_json::Value;
use unicode_width::UnicodeWidthStr;

use crate::client::{TableColumn, TableRow};
use crate::types::text::printable;

/// YAML as kubectl lays it out: lists not indented, texts of several lines as blocks, long lines left alone.
pub fn yaml(value: &Value) -> String {
    let options = serde_saphyr::ser_options! { compact_list_indent: true, folded_wrap_chars: usize::MAX };
    match serde_saphyr::to_string_with_options(value, options) {
        Ok(text) if text.ends_with('\n') => text,
        Ok(text) => text + "\n",
        // JSON is YAML too.
        Err(_) => json(value),
    }
}

/// Indented JSON with a newline at the end.
pub fn json(value: &Value) -> String {
    // A Value always serializes: its keys are strings.
    let text = serde_json::to_string_pretty(value).unwrap_or_default();
    indent_four(&text) + "\n"
}

/// kubectl indents by four.
fn indent_four(text: &str) -> String {
    text.lines()
        .map(|l| {
            let rest = l.trim_start_matches(' ');
            format!("{}{rest}", " ".repeat(2 * (l.len() - rest.len())))
        })
        .collect::<Vec<_>>()
        .join("\n")
}

/// A grid of cells that grows downwards and keeps its column widths, so that watched rows stay aligned.
#[derive(Debug, Default)]
pub struct Grid {
    widths: Vec<usize>,
}

/// Blanks between columns, as kubectl has it.
const GAP: usize = 3;

impl Grid {
    /// Lines for these rows. Columns get as wide as their widest cell so far.
    pub fn lines(&mut self, rows: &[Vec<String>]) -> String {
        let rows: Vec<Vec<String>> =
            rows.iter().map(|r| r.iter().map(|c| printable(c).into_owned()).collect()).collect();
        for row in &rows {
            for (i, cell) in row.iter().enumerate() {
                if self.widths.len() <= i {
                    self.widths.push(0);
                }
                self.widths[i] = self.widths[i].max(cell.width());
            }
        }
        let mut out = String::new();
        for row in &rows {
            let mut text = String::new();
            for (i, cell) in row.iter().enumerate() {
                text.push_str(cell);
                if i + 1 < row.len() {
                    text.push_str(&" ".repeat(self.widths[i] - cell.width() + GAP));
                }
            }
            out.push_str(text.trim_end());
            out.push('\n');
        }
        out
    }
}

/// Which cells of a table are shown.
#[derive(Debug, Clone, Copy, Default)]
pub struct Shown<'a> {
    /// Also columns of lower priority.
    pub wide: bool,
    /// A first column with the namespace.
    pub namespace: bool,
    /// A last column with the labels.
    pub labels: bool,
    /// `kind.group/` before names.
    pub prefix: Option<&'a str>,
}

/// The headings.
pub fn headings(columns: &[TableColumn], shown: Shown<'_>) -> Vec<String> {
    let mut row = Vec::new();
    if shown.namespace {
        row.push("NAMESPACE".to_owned());
    }
    row.extend(columns.iter().filter(|c| shown.wide || c.priority == 0).map(|c| c.name.to_uppercase()));
    if shown.labels {
        row.push("LABELS".to_owned());
    }
    row
}

/// The cells of one row.
pub fn cells(columns: &[TableColumn], row: &TableRow, shown: Shown<'_>) -> Vec<String> {
    let mut out = Vec::new();
    if shown.namespace {
        out.push(row.namespace().to_owned());
    }
    for (i, column) in columns.iter().enumerate().filter(|(_, c)| shown.wide || c.priority == 0) {
        let mut text = row.cells.get(i).map_or_else(String::new, cell);
        if let (0, Some(prefix)) = (i, shown.prefix) {
            text = format!("{prefix}/{text}");
        }
        // The name is never shortened; other texts show their first line.
        if column.format != "name"
            && let Some((first, _)) = text.split_once('\n')
        {
            text = format!("{first}...");
        }
        out.push(text);
    }
    if shown.labels {
        out.push(labels(&row.object["metadata"]["labels"]));
    }
    out
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// `a=1,b=2`, or `<none>`.
pub fn labels(map: &Value) -> String {
    let pairs: Vec<String> = map
        .as_object()
        .map(|m| m.iter().map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or_default())).collect())
        .unwrap_or_default();
    if pairs.is_empty() { "<none>".into() } else { pairs.join(",") }
}

/// Without `metadata.managedFields`, which nobody wants to read.
pub fn without_managed_fields(mut object: Value) -> Value {
    if let Some(meta) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        meta.shift_remove("managedFields");
    }
    object
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn grids_keep_their_widths() {
        let mut grid = Grid::default();
        let rows = |list: &[&[&str]]| {
            list.iter().map(|r| r.iter().map(|c| (*c).to_owned()).collect()).collect::<Vec<Vec<String>>>()
        };
        assert_eq!(
            grid.lines(&rows(&[&["NAME", "PHASE", "AGE"], &["linux-vm", "Running", "1m"]])),
            "NAME       PHASE     AGE\nlinux-vm   Running   1m\n"
        );
        assert_eq!(grid.lines(&rows(&[&["a", "", "2m"]])), "a                    2m\n");
    }

    #[test]
    fn hostile_cells_are_escaped_and_first_lines_shown() {
        let columns: Vec<TableColumn> =
            serde_json::from_value(json!([{"name": "Name", "type": "string", "format": "name"}, {"name": "Need restart", "type": "string", "priority": 1}])).unwrap();
        let row = TableRow { cells: vec![json!("a"), json!("x\ny")], object: json!({}) };
        assert_eq!(headings(&columns, Shown::default()), ["NAME"]);
        let wide = Shown { wide: true, ..Shown::default() };
        assert_eq!(headings(&columns, wide), ["NAME", "NEED RESTART"]);
        assert_eq!(cells(&columns, &row, wide), ["a", "x..."]);
        assert!(!Grid::default().lines(&[vec!["\u{1b}[2J".into()]]).contains('\u{1b}'));
    }

    #[test]
    fn yaml_is_kubectl_like_and_reads_back() {
        let value = json!({"a": [{"b": 1, "c": "x\ny\n"}], "d": "yes", "e": "", "f": {}, "g": [], "h": "1", "i": null,
            "j": "a".repeat(200), "k": "w ".repeat(100), "l": "esc\u{1b}[0m", "m": "a: b", "n": "\u{85}x\u{202e}"});
        let text = yaml(&value);
        assert!(text.starts_with("a:\n- b: 1\n  c: |\n    x\n    y\n"), "{text}");
        assert!(!text.contains('\u{1b}'), "{text}");
        assert_eq!(serde_saphyr::from_str::<Value>(&text).unwrap(), value, "{text}");
    }

    #[test]
    fn json_indents_by_four() {
        assert_eq!(json(&json!({"a": {"b": "  c"}})), "{\n    \"a\": {\n        \"b\": \"  c\"\n    }\n}\n");
    }
}
