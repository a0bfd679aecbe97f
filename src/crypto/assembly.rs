//! X25519 (RFC 7748) and signatures of Ed25519 (RFC 8032) in assembly, with the feature `graviola`.
//!
//! The routines are those of s2n-bignum. They are proven to compute what they should, and written
//! to run in a time that depends on no secret. Each function here answers `None` where the
//! processor lacks an instruction that they take, and its caller then goes on as without the
//! feature.
//!
//! graviola wipes its keys and results when it drops them, and the vector registers at the end of
//! each call. It does not wipe what its routines leave on the stack, as the crates that it stands
//! in for do not either: `stack` does that, for both.
//!
//! Its signatures are verified by `signature` all the same: it has no strict verification, and is
//! hardly faster.

use alloc::sync::Arc;

use graviola::key_agreement::x25519::{PublicKey, StaticPrivateKey};
use graviola::signing::eddsa::Ed25519SigningKey;
use graviola::util::is_cpu_supported;

use super::secret::Secret;

/// Whether this processor can. Its answer never changes.
pub(crate) fn is_there() -> bool {
    is_cpu_supported() && has_what_is_not_asked()
}

/// The routines use more than [`is_cpu_supported`] asks for, as a virtual machine might leave it
/// out.
#[cfg(target_arch = "x86_64")]
fn has_what_is_not_asked() -> bool {
    std::arch::is_x86_feature_detected!("bmi2") && std::arch::is_x86_feature_detected!("ssse3")
}

#[cfg(target_arch = "aarch64")]
const fn has_what_is_not_asked() -> bool {
    true
}

/// `X25519(secret, 9)`
pub(crate) fn public_key(secret: &Secret<32>) -> Option<[u8; 32]> {
    is_there().then(|| StaticPrivateKey::from_array(secret.expose()).public_key().as_bytes())
}

/// `X25519(secret, public)`, which may be all zero.
pub(crate) fn exchange(secret: &Secret<32>, public: &[u8; 32]) -> Option<Secret<32>> {
    is_there().then(|| {
        let shared = StaticPrivateKey::from_array(secret.expose())
            .diffie_hellman(&PublicKey::from_array(public));
        // All zero is its only error.
        shared.map_or(const { Secret::new([0; 32]) }, |shared| Secret::new(shared.0))
    })
}

/// A signing key that is made once, and shared by its copies.
#[derive(Clone)]
pub(crate) struct SigningKey(Arc<Ed25519SigningKey>);

impl SigningKey {
    pub(crate) fn from_seed(seed: &Secret<32>) -> Option<Self> {
        if !is_there() {
            return None;
        }
        Ed25519SigningKey::from_bytes(seed.expose()).ok().map(|key| Self(Arc::new(key)))
    }

    pub(crate) fn seed(&self) -> Secret<32> {
        Secret::new(self.0.as_seed())
    }

    pub(crate) fn public_key(&self) -> [u8; 32] {
        self.0.public_key().as_bytes()
    }

    pub(crate) fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message)
    }
}

/// With graviola's own switch, which it has where debug assertions are on.
#[cfg(all(test, debug_assertions))]
mod tests {
    use std::env;
    use std::process::Command;

    use super::*;

    #[test]
    fn a_processor_that_cannot_goes_on_as_without_the_feature() {
        const WITHOUT: &str = if cfg!(target_arch = "x86_64") {
            "GRAVIOLA_CPU_DISABLE_adx"
        } else {
            "GRAVIOLA_CPU_DISABLE_pmull"
        };
        if env::var_os(WITHOUT).is_some() {
            let secret = Secret::new([7; 32]);
            assert!(!is_there());
            assert_eq!(public_key(&secret), None);
            assert_eq!(exchange(&secret, &[9; 32]), None);
            assert!(SigningKey::from_seed(&secret).is_none());
            return;
        }
        // The known answers of both rooms that use it, in a process of their own.
        for room in ["crypto::curve::", "crypto::signature::", "crypto::assembly::"] {
            let tests = Command::new(env::current_exe().unwrap())
                .arg(room)
                .env(WITHOUT, "1")
                .output()
                .unwrap();
            let told = std::string::String::from_utf8_lossy(&tests.stdout);
            assert!(tests.status.success() && !told.contains("running 0 tests"), "{told}");
        }
    }
}
