//! The braid's erasure code: any `N` of 65,536 chunks of 32 bytes rebuild a message of `N` chunks
//! (spqr.md, 5).
//!
//! A message is 16 interleaved *lanes* of big-endian words in GF(2^16). Lane `l` is the polynomial
//! of degree below `N` that takes the value of word `16 x + l` at `x = 0..N`; chunk `c` is the 16
//! values at `c`. So the first `N` chunks are the message itself, and the others are parity. The
//! lanes share their evaluation points: one set of Lagrange coefficients serves all 16.
//!
//! Everything here is public (keys and ciphertexts of ML-KEM), so branches and time may depend on
//! it.

use alloc::boxed::Box;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::at_rest;

/// 32 bytes of a message or of its parity.
pub(crate) type Data = [u8; 32];

/// A whole message of `N` chunks.
pub(crate) type Message<const N: usize> = [Data; N];

/// One chunk as it travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chunk {
    pub(crate) index: u16,
    pub(crate) data: Data,
}

impl Chunk {
    /// Chunk `index` of a message.
    pub(crate) fn of<const N: usize>(message: &Message<N>, index: u16) -> Self {
        let data = match message.get(usize::from(index)) {
            Some(data) => *data,
            None => {
                let nodes = core::array::from_fn::<u16, N, _>(position);
                let lanes = message.each_ref().map(lanes);
                bytes(&combine(
                    &lagrange(&nodes, &const { weights_of_positions::<N>() }, index),
                    &lanes,
                ))
            }
        };
        Self { index, data }
    }
}

/// A message whose chunks are `parts`, one after the other.
pub(crate) fn message<const N: usize>(parts: &[&[u8]]) -> Box<Message<N>> {
    let mut message = Box::new([[0; 32]; N]);
    let bytes = parts.iter().copied().flatten();
    message.as_flattened_mut().iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    message
}

/// The bytes of a message: `L` is `32 * N`.
pub(crate) fn flat<const N: usize, const L: usize>(message: &Message<N>) -> &[u8; L] {
    const { assert!(N.wrapping_mul(32) == L) };
    message.as_flattened().try_into().expect("the lengths are equal, as asserted")
}

/// Emits the chunks of a message, one after the other, without end.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Encoder<const N: usize> {
    next: u16,
    #[serde(with = "boxed")]
    message: Box<Message<N>>,
}

impl<const N: usize> Encoder<N> {
    pub(crate) const fn new(message: Box<Message<N>>) -> Self {
        Self { next: 0, message }
    }

    pub(crate) fn emit(&mut self) -> Chunk {
        emit(&mut self.next, &self.message)
    }
}

/// An [`Encoder`] of a message that can be made anew: it is kept in memory, but not stored.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Emitter<const N: usize> {
    next: u16,
    #[serde(skip)]
    message: Option<Box<Message<N>>>,
}

impl<const N: usize> Emitter<N> {
    pub(crate) const fn new(message: Box<Message<N>>) -> Self {
        Self { next: 0, message: Some(message) }
    }

    pub(crate) fn emit(&mut self, make: impl FnOnce() -> Box<Message<N>>) -> Chunk {
        emit(&mut self.next, self.message.get_or_insert_with(make))
    }
}

/// After chunk 65,535 comes chunk 0 again.
fn emit<const N: usize>(next: &mut u16, message: &Message<N>) -> Chunk {
    let chunk = Chunk::of(message, *next);
    *next = next.wrapping_add(1);
    chunk
}

/// State at rest, for `#[serde(with = "...")]`: a message as one run of bytes.
pub(crate) mod boxed {
    use super::{Box, Message, at_rest};
    use serde::de::{Deserializer, Error};
    use serde::ser::Serializer;

    pub(crate) fn serialize<S: Serializer, const N: usize>(
        message: &Message<N>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        at_rest::records::serialize(message, serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>, const N: usize>(
        deserializer: D,
    ) -> Result<Box<Message<N>>, D::Error> {
        let chunks = at_rest::records::deserialize(deserializer)?;
        chunks.try_into().map_err(|_| D::Error::custom("not a message of this length"))
    }
}

/// Collects chunks until there are `N`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Decoder<const N: usize> {
    /// `index:u16 || data:32`, by index, each index once, fewer than `N`.
    #[serde(with = "at_rest::records")]
    chunks: Vec<[u8; 34]>,
}

impl<const N: usize> Decoder<N> {
    pub(crate) const fn new() -> Self {
        Self { chunks: Vec::new() }
    }

    /// Whether what was stored is something that this type made.
    pub(crate) fn is_sound(&self) -> bool {
        self.chunks.len() < N
            && self.chunks.is_sorted_by(|one, other| index_of(one) < index_of(other))
    }

    /// Takes a chunk in; a later chunk of the same index replaces the earlier one.
    pub(crate) fn add(&mut self, chunk: &Chunk) {
        let record = record(chunk);
        match self.find(chunk.index) {
            Ok(at) => {
                if let Some(held) = self.chunks.get_mut(at) {
                    *held = record;
                }
            }
            Err(at) => {
                if self.chunks.is_empty() {
                    self.chunks.reserve_exact(N);
                }
                self.chunks.insert(at, record);
            }
        }
    }

    /// The message, if this chunk is the one that completes it.
    pub(crate) fn complete(&self, last: &Chunk) -> Option<Box<Message<N>>> {
        let at = self.find(last.index).err()?;
        if self.chunks.len().checked_add(1)? != N {
            return None;
        }
        let (before, after) = self.chunks.split_at_checked(at)?;
        let record = record(last);
        let held: [&[u8; 34]; N] = {
            let mut all = before.iter().chain([&record]).chain(after);
            core::array::from_fn(|_| all.next().unwrap_or(&record))
        };
        Some(decode(&held))
    }

    fn find(&self, index: u16) -> Result<usize, usize> {
        self.chunks.binary_search_by_key(&index, index_of)
    }
}

/// What is held is used as it is; the rest is interpolated through what is held.
fn decode<const N: usize>(held: &[&[u8; 34]; N]) -> Box<Message<N>> {
    let mut message = Box::new([[0; 32]; N]);
    let mut missing = [true; N];
    for record in held {
        let at = usize::from(index_of(record));
        if let (Some(data), Some(missing)) = (message.get_mut(at), missing.get_mut(at)) {
            (*data, *missing) = (data_of(record), false);
        }
    }
    if missing.contains(&true) {
        let nodes = held.map(index_of);
        let weights = weights(&nodes);
        let lanes = held.map(|record| lanes(&data_of(record)));
        for (at, (data, missing)) in message.iter_mut().zip(missing).enumerate() {
            if missing {
                *data = bytes(&combine(&lagrange(&nodes, &weights, position(at)), &lanes));
            }
        }
    }
    message
}

fn record(chunk: &Chunk) -> [u8; 34] {
    let mut record = [0; 34];
    record[..2].copy_from_slice(&chunk.index.to_be_bytes());
    record[2..].copy_from_slice(&chunk.data);
    record
}

fn index_of(record: &[u8; 34]) -> u16 {
    u16::from_be_bytes([record[0], record[1]])
}

fn data_of(record: &[u8; 34]) -> Data {
    *record.last_chunk().unwrap_or(&[0; 32])
}

/// The evaluation point of a place in the message: messages have 36 chunks at most.
fn position(at: usize) -> u16 {
    u16::try_from(at).unwrap_or(u16::MAX)
}

/// The 16 words of a chunk, four to a register.
type Lanes = [u64; 4];

/// A bit of each of the four words.
const LOW_BITS: u64 = 0x0001_0001_0001_0001;

fn lanes(data: &Data) -> Lanes {
    let (words, _) = data.as_chunks();
    core::array::from_fn(|at| words.get(at).copied().map_or(0, u64::from_be_bytes))
}

fn bytes(lanes: &Lanes) -> Data {
    let mut data = [0; 32];
    for (bytes, words) in data.as_chunks_mut().0.iter_mut().zip(lanes) {
        *bytes = words.to_be_bytes();
    }
    data
}

/// The sum of `coefficient * lanes`, in all lanes at once: Horner's rule over the bits of the
/// coefficients, so that the doublings are shared and what is left is exclusive-or.
fn combine<const N: usize>(coefficients: &[u16; N], lanes: &[Lanes; N]) -> Lanes {
    let mut sum = [0; 4];
    for bit in (0..16).rev() {
        sum = sum.map(|words| {
            let overflow = (words >> 15) & LOW_BITS;
            ((words & !(LOW_BITS << 15)) << 1) ^ overflow.wrapping_mul(MODULUS.into())
        });
        for (coefficient, [a, b, c, d]) in coefficients.iter().zip(lanes) {
            // A mask: the bits are as good as random, and a branch on one would be guessed wrong.
            let mask = 0_u64.wrapping_sub(u64::from(coefficient.wrapping_shr(bit) & 1));
            let [e, f, g, h] = sum;
            sum = [e ^ (a & mask), f ^ (b & mask), g ^ (c & mask), h ^ (d & mask)];
        }
    }
    sum
}

/// The values at `x` of the polynomials that are 1 at one node and 0 at the others:
/// `L_i(x) = w_i * product of (x - x_j) over j != i`.
///
/// The products of all but one factor come by doubling around the ring: those of the next 1, 2, 4,
/// .. factors after each place, put together to those of the next `N - 1`.
fn lagrange<const N: usize>(nodes: &[u16; N], weights: &[u16; N], x: u16) -> [u16; N] {
    let others = N.saturating_sub(1);
    let mut coefficients = *weights;
    let mut covered = 0;
    let mut span = nodes.map(|node| x ^ node);
    span = rotate(&span, 1);
    let mut length = 1;
    while length <= others {
        if others & length != 0 {
            coefficients = multiply_all(&coefficients, &rotate(&span, covered));
            covered |= length;
        }
        span = multiply_all(&span, &rotate(&span, length));
        length = length.saturating_mul(2);
    }
    coefficients
}

fn rotate<const N: usize>(places: &[u16; N], by: usize) -> [u16; N] {
    let mut rotated = *places;
    if by < N {
        rotated.rotate_left(by);
    }
    rotated
}

/// `w_i = 1 / product of (x_i - x_j) over j != i`
fn weights<const N: usize>(nodes: &[u16; N]) -> [u16; N] {
    let product = nodes.iter().fold([1; N], |product, other| {
        let differences = nodes.map(|node| if node == *other { 1 } else { node ^ other });
        multiply_all(&product, &differences)
    });
    // a^(2^16 - 2)
    let mut square = product;
    (1..16).fold([1; N], |inverse, _| {
        square = multiply_all(&square, &square);
        multiply_all(&inverse, &square)
    })
}

/// [`multiply`], place by place: the compiler does 8 or 16 of them at once.
fn multiply_all<const N: usize>(a: &[u16; N], b: &[u16; N]) -> [u16; N] {
    let mut product = [0; N];
    for bit in (0..16).rev() {
        for ((product, a), b) in product.iter_mut().zip(a).zip(b) {
            *product = double(*product) ^ (a & all_ones_if_odd(b.wrapping_shr(bit)));
        }
    }
    product
}

/// [`weights`] of the nodes `0..N`, for the compiler.
#[expect(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    reason = "iterators and try_from are not const; evaluated by the compiler alone, an overflow would not build"
)]
const fn weights_of_positions<const N: usize>() -> [u16; N] {
    let mut weights = [1; N];
    let mut i = 0;
    while i < N {
        let mut j = 0;
        while j < N {
            if i != j {
                weights[i] = multiply(weights[i], (i ^ j) as u16);
            }
            j += 1;
        }
        weights[i] = invert(weights[i]);
        i += 1;
    }
    weights
}

/// `x^16 + x^12 + x^3 + x + 1`, without its leading term.
const MODULUS: u16 = 0x100b;

/// `x * a`
const fn double(a: u16) -> u16 {
    (a << 1) ^ (MODULUS & all_ones_if_odd(a >> 15))
}

/// All ones where the lowest bit of `bits` is.
const fn all_ones_if_odd(bits: u16) -> u16 {
    0_u16.wrapping_sub(bits & 1)
}

const fn multiply(a: u16, b: u16) -> u16 {
    let mut product = 0;
    let mut bit = 16_u32;
    while let Some(next) = bit.checked_sub(1) {
        bit = next;
        product = double(product) ^ (a & all_ones_if_odd(b.wrapping_shr(bit)));
    }
    product
}

/// `a^(2^16 - 2)`
const fn invert(a: u16) -> u16 {
    let mut square = a;
    let mut inverse = 1;
    let mut bit = 1;
    while bit < 16 {
        square = multiply(square, square);
        inverse = multiply(inverse, square);
        bit = u32::wrapping_add(bit, 1);
    }
    inverse
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{array, bytes as hex, number, vectors};

    #[test]
    fn the_field() {
        let file = vectors("spqr.json");
        for case in file["gf"].as_array().unwrap() {
            let [a, b, product] = [0, 1, 2].map(|at| number(&case[at]));
            assert_eq!(multiply(a, b), product);
            assert_eq!(multiply(b, a), product);
            assert_eq!(multiply_all(&[a, b, 1], &[b, a, a]), [product, product, a]);
        }
        for case in file["gf_inverse"].as_array().unwrap() {
            assert_eq!(invert(number(&case[0])), number::<u16>(&case[1]));
        }
        for a in 1..=u16::MAX {
            assert_eq!(multiply(a, invert(a)), 1);
        }
    }

    fn sample<const N: usize>() -> Message<N> {
        let mut message = [[0; 32]; N];
        for (i, byte) in message.as_flattened_mut().iter_mut().enumerate() {
            *byte = ((31 * i * i + 7 * i + 3) >> 2).to_le_bytes()[0];
        }
        message
    }

    #[test]
    fn chunks_of_the_sample_message() {
        for case in vectors("spqr.json")["erasure"].as_array().unwrap() {
            let index = number(&case["chunk"]);
            let chunk = match number::<usize>(&case["length"]) {
                96 => Chunk::of(&sample::<3>(), index),
                160 => Chunk::of(&sample::<5>(), index),
                960 => Chunk::of(&sample::<30>(), index),
                1152 => Chunk::of(&sample::<36>(), index),
                length => panic!("{length}"),
            };
            assert_eq!(chunk, Chunk { index, data: array(&case["data"]) });
        }
    }

    fn collect<const N: usize>(case: &serde_json::Value) {
        let mut decoder = Decoder::<N>::new();
        let chunks = case["chunks"].as_array().unwrap();
        for (at, chunk) in chunks.iter().enumerate() {
            let chunk = Chunk { index: number(&chunk[0]), data: array(&chunk[1]) };
            match decoder.complete(&chunk) {
                None => decoder.add(&chunk),
                Some(message) => {
                    assert_eq!(at + 1, chunks.len());
                    assert_eq!(message.as_flattened(), hex(&case["message"]));
                    return;
                }
            }
            assert!(decoder.is_sound());
        }
        panic!("not complete");
    }

    #[test]
    fn decoding_takes_the_newest_of_an_index_and_interpolates_the_rest() {
        for case in vectors("spqr.json")["decode"].as_array().unwrap() {
            match number::<usize>(&case["n"]) {
                3 => collect::<3>(case),
                5 => collect::<5>(case),
                30 => collect::<30>(case),
                36 => collect::<36>(case),
                n => panic!("{n}"),
            }
        }
    }

    #[test]
    fn any_chunks_rebuild_the_message() {
        let message = sample::<36>();
        for first in [0, 1, 17, 36, 40_000, 65_500] {
            for step in [1, 3, 101] {
                let mut decoder = Decoder::<36>::new();
                let mut indices =
                    (0..36_u16).map(|n| (n * step).wrapping_add(first)).collect::<Vec<_>>();
                let last = indices.pop().unwrap();
                for index in indices.into_iter().rev() {
                    let chunk = Chunk::of(&message, index);
                    assert!(decoder.complete(&chunk).is_none());
                    decoder.add(&chunk);
                    decoder.add(&chunk);
                }
                assert_eq!(*decoder.complete(&Chunk::of(&message, last)).unwrap(), message);
            }
        }
    }
}
