//! SHA-256, HMAC-SHA-256 (RFC 2104) and HKDF-SHA-256 (RFC 5869), over the compression function of
//! sha2.
//!
//! Ours, because every message pays for it and the general crates cannot see what we know: keys are
//! 32 bytes, a key is often used twice (its two pads are hashed once), and every HKDF output here
//! is a row of 32-byte secrets. A message costs 25 compressions, which is as few as there are. What
//! is derived once ([`derive`], [`expand`]) is the crate hkdf's work, over the HMAC of this file.
//! The tests hold it all against the crates `hmac`, `hkdf` and `sha2`. What is inlined by force is
//! so that lengths are known and copies of a few bytes are no calls.

use hkdf::hmac::digest::consts::U32;
use hkdf::hmac::digest::{Output, OutputSizeUser};
use hkdf::{GenericHkdf, GenericHkdfExtract};
use sha2::block_api::compress256;
use zeroize::Zeroize;

use super::secret::Secret;

/// The salt of an HKDF that has none: 32 zero bytes.
pub(crate) const NO_SALT: HmacKey = HmacKey {
    inner: State([
        0xf454_dead,
        0x9725_214f,
        0x90da_f2a0,
        0xdf12_28ea,
        0x64e5_750f,
        0xa392_4181,
        0x824a_932b,
        0xf8e0_4e32,
    ]),
    outer: State([
        0xd385_480f,
        0x7abb_6477,
        0x37c9_c538,
        0x5dd8_2467,
        0x8e04_3a72,
        0x7534_34b0,
        0xdeb8_2818,
        0x361d_45a6,
    ]),
};

/// `H(parts[0] || parts[1] || ..)`
pub(crate) fn hash(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new(State(INITIAL), 0);
    parts.iter().for_each(|part| hash.update(part));
    hash.pad();
    hash.compress();
    hash.digest()
}

/// `HKDF(salt, ikm, info, 32 * K)`, cut into its `K` blocks of 32 bytes.
#[inline(always)]
pub(crate) fn hkdf<const K: usize>(
    salt: &HmacKey,
    ikm: &[&[u8]],
    info: &[&[u8]],
) -> [Secret<32>; K] {
    hkdf_expand(&salt.mac(ikm), info)
}

/// `HKDF-Expand(prk, info, 32 * K)`: `T(i) = HMAC(prk, T(i - 1) || info || i)`, `K` at most 255.
#[inline(always)]
fn hkdf_expand<const K: usize>(prk: &Secret<32>, info: &[&[u8]]) -> [Secret<32>; K] {
    let key = HmacKey::new(prk);
    let mut blocks = [const { Secret::new([0; 32]) }; K];
    let mut previous: Option<&Secret<32>> = None;
    for (block, number) in blocks.iter_mut().zip(1..=u8::MAX) {
        let mut inner = Sha256::new(State(key.inner.0), 64);
        if let Some(previous) = previous {
            inner.update(previous.expose());
        }
        for part in info {
            inner.update(part);
        }
        inner.update(&[number]);
        *block = key.outer_mac(inner);
        previous = Some(block);
    }
    blocks
}

/// As [`hkdf`], for what is derived once in the life of a session or a store: two compressions
/// slower, or four.
///
/// The crate leaves its last output on the stack, as it leaves that of every compression.
pub(crate) fn derive<const K: usize>(
    salt: &[u8; 32],
    ikm: &[&[u8]],
    info: &[&[u8]],
) -> [Secret<32>; K] {
    let mut extract = GenericHkdfExtract::<Hmac>::new(Some(salt));
    ikm.iter().for_each(|part| extract.input_ikm(part));
    let (mut prk, hkdf) = extract.finalize();
    prk.as_mut_slice().zeroize();
    blocks(&hkdf, info)
}

/// `HKDF-Expand(prk, info, 32 * K)`, for what is derived once.
pub(crate) fn expand<const K: usize>(prk: &Secret<32>, info: &[&[u8]]) -> [Secret<32>; K] {
    blocks(&GenericHkdf::from_prk(prk.expose()).expect("a hash is 32 bytes"), info)
}

fn blocks<const K: usize>(hkdf: &GenericHkdf<Hmac>, info: &[&[u8]]) -> [Secret<32>; K] {
    let mut out = [[0; 32]; K];
    hkdf.expand_multi_info(info, out.as_flattened_mut()).expect("K is at most 255");
    let blocks = out.map(Secret::new);
    out.as_flattened_mut().zeroize();
    blocks
}

/// HMAC for the crate hkdf: wiped when dropped.
#[derive(Clone)]
struct Hmac {
    key: HmacKey,
    inner: Sha256,
}

impl OutputSizeUser for Hmac {
    type OutputSize = U32;
}

impl hkdf::HmacImpl for Hmac {
    fn new_from_slice(key: &[u8]) -> Self {
        let key = key.try_into().expect("the salt of `derive` and what is extracted are 32 bytes");
        let key = HmacKey::new(&Secret::new(key));
        Self { inner: Sha256::new(State(key.inner.0), 64), key }
    }

    fn update(&mut self, data: &[u8]) {
        self.inner.update(data);
    }

    fn finalize(self) -> Output<Self> {
        (*self.key.outer_mac(self.inner).expose()).into()
    }
}

/// An HMAC key: the states of the hash after its two pads, two compressions for any number of MACs.
#[derive(Clone)]
pub(crate) struct HmacKey {
    inner: State,
    outer: State,
}

impl HmacKey {
    pub(crate) fn new(key: &Secret<32>) -> Self {
        let mut pad = [[0x36; 64]];
        for (pad, key) in pad.as_flattened_mut().iter_mut().zip(key.expose()) {
            *pad ^= key;
        }
        let mut inner = State(INITIAL);
        compress256(&mut inner.0, &pad);
        for pad in pad.as_flattened_mut() {
            *pad ^= 0x36 ^ 0x5c;
        }
        let mut outer = State(INITIAL);
        compress256(&mut outer.0, &pad);
        pad.as_flattened_mut().zeroize();
        Self { inner, outer }
    }

    /// `HMAC(key, parts[0] || parts[1] || ..)`
    #[inline(always)]
    pub(crate) fn mac(&self, parts: &[&[u8]]) -> Secret<32> {
        let mut inner = Sha256::new(State(self.inner.0), 64);
        for part in parts {
            inner.update(part);
        }
        self.outer_mac(inner)
    }

    /// `[HMAC(key, one), HMAC(key, other)]`, for texts of less than a block. The compressions of
    /// the two do not wait for each other, so that a processor does them side by side.
    #[inline(always)]
    pub(crate) fn mac_both(&self, one: &[u8], other: &[u8]) -> [Secret<32>; 2] {
        let mut first = Sha256::new(State(self.inner.0), 64);
        let mut second = Sha256::new(State(self.inner.0), 64);
        first.update(one);
        second.update(other);
        first.pad();
        second.pad();
        first.compress();
        second.compress();
        let mut first = self.outer(&first.words());
        let mut second = self.outer(&second.words());
        first.compress();
        second.compress();
        [Secret::new(first.digest()), Secret::new(second.digest())]
    }

    #[inline(always)]
    fn outer_mac(&self, inner: Sha256) -> Secret<32> {
        let mut outer = self.outer(&inner.finish());
        outer.compress();
        Secret::new(outer.digest())
    }

    /// The outer hash, before its one compression: 32 bytes after a block.
    #[inline]
    fn outer(&self, inner: &State) -> Sha256 {
        let mut outer = Sha256::new(State(self.outer.0), 64);
        let [block] = &mut outer.block;
        for (bytes, word) in block.as_chunks_mut().0.iter_mut().zip(inner.0) {
            *bytes = word.to_be_bytes();
        }
        block[32] = 0x80;
        block[62..].copy_from_slice(&768_u16.to_be_bytes());
        outer
    }
}

/// FIPS 180-4, 5.3.3.
const INITIAL: [u32; 8] = [
    0x6a09_e667,
    0xbb67_ae85,
    0x3c6e_f372,
    0xa54f_f53a,
    0x510e_527f,
    0x9b05_688c,
    0x1f83_d9ab,
    0x5be0_cd19,
];

/// The chaining value of SHA-256.
#[derive(Clone)]
struct State([u32; 8]);

impl Drop for State {
    fn drop(&mut self) {
        self.0.as_mut_slice().zeroize();
    }
}

/// SHA-256 from a chaining value on, `length` bytes (whole blocks) after the start.
#[derive(Clone)]
struct Sha256 {
    state: State,
    block: [[u8; 64]; 1],
    filled: usize,
    length: u64,
}

impl Sha256 {
    #[inline]
    const fn new(state: State, length: u64) -> Self {
        Self { state, block: [[0; 64]], filled: 0, length }
    }

    #[inline(always)]
    fn update(&mut self, mut bytes: &[u8]) {
        loop {
            let room = self.block.as_flattened_mut().get_mut(self.filled..).unwrap_or_default();
            let take = room.len().min(bytes.len());
            let (now, later) = bytes.split_at(take);
            if let Some(room) = room.get_mut(..take) {
                room.copy_from_slice(now);
            }
            self.filled = self.filled.wrapping_add(take);
            if self.filled < 64 {
                return;
            }
            self.compress();
            self.block = [[0; 64]];
            self.filled = 0;
            self.length = self.length.wrapping_add(64);
            bytes = later;
        }
    }

    /// Ends the text. What is left is one compression.
    #[inline(always)]
    fn pad(&mut self) {
        let bits =
            self.length.wrapping_add(u64::try_from(self.filled).unwrap_or(0)).wrapping_mul(8);
        // What is not filled is zero.
        if let Some(mark) = self.block.as_flattened_mut().get_mut(self.filled) {
            *mark = 0x80;
        }
        if self.filled > 55 {
            self.compress();
            self.block = [[0; 64]];
        }
        let [block] = &mut self.block;
        block[56..].copy_from_slice(&bits.to_be_bytes());
    }

    #[inline]
    fn compress(&mut self) {
        compress256(&mut self.state.0, &self.block);
    }

    #[inline]
    fn finish(mut self) -> State {
        self.pad();
        self.compress();
        self.words()
    }

    #[inline]
    fn words(&self) -> State {
        State(self.state.0)
    }

    #[inline]
    fn digest(&self) -> [u8; 32] {
        let mut digest = [0; 32];
        for (bytes, word) in digest.as_chunks_mut().0.iter_mut().zip(self.state.0) {
            *bytes = word.to_be_bytes();
        }
        digest
    }
}

impl Drop for Sha256 {
    fn drop(&mut self) {
        self.block.as_flattened_mut().zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use ::hmac::{Hmac, KeyInit, Mac};
    use alloc::vec::Vec;
    use sha2::Digest;

    fn bytes(length: usize) -> Vec<u8> {
        (0..length).map(|at| (at * 7 + 3).to_le_bytes()[0]).collect()
    }

    #[test]
    fn no_salt_is_the_key_of_zeros() {
        let key = HmacKey::new(&Secret::new([0; 32]));
        assert_eq!(key.inner.0, NO_SALT.inner.0);
        assert_eq!(key.outer.0, NO_SALT.outer.0);
    }

    #[test]
    fn hash_and_mac_agree_with_the_crates_at_every_length() {
        let key = [0x5a; 32];
        for length in 0..300 {
            let message = bytes(length);
            let (one, two) = message.split_at(length / 3);
            assert_eq!(hash(&[one, two])[..], sha2::Sha256::digest(&message)[..]);
            let mut expected = Hmac::<sha2::Sha256>::new_from_slice(&key).unwrap();
            expected.update(&message);
            let ours = HmacKey::new(&Secret::new(key)).mac(&[one, &[], two]);
            assert_eq!(ours.expose()[..], expected.finalize().into_bytes()[..]);
            if length < 56 {
                let both = HmacKey::new(&Secret::new(key)).mac_both(&message, &[]);
                assert_eq!(both, [ours, HmacKey::new(&Secret::new(key)).mac(&[])]);
            }
        }
    }

    #[test]
    fn hkdf_agrees_with_the_crate() {
        for length in [0, 1, 22, 23, 32, 55, 56, 64, 100, 200] {
            let (salt, ikm, info) = ([9; 32], bytes(length), bytes(length / 2));
            let mut expected = [0; 128];
            hkdf::Hkdf::<sha2::Sha256>::new(Some(&salt), &ikm)
                .expand(&info, &mut expected)
                .unwrap();
            let ours: [Secret<32>; 4] = hkdf(&HmacKey::new(&Secret::new(salt)), &[&ikm], &[&info]);
            assert_eq!(ours.map(|block| *block.expose()).as_flattened(), expected);
            let (one, two) = ikm.split_at(length / 3);
            let ours: [Secret<32>; 4] = derive(&salt, &[one, two], &[&[], &info]);
            assert_eq!(ours.map(|block| *block.expose()).as_flattened(), expected);
            let prk = HmacKey::new(&Secret::new(salt)).mac(&[&ikm]);
            let ours: [Secret<32>; 4] = expand(&prk, &[&info]);
            assert_eq!(ours.map(|block| *block.expose()).as_flattened(), expected);
        }
    }

    /// RFC 2104, 2: shorter keys are filled up with zeros, those of more than a block are hashed.
    /// `None`: between 33 and 64 bytes, which no key here is.
    fn key_of(bytes: &[u8]) -> Option<HmacKey> {
        let key = if bytes.len() > 64 { hash(&[bytes]).to_vec() } else { bytes.to_vec() };
        let mut filled = [0; 32];
        filled.get_mut(..key.len())?.copy_from_slice(&key);
        Some(HmacKey::new(&Secret::new(filled)))
    }

    #[test]
    fn wycheproof_hmac() {
        let (mut taken, mut refused) = (0, 0);
        for test in testing::wycheproof("hmac_sha256") {
            let [key, text, tag] = ["key", "msg", "tag"].map(|field| testing::bytes(&test[field]));
            let key = key_of(&key).unwrap();
            let mac = key.mac(&[&text]);
            if text.len() < 56 {
                assert_eq!(key.mac_both(&text, &text), [mac.clone(), mac.clone()]);
            }
            // Half of the tags are cut to 16 bytes.
            let holds = mac.expose()[..tag.len()] == tag[..];
            assert_eq!(holds, (test["result"] == "valid"), "case {}", test["tcId"]);
            *(if holds { &mut taken } else { &mut refused }) += 1;
        }
        assert_eq!((taken, refused), (66, 108));
    }

    #[test]
    fn wycheproof_hkdf() {
        let (mut taken, mut too_large, mut other_salts) = (0, 0, 0);
        for test in testing::wycheproof("hkdf_sha256") {
            let [ikm, salt, info, okm] =
                ["ikm", "salt", "info", "okm"].map(|field| testing::bytes(&test[field]));
            let size: usize = testing::number(&test["size"]);
            // More than 255 blocks cannot be asked for: `K` is written down where HKDF is called.
            if test["result"] == "invalid" {
                assert!(size > 255 * 32, "case {}", test["tcId"]);
                too_large += 1;
                continue;
            }
            let Some(salt_key) = key_of(&salt) else {
                other_salts += 1;
                continue;
            };
            let salt = if salt.is_empty() { NO_SALT } else { salt_key };
            let (one, two) = ikm.split_at(ikm.len() / 3);
            let blocks: [Secret<32>; 255] = hkdf(&salt, &[one, two], &[&info]);
            let ours =
                blocks.iter().flat_map(|block| *block.expose()).take(size).collect::<Vec<u8>>();
            assert_eq!(ours, okm, "case {}", test["tcId"]);
            taken += 1;
        }
        assert_eq!((taken, too_large, other_salts), (74, 3, 9));
    }
}
