//! When something that failed is tried again, later each time; and the earliest of such times.

use crate::time::UnixTime;

/// Seconds to wait after a failure: the first time, doubled with each further one, and at most.
pub(super) struct BackOff {
    pub(super) first: u64,
    pub(super) last: u64,
}

/// A wait is doubled so often at most.
const MOST_DOUBLED: u8 = 32;

impl BackOff {
    /// It failed once more. Returns when it is tried again.
    pub(super) fn failed(&self, attempts: &mut u8, now: UnixTime) -> UnixTime {
        let wait = self.first << (*attempts).min(MOST_DOUBLED);
        // What is tried by turns is tried by turns for ever.
        *attempts = attempts.checked_add(1).unwrap_or(MOST_DOUBLED);
        now.wait(wait.min(self.last))
    }

    /// Whether it is time. A time too far ahead was set by a clock that was, and is not believed.
    pub(super) fn is_due(&self, not_before: UnixTime, now: UnixTime) -> bool {
        let wait = not_before.since(now);
        wait == 0 || wait > self.last
    }
}

/// The earliest of several times that are still to come.
pub(super) struct Earliest {
    now: UnixTime,
    next: UnixTime,
}

impl Earliest {
    /// Until a time is taken that is earlier, it is `most` seconds from now.
    pub(super) const fn within(most: u64, now: UnixTime) -> Self {
        Self { now, next: now.wait(most) }
    }

    /// Times that have passed are ignored: what is due and was not done waits for something else.
    pub(super) fn take(&mut self, time: UnixTime) {
        if time > self.now && time < self.next {
            self.next = time;
        }
    }

    /// There is more than was looked at.
    pub(super) fn soon(&mut self) {
        self.take(self.now.wait(1));
    }

    pub(super) const fn now(&self) -> UnixTime {
        self.now
    }

    pub(super) const fn get(&self) -> UnixTime {
        self.next
    }
}
