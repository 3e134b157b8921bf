//! The times of changes. They only order changes by age, so they need not be right, but they must not go back: not
//! when the system's clock is set back while the store is open, nor when it was between two runs.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Milliseconds since the epoch, by the system's clock.
pub(super) fn wall() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(now.as_millis()).unwrap_or(i64::MAX)
}

/// Goes on from the newest time of the store, or from the system's if that is later.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    start: i64,
    since: Instant,
}

impl Clock {
    pub(super) fn start(newest: i64, wall: i64, since: Instant) -> Self {
        Self { start: newest.max(wall), since }
    }

    /// Milliseconds since the epoch, as if no clock had been set since the start.
    pub(super) fn at(&self, now: Instant) -> i64 {
        let passed = now.saturating_duration_since(self.since).as_millis();
        self.start.saturating_add(i64::try_from(passed).unwrap_or(i64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_never_goes_back() {
        let since = Instant::now();
        for (newest, wall, want) in [(0, 1000, 1000), (5000, 1000, 5000), (1000, 5000, 5000), (i64::MAX, 0, i64::MAX)] {
            let clock = Clock::start(newest, wall, since);
            assert_eq!(clock.at(since), want);
            assert_eq!(clock.at(since + Duration::from_millis(7)), i64::saturating_add(want, 7));
        }
    }
}
