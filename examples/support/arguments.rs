//! What the chat is told when it starts.

use std::env;
use std::path::PathBuf;

use subrosa::Zeroizing;

use crate::Result;
use crate::names::is_name;

pub(crate) struct Arguments {
    pub(crate) name: String,
    pub(crate) link: bool,
    pub(crate) restore: Option<PathBuf>,
    /// The relay learns who writes.
    pub(crate) open: bool,
    /// Sealed mail of strangers is not taken.
    pub(crate) pass: bool,
    pub(crate) relay: String,
    pub(crate) store: PathBuf,
    pub(crate) passphrase: Option<Zeroizing<String>>,
    /// The program that talks to the system's keychain.
    pub(crate) keychain: Option<PathBuf>,
}

const USAGE: &str = "\
chat NAME [--link | --restore FILE] [--relay ADDRESS] [--store FILE] [--passphrase TEXT]
    [--keychain PROGRAM] [--open | --pass]";
const NAMES: &str = "a name has 1 to 32 letters (a to z), digits, dots, hyphens and underscores";

impl Arguments {
    pub(crate) fn read() -> Result<Self> {
        let (mut name, mut link, mut relay, mut store) =
            (None, false, "127.0.0.1:7001".into(), None);
        let (mut restore, mut open, mut pass) = (None, false, false);
        let (mut passphrase, mut keychain) = (env::var("SUBROSA_PASSPHRASE").ok(), None);
        let mut arguments = env::args().skip(1);
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--link" => link = true,
                "--open" => open = true,
                "--pass" => pass = true,
                "--restore" => restore = Some(arguments.next().ok_or(USAGE)?.into()),
                "--relay" => relay = arguments.next().ok_or(USAGE)?,
                "--store" => store = Some(arguments.next().ok_or(USAGE)?.into()),
                "--passphrase" => passphrase = Some(arguments.next().ok_or(USAGE)?),
                "--keychain" => keychain = Some(arguments.next().ok_or(USAGE)?.into()),
                _ if argument.starts_with('-') || name.is_some() => return Err(USAGE.into()),
                _ => name = Some(argument),
            }
        }
        if open && pass {
            return Err(USAGE.into());
        }
        let name = name.ok_or(USAGE)?.to_ascii_lowercase();
        if !is_name(&name) {
            return Err(NAMES.into());
        }
        let store = store.unwrap_or_else(|| PathBuf::from(format!("{name}.redb")));
        let passphrase = passphrase.map(Zeroizing::new);
        Ok(Self { name, link, restore, open, pass, relay, store, passphrase, keychain })
    }
}
