//! Devices of a group that ask for a text, or cannot be reached, or are to be answered.

use alloc::vec::Vec;

use rand_core::CryptoRng;

use super::group_rows::{self, PeerRow};
use super::group_texts;
use super::outbox;
use super::telling;
use super::timers;
use super::transaction::{Open, Place, Tag};
use crate::address::Address;
use crate::content::MessageId;
use crate::error::Error;
use crate::reference::Reference;
use crate::time::UnixTime;

/// Seconds for which no chain is renewed again since somebody asks for an envelope.
const ASKED_AGAIN: u64 = 24 * 60 * 60;

/// Who gives a chain is answered within a time that is drawn, so that the keys of the session move
/// on.
const MOST_QUIET: u64 = 24 * 60 * 60;

/// A device asks for an envelope: where it is one for a group, and the device was a member's when
/// it was written, it is owed the text.
///
/// Where the device holds the chain, the chain may be one that this store had gone on from before
/// it was restored from a copy: it is renewed, once a day.
pub(super) fn asked(
    open: &mut Open<'_>,
    place: Place,
    reference: Reference,
    now: UnixTime,
) -> Result<(), Error> {
    let Some(mut text) = group_texts::referred(open, reference)? else { return Ok(()) };
    let Some(mut peer) = group_rows::peer(open, text.group, place)? else { return Ok(()) };
    if text.text.number() > peer.since && !peer.is_out {
        let is_new = |at: UnixTime| now.apart(at) > ASKED_AGAIN;
        if let Some(mut row) = group_rows::get(open, text.group)?
            && peer.holds
            && row.asked.is_none_or(is_new)
        {
            (row.asked, row.renew) = (Some(now), true);
            group_rows::put(open, text.group, &row)?;
        }
        text.reference = Some(reference);
        peer.due = true;
        group_texts::owe(open, place, &mut peer, text)?;
        group_rows::put_peer(open, text.group, place, &peer)?;
        group_rows::set_step(open, text.group)?;
    }
    Ok(())
}

/// Gives up what a device is owed that no session can be begun with. Returns the texts.
pub(super) fn give_up(open: &mut Open<'_>, of: &Address) -> Result<Vec<MessageId>, Error> {
    let mut given_up = Vec::new();
    for (group, _) in group_rows::all(open)? {
        for (place, mut peer) in group_rows::peers(open, group)? {
            if peer.address != *of || peer.owed == 0 {
                continue;
            }
            let owed = group_texts::owed(open, group, place, usize::MAX)?;
            let texts = owed.iter().filter(|text| text.reference.is_none());
            given_up.extend(texts.map(|text| text.id));
            group_texts::owe_nothing(open, group, place, &mut peer)?;
            group_rows::put_peer(open, group, place, &peer)?;
        }
    }
    Ok(given_up)
}

/// A device gave a new chain: it is answered, unless something is written to it before.
pub(super) fn answer_later(
    open: &mut Open<'_>,
    group: Tag,
    place: Place,
    peer: &mut PeerRow,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<(), Error> {
    // It is to be answered already.
    if peer.wrote.is_some_and(|at| (1..=MOST_QUIET).contains(&at.since(now))) {
        return Ok(());
    }
    let at = now.after(timers::drawn(MOST_QUIET, rng));
    peer.wrote = Some(at);
    timers::set_answer(open, at, group, place)
}

/// Answers a device with nothing but this account's list, where nothing was written to it since
/// that was to be done `at` this time.
pub(super) fn answer(
    open: &mut Open<'_>,
    (subject, at): (&[u8], Option<UnixTime>),
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<(), Error> {
    let Some((group, place)) = timers::of_group(subject) else { return Ok(()) };
    let peer = group_rows::peer(open, group, place)?.filter(|peer| peer.wrote == at);
    let Some(peer) = peer else { return Ok(()) };
    let Some(user) = open.user(peer.tag)?.filter(|user| !user.waits()) else { return Ok(()) };
    let listed = user.list.get(peer.address.device).copied();
    let Some(listed) = listed.filter(|listed| listed.identity == peer.identity) else {
        return Ok(());
    };
    match outbox::target(open, peer.tag, &user, &listed, now)? {
        Some(mut target) => telling::post_list(open, &mut target, None, now, rng),
        None => Ok(()),
    }
}

/// Notes that there is something to give a device, now that there is a session with it. Many
/// devices of a group are served in one step.
pub(super) fn go_on(open: &mut Open<'_>, place: Place) -> Result<(), Error> {
    for (group, _) in group_rows::all(open)? {
        let peer = group_rows::peer(open, group, place)?;
        if peer.is_some_and(|peer| peer.owed_changes || peer.due || peer.owed > 0) {
            group_rows::set_step(open, group)?;
        }
    }
    Ok(())
}
