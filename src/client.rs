//! The durable client: an account with several devices, in a store.

use alloc::vec::Vec;

use rand_core::CryptoRng;

use crate::address::Address;
use crate::envelope::MessageId;
use crate::error::Error;
use crate::identity::IdentityKey;
use crate::sesame::Needed;
use crate::sesame::devices::DeviceList;
use crate::sesame::link::NewDevice;
use crate::store::{Store, Transaction};

mod account;
mod actions;
mod heal;
mod lists;
mod peers;
mod receive;
mod send;

pub use account::Upload;
use actions::Allowance;
pub use actions::{Actions, Rows};
pub use peers::{Safety, SessionInfo, Trust};
pub use receive::{InboxId, Incoming, Received};
pub use send::{OutboxId, Outgoing, Reached};

/// Handshakes with the devices of one user: each costs 0.4 ms, and anyone can ask for it.
const HANDSHAKES: Allowance = Allowance { kind: 1, burst: 32, period: 30 };

/// What an app may choose. The defaults will do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Policy {
    /// A session that was begun and not answered is not written in any more after so many seconds: 30 days.
    pub unanswered_expiry: u64,
    /// So many of the messages sent last are kept, to be sent again to a device that cannot read them: 1,000.
    pub log_messages: u64,
    /// They are sent again for so many seconds: 7 days.
    pub log_age: u64,
    /// The envelopes opened last of each device are remembered: 2,000. At least twice as many as another device may keep to send again.
    pub seen: u64,
    /// When the server has fewer one-time prekeys than this, more are made: 50.
    pub prekeys_low: usize,
    /// So many then: 100.
    pub prekeys_target: usize,
}

impl Default for Policy {
    fn default() -> Self {
        const DAY: u64 = 24 * 60 * 60;
        Self {
            unanswered_expiry: 30 * DAY,
            log_messages: 1_000,
            log_age: 7 * DAY,
            seen: 2_000,
            prekeys_low: 50,
            prekeys_target: 100,
        }
    }
}

/// A device of a user, with everything it knows in a store: what a chat app embeds.
///
/// One method for each intention, and each is one transaction: it happens whole, durably, or not at all. What was decrypted is in the inbox when the method
/// returns, and what was encrypted in the outbox; the app takes from them and says when it is done. So a crash anywhere loses nothing and repeats nothing.
///
/// | to | do |
/// | --- | --- |
/// | begin | [`create`](Client::create), or [`join`](Client::join) as another device; [`open`](Client::open) from then on |
/// | be reachable | when connecting and once a day: [`take_devices`](Client::take_devices) of one's own user, since another device may have linked or removed some; [`upload`](Client::upload), then [`uploaded`](Client::uploaded) |
/// | write | [`encrypt`](Client::encrypt); it says which device list or which bundles to fetch for [`take_devices`](Client::take_devices) and [`take_bundle`](Client::take_bundle) |
/// | send | each of the [`outbox`](Client::outbox), then [`sent`](Client::sent) |
/// | read | [`receive`](Client::receive) what comes; each of the [`inbox`](Client::inbox), then [`done`](Client::done) |
/// | heal | fetch what is [`needed`](Client::needed), and [`supply`](Client::supply) it |
/// | know who it is | [`safety`](Client::safety), [`verify`](Client::verify), [`accept`](Client::accept) |
/// | have several devices | [`link`](Client::link), [`remove_device`](Client::remove_device), [`devices`](Client::devices) |
///
/// The app's part is the transport: it carries envelopes to addresses, and hands out the device lists and prekeys that devices upload. It must say truly where an
/// envelope comes from only for convenience: whoever lies about it gets nothing opened.
///
/// ```
/// use subrosa::store::Memory;
/// use subrosa::{Address, Client, Error, PublishedPrekeys, Received, SystemRng};
///
/// let rng = &mut SystemRng;
/// let now = 1_800_000_000; // seconds since the Unix epoch
/// let mut alice = Client::create(Memory::new(), "alice", now, rng)?;
/// let mut bob = Client::create(Memory::new(), "bob", now, rng)?;
///
/// // Bob's device leaves its device list and prekeys with the server.
/// let upload = bob.upload(0, now, rng)?.expect("there is something to upload at first");
/// let (devices, mut prekeys) = (upload.devices.encode(), upload.prekeys.clone());
/// bob.uploaded(&upload)?;
///
/// // Alice fetches them, and writes.
/// alice.take_devices("bob", &devices)?;
/// let bundle = prekeys.take_bundle().expect("there are prekeys").encode();
/// alice.take_bundle(&Address::new("bob", 1), &bundle, now, rng)?;
/// alice.encrypt("bob", b"meet me under the rose", now, rng)?;
/// for outgoing in alice.outbox(100)? {
///     // .. the transport carries it to `outgoing.to` ..
///     bob.receive(alice.address(), &outgoing.envelope, now, rng)?;
///     alice.sent(outgoing.id)?;
/// }
///
/// for incoming in bob.inbox(100)? {
///     assert_eq!(incoming.from, Address::new("alice", 1));
///     assert_eq!(incoming.text[..], b"meet me under the rose"[..]);
///     bob.done(incoming.id)?;
/// }
/// # Ok::<(), Error>(())
/// ```
pub struct Client<S> {
    store: S,
    policy: Policy,
    address: Address,
    identity_key: IdentityKey,
}

impl<S: Store> Client<S> {
    /// A text is at most so long: 2^20 - 4,096 bytes. Larger things travel as attachments.
    pub const MAX_TEXT: usize = Actions::MAX_TEXT;

    /// Makes an account in an empty store: a new user, whose first device this is.
    ///
    /// # Errors
    /// [`Error::AccountExists`]: the store is not empty, [`Client::open`] it. [`Error::BadName`]. [`Error::Store`].
    pub fn create(store: S, user: &str, now: u64, rng: &mut impl CryptoRng) -> Result<Self, Error> {
        Self::open_when(store, |tx, policy| Actions::create(tx, policy, user, now, rng))
    }

    /// Makes this a device of the account that answered its code with a grant: see [`NewDevice`].
    ///
    /// # Errors
    /// [`Error::BadLinkCode`]: the grant answers another code. [`Error::AccountExists`]: the store is not empty. [`Error::Store`].
    pub fn join(
        store: S,
        device: &NewDevice,
        grant: &[u8],
        now: u64,
        rng: &mut impl CryptoRng,
    ) -> Result<Self, Error> {
        Self::open_when(store, |tx, policy| Actions::join(tx, policy, (device, grant), now, rng))
    }

    /// Opens the account in a store.
    ///
    /// # Errors
    /// [`Error::NoAccount`]: [`Client::create`] or [`Client::join`] one. [`Error::BadState`]; [`Error::Store`].
    pub fn open(store: S) -> Result<Self, Error> {
        Self::open_when(store, |_, _| Ok(()))
    }

    /// Opens the account once this is done, in the same transaction.
    fn open_when(
        mut store: S,
        first: impl FnOnce(&mut dyn Transaction, &Policy) -> Result<(), Error>,
    ) -> Result<Self, Error> {
        let policy = Policy::default();
        let (address, identity_key) = store.transact(|tx| {
            first(tx, &policy)?;
            Actions::within(tx, &policy, |actions| {
                Ok::<_, Error>((actions.address(), actions.identity_key()))
            })
        })?;
        Ok(Self { store, policy, address, identity_key })
    }

    /// As [`Client::open`], by an app that keeps the last [`Client::generation`] it saw in a place that backups do not reach. Where the store
    /// is older than that it was restored from a copy: then the result is true, every session is renewed before anything is sent
    /// in it (so the first messages ask for bundles), and there are new prekeys to upload. Fetch one's own device list before linking or removing a device.
    ///
    /// Without that hint a restored copy would use keys a second time until the other side notices. What it can no longer open is
    /// healed either way.
    ///
    /// # Errors
    /// As [`Client::open`].
    pub fn open_after(
        store: S,
        generation: u64,
        now: u64,
        rng: &mut impl CryptoRng,
    ) -> Result<(Self, bool), Error> {
        let mut client = Self::open(store)?;
        let restored = client.transact(|actions| actions.notice_restored(generation, now, rng))?;
        Ok((client, restored))
    }

    /// With other choices than the defaults.
    #[must_use]
    pub fn with_policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// The store.
    pub fn into_store(self) -> S {
        self.store
    }

    /// Does several intentions in one transaction: all of them happen, or none.
    ///
    /// ```
    /// # use subrosa::{Client, Error, SystemRng, store::Memory};
    /// # let (now, rng) = (1_800_000_000, &mut SystemRng);
    /// # let mut client = Client::create(Memory::new(), "alice", now, rng)?;
    /// client.transact(|actions| {
    ///     actions.encrypt("alice", b"a note to my other devices", now, rng)?;
    ///     actions.encrypt("alice", b"and another", now, rng)?;
    ///     Ok::<(), Error>(())
    /// })?;
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of `work`; [`Error::Store`].
    pub fn transact<T, E: From<Error>>(
        &mut self,
        work: impl FnOnce(&mut Actions<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let Self { store, policy, .. } = self;
        store.transact(|tx| Actions::within(tx, policy, work))
    }

    /// This device's address.
    #[must_use]
    pub const fn address(&self) -> &Address {
        &self.address
    }

    /// This device's identity key.
    #[must_use]
    pub const fn identity_key(&self) -> IdentityKey {
        self.identity_key
    }

    /// How many transactions changed the store. Goes up with each; see [`Client::open_after`].
    ///
    /// # Errors
    /// [`Error::Store`]
    pub fn generation(&mut self) -> Result<u64, Error> {
        self.transact(|actions| Ok(actions.generation()))
    }

    /// What to upload, if anything: prekeys that are due for rotation are replaced, one-time prekeys made where the server, which says it still has
    /// `on_server` sets, runs low, and a new device list is there after linking. Call it when connecting, and once a day.
    ///
    /// # Errors
    /// [`Error::Unlinked`]: this device was removed. [`Error::Exhausted`], [`Error::Store`].
    pub fn upload(
        &mut self,
        on_server: usize,
        now: u64,
        rng: &mut impl CryptoRng,
    ) -> Result<Option<Upload>, Error> {
        self.transact(|actions| actions.upload(on_server, now, rng))
    }

    /// The server has it. Until this is said, [`Client::upload`] gives the same again.
    ///
    /// # Errors
    /// [`Error::Store`]
    pub fn uploaded(&mut self, upload: &Upload) -> Result<(), Error> {
        self.transact(|actions| actions.uploaded(upload))
    }

    /// Takes in a user's device list, as the server has it. The first one is believed (*first use*); later ones must be newer, and
    /// signed by the same account key. One by another account key is kept aside: [`Client::safety`] shows it, and nothing is sent
    /// to the user until [`Client::accept`].
    ///
    /// # Errors
    /// [`Error::StaleDeviceList`]: the server is behind; nothing to do. [`Error::ForkedDeviceList`]: somebody else signs with the
    /// account's key. [`Error::BadSignature`], [`Error::InvalidKey`], [`Error::Malformed`]: it is not one. [`Error::BadName`],
    /// [`Error::Store`].
    pub fn take_devices(&mut self, user: &str, list: &[u8]) -> Result<(), Error> {
        self.transact(|actions| actions.take_devices(user, list))
    }

    /// The device list of a user, as far as known.
    ///
    /// # Errors
    /// [`Error::BadName`], [`Error::Store`]
    pub fn devices(&mut self, user: &str) -> Result<Option<DeviceList>, Error> {
        self.transact(|actions| actions.devices(user))
    }

    /// Takes in a bundle of a device: there is a session with it then, in which the next message is written.
    ///
    /// # Errors
    /// [`Error::UnknownDevice`]: the device list says otherwise; fetch it again. [`Error::DevicesNeeded`], [`Error::IdentityChanged`]. [`Error::StaleBundle`],
    /// [`Error::BadSignature`], ..: fetch another. [`Error::Store`].
    pub fn take_bundle(
        &mut self,
        of: &Address,
        bundle: &[u8],
        now: u64,
        rng: &mut impl CryptoRng,
    ) -> Result<(), Error> {
        self.transact(|actions| actions.take_bundle(of, bundle, now, rng))
    }

    /// Encrypts a text for all devices of a user, and a copy for each of one's own other devices, into the outbox.
    ///
    /// # Errors
    /// Nothing changed. [`Error::DevicesNeeded`]: give the user's device list. [`Error::BundlesNeeded`]: give a bundle of each
    /// device named, or use [`Client::encrypt_to_reachable`]. Then repeat the call. [`Error::IdentityChanged`]: have it accepted.
    /// [`Error::TooLong`]: more than [`Client::MAX_TEXT`]. [`Error::Unlinked`], [`Error::BadName`], [`Error::Store`].
    pub fn encrypt(
        &mut self,
        to: &str,
        text: &[u8],
        now: u64,
        rng: &mut impl CryptoRng,
    ) -> Result<MessageId, Error> {
        self.transact(|actions| actions.encrypt(to, text, now, rng))
    }

    /// As [`Client::encrypt`], for the devices that there are sessions with: where the server has no bundle of the others, since they
    /// never uploaded any, or have no room for the answer.
    ///
    /// # Errors
    /// As [`Client::encrypt`]; [`Error::BundlesNeeded`] where it would be for no device of the user.
    pub fn encrypt_to_reachable(
        &mut self,
        to: &str,
        text: &[u8],
        now: u64,
        rng: &mut impl CryptoRng,
    ) -> Result<Reached, Error> {
        self.transact(|actions| actions.encrypt_to_reachable(to, text, now, rng))
    }

    /// The envelopes that are to be sent, at most `most`, the oldest first. They stay until [`Client::sent`].
    ///
    /// # Errors
    /// [`Error::Store`]
    pub fn outbox(&mut self, most: usize) -> Result<Vec<Outgoing>, Error> {
        self.transact(|actions| actions.outbox(most))
    }

    /// The server has an envelope: it leaves the outbox. To send one twice does no harm.
    ///
    /// # Errors
    /// [`Error::Store`]
    pub fn sent(&mut self, id: OutboxId) -> Result<(), Error> {
        self.transact(|actions| actions.sent(id))
    }

    /// Opens an envelope that comes, as the transport says, `from` there. What was written is in the inbox when this returns; acknowledge the
    /// envelope to the server then, unless it is refused as [`Error::RateLimited`]. A forgery is not an error but [`Received::Refused`].
    ///
    /// # Errors
    /// [`Error::Store`], [`Error::BadState`]: do not acknowledge it.
    pub fn receive(
        &mut self,
        from: &Address,
        envelope: &[u8],
        now: u64,
        rng: &mut impl CryptoRng,
    ) -> Result<Received, Error> {
        self.transact(|actions| actions.receive(from, envelope, now, rng))
    }

    /// The messages that the app has not taken yet, at most `most`, the oldest first. They stay until [`Client::done`].
    ///
    /// # Errors
    /// [`Error::Store`]
    pub fn inbox(&mut self, most: usize) -> Result<Vec<Incoming>, Error> {
        self.transact(|actions| actions.inbox(most))
    }

    /// The app has a message safe: it leaves the inbox.
    ///
    /// # Errors
    /// [`Error::Store`]
    pub fn done(&mut self, id: InboxId) -> Result<(), Error> {
        self.transact(|actions| actions.done(id))
    }

    /// What should be fetched, at most `most`: bundles of devices that are to be asked for messages, for [`Client::take_bundle`]; device lists, for
    /// [`Client::take_devices`].
    ///
    /// # Errors
    /// [`Error::Store`]
    pub fn needed(&mut self, most: usize) -> Result<Vec<Needed>, Error> {
        self.transact(|actions| actions.needed(most))
    }

    /// What was found at the server of what is needed: a bundle or a device list; none, where it has none, which gives it up.
    ///
    /// # Errors
    /// As [`Client::take_bundle`] and [`Client::take_devices`].
    pub fn supply(
        &mut self,
        needed: &Needed,
        found: Option<&[u8]>,
        now: u64,
        rng: &mut impl CryptoRng,
    ) -> Result<(), Error> {
        self.transact(|actions| actions.supply(needed, found, now, rng))
    }

    /// What is needed cannot be had: the server does not know it. What was to be asked for is given up.
    ///
    /// # Errors
    /// [`Error::Store`]
    pub fn give_up(&mut self, needed: &Needed) -> Result<(), Error> {
        self.transact(|actions| actions.give_up(needed))
    }

    /// What is known of who a user is. None for a user of whom there is no device list.
    ///
    /// # Errors
    /// [`Error::BadName`], [`Error::Store`]
    pub fn safety(&mut self, user: &str) -> Result<Option<Safety>, Error> {
        self.transact(|actions| actions.safety(user))
    }

    /// The people compared their account keys, and this is the user's.
    ///
    /// # Errors
    /// [`Error::IdentityChanged`]: it is not the one known. [`Error::DevicesNeeded`], [`Error::Store`].
    pub fn verify(&mut self, user: &str, account: &IdentityKey) -> Result<(), Error> {
        self.transact(|actions| actions.verify(user, account))
    }

    /// The user's new account key is accepted: [`Safety::changed_to`]. Sessions with devices that it does not certify end.
    ///
    /// # Errors
    /// [`Error::IdentityChanged`]: it is another one by now. [`Error::DevicesNeeded`], [`Error::Store`].
    pub fn accept(&mut self, user: &str, account: &IdentityKey) -> Result<(), Error> {
        self.transact(|actions| actions.accept(user, account))
    }

    /// The sessions with a user's devices.
    ///
    /// # Errors
    /// [`Error::BadName`], [`Error::Store`]
    pub fn sessions(&mut self, user: &str, now: u64) -> Result<Vec<SessionInfo>, Error> {
        self.transact(|actions| actions.sessions(user, now))
    }

    /// Writes no more in the sessions with a device: the next message to it takes a bundle. What is still on the way can be read.
    ///
    /// # Errors
    /// [`Error::BadName`], [`Error::Store`]
    pub fn reset(&mut self, with: &Address) -> Result<(), Error> {
        self.transact(|actions| actions.reset(with))
    }

    /// Forgets a user: sessions, device list, and that the account key was ever seen.
    ///
    /// # Errors
    /// [`Error::NotPermitted`]: of oneself. [`Error::BadName`], [`Error::Store`].
    pub fn forget(&mut self, user: &str) -> Result<(), Error> {
        self.transact(|actions| actions.forget(user))
    }

    /// Adds the device that shows this code to the account, and returns the grant for it. A `manager` gets the account key, and can link and remove
    /// devices as well. Take in one's own device list before, and upload afterwards: where two managers change the list at once, the one whose list
    /// comes late has to be told by a further change (remove what it linked, and link again).
    ///
    /// # Errors
    /// [`Error::BadLinkCode`]: mistyped. [`Error::NotPermitted`]: this device does not hold the account key. [`Error::AccountExists`]: the device is
    /// linked already. [`Error::Exhausted`]: 32 devices are. [`Error::Store`].
    pub fn link(
        &mut self,
        code: &str,
        manager: bool,
        now: u64,
        rng: &mut impl CryptoRng,
    ) -> Result<Vec<u8>, Error> {
        self.transact(|actions| actions.link(code, manager, now, rng))
    }

    /// Removes a device from the account. Upload afterwards: the device list is new.
    ///
    /// A manager that is removed still knows the account key, so the account gets a new one: the other managers are sent it, and others
    /// see that it changed, and have to accept it.
    ///
    /// # Errors
    /// [`Error::NotPermitted`]: this device does not hold the account key, or is the one. [`Error::UnknownDevice`], [`Error::Store`].
    pub fn remove_device(&mut self, device: u32, now: u64, rng: &mut impl CryptoRng) -> Result<(), Error> {
        self.transact(|actions| actions.remove_device(device, now, rng))
    }
}

/// Shows nothing of what is in the store.
impl<S> core::fmt::Debug for Client<S> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Client").field("policy", &self.policy).finish_non_exhaustive()
    }
}
