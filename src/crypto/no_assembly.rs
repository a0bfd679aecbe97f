//! No assembly: without the feature `graviola`, or for another processor.

use super::secret::Secret;

pub(crate) const fn is_there() -> bool {
    false
}

pub(crate) const fn public_key(_secret: &Secret<32>) -> Option<[u8; 32]> {
    None
}

pub(crate) const fn exchange(_secret: &Secret<32>, _public: &[u8; 32]) -> Option<Secret<32>> {
    None
}

/// There is none.
#[derive(Clone)]
pub(crate) enum SigningKey {}

impl SigningKey {
    pub(crate) const fn from_seed(_seed: &Secret<32>) -> Option<Self> {
        None
    }

    pub(crate) const fn seed(&self) -> Secret<32> {
        match *self {}
    }

    pub(crate) const fn public_key(&self) -> [u8; 32] {
        match *self {}
    }

    pub(crate) const fn sign(&self, _message: &[u8]) -> [u8; 64] {
        match *self {}
    }
}
