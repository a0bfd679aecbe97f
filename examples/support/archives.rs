//! Backups: into a file, and from one on a new device.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter};
use std::path::Path;

use subrosa::archive::{Archive, Lock, Passphrase};
use subrosa::store::{Redb, Vault};
use subrosa::{Address, Client, Contents, DeviceList, Error, Others, Rows, SystemRng, UnixTime};

use crate::connection::{Connection, Offline};
use crate::failure::Failure;
use crate::rows::{Author, Line};
use crate::wire::{Request, Response};
use crate::{Chat, Result, passphrase, rows};

impl Chat {
    /// Writes a backup, whose words this shows once. It takes the place of an older one when it is
    /// whole.
    pub(crate) fn export(&mut self, path: &str) -> Result<()> {
        let words = Passphrase::generate(6, &mut SystemRng);
        let part = format!("{path}.part");
        match self.write_archive(Path::new(&part), &words) {
            Ok(lines) => {
                fs::rename(&part, path).map_err(because)?;
                self.screen.say(&format!("* {path} has your account and {lines} lines"));
                self.screen.say(&format!("* write down what opens it: {}", words.as_str()));
            }
            Err(error) => {
                fs::remove_file(&part).ok();
                self.screen.say(&format!("* {path} was not written: {error}"));
            }
        }
        Ok(())
    }

    /// What was written is read again before anybody relies on it.
    fn write_archive(&mut self, path: &Path, words: &Passphrase) -> io::Result<u64> {
        let (now, lock) = (UnixTime::now()?, Lock::Generated(words));
        let lines = self.client.transact(|client| rows::history(&mut client.rows(), usize::MAX))?;
        let here = self.me.device;
        let frames = lines.iter().rev().map(|(_, line)| encode(line, here));
        let mut contents = Contents::default();
        // A device that is no manager does not have it.
        contents.account = self.is_manager()?;
        let file = BufWriter::new(File::create(path)?);
        let file = self.client.export(&[lock], &contents, frames, file, now, &mut SystemRng)?;
        file.into_inner()?.sync_all()?;
        let mut archive = Archive::open(BufReader::new(File::open(path)?), lock)?;
        Ok(archive.check()?.app_frames)
    }

    fn is_manager(&mut self) -> io::Result<bool> {
        let list = self.client.devices(&self.me.user)?;
        let listed = list.as_ref().and_then(|list| list.get(self.me.device));
        Ok(listed.is_some_and(|listed| listed.role == subrosa::Role::Manager))
    }
}

/// Brings the account of a backup to this device. It goes on where it was, if it was interrupted.
pub(crate) fn restore(
    store: Vault<Redb>,
    path: &Path,
    relay: &str,
    name: &str,
) -> Result<Client<Vault<Redb>>> {
    let words = Passphrase::normalize(&passphrase::ask("What opens the archive: ")?);
    let file = File::open(path).map_err(because)?;
    let mut archive =
        Archive::open(BufReader::new(file), Lock::Passphrase(&words)).map_err(because)?;
    let user = archive.info().user.clone();
    if user != name {
        return Err(Failure::Refused(format!("the archive is not of {name}")));
    }
    println!("* the account of {user}, as of {}", archive.info().created_at);
    let is_lost = passphrase::ask("Was your other device lost or stolen? (yes or no) ")?;
    let others = match is_lost.as_str() {
        "yes" => Others::Remove,
        _ => Others::Keep,
    };
    let list = fetch_list(relay, &user)?;
    let (list, now) = (list.as_ref(), UnixTime::now()?);
    Client::restore(store, &mut archive, list, others, add, now, &mut SystemRng).map_err(because)
}

/// The device list of a user, as the relay has it.
fn fetch_list(relay: &str, user: &str) -> Result<Option<DeviceList>> {
    let mut connection = Connection::new(relay.into());
    loop {
        let asked = connection
            .ask(&Request::Hello(Address::new(user, 0)))
            .and_then(|_| connection.ask(&Request::Devices(user.into())));
        match asked {
            Ok(Response::Found(list)) => {
                return Ok(list.map(|list| DeviceList::decode(&list)).transpose()?);
            }
            Ok(_) => return Err("the relay does not take this name".into()),
            Err(Offline) => drop(connection.next(None)),
        }
    }
}

fn add(rows: &mut Rows<'_>, line: &[u8]) -> Result<(), Error> {
    let line: Line = postcard::from_bytes(line).map_err(|_| Error::Malformed)?;
    // No other group is to be called so.
    if let Author::Group(group) = line.author {
        rows::put_handle(rows, &line.user, group)?;
    }
    rows::add(rows, &line).map(drop)
}

/// On the new device, what was written here comes from another one.
fn encode(line: &Line, here: u32) -> io::Result<Vec<u8>> {
    let author = match line.author {
        Author::Here(_) => Author::OtherDevice(here),
        ref author => author.clone(),
    };
    postcard::to_allocvec(&Line { author, ..line.clone() }).map_err(io::Error::other)
}

/// The crate's own error, or what the disk said.
fn because(error: io::Error) -> Failure {
    match error.downcast::<Error>() {
        Ok(error) => Failure::Client(error),
        Err(error) => Failure::Refused(error.to_string()),
    }
}
