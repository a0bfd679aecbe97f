//! Linking a new device: a code that goes from its screen to a device of the account, and a grant
//! that comes back.
//!
//! ```text
//! code  = base32(version:u8 = 1 || identity:32 || ephemeral:32 || secret:32 || H(all before)[..3])
//! grant = version:u8 = 1 || ephemeral:32 || AEAD(K, 0, content, ad)
//! K     = HKDF(salt = secret, ikm = DH(ephemeral, ephemeral) || DH(grant's ephemeral, identity), "Subrosa v1 link" || T, 32)
//! T     = H("Subrosa v1 link" || code's 97 bytes || grant's version || grant's ephemeral), and is ad
//! content = length:u8 || user || device:u32 || length:u16 || device list || present:u8 (0|1) [|| account's seed:32]
//! ```
//!
//! The secret is never sent, only shown: without it a grant opens for nobody, whatever becomes of
//! X25519.

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use data_encoding::{Encoding, Specification};
use rand_core::CryptoRng;
use zeroize::Zeroizing;

use crate::codec::{Reader, Writer};
use crate::crypto::aead::{self, MessageKey, NONCE_LENGTH, TAG_LENGTH};
use crate::crypto::curve::{KeyPair, Point, PublicKey};
use crate::crypto::kdf::{self, HmacKey};
use crate::crypto::secret::Secret;
use crate::devices::DeviceList;
use crate::error::Error;
use crate::identity::{IdentityKey, IdentityKeyPair};

/// A device that is to be linked to an account: its identity key, and what its code says.
///
/// Show [`NewDevice::code`] as a QR code or as text, on the new device's screen.
/// [`Client::link`](crate::Client::link) on a device that holds the account key takes it, and gives
/// a grant for the new one's [`Client::join`](crate::Client::join). The grant is encrypted, and may
/// travel by any server.
pub struct NewDevice {
    identity: IdentityKeyPair,
    ephemeral: KeyPair,
    secret: Secret<32>,
}

/// What a device of the account gives a new one.
pub(crate) struct Grant {
    pub(crate) user: String,
    pub(crate) device: u32,
    pub(crate) list: DeviceList,
    pub(crate) account: Option<IdentityKeyPair>,
}

/// What a code says.
pub(crate) struct Code {
    bytes: Zeroizing<Vec<u8>>,
    pub(crate) identity: IdentityKey,
    ephemeral: PublicKey,
    secret: Secret<32>,
}

const VERSION: u8 = 1;
const LABEL: &[u8] = b"Subrosa v1 link";
const CODE_LENGTH: usize = 97;
const NONCE: [u8; NONCE_LENGTH] = [0; NONCE_LENGTH];

impl NewDevice {
    /// Draws 96 bytes: the identity, the ephemeral key, the secret.
    pub fn generate(rng: &mut dyn CryptoRng) -> Self {
        let identity = IdentityKeyPair::generate(rng);
        let ephemeral = KeyPair::generate(rng);
        Self { identity, ephemeral, secret: Secret::random(rng) }
    }

    /// The code: 160 letters and digits, in groups of eight, good for one linking. It is for the
    /// eyes of the account's owner: whoever else reads it before it is used can answer it, and this
    /// device then joins *their* account. Show the name and the account key after joining.
    #[must_use]
    pub fn code(&self) -> Zeroizing<String> {
        let mut bytes = self.code_bytes();
        let sum = kdf::hash(&[&bytes]);
        bytes.extend_from_slice(&sum[..3]);
        let letters = Zeroizing::new(base32().encode(&bytes));
        let mut code = Zeroizing::new(String::with_capacity(200));
        for (at, letter) in letters.chars().enumerate() {
            if at > 0 && at.is_multiple_of(8) {
                code.push('-');
            }
            code.push(letter);
        }
        code
    }

    fn code_bytes(&self) -> Zeroizing<Vec<u8>> {
        let out = Writer::with_capacity(CODE_LENGTH.saturating_add(3)).u8(VERSION);
        let out = out
            .bytes(self.identity.public_key().as_bytes())
            .bytes(self.ephemeral.public.as_bytes());
        Zeroizing::new(out.bytes(self.secret.expose()).done())
    }

    /// Opens the grant that answers the code.
    ///
    /// # Errors
    /// [`Error::BadLinkCode`]: it answers another code. [`Error::UnsupportedVersion`],
    /// [`Error::Malformed`], ..: it is not a grant.
    pub(crate) fn accept(&self, grant: &[u8]) -> Result<(IdentityKeyPair, Grant), Error> {
        let mut reader = Reader::new(grant);
        if reader.u8()? != VERSION {
            return Err(Error::UnsupportedVersion);
        }
        let theirs = PublicKey::new(*reader.array()?);
        let sealed = reader.rest();
        let point = theirs.point();
        let shared = self.ephemeral.secret.diffie_hellman(&point)?;
        let with_identity = self.identity.to_x25519().diffie_hellman(&point)?;
        let transcript = transcript(&self.code_bytes(), &theirs);
        let key = key(&self.secret, &shared, &with_identity, &transcript);
        let content = MessageKey { key, nonce: NONCE }.open(sealed, &transcript);
        let content = Zeroizing::new(content.map_err(|_| Error::BadLinkCode)?);
        let grant = Grant::decode(&content)?;
        let listed = grant.list.get(grant.device);
        if listed.is_none_or(|listed| listed.identity != self.identity.public_key()) {
            return Err(Error::BadLinkCode);
        }
        Ok((self.identity.clone(), grant))
    }
}

/// Shows the identity.
impl core::fmt::Debug for NewDevice {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_tuple("NewDevice").field(&self.identity.public_key()).finish()
    }
}

impl Code {
    /// Upper and lower case are the same; hyphens and white space are passed over.
    ///
    /// # Errors
    /// [`Error::BadLinkCode`]
    pub(crate) fn decode(code: &str) -> Result<Self, Error> {
        let base32 = base32();
        let most = base32.decode_len(code.len()).map_err(|_| Error::BadLinkCode)?;
        // What a code with a wrong letter says up to it is wiped too.
        let mut bytes = Zeroizing::new(vec![0; most]);
        let decoded = base32.decode_mut(code.as_bytes(), &mut bytes);
        bytes.truncate(decoded.map_err(|_| Error::BadLinkCode)?);
        let (said, sum) = bytes.split_at_checked(CODE_LENGTH).ok_or(Error::BadLinkCode)?;
        if sum != &kdf::hash(&[said])[..3] {
            return Err(Error::BadLinkCode);
        }
        let mut reader = Reader::new(said);
        if reader.u8()? != VERSION {
            return Err(Error::UnsupportedVersion);
        }
        let identity = IdentityKey::decode(reader.array::<32>()?)?;
        let ephemeral = PublicKey::new(*reader.array()?);
        let secret = Secret::new(*reader.array()?);
        bytes.truncate(CODE_LENGTH);
        Ok(Self { bytes, identity, ephemeral, secret })
    }

    /// The grant that answers the code. Draws 32 bytes.
    ///
    /// # Errors
    /// [`Error::InvalidKey`]: the code's ephemeral key is not one.
    pub(crate) fn grant(&self, grant: &Grant, rng: &mut dyn CryptoRng) -> Result<Vec<u8>, Error> {
        let ephemeral = KeyPair::generate(rng);
        let shared = ephemeral.secret.diffie_hellman(&self.ephemeral.point())?;
        let with_identity = ephemeral.secret.diffie_hellman(&self.identity_point()?)?;
        let transcript = transcript(&self.bytes, &ephemeral.public);
        let key = key(&self.secret, &shared, &with_identity, &transcript);
        let mut sealed = grant.encode();
        sealed.extend_from_slice(&[0; TAG_LENGTH]);
        aead::seal(&key, &NONCE, &mut sealed, &transcript);
        Ok([&[VERSION][..], ephemeral.public.as_bytes(), &sealed].concat())
    }

    fn identity_point(&self) -> Result<Point, Error> {
        IdentityKey::verifying(self.identity.as_bytes()).map(|(_, key)| key.point())
    }
}

impl Grant {
    fn encode(&self) -> Vec<u8> {
        let list = self.list.encode();
        let name = u8::try_from(self.user.len()).expect("names have at most 255 bytes");
        let length = u16::try_from(list.len()).expect("a list of 32 devices has 1,294 bytes");
        let capacity = list.len().saturating_add(self.user.len()).saturating_add(64);
        let out =
            Writer::with_capacity(capacity).u8(name).bytes(self.user.as_bytes()).u32(self.device);
        let out = out.u16(length).bytes(&list);
        match &self.account {
            None => out.u8(0),
            Some(account) => out.u8(1).bytes(account.seed().expose()),
        }
        .done()
    }

    fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(bytes);
        let name = usize::from(reader.u8()?);
        let user = core::str::from_utf8(reader.bytes(name)?).map_err(|_| Error::Malformed)?.into();
        let device = reader.u32()?;
        let length = usize::from(reader.u16()?);
        let list = DeviceList::decode(reader.bytes(length)?)?;
        let account = match reader.u8()? {
            0 => None,
            1 => Some(IdentityKeyPair::from_seed(&Secret::new(*reader.array()?))),
            _ => return Err(Error::Malformed),
        };
        reader.end()?;
        if account.as_ref().is_some_and(|account| account.public_key() != list.account()) {
            return Err(Error::Malformed);
        }
        Ok(Self { user, device, list, account })
    }
}

fn transcript(code: &[u8], ephemeral: &PublicKey) -> [u8; 32] {
    kdf::hash(&[LABEL, code, &[VERSION], ephemeral.as_bytes()])
}

fn key(
    secret: &Secret<32>,
    shared: &Secret<32>,
    with_identity: &Secret<32>,
    transcript: &[u8; 32],
) -> Secret<32> {
    let ikm: [&[u8]; 2] = [shared.expose(), with_identity.expose()];
    let [key] = kdf::hkdf(&HmacKey::new(secret), &ikm, &[LABEL, transcript]);
    key
}

/// RFC 4648's, in lower case, and forgiving.
fn base32() -> Encoding {
    let mut base32 = Specification::new();
    base32.symbols.push_str("abcdefghijklmnopqrstuvwxyz234567");
    base32.translate.from.push_str("ABCDEFGHIJKLMNOPQRSTUVWXYZ");
    base32.translate.to.push_str("abcdefghijklmnopqrstuvwxyz");
    base32.ignore.push_str("- \t\r\n");
    base32.encoding().expect("32 symbols, each once")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devices::Role;
    use crate::testing::Replay;

    fn grant(code: &Code, rng: &mut Replay) -> Vec<u8> {
        let account = IdentityKeyPair::generate(rng);
        let first = IdentityKeyPair::generate(rng).public_key();
        let list = DeviceList::first(&account, first);
        let (list, device) = list.with(&account, code.identity, Role::Manager).unwrap();
        let grant = Grant { user: "rosa".into(), device, list, account: Some(account) };
        code.grant(&grant, rng).unwrap()
    }

    #[test]
    fn a_grant_opens_for_the_device_that_showed_the_code() {
        let rng = &mut Replay::counting();
        let new = NewDevice::generate(rng);
        let typed = new.code().to_uppercase().replace('-', " \n");
        let code = Code::decode(&typed).unwrap();
        let grant = grant(&code, rng);
        let (identity, granted) = new.accept(&grant).unwrap();
        assert_eq!(identity.public_key(), code.identity);
        assert_eq!((granted.user.as_str(), granted.device), ("rosa", 2));
        assert_eq!(granted.account.unwrap().public_key(), granted.list.account());
    }

    #[test]
    fn a_grant_opens_for_no_other_and_not_when_changed() {
        let rng = &mut Replay::counting();
        let new = NewDevice::generate(rng);
        let code = Code::decode(&new.code()).unwrap();
        let good = grant(&code, rng);
        let other = NewDevice::generate(rng);
        assert_eq!(other.accept(&good).err(), Some(Error::BadLinkCode));
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert!(new.accept(&bad).is_err(), "byte {at}");
            assert!(new.accept(&good[..at]).is_err(), "length {at}");
        }
        assert!(new.accept(&good).is_ok());
    }

    #[test]
    fn a_grant_that_lists_another_identity_under_the_device_is_refused() {
        let rng = &mut Replay::counting();
        let (new, other) = (NewDevice::generate(rng), NewDevice::generate(rng));
        let code = Code::decode(&new.code()).unwrap();
        let account = IdentityKeyPair::generate(rng);
        let list = DeviceList::first(&account, other.identity.public_key());
        let (list, device) = list.with(&account, code.identity, Role::Device).unwrap();
        let grant =
            |device| Grant { user: "rosa".into(), device, list: list.clone(), account: None };
        for (device, accepted) in [(device, true), (1, false), (3, false)] {
            let sealed = code.grant(&grant(device), rng).unwrap();
            let result = new.accept(&sealed).map(|_| ()).err();
            assert_eq!(result, (!accepted).then_some(Error::BadLinkCode), "device {device}");
        }
    }

    #[test]
    fn a_grant_with_a_seed_that_is_not_of_the_lists_key_is_refused() {
        let rng = &mut Replay::counting();
        let new = NewDevice::generate(rng);
        let code = Code::decode(&new.code()).unwrap();
        let (account, other) = (IdentityKeyPair::generate(rng), IdentityKeyPair::generate(rng));
        let list = DeviceList::first(&account, code.identity);
        for (seed, refused) in [(account, None), (other, Some(Error::Malformed))] {
            let grant =
                Grant { user: "rosa".into(), device: 1, list: list.clone(), account: Some(seed) };
            let sealed = code.grant(&grant, rng).unwrap();
            assert_eq!(new.accept(&sealed).map(|_| ()).err(), refused);
        }
    }

    #[test]
    fn a_mistyped_code_is_refused() {
        let code = NewDevice::generate(&mut Replay::counting()).code();
        let letters: Vec<char> = code.chars().collect();
        for at in 0..letters.len() {
            let mut typed = letters.clone();
            typed[at] = if typed[at] == 'q' { 'x' } else { 'q' };
            let typed: String = typed.into_iter().collect();
            assert!(Code::decode(&typed).is_err(), "letter {at}");
        }
        for wrong in ["", "a", "hello", &code[..150], "ä"] {
            assert_eq!(Code::decode(wrong).err(), Some(Error::BadLinkCode));
        }
    }

    #[test]
    fn a_code_of_a_later_version_says_so() {
        let code = NewDevice::generate(&mut Replay::counting()).code();
        let letters: String = code.chars().filter(char::is_ascii_alphanumeric).collect();
        let mut bytes = base32().decode(letters.as_bytes()).unwrap();
        bytes[0] += 1;
        let sum = kdf::hash(&[&bytes[..CODE_LENGTH]]);
        bytes[CODE_LENGTH..].copy_from_slice(&sum[..3]);
        let later = base32().encode(&bytes);
        assert_eq!(Code::decode(&later).err(), Some(Error::UnsupportedVersion));
    }
}
