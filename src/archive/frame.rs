//! What is in an archive, piece by piece.
//!
//! | type | body |
//! | --- | --- |
//! | 1 info, first | `created at:u64 \|\| length:u8 \|\| user \|\| device list` |
//! | 2 account, second or missing | `seed:32` |
//! | 3 contact | `verified:u8 (0\|1) \|\| length:u8 \|\| user \|\| device list` |
//! | 4 group | kept for later: skipped |
//! | 5 app | the app's own |
//! | 6 end | `count:u64`, of the frames before it |
//! | 0xb10c blocked | `length:u8 \|\| user`, in a backup |
//!
//! From 0x8000 on a type may be skipped; any other is a later version's, and matters.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use zeroize::Zeroizing;

use crate::codec::{Reader, Writer};
use crate::crypto::secret::Secret;
use crate::devices::DeviceList;
use crate::error::Error;
use crate::identity::IdentityKeyPair;
use crate::time::UnixTime;

/// The longest body of a frame: 2^20 bytes.
pub const MAX_FRAME: usize = 1 << 20;

/// What an archive is of. Show the date before anything is restored: it is how old the archive is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Info {
    /// The account's user.
    pub user: String,
    /// When the archive was made, by the clock of the device that made it.
    pub created_at: UnixTime,
    /// The account's device list at that time.
    pub list: DeviceList,
}

/// A user whom the account knows.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Contact {
    /// The user's name.
    pub user: String,
    /// The user's device list, which the account key signed that was taken for theirs.
    pub list: DeviceList,
    /// Whether people compared that key.
    pub verified: bool,
}

/// A part of an archive.
#[non_exhaustive]
pub enum Frame {
    /// The account key.
    Account(Box<IdentityKeyPair>),
    /// A contact.
    Contact(Box<Contact>),
    /// The name of a user whose mail is refused.
    Blocked(String),
    /// What the app put there.
    App(Zeroizing<Vec<u8>>),
}

impl Info {
    /// # Errors
    /// [`Error::BadName`]: the name is empty or longer than 255 bytes.
    pub fn new(user: &str, created_at: UnixTime, list: DeviceList) -> Result<Self, Error> {
        check(user)?;
        Ok(Self { user: user.into(), created_at, list })
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let (length, list) = (length(&self.user), self.list.encode());
        let capacity = list.len().saturating_add(self.user.len()).saturating_add(9);
        let out = Writer::with_capacity(capacity).u64(self.created_at.as_secs()).u8(length);
        out.bytes(self.user.as_bytes()).bytes(&list).done()
    }

    /// # Errors
    /// [`Error::Malformed`]
    pub(super) fn decode(body: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(body);
        let created_at = UnixTime::from_secs(reader.u64()?).map_err(|_| Error::Malformed)?;
        let user = user(&mut reader)?;
        Ok(Self { user, created_at, list: list(reader)? })
    }
}

impl Contact {
    /// # Errors
    /// [`Error::BadName`]: the name is empty or longer than 255 bytes.
    pub fn new(user: &str, list: DeviceList, verified: bool) -> Result<Self, Error> {
        check(user)?;
        Ok(Self { user: user.into(), list, verified })
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let (length, list) = (length(&self.user), self.list.encode());
        let capacity = list.len().saturating_add(self.user.len()).saturating_add(2);
        let out = Writer::with_capacity(capacity).u8(u8::from(self.verified)).u8(length);
        out.bytes(self.user.as_bytes()).bytes(&list).done()
    }

    /// # Errors
    /// [`Error::Malformed`]
    pub(super) fn decode(body: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(body);
        let verified = match reader.u8()? {
            0 => false,
            1 => true,
            _ => return Err(Error::Malformed),
        };
        let user = user(&mut reader)?;
        Ok(Self { user, list: list(reader)?, verified })
    }
}

pub(super) const INFO: u16 = 1;
pub(super) const ACCOUNT: u16 = 2;
pub(super) const CONTACT: u16 = 3;
pub(super) const GROUP: u16 = 4;
pub(super) const APP: u16 = 5;
pub(super) const END: u16 = 6;

/// Types from here on may be skipped.
pub(super) const SKIPPED: u16 = 0x8000;

pub(super) const BLOCKED: u16 = 0xb10c;

/// `type:u16 || length:u32`
pub(super) const HEAD: usize = 6;

pub(super) fn account(body: &[u8]) -> Result<Box<IdentityKeyPair>, Error> {
    let mut reader = Reader::new(body);
    let mut seed = Secret::new([0; 32]);
    seed.expose_mut().copy_from_slice(reader.array::<32>()?);
    reader.end()?;
    Ok(Box::new(IdentityKeyPair::from_seed(&seed)))
}

/// The body of a frame that names a blocked user.
///
/// # Errors
/// [`Error::BadName`]: the name is empty or longer than 255 bytes.
pub(super) fn of_blocked(user: &str) -> Result<Vec<u8>, Error> {
    check(user)?;
    let out = Writer::with_capacity(user.len().saturating_add(1)).u8(length(user));
    Ok(out.bytes(user.as_bytes()).done())
}

pub(super) fn blocked(body: &[u8]) -> Result<String, Error> {
    let mut reader = Reader::new(body);
    let user = user(&mut reader)?;
    reader.end()?;
    Ok(user)
}

/// The number of frames.
pub(super) fn end(body: &[u8]) -> Result<u64, Error> {
    let mut reader = Reader::new(body);
    let count = reader.u64()?;
    reader.end()?;
    Ok(count)
}

fn check(user: &str) -> Result<(), Error> {
    if (1..=255).contains(&user.len()) { Ok(()) } else { Err(Error::BadName) }
}

fn length(user: &str) -> u8 {
    u8::try_from(user.len()).unwrap_or(u8::MAX)
}

fn user(reader: &mut Reader<'_>) -> Result<String, Error> {
    let length = usize::from(reader.u8()?);
    let user = core::str::from_utf8(reader.bytes(length)?).map_err(|_| Error::Malformed)?;
    check(user).map_err(|_| Error::Malformed)?;
    Ok(user.into())
}

fn list(reader: Reader<'_>) -> Result<DeviceList, Error> {
    DeviceList::decode(reader.rest()).map_err(|_| Error::Malformed)
}

/// Shows what it is, and how long the app's own is.
impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Account(key) => write!(f, "Account({:?})", key.public_key()),
            Self::Contact(contact) => write!(f, "Contact({:?})", contact.user),
            Self::Blocked(user) => write!(f, "Blocked({user:?})"),
            Self::App(body) => write!(f, "App({} bytes)", body.len()),
        }
    }
}
