//! The header of a message, in the clear (Double Ratchet, section 4; protocol.md, 8).

use crate::codec::Reader;
use crate::crypto::aead::TAG_LENGTH;
use crate::crypto::curve::PublicKey;
use crate::error::Error;

/// `ratchet key:32 || PN:u32 || N:u32 || length:u8 || carried || zeros`
pub(crate) const HEADER_LENGTH: usize = 88;

/// With its tag.
pub(crate) const SEALED_HEADER_LENGTH: usize = HEADER_LENGTH + TAG_LENGTH;

/// The most bytes that a header carries.
pub(crate) const MAX_CARRIED: usize = HEADER_LENGTH - 41;

/// What a header says: always 88 bytes, so that a length tells nothing of what it carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) ratchet_key: PublicKey,
    /// \[PN\] How many messages the previous sending chain had.
    pub(crate) previous: u32,
    /// \[N\] The number of the message in its chain.
    pub(crate) number: u32,
    carried: [u8; MAX_CARRIED],
    length: u8,
}

impl Header {
    /// None where there is more to carry than there is room.
    pub(crate) fn new(
        ratchet_key: PublicKey,
        previous: u32,
        number: u32,
        carried: &[u8],
    ) -> Option<Self> {
        let mut bytes = [0; MAX_CARRIED];
        bytes.get_mut(..carried.len())?.copy_from_slice(carried);
        let length = u8::try_from(carried.len()).ok()?;
        Some(Self { ratchet_key, previous, number, carried: bytes, length })
    }

    /// The bytes that the ratchet only carries.
    pub(crate) fn carried(&self) -> &[u8] {
        self.carried.get(..self.length.into()).unwrap_or_default()
    }

    pub(crate) fn encode(&self) -> [u8; HEADER_LENGTH] {
        let mut bytes = [0; HEADER_LENGTH];
        bytes[..32].copy_from_slice(self.ratchet_key.as_bytes());
        bytes[32..36].copy_from_slice(&self.previous.to_be_bytes());
        bytes[36..40].copy_from_slice(&self.number.to_be_bytes());
        bytes[40] = self.length;
        bytes[41..].copy_from_slice(&self.carried);
        bytes
    }

    /// # Errors
    /// [`Error::Malformed`]: it would carry more than it has room for, or its filler is not zero.
    pub(crate) fn decode(bytes: &[u8; HEADER_LENGTH]) -> Result<Self, Error> {
        let mut reader = Reader::new(bytes);
        let ratchet_key = PublicKey::new(*reader.array()?);
        let (previous, number, length) = (reader.u32()?, reader.u32()?, reader.u8()?);
        let carried = *reader.array::<MAX_CARRIED>()?;
        let filler = carried.get(length.into()..).ok_or(Error::Malformed)?;
        if filler.iter().any(|byte| *byte != 0) {
            return Err(Error::Malformed);
        }
        Ok(Self { ratchet_key, previous, number, carried, length })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_back_and_its_filler_is_zero() {
        for length in [0, 4, 37, MAX_CARRIED] {
            let header =
                Header::new(PublicKey::new([7; 32]), 1, 2, &[0xff; MAX_CARRIED][..length]).unwrap();
            let mut bytes = header.encode();
            assert_eq!(Header::decode(&bytes), Ok(header));
            if length < MAX_CARRIED {
                bytes[87] = 1;
                assert_eq!(Header::decode(&bytes), Err(Error::Malformed));
            }
            bytes[40] = 48;
            assert_eq!(Header::decode(&bytes), Err(Error::Malformed));
        }
        assert_eq!(Header::new(PublicKey::new([7; 32]), 1, 2, &[0; MAX_CARRIED + 1]), None);
    }
}
