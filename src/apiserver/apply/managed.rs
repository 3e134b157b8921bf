//! `metadata.managedFields`: who owns which fields.

use serde_json::{Map, Value, json};

use super::Writer;
use super::fields::FieldSet;

/// Entries of plain writes that are kept apart; the oldest beyond are merged.
const MOST_UPDATE_MANAGERS: usize = 10;
/// Owner of what the merged entries held.
const ANCIENT: &str = "ancient-changes";

/// How a manager wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// Server-side apply.
    Apply,
    /// Anything else.
    Update,
}

impl Operation {
    fn as_str(self) -> &'static str {
        match self {
            Self::Apply => "Apply",
            Self::Update => "Update",
        }
    }
}

/// One owner.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub manager: String,
    pub operation: Operation,
    pub api_version: String,
    /// Empty for the object itself.
    pub subresource: String,
    /// RFC 3339, seconds.
    pub time: Option<String>,
    pub fields: FieldSet,
}

impl Entry {
    /// An owner of nothing yet.
    pub fn new(writer: &Writer<'_>, operation: Operation) -> Self {
        Self {
            manager: writer.manager.to_owned(),
            operation,
            api_version: writer.api_version.to_owned(),
            subresource: writer.subresource.unwrap_or_default().to_owned(),
            time: None,
            fields: FieldSet::default(),
        }
    }

    /// Whether both speak for the same owner. An applier is one owner whatever version it used.
    pub fn same_owner(&self, other: &Entry) -> bool {
        self.manager == other.manager
            && self.operation == other.operation
            && self.subresource == other.subresource
            && (self.operation == Operation::Apply || self.api_version == other.api_version)
    }

    /// As conflict messages name the owner.
    pub fn shown(&self) -> String {
        let mut text = json!(self.manager).to_string();
        if !self.subresource.is_empty() {
            text.push_str(&format!(" with subresource {}", json!(self.subresource)));
        }
        if self.operation == Operation::Update {
            text.push_str(&format!(" using {}", self.api_version));
        }
        text
    }
}

/// What a client asks for with the `managedFields` it sends.
#[derive(Debug, PartialEq)]
pub enum Sent {
    /// Nothing, or something unreadable: the live entries stay.
    Keep,
    /// `[{}]`: all are dropped.
    Clear,
    /// These replace the live ones.
    Replace(Vec<Entry>),
}

/// Reads what a written object carries.
pub fn sent(object: &Value) -> Sent {
    let list = list(object);
    if let [only] = list
        && only.as_object().is_some_and(Map::is_empty)
    {
        return Sent::Clear;
    }
    match list.iter().map(decode).collect::<Option<Vec<_>>>() {
        Some(entries) if !entries.is_empty() => Sent::Replace(entries),
        _ => Sent::Keep,
    }
}

/// The owners an object has; entries that cannot be read make all void, as nothing can be said of them.
pub fn owners(object: &Value) -> Vec<Entry> {
    list(object).iter().map(decode).collect::<Option<Vec<_>>>().unwrap_or_default()
}

fn list(object: &Value) -> &[Value] {
    object.pointer("/metadata/managedFields").and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn decode(entry: &Value) -> Option<Entry> {
    let text = |name: &str| entry.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let operation = match text("operation").as_str() {
        "Apply" => Operation::Apply,
        "Update" => Operation::Update,
        _ => return None,
    };
    if !matches!(text("fieldsType").as_str(), "" | "FieldsV1") {
        return None;
    }
    let fields = match entry.get("fieldsV1") {
        None | Some(Value::Null) => FieldSet::default(),
        Some(fields) => FieldSet::from_fields_v1(fields)?,
    };
    Some(Entry {
        manager: text("manager"),
        operation,
        api_version: text("apiVersion"),
        subresource: text("subresource"),
        time: Some(text("time")).filter(|t| !t.is_empty()),
        fields,
    })
}

/// Writes the owners into `metadata.managedFields`, in Kubernetes' order: appliers first, then by time and name.
pub fn write(object: &mut Value, mut entries: Vec<Entry>) {
    entries.retain(|e| !e.fields.is_empty());
    entries.sort_by(|a, b| {
        (a.operation, &a.time, &a.manager, &a.api_version, &a.subresource).cmp(&(
            b.operation,
            &b.time,
            &b.manager,
            &b.api_version,
            &b.subresource,
        ))
    });
    let list: Vec<Value> = entries.into_iter().map(encode).collect();
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else { return };
    if list.is_empty() {
        metadata.shift_remove("managedFields");
    } else {
        metadata.insert("managedFields".to_owned(), Value::Array(list));
    }
}

fn encode(entry: Entry) -> Value {
    let mut out = json!({
        "manager": entry.manager,
        "operation": entry.operation.as_str(),
        "apiVersion": entry.api_version,
    });
    if let Some(time) = entry.time {
        out["time"] = Value::from(time);
    }
    out["fieldsType"] = Value::from("FieldsV1");
    out["fieldsV1"] = entry.fields.to_fields_v1();
    if !entry.subresource.is_empty() {
        out["subresource"] = Value::from(entry.subresource);
    }
    out
}

/// Merges the oldest plain writers into one owner per version once there are more than ten.
pub fn fold_ancient(entries: &mut Vec<Entry>) {
    let mut updates: Vec<usize> = (0..entries.len()).filter(|n| entries[*n].operation == Operation::Update).collect();
    let excess = updates.len().saturating_sub(MOST_UPDATE_MANAGERS);
    if excess == 0 {
        return;
    }
    updates.sort_by_key(|n| (entries[*n].time.clone(), entries[*n].manager.clone()));
    // Folding n entries into one makes n - 1 fewer.
    let folded: Vec<usize> = updates.into_iter().take(excess + 1).collect();
    let mut buckets: Vec<Entry> = Vec::new();
    for n in &folded {
        let entry = &entries[*n];
        match buckets.iter_mut().find(|b| b.api_version == entry.api_version) {
            Some(bucket) => {
                bucket.fields.add(&entry.fields);
                bucket.time.clone_from(&entry.time);
            }
            None => buckets.push(Entry { manager: ANCIENT.to_owned(), subresource: String::new(), ..entry.clone() }),
        }
    }
    let mut n = 0;
    entries.retain(|_| {
        n += 1;
        !folded.contains(&(n - 1))
    });
    entries.extend(buckets);
}
