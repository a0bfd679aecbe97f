//! The passphrase of a store: chosen at the first run, asked for at each later one.

use std::io::{self, IsTerminal};

use subrosa::Zeroizing;
use subrosa::store::{Lock, Redb, Store, Table, Vault};
use subrosa::{Error, SystemRng};

use crate::Result;
use crate::screen::stty;

const REASON: &str = "\
This is the first run: choose a passphrase. It encrypts this device's store, so that nobody who gets
the file can read your messages or write in your name. Nobody can recover it for you. The longer it
is, the better: several words, say.";

/// Opens the vault in a store that this process has locked. `given` comes from the command line or
/// the environment.
pub(crate) fn unlock(mut store: Redb, given: Option<&Zeroizing<String>>) -> Result<Vault<Redb>> {
    let passphrase = match given {
        Some(given) => given.clone(),
        None if is_empty(&mut store)? => choose()?,
        None => ask("Passphrase for this device's store: ")?,
    };
    Ok(Vault::open(store, Lock::Passphrase(&passphrase), &mut SystemRng)?)
}

fn is_empty(store: &mut Redb) -> Result<bool, Error> {
    store.transact(|tx| {
        for table in Table::ALL {
            if !tx.scan(*table, &[], 1)?.is_empty() {
                return Ok(false);
            }
        }
        Ok(true)
    })
}

fn choose() -> Result<Zeroizing<String>> {
    eprintln!("{REASON}");
    loop {
        let first = ask("New passphrase: ")?;
        if first.chars().count() < 2 {
            eprintln!("That is too short to protect anything.");
        } else if *first == *ask("The same again: ")? {
            return Ok(first);
        } else {
            eprintln!("Those two differ.");
        }
    }
}

fn ask(question: &str) -> Result<Zeroizing<String>> {
    eprint!("{question}");
    let is_terminal = io::stdin().is_terminal();
    // Without `stty` it is shown.
    if is_terminal {
        stty(&["-echo"]);
    }
    let mut line = Zeroizing::new(String::new());
    let read = io::stdin().read_line(&mut line);
    if is_terminal {
        stty(&["echo"]);
        eprintln!();
    }
    match read {
        Ok(1..) => Ok(Zeroizing::new(line.trim_end_matches(['\r', '\n']).to_owned())),
        _ => Err("no passphrase".into()),
    }
}
