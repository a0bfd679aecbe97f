//! Out: a text for every device of a user and every other device of this account.

use alloc::sync::Arc;
use alloc::vec::Vec;

use rand_core::CryptoRng;
use zeroize::Zeroizing;

use super::asking;
use super::events::Event;
use super::group_texts;
use super::inbox;
use super::log::{self, Pointer, TextRow};
use super::messages::{self, MessageRow, Progress};
use super::outbox::{self, Letter, Target, WaitingFor};
use super::outgoing::Outgoing;
use super::transaction::{Open, Place, Tag};
use super::wants::{self, Want};
use super::{Client, Delivery, Scope};
use crate::address::Address;
use crate::content::{MessageId, attachment};
use crate::devices::{DeviceList, ListedDevice};
use crate::error::Error;
use crate::identity::IdentityKey;
use crate::reference::Class;
use crate::sesame::UserRecord;
use crate::session::Session;
use crate::store::Table;
use crate::time::UnixTime;

impl<S: Scope> Client<S> {
    /// The longest text, with what is said of its files: 2^20 - 4,096 bytes. Larger things travel
    /// as files ([`file`](crate::file)).
    pub const MAX_TEXT: usize = MAX_TEXT;

    /// Writes to a user, and a copy for every other device of this account: a text, or an
    /// [`Outgoing`], which has files or disappears.
    ///
    /// It is encrypted at once for every device that there is a session with. For the others it
    /// waits in the store: [`Client::tasks`] says what to fetch for them, and the text is encrypted
    /// as it comes. Nothing can be lost on the way, and nothing stands in front of anything else:
    /// [`Client::progress`] says how far it is.
    ///
    /// # Errors
    /// [`Error::TooLong`]: more than [`Client::MAX_TEXT`], or more than
    /// [`Attachment::MOST`](crate::Attachment::MOST) files. [`Error::BadName`].
    /// [`Error::Unlinked`]: this device was removed from the account. [`Error::Store`].
    pub fn write<'m>(
        &mut self,
        to: &str,
        message: impl Into<Outgoing<'m>>,
        now: UnixTime,
        rng: &mut dyn CryptoRng,
    ) -> Result<MessageId, Error> {
        let message = message.into();
        self.run(|open| open.whole(|open| write(open, to, message, now, rng)))
    }

    /// As [`Client::write`], but refuses where the text would have to wait for something.
    ///
    /// # Errors
    /// Nothing was written. [`Error::DevicesNeeded`], [`Error::BundlesNeeded`]: what to fetch, for
    /// [`Client::update_devices`] and [`Client::add_bundle`]. [`Error::IdentityChanged`]: somebody
    /// has to accept the user's new account key. [`Error::OwnIdentity`]: the user's list has no
    /// device but this one. Others as [`Client::write`].
    pub fn encrypt<'m>(
        &mut self,
        to: &str,
        message: impl Into<Outgoing<'m>>,
        now: UnixTime,
        rng: &mut dyn CryptoRng,
    ) -> Result<MessageId, Error> {
        let message = message.into();
        self.run(|open| {
            open.whole(|open| {
                let (_, user) = open.known_user(to)?;
                if user.unvouched {
                    return Err(Error::DevicesNeeded(user.name.as_str().into()));
                }
                if !open.is_own(to) && is_nobody_else(&user, &open.account.identity) {
                    return Err(Error::OwnIdentity);
                }
                let Some(recipients) = recipients(open, to)? else {
                    return Err(Error::IdentityChanged(user.name.as_str().into()));
                };
                let mut missing = Vec::new();
                for Recipient { tag, user, listed } in &recipients.devices {
                    if outbox::target(open, *tag, user, listed, now)?.is_none() {
                        missing.push(Address::new(&user.name, listed.device));
                    }
                }
                if !missing.is_empty() {
                    return Err(Error::BundlesNeeded(missing.into_boxed_slice()));
                }
                write(open, to, message, now, rng)
            })
        })
    }

    /// How far a text has come.
    ///
    /// # Errors
    /// [`Error::Store`]
    pub fn progress(&mut self, message: MessageId) -> Result<Progress, Error> {
        self.run(|open| match messages::progress(open, message)? {
            // In this order no row is read that the operation which names the text does not write.
            Progress::Sent => Ok(group_texts::progress(open, message)?.unwrap_or(Progress::Sent)),
            progress => Ok(progress),
        })
    }

    /// Takes back what has not left this device of a text. False where all of it has: then only a
    /// text of the app's own can ask the other side to remove it.
    ///
    /// # Errors
    /// [`Error::Store`]
    pub fn withdraw(&mut self, message: MessageId) -> Result<bool, Error> {
        self.run(|open| {
            open.whole(|open| {
                let Some(row) = messages::get(open, message)? else {
                    return group_texts::withdraw(open, message);
                };
                messages::withhold_resent(open, &row.text)?;
                messages::withdraw(open, open.tag(&row.to)?, message)
            })
        })
    }
}

/// What is left of the longest plaintext once everything else has found room beside the text.
const MAX_TEXT: usize = Session::MAX_PLAINTEXT.saturating_sub(4_096);

/// A device that a text is for.
pub(super) struct Recipient {
    tag: Tag,
    user: Arc<UserRecord>,
    listed: ListedDevice,
}

/// The devices that a text is for.
#[derive(Default)]
pub(super) struct Recipients {
    /// Those that it may be encrypted for.
    devices: Vec<Recipient>,
    /// Devices of this account that the newest list seen does not have. Nothing is copied to them
    /// before a person decides.
    doubted: Vec<IdentityKey>,
}

impl Recipients {
    fn has(&self, identity: &IdentityKey) -> bool {
        self.devices.iter().any(|recipient| recipient.listed.identity == *identity)
    }

    fn knows(&self, identity: &IdentityKey) -> bool {
        self.has(identity) || self.doubted.contains(identity)
    }
}

/// Whether a list names this device as the only one of another user. Somebody made that up, and a
/// text would count as sent that nobody gets.
fn is_nobody_else(user: &UserRecord, here: &IdentityKey) -> bool {
    user.list.devices().iter().all(|listed| listed.identity == *here)
}

/// The devices that a text to a user is for; none where it waits for a list or for a person.
fn recipients(open: &mut Open<'_>, to: &str) -> Result<Option<Recipients>, Error> {
    let own = open.own()?;
    let tag = open.tag(to)?;
    let mut all = Vec::new();
    let here = open.account.identity;
    if tag != own.tag {
        let Some(user) = open.user(tag)? else { return Ok(None) };
        if user.waits() {
            return Ok(None);
        }
        if is_nobody_else(&user, &here) {
            return Ok(None);
        }
        let user = Arc::new(user);
        let devices = user.list.devices().iter().filter(|listed| listed.identity != here);
        all.extend(devices.map(|listed| Recipient {
            tag,
            user: Arc::clone(&user),
            listed: *listed,
        }));
    }
    let mut doubted = Vec::new();
    for listed in own.user.list.devices().iter().filter(|listed| listed.identity != here) {
        if own.user.is_doubted(&listed.identity) {
            doubted.push(listed.identity);
        } else {
            let user = Arc::clone(&own.user);
            all.push(Recipient { tag: own.tag, user, listed: *listed });
        }
    }
    Ok(Some(Recipients { devices: all, doubted }))
}

fn write(
    open: &mut Open<'_>,
    to: &str,
    message: Outgoing<'_>,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<MessageId, Error> {
    let Outgoing { text, files, keep } = message;
    let files = attachment::encode(files)?;
    if text.len().saturating_add(files.len()) > MAX_TEXT {
        return Err(Error::TooLong);
    }
    let tag = open.tag(to)?;
    announce(open, to, tag)?;
    open.linked()?;
    let id = MessageId::random(rng);
    let text = TextRow { id, to: to.into(), keep, text: Zeroizing::new(text.to_vec()), files };
    let key = log::add(open, tag, &text, now)?;
    let mut row = MessageRow::new(to.into(), key);
    match recipients(open, to)? {
        Some(recipients) => {
            // There may be devices that this list does not have yet.
            let mut is_draft = wants::is_wanted(open, &Want::Devices(to.into()))?;
            is_draft |= !recipients.doubted.is_empty();
            announce_targets(open, &recipients.devices)?;
            for recipient in &recipients.devices {
                let Recipient { tag, user, listed } = recipient;
                match outbox::target(open, *tag, user, listed, now)? {
                    Some(mut target) => {
                        encrypt_for(open, &mut target, &text, &mut row, now, rng)?;
                        ask_too(open, &target, now)?;
                    }
                    None => {
                        is_draft = true;
                        let address = Address::new(&user.name, listed.device);
                        wants::want(open, Want::Bundle(address), now)?;
                    }
                }
            }
            row.is_draft = is_draft;
        }
        // It waits for the server's list, unless it waits for a person. Nobody may vouch for the
        // user that is known, or the known list may have no other device.
        None if open.user(tag)?.is_none_or(|user| user.pending.is_none()) => {
            wants::want(open, Want::Devices(to.into()), now)?;
        }
        None => {}
    }
    messages::put(open, tag, id, row)?;
    Ok(id)
}

/// What is to be asked for of a device, and would have shown the server whose sealed envelope could
/// not be opened, is asked for along with a text to it.
pub(super) fn ask_too(open: &mut Open<'_>, target: &Target, now: UnixTime) -> Result<(), Error> {
    if open.policy.delivery == Delivery::Sealed
        && asking::any(open, target.place.tag, target.address.device)?
    {
        wants::want(open, Want::Work(target.address.clone()), now)?;
    }
    Ok(())
}

/// What every text to a user reads.
fn announce(open: &mut Open<'_>, to: &str, tag: Tag) -> Result<(), Error> {
    let own = open.own_tag()?;
    let (log, totals) = log::totals_stored_in(tag);
    let (wants, devices) = Want::Devices(to.into()).stored_in(open)?;
    open.prefetch(&[
        (Table::User, &own.0),
        (Table::User, &tag.0),
        (log, &totals),
        (wants, &devices),
    ])
}

/// The devices, and then the session that each is written to in.
fn announce_targets(open: &mut Open<'_>, recipients: &[Recipient]) -> Result<(), Error> {
    // One is read in two steps anyhow.
    if recipients.len() < 2 {
        return Ok(());
    }
    let place = |of: &Recipient| (open.place(of.tag, &of.listed.identity), of.listed.identity);
    let places: Vec<(Place, IdentityKey)> = recipients.iter().map(place).collect();
    let keys: Vec<[u8; 32]> = places.iter().map(|(place, _)| place.key()).collect();
    let rows: Vec<(Table, &[u8])> = keys.iter().map(|key| (Table::Device, &key[..])).collect();
    open.prefetch(&rows)?;
    let mut sessions = Vec::with_capacity(places.len());
    for (place, identity) in places {
        let record = open.record(place, &identity)?;
        sessions.extend(record.writing().map(|entry| (place, entry.id)));
    }
    open.prefetch_sessions(&sessions)
}

/// Encrypts a text for one device. The caller writes the text's row.
fn encrypt_for(
    open: &mut Open<'_>,
    target: &mut Target,
    text: &TextRow,
    row: &mut MessageRow,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<(), Error> {
    let body = text.body(&target.address.user);
    let letter = Letter { body, class: Class::Text, resent: None, message: Some(text.id) };
    let (name, number) = outbox::post(open, target, &letter, now, rng)?;
    let pointer = Pointer::new(row.text, now);
    log::point(open, target.place, &mut target.record, (number, pointer))?;
    row.did(target.record.identity, Some(name));
    open.put_record(target.place, &target.record)
}

/// Goes on with the drafts that a device waits for. Says whether something is left for later.
pub(super) fn go_on(
    open: &mut Open<'_>,
    target: &mut Target,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<bool, Error> {
    const MOST_TEXTS: usize = 32;
    const MOST_BYTES: usize = 1 << 18;
    let is_own = open.is_own(&target.address.user);
    let to = (!is_own).then_some(target.place.tag);
    let (mut texts, mut bytes) = (0_usize, 0_usize);
    for (tag, id) in messages::drafts(open, to, MOST_DRAFTS)? {
        let Some(mut row) = messages::get(open, id)? else { continue };
        if row.is_done(&target.record.identity) {
            continue;
        }
        if texts >= MOST_TEXTS || bytes >= MOST_BYTES {
            return Ok(true);
        }
        let Some(recipients) = recipients(open, &row.to)? else { continue };
        let identity = target.record.identity;
        if !recipients.has(&identity) {
            continue;
        }
        match log::text(open, &row.text)? {
            Some(text) => {
                (texts, bytes) = (texts.saturating_add(1), bytes.saturating_add(text.length()));
                encrypt_for(open, target, &text, &mut row, now, rng)?;
            }
            // Its time was over before the device could be reached.
            None => {
                row.did(identity, None);
                let (to, device) = (target.address.user.clone(), Some(target.address.device));
                inbox::tell(open, Event::Undelivered { message: id, to, device }, now, rng)?;
            }
        }
        row.is_draft = is_draft(&recipients, &row);
        row.keep(|identity| recipients.knows(identity));
        messages::put(open, tag, id, row)?;
    }
    Ok(false)
}

/// Drafts that are looked at for one device.
const MOST_DRAFTS: usize = 4_096;

fn is_draft(recipients: &Recipients, row: &MessageRow) -> bool {
    let waits = |recipient: &Recipient| !row.is_done(&recipient.listed.identity);
    recipients.devices.iter().any(waits)
        || recipients.doubted.iter().any(|identity| !row.is_done(identity))
}

/// Whether a draft waits for a device.
pub(super) fn any_for(
    open: &mut Open<'_>,
    of_user: &str,
    identity: &IdentityKey,
) -> Result<bool, Error> {
    let to = if open.is_own(of_user) { None } else { Some(open.tag(of_user)?) };
    for (_, id) in messages::drafts(open, to, MOST_DRAFTS)? {
        if messages::get(open, id)?.is_some_and(|row| !row.is_done(identity)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Devices of a user were removed: what waits to be sent to them does not leave. Nobody misses it,
/// but for a text that goes to none of the devices that the user has now.
pub(super) fn withhold(
    open: &mut Open<'_>,
    (user, removed): (&str, &[u32]),
    list: &DeviceList,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<(), Error> {
    let is_removed = |to: &Address| to.user == user && removed.contains(&to.device);
    for WaitingFor { name, to, message, .. } in outbox::waiting_for(open, is_removed)? {
        outbox::remove(open, &name)?;
        let Some(message) = message else { continue };
        let row = messages::get(open, message)?.filter(|row| row.to == user);
        let mut devices = list.devices().iter();
        if row.is_some_and(|row| !devices.any(|one| row.is_done(&one.identity)) && !row.is_draft) {
            let (to, device) = (to.user, Some(to.device));
            inbox::tell(open, Event::Undelivered { message, to, device }, now, rng)?;
        }
        messages::left(open, message, &name)?;
        group_texts::left(open, message, &name)?;
    }
    Ok(())
}

/// Closes drafts for which no device is left, since a list of this user says so now. That of the
/// account's own is about every draft, since its devices get the copies.
pub(super) fn settle(open: &mut Open<'_>, tag: Tag) -> Result<(), Error> {
    let own = open.own()?.tag;
    for (tag, id) in messages::drafts(open, Some(tag).filter(|tag| *tag != own), MOST_DRAFTS)? {
        let Some(mut row) = messages::get(open, id)? else { continue };
        let Some(recipients) = recipients(open, &row.to)? else { continue };
        if !is_draft(&recipients, &row) {
            row.is_draft = false;
            messages::put(open, tag, id, row)?;
        }
    }
    Ok(())
}

/// Notes the devices that drafts wait for: with a tag, those of drafts to this user, which are the
/// user's devices and those of this account. Where it is the account's own, those of this account
/// alone, and the drafts may be to anybody.
pub(super) fn note_drafts(
    open: &mut Open<'_>,
    of: Option<Tag>,
    now: UnixTime,
) -> Result<(), Error> {
    let own = open.own()?.tag;
    for (_, id) in messages::drafts(open, of.filter(|tag| *tag != own), MOST_DRAFTS)? {
        let Some(row) = messages::get(open, id)? else { continue };
        for recipient in recipients(open, &row.to)?.unwrap_or_default().devices {
            let is_meant = of != Some(own) || recipient.tag == own;
            if is_meant && !row.is_done(&recipient.listed.identity) {
                let address = Address::new(&recipient.user.name, recipient.listed.device);
                wants::want(open, Want::Work(address), now)?;
            }
        }
    }
    Ok(())
}

/// Gives up what waits for a device, or for every device of a user of whom no list can be had.
/// Returns the texts.
pub(super) fn give_up(
    open: &mut Open<'_>,
    to: &str,
    device: Option<u32>,
) -> Result<Vec<MessageId>, Error> {
    let tag = open.tag(to)?;
    let prefix = (!open.is_own(to)).then_some(tag);
    let mut given_up = Vec::new();
    for (draft_tag, id) in messages::drafts(open, prefix, MOST_DRAFTS)? {
        let Some(mut row) = messages::get(open, id)? else { continue };
        match (recipients(open, &row.to)?, device) {
            (Some(recipients), Some(device)) => {
                let of = recipients
                    .devices
                    .iter()
                    .filter(|recipient| recipient.tag == tag && recipient.listed.device == device);
                for recipient in of {
                    if !row.is_done(&recipient.listed.identity) {
                        row.did(recipient.listed.identity, None);
                        given_up.push(id);
                    }
                }
                row.is_draft = is_draft(&recipients, &row);
            }
            (Some(recipients), None) => row.is_draft = is_draft(&recipients, &row),
            (None, None) => {
                row.is_draft = false;
                given_up.push(id);
            }
            _ => continue,
        }
        messages::put(open, draft_tag, id, row)?;
    }
    Ok(given_up)
}
