//! Ed25519 (RFC 8032), and the X25519 form of its keys.

use core::fmt;

use ed25519_dalek::Signer;
use sha2::{Digest, Sha512};
use zeroize::Zeroizing;

use super::curve::{Point, SecretKey};
use super::secret::Secret;
use super::{assembly, mark};
use crate::error::Error;

/// A signing key: a seed of 32 bytes and what follows from it.
#[derive(Clone)]
#[allow(
    clippy::large_enum_variant,
    reason = "most builds have only the large one, which stays where it always was"
)]
pub(crate) enum SigningKey {
    Dalek(ed25519_dalek::SigningKey),
    Assembly(assembly::SigningKey),
}

impl SigningKey {
    pub(crate) fn from_seed(seed: &Secret<32>) -> Self {
        assembly::SigningKey::from_seed(seed).map_or_else(|| Self::of_dalek(seed), Self::Assembly)
    }

    fn of_dalek(seed: &Secret<32>) -> Self {
        Self::Dalek(ed25519_dalek::SigningKey::from_bytes(seed.expose()))
    }

    pub(crate) fn seed(&self) -> Secret<32> {
        match self {
            Self::Dalek(key) => Secret::new(key.to_bytes()),
            Self::Assembly(key) => key.seed(),
        }
    }

    pub(crate) fn public_key(&self) -> [u8; 32] {
        mark::public(match self {
            Self::Dalek(key) => key.verifying_key().to_bytes(),
            Self::Assembly(key) => key.public_key(),
        })
    }

    pub(crate) fn sign(&self, message: &[u8]) -> [u8; 64] {
        mark::public(match self {
            Self::Dalek(key) => key.sign(message).to_bytes(),
            Self::Assembly(key) => key.sign(message),
        })
    }

    /// The first 32 bytes of SHA-512(seed) (RFC 8032, 5.1.5).
    pub(crate) fn to_x25519(&self) -> SecretKey {
        let scalar = Zeroizing::new(match self {
            Self::Dalek(key) => key.to_scalar_bytes(),
            Self::Assembly(key) => {
                let hash = Zeroizing::new(<[u8; 64]>::from(Sha512::digest(key.seed().expose())));
                let (scalar, _prefix) = hash.split_first_chunk().expect("64 are more than 32");
                *scalar
            }
        });
        SecretKey::new(Secret::new(*scalar))
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey")
    }
}

/// A public key that is what it should be: the canonical encoding of a point of the prime-order
/// subgroup other than the neutral element.
#[derive(Clone, Debug)]
pub(crate) struct VerifyingKey(ed25519_dalek::VerifyingKey);

impl VerifyingKey {
    /// # Errors
    /// [`Error::InvalidKey`]: a point with a torsion component would give one identity several
    /// encodings.
    pub(crate) fn decode(bytes: &[u8; 32]) -> Result<Self, Error> {
        let key = ed25519_dalek::VerifyingKey::from_bytes(bytes).map_err(|_| Error::InvalidKey)?;
        let point = key.to_edwards();
        // x = 0 with the sign bit set is not canonical either, but has small order.
        if is_canonical(bytes) && !point.is_small_order() && point.is_torsion_free() {
            Ok(Self(key))
        } else {
            Err(Error::InvalidKey)
        }
    }

    /// A key that was checked before, in our own state.
    pub(crate) fn checked(bytes: &[u8; 32]) -> Option<Self> {
        ed25519_dalek::VerifyingKey::from_bytes(bytes).ok().map(Self)
    }

    pub(crate) fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// Verifies strictly: canonical R and S, R not of small order, the equation without the
    /// cofactor.
    ///
    /// # Errors
    /// [`Error::BadSignature`]
    pub(crate) fn verify(&self, message: &[u8], signature: &[u8; 64]) -> Result<(), Error> {
        let signature = ed25519_dalek::Signature::from_bytes(signature);
        self.0.verify_strict(message, &signature).map_err(|_| Error::BadSignature)
    }

    /// For exchanges with the X25519 form of the key.
    pub(crate) fn point(&self) -> Point {
        Point::of_edwards(self.0.to_edwards())
    }
}

/// Whether y < p = 2^255 - 19, the top bit apart.
fn is_canonical(bytes: &[u8; 32]) -> bool {
    let [first, middle @ .., last] = bytes;
    last & 0x7f != 0x7f || middle.iter().any(|byte| *byte != 0xff) || *first < 0xed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::kdf;
    use crate::testing::{array, bytes, vectors};

    #[test]
    fn key_pairs_and_their_x25519_form() {
        for case in vectors("identity.json")["keys"].as_array().unwrap() {
            let key = SigningKey::from_seed(&Secret::new(array(&case["seed"])));
            assert_eq!(key.public_key(), array(&case["public"]));
            assert_eq!(*key.to_x25519().public_key().as_bytes(), array(&case["x25519_public"]));
            // The vector's secret is clamped, as every use of ours is.
            let mut scalar = *key.to_x25519().secret().expose();
            scalar[0] &= 248;
            scalar[31] = scalar[31] & 127 | 64;
            assert_eq!(scalar, array(&case["x25519_secret"]));
        }
    }

    #[test]
    fn assembly_signs_as_dalek_does() {
        for number in 0..500_u32 {
            let seed = Secret::new(kdf::hash(&[b"seed", &number.to_be_bytes()]));
            let (ours, dalek) = (SigningKey::from_seed(&seed), SigningKey::of_dalek(&seed));
            assert_eq!(matches!(ours, SigningKey::Assembly(_)), assembly::is_there());
            let message = kdf::hash(&[b"message", &number.to_be_bytes()]).repeat(9);
            let (message, _) = message.split_at(usize::try_from(number).unwrap() % 288);
            assert_eq!(ours.sign(message), dalek.sign(message));
            assert_eq!(ours.public_key(), dalek.public_key());
            assert_eq!(ours.to_x25519().secret(), dalek.to_x25519().secret());
            assert_eq!([ours.seed(), dalek.seed()], [seed.clone(), seed]);
            assert_eq!(alloc::format!("{:?}", ours.clone()), "SigningKey");
        }
    }

    #[test]
    fn encodings_to_take_and_to_refuse() {
        for case in vectors("identity.json")["decode"].as_array().unwrap() {
            let decoded = VerifyingKey::decode(&array(&case["encoding"]));
            match case["result"].as_str().unwrap() {
                "ok" => {
                    let u = match decoded.unwrap().point() {
                        Point::Curve(point) => point.to_montgomery().to_bytes(),
                        Point::Ladder(public) => *public.as_bytes(),
                    };
                    assert_eq!(u, array(&case["x25519_public"]));
                }
                _ => assert_eq!(decoded.unwrap_err(), Error::InvalidKey, "{}", case["name"]),
            }
        }
    }

    #[test]
    fn wycheproof() {
        let file = vectors("wycheproof/ed25519_test.json");
        let (mut taken, mut refused) = (0, 0);
        for group in file["testGroups"].as_array().unwrap() {
            let key = VerifyingKey::decode(&array(&group["publicKey"]["pk"])).unwrap();
            for test in group["tests"].as_array().unwrap() {
                let signature = <[u8; 64]>::try_from(bytes(&test["sig"]));
                let holds = signature
                    .is_ok_and(|signature| key.verify(&bytes(&test["msg"]), &signature).is_ok());
                assert_eq!(holds, (test["result"] == "valid"), "case {}", test["tcId"]);
                *(if holds { &mut taken } else { &mut refused }) += 1;
            }
        }
        // We are stricter with none of these: all keys are genuine ones, and so are the valid
        // signatures.
        assert_eq!((taken, refused), (88, 63));
    }

    /// Where we ask more than RFC 8032 and Wycheproof do: small order, torsion, encodings that are
    /// not canonical.
    #[test]
    fn what_a_lenient_verifier_takes_is_refused() {
        let file = vectors("identity.json");
        let keys = file["decode"].as_array().unwrap().iter().filter(|case| {
            let encoding = array(&case["encoding"]);
            ed25519_dalek::VerifyingKey::from_bytes(&encoding).is_ok()
                && VerifyingKey::decode(&encoding).is_err()
        });
        let signatures = file["verify"].as_array().unwrap().iter().filter(|case| {
            let key = ed25519_dalek::VerifyingKey::from_bytes(&array(&case["public"])).unwrap();
            let (message, signature) = (bytes(&case["message"]), array(&case["signature"]));
            let lenient = ed25519_dalek::Verifier::verify(&key, &message, &signature.into());
            lenient.is_ok() && VerifyingKey(key).verify(&message, &signature).is_err()
        });
        assert_eq!((keys.count(), signatures.count()), (17, 2));
    }

    #[test]
    fn signatures_to_take_and_to_refuse() {
        for case in vectors("identity.json")["verify"].as_array().unwrap() {
            // One case has a key that decode refuses: verification alone must refuse it too.
            let key = ed25519_dalek::VerifyingKey::from_bytes(&array(&case["public"])).unwrap();
            let verified =
                VerifyingKey(key).verify(&bytes(&case["message"]), &array(&case["signature"]));
            match case["result"].as_str().unwrap() {
                "ok" => assert_eq!(verified, Ok(())),
                _ => assert_eq!(verified, Err(Error::BadSignature), "{}", case["name"]),
            }
        }
    }
}
