//! The server's side: what it keeps of a user, as a value without I/O (docs/server.md).
//!
//! A server keeps one row for each user and one for each device, reads them into a [`Directory`],
//! asks it, and writes back what changed, in one transaction.
//!
//! ```
//! use subrosa::directory::{Directory, Mode, Upload};
//! use subrosa::protocol::{IdentityKeyPair, Prekeys};
//! use subrosa::{DeviceList, SystemRng};
//!
//! // The device.
//! let (rng, now) = (&mut SystemRng, 1_800_000_000);
//! let (account, identity) = (IdentityKeyPair::generate(rng), IdentityKeyPair::generate(rng));
//! let list = DeviceList::first(&account, identity.public_key());
//! let prekeys = Prekeys::generate(10, now, rng)?.publish(&identity);
//! let upload = Upload::new(&identity, 1, list, prekeys, Mode::Add)?.encode();
//!
//! // The server.
//! let mut alice = Directory::new();
//! let accepted = alice.upload(1, &upload).expect("it is the first account of this user");
//! assert!(accepted.removed.is_empty());
//! let bundle = alice.bundle(1, "bob", now).expect("there are prekeys");
//! assert_eq!(alice.summary(1).prekeys.expect("they are still held").one_time, 9);
//! let rows = (alice.encode_user(), alice.encode_device(1));
//! # Ok::<(), subrosa::Error>(())
//! ```

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::devices::{DeviceList, Role};
use crate::error::Error;
use crate::identity::IdentityKey;
use crate::prekey::Bundle;

mod doors;
mod held;
mod summary;
mod upload;

pub use doors::Doors;
pub use held::NoBundle;
pub use summary::{HeldList, HeldPrekey, HeldPrekeys, Summary};
pub use upload::{Mode, Stamp, StampInfo, Upload};

use held::Held;

/// What a server keeps of one user: the device list, and the prekeys of each device.
///
/// The server reads the rows that a request is about, and writes them back before it answers:
///
/// | request | rows it reads | rows it writes |
/// | --- | --- | --- |
/// | [`upload`](Directory::upload) | the user's, this device's | both; see [`Accepted::removed`] |
/// | [`bundle`](Directory::bundle) | the user's, this device's | this device's |
/// | [`summary`](Directory::summary) | the user's, this device's | none |
/// | [`list`](Directory::list) | the user's | none |
///
/// Two requests about one device must not read the same row at the same time, or one of them could
/// hand out a one-time prekey again.
///
/// The server knows from its own login who is speaking: it must let only device 1 of Alice upload
/// as device 1 of Alice. Clients do not trust it in this, nor in anything else: a server that hands
/// out keys of its own is noticed when people compare their account keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Directory {
    list: Option<DeviceList>,
    devices: BTreeMap<u32, Held>,
}

/// What an upload changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "the rows and mailboxes of removed devices are to be deleted"]
#[non_exhaustive]
pub struct Accepted {
    /// Devices that are no longer the user's. The server deletes their rows and their mailboxes
    /// first, and writes the rows of this request afterwards: after a
    /// [re-registration](Directory::re_register), a new device may have the number of an old one.
    pub removed: Vec<u32>,
}

/// Why a server refuses an upload. A refused upload changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// These bytes are not an upload: too long, the wrong layout, or a signature does not hold. The
    /// device has a fault, or somebody else made them.
    Invalid(Error),
    /// The list in the upload does not have this identity under this device number.
    NotListed,
    /// A newer list of the same account does not have this device: it was removed, or the manager
    /// that linked it has not uploaded yet. The device should fetch the list and see.
    Unlinked,
    /// The user has another account. If the owner lost all devices and the server's own recovery
    /// has let them in again, call [`Directory::re_register`] with the same upload.
    AccountExists,
    /// Another list of the same version is held, or the list is 2^16 versions ahead: two managers
    /// changed the list at once, or somebody else holds the account key. The device should fetch
    /// the list held.
    ForkedList,
    /// The device uploaded something newer before, or gave out higher prekey ids. Either this is a
    /// late repetition, or the device was restored from a copy: it should fetch its [`Summary`].
    OldUpload,
}

impl Directory {
    /// The most one-time sets held of a device: 1,000. Above, the oldest are dropped.
    pub const MAX_ONE_TIME: usize = Held::MAX_ONE_TIME;

    /// How many one-time sets of a device one asker gets in an hour: 32, the devices of one user.
    /// Later bundles have the last-resort key.
    pub const PER_ASKER: u8 = Held::PER_ASKER;

    /// How many one-time sets of a device all askers together get in an hour: 100.
    pub const PER_HOUR: u32 = Held::PER_HOUR;

    /// A user that is not known yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// From the rows of a user and of those devices that the request is about.
    ///
    /// A device's row is read only if the list still has that device.
    ///
    /// # Errors
    /// [`Error::BadState`]: a row is not what [`Directory::encode_user`] or
    /// [`Directory::encode_device`] made; load a backup.
    pub fn decode<'a>(
        user: &[u8],
        devices: impl IntoIterator<Item = (u32, &'a [u8])>,
    ) -> Result<Self, Error> {
        let list = DeviceList::decode(user).map_err(|_| Error::BadState)?;
        let mut held = BTreeMap::new();
        for (device, row) in devices {
            let row = Held::decode(row).map_err(|_| Error::BadState)?;
            let listed = list.get(device);
            if listed.is_some_and(|listed| listed.identity.as_bytes() == row.stamp().identity()) {
                held.insert(device, row);
            }
        }
        Ok(Self { list: Some(list), devices: held })
    }

    /// The user's row: the device list, as [`DeviceList::encode`] gives it. None before the first
    /// upload.
    #[must_use]
    pub fn encode_user(&self) -> Option<Vec<u8>> {
        self.list.as_ref().map(DeviceList::encode)
    }

    /// A device's row. None where nothing of the device was uploaded or read.
    ///
    /// ```text
    /// format:u8 = 1 || stamp:140 || hour:u64 || count:u8 (at most 100) ||
    /// count * (asker:8 || taken:u8) || prekeys (to the end: PublishedPrekeys)
    /// ```
    ///
    /// `asker` is `H("Subrosa v1 asker" || asker)[..8]`; `taken` says how many one-time sets the
    /// asker had in the hour `hour` since the Unix epoch. At most 1.7 MB.
    #[must_use]
    pub fn encode_device(&self, device: u32) -> Option<Vec<u8>> {
        self.devices.get(&device).map(Held::encode)
    }

    /// Takes in what a device uploads.
    ///
    /// - The list counts if it is newer: of one account key the higher version counts, and equal
    ///   versions must be equal lists. An older list leaves the held one in place, and the prekeys
    ///   count, as long as the held list has the device.
    /// - A list by another account key counts if it is newer, and comes from a device that both
    ///   lists have, as a manager in the old one: the account key was renewed, as happens when a
    ///   manager is removed. From any other device of the account it leaves the held list in place.
    /// - Devices that the list no longer has lose their prekeys.
    /// - An upload that was taken in before changes nothing, and an older one is refused.
    /// - A one-time prekey whose id is not above all earlier ones is left out, in [`Mode::Replace`]
    ///   too: it may have been handed out.
    ///
    /// # Errors
    /// The [`Refusal`]. It changes nothing.
    pub fn upload(&mut self, device: u32, upload: &[u8]) -> Result<Accepted, Refusal> {
        let upload = open(device, upload)?;
        let next = match &self.list {
            None => Some(upload.list()),
            Some(held) => choose(held, &upload, device)?,
        }
        .cloned();
        self.check_number(device, &upload)?;
        let mut removed = Vec::new();
        if let Some(next) = next {
            removed = self.set_list(next);
        }
        self.hold(device, upload);
        Ok(Accepted { removed })
    }

    /// Takes in the upload of a user who begins anew under the same name, with another account key.
    ///
    /// Everything of the old account is thrown away: the list, and the prekeys of all its devices.
    /// It is for the server to decide when to call this, after a recovery procedure of its own (a
    /// code by mail, say). All who wrote to the user are told of the new account key.
    ///
    /// With an upload of the account that is held, this is [`Directory::upload`].
    ///
    /// # Errors
    /// The [`Refusal`]. It changes nothing.
    pub fn re_register(&mut self, device: u32, upload: &[u8]) -> Result<Accepted, Refusal> {
        let opened = open(device, upload)?;
        if self.account().is_none_or(|account| account == opened.list().account()) {
            return self.upload(device, upload);
        }
        self.check_number(device, &opened)?;
        let removed = self.set_list(opened.list().clone());
        self.hold(device, opened);
        Ok(Accepted { removed })
    }

    /// Hands a bundle of a device to somebody: `asker` is the user who asks, as the server's login
    /// knows them. On a connection that carries no name, it is the network address that the
    /// connection comes from, in a form that no user's name has.
    ///
    /// A one-time prekey is handed out once. Above [`Directory::PER_ASKER`] or
    /// [`Directory::PER_HOUR`] one-time sets in an hour, and where none are left, the bundle has
    /// the last-resort key, so that nobody can keep others from writing to the device. Such a
    /// session is as safe except in one point: somebody who steals the device's prekeys within 67
    /// days can read what was sent before the first answer.
    ///
    /// # Errors
    /// [`NoBundle`]: no client would accept what is held. Nothing was taken.
    pub fn bundle(&mut self, device: u32, asker: &str, now: u64) -> Result<Bundle, NoBundle> {
        let listed = self.list.as_ref().and_then(|list| list.get(device));
        listed.ok_or(NoBundle::UnknownDevice)?;
        self.devices.get_mut(&device).ok_or(NoBundle::NoPrekeys)?.bundle(asker, now)
    }

    /// What the server holds of a device. The server sends it to the device at each connect.
    #[must_use]
    pub fn summary(&self, device: u32) -> Summary {
        let list = self.list.as_ref().map(|list| HeldList {
            account: list.account(),
            version: list.version(),
            digest: list.digest(),
        });
        Summary { list, prekeys: self.devices.get(&device).map(Held::summary) }
    }

    /// The user's device list, for anyone who asks.
    #[must_use]
    pub const fn list(&self) -> Option<&DeviceList> {
        self.list.as_ref()
    }

    /// The user's account key. One account key under two names is a sign of one person with two
    /// names, or of a name that is written in two ways (docs/server.md, 7).
    #[must_use]
    pub fn account(&self) -> Option<IdentityKey> {
        self.list.as_ref().map(DeviceList::account)
    }

    fn check_number(&self, device: u32, upload: &Upload) -> Result<(), Refusal> {
        let Some(held) = self.devices.get(&device).map(Held::stamp) else { return Ok(()) };
        let stamp = upload.stamp();
        let is_new =
            stamp.number() > held.number() && stamp.last_id() >= held.last_id() || stamp == held;
        if held.identity() != stamp.identity() || is_new { Ok(()) } else { Err(Refusal::OldUpload) }
    }

    /// Puts a list in the place of the one held, and returns the devices that are gone.
    fn set_list(&mut self, next: DeviceList) -> Vec<u32> {
        let stays = |device: u32, identity: &[u8; 32]| {
            next.get(device).is_some_and(|listed| listed.identity.as_bytes() == identity)
        };
        self.devices.retain(|device, held| stays(*device, held.stamp().identity()));
        let before = self.list.iter().flat_map(DeviceList::devices);
        let gone = before.filter(|listed| !stays(listed.device, listed.identity.as_bytes()));
        let gone = gone.map(|listed| listed.device).collect();
        self.list = Some(next);
        gone
    }

    fn hold(&mut self, device: u32, upload: Upload) {
        let (mode, stamp, prekeys) = upload.into_parts();
        match self.devices.get_mut(&device) {
            Some(held) if held.stamp() == &stamp => {}
            Some(held) => held.update(mode, stamp, prekeys),
            None => drop(self.devices.insert(device, Held::new(stamp, prekeys))),
        }
    }
}

/// An upload of this device.
fn open(device: u32, upload: &[u8]) -> Result<Upload, Refusal> {
    let upload = Upload::decode(upload).map_err(Refusal::Invalid)?;
    if is_listed(upload.list(), device, &upload) { Ok(upload) } else { Err(Refusal::NotListed) }
}

fn is_listed(list: &DeviceList, device: u32, upload: &Upload) -> bool {
    let identity = upload.stamp().identity();
    list.get(device).is_some_and(|listed| listed.identity.as_bytes() == identity)
}

/// The list that takes the place of the one held, if one does.
fn choose<'a>(
    held: &DeviceList,
    upload: &'a Upload,
    device: u32,
) -> Result<Option<&'a DeviceList>, Refusal> {
    let list = upload.list();
    let knows = is_listed(held, device, upload);
    if list.account() == held.account() {
        return match list.replaces(held) {
            Ok(true) => Ok(Some(list)),
            Ok(false) => Ok(None),
            Err(Error::StaleDeviceList) if knows => Ok(None),
            Err(Error::StaleDeviceList) => Err(Refusal::Unlinked),
            Err(_) => Err(Refusal::ForkedList),
        };
    }
    if !knows {
        return Err(Refusal::AccountExists);
    }
    let renews = held.get(device).is_some_and(|listed| listed.role == Role::Manager);
    Ok((renews && list.succeeds(held)).then_some(list))
}

#[cfg(test)]
mod tests;
