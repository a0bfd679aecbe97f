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
