//! The header of a frame (RFC 9605, 4.3).
//!
//! ```text
//! header = X:u1 || K:u3 || Y:u1 || C:u3 || KID:0..8 || CTR:0..8
//! ```
//!
//! A number up to 7 is in `K` or `C` itself, with `X` or `Y` 0. Another has `X` or `Y` 1, its
//! length in bytes less one in `K` or `C`, and follows in as few bytes as it takes.

use crate::error::Error;

/// Which key a frame is under, and which of the frames under it this one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kid: u64,
    pub(super) counter: u64,
}

/// The longest header.
pub(super) const MAX_LENGTH: usize = 17;

/// A header as it travels.
pub(super) struct Encoded {
    bytes: [u8; MAX_LENGTH],
    length: usize,
}

impl Encoded {
    pub(super) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

impl Header {
    #[inline]
    pub(super) fn encode(self) -> Encoded {
        let mut encoded = Encoded { bytes: [0; MAX_LENGTH], length: 1 };
        let kid = put(self.kid, &mut encoded);
        let counter = put(self.counter, &mut encoded);
        if let Some(first) = encoded.bytes.first_mut() {
            *first = kid << 4 | counter;
        }
        encoded
    }

    /// Reads a header off the front of a frame. Returns its length too.
    ///
    /// # Errors
    /// [`Error::Malformed`]: it is cut short, or a number is longer than it has to be.
    #[inline]
    pub(super) fn decode(bytes: &[u8]) -> Result<(Self, usize), Error> {
        let (first, rest) = bytes.split_first().ok_or(Error::Malformed)?;
        let (kid, rest) = take(first >> 4, rest)?;
        let (counter, rest) = take(first & 0x0f, rest)?;
        Ok((Self { kid, counter }, bytes.len().saturating_sub(rest.len())))
    }
}

/// Appends a number, if it does not fit into four bits of the first byte; returns those.
#[inline]
fn put(number: u64, to: &mut Encoded) -> u8 {
    let [.., last] = number.to_be_bytes();
    if number <= 7 {
        return last;
    }
    let skipped = number.leading_zeros() / 8;
    let length = 8_u8.saturating_sub(u8::try_from(skipped).unwrap_or(7));
    // All eight bytes, those that count first: what comes next overwrites the others.
    let bytes = number.wrapping_shl(skipped.wrapping_mul(8)).to_be_bytes();
    let all = to.length..to.length.saturating_add(8);
    if let Some(room) = to.bytes.get_mut(all) {
        room.copy_from_slice(&bytes);
    }
    to.length = to.length.saturating_add(usize::from(length));
    0x08 | length.saturating_sub(1)
}

#[inline]
fn take(bits: u8, rest: &[u8]) -> Result<(u64, &[u8]), Error> {
    let low = bits & 0x07;
    if bits & 0x08 == 0 {
        return Ok((u64::from(low), rest));
    }
    let length = usize::from(low).saturating_add(1);
    let (bytes, rest) = rest.split_at_checked(length).ok_or(Error::Malformed)?;
    let number = bytes.iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    // It has to be in as few bytes as it takes.
    if number <= 7 || bytes.first() == Some(&0) {
        return Err(Error::Malformed);
    }
    Ok((number, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, number};
    use alloc::vec::Vec;

    #[test]
    fn headers_are_those_of_the_rfc() {
        let file = testing::vectors("sframe.json");
        let cases = file["header"].as_array().unwrap();
        assert_eq!(cases.len(), 289);
        for case in cases {
            let header = Header { kid: number(&case["kid"]), counter: number(&case["ctr"]) };
            let bytes = testing::bytes(&case["encoded"]);
            assert_eq!(header.encode().as_bytes(), bytes);
            let more = [&bytes[..], &[0xff; 3]].concat();
            assert_eq!(Header::decode(&more), Ok((header, bytes.len())));
            for length in 0..bytes.len() {
                assert_eq!(Header::decode(&bytes[..length]), Err(Error::Malformed));
            }
        }
    }

    #[test]
    fn a_header_has_one_form() {
        let mut forms = 0;
        for first in 0..=u8::MAX {
            for second in 0..=u8::MAX {
                let bytes: Vec<u8> = [[first, second].as_slice(), &[1; 16]].concat();
                if let Ok((header, length)) = Header::decode(&bytes) {
                    assert_eq!(header.encode().as_bytes(), &bytes[..length]);
                    forms += 1;
                }
            }
        }
        assert!((50_000..65_536).contains(&forms), "{forms}");
        for long in [&[0x80, 7][..], &[0x90, 0, 9], &[0x08, 0], &[0x0f, 0, 1, 1, 1, 1, 1, 1, 1]] {
            assert_eq!(Header::decode(long), Err(Error::Malformed), "{long:?}");
        }
    }
}
