//! The outside programs of these tests: where `make clients` put them, and what else there is on this machine.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Colon-separated kubectl programs to test beside those of `make clients`.
const MORE_KUBECTLS: &str = "VMDECK_TEST_KUBECTLS";

/// A kubectl and its version.
#[derive(Debug, Clone)]
pub struct Kubectl {
    pub path: PathBuf,
    pub version: (u32, u32),
}

/// Where `make clients` puts programs for these tests.
pub fn clients_dir() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    std::env::var_os("VMDECK_TEST_CLIENTS_DIR").map_or_else(|| root.join("target/clients"), PathBuf::from)
}

/// A program of `make clients`; `None`, with the reason printed, where it is missing. `make test` and CI set the
/// directory's name: there it has to be.
pub fn installed(name: &str) -> Option<PathBuf> {
    let path = clients_dir().join(name);
    if path.exists() {
        return Some(path);
    }
    let reason = format!("{} is missing: `make clients` puts it there", path.display());
    let optional = std::fs::read_to_string(clients_dir().join("missing")).unwrap_or_default();
    let told = optional.lines().find_map(|l| l.strip_prefix(&format!("{name}: ")));
    assert!(std::env::var_os("VMDECK_TEST_CLIENTS_DIR").is_none() || told.is_some(), "{reason}");
    println!("skip {name}: {}", told.unwrap_or(&reason));
    None
}

/// The kubectls that are named by the environment.
pub fn more_kubectls() -> Vec<Kubectl> {
    let named = std::env::var(MORE_KUBECTLS).unwrap_or_default();
    let found: Vec<Kubectl> = named.split(':').filter(|p| !p.is_empty()).map(|p| kubectl(Path::new(p))).collect();
    if found.is_empty() {
        println!("skip further kubectls: {MORE_KUBECTLS}=PATH:PATH names none");
    }
    found
}

/// Asks a kubectl for its version.
pub fn kubectl(path: &Path) -> Kubectl {
    let output = Command::new(path).args(["version", "--client", "-o", "json"]).output();
    let output = output.unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"));
    let number = |field: &str| -> u32 {
        let text = told["clientVersion"][field].as_str().unwrap_or_default();
        text.trim_end_matches('+').parse().unwrap_or_else(|e| panic!("{}: {field}: {e}: {told}", path.display()))
    };
    Kubectl { path: path.to_path_buf(), version: (number("major"), number("minor")) }
}
