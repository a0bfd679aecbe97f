//! Comparing emoji or numbers, between one device of each of two users (docs/verification.md, 4
//! and 5).

use rand_core::CryptoRng;

use super::admission::Sender;
use super::allowances::{self, COMPARISONS, MOVES, Party};
use super::ceremonies::{self, SasRow, Waiting};
use super::events::{Event, SasEnd};
use super::inbox;
use super::moves::{self, Both};
use super::transaction::{Open, Tag};
use super::trust;
use super::{Client, Scope};
use crate::content::Move;
use crate::crypto::secret::Secret;
use crate::error::Error;
use crate::identity::IdentityKey;
use crate::sas::{Heard, LastMove, Sas, SasStage, SasValue};
use crate::sesame::{Mark, Trust};
use crate::time::UnixTime;

impl<S: Scope> Client<S> {
    /// Begins to compare emoji or numbers with a user. Every device of theirs asks its person; the
    /// first that accepts is compared with, and [`Event::SasReady`] says that there is something to
    /// see. Where the user has asked already, this accepts. Draws 48 bytes.
    ///
    /// There is one comparison with a user at a time, for ten minutes; five at once and then one in
    /// five hours.
    ///
    /// # Errors
    /// [`Error::OutOfTurn`]: one is under way. [`Error::RateLimited`]: there were too many.
    /// [`Error::IdentityChanged`]: a changed key of one of the two waits, and people decide about
    /// that first. [`Error::OwnIdentity`], [`Error::DevicesNeeded`], [`Error::Unlinked`],
    /// [`Error::BadName`], [`Error::Store`].
    pub fn start_sas(
        &mut self,
        user: &str,
        now: UnixTime,
        rng: &mut dyn CryptoRng,
    ) -> Result<(), Error> {
        self.run(|open| open.whole(|open| start(open, user, now, rng)))
    }

    /// The person wants to compare, after [`Event::SasAsked`]. Draws 32 bytes.
    ///
    /// # Errors
    /// [`Error::OutOfTurn`]: nobody asks, or not any more. Others as [`Client::start_sas`].
    pub fn accept_sas(
        &mut self,
        user: &str,
        now: UnixTime,
        rng: &mut dyn CryptoRng,
    ) -> Result<(), Error> {
        self.run(|open| {
            open.whole(|open| {
                let both = Both::of(open, user)?;
                let row = current(open, &both, now)?.ok_or(Error::OutOfTurn)?;
                accept(open, &both, row, now, rng)
            })
        })
    }

    /// Where the comparison with a user stands. None where there is none.
    ///
    /// # Errors
    /// As [`Client::safety_number`].
    pub fn sas(&mut self, user: &str, now: UnixTime) -> Result<Option<SasStage>, Error> {
        self.run(|open| {
            let both = Both::of(open, user)?;
            Ok(current(open, &both, now)?.map(|row| row.sas.stage()))
        })
    }

    /// People compared this value, and it is the same on both screens: the user is verified. The
    /// account's other devices are told. The other person says so on their own screen.
    ///
    /// # Errors
    /// [`Error::OutOfTurn`]: it is not the value that is to be compared, or too late. Others as
    /// [`Client::safety_number`].
    pub fn confirm_sas(
        &mut self,
        user: &str,
        value: &SasValue,
        now: UnixTime,
        rng: &mut dyn CryptoRng,
    ) -> Result<(), Error> {
        self.run(|open| {
            open.whole(|open| {
                let both = Both::of(open, user)?;
                let SasRow { keys, sas, .. } =
                    current(open, &both, now)?.ok_or(Error::OutOfTurn)?;
                let sas = sas.confirm(value).ok_or(Error::OutOfTurn)?;
                let row = SasRow { keys, sas, waiting: [].into() };
                ceremonies::put_sas(open, both.tag, &row)?;
                trust::mark(open, both.user, Mark::Verified, now, rng)
            })
        })
    }

    /// People compared, and the values differ. The comparison is over, the other side is told, and
    /// the user is not verified any more, on no device of this account.
    ///
    /// # Errors
    /// As [`Client::cancel_sas`].
    pub fn reject_sas(
        &mut self,
        user: &str,
        now: UnixTime,
        rng: &mut dyn CryptoRng,
    ) -> Result<(), Error> {
        self.run(|open| {
            open.whole(|open| {
                open.refuse_own(user)?;
                let (tag, _) = open.known_user(user)?;
                stop(open, tag, MISMATCH, now, rng)?;
                withdraw(open, tag, now, rng)
            })
        })
    }

    /// The person does not want to compare, or stops. Nothing happens where there is nothing to
    /// stop.
    ///
    /// # Errors
    /// [`Error::BadName`], [`Error::Store`]; of [`Client::reject_sas`] also [`Error::OwnIdentity`],
    /// [`Error::DevicesNeeded`].
    pub fn cancel_sas(
        &mut self,
        user: &str,
        now: UnixTime,
        rng: &mut dyn CryptoRng,
    ) -> Result<(), Error> {
        self.run(|open| {
            open.whole(|open| {
                let tag = open.tag(user)?;
                stop(open, tag, CANCELLED, now, rng)
            })
        })
    }
}

/// Why a comparison is over, as it travels. Others are taken for the first.
const CANCELLED: u8 = 0;
const MISMATCH: u8 = 1;
const TAKEN: u8 = 2;
const BUSY: u8 = 3;
const FORGED: u8 = 4;

const fn reason(why: u8) -> SasEnd {
    match why {
        MISMATCH => SasEnd::Mismatch,
        TAKEN => SasEnd::Taken,
        BUSY => SasEnd::Busy,
        FORGED => SasEnd::Forged,
        _ => SasEnd::Cancelled,
    }
}

/// The comparison that is under way.
fn current(open: &mut Open<'_>, both: &Both, now: UnixTime) -> Result<Option<SasRow>, Error> {
    Ok(ceremonies::sas(open, both.tag)?.filter(|row| both.is_current(&row.keys, now)))
}

fn start(
    open: &mut Open<'_>,
    user: &str,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<(), Error> {
    let both = Both::of(open, user)?;
    if let Some(row) = current(open, &both, now)? {
        match row.sas.stage() {
            SasStage::Confirmed => {}
            SasStage::Asked => return accept(open, &both, row, now, rng),
            _ => return Err(Error::OutOfTurn),
        }
    }
    if !allowances::take(open, &COMPARISONS, Party::Contact(both.tag), 1, now)? {
        return Err(Error::RateLimited);
    }
    let mut id = [0; 16];
    rng.fill_bytes(&mut id);
    let sas = Sas::start(id, Secret::random(rng));
    let mut row = SasRow { keys: both.keys(now), sas, waiting: [].into() };
    for identity in both.devices() {
        tell(open, &both, &mut row, &identity, now, rng)?;
    }
    ceremonies::put_sas(open, both.tag, &row)?;
    ceremonies::set_timer(open, both.tag, now)
}

/// Tells a device the last move, or notes that it waits for it. The caller writes the row.
fn tell(
    open: &mut Open<'_>,
    both: &Both,
    row: &mut SasRow,
    to: &IdentityKey,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<(), Error> {
    let id = &row.sas.id;
    let is_told = match row.sas.last_move(both.pair(), to) {
        Some(LastMove::Start(commitment)) => {
            moves::post(open, both, to, Move::Start { id, commitment: &commitment }, now, rng)?
        }
        Some(LastMove::Nonce(nonce)) => {
            moves::post(open, both, to, Move::Nonce { id, nonce: &nonce }, now, rng)?
        }
        None => true,
    };
    if !is_told {
        row.waiting.push(Waiting(*to));
    }
    Ok(())
}

fn accept(
    open: &mut Open<'_>,
    both: &Both,
    row: SasRow,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<(), Error> {
    let SasRow { keys, sas, waiting } = row;
    let (sas, _) = sas.answer(Secret::random(rng)).ok_or(Error::OutOfTurn)?;
    let mut row = SasRow { keys, sas, waiting };
    if let Some(to) = row.sas.with() {
        tell(open, both, &mut row, &to, now, rng)?;
    }
    ceremonies::put_sas(open, both.tag, &row)
}

/// Ends what is under way, and tells those who know of it.
fn stop(
    open: &mut Open<'_>,
    tag: Tag,
    why: u8,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<(), Error> {
    let Some(row) = ceremonies::sas(open, tag)? else { return Ok(()) };
    ceremonies::remove_sas(open, tag)?;
    // Who cannot be told now learns it from the clock.
    let Some(both) = Both::known(open, tag)? else { return Ok(()) };
    let is_said = why == MISMATCH || row.sas.stage() != SasStage::Confirmed;
    if is_said && both.is_current(&row.keys, now) {
        let to = row.sas.with().map_or_else(|| both.devices(), |with| [with].into());
        moves::post_end(open, &both, &to, (&row.sas.id, why), now, rng)?;
    }
    Ok(())
}

/// Takes back that people compared.
fn withdraw(
    open: &mut Open<'_>,
    tag: Tag,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<(), Error> {
    match open.user(tag)? {
        Some(user) if user.trust() == Trust::Verified => {
            trust::mark(open, user, Mark::Withdrawn, now, rng)
        }
        _ => Ok(()),
    }
}

/// A device of another user made a move. What does not belong here changes nothing.
pub(super) fn take(
    open: &mut Open<'_>,
    sender: &Sender<'_>,
    a_move: Move<'_>,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<(), Error> {
    let Some(both) = Both::known(open, sender.tag)? else { return Ok(()) };
    let row = current(open, &both, now)?;
    match a_move {
        Move::Start { id, commitment } => {
            let sas = Sas::asked(*id, *commitment, *sender.identity);
            take_start(open, &both, row, sas, now, rng)
        }
        Move::Nonce { id, nonce } => match row.filter(|row| row.sas.id == *id) {
            Some(row) => take_nonce(open, &both, &row, (sender.identity, nonce), now, rng),
            None => Ok(()),
        },
        Move::End { id, why } => match row.filter(|row| row.sas.id == *id) {
            Some(row) => take_end(open, &both, &row, (sender.identity, why), now, rng),
            None => Ok(()),
        },
        Move::Scanned { .. } => Ok(()),
    }
}

fn take_start(
    open: &mut Open<'_>,
    both: &Both,
    row: Option<SasRow>,
    asked: Sas,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<(), Error> {
    let Some(by) = asked.with() else { return Ok(()) };
    let new = SasRow { keys: both.keys(now), sas: asked, waiting: [].into() };
    let stage = row.as_ref().map(|row| row.sas.stage());
    match (row, stage) {
        // An id is answered once.
        (Some(row), _) if row.sas.id == new.sas.id => Ok(()),
        (Some(row), Some(SasStage::Started)) => {
            // Both began: the one of the smaller account counts.
            if both.own().account < both.other().account {
                return Ok(());
            }
            let mut others = both.devices();
            others.retain(|identity| *identity != by);
            moves::post_end(open, both, &others, (&row.sas.id, TAKEN), now, rng)?;
            ceremonies::set_timer(open, both.tag, now)?;
            accept(open, both, new, now, rng)
        }
        (Some(_), Some(SasStage::Answered | SasStage::Compare(_))) => {
            if allowances::take(open, &MOVES, Party::Contact(both.tag), 1, now)? {
                moves::post_end(open, both, &[by], (&new.sas.id, BUSY), now, rng)?;
            }
            Ok(())
        }
        _ => {
            if !allowances::take(open, &COMPARISONS, Party::Contact(both.tag), 1, now)? {
                return Ok(());
            }
            ceremonies::put_sas(open, both.tag, &new)?;
            ceremonies::set_timer(open, both.tag, now)?;
            inbox::tell(open, Event::SasAsked { user: both.user.name.clone() }, now, rng)
        }
    }
}

fn take_nonce(
    open: &mut Open<'_>,
    both: &Both,
    row: &SasRow,
    (from, nonce): (&IdentityKey, &[u8; 32]),
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<(), Error> {
    let (user, id) = (both.user.name.clone(), row.sas.id);
    let may_reply =
        |open: &mut Open<'_>| allowances::take(open, &MOVES, Party::Contact(both.tag), 1, now);
    match row.sas.hear(both.pair(), from, nonce) {
        Heard::Compare { next, reveal } => {
            let mut row = SasRow { keys: row.keys, sas: next, waiting: [].into() };
            if reveal.is_some() {
                tell(open, both, &mut row, from, now, rng)?;
                let mut others = both.devices();
                others.retain(|identity| identity != from);
                moves::post_end(open, both, &others, (&id, TAKEN), now, rng)?;
            }
            ceremonies::put_sas(open, both.tag, &row)?;
            inbox::tell(open, Event::SasReady { user }, now, rng)
        }
        Heard::Again(own) => {
            if may_reply(open)? {
                moves::post(open, both, from, Move::Nonce { id: &id, nonce: &own }, now, rng)?;
            }
            Ok(())
        }
        Heard::Taken => {
            if may_reply(open)? {
                moves::post_end(open, both, &[*from], (&id, TAKEN), now, rng)?;
            }
            Ok(())
        }
        Heard::Forged => {
            ceremonies::remove_sas(open, both.tag)?;
            moves::post_end(open, both, &[*from], (&id, FORGED), now, rng)?;
            inbox::tell(open, Event::SasEnded { user, why: SasEnd::Forged }, now, rng)
        }
        Heard::Ignored => Ok(()),
    }
}

fn take_end(
    open: &mut Open<'_>,
    both: &Both,
    row: &SasRow,
    (from, why): (&IdentityKey, u8),
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<(), Error> {
    let is_peer = row.sas.with().is_none_or(|with| with == *from);
    let is_late = row.sas.stage() == SasStage::Confirmed;
    if !is_peer || is_late && why != MISMATCH {
        return Ok(());
    }
    ceremonies::remove_sas(open, both.tag)?;
    if row.sas.with().is_none() {
        // The person said no on one device: the others stop asking.
        let mut others = both.devices();
        others.retain(|identity| identity != from);
        moves::post_end(open, both, &others, (&row.sas.id, TAKEN), now, rng)?;
    }
    if is_late {
        withdraw(open, both.tag, now, rng)?;
    }
    let user = both.user.name.clone();
    inbox::tell(open, Event::SasEnded { user, why: reason(why) }, now, rng)
}

/// The time of what is under way with a user may be over.
pub(super) fn expire(
    open: &mut Open<'_>,
    tag: Tag,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<(), Error> {
    if ceremonies::code(open, tag)?.is_some_and(|row| row.keys.are_over(now)) {
        ceremonies::remove_code(open, tag)?;
    }
    if ceremonies::answer(open, tag)?.is_some_and(|row| row.keys.are_over(now)) {
        ceremonies::remove_answer(open, tag)?;
    }
    let Some(row) = ceremonies::sas(open, tag)?.filter(|row| row.keys.are_over(now)) else {
        return Ok(());
    };
    let is_changed = Both::known(open, tag)?.is_none_or(|both| !both.is_about(&row.keys));
    let why = if is_changed { SasEnd::KeyChanged } else { SasEnd::Expired };
    give_up(open, tag, &row, why, now, rng)
}

/// The store was restored from a copy: what was said since is not known, so nothing goes on.
pub(super) fn interrupt_all(
    open: &mut Open<'_>,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<(), Error> {
    ceremonies::forget_codes(open)?;
    for tag in ceremonies::all_sas(open)? {
        if let Some(row) = ceremonies::sas(open, tag)? {
            give_up(open, tag, &row, SasEnd::Interrupted, now, rng)?;
        }
    }
    Ok(())
}

fn give_up(
    open: &mut Open<'_>,
    tag: Tag,
    row: &SasRow,
    why: SasEnd,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<(), Error> {
    ceremonies::remove_sas(open, tag)?;
    let is_told = row.sas.stage() != SasStage::Confirmed;
    match open.user(tag)?.filter(|_| is_told) {
        Some(user) => inbox::tell(open, Event::SasEnded { user: user.name, why }, now, rng),
        None => Ok(()),
    }
}
