//! The passphrase of a store: chosen at the first run, asked for at each later one, unless the
//! system's keychain has a key to it.

use std::io::{self, IsTerminal};

use subrosa::Zeroizing;
use subrosa::store::{Lock, LockKind, Passphrase, Redb, Store, Table, Vault};
use subrosa::{Error, SystemRng};

use crate::Result;
use crate::keychain::Keychain;
use crate::screen::stty;

const REASON: &str = "\
This is the first run: choose a passphrase. It encrypts this device's store, so that nobody who gets
the file can read your messages or write in your name. Nobody can recover it for you. The longer it
is, the better; type ? to have six words drawn.";

/// Opens the vault in a store that this process has locked: with the key in the keychain, or else
/// with the passphrase, and then the keychain gets a key. `given` comes from the command line or
/// the environment.
pub(crate) fn unlock(
    mut store: Redb,
    given: Option<&Zeroizing<String>>,
    keychain: Option<&Keychain<'_>>,
) -> Result<Vault<Redb>> {
    let is_new = is_empty(&mut store)?;
    if let Some(key) = keychain.filter(|_| !is_new).and_then(Keychain::get) {
        match Vault::open(&mut store, Lock::Key(&key), &mut SystemRng).map(drop) {
            Ok(()) => return Ok(Vault::open(store, Lock::Key(&key), &mut SystemRng)?),
            // It is a key to another store that was here.
            Err(Error::WrongPassphrase) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let mut vault = match given {
        Some(given) => Vault::open(store, Lock::Passphrase(given), &mut SystemRng)?,
        None if is_new => Vault::open(store, choose()?.lock(), &mut SystemRng)?,
        None => open(store, &ask("Passphrase for this device's store: ")?)?,
    };
    if let Some(keychain) = keychain {
        add_key(&mut vault, keychain)?;
    }
    Ok(vault)
}

/// Words that were drawn may be typed in capitals, or with hyphens in between.
fn open(mut store: Redb, typed: &str) -> Result<Vault<Redb>> {
    let words = Passphrase::normalize(typed);
    let mut passphrase = typed;
    if *words != *typed {
        match Vault::open(&mut store, Lock::Passphrase(typed), &mut SystemRng).map(drop) {
            Err(Error::WrongPassphrase) => passphrase = &words,
            opened => opened?,
        }
    }
    Ok(Vault::open(store, Lock::Passphrase(passphrase), &mut SystemRng)?)
}

/// A passphrase of a new store.
enum Chosen {
    ByPerson(Zeroizing<String>),
    Drawn(Passphrase),
}

impl Chosen {
    fn lock(&self) -> Lock<'_> {
        match self {
            Self::ByPerson(passphrase) => Lock::Passphrase(passphrase),
            Self::Drawn(passphrase) => Lock::Generated(passphrase),
        }
    }
}

/// The keychain first: a lock whose key nobody has would be there for nothing.
fn add_key(vault: &mut Vault<Redb>, keychain: &Keychain<'_>) -> Result<()> {
    let Some(key) = keychain.draw() else {
        eprintln!("The keychain does not take a key: the passphrase is asked for next time too.");
        return Ok(());
    };
    // Those of before are lost, or it would not have come to this.
    for lock in vault.locks()?.into_iter().filter(|lock| lock.kind == LockKind::Key) {
        vault.remove_lock(lock.id)?;
    }
    vault.add_lock(Lock::Key(&key), &mut SystemRng)?;
    Ok(())
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

fn choose() -> Result<Chosen> {
    eprintln!("{REASON}");
    loop {
        let first = ask("New passphrase: ")?;
        if *first == "?" {
            let drawn = Passphrase::generate(6, &mut SystemRng);
            println!("Write it down: {}", drawn.as_str());
            if *Passphrase::normalize(&ask("Type it: ")?) == *drawn.as_str() {
                return Ok(Chosen::Drawn(drawn));
            }
            eprintln!("That is another one.");
        } else if first.chars().count() < 2 {
            eprintln!("That is too short to protect anything.");
        } else if *first == *ask("The same again: ")? {
            return Ok(Chosen::ByPerson(first));
        } else {
            eprintln!("Those two differ.");
        }
    }
}

pub(crate) fn ask(question: &str) -> Result<Zeroizing<String>> {
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
