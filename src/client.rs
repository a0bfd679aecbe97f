//! The durable client: an account with several devices, in a store.
//!
//! Each room below holds the documents, the public methods and the bodies of its intentions. A
//! body is a free function over the open transaction, and calls rooms below it alone.

use alloc::sync::Arc;
use alloc::vec::Vec;

use rand_core::CryptoRng;

use crate::address::Address;
use crate::certificate::ServerKey;
use crate::crypto::stack;
use crate::error::Error;
use crate::identity::IdentityKey;
use crate::link::NewDevice;
use crate::store::{Store, Transaction};
use crate::time::UnixTime;

mod account;
mod admission;
mod allowances;
mod aside;
mod asking;
mod backoff;
mod bundles;
mod calls;
mod ceremonies;
mod certificates;
mod compare;
mod complete;
mod delivery;
mod devices;
mod doors;
mod events;
mod expiry;
#[cfg(feature = "std")]
mod export;
mod group_changes;
mod group_envelopes;
mod group_events;
mod group_found;
mod group_intentions;
mod group_keys;
mod group_members;
mod group_out;
mod group_outs;
mod group_owed;
mod group_parts;
mod group_preview;
mod group_proposals;
mod group_proposed;
mod group_receive;
mod group_rows;
mod group_send;
mod group_serve;
mod group_texts;
mod groups;
mod heal;
mod history;
#[cfg(feature = "std")]
mod import;
mod inbox;
mod linked;
mod log;
mod messages;
mod moves;
mod next_due;
mod offer;
mod opening;
mod outbox;
mod outgoing;
mod prekeys;
mod receive;
#[cfg(feature = "std")]
mod restore;
mod rows;
mod seen;
mod send;
mod silence;
mod take_in;
mod tasks;
mod telling;
mod tickets;
mod timers;
mod transaction;
mod trust;
mod upload;
mod verify;
mod wants;
mod work;

pub use doors::Pass;
pub use events::{EnvelopeId, Event, FounderRole, GroupEvent, SasEnd};
#[cfg(feature = "std")]
pub use export::Contents;
pub use group_events::VoidedChange;
pub use group_found::Admins;
pub use group_intentions::GroupIntention;
pub use group_preview::GroupPreview;
pub use group_proposals::Proposal;
pub use group_rows::GroupStanding;
pub use groups::{Continued, GroupChange, GroupInfo, MemberInfo};
pub use inbox::{GroupText, InboxId, Incoming, Item, Text};
pub use messages::Progress;
pub use offer::HistoryOffer;
pub use outgoing::Outgoing;
pub use rows::Rows;
pub use take_in::Received;
pub use tasks::{Action, Answer, Completed, Task, TaskId};
pub use transaction::Open;
pub use trust::{SessionInfo, UserTrust};
pub use verify::Audit;

use tasks::Check;
use transaction::Account;

/// What an app may choose. The defaults will do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Policy {
    /// Seconds after which an unanswered session is no longer used for sending: 30 days.
    pub unanswered_expiry: u64,
    /// Texts to one user that are kept, to be sent again to a device that cannot open them: 1,000.
    pub log_messages: u64,
    /// Bytes of those: 16 MiB.
    pub log_bytes: u64,
    /// Seconds for which they are kept: 7 days. Then they are deleted, but for those that have not
    /// left, and sealed ones that a device may be unable to read, until they were sent again
    /// (docs/sealed.md, section 5).
    pub log_age: u64,
    /// Envelopes of each device that are remembered as opened: 2,000. It should be at least twice
    /// what the other side keeps in its log.
    pub seen: u64,
    /// Refill one-time prekeys when the server has fewer than this: 50.
    pub prekeys_low: usize,
    /// Refill target: 100.
    pub prekeys_target: usize,
    /// Seconds after which what cannot be had is given up: 30 days. It was tried for some hours
    /// then, however long the device was off.
    pub give_up_after: u64,
    /// Whether the server learns who sends: it does, unless the app asks for sealed mail.
    pub delivery: Delivery,
    /// Servers whose word the app takes for who a user is ([`SenderCertificate`]): none.
    ///
    /// [`SenderCertificate`]: crate::SenderCertificate
    pub trusted_servers: Vec<ServerKey>,
    /// Whether the server takes sealed mail for this account with its [`Pass`] alone: no. Then
    /// strangers can write to it openly alone.
    pub requires_pass: bool,
}

/// Whether the server learns who sends an envelope.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Delivery {
    /// The transport says who sends.
    #[default]
    Open,
    /// Nobody but the receiver learns who sends ([`Action::SendSealed`]). Nothing is ever sent
    /// openly in its place, but by [`Client::deliver`]. An app turns it on for all its users: a
    /// device that sends openly gives no tickets, and each text to it begins a session.
    Sealed,
}

impl Default for Policy {
    fn default() -> Self {
        const DAY: u64 = 24 * 60 * 60;
        Self {
            unanswered_expiry: 30 * DAY,
            log_messages: 1_000,
            log_bytes: 16 << 20,
            log_age: 7 * DAY,
            seen: 2_000,
            prekeys_low: 50,
            prekeys_target: 100,
            give_up_after: 30 * DAY,
            delivery: Delivery::Open,
            trusted_servers: Vec::new(),
            requires_pass: false,
        }
    }
}

/// A device of a user, with everything it knows in a store: what a chat app embeds.
///
/// One method for each intention, and each is one transaction: it happens whole and durably, or not
/// at all. What was decrypted is in the inbox when the method returns, and what was encrypted in
/// the outbox; both stay until the app says that it has them. So a crash anywhere loses nothing and
/// repeats nothing.
///
/// | to | do |
/// | --- | --- |
/// | begin | [`create`](Client::create), or [`join`](Client::join) as another device; [`open`](Client::open) from then on |
/// | write | [`write`](Client::write); [`progress`](Client::progress), [`withdraw`](Client::withdraw) |
/// | use the network | do the [`tasks`](Client::tasks), and [`complete`](Client::complete) each; sleep until [`next_due`](Client::next_due) |
/// | read | [`receive`](Client::receive) what comes; show the [`inbox`](Client::inbox), and [`acknowledge`](Client::acknowledge) |
/// | talk in groups | [`create_group`](Client::create_group), [`change_group`](Client::change_group), [`join_group`](Client::join_group), [`write_to_group`](Client::write_to_group); [`preview_change`](Client::preview_change), [`continue_group`](Client::continue_group) |
/// | know who it is | [`trust`](Client::trust), [`verify`](Client::verify), [`accept_new_key`](Client::accept_new_key) |
/// | hide from the server who writes | [`Policy::delivery`], [`deliver`](Client::deliver), [`block`](Client::block) |
/// | keep a backup | `export`; `restore` in an empty store, `import` in a client (feature `std`) |
/// | compare keys | [`safety_number`](Client::safety_number); [`show_code`](Client::show_code), [`scan`](Client::scan); [`start_sas`](Client::start_sas), [`accept_sas`](Client::accept_sas) |
/// | call | [`signal`](Client::signal), [`take_signals`](Client::take_signals), [`call_members`](Client::call_members); feature `calls` has the keys and frames |
/// | have several devices | [`link`](Client::link), [`remove_device`](Client::remove_device), [`devices`](Client::devices) |
///
/// The app's part is the transport: it does what the tasks say, and carries envelopes to addresses.
///
/// ```
/// use subrosa::directory::Directory;
/// use subrosa::store::Memory;
/// use subrosa::{Action, Answer, Client, Error, Item, SystemRng, UnixTime};
///
/// let (rng, now) = (&mut SystemRng, UnixTime::now()?);
/// let mut alice = Client::create(Memory::new(), "alice", now, rng)?;
/// let mut bob = Client::create(Memory::new(), "bob", now, rng)?;
/// alice.write("bob", b"meet me under the rose", now, rng)?;
///
/// // A server keeps a directory of each user, and a mailbox of each device.
/// let mut servers = [Directory::new(), Directory::new()];
/// let mut mail = Vec::new();
/// for client in [&mut bob, &mut alice] {
///     loop {
///         let tasks = client.tasks(100, now, rng)?;
///         if tasks.is_empty() {
///             break;
///         }
///         for task in tasks {
///             let own = usize::from(client.address().user == "bob");
///             let (bytes, from) = (&mut Vec::new(), client.address().clone());
///             let answer = match task.action {
///                 Action::FetchSummary => {
///                     *bytes = servers[own].summary(1).encode();
///                     Answer::Summary(bytes)
///                 }
///                 Action::Upload(upload) => {
///                     servers[own].upload(1, &upload).expect("it is the first of this user");
///                     Answer::Done
///                 }
///                 Action::FetchDevices(_) => {
///                     *bytes = servers[1].list().expect("bob has uploaded").encode();
///                     Answer::Devices(bytes)
///                 }
///                 Action::FetchBundle(of) => {
///                     let bundle = servers[1].bundle(of.device, "alice", now.as_secs());
///                     *bytes = bundle.expect("bob has uploaded").encode();
///                     Answer::Bundle(bytes)
///                 }
///                 Action::Send { to, envelope, .. } => {
///                     mail.push((from, to, envelope));
///                     Answer::Done
///                 }
///                 _ => Answer::Failed,
///             };
///             client.complete(&task.id, answer, now, rng)?;
///         }
///     }
/// }
///
/// for (from, _, envelope) in mail {
///     bob.receive(Some(&from), &envelope, now, rng)?;
/// }
/// for incoming in bob.inbox(100)? {
///     match &incoming.item {
///         Item::Text(text) => assert_eq!(text.text[..], b"meet me under the rose"[..]),
///         other => println!("{other:?}"), // nothing else says what it says
///     }
///     bob.acknowledge(incoming.id)?;
/// }
/// # Ok::<(), Error>(())
/// ```
pub struct Client<S> {
    scope: S,
    policy: Policy,
    account: Arc<Account>,
    address: Address,
    check: Check,
}

/// Where a client does its intentions: in a store, a transaction each; or in a transaction that is
/// open already.
///
/// Every [`Store`] is one, and so is [`Open`].
pub trait Scope: sealed::Sealed {
    /// Does one intention.
    #[doc(hidden)]
    fn intend<T>(
        &mut self,
        context: sealed::Context<'_>,
        work: impl FnOnce(&mut Open<'_>) -> Result<T, Error>,
    ) -> Result<T, Error>;
}

mod sealed {
    use super::{Account, Arc, Policy};

    pub trait Sealed {}

    impl<S: super::Store> Sealed for S {}

    impl Sealed for super::Open<'_> {}

    /// What a client knows of its account outside a transaction.
    pub struct Context<'c> {
        pub(in crate::client) policy: &'c Policy,
        pub(in crate::client) account: &'c Arc<Account>,
    }

    /// Shows nothing of it.
    impl core::fmt::Debug for Context<'_> {
        fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
            f.write_str("Context")
        }
    }
}

impl<S: Store> Scope for S {
    fn intend<T>(
        &mut self,
        context: sealed::Context<'_>,
        work: impl FnOnce(&mut Open<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.transact(|tx| {
            let mut open = Open::begin(tx, context.policy, Arc::clone(context.account))?;
            let done = work(&mut open)?;
            open.finish()?;
            Ok(done)
        })
    }
}

impl Scope for Open<'_> {
    fn intend<T>(
        &mut self,
        _: sealed::Context<'_>,
        work: impl FnOnce(&mut Open<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        work(self)
    }
}

impl<S: Store> Client<S> {
    /// Makes an account in an empty store: a new user, whose first device this is.
    ///
    /// `user` is the app's name for the user. Names are compared byte for byte: "Bob" and "bob", or
    /// two Unicode forms of one name, are different users. Let the server normalise names before it
    /// registers them.
    ///
    /// # Errors
    /// [`Error::AccountExists`]: the store is not empty, [`Client::open`] it. [`Error::BadName`].
    /// [`Error::Store`].
    pub fn create(
        mut store: S,
        user: &str,
        now: UnixTime,
        rng: &mut dyn CryptoRng,
    ) -> Result<Self, Error> {
        let policy = Policy::default();
        let account = store.transact(|tx| {
            account::create(tx, &policy, user, now, rng)?;
            Account::load(tx)
        })?;
        Ok(Self::over(store, account))
    }

    /// Makes this a device of the account that answered its code with a grant: see [`NewDevice`].
    ///
    /// # Errors
    /// [`Error::BadLinkCode`]: the grant answers another code. [`Error::AccountExists`]: the store
    /// is not empty. [`Error::Store`].
    pub fn join(
        mut store: S,
        device: &NewDevice,
        grant: &[u8],
        now: UnixTime,
        rng: &mut dyn CryptoRng,
    ) -> Result<Self, Error> {
        let policy = Policy::default();
        let account = store.transact(|tx| {
            account::join(tx, &policy, device, grant, now, rng)?;
            Account::load(tx)
        })?;
        Ok(Self::over(store, account))
    }

    /// Opens the account in a store.
    ///
    /// ```
    /// # use subrosa::{Client, Error, SystemRng, UnixTime, store::Memory};
    /// # let (now, rng, mut store) = (UnixTime::now()?, &mut SystemRng, Memory::new());
    /// let is_new = matches!(Client::open(&mut store), Err(Error::NoAccount));
    /// let client = match is_new {
    ///     true => Client::create(store, "alice", now, rng)?,
    ///     false => Client::open(store)?,
    /// };
    /// # assert_eq!(client.address().user, "alice");
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::NoAccount`]: [`Client::create`] or [`Client::join`] one. [`Error::BadState`]: the
    /// store is damaged. [`Error::Store`]; with
    /// [`StoreFault::Newer`](crate::store::StoreFault::Newer), a later version of this crate wrote
    /// it.
    pub fn open(mut store: S) -> Result<Self, Error> {
        let account = store.transact(|tx| Account::load(tx))?;
        Ok(Self::over(store, account))
    }

    fn over(store: S, account: Account) -> Self {
        let (policy, account) = (Policy::default(), Arc::new(account));
        let address = account.address();
        Self { scope: store, policy, account, address, check: Check::Due }
    }

    /// Chooses a policy. Where it keeps less than the one before, call [`Client::apply_policy`].
    #[must_use]
    pub fn with_policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// As [`Client::with_policy`], of a client that is in use.
    pub fn set_policy(&mut self, policy: Policy) {
        self.policy = policy;
    }

    /// The store, which stays open: to copy its file
    /// ([`Redb::copy_to`](crate::store::Redb::copy_to)), or to change the locks of a
    /// [`Vault`](crate::store::Vault). Rows of the app's own are for [`Client::transact`].
    pub const fn store(&mut self) -> &mut S {
        &mut self.scope
    }

    /// Closes the client and gives the store back.
    pub fn into_store(self) -> S {
        self.scope
    }

    /// Does several intentions in one transaction: all of them happen, or none.
    ///
    /// ```
    /// # use subrosa::{Client, Error, SystemRng, UnixTime, store::Memory};
    /// # let (now, rng) = (UnixTime::now()?, &mut SystemRng);
    /// # let mut client = Client::create(Memory::new(), "alice", now, rng)?;
    /// client.transact(|client| {
    ///     client.write("alice", b"a note to my other devices", now, rng)?;
    ///     client.write("alice", b"and another", now, rng)?;
    ///     Ok::<(), Error>(())
    /// })?;
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of `work`; [`Error::Store`].
    pub fn transact<T, E: From<Error>>(
        &mut self,
        work: impl FnOnce(&mut Client<Open<'_>>) -> Result<T, E>,
    ) -> Result<T, E> {
        let Self { scope, policy, account, check, .. } = self;
        let (done, checked) = scope.transact(|tx| {
            let open = Open::begin(tx, policy, Arc::clone(account))?;
            let mut client = Client::of(open, *check);
            let done = work(&mut client)?;
            let checked = client.check;
            client.scope.finish()?;
            Ok::<_, E>((done, checked))
        })?;
        // What was checked counts once it is committed.
        *check = checked;
        Ok(done)
    }
}

impl Client<Open<'_>> {
    /// Makes an account, as [`Client::create`], in a transaction of your own.
    ///
    /// # Errors
    /// As [`Client::create`]; then abort the transaction.
    pub fn create_within(
        tx: &mut dyn Transaction,
        user: &str,
        now: UnixTime,
        rng: &mut dyn CryptoRng,
    ) -> Result<(), Error> {
        account::create(tx, &Policy::default(), user, now, rng)
    }

    /// Joins an account, as [`Client::join`], in a transaction of your own.
    ///
    /// # Errors
    /// As [`Client::join`]; then abort the transaction.
    pub fn join_within(
        tx: &mut dyn Transaction,
        device: &NewDevice,
        grant: &[u8],
        now: UnixTime,
        rng: &mut dyn CryptoRng,
    ) -> Result<(), Error> {
        account::join(tx, &Policy::default(), device, grant, now, rng)
    }

    /// Does `work` inside a transaction of your own, which you commit if this returns `Ok`, and
    /// abort if it does not. This is how a client works over a database's own transaction, or over
    /// an [`Overlay`](crate::store::Overlay).
    ///
    /// Such a client does not know whether its store was just opened: ask the server what it holds
    /// by [`Client::connected`] when the app starts.
    ///
    /// # Errors
    /// Those of `work`; [`Error::NoAccount`]: the store is empty; [`Error::Store`].
    pub fn within<T, E: From<Error>>(
        tx: &mut dyn Transaction,
        policy: &Policy,
        work: impl FnOnce(&mut Client<Open<'_>>) -> Result<T, E>,
    ) -> Result<T, E> {
        let account = Arc::new(stack::apart(|| Account::load(tx))?);
        let open = Open::begin(tx, policy, account)?;
        let mut client = Client::of(open, Check::Done);
        let done = work(&mut client)?;
        client.scope.finish()?;
        Ok(done)
    }
}

impl<'t> Client<Open<'t>> {
    fn of(open: Open<'t>, check: Check) -> Self {
        let (policy, account) = (open.policy.clone(), Arc::clone(&open.account));
        let address = account.address();
        Self { scope: open, policy, account, address, check }
    }
}

impl<S: Scope> Client<S> {
    fn run<T>(&mut self, work: impl FnOnce(&mut Open<'_>) -> Result<T, Error>) -> Result<T, Error> {
        let Self { scope, policy, account, .. } = self;
        // The store commits afterwards, and the app goes on: neither finds keys on the stack.
        let work = |open: &mut Open<'_>| stack::apart(|| work(open));
        scope.intend(sealed::Context { policy, account }, work)
    }

    /// The device connected to its server anew: [`Client::tasks`] asks first what the server holds
    /// of it. Tasks that failed while the network was away, or that nobody completed, are due at
    /// once.
    ///
    /// # Errors
    /// [`Error::Store`], [`Error::BadState`]
    pub fn connected(&mut self) -> Result<(), Error> {
        self.run(|open| {
            open.whole(|open| {
                upload::connected(open)?;
                tasks::resume(open)
            })
        })?;
        if self.check != Check::Done {
            self.check = Check::Due;
        }
        Ok(())
    }

    /// Deletes at once what the policy does not keep any more. What grows too old later goes by
    /// itself, with the [`Client::tasks`].
    ///
    /// # Errors
    /// [`Error::Store`], [`Error::BadState`]
    pub fn apply_policy(&mut self, now: UnixTime) -> Result<(), Error> {
        self.run(|open| {
            open.whole(|open| {
                log::apply_policy(open, now)?;
                group_rows::all(open)?
                    .into_iter()
                    .try_for_each(|(group, _)| log::apply_to(open, group, now))
            })
        })
    }

    /// This device's address.
    #[must_use]
    pub const fn address(&self) -> &Address {
        &self.address
    }

    /// This device's identity key.
    #[must_use]
    pub fn identity_key(&self) -> IdentityKey {
        self.account.identity
    }
}

/// Shows whose it is.
impl<S> core::fmt::Debug for Client<S> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Client").field("address", &self.address).finish_non_exhaustive()
    }
}
