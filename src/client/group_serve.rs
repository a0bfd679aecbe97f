//! What single devices of a group are given: changes, the chain, texts that they are owed.

use alloc::vec::Vec;
use core::mem;

use rand_core::CryptoRng;

use super::allowances::{self, ANSWERS, Party};
use super::group_members::{Peer, Targets};
use super::group_rows::PeerRow;
use super::group_texts;
use super::log::{self, Pointer};
use super::outbox::{self, Letter};
use super::send;
use super::telling;
use super::tickets;
use super::transaction::{Open, Place, Tag};
use super::wants::{self, Want};
use crate::content::{Body, GroupBody};
use crate::error::Error;
use crate::group::{Change, ChangeId, Roster, SenderKey};
use crate::reference::{Class, Reference};
use crate::sesame::UserRecord;
use crate::time::UnixTime;

/// Devices that are served in one transaction.
const MOST_SERVED: usize = 64;

/// Texts in one transaction.
pub(super) const MOST_TEXTS: usize = 32;

/// Bytes of changes in one content.
pub(super) const MOST_CHANGES: usize = (1 << 20) - 8_192;

/// A device that was not told of the group before is told all of it with the chain, if that is no
/// more than this; it asks for a longer roster.
const SMALL_ROSTER: usize = 1 << 16;

/// Whom what is told of: a roster, and who is in by it.
pub(super) struct Plan<'a> {
    pub(super) group: Tag,
    pub(super) roster: &'a Roster,
    pub(super) targets: Targets,
    pub(super) peers: Vec<Peer>,
    /// What this device encrypts with, once it wrote.
    pub(super) key: Option<SenderKey>,
    /// Whether the whole roster is told with the chain.
    pub(super) is_small: bool,
    /// Whether this account is in.
    pub(super) is_in: bool,
    /// Whether texts are encrypted now.
    pub(super) writes: bool,
    /// The number of the oldest text that waits. Who came later gets the chain after it.
    pub(super) oldest: Option<u64>,
    /// Whether a device that can be served lacks more than one step gives it.
    pub(super) owes: bool,
    /// Whether one lacks what no allowance is left for.
    pub(super) is_short: bool,
}

/// What became of a device.
enum Served {
    /// There is no session with it.
    No,
    All,
    /// It lacks more than one step gives it.
    InPart,
    /// An allowance is used up.
    Short,
}

/// Serves the devices that something is to be given to. Says whether some were not looked at.
pub(super) fn serve_all(
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
        match serve(open, plan, *place, peer, now, rng)? {
            Served::No => continue,
            Served::All => {}
            Served::InPart => plan.owes = true,
            Served::Short => plan.is_short = true,
        }
        served = served.saturating_add(1);
    }
    plan.peers = peers;
    Ok(false)
}

impl Plan<'_> {
    /// Whether a device gets the chain now. One that came after a text that still waits does not
    /// get what opens it.
    fn gives(&self, peer: &PeerRow) -> bool {
        let is_after = self.oldest.is_some_and(|oldest| oldest <= peer.since);
        peer.due && !is_after && (self.writes || peer.owed > 0 && self.is_in)
    }
}

/// Sends a device the changes, the chain and the texts that it lacks. Where there is no
/// session with it, a bundle is wanted.
fn serve(
    open: &mut Open<'_>,
    plan: &Plan<'_>,
    place: Place,
    peer: &mut PeerRow,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<Served, Error> {
    let user = open.user(peer.tag)?;
    // What it is owed waits as well.
    if user.as_ref().is_some_and(UserRecord::waits) {
        return Ok(Served::No);
    }
    let listed = user.as_ref().and_then(|user| user.list.get(peer.address.device));
    let listed = listed.copied().filter(|listed| listed.identity == peer.identity);
    let (Some(user), Some(listed)) = (user, listed) else {
        // Nobody is left to tell.
        peer.owed_changes = false;
        return Ok(Served::No);
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
        return Ok(Served::No);
    };
    let mut is_short = false;
    let is_new = gives && peer.told.is_empty() && plan.is_small;
    if peer.owed_changes || is_new {
        is_short |= !tell_changes(open, (plan.roster, &user), &mut target, peer, now, rng)?;
    }
    if gives {
        give_chain(open, plan, &mut target, peer, now, rng)?;
    } else if is_due {
        post_heads(open, plan.roster, &mut target, now, rng)?;
        peer.due = false;
    }
    if is_target && peer.owed > 0 {
        is_short |= !pay(open, plan, &mut target, peer, now, rng)?;
    }
    if mem::replace(&mut peer.list, version) < version && !asks_for_session {
        telling::post_list(open, &mut target, None, now, rng)?;
    }
    peer.wrote = Some(now);
    open.put_record(target.place, &target.record)?;
    Ok(match is_short {
        true => Served::Short,
        false if peer.owed > 0 => Served::InPart,
        false => Served::All,
    })
}

/// Whether the whole of a roster is told with the chain.
pub(super) fn is_small(roster: &Roster) -> bool {
    let size = roster.changes().map(|change| change.encode().len()).sum::<usize>();
    size <= SMALL_ROSTER
}

/// Tells a device the changes that it lacks. False where no allowance is left for that.
fn tell_changes(
    open: &mut Open<'_>,
    (roster, user): (&Roster, &UserRecord),
    target: &mut outbox::Target,
    peer: &mut PeerRow,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<bool, Error> {
    // Also under another account key than the one that is known.
    let is_in = open.is_own(&user.name) || !roster.ids_in(&user.name).is_empty();
    let lacking: Vec<&Change> = if is_in {
        roster.changes_since(&peer.told).collect()
    } else {
        // Whoever is out is told that, and of nothing that came later, however late that is.
        let ids = roster.ids_of(&user.name).into_iter();
        ids.flat_map(|member| roster.removal_of(member, &peer.told)).collect()
    };
    let mut contents: Vec<Vec<u8>> = Vec::from([Vec::new()]);
    for change in lacking {
        let bytes = change.encode();
        let is_full = |content: &Vec<u8>| {
            // Each is behind its length.
            let longer = content.len().saturating_add(bytes.len()).saturating_add(4);
            !content.is_empty() && longer > MOST_CHANGES
        };
        if contents.last().is_some_and(is_full) {
            contents.push(Vec::new());
        }
        if let Some(content) = contents.last_mut() {
            append(content, [change]);
        }
    }
    for content in contents.iter().filter(|content| !content.is_empty()) {
        let units = allowances::units(content.len());
        if !allowances::take(open, &ANSWERS, Party::Contact(peer.tag), units, now)? {
            return Ok(false);
        }
        let body = GroupBody::Changes { group: roster.group(), changes: content };
        post(open, target, body, None, now, rng)?;
    }
    peer.owed_changes = false;
    if is_in {
        peer.told = told(roster);
    }
    Ok(true)
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

/// Sends texts apart to a device that their envelope did not reach. False where no allowance is
/// left for the next one.
fn pay(
    open: &mut Open<'_>,
    plan: &Plan<'_>,
    target: &mut outbox::Target,
    peer: &mut PeerRow,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<bool, Error> {
    let (mut gone, mut is_short): (Vec<[u8; 16]>, bool) = (Vec::new(), false);
    for owed in group_texts::owed(open, plan.group, target.place, MOST_TEXTS)? {
        let mut envelope = None;
        if let Some(text) = log::text(open, &owed.text)? {
            let units = allowances::units(text.length());
            if !allowances::take(open, &ANSWERS, Party::Contact(peer.tag), units, now)? {
                is_short = true;
                break;
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
        } else if let Some(reference) = owed.reference {
            gone.push(reference.0);
        } else {
            group_texts::tell_lost(open, owed.id, &peer.address, now, rng)?;
        }
        group_texts::paid(open, target.place, peer, &owed, envelope)?;
    }
    if !gone.is_empty() {
        let body = Body::Gone(&gone);
        let letter = Letter { body, class: Class::Other, resent: None, message: None };
        outbox::post(open, target, &letter, now, rng)?;
    }
    Ok(!is_short)
}

/// Tells a device which changes are known here: it asks for those that it lacks. The caller writes
/// the record.
pub(super) fn post_heads(
    open: &mut Open<'_>,
    roster: &Roster,
    target: &mut outbox::Target,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<(), Error> {
    let (group, heads) = (roster.group(), bytes_of(&told(roster)));
    post(open, target, GroupBody::Heads { group, heads: &heads }, None, now, rng)
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
