//! The account: its devices, and which of them may change it.

use alloc::vec::Vec;

use rand_core::CryptoRng;

use super::devices;
use super::linked;
use super::prekeys::{self, Which};
use super::telling;
use super::timers;
use super::transaction::{Account, Open};
use super::upload;
use super::{Client, Policy, Scope};
use crate::address::Address;
use crate::crypto::stack;
use crate::devices::{DeviceList, Role};
use crate::error::Error;
use crate::identity::IdentityKeyPair;
use crate::link::{Code, Grant, NewDevice};
use crate::sesame::{Mark, UserRecord};
use crate::store::{Table, Transaction};
use crate::time::UnixTime;

impl<S: Scope> Client<S> {
    /// Adds the device that shows this code to the account, and returns the grant for it. A
    /// [`Role::Manager`] gets the account key, and can link and remove devices as well.
    ///
    /// The new list is uploaded by the next tasks. Where two managers change the list at the same
    /// time, the server refuses the list that comes second, and the manager that made it makes the
    /// next one of both. What either removed is gone. Where both linked a device, only that of the
    /// first list is in: the other one hears that it was removed, and is linked again.
    ///
    /// # Errors
    /// [`Error::BadLinkCode`]: mistyped. [`Error::NotPermitted`]: this device does not hold the
    /// account key. [`Error::AccountExists`]: the device is linked already, or was removed less
    /// than seven days ago; it has to show the code of another [`NewDevice`].
    /// [`Error::TooManyDevices`]: 32 are. [`Error::IdentityChanged`]: another account key of the
    /// own user waits to be accepted. [`Error::Unlinked`], [`Error::Store`].
    pub fn link(
        &mut self,
        code: &str,
        role: Role,
        now: UnixTime,
        rng: &mut dyn CryptoRng,
    ) -> Result<Vec<u8>, Error> {
        self.run(|open| open.whole(|open| link(open, code, role, now, rng)))
    }

    /// Removes a device from the account. The new list is uploaded by the next tasks.
    ///
    /// A manager that is removed still knows the account key, so the account gets a new one: the
    /// other devices are told it, and other users see that it changed, and have to accept it.
    /// In groups the user is given nothing and writes nothing until an admin removes and adds them.
    ///
    /// # Errors
    /// [`Error::NotPermitted`]: this device does not hold the account key, or is the one to remove.
    /// [`Error::UnknownDevice`], [`Error::IdentityChanged`], [`Error::Unlinked`], [`Error::Store`].
    pub fn remove_device(
        &mut self,
        device: u32,
        now: UnixTime,
        rng: &mut dyn CryptoRng,
    ) -> Result<(), Error> {
        self.run(|open| open.whole(|open| remove_device(open, device, now, rng)))
    }
}

/// Makes the account of a new user in an empty store.
pub(super) fn create(
    tx: &mut dyn Transaction,
    policy: &Policy,
    user: &str,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<(), Error> {
    stack::apart(|| {
        let (account, identity) = (IdentityKeyPair::generate(rng), IdentityKeyPair::generate(rng));
        let list = DeviceList::first(&account, identity.public_key());
        let own = Account::new(user, 1, identity.public_key(), rng);
        let founding =
            Founding { own, identity, user: UserRecord::new(user, list), key: Some(account) };
        found(tx, policy, founding, now, rng)
    })
}

/// Makes this a device of the account that answered its code.
pub(super) fn join(
    tx: &mut dyn Transaction,
    policy: &Policy,
    device: &NewDevice,
    grant: &[u8],
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<(), Error> {
    stack::apart(|| {
        let (identity, grant) = device.accept(grant)?;
        let own = Account::new(&grant.user, grant.device, identity.public_key(), rng);
        let user = UserRecord::new(&grant.user, grant.list);
        let founding = Founding { own, identity, user, key: grant.account };
        found(tx, policy, founding, now, rng)
    })
}

/// What a device begins with.
pub(super) struct Founding {
    pub(super) own: Account,
    pub(super) identity: IdentityKeyPair,
    /// The account's own user.
    pub(super) user: UserRecord,
    /// The account key, where the device is to be a manager.
    pub(super) key: Option<IdentityKeyPair>,
}

/// Makes the account of a store.
pub(super) fn found(
    tx: &mut dyn Transaction,
    policy: &Policy,
    founding: Founding,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<(), Error> {
    let Founding { own, identity, mut user, key } = founding;
    let mut open = Open::first(tx, policy, own)?;
    let tag = open.tag(&user.name)?;
    user.mark = Mark::Verified;
    open.put_user(tag, &user)?;
    if let Some(since) = user.first_gone() {
        timers::set_grace(&mut open, since, tag)?;
    }
    open.put_identity(&identity)?;
    if let Some(key) = &key {
        open.put_account_key(Some(key))?;
    }
    linked::joined(&mut open, now)?;
    let mut some = prekeys::load(&mut open, &Which::Rotating)?;
    some.prekeys.rotate_if_due(now.as_secs(), rng)?;
    some.save(&mut open)?;
    open.finish()
}

fn link(
    open: &mut Open<'_>,
    code: &str,
    role: Role,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<Vec<u8>, Error> {
    let (account_key, mut own) = own_to_change(open)?;
    let code = Code::decode(code)?;
    if own.knows(&code.identity) {
        // Managers who know it as removed would take it off the list again.
        return Err(Error::AccountExists);
    }
    let (list, device) = own.list.with(&account_key, code.identity, role)?;
    let account = (role == Role::Manager).then_some(account_key);
    let grant = Grant { user: own.name.clone(), device, list: list.clone(), account };
    let grant = code.grant(&grant, rng)?;
    let tag = open.tag(&own.name)?;
    devices::put_in_place(open, tag, &mut own, list, now, rng)?;
    upload::request(open)?;
    telling::tell_own(open, Some(device), now, rng)?;
    Ok(grant)
}

fn remove_device(
    open: &mut Open<'_>,
    device: u32,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<(), Error> {
    let (account_key, own) = own_to_change(open)?;
    let removed = own.list.get(device).copied();
    let removed =
        removed.ok_or_else(|| Error::UnknownDevice(Address::new(&own.name, device).into()))?;
    if device == open.account.device {
        return Err(Error::NotPermitted);
    }
    let list = if removed.role == Role::Manager {
        // A removed manager still knows the account key; nothing it signs from now on may count.
        let renewed = IdentityKeyPair::generate(rng);
        open.put_account_key(Some(&renewed))?;
        own.list.renewed_without(&account_key, &renewed, device)?
    } else {
        own.list.without(&account_key, device)?
    };
    // Texts that waited for that device alone wait no more.
    put_next(open, own, list, now, rng)
}

/// Two managers changed the device list at the same time, and the server took the other list: makes
/// the next one of both, which everybody takes who has either of the two.
///
/// # Errors
/// [`Error::ForkedDeviceList`]: it is no such list, or another device has to do it.
pub(super) fn merge(
    open: &mut Open<'_>,
    held: DeviceList,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<(), Error> {
    let (account_key, mut own) = match own_to_change(open) {
        Err(Error::NotPermitted | Error::Unlinked | Error::IdentityChanged(_)) => {
            return Err(Error::ForkedDeviceList);
        }
        own => own?,
    };
    let list = held.merged(&own.list, &account_key)?;
    if list.device_of(&open.account.identity).is_none() {
        // The other list gave this device's number to another one: this one never got in.
        let tag = open.tag(&own.name)?;
        return devices::adopt(open, tag, &mut own, held, now, rng);
    }
    put_next(open, own, list, now, rng)
}

/// Another manager made a newer list, `held`, and did not know that a device was removed: the next
/// list is without it. Where a manager was removed, `held` is by the account key of before, and
/// this device's list goes ahead of it. A device that is linked again has another identity.
pub(super) fn keep_out(
    open: &mut Open<'_>,
    held: &DeviceList,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<(), Error> {
    let (account_key, own) = match own_to_change(open) {
        // Another manager does it.
        Err(Error::NotPermitted | Error::Unlinked | Error::IdentityChanged(_)) => return Ok(()),
        own => own?,
    };
    let mut list = own.list.clone();
    if own.has_replaced(&held.account()) && held.succeeds(&list) {
        list = list.ahead_of(held, &account_key)?;
    }
    for device in own.returned() {
        list = list.without(&account_key, device)?;
    }
    if list == own.list { Ok(()) } else { put_next(open, own, list, now, rng) }
}

/// This device made the next list: it counts here, and the server and the other devices get it.
fn put_next(
    open: &mut Open<'_>,
    mut own: UserRecord,
    list: DeviceList,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<(), Error> {
    let tag = open.tag(&own.name)?;
    devices::adopt(open, tag, &mut own, list, now, rng)?;
    devices::go_on(open, tag, &own, now)?;
    upload::request(open)?;
    telling::tell_own(open, None, now, rng)
}

/// Where an account was restored without its other devices, and the server has its list by now:
/// renews the account key, which those devices still know.
pub(super) fn renew_if_due(
    open: &mut Open<'_>,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<(), Error> {
    if open.get(Table::Account, RENEWAL)?.is_none() {
        return Ok(());
    }
    let (old, mut own) = match own_to_change(open) {
        // Somebody else decides about the account key: a person, or another manager.
        Err(Error::NotPermitted | Error::Unlinked | Error::IdentityChanged(_)) => return Ok(()),
        own => own?,
    };
    let new = IdentityKeyPair::generate(rng);
    open.put_account_key(Some(&new))?;
    let list = own.list.renewed(&old, &new)?;
    let tag = open.tag(&own.name)?;
    devices::put_in_place(open, tag, &mut own, list, now, rng)?;
    open.delete(Table::Account, RENEWAL)?;
    upload::request(open)?;
    telling::tell_own(open, None, now, rng)
}

/// The row that says that the account key is to be renewed.
pub(super) const RENEWAL: &[u8] = b"renewal";

/// The account's key and its user, for a device that may change which devices there are.
fn own_to_change(open: &mut Open<'_>) -> Result<(IdentityKeyPair, UserRecord), Error> {
    let account_key = open.account_key()?;
    let own = open.linked()?;
    let user = open.user(own.tag)?.ok_or(Error::BadState)?;
    if user.pending.is_some() || account_key.public_key() != user.list.account() {
        return Err(Error::IdentityChanged(user.name.as_str().into()));
    }
    Ok((account_key, user))
}
