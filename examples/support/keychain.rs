//! A key of the store in the system's keychain, beside the passphrase: then nobody types it on this
//! machine.
//!
//! What talks to the keychain is a program of its own (`--keychain PROGRAM`; `examples/keychain` is
//! one), since such libraries bring much in. It is asked `get ACCOUNT`, `set ACCOUNT` with the key
//! as its input, and ends with 0 where it did that.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use rand_core::Rng;
use subrosa::{SystemRng, Zeroizing};

pub(crate) type Key = Zeroizing<[u8; 32]>;

pub(crate) struct Keychain<'a> {
    program: &'a Path,
    account: String,
}

impl<'a> Keychain<'a> {
    /// The account is the store, wherever the chat is started.
    pub(crate) fn new(program: &'a Path, store: &Path) -> Self {
        let store = store.canonicalize().unwrap_or_else(|_| store.to_owned());
        Self { program, account: format!("chat {}", store.display()) }
    }

    /// The key, where the keychain has one and gives it.
    pub(crate) fn get(&self) -> Option<Key> {
        let mut child = self.command("get").stdout(Stdio::piped()).spawn().ok()?;
        let mut text = Zeroizing::new(Vec::with_capacity(LENGTH.saturating_add(1)));
        let most = u64::try_from(LENGTH.saturating_add(1)).unwrap_or(u64::MAX);
        let read = child.stdout.take().map(|out| out.take(most).read_to_end(&mut text));
        let is_well = child.wait().is_ok_and(|status| status.success());
        read?.ok().filter(|_| is_well)?;
        decode(text.trim_ascii())
    }

    /// Draws a key that the keychain keeps from now on. None where it does not.
    pub(crate) fn draw(&self) -> Option<Key> {
        let mut key = Zeroizing::new([0; 32]);
        SystemRng.fill_bytes(&mut *key);
        let mut child = self.command("set").stdin(Stdio::piped()).spawn().ok()?;
        let written = child.stdin.take().map(|mut input| input.write_all(encode(&key).as_bytes()));
        let is_well = child.wait().is_ok_and(|status| status.success());
        (is_well && matches!(written, Some(Ok(())))).then_some(key)
    }

    fn command(&self, verb: &str) -> Command {
        let mut command = Command::new(self.program);
        command.arg(verb).arg(&self.account).stdin(Stdio::null()).stderr(Stdio::null());
        command
    }
}

/// Hexadecimal digits of a key.
const LENGTH: usize = 64;

const DIGITS: &[u8; 16] = b"0123456789abcdef";

fn encode(key: &[u8; 32]) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(LENGTH));
    for byte in key {
        for half in [byte / 16, byte % 16] {
            text.extend(DIGITS.get(usize::from(half)).map(|digit| char::from(*digit)));
        }
    }
    text
}

fn decode(text: &[u8]) -> Option<Key> {
    let (pairs, []) = text.as_chunks::<2>() else { return None };
    let mut key = Zeroizing::new([0; 32]);
    if pairs.len() != key.len() {
        return None;
    }
    for (byte, pair) in key.iter_mut().zip(pairs) {
        let [high, low] = pair.map(|digit| char::from(digit).to_digit(16));
        *byte = u8::try_from(high?.checked_mul(16)?.checked_add(low?)?).ok()?;
    }
    Some(key)
}
