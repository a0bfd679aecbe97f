//! What a device learns of itself when it connects.

use alloc::vec::Vec;

use super::upload::{Stamp, StampInfo};
use crate::codec::{Reader, Writer};
use crate::error::Error;
use crate::identity::IdentityKey;

/// What the server holds of one device. The server sends it whenever the device connects.
///
/// ```text
/// format:u8 = 1 ||
/// present:u8 (0|1) || account:32 || version:u64 || list_digest:8 ||
/// present:u8 (0|1) || stamp:140 || one_time:u32 ||
/// present:u8 (0|1) || signed_id:u32 || signed_created:u64 ||
/// present:u8 (0|1) || last_resort_id:u32 || last_resort_created:u64
/// ```
///
/// Always 221 bytes: what is not present is zeros (docs/server.md, 4). Nothing in it is proven
/// except the stamp, by [`Summary::verify_stamp`].
#[derive(Clone, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Summary {
    /// The user's device list, if the server has one.
    pub list: Option<HeldList>,
    /// The device's last upload, if the server holds prekeys of it.
    pub prekeys: Option<HeldPrekeys>,
}

/// Which device list the server holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HeldList {
    /// The account key that signed the list.
    pub account: IdentityKey,
    /// The version of the list.
    pub version: u64,
    /// The [digest](crate::DeviceList::digest) of the list.
    pub digest: [u8; 8],
}

/// Which prekeys the server holds.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HeldPrekeys {
    /// The stamp of the last upload.
    pub stamp: Stamp,
    /// How many one-time sets are left.
    pub one_time: u32,
    /// The signed prekey.
    pub signed: Option<HeldPrekey>,
    /// The last-resort prekey.
    pub last_resort: Option<HeldPrekey>,
}

/// Which prekey the server holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HeldPrekey {
    /// Its id.
    pub id: u32,
    /// When it was made, by the device's clock, in seconds since the Unix epoch.
    pub created_at: u64,
}

impl Summary {
    /// The length of an encoded summary: 221 bytes.
    pub const LENGTH: usize = 221;

    const FORMAT: u8 = 1;

    /// The bytes to send.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let out = Writer::with_capacity(Self::LENGTH).u8(Self::FORMAT);
        let out = match &self.list {
            Some(list) => {
                out.u8(1).bytes(list.account.as_bytes()).u64(list.version).bytes(&list.digest)
            }
            None => out.bytes(&[0; 49]),
        };
        let (signed, last_resort, out) = match &self.prekeys {
            Some(held) => {
                let out = held.stamp.write(out.u8(1)).u32(held.one_time);
                (held.signed.as_ref(), held.last_resort.as_ref(), out)
            }
            None => (None, None, out.bytes(&[0; Stamp::LENGTH + 5])),
        };
        [signed, last_resort]
            .into_iter()
            .fold(out, |out, prekey| match prekey {
                Some(prekey) => out.u8(1).u32(prekey.id).u64(prekey.created_at),
                None => out.bytes(&[0; 13]),
            })
            .done()
    }

    /// From bytes, whose layout is checked.
    ///
    /// # Errors
    /// [`Error::UnsupportedVersion`], [`Error::Malformed`], [`Error::InvalidKey`]: drop it.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(bytes);
        if reader.u8()? != Self::FORMAT {
            return Err(Error::UnsupportedVersion);
        }
        let list = optional::<48, _>(&mut reader, |reader| {
            let account = IdentityKey::decode(reader.array::<32>()?)?;
            Ok(HeldList { account, version: reader.u64()?, digest: *reader.array()? })
        })?;
        let held = optional::<{ Stamp::LENGTH + 4 }, _>(&mut reader, |reader| {
            Ok((Stamp::read(reader)?, reader.u32()?))
        })?;
        let read = |reader: &mut Reader<'_>| match reader.u32()? {
            0 => Err(Error::Malformed),
            id => Ok(HeldPrekey { id, created_at: reader.u64()? }),
        };
        let signed = optional::<12, _>(&mut reader, read)?;
        let last_resort = optional::<12, _>(&mut reader, read)?;
        reader.end()?;
        let prekeys = match held {
            Some((stamp, one_time)) => Some(HeldPrekeys { stamp, one_time, signed, last_resort }),
            None if signed.is_some() || last_resort.is_some() => return Err(Error::Malformed),
            None => None,
        };
        Ok(Self { list, prekeys })
    }

    /// What the device's own last stamp says, if the server shows one that `own` made.
    ///
    /// A [`StampInfo::number`] above the last one that the device remembers means that its store is
    /// an older copy. The device then makes new prekeys with ids above [`StampInfo::last_id`], and
    /// [replaces](super::Mode::Replace) what the server holds. None while the server
    /// [holds](Summary::prekeys) prekeys means that they are not of this identity: the device
    /// replaces them as well.
    #[must_use]
    pub fn verify_stamp(&self, own: &IdentityKey) -> Option<StampInfo> {
        self.prekeys.as_ref().and_then(|held| held.stamp.verify_by(own))
    }
}

/// A field of `N` bytes, which are zero where it is not present.
fn optional<const N: usize, T>(
    reader: &mut Reader<'_>,
    read: impl Fn(&mut Reader<'_>) -> Result<T, Error>,
) -> Result<Option<T>, Error> {
    match reader.u8()? {
        0 if *reader.array::<N>()? == [0; N] => Ok(None),
        1 => read(reader).map(Some),
        _ => Err(Error::Malformed),
    }
}
