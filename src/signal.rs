//! Signals: what devices say to each other about a call, and is worth nothing soon after
//! (docs/calls.md, 2).
//!
//! ```text
//! signal = type:u8 || call:16 || expires:u64 || body, at most 65,536 bytes
//! ```

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::fmt;

use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::address::Address;
use crate::at_rest;
use crate::codec::{self, Reader, Writer};
use crate::error::Error;
use crate::identity::IdentityKey;
use crate::time::UnixTime;

/// Names a call: 16 bytes, drawn by the device that begins it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CallId(#[serde(with = "at_rest::array")] [u8; 16]);

impl CallId {
    /// From the 16 bytes.
    #[must_use]
    pub const fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Draws 16 bytes.
    #[must_use]
    pub fn random(rng: &mut dyn CryptoRng) -> Self {
        let mut id = [0; 16];
        rng.fill_bytes(&mut id);
        Self(id)
    }

    /// The 16 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

/// In hexadecimal.
impl fmt::Display for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        codec::hex(f, &self.0)
    }
}

impl fmt::Debug for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CallId({self})")
    }
}

/// What a signal is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum SignalKind {
    /// Somebody calls. The body is the app's, such as SDP.
    Offer,
    /// The call is answered. The body is the app's.
    Answer,
    /// How the device can be reached. The body is the app's.
    Candidates,
    /// The call is over, or not taken. The body is the app's.
    Hangup,
    /// The device is in another call. The body is the app's.
    Busy,
    /// The key of the sender's frames. A `Call` makes and takes it.
    Key,
    /// The sender cannot open frames of the receiver. A `Call` makes and takes it.
    KeyWanted,
    /// The sender is in the call. A `Call` makes and takes it.
    Join,
    /// The sender leaves the call. A `Call` makes and takes it.
    Leave,
}

impl SignalKind {
    const fn byte(self) -> u8 {
        match self {
            Self::Offer => 1,
            Self::Answer => 2,
            Self::Candidates => 3,
            Self::Hangup => 4,
            Self::Busy => 5,
            Self::Key => 6,
            Self::KeyWanted => 7,
            Self::Join => 8,
            Self::Leave => 9,
        }
    }

    const fn of(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Offer),
            2 => Some(Self::Answer),
            3 => Some(Self::Candidates),
            4 => Some(Self::Hangup),
            5 => Some(Self::Busy),
            6 => Some(Self::Key),
            7 => Some(Self::KeyWanted),
            8 => Some(Self::Join),
            9 => Some(Self::Leave),
            _ => None,
        }
    }
}

/// A signal to send: `Client::signal` takes it.
///
/// It is worth nothing after `keep` seconds: a device that was out of reach for longer does not get
/// it, and nothing of it is kept.
#[derive(Clone, PartialEq, Eq)]
pub struct Signal {
    /// The call.
    pub call: CallId,
    /// What it is about.
    pub kind: SignalKind,
    /// Seconds after which it is worth nothing, at most [`Signal::MAX_KEEP`].
    pub keep: u64,
    /// The rest; wiped when dropped.
    pub body: Zeroizing<Vec<u8>>,
}

impl Signal {
    /// The longest body: 65,536 bytes.
    pub const MAX_BODY: usize = 1 << 16;

    /// A signal is worth nothing after an hour, whatever it says.
    pub const MAX_KEEP: u64 = 60 * 60;

    /// A signal of the app's own, worth nothing after a minute. The keys and the roster are the
    /// business of a `Call`.
    ///
    /// # Errors
    /// [`Error::TooLong`] above [`Signal::MAX_BODY`]. [`Error::NotPermitted`]: `kind` is one that a
    /// `Call` makes.
    pub fn new(call: CallId, kind: SignalKind, body: &[u8]) -> Result<Self, Error> {
        if body.len() > Self::MAX_BODY {
            return Err(Error::TooLong);
        }
        match kind {
            SignalKind::Key | SignalKind::KeyWanted | SignalKind::Join | SignalKind::Leave => {
                Err(Error::NotPermitted)
            }
            _ => Ok(Self { call, kind, keep: 60, body: Zeroizing::new(body.to_vec()) }),
        }
    }
}

/// Shows what it is about and how long it is.
impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { call, kind, keep, body } = self;
        write!(f, "Signal({kind:?}, {call}, {} bytes, {keep} s)", body.len())
    }
}

/// A signal that came, in a session that proves whose it is.
///
/// Only a client makes one: [`Client::take_signals`](crate::Client::take_signals).
#[derive(Clone, PartialEq, Eq)]
pub struct ReceivedSignal {
    pub(crate) from: Address,
    pub(crate) identity: IdentityKey,
    pub(crate) call: CallId,
    pub(crate) kind: SignalKind,
    pub(crate) expires: UnixTime,
    pub(crate) body: Zeroizing<Vec<u8>>,
}

impl ReceivedSignal {
    /// The device that sent it: a listed one of its user.
    #[must_use]
    pub const fn from(&self) -> &Address {
        &self.from
    }

    /// That device's identity.
    #[must_use]
    pub const fn identity(&self) -> IdentityKey {
        self.identity
    }

    /// The call.
    #[must_use]
    pub const fn call(&self) -> CallId {
        self.call
    }

    /// What it is about.
    #[must_use]
    pub const fn kind(&self) -> SignalKind {
        self.kind
    }

    /// It is worth nothing after this time, by its sender's clock.
    #[must_use]
    pub const fn expires(&self) -> UnixTime {
        self.expires
    }

    /// What it says: the app's bytes, or those of a `Call`.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.body
    }
}

/// Shows whose it is, what it is about and how long it is.
impl fmt::Debug for ReceivedSignal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, call, kind, body, .. } = self;
        write!(f, "ReceivedSignal({kind:?}, {call}, from {from}, {} bytes)", body.len())
    }
}

/// The devices that may be in a call: those on the lists of its users.
///
/// Only a client makes one: [`Client::call_members`](crate::Client::call_members). So nobody gets a
/// key because a server says that they are in the call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members {
    pub(crate) devices: BTreeMap<Address, IdentityKey>,
}

impl Members {
    /// The devices.
    pub fn devices(&self) -> impl Iterator<Item = (&Address, &IdentityKey)> {
        self.devices.iter()
    }
}

/// A signal as it travels.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct SignalBody<'a> {
    pub(crate) call: CallId,
    pub(crate) kind: SignalKind,
    pub(crate) expires: UnixTime,
    pub(crate) body: &'a [u8],
}

impl<'a> SignalBody<'a> {
    /// `type:u8 || call:16 || expires:u64 || body`
    pub(crate) fn write(&self, out: Writer) -> Writer {
        let out = out.u8(self.kind.byte()).bytes(&self.call.0);
        out.u64(self.expires.as_secs()).bytes(self.body)
    }

    /// None for a type of a later version, which is ignored.
    ///
    /// # Errors
    /// [`Error::Malformed`]
    pub(crate) fn read(mut reader: Reader<'a>) -> Result<Option<Self>, Error> {
        let kind = reader.u8()?;
        let call = CallId(*reader.array()?);
        let expires = reader.u64()?;
        let body = reader.rest();
        if kind == 0 || body.len() > Signal::MAX_BODY {
            return Err(Error::Malformed);
        }
        let Some(kind) = SignalKind::of(kind) else { return Ok(None) };
        let expires = UnixTime::from_secs(expires).map_err(|_| Error::Malformed)?;
        Ok(Some(Self { call, kind, expires, body }))
    }
}
