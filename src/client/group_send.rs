//! Out, to groups: who is given the chain of this device, changes that are told, texts.
//!
//! A device is given the chain before the next text, in a message of the session with it. A text is
//! encrypted once for all devices that hold the chain. A device that cannot be reached yet holds
//! nobody up: it is owed the text, and gets it apart once there is a session with it.

use alloc::string::String;
use alloc::vec::Vec;
use core::mem;

use rand_core::CryptoRng;
use zeroize::Zeroizing;

use super::allowances::{self, ANSWERS, Party};
use super::devices;
use super::group_members::{self, Peer, Settling, Targets};
use super::group_outs::{self, OutRow, ReceiverRow};
use super::group_rows::{self, GroupRow, GroupStanding, PeerRow};
use super::group_texts::{self, PendingRow, TextAt};
use super::log::{self, Pointer, TextRow};
use super::outbox::{self, Letter};
use super::outgoing::Outgoing;
use super::send;
use super::tickets;
use super::timers;
use super::transaction::{Open, Place, RowName, Tag};
use super::wants::{self, Want};
use crate::address::Address;
use crate::content::attachment::{self, Files};
use crate::content::{Body, Content, GroupBody, MessageId, SealedFields, Written};
use crate::error::Error;
use crate::group::{Change, ChangeId, LabelKey, MemberId, Roster, Sender, SenderKey};
use crate::reference::{Class, Reference};
use crate::time::UnixTime;

/// Seconds for which no chain is renewed again since somebody asks for an envelope.
const ASKED_AGAIN: u64 = 24 * 60 * 60;

/// Groups that are gone on with in one call of the tasks.
pub(super) const MOST_GROUPS: usize = 8;

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

/// Who gives a chain is answered within a time that is drawn, so that the keys of the session move
/// on.
const MOST_QUIET: u64 = 24 * 60 * 60;

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
    let (targets, absent) = group_members::targets(open, &roster, now)?;
    group_members::mark_gone(open, (group, &mut row), &targets, now)?;
    let member = group_members::own_member(open, &roster)?;
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
        // Who is owed a text by now gets it in this step: nobody may ask for tasks again soon.
        plan.oldest = group_texts::pending(open, group, 1)?.first().map(|row| row.text.number());
        is_left |= serve_all(open, &mut plan, now, rng)?;
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

/// **The one place that picks the chain.** A new one begins where somebody holds this one who may
/// not have the next text, where it is worn, and where the app asks for it.
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
    // What waits under the chain before would leave behind this one, and after a few more of them
    // nobody would know its label.
    group_texts::again_from_log(open, plan.group)?;
    plan.oldest = group_texts::pending(open, plan.group, 1)?.first().map(|row| row.text.number());
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
    let own = open.own()?.user.list.version();
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

/// Sends a device the changes, the chain and the texts that it lacks. False where there is no
/// session with it: then a bundle is wanted.
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
    let version = open.own()?.user.list.version();
    let (is_target, seals) =
        (plan.targets.contains_key(&place.key()), tickets::seals(open, peer.tag)?);
    // Whose mail was sealed until now was given no chain.
    peer.due |= is_target && !seals && !peer.holds;
    let is_due = is_target && plan.gives(peer);
    let gives = is_due && !seals;
    let asks_for_session = peer.owed_changes || gives || peer.owed > 0;
    let Some(mut target) = outbox::target(open, peer.tag, &user, &listed, now)? else {
        // A device without a session with this one learns of the list with the first message.
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
    } else if is_due {
        let (group, heads) = (plan.roster.group(), bytes_of(&told(plan.roster)));
        post(open, &mut target, GroupBody::Heads { group, heads: &heads }, None, now, rng)?;
        peer.due = false;
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
            send::ask_too(open, target, now)?;
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

/// Encrypts the texts that wait. Says whether some are left. Devices may be owed them then.
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
            list: own.user.stamp(),
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
    plan.key = Some(key);
    Ok(is_full)
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
    let row = OutRow { group: plan.group, message: *id, text: *text };
    group_outs::add(open, &name, &row, envelope, to)?;
    Ok(Some(name))
}

/// A device asks for an envelope: where it is one for a group, and the device was a member's when
/// it was written, it is owed the text.
///
/// Where the device holds the chain, the chain may be one that this store had gone on from before
/// it was restored from a copy: it is renewed, once a day.
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

/// A device gave a new chain: it is answered, unless something is written to it before.
pub(super) fn answer_later(
    open: &mut Open<'_>,
    group: Tag,
    place: Place,
    peer: &mut PeerRow,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<(), Error> {
    // It is to be answered already.
    if peer.wrote.is_some_and(|at| (1..=MOST_QUIET).contains(&at.since(now))) {
        return Ok(());
    }
    let at = now.after(timers::drawn(MOST_QUIET, rng));
    peer.wrote = Some(at);
    timers::set_answer(open, at, group, place)
}

/// Answers a device with nothing but this account's list, where nothing was written to it since that
/// was to be done `at` this time.
pub(super) fn answer(
    open: &mut Open<'_>,
    (subject, at): (&[u8], Option<UnixTime>),
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<(), Error> {
    let Some((group, place)) = timers::of_group(subject) else { return Ok(()) };
    let peer = group_rows::peer(open, group, place)?.filter(|peer| peer.wrote == at);
    let Some(peer) = peer else { return Ok(()) };
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

/// Notes that there is something to give a device, now that there is a session with it. Many
/// devices of a group are served in one step.
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
