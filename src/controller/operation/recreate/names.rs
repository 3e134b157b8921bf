//! How copies are called: `prefix + name + suffix`, or one by one. Pure.

use super::What;
use crate::controller::snapshot_contents::{MAX_MACHINE_NAME, MAX_NAME, is_name};
use crate::types::text::printable;
use crate::types::{CloneCustomization, NameReplacement};

/// The wishes of an operation.
#[derive(Debug, Clone, Copy, Default)]
pub struct Names<'a> {
    prefix: &'a str,
    suffix: &'a str,
    replacements: &'a [NameReplacement],
}

impl<'a> Names<'a> {
    /// From the fields of the operation.
    pub fn new(customization: Option<&'a CloneCustomization>, replacements: Option<&'a [NameReplacement]>) -> Self {
        let part = |part: Option<&'a String>| part.map_or("", String::as_str);
        Self {
            prefix: part(customization.and_then(|c| c.name_prefix.as_ref())),
            suffix: part(customization.and_then(|c| c.name_suffix.as_ref())),
            replacements: replacements.unwrap_or_default(),
        }
    }

    /// The new name of an object. A replacement counts more than the pattern, one that says the kind more than one
    /// that does not.
    pub fn of(&self, what: What, name: &str) -> String {
        let target = |kind: Option<&str>| {
            let fits = |r: &&NameReplacement| r.from.name == name && r.from.kind.as_deref() == kind;
            self.replacements.iter().find(fits).map(|r| r.to.as_str())
        };
        let replaced = target(Some(what.kind())).or_else(|| target(None));
        replaced.map_or_else(|| format!("{}{name}{}", self.prefix, self.suffix), str::to_owned)
    }

    /// What is wrong with the wishes themselves.
    pub fn contradiction(&self) -> Option<String> {
        self.replacements.iter().enumerate().find_map(|(n, one)| {
            let other = self.replacements.iter().take(n).find(|r| r.from == one.from && r.to != one.to)?;
            let kind = one.from.kind.as_deref().unwrap_or("any kind");
            Some(format!(
                "nameReplacement has two new names for {} {}: {} and {}. Leave one.",
                printable(kind),
                printable(&one.from.name),
                printable(&other.to),
                printable(&one.to)
            ))
        })
    }
}

/// What is wrong with a new name.
pub fn problem(what: What, name: &str) -> Option<String> {
    let limit = if what == What::Machine { MAX_MACHINE_NAME } else { MAX_NAME };
    let length = name.chars().count();
    if length > limit {
        return Some(format!("The new name has {length} characters, {limit} is the limit: choose a shorter one."));
    }
    if !is_name(name, limit) || what == What::Disk && name.contains('.') {
        let allowed = "lower case letters, digits and '-', with a letter or digit at both ends";
        return Some(format!("{:?} is not a possible name: it must be {allowed}.", printable(name)));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn patterns_and_replacements() {
        let customization = serde_json::from_value(json!({ "namePrefix": "new-", "nameSuffix": "-2" })).unwrap();
        let replacements: Vec<NameReplacement> = serde_json::from_value(json!([
            { "from": { "name": "root" }, "to": "any" },
            { "from": { "kind": "VirtualDisk", "name": "root" }, "to": "disk" },
        ]))
        .unwrap();
        let names = Names::new(Some(&customization), Some(&replacements));
        for (what, name, want) in [
            (What::Machine, "vm", "new-vm-2"),
            (What::Disk, "root", "disk"),
            (What::Secret, "root", "any"),
            (What::Attachment, "data", "new-data-2"),
        ] {
            assert_eq!(names.of(what, name), want);
        }
        assert_eq!(Names::new(None, Some(&replacements)).of(What::Disk, "data"), "data");
        assert_eq!(names.contradiction(), None, "kindless and with kind are not the same");
    }

    #[test]
    fn two_new_names_for_one_object() {
        let replacements: Vec<NameReplacement> = serde_json::from_value(json!([
            { "from": { "name": "root" }, "to": "a" },
            { "from": { "name": "root" }, "to": "b\u{1b}[2J" },
        ]))
        .unwrap();
        let words = Names::new(None, Some(&replacements)).contradiction().unwrap();
        assert_eq!(words, "nameReplacement has two new names for any kind root: a and b\\x1b[2J. Leave one.");
        let twice = [replacements[0].clone(), replacements[0].clone()];
        assert_eq!(Names::new(None, Some(&twice)).contradiction(), None);
    }

    #[test]
    fn limits() {
        for (what, name, words) in [
            (What::Machine, "a".repeat(63), None),
            (What::Machine, "a".repeat(64), Some("has 64 characters, 63 is the limit")),
            (What::Disk, "a".repeat(64), None),
            (What::Disk, "a".repeat(254), Some("253 is the limit")),
            (What::Disk, "a.b".to_owned(), Some("is not a possible name")),
            (What::Secret, "a.b".to_owned(), None),
            (What::Machine, "New-vm".to_owned(), Some("\"New-vm\" is not a possible name")),
            (What::Machine, "vm-".to_owned(), Some("is not a possible name")),
            (What::Machine, "\u{1b}x".to_owned(), Some("\"\\\\x1bx\" is not")),
        ] {
            let got = problem(what, &name);
            match words {
                None => assert_eq!(got, None, "{name}"),
                Some(words) => assert!(got.as_ref().is_some_and(|g| g.contains(words)), "{name}: {got:?}"),
            }
        }
    }
}
