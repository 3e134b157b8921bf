//! Small verbs: kinds, definitions, versions.

use crate::cli::Global;
use crate::config::Paths;
use crate::types::kinds::KINDS;

use super::failure::Failure;
use super::print::Grid;
use super::{engine, out, print};

/// `api-resources`.
pub fn api_resources() -> Result<(), Failure> {
    let mut rows = vec![["NAME", "SHORTNAMES", "APIVERSION", "NAMESPACED", "KIND"].map(ToOwned::to_owned).to_vec()];
    rows.extend(KINDS.iter().map(|k| {
        vec![
            k.plural.to_owned(),
            k.short_names.join(","),
            k.api_version(),
            k.namespaced().to_string(),
            k.kind.to_owned(),
        ]
    }));
    out::block(&Grid::default().lines(&rows))
}

/// `crds`.
pub fn crds() -> Result<(), Failure> {
    for make in KINDS.iter().filter_map(|k| k.crd) {
        let value = serde_json::to_value(make()).map_err(|e| Failure::new(e.to_string()))?;
        out::bytes(format!("---\n{}", print::yaml(&value)).as_bytes())?;
    }
    Ok(())
}

/// `version`.
pub async fn version(client_only: bool, global: &Global, paths: &Paths) -> Result<(), Failure> {
    out::line(&format!("vmdeck {}", env!("CARGO_PKG_VERSION")))?;
    if client_only {
        return Ok(());
    }
    let session = engine::session(global, paths).await?;
    let answer = session.requester().json(http::Method::GET, "/version", None, None).await?.object;
    let text = answer["gitVersion"].as_str().unwrap_or("unknown").to_owned();
    out::line(&format!("server {text} ({}: {})", session.engine.label(), session.reason))?;
    Ok(())
}
