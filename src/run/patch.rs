//! `patch`.

use serde_json::Value;

use crate::cli::{PatchArgs, PatchKind};
use crate::client::PatchType;

use super::apply::write_options;
use super::failure::Failure;
use super::get::Format;
use super::resolve::{Selection, singular_group};
use super::{Context, input, out};

/// Runs the verb.
pub async fn run(context: &Context, args: PatchArgs) -> Result<(), Failure> {
    let (kind, name) = Selection::one(&args.what)?;
    let text = match (&args.patch, &args.patch_file) {
        (Some(text), _) => text.clone(),
        (None, Some(file)) => input::read(file)?,
        (None, None) => return Err(Failure::usage("a patch is needed: -p or --patch-file")),
    };
    // YAML covers JSON.
    let patch: Value = serde_saphyr::from_str_with_options(&text, serde_saphyr::options! { with_snippet: false })
        .map_err(|e| Failure::usage(format!("the patch is neither JSON nor YAML: {e}")))?;
    let patch_type = match args.kind {
        PatchKind::Merge => PatchType::Merge,
        PatchKind::Json => PatchType::Json,
        PatchKind::Strategic => PatchType::Strategic,
    };
    if patch_type == PatchType::Json && !patch.is_array() {
        return Err(Failure::usage("a JSON patch is a list of operations"));
    }
    if patch_type == PatchType::Merge && !patch.is_object() {
        return Err(Failure::usage("a merge patch is an object"));
    }
    let format = args.output.clone().map(|o| Format::new(o, false)).transpose()?;
    let options = write_options(args.dry_run.as_deref(), None)?;
    let namespace = kind.namespaced().then(|| context.default_namespace());
    // Only the version before tells a change from none.
    let before = context.session.get(kind, namespace, &name).await?;
    let answer = context.session.patch(kind, namespace, &name, patch_type, &patch, options).await?;
    out::warnings(&answer.warnings);
    if let Some(format) = format {
        return format.print(&answer.object);
    }
    let same = before["metadata"]["resourceVersion"] == answer.object["metadata"]["resourceVersion"];
    let suffix = match (options.dry_run, same) {
        (true, _) => " (server dry run)",
        (false, true) => " (no change)",
        (false, false) => "",
    };
    out::line(&format!("{}/{name} patched{suffix}", singular_group(kind)))
}
