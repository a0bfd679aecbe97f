//! ML-KEM (FIPS 203): ML-KEM-1024 whole for the handshake, ML-KEM-768 in two halves for the braid.
//!
//! A secret key is kept as the seed `d || z` it is made from: 64 bytes that every release of every
//! library expands to the same key, instead of 2,400 or 3,168 that are the library's own.

use alloc::boxed::Box;

use libcrux_ml_kem::{mlkem768, mlkem1024};
use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use super::mark;
use super::secret::Secret;
use crate::error::Error;

/// ML-KEM-1024, for one handshake.
pub(crate) mod whole {
    use super::{
        Box, CryptoRng, Deserialize, Error, Secret, Serialize, Zeroize, Zeroizing, mark, mlkem1024,
    };

    pub(crate) const PUBLIC_KEY_LENGTH: usize = 1568;
    pub(crate) const CIPHERTEXT_LENGTH: usize = 1568;

    /// What the library expands a seed to.
    const SECRET_KEY_LENGTH: usize = 3168;
    /// The secret vector, its first part.
    const VECTOR_LENGTH: usize = 1536;

    pub(crate) type PublicKey = Box<[u8; PUBLIC_KEY_LENGTH]>;
    pub(crate) type Ciphertext = Box<[u8; CIPHERTEXT_LENGTH]>;

    /// The seed `d || z`.
    #[derive(Clone, Debug, Serialize, Deserialize)]
    pub(crate) struct SecretKey(Secret<64>);

    impl SecretKey {
        /// Draws 64 bytes.
        pub(crate) fn generate(rng: &mut dyn CryptoRng) -> Self {
            Self(Secret::random(rng))
        }

        pub(crate) fn public_key(&self) -> PublicKey {
            let (mut secret, public) = mlkem1024::generate_key_pair(*self.0.expose()).into_parts();
            wipe(&mut secret);
            Box::new(mark::public(public.into()))
        }

        /// The public key, which a transcript needs too, and the shared secret. A ciphertext that
        /// was not made for this key gives a secret that nobody knows (implicit rejection).
        pub(crate) fn decapsulate(
            &self,
            ciphertext: &[u8; CIPHERTEXT_LENGTH],
        ) -> (PublicKey, Secret<32>) {
            let (mut secret, public) = mlkem1024::generate_key_pair(*self.0.expose()).into_parts();
            let shared = Zeroizing::new(mlkem1024::decapsulate(&secret, &ciphertext.into()));
            wipe(&mut secret);
            (Box::new(mark::public(public.into())), Secret::new(*shared))
        }
    }

    fn wipe(secret: &mut mlkem1024::MlKem1024PrivateKey) {
        mark::wiped(&secret[0..VECTOR_LENGTH]);
        secret[0..SECRET_KEY_LENGTH].zeroize();
    }

    /// FIPS 203, 7.2: every coefficient is below the modulus.
    pub(crate) fn check(public: &[u8; PUBLIC_KEY_LENGTH]) -> Result<(), Error> {
        if mlkem1024::validate_public_key(&public.into()) { Ok(()) } else { Err(Error::InvalidKey) }
    }

    /// Draws 32 bytes and encapsulates to a key that was checked.
    pub(crate) fn encapsulate(
        public: &[u8; PUBLIC_KEY_LENGTH],
        rng: &mut dyn CryptoRng,
    ) -> (Ciphertext, Secret<32>) {
        let randomness = Secret::<32>::random(rng);
        let (ciphertext, shared) = mlkem1024::encapsulate(&public.into(), *randomness.expose());
        let shared = Zeroizing::new(shared);
        (Box::new(ciphertext.into()), Secret::new(*shared))
    }
}

/// ML-KEM-768 cut in pieces (spqr.md, 4): joined they are the key and the ciphertext of FIPS 203.
pub(crate) mod halves {
    use super::mlkem768::incremental as mlkem768;
    use super::{Box, CryptoRng, Deserialize, Error, Secret, Serialize, Zeroizing, mark};

    /// `rho:32 || H(ek):32`
    pub(crate) const HEADER_LENGTH: usize = 64;
    /// `ByteEncode12(t)`; the whole key is `vector || rho`.
    pub(crate) const VECTOR_LENGTH: usize = 1152;
    /// The compressed u.
    pub(crate) const CT1_LENGTH: usize = 960;
    /// The compressed v.
    pub(crate) const CT2_LENGTH: usize = 128;

    /// The seed `d || z`.
    #[derive(Clone, Debug, Serialize, Deserialize)]
    pub(crate) struct SecretKey(Secret<64>);

    impl SecretKey {
        /// Draws 64 bytes.
        pub(crate) fn generate(rng: &mut dyn CryptoRng) -> Self {
            Self(Secret::random(rng))
        }

        /// Both halves of the public key.
        pub(crate) fn public_key(&self) -> ([u8; HEADER_LENGTH], Box<[u8; VECTOR_LENGTH]>) {
            let expanded = self.expand();
            // dk: secret vector:1152 || vector:1152 || rho:32 || H(ek):32 || z:32
            let vector = expanded.as_slice().get(VECTOR_LENGTH..).and_then(<[u8]>::first_chunk);
            let header = expanded.as_slice().get(2 * VECTOR_LENGTH..).and_then(<[u8]>::first_chunk);
            let (Some(vector), Some(header)) = (vector, header) else {
                unreachable!("2,400 bytes")
            };
            (mark::public(*header), Box::new(mark::public(*vector)))
        }

        /// As FIPS 203: a wrong ciphertext gives a secret that nobody knows.
        pub(crate) fn decapsulate(
            &self,
            ct1: &[u8; CT1_LENGTH],
            ct2: &[u8; CT2_LENGTH],
        ) -> Secret<32> {
            let ct1 = mlkem768::Ciphertext1 { value: *ct1 };
            let ct2 = mlkem768::Ciphertext2 { value: *ct2 };
            let shared = mlkem768::decapsulate_compressed_key(&self.expand(), &ct1, &ct2);
            Secret::new(*Zeroizing::new(shared))
        }

        fn expand(&self) -> Zeroizing<[u8; mlkem768::COMPRESSED_KEYPAIR_LEN]> {
            let mut expanded = Zeroizing::new([0; mlkem768::COMPRESSED_KEYPAIR_LEN]);
            mlkem768::generate_key_pair_compressed(*self.0.expose(), &mut expanded);
            mark::wiped(expanded.get(..VECTOR_LENGTH).unwrap_or_default());
            expanded
        }
    }

    /// What makes an encapsulation: `m` and the header of the key. The halves of the ciphertext are
    /// made from it anew where they are needed, so that 96 bytes are kept in place of 3,040.
    #[derive(Clone, Debug, Serialize, Deserialize)]
    pub(crate) struct Encapsulation {
        randomness: Secret<32>,
        #[serde(with = "crate::at_rest::array")]
        header: [u8; HEADER_LENGTH],
    }

    impl Encapsulation {
        /// Draws 32 bytes.
        pub(crate) fn new(header: [u8; HEADER_LENGTH], rng: &mut dyn CryptoRng) -> Self {
            Self { randomness: Secret::random(rng), header }
        }

        /// The first half of the ciphertext, and the shared secret: they need the header alone.
        pub(crate) fn first(&self) -> (Box<[u8; CT1_LENGTH]>, Secret<32>) {
            let (ct1, _, shared) = self.run();
            (ct1, shared)
        }

        /// Both halves of the ciphertext.
        ///
        /// # Errors
        /// [`Error::InvalidKey`] where the vector is not the one the header names, or fails FIPS
        /// 203's check.
        pub(crate) fn both(
            &self,
            vector: &[u8; VECTOR_LENGTH],
        ) -> Result<(Box<[u8; CT1_LENGTH]>, [u8; CT2_LENGTH]), Error> {
            self.check(vector)?;
            let (ct1, state, _) = self.run();
            Ok((ct1, mlkem768::encapsulate2(&state, vector).value))
        }

        /// As [`Encapsulation::both`], without the ciphertext.
        pub(crate) fn check(&self, vector: &[u8; VECTOR_LENGTH]) -> Result<(), Error> {
            mlkem768::validate_pk_bytes(&self.header, vector).map_err(|_| Error::InvalidKey)
        }

        fn run(&self) -> (Box<[u8; CT1_LENGTH]>, State, Secret<32>) {
            let mut state = State::new([0; mlkem768::encaps_state_len()]);
            let mut shared = Secret::new([0; 32]);
            let randomness = *self.randomness.expose();
            let ct1 = mlkem768::encapsulate1(
                &self.header,
                randomness,
                state.as_mut(),
                shared.expose_mut(),
            )
            .expect("every length is a constant of the library");
            (Box::new(ct1.value), state, shared)
        }
    }

    type State = Zeroizing<[u8; mlkem768::encaps_state_len()]>;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Replay, array, bytes, vectors, wycheproof};
    use alloc::vec::Vec;
    use serde_json::Value;

    /// `None`: of another length, which our types do not hold.
    fn sized<const N: usize>(value: &Value) -> Option<[u8; N]> {
        value.as_str().and_then(|_| bytes(value).try_into().ok())
    }

    fn is_valid(test: &Value) -> bool {
        test["result"] == "valid"
    }

    /// How many cases were taken, refused, and of another length.
    type Counts = (usize, usize, usize);

    /// Keys made from `d || z`.
    fn generated<const EK: usize>(name: &str, key: impl Fn([u8; 64]) -> [u8; EK]) -> usize {
        let tests = wycheproof(name).into_iter().map(|test| {
            assert!(is_valid(&test));
            assert_eq!(key(array(&test["seed"])), array(&test["ek"]), "case {}", test["tcId"]);
        });
        tests.count()
    }

    /// Ciphertexts made from an encapsulation key and `m`; keys that are not reduced are refused.
    fn encapsulated<const EK: usize>(
        name: &str,
        encapsulate: impl Fn(&[u8; EK], &mut Replay) -> Result<(Vec<u8>, Secret<32>), Error>,
    ) -> Counts {
        let mut counts = (0, 0, 0);
        for test in wycheproof(name) {
            let valid = is_valid(&test);
            let Some(key) = sized(&test["ek"]) else {
                assert!(!valid, "case {}", test["tcId"]);
                counts.2 += 1;
                continue;
            };
            let mut rng = Replay::new(test.get("m").map(bytes));
            if valid {
                let (ciphertext, shared) = encapsulate(&key, &mut rng).unwrap();
                rng.finish();
                assert_eq!(ciphertext, bytes(&test["c"]), "case {}", test["tcId"]);
                assert_eq!(Some(*shared.expose()), sized(&test["K"]), "case {}", test["tcId"]);
                counts.0 += 1;
            } else {
                assert_eq!(
                    encapsulate(&key, &mut rng).unwrap_err(),
                    Error::InvalidKey,
                    "case {}",
                    test["tcId"]
                );
                counts.1 += 1;
            }
        }
        counts
    }

    /// Ciphertexts opened with a key from `d || z`: genuine ones, and changed ones that are
    /// rejected implicitly.
    fn decapsulated<const EK: usize, const CT: usize>(
        name: &str,
        decapsulate: impl Fn([u8; 64], &[u8; CT]) -> ([u8; EK], Secret<32>),
    ) -> Counts {
        let mut counts = (0, 0, 0);
        for test in wycheproof(name) {
            let (seed, ciphertext) = (sized(&test["seed"]), sized(&test["c"]));
            let (Some(seed), Some(ciphertext)) = (seed, ciphertext) else {
                assert!(!is_valid(&test), "case {}", test["tcId"]);
                counts.2 += 1;
                continue;
            };
            assert!(is_valid(&test), "case {}", test["tcId"]);
            let (key, shared) = decapsulate(seed, &ciphertext);
            assert_eq!(Some(key), sized(&test["ek"]), "case {}", test["tcId"]);
            assert_eq!(Some(*shared.expose()), sized(&test["K"]), "case {}", test["tcId"]);
            counts.0 += 1;
        }
        counts
    }

    /// FIPS 203's key from the two halves of ours.
    fn joined(
        header: &[u8; halves::HEADER_LENGTH],
        vector: &[u8; halves::VECTOR_LENGTH],
    ) -> [u8; 1184] {
        let key: [u8; 1184] = [&vector[..], &header[..32]].concat().try_into().unwrap();
        assert_eq!(header[32..], libcrux_sha3::sha256(&key));
        key
    }

    // Wycheproof's ML-KEM sets (FIPS 203, CCTV and others), through our doors. We are stricter
    // nowhere: what is refused is what FIPS 203, 7.2 refuses. Decapsulation keys in their expanded
    // form never come in here, so its set about them has nothing to run.

    #[test]
    fn wycheproof_ml_kem_1024() {
        let secret = |seed: [u8; 64]| whole::SecretKey::generate(&mut Replay::new([seed.to_vec()]));
        assert_eq!(generated("mlkem_1024_keygen_seed", |seed| *secret(seed).public_key()), 100);
        let encapsulated = encapsulated("mlkem_1024_encaps", |key, rng| {
            whole::check(key)?;
            let (ciphertext, shared) = whole::encapsulate(key, rng);
            Ok((ciphertext.to_vec(), shared))
        });
        assert_eq!(encapsulated, (133, 116, 20));
        let decapsulated = decapsulated("mlkem_1024", |seed, ciphertext| {
            let (key, shared) = secret(seed).decapsulate(ciphertext);
            (*key, shared)
        });
        assert_eq!(decapsulated, (162, 0, 40));
    }

    #[test]
    fn wycheproof_ml_kem_768_in_halves() {
        let secret =
            |seed: [u8; 64]| halves::SecretKey::generate(&mut Replay::new([seed.to_vec()]));
        let public = |key: &halves::SecretKey| {
            let (header, vector) = key.public_key();
            joined(&header, &vector)
        };
        assert_eq!(generated("mlkem_768_keygen_seed", |seed| public(&secret(seed))), 100);
        let encapsulated = encapsulated("mlkem_768_encaps", |key: &[u8; 1184], rng| {
            // The header names the key as it is, so that the modulus alone decides.
            let (vector, rho) = key.split_first_chunk().unwrap();
            let header = [rho, &libcrux_sha3::sha256(key)].concat().try_into().unwrap();
            let encapsulation = halves::Encapsulation::new(header, rng);
            let (ct1, ct2) = encapsulation.both(vector)?;
            let (first, shared) = encapsulation.first();
            assert_eq!(first, ct1);
            Ok(([&ct1[..], &ct2].concat(), shared))
        });
        assert_eq!(encapsulated, (133, 112, 20));
        let decapsulated = decapsulated("mlkem_768", |seed, ciphertext: &[u8; 1088]| {
            let key = secret(seed);
            let (ct1, ct2) = ciphertext.split_first_chunk().unwrap();
            (public(&key), key.decapsulate(ct1, ct2.try_into().unwrap()))
        });
        assert_eq!(decapsulated, (161, 0, 40));
    }

    #[test]
    fn both_halves_are_fips_203() {
        for case in vectors("spqr.json")["kem768"].as_array().unwrap() {
            let mut rng = Replay::new([bytes(&case["seed"]), bytes(&case["m"])]);
            let key = halves::SecretKey::generate(&mut rng);
            let (header, vector) = key.public_key();
            assert_eq!(header, array(&case["header"]));
            assert_eq!(vector.to_vec(), bytes(&case["ek_vector"]));
            let encapsulation = halves::Encapsulation::new(header, &mut rng);
            let (ct1, shared) = encapsulation.first();
            assert_eq!(ct1.to_vec(), bytes(&case["ct1"]));
            assert_eq!(*shared.expose(), array(&case["ss"]));
            let (again, ct2) = encapsulation.both(&vector).unwrap();
            assert_eq!(again, ct1);
            assert_eq!(ct2.to_vec(), bytes(&case["ct2"]));
            assert_eq!(key.decapsulate(&ct1, &ct2), shared);
            // The same pieces through the undivided API.
            let whole = mlkem768::generate_key_pair(array(&case["seed"]));
            assert_eq!(whole.pk().to_vec(), [&vector[..], &header[..32]].concat());
            let (ciphertext, expected) =
                mlkem768::encapsulate(whole.public_key(), array(&case["m"]));
            assert_eq!(ciphertext.as_slice().to_vec(), [&ct1[..], &ct2[..]].concat());
            assert_eq!(*shared.expose(), expected);
        }
    }

    #[test]
    fn a_vector_of_another_key_is_refused() {
        let mut rng = Replay::counting();
        let (header, mut vector) = halves::SecretKey::generate(&mut rng).public_key();
        let encapsulation = halves::Encapsulation::new(header, &mut rng);
        assert_eq!(encapsulation.check(&vector), Ok(()));
        vector[700] ^= 1;
        assert_eq!(encapsulation.both(&vector).unwrap_err(), Error::InvalidKey);
    }

    #[test]
    fn the_whole_agrees_with_itself_and_checks_the_modulus() {
        let mut rng = Replay::counting();
        let key = whole::SecretKey::generate(&mut rng);
        let mut public = key.public_key();
        assert_eq!(whole::check(&public), Ok(()));
        let (ciphertext, shared) = whole::encapsulate(&public, &mut rng);
        assert_eq!(key.decapsulate(&ciphertext), (public.clone(), shared));
        public[..3].fill(0xff);
        assert_eq!(whole::check(&public), Err(Error::InvalidKey));
    }
}
