//! `get`: tables as the server prints them, or objects in a format of the user's choice.

use futures::StreamExt;
use serde_json::{Value, json};

use crate::cli::GetArgs;
use crate::cli::format::Output;
use crate::client::{ListOptions, Table, TableColumn, TableEvent, TableRow};
use crate::types::jsonpath;
use crate::types::kinds::KindInfo;

use super::Context;
use super::failure::Failure;
use super::print::{self, Grid, Shown};
use super::resolve::{Selection, singular_group};
use super::{input, out};

/// Runs the verb.
pub async fn run(context: &Context, args: GetArgs) -> Result<(), Failure> {
    let selection = if args.files.is_empty() {
        Selection::parse(&args.what)?
    } else {
        let docs = input::documents(&args.files, false, &context.session, context.namespace())?;
        Selection::Named(docs.into_iter().map(|d| (d.kind, d.name)).collect())
    };
    let format = Format::new(args.output.clone().unwrap_or_default(), args.show_managed_fields)?;
    if args.watch || args.watch_only {
        return watch(context, &args, &selection, &format).await;
    }
    let options = options(&args);
    let namespace = namespace(context, &args);
    match (&format, &selection) {
        (Format::Columns { wide }, _) => {
            let shown = shown(&args, &selection, *wide);
            tables(context, &args, &selection, namespace, &options, shown).await
        }
        (format, Selection::Kinds(kinds)) => {
            let mut items = Vec::new();
            let mut single = None;
            for kind in kinds {
                let mut list = context.session.list(kind, namespace, &options).await?;
                if let Value::Array(mut found) = list["items"].take() {
                    for item in &mut found {
                        fill_type(item, kind);
                    }
                    items.append(&mut found);
                }
                single = Some(list);
            }
            sort(&mut items, args.sort_by.as_deref())?;
            let list = match single {
                Some(mut list) if kinds.len() == 1 => {
                    list["items"] = Value::Array(items);
                    list
                }
                _ => json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": ""}, "items": items}),
            };
            format.print(&list)
        }
        (format, Selection::Named(names)) => {
            let mut found = Vec::new();
            for (kind, name) in names {
                match context.session.get(kind, namespace, name).await {
                    Ok(mut object) => {
                        fill_type(&mut object, kind);
                        found.push(object);
                    }
                    Err(e) if e.is_not_found() && args.ignore_not_found => {}
                    Err(e) => return Err(e.into()),
                }
            }
            if found.is_empty() {
                return Ok(());
            }
            if names.len() == 1 {
                return format.print(&found[0]);
            }
            format.print(
                &json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": ""}, "items": found}),
            )
        }
    }
}

fn options(args: &GetArgs) -> ListOptions {
    ListOptions { labels: args.selector.clone(), fields: args.field_selector.clone() }
}

fn namespace<'a>(context: &'a Context, args: &GetArgs) -> Option<&'a str> {
    if args.all_namespaces { None } else { Some(context.session.default_namespace.as_str()) }
}

fn shown(args: &GetArgs, selection: &Selection, wide: bool) -> Shown<'static> {
    let several = match selection {
        Selection::Kinds(kinds) => kinds.len() > 1,
        Selection::Named(names) => names.windows(2).any(|w| w[0].0.plural != w[1].0.plural),
    };
    // A marker; the prefix itself differs for each kind.
    Shown { wide, namespace: args.all_namespaces, labels: args.show_labels, prefix: several.then_some("") }
}

/// Items of a list carry no type of their own from some servers.
fn fill_type(object: &mut Value, kind: &KindInfo) {
    if let Some(top) = object.as_object_mut() {
        if !top.contains_key("kind") {
            top.shift_insert(0, "kind".into(), json!(kind.kind));
        }
        if !top.contains_key("apiVersion") {
            top.shift_insert(0, "apiVersion".into(), json!(kind.api_version()));
        }
    }
}

async fn tables(
    context: &Context,
    args: &GetArgs,
    selection: &Selection,
    namespace: Option<&str>,
    options: &ListOptions,
    shown: Shown<'_>,
) -> Result<(), Failure> {
    let mut parts: Vec<(&'static KindInfo, Table)> = Vec::new();
    match selection {
        Selection::Kinds(kinds) => {
            for kind in kinds {
                parts.push((kind, context.session.table(kind, namespace, None, options).await?));
            }
        }
        Selection::Named(names) => {
            for (kind, name) in names {
                match context.session.table(kind, namespace, Some(name), &ListOptions::default()).await {
                    Ok(table) => match parts.last_mut() {
                        Some((last, known)) if last.plural == kind.plural => known.rows.extend(table.rows),
                        _ => parts.push((kind, table)),
                    },
                    Err(e) if e.is_not_found() && args.ignore_not_found => {}
                    Err(e) => return Err(e.into()),
                }
            }
        }
    }
    let mut first = true;
    for (kind, mut table) in parts {
        if table.rows.is_empty() {
            continue;
        }
        sort_rows(&mut table.rows, args.sort_by.as_deref())?;
        if !std::mem::take(&mut first) {
            out::block("\n")?;
        }
        let prefix = singular_group(kind);
        out::block(&render(
            &table,
            Shown { prefix: shown.prefix.map(|_| prefix.as_str()), ..shown },
            !args.no_headers,
        ))?;
    }
    if first {
        let empty = match namespace {
            Some(ns) if matches!(selection, Selection::Kinds(k) if k.iter().any(|k| k.namespaced())) => {
                format!("No resources found in {ns} namespace.")
            }
            _ => "No resources found".to_owned(),
        };
        if !args.ignore_not_found {
            out::note(&empty);
        }
    }
    Ok(())
}

fn render(table: &Table, shown: Shown<'_>, header: bool) -> String {
    let mut rows = Vec::with_capacity(table.rows.len() + 1);
    if header {
        rows.push(print::headings(&table.columns, shown));
    }
    rows.extend(table.rows.iter().map(|r| print::cells(&table.columns, r, shown)));
    Grid::default().lines(&rows)
}

fn sort(items: &mut [Value], by: Option<&str>) -> Result<(), Failure> {
    let Some(by) = by else { return Ok(()) };
    let path = jsonpath::Path::parse(by).map_err(|e| Failure::usage(format!("--sort-by: {e}")))?;
    items.sort_by(|a, b| compare(path.first(a), path.first(b)));
    Ok(())
}

fn sort_rows(rows: &mut [TableRow], by: Option<&str>) -> Result<(), Failure> {
    let Some(by) = by else { return Ok(()) };
    let path = jsonpath::Path::parse(by).map_err(|e| Failure::usage(format!("--sort-by: {e}")))?;
    rows.sort_by(|a, b| compare(path.first(&a.object), path.first(&b.object)));
    Ok(())
}

/// Numbers by value, anything else by its text; what is absent comes first.
fn compare(a: Option<&Value>, b: Option<&Value>) -> std::cmp::Ordering {
    match (a.and_then(Value::as_f64), b.and_then(Value::as_f64)) {
        (Some(a), Some(b)) => a.total_cmp(&b),
        _ => a.map(jsonpath::text_of).cmp(&b.map(jsonpath::text_of)),
    }
}

/// An output format, ready to print.
pub enum Format {
    /// The server's columns.
    Columns {
        /// All of them.
        wide: bool,
    },
    /// YAML.
    Yaml {
        /// With `managedFields`.
        managed: bool,
    },
    /// JSON.
    Json {
        /// With `managedFields`.
        managed: bool,
    },
    /// `kind.group/name`.
    Name,
    /// A template.
    JsonPath(jsonpath::Template),
    /// Own columns.
    Custom(Vec<(String, jsonpath::Path)>),
}

impl Format {
    /// Checks templates.
    pub fn new(output: Output, managed: bool) -> Result<Self, Failure> {
        let template = |text: &str| {
            jsonpath::Template::parse(text).map(Self::JsonPath).map_err(|e| Failure::usage(format!("-o jsonpath: {e}")))
        };
        Ok(match output {
            Output::Table => Self::Columns { wide: false },
            Output::Wide => Self::Columns { wide: true },
            Output::Yaml => Self::Yaml { managed },
            Output::Json => Self::Json { managed },
            Output::Name => Self::Name,
            Output::JsonPath(text) => template(&text)?,
            Output::JsonPathFile(file) => template(input::read(std::path::Path::new(&file))?.trim_end_matches('\n'))?,
            Output::CustomColumns(columns) => Self::Custom(
                columns
                    .into_iter()
                    .map(|(heading, path)| Ok((heading, jsonpath::Path::parse(&path)?)))
                    .collect::<Result<_, jsonpath::JsonPathError>>()
                    .map_err(|e| Failure::usage(format!("-o custom-columns: {e}")))?,
            ),
        })
    }

    /// Prints an object or a list. [`Format::Columns`] prints nothing: it needs a table.
    pub fn print(&self, object: &Value) -> Result<(), Failure> {
        match self {
            Self::Columns { .. } => Ok(()),
            Self::Yaml { managed } => out::data(&print::yaml(&tidy(object, *managed))),
            Self::Json { managed } => out::data(&print::json(&tidy(object, *managed))),
            Self::Name => out::block(&items(object).map(name_line).collect::<Vec<_>>().join("\n")),
            Self::JsonPath(template) => {
                let text = template.render(object).map_err(|e| Failure::new(format!("-o jsonpath: {e}")))?;
                out::data(&text)
            }
            Self::Custom(columns) => {
                let mut rows = vec![columns.iter().map(|(h, _)| h.clone()).collect::<Vec<_>>()];
                rows.extend(items(object).map(|o| columns.iter().map(|(_, p)| custom_cell(p, o)).collect()));
                out::block(&Grid::default().lines(&rows))
            }
        }
    }
}

fn custom_cell(path: &jsonpath::Path, object: &Value) -> String {
    let found: Vec<String> =
        path.find(object).into_iter().filter(|v| !v.is_null()).map(|v| jsonpath::text_of(v).into_owned()).collect();
    if found.is_empty() { "<none>".into() } else { found.join(",") }
}

fn tidy(object: &Value, managed: bool) -> Value {
    if managed {
        return object.clone();
    }
    let mut object = print::without_managed_fields(object.clone());
    if let Some(items) = object.get_mut("items").and_then(Value::as_array_mut) {
        for item in items {
            *item = print::without_managed_fields(item.take());
        }
    }
    object
}

fn items(object: &Value) -> Box<dyn Iterator<Item = &Value> + '_> {
    match object["items"].as_array() {
        Some(items) => Box::new(items.iter()),
        None => Box::new(std::iter::once(object)),
    }
}

/// `virtualmachine.virtualization.deckhouse.io/name`.
pub fn name_line(object: &Value) -> String {
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    let (kind, name) = (text(&object["kind"]), text(&object["metadata"]["name"]));
    let api_version = text(&object["apiVersion"]);
    match crate::types::kinds::by_kind(&api_version, &kind) {
        Some(kind) => format!("{}/{name}", singular_group(kind)),
        None => match api_version.split_once('/') {
            Some((group, _)) => format!("{}.{group}/{name}", kind.to_lowercase()),
            None => format!("{}/{name}", kind.to_lowercase()),
        },
    }
}

async fn watch(context: &Context, args: &GetArgs, selection: &Selection, format: &Format) -> Result<(), Failure> {
    let mut options = options(args);
    let kind = match selection {
        Selection::Kinds(kinds) if kinds.len() == 1 => kinds[0],
        Selection::Named(names) if names.len() == 1 => {
            // A name that does not exist is an error now, not an empty watch.
            context.session.get(names[0].0, namespace(context, args), &names[0].1).await?;
            options.fields = Some(format!("metadata.name={}", names[0].1));
            names[0].0
        }
        _ => return Err(Failure::usage("watch one kind, or one object")),
    };
    let wide = matches!(format, Format::Columns { wide: true });
    let mut printer = WatchPrinter {
        grid: Grid::default(),
        columns: Vec::new(),
        shown: Shown { wide, namespace: args.all_namespaces, labels: args.show_labels, prefix: None },
        header: !args.no_headers,
        gone: std::collections::HashMap::new(),
    };
    let mut events = Box::pin(context.session.table_watch_with(kind, namespace(context, args), options));
    let mut begun = false;
    while let Some(event) = events.next().await {
        match event {
            TableEvent::Reset { columns, rows } => {
                printer.columns = columns;
                let silent = args.watch_only && !begun;
                begun = true;
                for row in rows {
                    printer.row(format, row, silent)?;
                }
            }
            TableEvent::Upsert(row) => printer.row(format, row, false)?,
            TableEvent::Remove { uid, .. } => printer.removed(format, &uid)?,
            TableEvent::Stale { error, .. } if !begun => {
                return Err(Failure { code: super::failure::code::UNREACHABLE, text: error });
            }
            TableEvent::Stale { error, .. } => out::note(&format!("vmdeck: connection lost, trying again: {error}")),
            TableEvent::Live => out::note("vmdeck: connected again"),
        }
    }
    Ok(())
}

struct WatchPrinter {
    grid: Grid,
    columns: Vec<TableColumn>,
    shown: Shown<'static>,
    header: bool,
    /// Last row of each object, shown once more when it is deleted.
    gone: std::collections::HashMap<String, TableRow>,
}

impl WatchPrinter {
    fn row(&mut self, format: &Format, row: TableRow, silent: bool) -> Result<(), Failure> {
        let seen = self.gone.insert(row.uid().to_owned(), row.clone());
        // After a reconnect the whole state comes again: only news is printed.
        let news =
            seen.is_none_or(|s| s.object["metadata"]["resourceVersion"] != row.object["metadata"]["resourceVersion"]);
        if silent || !news { Ok(()) } else { self.print(format, &row) }
    }

    fn removed(&mut self, format: &Format, uid: &str) -> Result<(), Failure> {
        match self.gone.remove(uid) {
            Some(row) => self.print(format, &row),
            None => Ok(()),
        }
    }

    fn print(&mut self, format: &Format, row: &TableRow) -> Result<(), Failure> {
        match format {
            Format::Columns { .. } => {
                let mut rows = Vec::new();
                if std::mem::take(&mut self.header) {
                    rows.push(print::headings(&self.columns, self.shown));
                }
                rows.push(print::cells(&self.columns, row, self.shown));
                out::block(&self.grid.lines(&rows))
            }
            Format::Yaml { .. } => {
                out::block("---")?;
                format.print(&row.object)
            }
            Format::JsonPath(_) => {
                format.print(&row.object)?;
                out::block("\n")
            }
            other => other.print(&row.object),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_printed_with_their_kind() {
        let vm = json!({"apiVersion": "virtualization.deckhouse.io/v1alpha2", "kind": "VirtualMachine", "metadata": {"name": "a"}});
        assert_eq!(name_line(&vm), "virtualmachine.virtualization.deckhouse.io/a");
        assert_eq!(name_line(&json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}})), "secret/s");
        assert_eq!(name_line(&json!({"apiVersion": "x/v1", "kind": "Foo", "metadata": {"name": "s"}})), "foo.x/s");
    }

    #[test]
    fn sorting_is_numeric_where_it_can_be() {
        let mut items = vec![json!({"a": 10}), json!({"a": 9}), json!({})];
        sort(&mut items, Some(".a")).unwrap();
        assert_eq!(items, [json!({}), json!({"a": 9}), json!({"a": 10})]);
    }

    #[test]
    fn managed_fields_are_left_out() {
        let list = json!({"items": [{"metadata": {"name": "a", "managedFields": [1]}}]});
        assert_eq!(tidy(&list, false), json!({"items": [{"metadata": {"name": "a"}}]}));
        assert_eq!(tidy(&list, true), list);
    }
}
