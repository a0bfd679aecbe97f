//! AES-GCM (NIST SP 800-38D) with nonces of 96 bits and tags of 128, for the frames of calls.
//!
//! The round keys and the key of GHASH are computed once for a key, and wiped with it.

use alloc::boxed::Box;

use aes_gcm::aead::AeadInOut;
use aes_gcm::{Aes128Gcm, Aes256Gcm, KeyInit};

use super::aead::{Forged, NONCE_LENGTH, TAG_LENGTH, told};

/// A key, ready for use.
pub(crate) enum GcmKey {
    Aes128(Box<Aes128Gcm>),
    Aes256(Box<Aes256Gcm>),
}

impl GcmKey {
    pub(crate) fn aes128(key: &[u8; 16]) -> Self {
        Self::Aes128(Box::new(Aes128Gcm::new(key.into())))
    }

    pub(crate) fn aes256(key: &[u8; 32]) -> Self {
        Self::Aes256(Box::new(Aes256Gcm::new(key.into())))
    }

    /// Encrypts in place. Returns the tag; none for more than 64 GiB. A nonce is used once.
    #[inline]
    pub(crate) fn seal(
        &self,
        nonce: &[u8; NONCE_LENGTH],
        associated_data: &[u8],
        text: &mut [u8],
    ) -> Option<[u8; TAG_LENGTH]> {
        let text = text.into();
        let tag = match self {
            Self::Aes128(key) => key.encrypt_inout_detached(nonce.into(), associated_data, text),
            Self::Aes256(key) => key.encrypt_inout_detached(nonce.into(), associated_data, text),
        };
        tag.ok().map(Into::into)
    }

    /// Decrypts in place, once the tag holds.
    ///
    /// # Errors
    /// [`Forged`]; `text` is as it was then.
    #[inline]
    pub(crate) fn open(
        &self,
        nonce: &[u8; NONCE_LENGTH],
        associated_data: &[u8],
        text: &mut [u8],
        tag: &[u8; TAG_LENGTH],
    ) -> Result<(), Forged> {
        let (text, tag) = (text.into(), tag.into());
        let opened = match self {
            Self::Aes128(key) => {
                key.decrypt_inout_detached(nonce.into(), associated_data, text, tag)
            }
            Self::Aes256(key) => {
                key.decrypt_inout_detached(nonce.into(), associated_data, text, tag)
            }
        };
        told(opened.is_ok())
    }
}
