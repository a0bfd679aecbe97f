//! Changes to rosters, as they come: which count, and what follows for this account.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use rand_core::CryptoRng;

use super::allowances::{
    self, CHANGES, INVITATIONS, LISTS, OWN_GROUPS, Party, STRANGE_GROUPS, TOLD,
};
use super::events::{Event, FounderRole};
use super::group_events;
use super::group_keys;
use super::group_members;
use super::group_parts;
use super::group_proposals;
use super::group_rows::{self, GroupRow, GroupStanding, PeerRow};
use super::group_serve;
use super::inbox;
use super::log;
use super::outbox::Target;
use super::transaction::{Open, Place, Tag};
use super::wants::{self, Want};
use crate::address::Address;
use crate::codec::Reader;
use crate::content::GroupBody;
use crate::error::Error;
use crate::group::{
    Change, ChangeId, GroupId, GroupMember, GroupRole, MemberId, Merged, Op, Roster,
};
use crate::identity::IdentityKey;
use crate::reference::Reference;
use crate::sesame::{Trust, UserRecord};
use crate::time::UnixTime;

/// Groups that this account is invited to at most, and those that it is out of and that are kept.
const MOST_INVITATIONS: usize = 1_024;
const MOST_OUT: usize = 256;

/// Changes of one author that no other one is built on.
const MOST_HEADS: usize = 16;

/// How often what is built on changes that are set aside is looked for. Members who conspire can
/// make changes in which each such look finds more; then the older half of what came with them is
/// looked at without the rest, which waits. If nothing were taken in, they could keep a device from
/// learning what others change.
const MOST_PASSES: usize = 16;

/// Seconds after which a change of somebody who is gone is not believed to be as old as it says.
const SET_ASIDE: u64 = 7 * 24 * 60 * 60;

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

/// Whether the sender's user is, or was, a member under the account key that is known here.
pub(super) fn was_member(roster: &Roster, user: &UserRecord) -> bool {
    roster.changes().any(|change| {
        change.ops().iter().any(|op| {
            matches!(op, Op::Add { user: name, account, .. }
                if **name == *user.name && *account == user.list.account())
        })
    })
}

pub(super) fn take_changes(
    open: &mut Open<'_>,
    from: &From<'_>,
    group: GroupId,
    bytes: &[u8],
    reply: Option<&mut Target>,
    rng: &mut dyn CryptoRng,
) -> Result<(), Error> {
    if !listens(open, from, bytes.len())? {
        return Ok(());
    }
    let Some(changes) =
        read_changes(bytes).filter(|changes| changes.iter().all(|change| change.group() == group))
    else {
        return Ok(());
    };
    let tag = open.group_tag(group.as_bytes());
    let Some(mut row) = group_rows::get(open, tag)? else {
        return invited(open, from, (group, tag), (bytes, changes), reply, rng);
    };
    let before = group_rows::roster(open, tag)?;
    let Judged { roster, merged, waits } = judge(open, (tag, &row), &before, &changes, from.now)?;
    if !was_member(&roster, from.user) {
        return Ok(());
    }
    let is_in = row.standing == GroupStanding::Joined;
    if !is_in && !has_room(open, from, &roster, &merged.accepted)? {
        return Ok(());
    }
    keep(open, (tag, &mut row), Some(&before), &roster, &merged.accepted, from.now)?;
    if is_in {
        report(open, &before, &roster, &merged.accepted, from.now, rng)?;
    }
    if waits.is_split {
        tell_split(open, &mut row, from.now, rng)?;
    }
    follow(open, from, &mut row, &before, &roster, rng)?;
    join_with(open, from, (tag, &mut row), rng)?;
    // What is encrypted next is encrypted for those who are in by all that was named.
    if merged.missing.is_empty() {
        row.waits = row.waits.map(|_| from.now);
    }
    group_rows::put(open, tag, &row)?;
    if merged.missing.iter().any(|id| !waits.ids.contains(id)) {
        ask(open, from, (group, &group_serve::told(&roster)), reply, rng)?;
    }
    if merged.accepted.is_empty() {
        return Ok(());
    }
    look_again(open, &roster, &merged.accepted, from)?;
    if let Some(mut peer) = group_rows::peer(open, tag, from.place)? {
        // A change is made on all that its author knows.
        let (user, account) = (&from.user.name, from.user.list.account());
        let is_theirs = |id: &&ChangeId| {
            let author = roster.get(id).and_then(|change| roster.was_given_for(change.author()));
            author == Some((user.as_str(), account))
        };
        let made: Vec<ChangeId> = merged.accepted.iter().filter(is_theirs).copied().collect();
        if !made.is_empty() && tell_again(open, &roster, &mut peer, &made) {
            group_rows::put_peer(open, tag, from.place, &peer)?;
        }
    }
    // Its author may not know all devices of this account.
    for (place, mut peer) in group_rows::peers(open, tag)? {
        if open.is_own(&peer.address.user) && peer.address != *from.address {
            peer.owed_changes = true;
            group_rows::put_peer(open, tag, place, &peer)?;
        }
    }
    group_rows::set_step(open, tag)
}

/// A device shows which changes it knows. Where a change of this account is not among them, the
/// device is told it again: it may be lost. So it is where a change of its own account is not: its
/// store may be a copy. Says whether it is.
///
/// A change that is on its way is told twice by that. Nobody does it but its author's devices, or
/// those of three other members.
pub(super) fn tell_again(
    open: &Open<'_>,
    roster: &Roster,
    peer: &mut PeerRow,
    known: &[ChangeId],
) -> bool {
    let is_near = is_near(open, roster, &peer.address.user);
    let is_to_be_told = |change: &Change| {
        let author = roster.was_given_for(change.author());
        author.is_some_and(|(user, _)| open.is_own(user) || is_near && *user == *peer.address.user)
    };
    if peer.is_out || !roster.changes_since(known).any(is_to_be_told) {
        return false;
    }
    // Of many, which are in the order of their ancestry, the last ones say most.
    let some = known.len().saturating_sub(Change::MAX_PARENTS);
    (peer.owed_changes, peer.told) = (true, known.iter().skip(some).copied().collect());
    true
}

/// Whether this account is one of the three members who come after a user.
fn is_near(open: &Open<'_>, roster: &Roster, user: &str) -> bool {
    let members = roster.members();
    let Some(at) = members.iter().position(|member| *member.user == *user) else { return false };
    let mut after = members.iter().cycle().skip(at.saturating_add(1)).take(3);
    after.any(|member| open.is_own(&member.user))
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
    let mut paid = BTreeSet::new();
    let mut gone = Gone { tag, row, before, now, known: BTreeMap::new() };
    let mut roster = before.clone();
    let mut merged = roster.merge(changes.iter().cloned());
    // These were verified now, and have their parents before them.
    let all: Vec<Change> =
        merged.accepted.iter().filter_map(|id| roster.get(id)).cloned().collect();
    let missing = merged.missing.clone();
    let without = |waits: &Waiting, some: usize, missing: Vec<ChangeId>| {
        let left = all.iter().take(some).filter(|change| !waits.ids.contains(&change.id()));
        let mut roster = before.clone();
        let mut merged = roster.take_verified(left.cloned().collect());
        merged.missing.extend(missing);
        (roster, merged)
    };
    let mut some = all.len();
    loop {
        let mut waits = Waiting::default();
        for _ in 0..MOST_PASSES {
            let accepted = &merged.accepted;
            if !set_aside(open, (&roster, accepted), &mut gone, (&mut waits, &mut paid))? {
                let later: Vec<ChangeId> = all.iter().skip(some).map(Change::id).collect();
                merged.missing.extend(&later);
                waits.ids.extend(later);
                return Ok(Judged { roster, merged, waits });
            }
            (roster, merged) = without(&waits, some, merged.missing);
        }
        some /= 2;
        (roster, merged) = without(&Waiting::default(), some, missing.clone());
    }
}

/// Sets aside what is not taken in of the changes that a roster would accept, and pays for the
/// rest. Says whether anything was set aside.
fn set_aside(
    open: &mut Open<'_>,
    (roster, accepted): (&Roster, &[ChangeId]),
    gone: &mut Gone<'_>,
    (waits, paid): (&mut Waiting, &mut BTreeSet<ChangeId>),
) -> Result<bool, Error> {
    let known = waits.ids.len();
    for id in accepted {
        let Some(change) = roster.get(id) else { continue };
        let author = change.author();
        if gone.is_back_dated(open, roster, change)? {
            waits.is_split = true;
            waits.ids.insert(*id);
        } else if roster.heads_of(author) > MOST_HEADS
            && roster.heads_of(author) > gone.before.heads_of(author)
            || !paid.contains(id) && !pay(open, roster, change, gone.now)?
        {
            waits.ids.insert(*id);
        } else {
            paid.insert(*id);
        }
    }
    Ok(waits.ids.len() > known)
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

/// Who is known to be gone for a week: each author is looked up once.
struct Gone<'a> {
    tag: Tag,
    row: &'a GroupRow,
    before: &'a Roster,
    now: UnixTime,
    known: BTreeMap<MemberId, bool>,
}

impl Gone<'_> {
    fn is_gone(&mut self, open: &mut Open<'_>, id: MemberId) -> Result<bool, Error> {
        if let Some(known) = self.known.get(&id) {
            return Ok(*known);
        }
        // An author whom these changes added is nobody who is gone.
        let was_in = self.before.member(id).is_none() && self.before.was_given_for(id).is_some();
        let is_gone = was_in && {
            let since = group_rows::gone_since(open, self.tag, id)?.unwrap_or(self.row.since);
            self.now.since(since) > SET_ASIDE
        };
        self.known.insert(id, is_gone);
        Ok(is_gone)
    }

    /// Whether somebody made a change who is gone, and nobody who is not has taken it up.
    fn is_back_dated(
        &mut self,
        open: &mut Open<'_>,
        after: &Roster,
        change: &Change,
    ) -> Result<bool, Error> {
        if !self.is_gone(open, change.author())? {
            return Ok(false);
        }
        for one in after.changes() {
            self.is_gone(open, one.author())?;
        }
        let stays = |author| !self.known.get(&author).is_some_and(|is_gone| *is_gone);
        Ok(!after.is_taken_up(&change.id(), stays))
    }
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

/// What was set aside may be of somebody whom these changes added, or the account key of one may be
/// another than the one that is known.
fn look_again(
    open: &mut Open<'_>,
    roster: &Roster,
    accepted: &[ChangeId],
    from: &From<'_>,
) -> Result<(), Error> {
    let mut names = BTreeSet::new();
    for change in accepted.iter().filter_map(|id| roster.get(id)) {
        names.extend(change.ops().iter().filter_map(|op| match op {
            Op::Add { user, .. } => Some(&**user),
            _ => None,
        }));
    }
    for name in &names {
        look_for_key(open, roster, name, from.now)?;
    }
    names.insert(&from.user.name);
    for name in names {
        wants::hurry(open, &Want::Aside(name.into()), from.now)?;
    }
    Ok(())
}

/// Where somebody is in under another account key than those that are known, the server is asked
/// for it: the user may never write to this device, and a person decides about what is shown here.
fn look_for_key(
    open: &mut Open<'_>,
    roster: &Roster,
    name: &str,
    now: UnixTime,
) -> Result<(), Error> {
    let Some(user) = open.user(open.tag(name)?)? else { return Ok(()) };
    let mut members = roster.members().iter();
    if members.any(|member| *member.user == *name && !user.has_seen(&member.account)) {
        wants::want(open, Want::Devices(name.into()), now)?;
    }
    Ok(())
}

/// Whether this device looks at that many bytes of changes, which a user's devices tell it.
fn listens(open: &mut Open<'_>, from: &From<'_>, bytes: usize) -> Result<bool, Error> {
    let units = allowances::units(bytes);
    allowances::take(open, &TOLD, Party::Contact(from.place.tag), units, from.now)
}

fn read_changes(bytes: &[u8]) -> Option<Vec<Change>> {
    let mut reader = Reader::new(bytes);
    let mut changes = Vec::new();
    while let Ok(length) = reader.u32() {
        let bytes = reader.bytes(usize::try_from(length).ok()?).ok()?;
        changes.push(Change::decode(bytes).ok()?);
    }
    reader.end().ok()?;
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
    group_proposals::settle(open, tag, roster)?;
    if !accepted.is_empty() {
        group_rows::note_members(open, tag, before, roster)?;
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
    // From now on what their devices write is late, unless their user is in again by now.
    for (place, mut giver) in group_keys::givers(open, tag)? {
        if !gone.contains(&giver.member) || giver.gone.is_some() {
            continue;
        }
        let given_for = roster.was_given_for(giver.member);
        let mut members = roster.members().iter();
        match members.find(|one| given_for == Some((&*one.user, one.account))) {
            Some(member) => {
                giver.member = member.id;
                group_keys::put_giver(open, tag, place, &giver)?;
            }
            None => group_members::set_gone(open, tag, place, &mut giver, now)?,
        }
    }
    Ok(())
}

/// A group that was not known: somebody added this user. `content` may be a part of a history that
/// is longer than one content, or nothing, where somebody says that it is whole.
pub(super) fn invited(
    open: &mut Open<'_>,
    from: &From<'_>,
    (group, tag): (GroupId, Tag),
    (content, mut changes): (&[u8], Vec<Change>),
    reply: Option<&mut Target>,
    rng: &mut dyn CryptoRng,
) -> Result<(), Error> {
    let begins = changes.iter().any(|change| change.parents().is_empty());
    let has_parts = group_parts::any(open, from.place.tag, tag)?;
    if !begins && !has_parts {
        return ask(open, from, (group, &[]), reply, rng);
    }
    // A device that was linked lately is told of all groups of the account.
    let is_own = open.is_own(&from.user.name);
    let allowance = if is_own { &OWN_GROUPS } else { &INVITATIONS };
    if !allowances::take(open, allowance, Party::Contact(from.place.tag), 1, from.now)? {
        return Ok(());
    }
    if has_parts && group_parts::is_full(content) {
        return group_parts::keep(open, (from.place.tag, tag), content, from.now);
    }
    let parts = group_parts::of(open, from.place.tag, tag)?;
    if has_parts && !listens(open, from, parts.iter().map(Vec::len).sum())? {
        return Ok(());
    }
    changes.extend(parts.iter().filter_map(|part| read_changes(part)).flatten());
    let Ok(roster) = Roster::from_changes(changes) else { return Ok(()) };
    let is_in = group_members::own_member(open, &roster)?.is_some();
    if !is_in || group_members::member_of(&roster, from.user).is_none() {
        if content.is_empty() {
            return ask(open, from, (group, &[]), reply, rng);
        }
        if has_parts || group_parts::is_full(content) {
            group_parts::keep(open, (from.place.tag, tag), content, from.now)?;
        }
        return Ok(());
    }
    let ids: Vec<ChangeId> = roster.changes().map(Change::id).collect();
    if !make_room(open)? || !has_room(open, from, &roster, &ids)? {
        return Ok(());
    }
    group_parts::done(open, from.place.tag, tag)?;
    // Another device of this account is in already.
    let standing = if is_own { GroupStanding::Joined } else { GroupStanding::Invited };
    let mut row = GroupRow::new(group, standing, from.now);
    keep(open, (tag, &mut row), None, &roster, &ids, from.now)?;
    group_rows::put(open, tag, &row)?;
    look_again(open, &roster, &ids, from)?;
    let event = if is_own {
        Event::GroupJoined { group }
    } else {
        Event::GroupInvited { group, by: from.address.clone() }
    };
    inbox::tell(open, event, from.now, rng)?;
    tell_continued(open, &roster, from.now, rng)
}

/// Tells people that a group is to take the place of another one, and whose word that is.
fn tell_continued(
    open: &mut Open<'_>,
    roster: &Roster,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<(), Error> {
    let Some(of) = roster.continues() else { return Ok(()) };
    let was = founder_role(open, roster, of)?;
    let founder = roster.founder().0.into();
    inbox::tell(open, Event::GroupContinued { group: roster.group(), of, founder, was }, now, rng)
}

/// What the founder of a group is in the one that it is to continue.
pub(super) fn founder_role(
    open: &mut Open<'_>,
    roster: &Roster,
    of: GroupId,
) -> Result<FounderRole, Error> {
    let tag = open.group_tag(of.as_bytes());
    if group_rows::get(open, tag)?.is_none() {
        return Ok(FounderRole::Unknown);
    }
    let other = group_rows::roster(open, tag)?;
    let (user, account) = roster.founder();
    let mut members = other.members().iter();
    let member = members.find(|one| *one.user == *user && one.account == account);
    let was_in = |id: &MemberId| other.was_given_for(*id) == Some((user, account));
    Ok(match member.map(|member| member.role) {
        Some(GroupRole::Admin) => FounderRole::Admin,
        Some(GroupRole::Member) => FounderRole::Member,
        None if other.ids_of(user).iter().any(was_in) => FounderRole::Former,
        None => FounderRole::Stranger,
    })
}

/// Makes room for an invitation. Groups that this account is out of are forgotten for it.
fn make_room(open: &mut Open<'_>) -> Result<bool, Error> {
    let all = group_rows::all(open)?;
    let of = |standing| move |one: &&(Tag, GroupRow)| one.1.standing == standing;
    let out: Vec<&(Tag, GroupRow)> = all.iter().filter(of(GroupStanding::Out)).collect();
    if let Some((tag, _)) = out.first().filter(|_| out.len() >= MOST_OUT) {
        group_members::forget(open, *tag)?;
    }
    Ok(all.iter().filter(of(GroupStanding::Invited)).count() < MOST_INVITATIONS)
}

/// Whether there is room for changes of a group that this account has not joined. Strangers, whom
/// this device never wrote to and nobody verified, share some: anybody makes up users, and
/// histories of 17 MB. The number of invitations bounds short histories, which take nothing of it,
/// so that nobody shuts out those who invite to ordinary groups.
fn has_room(
    open: &mut Open<'_>,
    from: &From<'_>,
    roster: &Roster,
    new: &[ChangeId],
) -> Result<bool, Error> {
    let is_known = open.is_own(&from.user.name)
        || from.user.trust() == Trust::Verified
        || log::has_written(open, from.place.tag)?;
    if is_known || group_serve::is_small(roster) {
        return Ok(true);
    }
    let new = new.iter().filter_map(|id| roster.get(id));
    let units = allowances::units(new.map(|change| change.encode().len()).sum());
    allowances::take(open, &STRANGE_GROUPS, Party::Anyone, units, from.now)
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
    let is_suspended = |roster: &Roster| {
        roster.members().iter().any(|member| *member.user == **own && member.suspended)
    };
    // It gives no chain from now on, by which others would learn of what suspends it.
    row.tell |= is_suspended(after) && !is_suspended(before);
    if is.is_empty() && row.standing != GroupStanding::Out {
        let group = row.id;
        group_members::leave(open, open.group_tag(group.as_bytes()), row)?;
        inbox::tell(open, Event::GroupLeft { group }, from.now, rng)?;
    } else if row.standing == GroupStanding::Out && is.iter().any(|id| !was.contains(id)) {
        row.standing = GroupStanding::Invited;
        let (group, by) = (row.id, from.address.clone());
        inbox::tell(open, Event::GroupInvited { group, by }, from.now, rng)?;
    }
    Ok(())
}

/// Another device of this account has joined: nothing of a group comes from one that has not.
pub(super) fn join_with(
    open: &mut Open<'_>,
    from: &From<'_>,
    (tag, row): (Tag, &mut GroupRow),
    rng: &mut dyn CryptoRng,
) -> Result<(), Error> {
    if row.standing != GroupStanding::Invited || !open.is_own(&from.user.name) {
        return Ok(());
    }
    row.standing = GroupStanding::Joined;
    group_rows::put(open, tag, row)?;
    inbox::tell(open, Event::GroupJoined { group: row.id }, from.now, rng)
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
    let group = after.group();
    for (by, what) in group_events::differences(before, after, accepted).into_iter().take(MOST) {
        inbox::tell(open, Event::GroupChanged { group, by, what }, now, rng)?;
    }
    // Only an admin can do it after all.
    let own = after.ids_in(&open.account.user).into_iter();
    let mut roles = own.filter_map(|id| after.member(id)).map(|member| member.role);
    if roles.any(|role| role == GroupRole::Admin) {
        for by in group_events::newly_voided(before, after).into_iter().take(MOST) {
            inbox::tell(open, Event::GroupVoided { group, by }, now, rng)?;
        }
    }
    // A state that its author saw otherwise says that one of the two devices judges wrongly.
    if accepted.iter().rev().take(16).any(|id| after.disagrees(id)) {
        inbox::tell(open, Event::GroupSplit { group }, now, rng)?;
    }
    Ok(())
}

/// Asks the sender for what is built on these changes: for all of the group, where there are none.
pub(super) fn ask(
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
    let heads = group_serve::bytes_of(known);
    let body = GroupBody::Ask { group, heads: &heads };
    group_serve::post(open, target, body, None, from.now, rng)?;
    open.put_record(target.place, &target.record)
}

pub(super) fn change_ids(heads: &[[u8; 32]]) -> Vec<ChangeId> {
    heads.iter().copied().map(ChangeId::from).collect()
}

#[cfg(test)]
mod tests {
    use alloc::format;
    use alloc::sync::Arc;
    use alloc::vec;

    use super::*;
    use crate::client::Client;
    use crate::identity::IdentityKeyPair;
    use crate::store::Memory;
    use crate::testing::Replay;

    /// A device that tells changes.
    struct Teller {
        address: Address,
        identity: IdentityKey,
        user: Arc<UserRecord>,
        key: IdentityKeyPair,
    }

    impl Teller {
        fn new(name: &str, now: UnixTime, rng: &mut Replay) -> (Client<Memory>, Self) {
            let mut client = Client::create(Memory::new(), name, now, rng).unwrap();
            let (address, identity) = (client.address().clone(), client.identity_key());
            let own = client.run(|open| Ok((open.own()?.user.clone(), open.account_key()?)));
            let (user, key) = own.unwrap();
            // As others know it: nobody has compared anything.
            let user = Arc::new(UserRecord::new(&user.name, user.list.clone()));
            (client, Self { address, identity, user, key })
        }

        fn is_in(&self) -> Op {
            let (user, account) = (self.user.name.as_str().into(), self.user.list.account());
            Op::Add { user, account, role: GroupRole::Member }
        }

        fn at(&self, open: &Open<'_>, now: UnixTime) -> From<'_> {
            let Self { address, identity, user, .. } = self;
            let place = open.place(open.tag(&user.name).unwrap(), identity);
            let (resent, number) = (None, 0);
            From { address, place, identity: *identity, user, resent, number, now }
        }
    }

    #[test]
    fn members_who_conspire_do_not_keep_a_device_from_what_others_change() {
        let (now, rng) = (UnixTime::from_secs(1_800_000_000).unwrap(), &mut Replay::counting());
        let number = MOST_PASSES + 1;
        let [(_, ada), (mut bea, beas)] = ["ada", "bea"].map(|name| Teller::new(name, now, rng));
        let admin = |at: usize| Op::Add {
            user: format!("eve {at}").into(),
            account: ada.user.list.account(),
            role: GroupRole::Admin,
        };
        let ops: Vec<Op> = (0..number).map(admin).chain([beas.is_in()]).collect();
        let roster = Roster::found("ada", &ops, &ada.key, rng).unwrap();
        let title = |on: &Roster, by: usize, title: usize| {
            let by = roster.members()[by].id;
            on.sign(by, &[Op::Settings(title.to_be_bytes().into())], &ada.key).unwrap()
        };
        // More than a device takes of one member at once. The last change hides one head too many.
        let (mut told, mut base) = (Vec::new(), roster.clone());
        for at in 0..256 {
            told.push(title(&base, 0, at));
            base = base.with(told.last().unwrap().clone());
        }
        let mut hidden = roster.clone();
        for by in 1..=number {
            told.push(title(&hidden, by, 0));
            told.extend((1..=MOST_HEADS).map(|at| title(&roster, by, at)));
            hidden = roster.with(told.last().unwrap().clone());
        }
        base = base.with(told.last().unwrap().clone());
        told.push(title(&base, 0, 1_000));
        let (mut invitation, mut content) = (Vec::new(), Vec::new());
        group_serve::append(&mut invitation, roster.changes());
        group_serve::append(&mut content, &told);
        let last = told.last().unwrap().id();
        let conspire: Vec<_> = roster.members()[1..=number].iter().map(|one| one.id).collect();
        for day in 0..2 {
            let known = bea.run(|open| {
                let from = ada.at(open, now.after(day * SET_ASIDE / 7));
                take_changes(open, &from, roster.group(), &invitation, None, rng)?;
                take_changes(open, &from, roster.group(), &content, None, rng)?;
                let tag = open.group_tag(roster.group().as_bytes());
                group_rows::roster(open, tag)
            });
            let known = known.unwrap();
            // The first day, a device that looked without end would set aside all of theirs.
            assert!(known.changes().any(|change| conspire.contains(&change.author())));
            assert!(conspire.iter().all(|id| known.heads_of(*id) <= MOST_HEADS));
            assert_eq!(known.contains(&last), day == 1);
        }
    }

    #[test]
    fn who_tells_changes_without_end_is_not_listened_to_for_a_while() {
        let (now, rng) = (UnixTime::from_secs(1_800_000_000).unwrap(), &mut Replay::counting());
        let [(_, ada), (mut bea, beas)] = ["ada", "bea"].map(|name| Teller::new(name, now, rng));
        let roster = Roster::found("ada", &[beas.is_in()], &ada.key, rng).unwrap();
        let (group, mut invitation) = (roster.group(), Vec::new());
        group_serve::append(&mut invitation, roster.changes());
        let noise = vec![0; group_serve::MOST_CHANGES];
        bea.run(|open| {
            // What is left goes in pieces that become smaller.
            for size in (0..=20).map(|halved| noise.len() >> halved) {
                for _ in 0..33 {
                    let from = ada.at(open, now);
                    take_changes(open, &from, group, &noise[..size], None, rng)?;
                }
            }
            let tag = open.group_tag(group.as_bytes());
            let [from, later] = [now, now.after(60 * 60)].map(|time| ada.at(open, time));
            take_changes(open, &from, group, &invitation, None, rng)?;
            assert!(group_rows::get(open, tag)?.is_none());
            take_changes(open, &later, group, &invitation, None, rng)?;
            assert!(group_rows::get(open, tag)?.is_some());
            Ok(())
        })
        .unwrap();
    }

    #[test]
    fn who_is_added_to_a_group_with_a_history_of_two_contents_is_in() {
        let (now, rng) = (UnixTime::from_secs(1_800_000_000).unwrap(), &mut Replay::counting());
        let [(_, ada), (mut bea, beas)] = ["ada", "bea"].map(|name| Teller::new(name, now, rng));
        let mut roster = Roster::found("ada", &[], &ada.key, rng).unwrap();
        let by = roster.members()[0].id;
        let settings = |at: u16| Op::Settings([&at.to_be_bytes()[..], &[7; 4_094]].concat());
        for op in (0..260).map(settings).chain([beas.is_in()]) {
            let change = roster.sign(by, &[op], &ada.key).unwrap();
            roster.merge([change]);
        }
        let mut contents = Vec::from([Vec::new()]);
        for change in roster.changes() {
            let longer = contents.last().unwrap().len() + change.encode().len() + 4;
            if longer > group_serve::MOST_CHANGES {
                contents.push(Vec::new());
            }
            group_serve::append(contents.last_mut().unwrap(), [change]);
        }
        assert_eq!(contents.len(), 2);
        bea.run(|open| {
            let from = ada.at(open, now);
            for content in &contents {
                take_changes(open, &from, roster.group(), content, None, rng)?;
            }
            let tag = open.group_tag(roster.group().as_bytes());
            assert!(!group_parts::any(open, from.place.tag, tag)?);
            Ok(())
        })
        .unwrap();
        assert_eq!(bea.group(roster.group()).unwrap().members.len(), 2);
    }

    #[test]
    fn strangers_who_invite_to_groups_with_long_histories_share_some_room() {
        let (now, rng) = (UnixTime::from_secs(1_800_000_000).unwrap(), &mut Replay::counting());
        let (mut bea, beas) = Teller::new("bea", now, rng);
        let strangers = ["ada", "cyd", "dot", "eve"].map(|name| Teller::new(name, now, rng).1);
        let (mut told, mut one) = (0, 0);
        for at in 0..100 {
            let by = &strangers[at / 25];
            let mut roster = Roster::found(&by.user.name, &[beas.is_in()], &by.key, rng).unwrap();
            let id = roster.members()[0].id;
            for at in 0..180_u16 {
                let settings = [&at.to_be_bytes()[..], &[7; 4_094]].concat();
                let change = roster.sign(id, &[Op::Settings(settings)], &by.key).unwrap();
                roster = roster.with(change);
            }
            let mut content = Vec::new();
            group_serve::append(&mut content, roster.changes());
            one = content.len();
            told += one;
            bea.run(|open| {
                let from = by.at(open, now);
                take_changes(open, &from, roster.group(), &content, None, rng)
            })
            .unwrap();
        }
        let kept = bea.groups().unwrap().len() * one;
        assert!(told > 70 << 20 && (60 << 20..65 << 20).contains(&kept), "{kept} of {told}");
    }

    #[test]
    fn who_fills_the_room_for_long_histories_shuts_nobody_out_who_has_a_short_one() {
        let (now, rng) = (UnixTime::from_secs(1_800_000_000).unwrap(), &mut Replay::counting());
        let (mut bea, beas) = Teller::new("bea", now, rng);
        let [eve, cyd] = ["eve", "cyd"].map(|name| Teller::new(name, now, rng).1);
        let mut invite = |by: &Teller, rng: &mut Replay| {
            let roster = Roster::found(&by.user.name, &[beas.is_in()], &by.key, rng).unwrap();
            let (group, mut content) = (roster.group(), Vec::new());
            group_serve::append(&mut content, roster.changes());
            bea.run(|open| {
                let from = by.at(open, now);
                // Whatever Eve told before.
                while by.user.name == "eve"
                    && allowances::take(open, &STRANGE_GROUPS, Party::Anyone, 1, now)?
                {
                }
                take_changes(open, &from, group, &content, None, rng)?;
                let tag = open.group_tag(group.as_bytes());
                Ok(group_rows::get(open, tag)?.is_some())
            })
            .unwrap()
        };
        assert!(invite(&cyd, rng));
        invite(&eve, rng);
        assert!(invite(&cyd, rng));
    }

    #[test]
    fn what_makes_an_invitation_longer_afterwards_takes_of_the_same_room() {
        let (now, rng) = (UnixTime::from_secs(1_800_000_000).unwrap(), &mut Replay::counting());
        let (mut bea, beas) = Teller::new("bea", now, rng);
        let (_, eve) = Teller::new("eve", now, rng);
        let mut roster = Roster::found("eve", &[beas.is_in()], &eve.key, rng).unwrap();
        let (group, by) = (roster.group(), roster.members()[0].id);
        let mut contents = Vec::new();
        for at in 0..60_u16 {
            let mut content = Vec::new();
            group_serve::append(&mut content, roster.changes());
            contents.push(content);
            let settings = Op::Settings([&at.to_be_bytes()[..], &[7; 4_094]].concat());
            let change = roster.sign(by, &[settings], &eve.key).unwrap();
            roster = roster.with(change);
        }
        bea.run(|open| {
            while allowances::take(open, &STRANGE_GROUPS, Party::Anyone, 1, now)? {}
            let from = eve.at(open, now);
            for content in &contents {
                take_changes(open, &from, group, content, None, rng)?;
            }
            let kept = group_rows::roster(open, open.group_tag(group.as_bytes()))?;
            assert!((8..17).contains(&kept.changes().count()), "{}", kept.changes().count());
            Ok(())
        })
        .unwrap();
    }

    #[test]
    fn a_device_that_is_new_hears_of_all_groups_of_its_account_at_once() {
        let (now, rng) = (UnixTime::from_secs(1_800_000_000).unwrap(), &mut Replay::counting());
        let (mut client, own) = Teller::new("ada", now, rng);
        let identity = IdentityKeyPair::generate(rng).public_key();
        let other = Teller { address: Address::new("ada", 2), identity, ..own };
        client
            .run(|open| {
                let from = other.at(open, now);
                for _ in 0..100 {
                    let roster = Roster::found("ada", &[], &other.key, rng)?;
                    let mut told = Vec::new();
                    group_serve::append(&mut told, roster.changes());
                    take_changes(open, &from, roster.group(), &told, None, rng)?;
                }
                Ok(())
            })
            .unwrap();
        assert_eq!(client.groups().unwrap().len(), 100);
    }

    #[test]
    fn changes_with_something_behind_them_are_none() {
        let key = IdentityKeyPair::generate(&mut Replay::counting());
        let roster = Roster::found("alice", &[], &key, &mut Replay::counting()).unwrap();
        let mut content = Vec::new();
        group_serve::append(&mut content, roster.changes());
        assert_eq!(read_changes(&content).map(|changes| changes.len()), Some(1));
        for more in 1..=4 {
            let longer = [&content[..], &vec![0; more]].concat();
            assert!(read_changes(&longer).is_none(), "{more} bytes more");
        }
        assert!(read_changes(&content[..content.len() - 1]).is_none());
        assert!(read_changes(&[]).is_none());
    }
}
