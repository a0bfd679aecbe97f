//! The braid's erasure code against a second one: Lagrange interpolation by the book (spqr.md, 5),
//! for any length that the braid has.

use std::collections::BTreeMap;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::input::Input;

#[path = "../../../src/ratchet/erasure.rs"]
mod code;

use code::{Chunk, Data, Decoder, Emitter, Encoder, Message};

/// The fuzzer chooses no more; then comes one chunk after the other.
const MOST_STEPS: usize = 100;

/// Every chunk is the polynomial's value. The decoder completes with the last of as many different
/// chunks as the message has, and gives what interpolation through the chunks that came gives,
/// whatever they are. What is stored is what came.
pub fn erasure(data: &[u8]) {
    let mut input = Input::new(data);
    match input.small() % 4 {
        0 => Play::<3>::begin::<96>(&mut input),
        1 => Play::<5>::begin::<160>(&mut input),
        2 => Play::<30>::begin::<960>(&mut input),
        _ => Play::<36>::begin::<1152>(&mut input),
    }
}

/// By index.
type Points = BTreeMap<u16, Data>;

struct Play<const N: usize> {
    message: Box<Message<N>>,
    points: Points,
    next: u16,
    encoder: Encoder<N>,
    emitter: Emitter<N>,
    decoder: Decoder<N>,
    held: Points,
}

impl<const N: usize> Play<N> {
    fn begin<const LENGTH: usize>(input: &mut Input<'_>) {
        let parts = [input.run(), input.run()];
        let message = code::message::<N>(&parts);
        let mut bytes = parts.concat();
        bytes.resize(LENGTH, 0);
        assert_eq!(code::flat::<N, LENGTH>(&message).as_slice(), bytes);
        let mut play = Self {
            points: (0..).zip(*message).collect(),
            next: 0,
            encoder: Encoder::new(message.clone()),
            emitter: Emitter::new(message.clone()),
            decoder: Decoder::new(),
            held: Points::new(),
            message,
        };
        play.encode_from(input.number());
        if play.hold(input.run()) {
            play.go_on(input);
        }
    }

    /// As if so many chunks had been sent before.
    fn encode_from(&mut self, next: usize) {
        self.next = number(next);
        if next > 0 {
            self.encoder =
                loaded(&stored(&(self.next, self.message.as_flattened()))).expect("it is sound");
            self.emitter = loaded(&stored(&self.next)).expect("it is sound");
        }
    }

    /// Whether this is a decoder, as stored; if so, it is used.
    fn hold(&mut self, records: &[u8]) -> bool {
        let decoder = loaded::<Decoder<N>>(&stored(&records));
        let (records, rest) = records.as_chunks::<34>();
        assert_eq!(decoder.is_ok(), rest.is_empty());
        let Ok(decoder) = decoder else { return false };
        let index = |record: &[u8; 34]| u16::from_be_bytes([record[0], record[1]]);
        let is_sound =
            records.len() < N && records.windows(2).all(|pair| index(&pair[0]) < index(&pair[1]));
        assert_eq!(decoder.is_sound(), is_sound);
        self.decoder = decoder;
        self.held = records
            .iter()
            .map(|record| (index(record), record[2..].try_into().expect("32 bytes")))
            .collect();
        is_sound
    }

    /// What the fuzzer chooses, and then the encoder's next chunks, come until the message is
    /// there.
    fn go_on(mut self, input: &mut Input<'_>) {
        for step in 0..MOST_STEPS + N {
            let choice = if step < MOST_STEPS { input.small() } else { 0 };
            let mut chunk = match choice % 8 {
                0..3 => self.emit(),
                3 => {
                    self.emit();
                    continue;
                }
                4 => self.genuine(input.number()),
                5 => self.genuine(input.small()),
                6 => {
                    let held = self.held.keys().nth(input.below(self.held.len()));
                    self.genuine(held.copied().unwrap_or(u16::MAX).into())
                }
                _ => {
                    self.restart();
                    continue;
                }
            };
            if choice & 8 != 0 {
                chunk.data[input.small() % 32] ^= input.byte().unwrap_or(1);
            }
            if self.receive(&chunk) {
                return;
            }
        }
        panic!("the message is never complete");
    }

    /// The next chunk: after 65,535 that is 0.
    fn emit(&mut self) -> Chunk {
        let chunk = self.encoder.emit();
        assert_eq!(chunk, self.emitter.emit(|| self.message.clone()));
        assert_eq!(chunk, self.genuine(self.next.into()));
        self.next = self.next.wrapping_add(1);
        chunk
    }

    fn genuine(&self, index: usize) -> Chunk {
        let index = number(index);
        let chunk = Chunk::of(&self.message, index);
        assert_eq!(chunk, Chunk { index, data: value(&self.points, index) });
        chunk
    }

    fn restart(&mut self) {
        let bytes = stored(&self.decoder);
        self.decoder = loaded(&bytes).expect("what was stored loads");
        assert!(self.decoder.is_sound());
        let held =
            self.held.iter().flat_map(|(index, data)| [&index.to_be_bytes()[..], data].concat());
        assert_eq!(bytes, stored(&held.collect::<Vec<u8>>()));
        self.encoder = loaded(&stored(&self.encoder)).expect("what was stored loads");
        self.emitter = loaded(&stored(&self.emitter)).expect("what was stored loads");
    }

    /// Whether this was the last one.
    fn receive(&mut self, chunk: &Chunk) -> bool {
        let message = self.decoder.complete(chunk);
        self.held.insert(chunk.index, chunk.data);
        assert_eq!(message.is_some(), self.held.len() == N);
        match message {
            Some(message) => {
                for (position, data) in (0..).zip(*message) {
                    assert_eq!(data, value(&self.held, position));
                }
                true
            }
            None => {
                self.decoder.add(chunk);
                false
            }
        }
    }
}

fn number(bytes: usize) -> u16 {
    u16::try_from(bytes).expect("two bytes")
}

fn stored(value: &impl Serialize) -> Vec<u8> {
    postcard::to_extend(value, Vec::new()).expect("a vector takes any number of bytes")
}

fn loaded<T: DeserializeOwned>(bytes: &[u8]) -> postcard::Result<T> {
    postcard::from_bytes(bytes)
}

/// At `x`, in each of the 16 lanes, the value of the polynomial of the lowest degree through the
/// points: the sum of each point's word times the product of `(x - x_j) / (x_i - x_j)` over the
/// others.
fn value(points: &Points, x: u16) -> Data {
    let mut value = [0; 32];
    for (i, data) in points {
        let others = points.keys().filter(|j| *j != i);
        let (above, below) =
            others.fold((1, 1), |(above, below), j| (product(above, x ^ j), product(below, i ^ j)));
        let factor = product(above, inverse(below));
        for (sum, word) in value.chunks_exact_mut(2).zip(data.chunks_exact(2)) {
            let term = product(factor, u16::from_be_bytes([word[0], word[1]])).to_be_bytes();
            sum[0] ^= term[0];
            sum[1] ^= term[1];
        }
    }
    value
}

/// In GF(2^16): the product of polynomials over GF(2), and what is left of it after division by
/// `x^16 + x^12 + x^3 + x + 1`.
fn product(a: u16, b: u16) -> u16 {
    let (a, b) = (u32::from(a), u32::from(b));
    let product = (0..16).fold(0, |sum, bit| sum ^ ((b >> bit & 1) * (a << bit)));
    let rest = (0..16)
        .rev()
        .fold(product, |rest, bit| rest ^ ((rest >> (bit + 16) & 1) * (0x1_100b << bit)));
    u16::try_from(rest).expect("its degree is below 16")
}

/// `a^(2^16 - 2)`
fn inverse(a: u16) -> u16 {
    let squares = std::iter::successors(Some(product(a, a)), |power| Some(product(*power, *power)));
    squares.take(15).fold(1, product)
}
