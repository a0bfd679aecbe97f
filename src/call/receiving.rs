//! What the frames of one device are opened with.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::frame::{self, Opener, Suite};
use super::keys::{self, ExportedKey, Owner, Stream};
use super::message::KeyMessage;
use crate::crypto::secret::Secret;
use crate::error::Error;

/// Generations that are kept of one device, at most.
pub(super) const MOST_GENERATIONS: usize = 4;

/// Milliseconds for which a generation still opens once there is a newer one.
pub(super) const OLD_OPENS: u64 = 10_000;

/// The generations of one device, the lowest first.
#[derive(Default)]
pub(super) struct Receiving {
    generations: Vec<Generation>,
    /// The highest generation that is no longer kept: no frame under it, and none below, is opened
    /// again, and no key signal brings it back.
    highest_dropped: Option<u32>,
}

struct Generation {
    number: u32,
    suite: Suite,
    /// In a box: generations move in their vector.
    secret: Box<Secret<32>>,
    /// Made when the first frame of a stream comes.
    openers: [Option<Opener>; 4],
    /// When a newer generation came.
    replaced_at: Option<u64>,
}

impl Receiving {
    /// Takes a key.
    ///
    /// # Errors
    /// [`Error::StaleKey`]: the generation was seen with another secret, or was dropped.
    pub(super) fn add(&mut self, key: KeyMessage, now: u64) -> Result<(), Error> {
        let KeyMessage { suite, generation: number, secret, .. } = key;
        if self.highest_dropped.is_some_and(|dropped| number <= dropped) {
            return Err(Error::StaleKey);
        }
        let place = self.generations.partition_point(|kept| kept.number < number);
        if let Some(kept) = self.generations.get(place).filter(|kept| kept.number == number) {
            let is_same = kept.suite == suite && *kept.secret == secret;
            return if is_same { Ok(()) } else { Err(Error::StaleKey) };
        }
        let is_newest = place == self.generations.len();
        let replaced_at = (!is_newest).then_some(now);
        if is_newest {
            for kept in &mut self.generations {
                kept.replaced_at.get_or_insert(now);
            }
        }
        let (secret, openers) = (Box::new(secret), [const { None }; 4]);
        self.generations.insert(place, Generation { number, suite, secret, openers, replaced_at });
        while self.generations.len() > MOST_GENERATIONS {
            self.drop_lowest();
        }
        Ok(())
    }

    /// Opens a frame. Says of which stream it is.
    ///
    /// # Errors
    /// As [`Opener::open`].
    #[inline]
    pub(super) fn open(
        &mut self,
        owner: Owner<'_>,
        clear: usize,
        frame: &mut Vec<u8>,
        now: u64,
    ) -> Result<Stream, Error> {
        let (header, length) = frame::split(clear, frame)?;
        let (number, stream) = keys::of_kid(header.kid).ok_or(Error::Malformed)?;
        let mut kept = self.generations.iter_mut();
        let generation = kept.find(|kept| kept.number == number && !kept.is_over(now));
        let Some(generation) = generation else {
            let is_dropped = self.highest_dropped.is_some_and(|dropped| number <= dropped)
                || self.generations.iter().any(|kept| kept.number >= number);
            // A frame under a key that is over is late, and asks for nothing.
            return Err(if is_dropped { Error::Duplicate } else { Error::WaitingForKey });
        };
        generation.opener(owner, stream).open_split(clear, header, length, frame)?;
        Ok(stream)
    }

    /// Drops what is over.
    pub(super) fn tidy(&mut self, now: u64) {
        while self.generations.first().is_some_and(|lowest| lowest.is_over(now)) {
            self.drop_lowest();
        }
    }

    /// When something is over next.
    pub(super) fn next_at(&self) -> Option<u64> {
        let lowest = self.generations.first()?;
        lowest.replaced_at.map(|at| at.saturating_add(OLD_OPENS))
    }

    /// Whether there is a key.
    pub(super) fn has_key(&self) -> bool {
        !self.generations.is_empty()
    }

    /// Every key that opens now.
    pub(super) fn export(&self, owner: Owner<'_>, instance: u64, now: u64) -> Vec<ExportedKey> {
        let open = self.generations.iter().filter(|kept| !kept.is_over(now));
        open.flat_map(|kept| {
            let (suite, secret, number) = (kept.suite, &kept.secret, kept.number);
            Stream::ALL
                .map(|stream| ExportedKey::of(owner, instance, suite, secret, number, stream))
        })
        .collect()
    }

    fn drop_lowest(&mut self) {
        if self.generations.is_empty() {
            return;
        }
        let lowest = self.generations.remove(0);
        self.highest_dropped = self.highest_dropped.max(Some(lowest.number));
    }
}

impl Generation {
    fn is_over(&self, now: u64) -> bool {
        self.replaced_at.is_some_and(|at| now.saturating_sub(at) >= OLD_OPENS)
    }

    fn opener(&mut self, owner: Owner<'_>, stream: Stream) -> &mut Opener {
        let Self { number, suite, secret, openers, .. } = self;
        let [audio, video, screen, data] = openers;
        let opener = match stream {
            Stream::Audio => audio,
            Stream::Video => video,
            Stream::Screen => screen,
            Stream::Data => data,
        };
        opener.get_or_insert_with(|| {
            let key = owner.base_key(secret, *number, stream);
            Opener::new(*suite, keys::kid(*number, stream), key.expose())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::frame::Sealer;
    use super::*;
    use crate::address::Address;
    use crate::signal::CallId;

    const CALL: CallId = CallId::new([1; 16]);

    fn key(generation: u32, secret: u8) -> KeyMessage {
        let secret = Secret::new([secret; 32]);
        KeyMessage { instance: 1, suite: Suite::default(), generation, secret }
    }

    /// A frame of a generation whose secret is of this byte.
    fn frame(owner: Owner<'_>, generation: u32, secret: u8) -> Vec<u8> {
        let base = owner.base_key(&Secret::new([secret; 32]), generation, Stream::Audio);
        let kid = keys::kid(generation, Stream::Audio);
        let mut frame = b"sound".to_vec();
        Sealer::new(Suite::default(), kid, base.expose()).seal(0, &mut frame).unwrap();
        frame
    }

    #[test]
    fn a_generation_never_gets_another_secret() {
        let device = Address::new("bob", 1);
        let owner = Owner { call: CALL, device: &device };
        let mut receiving = Receiving::default();
        receiving.add(key(3, 3), 0).unwrap();
        let mut first = frame(owner, 3, 3);
        let again = first.clone();
        assert_eq!(receiving.open(owner, 0, &mut first, 0), Ok(Stream::Audio));
        // Neither another secret nor the same one resets what was opened.
        assert_eq!(receiving.add(key(3, 4), 1), Err(Error::StaleKey));
        assert_eq!(receiving.add(key(3, 3), 1), Ok(()));
        assert_eq!(receiving.open(owner, 0, &mut again.clone(), 1), Err(Error::Duplicate));
        // Once it was dropped it does not come back.
        for number in 4..=7 {
            receiving.add(key(number, 4), 2).unwrap();
        }
        assert_eq!(receiving.add(key(3, 3), 3), Err(Error::StaleKey));
        assert_eq!(receiving.add(key(2, 2), 3), Err(Error::StaleKey));
        let mut again = again;
        assert_eq!(receiving.open(owner, 0, &mut again, 3), Err(Error::Duplicate));
        assert_eq!(receiving.generations.len(), MOST_GENERATIONS);
    }

    #[test]
    fn an_old_generation_opens_for_ten_seconds() {
        let device = Address::new("bob", 1);
        let owner = Owner { call: CALL, device: &device };
        let mut receiving = Receiving::default();
        receiving.add(key(0, 1), 0).unwrap();
        receiving.add(key(1, 2), 1_000).unwrap();
        assert_eq!(receiving.next_at(), Some(11_000));
        let late = frame(owner, 0, 1);
        let before = 1_000 + OLD_OPENS - 1;
        receiving.tidy(before);
        assert_eq!(receiving.open(owner, 0, &mut late.clone(), before), Ok(Stream::Audio));
        assert_eq!(receiving.export(owner, 1, before).len(), 8);
        let after = before + 1;
        let mut late = late;
        assert_eq!(receiving.open(owner, 0, &mut late, after), Err(Error::Duplicate));
        assert_eq!(receiving.export(owner, 1, after).len(), 4);
        receiving.tidy(after);
        assert_eq!(receiving.add(key(0, 1), after), Err(Error::StaleKey));
    }

    #[test]
    fn a_key_that_comes_late_opens_what_it_is_for() {
        let device = Address::new("bob", 1);
        let owner = Owner { call: CALL, device: &device };
        let mut receiving = Receiving::default();
        receiving.add(key(5, 5), 0).unwrap();
        receiving.add(key(4, 4), 10).unwrap();
        assert_eq!(receiving.open(owner, 0, &mut frame(owner, 4, 4), 11), Ok(Stream::Audio));
        assert_eq!(receiving.open(owner, 0, &mut frame(owner, 5, 5), 11), Ok(Stream::Audio));
        assert_eq!(
            receiving.open(owner, 0, &mut frame(owner, 6, 6), 11),
            Err(Error::WaitingForKey)
        );
    }
}
