//! What this device's frames are sealed with.

use alloc::boxed::Box;
use alloc::vec::Vec;

use rand_core::CryptoRng;

use super::frame::{MAX_FRAMES, Sealer, Suite};
use super::keys::{self, ExportedKey, Owner, Stream};
use super::message::KeyMessage;
use crate::crypto::secret::Secret;
use crate::error::Error;

/// A new generation is made where a stream has this many frames left.
const FEW_FRAMES: u64 = 1 << 20;

/// This device's generations: the one in use, and the one that is to be used next. In boxes: a call
/// that moves on the heap leaves nothing of them behind.
pub(super) struct Sending {
    suite: Suite,
    current: Box<Generation>,
    next: Option<Box<Generation>>,
    /// Generations came to their end: nothing is sealed any more.
    is_over: bool,
}

/// A secret of this device, and what is sealed under it.
pub(super) struct Generation {
    pub(super) number: u32,
    secret: Secret<32>,
    pub(super) made_at: u64,
    pub(super) use_at: u64,
    slots: [Slot; 4],
}

/// Where the sealer of a stream is.
enum Slot {
    /// It was not needed yet.
    None,
    Here(Sealer),
    /// The app has it.
    Taken,
}

impl Sending {
    pub(super) fn new(suite: Suite, now: u64, rng: &mut dyn CryptoRng) -> Self {
        let current = Box::new(Generation::new(0, now, now, rng));
        Self { suite, current, next: None, is_over: false }
    }

    /// Makes a generation that is used from `use_at` on. One that was to be used next never is.
    pub(super) fn rotate(&mut self, use_at: u64, now: u64, rng: &mut dyn CryptoRng) {
        match self.newest().number.checked_add(1) {
            Some(number) => {
                self.next = Some(Box::new(Generation::new(number, now, use_at, rng)));
            }
            None => self.is_over = true,
        }
        self.advance(now);
    }

    /// Uses the next generation, once it is time.
    #[inline]
    pub(super) fn advance(&mut self, now: u64) {
        if let Some(next) = self.next.take_if(|next| next.use_at <= now) {
            self.current = next;
        }
    }

    /// The generation that was made last.
    pub(super) fn newest(&self) -> &Generation {
        self.next.as_deref().unwrap_or(&self.current)
    }

    /// When the next generation is to be used.
    pub(super) fn next_at(&self) -> Option<u64> {
        self.next.as_ref().map(|next| next.use_at)
    }

    /// What tells a device a generation; none where it is not one of the two.
    pub(super) fn tell(&self, number: u32, instance: u64) -> Option<KeyMessage> {
        let both = [Some(&*self.current), self.next.as_deref()];
        let generation = both.into_iter().flatten().find(|one| one.number == number)?;
        let secret = generation.secret.clone();
        Some(KeyMessage { instance, suite: self.suite, generation: number, secret })
    }

    /// The number of the generation in use.
    pub(super) fn current(&self) -> u32 {
        self.current.number
    }

    /// Whether a stream is about to use up its frames.
    pub(super) fn is_worn(&self) -> bool {
        let is_worn = |slot: &Slot| matches!(slot, Slot::Here(sealer) if sealer.count() >= MAX_FRAMES.saturating_sub(FEW_FRAMES));
        self.next.is_none() && self.current.slots.iter().any(is_worn)
    }

    /// # Errors
    /// As [`Sealer::seal`]; [`Error::NotPermitted`]: the sealer was taken.
    #[inline]
    pub(super) fn seal(
        &mut self,
        owner: Owner<'_>,
        stream: Stream,
        clear: usize,
        frame: &mut Vec<u8>,
    ) -> Result<(), Error> {
        if self.is_over {
            return Err(Error::Exhausted);
        }
        self.current.sealer(self.suite, owner, stream)?.seal(clear, frame)
    }

    /// Gives the sealer of a stream away; none where it was given away before.
    pub(super) fn take(&mut self, owner: Owner<'_>, stream: Stream) -> Option<Sealer> {
        if self.is_over {
            return None;
        }
        self.current.sealer(self.suite, owner, stream).ok()?;
        let slot = self.current.slots.get_mut(stream.index())?;
        match core::mem::replace(slot, Slot::Taken) {
            Slot::Here(sealer) => Some(sealer),
            Slot::None | Slot::Taken => None,
        }
    }

    /// As [`Sending::take`], for somebody else's SFrame, which counts from 0: none where a frame
    /// was sealed here before.
    pub(super) fn export(
        &mut self,
        owner: Owner<'_>,
        instance: u64,
        stream: Stream,
    ) -> Option<ExportedKey> {
        let number = self.current.number;
        let slot = self.current.slots.get_mut(stream.index())?;
        let is_fresh = match slot {
            Slot::None => true,
            Slot::Here(sealer) => sealer.count() == 0,
            Slot::Taken => false,
        };
        if self.is_over || !is_fresh {
            return None;
        }
        *slot = Slot::Taken;
        let secret = &self.current.secret;
        Some(ExportedKey::of(owner, instance, self.suite, secret, number, stream))
    }
}

impl Generation {
    fn new(number: u32, made_at: u64, use_at: u64, rng: &mut dyn CryptoRng) -> Self {
        let slots = [const { Slot::None }; 4];
        Self { number, secret: Secret::random(rng), made_at, use_at, slots }
    }

    #[inline]
    fn sealer(
        &mut self,
        suite: Suite,
        owner: Owner<'_>,
        stream: Stream,
    ) -> Result<&mut Sealer, Error> {
        let slot = self.slots.get_mut(stream.index()).ok_or(Error::NotPermitted)?;
        if let Slot::None = slot {
            let key = owner.base_key(&self.secret, self.number, stream);
            *slot = Slot::Here(Sealer::new(suite, keys::kid(self.number, stream), key.expose()));
        }
        match slot {
            Slot::Here(sealer) => Ok(sealer),
            Slot::None | Slot::Taken => Err(Error::NotPermitted),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::Address;
    use crate::signal::CallId;
    use crate::testing::Replay;

    fn draws(count: u8) -> Replay {
        Replay::new((1..=count).map(|byte| alloc::vec![byte; 32]))
    }

    #[test]
    fn a_sealer_is_in_one_place() {
        let device = Address::new("alice", 1);
        let owner = Owner { call: CallId::new([1; 16]), device: &device };
        let mut sending = Sending::new(Suite::default(), 0, &mut draws(1));
        let mut frame = b"sound".to_vec();
        sending.seal(owner, Stream::Audio, 0, &mut frame).unwrap();
        // It counts on where it is taken to.
        let mut sealer = sending.take(owner, Stream::Audio).unwrap();
        assert_eq!(sealer.count(), 1);
        sealer.seal(0, &mut frame).unwrap();
        assert!(sending.take(owner, Stream::Audio).is_none());
        assert!(sending.export(owner, 1, Stream::Audio).is_none());
        assert_eq!(sending.seal(owner, Stream::Audio, 0, &mut frame), Err(Error::NotPermitted));
        // What is exported begins at 0 elsewhere, so nothing was sealed here.
        sending.seal(owner, Stream::Video, 0, &mut frame).unwrap();
        assert!(sending.export(owner, 1, Stream::Video).is_none());
        assert!(sending.export(owner, 1, Stream::Data).is_some());
        assert!(sending.export(owner, 1, Stream::Data).is_none());
        assert_eq!(sending.seal(owner, Stream::Data, 0, &mut frame), Err(Error::NotPermitted));
    }

    #[test]
    fn generations_end_and_do_not_wrap() {
        let device = Address::new("alice", 1);
        let owner = Owner { call: CallId::new([1; 16]), device: &device };
        let mut sending = Sending::new(Suite::default(), 0, &mut draws(1));
        sending.current.number = u32::MAX;
        sending.rotate(0, 0, &mut draws(0));
        let mut frame = b"sound".to_vec();
        assert_eq!(sending.seal(owner, Stream::Audio, 0, &mut frame), Err(Error::Exhausted));
        assert!(sending.take(owner, Stream::Audio).is_none());
        assert!(sending.export(owner, 1, Stream::Audio).is_none());
    }
}
