//! X25519 (RFC 7748).
//!
//! The Montgomery ladder that RFC 7748 writes down and a multiplication on the birationally
//! equivalent Edwards curve (RFC 7748, 4.1) give the same u-coordinate; the latter takes two thirds
//! of the time and keeps what it learned about the peer's key for the next exchange with it. So a
//! public key is taken to the Edwards curve once, as a [`Point`]. The u-coordinates that are not on
//! the curve but on its twist take the ladder of x25519-dalek, which generates the keys as well.
//! Which way is taken depends on the public key alone; both are constant in time in the secret.
//!
//! Where `assembly` is there, it generates the keys, and its ladder takes every u-coordinate: that
//! is faster than either.

use alloc::boxed::Box;

use curve25519_dalek::edwards::EdwardsPoint;
use curve25519_dalek::montgomery::MontgomeryPoint;
use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};
use x25519_dalek::StaticSecret;
use zeroize::Zeroize;

use super::secret::Secret;
use super::{assembly, mark};
use crate::at_rest;
use crate::error::Error;

/// An X25519 public key: 32 bytes taken as they come (top bit ignored, no canonical form asked
/// for).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PublicKey(#[serde(with = "at_rest::array")] [u8; 32]);

impl PublicKey {
    pub(crate) const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub(crate) const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Makes the key ready for any number of exchanges with it.
    pub(crate) fn point(&self) -> Point {
        if assembly::is_there() { self.ladder() } else { self.decompressed() }
    }

    fn ladder(&self) -> Point {
        Point::Ladder(Box::new(*self))
    }

    fn decompressed(&self) -> Point {
        match MontgomeryPoint(self.0).to_edwards(0) {
            Some(point) => Point::Curve(Box::new(point)),
            None => self.ladder(),
        }
    }
}

/// A public key made ready for exchanges. In a box: see the sending chains of the Double Ratchet.
#[derive(Clone, Debug)]
pub(crate) enum Point {
    Curve(Box<EdwardsPoint>),
    Ladder(Box<PublicKey>),
}

impl Point {
    /// Of a key of Ed25519.
    pub(crate) fn of_edwards(point: EdwardsPoint) -> Self {
        if assembly::is_there() {
            PublicKey(point.to_montgomery().to_bytes()).ladder()
        } else {
            Self::Curve(Box::new(point))
        }
    }
}

/// An X25519 secret key.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SecretKey(Secret<32>);

impl SecretKey {
    /// 32 bytes; clamping is part of every use (RFC 7748, 5).
    pub(crate) const fn new(secret: Secret<32>) -> Self {
        Self(secret)
    }

    /// Draws 32 bytes.
    pub(crate) fn generate(rng: &mut dyn CryptoRng) -> Self {
        Self(Secret::random(rng))
    }

    #[cfg(test)]
    pub(crate) const fn secret(&self) -> &Secret<32> {
        &self.0
    }

    pub(crate) fn public_key(&self) -> PublicKey {
        let public = assembly::public_key(&self.0).unwrap_or_else(|| self.public_key_of_dalek());
        PublicKey(mark::public(public))
    }

    fn public_key_of_dalek(&self) -> [u8; 32] {
        x25519_dalek::PublicKey::from(&StaticSecret::from(*self.0.expose())).to_bytes()
    }

    /// `X25519(secret, public)`
    ///
    /// # Errors
    /// [`Error::InvalidKey`] where the result is all zero (RFC 7748, 6.1).
    pub(crate) fn diffie_hellman(&self, public: &Point) -> Result<Secret<32>, Error> {
        let secret = match public {
            Point::Curve(point) => {
                let mut product = point.mul_clamped(*self.0.expose());
                let mut shared = product.to_montgomery();
                product.zeroize();
                let secret = Secret::new(shared.to_bytes());
                shared.zeroize();
                secret
            }
            Point::Ladder(public) => assembly::exchange(&self.0, &public.0)
                .unwrap_or_else(|| self.ladder_of_dalek(public)),
        };
        if secret.is_zero() { Err(Error::InvalidKey) } else { Ok(secret) }
    }

    fn ladder_of_dalek(&self, public: &PublicKey) -> Secret<32> {
        let secret = StaticSecret::from(*self.0.expose());
        Secret::new(secret.diffie_hellman(&public.0.into()).to_bytes())
    }
}

/// A secret key with its public key, where both are needed again and again.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct KeyPair {
    pub(crate) secret: SecretKey,
    pub(crate) public: PublicKey,
}

impl KeyPair {
    /// Draws 32 bytes.
    pub(crate) fn generate(rng: &mut dyn CryptoRng) -> Self {
        let secret = SecretKey::generate(rng);
        Self { public: secret.public_key(), secret }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::kdf;
    use crate::testing;

    /// By every way that there is here: with `assembly`, all of the others as well.
    fn agrees_with_the_ladder(secret: [u8; 32], public: [u8; 32]) {
        let expected = x25519_dalek::x25519(secret, public);
        let (key, public) = (SecretKey::new(Secret::new(secret)), PublicKey::new(public));
        for point in [public.point(), public.decompressed(), public.ladder()] {
            match key.diffie_hellman(&point) {
                Ok(shared) => assert_eq!(*shared.expose(), expected, "{secret:02x?} {public:02x?}"),
                Err(error) => {
                    assert_eq!(error, Error::InvalidKey);
                    assert_eq!(expected, [0; 32], "{secret:02x?} {public:02x?}");
                }
            }
        }
    }

    fn random(number: u32, name: &[u8]) -> [u8; 32] {
        kdf::hash(&[name, &number.to_be_bytes()])
    }

    #[test]
    fn every_kind_of_point_gives_what_the_ladder_gives() {
        // Half of all u-coordinates lie on the twist; multiples of points of small order are among
        // the special ones.
        for number in 0..2_000 {
            agrees_with_the_ladder(random(number, b"secret"), random(number, b"public"));
        }
    }

    #[test]
    fn small_and_non_canonical_coordinates_give_what_the_ladder_gives() {
        let p_minus_19 = {
            let mut p = [0xff; 32];
            (p[0], p[31]) = (0xda, 0x7f);
            p
        };
        for number in 0..8 {
            let secret = random(number, b"secret");
            for low in 0..=255 {
                let mut small = [0; 32];
                small[0] = low;
                agrees_with_the_ladder(secret, small);
                small[31] = 0x80;
                agrees_with_the_ladder(secret, small);
                let mut large = [0xff; 32];
                large[0] = low;
                agrees_with_the_ladder(secret, large);
                large[31] = 0x7f;
                agrees_with_the_ladder(secret, large);
            }
            agrees_with_the_ladder(secret, p_minus_19);
        }
    }

    #[test]
    fn points_with_torsion_give_what_the_ladder_gives() {
        use curve25519_dalek::constants::EIGHT_TORSION;
        for number in 0..16 {
            let secret = random(number, b"secret");
            let base = EdwardsPoint::mul_base_clamped(random(number, b"point"));
            for torsion in EIGHT_TORSION {
                agrees_with_the_ladder(secret, torsion.to_montgomery().to_bytes());
                agrees_with_the_ladder(secret, (base + torsion).to_montgomery().to_bytes());
            }
        }
    }

    #[test]
    fn a_public_key_is_the_ladder_over_nine() {
        let mut nine = [0; 32];
        nine[0] = 9;
        for number in 0..64 {
            let secret = random(number, b"secret");
            let expected = x25519_dalek::x25519(secret, nine);
            let key = SecretKey::new(Secret::new(secret));
            assert_eq!(*key.public_key().as_bytes(), expected);
            assert_eq!(key.public_key_of_dalek(), expected);
        }
    }

    #[test]
    fn wycheproof() {
        let (mut taken, mut refused) = (0, 0);
        for test in testing::wycheproof("x25519") {
            let [secret, public, known] =
                ["private", "public", "shared"].map(|field| testing::array(&test[field]));
            let ours =
                SecretKey::new(Secret::new(secret)).diffie_hellman(&PublicKey::new(public).point());
            match ours {
                Ok(shared) => {
                    assert_eq!(*shared.expose(), known, "case {}", test["tcId"]);
                    taken += 1;
                }
                // Wycheproof accepts the all-zero result, as RFC 7748 permits: points of small
                // order. We do not.
                Err(error) => {
                    assert_eq!(
                        (error, known),
                        (Error::InvalidKey, [0; 32]),
                        "case {}",
                        test["tcId"]
                    );
                    refused += 1;
                }
            }
        }
        assert_eq!((taken, refused), (487, 31));
    }

    #[test]
    fn rfc_7748_section_5_2() {
        fn hex(text: &str) -> [u8; 32] {
            core::array::from_fn(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap())
        }
        let scalar = hex("4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d");
        let u = hex("e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493");
        let shared =
            SecretKey::new(Secret::new(scalar)).diffie_hellman(&PublicKey::new(u).point()).unwrap();
        assert_eq!(
            *shared.expose(),
            hex("95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957")
        );
    }
}
