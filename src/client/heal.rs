//! Healing: what cannot be opened is asked for, and what is asked for is sent again.
//!
//! Where a request goes and where the answer goes is decided by the rules of
//! [`DeviceRecord`](crate::sesame::DeviceRecord). A request names its envelopes by references,
//! which prove that the asker was to have them.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use rand_core::CryptoRng;

use super::allowances::{self, ANSWERS, MISSES, Party, REQUESTS, STRANGERS};
use super::asking::{self, Queued, SentRequest};
use super::events::{EnvelopeId, Event};
use super::group_owed;
use super::group_proposals;
use super::group_rows;
use super::group_serve;
use super::inbox;
use super::log;
use super::moves;
use super::outbox::{self, Letter, Target};
use super::telling;
use super::transaction::{Open, Place, Tag};
use super::wants::{self, Want};
use crate::address::Address;
use crate::content::{Body, GroupBody};
use crate::devices::ListedDevice;
use crate::error::Error;
use crate::reference::{Class, Named, Reference};
use crate::sesame::{AnswerIn, AskIn, Asked, DeviceRecord, UserRecord, short};
use crate::session::{Session, SessionId};
use crate::time::UnixTime;

/// What became of an envelope that nothing opened.
pub(super) enum Healing {
    /// It is asked for.
    Asked,
    /// It is not asked for, for this reason.
    Refused(Error),
}

/// An envelope that nothing opens.
pub(super) struct Unreadable<'a> {
    pub(super) from: &'a Address,
    pub(super) tag: Tag,
    pub(super) reference: Reference,
    pub(super) why: Error,
    pub(super) is_initial: bool,
    /// Whether the server does not know who sent it.
    pub(super) is_sealed: bool,
}

/// Answers in one transaction are no more than this.
const MOST_ANSWERS: usize = 32;
const MOST_ANSWER_BYTES: usize = 1 << 18;

/// What an envelope takes around a text: at most that much, with a handshake and a device list.
const MOST_AROUND: usize = 2_048;

/// What the names of 16 changes take.
const MOST_OF_HEADS: usize = 512;

/// References that are newer than this many envelopes say something of the session they were made
/// in; older ones are only answered.
const EVIDENCE: u64 = 1_000;
const EVIDENCE_AGE: u64 = 7 * 24 * 60 * 60;

/// Asks for an envelope, now or once there is a session to ask in.
pub(super) fn unreadable(
    open: &mut Open<'_>,
    envelope: &Unreadable<'_>,
    user: Option<&UserRecord>,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<Healing, Error> {
    let Unreadable { from, tag, reference, why, is_initial, is_sealed } = envelope;
    let can_heal = matches!(
        why,
        Error::UnknownHeader
            | Error::UnknownPrekey
            | Error::TooOld
            | Error::TooFarAhead
            | Error::Duplicate
            | Error::Replay
            | Error::Decrypt
    );
    // A stranger may ask for an answer with a handshake alone: noise of somebody unknown says
    // nothing of whether this device is here. A device that was restored may have forgotten a
    // contact, and answers for a while.
    if !can_heal || user.is_none() && !is_initial && !open.may_have_forgotten(now) {
        return Ok(Healing::Refused(why.clone()));
    }
    let listed = user.and_then(|user| user.list.get(from.device));
    let is_pending = user.is_some_and(UserRecord::waits);
    if user.is_some() && listed.is_none() && !is_pending {
        return Ok(Healing::Refused(Error::UnknownDevice(Box::new((*from).clone()))));
    }
    let is_allowed = match user {
        Some(_) => allowances::take(open, &REQUESTS, Party::Contact(*tag), 1, now)?,
        None => {
            allowances::take(open, &STRANGERS, Party::Stranger(*tag), 1, now)?
                && wants::has_room(open)?
        }
    };
    let is_noted = is_allowed
        && match user {
            // Of a user whose account key changed, only of devices that there are.
            Some(user) => {
                user.is_known(from.device)
                    && asking::note(open, *tag, from.device, (*reference, 0), now)?
            }
            None => asking::note_strange(open, *tag, from.device, *reference, now)?,
        };
    if !is_noted {
        return Ok(Healing::Refused(Error::RateLimited));
    }
    match (user, listed) {
        (None, _) => wants::want(open, Want::Devices(from.user.clone()), now)?,
        // Nothing is asked for under an account key that nobody has accepted: it waits. The server
        // may have a newer key by now, and a person can only accept what is shown here.
        (Some(_), _) if is_pending => wants::want(open, Want::Devices(from.user.clone()), now)?,
        // The header opens, and the rest does not: somebody may have exchanged the ticket, to see
        // who asks whom. It is asked for once something is written to the device.
        (Some(_), Some(_)) if *is_sealed && *why == Error::Decrypt => {}
        (Some(_), Some(_)) if *is_sealed => {
            wants::want_quietly(open, Want::Work((*from).clone()), now)?;
        }
        (Some(user), Some(listed)) => ask(open, *tag, user, listed, header_opened(why), now, rng)?,
        (Some(_), None) => {}
    }
    Ok(Healing::Asked)
}

/// Whether an error says that the header opened: then the session is not what is wrong.
const fn header_opened(why: &Error) -> bool {
    matches!(why, Error::Duplicate | Error::TooOld | Error::TooFarAhead)
}

/// Sends a request for what is to be asked for of a device, or wants a bundle to begin a session
/// for it.
pub(super) fn ask(
    open: &mut Open<'_>,
    tag: Tag,
    user: &UserRecord,
    listed: &ListedDevice,
    header_opened: bool,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<(), Error> {
    let place = open.place(tag, &listed.identity);
    let mut record = open.record(place, &listed.identity)?;
    let address = Address::new(&user.name, listed.device);
    let Some(session) = to_ask_in(open, place, &mut record, now)? else {
        return wants::want(open, Want::Bundle(address), now);
    };
    let holds =
        record.writing().filter(|_| !header_opened).map_or([0; 8], |entry| entry.short_id());
    let asked = asking::take(open, tag, listed.device, now)?;
    if asked.references.is_empty() {
        return Ok(());
    }
    let (known, is_doubted) = (user.stamp(), user.is_doubted(&listed.identity));
    let mut target = Target { address, place, record, session, known, is_doubted };
    request(open, &mut target, holds, &asked, None, now, rng)
}

/// The session to ask in; none where one has to be begun. What cannot be read is gone afterwards.
pub(super) fn to_ask_in(
    open: &mut Open<'_>,
    place: Place,
    record: &mut DeviceRecord,
    now: UnixTime,
) -> Result<Option<Session>, Error> {
    let writing = outbox::writing(open, place, record, now)?;
    let mut writing = writing.into_iter();
    // Each round loses a session, so there are no more rounds than sessions.
    loop {
        let AskIn::Session(id) = record.ask_in(now) else { return Ok(None) };
        let session = match writing.find(|session| session.id() == id) {
            Some(session) => Some(session),
            None => open.session(place, &id)?,
        };
        if session.is_some() {
            return Ok(session);
        }
        record.lose(&id);
        open.delete_sessions(place, &[id])?;
        open.put_record(place, record)?;
    }
}

fn request(
    open: &mut Open<'_>,
    target: &mut Target,
    holds: [u8; 8],
    asked: &SentRequest,
    resent: Option<Reference>,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<(), Error> {
    let body = Body::Request { holds, references: &asked.references };
    let letter = Letter { body, class: Class::Request, resent, message: None };
    let (_, number) = outbox::post(open, target, &letter, now, rng)?;
    target.record.requested(&target.session.id());
    asking::sent(open, target.place, &mut target.record, number, asked)?;
    open.put_record(target.place, &target.record)
}

/// Takes in a request of a device, and answers what fits into one transaction. The rest follows as
/// work. `reply`: the device, in the session that is written in.
pub(super) fn requested(
    open: &mut Open<'_>,
    (from, place, asked_in): (&Address, Place, SessionId),
    reply: Option<Target>,
    (holds, references): ([u8; 8], &[[u8; 16]]),
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<(), Error> {
    let mut once = BTreeSet::new();
    let references =
        references.iter().take(1_000).filter(|one| once.insert(**one)).copied().collect();
    let queued = Queued { asked_in, holds, is_ordered: false, references };
    if asking::queue(open, place, &queued, now, rng)? {
        wants::want(open, Want::Work(from.clone()), now)?;
        match reply {
            Some(mut target) => _ = answer(open, &mut target, now, rng)?,
            None => wants::want(open, Want::Bundle(from.clone()), now)?,
        }
    }
    Ok(())
}

/// Requests and answers that waited to be sent are not sent as they are, since the store proved to
/// be restored from a copy. They are made anew, as if the device they were for had asked for them.
pub(super) fn withdrawn(
    open: &mut Open<'_>,
    envelopes: Vec<(Address, Reference)>,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<(), Error> {
    let mut all: BTreeMap<Address, Vec<[u8; 16]>> = BTreeMap::new();
    for (to, reference) in envelopes {
        all.entry(to).or_default().push(reference.0);
    }
    for (to, references) in all {
        let tag = open.tag(&to.user)?;
        let user = open.user(tag)?;
        let Some(listed) = user.as_ref().and_then(|user| user.list.get(to.device)) else {
            continue;
        };
        let place = open.place(tag, &listed.identity);
        let record = open.record(place, &listed.identity)?;
        let (mut asked_in, mut has_others) = (None, false);
        // For any number of contents that are neither texts nor requests, the answer is one: it may
        // have been a change of a group, and says all that the device may not know.
        let references: Vec<[u8; 16]> = references
            .into_iter()
            .filter(|reference| {
                let ids = record.known_ids();
                let made =
                    open.account.references.open(Reference(*reference), ids, &listed.identity);
                let made = made.filter(|(named, _)| {
                    named.class != Class::Other || !core::mem::replace(&mut has_others, true)
                });
                asked_in = asked_in.or_else(|| made.map(|(_, id)| id));
                made.is_some()
            })
            .collect();
        let Some(asked_in) = asked_in else { continue };
        let queued = Queued { asked_in, holds: [0; 8], is_ordered: false, references };
        if asking::queue(open, place, &queued, now, rng)? {
            wants::want(open, Want::Work(to), now)?;
        }
    }
    Ok(())
}

/// What is left of the answers for a device.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Left {
    Nothing,
    /// It can be gone on with at once.
    More,
    /// It waits for an allowance or for a session.
    Waiting,
}

/// Goes on with the answers for a device.
pub(super) fn answer(
    open: &mut Open<'_>,
    target: &mut Target,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<Left, Error> {
    let (mut answers, mut bytes) = (0_usize, 0_usize);
    let mut gone: Vec<[u8; 16]> = Vec::new();
    let mut groups = BTreeSet::new();
    let (mut is_left, mut waits) = (false, false);
    for (key, mut queued) in asking::queued(open, target.place)? {
        order(open, target, &mut queued);
        let before = queued.references.len();
        let mut rest = core::mem::take(&mut queued.references).into_iter();
        while answers < MOST_ANSWERS && bytes < MOST_ANSWER_BYTES {
            let Some(reference) = rest.next() else { break };
            answers = answers.saturating_add(1);
            match answer_one(open, target, &queued, Reference(reference), now, rng)? {
                Answered::Sent(length, some) => {
                    bytes = bytes.saturating_add(length);
                    groups.extend(some);
                }
                Answered::Gone => gone.push(reference),
                Answered::Nothing => {}
                Answered::NoSession | Answered::Later => {
                    rest = core::iter::once(reference).chain(rest).collect::<Vec<_>>().into_iter();
                    (answers, waits) = (MOST_ANSWERS, true);
                }
            }
        }
        queued.references = rest.collect();
        is_left |= !queued.references.is_empty();
        if queued.references.len() != before {
            asking::put_queued(open, &key, &queued)?;
        }
    }
    // The device may know a group no more, or not as it is: it asks for what it lacks.
    for group in groups {
        let units = allowances::units(MOST_OF_HEADS);
        if allowances::take(open, &ANSWERS, Party::Contact(target.place.tag), units, now)? {
            let roster = group_rows::roster(open, group)?;
            group_serve::post_heads(open, &roster, target, now, rng)?;
        }
    }
    if !gone.is_empty() && switch_to_writing(open, target)? {
        let letter =
            Letter { body: Body::Gone(&gone), class: Class::Other, resent: None, message: None };
        outbox::post(open, target, &letter, now, rng)?;
    }
    open.put_record(target.place, &target.record)?;
    Ok(match (is_left, waits) {
        (false, _) => Left::Nothing,
        (true, false) => Left::More,
        (true, true) => Left::Waiting,
    })
}

/// Puts references into the order in which their envelopes were made: what comes again should come
/// in that order.
fn order(open: &Open<'_>, target: &Target, queued: &mut Queued) {
    if !queued.is_ordered {
        let (ids, identity) = (&target.record, &target.record.identity);
        queued.references.sort_by_cached_key(|reference| {
            let opened =
                open.account.references.open(Reference(*reference), ids.known_ids(), identity);
            opened.map(|(named, _)| named.number)
        });
        queued.is_ordered = true;
    }
}

enum Answered {
    /// How many bytes were sent, and what groups they may have been about.
    Sent(usize, Vec<Tag>),
    /// It was for this device, and is not here any more.
    Gone,
    /// Nothing that this device made for the asker.
    Nothing,
    /// There is no session to write in: a bundle is wanted.
    NoSession,
    /// The allowance is used up.
    Later,
}

fn answer_one(
    open: &mut Open<'_>,
    target: &mut Target,
    queued: &Queued,
    reference: Reference,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<Answered, Error> {
    let (place, identity) = (target.place, target.record.identity);
    let opened = open.account.references.open(reference, target.record.known_ids(), &identity);
    let Some((named, made_in)) = opened else {
        // An envelope for a group has a reference that was drawn.
        if allowances::take(open, &MISSES, Party::Contact(place.tag), 1, now)? {
            group_owed::asked(open, place, reference, now)?;
        }
        return Ok(Answered::Nothing);
    };
    let source = Source::of(open, target, named)?;
    let is_young = source.as_ref().is_none_or(|source| now.since(source.at()) <= EVIDENCE_AGE);
    let is_late = target.record.made.saturating_sub(named.number) <= EVIDENCE;
    let evidence = (is_young && is_late && source.is_some()).then_some(named.number);
    let asked = Asked { asked_in: queued.asked_in, holds: queued.holds, made_in, evidence };
    let is_ready = match target.record.asked(&asked) {
        AnswerIn::Request if switch(open, target, &queued.asked_in)? => true,
        AnswerIn::Request => {
            target.record.lose(&queued.asked_in);
            switch_to_writing(open, target)?
        }
        AnswerIn::Writing => switch_to_writing(open, target)?,
    };
    if !is_ready {
        wants::want(open, Want::Bundle(target.address.clone()), now)?;
        return Ok(Answered::NoSession);
    }
    let Some(source) = source else { return Ok(Answered::Gone) };
    let units = allowances::units(source.length().saturating_add(MOST_AROUND));
    if !allowances::take(open, &ANSWERS, Party::Contact(place.tag), units, now)? {
        return Ok(Answered::Later);
    }
    source.send(open, target, named, reference, now, rng)
}

/// What a reference leads to.
enum Source {
    Text(log::Pointer, Option<log::TextRow>),
    Request(SentRequest),
    Devices(UnixTime),
}

impl Source {
    fn of(open: &mut Open<'_>, target: &Target, named: Named) -> Result<Option<Self>, Error> {
        Ok(match named.class {
            Class::Text => match log::pointer(open, target.place, named.number)? {
                Some(pointer) => {
                    let text = log::text(open, &pointer.text)?;
                    Some(Self::Text(pointer, text))
                }
                None => None,
            },
            Class::Request => {
                let request = asking::sent_in(open, target.place, named.number)?;
                // Where all of it came meanwhile, something has to come in its place.
                request.map(|request| match request.references.is_empty() {
                    true => Self::Devices(request.at),
                    false => Self::Request(request),
                })
            }
            Class::Other => Some(Self::Devices(UnixTime::MAX)),
        })
    }

    const fn at(&self) -> UnixTime {
        match self {
            Self::Text(pointer, _) => pointer.at,
            Self::Request(request) => request.at,
            Self::Devices(at) => *at,
        }
    }

    fn length(&self) -> usize {
        match self {
            Self::Text(_, text) => text.as_ref().map_or(0, log::TextRow::length),
            Self::Request(request) => request.references.len().saturating_mul(16),
            Self::Devices(_) => 1_024,
        }
    }

    fn send(
        self,
        open: &mut Open<'_>,
        target: &mut Target,
        named: Named,
        reference: Reference,
        now: UnixTime,
        rng: &mut dyn CryptoRng,
    ) -> Result<Answered, Error> {
        let (length, resent) = (self.length(), Some(reference));
        // It may have been about a group.
        let groups = match self {
            Self::Devices(_) => group_rows::lost(open, target.place)?,
            _ => Vec::new(),
        };
        match self {
            Self::Text(pointer, Some(text)) if text.to.is_empty() => {
                return again_to_group(open, target, named, (pointer, &text), reference, now, rng);
            }
            Self::Text(pointer, Some(text))
                if log::take_resend(open, target.place, named.number, &pointer)? =>
            {
                let body = text.body(&target.address.user);
                let letter = Letter { body, class: Class::Text, resent, message: None };
                let (_, number) = outbox::post(open, target, &letter, now, rng)?;
                // This envelope is new, however old the text is: it says how its session is now.
                let pointer = pointer.of_resent(named.number, now);
                log::point(open, target.place, &mut target.record, (number, pointer))?;
            }
            Self::Text(pointer, text) => {
                // It is told once: no device fills the inbox by asking again.
                if log::take_telling(open, target.place, named.number, &pointer)? {
                    let by = target.address.clone();
                    let event = Event::NotReadable { by, message: text.map(|text| text.id) };
                    inbox::tell(open, event, now, rng)?;
                }
                return Ok(Answered::Gone);
            }
            Self::Request(again) => {
                let holds = target.record.writing().map_or([0; 8], |entry| short(&entry.id));
                let again = SentRequest { at: now, ..again };
                request(open, target, holds, &again, resent, now, rng)?;
            }
            Self::Devices(_) if open.is_own(&target.address.user) => {
                telling::post_account(open, target, resent, now, rng)?;
                group_proposals::again(open, target, now, rng)?;
            }
            Self::Devices(_) => {
                telling::post_list(open, target, resent, now, rng)?;
                moves::again(open, target, now, rng)?;
            }
        }
        Ok(Answered::Sent(length, groups))
    }
}

/// Sends a text to a group again to a device that is still a member's.
fn again_to_group(
    open: &mut Open<'_>,
    target: &mut Target,
    named: Named,
    (pointer, text): (log::Pointer, &log::TextRow),
    reference: Reference,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<Answered, Error> {
    let tag = pointer.text.tag();
    let row = group_rows::get(open, tag)?;
    let is_member = group_rows::peer(open, tag, target.place)?.is_some_and(|peer| !peer.is_out);
    let Some(row) = row.filter(|_| is_member) else { return Ok(Answered::Gone) };
    if !log::take_resend(open, target.place, named.number, &pointer)? {
        return Ok(Answered::Gone);
    }
    let (group, id) = (row.id, text.id.as_bytes());
    let body = GroupBody::Text { group, id, text: &text.text, files: &text.files };
    let (body, resent) = (Body::Group(body), Some(reference));
    let letter = Letter { body, class: Class::Text, resent, message: None };
    let (_, number) = outbox::post(open, target, &letter, now, rng)?;
    let pointer = pointer.of_resent(named.number, now);
    log::point(open, target.place, &mut target.record, (number, pointer))?;
    Ok(Answered::Sent(text.length(), Vec::from([tag])))
}

/// Makes a session the one that is written in next. False where it is not there.
fn switch(open: &mut Open<'_>, target: &mut Target, id: &SessionId) -> Result<bool, Error> {
    if target.session.id() == *id {
        return Ok(true);
    }
    let Some(session) = open.session(target.place, id)? else { return Ok(false) };
    target.session = session;
    Ok(true)
}

fn switch_to_writing(open: &mut Open<'_>, target: &mut Target) -> Result<bool, Error> {
    loop {
        let Some(id) = target.record.writing().map(|entry| entry.id) else { return Ok(false) };
        if switch(open, target, &id)? {
            return Ok(true);
        }
        target.record.lose(&id);
    }
}

/// A device says that it cannot send these again: those that were asked for are lost.
pub(super) fn gone(
    open: &mut Open<'_>,
    by: &Address,
    place: Place,
    references: &[[u8; 16]],
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<(), Error> {
    for reference in asking::take_asked(open, place, references.get(..1_000).unwrap_or(references))?
    {
        let envelope = EnvelopeId::of(open, by, Reference(reference));
        inbox::tell(open, Event::Lost { by: by.clone(), envelope }, now, rng)?;
    }
    Ok(())
}
