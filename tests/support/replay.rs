//! Reading the vectors, and a generator that replays their draws. Unit tests use it too.
#![allow(dead_code, reason = "each test crate uses a part of it")]

use std::collections::VecDeque;
use std::convert::Infallible;
use std::format;
use std::path::Path;
use std::string::String;
use std::vec;
use std::vec::Vec;

use hkdf::Hkdf;
use rand_core::{TryCryptoRng, TryRng};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// A file of tests/vectors.
pub(crate) fn vectors(name: &str) -> Value {
    // This module is a part of other packages, too.
    let above = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    let path = above.map(|folder| folder.join("tests/vectors")).find(|path| path.exists());
    serde_json::from_slice(&std::fs::read(path.unwrap().join(name)).unwrap()).unwrap()
}

/// The cases of a file of tests/vectors/wycheproof, all groups one after the other.
pub(crate) fn wycheproof(name: &str) -> Vec<Value> {
    let file = vectors(&format!("wycheproof/{name}_test.json"));
    let groups = file["testGroups"].as_array().unwrap().iter();
    let cases: Vec<Value> =
        groups.flat_map(|group| group["tests"].as_array().unwrap()).cloned().collect();
    assert_eq!(
        Some(cases.len()),
        file["numberOfTests"].as_u64().and_then(|count| count.try_into().ok())
    );
    cases
}

/// The bytes of a hexadecimal string.
pub(crate) fn bytes(value: &Value) -> Vec<u8> {
    let text = value.as_str().unwrap();
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

/// As [`bytes`], `N` of them.
pub(crate) fn array<const N: usize>(value: &Value) -> [u8; N] {
    bytes(value).try_into().unwrap()
}

/// The hexadecimal form.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A number, or the decimal text of one.
pub(crate) fn number<T: TryFrom<u64>>(value: &Value) -> T {
    let number = value.as_u64().unwrap_or_else(|| value.as_str().unwrap().parse().unwrap());
    T::try_from(number).ok().unwrap()
}

/// `SHA-256(bytes)`
pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// `HKDF(0, name || number:u64, "subrosa-kat", length)`
pub(crate) fn stream(name: &str, number: u64, length: usize) -> Vec<u8> {
    let ikm = [name.as_bytes(), &number.to_be_bytes()].concat();
    let mut out = vec![0; length];
    Hkdf::<Sha256>::new(Some(&[0; 32]), &ikm).expand(b"subrosa-kat", &mut out).unwrap();
    out
}

/// Gives the draws of a vector, each of exactly the length that is asked for, or those of a stream.
#[derive(Clone)]
pub(crate) struct Replay {
    draws: VecDeque<Vec<u8>>,
    stream: Option<(String, u64)>,
}

impl Replay {
    pub(crate) fn new(draws: impl IntoIterator<Item = Vec<u8>>) -> Self {
        Self { draws: draws.into_iter().collect(), stream: None }
    }

    /// From a list of hexadecimal strings.
    pub(crate) fn of(draws: &Value) -> Self {
        Self::new(draws.as_array().unwrap().iter().map(bytes))
    }

    /// A generator without end, for tests that ask for no particular bytes.
    pub(crate) fn counting() -> Self {
        Self::stream("counting", 0)
    }

    /// The draws of a stream, from number `from` on.
    pub(crate) fn stream(name: &str, from: u64) -> Self {
        Self { draws: VecDeque::new(), stream: Some((name.into(), from)) }
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
        match &mut self.stream {
            None => out.copy_from_slice(&self.draws.pop_front().expect("a draw is left")),
            Some((name, number)) => {
                out.copy_from_slice(&stream(name, *number, out.len()));
                *number += 1;
            }
        }
        Ok(())
    }
}

impl TryCryptoRng for Replay {}
