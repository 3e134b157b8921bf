//! `host status`.

use crate::config::Paths;

use super::super::failure::Failure;
use super::super::out;
use super::super::print::Grid;
use super::lock;

/// Path of the daemon's account of itself; only on the unix socket.
pub const PATH: &str = "/vmdeck/status";

/// What the daemon tells about itself.
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Report {
    /// Program version.
    pub version: String,
    /// When it started.
    pub started: jiff::Timestamp,
    /// Bytes of the store on disk.
    pub store_bytes: u64,
    /// `kvm` or `tcg`.
    pub accelerator: String,
    /// Why.
    pub accelerator_reason: String,
    /// QEMU's version.
    pub qemu: Option<String>,
    /// What stands in the way of running machines.
    pub problems: Vec<String>,
    /// What works differently from the best possible way.
    pub notes: Vec<String>,
    /// Machines with an instance.
    pub running: usize,
    /// Machines known to the host.
    pub machines: usize,
}

/// Runs the command. Exit code 1 when no daemon runs.
pub async fn run(paths: &Paths) -> Result<(), Failure> {
    let socket = paths.api_socket();
    let pid = lock::holder(&paths.lock_file());
    let Some(pid) = pid else {
        out::line("No host daemon is running.")?;
        out::line(&format!("State: {}", paths.state.display()))?;
        return Err(Failure::quiet(super::super::failure::code::FAILED));
    };
    let client = crate::client::Requester::over_socket(&socket);
    let answer = client.json(http::Method::GET, PATH, None, None).await;
    let mut rows = vec![
        row("Host daemon:", format!("running, pid {pid}")),
        row("Socket:", socket.display().to_string()),
        row("State:", paths.state.display().to_string()),
        row("Log:", paths.host_log().display().to_string()),
    ];
    let failure = match answer {
        Ok(answer) => {
            let report: Report = serde_json::from_value(answer.object).map_err(|e| Failure::new(e.to_string()))?;
            rows.extend(report_rows(&report));
            None
        }
        Err(e) => Some(Failure::from(e).context("it does not answer")),
    };
    out::block(&Grid::default().lines(&rows))?;
    failure.map_or(Ok(()), Err)
}

fn row(name: &str, value: String) -> Vec<String> {
    vec![name.to_owned(), value]
}

fn report_rows(report: &Report) -> Vec<Vec<String>> {
    let human = crate::types::quantity::human_bytes;
    let mut rows = vec![
        row("Version:", report.version.clone()),
        row("Started:", report.started.to_string()),
        row("Store:", human(report.store_bytes)),
        row("Accelerator:", format!("{} ({})", report.accelerator, report.accelerator_reason)),
        row("QEMU:", report.qemu.clone().unwrap_or_else(|| "not found".into())),
        row("Machines:", format!("{} running, {} known", report.running, report.machines)),
    ];
    rows.extend(report.problems.iter().map(|p| row("Problem:", p.clone())));
    rows.extend(report.notes.iter().map(|n| row("Note:", n.clone())));
    rows
}
