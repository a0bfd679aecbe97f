//! Envelopes for many on their way to each of their receivers.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use rand_core::CryptoRng;

use super::group_outs::{self, ReceiverRow};
use super::group_rows::{self, GroupStanding};
use super::group_texts::{self, TextAt};
use super::tickets;
use super::transaction::{Open, Place, RowName, Tag};
use crate::address::Address;
use crate::content::MessageId;
use crate::error::Error;
use crate::time::UnixTime;

/// An envelope for a group that can be sent to one of its receivers.
pub(super) struct Due {
    pub(super) name: RowName,
    pub(super) index: u32,
    pub(super) message: MessageId,
    pub(super) to: Address,
    pub(super) envelope: Vec<u8>,
}

/// What can be sent now of the envelopes for groups, but for these.
pub(super) fn due(
    open: &mut Open<'_>,
    but: &BTreeSet<Tag>,
    (now, until): (UnixTime, UnixTime),
    (most, most_bytes): (usize, usize),
    rng: &mut dyn CryptoRng,
) -> Result<Vec<Due>, Error> {
    let (mut due, mut bytes) = (Vec::new(), 0_usize);
    for (name, out) in group_outs::all(open)? {
        if due.len() >= most || bytes > most_bytes {
            break;
        }
        if but.contains(&out.group) {
            continue;
        }
        let Some(row) = group_outs::get(open, &name)? else { continue };
        let at = TextAt { group: row.group, id: row.message, text: row.text, reference: None };
        let group = group_rows::get(open, row.group)?;
        let is_left = group.is_none_or(|group| group.standing != GroupStanding::Joined);
        let (mut envelope, mut is_less) = (None, false);
        for mut block in group_outs::blocks(open, &name)? {
            let mut is_changed = false;
            for (index, receiver) in block.numbered().filter(|(_, one)| one.is_due(now)) {
                if due.len() >= most || bytes > most_bytes {
                    break;
                }
                // Of a group that this account has left, and may be invited to again, nothing is
                // encrypted anew for the others.
                if is_left {
                    match is_certain(open, receiver)? {
                        Some(true) => {}
                        Some(false) => continue,
                        None => {
                            (receiver.is_sent, is_changed) = (true, true);
                            continue;
                        }
                    }
                }
                is_changed = true;
                if tickets::seals(open, Place::read(&receiver.place).tag)? {
                    // Since it was encrypted, somebody decided that it is not to leave openly.
                    receiver.is_sent = true;
                    owe_apart(open, receiver, at, now, rng)?;
                    continue;
                }
                if envelope.is_none() {
                    envelope = group_outs::envelope(open, &name)?;
                }
                receiver.not_before = Some(until);
                let envelope = envelope.clone().ok_or(Error::BadState)?;
                bytes = bytes.saturating_add(envelope.len());
                due.push(Due {
                    name,
                    index,
                    message: row.message,
                    to: receiver.address.clone(),
                    envelope,
                });
            }
            if is_changed {
                is_less |= group_outs::put(open, &name, &block)?;
            }
        }
        if is_less {
            go(open, &name, row.message)?;
        }
    }
    Ok(due)
}

/// Whether a receiver is its user's device without doubt; none where the user's list does not have
/// it any more.
fn is_certain(open: &mut Open<'_>, receiver: &ReceiverRow) -> Result<Option<bool>, Error> {
    let place = Place::read(&receiver.place);
    let Some(user) = open.user(place.tag)? else { return Ok(None) };
    let listed = open.listed_at(&user, place);
    Ok(listed.map(|listed| !user.is_doubted(&listed.identity)))
}

/// A block is gone, and the envelope where that was the last one. True where that was the last of
/// its text.
fn go(open: &mut Open<'_>, name: &RowName, message: MessageId) -> Result<bool, Error> {
    let is_done = group_outs::remove_if_done(open, name)?;
    if is_done { group_texts::left_for_all(open, message, name) } else { Ok(false) }
}

/// A device gets a text apart that an envelope for many was to bring.
fn owe_apart(
    open: &mut Open<'_>,
    receiver: &ReceiverRow,
    text: TextAt,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<(), Error> {
    let place = Place::read(&receiver.place);
    let Some(mut peer) = group_rows::peer(open, text.group, place)? else { return Ok(()) };
    group_texts::owe_or_tell(open, place, &mut peer, text, now, rng)?;
    group_rows::put_peer(open, text.group, place, &peer)?;
    group_rows::set_step(open, text.group)
}

/// A receiver has an envelope, or never will. Says whether that was the last of its text.
pub(super) fn sent(
    open: &mut Open<'_>,
    name: &RowName,
    index: u32,
    message: MessageId,
) -> Result<bool, Error> {
    let is_less = change_receiver(open, name, index, |receiver| receiver.is_sent = true)?;
    if is_less { go(open, name, message) } else { Ok(false) }
}

/// One of the receivers of an envelope, for whom it waits.
pub(super) fn receiver(
    open: &mut Open<'_>,
    name: &RowName,
    index: u32,
) -> Result<Option<Address>, Error> {
    let block = group_outs::block_of(open, name, index)?;
    let receiver = block.as_ref().and_then(|(block, at)| block.receivers.get(*at));
    Ok(receiver.filter(|one| !one.is_sent).map(|one| one.address.clone()))
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

/// Changes how far one of the receivers is. True where its block is gone by that.
fn change_receiver(
    open: &mut Open<'_>,
    name: &RowName,
    index: u32,
    change: impl FnOnce(&mut ReceiverRow),
) -> Result<bool, Error> {
    let Some((mut block, at)) = group_outs::block_of(open, name, index)? else { return Ok(false) };
    block.receivers.get_mut(at).map(change);
    group_outs::put(open, name, &block)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::group_rows::PeerRow;
    use crate::client::{Client, Delivery, Event, Item, Policy};
    use crate::identity::IdentityKeyPair;
    use crate::store::Memory;
    use crate::testing::Replay;

    #[test]
    fn a_text_that_is_to_be_sealed_for_a_device_that_is_owed_too_many_is_not_lost_in_silence() {
        let (now, rng) = (UnixTime::from_secs(1_800_000_000).unwrap(), &mut Replay::counting());
        let policy = Policy { delivery: Delivery::Sealed, ..Policy::default() };
        let ada = Client::create(Memory::new(), "ada", now, rng).unwrap();
        let mut ada = ada.with_policy(policy);
        let identity = IdentityKeyPair::generate(rng).public_key();
        let group = ada.create_group(&[], b"", now, rng).unwrap();
        let id = ada.write_to_group(group, b"to all", now, rng).unwrap();
        let due = ada.run(|open| {
            let (group, tag) = (open.group_tag(group.as_bytes()), open.tag("bea")?);
            let (place, address) = (open.place(tag, &identity), Address::new("bea", 1));
            let mut peer = PeerRow::new(address.clone(), identity, tag, 0);
            (peer.holds, peer.due, peer.owed) = (true, false, 1_000);
            group_rows::put_peer(open, group, place, &peer)?;
            // As if she had been in, and the server had failed.
            let text = group_texts::since(open, group, 0)?.remove(0).text;
            group_texts::begin(open, group, text, id)?;
            let name = open.row_name(now, 1, rng);
            let receivers = Vec::from([ReceiverRow::new(address, place.key())]);
            group_outs::add(open, &name, (group, id, text), b"an envelope", receivers)?;
            let waits = group_texts::pending(open, group, 1)?.remove(0);
            group_texts::sealed(open, group, &waits, Some(name))?;
            due(open, &BTreeSet::new(), (now, now.after(60)), (9, 1 << 20), rng)
        });
        assert!(due.unwrap().is_empty());
        let told = ada.inbox(9).unwrap();
        let (to, device) = ("bea".into(), Some(1));
        let lost = Item::Event(Event::Undelivered { message: id, to, device });
        assert!(told.iter().any(|incoming| incoming.item == lost));
    }
}
