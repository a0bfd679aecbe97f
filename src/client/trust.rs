//! Who a user is: the account key that is taken for theirs, and what people say of it.

use alloc::vec::Vec;

use rand_core::CryptoRng;

use super::events::Event;
use super::transaction::{Open, RowName, Tag};
use super::{Client, Scope};
use super::{
    allowances, aside, calls, ceremonies, devices, doors, group_parts, group_rows, group_texts,
    inbox, log, messages, outbox, telling, tickets, wants,
};
use crate::address::Address;
use crate::devices::DeviceList;
use crate::error::Error;
use crate::identity::IdentityKey;
use crate::sesame::{Mark, Pending, Trust, UserRecord};
use crate::session::SessionId;
use crate::store::Table;
use crate::time::UnixTime;

/// What is known of who a user is, and what people compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UserTrust {
    /// The account key that is taken for the user's.
    pub account: IdentityKey,
    /// What is known of that key.
    pub trust: Trust,
    /// Another account key that claims to be the user's now, and that nobody has accepted. While
    /// there is one, nothing is written to the user, and what was written before does not leave for
    /// devices that the new key's list does not have.
    pub new_account: Option<IdentityKey>,
}

/// A session, as a list of them shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionInfo {
    /// The device at the other end.
    pub with: Address,
    /// The session's name, the same on both sides.
    pub id: SessionId,
    /// When it was begun, by this device's clock.
    pub created_at: UnixTime,
    /// Whether the next text to the device is written in it.
    pub is_writing: bool,
}

impl<S: Scope> Client<S> {
    /// What is known of who a user is. None for a user of whom there is no device list.
    ///
    /// # Errors
    /// [`Error::BadName`], [`Error::Store`]
    pub fn trust(&mut self, user: &str) -> Result<Option<UserTrust>, Error> {
        self.run(|open| {
            let tag = open.tag(user)?;
            Ok(open.user(tag)?.map(|user| UserTrust {
                account: user.list.account(),
                trust: user.trust(),
                new_account: user.pending.as_deref().map(|Pending(list)| list.account()),
            }))
        })
    }

    /// People compared their account keys, and this is the user's: the number of
    /// [`Client::safety_number`] was the same on both screens. The account's other devices are
    /// told, and take it over, but for those that were told of an [`Client::unverify`]: there
    /// people compare again.
    ///
    /// # Errors
    /// [`Error::IdentityChanged`]: it is not the one known, or another one waits to be accepted.
    /// [`Error::DevicesNeeded`], [`Error::BadName`], [`Error::Store`].
    pub fn verify(
        &mut self,
        user: &str,
        account: &IdentityKey,
        now: UnixTime,
        rng: &mut dyn CryptoRng,
    ) -> Result<(), Error> {
        self.run(|open| {
            open.whole(|open| {
                let (_, known) = open.known_user(user)?;
                if known.pending.is_some() || known.list.account() != *account {
                    return Err(Error::IdentityChanged(user.into()));
                }
                mark(open, known, Mark::Verified, now, rng)
            })
        })
    }

    /// Takes back that people compared the user's account key. The account's other devices are
    /// told.
    ///
    /// # Errors
    /// [`Error::OwnIdentity`]: it is the account's own user. [`Error::DevicesNeeded`],
    /// [`Error::BadName`], [`Error::Store`].
    pub fn unverify(
        &mut self,
        user: &str,
        now: UnixTime,
        rng: &mut dyn CryptoRng,
    ) -> Result<(), Error> {
        self.run(|open| {
            open.whole(|open| {
                open.refuse_own(user)?;
                let (_, known) = open.known_user(user)?;
                mark(open, known, Mark::Withdrawn, now, rng)
            })
        })
    }

    /// Somebody decided about the user's two account keys ([`UserTrust`]): `account` is the user's.
    ///
    /// Where that is the new one, it takes the place of the old one, unverified; what was held
    /// moves to the inbox, and texts that waited are sent. Where it is the known one, the new one
    /// and what came under it go away. For the own user it is the same: where another device of the
    /// account renewed the account key, and this one learned it from the server alone, a person
    /// compares the keys on both screens and accepts it here.
    ///
    /// # Errors
    /// [`Error::IdentityChanged`]: `account` is neither of the two. [`Error::DevicesNeeded`],
    /// [`Error::BadName`], [`Error::Store`].
    pub fn accept_new_key(
        &mut self,
        user: &str,
        account: &IdentityKey,
        now: UnixTime,
        rng: &mut dyn CryptoRng,
    ) -> Result<(), Error> {
        self.run(|open| open.whole(|open| accept_new_key(open, user, account, now, rng)))
    }

    /// Takes in a user's device list, as the server has it. The first one is believed (*first
    /// use*); later ones must be newer, and signed by the same account key. One by another account
    /// key is kept aside until [`Client::accept_new_key`].
    ///
    /// [`Client::complete`] does this for the lists that a task asks for.
    ///
    /// # Errors
    /// [`Error::StaleDeviceList`]: the server is behind; nothing to do.
    /// [`Error::ForkedDeviceList`]: somebody else signs with the account's key.
    /// [`Error::BadSignature`], [`Error::InvalidKey`], [`Error::Malformed`]: it is not a list.
    /// [`Error::BadName`], [`Error::Store`].
    pub fn update_devices(
        &mut self,
        user: &str,
        list: &[u8],
        now: UnixTime,
        rng: &mut dyn CryptoRng,
    ) -> Result<(), Error> {
        let list = DeviceList::decode(list)?;
        self.run(|open| open.whole(|open| devices::update(open, user, list, now, rng)))
    }

    /// The device list of a user, as far as it is known.
    ///
    /// # Errors
    /// [`Error::BadName`], [`Error::Store`]
    pub fn devices(&mut self, user: &str) -> Result<Option<DeviceList>, Error> {
        self.run(|open| {
            let tag = open.tag(user)?;
            Ok(open.user(tag)?.map(|user| user.list))
        })
    }

    /// The sessions with a user's devices.
    ///
    /// # Errors
    /// [`Error::BadName`], [`Error::Store`]
    pub fn sessions(&mut self, user: &str) -> Result<Vec<SessionInfo>, Error> {
        self.run(|open| {
            let tag = open.tag(user)?;
            let Some(known) = open.user(tag)? else { return Ok(Vec::new()) };
            let mut all = Vec::new();
            for listed in known.list.devices() {
                let record = open.record(open.place(tag, &listed.identity), &listed.identity)?;
                let writing = record.writing().map(|entry| entry.id);
                all.extend(record.sessions().iter().map(|entry| SessionInfo {
                    with: Address::new(user, listed.device),
                    id: entry.id,
                    created_at: entry.created_at,
                    is_writing: writing == Some(entry.id),
                }));
            }
            Ok(all)
        })
    }

    /// Writes no more in the sessions with a device: the next text to it begins one. What is still
    /// on the way can be read.
    ///
    /// # Errors
    /// [`Error::UnknownDevice`]: the user's list does not have it. [`Error::DevicesNeeded`],
    /// [`Error::BadName`], [`Error::Store`].
    pub fn reset(&mut self, with: &Address) -> Result<(), Error> {
        self.run(|open| {
            open.whole(|open| {
                let (tag, user) = open.known_user(&with.user)?;
                let listed = user.list.get(with.device);
                let identity =
                    listed.ok_or_else(|| Error::UnknownDevice(with.clone().into()))?.identity;
                let place = open.place(tag, &identity);
                let mut record = open.record(place, &identity)?;
                record.close_all();
                open.put_record(place, &record)
            })
        })
    }

    /// Forgets a user: sessions, device list, what was sent and what waits, and that the account
    /// key was ever seen.
    ///
    /// # Errors
    /// [`Error::OwnIdentity`]: it is the account's own user. [`Error::BadName`], [`Error::Store`].
    pub fn forget(&mut self, user: &str) -> Result<(), Error> {
        self.run(|open| open.whole(|open| forget(open, user)))
    }
}

fn accept_new_key(
    open: &mut Open<'_>,
    user: &str,
    account: &IdentityKey,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<(), Error> {
    let (tag, mut known) = open.known_user(user)?;
    match known.decide() {
        Some(list) if list.account() == *account => {
            let is_own = open.is_own(user);
            // This device's own people stand before both screens: that is the comparison.
            known.mark = if is_own { Mark::Verified } else { Mark::Unset };
            if is_own {
                open.put_account_key(None)?;
            }
            // Mail of before the decision, which encloses the old list, does not ask again.
            known.dismiss(known.list.account());
            devices::adopt(open, tag, &mut known, list, now, rng)?;
            inbox::release(open, tag, known.trust())?;
            devices::go_on(open, tag, &known, now)?;
            // A manager gets the new key from one that holds it, once that one hears of this
            // device.
            if is_own { telling::tell_own(open, None, now, rng) } else { Ok(()) }
        }
        Some(list) if known.list.account() == *account => {
            known.dismiss(list.account());
            inbox::dismiss(open, tag)?;
            open.put_user(tag, &known)?;
            outbox::hold(open, &known)?;
            devices::forget_strays(open, tag, &known, &list)?;
            devices::look_again(open, &known, now)?;
            devices::go_on(open, tag, &known, now)
        }
        None if known.list.account() == *account => Ok(()),
        _ => Err(Error::IdentityChanged(user.into())),
    }
}

/// Notes what people said of a user's account key, and tells the account's other devices.
pub(super) fn mark(
    open: &mut Open<'_>,
    mut user: UserRecord,
    mark: Mark,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<(), Error> {
    user.mark = mark;
    let tag = open.tag(&user.name)?;
    // The comparison says who the user is.
    let is_vouched = mark == Mark::Verified && core::mem::take(&mut user.unvouched);
    open.put_user(tag, &user)?;
    if is_vouched {
        devices::look_again(open, &user, now)?;
        devices::go_on(open, tag, &user, now)?;
    }
    telling::tell_mark(open, &user, now, rng)
}

/// Takes a mark that another device of the account made. It counts for the account key that it was
/// made for, and the person here is told of it: a stolen device could mark anybody. One that was
/// withdrawn is set again by the person at this device alone.
pub(super) fn take_mark(
    open: &mut Open<'_>,
    user: &str,
    account: &[u8; 32],
    verified: bool,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<(), Error> {
    let tag = open.tag(user)?;
    let Some(mut known) = open.user(tag)? else { return Ok(()) };
    let is_for = known.pending.is_none() && known.list.account().as_bytes() == account;
    if open.is_own(user) || !is_for {
        return Ok(());
    }
    let before = known.mark;
    known.mark = match (before, verified) {
        (Mark::Unset | Mark::Verified, true) => Mark::Verified,
        (Mark::Withdrawn, _) | (_, false) => Mark::Withdrawn,
    };
    if known.mark == before {
        return Ok(());
    }
    open.put_user(tag, &known)?;
    // Where nobody had compared anything, there is nothing to tell of a withdrawal.
    if before == Mark::Unset && !verified {
        return Ok(());
    }
    inbox::tell(open, Event::VerifiedElsewhere { user: user.into(), verified }, now, rng)
}

fn forget(open: &mut Open<'_>, user: &str) -> Result<(), Error> {
    open.refuse_own(user)?;
    let tag = open.tag(user)?;
    while let Some((_, id)) = messages::drafts(open, Some(tag), 1)?.pop() {
        messages::withdraw(open, tag, id)?;
    }
    outbox::names(open, usize::MAX)?
        .iter()
        .try_for_each(|name| forget_envelope(open, tag, user, name))?;
    if let Some(known) = open.user(tag)? {
        for identity in known.identities() {
            devices::forget_device(open, open.place(tag, &identity), &identity)?;
        }
    }
    tickets::set_open(open, tag, false)?;
    doors::forget(open, tag)?;
    for table in [Table::Session, Table::Device, Table::Seen, Table::Request] {
        open.delete_all(table, &tag.0)?;
    }
    log::forget(open, tag)?;
    inbox::dismiss(open, tag)?;
    aside::forget(open, tag)?;
    ceremonies::forget(open, tag)?;
    calls::forget(open, tag)?;
    wants::forget(open, tag)?;
    group_rows::forget_user(open, tag)?;
    group_parts::forget(open, tag)?;
    allowances::forget(open, tag)?;
    open.delete(Table::User, &tag.0)
}

/// Forgets an envelope that waits, if it is for this user; with a text, its copies go too.
fn forget_envelope(open: &mut Open<'_>, tag: Tag, user: &str, name: &RowName) -> Result<(), Error> {
    let Some(row) = outbox::row(open, name)?.filter(|row| row.to.user == user) else {
        return Ok(());
    };
    if let Some(id) = row.message {
        messages::withdraw(open, tag, id)?;
        group_texts::left(open, id, name)?;
    }
    outbox::remove(open, name).map(drop)
}
