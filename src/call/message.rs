//! What a call's own signals say (docs/calls.md, 3).
//!
//! ```text
//! join, leave, key wanted = instance:u64
//! key                     = instance:u64 || suite:u16 || generation:u32 || secret:32
//! ```

use alloc::vec::Vec;

use zeroize::Zeroizing;

use super::frame::Suite;
use crate::codec::{Reader, Writer};
use crate::crypto::secret::Secret;
use crate::error::Error;

/// The secret of a device for one generation, as it is told.
pub(super) struct KeyMessage {
    pub(super) instance: u64,
    pub(super) suite: Suite,
    pub(super) generation: u32,
    pub(super) secret: Secret<32>,
}

impl KeyMessage {
    const LENGTH: usize = 46;

    pub(super) fn encode(&self) -> Zeroizing<Vec<u8>> {
        let out = Writer::with_capacity(Self::LENGTH).u64(self.instance);
        let out = out.u16(self.suite.number()).u32(self.generation);
        Zeroizing::new(out.bytes(self.secret.expose()).done())
    }

    /// # Errors
    /// [`Error::Malformed`]; [`Error::UnsupportedVersion`]: a suite of a later version.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(bytes);
        let (instance, suite, generation) = (reader.u64()?, reader.u16()?, reader.u32()?);
        let secret = Secret::new(*reader.array()?);
        reader.end()?;
        Ok(Self { instance, suite: Suite::of(suite)?, generation, secret })
    }
}

/// The body of the other signals.
pub(super) fn instance(of: u64) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(of.to_be_bytes().to_vec())
}

/// # Errors
/// [`Error::Malformed`]
pub(super) fn read_instance(bytes: &[u8]) -> Result<u64, Error> {
    let mut reader = Reader::new(bytes);
    let instance = reader.u64()?;
    reader.end()?;
    Ok(instance)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_message_has_one_form() {
        let message = KeyMessage {
            instance: 1_800_000_000_000,
            suite: Suite::Aes128Gcm,
            generation: 7,
            secret: Secret::new([3; 32]),
        };
        let bytes = message.encode();
        assert_eq!(bytes.len(), KeyMessage::LENGTH);
        assert_eq!(KeyMessage::decode(&bytes).unwrap().encode(), bytes);
        for length in 0..bytes.len() {
            assert_eq!(KeyMessage::decode(&bytes[..length]).err(), Some(Error::Malformed));
        }
        let long = [&bytes[..], &[0]].concat();
        assert_eq!(KeyMessage::decode(&long).err(), Some(Error::Malformed));
        let mut later = bytes.to_vec();
        later[9] = 6;
        assert_eq!(KeyMessage::decode(&later).err(), Some(Error::UnsupportedVersion));
        assert_eq!(read_instance(&[0; 7]), Err(Error::Malformed));
        assert_eq!(read_instance(&[0; 9]), Err(Error::Malformed));
        assert_eq!(read_instance(&instance(9)), Ok(9));
    }
}
