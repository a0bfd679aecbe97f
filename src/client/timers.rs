//! What goes when its time is over: one row for each, in the order of that time.

use alloc::vec::Vec;

use rand_core::CryptoRng;

use super::backoff::Earliest;
use super::transaction::{Open, Place, Tag};
use crate::error::Error;
use crate::sesame::GRACE;
use crate::store::Table;
use crate::time::UnixTime;

/// What a timer is for: the first byte of its row in the table of tasks,
/// `kind || due:u64 || subject`.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    /// A text in the log; the subject is its key.
    Text,
    /// Removed devices of a user; the subject is the user's tag.
    Removed,
    /// A request to a device; the subject is the device's place and the number of the envelope.
    Request,
    /// A verification with a user; the subject is the user's tag.
    Verification,
    /// A signal; the subject says where it is.
    Signal,
    /// A device of which nothing came since it was written to sealed; the subject is its place.
    Silence,
    /// What a device gave in a group; the subject is the group's tag and the device's place.
    Giver,
    /// A device that gave its chain is to be answered; the subject is the same.
    Answer,
    /// A proposal for a group; the subject is the rest of the key of its row.
    Proposal,
}

impl Kind {
    const ALL: [Self; 9] = [
        Self::Text,
        Self::Removed,
        Self::Request,
        Self::Verification,
        Self::Signal,
        Self::Silence,
        Self::Giver,
        Self::Answer,
        Self::Proposal,
    ];

    const fn byte(self) -> u8 {
        match self {
            Self::Text => 0x10,
            Self::Removed => 0x11,
            Self::Request => 0x12,
            Self::Verification => 0x18,
            Self::Signal => 0x13,
            Self::Silence => 0x14,
            Self::Giver => 0x15,
            Self::Answer => 0x16,
            Self::Proposal => 0x17,
        }
    }
}

/// A timer whose time is over.
pub(super) struct Due {
    key: Vec<u8>,
}

impl Due {
    /// When its time was over.
    pub(super) fn at(&self) -> Option<UnixTime> {
        time_of(&self.key).and_then(|at| UnixTime::from_secs(at).ok())
    }

    pub(super) fn subject(&self) -> &[u8] {
        self.key.get(9..).unwrap_or_default()
    }
}

/// A text is to go.
pub(super) fn set_text(open: &mut Open<'_>, due: UnixTime, text: &[u8; 41]) -> Result<(), Error> {
    put(open, Kind::Text, due, text)
}

/// Devices of a user were removed: what is known of them goes when their grace is over.
pub(super) fn set_grace(open: &mut Open<'_>, now: UnixTime, tag: Tag) -> Result<(), Error> {
    put(open, Kind::Removed, now.after(GRACE.saturating_add(1)), &tag.0)
}

/// A request may be lost.
pub(super) fn set_request(
    open: &mut Open<'_>,
    due: UnixTime,
    place: Place,
    number: u64,
) -> Result<(), Error> {
    put(open, Kind::Request, due, &place.key_with(&number.to_be_bytes()))
}

/// A verification with a user is over after this time.
pub(super) fn set_verification(open: &mut Open<'_>, due: UnixTime, tag: Tag) -> Result<(), Error> {
    put(open, Kind::Verification, due, &tag.0)
}

/// Nothing may have come of a device by then.
pub(super) fn set_silence(open: &mut Open<'_>, due: UnixTime, place: Place) -> Result<(), Error> {
    put(open, Kind::Silence, due, &place.key())
}

/// A signal is worth nothing any more.
pub(super) fn set_signal(open: &mut Open<'_>, due: UnixTime, subject: &[u8]) -> Result<(), Error> {
    put(open, Kind::Signal, due, subject)
}

/// What a device gave in a group is to be looked at.
pub(super) fn set_giver(
    open: &mut Open<'_>,
    due: UnixTime,
    group: Tag,
    place: Place,
) -> Result<(), Error> {
    put(open, Kind::Giver, due, &[&group.0[..], &place.key()].concat())
}

/// A device is to be answered.
pub(super) fn set_answer(
    open: &mut Open<'_>,
    due: UnixTime,
    group: Tag,
    place: Place,
) -> Result<(), Error> {
    put(open, Kind::Answer, due, &[&group.0[..], &place.key()].concat())
}

/// A proposal for a group is worth nothing any more.
pub(super) fn set_proposal(
    open: &mut Open<'_>,
    due: UnixTime,
    group: Tag,
    name: &[u8; 24],
) -> Result<(), Error> {
    put(open, Kind::Proposal, due, &[&group.0[..], name].concat())
}

/// The group and the device that such a timer is about.
pub(super) fn of_group(subject: &[u8]) -> Option<(Tag, Place)> {
    let (group, place) = subject.split_first_chunk()?;
    Some((Tag(*group), Place::read(place.first_chunk()?)))
}

/// Some of these seconds: where all devices would do the same at one time, or a time says too much.
pub(super) fn drawn(within: u64, rng: &mut dyn CryptoRng) -> u64 {
    u64::from(rng.next_u32()).checked_rem(within).unwrap_or(0)
}

fn put(open: &mut Open<'_>, kind: Kind, due: UnixTime, subject: &[u8]) -> Result<(), Error> {
    let key = [&[kind.byte()][..], &due.as_secs().to_be_bytes(), subject].concat();
    open.put(Table::Task, &key, &[])
}

/// What is due, the oldest first, at most `most`.
pub(super) fn due(
    open: &mut Open<'_>,
    kind: Kind,
    now: UnixTime,
    most: usize,
) -> Result<Vec<Due>, Error> {
    let is_due = |key: &[u8]| time_of(key).is_none_or(|due| due <= now.as_secs());
    // They are in order: where the first is not due, none is.
    let mut due = Vec::new();
    for page in [1, most] {
        let rows = open.peek(Table::Task, &[kind.byte()], page)?.into_iter();
        due = rows.take_while(|(key, _)| is_due(key)).map(|(key, _)| Due { key }).collect();
        if due.len() < page {
            break;
        }
    }
    Ok(due)
}

/// When the first of each kind is due.
pub(super) fn next_due(open: &mut Open<'_>, next: &mut Earliest) -> Result<(), Error> {
    for kind in Kind::ALL {
        for (key, _) in open.peek(Table::Task, &[kind.byte()], 1)? {
            match time_of(&key).and_then(|due| UnixTime::from_secs(due).ok()) {
                Some(due) if due > next.now() => next.take(due),
                // It is one of more than are done at once.
                _ => next.soon(),
            }
        }
    }
    Ok(())
}

fn time_of(key: &[u8]) -> Option<u64> {
    let due = key.get(1..9).and_then(|due| due.first_chunk());
    due.map(|due| u64::from_be_bytes(*due))
}

/// It was done.
pub(super) fn done(open: &mut Open<'_>, due: &Due) -> Result<(), Error> {
    open.delete(Table::Task, &due.key)
}
