//! The API as stock clients use it: kubectl, Helm, the Python client and kube-rs against a real daemon, over TLS with
//! the kubeconfig that `vmdeck kubeconfig` prints. Every case is a row with its outcome.

mod conformance;
mod crowd;
pub mod desk;
mod durability;
mod helm;
mod interleavings;
mod kinds;
pub mod kubectl;
mod kubectl_checklist;
mod kubectl_more;
mod private;
pub mod programs;
mod python;
pub mod rows;
mod runtime;
mod runtime_objects;
mod runtime_outages;

use std::path::PathBuf;

use crate::support::World;

/// A world that serves TLS, and the kubeconfig of its owner.
pub struct Served {
    pub world: World,
    pub kubeconfig: PathBuf,
}

impl Served {
    /// Starts it. The addresses are those of the user guide's examples.
    fn start() -> Self {
        let world = World::start_with(&settings("127.0.0.1:0"));
        let kubeconfig = world.home().join("kubeconfig");
        std::fs::write(&kubeconfig, world.ok(&["kubeconfig"])).unwrap();
        Self { world, kubeconfig }
    }

    /// Lets the next daemon listen where this one does, so that clients find it again.
    fn stay_on_this_port(&self) {
        let text = std::fs::read_to_string(&self.kubeconfig).unwrap();
        let server = text.lines().find_map(|l| l.trim().strip_prefix("server: https://")).expect("a server");
        self.world.configure(&settings(server.trim()));
    }
}

fn settings(listen: &str) -> String {
    format!(
        "[host]\nlisten = \"{listen}\"\nvirtualMachineCIDRs = [\"10.66.10.0/24\", \"10.66.20.0/24\"]\nhistorySeconds = 1\n"
    )
}
