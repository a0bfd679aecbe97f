//! SHA-256 of long bytes that are no secret, and SHA-512 (FIPS 180-4), through the crate sha2,
//! which compresses many blocks at once.

use sha2::{Digest, Sha256, Sha512};

/// `H(bytes)`
pub(crate) fn of(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// `SHA-512(parts[0] || parts[1] || ..)`
pub(crate) fn sha512(parts: &[&[u8]]) -> [u8; 64] {
    let mut hash = Sha512::new();
    parts.iter().for_each(|part| hash.update(part));
    hash.finalize().into()
}

/// A hash of what comes piece by piece.
#[derive(Clone)]
pub(crate) struct Hash(Sha256);

impl Hash {
    pub(crate) fn new() -> Self {
        Self(Sha256::new())
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(crate) fn finish(self) -> [u8; 32] {
        self.0.finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::kdf;

    #[test]
    fn in_pieces_or_at_once_it_is_the_hash_of_the_other_room() {
        let bytes: alloc::vec::Vec<u8> = (0..=255).cycle().take(1_000).collect();
        for length in 0..bytes.len() {
            let mut pieces = Hash::new();
            bytes[..length].chunks(37).for_each(|piece| pieces.update(piece));
            assert_eq!(of(&bytes[..length]), kdf::hash(&[&bytes[..length]]));
            assert_eq!(pieces.finish(), of(&bytes[..length]));
        }
    }
}
