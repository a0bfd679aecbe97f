//! A device that was written to sealed, and that did not answer for four days. It may not be able
//! to read any of it, and cannot say so: it does not know who wrote (docs/sealed.md, 5). A session
//! is begun with it anew, and what was written since is sent again. If the device writes itself
//! meanwhile, and in another session, it is sent again at once.

use alloc::vec::Vec;

use rand_core::CryptoRng;

use super::Delivery;
use super::asking::{self, Queued};
use super::group_rows;
use super::log::{self, TextKey};
use super::outbox;
use super::tickets::{self, Timer, Unheard};
use super::timers;
use super::transaction::{Open, Place, Tag};
use super::wants::{self, Want};
use crate::address::Address;
use crate::devices::ListedDevice;
use crate::error::Error;
use crate::identity::IdentityKey;
use crate::reference::{Class, Named, Reference};
use crate::sesame::{DeviceRecord, UserRecord};
use crate::time::UnixTime;

/// Texts that are sent again at most.
const MOST: usize = 1_000;

/// Envelopes that are looked at for that.
const MOST_NUMBERS: u64 = 4_096;

/// Seconds after which it is looked again whether somebody has decided about a user.
const UNDECIDED: u64 = 24 * 60 * 60;

/// Seconds in which mail that waits at the server may still come. A drawn time is added to them, at
/// most `MOST_DRAWN`: an app that was closed for long would fetch the bundles of all contacts at
/// once.
const GRACE: u64 = 60 * 60;
const MOST_DRAWN: u64 = 12 * 60 * 60;

/// The timer of a device is over.
pub(super) fn run(
    open: &mut Open<'_>,
    place: Place,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<(), Error> {
    let mut peer = tickets::peer(open, place)?;
    if peer.timer() == Timer::None {
        return Ok(());
    }
    let Some(unheard) = peer.unheard() else {
        peer.wait(None, Timer::None);
        return tickets::put_peer(open, place, &peer);
    };
    let most = tickets::most_silent(open);
    let user = open.user(place.tag)?;
    let listed = user.as_ref().and_then(|user| open.listed_at(user, place));
    let to =
        user.as_ref().zip(listed).map(|(user, listed)| Address::new(&user.name, listed.device));
    let is_undecided = user.as_ref().is_some_and(UserRecord::waits);
    let (wait, unheard, timer) = if now.since(unheard.since) <= most {
        (unheard.since.after(most.saturating_add(1)), unheard, Timer::Set)
    } else if is_undecided {
        // Nothing is sent before somebody decides, and the device is as silent then.
        (now.after(UNDECIDED), unheard, Timer::Over)
    } else if let Some(to) = &to
        && outbox::has_up_to(open, to, unheard.number)?
    {
        // It has not left.
        (now.after(most), Unheard { since: now, ..unheard }, Timer::Set)
    } else if peer.timer() == Timer::Set {
        (now.after(GRACE.saturating_add(timers::drawn(MOST_DRAWN, rng))), unheard, Timer::Over)
    } else {
        peer.wait(None, Timer::None);
        tickets::put_peer(open, place, &peer)?;
        return match listed.zip(to) {
            Some((listed, to)) => begin_anew(open, (&listed, to), place, unheard, now, rng),
            None => Ok(()),
        };
    };
    peer.wait(Some(unheard), timer);
    tickets::put_peer(open, place, &peer)?;
    timers::set_silence(open, wait, place)
}

/// The first texts to a user, or to a group, that devices may be unable to read, or that are being
/// sent to them again for that: what was written since is still needed.
pub(super) fn unheard(open: &mut Open<'_>, to: Tag) -> Result<Vec<TextKey>, Error> {
    if open.policy.delivery != Delivery::Sealed {
        return Ok(Vec::new());
    }
    let own = open.own()?;
    let peers = group_rows::peers(open, to)?.into_iter();
    let mut all: Vec<(Place, IdentityKey)> =
        peers.map(|(place, peer)| (place, peer.identity)).collect();
    // What is written to a user is copied to the account's other devices.
    for (tag, user) in [(to, open.user(to)?.as_ref()), (own.tag, Some(&*own.user))] {
        let devices = user.iter().flat_map(|user| user.list.devices());
        all.extend(devices.map(|listed| (open.place(tag, &listed.identity), listed.identity)));
    }
    let mut texts = Vec::new();
    for (place, identity) in all {
        let mut numbers = Vec::from_iter(tickets::peer(open, place)?.unheard().map(|it| it.number));
        for (_, queued) in asking::queued(open, place)? {
            // The oldest is the first, which waits for a session, say.
            let Some(first) = queued.references.first().filter(|_| queued.is_ordered) else {
                continue;
            };
            let (made, asked_in) = (&open.account.references, [&queued.asked_in]);
            let named = made.open(Reference(*first), asked_in, &identity);
            numbers.extend(named.map(|(named, _)| named.number));
        }
        for number in numbers {
            texts.extend(log::pointer(open, place, number)?.map(|pointer| pointer.text));
        }
    }
    Ok(texts)
}

/// Closes the session that is written in, if there is one, and sends again what was written since
/// this text, as if the device had asked for it.
fn begin_anew(
    open: &mut Open<'_>,
    (listed, to): (&ListedDevice, Address),
    place: Place,
    unheard: Unheard,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<(), Error> {
    let mut record = open.record(place, &listed.identity)?;
    let writing = record.writing().map(|entry| entry.id);
    let session = writing.unwrap_or(unheard.session);
    if !queue(open, place, &record, Unheard { session, ..unheard }, now, rng)? {
        return Ok(());
    }
    record.close(&session);
    open.put_record(place, &record)?;
    wants::want(open, Want::Work(to), now)
}

/// A device wrote in another session than the one in which texts were written to it: it may not
/// have that, and does not know that they came. They are sent again, from this one on.
pub(super) fn again(
    open: &mut Open<'_>,
    to: &Address,
    place: Place,
    (record, unheard): (&DeviceRecord, Unheard),
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<(), Error> {
    if queue(open, place, record, unheard, now, rng)? {
        wants::want_quietly(open, Want::Work(to.clone()), now)?;
    }
    Ok(())
}

/// Queues the texts since this one as if the device had asked for them, made in its session. False
/// where there are none, or there is no room.
fn queue(
    open: &mut Open<'_>,
    place: Place,
    record: &DeviceRecord,
    unheard: Unheard,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<bool, Error> {
    let mut references = Vec::new();
    let first = unheard.number.max(record.made.saturating_sub(MOST_NUMBERS));
    for number in (first..record.made).rev() {
        let Some(pointer) = log::pointer(open, place, number)? else { continue };
        if log::text(open, &pointer.text)?.is_some() && references.len() < MOST {
            let named = Named { class: Class::Text, number };
            let made = &open.account.references;
            references.push(made.reference(named, &unheard.session, &record.identity, rng).0);
        }
    }
    if references.is_empty() {
        return Ok(false);
    }
    references.reverse();
    let queued = Queued { asked_in: unheard.session, holds: [0; 8], is_ordered: true, references };
    asking::queue(open, place, &queued, now, rng)
}
