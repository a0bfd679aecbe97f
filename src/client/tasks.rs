//! The driver: what the network should do next.

use alloc::string::String;
use alloc::vec::Vec;

use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};

use super::certificates;
use super::delivery;
use super::doors::{self, Pass};
#[cfg(doc)]
use super::events::Event;
use super::expiry;
use super::group_out;
use super::group_outs;
use super::group_rows;
use super::group_send;
use super::group_texts;
use super::outbox::{self, OutboxRow};
use super::receive;
use super::tickets;
use super::transaction::{Open, RowName};
use super::upload;
use super::wants::{self, Want};
use super::work;
use super::{Client, Scope};
use crate::address::Address;
use crate::at_rest;
use crate::content::MessageId;
use crate::crypto::stack;
use crate::envelope;
use crate::error::Error;
use crate::time::UnixTime;

/// Something that the network should do: see [`Client::tasks`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Task {
    /// What [`Client::complete`] takes.
    pub id: TaskId,
    /// What to do.
    pub action: Action,
}

/// What a [`Task`] is.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action {
    /// Fetch what the server holds of this device
    /// ([`Summary`](crate::directory::Summary)). Answer with [`Answer::Summary`], or
    /// [`Answer::Missing`] where it holds nothing.
    FetchSummary,
    /// Upload these bytes ([`Upload`](crate::directory::Upload)). Answer with [`Answer::Done`].
    Upload(Vec<u8>),
    /// Fetch the device list of this user. Answer with [`Answer::Devices`], or [`Answer::Missing`]
    /// where the server does not know the user.
    FetchDevices(String),
    /// Fetch a bundle of this device. Answer with [`Answer::Bundle`], or [`Answer::Missing`] where
    /// the server has none.
    FetchBundle(Address),
    /// Send an envelope. Answer with [`Answer::Done`] when the server has taken it, or
    /// [`Answer::Missing`] where it does not know the receiver. To send one twice does no harm.
    Send {
        /// Where it goes.
        to: Address,
        /// The envelope.
        envelope: Vec<u8>,
        /// The text in it, where there is one that a person wrote.
        message: Option<MessageId>,
    },
    /// Send a sealed envelope, on a connection that does not say who this device is. Answer as
    /// for [`Action::Send`], or with [`Answer::Refused`] where the server does not take it with
    /// this pass. While mail is sealed, fetch device lists and bundles on such a connection too.
    SendSealed {
        /// Where it goes.
        to: Address,
        /// The envelope.
        envelope: Vec<u8>,
        /// What the server takes it with, where the receiver gave one.
        pass: Option<Pass>,
        /// The text in it, where there is one that a person wrote.
        message: Option<MessageId>,
    },
    /// Fetch a sender certificate of this account
    /// ([`SenderCertificate`](crate::SenderCertificate)). Answer with [`Answer::Certificate`].
    FetchCertificate,
    /// Tell the server this account's pass: it takes sealed mail for the account's devices with the
    /// last two of them, the older one for 30 days more. Answer with [`Answer::Done`].
    SetPass(Pass),
}

/// Shows what it is about and how long it is.
impl core::fmt::Debug for Action {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::FetchSummary => f.write_str("FetchSummary"),
            Self::Upload(bytes) => write!(f, "Upload({} bytes)", bytes.len()),
            Self::FetchDevices(user) => write!(f, "FetchDevices({user:?})"),
            Self::FetchBundle(of) => write!(f, "FetchBundle({of})"),
            Self::Send { to, envelope, message } => {
                write!(f, "Send({to}, {} bytes, {message:?})", envelope.len())
            }
            Self::SendSealed { to, envelope, pass, message } => {
                write!(f, "SendSealed({to}, {} bytes, {pass:?}, {message:?})", envelope.len())
            }
            Self::FetchCertificate => f.write_str("FetchCertificate"),
            Self::SetPass(pass) => write!(f, "SetPass({pass:?})"),
        }
    }
}

/// Names a task.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId(pub(super) Key);

/// What came of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Answer<'a> {
    /// The server took it.
    Done,
    /// What the server holds of this device.
    Summary(&'a [u8]),
    /// The device list.
    Devices(&'a [u8]),
    /// The bundle.
    Bundle(&'a [u8]),
    /// The certificate.
    Certificate(&'a [u8]),
    /// The server takes no sealed mail for the receiver with this pass. The envelope waits, and is
    /// tried again later; the app is told ([`Event::SealedRefused`]).
    Refused,
    /// The server does not have it, or does not know whom it is for.
    Missing,
    /// The network failed. The task comes again, later each time.
    Failed,
}

/// What an answer led to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Completed {
    /// Nothing that a person sees.
    Handled,
    /// The server has every envelope of this text: a person may see a mark.
    Sent(MessageId),
    /// The task comes again, later.
    Later,
    /// What the server gave was not taken, for this reason. The task comes again, later.
    Rejected(Error),
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(super) enum Key {
    Summary,
    Upload(u64),
    Devices(String),
    Bundle(Address),
    /// The envelope, and the text in it.
    Send(#[serde(with = "at_rest::array")] RowName, Option<MessageId>),
    Certificate,
    Pass(u32),
    /// The envelope for a group, which of its receivers, and the text in it.
    Group(#[serde(with = "at_rest::array")] RowName, u32, MessageId),
}

/// Seconds for which a task that was handed out is not handed out again.
pub(super) const LEASE: u64 = 60;

/// Rows of housekeeping and of work in one call.
const MOST_TIMERS: usize = 64;
const MOST_WORK: usize = 16;

/// Bytes of envelopes in one call.
const MOST_BYTES: usize = 4 << 20;

impl<S: Scope> Client<S> {
    /// What the network should do next: at most `most` tasks, those that others wait for first.
    /// [`Client::complete`] takes what came of each, in any order, and however long it took.
    ///
    /// A task that was handed out is not handed out again for a minute, to no worker on the same
    /// store. One that fails comes again after a while, which doubles each time up to six hours.
    /// Nothing stands in front of anything else: what has to wait is left out, and what cannot be
    /// had is given up after [`Policy::give_up_after`](super::Policy), which
    /// [`Event::Undelivered`] says. What waits for a person is no task at all.
    ///
    /// Call it in a loop until it returns nothing: after connecting, after writing, after
    /// receiving, and when [`Client::next_due`] says. The first task after [`Client::open`] asks the server what it
    /// holds of this device; nothing else comes before that was answered, so that a store that was
    /// restored from a copy sends nothing under keys that were used. What was handed out before the
    /// client was opened, and not completed, is then due at once.
    ///
    /// # Errors
    /// [`Error::Store`], [`Error::BadState`], [`Error::Exhausted`]
    pub fn tasks(
        &mut self,
        most: usize,
        now: UnixTime,
        rng: &mut dyn CryptoRng,
    ) -> Result<Vec<Task>, Error> {
        let mut check = self.check;
        let tasks = self.run(|open| open.whole(|open| tasks(open, &mut check, most, now, rng)))?;
        self.check = check;
        Ok(tasks)
    }
}

/// Whether the server was asked what it holds of this device since the client was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Check {
    Due,
    /// The task was handed out.
    Until(UnixTime),
    Done,
}

/// Tasks that failed, and those that were handed out, are due at once and in their order.
pub(super) fn resume(open: &mut Open<'_>) -> Result<(), Error> {
    wants::hurry_all(open)?;
    group_outs::hurry_all(open)?;
    outbox::hurry_all(open)
}

fn tasks(
    open: &mut Open<'_>,
    check: &mut Check,
    most: usize,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<Vec<Task>, Error> {
    expiry::run(open, now, MOST_TIMERS, rng)?;
    let mut tasks = Tasks { tasks: Vec::new(), most };
    match open.linked() {
        Ok(_) => {}
        // A device that was removed has nothing to do any more.
        Err(Error::Unlinked) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    }
    if *check != Check::Done {
        let is_handed_out =
            matches!(*check, Check::Until(until) if (1..=LEASE).contains(&until.since(now)));
        if !is_handed_out && most > 0 {
            *check = Check::Until(now.wait(LEASE));
            tasks.add(Key::Summary, Action::FetchSummary);
        }
        return Ok(tasks.tasks);
    }
    // What is built here has room to spare, and the app has it.
    stack::apart(|| go_on(open, now, rng))?;
    if most > 0 && upload::check_due(open, now)? {
        upload::check_handed_out(open, now)?;
        tasks.add(Key::Summary, Action::FetchSummary);
    }
    if tasks.has_room()
        && let Some((number, bytes)) = stack::apart(|| upload::next(open, now, rng))?
    {
        tasks.add(Key::Upload(number), Action::Upload(bytes));
    }
    certificates::ensure(open, now)?;
    doors::ensure(open, now, rng)?;
    let own = Want::Devices(open.account.user.clone());
    // Somebody says that there is a newer list of the account. This device may have been removed,
    // and may be a copy of itself: nothing leaves before the server was asked. Where the server has
    // no stamp of this device, what it says of the list is not enough.
    let is_awaited = wants::is_untried(open, &own)? || upload::is_introducing(open)?;
    wanted(open, &mut tasks, now)?;
    if !is_awaited {
        let is_any_open = to_send(open, &mut tasks, now, rng)?;
        if is_any_open {
            delivery::seal(open, now, rng)?;
            stack::apart(|| go_on(open, now, rng))?;
            // Sealed, some of it takes another session.
            wanted(open, &mut tasks, now)?;
            to_send(open, &mut tasks, now, rng)?;
        }
    }
    Ok(tasks.tasks)
}

struct Tasks {
    tasks: Vec<Task>,
    most: usize,
}

impl Tasks {
    fn has_room(&self) -> bool {
        self.tasks.len() < self.most
    }

    fn add(&mut self, key: Key, action: Action) {
        self.tasks.push(Task { id: TaskId(key), action });
    }
}

/// Does what waits for nothing from outside.
fn go_on(open: &mut Open<'_>, now: UnixTime, rng: &mut dyn CryptoRng) -> Result<(), Error> {
    let mut due = Vec::new();
    for kind in wants::INSIDE {
        due.extend(wants::due(open, now, &[*kind], MOST_WORK)?);
    }
    for want in due {
        match &want {
            Want::Work(address) => work::go_on(open, address, now, rng)?,
            Want::Aside(user) => match receive::again(open, user, now, rng)? {
                true => _ = wants::failed(open, &want, now)?,
                false => wants::have(open, &want)?,
            },
            Want::Devices(_) | Want::Bundle(_) | Want::Certificate | Want::Pass => {}
        }
    }
    group_send::go_on_all(open, now, rng)
}

fn wanted(open: &mut Open<'_>, tasks: &mut Tasks, now: UnixTime) -> Result<(), Error> {
    let is_upload_due = upload::is_due(open)?;
    let is_certificate_awaited = certificates::is_awaited(open, now)?;
    for want in wants::due(open, now, wants::OUTSIDE, usize::MAX)? {
        if !tasks.has_room() {
            break;
        }
        let (key, action) = match &want {
            Want::Devices(user) => (Key::Devices(user.clone()), Action::FetchDevices(user.clone())),
            // A session that is begun shows the certificate.
            Want::Bundle(_) if is_certificate_awaited => continue,
            Want::Bundle(address) => {
                // A user whose account key changed waits for a person, and for nothing else.
                let tag = open.tag(&address.user)?;
                let Some(user) = open.user(tag)?.filter(|user| !user.waits()) else {
                    continue;
                };
                if user.list.get(address.device).is_none() {
                    wants::have(open, &want)?;
                    continue;
                }
                (Key::Bundle(address.clone()), Action::FetchBundle(address.clone()))
            }
            // The server issues it for the list that it has.
            Want::Certificate if is_upload_due => continue,
            Want::Certificate => (Key::Certificate, Action::FetchCertificate),
            Want::Pass => {
                let Some(pass) = doors::own(open)? else { continue };
                (Key::Pass(pass.number()), Action::SetPass(pass))
            }
            Want::Work(_) | Want::Aside(_) => continue,
        };
        if wants::hand_out(open, &want, now, now.wait(LEASE))? {
            tasks.add(key, action);
        }
    }
    Ok(())
}

/// Hands out envelopes. Says whether some are open that are not to be any more.
fn to_send(
    open: &mut Open<'_>,
    tasks: &mut Tasks,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<bool, Error> {
    let (mut is_any_open, mut bytes) = (false, 0_usize);
    // Somebody may be no member any more: of such a group no text leaves before it was looked at.
    let unlooked = group_rows::unlooked(open)?;
    let room = tasks.most.saturating_sub(tasks.tasks.len());
    // What is left out stands in front of nothing.
    let most = if unlooked.is_empty() || room == 0 { room } else { usize::MAX };
    for name in outbox::due(open, now, most)? {
        if bytes > MOST_BYTES || !tasks.has_room() {
            break;
        }
        if !unlooked.is_empty() && group_texts::is_of_one(open, &name, &unlooked)? {
            continue;
        }
        let Some(row) = outbox::hand_out(open, &name, now, now.wait(LEASE))? else { continue };
        let OutboxRow { to, message, attempts, envelope, .. } = row;
        let tag = open.tag(&to.user)?;
        let action = if envelope::is_sealed(&envelope) {
            let pass = doors::to_show(open, tag, attempts)?;
            bytes = bytes.saturating_add(envelope.len());
            Action::SendSealed { to, envelope, pass, message }
        } else if tickets::seals(open, tag)? {
            // The app asks for sealed mail since it was encrypted.
            is_any_open = true;
            continue;
        } else {
            bytes = bytes.saturating_add(envelope.len());
            Action::Send { to, envelope, message }
        };
        tasks.add(Key::Send(name, message), action);
    }
    // What hands a chain over is in front of what is encrypted with it.
    let most = tasks.most.saturating_sub(tasks.tasks.len());
    let Some(room) = MOST_BYTES.checked_sub(bytes) else { return Ok(is_any_open) };
    for due in group_out::due(open, &unlooked, (now, now.wait(LEASE)), (most, room), rng)? {
        let message = Some(due.message);
        let action = Action::Send { to: due.to, envelope: due.envelope, message };
        tasks.add(Key::Group(due.name, due.index, due.message), action);
    }
    Ok(is_any_open)
}
