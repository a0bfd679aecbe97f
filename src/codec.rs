//! Bytes in a fixed order: what is read must be there, whole, with nothing after it.

use alloc::vec::Vec;
use core::fmt;

use crate::error::Error;

/// Takes fixed-width fields off the front of a slice. Integers are unsigned and big-endian.
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<&'a [u8; N], Error> {
        let (field, rest) = self.0.split_first_chunk().ok_or(Error::Malformed)?;
        self.0 = rest;
        Ok(field)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Error> {
        let [byte] = self.array()?;
        Ok(*byte)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Error> {
        self.array().copied().map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Error> {
        self.array().copied().map(u32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Error> {
        self.array().copied().map(u64::from_be_bytes)
    }

    /// Base-128, least significant group first, written minimally; at most ten bytes.
    pub(crate) fn varint(&mut self) -> Result<u64, Error> {
        let mut value: u64 = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = self.u8()?;
            let group = u64::from(byte & 0x7f);
            let placed = group.wrapping_shl(shift);
            if placed.wrapping_shr(shift) != group {
                return Err(Error::Malformed);
            }
            value |= placed;
            if byte & 0x80 == 0 {
                return if byte == 0 && shift != 0 { Err(Error::Malformed) } else { Ok(value) };
            }
        }
        Err(Error::Malformed)
    }

    pub(crate) fn bytes(&mut self, length: usize) -> Result<&'a [u8], Error> {
        let (field, rest) = self.0.split_at_checked(length).ok_or(Error::Malformed)?;
        self.0 = rest;
        Ok(field)
    }

    /// All that is left.
    pub(crate) const fn rest(self) -> &'a [u8] {
        self.0
    }

    /// The end: nothing may follow.
    pub(crate) const fn end(self) -> Result<(), Error> {
        if self.0.is_empty() { Ok(()) } else { Err(Error::Malformed) }
    }
}

/// Appends fields in the form that [`Reader`] takes.
pub(crate) struct Writer(Vec<u8>);

impl Writer {
    pub(crate) fn with_capacity(capacity: usize) -> Self {
        Self(Vec::with_capacity(capacity))
    }

    pub(crate) fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(crate) fn u8(self, value: u8) -> Self {
        self.bytes(&[value])
    }

    pub(crate) fn u16(self, value: u16) -> Self {
        self.bytes(&value.to_be_bytes())
    }

    pub(crate) fn u32(self, value: u32) -> Self {
        self.bytes(&value.to_be_bytes())
    }

    pub(crate) fn u64(self, value: u64) -> Self {
        self.bytes(&value.to_be_bytes())
    }

    pub(crate) fn done(self) -> Vec<u8> {
        self.0
    }
}

/// The minimal base-128 form that [`Reader::varint`] takes, and its length.
pub(crate) fn varint(mut value: u64) -> ([u8; 10], usize) {
    let mut bytes = [0; 10];
    let mut length: usize = 0;
    for byte in &mut bytes {
        let [low, ..] = value.to_le_bytes();
        value = value.wrapping_shr(7);
        length = length.saturating_add(1);
        if value == 0 {
            *byte = low;
            break;
        }
        *byte = low | 0x80;
    }
    (bytes, length)
}

/// Bytes as people compare them: in hexadecimal.
pub(crate) fn hex(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

/// State at rest, for `#[serde(with = "...")]`: `[u8; N]` as one run of bytes.
pub(crate) mod array {
    use alloc::vec::Vec;
    use core::fmt;
    use serde::de::{Deserializer, Error, SeqAccess, Visitor};
    use serde::ser::Serializer;
    use zeroize::Zeroizing;

    pub(crate) fn serialize<S: Serializer, const N: usize>(
        bytes: &[u8; N],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>, const N: usize>(
        deserializer: D,
    ) -> Result<[u8; N], D::Error> {
        struct Bytes<const N: usize>;

        impl<'de, const N: usize> Visitor<'de> for Bytes<N> {
            type Value = [u8; N];

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{N} bytes")
            }

            fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<[u8; N], E> {
                bytes.try_into().map_err(|_| E::invalid_length(bytes.len(), &self))
            }

            // Given away by the format: ours to wipe.
            fn visit_byte_buf<E: Error>(self, bytes: Vec<u8>) -> Result<[u8; N], E> {
                self.visit_bytes(&Zeroizing::new(bytes))
            }

            // Formats without a type for bytes (JSON) give them one by one.
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<[u8; N], A::Error> {
                let mut bytes = [0; N];
                for (at, byte) in bytes.iter_mut().enumerate() {
                    *byte = seq.next_element()?.ok_or_else(|| A::Error::invalid_length(at, &self))?;
                }
                match seq.next_element::<u8>()? {
                    None => Ok(bytes),
                    Some(_) => Err(A::Error::custom("more bytes than expected")),
                }
            }
        }

        deserializer.deserialize_bytes(Bytes)
    }
}

/// State at rest: a list of records of `N` bytes, or of `[u8; 32]` chunks, as one run of bytes.
pub(crate) mod records {
    use alloc::vec::Vec;
    use core::fmt;
    use serde::de::{Deserializer, Error, SeqAccess, Visitor};
    use serde::ser::Serializer;
    use zeroize::Zeroizing;

    pub(crate) fn serialize<S: Serializer, const N: usize>(
        records: &[[u8; N]],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(records.as_flattened())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>, const N: usize>(
        deserializer: D,
    ) -> Result<Vec<[u8; N]>, D::Error> {
        struct Records<const N: usize>;

        impl<'de, const N: usize> Visitor<'de> for Records<N> {
            type Value = Vec<[u8; N]>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "records of {N} bytes")
            }

            fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Vec<[u8; N]>, E> {
                match bytes.as_chunks() {
                    (records, []) => Ok(records.to_vec()),
                    _ => Err(E::invalid_length(bytes.len(), &self)),
                }
            }

            // Given away by the format: ours to wipe.
            fn visit_byte_buf<E: Error>(self, bytes: Vec<u8>) -> Result<Vec<[u8; N]>, E> {
                self.visit_bytes(&Zeroizing::new(bytes))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<[u8; N]>, A::Error> {
                let mut bytes = Zeroizing::new(Vec::with_capacity(4096));
                while let Some(byte) = seq.next_element()? {
                    // By hand, since a vector that grows leaves a copy behind.
                    if bytes.len() == bytes.capacity() {
                        let mut larger = Zeroizing::new(Vec::with_capacity(bytes.len().saturating_mul(2)));
                        larger.extend_from_slice(&bytes);
                        bytes = larger;
                    }
                    bytes.push(byte);
                }
                self.visit_bytes(&bytes)
            }
        }

        deserializer.deserialize_bytes(Records)
    }
}

/// State at rest, for `#[serde(with = "...")]`: `Vec<u8>` as one run of bytes, wiped or not.
pub(crate) mod run {
    use alloc::vec::Vec;
    use serde::{Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>, T: From<Vec<u8>>>(
        deserializer: D,
    ) -> Result<T, D::Error> {
        super::records::deserialize::<D, 1>(deserializer).map(Vec::into_flattened).map(T::from)
    }
}

/// State at rest: a version byte, then the type itself in postcard's form.
pub(crate) mod state {
    use alloc::vec::Vec;
    use serde::{Deserialize, Deserializer, Serialize};
    use zeroize::Zeroizing;

    use crate::error::Error;

    /// At most `capacity` bytes: growing would leave copies of secrets behind.
    pub(crate) fn encode(version: u8, value: &impl Serialize, capacity: usize) -> Zeroizing<Vec<u8>> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(capacity));
        bytes.push(version);
        postcard::to_extend(value, Appending(&mut bytes))
            .map(drop)
            .expect("a vector takes any number of bytes, and every type here knows its length");
        debug_assert!(bytes.len() <= capacity, "{} > {capacity}", bytes.len());
        bytes
    }

    pub(crate) fn decode<'de, T: Deserialize<'de>>(version: u8, bytes: &'de [u8]) -> Result<T, Error> {
        match bytes.split_first() {
            Some((first, value)) if *first == version => match postcard::take_from_bytes(value) {
                Ok((value, [])) => Ok(value),
                _ => Err(Error::BadState),
            },
            _ => Err(Error::BadState),
        }
    }

    /// Reads a run of bytes and gives it to the `decode` of a public type.
    pub(crate) fn deserialize<'de, D: Deserializer<'de>, T>(
        deserializer: D,
        decode: impl FnOnce(&[u8]) -> Result<T, Error>,
    ) -> Result<T, D::Error> {
        let bytes = Zeroizing::new(super::records::deserialize::<D, 1>(deserializer)?);
        decode(bytes.as_flattened()).map_err(serde::de::Error::custom)
    }

    struct Appending<'a>(&'a mut Vec<u8>);

    impl Extend<u8> for Appending<'_> {
        fn extend<I: IntoIterator<Item = u8>>(&mut self, bytes: I) {
            self.0.extend(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_varint_is_read_only_in_its_shortest_form() {
        for value in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX - 1, u64::MAX] {
            let (bytes, length) = varint(value);
            let mut reader = Reader::new(&bytes[..length]);
            assert_eq!(reader.varint(), Ok(value));
            assert_eq!(reader.end(), Ok(()));
        }
        for refused in [&[][..], &[0x80], &[0x80, 0], &[0xff, 0], &[0xff; 11], &[0x80; 10]] {
            assert_eq!(Reader::new(refused).varint(), Err(Error::Malformed));
        }
        let over = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02];
        assert_eq!(Reader::new(&over).varint(), Err(Error::Malformed));
    }

    #[test]
    fn what_is_short_or_long_is_malformed() {
        let bytes = Writer::with_capacity(13).u8(1).u32(2).u64(3).done();
        let mut reader = Reader::new(&bytes);
        assert_eq!((reader.u8(), reader.u32(), reader.u64()), (Ok(1), Ok(2), Ok(3)));
        assert_eq!(reader.u8(), Err(Error::Malformed));
        assert_eq!(Reader::new(&bytes).end(), Err(Error::Malformed));
        assert_eq!(Reader::new(&bytes).array::<14>(), Err(Error::Malformed));
    }
}
