//! Key bytes.

use core::fmt;

use rand_core::CryptoRng;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use subtle::ConstantTimeEq;
use zeroize::Zeroize;

use super::mark;
use crate::at_rest;

/// `N` secret bytes: wiped when dropped, compared in constant time, never printed, never copied
/// unasked.
#[derive(Clone)]
pub(crate) struct Secret<const N: usize>([u8; N]);

impl<const N: usize> Secret<N> {
    pub(crate) const fn new(bytes: [u8; N]) -> Self {
        Self(bytes)
    }

    /// Draws `N` bytes, in one draw.
    pub(crate) fn random(rng: &mut dyn CryptoRng) -> Self {
        let mut secret = Self([0; N]);
        rng.fill_bytes(&mut secret.0);
        secret
    }

    /// Whether it was never written, or was erased.
    pub(crate) fn is_zero(&self) -> bool {
        let any = self.0.iter().fold(0, |any, byte| any | byte);
        mark::public(any.ct_eq(&0).into())
    }

    /// The bytes themselves. For the primitives and for `encode`, nowhere else.
    pub(crate) const fn expose(&self) -> &[u8; N] {
        &self.0
    }

    /// As [`Secret::expose`], for a primitive that writes its result here.
    pub(crate) const fn expose_mut(&mut self) -> &mut [u8; N] {
        &mut self.0
    }
}

impl<const N: usize> Drop for Secret<N> {
    fn drop(&mut self) {
        mark::wiped(&self.0);
        // As a slice: arrays are wiped byte by byte.
        self.0.as_mut_slice().zeroize();
    }
}

impl<const N: usize> PartialEq for Secret<N> {
    fn eq(&self, other: &Self) -> bool {
        // Whether they are equal is what is asked.
        mark::public(self.0.ct_eq(&other.0).into())
    }
}

impl<const N: usize> Eq for Secret<N> {}

impl<const N: usize> fmt::Debug for Secret<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret<{N}>")
    }
}

impl<const N: usize> Serialize for Secret<N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        at_rest::array::serialize(&self.0, serializer)
    }
}

impl<'de, const N: usize> Deserialize<'de> for Secret<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        at_rest::array::deserialize(deserializer).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_the_size_only() {
        assert_eq!(alloc::format!("{:?}", Secret::new([0x41; 32])), "Secret<32>");
    }

    #[test]
    fn equality_looks_at_every_byte() {
        let secret = Secret::new([7; 32]);
        assert_eq!(secret, secret.clone());
        for at in 0..32 {
            let mut other = secret.clone();
            other.0[at] ^= 1;
            assert_ne!(secret, other);
        }
    }
}
