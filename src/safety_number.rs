//! Safety numbers: 60 digits that two people compare, so that they know of each other's account key
//! that nobody is in between (docs/verification.md, 2).
//!
//! ```text
//! d_0     = version:u16 = 1 || account:32 || length:u8 || user
//! d_(i+1) = SHA-512(d_i || account)                                    i = 0 .. 5,199
//! half    = 6 groups of d_5200[5 * k..][..5] mod 100,000, 5 digits each, k = 0 .. 5
//! number  = the smaller half || the larger half
//! ```
//!
//! Each half binds one user alone. So somebody in between has to find a key whose half is a given
//! one, 2^112 hashes, and not any two that are alike.

use core::fmt;

use crate::codec::Writer;
use crate::crypto::hash;
use crate::identity::IdentityKey;

/// A user, and the account key that is taken for theirs.
#[derive(Clone, Copy)]
pub(crate) struct Party<'a> {
    /// 1 to 255 bytes.
    pub(crate) user: &'a str,
    pub(crate) account: &'a IdentityKey,
}

/// The 60 digits that two users compare, the same on every device of both:
/// [`Client::safety_number`](crate::Client::safety_number).
///
/// `Display` writes three lines of four groups of five digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SafetyNumber {
    groups: [u32; 12],
    account: IdentityKey,
}

impl SafetyNumber {
    /// Of this user and another one. Takes some 5 ms.
    pub(crate) fn new(own: Party<'_>, other: Party<'_>) -> Self {
        let mut halves = [half(own), half(other)];
        halves.sort_unstable();
        let mut groups = [0; 12];
        for (group, of) in groups.iter_mut().zip(halves.as_flattened()) {
            *group = *of;
        }
        Self { groups, account: *other.account }
    }

    /// The twelve groups, each below 100,000.
    #[must_use]
    pub const fn groups(&self) -> [u32; 12] {
        self.groups
    }

    /// The other user's account key that the number is about: what
    /// [`Client::verify`](crate::Client::verify) takes when people found the number to be the same.
    #[must_use]
    pub const fn account(&self) -> IdentityKey {
        self.account
    }
}

/// Three lines of four groups of five digits.
impl fmt::Display for SafetyNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, group) in self.groups.iter().enumerate() {
            let before = match at {
                0 => "",
                _ if at.is_multiple_of(4) => "\n",
                _ => " ",
            };
            write!(f, "{before}{group:05}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for SafetyNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SafetyNumber").field(&self.groups).finish()
    }
}

const VERSION: u16 = 1;
const ROUNDS: usize = 5_200;

fn half(of: Party<'_>) -> [u32; 6] {
    let account = of.account.as_bytes();
    let length = u8::try_from(of.user.len()).expect("names have at most 255 bytes");
    let first = Writer::with_capacity(of.user.len().saturating_add(35)).u16(VERSION).bytes(account);
    let first = first.u8(length).bytes(of.user.as_bytes()).done();
    let mut digest = hash::sha512(&[&first, account]);
    for _ in 1..ROUNDS {
        digest = hash::sha512(&[&digest, account]);
    }
    let mut groups = [0; 6];
    for (group, chunk) in groups.iter_mut().zip(digest.as_chunks::<5>().0) {
        let value =
            chunk.iter().fold(0, |value: u64, byte| value.wrapping_shl(8) | u64::from(*byte));
        *group = u32::try_from(value % 100_000).unwrap_or_default();
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{array, vectors};
    use alloc::string::ToString;

    /// Made by another implementation, from the text.
    #[test]
    fn known_answers() {
        let file = vectors("verification.json");
        let cases = file["safety_numbers"].as_array().unwrap();
        assert!(cases.len() >= 4);
        for case in cases {
            let keys = ["account_a", "account_b"].map(|name| array::<32>(&case[name]));
            let [a, b] = keys.map(|key| IdentityKey::unchecked(&key).unwrap());
            let a = Party { user: case["user_a"].as_str().unwrap(), account: &a };
            let b = Party { user: case["user_b"].as_str().unwrap(), account: &b };
            let (number, other) = (SafetyNumber::new(a, b), SafetyNumber::new(b, a));
            assert_eq!(number.to_string(), case["number"].as_str().unwrap());
            assert_eq!((number.groups(), number.account()), (other.groups(), *b.account));
        }
    }

    #[test]
    fn a_name_or_a_key_that_differs_gives_another_half_and_leaves_the_other_alone() {
        let [a, b, c] = [1, 2, 3].map(|byte| IdentityKey::unchecked(&[byte; 32]).unwrap());
        let bob = half(Party { user: "bob", account: &b });
        for (user, account) in [("Bob", &b), ("bob ", &b), ("bob", &c), ("bo", &b)] {
            assert_ne!(half(Party { user, account }), bob, "{user:?}");
        }
        let alice = Party { user: "alice", account: &a };
        let number = SafetyNumber::new(alice, Party { user: "bob", account: &b });
        let between = SafetyNumber::new(alice, Party { user: "bob", account: &c });
        let own = half(alice);
        for number in [number, between] {
            assert!(number.groups.chunks(6).any(|half| half == own));
        }
        assert_ne!(number.groups, between.groups);
    }
}
