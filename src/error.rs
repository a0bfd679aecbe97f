//! The one error of the crate: a variant per cause, a [`Remedy`] per variant.

use alloc::boxed::Box;
use core::fmt;

use crate::address::Address;

mod store;

pub use store::{StoreError, StoreFault};

/// Why an operation was refused. Whatever refused it left everything as it was.
///
/// No variant carries a secret, text from outside, or which of several checks on secret data
/// failed. A store's failure keeps the store's own error: [`source`](core::error::Error::source).
/// What to do next is [`Error::remedy`]. The causes are those of `docs/protocol.md`, section 9.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Error {
    /// The first byte is not a version that this crate speaks.
    UnsupportedVersion,
    /// The layout is wrong: of a bundle, a message, an opened header, or the ratchet message in it.
    Malformed,
    /// A public key is not one: an identity outside the prime-order subgroup, an ML-KEM key that
    /// fails FIPS 203's check, an X25519 result that is all zero.
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
    /// No header key opens the message: it is for another session, repeated or late from a chain
    /// that is no longer kept, or forged.
    UnknownHeader,
    /// More than 25,000 messages lie between this one and the last one received.
    TooFarAhead,
    /// The message was decrypted before.
    Duplicate,
    /// The message is genuine, but its key was dropped to keep within the limits: it is lost.
    TooOld,
    /// The message is not what the peer encrypted, or does not belong here.
    Decrypt,
    /// A plaintext is longer than 2^20 bytes, associated data longer than 2^16, or a file longer
    /// than 2^40.
    TooLong,
    /// A counter came to its end: a chain's messages, or a device's prekey ids, which takes a new
    /// identity.
    Exhausted,
    /// Stored bytes are not what `encode` made, or are of a version that this crate does not read.
    BadState,
    /// There is no session to write in with these devices: give a bundle of each, then repeat the
    /// call.
    BundlesNeeded(Box<[Address]>),
    /// No device list of this user is known: fetch it, then repeat the call.
    DevicesNeeded(Box<str>),
    /// The user has another account key than before, so this may be somebody else: have people
    /// compare their keys, then accept the new one.
    IdentityChanged(Box<str>),
    /// The device is not one of the user's device list.
    UnknownDevice(Box<Address>),
    /// The device list is older than the one known.
    StaleDeviceList,
    /// Two different device lists have the same version: somebody else holds the account key.
    ForkedDeviceList,
    /// An envelope came without the address of its sender, and does not say itself who that is.
    NoSender,
    /// The user is blocked here.
    Blocked,
    /// So many of these came from one sender that the next ones are refused without looking: keep
    /// it for later.
    RateLimited,
    /// The store has no account yet.
    NoAccount,
    /// The store has an account already.
    AccountExists,
    /// The call takes the account key, which this device does not hold, or is about this device
    /// itself. Or a member of a group may not make this change.
    NotPermitted,
    /// There is no such group in this store, or this user is not in it.
    UnknownGroup,
    /// This device was removed from the account.
    Unlinked,
    /// A user's name is empty or longer than 255 bytes.
    BadName,
    /// The account has 32 devices already, and one more would be too many.
    TooManyDevices,
    /// A time is before 2020 or after 2200: the clock was never set, or does not count seconds.
    ImplausibleClock,
    /// A linking code was mistyped, or the answer to it is not for this device.
    BadLinkCode,
    /// What was scanned or pasted is no verification code: scan it once more.
    BadScan,
    /// The call does not fit where the verification with this user stands:
    /// [`Client::sas`](crate::Client::sas) and the events in the inbox say where that is.
    OutOfTurn,
    /// The passphrase or the key is not the one that the store was encrypted under.
    WrongPassphrase,
    /// A passphrase has fewer than two characters, which protects nothing; or a person thought up
    /// one that is to guard an account key, which is worth more than that.
    WeakPassphrase,
    /// A vault has one to eight locks, an archive one to four: this would be none or too many, or
    /// none has this id.
    BadLocks,
    /// A recovery code was mistyped.
    BadRecoveryCode,
    /// This chunk of a blob is not what its sender encrypted: fetch it again.
    /// [`Descriptor::locate`](crate::file::Descriptor::locate) says where it is.
    DamagedChunk(u64),
    /// A blob is not the one of its descriptor: shorter, longer, or another file.
    DamagedFile,
    /// The passphrase, the key or the code is the right one, and the archive is damaged: this chunk
    /// of it, or what stands before the chunks. Look for another copy of it.
    DamagedArchive {
        /// The first chunk that is not as it was written; none where it is before the first.
        chunk: Option<u64>,
    },
    /// A later version of this crate made the archive.
    NewerArchive,
    /// The account has another key now than the one in the archive, which counts for nothing any
    /// more: link this device, or begin a new account, and then take contacts and history from the
    /// archive ([`Client::import`](crate::Client::import)).
    AccountReplaced,
    /// An archive is being restored into this store: restore it again, and it goes on; or begin
    /// with an empty store.
    UnfinishedRestoration,
    /// A file changed while it was sealed, or since its manifest was made.
    SourceChanged,
    /// The key of a frame is not here yet. The call asks for it; the frame is silence.
    WaitingForKey,
    /// A signal of a call is of an earlier instance of its sender, or names a generation that was
    /// seen with another key or is over.
    StaleKey,
    /// The store failed; nothing changed in it.
    Store(StoreError),
}

/// What the caller can do about an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Remedy {
    /// Drop these bytes; nothing was lost and nothing needs to be done.
    Drop,
    /// Give the message to another session with its sender; where none opens it, drop it. It is no
    /// sign that this session is broken: whoever can send bytes can make such a message.
    OtherSession,
    /// Drop it. If it was a bundle, fetch a fresh one from the server.
    FetchBundle,
    /// Have the sender encrypt it again, in a session from a fresh bundle. Nothing is authenticated
    /// yet, so anyone can bring this about: limit how often, and let it change nothing else.
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
    /// Have people set the clock of this device, then repeat the call.
    CheckClock,
    /// Remove a device of the account, then repeat the call.
    RemoveDevice,
    /// Link this device anew, in an empty store: show the code of a new
    /// [`NewDevice`](crate::NewDevice).
    LinkAgain,
    /// Fetch the blob again, or the chunk that is named. If it comes the same a second time, the
    /// sender has to send the file again.
    FetchBlob,
    /// Drop what was uploaded of this file, and seal it anew with a new
    /// [`Sealer`](crate::file::Sealer), which draws another key.
    SealAgain,
    /// Try again later: make room in the store, close what else has it open, let a flood pass.
    Retry,
    /// Drop the store and what works on it, open it anew, then repeat the call.
    Reopen,
    /// Have people install a later version of the app; this one cannot read what is stored, or what
    /// is in the archive.
    UpdateApp,
}

impl Error {
    /// The failure of a store with the store's own error, or a text. Where there is none,
    /// `StoreFault::Io.into()` does.
    ///
    /// ```
    /// use subrosa::Error;
    /// use subrosa::store::StoreFault;
    ///
    /// let missing = std::fs::File::open("/nowhere/chat").err();
    /// let error = missing.map(|cause| Error::store(StoreFault::Path, cause));
    /// assert_eq!(error, Some(StoreFault::Path.into()));
    /// ```
    #[must_use]
    pub fn store(
        fault: StoreFault,
        cause: impl Into<Box<dyn core::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Store(StoreError::with_cause(fault, cause))
    }

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
            | Self::NoSender
            | Self::Blocked
            | Self::StaleDeviceList
            | Self::WaitingForKey
            | Self::StaleKey => Remedy::Drop,
            Self::InvalidKey | Self::BadSignature | Self::StaleBundle | Self::BundlesNeeded(_) => {
                Remedy::FetchBundle
            }
            Self::FutureBundle | Self::ImplausibleClock => Remedy::CheckClock,
            Self::TooManyDevices => Remedy::RemoveDevice,
            Self::Unlinked | Self::AccountReplaced => Remedy::LinkAgain,
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
            | Self::UnknownGroup
            | Self::BadName
            | Self::BadLinkCode
            | Self::BadScan
            | Self::OutOfTurn
            | Self::WrongPassphrase
            | Self::WeakPassphrase
            | Self::BadLocks
            | Self::BadRecoveryCode
            | Self::UnfinishedRestoration => Remedy::FixCall,
            Self::BadState | Self::DamagedArchive { .. } => Remedy::RestoreState,
            Self::NewerArchive => Remedy::UpdateApp,
            Self::RateLimited => Remedy::Retry,
            Self::DamagedChunk(_) | Self::DamagedFile => Remedy::FetchBlob,
            Self::SourceChanged => Remedy::SealAgain,
            Self::Store(error) => of_store(error.fault),
        }
    }
}

const fn of_store(fault: StoreFault) -> Remedy {
    match fault {
        StoreFault::Locked | StoreFault::Full | StoreFault::Other => Remedy::Retry,
        StoreFault::Io | StoreFault::Relocked => Remedy::Reopen,
        StoreFault::Corrupt => Remedy::RestoreState,
        StoreFault::Newer => Remedy::UpdateApp,
        StoreFault::Path | StoreFault::NotAVault | StoreFault::TooLarge | StoreFault::Unread => {
            Remedy::FixCall
        }
    }
}

impl From<StoreFault> for Error {
    fn from(fault: StoreFault) -> Self {
        Self::Store(StoreError::new(fault))
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// For what reads and writes: [`std::io::Error::downcast`] gives it back.
#[cfg(feature = "std")]
impl From<Error> for std::io::Error {
    fn from(error: Error) -> Self {
        let kind = match error {
            Error::TooLong | Error::SourceChanged => std::io::ErrorKind::InvalidInput,
            _ => std::io::ErrorKind::InvalidData,
        };
        Self::new(kind, error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::UnsupportedVersion => "the protocol version is not supported",
            Self::Malformed => "the bytes are malformed",
            Self::InvalidKey => "a public key is invalid",
            Self::BadSignature => "a signature does not hold",
            Self::StaleBundle => "the bundle is more than 60 days old",
            Self::FutureBundle => "the bundle is from the future: check the clocks",
            Self::OwnIdentity => "this is the caller's own identity",
            Self::UnknownPrekey => "the prekey is not here: it was used, or rotated away",
            Self::Replay => "the handshake was accepted before",
            Self::UnknownHeader => "the message belongs to no chain of this session",
            Self::TooFarAhead => "too many messages are missing before this one",
            Self::Duplicate => "the message was decrypted before",
            Self::TooOld => "the key of the message is no longer kept",
            Self::Decrypt => "the message cannot be decrypted",
            Self::TooLong => "the plaintext, the associated data or the file is too long",
            Self::Exhausted => "a counter has reached its end",
            Self::BadState => "the stored state cannot be read",
            Self::BundlesNeeded(of) => {
                f.write_str("prekey bundles are needed of ")?;
                return list(f, of);
            }
            Self::DevicesNeeded(user) => return write!(f, "the device list of {user:?} is needed"),
            Self::IdentityChanged(user) => {
                return write!(
                    f,
                    "the account key of {user:?} changed: compare keys, then accept it"
                );
            }
            Self::UnknownDevice(device) => {
                return write!(f, "no device list of its user has the device {device}");
            }
            Self::StaleDeviceList => "the device list is older than the one known",
            Self::ForkedDeviceList => "two device lists of the same version differ",
            Self::Blocked => "the user is blocked",
            Self::NoSender => "the envelope does not say who sent it",
            Self::RateLimited => "too many of these came from this sender",
            Self::NoAccount => "the store has no account yet",
            Self::AccountExists => "the store or the account has this already",
            Self::NotPermitted => {
                "this takes another device, another member, or one that holds the account key"
            }
            Self::UnknownGroup => "there is no such group here",
            Self::Unlinked => "this device was removed from the account",
            Self::BadName => "a user's name is empty or longer than 255 bytes",
            Self::TooManyDevices => "the account has 32 devices already",
            Self::ImplausibleClock => "the clock is before 2020 or after 2200",
            Self::BadLinkCode => "the linking code does not fit",
            Self::BadScan => "this is no verification code",
            Self::OutOfTurn => "the verification with this user is not at this point",
            Self::WrongPassphrase => "the passphrase or the key is wrong",
            Self::WeakPassphrase => "the passphrase does not protect enough",
            Self::BadLocks => "there are no locks or too many, or none has this id",
            Self::BadRecoveryCode => "the recovery code is mistyped",
            Self::DamagedChunk(index) => return write!(f, "chunk {index} of the blob is damaged"),
            Self::DamagedFile => "the blob is not the one of its descriptor",
            Self::DamagedArchive { chunk: Some(chunk) } => {
                return write!(f, "chunk {chunk} of the archive is damaged");
            }
            Self::DamagedArchive { chunk: None } => "the archive is damaged",
            Self::NewerArchive => "a later version made the archive",
            Self::AccountReplaced => "the account has another key now than in the archive",
            Self::UnfinishedRestoration => "an archive is being restored into this store",
            Self::SourceChanged => "the file changed while it was sealed",
            Self::WaitingForKey => "the key of the frame is not here yet",
            Self::StaleKey => "the signal is of an earlier key or instance",
            Self::Store(error) => return fmt::Display::fmt(error, f),
        };
        f.write_str(text)
    }
}

fn list(f: &mut fmt::Formatter<'_>, of: &[Address]) -> fmt::Result {
    for (at, address) in of.iter().enumerate() {
        write!(f, "{}{address}", if at == 0 { "" } else { ", " })?;
    }
    Ok(())
}

impl core::error::Error for Error {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Store(error) => error.cause(),
            _ => None,
        }
    }
}
