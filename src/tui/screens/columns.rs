//! Which columns fit: the name always stays and is never cut from the left; others go by rank.

use super::super::table::Table;
use super::super::text::width;

/// How a column's cells are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// The object's name.
    Name,
    /// A state: sign, word, colour.
    Phase,
    /// `True` calls for attention.
    Alarm,
    /// A yes or no.
    Flag,
    /// Renewed as time goes by.
    Age,
    /// Ends at the same cell.
    Number,
    /// Progress in percent.
    Progress,
    /// As it is.
    Plain,
}

/// Where a column comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The namespace, shown when several are listed.
    Namespace,
    /// A column of the server's table.
    Cell(usize),
}

/// A column that is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// What it shows.
    pub source: Source,
    /// Its heading.
    pub title: String,
    /// How.
    pub look: Look,
    /// Cells, without the gap behind it.
    pub width: u16,
}

/// Cells between columns.
pub const GAP: u16 = 2;

/// Widest column other than name and message.
const CAP: usize = 36;

/// Narrowest name column that is still worth having.
const NAME_MIN: usize = 12;

/// Chooses columns and widths for `cells` cells. `restart` makes room for "needs a restart" behind the phase while
/// the column of that name is hidden.
pub fn plan(table: &Table, wide: bool, namespace: bool, restart: bool, cells: u16) -> Vec<Planned> {
    struct Candidate {
        planned: Planned,
        rank: u8,
        position: usize,
    }
    let mut candidates = Vec::new();
    if namespace {
        let widest = table.rows().iter().take(500).map(|r| width(&r.namespace)).max().unwrap_or(0).max(9);
        candidates.push(Candidate {
            planned: Planned {
                source: Source::Namespace,
                title: "Namespace".into(),
                look: Look::Plain,
                width: u16::try_from(widest.min(CAP)).unwrap_or(9),
            },
            rank: 2,
            position: 0,
        });
    }
    for (i, column) in table.columns().iter().enumerate() {
        if column.priority > 0 && !wide {
            continue;
        }
        let look = look(&column.name, &column.kind, i == 0);
        let natural = table.column_width(i) + usize::from(look == Look::Phase) * 2;
        let natural = match look {
            Look::Age => natural.clamp(6, 9),
            Look::Name => natural.min(63),
            Look::Progress => natural.max(5),
            _ if column.name.eq_ignore_ascii_case("message") => natural,
            Look::Phase => (natural + if restart && !wide { 10 } else { 0 }).min(CAP),
            _ => natural.min(CAP),
        };
        candidates.push(Candidate {
            planned: Planned {
                source: Source::Cell(i),
                title: column.name.clone(),
                look,
                width: u16::try_from(natural.max(width(&column.name))).unwrap_or(u16::MAX),
            },
            rank: rank(&column.name, look) + u8::from(column.priority > 0) * 4,
            position: i + 1,
        });
    }
    candidates.sort_by_key(|c| (c.rank, c.position));
    let total = usize::from(cells);
    let mut used = 0;
    let mut kept: Vec<Candidate> = Vec::new();
    for mut candidate in candidates {
        let gap = if kept.is_empty() { 0 } else { usize::from(GAP) };
        let room = total.saturating_sub(used + gap);
        let natural = usize::from(candidate.planned.width);
        let flexible = candidate.planned.look == Look::Name || candidate.planned.title.eq_ignore_ascii_case("message");
        if natural <= room {
            used += gap + natural;
            kept.push(candidate);
        } else if flexible && (room >= NAME_MIN || kept.is_empty()) {
            candidate.planned.width = u16::try_from(room).unwrap_or(cells);
            used += gap + room;
            kept.push(candidate);
        }
        // What does not fit is left out; a narrower column of lower rank may still fit.
    }
    kept.sort_by_key(|c| c.position);
    kept.into_iter().map(|c| c.planned).collect()
}

fn look(name: &str, kind: &str, first: bool) -> Look {
    match name.to_ascii_lowercase().as_str() {
        "name" if first => Look::Name,
        "phase" | "status" => Look::Phase,
        "need restart" => Look::Alarm,
        "agent" | "migratable" | "inuse" | "cdrom" | "ready" => Look::Flag,
        "progress" => Look::Progress,
        _ if kind == "date" => Look::Age,
        "age" | "uptime" | "last seen" => Look::Age,
        _ if first => Look::Name,
        _ if kind == "integer" || kind == "number" => Look::Number,
        _ => Look::Plain,
    }
}

/// The lower, the longer it stays when space gets scarce.
fn rank(name: &str, look: Look) -> u8 {
    match (look, name.to_ascii_lowercase().as_str()) {
        (Look::Name, _) => 0,
        (Look::Phase, _) => 1,
        (_, "ipaddress" | "address" | "type" | "reason" | "virtualmachine" | "virtual machine name" | "vm") => 2,
        (Look::Alarm | Look::Progress, _) => 2,
        (_, "capacity" | "object" | "message") => 3,
        (Look::Age, _) => 3,
        _ => 4,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::client::{TableColumn, TableRow};

    fn table() -> Table {
        let column = |name: &str, kind: &str, priority| TableColumn {
            name: name.into(),
            kind: kind.into(),
            format: String::new(),
            description: String::new(),
            priority,
        };
        let mut table = Table::default();
        table.reset(
            vec![
                column("Name", "string", 0),
                column("Phase", "string", 0),
                column("Cores", "integer", 1),
                column("Need restart", "string", 1),
                column("Node", "string", 0),
                column("IPAddress", "string", 0),
                column("Age", "date", 0),
            ],
            vec![TableRow {
                cells: ["a-rather-long-machine-name", "Running", "2", "True", "node-1", "10.66.10.12", "5m"]
                    .iter()
                    .map(|c| json!(c))
                    .collect(),
                object: json!({"metadata": {"name": "a-rather-long-machine-name", "namespace": "demo"}}),
            }],
        );
        table
    }

    fn titles(cells: u16, wide: bool) -> Vec<String> {
        plan(&table(), wide, false, false, cells).into_iter().map(|p| p.title).collect()
    }

    #[test]
    fn columns_go_by_rank_and_the_name_stays() {
        assert_eq!(titles(80, false), ["Name", "Phase", "Node", "IPAddress", "Age"]);
        assert_eq!(titles(60, false), ["Name", "Phase", "IPAddress", "Age"]);
        assert_eq!(titles(40, false), ["Name", "Phase"]);
        assert_eq!(titles(14, false), ["Name"]);
        assert_eq!(titles(120, true), ["Name", "Phase", "Cores", "Need restart", "Node", "IPAddress", "Age"]);
    }

    #[test]
    fn the_plan_never_exceeds_the_width() {
        for cells in 1..200 {
            let plan = plan(&table(), true, true, true, cells);
            let used: u16 = plan.iter().map(|p| p.width).sum::<u16>() + GAP * (plan.len().max(1) as u16 - 1);
            assert!(used <= cells, "{used} > {cells}");
            assert!(plan.iter().any(|p| p.look == Look::Name), "{cells}");
        }
    }
}
