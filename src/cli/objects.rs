//! Arguments of the verbs on objects; flags as kubectl names them.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::format::{MetaChange, Output, duration};

/// `get`.
#[derive(Debug, Args)]
pub struct GetArgs {
    /// KIND, KIND NAME..., KIND/NAME..., KIND,KIND or "all"
    #[arg(value_name = "KIND [NAME]", required_unless_present = "files")]
    pub what: Vec<String>,
    /// wide, yaml, json, name, jsonpath=TEMPLATE, jsonpath-file=FILE, custom-columns=HEADING:.path,...
    #[arg(short, long, value_name = "FORMAT")]
    pub output: Option<Output>,
    /// Go on printing changes
    #[arg(short, long)]
    pub watch: bool,
    /// Print changes only, not the state first
    #[arg(long)]
    pub watch_only: bool,
    /// In all namespaces
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
    /// Label selector
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    pub selector: Option<String>,
    /// Field selector
    #[arg(long, value_name = "SELECTOR")]
    pub field_selector: Option<String>,
    /// Without the line of headings
    #[arg(long)]
    pub no_headers: bool,
    /// With a column of labels
    #[arg(long)]
    pub show_labels: bool,
    /// With managedFields in yaml and json
    #[arg(long)]
    pub show_managed_fields: bool,
    /// Order by this JSONPath
    #[arg(long, value_name = "PATH")]
    pub sort_by: Option<String>,
    /// An object that does not exist is no error
    #[arg(long)]
    pub ignore_not_found: bool,
    /// Objects of these manifests
    #[arg(short, long = "filename", value_name = "FILE")]
    pub files: Vec<String>,
}

/// `describe`.
#[derive(Debug, Args)]
pub struct DescribeArgs {
    /// KIND, KIND NAME... or KIND/NAME...
    #[arg(value_name = "KIND [NAME]", required = true)]
    pub what: Vec<String>,
    /// In all namespaces
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
    /// Label selector
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    pub selector: Option<String>,
    /// Without events
    #[arg(long)]
    pub no_events: bool,
}

/// What to do about fields that a schema does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Validate {
    /// Refuse the object.
    #[default]
    #[value(alias = "true")]
    Strict,
    /// Say so and drop them.
    Warn,
    /// Drop them.
    #[value(alias = "false")]
    Ignore,
}

/// `apply`.
#[derive(Debug, Args)]
pub struct ApplyArgs {
    /// Manifest file, directory or - for standard input
    #[arg(short, long = "filename", value_name = "FILE", required = true)]
    pub files: Vec<String>,
    /// Directories with their subdirectories
    #[arg(short = 'R', long)]
    pub recursive: bool,
    /// Check on the server, change nothing
    #[arg(long, value_name = "WHERE", num_args = 0..=1, default_missing_value = "server", require_equals = true)]
    pub dry_run: Option<String>,
    /// What to do about unknown fields
    #[arg(long, value_enum, default_value_t, value_name = "HOW", num_args = 0..=1, default_missing_value = "strict", require_equals = true)]
    pub validate: Validate,
    /// Fail when another program owns a field that differs (default: take it over)
    #[arg(long)]
    pub fail_on_conflict: bool,
    /// For kubectl's sake: apply is always server-side here
    #[arg(long, hide = true)]
    pub server_side: bool,
    /// For kubectl's sake: taking over is the default here
    #[arg(long, hide = true, conflicts_with = "fail_on_conflict")]
    pub force_conflicts: bool,
    /// Print objects in this format instead of a line each
    #[arg(short, long, value_name = "FORMAT")]
    pub output: Option<Output>,
}

/// `create`.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// Manifest file, directory or - for standard input
    #[arg(short, long = "filename", value_name = "FILE", required_unless_present = "what")]
    pub files: Vec<String>,
    /// namespace NAME
    #[arg(value_name = "KIND NAME", conflicts_with = "files", num_args = 2)]
    pub what: Vec<String>,
    /// Check on the server, change nothing
    #[arg(long, value_name = "WHERE", num_args = 0..=1, default_missing_value = "server", require_equals = true)]
    pub dry_run: Option<String>,
    /// What to do about unknown fields
    #[arg(long, value_enum, default_value_t, value_name = "HOW", num_args = 0..=1, default_missing_value = "strict", require_equals = true)]
    pub validate: Validate,
    /// Print objects in this format instead of a line each
    #[arg(short, long, value_name = "FORMAT")]
    pub output: Option<Output>,
}

/// `delete`.
#[derive(Debug, Args)]
pub struct DeleteArgs {
    /// KIND NAME... or KIND/NAME...
    #[arg(value_name = "KIND NAME", required_unless_present = "files")]
    pub what: Vec<String>,
    /// Objects of these manifests
    #[arg(short, long = "filename", value_name = "FILE", conflicts_with = "what")]
    pub files: Vec<String>,
    /// Directories with their subdirectories
    #[arg(short = 'R', long)]
    pub recursive: bool,
    /// All objects of the kind
    #[arg(long)]
    pub all: bool,
    /// Label selector
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    pub selector: Option<String>,
    /// Return when it is gone (default), or at once with --wait=false
    #[arg(long, default_value_t = true, num_args = 0..=1, default_missing_value = "true", require_equals = true, action = clap::ArgAction::Set)]
    pub wait: bool,
    /// How long to wait; 0 = without limit
    #[arg(long, value_parser = duration, value_name = "TIME", default_value = "0")]
    pub timeout: Duration,
    /// An object that does not exist is no error
    #[arg(long)]
    pub ignore_not_found: bool,
    /// What happens to dependents: background, foreground or orphan
    #[arg(long, value_name = "HOW", default_value = "background", value_parser = ["background", "foreground", "orphan"])]
    pub cascade: String,
    /// Only the names
    #[arg(short, long, value_name = "FORMAT", value_parser = ["name"])]
    pub output: Option<String>,
}

/// `edit`.
#[derive(Debug, Args)]
pub struct EditArgs {
    /// KIND NAME or KIND/NAME
    #[arg(value_name = "KIND NAME", required = true, num_args = 1..=2)]
    pub what: Vec<String>,
}

/// Patch formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum PatchKind {
    /// RFC 7386.
    #[default]
    Merge,
    /// RFC 6902.
    Json,
    /// Kubernetes' own; built-in kinds only.
    Strategic,
}

/// `patch`.
#[derive(Debug, Args)]
pub struct PatchArgs {
    /// KIND NAME or KIND/NAME
    #[arg(value_name = "KIND NAME", required = true, num_args = 1..=2)]
    pub what: Vec<String>,
    /// Format of the patch
    #[arg(long = "type", value_enum, default_value_t)]
    pub kind: PatchKind,
    /// The patch, as JSON or YAML
    #[arg(short, long, value_name = "PATCH", required_unless_present = "patch_file")]
    pub patch: Option<String>,
    /// File with the patch
    #[arg(long, value_name = "FILE", conflicts_with = "patch")]
    pub patch_file: Option<PathBuf>,
    /// Check on the server, change nothing
    #[arg(long, value_name = "WHERE", num_args = 0..=1, default_missing_value = "server", require_equals = true)]
    pub dry_run: Option<String>,
    /// Print the object in this format instead of a line
    #[arg(short, long, value_name = "FORMAT")]
    pub output: Option<Output>,
}

/// `label` and `annotate`.
#[derive(Debug, Args)]
pub struct MetaArgs {
    /// KIND NAME... or KIND/NAME..., then KEY=VALUE to set, KEY- to remove
    #[arg(value_name = "KIND NAME KEY=VALUE", required = true, num_args = 2.., allow_hyphen_values = false)]
    pub words: Vec<String>,
    /// Values that are there may change
    #[arg(long)]
    pub overwrite: bool,
}

impl MetaArgs {
    /// The words before the first change, and the changes.
    pub fn split(&self) -> Result<(Vec<String>, Vec<MetaChange>), String> {
        let is_change = |w: &String| w.contains('=') || (w.len() > 1 && w.ends_with('-'));
        let first = self.words.iter().position(is_change).unwrap_or(self.words.len());
        let changes: Vec<MetaChange> = self.words[first..].iter().map(|w| w.parse()).collect::<Result<_, String>>()?;
        if changes.is_empty() {
            return Err("nothing to change: write KEY=VALUE to set, KEY- to remove".into());
        }
        Ok((self.words[..first].to_vec(), changes))
    }
}

/// `wait`.
#[derive(Debug, Args)]
pub struct WaitArgs {
    /// KIND NAME... or KIND/NAME...
    #[arg(value_name = "KIND NAME", required = true)]
    pub what: Vec<String>,
    /// condition=TYPE[=STATUS], jsonpath={.path}=VALUE, create or delete
    #[arg(long = "for", value_name = "WHAT")]
    pub condition: String,
    /// How long
    #[arg(long, value_parser = duration, value_name = "TIME", default_value = "30s")]
    pub timeout: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_split_from_names() {
        let args = MetaArgs { words: ["vm", "a", "b", "x=1", "y-"].map(Into::into).to_vec(), overwrite: false };
        let (what, changes) = args.split().unwrap();
        assert_eq!(what, ["vm", "a", "b"]);
        assert_eq!(changes.len(), 2);
        assert!(MetaArgs { words: vec!["vm".into(), "a".into()], overwrite: false }.split().is_err());
    }
}
