//! Pauses between starts of a machine that does not stay up. Pure; the time is a parameter.

use std::time::Duration;

use jiff::Timestamp;

use crate::host::EndReason;

/// An instance that lived at least this long is a success: the next end counts as the first again.
const HEALTHY: Duration = Duration::from_secs(10);
/// The longest pause.
const LONGEST: Duration = Duration::from_secs(300);
/// Guests may reboot quickly a few times in a row (installers do) before it looks like a loop.
const FREE_RESETS: u32 = 3;

/// What is remembered of a machine's last launches. Lost with the daemon: then a machine gets a fresh chance.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attempts {
    /// Launch that was started last.
    launch: u64,
    /// When.
    started: Option<Timestamp>,
    /// Ends in a row that came too soon.
    short: u32,
    /// The launch whose end has been counted.
    counted: u64,
    /// `metadata.generation` of the failed attempts: an edit clears the record.
    generation: i64,
}

impl Attempts {
    /// Notes a launch.
    pub fn started(&mut self, launch: u64, now: Timestamp) {
        self.launch = launch;
        self.started = Some(now);
    }

    /// When the next start may happen, given that launch `launch` ended for `reason` at `at`. `None`: now.
    pub fn next_start(&mut self, launch: u64, reason: &EndReason, at: Timestamp, generation: i64) -> Option<Timestamp> {
        if self.generation != generation {
            *self = Self { generation, ..*self };
            self.short = 0;
            self.counted = launch;
        }
        if self.counted < launch {
            self.counted = launch;
            let lived = self.started.filter(|_| self.launch == launch).map(|s| at.duration_since(s));
            let healthy = lived.is_none_or(|l| l >= jiff::SignedDuration::try_from(HEALTHY).unwrap_or_default());
            let failed = matches!(reason, EndReason::StartFailed { .. });
            self.short = match reason {
                EndReason::Requested => 0,
                _ if healthy && !failed => 0,
                _ => self.short.saturating_add(1),
            };
        }
        let step = match reason {
            EndReason::Requested => 0,
            EndReason::GuestReset => self.short.saturating_sub(FREE_RESETS),
            EndReason::StartFailed { .. } => self.short,
            EndReason::GuestShutdown | EndReason::GuestPanic | EndReason::Crashed { .. } => {
                self.short.saturating_sub(1)
            }
        };
        let pause = pause(step)?;
        at.checked_add(pause).ok()
    }
}

fn pause(step: u32) -> Option<Duration> {
    (step > 0).then(|| Duration::from_secs(1u64 << step.min(16)).min(LONGEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: i64) -> Timestamp {
        Timestamp::from_second(s).unwrap()
    }

    fn failed() -> EndReason {
        EndReason::StartFailed { detail: String::new() }
    }

    #[test]
    fn starts_that_fail_are_spaced_out_up_to_five_minutes() {
        let mut a = Attempts::default();
        let pauses: Vec<i64> = (1..12)
            .map(|launch| {
                a.started(launch, at(0));
                a.next_start(launch, &failed(), at(0), 0).unwrap().as_second()
            })
            .collect();
        assert_eq!(pauses, [2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);
    }

    #[test]
    fn looking_twice_counts_once_and_an_edit_clears() {
        let mut a = Attempts::default();
        a.started(1, at(0));
        assert_eq!(a.next_start(1, &failed(), at(0), 0), Some(at(2)));
        assert_eq!(a.next_start(1, &failed(), at(0), 0), Some(at(2)));
        assert_eq!(a.next_start(1, &failed(), at(0), 1), None);
    }

    #[test]
    fn the_first_crash_and_a_few_reboots_are_free_and_a_healthy_run_resets() {
        let crash = EndReason::Crashed { detail: String::new() };
        let mut a = Attempts::default();
        a.started(1, at(0));
        assert_eq!(a.next_start(1, &crash, at(1), 0), None);
        a.started(2, at(1));
        assert_eq!(a.next_start(2, &crash, at(2), 0), Some(at(4)));
        a.started(3, at(4));
        assert_eq!(a.next_start(3, &crash, at(60), 0), None);
        let mut a = Attempts::default();
        for launch in 1..=3 {
            a.started(launch, at(0));
            assert_eq!(a.next_start(launch, &EndReason::GuestReset, at(1), 0), None);
        }
        a.started(4, at(0));
        assert_eq!(a.next_start(4, &EndReason::GuestReset, at(1), 0), Some(at(3)));
    }
}
