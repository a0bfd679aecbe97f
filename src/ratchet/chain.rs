//! The symmetric-key ratchet, and the keys of messages that have not come yet (Double Ratchet,
//! sections 2.2 and 2.6).
//!
//! Both ratchets and sender keys walk chains and keep what they step over; they differ in how a
//! chain takes a step.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use zeroize::Zeroize;

use crate::at_rest;
use crate::crypto::kdf::HmacKey;
use crate::crypto::secret::Secret;
use crate::error::Error;

/// The most keys that one message may step over, in each ratchet. A day of heavy use of one session
/// that reaches a device in the wrong order stays below it, and it bounds what one message of a
/// hostile peer costs to some 20 ms.
pub(crate) const MAX_SKIP: u32 = 25_000;

/// The most skipped message keys that a session keeps, in each ratchet: 72 KB of state for each.
pub(crate) const MAX_KEPT: usize = 2_000;

/// What one step of a chain gives: the key of a message, and the chain key after it.
pub(crate) struct Link {
    pub(crate) message_key: Secret<32>,
    pub(crate) next: Secret<32>,
}

/// `HMAC(CK, 1)` and `HMAC(CK, 2)`: KDF_CK.
pub(crate) fn kdf_ck(chain_key: &Secret<32>) -> Link {
    let [message_key, next] = HmacKey::new(chain_key).mac_both(&[1], &[2]);
    Link { message_key, next }
}

/// Where a walk along a chain ended, and what it stepped over.
pub(crate) struct Walk {
    /// The chain key at the end.
    pub(crate) end: Secret<32>,
    pub(crate) skipped: KeptKeys,
}

/// Steps from number `from` to number `to` of a chain, keeping the newest [`MAX_KEPT`] keys on the
/// way.
pub(crate) fn walk(
    start: &Secret<32>,
    from: u32,
    to: u32,
    step: impl Fn(&Secret<32>, u32) -> Link,
) -> Walk {
    let count = usize::try_from(to.saturating_sub(from)).unwrap_or(usize::MAX);
    let mut skipped = KeptKeys::with_capacity(count.min(MAX_KEPT));
    let mut unkept = count.saturating_sub(MAX_KEPT);
    let mut end = start.clone();
    for number in from..to {
        let link = step(&end, number);
        end = link.next;
        if unkept > 0 {
            unkept = unkept.saturating_sub(1);
            skipped.dropped = Some(number);
        } else {
            skipped.records.all.push(record(number, &link.message_key));
        }
    }
    Walk { end, skipped }
}

/// The keys of messages of one chain that have not come yet. They are single use.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct KeptKeys {
    /// The highest number that the limit dropped.
    dropped: Option<u32>,
    records: Records,
}

impl KeptKeys {
    /// What one key takes in the stored form.
    pub(crate) const RECORD_LENGTH: usize = size_of::<Record>();

    /// Of a chain whose first numbers were never here, up to and with this one.
    pub(crate) fn without(dropped: Option<u32>) -> Self {
        Self { dropped, ..Self::default() }
    }

    fn with_capacity(capacity: usize) -> Self {
        Self { dropped: None, records: Records { all: Vec::with_capacity(capacity), gone: 0 } }
    }

    pub(crate) fn len(&self) -> usize {
        self.records.held().len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.records.held().is_empty()
    }

    /// The key of message `number`, which was stepped over or consumed before.
    ///
    /// # Errors
    /// [`Error::Duplicate`] where it was used; [`Error::TooOld`] where the limit may have dropped
    /// it unread.
    pub(crate) fn get(&self, number: u32) -> Result<Secret<32>, Error> {
        match self.find(number).ok().and_then(|at| self.records.held().get(at)) {
            Some(record) => Ok(key_of(record)),
            None if self.dropped.is_some_and(|dropped| number <= dropped) => Err(Error::TooOld),
            None => Err(Error::Duplicate),
        }
    }

    /// Removes the key of message `number`: it was used.
    pub(crate) fn remove(&mut self, number: u32) {
        if let Ok(at) = self.find(number) {
            self.records.remove(at);
        }
    }

    /// Adds keys of higher numbers.
    pub(crate) fn append(&mut self, mut newer: Self) {
        self.dropped = self.dropped.max(newer.dropped);
        if self.is_empty() {
            core::mem::swap(&mut self.records, &mut newer.records);
        } else {
            self.records.extend(newer.records.held());
        }
    }

    /// Drops as many keys, those of the lowest numbers.
    pub(crate) fn drop_oldest(&mut self, count: usize) {
        if let Some(last) = count.checked_sub(1).and_then(|at| self.records.held().get(at)) {
            // What was appended may have dropped higher numbers already.
            self.dropped = self.dropped.max(Some(number_of(last)));
            self.records.cut(count);
        }
    }

    fn find(&self, number: u32) -> Result<usize, usize> {
        self.records.held().binary_search_by_key(&number, number_of)
    }

    /// The numbers kept, and the highest dropped.
    #[cfg(test)]
    pub(crate) fn numbers(&self) -> (Vec<u32>, Option<u32>) {
        (self.records.held().iter().map(number_of).collect(), self.dropped)
    }

    /// Whether what was stored is something that this type made, for a chain that stands at `next`.
    pub(crate) fn is_sound(&self, next: u32) -> bool {
        let held = self.records.held();
        held.len() <= MAX_KEPT
            && held.is_sorted_by(|one, other| number_of(one) < number_of(other))
            && held.last().is_none_or(|last| number_of(last) < next)
            && self.dropped.is_none_or(|dropped| dropped < next)
    }
}

/// Keeps to `most` keys of the `held` that there are in all, given those of every chain, the oldest
/// first.
pub(crate) fn keep_newest<'a>(
    chains: impl Iterator<Item = &'a mut KeptKeys>,
    held: usize,
    most: usize,
) {
    let mut excess = held.saturating_sub(most);
    for keys in chains {
        if excess == 0 {
            return;
        }
        let count = excess.min(keys.len());
        keys.drop_oldest(count);
        excess = excess.saturating_sub(count);
    }
}

/// `number:u32 || key:32`
type Record = [u8; 36];

fn record(number: u32, key: &Secret<32>) -> Record {
    let mut record = [0; 36];
    record[..4].copy_from_slice(&number.to_be_bytes());
    record[4..].copy_from_slice(key.expose());
    record
}

const fn number_of(record: &Record) -> u32 {
    let [a, b, c, d, ..] = *record;
    u32::from_be_bytes([a, b, c, d])
}

const fn key_of(record: &Record) -> Secret<32> {
    let [_, _, _, _, key @ ..] = *record;
    Secret::new(key)
}

/// Records by number. Taking one moves the shorter side, so that taking them in either order is
/// quick, and leaves no copy of a key in memory that is not used any more.
#[derive(Default)]
struct Records {
    all: Vec<Record>,
    /// How many in front are wiped, and wait to be cut off together.
    gone: usize,
}

impl Records {
    fn held(&self) -> &[Record] {
        self.all.get(self.gone..).unwrap_or_default()
    }

    fn remove(&mut self, at: usize) {
        let held = self.all.get_mut(self.gone..).unwrap_or_default();
        let after = at.saturating_add(1);
        if at < held.len() / 2 {
            held.copy_within(..at, 1);
            self.cut(1);
        } else if after <= held.len() {
            held.copy_within(after.., at);
            if let Some(last) = held.last_mut() {
                last.zeroize();
            }
            self.all.pop();
        }
        // A place made for a burst is given back when little of it is left.
        if self.all.capacity() > 64 && self.held().len() < self.all.capacity() / 4 {
            self.resize(self.all.capacity() / 2);
        }
    }

    /// Wipes `count` records in front.
    fn cut(&mut self, count: usize) {
        self.all.iter_mut().skip(self.gone).take(count).for_each(Zeroize::zeroize);
        self.gone = self.gone.saturating_add(count).min(self.all.len());
        if self.gone == self.all.len() {
            self.all.clear();
            self.gone = 0;
        }
    }

    fn extend(&mut self, newer: &[Record]) {
        if self.all.capacity().saturating_sub(self.all.len()) < newer.len() {
            let needed = self.held().len().saturating_add(newer.len());
            // Room for the same again, so that keys which come one by one are not moved each time.
            self.resize(needed.saturating_mul(2).min(MAX_KEPT.max(needed)));
        }
        self.all.extend_from_slice(newer);
    }

    /// Moves what is held to a place of another size, and wipes the one it was in.
    fn resize(&mut self, capacity: usize) {
        let mut all = Vec::with_capacity(capacity);
        all.extend_from_slice(self.held());
        *self = Self { all, gone: 0 };
    }
}

impl Drop for Records {
    fn drop(&mut self) {
        // Most steps skip nothing, and wiping nothing is a call all the same.
        if self.all.is_empty() {
            return;
        }
        self.all.as_flattened_mut().zeroize();
    }
}

impl Serialize for Records {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        at_rest::records::serialize(self.held(), serializer)
    }
}

impl<'de> Deserialize<'de> for Records {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self { all: at_rest::records::deserialize(deserializer)?, gone: 0 })
    }
}

impl core::fmt::Debug for KeptKeys {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "KeptKeys({})", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::kdf;

    fn step(chain: &Secret<32>, number: u32) -> Link {
        let [message_key, next] =
            kdf::hkdf(&kdf::NO_SALT, &[chain.expose()], &[&number.to_be_bytes()]);
        Link { message_key, next }
    }

    fn kept(from: u32, to: u32) -> KeptKeys {
        walk(&Secret::new([1; 32]), from, to, step).skipped
    }

    #[test]
    fn a_walk_keeps_the_newest_and_remembers_what_it_dropped() {
        let keys = kept(0, 2_000);
        assert_eq!((keys.len(), keys.numbers().1), (2_000, None));
        let keys = kept(5, 2_008);
        assert_eq!((keys.len(), keys.numbers().1), (2_000, Some(7)));
        assert_eq!(keys.get(7).unwrap_err(), Error::TooOld);
        assert!(keys.get(8).is_ok());
        assert_eq!(keys.get(2_008).unwrap_err(), Error::Duplicate);
    }

    #[test]
    fn taking_in_any_order_gives_each_key_once() {
        let all = kept(0, 200);
        for stride in [1, 3, 7, 77, 199] {
            let mut keys = kept(0, 120);
            keys.append(
                walk(&walk(&Secret::new([1; 32]), 0, 120, step).end, 120, 200, step).skipped,
            );
            for n in 0..200 {
                let number = n * stride % 200;
                assert_eq!(keys.get(number).unwrap(), all.get(number).unwrap());
                keys.remove(number);
                assert_eq!(keys.get(number).unwrap_err(), Error::Duplicate);
                assert!(keys.is_sound(200));
            }
            assert!(keys.is_empty());
        }
    }

    #[test]
    fn the_limit_drops_the_oldest_of_the_oldest() {
        let mut chains = [kept(0, 10), kept(0, 1_000), kept(0, 1_000)];
        keep_newest(chains.iter_mut(), 2_010, MAX_KEPT);
        assert_eq!(chains.each_ref().map(KeptKeys::len), [0, 1_000, 1_000]);
        assert_eq!(chains[0].numbers().1, Some(9));
        chains[0].append(kept(20, 25));
        keep_newest(chains.iter_mut(), 2_005, MAX_KEPT);
        assert_eq!(chains.each_ref().map(KeptKeys::len), [0, 1_000, 1_000]);
        chains[2].append(kept(1_000, 1_003));
        keep_newest(chains.iter_mut(), 2_003, MAX_KEPT);
        assert_eq!(chains.each_ref().map(KeptKeys::len), [0, 997, 1_003]);
        assert_eq!(chains[1].numbers().1, Some(2));
    }

    #[test]
    fn what_is_taken_leaves_no_copy_behind() {
        let mut keys = kept(0, 64);
        for number in [0, 1, 40, 63, 20] {
            let key = keys.get(number).unwrap();
            keys.remove(number);
            let all = keys.records.all.as_flattened();
            assert!(!all.windows(32).any(|window| window == key.expose()));
        }
    }
}
