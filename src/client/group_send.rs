//! Out, to groups: who is given the chain of this device, changes that are told, texts.
//!
//! A device is given the chain before the next text, in a message of the session with it. A text is
//! encrypted once for all devices that hold the chain. A device that cannot be reached yet holds
//! nobody up: it is owed the text, and gets it apart once there is a session with it.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::mem;

use rand_core::CryptoRng;
use zeroize::Zeroizing;

use super::allowances::{self, ANSWERS, Party};
use super::devices;
use super::group_rows::{self, GiverRow, GroupRow, GroupStanding, PeerRow};
use super::group_texts::{self, OutRow, PendingRow, ReceiverRow, TextAt};
use super::log::{self, Pointer, TextRow};
use super::outbox::{self, Letter};
use super::outgoing::Outgoing;
use super::tickets;
use super::timers;
use super::transaction::{Open, Place, RowName, Tag};
use super::wants::{self, Want};
use crate::address::Address;
use crate::content::attachment::{self, Files};
use crate::content::{Body, Content, GroupBody, MessageId, SealedFields, Written};
use crate::devices::ListedDevice;
use crate::error::Error;
use crate::group::{Change, ChangeId, GroupMember, LabelKey, MemberId, Roster, Sender, SenderKey};
use crate::reference::{Class, Reference};
use crate::sesame::UserRecord;
use crate::time::UnixTime;

/// Seconds for which late mail of a device that is no member's any more is shown.
pub(super) const LATE: u64 = 24 * 60 * 60;

/// Seconds for which no chain is renewed again since somebody asks for an envelope.
const ASKED_AGAIN: u64 = 24 * 60 * 60;

/// Devices that are served in one transaction.
const MOST_SERVED: usize = 64;

/// Texts in one transaction.
const MOST_TEXTS: usize = 32;

/// Bytes of changes in one content.
pub(super) const MOST_CHANGES: usize = (1 << 20) - 8_192;

/// A device that was not told of the group before is told all of it with the chain, if that is no
/// more than this; it asks for a longer roster.
const SMALL_ROSTER: usize = 1 << 16;

/// A chain is renewed after this time, and after this many texts.
const CHAIN_AGE: u64 = 7 * 24 * 60 * 60;
const CHAIN_TEXTS: u32 = 1_000;
const CHAIN_TEXTS_SMALL: u32 = 100;
const SMALL_GROUP: usize = 32;

/// Device lists that are older than this are fetched before a chain is begun.
const LIST_AGE: u64 = 7 * 24 * 60 * 60;

/// A text waits this long, once, for changes that somebody knows of and that are not here.
pub(super) const HEADS_WAIT: u64 = 30;

/// Who was not written to for this time answers a chain, within a time that is drawn, so that the
/// keys of the session move on.
const SILENCE: u64 = 7 * 24 * 60 * 60;
const MOST_QUIET: u64 = 24 * 60 * 60;

/// A device of a member, who may have keys.
struct Target {
    tag: Tag,
    user: Arc<UserRecord>,
    listed: ListedDevice,
}

/// The devices of members that may have keys, by the keys of their rows.
type Targets = BTreeMap<[u8; 32], Target>;

/// The devices of members that may have keys, and the members whose devices are not
/// known: their lists are wanted, or a person has to accept a new account key. Of a member whose
/// account is not the one that is known for the name, there are none.
fn targets(
    open: &mut Open<'_>,
    roster: &Roster,
    now: UnixTime,
) -> Result<(Targets, Vec<MemberId>), Error> {
    let (mut targets, mut absent) = (BTreeMap::new(), Vec::new());
    let here = open.account.identity;
    for member in roster.members().iter().filter(|member| !member.suspended) {
        let tag = open.tag(&member.user)?;
        let Some(user) = open.user(tag)? else {
            wants::want(open, Want::Devices((*member.user).into()), now)?;
            absent.push(member.id);
            continue;
        };
        if user.list.account() != member.account {
            continue;
        }
        if user.waits() {
            absent.push(member.id);
            continue;
        }
        let user = Arc::new(user);
        let is_kept = |one: &&ListedDevice| one.identity != here && !user.is_doubted(&one.identity);
        for listed in user.list.devices().iter().filter(is_kept) {
            let place = open.place(tag, &listed.identity);
            let user = Arc::clone(&user);
            targets.insert(place.key(), Target { tag, user, listed: *listed });
        }
    }
    Ok((targets, absent))
}

/// The member that this account is.
pub(super) fn own_member(open: &mut Open<'_>, roster: &Roster) -> Result<Option<MemberId>, Error> {
    let own = open.own()?;
    let own = member_of(roster, &own.user).filter(|member| !member.suspended);
    Ok(own.map(|member| member.id))
}

/// The member that a user is, under the account key that is known here.
pub(super) fn member_of<'r>(roster: &'r Roster, user: &UserRecord) -> Option<&'r GroupMember> {
    roster
        .members()
        .iter()
        .find(|member| *member.user == *user.name && member.account == user.list.account())
}

/// Puts a text into the log of a group, and encrypts it as far as that can be done now.
pub(super) fn write(
    open: &mut Open<'_>,
    group: Tag,
    message: Outgoing<'_>,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<MessageId, Error> {
    let id = MessageId::random(rng);
    let text = Zeroizing::new(message.text.to_vec());
    let files = attachment::encode(message.files)?;
    let row = TextRow { id, to: String::new(), keep: message.keep, text, files };
    let key = log::add(open, group, &row, now)?;
    group_texts::begin(open, group, key, id)?;
    // Who is in by what is known now is to have it: all texts but this one were written before.
    go(open, group, 1, now, rng)?;
    Ok(id)
}

/// A device that something may be told to, as it is stored and as it is to be.
struct Peer {
    place: Place,
    row: PeerRow,
    stored: Option<PeerRow>,
}

/// Whom what is told of: a roster, and who is in by it.
struct Plan<'a> {
    group: Tag,
    roster: &'a Roster,
    targets: Targets,
    peers: Vec<Peer>,
    /// What this device encrypts with, once it wrote.
    key: Option<SenderKey>,
    /// Whether the whole roster is told with the chain.
    is_small: bool,
    /// Whether this account is in.
    is_in: bool,
    /// Whether texts are encrypted now.
    writes: bool,
    /// The number of the oldest text that waits. Who came later gets the chain after it.
    oldest: Option<u64>,
}

/// Goes on with a group, as far as one transaction should: tells changes, gives the chain, encrypts
/// texts. What is left is noted.
pub(super) fn step(
    open: &mut Open<'_>,
    group: Tag,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<(), Error> {
    go(open, group, 0, now, rng)
}

/// `new`: how many of the texts that were written are for those who are in now.
fn go(
    open: &mut Open<'_>,
    group: Tag,
    new: u64,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<(), Error> {
    let Some(mut row) = group_rows::get(open, group)? else {
        return group_rows::step_done(open, group);
    };
    // Nothing is given, and nothing is answered, before somebody has joined.
    if row.standing == GroupStanding::Invited {
        return group_rows::step_done(open, group);
    }
    let roster = group_rows::roster(open, group)?;
    let (targets, absent) = targets(open, &roster, now)?;
    mark_gone(open, (group, &mut row), &targets, now)?;
    let member = own_member(open, &roster)?;
    let before = log::written(open, group)?.saturating_sub(new);
    let mut settling =
        Settling { group, row: &mut row, roster: &roster, targets: &targets, before };
    let peers = settling.peers(open, member, &absent)?;
    let is_in = row.standing == GroupStanding::Joined && member.is_some();
    let oldest = group_texts::pending(open, group, 1)?.first().map(|row| row.text.number());
    let has_texts = is_in && oldest.is_some();
    let (key, is_small) = (group_rows::key(open, group)?, is_small(&roster));
    let mut plan = Plan {
        group,
        roster: &roster,
        targets,
        peers,
        key,
        is_small,
        is_in,
        writes: false,
        oldest,
    };
    let is_held = has_texts && has_to_wait(open, &plan, &mut row, now)?;
    plan.writes = has_texts && !is_held;
    if plan.writes {
        renew(open, &mut plan, &mut row, now, rng)?;
    }
    let mut is_left = serve_all(open, &mut plan, now, rng)?;
    if let Some(member) = member.filter(|_| plan.writes && !is_left) {
        is_left = seal_all(open, &mut plan, &mut row, member, now, rng)?;
    }
    group_rows::put(open, group, &row)?;
    for peer in plan.peers.iter().filter(|peer| peer.stored.as_ref() != Some(&peer.row)) {
        group_rows::put_peer(open, group, peer.place, &peer.row)?;
    }
    if is_left || is_held {
        group_rows::set_step(open, group)
    } else {
        group_rows::step_done(open, group)
    }
}

/// Whether texts are not encrypted yet: somebody knows of changes that are not here, or a new chain
/// is to begin and the lists of those who are to hold it are old.
fn has_to_wait(
    open: &mut Open<'_>,
    plan: &Plan<'_>,
    row: &mut GroupRow,
    now: UnixTime,
) -> Result<bool, Error> {
    if row.waits.is_some_and(|until| (1..=HEADS_WAIT).contains(&until.since(now))) {
        return Ok(true);
    }
    row.waits = None;
    if !plan.is_worn(row, now) {
        return Ok(false);
    }
    let mut waits = false;
    let own = open.account.user.clone();
    for member in plan.roster.members().iter().filter(|member| *member.user != *own) {
        let tag = open.tag(&member.user)?;
        let fetched = group_rows::fresh(open, tag)?;
        if fetched.is_none_or(|at| now.apart(at) > LIST_AGE) {
            let want = Want::Devices((*member.user).into());
            wants::want(open, want.clone(), now)?;
            // What cannot be had keeps nobody from writing.
            waits |= wants::is_untried(open, &want)?;
        }
    }
    Ok(waits)
}

/// What a device that is no member's gave is used for late mail alone, and then goes.
fn mark_gone(
    open: &mut Open<'_>,
    (group, row): (Tag, &mut GroupRow),
    targets: &Targets,
    now: UnixTime,
) -> Result<(), Error> {
    for (place, mut giver) in group_rows::givers(open, group)? {
        let is_in = targets.contains_key(&place.key());
        match giver.gone {
            Some(since) if !is_in && now.since(since) > LATE => {
                group_rows::delete_giver(open, (group, &mut *row), place, &giver)?;
            }
            None if !is_in => set_gone(open, group, place, &mut giver, now)?,
            Some(_) if is_in => {
                (giver.gone, giver.late) = (None, 0);
                group_rows::put_giver(open, group, place, &giver)?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// A device is no member's any more.
pub(super) fn set_gone(
    open: &mut Open<'_>,
    group: Tag,
    place: Place,
    giver: &mut GiverRow,
    now: UnixTime,
) -> Result<(), Error> {
    giver.gone = Some(now);
    timers::set_giver(open, now.after(LATE.saturating_add(1)), group, place)?;
    group_rows::put_giver(open, group, place, giver)
}

/// The store was restored from a copy: every chain is renewed, and what waits is encrypted anew.
pub(super) fn restored(open: &mut Open<'_>) -> Result<(), Error> {
    for (group, mut row) in group_rows::all(open)? {
        row.renew = true;
        group_rows::put(open, group, &row)?;
        if row.standing == GroupStanding::Joined {
            group_texts::again(open, group)?;
        }
        group_rows::set_step(open, group)?;
    }
    Ok(())
}

/// This account is out of a group: what it encrypted with goes, and what others gave it. The caller
/// writes the group's row.
pub(super) fn leave(open: &mut Open<'_>, group: Tag, row: &mut GroupRow) -> Result<(), Error> {
    row.standing = GroupStanding::Out;
    group_rows::delete_key(open, group)?;
    for (place, giver) in group_rows::givers(open, group)? {
        group_rows::delete_giver(open, (group, &mut *row), place, &giver)?;
    }
    group_texts::drop_pending(open, group)
}

/// Forgets a group that this account is out of.
pub(super) fn forget(open: &mut Open<'_>, group: Tag) -> Result<(), Error> {
    group_texts::forget(open, group)?;
    log::forget(open, group)?;
    group_rows::forget(open, group)
}

/// Deletes what is kept of a device longer than it may be.
pub(super) fn expire(open: &mut Open<'_>, subject: &[u8], now: UnixTime) -> Result<(), Error> {
    let Some((group, place)) = timers::of_group(subject) else { return Ok(()) };
    let Some(mut row) = group_rows::get(open, group)? else { return Ok(()) };
    let Some(mut giver) = group_rows::giver(open, group, place)? else { return Ok(()) };
    if giver.gone.is_some_and(|since| now.since(since) > LATE) {
        group_rows::delete_giver(open, (group, &mut row), place, &giver)?;
    } else {
        let mut record = giver.record()?;
        let before = group_rows::labels(&record);
        record.expire(now);
        group_rows::put_record(open, (group, &mut row), place, &mut giver, &record)?;
        group_rows::put_labels(open, group, place, &record, &before)?;
    }
    group_rows::put(open, group, &row)
}

/// Brings what is known of devices up to date with a roster.
struct Settling<'a> {
    group: Tag,
    row: &'a mut GroupRow,
    roster: &'a Roster,
    targets: &'a Targets,
    /// The number of the last text that is not for a device that is new now.
    before: u64,
}

impl Settling<'_> {
    /// The devices: those that are no member's any more go once they are told so, and the chain is
    /// renewed if one of them holds it.
    fn peers(
        &mut self,
        open: &mut Open<'_>,
        own: Option<MemberId>,
        absent: &[MemberId],
    ) -> Result<Vec<Peer>, Error> {
        let Self { group, targets, roster, before, .. } = *self;
        let is_out = self.row.standing == GroupStanding::Out;
        let (mut peers, mut known, mut is_lost) = (Vec::new(), BTreeSet::new(), false);
        for (place, mut peer) in group_rows::peers(open, group)? {
            let stored = Some(peer.clone());
            peer.owed_changes |= self.row.tell;
            match (targets.contains_key(&place.key()) && !is_out, peer.is_out) {
                (true, false) => {}
                (true, true) => {
                    (peer.is_out, peer.due, peer.since) = (false, true, before);
                }
                (false, _) => {
                    is_lost |= mem::take(&mut peer.holds);
                    (peer.is_out, peer.due) = (true, false);
                    group_texts::owe_nothing(open, group, place, &mut peer)?;
                    if !peer.owed_changes {
                        group_rows::delete_peer(open, group, place)?;
                        continue;
                    }
                }
            }
            known.insert(place.key());
            peers.push(Peer { place, row: peer, stored });
        }
        if is_lost && !is_out {
            // What is encrypted under a chain that it holds does not leave any more.
            self.row.renew = true;
            group_texts::again(open, group)?;
        }
        let made = |member: MemberId| roster.changes().any(|change| change.author() == member);
        let tells = self.row.tell || own.is_some_and(made);
        let new = targets.iter().filter(|(key, _)| !is_out && !known.contains(*key));
        for target in new.map(|(_, new)| new) {
            let (place, row) = self.add(open, target, tells)?;
            peers.push(Peer { place, row, stored: None });
        }
        self.row.tell = false;
        let known = mem::take(&mut self.row.absent);
        self.row.absent = absent
            .iter()
            .map(|id| known.iter().find(|known| known.0 == *id).copied().unwrap_or((*id, before)))
            .collect();
        Ok(peers)
    }

    /// A device that is a member's now. It is owed what was written while its user's devices were
    /// not known.
    fn add(
        &self,
        open: &mut Open<'_>,
        target: &Target,
        tells: bool,
    ) -> Result<(Place, PeerRow), Error> {
        let place = open.place(target.tag, &target.listed.identity);
        let member = self.roster.members().iter().find(|one| *one.user == *target.user.name);
        let absent = self.row.absent.iter().find(|(id, _)| member.is_some_and(|one| one.id == *id));
        let since = absent.map_or(self.before, |(_, since)| *since);
        let mut peer = PeerRow {
            address: Address::new(&target.user.name, target.listed.device),
            identity: target.listed.identity,
            tag: target.tag,
            holds: false,
            due: true,
            owed_changes: tells || open.is_own(&target.user.name),
            told: Vec::new(),
            owed: 0,
            since,
            is_out: false,
            list: 0,
            waited: None,
            wrote: None,
        };
        if absent.is_some() {
            for text in group_texts::since(open, self.group, since)? {
                group_texts::owe(open, place, &mut peer, text)?;
            }
        }
        Ok((place, peer))
    }
}

/// **The one place that picks the chain.** A new one begins where somebody holds this one who may not
/// have the next text, where it is worn, and where the app asks for it.
fn renew(
    open: &mut Open<'_>,
    plan: &mut Plan<'_>,
    row: &mut GroupRow,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<(), Error> {
    if !plan.is_worn(row, now) {
        return Ok(());
    }
    let id = plan.roster.group();
    let label = LabelKey::random(rng);
    let key = match &plan.key {
        Some(before) => before.renewed(id.as_bytes(), label, now, rng),
        None => SenderKey::new(id.as_bytes(), label, now, rng),
    };
    group_rows::put_key(open, plan.group, &key)?;
    plan.key = Some(key);
    row.renew = false;
    for Peer { place, row: peer, .. } in &mut plan.peers {
        peer.holds = false;
        peer.due = plan.targets.contains_key(&place.key());
    }
    Ok(())
}

/// Serves the devices that something is to be given to. Says whether some are left that can be
/// served at once.
fn serve_all(
    open: &mut Open<'_>,
    plan: &mut Plan<'_>,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<bool, Error> {
    let mut served = 0_usize;
    let own = open.own()?.stamp.version;
    let mut peers = mem::take(&mut plan.peers);
    for Peer { place, row: peer, .. } in &mut peers {
        let is_told = peer.list >= own || peer.is_out || !plan.is_in;
        let needs = peer.owed_changes || peer.owed > 0 || plan.gives(peer) || !is_told;
        if !needs {
            continue;
        }
        if served >= MOST_SERVED {
            plan.peers = peers;
            return Ok(true);
        }
        served = served.saturating_add(usize::from(serve(open, plan, *place, peer, now, rng)?));
    }
    plan.peers = peers;
    Ok(false)
}

impl Plan<'_> {
    /// Whether a new chain begins with the next text.
    fn is_worn(&self, row: &GroupRow, now: UnixTime) -> bool {
        let is_small = self.targets.len() <= SMALL_GROUP;
        let most = if is_small { CHAIN_TEXTS_SMALL } else { CHAIN_TEXTS };
        row.renew || self.key.as_ref().is_none_or(|key| key.is_worn(most, CHAIN_AGE, now))
    }

    /// Whether a device gets the chain now. One that came after a text that still waits does not
    /// get what opens it.
    fn gives(&self, peer: &PeerRow) -> bool {
        let is_after = self.oldest.is_some_and(|oldest| oldest <= peer.since);
        peer.due && !is_after && (self.writes || peer.owed > 0 && self.is_in)
    }
}

/// Gives a device what is due. False where there is no session with it: then a bundle is wanted.
fn serve(
    open: &mut Open<'_>,
    plan: &Plan<'_>,
    place: Place,
    peer: &mut PeerRow,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<bool, Error> {
    let user = open.user(peer.tag)?.filter(|user| !user.waits());
    let listed = user.as_ref().and_then(|user| user.list.get(peer.address.device));
    let listed = listed.copied().filter(|listed| listed.identity == peer.identity);
    let (Some(user), Some(listed)) = (user, listed) else {
        // Nobody is left to tell.
        peer.owed_changes = false;
        return Ok(false);
    };
    let version = open.own()?.stamp.version;
    let is_target = plan.targets.contains_key(&place.key());
    let gives = is_target && plan.gives(peer) && !tickets::seals(open, peer.tag)?;
    let asks_for_session = peer.owed_changes || gives || peer.owed > 0;
    let Some(mut target) = outbox::target(open, peer.tag, &user, &listed, now)? else {
        // Whoever has no session with this device learns of its list with the first message.
        peer.list = version;
        if asks_for_session {
            wants::want(open, Want::Bundle(peer.address.clone()), now)?;
        }
        return Ok(false);
    };
    let is_new = gives && peer.told.is_empty() && plan.is_small;
    if peer.owed_changes || is_new {
        tell_changes(open, plan.roster, &mut target, peer, now, rng)?;
    }
    if gives {
        give_chain(open, plan, &mut target, peer, now, rng)?;
    }
    if is_target && peer.owed > 0 {
        pay(open, plan, &mut target, peer, now, rng)?;
    }
    if mem::replace(&mut peer.list, version) < version && !asks_for_session {
        devices::post_list(open, &mut target, None, now, rng)?;
    }
    peer.wrote = Some(now);
    open.put_record(target.place, &target.record)?;
    Ok(true)
}

/// Whether the whole of a roster is told with the chain.
fn is_small(roster: &Roster) -> bool {
    let size = roster.changes().map(|change| change.encode().len()).sum::<usize>();
    size <= SMALL_ROSTER
}

fn tell_changes(
    open: &mut Open<'_>,
    roster: &Roster,
    target: &mut outbox::Target,
    peer: &mut PeerRow,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<(), Error> {
    let mut contents: Vec<Vec<u8>> = Vec::from([Vec::new()]);
    for change in roster.changes_since(&peer.told) {
        let bytes = change.encode();
        let is_full = |content: &Vec<u8>| {
            !content.is_empty() && content.len().saturating_add(bytes.len()) > MOST_CHANGES
        };
        if contents.last().is_some_and(is_full) {
            contents.push(Vec::new());
        }
        if let Some(content) = contents.last_mut() {
            append(content, [change]);
        }
    }
    for content in contents.iter().filter(|content| !content.is_empty()) {
        let units = u64::try_from(content.len() / 256).unwrap_or(u64::MAX).saturating_add(1);
        if !allowances::take(open, &ANSWERS, Party::Contact(peer.tag), units, now)? {
            return Ok(());
        }
        let body = GroupBody::Changes { group: roster.group(), changes: content };
        post(open, target, body, None, now, rng)?;
    }
    peer.owed_changes = false;
    peer.told = told(roster);
    Ok(())
}

/// Puts changes behind others, each behind its length.
pub(super) fn append<'c>(content: &mut Vec<u8>, changes: impl IntoIterator<Item = &'c Change>) {
    for change in changes {
        let bytes = change.encode();
        content.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(0).to_be_bytes());
        content.extend_from_slice(bytes);
    }
}

/// The heads, as far as a distribution names them.
pub(super) fn told(roster: &Roster) -> Vec<ChangeId> {
    let mut heads = roster.heads();
    heads.truncate(16);
    heads
}

/// Ids as contents and distributions have them.
pub(super) fn bytes_of(ids: &[ChangeId]) -> Vec<[u8; 32]> {
    ids.iter().map(|id| *id.as_bytes()).collect()
}

fn give_chain(
    open: &mut Open<'_>,
    plan: &Plan<'_>,
    target: &mut outbox::Target,
    peer: &mut PeerRow,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<(), Error> {
    let Some(key) = &plan.key else { return Ok(()) };
    let heads = bytes_of(&told(plan.roster));
    let list = target.known.digest;
    let given = match key.distribution(plan.roster.group().as_bytes(), &list, &heads) {
        Ok(given) => given,
        // It is renewed with the next text.
        Err(Error::Exhausted) => return Ok(()),
        Err(error) => return Err(error),
    };
    post(open, target, GroupBody::Chain(&given), None, now, rng)?;
    (peer.holds, peer.due) = (true, false);
    Ok(())
}

/// Sends texts apart to a device that their envelope did not reach.
fn pay(
    open: &mut Open<'_>,
    plan: &Plan<'_>,
    target: &mut outbox::Target,
    peer: &mut PeerRow,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<(), Error> {
    for owed in group_texts::owed(open, plan.group, target.place, MOST_TEXTS)? {
        let mut envelope = None;
        if let Some(text) = log::text(open, &owed.text)? {
            let units = u64::try_from(text.length() / 256).unwrap_or(u64::MAX);
            let units = units.saturating_add(1);
            if !allowances::take(open, &ANSWERS, Party::Contact(peer.tag), units, now)? {
                return group_rows::set_step(open, plan.group);
            }
            let (group, id) = (plan.roster.group(), text.id.as_bytes());
            let body = GroupBody::Text { group, id, text: &text.text, files: &text.files };
            let body = Body::Group(body);
            let message = owed.reference.is_none().then_some(owed.id);
            let letter = Letter { body, class: Class::Text, resent: owed.reference, message };
            let (name, number) = outbox::post(open, target, &letter, now, rng)?;
            envelope = Some(name);
            let pointer = Pointer::new(owed.text, now);
            log::point(open, target.place, &mut target.record, (number, pointer))?;
        }
        group_texts::paid(open, target.place, peer, &owed, envelope)?;
    }
    Ok(())
}

/// Sends a content about a group. The caller writes the record.
pub(super) fn post(
    open: &mut Open<'_>,
    target: &mut outbox::Target,
    body: GroupBody<'_>,
    resent: Option<Reference>,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<(), Error> {
    let letter = Letter { body: Body::Group(body), class: Class::Other, resent, message: None };
    outbox::post(open, target, &letter, now, rng).map(drop)
}

/// Encrypts the texts that wait. Says whether some are left.
fn seal_all(
    open: &mut Open<'_>,
    plan: &mut Plan<'_>,
    row: &mut GroupRow,
    member: MemberId,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<bool, Error> {
    let Some(mut key) = plan.key.take() else { return Ok(true) };
    let own = open.own()?;
    let waiting = group_texts::pending(open, plan.group, MOST_TEXTS)?;
    let is_full = waiting.len() >= MOST_TEXTS;
    for waits in waiting {
        let Some(text) = log::text(open, &waits.text)? else {
            group_texts::sealed(open, plan.group, &waits, None)?;
            continue;
        };
        let id = waits.id;
        let content = Content {
            list: own.stamp,
            known: None,
            rank: None,
            asks: false,
            resent: None,
            devices: None,
            sealed: SealedFields::default(),
            body: Body::Text(Written { id, text: &text.text, files: Files::of(&text.files) }),
        };
        let content = Zeroizing::new(content.encode());
        let address = open.account.address();
        let identity = open.account.identity;
        let group = plan.roster.group();
        let sender = Sender {
            group: group.as_bytes(),
            member: member.as_bytes(),
            identity: &identity,
            address: &address,
        };
        let sealed = match key.seal(&sender, &content, rng) {
            Ok(sealed) => sealed,
            Err(Error::Exhausted) => {
                row.renew = true;
                group_rows::put_key(open, plan.group, &key)?;
                return Ok(true);
            }
            Err(error) => return Err(error),
        };
        let out = release(open, plan, &waits, &sealed.envelope, now, rng)?;
        group_texts::sealed(open, plan.group, &waits, out)?;
        let at = TextAt { group: plan.group, id, text: waits.text, reference: None };
        let is_over = u64::from(row.referenced) >= open.policy.log_messages.max(1);
        group_texts::refer(open, at, &sealed.reference, is_over)?;
        row.referenced = row.referenced.saturating_add(u32::from(!is_over));
    }
    group_rows::put_key(open, plan.group, &key)?;
    Ok(is_full || plan.peers.iter().any(|peer| peer.row.owed > 0))
}

/// Puts an envelope out for the devices that hold the chain. The others are owed the text.
fn release(
    open: &mut Open<'_>,
    plan: &mut Plan<'_>,
    waits: &PendingRow,
    envelope: &[u8],
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<Option<RowName>, Error> {
    let PendingRow { id, text, only } = waits;
    let mut to = Vec::new();
    for Peer { place, row: peer, .. } in &mut plan.peers {
        let key = place.key();
        let was_in = match only {
            Some(only) => only.contains(&key),
            None => text.number() > peer.since,
        };
        if !was_in || peer.is_out || !plan.targets.contains_key(&key) {
            continue;
        }
        // One envelope for many says who wrote it; sealed mail goes to each device apart.
        if peer.holds && !peer.due && !tickets::seals(open, peer.tag)? {
            to.push(ReceiverRow::new(peer.address.clone(), key));
        } else {
            let at = TextAt { group: plan.group, id: *id, text: *text, reference: None };
            group_texts::owe(open, *place, peer, at)?;
        }
    }
    if to.is_empty() {
        return Ok(None);
    }
    let name = open.row_name(now, text.number(), rng);
    let row = OutRow { group: plan.group, message: *id, text: *text, to };
    group_texts::set_out(open, &name, &row, envelope)?;
    Ok(Some(name))
}

/// A device asks for an envelope: where it is one for a group, and the device was a member's when it
/// was written, it is owed the text.
///
/// Where the device holds the chain, the chain may be one that this store had gone on from before it
/// was restored from a copy: it is renewed, once a day.
pub(super) fn asked(
    open: &mut Open<'_>,
    place: Place,
    reference: Reference,
    now: UnixTime,
) -> Result<(), Error> {
    let Some(mut text) = group_texts::referred(open, reference)? else { return Ok(()) };
    let Some(mut peer) = group_rows::peer(open, text.group, place)? else { return Ok(()) };
    if text.text.number() > peer.since && !peer.is_out {
        let is_new = |at: UnixTime| now.apart(at) > ASKED_AGAIN;
        if let Some(mut row) = group_rows::get(open, text.group)?
            && peer.holds
            && row.asked.is_none_or(is_new)
        {
            (row.asked, row.renew) = (Some(now), true);
            group_rows::put(open, text.group, &row)?;
        }
        text.reference = Some(reference);
        peer.due = true;
        group_texts::owe(open, place, &mut peer, text)?;
        group_rows::put_peer(open, text.group, place, &peer)?;
        group_rows::set_step(open, text.group)?;
    }
    Ok(())
}

/// Gives up what a device is owed that no session can be begun with. Returns the texts.
pub(super) fn give_up(open: &mut Open<'_>, of: &Address) -> Result<Vec<MessageId>, Error> {
    let mut given_up = Vec::new();
    for (group, _) in group_rows::all(open)? {
        for (place, mut peer) in group_rows::peers(open, group)? {
            if peer.address != *of || peer.owed == 0 {
                continue;
            }
            let owed = group_texts::owed(open, group, place, usize::MAX)?;
            let texts = owed.iter().filter(|text| text.reference.is_none());
            given_up.extend(texts.map(|text| text.id));
            group_texts::owe_nothing(open, group, place, &mut peer)?;
            group_rows::put_peer(open, group, place, &peer)?;
        }
    }
    Ok(given_up)
}

/// A device gave its chain in a session that was not written in for a week: it is answered.
pub(super) fn answer_later(
    open: &mut Open<'_>,
    group: Tag,
    place: Place,
    peer: &mut PeerRow,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<(), Error> {
    if peer.wrote.is_some_and(|at| now.apart(at) < SILENCE) {
        return Ok(());
    }
    let at = now.after(timers::drawn(MOST_QUIET, rng));
    peer.wrote = Some(at);
    timers::set_answer(open, at, group, place)
}

/// Answers a device with nothing but this account's list.
pub(super) fn answer(
    open: &mut Open<'_>,
    subject: &[u8],
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<(), Error> {
    let Some((group, place)) = timers::of_group(subject) else { return Ok(()) };
    let Some(peer) = group_rows::peer(open, group, place)? else { return Ok(()) };
    let Some(user) = open.user(peer.tag)?.filter(|user| !user.waits()) else { return Ok(()) };
    let listed = user.list.get(peer.address.device).copied();
    let Some(listed) = listed.filter(|listed| listed.identity == peer.identity) else {
        return Ok(());
    };
    match outbox::target(open, peer.tag, &user, &listed, now)? {
        Some(mut target) => devices::post_list(open, &mut target, None, now, rng),
        None => Ok(()),
    }
}

/// Notes that there is something to give a device, now that there is a session with it. Many devices
/// of a group are served in one step.
pub(super) fn go_on(open: &mut Open<'_>, place: Place) -> Result<(), Error> {
    for (group, _) in group_rows::all(open)? {
        let peer = group_rows::peer(open, group, place)?;
        if peer.is_some_and(|peer| peer.owed_changes || peer.due || peer.owed > 0) {
            group_rows::set_step(open, group)?;
        }
    }
    Ok(())
}

/// Does what there is to do for groups, as far as one transaction should.
pub(super) fn go_on_all(
    open: &mut Open<'_>,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<(), Error> {
    const MOST_GROUPS: usize = 8;
    if group_rows::take_changed(open)? {
        for (group, _) in group_rows::all(open)? {
            group_rows::set_step(open, group)?;
        }
    }
    for group in group_rows::steps(open, MOST_GROUPS)? {
        step(open, group, now, rng)?;
    }
    Ok(())
}

/// An envelope for a group that can be sent to one of its receivers.
pub(super) struct Due {
    pub(super) name: RowName,
    pub(super) index: u32,
    pub(super) message: MessageId,
    pub(super) to: Address,
    pub(super) envelope: Vec<u8>,
}

/// What can be sent now of the envelopes for groups.
pub(super) fn due(
    open: &mut Open<'_>,
    now: UnixTime,
    until: UnixTime,
    most: usize,
) -> Result<Vec<Due>, Error> {
    let mut due = Vec::new();
    for (name, _) in group_texts::outs(open)? {
        if due.len() >= most {
            break;
        }
        let Some(mut row) = group_texts::out(open, &name)? else { continue };
        let Some(envelope) = group_texts::envelope(open, &name)? else { continue };
        let (before, mut is_sealed) = (due.len(), false);
        let at = TextAt { group: row.group, id: row.message, text: row.text, reference: None };
        for (index, receiver) in (0_u32..).zip(&mut row.to) {
            let tag = open.tag(&receiver.address.user)?;
            if !receiver.is_sent && tickets::seals(open, tag)? {
                // Since it was encrypted, somebody decided that it is not to leave openly.
                receiver.is_sent = true;
                is_sealed = true;
                owe_apart(open, receiver, at)?;
            } else if due.len() < most && receiver.is_due(now) {
                receiver.not_before = Some(until);
                let (message, to) = (row.message, receiver.address.clone());
                due.push(Due { name, index, message, to, envelope: envelope.clone() });
            }
        }
        if due.len() > before || is_sealed {
            group_texts::put_out(open, &name, &row)?;
        }
    }
    Ok(due)
}

/// A device gets a text apart that an envelope for many was to bring.
fn owe_apart(open: &mut Open<'_>, receiver: &ReceiverRow, text: TextAt) -> Result<(), Error> {
    let place = Place::read(&receiver.place);
    let Some(mut peer) = group_rows::peer(open, text.group, place)? else { return Ok(()) };
    group_texts::owe(open, place, &mut peer, text)?;
    group_rows::put_peer(open, text.group, place, &peer)?;
    group_rows::set_step(open, text.group)
}

/// A receiver has an envelope, or never will. Says whether that was the last of its text.
pub(super) fn sent(open: &mut Open<'_>, name: &RowName, index: u32) -> Result<bool, Error> {
    change_receiver(open, name, index, |receiver| receiver.is_sent = true)
}

/// The server does not know one of the receivers: there may be a newer device list.
pub(super) fn unknown(
    open: &mut Open<'_>,
    name: &RowName,
    index: u32,
    now: UnixTime,
) -> Result<(), Error> {
    let Some(row) = group_texts::out(open, name)? else { return Ok(()) };
    match row.to.get(usize::try_from(index).unwrap_or(usize::MAX)) {
        Some(receiver) => wants::want(open, Want::Devices(receiver.address.user.clone()), now),
        None => Ok(()),
    }
}

/// An envelope could not be sent to one of its receivers: it waits.
pub(super) fn failed(
    open: &mut Open<'_>,
    name: &RowName,
    index: u32,
    now: UnixTime,
) -> Result<(), Error> {
    change_receiver(open, name, index, |receiver| receiver.failed(now)).map(drop)
}

/// Changes how far one of the receivers is. True where that was the last of the text.
fn change_receiver(
    open: &mut Open<'_>,
    name: &RowName,
    index: u32,
    change: impl FnOnce(&mut ReceiverRow),
) -> Result<bool, Error> {
    let Some(mut row) = group_texts::out(open, name)? else { return Ok(false) };
    usize::try_from(index).ok().and_then(|index| row.to.get_mut(index)).map(change);
    group_texts::put_out(open, name, &row)
}
