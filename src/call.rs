//! Audio and video calls: keys for each device, and frames that no server can read
//! (docs/calls.md).
//!
//! ```text
//! base_key = HKDF(0, secret, "Subrosa v1 call" || call:16 || generation:u32 || stream:u8 ||
//!            length:u8 || user || device:u32, 32)          secret: 32 random bytes of a device
//! KID      = generation << 2 | stream                      frame  = clear:0..16 || SFrame (RFC 9605)
//! ```
//!
//! Media goes over the app's own transport, such as WebRTC, through any SFU, and each frame is
//! sealed with a key of the device that sends it. The keys go in [signals](crate::Signal), through
//! the sessions of the client, to the devices that are in the call: listed devices of its users
//! that said so themselves, whatever a server claims.
//!
//! | | |
//! | --- | --- |
//! | [`Call`] | one call of this device: who is in, keys, frames |
//! | [`Outgoing`] | a signal that a call wants to be sent |
//! | [`Sealer`], [`Opener`] | frames of one stream under one key, for a media worker |
//! | [`ExportedKey`] | a key for a worker, or for a media engine that has RFC 9605 itself |
//! | [`Openers`] | frames of one device under all its keys, for a worker |

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::fmt;

use rand_core::CryptoRng;
use zeroize::Zeroizing;

use crate::address::Address;
use crate::error::Error;
use crate::signal::{CallId, Members, ReceivedSignal, Signal, SignalKind};

mod frame;
mod header;
mod keys;
mod message;
mod openers;
mod receiving;
mod roster;
mod sending;
mod window;

pub use frame::{MAX_CLEAR, MAX_FRAME, MAX_OVERHEAD, Opener, Sealer, Suite};
pub use keys::{ExportedKey, Stream};
pub use openers::Openers;

use keys::Owner;
use message::KeyMessage;
use roster::{Heard, Roster};
use sending::Sending;

/// One call, as this device takes part in it. A plain value: nothing of it is stored, and after a
/// crash the device comes back as a new instance with new keys.
///
/// It does no I/O and knows no clock. `now` counts milliseconds: those since the Unix epoch when
/// the call is made, and from then on by a clock that does not jump. It is neither `Clone` nor
/// serializable, since two copies would use nonces twice.
///
/// | when | do |
/// | --- | --- |
/// | the call begins, and when a device list changes | [`set_members`](Call::set_members) with [`Client::call_members`](crate::Client::call_members) |
/// | a signal came ([`Client::take_signals`](crate::Client::take_signals)) | [`take`](Call::take) |
/// | after each of these, and at [`next_at`](Call::next_at) | [`tick`](Call::tick), and send each [`Outgoing`] by [`Client::signal`](crate::Client::signal) |
/// | a frame is to be sent, came | [`seal`](Call::seal), [`open`](Call::open) |
/// | the call is over | [`leave`](Call::leave), and send what it returns |
///
/// A frame that does not open is silence, never noise: drop it.
pub struct Call {
    id: CallId,
    me: Address,
    instance: u64,
    now: u64,
    roster: Roster,
    sending: Sending,
    /// By when another generation has to be in use.
    rotate_by: Option<u64>,
}

/// A signal that a [`Call`] wants to be sent: give it to [`Client::signal`](crate::Client::signal).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Outgoing {
    /// To which devices.
    pub to: Vec<Address>,
    /// What.
    pub signal: Signal,
}

/// What a [`Call`] did with a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Taken {
    /// It was about keys, or who is in the call.
    Handled,
    /// It is the app's: an offer, an answer, candidates, a hang-up or a busy.
    ForApp,
    /// It is of another call.
    OtherCall,
}

/// Milliseconds from a new generation to its use.
const LEAD: u64 = 1_000;

/// Who joins is told a generation that is younger than this, and makes a new one otherwise.
const YOUNG: u64 = 10_000;

/// Seconds for which the signals of a call are worth something.
const KEEP: u64 = 60;

impl Call {
    /// Begins to take part in a call. Nobody is told before [`Call::set_members`] and
    /// [`Call::tick`]. Draws 32 bytes.
    ///
    /// `now` becomes the number of this instance: after a crash it must be higher, or the others
    /// refuse its keys. Milliseconds since the Unix epoch are.
    pub fn new(id: CallId, me: &Address, suite: Suite, now: u64, rng: &mut dyn CryptoRng) -> Self {
        Self {
            id,
            me: me.clone(),
            instance: now,
            now,
            roster: Roster::default(),
            sending: Sending::new(suite, now, rng),
            rotate_by: None,
        }
    }

    /// The call's name.
    #[must_use]
    pub const fn id(&self) -> CallId {
        self.id
    }

    /// This device.
    #[must_use]
    pub const fn address(&self) -> &Address {
        &self.me
    }

    /// Which beginning of this device's part it is: what [`Call::new`] was given as `now`.
    #[must_use]
    pub const fn instance(&self) -> u64 {
        self.instance
    }

    /// Takes who may be in the call: the devices of its users, as their lists have them now. Who is
    /// in the call and is not among them is removed, and hears nothing from this call on.
    pub fn set_members(&mut self, members: &Members, now: u64, rng: &mut dyn CryptoRng) {
        self.advance(now);
        if self.roster.set(&self.me, members, self.now) {
            self.rotate_by = Some(self.now);
            self.rotate_if_due(rng);
        }
    }

    /// The other devices that are in the call.
    pub fn present(&self) -> impl Iterator<Item = &Address> {
        self.roster.here().map(|(address, _)| address)
    }

    /// Which beginning of its part a device is in the call as. A higher number than before is
    /// another one, after a crash or a reload: whatever the transport has for the former one is
    /// over. None where the device is not in the call.
    #[must_use]
    pub fn instance_of(&self, device: &Address) -> Option<u64> {
        let device = self.roster.devices.get(device)?;
        device.instance.filter(|_| device.is_here())
    }

    /// Whether frames of a device can be opened: it is in the call, and its key is here.
    #[must_use]
    pub fn has_key(&self, from: &Address) -> bool {
        let device = self.roster.devices.get(from);
        device.is_some_and(|device| device.is_here() && device.receiving.has_key())
    }

    /// Takes a signal. Then call [`Call::tick`].
    ///
    /// # Errors
    /// Nothing changed: drop the signal. [`Error::UnknownDevice`]: the device is none of the
    /// members; where its user's device list is newer by now, give that to [`Call::set_members`]
    /// and repeat the call. [`Error::StaleKey`], [`Error::Malformed`],
    /// [`Error::UnsupportedVersion`], [`Error::OwnIdentity`].
    pub fn take(&mut self, signal: &ReceivedSignal, now: u64) -> Result<Taken, Error> {
        self.advance(now);
        if signal.call != self.id {
            return Ok(Taken::OtherCall);
        }
        match signal.kind {
            SignalKind::Join | SignalKind::Leave | SignalKind::Key | SignalKind::KeyWanted => {}
            _ => return Ok(Taken::ForApp),
        }
        if signal.from == self.me {
            return Err(Error::OwnIdentity);
        }
        let device = self.roster.member(&signal.from)?;
        if device.identity != signal.identity {
            return Err(Error::UnknownDevice(Box::new(signal.from.clone())));
        }
        let now = self.now;
        let heard = match signal.kind {
            SignalKind::Leave => {
                let was_here = device.left(message::read_instance(&signal.body)?, now)?;
                if was_here {
                    self.rotate_within(LEAD);
                }
                return Ok(Taken::Handled);
            }
            SignalKind::Key => {
                let key = KeyMessage::decode(&signal.body)?;
                let instance = key.instance;
                // A newer instance begins with no generations, so that none is refused.
                let heard = if device.check(instance)? {
                    let heard = device.heard(instance, now)?;
                    device.receiving.add(key, now)?;
                    heard
                } else {
                    device.receiving.add(key, now)?;
                    device.heard(instance, now)?
                };
                device.is_wanted = false;
                heard
            }
            kind => {
                let heard = device.heard(message::read_instance(&signal.body)?, now)?;
                if kind == SignalKind::KeyWanted {
                    (device.owed_newest, device.owed_current) = (true, true);
                }
                heard
            }
        };
        if heard == Heard::Arrived && self.age_of_newest() >= YOUNG {
            self.rotate_within(LEAD);
        }
        Ok(Taken::Handled)
    }

    /// Lets time pass, and returns the signals to send now. Draws 32 bytes where a new key is due.
    ///
    /// Call it after [`Call::take`] and [`Call::set_members`], and at [`Call::next_at`] at the
    /// latest. It brings about at most one signal of a kind to each device in a second.
    pub fn tick(&mut self, now: u64, rng: &mut dyn CryptoRng) -> Vec<Outgoing> {
        self.advance(now);
        if self.roster.expire(self.now) {
            self.rotate_within(LEAD);
        }
        if self.sending.is_worn() {
            self.rotate_within(LEAD);
        }
        self.rotate_if_due(rng);
        for device in self.roster.devices.values_mut() {
            device.receiving.tidy(self.now);
        }
        let mut outgoing = self.keys();
        let (instance, now) = (message::instance(self.instance), self.now);
        let mut wanted = Vec::new();
        let mut joins = Vec::new();
        for (address, device) in &mut self.roster.devices {
            if device.want_at().is_some_and(|at| at <= now) {
                (device.is_wanted, device.wanted_at) = (false, Some(now));
                wanted.push(address.clone());
            }
            if device.is_member && device.join_at <= now {
                device.joined(now);
                joins.push(address.clone());
            }
        }
        for (to, kind) in [(wanted, SignalKind::KeyWanted), (joins, SignalKind::Join)] {
            outgoing.extend(self.outgoing(to, kind, instance.clone()));
        }
        outgoing
    }

    /// When [`Call::tick`] has something to do next, if nothing comes before.
    #[must_use]
    pub fn next_at(&self) -> Option<u64> {
        let newest = self.sending.newest().number;
        let of_device = |device: &roster::Device| {
            let silent = device.heard_at.saturating_add(roster::SILENT);
            let times = [
                device.is_member.then_some(device.join_at),
                device.is_here().then_some(silent),
                device.key_at(newest).filter(|_| !self.waits_for_rotation(device)),
                device.want_at(),
                device.receiving.next_at(),
            ];
            times.into_iter().flatten().min()
        };
        let own = [self.sending.next_at(), self.rotation_at()];
        let devices = self.roster.devices.values().filter_map(of_device);
        own.into_iter().flatten().chain(devices).min().map(|at| at.max(self.now))
    }

    /// Seals a frame in place, for everybody in the call. Its first `clear` bytes (at most 16) stay
    /// readable, for codecs and SFUs, and are authenticated.
    ///
    /// # Errors
    /// [`Error::TooLong`]: as [`Sealer::seal`]. [`Error::NotPermitted`]: the sealer of the stream
    /// was taken. [`Error::Exhausted`].
    #[inline]
    pub fn seal(
        &mut self,
        stream: Stream,
        clear: usize,
        frame: &mut Vec<u8>,
        now: u64,
    ) -> Result<(), Error> {
        self.advance(now);
        let owner = Owner { call: self.id, device: &self.me };
        self.sending.seal(owner, stream, clear, frame)
    }

    /// Opens a frame in place, that came, as the transport says, `from` there. Says of which stream
    /// it is.
    ///
    /// The transport needs to be right about `from` only for things to work: nothing opens under a
    /// false name.
    ///
    /// # Errors
    /// The frame is as it was: do not play it. [`Error::WaitingForKey`]: its key is not here yet,
    /// and [`Call::tick`] asks for it. [`Error::Duplicate`]: it was opened before, or is late.
    /// [`Error::UnknownDevice`]: the device may not be in the call. [`Error::Decrypt`],
    /// [`Error::Malformed`], [`Error::TooLong`].
    #[inline]
    pub fn open(
        &mut self,
        from: &Address,
        clear: usize,
        frame: &mut Vec<u8>,
        now: u64,
    ) -> Result<Stream, Error> {
        self.advance(now);
        let owner = Owner { call: self.id, device: from };
        let now = self.now;
        let device = self.roster.member(from)?;
        let opened = if device.is_here() {
            device.receiving.open(owner, clear, frame, now)
        } else {
            Err(Error::WaitingForKey)
        };
        if opened == Err(Error::WaitingForKey) {
            device.miss(now);
        }
        opened
    }

    /// Gives the sealer of a stream away, for a media worker, and ends [`Call::seal`] for that
    /// stream until there is a new key. None where the one of the present key was given away.
    ///
    /// A new key comes when somebody joins or leaves: after each [`Call::tick`], take the new
    /// sealer if there is one, and use that from then on.
    pub fn take_sender(&mut self, stream: Stream, now: u64) -> Option<Sealer> {
        self.advance(now);
        self.sending.take(Owner { call: self.id, device: &self.me }, stream)
    }

    /// As [`Call::take_sender`], for a worker with a memory of its own (`Sealer::from`), or a media
    /// engine that has RFC 9605 itself and counts from 0.
    /// None where a frame of the stream was sealed here under the present key.
    pub fn export_sender(&mut self, stream: Stream, now: u64) -> Option<ExportedKey> {
        self.advance(now);
        self.sending.export(Owner { call: self.id, device: &self.me }, self.instance, stream)
    }

    /// The keys that open the frames of a device, for [`Openers`] in a worker, or for a media
    /// engine that has RFC 9605 itself. That engine has to see to it that each frame is opened
    /// once; [`Openers`] does.
    #[must_use]
    pub fn export(&self, from: &Address) -> Vec<ExportedKey> {
        let owner = Owner { call: self.id, device: from };
        let device = self.roster.devices.get(from).filter(|device| device.is_here());
        let keys = device
            .and_then(|device| Some(device.receiving.export(owner, device.instance?, self.now)));
        keys.unwrap_or_default()
    }

    /// A frame of a device came where only its keys are, and [`Openers::open`] said
    /// [`Error::WaitingForKey`]: as where [`Call::open`] says so, [`Call::tick`] asks for the key.
    ///
    /// # Errors
    /// [`Error::UnknownDevice`]: the device may not be in the call.
    pub fn missed(&mut self, from: &Address, now: u64) -> Result<(), Error> {
        self.advance(now);
        let now = self.now;
        self.roster.member(from)?.miss(now);
        Ok(())
    }

    /// Leaves the call: what to send. The others know by themselves after 90 seconds if that gets
    /// lost.
    #[must_use = "the others are to be told"]
    pub fn leave(self) -> Vec<Outgoing> {
        let to: Vec<Address> = self.present().cloned().collect();
        let body = message::instance(self.instance);
        self.outgoing(to, SignalKind::Leave, body).into_iter().collect()
    }

    /// Time passes, and never goes back.
    #[inline]
    fn advance(&mut self, now: u64) {
        self.now = self.now.max(now);
        self.sending.advance(self.now);
    }

    fn age_of_newest(&self) -> u64 {
        self.now.saturating_sub(self.sending.newest().made_at)
    }

    fn rotate_within(&mut self, lead: u64) {
        let by = self.now.saturating_add(lead);
        self.rotate_by = Some(self.rotate_by.map_or(by, |known| known.min(by)));
    }

    /// When a new generation is made: at once, but no two within a second, as long as it is in use
    /// in time.
    fn rotation_at(&self) -> Option<u64> {
        let next = self.sending.newest().made_at.saturating_add(LEAD);
        self.rotate_by.map(|by| by.min(next))
    }

    fn rotate_if_due(&mut self, rng: &mut dyn CryptoRng) {
        if self.rotation_at().is_none_or(|at| at > self.now) {
            return;
        }
        let use_at = self.rotate_by.take().unwrap_or(self.now).max(self.now);
        self.sending.rotate(use_at, self.now, rng);
        for (_, device) in self.roster.here_mut() {
            device.owed_newest = true;
        }
    }

    /// Who has just come gets no older key while a new one is due.
    fn waits_for_rotation(&self, device: &roster::Device) -> bool {
        self.rotate_by.is_some() && device.may_have.is_none()
    }

    /// The keys that devices are to be told now.
    fn keys(&mut self) -> Vec<Outgoing> {
        let (newest, current, now) =
            (self.sending.newest().number, self.sending.current(), self.now);
        let mut told: BTreeMap<u32, Vec<Address>> = BTreeMap::new();
        let is_rotating = self.rotate_by.is_some();
        for (address, device) in self.roster.here_mut() {
            let waits = is_rotating && device.may_have.is_none();
            if waits || device.key_at(newest).is_none_or(|at| at > now) {
                continue;
            }
            let first = *device.may_have.get_or_insert(newest);
            if device.owed_current && first <= current && current != newest {
                told.entry(current).or_default().push(address.clone());
            }
            told.entry(newest).or_default().push(address.clone());
            (device.owed_newest, device.owed_current) = (false, false);
            device.told = Some((newest, now));
        }
        let say = |(generation, to): (u32, Vec<Address>)| {
            let message = self.sending.tell(generation, self.instance)?;
            self.outgoing(to, SignalKind::Key, message.encode())
        };
        told.into_iter().filter_map(say).collect()
    }

    fn outgoing(
        &self,
        to: Vec<Address>,
        kind: SignalKind,
        body: Zeroizing<Vec<u8>>,
    ) -> Option<Outgoing> {
        let signal = Signal { call: self.id, kind, keep: KEEP, body };
        (!to.is_empty()).then_some(Outgoing { to, signal })
    }
}

/// Shows whose it is, and who is in it.
impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let present = self.roster.here().count();
        write!(f, "Call({}, {}, {present} others)", self.id, self.me)
    }
}

#[cfg(test)]
mod tests;
