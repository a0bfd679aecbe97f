//! Prekeys in rows: a store that keeps each in a row of its own rewrites only what a handshake
//! used.
//!
//! | row key | what is in the row |
//! | --- | --- |
//! | `1 \|\| id:u32` | a signed prekey |
//! | `2 \|\| id:u32` | a one-time KEM prekey |
//! | `3 \|\| id:u32` | a last-resort KEM prekey, and how many handshakes it accepted alone |
//! | `4 \|\| id:u32` | a one-time prekey |
//! | `5 \|\| last-resort id:u32 \|\| H(EK_A)[..28]` | nothing: the handshake was accepted |
//!
//! A row begins with a version byte. Whatever belongs to a last-resort key has the prefix
//! [`RowKey::accepted_on`], so that a store can delete it without reading it.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::{Accepted, Keys, Prekey, PrekeyIds, Prekeys, PrekeysById};
use crate::at_rest::state;
use crate::codec::Reader;
use crate::crypto::curve::PublicKey;
use crate::crypto::mark;
use crate::error::Error;

/// What a row is called.
///
/// The long variant is in a box of its own: in a list of keys, the room that the short ones have to
/// spare would hold what the stack held before.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum RowKey {
    Signed(u32),
    OneTimeKem(u32),
    LastResort(u32),
    OneTime(u32),
    Accepted(Box<Accepted>),
}

/// What a change to prekeys does to their rows.
#[derive(Debug, Default)]
pub(crate) struct RowChanges {
    pub(crate) deleted: Vec<RowKey>,
    pub(crate) put: Vec<(RowKey, Zeroizing<Vec<u8>>)>,
}

impl RowKey {
    /// The longest key, in bytes.
    pub(crate) const MAX_LENGTH: usize = 33;

    /// 5 bytes for a key, 33 for an accepted handshake.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let (kind, id) = match self {
            Self::Signed(id) => (SIGNED, *id),
            Self::OneTimeKem(id) => (ONE_TIME_KEM, *id),
            Self::LastResort(id) => (LAST_RESORT, *id),
            Self::OneTime(id) => (ONE_TIME, *id),
            Self::Accepted(accepted) => (ACCEPTED, accepted.last_resort),
        };
        let mut bytes = Vec::with_capacity(Self::MAX_LENGTH);
        bytes.push(kind);
        bytes.extend_from_slice(&id.to_be_bytes());
        if let Self::Accepted(accepted) = self {
            bytes.extend_from_slice(&accepted.digest);
        }
        bytes
    }

    /// From what [`RowKey::encode`] made.
    ///
    /// # Errors
    /// [`Error::BadState`]
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Error> {
        Self::read(Reader::new(bytes)).map_err(|_| Error::BadState)
    }

    fn read(mut reader: Reader<'_>) -> Result<Self, Error> {
        let (kind, id) = (reader.u8()?, reader.u32()?);
        let key = match kind {
            SIGNED => Self::Signed(id),
            ONE_TIME_KEM => Self::OneTimeKem(id),
            LAST_RESORT => Self::LastResort(id),
            ONE_TIME => Self::OneTime(id),
            ACCEPTED => {
                let digest = *reader.array()?;
                Self::Accepted(Box::new(Accepted { last_resort: id, digest }))
            }
            _ => return Err(Error::Malformed),
        };
        reader.end()?;
        Ok(key)
    }

    /// What the keys of all handshakes begin with that the last-resort key of this id accepted.
    pub(crate) fn accepted_on(last_resort: u32) -> [u8; 5] {
        let [a, b, c, d] = last_resort.to_be_bytes();
        [ACCEPTED, a, b, c, d]
    }

    /// The rows that decide about a handshake: which of them exist is all that [`Prekeys::secrets`]
    /// looks at.
    pub(crate) fn of_handshake(ids: &PrekeyIds, ephemeral_key: &PublicKey) -> Vec<Self> {
        let accepted = Box::new(Accepted::new(ids.kem, ephemeral_key));
        let kem = [Self::OneTimeKem(ids.kem), Self::LastResort(ids.kem), Self::Accepted(accepted)];
        let rows = [Self::Signed(ids.signed)].into_iter().chain(kem);
        rows.chain(ids.one_time.map(Self::OneTime)).collect()
    }
}

impl Prekeys {
    /// Every row. [`Prekeys::last_id`] belongs to them, and is not in them.
    pub(crate) fn rows(&self) -> impl Iterator<Item = (RowKey, Zeroizing<Vec<u8>>)> + '_ {
        let keys = &self.keys;
        let signed =
            keys.signed.iter().map(|(id, prekey)| (RowKey::Signed(*id), encode(&**prekey)));
        let kem = keys
            .one_time_kem
            .iter()
            .map(|(id, prekey)| (RowKey::OneTimeKem(*id), encode(&**prekey)));
        let last_resort = keys
            .last_resort
            .iter()
            .map(|(id, prekey)| (RowKey::LastResort(*id), encode(&**prekey)));
        let one_time =
            keys.one_time.iter().map(|(id, prekey)| (RowKey::OneTime(*id), encode(&**prekey)));
        let accepted = keys
            .accepted
            .iter()
            .map(|accepted| (RowKey::Accepted(Box::new(accepted.clone())), encode(&())));
        signed.chain(kem).chain(last_resort).chain(one_time).chain(accepted)
    }

    /// From any of the rows: what is not among them is as if it did not exist.
    ///
    /// # Errors
    /// [`Error::BadState`]: a row is damaged, or does not fit the others.
    pub(crate) fn from_rows<K: AsRef<[u8]>, V: AsRef<[u8]>>(
        last_id: u32,
        rows: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Self, Error> {
        let mut keys = Keys { last_id, ..Keys::default() };
        for (key, row) in rows {
            let row = row.as_ref();
            match RowKey::decode(key.as_ref())? {
                RowKey::Signed(id) => add(&mut keys.signed, id, row)?,
                RowKey::OneTimeKem(id) => add(&mut keys.one_time_kem, id, row)?,
                RowKey::LastResort(id) => add(&mut keys.last_resort, id, row)?,
                RowKey::OneTime(id) => add(&mut keys.one_time, id, row)?,
                RowKey::Accepted(accepted) => {
                    state::decode::<()>(VERSION, row)?;
                    keys.accepted.insert(*accepted);
                }
            }
        }
        if keys.is_sound() { Ok(Self { keys }) } else { Err(Error::BadState) }
    }

    /// What became of the rows that these were made from.
    pub(crate) fn changes<K: AsRef<[u8]>, V: AsRef<[u8]>>(
        &self,
        before: impl IntoIterator<Item = (K, V)>,
    ) -> Result<RowChanges, Error> {
        let mut now: BTreeMap<RowKey, Zeroizing<Vec<u8>>> = self.rows().collect();
        let mut deleted = Vec::new();
        for (key, row) in before {
            let key = RowKey::decode(key.as_ref())?;
            match now.get(&key) {
                None => deleted.push(key),
                // Whether it changed shows in what is written.
                Some(after) if mark::public(after.as_slice().ct_eq(row.as_ref()).into()) => {
                    drop(now.remove(&key));
                }
                Some(_) => {}
            }
        }
        Ok(RowChanges { deleted, put: now.into_iter().collect() })
    }
}

/// The version of a row.
const VERSION: u8 = 1;

/// The kinds of row. The first three are those that are signed ([`Kind::byte`](super::Kind::byte)).
const SIGNED: u8 = 1;
const ONE_TIME_KEM: u8 = 2;
const LAST_RESORT: u8 = 3;
const ONE_TIME: u8 = 4;
const ACCEPTED: u8 = 5;

/// An upper bound of a row: a version, a time of ten bytes, two keys of 32 or one of 64 with their
/// lengths, a count.
const MAX_ROW: usize = 1 + 10 + 66 + 5;

fn encode(value: &impl Serialize) -> Zeroizing<Vec<u8>> {
    state::encode(VERSION, value, MAX_ROW)
}

fn add<'de, S: Deserialize<'de>>(
    keys: &mut PrekeysById<S>,
    id: u32,
    row: &'de [u8],
) -> Result<(), Error> {
    let prekey: Box<Prekey<S>> = state::decode(VERSION, row)?;
    keys.insert(id, prekey);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::IdentityKeyPair;
    use crate::testing::Replay;
    use alloc::vec;

    const NOW: u64 = 1_800_000_000;

    /// What a store has: a row for each key.
    type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

    fn prekeys() -> Prekeys {
        let mut prekeys = Prekeys::generate(3, NOW, &mut Replay::stream("rows", 0)).unwrap();
        let ids = PrekeyIds { signed: 1, one_time: None, kem: 2 };
        prekeys.consume(&ids, &PublicKey::new([1; 32]));
        prekeys
    }

    fn rows(prekeys: &Prekeys) -> Rows {
        prekeys.rows().map(|(key, row)| (key.encode(), row.to_vec())).collect()
    }

    #[test]
    fn the_rows_are_all_there_is() {
        let prekeys = prekeys();
        let rows = rows(&prekeys);
        // A signed prekey, a last-resort key, three pairs, an accepted handshake.
        assert_eq!(rows.len(), 1 + 1 + 6 + 1);
        assert!(rows.keys().all(|key| key.len() == 5 || key.len() == RowKey::MAX_LENGTH));
        let again = Prekeys::from_rows(prekeys.last_id(), &rows).unwrap();
        assert_eq!(again.encode(), prekeys.encode());
        assert_eq!(Prekeys::from_rows(0, Rows::new()).unwrap().encode(), Prekeys::new().encode());
    }

    #[test]
    fn the_rows_of_a_handshake_answer_as_all_do() {
        let one_time =
            |prekeys: &Prekeys| prekeys.keys.one_time.first_key_value().map(|(id, _)| *id);
        let kem =
            |prekeys: &Prekeys| prekeys.keys.one_time_kem.first_key_value().map(|(id, _)| *id);
        let (known, new) = (PublicKey::new([1; 32]), PublicKey::new([2; 32]));
        let (first, unused) = (one_time(&prekeys()), kem(&prekeys()).unwrap());
        for (ids, key) in [
            (PrekeyIds { signed: 1, one_time: first, kem: unused }, new),
            (PrekeyIds { signed: 1, one_time: None, kem: unused }, new),
            (PrekeyIds { signed: 1, one_time: first, kem: 2 }, new),
            (PrekeyIds { signed: 1, one_time: None, kem: 2 }, new),
            (PrekeyIds { signed: 1, one_time: None, kem: 2 }, known),
            (PrekeyIds { signed: 99, one_time: None, kem: 2 }, new),
            (PrekeyIds { signed: 1, one_time: None, kem: 99 }, new),
            (PrekeyIds { signed: 1, one_time: Some(99), kem: 2 }, new),
        ] {
            let mut all = prekeys();
            let before = rows(&all);
            let wanted: Vec<_> =
                RowKey::of_handshake(&ids, &key).iter().map(RowKey::encode).collect();
            let loaded: Rows =
                before.clone().into_iter().filter(|(key, _)| wanted.contains(key)).collect();
            let mut some = Prekeys::from_rows(all.last_id(), &loaded).unwrap();
            assert!(loaded.len() <= 3);
            let answers = |prekeys: &Prekeys| {
                prekeys.secrets(&ids, &key).map(|secrets| {
                    let one_time = secrets.one_time.map(|pair| pair.public);
                    (secrets.signed.public, one_time, secrets.kem.public_key(), secrets.kem_kind)
                })
            };
            assert_eq!(answers(&some), answers(&all));
            let changes = some.changes(&loaded).unwrap();
            assert!(changes.deleted.is_empty() && changes.put.is_empty());
            if answers(&all).is_err() {
                continue;
            }

            all.consume(&ids, &key);
            some.consume(&ids, &key);
            let changes = some.changes(&loaded).unwrap();
            assert!(changes.deleted.len() + changes.put.len() <= 2, "{changes:?}");
            let mut after = before;
            for key in &changes.deleted {
                assert!(after.remove(&key.encode()).is_some());
            }
            after.extend(changes.put.iter().map(|(key, row)| (key.encode(), row.to_vec())));
            assert_eq!(after, rows(&all));
        }
    }

    /// The keys that rotate are enough to rotate and to refill; what belongs to a key that is gone
    /// has its prefix.
    #[test]
    fn rotating_and_refilling_need_no_one_time_key_and_no_accepted_handshake() {
        let mut all = prekeys();
        let before = rows(&all);
        let loaded: Rows = before
            .clone()
            .into_iter()
            .filter(|(key, _)| [SIGNED, LAST_RESORT].contains(&key[0]))
            .collect();
        let mut some = Prekeys::from_rows(all.last_id(), &loaded).unwrap();
        for prekeys in [&mut all, &mut some] {
            let rng = &mut Replay::stream("rotate", 0);
            assert_eq!(prekeys.rotate_if_due(NOW + Prekeys::ROTATION, rng), Ok(true));
            assert_eq!(prekeys.refill(1, 3, NOW, rng), Ok(2));
            assert_eq!(prekeys.rotate_if_due(NOW + Prekeys::GRACE + 1, rng), Ok(true));
        }
        let changes = some.changes(&loaded).unwrap();
        let mut after = before;
        for key in &changes.deleted {
            after.remove(&key.encode());
            if let RowKey::LastResort(id) = key {
                after.retain(|key, _| !key.starts_with(&RowKey::accepted_on(*id)));
            }
        }
        after.extend(changes.put.iter().map(|(key, row)| (key.encode(), row.to_vec())));
        assert_eq!(after, rows(&all));
        assert!(!after.keys().any(|key| key[0] == ACCEPTED));
        let identity = IdentityKeyPair::generate(&mut Replay::stream("identity", 0));
        let since = Prekeys::from_rows(all.last_id(), &after).unwrap().publish(&identity);
        assert_eq!(since, all.publish(&identity));
    }

    #[test]
    fn a_damaged_row_is_bad_state() {
        let prekeys = prekeys();
        let rows = rows(&prekeys);
        let bad = |key: &[u8], row: &[u8]| {
            let rows = vec![(key.to_vec(), row.to_vec())];
            assert_eq!(Prekeys::from_rows(prekeys.last_id(), rows).map(drop), Err(Error::BadState));
        };
        for (key, row) in &rows {
            for length in 0..row.len() {
                bad(key, &row[..length]);
            }
            bad(key, &[row, &[0][..]].concat());
            bad(key, &[&[2], &row[1..]].concat());
            for length in 0..key.len() {
                bad(&key[..length], row);
            }
            bad(&[key, &[0][..]].concat(), row);
            bad(&[&[6], &key[1..]].concat(), row);
        }
        // An id of 0, above the last, or of two keys.
        let (key, row) = rows.first_key_value().unwrap();
        bad(&[SIGNED, 0, 0, 0, 0], row);
        bad(&[SIGNED, 0, 0, 1, 0], row);
        let twice = [(key.clone(), row), (vec![ONE_TIME, 0, 0, 0, 1], row)];
        assert_eq!(Prekeys::from_rows(prekeys.last_id(), twice).map(drop), Err(Error::BadState));
    }
}
