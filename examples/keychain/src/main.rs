//! Keeps a key in the system's keychain: Keychain on macOS, Credential Manager on Windows, the
//! Secret Service on Linux.
//!
//! ```text
//! subrosa-keychain get ACCOUNT       prints the key
//! subrosa-keychain set ACCOUNT       takes the key from its input
//! subrosa-keychain delete ACCOUNT
//! ```
//!
//! A key is a line of text, here 64 hexadecimal digits; what is beyond 1,024 bytes is refused. It
//! ends with 0 where it did what it was asked for; else it says why.
//!
//! `chat --keychain PROGRAM` runs it. A key that is no argument shows in no list of processes.

use std::io::{self, Read, Write};
use std::process::ExitCode;

use keyring::Entry;
use zeroize::Zeroizing;

const USAGE: &str = "subrosa-keychain get|set|delete ACCOUNT";

/// Under which the system shows the keys.
const SERVICE: &str = "subrosa";

const MOST: u64 = 1_024;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("subrosa-keychain: {why}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [verb, account] = arguments.as_slice() else { return Err(USAGE.into()) };
    let entry = Entry::new(SERVICE, account)?;
    match verb.as_str() {
        "get" => {
            let key = Zeroizing::new(entry.get_secret()?);
            io::stdout().write_all(&key)?;
        }
        "set" => {
            let mut key = Zeroizing::new(Vec::with_capacity(1_024));
            io::stdin().take(MOST.saturating_add(1)).read_to_end(&mut key)?;
            if u64::try_from(key.len())? > MOST {
                return Err("the key is too long".into());
            }
            entry.set_secret(&key)?;
        }
        "delete" => entry.delete_credential()?,
        _ => return Err(USAGE.into()),
    }
    Ok(())
}
