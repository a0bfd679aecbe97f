//! In: what an opened content may say, and what is done with it.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use rand_core::CryptoRng;
use zeroize::Zeroizing;

#[cfg(doc)]
use super::Client;
use super::admission::{self, Admitted, Sender};
use super::asking;
use super::calls;
use super::compare;
use super::doors;
use super::events::{EnvelopeId, Event};
use super::group_changes;
use super::group_receive;
use super::heal;
use super::history;
use super::inbox::{self, Incoming, Item, Text};
use super::opening::{Arrival, Candidate, Opened};
use super::outbox::{self, Target};
use super::prekeys;
use super::seen;
use super::silence;
use super::telling;
use super::tickets::{self, Heard};
use super::transaction::{Open, OwnUser, Place};
use super::trust;
use super::verify;
use super::wants::{self, Want};
use crate::address::Address;
use crate::content::{Body, Claimed, Content, GroupBody, Move, SealedFields, Written, attachment};
use crate::crypto::stack;
use crate::error::Error;
use crate::reference::Reference;
use crate::sesame::{DeviceRecord, Standing, Trust, UserRecord};
use crate::session::{Session, SessionId};
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

/// Takes in what a session opened. Nothing is written of it before its sender is known.
pub(super) fn take_in(
    open: &mut Open<'_>,
    arrival: Arrival<'_>,
    reference: Reference,
    opened: Opened,
    (known, own): (Option<UserRecord>, &OwnUser),
    rng: &mut dyn CryptoRng,
) -> Result<Received, Error> {
    let Arrival { from, tag, is_sealed, now } = arrival;
    let Opened { candidate, session, plaintext, is_first, is_answer, handshake } = opened;
    let Candidate { place, mut record } = candidate;
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
    if let Some(used) = handshake {
        prekeys::consume(open, used)?;
        // What follows in the session may be sealed, also where this was open.
        let key = session.ephemeral_key();
        tickets::note_handshake(open, key, (from, &identity), session.id())?;
    }
    open.delete_sessions(place, &dropped)?;
    open.put_session(place, &session)?;
    open.put_record(place, &record)?;
    // Also where what it says was here before: it may have begun a session.
    if standing == Standing::Listed {
        let (session, asks) = (session.id(), content.asks);
        let (is_old, writing) = (record.is_old(&session), record.writing().map(|entry| entry.id));
        let heard = Heard { session, is_first, is_answer, is_old, asks, writing };
        take_fields(open, (from, place), (&record, &heard), &content.sealed, now, rng)?;
    }
    let (number, asked_in) = (record.opened, session.id());
    let (address, stamp, is_doubted) = (from.clone(), user.stamp(), user.is_doubted(&identity));
    let target = Target { address, place, record, session, known: stamp, is_doubted };
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

/// Takes in what a content brought for sealed mail to its sender.
fn take_fields(
    open: &mut Open<'_>,
    (from, place): (&Address, Place),
    (record, heard): (&DeviceRecord, &Heard),
    fields: &SealedFields<'_>,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<(), Error> {
    let SealedFields { tickets, pass, knows_pass, .. } = *fields;
    if let Some(lost) = tickets::take_in(open, place, tickets, knows_pass, heard)? {
        silence::again(open, from, place, (record, lost), now, rng)?;
    }
    if let Some(pass) = pass
        && doors::take_in(open, (&from.user, place), pass, now)?
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
/// wait as there is room for. Before that decision, nobody can be asked for changes of a group
/// either, and nothing of a device that is in doubt, or under the other key, is taken in for one. A
/// text cannot be held where there is no room. One to a group has to wait until its sender is known
/// to be a member.
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
        (Standing::Doubted | Standing::Pending, Body::Group(_)) => Wait::ForPerson,
        (Standing::Listed, Body::Group(body))
            if !may_reply && group_receive::asks_back(open, body)? =>
        {
            Wait::ForPerson
        }
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
        Body::Group(body) => {
            let from = group_changes::From {
                address: from,
                place: *place,
                identity: *sender.identity,
                user: letter.user,
                resent: content.resent,
                number: *number,
                now: *now,
            };
            let incoming = match is_listed {
                true => group_receive::take(open, &from, body, reply, rng)?,
                false => group_receive::take_late(open, &from, body, rng)?,
            };
            if let Some(incoming) = incoming {
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
            admission::take_account_key(open, sender, seed, *now)?;
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
