//! What others may cost: so much at once, and so much more as time passes.
//!
//! A contact has allowances of its own. Strangers share 4,096 of each kind, by a tag of the name
//! that only this device can compute: no stranger can aim at the allowance of another, and none can
//! touch that of a contact.

use alloc::vec::Vec;

use super::transaction::{Open, Tag};
use crate::error::Error;
use crate::store::Table;
use crate::time::UnixTime;

/// `burst` units at once, and one more every `period` seconds.
pub(super) struct Allowance {
    kind: u8,
    burst: u64,
    period: u64,
}

/// Handshakes with the devices of one user: each costs 0.4 ms, and anyone can ask for it.
pub(super) const HANDSHAKES: Allowance = Allowance { kind: 1, burst: 32, period: 30 };

/// References that are asked for of the devices of one user, and envelopes that are asked for of a
/// stranger.
pub(super) const REQUESTS: Allowance = Allowance { kind: 2, burst: 1_000, period: 10 };
pub(super) const STRANGERS: Allowance = Allowance { kind: 3, burst: 16, period: 300 };

/// What is sent again to the devices of one user, in [`units`]: 16 MiB at once.
pub(super) const ANSWERS: Allowance = Allowance { kind: 4, burst: 1 << 16, period: 1 };

/// Device lists told to a user unasked.
pub(super) const LISTS: Allowance = Allowance { kind: 5, burst: 32, period: 60 };

/// Message keys that are skipped, in units of 64: 2 us each, so 4 seconds of work at once.
pub(super) const SKIPS: Allowance = Allowance { kind: 6, burst: 1 << 15, period: 1 };

/// The same of a stranger: 25 ms at once.
pub(super) const STRANGE_SKIPS: Allowance = Allowance { kind: 8, burst: 1 << 9, period: 60 };

/// New devices of one user that the app is told of, beside the first of each list.
pub(super) const ADDED: Allowance = Allowance { kind: 9, burst: 64, period: 3_600 };

/// References that this device did not make, or that are asked for too often.
pub(super) const MISSES: Allowance = Allowance { kind: 7, burst: 1_000, period: 10 };

/// Handshakes of sealed envelopes without a good ticket, of all senders: 25 ms at once.
pub(super) const NOBODYS_HANDSHAKES: Allowance = Allowance { kind: 10, burst: 64, period: 2 };

/// Signals of the devices of one user: those of a call are far fewer.
pub(super) const SIGNALS: Allowance = Allowance { kind: 24, burst: 1_024, period: 1 };

/// Calls of a user whom this device never wrote to and whom nobody verified; and of all of those.
pub(super) const CALLS: Allowance = Allowance { kind: 25, burst: 3, period: 600 };
pub(super) const STRANGE_CALLS: Allowance = Allowance { kind: 26, burst: 16, period: 60 };

/// History that a device of the account offers to this one.
pub(super) const OFFERS: Allowance = Allowance { kind: 11, burst: 8, period: 3_600 };

/// Comparisons with a user that are begun, by either side: each is a guess for somebody in between.
pub(super) const COMPARISONS: Allowance = Allowance { kind: 20, burst: 5, period: 17_280 };

/// Moves of a verification that a device repeats, or refuses.
pub(super) const MOVES: Allowance = Allowance { kind: 21, burst: 32, period: 60 };

/// Changes of a group by one member, in units of 4 KiB: 256 a day.
pub(super) const CHANGES: Allowance = Allowance { kind: 12, burst: 256, period: 337 };

/// Groups that a user invites this one to.
pub(super) const INVITATIONS: Allowance = Allowance { kind: 13, burst: 32, period: 3_600 };

/// What long histories of groups take that strangers invite this user to, in [`units`], of all of
/// them: 64 MiB at once.
pub(super) const STRANGE_GROUPS: Allowance = Allowance { kind: 17, burst: 1 << 18, period: 1 };

/// Groups that devices of the account tell this one of: a new one is told of all at once.
pub(super) const OWN_GROUPS: Allowance = Allowance { kind: 16, burst: 1_024, period: 3_600 };

/// What one device of the account proposes to this one.
pub(super) const PROPOSALS: Allowance = Allowance { kind: 14, burst: 16, period: 3_600 };

/// Changes of groups that the devices of one user tell, in [`units`]: 32 MiB at once. To
/// find out that they are worth nothing costs up to 3 seconds for each MiB.
pub(super) const TOLD: Allowance = Allowance { kind: 15, burst: 1 << 17, period: 1 };

/// Whose allowance it is.
#[derive(Clone, Copy)]
pub(super) enum Party {
    Contact(Tag),
    Stranger(Tag),
    /// Everybody whose sealed envelopes show no good ticket.
    Nobody,
    /// All together.
    Anyone,
}

impl Party {
    fn key(self, kind: u8) -> Vec<u8> {
        match self {
            Self::Contact(tag) => [&[kind, 0], &tag.0[..]].concat(),
            Self::Stranger(Tag([a, b, ..])) => [kind, 1, a & 0x0f, b].to_vec(),
            Self::Nobody => [kind, 2].to_vec(),
            Self::Anyone => [kind, 3].to_vec(),
        }
    }
}

/// What something of this length takes of an allowance that counts bytes: a unit for each 256 of
/// them, and one more.
pub(super) fn units(bytes: usize) -> u64 {
    u64::try_from(bytes / 256).unwrap_or(u64::MAX).saturating_add(1)
}

/// Takes `units` from an allowance, if they are left.
///
/// The row says when the allowance will be whole again. A clock that was ahead locks nobody out: a
/// time later than a whole allowance takes is not believed.
pub(super) fn take(
    open: &mut Open<'_>,
    allowance: &Allowance,
    party: Party,
    units: u64,
    now: UnixTime,
) -> Result<bool, Error> {
    let Allowance { kind, burst, period } = *allowance;
    let (key, now) = (party.key(kind), now.as_secs());
    let row = open.get(Table::Allowance, &key)?;
    let stored = row.and_then(|row| row.as_slice().try_into().ok()).map_or(0, u64::from_be_bytes);
    let latest = now.saturating_add(burst.saturating_mul(period));
    let whole_at = if stored > latest { now } else { stored.max(now) };
    let after = whole_at.saturating_add(units.saturating_mul(period));
    if after > latest {
        return Ok(false);
    }
    open.put(Table::Allowance, &key, &after.to_be_bytes())?;
    Ok(true)
}

/// Gives back what was taken for something that should not have cost it.
pub(super) fn give_back(
    open: &mut Open<'_>,
    allowance: &Allowance,
    party: Party,
    units: u64,
) -> Result<(), Error> {
    let key = party.key(allowance.kind);
    let Some(row) = open.get(Table::Allowance, &key)? else { return Ok(()) };
    let stored = row.as_slice().try_into().map_or(0, u64::from_be_bytes);
    let before = stored.saturating_sub(units.saturating_mul(allowance.period));
    open.put(Table::Allowance, &key, &before.to_be_bytes())
}

/// Forgets what a contact used up.
pub(super) fn forget(open: &mut Open<'_>, tag: Tag) -> Result<(), Error> {
    let all = [
        HANDSHAKES,
        REQUESTS,
        ANSWERS,
        LISTS,
        SKIPS,
        MISSES,
        ADDED,
        COMPARISONS,
        MOVES,
        SIGNALS,
        CALLS,
        INVITATIONS,
        TOLD,
    ];
    for kind in all.map(|allowance| allowance.kind) {
        open.delete(Table::Allowance, &Party::Contact(tag).key(kind))?;
    }
    Ok(())
}
