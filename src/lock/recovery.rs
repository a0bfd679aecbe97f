//! A code on paper that opens a vault or an archive when everything else is lost.

use alloc::string::String;
use core::fmt;
use core::str::FromStr;

use data_encoding::{Encoding, Specification};
use rand_core::CryptoRng;
use zeroize::Zeroizing;

use crate::codec::{Reader, Writer};
use crate::crypto::kdf;
use crate::crypto::secret::Secret;
use crate::error::Error;

/// A recovery code: 160 random bits that a person writes down, and types when a passphrase or a
/// keychain is lost.
///
/// `code = base32(version:u8 = 1 || secret:20 || H(version || secret)[..4])` (RFC 4648, lower
/// case): 40 characters in ten groups. Case, hyphens and white space do not matter. A mistyped code
/// is noticed at once, and nobody guesses one, so that it needs no slow hash.
///
/// ```
/// use subrosa::store::RecoveryCode;
/// use subrosa::{Error, SystemRng};
///
/// let code = RecoveryCode::generate(&mut SystemRng);
/// let written = code.to_text();
/// assert_eq!(written.len(), 49);
/// assert!(written.to_uppercase().replace('-', " ").parse::<RecoveryCode>()? == code);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct RecoveryCode(Secret<20>);

impl RecoveryCode {
    /// Draws 20 bytes.
    pub fn generate(rng: &mut dyn CryptoRng) -> Self {
        Self(Secret::random(rng))
    }

    /// What a person writes down: 40 characters in ten groups of four, with hyphens between them.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        let bytes =
            Writer::with_capacity(BYTES).u8(VERSION).bytes(self.0.expose()).bytes(&check(&self.0));
        let bytes = Zeroizing::new(bytes.done());
        let mut letters = Zeroizing::new([0; LETTERS]);
        base32().encode_mut(&bytes, &mut *letters);
        let mut text = Zeroizing::new(String::with_capacity(LETTERS.saturating_mul(2)));
        for (at, letter) in letters.iter().enumerate() {
            if at > 0 && at.is_multiple_of(4) {
                text.push('-');
            }
            text.push(char::from(*letter));
        }
        text
    }

    pub(crate) const fn secret(&self) -> &[u8; 20] {
        self.0.expose()
    }
}

impl FromStr for RecoveryCode {
    type Err = Error;

    /// Takes a code as a person types it.
    ///
    /// # Errors
    /// [`Error::BadRecoveryCode`]: it is mistyped, or no such code.
    fn from_str(text: &str) -> Result<Self, Error> {
        let typed = text.chars().filter(|c| !c.is_whitespace() && *c != '-');
        let mut letters = Zeroizing::new([0; LETTERS]);
        let mut places = letters.iter_mut();
        for c in typed {
            let place = places.next().ok_or(Error::BadRecoveryCode)?;
            *place = u8::try_from(c.to_ascii_lowercase()).map_err(|_| Error::BadRecoveryCode)?;
        }
        if places.next().is_some() {
            return Err(Error::BadRecoveryCode);
        }
        let mut bytes = Zeroizing::new([0; BYTES]);
        base32().decode_mut(&*letters, &mut *bytes).map_err(|_| Error::BadRecoveryCode)?;
        Self::decode(&*bytes).map_err(|_| Error::BadRecoveryCode)
    }
}

impl RecoveryCode {
    fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(bytes);
        let version = reader.u8()?;
        let mut secret = Secret::new([0; 20]);
        secret.expose_mut().copy_from_slice(reader.array::<20>()?);
        let is_right = version == VERSION && *reader.array()? == check(&secret);
        reader.end()?;
        if is_right { Ok(Self(secret)) } else { Err(Error::Malformed) }
    }
}

/// Shows nothing of it.
impl fmt::Debug for RecoveryCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RecoveryCode")
    }
}

const VERSION: u8 = 1;
const BYTES: usize = 25;
const LETTERS: usize = 40;

fn check(secret: &Secret<20>) -> [u8; 4] {
    let [first, second, third, fourth, ..] = kdf::hash(&[&[VERSION], secret.expose()]);
    [first, second, third, fourth]
}

fn base32() -> Encoding {
    let mut specification = Specification::new();
    specification.symbols.push_str("abcdefghijklmnopqrstuvwxyz234567");
    specification.encoding().expect("32 different symbols")
}
