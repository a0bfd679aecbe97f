//! Floors: what a row cannot do without, as bare calls of the primitives, through the fastest safe
//! pure-Rust way that the crates in use offer.
//!
//! - **X25519** through curve25519-dalek: one multiplication on the Edwards curve and one
//!   conversion of the result for each exchange; one conversion of a peer's key, however often it
//!   is used; one multiplication of the base point and one conversion for each key generated.
//! - **Ed25519** through ed25519-dalek. Decoding an identity includes the check for torsion.
//! - **ML-KEM** through libcrux-ml-kem.
//! - **ChaCha20-Poly1305** over texts and associated data of the lengths that the protocol has: up
//!   to 2,304 bytes of both through chacha20 and libcrux-poly1305, which takes them in one slice,
//!   above through chacha20poly1305. A header that is refused takes the first block of the key
//!   stream alone.
//! - **SHA-256** as compressions, with the dependencies that HMAC and HKDF have: a block is made
//!   from the result that it hashes, so a chain of compressions is as sequential as the real one,
//!   and two independent ones may overlap. What is left out is all else: labels, counters, padding,
//!   wiping. The pads of a key are hashed once.
//! - **Memory**: one allocation for each result, and one copy of the text, which decrypting a long
//!   one makes by itself.
//!
//! Compressions, by RFC 2104 and RFC 5869 (`n` bytes after a whole block take `ceil((n + 9) /
//! 64)`):
//!
//! | derivation (protocol.md, spqr.md) | salt's pads | extract | key's pads | expand | all |
//! | --- | --- | --- | --- | --- | --- |
//! | KDF_CK | | | 2 | 2 + 2 | 6 |
//! | K3, post-quantum chain step | known | 2 | 2 | 2 + 3 | 9 |
//! | KDF_HYBRID and nonces | 2 | 2 | 2 | 2 + 2 | 10 |
//! | **keys of one message** | | | | | **25** |
//! | KDF_RK_HE | 2 | 2 | 2 | 2 + 2 + 2 | 12 |
//! | session keys | | | 2 | 2 + 2 + 2 + 2 | 10 |
//! | PQXDH's SK, with a one-time prekey | known | 5 | 2 | 2 | 9 |
//! | PQXDH's transcript, 3,336 bytes | | | | | 53 |
//! | K1, post-quantum chains begin | known | 2 | 2 | 2 + 3 + 3 | 12 |
//! | K2, post-quantum chains of an epoch | 2 | 2 | 2 | 2 + 3 + 3 | 14 |
//! | K4, epoch secret | known | 2 | 2 | 2 | 6 |
//! | K5, authenticator | known | 3 | 2 | 2 + 3 | 10 |
//! | M1, MAC of 105 bytes | | | 2 | 3 | 5 |
//! | M2, MAC of 1,131 bytes | | | 2 | 19 | 21 |

use chacha20::ChaCha20;
use chacha20::cipher::{KeyIvInit, StreamCipher};
use chacha20poly1305::aead::inout::InOutBuf;
use chacha20poly1305::{AeadInOut, ChaCha20Poly1305, KeyInit};
use curve25519_dalek::edwards::EdwardsPoint;
use curve25519_dalek::montgomery::MontgomeryPoint;
use libcrux_ml_kem::mlkem768::incremental as mlkem768;
use rand_core::Rng;
use sha2::block_api::compress256;
use subrosa::SystemRng;

/// 32 bytes as SHA-256 has them: a chaining value, and so a key.
pub(crate) type Words = [u32; 8];

pub(crate) fn draw<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    SystemRng.fill_bytes(&mut bytes);
    bytes
}

/// How many blocks `bytes` bytes take that follow whole blocks, with the mark and the length behind
/// them.
const fn blocks(bytes: usize) -> usize {
    (bytes + 9).div_ceil(64)
}

/// Compresses `count` blocks that begin with `words`.
pub(crate) fn compress(mut state: Words, words: &Words, count: usize) -> Words {
    let mut block = [[0x36; 64]];
    for (bytes, word) in block[0].as_chunks_mut().0.iter_mut().zip(words) {
        *bytes = word.to_be_bytes();
    }
    for _ in 0..count {
        compress256(&mut state, &block);
    }
    state
}

/// The chaining values after both pads: two compressions.
pub(crate) struct HmacKey {
    inner: Words,
    outer: Words,
}

impl HmacKey {
    pub(crate) fn new(key: &Words) -> Self {
        Self { inner: compress([0x36; 8], key, 1), outer: compress([0x5c; 8], key, 1) }
    }

    /// The salt of 32 zero bytes, whose pads are constants.
    pub(crate) const ZERO: Self = Self { inner: [1; 8], outer: [2; 8] };

    /// The MAC of `bytes` bytes that begin with `words`.
    pub(crate) fn mac(&self, words: &Words, bytes: usize) -> Words {
        compress(self.outer, &compress(self.inner, words, blocks(bytes)), 1)
    }
}

/// HKDF to `K` outputs of 32 bytes.
pub(crate) fn hkdf<const K: usize>(
    salt: &HmacKey,
    ikm: &Words,
    ikm_bytes: usize,
    info: usize,
) -> [Words; K] {
    expand(&salt.mac(ikm, ikm_bytes), info)
}

pub(crate) fn expand<const K: usize>(prk: &Words, info: usize) -> [Words; K] {
    let key = HmacKey::new(prk);
    let mut outputs = [[0; 8]; K];
    let mut previous = [0; 8];
    let mut bytes = info + 1;
    for output in &mut outputs {
        *output = key.mac(&previous, bytes);
        (previous, bytes) = (*output, 32 + info + 1);
    }
    outputs
}

/// The lengths of the labels, with what is bound beside them.
pub(crate) mod info {
    pub(crate) const HYBRID: usize = b"Subrosa v1 message".len();
    pub(crate) const ROOT: usize = b"Subrosa v1 root".len();
    pub(crate) const SESSION: usize = b"Subrosa v1 session".len();
    pub(crate) const PQXDH: usize = b"Subrosa v1 PQXDH".len() + 32;
    pub(crate) const SEALED: usize = b"Subrosa v1 sealed".len() + 32;
    pub(crate) const K1: usize = b"Signal PQ Ratchet V1 Chain  Start".len();
    pub(crate) const K2: usize = b"Signal PQ Ratchet V1 Chain Add Epoch".len();
    pub(crate) const K3: usize = 4 + b"Signal PQ Ratchet V1 Chain Next".len();
    pub(crate) const K4: usize = b"Signal_PQCKA_V1_MLKEM768:SCKA Key".len() + 8;
    pub(crate) const K5: usize = b"Signal_PQCKA_V1_MLKEM768:Authenticator Update".len() + 8;
    pub(crate) const M1: usize = b"Signal_PQCKA_V1_MLKEM768:ekheader".len() + 8 + 64;
    pub(crate) const M2: usize = b"Signal_PQCKA_V1_MLKEM768:ciphertext".len() + 8 + 960 + 128;
}

/// The table above.
const _: () = {
    const fn mac(bytes: usize) -> usize {
        blocks(bytes) + 1
    }
    const fn expand(info: usize, outputs: usize) -> usize {
        2 + mac(info + 1) + (outputs - 1) * mac(32 + info + 1)
    }
    const KDF_CK: usize = 2 + 2 * mac(1);
    const K3: usize = mac(32) + expand(info::K3, 2);
    const HYBRID: usize = 2 + mac(32) + expand(info::HYBRID, 2);
    assert!(KDF_CK == 6 && K3 == 9 && HYBRID == 10);
    assert!(2 + mac(32) + expand(info::ROOT, 3) == 12);
    assert!(expand(info::SESSION, 4) == 10);
    assert!(mac(192) + expand(info::PQXDH, 1) == 9);
    assert!(blocks(21 + 33 + EXCHANGE) == 53);
    assert!(blocks(17 + EXCHANGE) + mac(160) + expand(info::SEALED, 1) == 60);
    assert!(mac(32) + expand(info::K1, 3) == 12);
    assert!(2 + mac(32) + expand(info::K2, 3) == 14);
    assert!(mac(32) + expand(info::K4, 1) == 6);
    assert!(mac(64) + expand(info::K5, 2) == 10);
    assert!(2 + mac(info::M1) == 5 && 2 + mac(info::M2) == 21);
};

/// What PQXDH hashes twice: the responder's identity, ephemeral key, signed and one-time prekey,
/// KEM prekey, ciphertext.
const EXCHANGE: usize = 33 + 33 + (4 + 33) + (4 + 33) + (1 + 4 + 1569) + 1568;

/// SK, T and its label with the initiator's identity before the rest, the session's keys, and the
/// post-quantum ratchet's first: 94 compressions.
pub(crate) fn session_keys(secret: &Words) -> (Words, Chains) {
    let transcript = compress([0; 8], secret, blocks(21 + 33 + EXCHANGE));
    let [secret] = hkdf(&HmacKey::ZERO, &transcript, 192, info::PQXDH);
    let [root, _, _, pq] = expand(&secret, info::SESSION);
    let [_, sparse, _] = hkdf::<3>(&HmacKey::ZERO, &pq, 32, info::K1);
    let [_, mac_key] = hkdf::<2>(&HmacKey::ZERO, &pq, 64, info::K5);
    (root, Chains { double: mac_key, sparse })
}

/// The key that the initiator's identity is sealed under, and what it is bound to.
pub(crate) struct Sealing {
    key: [u8; 32],
    transcript: [u8; 32],
}

impl Sealing {
    /// Ts and Ks, from 160 bytes of secrets.
    pub(crate) fn new(secret: &Words) -> Self {
        let transcript = compress([0; 8], secret, blocks(17 + EXCHANGE));
        let [key] = hkdf(&HmacKey::ZERO, &transcript, 160, info::SEALED);
        Self { key: bytes(&key), transcript: bytes(&transcript) }
    }

    pub(crate) fn seal(&self, identity: &[u8; 32]) -> [u8; 32 + TAG] {
        let mut sealed = [0; 32 + TAG];
        sealed[..32].copy_from_slice(identity);
        let tag = seal_short(&self.key, &[0; NONCE], &mut sealed[..32], &self.transcript);
        sealed[32..].copy_from_slice(&tag);
        sealed
    }

    pub(crate) fn open(&self, sealed: &[u8; 32 + TAG]) -> Option<[u8; 32]> {
        let (mut identity, tag) = (*sealed.first_chunk()?, sealed.last_chunk()?);
        open_short(&self.key, &[0; NONCE], &mut identity, tag, &self.transcript).then_some(identity)
    }
}

/// The chain keys of both ratchets.
#[derive(Clone, Copy)]
pub(crate) struct Chains {
    pub(crate) double: Words,
    pub(crate) sparse: Words,
}

/// What encrypts a message and its header.
pub(crate) struct MessageKeys {
    key: [u8; 32],
    nonce: [u8; 12],
    header_nonce: [u8; 12],
}

impl Chains {
    pub(crate) const fn start() -> Self {
        Self { double: [3; 8], sparse: [4; 8] }
    }

    /// KDF_CK: 6 compressions.
    pub(crate) fn step_double(&mut self) -> Words {
        let key = HmacKey::new(&self.double);
        let message_key = key.mac(&[1; 8], 1);
        self.double = key.mac(&[2; 8], 1);
        message_key
    }

    /// K3: 9 compressions.
    pub(crate) fn step_sparse(&mut self) -> Words {
        let [next, message_key] = hkdf(&HmacKey::ZERO, &self.sparse, 32, info::K3);
        self.sparse = next;
        message_key
    }

    /// All that a message takes: 25 compressions.
    pub(crate) fn step(&mut self) -> MessageKeys {
        let (sparse, double) = (self.step_sparse(), self.step_double());
        message_keys(&double, &sparse)
    }
}

/// KDF_HYBRID: 10 compressions.
pub(crate) fn message_keys(double: &Words, sparse: &Words) -> MessageKeys {
    let [key, nonces] = hkdf(&HmacKey::new(sparse), double, 32, info::HYBRID);
    let (mut nonce, mut header_nonce) = ([0; 12], [0; 12]);
    nonce.copy_from_slice(&bytes(&nonces)[..12]);
    header_nonce.copy_from_slice(&bytes(&nonces)[12..24]);
    MessageKeys { key: bytes(&key), nonce, header_nonce }
}

pub(crate) fn bytes(words: &Words) -> [u8; 32] {
    let mut bytes = [0; 32];
    for (bytes, word) in bytes.as_chunks_mut().0.iter_mut().zip(words) {
        *bytes = word.to_be_bytes();
    }
    bytes
}

pub(crate) fn words(bytes: &[u8; 32]) -> Words {
    let mut words = [0; 8];
    for (word, bytes) in words.iter_mut().zip(bytes.as_chunks().0) {
        *word = u32::from_be_bytes(*bytes);
    }
    words
}

/// Up to this many bytes that go into Poly1305, that of libcrux is the faster one.
const SHORT: usize = 2_304;
pub(crate) const TAG: usize = 16;
const NONCE: usize = 12;
const HEADER: usize = 88;

/// The first bytes of a regular message, and of an initial one.
pub(crate) const REGULAR: &[u8] = &[1; 2];
pub(crate) const INITIAL: &[u8] = &[1; 2 + 1660];

/// The session's id, the length of the application's data (there is none), and what precedes the
/// payload.
const fn associated_data(head: &[u8]) -> usize {
    32 + 4 + head.len() + NONCE + HEADER + TAG
}

/// A stand-in of the right length.
static ASSOCIATED_DATA: [u8; associated_data(INITIAL)] = [0; associated_data(INITIAL)];

/// Padmé, from 32 bytes on.
pub(crate) const fn padded(length: usize) -> usize {
    let length = if length < 31 { 32 } else { length + 1 };
    let exponent = length.ilog2();
    let multiple = 1 << (exponent - exponent.ilog2() - 1);
    length.next_multiple_of(multiple)
}

/// The header key in use, and one that does not fit.
pub(crate) const HEADER_KEY: [u8; 32] = [5; 32];
pub(crate) const OTHER_HEADER_KEY: [u8; 32] = [6; 32];

/// The keys of the next message, its header and its payload, in one allocation.
pub(crate) fn seal_message(
    chains: &mut Chains,
    head: &[u8],
    ratchet_key: &[u8; 32],
    text: &[u8],
) -> Vec<u8> {
    let keys = chains.step();
    let associated_data = &ASSOCIATED_DATA[..associated_data(head)];
    let length = padded(text.len());
    let mut message = Vec::with_capacity(head.len() + NONCE + HEADER + TAG + length + TAG);
    message.extend_from_slice(head);
    message.extend_from_slice(&keys.header_nonce);

    let mut header = [0; HEADER];
    header[..32].copy_from_slice(ratchet_key);
    let tag = seal_short(&HEADER_KEY, &keys.header_nonce, &mut header, head);
    message.extend_from_slice(&header);
    message.extend_from_slice(&tag);

    let before = message.len();
    message.extend_from_slice(text);
    message.resize(before + length, 0);
    let payload = &mut message[before..];
    let tag = if authenticated(payload, associated_data) <= SHORT {
        seal_short(&keys.key, &keys.nonce, payload, associated_data)
    } else {
        let cipher = ChaCha20Poly1305::new(&keys.key.into());
        cipher
            .encrypt_inout_detached(&keys.nonce.into(), associated_data, payload.into())
            .unwrap()
            .into()
    };
    message.extend_from_slice(&tag);
    message
}

/// Opens a header under the last of some header keys, those before it failing: the ratchet key in
/// it.
pub(crate) fn open_header(keys: &[&[u8; 32]], message: &[u8], head: &[u8]) -> Option<[u8; 32]> {
    let (nonce, sealed) = message[head.len()..].split_first_chunk()?;
    let (encrypted, tag) = sealed[..HEADER + TAG].split_last_chunk()?;
    let (key, others) = keys.split_last()?;
    for key in others {
        let mut first = [0; BLOCK];
        ChaCha20::new((*key).into(), nonce.into()).apply_keystream(&mut first);
        if mac(&first, encrypted, head) == *tag {
            return None;
        }
    }
    let mut header = [0; HEADER];
    header.copy_from_slice(encrypted);
    open_short(key, nonce, &mut header, tag, head).then(|| header.first_chunk().copied())?
}

/// Opens a payload of `length` bytes of text, in one allocation.
pub(crate) fn open_payload(
    keys: &MessageKeys,
    message: &[u8],
    head: &[u8],
    length: usize,
) -> Vec<u8> {
    let associated_data = &ASSOCIATED_DATA[..associated_data(head)];
    let sealed = &message[head.len() + NONCE + HEADER + TAG..];
    let (encrypted, tag) = sealed.split_last_chunk::<TAG>().unwrap();
    let mut text;
    if authenticated(encrypted, associated_data) <= SHORT {
        text = encrypted.to_vec();
        assert!(open_short(&keys.key, &keys.nonce, &mut text, tag, associated_data));
    } else {
        text = vec![0; encrypted.len()];
        let cipher = ChaCha20Poly1305::new(&keys.key.into());
        let inout = InOutBuf::new(encrypted, &mut text).unwrap();
        cipher
            .decrypt_inout_detached(&keys.nonce.into(), associated_data, inout, tag.into())
            .unwrap();
    }
    text.truncate(length);
    text
}

/// The keys of the next message, its header under the first header key, and its payload.
pub(crate) fn open_message(
    chains: &mut Chains,
    head: &[u8],
    message: &[u8],
    length: usize,
) -> Vec<u8> {
    open_header(&[&HEADER_KEY], message, head).unwrap();
    open_payload(&chains.step(), message, head, length)
}

pub(crate) fn seal_short(
    key: &[u8; 32],
    nonce: &[u8; NONCE],
    text: &mut [u8],
    associated_data: &[u8],
) -> [u8; TAG] {
    with_stream(key, nonce, text.len(), |stream| {
        text.iter_mut().zip(&stream[BLOCK..]).for_each(|(byte, stream)| *byte ^= stream);
        mac(stream, text, associated_data)
    })
}

pub(crate) fn open_short(
    key: &[u8; 32],
    nonce: &[u8; NONCE],
    text: &mut [u8],
    tag: &[u8; TAG],
    associated_data: &[u8],
) -> bool {
    with_stream(key, nonce, text.len(), |stream| {
        let genuine = mac(stream, text, associated_data) == *tag;
        text.iter_mut().zip(&stream[BLOCK..]).for_each(|(byte, stream)| *byte ^= stream);
        genuine
    })
}

/// Of ChaCha20; four at once take little more time than one.
const BLOCK: usize = 64;

/// The key stream of a text, a block for the key of Poly1305 in front.
fn with_stream<O>(
    key: &[u8; 32],
    nonce: &[u8; NONCE],
    length: usize,
    then: impl FnOnce(&[u8]) -> O,
) -> O {
    fn of<const N: usize>(key: &[u8; 32], nonce: &[u8; NONCE], length: usize) -> [u8; N] {
        let mut stream = [0; N];
        let used = (BLOCK + length).next_multiple_of(4 * BLOCK);
        ChaCha20::new(key.into(), nonce.into()).apply_keystream(&mut stream[..used]);
        stream
    }
    match BLOCK + length {
        0..=256 => then(&of::<256>(key, nonce, length)),
        257..=1_280 => then(&of::<1_280>(key, nonce, length)),
        _ => then(&of::<SHORT>(key, nonce, length)),
    }
}

/// Whether the two of libcrux and chacha20 are the faster ones.
pub(crate) const fn is_short(text: &[u8], associated_data: &[u8]) -> bool {
    authenticated(text, associated_data) <= SHORT
}

/// How many bytes Poly1305 takes in: both padded, and their lengths.
const fn authenticated(text: &[u8], associated_data: &[u8]) -> usize {
    associated_data.len().next_multiple_of(16) + text.len().next_multiple_of(16) + 16
}

fn mac(stream: &[u8], encrypted: &[u8], associated_data: &[u8]) -> [u8; TAG] {
    fn of<const N: usize>(key: &[u8; 32], encrypted: &[u8], associated_data: &[u8]) -> [u8; TAG] {
        let mut all = [0; N];
        let middle = associated_data.len().next_multiple_of(16);
        let end = authenticated(encrypted, associated_data);
        all[..associated_data.len()].copy_from_slice(associated_data);
        all[middle..middle + encrypted.len()].copy_from_slice(encrypted);
        let parts = [associated_data.len(), encrypted.len()];
        let lengths = parts.map(|length| u64::try_from(length).unwrap().to_le_bytes());
        all[end - 16..end].copy_from_slice(lengths.as_flattened());
        let mut tag = [0; TAG];
        assert!(libcrux_poly1305::mac(key, &all[..end], &mut tag).is_ok());
        tag
    }
    let key = stream.first_chunk().unwrap();
    match authenticated(encrypted, associated_data) {
        0..=128 => of::<128>(key, encrypted, associated_data),
        129..=256 => of::<256>(key, encrypted, associated_data),
        257..=1_280 => of::<1_280>(key, encrypted, associated_data),
        _ => of::<SHORT>(key, encrypted, associated_data),
    }
}

/// The public key of a secret.
pub(crate) fn public_key(secret: &[u8; 32]) -> [u8; 32] {
    EdwardsPoint::mul_base_clamped(*secret).to_montgomery().to_bytes()
}

/// A peer's key, ready for any number of exchanges.
pub(crate) fn point(public_key: &[u8; 32]) -> EdwardsPoint {
    MontgomeryPoint(*public_key).to_edwards(0).unwrap()
}

pub(crate) fn exchange(point: &EdwardsPoint, secret: &[u8; 32]) -> [u8; 32] {
    point.mul_clamped(*secret).to_montgomery().to_bytes()
}

/// KDF_RK_HE: 12 compressions. The next root key, and a chain key.
pub(crate) fn root_step(root: &mut Words, shared: &[u8; 32]) -> Words {
    let [next, chain, _] = hkdf::<3>(&HmacKey::new(root), &words(shared), 32, info::ROOT);
    *root = next;
    chain
}

/// The first message of an epoch: a key generation and M1.
pub(crate) fn begin_epoch(mac_key: &Words) -> [u8; mlkem768::COMPRESSED_KEYPAIR_LEN] {
    let mut key = [0; mlkem768::COMPRESSED_KEYPAIR_LEN];
    mlkem768::generate_key_pair_compressed(draw(), &mut key);
    std::hint::black_box(HmacKey::new(mac_key).mac(mac_key, info::M1));
    key
}

/// A post-quantum epoch, on both sides: one key generation, encapsulation (in halves), check of the
/// key and decapsulation; twice K2, K4, K5, M1 and M2: 112 compressions. The secret of the epoch.
pub(crate) fn epoch(secret: &Words) -> Words {
    let key = begin_epoch(secret);
    let vector = key[1152..].first_chunk::<1152>().unwrap();
    let header = key[2304..].first_chunk::<64>().unwrap();
    std::hint::black_box(HmacKey::new(secret).mac(secret, info::M1));
    let (mut state, mut shared) = ([0; mlkem768::encaps_state_len()], [0; 32]);
    let ct1 = mlkem768::encapsulate1(header, draw(), &mut state, &mut shared).unwrap();
    mlkem768::validate_pk_bytes(header, vector).unwrap();
    let ct2 = mlkem768::encapsulate2(&state, vector);
    let decapsulated = mlkem768::decapsulate_compressed_key(&key, &ct1, &ct2);
    assert_eq!(shared, decapsulated);
    let [secret, _] = [shared, decapsulated].map(|shared| {
        let [secret] = hkdf(&HmacKey::ZERO, &words(&shared), 32, info::K4);
        let [_, mac_key] = hkdf::<2>(&HmacKey::ZERO, &secret, 64, info::K5);
        let mac = HmacKey::new(&mac_key).mac(&secret, info::M2);
        let [next, ..] = hkdf::<3>(&HmacKey::new(&mac), &secret, 32, info::K2);
        next
    });
    secret
}
