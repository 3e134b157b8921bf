//! Evaluation: from steps and a document to the selected values.

use std::cell::Cell;
use std::cmp::Ordering;

use serde_json::Value;

use super::{Comparison, Condition, Operand, Step};

/// Values that one evaluation may look at. A path like `..*@..*@` selects more with every step, without end; a list of
/// 50,000 objects with ten columns stays below.
pub(super) const BUDGET: usize = 1 << 22;

/// What is left of an evaluation's budget. When it is used up, nothing more is selected.
pub(super) struct Budget(Cell<usize>);

impl Budget {
    pub(super) fn new() -> Self {
        Self(Cell::new(BUDGET))
    }

    /// Whether something may be missing.
    pub(super) fn is_used_up(&self) -> bool {
        self.0.get() == 0
    }

    /// Takes one step; false when there is none left.
    fn spend(&self) -> bool {
        let left = self.0.get();
        self.0.set(left.saturating_sub(1));
        left > 0
    }
}

/// The values that `steps` select, starting at `current` inside `root`.
pub(super) fn walk<'a>(steps: &[Step], root: &'a Value, current: &'a Value, budget: &Budget) -> Vec<&'a Value> {
    let mut found = vec![current];
    for step in steps {
        let mut next = Vec::new();
        for value in found {
            select(step, root, current, value, budget, &mut next);
        }
        found = next;
    }
    found
}

fn select<'a>(
    step: &Step,
    root: &'a Value,
    current: &'a Value,
    value: &'a Value,
    budget: &Budget,
    out: &mut Vec<&'a Value>,
) {
    if !budget.spend() {
        return;
    }
    match step {
        Step::Root => out.push(root),
        Step::Current => out.push(current),
        Step::Field(name) => out.extend(value.get(name)),
        Step::Key(name) => {
            out.extend(value.get(name).or_else(|| name.split('.').try_fold(value, |v, part| v.get(part))))
        }
        Step::Index(n) => {
            if let Some(items) = value.as_array() {
                out.extend(position(*n, items.len()).and_then(|at| items.get(at)));
            }
        }
        Step::Slice { start, end, step } => {
            if let Some(items) = value.as_array() {
                slice(items, *start, *end, *step, out);
            }
        }
        Step::Wildcard => out.extend(children(value).take_while(|_| budget.spend())),
        Step::Recursive => descend(value, budget, out),
        Step::Union(parts) => {
            for part in parts {
                select(part, root, current, value, budget, out);
            }
        }
        Step::Filter(condition) => {
            let items = children(value).take_while(|_| budget.spend());
            out.extend(items.filter(|item| holds(condition, root, item, budget)));
        }
    }
}

fn position(n: i64, len: usize) -> Option<usize> {
    let len = i64::try_from(len).ok()?;
    usize::try_from(if n < 0 { n + len } else { n }).ok()
}

/// Go-style bounds: negative from the end, clipped to the list; a step below 1 selects nothing.
fn slice<'a>(items: &'a [Value], start: Option<i64>, end: Option<i64>, step: i64, out: &mut Vec<&'a Value>) {
    let Ok(step) = usize::try_from(step) else { return };
    if step == 0 {
        return;
    }
    let bound = |n: Option<i64>, default: usize| match n {
        None => default,
        Some(n) => position(n, items.len()).unwrap_or(0).min(items.len()),
    };
    let (start, end) = (bound(start, 0), bound(end, items.len()));
    if start < end {
        out.extend(items[start..end].iter().step_by(step));
    }
}

fn children(value: &Value) -> Box<dyn Iterator<Item = &Value> + '_> {
    match value {
        Value::Array(items) => Box::new(items.iter()),
        Value::Object(map) => Box::new(map.values()),
        _ => Box::new(std::iter::empty()),
    }
}

/// The value and all containers below it, parents first. Depth is bounded by the JSON reader.
fn descend<'a>(value: &'a Value, budget: &Budget, out: &mut Vec<&'a Value>) {
    let mut below = children(value).peekable();
    if below.peek().is_some() && budget.spend() {
        out.push(value);
        for child in below {
            descend(child, budget, out);
        }
    }
}

fn holds(condition: &Condition, root: &Value, item: &Value, budget: &Budget) -> bool {
    match condition {
        Condition::And(a, b) => holds(a, root, item, budget) && holds(b, root, item, budget),
        Condition::Or(a, b) => holds(a, root, item, budget) || holds(b, root, item, budget),
        Condition::Not(a) => !holds(a, root, item, budget),
        Condition::Exists(Operand::Literal(value)) => value == &Value::Bool(true),
        Condition::Exists(Operand::Path(steps)) => !walk(steps, root, item, budget).is_empty(),
        Condition::Compare(a, how, b) => match (operand(a, root, item, budget), operand(b, root, item, budget)) {
            (Some(a), Some(b)) => compare(a, *how, b),
            _ => false,
        },
    }
}

fn operand<'a>(operand: &'a Operand, root: &'a Value, item: &'a Value, budget: &Budget) -> Option<&'a Value> {
    match operand {
        Operand::Literal(value) => Some(value),
        Operand::Path(steps) => walk(steps, root, item, budget).into_iter().next(),
    }
}

fn compare(a: &Value, how: Comparison, b: &Value) -> bool {
    let order = match (a, b) {
        (Value::Number(x), Value::Number(y)) => match (x.as_i64(), y.as_i64()) {
            (Some(x), Some(y)) => Some(x.cmp(&y)),
            _ => x.as_f64().zip(y.as_f64()).and_then(|(x, y)| x.partial_cmp(&y)),
        },
        (Value::String(x), Value::String(y)) => Some(x.cmp(y)),
        _ => (a == b).then_some(Ordering::Equal),
    };
    match how {
        Comparison::Equal => order == Some(Ordering::Equal),
        Comparison::NotEqual => order != Some(Ordering::Equal),
        Comparison::Less => order == Some(Ordering::Less),
        Comparison::LessOrEqual => matches!(order, Some(Ordering::Less | Ordering::Equal)),
        Comparison::Greater => order == Some(Ordering::Greater),
        Comparison::GreaterOrEqual => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
    }
}
