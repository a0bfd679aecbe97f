//! Passphrases that nobody thought up.

use alloc::string::String;
use alloc::vec;
use core::fmt;

use rand_core::CryptoRng;
use zeroize::Zeroizing;

use crate::crypto::mark;

/// A passphrase of six words or more, drawn: 11 bits a word, 66 bits at least.
///
/// The words are those of the English list of BIP-39 (2,048 words of three to eight letters, the
/// first four of which tell them apart), as the crate bip39 has it, which is in the public domain
/// (CC0). A checksum as in BIP-39 is not in it: any words are a passphrase.
///
/// How strong a passphrase is that a person thought up, this crate does not judge.
///
/// ```
/// use subrosa::SystemRng;
/// use subrosa::store::{Lock, Memory, Passphrase, Vault};
///
/// let passphrase = Passphrase::generate(6, &mut SystemRng);
/// println!("write it down: {}", passphrase.as_str());
/// let mut store = Memory::new();
/// Vault::open(&mut store, Lock::Generated(&passphrase), &mut SystemRng)?;
///
/// let typed = Passphrase::normalize(&passphrase.as_str().to_uppercase());
/// Vault::open(&mut store, Lock::Passphrase(&typed), &mut SystemRng)?;
/// # Ok::<(), subrosa::Error>(())
/// ```
#[derive(Clone)]
pub struct Passphrase(Zeroizing<String>);

impl Passphrase {
    /// Draws 2 bytes a word, in one draw. `words` is 6 to 24; what is outside is brought inside.
    pub fn generate(words: usize, rng: &mut dyn CryptoRng) -> Self {
        let words = words.clamp(LEAST, MOST);
        let mut drawn = Zeroizing::new(vec![0; words.saturating_mul(2)]);
        rng.fill_bytes(&mut drawn);
        let mut text = Zeroizing::new(String::with_capacity(words.saturating_mul(9)));
        for (at, pair) in drawn.as_chunks().0.iter().enumerate() {
            if at > 0 {
                text.push(' ');
            }
            // It is about to be shown on a screen.
            let number = mark::public(u16::from_be_bytes(*pair)) & 0x7ff;
            text.push_str(WORDS.lines().nth(usize::from(number)).unwrap_or_default());
        }
        Self(text)
    }

    /// The words, with a space between them.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What a person typed, as [`Passphrase::as_str`] has it: in lower case, with one space between
    /// the words. For passphrases that were generated, and no others.
    #[must_use]
    pub fn normalize(typed: &str) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(typed.len()));
        for word in typed.split(|c: char| c.is_whitespace() || c == '-') {
            if word.is_empty() {
                continue;
            }
            if !text.is_empty() {
                text.push(' ');
            }
            word.chars().for_each(|c| text.push(c.to_ascii_lowercase()));
        }
        text
    }
}

/// Shows nothing of it.
impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase")
    }
}

const LEAST: usize = 6;
const MOST: usize = 24;

/// A word a line, in the order of BIP-39.
const WORDS: &str = include_str!("words.txt");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::hash;
    use crate::testing::{Replay, hex};

    #[test]
    fn the_words_are_those_of_bip_39() {
        assert_eq!(WORDS.lines().count(), 2_048);
        let digest = "2f5eed53a4727b4bf8880d8f3f199efc90e58503646d9ff8eff3a2ed3b24dbda";
        assert_eq!(hex(&hash::of(WORDS.as_bytes())), digest);
    }

    #[test]
    fn each_word_is_eleven_bits_of_what_was_drawn() {
        let mut rng = Replay::new([[0, 0, 7, 255, 248, 1, 0, 2, 15, 254, 0, 3].to_vec()]);
        let passphrase = Passphrase::generate(1, &mut rng);
        rng.finish();
        assert_eq!(passphrase.as_str(), "abandon zoo ability able zone about");
        for (asked, got) in [(0, 6), (6, 6), (7, 7), (24, 24), (usize::MAX, 24)] {
            let passphrase = Passphrase::generate(asked, &mut Replay::counting());
            assert_eq!(passphrase.as_str().split(' ').count(), got);
        }
    }

    #[test]
    fn what_is_typed_may_have_other_letters_and_spaces() {
        for typed in ["abandon zoo able", " Abandon  ZOO\table\n", "abandon-zoo-able"] {
            assert_eq!(*Passphrase::normalize(typed), "abandon zoo able");
        }
    }
}
