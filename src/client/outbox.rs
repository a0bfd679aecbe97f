//! Out: what a device is sent, in the session that is written in; the envelopes that wait.

use alloc::vec::Vec;

use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::backoff::{BackOff, Earliest};
use super::tickets::Unheard;
use super::transaction::{Open, OwnUser, Place, RowName, Tag};
use super::{Delivery, certificates, doors, tickets, timers};
use crate::address::Address;
use crate::at_rest;
use crate::content::{Body, Claimed, Content, MessageId, SealedFields};
use crate::devices::{ListStamp, ListedDevice, Role};
use crate::envelope::{self, Head};
use crate::error::Error;
use crate::reference::{Class, Named, Reference};
use crate::sesame::{DeviceRecord, UserRecord};
use crate::session::Session;
use crate::store::Table;
use crate::ticket::Ticket;
use crate::time::UnixTime;

/// An envelope that waits to be sent.
#[derive(Serialize, Deserialize)]
pub(super) struct OutboxRow {
    pub(super) to: Address,
    /// The text in it, where there is one.
    pub(super) message: Option<MessageId>,
    /// How often it could not be sent.
    pub(super) attempts: u8,
    /// It is not sent before this time.
    not_before: Option<UnixTime>,
    /// It waits until somebody decides whether the device is still the user's.
    is_held: bool,
    /// Empty where it is in a row of its own.
    #[serde(with = "at_rest::run")]
    pub(super) envelope: Vec<u8>,
}

impl OutboxRow {
    /// Whether it may be sent now.
    fn is_due(&self, now: UnixTime) -> bool {
        !self.is_held && self.not_before.is_none_or(|time| BACK_OFF.is_due(time, now))
    }
}

/// A device that something is sent to.
pub(super) struct Target {
    pub(super) address: Address,
    pub(super) place: Place,
    pub(super) record: DeviceRecord,
    pub(super) session: Session,
    /// Its user's device list, as it is known here.
    pub(super) known: ListStamp,
    /// What is encrypted for it waits until somebody decides whether it is still the user's.
    pub(super) is_doubted: bool,
}

/// What goes into one envelope.
pub(super) struct Letter<'a> {
    pub(super) body: Body<'a>,
    pub(super) class: Class,
    /// The envelope that this one stands for.
    pub(super) resent: Option<Reference>,
    /// The text whose progress this is.
    pub(super) message: Option<MessageId>,
}

/// The device of a user, in the session that is written in; none where one has to be begun. The
/// caller writes the record.
pub(super) fn target(
    open: &mut Open<'_>,
    tag: Tag,
    user: &UserRecord,
    listed: &ListedDevice,
    now: UnixTime,
) -> Result<Option<Target>, Error> {
    let place = open.place(tag, &listed.identity);
    let mut record = open.record(place, &listed.identity)?;
    let Some(session) = writing(open, place, &mut record, now)? else { return Ok(None) };
    let (address, known) = (Address::new(&user.name, listed.device), user.stamp());
    let is_doubted = user.is_doubted(&listed.identity);
    Ok(Some(Target { address, place, record, session, known, is_doubted }))
}

/// The session that is written in. What time ended, and what cannot be read, is gone afterwards.
pub(super) fn writing(
    open: &mut Open<'_>,
    place: Place,
    record: &mut DeviceRecord,
    now: UnixTime,
) -> Result<Option<Session>, Error> {
    let expiry = open.policy.unanswered_expiry;
    let before = record.clone();
    let mut found = None;
    // Each round closes a session, so there are no more rounds than sessions.
    loop {
        let aged = record.age(now, expiry);
        open.delete_sessions(place, &aged)?;
        let Some(id) = record.writing().map(|entry| entry.id) else { break };
        found = open.session(place, &id)?;
        if let Some(session) = &found {
            if tickets::can_write(open, place, session.is_answered())? {
                break;
            }
            // Nothing that is sealed in it would be found: the next text begins one.
            found = None;
            record.close(&id);
            continue;
        }
        record.lose(&id);
        open.delete_sessions(place, &[id])?;
    }
    if *record != before {
        open.put_record(place, record)?;
    }
    Ok(found)
}

/// The same device, in the session that is written in; none where one has to be begun.
pub(super) fn to_writing(
    open: &mut Open<'_>,
    mut target: Target,
    now: UnixTime,
) -> Result<Option<Target>, Error> {
    let here = target.session.id();
    if target.record.writing().is_some_and(|entry| entry.id == here)
        && tickets::can_write(open, target.place, target.session.is_answered())?
    {
        return Ok(Some(target));
    }
    let Some(session) = writing(open, target.place, &mut target.record, now)? else {
        return Ok(None);
    };
    target.session = session;
    Ok(Some(target))
}

/// Encrypts for one device, and puts the envelope into the outbox. Returns the envelope's row and
/// its number. The caller writes the record.
pub(super) fn post(
    open: &mut Open<'_>,
    target: &mut Target,
    letter: &Letter<'_>,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<(RowName, u64), Error> {
    let own = open.own()?;
    let is_text = letter.class == Class::Text && letter.resent.is_none();
    let seal = Seal::new(open, target, is_text, now, rng)?;
    let Target { address, place, record, session, known, is_doubted } = target;
    let id = session.id();
    let rank = record.entry(&id).map(|entry| entry.rank).filter(|_| !session.is_answered());
    let introduces = !session.is_answered() || letter.body.is_about_devices();
    let here = open.account.address();
    let list = introduces.then(|| own.user.list.encode());
    let content = Content {
        list: own.user.stamp(),
        // A manager that does not hold the account's key says that it knows no list of its own
        // account: whoever holds the key answers with both.
        known: if is_without_key(open, &own, address)? { None } else { Some(*known) },
        rank,
        asks: record.asks_in(&id),
        resent: letter.resent,
        devices: list.as_deref(),
        sealed: seal.fields(&here),
        body: letter.body,
    };
    let number = record.made;
    let named = Named { class: letter.class, number };
    let reference = open.account.references.reference(named, &id, &record.identity, rng);
    let head = Head::new(reference, seal.ticket);
    let from = if seal.is_first { None } else { Some(&here) };
    let bound = envelope::bound_to(head.as_slice(), from, address);
    let message = session.encrypt(&Zeroizing::new(content.encode()), &bound, rng)?;
    let length = head.as_slice().len().saturating_add(message.as_bytes().len());
    let mut envelope = Vec::with_capacity(length);
    envelope.extend_from_slice(head.as_slice());
    envelope.extend_from_slice(message.as_bytes());
    record.made = number.saturating_add(1);
    open.put_session(*place, session)?;
    // A signal is worth nothing soon: it goes first.
    let name = match letter.body {
        Body::Signal(_) => open.first_row_name(now, number, rng),
        _ => open.row_name(now, number, rng),
    };
    if envelope.len() > INLINE {
        open.put(Table::Outbox, &key(LONG, &name), &core::mem::take(&mut envelope))?;
    }
    let (to, message) = (address.clone(), letter.message);
    let (attempts, not_before, is_held) = (0, None, *is_doubted);
    let row = OutboxRow { to, message, attempts, not_before, is_held, envelope };
    put(open, &name, &row)?;
    Ok((name, number))
}

/// What seals an envelope, and what goes into its content for that.
struct Seal {
    /// None: the envelope is open.
    ticket: Option<Ticket>,
    /// It is sealed, and of a session that was not answered: it says who sent it inside.
    is_first: bool,
    given: Vec<[u8; Ticket::LENGTH]>,
    certificate: Option<Vec<u8>>,
    pass: Option<doors::Pass>,
    knows_pass: Option<u32>,
}

impl Seal {
    fn new(
        open: &mut Open<'_>,
        target: &Target,
        is_text: bool,
        now: UnixTime,
        rng: &mut dyn CryptoRng,
    ) -> Result<Self, Error> {
        let Target { address, place, record, session, .. } = target;
        let mut seal = Self {
            ticket: None,
            is_first: false,
            given: Vec::new(),
            certificate: None,
            pass: None,
            knows_pass: None,
        };
        if open.policy.delivery != Delivery::Sealed {
            return Ok(seal);
        }
        let mut peer = tickets::peer(open, *place)?;
        let is_unanswered = !session.is_answered();
        if tickets::seals(open, place.tag)? {
            seal.ticket = Some(peer.take().unwrap_or_else(|| Ticket::random(rng)));
            seal.is_first = is_unanswered;
            let unheard = Unheard { since: now, number: record.made, session: session.id() };
            if is_text && peer.wrote(unheard) {
                let most = tickets::most_silent(open).saturating_add(1);
                timers::set_silence(open, now.after(most), *place)?;
            }
        }
        if seal.is_first {
            seal.certificate = certificates::own(open)?.map(|own| own.encode());
        }
        seal.given = tickets::give(open, address, record, &mut peer, now, rng)?;
        (seal.pass, seal.knows_pass) = doors::to_tell(open, *place, &peer)?;
        tickets::put_peer(open, *place, &peer)?;
        Ok(seal)
    }

    fn fields<'a>(&'a self, here: &'a Address) -> SealedFields<'a> {
        let claimed = Claimed { device: here.device, user: &here.user };
        SealedFields {
            tickets: &self.given,
            sender: self.is_first.then_some(claimed),
            certificate: self.certificate.as_deref(),
            pass: self.pass.as_ref().map(|pass| (pass.number(), pass.as_bytes())),
            knows_pass: self.knows_pass,
        }
    }
}

/// Tells a device something that is no text, and writes its record. Returns the envelope's row.
pub(super) fn tell(
    open: &mut Open<'_>,
    target: &mut Target,
    body: Body<'_>,
    resent: Option<Reference>,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<RowName, Error> {
    let letter = Letter { body, class: Class::Other, resent, message: None };
    let (name, _) = post(open, target, &letter, now, rng)?;
    open.put_record(target.place, &target.record)?;
    Ok(name)
}

/// Whether this device is to hold the account's key and does not, and writes to one that may.
fn is_without_key(open: &mut Open<'_>, own: &OwnUser, to: &Address) -> Result<bool, Error> {
    let here = own.user.list.device_of(&open.account.identity);
    if !open.is_own(&to.user) || here.is_none_or(|here| here.role != Role::Manager) {
        return Ok(false);
    }
    match open.account_key() {
        Ok(_) => Ok(false),
        Err(Error::NotPermitted) => Ok(true),
        Err(error) => Err(error),
    }
}

/// The envelopes that wait, at most `most`, the oldest first.
pub(super) fn names(open: &mut Open<'_>, most: usize) -> Result<Vec<RowName>, Error> {
    let rows = open.scan(Table::Outbox, &[HEAD], most)?;
    rows.iter().map(|(key, _)| name_of(key)).collect()
}

/// Whether an envelope waits for a device whose number is this one or a lower one.
pub(super) fn has_up_to(open: &mut Open<'_>, to: &Address, number: u64) -> Result<bool, Error> {
    for (key, row) in open.peek(Table::Outbox, &[HEAD], usize::MAX)? {
        let row: OutboxRow = at_rest::state::decode(1, &row)?;
        if row.to == *to && number_of(&key) <= number {
            return Ok(true);
        }
    }
    Ok(false)
}

/// An envelope that waits for a device.
pub(super) struct WaitingFor {
    pub(super) name: RowName,
    pub(super) to: Address,
    pub(super) number: u64,
    pub(super) message: Option<MessageId>,
}

/// The envelopes that wait for some devices.
pub(super) fn waiting_for(
    open: &mut Open<'_>,
    is_one: impl Fn(&Address) -> bool,
) -> Result<Vec<WaitingFor>, Error> {
    let mut waiting = Vec::new();
    for (key, row) in open.scan(Table::Outbox, &[HEAD], usize::MAX)? {
        let OutboxRow { to, message, .. } = at_rest::state::decode(1, &row)?;
        if is_one(&to) {
            waiting.push(WaitingFor { name: name_of(&key)?, to, number: number_of(&key), message });
        }
    }
    Ok(waiting)
}

/// An envelope that waits.
pub(super) fn waiting(open: &mut Open<'_>, name: &RowName) -> Result<Option<WaitingFor>, Error> {
    let number = number_of(&key(HEAD, name));
    let row = head(open, name)?;
    Ok(row.map(|OutboxRow { to, message, .. }| WaitingFor { name: *name, to, number, message }))
}

/// The envelopes that may be sent now, at most `most`, the oldest first.
pub(super) fn due(open: &mut Open<'_>, now: UnixTime, most: usize) -> Result<Vec<RowName>, Error> {
    // Those that were handed out or failed lately are left out, and are few.
    let pages = [most.saturating_add(FEW_WAITING), usize::MAX];
    let mut due = Vec::new();
    for page in pages {
        let rows = open.peek(Table::Outbox, &[HEAD], page)?;
        due.clear();
        for (key, row) in &rows {
            let row: OutboxRow = at_rest::state::decode(1, row)?;
            if row.is_due(now) && due.len() < most {
                due.push(name_of(key)?);
            }
        }
        if due.len() == most || rows.len() < page {
            break;
        }
    }
    Ok(due)
}

/// When what waits may be sent.
pub(super) fn next_due(open: &mut Open<'_>, next: &mut Earliest) -> Result<(), Error> {
    for (_, row) in open.peek(Table::Outbox, &[HEAD], usize::MAX)? {
        let row: OutboxRow = at_rest::state::decode(1, &row)?;
        row.not_before.filter(|_| !row.is_held).into_iter().for_each(|time| next.take(time));
    }
    Ok(())
}

/// A task is made of it, if it may be sent now: it is not due before `until`.
pub(super) fn hand_out(
    open: &mut Open<'_>,
    name: &RowName,
    now: UnixTime,
    until: UnixTime,
) -> Result<Option<OutboxRow>, Error> {
    let Some(mut row) = head(open, name)?.filter(|row| row.is_due(now)) else { return Ok(None) };
    row.not_before = Some(until);
    put(open, name, &row)?;
    with_envelope(open, name, row).map(Some)
}

/// It could not be sent: it comes again later, and later each time.
pub(super) fn failed(open: &mut Open<'_>, name: &RowName, now: UnixTime) -> Result<(), Error> {
    let Some(mut row) = head(open, name)? else { return Ok(()) };
    row.not_before = Some(BACK_OFF.failed(&mut row.attempts, now));
    put(open, name, &row)
}

pub(super) fn row(open: &mut Open<'_>, name: &RowName) -> Result<Option<OutboxRow>, Error> {
    head(open, name)?.map(|row| with_envelope(open, name, row)).transpose()
}

/// The row of an envelope, without the envelope where that is long.
fn head(open: &mut Open<'_>, name: &RowName) -> Result<Option<OutboxRow>, Error> {
    open.get_as(Table::Outbox, &key(HEAD, name))
}

/// Everything may be sent at once now: the network is back, or a process that was sending it is
/// gone.
pub(super) fn hurry_all(open: &mut Open<'_>) -> Result<(), Error> {
    for (key, row) in open.scan(Table::Outbox, &[HEAD], usize::MAX)? {
        let mut row: OutboxRow = at_rest::state::decode(1, &row)?;
        if row.not_before.take().is_some() {
            row.attempts = 0;
            put(open, &name_of(&key)?, &row)?;
        }
    }
    Ok(())
}

/// As [`hurry_all`], of what waits for the devices of one user.
pub(super) fn hurry(open: &mut Open<'_>, user: &str) -> Result<(), Error> {
    for (key, row) in open.scan(Table::Outbox, &[HEAD], usize::MAX)? {
        let mut row: OutboxRow = at_rest::state::decode(1, &row)?;
        if row.to.user == user && row.not_before.take().is_some() {
            row.attempts = 0;
            put(open, &name_of(&key)?, &row)?;
        }
    }
    Ok(())
}

/// Of what waits for a user's devices, holds back what is for those in doubt, and nothing else.
pub(super) fn hold(open: &mut Open<'_>, user: &UserRecord) -> Result<(), Error> {
    for (key, row) in open.scan(Table::Outbox, &[HEAD], usize::MAX)? {
        let mut row: OutboxRow = at_rest::state::decode(1, &row)?;
        if row.to.user != user.name {
            continue;
        }
        let listed = user.list.get(row.to.device);
        let is_held = listed.is_some_and(|listed| user.is_doubted(&listed.identity));
        if core::mem::replace(&mut row.is_held, is_held) != is_held {
            put(open, &name_of(&key)?, &row)?;
        }
    }
    Ok(())
}

fn with_envelope(
    open: &mut Open<'_>,
    name: &RowName,
    mut row: OutboxRow,
) -> Result<OutboxRow, Error> {
    if row.envelope.is_empty() {
        row.envelope = open.get(Table::Outbox, &key(LONG, name))?.ok_or(Error::BadState)?.to_vec();
    }
    Ok(row)
}

fn put(open: &mut Open<'_>, name: &RowName, row: &OutboxRow) -> Result<(), Error> {
    let capacity = row.envelope.len().saturating_add(336);
    open.put_as(Table::Outbox, &key(HEAD, name), row, capacity)
}

/// Removes an envelope that waits. Returns the text in it, where there is one.
pub(super) fn remove(open: &mut Open<'_>, name: &RowName) -> Result<Option<MessageId>, Error> {
    let Some(row) = head(open, name)? else { return Ok(None) };
    if row.envelope.is_empty() {
        open.delete(Table::Outbox, &key(LONG, name))?;
    }
    open.delete(Table::Outbox, &key(HEAD, name))?;
    Ok(row.message)
}

/// The row that says where an envelope goes.
pub(super) fn stored_in(name: &RowName) -> (Table, [u8; 25]) {
    (Table::Outbox, key(HEAD, name))
}

/// Rows of this byte are listed; a long envelope is in a row of its own, so that neither listing
/// them nor noting that they were handed out moves those.
const HEAD: u8 = 0;
const LONG: u8 = 1;

/// Envelopes that wait in front of those that may be sent, as a rule.
const FEW_WAITING: usize = 32;

const BACK_OFF: BackOff = BackOff { first: 5, last: 60 * 60 };

/// Envelopes up to this length are in the row that lists them.
const INLINE: usize = 4_096;

fn key(kind: u8, name: &RowName) -> [u8; 25] {
    let mut key = [kind; 25];
    key[1..].copy_from_slice(name);
    key
}

/// The number of the envelope. Signals have none: theirs is above all.
fn number_of(key: &[u8]) -> u64 {
    let number = key.get(9..17).and_then(|number| number.first_chunk());
    number.map_or(u64::MAX, |number| u64::from_be_bytes(*number))
}

fn name_of(key: &[u8]) -> Result<RowName, Error> {
    key.get(1..).and_then(|name| name.try_into().ok()).ok_or(Error::BadState)
}
