//! History that is offered to a device of the account, which was linked lately.

use crate::codec::{Reader, Writer};
use crate::error::Error;

/// `key:32 || descriptor:74 || location`, the location being at most 1,024 bytes, which only the
/// app understands.
#[derive(Clone, Copy)]
pub(crate) struct History<'a> {
    /// What opens the archive.
    pub(crate) key: &'a [u8; 32],
    /// Of the blob that the archive is in.
    pub(crate) descriptor: &'a [u8; 74],
    /// Where the blob is.
    pub(crate) location: &'a [u8],
}

impl<'a> History<'a> {
    pub(crate) const MAX_LOCATION: usize = 1_024;

    /// Bytes around the location.
    pub(crate) const AROUND: usize = 32 + 74;

    pub(crate) fn write(&self, out: Writer) -> Writer {
        out.bytes(self.key).bytes(self.descriptor).bytes(self.location)
    }

    pub(crate) fn read(mut reader: Reader<'a>) -> Result<Self, Error> {
        let (key, descriptor) = (reader.array()?, reader.array()?);
        let location = reader.rest();
        if location.len() > Self::MAX_LOCATION {
            return Err(Error::Malformed);
        }
        Ok(Self { key, descriptor, location })
    }
}
