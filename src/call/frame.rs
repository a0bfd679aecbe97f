//! Frames under one key (RFC 9605, 4.4).

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

use super::header::{self, Header};
use super::window::Window;
use crate::crypto::aead::{NONCE_LENGTH, TAG_LENGTH};
use crate::crypto::gcm::GcmKey;
use crate::crypto::secret::Secret;
use crate::crypto::{hkdf512, kdf};
use crate::error::Error;

/// How frames are encrypted: a cipher suite of RFC 9605, 4.5, with its number there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Suite {
    /// `AES_128_GCM_SHA256_128`, number 4.
    Aes128Gcm,
    /// `AES_256_GCM_SHA512_128`, number 5.
    #[default]
    Aes256Gcm,
}

impl Suite {
    /// The number in the IANA registry of SFrame cipher suites.
    #[must_use]
    pub const fn number(self) -> u16 {
        match self {
            Self::Aes128Gcm => 4,
            Self::Aes256Gcm => 5,
        }
    }

    /// # Errors
    /// [`Error::UnsupportedVersion`]
    pub(super) const fn of(number: u16) -> Result<Self, Error> {
        match number {
            4 => Ok(Self::Aes128Gcm),
            5 => Ok(Self::Aes256Gcm),
            _ => Err(Error::UnsupportedVersion),
        }
    }
}

/// The longest frame: 2^24 bytes, with what is around it.
pub const MAX_FRAME: usize = 1 << 24;

/// The most that stays in the clear at the start of a frame: 16 bytes.
pub const MAX_CLEAR: usize = 16;

/// Frames under one key: 2^32.
pub(super) const MAX_FRAMES: u64 = 1 << 32;

/// Bytes that sealing adds to a frame, at most: a header of 17 and a tag of 16.
pub const MAX_OVERHEAD: usize = header::MAX_LENGTH + TAG_LENGTH;

/// Seals the frames of one stream under one key.
///
/// It counts them, and is neither `Clone` nor stored: two with one key would use nonces twice. A
/// [`Call`](super::Call) has one for each of its streams and gives it to a media worker by
/// [`take_sender`](super::Call::take_sender).
///
/// ```
/// use subrosa::call::{Opener, Sealer, Suite};
///
/// let mut sealer = Sealer::new(Suite::Aes256Gcm, 7, &[1; 32]);
/// let mut opener = Opener::new(Suite::Aes256Gcm, 7, &[1; 32]);
/// let mut frame = b"\x10a picture".to_vec();
/// sealer.seal(1, &mut frame)?; // the first byte stays in the clear, for the SFU
/// assert_eq!(frame[0], 0x10);
/// opener.open(1, &mut frame)?;
/// assert_eq!(frame, b"\x10a picture");
/// # Ok::<(), subrosa::Error>(())
/// ```
pub struct Sealer {
    key: Box<FrameKey>,
    next: u64,
}

/// Opens the frames of one stream under one key, each once.
pub struct Opener {
    key: Box<FrameKey>,
    window: Window,
}

impl Sealer {
    /// For a base key that nothing was sealed under before. A [`Call`](super::Call) does this
    /// itself: it is for tests, and for keys that come from elsewhere.
    #[must_use]
    pub fn new(suite: Suite, kid: u64, base_key: &[u8]) -> Self {
        Self { key: Box::new(FrameKey::derive(suite, kid, base_key)), next: 0 }
    }

    /// The key id in the header of each frame.
    #[must_use]
    pub const fn kid(&self) -> u64 {
        self.key.kid
    }

    /// How many frames were sealed.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.next
    }

    /// Seals a frame in place. Its first `clear` bytes stay readable and are authenticated;
    /// `clear || payload` becomes `clear || header || ciphertext || tag`, at most
    /// [`MAX_OVERHEAD`] bytes longer.
    ///
    /// # Errors
    /// [`Error::TooLong`]: the frame is longer than [`MAX_FRAME`], or `clear` than [`MAX_CLEAR`] or
    /// the frame. [`Error::Exhausted`] after 2^32 frames.
    #[inline]
    pub fn seal(&mut self, clear: usize, frame: &mut Vec<u8>) -> Result<(), Error> {
        let text = frame.len();
        if clear > MAX_CLEAR || clear > text || text > MAX_FRAME.saturating_sub(MAX_OVERHEAD) {
            return Err(Error::TooLong);
        }
        if self.next >= MAX_FRAMES {
            return Err(Error::Exhausted);
        }
        let counter = self.next;
        let header = Header { kid: self.key.kid, counter }.encode();
        let header = header.as_bytes();
        let associated_data = AssociatedData::new(header, frame.get(..clear).unwrap_or_default());
        let nonce = self.key.nonce(counter);
        let sealed = frame.get_mut(clear..).unwrap_or_default();
        let tag =
            self.key.gcm.seal(&nonce, associated_data.as_bytes(), sealed).ok_or(Error::TooLong)?;
        // The header goes in between once the rest is encrypted.
        let start = clear.saturating_add(header.len());
        let end = text.saturating_add(header.len());
        frame.resize(end.saturating_add(TAG_LENGTH), 0);
        frame.copy_within(clear..text, start);
        if let Some(room) = frame.get_mut(clear..start) {
            room.copy_from_slice(header);
        }
        if let Some(room) = frame.get_mut(end..) {
            room.copy_from_slice(&tag);
        }
        self.next = counter.saturating_add(1);
        Ok(())
    }
}

impl Opener {
    /// For a base key, as its sender has it.
    #[must_use]
    pub fn new(suite: Suite, kid: u64, base_key: &[u8]) -> Self {
        Self { key: Box::new(FrameKey::derive(suite, kid, base_key)), window: Window::new() }
    }

    /// The key id that it opens.
    #[must_use]
    pub const fn kid(&self) -> u64 {
        self.key.kid
    }

    /// Opens a frame in place, as [`Sealer::seal`] made it.
    ///
    /// # Errors
    /// The frame is as it was, and is not to be played: [`Error::Malformed`], [`Error::Decrypt`],
    /// [`Error::TooLong`]. [`Error::WaitingForKey`]: it is under another key. [`Error::Duplicate`]:
    /// it was opened before, or is more than 1,024 frames late.
    #[inline]
    pub fn open(&mut self, clear: usize, frame: &mut Vec<u8>) -> Result<(), Error> {
        let (header, length) = split(clear, frame)?;
        self.open_split(clear, header, length, frame)
    }

    /// As [`Opener::open`], of a frame whose header was read.
    #[inline]
    pub(super) fn open_split(
        &mut self,
        clear: usize,
        header: Header,
        length: usize,
        frame: &mut Vec<u8>,
    ) -> Result<(), Error> {
        if header.kid != self.key.kid {
            return Err(Error::WaitingForKey);
        }
        if header.counter >= MAX_FRAMES {
            return Err(Error::Malformed);
        }
        if !self.window.is_open(header.counter) {
            return Err(Error::Duplicate);
        }
        let start = clear.saturating_add(length);
        let (head, sealed) = frame.split_at_checked(start).ok_or(Error::Malformed)?;
        let (head_clear, head_header) = head.split_at_checked(clear).ok_or(Error::Malformed)?;
        let associated_data = AssociatedData::new(head_header, head_clear);
        let (sealed, tag) = sealed.split_last_chunk::<TAG_LENGTH>().ok_or(Error::Malformed)?;
        let (tag, text) = (*tag, sealed.len());
        let end = clear.saturating_add(text);
        let nonce = self.key.nonce(header.counter);
        // It moves over the header before it is decrypted: what was just written is slow to read.
        frame.copy_within(start..start.saturating_add(text), clear);
        let text = frame.get_mut(clear..end).ok_or(Error::Malformed)?;
        if let Err(forged) = self.key.gcm.open(&nonce, associated_data.as_bytes(), text, &tag) {
            frame.copy_within(clear..end, start);
            if let Some(room) = frame.get_mut(clear..start) {
                room.copy_from_slice(associated_data.header(length));
            }
            return Err(forged.into());
        }
        self.window.mark(header.counter);
        frame.truncate(end);
        Ok(())
    }
}

/// Reads the header of a frame with `clear` bytes before it. Returns its length too.
#[inline]
pub(super) fn split(clear: usize, frame: &[u8]) -> Result<(Header, usize), Error> {
    if clear > MAX_CLEAR || frame.len() > MAX_FRAME {
        return Err(Error::TooLong);
    }
    Header::decode(frame.get(clear..).ok_or(Error::Malformed)?)
}

/// What frames are sealed with: `sframe_key` and `sframe_salt` of RFC 9605, 4.4.2.
struct FrameKey {
    kid: u64,
    gcm: GcmKey,
    salt: Secret<NONCE_LENGTH>,
}

impl FrameKey {
    fn derive(suite: Suite, kid: u64, base_key: &[u8]) -> Self {
        let (id, number) = (kid.to_be_bytes(), suite.number().to_be_bytes());
        let key: [&[u8]; 3] = [b"SFrame 1.0 Secret key ", &id, &number];
        let salt: [&[u8]; 3] = [b"SFrame 1.0 Secret salt ", &id, &number];
        match suite {
            Suite::Aes128Gcm => {
                let [key] = kdf::derive(&[0; 32], &[base_key], &key);
                let [salt] = kdf::derive(&[0; 32], &[base_key], &salt);
                let key = start::<32, 16>(&key);
                Self { kid, gcm: GcmKey::aes128(key.expose()), salt: start(&salt) }
            }
            Suite::Aes256Gcm => {
                let [key, salt] = hkdf512::derive(base_key, [&key, &salt]);
                let key = start::<64, 32>(&key);
                Self { kid, gcm: GcmKey::aes256(key.expose()), salt: start(&salt) }
            }
        }
    }

    /// `sframe_salt XOR CTR`
    #[inline]
    fn nonce(&self, counter: u64) -> [u8; NONCE_LENGTH] {
        let mut nonce = *self.salt.expose();
        if let Some(low) = nonce.last_chunk_mut::<8>() {
            *low = (u64::from_be_bytes(*low) ^ counter).to_be_bytes();
        }
        nonce
    }
}

/// The first bytes of an output of HKDF.
fn start<const N: usize, const M: usize>(of: &Secret<N>) -> Secret<M> {
    let mut out = Secret::new([0; M]);
    out.expose_mut().iter_mut().zip(of.expose()).for_each(|(to, from)| *to = *from);
    out
}

/// `header || metadata`, the metadata being what stays in the clear.
struct AssociatedData {
    bytes: [u8; header::MAX_LENGTH + MAX_CLEAR],
    length: usize,
}

impl AssociatedData {
    #[inline]
    fn new(header: &[u8], clear: &[u8]) -> Self {
        let mut bytes = [0; header::MAX_LENGTH + MAX_CLEAR];
        let length = header.len().saturating_add(clear.len());
        let (first, rest) = bytes.split_at_mut(header.len().min(header::MAX_LENGTH));
        first.copy_from_slice(header);
        if let Some(room) = rest.get_mut(..clear.len()) {
            room.copy_from_slice(clear);
        }
        Self { bytes, length }
    }

    fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    fn header(&self, length: usize) -> &[u8] {
        self.bytes.get(..length).unwrap_or_default()
    }
}

/// Shows which key it is of, and how many frames were sealed.
impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealer({}, {} frames)", self.key.kid, self.next)
    }
}

/// Shows which key it is of.
impl fmt::Debug for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Opener({})", self.key.kid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, number};

    #[test]
    fn frames_are_those_of_the_rfc() {
        let file = testing::vectors("sframe.json");
        let cases = file["sframe"].as_array().unwrap();
        assert_eq!(cases.len(), 2);
        for case in cases {
            let suite = Suite::of(number(&case["cipher_suite"])).unwrap();
            let (kid, counter) = (number(&case["kid"]), number(&case["ctr"]));
            let base_key = testing::bytes(&case["base_key"]);
            let mut sealer = Sealer::new(suite, kid, &base_key);
            assert_eq!(sealer.key.salt.expose()[..], testing::bytes(&case["sframe_salt"])[..]);
            assert_eq!(sealer.key.nonce(counter)[..], testing::bytes(&case["nonce"])[..]);
            sealer.next = counter;
            let clear = testing::bytes(&case["metadata"]);
            let text = [&clear[..], &testing::bytes(&case["pt"])].concat();
            let mut frame = text.clone();
            sealer.seal(clear.len(), &mut frame).unwrap();
            assert_eq!(frame, [&clear[..], &testing::bytes(&case["ct"])].concat());
            let mut opener = Opener::new(suite, kid, &base_key);
            opener.open(clear.len(), &mut frame).unwrap();
            assert_eq!(frame, text);
        }
    }

    fn pair() -> (Sealer, Opener) {
        (Sealer::new(Suite::default(), 5, &[9; 32]), Opener::new(Suite::default(), 5, &[9; 32]))
    }

    #[test]
    fn any_changed_bit_is_refused_and_changes_nothing() {
        let (mut sealer, mut opener) = pair();
        let mut frame = b"clear, and a text".to_vec();
        sealer.seal(5, &mut frame).unwrap();
        for at in 0..frame.len() * 8 {
            let mut changed = frame.clone();
            changed[at / 8] ^= 1 << (at % 8);
            let before = changed.clone();
            assert!(opener.open(5, &mut changed).is_err(), "bit {at}");
            assert_eq!(changed, before);
        }
        for length in 0..frame.len() {
            let mut short = frame[..length].to_vec();
            assert!(opener.open(5, &mut short).is_err());
        }
        for clear in [0, 1, 4, 6, 16, 17, usize::MAX] {
            assert!(opener.open(clear, &mut frame.clone()).is_err());
        }
        opener.open(5, &mut frame).unwrap();
        assert_eq!(frame, b"clear, and a text");
    }

    #[test]
    fn a_frame_opens_once_and_a_forgery_does_not_take_its_place() {
        let (mut sealer, mut opener) = pair();
        let frames: Vec<Vec<u8>> = (0..2_000)
            .map(|_| {
                let mut frame = b"text".to_vec();
                sealer.seal(0, &mut frame).unwrap();
                frame
            })
            .collect();
        let mut forged = frames[1_500].clone();
        *forged.last_mut().unwrap() ^= 1;
        assert_eq!(opener.open(0, &mut forged), Err(Error::Decrypt));
        for (at, expected) in [
            (1_100, Ok(())),
            (1_500, Ok(())),
            (1_500, Err(Error::Duplicate)),
            (1_100, Err(Error::Duplicate)),
            (477, Ok(())),
            (476, Err(Error::Duplicate)),
            (1_999, Ok(())),
            (975, Err(Error::Duplicate)),
            (976, Ok(())),
        ] {
            assert_eq!(opener.open(0, &mut frames[at].clone()), expected, "frame {at}");
        }
    }

    #[test]
    fn counters_end_and_do_not_wrap() {
        let (mut sealer, mut opener) = pair();
        sealer.next = MAX_FRAMES - 1;
        let mut last = b"last".to_vec();
        sealer.seal(0, &mut last).unwrap();
        let mut more = b"one more".to_vec();
        assert_eq!(sealer.seal(0, &mut more), Err(Error::Exhausted));
        assert_eq!((more.as_slice(), sealer.next), (&b"one more"[..], MAX_FRAMES));
        opener.open(0, &mut last).unwrap();
        // A peer that counts on is not followed.
        let (mut sealer, mut opener) = pair();
        sealer.next = MAX_FRAMES;
        let header = Header { kid: 5, counter: MAX_FRAMES }.encode();
        let mut frame = [header.as_bytes(), b"text", &[0; 16]].concat();
        let nonce = sealer.key.nonce(MAX_FRAMES);
        let (head, text) = frame.split_at_mut(header.as_bytes().len());
        let (text, tag) = text.split_last_chunk_mut::<16>().unwrap();
        *tag = sealer.key.gcm.seal(&nonce, head, text).unwrap();
        assert_eq!(opener.open(0, &mut frame), Err(Error::Malformed));
    }

    #[test]
    fn lengths_have_limits() {
        let (mut sealer, _) = pair();
        for (clear, length) in [(17, 20), (5, 4), (0, MAX_FRAME - MAX_OVERHEAD + 1)] {
            let mut frame = alloc::vec![0; length];
            assert_eq!(sealer.seal(clear, &mut frame), Err(Error::TooLong));
            assert_eq!((frame.len(), sealer.count()), (length, 0));
        }
        for clear in 0..=16 {
            let mut frame = alloc::vec![7; clear];
            sealer.seal(clear, &mut frame).unwrap();
            assert!(frame.len() <= clear + MAX_OVERHEAD);
        }
    }
}
