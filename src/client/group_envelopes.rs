//! In, of groups: envelopes for all devices, and what opens them.

use alloc::boxed::Box;
use alloc::vec::Vec;

use rand_core::CryptoRng;
use zeroize::Zeroizing;

use super::events::Event;
use super::group_keys::{self, GiverRow};
use super::group_members;
use super::group_rows::{self, GroupStanding};
use super::inbox::{self, GroupText, Incoming, Item, Text};
use super::seen;
use super::transaction::{Open, Place, Tag};
use super::wants::{self, Want};
use crate::address::Address;
use crate::content::{Body, Content, Written, attachment};
use crate::crypto::stack;
use crate::error::Error;
use crate::group::{Envelope, GroupId, Hint, MemberId, Sender};
use crate::sesame::{Standing, Trust, UserRecord};
use crate::time::UnixTime;

/// Late texts of a device that is no member's any more.
const MOST_LATE: u32 = 32;

/// What became of an envelope for a group.
pub(super) enum Arrived {
    Incoming(Box<Incoming>),
    Handled,
    Duplicate,
    /// Nothing here opens the envelope of this reference.
    Unreadable(Error, [u8; 16]),
    Refused(Error),
}

/// Opens an envelope for a group, which came as the transport says `from` there.
pub(super) fn open_envelope(
    open: &mut Open<'_>,
    from: &Address,
    known: Option<&UserRecord>,
    bytes: &[u8],
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<Arrived, Error> {
    let envelope = match Envelope::decode(bytes) {
        Ok(envelope) => envelope,
        Err(error) => return Ok(Arrived::Refused(error)),
    };
    let tag = open.tag(&from.user)?;
    let Some(user) = known else {
        return Ok(Arrived::Refused(Error::DevicesNeeded(from.user.as_str().into())));
    };
    let mut found = None;
    for (group, place) in group_keys::labelled(open, &envelope.label(), tag)? {
        let giver = group_keys::giver(open, group, place)?;
        if let Some(giver) = giver.filter(|giver| giver.address == *from) {
            found = Some((group, place, giver));
        }
    }
    let Some((group, place, giver)) = found else {
        // It may be a repetition of one whose chain is gone, which its device is known for.
        for identity in user.candidates(from.device) {
            let place = open.place(tag, &identity);
            if seen::was_seen(open, place, &envelope.reference())? {
                return Ok(Arrived::Duplicate);
            }
        }
        return Ok(Arrived::Unreadable(Error::UnknownHeader, envelope.reference()));
    };
    open_given(open, (from, user), (group, place, giver), &envelope, now, rng)
}

/// Whether an envelope is asked for that does not open for this reason. One beyond the end of its
/// chain is a thief's, or that of a sender that does not know that it was restored from a copy: the
/// device itself has to say that it wrote it.
const fn is_asked_for(why: &Error) -> bool {
    matches!(why, Error::UnknownHeader | Error::Duplicate | Error::TooOld | Error::TooFarAhead)
}

/// As whom a device says that it wrote an envelope.
enum Author {
    /// As a member that its user is, or was.
    Theirs(MemberId),
    SomebodyElse,
    /// Changes may come that give an id to its user.
    Unknown,
}

/// A user who is removed and added again has another id than when the device gave its chain.
fn author(
    open: &mut Open<'_>,
    group: Tag,
    user: &UserRecord,
    giver: &GiverRow,
    hint: &Hint,
) -> Result<Author, Error> {
    let is_named = |id: &MemberId| hint.names(id.as_bytes(), giver.address.device);
    if is_named(&giver.member) {
        return Ok(Author::Theirs(giver.member));
    }
    let roster = group_rows::roster(open, group)?;
    let Some(id) = roster.ids().find(is_named) else { return Ok(Author::Unknown) };
    let theirs = Some((user.name.as_str(), user.list.account()));
    let is_theirs = roster.was_given_for(id) == theirs;
    Ok(if is_theirs { Author::Theirs(id) } else { Author::SomebodyElse })
}

fn open_given(
    open: &mut Open<'_>,
    (from, user): (&Address, &UserRecord),
    (group, place, mut giver): (Tag, Place, GiverRow),
    envelope: &Envelope<'_>,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<Arrived, Error> {
    let Some(mut row) = group_rows::get(open, group)? else {
        return Ok(Arrived::Refused(Error::UnknownGroup));
    };
    if row.standing == GroupStanding::Out {
        return Ok(Arrived::Refused(Error::UnknownGroup));
    }
    let mut record = giver.record()?;
    // What nobody who holds the label key wrote is noise, and so is what names another device.
    let is_of = |hint: &Hint| hint.device() == from.device;
    let Some(hint) = record.label_keys().find_map(|key| envelope.hint(key)).filter(is_of) else {
        return Ok(Arrived::Refused(Error::Decrypt));
    };
    let member = match author(open, group, user, &giver, &hint)? {
        Author::Theirs(member) => member,
        Author::SomebodyElse => return Ok(Arrived::Refused(Error::Decrypt)),
        Author::Unknown => {
            return Ok(Arrived::Unreadable(Error::UnknownHeader, envelope.reference()));
        }
    };
    let sender = Sender {
        group: row.id.as_bytes(),
        member: member.as_bytes(),
        identity: &giver.identity,
        address: from,
    };
    let opened = match record.receive(envelope, &hint, &sender) {
        Ok(opened) => opened,
        Err(_) if seen::was_seen(open, place, &envelope.reference())? => {
            return Ok(Arrived::Duplicate);
        }
        Err(error) if is_asked_for(&error) => {
            return Ok(Arrived::Unreadable(error, envelope.reference()));
        }
        Err(error) => return Ok(Arrived::Refused(error)),
    };
    let (content, step) = (Zeroizing::new(opened.content), opened.step);
    let content = match Content::decode(&content) {
        Ok(content) => content,
        Err(error) => return Ok(Arrived::Refused(error)),
    };
    let standing = user.standing(from.device, &giver.identity, now);
    let is_late = giver.gone.is_some() || standing != Standing::Listed;
    if is_late && (standing == Standing::Unknown || !count_late(&mut giver, now)) {
        return Ok(Arrived::Refused(Error::UnknownDevice(Box::new(from.clone()))));
    }
    record.commit(step);
    if group_keys::put_record(open, (group, &mut row), place, &mut giver, &record)? {
        group_rows::put(open, group, &row)?;
    }
    if content.list.version > user.list.version() {
        wants::want(open, Want::Devices(user.name.clone()), now)?;
    }
    let message = content.body.message();
    let names: Vec<seen::Name> = [Some(envelope.reference()), message.map(|id| *id.as_bytes())]
        .into_iter()
        .flatten()
        .collect();
    let keys = seen::keys(open, place, &names);
    if seen::any(open, &keys)? {
        return Ok(Arrived::Duplicate);
    }
    let mut device = open.record(place, &giver.identity)?;
    seen::note(open, place, &mut device, &keys, message.is_some())?;
    open.put_record(place, &device)?;
    // What is built from here on has room to spare, and the app has it.
    stack::wipe();
    let item = match content.body {
        Body::Text(written) => {
            Item::Group(shown((from, user), (row.id, member), written, is_late)?)
        }
        Body::Unsupported => Item::Event(Event::Unsupported { from: from.clone() }),
        _ => return Ok(Arrived::Handled),
    };
    let number = u64::from(hint.number());
    Ok(Arrived::Incoming(Box::new(inbox::add(open, item, number, now, rng)?)))
}

/// A text as the app gets it.
pub(super) fn shown(
    (from, user): (&Address, &UserRecord),
    (group, member): (GroupId, MemberId),
    written: Written<'_>,
    is_late: bool,
) -> Result<GroupText, Error> {
    let text = Text {
        from: from.clone(),
        copy_to: None,
        message: written.id,
        text: Zeroizing::new(written.text.to_vec()),
        files: attachment::decode(written.files.as_bytes())?,
        trust: if is_late { Trust::Unaccepted } else { user.trust() },
        resent: None,
    };
    Ok(GroupText { group, member, is_late, text })
}

/// Counts a text of a device that is no member's any more. False where there were enough, or it is
/// gone for too long.
pub(super) fn count_late(giver: &mut GiverRow, now: UnixTime) -> bool {
    let is_over = giver.gone.is_some_and(|since| now.since(since) > group_members::LATE);
    if is_over || giver.late >= MOST_LATE {
        return false;
    }
    giver.late = giver.late.saturating_add(1);
    true
}
