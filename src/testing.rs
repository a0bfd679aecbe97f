//! What unit tests share: the vectors, and a generator that replays draws.

use alloc::vec::Vec;
use core::convert::Infallible;
use std::collections::VecDeque;
use std::path::Path;

use rand_core::{TryCryptoRng, TryRng};
use serde_json::Value;

use crate::crypto::kdf;

/// A file of tests/vectors.
pub(crate) fn vectors(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(name);
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// The bytes of a hexadecimal string.
pub(crate) fn bytes(value: &Value) -> Vec<u8> {
    let text = value.as_str().unwrap();
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

/// As [`bytes`], `N` of them.
pub(crate) fn array<const N: usize>(value: &Value) -> [u8; N] {
    bytes(value).try_into().unwrap()
}

/// A number, or the decimal text of one.
pub(crate) fn number<T: TryFrom<u64>>(value: &Value) -> T {
    let number = value.as_u64().unwrap_or_else(|| value.as_str().unwrap().parse().unwrap());
    T::try_from(number).ok().unwrap()
}

/// Gives the draws of a vector, each of exactly the length that is asked for; without draws, others of its own.
pub(crate) struct Replay {
    draws: VecDeque<Vec<u8>>,
    counter: Option<u64>,
}

impl Replay {
    pub(crate) fn new(draws: impl IntoIterator<Item = Vec<u8>>) -> Self {
        Self { draws: draws.into_iter().collect(), counter: None }
    }

    /// From a list of hexadecimal strings.
    pub(crate) fn of(draws: &Value) -> Self {
        Self::new(draws.as_array().unwrap().iter().map(bytes))
    }

    /// A generator without end, for tests that ask for no particular bytes.
    pub(crate) fn counting() -> Self {
        Self { draws: VecDeque::new(), counter: Some(0) }
    }

    /// All draws were taken.
    pub(crate) fn finish(self) {
        assert!(self.draws.is_empty(), "{} draws were not taken", self.draws.len());
    }
}

impl TryRng for Replay {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        panic!("everything is drawn as bytes");
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        panic!("everything is drawn as bytes");
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        match &mut self.counter {
            None => out.copy_from_slice(&self.draws.pop_front().expect("a draw is left")),
            Some(counter) => {
                for block in out.chunks_mut(32) {
                    *counter += 1;
                    block.copy_from_slice(&kdf::hash(&[&counter.to_be_bytes()])[..block.len()]);
                }
            }
        }
        Ok(())
    }
}

impl TryCryptoRng for Replay {}
