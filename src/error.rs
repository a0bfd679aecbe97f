//! The one error of the crate: a variant per cause, a [`Remedy`] per variant.

use alloc::boxed::Box;
use core::fmt;

use crate::address::Address;

/// Why an operation was refused. Whatever refused it left everything as it was.
///
/// No variant carries a secret, text from outside, or which of several checks on secret data failed.
/// What to do next is [`Error::remedy`]. The causes are those of `docs/protocol.md`, section 9.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Error {
    /// The first byte is not a version that this crate speaks.
    UnsupportedVersion,
    /// The layout is wrong: of a bundle, a message, an opened header, or the ratchet message in it.
    Malformed,
    /// A public key is not one: an identity outside the prime-order subgroup, an ML-KEM key that fails
    /// FIPS 203's check, an X25519 result that is all zero.
    InvalidKey,
    /// A signature in a bundle does not hold.
    BadSignature,
    /// The bundle's signed prekey or last-resort key is older than 60 days.
    StaleBundle,
    /// A signed key of the bundle was made more than a day after `now`.
    FutureBundle,
    /// The bundle, the address or the only device of a user is the caller's own.
    OwnIdentity,
    /// An initial message names a prekey whose secret is not here: used already, or rotated away.
    UnknownPrekey,
    /// An initial message repeats a handshake that was accepted before.
    Replay,
    /// No header key opens the message: it is for another session, repeated or late from a chain that is no longer
    /// kept, or forged.
    UnknownHeader,
    /// More than 25,000 messages lie between this one and the last one received.
    TooFarAhead,
    /// The message was decrypted before.
    Duplicate,
    /// The message is genuine, but its key was dropped to keep within the limits: it is lost.
    TooOld,
    /// The message is not what the peer encrypted, or does not belong here.
    Decrypt,
    /// A plaintext is longer than 2^20 bytes, or associated data longer than 2^16.
    TooLong,
    /// A counter came to its end: a chain's messages, or a device's prekey ids, which takes a new identity.
    Exhausted,
    /// Stored bytes are not what `encode` made, or are of a version that this crate does not read.
    BadState,
    /// There is no session to write in with these devices: give a bundle of each, then repeat the call.
    BundlesNeeded(Box<[Address]>),
    /// No device list of this user is known: fetch it, then repeat the call.
    DevicesNeeded(Box<str>),
    /// The user has another account key than before, so this may be somebody else: have people compare their keys, then
    /// accept the new one.
    IdentityChanged(Box<str>),
    /// The device is not one of the user's device list.
    UnknownDevice(Box<Address>),
    /// The device list is older than the one known.
    StaleDeviceList,
    /// Two device lists have the same number and say different things: somebody else holds the account key.
    ForkedDeviceList,
    /// So many of these came from one sender that the next ones are refused without looking: keep it for later.
    RateLimited,
    /// The store has no account yet.
    NoAccount,
    /// The store has an account already.
    AccountExists,
    /// The call takes the account key, which this device does not hold, or is about this device itself.
    NotPermitted,
    /// This device was removed from the account.
    Unlinked,
    /// A user's name is empty or longer than 255 bytes.
    BadName,
    /// A linking code was mistyped, or the answer to it is not for this device.
    BadLinkCode,
    /// The passphrase or the key is not the one that the store was encrypted under.
    WrongPassphrase,
    /// The store failed; nothing changed in it.
    Store(StoreFault),
}

/// What failed in a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StoreFault {
    /// Another process, or another part of this one, has it open.
    Locked,
    /// There is no room left.
    Full,
    /// What is there was not written by a store of this kind, or is damaged.
    Corrupt,
    /// Reading or writing failed. After a failed write a store may have to be opened again.
    Io,
    /// A row was asked for that has not been read yet; [`Overlay`](crate::store::Overlay) says which.
    Unread,
    /// Any other cause.
    Other,
}

/// What the caller can do about an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Remedy {
    /// Drop these bytes; nothing was lost and nothing needs to be done.
    Drop,
    /// Give the message to another session with its sender; where none opens it, drop it. It is no sign that this
    /// session is broken: whoever can send bytes can make such a message.
    OtherSession,
    /// Drop it. If it was a bundle, fetch a fresh one from the server.
    FetchBundle,
    /// Have the sender encrypt it again, in a session from a fresh bundle. Nothing is authenticated yet, so anyone can
    /// bring this about: limit how often, and let it change nothing else.
    AskAgain,
    /// Establish a new session and have the sender repeat what this message said.
    NewSession,
    /// Correct the call, or what is given to it.
    FixCall,
    /// Load another copy of the state; without one, start again from new keys.
    RestoreState,
    /// Fetch the user's device list, give it to the client, and repeat the call.
    FetchDevices,
    /// Have people compare their keys before going on.
    CheckIdentity,
    /// Try again later: make room in the store, close what else has it open, let a flood pass.
    Retry,
}

impl Error {
    /// What to do next.
    ///
    /// ```
    /// use subrosa::{Error, Remedy};
    ///
    /// assert_eq!(Error::Duplicate.remedy(), Remedy::Drop);
    /// assert_eq!(Error::StaleBundle.remedy(), Remedy::FetchBundle);
    /// assert_eq!(Error::TooOld.remedy(), Remedy::NewSession);
    /// ```
    #[must_use]
    pub const fn remedy(&self) -> Remedy {
        match self {
            Self::UnsupportedVersion
            | Self::Malformed
            | Self::Replay
            | Self::Duplicate
            | Self::Decrypt
            | Self::StaleDeviceList => Remedy::Drop,
            Self::InvalidKey
            | Self::BadSignature
            | Self::StaleBundle
            | Self::FutureBundle
            | Self::BundlesNeeded(_) => Remedy::FetchBundle,
            Self::DevicesNeeded(_) | Self::UnknownDevice(_) => Remedy::FetchDevices,
            Self::IdentityChanged(_) | Self::ForkedDeviceList => Remedy::CheckIdentity,
            Self::UnknownHeader => Remedy::OtherSession,
            Self::UnknownPrekey => Remedy::AskAgain,
            Self::TooFarAhead | Self::TooOld | Self::Exhausted => Remedy::NewSession,
            Self::OwnIdentity
            | Self::TooLong
            | Self::NoAccount
            | Self::AccountExists
            | Self::NotPermitted
            | Self::Unlinked
            | Self::BadName
            | Self::BadLinkCode
            | Self::WrongPassphrase
            | Self::Store(StoreFault::Unread) => Remedy::FixCall,
            Self::BadState | Self::Store(StoreFault::Corrupt) => Remedy::RestoreState,
            Self::Store(_) | Self::RateLimited => Remedy::Retry,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnsupportedVersion => "unsupported protocol version",
            Self::Malformed => "malformed bytes",
            Self::InvalidKey => "invalid public key",
            Self::BadSignature => "a signature in the bundle does not hold",
            Self::StaleBundle => "the bundle is too old",
            Self::FutureBundle => "the bundle is from the future: check the clocks",
            Self::OwnIdentity => "the bundle is of the caller's own identity",
            Self::UnknownPrekey => "the prekey is not here: used already, or rotated away",
            Self::Replay => "the handshake was accepted before",
            Self::UnknownHeader => "the message belongs to no chain of this session",
            Self::TooFarAhead => "too many messages are missing before this one",
            Self::Duplicate => "the message was decrypted before",
            Self::TooOld => "the message's key is no longer kept",
            Self::Decrypt => "the message cannot be decrypted",
            Self::TooLong => "the plaintext or the associated data is too long",
            Self::Exhausted => "a counter came to its end",
            Self::BadState => "the stored state cannot be read",
            Self::BundlesNeeded(_) => "prekey bundles are needed of the user's devices",
            Self::DevicesNeeded(_) => "the user's device list is needed",
            Self::IdentityChanged(_) => "the user's account key changed: compare keys, then accept it",
            Self::UnknownDevice(_) => "the device is not in the user's device list",
            Self::StaleDeviceList => "the device list is older than the one known",
            Self::ForkedDeviceList => "two device lists with the same number differ",
            Self::RateLimited => "too many of these from this sender",
            Self::NoAccount => "the store has no account yet",
            Self::AccountExists => "the store has an account already",
            Self::NotPermitted => "this takes a device that holds the account key",
            Self::Unlinked => "this device was removed from the account",
            Self::BadName => "a user's name is empty or too long",
            Self::BadLinkCode => "the linking code does not fit",
            Self::WrongPassphrase => "wrong passphrase or key",
            Self::Store(StoreFault::Locked) => "the store is open elsewhere",
            Self::Store(StoreFault::Full) => "the store is full",
            Self::Store(StoreFault::Corrupt) => "the store is damaged",
            Self::Store(StoreFault::Io) => "the store could not be read or written",
            Self::Store(StoreFault::Unread) => "a row of the store has not been read yet",
            Self::Store(StoreFault::Other) => "the store failed",
        })
    }
}

impl core::error::Error for Error {}
