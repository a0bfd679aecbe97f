//! Out, to groups: texts, and when a new chain begins.
//!
//! A device is given the chain before the next text, in a message of the session with it. A text is
//! encrypted once for all devices that hold the chain. A device that cannot be reached yet holds
//! nobody up: it is owed the text, and gets it apart once there is a session with it.

use alloc::string::String;
use alloc::vec::Vec;

use rand_core::CryptoRng;
use zeroize::Zeroizing;

use super::group_keys;
use super::group_members::{self, Peer, Settling};
use super::group_outs::{self, ReceiverRow};
use super::group_rows::{self, GroupRow, GroupStanding};
use super::group_serve::{MOST_TEXTS, Plan, is_small, serve_all};
use super::group_texts::{self, PendingRow, TextAt};
use super::log::{self, TextRow};
use super::outgoing::Outgoing;
use super::tickets;
use super::transaction::{Open, RowName, Tag};
use super::wants::{self, Want};
use crate::content::attachment::{self, Files};
use crate::content::{Body, Content, MessageId, SealedFields, Written};
use crate::error::Error;
use crate::group::{LabelKey, MemberId, Sender, SenderKey};
use crate::time::UnixTime;

/// Groups that are gone on with in one call of the tasks.
pub(super) const MOST_GROUPS: usize = 8;

/// A chain is renewed after this time, and after this many texts.
const CHAIN_AGE: u64 = 7 * 24 * 60 * 60;
const CHAIN_TEXTS: u32 = 1_000;
const CHAIN_TEXTS_SMALL: u32 = 100;
const SMALL_GROUP: usize = 32;

/// Device lists that are older than this are fetched before a chain is begun.
const LIST_AGE: u64 = 7 * 24 * 60 * 60;

/// A text waits this long, once, for changes that somebody knows of and that are not here.
pub(super) const HEADS_WAIT: u64 = 30;

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
    let (key, is_small) = (group_keys::key(open, group)?, is_small(&roster));
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
        owes: false,
        is_short: false,
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
    if is_left || is_held || plan.owes {
        group_rows::set_step_again(open, group)
    } else if plan.is_short {
        group_rows::set_step_later(open, group, now)
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
    if !is_worn(plan, row, now) {
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

/// Whether a new chain begins with the next text.
fn is_worn(plan: &Plan<'_>, row: &GroupRow, now: UnixTime) -> bool {
    let is_small = plan.targets.len() <= SMALL_GROUP;
    let most = if is_small { CHAIN_TEXTS_SMALL } else { CHAIN_TEXTS };
    row.renew || plan.key.as_ref().is_none_or(|key| key.is_worn(most, CHAIN_AGE, now))
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
    if !is_worn(plan, row, now) {
        return Ok(());
    }
    let id = plan.roster.group();
    let label = LabelKey::random(rng);
    let key = match &plan.key {
        Some(before) => before.renewed(id.as_bytes(), label, now, rng),
        None => SenderKey::new(id.as_bytes(), label, now, rng),
    };
    group_keys::put_key(open, plan.group, &key)?;
    plan.key = Some(key);
    row.renew = false;
    for Peer { row: peer, .. } in &mut plan.peers {
        peer.holds = false;
        peer.due = !peer.is_out;
    }
    // What waits under the chain before would leave behind this one, and after a few more of them
    // nobody would know its label.
    group_texts::again_from_log(open, plan.group)?;
    plan.oldest = group_texts::pending(open, plan.group, 1)?.first().map(|row| row.text.number());
    Ok(())
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
            // One of those who lack it stands for all: they are many.
            if let Some(peer) = plan.peers.iter().find(|peer| is_for(&waits, peer)) {
                group_texts::tell_lost(open, waits.id, &peer.row.address, now, rng)?;
            }
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
                group_keys::put_key(open, plan.group, &key)?;
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
    group_keys::put_key(open, plan.group, &key)?;
    plan.key = Some(key);
    Ok(is_full)
}

/// Whether a text that waits to be encrypted is for a device.
fn is_for(waits: &PendingRow, Peer { place, row: peer, .. }: &Peer) -> bool {
    let was_in = match &waits.only {
        Some(only) => only.contains(&place.key()),
        None => waits.text.number() > peer.since,
    };
    was_in && !peer.is_out
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
    let PendingRow { id, text, .. } = waits;
    let mut to = Vec::new();
    for peer in plan.peers.iter_mut().filter(|peer| is_for(waits, peer)) {
        let Peer { place, row: peer, .. } = peer;
        // One envelope for many says who wrote it; sealed mail goes to each device apart.
        if peer.holds && !peer.due && !tickets::seals(open, peer.tag)? {
            to.push(ReceiverRow::new(peer.address.clone(), place.key()));
        } else {
            let at = TextAt { group: plan.group, id: *id, text: *text, reference: None };
            group_texts::owe_or_tell(open, *place, peer, at, now, rng)?;
        }
    }
    if to.is_empty() {
        return Ok(None);
    }
    let name = open.row_name(now, text.number(), rng);
    group_outs::add(open, &name, (plan.group, *id, *text), envelope, to)?;
    Ok(Some(name))
}

/// Does what there is to do for groups, as far as one transaction should.
pub(super) fn go_on_all(
    open: &mut Open<'_>,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<(), Error> {
    for group in group_rows::take_changed(open)? {
        group_rows::set_step(open, group)?;
    }
    for group in group_rows::steps(open, now, MOST_GROUPS)? {
        step(open, group, now, rng)?;
    }
    Ok(())
}
