//! Backups: an account and its history in a file that a person keeps, and back from it, on a device
//! that has nothing yet.
//!
//! They are made and read in memory, which is right for texts. What is longer goes through the same
//! calls, piece by piece, where there is a file.

use std::fmt;
use std::io::{self, Cursor};

use serde::{Deserialize, Serialize};
use subrosa::archive::{Archive, Checked, Lock, Passphrase, RecoveryCode};
use subrosa::store::{Memory, Store, Table};
use subrosa::{Client, Contents, DeviceList, Error, Open, Others, Rows, SystemRng};
use wasm_bindgen::prelude::{JsValue, wasm_bindgen};

use crate::failure::{Failure, Result};
use crate::history::{self, Line};
use crate::{Device, database, groups, now, rows, server};

/// A backup that was written.
#[wasm_bindgen(getter_with_clone)]
pub struct Backup {
    /// What a person keeps.
    pub file: Vec<u8>,
    /// What opens it: nothing else does. It is shown once.
    pub code: String,
    /// How many lines of history are in it.
    pub lines: f64,
}

/// A backup that was opened.
#[wasm_bindgen]
pub struct Found {
    archive: Archive<Cursor<Vec<u8>>>,
    checked: Checked,
}

/// What locks a backup.
enum Drawn {
    Code(RecoveryCode),
    Words(Passphrase),
}

/// A line of history, as it is in a backup.
#[derive(Serialize, Deserialize)]
struct Frame {
    with: String,
    line: Line,
    by: String,
}

#[wasm_bindgen]
impl Device {
    /// Writes a backup of the account, its contacts and its history, and reads it again. A code
    /// (or, with `words`, six words) opens it.
    ///
    /// # Errors
    /// As [`Device::open`]: this device does not hold the account's key, or a new one waits.
    pub async fn export(&self, words: bool) -> Result<Backup, JsValue> {
        Ok(self.write_backup(&Drawn::new(words)).await?)
    }

    async fn write_backup(&self, drawn: &Drawn) -> Result<Backup> {
        let file = self.rows.act(|client| write(client, drawn)).await?;
        let archive = Archive::open(Cursor::new(&file), drawn.lock());
        let checked = archive.and_then(|mut archive| archive.check());
        let lines = checked.map_err(because)?.app_frames;
        Ok(Backup { file, code: drawn.text(), lines: count(lines) })
    }
}

#[wasm_bindgen]
impl Found {
    /// Opens a backup with what a person typed: a recovery code, or a passphrase.
    ///
    /// # Errors
    /// An `Error` with a `remedy`: that does not open it, or it is damaged.
    pub fn open(file: Vec<u8>, typed: &str) -> Result<Self, JsValue> {
        let opened = match typed.parse::<RecoveryCode>() {
            Ok(code) => Archive::open(Cursor::new(file), Lock::Code(&code)),
            Err(_) => {
                let words = Passphrase::normalize(typed);
                Archive::open(Cursor::new(file), Lock::Passphrase(&words))
            }
        };
        let mut archive = opened.map_err(because)?;
        // Damage is found before anything is written.
        let checked = archive.check().map_err(because)?;
        Ok(Self { archive, checked })
    }

    /// Whose account it is.
    #[wasm_bindgen(getter)]
    #[must_use]
    pub fn user(&self) -> String {
        self.archive.info().user.clone()
    }

    /// As of when everything is, in seconds since the Unix epoch.
    #[wasm_bindgen(getter)]
    #[must_use]
    pub fn at(&self) -> f64 {
        count(self.archive.info().created_at.as_secs())
    }

    /// How many contacts are in it.
    #[wasm_bindgen(getter)]
    #[must_use]
    pub fn contacts(&self) -> f64 {
        count(self.checked.contacts)
    }

    /// How many lines.
    #[wasm_bindgen(getter)]
    #[must_use]
    pub fn lines(&self) -> f64 {
        count(self.checked.app_frames)
    }

    /// Brings the account back, on a device of this browser that has nothing yet. The others stay,
    /// or were lost: then they are removed, and everybody is asked to accept a new key.
    ///
    /// # Errors
    /// As [`Device::open`]: there is something, or the account has another key by now.
    pub async fn restore(mut self, on: &str, lost: bool) -> Result<(), JsValue> {
        Ok(self.bring_back(on, lost).await?)
    }

    async fn bring_back(&mut self, on: &str, lost: bool) -> Result<()> {
        let user = self.user();
        let place = rows::Rows::open(&database(&user, on)).await?;
        let list = server::Server::connect().await?.devices(&user).await?;
        let list = list.map(|list| DeviceList::decode(&list)).transpose()?;
        let others = if lost { Others::Remove } else { Others::Keep };
        let (memory, rng) = (Memory::new(), &mut SystemRng);
        // All of it in memory; then it is written in one transaction, or not at all.
        let archive = &mut self.archive;
        let client = Client::restore(memory, archive, list.as_ref(), others, add, now()?, rng);
        let mut memory = client.map_err(because)?.into_store();
        let mut restored = Vec::new();
        memory.transact(|tx| {
            for table in Table::ALL {
                for (key, value) in tx.scan(*table, &[], usize::MAX)? {
                    restored.push((*table, key, value));
                }
            }
            Ok::<_, Error>(())
        })?;
        let written = place.transact(|tx| {
            if !tx.scan(Table::Account, &[], 1)?.is_empty() {
                return Err(Error::AccountExists);
            }
            restored.iter().try_for_each(|(table, key, value)| tx.put(*table, key, value))
        });
        written.await
    }
}

/// Shows how long it is.
impl fmt::Debug for Backup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Backup({} bytes)", self.file.len())
    }
}

/// Shows whose it is.
impl fmt::Debug for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Found({})", self.archive.info().user)
    }
}

impl Drawn {
    fn new(words: bool) -> Self {
        match words {
            true => Self::Words(Passphrase::generate(6, &mut SystemRng)),
            false => Self::Code(RecoveryCode::generate(&mut SystemRng)),
        }
    }

    fn lock(&self) -> Lock<'_> {
        match self {
            Self::Code(code) => Lock::Code(code),
            Self::Words(words) => Lock::Generated(words),
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Code(code) => code.to_text().to_string(),
            Self::Words(words) => words.as_str().into(),
        }
    }
}

fn write(client: &mut Client<Open<'_>>, drawn: &Drawn) -> Result<Vec<u8>, Error> {
    let lines = history::all(&mut client.rows())?;
    let frames = || {
        lines.iter().map(|(with, line)| {
            let line = Line { message: None, waiting: false, ..line.clone() };
            let frame = Frame { with: with.clone(), by: line.by.clone(), line };
            postcard::to_allocvec(&frame).map_err(io::Error::other)
        })
    };
    let (contents, now) = (Contents::default(), now()?);
    // This may run many times, until all rows are here; a passphrase takes a second each time.
    let cheap = [Lock::Key(&[0; 32])];
    let rehearsed = client.export(&cheap, &contents, frames(), io::sink(), now, &mut SystemRng);
    rehearsed.map_err(of_client)?;
    let locks = [drawn.lock()];
    let written = client.export(&locks, &contents, frames(), Vec::new(), now, &mut SystemRng);
    written.map_err(of_client)
}

fn add(rows: &mut Rows<'_>, frame: &[u8]) -> Result<(), Error> {
    let Frame { with, line, by } = postcard::from_bytes(frame).map_err(|_| Error::Malformed)?;
    let line = Line { by, ..line };
    match groups::group_of(&with) {
        Some(group) => groups::note(rows, group, &line),
        None => history::add_line(rows, &with, &line),
    }
}

/// The crate's own error. Nothing else fails in memory.
fn of_client(error: io::Error) -> Error {
    error.downcast().unwrap_or(Error::BadState)
}

fn because(error: io::Error) -> Failure {
    of_client(error).into()
}

fn count(of: u64) -> f64 {
    u32::try_from(of).map_or(f64::INFINITY, f64::from)
}
