//! Which devices a user has: lists that count, wait, or are refused.

use alloc::vec::Vec;

use rand_core::CryptoRng;

use super::allowances::{self, ADDED, Party};
use super::asking;
use super::doors;
use super::events::Event;
use super::group_rows;
use super::inbox;
use super::linked;
use super::log;
use super::outbox;
use super::seen;
use super::send;
use super::tickets;
use super::timers;
use super::transaction::{Open, Place, Tag};
use super::wants::{self, Want};
use crate::address::Address;
use crate::devices::{DeviceList, ListedDevice};
use crate::error::Error;
use crate::identity::IdentityKey;
use crate::sesame::{Changes, DeviceRecord, GRACE, Pending, UserRecord};
use crate::store::Table;
use crate::time::UnixTime;

/// What became of a list.
pub(super) enum Learned {
    /// It counts now, or is the one that is known.
    Current,
    /// It is older than the one known.
    Old,
    /// It is by another account key, and waits to be accepted.
    Waits,
    /// It contradicts the one known.
    Forked,
}

/// Takes in a list that the server gave.
pub(super) fn update(
    open: &mut Open<'_>,
    user: &str,
    list: DeviceList,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<(), Error> {
    let tag = open.tag(user)?;
    group_rows::note_fresh(open, tag, now)?;
    let known = match open.user(tag)? {
        None => {
            let user = UserRecord::new(user, list);
            open.put_user(tag, &user)?;
            look_again(open, &user, now)?;
            user
        }
        Some(known) if known.unvouched => vouch(open, tag, known, list, now, rng)?,
        Some(mut known) => match learn(open, tag, &mut known, list, now, rng)? {
            Learned::Current | Learned::Waits => known,
            Learned::Old => return Err(Error::StaleDeviceList),
            Learned::Forked => return Err(Error::ForkedDeviceList),
        },
    };
    wants::have(open, &Want::Devices(user.into()))?;
    go_on(open, tag, &known, now)
}

/// The server says who a user is whom nobody vouched for. Returns what is known now.
pub(super) fn vouch(
    open: &mut Open<'_>,
    tag: Tag,
    mut known: UserRecord,
    list: DeviceList,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<UserRecord, Error> {
    let (is_same, claimed) = (known.list.account() == list.account(), known.list.account());
    if is_same {
        known.unvouched = false;
        open.put_user(tag, &known)?;
        learn(open, tag, &mut known, list, now, rng)?;
    } else if follows(&known.list, &list) {
        // The server is behind: by the word of its own account key, the claimed one is the next. As
        // if the two had come in their order, a person decides, and nothing is written until then.
        let before = known;
        known = UserRecord::new(&before.name, list);
        learn(open, tag, &mut known, before.list.clone(), now, rng)?;
        for identity in before.identities().filter(|identity| !known.knows(identity)) {
            forget_device(open, open.place(tag, &identity), &identity)?;
        }
    } else {
        // A device that the list has too showed by its session that it is the user's: what it sent
        // comes again, and is not shown again.
        let is_theirs = |identity: &IdentityKey| {
            let listed = list.device_of(identity);
            listed.is_some_and(|listed| known.candidates(listed.device).contains(identity))
        };
        for identity in known.identities().filter(|identity| !is_theirs(identity)) {
            forget_device(open, open.place(tag, &identity), &identity)?;
        }
        known = UserRecord::new(&known.name, list);
        open.put_user(tag, &known)?;
        let event = Event::NotTheirs { user: known.name.clone(), account: claimed };
        inbox::tell(open, event, now, rng)?;
    }
    look_again(open, &known, now)?;
    Ok(known)
}

/// The server knows nobody of this name. The client forgets a user of it that nobody vouched for:
/// an honest device uploads its list before it writes.
pub(super) fn nobody(
    open: &mut Open<'_>,
    user: &str,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<(), Error> {
    let tag = open.tag(user)?;
    let Some(known) = open.user(tag)?.filter(|known| known.unvouched) else { return Ok(()) };
    for identity in known.identities() {
        forget_device(open, open.place(tag, &identity), &identity)?;
    }
    open.delete(Table::User, &tag.0)?;
    let account = known.list.account();
    inbox::tell(open, Event::NotTheirs { user: user.into(), account }, now, rng)
}

/// Forgets a device: one that was removed and whose grace is over, or that was never a user's.
pub(super) fn forget_device(
    open: &mut Open<'_>,
    place: Place,
    identity: &IdentityKey,
) -> Result<(), Error> {
    let mut record: DeviceRecord = open.record(place, identity)?;
    let sessions = record.drop_all();
    open.delete_sessions(place, &sessions)?;
    open.delete(Table::Device, &place.key())?;
    tickets::forget_device(open, place)?;
    doors::forget_device(open, place)?;
    seen::forget(open, place)?;
    log::forget_device(open, place)?;
    asking::forget_device(open, place)
}

/// Forgets devices of a list that waited, and that no list has by now. So a server that makes up
/// account keys without end leaves the rows of the last one alone.
pub(super) fn forget_strays(
    open: &mut Open<'_>,
    tag: Tag,
    user: &UserRecord,
    former: &DeviceList,
) -> Result<(), Error> {
    // By identity: such a list may have a device of the user's under another number.
    let strays = former.devices().iter().filter(|listed| !user.knows(&listed.identity));
    for listed in strays {
        forget_device(open, open.place(tag, &listed.identity), &listed.identity)?;
    }
    Ok(())
}

/// Notes for which devices something waits, now that it is known which a user has: the user's own,
/// and those of this account that get a copy of what is written to the user.
pub(super) fn go_on(
    open: &mut Open<'_>,
    tag: Tag,
    user: &UserRecord,
    now: UnixTime,
) -> Result<(), Error> {
    asking::keep(open, tag, (now, GRACE), |device| user.is_known(device))?;
    if open.is_own(&user.name) {
        look_for_returned(open, user, now)?;
    }
    if user.waits() {
        return Ok(());
    }
    send::settle(open, tag)?;
    send::note_drafts(open, Some(tag), now)?;
    for listed in user.list.devices() {
        let place = open.place(tag, &listed.identity);
        if listed.identity != open.account.identity
            && (asking::any(open, tag, listed.device)? || asking::is_answering(open, place)?)
        {
            wants::want(open, Want::Work(Address::new(&user.name, listed.device)), now)?;
        }
    }
    Ok(())
}

/// Where the account's list has a device again that was removed, asks for the server's list: a
/// manager makes the next one once it knows that.
pub(super) fn look_for_returned(
    open: &mut Open<'_>,
    own: &UserRecord,
    now: UnixTime,
) -> Result<(), Error> {
    if own.returned().is_empty() {
        return Ok(());
    }
    wants::want(open, Want::Devices(own.name.clone()), now)
}

/// What was set aside is looked at once more, since other lists may judge it now.
pub(super) fn look_again(
    open: &mut Open<'_>,
    user: &UserRecord,
    now: UnixTime,
) -> Result<(), Error> {
    wants::hurry(open, &Want::Aside(user.name.clone()), now)
}

/// Takes in a list of a user who is known.
pub(super) fn learn(
    open: &mut Open<'_>,
    tag: Tag,
    user: &mut UserRecord,
    list: DeviceList,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<Learned, Error> {
    if list.account() == user.list.account() {
        return match list.replaces(&user.list) {
            Ok(true) => adopt(open, tag, user, list, now, rng).map(|()| Learned::Current),
            Ok(false) => Ok(Learned::Current),
            Err(Error::StaleDeviceList) => Ok(Learned::Old),
            Err(_) => Ok(Learned::Forked),
        };
    }
    if user.has_replaced(&list.account()) {
        return Ok(Learned::Old);
    }
    let known = user.pending.as_deref().map(|Pending(list)| list);
    // By the word of its own key there is a newer one, which waits already.
    if known.is_some_and(|known| follows(known, &list)) {
        return Ok(Learned::Old);
    }
    let newer = match known.filter(|known| known.account() == list.account()) {
        Some(known) => list.replaces(known),
        None => Ok(true),
    };
    match newer {
        Ok(true) => {
            let is_new = known.is_none_or(|known| known.account() != list.account());
            // What devices sent that this list has as well can still be believed with its key:
            // their sessions proved who they are. Lists between the two may not have come.
            let kept: Vec<u32> = known.map_or_else(Vec::new, |known| {
                let listed = known.devices().iter();
                let is_same = |one: &&ListedDevice| {
                    list.get(one.device).is_some_and(|listed| listed.identity == one.identity)
                };
                listed.filter(is_same).map(|listed| listed.device).collect()
            });
            let event = Event::KeyChanged { user: user.name.clone(), account: list.account() };
            let former = user.pending.take();
            user.wait(list);
            open.put_user(tag, user)?;
            outbox::hold(open, user)?;
            if let Some(Pending(former)) = former.as_deref() {
                forget_strays(open, tag, user, former)?;
            }
            look_again(open, user, now)?;
            if is_new {
                let texts = inbox::dismiss_others(open, tag, |device| kept.contains(&device))?;
                if texts > 0 {
                    inbox::tell(
                        open,
                        Event::HeldGone { user: user.name.clone(), texts },
                        now,
                        rng,
                    )?;
                }
                inbox::tell(open, event, now, rng)?;
            }
            Ok(Learned::Waits)
        }
        Ok(false) => Ok(Learned::Waits),
        Err(Error::StaleDeviceList) => Ok(Learned::Old),
        Err(_) => Ok(Learned::Forked),
    }
}

/// Whether a list is by the account key that another one's key certified as the next.
fn follows(list: &DeviceList, before: &DeviceList) -> bool {
    list.account() != before.account()
        && list.is_certified_by(&before.account())
        && list.succeeds(before)
}

/// Puts a list in the place of the one known. Sessions with devices that are not in it are not
/// written in any more; they are read for a while, and then they go.
pub(super) fn adopt(
    open: &mut Open<'_>,
    tag: Tag,
    user: &mut UserRecord,
    list: DeviceList,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<(), Error> {
    let added = put_in_place(open, tag, user, list, now, rng)?;
    for (index, device) in added.into_iter().enumerate() {
        // A list brings 32 devices. Of a user who changes it without end, only the first is told.
        if index == 0 || allowances::take(open, &ADDED, Party::Contact(tag), 1, now)? {
            let event = Event::DeviceAdded { user: user.name.clone(), device };
            inbox::tell(open, event, now, rng)?;
        }
    }
    Ok(())
}

/// As [`adopt`], of a list that this device made itself. Returns the devices that are new.
pub(super) fn put_in_place(
    open: &mut Open<'_>,
    tag: Tag,
    user: &mut UserRecord,
    list: DeviceList,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<Vec<u32>, Error> {
    let is_own = open.is_own(&user.name);
    let is_decided = list.account() != user.list.account();
    let mut removed = Vec::new();
    for listed in user.list.devices() {
        if list.device_of(&listed.identity).is_none() {
            doors::removed(open, open.place(tag, &listed.identity))?;
            removed.push(listed.device);
        }
    }
    if !removed.is_empty() {
        send::withhold(open, (&user.name, &removed), &list, now, rng)?;
    }
    let is_timed = user.first_gone().is_some_and(|since| since <= now);
    let Changes { added, forgotten } = user.replace(list, now);
    for identity in forgotten {
        forget_device(open, open.place(tag, &identity), &identity)?;
    }
    if is_own {
        linked::note(open, &user.list, &added, now)?;
    }
    open.put_user(tag, user)?;
    if is_decided {
        outbox::hold(open, user)?;
    }
    look_again(open, user, now)?;
    // There is one for the first of those that are gone, and the next one follows it.
    if user.has_gone() && !is_timed {
        timers::set_grace(open, now, tag)?;
    }
    let is_here = user.list.device_of(&open.account.identity).is_some();
    if is_own && !is_here {
        inbox::tell(open, Event::Unlinked, now, rng)?;
    }
    Ok(added)
}
