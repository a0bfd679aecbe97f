//! Tickets: what a sealed envelope shows in the place of its sender (docs/sealed.md, 2).

use alloc::vec::Vec;

use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

use crate::at_rest;
use crate::crypto::kdf::HmacKey;
use crate::crypto::mark;
use crate::crypto::secret::Secret;
use crate::time::UnixTime;

/// What the receiver of an envelope gave its sender to show: 16 bytes that mean something to the
/// device that made them alone.
///
/// ```text
/// p      = contact:u40 || counter:u24
/// tag    = HMAC(k1, p)[..8]
/// ticket = tag || (p XOR HMAC(k2, tag)[..8])
/// ```
///
/// `counter` counts the tickets of that contact, so that no two are alike under one pair of keys.
/// Without the keys a ticket looks random, and no two show whether they are of one contact.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Ticket(#[serde(with = "at_rest::array")] pub(crate) [u8; 16]);

/// The number of a device that tickets were given to: 40 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct ContactNumber(#[serde(with = "at_rest::array")] pub(crate) [u8; 5]);

/// The keys of a device's tickets, the newest last. They never leave the store.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(crate) struct TicketKeys(Vec<WeekKeys>);

/// k1 and k2 of one week.
#[derive(Clone, Serialize, Deserialize)]
struct WeekKeys {
    since: UnixTime,
    tag: Secret<32>,
    mask: Secret<32>,
}

impl Ticket {
    pub(crate) const LENGTH: usize = 16;

    /// 16 bytes that no device made: what is shown to a device that gave none. Draws 16 bytes.
    pub(crate) fn random(rng: &mut dyn CryptoRng) -> Self {
        let mut ticket = [0; Self::LENGTH];
        rng.fill_bytes(&mut ticket);
        Self(ticket)
    }
}

impl TicketKeys {
    /// Keys are used for a week to make tickets with.
    pub(crate) const WEEK: u64 = 7 * 24 * 60 * 60;

    /// Those of this many weeks are kept, so that tickets hold for at least eight.
    pub(crate) const KEPT: usize = 9;

    /// An upper bound of the stored form.
    pub(crate) const MOST_BYTES: usize = Self::KEPT * 76 + 8;

    /// Whether no pair of keys is from within a week, before or after. One from later was made by a
    /// clock that was ahead, and would never grow old; and a clock that goes there and back again
    /// uses up none of those that are kept.
    pub(crate) fn is_due(&self, now: UnixTime) -> bool {
        self.0.iter().all(|week| now.apart(week.since) >= Self::WEEK)
    }

    /// Adds a pair of keys, and drops the oldest above [`TicketKeys::KEPT`]. Draws 64 bytes.
    pub(crate) fn renew(&mut self, now: UnixTime, rng: &mut dyn CryptoRng) {
        // In a vector of its own, since one that grows leaves a copy behind; cloned, since a move
        // leaves one too.
        let mut weeks = Vec::with_capacity(Self::KEPT);
        let old = self.0.len().saturating_sub(Self::KEPT.saturating_sub(1));
        weeks.extend(self.0.iter().skip(old).cloned());
        weeks.push(WeekKeys { since: now, tag: Secret::random(rng), mask: Secret::random(rng) });
        self.0 = weeks;
    }

    /// The ticket of this counter for a contact, under the newest keys; none where there are none.
    /// The counter's lower 24 bits count.
    pub(crate) fn make(&self, contact: ContactNumber, counter: u32) -> Option<Ticket> {
        let week = self.0.last()?;
        let [a, b, c, d, e] = contact.0;
        let [_, f, g, h] = counter.to_be_bytes();
        let p = [a, b, c, d, e, f, g, h];
        let tag = week.tag(&p);
        let mut ticket = [0; Ticket::LENGTH];
        let (first, second) = ticket.split_at_mut(8);
        first.copy_from_slice(&tag);
        second.copy_from_slice(&week.masked(&tag, p));
        Some(Ticket(ticket))
    }

    /// The contact that this device made a ticket for; none where it did not make it, or too long
    /// ago.
    ///
    /// The work does not depend on how many contacts there are. The keys are tried from the newest
    /// on, and each is compared in constant time: how long it takes shows of which week a ticket
    /// is, and nothing else.
    pub(crate) fn read(&self, ticket: Ticket) -> Option<ContactNumber> {
        let (tag, masked) = ticket.0.split_first_chunk::<8>()?;
        let masked = *masked.first_chunk::<8>()?;
        self.0.iter().rev().find_map(|week| {
            let p = week.masked(tag, masked);
            let is_made = bool::from(week.tag(&p).ct_eq(tag));
            let [a, b, c, d, e, ..] = p;
            is_made.then_some(ContactNumber([a, b, c, d, e]))
        })
    }
}

impl WeekKeys {
    fn tag(&self, p: &[u8; 8]) -> [u8; 8] {
        first_8(&HmacKey::new(&self.tag).mac(&[p]))
    }

    fn masked(&self, tag: &[u8; 8], p: [u8; 8]) -> [u8; 8] {
        let mask = first_8(&HmacKey::new(&self.mask).mac(&[tag]));
        (u64::from_be_bytes(p) ^ u64::from_be_bytes(mask)).to_be_bytes()
    }
}

/// They travel, or name a row.
fn first_8(mac: &Secret<32>) -> [u8; 8] {
    let [a, b, c, d, e, f, g, h, ..] = *mac.expose();
    mark::public([a, b, c, d, e, f, g, h])
}

impl core::fmt::Debug for Ticket {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        crate::codec::hex(f, &self.0)
    }
}

/// Shows how many weeks there are keys of.
impl core::fmt::Debug for TicketKeys {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "TicketKeys({})", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeSet;
    use alloc::format;
    use alloc::vec;

    use super::*;
    use crate::testing::{Replay, bytes, hex, number, vectors};

    fn at(weeks: u64) -> UnixTime {
        UnixTime::MIN.after(weeks * TicketKeys::WEEK)
    }

    #[test]
    fn tickets_are_those_of_an_independent_implementation() {
        let vectors = vectors("sealed.json");
        for case in vectors["tickets"].as_array().unwrap() {
            let mut keys = TicketKeys::default();
            let mut rng = Replay::new([bytes(&case["k1"]), bytes(&case["k2"])]);
            keys.renew(at(0), &mut rng);
            let contact = ContactNumber(bytes(&case["contact"]).try_into().unwrap());
            let counter: u32 = number(&case["counter"]);
            let ticket = keys.make(contact, counter).unwrap();
            assert_eq!(hex(&ticket.0), case["ticket"]);
            assert_eq!(keys.read(ticket), Some(contact));
        }
    }

    #[test]
    fn a_ticket_is_read_by_its_maker_alone_and_only_as_it_was_made() {
        let rng = &mut Replay::stream("tickets", 0);
        let (mut keys, mut others) = (TicketKeys::default(), TicketKeys::default());
        keys.renew(at(0), rng);
        others.renew(at(0), rng);
        let contact = ContactNumber([1, 2, 3, 4, 5]);
        let ticket = keys.make(contact, 7).unwrap();
        assert_eq!(others.read(ticket), None);
        for bit in 0..128 {
            let mut changed = ticket;
            changed.0[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(keys.read(changed), None, "bit {bit}");
        }
        for _ in 0..1_000 {
            assert_eq!(keys.read(Ticket::random(rng)), None);
        }
    }

    #[test]
    fn no_two_tickets_of_one_contact_are_alike_and_no_half_of_them_is() {
        let rng = &mut Replay::stream("tickets", 1);
        let mut keys = TicketKeys::default();
        keys.renew(at(0), rng);
        let (mut tags, mut masked) = (BTreeSet::new(), BTreeSet::new());
        for counter in 0..4_096 {
            let Ticket(ticket) = keys.make(ContactNumber([9; 5]), counter).unwrap();
            tags.insert(ticket.first_chunk::<8>().copied());
            masked.insert(ticket.last_chunk::<8>().copied());
        }
        assert_eq!((tags.len(), masked.len()), (4_096, 4_096));
    }

    #[test]
    fn tickets_hold_for_eight_weeks_and_not_for_nine() {
        let rng = &mut Replay::stream("tickets", 2);
        let mut keys = TicketKeys::default();
        assert!(keys.is_due(at(0)));
        assert_eq!(keys.make(ContactNumber([3; 5]), 0), None);
        keys.renew(at(0), rng);
        let ticket = keys.make(ContactNumber([3; 5]), 0).unwrap();
        for week in 1..=8 {
            assert!(!keys.is_due(at(week - 1)) && keys.is_due(at(week)));
            keys.renew(at(week), rng);
            assert_eq!(keys.read(ticket), Some(ContactNumber([3; 5])), "week {week}");
        }
        keys.renew(at(9), rng);
        assert_eq!(keys.read(ticket), None);
    }

    #[test]
    fn a_clock_that_is_wrong_for_a_while_keeps_no_keys_for_ever_and_uses_none_up() {
        let rng = &mut Replay::stream("tickets", 4);
        let mut keys = TicketKeys::default();
        // Until the network says what time it is, it is the one that the device was made at.
        for boot in 0..40 {
            for now in [at(0), at(300).after(boot * TicketKeys::WEEK / 40)] {
                if keys.is_due(now) {
                    keys.renew(now, rng);
                }
            }
        }
        assert_eq!(keys.0.len(), 2);
        keys.renew(at(900), rng);
        assert!(!keys.is_due(at(300).after(1)) && keys.is_due(at(301)));
    }

    #[test]
    fn debug_shows_no_key() {
        let mut keys = TicketKeys::default();
        keys.renew(at(0), &mut Replay::new([vec![0x41; 32], vec![0x41; 32]]));
        assert_eq!(format!("{keys:?}"), "TicketKeys(1)");
    }

    #[test]
    fn the_stored_form_never_grows_over_its_bound() {
        let mut keys = TicketKeys::default();
        let rng = &mut Replay::stream("tickets", 3);
        for _ in 0..12 {
            keys.renew(UnixTime::MAX, rng);
        }
        let stored = at_rest::state::encode(1, &keys, 4_096);
        assert!(stored.len() <= TicketKeys::MOST_BYTES, "{}", stored.len());
    }
}
