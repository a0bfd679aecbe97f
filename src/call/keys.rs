//! The secret of a device for a generation, and the keys of its streams.

use alloc::boxed::Box;
use core::fmt;

use zeroize::Zeroizing;

use super::frame::{Sealer, Suite};
use crate::address::Address;
use crate::codec::{Reader, Writer};
use crate::crypto::kdf;
use crate::crypto::secret::Secret;
use crate::error::Error;
use crate::signal::CallId;

/// What a frame belongs to. Each stream of a device has a key of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stream {
    /// The microphone.
    Audio,
    /// The camera.
    Video,
    /// What is on the screen.
    Screen,
    /// Anything else, such as a data channel.
    Data,
}

impl Stream {
    /// Every stream.
    pub const ALL: [Self; 4] = [Self::Audio, Self::Video, Self::Screen, Self::Data];

    /// The number in key ids: 0 to 3.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Audio => 0,
            Self::Video => 1,
            Self::Screen => 2,
            Self::Data => 3,
        }
    }

    const fn of(number: u64) -> Self {
        match number & 3 {
            0 => Self::Audio,
            1 => Self::Video,
            2 => Self::Screen,
            _ => Self::Data,
        }
    }

    /// Where it is in a row of four.
    pub(super) fn index(self) -> usize {
        usize::from(self.number())
    }
}

/// `KID = generation << 2 | stream`
pub(super) fn kid(generation: u32, stream: Stream) -> u64 {
    u64::from(generation) << 2 | u64::from(stream.number())
}

/// The generation and the stream of a key id; none where no generation has that number.
pub(super) fn of_kid(kid: u64) -> Option<(u32, Stream)> {
    Some((u32::try_from(kid >> 2).ok()?, Stream::of(kid)))
}

/// Whose frames a key is for.
#[derive(Clone, Copy)]
pub(super) struct Owner<'a> {
    pub(super) call: CallId,
    pub(super) device: &'a Address,
}

impl Owner<'_> {
    /// `HKDF(0, secret, "Subrosa v1 call" || call:16 || generation:u32 || stream:u8 || length:u8 ||
    /// user || device:u32, 32)`
    pub(super) fn base_key(
        self,
        secret: &Secret<32>,
        generation: u32,
        stream: Stream,
    ) -> Secret<32> {
        let user = self.device.user.as_bytes();
        let info: [&[u8]; 7] = [
            b"Subrosa v1 call",
            self.call.as_bytes(),
            &generation.to_be_bytes(),
            &[stream.number()],
            &[u8::try_from(user.len()).expect("names have at most 255 bytes")],
            user,
            &self.device.device.to_be_bytes(),
        ];
        let [key] = kdf::derive(&[0; 32], &[secret.expose()], &info);
        key
    }
}

/// The key of one stream of one device, for a media engine that has RFC 9605 itself: a browser's
/// own, or libwebrtc's frame encryptors.
pub struct ExportedKey {
    /// Which beginning of the device it is from: a later one has a higher number and begins again
    /// with the key ids.
    pub instance: u64,
    /// The key id in the header of each frame.
    pub kid: u64,
    /// The stream.
    pub stream: Stream,
    /// The cipher suite.
    pub suite: Suite,
    /// In a box: keys are handed out in a vector.
    base_key: Box<Secret<32>>,
}

impl ExportedKey {
    /// Bytes of a key on its way to a worker: 50.
    pub const LENGTH: usize = 50;

    /// # Errors
    /// [`Error::Malformed`]: no generation has such a key id.
    pub(super) fn new(
        instance: u64,
        kid: u64,
        suite: Suite,
        base_key: &[u8; 32],
    ) -> Result<Self, Error> {
        let (_, stream) = of_kid(kid).ok_or(Error::Malformed)?;
        Ok(Self { instance, kid, stream, suite, base_key: Box::new(Secret::new(*base_key)) })
    }

    /// The key of a stream of a device, of one of its generations.
    pub(super) fn of(
        owner: Owner<'_>,
        instance: u64,
        suite: Suite,
        secret: &Secret<32>,
        generation: u32,
        stream: Stream,
    ) -> Self {
        let base_key = Box::new(owner.base_key(secret, generation, stream));
        Self { instance, kid: kid(generation, stream), stream, suite, base_key }
    }

    /// The key on its way to a worker or another process of the same app: `instance:u64 || KID:u64
    /// || suite:u16 || base_key:32`, wiped when dropped. Secret.
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<[u8; Self::LENGTH]> {
        let out = Writer::with_capacity(Self::LENGTH).u64(self.instance).u64(self.kid);
        let out = Zeroizing::new(out.u16(self.suite.number()).bytes(self.base_key()).done());
        let mut bytes = Zeroizing::new([0; Self::LENGTH]);
        for (byte, written) in bytes.iter_mut().zip(out.iter()) {
            *byte = *written;
        }
        bytes
    }

    /// From what [`ExportedKey::to_bytes`] returned. Wipe the bytes afterwards.
    ///
    /// # Errors
    /// [`Error::Malformed`]; [`Error::UnsupportedVersion`]: a suite of a later version.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(bytes);
        let (instance, kid, suite) = (reader.u64()?, reader.u64()?, reader.u16()?);
        let base_key = reader.array()?;
        reader.end()?;
        Self::new(instance, kid, Suite::of(suite)?, base_key)
    }

    /// The `base_key` of RFC 9605, 4.4.2. Secret.
    #[must_use]
    pub const fn base_key(&self) -> &[u8; 32] {
        self.base_key.expose()
    }
}

/// What [`Call::export_sender`](super::Call::export_sender) gave away seals in another place. One
/// key makes one sealer: two would use nonces twice.
impl From<ExportedKey> for Sealer {
    fn from(key: ExportedKey) -> Self {
        Self::new(key.suite, key.kid, key.base_key())
    }
}

/// Shows which key it is, and nothing of it.
impl fmt::Debug for ExportedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ExportedKey({}, {:?}, {:?})", self.kid, self.stream, self.suite)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::hex;

    #[test]
    fn a_key_id_says_the_generation_and_the_stream() {
        for generation in [0, 1, 7, u32::MAX] {
            for stream in Stream::ALL {
                assert_eq!(of_kid(kid(generation, stream)), Some((generation, stream)));
            }
        }
        assert_eq!(of_kid(1 << 34), None);
        assert_eq!(of_kid(u64::MAX), None);
    }

    #[test]
    fn an_exported_key_has_one_form() {
        let kid = kid(7, Stream::Video);
        let key = ExportedKey::new(9, kid, Suite::Aes128Gcm, &[3; 32]).unwrap();
        let bytes = key.to_bytes();
        let back = ExportedKey::from_bytes(&bytes[..]).unwrap();
        assert_eq!((back.instance, back.kid, back.stream), (9, kid, Stream::Video));
        assert_eq!((back.suite, back.base_key()), (Suite::Aes128Gcm, &[3; 32]));
        for length in 0..bytes.len() {
            let short = ExportedKey::from_bytes(&bytes[..length]);
            assert_eq!(short.err(), Some(Error::Malformed));
        }
        let long = [&bytes[..], &[0]].concat();
        assert_eq!(ExportedKey::from_bytes(&long).err(), Some(Error::Malformed));
        let mut later = bytes.to_vec();
        later[17] = 9;
        assert_eq!(ExportedKey::from_bytes(&later).err(), Some(Error::UnsupportedVersion));
        let mut high = bytes.to_vec();
        high[8] = 1;
        assert_eq!(ExportedKey::from_bytes(&high).err(), Some(Error::Malformed));
    }

    /// Of docs/calls.md, 8: made by another implementation, from the text.
    #[test]
    fn known_answers() {
        let device = Address::new("bob", 3);
        let owner = Owner { call: CallId::new([1; 16]), device: &device };
        for (suite, expected) in [
            (Suite::Aes256Gcm, "10800904f084a1735da9f397308a65cf30ecc2b92840ee29dac9279a"),
            (Suite::Aes128Gcm, "10800981b268a11b45bbf991bcbf4ece0e561b33dee1bce69088280e"),
        ] {
            let key = ExportedKey::of(owner, 0, suite, &Secret::new([7; 32]), 2, Stream::Video);
            let base_key = "7ae6ab4cf9517ff0c9348d7922c78d3a3313793a380d27192267e57692121dbe";
            assert_eq!((key.kid, hex(key.base_key()).as_str()), (9, base_key));
            let mut frame = b"\x10a picture".to_vec();
            Sealer::from(key).seal(1, &mut frame).unwrap();
            assert_eq!(hex(&frame), expected);
        }
    }

    #[test]
    fn every_part_of_the_info_makes_another_key() {
        let (here, there) = (Address::new("alice", 1), Address::new("alic", 1));
        let other = Address::new("alice", 2);
        let secret = Secret::new([7; 32]);
        let key = |call, device, generation, stream| {
            let owner = Owner { call: CallId::new([call; 16]), device };
            *owner.base_key(&secret, generation, stream).expose()
        };
        let keys = [
            key(1, &here, 0, Stream::Audio),
            key(2, &here, 0, Stream::Audio),
            key(1, &there, 0, Stream::Audio),
            key(1, &other, 0, Stream::Audio),
            key(1, &here, 1, Stream::Audio),
            key(1, &here, 0, Stream::Video),
        ];
        let different: alloc::collections::BTreeSet<_> = keys.into_iter().collect();
        assert_eq!(different.len(), 6);
    }
}
