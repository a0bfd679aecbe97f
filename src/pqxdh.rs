//! The PQXDH key agreement (Signal, *The PQXDH Key Agreement Protocol*, revision 3; protocol.md, 4).

use alloc::boxed::Box;
use alloc::vec::Vec;

use rand_core::CryptoRng;

use crate::codec::{Reader, Writer};
use crate::crypto::curve::{PublicKey, SecretKey};
use crate::crypto::kdf::{self, NO_SALT};
use crate::crypto::kem::whole as kem;
use crate::crypto::secret::Secret;
use crate::error::Error;
use crate::identity::{IdentityKey, IdentityKeyPair};
use crate::prekey::{
    ENCODE_EC, ENCODE_IDENTITY, ENCODE_KEM_1024, Kind, PrekeyIds, PrekeySecrets, Prekeys, VerifiedBundle,
};

/// `IK_A:32 || EK_A:32 || spk_id:u32 || opk_id:u32 (0 = none) || kem_id:u32 || CT:1568`
pub(crate) const HANDSHAKE_LENGTH: usize = 1644;

/// What a handshake gives to both: a secret, and the digest of all that took part in it.
#[derive(Debug)]
pub(crate) struct SessionSecret {
    /// SK
    pub(crate) secret: Secret<32>,
    /// T
    pub(crate) transcript: [u8; 32],
}

/// What the initiator sends of the handshake.
pub(crate) struct Handshake<'a> {
    identity: &'a [u8; 32],
    pub(crate) ephemeral_key: PublicKey,
    pub(crate) ids: PrekeyIds,
    ciphertext: &'a [u8; kem::CIPHERTEXT_LENGTH],
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
/// [`Error::OwnIdentity`]: the bundle is one's own. [`Error::InvalidKey`]: an X25519 result is all zero.
pub(crate) fn initiate(
    identity: &IdentityKeyPair,
    bundle: &VerifiedBundle,
    rng: &mut impl CryptoRng,
) -> Result<Initiated, Error> {
    if bundle.identity() == identity.public_key() {
        return Err(Error::OwnIdentity);
    }
    let dh1 = identity.to_x25519().diffie_hellman(&bundle.signed_point)?;
    let ephemeral = SecretKey::generate(rng);
    let dh2 = ephemeral.diffie_hellman(&bundle.key.point())?;
    let dh3 = ephemeral.diffie_hellman(&bundle.signed_point)?;
    let dh4 = bundle.one_time.map(|prekey| ephemeral.diffie_hellman(&prekey.key.point())).transpose()?;
    let (ciphertext, shared) = kem::encapsulate(&bundle.kem.key, rng);

    let transcript = Transcript {
        initiator: identity.public_key(),
        responder: bundle.identity(),
        ephemeral_key: ephemeral.public_key(),
        signed: (bundle.signed.id, bundle.signed.key),
        one_time: bundle.one_time.map(|prekey| (prekey.id, prekey.key)),
        kem: (bundle.kem_kind, bundle.kem.id, &bundle.kem.key),
        ciphertext: &ciphertext,
    };
    let session_secret = transcript.derive([&dh1, &dh2, &dh3], dh4.as_ref(), &shared);
    let handshake = Handshake {
        identity: transcript.initiator.as_bytes(),
        ephemeral_key: transcript.ephemeral_key,
        ids: PrekeyIds {
            signed: bundle.signed.id,
            one_time: bundle.one_time.map(|prekey| prekey.id),
            kem: bundle.kem.id,
        },
        ciphertext: &ciphertext,
    };
    let handshake = handshake.encode();
    Ok(Initiated { session_secret, ephemeral_key: transcript.ephemeral_key, handshake })
}

/// The responder's part. It deletes nothing: [`Prekeys::consume`] does, once the message has opened.
///
/// # Errors
/// [`Error::InvalidKey`], [`Error::UnknownPrekey`], [`Error::Replay`]
pub(crate) fn respond(
    identity: &IdentityKeyPair,
    prekeys: &Prekeys,
    handshake: &Handshake<'_>,
) -> Result<Responded, Error> {
    let (initiator, initiator_key) = IdentityKey::verifying(handshake.identity)?;
    let PrekeySecrets { signed, one_time, kem, kem_kind } =
        prekeys.secrets(&handshake.ids, &handshake.ephemeral_key)?;
    let ephemeral = handshake.ephemeral_key.point();
    let dh1 = signed.secret.diffie_hellman(&initiator_key.point())?;
    let dh2 = identity.to_x25519().diffie_hellman(&ephemeral)?;
    let dh3 = signed.secret.diffie_hellman(&ephemeral)?;
    let dh4 = one_time.map(|one_time| one_time.secret.diffie_hellman(&ephemeral)).transpose()?;
    let (kem_public, shared) = kem.decapsulate(handshake.ciphertext);

    let transcript = Transcript {
        initiator,
        responder: identity.public_key(),
        ephemeral_key: handshake.ephemeral_key,
        signed: (handshake.ids.signed, signed.public),
        one_time: handshake.ids.one_time.zip(one_time.map(|one_time| one_time.public)),
        kem: (kem_kind, handshake.ids.kem, &kem_public),
        ciphertext: handshake.ciphertext,
    };
    let session_secret = transcript.derive([&dh1, &dh2, &dh3], dh4.as_ref(), &shared);
    Ok(Responded { session_secret, initiator, signed_prekey: signed.secret.clone() })
}

/// All that takes part in a handshake, in the order in which it is hashed.
struct Transcript<'a> {
    initiator: IdentityKey,
    responder: IdentityKey,
    ephemeral_key: PublicKey,
    signed: (u32, PublicKey),
    one_time: Option<(u32, PublicKey)>,
    kem: (Kind, u32, &'a [u8; kem::PUBLIC_KEY_LENGTH]),
    ciphertext: &'a [u8; kem::CIPHERTEXT_LENGTH],
}

impl Transcript<'_> {
    /// ```text
    /// T  = H("Subrosa v1 transcript" || EncodeIdentity(IK_A) || EncodeIdentity(IK_B) || EncodeEC(EK_A) ||
    ///        spk_id:u32 || EncodeEC(SPK_B) || opk_id:u32 (0 if none) || [EncodeEC(OPK_B)] ||
    ///        kem_kind:u8 || kem_id:u32 || EncodeKEM1024(PQPK_B) || CT)
    /// SK = HKDF(0, F || DH1 || DH2 || DH3 || [DH4] || SS, "Subrosa v1 PQXDH" || T, 32), F = 32 bytes 0xFF
    /// ```
    fn derive(&self, dh: [&Secret<32>; 3], dh4: Option<&Secret<32>>, shared: &Secret<32>) -> SessionSecret {
        let transcript = kdf::hash(&[&self.encode()]);
        let [dh1, dh2, dh3] = dh.map(Secret::expose);
        let dh4 = dh4.map(Secret::expose).map_or(&[][..], <[u8; 32]>::as_slice);
        let ikm: [&[u8]; 6] = [&[0xff; 32], dh1, dh2, dh3, dh4, shared.expose()];
        let [secret] = kdf::hkdf(&NO_SALT, &ikm, &[b"Subrosa v1 PQXDH", &transcript]);
        SessionSecret { secret, transcript }
    }

    fn encode(&self) -> Vec<u8> {
        let (kem_kind, kem_id, kem_key) = self.kem;
        let out = Writer::with_capacity(3400).bytes(b"Subrosa v1 transcript");
        let out = out.u8(ENCODE_IDENTITY).bytes(self.initiator.as_bytes());
        let out = out.u8(ENCODE_IDENTITY).bytes(self.responder.as_bytes());
        let out = out.u8(ENCODE_EC).bytes(self.ephemeral_key.as_bytes());
        let out = out.u32(self.signed.0).u8(ENCODE_EC).bytes(self.signed.1.as_bytes());
        let out = match &self.one_time {
            Some((id, key)) => out.u32(*id).u8(ENCODE_EC).bytes(key.as_bytes()),
            None => out.u32(0),
        };
        out.u8(kem_kind.byte()).u32(kem_id).u8(ENCODE_KEM_1024).bytes(kem_key).bytes(self.ciphertext).done()
    }
}

impl<'a> Handshake<'a> {
    pub(crate) fn decode(bytes: &'a [u8; HANDSHAKE_LENGTH]) -> Result<Self, Error> {
        let mut reader = Reader::new(bytes);
        let identity = reader.array()?;
        let ephemeral_key = PublicKey::new(*reader.array()?);
        let (signed, one_time, kem) = (reader.u32()?, reader.u32()?, reader.u32()?);
        let one_time = if one_time == 0 { None } else { Some(one_time) };
        let ids = PrekeyIds { signed, one_time, kem };
        Ok(Self { identity, ephemeral_key, ids, ciphertext: reader.array()? })
    }

    fn encode(&self) -> Box<[u8; HANDSHAKE_LENGTH]> {
        let PrekeyIds { signed, one_time, kem } = self.ids;
        let out = Writer::with_capacity(HANDSHAKE_LENGTH).bytes(self.identity);
        let out = out.bytes(self.ephemeral_key.as_bytes());
        let out = out.u32(signed).u32(one_time.unwrap_or(0)).u32(kem).bytes(self.ciphertext);
        out.done().try_into().expect("32 + 32 + 4 + 4 + 4 + 1568 = 1644")
    }
}
