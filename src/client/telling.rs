//! What devices are told of this account: its list, its key, whom people verified.

use alloc::vec::Vec;

use rand_core::CryptoRng;

use super::allowances::{self, LISTS, Party};
use super::outbox::{self, Target};
use super::transaction::{Open, OwnUser, Tag};
use super::wants::{self, Want};
use crate::address::Address;
use crate::content::{Body, Content};
use crate::crypto::secret::Secret;
use crate::devices::{ListStamp, Role};
use crate::error::Error;
use crate::reference::Reference;
use crate::sesame::{Mark, UserRecord};
use crate::time::UnixTime;

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
