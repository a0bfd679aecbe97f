//! Opens the frames of one device in another place than the [`Call`](super::Call): a worker.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::fmt;

use super::frame::{self, Opener};
use super::keys::{self, ExportedKey, Stream};
use crate::error::Error;

/// Opens the frames of one device, each once, where its [`Call`](super::Call) is not: in a media
/// worker, or in another process.
///
/// It holds the keys of frames and nothing else. What is in it comes from
/// [`Call::export`](super::Call::export), all of that at once and whenever it may have changed; the
/// windows of the keys that stay are kept. A frame for which there is no key has to be told to the
/// call by [`Call::missed`](super::Call::missed), which asks for the key.
///
/// ```
/// use subrosa::call::{Call, ExportedKey, Openers, Sealer, Stream, Suite};
/// # use subrosa::{Address, CallId, Error, SystemRng};
/// # let me = Address::new("alice", 1);
/// # let id = CallId::random(&mut SystemRng);
/// # let mut call = Call::new(id, &me, Suite::default(), 0, &mut SystemRng);
///
/// // The sending side hands its keys to a worker; each of them once.
/// let key = call.export_sender(Stream::Video, 0).expect("it is the first time");
/// let bytes = key.to_bytes();
/// let mut sealer = Sealer::from(ExportedKey::from_bytes(&bytes[..])?);
///
/// let mut openers = Openers::new(); // for one device
/// openers.set(&call.export(&me)); // no key yet
/// let mut frame = b"a picture".to_vec();
/// sealer.seal(0, &mut frame)?;
/// assert_eq!(openers.open(0, &mut frame), Err(Error::WaitingForKey));
/// # Ok::<(), Error>(())
/// ```
#[derive(Default)]
pub struct Openers {
    instance: u64,
    openers: BTreeMap<u64, Held>,
    /// The highest generation that is gone: no frame under it, and none below, is opened again.
    highest_dropped: Option<u32>,
}

struct Held {
    generation: u32,
    opener: Opener,
    /// Whether the call still has it.
    is_open: bool,
}

impl Openers {
    /// Nothing opens yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes what [`Call::export`](super::Call::export) returned for the device. A key that was
    /// here stays with its window. What the call does not have any more opens nothing, and what is
    /// below it never opens again.
    ///
    /// A device that came back as a new instance begins anew. Keys of an earlier one are ignored.
    pub fn set(&mut self, keys: &[ExportedKey]) {
        for held in self.openers.values_mut() {
            held.is_open = false;
        }
        let Some(instance) = keys.iter().map(|key| key.instance).max() else { return };
        if instance < self.instance {
            return;
        }
        if instance > self.instance {
            *self = Self { instance, ..Self::default() };
        }
        let mut lowest = u32::MAX;
        for key in keys.iter().filter(|key| key.instance == instance) {
            let Some((generation, _)) = keys::of_kid(key.kid) else { continue };
            if self.highest_dropped.is_some_and(|dropped| generation <= dropped) {
                continue;
            }
            lowest = lowest.min(generation);
            let opener = || Opener::new(key.suite, key.kid, key.base_key());
            let new = || Held { generation, opener: opener(), is_open: true };
            self.openers.entry(key.kid).or_insert_with(new).is_open = true;
        }
        let gone = |held: &Held| held.generation < lowest;
        let gone_now = self.openers.values().filter(|held| gone(held)).map(|held| held.generation);
        self.highest_dropped = self.highest_dropped.max(gone_now.max());
        self.openers.retain(|_, held| !gone(held));
    }

    /// Opens a frame in place, as [`Call::open`](super::Call::open) does. Says of which stream it
    /// is.
    ///
    /// # Errors
    /// The frame is as it was: do not play it. [`Error::WaitingForKey`]: tell the call that by
    /// [`Call::missed`](super::Call::missed). [`Error::Duplicate`]: it was opened before, or is
    /// late. [`Error::Decrypt`], [`Error::Malformed`], [`Error::TooLong`].
    #[inline]
    pub fn open(&mut self, clear: usize, frame: &mut Vec<u8>) -> Result<Stream, Error> {
        let (header, length) = frame::split(clear, frame)?;
        let (number, stream) = keys::of_kid(header.kid).ok_or(Error::Malformed)?;
        let Some(held) = self.openers.get_mut(&header.kid).filter(|held| held.is_open) else {
            let is_dropped = self.highest_dropped.is_some_and(|dropped| number <= dropped)
                || self.openers.values().any(|held| held.is_open && held.generation >= number);
            return Err(if is_dropped { Error::Duplicate } else { Error::WaitingForKey });
        };
        held.opener.open_split(clear, header, length, frame)?;
        Ok(stream)
    }
}

/// Shows how many keys there are, and nothing of them.
impl fmt::Debug for Openers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let open = self.openers.values().filter(|held| held.is_open).count();
        write!(f, "Openers({open} keys)")
    }
}

#[cfg(test)]
mod tests {
    use super::super::frame::{Sealer, Suite};
    use super::*;

    fn key(instance: u64, generation: u32, secret: u8) -> ExportedKey {
        let kid = keys::kid(generation, Stream::Video);
        ExportedKey::new(instance, kid, Suite::default(), &[secret; 32]).unwrap()
    }

    fn sealed(key: ExportedKey) -> Vec<u8> {
        let mut frame = b"a picture".to_vec();
        Sealer::from(key).seal(3, &mut frame).unwrap();
        frame
    }

    #[test]
    fn keys_that_are_given_again_open_no_frame_twice() {
        let (mut openers, frame) = (Openers::new(), sealed(key(1, 0, 1)));
        assert_eq!(openers.open(3, &mut frame.clone()), Err(Error::WaitingForKey));
        openers.set(&[key(1, 0, 1)]);
        let mut opened = frame.clone();
        assert_eq!(openers.open(3, &mut opened), Ok(Stream::Video));
        assert_eq!(opened, b"a picture");
        // The same key, another one under its name, no key and the key again: the window is kept.
        for keys in [&[key(1, 0, 1)][..], &[key(1, 0, 2)], &[], &[key(1, 0, 1)]] {
            openers.set(keys);
            assert!(openers.open(3, &mut frame.clone()).is_err());
        }
        assert_eq!(openers.open(3, &mut { frame }), Err(Error::Duplicate));
    }

    #[test]
    fn a_device_that_is_away_is_not_heard_and_can_come_back() {
        let (mut openers, mut sealer) = (Openers::new(), Sealer::from(key(1, 0, 1)));
        openers.set(&[key(1, 0, 1)]);
        openers.set(&[]);
        let mut frame = b"a picture".to_vec();
        sealer.seal(0, &mut frame).unwrap();
        assert_eq!(openers.open(0, &mut frame.clone()), Err(Error::WaitingForKey));
        openers.set(&[key(1, 0, 1)]);
        assert_eq!(openers.open(0, &mut frame), Ok(Stream::Video));
    }

    #[test]
    fn a_generation_that_is_over_does_not_come_back() {
        let (mut openers, frame) = (Openers::new(), sealed(key(1, 0, 1)));
        openers.set(&[key(1, 0, 1), key(1, 1, 2)]);
        openers.open(3, &mut frame.clone()).unwrap();
        openers.set(&[key(1, 1, 2)]);
        openers.set(&[key(1, 0, 1), key(1, 1, 2)]);
        assert_eq!(openers.open(3, &mut { frame }), Err(Error::Duplicate));
        assert_eq!(openers.openers.len(), 1);
        // What is above all that are here waits.
        assert_eq!(openers.open(3, &mut sealed(key(1, 2, 3))), Err(Error::WaitingForKey));
    }

    #[test]
    fn a_new_instance_begins_anew_and_an_old_one_is_ignored() {
        let (mut openers, old) = (Openers::new(), sealed(key(1, 0, 1)));
        openers.set(&[key(1, 0, 1)]);
        openers.set(&[key(2, 0, 2)]);
        let forged = openers.open(3, &mut old.clone());
        assert_eq!(forged, Err(Error::Decrypt));
        assert_eq!(openers.open(3, &mut sealed(key(2, 0, 2))), Ok(Stream::Video));
        openers.set(&[key(1, 0, 1)]);
        assert!(openers.open(3, &mut { old }).is_err());
        openers.set(&[key(2, 0, 2)]);
        assert_eq!(openers.open(3, &mut sealed(key(2, 0, 2))), Err(Error::Duplicate));
    }

    #[test]
    fn debug_output_shows_no_keys() {
        let mut openers = Openers::new();
        openers.set(&[key(1, 0, 1)]);
        assert_eq!(alloc::format!("{openers:?}"), "Openers(1 keys)");
    }
}
