//! What came of a task.

use rand_core::CryptoRng;

use super::account;
use super::aside;
use super::asking;
use super::bundles;
use super::certificates;
use super::devices;
use super::doors;
use super::events::Event;
use super::group_out;
use super::group_owed;
use super::group_rows;
use super::group_texts;
use super::inbox;
use super::messages;
use super::outbox;
use super::send;
use super::tasks::{Answer, Check, Completed, Key, LEASE, TaskId, resume};
use super::transaction::{Open, RowName};
use super::upload;
use super::wants::{self, Want};
use super::{Client, Scope};
use crate::address::Address;
use crate::content::MessageId;
use crate::devices::DeviceList;
use crate::error::Error;
use crate::time::UnixTime;

impl<S: Scope> Client<S> {
    /// Takes what came of a task.
    ///
    /// A bad answer is not an error but [`Completed::Rejected`]: the task comes again. A task that
    /// was answered already changes nothing.
    ///
    /// # Errors
    /// [`Error::Store`], [`Error::BadState`]
    pub fn complete(
        &mut self,
        task: &TaskId,
        answer: Answer<'_>,
        now: UnixTime,
        rng: &mut dyn CryptoRng,
    ) -> Result<Completed, Error> {
        let is_first = task.0 == Key::Summary && self.check != Check::Done;
        let completed = self.run(|open| {
            open.whole(|open| {
                let completed = complete(open, &task.0, answer, now, rng)?;
                if is_first && completed == Completed::Handled {
                    // Tasks handed out before now died with the process that had them.
                    resume(open)?;
                }
                Ok(completed)
            })
        })?;
        if task.0 == Key::Summary {
            let is_done = !is_first || completed == Completed::Handled;
            self.check = if is_done { Check::Done } else { Check::Until(now.wait(LEASE)) };
        }
        Ok(completed)
    }
}

fn complete(
    open: &mut Open<'_>,
    key: &Key,
    answer: Answer<'_>,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<Completed, Error> {
    match (key, answer) {
        (Key::Summary, Answer::Summary(summary)) => {
            reject(upload::compare(open, Some(summary), now, rng))
        }
        (Key::Summary, Answer::Missing) => {
            upload::compare(open, None, now, rng).map(|()| Completed::Handled)
        }
        (Key::Upload(number), Answer::Done) => {
            if upload::done(open, *number)? {
                account::renew_if_due(open, now, rng)?;
            }
            Ok(Completed::Handled)
        }
        (Key::Devices(user), Answer::Devices(list)) => fetched(open, user, list, now, rng),
        (Key::Bundle(address), Answer::Bundle(bundle)) => {
            let added = bundles::add(open, address, bundle, now, rng);
            if let Err(Error::UnknownDevice(_) | Error::DevicesNeeded(_)) = &added {
                wants::want(open, Want::Devices(address.user.clone()), now)?;
            }
            retried(open, &Want::Bundle(address.clone()), added, now, rng)
        }
        (Key::Certificate, Answer::Certificate(bytes)) => {
            let taken = certificates::take(open, bytes, now);
            retried(open, &Want::Certificate, taken, now, rng)
        }
        (Key::Pass(number), Answer::Done) => {
            if doors::own(open)?.is_some_and(|pass| pass.number() == *number) {
                wants::have(open, &Want::Pass)?;
            }
            Ok(Completed::Handled)
        }
        (Key::Certificate, _) => later(open, &Want::Certificate, now, rng),
        (Key::Pass(_), _) => later(open, &Want::Pass, now, rng),
        (Key::Send(name, _), Answer::Refused) => refused(open, name, now, rng),
        (Key::Send(name, message), Answer::Done) => sent(open, name, *message),
        (Key::Group(name, index, message), answer) => {
            to_group(open, (name, *index, *message), answer, now, rng)
        }
        (Key::Send(name, _), Answer::Missing) => unsendable(open, name, now, rng),
        (Key::Devices(user), Answer::Missing) => missing(open, user, now, rng),
        (Key::Devices(user), _) => later(open, &Want::Devices(user.clone()), now, rng),
        // There may be a newer list, without this device: the known one can be as old as an
        // archive.
        (Key::Bundle(address), Answer::Missing) => {
            wants::want(open, Want::Devices(address.user.clone()), now)?;
            later(open, &Want::Bundle(address.clone()), now, rng)
        }
        (Key::Bundle(address), _) => later(open, &Want::Bundle(address.clone()), now, rng),
        (Key::Send(name, _), _) => {
            outbox::failed(open, name, now)?;
            Ok(Completed::Later)
        }
        (Key::Summary, _) => upload::failed(open, now).map(|()| Completed::Later),
        (Key::Upload(_), _) => upload::refused(open, now).map(|()| Completed::Later),
    }
}

/// The server's list of a user came.
fn fetched(
    open: &mut Open<'_>,
    user: &str,
    list: &[u8],
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<Completed, Error> {
    let want = Want::Devices(user.into());
    let list = match DeviceList::decode(list) {
        Ok(list) => list,
        Err(error) => return retried(open, &want, Err(error), now, rng),
    };
    let updated = devices::update(open, user, list.clone(), now, rng);
    if open.is_own(user) && matches!(updated, Ok(()) | Err(Error::StaleDeviceList)) {
        account::keep_out(open, &list, now, rng)?;
        wants::have(open, &want)?;
    }
    match updated {
        // The server has no newer one either.
        Err(Error::StaleDeviceList) => {
            wants::have(open, &want)?;
            let tag = open.tag(user)?;
            send::settle(open, tag)?;
            Ok(Completed::Handled)
        }
        Err(Error::ForkedDeviceList) if open.is_own(user) => {
            let merged = account::merge(open, list, now, rng);
            if merged.is_ok() {
                wants::have(open, &want)?;
            }
            retried(open, &want, merged, now, rng)
        }
        updated => retried(open, &want, updated, now, rng),
    }
}

/// What the server gave was bad: that is its fault, and no error of the call.
fn reject(done: Result<(), Error>) -> Result<Completed, Error> {
    match done {
        Ok(()) => Ok(Completed::Handled),
        Err(error @ (Error::Store(_) | Error::BadState | Error::Exhausted)) => Err(error),
        Err(error) => Ok(Completed::Rejected(error)),
    }
}

fn retried(
    open: &mut Open<'_>,
    want: &Want,
    done: Result<(), Error>,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<Completed, Error> {
    let completed = reject(done)?;
    if completed != Completed::Handled {
        later(open, want, now, rng)?;
    }
    Ok(completed)
}

/// A want was not met: it comes again, or is given up.
fn later(
    open: &mut Open<'_>,
    want: &Want,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<Completed, Error> {
    if !wants::failed(open, want, now)? {
        return Ok(Completed::Later);
    }
    wants::have(open, want)?;
    let (to, device) = match want {
        Want::Devices(user) => (user.as_str(), None),
        Want::Bundle(address) => (address.user.as_str(), Some(address.device)),
        Want::Work(_) | Want::Aside(_) | Want::Certificate | Want::Pass => {
            return Ok(Completed::Handled);
        }
    };
    let mut given_up = send::give_up(open, to, device)?;
    if let Want::Bundle(address) = want {
        given_up.extend(group_owed::give_up(open, address)?);
    }
    for message in given_up {
        inbox::tell(open, Event::Undelivered { message, to: to.into(), device }, now, rng)?;
    }
    if device.is_none() && is_nobody(open, to)? {
        forget_nobody(open, to)?;
    }
    Ok(Completed::Handled)
}

/// The server knows nobody of that name: what came under it is worth nothing. What a person wrote
/// to them waits.
fn missing(
    open: &mut Open<'_>,
    user: &str,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<Completed, Error> {
    devices::nobody(open, user, now, rng)?;
    let (tag, want) = (open.tag(user)?, Want::Devices(user.into()));
    if is_nobody(open, user)? {
        forget_nobody(open, user)?;
        // Of a member of a group the list stays wanted, or each step for the group would want it
        // anew, and its texts would wait for that.
        if !group_rows::is_member(open, tag)? {
            wants::have(open, &want)?;
            return Ok(Completed::Handled);
        }
    }
    later(open, &want, now, rng)
}

/// Whether nothing of a user is known here, and a person wants nothing of them.
fn is_nobody(open: &mut Open<'_>, user: &str) -> Result<bool, Error> {
    let tag = open.tag(user)?;
    Ok(open.user(tag)?.is_none() && messages::drafts(open, Some(tag), 1)?.is_empty())
}

fn forget_nobody(open: &mut Open<'_>, user: &str) -> Result<(), Error> {
    let tag = open.tag(user)?;
    asking::forget(open, tag)?;
    aside::forget(open, tag)?;
    wants::have(open, &Want::Aside(user.into()))
}

fn sent(
    open: &mut Open<'_>,
    name: &RowName,
    message: Option<MessageId>,
) -> Result<Completed, Error> {
    let (outbox, envelope) = outbox::stored_in(name);
    if let Some((drafts, text)) = message.map(messages::stored_in) {
        open.prefetch(&[(outbox, &envelope), (drafts, &text)])?;
    }
    let Some(message) = outbox::remove(open, name)? else { return Ok(Completed::Handled) };
    match messages::left(open, message, name)? || group_texts::left(open, message, name)? {
        true => Ok(Completed::Sent(message)),
        false => Ok(Completed::Handled),
    }
}

/// The server takes no sealed mail for the receiver with what it was shown.
fn refused(
    open: &mut Open<'_>,
    name: &RowName,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<Completed, Error> {
    if let Some(row) = outbox::row(open, name)? {
        doors::refused(open, (&row.to.user, row.attempts), now, rng)?;
    }
    outbox::failed(open, name, now)?;
    Ok(Completed::Later)
}

/// What came of an envelope for a group, for one of its receivers.
fn to_group(
    open: &mut Open<'_>,
    (name, index, message): (&RowName, u32, MessageId),
    answer: Answer<'_>,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<Completed, Error> {
    match answer {
        Answer::Done => {}
        Answer::Missing => {
            if let Some(to) = group_out::receiver(open, name, index)? {
                unknown(open, to, Some(message), now, rng)?;
            }
        }
        _ => {
            group_out::failed(open, name, index, now)?;
            return Ok(Completed::Later);
        }
    }
    let is_last = group_out::sent(open, name, index, message)?;
    Ok(if is_last { Completed::Sent(message) } else { Completed::Handled })
}

/// The server takes an envelope for nobody.
fn unsendable(
    open: &mut Open<'_>,
    name: &RowName,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<Completed, Error> {
    let Some(row) = outbox::row(open, name)? else { return Ok(Completed::Handled) };
    unknown(open, row.to, row.message, now, rng)?;
    sent(open, name, row.message)
}

/// The server does not know the receiver: there may be a newer device list.
fn unknown(
    open: &mut Open<'_>,
    Address { user, device }: Address,
    message: Option<MessageId>,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<(), Error> {
    wants::want(open, Want::Devices(user.clone()), now)?;
    let tag = open.tag(&user)?;
    // Nobody misses what was on its way to a device that was removed.
    let is_listed = open.user(tag)?.is_some_and(|user| user.list.get(device).is_some());
    match message.filter(|_| is_listed) {
        Some(message) => {
            let event = Event::Undelivered { message, to: user, device: Some(device) };
            inbox::tell(open, event, now, rng)
        }
        None => Ok(()),
    }
}
