//! A machine's task while its guest's file systems are frozen. The record says so before the agent is asked, so that
//! a later daemon thaws what this one could not.

use std::io;
use std::time::Duration;

use tokio::time::Instant;

use super::agent;
use super::launch::Running;
use super::machine::{Command, Done};
use super::record::Frozen;
use super::state::Phase;
use super::task::Task;

/// Pause between tries to thaw.
const THAW_AGAIN: Duration = Duration::from_secs(2);

/// A try takes no longer than this.
const TRY: Duration = Duration::from_secs(30);

impl Task {
    /// Has the agent freeze the guest, beside everything else.
    pub(super) async fn freeze(&mut self, running: &mut Running, timeout: Duration, done: Done) {
        if let Some(reason) = self.why_not_freeze(running) {
            // Nobody may wait any more.
            let _ = done.send(Err(reason.to_owned()));
            return;
        }
        let until = jiff::Timestamp::now().checked_add(timeout).unwrap_or(jiff::Timestamp::MAX);
        let since = running.instance.frozen.and_then(|frozen| frozen.since);
        running.instance.frozen = Some(Frozen { since, until });
        self.save_instance(running).await;
        self.thaw_at = Some(Instant::now() + timeout);
        if since.is_some() {
            let _ = done.send(Ok(()));
            return;
        }
        let (machine, run_dir) = (self.machine.clone(), running.instance.run_dir.clone());
        tokio::spawn(async move {
            let outcome = agent::freeze(&run_dir).await;
            machine.tell(Command::Frozen { outcome, done });
        });
    }

    fn why_not_freeze(&self, running: &Running) -> Option<&'static str> {
        match self.machine.with(|shared| shared.phase) {
            Phase::Migrating => Some("the machine is being migrated"),
            Phase::Paused => Some("the guest is held"),
            Phase::Stopping => Some("the machine is stopping"),
            Phase::Absent | Phase::Starting | Phase::Ended => Some("the machine does not run"),
            Phase::Running if !running.agent_connected => Some("the guest agent does not answer"),
            Phase::Running => None,
        }
    }

    /// The agent has frozen the guest, or has not.
    pub(super) async fn frozen(&mut self, running: &mut Running, outcome: io::Result<()>, done: Done) {
        let result = match outcome {
            Ok(()) => {
                if let Some(frozen) = &mut running.instance.frozen {
                    frozen.since = Some(jiff::Timestamp::now());
                }
                self.save_instance(running).await;
                self.show(running);
                Ok(())
            }
            Err(error) => {
                // It may have frozen something all the same.
                self.thaw(running, None);
                Err(format!("the guest agent does not freeze the file systems: {error}"))
            }
        };
        let _ = done.send(result);
    }

    /// Has the agent thaw the guest, again and again until it does.
    pub(super) fn thaw(&mut self, running: &Running, done: Option<Done>) {
        if running.instance.frozen.is_none() && !running.agent_connected {
            self.thaw_at = None;
            if let Some(done) = done {
                // Nobody may wait any more.
                let _ = done.send(Ok(()));
            }
            return;
        }
        self.thaw_at = Some(Instant::now() + TRY);
        let (machine, run_dir) = (self.machine.clone(), running.instance.run_dir.clone());
        tokio::spawn(async move {
            let outcome = agent::thaw(&run_dir).await;
            machine.tell(Command::Thawed { outcome, done });
        });
    }

    /// The agent has thawed the guest, or has not.
    pub(super) async fn thawed(&mut self, running: &mut Running, outcome: io::Result<()>, done: Option<Done>) {
        let result = match outcome {
            Ok(()) => {
                self.thaw_at = None;
                if running.instance.frozen.take().is_some() {
                    self.save_instance(running).await;
                    self.show(running);
                }
                Ok(())
            }
            Err(error) if running.instance.frozen.is_none() => {
                // Nothing was frozen by us: not worth trying for ever.
                self.thaw_at = None;
                Err(format!("the guest agent does not thaw the file systems: {error}"))
            }
            Err(error) => {
                self.thaw_at = Some(Instant::now() + THAW_AGAIN);
                tracing::warn!(machine = %self.record.id.0, %error, "the guest is not thawed yet; trying again");
                Err(format!("the guest agent does not thaw the file systems yet: {error}"))
            }
        };
        if let Some(done) = done {
            let _ = done.send(result);
        }
    }
}
