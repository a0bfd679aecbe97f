//! Whose device sent a content, and the list that it brings.

use alloc::boxed::Box;

use rand_core::CryptoRng;

use super::certificates;
use super::devices;
use super::inbox;
use super::transaction::{Open, Tag};
use super::wants::{self, Want};
use crate::address::Address;
use crate::certificate::Vouches;
use crate::content::Content;
use crate::crypto::secret::Secret;
use crate::devices::{DeviceList, Role};
use crate::error::Error;
use crate::identity::{IdentityKey, IdentityKeyPair};
use crate::sesame::{Pending, Standing, UserRecord};
use crate::time::UnixTime;

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
            devices::look_again(open, &user, now)?;
            if !user.unvouched {
                wants::have(open, &Want::Devices(address.user.clone()))?;
            }
            devices::go_on(open, tag, &user, now)?;
            user
        }
        (None, Some(_)) => {
            return Ok(Admitted::Refused(Error::UnknownDevice(Box::new(address.clone()))));
        }
        (Some(user), Some(list)) => {
            let vouched = vouched(open, sender, content, &list, now);
            if vouched == Vouches::Yes && user.unvouched {
                devices::vouch(open, tag, user, list, now, rng)?
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
    // Also where the server was asked before, in vain.
    if user.unvouched {
        wants::want(open, Want::Devices(address.user.clone()), now)?;
    }
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
    let standing = user.standing(address.device, identity, now);
    let is_known = list.account() == user.list.account();
    // While a list waits, the known key may be a thief's, who holds that of a removed manager.
    let is_doubted = user.pending.is_some() && is_known && standing != Standing::Listed
        || standing == Standing::Doubted;
    if open.is_own(&user.name) && may_follow(&user, &list, sender) {
        user.decide();
        open.put_account_key(None)?;
        devices::adopt(open, tag, &mut user, list, now, rng)?;
        inbox::release(open, tag, user.trust())?;
        devices::go_on(open, tag, &user, now)?;
    } else if is_doubted
        || !is_known && standing == Standing::Removed
        || user.has_dismissed(&list.account())
    {
        // A device that was removed, or is in doubt, could say anything of the account, and people
        // decided against a key that they dismissed: the server is asked, unless the list is old in
        // any case.
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
        match devices::learn(open, tag, &mut user, list, now, rng)? {
            devices::Learned::Current => devices::go_on(open, tag, &user, now)?,
            devices::Learned::Old | devices::Learned::Waits => {}
            // Two managers changed it at once, or there is a list that this device was not to see.
            // The known one says whether the sender is one of theirs.
            devices::Learned::Forked => wants::want(open, ask, now)?,
        }
    }
    Ok(user)
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
    now: UnixTime,
) -> Result<(), Error> {
    let own = open.own()?;
    let key = IdentityKeyPair::from_seed(&Secret::new(*seed));
    let here = own.user.list.device_of(&open.account.identity);
    let is_meant = here.is_some_and(|listed| listed.role == Role::Manager);
    if is_meant && is_manager(&own.user.list, sender) && key.public_key() == own.user.list.account()
    {
        open.put_account_key(Some(&key))?;
        // The list may have come before the key.
        devices::look_for_returned(open, &own.user, now)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_own_account_key_is_followed_for_a_manager_of_both_lists_where_nobody_has_to_decide() {
        let key = |seed: u8| IdentityKeyPair::from_seed(&Secret::new([seed; 32]));
        let (old, new, other) = (key(1), key(2), key(3));
        let [phone, laptop, tablet] = [4, 5, 6].map(|seed| key(seed).public_key());
        let (list, _) = DeviceList::first(&old, phone).with(&old, laptop, Role::Manager).unwrap();
        let (list, _) = list.with(&old, tablet, Role::Device).unwrap();
        let next = list.renewed(&old, &new).unwrap();
        let without = list.renewed_without(&old, &new, 2).unwrap();
        let may = |own: &UserRecord, list: &DeviceList, identity: &IdentityKey, device| {
            let (address, tag) = (&Address::new("ada", device), Tag([0; 16]));
            may_follow(own, list, &Sender { address, tag, identity, is_sealed: false })
        };
        let known = || UserRecord::new("ada", list.clone());
        assert!(may(&known(), &next, &laptop, 2));
        assert!(!may(&known(), &next, &laptop, 1), "another number");
        assert!(!may(&known(), &next, &tablet, 3), "no manager");
        let (promoted, _) = DeviceList::first(&old, phone)
            .with(&old, laptop, Role::Manager)
            .and_then(|(list, _)| list.with(&old, tablet, Role::Manager))
            .unwrap();
        let promoted = promoted.renewed(&old, &new).unwrap();
        assert!(!may(&known(), &promoted, &tablet, 3), "no manager before");
        assert!(!may(&known(), &without, &laptop, 2), "removed with that key");
        let not_certified = list.renewed(&other, &new).unwrap();
        assert!(!may(&known(), &not_certified, &laptop, 2), "certified by another key");
        let mut later = list.clone();
        while later.version() <= next.version() {
            let (more, device) = later.with(&old, key(7).public_key(), Role::Device).unwrap();
            later = more.without(&old, device).unwrap();
        }
        assert!(!may(&UserRecord::new("ada", later), &next, &laptop, 2), "an older list");
        let mut dismissed = known();
        dismissed.dismiss(new.public_key());
        assert!(!may(&dismissed, &next, &laptop, 2), "people decided against that key");
        let waiting = |pending: DeviceList| {
            let mut user = known();
            user.wait(pending);
            user
        };
        assert!(may(&waiting(next.clone()), &next, &laptop, 2));
        assert!(!may(&waiting(list.renewed(&old, &other).unwrap()), &next, &laptop, 2), "two keys");
        assert!(!may(&waiting(without), &next, &laptop, 2), "in doubt");
    }
}
