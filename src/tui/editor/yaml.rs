//! Objects as YAML and back, and the way from a field's path to its line. Pure.

use serde_json::{Map, Value};

/// YAML that cannot be read; line and column count from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct YamlError {
    /// Line of the mistake; the last line read where the parser does not know.
    pub line: usize,
    /// Column of the mistake.
    pub column: usize,
    /// What is wrong, one line.
    pub message: String,
}

/// Parses one document.
pub fn parse(text: &str) -> Result<Value, YamlError> {
    let options = serde_saphyr::options! { with_snippet: false };
    serde_saphyr::from_str_with_options::<Value>(text, options).map_err(|error| {
        let (line, column) = match error.location() {
            Some(at) => (usize::try_from(at.line()).unwrap_or(1), usize::try_from(at.column()).unwrap_or(1)),
            None => (text.lines().count(), 1),
        };
        let full = error.to_string();
        let message = full.split(" at line ").next().unwrap_or(&full);
        let message = strip_location(message);
        YamlError {
            line: line.max(1),
            column: column.max(1),
            message: crate::types::text::printable(message).into_owned(),
        }
    })
}

/// The parser puts the place before some messages and behind others; the place is shown apart.
fn strip_location(message: &str) -> &str {
    let message = message.lines().next().unwrap_or(message).trim();
    message.strip_prefix("error: ").unwrap_or(message)
}

/// `object` as YAML, in the order people expect: what it is, then metadata, then spec, then the rest.
pub fn render(object: &Value) -> String {
    let mut ordered = with_first(object, &["apiVersion", "kind", "metadata", "spec"]);
    if let Some(metadata) = ordered.get_mut("metadata") {
        *metadata = with_first(metadata, &["name", "namespace", "labels", "annotations"]);
    }
    // JSON values have no shape the writer refuses; should it ever, JSON is YAML too.
    let mut text = serde_saphyr::to_string(&ordered).unwrap_or_else(|_| format!("{ordered:#}"));
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

/// `object` with some keys before all others.
fn with_first(object: &Value, keys: &[&str]) -> Value {
    let Value::Object(map) = object else {
        return object.clone();
    };
    let mut out: Map<String, Value> =
        keys.iter().filter_map(|key| Some(((*key).to_owned(), map.get(*key)?.clone()))).collect();
    out.extend(map.iter().filter(|(key, _)| !keys.contains(&key.as_str())).map(|(k, v)| (k.clone(), v.clone())));
    Value::Object(out)
}

/// One step of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Key(String),
    Index(usize),
}

/// `spec.blockDeviceRefs[1].name` or `spec.blockDeviceRefs.1` as steps.
fn steps(path: &str) -> Vec<Step> {
    let mut out = Vec::new();
    let mut push = |text: &str| {
        if !text.is_empty() {
            let index = text.parse().ok().filter(|_| !out.is_empty());
            out.push(index.map_or_else(|| Step::Key(text.to_owned()), Step::Index));
        }
    };
    let mut rest = path;
    while let Some(at) = rest.find(['.', '[']) {
        push(&rest[..at]);
        if rest[at..].starts_with('.') {
            rest = &rest[at + 1..];
        } else {
            let inside = &rest[at + 1..];
            let end = inside.find(']').unwrap_or(inside.len());
            push(inside[..end].trim_matches('"'));
            rest = inside.get(end + 1..).unwrap_or("");
        }
    }
    push(rest);
    out
}

#[derive(Clone, Copy)]
struct Line<'a> {
    number: usize,
    indent: usize,
    text: &'a str,
}

/// The line (from 1) on which the field at `path` stands, or the nearest field above it that is there.
///
/// Follows block style, which is what people and [`render`] write; inside flow style (`{a: 1}`) the line on which
/// that begins is the answer.
pub fn line_of(text: &str, path: &str) -> Option<usize> {
    let lines: Vec<Line<'_>> = text
        .lines()
        .enumerate()
        .filter_map(|(i, line)| {
            let trimmed = line.trim_start_matches(' ');
            let significant = !trimmed.is_empty() && !trimmed.starts_with('#') && trimmed != "---";
            significant.then(|| Line { number: i + 1, indent: line.len() - trimmed.len(), text: trimmed })
        })
        .collect();
    let mut block = lines;
    let mut found = None;
    for step in steps(path) {
        let Some((number, inside)) = descend(&block, &step) else {
            break;
        };
        found = Some(number);
        block = inside;
    }
    found
}

fn descend<'a>(block: &[Line<'a>], step: &Step) -> Option<(usize, Vec<Line<'a>>)> {
    let indent = block.first()?.indent;
    let is_item = |line: &Line<'_>| line.indent == indent && (line.text == "-" || line.text.starts_with("- "));
    match step {
        Step::Key(key) => {
            let at = block.iter().position(|line| line.indent == indent && key_of(line.text) == Some(key.as_str()))?;
            let inside =
                block[at + 1..].iter().take_while(|line| line.indent > indent || is_item(line)).copied().collect();
            Some((block[at].number, inside))
        }
        Step::Index(index) => {
            let at = (0..block.len()).filter(|i| is_item(&block[*i])).nth(*index)?;
            let head = block[at];
            let text = head.text[1..].trim_start_matches(' ');
            let mut inside = Vec::new();
            if !text.is_empty() {
                inside.push(Line { indent: indent + head.text.len() - text.len(), text, ..head });
            }
            inside.extend(block[at + 1..].iter().take_while(|line| line.indent > indent));
            Some((head.number, inside))
        }
    }
}

/// The key of a `key: value` line, without quotes.
fn key_of(text: &str) -> Option<&str> {
    for quote in ['"', '\''] {
        if let Some(rest) = text.strip_prefix(quote) {
            let (key, tail) = rest.split_once(quote)?;
            return tail.trim_start().starts_with(':').then_some(key);
        }
    }
    let at = text.find(": ").or_else(|| text.strip_suffix(':').map(str::len))?;
    Some(text[..at].trim_end())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn objects_read_well() {
        let object = json!({
            "spec": {"runPolicy": "AlwaysOn", "provisioning": {"type": "UserData",
                "userData": "#cloud-config\nusers:\n  - name: u\n"}, "refs": [{"kind": "VirtualDisk", "name": "root"}]},
            "kind": "VirtualMachine", "apiVersion": "v1", "metadata": {"name": "a", "labels": {"on": "yes", "n": "1"}},
        });
        let text = render(&object);
        insta::assert_snapshot!(text);
        assert_eq!(parse(&text), Ok(object));
    }

    proptest! {
        #[test]
        fn rendering_loses_nothing(object in super::super::patch::tests::json_object()) {
            prop_assert_eq!(parse(&render(&object)), Ok(object));
        }

        #[test]
        fn strings_come_back_as_they_were(text in "(?s).{0,40}", lines in "([ -~]{0,12}\n?){0,6}") {
            let object = json!({"a": text, "b": lines, "c": ["yes", "1e3", "0x1f", "~", "- x", "a: b", "#", "", " "]});
            prop_assert_eq!(parse(&render(&object)), Ok(object));
        }

        #[test]
        fn any_text_is_an_answer(text in "(?s).{0,80}", path in "[a-z.\\[\\]0-9]{0,12}") {
            let _ = parse(&text);
            let _ = line_of(&text, &path);
        }
    }

    #[test]
    fn mistakes_have_their_line() {
        for (text, line) in [
            ("a: 1\nb: [1, 2\n", 2),
            ("a: 1\na: 2\n", 2),
            ("a: 1\n b: 2\n", 2),
            ("a: \"x\n\n", 1),
            ("a: 1\nb: *nowhere\n", 2),
            ("a:\n\tb: 1\n", 2),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.line.abs_diff(line) <= 1, "{text:?}: {error:?}");
            assert!(!error.message.contains('\n') && !error.message.is_empty(), "{error:?}");
        }
    }

    #[test]
    fn a_path_leads_to_its_line() {
        let text = "\
# a comment
apiVersion: v1
spec:
  cpu:
    cores: 1 # two?

  provisioning:
    userData: |
      #cloud-config
      name: x
      cores: 5
  blockDeviceRefs:
  - kind: VirtualDisk
    name: root
  -
    kind: VirtualDisk
    \"name\": data
  flow: {a: 1, b: 2}
metadata:
  labels:
    app.kubernetes.io/name: web
";
        for (path, line) in [
            ("spec.cpu.cores", Some(5)),
            ("spec.cpu.coreFraction", Some(4)),
            ("spec.blockDeviceRefs[0].name", Some(14)),
            ("spec.blockDeviceRefs.1.name", Some(17)),
            ("spec.blockDeviceRefs[1]", Some(15)),
            ("spec.blockDeviceRefs[7].name", Some(12)),
            ("spec.flow.b", Some(18)),
            ("metadata.labels[app.kubernetes.io/name]", Some(21)),
            ("spec.provisioning.userData", Some(8)),
            ("nowhere", None),
            ("", None),
        ] {
            assert_eq!(line_of(text, path), line, "{path}");
        }
    }
}
