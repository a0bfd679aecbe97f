//! Signals of calls: sent to named devices, and gone when they are done or worth nothing any more.
//!
//! They are in no log, and no other device of the account gets a copy. Those that came are in a
//! queue of their own, not in the inbox: nothing of a call is for the app's history.

use alloc::vec::Vec;

use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::admission::Sender;
use super::allowances::{self, CALLS, Party, SIGNALS, STRANGE_CALLS};
use super::log;
use super::outbox::{self, Target};
use super::timers;
use super::transaction::{Open, Tag};
use super::wants::{self, Want};
use super::{Client, Scope};
use crate::address::Address;
use crate::at_rest;
use crate::content::Body;
use crate::devices::ListedDevice;
use crate::error::Error;
use crate::identity::{self, IdentityKey};
use crate::sesame::{Trust, UserRecord};
use crate::signal::{CallId, Members, ReceivedSignal, Signal, SignalBody, SignalKind};
use crate::store::Table;
use crate::time::UnixTime;

impl<S: Scope> Client<S> {
    /// Sends a signal to devices: before everything else that waits, and for as long as it is worth
    /// something. To a device without a session it waits for a bundle meanwhile.
    ///
    /// Returns the devices that it does not go to: their users' lists do not have them, or nobody
    /// has accepted the account key that such a list is under.
    ///
    /// # Errors
    /// [`Error::DevicesNeeded`]: nothing is known of the user. [`Error::TooLong`]: the body is
    /// above [`Signal::MAX_BODY`]. [`Error::OwnIdentity`]: to this device itself.
    /// [`Error::Unlinked`], [`Error::BadName`], [`Error::Store`].
    pub fn signal(
        &mut self,
        to: &[Address],
        signal: &Signal,
        now: UnixTime,
        rng: &mut dyn CryptoRng,
    ) -> Result<Vec<Address>, Error> {
        self.run(|open| open.whole(|open| send(open, to, signal, now, rng)))
    }

    /// Takes the signals that came and are still worth something, at most `most`: they leave the
    /// store. What one user's devices sent is in order.
    ///
    /// # Errors
    /// [`Error::Store`], [`Error::BadState`]
    pub fn take_signals(
        &mut self,
        most: usize,
        now: UnixTime,
    ) -> Result<Vec<ReceivedSignal>, Error> {
        self.run(|open| open.whole(|open| take(open, most, now)))
    }

    /// The devices that may be in a call of these users and this account: those on their lists, as
    /// they are known here. A user under a new account key that nobody has accepted has none.
    ///
    /// Give it to `Call::set_members` again whenever a list may have changed: after
    /// [`Client::receive`] and [`Client::complete`], and with [`Event::DeviceAdded`].
    ///
    /// # Errors
    /// [`Error::DevicesNeeded`]: nothing is known of a user. [`Error::BadName`], [`Error::Store`].
    ///
    /// [`Event::DeviceAdded`]: super::Event::DeviceAdded
    pub fn call_members(&mut self, users: &[&str]) -> Result<Members, Error> {
        self.run(|open| members(open, users))
    }
}

/// A signal that waits to be encrypted, or for the app.
#[derive(Serialize, Deserialize)]
struct SignalRow {
    /// Of one that waits to be encrypted: for whom.
    from: Option<Sent>,
    call: CallId,
    kind: SignalKind,
    expires: UnixTime,
    #[serde(with = "at_rest::run")]
    body: Zeroizing<Vec<u8>>,
}

/// By whom, or for whom.
#[derive(Serialize, Deserialize)]
struct Sent {
    address: Address,
    #[serde(with = "identity::checked")]
    identity: IdentityKey,
}

/// What waits for the app: of one user, and of all.
#[derive(Clone, Copy, Default, Serialize, Deserialize)]
struct Totals {
    signals: u32,
    bytes: u64,
}

/// In the table of the inbox: `SIGNAL || tag:16 || name:24`, `TOTALS || tag:16`, `TOTALS`.
const SIGNAL: u8 = 24;
const TOTALS: u8 = 25;

/// In the table of drafts: `WAITING || tag:16 || device:u32 || name:24`.
const WAITING: u8 = 24;

/// Where the number is in such a key.
const NUMBER: core::ops::Range<usize> = 29..37;

/// Signals that wait for a session with one device: the oldest go.
const MOST_WAITING: usize = 64;

/// Limits for what one user's devices sent, and for all.
const MOST: Totals = Totals { signals: 256, bytes: 1 << 20 };
const MOST_IN_ALL: Totals = Totals { signals: 2_048, bytes: 16 << 20 };

/// Seconds by which the clocks of two devices may differ.
const SKEW: u64 = 60;

/// What the subject of a timer begins with: where the signal is.
const IN_OUTBOX: u8 = 0;
const IN_DRAFTS: u8 = 1;
const IN_INBOX: u8 = 2;

impl SignalRow {
    fn body(&self) -> SignalBody<'_> {
        let Self { call, kind, expires, body, .. } = self;
        SignalBody { call: *call, kind: *kind, expires: *expires, body }
    }

    fn length(&self) -> u64 {
        u64::try_from(self.body.len()).unwrap_or(u64::MAX)
    }
}

fn send(
    open: &mut Open<'_>,
    to: &[Address],
    signal: &Signal,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<Vec<Address>, Error> {
    if signal.body.len() > Signal::MAX_BODY {
        return Err(Error::TooLong);
    }
    open.linked()?;
    let expires = now.after(signal.keep.min(Signal::MAX_KEEP));
    let Signal { call, kind, .. } = *signal;
    let (mut targets, mut left_out) = (Vec::new(), Vec::new());
    for address in to {
        if *address == open.account.address() {
            return Err(Error::OwnIdentity);
        }
        let (tag, user) = open.known_user(&address.user)?;
        match reachable(&user, address) {
            Some(listed) => targets.push((tag, user, listed)),
            None => left_out.push(address.clone()),
        }
    }
    let body = SignalBody { call, kind, expires, body: &signal.body };
    for (tag, user, listed) in targets {
        match outbox::target(open, tag, &user, &listed, now)? {
            Some(mut target) => post(open, &mut target, body, now, rng)?,
            None => {
                let address = Address::new(&user.name, listed.device);
                let to = Sent { address: address.clone(), identity: listed.identity };
                wait(open, tag, to, body, now, rng)?;
                wants::want(open, Want::Bundle(address), now)?;
            }
        }
    }
    Ok(left_out)
}

/// A device as its user's list has it, if that counts without doubt.
fn reachable(user: &UserRecord, address: &Address) -> Option<ListedDevice> {
    let listed = user.list.get(address.device).copied().filter(|_| !user.waits())?;
    (!user.is_doubted(&listed.identity)).then_some(listed)
}

/// Encrypts a signal for one device.
fn post(
    open: &mut Open<'_>,
    target: &mut Target,
    signal: SignalBody<'_>,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<(), Error> {
    let name = outbox::tell(open, target, Body::Signal(signal), None, now, rng)?;
    timers::set_signal(open, signal.expires.after(1), &[&[IN_OUTBOX][..], &name].concat())
}

/// Keeps a signal until there is a session with its receiver.
fn wait(
    open: &mut Open<'_>,
    tag: Tag,
    to: Sent,
    signal: SignalBody<'_>,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<(), Error> {
    let prefix = waiting(tag, to.address.device);
    let rows = open.scan(Table::Draft, &prefix, MOST_WAITING)?;
    // They stay in the order in which they were given, those of one second too.
    let last = rows.last().and_then(|(key, _)| key.get(NUMBER).and_then(<[u8]>::first_chunk));
    let number = last.map_or(0, |last| u64::from_be_bytes(*last).saturating_add(1));
    if let Some((oldest, _)) = rows.first().filter(|_| rows.len() >= MOST_WAITING) {
        open.delete(Table::Draft, oldest)?;
    }
    let SignalBody { call, kind, expires, body } = signal;
    let body = Zeroizing::new(body.to_vec());
    let row = SignalRow { from: Some(to), call, kind, expires, body };
    let key = [&prefix[..], &open.row_name(now, number, rng)].concat();
    open.put_as(Table::Draft, &key, &row, row.body.len().saturating_add(400))?;
    timers::set_signal(open, expires.after(1), &[&[IN_DRAFTS][..], &key].concat())
}

/// Whether signals wait for a session with a device.
pub(super) fn any_for(open: &mut Open<'_>, tag: Tag, device: u32) -> Result<bool, Error> {
    Ok(!open.scan(Table::Draft, &waiting(tag, device), 1)?.is_empty())
}

/// Encrypts what waited for a session.
pub(super) fn go_on(
    open: &mut Open<'_>,
    target: &mut Target,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<(), Error> {
    let prefix = waiting(target.place.tag, target.address.device);
    for (key, row) in open.scan(Table::Draft, &prefix, MOST_WAITING)? {
        let row: SignalRow = at_rest::state::decode(1, &row)?;
        open.delete(Table::Draft, &key)?;
        // It may have another account key by now, and another device may have the number.
        let is_meant = row.from.as_ref().is_none_or(|to| to.identity == target.record.identity);
        if is_meant && now <= row.expires {
            post(open, target, row.body(), now, rng)?;
        }
    }
    Ok(())
}

/// Takes in a signal of a device that counts without doubt; `number` counts what it sent. False
/// where it is worth nothing any more, or is one too many: it is gone then, since nobody waits for
/// it.
pub(super) fn take_in(
    open: &mut Open<'_>,
    sender: &Sender<'_>,
    trust: Trust,
    signal: &SignalBody<'_>,
    number: u64,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<bool, Error> {
    let expires = signal.expires.min(now.after(Signal::MAX_KEEP)).after(SKEW);
    if now > expires || !is_allowed(open, sender, trust, signal.kind, now)? {
        return Ok(false);
    }
    let SignalBody { call, kind, body, .. } = *signal;
    let from = Sent { address: sender.address.clone(), identity: *sender.identity };
    let body = Zeroizing::new(body.to_vec());
    let row = SignalRow { from: Some(from), call, kind, expires: signal.expires, body };
    let own = totals(open, &of(TOTALS, sender.tag))?.plus(row.length());
    let all = totals(open, &[TOTALS])?.plus(row.length());
    if !own.is_within(MOST) || !all.is_within(MOST_IN_ALL) {
        return Ok(false);
    }
    let key = [&of(SIGNAL, sender.tag)[..], &open.row_name(now, number, rng)].concat();
    open.put_as(Table::Inbox, &key, &row, row.body.len().saturating_add(400))?;
    put_totals(open, &of(TOTALS, sender.tag), own)?;
    put_totals(open, &[TOTALS], all)?;
    timers::set_signal(open, expires.after(1), &[&[IN_INBOX][..], &key].concat())?;
    Ok(true)
}

/// Whether a user may send one more. Calls of somebody whom nobody here wrote to or verified are
/// few: a telephone that rings is worth more than a text.
fn is_allowed(
    open: &mut Open<'_>,
    sender: &Sender<'_>,
    trust: Trust,
    kind: SignalKind,
    now: UnixTime,
) -> Result<bool, Error> {
    let contact = Party::Contact(sender.tag);
    if !allowances::take(open, &SIGNALS, contact, 1, now)? {
        return Ok(false);
    }
    let is_known = kind != SignalKind::Offer
        || trust == Trust::Verified
        || open.is_own(&sender.address.user)
        || log::has_written(open, sender.tag)?;
    Ok(is_known
        || allowances::take(open, &CALLS, contact, 1, now)?
            && allowances::take(open, &STRANGE_CALLS, Party::Anyone, 1, now)?)
}

fn take(open: &mut Open<'_>, most: usize, now: UnixTime) -> Result<Vec<ReceivedSignal>, Error> {
    let mut signals = Vec::new();
    for (key, row) in open.scan(Table::Inbox, &[SIGNAL], most)? {
        remove(open, &key)?;
        let SignalRow { from, call, kind, expires, body } = at_rest::state::decode(1, &row)?;
        let Sent { address, identity } = from.ok_or(Error::BadState)?;
        if now <= expires.after(SKEW) {
            signals.push(ReceivedSignal { from: address, identity, call, kind, expires, body });
        }
    }
    Ok(signals)
}

/// Removes a signal that waits for the app.
fn remove(open: &mut Open<'_>, key: &[u8]) -> Result<(), Error> {
    let Some(row) = open.get_as::<SignalRow>(Table::Inbox, key)? else { return Ok(()) };
    open.delete(Table::Inbox, key)?;
    let tag = key.get(1..17).and_then(|tag| tag.first_chunk()).ok_or(Error::BadState)?;
    for key in [&of(TOTALS, Tag(*tag))[..], &[TOTALS]] {
        let totals = totals(open, key)?.less(row.length());
        put_totals(open, key, totals)?;
    }
    Ok(())
}

/// A signal is worth nothing any more, wherever it is.
pub(super) fn expire(open: &mut Open<'_>, subject: &[u8]) -> Result<(), Error> {
    match subject.split_first() {
        Some((&IN_OUTBOX, name)) => match name.try_into() {
            Ok(name) => outbox::remove(open, &name).map(drop),
            Err(_) => Ok(()),
        },
        Some((&IN_DRAFTS, key)) => open.delete(Table::Draft, key),
        Some((&IN_INBOX, key)) => remove(open, key),
        _ => Ok(()),
    }
}

/// Forgets a user's signals, both ways.
pub(super) fn forget(open: &mut Open<'_>, tag: Tag) -> Result<(), Error> {
    let most = usize::try_from(MOST.signals).unwrap_or(usize::MAX);
    for (key, _) in open.scan(Table::Inbox, &of(SIGNAL, tag), most)? {
        remove(open, &key)?;
    }
    open.delete_all(Table::Draft, &of(WAITING, tag))
}

fn members(open: &mut Open<'_>, users: &[&str]) -> Result<Members, Error> {
    let own = open.own()?;
    let mut members = Members::default();
    for name in users.iter().copied().chain([own.user.name.as_str()]) {
        let (_, user) = open.known_user(name)?;
        for listed in user.list.devices() {
            let address = Address::new(name, listed.device);
            if reachable(&user, &address).is_some() {
                members.devices.insert(address, listed.identity);
            }
        }
    }
    Ok(members)
}

fn of(kind: u8, tag: Tag) -> [u8; 17] {
    let mut key = [kind; 17];
    key[1..].copy_from_slice(&tag.0);
    key
}

fn waiting(tag: Tag, device: u32) -> Vec<u8> {
    [&of(WAITING, tag)[..], &device.to_be_bytes()].concat()
}

impl Totals {
    fn plus(self, bytes: u64) -> Self {
        let signals = self.signals.saturating_add(1);
        Self { signals, bytes: self.bytes.saturating_add(bytes) }
    }

    fn less(self, bytes: u64) -> Self {
        let signals = self.signals.saturating_sub(1);
        Self { signals, bytes: self.bytes.saturating_sub(bytes) }
    }

    const fn is_within(self, most: Self) -> bool {
        self.signals <= most.signals && self.bytes <= most.bytes
    }
}

fn totals(open: &mut Open<'_>, key: &[u8]) -> Result<Totals, Error> {
    Ok(open.get_as(Table::Inbox, key)?.unwrap_or_default())
}

fn put_totals(open: &mut Open<'_>, key: &[u8], totals: Totals) -> Result<(), Error> {
    if totals.signals == 0 {
        return open.delete(Table::Inbox, key);
    }
    open.put_as(Table::Inbox, key, &totals, 24)
}
