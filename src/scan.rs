//! What one screen shows and another phone scans: a code that binds both account keys and both
//! names, and the answer that proves it was scanned (docs/verification.md, 3).
//!
//! ```text
//! names  = length:u8 || shower's user || length:u8 || scanner's user
//! code   = "SUBROSA1:" || base32(kind:u8 = 1 || shower's account:32 || scanner's account:32 ||
//!          H("Subrosa v1 scan names" || names)[..8] || secret:16)                 152 letters
//! answer = HMAC(secret, "Subrosa v1 scan" || shower's account:32 || scanner's account:32 || names)
//! ```
//!
//! Each account is the one that the shower knows. Everything is upper case, which QR codes hold in
//! 5.5 bits a letter.

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use data_encoding::{Encoding, Specification};
use zeroize::Zeroizing;

use crate::codec::{Reader, Writer};
use crate::crypto::kdf::{self, HmacKey};
use crate::crypto::secret::Secret;
use crate::error::Error;
use crate::safety_number::Party;

/// What a code says to who scanned it: [`Client::scan`](crate::Client::scan).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Scanned {
    /// Both phones know the same two account keys. The user is verified here.
    Match,
    /// It is the code of another user, or one that was made for another user. Names that differ in
    /// case belong to different people.
    OtherPerson,
    /// The two phones know different account keys: somebody may be in between, or one of them does
    /// not know of a new account key yet. Nobody is verified.
    Mismatch,
    /// A code of another version of this crate: one of the two apps has to be brought up to date.
    OtherVersion,
}

/// A code.
pub(crate) struct Code {
    shower: [u8; 32],
    scanner: [u8; 32],
    names: [u8; 8],
    pub(crate) secret: Secret<16>,
}

impl Code {
    pub(crate) fn new(shower: Party<'_>, scanner: Party<'_>, secret: Secret<16>) -> Self {
        Self {
            shower: *shower.account.as_bytes(),
            scanner: *scanner.account.as_bytes(),
            names: name_digest(shower, scanner),
            secret,
        }
    }

    /// The letters that the QR code holds.
    pub(crate) fn text(&self) -> Zeroizing<String> {
        let out = Writer::with_capacity(LENGTH).u8(KIND).bytes(&self.shower).bytes(&self.scanner);
        let bytes = Zeroizing::new(out.bytes(&self.names).bytes(self.secret.expose()).done());
        let mut text = Zeroizing::new(String::with_capacity(TEXT_LENGTH));
        text.push_str(PREFIX);
        text.push('1');
        text.push(':');
        base32().encode_append(&bytes, &mut text);
        text
    }

    /// Reads what was scanned or pasted. Case and white space do not matter. None: it is a code of
    /// another version.
    ///
    /// # Errors
    /// [`Error::BadScan`]: it is none.
    pub(crate) fn read(text: &str) -> Result<Option<Self>, Error> {
        if text.len() > MAX_TEXT {
            return Err(Error::BadScan);
        }
        let (head, letters) = text.trim().split_once(':').ok_or(Error::BadScan)?;
        let (name, version) = head.split_at_checked(PREFIX.len()).ok_or(Error::BadScan)?;
        let is_number = !version.is_empty() && version.bytes().all(|byte| byte.is_ascii_digit());
        if !name.eq_ignore_ascii_case(PREFIX) || !is_number {
            return Err(Error::BadScan);
        }
        if version != "1" {
            return Ok(None);
        }
        let bytes = decode(letters)?;
        let mut reader = Reader::new(&bytes);
        if reader.u8().map_err(|_| Error::BadScan)? != KIND {
            return Ok(None);
        }
        Self::decode(reader).map(Some).map_err(|_| Error::BadScan)
    }

    fn decode(mut reader: Reader<'_>) -> Result<Self, Error> {
        let (shower, scanner) = (*reader.array()?, *reader.array()?);
        let (names, secret) = (*reader.array()?, Secret::new(*reader.array()?));
        reader.end()?;
        Ok(Self { shower, scanner, names, secret })
    }

    /// What it says to the scanner, with the keys that the scanner knows.
    pub(crate) fn judge(&self, shower: Party<'_>, scanner: Party<'_>) -> Scanned {
        let keys = (shower.account.as_bytes(), scanner.account.as_bytes());
        match (self.names == name_digest(shower, scanner), (&self.shower, &self.scanner) == keys) {
            (false, _) => Scanned::OtherPerson,
            (true, false) => Scanned::Mismatch,
            (true, true) => Scanned::Match,
        }
    }
}

/// Proves to the shower that somebody who knows the same keys scanned the code.
pub(crate) fn answer(secret: &Secret<16>, shower: Party<'_>, scanner: Party<'_>) -> Secret<32> {
    // RFC 2104: a key of less than a block is filled up with zeros.
    let mut key = Secret::new([0; 32]);
    let (filled, _) = key.expose_mut().split_at_mut(16);
    filled.copy_from_slice(secret.expose());
    let accounts = [shower.account.as_bytes(), scanner.account.as_bytes()];
    let [first, second] = accounts.map(|account| &account[..]);
    HmacKey::new(&key).mac(&[LABEL, first, second, &names(shower, scanner)])
}

const PREFIX: &str = "SUBROSA";
const KIND: u8 = 1;
const LABEL: &[u8] = b"Subrosa v1 scan";
const NAMES_LABEL: &[u8] = b"Subrosa v1 scan names";
const LENGTH: usize = 89;
const TEXT_LENGTH: usize = 152;

/// More than any code, with some white space in it.
const MAX_TEXT: usize = 1_024;

fn names(shower: Party<'_>, scanner: Party<'_>) -> Vec<u8> {
    let length = |user: &str| u8::try_from(user.len()).expect("names have at most 255 bytes");
    let (one, two) = (shower.user, scanner.user);
    let out = Writer::with_capacity(one.len().saturating_add(two.len()).saturating_add(2));
    out.u8(length(one)).bytes(one.as_bytes()).u8(length(two)).bytes(two.as_bytes()).done()
}

fn name_digest(shower: Party<'_>, scanner: Party<'_>) -> [u8; 8] {
    let [a, b, c, d, e, f, g, h, ..] = kdf::hash(&[NAMES_LABEL, &names(shower, scanner)]);
    [a, b, c, d, e, f, g, h]
}

fn decode(letters: &str) -> Result<Zeroizing<Vec<u8>>, Error> {
    let base32 = base32();
    let most = base32.decode_len(letters.len()).map_err(|_| Error::BadScan)?;
    // What a code with a wrong letter says up to it is wiped too.
    let mut bytes = Zeroizing::new(vec![0; most]);
    let length = base32.decode_mut(letters.as_bytes(), &mut bytes).map_err(|_| Error::BadScan)?;
    bytes.truncate(length);
    Ok(bytes)
}

/// RFC 4648's without padding, in upper case, and forgiving.
fn base32() -> Encoding {
    let mut base32 = Specification::new();
    base32.symbols.push_str("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567");
    base32.translate.from.push_str("abcdefghijklmnopqrstuvwxyz");
    base32.translate.to.push_str("ABCDEFGHIJKLMNOPQRSTUVWXYZ");
    base32.ignore.push_str(" \t\r\n");
    base32.encoding().expect("32 symbols, each once")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::IdentityKey;
    use crate::testing::{array, hex, vectors};
    use serde_json::Value;

    fn key(value: &Value) -> IdentityKey {
        IdentityKey::unchecked(&array::<32>(value)).unwrap()
    }

    /// Made by another implementation, from the text.
    #[test]
    fn known_answers() {
        let file = vectors("verification.json");
        let cases = file["scans"].as_array().unwrap();
        assert!(cases.len() >= 4);
        for case in cases {
            let keys = (key(&case["shower_account"]), key(&case["scanner_account"]));
            let shower = Party { user: case["shower"].as_str().unwrap(), account: &keys.0 };
            let scanner = Party { user: case["scanner"].as_str().unwrap(), account: &keys.1 };
            let secret = Secret::new(array(&case["secret"]));
            let text = Code::new(shower, scanner, secret.clone()).text();
            assert_eq!(*text, case["text"].as_str().unwrap());
            assert_eq!((text.len(), text.capacity()), (TEXT_LENGTH, TEXT_LENGTH));
            let read = Code::read(&text).unwrap().unwrap();
            assert_eq!(read.judge(shower, scanner), Scanned::Match);
            assert_eq!(hex(answer(&read.secret, shower, scanner).expose()), case["answer"]);
            // Who scanned, and who showed, is part of it.
            assert_ne!(answer(&secret, scanner, shower), answer(&secret, shower, scanner));
        }
    }

    /// What Bob reads when he means to scan Alice's screen.
    #[test]
    fn every_other_code_is_told_by_its_name() {
        let file = vectors("verification.json");
        let first = &file["scans"][0];
        let keys = (key(&first["shower_account"]), key(&first["scanner_account"]));
        let alice = Party { user: "alice", account: &keys.0 };
        let bob = Party { user: "bob", account: &keys.1 };
        let cases = file["reads"].as_array().unwrap();
        assert!(cases.len() > 30);
        for case in cases {
            let result = match Code::read(case["text"].as_str().unwrap()) {
                Ok(Some(code)) => alloc::format!("{:?}", code.judge(alice, bob)),
                Ok(None) => "OtherVersion".into(),
                Err(error) => alloc::format!("{error:?}"),
            };
            assert_eq!(result, case["result"].as_str().unwrap(), "{}", case["name"]);
        }
    }

    #[test]
    fn a_code_with_a_wrong_letter_never_proves_anything() {
        let keys = [1, 2].map(|byte| IdentityKey::unchecked(&[byte; 32]).unwrap());
        let [alice, bob] =
            [("alice", &keys[0]), ("bob", &keys[1])].map(|(user, account)| Party { user, account });
        let code = Code::new(alice, bob, Secret::new([7; 16]));
        let text = code.text();
        let right = answer(&code.secret, alice, bob);
        for at in PREFIX.len()..text.len() {
            let mut wrong: Vec<char> = text.chars().collect();
            wrong[at] = if wrong[at] == 'Q' { 'X' } else { 'Q' };
            let wrong: String = wrong.into_iter().collect();
            if let Ok(Some(read)) = Code::read(&wrong) {
                let is_match = read.judge(alice, bob) == Scanned::Match;
                assert!(!is_match || answer(&read.secret, alice, bob) != right, "letter {at}");
            }
        }
    }
}
