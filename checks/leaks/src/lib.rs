//! What the crate does, told step by step to who watches for secrets that leak.
//!
//! All that is drawn to be a key is secret, and every text.

use std::convert::Infallible;

use rand_core::{TryCryptoRng, TryRng};
use sha2::{Digest, Sha256};

pub mod archives;
pub mod calls;
pub mod clients;
pub mod groups;
pub mod members;
#[path = "../../../tests/support/post.rs"]
mod post;
pub mod sessions;
pub mod vaults;

/// Seconds since the Unix epoch.
pub const NOW: u64 = 1_800_000_000;

/// `SHA-256(seed || counter)`, cut into pieces. What is drawn in pieces of 32 bytes or more is a
/// secret; nonces, names and salts are shorter.
#[derive(Debug)]
pub struct Drawn {
    seed: u64,
    counter: u64,
}

impl Drawn {
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self { seed, counter: 0 }
    }

    fn block(&mut self) -> [u8; 32] {
        self.counter += 1;
        Sha256::new()
            .chain_update(self.seed.to_be_bytes())
            .chain_update(self.counter.to_be_bytes())
            .finalize()
            .into()
    }

    /// A number below `bound`, which is no secret.
    pub fn below(&mut self, bound: usize) -> usize {
        let [a, b, c, d, ..] = self.block();
        u32::from_be_bytes([a, b, c, d]) as usize % bound
    }

    /// What a person writes.
    pub fn text(&mut self, length: usize) -> Vec<u8> {
        let mut text = vec![0; length];
        text.chunks_mut(32).for_each(|piece| piece.copy_from_slice(&self.block()[..piece.len()]));
        subrosa_marks::secret(&mut text);
        text
    }
}

impl TryRng for Drawn {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let [a, b, c, d, ..] = self.block();
        Ok(u32::from_be_bytes([a, b, c, d]))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let [a, b, c, d, e, f, g, h, ..] = self.block();
        Ok(u64::from_be_bytes([a, b, c, d, e, f, g, h]))
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        out.chunks_mut(32).for_each(|piece| piece.copy_from_slice(&self.block()[..piece.len()]));
        if out.len() >= 32 {
            subrosa_marks::secret(out);
        }
        Ok(())
    }
}

impl TryCryptoRng for Drawn {}
