//! The operating system's generator.

use core::convert::Infallible;

use rand_core::{TryCryptoRng, TryRng};

/// The operating system's cryptographic generator, for every `rng` in this crate. Feature
/// `getrandom`, on by default.
///
/// Any other [`CryptoRng`](rand_core::CryptoRng) will do as well.
///
/// # Panics
/// Drawing panics where the operating system cannot give random bytes: nothing can be encrypted
/// safely then.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemRng;

impl TryRng for SystemRng {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(getrandom::u32().expect("the operating system gives random bytes"))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(getrandom::u64().expect("the operating system gives random bytes"))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        getrandom::fill(bytes).expect("the operating system gives random bytes");
        Ok(())
    }
}

impl TryCryptoRng for SystemRng {}
