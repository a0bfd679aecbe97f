//! In: the session that opens an envelope, the user whom its sender belongs to, the inbox.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use rand_core::CryptoRng;
use zeroize::Zeroizing;

use super::allowances::{self, HANDSHAKES, Party, SKIPS, STRANGE_SKIPS};
use super::aside::{self, AsideRow};
use super::asking;
use super::devices::{self, Admitted, Sender};
use super::heal::{self, Healing, Unreadable};
use super::inbox::{self, EnvelopeId, Event, Incoming, Item, Text};
use super::outbox::{self, Target};
use super::prekeys;
use super::seen;
use super::transaction::{Open, OwnUser, Place, Tag};
use super::trust;
use super::wants::{self, Want};
use super::{Client, Scope};
use crate::address::Address;
use crate::content::{Body, Content, ListStamp, MessageId};
use crate::envelope::{self, Envelope};
use crate::error::Error;
use crate::identity::IdentityKey;
use crate::reference::Reference;
use crate::sesame::{DeviceRecord, Standing, Trust, UserRecord};
use crate::session::{MessageKind, Session, SessionId};
use crate::store::Table;
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
    /// false name.
    ///
    /// # Errors
    /// [`Error::Store`], [`Error::BadState`]: do not acknowledge it.
    pub fn receive(
        &mut self,
        from: Option<&Address>,
        envelope: &[u8],
        now: UnixTime,
        rng: &mut impl CryptoRng,
    ) -> Result<Received, Error> {
        self.run(|open| open.whole(|open| receive(open, from, envelope, now, rng)))
    }
}

/// Where an envelope comes from, and when.
#[derive(Clone, Copy)]
struct Arrival<'a> {
    from: &'a Address,
    tag: Tag,
    now: UnixTime,
}

/// A device that may have sent an envelope.
struct Candidate {
    place: Place,
    record: DeviceRecord,
}

/// A message that a session opened.
struct Opened {
    candidate: Candidate,
    session: Session,
    plaintext: Zeroizing<Vec<u8>>,
    /// What a handshake used up, where the message began the session.
    handshake: Option<prekeys::Used>,
}

/// How opening ended.
enum Opening {
    Opened(Box<Opened>),
    Failed(Error),
}

fn receive(
    open: &mut Open<'_>,
    from: Option<&Address>,
    bytes: &[u8],
    now: UnixTime,
    rng: &mut impl CryptoRng,
) -> Result<Received, Error> {
    // An open envelope does not say who sent it.
    let Some(from) = from else { return Ok(Received::Refused(Error::NoSender)) };
    let received = receive_once(open, from, bytes, now, rng)?;
    let Received::Refused(why) = &received else { return Ok(received) };
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
    let row = AsideRow { from: from.clone(), at: now, envelope: bytes.to_vec() };
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
    rng: &mut impl CryptoRng,
) -> Result<bool, Error> {
    let tag = open.tag(user)?;
    let mut is_left = false;
    for row in aside::take(open, tag, now)? {
        let received = receive_once(open, &row.from, &row.envelope, now, rng)?;
        if let Received::Refused(
            Error::DevicesNeeded(_)
            | Error::UnknownDevice(_)
            | Error::RateLimited
            | Error::IdentityChanged(_),
        ) = received
        {
            is_left |= aside::set(open, tag, &row, rng)?;
        }
    }
    Ok(is_left)
}

fn receive_once(
    open: &mut Open<'_>,
    from: &Address,
    bytes: &[u8],
    now: UnixTime,
    rng: &mut impl CryptoRng,
) -> Result<Received, Error> {
    if *from == open.account.address() {
        return Ok(Received::Refused(Error::OwnIdentity));
    }
    let (tag, envelope) = match (open.tag(&from.user), Envelope::decode(bytes)) {
        (Ok(tag), Ok(envelope)) => (tag, envelope),
        (Err(error), _) | (_, Err(error)) => return Ok(Received::Refused(error)),
    };
    let arrival = Arrival { from, tag, now };
    let own_tag = open.tag(&open.account.user)?;
    open.prefetch(&[(Table::User, &tag.0), (Table::User, &own_tag.0)])?;
    let (known, own) = (open.user(tag)?, open.own()?);
    let candidates = candidates(open, arrival, known.as_ref())?;
    let places: Vec<Place> = candidates.iter().map(|candidate| candidate.place).collect();
    let is_initial = envelope.message.kind() == MessageKind::Initial;
    // What opens a regular message uses its key up: `take_in` finds out whether it is a repetition.
    if is_initial && is_repeated(open, &places, envelope.reference)? {
        return Ok(Received::Duplicate);
    }
    let opened = match open_message(open, arrival, &envelope, candidates, known.is_some())? {
        Opening::Opened(opened) => opened,
        Opening::Failed(_) if !is_initial && is_repeated(open, &places, envelope.reference)? => {
            return Ok(Received::Duplicate);
        }
        Opening::Failed(why) => {
            let reference = envelope.reference;
            let unreadable = Unreadable { from, tag, reference, why, is_initial };
            return Ok(match heal::unreadable(open, &unreadable, known.as_ref(), now, rng)? {
                Healing::Asked => Received::AskedAgain(EnvelopeId::of(open, from, reference)),
                Healing::Refused(error) => Received::Refused(error),
            });
        }
    };
    take_in(open, arrival, envelope.reference, *opened, (known, &own), rng)
}

/// The devices that the lists give this number, with what is known of them.
fn candidates(
    open: &mut Open<'_>,
    arrival: Arrival<'_>,
    known: Option<&UserRecord>,
) -> Result<Vec<Candidate>, Error> {
    let identities = known.map_or_else(Vec::new, |user| user.candidates(arrival.from.device));
    let places: Vec<(Place, IdentityKey)> =
        identities.iter().map(|identity| (open.place(arrival.tag, identity), *identity)).collect();
    let keys: Vec<[u8; 32]> = places.iter().map(|(place, _)| place.key()).collect();
    let rows: Vec<(Table, &[u8])> = keys.iter().map(|key| (Table::Device, &key[..])).collect();
    open.prefetch(&rows)?;
    let candidate =
        |(place, identity)| Ok(Candidate { place, record: open.record(place, &identity)? });
    places.into_iter().map(candidate).collect()
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

/// Finds the session that opens a message, or makes it.
fn open_message(
    open: &mut Open<'_>,
    arrival: Arrival<'_>,
    envelope: &Envelope<'_>,
    mut candidates: Vec<Candidate>,
    is_contact: bool,
) -> Result<Opening, Error> {
    let message = &envelope.message;
    let bound = envelope::bound_to(envelope.head, arrival.from, &open.account.address());
    let party = if is_contact { Party::Contact(arrival.tag) } else { Party::Stranger(arrival.tag) };
    let sessions = candidates.iter().flat_map(|candidate| {
        candidate.record.sessions().iter().map(|entry| (candidate.place, entry.id))
    });
    let sessions: Vec<(Place, SessionId)> = sessions.collect();
    // A single one is read in one step anyhow.
    if sessions.len() > 1 {
        open.prefetch_sessions(&sessions)?;
    }
    for index in 0..candidates.len() {
        let Some((place, ids)) = candidates.get(index).map(|candidate| {
            let ids: Vec<_> =
                candidate.record.sessions().iter().rev().map(|entry| entry.id).collect();
            (candidate.place, ids)
        }) else {
            break;
        };
        for id in ids {
            let Some(mut session) = open.session(place, &id)? else { continue };
            if message.kind() == MessageKind::Initial && !session.matches(message) {
                continue;
            }
            match decrypt(open, &mut session, envelope, &bound, party, arrival.now)? {
                Decrypted::Not(Error::UnknownHeader) if message.kind() == MessageKind::Regular => {}
                Decrypted::Not(error) => return Ok(Opening::Failed(error)),
                Decrypted::Text(plaintext) => {
                    let candidate = candidates.swap_remove(index);
                    let opened = Opened { candidate, session, plaintext, handshake: None };
                    return Ok(Opening::Opened(Box::new(opened)));
                }
            }
        }
    }
    if message.kind() == MessageKind::Regular {
        return Ok(Opening::Failed(Error::UnknownHeader));
    }
    if !allowances::take(open, &HANDSHAKES, party, 1, arrival.now)? {
        return Ok(Opening::Failed(Error::RateLimited));
    }
    let identity = open.identity()?;
    let mut some = prekeys::for_message(open, message)?;
    let mut session = match Session::answering(&identity, &some.prekeys, message) {
        Ok(session) => session,
        Err(error) => return Ok(Opening::Failed(error)),
    };
    let plaintext = match decrypt(open, &mut session, envelope, &bound, party, arrival.now)? {
        Decrypted::Text(plaintext) => plaintext,
        Decrypted::Not(error) => return Ok(Opening::Failed(error)),
    };
    Session::consume(&mut some.prekeys, message)?;
    let place = open.place(arrival.tag, &session.peer());
    let record = open.record(place, &session.peer())?;
    Ok(Opening::Opened(Box::new(Opened {
        candidate: Candidate { place, record },
        session,
        plaintext,
        handshake: Some(some.used()?),
    })))
}

/// Decrypts, within what the sender may cost: a message that skips many others is charged before
/// the work is done.
fn decrypt(
    open: &mut Open<'_>,
    session: &mut Session,
    envelope: &Envelope<'_>,
    bound: &[u8],
    party: Party,
    now: UnixTime,
) -> Result<Decrypted, Error> {
    let header = match session.open_header(&envelope.message) {
        Ok(header) => header,
        Err(error) => return Ok(Decrypted::Not(error)),
    };
    let skipped = session.skipped_by(&header);
    let allowance = match party {
        Party::Contact(_) => &SKIPS,
        Party::Stranger(_) => &STRANGE_SKIPS,
    };
    if skipped > FREE_SKIPS && !allowances::take(open, allowance, party, skipped / FREE_SKIPS, now)?
    {
        return Ok(Decrypted::Not(Error::RateLimited));
    }
    Ok(match session.decrypt_opened(&envelope.message, &header, bound) {
        Ok(plaintext) => Decrypted::Text(Zeroizing::new(plaintext)),
        Err(error) => Decrypted::Not(error),
    })
}

enum Decrypted {
    Text(Zeroizing<Vec<u8>>),
    Not(Error),
}

/// Skipping up to this many messages is not charged.
const FREE_SKIPS: u64 = 64;

/// Takes in what a session opened. Nothing is written of it before its sender is known.
fn take_in(
    open: &mut Open<'_>,
    arrival: Arrival<'_>,
    reference: Reference,
    opened: Opened,
    (known, own): (Option<UserRecord>, &OwnUser),
    rng: &mut impl CryptoRng,
) -> Result<Received, Error> {
    let Arrival { from, tag, now } = arrival;
    let Opened { candidate: Candidate { place, mut record }, session, plaintext, handshake } =
        opened;
    let content = match Content::decode(&plaintext) {
        Ok(content) => content,
        Err(error) => return Ok(Received::Refused(error)),
    };
    let was_writing = record.writing().is_some();
    let dropped = match count(&mut record, &session, &content, open.policy.seen / 2, now) {
        Ok(dropped) => dropped,
        Err(error) => return Ok(Received::Refused(error)),
    };
    let identity = record.identity;
    let sender = Sender { address: from, tag, identity: &identity };
    let (user, standing) = match devices::admit(open, &sender, known, &content, now, rng)? {
        Admitted::Device(user) => (user, Standing::Listed),
        // A device that was removed begins no session.
        Admitted::Apart(_, Standing::Removed) if handshake.is_some() => {
            return Ok(Received::Refused(Error::UnknownDevice(Box::new(from.clone()))));
        }
        Admitted::Apart(user, standing) => (user, standing),
        Admitted::Refused(error) => return Ok(Received::Refused(error)),
    };
    let may_reply = standing == Standing::Listed && user.pending.is_none();
    match has_to_wait(open, place, &content, standing, may_reply)? {
        Wait::No => {}
        Wait::ForPerson => {
            return Ok(Received::Refused(Error::IdentityChanged(user.name.as_str().into())));
        }
        Wait::ForRoom => return Ok(Received::Refused(Error::RateLimited)),
    }
    // By the name of the text too: it may have been asked for by several of its envelopes.
    let names = [
        Some(reference.0),
        content.resent.map(|resent| resent.0),
        content.body.message().map(|id| *id.as_bytes()),
    ];
    let names: Vec<seen::Name> = names.into_iter().flatten().collect();
    let is_repeated = seen::any(open, place, &names)?;
    // Duplicates take no slot; otherwise a sender could evict the original.
    if !is_repeated {
        let is_text = content.body.message().is_some();
        seen::note(open, place, &mut record, &names, is_text)?;
    }
    if let Some(used) = handshake {
        prekeys::consume(open, used)?;
    }
    open.delete_sessions(place, &dropped)?;
    open.put_session(place, &session)?;
    open.put_record(place, &record)?;
    let (number, asked_in) = (record.opened, session.id());
    let (address, stamp) = (from.clone(), ListStamp::of(&user.list));
    let target = Target { address, place, record, session, known: stamp };
    let mut reply = if may_reply { outbox::to_writing(open, target, now)? } else { None };
    // What waited for a bundle to begin a session need not: the peer began one.
    if !was_writing && reply.is_some() {
        wants::want(open, Want::Work(from.clone()), now)?;
    }
    devices::compare(open, own, &user, &content, reply.as_mut(), now, rng)?;
    if is_repeated {
        return Ok(Received::Duplicate);
    }
    let letter = Letter { sender, place, number, asked_in, standing, trust: user.trust(), now };
    handle(open, &letter, &content, reply, rng)
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
/// wait as there is room for. A text cannot be held where there is no room.
fn has_to_wait(
    open: &mut Open<'_>,
    place: Place,
    content: &Content<'_>,
    standing: Standing,
    may_reply: bool,
) -> Result<Wait, Error> {
    let wait = match (standing, &content.body) {
        (Standing::Removed, Body::Request { .. }) => Wait::No,
        (_, Body::Request { .. }) if !may_reply => Wait::ForPerson,
        (_, Body::Request { .. }) if !asking::has_room(open, place)? => Wait::ForRoom,
        (Standing::Pending, Body::Text { text, .. } | Body::Copy { text, .. })
            if !inbox::can_hold(open, place.tag, text.len())? =>
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
    rng: &mut impl CryptoRng,
) -> Result<Received, Error> {
    let Letter { sender, place, number, asked_in, standing, now, .. } = letter;
    let (from, is_own) = (sender.address, open.is_own(&sender.address.user));
    let is_listed = *standing == Standing::Listed;
    match content.body {
        Body::Text { id, text } => return deliver(open, letter, content, None, id, text, rng),
        Body::Copy { id, to, text } if is_own => {
            return deliver(open, letter, content, Some(to.into()), id, text, rng);
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
            devices::take_account_key(open, sender, seed)?;
        }
        Body::Mark { verified, account, user } if is_listed && is_own => {
            trust::take_mark(open, user, account, verified, *now, rng)?;
        }
        Body::Request { .. }
        | Body::Devices
        | Body::Copy { .. }
        | Body::Account(_)
        | Body::Mark { .. }
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
    trust: Trust,
    now: UnixTime,
}

fn deliver(
    open: &mut Open<'_>,
    letter: &Letter<'_>,
    content: &Content<'_>,
    copy_to: Option<String>,
    message: MessageId,
    text: &[u8],
    rng: &mut impl CryptoRng,
) -> Result<Received, Error> {
    let Letter { ref sender, place, number, standing, trust, now, .. } = *letter;
    let text = Text {
        from: sender.address.clone(),
        copy_to,
        message,
        text: Zeroizing::new(text.to_vec()),
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
