//! In: a session that opens it, a user whom its sender belongs to, the inbox.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::actions::{Actions, encode};
use super::send::Target;
use super::{HANDSHAKES, Trust};
use crate::address::Address;
use crate::codec;
use crate::envelope::{self, Body, Content, Envelope, MessageId};
use crate::error::Error;
use crate::prekey::Prekeys;
use crate::sesame::{Device, Entry, Place};
use crate::session::{MessageKind, Session};
use crate::store::Table;

/// What became of an envelope.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Received {
    /// A message, which is in the inbox now.
    Message(Box<Incoming>),
    /// It was between the devices themselves: nothing to show.
    Handled,
    /// It was here before.
    Duplicate,
    /// Nothing opens it. Its sender is asked to send it again: the request is in the outbox.
    AskedAgain,
    /// Nothing opens it. Its sender is asked to send it again as soon as a bundle of this device is here.
    BundleNeeded(Address),
    /// It is not taken, for this reason. Where that is [`Error::DevicesNeeded`] or [`Error::UnknownDevice`], give the user's device list to
    /// the client, and then the envelope once more. Where it is [`Error::RateLimited`], it is one of very many that could not be opened:
    /// do not acknowledge it, and give it once more later.
    Refused(Error),
}

/// A message that was received.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Incoming {
    /// What to say to [`Client::done`](crate::Client::done).
    pub id: InboxId,
    /// The device that sent it, which proved to be one of the user's.
    pub from: Address,
    /// None: it is for this user. Else one's own other device sent it to that user, and this is the copy.
    pub copy_to: Option<String>,
    /// The message's name, the same for everyone who got it.
    pub message: MessageId,
    /// What was written; wiped when dropped.
    pub text: Zeroizing<Vec<u8>>,
    /// What is known of who sent it.
    pub trust: Trust,
    /// The time that was given to [`Client::receive`](crate::Client::receive).
    pub received_at: u64,
}

/// Shows who sent it and how long it is.
impl core::fmt::Debug for Incoming {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Incoming({}, from {}, {} bytes)", self.message, self.from, self.text.len())
    }
}

/// The name of a row of the inbox. Goes up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InboxId([u8; 12]);

impl InboxId {
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

#[derive(Serialize, Deserialize)]
struct InboxRow {
    from: Address,
    copy_to: Option<String>,
    message: MessageId,
    #[serde(with = "codec::run")]
    text: Zeroizing<Vec<u8>>,
    trust: Trust,
    received_at: u64,
}

impl InboxRow {
    fn with_id(self, id: [u8; 12]) -> Incoming {
        let Self { from, copy_to, message, text, trust, received_at } = self;
        Incoming { id: InboxId(id), from, copy_to, message, text, trust, received_at }
    }
}

/// A message that a session opened.
struct Opened {
    session: Session,
    plaintext: Zeroizing<Vec<u8>>,
    entry: Entry,
    /// Without those that a new session used.
    prekeys: Option<Prekeys>,
}

/// Where an envelope comes from, and when it came.
#[derive(Clone, Copy)]
pub(super) struct Arrival<'a> {
    pub(super) from: &'a Address,
    pub(super) place: Place,
    pub(super) now: u64,
}

/// What somebody known wrote.
pub(super) struct Genuine<'a> {
    pub(super) arrival: Arrival<'a>,
    pub(super) content: &'a Content<'a>,
    pub(super) trust: Trust,
    /// Of one's own device list, before it came.
    pub(super) own_number: u64,
}

impl Actions<'_> {
    /// See [`Client::receive`](crate::Client::receive).
    ///
    /// # Errors
    /// As there.
    pub fn receive(
        &mut self,
        from: &Address,
        envelope: &[u8],
        now: u64,
        rng: &mut impl CryptoRng,
    ) -> Result<Received, Error> {
        if *from == self.address() {
            return Ok(Received::Refused(Error::OwnIdentity));
        }
        let (place, envelope) = match (self.place(from), Envelope::decode(envelope)) {
            (Ok(place), Ok(envelope)) => (place, envelope),
            (Err(error), _) | (_, Err(error)) => return Ok(Received::Refused(error)),
        };
        let arrival = Arrival { from, place, now };
        self.whole(|actions| actions.receive_envelope(arrival, &envelope, rng))
    }

    fn receive_envelope(
        &mut self,
        arrival: Arrival<'_>,
        envelope: &Envelope<'_>,
        rng: &mut impl CryptoRng,
    ) -> Result<Received, Error> {
        let place = arrival.place;
        if self.seen(place, envelope.reference)? {
            return Ok(Received::Duplicate);
        }
        // Every row that may be asked for comes before the work: over an overlay the work is done once more for each that comes after.
        let (known, (_, own)) = (self.user(place.tag)?, self.own_user()?);
        let mut device = self.device(place)?;
        let opened = match self.open(arrival, &device, envelope)? {
            Ok(opened) => opened,
            Err(error) => return self.heal(arrival, device, (envelope.reference, error), rng),
        };
        let content = match Content::decode(&opened.plaintext) {
            Ok(content) => content,
            Err(error) => return Ok(Received::Refused(error)),
        };
        // Before anything is written: who is refused here has changed nothing, and may come again.
        let (user, trust) = match self.admit(arrival, known, &opened.entry.identity, content.list)? {
            Ok(admitted) => admitted,
            Err(error) => return Ok(Received::Refused(error)),
        };
        // In a session that may not be written in, a request cannot be answered: it is to come again in a new one.
        let may_write = opened.entry.epoch == self.commit.epoch;
        if !may_write && matches!(content.body, Body::Retry(_)) {
            return self.heal(arrival, device, (envelope.reference, Error::Decrypt), rng);
        }
        // By its own name too: it may have been asked for by several of its envelopes.
        let names = [content.resent, content.body.name()];
        let mut repeated = false;
        for name in names.into_iter().flatten() {
            repeated |= self.seen(place, name)?;
        }
        // What is a repetition takes no place, or somebody could have the first one forgotten.
        if !repeated {
            let names = [Some(envelope.reference)].into_iter().chain(names).flatten();
            self.see(place, &mut device, &names.collect::<Vec<_>>())?;
        }
        if let Some(prekeys) = &opened.prekeys {
            self.put_prekeys(prekeys)?;
        }
        self.put_session(place, &opened.session)?;
        let entry = Entry { answered: true, ..opened.entry };
        self.activate(place, &mut device, entry)?;
        let address = arrival.from.clone();
        let known = user.number();
        let mut reply = Target { address, place, session: opened.session, known, copy: false };
        let genuine = Genuine { arrival, content: &content, trust, own_number: own.list.number() };
        if may_write {
            self.compare_lists(&genuine, &mut reply, rng)?;
        }
        if repeated {
            return Ok(Received::Duplicate);
        }
        self.handle(&genuine, &mut reply, rng)
    }

    /// Finds the session that opens a message, or makes it. The inner error says why nothing does.
    fn open(
        &mut self,
        arrival: Arrival<'_>,
        device: &Device,
        envelope: &Envelope<'_>,
    ) -> Result<Result<Opened, Error>, Error> {
        let message = &envelope.message;
        let head = &envelope::bound_to(envelope.head, arrival.from, &self.address());
        for entry in &device.sessions {
            let Some(mut session) = self.session(arrival.place, entry)? else { continue };
            if message.kind() == MessageKind::Initial && !session.answers(message) {
                continue;
            }
            match session.decrypt(message, head) {
                Err(Error::UnknownHeader) if message.kind() == MessageKind::Regular => {}
                Err(error) => return Ok(Err(error)),
                Ok(plaintext) => {
                    let plaintext = Zeroizing::new(plaintext);
                    return Ok(Ok(Opened { session, plaintext, entry: entry.clone(), prekeys: None }));
                }
            }
        }
        if message.kind() == MessageKind::Regular {
            return Ok(Err(Error::UnknownHeader));
        }
        let Arrival { place, now, .. } = arrival;
        if !self.allow(&HANDSHAKES, place.tag.bucket(), now)? {
            return Ok(Err(Error::RateLimited));
        }
        let (identity, mut prekeys) = (self.identity()?, self.prekeys()?);
        let responded = Session::respond(&identity, &mut prekeys, message, head);
        Ok(responded.map(|(session, plaintext)| {
            let (id, identity, epoch) = (session.id(), session.peer(), self.commit.epoch);
            let entry =
                Entry { id, identity, created_at: now, answered: true, used: 0, healing: false, epoch };
            Opened { session, plaintext: Zeroizing::new(plaintext), entry, prekeys: Some(prekeys) }
        }))
    }

    fn handle(
        &mut self,
        genuine: &Genuine<'_>,
        reply: &mut Target,
        rng: &mut impl CryptoRng,
    ) -> Result<Received, Error> {
        let Genuine { arrival, content, .. } = genuine;
        let is_own = arrival.from.user == self.account.user;
        match &content.body {
            Body::Message { id, text } => return self.deliver(genuine, None, *id, text),
            Body::Copy { id, to, text } if is_own => {
                return self.deliver(genuine, Some((*to).into()), *id, text);
            }
            Body::Retry(references) => self.send_again(*arrival, references, reply, rng)?,
            Body::Account(seed) if is_own => self.take_account(*arrival, content.list, *seed)?,
            Body::Devices | Body::Copy { .. } | Body::Account(_) => {}
        }
        Ok(Received::Handled)
    }

    fn deliver(
        &mut self,
        genuine: &Genuine<'_>,
        copy_to: Option<String>,
        message: MessageId,
        text: &[u8],
    ) -> Result<Received, Error> {
        let Genuine { arrival, trust, .. } = *genuine;
        let (from, received_at) = (arrival.from.clone(), arrival.now);
        let row =
            InboxRow { from, copy_to, message, text: Zeroizing::new(text.to_vec()), trust, received_at };
        let key = self.next_key();
        self.put(Table::Inbox, &key, &encode(&row, text.len().saturating_add(700)))?;
        Ok(Received::Message(Box::new(row.with_id(key))))
    }

    /// See [`Client::inbox`](crate::Client::inbox).
    ///
    /// # Errors
    /// As there.
    pub fn inbox(&mut self, most: usize) -> Result<Vec<Incoming>, Error> {
        let rows = self.scan(Table::Inbox, &[], most)?.into_iter();
        rows.map(|(key, row)| {
            let row: InboxRow = codec::state::decode(1, &row)?;
            Ok(row.with_id(key.try_into().map_err(|_| Error::BadState)?))
        })
        .collect()
    }

    /// See [`Client::done`](crate::Client::done).
    ///
    /// # Errors
    /// As there.
    pub fn done(&mut self, id: InboxId) -> Result<(), Error> {
        self.delete(Table::Inbox, &id.0)
    }
}
