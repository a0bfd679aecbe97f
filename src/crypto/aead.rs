//! ChaCha20-Poly1305 (RFC 8439).
//!
//! The crate chacha20poly1305 sets up wide vectors for Poly1305, which pays from some 2 KB on.
//! Below, most of its time is that set-up: short texts are put together here from its cipher and
//! the Poly1305 of libcrux, as RFC 8439, 2.8 says. The length chooses, which is public; the bytes
//! are the same.

use alloc::vec;
use alloc::vec::Vec;

use chacha20::ChaCha20;
use chacha20::cipher::{KeyIvInit, StreamCipher};
use chacha20poly1305::aead::inout::InOutBuf;
use chacha20poly1305::{AeadInOut, ChaCha20Poly1305, KeyInit};
use subtle::ConstantTimeEq;

use super::mark;
use super::secret::Secret;
use crate::error::Error;

/// A text or its associated data is not what was sealed. Of no size, since most trials of header
/// keys end with it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Forged;

impl From<Forged> for Error {
    fn from(_: Forged) -> Self {
        Self::Decrypt
    }
}

pub(crate) const NONCE_LENGTH: usize = 12;
pub(crate) const TAG_LENGTH: usize = 16;

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

    /// As [`open`], into a new vector.
    pub(crate) fn open(self, sealed: &[u8], associated_data: &[u8]) -> Result<Vec<u8>, Error> {
        let length = sealed.len().checked_sub(TAG_LENGTH).ok_or(Error::Decrypt)?;
        let mut text = vec![0; length];
        open(&self.key, &self.nonce, sealed, associated_data, &mut text)?;
        Ok(text)
    }
}

/// Encrypts in place: all of `text_and_tag` but its last 16 bytes, which become the tag. A nonce is
/// used once.
pub(crate) fn seal(
    key: &Secret<32>,
    nonce: &[u8; NONCE_LENGTH],
    text_and_tag: &mut [u8],
    associated_data: &[u8],
) {
    let Some((text, tag)) = text_and_tag.split_last_chunk_mut::<TAG_LENGTH>() else { return };
    *tag = if Tiny::holds(text, associated_data) {
        Tiny::new(key, nonce, text.len()).seal(text, associated_data)
    } else if Small::holds(text, associated_data) {
        Small::new(key, nonce, text.len()).seal(text, associated_data)
    } else if Middle::holds(text, associated_data) {
        Middle::new(key, nonce, text.len()).seal(text, associated_data)
    } else {
        ChaCha20Poly1305::new(key.expose().into())
            .encrypt_inout_detached(nonce.into(), associated_data, text.into())
            .expect("shorter than 256 GiB")
            .into()
    };
}

/// Decrypts `sealed` into `text`, which is 16 bytes shorter.
///
/// # Errors
/// [`Forged`]; `text` then holds nothing of the plaintext.
pub(crate) fn open(
    key: &Secret<32>,
    nonce: &[u8; NONCE_LENGTH],
    sealed: &[u8],
    associated_data: &[u8],
    text: &mut [u8],
) -> Result<(), Forged> {
    let (encrypted, tag) = sealed.split_last_chunk::<TAG_LENGTH>().ok_or(Forged)?;
    if Tiny::holds(encrypted, associated_data) {
        Tiny::new(key, nonce, encrypted.len()).open(encrypted, tag, associated_data, text)
    } else if Small::holds(encrypted, associated_data) {
        Small::new(key, nonce, encrypted.len()).open(encrypted, tag, associated_data, text)
    } else if Middle::holds(encrypted, associated_data) {
        Middle::new(key, nonce, encrypted.len()).open(encrypted, tag, associated_data, text)
    } else {
        let text = InOutBuf::new(encrypted, text).map_err(|_| Forged)?;
        let opened = ChaCha20Poly1305::new(key.expose().into()).decrypt_inout_detached(
            nonce.into(),
            associated_data,
            text,
            tag.into(),
        );
        told(opened.is_ok())
    }
}

/// As [`open`], in place: all of `sealed` but its last 16 bytes becomes the text. For long texts.
///
/// # Errors
/// [`Forged`]; `sealed` then holds nothing of the plaintext.
#[cfg(feature = "std")]
pub(crate) fn open_in_place(
    key: &Secret<32>,
    nonce: &[u8; NONCE_LENGTH],
    sealed: &mut [u8],
    associated_data: &[u8],
) -> Result<(), Forged> {
    let (text, tag) = sealed.split_last_chunk_mut::<TAG_LENGTH>().ok_or(Forged)?;
    let tag = *tag;
    let opened = ChaCha20Poly1305::new(key.expose().into()).decrypt_inout_detached(
        nonce.into(),
        associated_data,
        text.into(),
        &tag.into(),
    );
    told(opened.is_ok())
}

/// Whether the tag holds is what the caller is told.
pub(super) fn told(holds: bool) -> Result<(), Forged> {
    if mark::public(holds) { Ok(()) } else { Err(Forged) }
}

/// Headers: less to set to zero, and to wipe.
type Tiny = Short<256, 128>;

/// Most messages, with what they are bound to.
type Small = Short<256, 512>;

/// The most for which setting up wide vectors does not pay.
type Middle = Short<2304, 2304>;

/// What encrypts one short text: the key stream of ChaCha20, its first block for the key of
/// Poly1305.
///
/// There is room for `STREAM` bytes of it, and in what Poly1305 is over (the text and its
/// associated data, each padded to 16 bytes, and their two lengths) for `ALL`.
struct Short<const STREAM: usize, const ALL: usize> {
    stream: Secret<STREAM>,
}

/// Of ChaCha20. It makes four at once in little more time than one.
const BLOCK: usize = 64;

impl<const STREAM: usize, const ALL: usize> Short<STREAM, ALL> {
    fn holds(text: &[u8], associated_data: &[u8]) -> bool {
        let all = padded(text).saturating_add(padded(associated_data)).saturating_add(16);
        all <= ALL && text.len().saturating_add(BLOCK) <= STREAM
    }

    fn new(key: &Secret<32>, nonce: &[u8; NONCE_LENGTH], length: usize) -> Self {
        let mut stream = Secret::new([0; STREAM]);
        let blocks = length.saturating_add(BLOCK).next_multiple_of(4 * BLOCK);
        let (used, _) = stream.expose_mut().split_at_mut(blocks.min(STREAM));
        ChaCha20::new(key.expose().into(), nonce.into()).apply_keystream(used);
        Self { stream }
    }

    fn seal(&self, text: &mut [u8], associated_data: &[u8]) -> [u8; TAG_LENGTH] {
        let stream = self.stream.expose().iter().skip(BLOCK);
        text.iter_mut().zip(stream).for_each(|(byte, stream)| *byte ^= stream);
        self.tag(text, associated_data)
    }

    fn open(
        &self,
        encrypted: &[u8],
        tag: &[u8; TAG_LENGTH],
        associated_data: &[u8],
        text: &mut [u8],
    ) -> Result<(), Forged> {
        // Whether it is genuine, not where it differs.
        if mark::public(self.tag(encrypted, associated_data).ct_ne(tag).into()) {
            return Err(Forged);
        }
        let bytes = encrypted.iter().zip(self.stream.expose().iter().skip(BLOCK));
        text.iter_mut().zip(bytes).for_each(|(text, (byte, stream))| *text = byte ^ stream);
        Ok(())
    }

    /// `Poly1305(associated data || zeros || encrypted || zeros || both lengths:u64 little-endian)`
    fn tag(&self, encrypted: &[u8], associated_data: &[u8]) -> [u8; TAG_LENGTH] {
        let mut authenticated = [0; ALL];
        let lengths = [associated_data.len(), encrypted.len()]
            .map(|length| u64::try_from(length).unwrap_or(u64::MAX).to_le_bytes());
        let mut end = 0_usize;
        for part in [associated_data, encrypted, lengths.as_flattened()] {
            if let Some(room) = authenticated.get_mut(end..end.saturating_add(part.len())) {
                room.copy_from_slice(part);
            }
            end = end.saturating_add(padded(part));
        }
        let (authenticated, _) = authenticated.split_at(end.min(ALL));
        let (key, _) =
            self.stream.expose().split_first_chunk().expect("there is room for a block at least");
        let mut tag = [0; TAG_LENGTH];
        libcrux_poly1305::mac(key, authenticated, &mut tag).ok().expect("shorter than 4 GiB");
        tag
    }
}

const fn padded(part: &[u8]) -> usize {
    part.len().next_multiple_of(16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use alloc::vec::Vec;

    fn ours(text: &[u8], associated_data: &[u8]) -> Vec<u8> {
        let mut sealed = [text, &[0; TAG_LENGTH]].concat();
        seal(&Secret::new([3; 32]), &[5; 12], &mut sealed, associated_data);
        sealed
    }

    #[test]
    fn short_texts_are_what_the_crate_makes_of_them_at_every_length_around_the_switches() {
        for length in (0..700_usize).chain(1_800..2_500) {
            let text: Vec<u8> = (0..length).map(|at| at.to_le_bytes()[0]).collect();
            let associated_data = &text[..length * 7 % 32 * length / 32];
            let mut other = text.clone();
            let tag = ChaCha20Poly1305::new(&[3; 32].into())
                .encrypt_inout_detached(
                    &[5; 12].into(),
                    associated_data,
                    other.as_mut_slice().into(),
                )
                .unwrap();
            other.extend_from_slice(&tag);
            assert_eq!(ours(&text, associated_data), other, "{length}");
            let key = MessageKey { key: Secret::new([3; 32]), nonce: [5; 12] };
            assert_eq!(key.open(&other, associated_data).unwrap(), text);
        }
    }

    #[test]
    fn wycheproof() {
        let (mut taken, mut refused, mut other_nonces) = (0, 0, 0);
        for test in testing::wycheproof("chacha20_poly1305") {
            let [key, nonce, aad, text, ct, tag] =
                ["key", "iv", "aad", "msg", "ct", "tag"].map(|field| testing::bytes(&test[field]));
            let valid = test["result"] != "invalid";
            // Our types hold no nonce of another length.
            if nonce.len() != NONCE_LENGTH {
                assert!(!valid, "case {}", test["tcId"]);
                other_nonces += 1;
                continue;
            }
            let message_key = || MessageKey {
                key: Secret::new(key[..].try_into().unwrap()),
                nonce: nonce[..].try_into().unwrap(),
            };
            let sealed = [ct, tag].concat();
            let opened = message_key().open(&sealed, &aad);
            if !valid {
                assert_eq!(opened, Err(Error::Decrypt), "case {}", test["tcId"]);
                refused += 1;
            } else {
                assert_eq!(opened.unwrap(), text, "case {}", test["tcId"]);
                let mut made = [&text[..], &[0; TAG_LENGTH]].concat();
                message_key().seal(&mut made, &aad);
                assert_eq!(made, sealed, "case {}", test["tcId"]);
                taken += 1;
            }
        }
        assert_eq!((taken, refused, other_nonces), (256, 60, 9));
    }

    #[test]
    fn a_changed_byte_anywhere_is_refused() {
        for length in [0, 1, 88, 192, 193, 2_000, 3_000] {
            let text = vec![7; length];
            let sealed = ours(&text, b"ad");
            let key = || MessageKey { key: Secret::new([3; 32]), nonce: [5; 12] };
            assert_eq!(key().open(&sealed, b"ad").unwrap(), text);
            assert_eq!(key().open(&sealed, b"aD").unwrap_err(), Error::Decrypt);
            #[cfg(feature = "std")]
            {
                let MessageKey { key, nonce } = key();
                let (mut genuine, mut forged) = (sealed.clone(), sealed.clone());
                assert_eq!(open_in_place(&key, &nonce, &mut genuine, b"ad"), Ok(()));
                assert_eq!(genuine[..length], text);
                assert_eq!(open_in_place(&key, &nonce, &mut forged, b"aD"), Err(Forged));
            }
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
