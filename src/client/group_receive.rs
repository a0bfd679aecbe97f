//! In, of groups: changes, chains, texts for all.

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;

use rand_core::CryptoRng;
use zeroize::Zeroizing;

use super::allowances::{self, CHANGES, INVITATIONS, LISTS, Party};
use super::group_rows::{self, GiverRow, GroupRow, GroupStanding};
use super::group_send;
use super::inbox::{self, Event, GroupEvent, GroupText, Incoming, Item, Text};
use super::outbox::Target;
use super::seen;
use super::transaction::{Open, Place, Tag};
use super::wants::{self, Want};
use crate::address::Address;
use crate::codec::Reader;
use crate::content::attachment::Files;
use crate::content::{Body, Content, GroupBody, ListStamp, MessageId, Written, attachment};
use crate::error::Error;
use crate::group::{
    Change, ChangeId, Distribution, Envelope, GroupId, GroupMember, MemberId, Merged, Op, Roster,
    Sender,
};
use crate::identity::IdentityKey;
use crate::reference::Reference;
use crate::sesame::{Standing, Trust, UserRecord};
use crate::time::UnixTime;

/// Groups that this account is invited to at most, and those that it is out of and that are kept.
const MOST_INVITATIONS: usize = 1_024;
const MOST_OUT: usize = 256;

/// Changes of one author that no other one is built on.
const MOST_HEADS: usize = 16;

/// Seconds after which a change of somebody who is gone is not believed to be as old as it says.
const SET_ASIDE: u64 = 7 * 24 * 60 * 60;

/// Seconds for which nobody waits again for changes that a device named.
const WAITED_AGAIN: u64 = 24 * 60 * 60;

/// Late texts of a device that is no member's any more.
const MOST_LATE: u32 = 32;

/// The device that sent a content about a group.
pub(super) struct From<'a> {
    pub(super) address: &'a Address,
    pub(super) place: Place,
    pub(super) identity: IdentityKey,
    pub(super) user: &'a UserRecord,
    pub(super) resent: Option<Reference>,
    /// How many contents of the device were opened before.
    pub(super) number: u64,
    pub(super) now: UnixTime,
}

/// What became of an envelope for a group.
pub(super) enum Arrived {
    Incoming(Box<Incoming>),
    Handled,
    Duplicate,
    /// Nothing here opens the envelope of this reference.
    Unreadable(Error, [u8; 16]),
    Refused(Error),
}

/// Takes in a content about a group that came in a session with a listed device.
pub(super) fn take(
    open: &mut Open<'_>,
    from: &From<'_>,
    body: GroupBody<'_>,
    mut reply: Option<Target>,
    rng: &mut dyn CryptoRng,
) -> Result<Option<Incoming>, Error> {
    match body {
        GroupBody::Changes { group, changes } => {
            take_changes(open, from, group, changes, reply.as_mut(), rng)?
        }
        GroupBody::Chain(bytes) => take_chain(open, from, bytes, reply.as_mut(), rng)?,
        GroupBody::Ask { group, heads } => take_ask(open, from, group, heads)?,
        GroupBody::Text { group, id, text, files } => {
            let (id, files) = (MessageId::new(*id), Files::of(files));
            let written = Written { id, text, files };
            return take_text(open, from, group, written, rng);
        }
    }
    Ok(None)
}

/// Whether the sender's user is, or was, a member under the account key that is known here.
fn was_member(roster: &Roster, user: &UserRecord) -> bool {
    roster.changes().any(|change| {
        change.ops().iter().any(|op| {
            matches!(op, Op::Add { user: name, account, .. }
                if **name == *user.name && *account == user.list.account())
        })
    })
}

fn take_changes(
    open: &mut Open<'_>,
    from: &From<'_>,
    group: GroupId,
    bytes: &[u8],
    reply: Option<&mut Target>,
    rng: &mut dyn CryptoRng,
) -> Result<(), Error> {
    let Some(changes) =
        read_changes(bytes).filter(|changes| changes.iter().all(|change| change.group() == group))
    else {
        return Ok(());
    };
    let tag = open.group_tag(group.as_bytes());
    let Some(mut row) = group_rows::get(open, tag)? else {
        return invited(open, from, (group, tag), changes, reply, rng);
    };
    let before = group_rows::roster(open, tag)?;
    let Judged { roster, merged, waits } = judge(open, (tag, &row), &before, &changes, from.now)?;
    if !was_member(&roster, from.user) {
        return Ok(());
    }
    keep(open, (tag, &mut row), Some(&before), &roster, &merged.accepted, from.now)?;
    if row.standing == GroupStanding::Joined {
        report(open, &before, &roster, &merged.accepted, from.now, rng)?;
    }
    if waits.is_split {
        tell_split(open, &mut row, from.now, rng)?;
    }
    follow(open, from, &mut row, &before, &roster, rng)?;
    // What is encrypted next is encrypted for those who are in by all that was named.
    if merged.missing.is_empty() {
        row.waits = None;
    }
    group_rows::put(open, tag, &row)?;
    if merged.missing.iter().any(|id| !waits.ids.contains(id)) {
        ask(open, from, (group, &group_send::told(&roster)), reply, rng)?;
    }
    if merged.accepted.is_empty() {
        return Ok(());
    }
    look_again(open, &roster, &merged.accepted, from)?;
    // Its author may not know all devices of this account.
    for (place, mut peer) in group_rows::peers(open, tag)? {
        if open.is_own(&peer.address.user) && peer.address != *from.address {
            peer.owed_changes = true;
            group_rows::put_peer(open, tag, place, &peer)?;
        }
    }
    group_rows::set_step(open, tag)
}

/// A roster as it would be with changes that came.
struct Judged {
    roster: Roster,
    merged: Merged,
    waits: Waiting,
}

/// Changes that are not taken in now.
#[derive(Default)]
struct Waiting {
    ids: BTreeSet<ChangeId>,
    /// Some are by somebody who is known to be gone for so long that this device takes them for
    /// back-dated. Other devices may have seen them in time.
    is_split: bool,
}

/// Merges changes, but for those that are too many of one author, and those that somebody made who
/// is gone.
fn judge(
    open: &mut Open<'_>,
    (tag, row): (Tag, &GroupRow),
    before: &Roster,
    changes: &[Change],
    now: UnixTime,
) -> Result<Judged, Error> {
    let (mut waits, mut paid) = (Waiting::default(), BTreeSet::new());
    loop {
        let mut roster = before.clone();
        let some = changes.iter().filter(|change| !waits.ids.contains(&change.id()));
        let merged = roster.merge(some.cloned());
        let known = waits.ids.len();
        for id in &merged.accepted {
            let Some(change) = roster.get(id) else { continue };
            let author = change.author();
            if is_back_dated(open, (tag, row), (before, &roster), change, now)? {
                waits.is_split = true;
                waits.ids.insert(*id);
            } else if roster.heads_of(author) > MOST_HEADS
                && roster.heads_of(author) > before.heads_of(author)
                || !paid.contains(id) && !pay(open, &roster, change, now)?
            {
                waits.ids.insert(*id);
            } else {
                paid.insert(*id);
            }
        }
        if waits.ids.len() == known {
            return Ok(Judged { roster, merged, waits });
        }
    }
}

/// Takes a change from the allowance of its author. This account's own cost nothing.
fn pay(
    open: &mut Open<'_>,
    roster: &Roster,
    change: &Change,
    now: UnixTime,
) -> Result<bool, Error> {
    let author = change.author();
    if roster.was_given_for(author).is_some_and(|(user, _)| open.is_own(user)) {
        return Ok(true);
    }
    let party = Party::Contact(open.member_tag(author.as_bytes()));
    let units = u64::try_from(change.encode().len() / 4_096).unwrap_or(u64::MAX);
    allowances::take(open, &CHANGES, party, units.saturating_add(1), now)
}

/// Whether somebody made a change who is known to be gone for a week, and nobody who is not has
/// taken it up.
fn is_back_dated(
    open: &mut Open<'_>,
    (tag, row): (Tag, &GroupRow),
    (before, after): (&Roster, &Roster),
    change: &Change,
    now: UnixTime,
) -> Result<bool, Error> {
    let mut is_gone = |id: MemberId| -> Result<bool, Error> {
        // An author whom these changes added is nobody who is gone.
        if before.member(id).is_some() || before.was_given_for(id).is_none() {
            return Ok(false);
        }
        let since = group_rows::gone_since(open, tag, id)?.unwrap_or(row.since);
        Ok(now.since(since) > SET_ASIDE)
    };
    if !is_gone(change.author())? {
        return Ok(false);
    }
    let mut stays = BTreeSet::new();
    for one in after.changes() {
        if !stays.contains(&one.author()) && !is_gone(one.author())? {
            stays.insert(one.author());
        }
    }
    Ok(!after.is_taken_up(&change.id(), |author| stays.contains(&author)))
}

/// Tells people once a day that devices do not agree.
fn tell_split(
    open: &mut Open<'_>,
    row: &mut GroupRow,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<(), Error> {
    const DAY: u64 = 24 * 60 * 60;
    if row.split.is_some_and(|at| now.apart(at) < DAY) {
        return Ok(());
    }
    row.split = Some(now);
    inbox::tell(open, Event::GroupSplit { group: row.id }, now, rng)
}

/// What was set aside may be of somebody whom these changes added.
fn look_again(
    open: &mut Open<'_>,
    roster: &Roster,
    accepted: &[ChangeId],
    from: &From<'_>,
) -> Result<(), Error> {
    let mut names = BTreeSet::from([from.user.name.as_str()]);
    for change in accepted.iter().filter_map(|id| roster.get(id)) {
        names.extend(change.ops().iter().filter_map(|op| match op {
            Op::Add { user, .. } => Some(&**user),
            _ => None,
        }));
    }
    for name in names {
        wants::hurry(open, &Want::Aside(name.into()), from.now)?;
    }
    Ok(())
}

fn read_changes(bytes: &[u8]) -> Option<Vec<Change>> {
    let mut reader = Reader::new(bytes);
    let mut changes = Vec::new();
    loop {
        let Ok(length) = reader.u32() else { break };
        let bytes = reader.bytes(usize::try_from(length).ok()?).ok()?;
        changes.push(Change::decode(bytes).ok()?);
    }
    (!changes.is_empty()).then_some(changes)
}

/// Writes what became part of a roster. The caller writes the group's row.
pub(super) fn keep(
    open: &mut Open<'_>,
    (tag, row): (Tag, &mut GroupRow),
    before: Option<&Roster>,
    roster: &Roster,
    accepted: &[ChangeId],
    now: UnixTime,
) -> Result<(), Error> {
    for change in accepted.iter().filter_map(|id| roster.get(id)) {
        group_rows::add_change(open, tag, row, change)?;
    }
    let Some(before) = before else { return Ok(()) };
    let is_gone = |member: &&GroupMember| roster.member(member.id).is_none();
    let gone: Vec<MemberId> =
        before.members().iter().filter(is_gone).map(|member| member.id).collect();
    for member in &gone {
        group_rows::note_gone(open, tag, *member, now)?;
    }
    if gone.is_empty() {
        return Ok(());
    }
    // From now on what their devices write is late.
    for (place, mut giver) in group_rows::givers(open, tag)? {
        if gone.contains(&giver.member) && giver.gone.is_none() {
            group_send::set_gone(open, tag, place, &mut giver, now)?;
        }
    }
    Ok(())
}

/// A group that was not known: somebody added this user.
fn invited(
    open: &mut Open<'_>,
    from: &From<'_>,
    (group, tag): (GroupId, Tag),
    changes: Vec<Change>,
    reply: Option<&mut Target>,
    rng: &mut dyn CryptoRng,
) -> Result<(), Error> {
    let is_whole = changes.iter().any(|change| change.parents().is_empty());
    if !is_whole {
        return ask(open, from, (group, &[]), reply, rng);
    }
    let Ok(roster) = Roster::from_changes(changes) else { return Ok(()) };
    let is_in = group_send::own_member(open, &roster)?.is_some();
    if !is_in || group_send::member_of(&roster, from.user).is_none() {
        return Ok(());
    }
    if !allowances::take(open, &INVITATIONS, Party::Contact(from.place.tag), 1, from.now)?
        || !make_room(open)?
    {
        return Ok(());
    }
    // Another device of this account is in already.
    let is_own = open.is_own(&from.user.name);
    let standing = if is_own { GroupStanding::Joined } else { GroupStanding::Invited };
    let mut row = GroupRow::new(group, standing, from.now);
    let ids: Vec<ChangeId> = roster.changes().map(Change::id).collect();
    keep(open, (tag, &mut row), None, &roster, &ids, from.now)?;
    group_rows::put(open, tag, &row)?;
    look_again(open, &roster, &ids, from)?;
    let event = if is_own {
        Event::GroupJoined { group }
    } else {
        Event::GroupInvited { group, by: from.address.clone() }
    };
    inbox::tell(open, event, from.now, rng)
}

/// Makes room for an invitation. Groups that this account is out of are forgotten for it.
fn make_room(open: &mut Open<'_>) -> Result<bool, Error> {
    let all = group_rows::all(open)?;
    let of = |standing| move |one: &&(Tag, GroupRow)| one.1.standing == standing;
    let out: Vec<&(Tag, GroupRow)> = all.iter().filter(of(GroupStanding::Out)).collect();
    if let Some((tag, _)) = out.first().filter(|_| out.len() >= MOST_OUT) {
        group_send::forget(open, *tag)?;
    }
    Ok(all.iter().filter(of(GroupStanding::Invited)).count() < MOST_INVITATIONS)
}

/// How this account stands after changes.
fn follow(
    open: &mut Open<'_>,
    from: &From<'_>,
    row: &mut GroupRow,
    before: &Roster,
    after: &Roster,
    rng: &mut dyn CryptoRng,
) -> Result<(), Error> {
    let own = &open.account.user;
    let (was, is) = (before.ids_in(own), after.ids_in(own));
    if is.is_empty() && row.standing != GroupStanding::Out {
        let group = row.id;
        group_send::leave(open, open.group_tag(group.as_bytes()), row)?;
        inbox::tell(open, Event::GroupLeft { group }, from.now, rng)?;
    } else if row.standing == GroupStanding::Out && is.iter().any(|id| !was.contains(id)) {
        row.standing = GroupStanding::Invited;
        let (group, by) = (row.id, from.address.clone());
        inbox::tell(open, Event::GroupInvited { group, by }, from.now, rng)?;
    }
    Ok(())
}

/// Tells people what became different, and who did it.
fn report(
    open: &mut Open<'_>,
    before: &Roster,
    after: &Roster,
    accepted: &[ChangeId],
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<(), Error> {
    const MOST: usize = 64;
    let by = |does: &dyn Fn(&Change) -> bool| {
        let changes = accepted.iter().filter_map(|id| after.get(id));
        let change = changes.rev().find(|change| does(change));
        change.and_then(|change| after.was_given_for(change.author())).map(|(user, _)| user.into())
    };
    let names = |change: &Change, id: MemberId| {
        change
            .ops()
            .iter()
            .any(|op| matches!(op, Op::Remove(of) | Op::Promote(of) | Op::Demote(of) if *of == id))
    };
    let mut events: Vec<(Option<String>, GroupEvent)> = Vec::new();
    for member in after.members() {
        let (id, user) = (member.id, String::from(&*member.user));
        match before.member(id) {
            None => {
                let adds = |change: &Change| change.adds(id);
                events.push((by(&adds), GroupEvent::Added { user }));
            }
            Some(known) if known.role != member.role => {
                let role = member.role;
                events.push((by(&|change| names(change, id)), GroupEvent::Role { user, role }));
            }
            Some(known) if known.suspended != member.suspended => {
                let suspended = member.suspended;
                let event = GroupEvent::Suspended { user, suspended };
                events.push((by(&|change| names(change, id)), event));
            }
            Some(_) => {}
        }
    }
    for member in before.members().iter().filter(|member| after.member(member.id).is_none()) {
        let (id, user) = (member.id, String::from(&*member.user));
        events.push((by(&|change| names(change, id)), GroupEvent::Removed { user }));
    }
    if before.settings() != after.settings() {
        let sets = |change: &Change| change.ops().iter().any(|op| matches!(op, Op::Settings(_)));
        events.push((by(&sets), GroupEvent::Settings));
    }
    for (by, what) in events.into_iter().take(MOST) {
        inbox::tell(open, Event::GroupChanged { group: after.group(), by, what }, now, rng)?;
    }
    // A state that its author saw otherwise says that one of the two devices judges wrongly.
    if accepted.iter().rev().take(16).any(|id| after.disagrees(id)) {
        inbox::tell(open, Event::GroupSplit { group: after.group() }, now, rng)?;
    }
    Ok(())
}

/// Asks the sender for what is built on these changes: for all of the group, where there are none.
fn ask(
    open: &mut Open<'_>,
    from: &From<'_>,
    (group, known): (GroupId, &[ChangeId]),
    reply: Option<&mut Target>,
    rng: &mut dyn CryptoRng,
) -> Result<(), Error> {
    let Some(target) = reply else { return Ok(()) };
    if !allowances::take(open, &LISTS, Party::Contact(from.place.tag), 1, from.now)? {
        return Ok(());
    }
    let heads = group_send::bytes_of(known);
    let body = GroupBody::Ask { group, heads: &heads };
    group_send::post(open, target, body, None, from.now, rng)?;
    open.put_record(target.place, &target.record)
}

fn change_ids(heads: &[[u8; 32]]) -> Vec<ChangeId> {
    heads.iter().copied().map(ChangeId::from).collect()
}

/// A device knows the roster up to some changes: it is told the others.
fn take_ask(
    open: &mut Open<'_>,
    from: &From<'_>,
    group: GroupId,
    heads: &[[u8; 32]],
) -> Result<(), Error> {
    let tag = open.group_tag(group.as_bytes());
    let Some(mut peer) = group_rows::peer(open, tag, from.place)? else { return Ok(()) };
    if heads.len() > Change::MAX_PARENTS {
        return Ok(());
    }
    peer.owed_changes = true;
    peer.told = change_ids(heads);
    // Without the roster, it had no use for the chain.
    peer.due |= heads.is_empty();
    group_rows::put_peer(open, tag, from.place, &peer)?;
    group_rows::set_step(open, tag)
}

/// A device gives its chain that does not know that it is no member's any more: it is told that, and
/// of nothing that came later.
fn tell_removal(
    open: &mut Open<'_>,
    from: &From<'_>,
    roster: &Roster,
    given: &Distribution,
    reply: Option<&mut Target>,
    rng: &mut dyn CryptoRng,
) -> Result<(), Error> {
    let Some(target) = reply else { return Ok(()) };
    let known = change_ids(&given.heads);
    let mut content = Vec::new();
    for member in roster.ids_of(&from.user.name) {
        group_send::append(&mut content, roster.removal_of(member, &known));
    }
    if content.is_empty()
        || content.len() > group_send::MOST_CHANGES
        || !allowances::take(open, &LISTS, Party::Contact(from.place.tag), 1, from.now)?
    {
        return Ok(());
    }
    let body = GroupBody::Changes { group: roster.group(), changes: &content };
    group_send::post(open, target, body, None, from.now, rng)?;
    open.put_record(target.place, &target.record)
}

fn take_chain(
    open: &mut Open<'_>,
    from: &From<'_>,
    bytes: &[u8],
    mut reply: Option<&mut Target>,
    rng: &mut dyn CryptoRng,
) -> Result<(), Error> {
    let Ok(given) = Distribution::decode(bytes) else { return Ok(()) };
    let tag = open.group_tag(&given.group);
    let Some(mut row) = group_rows::get(open, tag)? else {
        return ask(open, from, (GroupId::from(given.group), &[]), reply, rng);
    };
    if row.standing == GroupStanding::Out {
        return Ok(());
    }
    // Another device of this account has joined.
    if row.standing == GroupStanding::Invited && open.is_own(&from.user.name) {
        row.standing = GroupStanding::Joined;
        group_rows::put(open, tag, &row)?;
        inbox::tell(open, Event::GroupJoined { group: row.id }, from.now, rng)?;
    }
    let roster = group_rows::roster(open, tag)?;
    let named = change_ids(&given.heads);
    let knows = named.iter().all(|head| roster.contains(head));
    if !knows {
        let known = group_send::told(&roster);
        ask(open, from, (roster.group(), &known), reply.as_deref_mut(), rng)?;
    }
    if let Some(mut peer) = group_rows::peer(open, tag, from.place)? {
        peer.told = named;
        let is_first = |at: UnixTime| from.now.apart(at) > WAITED_AGAIN;
        if !knows && peer.waited.is_none_or(is_first) {
            peer.waited = Some(from.now);
            row.waits = Some(from.now.after(group_send::HEADS_WAIT));
            group_rows::put(open, tag, &row)?;
        }
        if row.standing == GroupStanding::Joined {
            let (place, now) = (from.place, from.now);
            group_send::answer_later(open, tag, place, &mut peer, now, rng)?;
        }
        group_rows::put_peer(open, tag, from.place, &peer)?;
    }
    let Some(member) = group_send::member_of(&roster, from.user).map(|member| member.id) else {
        return tell_removal(open, from, &roster, &given, reply, rng);
    };
    let mut giver = match group_rows::giver(open, tag, from.place)? {
        Some(giver) => giver,
        None => GiverRow::new(from.address.clone(), from.identity, member),
    };
    giver.member = member;
    let mut record = giver.record()?;
    let before = group_rows::labels(&record);
    record.expire(from.now);
    let _taken = record.take(given, from.now);
    if group_rows::put_record(open, (tag, &mut row), from.place, &mut giver, &record)? {
        group_rows::put(open, tag, &row)?;
    }
    group_rows::put_labels(open, tag, from.place, &record, &before)?;
    // What came before its chain may open now.
    wants::hurry(open, &Want::Aside(from.user.name.clone()), from.now)
}

/// Whether a text in a session came before the changes that say that its sender is a member.
pub(super) fn is_early(
    open: &mut Open<'_>,
    group: GroupId,
    user: &UserRecord,
) -> Result<bool, Error> {
    let tag = open.group_tag(group.as_bytes());
    match group_rows::get(open, tag)? {
        None => Ok(true),
        Some(row) if row.standing == GroupStanding::Out => Ok(false),
        Some(_) => Ok(!was_member(&group_rows::roster(open, tag)?, user)),
    }
}

fn take_text(
    open: &mut Open<'_>,
    from: &From<'_>,
    group: GroupId,
    written: Written<'_>,
    rng: &mut dyn CryptoRng,
) -> Result<Option<Incoming>, Error> {
    let tag = open.group_tag(group.as_bytes());
    let Some(row) = group_rows::get(open, tag)? else { return Ok(None) };
    if row.standing == GroupStanding::Out {
        return Ok(None);
    }
    let roster = group_rows::roster(open, tag)?;
    let (member, is_late) = match group_send::member_of(&roster, from.user) {
        Some(member) => (member.id, false),
        None => {
            let Some(mut giver) = group_rows::giver(open, tag, from.place)? else {
                return Ok(None);
            };
            if !take_late(&mut giver, from.now) {
                return Ok(None);
            }
            group_rows::put_giver(open, tag, from.place, &giver)?;
            (giver.member, true)
        }
    };
    let mut text = shown((from.address, from.user), (group, member), written, is_late)?;
    text.text.resent = from.resent.map(|resent| inbox::EnvelopeId::of(open, from.address, resent));
    inbox::add(open, Item::Group(text), from.number, from.now, rng).map(Some)
}

/// A text as the app gets it.
fn shown(
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
fn take_late(giver: &mut GiverRow, now: UnixTime) -> bool {
    let is_over = giver.gone.is_some_and(|since| now.since(since) > group_send::LATE);
    if is_over || giver.late >= MOST_LATE {
        return false;
    }
    giver.late = giver.late.saturating_add(1);
    true
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
    for (group, place) in group_rows::labelled(open, &envelope.label(), tag)? {
        let giver = group_rows::giver(open, group, place)?;
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
    // What nobody who holds the label key wrote is noise.
    let Some(hint) = record.label_keys().find_map(|key| envelope.hint(key)) else {
        return Ok(Arrived::Refused(Error::Decrypt));
    };
    let sender = Sender {
        group: row.id.as_bytes(),
        member: giver.member.as_bytes(),
        identity: &giver.identity,
        address: from,
    };
    let names = [envelope.reference()];
    let opened = match record.receive(envelope, &hint, &sender) {
        Ok(opened) => opened,
        Err(_) if seen::any(open, place, &names)? => return Ok(Arrived::Duplicate),
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
    if is_late && (standing == Standing::Unknown || !take_late(&mut giver, now)) {
        return Ok(Arrived::Refused(Error::UnknownDevice(Box::new(from.clone()))));
    }
    record.commit(step);
    if group_rows::put_record(open, (group, &mut row), place, &mut giver, &record)? {
        group_rows::put(open, group, &row)?;
    }
    let here = ListStamp::of(&user.list);
    if content.list.version > here.version {
        wants::want(open, Want::Devices(user.name.clone()), now)?;
    }
    let message = content.body.message();
    let names: Vec<seen::Name> = [Some(envelope.reference()), message.map(|id| *id.as_bytes())]
        .into_iter()
        .flatten()
        .collect();
    if seen::any(open, place, &names)? {
        return Ok(Arrived::Duplicate);
    }
    let mut device = open.record(place, &giver.identity)?;
    seen::note(open, place, &mut device, &names, message.is_some())?;
    open.put_record(place, &device)?;
    let item = match content.body {
        Body::Text(written) => {
            Item::Group(shown((from, user), (row.id, giver.member), written, is_late)?)
        }
        Body::Unsupported => Item::Event(Event::Unsupported { from: from.clone() }),
        _ => return Ok(Arrived::Handled),
    };
    let number = u64::from(hint.number());
    Ok(Arrived::Incoming(Box::new(inbox::add(open, item, number, now, rng)?)))
}
