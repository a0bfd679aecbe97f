//! In: whose an envelope is, what its sender may say, the inbox.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use rand_core::CryptoRng;
use zeroize::Zeroizing;

use super::admission::{self, Admitted, Sender};
use super::allowances::{self, HANDSHAKES, NOBODYS_HANDSHAKES, Party};
use super::aside::{self, AsideRow};
use super::asking;
use super::calls;
use super::compare;
use super::doors;
use super::events::{EnvelopeId, Event};
use super::group_changes;
use super::group_receive::{self, Arrived};
use super::group_rows;
use super::heal::{self, Healing, Unreadable};
use super::history;
use super::inbox::{self, Incoming, Item, Text};
use super::opening::{
    Arrival, Begun, Candidate, Opened, Opening, candidates, open_handshake, open_message,
};
use super::outbox::{self, Target};
use super::prekeys;
use super::seen;
use super::silence;
use super::telling;
use super::tickets::{self, Heard, Shown};
use super::timers;
use super::transaction::{Open, OwnUser, Place, Tag};
use super::trust;
use super::verify;
use super::wants::{self, Want};
use super::{Client, Scope};
use crate::address::Address;
use crate::content::{Body, Claimed, Content, GroupBody, Move, SealedFields, Written, attachment};
use crate::crypto::stack;
use crate::envelope::{self, Envelope};
use crate::error::Error;
use crate::group;
use crate::identity::IdentityKey;
use crate::reference::Reference;
use crate::sesame::{DeviceRecord, Standing, Trust, UserRecord};
use crate::session::{MessageKind, Session, SessionId};
use crate::store::Table;
use crate::ticket::Ticket;
use crate::time::UnixTime;

/// What became of an envelope. Acknowledge it to the server in any case but one: see
/// [`Received::Refused`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "some envelopes have to stay with the server"]
pub enum Received {
    /// A text, or something that the app has to hear of: it is in the inbox now.
    Incoming(Box<Incoming>),
    /// It is in the inbox only once somebody accepts the account key that it came under:
    /// [`Client::held`].
    Held,
    /// A signal of a call: [`Client::take_signals`] has it.
    Signal,
    /// It was between the devices themselves: nothing to show.
    Handled,
    /// It was here before.
    Duplicate,
    /// Nothing opens it. Its sender is asked to send it again, and what comes then names this
    /// envelope: [`Text::resent`]. If it cannot be had any more, [`Event::Lost`] says so.
    AskedAgain(EnvelopeId),
    /// It cannot be judged yet. The client keeps it, and looks at it again by itself.
    SetAside,
    /// It is not taken, for this reason, and nothing changed. Where that is [`Error::RateLimited`],
    /// there is no room to set it aside either: leave it with the server, or drop it, as the app's
    /// servers can bear. Where it is [`Error::UnsupportedVersion`], a later version of this crate
    /// may open it. Otherwise it is worth nothing.
    Refused(Error),
}

impl<S: Scope> Client<S> {
    /// Opens an envelope that came, as the transport says, `from` there; none where the transport
    /// does not know. What was written is in the inbox when this returns. A forgery is not an error
    /// but [`Received::Refused`].
    ///
    /// The transport needs to be right about `from` only for things to work: nothing opens under a
    /// false name. A sealed envelope says to this device alone who sent it; where the transport
    /// says something else, it is refused.
    ///
    /// # Errors
    /// [`Error::Store`], [`Error::BadState`]: do not acknowledge it.
    pub fn receive(
        &mut self,
        from: Option<&Address>,
        envelope: &[u8],
        now: UnixTime,
        rng: &mut dyn CryptoRng,
    ) -> Result<Received, Error> {
        self.run(|open| open.whole(|open| receive(open, from, envelope, now, rng)))
    }
}

/// What became of an envelope, and of whom it is, where that is known.
struct Judged {
    received: Received,
    from: Option<Address>,
    /// The identity that a sealed envelope proved, where it begins a session.
    proved: Option<IdentityKey>,
}

impl Judged {
    const fn nobodys(received: Received) -> Self {
        Self { received, from: None, proved: None }
    }

    const fn of(from: Address, received: Received) -> Self {
        Self { received, from: Some(from), proved: None }
    }
}

fn receive(
    open: &mut Open<'_>,
    from: Option<&Address>,
    bytes: &[u8],
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<Received, Error> {
    if envelope::is_sealed(bytes) {
        open.quiet = timers::drawn(MOST_QUIET, rng);
    }
    let received = receive_or_set_aside(open, from, bytes, now, rng);
    open.quiet = 0;
    received
}

/// What sealed mail makes the client ask of the network is asked at a time that is drawn, within
/// this many seconds: 10 minutes.
const MOST_QUIET: u64 = 10 * 60;

fn receive_or_set_aside(
    open: &mut Open<'_>,
    from: Option<&Address>,
    bytes: &[u8],
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<Received, Error> {
    let Judged { received, from, proved } = receive_once(open, from, bytes, now, rng)?;
    let (Received::Refused(why), Some(from)) = (&received, &from) else { return Ok(received) };
    let wanted = match why {
        Error::DevicesNeeded(_) | Error::UnknownDevice(_) => true,
        Error::RateLimited | Error::IdentityChanged(_) => false,
        _ => return Ok(received),
    };
    let tag = open.tag(&from.user)?;
    let is_known = open.user(tag)?.is_some();
    if wanted && (is_known || wants::has_room(open)?) {
        wants::want(open, Want::Devices(from.user.clone()), now)?;
    }
    let row = AsideRow::new(from.clone(), proved, now, bytes);
    if !aside::set(open, tag, &row, rng)? {
        return Ok(Received::Refused(Error::RateLimited));
    }
    wants::want(open, Want::Aside(from.user.clone()), now)?;
    wants::failed(open, &Want::Aside(from.user.clone()), now)?;
    Ok(Received::SetAside)
}

/// Looks once more at what was set aside of one sender's name. Says whether any of it is still
/// aside.
pub(super) fn again(
    open: &mut Open<'_>,
    user: &str,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<bool, Error> {
    let tag = open.tag(user)?;
    let mut is_left = false;
    for mut row in aside::take(open, tag)? {
        // A sealed one says itself whose it is.
        let from = Some(&row.from).filter(|_| !envelope::is_sealed(&row.envelope));
        open.is_again = true;
        let judged = receive_once(open, from, &row.envelope, now, rng);
        open.is_again = false;
        let received = match judged? {
            Judged { received: Received::Refused(why), from: None, .. } => {
                ask_as_proved(open, &row, why, now, rng)?
            }
            judged => judged.received,
        };
        if let Received::Refused(
            Error::DevicesNeeded(_)
            | Error::UnknownDevice(_)
            | Error::RateLimited
            | Error::IdentityChanged(_),
        ) = received
            && row.stays(now)
        {
            is_left |= aside::set(open, tag, &row, rng)?;
        }
    }
    Ok(is_left)
}

/// Asks for what opened when it was set aside and does not any more, of the device that it proved
/// to be from. By a name alone nothing is asked: a server may have made it up, to see who asks.
fn ask_as_proved(
    open: &mut Open<'_>,
    row: &AsideRow,
    why: Error,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<Received, Error> {
    let may_heal = matches!(why, Error::UnknownPrekey | Error::Replay | Error::Decrypt);
    let Some(proved) = row.proved.filter(|_| may_heal) else { return Ok(Received::Refused(why)) };
    let tag = open.tag(&row.from.user)?;
    let known = open.user(tag)?;
    let listed = known.as_ref().and_then(|user| user.list.get(row.from.device));
    if listed.is_none_or(|listed| listed.identity != proved) {
        return Ok(Received::Refused(Error::UnknownDevice(Box::new(row.from.clone()))));
    }
    match Envelope::decode(&row.envelope) {
        Ok(envelope) => Ok(fail(open, (&row.from, true), &envelope, why, now, rng)?.received),
        Err(error) => Ok(Received::Refused(error)),
    }
}

fn receive_once(
    open: &mut Open<'_>,
    from: Option<&Address>,
    bytes: &[u8],
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<Judged, Error> {
    if group::Envelope::is_one(bytes) {
        return receive_of_group(open, from, bytes, now, rng);
    }
    let envelope = match Envelope::decode(bytes) {
        Ok(envelope) => envelope,
        Err(error) => return Ok(Judged::nobodys(Received::Refused(error))),
    };
    match (envelope.ticket, from) {
        (Some(ticket), from) => receive_sealed(open, from, (&envelope, ticket), now, rng),
        (None, Some(from)) => receive_from(open, from.clone(), &envelope, now, rng),
        // An open envelope does not say who sent it.
        (None, None) => Ok(Judged::nobodys(Received::Refused(Error::NoSender))),
    }
}

/// Opens a sealed envelope: its ticket says whose it is, or the session that its handshake began.
/// Where it begins one, nobody knows before it is opened.
fn receive_sealed(
    open: &mut Open<'_>,
    transport: Option<&Address>,
    (envelope, ticket): (&Envelope<'_>, Ticket),
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<Judged, Error> {
    let shown = tickets::read(open, ticket)?;
    let sender = match envelope.message.ephemeral_key() {
        None => None,
        Some(key) => match tickets::by_handshake(open, key)? {
            Some(sender) => Some(sender),
            None => return begin(open, transport, shown, envelope, now, rng),
        },
    };
    let is_nobody = matches!(shown, Shown::Nobody);
    match sender.or_else(|| shown.contact()) {
        Some(sender) if transport.is_none_or(|transport| *transport == sender) => {
            receive_from(open, sender, envelope, now, rng)
        }
        Some(_) => Ok(Judged::nobodys(Received::Refused(Error::Decrypt))),
        None => {
            if is_nobody && let Some(envelopes) = tickets::count_nobody(open)? {
                inbox::tell(open, Event::UnknownContact { envelopes }, now, rng)?;
            }
            Ok(Judged::nobodys(Received::Refused(Error::UnknownHeader)))
        }
    }
}

/// Opens a sealed envelope that begins a session. Whose it is, the message says once it has opened;
/// the identity in its handshake alone proves nothing, and nothing is done by it.
///
/// A good ticket charges its contact, so that a flood of handshakes takes nothing from contacts.
fn begin(
    open: &mut Open<'_>,
    transport: Option<&Address>,
    shown: Shown,
    envelope: &Envelope<'_>,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<Judged, Error> {
    let contact = shown.contact();
    let (party, allowance) = match &contact {
        Some(contact) => {
            let tag = open.tag(&contact.user)?;
            if doors::is_blocked(open, tag)? {
                return Ok(Judged::nobodys(Received::Refused(Error::Blocked)));
            }
            (Party::Contact(tag), &HANDSHAKES)
        }
        None => (Party::Nobody, &NOBODYS_HANDSHAKES),
    };
    let bound = envelope::bound_to(envelope.head, None, &open.account.address());
    let opened = match open_handshake(open, envelope, &bound, (party, allowance), now)? {
        Opening::Opened(opened) => opened,
        Opening::Failed(why) => {
            let Some(from) = contact else {
                return Ok(Judged::nobodys(Received::Refused(why)));
            };
            return fail(open, (&from, true), envelope, why, now, rng);
        }
    };
    let Begun { session, plaintext, used } = *opened;
    let claimed = match Content::decode(&plaintext).map(|content| content.sealed.sender) {
        Ok(Some(claimed)) => Address::new(claimed.user, claimed.device),
        Ok(None) => return Ok(Judged::nobodys(Received::Refused(Error::Malformed))),
        Err(error) => return Ok(Judged::nobodys(Received::Refused(error))),
    };
    let tag = open.tag(&claimed.user)?;
    let own = open.own()?;
    let refused = if claimed == open.account.address() || session.peer() == open.account.identity {
        Some(Error::OwnIdentity)
    } else if transport.is_some_and(|transport| *transport != claimed) {
        Some(Error::Decrypt)
    } else if doors::is_blocked(open, tag)? {
        Some(Error::Blocked)
    } else {
        None
    };
    if let Some(error) = refused {
        return Ok(Judged::nobodys(Received::Refused(error)));
    }
    let identity = session.peer();
    let place = open.place(tag, &identity);
    let record = open.record(place, &identity)?;
    let candidate = Candidate { place, record };
    let opened = Opened { candidate, session, plaintext, handshake: Some(used) };
    let known = open.user(tag)?;
    let arrival = Arrival { from: &claimed, tag, is_sealed: true, now };
    let received = take_in(open, arrival, envelope.reference, opened, (known, &own), rng)?;
    if contact.is_none() && !matches!(received, Received::Refused(_)) {
        charge_member(open, (tag, &identity), now)?;
    }
    Ok(Judged { received, from: Some(claimed), proved: Some(identity) })
}

/// The first sealed handshakes with the members of a large group are many at once. One that proves
/// to be a member's is charged to the member, and not to those that nobody knows.
fn charge_member(
    open: &mut Open<'_>,
    (tag, identity): (Tag, &IdentityKey),
    now: UnixTime,
) -> Result<(), Error> {
    let Some(user) = open.user(tag)? else { return Ok(()) };
    // Anybody can make a list of their own under the member's name.
    if user.list.device_of(identity).is_none() {
        return Ok(());
    }
    if group_rows::shares_group(open, tag, &user.list.account())?
        && allowances::take(open, &HANDSHAKES, Party::Contact(tag), 1, now)?
    {
        allowances::give_back(open, &NOBODYS_HANDSHAKES, Party::Nobody, 1)?;
    }
    Ok(())
}

/// Opens an envelope of a known address.
fn receive_from(
    open: &mut Open<'_>,
    from: Address,
    envelope: &Envelope<'_>,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<Judged, Error> {
    let received = receive_known(open, &from, envelope, now, rng)?;
    Ok(Judged::of(from, received))
}

fn receive_known(
    open: &mut Open<'_>,
    from: &Address,
    envelope: &Envelope<'_>,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<Received, Error> {
    if *from == open.account.address() {
        return Ok(Received::Refused(Error::OwnIdentity));
    }
    let tag = match open.tag(&from.user) {
        Ok(tag) => tag,
        Err(error) => return Ok(Received::Refused(error)),
    };
    let arrival = Arrival { from, tag, is_sealed: envelope.ticket.is_some(), now };
    let own_tag = open.own_tag()?;
    let (doors, blocked) = doors::blocked_in(tag);
    open.prefetch(&[(Table::User, &tag.0), (Table::User, &own_tag.0), (doors, &blocked)])?;
    if doors::is_blocked(open, tag)? {
        return Ok(Received::Refused(Error::Blocked));
    }
    let (known, own) = (open.user(tag)?, open.own()?);
    let candidates = candidates(open, arrival, known.as_ref())?;
    let places: Vec<Place> = candidates.iter().map(|candidate| candidate.place).collect();
    let is_initial = envelope.message.kind() == MessageKind::Initial;
    // What opens a regular message uses its key up: `take_in` finds out whether it is a repetition.
    if is_initial && is_repeated(open, &places, envelope.reference)? {
        return Ok(Received::Duplicate);
    }
    let opened = match open_message(open, arrival, envelope, candidates, known.is_some())? {
        Opening::Opened(opened) => opened,
        Opening::Failed(_) if !is_initial && is_repeated(open, &places, envelope.reference)? => {
            return Ok(Received::Duplicate);
        }
        Opening::Failed(why) => {
            let judged = fail(open, (from, is_initial), envelope, why, now, rng)?;
            return Ok(judged.received);
        }
    };
    take_in(open, arrival, envelope.reference, *opened, (known, &own), rng)
}

/// Opens an envelope for a group: its label says which, and its hint who wrote it.
fn receive_of_group(
    open: &mut Open<'_>,
    from: Option<&Address>,
    bytes: &[u8],
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<Judged, Error> {
    let Some(from) = from else {
        return Ok(Judged::nobodys(Received::Refused(Error::NoSender)));
    };
    let judged = |received| Judged::of(from.clone(), received);
    if *from == open.account.address() {
        return Ok(judged(Received::Refused(Error::OwnIdentity)));
    }
    let tag = match open.tag(&from.user) {
        Ok(tag) => tag,
        Err(error) => return Ok(Judged::nobodys(Received::Refused(error))),
    };
    if doors::is_blocked(open, tag)? {
        return Ok(judged(Received::Refused(Error::Blocked)));
    }
    let known = open.user(tag)?;
    let arrived = group_receive::open_envelope(open, from, known.as_ref(), bytes, now, rng)?;
    let (why, reference) = match arrived {
        Arrived::Incoming(incoming) => return Ok(judged(Received::Incoming(incoming))),
        Arrived::Handled => return Ok(judged(Received::Handled)),
        Arrived::Duplicate => return Ok(judged(Received::Duplicate)),
        Arrived::Refused(error) => return Ok(judged(Received::Refused(error))),
        Arrived::Unreadable(why, reference) => (why, Reference(reference)),
    };
    let (is_initial, is_sealed) = (false, false);
    let unreadable = Unreadable { from, tag, reference, why, is_initial, is_sealed };
    Ok(judged(match heal::unreadable(open, &unreadable, known.as_ref(), now, rng)? {
        Healing::Asked => Received::AskedAgain(EnvelopeId::of(open, from, reference)),
        Healing::Refused(error) => Received::Refused(error),
    }))
}

/// Nothing opens an envelope of a known address: it is asked for.
fn fail(
    open: &mut Open<'_>,
    (from, is_initial): (&Address, bool),
    envelope: &Envelope<'_>,
    why: Error,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<Judged, Error> {
    let (tag, reference) = (open.tag(&from.user)?, envelope.reference);
    let known = open.user(tag)?;
    let is_sealed = envelope.ticket.is_some();
    let unreadable = Unreadable { from, tag, reference, why, is_initial, is_sealed };
    let received = match heal::unreadable(open, &unreadable, known.as_ref(), now, rng)? {
        Healing::Asked => Received::AskedAgain(EnvelopeId::of(open, from, reference)),
        Healing::Refused(error) => Received::Refused(error),
    };
    Ok(Judged::of(from.clone(), received))
}

/// Whether one of these devices sent this envelope before.
fn is_repeated(open: &mut Open<'_>, places: &[Place], reference: Reference) -> Result<bool, Error> {
    for place in places {
        if seen::was_seen(open, *place, &reference.0)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Takes in what a session opened. Nothing is written of it before its sender is known.
fn take_in(
    open: &mut Open<'_>,
    arrival: Arrival<'_>,
    reference: Reference,
    opened: Opened,
    (known, own): (Option<UserRecord>, &OwnUser),
    rng: &mut dyn CryptoRng,
) -> Result<Received, Error> {
    let Arrival { from, tag, is_sealed, now } = arrival;
    let Opened { candidate: Candidate { place, mut record }, session, plaintext, handshake } =
        opened;
    let content = match Content::decode(&plaintext) {
        Ok(content) => content,
        Err(error) => return Ok(Received::Refused(error)),
    };
    // A sealed message that says who sent it says the same as its session.
    let is_other =
        |claimed: Claimed<'_>| (claimed.device, claimed.user) != (from.device, &*from.user);
    if is_sealed && content.sealed.sender.is_some_and(is_other) {
        return Ok(Received::Refused(Error::Malformed));
    }
    let was_writing = record.writing().is_some();
    let dropped = match count(&mut record, &session, &content, open.policy.seen / 2, now) {
        Ok(dropped) => dropped,
        Err(error) => return Ok(Received::Refused(error)),
    };
    let identity = record.identity;
    let sender = Sender { address: from, tag, identity: &identity, is_sealed };
    let (user, standing) = match admission::admit(open, &sender, known, &content, now, rng)? {
        Admitted::Device(user) => (user, Standing::Listed),
        // A device that was removed begins no session.
        Admitted::Apart(_, Standing::Removed) if handshake.is_some() => {
            return Ok(Received::Refused(Error::UnknownDevice(Box::new(from.clone()))));
        }
        Admitted::Apart(user, standing) => (user, standing),
        Admitted::Refused(error) => return Ok(Received::Refused(error)),
    };
    let may_reply = standing == Standing::Listed && !user.waits();
    match has_to_wait(open, (place, &user), &content, standing, may_reply)? {
        Wait::No => {}
        Wait::ForPerson => {
            return Ok(Received::Refused(Error::IdentityChanged(user.name.as_str().into())));
        }
        Wait::ForRoom => return Ok(Received::Refused(Error::RateLimited)),
    }
    let names = names(reference, &content);
    let keys = seen::keys(open, place, &names);
    let is_repeated = seen::any(open, &keys)?;
    // Duplicates take no slot; otherwise a sender could evict the original.
    if !is_repeated {
        let is_text = content.body.message().is_some();
        seen::note(open, place, &mut record, &keys, is_text)?;
    }
    let began = handshake.is_some();
    if let Some(used) = handshake {
        prekeys::consume(open, used)?;
        if is_sealed {
            let key = session.ephemeral_key();
            tickets::note_handshake(open, key, (from, &identity), session.id())?;
        }
    }
    open.delete_sessions(place, &dropped)?;
    open.put_session(place, &session)?;
    open.put_record(place, &record)?;
    // Also where what it says was here before: it may have begun a session.
    if standing == Standing::Listed {
        let in_session = (&record, session.id(), began);
        take_fields(open, (from, place), in_session, &content, now, rng)?;
    }
    let (number, asked_in) = (record.opened, session.id());
    let (address, stamp) = (from.clone(), user.stamp());
    let target = Target { address, place, record, session, known: stamp };
    let mut reply = if may_reply { outbox::to_writing(open, target, now)? } else { None };
    // What waited for a bundle to begin a session need not: the peer began one.
    if !was_writing && reply.is_some() {
        wants::have(open, &Want::Bundle(from.clone()))?;
        wants::want(open, Want::Work(from.clone()), now)?;
    }
    telling::compare(open, own, (tag, &user, stamp), &content, reply.as_mut(), now, rng)?;
    if is_repeated {
        // It takes no slot, so that nothing else says that it came.
        asking::take_asked(open, place, &names)?;
        return Ok(Received::Duplicate);
    }
    let (trust, user) = (user.trust(), &user);
    let letter = Letter { sender, place, number, asked_in, standing, may_reply, trust, user, now };
    // What is built from here on has room to spare, and the app has it.
    stack::wipe();
    handle(open, &letter, &content, reply, rng)
}

/// What a content is known by. By the name of the text too: it may have been asked for by several
/// of its envelopes.
fn names(reference: Reference, content: &Content<'_>) -> Vec<seen::Name> {
    let names = [
        Some(reference.0),
        content.resent.map(|resent| resent.0),
        content.body.message().map(|id| *id.as_bytes()),
    ];
    names.into_iter().flatten().collect()
}

/// Takes in what a content brought for sealed mail to its sender: in a session, which it `began` or
/// not.
fn take_fields(
    open: &mut Open<'_>,
    (from, place): (&Address, Place),
    (record, session, began): (&DeviceRecord, SessionId, bool),
    content: &Content<'_>,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<(), Error> {
    let SealedFields { tickets, pass, knows_pass, .. } = content.sealed;
    let writing = record.writing().map(|entry| entry.id);
    let is_closed = !record.has_open(&session);
    let heard = Heard { session, began, is_closed, asks: content.asks, writing };
    if let Some(lost) = tickets::take_in(open, place, tickets, knows_pass, &heard)? {
        silence::again(open, from, place, (record, lost), now, rng)?;
    }
    if let Some(pass) = pass
        && doors::take_in(open, (&from.user, place.tag), pass, now)?
    {
        outbox::hurry(open, &from.user)?;
    }
    Ok(())
}

/// Whether a content can be taken now.
enum Wait {
    No,
    /// Until somebody decides about the account key.
    ForPerson,
    /// Until there is room.
    ForRoom,
}

/// A request cannot be answered before somebody decides about the account key, nor while as many
/// wait as there is room for. A text cannot be held where there is no room. One to a group has to
/// wait until its sender is known to be a member.
fn has_to_wait(
    open: &mut Open<'_>,
    (place, user): (Place, &UserRecord),
    content: &Content<'_>,
    standing: Standing,
    may_reply: bool,
) -> Result<Wait, Error> {
    let wait = match (standing, &content.body) {
        (Standing::Removed, Body::Request { .. }) => Wait::No,
        (_, Body::Request { .. }) if !may_reply => Wait::ForPerson,
        (_, Body::Request { .. }) if !asking::has_room(open, place)? => Wait::ForRoom,
        (Standing::Listed, Body::Group(GroupBody::Text { group, .. }))
            if group_receive::is_early(open, *group, user)? =>
        {
            Wait::ForRoom
        }
        (Standing::Pending, Body::Text(written) | Body::Copy { written, .. })
            if !inbox::can_hold(open, place.tag, written.length())? =>
        {
            Wait::ForPerson
        }
        _ => Wait::No,
    };
    Ok(wait)
}

/// Does what a content is about. `reply`: its sender, where it may be answered.
fn handle(
    open: &mut Open<'_>,
    letter: &Letter<'_>,
    content: &Content<'_>,
    reply: Option<Target>,
    rng: &mut dyn CryptoRng,
) -> Result<Received, Error> {
    let Letter { sender, place, number, asked_in, standing, now, .. } = letter;
    let (from, is_own) = (sender.address, open.is_own(&sender.address.user));
    let is_listed = *standing == Standing::Listed;
    match content.body {
        Body::Text(written) => return deliver(open, letter, content, None, written, rng),
        Body::Copy { to, written } if is_own => {
            return deliver(open, letter, content, Some(to.into()), written, rng);
        }
        Body::Group(body) if is_listed => {
            let from = group_changes::From {
                address: from,
                place: *place,
                identity: *sender.identity,
                user: letter.user,
                resent: content.resent,
                number: *number,
                now: *now,
            };
            if let Some(incoming) = group_receive::take(open, &from, body, reply, rng)? {
                return Ok(Received::Incoming(Box::new(incoming)));
            }
        }
        Body::Unsupported => {
            let event = Event::Unsupported { from: from.clone() };
            let incoming = inbox::add(open, Item::Event(event), *number, *now, rng)?;
            return Ok(Received::Incoming(Box::new(incoming)));
        }
        Body::Request { holds, references } if is_listed => {
            let request = (holds, references);
            heal::requested(open, (from, *place, *asked_in), reply, request, *now, rng)?;
        }
        Body::Gone(references) => heal::gone(open, from, *place, references, *now, rng)?,
        Body::Account(Some(seed)) if is_listed && is_own => {
            admission::take_account_key(open, sender, seed)?;
        }
        Body::Mark { verified, account, user } if is_listed && is_own => {
            trust::take_mark(open, user, account, verified, *now, rng)?;
        }
        Body::History(history) if is_listed && is_own => {
            if let Some(incoming) = history::offered(open, sender, &history, (*number, *now), rng)?
            {
                return Ok(Received::Incoming(Box::new(incoming)));
            }
        }
        Body::Move(Move::Scanned { answer }) if is_listed && !is_own => {
            verify::take_scanned(open, *place, answer, *now, rng)?;
        }
        Body::Move(a_move) if is_listed && !is_own => {
            compare::take(open, sender, a_move, *now, rng)?;
        }
        Body::Signal(signal) if letter.may_reply => {
            return match calls::take_in(open, sender, letter.trust, &signal, *number, *now, rng)? {
                true => Ok(Received::Signal),
                false => Ok(Received::Handled),
            };
        }
        Body::Request { .. }
        | Body::Move(_)
        | Body::Signal(_)
        | Body::Devices
        | Body::Copy { .. }
        | Body::Account(_)
        | Body::Mark { .. }
        | Body::History(_)
        | Body::Group(_)
        | Body::Ignored => {}
    }
    Ok(Received::Handled)
}

/// Counts a content that was opened in the record of its device. Returns the sessions that go.
fn count(
    record: &mut DeviceRecord,
    session: &Session,
    content: &Content<'_>,
    idle: u64,
    now: UnixTime,
) -> Result<Vec<SessionId>, Error> {
    let id = session.id();
    let mut dropped = Vec::new();
    if record.entry(&id).is_none() {
        let rank = content.rank.ok_or(Error::Malformed)?;
        dropped = record.accept(id, rank, now, content.asks)?;
    }
    dropped.extend(record.opened(&id, content.asks, content.rank, idle)?);
    Ok(dropped)
}

/// Whose text it is, and how far that is believed.
struct Letter<'a> {
    sender: Sender<'a>,
    place: Place,
    number: u64,
    /// The session that it came in.
    asked_in: SessionId,
    standing: Standing,
    /// Whether its user's account key is the accepted one, and every list has it.
    may_reply: bool,
    trust: Trust,
    user: &'a UserRecord,
    now: UnixTime,
}

fn deliver(
    open: &mut Open<'_>,
    letter: &Letter<'_>,
    content: &Content<'_>,
    copy_to: Option<String>,
    Written { id, text, files }: Written<'_>,
    rng: &mut dyn CryptoRng,
) -> Result<Received, Error> {
    let Letter { ref sender, place, number, standing, trust, now, .. } = *letter;
    let text = Text {
        from: sender.address.clone(),
        copy_to,
        message: id,
        text: Zeroizing::new(text.to_vec()),
        files: attachment::decode(files.as_bytes())?,
        // Nobody vouches for a device that is not listed, however well its user is known.
        trust: if standing == Standing::Listed { trust } else { Trust::Unaccepted },
        resent: content.resent.map(|reference| EnvelopeId::of(open, sender.address, reference)),
    };
    let item = match standing {
        Standing::Listed => Item::Text(text),
        Standing::Pending => {
            inbox::hold(open, place.tag, text, number, now, rng)?;
            return Ok(Received::Held);
        }
        Standing::Doubted | Standing::Removed | Standing::Unknown => Item::Late(text),
    };
    let incoming = inbox::add(open, item, number, now, rng)?;
    Ok(Received::Incoming(Box::new(incoming)))
}
