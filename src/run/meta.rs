//! `label` and `annotate`.

use serde_json::{Map, Value, json};

use crate::cli::MetaArgs;
use crate::cli::format::MetaChange;
use crate::types::kinds::KindInfo;

use super::failure::{Failure, code};
use super::resolve::{Selection, singular_group};
use super::{Context, out};

/// How often a change is tried on an object that others keep changing.
const ATTEMPTS: u32 = 10;

/// Which map is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// `metadata.labels`.
    Labels,
    /// `metadata.annotations`.
    Annotations,
}

impl Field {
    fn name(self) -> &'static str {
        match self {
            Self::Labels => "labels",
            Self::Annotations => "annotations",
        }
    }

    fn done(self) -> &'static str {
        match self {
            Self::Labels => "labeled",
            Self::Annotations => "annotated",
        }
    }
}

/// Runs the verb.
pub async fn run(context: &Context, args: MetaArgs, field: Field) -> Result<(), Failure> {
    let (words, changes) = args.split().map_err(Failure::usage)?;
    for (kind, name) in Selection::named(&words)? {
        let word = if one(context, kind, &name, field, &changes, args.overwrite).await? { "" } else { "not " };
        out::line(&format!("{}/{name} {word}{}", singular_group(kind), field.done()))?;
    }
    Ok(())
}

/// Changes one object; whether there was anything to change.
async fn one(
    context: &Context,
    kind: &KindInfo,
    name: &str,
    field: Field,
    changes: &[MetaChange],
    overwrite: bool,
) -> Result<bool, Failure> {
    let namespace = kind.namespaced().then(|| context.default_namespace());
    let mut attempts = 0;
    loop {
        let object = context.session.get(kind, namespace, name).await?;
        let now = &object["metadata"][field.name()];
        let plan = plan(now, changes, overwrite).map_err(|text| Failure { code: code::CONFLICT, text })?;
        let Some(patch) = plan else { return Ok(false) };
        // Conditional when nothing may be overwritten: somebody may have set it since.
        let version = object["metadata"]["resourceVersion"].as_str().filter(|_| !overwrite);
        let patch = json!({"metadata": {field.name(): patch}});
        match context.session.merge_patch(kind, namespace, name, &patch, version).await {
            Ok(_) => return Ok(true),
            // Most likely a controller wrote the status; what we looked at is looked at again.
            Err(e) if e.is_conflict() && attempts < ATTEMPTS => attempts += 1,
            Err(e) => return Err(e.into()),
        }
    }
}

/// The merge patch of the map, or `None` if it is as wanted.
fn plan(now: &Value, changes: &[MetaChange], overwrite: bool) -> Result<Option<Value>, String> {
    let mut patch = Map::new();
    for change in changes {
        match change {
            MetaChange::Set(key, value) => match now[key].as_str() {
                Some(old) if old == value => {}
                Some(old) if !overwrite => {
                    return Err(format!("\"{key}\" is \"{old}\" already\nUse --overwrite to change it."));
                }
                _ => {
                    patch.insert(key.clone(), json!(value));
                }
            },
            MetaChange::Remove(key) => {
                if !now[key].is_null() {
                    patch.insert(key.clone(), Value::Null);
                }
            }
        }
    }
    Ok((!patch.is_empty()).then_some(Value::Object(patch)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_differences_are_patched() {
        let now = json!({"a": "1", "b": "2"});
        let changes = |list: &[&str]| list.iter().map(|c| c.parse().unwrap()).collect::<Vec<MetaChange>>();
        assert_eq!(plan(&now, &changes(&["a=1", "c=3", "b-", "d-"]), false), Ok(Some(json!({"c": "3", "b": null}))));
        assert_eq!(plan(&now, &changes(&["a=1"]), false), Ok(None));
        assert!(plan(&now, &changes(&["a=9"]), false).is_err());
        assert_eq!(plan(&now, &changes(&["a=9"]), true), Ok(Some(json!({"a": "9"}))));
        assert_eq!(plan(&Value::Null, &changes(&["a=9"]), false), Ok(Some(json!({"a": "9"}))));
    }
}
