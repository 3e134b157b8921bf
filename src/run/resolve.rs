//! The words after a verb: kinds and names.

use crate::types::kinds::{KINDS, KindInfo, find};

use super::failure::Failure;

/// What the words mean.
#[derive(Debug, Clone)]
pub enum Selection {
    /// Whole collections.
    Kinds(Vec<&'static KindInfo>),
    /// Single objects.
    Named(Vec<(&'static KindInfo, String)>),
}

impl Selection {
    /// Reads `KIND`, `KIND,KIND`, `all`, `KIND NAME...` or `KIND/NAME...`.
    pub fn parse(words: &[String]) -> Result<Self, Failure> {
        let Some((first, names)) = words.split_first() else {
            return Err(Failure::usage("a kind is needed, for example: vm"));
        };
        if words.iter().any(|w| w.contains('/')) {
            let pairs = words.iter().map(|w| pair(w)).collect::<Result<Vec<_>, _>>()?;
            return Ok(Self::Named(pairs));
        }
        let kinds = kinds(first)?;
        if names.is_empty() {
            return Ok(Self::Kinds(kinds));
        }
        Ok(Self::Named(kinds.iter().flat_map(|k| names.iter().map(move |n| (*k, n.clone()))).collect()))
    }

    /// Exactly one object.
    pub fn one(words: &[String]) -> Result<(&'static KindInfo, String), Failure> {
        match Self::parse(words)? {
            Self::Named(list) if list.len() == 1 => {
                list.into_iter().next().ok_or_else(|| Failure::usage("one object is needed"))
            }
            _ => Err(Failure::usage("name one object: KIND NAME or KIND/NAME")),
        }
    }

    /// Single objects, not collections.
    pub fn named(words: &[String]) -> Result<Vec<(&'static KindInfo, String)>, Failure> {
        match Self::parse(words)? {
            Self::Named(list) => Ok(list),
            Self::Kinds(_) => Err(Failure::usage("names are needed: KIND NAME... or KIND/NAME...")),
        }
    }
}

fn pair(word: &str) -> Result<(&'static KindInfo, String), Failure> {
    match word.split_once('/') {
        Some((kind, name)) if !kind.is_empty() && !name.is_empty() && !name.contains('/') => {
            let found = find(kind).ok_or_else(|| unknown(kind))?;
            Ok((found, name.to_owned()))
        }
        _ => {
            Err(Failure::usage(format!("\"{word}\" is not KIND/NAME (all words must have that form when one has it)")))
        }
    }
}

fn kinds(word: &str) -> Result<Vec<&'static KindInfo>, Failure> {
    let mut list: Vec<&'static KindInfo> = Vec::new();
    for one in word.split(',') {
        match find(one) {
            Some(kind) => list.push(kind),
            None => {
                let category: Vec<_> = KINDS.iter().filter(|k| k.categories.contains(&one)).collect();
                if category.is_empty() {
                    return Err(unknown(one));
                }
                list.extend(category);
            }
        }
    }
    Ok(list)
}

fn unknown(word: &str) -> Failure {
    let near = KINDS
        .iter()
        .flat_map(|k| [k.plural, k.singular].into_iter().chain(k.short_names.iter().copied()))
        .find(|name| word.len() > 2 && (name.starts_with(word) || word.starts_with(name) && name.len() > 2));
    let hint = match near {
        Some(near) => format!("Did you mean \"{near}\"? "),
        None => String::new(),
    };
    Failure::usage(format!("there is no kind \"{word}\"\n{hint}\"vmdeck api-resources\" lists the kinds."))
}

/// `virtualmachine.virtualization.deckhouse.io`, as in `-o name` and messages.
pub fn singular_group(kind: &KindInfo) -> String {
    if kind.group.is_empty() { kind.singular.to_owned() } else { format!("{}.{}", kind.singular, kind.group) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(Into::into).collect()
    }

    #[test]
    fn words_become_selections() {
        let named = |line: &str| match Selection::parse(&words(line)) {
            Ok(Selection::Named(list)) => {
                list.into_iter().map(|(k, n)| format!("{}/{n}", k.plural)).collect::<Vec<_>>().join(" ")
            }
            other => panic!("{line}: {other:?}"),
        };
        assert_eq!(named("vm a b"), "virtualmachines/a virtualmachines/b");
        assert_eq!(named("vm/a vd/b"), "virtualmachines/a virtualdisks/b");
        assert_eq!(named("vm,vd a"), "virtualmachines/a virtualdisks/a");
        assert!(matches!(Selection::parse(&words("vm,vd")), Ok(Selection::Kinds(k)) if k.len() == 2));
        assert!(matches!(Selection::parse(&words("all")), Ok(Selection::Kinds(k)) if k[0].kind == "VirtualMachine"));
        assert!(matches!(Selection::parse(&words("virtualization")), Ok(Selection::Kinds(k)) if k.len() > 3));
    }

    #[test]
    fn unknown_kinds_are_named_with_a_hint() {
        let text = |line: &str| Selection::parse(&words(line)).unwrap_err().text;
        assert!(text("virtualmachin").contains("Did you mean \"virtualmachines\""), "{}", text("virtualmachin"));
        assert!(text("pods").contains("\"pods\""));
        for bad in ["vm/", "vm/a b", "/a", ""] {
            assert!(Selection::parse(&words(bad)).is_err(), "{bad}");
        }
    }
}
