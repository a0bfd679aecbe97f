//! Bytes in the store: how types of this crate are kept, which only the crate itself reads.

/// For `#[serde(with = "...")]`: `[u8; N]` as one run of bytes.
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
                    *byte =
                        seq.next_element()?.ok_or_else(|| A::Error::invalid_length(at, &self))?;
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

/// For `#[serde(with = "...")]`: a list of records of `N` bytes, or of `[u8; 32]` chunks, as one
/// run of bytes.
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
                        let mut larger =
                            Zeroizing::new(Vec::with_capacity(bytes.len().saturating_mul(2)));
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

/// For `#[serde(with = "...")]`: `Vec<u8>` as one run of bytes, wiped or not.
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

/// A version byte, then the type itself in postcard's form.
pub(crate) mod state {
    use alloc::vec::Vec;
    use serde::{Deserialize, Deserializer, Serialize};
    use zeroize::Zeroizing;

    use crate::error::Error;

    /// At most `capacity` bytes: growing would leave copies of secrets behind.
    pub(crate) fn encode(
        version: u8,
        value: &impl Serialize,
        capacity: usize,
    ) -> Zeroizing<Vec<u8>> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(capacity));
        bytes.push(version);
        postcard::to_extend(value, Appending(&mut bytes))
            .map(drop)
            .expect("a vector takes any number of bytes, and every type here knows its length");
        debug_assert!(bytes.len() <= capacity, "{} > {capacity}", bytes.len());
        bytes
    }

    pub(crate) fn decode<'de, T: Deserialize<'de>>(
        version: u8,
        bytes: &'de [u8],
    ) -> Result<T, Error> {
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
