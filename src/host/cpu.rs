//! Which processors QEMU can give guests on this computer: its models, and the features that may be added to one.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::command_line::Accelerator;

/// What QEMU says of guests' processors. Empty where it could not be asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CpuFacts {
    /// Named models with the features of each that guests do not get here: the processor or the emulation lacks them.
    pub models: BTreeMap<String, Vec<String>>,
    /// Features that guests can have, by QEMU's names, in order.
    pub features: Vec<String>,
}

impl CpuFacts {
    /// Whether guests can have a feature, however its name is written (`sse4.1`, `sse4_1`, `sse4-1`).
    pub fn has(&self, feature: &str) -> bool {
        self.features.iter().any(|known| plain(known) == plain(feature))
    }
}

fn plain(feature: &str) -> String {
    feature.to_ascii_lowercase().replace(['_', '.'], "-")
}

/// Asks QEMU. Takes as long as QEMU takes to start.
pub(super) fn ask(qemu: &Path, accelerator: Accelerator) -> CpuFacts {
    let (accel, best) = match accelerator {
        Accelerator::Kvm => ("kvm", "host"),
        Accelerator::Tcg => ("tcg", "max"),
    };
    let child = Command::new(qemu)
        .args(["-nodefaults", "-no-user-config", "-machine", "none", "-accel", accel])
        .args(["-display", "none", "-qmp", "stdio"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut child) = child else { return CpuFacts::default() };
    if let Some(mut stdin) = child.stdin.take() {
        let questions = [
            json!({"execute": "qmp_capabilities"}),
            json!({"execute": "query-cpu-definitions"}),
            json!({"execute": "query-cpu-model-expansion", "arguments": {"type": "static", "model": {"name": best}}}),
            json!({"execute": "quit"}),
        ];
        let text: String = questions.iter().map(|q| format!("{q}\n")).collect();
        // A QEMU that ended at once does not read; then there are no answers either.
        let _ = stdin.write_all(text.as_bytes());
    }
    child.wait_with_output().map(|output| read(&String::from_utf8_lossy(&output.stdout))).unwrap_or_default()
}

/// Reads QEMU's answers, one a line.
fn read(answers: &str) -> CpuFacts {
    let mut facts = CpuFacts::default();
    for answer in answers.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
        let returned = &answer["return"];
        for model in returned.as_array().into_iter().flatten() {
            let lacks = model["unavailable-features"].as_array().into_iter().flatten();
            let lacks = lacks.filter_map(Value::as_str).map(str::to_owned).collect();
            if let Some(name) = model["name"].as_str() {
                facts.models.insert(name.to_owned(), lacks);
            }
        }
        let properties = returned["model"]["props"].as_object().into_iter().flatten();
        let on = properties.filter(|(name, value)| **value == Value::Bool(true) && is_feature(name));
        facts.features.extend(on.map(|(name, _)| name.clone()));
    }
    facts.features.sort();
    facts.features.dedup();
    facts
}

/// Not what a hypervisor adds by itself, and not the many parts of nested virtualization, which follow `vmx`.
fn is_feature(name: &str) -> bool {
    !["vmx-", "kvm", "hv-", "xen-", "hypervisor"].iter().any(|own| name.starts_with(own))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_qemu_are_read() {
        let answers = r#"{"QMP": {"version": {}}}
{"return": {}}
{"return": [{"name": "Nehalem", "unavailable-features": ["x2apic"]}, {"name": "qemu64", "unavailable-features": []}]}
{"return": {"model": {"name": "base", "props": {"sse4.1": true, "avx": true, "avx512f": false, "vmx-ept": true,
 "kvmclock": true, "level": 13}}}}
"#
        .replace(",\n ", ", ");
        let facts = read(&answers);
        assert_eq!(facts.models["Nehalem"], ["x2apic"]);
        assert_eq!(facts.models.len(), 2);
        assert_eq!(facts.features, ["avx", "sse4.1"]);
        assert!(facts.has("SSE4_1") && facts.has("sse4-1") && facts.has("avx"));
        assert!(!facts.has("avx512f") && !facts.has("vmx-ept"));
        assert_eq!(read("no QEMU"), CpuFacts::default());
    }
}
