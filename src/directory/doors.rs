//! With which passes a server takes sealed mail for an account (docs/sealed.md, 6).

use alloc::vec::Vec;

use crate::codec::{Reader, Writer};
use crate::crypto::secret::Secret;
use crate::error::Error;

/// What a server keeps of the passes of one account, and whom it lets in with them.
///
/// Sealed mail comes on a connection that carries no name, so the pass is all that the server can
/// check: 16 bytes that the account gave to the people who may write to it. An account that never
/// told a pass takes sealed mail from anybody.
///
/// It is a row of its own beside those of [`Directory`](super::Directory). An account that
/// registers a name anew has other passes: delete the row where
/// [`Directory::re_register`](super::Directory::re_register) is called.
///
/// ```
/// use subrosa::directory::Doors;
///
/// let now = 1_800_000_000;
/// let mut doors = Doors::new();
/// assert!(doors.admits(None, now), "an account without a pass gets mail from anybody");
///
/// // A device of the account tells its pass (`Action::SetPass`), and later another one.
/// let number = 1_800_000_000;
/// assert!(doors.set(number, &[7; 16], now));
/// assert!(doors.set(number + 1, &[8; 16], now));
/// assert!(doors.admits(Some(&[8; 16]), now));
/// assert!(doors.admits(Some(&[7; 16]), now), "who did not hear of it yet");
/// assert!(!doors.admits(Some(&[7; 16]), now + Doors::GRACE + 1));
/// assert!(!doors.admits(None, now));
/// let row = doors.encode();
/// # assert_eq!(Doors::decode(&row)?, doors);
/// # Ok::<(), subrosa::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Doors {
    newest: Option<Told>,
    before: Option<Former>,
}

/// A pass that a device of the account told.
#[derive(Clone, PartialEq, Eq)]
struct Told {
    number: u32,
    pass: Secret<16>,
}

/// The one before, which people have who did not hear of the new one.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Former {
    told: Told,
    /// Seconds since the Unix epoch.
    until: u64,
}

impl Doors {
    /// Seconds for which the pass before the newest one is taken: 30 days.
    pub const GRACE: u64 = 30 * 24 * 60 * 60;

    const FORMAT: u8 = 1;

    const MOST_AHEAD: u64 = 24 * 60 * 60;

    /// An account that never told a pass.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the pass that a device of the account tells. False where it is not newer than the one
    /// that is known: one of a higher number is newer, and of the same number the one of higher
    /// bytes. Then nothing changes, and the device is answered all the same: it hears of the newer
    /// one from the account's other devices.
    ///
    /// Numbers follow the time, in seconds. One that is more than a day ahead of `now` is not
    /// taken: a stolen device could keep out every later pass with it.
    pub fn set(&mut self, number: u32, pass: &[u8; 16], now: u64) -> bool {
        let is_newer = self
            .newest
            .as_ref()
            .is_none_or(|told| (told.number, told.pass.expose()) < (number, pass));
        let is_plausible = u64::from(number) <= now.saturating_add(Self::MOST_AHEAD);
        let is_taken = is_newer && is_plausible;
        if is_taken {
            let told = Told { number, pass: Secret::new(*pass) };
            let until = now.saturating_add(Self::GRACE);
            self.before = self.newest.replace(told).map(|told| Former { told, until });
        }
        is_taken
    }

    /// Whether sealed mail is taken that comes with this pass, or with none. Passes are compared in
    /// constant time.
    #[must_use]
    pub fn admits(&self, pass: Option<&[u8; 16]>, now: u64) -> bool {
        let Some(told) = &self.newest else { return true };
        let Some(pass) = pass.map(|pass| Secret::new(*pass)) else { return false };
        let is_former = |former: &Former| now <= former.until && former.told.pass == pass;
        told.pass == pass || self.before.as_ref().is_some_and(is_former)
    }

    /// The row. 2 bytes, and 28 for each pass:
    ///
    /// ```text
    /// format:u8 = 1 || count:u8 (0 to 2) || count * (number:u32 || pass:16 || until:u64)
    /// ```
    ///
    /// The newest pass is the first. Its `until` is 0; that of the one before is the last second
    /// for which it is taken, since the Unix epoch.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let newest = self.newest.iter().map(|told| (told, 0));
        let all = newest.chain(self.before.iter().map(|former| (&former.told, former.until)));
        let out = Writer::with_capacity(58).u8(Self::FORMAT);
        let count = u8::from(self.newest.is_some()).saturating_add(u8::from(self.before.is_some()));
        all.fold(out.u8(count), |out, (told, until)| {
            out.u32(told.number).bytes(told.pass.expose()).u64(until)
        })
        .done()
    }

    /// From the row.
    ///
    /// # Errors
    /// [`Error::BadState`]: it is not what [`Doors::encode`] made; load a backup.
    pub fn decode(row: &[u8]) -> Result<Self, Error> {
        read(row).map_err(|_| Error::BadState)
    }
}

fn read(row: &[u8]) -> Result<Doors, Error> {
    let mut reader = Reader::new(row);
    let (format, count) = (reader.u8()?, reader.u8()?);
    if format != Doors::FORMAT || count > 2 {
        return Err(Error::BadState);
    }
    let mut doors = Doors::new();
    if count > 0 {
        let (told, until) = read_pass(&mut reader)?;
        if until != 0 {
            return Err(Error::BadState);
        }
        doors.newest = Some(told);
    }
    if count > 1 {
        let (told, until) = read_pass(&mut reader)?;
        doors.before = Some(Former { told, until });
    }
    reader.end()?;
    Ok(doors)
}

fn read_pass(reader: &mut Reader<'_>) -> Result<(Told, u64), Error> {
    let (number, pass) = (reader.u32()?, Secret::new(*reader.array()?));
    Ok((Told { number, pass }, reader.u64()?))
}

/// Shows its number.
impl core::fmt::Debug for Told {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Pass({})", self.number)
    }
}

#[cfg(test)]
mod tests {
    use alloc::format;

    use super::*;

    const NOW: u64 = 1_800_000_000;
    const ONE: [u8; 16] = [1; 16];
    const TWO: [u8; 16] = [2; 16];
    const THREE: [u8; 16] = [3; 16];

    #[test]
    fn the_last_two_passes_are_taken_and_the_older_one_for_30_days() {
        let mut doors = Doors::new();
        assert!(doors.admits(None, NOW) && doors.admits(Some(&TWO), NOW));
        assert!(doors.set(1, &ONE, NOW));
        assert!(doors.admits(Some(&ONE), NOW) && !doors.admits(Some(&TWO), NOW));
        assert!(!doors.admits(None, NOW));
        assert!(doors.set(2, &TWO, NOW));
        let last = NOW + Doors::GRACE;
        assert!(doors.admits(Some(&ONE), last) && !doors.admits(Some(&ONE), last + 1));
        assert!(doors.set(3, &THREE, NOW));
        assert!(!doors.admits(Some(&ONE), NOW), "it is the third one from the end");
        assert!(doors.admits(Some(&TWO), NOW) && doors.admits(Some(&THREE), u64::MAX));
    }

    #[test]
    fn what_is_not_newer_changes_nothing() {
        let mut doors = Doors::new();
        assert!(doors.set(5, &TWO, NOW));
        let before = doors.clone();
        for (number, pass) in [(4, THREE), (5, ONE), (5, TWO), (0, THREE)] {
            assert!(!doors.set(number, &pass, NOW + 1), "{number}");
            assert_eq!(doors, before);
        }
        let ahead = u32::try_from(NOW + 24 * 60 * 60).unwrap();
        assert!(!doors.set(ahead + 1, &THREE, NOW) && !doors.set(u32::MAX, &THREE, NOW));
        assert_eq!(doors, before);
        assert!(doors.clone().set(ahead, &THREE, NOW));
        // Of two devices that changed it at once, the higher bytes count, as they do between them.
        assert!(doors.set(5, &THREE, NOW));
        assert!(doors.admits(Some(&TWO), NOW) && doors.admits(Some(&THREE), NOW));
    }

    #[test]
    fn a_row_is_read_as_it_was_written_and_no_other_bytes_are_one() {
        let mut doors = Doors::new();
        for (number, pass) in [(0, None), (1, Some(ONE)), (2, Some(TWO)), (3, Some(THREE))] {
            if let Some(pass) = pass {
                doors.set(number, &pass, NOW);
            }
            let row = doors.encode();
            assert_eq!(row.len(), 2 + 28 * usize::try_from(number.min(2)).unwrap());
            assert_eq!(Doors::decode(&row), Ok(doors.clone()));
            for cut in 0..row.len() {
                assert_eq!(Doors::decode(&row[..cut]), Err(Error::BadState), "{cut}");
            }
            assert_eq!(Doors::decode(&[&row[..], &[0]].concat()), Err(Error::BadState));
        }
        for bad in [[2, 0], [1, 3], [1, 1]] {
            assert_eq!(Doors::decode(&bad), Err(Error::BadState));
        }
        let mut row = doors.encode();
        row[29] = 1;
        assert_eq!(Doors::decode(&row), Err(Error::BadState), "the newest one has no end");
    }

    #[test]
    fn debug_shows_numbers_alone() {
        let mut doors = Doors::new();
        doors.set(3, &[0x41; 16], NOW);
        doors.set(4, &[0x42; 16], NOW);
        let shown = format!("{doors:?}");
        assert!(shown.contains("Pass(3)") && shown.contains("Pass(4)"), "{shown}");
        assert!(!shown.contains("65") && !shown.contains("66") && !shown.contains("41"), "{shown}");
    }
}
