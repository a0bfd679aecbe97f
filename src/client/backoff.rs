//! When something that failed is tried again: later each time.

use crate::time::UnixTime;

/// Seconds to wait after a failure: the first time, doubled with each further one, and at most.
pub(super) struct BackOff {
    pub(super) first: u64,
    pub(super) last: u64,
}

impl BackOff {
    /// It failed once more. Returns when it is tried again.
    pub(super) fn failed(&self, attempts: &mut u8, now: UnixTime) -> UnixTime {
        let wait = self.first.checked_shl(u32::from(*attempts)).unwrap_or(self.last);
        *attempts = attempts.saturating_add(1).min(32);
        now.after(wait.min(self.last))
    }

    /// Whether it is time. A time too far ahead was set by a clock that was, and is not believed.
    pub(super) fn is_due(&self, not_before: UnixTime, now: UnixTime) -> bool {
        let wait = not_before.since(now);
        wait == 0 || wait > self.last
    }
}
