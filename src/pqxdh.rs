//! The PQXDH key agreement (Signal, *The PQXDH Key Agreement Protocol*, revision 3; protocol.md,
//! 4).

use alloc::boxed::Box;
use alloc::vec::Vec;

use rand_core::CryptoRng;

use crate::codec::{Reader, Writer};
use crate::crypto::aead::{MessageKey, NONCE_LENGTH, TAG_LENGTH};
use crate::crypto::curve::{PublicKey, SecretKey};
use crate::crypto::kdf;
use crate::crypto::kem::whole as kem;
use crate::crypto::mark;
use crate::crypto::secret::Secret;
use crate::crypto::signature::VerifyingKey;
use crate::error::Error;
use crate::identity::{IdentityKey, IdentityKeyPair};
use crate::prekey::{
    ENCODE_EC, ENCODE_IDENTITY, ENCODE_KEM_1024, Kind, PrekeyIds, PrekeySecrets, Prekeys,
    VerifiedBundle,
};

/// `EK_A:32 || spk_id:u32 || opk_id:u32 (0 = none) || kem_id:u32 || CT:1568 || sealed:48`
pub(crate) const HANDSHAKE_LENGTH: usize = 1660;

/// `sealed`: the initiator's identity and a tag.
const SEALED_LENGTH: usize = 32 + TAG_LENGTH;

/// What a handshake gives to both: a secret, and the digest of all that took part in it.
#[derive(Debug)]
pub(crate) struct SessionSecret {
    /// SK
    pub(crate) secret: Secret<32>,
    /// T
    pub(crate) transcript: [u8; 32],
}

/// What the initiator sends of the handshake.
///
/// Nobody who only watches the network learns from it who the initiator is.
pub(crate) struct Handshake<'a> {
    pub(crate) ephemeral_key: PublicKey,
    pub(crate) ids: PrekeyIds,
    ciphertext: &'a [u8; kem::CIPHERTEXT_LENGTH],
    sealed: &'a [u8; SEALED_LENGTH],
}

/// What the initiator comes out with.
pub(crate) struct Initiated {
    pub(crate) session_secret: SessionSecret,
    pub(crate) ephemeral_key: PublicKey,
    pub(crate) handshake: Box<[u8; HANDSHAKE_LENGTH]>,
}

/// What the responder comes out with.
pub(crate) struct Responded {
    pub(crate) session_secret: SessionSecret,
    pub(crate) initiator: IdentityKey,
    /// The signed prekey that was used: the responder's first ratchet key.
    pub(crate) signed_prekey: SecretKey,
}

/// The initiator's part. Draws 32 bytes, the ephemeral key, then 32 to encapsulate with.
///
/// # Errors
/// [`Error::OwnIdentity`]: the bundle is one's own. [`Error::InvalidKey`]: an X25519 result is all
/// zero.
pub(crate) fn initiate(
    identity: &IdentityKeyPair,
    bundle: &VerifiedBundle,
    rng: &mut dyn CryptoRng,
) -> Result<Initiated, Error> {
    if bundle.identity() == identity.public_key() {
        return Err(Error::OwnIdentity);
    }
    let dh1 = identity.to_x25519().diffie_hellman(&bundle.signed_point)?;
    let ephemeral = SecretKey::generate(rng);
    let dh2 = ephemeral.diffie_hellman(&bundle.key.point())?;
    let dh3 = ephemeral.diffie_hellman(&bundle.signed_point)?;
    let dh4 =
        bundle.one_time.map(|prekey| ephemeral.diffie_hellman(&prekey.key.point())).transpose()?;
    let (ciphertext, shared) = kem::encapsulate(&bundle.kem.key, rng);
    let agreed = Agreed { dh2, dh3, dh4, shared };

    let exchange = Exchange {
        responder: bundle.identity(),
        ephemeral_key: ephemeral.public_key(),
        signed: (bundle.signed.id, bundle.signed.key),
        one_time: bundle.one_time.map(|prekey| (prekey.id, prekey.key)),
        kem: (bundle.kem_kind, bundle.kem.id, &bundle.kem.key),
        ciphertext: &ciphertext,
    };
    let public = exchange.encode();
    let sealed = Sealing::new(&public, &agreed).seal(&identity.public_key());
    let session_secret = SessionSecret::derive(&identity.public_key(), &public, &dh1, &agreed);
    let ids = PrekeyIds {
        signed: bundle.signed.id,
        one_time: bundle.one_time.map(|prekey| prekey.id),
        kem: bundle.kem.id,
    };
    let ephemeral_key = exchange.ephemeral_key;
    let handshake =
        Handshake { ephemeral_key, ids, ciphertext: &ciphertext, sealed: &sealed }.encode();
    Ok(Initiated { session_secret, ephemeral_key, handshake })
}

/// The responder's part. It deletes nothing: [`Prekeys::consume`] does, once the message has
/// opened.
///
/// # Errors
/// In this order: [`Error::UnknownPrekey`], [`Error::Replay`]: the prekeys cannot answer it.
/// [`Error::InvalidKey`]: an X25519 result is all zero. [`Error::Decrypt`]: the identity does not
/// open. [`Error::InvalidKey`]: it opens, and is no identity key.
pub(crate) fn respond(
    identity: &IdentityKeyPair,
    prekeys: &Prekeys,
    handshake: &Handshake<'_>,
) -> Result<Responded, Error> {
    let PrekeySecrets { signed, one_time, kem, kem_kind } =
        prekeys.secrets(&handshake.ids, &handshake.ephemeral_key)?;
    let ephemeral = handshake.ephemeral_key.point();
    let dh2 = identity.to_x25519().diffie_hellman(&ephemeral)?;
    let dh3 = signed.secret.diffie_hellman(&ephemeral)?;
    let dh4 = one_time.map(|one_time| one_time.secret.diffie_hellman(&ephemeral)).transpose()?;
    let (kem_public, shared) = kem.decapsulate(handshake.ciphertext);
    let agreed = Agreed { dh2, dh3, dh4, shared };

    let exchange = Exchange {
        responder: identity.public_key(),
        ephemeral_key: handshake.ephemeral_key,
        signed: (handshake.ids.signed, signed.public),
        one_time: handshake.ids.one_time.zip(one_time.map(|one_time| one_time.public)),
        kem: (kem_kind, handshake.ids.kem, &kem_public),
        ciphertext: handshake.ciphertext,
    };
    let public = exchange.encode();
    let (initiator, initiator_key) = Sealing::new(&public, &agreed).open(handshake.sealed)?;
    let dh1 = signed.secret.diffie_hellman(&initiator_key.point())?;
    let session_secret = SessionSecret::derive(&initiator, &public, &dh1, &agreed);
    Ok(Responded { session_secret, initiator, signed_prekey: signed.secret.clone() })
}

/// What both sides can compute without the initiator's identity.
struct Agreed {
    dh2: Secret<32>,
    dh3: Secret<32>,
    dh4: Option<Secret<32>>,
    /// SS
    shared: Secret<32>,
}

impl Agreed {
    /// `DH2 || DH3 || [DH4] || SS`, in parts.
    fn parts(&self) -> [&[u8]; 4] {
        let dh4 = self.dh4.as_ref().map_or(&[][..], |dh4| dh4.expose());
        [self.dh2.expose(), self.dh3.expose(), dh4, self.shared.expose()]
    }
}

/// The public values of a handshake, without the initiator's identity.
struct Exchange<'a> {
    responder: IdentityKey,
    ephemeral_key: PublicKey,
    signed: (u32, PublicKey),
    one_time: Option<(u32, PublicKey)>,
    kem: (Kind, u32, &'a [u8; kem::PUBLIC_KEY_LENGTH]),
    ciphertext: &'a [u8; kem::CIPHERTEXT_LENGTH],
}

impl Exchange<'_> {
    /// ```text
    /// EncodeIdentity(IK_B) || EncodeEC(EK_A) || spk_id:u32 || EncodeEC(SPK_B) ||
    ///     opk_id:u32 (0 if none) || [EncodeEC(OPK_B)] || kem_kind:u8 || kem_id:u32 || EncodeKEM1024(PQPK_B) || CT
    /// ```
    fn encode(&self) -> Vec<u8> {
        let (kem_kind, kem_id, kem_key) = self.kem;
        let out = Writer::with_capacity(3300).u8(ENCODE_IDENTITY).bytes(self.responder.as_bytes());
        let out = out.u8(ENCODE_EC).bytes(self.ephemeral_key.as_bytes());
        let out = out.u32(self.signed.0).u8(ENCODE_EC).bytes(self.signed.1.as_bytes());
        let out = match &self.one_time {
            Some((id, key)) => out.u32(*id).u8(ENCODE_EC).bytes(key.as_bytes()),
            None => out.u32(0),
        };
        out.u8(kem_kind.byte())
            .u32(kem_id)
            .u8(ENCODE_KEM_1024)
            .bytes(kem_key)
            .bytes(self.ciphertext)
            .done()
    }
}

/// What seals the initiator's identity: once, since a handshake is made once and repeated as it is.
struct Sealing {
    /// Ts
    transcript: [u8; 32],
    /// Ks, with a nonce of zeros.
    key: MessageKey,
}

impl Sealing {
    /// With `public` as [`Exchange::encode`] gives it:
    ///
    /// ```text
    /// Ts = H("Subrosa v1 sealed" || public)
    /// Ks = HKDF(0, F || DH2 || DH3 || [DH4] || SS, "Subrosa v1 sealed" || Ts, 32), F = 32 bytes 0xFF
    /// ```
    fn new(public: &[u8], agreed: &Agreed) -> Self {
        let transcript = kdf::hash(&[SEALED, public]);
        let [dh2, dh3, dh4, shared] = agreed.parts();
        let [key] = kdf::derive(&NO_SALT, &[&F, dh2, dh3, dh4, shared], &[SEALED, &transcript]);
        Self { transcript, key: MessageKey { key, nonce: [0; NONCE_LENGTH] } }
    }

    /// `AEAD(Ks, 12 zero bytes, IK_A, Ts)`
    fn seal(self, initiator: &IdentityKey) -> [u8; SEALED_LENGTH] {
        let mut sealed = [0; SEALED_LENGTH];
        let (text, _) = sealed.split_first_chunk_mut().expect("48 bytes are 32 and 16");
        *text = *initiator.as_bytes();
        self.key.seal(&mut sealed, &self.transcript);
        mark::public(sealed)
    }

    /// # Errors
    /// [`Error::Decrypt`]: it is not what the initiator sealed. [`Error::InvalidKey`]: no identity
    /// key is in it.
    fn open(self, sealed: &[u8; SEALED_LENGTH]) -> Result<(IdentityKey, VerifyingKey), Error> {
        let opened = self.key.open(sealed, &self.transcript)?;
        let opened: [u8; 32] = opened.try_into().map_err(|_| Error::Decrypt)?;
        // The caller is told who wrote.
        IdentityKey::verifying(&mark::public(opened))
    }
}

impl SessionSecret {
    /// With `public` as [`Exchange::encode`] gives it:
    ///
    /// ```text
    /// T  = H("Subrosa v1 transcript" || EncodeIdentity(IK_A) || public)
    /// SK = HKDF(0, F || DH1 || DH2 || DH3 || [DH4] || SS, "Subrosa v1 PQXDH" || T, 32), F = 32 bytes 0xFF
    /// ```
    fn derive(initiator: &IdentityKey, public: &[u8], dh1: &Secret<32>, agreed: &Agreed) -> Self {
        let transcript = kdf::hash(&[
            b"Subrosa v1 transcript",
            &[ENCODE_IDENTITY],
            initiator.as_bytes(),
            public,
        ]);
        let [dh2, dh3, dh4, shared] = agreed.parts();
        let ikm = [&F, dh1.expose(), dh2, dh3, dh4, shared];
        let [secret] = kdf::derive(&NO_SALT, &ikm, &[b"Subrosa v1 PQXDH", &transcript]);
        Self { secret, transcript }
    }
}

impl<'a> Handshake<'a> {
    pub(crate) fn decode(bytes: &'a [u8; HANDSHAKE_LENGTH]) -> Result<Self, Error> {
        let mut reader = Reader::new(bytes);
        let ephemeral_key = PublicKey::new(*reader.array()?);
        let (signed, one_time, kem) = (reader.u32()?, reader.u32()?, reader.u32()?);
        let one_time = if one_time == 0 { None } else { Some(one_time) };
        let ids = PrekeyIds { signed, one_time, kem };
        Ok(Self { ephemeral_key, ids, ciphertext: reader.array()?, sealed: reader.array()? })
    }

    fn encode(&self) -> Box<[u8; HANDSHAKE_LENGTH]> {
        let PrekeyIds { signed, one_time, kem } = self.ids;
        let out = Writer::with_capacity(HANDSHAKE_LENGTH).bytes(self.ephemeral_key.as_bytes());
        let out = out.u32(signed).u32(one_time.unwrap_or(0)).u32(kem);
        let out = out.bytes(self.ciphertext).bytes(self.sealed).done();
        out.try_into().expect("32 + 4 + 4 + 4 + 1568 + 48 = 1660")
    }
}

/// The salt where there is none.
const NO_SALT: [u8; 32] = [0; 32];

/// The label of what seals the initiator's identity.
const SEALED: &[u8] = b"Subrosa v1 sealed";

/// So that no input of the KDF is an encoded curve point (PQXDH, 2.2).
const F: [u8; 32] = [0xff; 32];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::curve::KeyPair;
    use crate::prekey::Bundle;
    use crate::testing::{Replay, bytes, hex, number, vectors};
    use serde_json::Value;

    fn identity(seed: &Value) -> IdentityKeyPair {
        IdentityKeyPair::generate(&mut Replay::new([bytes(seed)]))
    }

    /// Every named value of a handshake, as both sides have it.
    #[test]
    fn each_value_of_a_handshake_is_the_vectors_on_both_sides() {
        for case in vectors("handshake.json")["cases"].as_array().unwrap() {
            let (setup, known) = (&case["setup"], &case["handshake"]);
            let (alice, bob) = (&setup["A"]["identity_seed"], &setup["B"]["identity_seed"]);
            let (alice, bob) = (identity(alice), identity(bob));
            let bundle = Bundle::decode(&bytes(&setup["bundle"])).unwrap();
            let bundle = bundle.verify(&alice.public_key(), number(&setup["now"])).unwrap();
            let pair = |key: &Value| KeyPair::generate(&mut Replay::new([bytes(&key["secret"])]));
            let (signed, one_time) = (pair(&setup["B"]["spk"]), &setup["B"]["opk"]);
            let one_time = Some(one_time).filter(|key| !key.is_null()).map(pair);

            let mut rng = Replay::of(&known["draws"]);
            let ephemeral = SecretKey::generate(&mut rng);
            let (ciphertext, shared) = kem::encapsulate(&bundle.kem.key, &mut rng);
            let kem =
                kem::SecretKey::generate(&mut Replay::new([bytes(&setup["B"]["kem"]["secret"])]));
            let (kem_public, shared_too) = kem.decapsulate(&ciphertext);
            assert_eq!((&shared, &kem_public), (&shared_too, &bundle.kem.key));
            let ephemeral_key = ephemeral.public_key();
            let both = |one: &SecretKey, theirs: PublicKey, two: &SecretKey, ours: PublicKey| {
                let dh = one.diffie_hellman(&theirs.point()).unwrap();
                assert_eq!(dh, two.diffie_hellman(&ours.point()).unwrap());
                dh
            };
            let (alices, bobs) = (alice.to_x25519(), bob.to_x25519());
            let dh1 = both(&alices, signed.public, &signed.secret, alices.public_key());
            let dh2 = both(&ephemeral, bobs.public_key(), &bobs, ephemeral_key);
            let dh3 = both(&ephemeral, signed.public, &signed.secret, ephemeral_key);
            let dh4 = one_time
                .as_ref()
                .map(|key| both(&ephemeral, key.public, &key.secret, ephemeral_key));
            for (name, value) in [("DH1", &dh1), ("DH2", &dh2), ("DH3", &dh3), ("SS", &shared)] {
                assert_eq!(hex(value.expose()), known[name], "{name}");
            }
            assert_eq!(dh4.as_ref().map(|dh4| hex(dh4.expose())).as_deref(), known["DH4"].as_str());
            assert_eq!(hex(&*ciphertext), known["CT"]);

            let agreed = Agreed { dh2, dh3, dh4, shared };
            let public = Exchange {
                responder: bob.public_key(),
                ephemeral_key,
                signed: (bundle.signed.id, bundle.signed.key),
                one_time: bundle.one_time.map(|prekey| (prekey.id, prekey.key)),
                kem: (bundle.kem_kind, bundle.kem.id, &bundle.kem.key),
                ciphertext: &ciphertext,
            };
            let public = public.encode();
            let sealing = Sealing::new(&public, &agreed);
            assert_eq!(hex(&sealing.transcript), known["Ts"]);
            assert_eq!(hex(sealing.key.key.expose()), known["Ks"]);
            let sealed = sealing.seal(&alice.public_key());
            assert_eq!(hex(&sealed), known["sealed"]);
            let (opened, _) = Sealing::new(&public, &agreed).open(&sealed).unwrap();
            assert_eq!(opened, alice.public_key());
            let session_secret = SessionSecret::derive(&opened, &public, &dh1, &agreed);
            assert_eq!(hex(&session_secret.transcript), known["T"]);
            assert_eq!(hex(session_secret.secret.expose()), known["SK"]);
        }
    }

    #[test]
    fn nobody_begins_a_session_with_themselves_whoever_verified_the_bundle() {
        let mut rng = Replay::stream("own", 0);
        let own = IdentityKeyPair::generate(&mut rng);
        let other = IdentityKeyPair::generate(&mut rng).public_key();
        let bundle = Prekeys::generate(1, 0, &mut rng).unwrap().publish(&own).pop_bundle().unwrap();
        let bundle = bundle.verify(&other, 0).unwrap();
        // Nothing is drawn.
        let nothing = &mut Replay::new([]);
        assert_eq!(initiate(&own, &bundle, nothing).map(drop), Err(Error::OwnIdentity));
    }
}
