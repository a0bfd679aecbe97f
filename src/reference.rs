//! References: what an envelope is called, so that its receiver can ask for it again.

use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};

use crate::at_rest;
use crate::crypto::kdf::HmacKey;
use crate::crypto::secret::Secret;
use crate::identity::IdentityKey;
use crate::session::SessionId;

/// The name of an envelope: 16 bytes that mean something to its sender alone.
///
/// ```text
/// p         = class:u2 || number:u38 || drawn:u24
/// tag       = HMAC(k1, p || session id:32 || receiver's identity:32)[..8]
/// reference = tag || (p XOR HMAC(k2, tag)[..8])
/// ```
///
/// `number` counts the envelopes to that device. A reference proves, before any row is read, that
/// this device made it, in which session, and for which device: nobody else can ask for what it
/// stands for. The drawn part keeps a reference from coming twice where a store was restored from
/// a copy and counts on from there.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Reference(#[serde(with = "at_rest::array")] pub(crate) [u8; 16]);

/// The two keys of a device's references. They never leave the store.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct ReferenceKeys {
    tag: Secret<32>,
    mask: Secret<32>,
}

/// What an envelope holds, as far as asking for it again goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Class {
    /// A text or its copy: in the log.
    Text,
    /// A retry request: in a log of its own.
    Request,
    /// What can be said anew at any time.
    Other,
}

/// What a reference stands for: the number of the envelope among those to its receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) class: Class,
    pub(crate) number: u64,
}

const NUMBER_BITS: u32 = 38;
const DRAWN_BITS: u32 = 24;

impl Reference {
    pub(crate) const LENGTH: usize = 16;
}

impl ReferenceKeys {
    /// Draws 64 bytes.
    pub(crate) fn random(rng: &mut dyn CryptoRng) -> Self {
        Self { tag: Secret::random(rng), mask: Secret::random(rng) }
    }

    /// A new reference. Draws 3 bytes.
    pub(crate) fn reference(
        &self,
        named: Named,
        session: &SessionId,
        receiver: &IdentityKey,
        rng: &mut dyn CryptoRng,
    ) -> Reference {
        let mut drawn = [0; 8];
        rng.fill_bytes(&mut drawn[5..]);
        let drawn = u64::from_be_bytes(drawn);
        let number = named.number & ((1 << NUMBER_BITS) - 1);
        let class: u64 = match named.class {
            Class::Text => 0,
            Class::Request => 1,
            Class::Other => 2,
        };
        let p = class.wrapping_shl(NUMBER_BITS) | number;
        let p = (p.wrapping_shl(DRAWN_BITS) | drawn).to_be_bytes();
        let tag = self.tag(&p, session, receiver);
        let mut reference = [0; 16];
        let (first, second) = reference.split_at_mut(8);
        first.copy_from_slice(&tag);
        second.copy_from_slice(&self.masked(&tag, p));
        Reference(reference)
    }

    /// What a reference stands for, and in which of `sessions` it was made; none where this device
    /// did not make it for `receiver` in one of those.
    pub(crate) fn open<'s>(
        &self,
        reference: Reference,
        sessions: impl IntoIterator<Item = &'s SessionId>,
        receiver: &IdentityKey,
    ) -> Option<(Named, SessionId)> {
        let (tag, masked) = reference.0.split_first_chunk::<8>()?;
        let p = self.masked(tag, *masked.first_chunk::<8>()?);
        let made = |id: &&SessionId| {
            let ours = self.tag(&p, id, receiver);
            bool::from(subtle::ConstantTimeEq::ct_eq(&ours[..], &tag[..]))
        };
        let session = sessions.into_iter().find(made)?;
        let p = u64::from_be_bytes(p).wrapping_shr(DRAWN_BITS);
        let class = match p.wrapping_shr(NUMBER_BITS) {
            0 => Class::Text,
            1 => Class::Request,
            2 => Class::Other,
            _ => return None,
        };
        Some((Named { class, number: p & ((1 << NUMBER_BITS) - 1) }, *session))
    }

    fn tag(&self, p: &[u8; 8], session: &SessionId, receiver: &IdentityKey) -> [u8; 8] {
        let mac = HmacKey::new(&self.tag).mac(&[p, session.as_bytes(), receiver.as_bytes()]);
        first_8(&mac)
    }

    fn masked(&self, tag: &[u8; 8], p: [u8; 8]) -> [u8; 8] {
        let mask = first_8(&HmacKey::new(&self.mask).mac(&[tag]));
        (u64::from_be_bytes(p) ^ u64::from_be_bytes(mask)).to_be_bytes()
    }
}

fn first_8(mac: &Secret<32>) -> [u8; 8] {
    let [a, b, c, d, e, f, g, h, ..] = *mac.expose();
    crate::crypto::mark::public([a, b, c, d, e, f, g, h])
}

impl core::fmt::Debug for Reference {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        crate::codec::hex(f, &self.0)
    }
}

/// Shows nothing of them.
impl core::fmt::Debug for ReferenceKeys {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("ReferenceKeys")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::IdentityKeyPair;
    use crate::testing::Replay;

    fn session(byte: u8) -> SessionId {
        postcard::from_bytes(&[&[32][..], &[byte; 32]].concat()).unwrap()
    }

    #[test]
    fn a_reference_opens_for_the_device_and_the_session_that_it_was_made_for() {
        let rng = &mut Replay::counting();
        let keys = ReferenceKeys::random(rng);
        let [bob, eve] = [(); 2].map(|()| IdentityKeyPair::generate(rng).public_key());
        let (one, two) = (session(1), session(2));
        for class in [Class::Text, Class::Request, Class::Other] {
            for number in [0, 1, 1_000, (1 << NUMBER_BITS) - 1] {
                let named = Named { class, number };
                let reference = keys.reference(named, &one, &bob, rng);
                assert_eq!(keys.open(reference, [&two, &one], &bob), Some((named, one)));
                assert_eq!(keys.open(reference, [&two], &bob), None);
                assert_eq!(keys.open(reference, [&one], &eve), None);
                assert_eq!(ReferenceKeys::random(rng).open(reference, [&one], &bob), None);
                for bit in 0..128 {
                    let mut bad = reference;
                    bad.0[bit / 8] ^= 1 << (bit % 8);
                    assert_eq!(keys.open(bad, [&one], &bob), None, "bit {bit}");
                }
            }
        }
    }

    #[test]
    fn no_two_references_to_one_number_are_alike() {
        let rng = &mut Replay::counting();
        let keys = ReferenceKeys::random(rng);
        let bob = IdentityKeyPair::generate(rng).public_key();
        let named = Named { class: Class::Text, number: 7 };
        let [one, two] = [(); 2].map(|()| keys.reference(named, &session(1), &bob, rng));
        assert_ne!(one.0[..8], two.0[..8]);
        assert_ne!(one.0[8..], two.0[8..]);
    }
}
