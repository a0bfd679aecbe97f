//! The one error of the crate: a variant per cause, a [`Remedy`] per variant.

use core::fmt;

/// Why an operation was refused. Whatever refused it left everything as it was.
///
/// No variant carries a secret, text from outside, or which of several checks on secret data failed.
/// What to do next is [`Error::remedy`]. The causes are those of `docs/protocol.md`, section 9.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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
    /// The bundle is of the caller's own identity.
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
    pub const fn remedy(self) -> Remedy {
        match self {
            Self::UnsupportedVersion | Self::Malformed | Self::Replay | Self::Duplicate | Self::Decrypt => {
                Remedy::Drop
            }
            Self::InvalidKey | Self::BadSignature | Self::StaleBundle | Self::FutureBundle => {
                Remedy::FetchBundle
            }
            Self::UnknownHeader => Remedy::OtherSession,
            Self::UnknownPrekey => Remedy::AskAgain,
            Self::TooFarAhead | Self::TooOld | Self::Exhausted => Remedy::NewSession,
            Self::OwnIdentity | Self::TooLong => Remedy::FixCall,
            Self::BadState => Remedy::RestoreState,
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
        })
    }
}

impl core::error::Error for Error {}
