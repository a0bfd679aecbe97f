//! Padding: `plaintext || 0x80 || zeros`, up to a Padmé length of at least 32 bytes.
//!
//! Padmé (*Reducing Metadata Leakage from Encrypted Files and Communication with PURBs*, Nikitin et
//! al. 2019, 4) leaves a length only as many significant bits as its exponent has: the padded
//! length tells little of the plaintext's, and is at most 12 % longer above 32 bytes.

use crate::crypto::mark;
use crate::error::Error;

const MARK: u8 = 0x80;

/// A text of one word and one of five look alike; more would cost more than the header does.
const LEAST: usize = 32;

/// The length of the padded form of a plaintext of `length` bytes.
///
/// With `L = max(length + 1, 32)`, `E = floor(log2 L)` and `S = floor(log2 E) + 1`: L rounded up to
/// a multiple of `2^(E - S)`.
pub(crate) const fn padded_length(length: usize) -> usize {
    let with_mark = length.saturating_add(1);
    let length = if with_mark < LEAST { LEAST } else { with_mark };
    let below = unit(length).wrapping_sub(1);
    length.saturating_add(below) & !below
}

/// A length of at least 2, rounded up to a Padmé length without room for a mark: for what states
/// its length elsewhere.
pub(crate) const fn padme(length: u64) -> u64 {
    let below = 1_u64.wrapping_shl(free(length.ilog2())).wrapping_sub(1);
    length.saturating_add(below) & !below
}

/// `2^(E - S)`: what a length of that size is a multiple of.
const fn unit(length: usize) -> usize {
    1_usize.wrapping_shl(free(length.ilog2()))
}

/// `E - S`: how many of the last bits of a length are zero.
const fn free(exponent: u32) -> u32 {
    exponent.saturating_sub(exponent.ilog2().saturating_add(1))
}

/// Pads in place: `text` holds a plaintext of `length` bytes, the rest is zeros.
pub(crate) fn pad(text: &mut [u8], length: usize) {
    if let Some(mark) = text.get_mut(length) {
        *mark = MARK;
    }
}

/// The length of the plaintext in `padded`, whatever its length.
///
/// The time depends on the length of `padded` alone where the padding is not longer than [`pad`]
/// makes it.
///
/// # Errors
/// [`Error::Decrypt`] unless it ends in a mark and zeros.
pub(crate) fn unpad(padded: &[u8]) -> Result<usize, Error> {
    // Honest padding is below the unit of the length, or in the last 32 bytes. It is looked for in
    // words of eight.
    let most = unit(padded.len().max(LEAST)).max(LEAST).div_ceil(8);
    let (_, words) = padded.as_rchunks();
    let (_, window) = words.split_at(words.len().saturating_sub(most));
    let (last, words_after) = last_nonzero(window);
    let [.., low] = last.wrapping_shr(last.trailing_zeros() & !7).to_be_bytes();
    let zeros_after = usize::try_from(last.trailing_zeros() / 8).unwrap_or(0);
    // Without a branch on overflow: it is at most the length.
    let padding = words_after.wrapping_mul(8).wrapping_add(zeros_after).wrapping_add(1);
    // The caller is told all of this.
    let (none, marked) = (mark::public(last == 0), mark::public(low == MARK));
    let padding = mark::public(padding);
    if none {
        return match padded.iter().rposition(|byte| *byte != 0) {
            Some(at) if padded.get(at) == Some(&MARK) => Ok(at),
            _ => Err(Error::Decrypt),
        };
    }
    if marked {
        padded.len().checked_sub(padding).ok_or(Error::Decrypt)
    } else {
        Err(Error::Decrypt)
    }
}

/// The last word that is not zero, and how many come after it; 0 if there is none. Looks at every
/// word alike.
fn last_nonzero(words: &[[u8; 8]]) -> (u64, usize) {
    let (mut last, mut after) = (0, 0_usize);
    for word in words {
        let word = u64::from_be_bytes(*word);
        // All ones where the word is not zero.
        let mask = ((word | word.wrapping_neg()) >> 63).wrapping_neg();
        let keep = usize::from(mask == 0).wrapping_neg();
        last = (word & mask) | (last & !mask);
        after = after.wrapping_add(1) & keep;
    }
    (last, after)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{bytes, number, vectors};
    use alloc::vec::Vec;

    fn padded(text: &[u8]) -> Vec<u8> {
        let mut padded = text.to_vec();
        padded.resize(padded_length(text.len()), 0);
        pad(&mut padded, text.len());
        padded
    }

    #[test]
    fn known_lengths() {
        for case in vectors("padding.json")["lengths"].as_array().unwrap() {
            assert_eq!(padded_length(number(&case[0])), number::<usize>(&case[1]));
        }
    }

    #[test]
    fn known_texts() {
        let file = vectors("padding.json");
        for case in file["pad"].as_array().unwrap() {
            assert_eq!(padded(&bytes(&case["plaintext"])), bytes(&case["padded"]));
        }
        for case in file["unpad"].as_array().unwrap() {
            let padded = bytes(&case["padded"]);
            let length = unpad(&padded);
            match case["result"].as_str().unwrap() {
                "ok" => assert_eq!(&padded[..length.unwrap()], bytes(&case["plaintext"])),
                _ => assert_eq!(length, Err(Error::Decrypt)),
            }
        }
    }

    #[test]
    fn what_is_padded_unpads() {
        for length in 0..3_000 {
            for fill in [0, 1, MARK, 0xff] {
                let text = alloc::vec![fill; length];
                assert_eq!(unpad(&padded(&text)), Ok(length));
            }
        }
    }

    #[test]
    fn without_a_mark_it_is_the_same_function() {
        for length in 32..100_000_u64 {
            let with_mark = padded_length(usize::try_from(length - 1).unwrap());
            assert_eq!(padme(length), u64::try_from(with_mark).unwrap());
        }
        assert_eq!((padme(1 << 40), padme((1 << 40) - 1)), (1 << 40, 1 << 40));
    }

    #[test]
    fn padding_is_at_most_an_eighth() {
        for length in 31..100_000 {
            let padded = padded_length(length);
            assert!(padded > length && (padded - length) * 8 <= length + 8, "{length}");
        }
    }
}
