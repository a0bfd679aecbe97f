//! Out: to all devices of a user and one's own others, into the log, into the outbox.

use alloc::string::String;
use alloc::vec::Vec;

use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::actions::{Actions, encode};
use crate::address::Address;
use crate::codec;
use crate::envelope::{self, Body, Content, Envelope, HEAD_LENGTH, MessageId, Reference};
use crate::error::Error;
use crate::identity::{self, IdentityKey};
use crate::sesame::{Device, Place, Tag, User};
use crate::session::Session;
use crate::store::Table;

/// An envelope that is to be sent.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Outgoing {
    /// What to say to [`Client::sent`](crate::Client::sent).
    pub id: OutboxId,
    /// Where it goes.
    pub to: Address,
    /// The envelope.
    pub envelope: Vec<u8>,
}

/// Shows where it goes and how long it is.
impl core::fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Outgoing({}, {} bytes)", self.to, self.envelope.len())
    }
}

/// The name of a row of the outbox. Goes up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OutboxId([u8; 12]);

impl OutboxId {
    /// From the 12 bytes.
    #[must_use]
    pub const fn new(bytes: [u8; 12]) -> Self {
        Self(bytes)
    }

    /// The 12 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 12] {
        &self.0
    }
}

/// What became of a message to as many devices as could be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reached {
    /// The message's name.
    pub id: MessageId,
    /// The devices that it is not for, since there is no session with them: a bundle is needed.
    pub missed: Vec<Address>,
}

#[derive(Serialize, Deserialize)]
struct OutboxRow {
    to: Address,
    #[serde(with = "codec::run")]
    envelope: Vec<u8>,
}

/// A device that a message was for.
#[derive(Serialize, Deserialize)]
struct Entitled(#[serde(with = "identity::checked")] IdentityKey);

/// What was sent, in case a device asks for it again.
#[derive(Serialize, Deserialize)]
pub(super) struct Logged {
    /// So that a place in the log which is used again, in a store restored from a copy, is not taken for what it was.
    check: u32,
    pub(super) to: String,
    /// Who that was: nobody else who comes to be called so is sent it.
    #[serde(with = "identity::checked")]
    account: IdentityKey,
    /// The devices that they had then: these may have it whatever became of the account key.
    devices: Vec<Entitled>,
    pub(super) at: u64,
    /// How often it may be sent again: to the user, and to one's own other devices.
    pub(super) left: [u8; 2],
    pub(super) body: LoggedBody,
}

impl Logged {
    pub(super) fn new(user: &User, at: u64, body: LoggedBody) -> Self {
        let devices = user.list.devices().iter().map(|listed| Entitled(listed.identity)).collect();
        Self {
            check: 0,
            to: user.name.clone(),
            account: user.list.account(),
            devices,
            at,
            left: [RESENDS; 2],
            body,
        }
    }

    /// Whether a device of the user may have it: one that it was for, or another under the same account key.
    pub(super) fn is_for(&self, user: &User, device: &IdentityKey) -> bool {
        let is_same = user.changed.is_none() && self.account == user.list.account();
        is_same || self.devices.iter().any(|entitled| entitled.0 == *device)
    }

    fn place(&self, number: u64) -> u64 {
        number.wrapping_shl(CHECK_BITS) | u64::from(self.check)
    }
}

#[derive(Serialize, Deserialize)]
pub(super) enum LoggedBody {
    Message {
        id: MessageId,
        #[serde(with = "codec::run")]
        text: Zeroizing<Vec<u8>>,
    },
    Retry(#[serde(with = "codec::run")] Vec<u8>),
    Account,
}

/// A place in the log: its number and its check.
const CHECK_BITS: u32 = 24;

/// In place of a place: not logged.
pub(super) const NOT_LOGGED: u64 = u64::MAX;

/// A message comes again at most so often, to all devices of a user together, for whatever reason it cannot be read.
const RESENDS: u8 = 32;

/// The devices that something is for: with a session, and without.
#[derive(Default)]
pub(super) struct Fan {
    pub(super) targets: Vec<Target>,
    missed: Vec<Address>,
}

/// A device, the session to write in, and whose device it is.
pub(super) struct Target {
    pub(super) address: Address,
    pub(super) place: Place,
    pub(super) session: Session,
    /// The number of the user's device list.
    pub(super) known: u64,
    /// Whether it is one's own, and the message for another user.
    pub(super) copy: bool,
}

impl Actions<'_> {
    /// A text is at most so long: 2^20 - 4,096 bytes, a message less what goes with it.
    pub const MAX_TEXT: usize = Session::MAX_PLAINTEXT - 4_096;

    /// See [`Client::encrypt`](crate::Client::encrypt).
    ///
    /// # Errors
    /// As there.
    pub fn encrypt(
        &mut self,
        to: &str,
        text: &[u8],
        now: u64,
        rng: &mut impl CryptoRng,
    ) -> Result<MessageId, Error> {
        self.whole(|actions| {
            let (user, Fan { targets, missed }) = actions.targets(to, text, now)?;
            if missed.is_empty() {
                actions.fan_out((&user, text), targets, now, rng)
            } else {
                Err(Error::BundlesNeeded(missed.into()))
            }
        })
    }

    /// See [`Client::encrypt_to_reachable`](crate::Client::encrypt_to_reachable).
    ///
    /// # Errors
    /// As there.
    pub fn encrypt_to_reachable(
        &mut self,
        to: &str,
        text: &[u8],
        now: u64,
        rng: &mut impl CryptoRng,
    ) -> Result<Reached, Error> {
        self.whole(|actions| {
            let (user, Fan { targets, missed }) = actions.targets(to, text, now)?;
            let reached = targets.iter().any(|target| !target.copy);
            if !reached && !missed.is_empty() {
                return Err(Error::BundlesNeeded(missed.into()));
            }
            let id = actions.fan_out((&user, text), targets, now, rng)?;
            Ok(Reached { id, missed })
        })
    }

    /// The user, and the devices that a message to them is for: those with a session to write in, and those that there is none with.
    fn targets(&mut self, to: &str, text: &[u8], now: u64) -> Result<(User, Fan), Error> {
        if text.len() > Self::MAX_TEXT {
            return Err(Error::TooLong);
        }
        let (own_tag, own) = self.linked_user()?;
        let (tag, user) = self.known_user(to)?;
        let mut fan = Fan::default();
        self.add_targets(&mut fan, (tag, &user), false, now)?;
        if tag != own_tag {
            if fan.targets.is_empty() && fan.missed.is_empty() {
                return Err(Error::OwnIdentity);
            }
            self.add_targets(&mut fan, (own_tag, &own), true, now)?;
        }
        Ok((user, fan))
    }

    /// Adds the devices of a user, but for this one.
    pub(super) fn add_targets(
        &mut self,
        fan: &mut Fan,
        (tag, user): (Tag, &User),
        copy: bool,
        now: u64,
    ) -> Result<(), Error> {
        if user.changed.is_some() {
            return Err(Error::IdentityChanged(user.name.as_str().into()));
        }
        for listed in user.list.devices() {
            if listed.identity == self.account.identity {
                continue;
            }
            let address = Address::new(&user.name, listed.device);
            let place = Place { tag, device: listed.device };
            let device = self.device(place)?;
            match self.active(place, &device, &listed.identity, now)? {
                Some(session) => {
                    fan.targets.push(Target { address, place, session, known: user.number(), copy });
                }
                None => fan.missed.push(address),
            }
        }
        Ok(())
    }

    /// One's own user, of whom this device must still be one.
    pub(super) fn linked_user(&mut self) -> Result<(Tag, User), Error> {
        let (tag, own) = self.own_user()?;
        let listed = own.list.device_of(&self.account.identity);
        if listed.is_none_or(|listed| listed.device != self.account.device) {
            return Err(Error::Unlinked);
        }
        Ok((tag, own))
    }

    /// The session to write in.
    fn active(
        &mut self,
        place: Place,
        device: &Device,
        identity: &IdentityKey,
        now: u64,
    ) -> Result<Option<Session>, Error> {
        match device.active(identity, self.commit.epoch, now, self.policy.unanswered_expiry) {
            Some(entry) => self.session(place, entry),
            None => Ok(None),
        }
    }

    fn fan_out(
        &mut self,
        (user, text): (&User, &[u8]),
        targets: Vec<Target>,
        now: u64,
        rng: &mut impl CryptoRng,
    ) -> Result<MessageId, Error> {
        let id = MessageId::random(rng);
        let body = LoggedBody::Message { id, text: Zeroizing::new(text.to_vec()) };
        let place = self.log(Logged::new(user, now, body), rng)?;
        for mut target in targets {
            let body = match target.copy {
                false => Body::Message { id, text },
                true => Body::Copy { id, to: &user.name, text },
            };
            self.post(&mut target, body, (place, None), rng)?;
        }
        Ok(id)
    }

    /// Puts a message into the log, in place of the one that was so many before.
    pub(super) fn log(&mut self, mut row: Logged, rng: &mut impl CryptoRng) -> Result<u64, Error> {
        row.check = rng.next_u32() >> (32 - CHECK_BITS);
        let number = self.commit.logged;
        self.put_logged(number, &row)?;
        if let Some(old) = number.checked_sub(self.policy.log_messages) {
            self.delete(Table::Sent, &old.to_be_bytes())?;
        }
        self.commit.logged = number.saturating_add(1);
        Ok(row.place(number))
    }

    pub(super) fn put_logged(&mut self, number: u64, row: &Logged) -> Result<(), Error> {
        let length = match &row.body {
            LoggedBody::Message { text, .. } => text.len(),
            LoggedBody::Retry(references) => references.len(),
            LoggedBody::Account => 0,
        };
        self.put(Table::Sent, &number.to_be_bytes(), &encode(row, length.saturating_add(1_600)))
    }

    /// What is in a place of the log, unless it is too old, and its number.
    pub(super) fn logged(&mut self, place: u64, now: u64) -> Result<Option<(u64, Logged)>, Error> {
        let number = place.wrapping_shr(CHECK_BITS);
        let Some(row) = self.get(Table::Sent, &number.to_be_bytes())? else { return Ok(None) };
        let row: Logged = codec::state::decode(1, &row)?;
        let is_it = row.place(number) == place;
        let is_fresh = now.saturating_sub(row.at) <= self.policy.log_age;
        Ok((is_it && is_fresh).then_some((number, row)))
    }

    /// Encrypts for one device, and puts the envelope into the outbox. `place` and `resent`: where it is in the log, and what it stands
    /// for.
    pub(super) fn post(
        &mut self,
        target: &mut Target,
        body: Body<'_>,
        (place, resent): (u64, Option<Reference>),
        rng: &mut impl CryptoRng,
    ) -> Result<(), Error> {
        let session = &mut target.session;
        let (_, own) = self.own_user()?;
        let introduces = !session.is_answered() || matches!(body, Body::Devices | Body::Account(_));
        let list = introduces.then(|| own.list.encode());
        let (number, known) = (own.list.number(), target.known);
        let content = Content { number, known, resent, list: list.as_deref(), body };
        let reference = Reference::new(&self.account.reference_key, place, rng);
        let bound = |head: &[u8]| {
            envelope::bound_to(head, &Address::new(&self.account.user, self.account.device), &target.address)
        };
        let envelope = seal(session, reference, bound, &content, rng)?;
        self.put_session(target.place, &target.session)?;
        let key = self.next_key();
        let length = envelope.len().saturating_add(300);
        let row = OutboxRow { to: target.address.clone(), envelope };
        self.put(Table::Outbox, &key, &encode(&row, length))
    }

    /// See [`Client::outbox`](crate::Client::outbox).
    ///
    /// # Errors
    /// As there.
    pub fn outbox(&mut self, most: usize) -> Result<Vec<Outgoing>, Error> {
        let rows = self.scan(Table::Outbox, &[], most)?.into_iter();
        rows.map(|(key, row)| {
            let row: OutboxRow = codec::state::decode(1, &row)?;
            let id = OutboxId(key.try_into().map_err(|_| Error::BadState)?);
            Ok(Outgoing { id, to: row.to, envelope: row.envelope })
        })
        .collect()
    }

    /// See [`Client::sent`](crate::Client::sent).
    ///
    /// # Errors
    /// As there.
    pub fn sent(&mut self, id: OutboxId) -> Result<(), Error> {
        self.delete(Table::Outbox, &id.0)
    }
}

fn seal(
    session: &mut Session,
    reference: Reference,
    bound_to: impl Fn(&[u8]) -> Vec<u8>,
    content: &Content<'_>,
    rng: &mut impl CryptoRng,
) -> Result<Vec<u8>, Error> {
    let head = Envelope::head(reference);
    let content = Zeroizing::new(content.encode());
    let message = session.encrypt(&content, &bound_to(&head), rng)?;
    let mut envelope = Vec::with_capacity(HEAD_LENGTH.saturating_add(message.as_bytes().len()));
    envelope.extend_from_slice(&head);
    envelope.extend_from_slice(message.as_bytes());
    Ok(envelope)
}
