//! Users, their devices, and the sessions with each (Sesame, 3).

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::at_rest;
use crate::devices::{self, DeviceList, ListStamp, Role};
use crate::error::Error;
use crate::identity::{self, IdentityKey};
use crate::time::UnixTime;

mod device_record;

pub(crate) use device_record::{AnswerIn, AskIn, Asked, DeviceRecord, short};

/// What is known of a user.
#[derive(Serialize, Deserialize)]
pub(crate) struct UserRecord {
    pub(crate) name: String,
    pub(crate) mark: Mark,
    /// It changes by [`UserRecord::replace`] alone.
    #[serde(with = "devices::checked")]
    pub(crate) list: DeviceList,
    /// Of the list: every message names it.
    stamp: ListStamp,
    /// A list by another account key, which nobody has accepted yet. In a box: where there is none,
    /// the room for it would hold what the stack held before.
    pub(crate) pending: Option<Box<Pending>>,
    /// The account keys before this one, the newest last: a list by one of them is old.
    replaced: Vec<Replaced>,
    /// The account keys that a person decided against, the newest last.
    dismissed: Vec<Dismissed>,
    /// Devices that were removed lately.
    gone: Vec<Gone>,
    /// Devices that a list which waited, or waits, does not have, and those that were added while
    /// one waits. They stay in doubt until somebody decides: a removed device could bring a list of
    /// its own making that has it again, and add another one by the key that it still has.
    doubted: Vec<Doubted>,
    /// Nothing but a sealed message says who the user is. The version of the stored form says so.
    #[serde(skip)]
    pub(crate) unvouched: bool,
}

/// What people said of the account key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Mark {
    /// Nothing.
    Unset,
    /// They compared it.
    Verified,
    /// They took back that they compared it. No other device of the account can set it again: a
    /// stolen one would.
    Withdrawn,
}

/// What is known of who a user is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Trust {
    /// The account key is the one that was seen first. Nobody has compared it.
    FirstUse,
    /// People compared the account key.
    Verified,
    /// Nobody vouches for this author: the account key is another one than before and was not
    /// accepted, or the device is not listed any more.
    Unaccepted,
    /// The author wrote first, in a sealed message, and nobody but that message says who it is.
    /// Nothing is written to the user until the server's device list has that account key, or
    /// people compared it.
    Unvouched,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Pending(#[serde(with = "devices::checked")] pub(crate) DeviceList);

#[derive(Serialize, Deserialize)]
struct Doubted(#[serde(with = "identity::checked")] IdentityKey);

#[derive(Serialize, Deserialize)]
struct Replaced(#[serde(with = "identity::checked")] IdentityKey);

#[derive(Serialize, Deserialize)]
struct Dismissed(#[serde(with = "identity::checked")] IdentityKey);

/// A device that was removed.
#[derive(Serialize, Deserialize)]
struct Gone {
    device: u32,
    #[serde(with = "identity::checked")]
    identity: IdentityKey,
    since: UnixTime,
}

/// What the lists say of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Every list has it.
    Listed,
    /// The accepted list has it; one that waits, or waited in the place of that one, does not.
    Doubted,
    /// Only the pending list has it.
    Pending,
    /// It was removed lately.
    Removed,
    /// No list has it.
    Unknown,
}

/// What a list brought in the place of another one.
pub(crate) struct Changes {
    /// The devices that are new.
    pub(crate) added: Vec<u32>,
    /// Removed devices that are not remembered any more: nothing else would name their rows.
    pub(crate) forgotten: Vec<IdentityKey>,
}

/// The versions of the stored form: of a user, and of one whom nobody vouches for.
const VERSION: u8 = 1;
const UNVOUCHED: u8 = 2;

/// Replaced account keys that are remembered.
const MAX_REPLACED: usize = 16;

/// Dismissed account keys that are remembered.
const MAX_DISMISSED: usize = 4;

/// Removed devices that are remembered.
const MAX_GONE: usize = 32;

/// Seconds for which mail of a removed device can still be read: 7 days.
pub(crate) const GRACE: u64 = 7 * 24 * 60 * 60;

impl UserRecord {
    pub(crate) fn new(name: &str, list: DeviceList) -> Self {
        Self {
            name: name.into(),
            mark: Mark::Unset,
            stamp: list.stamp(),
            list,
            pending: None,
            replaced: Vec::new(),
            dismissed: Vec::new(),
            gone: Vec::new(),
            doubted: Vec::new(),
            unvouched: false,
        }
    }

    /// Which list is known.
    pub(crate) const fn stamp(&self) -> ListStamp {
        self.stamp
    }

    /// Whether nothing is written to the user for now: a person decides about the account key, or
    /// the server is asked for it.
    pub(crate) const fn waits(&self) -> bool {
        self.pending.is_some() || self.unvouched
    }

    /// Keeps a list by another account key until somebody decides about it.
    pub(crate) fn wait(&mut self, pending: DeviceList) {
        for listed in self.list.devices() {
            if pending.device_of(&listed.identity).is_none() && !self.is_doubted(&listed.identity) {
                self.doubted.push(Doubted(listed.identity));
            }
        }
        self.pending = Some(Box::new(Pending(pending)));
    }

    /// The list that waits, where another one is by neither its account key nor the known one.
    pub(crate) fn waits_instead_of(&self, list: &DeviceList) -> Option<&DeviceList> {
        let waits = self.pending.as_deref().map(|Pending(waits)| waits);
        let is_other = |one: &DeviceList| one.account() != list.account();
        waits.filter(|waits| is_other(waits) && is_other(&self.list))
    }

    /// Takes the list that waited, since somebody decides about it.
    pub(crate) fn decide(&mut self) -> Option<DeviceList> {
        self.doubted.clear();
        self.pending.take().map(|waits| waits.0)
    }

    /// Remembers that a person decided against an account key.
    pub(crate) fn dismiss(&mut self, account: IdentityKey) {
        self.dismissed.retain(|dismissed| dismissed.0 != account);
        self.dismissed.push(Dismissed(account));
        self.dismissed.drain(..self.dismissed.len().saturating_sub(MAX_DISMISSED)).for_each(drop);
    }

    /// Whether a person decided against an account key. What the user's devices enclose does not
    /// bring it back: mail of before the decision would, each time that it is looked at. The server
    /// may show it again, since people dismiss the right key by mistake.
    pub(crate) fn has_dismissed(&self, account: &IdentityKey) -> bool {
        self.dismissed.iter().any(|dismissed| dismissed.0 == *account)
    }

    /// Whether an account key is the user's, or waits to be, or was, or people decided against it.
    pub(crate) fn has_seen(&self, account: &IdentityKey) -> bool {
        let waits = self.pending.as_deref().map(|Pending(list)| list.account());
        self.list.account() == *account || waits == Some(*account) || self.is_former(account)
    }

    /// Whether an account key was the user's before another one, or people decided against it.
    pub(crate) fn is_former(&self, account: &IdentityKey) -> bool {
        self.replaced.iter().any(|replaced| replaced.0 == *account) || self.has_dismissed(account)
    }

    /// Whether a list that waits, or waited in the place of that one, does not have a device, or it
    /// was added meanwhile.
    pub(crate) fn is_doubted(&self, identity: &IdentityKey) -> bool {
        self.doubted.iter().any(|doubted| doubted.0 == *identity)
    }

    /// What is known of the accepted account key.
    pub(crate) const fn trust(&self) -> Trust {
        match (self.unvouched, self.mark) {
            (true, _) => Trust::Unvouched,
            (false, Mark::Verified) => Trust::Verified,
            (false, Mark::Unset | Mark::Withdrawn) => Trust::FirstUse,
        }
    }

    /// Puts a list in the place of the one known. A list by another account key ends what the old
    /// key can say.
    pub(crate) fn replace(&mut self, list: DeviceList, now: UnixTime) -> Changes {
        if list.account() != self.list.account() {
            self.replaced.push(Replaced(self.list.account()));
            self.replaced.drain(..self.replaced.len().saturating_sub(MAX_REPLACED)).for_each(drop);
        }
        for listed in self.list.devices() {
            if list.device_of(&listed.identity).is_none() {
                let (device, identity) = (listed.device, listed.identity);
                self.gone.retain(|gone| gone.identity != identity);
                self.gone.push(Gone { device, identity, since: now });
            }
        }
        let mut forgotten = self.forget_gone(now);
        let too_many = self.gone.len().saturating_sub(MAX_GONE);
        forgotten.extend(self.gone.drain(..too_many).map(|gone| gone.identity));
        // One that is listed again is in.
        forgotten.retain(|identity| list.device_of(identity).is_none());
        self.doubted.retain(|doubted| list.device_of(&doubted.0).is_some());
        self.dismissed.retain(|dismissed| dismissed.0 != list.account());
        let is_new = |identity: &IdentityKey| self.list.device_of(identity).is_none();
        let new = list.devices().iter().filter(|listed| is_new(&listed.identity));
        if self.pending.is_some() {
            self.doubted.extend(new.clone().map(|listed| Doubted(listed.identity)));
        }
        let added = new.map(|listed| listed.device).collect();
        self.stamp = list.stamp();
        self.list = list;
        Changes { added, forgotten }
    }

    /// Whether a key is an old one for certain, since people compared the one after it. Without
    /// that, a wrong key that was accepted by mistake would silence the right one.
    pub(crate) fn has_replaced(&self, account: &IdentityKey) -> bool {
        self.mark == Mark::Verified && self.replaced.iter().any(|replaced| replaced.0 == *account)
    }

    /// What the lists say of an identity under a device number.
    pub(crate) fn standing(&self, device: u32, identity: &IdentityKey, now: UnixTime) -> Standing {
        let is_in = |list: &DeviceList| {
            list.device_of(identity).is_some_and(|listed| listed.device == device)
        };
        let in_pending = self.pending.as_deref().map(|Pending(list)| is_in(list));
        let is_gone = |gone: &Gone| {
            gone.device == device && gone.identity == *identity && now.since(gone.since) <= GRACE
        };
        match (is_in(&self.list), in_pending) {
            (true, None) => Standing::Listed,
            (true, Some(true)) if !self.is_doubted(identity) => Standing::Listed,
            (true, Some(_)) => Standing::Doubted,
            (false, Some(true)) => Standing::Pending,
            (false, None | Some(false)) if self.gone.iter().any(is_gone) => Standing::Removed,
            (false, None | Some(false)) => Standing::Unknown,
        }
    }

    /// The identities that a device of this number may have, the accepted one first.
    pub(crate) fn candidates(&self, device: u32) -> Vec<IdentityKey> {
        let listed = |list: &DeviceList| list.get(device).map(|listed| listed.identity);
        let pending = self.pending.as_deref().and_then(|Pending(list)| listed(list));
        let gone = self.gone.iter().filter(|gone| gone.device == device).map(|gone| gone.identity);
        let mut all: Vec<IdentityKey> = listed(&self.list).into_iter().chain(pending).collect();
        all.extend(gone);
        let mut seen = Vec::new();
        all.retain(|identity| {
            let is_first = !seen.contains(identity);
            seen.push(*identity);
            is_first
        });
        all
    }

    /// Whether a list has a device of this number.
    pub(crate) fn is_known(&self, device: u32) -> bool {
        let pending =
            self.pending.as_deref().is_some_and(|Pending(list)| list.get(device).is_some());
        pending || self.list.get(device).is_some()
    }

    /// The devices of its lists, and those that were removed lately.
    pub(crate) fn identities(&self) -> impl Iterator<Item = IdentityKey> {
        let pending = self.pending.iter().map(|pending| &pending.0);
        let lists = core::iter::once(&self.list).chain(pending);
        let listed = lists.flat_map(DeviceList::devices).map(|listed| listed.identity);
        listed.chain(self.gone.iter().map(|gone| gone.identity))
    }

    /// Whether a list has this identity, under whatever number, or had it lately.
    pub(crate) fn knows(&self, identity: &IdentityKey) -> bool {
        self.identities().any(|known| known == *identity)
    }

    /// Since when a device is known to be removed.
    pub(crate) fn gone_since(&self, identity: &IdentityKey) -> Option<UnixTime> {
        self.gone.iter().find(|gone| gone.identity == *identity).map(|gone| gone.since)
    }

    /// Whether devices were removed lately.
    pub(crate) const fn has_gone(&self) -> bool {
        !self.gone.is_empty()
    }

    /// Since when the first of them is known to be removed.
    pub(crate) fn first_gone(&self) -> Option<UnixTime> {
        self.gone.iter().map(|gone| gone.since).min()
    }

    /// The devices without the account key that were removed lately and are listed again: somebody
    /// made the list who did not know.
    pub(crate) fn returned(&self) -> Vec<u32> {
        let listed = self.list.devices().iter().filter(|listed| {
            listed.role == Role::Device
                && self.gone.iter().any(|gone| gone.identity == listed.identity)
        });
        listed.map(|listed| listed.device).collect()
    }

    /// Forgets the devices whose grace has ended, and returns those that are not listed again.
    pub(crate) fn forget_gone(&mut self, now: UnixTime) -> Vec<IdentityKey> {
        let ended = |gone: &Gone| now.since(gone.since) > GRACE;
        let is_listed = |gone: &Gone| self.list.device_of(&gone.identity).is_some();
        let identities = self
            .gone
            .iter()
            .filter(|gone| ended(gone) && !is_listed(gone))
            .map(|gone| gone.identity)
            .collect();
        self.gone.retain(|gone| !ended(gone));
        identities
    }

    pub(crate) fn encode(&self) -> Zeroizing<Vec<u8>> {
        let version = if self.unvouched { UNVOUCHED } else { VERSION };
        at_rest::state::encode(version, self, 7_456)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let unvouched = bytes.first() == Some(&UNVOUCHED);
        let version = if unvouched { UNVOUCHED } else { VERSION };
        Ok(Self { unvouched, ..at_rest::state::decode(version, bytes)? })
    }
}
