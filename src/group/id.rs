//! What groups, changes and members are called: hashes, which nobody gives twice.

use core::fmt;

use serde::{Deserialize, Serialize};

use crate::at_rest;
use crate::codec;
use crate::crypto::kdf;
use crate::error::Error;

/// A group: the [`ChangeId`] of its first change, 32 bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct GroupId(#[serde(with = "at_rest::array")] [u8; 32]);

/// A change of a group: SHA-256 of the change without its signature, 32 bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ChangeId(#[serde(with = "at_rest::array")] [u8; 32]);

/// A member of a group: `H("Subrosa v1 member" || change id:32 || index of the op:u8)[..16]`, with
/// the change that added the member.
///
/// A user who is removed and added again is a new member with a new id.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MemberId(#[serde(with = "at_rest::array")] [u8; 16]);

impl GroupId {
    /// The group that this change founds.
    pub(super) const fn founded_by(change: ChangeId) -> Self {
        Self(change.0)
    }

    /// The 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl ChangeId {
    /// `H(unsigned)`
    pub(super) fn of(unsigned: &[u8]) -> Self {
        Self(kdf::hash(&[unsigned]))
    }

    /// The 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl MemberId {
    pub(super) fn added_by(change: ChangeId, index: u8) -> Self {
        let [id @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] =
            kdf::hash(&[b"Subrosa v1 member", &change.0, &[index]]);
        Self(id)
    }

    /// The 16 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

/// From 32 bytes; any will do.
impl From<[u8; 32]> for GroupId {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

/// From 32 bytes; any will do.
impl From<[u8; 32]> for ChangeId {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

/// From 16 bytes; any will do.
impl From<[u8; 16]> for MemberId {
    fn from(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }
}

/// From 32 bytes. [`Error::Malformed`] unless they are 32.
impl TryFrom<&[u8]> for GroupId {
    type Error = Error;

    fn try_from(bytes: &[u8]) -> Result<Self, Error> {
        bytes.try_into().map(Self).map_err(|_| Error::Malformed)
    }
}

/// The bytes in hexadecimal.
impl fmt::Display for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        codec::hex(f, &self.0)
    }
}

/// The bytes in hexadecimal.
impl fmt::Display for ChangeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        codec::hex(f, &self.0)
    }
}

/// The bytes in hexadecimal.
impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        codec::hex(f, &self.0)
    }
}

impl fmt::Debug for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GroupId({self})")
    }
}

impl fmt::Debug for ChangeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChangeId({self})")
    }
}

impl fmt::Debug for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemberId({self})")
    }
}
