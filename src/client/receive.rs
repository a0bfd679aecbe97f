//! In: whose an envelope is, and what opens it.

use alloc::boxed::Box;
use alloc::vec::Vec;

use rand_core::CryptoRng;

use super::allowances::{self, HANDSHAKES, NOBODYS_HANDSHAKES, Party};
use super::aside::{self, AsideRow};
use super::doors;
use super::events::{EnvelopeId, Event};
use super::group_envelopes::{self, Arrived};
use super::group_rows;
use super::heal::{self, Healing, Unreadable};
use super::inbox;
use super::opening::{Arrival, Candidate, Opening, candidates, open_handshake, open_message};
use super::seen;
use super::take_in::{Received, take_in};
use super::tickets::{self, Shown};
use super::timers;
use super::transaction::{Open, Place, Tag};
use super::wants::{self, Want};
use super::{Client, Scope};
use crate::address::Address;
use crate::content::Content;
use crate::envelope::{self, Envelope};
use crate::error::Error;
use crate::group;
use crate::identity::IdentityKey;
use crate::reference::Reference;
use crate::session::MessageKind;
use crate::store::Table;
use crate::ticket::Ticket;
use crate::time::UnixTime;

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
    let begun = *opened;
    let claimed = match Content::decode(&begun.plaintext).map(|content| content.sealed.sender) {
        Ok(Some(claimed)) => Address::new(claimed.user, claimed.device),
        Ok(None) => return Ok(Judged::nobodys(Received::Refused(Error::Malformed))),
        Err(error) => return Ok(Judged::nobodys(Received::Refused(error))),
    };
    let tag = open.tag(&claimed.user)?;
    let own = open.own()?;
    let identity = begun.session.peer();
    let refused = if claimed == open.account.address() || identity == open.account.identity {
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
    let place = open.place(tag, &identity);
    let record = open.record(place, &identity)?;
    let opened = begun.of(Candidate { place, record });
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
    let arrived = group_envelopes::open_envelope(open, from, known.as_ref(), bytes, now, rng)?;
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
