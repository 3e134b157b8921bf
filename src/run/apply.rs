//! `apply` and `create`.

use serde_json::{Value, json};

use crate::cli::format::Output;
use crate::cli::{ApplyArgs, CreateArgs, Validate};
use crate::client::{Document, ErrorKind, Outcome, WriteOptions};
use crate::types::kinds;

use super::failure::Failure;
use super::get::Format;
use super::resolve::{Selection, singular_group};
use super::{Context, input, out};

/// Fields of these flags that a request knows.
pub fn write_options(dry_run: Option<&str>, validate: Option<Validate>) -> Result<WriteOptions, Failure> {
    let dry_run = match dry_run {
        None | Some("none") => false,
        Some("server") => true,
        Some("client") => return Err(Failure::usage("--dry-run=client checks nothing here; use --dry-run=server")),
        Some(other) => return Err(Failure::usage(format!("--dry-run={other}: use none or server"))),
    };
    let validation = validate.map(|v| match v {
        Validate::Strict => "Strict",
        Validate::Warn => "Warn",
        Validate::Ignore => "Ignore",
    });
    Ok(WriteOptions { dry_run, validation })
}

/// Runs `apply`.
pub async fn apply(context: &Context, args: ApplyArgs) -> Result<(), Failure> {
    let docs = input::documents(&args.files, args.recursive, &context.session, context.namespace())?;
    let options = write_options(args.dry_run.as_deref(), Some(args.validate))?;
    let mut report = Report::new(args.output, options.dry_run)?;
    for doc in docs {
        let result = one(context, &doc, !args.fail_on_conflict, options).await;
        report.tell(&doc, result)?;
    }
    report.end()
}

async fn one(
    context: &Context,
    doc: &Document,
    force: bool,
    options: WriteOptions,
) -> Result<(Value, &'static str), Failure> {
    let namespace = doc.namespace.as_deref();
    if doc.name.is_empty() {
        return Err(Failure::new("apply needs metadata.name; use create for generateName"));
    }
    let mut object = doc.object.clone();
    // What a user copied out of `get -o yaml` must not stop the apply.
    strip_server_fields(&mut object);
    let applied = context.session.apply(doc.kind, namespace, &doc.name, &object, force, options).await?;
    out::warnings(&applied.warnings);
    let word = match applied.outcome {
        Outcome::Created => "created",
        Outcome::Configured => "configured",
        Outcome::Unchanged => "unchanged",
    };
    Ok((applied.object, word))
}

/// Fields that only a server writes and that refuse or confuse an apply.
fn strip_server_fields(object: &mut Value) {
    if let Some(top) = object.as_object_mut() {
        top.shift_remove("status");
    }
    if let Some(meta) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        for field in ["managedFields", "resourceVersion", "uid", "creationTimestamp", "generation", "selfLink"] {
            meta.shift_remove(field);
        }
    }
}

/// Runs `create`.
pub async fn create(context: &Context, args: CreateArgs) -> Result<(), Failure> {
    let options = write_options(args.dry_run.as_deref(), Some(args.validate))?;
    let docs = if args.files.is_empty() {
        vec![named(&args.what)?]
    } else {
        input::documents(&args.files, false, &context.session, context.namespace())?
    };
    let mut report = Report::new(args.output, options.dry_run)?;
    for doc in docs {
        let created = context.session.create(doc.kind, doc.namespace.as_deref(), &doc.object, options).await;
        let result = match created {
            Ok(answer) => {
                out::warnings(&answer.warnings);
                Ok((answer.object, "created"))
            }
            Err(e) => Err(Failure::from(e)),
        };
        report.tell(&doc, result)?;
    }
    report.end()
}

/// `create namespace NAME`: the one kind that needs no manifest.
fn named(words: &[String]) -> Result<Document, Failure> {
    let (kind, name) = Selection::one(words)?;
    if kind.kind != "Namespace" {
        return Err(Failure::usage(format!("{} needs a manifest: create -f FILE", kind.kind)));
    }
    let object = json!({"apiVersion": kind.api_version(), "kind": kind.kind, "metadata": {"name": name}});
    Ok(Document { kind, namespace: None, name, object })
}

/// Tells each object's fate; goes on after a failure and remembers it.
struct Report {
    format: Option<Format>,
    dry_run: bool,
    worst: Option<u8>,
}

impl Report {
    fn new(output: Option<Output>, dry_run: bool) -> Result<Self, Failure> {
        Ok(Self { format: output.map(|o| Format::new(o, false)).transpose()?, dry_run, worst: None })
    }

    fn tell(&mut self, doc: &Document, result: Result<(Value, &'static str), Failure>) -> Result<(), Failure> {
        match result {
            Ok((object, word)) => match &self.format {
                Some(format) => format.print(&object),
                None => {
                    let name = object["metadata"]["name"].as_str().unwrap_or(&doc.name);
                    let suffix = if self.dry_run { " (server dry run)" } else { "" };
                    out::line(&format!("{}/{name} {word}{suffix}", singular_group(doc.kind)))
                }
            },
            Err(failure) if failure.code == super::failure::code::UNREACHABLE => Err(failure),
            Err(failure) => {
                out::note(&format!("vmdeck: {}/{}: {}", singular_group(doc.kind), doc.name, failure.text));
                self.worst = Some(self.worst.map_or(failure.code, |w| w.min(failure.code)));
                Ok(())
            }
        }
    }

    fn end(self) -> Result<(), Failure> {
        self.worst.map_or(Ok(()), |code| Err(Failure::quiet(code)))
    }
}

/// The text of a refused object with one line for each cause, for editors.
pub fn explain(error: &crate::client::ClientError) -> Vec<String> {
    let causes = match error.kind() {
        ErrorKind::Invalid { causes } | ErrorKind::Conflict { causes } => causes.clone(),
        _ => Vec::new(),
    };
    let mut lines: Vec<String> = error.to_string().lines().map(ToOwned::to_owned).collect();
    for cause in causes {
        let text = if cause.field.is_empty() { cause.message } else { format!("{}: {}", cause.field, cause.message) };
        if !lines.iter().any(|l| l.contains(&text)) {
            lines.push(format!("  {text}"));
        }
    }
    lines
}

/// A kind by its plural name.
pub fn kind(plural: &str) -> Result<&'static kinds::KindInfo, Failure> {
    kinds::find(plural).ok_or_else(|| Failure::new(format!("{plural} is not in the table of kinds")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_wrote_is_not_applied() {
        let mut object = json!({"metadata": {"name": "a", "uid": "u", "managedFields": [], "labels": {}}, "spec": {"x": 1}, "status": {}});
        strip_server_fields(&mut object);
        assert_eq!(object, json!({"metadata": {"name": "a", "labels": {}}, "spec": {"x": 1}}));
    }

    #[test]
    fn dry_run_words() {
        assert!(write_options(Some("server"), None).unwrap().dry_run);
        assert!(!write_options(None, None).unwrap().dry_run);
        assert!(write_options(Some("client"), None).is_err());
    }
}
