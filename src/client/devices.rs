//! Which devices a user has: lists as they come from the server and with messages.

use alloc::boxed::Box;
use alloc::vec::Vec;

use rand_core::CryptoRng;

use super::allowances::{self, ADDED, LISTS, Party};
use super::asking;
use super::certificates;
use super::events::Event;
use super::group_rows;
use super::inbox;
use super::linked;
use super::log;
use super::outbox::{self, Target};
use super::seen;
use super::send;
use super::tickets;
use super::timers;
use super::transaction::{Open, OwnUser, Place, Tag};
use super::wants::{self, Want};
use crate::address::Address;
use crate::certificate::Vouches;
use crate::content::{Body, Content};
use crate::crypto::secret::Secret;
use crate::devices::{DeviceList, ListStamp, ListedDevice, Role};
use crate::error::Error;
use crate::identity::{IdentityKey, IdentityKeyPair};
use crate::reference::Reference;
use crate::sesame::{Changes, DeviceRecord, GRACE, Mark, Pending, Standing, UserRecord};
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

/// Whose device sent something.
pub(super) enum Admitted {
    /// One that may be believed as much as its user is.
    Device(UserRecord),
    /// One that the lists disagree about, or that was removed: it is heard apart, and not answered.
    Apart(UserRecord, Standing),
    /// Nobody's, as far as is known.
    Refused(Error),
}

/// Who sent something, and what it says of device lists.
pub(super) struct Sender<'a> {
    pub(super) address: &'a Address,
    pub(super) tag: Tag,
    pub(super) identity: &'a IdentityKey,
    /// Whether the message says itself who sent it, and nobody else.
    pub(super) is_sealed: bool,
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
fn vouch(
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
        let next = known.list;
        known = UserRecord::new(&known.name, list);
        learn(open, tag, &mut known, next, now, rng)?;
    } else {
        // A device that the list has too showed by its session that it is the user's: what it sent
        // comes again, and is not shown again.
        let is_theirs = |claimed: &&ListedDevice| {
            list.get(claimed.device).is_some_and(|listed| listed.identity == claimed.identity)
        };
        for listed in known.list.devices().iter().filter(|claimed| !is_theirs(claimed)) {
            forget_device(open, open.place(tag, &listed.identity), &listed.identity)?;
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
    for listed in known.list.devices() {
        forget_device(open, open.place(tag, &listed.identity), &listed.identity)?;
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
    if user.waits() {
        return Ok(());
    }
    send::settle(open, tag)?;
    send::note_drafts(open, Some(tag), now)?;
    for listed in user.list.devices() {
        if listed.identity != open.account.identity && asking::any(open, tag, listed.device)? {
            wants::want(open, Want::Work(Address::new(&user.name, listed.device)), now)?;
        }
    }
    Ok(())
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
    let Changes { added, forgotten } = user.replace(list, now);
    for identity in forgotten {
        forget_device(open, open.place(tag, &identity), &identity)?;
    }
    if is_own {
        linked::note(open, &user.list, &added, now)?;
    }
    open.put_user(tag, user)?;
    look_again(open, user, now)?;
    if user.has_gone() {
        timers::set_grace(open, now, tag)?;
    }
    let is_here = user.list.device_of(&open.account.identity).is_some();
    if is_own && !is_here {
        inbox::tell(open, Event::Unlinked, now, rng)?;
    }
    Ok(added)
}

/// Finds out whose device sent a content, with what the content itself says of that.
pub(super) fn admit(
    open: &mut Open<'_>,
    sender: &Sender<'_>,
    known: Option<UserRecord>,
    content: &Content<'_>,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<Admitted, Error> {
    let Sender { address, tag, identity, .. } = *sender;
    let is_known = |bytes: &&[u8]| {
        known
            .as_ref()
            .is_some_and(|user| user.stamp() == content.list && user.list.encode() == **bytes)
    };
    let enclosed =
        content.devices.filter(|bytes| !is_known(bytes)).map(DeviceList::decode).transpose();
    let enclosed = match enclosed {
        Ok(enclosed) => enclosed,
        Err(error) => return Ok(Admitted::Refused(error)),
    };
    let user = match (known, enclosed) {
        (None, None) => {
            return Ok(Admitted::Refused(Error::DevicesNeeded(address.user.as_str().into())));
        }
        (None, Some(list)) if is_listed(&list, sender) => {
            let vouched = vouched(open, sender, content, &list, now);
            if vouched == Vouches::Expired {
                let needed = Error::DevicesNeeded(address.user.as_str().into());
                return Ok(Admitted::Refused(needed));
            }
            // Anybody makes up a name, and each is a row until the server says who it is.
            if vouched == Vouches::No && !wants::has_room(open)? {
                return Ok(Admitted::Refused(Error::RateLimited));
            }
            let mut user = UserRecord::new(&address.user, list);
            user.unvouched = vouched == Vouches::No;
            open.put_user(tag, &user)?;
            look_again(open, &user, now)?;
            if user.unvouched {
                wants::want(open, Want::Devices(address.user.clone()), now)?;
            } else {
                wants::have(open, &Want::Devices(address.user.clone()))?;
            }
            go_on(open, tag, &user, now)?;
            user
        }
        (None, Some(_)) => {
            return Ok(Admitted::Refused(Error::UnknownDevice(Box::new(address.clone()))));
        }
        (Some(user), Some(list)) => {
            let vouched = vouched(open, sender, content, &list, now);
            if vouched == Vouches::Yes && user.unvouched {
                vouch(open, tag, user, list, now, rng)?
            } else if list.account() != user.list.account()
                && vouched != Vouches::Yes
                && !open.is_own(&user.name)
            {
                // Anybody can sign a list of their own under this name, and seal it.
                let is_pending = |Pending(known): &Pending| known.account() == list.account();
                if user.pending.as_deref().is_some_and(is_pending) {
                    brought(open, sender, user, list, now, rng)?
                } else {
                    wants::want(open, Want::Devices(address.user.clone()), now)?;
                    // A device of the known list shows by its session that it is the user's. It may
                    // have written before the account key was renewed, to somebody who knows only
                    // the new one.
                    let standing = user.standing(address.device, identity, now);
                    if !matches!(standing, Standing::Listed | Standing::Removed) {
                        let changed = Error::IdentityChanged(user.name.as_str().into());
                        return Ok(Admitted::Refused(changed));
                    }
                    user
                }
            } else {
                brought(open, sender, user, list, now, rng)?
            }
        }
        (Some(user), None) => user,
    };
    Ok(match user.standing(address.device, identity, now) {
        Standing::Listed => Admitted::Device(user),
        Standing::Unknown => Admitted::Refused(Error::UnknownDevice(Box::new(address.clone()))),
        standing => Admitted::Apart(user, standing),
    })
}

/// Who vouches for the list that a content encloses. For that of an open envelope, the transport's
/// word for the user's name does; for that of a sealed one, only a certificate can.
fn vouched(
    open: &Open<'_>,
    sender: &Sender<'_>,
    content: &Content<'_>,
    list: &DeviceList,
    now: UnixTime,
) -> Vouches {
    if !sender.is_sealed {
        return Vouches::Yes;
    }
    let (certificate, user) = (content.sealed.certificate, &sender.address.user);
    certificates::vouches(open, certificate, user, &list.account(), now)
}

/// Only a list that the sender is in is the sender's to bring.
fn is_listed(list: &DeviceList, sender: &Sender<'_>) -> bool {
    let listed = list.device_of(sender.identity);
    listed.is_some_and(|listed| listed.device == sender.address.device)
}

/// Takes in the list that the sender of a content brought with it. Returns what is known now.
fn brought(
    open: &mut Open<'_>,
    sender: &Sender<'_>,
    mut user: UserRecord,
    list: DeviceList,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<UserRecord, Error> {
    let Sender { address, tag, identity, .. } = *sender;
    let ask = Want::Devices(address.user.clone());
    let is_removed = user.standing(address.device, identity, now) == Standing::Removed;
    if open.is_own(&user.name) && may_follow(&user, &list, sender) {
        user.decide();
        open.put_account_key(None)?;
        adopt(open, tag, &mut user, list, now, rng)?;
        inbox::release(open, tag, user.trust())?;
        go_on(open, tag, &user, now)?;
    } else if list.account() != user.list.account() && is_removed
        || user.has_dismissed(&list.account())
    {
        // A device that was removed could say anything of the account, and people decided against a
        // key that they dismissed: the server is asked, unless the list is old in any case.
        if list.succeeds(&user.list) {
            wants::want(open, ask, now)?;
        }
    } else if !is_listed(&list, sender) {
        // It is not the sender's to bring.
    } else if let Some(waits) = user.waits_instead_of(&list).filter(|_| open.is_again) {
        // What was set aside brought its list when it came. If each further look put that in the
        // place of the one that waits by now, people would be shown an old key again and again, and
        // could not accept the new one. Where it is ahead, the server has it.
        if list.succeeds(waits) {
            wants::want(open, ask, now)?;
        }
    } else {
        match learn(open, tag, &mut user, list, now, rng)? {
            Learned::Current => go_on(open, tag, &user, now)?,
            Learned::Old | Learned::Waits => {}
            // Two managers changed it at once, or there is a list that this device was not to see.
            // The known one says whether the sender is one of theirs.
            Learned::Forked => wants::want(open, ask, now)?,
        }
    }
    Ok(user)
}

/// Where one of the two knows an older or another list of the other: fetches it, or sends it.
pub(super) fn compare(
    open: &mut Open<'_>,
    own_before: &OwnUser,
    (tag, user, here): (Tag, &UserRecord, ListStamp),
    content: &Content<'_>,
    reply: Option<&mut Target>,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<(), Error> {
    let is_own = open.is_own(&user.name);
    let is_ahead = content.list.version > here.version
        || content.list.version == here.version && content.list.digest != here.digest;
    if is_ahead && content.devices.is_none() {
        wants::want(open, Want::Devices(user.name.clone()), now)?;
    }
    let Some(reply) = reply else { return Ok(()) };
    let own = own_before.user.stamp();
    let is_behind = content.known.is_none_or(|known| {
        known.version < own.version || known.version == own.version && known.digest != own.digest
    });
    // A new account key is told by the account's own devices: they learn from this that it is not
    // known here.
    let asks = is_own && is_ahead && !content.body.is_about_devices();
    if !(is_behind || asks) || !allowances::take(open, &LISTS, Party::Contact(tag), 1, now)? {
        return Ok(());
    }
    if is_own && is_behind {
        post_account(open, reply, None, now, rng)
    } else {
        post_list(open, reply, None, now, rng)
    }
}

/// Sends the account's device list.
pub(super) fn post_list(
    open: &mut Open<'_>,
    target: &mut Target,
    resent: Option<Reference>,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<(), Error> {
    outbox::tell(open, target, Body::Devices, resent, now, rng).map(drop)
}

/// Sends the device list to a device of the account, with the account's key where the device is a
/// manager.
pub(super) fn post_account(
    open: &mut Open<'_>,
    target: &mut Target,
    resent: Option<Reference>,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<(), Error> {
    let own = open.own()?;
    let listed = own.user.list.device_of(&target.record.identity);
    let key = match open.account_key() {
        Ok(key) if listed.is_some_and(|listed| listed.role == Role::Manager) => Some(key),
        Ok(_) | Err(Error::NotPermitted) => None,
        Err(error) => return Err(error),
    };
    let seed = key.map(|key| key.seed());
    let body = Body::Account(seed.as_ref().map(Secret::expose));
    outbox::tell(open, target, body, resent, now, rng).map(drop)
}

/// Tells the account's other devices whether people compared the account key of a user: those that
/// there is a session with.
pub(super) fn tell_mark(
    open: &mut Open<'_>,
    user: &UserRecord,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<(), Error> {
    let account = user.list.account();
    let verified = user.mark == Mark::Verified;
    let body = Body::Mark { verified, account: account.as_bytes(), user: &user.name };
    for mut target in own_targets(open, None, now)? {
        outbox::tell(open, &mut target, body, None, now, rng)?;
    }
    Ok(())
}

/// The account's other devices that there is a session with. With those that there is none with,
/// one is begun, in which they are told of the account; but not with `new`, which has nothing at
/// the server yet, and knows all that there is to tell.
fn own_targets(open: &mut Open<'_>, new: Option<u32>, now: UnixTime) -> Result<Vec<Target>, Error> {
    let own = open.own()?;
    let mut targets = Vec::new();
    for listed in own.user.list.devices() {
        if listed.identity == open.account.identity {
            continue;
        }
        match outbox::target(open, own.tag, &own.user, listed, now)? {
            Some(target) => targets.push(target),
            None if new == Some(listed.device) => {}
            None => {
                let address = Address::new(&own.user.name, listed.device);
                wants::want(open, Want::Bundle(address), now)?;
            }
        }
    }
    Ok(targets)
}

/// Tells the account's other devices that there is another list, which may have a `new` one.
pub(super) fn tell_own(
    open: &mut Open<'_>,
    new: Option<u32>,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<(), Error> {
    for mut target in own_targets(open, new, now)? {
        post_account(open, &mut target, None, now, rng)?;
    }
    Ok(())
}

/// Whether a device of the account may bring a new account key.
///
/// The old key certified the new one, and the device that brings it holds the old key and is still
/// a manager under the new one. Every other new key waits for a person: a device that was removed
/// holds the old key too.
fn may_follow(own: &UserRecord, list: &DeviceList, sender: &Sender<'_>) -> bool {
    let known = own.list.account();
    let contested =
        own.pending.as_deref().is_some_and(|Pending(other)| other.account() != list.account());
    list.account() != known
        && !contested
        && !own.is_doubted(sender.identity)
        && !own.has_dismissed(&list.account())
        && list.is_certified_by(&known)
        && list.succeeds(&own.list)
        && is_manager(&own.list, sender)
        && is_manager(list, sender)
}

fn is_manager(list: &DeviceList, sender: &Sender<'_>) -> bool {
    list.device_of(sender.identity).is_some_and(|listed| {
        listed.device == sender.address.device && listed.role == Role::Manager
    })
}

/// Takes the account's key from a manager of the account, where this device is to be one.
pub(super) fn take_account_key(
    open: &mut Open<'_>,
    sender: &Sender<'_>,
    seed: &[u8; 32],
) -> Result<(), Error> {
    let own = open.own()?;
    let key = IdentityKeyPair::from_seed(&Secret::new(*seed));
    let here = own.user.list.device_of(&open.account.identity);
    let is_meant = here.is_some_and(|listed| listed.role == Role::Manager);
    if is_meant && is_manager(&own.user.list, sender) && key.public_key() == own.user.list.account()
    {
        open.put_account_key(Some(&key))?;
    }
    Ok(())
}
