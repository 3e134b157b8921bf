//! A machine's task while its guest is being moved to another QEMU.

use serde_json::Value;

use super::launch::{self, Running};
use super::migrate::{self, Look};
use super::record::{Instance, Stage};
use super::task::{Task, power_cut};
use super::{Migration, MigrationOutcome};

impl Task {
    /// Finds the guest of a record that names two QEMUs, and writes down where it is.
    pub(super) async fn settle(&mut self, instance: Instance) -> Instance {
        if instance.target.is_none() {
            return instance;
        }
        let instance = migrate::settle(instance).await;
        self.record.stage = Stage::Running(Box::new(instance.clone()));
        self.save().await;
        instance
    }

    /// Starts the target and begins to send.
    pub(super) async fn migrate(&mut self, running: &mut Running, throttle: bool) {
        if running.migration.is_some() {
            return;
        }
        let shown = self.machine.observe();
        let memory = running.qmp.execute("query-memory-size-summary", Value::Null).await.unwrap_or_default();
        let mut view = shown.migration.clone().unwrap_or_else(|| Migration::next(&shown));
        view.total = memory["base-memory"].as_u64().unwrap_or(0);
        self.show_migration(running, Some(view.clone()));
        if running.instance.arguments.is_empty() {
            let detail = "the machine was started by an older vmdeck".to_owned();
            return self.migration_over(running, &view, MigrationOutcome::Failed { detail }).await;
        }
        if super::backup::is_copying(&running.qmp).await {
            let detail = "a snapshot of the machine is being taken".to_owned();
            return self.migration_over(running, &view, MigrationOutcome::Failed { detail }).await;
        }
        let mut outgoing = match migrate::begin(&self.context, &self.record, running, view.clone()).await {
            Ok(outgoing) => outgoing,
            Err(detail) => return self.migration_over(running, &view, MigrationOutcome::Failed { detail }).await,
        };
        running.instance.target = Some(Box::new(outgoing.target().clone()));
        self.save_instance(running).await;
        match outgoing.send(&running.qmp, throttle).await {
            Ok(()) => {
                self.show_migration(running, Some(outgoing.view.clone()));
                running.migration = Some(Box::new(outgoing));
            }
            Err(detail) => {
                outgoing.abandon().await;
                self.migration_over(running, &view, MigrationOutcome::Failed { detail }).await;
            }
        }
    }

    /// Looks how the migration goes, and acts when it is over.
    pub(super) async fn look_at_migration(&mut self, running: &mut Running) {
        let Some(mut outgoing) = running.migration.take() else { return };
        let before = outgoing.view.clone();
        match outgoing.look(&running.qmp).await {
            Look::Going => {
                if outgoing.is_news(&before) {
                    self.show_migration(running, Some(outgoing.view.clone()));
                }
                running.migration = Some(outgoing);
            }
            Look::Moved { downtime_ms } => {
                let end = outgoing.view.ended(MigrationOutcome::Succeeded { downtime_ms });
                let (mut next, serial) = outgoing.into_running().await;
                next.instance.last_migration = Some(end);
                next.instance.stop = running.instance.stop.clone();
                next.instance.devices = running.instance.devices.clone();
                // Serves this QEMU until it ends, then the next in its queue: that one.
                next.instance.network = running.instance.network.clone();
                next.network = running.network.take();
                // From here on a later daemon finds it there; what is left here is then removed.
                self.save_instance(&next).await;
                let mut left = std::mem::replace(running, next);
                // The guest writes nothing more there: the broker reads what is left, then takes this one.
                self.machine.console().connect(serial, false);
                self.show_ways(running);
                // Only now: viewers of the screen know where to type.
                self.machine.hold_input(false);
                power_cut(&mut left).await;
                launch::clean_up(left.instance.run_dir, Vec::new()).await;
                // Over is what has left nothing behind.
                self.show_migration(running, None);
            }
            Look::Over(outcome) => {
                let view = outgoing.view.clone();
                outgoing.abandon().await;
                self.migration_over(running, &view, outcome).await;
            }
        }
    }

    /// The guest goes on here.
    async fn migration_over(&mut self, running: &mut Running, view: &Migration, outcome: MigrationOutcome) {
        migrate::resume(&running.qmp).await;
        self.machine.hold_input(false);
        running.instance.target = None;
        running.instance.last_migration = Some(view.ended(outcome));
        self.save_instance(running).await;
        self.show_migration(running, None);
    }

    fn show_migration(&self, running: &Running, view: Option<Migration>) {
        self.machine.shared.lock().observation.migration = view;
        self.show(running);
    }
}
