//! The UI: hands the viewer its way to engines, and says goodbye.

use std::sync::Arc;

use crate::cli::Global;
use crate::client::{Engine, connect, contexts};
use crate::config::{Paths, Settings};
use crate::tui;

use super::failure::Failure;
use super::{engine, out};

/// Runs the UI until the user leaves it.
pub fn run(global: &Global, paths: &Paths) -> Result<(), Failure> {
    let (settings, mut warnings) = match Settings::load(&paths.settings_file()) {
        Ok(settings) => (settings, Vec::new()),
        // The UI still runs, with the defaults, and shows what is wrong.
        Err(error) => (Settings::default(), vec![with_cause(&error)]),
    };
    warnings.retain(|w| !w.is_empty());
    let (hooks, kubeconfig, at) = (engine::hooks(paths), global.kubeconfig.clone(), paths.clone());
    let options = tui::RunOptions {
        connector: Arc::new(move |choice| {
            let (hooks, paths) = (hooks.clone(), at.clone());
            Box::pin(async move { connect(&choice, &paths, &hooks).await })
        }),
        contexts: Arc::new(move || contexts(kubeconfig.as_deref())),
        choice: engine::choice(global),
        ui: settings.ui,
        paths: paths.clone(),
        warnings,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let outcome = runtime.block_on(tui::run(options));
    runtime.shutdown_background();
    let outcome = outcome.map_err(|e| Failure::new(e.to_string()))?;
    if let (Some(Engine::Local { .. }), false) = (&outcome.engine, outcome.signalled) {
        farewell();
    }
    Ok(())
}

/// Machines and their host outlive the UI; that surprises whoever does not know it.
fn farewell() {
    let home = match std::env::var("VMDECK_HOME") {
        Ok(home) if !home.is_empty() => format!("VMDECK_HOME={home} "),
        _ => String::new(),
    };
    out::note(&format!(
        "The host and its machines go on running. `{home}vmdeck` opens the UI again, `{home}vmdeck host stop` ends the host."
    ));
}

fn with_cause(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
