//! Envelopes for many on their way to each of their receivers.

use alloc::vec::Vec;

use super::group_rows;
use super::group_texts::{self, ReceiverRow, TextAt};
use super::tickets;
use super::transaction::{Open, Place, RowName};
use super::wants::{self, Want};
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
