//! Sealed mail: tickets that were given and got, and which device a ticket or a handshake stands
//! for (docs/sealed.md, 2 and 5).

use alloc::vec::Vec;

use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};

use super::transaction::{Open, Place, Tag};
use super::{Client, Delivery, Scope};
use crate::address::Address;
use crate::content::MOST_TICKETS;
use crate::error::Error;
use crate::identity::{self, IdentityKey};
use crate::sesame::DeviceRecord;
use crate::session::SessionId;
use crate::store::Table;
use crate::ticket::{ContactNumber, Ticket, TicketKeys};
use crate::time::UnixTime;

impl<S: Scope> Client<S> {
    /// How many sealed envelopes showed a ticket of this device for a contact that it does not
    /// know: they came for a store that was restored from a copy older than the contact, or from
    /// somebody who was forgotten. [`Event::UnknownContact`](super::Event::UnknownContact) tells of
    /// the first one and of each doubling.
    ///
    /// # Errors
    /// [`Error::Store`]
    pub fn unknown_contacts(&mut self) -> Result<u64, Error> {
        self.run(counted)
    }
}

/// Whom a ticket stands for.
pub(super) enum Shown {
    /// This device of a peer.
    Contact(ContactRow),
    /// A contact that is not known here.
    Nobody,
    /// It was not made here, or too long ago.
    Nothing,
}

impl Shown {
    pub(super) fn contact(self) -> Option<Address> {
        match self {
            Self::Contact(contact) => Some(contact.address),
            Self::Nobody | Self::Nothing => None,
        }
    }
}

/// A device of a peer that tickets were given to.
#[derive(Serialize, Deserialize)]
pub(super) struct ContactRow {
    address: Address,
    #[serde(with = "identity::checked")]
    identity: IdentityKey,
}

/// What was given to a device of a peer, and got from it.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct PeerRow {
    /// Its number.
    contact: Option<ContactNumber>,
    /// Tickets that were made for it.
    counter: u32,
    /// How many of its envelopes had been opened when it was last given some.
    given_at: u64,
    /// Its tickets for envelopes to it, those to use next first.
    held: Vec<Ticket>,
    /// The only one that is left was used.
    is_used: bool,
    /// The number of this account's pass that it says it has.
    pub(super) knows_pass: u32,
    /// The first sealed text since it answered.
    unheard: Option<Unheard>,
    timer: Timer,
}

/// What looks at whether a device is silent.
#[derive(Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Timer {
    #[default]
    None,
    Set,
    /// The time is over. What waits at the server is fetched first.
    Over,
}

/// A sealed text to a device, which has not answered since.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(super) struct Unheard {
    pub(super) since: UnixTime,
    /// The number of its envelope.
    pub(super) number: u64,
    /// The session that it is in.
    pub(super) session: SessionId,
}

/// A content of a device that was opened.
pub(super) struct Heard {
    /// The session that it came in.
    pub(super) session: SessionId,
    /// Whether it is the device's first one in that session, and whether it is older than what a
    /// later session brought.
    pub(super) is_first: bool,
    pub(super) is_old: bool,
    /// Whether the device had read something of what is written in that session now.
    pub(super) is_answer: bool,
    /// Whether the device writes its other contents in another session.
    pub(super) asks: bool,
    /// The session that is written in now.
    pub(super) writing: Option<SessionId>,
}

/// The session that an initial message began.
#[derive(Serialize, Deserialize)]
struct HandshakeRow {
    address: Address,
    #[serde(with = "identity::checked")]
    identity: IdentityKey,
    session: SessionId,
}

/// `KEYS`, `CONTACT || number:5`, `PEER || place:32`, `NOBODY`; see also `Open::handshake_key`.
const KEYS: u8 = 0;
const CONTACT: u8 = 1;
const PEER: u8 = 2;
const NOBODY: u8 = 4;

/// Tickets in each sealed content, whether any were opened or not, so that its length does not show
/// how many were; and in one before which more than that were opened.
const FEW: usize = 4;

impl PeerRow {
    pub(super) fn has_ticket(&self) -> bool {
        !self.held.is_empty()
    }

    /// The ticket for the next envelope: each once, and the last one again where there is no other.
    pub(super) fn take(&mut self) -> Option<Ticket> {
        let ticket = *self.held.first()?;
        if self.held.len() > 1 {
            self.held.remove(0);
        } else {
            self.is_used = true;
        }
        Some(ticket)
    }

    /// The first text since the device answered.
    pub(super) const fn unheard(&self) -> Option<Unheard> {
        self.unheard
    }

    /// A sealed text is written to the device. True where a timer is to be set.
    pub(super) fn wrote(&mut self, unheard: Unheard) -> bool {
        self.unheard.get_or_insert(unheard);
        let is_none = self.timer == Timer::None;
        if is_none {
            self.timer = Timer::Set;
        }
        is_none
    }

    pub(super) const fn timer(&self) -> Timer {
        self.timer
    }

    /// What is waited for from now on, and how.
    pub(super) const fn wait(&mut self, unheard: Option<Unheard>, timer: Timer) {
        (self.unheard, self.timer) = (unheard, timer);
    }

    /// Something of the device was opened. Returns the first text that the device may have been
    /// unable to read, and to ask for, where it is to be sent again: the device writes in the
    /// session that is written in, and that is another one now.
    fn heard(&mut self, heard: &Heard) -> Option<Unheard> {
        let unheard = self.unheard.as_mut()?;
        let is_writing = heard.writing == Some(heard.session);
        if heard.session == unheard.session {
            if !heard.is_answer {
                // It was written before the text came.
                return None;
            }
            match heard.writing.filter(|_| !is_writing) {
                // Later texts are in this one.
                Some(writing) => unheard.session = writing,
                None => self.unheard = None,
            }
            return None;
        }
        // Otherwise it asks for something else, or what it wrote is from before, or it cannot read
        // what is written to it now.
        if !heard.asks && is_writing { self.unheard.take() } else { None }
    }

    /// Keeps tickets that came, the newest [`MOST_TICKETS`].
    fn add(&mut self, tickets: &[[u8; Ticket::LENGTH]]) {
        if self.is_used {
            self.held.clear();
            self.is_used = false;
        }
        self.held.extend(tickets.iter().map(|ticket| Ticket(*ticket)));
        self.held.drain(..self.held.len().saturating_sub(MOST_TICKETS)).for_each(drop);
    }
}

/// Seconds of silence after which a session is begun anew: four sevenths of the time for which
/// texts are kept, four days. What is left of that time is for apps that are opened seldom.
pub(super) const fn most_silent(open: &Open<'_>) -> u64 {
    (open.policy.log_age / 7).saturating_mul(4)
}

/// Whether mail to a user is sealed: by the app's word for this user, or by the policy.
pub(super) fn seals(open: &mut Open<'_>, tag: Tag) -> Result<bool, Error> {
    // Without a word about sealed mail nothing is read for it.
    if open.policy.delivery != Delivery::Sealed {
        return Ok(false);
    }
    let key = open_key(tag);
    Ok(open.get(Table::Ticket, &key)?.is_none())
}

/// Notes whether mail to a user is open, although the policy is to seal it.
pub(super) fn set_open(open: &mut Open<'_>, tag: Tag, is_open: bool) -> Result<(), Error> {
    let key = open_key(tag);
    if is_open { open.put(Table::Ticket, &key, &[]) } else { open.delete(Table::Ticket, &key) }
}

fn open_key(tag: Tag) -> Vec<u8> {
    const OPENLY: u8 = 5;
    [&[OPENLY][..], &tag.0].concat()
}

/// Whether a session can be written in: an answered one needs a ticket to be found by.
pub(super) fn can_write(
    open: &mut Open<'_>,
    place: Place,
    is_answered: bool,
) -> Result<bool, Error> {
    Ok(!is_answered || !seals(open, place.tag)? || peer(open, place)?.has_ticket())
}

/// Whom a ticket stands for.
pub(super) fn read(open: &mut Open<'_>, ticket: Ticket) -> Result<Shown, Error> {
    let Some(number) = keys(open)?.read(ticket) else { return Ok(Shown::Nothing) };
    let row = open.get_as(Table::Ticket, &contact_key(number))?;
    Ok(row.map_or(Shown::Nobody, Shown::Contact))
}

/// Counts an envelope for a contact that is not known here. Returns the number where the app is to
/// be told of it.
pub(super) fn count_nobody(open: &mut Open<'_>) -> Result<Option<u64>, Error> {
    let count = counted(open)?.saturating_add(1);
    open.put(Table::Ticket, &[NOBODY], &count.to_be_bytes())?;
    Ok(count.is_power_of_two().then_some(count))
}

fn counted(open: &mut Open<'_>) -> Result<u64, Error> {
    let row = open.get(Table::Ticket, &[NOBODY])?;
    Ok(row.and_then(|row| row.as_slice().try_into().ok()).map_or(0, u64::from_be_bytes))
}

/// What was given to a device, and got from it.
pub(super) fn peer(open: &mut Open<'_>, place: Place) -> Result<PeerRow, Error> {
    Ok(open.get_as(Table::Ticket, &peer_key(place))?.unwrap_or_default())
}

pub(super) fn put_peer(open: &mut Open<'_>, place: Place, row: &PeerRow) -> Result<(), Error> {
    open.put_as(Table::Ticket, &peer_key(place), row, 400)
}

/// Takes in what a content brought of the device's tickets, and the number of the pass it has.
/// With the first content in a session the device may not know its tickets of before any more.
/// Returns the first text that is to be sent to the device again.
pub(super) fn take_in(
    open: &mut Open<'_>,
    place: Place,
    tickets: &[[u8; Ticket::LENGTH]],
    knows_pass: Option<u32>,
    heard: &Heard,
) -> Result<Option<Unheard>, Error> {
    if tickets.is_empty() && knows_pass.is_none() && open.policy.delivery != Delivery::Sealed {
        return Ok(None);
    }
    let mut row = peer(open, place)?;
    let lost = row.heard(heard);
    // The device may have none of the keys that it made its former tickets with.
    if !heard.is_old {
        if heard.is_first {
            row.held.clear();
        }
        row.add(tickets);
    }
    row.knows_pass = knows_pass.unwrap_or(row.knows_pass);
    put_peer(open, place, &row)?;
    Ok(lost)
}

/// Tickets for the device that a content is for: 4, or 16 where more of its envelopes were opened
/// since the last ones. The caller writes the row.
pub(super) fn give(
    open: &mut Open<'_>,
    address: &Address,
    record: &DeviceRecord,
    row: &mut PeerRow,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<Vec<[u8; Ticket::LENGTH]>, Error> {
    let opened = usize::try_from(record.opened.saturating_sub(row.given_at)).unwrap_or(usize::MAX);
    let count = if opened > FEW { MOST_TICKETS } else { FEW };
    let mut keys = keys(open)?;
    if keys.is_due(now) {
        keys.renew(now, rng);
        open.put_as(Table::Ticket, &[KEYS], &keys, TicketKeys::MOST_BYTES)?;
    }
    let contact = match row.contact {
        Some(contact) => contact,
        None => number(open, address, &record.identity)?,
    };
    row.contact = Some(contact);
    row.given_at = record.opened;
    let mut given = Vec::with_capacity(count);
    for _ in 0..count {
        given.extend(keys.make(contact, row.counter).map(|ticket| ticket.0));
        row.counter = row.counter.wrapping_add(1);
    }
    Ok(given)
}

/// New keys, since the store proved to be restored from a copy: counters may have been used, and no
/// ticket may be made twice.
pub(super) fn renew(
    open: &mut Open<'_>,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<(), Error> {
    if open.policy.delivery != Delivery::Sealed {
        return Ok(());
    }
    let mut keys = keys(open)?;
    keys.renew(now, rng);
    open.put_as(Table::Ticket, &[KEYS], &keys, TicketKeys::MOST_BYTES)
}

/// The number of a device, which no other one has. It follows from the user's name and the
/// identity. So a store that was restored from a copy takes no device for another, and nobody who
/// lists the device of another user takes the number of that one.
fn number(
    open: &mut Open<'_>,
    address: &Address,
    identity: &IdentityKey,
) -> Result<ContactNumber, Error> {
    let place = open.place(open.tag(&address.user)?, identity);
    for attempt in 0..=u8::MAX {
        let number = ContactNumber(open.contact_number(place, attempt));
        let key = contact_key(number);
        match open.get_as::<ContactRow>(Table::Ticket, &key)? {
            Some(other) if other.identity != *identity => {}
            _ => {
                let row = ContactRow { address: address.clone(), identity: *identity };
                open.put_as(Table::Ticket, &key, &row, 320)?;
                return Ok(number);
            }
        }
    }
    Err(Error::Exhausted)
}

fn keys(open: &mut Open<'_>) -> Result<TicketKeys, Error> {
    Ok(open.get_as(Table::Ticket, &[KEYS])?.unwrap_or_default())
}

/// Notes which session an initial message began.
pub(super) fn note_handshake(
    open: &mut Open<'_>,
    ephemeral_key: &[u8; 32],
    (address, identity): (&Address, &IdentityKey),
    session: SessionId,
) -> Result<(), Error> {
    let row = HandshakeRow { address: address.clone(), identity: *identity, session };
    let key = open.handshake_key(ephemeral_key);
    open.put_as(Table::Ticket, &key, &row, 352)
}

/// The device whose session an initial message belongs to.
pub(super) fn by_handshake(
    open: &mut Open<'_>,
    ephemeral_key: &[u8; 32],
) -> Result<Option<Address>, Error> {
    let key = open.handshake_key(ephemeral_key);
    let Some(row) = open.get_as::<HandshakeRow>(Table::Ticket, &key)? else { return Ok(None) };
    let place = open.place(open.tag(&row.address.user)?, &row.identity);
    Ok(open.session(place, &row.session)?.map(|_| row.address))
}

/// Forgets a device: its tickets stand for nobody from now on.
pub(super) fn forget_device(open: &mut Open<'_>, place: Place) -> Result<(), Error> {
    let Some(row) = open.get_as::<PeerRow>(Table::Ticket, &peer_key(place))? else {
        return Ok(());
    };
    if let Some(contact) = row.contact {
        open.delete(Table::Ticket, &contact_key(contact))?;
    }
    open.delete(Table::Ticket, &peer_key(place))
}

fn contact_key(ContactNumber(number): ContactNumber) -> Vec<u8> {
    [&[CONTACT][..], &number].concat()
}

fn peer_key(place: Place) -> Vec<u8> {
    [&[PEER][..], &place.key()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::at_rest;

    fn some(count: u8) -> Vec<[u8; 16]> {
        (0..count).map(|byte| [byte; 16]).collect()
    }

    #[test]
    fn each_ticket_is_used_once_and_the_last_one_again() {
        let mut row = PeerRow::default();
        assert_eq!(row.take(), None);
        row.add(&some(3));
        let used: Vec<u8> = (0..5).map(|_| row.take().unwrap().0[0]).collect();
        assert_eq!(used, [0, 1, 2, 2, 2]);
        // One that was used is not used again once there are others.
        row.add(&[[7; 16], [8; 16]]);
        let used: Vec<u8> = (0..3).map(|_| row.take().unwrap().0[0]).collect();
        assert_eq!(used, [7, 8, 8]);
    }

    #[test]
    fn what_a_device_may_not_have_read_is_sent_again_once_it_writes_in_another_session() {
        let [here, there, third] = sessions();
        let heard = |session, asks, writing| {
            let mut row = PeerRow::default();
            row.wrote(Unheard { since: since(), number: 7, session: here });
            let heard = Heard { asks, ..an_answer(session, writing) };
            let again = row.heard(&heard).map(|lost| lost.number);
            (again, row.unheard.is_some())
        };
        assert_eq!(heard(there, false, there), (Some(7), false));
        for asks in [false, true] {
            assert_eq!(heard(here, asks, here), (None, false));
            assert_eq!(heard(here, asks, there), (None, true));
            assert_eq!(heard(there, asks, here), (None, true));
            assert_eq!(heard(there, asks, third), (None, true));
        }
        assert_eq!(heard(there, true, there), (None, true));
    }

    #[test]
    fn what_is_heard_in_a_former_session_says_nothing_of_texts_in_the_later_one() {
        let [former, later, _] = sessions();
        let mut row = PeerRow::default();
        row.wrote(Unheard { since: since(), number: 7, session: former });
        assert!(row.heard(&an_answer(former, later)).is_none());
        let unheard = row.unheard.map(|unheard| (unheard.number, unheard.session));
        assert_eq!(unheard, Some((7, later)));
        assert!(row.heard(&an_answer(later, later)).is_none());
        assert!(row.unheard.is_none());
    }

    #[test]
    fn what_was_written_before_a_text_came_says_nothing_of_it() {
        let [here, there, _] = sessions();
        let mut row = PeerRow::default();
        row.wrote(Unheard { since: since(), number: 7, session: here });
        for writing in [here, there] {
            let heard = Heard { is_answer: false, ..an_answer(here, writing) };
            assert!(row.heard(&heard).is_none());
            assert_eq!(row.unheard.map(|unheard| unheard.session), Some(here));
        }
    }

    /// An answer in this session, while that one is written in.
    const fn an_answer(session: SessionId, writing: SessionId) -> Heard {
        let (is_first, is_old, is_answer, asks) = (false, false, true, false);
        Heard { session, is_first, is_old, is_answer, asks, writing: Some(writing) }
    }

    fn sessions() -> [SessionId; 3] {
        [1, 2, 3].map(|byte| postcard::from_bytes(&[&[32][..], &[byte; 32]].concat()).unwrap())
    }

    fn since() -> UnixTime {
        UnixTime::from_secs(1_800_000_000).unwrap()
    }

    #[test]
    fn a_device_that_gives_tickets_without_end_takes_no_more_room() {
        let mut row = PeerRow::default();
        for _ in 0..100 {
            row.add(&some(16));
        }
        row.add(&[[99; 16]]);
        assert_eq!(row.held.len(), MOST_TICKETS);
        assert_eq!(row.held.last(), Some(&Ticket([99; 16])));
        assert!(at_rest::state::encode(1, &row, 4_096).len() <= 360);
    }
}
