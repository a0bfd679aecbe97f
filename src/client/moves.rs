//! The moves of verifications: whom they are between, and what a device is to be told.

use alloc::rc::Rc;
use alloc::vec::Vec;

use rand_core::CryptoRng;

use super::ceremonies::{self, Keys, Waiting};
use super::outbox::{self, Target};
use super::transaction::{Open, OwnUser, Tag};
use super::wants::{self, Want};
use crate::address::Address;
use crate::content::{Body, Move};
use crate::error::Error;
use crate::identity::IdentityKey;
use crate::safety_number::Party;
use crate::sas::{LastMove, Pair};
use crate::sesame::UserRecord;
use crate::time::UnixTime;

/// The two users of a verification, as they are known here.
pub(super) struct Both {
    pub(super) tag: Tag,
    pub(super) user: UserRecord,
    own: Rc<OwnUser>,
    device: IdentityKey,
    /// The account keys, own and other.
    keys: (IdentityKey, IdentityKey),
}

impl Both {
    /// This account's user and another one.
    ///
    /// # Errors
    /// [`Error::OwnIdentity`]; [`Error::Unlinked`]; [`Error::DevicesNeeded`];
    /// [`Error::IdentityChanged`]: a changed key of either waits. [`Error::BadName`].
    pub(super) fn of(open: &mut Open<'_>, user: &str) -> Result<Self, Error> {
        open.refuse_own(user)?;
        let own = open.linked()?;
        let (tag, user) = open.known_user(user)?;
        for of in [&own.user, &user] {
            if of.pending.is_some() {
                return Err(Error::IdentityChanged(of.name.as_str().into()));
            }
        }
        let device = open.account.identity;
        let keys = (own.user.list.account(), user.list.account());
        Ok(Self { tag, user, own, device, keys })
    }

    /// As [`Both::of`], for what came from a user; none where nothing can be verified now.
    pub(super) fn known(open: &mut Open<'_>, tag: Tag) -> Result<Option<Self>, Error> {
        let Some(user) = open.user(tag)? else { return Ok(None) };
        match Self::of(open, &user.name) {
            Ok(both) => Ok(Some(both)),
            Err(Error::OwnIdentity | Error::Unlinked | Error::IdentityChanged(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) fn own(&self) -> Party<'_> {
        Party { user: &self.own.user.name, account: &self.keys.0 }
    }

    pub(super) fn other(&self) -> Party<'_> {
        Party { user: &self.user.name, account: &self.keys.1 }
    }

    pub(super) fn pair(&self) -> Pair<'_> {
        Pair { own: self.own(), device: &self.device, other: self.other() }
    }

    /// What a verification that begins now is about.
    pub(super) const fn keys(&self, now: UnixTime) -> Keys {
        Keys { since: now, own: self.keys.0, other: self.keys.1 }
    }

    /// Whether it is still about these keys, and not over.
    pub(super) fn is_current(&self, keys: &Keys, now: UnixTime) -> bool {
        self.is_about(keys) && !keys.are_over(now)
    }

    pub(super) fn is_about(&self, keys: &Keys) -> bool {
        (keys.own, keys.other) == self.keys
    }

    /// The other user's devices.
    pub(super) fn devices(&self) -> Vec<IdentityKey> {
        let listed = self.user.list.devices().iter().map(|listed| listed.identity);
        listed.filter(|identity| *identity != self.device).collect()
    }
}

/// Tells a device something. False where there is no session to do it in: one is wanted then.
pub(super) fn post(
    open: &mut Open<'_>,
    both: &Both,
    to: &IdentityKey,
    a_move: Move<'_>,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<bool, Error> {
    let Some(listed) = both.user.list.device_of(to) else { return Ok(true) };
    let Some(mut target) = outbox::target(open, both.tag, &both.user, listed, now)? else {
        let address = Address::new(&both.user.name, listed.device);
        wants::want(open, Want::Bundle(address), now)?;
        return Ok(false);
    };
    post_to(open, &mut target, a_move, now, rng).map(|()| true)
}

fn post_to(
    open: &mut Open<'_>,
    target: &mut Target,
    a_move: Move<'_>,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<(), Error> {
    outbox::tell(open, target, Body::Move(a_move), None, now, rng).map(drop)
}

/// Tells devices that a comparison is over, as far as there are sessions: without one, a device
/// never heard of it.
pub(super) fn post_end(
    open: &mut Open<'_>,
    both: &Both,
    to: &[IdentityKey],
    (id, why): (&[u8; 16], u8),
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<(), Error> {
    for identity in to {
        let Some(listed) = both.user.list.device_of(identity) else { continue };
        if let Some(mut target) = outbox::target(open, both.tag, &both.user, listed, now)? {
            post_to(open, &mut target, Move::End { id, why }, now, rng)?;
        }
    }
    Ok(())
}

/// Something that a device is to know.
enum Due {
    Scanned([u8; 32]),
    Sas([u8; 16], LastMove),
}

impl Due {
    const fn as_move(&self) -> Move<'_> {
        match self {
            Self::Scanned(answer) => Move::Scanned { answer },
            Self::Sas(id, LastMove::Start(commitment)) => Move::Start { id, commitment },
            Self::Sas(id, LastMove::Nonce(nonce)) => Move::Nonce { id, nonce },
        }
    }
}

/// Whether a device waits for a move.
pub(super) fn any_for(
    open: &mut Open<'_>,
    tag: Tag,
    identity: &IdentityKey,
) -> Result<bool, Error> {
    let waiting = Waiting(*identity);
    let in_sas = ceremonies::sas(open, tag)?.is_some_and(|row| row.waiting.contains(&waiting));
    Ok(in_sas || ceremonies::answer(open, tag)?.is_some_and(|row| row.waiting.contains(&waiting)))
}

/// Tells a device what it waits for, now that there is a session.
pub(super) fn go_on(
    open: &mut Open<'_>,
    target: &mut Target,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<(), Error> {
    let (tag, waiting) = (target.place.tag, Waiting(target.record.identity));
    let (mut in_sas, mut in_answer) = (false, false);
    if let Some(mut row) = ceremonies::sas(open, tag)?
        && row.waiting.contains(&waiting)
    {
        row.waiting.retain(|other| *other != waiting);
        ceremonies::put_sas(open, tag, &row)?;
        in_sas = true;
    }
    if let Some(mut row) = ceremonies::answer(open, tag)?
        && row.waiting.contains(&waiting)
    {
        row.waiting.retain(|other| *other != waiting);
        ceremonies::put_answer(open, tag, &row)?;
        in_answer = true;
    }
    for due in due(open, target, now)? {
        let is_meant = match due {
            Due::Scanned(_) => in_answer,
            Due::Sas(..) => in_sas,
        };
        if is_meant {
            post_to(open, target, due.as_move(), now, rng)?;
        }
    }
    Ok(())
}

/// A device missed something that was no text: it is told once more what it may not know.
pub(super) fn again(
    open: &mut Open<'_>,
    target: &mut Target,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<(), Error> {
    for due in due(open, target, now)? {
        post_to(open, target, due.as_move(), now, rng)?;
    }
    Ok(())
}

/// What a device is to know of what is under way.
fn due(open: &mut Open<'_>, target: &Target, now: UnixTime) -> Result<Vec<Due>, Error> {
    let (tag, identity) = (target.place.tag, target.record.identity);
    let mut all = Vec::new();
    let (sas, answer) = (ceremonies::sas(open, tag)?, ceremonies::answer(open, tag)?);
    if sas.is_none() && answer.is_none() {
        return Ok(all);
    }
    let Some(both) = Both::known(open, tag)? else { return Ok(all) };
    if let Some(row) = answer.filter(|row| both.is_current(&row.keys, now)) {
        all.push(Due::Scanned(row.answer));
    }
    if let Some(row) = sas.filter(|row| both.is_current(&row.keys, now))
        && let Some(last) = row.sas.last_move(both.pair(), &identity)
    {
        all.push(Due::Sas(row.sas.id, last));
    }
    Ok(all)
}
