//! The time, as far as this crate needs it: whole seconds since the Unix epoch.

use core::fmt;

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// A point in time: seconds since 1970-01-01 00:00:00 UTC, between the years 2020 and 2200.
///
/// A clock that was never set says 1970, and a clock that counts milliseconds says a time tens of
/// thousands of years ahead. Neither becomes a `UnixTime`, so neither can make prekeys that no
/// peer accepts. A clock that is merely wrong does, within these limits: see
/// [the guide](crate::guide::clocks) for what happens when it jumps.
///
/// ```
/// use subrosa::{Error, UnixTime};
///
/// let time = UnixTime::from_secs(1_800_000_000)?;
/// assert_eq!(time.as_secs(), 1_800_000_000);
/// assert_eq!(UnixTime::from_secs(0), Err(Error::ImplausibleClock));
/// assert_eq!(UnixTime::from_secs(1_800_000_000_000), Err(Error::ImplausibleClock));
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct UnixTime(u64);

impl UnixTime {
    /// 2020-01-01 00:00:00 UTC. No device of this protocol ran before.
    pub const MIN: Self = Self(1_577_836_800);

    /// 2200-01-01 00:00:00 UTC.
    pub const MAX: Self = Self(7_258_118_400);

    /// From seconds since the Unix epoch.
    ///
    /// # Errors
    /// [`Error::ImplausibleClock`]: outside [`UnixTime::MIN`] to [`UnixTime::MAX`]. Check the
    /// clock, and that it counts seconds.
    pub const fn from_secs(secs: u64) -> Result<Self, Error> {
        if secs < Self::MIN.0 || secs > Self::MAX.0 {
            return Err(Error::ImplausibleClock);
        }
        Ok(Self(secs))
    }

    /// The time that the system's clock shows.
    ///
    /// # Errors
    /// [`Error::ImplausibleClock`]: the clock was never set, or is far off.
    #[cfg(feature = "std")]
    pub fn now() -> Result<Self, Error> {
        std::time::SystemTime::now().try_into()
    }

    /// Seconds since the Unix epoch.
    #[must_use]
    pub const fn as_secs(self) -> u64 {
        self.0
    }

    /// The time this many seconds later, at most [`UnixTime::MAX`].
    #[must_use]
    pub const fn after(self, secs: u64) -> Self {
        let later = self.0.saturating_add(secs);
        if later > Self::MAX.0 { Self::MAX } else { Self(later) }
    }

    /// The time this many seconds later, for what has to be later: a wait at the end of time, say
    /// of an app that brings a wrong clock inside the limits, is a wait all the same.
    pub(crate) const fn wait(self, secs: u64) -> Self {
        Self(self.0.saturating_add(secs))
    }

    /// Seconds from `earlier` to this time; 0 where `earlier` is the later one.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// Seconds between the two, whichever is the earlier: a clock may have been set back.
    #[must_use]
    pub(crate) const fn apart(self, other: Self) -> u64 {
        self.as_secs().abs_diff(other.as_secs())
    }
}

/// Seconds since the Unix epoch.
impl fmt::Display for UnixTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// As [`UnixTime::from_secs`].
impl TryFrom<u64> for UnixTime {
    type Error = Error;

    fn try_from(secs: u64) -> Result<Self, Error> {
        Self::from_secs(secs)
    }
}

#[cfg(feature = "std")]
impl TryFrom<std::time::SystemTime> for UnixTime {
    type Error = Error;

    fn try_from(time: std::time::SystemTime) -> Result<Self, Error> {
        let since = time.duration_since(std::time::UNIX_EPOCH);
        Self::from_secs(since.map_err(|_| Error::ImplausibleClock)?.as_secs())
    }
}

#[cfg(feature = "std")]
impl From<UnixTime> for std::time::SystemTime {
    fn from(time: UnixTime) -> Self {
        Self::UNIX_EPOCH
            .checked_add(core::time::Duration::from_secs(time.0))
            .unwrap_or(Self::UNIX_EPOCH)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_within_its_limits() {
        for (secs, is_time) in [
            (0, false),
            (UnixTime::MIN.0 - 1, false),
            (UnixTime::MIN.0, true),
            (UnixTime::MAX.0, true),
            (UnixTime::MAX.0 + 1, false),
            (1_800_000_000_000, false),
        ] {
            assert_eq!(UnixTime::from_secs(secs).is_ok(), is_time, "{secs}");
        }
        assert_eq!(UnixTime::MAX.after(1), UnixTime::MAX);
        assert_eq!(UnixTime::MIN.after(60).since(UnixTime::MIN), 60);
        assert_eq!(UnixTime::MIN.since(UnixTime::MAX), 0);
    }

    #[cfg(feature = "std")]
    #[test]
    fn a_time_goes_to_the_system_and_back() {
        let time = UnixTime::from_secs(1_800_000_000).unwrap();
        assert_eq!(UnixTime::try_from(std::time::SystemTime::from(time)), Ok(time));
    }
}
