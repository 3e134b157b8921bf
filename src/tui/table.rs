//! A live table: the server's columns and rows, kept sorted and filtered, with a cursor that follows the object.
//!
//! Cost follows what changes: a row's strings are made once per change; order and filter are rebuilt at most
//! once per frame (an almost sorted list sorts in linear time); drawing builds visible rows only.

use std::cell::Cell;
use std::cmp::Ordering;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use serde_json::Value;

use super::filter::{Filter, Subject, matcher};
use super::text::{natural_key, width};
use crate::client::{TableColumn, TableRow};
use crate::types::text::printable;

/// Milliseconds since the epoch.
pub type Millis = i64;

/// How long a changed row stays marked.
pub const FLASH_MS: Millis = 1_500;

/// An object's identity in a table: its uid, or namespace and name where the server sends none.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RowKey(pub Arc<str>);

/// One object as a row.
#[derive(Debug, Clone)]
pub struct Row {
    /// Identity.
    pub key: RowKey,
    /// Namespace, empty for cluster-wide kinds.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Printable text of each column.
    pub cells: Vec<String>,
    /// For each column the instant behind a date cell, in seconds.
    pub dates: Vec<Option<i64>>,
    /// The whole object as last seen.
    pub object: Arc<Value>,
    /// When the row last changed under the viewer's eyes.
    pub changed: Option<Millis>,
}

#[derive(Debug, Clone, PartialEq, PartialOrd)]
enum SortKey {
    Nothing,
    Number(f64),
    Text(String),
}

/// Which column sorts, and which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sort {
    /// Index into the columns.
    pub column: usize,
    /// Largest first.
    pub descending: bool,
}

/// The table.
#[derive(Debug, Clone)]
pub struct Table {
    columns: Vec<TableColumn>,
    /// Widest cell of each column so far; columns do not shrink while rows come and go.
    widths: Vec<usize>,
    rows: Vec<Row>,
    index: HashMap<RowKey, usize>,
    /// Positions in `rows` that pass the filter, sorted.
    order: Vec<u32>,
    dirty: bool,
    cursor: Option<RowKey>,
    /// Where the cursor was, so that it stays near when its object goes away.
    cursor_at: usize,
    marks: BTreeSet<RowKey>,
    sort: Sort,
    filter: Filter,
    /// Changed by drawing only.
    scroll: Cell<usize>,
}

impl Default for Table {
    fn default() -> Self {
        Self {
            columns: Vec::new(),
            widths: Vec::new(),
            rows: Vec::new(),
            index: HashMap::new(),
            order: Vec::new(),
            dirty: false,
            cursor: None,
            cursor_at: 0,
            marks: BTreeSet::new(),
            sort: Sort { column: 0, descending: false },
            filter: Filter::All,
            scroll: Cell::new(0),
        }
    }
}

/// What a user set up in a table: it outlives the rows.
#[derive(Debug, Clone)]
pub struct Look {
    sort: Sort,
    filter: Filter,
    cursor: Option<RowKey>,
}

impl Table {
    /// An empty table set up as another one was.
    pub fn with_look(look: Look) -> Self {
        Self { sort: look.sort, filter: look.filter, cursor: look.cursor, ..Self::default() }
    }

    /// Sort, filter and cursor.
    pub fn look(&self) -> Look {
        Look { sort: self.sort, filter: self.filter.clone(), cursor: self.cursor.clone() }
    }

    /// Replaces everything. Cursor and marks stay with their objects.
    pub fn reset(&mut self, columns: Vec<TableColumn>, rows: Vec<TableRow>) {
        if columns != self.columns {
            self.widths = columns.iter().map(|c| width(&c.name) + usize::from(c.format == "name")).collect();
            if self.sort.column >= columns.len() {
                self.sort = Sort { column: 0, descending: false };
            }
            self.columns = columns;
        }
        self.rows.clear();
        self.index.clear();
        for row in rows {
            let row = self.row(row, None);
            self.index.insert(row.key.clone(), self.rows.len());
            self.rows.push(row);
        }
        let index = &self.index;
        self.marks.retain(|key| index.contains_key(key));
        self.dirty = true;
        self.settle();
    }

    /// Adds or replaces a row; `now` starts its flash.
    pub fn upsert(&mut self, row: TableRow, now: Millis) {
        let mut row = self.row(row, Some(now));
        match self.index.get(&row.key).copied() {
            Some(at) => {
                let old = &mut self.rows[at];
                if old.cells == row.cells && old.dates == row.dates {
                    row.changed = old.changed;
                }
                *old = row;
            }
            None => {
                self.index.insert(row.key.clone(), self.rows.len());
                self.rows.push(row);
            }
        }
        self.dirty = true;
    }

    /// Takes a row away.
    pub fn remove(&mut self, namespace: &str, name: &str, uid: &str) {
        let key = key(namespace, name, uid);
        let Some(at) = self.index.remove(&key) else { return };
        self.rows.swap_remove(at);
        if let Some(moved) = self.rows.get(at) {
            self.index.insert(moved.key.clone(), at);
        }
        self.marks.remove(&key);
        self.dirty = true;
    }

    fn row(&mut self, row: TableRow, changed: Option<Millis>) -> Row {
        let (namespace, name) = (printable(row.namespace()).to_string(), printable(row.name()).to_string());
        let key = key(row.namespace(), row.name(), row.uid());
        let mut cells = Vec::with_capacity(self.columns.len());
        let mut dates = Vec::with_capacity(self.columns.len());
        for (i, column) in self.columns.iter().enumerate() {
            let cell = row.cells.get(i).map(cell_text).unwrap_or_default();
            if let Some(widest) = self.widths.get_mut(i) {
                *widest = (*widest).max(width(&cell));
            }
            dates.push(date_of(column, &row.object));
            cells.push(cell);
        }
        Row { key, namespace, name, cells, dates, object: Arc::new(row.object), changed }
    }

    /// Brings order and filter up to date. Called once before drawing or moving; cheap when nothing changed.
    pub fn settle(&mut self) {
        if !self.dirty {
            return;
        }
        self.dirty = false;
        let mut scratch = matcher();
        let kept = |row: &Row, filter: &Filter, scratch: &mut _| {
            filter.keeps(Subject { cells: &row.cells, namespace: &row.namespace, object: &row.object }, scratch)
        };
        let mut order: Vec<(SortKey, u32)> = Vec::with_capacity(self.rows.len());
        // Rows that stay keep their former order first: the sort below then has little to do.
        for (at, row) in self.rows.iter().enumerate() {
            if kept(row, &self.filter, &mut scratch) {
                order.push((self.sort_key(row), u32::try_from(at).unwrap_or(u32::MAX)));
            }
        }
        let (rows, descending) = (&self.rows, self.sort.descending);
        order.sort_by(|(a, ai), (b, bi)| {
            let primary = compare(a, b, descending);
            primary.then_with(|| {
                let (a, b) = (&rows[*ai as usize], &rows[*bi as usize]);
                a.name.cmp(&b.name).then_with(|| a.namespace.cmp(&b.namespace))
            })
        });
        self.order = order.into_iter().map(|(_, at)| at).collect();
        self.find_cursor();
    }

    fn sort_key(&self, row: &Row) -> SortKey {
        let column = self.sort.column;
        if let Some(Some(seconds)) = row.dates.get(column) {
            // Age grows as the instant gets older: sort by age.
            #[expect(clippy::cast_precision_loss, reason = "seconds since the epoch fit a double exactly")]
            return SortKey::Number(-(*seconds as f64));
        }
        let Some(cell) = row.cells.get(column).filter(|c| !c.is_empty()) else { return SortKey::Nothing };
        if let Ok(number) = cell.trim_end_matches('%').parse::<f64>() {
            return SortKey::Number(number);
        }
        if let Some(bytes) = crate::types::quantity::parse_bytes(cell) {
            #[expect(clippy::cast_precision_loss, reason = "only the order of sizes matters")]
            return SortKey::Number(bytes as f64);
        }
        SortKey::Text(natural_key(cell))
    }

    fn find_cursor(&mut self) {
        let found = self.cursor.as_ref().and_then(|key| {
            let at = u32::try_from(*self.index.get(key)?).ok()?;
            self.order.iter().position(|o| *o == at)
        });
        self.cursor_at = found.unwrap_or_else(|| self.cursor_at.min(self.order.len().saturating_sub(1)));
        self.cursor = self.order.get(self.cursor_at).map(|at| self.rows[*at as usize].key.clone());
    }

    /// The columns, in the server's order.
    pub fn columns(&self) -> &[TableColumn] {
        &self.columns
    }

    /// Widest cell of a column.
    pub fn column_width(&self, column: usize) -> usize {
        self.widths.get(column).copied().unwrap_or(0)
    }

    /// How many rows pass the filter.
    pub fn shown(&self) -> usize {
        self.order.len()
    }

    /// How many rows there are.
    pub fn total(&self) -> usize {
        self.rows.len()
    }

    /// The row at a shown position.
    pub fn at(&self, position: usize) -> Option<&Row> {
        self.order.get(position).and_then(|at| self.rows.get(*at as usize))
    }

    /// All rows, filtered out or not, in no order.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// The row of an identity.
    pub fn get(&self, key: &RowKey) -> Option<&Row> {
        self.index.get(key).and_then(|at| self.rows.get(*at))
    }

    /// The row of a name.
    pub fn find(&self, namespace: &str, name: &str) -> Option<&Row> {
        self.rows.iter().find(|r| r.name == name && (r.namespace == namespace || r.namespace.is_empty()))
    }

    /// Where the cursor is.
    pub fn cursor(&self) -> usize {
        self.cursor_at
    }

    /// The row under the cursor.
    pub fn current(&self) -> Option<&Row> {
        self.cursor.as_ref().and_then(|key| self.get(key))
    }

    /// Moves the cursor by rows, stopping at the ends.
    pub fn move_by(&mut self, rows: isize) {
        self.settle();
        self.move_to(self.cursor_at.saturating_add_signed(rows));
    }

    /// Moves the cursor to a position, at most the last.
    pub fn move_to(&mut self, position: usize) {
        self.settle();
        self.cursor_at = position.min(self.order.len().saturating_sub(1));
        self.cursor = self.at(self.cursor_at).map(|row| row.key.clone());
    }

    /// Moves the cursor to an object; `false` if it is not shown.
    pub fn select(&mut self, namespace: &str, name: &str) -> bool {
        self.settle();
        let found = (0..self.shown()).find(|i| {
            self.at(*i).is_some_and(|r| r.name == name && (namespace.is_empty() || r.namespace == namespace))
        });
        if let Some(at) = found {
            self.move_to(at);
        }
        found.is_some()
    }

    /// The sort in force.
    pub fn sort(&self) -> Sort {
        self.sort
    }

    /// Sorts by a column; the same column again turns the direction.
    pub fn sort_by(&mut self, column: usize) {
        if column < self.columns.len() {
            let descending = self.sort.column == column && !self.sort.descending;
            self.sort = Sort { column, descending };
            self.dirty = true;
            self.settle();
        }
    }

    /// Uses a filter from now on.
    pub fn set_filter(&mut self, filter: Filter) {
        self.filter = filter;
        self.dirty = true;
        self.settle();
    }

    /// The filter in force.
    pub fn filter(&self) -> &Filter {
        &self.filter
    }

    /// Marks the row under the cursor or takes the mark away.
    pub fn toggle_mark(&mut self) {
        if let Some(key) = self.cursor.clone()
            && !self.marks.remove(&key)
        {
            self.marks.insert(key);
        }
    }

    /// Marks all shown rows, or clears all marks if all shown ones have one.
    pub fn toggle_all_marks(&mut self) {
        let shown: Vec<RowKey> = (0..self.shown()).filter_map(|i| self.at(i)).map(|r| r.key.clone()).collect();
        if shown.iter().all(|key| self.marks.contains(key)) {
            self.marks.clear();
        } else {
            self.marks.extend(shown);
        }
    }

    /// Takes all marks away.
    pub fn clear_marks(&mut self) {
        self.marks.clear();
    }

    /// Whether a row is marked.
    pub fn is_marked(&self, key: &RowKey) -> bool {
        self.marks.contains(key)
    }

    /// How many rows are marked, shown or not.
    pub fn marked(&self) -> usize {
        self.marks.len()
    }

    /// Marked rows: those that the filter hides come first, so that nobody acts on them unseen.
    pub fn marked_rows(&self) -> Vec<(&Row, bool)> {
        let shown: std::collections::HashSet<&RowKey> =
            self.order.iter().filter_map(|at| self.rows.get(*at as usize)).map(|r| &r.key).collect();
        let mut rows: Vec<(&Row, bool)> =
            self.marks.iter().filter_map(|key| self.get(key)).map(|row| (row, !shown.contains(&row.key))).collect();
        rows.sort_by(|(a, ah), (b, bh)| bh.cmp(ah).then_with(|| a.name.cmp(&b.name)));
        rows
    }

    /// First shown position for a viewport of `height` rows; keeps the cursor inside and moves as little as it can.
    pub fn scroll(&self, height: usize) -> usize {
        let last = self.shown().saturating_sub(height);
        let mut top = self.scroll.get().min(last);
        if self.cursor_at < top {
            top = self.cursor_at;
        } else if height > 0 && self.cursor_at >= top + height {
            top = self.cursor_at + 1 - height;
        }
        self.scroll.set(top);
        top
    }
}

fn key(namespace: &str, name: &str, uid: &str) -> RowKey {
    if uid.is_empty() { RowKey(format!("{namespace}/{name}").into()) } else { RowKey(uid.into()) }
}

/// Rows without a value come last in both directions.
fn compare(a: &SortKey, b: &SortKey, descending: bool) -> Ordering {
    match (a, b) {
        (SortKey::Nothing, SortKey::Nothing) => Ordering::Equal,
        (SortKey::Nothing, _) => Ordering::Greater,
        (_, SortKey::Nothing) => Ordering::Less,
        _ => {
            let order = a.partial_cmp(b).unwrap_or(Ordering::Equal);
            if descending { order.reverse() } else { order }
        }
    }
}

/// A cell's text: strings as they are, nothing for null, compact JSON for the rest; always printable.
fn cell_text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => printable(text.trim_matches(['\n', ' '])).to_string(),
        other => printable(&other.to_string()).to_string(),
    }
}

/// The instant behind a date cell. Servers print ages as text that is old once sent, so they are made again
/// here from the object.
fn date_of(column: &TableColumn, object: &Value) -> Option<i64> {
    let parse = |v: &Value| v.as_str().and_then(|t| t.parse::<jiff::Timestamp>().ok()).map(|t| t.as_second());
    let name = column.name.to_ascii_lowercase();
    match name.as_str() {
        "age" => parse(&object["metadata"]["creationTimestamp"]),
        "uptime" => parse(&object["status"]["stats"]["lastStartTime"]),
        "last seen" => ["lastTimestamp", "eventTime", "firstTimestamp"]
            .iter()
            .find_map(|field| parse(&object[*field]))
            .or_else(|| parse(&object["series"]["lastObservedTime"])),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn columns() -> Vec<TableColumn> {
        ["Name", "Phase", "Memory", "Age"]
            .iter()
            .map(|name| TableColumn {
                name: (*name).into(),
                kind: if *name == "Age" { "date" } else { "string" }.into(),
                format: if *name == "Name" { "name" } else { "" }.into(),
                description: String::new(),
                priority: 0,
            })
            .collect()
    }

    fn row(name: &str, phase: &str, memory: &str, created: &str) -> TableRow {
        TableRow {
            cells: vec![json!(name), json!(phase), json!(memory), json!("old text")],
            object: json!({"metadata": {"name": name, "namespace": "d", "uid": format!("u-{name}"),
                "creationTimestamp": created, "labels": {"app": name}}}),
        }
    }

    fn table() -> Table {
        let mut table = Table::default();
        table.reset(
            columns(),
            vec![
                row("vm-10", "Running", "512Mi", "2026-01-01T00:00:00Z"),
                row("vm-2", "Stopped", "1Gi", "2026-01-02T00:00:00Z"),
                row("vm-1", "Running", "2Gi", "2026-01-03T00:00:00Z"),
            ],
        );
        table
    }

    fn names(table: &Table) -> Vec<&str> {
        (0..table.shown()).filter_map(|i| table.at(i)).map(|r| r.name.as_str()).collect()
    }

    #[test]
    fn rows_sort_by_value_not_by_letters() {
        let mut table = table();
        assert_eq!(names(&table), ["vm-1", "vm-2", "vm-10"]);
        table.sort_by(2);
        assert_eq!(names(&table), ["vm-10", "vm-2", "vm-1"]);
        table.sort_by(2);
        assert_eq!(names(&table), ["vm-1", "vm-2", "vm-10"]);
        table.sort_by(3);
        assert_eq!(names(&table), ["vm-1", "vm-2", "vm-10"], "youngest first");
    }

    #[test]
    fn the_cursor_follows_its_object() {
        let mut table = table();
        table.move_to(1);
        assert_eq!(table.current().unwrap().name, "vm-2");
        table.upsert(row("vm-0", "Pending", "", "2026-01-04T00:00:00Z"), 5);
        table.settle();
        assert_eq!((table.current().unwrap().name.as_str(), table.cursor()), ("vm-2", 2));
        table.sort_by(0);
        assert_eq!((table.current().unwrap().name.as_str(), table.cursor()), ("vm-2", 1));
        table.remove("d", "vm-2", "u-vm-2");
        table.settle();
        assert_eq!((table.current().unwrap().name.as_str(), table.cursor()), ("vm-1", 1), "a neighbour takes over");
    }

    #[test]
    fn filter_hides_rows_and_marks_survive() {
        let mut table = table();
        table.toggle_mark();
        table.set_filter(Filter::parse("stopped").unwrap());
        assert_eq!(names(&table), ["vm-2"]);
        assert_eq!((table.shown(), table.total(), table.marked()), (1, 3, 1));
        table.toggle_mark();
        let marked: Vec<_> = table.marked_rows().iter().map(|(r, hidden)| (r.name.clone(), *hidden)).collect();
        assert_eq!(marked, [("vm-1".to_owned(), true), ("vm-2".to_owned(), false)]);
        table.set_filter(Filter::All);
        assert_eq!(table.shown(), 3);
        table.remove("d", "vm-2", "u-vm-2");
        assert_eq!(table.marked(), 1);
    }

    #[test]
    fn only_real_changes_flash() {
        let mut table = table();
        table.upsert(row("vm-1", "Running", "2Gi", "2026-01-03T00:00:00Z"), 7);
        assert_eq!(table.get(&RowKey("u-vm-1".into())).unwrap().changed, None);
        table.upsert(row("vm-1", "Stopping", "2Gi", "2026-01-03T00:00:00Z"), 9);
        assert_eq!(table.get(&RowKey("u-vm-1".into())).unwrap().changed, Some(9));
    }

    #[test]
    fn hostile_text_is_made_printable() {
        let mut table = Table::default();
        let mut bad = row("evil", "\u{1b}[2JRunning\u{7}", "", "");
        bad.object["metadata"]["name"] = json!("a\u{1b}]0;x\u{7}");
        table.reset(columns(), vec![bad]);
        let row = table.at(0).unwrap();
        assert!(row.cells.iter().chain([&row.name]).all(|c| !c.chars().any(char::is_control)), "{row:?}");
    }

    #[test]
    fn scrolling_keeps_the_cursor_inside() {
        let mut table = Table::default();
        table.reset(columns(), (0..50).map(|i| row(&format!("vm-{i}"), "", "", "")).collect());
        assert_eq!(table.scroll(10), 0);
        table.move_to(12);
        assert_eq!(table.scroll(10), 3);
        table.move_to(5);
        assert_eq!(table.scroll(10), 3);
        table.move_to(2);
        assert_eq!(table.scroll(10), 2);
    }
}
