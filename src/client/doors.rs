//! Who may reach this account: people who are blocked, and the pass that a server takes sealed mail
//! with (docs/sealed.md, 6).

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};

use super::events::Event;
use super::inbox;
use super::tickets::PeerRow;
use super::transaction::{Open, Place, Tag};
use super::wants::{self, Want};
use super::{Client, Delivery, Scope};
use crate::at_rest;
use crate::crypto::secret::Secret;
use crate::error::Error;
use crate::store::Table;
use crate::time::UnixTime;

/// What a server takes sealed mail for an account with: 16 bytes that the account gives to the
/// people who may write to it, and to its server.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pass {
    number: u32,
    /// In a box: actions move on the heap, and would leave copies behind.
    bytes: Box<Secret<16>>,
}

impl Pass {
    /// The number of the pass: it goes up with each new one.
    #[must_use]
    pub const fn number(&self) -> u32 {
        self.number
    }

    /// The 16 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 16] {
        self.bytes.expose()
    }

    /// Which of two devices of an account that changed it at once is followed.
    fn is_before(&self, number: u32, bytes: &[u8; 16]) -> bool {
        (self.number, self.bytes.expose()) < (number, bytes)
    }
}

/// Shows its number.
impl core::fmt::Debug for Pass {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Pass({})", self.number)
    }
}

impl<S: Scope> Client<S> {
    /// Takes no mail of a user any more: it is refused before it costs more than an HMAC, or, where
    /// only a message inside says whose it is, once that is read. The user is told nothing. What
    /// the user changes in a group that both are in, this device learns from the others, later.
    ///
    /// Where the policy asks for a pass ([`Policy::requires_pass`](super::Policy)), the account
    /// gets a new one, which everybody else learns with the next text to them: then the server
    /// takes no sealed mail of the blocked user either. The account's other devices are not told
    /// whom this one blocks.
    ///
    /// # Errors
    /// [`Error::OwnIdentity`]: it is the account's own user. [`Error::BadName`], [`Error::Store`].
    pub fn block(
        &mut self,
        user: &str,
        now: UnixTime,
        rng: &mut dyn CryptoRng,
    ) -> Result<(), Error> {
        self.run(|open| {
            open.whole(|open| {
                open.refuse_own(user)?;
                let tag = open.tag(user)?;
                if is_blocked(open, tag)? {
                    return Ok(());
                }
                put_blocked(open, user)?;
                if open.policy.requires_pass { change(open, now, rng) } else { Ok(()) }
            })
        })
    }

    /// Takes mail of a user again.
    ///
    /// # Errors
    /// [`Error::BadName`], [`Error::Store`]
    pub fn unblock(&mut self, user: &str) -> Result<(), Error> {
        self.run(|open| {
            open.whole(|open| {
                let tag = open.tag(user)?;
                open.delete(Table::Ticket, &key(BLOCKED, tag))
            })
        })
    }

    /// The users whose mail is refused, in no order.
    ///
    /// # Errors
    /// [`Error::Store`], [`Error::BadState`]
    pub fn blocked(&mut self) -> Result<Vec<String>, Error> {
        self.run(blocked)
    }

    /// Whether mail of a user is refused.
    ///
    /// # Errors
    /// [`Error::BadName`], [`Error::Store`]
    pub fn is_blocked(&mut self, user: &str) -> Result<bool, Error> {
        self.run(|open| {
            let tag = open.tag(user)?;
            is_blocked(open, tag)
        })
    }
}

/// Notes that mail of a user is refused.
pub(super) fn put_blocked(open: &mut Open<'_>, user: &str) -> Result<(), Error> {
    let tag = open.tag(user)?;
    open.put(Table::Ticket, &key(BLOCKED, tag), user.as_bytes())
}

/// The users whose mail is refused.
pub(super) fn blocked(open: &mut Open<'_>) -> Result<Vec<String>, Error> {
    let rows = open.scan(Table::Ticket, &[BLOCKED], usize::MAX)?;
    let name =
        |row: &[u8]| core::str::from_utf8(row).map(String::from).map_err(|_| Error::BadState);
    rows.iter().map(|(_, row)| name(row)).collect()
}

/// The pass of an account, as one of its devices told it.
#[derive(Serialize, Deserialize)]
struct TheirPass {
    pass: Pass,
    /// It came since its number was last named.
    is_new: bool,
}

/// `BLOCKED || tag:16` with the user's name; `THEIRS || place:32`, `OWN`, `REFUSED || tag:16`,
/// `FORMER || tag:16`.
const BLOCKED: u8 = 6;
const THEIRS: u8 = 7;
const OWN: u8 = 8;
const REFUSED: u8 = 9;
const FORMER: u8 = 11;

/// How many passes are kept of those that devices told which were removed since.
const MOST_FORMER: usize = 4;

/// A pass whose number is further ahead of the time than this is none: a day.
const MOST_AHEAD: u64 = 24 * 60 * 60;

fn key(kind: u8, tag: Tag) -> Vec<u8> {
    [&[kind][..], &tag.0].concat()
}

fn theirs_key(place: Place) -> Vec<u8> {
    [&[THEIRS][..], &place.key()].concat()
}

/// The row that says that a user is blocked.
pub(super) fn blocked_in(tag: Tag) -> (Table, Vec<u8>) {
    (Table::Ticket, key(BLOCKED, tag))
}

pub(super) fn is_blocked(open: &mut Open<'_>, tag: Tag) -> Result<bool, Error> {
    Ok(open.get(Table::Ticket, &key(BLOCKED, tag))?.is_some())
}

/// This account's pass.
pub(super) fn own(open: &mut Open<'_>) -> Result<Option<Pass>, Error> {
    open.get_as(Table::Ticket, &[OWN])
}

/// This account's pass, if others take it: they take none that was drawn while the clock was
/// ahead.
fn in_force(open: &mut Open<'_>, now: UnixTime) -> Result<Option<Pass>, Error> {
    Ok(own(open)?.filter(|pass| !is_far_ahead(pass.number, now)))
}

fn is_far_ahead(number: u32, now: UnixTime) -> bool {
    u64::from(number) > now.as_secs().saturating_add(MOST_AHEAD)
}

fn put_own(open: &mut Open<'_>, pass: &Pass, now: UnixTime) -> Result<(), Error> {
    open.put_as(Table::Ticket, &[OWN], pass, 24)?;
    wants::want(open, Want::Pass, now)
}

/// The number follows the time: a store that was restored, or an account that came from an archive,
/// may not know the last one, and nobody takes a pass of a lower number than that.
fn change(open: &mut Open<'_>, now: UnixTime, rng: &mut dyn CryptoRng) -> Result<(), Error> {
    let last = in_force(open, now)?.map_or(0, |pass| pass.number);
    let number = last.saturating_add(1).max(u32::try_from(now.as_secs()).unwrap_or(u32::MAX));
    put_own(open, &Pass { number, bytes: Box::new(Secret::random(rng)) }, now)
}

/// Draws the account's first pass, where the policy asks for one and no other device of the account
/// is there to do it: the listed device of the lowest number does.
pub(super) fn ensure(
    open: &mut Open<'_>,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<(), Error> {
    let is_asked_for = open.policy.delivery == Delivery::Sealed && open.policy.requires_pass;
    if !is_asked_for || in_force(open, now)?.is_some() {
        return Ok(());
    }
    let own = open.own()?;
    let first = own.user.list.devices().first().map(|listed| listed.identity);
    if first == Some(open.account.identity) { change(open, now, rng) } else { Ok(()) }
}

/// The pass that a content to a device carries, until the device names its number; and the number
/// of its account's pass that it is to hear of.
pub(super) fn to_tell(
    open: &mut Open<'_>,
    place: Place,
    peer: &PeerRow,
) -> Result<(Option<Pass>, Option<u32>), Error> {
    if !open.policy.requires_pass {
        return Ok((None, None));
    }
    let is_news = |pass: &Pass| pass.number != peer.knows_pass;
    let pass = if is_blocked(open, place.tag)? { None } else { own(open)?.filter(is_news) };
    let key = theirs_key(place);
    let theirs = open.get_as::<TheirPass>(Table::Ticket, &key)?;
    let Some(mut theirs) = theirs.filter(|theirs| theirs.is_new) else { return Ok((pass, None)) };
    theirs.is_new = false;
    open.put_as(Table::Ticket, &key, &theirs, 24)?;
    Ok((pass, Some(theirs.pass.number)))
}

/// Takes in the pass that a content of a listed device brought: its account's, or, from a device of
/// this account, the newer one of both. True where the server refused what waits for the user, and
/// may take it with this pass.
pub(super) fn take_in(
    open: &mut Open<'_>,
    (user, place): (&str, Place),
    (number, bytes): (u32, &[u8; 16]),
    now: UnixTime,
) -> Result<bool, Error> {
    // Numbers follow the time. One far ahead would keep out every later one: that of a device that
    // was stolen, say, and then removed.
    if is_far_ahead(number, now) {
        return Ok(false);
    }
    let came = Pass { number, bytes: Box::new(Secret::new(*bytes)) };
    if open.is_own(user) && in_force(open, now)?.is_none_or(|own| own.is_before(number, bytes)) {
        put_own(open, &came, now)?;
    }
    let theirs = theirs_key(place);
    let known = open.get_as::<TheirPass>(Table::Ticket, &theirs)?;
    if known.is_none_or(|known| known.pass.number <= number) {
        let row = TheirPass { pass: came, is_new: true };
        open.put_as(Table::Ticket, &theirs, &row, 24)?;
        let refused = key(REFUSED, place.tag);
        if open.get(Table::Ticket, &refused)?.is_some() {
            open.delete(Table::Ticket, &refused)?;
            return Ok(true);
        }
    }
    Ok(false)
}

/// The pass to show with an envelope for a user's device: each further attempt shows another one,
/// and the first the newest.
pub(super) fn to_show(open: &mut Open<'_>, tag: Tag, attempts: u8) -> Result<Option<Pass>, Error> {
    if tag == open.own()?.tag {
        return own(open);
    }
    let mut passes = known(open, tag)?;
    let turn = usize::from(attempts).checked_rem(passes.len());
    Ok(turn.map(|turn| passes.swap_remove(turn)))
}

/// The passes of another account: what its devices told, the newest first, and then what those told
/// that were removed, the last one first. Any of them may be made up.
fn known(open: &mut Open<'_>, tag: Tag) -> Result<Vec<Pass>, Error> {
    let mut passes = Vec::new();
    for (_, row) in open.scan(Table::Ticket, &key(THEIRS, tag), usize::MAX)? {
        let TheirPass { pass, .. } = at_rest::state::decode(1, &row)?;
        passes.push(pass);
    }
    passes.sort_by(|a, b| (b.number, b.as_bytes()).cmp(&(a.number, a.as_bytes())));
    passes.dedup();
    for pass in former(open, tag)? {
        if !passes.contains(&pass) {
            passes.push(pass);
        }
    }
    Ok(passes)
}

fn former(open: &mut Open<'_>, tag: Tag) -> Result<Vec<Pass>, Error> {
    Ok(open.get_as(Table::Ticket, &key(FORMER, tag))?.unwrap_or_default())
}

/// The server refused sealed mail for a user. Where none of the passes is left to be tried, the app
/// is told once, until something changes.
pub(super) fn refused(
    open: &mut Open<'_>,
    (to, attempts): (&str, u8),
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<(), Error> {
    let tag = open.tag(to)?;
    if usize::from(attempts).saturating_add(1) < known(open, tag)?.len() {
        return Ok(());
    }
    let key = key(REFUSED, tag);
    if open.get(Table::Ticket, &key)?.is_none() {
        open.put(Table::Ticket, &key, &[])?;
        inbox::tell(open, Event::SealedRefused { to: to.into() }, now, rng)?;
    }
    Ok(())
}

/// Forgets a user's passes. Who is blocked stays so.
pub(super) fn forget(open: &mut Open<'_>, tag: Tag) -> Result<(), Error> {
    open.delete(Table::Ticket, &key(REFUSED, tag))?;
    open.delete(Table::Ticket, &key(FORMER, tag))?;
    open.delete_all(Table::Ticket, &key(THEIRS, tag))
}

/// A device was removed. What it told may have been made up, and may be all that is known: it is
/// shown after what the others told.
pub(super) fn removed(open: &mut Open<'_>, place: Place) -> Result<(), Error> {
    let told = open.get_as::<TheirPass>(Table::Ticket, &theirs_key(place))?;
    let Some(TheirPass { pass, .. }) = told else { return Ok(()) };
    let mut kept = former(open, place.tag)?;
    kept.retain(|former| *former != pass);
    kept.insert(0, pass);
    kept.truncate(MOST_FORMER);
    open.put_as(Table::Ticket, &key(FORMER, place.tag), &kept, 24 * MOST_FORMER)?;
    forget_device(open, place)
}

/// Forgets what a device told of its account's pass.
pub(super) fn forget_device(open: &mut Open<'_>, place: Place) -> Result<(), Error> {
    open.delete(Table::Ticket, &theirs_key(place))
}

#[cfg(test)]
mod tests {
    use alloc::format;

    use super::*;

    #[test]
    fn debug_shows_the_number_alone() {
        let pass = Pass { number: 3, bytes: Box::new(Secret::new([0x41; 16])) };
        assert_eq!(format!("{pass:?}"), "Pass(3)");
    }

    #[test]
    fn of_two_passes_the_higher_number_counts_and_then_the_higher_bytes() {
        let pass = Pass { number: 3, bytes: Box::new(Secret::new([5; 16])) };
        assert!(pass.is_before(4, &[0; 16]) && pass.is_before(3, &[6; 16]));
        assert!(!pass.is_before(3, &[5; 16]) && !pass.is_before(2, &[9; 16]));
        assert!(!pass.is_before(3, &[4; 16]));
    }
}
