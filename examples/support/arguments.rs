//! What the chat is told when it starts.

use std::env;
use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::process::Command;

use subrosa::Zeroizing;

use crate::Result;

pub(crate) struct Arguments {
    pub(crate) name: String,
    pub(crate) link: bool,
    pub(crate) relay: String,
    pub(crate) store: PathBuf,
    pub(crate) passphrase: Zeroizing<String>,
}

const USAGE: &str = "chat NAME [--link] [--relay ADDRESS] [--store FILE] [--passphrase TEXT]";

impl Arguments {
    pub(crate) fn read() -> Result<Self> {
        let (mut name, mut link, mut relay, mut store) = (None, false, "127.0.0.1:7001".into(), None);
        let mut passphrase = env::var("SUBROSA_PASSPHRASE").ok();
        let mut arguments = env::args().skip(1);
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--link" => link = true,
                "--relay" => relay = arguments.next().ok_or(USAGE)?,
                "--store" => store = Some(arguments.next().ok_or(USAGE)?.into()),
                "--passphrase" => passphrase = Some(arguments.next().ok_or(USAGE)?),
                _ if argument.starts_with('-') || name.is_some() => return Err(USAGE.into()),
                _ => name = Some(argument),
            }
        }
        let name = name.ok_or(USAGE)?;
        let store = store.unwrap_or_else(|| PathBuf::from(format!("{name}.redb")));
        let passphrase =
            passphrase.map_or_else(ask_passphrase, |passphrase| Ok(Zeroizing::new(passphrase)))?;
        Ok(Self { name, link, relay, store, passphrase })
    }
}

fn ask_passphrase() -> Result<Zeroizing<String>> {
    // Where there is no stty, it is shown.
    let echo = |how: &str| drop(Command::new("stty").arg(how).status());
    eprint!("Passphrase for this device's store: ");
    let mut line = Zeroizing::new(String::new());
    if io::stdin().is_terminal() {
        echo("-echo");
    }
    let read = io::stdin().read_line(&mut line);
    if io::stdin().is_terminal() {
        echo("echo");
        eprintln!();
    }
    read.map_err(|_| "no passphrase")?;
    Ok(Zeroizing::new(line.trim_end_matches(['\r', '\n']).to_owned()))
}
