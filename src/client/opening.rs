//! Which session opens an envelope, or begins with it, and what that may cost before anything is
//! known of what is in it.

use alloc::boxed::Box;
use alloc::vec::Vec;

use zeroize::Zeroizing;

use super::allowances::{self, Allowance, HANDSHAKES, Party, SKIPS, STRANGE_SKIPS};
use super::prekeys;
use super::transaction::{Open, Place, Tag};
use crate::address::Address;
use crate::envelope::{self, Envelope};
use crate::error::Error;
use crate::identity::IdentityKey;
use crate::sesame::{DeviceRecord, UserRecord};
use crate::session::{MessageKind, Session, SessionId};
use crate::store::Table;
use crate::time::UnixTime;

/// Where an envelope comes from, how, and when.
#[derive(Clone, Copy)]
pub(super) struct Arrival<'a> {
    pub(super) from: &'a Address,
    pub(super) tag: Tag,
    /// The message says itself who sent it, and nobody else.
    pub(super) is_sealed: bool,
    pub(super) now: UnixTime,
}

/// A device that may have sent an envelope.
pub(super) struct Candidate {
    pub(super) place: Place,
    pub(super) record: DeviceRecord,
}

/// A message that a session opened.
pub(super) struct Opened {
    pub(super) candidate: Candidate,
    pub(super) session: Session,
    pub(super) plaintext: Zeroizing<Vec<u8>>,
    /// Whether nothing of the sender was opened in the session before.
    pub(super) is_first: bool,
    /// Whether the sender had read something of what is written in the session now.
    pub(super) is_answer: bool,
    /// What a handshake used up, where the message began the session.
    pub(super) handshake: Option<prekeys::Used>,
}

/// A session that a message began, and what was in the message.
pub(super) struct Begun {
    pub(super) session: Session,
    pub(super) plaintext: Zeroizing<Vec<u8>>,
    pub(super) used: prekeys::Used,
}

impl Begun {
    /// The same, of this device.
    pub(super) fn of(self, candidate: Candidate) -> Opened {
        let Self { session, plaintext, used } = self;
        let handshake = Some(used);
        Opened { candidate, session, plaintext, is_first: true, is_answer: false, handshake }
    }
}

/// How opening ended.
pub(super) enum Opening<T> {
    Opened(Box<T>),
    Failed(Error),
}

/// The devices that the lists give this number, with what is known of them.
pub(super) fn candidates(
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

/// Finds the session that opens a message, or makes it.
pub(super) fn open_message(
    open: &mut Open<'_>,
    arrival: Arrival<'_>,
    envelope: &Envelope<'_>,
    mut candidates: Vec<Candidate>,
    is_contact: bool,
) -> Result<Opening<Opened>, Error> {
    let message = &envelope.message;
    let is_first = arrival.is_sealed && message.kind() == MessageKind::Initial;
    let from = if is_first { None } else { Some(arrival.from) };
    let bound = envelope::bound_to(envelope.head, from, &open.account.address());
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
            let is_first = !session.is_answered();
            match decrypt(open, &mut session, envelope, &bound, party, arrival.now)? {
                Decrypted::Not(Error::UnknownHeader) if message.kind() == MessageKind::Regular => {}
                Decrypted::Not(error) => return Ok(Opening::Failed(error)),
                Decrypted::Text { plaintext, is_answer } => {
                    let candidate = candidates.swap_remove(index);
                    let handshake = None;
                    let opened =
                        Opened { candidate, session, plaintext, is_first, is_answer, handshake };
                    return Ok(Opening::Opened(Box::new(opened)));
                }
            }
        }
    }
    // A sealed one came here by the session of its handshake, which is there no more.
    if message.kind() == MessageKind::Regular || arrival.is_sealed {
        return Ok(Opening::Failed(Error::UnknownHeader));
    }
    let begun = open_handshake(open, envelope, &bound, (party, &HANDSHAKES), arrival.now)?;
    let begun = match begun {
        Opening::Opened(begun) => *begun,
        Opening::Failed(error) => return Ok(Opening::Failed(error)),
    };
    let peer = begun.session.peer();
    let place = open.place(arrival.tag, &peer);
    let record = open.record(place, &peer)?;
    Ok(Opening::Opened(Box::new(begun.of(Candidate { place, record }))))
}

/// Makes the session that an initial message begins, where its sender's allowance is not used up.
pub(super) fn open_handshake(
    open: &mut Open<'_>,
    envelope: &Envelope<'_>,
    bound: &[u8],
    (party, allowance): (Party, &Allowance),
    now: UnixTime,
) -> Result<Opening<Begun>, Error> {
    let message = &envelope.message;
    if !allowances::take(open, allowance, party, 1, now)? {
        return Ok(Opening::Failed(Error::RateLimited));
    }
    let identity = open.identity()?;
    let mut some = prekeys::for_message(open, message)?;
    let mut session = match Session::answering(&identity, &some.prekeys, message) {
        Ok(session) => session,
        Err(error) => return Ok(Opening::Failed(error)),
    };
    let plaintext = match decrypt(open, &mut session, envelope, bound, party, now)? {
        Decrypted::Text { plaintext, .. } => plaintext,
        Decrypted::Not(error) => return Ok(Opening::Failed(error)),
    };
    Session::consume(&mut some.prekeys, message)?;
    let used = some.used()?;
    Ok(Opening::Opened(Box::new(Begun { session, plaintext, used })))
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
        Party::Stranger(_) | Party::Nobody | Party::Anyone => &STRANGE_SKIPS,
    };
    if skipped > FREE_SKIPS && !allowances::take(open, allowance, party, skipped / FREE_SKIPS, now)?
    {
        return Ok(Decrypted::Not(Error::RateLimited));
    }
    Ok(match session.decrypt_opened(&envelope.message, &header, bound) {
        Ok(plaintext) => Decrypted::Text {
            plaintext: Zeroizing::new(plaintext),
            is_answer: Session::is_answer(&header),
        },
        Err(error) => Decrypted::Not(error),
    })
}

enum Decrypted {
    Text { plaintext: Zeroizing<Vec<u8>>, is_answer: bool },
    Not(Error),
}

/// Skipping up to this many messages is not charged.
const FREE_SKIPS: u64 = 64;
