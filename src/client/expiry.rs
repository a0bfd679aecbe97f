//! What time ends: texts in the log, what is known of removed devices, requests without an answer,
//! verifications, silence.

use alloc::collections::BTreeMap;
use alloc::collections::btree_map::Entry;

use rand_core::CryptoRng;

use super::asking;
use super::calls;
use super::compare;
use super::devices;
use super::group_members;
use super::group_owed;
use super::group_proposals;
use super::group_texts;
use super::log::{self, TextKey};
use super::messages;
use super::seen;
use super::silence;
use super::timers::{self, Kind};
use super::transaction::{Open, Place, Tag};
use super::wants::{self, Want};
use crate::address::Address;
use crate::error::Error;
use crate::reference::Reference;
use crate::time::UnixTime;

/// Seconds after which a draft is looked at again.
const DAY: u64 = 24 * 60 * 60;

/// Does what is due, at most `most` of each kind.
pub(super) fn run(
    open: &mut Open<'_>,
    now: UnixTime,
    most: usize,
    rng: &mut dyn CryptoRng,
) -> Result<(), Error> {
    let mut unheard = BTreeMap::new();
    for due in timers::due(open, Kind::Text, now, most)? {
        timers::done(open, &due)?;
        let Some(key) = TextKey::read(due.subject()) else { continue };
        let Some(text) = log::text(open, &key)? else { continue };
        let unheard = match unheard.entry(key.tag()) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(none) => none.insert(silence::unheard(open, key.tag())?),
        };
        // A draft is kept until it has left, or is given up; and what somebody may be unable to
        // read, until it was sent again: an app may be opened seldom.
        let is_needed = messages::get(open, text.id)?.is_some_and(|row| row.is_draft)
            || group_texts::is_pending(open, text.id)?
            || unheard.iter().any(|first| key.is_since(first));
        if is_needed && text.keep.is_none() {
            timers::set_text(open, now.after(DAY), key.as_bytes())?;
        } else {
            log::remove(open, &key)?;
        }
    }
    // What is sent again from now on is kept until it was encrypted.
    for due in timers::due(open, Kind::Silence, now, most)? {
        timers::done(open, &due)?;
        if let Ok(place) = due.subject().try_into().map(Place::read) {
            silence::run(open, place, now, rng)?;
        }
    }
    for due in timers::due(open, Kind::Signal, now, most)? {
        calls::expire(open, due.subject())?;
        timers::done(open, &due)?;
    }
    for due in timers::due(open, Kind::Removed, now, most)? {
        if let Some(tag) = due.subject().try_into().ok().map(Tag)
            && let Some(mut user) = open.user(tag)?
        {
            for identity in user.forget_gone(now) {
                devices::forget_device(open, open.place(tag, &identity), &identity)?;
            }
            if let Some(since) = user.first_gone() {
                timers::set_grace(open, since, tag)?;
            }
            open.put_user(tag, &user)?;
        }
        timers::done(open, &due)?;
    }
    for due in timers::due(open, Kind::Request, now, most)? {
        timers::done(open, &due)?;
        if let Some((place, number)) = due.subject().split_first_chunk()
            && let Ok(number) = number.try_into().map(u64::from_be_bytes)
        {
            unanswered(open, Place::read(place), number, now)?;
        }
    }
    for due in timers::due(open, Kind::Giver, now, most)? {
        timers::done(open, &due)?;
        group_members::expire(open, due.subject(), now)?;
    }
    for due in timers::due(open, Kind::Answer, now, most)? {
        timers::done(open, &due)?;
        group_owed::answer(open, (due.subject(), due.at()), now, rng)?;
    }
    for due in timers::due(open, Kind::Proposal, now, most)? {
        timers::done(open, &due)?;
        group_proposals::expire(open, due.subject(), now, rng)?;
    }
    for due in timers::due(open, Kind::Verification, now, most)? {
        if let Ok(tag) = due.subject().try_into().map(Tag) {
            compare::expire(open, tag, now, rng)?;
        }
        timers::done(open, &due)?;
    }
    Ok(())
}

/// Asks again for what a request asked for and did not bring. A person never hears that it is lost:
/// a server could make up envelopes that never were.
fn unanswered(open: &mut Open<'_>, place: Place, number: u64, now: UnixTime) -> Result<(), Error> {
    let Some(request) = asking::sent_in(open, place, number)? else { return Ok(()) };
    let Some(user) = open.user(place.tag)? else { return Ok(()) };
    let Some(listed) = open.listed_at(&user, place) else { return Ok(()) };
    let of = Address::new(&user.name, listed.device);
    let mut left = alloc::vec::Vec::new();
    for reference in request.references {
        if !seen::was_seen(open, place, &reference)? {
            left.push(reference);
        }
    }
    for reference in asking::take_asked(open, place, &left)? {
        let again = (Reference(reference), request.attempts.saturating_add(1));
        asking::note(open, place.tag, of.device, again, now)?;
        wants::want(open, Want::Work(of.clone()), now)?;
    }
    Ok(())
}
