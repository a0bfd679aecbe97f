//! Envelopes that cannot be judged yet: their sender's list is missing, or too many came at once.
//! They are kept here for a while, so that the app can acknowledge them to the server in order.

use alloc::vec::Vec;

use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};

use super::transaction::{Open, Tag};
use crate::address::Address;
use crate::at_rest;
use crate::error::Error;
use crate::identity::IdentityKey;
use crate::store::Table;
use crate::time::UnixTime;

/// An envelope that was set aside.
#[derive(Serialize, Deserialize)]
pub(super) struct AsideRow {
    pub(super) from: Address,
    /// Whose it proved to be when it came, where it is sealed and begins a session. Another one may
    /// use up the prekey that it names, and nothing else says whom to ask for it then.
    pub(super) proved: Option<IdentityKey>,
    pub(super) at: UnixTime,
    /// It was too old when it was last looked at.
    is_last: bool,
    #[serde(with = "at_rest::run")]
    pub(super) envelope: Vec<u8>,
}

/// What is aside: of one sender's name, and of all.
#[derive(Clone, Copy, Default, Serialize, Deserialize)]
struct Totals {
    envelopes: u32,
    bytes: u64,
}

/// In the table of the inbox: `ASIDE || tag:16 || name:24`, `TOTALS || tag:16`, `TOTALS`.
const ASIDE: u8 = 3;
const TOTALS: u8 = 4;

/// Limits for one name, and for all.
const MOST: Totals = Totals { envelopes: 32, bytes: 1 << 19 };
const MOST_IN_ALL: Totals = Totals { envelopes: 2_048, bytes: 32 << 20 };
const MOST_OF_STRANGERS: Totals = Totals { envelopes: 1_024, bytes: 16 << 20 };

/// Seconds for which an envelope is kept aside: 7 days. A device that was off for longer looks at
/// it twice more: the first look asks for what may be missing.
const AGE: u64 = 7 * 24 * 60 * 60;

impl AsideRow {
    pub(super) fn new(
        from: Address,
        proved: Option<IdentityKey>,
        at: UnixTime,
        envelope: &[u8],
    ) -> Self {
        Self { from, proved, at, is_last: false, envelope: envelope.to_vec() }
    }

    /// Whether it stays once more, although it could not be judged now.
    pub(super) fn stays(&mut self, now: UnixTime) -> bool {
        let is_old = now.since(self.at) > AGE;
        let stays = !(is_old && self.is_last);
        self.is_last = is_old;
        stays
    }
}

impl Totals {
    fn plus(self, bytes: usize) -> Self {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        Self {
            envelopes: self.envelopes.saturating_add(1),
            bytes: self.bytes.saturating_add(bytes),
        }
    }

    fn less(self, bytes: usize) -> Self {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        Self {
            envelopes: self.envelopes.saturating_sub(1),
            bytes: self.bytes.saturating_sub(bytes),
        }
    }

    const fn is_within(self, most: Self) -> bool {
        self.envelopes <= most.envelopes && self.bytes <= most.bytes
    }
}

fn prefix(kind: u8, tag: Tag) -> [u8; 17] {
    let mut key = [kind; 17];
    key[1..].copy_from_slice(&tag.0);
    key
}

/// Sets an envelope aside. False where there is no room.
pub(super) fn set(
    open: &mut Open<'_>,
    tag: Tag,
    row: &AsideRow,
    rng: &mut dyn CryptoRng,
) -> Result<bool, Error> {
    let length = row.envelope.len();
    let (own, all) =
        (get(open, &prefix(TOTALS, tag))?.plus(length), get(open, &[TOTALS])?.plus(length));
    // Made-up names leave room for the people that are known.
    let most = if open.user(tag)?.is_some() { MOST_IN_ALL } else { MOST_OF_STRANGERS };
    if !own.is_within(MOST) || !all.is_within(most) {
        return Ok(false);
    }
    let name = open.row_name(row.at, 0, rng);
    let key = [&prefix(ASIDE, tag)[..], &name].concat();
    open.put_as(Table::Inbox, &key, row, length.saturating_add(320))?;
    put(open, &prefix(TOTALS, tag), own)?;
    put(open, &[TOTALS], all)?;
    Ok(true)
}

/// Takes what is aside of one sender's name.
pub(super) fn take(open: &mut Open<'_>, tag: Tag) -> Result<Vec<AsideRow>, Error> {
    let most = usize::try_from(MOST.envelopes).unwrap_or(usize::MAX);
    let mut rows = Vec::new();
    for (key, row) in open.scan(Table::Inbox, &prefix(ASIDE, tag), most)? {
        let row: AsideRow = at_rest::state::decode(1, &row)?;
        open.delete(Table::Inbox, &key)?;
        let all = get(open, &[TOTALS])?.less(row.envelope.len());
        put(open, &[TOTALS], all)?;
        rows.push(row);
    }
    put(open, &prefix(TOTALS, tag), Totals::default())?;
    Ok(rows)
}

/// Deletes what is aside of one sender's name.
pub(super) fn forget(open: &mut Open<'_>, tag: Tag) -> Result<(), Error> {
    take(open, tag).map(drop)
}

fn get(open: &mut Open<'_>, key: &[u8]) -> Result<Totals, Error> {
    Ok(open.get_as(Table::Inbox, key)?.unwrap_or_default())
}

fn put(open: &mut Open<'_>, key: &[u8], totals: Totals) -> Result<(), Error> {
    if totals.envelopes == 0 {
        return open.delete(Table::Inbox, key);
    }
    open.put_as(Table::Inbox, key, &totals, 24)
}
