//! Sender certificates: a server's word that an account key is a user's (docs/sealed.md, 4).

use alloc::string::String;
use alloc::vec::Vec;

use crate::codec::{Reader, Writer};
use crate::error::Error;
use crate::identity::{IdentityKey, IdentityKeyPair};
use crate::time::UnixTime;

/// A server's word that an account key is a user's, for some days.
///
/// ```text
/// certificate = version:u8 = 1 || key id:u8 || account:32 || expires:u64 || length:u8 || user ||
///               signature:64
/// signature   = Ed25519(server key, "Subrosa v1 sender certificate" || all before)
/// ```
///
/// It travels inside first messages, so that the receiver of a sealed one need not ask the server
/// who its sender is. It says no more than the server's device list of the user does.
///
/// ```
/// use subrosa::protocol::IdentityKeyPair;
/// use subrosa::{SenderCertificate, ServerKey, SystemRng, UnixTime};
///
/// let (rng, now) = (&mut SystemRng, UnixTime::now()?);
/// let server = IdentityKeyPair::generate(rng);
/// let account = IdentityKeyPair::generate(rng).public_key();
/// let certificate = SenderCertificate::issue(&server, 1, "alice", account, now)?;
///
/// let trusted = [ServerKey { id: 1, key: server.public_key() }];
/// let certificate = SenderCertificate::decode(&certificate.encode())?;
/// certificate.verify(&trusted)?;
/// assert_eq!((certificate.user(), certificate.account()), ("alice", account));
/// # Ok::<(), subrosa::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SenderCertificate {
    key_id: u8,
    account: IdentityKey,
    expires: u64,
    user: String,
    signature: [u8; 64],
}

/// A key that a server signs sender certificates with: what an app trusts
/// ([`Policy::trusted_servers`](crate::Policy::trusted_servers)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerKey {
    /// The key's number, which certificates name: a server that renews its key has several.
    pub id: u8,
    /// The Ed25519 key.
    pub key: IdentityKey,
}

/// What a certificate says of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Vouches {
    /// The account key is the user's.
    Yes,
    /// It was: its time is over.
    Expired,
    /// Nothing that can be believed.
    No,
}

impl SenderCertificate {
    /// Seconds for which a certificate is issued: 7 days.
    pub const LIFETIME: u64 = 7 * 24 * 60 * 60;

    /// A certificate that expires later than this many seconds from now is not believed: 8 days.
    pub const MAX_AHEAD: u64 = 8 * 24 * 60 * 60;

    const VERSION: u8 = 1;

    /// A certificate for a user, valid from `now` for [`SenderCertificate::LIFETIME`]. A server
    /// issues it to a device of the user, for the account key of the user's device list.
    ///
    /// # Errors
    /// [`Error::BadName`]
    pub fn issue(
        server: &IdentityKeyPair,
        key_id: u8,
        user: &str,
        account: IdentityKey,
        now: UnixTime,
    ) -> Result<Self, Error> {
        if !(1..=255).contains(&user.len()) {
            return Err(Error::BadName);
        }
        let expires = now.as_secs().saturating_add(Self::LIFETIME);
        let mut issued = Self { key_id, account, expires, user: user.into(), signature: [0; 64] };
        issued.signature = server.sign(&issued.signed());
        Ok(issued)
    }

    /// From bytes, of which the layout is checked: [`SenderCertificate::verify`] it.
    ///
    /// # Errors
    /// [`Error::UnsupportedVersion`], [`Error::Malformed`], [`Error::InvalidKey`]: it is no
    /// certificate; drop it.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(bytes);
        if reader.u8()? != Self::VERSION {
            return Err(Error::UnsupportedVersion);
        }
        let key_id = reader.u8()?;
        let account = IdentityKey::decode(reader.array::<32>()?)?;
        let (expires, length) = (reader.u64()?, usize::from(reader.u8()?));
        let user = core::str::from_utf8(reader.bytes(length)?).map_err(|_| Error::Malformed)?;
        if user.is_empty() {
            return Err(Error::Malformed);
        }
        let signature = *reader.array()?;
        reader.end()?;
        Ok(Self { key_id, account, expires, user: user.into(), signature })
    }

    /// The number of the key that signed it.
    pub(crate) const fn key_id(&self) -> u8 {
        self.key_id
    }

    /// The bytes: 107 and those of the name.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = self.unsigned();
        bytes.extend_from_slice(&self.signature);
        bytes
    }

    /// Whether one of these keys signed it. It may have expired.
    ///
    /// # Errors
    /// [`Error::BadSignature`]: none of them did, or another one than it names.
    pub fn verify(&self, trusted: &[ServerKey]) -> Result<(), Error> {
        let named = trusted.iter().find(|server| server.id == self.key_id);
        let named = named.ok_or(Error::BadSignature)?;
        let (_, key) = IdentityKey::verifying(named.key.as_bytes())?;
        key.verify(&self.signed(), &self.signature)
    }

    /// Whose account key it is about.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The account key.
    #[must_use]
    pub const fn account(&self) -> IdentityKey {
        self.account
    }

    /// When it expires, in seconds since the Unix epoch.
    #[must_use]
    pub const fn expires(&self) -> u64 {
        self.expires
    }

    /// What it says of a user's account key, by the word of these servers.
    pub(crate) fn vouches(
        &self,
        user: &str,
        account: &IdentityKey,
        trusted: &[ServerKey],
        now: UnixTime,
    ) -> Vouches {
        let latest = now.as_secs().saturating_add(Self::MAX_AHEAD);
        if self.user != user || self.account != *account || self.expires > latest {
            return Vouches::No;
        }
        match self.verify(trusted) {
            Ok(()) if self.expires < now.as_secs() => Vouches::Expired,
            Ok(()) => Vouches::Yes,
            Err(_) => Vouches::No,
        }
    }

    fn unsigned(&self) -> Vec<u8> {
        let length = u8::try_from(self.user.len()).expect("names have at most 255 bytes");
        let out = Writer::with_capacity(self.user.len().saturating_add(107));
        let out = out.u8(Self::VERSION).u8(self.key_id).bytes(self.account.as_bytes());
        out.u64(self.expires).u8(length).bytes(self.user.as_bytes()).done()
    }

    fn signed(&self) -> Vec<u8> {
        [LABEL, &self.unsigned()].concat()
    }
}

const LABEL: &[u8] = b"Subrosa v1 sender certificate";

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;
    use crate::testing::{Replay, bytes, hex, number, vectors};

    const NOW: u64 = 1_800_000_000;

    fn now() -> UnixTime {
        UnixTime::from_secs(NOW).unwrap()
    }

    fn server() -> (IdentityKeyPair, [ServerKey; 1]) {
        let key = IdentityKeyPair::generate(&mut Replay::new([vec![7; 32]]));
        let trusted = [ServerKey { id: 3, key: key.public_key() }];
        (key, trusted)
    }

    #[test]
    fn a_certificate_is_that_of_an_independent_implementation() {
        let vectors = vectors("sealed.json");
        for case in vectors["certificates"].as_array().unwrap() {
            let server = IdentityKeyPair::generate(&mut Replay::new([bytes(&case["seed"])]));
            let account = IdentityKey::decode(&bytes(&case["account"])).unwrap();
            let id: u8 = number(&case["key_id"]);
            let user = case["user"].as_str().unwrap();
            let issued_at = number::<u64>(&case["expires"]) - SenderCertificate::LIFETIME;
            let at = UnixTime::from_secs(issued_at).unwrap();
            let issued = SenderCertificate::issue(&server, id, user, account, at).unwrap();
            assert_eq!(hex(&issued.encode()), case["certificate"]);
            let decoded = SenderCertificate::decode(&bytes(&case["certificate"])).unwrap();
            assert_eq!(decoded, issued);
            decoded.verify(&[ServerKey { id, key: server.public_key() }]).unwrap();
        }
    }

    #[test]
    fn each_named_fault_of_a_certificate_is_refused() {
        let vectors = vectors("sealed.json");
        let trusted = |case: &serde_json::Value| ServerKey {
            id: number(&case["key_id"]),
            key: IdentityKey::decode(&bytes(&case["server"])).unwrap(),
        };
        for case in vectors["reject"].as_array().unwrap() {
            let result = SenderCertificate::decode(&bytes(&case["certificate"]))
                .and_then(|certificate| certificate.verify(&[trusted(case)]));
            let name = case["fault"].as_str().unwrap();
            let error = alloc::format!("{:?}", result.expect_err(name));
            assert_eq!(error, case["error"].as_str().unwrap(), "{name}");
        }
    }

    #[test]
    fn a_certificate_vouches_for_one_user_and_one_key_until_it_expires() {
        let (server, trusted) = server();
        let account = IdentityKeyPair::generate(&mut Replay::new([vec![1; 32]])).public_key();
        let issued = SenderCertificate::issue(&server, 3, "bob", account, now()).unwrap();
        let vouches = |user: &str, at: u64| {
            issued.vouches(user, &account, &trusted, UnixTime::from_secs(at).unwrap())
        };
        assert_eq!(vouches("bob", NOW), Vouches::Yes);
        assert_eq!(vouches("bob", NOW + SenderCertificate::LIFETIME), Vouches::Yes);
        assert_eq!(vouches("bob", NOW + SenderCertificate::LIFETIME + 1), Vouches::Expired);
        assert_eq!(vouches("bobby", NOW), Vouches::No);
        // By a clock that is a day behind it may be from tomorrow, and not from later.
        let day = 24 * 60 * 60;
        assert_eq!(vouches("bob", NOW - day), Vouches::Yes);
        assert_eq!(vouches("bob", NOW - day - 1), Vouches::No);
        let other = server.public_key();
        assert_eq!(issued.vouches("bob", &other, &trusted, now()), Vouches::No);
        assert_eq!(issued.vouches("bob", &account, &[], now()), Vouches::No);
        let mut another = trusted;
        another[0].id = 4;
        assert_eq!(issued.vouches("bob", &account, &another, now()), Vouches::No);
        another[0] = ServerKey { id: 3, key: account };
        assert_eq!(issued.vouches("bob", &account, &another, now()), Vouches::No);
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let (server, trusted) = server();
        let issued = SenderCertificate::issue(&server, 3, "bob", server.public_key(), now());
        let encoded = issued.unwrap().encode();
        for bit in 0..encoded.len() * 8 {
            let mut changed = encoded.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let result = SenderCertificate::decode(&changed);
            assert!(result.and_then(|changed| changed.verify(&trusted)).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_name_has_1_to_255_bytes() {
        let (server, _) = server();
        let issue =
            |user: &str| SenderCertificate::issue(&server, 3, user, server.public_key(), now());
        assert_eq!(issue("").err(), Some(Error::BadName));
        assert_eq!(issue(&"x".repeat(256)).err(), Some(Error::BadName));
        let longest = issue(&"x".repeat(255)).unwrap();
        assert_eq!(SenderCertificate::decode(&longest.encode()), Ok(longest));
    }
}
